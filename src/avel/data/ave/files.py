"""The published AVE release: its files, where they are had, and how each is read.

Source: Tian et al., Audio-Visual Event Localization in Unconstrained Videos, ECCV 2018, and its
repository github.com/YapengTian/AVE-ECCV18. Files are found in a folder itself or in its ``data``
or ``AVE_Dataset``, where people unpack them.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from avel.errors import DataError
from avel.files import human_size

if TYPE_CHECKING:
    import h5py

Rows = NDArray[np.int64]

#: The key of every feature and label file, and of every order file.
KEY, ORDER_KEY = "avadataset", "order"
#: Seconds of every clip of the release.
SECONDS = 10
#: No text or order file of the release is nearly as large.
LARGEST_TEXT = 50 * 2**20
SUBFOLDERS = ("", "data", "AVE_Dataset", "labels", "features")

_RAW = "https://raw.githubusercontent.com/YapengTian/AVE-ECCV18/master/data/"
_DRIVE = "https://drive.google.com/uc?id="


@dataclass(frozen=True)
class Remote:
    """A file of the release.

    Args:
        name: Its name.
        url: Its public address; empty for what isn't in the release.
        size: Bytes, about; 0 where not known.
        what: What it holds.
        hash: Its sha256, or empty where it isn't known.
    """

    name: str
    url: str
    size: int
    what: str
    hash: str = ""

    @property
    def drive(self) -> str:
        """Its Google Drive id, or nothing."""
        return self.url.removeprefix(_DRIVE) if self.url.startswith(_DRIVE) else ""

    def __str__(self) -> str:
        if not self.url:
            return f"{self.name} ({self.what}: not in the release; `avel synth-features` makes it)"
        size = human_size(self.size) if self.size else "of unknown size"
        return f"{self.name} ({size}, from {self.url})"


ANNOTATIONS = Remote(
    "Annotations.txt",
    _RAW + "Annotations.txt",
    144287,
    "events, a row each",
    "sha256:0d24a9ec5cd4ceb779ebd83d74e83ec8e55c5e468cede3f320fb57346c9dd321",
)
AUDIO = Remote(
    "audio_feature.h5",
    _DRIVE + "1F6p4BAOY-i0fDXUOhG7xHuw_fnO5exBS",
    42426368,
    "VGGish features (4143, 10, 128)",
)
VISUAL = Remote(
    "visual_feature.h5",
    _DRIVE + "1hQwbhutA3fQturduRnHMyfRqdrRHgmC9",
    8315168768,
    "VGG-19 features (4143, 10, 7, 7, 512)",
)
VISUAL_VECTOR = Remote(
    "visual_feature_vec.h5",
    _DRIVE + "1l-c8Kpr5SZ37h-NpL7o9u8YXBNVlX_Si",
    169699328,
    "their means over the picture (4143, 10, 512)",
)
AUDIO_NOISY = Remote(
    "audio_feature_noisy.h5", _RAW + "audio_feature_noisy.h5", 1824864, "of 178 background clips"
)
VISUAL_NOISY = Remote(
    "visual_feature_noisy.h5",
    _DRIVE + "1I3OtOHJ8G1-v5G2dHIGCfevHQPn-QyLh",
    357255168,
    "of 178 background clips",
)
LABELS_NOISY = Remote("labels_noisy.h5", _RAW + "labels_noisy.h5", 22792, "all background")
MIL_LABELS = Remote("mil_labels.h5", _RAW + "mil_labels.h5", 482732, "video tags")
CLOSS_LABELS = Remote("labels_closs.h5", _RAW + "labels_closs.h5", 167864, "event seconds")
VIDEOS = Remote(
    "AVE_Dataset.zip", _DRIVE + "1FjKwe79e0u96vdjIVwfRQ1V6SoDHe7kK", 0, "the videos themselves"
)
#: What the release lacks and tian2018's supplement reads: clips' own, and background clips'.
AUDIO_MAPS = Remote("audio_maps.h5", "", 0, "VGGish's last pooling (4143, 10, 6, 4, 512)")
C3D = Remote("c3d_feature.h5", "", 0, "C3D's pool5, averaged (4143, 10, 512)")
AUDIO_MAPS_NOISY = Remote("audio_maps_noisy.h5", "", 0, "of 178 background clips")
C3D_NOISY = Remote("c3d_feature_noisy.h5", "", 0, "of 178 background clips")
ORDERS = {
    f"{'cml_' if match else ''}{part}": Remote(
        f"{part}_order{match}.h5", f"{_RAW}{part}_order{match}.h5", size, f"rows of {part}"
    )
    for match in ("", "_match")
    for part, size in (("train", 28856), ("val", 5360), ("test", 5360))
}
TEXTS = {"train": "trainSet.txt", "val": "valSet.txt", "test": "testSet.txt"}
#: What `avel fetch ave` gets, small files first.
EVERYTHING = (
    ANNOTATIONS,
    *ORDERS.values(),
    MIL_LABELS,
    CLOSS_LABELS,
    LABELS_NOISY,
    AUDIO_NOISY,
    AUDIO,
    VISUAL_VECTOR,
    VISUAL_NOISY,
    VISUAL,
)


@dataclass(frozen=True)
class AveRow:
    """One annotated event: a row of Annotations.txt.

    Args:
        category: Event class.
        video: YouTube id; 45 videos stand under several categories.
        quality: As annotated.
        start, end: Seconds, the end exclusive; equal for an empty event.
    """

    category: str
    video: str
    quality: str
    start: int
    end: int


def find(root: str | Path, name: str) -> Path | None:
    """A file of the release, in the folder or one of the places people put it."""
    places = (Path(root) / sub / name for sub in SUBFOLDERS)
    return next((path for path in places if path.is_file()), None)


def missing(root: str | Path, expected: Sequence[Remote]) -> list[Remote]:
    """Those of some files that aren't there."""
    return [file for file in expected if find(root, file.name) is None]


