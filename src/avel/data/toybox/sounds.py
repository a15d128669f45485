"""How Toybox's things sound: one synthesiser each, every second of it recognisable."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, fftconvolve, sosfilt

from avel import clock

Wave = NDArray[np.float64]
Rng = np.random.Generator

_TAU = 2 * np.pi


def _seconds(count: int, rate: int) -> Wave:
    return np.arange(count) / rate


def _hits(count: int, rate: int, period: float, rng: Rng) -> Iterator[int]:
    """Samples of strokes about ``period`` seconds apart, the first within the first period."""
    at = float(rng.uniform(0, 0.3) * period)
    while at * rate < count:
        yield clock.sample_index(at, rate)
        at += period * float(rng.uniform(0.9, 1.1))


def _add(out: Wave, start: int, grain: Wave) -> None:
    room = len(out) - start
    if room > 0:
        out[start : start + len(grain)] += grain[:room]


def _strokes(count: int, rate: int, period: float, rng: Rng, grain: Callable[[int], Wave]) -> Wave:
    out = np.zeros(count)
    for number, start in enumerate(_hits(count, rate, period, rng)):
        _add(out, start, grain(number) * rng.uniform(0.75, 1.0))
    return out


def _band(x: Wave, rate: int, low: float | None, high: float | None) -> Wave:
    """``x`` through a second-order filter that keeps ``low`` to ``high`` Hz."""
    nyquist = 0.49 * rate
    if low and high:
        sos = butter(
            2, (min(low, nyquist * 0.8), min(high, nyquist)), "band", fs=rate, output="sos"
        )
    else:
        sos = butter(
            2, min(low or high or nyquist, nyquist), "high" if low else "low", fs=rate, output="sos"
        )
    return np.asarray(sosfilt(sos, x))


def _tone(frequency: Wave | float, count: int, rate: int, harmonics: tuple[float, ...]) -> Wave:
    """A sum of harmonics of a frequency that may move; none above the Nyquist frequency."""
    hz = np.broadcast_to(np.asarray(frequency, dtype=float), (count,))
    turn = _TAU * np.cumsum(hz) / rate
    out = np.zeros(count)
    for k, weight in enumerate(harmonics, start=1):
        out += weight * np.sin(k * turn) * (k * hz < 0.45 * rate)
    return out


def _bell(n: int, rate: int, pitch: float, pace: float, rng: Rng) -> Wave:
    t = _seconds(int(1.2 * rate), rate)
    f0 = 520 * pitch
    partials = (
        (0.5, 0.5, 2.0),
        (1.0, 1.0, 3.0),
        (1.19, 0.8, 4.0),
        (1.5, 0.5, 5.0),
        (2.0, 0.7, 6.0),
        (2.74, 0.5, 8.0),
        (3.76, 0.3, 10.0),
    )
    grain = sum(
        (w * np.sin(_TAU * f0 * k * t) * np.exp(-d * t) for k, w, d in partials), np.zeros_like(t)
    )
    return _strokes(n, rate, 0.62 / pace, rng, lambda _: grain)


def _siren(n: int, rate: int, pitch: float, pace: float, rng: Rng) -> Wave:
    t = _seconds(n, rate) + rng.uniform(0, 1)
    wail = np.sin(_TAU * 1.6 * pace * t)
    return _tone(820 * pitch * (1 + 0.38 * wail), n, rate, (1.0, 0.5, 0.35, 0.2))


def _drum(n: int, rate: int, pitch: float, pace: float, rng: Rng) -> Wave:
    m = int(0.25 * rate)
    t = _seconds(m, rate)
    skin = _tone(95 * pitch * (1 + 0.6 * np.exp(-30 * t)), m, rate, (1.0, 0.3)) * np.exp(-14 * t)
    rattle = _band(rng.standard_normal(m), rate, 300, 2500) * np.exp(-28 * t)
    return _strokes(n, rate, 0.34 / pace, rng, lambda _: skin + 1.1 * rattle)


def _engine(n: int, rate: int, pitch: float, pace: float, rng: Rng) -> Wave:
    t = _seconds(n, rate)
    revs = 46 * pitch * (1 + 0.07 * np.sin(_TAU * 0.5 * pace * t + rng.uniform(0, 6)))
    hum = _tone(revs, n, rate, tuple(1 / k**0.7 for k in range(1, 17)))
    puff = 1 + 0.5 * np.sin(_TAU * np.cumsum(revs / 4) / rate)
    return (hum + 0.8 * _band(rng.standard_normal(n), rate, 80, 700)) * puff


def _bird(n: int, rate: int, pitch: float, pace: float, rng: Rng) -> Wave:
    def chirp(number: int) -> Wave:
        m = int(rng.uniform(0.07, 0.13) * rate)
        t = _seconds(m, rate) * rate / m
        bend = rng.uniform(0.2, 0.4) * (1 if number % 2 else -1)
        sweep = 3700 * pitch * (1 + bend * (t - 0.5) + 0.06 * np.sin(_TAU * 4 * t))
        return _tone(sweep, m, rate, (1.0, 0.1)) * np.sin(np.pi * t)

    return _strokes(n, rate, 0.19 / pace, rng, chirp)


def _ball(n: int, rate: int, pitch: float, pace: float, rng: Rng) -> Wave:
    m = int(0.2 * rate)
    t = _seconds(m, rate)
    boing = _tone(300 * pitch * (1 + 5 * t + 0.1 * np.sin(_TAU * 28 * t)), m, rate, (1.0, 0.6, 0.3))
    thud = _band(rng.standard_normal(m), rate, None, 250) * np.exp(-60 * t) * 3
    return _strokes(n, rate, 0.42 / pace, rng, lambda _: boing * np.exp(-13 * t) + thud)


def _clock(n: int, rate: int, pitch: float, pace: float, rng: Rng) -> Wave:
    m = int(0.05 * rate)
    t = _seconds(m, rate)

    def tick(number: int) -> Wave:
        ring = 2500 * pitch * (1.0 if number % 2 else 0.74)
        wood = np.sin(_TAU * ring * t) * np.exp(-150 * t)
        return np.asarray(wood + 0.5 * rng.standard_normal(m) * np.exp(-400 * t))

    return _strokes(n, rate, 0.24 / pace, rng, tick)


def _alarm(n: int, rate: int, pitch: float, pace: float, rng: Rng) -> Wave:
    t = _seconds(n, rate) * 4.2 * pace + rng.uniform(0, 1)
    on = np.clip((0.55 - t % 1.0) * 40, 0, 1) * np.clip((t % 1.0) * 40, 0, 1)
    return _tone(1350 * pitch, n, rate, (1.0, 0.0, 0.45, 0.0, 0.25)) * on


def _kettle(n: int, rate: int, pitch: float, pace: float, rng: Rng) -> Wave:
    t = _seconds(n, rate)
    whistle = 2400 * pitch * (1 + 0.012 * np.sin(_TAU * 6 * pace * t))
    hiss = _band(rng.standard_normal(n), rate, 3500, None)
    return _tone(whistle, n, rate, (1.0, 0.35)) + 0.35 * hiss


def _cat(n: int, rate: int, pitch: float, pace: float, rng: Rng) -> Wave:
    m = int(0.5 * rate)
    t = _seconds(m, rate) * rate / m
    voice = _tone(
        520 * pitch * (0.85 + 0.35 * np.sin(np.pi * t**0.7)),
        m,
        rate,
        tuple(1 / k**0.5 for k in range(1, 12)),
    )
    mouth = _band(voice, rate, 700, 1500) * np.sin(np.pi * t) + _band(voice, rate, 1800, 3200) * t
    return _strokes(n, rate, 0.68 / pace, rng, lambda _: mouth * np.sin(np.pi * t) ** 0.5)


_VOICES: dict[str, Callable[[int, int, float, float, Rng], Wave]] = {
    "bell": _bell,
    "siren": _siren,
    "drum": _drum,
    "engine": _engine,
    "bird": _bird,
    "ball": _ball,
    "clock": _clock,
    "alarm": _alarm,
    "kettle": _kettle,
    "cat": _cat,
}


def loudness(x: Wave, rate: int) -> float:
    """RMS of the louder twentieths of a second: what a listener takes for the level."""
    block = max(1, rate // 20)
    whole = x[: len(x) // block * block] if len(x) >= block else x
    power = np.mean(whole.reshape(-1, min(block, len(whole))) ** 2, axis=1)
    return float(np.sqrt(np.quantile(power, 0.9)))


def _room(x: Wave, rate: int, wet: float, rng: Rng) -> Wave:
    t = _seconds(int(0.35 * rate), rate)
    echo = rng.standard_normal(len(t)) * np.exp(-t * 14)
    echo *= wet / np.sqrt(np.sum(echo**2))
    return x + np.asarray(fftconvolve(x, echo))[: len(x)]


def play(
    label: str,
    count: int,
    *,
    rate: int,
    pitch: float,
    pace: float,
    level: float,
    wet: float,
    rng: Rng,
) -> Wave:
    """A thing's sound.

    Args:
        label: One of the classes.
        count: Samples.
        rate: Samples a second.
        pitch, pace: Factors on frequency and rhythm.
        level: dBFS of its louder parts.
        wet: Share of the room's echo, 0..1.
        rng: Source of its small irregularities.

    Returns:
        (count,) samples with 20 ms fades at both ends.
    """
    x = _room(_VOICES[label](count, rate, pitch, pace, rng), rate, wet, rng)
    x *= 10 ** (level / 20) / max(loudness(x, rate), 1e-9)
    edge = min(int(0.02 * rate), count // 2)
    ramp = np.linspace(0, 1, edge)
    x[:edge] *= ramp
    x[count - edge :] *= ramp[::-1]
    return x


def noise_bed(kind: str, count: int, *, rate: int, level: float, rng: Rng) -> Wave:
    """Background noise at ``level`` dBFS RMS: ``"white"``, ``"pink"`` or ``"hum"``."""
    if kind == "hum":
        base = _tone(50.0, count, rate, (1.0, 0.6, 0.4, 0.3, 0.2))
        x = base + 0.5 * rng.standard_normal(count)
    else:
        x = rng.standard_normal(count)
        if kind == "pink":
            spectrum = np.fft.rfft(x)
            spectrum /= np.sqrt(np.maximum(1, np.arange(len(spectrum))))
            x = np.fft.irfft(spectrum, count)
    return np.asarray(x * 10 ** (level / 20) / max(float(np.sqrt(np.mean(x**2))), 1e-9))
