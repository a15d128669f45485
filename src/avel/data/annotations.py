"""Annotations of a folder: a table of all clips, text in AVE's form, or a label file a clip."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

from avel import clock
from avel.errors import DataError, counted
from avel.features.store import FOLDER
from avel.files import MEDIA_ENDINGS, SOUND_ENDINGS, file_exists, is_media
from avel.formats import ending_of, format_endings, on_file, read, read_all
from avel.formats.reading import text_of
from avel.formats.tables import label_and_modality, label_in, read_table, row_of
from avel.media.probe import player_start_of
from avel.types import BACKGROUND, MODALITIES, Timeline

REQUIRED = ("file", "start", "end", "label")
OPTIONAL = ("split", "video")
#: A table's columns that are left out: labels have no score, and the rest is DCASE's.
_IGNORED = ("score", "scene", "identifier", "modality")
#: Tables that hold all clips, in the order in which they are looked for.
TABLES = ("annotations.csv", "annotations.tsv")
SPLITS = ("train", "val", "test")
#: What others call the splits.
_SPLITS = {"training": "train", "validation": "val", "valid": "val", "dev": "val",
           "testing": "test"}  # fmt: skip
_NO_EVENT = "background is no event: the clip counts, without it"
#: An annotation file above this size isn't read: 64 MiB is about a million events.
LARGEST = 64 * 2**20
#: What `avel serve --data` writes about the files that it added; no labels.
SERVE_MARK = "made-by-avel-serve.txt"
#: Files of AVE's form, with the split of their clips.
TEXTS = (
    ("train", "trainSet.txt"),
    ("val", "valSet.txt"),
    ("test", "testSet.txt"),
    ("", "Annotations.txt"),
)
#: In the order in which a file of a stem is looked for: pictures with sound first.
_ENDINGS = (".mp4", *sorted(MEDIA_ENDINGS - SOUND_ENDINGS - {".mp4"}), *sorted(SOUND_ENDINGS))


@dataclass(frozen=True)
class AnnotationRow:
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


@dataclass
class Annotations:
    """What a folder's annotations say.

    Args:
        rows: All rows that could be read.
        mistakes: What is wrong with the whole: a table's header, say.
        left_out: The other rows and label files, with file and line, and what is wrong with each.
        notes: What else was left out, a sentence each.
    """

    rows: list[AnnotationRow] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_annotations(root: Path, *, predictions: bool = False) -> Annotations:
    """The annotations of a folder.

    Args:
        root: The folder.
        predictions: Whether predictions of a model that nobody corrected are taken as truth too.

    Raises:
        DataError: if the folder or its annotations aren't there, or all of them are predictions.
    """
    if not root.is_dir():
        raise DataError(
            f"there is no folder {root}" if not root.exists() else f"{root} is no folder",
            hint="give the folder of your clips",
        )
    annotations = _read(root, predictions=predictions)
    empty = not (annotations.rows or annotations.mistakes or annotations.left_out)
    if empty and annotations.notes:
        raise DataError(
            f"{root} has no labels that a person made or corrected"
            + "".join(f"\n    {note}" for note in annotations.notes),
            hint="correct some of them, or give data.predictions=true",
        )
    if empty:
        raise DataError(
            f"{root} has no annotations",
            expected="annotations.csv or .tsv, AVE-style Annotations.txt, or a label file beside "
            "each clip (clip.eaf, clip.vtt, clip.txt…)",
            hint=f"write annotations.csv with the columns {','.join(REQUIRED)}, a row an event",
        )
    return annotations


def _read(root: Path, *, predictions: bool) -> Annotations:
    for name in TABLES:
        if (root / name).is_file():
            return _read_table(root / name, root, predictions=predictions)
    annotations = Annotations()
    for split, name in TEXTS:
        if (root / name).is_file() and (split or not annotations.rows):
            _read_text(root, root / name, split, annotations)
    if not annotations.rows and not annotations.left_out:
        _read_label_files(root, annotations, predictions=predictions)
    return annotations


def _read_table(path: Path, root: Path, *, predictions: bool) -> Annotations:
    """Rows of a .csv, or of a .tsv in DCASE's form, where names may lack their folder."""
    dcase, annotations = path.suffix == ".tsv", Annotations()
    try:
        header, table = read_table(text_of(path, LARGEST))
    except ValueError as e:
        annotations.mistakes.append(f"{path.name}: {e}")
        return annotations
    annotations.mistakes += header_mistakes(path.name, header)
    if annotations.mistakes:
        return annotations
    names: dict[str, str] = {}
    for number, cells in table:
        where = f"{path.name}:{number}"
        try:
            values = row_of(cells, header)
            label, modality = label_and_modality(values, coded=dcase)
            if modality not in MODALITIES:
                known = ", ".join(MODALITIES)
                raise ValueError(f"modality {modality[:40]!r}: expected one of {known}")
            values = {k: label_in(c, coded=dcase) for k, c in values.items()} | {"label": label}
            if modality != "both":  # what is only audible or visible is no event
                values |= {"start": "", "end": "", "label": ""}
        except ValueError as e:
            annotations.left_out.append(f"{where}: {e}")
            continue
        values = {k: c.strip() for k, c in values.items()}
        if _is_background(values["label"]):
            annotations.left_out.append(f"{where}: {_NO_EVENT}")
            values |= {"start": "", "end": "", "label": ""}
        row, wrong = _csv_row(values, where, root)
        annotations.left_out += wrong
        if not wrong:
            if row.file not in names:
                names[row.file] = table_file(root, row.file, dcase=dcase)
            annotations.rows.append(replace(row, file=names[row.file]))
    if not annotations.rows and not annotations.left_out:
        annotations.mistakes.append(f"{path.name} has no rows")
    if annotations.rows and not predictions:
        _leave_predictions(path, root, annotations)
    return annotations


