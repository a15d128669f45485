"""Search by sound or sight: where in other recordings is what a query lets one hear, or see?

A model of task ``cml`` whose tracks may be of different recordings says what every window costs
that is as long as the query; the cheapest are the answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from avel import clock
from avel.errors import AvelError, DataError, MediaError, UsageError
from avel.features.cache import Facts, features_of
from avel.features.index import Index, Kind, rows_of, update
from avel.features.listing import named_files
from avel.models.base import Query
from avel.moments import SENSES, Matches, Moment, Sense
from avel.nearest import best, costs
from avel.types import Bools, Floats, Grid

if TYPE_CHECKING:
    from avel.checkpoint import Trained
    from avel.features.network import Precision
    from avel.features.stream import FeatureStream

#: The name of the model that ships for this.
DEFAULT = "match"
#: Segments of the longest query.
LONGEST = 60
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
            f"query {name}: {e}", wanted="FILE or FILE@START-END, as in a.mp4@3-5"
        ) from e


def _is_there(path: Path) -> bool:
    with suppress(OSError):
        return path.exists()
    return False


@dataclass(frozen=True)
class _Asked:
    """A query: its rows in the sense that asks, and what it is."""

    file: Path
    start: float
    end: float
    sense: Sense
    rows: Floats


@dataclass(frozen=True)
class _Track:
    """A file that was searched."""

    file: Path
    grid: Grid
    cost: Floats
    present: Bools


class Matcher:
    """A model with its backbones, loaded once, that answers many queries.

    Args:
        model, precision: As for :func:`match`.
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
        cache: bool = False,
        precision: Precision = "float32",
    ) -> None:
        self.cache = cache
        self.model = _load(model) if isinstance(model, str | Path) else model
        check_model(self.model)
        self._extract = self.model.extractor(precision=precision)
        self.kind = Kind(
            self.model.audio_card, self.model.visual_card, self.model.step,
            self.model.network.reads_means,
        )  # fmt: skip

    def __call__(
        self,
        query: str | Path,
        within: str | Path | Iterable[str | Path],
        *,
        sense: Sense | None = None,
        top: int = 10,
        overlaps: bool = False,
        index: str | Path | None = None,
        progress: Progress | None = None,
    ) -> Matches:
        """The moments of some files; arguments and errors as for :func:`match`."""
        if sense not in (None, *SENSES):
            raise UsageError(f"sense {sense!r}", wanted=" or ".join(SENSES))
        if top < 1:
            raise UsageError(f"top {top}", wanted="1 or more")
        files = named_files(within)
        asked = self._ask(query, sense)
        if index is None:
            tracks, failed = self._direct(asked, files, progress)
        else:
            tracks, failed = self._indexed(asked, files, index, progress)
        return self._ranked(asked, tracks, failed, top=top, overlaps=overlaps)

    def _stream(self, file: Path) -> tuple[FeatureStream, Callable[[], Facts]]:
        return features_of(file, self._extract, keep=self.cache)

    def _ask(self, query: str | Path, sense: Sense | None) -> _Asked:
        file, span = parse_query(query)
        stream, _ = self._stream(file)
        grid = stream.grid
        start, end = span or (0.0, grid.duration)
        if start >= grid.duration:
            raise UsageError(
                f"a query from {start:g} s on, of {file}",
                wanted=f"a stretch of its {grid.duration:g} s",
            )
        first, stop = clock.segments_of(start, min(end, grid.duration), len(grid), grid.step)
        if stop - first > LONGEST:
            raise UsageError(
                f"a query of {stop - first} segments",
                wanted=f"{LONGEST} at most",
                do=f"name a stretch: {file}@START-END",
            )
        held = [rows_of(block, means=self.kind.means) for block in _until(stream, stop)]
        rows = {name: np.concatenate([h[name] for h in held])[first:stop] for name in held[0]}
        chosen: Sense = sense or ("sound" if rows["heard"].any() else "picture")
        modality, _ = _modalities(chosen)
        bounds = grid.bounds(first)[0], grid.bounds(stop - 1)[1]
        if not rows[_PRESENT[modality]].any():
            raise MediaError(
                f"{file}: no {chosen} from {bounds[0]:g} to {bounds[1]:g} s",
                wanted=f"a query with {chosen}",
                do="choose another stretch, or the other sense with --sense",
            )
        return _Asked(file, *bounds, chosen, rows[modality])

    def _direct(
        self, asked: _Asked, files: Sequence[Path], progress: Progress | None
    ) -> tuple[list[_Track], list[tuple[str, AvelError]]]:
        """Every file decoded (or taken from the cache) and searched, one after the other."""
        tracks, failed = [], []
        for i, file in enumerate(files):
            try:
                tracks.append(self._track(asked, file))
            except AvelError as e:
                failed.append((str(file), e))
            if progress is not None:
                progress(i + 1, len(files))
        return tracks, failed

    def _track(self, asked: _Asked, file: Path) -> _Track:
        stream, _ = self._stream(file)
        asks, answers = _modalities(asked.sense)
        present: list[NDArray[Any]] = []

        def pieces() -> Iterator[Floats]:
            for block in stream.blocks():
                rows = rows_of(block, means=self.kind.means)
                present.append(rows[_PRESENT[answers]])
                yield rows[answers]

        cost = costs(self.model.network, asked.rows, pieces(), sense=asks)
        return _Track(file, stream.grid, cost, np.concatenate(present).astype(bool))

    def _indexed(
        self, asked: _Asked, files: Sequence[Path], path: str | Path, progress: Progress | None
    ) -> tuple[list[_Track], list[tuple[str, AvelError]]]:
        """The same of an index, as one long track whose windows across files are dropped."""
        index, held = update(
            path, files, lambda file: self._stream(file)[0], self.kind, progress=progress
        )
        found = list(zip(files, held, strict=True))
        failed = [(str(file), e) for file, e in found if isinstance(e, AvelError)]
        entries = [(file, e) for file, e in found if not isinstance(e, AvelError)]
        if index is None:
            return [], failed
        self._check_shapes(index, asked)
        asks, answers = _modalities(asked.sense)
        pieces = (rows for _, e in entries for rows in index.rows(e, answers))
        if index.kind.means < self.kind.means and answers == "visual":
            pieces = (rows.mean((1, 2), keepdims=True, dtype=np.float32) for rows in pieces)
        cost = costs(self.model.network, asked.rows, pieces, sense=asks)
        tracks, first = [], 0
        for file, e in entries:
            own = cost[first : first + max(e.count - len(asked.rows) + 1, 0)]
            present = np.concatenate(list(index.rows(e, _PRESENT[answers]))).astype(bool)
            tracks.append(_Track(file, Grid(e.duration, index.kind.step), own, present))
            first += e.count
        return tracks, failed

    def _check_shapes(self, index: Index, asked: _Asked) -> None:
        dims = self.model.card["dims"]
        widths = tuple(shape[-1] for shape in index.row_shapes)
        if widths != (dims["audio"], dims["visual"]):
            raise DataError(
                f"{index.path}: features {widths[0]} (audio) and {widths[1]} (visual) wide",
                wanted=f"{dims['audio']} and {dims['visual']} wide, as the model reads them",
                do="remove the index: it is made again",
            )

    def _ranked(
        self,
        asked: _Asked,
        tracks: Sequence[_Track],
        failed: Sequence[tuple[str, AvelError]],
        *,
        top: int,
        overlaps: bool,
    ) -> Matches:
        length = len(asked.rows)
        if not tracks and len(failed) == 1:
            raise failed[0][1]
        if not tracks:
            raise MediaError(
                f"none of {len(failed)} files can be searched", wanted=str(failed[0][1])
            )
        long_enough = [t for t in tracks if len(t.grid) >= length]
        if not long_enough:
            raise UsageError(
                f"a query of {length} segments, longer than whatever is searched",
                wanted=f"{max(len(t.grid) for t in tracks)} at most",
                do="name a shorter stretch: FILE@START-END",
            )
        moments = [m for t in long_enough for m in _moments(t, length, top, overlaps=overlaps)]
        moments.sort(key=lambda m: m.distance)  # stable: the earlier file, then the earlier window
        return Matches(
            query=str(asked.file), start=asked.start, end=asked.end, sense=asked.sense,
            moments=tuple(moments[:top]), files=len(tracks),
            segments=sum(len(t.grid) for t in tracks), failed=tuple(failed),
            notes=tuple(_notes(asked, tracks, length)), model=self.model.card,
        )  # fmt: skip


