"""The page of a search: the query beside the moments found, all of it in one offline file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avel import clock
from avel.report import view
from avel.report.layout import address, filled, of_model
from avel.report.shots import Cutter, Shot
from avel.search.results import Match, SearchPage, SearchResult, pages
from avel.types import Json

#: What people call what is perceived in a modality.
WORDS = {"audio": "sound", "visual": "picture"}
#: Most moments of a page, and most files named that couldn't be searched.
MOST, NAMED = 50, 5


@dataclass(frozen=True)
class ExcerptCard:
    """The query, or a moment, as the page shows it.

    Args:
        name, folder: Of its file.
        times: Its stretch in words.
        link: Where the page finds the file, at the stretch.
        shot: What is shown of it; None where the file couldn't be read.
        start, end, length: The stretch within the cut, and the cut's length, in seconds.
        left, width: The same in percent of the cut.
        distance: The match's.
        bar: How near it is, in percent of the nearest moment; see :func:`_bars`.
        shared: The events that it shares with the query.
    """

    name: str
    folder: str
    times: str
    link: str
    shot: Shot | None
    start: float
    end: float
    length: float
    left: float
    width: float
    distance: float = 0.0
    bar: float = 0.0
    shared: str = ""


@pages.register(".html")
class SearchFile(SearchPage):
    """One offline page; see :func:`render`."""

    def render(self, found: SearchResult, path: Path) -> bytes:
        """The page as UTF-8."""
        return render(found, page=path).encode("utf-8", "replace")


def render(found: SearchResult, *, page: str | Path) -> str:
    """What a search found, as HTML.

    Each moment is cut out of its file anew, small, so that the page needs none of the files and
    stays small whatever their length; what goes beyond the bounds (here and in
    :mod:`avel.report.shots`) is linked, and the page says so.

    Args:
        found: What was found; the files are read where they are there.
        page: Where the page will lie: files are linked from there.

    Returns:
        One page without outside references but those links.
    """
    place, cutter = Path(page), Cutter()
    shown = found.moments[:MOST]
    query = _card(cutter, found.query, found.start, found.end, place, found.modality == "visual")
    bars = _bars([m.distance for m in shown], found.median)
    moments = [_moment(cutter, m, place, found, bar) for m, bar in zip(shown, bars, strict=True)]
    held = {
        "name": f"The {WORDS[found.modality]} of {Path(found.query).name or 'a query'}",
        "facts": (query.times, _count(len(found), "moment"), _searched(found)),
        "notes": (*found.notes, *_failed(found), *_left_out(found, query, moments)),
        "modality": WORDS[found.modality],
        "other": WORDS[found.candidate_modality],
        "query": query,
        "moments": moments,
        "shares": any(m.shared for m in shown),
        "classes": (),
        "data": {
            "modality": WORDS[found.modality],
            "other": WORDS[found.candidate_modality],
            "query": _data(query),
            "moments": [_data(m) for m in moments],
        },
        "media": "blob:",
        **of_model(found.model),
    }
    return filled("found", held)


def _card(
    cutter: Cutter, file: str, start: float, end: float, page: Path, sight: bool, **more: Any
) -> ExcerptCard:
    shot = cutter.shot(file, start, end, sight=sight)
    first, last = (shot.first, shot.last) if shot else (start, end)
    length = last - first
    left, right = (100 * clock.share(t - first, length) for t in (start, end))
    path = Path(file)
    folder = "" if path.parent == Path() else str(path.parent)
    late = shot.player_start if shot else 0.0
    link = f"{address(path, page)}#t={start + late:g},{end + late:g}"
    return ExcerptCard(
        path.name, folder, view.span_text(start, end), link, shot,
        round(start - first, 3), round(end - first, 3), round(length, 3),
        round(left, 3), round(right - left, 3), **more,
    )  # fmt: skip


def _moment(
    cutter: Cutter, moment: Match, page: Path, found: SearchResult, bar: float
) -> ExcerptCard:
    stretch = (moment.file, moment.start, moment.end)
    sight = found.candidate_modality == "visual"
    return _card(
        cutter, *stretch, page, sight,
        distance=moment.distance, bar=bar, shared=", ".join(moment.shared),
    )  # fmt: skip


def _bars(distances: Sequence[float], median: float | None) -> list[float]:
    """How long each bar is, in percent: 100 for the nearest moment, 0 for a middling file.

    Args:
        distances: Of the moments shown.
        median: Of the best distances of all files; where a moment shown is farther, that one has 0.
    """
    if not distances:
        return []
    foot = max([*distances, *([] if median is None else [median])])
    span = foot - min(distances)
    return [round(100 * (foot - d) / span, 2) if span > 0 else 100.0 for d in distances]


def _data(card: ExcerptCard) -> Json:
    """What the page's script needs of a card."""
    shot = card.shot
    return {
        "name": card.name, "times": card.times, "link": card.link,
        "start": card.start, "end": card.end, "length": card.length,
        "distance": round(card.distance, 6), "shared": card.shared,
        "left": card.left, "width": card.width, "seen": bool(shot and shot.seen),
    }  # fmt: skip


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _searched(found: SearchResult) -> str:
    return f"{_count(found.files, 'file')} of {_count(found.segments, 'segment')} searched"


def _failed(found: SearchResult) -> Iterator[str]:
    for name, error in found.failed[:NAMED]:
        yield error.got if name in error.got else f"{name}: {error.got}"
    more = len(found.failed) - NAMED
    if more > 0:
        yield f"{_count(more, 'more file')} couldn't be searched."


def _left_out(
    found: SearchResult, query: ExcerptCard, moments: Sequence[ExcerptCard]
) -> Iterator[str]:
    if len(moments) < len(found):
        yield f"This page shows the {len(moments)} nearest of {len(found)} moments."
    gone = sum(c.shot is None for c in (query, *moments))
    if gone:
        yield f"{_count(gone, 'stretch' if gone == 1 else 'stretche')} couldn't be read again."
    uncut = sum(c.shot is not None and not c.shot.cut for c in (query, *moments))
    if uncut:
        yield (
            f"So that this page stays small, {uncut} of {1 + len(moments)} stretches are shown by "
            "a picture and a link alone, the farthest ones."
        )
