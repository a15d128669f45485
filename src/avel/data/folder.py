"""A person's own clips: a folder of media files with `annotations.csv` or AVE-style text.

The features are those that `avel extract DIR` wrote, read from the store of `avel pack DIR` where
that is up to date; labels are made from the annotations.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from avel import clock
from avel.backbones.identity import backbone_identity
from avel.data.annotations import (
    OPTIONAL,
    REQUIRED,
    SPLITS,
    AnnotationRow,
    read_annotations,
    some,
)
from avel.data.base import Copy, Dataset, Split
from avel.data.packed import Pack, Windows, is_packed, open_pack
from avel.data.rendered import COMPOSER_CARD, TOYBOX_CARD, origin_of
from avel.data.stratify import divide
from avel.errors import DataError, counted, listed
from avel.features.content_hashes import ContentHashes, is_current
from avel.features.listing import media_files
from avel.features.manifest import NAME as MANIFEST
from avel.features.manifest import STATUS_NAMES, read_manifest
from avel.features.store import (
    COPIES,
    FOLDER,
    FeatureNames,
    copy_content,
    copy_folders,
    is_copy,
    stored_path,
)
from avel.files import file_exists
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
        where: File and line that name it first, for messages.
    """

    file: str
    video: str
    split: str
    events: tuple[tuple[float, float, str], ...]
    where: str = ""

    @property
    def trainable(self) -> bool:
        """Whether it may be trained on, and so has altered copies: it isn't in test."""
        return self.split != SPLITS[-1]


def load(
    root: str | Path,
    *,
    window: int = 10,
    seed: int = 0,
    features: str | Path | None = None,
    dtype: str = "float16",
    predictions: bool = False,
    partial: bool = False,
    whole: bool = False,
    copies: bool = True,
) -> Dataset:
    """A data set from a folder of clips.

    The annotations are ``annotations.csv`` with the columns ``file,start,end,label`` and, where
    needed, ``split`` and ``video``: one row an event; a row with empty start, end and label is a
    clip without one. Without that file, AVE-style text is read: ``trainSet.txt``, ``valSet.txt``
    and ``testSet.txt``, or ``Annotations.txt``.

    Splits are those of the annotations, or made by video (column ``video``, else the file): 70, 10
    and 20 percent of the videos of every class, never by clip. Files longer than
    ``window`` segments are cut into windows that don't overlap, the last one shorter; all windows
    of a file stay in its split, and each segment is evaluated once. A segment has the label of the
    event that fills at least half of it; where several different ones do, of the one that starts
    latest (of those that start together, the one that stands last in the file).

    Args:
        root: The folder.
        window: Length of a training clip in segments.
        seed: Of the splits, where they are made here.
        features: Where `avel extract` wrote them, if not in ``root/features``.
        dtype: ``"float16"`` or ``"float32"``, the type of the features in memory.
        predictions: Whether predictions of a model that nobody corrected count as truth;
            otherwise their clips are left out, and the data set's notes say so.
        partial: Whether splits may be missing, as for evaluation alone.
        whole: Whether all clips are in ``test`` where the annotations name no split.
        copies: Whether the altered copies of training clips are read that `avel extract --copies`
            made.

    What can't be read of rows, label files and clips is left out, and the data set's notes say
    which and why; so are clips that `avel extract` gave up.

    Raises:
        DataError: with all that is wrong at once, where nothing is left, or what is wrong is of
            the whole: the table's header, splits, features that are missing or of other files.
    """
    root = Path(root)
    if window < 1:
        raise DataError(f"window={window}", expected="at least 1 segment", hint="give window=10")
    read = read_annotations(root, predictions=predictions)
    annotated, mistakes = gather_clips(read.rows)
    clips, places, unusable = usable_clips(root, annotated, features)
    unlabelled = _unlabelled(root, annotated)
    left = read.left_out + unusable
    mistakes = read.mistakes + mistakes
    if mistakes or not clips:
        _stop(root, mistakes + left)
    stored, mistakes = _read_features(root, clips, places, features, dtype)
    copied = _read_copies(root, clips, stored, features, dtype) if copies and not mistakes else []
    clips, late = _within(clips, stored, read.rows)
    left += late
    drawn = not any(clip.split for clip in clips)
    videos = {clip.file: clip.video for clip in clips}
    clips, problems = assign_splits(clips, seed=seed, partial=partial, whole=whole)
    labels = {label for clip in clips for *_, label in clip.events}
    classes = tuple(dict.fromkeys(row.label for row in read.rows if row.label in labels))
    mistakes += problems + ([] if classes else ["no row has a label"])
    if mistakes:
        _stop(root, mistakes + left)
    split_notes = [*_unlearnable(clips), *([_drawn_note(clips)] if drawn else [])]
    notes = [*_left_out(root, left), *read.notes, *unlabelled, *_overlaps(clips, stored.step)]
    notes += split_notes
    dataset = _assemble(root, clips, classes, stored, copied, window, notes)
    recordings = {
        name: video
        for split in dataset.splits.values()
        for name in split.ids
        if (video := videos.get(name) or videos[name.rpartition("#")[0]])
    }
    return replace(dataset, drawn=drawn, recordings=recordings, split_notes=tuple(split_notes))