def _until(stream: FeatureStream, stop: int) -> Iterator[Any]:
    """A stream's blocks as far as some segment: what lies behind a query needn't be decoded."""
    done = 0
    for block in stream.blocks():
        yield block
        done += len(block.audio)
        if stop <= done < len(stream):  # at its end a stream has more to do than to stop
            return


def _modalities(sense: Sense) -> tuple[Literal["audio", "visual"], Literal["audio", "visual"]]:
    """Which modality asks and which answers."""
    return ("audio", "visual") if sense == "sound" else ("visual", "audio")


def _moments(track: _Track, length: int, top: int, *, overlaps: bool) -> Iterator[Moment]:
    for first in best(track.cost, track.present, length, top=top, overlaps=overlaps):
        start, end = track.grid.bounds(first)[0], track.grid.bounds(first + length - 1)[1]
        yield Moment(str(track.file), start, end, float(track.cost[first]))


def _notes(asked: _Asked, tracks: Sequence[_Track], length: int) -> Iterator[str]:
    short = sum(len(t.grid) < length for t in tracks)
    if short:
        yield f"{_count(short, 'is', 'are')} shorter than the query and can't hold it."
    lacking = "picture" if asked.sense == "sound" else "sound"
    empty = sum(not t.present.any() for t in tracks)
    if empty:
        yield f"{_count(empty, 'has', 'have')} no {lacking} to be searched."


