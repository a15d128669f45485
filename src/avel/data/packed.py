"""A folder of feature files as one store: two memory-mapped arrays, and a table of whose rows.

Thousands of small files take far longer to open than their features take to read.
"""

from __future__ import annotations

import json
import math
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avel import clock
from avel.backbones.identity import backbone_identity
from avel.data.ave.store import Dtype, store_folder
from avel.errors import DataError, listed
from avel.features.store import header
from avel.files import check_room, whole, write_whole
from avel.progress import Progress
from avel.types import Json

#: The table, beside its arrays in the hidden folder ``.avel`` of the feature files.
TABLE = "pack.json"
LAYOUT = 1
#: A table above this size isn't read: 512 MiB are a few million files.
LARGEST = 512 * 2**20
_ENDING = ".safetensors"
_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class PackedEntry:
    """The rows of one feature file.

    Args:
        first: Its first row.
        count: Rows, one a segment.
        duration: Seconds of the video.
        size, mtime_ns: Of the feature file when it was packed.
        content: sha256 of the video that its features are of, as their header has it.
    """

    first: int
    count: int
    duration: float
    size: int
    mtime_ns: int
    content: str = ""


@dataclass(frozen=True)
class Pack:
    """The features of a folder.

    Args:
        audio: (S, A) of all files one after the other, a memory map.
        visual: (S, H, W, V) likewise.
        entries: By the feature file's path within the folder, with ``/``.
        audio_card, visual_card: The backbones' cards.
        step: Seconds a segment.
    """

    audio: NDArray[Any]
    visual: NDArray[Any]
    entries: Mapping[str, PackedEntry]
    audio_card: Json
    visual_card: Json
    step: float

    @property
    def nbytes(self) -> int:
        """Bytes of both arrays."""
        return self.audio.nbytes + self.visual.nbytes

    def entry(self, folder: Path, path: Path) -> PackedEntry | None:
        """The rows of a feature file, if it is as it was when it was packed."""
        entry = self.entries.get(path.relative_to(folder).as_posix())
        try:
            stat = path.stat()
        except OSError:
            return None
        if entry is None or (stat.st_size, stat.st_mtime_ns) != (entry.size, entry.mtime_ns):
            return None
        return entry


