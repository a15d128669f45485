"""All that is to know of a person's own folder before training: counts, lengths, problems."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from difflib import SequenceMatcher
from pathlib import Path
from statistics import median
from typing import Literal, TypeAlias

from avel.backbones.identity import backbone_identity, backbone_name
from avel.data.annotations import SPLITS, AnnotationRow, read_annotations, some
from avel.data.base import Dataset
from avel.data.folder import Clip, assign_splits, gather_clips, usable_clips
from avel.errors import AvelError, counted
from avel.features.content_hashes import ContentHashes, is_current
from avel.features.listing import media_files
from avel.features.store import (
    FOLDER,
    FeatureNames,
    copy_content,
    copy_folders,
    header,
    stored_path,
)
from avel.files import file_exists
from avel.media.probe import probe
from avel.types import Json

#: ``error``: training refuses the folder; ``left out``: it goes on without that row or file;
#: ``warning``: it goes on with it.
Level: TypeAlias = Literal["error", "left out", "warning"]
#: A class of fewer files can't be in all splits.
FEWEST_FILES = 3
#: From this similarity on, a rare class may be a misspelt frequent one.
_ALIKE = 0.85


@dataclass(frozen=True)
class Problem:
    """Something wrong with a folder.

    Args:
        level: What training does about it.
        where: File and line, or the file; "" where it is of the whole.
        text: What is wrong, and what may be meant.
    """

    level: Level
    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}" if self.where else self.text


@dataclass(frozen=True)
class ClassCounts:
    """One class of a folder.

    Args:
        name: Of the class.
        files, events: With it, and of it.
        seconds: Of all its events.
        median: Seconds of an event.
        splits: Files with it, by split.
    """

    name: str
    files: int
    events: int
    seconds: float
    median: float
    splits: Mapping[str, int]


@dataclass(frozen=True)
class FolderCheck:
    """What :func:`check_folder` finds.

    Args:
        folder: As given.
        files: Annotated files.
        events: Annotated events.
        seconds: Length of the files whose length is known.
        background: Share of those seconds in which no event is annotated; None where no length is
            known.
        drawn: Whether the splits are drawn, not named.
        splits: Files by split.
        classes: In the order in which they first appear.
        problems: Errors first.
    """

    folder: str
    files: int
    events: int
    seconds: float
    background: float | None
    drawn: bool
    splits: Mapping[str, int]
    classes: tuple[ClassCounts, ...]
    problems: tuple[Problem, ...] = field(repr=False)

    @property
    def usable(self) -> bool:
        """Whether training takes the folder as it is, with all that lies in it."""
        return not any(p.level != "warning" for p in self.problems)

    def summary(self) -> str:
        """One line."""
        text = (
            f"{self.folder}: {counted(self.events, 'event')} of "
            f"{counted(len(self.classes), 'class', 'classes')} in "
            f"{counted(self.files, 'file')}"
        )
        if self.background is not None:
            text += f" of {_minutes(self.seconds)}, {100 * self.background:.0f} % background"
        count = Counter(p.level for p in self.problems)
        parts = [counted(count["error"], "error")] if count["error"] else []
        parts += [f"{count['left out']} left out"] if count["left out"] else []
        parts += [counted(count["warning"], "warning")] if count["warning"] else []
        return f"{text}; {', '.join(parts) or 'no problem'}"

    def __str__(self) -> str:
        lines = [self.summary()]
        if self.splits:
            how = "drawn by class" if self.drawn else "named"
            lines.append(f"  splits ({how}), files: " + _splits(self.splits))
        if self.classes:
            names = [s for s in SPLITS if s in self.splits]
            width = max(5, *(len(c.name) for c in self.classes)) + 2
            head = ("files", "events", "seconds", "median", *names)
            lines.append(f"  {'class':{width}}" + "".join(f"{h:>9}" for h in head))
            for c in self.classes:
                cells = [c.files, c.events, f"{c.seconds:.1f}", f"{c.median:.1f}"]
                cells += [c.splits.get(s, 0) for s in names]
                lines.append(f"  {c.name:{width}}" + "".join(f"{cell!s:>9}" for cell in cells))
        return "\n".join([*lines, *(f"  {p.level:<10}{p}" for p in self.problems)])

    def to_json(self) -> Json:
        """Everything as plain data."""
        return {**asdict(self), "usable": self.usable}


def check_folder(
    root: Path, *, features: str | Path | None = None, quick: bool = False
) -> FolderCheck:
    """Check a person's own folder: its labels, its media and its features.

    Args:
        root: The folder.
        features: Where `avel extract` wrote them, if not in ``root/features``.
        quick: Whether only the labels are read, no media and no features.

    Raises:
        DataError: if the folder or its annotations aren't there.
    """
    annotations = read_annotations(root)
    clips, mistakes = gather_clips(annotations.rows)
    clips, places, unusable = usable_clips(root, clips, features)
    problems = [_split_where("error", text) for text in annotations.mistakes + mistakes]
    problems += [_split_where("left out", text) for text in annotations.left_out + unusable]
    durations: dict[str, float] = {}
    if not quick:
        durations, unreadable = _durations(root, clips, places, Path(features or root / FOLDER))
        problems += unreadable
    files = {c.file for c in clips}
    rows = [row for row in annotations.rows if row.file in files]
    problems += _late(rows, durations)
    drawn = not any(c.split for c in clips)
    clips, wrong = assign_splits(clips, partial=True)
    problems += [Problem("error", "", text) for text in wrong]
    lacking = (
        [s for s in SPLITS if s not in {c.split for c in clips}] if clips and not wrong else []
    )
    if lacking:
        text = f"no clip is in {' or '.join(lacking)}: enough for `avel evaluate`, not for training"
        problems.append(Problem("warning", "", text))
    problems += [Problem("warning", "", text) for text in annotations.notes]
    problems += [*_repeated(rows), *_typos(rows), *_few(clips)]
    labelled = {row.file for row in annotations.rows}
    names = (f.relative_to(root).as_posix() for f in media_files(root))
    text = "media file without labels, and left out"
    problems += [Problem("warning", name, text) for name in names if name not in labelled]
    if not any(row.label for row in rows):
        problems.append(Problem("error", "", "no row has a label"))
    order: tuple[Level, ...] = ("error", "left out", "warning")
    counts = Counter(c.split for c in clips if c.split)
    return FolderCheck(
        folder=str(root), files=len(clips), events=sum(bool(r.label) for r in rows),
        seconds=sum(durations.values()), background=_background(clips, durations), drawn=drawn,
        splits={s: counts[s] for s in SPLITS if counts[s]}, classes=tuple(_classes(clips)),
        problems=tuple(sorted(problems, key=lambda p: order.index(p.level))),
    )  # fmt: skip


def dataset_summary(data: Dataset) -> str:
    """A line on a data set that is trained on: files, excerpts, classes, background."""
    excerpts = sum(len(s) for s in data.splits.values())
    names = {clip for s in data.splits.values() for clip in s.ids}
    files = {clip.rpartition("#")[0] or clip for clip in names}
    segments = sum(int((s.labels >= 0).sum()) for s in data.splits.values())
    background = sum(int((s.labels == len(data.classes)).sum()) for s in data.splits.values())
    copies = len(data.splits["train"].copies) if "train" in data.splits else 0
    of = counted(excerpts, "excerpt")
    sizes = _splits({name: len(s) for name, s in data.splits.items()})
    return (
        f"{data.name}: {counted(len(files), 'file')}, {of} ({sizes}), "
        f"{counted(len(data.classes), 'class', 'classes')}, "
        f"{100 * background / max(1, segments):.0f} % of the segments are background"
        + (f"; altered copies of each training clip: {copies}" if copies else "")
    )


def _splits(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _split_where(level: Level, text: str) -> Problem:
    """A message of the readers, ``file:line: what``, in its parts."""
    where, colon, rest = text.partition(": ")
    return Problem(level, where, rest) if colon else Problem(level, "", text)


def _durations(
    root: Path, clips: Sequence[Clip], places: Mapping[str, Path], folder: Path
) -> tuple[dict[str, float], list[Problem]]:
    """Seconds of each file by its features' header or its media, and what is wrong with either."""
    durations: dict[str, float] = {}
    problems: list[Problem] = []
    missing: list[str] = []
    contents: dict[str, str] = {}
    first: Json = {}
    hashes = ContentHashes(folder)
    for clip in clips:
        meta = header(places[clip.file]) if file_exists(places[clip.file]) else None
        if meta:
            first = first or meta
            durations[clip.file] = float(meta.get("duration", 0.0))
            contents[clip.file] = str(meta.get("content", ""))
            if not is_current(contents[clip.file], root / clip.file, hashes):
                text = "its features are of another file that had its name: extract them again"
                problems.append(Problem("error", clip.file, text))
            problems += [Problem("error", clip.file, text) for text in _unlike(meta, first)]
            continue
        if meta is not None:
            problems.append(Problem("error", clip.file, "its features can't be read"))
        else:
            missing.append(clip.file)
        try:
            durations[clip.file] = probe(root / clip.file, audio_track=None, video_track=None)[0]
        except AvelError as e:
            problems.append(Problem("error", clip.file, e.got))
    hashes.save()
    if len(missing) == len(clips) and missing:
        problems.append(Problem("warning", "", f"no file has features yet: avel extract {root}"))
    else:
        text = f"no features: avel extract {root}"
        problems += [Problem("error", file, text) for file in missing]
    problems += _altered(root, clips, contents, folder, first)
    return durations, [*problems, *_copies(clips, contents)]