def usable_clips(
    root: Path, clips: Sequence[Clip], features: str | Path | None
) -> tuple[list[Clip], dict[str, Path], list[str]]:
    """The clips that exist and that `avel extract` could read.

    Args:
        root: The folder.
        clips: All that its annotations name.
        features: Where `avel extract` wrote them, if not in ``root/features``.

    Returns:
        Them, where the features of each of ``clips`` are or would be, and why the others can't be
        used.
    """
    names, folder = FeatureNames(), Path(features or root / FOLDER)
    places = {c.file: stored_path(root, c.file, out=features, names=names) for c in clips}
    given_up = {
        row["file"]: row["reason"]
        for row in read_manifest(folder / MANIFEST)
        if row["status"] != STATUS_NAMES["made"]
    }
    usable, unusable = [], []
    for clip in clips:
        if file_exists(places[clip.file]):
            usable.append(clip)
        elif not file_exists(root / clip.file):
            unusable.append(f"{clip.where}: no file {clip.file!r}")
        elif clip.file in given_up:
            why = given_up[clip.file]
            unusable.append(f"{clip.where}: no features of {clip.file} could be made ({why})")
        else:
            usable.append(clip)
    return usable, places, unusable


def _left_out(root: Path, texts: Sequence[str], *, shown: int = 20) -> list[str]:
    """A note for each thing that was left out; of many for the first ones, and their number."""
    notes = [f"Left out: {text}." for text in texts[:shown]]
    if len(texts) > shown:
        more = len(texts) - shown
        notes.append(f"Left out: {more} more; `avel check {root}` names all of the annotations'.")
    return notes


def _unlabelled(root: Path, clips: Sequence[Clip]) -> list[str]:
    """Media that lie in the folder and that no annotation names."""
    known = {c.file for c in clips}
    names = (f.relative_to(root).as_posix() for f in media_files(root))
    left = [n for n in names if n not in known]
    what = "media file is" if len(left) == 1 else "media files are"
    return [f"{len(left)} {what} without labels, and left out: {some(left)}."] if left else []


def _overlaps(clips: Sequence[Clip], step: float) -> list[str]:
    """Overlapping labels, of which a model learns only one."""
    notes = []
    torn = [c.file for c in clips if _overlapping(c, step)]
    if torn:
        notes.append(
            f"Events of different classes overlap in {counted(len(torn), 'clip')} ({some(torn)}): "
            "a segment takes the one that starts later."
        )
    return notes


def _unlearnable(clips: Sequence[Clip]) -> list[str]:
    """Classes that a model can't learn from these splits, or that they can't measure."""
    notes = []
    learnt = {label for c in clips if c.split == "train" for *_, label in c.events}
    for split in SPLITS[1:]:
        lone = {label for c in clips if c.split == split for *_, label in c.events} - learnt
        if lone and learnt:
            notes.append(f"No training clip has {some(sorted(lone))}, which {split} has: no model "
                         "can learn it from these splits.")  # fmt: skip
    return notes + _missing_classes(clips, learnt)


