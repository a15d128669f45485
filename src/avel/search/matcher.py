"""Search by sound or sight: where in other recordings is what a query lets one hear, or see?

The default compares without training: evidence for the same events in the query's one modality and
the candidates' other one, or embeddings within one modality (:mod:`avel.search.profiles`). A model
of task ``cml`` whose tracks may be of different recordings says what every window costs instead.
The windows of the smallest distance are the answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from avel import clock
from avel.errors import AvelError, DataError, MediaError, UsageError
from avel.features.cache import Facts, features_of
from avel.features.listing import named_files
from avel.media.probe import tells_track
from avel.models.base import Model, Query
from avel.models.named_events import NamedEvents
from avel.search.costs import best, costs
from avel.search.index import Index, Kind, rows_of, update
from avel.search.profiles import Profile, distances, evidence, perceived, shared_events
from avel.search.results import WORDS, Match, SearchResult
from avel.tasks import task_named
from avel.types import Bools, Floats, Grid, Modality

if TYPE_CHECKING:
    from avel.features.network import Precision
    from avel.features.stream import FeatureStream
    from avel.inference.checkpoint import Trained

#: The model that needs no training.
DEFAULT = "default"
#: Segments of the longest query.
LONGEST = 60
MODALITIES: tuple[Modality, ...] = ("audio", "visual")
_PRESENT = {"audio": "heard", "visual": "seen"}
#: All that a stretch of time can be written with: other letters belong to a file's name.
_TIMES = re.compile(r"\s*\d[\d:.,\s-]*", re.ASCII)

#: Called with files done and files in all.
Progress = Callable[[int, int], None]


def parse_query(text: str | Path) -> tuple[Path, tuple[float, float] | None]:
    """The file of a query and, where ``FILE@START-END`` names one, its stretch in seconds.

    A file that bears the whole name goes first.

    Raises:
        UsageError: if what stands behind the @ begins like a time but is no stretch.
    """
    name = str(text)
    file, _, span = name.rpartition("@")
    if not file or not _TIMES.fullmatch(span) or _is_there(Path(name)):
        return Path(name), None
    try:
        return Path(file), clock.parse_span(span)
    except ValueError as e:
        raise UsageError(
            f"query {name}: {e}", expected="FILE or FILE@START-END, as in a.mp4@3-5"
        ) from e


def _is_there(path: Path) -> bool:
    with suppress(OSError):
        return path.exists()
    return False


@dataclass(frozen=True)
class _Asked:
    """A query: its rows in its modality, which of them have it, and what is to answer."""

    file: Path
    start: float
    end: float
    modality: Modality
    answers: Modality
    rows: Floats
    present: Bools
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Candidate:
    """A candidate: what the comparison keeps of it, and which segments can answer."""

    file: Path
    grid: Grid
    held: Floats
    present: Bools
    notes: tuple[str, ...]


class _Comparison(Protocol):
    """How candidates are compared with one query."""

    def read(self, tracks: Iterable[Iterable[Floats]], counts: Sequence[int]) -> list[Floats]:
        """What is kept of candidates, given their features in pieces and their segments."""

    def distances(self, tracks: Sequence[_Candidate]) -> list[Floats]:
        """The distance of every window of each candidate; none where it can't hold the query."""

    def shared(self, track: _Candidate, first: int, length: int) -> tuple[str, ...]:
        """The events that the query and a window both have."""


class _Learned:
    """By a model of task cml: every window has its cost."""

    def __init__(self, network: Model, asked: _Asked) -> None:
        self.network, self.asked = network, asked

    def read(self, tracks: Iterable[Iterable[Floats]], counts: Sequence[int]) -> list[Floats]:
        """The costs, as of one long track whose windows across candidates are dropped."""
        pieces = (piece for track in tracks for piece in track)
        cost = costs(self.network, self.asked.rows, pieces, modality=self.asked.modality)
        found, first = [], 0
        for count in counts:
            found.append(cost[first : first + max(count - len(self.asked.rows) + 1, 0)])
            first += count
        return found

    def distances(self, tracks: Sequence[_Candidate]) -> list[Floats]:
        return [t.held for t in tracks]

    def shared(self, track: _Candidate, first: int, length: int) -> tuple[str, ...]:
        return ()


