"""Media: frames by timestamp, sound on its seconds, damage survived, nonsense refused."""

from __future__ import annotations

import io
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from avel import clock
from avel.errors import MediaError, UsageError
from avel.media import excerpt as cutting
from avel.media.decode import Damage, SoundBlock, SoundLine, blocks, decoded, on_clock, packets
from avel.media.encode import write_video
from avel.media.file import RATE, Media, Segment, audio_track, frames_at, open_media
from avel.media.probe import _true_end
from tests.conftest import shared_folder
from tests.media_files import click, grey, mux, tone

FOLDER = shared_folder()
FILES = sorted((FOLDER / "media" / "video").glob("*")) if FOLDER else []
real_files = pytest.mark.parametrize("path", FILES or [None], ids=[p.name for p in FILES] or None)


def sound_of(media: Media) -> np.ndarray:
    return np.concatenate([s.audio for s in media.segments(frames=1, size=8)])


def loudest(media: Media) -> float:
    """Seconds at which the loudest sample lies."""
    return float(np.abs(sound_of(media)).argmax()) / RATE


def values(segment: Segment) -> list[int]:
    """The mean grey of each frame."""
    return [round(float(f.mean())) for f in segment.frames]


# --- real files ----------------------------------------------------------------------------------


def naive_times(media: Media) -> tuple[list[float], float]:
    """Frame times by the plainest decoding there is, and when the last frame ends."""
    assert media.video is not None
    times = []
    with av.open(str(media.path)) as container:
        stream = container.streams[media.video.index]
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                continue
            for frame in frames:
                times.append(float(frame.pts * frame.time_base))
                end = times[-1] + float(frame.duration * frame.time_base)
        start = (container.start_time or 0) / 1e6
    return [t - start for t in times], end - start


@real_files
def test_frame_times_are_the_files_own(shared: Path, path: Path) -> None:
    """And every segment is whole."""
    media = open_media(path)
    times, end = naive_times(media)
    assert times == sorted(times)
    count = 0
    for segment in media.segments(size=64):
        assert segment.index == count
        count += 1
        _is_whole(segment, media)
        expected = []
        for instant in clock.frame_times(segment.index, 16):
            if instant < end - 1e-6:
                before = [t for t in times if t <= instant + 1e-6]
                expected.append(before[-1] if before else times[0])
        assert list(segment.frame_times) == pytest.approx(expected, abs=1e-6)
        assert len(segment.frames) == len(expected)
    assert count == len(media.grid())


def _is_whole(segment: Segment, media: Media) -> None:
    assert segment.frames.shape[1:] == (64, 64, 3) and segment.frames.dtype == np.uint8
    assert segment.audio.shape == (RATE,) and segment.audio.dtype == np.float32
    assert segment.visible and np.isfinite(segment.audio).all() and -120 <= segment.rms <= 20
    assert (segment.n_samples_present > 0) == (media.audio is not None)


@real_files
def test_pictures_are_upright_and_bilinear(shared: Path, path: Path) -> None:
    """Against Pillow on the full-size frame turned by ffmpeg's rule."""
    media = open_media(path)
    assert media.video is not None
    frame = next(decoded(path, media.video.index, Damage()))
    full = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
    pillow = Image.fromarray(np.ascontiguousarray(full)).resize(
        (224, 224), Image.Resampling.BILINEAR
    )
    ours = next(media.segments()).frames[0]
    assert np.abs(ours.astype(float) - np.asarray(pillow)).mean() < 1.6


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_rotation_flags(shared: Path, degrees: int) -> None:
    media = open_media(shared / "media" / "video" / f"rotated_{degrees}.mov")
    assert media.video is not None and media.video.rotation in {degrees, (360 - degrees) % 360}
    (picture,) = frames_at(media.path, [0.0], width=100)
    assert picture is not None
    portrait = degrees in (90, 270)
    assert picture.shape == ((178, 100, 3) if portrait else (56, 100, 3))


def test_damage_is_survived_and_noted(shared: Path) -> None:
    media = open_media(shared / "media" / "video" / "corrupted.mp4")
    times = {t for s in media.segments(size=8) for t in s.frame_times}
    assert len(times) >= 48  # of 50
    assert any("couldn't be decoded" in note for note in media.notes)


def test_tracks_default_choice_and_error(shared: Path) -> None:
    path = shared / "media" / "video" / "nasa_13013.mp4"
    best, first = open_media(path), open_media(path, video_track=0, audio_track=0)
    assert (best.video.width, first.video.width) == (480, 320)  # type: ignore[union-attr]
    assert (best.audio.rate, first.audio.rate) == (16000, 8000)  # type: ignore[union-attr]
    assert next(first.segments()).visible
    with pytest.raises(UsageError, match=r"no video track 7.*\n.*0 \(h264, 320x180") as caught:
        open_media(path, video_track=7)
    assert "1 (h264, 480x270" in str(caught.value)
    with pytest.raises(UsageError, match="no audio track"):
        open_media(shared / "media" / "video" / "av1_video.mkv", audio_track=0)


