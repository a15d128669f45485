"""Kept features: the same rows again, nothing decoded, bounded, never in anybody's way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avel.errors import DataError, MediaError, UsageError
from avel.features import cache
from avel.features.stream import FeatureBlock, FeatureStream
from avel.types import Features, Grid


class Heard:
    """What is asked of a media file."""

    audio: object | None = object()
    video: object | None = None
    player_start = 7.0
    notes: list[str]

    def __init__(self) -> None:
        self.notes = []


class Fake:
    """An extractor of random rows, which counts how often it is asked."""

    step = 1.0

    def __init__(self, count: int = 150, name: str = "ears") -> None:
        self.count, self.name, self.asked = count, name, 0

    @property
    def cards(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return {"name": self.name}, {"name": "eyes"}

    def stream(self, media: Any, *, progress: Any = None) -> FeatureStream:
        self.asked += 1
        return FeatureStream(
            self.blocks(media), grid=Grid(float(self.count)), widths=(5, 3), cards=self.cards
        )

    def blocks(self, media: Any) -> Iterator[FeatureBlock]:
        rng = np.random.default_rng(0)
        for first in range(0, self.count, 40):
            n = min(40, self.count - first)
            block = FeatureBlock.of(n, (5,), (2, 2, 3))
            block.audio[:] = rng.random((n, 5))
            block.visual[:] = rng.random((n, 2, 2, 3))
            block.levels[:] = rng.uniform(-60, 0, n)
            block.visible[:] = rng.random(n) > 0.5
            yield block
        media.notes.append("picture: 3 packets couldn't be decoded")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AVEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("AVEL_CACHE_GB", raising=False)
    path = tmp_path / "a.mp4"
    path.write_bytes(b"content")
    return path


def keep(file: Path, make: Fake) -> tuple[Path, Features]:
    entry = cache.entry_path(file, make)
    media: Any = Heard()
    return entry, cache.caching(make.stream(media), entry, media).gather()


def test_kept_rows_are_the_same_rows(file: Path) -> None:
    make = Fake()
    entry, first = keep(file, make)
    found = cache.load_entry(entry, source="b.mp4")
    assert found is not None
    stream, facts = found
    assert facts == cache.Facts(True, False, ("picture: 3 packets couldn't be decoded",), 7.0)
    again = stream.gather()
    for name in ("audio", "visual", "audible", "visible"):
        np.testing.assert_array_equal(getattr(again, name), getattr(first, name))
    assert again.grid == first.grid
    assert (again.audio_card, again.visual_card, again.source) == (*make.cards, "b.mp4")


def test_an_entry_is_a_feature_file(file: Path) -> None:
    entry, first = keep(file, Fake())
    loaded = Features.load(entry)
    np.testing.assert_array_equal(loaded.visual, first.visual)
    np.testing.assert_array_equal(loaded.audible, first.audible)
    assert loaded.audio_card == first.audio_card


def test_audible_is_known_of_the_first_rows(file: Path) -> None:
    entry, first = keep(file, Fake())
    found = cache.load_entry(entry)
    assert found is not None
    rows = found[0].blocks()
    next(rows)
    np.testing.assert_array_equal(found[0].audible[:64], first.audible[:64])


def test_names_go_by_content_cards_step_and_tracks(file: Path, tmp_path: Path) -> None:
    make, other = Fake(), tmp_path / "renamed.mkv"
    other.write_bytes(b"content")
    path = cache.entry_path(file, make)
    assert cache.entry_path(other, make) == path
    other.write_bytes(b"other content")
    half = Fake()
    half.step = 0.5
    others = {
        cache.entry_path(other, make),
        cache.entry_path(file, Fake(name="other")),
        cache.entry_path(file, half),
        cache.entry_path(file, make, audio_track=1),
        cache.entry_path(file, make, video_track=1),
    }
    assert len(others) == 5 and path not in others
    with pytest.raises(MediaError):
        cache.entry_path(tmp_path / "none.mp4", make)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"damaged",
        lambda data: data[:-1],
        lambda data: data.replace(b'"F64"', b'"F9"'),
        lambda data: data.replace(b'[150]', b'[149]'),
        lambda data: data.replace(b'"data_offsets": [0,', b'"data_offsets": [-9,'),
        lambda data: b"\xff" * 8 + data[8:],
        lambda data: data[:8] + b"[" * 65536 + data[8 + 65536 :],
    ],
)  # fmt: skip
def test_damaged_entries_are_removed(file: Path, damage: Any) -> None:
    entry, _ = keep(file, Fake())
    good = entry.read_bytes()
    assert damage(good) != good
    entry.write_bytes(damage(good))
    assert cache.load_entry(entry) is None
    assert not entry.exists()


def test_one_wrong_bit_anywhere_is_never_an_answer(file: Path) -> None:
    entry, first = keep(file, Fake())
    good = entry.read_bytes()
    head = good.index(b" " * 64)  # the header's text ends here
    rng = np.random.default_rng(7)
    places = {*rng.integers(0, head, 150).tolist(), *rng.integers(head, len(good), 150).tolist()}
    wrong = removed = 0
    for place in places:
        entry.write_bytes(
            good[:place] + bytes([good[place] ^ (1 << place % 8)]) + good[place + 1 :]
        )
        found = cache.load_entry(entry)
        removed += not entry.exists()
        if found is not None:
            stream = found[0].gather()
            wrong += not np.array_equal(stream.visual, first.visual)
            wrong += not np.array_equal(stream.audio, first.audio)
            wrong += not np.array_equal(stream.audible, first.audible)
            wrong += stream.audio_card != first.audio_card or stream.grid != first.grid
    assert wrong == 0 and removed > 150


def test_a_damaged_entry_that_cant_be_removed_is_made_anew(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, _ = keep(file, Fake())
    entry.write_bytes(b"damaged")

    def denied(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "unlink", denied)
    assert cache.load_entry(entry) is None


def truncate(entry: Path) -> None:
    os.truncate(entry, entry.stat().st_size // 2)


@pytest.mark.parametrize("loses", [Path.unlink, truncate])
def test_an_entry_that_is_lost_before_it_is_read_is_named(file: Path, loses: Any) -> None:
    entry, _ = keep(file, Fake())
    found = cache.load_entry(entry)
    assert found is not None
    loses(entry)
    with pytest.raises(DataError, match=r"can't be read any more[^$]*hint: run it again"):
        found[0].gather()


def test_a_stream_that_is_left_leaves_nothing(file: Path) -> None:
    make = Fake()
    entry = cache.entry_path(file, make)
    media: Any = Heard()
    rows = cache.caching(make.stream(media), entry, media).blocks()
    next(rows)
    assert list(entry.parent.iterdir())  # half done, under another name
    assert not entry.exists()
    rows.close()
    assert list(entry.parent.iterdir()) == []


def test_a_disk_that_is_full_ends_no_stream(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, whole = keep(file, Fake())
    make = Fake(name="other")
    entry = cache.entry_path(file, make)
    writer = cache._Writer
    put = writer._put

    def full(self: Any, place: int, data: Any) -> None:
        if self.done >= 80 and self._file is not None:
            self._file.close()
            self._file = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115
        put(self, place, data)

    if Path("/dev/full").exists():
        monkeypatch.setattr(writer, "_put", full)
    else:
        pytest.skip("no /dev/full here")
    _, found = keep(file, make)
    np.testing.assert_array_equal(found.visual, whole.visual)
    assert not entry.exists() and len(list(entry.parent.iterdir())) == 1


def test_a_folder_that_can_not_be_made_ends_no_stream(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taken").write_text("a file")
    monkeypatch.setenv("AVEL_CACHE", str(tmp_path / "taken"))
    entry, found = keep(file, Fake())
    assert len(found) == 150 and not entry.exists()


def test_the_oldest_makes_room(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [keep(file, Fake(name=f"ears{i}"))[0] for i in range(4)]
    size = entries[0].stat().st_size
    for i, entry in enumerate(entries):
        os.utime(entry, (i, i))
    assert cache.load_entry(entries[0]) is not None  # used: now the newest
    monkeypatch.setenv("AVEL_CACHE_GB", str(2.5 * size / 10**9))
    stale = entries[0].parent / ".old.tmp.safetensors"
    stale.write_bytes(b"")
    os.utime(stale, (0, 0))
    cache.make_room(entries[0].parent)
    assert sorted(entries[0].parent.iterdir()) == sorted([entries[0], entries[3]])


def test_one_that_is_too_large_is_not_kept_and_drives_nobody_out(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [keep(file, Fake(name=f"ears{i}"))[0] for i in range(2)]
    size = entries[0].stat().st_size
    monkeypatch.setenv("AVEL_CACHE_GB", str(2.5 * size / 10**9))
    large, found = keep(file, Fake(count=9000))
    assert len(found) == 9000
    assert sorted(large.parent.iterdir()) == sorted(entries)


@pytest.mark.parametrize("said", ["-1", "nan", "much"])
def test_a_wrong_bound_is_named_before_the_work(
    file: Path, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVEL_CACHE_GB", said)
    with pytest.raises(UsageError, match="AVEL_CACHE_GB"):
        cache.features_of(file, Fake())
