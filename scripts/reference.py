"""The reference pages of the command line and of the Python API, from help texts and docstrings.

python scripts/reference.py             # prints both pages
python scripts/reference.py --write     # docs/reference-cli.md and docs/reference-api.md anew
"""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import typer
from typer.models import ArgumentInfo

import avel
from avel.cli.main import build_app
from avel.files import write_whole

DOCS = Path(__file__).parent.parent / "docs"
_WRITTEN = (
    "<!-- written by scripts/reference.py: change the help or docstring, then run it with "
    "--write -->"
)
#: Sections of docstrings.
_SECTIONS = ("Args", "Returns", "Yields", "Raises")
#: What the value of an option is called where it has no name of its own.
_VALUES: dict[Any, str] = {int: "NUMBER", float: "NUMBER", Path: "PATH"}
#: A signature longer than this has a line for each parameter.
_WIDE = 88


def pages() -> dict[str, str]:
    """Both pages by file name."""
    return {"reference-cli.md": cli_page(), "reference-api.md": api_page()}


# ---- the command line


def cli_page() -> str:
    """Every verb with its usage, arguments and options, Markdown."""
    app = build_app()
    parts = [
        "# Command-line reference",
        _WRITTEN,
        "`--help` after a verb prints the same. Exit codes: 0 all done, 1 some input failed "
        "(named, the others done), 2 called wrongly.",
        "## Options of every verb",
    ]
    callback = app.registered_callback
    if callback is not None and callback.callback is not None:
        parts += _options(callback.callback)
    parts += _commands(app, "avel", level=2)
    return "\n\n".join(parts) + "\n"


def _commands(app: typer.Typer, parent: str, *, level: int) -> Iterator[str]:
    """A section for each verb, by name; those of its sub-commands follow."""
    functions = {
        c.name or c.callback.__name__: c.callback for c in app.registered_commands if c.callback
    }
    groups = {g.name: g.typer_instance for g in app.registered_groups if g.name}
    for name in sorted({*functions, *groups}):
        yield f"{'#' * level} {parent} {name}"
        group = groups.get(name)
        if group is not None:
            yield str(group.info.help)
            yield from _commands(group, f"{parent} {name}", level=level + 1)
            continue
        function = functions[name]
        yield f"```text\n{_usage(f'{parent} {name}', function)}\n```"
        yield inspect.getdoc(function) or ""
        yield from _options(function)


def _usage(name: str, function: Callable[..., Any]) -> str:
    words = [name, "[OPTIONS]"]
    for parameter, _, info in _parameters(function):
        if isinstance(info, ArgumentInfo):
            word = info.metavar or parameter.name.upper()
            optional = parameter.default is not parameter.empty and word[:1] != "["
            words.append(f"[{word}]" if optional else word)
    return " ".join(words)


def _parameters(function: Callable[..., Any]) -> Iterator[tuple[inspect.Parameter, Any, Any]]:
    """Each parameter with its type and what typer knows of it."""
    hints = get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        kind, info = get_args(hints[name])[:2]
        yield parameter, kind, info


def _options(function: Callable[..., Any]) -> Iterator[str]:
    """Arguments and options as a list, a line each; nothing where there are none."""
    lines = []
    for parameter, kind, info in _parameters(function):
        names = _names(parameter, kind, info)
        text = f": {info.help}" if info.help else ""
        notes = _notes(parameter, info)
        lines.append(f"- {names}{text}" + (f" ({'; '.join(notes)})" if notes else ""))
    if lines:
        yield "\n".join(lines)


def _names(parameter: inspect.Parameter, kind: Any, info: Any) -> str:
    if isinstance(info, ArgumentInfo):
        return f"`{info.metavar or parameter.name.upper()}`"
    name = f"--{parameter.name.replace('_', '-')}"
    first = [info.default] if isinstance(info.default, str) else []  # where typer puts it
    declared = [d for d in (*first, *(info.param_decls or ())) if d.startswith("-")]
    if kind is bool:
        names = declared or [name, f"--no-{name[2:]}"]
        return ", ".join(f"`{n}`" for n in names)
    inner = {kind, *get_args(kind), *(t for a in get_args(kind) for t in get_args(a))}
    value = info.metavar or next((v for t, v in _VALUES.items() if t in inner), "TEXT")
    return ", ".join(f"`{n}`" for n in declared or [name]) + f" `{value}`"


