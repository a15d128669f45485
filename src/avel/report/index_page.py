"""The index page of a folder's reports: a row for each file, with a link to its report."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from avel.errors import counted
from avel.files import write_whole
from avel.report import view
from avel.report.layout import address, render_page
from avel.types import Timeline

#: The page's name in the folder of the reports.
NAME = "index.html"
#: What the page says it was made by, within so many bytes of its start.
_MARK, _HEAD = b'<meta name="generator" content="avel index">', 2000
#: The rows within a page, for the page that replaces it; a larger page isn't read.
_DATA, _LARGEST = re.compile(r'id="avel-data">(.*?)</script>'), 64 * 2**20
#: Most labels of a row.
_MOST_LABELS = 12


@dataclass(frozen=True)
class IndexRow:
    """A file's row.

    Args:
        name: The file's name.
        report: Its report.
        duration: In seconds; None for a report of an earlier call, whose row the page that is
            replaced may have.
        labels: How many events have each label.
        finding: What is only heard or only seen, where no event is both.
    """

    name: str
    report: Path
    duration: float | None = None
    labels: Mapping[str, int] = field(default_factory=dict)
    finding: str = ""

    @classmethod
    def of(cls, timeline: Timeline, report: Path) -> IndexRow:
        """The row of a timeline whose report was written."""
        events = timeline.choose("both")
        finding = "" if events.events else view.single_modality_text(timeline)
        labels = Counter(view.shown_name(event.label) for event in events)
        return cls(Path(timeline.video).name, report, timeline.duration, labels, finding)


def index_path(reports: Sequence[Path]) -> Path | None:
    """Where the index of some reports is written: in their folder, if it is the same of several.

    None where a file has no report, or where a report or a page that isn't avel's has the name.

    Args:
        reports: Those of all files.
    """
    folders = {report.parent for report in reports}
    if len(reports) < 2 or len(folders) != 1:
        return None
    path = folders.pop() / NAME
    return path if path not in reports and (not path.exists() or _is_index(path)) else None


def _is_index(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as f:
        return _MARK in f.read(_HEAD)


def save_index(rows: Sequence[IndexRow], path: Path, *, notes: Sequence[str] = ()) -> None:
    """Write the page.

    Args:
        rows: In the order in which they are shown.
        path: In the folder of the reports.
        notes: Sentences above the table.
    """
    earlier = _earlier_rows(path)
    rows = [
        replace(earlier[row.report.name], name=row.name, report=row.report)
        if row.duration is None and row.report.name in earlier
        else row
        for row in rows
    ]
    events = sum(sum(row.labels.values()) for row in rows)
    context = {
        "name": path.resolve().parent.name or "reports",
        "facts": (counted(len(rows), "file"), counted(events, "event")),
        "notes": notes,
        "rows": [_cells(row, path) for row in rows],
        "data": {"rows": [[r.report.name, r.duration, dict(r.labels), r.finding] for r in rows]},
        "cautions": (), "model": (), "classes": (), "media": "'none'",
    }  # fmt: skip
    write_whole(path, render_page("index_page", context).encode("utf-8", "replace"))


def _earlier_rows(path: Path) -> dict[str, IndexRow]:
    """The rows of a page by the names of their reports; none of a page that isn't as it was."""
    if not path.is_file() or path.stat().st_size > _LARGEST:
        return {}
    data = _DATA.search(path.read_text("utf-8", "replace"))
    rows = {}
    try:
        for report, duration, labels, finding in json.loads(data[1])["rows"] if data else ():
            counts = {str(label): int(count) for label, count in labels.items()}
            if duration is not None and math.isfinite(duration):
                rows[str(report)] = IndexRow("", path, float(duration), counts, str(finding))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return {}
    return rows


def _cells(row: IndexRow, page: Path) -> dict[str, object]:
    most = Counter(row.labels).most_common(_MOST_LABELS)
    return {
        "name": row.name,
        "link": address(row.report, page),
        "length": "" if row.duration is None else view.length_text(row.duration),
        "events": "" if row.duration is None else sum(row.labels.values()),
        "labels": [
            f"{label} \N{MULTIPLICATION SIGN}{count}" if count > 1 else label
            for label, count in most
        ],
        "more": len(row.labels) - len(most),
        "finding": row.finding or ("localized earlier" if row.duration is None else ""),
    }
