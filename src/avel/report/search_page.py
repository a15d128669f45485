"""The page of a search: the query beside its matches, in one offline file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from avel import clock
from avel.errors import counted
from avel.report import view
from avel.report.excerpts import Excerpt, ExcerptCutter
from avel.report.layout import address, model_context, render_page
from avel.search.results import WORDS, Match, SearchPage, SearchResult, pages
from avel.types import Json, Modality

#: Most matches on a page, and most failed files that it names.
MAX_MATCHES, MAX_FAILED = 50, 5


@dataclass(frozen=True)
class ExcerptCard:
    """The query or a match, as the page shows it.

    Args:
        name, folder: Of its file.
        times: Start and end in words.
        link: The file's address, relative to the page, with start and end.
        excerpt: Its image and its cut; None if the file couldn't be read.
        start, end, length: The window within the cut, and the cut's length, in seconds.
        left, width: The same in percent of the cut.
        distance: The match's.
        bar: Length of the bar in percent: 100 for the nearest match; see :func:`_bars`.
        shared: The events that it shares with the query.
    """

    name: str
    folder: str
    times: str
    link: str
    excerpt: Excerpt | None
    start: float
    end: float
    length: float
    left: float
    width: float
    distance: float = 0.0
    bar: float = 0.0
    shared: str = ""


@pages.register(".html")
class SearchPageWriter(SearchPage):
    """One offline page; see :func:`render`."""

    def render(self, result: SearchResult, path: Path) -> bytes:
        """The page as UTF-8."""
        return render(result, page=path).encode("utf-8", "replace")


def render(result: SearchResult, *, page: str | Path) -> str:
    """A search's result as HTML.

    Each match is cut out of its file and encoded anew, small, so that the page needs none of the
    files. Matches beyond the limits (here and in :mod:`avel.report.excerpts`) are links, and a note
    says so.

    Args:
        result: The search's result; the files are read if they still exist.
        page: Where the page will be written; links to files are relative to it.

    Returns:
        One page without outside references but those links.
    """
    page, cutter = Path(page), ExcerptCutter()
    shown = result.matches[:MAX_MATCHES]
    query = _card(cutter, Match(result.query, result.start, result.end, 0.0), page, result.modality)
    bars = _bars([m.distance for m in shown], result.median)
    matches = [
        _card(cutter, match, page, result.candidate_modality, bar)
        for match, bar in zip(shown, bars, strict=True)
    ]
    modality, other = WORDS[result.modality], WORDS[result.candidate_modality]
    context = {
        "name": f"The {modality} of {Path(result.query).name or 'a query'}",
        "facts": (
            query.times,
            counted(len(result), "match", "matches"),
            f"{counted(result.files, 'file')} of {counted(result.segments, 'segment')} searched",
        ),
        "notes": (*result.notes, *_failures(result), *_omissions(len(result), query, matches)),
        "modality": modality,
        "other": other,
        "query": query,
        "matches": matches,
        "shares": any(m.shared for m in shown),
        "classes": (),
        "data": {
            "modality": modality,
            "other": other,
            "query": _data(query),
            "matches": [_data(m) for m in matches],
        },
        "media": "blob:",
        **model_context(result.model),
    }
    return render_page("search_page", context)


def _card(
    cutter: ExcerptCutter, match: Match, page: Path, modality: Modality, bar: float = 0.0
) -> ExcerptCard:
    excerpt = cutter.excerpt(match.file, match.start, match.end, picture=modality == "visual")
    first, last = (excerpt.first, excerpt.last) if excerpt else (match.start, match.end)
    length = last - first
    left, right = (100 * clock.share(t - first, length) for t in (match.start, match.end))
    path = Path(match.file)
    offset = excerpt.player_start if excerpt else 0.0
    return ExcerptCard(
        name=path.name,
        folder="" if path.parent == Path() else str(path.parent),
        times=view.span_text(match.start, match.end),
        link=f"{address(path, page)}#t={match.start + offset:g},{match.end + offset:g}",
        excerpt=excerpt,
        start=round(match.start - first, 3),
        end=round(match.end - first, 3),
        length=round(length, 3),
        left=round(left, 3),
        width=round(right - left, 3),
        distance=match.distance,
        bar=bar,
        shared=", ".join(match.shared),
    )


def _bars(distances: Sequence[float], median: float | None) -> list[float]:
    """Lengths of the bars in percent: 100 for the nearest match, 0 at the median file's distance.

    Args:
        distances: Of the matches shown.
        median: Of the best distances of all files; a farther match that is shown has the 0.
    """
    if not distances:
        return []
    farthest = max([*distances, *([] if median is None else [median])])
    span = farthest - min(distances)
    return [round(100 * (farthest - d) / span, 2) if span > 0 else 100.0 for d in distances]


def _data(card: ExcerptCard) -> Json:
    """The values of a card that the page's script reads."""
    excerpt = card.excerpt
    return {
        "name": card.name, "times": card.times, "link": card.link,
        "start": card.start, "end": card.end, "length": card.length,
        "distance": round(card.distance, 6), "shared": card.shared,
        "left": card.left, "width": card.width, "visual": bool(excerpt and excerpt.visual),
    }  # fmt: skip


def _failures(result: SearchResult) -> Iterator[str]:
    for name, error in result.failed[:MAX_FAILED]:
        yield error.got if name in error.got else f"{name}: {error.got}"
    more = len(result.failed) - MAX_FAILED
    if more > 0:
        yield f"{counted(more, 'more file')} couldn't be searched."


def _omissions(count: int, query: ExcerptCard, matches: Sequence[ExcerptCard]) -> Iterator[str]:
    """What the page leaves out of ``count`` matches, a sentence each."""
    if len(matches) < count:
        yield f"This page shows the {len(matches)} nearest of {count} matches."
    unread = sum(c.excerpt is None for c in (query, *matches))
    if unread:
        yield f"{counted(unread, 'excerpt')} couldn't be read again."
    uncut = sum(c.excerpt is not None and not c.excerpt.cut for c in (query, *matches))
    if uncut:
        yield (
            f"To keep this page small, {uncut} of {1 + len(matches)} excerpts, the farthest ones, "
            "are shown as a picture and a link only."
        )
