"""Altered copies: the same at every call, other ones by number; time and silence stay."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avel.media import altered
from avel.media.altered import Alteration, Altered
from avel.media.file import open_media
from tests.media_files import mux, tone

SECONDS = 3
PLAIN = Alteration(
    noise=200.0, colour=0.0, gain=0.0, blur=0.0, brightness=1.0, contrast=1.0,
    crop=(0.0, 0.0, 1.0), mirrored=False,
)  # fmt: skip


def clip(folder: Path, name: str = "a.mkv", *, silent: int = 0) -> Path:
    """A tone of three seconds, whose first ones may be silent, and a picture of two halves."""
    picture = np.full((64, 64, 3), 40, np.uint8)
    picture[:, 32:] = 200
    sound = tone(SECONDS, 16000)
    sound[: 16000 * silent] = 0
    pictures = [(i / 4, picture) for i in range(4 * SECONDS)]
    return mux(folder / name, pictures=pictures, sounds=[(0.0, sound)])


def test_a_copy_is_the_same_at_every_call_and_another_one_by_number_and_name(
    tmp_path: Path,
) -> None:
    media, other = open_media(clip(tmp_path)), open_media(clip(tmp_path, "b.mkv"))
    first, again, second, of_other = (
        list(Altered.of(m, k).segments(frames=2, size=32))
        for m, k in ((media, 1), (media, 1), (media, 2), (other, 1))
    )
    plain = list(media.segments(frames=2, size=32))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.audio, b.audio)
        np.testing.assert_array_equal(a.frames, b.frames)
    for differs in (plain, second, of_other):
        for a, b in zip(first, differs, strict=True):
            assert (a.audio != b.audio).any() and (a.frames != b.frames).any()
    for a, b in zip(first, plain, strict=True):
        assert a.audio.shape == b.audio.shape and a.audio.dtype == np.float32
        assert a.frames.shape == b.frames.shape and a.frames.dtype == np.uint8
        assert (a.index, a.rms, a.frame_times) == (b.index, b.rms, b.frame_times)


def test_files_of_one_track_stay_so(tmp_path: Path) -> None:
    sound = mux(tmp_path / "s.wav", sounds=[(0.0, tone(2, 16000))])
    assert all(not s.visible for s in Altered.of(open_media(sound), 1).segments(frames=2))
    pictures = [(i / 4, np.zeros((32, 32, 3), np.uint8)) for i in range(8)]
    silent = mux(tmp_path / "p.mkv", pictures=pictures)
    assert all(not s.audio.any() for s in Altered.of(open_media(silent), 1).segments(frames=2))


def test_a_long_file_is_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(altered, "_BLOCK", 2)
    read = list(Altered.of(open_media(clip(tmp_path)), 1).segments(frames=1, size=16))
    assert [s.index for s in read] == [0, 1, 2]
    assert all(len(s.audio) == 16000 for s in read)


@pytest.mark.parametrize("colour", [0.0, 1.0, 2.0])
def test_noise_is_so_many_decibels_below_the_sound_and_as_dark_as_its_colour(
    colour: float,
) -> None:
    sound, rng = tone(4, 16000), np.random.default_rng(0)
    loud = replace(PLAIN, noise=6.0, colour=colour).sound(sound, rng)
    noise = loud - sound
    ratio = 10 * np.log10(np.square(sound).mean() / np.square(noise).mean())
    assert ratio == pytest.approx(6.0, abs=0.05)
    power = np.square(np.abs(np.fft.rfft(noise)))
    octaves = [power[400 * 2**k : 800 * 2**k].mean() for k in range(6)]  # 100 Hz to 6.4 kHz
    fall = -np.polyfit(np.arange(6), np.log2(octaves), 1)[0]
    assert fall == pytest.approx(colour, abs=0.1)
    heard = power[4 * 50 :].sum() / power.sum()  # above 50 Hz
    assert heard > 0.45
    quiet = replace(PLAIN, gain=-20.0).sound(sound, rng)
    np.testing.assert_allclose(quiet, sound / 10, atol=1e-4)
    assert not replace(PLAIN, noise=-5.0).sound(np.zeros(16000, np.float32), rng).any()


def test_pictures_are_blurred_lit_cropped_and_mirrored() -> None:
    ramp = np.tile(np.linspace(20, 200, 64).astype(np.uint8)[None, :, None], (64, 1, 3))
    np.testing.assert_array_equal(PLAIN.picture(ramp), ramp)
    np.testing.assert_array_equal(replace(PLAIN, mirrored=True).picture(ramp), ramp[:, ::-1])
    left = replace(PLAIN, crop=(0.0, 0.0, 0.5)).picture(ramp)
    assert left.shape == ramp.shape and left.max() <= ramp[:, :33].max()
    assert replace(PLAIN, brightness=0.7).picture(ramp).mean() == pytest.approx(
        0.7 * ramp.mean(), abs=1
    )
    assert replace(PLAIN, contrast=1.3).picture(ramp).std() > 1.2 * ramp.std()
    edge = np.zeros((64, 64, 3), np.uint8)
    edge[:, 32:] = 200
    soft = replace(PLAIN, blur=3.0).picture(edge)
    assert 60 < int(soft[32, 32, 0]) < 140 and soft[0, 0, 0] < 5


def test_drawn_values_are_within_their_bounds_and_differ() -> None:
    drawn = [Alteration.draw(np.random.default_rng(i)) for i in range(200)]
    for name, (least, most) in {
        "noise": altered.NOISE, "colour": altered.COLOUR, "gain": altered.GAIN,
        "blur": altered.BLUR, "brightness": altered.LIGHT, "contrast": altered.LIGHT,
    }.items():  # fmt: skip
        values = np.array([getattr(d, name) for d in drawn])
        assert (values >= least).all() and (values <= most).all()
        assert np.ptp(values) > 0.8 * (most - least)
    assert all(0 <= d.crop[0] <= 1 - d.crop[2] and d.crop[2] >= altered.CROP[0] for d in drawn)
    assert 60 < sum(d.mirrored for d in drawn) < 140
