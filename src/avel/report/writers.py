"""Writers of timelines, chosen by a file's ending or by a format's name.

A class under ``@writers.register(".ending")`` in a module of ``avel.report`` or of
``avel.report.formats`` is all that a new one needs. The forms are in ``docs/formats.md``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from avel.errors import UsageError, unknown_name
from avel.registry import Registry
from avel.types import Timeline


class Writer(ABC):
    """One format a timeline can be written in."""

    #: Whether one file can hold the events of several videos.
    many: ClassVar[bool] = False

    @abstractmethod
    def write(self, timeline: Timeline, path: Path) -> None:
        """Write the file, whole or not at all."""

    def write_all(self, timelines: Sequence[Timeline], path: Path) -> None:
        """Write several videos' events into one file.

        Raises:
            UsageError: if the format holds one video a file.
        """
        if len(timelines) != 1:
            raise UsageError(
                f"{len(timelines)} videos for one {path.name}",
                wanted="a format that holds many: .csv, .tsv or .labelstudio.json",
                do="or give a folder or an ending, for a file each",
            )
        self.write(timelines[0], path)


writers: Registry[Writer] = Registry("report format", "avel.report")


def ending_of(path: str | Path, endings: Sequence[str]) -> str:
    """The longest of some endings that a file's name has after its stem, or ``""``."""
    name = Path(path).name.lower()
    held = [e for e in endings if name.endswith(e) and len(name) > len(e)]
    return max(held, key=len, default="")


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
    ending = ending_of(path, writers.names())
    if not ending:
        raise UsageError(
            f"no writer for the ending {Path(path).suffix!r} of {path}",
            wanted=f"one of {', '.join(writers.names())}",
            do="give the output a name with one of these endings",
        )
    return writers.get(ending)()


def format_named(name: str) -> Writer:
    """The format that ``--format`` calls by a name.

    Raises:
        UsageError: if there is none.
    """
    known = format_names()
    if name not in known:
        raise unknown_name("format", name, known)
    return writers.get(known[name])()


def format_names() -> dict[str, str]:
    """The names of the formats that are read and written, with their endings."""
    named = ((getattr(cls, "name", ""), ending) for ending, cls in writers)
    return {name: ending for name, ending in named if name}