def _altered(
    root: Path, clips: Sequence[Clip], contents: Mapping[str, str], folder: Path, first: Json
) -> Iterator[Problem]:
    """Altered copies that don't fit the features."""
    names = FeatureNames()
    learnt = [c.file for c in clips if c.trainable and c.file in contents]
    for number, place in enumerate(copy_folders(folder), 1):
        metas = {f: header(stored_path(root, f, out=place, names=names)) for f in learnt}
        wrong = [
            file for file, meta in metas.items()
            if meta.get("content") != copy_content(contents[file], number)
            or next(_unlike(meta, first), None)
        ]  # fmt: skip
        if wrong:
            text = f"altered copy {number} isn't of the features of {some(wrong)}: make it again "
            text += f"(avel extract {root} --copies {number}), or give data.copies=false"
            yield Problem("error", "", text)


def _unlike(meta: Json, first: Json) -> Iterator[str]:
    """How features differ from the first file's."""
    for card in ("audio_card", "visual_card"):
        if backbone_identity(meta.get(card, {})) != backbone_identity(first.get(card, {})):
            ours, theirs = backbone_name(meta.get(card, {})), backbone_name(first.get(card, {}))
            yield f"its features are of {ours}, those of the first file of {theirs}"
    if meta.get("step") != first.get("step"):
        yield f"segments of {meta.get('step')} s, those of the first file of {first.get('step')} s"