def need(root: str | Path, expected: Sequence[Remote]) -> list[Path]:
    """The paths of some files.

    Raises:
        DataError: naming every one that is missing with its address and size.
    """
    absent = missing(root, expected)
    if absent:
        listed = "\n    ".join(str(file) for file in absent)
        raise DataError(
            f"{root} lacks {len(absent)} of AVE's files:\n    {listed}",
            hint=f"`avel fetch ave {root}`, or put them there by hand",
        )
    return [path for file in expected if (path := find(root, file.name))]


def read_annotations(path: Path) -> tuple[AveRow, ...]:
    """The rows of Annotations.txt or of a split's text, in their order.

    Unix or Windows line ends, with a header or without, with a last newline or without: told by
    what the lines hold, never assumed.

    Raises:
        DataError: if it is no such text, naming the lines that are wrong.
    """
    lines = [line for line in _text(path).splitlines() if line.strip()]
    parsed = [_parse(line) for line in lines]
    if parsed and parsed[0] is None and _is_header(lines[0]):
        lines, parsed = lines[1:], parsed[1:]
    wrong = [i for i, row in enumerate(parsed) if row is None]
    if wrong or not parsed:
        shown = "; ".join(f"{lines[i][:60]!r}" for i in wrong[:5]) or "no rows"
        raise DataError(
            f"{path}: {len(wrong)} of {len(lines)} lines are no annotation: {shown}",
            expected="Category&VideoID&Quality&StartTime&EndTime, times in whole seconds",
            hint="take the file from " + ANNOTATIONS.url,
        )
    return tuple(row for row in parsed if row is not None)


def _text(path: Path) -> str:
    if path.stat().st_size > LARGEST_TEXT:
        raise DataError(f"{path} has {path.stat().st_size} bytes", expected="a list of annotations")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise DataError(f"{path} is no text ({e.reason})", expected="UTF-8") from e


def _is_header(line: str) -> bool:
    """Only a line of column names: a first line that is merely wrong must not be dropped."""
    names = {field.strip().casefold().replace(" ", "") for field in line.split("&")}
    return bool(names & {"videoid", "starttime", "endtime"})


def _parse(line: str) -> AveRow | None:
    fields = [field.strip() for field in line.rsplit("&", 4)]
    if len(fields) != 5 or not all(fields[:2]):
        return None
    times = [f for f in fields[3:] if f.isascii() and f.isdigit() and len(f) < 6]
    if len(times) != 2:
        return None
    start, end = (int(f) for f in times)
    return AveRow(fields[0], fields[1], fields[2], start, end) if start <= end else None


