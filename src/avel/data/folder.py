"""A person's own clips: a folder of media files with `annotations.csv` or AVE-style text.

The features are those that `avel extract DIR` wrote; labels are made from the annotations.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from avel import clock
from avel.data.base import Dataset, Split, backbone_identity
from avel.errors import DataError
from avel.features.store import feature_path
from avel.types import BACKGROUND, Features, Json

REQUIRED = ("file", "start", "end", "label")
OPTIONAL = ("split", "video")
SPLITS = ("train", "val", "test")
#: Shares of the files that train, val and test take where the annotations name no split.
SHARES = (0.7, 0.1, 0.2)
#: An annotation file above this size isn't read: 64 MiB is about a million events.
LARGEST = 64 * 2**20
_TEXTS = (
    ("train", "trainSet.txt"),
    ("val", "valSet.txt"),
    ("test", "testSet.txt"),
    ("", "Annotations.txt"),
)
_MEDIA = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".mpg", ".ts", ".flv", ".ogv", ".mp3",
          ".wav", ".flac", ".ogg", ".m4a")  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One line of an annotation file: an event, or a clip without one (``label`` empty).

    Args:
        file: The clip, relative to the folder, with ``/``.
        start, end: Seconds; 0 and 0 where there is no event.
        label: Class name, or "".
        split: ``train``, ``val``, ``test`` or "".
        video: Clips of one video never stand in different splits; "" for the file itself.
        where: File and line, for messages.
    """

    file: str
    start: float
    end: float
    label: str
    split: str
    video: str
    where: str


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
    clips, more = assign_splits(clips, seed=seed)
    classes = tuple(dict.fromkeys(row.label for row in rows if row.label))
    _stop(root, mistakes + more + ([] if classes else ["no row has a label"]))
    return _assemble(root, clips, classes, held, window)


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


def read_rows(root: Path) -> tuple[list[Row], list[str]]:
    """The rows of a folder's annotations, and what is wrong with those that couldn't be read.

    Raises:
        DataError: if the folder or its annotations aren't there.
    """
    if not root.is_dir():
        raise DataError(f"{root} is no folder", do="give the folder that holds your clips")
    table = root / "annotations.csv"
    if table.is_file():
        return _read_csv(table)
    rows: list[Row] = []
    mistakes: list[str] = []
    for split, name in _TEXTS:
        if (root / name).is_file() and (split or not rows):
            more, wrong = _read_text(root, root / name, split)
            rows, mistakes = rows + more, mistakes + wrong
    if not rows and not mistakes:
        raise DataError(
            f"{root} holds no annotations",
            wanted="annotations.csv, or AVE-style Annotations.txt",
            do=f"write annotations.csv with the columns {','.join(REQUIRED)}, a row an event",
        )
    return rows, mistakes


def _text_of(path: Path) -> str:
    if path.stat().st_size > LARGEST:
        raise DataError(
            f"{path} has {path.stat().st_size} bytes", wanted=f"at most {LARGEST}", do="split it"
        )
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise DataError(f"{path} isn't UTF-8 ({e})", do="save it as UTF-8") from e


def _read_csv(path: Path) -> tuple[list[Row], list[str]]:
    reader = csv.reader(io.StringIO(_text_of(path), newline=""))
    try:
        lines = [
            (reader.line_num, [c.strip() for c in line])
            for line in reader
            if any(map(str.strip, line))
        ]
    except csv.Error as e:
        return [], [f"{path.name}:{reader.line_num}: {e}"]
    header = [name.lower() for name in lines[0][1]] if lines else []
    mistakes = _check_header(path.name, header)
    if mistakes:
        return [], mistakes
    rows: list[Row] = []
    for number, cells in lines[1:]:
        where = f"{path.name}:{number}"
        if len(cells) != len(header):
            mistakes.append(f"{where}: {len(cells)} columns, the first line has {len(header)}")
            continue
        row, wrong = _csv_row(dict(zip(header, cells, strict=True)), where)
        mistakes += wrong
        rows += [] if wrong else [row]
    return rows, mistakes or ([] if rows else [f"{path.name} holds no rows"])


def _check_header(name: str, header: Sequence[str]) -> list[str]:
    known = (*REQUIRED, *OPTIONAL)
    mistakes = [f"{name}: column {c!r} is missing" for c in REQUIRED if c not in header]
    for column in header:
        if column not in known:
            near = get_close_matches(column, known, n=1)
            hint = f": did you mean {near[0]}?" if near else f" (known: {', '.join(known)})"
            mistakes.append(f"{name}: unknown column {column!r}{hint}")
    mistakes += [f"{name}: column {c!r} stands twice" for c in known if header.count(c) > 1]
    return mistakes


def _csv_row(cells: dict[str, str], where: str) -> tuple[Row, list[str]]:
    times = [cells["start"], cells["end"]]
    empty = not cells["label"] and not any(times)
    start, end, wrong = (0.0, 0.0, []) if empty else _times(*times)
    wrong += _check_file(cells["file"])
    if not empty and not cells["label"]:
        wrong.append("times without a label")
    if cells["label"].lower() == BACKGROUND:
        wrong.append("background is no event: leave start, end and label empty")
    split = cells.get("split", "").lower()
    if split and split not in SPLITS:
        near = get_close_matches(split, SPLITS, n=1)
        wrong.append(f"split {split!r}: wanted {', '.join(SPLITS)}" + f" ({near[0]}?)" * bool(near))
    row = Row(
        PurePosixPath(cells["file"].replace("\\", "/")).as_posix(),
        start, end, cells["label"], split, cells.get("video", ""), where,
    )  # fmt: skip
    return row, [f"{where}: {w}" for w in wrong]