class _Profiles:
    """By evidence for named events, or by embeddings within one modality."""

    def __init__(self, network: Model, asked: _Asked) -> None:
        self.network = network if isinstance(network, NamedEvents) else None
        self.asked, self.within = asked, asked.modality == asked.answers
        self.query = Profile(self._rows(asked.rows, asked.modality), asked.present)

    def _rows(self, features: Floats, modality: Modality) -> Floats:
        if not self.within and self.network is not None:
            return evidence(self.network, features, modality)
        return features if features.ndim == 2 else features.mean((1, 2), dtype=np.float32)

    def read(self, tracks: Iterable[Iterable[Floats]], counts: Sequence[int]) -> list[Floats]:
        """The profiles' rows."""
        rows = partial(self._rows, modality=self.asked.answers)
        return [np.concatenate([rows(piece) for piece in track]) for track in tracks]

    def distances(self, tracks: Sequence[_Candidate]) -> list[Floats]:
        candidates = [Profile(t.held, t.present) for t in tracks]
        return distances(self.query, candidates, events=not self.within)

    def shared(self, track: _Candidate, first: int, length: int) -> tuple[str, ...]:
        if self.network is None:
            return ()
        window = slice(first, first + length)
        asks = self._peak(self.asked.rows, self.query, self.asked.modality)
        has = Profile(track.held[window], track.present[window])
        answers = self._peak(track.held[window], has, self.asked.answers)
        return shared_events(self.network, asks, answers, (self.asked.modality, self.asked.answers))

    def _peak(self, rows: Floats, profile: Profile, modality: Modality) -> Floats:
        assert self.network is not None
        if self.within:  # rows are embeddings
            features = rows if modality == "audio" or rows.ndim == 4 else rows[:, None, None]
            profile = Profile(perceived(self.network, features, modality), profile.present)
        return profile.peak()