def table_file(root: Path, file: str, *, dcase: bool) -> str:
    """The file within the folder that a row's file names; in DCASE's form it may lack its folder.

    Args:
        root: The folder.
        file: As :func:`path_inside` gives it.
        dcase: Whether the table is in DCASE's form.
    """
    return _file_of(root, file) if dcase and not file_exists(root / file) else file


def _leave_predictions(path: Path, root: Path, annotations: Annotations) -> None:
    """Leave out the clips of a table whose rows are predictions that nobody corrected."""
    try:
        predicted = {t.video for t in read_all(path) if t.predicted}
    except DataError:
        return
    files = {path_inside(root, v) or v for v in predicted} | {_file_of(root, v) for v in predicted}
    rows = [row for row in annotations.rows if row.file not in files]
    if predicted and len(rows) < len(annotations.rows):
        annotations.rows = rows
        annotations.notes.append(_predictions_note(sorted(predicted), path.name))


def _predictions_note(clips: Sequence[str], where: str) -> str:
    return (
        f"{counted(len(clips), 'clip')} of {where} left out: their labels are predictions of a "
        f"model that nobody corrected ({some(clips)}). Correct them, or train on them as they are "
        "with data.predictions=true."
    )


def some(names: Sequence[str], *, shown: int = 5) -> str:
    """The first few of some names, and how many more there are."""
    more = [f"and {len(names) - shown} more"] if len(names) > shown else []
    return ", ".join([*names[:shown], *more])