def _missing_classes(clips: Sequence[Clip], learnt: set[str]) -> list[str]:
    """Classes of training that validation or test lack: nothing is measured of them."""
    notes = []
    for split, name in (("val", "validation"), ("test", "test")):
        of_split = [c for c in clips if c.split == split]
        lacking = learnt - {label for c in of_split for *_, label in c.events}
        if lacking and of_split:
            notes.append(f"The {name} split has no {some(sorted(lacking))}.")
    return notes


def _overlapping(clip: Clip, step: float) -> bool:
    """Whether events of different classes share half a segment or more."""
    ordered = sorted(clip.events)
    last: tuple[float, float, str] | None = None
    for event in ordered:
        if last is not None and event[2] != last[2] and last[1] - event[0] >= step / 2:
            return True
        last = event if last is None or event[1] > last[1] else last
    return False


def _stop(root: Path, mistakes: Sequence[str]) -> NoReturn:
    """Refuse a folder, with all that is wrong."""
    cure = f"avel extract {root}"
    if not os.access(root, os.W_OK):  # a folder that can only be read
        cure += " -o FEATURES, and give data.features=FEATURES"
    raise DataError(
        f"{root}: {counted(len(mistakes), 'mistake')}{listed(mistakes)}",
        expected=f"annotations.csv with {','.join(REQUIRED)}, and {', '.join(OPTIONAL)} if needed",
        hint=f"correct them; where features are missing, or of other files, run: {cure}",
    )


def gather_clips(rows: Iterable[AnnotationRow]) -> tuple[list[Clip], list[str]]:
    """Rows by file; a file or a video in two splits is a mistake."""
    by_file: dict[str, list[AnnotationRow]] = {}
    for row in rows:
        by_file.setdefault(row.file, []).append(row)
    clips, mistakes = [], []
    groups: dict[str, str] = {}
    for file, of_file in by_file.items():
        video = next((r.video for r in of_file if r.video), file)
        splits = {r.split for r in of_file}
        if len(splits) > 1 or groups.setdefault(video, of_file[0].split) not in splits:
            mistakes.append(f"{of_file[0].where}: video {video!r} stands in different splits")
        if len({r.video for r in of_file}) > 1:
            mistakes.append(f"{of_file[0].where}: file {file!r} is given to different videos")
        events = tuple((r.start, r.end, r.label) for r in of_file if r.label)
        clips.append(Clip(file, video, of_file[0].split, events, of_file[0].where))
    return clips, mistakes


@dataclass
class _Stored:
    """Features of all clips: as they were read one by one, or their rows in a pack."""

    grids: dict[str, Grid] = field(default_factory=dict)
    features: dict[str, Features] = field(default_factory=dict)
    pack: Pack | None = None
    firsts: dict[str, int] = field(default_factory=dict)
    cards: tuple[Json, Json] = ({}, {})
    step: float = 1.0
    note: str = ""
    contents: dict[str, str] = field(default_factory=dict)


def _packed(
    root: Path,
    clips: Sequence[Clip],
    places: Mapping[str, Path],
    folder: str | Path | None,
    dtype: str,
) -> _Stored:
    """The clips' rows in the folder's pack; none without a current pack of that type."""
    place = Path(folder or root / FOLDER)
    pack = open_pack(place, dtype=dtype)  # type: ignore[arg-type]
    command = f"`avel pack {root}{'' if dtype == 'float16' else f' --dtype {dtype}'}`"
    if pack is None:
        note = f"its pack is damaged, or not of {dtype}: {command}"
        return _Stored(note=note if is_packed(place) else "")
    grids, firsts, contents = {}, {}, {}
    for clip in clips:
        entry = pack.entry(place, places[clip.file])
        if entry is None:
            return _Stored(note=f"its pack is out of date: {command}")
        grids[clip.file], firsts[clip.file] = Grid(entry.duration, pack.step), entry.first
        contents[clip.file] = entry.content
    cards = (pack.audio_card, pack.visual_card)
    return _Stored(grids, {}, pack, firsts, cards, pack.step, contents=contents)


