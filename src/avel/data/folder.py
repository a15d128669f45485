"""A person's own clips: a folder of media files with `annotations.csv` or AVE-style text.

The features are those that `avel extract DIR` wrote, read from the store of `avel pack DIR` where
that is up to date; labels are made from the annotations.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avel import clock
from avel.data.annotations import OPTIONAL, REQUIRED, SPLITS, Row, read_rows
from avel.data.base import Dataset, Split, backbone_identity
from avel.data.packed import Pack, Windows, is_packed, open_pack
from avel.data.rendered import COMPOSER_CARD, TOYBOX_CARD, origin_of
from avel.errors import DataError
from avel.features.store import FOLDER, feature_path
from avel.types import Features, Grid, Json

#: Shares of the files that train, val and test take where the annotations name no split.
SHARES = (0.7, 0.1, 0.2)


@dataclass(frozen=True)
class Clip:
    """A file with all its events.

    Args:
        file: Relative to the folder.
        video: The group that splits keep together.
        split: As annotated, or "".
        events: (start, end, label), in the annotation's order.
    """

    file: str
    video: str
    split: str
    events: tuple[tuple[float, float, str], ...]


def load(
    root: str | Path,
    *,
    window: int = 10,
    seed: int = 0,
    features: str | Path | None = None,
    dtype: str = "float16",
) -> Dataset:
    """A data set from a folder of clips.

    The annotations are ``annotations.csv`` with the columns ``file,start,end,label`` and, where
    wanted, ``split`` and ``video``: one row an event; a row with empty start, end and label is a
    clip without one. Without that file, AVE-style text is read: ``trainSet.txt``, ``valSet.txt``
    and ``testSet.txt``, or ``Annotations.txt``.

    Splits are those of the annotations, or made by video (column ``video``, else the file): 70, 10
    and 20 percent of the videos in the order of a seeded hash, never by clip. Files longer than
    ``window`` segments are cut into windows that don't overlap, the last one shorter; all windows
    of a file stay in its split, and each segment is judged once. A segment has the label of the
    event that fills at least half of it; where several different ones do, of the one that starts
    latest (of those that start together, the one that stands last in the file).

    Args:
        root: The folder.
        window: Length of a training clip in segments.
        seed: Of the splits, where they are made here.
        features: Where `avel extract` wrote them, if not in ``root/features``.
        dtype: ``"float16"`` or ``"float32"``, what the features are held as.

    Raises:
        DataError: with all that is wrong at once: rows, times, files, features, splits.
    """
    root = Path(root)
    if window < 1:
        raise DataError(f"window={window}", wanted="at least 1 segment", do="give window=10")
    rows, mistakes = read_rows(root)
    clips, more = _gather(rows)
    mistakes += more
    mistakes += _missing_files(root, clips)
    _stop(root, mistakes)
    held, mistakes = _read_features(root, clips, features, dtype)
    mistakes += _beyond_end(clips, held)
    drawn = not any(clip.split for clip in clips)
    videos = {clip.file: clip.video for clip in clips}
    clips, more = assign_splits(clips, seed=seed)
    classes = tuple(dict.fromkeys(row.label for row in rows if row.label))
    _stop(root, mistakes + more + ([] if classes else ["no row has a label"]))
    made = _assemble(root, clips, classes, held, window)
    recordings = {
        name: video
        for split in made.splits.values()
        for name in split.ids
        if (video := videos.get(name) or videos[name.rpartition("#")[0]])
    }
    return replace(made, drawn=drawn, recordings=recordings)


def _stop(root: Path, mistakes: Sequence[str], *, shown: int = 40) -> None:
    if not mistakes:
        return
    listed = "\n    ".join(mistakes[:shown])
    more = f"\n    and {len(mistakes) - shown} more" if len(mistakes) > shown else ""
    raise DataError(
        f"{root}: {len(mistakes)} mistake{'s' if len(mistakes) > 1 else ''}\n    {listed}{more}",
        wanted=f"annotations.csv with {','.join(REQUIRED)} (and {', '.join(OPTIONAL)} if wanted)",
        do=f"mend them; where features are missing, run: avel extract {root}",
    )


def _gather(rows: Iterable[Row]) -> tuple[list[Clip], list[str]]:
    """Rows by file; a file or a video in two splits is a mistake."""
    by_file: dict[str, list[Row]] = {}
    for row in rows:
        by_file.setdefault(row.file, []).append(row)
    clips, mistakes = [], []
    groups: dict[str, str] = {}
    for file, own in by_file.items():
        video = next((r.video for r in own if r.video), file)
        splits = {r.split for r in own}
        if len(splits) > 1 or groups.setdefault(video, own[0].split) not in splits:
            mistakes.append(f"{own[0].where}: video {video!r} stands in different splits")
        if len({r.video for r in own}) > 1:
            mistakes.append(f"{own[0].where}: file {file!r} is given to different videos")
        events = tuple((r.start, r.end, r.label) for r in own if r.label)
        clips.append(Clip(file, video, own[0].split, events))
    return clips, mistakes


def _missing_files(root: Path, clips: Iterable[Clip]) -> list[str]:
    return [
        f"no file {clip.file!r}"
        for clip in clips
        if not (root / clip.file).is_file() and not feature_path(root, clip.file).is_file()
    ]


@dataclass
class _Held:
    """Features of all clips: as they were read one by one, or where they lie in a pack."""

    grids: dict[str, Grid] = field(default_factory=dict)
    features: dict[str, Features] = field(default_factory=dict)
    pack: Pack | None = None
    firsts: dict[str, int] = field(default_factory=dict)
    cards: tuple[Json, Json] = ({}, {})
    step: float = 1.0
    note: str = ""


def _packed(root: Path, clips: Sequence[Clip], folder: str | Path | None, dtype: str) -> _Held:
    """The clips' places in the folder's pack; none without one of that type, up to date."""
    place = Path(folder or root / FOLDER)
    held = open_pack(place, dtype=dtype)  # type: ignore[arg-type]
    cure = f"`avel pack {root}{'' if dtype == 'float16' else f' --dtype {dtype}'}`"
    if held is None:
        odd = f"its pack is damaged, or not of {dtype}: {cure}"
        return _Held(note=odd if is_packed(place) else "")
    grids, firsts = {}, {}
    for clip in clips:
        entry = held.entry(place, feature_path(root, clip.file, out=folder))
        if entry is None:
            return _Held(note=f"its pack is out of date: {cure}")
        grids[clip.file], firsts[clip.file] = Grid(entry.duration, held.step), entry.first
    return _Held(grids, {}, held, firsts, (held.audio_card, held.visual_card), held.step)


def _read_features(
    root: Path, clips: Sequence[Clip], folder: str | Path | None, dtype: str
) -> tuple[_Held, list[str]]:
    held, mistakes = _packed(root, clips, folder, dtype), []
    if held.pack is not None:
        return held, []
    first: Features | None = None
    for clip in clips:
        path = feature_path(root, clip.file, out=folder)
        if not path.is_file():
            mistakes.append(f"{clip.file}: no features ({path})")
            continue
        try:
            found = Features.load(path)
        except DataError as e:
            mistakes.append(f"{clip.file}: {e.got}")
            continue
        first = first or found
        odd = _differs(found, first)
        if odd:
            mistakes.append(f"{clip.file}: {odd} than {first.source or 'the first file'}")
            continue
        with np.errstate(over="ignore"):  # what doesn't fit becomes infinite and is named
            audio, visual = found.audio.astype(dtype), found.visual.astype(dtype)
        if not (np.isfinite(audio).all() and np.isfinite(visual).all()):
            mistakes.append(f"{clip.file}: features that {dtype} can't hold, or not finite")
        held.features[clip.file] = replace(found, audio=audio, visual=visual)
        held.grids[clip.file] = found.grid
    if first is not None:
        held.cards, held.step = (first.audio_card, first.visual_card), first.grid.step
    return held, mistakes


def _differs(a: Features, b: Features) -> str:
    if _backbones(a) != _backbones(b):
        return "features of other backbones"
    if a.audio.shape[1:] != b.audio.shape[1:] or a.visual.shape[1:] != b.visual.shape[1:]:
        return "features of another shape"
    return "segments of another length" if a.grid.step != b.grid.step else ""


def _backbones(found: Features) -> tuple[tuple[str, str, str], ...]:
    return backbone_identity(found.audio_card), backbone_identity(found.visual_card)


def _beyond_end(clips: Iterable[Clip], held: _Held) -> list[str]:
    """Events that begin after their file's end, or end more than a segment after it."""
    mistakes = []
    for clip in clips:
        grid = held.grids.get(clip.file)
        for start, end, label in clip.events if grid else ():
            assert grid is not None
            if start >= grid.duration or end > grid.duration + grid.step:
                span = f"{label!r} from {start:g} to {end:g} s"
                mistakes.append(f"{clip.file}: {span}, the file ends at {grid.duration:g} s")
    return mistakes