class Matcher:
    """A model with its backbones, loaded once, that answers many queries.

    Args:
        model, precision, device: As for :func:`match`.
        cache: Whether the features of every file are kept in the cache folder.

    Raises:
        CheckpointError: if the model can't be read.
        UsageError: if it can't match separate recordings.
        WeightsError: if a backbone's weights are missing.
    """

    def __init__(
        self,
        model: str | Path | Trained = DEFAULT,
        *,
        cache: bool = True,
        precision: Precision = "float32",
        device: str = "auto",
    ) -> None:
        self.cache = cache
        self.model = (_load(model) if isinstance(model, str | Path) else model).to(device)
        check_model(self.model)
        self._extract = self.model.extractor(precision=precision, device=device)
        self._named = isinstance(self.model.network, NamedEvents)
        self.kind = Kind(
            self.model.audio_card, self.model.visual_card, self.model.step,
            self.model.network.reads_means,
        )  # fmt: skip

    def __call__(
        self,
        query: str | Path,
        candidates: str | Path | Iterable[str | Path],
        *,
        modality: Modality | None = None,
        within: Modality | None = None,
        top: int = 10,
        overlaps: bool = False,
        one_per_file: bool = False,
        index: str | Path | None = None,
        progress: Progress | None = None,
    ) -> SearchResult:
        """The moments of some files; arguments and errors as for :func:`match`."""
        if top < 1:
            raise UsageError(f"top {top}", expected="1 or more")
        modality = _query_modality(modality, within)
        files = named_files(candidates)
        asked = self._ask(query, modality, within)
        compare: _Comparison = (_Profiles if self._named or within else _Learned)(
            self.model.network, asked
        )
        if index is None:
            tracks, failed = self._direct(asked, compare, files, progress)
        else:
            tracks, failed = self._indexed(asked, compare, files, index, progress)
        most = 1 if one_per_file else top
        return self._ranked(asked, compare, tracks, failed, top=top, most=most, overlaps=overlaps)

    def _stream(self, file: Path) -> tuple[FeatureStream, Callable[[], Facts]]:
        return features_of(file, self._extract, cache=self.cache)

    def _ask(self, query: str | Path, modality: Modality | None, within: Modality | None) -> _Asked:
        file, span = parse_query(query)
        stream, _ = self._stream(file)
        grid = stream.grid
        start, end = span or (0.0, grid.duration)
        if start >= grid.duration:
            raise UsageError(
                f"a query from {start:g} s on, of {file}",
                expected=f"a stretch of its {grid.duration:g} s",
            )
        first, stop = clock.segments_of(start, min(end, grid.duration), len(grid), grid.step)
        if stop - first > LONGEST:
            raise UsageError(
                f"a query of {stop - first} segments",
                expected=f"{LONGEST} at most",
                hint=f"name a stretch: {file}@START-END",
            )
        held = [rows_of(block, means=self.kind.means) for block in _until(stream, stop)]
        rows = {name: np.concatenate([h[name] for h in held])[first:stop] for name in held[0]}
        modality = modality or ("audio" if rows["heard"].any() else "visual")
        bounds = grid.bounds(first)[0], grid.bounds(stop - 1)[1]
        present = rows[_PRESENT[modality]].astype(bool)
        if not present.any():
            raise MediaError(
                f"{file}: no {WORDS[modality]} from {bounds[0]:g} to {bounds[1]:g} s",
                expected=f"a query with {WORDS[modality]}",
                hint="choose another stretch" if within
                else "choose another stretch, or the other modality with --modality",
            )  # fmt: skip
        other: Modality = "visual" if modality == "audio" else "audio"
        return _Asked(
            file, *bounds, modality, within or other, rows[modality], present,
            _tracks(stream.notes, modality),
        )  # fmt: skip

    def _direct(
        self,
        asked: _Asked,
        compare: _Comparison,
        files: Sequence[Path],
        progress: Progress | None,
    ) -> tuple[list[_Candidate], list[tuple[str, AvelError]]]:
        """Every file decoded (or taken from the cache) and read, one after the other."""
        tracks, failed = [], []
        for i, file in enumerate(files):
            try:
                tracks.append(self._track(asked, compare, file))
            except AvelError as e:
                failed.append((str(file), e))
            if progress is not None:
                progress(i + 1, len(files))
        return tracks, failed

    def _track(self, asked: _Asked, compare: _Comparison, file: Path) -> _Candidate:
        stream, _ = self._stream(file)
        present: list[NDArray[Any]] = []

        def pieces() -> Iterator[Floats]:
            for block in stream.blocks():
                rows = rows_of(block, means=self.kind.means)
                present.append(rows[_PRESENT[asked.answers]])
                yield rows[asked.answers]

        (held,) = compare.read([pieces()], [len(stream)])
        told = _tracks(stream.notes, asked.answers)
        return _Candidate(file, stream.grid, held, np.concatenate(present).astype(bool), told)

    def _indexed(
        self,
        asked: _Asked,
        compare: _Comparison,
        files: Sequence[Path],
        path: str | Path,
        progress: Progress | None,
    ) -> tuple[list[_Candidate], list[tuple[str, AvelError]]]:
        """The same of an index."""
        index, held = update(
            path, files, lambda file: self._stream(file)[0], self.kind, progress=progress
        )
        found = list(zip(files, held, strict=True))
        failed = [(str(file), e) for file, e in found if isinstance(e, AvelError)]
        entries = [(file, e) for file, e in found if not isinstance(e, AvelError)]
        if index is None:
            return [], failed
        self._check_shapes(index)
        to_means = index.kind.means < self.kind.means and asked.answers == "visual"
        read = compare.read(
            (_means(index.rows(e, asked.answers), to_means) for _, e in entries),
            [e.count for _, e in entries],
        )
        tracks = []
        for (file, e), rows in zip(entries, read, strict=True):
            present = np.concatenate(list(index.rows(e, _PRESENT[asked.answers]))).astype(bool)
            told = _tracks(e.notes, asked.answers)
            tracks.append(_Candidate(file, Grid(e.duration, index.kind.step), rows, present, told))
        return tracks, failed

    def _check_shapes(self, index: Index) -> None:
        dims = self.model.card["dims"]
        widths = tuple(shape[-1] for shape in index.row_shapes)
        if widths != (dims["audio"], dims["visual"]):
            raise DataError(
                f"{index.path}: features {widths[0]} (audio) and {widths[1]} (visual) wide",
                expected=f"{dims['audio']} and {dims['visual']} wide, as the model reads them",
                hint="remove the index: it is made again",
            )

    def _ranked(
        self,
        asked: _Asked,
        compare: _Comparison,
        tracks: Sequence[_Candidate],
        failed: Sequence[tuple[str, AvelError]],
        *,
        top: int,
        most: int,
        overlaps: bool,
    ) -> SearchResult:
        if not tracks and len(failed) == 1:
            raise failed[0][1]
        if not tracks:
            raise MediaError(
                f"none of {len(failed)} files can be searched", expected=str(failed[0][1])
            )
        cost = compare.distances(tracks)
        if not any(map(len, cost)):
            raise UsageError(
                f"a query of {len(asked.rows)} segments, longer than whatever is searched",
                expected=f"{max(len(t.grid) for t in tracks)} at most",
                hint="name a shorter stretch: FILE@START-END",
            )
        found = [
            w for t, c in zip(tracks, cost, strict=True) if len(c)
            for w in _windows(t, c, most, overlaps=overlaps)
        ]  # fmt: skip
        found.sort(key=lambda w: w[0].distance)  # stable: the earlier file, the earlier window
        moments = [replace(m, shared=compare.shared(t, i, n)) for m, t, i, n in found[:top]]
        return SearchResult(
            query=str(asked.file), start=asked.start, end=asked.end,
            modality=asked.modality, candidate_modality=asked.answers,
            matches=tuple(moments), files=len(tracks),
            segments=sum(len(t.grid) for t in tracks), failed=tuple(failed),
            notes=(*_notes(asked, tracks, cost), *_taken(asked, tracks, moments)),
            model=self.model.card, median=_median(tracks, cost),
        )  # fmt: skip