def _read_features(
    root: Path,
    clips: Sequence[Clip],
    places: Mapping[str, Path],
    folder: str | Path | None,
    dtype: str,
) -> tuple[_Stored, list[str]]:
    stored = _packed(root, clips, places, folder, dtype)
    mistakes = [] if stored.pack is not None else _read_each(clips, places, stored, dtype)
    return stored, mistakes + _replaced(root, Path(folder or root / FOLDER), stored.contents)


def _replaced(root: Path, folder: Path, contents: Mapping[str, str]) -> list[str]:
    """Clips whose file isn't the one any more that their features were made of."""
    hashes = ContentHashes(folder)
    replaced = [
        file for file, content in contents.items() if not is_current(content, root / file, hashes)
    ]
    hashes.save()
    altered = [f"{f}: features of an altered copy" for f, c in contents.items() if is_copy(c)]
    return altered + [
        f"{file}: another file now than the one its features were made of" for file in replaced
    ]


def training_files(root: Path) -> list[str]:
    """The files, relative to the folder, whose clips may be trained on: not those of test.

    Raises:
        DataError: if the annotations aren't there.
    """
    clips, _ = gather_clips(read_annotations(root, predictions=True).rows)
    return [clip.file for clip in clips if clip.trainable]


def _read_copies(
    root: Path,
    clips: Sequence[Clip],
    stored: _Stored,
    features: str | Path | None,
    dtype: str,
) -> list[_Stored]:
    """The altered copies of the clips that may be trained on.

    Raises:
        DataError: with all that is wrong with them.
    """
    folder, names = Path(features or root / FOLDER), FeatureNames()
    copied, mistakes = list[_Stored](), list[str]()
    clips = [c for c in clips if c.trainable and c.file in stored.contents]
    for number, place in enumerate(copy_folders(folder), 1):
        places = {c.file: stored_path(root, c.file, out=place, names=names) for c in clips}
        copy = _packed(root, clips, places, place, dtype)
        wrong = [] if copy.pack is not None else _read_each(clips, places, copy, dtype)
        for file, content in copy.contents.items():
            if content != copy_content(stored.contents[file], number):
                wrong.append(f"{file}: of another file, or other tracks, than its features")
        if not wrong and _kind(copy) != _kind(stored):
            wrong = ["its backbones, or its segments' length, aren't those of the features"]
        mistakes += [f"altered copy {number}: {text}" for text in wrong]
        copied.append(copy)
    if mistakes:
        cure = f"avel extract {root} {f'-o {features} ' if features else ''}--copies {len(copied)}"
        raise DataError(
            f"{root}: its altered copies don't fit its features{listed(mistakes)}",
            expected="one of each clip that may be trained on, made as its features are",
            hint=f"{cure} with the features' backbones, remove {folder / COPIES}, or give "
            "data.copies=false",
        )
    return copied


def _kind(stored: _Stored) -> tuple[object, ...]:
    """What features must have in common."""
    return stored.step, *(backbone_identity(card) for card in stored.cards)


def _read_each(
    clips: Sequence[Clip], places: Mapping[str, Path], stored: _Stored, dtype: str
) -> list[str]:
    mistakes = []
    first: Features | None = None
    for clip in clips:
        path = places[clip.file]
        if not path.is_file():
            mistakes.append(f"{clip.file}: no features ({path})")
            continue
        try:
            features = Features.load(path)
        except DataError as e:
            mistakes.append(f"{clip.file}: {e.got}")
            continue
        first = first or features
        difference = _differs(features, first)
        if difference:
            mistakes.append(f"{clip.file}: {difference} than {first.source or 'the first file'}")
            continue
        with np.errstate(over="ignore"):  # what doesn't fit becomes infinite and is named
            audio, visual = features.audio.astype(dtype), features.visual.astype(dtype)
        if not (np.isfinite(audio).all() and np.isfinite(visual).all()):
            mistakes.append(f"{clip.file}: features that {dtype} can't hold, or not finite")
        stored.features[clip.file] = replace(features, audio=audio, visual=visual)
        stored.grids[clip.file], stored.contents[clip.file] = features.grid, features.content
    if first is not None:
        stored.cards, stored.step = (first.audio_card, first.visual_card), first.grid.step
    return mistakes


