"""Splits as tensors in memory or on a device, and batches of them."""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avel.data.base import Split
from avel.models.base import Batch

#: Rows copied at a time: a store of several GB is never in memory twice.
_ROWS = 8
_LARGE = 2**26


@dataclass
class Resident:
    """A split's tensors, converted once and kept in memory (or on the device).

    Args:
        split: Where they come from.
        audio: (N (1 + copies), T, A).
        visual: (N (1 + copies), T, H, W, V), bfloat16, float16 or float32.
        lengths: (N,) int64.
        labels: (N, T) int64.
        tags: (N, C+1) float32 or None.
        equal: True where all clips are of length T, so that no mask is needed.
        copies: How many altered copies follow the N clips' rows of ``audio`` and ``visual``.
        buffers: Memory that batches are written into again and again, by modality.
    """

    split: Split
    audio: Tensor
    visual: Tensor
    lengths: Tensor
    labels: Tensor
    tags: Tensor | None
    equal: bool
    copies: int = 0
    buffers: dict[str, Tensor] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(
        self, rows: Tensor, *, device: torch.device, length: int | None = None,
        reuse: bool = False, copied: float = 0.0,
    ) -> Batch:  # fmt: skip
        """The clips at some positions, on a device, float32 except for bfloat16 maps.

        Args:
            rows: (B,) int64 positions, on the tensors' own device.
            device: Where the batch goes.
            length: Cut all clips to their first ``length`` segments, all of them real.
            reuse: Write into the memory of the last such batch, which then holds this one.
            copied: Share of the clips of each modality that are one of the copies, at random.
        """
        t = length or int(self.labels.shape[1])
        lengths = self.lengths[rows]
        mask = None
        if not self.equal and length is None:
            t = int(lengths.max())
            mask = torch.arange(t, device=lengths.device) < lengths[:, None]
        pick = self._reused if reuse else _picked
        parts = {
            "audio": (self.audio, self._copied(rows, copied)),
            "visual": (self.visual, self._copied(rows, copied)),
            "labels": (self.labels, rows),
        }
        audio, visual, labels = (pick(n, *p)[:, :t].to(device) for n, p in parts.items())
        return Batch(
            audio=audio.float(),
            visual=visual if visual.dtype == torch.bfloat16 else visual.float(),
            mask=None if mask is None or bool(mask.all()) else mask.to(device),
            labels=labels,
            tags=None if self.tags is None else self.tags[rows].to(device),
        )

    def _copied(self, rows: Tensor, share: float) -> Tensor:
        """Rows of which a share are those of a copy."""
        if not self.copies or not share:
            return rows
        which = torch.randint(1, self.copies + 1, rows.shape, device=rows.device)
        return rows + len(self) * which * (torch.rand(rows.shape, device=rows.device) < share)

    def _reused(self, name: str, tensor: Tensor, rows: Tensor) -> Tensor:
        buffer = self.buffers.get(name)
        if buffer is None or len(buffer) < len(rows):
            buffer = self.buffers[name] = tensor.new_empty(len(rows), *tensor.shape[1:])
        return torch.index_select(tensor, 0, rows, out=buffer[: len(rows)])


def _picked(_: str, tensor: Tensor, rows: Tensor) -> Tensor:
    return tensor.index_select(0, rows)


def resident(
    split: Split, *, dtype: torch.dtype | None = None, device: torch.device | None = None,
    copies: bool = False,
) -> Resident:  # fmt: skip
    """A split's tensors, read once in blocks of rows.

    Args:
        split: The clips.
        dtype: Of the visual maps; None leaves them as stored (float16 stays float16).
        device: Where to put them; None for the processor's memory.
        copies: Whether the split's altered copies are read too.
    """
    rows = split.store_rows
    tags = None if split.tags is None else torch.from_numpy(np.array(split.tags, np.float32))
    more = split.copies if copies else ()
    tensors = [
        _read([split.audio, *(copy.audio for copy in more)], rows, torch.float32),
        _read([split.visual, *(copy.visual for copy in more)], rows, dtype),
        torch.from_numpy(np.array(split.lengths, np.int64)),
        torch.from_numpy(np.array(split.labels, np.int64)),
    ]
    audio, visual, lengths, labels = (t.to(device) for t in tensors)
    equal = bool((split.lengths == split.labels.shape[1]).all())
    tags = tags if tags is None else tags.to(device)
    return Resident(split, audio, visual, lengths, labels, tags, equal, len(more))


def _read(
    arrays: Sequence[Any], rows: NDArray[np.int64], dtype: torch.dtype | None
) -> Tensor:  # fmt: skip
    """The rows of arrays of one shape, one array's after the other's."""
    stored = np.dtype(arrays[0].dtype)
    kind = dtype or (torch.float16 if stored == np.float16 else torch.float32)
    result = _own_memory((len(arrays) * len(rows), *arrays[0].shape[1:]), kind)
    for array, part in zip(arrays, result.chunk(len(arrays)), strict=True):
        for i in range(0, len(rows), _ROWS):
            block = np.asarray(array[rows[i : i + _ROWS]])
            part[i : i + len(block)] = torch.from_numpy(np.ascontiguousarray(block)).to(kind)
            _release(array)
    return result


def channel_statistics(split: Split) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and standard deviation of every channel over a split's real segments, by modality.

    A visual channel's are those of its mean over the regions. Read in blocks of rows.

    Returns:
        ``"audio"`` (A,) twice, ``"visual"`` (V,) twice; float32.
    """
    rows = split.store_rows
    statistics = {}
    for name in ("audio", "visual"):
        array, sums, count = getattr(split, name), np.zeros((2, 1)), 0
        for i in range(0, len(rows), _ROWS):
            block = np.asarray(array[rows[i : i + _ROWS]], np.float64)  # (n, T, ..., width)
            lengths = np.asarray(split.lengths[i : i + _ROWS])
            real = block[np.arange(block.shape[1]) < lengths[:, None]]  # (segments, ..., width)
            real = real.mean(tuple(range(1, real.ndim - 1))) if real.ndim > 2 else real
            sums = sums + np.stack([real.sum(0), (real**2).sum(0)])
            count += len(real)
            _release(array)
        mean, square = sums / count
        sd = np.sqrt(np.maximum(0, square - mean**2))
        statistics[name] = (torch.from_numpy(mean).float(), torch.from_numpy(sd).float())
    return statistics


def rarity(labels: Tensor, classes: int) -> Tensor:
    """How rare a clip's classes are: the mean over its segments of 1 / (the class's share).

    Args:
        labels: (N, T) class ids, C for background, -1 beyond a clip's end.
        classes: C.

    Returns:
        (N,) float32 above 0.
    """
    real = labels >= 0
    counts = torch.bincount(labels[real], minlength=classes + 1).float()
    each = (counts.sum() / counts.clamp(min=1))[labels.clamp(min=0)] * real
    return each.sum(1) / real.sum(1)


def _own_memory(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """An uninitialised tensor; a large one in memory of its own that goes back when it dies.

    The allocator keeps what is freed (see :mod:`avel.memory`), and a block of over a gigabyte
    that the next split doesn't fit into would stay allocated for nothing.
    """
    count = math.prod(shape) * dtype.itemsize
    if count < _LARGE:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(mmap.mmap(-1, count), dtype=dtype).reshape(shape)


def _release(array: Any) -> None:
    """Give a memory map's pages back: they lie in the file, and the copy is what is used."""
    mapped = getattr(array, "_mmap", None)
    if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)
    for part in ("first", "second"):  # of arrays that are joined where they are read
        if hasattr(array, part):
            _release(getattr(array, part))
