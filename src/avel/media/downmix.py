"""Many channels of sound to one: by the layout, at constant loudness, in phase.

A file's channels are measured once, on its first seconds that aren't quiet, and mixed alike from
beginning to end:

    - The channels of a layout count as in ITU-R BS.775 (centre 1.4, sides and rear 0.7 of a front
      one, bass effects nothing), so that equal channels keep their level.
    - A channel whose phase is opposite to the strongest one's is turned.
    - A mix that is still much weaker than its loudest channel (one live microphone among dead
      channels, say) is raised to that one's level.

A file that is quiet throughout is raised to the level of speech, so that its sounds are compared
with each other and not with full scale.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Weights of channels by FFmpeg's names; others count as a front one.
_WEIGHTS = {"FC": math.sqrt(2), "LFE": 0.0, "LFE2": 0.0} | dict.fromkeys(
    ("SL", "SR", "BL", "BR", "BC", "SDL", "SDR", "TBL", "TBR", "TBC", "TSL", "TSR"), math.sqrt(0.5)
)
#: A channel is turned where its correlation with the strongest one is below this.
OPPOSITE = -0.5
#: A mix of less than this share of its loudest channel's power is raised to it. Independent
#: channels of one level, which lose half of it in their mean, stay as they are.
WEAK = 0.45
# bass effects that are so many times as loud (in power) as all the rest are a microphone
_ALONE = 100.0
#: dBFS: a second above ``QUIET`` is measured; a file that has none, but one above ``SILENT``, is
#: raised until its loudest second has ``SPEECH``.
QUIET, SILENT, SPEECH = -50.0, -80.0, -26.0
#: Measured seconds after which no more sound is decoded for it.
ENOUGH = 20.0


@dataclass(frozen=True)
class Downmix:
    """How the channels of a file become one.

    Args:
        weights: One a channel, signed; empty for the plain mean.
        gain: By how much the mix is raised, as a factor, so that it is as loud as its channels.
        raised: By how many dB a quiet file's mix is raised besides.
        turned: How many channels are turned.
        level: dBFS of the loudest second that was measured.
    """

    weights: tuple[float, ...] = ()
    gain: float = 1.0
    raised: float = 0.0
    turned: int = 0
    level: float = -math.inf

    def __call__(self, channels: NDArray[np.float32], *, natural: bool = False) -> Any:
        """(channels, n) float32 -> (n,) float32.

        Args:
            channels: Those that were measured; of another number of them the mean is taken.
            natural: Whether a quiet file stays as quiet as it is.
        """
        mixed = channels.mean(axis=0, dtype=np.float32)
        if len(self.weights) == len(channels):
            mixed = np.asarray(self.weights, np.float32) @ channels
        factor = self.gain * (1.0 if natural else 10 ** (self.raised / 20))
        return mixed if factor == 1 else mixed * np.float32(factor)

    def sentences(self) -> Iterator[str]:
        """What a reader of the results must know, a sentence each."""
        if self.turned:
            some = f"{self.turned} of its {len(self.weights)} channels"
            has = "have" if self.turned > 1 else "has"
            yield f"sound: {some} {has} the opposite phase and would cancel the rest: turned"
        if self.raised:
            level = f"{self.level:.0f} dBFS at its loudest"
            yield f"sound: quiet, {level}: raised by {self.raised:.0f} dB"


#: The plain mean of all channels.
MEAN = Downmix()


def layout_weights(names: Sequence[str]) -> Floats:
    """(channels,) weights that sum to 1, by the names of a layout's channels."""
    weights = np.array([_WEIGHTS.get(name, 1.0) for name in names])
    if not weights.any():
        weights = np.ones(len(names))
    return np.asarray(weights / weights.sum())


@dataclass
class _Second:
    """A second of sound on its way: samples until now, and the sums of their products."""

    names: tuple[str, ...]
    products: Floats
    count: int = 0


def measured(frames: Iterable[tuple[Sequence[str], int, NDArray[np.float32]]]) -> Downmix:
    """The downmix of a sound; as many frames are drawn as that takes.

    Args:
        frames: Names of the channels, samples a second, and (channels, n) samples in order.
    """
    loud = _Sums()
    quiet = _Sums()
    loudest, seconds = -math.inf, 0.0
    for names, products, count, length in _seconds(frames):
        level = _decibels(float(products.diagonal().max()) / count)
        loudest = max(loudest, level)
        (loud if level > QUIET else quiet).add(names, products)
        seconds += length * (level > QUIET)
        if seconds >= (ENOUGH if len(names) > 1 else 0.5):
            break
    sums = loud if loud.products is not None else quiet
    raised = SPEECH - loudest if SILENT < loudest <= QUIET else 0.0
    return _of(sums, raised, loudest)


class _Sums:
    """Sums of products of channels; of the layout that came first."""

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self.products: Floats | None = None

    def add(self, names: tuple[str, ...], products: Floats) -> None:
        if self.products is None:
            self.names, self.products = names, products.copy()
        elif self.names == names:
            self.products += products


def _seconds(
    frames: Iterable[tuple[Sequence[str], int, NDArray[np.float32]]],
) -> Iterator[tuple[tuple[str, ...], Floats, int, float]]:
    """About a second each: the channels' names, (n, n) sums of products, samples, seconds."""
    second: _Second | None = None
    rate = 0
    for names, rate, samples in frames:
        key = tuple(names)
        if second is None or second.names != key:
            second = _Second(key, np.zeros((len(key), len(key))))
        block = samples.astype(np.float64)
        second.products += block @ block.T
        second.count += samples.shape[1]
        if second.count >= rate:
            yield second.names, second.products, second.count, second.count / rate
            second = None
    if second is not None and second.count >= rate / 10:
        yield second.names, second.products, second.count, second.count / rate


def _of(sums: _Sums, raised: float, level: float) -> Downmix:
    products = sums.products
    if products is None or len(products) == 1:
        return Downmix(raised=raised, level=level)
    weights = layout_weights(sums.names)
    power = products.diagonal() * (weights > 0)
    if products.diagonal().max() > _ALONE * power.max():  # a recorder's channel, called bass
        weights = np.full(len(weights), 1 / len(weights))
        power = products.diagonal()
    if not power.any():
        return Downmix(raised=raised, level=level)
    strongest = int(power.argmax())
    scale = np.sqrt(products[strongest, strongest] * products.diagonal())
    alike = np.divide(products[strongest], scale, out=np.zeros(len(scale)), where=scale > 0)
    signs = np.where((alike < OPPOSITE) & (weights > 0), -1.0, 1.0)
    mixed = float((signs * weights) @ products @ (signs * weights))
    weak = mixed < WEAK * power[strongest]
    gain = math.sqrt(power[strongest] / mixed) if weak and mixed > 0 else 1.0
    turned = int((signs < 0).sum())
    plain = not turned and np.ptp(weights) < 1e-9
    return Downmix(() if plain else tuple(signs * weights), gain, raised, turned, level)


def _decibels(power: float) -> float:
    return 10 * math.log10(power) if power > 0 else -math.inf
