"""The result of a search: windows of files with their distances, as table, JSON and page."""

from __future__ import annotations

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
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
    """A page that shows a search's result; the report registers one."""

    @abstractmethod
    def render(self, result: SearchResult, path: Path) -> bytes:
        """The page's bytes; links to files are relative to ``path``."""


#: What people call a modality.
WORDS: Mapping[Modality, str] = {"audio": "sound", "visual": "picture"}
#: Pages by file ending; this module imports none of them.
pages: Registry[SearchPage] = Registry("page of a search", "avel.report")


@dataclass(frozen=True)
class Match:
    """A window of a file, and how far it is from the query.

    Args:
        file: Its path, as it was given or as listed from a folder.
        start, end: Seconds.
        distance: The lowest is the best. Of profiles 1 - cosine, 0 to 2; of a trained model the
            mean cost of the window's segments. Compare distances only within one search.
        shared: The events in both query and window, the most probable first.
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
    """The matches of a query, best first.

    Args:
        query: The query's file.
        start, end: Its window in seconds.
        modality: Of the query.
        candidate_modality: Of the candidates.
        matches: In order of distance.
        files, segments: How many were searched.
        failed: Files that couldn't be searched, each with the reason.
        notes: Remarks on the result, a sentence each.
        model: The model's card.
        median: Over the files, of their best window's distance; None without a match.
    """

    query: str
    start: float
    end: float
    modality: Modality
    matches: tuple[Match, ...]
    files: int
    segments: int
    failed: tuple[tuple[str, AvelError], ...] = ()
    notes: tuple[str, ...] = ()
    model: Json = field(default_factory=dict, repr=False)
    candidate_modality: Modality = "visual"
    median: float | None = None

    def __iter__(self) -> Iterator[Match]:
        return iter(self.matches)

    def __len__(self) -> int:
        return len(self.matches)

    def __str__(self) -> str:
        return "\n".join(str(m) for m in self.matches) or "no match"

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
                for i, m in enumerate(self.matches, 1)
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
        for i, m in enumerate(self.matches, 1):
            name = escape_formula(plain_name(m.file))
            shared = escape_formula("; ".join(m.shared))
            writer.writerow([i, name, m.start, m.end, round(m.distance, 6), shared])
        return text.getvalue()


_FORMS: dict[str, Callable[[SearchResult, Path], str | bytes]] = {
    ".csv": SearchResult._as_table, ".json": SearchResult._as_json,
    ".html": lambda result, path: pages.get(".html")().render(result, path),
}  # fmt: skip


def check_ending(path: str | Path) -> None:
    """Refuse a file ending that a search's result can't be written as.

    Raises:
        UsageError: that names the endings.
    """
    if Path(path).suffix.lower() not in _FORMS:
        raise UsageError(
            f"{path} has no ending of a search's result",
            expected=f"a name that ends in {' or '.join(_FORMS)}",
        )