def test_one_pixel_at_one_frame_a_second(shared: Path) -> None:
    segments = list(open_media(shared / "media" / "video" / "test_video.mp4").segments())
    assert [s.frame_times for s in segments] == [(float(i),) * 16 for i in range(5)]


def test_a_late_piece_of_sound_keeps_its_place(shared: Path) -> None:
    """In fire2.mp4 the sound has a gap from 0.021 to 0.176 s."""
    media = open_media(shared / "media" / "video" / "fire2.mp4")
    first = next(media.segments(frames=1))
    assert not first.audio[400:2750].any() and first.audio[2900:].any()
    assert first.n_samples_present == pytest.approx(RATE * (1 - 0.1552), abs=50)


# --- the clock -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize(("begin", "at"), [(0.0, 0.5), (1.476, 2.25), (2.9, 3.01)])
def test_sound_that_starts_late(tmp_path: Path, rate: int, begin: float, at: float) -> None:
    sound = click(4 - begin, at - begin, rate)
    pictures = [(i / 10, grey(60)) for i in range(40)]
    path = mux(tmp_path / "a.mkv", pictures=pictures, sounds=[(begin, sound)], rate=rate)
    media = open_media(path)
    assert media.duration == pytest.approx(4.0, abs=0.1)
    assert loudest(media) == pytest.approx(at, abs=0.003)
    present = [s.n_samples_present for s in media.segments(frames=1, size=8)]
    expected = [RATE * min(1.0, max(0.0, i + 1 - begin)) for i in range(4)]
    assert present == pytest.approx(expected, abs=20)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov", "a.ts"])
def test_flash_and_click_stay_together(tmp_path: Path, name: str) -> None:
    """Compressed picture and sound in each container.

    MPEG-TS doesn't start at zero, and begins with the 23 ms that AAC needs to swing in.
    """
    frames = (grey(250 if i == 52 else 5) for i in range(100))
    write_video(tmp_path / name, frames=frames, fps=25, audio=click(4, 2.08, 44100), rate=44100)
    media = open_media(tmp_path / name)
    assert (media.start > 0.01) == name.endswith(".ts")
    assert media.duration == pytest.approx(4.0, abs=0.08)
    instant = 2.08 + (1024 / 44100 if name.endswith(".ts") else 0)
    assert loudest(media) == pytest.approx(instant, abs=0.01)
    bright = [
        t
        for s in media.segments(frames=50, size=8)
        for t, v in zip(s.frame_times, values(s), strict=True)
        if v > 120
    ]
    assert bright and max(abs(t - instant) for t in bright) < 0.002


@pytest.mark.parametrize(("name", "codec"), [("a.ts", "aac"), ("a.mkv", "pcm_s16le")])
def test_a_file_whose_clock_starts_late(tmp_path: Path, name: str, codec: str) -> None:
    pictures = [(100 + i / 10, grey(200 if i == 15 else 5)) for i in range(30)]
    sounds = [(100.8, click(2.2, 0.7, 48000))]
    path = mux(tmp_path / name, pictures=pictures, sounds=sounds, rate=48000, audio=codec)
    media = open_media(path)
    assert media.start > 99 and media.duration == pytest.approx(3.0, abs=0.1)
    assert loudest(media) == pytest.approx(1.5, abs=0.025 if codec == "aac" else 0.003)
    segments = list(media.segments(frames=10))
    assert [round(t, 2) for t in segments[1].frame_times] == [1 + i / 10 for i in range(10)]
    assert values(segments[1])[5] > 150 and sum(v > 150 for s in segments for v in values(s)) == 1
    (bright,) = frames_at(path, [1.55], width=16)
    assert bright is not None and bright.mean() > 150


def test_variable_frame_rate_goes_by_timestamp(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.9, 1.55, 1.6, 1.65, 2.99]
    pictures = [(t, grey(20 + 30 * i)) for i, t in enumerate(times)]
    media = open_media(mux(tmp_path / "vfr.mkv", pictures=pictures))
    segments = list(media.segments(frames=10))
    assert segments[0].frame_times == (0.0, *(0.04,) * 8, 0.9)
    assert segments[1].frame_times == (*(0.9,) * 6, *[1.6] + [1.65] * 3)
    assert segments[2].frame_times == (1.65,) * 10
    shown = [20 + 30 * times.index(t) for s in segments[:3] for t in s.frame_times]
    seen = [v for s in segments[:3] for v in values(s)]
    assert max(abs(a - b) for a, b in zip(shown, seen, strict=True)) <= 3


