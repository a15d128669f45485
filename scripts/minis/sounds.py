"""Seconds of sound: mixtures of Toybox's synthesised sounds and of recordings.

Recordings are laid out as the composer does it (``recordings.lay_out``), some a little faster or
slower than they are, and mixed over the composer's noises at its levels. Every second is cut from
anywhere; each sound in it gets its own room and its own tone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from avel.data.composer.bank import Bank
from avel.data.composer.recordings import (
    RATE,
    lay_out,
    loud_excerpts,
    play_excerpts,
    read_recording,
)
from avel.data.composer.scene import BED_LEVELS, BEDS, LOUDEST
from avel.data.toybox.scene import draw_bed, draw_sound_script, scene_rng
from avel.data.toybox.sounds import loudness, noise_bed, play
from avel.data.toybox.things import CLASSES
from avel.features.logmel import log_mel
from minis import NAMES, PAIRS

TOYS = len(CLASSES)
#: Samples of a track that seconds are cut from.
TRACK = 3 * RATE
#: How often a recording is laid out; all but the first time its speed is changed.
LAYS = 6
#: Most sounds in a second.
SLOTS = 3
#: A sound is heard if its loudest twentieth of a second is this many decibels over the noise, and
#: isn't if it is below 0; between the two it isn't judged.
HEARD = 4.0


@dataclass(frozen=True)
class Stock:
    """Tracks of sound, 10 dB below full scale where they are loud.

    Args:
        tracks: (n, TRACK) float16.
        rows: For each class its sources, for each source the rows of its tracks.
    """

    tracks: np.ndarray
    rows: tuple[tuple[tuple[int, ...], ...], ...]


def levelled(wave: np.ndarray) -> np.ndarray:
    """A wave at a loudness of -10 dBFS."""
    return wave * (10**-0.5 / max(loudness(wave, RATE), 1e-9))


def gather(bank: Bank, each: int) -> Stock:
    """The training side's recordings, and ``each`` tracks of every Toybox sound."""
    tracks, rows = [], []
    for label in CLASSES:
        own = []
        for i in range(each):
            rng = scene_rng("minis", 3, len(rows), i)
            sound = draw_sound_script(label, ((0.0, 3.0),), rng)
            wave = play(
                label,
                TRACK,
                rate=RATE,
                pitch=sound.pitch,
                pace=sound.pace,
                level=-10,
                wet=sound.wet,
                rng=rng,
            )
            own.append((len(tracks),))
            tracks.append(wave.astype(np.float16))
        rows.append(tuple(own))
    for label in PAIRS.classes:
        own = []
        for files in bank.by_source["sounds", "train", label]:
            first = len(tracks)
            for file in files:
                tracks += laid(bank.roots["sounds"] / file.file, len(tracks))
            own.append(tuple(range(first, len(tracks))))
        rows.append(tuple(own))
    return Stock(np.stack(tracks), tuple(rows))


def laid(path, number: int) -> list[np.ndarray]:
    """A recording's tracks."""
    recording, made = read_recording(path), []
    for i in range(LAYS):
        rng = scene_rng("minis", 4, number, i)
        samples, loud = recording.samples, recording.loud
        if i:
            speed = 2 ** rng.uniform(-0.35, 0.35)
            at = np.arange(0, len(samples) - 1, speed)
            samples = np.interp(at, np.arange(len(samples)), samples).astype(np.float32)
            loud = loud_excerpts(samples)
        pieces = lay_out(loud, 0, TRACK, rng)
        made.append(levelled(play_excerpts(samples, pieces, 0, TRACK)).astype(np.float16))
    return made


