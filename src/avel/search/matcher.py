"""Cross-modal retrieval: windows of candidates that match a query of the other modality.

The default needs no training: it compares the evidence for events in the query's modality and in
the candidates' other one, or embeddings within one modality (:mod:`avel.search.profiles`). A model
of task ``cml`` for separate recordings gives the cost of every window instead. The result is the
windows of the smallest distance.
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
from avel.errors import AvelError, DataError, MediaError, UsageError, counted
from avel.features.cache import Facts, features_of
from avel.features.listing import named_files
from avel.inference.predictor import check_features
from avel.media.probe import names_track
from avel.models.base import Model, Query
from avel.models.named_events import NamedEvents
from avel.progress import Progress
from avel.search.costs import best, costs
from avel.search.index import Arrays, Index, Kind, open_index, rows_of, update
from avel.search.profiles import Profile, distances, evidence, perceived, shared_events
from avel.search.results import WORDS, Match, SearchResult
from avel.tasks import task_named
from avel.types import Bools, Features, Floats, Grid, Modality

if TYPE_CHECKING:
    from avel.features.network import Precision
    from avel.features.stream import FeatureStream
    from avel.inference.checkpoint import Trained
    from avel.media.file import Media

#: The model without training.
DEFAULT = "default"
#: Segments of the longest query.
LONGEST = 60
MODALITIES: tuple[Modality, ...] = ("audio", "visual")
_PRESENT = {"audio": "heard", "visual": "seen"}
#: The characters of a time span; others belong to a file's name.
_TIMES = re.compile(r"\s*\d[\d:.,\s-]*", re.ASCII)

#: Called with files done and files in all.


def parse_query(text: str | Path) -> tuple[Path, tuple[float, float] | None]:
    """The file of a query and, with ``FILE@START-END``, the time span in seconds.

    If a file of the whole name exists, it is the query.

    Raises:
        UsageError: if the part after the @ looks like a time span but isn't valid.
    """
    name = str(text)
    file, _, span = name.rpartition("@")
    if not file or not _TIMES.fullmatch(span) or _exists(Path(name)):
        return Path(name), None
    try:
        return Path(file), clock.parse_span(span)
    except ValueError as e:
        raise UsageError(
            f"query {name}: {e}", expected="FILE or FILE@START-END, as in a.mp4@3-5"
        ) from e


def _exists(path: Path) -> bool:
    with suppress(OSError):
        return path.exists()
    return False


@dataclass(frozen=True)
class _QueryRows:
    """A query's features in its modality, and which segments have that modality."""

    file: Path
    start: float
    end: float
    modality: Modality
    candidate_modality: Modality
    rows: Floats
    present: Bools
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _QuerySource:
    """Where a query's rows come from: the file's grid and notes, and the rows of its segments."""

    grid: Grid
    notes: Sequence[str]
    rows: Callable[[int, int], Arrays]


@dataclass(frozen=True)
class _Candidate:
    """A candidate: the comparison's values of it, and which segments have its modality."""

    file: Path
    grid: Grid
    values: Floats
    present: Bools
    notes: tuple[str, ...]


class _Comparison(Protocol):
    """How candidates are compared with one query."""

    def read(self, tracks: Iterable[Iterable[Floats]], counts: Sequence[int]) -> list[Floats]:
        """The values of candidates, given their features in blocks and their segment counts."""

    def distances(self, tracks: Sequence[_Candidate]) -> list[Floats]:
        """The distances of each candidate's windows; empty where it is shorter than the query."""

    def shared(self, track: _Candidate, first: int, length: int) -> tuple[str, ...]:
        """The events that the query and a window share."""


