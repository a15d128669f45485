"""What a data set's annotations hold, without features or media: classes and event lengths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from avel.data.annotations import TABLES, read_annotations
from avel.data.ave import files as ave
from avel.errors import DataError, counted


@dataclass(frozen=True)
class Overview:
    """The annotations of a data set in numbers.

    Args:
        name: What a figure calls it.
        clips: Annotated clips; of AVE its rows.
        videos: Different videos or recordings among them.
        classes: Clips with each class, in the order in which the classes first appear.
        lengths: Seconds of every event.
        duration: Seconds of every clip where all have the same by definition (AVE), else None.
        left_out: Rows that couldn't be read.
    """

    name: str
    clips: int
    videos: int
    classes: Mapping[str, int]
    lengths: tuple[float, ...]
    duration: float | None = None
    left_out: int = 0

    @property
    def background(self) -> float | None:
        """Share of the clips' seconds without an event, where the clips' length is known."""
        if self.duration is None:
            return None
        return 1 - sum(self.lengths) / (self.clips * self.duration)


def overview(root: str | Path) -> Overview:
    """Read the annotations of AVE (``Annotations.txt``) or of a folder of one's own clips.

    Raises:
        DataError: if the folder has none, or none that can be read.
    """
    root = Path(root)
    annotations = ave.find(root, ave.ANNOTATIONS.name)
    if annotations is not None and not any((root / name).is_file() for name in TABLES):
        return _of_ave(annotations)
    return _of_folder(root)


def _of_ave(annotations: Path) -> Overview:
    rows = ave.read_annotations(annotations)
    counts = Counter(row.category for row in rows)
    lengths = (float(min(row.end, ave.SECONDS) - row.start) for row in rows)
    return Overview(
        "AVE", len(rows), len({row.video for row in rows}),
        {name: counts[name] for name in ave.class_order(rows)},
        tuple(length for length in lengths if length > 0), float(ave.SECONDS),
    )  # fmt: skip


def _of_folder(root: Path) -> Overview:
    annotations = read_annotations(root)
    events = [row for row in annotations.rows if row.label]
    unread = [*annotations.mistakes, *annotations.left_out]
    if not events:
        raise DataError(
            f"{root} has no annotated event"
            + (f"; {counted(len(unread), 'row')} can't be read: {unread[0]}" if unread else ""),
            hint=f"see every problem: avel check {root}",
        )
    files = {(row.label, row.file): None for row in events}  # in the order of the rows
    return Overview(
        root.resolve().name, len({row.file for row in annotations.rows}),
        len({row.video or row.file for row in annotations.rows}),
        dict(Counter(label for label, _ in files)),
        tuple(row.end - row.start for row in events), left_out=len(unread),
    )  # fmt: skip
