"""What a timeline can be written as, chosen by a file's ending: labels, and the report's own forms.

The formats of labels are in :mod:`avel.formats`. A class under ``@writers.register(".ending")`` in
a module of this package is all that another form needs. They are described in ``docs/formats.md``.
"""

from __future__ import annotations

from pathlib import Path

from avel.errors import UsageError
from avel.formats import Writer, ending_of, format_endings, format_named
from avel.registry import Registry

__all__ = ["Writer", "endings", "writer_for", "writers"]

writers: Registry[Writer] = Registry("report form", "avel.report")


def endings() -> list[str]:
    """All endings that something can be written under, sorted."""
    return sorted([*format_endings().values(), *writers.names()])


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
            wanted=f"one of {', '.join(endings())}",
            do="give the output a name with one of these endings",
        )
    return writers.get(ending)()