def _differs(a: Features, b: Features) -> str:
    if _backbones(a) != _backbones(b):
        return "features of other backbones"
    if a.audio.shape[1:] != b.audio.shape[1:] or a.visual.shape[1:] != b.visual.shape[1:]:
        return "features of another shape"
    return "segments of another length" if a.grid.step != b.grid.step else ""


def _backbones(features: Features) -> tuple[tuple[str, str, str], ...]:
    return backbone_identity(features.audio_card), backbone_identity(features.visual_card)


def _within(
    clips: Iterable[Clip], stored: _Stored, rows: Iterable[AnnotationRow]
) -> tuple[list[Clip], list[str]]:
    """Clips without events that begin after their file's end, or end more than a segment after."""
    lines = {(row.file, row.start, row.end, row.label): row.where for row in rows}
    within, late = [], []
    for clip in clips:
        grid = stored.grids.get(clip.file)
        outside = [e for e in clip.events
               if grid and (e[0] >= grid.duration or e[1] > grid.duration + grid.step)]  # fmt: skip
        for start, end, label in outside:
            assert grid is not None
            span = f"{label!r} from {start:g} to {end:g} s"
            where = lines[clip.file, start, end, label]
            late.append(f"{where}: {span}, and {clip.file} ends at {grid.duration:g} s")
        within.append(replace(clip, events=tuple(e for e in clip.events if e not in outside)))
    return within, late


def assign_splits(
    clips: Sequence[Clip], *, seed: int = 0, partial: bool = False, whole: bool = False
) -> tuple[list[Clip], list[str]]:
    """Clips with their splits: as annotated, or 70/10/20 percent of the videos, stratified.

    Each split gets its share of the videos of every class; a class of few videos goes to training
    first (see :func:`avel.data.stratify.divide`).

    Args:
        clips: All of a folder.
        seed: Of the draw.
        partial: Whether splits may be missing: where none is named, clips of fewer than three
            videos are then all in ``test``.
        whole: Whether all clips are in ``test`` where no split is named.

    Returns:
        The clips, and what is wrong: a split named for some clips only, or left without any.
    """
    named = [c for c in clips if c.split]
    if named and len(named) < len(clips):
        without = next(c.file for c in clips if not c.split)
        return list(clips), [f"{without} and {len(clips) - len(named) - 1} more name no split"]
    videos = {c.video for c in clips}
    few = len(videos) < len(SPLITS)
    if not named and (whole or (partial and few)):
        return [replace(c, split="test") for c in clips], []
    if not named:
        split_of = _drawn_splits(clips, seed)
        clips = [replace(c, split=split_of[c.video]) for c in clips]
    present = {c.split for c in clips}
    lacking = [] if partial else [s for s in SPLITS if s not in present]
    if lacking and few:
        count = f"{counted(len(clips), 'clip')} of {counted(len(videos), 'video')}"
        return list(clips), [
            f"{count}: three videos are needed at least, for training, validation and test"
        ]
    return list(clips), [f"no clip in split {s!r}" for s in lacking]


def _drawn_splits(clips: Sequence[Clip], seed: int) -> dict[str, str]:
    """The split of each video, drawn by class over the videos."""
    classes_of: dict[str, set[str]] = {}
    for clip in clips:
        classes_of.setdefault(clip.video, set()).update(label for *_, label in clip.events)
    videos = sorted(classes_of)  # the draw doesn't depend on the order of the rows
    classes = sorted(set().union(*classes_of.values()))
    has_class = np.array([[c in classes_of[v] for c in classes] for v in videos], dtype=bool)
    n = len(videos)
    val = max(1, round(SHARES[1] * n)) if n > 1 else 0
    test = max(1, round(SHARES[2] * n)) if n > 2 else 0
    has_class = has_class.reshape(n, len(classes))
    parts = divide(has_class, (n - val - test, val, test), np.random.default_rng(seed), exact=True)
    return {video: SPLITS[part] for video, part in zip(videos, parts, strict=True)}