def test_picture_that_starts_late_and_ends_early(tmp_path: Path) -> None:
    pictures = [(1.3 + i / 10, grey(100)) for i in range(10)]
    path = mux(tmp_path / "a.mkv", pictures=pictures, sounds=[(0.0, tone(4, RATE))])
    segments = list(open_media(path).segments())
    assert [s.visible for s in segments] == [False, True, True, True]
    assert len(segments[1].frames) == 16 and set(segments[1].frame_times[:5]) == {1.3}
    assert len(segments[2].frames) == 16 and set(segments[3].frame_times) == {2.2}


def test_gap_and_overlap_in_the_sound(tmp_path: Path) -> None:
    sounds = [(0.0, tone(1.0, RATE)), (2.0, click(1.0, 0.5, RATE)), (2.9, tone(0.3, RATE, 0.1))]
    path = mux(tmp_path / "a.mkv", sounds=sounds)
    heard = list(open_media(path).segments())
    assert [s.n_samples_present > 15800 for s in heard[:3]] == [True, False, True]
    assert not heard[1].audio[100:].any()
    assert int(np.abs(heard[2].audio).argmax()) == pytest.approx(8000, abs=60)
    assert len(heard) == 4 and heard[3].n_samples_present == pytest.approx(3200, abs=400)


@given(
    pieces=st.lists(st.tuples(st.integers(-400, 5000), st.integers(1, 900)), max_size=12),
    reads=st.lists(st.integers(1, 2500), min_size=1, max_size=8),
)
@settings(max_examples=300, deadline=None)
def test_sound_line_equals_a_plain_placement(
    pieces: list[tuple[int, int]], reads: list[int]
) -> None:
    """Blocks in any order of time: each sample at its place, the first to come keeps it."""
    rate = 1000  # no resampling; 20 samples of jitter are let pass
    line, position, incoming = np.zeros(20000, np.float32), 0, []
    for number, (begin, length) in enumerate(pieces, start=1):
        samples = np.full(length, number, np.float32)
        incoming.append(SoundBlock(begin / rate, rate, samples))
        offset = begin - position
        if position and abs(offset) <= 20:
            offset = 0
        position += max(0, offset)
        kept = samples[max(0, -offset) :]
        line[position : position + len(kept)] = kept
        position += len(kept)
    sound = SoundLine(iter(incoming), rate)
    got = [sound.read(n) for n in reads]
    assert np.array_equal(np.concatenate([g for g, _ in got]), line[: sum(reads)])
    first = 0
    for n, (_, present) in zip(reads, got, strict=True):
        assert present == np.count_nonzero(line[first : first + n])
        first += n


def test_one_wild_time_of_sound_is_not_believed() -> None:
    class Frame:
        samples, sample_rate, is_corrupt = 1000, 1000, False
        format = type("F", (), {"is_planar": True})
        layout = type("L", (), {"nb_channels": 1})

        def __init__(self, time: float) -> None:
            self.time = time

        def to_ndarray(self) -> np.ndarray:
            return np.ones((1, 1000), np.float32)

    times = [0.0, 1.0, 80000.0, 3.0, 4.0]
    found = blocks((Frame(t) for t in times), start=0.0, damage=Damage())
    heard, present = SoundLine(found, 1000).read(5000)
    assert heard.all() and present == 5000


def test_one_wild_time_of_a_picture_is_not_believed() -> None:
    class Frame:
        width = height = 2
        duration, is_corrupt = 0, False

        def __init__(self, time: float | None) -> None:
            self.time = time

    times = [0.0, 0.1, 80000.0, 0.3, 0.2, None, 0.5]
    damage = Damage()
    shown = on_clock((Frame(t) for t in times), start=0.0, fps=10, damage=damage)
    assert [s.time for s in shown] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.5])
    assert damage.dropped == 2


def test_a_change_of_rate_within_the_sound_keeps_the_clock() -> None:
    pieces = [
        SoundBlock(0.0, 48000, click(1, 0.5, 48000)),
        SoundBlock(1.0, 8000, click(2, 0.5, 8000)),
    ]
    heard, present = SoundLine(iter(pieces), RATE).read(3 * RATE)
    assert int(heard[:RATE].argmax()) == pytest.approx(8000, abs=40)
    assert RATE + int(heard[RATE:].argmax()) == pytest.approx(24000, abs=40)
    assert present == 3 * RATE