class _CostComparison:
    """Distances are the costs of windows by a model of task cml."""

    def __init__(self, network: Model, query_rows: _QueryRows) -> None:
        self.network, self.query_rows = network, query_rows

    def read(self, tracks: Iterable[Iterable[Floats]], counts: Sequence[int]) -> list[Floats]:
        """The costs, over all candidates as one track; windows across files are dropped."""
        blocks = (block for track in tracks for block in track)
        cost = costs(self.network, self.query_rows.rows, blocks, modality=self.query_rows.modality)
        by_file, first = [], 0
        for count in counts:
            by_file.append(cost[first : first + max(count - len(self.query_rows.rows) + 1, 0)])
            first += count
        return by_file

    def distances(self, tracks: Sequence[_Candidate]) -> list[Floats]:
        return [t.values for t in tracks]

    def shared(self, track: _Candidate, first: int, length: int) -> tuple[str, ...]:
        return ()


class _ProfileComparison:
    """Distances of profiles: evidence for named events, or embeddings within one modality."""

    def __init__(self, network: Model, query_rows: _QueryRows) -> None:
        self.network = network if isinstance(network, NamedEvents) else None
        self.query_rows, self.within = (
            query_rows,
            query_rows.modality == query_rows.candidate_modality,
        )
        self.query = Profile(self._rows(query_rows.rows, query_rows.modality), query_rows.present)

    def _rows(self, features: Floats, modality: Modality) -> Floats:
        if not self.within and self.network is not None:
            return evidence(self.network, features, modality)
        return features if features.ndim == 2 else features.mean((1, 2), dtype=np.float32)

    def read(self, tracks: Iterable[Iterable[Floats]], counts: Sequence[int]) -> list[Floats]:
        """The rows of the profiles."""
        rows = partial(self._rows, modality=self.query_rows.candidate_modality)
        return [np.concatenate([rows(block) for block in track]) for track in tracks]

    def distances(self, tracks: Sequence[_Candidate]) -> list[Floats]:
        candidates = [Profile(t.values, t.present) for t in tracks]
        return distances(self.query, candidates, events=not self.within)

    def shared(self, track: _Candidate, first: int, length: int) -> tuple[str, ...]:
        if self.network is None:
            return ()
        window = slice(first, first + length)
        query_evidence = self._peak(self.query_rows.rows, self.query, self.query_rows.modality)
        profile = Profile(track.values[window], track.present[window])
        window_evidence = self._peak(
            track.values[window], profile, self.query_rows.candidate_modality
        )
        return shared_events(
            self.network,
            query_evidence,
            window_evidence,
            (self.query_rows.modality, self.query_rows.candidate_modality),
        )

    def _peak(self, rows: Floats, profile: Profile, modality: Modality) -> Floats:
        assert self.network is not None
        if self.within:  # rows are embeddings
            features = rows if modality == "audio" or rows.ndim == 4 else rows[:, None, None]
            profile = Profile(perceived(self.network, features, modality), profile.present)
        return profile.peak()


