"""The command `avel`: it collects the verbs, and turns errors into messages and exit codes."""

from __future__ import annotations

import importlib
import io
import os
import pkgutil
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import typer

from avel._version import __version__
from avel.cli._terminal import NORMAL, QUIET, VERBOSE, is_verbose, set_level
from avel.errors import AvelError, UsageError, printable
from avel.files import DOWNLOAD, IS_ADDRESS, address_message, disk_error, is_address

#: Which extra of avel brings a package that isn't needed to localize.
_EXTRAS = {"sklearn": "figures", "gdown": "ave", "h5py": "ave"}
#: Exit codes: all done; some input failed (named, the others done); the call is wrong.
DONE, SOME_FAILED, CALLED_WRONGLY = 0, 1, 2


def build_app() -> typer.Typer:
    """The command line with every verb of this package: the function that a module is named by.

    A verb with sub-commands is a ``Typer`` of that name. Modules whose name begins with an
    underscore contain what several verbs share.
    """
    app = typer.Typer(
        name="avel",
        help="Audio-visual event localization: which events are both seen and heard, and when.",
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(_options)
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name != "main" and not module.name.startswith("_"):
            verb = getattr(importlib.import_module(f"avel.cli.{module.name}"), module.name)
            name = module.name.replace("_", "-")
            if isinstance(verb, typer.Typer):
                app.add_typer(verb, name=name)
            else:
                app.command(name)(verb)
    return app


def _print_version(requested: bool) -> None:
    if requested:
        print(__version__)
        raise typer.Exit


def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print avel's version and exit.",
        ),
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet",
            "-q",
            help="Print no notes, no progress, and no table of what is written to files.",
        ),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose", "-v", help="Print times too, and the traceback of unexpected errors."
        ),
    ] = False,
) -> None:
    set_level(QUIET if quiet else VERBOSE if verbose else NORMAL)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; never a traceback for bad input.

    Returns:
        0 all done, 1 some input failed, 2 called wrongly, 130 interrupted.
    """
    _escape_output()
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = _prepared(words)
    try:
        code = build_app()(arguments, standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except typer.Exit as e:
        return e.exit_code
    except AvelError as e:
        code = CALLED_WRONGLY if isinstance(e, UsageError) else SOME_FAILED
        return _error(str(_address_error(e, arguments)), code)
    except (KeyboardInterrupt, typer.Abort):
        return _error("interrupted", 130)
    except (BrokenPipeError, SystemExit) as e:
        if isinstance(e, SystemExit) and not isinstance(e.__context__, BrokenPipeError):
            raise
        # the reader (head, less) has ended: typer and rich exit with 1, for avel it is no error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except ModuleNotFoundError as e:
        if os.environ.get("AVEL_DEBUG") or (e.name or "avel").startswith("avel"):
            raise
        package = (e.name or "").split(".")[0]
        extra = f"avel[{_EXTRAS[package]}]" if package in _EXTRAS else package
        return _error(
            f"this needs the Python package {package!r}, which isn't installed\n"
            f"  hint: pip install '{extra}'",
            CALLED_WRONGLY,
        )
    except MemoryError:
        return _error(
            "there is not enough memory\n  hint: end other programs, or take a smaller input",
            SOME_FAILED,
        )
    except OSError as e:
        if os.environ.get("AVEL_DEBUG"):
            raise
        return _error(str(disk_error(e)), SOME_FAILED)
    except Exception as e:
        if _is_click_error(e):
            e.show()  # type: ignore[attr-defined]
            name = next((w for w in words if w[:1] == "-" and Path(w).suffix), None)
            if name is not None:
                hint = f"a file whose name begins with a dash is given as ./{name}"
            else:
                hint = _nearest_verb(str(getattr(e, "message", "")), words)
            if hint:
                print(f"  hint: {printable(hint)}", file=sys.stderr)
            return CALLED_WRONGLY
        if os.environ.get("AVEL_DEBUG") or is_verbose():
            raise
        return _error(
            f"avel has met an unexpected error ({type(e).__name__}: {e})\n"
            "  hint: run the command again with -v and report what it prints",
            SOME_FAILED,
        )
    return code if isinstance(code, int) else DONE


def _prepared(words: Sequence[str]) -> list[str]:
    """The arguments as click parses them: levels first, one value for each ``-o``."""
    from avel.cli._outputs import split_outputs

    levels, others = _global_levels(_dash_files(words))
    return [*levels, *split_outputs(others)]


def _global_levels(arguments: list[str]) -> tuple[list[str], list[str]]:
    """``-q`` and ``-v``, which a person may write anywhere, and all other arguments."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    levels = {"-q", "--quiet", "-v", "--verbose"}
    first = [a for a in arguments[:end] if a in levels]
    return first, [a for i, a in enumerate(arguments) if i >= end or a not in levels]


def _dash_files(arguments: Sequence[str]) -> list[str]:
    """The arguments, with existing files whose names begin with a dash as ``./-name.mp4``.

    What may be an option (``-o.json``) stays one; what follows ``--`` stays as it is.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return [
        f"./{a}" if i < end and a[:1] == "-" and _is_dash_file(a) else a
        for i, a in enumerate(arguments)
    ]


def _address_error(error: AvelError, arguments: Sequence[str]) -> AvelError:
    """An error about an address among the arguments says that avel opens no addresses."""
    verb = next((a for a in arguments if a[:1] != "-"), "")
    if verb == "fetch" or "--address" in arguments or IS_ADDRESS in error.got:
        return error  # `fetch` and Ray do open some
    values = [v for a in arguments for v in (a, a.partition("=")[2]) if is_address(v)]
    address = next((v for v in values if v in error.got or str(Path(v)) in error.got), None)
    return type(error)(address_message(address), hint=DOWNLOAD) if address else error


def _is_dash_file(argument: str) -> bool:
    ending = Path(argument).suffix
    try:
        return bool(ending) and argument[2:3] != "." and Path(argument).is_file()
    except ValueError:
        return False


def _nearest_verb(message: str, words: Sequence[str]) -> str:
    """The hint for a verb that doesn't exist; empty for another error."""
    word = next((w for w in words if w[:1] != "-"), "")
    if not message.startswith("No such command") or repr(word) not in message:
        return ""
    if "Did you mean" in message:  # newer versions of typer suggest the nearest themselves
        return ""
    names = [m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)])]
    verbs = [n.replace("_", "-") for n in names if n != "main" and not n.startswith("_")]
    near = get_close_matches(word, verbs, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else "`avel --help` lists the verbs"


def _escape_output() -> None:
    """Let standard output escape names that its encoding lacks, in place of an error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _is_click_error(error: Exception) -> bool:
    # typer may carry its own copy of click, so its errors are known by what they can do
    return callable(getattr(error, "show", None)) and hasattr(error, "exit_code")


def _error(message: str, code: int) -> int:
    print(f"avel: {printable(message)}", file=sys.stderr)
    return code