def _read_label_files(root: Path, annotations: Annotations, *, predictions: bool) -> None:
    """A label file of any format beside each clip, under its name; clips without one are left out.

    An empty label file says that a clip has no event. Predictions of a model that nobody corrected
    are no annotations, and left out too.
    """
    predicted: list[str] = []
    for clip, files in labelled_clips(root, annotations):
        name = clip.relative_to(root).as_posix()
        timelines = [(f, t) for f in files if (t := _timeline(f, root, annotations)) is not None]
        human = [(f, t) for f, t in timelines if not t.predicted]
        if len(human) > 1:
            listed = ", ".join(sorted(f.name for f, _ in human))
            annotations.left_out.append(f"{name}: {len(human)} label files ({listed}): keep one")
            continue
        predicted += [name] if timelines and not human else []
        chosen = human or (timelines if predictions else [])
        for label_file, timeline in chosen[:1]:
            where = label_file.relative_to(root).as_posix()
            timeline = on_file(timeline, label_file, player_start_of(clip))
            timeline = timeline.choose("both")  # what is only audible or visible is no event
            if any(_is_background(e.label) for e in timeline):
                annotations.left_out.append(f"{where}: {_NO_EVENT}")
            annotations.rows += _clip_rows(timeline, name, where)
            annotations.notes += [n for n in timeline.notes if n.startswith("Left out: ")]
    if predicted and not predictions:
        annotations.notes.append(_predictions_note(predicted, root.name))


def _timeline(label_file: Path, root: Path, annotations: Annotations) -> Timeline | None:
    try:
        return read(label_file)
    except DataError as e:
        where = label_file.relative_to(root).as_posix()
        annotations.left_out.append(f"{where}: {e.got.removeprefix(f'{label_file}: ')}")
        return None


def labelled_clips(root: Path, annotations: Annotations) -> Iterator[tuple[Path, list[Path]]]:
    """The clips of a folder that have label files, with them; features and hidden ones apart.

    Args:
        root: The folder.
        annotations: Takes the label files of no clip, or of several.
    """
    labels: dict[Path, list[Path]] = {}
    clips: dict[Path, list[Path]] = {}
    endings = format_endings().values()
    for path in sorted(root.rglob("*")):
        inner = path.relative_to(root).parts
        if inner[0] in (FOLDER, SERVE_MARK) or any(p.startswith(".") for p in inner):
            continue
        if not path.is_file():
            continue
        ending = ending_of(path, endings)
        if ending:
            labels.setdefault(path.with_name(path.name[: -len(ending)]), []).append(path)
        elif is_media(path):
            clips.setdefault(path.with_suffix(""), []).append(path)
    labels_of = {clip: labels.pop(clip, []) for group in clips.values() for clip in group}
    for stem, files in list(labels.items()):
        alike = [c for c in clips.get(stem, ()) if c.suffix.lower() not in SOUND_ENDINGS]
        alike = alike or clips.get(stem, [])
        if len(alike) == 1:
            labels_of[alike[0]] += files
        elif alike:
            names = " or ".join(c.name for c in alike)
            name = f"{alike[0].name}{files[0].name[len(stem.name) :]}"
            where = files[0].relative_to(root).as_posix()
            annotations.left_out.append(f"{where}: of {names}? call it after its clip, {name}")
        else:
            continue
        del labels[stem]
    yield from ((clip, labels_of[clip]) for clip in sorted(labels_of) if labels_of[clip])
    lost = [f.relative_to(root).as_posix() for files in labels.values() for f in files]
    if lost and any(labels_of.values()):
        what = counted(len(lost), "file")
        annotations.notes.append(
            f"No clip has the name of {what} that may hold labels: {some(lost)}."
        )


def _is_background(label: str) -> bool:
    return label.strip().lower() == BACKGROUND


def _clip_rows(timeline: Timeline, file: str, where: str) -> list[AnnotationRow]:
    rows = [
        AnnotationRow(file, e.start, e.end, e.label.strip(), "", "", f"{where}:{i}")
        for i, e in enumerate(timeline, start=1)
        if not _is_background(e.label)
    ]
    return rows or [AnnotationRow(file, 0.0, 0.0, "", "", "", where)]