def _notes(parameter: inspect.Parameter, info: Any) -> list[str]:
    default, option = parameter.default, not isinstance(info, ArgumentInfo)
    notes = ["required"] if option and default is parameter.empty else []
    if default is True:
        notes.append("default: yes")
    elif default not in (parameter.empty, None, False, ""):
        notes.append(f"default: `{default}`")
    if info.envvar:
        notes.append(f"or the environment variable `{info.envvar}`")
    return notes


# ---- the API


def api_page() -> str:
    """Every public name with its signature and docstring, Markdown."""
    names = [n for n in sorted({*dir(avel)}, key=str.lower) if n != "__version__"]
    functions = [n for n in names if inspect.isfunction(getattr(avel, n))]
    classes = [n for n in names if inspect.isclass(getattr(avel, n))]
    parts = [
        "# Python reference",
        _WRITTEN,
        "What `import avel` offers; `avel.__version__` is the version as text. "
        "`from avel import *` leaves out `open`, so that it doesn't hide Python's.",
        "## Functions",
    ]
    for name in functions:
        parts += [f"### avel.{name}", *_described(f"avel.{name}", getattr(avel, name))]
    parts.append("## Classes")
    for name in classes:
        parts += _class(name, getattr(avel, name))
    return "\n\n".join(parts) + "\n"


def _class(name: str, cls: type) -> Iterator[str]:
    yield f"### avel.{name}"
    yield from _described(f"avel.{name}", cls)
    for attribute, value in vars(cls).items():
        public = not attribute.startswith("_") or attribute in ("__call__", "__len__")
        if not public or not inspect.getdoc(value):
            continue
        if isinstance(value, property):
            yield f"#### {name}.{attribute}"
            yield _markdown(inspect.getdoc(value) or "")
        elif inspect.isfunction(value) or isinstance(value, classmethod | staticmethod):
            function = getattr(cls, attribute)
            skip = int(inspect.isfunction(value))  # self
            label = f"{name}.{attribute}" if attribute != "__call__" else f"{name}(…)"
            yield f"#### {label}"
            yield from _described(f"{name}.{attribute}", function, skip=skip)


def _described(name: str, value: Callable[..., Any], *, skip: int = 0) -> Iterator[str]:
    """The signature, and the docstring."""
    yield f"```text\n{_signature(name, value, skip)}\n```"
    yield _markdown(inspect.getdoc(value) or "")


def _signature(name: str, value: Callable[..., Any], skip: int) -> str:
    signature = inspect.signature(value)
    parts, star = [], False
    for parameter in list(signature.parameters.values())[skip:]:
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            parts.append("*")
            star = True
        star |= parameter.kind is parameter.VAR_POSITIONAL
        parts.append(_parameter(parameter))
    back = signature.return_annotation
    arrow = "" if back is signature.empty or inspect.isclass(value) else f" -> {_annotation(back)}"
    line = f"{name}({', '.join(parts)}){arrow}"
    if len(line) <= _WIDE:
        return line
    return f"{name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){arrow}"


def _parameter(parameter: inspect.Parameter) -> str:
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    text = f"{stars}{parameter.name}"
    if parameter.annotation is not parameter.empty:
        text += f": {_annotation(parameter.annotation)}"
    if parameter.default is parameter.empty:
        return text
    default = repr(parameter.default)
    return f"{text} = {'…' if default.startswith('<') else default}"


def _annotation(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _markdown(doc: str) -> str:
    """A docstring as Markdown: its sections as lists, its roles and literals as code."""
    doc = re.sub(r":\w+:`~?([^`]+)`", lambda m: f"`{m[1].rpartition('.')[2]}`", doc)
    doc = doc.replace("``", "`")
    lines: list[str] = []
    section, indent = "", 0
    for line in doc.split("\n"):
        text = line.strip()
        if text.rstrip(":") in _SECTIONS and text.endswith(":") and line == text:
            section, indent = text.rstrip(":"), 0
            title = {"Args": "Arguments"}.get(section, section)
            lines += [f"**{title}**", ""]
        elif section and text:
            depth = len(line) - len(line.lstrip())
            indent = indent or depth
            if not depth:
                section = ""
                lines.append(line)
            elif depth == indent and section in ("Args", "Raises"):
                term, colon, rest = text.partition(":")
                lines.append(f"- `{term}`:{rest}" if colon else f"- {text}")
            else:
                lines.append(f"  {text}" if section in ("Args", "Raises") else text)
        else:
            lines.append(line)
    return "\n".join(lines).strip()


def main() -> None:
    """Print or write the pages."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--write", action="store_true", help="write them into docs/")
    write = parser.parse_args().write
    for name, text in pages().items():
        if write:
            write_whole(DOCS / name, text)
        else:
            print(text)


if __name__ == "__main__":
    main()