def _drawn_note(clips: Sequence[Clip]) -> str:
    """How the clips were divided, in files."""
    counts = {s: sum(c.split == s for c in clips) for s in SPLITS}
    sizes = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
    if {c.split for c in clips} == {"test"}:
        return f"No split is named: all {counted(len(clips), 'file')} are in test."
    return (
        f"No split is named: the {counted(len(clips), 'file')} were divided by class "
        f"({sizes} files)."
    )


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
    root: Path,
    clips: Sequence[Clip],
    classes: tuple[str, ...],
    stored: _Stored,
    copied: Sequence[_Stored],
    window: int,
    notes: Sequence[str],
) -> Dataset:
    present = {c.split for c in clips}
    splits = {
        s: _split(s, [c for c in clips if c.split == s], classes, stored, copied, window)
        for s in SPLITS
        if s in present
    }
    events = sum(len(c.events) for c in clips)
    lost = sum(_lost(c, stored) for c in clips)
    note = f"{len(clips)} files of {root.name} with {events} events"
    note += f"; {lost} too short to fill half of a segment" if lost else ""
    if (root / TOYBOX_CARD).is_file():
        note += "; Toybox: drawn things with synthetic sounds"
    if (root / COMPOSER_CARD).is_file():
        note += "; composed of recordings and photographs that were never filmed together"
    note += f"; {stored.note}" if stored.note else ""
    note += f"; altered copies of each training clip: {len(copied)}" if copied else ""
    return Dataset(
        name=root.resolve().name, classes=classes, splits=splits, audio_card=stored.cards[0],
        visual_card=stored.cards[1], note=note, step=stored.step, origin=origin_of(root),
        notes=tuple(notes),
    )  # fmt: skip


def _lost(clip: Clip, stored: _Stored) -> int:
    count = len(stored.grids[clip.file])
    return sum(not any(clock.event_labels(s, e, count, stored.step)) for s, e, _ in clip.events)


def _split(
    name: str, clips: Sequence[Clip], classes: tuple[str, ...], stored: _Stored,
    copied: Sequence[_Stored], window: int,
) -> Split:  # fmt: skip
    """Windows of the clips, padded with zeros (labels with -1) to the longest."""
    windows = [(c, s) for c in clips for s in range(0, len(stored.grids[c.file]), window)]
    lengths = np.array([min(window, len(stored.grids[c.file]) - s) for c, s in windows])
    labels = np.full((len(windows), int(lengths.max())), -1, dtype=np.int64)
    for i, (clip, s) in enumerate(windows):
        whole = segment_labels(clip.events, classes, len(stored.grids[clip.file]), stored.step)
        labels[i, : lengths[i]] = whole[s : s + lengths[i]]
    ids = [c.file if len(stored.grids[c.file]) <= window else f"{c.file}#{s}" for c, s in windows]
    places = [(c.file, s) for c, s in windows]
    audio, visual = _windows(places, lengths, stored)
    copies = tuple(
        Copy(*_windows(places, lengths, copy))
        for copy in copied
        if all(clip.file in copy.contents for clip in clips)
    )
    return Split(name, tuple(ids), audio, visual, lengths.astype(np.int64), labels, copies=copies)


def _windows(
    places: Sequence[tuple[str, int]], lengths: NDArray[np.int64], stored: _Stored
) -> tuple[Any, Any]:
    """Arrays (N, T, …) of the windows that begin at some segments of some files."""
    if stored.pack is not None:
        firsts = np.array([stored.firsts[file] + s for file, s in places])
        return tuple(Windows(a, firsts, lengths) for a in (stored.pack.audio, stored.pack.visual))  # type: ignore[return-value]
    sample = stored.features[places[0][0]]
    shape = (len(places), int(lengths.max()))
    audio, visual = (
        np.zeros((*shape, *a.shape[1:]), dtype=a.dtype) for a in (sample.audio, sample.visual)
    )
    for i, (file, s) in enumerate(places):
        features, n = stored.features[file], int(lengths[i])
        audio[i, :n], visual[i, :n] = features.audio[s : s + n], features.visual[s : s + n]
    return audio, visual