class Matcher:
    """A model with its backbones, loaded once for many queries.

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
        query: str | Path | Media | Features,
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
        """Search some files; arguments and errors as for :func:`match`."""
        if top < 1:
            raise UsageError(f"top must be at least 1, got {top}")
        modality = _query_modality(modality, within)
        files = named_files(candidates)
        query_rows = self._load_query(query, modality, within, index)
        comparison: _Comparison = (
            _ProfileComparison if self._named or within else _CostComparison
        )(self.model.network, query_rows)
        if index is None:
            tracks, failed = self._read_files(query_rows, comparison, files, progress)
        else:
            tracks, failed = self._read_index(query_rows, comparison, files, index, progress)
        most = 1 if one_per_file else top
        return self._rank(
            query_rows, comparison, tracks, failed, top=top, most=most, overlaps=overlaps
        )

    def _stream(self, file: Path | Media | Features) -> tuple[FeatureStream, Callable[[], Facts]]:
        return features_of(file, self._extract, cache=self.cache)

    def _load_query(
        self,
        query: str | Path | Media | Features,
        modality: Modality | None,
        within: Modality | None,
        index: str | Path | None,
    ) -> _QueryRows:
        span = None
        if isinstance(query, str | Path):
            file, span = parse_query(query)
            source = self._indexed_query(file, index) or self._extracted_query(file)
        else:
            file = Path(query.source) if isinstance(query, Features) else query.path
            source = self._extracted_query(query)
        grid = source.grid
        start, end = span or (0.0, grid.duration)
        if start >= grid.duration:
            raise UsageError(
                f"the query starts at {start:g} s, after the end of {file}",
                expected=f"a start before {grid.duration:g} s",
            )
        first, stop = clock.segments_of(start, min(end, grid.duration), len(grid), grid.step)
        if stop - first > LONGEST:
            raise UsageError(
                f"the query has {stop - first} segments",
                expected=f"{LONGEST} at most",
                hint=f"search with a part of it: {file}@START-END",
            )
        rows = source.rows(first, stop)
        modality = modality or ("audio" if rows["heard"].any() else "visual")
        bounds = grid.bounds(first)[0], grid.bounds(stop - 1)[1]
        present = rows[_PRESENT[modality]].astype(bool)
        if not present.any():
            raise MediaError(
                f"{file} has no {WORDS[modality]} from {bounds[0]:g} to {bounds[1]:g} s",
                expected=f"a query with {WORDS[modality]}",
                hint="choose another time span" if within
                else "choose another time span, or the other modality with --modality",
            )  # fmt: skip
        other: Modality = "visual" if modality == "audio" else "audio"
        return _QueryRows(
            file, *bounds, modality, within or other, rows[modality], present,
            _track_notes(source.notes, modality),
        )  # fmt: skip

    def _extracted_query(self, query: Path | Media | Features) -> _QuerySource:
        stream, _ = self._stream(query)
        if not isinstance(query, Path):
            check_features(self.model.card, stream)

        def rows(first: int, stop: int) -> Arrays:
            blocks = [rows_of(block, means=self.kind.means) for block in _until(stream, stop)]
            return {n: np.concatenate([b[n] for b in blocks])[first:stop] for n in blocks[0]}

        return _QuerySource(stream.grid, stream.notes, rows)

    def _indexed_query(self, file: Path, path: str | Path | None) -> _QuerySource | None:
        """A query that is one of the index's own files, unchanged: it needn't be decoded."""
        index = None if path is None else open_index(path, self.kind)
        entry = None if index is None else index.current_entry(file)
        if index is None or entry is None or index.kind.means != self.kind.means:
            return None
        self._check_shapes(index)
        place = entry.first
        return _QuerySource(
            Grid(entry.duration, index.kind.step),
            entry.notes,
            lambda first, stop: {
                name: np.asarray(rows[place + first : place + stop])
                for name, rows in index.arrays.items()
            },
        )

    def _read_files(
        self,
        query_rows: _QueryRows,
        comparison: _Comparison,
        files: Sequence[Path],
        progress: Progress | None,
    ) -> tuple[list[_Candidate], list[tuple[str, AvelError]]]:
        """Read all files, from the cache where their features are there, one after the other."""
        tracks, failed = [], []
        for i, file in enumerate(files):
            try:
                tracks.append(self._track(query_rows, comparison, file))
            except AvelError as e:
                failed.append((str(file), e))
            if progress is not None:
                progress(i + 1, len(files))
        return tracks, failed

    def _track(self, query_rows: _QueryRows, comparison: _Comparison, file: Path) -> _Candidate:
        stream, _ = self._stream(file)
        present: list[NDArray[Any]] = []

        def blocks() -> Iterator[Floats]:
            for block in stream.blocks():
                rows = rows_of(block, means=self.kind.means)
                present.append(rows[_PRESENT[query_rows.candidate_modality]])
                yield rows[query_rows.candidate_modality]

        (rows,) = comparison.read([blocks()], [len(stream)])
        notes = _track_notes(stream.notes, query_rows.candidate_modality)
        return _Candidate(file, stream.grid, rows, np.concatenate(present).astype(bool), notes)

    def _read_index(
        self,
        query_rows: _QueryRows,
        comparison: _Comparison,
        files: Sequence[Path],
        path: str | Path,
        progress: Progress | None,
    ) -> tuple[list[_Candidate], list[tuple[str, AvelError]]]:
        """The same from an index."""
        index, updated = update(
            path, files, lambda file: self._stream(file)[0], self.kind, progress=progress
        )
        by_file = list(zip(files, updated, strict=True))
        failed = [(str(file), e) for file, e in by_file if isinstance(e, AvelError)]
        entries = [(file, e) for file, e in by_file if not isinstance(e, AvelError)]
        if index is None:
            return [], failed
        self._check_shapes(index)
        to_means = index.kind.means < self.kind.means and query_rows.candidate_modality == "visual"
        read = comparison.read(
            (_means(index.rows(e, query_rows.candidate_modality), to_means) for _, e in entries),
            [e.count for _, e in entries],
        )
        tracks = []
        for (file, e), rows in zip(entries, read, strict=True):
            present = np.concatenate(
                list(index.rows(e, _PRESENT[query_rows.candidate_modality]))
            ).astype(bool)
            notes = _track_notes(e.notes, query_rows.candidate_modality)
            tracks.append(_Candidate(file, Grid(e.duration, index.kind.step), rows, present, notes))
        return tracks, failed

    def _check_shapes(self, index: Index) -> None:
        dims = self.model.card["dims"]
        widths = tuple(shape[-1] for shape in index.row_shapes)
        if widths != (dims["audio"], dims["visual"]):
            raise DataError(
                f"{index.path} has {widths[0]} audio and {widths[1]} visual channels",
                expected=f"{dims['audio']} and {dims['visual']} channels, as the model reads them",
                hint="remove the index; the next search writes it anew",
            )

    def _rank(
        self,
        query_rows: _QueryRows,
        comparison: _Comparison,
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
                f"none of {len(failed)} files can be searched; the first: {failed[0][1].got}"
            )
        cost = comparison.distances(tracks)
        if not any(map(len, cost)):
            raise UsageError(
                f"the query has {len(query_rows.rows)} segments, more than any candidate",
                expected=f"{max(len(t.grid) for t in tracks)} at most",
                hint="search with a part of it: FILE@START-END",
            )
        windows = [
            w for t, c in zip(tracks, cost, strict=True) if len(c)
            for w in _windows(t, c, most, overlaps=overlaps)
        ]  # fmt: skip
        windows.sort(key=lambda w: w[0].distance)  # stable: the earlier file, the earlier window
        matches = [replace(m, shared=comparison.shared(t, i, n)) for m, t, i, n in windows[:top]]
        return SearchResult(
            query=str(query_rows.file), start=query_rows.start, end=query_rows.end,
            modality=query_rows.modality, candidate_modality=query_rows.candidate_modality,
            matches=tuple(matches), files=len(tracks),
            segments=sum(len(t.grid) for t in tracks), failed=tuple(failed),
            notes=(*_notes(query_rows, tracks, cost), *_tracks_used(query_rows, tracks, matches)),
            model=self.model.card, median=_median(tracks, cost),
        )  # fmt: skip


def _query_modality(modality: Modality | None, within: Modality | None) -> Modality | None:
    """The query's modality, if the call names it."""
    for name, value in (("modality", modality), ("within", within)):
        if value not in (None, *MODALITIES):
            raise UsageError(f"{name} must be {' or '.join(MODALITIES)}, got {value!r}")
    if within is None or modality in (None, within):
        return within or modality
    raise UsageError(
        f"modality {modality!r} contradicts within {within!r}", hint="leave --modality out"
    )