def _copies(clips: Sequence[Clip], contents: Mapping[str, str]) -> Iterator[Problem]:
    """Files with the bytes of another one."""
    seen: dict[str, Clip] = {}
    for clip in clips:
        content = contents.get(clip.file, "")
        if content and content in seen:
            yield Problem("warning", clip.file, f"the same file as {seen[content].file}")
        elif content:
            seen[content] = clip


def _late(rows: Iterable[AnnotationRow], durations: Mapping[str, float]) -> Iterator[Problem]:
    """Events that training leaves out because they lie past their file's end."""
    for row in rows:
        end = durations.get(row.file, 0.0)
        if row.label and end and (row.start >= end or row.end > end + 1.0):
            text = f"{row.label!r} from {row.start:g} to {row.end:g} s, and {row.file} ends at"
            yield Problem("left out", row.where, f"{text} {end:g} s")


def _repeated(rows: Iterable[AnnotationRow]) -> Iterator[Problem]:
    """Events that are annotated twice, or overlap another one."""
    by_file: dict[str, list[AnnotationRow]] = defaultdict(list)
    for row in rows:
        if row.label:
            by_file[row.file].append(row)
    for of_file in by_file.values():
        ordered = sorted(of_file, key=lambda r: (r.start, r.end))
        last: AnnotationRow | None = None
        for row in ordered:
            if last is not None and row.start < last.end:
                yield Problem("warning", row.where, _overlap(row, last))
            last = row if last is None or row.end > last.end else last


