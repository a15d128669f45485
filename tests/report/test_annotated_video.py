"""Copies of videos with their events burned in: what is drawn, when, and what stays as it was."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avel.cli.main import main
from avel.errors import MediaError, UsageError
from avel.media.annotated_copy import AGAIN, write_copy
from avel.media.encode import write_video
from avel.media.excerpt import frame_size
from avel.media.file import RATE, audio_track, frames_at, open_media
from avel.report.annotated_video import is_copy
from avel.report.overlay import Overlay, active_events, colour, fitted, font_for, heat_picture
from avel.types import Event, Timeline
from tests.media_files import click, grey, mux, tone
from tests.report_samples import LABELS, hand_timeline


def times_of(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(f.time) for f in container.decode(video=0)]


def packets_of(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(p) for p in container.demux(audio=0) if p.size]


def plain(image: np.ndarray, _: float) -> np.ndarray:
    return image


def near(pixel: np.ndarray, expected: tuple[int, int, int], off: int = 40) -> bool:
    return bool((np.abs(pixel.astype(int) - expected) <= off).all())


def test_labels_bar_and_attention_stand_where_they_belong(clip: Path, tmp_path: Path) -> None:
    timeline = hand_timeline(clip, LABELS)
    timeline.save(tmp_path / "copy.mp4")
    copy = open_media(tmp_path / "copy.mp4")
    assert copy.duration == pytest.approx(8, abs=0.05)
    before, during, after = frames_at(copy.path, [0.5, 2.5, 4.5], width=160)
    assert before is not None and during is not None and after is not None
    bell = colour(262)
    chip = during[68:80, 8:14].reshape(-1, 3)
    assert near(np.median(chip, axis=0), bell)
    assert not near(np.median(before[68:80, 8:14].reshape(-1, 3), axis=0), bell)
    assert not near(np.median(after[68:80, 8:14].reshape(-1, 3), axis=0), bell)
    [plain] = frames_at(clip, [2.5], width=160)
    assert plain is not None
    changed = np.abs(during.astype(int) - plain).mean(axis=-1)
    # the third segment's bright place: row 3, column 2 of 7
    assert changed[42:54, 48:66].mean() > 20 and changed[:30].mean() < 4
    row = during[92]  # the bar: the bell from 1 to 4 of 8 seconds
    assert near(row[30], bell, 70) and near(row[70], bell, 70) and not near(row[10], bell, 70)


def test_sound_is_copied_bit_by_bit_and_frames_keep_their_times(clip: Path, tmp_path: Path) -> None:
    hand_timeline(clip, LABELS).save(tmp_path / "copy.mp4")
    assert packets_of(tmp_path / "copy.mp4") == packets_of(clip)
    np.testing.assert_allclose(times_of(tmp_path / "copy.mp4"), times_of(clip), atol=1e-4)


def test_variable_rates_and_late_starts_keep_every_time(tmp_path: Path) -> None:
    times = [0.5, 0.54, 0.58, 0.9, 1.0, 2.3, 2.31, 2.4]
    source = mux(
        tmp_path / "vfr.mkv",
        pictures=[(t, grey(20 * i)) for i, t in enumerate(times)],
        sounds=[(0.0, click(3, 2.3, 48000))],
        rate=48000,
    )
    Timeline(str(source), (), 3.0, ()).save(tmp_path / "copy.mp4")
    copied = times_of(tmp_path / "copy.mp4")
    assert all(min(abs(t - m) for m in copied) < 0.002 for t in times)
    gaps = np.diff([t for t in copied if 1.0 <= t <= 2.3])
    assert gaps.max() <= 1.5 / AGAIN and len(copied) < len(times) + 10
    sound = np.concatenate(list(audio_track(tmp_path / "copy.mp4")))
    assert np.abs(sound).argmax() / RATE == pytest.approx(2.3, abs=0.01)


@pytest.mark.parametrize(
    ("ending", "codec", "channels"),
    [(".mkv", "pcm_s16le", 2), (".mkv", "flac", 1), (".ts", "aac", 2), (".mkv", "libopus", 2)],
)
def test_sound_of_other_codecs_keeps_its_channels_and_its_place(
    ending: str, codec: str, channels: int, tmp_path: Path
) -> None:
    one = click(2, 1.2, 48000)
    sound = np.stack([one, 0 * one]) if channels == 2 else one
    pictures = [(i / 10, grey(50)) for i in range(20)]
    source = tmp_path / f"a{ending}"
    mux(source, pictures=pictures, sounds=[(0.0, sound)], rate=48000, audio=codec)
    Timeline(str(source), (), 2.0, ()).save(tmp_path / "copy.mp4")
    with av.open(str(tmp_path / "copy.mp4")) as container:
        assert container.streams.audio[0].codec_context.channels == channels
        heard = [f.to_ndarray() for f in container.decode(audio=0)]
    if channels == 2:
        left, right = (max(float(np.abs(h[c]).max()) for h in heard) for c in (0, 1))
        assert left > 5 * right  # the click is on the left, as it was
    sound = np.concatenate(list(audio_track(tmp_path / "copy.mp4")))
    assert np.abs(sound).argmax() / RATE == pytest.approx(1.2, abs=0.03)


def test_colours_and_rotation_stay(tmp_path: Path) -> None:
    frame = np.zeros((64, 96, 3), np.uint8)
    frame[:, :48], frame[:, 48:] = (200, 40, 60), (30, 90, 180)
    write_video(tmp_path / "a.mp4", frames=[frame] * 10, fps=10, quality=5)
    media = open_media(tmp_path / "a.mp4")
    write_copy(media, tmp_path / "b.mp4", size=frame_size(media), draw=plain)
    [a], [b] = (frames_at(tmp_path / n, [0.5], width=96) for n in ("a.mp4", "b.mp4"))
    assert a is not None and b is not None
    assert np.abs(a.astype(int) - b).mean() < 3


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_turned_video_is_upright_and_not_turned_again(
    degrees: int, shared: Path, tmp_path: Path
) -> None:
    turned = shared / "media" / "video" / f"rotated_{degrees}.mov"
    media = open_media(turned)
    assert media.video is not None
    write_copy(media, tmp_path / "b.mp4", size=frame_size(media), draw=plain)
    copy = open_media(tmp_path / "b.mp4")
    assert copy.video is not None and copy.video.rotation == 0
    assert (copy.video.width, copy.video.height) == frame_size(media)
    [a], [b] = (frames_at(p, [0.0], width=160) for p in (turned, copy.path))
    assert a is not None and b is not None
    assert np.abs(a.astype(int) - b).mean() < 8


def test_pixels_that_are_no_squares_stay_so(tmp_path: Path) -> None:
    source = tmp_path / "wide.mp4"
    with av.open(str(source), "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for i in range(5):
            frame = av.VideoFrame.from_ndarray(grey(9), format="rgb24")
            frame.pts = i
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    Timeline(str(source), (), 0.5, ()).save(tmp_path / "copy.mp4")
    with av.open(str(tmp_path / "copy.mp4")) as container:
        assert float(container.streams.video[0].sample_aspect_ratio) == pytest.approx(4 / 3)


def test_the_source_and_other_videos_are_never_written_over(clip: Path, tmp_path: Path) -> None:
    source = tmp_path / "a.mp4"
    source.write_bytes(clip.read_bytes())
    other = tmp_path / "b.mp4"
    other.write_bytes(clip.read_bytes())
    (tmp_path / "link.mp4").symlink_to(source)
    timeline = hand_timeline(source, LABELS)
    for place, message in (("a.mp4", "itself"), ("link.mp4", "itself"), ("b.mp4", "isn't a copy")):
        with pytest.raises(UsageError, match=message):
            timeline.save(tmp_path / place)
    assert source.read_bytes() == other.read_bytes() == clip.read_bytes()
    timeline.save(tmp_path / "c.mp4")
    assert is_copy(tmp_path / "c.mp4") and not is_copy(source)
    timeline.save(tmp_path / "c.mp4")  # its own copies it makes anew
    with pytest.raises(UsageError, match="itself"):
        hand_timeline(tmp_path / "c.mp4", LABELS).save(tmp_path / "c.mp4")


def test_what_has_no_picture_or_is_not_there_is_refused(tmp_path: Path) -> None:
    write_video(tmp_path / "tone.mp4", frames=[], fps=5, audio=tone(1, RATE), rate=RATE)
    (tmp_path / "text.mkv").write_text("no video")
    for name, message in (
        ("gone.mp4", "doesn't exist"), ("tone.mp4", "no picture"), ("text.mkv", "media file"),
    ):  # fmt: skip
        with pytest.raises(MediaError, match=message):
            hand_timeline(tmp_path / name, [0]).save(tmp_path / "copy.mp4")
    assert not (tmp_path / "copy.mp4").exists()


def test_what_fails_midway_leaves_nothing(clip: Path, tmp_path: Path) -> None:
    def draw(image: np.ndarray, seconds: float) -> np.ndarray:
        if seconds > 2:
            raise MediaError("enough")
        return image

    media = open_media(clip)
    with pytest.raises(MediaError, match="enough"):
        write_copy(media, tmp_path / "copy.mp4", size=frame_size(media), draw=draw)
    assert list(tmp_path.iterdir()) == []


def test_the_command_refuses_before_any_work(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from avel.inference import localizer as localization

    class Never:
        model = SimpleNamespace(card={})

        def __init__(self, *args: Any, **options: Any) -> None: ...

        def __call__(self, *args: Any, **options: Any) -> Timeline:
            raise AssertionError("it has begun")

    monkeypatch.setattr(localization, "Localizer", Never)
    source = tmp_path / "a.mp4"
    source.write_bytes(clip.read_bytes())
    assert main(["localize", str(source), "-o", str(source)]) == 2
    assert "is the video itself" in capsys.readouterr().err
    assert main(["localize", str(tmp_path / "gone.mp4"), "-o", str(tmp_path / "c.mp4")]) == 1
    assert "doesn't exist" in capsys.readouterr().err
    assert source.read_bytes() == clip.read_bytes()


def test_corrected_labels_are_burned_by_convert(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("start,end,label\n1,3,Glocke Österreich\n")
    call = ["convert", str(tmp_path / "labels.csv"), "-o", str(tmp_path / "c.mp4")]
    assert main([*call, "--video", str(clip)]) == 0
    assert is_copy(tmp_path / "c.mp4")


@settings(max_examples=15, deadline=None)
@given(st.text(max_size=60), st.sampled_from([(2, 2), (16, 90), (64, 64), (640, 90)]))
def test_any_label_can_be_drawn_on_any_size(label: str, size: tuple[int, int]) -> None:
    events = tuple(Event(0, 2 + i, label or "?", 0.5) for i in range(6))
    draw = Overlay(Timeline("v", events, 9.0, (label,)), size)
    image = np.full((size[1], size[0], 3), 90, np.uint8)
    drawn = draw(image, 1.0)
    assert drawn.shape == image.shape and drawn.dtype == np.uint8
    assert (image == 90).all()  # what it got stays


@pytest.mark.parametrize("label", ["鐘の音", "колокол", "جرس", "bell \U0001f514", "\ud800", "\0"])
def test_scripts_of_the_world_are_drawn(label: str) -> None:
    assert Overlay(Timeline("v", (Event(0, 1, label),), 1.0, ()), (320, 180))(
        np.zeros((180, 320, 3), np.uint8), 0.5
    ).any()


def test_long_labels_are_cut_to_fit() -> None:
    font = font_for("a", 20)
    shortened = fitted("a long label " * 9, font, 200)
    assert shortened.endswith("…") and font.getlength(shortened) <= 200
    assert fitted("short", font, 200) == "short" and fitted("short", font, 1) == ""


def test_what_goes_on_when() -> None:
    a, b, c = Event(0, 4, "a"), Event(2, 6, "b"), Event(6, 7, "a")
    edges, active = active_events([a, b, c])
    assert edges == [0, 2, 4, 6, 7]
    assert active == [(a,), (a, b), (b,), (c,), ()]


def test_attention_is_clear_where_even_and_lies_where_it_should() -> None:
    cells = np.zeros((7, 7), np.uint8)
    assert np.asarray(heat_picture(cells, (70, 140))[1]).max() == 0
    cells[1, 5] = 255
    cover = np.asarray(heat_picture(cells, (70, 140))[1])
    assert cover.shape == (140, 70)
    row, column = np.unravel_index(cover.argmax(), cover.shape)
    assert (row // 20, column // 10) == (1, 5)


def test_colours_are_those_of_the_page() -> None:
    # oklch(0.74 0.14 h) as a browser shows it
    assert all(min(colour(h)) >= 0 and max(colour(h)) <= 255 for h in range(0, 360, 7))
    red, green, blue = colour(262)
    assert blue > green > red
    red, green, blue = colour(38)
    assert red > green > blue


_COPY = """
import sys
from avel.report.annotated_video import VideoWriter
from pathlib import Path
from tests.report_samples import hand_timeline
seconds = int(sys.argv[3])
timeline = hand_timeline(sys.argv[1], [3, 0, 0, 1, 1, 3] * (seconds // 6))
VideoWriter().write(timeline, Path(sys.argv[2]))
print(*[line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("codec", ["aac", "pcm_s16le"])
def test_memory_does_not_grow_with_length(codec: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    peaks = []
    for minutes in (1, 10):
        path, seconds = tmp_path / f"{minutes}.mkv", 60 * minutes
        pictures = [(i / 5, np.roll(noise, i, axis=1)) for i in range(5)]
        many = [(i / 5, pictures[i % 5][1]) for i in range(5 * seconds)]
        mux(path, pictures=many, sounds=[(0.0, tone(seconds, RATE))], audio=codec)
        command = [sys.executable, "-c", _COPY, str(path), str(tmp_path / "c.mp4"), str(seconds)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout) / 1024)
    assert peaks[1] < peaks[0] + 25, f"peaks in MB: {peaks}"