def _means(blocks: Iterator[Floats], average: bool) -> Iterator[Floats]:
    """An index's rows, averaged over the picture's regions if the model reads only means."""
    for rows in blocks:
        yield rows.mean((1, 2), keepdims=True, dtype=np.float32) if average else rows


def _until(stream: FeatureStream, stop: int) -> Iterator[Any]:
    """A stream's blocks up to some segment; the rest isn't decoded."""
    done = 0
    for block in stream.blocks():
        yield block
        done += len(block.audio)
        if stop <= done < len(stream):  # at its end a stream has more to do than to stop
            return


def _windows(
    track: _Candidate, cost: Floats, most: int, *, overlaps: bool
) -> Iterator[tuple[Match, _Candidate, int, int]]:
    """A candidate's best windows as matches, each with its first segment and length."""
    length = len(track.grid) - len(cost) + 1
    for first in best(cost, track.present, length, top=most, overlaps=overlaps):
        start, end = track.grid.bounds(first)[0], track.grid.bounds(first + length - 1)[1]
        yield Match(str(track.file), start, end, float(cost[first])), track, first, length


def _median(tracks: Sequence[_Candidate], cost: Sequence[Floats]) -> float | None:
    """The median over the candidates of their best window's distance."""
    distances = [w.distance for t, c in zip(tracks, cost, strict=True) if len(c)
            for w, *_ in _windows(t, c, 1, overlaps=False)]  # fmt: skip
    return float(np.median(distances)) if distances else None


