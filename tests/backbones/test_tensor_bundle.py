"""TensorFlow's checkpoints: what is in them comes out, and nothing in them does harm."""

from __future__ import annotations

import random

import numpy as np
import pytest
from numpy.typing import NDArray

from avel.backbones import tensor_bundle
from avel.backbones.tensor_bundle import read_bundle
from avel.errors import WeightsError
from tests.bundles import HEADER, block, bundle, entry, message, number, table, varint

BIG = 2**60


def some() -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(4)
    shapes = {"net/a/kernel": (3, 2, 1, 4), "net/a/bias": (4,), "net/b/kernel": (5, 7), "step": ()}
    return {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}


def of(*entries: tuple[bytes, bytes], data: bytes = b"12345678") -> dict[str, NDArray[np.float32]]:
    return read_bundle(table([block([HEADER, *entries])]), data)


@pytest.mark.parametrize("most", [1, 2, 20])
def test_what_was_written_is_read(most: int) -> None:
    found = read_bundle(*bundle(some(), most=most))
    assert sorted(found) == sorted(some())
    for name, values in some().items():
        np.testing.assert_array_equal(found[name], values)


def test_other_types_are_left_out() -> None:
    strings, ints = entry((), 0, 8, dtype=7), entry((1,), 0, 8, dtype=9)
    found = of((b"_GRAPH", strings), (b"count", ints), (b"x", entry((2,), 0, 8)))
    assert list(found) == ["x"]


def test_a_table_that_is_cut_anywhere_is_refused() -> None:
    index, data = bundle(some())
    for length in range(len(index)):
        with pytest.raises(WeightsError):
            read_bundle(index[:length], data)
    with pytest.raises(WeightsError, match="lies at"):
        read_bundle(index, data[:-1])


def test_bytes_that_are_wrong_give_an_error_of_ours_or_an_answer() -> None:
    index, data = bundle(some(), most=2)
    draw = random.Random(3)
    for _ in range(5000):
        wrong = bytearray(index)
        for _ in range(draw.choice([1, 1, 2, 5])):
            wrong[draw.randrange(len(wrong))] = draw.choice(
                [0, 1, 127, 128, 255, draw.randrange(256)]
            )
        try:
            found = read_bundle(bytes(wrong), data)
        except WeightsError:
            continue
        assert sum(a.nbytes for a in found.values()) <= len(found) * len(data)


@pytest.mark.parametrize(
    ("hostile", "told"),
    [
        (entry((BIG,), 0, 4 * BIG), "lies at"),
        (entry((BIG, BIG, BIG), 0, 8), "lies at"),
        (entry((2,), BIG, 8), "lies at"),
        (entry((2,), 4, 8), "lies at"),
        (entry((2,), 0, BIG), "lies at"),
        (entry((0, BIG), 0, 0), "lies at"),
        (entry((2,), 2**64 - 4, 8), "lies at"),
        (entry((1,) * 9, 0, 4), "9 dimensions"),
        (entry((2,), 0, 8, more=number(3, 1)), "split"),
        (entry((2,), 0, 8, more=message(7, b"")), "split"),
        (number(1, 1) + varint(2 << 3 | 2) + varint(BIG), "longer than its message"),
        (number(1, 1) + varint(2 << 3 | 3), "kind 3"),
        (b"\x08" + b"\xff" * 20, "no end"),
    ],
)
def test_tensors_that_lie_about_themselves_are_refused(hostile: bytes, told: str) -> None:
    with pytest.raises(WeightsError, match=told):
        of((b"x", hostile))


def test_blocks_that_lie_about_themselves_are_refused() -> None:
    good = block([HEADER, (b"x", entry((2,), 0, 8))])
    whole = table([good])
    for handle, told in [
        (varint(BIG) + varint(8), "a block at"),
        (varint(0) + varint(BIG), "a block at"),
        (varint(0) + varint(3), "a block at"),
        (varint(0), "no end"),
    ]:
        with pytest.raises(WeightsError, match=told):
            read_bundle(table([good], handles=[handle]), b"12345678")
    again = varint(0) + varint(len(good) - 5)
    with pytest.raises(WeightsError, match="overlap"):
        read_bundle(table([good], handles=[again, again]), b"12345678")
    with pytest.raises(WeightsError, match="compressed"):
        read_bundle(table([block([HEADER], kind=1)]), b"")
    long = varint(0) + varint(BIG) + varint(1) + b"k" + bytes(4) + (1).to_bytes(4, "little")
    with pytest.raises(WeightsError, match="longer than its block"):
        read_bundle(table([long + bytes(5)]), b"")
    with pytest.raises(WeightsError, match="a name of 4097 bytes"):
        of((b"k" * 4097, b""))
    restarts = b"\xff\xff\xff\xff" + bytes(5)
    with pytest.raises(WeightsError, match="restart points"):
        read_bundle(table([restarts]), b"")
    with pytest.raises(WeightsError, match="no LevelDB"):
        read_bundle(whole[:-1] + b"\0", b"12345678")


@pytest.mark.parametrize("header", [number(1, 2), number(1, 1) + number(2, 1), b""])
def test_only_one_data_file_in_little_endian(header: bytes) -> None:
    with pytest.raises(WeightsError, match="several data files"):
        read_bundle(table([block([(b"", header)])]), b"")


def test_a_table_may_be_only_so_large(monkeypatch: pytest.MonkeyPatch) -> None:
    index, data = bundle(some())
    monkeypatch.setattr(tensor_bundle, "LARGEST_INDEX", len(index) - 1)
    with pytest.raises(WeightsError, match="a table of"):
        read_bundle(index, data)