def class_order(rows: Sequence[AveRow]) -> tuple[str, ...]:
    """The categories in the order of their first appearance, which numbers the label files."""
    return tuple(dict.fromkeys(row.category for row in rows))


@contextmanager
def open_array(path: Path, key: str = KEY) -> Iterator[h5py.Dataset]:
    """The numeric array of an HDF5 file, under its published key or as the only one there.

    Raises:
        DataError: if the file can't be opened or holds nothing of the kind.
    """
    import h5py

    try:
        file = h5py.File(path, "r")
    except OSError as e:
        raise DataError(
            f"{path} can't be opened as HDF5 ({str(e)[:120]})",
            expected=f"the release's file with the key {key!r}",
            hint="download it again: it may be incomplete",
        ) from e
    with file:
        array = file.get(key)
        if array is None and len(file) == 1:
            array = file[next(iter(file))]
        if not isinstance(array, h5py.Dataset) or array.dtype.kind not in "fiub":
            keys = ", ".join(list(file)[:10]) or "nothing"
            raise DataError(
                f"{path} has the keys {keys}", expected=f"an array of numbers under {key!r}"
            )
        yield array


def read_small(path: Path, key: str = KEY) -> NDArray[Any]:
    """A label or order array, in memory.

    Raises:
        DataError: if it has more than 2**26 numbers, or can't be read.
    """
    with open_array(path, key) as array:
        if array.size > 2**26:
            raise DataError(f"{path} has the shape {array.shape}", expected="a small array")
        try:
            return np.asarray(array[()])
        except OSError as e:
            raise DataError(f"{path} is damaged ({str(e)[:120]})", hint="download it again") from e


def read_order(path: Path, count: int) -> Rows:
    """The annotation rows of a split.

    Args:
        path: ``*_order.h5`` or ``*_order_match.h5``.
        count: How many rows the annotations have.

    Raises:
        DataError: if it doesn't hold distinct rows of the annotations.
    """
    stored = read_small(path, ORDER_KEY).ravel()
    rows = stored.astype(np.int64)
    outside = (rows < 0) | (rows >= count) | (rows != stored)
    if outside.any() or len(np.unique(rows)) != len(rows) or not len(rows):
        raise DataError(
            f"{path}: {int(outside.sum())} of {len(rows)} entries are no row of the annotations, "
            f"{len(rows) - len(np.unique(rows))} stand there twice",
            expected=f"distinct whole numbers from 0 to {count - 1}",
            hint="take the order files and Annotations.txt from one release",
        )
    return rows


def rows_of_text(path: Path, rows: Sequence[AveRow]) -> Rows:
    """The annotation rows that a split's text lists, in its order.

    Raises:
        DataError: naming lines that Annotations.txt doesn't have.
    """
    unused: dict[AveRow, deque[int]] = defaultdict(deque)
    for i, row in enumerate(rows):
        unused[row].append(i)
    positions, unknown = [], []
    for row in read_annotations(path):
        if unused[row]:
            positions.append(unused[row].popleft())
        else:
            unknown.append(f"{row.category}&{row.video}")
    if unknown:
        raise DataError(
            f"{path}: {len(unknown)} lines aren't in the annotations: {'; '.join(unknown[:3])}",
            hint="take both from one release",
        )
    return np.array(positions, np.int64)


def split_rows(root: str | Path, rows: Sequence[AveRow]) -> dict[str, Rows]:
    """The annotation rows of every split that the folder defines, by order file or text.

    Returns:
        ``train``, ``val``, ``test`` (always) and ``cml_train``, ``cml_val``, ``cml_test`` where
        their order files are there.

    Raises:
        DataError: if a split has neither, or has both and they differ.
    """
    splits: dict[str, Rows] = {}
    absent: list[Remote] = []
    for name, remote in ORDERS.items():
        order = find(root, remote.name)
        text = find(root, TEXTS[name]) if name in TEXTS else None
        if order:
            splits[name] = read_order(order, len(rows))
        elif text:
            splits[name] = rows_of_text(text, rows)
        elif name in TEXTS:
            absent.append(remote)
        if order and text and not np.array_equal(splits[name], rows_of_text(text, rows)):
            raise DataError(
                f"{order.name} and {text.name} in {root} list different rows for {name}",
                hint="keep the one you mean",
            )
    need(root, absent)
    return splits