def assign_splits(clips: Sequence[Clip], *, seed: int = 0) -> tuple[list[Clip], list[str]]:
    """Clips with their splits: as annotated, or 70/10/20 by video in the order of a seeded hash.

    Returns:
        The clips, and what is wrong: a split named for some clips only, or left without any.
    """
    named = [c for c in clips if c.split]
    if named and len(named) < len(clips):
        without = next(c.file for c in clips if not c.split)
        return list(clips), [f"{without} and {len(clips) - len(named) - 1} more name no split"]
    if not named:
        split_of = dict(_by_video({c.video for c in clips}, seed))
        clips = [replace(c, split=split_of[c.video]) for c in clips]
    there = {c.split for c in clips}
    return list(clips), [f"no clip in split {s!r}" for s in SPLITS if s not in there]


def _by_video(videos: set[str], seed: int) -> Iterator[tuple[str, str]]:
    ordered = sorted(videos, key=lambda v: hashlib.sha256(f"{seed}:{v}".encode()).hexdigest())
    n = len(ordered)
    val = max(1, round(SHARES[1] * n)) if n > 1 else 0
    test = max(1, round(SHARES[2] * n)) if n > 2 else 0
    for i, video in enumerate(ordered):
        yield video, "val" if i < val else "test" if i < val + test else "train"