def _notes(
    query_rows: _QueryRows, tracks: Sequence[_Candidate], cost: Sequence[Floats]
) -> Iterator[str]:
    short = sum(not len(c) for c in cost)
    if short:
        files = counted(short, "file is", "files are")
        yield f"{files} shorter than the query and can't be compared."
    empty = sum(not t.present.any() for t in tracks)
    if empty:
        files = counted(empty, "file has", "files have")
        yield f"{files} no {WORDS[query_rows.candidate_modality]} to search."


def _track_notes(notes: Iterable[str], modality: Modality) -> tuple[str, ...]:
    """The notes on which of a modality's tracks was read."""
    return tuple(
        n for n in notes if names_track(n) and n.lower().startswith(f"{WORDS[modality]}: ")
    )


def _tracks_used(
    query_rows: _QueryRows, tracks: Sequence[_Candidate], matches: Sequence[Match]
) -> Iterator[str]:
    """Notes on the tracks that were read of the query and the matches' files."""
    shown = {m.file for m in matches}
    tracks_taken = [(query_rows.file, n) for n in query_rows.notes]
    tracks_taken += [(t.file, n) for t in tracks if str(t.file) in shown for n in t.notes]
    yield from dict.fromkeys(f"{file}: {note}." for file, note in tracks_taken)


def _load(model: str | Path) -> Trained:
    from avel.inference.load import load_trained

    return load_trained(model)


_TRAIN = "train one with `avel train cspa_csea task=cml form=unpaired data=DIR -o RUN`"


def check_model(model: Trained) -> None:
    """Refuse a model that can't compare separate recordings; the training-free one can.

    A trained model is run on two tracks of different lengths, which others refuse.

    Raises:
        UsageError: that says which models can.
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
    query: str | Path | Media | Features,
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
    """Search recordings for windows that match a query: what looks like a sound, or the reverse.

    Query and candidates may be different recordings: the query's one modality is compared with the
    candidates' other one, or both within one modality. For many queries make one
    :class:`Matcher`.

    Args:
        query: A media file, or ``FILE@START-END``: a part of it in seconds; or what
            :func:`avel.open` or :func:`avel.extract` gave, which is compared as a whole.
        candidates: The files and folders to search.
        modality: Of the query, compared with the other one of the candidates: ``"audio"`` or
            ``"visual"``; None takes the audio where there is any.
        within: ``"audio"`` or ``"visual"`` compares within one modality: more sounds like this one,
            more pictures like this one.
        top: Matches at most.
        overlaps: Whether matches of one file may overlap; else the nearer one is taken.
        one_per_file: Whether a file has one match at most, its best.
        index: An index file ending in ``.safetensors``, written or updated: the second search of
            the same files then decodes nothing. See :mod:`avel.search.index`.
        model: The default, which compares by named events, without training; a run's folder of task
            ``cml`` in a form for separate recordings (CSPA+CSEA's ``unpaired``, AVDLN, DCCA, DAM);
            ``"toybox_match"``, a toy of that kind; or a model loaded already.
        cache, precision, device: As for :func:`avel.localize`.
        progress: Called with files done and files in all.

    Returns:
        The matches, best first; ``failed`` names files that couldn't be searched.

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