# --- sorts of files ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.wav", "pcm_u8"), ("b.wav", "pcm_s16le"), ("c.wav", "pcm_s24le"), ("d.wav", "pcm_f32le"),
     ("e.flac", "flac"), ("f.mp3", "libmp3lame"), ("g.ogg", "libopus"), ("h.m4a", "aac")],
)  # fmt: skip
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_any_layout_of_sound_alone(tmp_path: Path, name: str, codec: str, channels: int) -> None:
    if (codec, channels) == ("libmp3lame", 6):
        pytest.skip("mp3 has two channels at most")
    sound = np.zeros((channels, 48000 * 2), np.float32)
    sound[:] = tone(2, 48000, 0.6)
    if channels == 2:
        sound[1] = 0  # one microphone, whose sound is as loud as on both channels
    media = open_media(mux(tmp_path / name, sounds=[(0.0, sound)], rate=48000, audio=codec))
    assert media.video is None and "the file has no picture" in media.notes
    segments = list(media.segments())
    assert not any(s.visible for s in segments)
    expected = 20 * np.log10(0.6 / np.sqrt(2))
    slack = 2.0 if (codec in ("libopus", "aac") and channels == 6) else 0.5
    assert segments[1].rms == pytest.approx(expected, abs=slack)


def test_cover_art_is_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "song.mp3"
    with av.open(str(path), "w") as out:
        sound = out.add_stream("libmp3lame", rate=44100, layout="mono")
        cover = out.add_stream("mjpeg", rate=1)
        cover.width = cover.height = 64
        cover.pix_fmt = "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        frame = av.VideoFrame.from_ndarray(grey(90), format="rgb24").reformat(format="yuvj420p")
        out.mux(cover.encode(frame))
        out.mux(cover.encode(None))
        for first in range(0, 44100, 1152):
            part = tone(1, 44100)[None, first : first + 1152]
            block = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
            block.sample_rate, block.pts = 44100, first
            out.mux(sound.encode(block))
        out.mux(sound.encode(None))
    with av.open(str(path)) as made:
        assert [s.type for s in made.streams] == ["audio", "video"]
    media = open_media(path)
    assert media.video is None and media.audio is not None
    assert not next(media.segments()).visible


def test_unknown_duration_comes_from_the_packets(tmp_path: Path) -> None:
    class Pipe(io.RawIOBase):  # can't seek, so the writer can't put the length in the header
        def __init__(self) -> None:
            self.data = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, block: bytes) -> int:  # type: ignore[override]
            self.data += block
            return len(block)

    pipe = Pipe()
    pictures = [(i / 10, grey(60)) for i in range(25)]
    mux(pipe, pictures=pictures, sounds=[(0.0, tone(2.5, RATE))], container="matroska")
    path = tmp_path / "live.mkv"
    path.write_bytes(bytes(pipe.data))
    with av.open(str(path)) as container:
        assert container.duration is None
    media = open_media(path)
    assert media.duration == pytest.approx(2.5, abs=0.11)
    assert [s.visible for s in media.segments()] == [True] * 3


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.mov"])
def test_large_files_are_believed_without_a_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    frames = (grey(i) for i in range(85))
    write_video(tmp_path / name, frames=frames, fps=25, audio=tone(3.4, 44100), rate=44100)
    scanned = open_media(tmp_path / name).duration
    monkeypatch.setattr("avel.media.probe._SCAN", 0)
    counted = itertools.count()
    read = packets

    def counting(*args: Any) -> Iterator[Any]:
        for packet in read(*args):
            next(counted)
            yield packet

    monkeypatch.setattr("avel.media.probe.packets", counting)
    assert open_media(tmp_path / name).duration == pytest.approx(scanned, abs=0.08)
    assert next(counted) < 85 / 2  # as many as the first frames take, out of more than 200


@given(st.integers(40, 400), st.floats(0.02, 50), st.floats(1.1e5, 1e7))
def test_a_wild_end_is_left_out_only_where_the_headers_say_so(
    count: int, length: float, wild: float
) -> None:
    ends = [length * (i + 1) for i in range(count)]
    last = max(ends)
    assert _true_end([*ends, wild], header_end=last) == last
    assert _true_end([*ends, wild], header_end=wild) == wild
    assert _true_end([*ends, wild], header_end=None) == wild


def test_raw_stream_without_timestamps(tmp_path: Path) -> None:
    pictures = [(i / 25, grey(10 * i)) for i in range(25)]
    path = mux(tmp_path / "raw.h264", pictures=pictures, container=None)
    media = open_media(path)
    segments = list(media.segments(frames=4))
    assert media.duration > 0 and segments[0].visible and len(segments) == len(media.grid())


def test_truncated_file_gives_what_is_there(tmp_path: Path) -> None:
    frames = [np.random.default_rng(i).integers(0, 255, (64, 64, 3), np.uint8) for i in range(100)]
    whole = tmp_path / "whole.mkv"
    write_video(whole, frames=frames, fps=25, audio=tone(4, 44100), rate=44100)
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    media = open_media(cut)
    assert 1.5 < media.duration < 2.6
    assert any("says it lasts 4.0 s but ends at" in note for note in media.notes)
    assert all(s.visible for s in media.segments())


