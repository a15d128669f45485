"""TensorFlow's checkpoints ("tensor bundles") read without TensorFlow: numbers in, no code run.

A bundle is a table of LevelDB's format (``variables.index``: names with type, shape, offset, size)
and one file of raw values (``variables.data-00000-of-00001``). Every length and offset in the
table is checked against the size of the files before it is used.

Formats: LevelDB, doc/table_format.md; TensorFlow, core/protobuf/tensor_bundle.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avel.errors import WeightsError

#: The largest table that is read.
LARGEST_INDEX = 2**24
_MAGIC = 0xDB4775248B80FB57
_FOOTER, _TRAILER = 48, 5
_FLOAT = 1  # DT_FLOAT
_MOST_DIMENSIONS, _LONGEST_NAME = 8, 4096


class _DamagedError(Exception):
    """What is wrong with the bytes, in a few words."""


def read_bundle(index: bytes, data: bytes) -> dict[str, NDArray[np.float32]]:
    """The float32 tensors of a bundle by name; tensors of other types are left out.

    They are read-only views of ``data``: a table that names the same bytes many times needs no
    memory.

    Args:
        index: Of ``variables.index``.
        data: Of the only data file.

    Raises:
        WeightsError: if the table is damaged or compressed, a tensor lies outside of the data or
            has another size than its shape, or there are several data files.
    """
    try:
        return dict(_tensors(index, data))
    except _DamagedError as e:
        raise WeightsError(
            f"a TensorFlow checkpoint that can't be read ({e})",
            expected="variables.index and one data file of a saved model, not compressed",
        ) from e


def _tensors(index: bytes, data: bytes) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for key, value in _table(index):
        if not key:  # the header: the number of data files, and the order of bytes
            header = dict(_fields(value))
            if header.get(1) != 1 or header.get(2):
                raise _DamagedError("several data files, or numbers in big-endian order")
            continue
        entry = _Entry.read(value)
        if entry.dtype != _FLOAT or entry.shape is None:
            continue
        name = key.decode("utf-8", "replace")
        if entry.shard or entry.sliced:
            raise _DamagedError(f"{name[:100]} is split over files or slices")
        count = 1
        for length in entry.shape:
            count *= length
        if not count or entry.size != 4 * count or entry.offset + entry.size > len(data):
            raise _DamagedError(
                f"{name[:100]} of shape {entry.shape} lies at {entry.offset} with {entry.size} "
                f"bytes of {len(data)}"
            )
        yield name, np.frombuffer(data, "<f4", count, entry.offset).reshape(entry.shape)


# --- LevelDB's table -----------------------------------------------------------------------------


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values in their order."""
    if not _FOOTER <= len(data) <= LARGEST_INDEX:
        raise _DamagedError(f"a table of {len(data)} bytes")
    footer = data[-_FOOTER:]
    if int.from_bytes(footer[-8:], "little") != _MAGIC:
        raise _DamagedError("no LevelDB table")
    _, at = _handle(footer, 0)  # of metadata, not needed
    (start, size), _ = _handle(footer, at)
    last = -1  # blocks may not overlap: no byte is read twice
    for _, value in _block(data, start, size):
        (start, size), _ = _handle(value, 0)
        if start <= last:
            raise _DamagedError("its blocks overlap")
        yield from _block(data, start, size)
        last = start + size


def _handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    start, at = _varint(data, at)
    size, at = _varint(data, at)
    return (start, size), at


def _block(data: bytes, start: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """The entries of a block; each key tells how much of the one before it begins with."""
    if start + size + _TRAILER > len(data) or size < 4:
        raise _DamagedError(f"a block at {start} with {size} bytes of {len(data)}")
    if data[start + size]:
        raise _DamagedError("a block is compressed")
    block = data[start : start + size]
    end = size - 4 - 4 * int.from_bytes(block[-4:], "little")  # restart points, not needed
    if end < 0:
        raise _DamagedError("a block has more restart points than bytes")
    at, key = 0, b""
    while at < end:
        shared, at = _varint(block, at)
        rest, at = _varint(block, at)
        length, at = _varint(block, at)
        if shared > len(key) or at + rest + length > end:
            raise _DamagedError("an entry is longer than its block")
        if shared + rest > _LONGEST_NAME:
            raise _DamagedError(f"a name of {shared + rest} bytes")
        key = key[:shared] + block[at : at + rest]
        at += rest
        yield key, block[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of at most 64 bits, seven a byte, lowest first; and where the next thing begins."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise _DamagedError("a number has no end")


# --- protocol buffers ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Entry:
    """A BundleEntryProto: where a tensor lies, and what it is."""

    dtype: int
    shape: tuple[int, ...] | None
    shard: int
    offset: int
    size: int
    sliced: bool

    @classmethod
    def read(cls, data: bytes) -> _Entry:
        fields = list(_fields(data))
        numbers = {n: v for n, v in fields if isinstance(v, int)}
        shapes = [v for n, v in fields if n == 2 and isinstance(v, bytes)]
        return cls(
            dtype=numbers.get(1, 0),
            shape=_shape(shapes[0]) if shapes else None,
            shard=numbers.get(3, 0),
            offset=numbers.get(4, 0),
            size=numbers.get(5, 0),
            sliced=any(n == 7 for n, _ in fields),
        )


def _shape(data: bytes) -> tuple[int, ...]:
    """Of a TensorShapeProto."""
    lengths = []
    for number, value in _fields(data):
        if number == 2 and isinstance(value, bytes):
            size = [v for n, v in _fields(value) if n == 1 and isinstance(v, int)]
            lengths.append(size[0] if size else 0)
    if len(lengths) > _MOST_DIMENSIONS:
        raise _DamagedError(f"a tensor of {len(lengths)} dimensions")
    return tuple(lengths)


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Numbers and values of a message's fields; fixed numbers come as bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            number, at = _varint(data, at)
            yield tag >> 3, number
            continue
        if kind == 2:
            length, at = _varint(data, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise _DamagedError(f"a field of kind {kind}")
        if at + length > len(data):
            raise _DamagedError("a field is longer than its message")
        yield tag >> 3, data[at : at + length]
        at += length
