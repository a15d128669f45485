"""What a search finds: moments of files, how far each is from the query, as table and JSON."""

from __future__ import annotations

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from avel import clock
from avel.csv_table import escape_formula
from avel.errors import AvelError, UsageError
from avel.features.manifest import plain_name
from avel.files import write_whole
from avel.registry import Registry
from avel.types import Json, Modality


class SearchPage(ABC):
    """A page that shows what a search found; one is registered by the report."""

    @abstractmethod
    def render(self, found: SearchResult, path: Path) -> bytes:
        """The page's bytes; files are linked from ``path``."""


#: Pages by file ending; whoever saves a search's results knows none of them.
pages: Registry[SearchPage] = Registry("page of a search", "avel.report")


@dataclass(frozen=True)
class Match:
    """A window of a file, and how far it is from the query.

    Args:
        file: As it was named, or found in a folder.
        start, end: Seconds.
        distance: The lowest is the best. Of profiles 1 - cosine, 0 to 2; of a trained model its
            cost of the window, the mean of its segments. Only distances of one search compare.
        shared: The events that query and window both have, the likeliest first.
    """

    file: str
    start: float
    end: float
    distance: float
    shared: tuple[str, ...] = ()

    def __str__(self) -> str:
        span = f"{clock.format_time(self.start)} - {clock.format_time(self.end)}"
        both = f"  (both: {', '.join(self.shared)})" if self.shared else ""
        return f"{span}  {self.distance:.3f}  {self.file}{both}"


@dataclass(frozen=True)
class SearchResult:
    """The moments found for a query, best first.

    Args:
        query: The query's file.
        start, end: Its stretch in seconds.
        modality: What of the query was compared.
        candidate_modality: With what of the files.
        moments: In order of distance.
        files, segments: How much was searched.
        failed: Files that couldn't be searched, each with the reason.
        notes: What a reader must know, a sentence each.
        model: The model's card.
        median: The median over the files of their best window's distance; None where there is none.
    """

    query: str
    start: float
    end: float
    modality: Modality
    moments: tuple[Match, ...]
    files: int
    segments: int
    failed: tuple[tuple[str, AvelError], ...] = ()
    notes: tuple[str, ...] = ()
    model: Json = field(default_factory=dict, repr=False)
    candidate_modality: Modality = "visual"
    median: float | None = None

    def __iter__(self) -> Iterator[Match]:
        return iter(self.moments)

    def __len__(self) -> int:
        return len(self.moments)

    def __str__(self) -> str:
        return "\n".join(str(m) for m in self.moments) or "nothing found"

    def to_json(self) -> Json:
        """The documented JSON form (docs/cross-modal-retrieval.md)."""
        return {
            "query": {
                "file": self.query, "start": self.start, "end": self.end, "modality": self.modality,
                "candidate_modality": self.candidate_modality,
            },
            "windows": [
                {"rank": i, "file": m.file, "start": m.start, "end": m.end,
                 "distance": round(m.distance, 6), "shared": list(m.shared)}
                for i, m in enumerate(self.moments, 1)
            ],
            "searched": {"files": self.files, "segments": self.segments},
            "failed": [{"file": name, "reason": e.got} for name, e in self.failed],
            "notes": list(self.notes),
            "model": self.model,
        }  # fmt: skip

    def save(self, path: str | Path) -> None:
        """Write a ``.csv`` (a row a window), ``.json`` or ``.html`` (a page), whole or not at all.

        Raises:
            UsageError: for another ending.
        """
        check_ending(path)
        write_whole(path, _FORMS[Path(path).suffix.lower()](self, Path(path)))

    def _as_json(self, _: Path) -> str:
        return json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n"

    def _as_table(self, _: Path) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\r\n")
        writer.writerow(["rank", "file", "start", "end", "distance", "shared"])
        for i, m in enumerate(self.moments, 1):
            name = escape_formula(plain_name(m.file))
            shared = escape_formula("; ".join(m.shared))
            writer.writerow([i, name, m.start, m.end, round(m.distance, 6), shared])
        return text.getvalue()


_FORMS: dict[str, Callable[[SearchResult, Path], str | bytes]] = {
    ".csv": SearchResult._as_table, ".json": SearchResult._as_json,
    ".html": lambda found, path: pages.get(".html")().render(found, path),
}  # fmt: skip


def check_ending(path: str | Path) -> None:
    """Refuse an output that matches can't be written as."""
    if Path(path).suffix.lower() not in _FORMS:
        raise UsageError(f"an output {path}", expected=f"a name that ends in {' or '.join(_FORMS)}")
