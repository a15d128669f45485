"""Batches across segments and files: full ones, every picture once, rows in order, errors apart."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from avel.errors import MediaError
from avel.features.pipeline import (
    AUDIO_BATCH,
    FileEnd,
    FileStart,
    Networks,
    _AudioTrack,
    _Row,
    ahead,
    patch_starts,
    run,
)
from avel.features.stream import FeatureBlock
from avel.media.file import Segment
from avel.media.mel import NEEDED
from avel.types import Grid

PIXELS = (2, 2, 3)


@dataclass
class Clip:
    """Stands for an open file: ``pictures[t]`` is what segment t shows; fails where told."""

    pictures: Sequence[Sequence[NDArray[np.uint8]]]
    heard: bool = True
    fails_at: int = -1

    def grid(self, step: float) -> Grid:
        return Grid(len(self.pictures) * step, step)

    def segments(self, *, frames: int, step: float) -> Iterator[Segment]:
        for t, images in enumerate(self.pictures):
            if t == self.fails_at:
                raise MediaError("the disk has gone")
            shown = np.stack(images) if len(images) else np.zeros((0, *PIXELS), np.uint8)
            sound = np.full(16, t + 1, np.float32)
            times = tuple(float(t) for _ in images)
            yield Segment(t, shown, sound, -20.0 - t, 16 if self.heard else 0, times)


@dataclass
class Fakes:
    """Networks that note how many inputs came together."""

    batch: int
    clip: bool = False
    seen: list[int] = field(default_factory=list)
    heard: list[int] = field(default_factory=list)

    def see(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        self.seen.append(len(pictures))
        return np.stack([p.astype(np.float32).mean(keepdims=True)[:1] / 7 for p in pictures])

    def hear(self, sounds: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        self.heard.append(len(sounds))
        return np.stack([s[:1] for s in sounds])

    @property
    def networks(self) -> Networks:
        shape = (1, *((1,) * (len(PIXELS) + self.clip - 1)))
        return Networks(self.hear, self.see, (1,), shape, 4, self.batch, self.clip)


def picture(*key: int) -> NDArray[np.uint8]:
    return np.random.default_rng(key).integers(0, 256, PIXELS, np.uint8)


def changing(segments: int, *, seed: int = 0, frames: int = 4) -> list[list[NDArray[np.uint8]]]:
    return [[picture(seed, t, k) for k in range(frames)] for t in range(segments)]


def gathered(files: Sequence[Any], fakes: Fakes) -> dict[int, tuple[Any, Any, Any]]:
    """Audio, visual and levels of each file that came to its end."""
    blocks: dict[int, list[Any]] = {}
    found = {}
    for event in run(files, lambda f: f, fakes.networks, step=1.0):
        if isinstance(event, FileStart):
            blocks[event.file] = []
        elif isinstance(event, FeatureBlock):
            blocks[event.file].append(event)
        elif event.error is None:
            parts = blocks[event.file]
            found[event.file] = tuple(
                np.concatenate([getattr(b, name) for b in parts])
                for name in ("audio", "visual", "levels")
            )
    return found


@pytest.mark.parametrize("batch", [1, 3, 8, 1000])
def test_batches_are_full_across_segments_and_files(batch: int) -> None:
    fakes = Fakes(batch)
    files = [Clip(changing(n, seed=n)) for n in (1, 5, 2, 20)]
    found = gathered(files, fakes)
    assert sorted(found) == [0, 1, 2, 3]
    assert all(n == batch for n in fakes.seen[:-1]) and sum(fakes.seen) == 4 * 28
    assert all(n == AUDIO_BATCH for n in fakes.heard[:-1]) and sum(fakes.heard) == 28
    for number, file in enumerate(files):
        audio, visual, levels = found[number]
        plain = [np.mean([p.mean() / 7 for p in images]) for images in file.pictures]
        assert visual.ravel() == pytest.approx(plain, rel=1e-6)
        assert audio.ravel().tolist() == [t + 1 for t in range(len(file.pictures))]
        assert levels.tolist() == [-20.0 - t for t in range(len(file.pictures))]


def test_rows_are_the_same_bits_at_any_batch_and_in_any_company() -> None:
    still = picture(9)
    shown = [
        *changing(3, frames=3),
        [still, still, picture(1)],
        [picture(1), still, still],
        [still],
    ]
    alone = gathered([Clip(shown)], Fakes(1))[0]
    for batch in (2, 3, 7, 1000):
        found = gathered([Clip(changing(3)), Clip(shown), Clip(changing(9))], Fakes(batch))[1]
        for one, other in zip(alone, found, strict=True):
            assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("batch", [1, 2, 32])
@pytest.mark.parametrize("segments", [1, 5, 300])
def test_a_still_picture_is_computed_once_over_all_borders(segments: int, batch: int) -> None:
    fakes = Fakes(batch)
    still = picture(3)
    _, visual, _ = gathered([Clip([[still] * 4] * segments)], fakes)[0]
    assert fakes.seen == [1]
    assert (visual == fakes.see([still])[0]).all() and len(visual) == segments


def test_slow_video_is_computed_picture_by_picture() -> None:
    """Each picture stays for three quarters of a segment: it ends within the next one."""
    shown = [picture(k // 3) for k in range(4 * 30)]
    clip = Clip([shown[4 * t : 4 * t + 4] for t in range(30)])
    fakes = Fakes(5)
    _, visual, _ = gathered([clip], fakes)[0]
    assert sum(fakes.seen) == 40
    plain = [np.mean([p.mean() / 7 for p in images]) for images in clip.pictures]
    assert visual.ravel() == pytest.approx(plain, rel=1e-6)


def test_one_pixel_makes_another_picture() -> None:
    almost = picture(3)
    almost[0, 0, 0] ^= 1
    fakes = Fakes(8)
    gathered([Clip([[picture(3), almost, picture(3), picture(3)]])], fakes)
    assert fakes.seen == [3]


def test_equal_pictures_of_two_files_are_no_neighbours() -> None:
    fakes = Fakes(8)
    gathered([Clip([[picture(3)] * 4]), Clip([[picture(3)] * 4])], fakes)
    assert fakes.seen == [2]


@pytest.mark.parametrize("length", [16, NEEDED, 10 * NEEDED])
def test_networks_hear_the_beginning_and_nothing_else_is_held(length: int) -> None:
    """A step of 600 s would hold 9.6 million samples a segment."""
    got: list[NDArray[np.float32]] = []

    def hear(sounds: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        got.extend(sounds)
        return np.zeros((len(sounds), 1), np.float32)

    class Uneven(Clip):
        def segments(self, *, frames: int, step: float) -> Iterator[Segment]:
            for i, segment in enumerate(super().segments(frames=frames, step=step)):
                sound = np.arange(1, length + i + 1, dtype=np.float32)
                yield replace(segment, audio=sound, n_samples_present=len(sound))

    networks = replace(Fakes(4).networks, embed_audio=hear)
    list(run([Uneven([[], []])], lambda f: f, networks, step=1))
    for i, sound in enumerate(got):
        whole = np.zeros(NEEDED, np.float32)
        whole[: length + i] = np.arange(1, length + i + 1, dtype=np.float32)[:NEEDED]
        np.testing.assert_array_equal(sound, whole)
        assert sound.base is None
    assert len(got) == 2


def test_nothing_seen_nothing_heard_is_zeros() -> None:
    fakes = Fakes(8)
    audio, visual, _ = gathered([Clip([[], [], [picture(1)]], heard=False)], fakes)[0]
    assert not audio.any() and fakes.heard == []
    assert not visual[:2].any() and visual[2].any()


def test_long_files_come_in_blocks_while_they_are_read() -> None:
    """A still, silent file fills no batch, and still no more than 64 rows wait."""
    still = [picture(3)] * 4
    read = 0

    class Counted(Clip):
        def segments(self, **options: Any) -> Iterator[Segment]:
            nonlocal read
            for segment in super().segments(**options):
                read += 1
                yield segment

    first = None
    for event in run(
        [Counted([still] * 400, heard=False)], lambda f: f, Fakes(32).networks, step=1
    ):
        if isinstance(event, FeatureBlock):
            first = first or read
            assert len(event.audio) <= 64
    assert first is not None and first < 100


def test_a_files_error_is_its_own() -> None:
    files = [
        Clip(changing(3)),
        Clip(changing(9), fails_at=5),
        MediaError("no media file"),
        Clip(changing(2)),
    ]

    def opened(file: Any) -> Any:
        if isinstance(file, Exception):
            raise file
        return file

    rows = dict.fromkeys(range(4), 0)
    ends = {}
    for event in run(files, opened, Fakes(7).networks, step=1.0):
        if isinstance(event, FeatureBlock):
            rows[event.file] += len(event.audio)
        elif isinstance(event, FileEnd):
            ends[event.file] = str(event.error or "")
    assert rows == {0: 3, 1: 5, 2: 0, 3: 2}
    assert list(ends) == [0, 1, 2, 3]
    assert [bool(e) for e in ends.values()] == [False, True, True, False]


def test_clips_go_through_whole_and_short_ones_are_held() -> None:
    fakes = Fakes(2, clip=True)
    shown = [[picture(t, k) for k in range(n)] for t, n in enumerate((4, 4, 2, 0))]
    _, visual, _ = gathered([Clip(shown)], fakes)[0]
    assert fakes.seen == [2, 1]
    held = np.stack([*shown[2], shown[2][-1], shown[2][-1]])
    assert (visual[2] == fakes.see([held])[0]).all() and not visual[3].any()


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == "avel-decode"]


def test_files_are_asked_for_late_and_their_own_error_comes_out() -> None:
    asked = 0

    def files() -> Iterator[Clip]:
        nonlocal asked
        for n in range(50):
            asked += 1
            yield Clip(changing(4, seed=n))
        raise OSError("the list has gone")

    events = run(files(), lambda f: f, Fakes(4).networks, step=1.0)
    assert isinstance(next(events), FileStart) and asked < 10
    with pytest.raises(OSError, match="the list has gone"):
        for _ in events:
            pass
    assert asked == 50 and threads() == []


def test_a_stream_that_is_left_half_read_may_be_collected_by_the_thread_that_decodes() -> None:
    held: list[Iterator[int]] = []

    def source() -> Iterator[int]:
        yield 0
        yield 1
        while not held:
            time.sleep(0.01)
        held.pop().close()  # as the garbage collector does, in whatever thread it runs
        done.set()
        yield 2

    done = threading.Event()
    stream = ahead(source())
    assert next(stream) == 0
    held.append(stream)
    assert done.wait(5)


def test_decoding_runs_only_a_few_segments_ahead() -> None:
    made = 0

    def source() -> Iterator[Any]:
        nonlocal made
        for _i in range(100):
            made += 1
            yield object()

    stream = ahead(source())
    for taken in range(1, 60):
        next(stream)
        assert made <= taken + 10
    stream.close()  # type: ignore[attr-defined]
    assert made < 80 and threads() == []


# ---- overlapping patches of sound


@pytest.mark.parametrize(
    ("seconds", "hop", "expected"),
    [
        (1.0, 0.0, [16000]),
        (1.0, 0.48, [16000 - 3640, 16000 - 3640 + 7680]),  # around the middle, 24000
        (0.5, 0.48, [16000 + 4000 - 7800]),
        (2.0, 0.48, [16000 + 16000 - 19320 + k * 7680 for k in range(4)]),
    ],
)
def test_patches_stand_around_a_segments_middle(
    seconds: float, hop: float, expected: list[int]
) -> None:
    assert patch_starts(16000, 16000 + round(seconds * 16000), hop) == expected


@dataclass
class Tune:
    """Stands for an open file with this sound and no picture."""

    sound: NDArray[np.float32]
    step: float
    silent: frozenset[int] = frozenset()

    def grid(self, step: float) -> Grid:
        return Grid(len(self.sound) / 16000, step)

    def segments(self, *, frames: int, step: float) -> Iterator[Segment]:
        size = round(step * 16000)
        for t in range(len(self.grid(step))):
            part = self.sound[t * size : (t + 1) * size]
            none = np.zeros((0, *PIXELS), np.uint8)
            yield Segment(t, none, part, -20.0, 0 if t in self.silent else len(part), ())


@pytest.mark.parametrize("seconds", [0.4, 1.0, 3.0, 40.3])
@pytest.mark.parametrize("step", [0.5, 1.0, 2.0])
def test_overlapping_patches_are_averaged_and_reach_into_their_neighbours(
    seconds: float, step: float
) -> None:
    sound = np.random.default_rng(0).standard_normal(round(seconds * 16000)).astype(np.float32)
    fakes = Fakes(4)
    heard: list[NDArray[np.float32]] = []

    def hear(sounds: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        heard.extend(sounds)
        return np.array([[s[0], s.sum()] for s in sounds], np.float32)

    networks = replace(fakes.networks, embed_audio=hear, audio_shape=(2,), patch_hop=0.48)
    blocks = [
        e
        for e in run([Tune(sound, step)], lambda f: f, networks, step=step)
        if isinstance(e, FeatureBlock)
    ]
    found = np.concatenate([b.audio for b in blocks])
    padded = np.concatenate([np.zeros(NEEDED, np.float32), sound, np.zeros(40000, np.float32)])
    size = round(step * 16000)
    expected = []
    for t in range(len(Grid(seconds, step))):
        stop = min((t + 1) * size, len(sound))
        patches = [padded[s + NEEDED : s + 2 * NEEDED] for s in patch_starts(t * size, stop, 0.48)]
        expected.append(np.mean([[p[0], p.sum()] for p in patches], axis=0))
    assert found == pytest.approx(np.array(expected), rel=1e-4, abs=1e-3)
    assert {len(p) for p in heard} == {NEEDED}


def test_a_segment_without_sound_of_its_own_hears_nothing_of_its_neighbours() -> None:
    networks = replace(Fakes(4).networks, patch_hop=0.48)
    tune = Tune(np.ones(3 * 16000, np.float32), 1.0, silent=frozenset({1}))
    rows = [e for e in run([tune], lambda f: f, networks, step=1.0) if isinstance(e, FeatureBlock)]
    audio = np.concatenate([r.audio for r in rows]).ravel()
    assert audio[1] == 0 and audio[2] == 1


def test_the_sound_that_is_held_doesnt_grow_with_a_file() -> None:
    track = _AudioTrack(0.48)
    most = 0
    for _ in range(50):
        row = _Row(-20.0, True, np.zeros(1, np.float32), np.zeros(1, np.float32))
        list(track.add(row, np.ones(16000, np.float32), audible=True))
        most = max(most, len(track._samples))
    assert most <= 4 * NEEDED