class Windows:
    """Windows of a pack's rows as an array (N, T, …), zeros beyond each one's length.

    Rows are read when they are asked for: an index array, a slice or one number.

    Args:
        rows: (S, …), a memory map.
        firsts: (N,) first row of each window.
        lengths: (N,) rows of each.
    """

    def __init__(
        self, rows: NDArray[Any], firsts: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> None:
        self.rows, self.firsts, self.lengths = rows, firsts, lengths
        self.shape = (len(firsts), int(lengths.max()), *rows.shape[1:])
        self.dtype, self.ndim = rows.dtype, rows.ndim + 1
        self._mmap = getattr(rows, "_mmap", None)  # whoever has copied it may let its pages go

    def __len__(self) -> int:
        return len(self.firsts)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        chosen = np.arange(len(self))[index]
        if np.ndim(chosen) == 0:
            one: NDArray[Any] = self[[int(chosen)]][0]
            return one
        out = np.zeros((len(chosen), *self.shape[1:]), self.dtype)
        for place, i in enumerate(chosen):
            first, n = self.firsts[i], self.lengths[i]
            out[place, :n] = self.rows[first : first + n]
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        rows: NDArray[Any] = self[:].astype(dtype or self.dtype, copy=False)
        return rows


def feature_files(folder: Path) -> list[Path]:
    """The feature files of a folder and its folders, hidden ones left out, in order."""
    paths = (p for p in folder.rglob(f"*{_ENDING}") if p.is_file())
    return sorted(
        p for p in paths if not any(part.startswith(".") for part in p.relative_to(folder).parts)
    )


def pack(folder: str | Path, *, dtype: Dtype = "float16", progress: Progress | None = None) -> Pack:
    """Write the features of a folder into one store, which :func:`open_pack` reads.

    One file's features are in memory at a time. A store that is there already is replaced once
    the new one is whole.

    Args:
        folder: The feature files, as `avel extract` wrote them.
        dtype: What they are stored as.
        progress: Called with files done and files in all.

    Raises:
        DataError: if there are none, any are damaged, of different backbones, shapes or segment
            lengths (all of them named at once), one holds what isn't a finite number in
            ``dtype``, or the disk is full.
    """
    folder = Path(folder)
    paths = feature_files(folder)
    head, lengths = _agree(folder, paths)
    store = store_folder(folder)
    name = secrets.token_hex(8)
    try:
        store.mkdir(parents=True, exist_ok=True)
        _check_room(store, head, lengths, dtype)
        entries = _write(store, name, folder, list(zip(paths, lengths, strict=True)), head,
                         dtype=dtype, progress=progress)  # fmt: skip
        table = _table(name, dtype, head, entries)
        write_whole(store / TABLE, json.dumps(table, separators=(",", ":")))
    except OSError as e:
        cure = "check that the disk has room and the files are whole"
        raise DataError(f"{folder} could not be packed in {store} ({e})", hint=cure) from e
    for old in store.glob("pack-*.npy"):
        if f"-{name}" not in old.name:
            old.unlink(missing_ok=True)
    pack = open_pack(folder, dtype=dtype)
    assert pack is not None
    return pack


def _agree(folder: Path, paths: Sequence[Path]) -> tuple[Json, list[tuple[int, float]]]:
    """The header that all files share but for their lengths: segments and seconds of each."""
    if not paths:
        raise DataError(f"{folder} holds no features", hint="run `avel extract` first")
    first: Json = {}
    wrong, lengths = [], []
    for path in paths:
        head = header(path)
        odd = _odd(head, first or head)
        if odd:
            wrong.append(f"{path}: {odd}")
            continue
        first = first or head
        lengths.append((int(head["audio_shape"][0]), float(head["duration"])))
    if wrong:
        raise DataError(
            f"{folder}: {len(wrong)} of {len(paths)} can't be packed{listed(wrong)}",
            expected="features of the same backbones, shapes and segment length",
            hint="extract those again, or remove them",
        )
    return first, lengths


def _odd(head: Json, first: Json) -> str:
    if not _is_whole(head):
        return "not a file of avel's features"
    for modality in ("audio", "visual"):
        if backbone_identity(head[f"{modality}_card"]) != backbone_identity(
            first[f"{modality}_card"]
        ):
            return "features of other backbones"
        if head[f"{modality}_shape"][1:] != first[f"{modality}_shape"][1:]:
            return "features of another shape"
    return "segments of another length" if head["step"] != first["step"] else ""


def _is_whole(head: Json) -> bool:
    try:
        count = clock.segment_count(float(head["duration"]), float(head["step"]))
        shapes = head["audio_shape"], head["visual_shape"]
        cards = head["audio_card"], head["visual_card"]
    except (KeyError, TypeError, ValueError):
        return False
    fits = [len(shape) for shape in shapes] == [2, 4] and {s[0] for s in shapes} == {count}
    return fits and all(isinstance(card, dict) for card in cards) and bool(head["dtype"])


def _row(head: Json, modality: str) -> tuple[int, ...]:
    """Shape of one segment's features."""
    return tuple(head[f"{modality}_shape"][1:])


def _check_room(store: Path, head: Json, lengths: Sequence[tuple[int, float]], dtype: str) -> None:
    numbers = math.prod(_row(head, "audio")) + math.prod(_row(head, "visual"))
    size = sum(count for count, _ in lengths) * numbers * np.dtype(dtype).itemsize
    check_room(store, size)


def _array_path(store: Path, modality: str, name: str) -> Path:
    return store / f"pack-{modality}-{name}.npy"


def _write(
    store: Path,
    name: str,
    folder: Path,
    files: Sequence[tuple[Path, tuple[int, float]]],
    head: Json,
    *,
    dtype: str,
    progress: Progress | None,
) -> dict[str, PackedEntry]:
    entries: dict[str, PackedEntry] = {}
    total = sum(count for _, (count, _) in files)
    with (
        whole(_array_path(store, "audio", name)) as audio,
        whole(_array_path(store, "visual", name)) as visual,
        audio.open("wb") as audio_file,
        visual.open("wb") as visual_file,
    ):
        out = {"audio": audio_file, "visual": visual_file}
        for modality, file in out.items():
            shape = (total, *_row(head, modality))
            numpy_header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_2_0(file, numpy_header)
        first = 0
        for path, (count, duration) in files:
            stat = path.stat()
            for modality, rows in _rows_of(path, dtype).items():
                if rows.shape != (count, *_row(head, modality)):
                    raise DataError(f"{path} changed meanwhile", hint="run it again")
                rows.tofile(out[modality])
            entries[path.relative_to(folder).as_posix()] = PackedEntry(
                first, count, duration, stat.st_size, stat.st_mtime_ns,
                str(header(path).get("content", "")),
            )  # fmt: skip
            first += count
            if progress:
                progress(len(entries), len(files))
    return entries


def _rows_of(path: Path, dtype: str) -> dict[str, NDArray[Any]]:
    """A file's features in the store's type."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as f:
            arrays = {modality: f.get_tensor(modality) for modality in ("audio", "visual")}
    except (OSError, SafetensorError) as e:
        raise DataError(f"{path}: can't be read ({e})", hint="extract it again") from e
    with np.errstate(over="ignore"):  # what doesn't fit becomes infinite and is named
        rows_by_modality = {
            modality: np.ascontiguousarray(a, dtype=dtype) for modality, a in arrays.items()
        }
    if not all(np.isfinite(rows).all() for rows in rows_by_modality.values()):
        cure = "pack it with --dtype float32, or extract it again"
        raise DataError(f"{path}: features that {dtype} can't hold, or not finite", hint=cure)
    return rows_by_modality


def _table(name: str, dtype: str, head: Json, entries: Mapping[str, PackedEntry]) -> Json:
    rows = {k: list(vars(e).values()) for k, e in entries.items()}
    cards = {key: head[key] for key in ("audio_card", "visual_card", "step")}
    return {"layout": LAYOUT, "id": name, "dtype": dtype, **cards, "files": rows}


def is_packed(folder: str | Path) -> bool:
    """Whether a folder of features has a store, of whatever type and state."""
    return (store_folder(Path(folder)) / TABLE).exists()


def open_pack(folder: str | Path, *, dtype: Dtype = "float16") -> Pack | None:
    """The store of a folder of features; None where it has none of that type, or a damaged one."""
    store = store_folder(Path(folder))
    try:
        if (store / TABLE).stat().st_size > LARGEST:
            return None
        table = json.loads((store / TABLE).read_text("utf-8"))
        if table["layout"] != LAYOUT or table["dtype"] != dtype or not _ID.fullmatch(table["id"]):
            return None
        audio, visual = (_mapped(store, modality, table) for modality in ("audio", "visual"))
        entries = {str(k): PackedEntry(*row) for k, row in table["files"].items()}
        if not _fits(entries.values(), float(table["step"]), audio, visual):
            return None
        cards = [dict(table[key]) for key in ("audio_card", "visual_card")]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return Pack(audio, visual, entries, cards[0], cards[1], float(table["step"]))


def _mapped(store: Path, modality: str, table: Json) -> NDArray[Any]:
    path = _array_path(store, modality, table["id"])
    rows: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    if rows.dtype != table["dtype"]:
        raise ValueError("another type than the table's")
    return rows


def _fits(
    entries: Iterable[PackedEntry], step: float, audio: NDArray[Any], visual: NDArray[Any]
) -> bool:
    if (audio.ndim, visual.ndim) != (2, 4) or len(audio) != len(visual):
        return False
    for e in entries:
        numbers = (e.first, e.count, e.size, e.mtime_ns)
        if (
            not all(isinstance(n, int) for n in numbers)
            or e.first < 0
            or e.content != str(e.content)
        ):
            return False
        if e.count != clock.segment_count(e.duration, step) or e.first + e.count > len(audio):
            return False
    return True