def header_mistakes(name: str, header: Sequence[str]) -> list[str]:
    """What is wrong with the columns of a table, a sentence each."""
    known = (*REQUIRED, *OPTIONAL, *_IGNORED)
    mistakes = [f"{name}: column {c!r} is missing" for c in REQUIRED if c not in header]
    for column in header:
        if column not in known and not column.startswith("column "):  # of a table without names
            near = get_close_matches(column, known, n=1)
            hint = (
                f": did you mean {near[0]}?"
                if near
                else f" (known: {', '.join((*REQUIRED, *OPTIONAL, 'score'))})"
            )
            mistakes.append(f"{name}: unknown column {column!r}{hint}")
    mistakes += [f"{name}: column {c!r} stands twice" for c in known if header.count(c) > 1]
    return mistakes


def _csv_row(cells: dict[str, str], where: str, root: Path) -> tuple[AnnotationRow, list[str]]:
    times = [cells["start"], cells["end"]]
    empty = not cells["label"] and not any(times)
    start, end, wrong = (0.0, 0.0, []) if empty else _times(*times)
    file = path_inside(root, cells["file"])
    wrong += _check_file(cells["file"], file)
    if not empty and not cells["label"]:
        wrong.append("times without a label")
    split = cells.get("split", "").lower()
    split = _SPLITS.get(split, split)
    if split and split not in SPLITS:
        near = "".join(f" ({n}?)" for n in get_close_matches(split, SPLITS, n=1))
        wrong.append(f"split {split[:40]!r}: expected {', '.join(SPLITS)}{near}")
    row = AnnotationRow(file, start, end, cells["label"], split, cells.get("video", ""), where)
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


def path_inside(root: Path, file: str) -> str:
    """A file's path within the folder, with ``/``; empty where it leads out of it.

    A whole path is taken where it lies within the folder.
    """
    if "\0" in file or not file:
        return ""
    if Path(file).is_absolute():
        for base, path in ((root.absolute(), Path(file)), (root.resolve(), Path(file).resolve())):
            if path.is_relative_to(base):
                file = path.relative_to(base).as_posix()
                break
    inner = posixpath.normpath(file.replace("\\", "/"))
    parts = PurePosixPath(inner).parts
    return "" if not parts or parts[0] in ("/", "//", "..") or ":" in parts[0] else inner


def _check_file(file: str, inner: str) -> list[str]:
    if not file:
        return ["no file"]
    return [] if inner else [f"file {file[:200]!r}: expected a path inside the folder"]


def _read_text(root: Path, path: Path, split: str, annotations: Annotations) -> None:
    """AVE's form ``Category&VideoID&Quality&Start&End``, with or without its header line."""
    for number, line in enumerate(text_of(path, LARGEST).splitlines(), start=1):
        cells = [c.strip() for c in line.split("&")]
        where = f"{path.name}:{number}"
        if not line.strip() or (number == 1 and cells[0].lower() == "category"):
            continue
        if len(cells) != 5:
            annotations.left_out.append(
                f"{where}: expected Category&VideoID&Quality&StartTime&EndTime"
            )
            continue
        label, video, _, start, end = cells
        empty = start == end  # AVE itself has one: an event of no length
        first, last, wrong = (0.0, 0.0, []) if empty else _times(start, end)
        inner = path_inside(root, video)
        wrong += _check_file(video, inner)
        annotations.left_out += [f"{where}: {w}" for w in wrong]
        if not wrong:
            file = _file_of(root, inner)
            annotations.rows.append(
                AnnotationRow(file, first, last, "" if empty else label, split, "", where)
            )


def _file_of(root: Path, video: str) -> str:
    """The media file of a video id: in the folder itself, or in ``videos`` or ``AVE`` below it.

    A name with another ending, as of the sound alone, is taken for the clip of the same stem.
    """
    name = PurePosixPath(video)
    bare = is_media(video)
    for stem in (video, name.with_suffix("").as_posix()) if bare else (video,):
        for folder in ("", "videos/", "AVE/"):
            for ending in ("", *_ENDINGS):
                if file_exists(root / f"{folder}{stem}{ending}"):
                    return f"{folder}{stem}{ending}"
    return video if bare else f"{video}.mp4"
