"""Sound as people record it: channels mixed by layout and phase, quiet files by their own level."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from avel.features.stream import audible
from avel.media import downmix
from avel.media.downmix import Downmix, layout_weights, measured
from avel.media.excerpt import sound
from avel.media.file import RATE, open_media
from tests.media_files import mux, tone

Floats = NDArray[np.float32]


def noise(seconds: float, level: float = 0.2, seed: int = 0) -> Floats:
    """Noise below 6 kHz, which no resampling changes, of that root mean square."""
    rng = np.random.default_rng(seed)
    wave = np.fft.rfft(rng.standard_normal(round(seconds * 48000)))
    wave[len(wave) // 4 :] = 0
    held = np.fft.irfft(wave)
    return (level * held / np.sqrt(np.mean(held**2))).astype(np.float32)


def level_of(path: Path) -> float:
    return max(s.rms for s in open_media(path).segments(frames=1, size=8))


def written(path: Path, channels: list[Floats], codec: str = "pcm_f32le", layout: str = "") -> Path:
    """A file of these channels, of a layout by FFmpeg's name."""
    names = {1: "mono", 2: "stereo", 4: "quad", 6: "5.1", 8: "7.1"}
    layout = layout or names[len(channels)]
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream(codec, rate=48000, layout=layout)
        for first in range(0, len(channels[0]), 4800):
            part = np.stack([c[first : first + 4800] for c in channels]).astype(np.float32)
            part = np.ascontiguousarray(part.T).reshape(1, -1)  # PyAV has no room for eight planes
            block = av.AudioFrame.from_ndarray(part, format="flt", layout=layout)
            block.sample_rate, block.pts = 48000, first
            out.mux(stream.encode(block))
        out.mux(stream.encode(None))
    return path


def decibels(power: float) -> float:
    return float(10 * np.log10(power))


def test_opposite_channels_do_not_cancel(tmp_path: Path) -> None:
    wave = noise(3)
    same = level_of(written(tmp_path / "same.wav", [wave, wave]))
    path = written(tmp_path / "opposite.wav", [wave, -wave])
    assert level_of(path) == pytest.approx(same, abs=0.1)
    media = open_media(path)
    list(media.segments(frames=1))
    assert any("1 of its 2 channels has the opposite phase" in n for n in media.notes)
    heard = sound(media, 0.5, 1.5, rate=48000)
    assert np.abs(heard).max() > 0.3


def test_one_that_is_turned_and_weaker_is_turned_too(tmp_path: Path) -> None:
    wave, own = noise(3), noise(3, seed=1)
    path = written(tmp_path / "a.wav", [wave, -0.5 * wave + 0.1 * own])
    assert open_media(path).mix.turned == 1


@pytest.mark.parametrize("codec", ["pcm_f32le", "pcm_s16le", "aac", "flac"])
def test_stereo_is_the_plain_mean_bit_by_bit(tmp_path: Path, codec: str) -> None:
    """Alike, independent, and a little apart: nothing but the mean, as the backbones learnt it."""
    name = f"a.{'flac' if codec == 'flac' else 'mkv'}"
    for left, right in (
        (noise(2), noise(2)),
        (noise(2), noise(2, seed=1)),
        (noise(2), 0.6 * noise(2)),
    ):
        path = written(tmp_path / name, [left, right], codec)
        mix = open_media(path).mix
        assert mix.weights == () and mix.gain == 1 and mix.raised == 0


@pytest.mark.parametrize("count", [2, 4, 6, 8])
def test_one_live_microphone_is_as_loud_as_alone(tmp_path: Path, count: int) -> None:
    wave = noise(3)
    alone = level_of(written(tmp_path / "mono.wav", [wave]))
    for live in range(count):
        channels = [np.zeros_like(wave)] * count
        channels[live] = wave
        path = written(tmp_path / f"{live}.wav", channels)
        assert level_of(path) == pytest.approx(alone, abs=0.2), live


@pytest.mark.parametrize(
    ("name", "codec"), [("a.m4a", "aac"), ("a.flac", "flac"), ("a.wv", "wavpack")]
)
def test_eight_channels_in_planes(tmp_path: Path, name: str, codec: str) -> None:
    """PyAV's planes end at seven."""
    wave = noise(3)
    media = open_media(written(tmp_path / name, [wave] * 8, codec))
    assert media.audio is not None and media.audio.channels == 8
    assert max(s.rms for s in media.segments(frames=1)) == pytest.approx(decibels(0.04), abs=1.5)


def test_speech_in_the_centre_keeps_its_level_among_music(tmp_path: Path) -> None:
    speech, sides = noise(3, 0.2), [noise(3, 0.01, seed=i) for i in range(1, 6)]
    channels = [sides[0], sides[1], speech, sides[2], sides[3], sides[4]]
    found = level_of(written(tmp_path / "a.wav", channels))
    assert found == pytest.approx(decibels(0.04), abs=0.5)