def _times(start: str, end: str) -> tuple[float, float, list[str]]:
    wrong = []
    values = []
    for name, text in (("start", start), ("end", end)):
        try:
            values.append(clock.parse_time(text))
        except ValueError:
            wrong.append(f"{name} {text[:40]!r} is no time (seconds or minutes:seconds)")
    if not wrong and values[1] <= values[0]:
        wrong.append(f"end {end} isn't after start {start}")
    return (*values, wrong) if len(values) == 2 else (0.0, 0.0, wrong)  # type: ignore[return-value]


def _check_file(file: str) -> list[str]:
    path = PurePosixPath(file.replace("\\", "/"))
    if not file:
        return ["no file"]
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0] or "\0" in file:
        return [f"file {file!r}: wanted a path inside the folder"]
    return []


def _read_text(root: Path, path: Path, split: str) -> tuple[list[Row], list[str]]:
    """AVE's form ``Category&VideoID&Quality&Start&End``, with or without its header line."""
    rows, mistakes = [], []
    for number, line in enumerate(_text_of(path).splitlines(), start=1):
        cells = [c.strip() for c in line.split("&")]
        where = f"{path.name}:{number}"
        if not line.strip() or (number == 1 and cells[0].lower() == "category"):
            continue
        if len(cells) != 5:
            mistakes.append(f"{where}: wanted Category&VideoID&Quality&StartTime&EndTime")
            continue
        label, video, _, start, end = cells
        empty = start == end  # AVE itself has one: an event of no length
        first, last, wrong = (0.0, 0.0, []) if empty else _times(start, end)
        wrong += _check_file(video)
        mistakes += [f"{where}: {w}" for w in wrong]
        if not wrong:
            file = _file_of(root, video)
            rows.append(Row(file, first, last, "" if empty else label, split, "", where))
    return rows, mistakes


def _file_of(root: Path, video: str) -> str:
    """The media file of a video id: in the folder itself, or in ``videos`` or ``AVE`` below it."""
    for folder in ("", "videos/", "AVE/"):
        for ending in ("", *_MEDIA):
            if (root / f"{folder}{video}{ending}").is_file():
                return f"{folder}{video}{ending}"
    return f"{video}.mp4"


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
    """Features of all clips, as stored."""

    features: dict[str, Features]
    cards: tuple[Json, Json] = ({}, {})
    step: float = 1.0


def _read_features(
    root: Path, clips: Sequence[Clip], folder: str | Path | None, dtype: str
) -> tuple[_Held, list[str]]:
    held, mistakes = _Held({}), []
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
        found = held.features.get(clip.file)
        for start, end, label in clip.events if found else ():
            assert found is not None
            if start >= found.grid.duration or end > found.grid.duration + found.grid.step:
                span = f"{label!r} from {start:g} to {end:g} s"
                mistakes.append(f"{clip.file}: {span}, the file ends at {found.grid.duration:g} s")
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
    return Dataset(
        name=_name(root), classes=classes, splits=splits, audio_card=held.cards[0],
        visual_card=held.cards[1], note=note, step=held.step,
    )  # fmt: skip


def _name(root: Path) -> str:
    """The name that ``dataset.json`` gives the folder (as Toybox does), or the folder's own."""
    described = root / "dataset.json"
    if described.is_file() and described.stat().st_size < 2**20:
        try:
            return str(json.loads(described.read_text("utf-8"))["name"])[:100]
        except (ValueError, KeyError, TypeError):
            return root.resolve().name
    return root.resolve().name


def _lost(clip: Clip, held: _Held) -> int:
    count = len(held.features[clip.file])
    return sum(not any(clock.event_labels(s, e, count, held.step)) for s, e, _ in clip.events)


def _split(
    name: str, clips: Sequence[Clip], classes: tuple[str, ...], held: _Held, window: int
) -> Split:
    """Windows of the clips, padded with zeros (labels with -1) to the longest."""
    cut = [(c, s) for c in clips for s in range(0, len(held.features[c.file]), window)]
    lengths = np.array([min(window, len(held.features[c.file]) - s) for c, s in cut])
    t = int(lengths.max())
    sample = held.features[cut[0][0].file]
    audio = np.zeros((len(cut), t, *sample.audio.shape[1:]), dtype=sample.audio.dtype)
    visual = np.zeros((len(cut), t, *sample.visual.shape[1:]), dtype=sample.visual.dtype)
    labels = np.full((len(cut), t), -1, dtype=np.int64)
    for i, (clip, s) in enumerate(cut):
        found, n = held.features[clip.file], int(lengths[i])
        audio[i, :n], visual[i, :n] = found.audio[s : s + n], found.visual[s : s + n]
        own = segment_labels(clip.events, classes, len(found), held.step)
        labels[i, :n] = own[s : s + n]
    ids = [c.file if len(held.features[c.file]) <= window else f"{c.file}#{s}" for c, s in cut]
    return Split(name, tuple(ids), audio, visual, lengths.astype(np.int64), labels)
