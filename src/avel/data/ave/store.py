"""A compact copy of AVE's feature files: written once, in one pass, then memory-mapped.

The release's 8.3 GB of float64 become 2.1 GB of float16. One block of rows is in memory at a time.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from avel.data.ave.files import open_array
from avel.errors import DataError
from avel.files import cache_folder, check_room, whole, write_whole
from avel.progress import Progress

if TYPE_CHECKING:
    import h5py

Dtype = Literal["float16", "float32"]

#: Bytes of float32 in a block: with its copy in the store's type, what a conversion needs.
_BLOCK = 16 * 2**20


def store_folder(root: Path) -> Path:
    """Where the copy of a folder lies: in it, or in the cache where it can't be written."""
    if os.access(root, os.W_OK):
        return root / ".avel"
    name = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]
    return cache_folder() / "ave" / name


def stored(
    source: Path,
    folder: Path,
    *,
    dtype: Dtype = "float16",
    progress: Progress | None = None,
) -> NDArray[Any]:
    """The array of a feature file as a memory map, converted first where it isn't yet.

    Args:
        source: An ``.h5`` file of the release.
        folder: Where the copy is or will be.
        dtype: What it is stored as.
        progress: Called with (rows done, rows in all) during a conversion.

    Raises:
        DataError: if the source can't be read, holds what isn't a finite number in ``dtype``, or
            the disk is full.
    """
    target = folder / f"{source.stem}.{dtype}.npy"
    key = _key(source, dtype)
    array = _open(target, key)
    if array is None:
        with open_array(source) as array:
            hint = "make room, or name another folder with `store=`"
            check_room(folder, array.size * np.dtype(dtype).itemsize, hint=hint)
            try:
                _convert(array, target, dtype=dtype, progress=progress)
                write_whole(_note(target), json.dumps(key))
            except OSError as e:
                raise DataError(
                    f"{source} could not be copied to {target} ({str(e)[:200]})",
                    hint="check that the file is whole and the disk has room, or name another",
                ) from e
        array = _open(target, key)
        assert array is not None
    return array


def _key(source: Path, dtype: str) -> dict[str, Any]:
    stat = source.stat()
    return {
        "source": source.name,
        "size": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "dtype": dtype,
        "layout": 1,
    }


def _note(target: Path) -> Path:
    return target.with_suffix(".json")


def _open(target: Path, key: dict[str, Any]) -> NDArray[Any] | None:
    """The map, if it was made of the source as it now is."""
    try:
        if json.loads(_note(target).read_text()) != key:
            return None
        array: NDArray[Any] = np.load(target, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return None
    return array if array.dtype == key["dtype"] else None


def _convert(array: h5py.Dataset, target: Path, *, dtype: Dtype, progress: Progress | None) -> None:
    """Copy block by block; slices are contiguous, since any other selection is far slower."""
    import torch

    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": array.shape}
    height = _block_rows(array)
    buffer = np.empty((min(height, len(array)), *array.shape[1:]), np.float32)
    with whole(target) as temporary, temporary.open("wb") as out:
        np.lib.format.write_array_header_2_0(out, header)
        for start in range(0, len(array), height):
            rows = min(height, len(array) - start)
            array.read_direct(buffer, np.s_[start : start + rows], np.s_[:rows])
            block = torch.from_numpy(buffer[:rows]).to(getattr(torch, dtype))
            if not bool(torch.isfinite(block).all()):
                raise _not_finite(array, buffer[:rows], start, dtype)
            block.numpy().tofile(out)
            if progress:
                progress(start + rows, len(array))


def _block_rows(array: h5py.Dataset) -> int:
    """Rows of a block: whole chunks where the file has them, so that none is unpacked twice."""
    row = 4 * int(np.prod(array.shape[1:], dtype=np.int64))
    fit = max(1, _BLOCK // max(1, row))
    chunk = array.chunks[0] if array.chunks else 1
    if chunk <= fit:
        return fit // chunk * chunk
    return int(min(chunk, 3 * fit))


def _not_finite(array: h5py.Dataset, block: NDArray[Any], start: int, dtype: str) -> DataError:
    bad = ~np.isfinite(block.reshape(len(block), -1)).all(axis=1)
    if bad.any():
        row = start + int(bad.argmax())
        return DataError(
            f"{array.file.filename}: row {row} holds what is no finite number",
            hint="download it again",
        )
    return DataError(
        f"{array.file.filename}: values up to {np.abs(block).max():.0f} don't fit {dtype}",
        hint="use dtype=float32",
    )


class Beside:
    """Maps and a vector a second behind them in every region, joined only where rows are asked for.

    Args:
        first: (N, T, H, W, V), an array or memory map.
        second: (N, T, 1, 1, V') likewise.
    """

    def __init__(self, first: NDArray[Any], second: NDArray[Any]) -> None:
        self.first, self.second = first, second
        self.shape: tuple[int, ...] = (*first.shape[:-1], first.shape[-1] + second.shape[-1])
        self.dtype, self.ndim = np.result_type(first, second), first.ndim

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        maps, vector = np.asarray(self.first[rows]), np.asarray(self.second[rows])
        vector = np.broadcast_to(vector, (*maps.shape[:-1], vector.shape[-1]))
        return np.concatenate([maps, vector], -1)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:].astype(dtype or self.dtype, copy=False)