def segment_labels(
    events: Sequence[tuple[float, float, str]],
    classes: Sequence[str],
    count: int,
    step: float = 1.0,
) -> NDArray[np.int64]:
    """(count,) class ids of a file's segments, ``len(classes)`` for background.

    An event labels the segments that it fills at least half of; of different events in one
    segment, the one that starts latest takes it.
    """
    labels = np.full(count, len(classes), dtype=np.int64)
    for start, end, label in sorted(events, key=lambda e: e[0]):
        labels[clock.event_labels(start, end, count, step)] = classes.index(label)
    return labels


def _assemble(
    root: Path, clips: Sequence[Clip], classes: tuple[str, ...], held: _Held, window: int
) -> Dataset:
    splits = {
        s: _split(s, [c for c in clips if c.split == s], classes, held, window) for s in SPLITS
    }
    events = sum(len(c.events) for c in clips)
    lost = sum(_lost(c, held) for c in clips)
    note = f"{len(clips)} files of {root.name} with {events} events"
    note += f"; {lost} too short to fill half of a segment" if lost else ""
    if (root / TOYBOX_CARD).is_file():
        note += "; Toybox: drawn things with synthetic sounds"
    if (root / COMPOSER_CARD).is_file():
        note += "; composed of recordings and photographs that were never filmed together"
    note += f"; {held.note}" if held.note else ""
    return Dataset(
        name=root.resolve().name, classes=classes, splits=splits, audio_card=held.cards[0],
        visual_card=held.cards[1], note=note, step=held.step, origin=origin_of(root),
    )  # fmt: skip


def _lost(clip: Clip, held: _Held) -> int:
    count = len(held.grids[clip.file])
    return sum(not any(clock.event_labels(s, e, count, held.step)) for s, e, _ in clip.events)


def _split(
    name: str, clips: Sequence[Clip], classes: tuple[str, ...], held: _Held, window: int
) -> Split:
    """Windows of the clips, padded with zeros (labels with -1) to the longest."""
    cut = [(c, s) for c in clips for s in range(0, len(held.grids[c.file]), window)]
    lengths = np.array([min(window, len(held.grids[c.file]) - s) for c, s in cut])
    labels = np.full((len(cut), int(lengths.max())), -1, dtype=np.int64)
    for i, (clip, s) in enumerate(cut):
        own = segment_labels(clip.events, classes, len(held.grids[clip.file]), held.step)
        labels[i, : lengths[i]] = own[s : s + lengths[i]]
    ids = [c.file if len(held.grids[c.file]) <= window else f"{c.file}#{s}" for c, s in cut]
    places = [(c.file, s) for c, s in cut]
    audio, visual = _windows(places, lengths, held)
    return Split(name, tuple(ids), audio, visual, lengths.astype(np.int64), labels)


def _windows(
    places: Sequence[tuple[str, int]], lengths: NDArray[np.int64], held: _Held
) -> tuple[Any, Any]:
    """Arrays (N, T, …) of the windows that begin at some segments of some files."""
    if held.pack is not None:
        firsts = np.array([held.firsts[file] + s for file, s in places])
        return tuple(Windows(a, firsts, lengths) for a in (held.pack.audio, held.pack.visual))  # type: ignore[return-value]
    sample = held.features[places[0][0]]
    shape = (len(places), int(lengths.max()))
    audio, visual = (
        np.zeros((*shape, *a.shape[1:]), dtype=a.dtype) for a in (sample.audio, sample.visual)
    )
    for i, (file, s) in enumerate(places):
        found, n = held.features[file], int(lengths[i])
        audio[i, :n], visual[i, :n] = found.audio[s : s + n], found.visual[s : s + n]
    return audio, visual