def _count(number: int, one: str, many: str) -> str:
    return f"1 file {one}" if number == 1 else f"{number} files {many}"


def _load(model: str | Path) -> Trained:
    from avel.checkpoint import load_model

    return load_model(model)


_TRAIN = "train one with `avel train cspa_csea task=cml form=unpaired data=DIR -o RUN`"


def check_model(model: Trained) -> None:
    """Refuse a model that can't match separate recordings.

    It is shown two tracks of different lengths, which only models for those take.

    Raises:
        UsageError: with what it is for.
    """
    if model.card["task"] != "cml":
        raise UsageError(
            f"a model of task {model.card['task']}",
            wanted="one of task cml that takes separate recordings",
            do=_TRAIN,
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
    within: str | Path | Iterable[str | Path],
    *,
    sense: Sense | None = None,
    top: int = 10,
    overlaps: bool = False,
    index: str | Path | None = None,
    model: str | Path | Trained = DEFAULT,
    cache: bool = False,
    precision: Precision = "float32",
    progress: Progress | None = None,
) -> Matches:
    """Find in some recordings the moments that look like a sound, or sound like a picture.

    Query and searched files may be different recordings: only the query's one sense and the
    files' other sense are read. For many queries make a :class:`Matcher` once.

    Args:
        query: A media file, or ``FILE@START-END``: a stretch of it in seconds.
        within: The files and folders to search.
        sense: What of the query asks: ``"sound"``, which pictures answer, or ``"picture"``, which
            sounds answer; None takes the sound where there is any.
        top: How many moments at most.
        overlaps: Whether moments of one file may overlap; else the better one stays.
        index: An index file ending in ``.safetensors``, made or brought up to date: the second
            search of the same files then decodes nothing. See :mod:`avel.features.index`.
        model: A run's folder of task ``cml`` in a form for separate recordings (CSPA+CSEA's
            ``unpaired``, AVDLN, DCCA, DAM), the default, or a model loaded already.
        cache, precision: As for :func:`avel.localize`.
        progress: Called with files done and files in all.

    Returns:
        The moments, best first; ``failed`` names files that couldn't be searched.

    Raises:
        MediaError: if the query has nothing of the sense, or no file can be read.
        CheckpointError: if the model can't be read.
        UsageError: if the model isn't for separate recordings, the query is longer than whatever is
            searched, or the index is of other backbones.
        DataError: if the index is damaged or can't be written.
    """
    return Matcher(model, cache=cache, precision=precision)(
        query, within, sense=sense, top=top, overlaps=overlaps, index=index, progress=progress
    )