def _query_modality(modality: Modality | None, within: Modality | None) -> Modality | None:
    """Which modality of the query is compared, where the call says it."""
    for name, given in (("modality", modality), ("within", within)):
        if given not in (None, *MODALITIES):
            raise UsageError(f"{name} {given!r}", expected=" or ".join(MODALITIES))
    if within is None or modality in (None, within):
        return within or modality
    raise UsageError(
        f"modality {modality!r} within {within!r}",
        expected="one of them",
        hint="leave --modality out",
    )


def _means(pieces: Iterator[Floats], average: bool) -> Iterator[Floats]:
    """An index's rows, the picture averaged over its regions where that is all that is read."""
    for rows in pieces:
        yield rows.mean((1, 2), keepdims=True, dtype=np.float32) if average else rows


def _until(stream: FeatureStream, stop: int) -> Iterator[Any]:
    """A stream's blocks as far as some segment: what lies behind a query needn't be decoded."""
    done = 0
    for block in stream.blocks():
        yield block
        done += len(block.audio)
        if stop <= done < len(stream):  # at its end a stream has more to do than to stop
            return


def _windows(
    track: _Candidate, cost: Floats, most: int, *, overlaps: bool
) -> Iterator[tuple[Match, _Candidate, int, int]]:
    """A candidate's best windows as moments, with where they lie in it."""
    length = len(track.grid) - len(cost) + 1
    for first in best(cost, track.present, length, top=most, overlaps=overlaps):
        start, end = track.grid.bounds(first)[0], track.grid.bounds(first + length - 1)[1]
        yield Match(str(track.file), start, end, float(cost[first])), track, first, length


def _median(tracks: Sequence[_Candidate], cost: Sequence[Floats]) -> float | None:
    """The median over the candidates of their best window's distance."""
    held = [w.distance for t, c in zip(tracks, cost, strict=True) if len(c)
            for w, *_ in _windows(t, c, 1, overlaps=False)]  # fmt: skip
    return float(np.median(held)) if held else None


def _notes(asked: _Asked, tracks: Sequence[_Candidate], cost: Sequence[Floats]) -> Iterator[str]:
    short = sum(not len(c) for c in cost)
    if short:
        yield f"{_count(short, 'is', 'are')} shorter than the query and can't hold it."
    empty = sum(not t.present.any() for t in tracks)
    if empty:
        yield f"{_count(empty, 'has', 'have')} no {WORDS[asked.answers]} to be searched."