def test_noise_in_the_middle_of_a_stream(tmp_path: Path) -> None:
    path = tmp_path / "a.ts"
    frames = (grey(20 * (i % 10)) for i in range(150))
    write_video(path, frames=frames, fps=25, audio=tone(6, 44100), rate=44100)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = np.random.default_rng(0).bytes(3000)
    path.write_bytes(bytes(data))
    segments = list(open_media(path).segments())
    assert len(segments) == 6 and segments[0].visible and segments[5].visible
    assert segments[5].n_samples_present > 12000


def test_shorter_than_a_second_and_partial_tail(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", frames=[grey(9)] * 5, fps=25, audio=tone(0.2, RATE), rate=RATE)
    (only,) = open_media(tmp_path / "a.mp4").segments()
    assert only.audio.shape == (RATE,) and 3000 <= only.n_samples_present <= 4200
    assert 3 <= len(only.frames) < 16
    write_video(tmp_path / "b.mp4", frames=[grey(9)] * 30, fps=25)
    assert [len(s.frames) for s in open_media(tmp_path / "b.mp4").segments(frames=10)] == [10, 2]


def test_a_single_frame(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", frames=[grey(99)], fps=1)
    (only,) = open_media(tmp_path / "a.mp4").segments(frames=4)
    assert only.frame_times == (0.0,) * 4


def test_other_steps(tmp_path: Path) -> None:
    path = mux(tmp_path / "a.mkv", pictures=[(i / 10, grey(50)) for i in range(30)])
    media = open_media(path)
    half = list(media.segments(step=0.5, frames=2))
    assert len(half) == 6 and half[1].audio.shape == (8000,)
    assert half[3].frame_times == (1.5, 1.7)
    for step in (0.0, -1.0, 1e-9, 1e9, float("nan")):
        with pytest.raises(UsageError, match="step"):
            media.segments(step=step)
    with pytest.raises(UsageError, match="frames"):
        media.segments(frames=0)


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [("a.mp4", b"", "is empty"), ("b.mp4", b"\x00" * 5000, "isn't a media file"),
     ("c.mp4", b"just words\n" * 50, "isn't a media file"),
     ("d.nfo", b"text that FFmpeg would draw" * 50, "isn't a media file"),
     ("e.svg", b"<svg xmlns='http://www.w3.org/2000/svg'></svg>", "isn't a media file"),
     ("f.mp4", b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41", "")],
)  # fmt: skip
def test_no_media_file(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MediaError, match=says or None) as caught:
        open_media(tmp_path / name)
    assert caught.value.expected and caught.value.hint


def test_missing_folder_and_device(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no such file"):
        open_media(tmp_path / "a.mp4")
    with pytest.raises(MediaError, match="is a folder"):
        open_media(tmp_path)
    with pytest.raises(MediaError, match=r"can't be opened|no such file"):
        open_media("a\x00b.mp4")
    if Path("/dev/zero").exists():
        with pytest.raises(MediaError, match="regular"):
            open_media("/dev/zero")


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    write_video(tmp_path / "secret.ts", frames=[grey(9)] * 5, fps=5)
    lists = {
        "a.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.ts\n#EXT-X-ENDLIST\n",
        "b.txt": "ffconcat version 1.0\nfile secret.ts\n",
        "c.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.ts\n#EXT-X-ENDLIST\n",
    }
    for name, text in lists.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(MediaError):
            open_media(tmp_path / name)


def test_a_name_isnt_taken_for_a_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "a.mp4", frames=[grey(9)] * 5, fps=5)
    monkeypatch.chdir(tmp_path)
    for name in ("http:x.mp4", "concat:a.mp4|a.mp4", "-v.mp4", "ü %d.mp4"):
        if sys.platform != "win32":
            Path(name).write_bytes(Path("a.mp4").read_bytes())
            assert open_media(name).duration == pytest.approx(1.0)


def test_absurd_durations_are_refused(tmp_path: Path) -> None:
    pictures = [(0.0, grey(9)), (60.0 * 3600, grey(9))]
    path = mux(tmp_path / "a.mkv", pictures=pictures)
    with pytest.raises(MediaError, match="says it lasts 60 h"):
        open_media(path)


# --- single frames, chunks of sound, writing -----------------------------------------------------


@pytest.mark.parametrize("name", ["a.mp4", "a.ts", "a.mkv"])
def test_frames_at_any_order_of_times(tmp_path: Path, name: str) -> None:
    frames = (grey(10 + i) for i in range(200))
    write_video(tmp_path / name, frames=frames, fps=10, quality=5)
    times = [19.0, 0.0, 12.34, 12.31, 7.0, 25.0, 3.5]
    found = frames_at(tmp_path / name, times, width=32)
    assert found[5] is None
    seen = [round(float(f.mean())) for f in found if f is not None]
    assert all(f.shape == (32, 32, 3) for f in found if f is not None)
    expected = [10 + int(t * 10 + 1e-6) for t in times if t < 20]
    assert max(abs(a - b) for a, b in zip(seen, expected, strict=True)) <= 2


def test_audio_track_chunks(tmp_path: Path) -> None:
    path = mux(tmp_path / "a.wav", sounds=[(0.0, click(2.5, 1.25, 44100))], rate=44100)
    chunks = list(audio_track(path, 8000))
    assert [len(c) for c in chunks] == [8000, 8000, 4000]
    assert int(np.concatenate(chunks).argmax()) == pytest.approx(10000, abs=20)


def test_frames_at_of_sound_alone(tmp_path: Path) -> None:
    path = mux(tmp_path / "a.wav", sounds=[(0.0, tone(1, RATE))])
    assert frames_at(path, [0.0, 0.5], width=50) == [None, None]


def test_write_video_is_whole_or_not_at_all(tmp_path: Path) -> None:
    def failing() -> Iterator[np.ndarray]:
        yield grey(1)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError):
        write_video(tmp_path / "a.mp4", frames=failing(), fps=5)
    with pytest.raises(UsageError, match="frame 1"):
        write_video(tmp_path / "a.mp4", frames=[grey(1), grey(1, 32)], fps=5)
    with pytest.raises(UsageError, match="even"):
        write_video(tmp_path / "a.mp4", frames=[grey(1, 33)], fps=5)
    with pytest.raises(UsageError, match="neither"):
        write_video(tmp_path / "a.mp4", frames=[], fps=5)
    assert list(tmp_path.iterdir()) == []


_ENCODE = """
import hashlib, sys
from pathlib import Path
from avel.data.toybox.dataset import ToyboxPlan
from avel.data.toybox.render import render_frames, render_sound
from avel.media.encode import write_video
scene = ToyboxPlan(seed=1, seconds=3).scene(0)
frames = list(render_frames(scene, width=320, height=240, fps=12))
sound = render_sound(scene, rate=16000)
for _ in range(3):
    write_video(sys.argv[1], frames=frames, fps=12, audio=sound, rate=16000)
    print(hashlib.sha256(Path(sys.argv[1]).read_bytes()).hexdigest())
"""


def test_same_frames_and_sound_give_the_same_file(tmp_path: Path) -> None:
    digests = set()
    for filling in ("0", "60", "165"):  # what glibc leaves in memory that is handed out
        command = [sys.executable, "-c", _ENCODE, str(tmp_path / "a.mp4")]
        env = {**os.environ, "MALLOC_PERTURB_": filling}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
        digests |= set(done.stdout.split())
    assert len(digests) == 1


def test_segments_close_the_file_when_left(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", frames=[grey(1)] * 100, fps=10, audio=tone(10, RATE), rate=RATE)
    segments = open_media(tmp_path / "a.mp4").segments()
    next(segments)
    segments.close()  # type: ignore[attr-defined]
    if Path("/proc/self/fd").is_dir():
        open_files = [p.resolve() for p in Path("/proc/self/fd").iterdir()]
        assert (tmp_path / "a.mp4").resolve() not in open_files


# not ru_maxrss: a child inherits its parent's
_MEMORY = """
import sys
from avel.media.file import open_media
n = sum(1 for s in open_media(sys.argv[1]).segments())
print(n, *[line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    peaks = []
    for minutes in (3, 30):
        path = tmp_path / f"{minutes}.mp4"
        count = minutes * 60 * 10
        frames = (np.roll(_PATTERN, 3 * i, axis=1) for i in range(count))
        write_video(path, frames=frames, fps=10, audio=tone(minutes * 60, RATE), rate=RATE)
        command = [sys.executable, "-c", _MEMORY, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        segments, peak = map(int, done.stdout.split())
        assert segments == minutes * 60
        peaks.append(peak / 1024)
    assert peaks[1] < peaks[0] + 15, f"peaks in MB: {peaks}"


_PATTERN = (
    np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8).repeat(8, 0).repeat(8, 1)
)


def test_damage_counts_in_words() -> None:
    from avel.media.decode import Damage

    said = list(Damage(packets=1, corrupt=2).sentences("Picture"))
    assert said[0] == "Picture: 1 packet couldn't be decoded"
    assert said[1].startswith("Picture: 2 frames are damaged")


# --- what people stumble over --------------------------------------------------------------------


def reordered(path: Path, *, audio: bool = True, container: str | None = None) -> Path:
    """Frames of rising grey, 20 a second for 3 s, coded with B-frames."""
    with av.open(str(path), "w", format=container) as out:
        picture: Any = out.add_stream("libx264", rate=20)
        picture.width = picture.height = 64
        picture.pix_fmt = "yuv420p"
        picture.options = {"bf": "3", "b-adapt": "0", "g": "20", "crf": "5"}
        sound: Any = out.add_stream("pcm_u8", rate=RATE, layout="mono") if audio else None
        for i in range(60):
            frame = av.VideoFrame.from_ndarray(grey(10 + 4 * i), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 20)
            out.mux(picture.encode(frame))
        out.mux(picture.encode(None))
        if sound is not None:
            block = av.AudioFrame.from_ndarray(tone(3, RATE)[None], format="fltp", layout="mono")
            block.sample_rate, block.pts = RATE, 0
            out.mux(sound.encode(block))
            out.mux(sound.encode(None))
    return path


@pytest.mark.parametrize("name", ["a.avi", "a.mkv", "a.mp4", "a.mov"])
def test_rearranged_pictures_come_in_order_wherever_their_times_are(
    tmp_path: Path, name: str
) -> None:
    """AVI stores no times, and rearranged pictures aren't damage."""
    path = reordered(tmp_path / name, audio=name.endswith(("avi", "mkv")))
    media = open_media(path)
    segments = list(media.segments(frames=20, size=16))
    seen = [v for s in segments[:3] for v in values(s)]
    assert len(seen) == 60
    assert max(abs(v - (10 + 4 * i)) for i, v in enumerate(seen)) <= 3
    assert not any("left out" in n or "decoded" in n for n in media.notes)
    found = frames_at(path, [2.52, 0.33], width=16)
    assert [round((f.mean() - 10) / 4) for f in found if f is not None] == [50, 6]


def test_empty_packets_say_that_a_picture_stays_on(tmp_path: Path) -> None:
    class Packet:
        def __init__(self, size: int, pts: int | None) -> None:
            self.size, self.pts, self.dts = size, pts, pts

    class Container:
        def demux(self, _: Any) -> Iterator[Packet]:
            yield from (Packet(9, 0), Packet(0, 1), Packet(9, 2), Packet(0, None))

    given = [(p.size, p.pts) for p in packets(Container(), None, Damage())]
    assert given == [(9, 0), (9, 2), (0, None)]


def test_a_length_that_is_only_guessed_is_no_damage(tmp_path: Path) -> None:
    """An ADTS stream says nothing of its length; FFmpeg goes by the first packets' size."""
    sound = np.concatenate([np.zeros(30 * 44100, np.float32), click(1, 0.5, 44100)])
    sound[: 44100 * 3] = np.random.default_rng(0).normal(0, 0.3, 44100 * 3)
    media = open_media(mux(tmp_path / "a.aac", sounds=[(0.0, sound)], rate=44100, audio="aac"))
    assert media.duration == pytest.approx(31, abs=0.2)
    assert media.notes == ["the file has no picture"]


def test_a_late_start_is_no_lost_end(tmp_path: Path) -> None:
    pictures = [(7 + i / 10, grey(60)) for i in range(20)]
    media = open_media(mux(tmp_path / "a.mkv", pictures=pictures, sounds=[(7.0, tone(2, RATE))]))
    assert media.duration == pytest.approx(2, abs=0.1) and media.notes == []


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_a_still_is_seen_as_long_as_it_sounds(tmp_path: Path, name: str) -> None:
    codec = "aac" if name.endswith("mp4") else "pcm_s16le"
    sounds = [(0.0, tone(12, 48000))]
    path = mux(tmp_path / name, pictures=[(0.0, grey(99))], sounds=sounds, rate=48000, audio=codec)
    media = open_media(path)
    segments = list(media.segments(frames=4))
    assert [s.visible for s in segments] == [True] * len(segments) and len(segments) == 12
    assert [n for n in media.notes if "last frame stays on to 12" in n]
    late = frames_at(path, [0.0, 5.0, 11.9, 13.0], width=16)
    assert [f is not None for f in late] == [True, True, True, False]


def test_a_short_tail_without_picture_needs_no_note(tmp_path: Path) -> None:
    pictures = [(i / 10, grey(100)) for i in range(20)]
    media = open_media(mux(tmp_path / "a.mkv", pictures=pictures, sounds=[(0.0, tone(2.4, RATE))]))
    assert all(s.visible for s in media.segments()) and media.notes == []


_LOGGING = """
import sys, av.logging
av.logging.set_level(av.logging.DEBUG)
from avel.media.file import frames_at, open_media
for _ in range(8):
    media = open_media(sys.argv[1])
    next(media.segments(frames=2, size=8))
    frames_at(sys.argv[1], [0.5], width=8)
print(len(list(media.segments(frames=2, size=8))))
"""


def test_pyavs_logging_switched_on_hangs_nothing(tmp_path: Path) -> None:
    frames = (np.random.default_rng(i).integers(0, 255, (360, 640, 3), np.uint8) for i in range(60))
    write_video(tmp_path / "a.mp4", frames=frames, fps=20, audio=tone(3, RATE), rate=RATE)
    command = [sys.executable, "-c", _LOGGING, str(tmp_path / "a.mp4")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split()[-1] == "3"


@pytest.mark.parametrize(("name", "codec"), [("a.h264", "h264"), ("a.h265", "hevc"), ("a.gif", "")])
def test_a_raw_stream_that_cant_seek_is_read_from_its_start(
    tmp_path: Path, name: str, codec: str
) -> None:
    path = tmp_path / name
    with av.open(str(path), "w", format=codec or None) as out:
        stream: Any = out.add_stream({"hevc": "libx265", "": "gif"}.get(codec, "libx264"), rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p" if codec else "rgb8"
        stream.options = {"x265-params": "log-level=none"} if codec == "hevc" else {}
        for i in range(200):
            frame = av.VideoFrame.from_ndarray(grey(i), format="rgb24")
            frame = frame.reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = i, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    found = frames_at(path, [6.0, 7.5], width=16)
    assert all(f is not None for f in found)


def with_timescale(path: Path, *scales: int) -> Path:
    """An .mp4 whose tracks count so many ticks a second, and whose edits are gone."""
    data = bytearray(path.read_bytes().replace(b"elst", b"free").replace(b"edts", b"free"))
    at = 0
    for scale in scales:
        at = data.index(b"mdhd", at + 1)
        if scale:
            data[at + 16 : at + 20] = scale.to_bytes(4, "big")
    path.write_bytes(bytes(data))
    return path


def test_sound_lasts_as_long_as_its_packets_whatever_they_claim(tmp_path: Path) -> None:
    sound = np.concatenate([tone(3, RATE, 0.1), tone(2, RATE, 0.5)])
    path = mux(tmp_path / "a.m4a", sounds=[(0.0, sound)], audio="aac")
    media = open_media(with_timescale(path, 10))
    assert media.duration == pytest.approx(5, abs=0.3)
    assert any("aren't believed" in n for n in media.notes)
    segments = list(media.segments(frames=1))
    assert all(s.n_samples_present > 14000 for s in segments[:5])
    assert segments[1].rms < segments[4].rms - 10  # one after the other
    heard = cutting.sound(media, 3.5, 4.5, rate=RATE)
    assert 10 * np.log10(np.mean(heard**2)) == pytest.approx(segments[4].rms, abs=1)


def test_a_picture_ends_with_the_sound_where_its_times_are_wild(tmp_path: Path) -> None:
    frames = (grey(i) for i in range(120))
    path = tmp_path / "a.mp4"
    write_video(path, frames=frames, fps=12, audio=tone(10, RATE), rate=RATE)
    media = open_media(with_timescale(path, 20, 0))
    assert media.duration == pytest.approx(10, abs=0.3)
    assert any("is left out" in n for n in media.notes)


def test_seldom_pictures_alone_fill_ten_seconds_each(tmp_path: Path) -> None:
    few = [(50.0 * i, grey(i)) for i in range(10)]
    assert open_media(mux(tmp_path / "a.mkv", pictures=few)).duration == pytest.approx(450, abs=2)
    many = [(50.0 * i, grey(i)) for i in range(100)]
    media = open_media(mux(tmp_path / "b.mkv", pictures=many))
    assert media.duration == pytest.approx(1000, abs=2)
    jump = [*((i / 10, grey(9)) for i in range(20)), (20000.0, grey(9))]
    assert open_media(mux(tmp_path / "c.mkv", pictures=jump)).duration == pytest.approx(2, abs=0.2)


@pytest.mark.parametrize("rate", [1, 7, 500])
def test_sound_of_a_few_samples_a_second_is_none(tmp_path: Path, rate: int) -> None:
    path = mux(tmp_path / "a.wav", sounds=[(0.0, tone(30, RATE))])
    data = bytearray(path.read_bytes())
    data[24:28] = rate.to_bytes(4, "little")
    path.write_bytes(bytes(data))
    with pytest.raises(MediaError, match="neither sound nor picture"):
        open_media(path)


def test_an_address_is_told_from_a_missing_file() -> None:
    for address in ("http://host/a.mp4", "https://host/a.mp4", "rtsp://host/a", "s3://bucket/a"):
        with pytest.raises(MediaError, match=f"{address} is an address") as caught:
            open_media(address)
        assert "download" in str(caught.value.hint)


def test_too_large_a_picture_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = mux(tmp_path / "a.mkv", pictures=[(0.0, grey(9))])
    monkeypatch.setattr("avel.media.probe.MAX_PIXELS", 64 * 64 - 1)
    monkeypatch.setattr("avel.media.probe.decoded", None)
    with pytest.raises(MediaError, match="has a picture of 64x64") as caught:
        open_media(path)
    assert "scale it down" in str(caught.value.hint)
