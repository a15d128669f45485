"""A person's recordings: read with their length bounded, and made to fill a span with sound.

A recording of an event is mostly pauses: one bark in five seconds of nothing. Its loud stretches
are found, and set one after the other as long as the span lasts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avel import clock
from avel.data.script import Rng
from avel.errors import DataError

#: Samples a second of everything that is composed.
RATE = 16000
#: Seconds read of a recording.
LONGEST = 60
#: Stretches this many decibels below the loudest are pauses.
QUIET = 20.0
#: Pauses no longer than this (seconds) stay as they are: a clock's ticks keep their rhythm.
PAUSE = 0.8
#: Below this level (dBFS) a recording is silent.
_SILENT = -70.0
_BLOCK = 0.02
_FADE = 0.01

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class PlacedExcerpt:
    """A stretch of a recording in a clip, in samples.

    Args:
        at: Where it begins in the clip.
        first, last: From where to where it is taken.
    """

    at: int
    first: int
    last: int

    @property
    def audible(self) -> bool:
        """Whether there is more of it than fades in and out."""
        return self.last - self.first > 2 * clock.sample_index(_FADE, RATE)

    def as_json(self) -> dict[str, float]:
        """In seconds: ``at`` in the clip, ``from`` and ``to`` in the recording."""
        return {
            "at": round(self.at / RATE, 4),
            "from": round(self.first / RATE, 4),
            "to": round(self.last / RATE, 4),
        }


@dataclass(frozen=True)
class Recording:
    """A recording's sound, mono at ``RATE``, and its loud stretches (first, last)."""

    samples: Samples
    loud: tuple[tuple[int, int], ...]


@lru_cache(maxsize=32)
def read_recording(path: Path) -> Recording:
    """The first minute of a recording's sound.

    Raises:
        AvelError: if it can't be decoded.
        DataError: if it is silent.
    """
    from avel.media.file import audio_track

    chunks = list(islice(audio_track(path, RATE), LONGEST))
    samples = np.concatenate(chunks) if chunks else np.zeros(0, np.float32)
    loud = loud_excerpts(samples)
    if not loud:
        raise DataError(f"{path} is silent", expected="a recording of something")
    return Recording(samples, loud)


def loud_excerpts(samples: Samples) -> tuple[tuple[int, int], ...]:
    """Where a recording sounds: (first, last) samples, pauses up to ``PAUSE`` within them."""
    block = clock.sample_index(_BLOCK, RATE)
    count = len(samples) // block
    if not count:
        return ()
    power = np.mean(samples[: count * block].reshape(count, block).astype(np.float64) ** 2, axis=1)
    level = 10 * np.log10(np.maximum(power, 1e-12))
    if level.max() < _SILENT:
        return ()
    loud = np.flatnonzero(level > level.max() - QUIET)
    breaks = np.flatnonzero(np.diff(loud) > PAUSE / _BLOCK)
    firsts, lasts = loud[np.r_[0, breaks + 1]], loud[np.r_[breaks, len(loud) - 1]]
    end = len(samples)
    return tuple(
        (max(0, int(a) - 1) * block, min(end, (int(b) + 2) * block))
        for a, b in zip(firsts, lasts, strict=True)
    )


def lay_out(
    loud: tuple[tuple[int, int], ...], start: int, end: int, rng: Rng
) -> list[PlacedExcerpt]:
    """Excerpts of a recording that fill a span: its loud parts in turn, the last one cut.

    Long stretches begin anywhere and meet; short ones stand 0.1 to 0.4 s apart.

    Args:
        loud: As :func:`loud_excerpts` gives them.
        start, end: The span in samples.
        rng: Source of which comes first and of the pauses.
    """
    turn = int(rng.integers(len(loud)))
    excerpts: list[PlacedExcerpt] = []
    at = start
    while at < end:
        first, last = loud[turn % len(loud)]
        long = last - first > RATE
        if long and not excerpts:
            first += int(rng.integers(0, last - first - RATE // 2))
        last = min(last, first + end - at)
        excerpts.append(PlacedExcerpt(at, first, last))
        gap = -clock.sample_index(_FADE, RATE) if long else int(rng.uniform(0.1, 0.4) * RATE)
        at += max(last - first + gap, RATE // 50)
        turn += 1
    return excerpts


def later(excerpts: list[PlacedExcerpt], by: int, start: int, end: int) -> list[PlacedExcerpt]:
    """Pieces so many samples later (below 0: earlier), cut to a span."""
    moved = []
    for excerpt in excerpts:
        at = max(start, excerpt.at + by)
        first = excerpt.first + at - (excerpt.at + by)
        last = min(excerpt.last, first + end - at)
        if first < last:
            moved.append(PlacedExcerpt(at, first, last))
    return moved


def play_excerpts(
    samples: Samples, excerpts: list[PlacedExcerpt], start: int, end: int
) -> NDArray[np.float64]:
    """(end - start,) samples of a span; every excerpt is faded in and out."""
    out = np.zeros(end - start)
    for excerpt in excerpts:
        grain = samples[excerpt.first : excerpt.last].astype(np.float64)
        edge = min(clock.sample_index(_FADE, RATE), len(grain) // 2)
        ramp = np.linspace(0, 1, edge)
        grain[:edge] *= ramp
        grain[len(grain) - edge :] *= ramp[::-1]
        place = excerpt.at - start
        out[place : place + len(grain)] += grain[: len(out) - place]
    return out
