"""The command `avel`: finds the verbs, and turns errors into a message and an exit code."""

from __future__ import annotations

import importlib
import io
import os
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from avel._version import __version__
from avel.cli._terminal import NORMAL, QUIET, VERBOSE, is_verbose, set_level
from avel.errors import AvelError, UsageError, printable
from avel.files import DOWNLOAD, IS_ADDRESS, disk_error, is_address

#: All done; some input failed (named, the others done); called wrongly.
#: Which extra of avel brings a package that isn't needed to localize.
_EXTRAS = {"sklearn": "figures", "gdown": "ave", "h5py": "ave"}
DONE, SOME_FAILED, CALLED_WRONGLY = 0, 1, 2


def build_app() -> typer.Typer:
    """The command line with every verb of this package: a module's function of its own name.

    A verb with sub-commands is a ``Typer`` of that name. Modules with an underscore in front hold
    what several verbs share.
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
    for found in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if found.name != "main" and not found.name.startswith("_"):
            verb = getattr(importlib.import_module(f"avel.cli.{found.name}"), found.name)
            name = found.name.replace("_", "-")
            if isinstance(verb, typer.Typer):
                app.add_typer(verb, name=name)
            else:
                app.command(name)(verb)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
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
            "--quiet", "-q", help="No notes, no progress, no table of what is written to files."
        ),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", "-v", help="Times too, and the traceback of unforeseen errors."),
    ] = False,
) -> None:
    set_level(QUIET if quiet else VERBOSE if verbose else NORMAL)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; never a traceback for bad input.

    Returns:
        0 all done, 1 some input failed, 2 called wrongly, 130 interrupted.
    """
    from avel.cli.localize import split_outputs

    _bear_any_name()
    given = list(sys.argv[1:] if argv is None else argv)
    arguments = _global_first(split_outputs(_files_apart(given)))
    try:
        code = build_app()(arguments, standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except typer.Exit as e:
        return e.exit_code
    except AvelError as e:
        code = CALLED_WRONGLY if isinstance(e, UsageError) else SOME_FAILED
        return _say(str(_of_address(e, arguments)), code)
    except (KeyboardInterrupt, typer.Abort):
        return _say("interrupted", 130)
    except (BrokenPipeError, SystemExit) as e:
        if isinstance(e, SystemExit) and not isinstance(e.__context__, BrokenPipeError):
            raise
        # the reader (head, less) has gone: an exit with 1 to typer and rich, no error of ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except ModuleNotFoundError as e:
        if os.environ.get("AVEL_DEBUG") or (e.name or "avel").startswith("avel"):
            raise
        package = (e.name or "").split(".")[0]
        extra = f"avel[{_EXTRAS[package]}]" if package in _EXTRAS else package
        return _say(
            f"this needs the Python package {package!r}, which isn't installed\n"
            f"  hint: pip install '{extra}'",
            CALLED_WRONGLY,
        )
    except MemoryError:
        return _say(
            "not enough memory\n  hint: end other programs, or take a smaller input", SOME_FAILED
        )
    except OSError as e:
        if os.environ.get("AVEL_DEBUG"):
            raise
        return _say(str(disk_error(e)), SOME_FAILED)
    except Exception as e:
        if _is_click_error(e):
            e.show()  # type: ignore[attr-defined]
            named = next((a for a in given if a[:1] == "-" and Path(a).suffix), None)
            if named is not None:
                hint = f"a file whose name begins with a dash is given as ./{named}"
                print(f"  hint: {printable(hint)}", file=sys.stderr)
            return CALLED_WRONGLY
        if os.environ.get("AVEL_DEBUG") or is_verbose():
            raise
        return _say(
            f"avel stumbled over something it didn't foresee ({type(e).__name__}: {e})\n"
            "  hint: run it again with -v and report what it prints",
            SOME_FAILED,
        )
    return code if isinstance(code, int) else DONE


def _global_first(arguments: list[str]) -> list[str]:
    """The arguments with ``-q`` and ``-v`` in front: a person may write them behind the verb too."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    levels = {"-q", "--quiet", "-v", "--verbose"}
    first = [a for a in arguments[:end] if a in levels]
    return [*first, *(a for i, a in enumerate(arguments) if i >= end or a not in levels)]


def _files_apart(arguments: Sequence[str]) -> list[str]:
    """The arguments, files that are there and whose names begin with a dash as ``./-name.mp4``.

    What may be an option (``-o.json``) stays one, and so does all that follows ``--``.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return [
        f"./{a}" if i < end and a[:1] == "-" and _is_named(a) else a
        for i, a in enumerate(arguments)
    ]


def _of_address(error: AvelError, arguments: Sequence[str]) -> AvelError:
    """An error that names an address among the arguments says that avel opens none."""
    if arguments[:1] == ["fetch"] or "--address" in arguments or IS_ADDRESS in error.got:
        return error  # those do open some
    values = [v for a in arguments for v in (a, a.partition("=")[2]) if is_address(v)]
    named = next((v for v in values if v in error.got or str(Path(v)) in error.got), None)
    return type(error)(f"{named} {IS_ADDRESS}", hint=DOWNLOAD) if named else error


def _is_named(argument: str) -> bool:
    ending = Path(argument).suffix
    try:
        return bool(ending) and argument[2:3] != "." and Path(argument).is_file()
    except ValueError:
        return False


def _bear_any_name() -> None:
    """Names that a terminal's encoding can't hold are shown escaped, in place of an error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _is_click_error(error: Exception) -> bool:
    # typer may carry its own copy of click, so its errors are known by what they can do
    return callable(getattr(error, "show", None)) and hasattr(error, "exit_code")


def _say(message: str, code: int) -> int:
    print(f"avel: {printable(message)}", file=sys.stderr)
    return code