def test_bass_effects_count_nothing() -> None:
    names = ("FL", "FR", "FC", "LFE", "BL", "BR")
    weights = layout_weights(names)
    assert weights.sum() == pytest.approx(1) and weights[3] == 0
    assert weights[2] > weights[0] > weights[4]
    assert layout_weights(("LFE",)) == [1.0]
    assert list(layout_weights(("NONE", "NONE"))) == [0.5, 0.5]


@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_f32le", "flac"])
@pytest.mark.parametrize("lower", [40, 55])
def test_a_quiet_file_is_judged_by_its_own_level(tmp_path: Path, codec: str, lower: int) -> None:
    """Segments 2 and 3 of 6 are 30 dB above the rest, all of it far below -50 dBFS."""
    wave = noise(6, 0.1) * np.repeat([0.03, 0.03, 1, 1, 0.03, 0.03], 48000)
    name = "a.flac" if codec == "flac" else "a.wav"
    path = written(tmp_path / name, [(wave * 10 ** (-lower / 20)).astype(np.float32)], codec)
    media = open_media(path)
    levels = np.array([s.rms for s in media.segments(frames=1)])
    assert levels.max() == pytest.approx(downmix.SPEECH, abs=0.3)
    assert audible(levels).tolist() == [False, False, True, True, False, False]
    assert any("quiet" in n and "raised by" in n for n in media.notes)
    natural = sound(media, 2.0, 4.0, rate=48000)
    assert decibels(float(np.mean(natural**2))) == pytest.approx(-20 - lower, abs=0.5)


def test_silence_and_rounding_are_not_raised(tmp_path: Path) -> None:
    for name, wave in (("zeros", noise(2, 0.0)), ("rounding", noise(2, 1e-5))):
        media = open_media(written(tmp_path / f"{name}.wav", [wave]))
        levels = np.array([s.rms for s in media.segments(frames=1)])
        assert media.mix.raised == 0 and not audible(levels).any()


def test_a_loud_second_after_minutes_of_quiet_leaves_the_file_as_it_is(tmp_path: Path) -> None:
    wave = np.concatenate([noise(90, 0.001), noise(1, 0.3)])
    media = open_media(written(tmp_path / "a.flac", [wave], "flac"))
    assert media.mix.raised == 0
    levels = np.array([s.rms for s in media.segments(frames=1)])
    assert audible(levels).tolist() == [False] * 90 + [True]


def test_only_as_much_is_decoded_as_it_takes() -> None:
    drawn = 0

    def frames(names: tuple[str, ...]) -> Any:
        nonlocal drawn
        for _ in range(600):
            drawn += 1
            yield names, 48000, np.full((len(names), 48000), 0.1, np.float32)

    assert measured(frames(("FL", "FR"))) == Downmix(level=pytest.approx(-20, abs=0.01))
    assert drawn <= downmix.ENOUGH + 1
    drawn = 0
    measured(frames(("FC",)))
    assert drawn <= 2


def test_another_number_of_channels_midway_is_the_mean() -> None:
    mix = Downmix(weights=(0.5, -0.5))
    assert mix(np.array([[1.0], [-1.0]], np.float32)) == 1.0
    assert mix(np.array([[1.0], [0.0], [0.5]], np.float32)) == 0.5


def test_no_sound_and_odd_numbers_of_samples() -> None:
    assert measured(iter(())) == Downmix()
    parts = [(("FL", "FR"), 48000, np.ones((2, n), np.float32) * 0.1) for n in (1, 1024, 7, 48000)]
    assert measured(parts).weights == ()


def test_two_tracks_say_which_was_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as out:
        streams: list[Any] = [out.add_stream("pcm_s16le", rate=RATE, layout="mono") for _ in "ab"]
        streams[1].metadata["language"] = "ger"
        for stream, height in zip(streams, (0.1, 0.4), strict=True):
            block = av.AudioFrame.from_ndarray(
                tone(2, RATE, height)[None], format="fltp", layout="mono"
            )
            block.sample_rate, block.pts = RATE, 0
            out.mux(stream.encode(block))
            out.mux(stream.encode(None))
    assert any("of 2 tracks, 0 (pcm_s16le" in n for n in open_media(path).notes)
    other = open_media(path, audio_track=1)
    assert any("of 2 tracks, 1 (pcm_s16le" in n and "ger" in n for n in other.notes)
    single = mux(tmp_path / "b.wav", sounds=[(0.0, tone(1, RATE))])
    assert not any("tracks" in n for n in open_media(single).notes)
