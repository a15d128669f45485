"""Writers of timelines, chosen by file ending: formats of labels, and the report's own forms.

The formats of labels are in :mod:`avel.formats`. A class under ``@writers.register(".ending")`` in
a module of this package adds a form. They are described in ``docs/formats.md``.
"""

from __future__ import annotations

from pathlib import Path

from avel.errors import UsageError
from avel.formats import (
    Format,
    Writer,
    check_replaceable,
    ending_of,
    format_endings,
    format_named,
    formats,
)
from avel.registry import Registry
from avel.types import ProbedFile

__all__ = ["Writer", "endings", "titles", "writer_for", "writers"]

writers: Registry[Writer] = Registry("report form", "avel.report")


def endings() -> list[str]:
    """All endings that can be written, sorted."""
    return sorted([*format_endings().values(), *writers.names()])


def titles() -> dict[str, str]:
    """What people call all that can be written, by ending: ``{".eaf": "ELAN", …}``."""
    known = {cls.ending: cls.title for _, cls in formats}
    return dict(sorted((known | {ending: cls.title for ending, cls in writers}).items()))


def writer_for(path: str | Path, *, format: str | None = None) -> Writer:
    """The writer that a format's name, or else a file's ending, chooses.

    Args:
        path: The file to be written.
        format: ``"raven"``, ``"labelstudio"``…: the writer whatever the ending.

    Raises:
        UsageError: if no format has that name, or no writer that ending.
    """
    if format is not None:
        return format_named(format)
    ending = ending_of(path, endings())
    named = {e: name for name, e in format_endings().items()}
    if ending in named:
        return format_named(named[ending])
    if not ending:
        raise UsageError(
            f"no writer for the ending {Path(path).suffix!r} of {path}",
            expected=f"one of {', '.join(endings())}",
            hint="give the output a name with one of these endings",
        )
    return writers.get(ending)()


def check_output(
    writer: Writer, video: str, path: Path, *, overwrite: bool = False
) -> ProbedFile | None:
    """Refuse, before any work is done, an output that can't or mustn't be written.

    Args:
        writer: Of the output.
        video: The file that the timeline will be of.
        path: Where it will be written.
        overwrite: Whether predictions may replace labels that a person made or corrected.

    Returns:
        The video, where it had to be probed for this; else None.

    Raises:
        AvelError: that says why.
    """
    probed = writer.check(video, path)
    if isinstance(writer, Format) and not overwrite:
        check_replaceable(path, type(writer))
    return probed