class Mixer:
    """Makes batches of log-mel patches and of what is heard in them.

    Args:
        stock: Tracks.
        seed: Of all that is drawn.
    """

    def __init__(self, stock: Stock, seed: int) -> None:
        self.stock = stock
        self.rng = np.random.default_rng(seed)
        rng = np.random.default_rng([seed, 1])
        beds = [noise_bed(k, 20 * RATE, rate=RATE, level=0, rng=rng) for k in BEDS]
        self._beds = np.stack(beds).astype(np.float32)
        self._rooms = torch.stack([_room(rng) for _ in range(48)])
        self._hats = _hats()

    def batch(self, count: int) -> tuple[Tensor, Tensor]:
        """(count, 96, 64) float32 patches and (count, C) int8: 1 heard, 0 not, -1 not judged."""
        parts = np.zeros((count, SLOTS, RATE), np.float32)
        bed = np.zeros((count, RATE), np.float32)
        heard = np.zeros((count, len(NAMES)), np.int8)
        for i in range(count):
            level = float(self.rng.uniform(BED_LEVELS[0] - 6, BED_LEVELS[1] + 2))
            quiet = 1.0 if self.rng.random() > 0.15 else 0.02  # recordings as they are
            kind, at = int(self.rng.integers(len(BEDS))), int(self.rng.integers(0, 19 * RATE))
            bed[i] = self._beds[kind, at : at + RATE] * (quiet * 10 ** (level / 20))
            for slot, label in enumerate(self._labels()):
                wave = self._piece(label, level)
                over = 20 * np.log10(_peak(wave) + 1e-9) - level
                heard[i, label] = 1 if over > HEARD else 0 if over < 0 else -1
                parts[i, slot] = wave
        return self._patches(parts, bed), torch.from_numpy(heard)

    def _labels(self) -> np.ndarray:
        count = int(self.rng.choice(4, p=[0.06, 0.44, 0.34, 0.16]))
        world = self.rng.random()
        first, last = (0, TOYS) if world < 0.22 else (TOYS, len(NAMES)) if world < 0.9 else (0, 20)
        return first + self.rng.permutation(last - first)[:count]

    def _piece(self, label: int, bed: float) -> np.ndarray:
        rng = self.rng
        sources = self.stock.rows[label]
        own = sources[int(rng.integers(len(sources)))]
        at = int(rng.integers(0, TRACK - RATE))
        wave = self.stock.tracks[own[int(rng.integers(len(own)))], at : at + RATE]
        level = rng.uniform(-26, -14) if label < TOYS else min(bed + rng.uniform(6, 30), LOUDEST)
        wave = wave.astype(np.float32) * 10 ** ((level + 10) / 20)
        if rng.random() < 0.2:  # begins, or ends, within the second
            edge = int(rng.uniform(0.1, 0.9) * RATE)
            wave[slice(edge, None) if rng.random() < 0.5 else slice(0, edge)] = 0
        return wave

    def _patches(self, parts: np.ndarray, bed: np.ndarray) -> Tensor:
        """Rooms, tones, noise, a codec's losses; then log-mel."""
        count = len(parts)
        draw = torch.Generator().manual_seed(int(self.rng.integers(2**31)))
        spectra = torch.fft.rfft(torch.from_numpy(parts))
        shape = (count, SLOTS)
        tone = 4 * torch.randn(*shape, len(self._hats), generator=draw) @ self._hats
        rooms = self._rooms[torch.randint(len(self._rooms), shape, generator=draw)]
        rooms[torch.rand(shape, generator=draw) < 0.5] = 1
        mixed = (spectra * rooms * 10 ** (tone / 20)).sum(1)
        wave = torch.tanh(torch.fft.irfft(mixed, RATE) + torch.from_numpy(bed))
        return log_mel(_coded(wave, draw))


