"""A writer of small TensorFlow checkpoints: LevelDB's table and a file of values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

MAGIC = 0xDB4775248B80FB57

Entry = tuple[bytes, bytes]


def varint(value: int) -> bytes:
    out = b""
    while value >= 128:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def message(field: int, value: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(value)) + value


def entry(
    shape: Sequence[int], offset: int, size: int, *, dtype: int = 1, more: bytes = b""
) -> bytes:
    """A BundleEntryProto, with a checksum that nobody checks."""
    dims = b"".join(message(2, number(1, length)) for length in shape)
    body = number(1, dtype) + message(2, dims)
    body += (number(4, offset) if offset else b"") + number(5, size)
    return body + varint(6 << 3 | 5) + b"\1\2\3\4" + more


def block(entries: Sequence[Entry], *, kind: int = 0) -> bytes:
    """Keys share what they have in common with the one before, but for every third."""
    out, last, restarts = b"", b"", []
    for i, (key, value) in enumerate(entries):
        shared = 0
        if i % 3:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        else:
            restarts.append(len(out))
        own = key[shared:]
        out += varint(shared) + varint(len(own)) + varint(len(value)) + own + value
        last = key
    for at in restarts or [0]:
        out += at.to_bytes(4, "little")
    return out + len(restarts or [0]).to_bytes(4, "little") + bytes([kind]) + b"\0\0\0\0"


def table(blocks: Sequence[bytes], *, handles: Sequence[bytes] | None = None) -> bytes:
    """A whole table of blocks; ``handles`` in place of the right ones."""
    out, right = b"", []
    for made in blocks:
        right.append(varint(len(out)) + varint(len(made) - 5))
        out += made
    meta = varint(len(out)) + varint(8)
    out += block([])
    index = block([(bytes([i]), h) for i, h in enumerate(handles or right)])
    footer = meta + varint(len(out)) + varint(len(index) - 5)
    return out + index + footer.ljust(40, b"\0") + MAGIC.to_bytes(8, "little")


HEADER: Entry = (b"", number(1, 1) + message(3, number(1, 1)))


def bundle(tensors: Mapping[str, NDArray[np.float32]], *, most: int = 20) -> tuple[bytes, bytes]:
    """The two files of a checkpoint, with at most so many tensors a block."""
    data, entries = b"", [HEADER]
    for name in sorted(tensors):
        values = tensors[name].astype("<f4").tobytes()
        entries.append((name.encode(), entry(tensors[name].shape, len(data), len(values))))
        data += values
    return table([block(entries[i : i + most]) for i in range(0, len(entries), most)]), data