def _tracks(notes: Iterable[str], modality: Modality) -> tuple[str, ...]:
    """The notes that say which of a modality's tracks was taken."""
    return tuple(
        n for n in notes if tells_track(n) and n.lower().startswith(f"{WORDS[modality]}: ")
    )


def _taken(asked: _Asked, tracks: Sequence[_Candidate], moments: Sequence[Match]) -> Iterator[str]:
    """Of the query and the files that are shown, which track was taken where there were several."""
    shown = {m.file for m in moments}
    told = [(asked.file, n) for n in asked.notes]
    told += [(t.file, n) for t in tracks if str(t.file) in shown for n in t.notes]
    yield from dict.fromkeys(f"{file}: {note}." for file, note in told)


def _count(number: int, one: str, many: str) -> str:
    return f"1 file {one}" if number == 1 else f"{number} files {many}"


def _load(model: str | Path) -> Trained:
    from avel.inference.load import load_trained

    return load_trained(model)


_TRAIN = "train one with `avel train cspa_csea task=cml form=unpaired data=DIR -o RUN`"


def check_model(model: Trained) -> None:
    """Refuse a model that can't match separate recordings; the training-free one can.

    Another is shown two tracks of different lengths, which only models for those take.

    Raises:
        UsageError: with what it is for.
    """
    if isinstance(model.network, NamedEvents):
        return
    if task_named(model.card["task"]).classifies:
        raise UsageError(
            f"a model of task {model.card['task']}",
            expected="one of task cml that takes separate recordings",
            hint=f"leave the model out, or {_TRAIN}",
        )
    dims = model.card["dims"]
    audio, visual = torch.zeros(1, 1, dims["audio"]), torch.zeros(1, 2, 1, 1, dims["visual"])
    device = next(model.network.parameters()).device
    model.network.eval()
    with torch.inference_mode():
        model.network.window_costs(
            audio=audio.to(device), visual=visual.to(device), query=Query("audio", 0, 1)
        )


def match(
    query: str | Path,
    candidates: str | Path | Iterable[str | Path],
    *,
    modality: Modality | None = None,
    within: Modality | None = None,
    top: int = 10,
    overlaps: bool = False,
    one_per_file: bool = False,
    index: str | Path | None = None,
    model: str | Path | Trained = DEFAULT,
    cache: bool = True,
    precision: Precision = "float32",
    device: str = "auto",
    progress: Progress | None = None,
) -> SearchResult:
    """Find in some recordings the moments that look like a sound, or sound like a picture.

    Query and candidates may be different recordings: only the query's one modality and the
    candidates' other one are compared, or one of both with itself. For many queries make a
    :class:`Matcher` once.

    Args:
        query: A media file, or ``FILE@START-END``: a stretch of it in seconds.
        candidates: The files and folders to search.
        modality: What of the query is compared with the other modality of the candidates:
            ``"audio"`` or ``"visual"``; None takes the audio where there is any.
        within: ``"audio"`` or ``"visual"`` compares within one modality: more sounds like this one,
            more pictures like this one.
        top: How many moments at most.
        overlaps: Whether moments of one file may overlap; else the better one stays.
        one_per_file: Whether a file has one moment at most, its best.
        index: An index file ending in ``.safetensors``, made or brought up to date: the second
            search of the same files then decodes nothing. See :mod:`avel.search.index`.
        model: The default, which compares by named events, without training; a run's folder of task
            ``cml`` in a form for separate recordings (CSPA+CSEA's ``unpaired``, AVDLN, DCCA, DAM);
            ``"toybox_match"``, a toy of that kind; or a model loaded already.
        cache, precision, device: As for :func:`avel.localize`.
        progress: Called with files done and files in all.

    Returns:
        The moments, best first; ``failed`` names files that couldn't be searched.

    Raises:
        MediaError: if the query has nothing of the modality, or no file can be read.
        CheckpointError: if the model can't be read.
        UsageError: if the model isn't for separate recordings, the query is longer than whatever a
            trained model is to search (the default then takes shorter files whole), or the index
            is of other backbones.
        DataError: if the index is damaged or can't be written.
    """
    return Matcher(model, cache=cache, precision=precision, device=device)(
        query, candidates, modality=modality, within=within, top=top, overlaps=overlaps,
        one_per_file=one_per_file, index=index, progress=progress,
    )  # fmt: skip
