"""Annotations of a folder: a table of all clips, text in AVE's form, or a label file a clip."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

from avel import clock
from avel.errors import DataError
from avel.formats import ending_of, format_endings, read
from avel.formats.tables import COLUMNS, label_in
from avel.types import BACKGROUND, Timeline

REQUIRED = ("file", "start", "end", "label")
OPTIONAL = ("split", "video")
#: A table's column that is left out, since labels have no score.
_SCORE = "score"
#: Tables that hold all clips, in the order in which they are looked for.
TABLES = ("annotations.csv", "annotations.tsv")
SPLITS = ("train", "val", "test")
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


def read_rows(root: Path) -> tuple[list[Row], list[str]]:
    """The rows of a folder's annotations, and what is wrong with those that couldn't be read.

    Raises:
        DataError: if the folder or its annotations aren't there.
    """
    if not root.is_dir():
        raise DataError(f"{root} is no folder", do="give the folder that holds your clips")
    for name in TABLES:
        if (root / name).is_file():
            return _read_table(root / name, root)
    rows: list[Row] = []
    mistakes: list[str] = []
    for split, name in _TEXTS:
        if (root / name).is_file() and (split or not rows):
            more, wrong = _read_text(root, root / name, split)
            rows, mistakes = rows + more, mistakes + wrong
    if not rows and not mistakes:
        rows, mistakes = _read_label_files(root)
    if not rows and not mistakes:
        raise DataError(
            f"{root} holds no annotations",
            wanted="annotations.csv or .tsv, AVE-style Annotations.txt, or a label file beside "
            "each clip (clip.eaf, clip.vtt, clip.txt…)",
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


def _read_table(path: Path, root: Path) -> tuple[list[Row], list[str]]:
    """Rows of a .csv, or of a .tsv in DCASE's form, where names may lack their folder."""
    dcase = path.suffix == ".tsv"
    reader = csv.reader(io.StringIO(_text_of(path), newline=""), delimiter="\t" if dcase else ",")
    try:
        lines = [
            (reader.line_num, [c.strip() for c in line])
            for line in reader
            if any(map(str.strip, line))
        ]
    except csv.Error as e:
        return [], [f"{path.name}:{reader.line_num}: {e}"]
    header = [_ours(name.lower()) for name in lines[0][1]] if lines else []
    mistakes = _check_header(path.name, header)
    if mistakes:
        return [], mistakes
    rows: list[Row] = []
    for number, cells in lines[1:]:
        where = f"{path.name}:{number}"
        if len(cells) != len(header):
            mistakes.append(f"{where}: {len(cells)} columns, the first line has {len(header)}")
            continue
        given = dict(zip(header, (label_in(c, coded=dcase) for c in cells), strict=True))
        row, wrong = _csv_row(given, where)
        mistakes += wrong
        if not wrong and dcase and not (root / row.file).is_file():
            row = replace(row, file=_file_of(root, row.file))
        rows += [] if wrong else [row]
    return rows, mistakes or ([] if rows else [f"{path.name} holds no rows"])


def _ours(column: str) -> str:
    """DCASE's name of a column as ours."""
    return next((ours for ours, names in COLUMNS.items() if column in names), column)


def _read_label_files(root: Path) -> tuple[list[Row], list[str]]:
    """A label file of any format beside each clip, under its name; clips without one are left out.

    An empty label file says that a clip has no event. What a model found (.json with scores) is no
    annotation, and left out too.
    """
    rows: list[Row] = []
    mistakes: list[str] = []
    for clip, found in _labelled(root):
        name = clip.relative_to(root).as_posix()
        if len(found) > 1:
            listed = ", ".join(sorted(f.name for f in found))
            mistakes.append(f"{name}: {len(found)} label files ({listed}): keep one")
        for label_file in found[:1]:
            where = label_file.relative_to(root).as_posix()
            try:
                timeline = read(label_file)
            except DataError as e:
                mistakes.append(f"{where}: {e.got.removeprefix(f'{label_file}: ')}")
                continue
            if timeline.scores is None:
                timeline = timeline.choose("both")  # what is only audible or visible is no event
                rows += _clip_rows(timeline, name, where)
                mistakes += [f"{where}: background is no event: leave it out" for e in timeline
                             if e.label.strip().lower() == BACKGROUND]  # fmt: skip
    return rows, mistakes


def _labelled(root: Path) -> Iterator[tuple[Path, list[Path]]]:
    """The clips of a folder that have label files, with them; features and hidden ones apart."""
    labels: dict[tuple[Path, str], list[Path]] = {}
    clips: list[Path] = []
    endings = format_endings().values()
    for path in sorted(root.rglob("*")):
        inner = path.relative_to(root).parts
        if inner[0] == "features" or any(p.startswith(".") for p in inner) or not path.is_file():
            continue
        ending = ending_of(path, endings)
        if ending:
            labels.setdefault((path.parent, path.name[: -len(ending)]), []).append(path)
        elif path.suffix.lower() in _MEDIA:
            clips.append(path)
    for clip in clips:
        own = [*labels.get((clip.parent, clip.stem), []), *labels.get((clip.parent, clip.name), [])]
        if own:
            yield clip, own


def _clip_rows(timeline: Timeline, file: str, where: str) -> list[Row]:
    held = [
        Row(file, e.start, e.end, e.label.strip(), "", "", f"{where}:{i}")
        for i, e in enumerate(timeline, start=1)
    ]
    return held or [Row(file, 0.0, 0.0, "", "", "", where)]


def _check_header(name: str, header: Sequence[str]) -> list[str]:
    known = (*REQUIRED, *OPTIONAL, _SCORE)
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
    """The media file of a video id: in the folder itself, or in ``videos`` or ``AVE`` below it.

    A name with another ending, as of the sound alone, is taken for the clip of the same stem.
    """
    name = PurePosixPath(video)
    bare = name.suffix.lower() in _MEDIA
    for stem in (video, name.with_suffix("").as_posix()) if bare else (video,):
        for folder in ("", "videos/", "AVE/"):
            for ending in ("", *_MEDIA):
                if (root / f"{folder}{stem}{ending}").is_file():
                    return f"{folder}{stem}{ending}"
    return video if bare else f"{video}.mp4"
