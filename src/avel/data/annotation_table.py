"""The annotation table of a data set, to which rows are added; its other rows stay as they are."""

from __future__ import annotations

import codecs
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from avel.csv_table import escape_formula
from avel.data.annotations import (
    LARGEST,
    REQUIRED,
    header_mistakes,
    path_inside,
    table_file,
)
from avel.errors import DataError
from avel.formats.reading import text_of
from avel.formats.tables import (
    LocatedRow,
    TableLayout,
    event_cells,
    label_in,
    located_rows,
    quoted_cell,
    table_layout,
)
from avel.formats.text import escape
from avel.types import Event

#: The columns of a new table.
COLUMNS = (*REQUIRED, "video")
_NEW = TableLayout(",", COLUMNS, named=True)
#: Byte order marks, and the encoding behind them.
_ENCODINGS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@dataclass(frozen=True)
class LabelledClip:
    """A clip with its events.

    Args:
        file: Relative to the folder, with ``/``.
        events: A row each in a table; a clip without any is a row without times.
        video: What equal files have in common.
        player_start: The player's time of second 0 of the file, in seconds.
    """

    file: str
    events: tuple[Event, ...]
    video: str
    player_start: float = 0.0


@dataclass(frozen=True)
class _TableRow:
    """What is known of a row: its place in the text, file, split and video."""

    start: int
    stop: int
    file: str
    split: str
    video: str


@dataclass(frozen=True)
class AnnotationTable:
    """A table as it was read.

    Args:
        path: ``annotations.csv`` or ``.tsv``, in the folder of the clips.
        text: Its content without a byte order mark.
        bom: The byte order mark.
        layout: How it is written; of a new table, as avel writes it.
        rows: Those below the header.
        comma: Whether a comma stands for the decimal point.
    """

    path: Path
    text: str = ",".join(COLUMNS) + "\n"
    bom: bytes = b""
    layout: TableLayout = _NEW
    rows: tuple[_TableRow, ...] = field(default=(), repr=False)
    comma: bool = False

    @classmethod
    def read(cls, path: Path) -> AnnotationTable:
        """Read a table.

        Raises:
            DataError: if it can't be read, or nothing can be added to it.
        """
        text = text_of(path, LARGEST)
        with path.open("rb") as f:
            head = f.read(3)
        bom = next((mark for mark, _ in _ENCODINGS if head.startswith(mark)), b"")
        if not text.strip() and path.suffix == ".csv":
            return cls(path, bom=bom)
        try:
            layout = table_layout(text)
            mistakes = header_mistakes(path.name, layout.columns)
            rows = list(located_rows(text, layout))
        except ValueError as e:
            mistakes = [f"{path.name}: {e}"]
        else:
            mistakes += [
                f"{path.name}:{row.line}: {row.cells}"
                for row in rows
                if isinstance(row.cells, ValueError)
            ]
        if mistakes:
            more = f" (and {len(mistakes) - 1} more)" if len(mistakes) > 1 else ""
            raise DataError(f"{path.parent}: no rows can be added to {mistakes[0]}{more}",
                            expected=f"a table with the columns {','.join(REQUIRED)}",
                            hint="correct it")  # fmt: skip
        comma = layout.delimiter != "," and any(_has_comma(row, layout) for row in rows)
        located = tuple(_read_row(row, layout, path) for row in rows)
        return cls(path, text, bom, layout, located, comma)

    @property
    def coded(self) -> bool:
        """Whether the table is in DCASE's form."""
        return self.path.suffix == ".tsv"

    @property
    def files(self) -> set[str]:
        """The files that have rows, relative to the folder."""
        return {row.file for row in self.rows}

    def replaced(self, files: Collection[str], clips: Sequence[LabelledClip]) -> bytes:
        """The table's content with other rows of some files; all other rows stay byte for byte.

        New rows stand at the end. They have the split of their file or video, and otherwise
        ``train`` if the table names splits, so that nobody's test set grows by them.

        Args:
            files: The files whose rows are left out.
            clips: The new rows.
        """
        parts, at = [], 0
        for row in self.rows:
            if row.file in files:
                parts.append(self.text[at : row.start])
                at = row.stop
        parts.append(self.text[at:])
        text = "".join(parts)
        end = "\r\n" if "\r\n" in self.text else "\n"
        if text and not text.endswith(("\n", "\r")):
            text += end
        text += "".join(f"{line}{end}" for clip in clips for line in self._lines(clip))
        encoding = next((name for mark, name in _ENCODINGS if mark == self.bom), "utf-8")
        return self.bom + text.encode(encoding, "surrogatepass")

    def _lines(self, clip: LabelledClip) -> Iterator[str]:
        """The rows of a clip."""
        file = escape_formula(escape(clip.file) if self.coded else clip.file)
        cells = {"file": file, "video": clip.video, "split": self._split(clip)}
        events = [
            event_cells(event, ("start", "end", "label"), coded=self.coded)
            for event in sorted(clip.events)
        ]
        for start, end, label in events or [["", "", ""]]:
            if self.comma:
                start, end = start.replace(".", ","), end.replace(".", ",")
            values = cells | {"start": start, "end": end, "label": label}
            yield self.layout.delimiter.join(
                quoted_cell(values.get(column, ""), self.layout.delimiter)
                for column in self.layout.columns
            )

    def _split(self, clip: LabelledClip) -> str:
        """The split of a clip's rows."""
        of_file = [r.split for r in self.rows if r.file == clip.file]
        of_video = [r.split for r in self.rows if r.video and r.video == clip.video]
        named = next((split for split in (*of_file, *of_video) if split), "")
        return named or ("train" if any(r.split for r in self.rows) else "")


def _has_comma(row: LocatedRow, layout: TableLayout) -> bool:
    values = _values(row, layout)
    return "," in values.get("start", "") + values.get("end", "")


def _values(row: LocatedRow, layout: TableLayout) -> dict[str, str]:
    assert isinstance(row.cells, list)
    return dict(zip(layout.columns, row.cells, strict=False))


def _read_row(row: LocatedRow, layout: TableLayout, path: Path) -> _TableRow:
    values, dcase = _values(row, layout), path.suffix == ".tsv"
    cell = label_in(values.get("file", ""), coded=dcase).strip()
    inside = path_inside(path.parent, cell)
    file = table_file(path.parent, inside, dcase=dcase) if inside else cell
    split, video = (values.get(c, "").strip() for c in ("split", "video"))
    return _TableRow(row.start, row.stop, file, split, video)