def _overlap(row: AnnotationRow, last: AnnotationRow) -> str:
    if (row.start, row.end, row.label) == (last.start, last.end, last.label):
        return f"{row.label!r} again, the same event as in {last.where}"
    what = f"{row.label!r} from {row.start:g} s overlaps {last.label!r} of {last.where}"
    return what if row.label == last.label else f"{what}: a segment takes the one that starts later"


def _typos(rows: Sequence[AnnotationRow]) -> Iterator[Problem]:
    """Rare classes that are written almost like a more frequent one."""
    counts = Counter(row.label for row in rows if row.label)
    first = {row.label: row.where for row in reversed(rows)}
    ranked = [name for name, _ in counts.most_common()]
    for i, name in enumerate(ranked):
        for other in ranked[:i]:
            if _alike(name, other, counts):
                text = f"class {name!r} ({counts[name]}) may be {other!r} ({counts[other]})"
                yield Problem("warning", first[name], text)
                break


def _alike(name: str, other: str, counts: Mapping[str, int]) -> bool:
    plain = [_plain(n) for n in (name, other)]
    if plain[0] == plain[1]:
        return True
    rare = min(map(len, plain)) >= 4 and counts[name] * 5 <= counts[other]
    return rare and SequenceMatcher(None, plain[0], plain[1]).ratio() >= _ALIKE


def _plain(name: str) -> str:
    """A class's name without case, signs and the plural's s."""
    return re.sub(r"[\W_]+", "", name.casefold()).removesuffix("s")


def _few(clips: Sequence[Clip]) -> Iterator[Problem]:
    """Classes that a split lacks, or that have too few files to be in every one."""
    by_class: dict[str, Counter[str]] = defaultdict(Counter)
    present = {c.split for c in clips if c.split}
    for clip in clips:
        for name in {label for *_, label in clip.events}:
            by_class[name][clip.split] += 1
    for split in (s for s in SPLITS if s in present):
        lacking = [name for name, count in by_class.items() if not count[split]]
        if lacking:
            yield Problem("warning", "", f"the {split} split has no {some(lacking, shown=20)}")
    few = [name for name, count in by_class.items() if count.total() < FEWEST_FILES]
    if few:
        text = f"fewer than {FEWEST_FILES} files have {some(few, shown=20)}"
        yield Problem("warning", "", text)


def _classes(clips: Sequence[Clip]) -> Iterator[ClassCounts]:
    lengths: dict[str, list[float]] = defaultdict(list)
    splits: dict[str, Counter[str]] = defaultdict(Counter)
    for clip in clips:
        for start, end, label in clip.events:
            lengths[label].append(end - start)
        for label in {label for *_, label in clip.events}:
            splits[label][clip.split] += 1
    for name, seconds in lengths.items():
        yield ClassCounts(
            name, splits[name].total(), len(seconds), round(sum(seconds), 3),
            round(median(seconds), 3), dict(splits[name]),
        )  # fmt: skip


def _background(clips: Sequence[Clip], durations: Mapping[str, float]) -> float | None:
    """The share of the files' seconds that no event covers."""
    total = sum(durations.values())
    if not total:
        return None
    covered = sum(_covered(c, durations[c.file]) for c in clips if c.file in durations)
    return 1 - covered / total


def _covered(clip: Clip, duration: float) -> float:
    seconds, reached = 0.0, 0.0
    for start, end, _ in sorted(clip.events):
        start, end = max(start, reached), min(end, duration)
        seconds += max(0.0, end - start)
        reached = max(reached, end)
    return seconds