def _room(rng: np.random.Generator) -> Tensor:
    t = np.arange(RATE // 2) / RATE
    echo = rng.standard_normal(len(t)) * np.exp(-t * rng.uniform(8, 40))
    echo *= rng.uniform(0.05, 0.6) / np.sqrt(np.sum(echo**2))
    echo[0] += 1
    return torch.from_numpy(np.fft.rfft(echo, RATE).astype(np.complex64))


def _hats() -> Tensor:
    """(8, RATE / 2 + 1): weights that draw a curve over the logarithm of frequency."""
    places = np.linspace(np.log(60), np.log(8000), 8)
    f = np.log(np.maximum(np.arange(RATE // 2 + 1), 1))
    curves = np.stack([np.interp(f, places, row) for row in np.eye(8)])
    return torch.from_numpy(curves.astype(np.float32))


def _peak(wave: np.ndarray) -> float:
    """RMS of the loudest twentieth of a second."""
    return float(np.sqrt((wave.reshape(20, -1) ** 2).mean(1).max()))


def _coded(wave: Tensor, draw: torch.Generator) -> Tensor:
    """Roughly what AAC does: coarse quantisation of the spectrum, sometimes without its top."""
    spectrum = torch.fft.rfft(wave)

    def drawn(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(len(wave), 1, generator=draw)

    step = 10 ** drawn(-2.2, -1.0) * spectrum.abs().mean(1, keepdim=True)
    size = step * torch.sqrt(spectrum.abs() / step + 1) * (drawn(0, 1) > 0.3)
    noise = torch.rand(2, *spectrum.shape, generator=draw) - 0.5
    spectrum = spectrum + torch.complex(noise[0] * size, noise[1] * size)
    bins = torch.arange(spectrum.shape[1]) / spectrum.shape[1]
    cut = drawn(0.8, 1.0) + (drawn(0, 1) > 0.25)
    return torch.fft.irfft(spectrum * (bins < cut), wave.shape[1])


def _log_mels(waves: np.ndarray) -> Tensor:
    return torch.cat([log_mel(block) for block in torch.from_numpy(waves).split(100)])


def masked(x: Tensor, draw: torch.Generator) -> Tensor:
    """Patches with a stretch of time and a band of frequency taken out, louder or softer."""
    n = len(x)
    gain = 2 ** (3 * torch.rand(n, 1, 1, generator=draw) - 1.5)
    x = torch.log((torch.exp(x) - 0.01).clamp(min=0) * gain + 0.01)
    mean = x.mean((1, 2), keepdim=True)
    for axis, most in ((1, 20), (2, 10)):
        size = x.shape[axis]
        long = torch.rand(n, 1, generator=draw) * most
        start = torch.rand(n, 1, generator=draw) * (size - long)
        place = torch.arange(size)
        out = (place >= start) & (place < start + long)
        x = torch.where(out[:, :, None] if axis == 1 else out[:, None, :], mean, x)
    return x


# ---------------------------------------------------------------- to judge by


def toy_mixture(rng: np.random.Generator) -> tuple[np.ndarray, list[int]]:
    """A second of none to three of Toybox's sounds over noise, (16000,), and which they are."""
    kind, level = draw_bed(rng)
    track = noise_bed(kind, RATE, rate=RATE, level=level, rng=rng)
    labels = rng.permutation(TOYS)[: int(rng.choice(4, p=[0.08, 0.3, 0.42, 0.2]))].tolist()
    for label in labels:
        sound = draw_sound_script(CLASSES[label], ((0.0, 1.0),), rng)
        start = int(rng.integers(0, RATE))  # a stretch from the middle of a longer sound
        wave = play(
            CLASSES[label], 2 * RATE, rate=RATE, pitch=sound.pitch, pace=sound.pace,
            level=sound.level, wet=sound.wet, rng=rng,
        )  # fmt: skip
        track += wave[start : start + RATE]
    return np.tanh(track), labels


def toy_seconds(first: int, count: int) -> tuple[Tensor, Tensor]:
    """Toybox's held-out seconds: log-mel (count, 96, 64), what is in them (count, C)."""
    heard = torch.zeros(count, len(NAMES))
    waves = np.zeros((count, RATE), np.float32)
    for i in range(count):
        rng = scene_rng("minis", 2, first + i)
        waves[i], labels = toy_mixture(rng)
        heard[i, labels] = 1
    draw = torch.Generator().manual_seed(first)
    blocks = torch.from_numpy(waves).split(100)
    return torch.cat([log_mel(_coded(block, draw)) for block in blocks]), heard


def recorded_seconds(bank: Bank, side: str) -> tuple[Tensor, Tensor, Tensor]:
    """Every audible whole second of a side's recordings: as it is, at -20 dBFS, and its class.

    Audible: a quarter of it or more lies in what the composer takes for the recording's loud
    stretches (within 20 dB of its loudest, pauses up to 0.8 s included), and its own loudest
    twentieth of a second is within 20 dB of the recording's loudness.
    """
    plain, even, labels = [], [], []
    for label in PAIRS.classes:
        for file in bank.sounds[side][label]:
            recording = read_recording(bank.roots["sounds"] / file.file)
            level = loudness(recording.samples.astype(np.float64), RATE)
            for start in range(0, len(recording.samples) - RATE + 1, RATE):
                wave = recording.samples[start : start + RATE]
                loud = sum(max(0, min(b, start + RATE) - max(a, start)) for a, b in recording.loud)
                if loud >= RATE / 4 and _peak(wave) > 0.1 * level:
                    plain.append(wave)
                    even.append(wave * np.float32(0.1 / level))
                    labels.append(NAMES.index(label))
    first, second = (_log_mels(np.stack(w)) for w in (plain, even))
    return first, second, torch.tensor(labels)
