"""Altered copies of a file: noisier, blurrier, darker, cropped, as other recordings would be.

Trained on features of such copies as well, a model meets more recording conditions than a few
clips have. Where events are in time stays as it was.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from hashlib import sha256
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from avel.media.file import RATE, Media, Segment

#: Most segments, and seconds, whose mean power the noise follows: memory doesn't grow with the
#: file's length.
_BLOCK = 32
#: Decibels of the sound above the noise, and by which the sound is louder or quieter.
NOISE, GAIN = (-5.0, 20.0), (-10.0, 10.0)
#: The noise's power falls with the frequency to this power: 0 is white, 1 pink, 2 brown. Below
#: so many hertz it stays, or most of it would be too low to be heard.
COLOUR, LOWEST = (0.0, 2.0), 50.0
#: Standard deviation of the blur, in percent of the width; drawn by its logarithm.
BLUR = (0.3, 3.0)
#: Factors of brightness and contrast.
LIGHT = (0.7, 1.3)
#: Share of the width and of the height that a crop keeps.
CROP = (0.85, 1.0)


@dataclass(frozen=True)
class Alteration:
    """What is done to one file, the same from its first segment to its last.

    Args:
        noise: Decibels of the sound above the noise.
        colour: See :data:`COLOUR`.
        gain: Decibels.
        blur: See :data:`BLUR`.
        brightness, contrast: Factors.
        crop: Left, top and side of the square that is kept, in shares of the width and height.
        mirrored: Left and right.
    """

    noise: float
    colour: float
    gain: float
    blur: float
    brightness: float
    contrast: float
    crop: tuple[float, float, float]
    mirrored: bool

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Alteration:
        """One by chance."""
        side = rng.uniform(*CROP)
        left, top = rng.uniform(0, 1 - side), rng.uniform(0, 1 - side)
        least, most = BLUR
        return cls(
            noise=rng.uniform(*NOISE), colour=rng.uniform(*COLOUR), gain=rng.uniform(*GAIN),
            blur=math.exp(rng.uniform(math.log(least), math.log(most))),
            brightness=rng.uniform(*LIGHT), contrast=rng.uniform(*LIGHT),
            crop=(left, top, side), mirrored=bool(rng.random() < 0.5),
        )  # fmt: skip

    def sound(
        self, samples: NDArray[np.float32], rng: np.random.Generator
    ) -> NDArray[np.float32]:  # fmt: skip
        """(n,) samples with noise whose power is in proportion to theirs; silence stays silence."""
        power = float(np.square(samples, dtype=np.float64).mean())
        spectrum = np.fft.rfft(rng.standard_normal(len(samples)))
        pitch = np.fft.rfftfreq(len(samples), 1 / RATE)
        spectrum *= np.maximum(pitch, LOWEST) ** (-self.colour / 2)
        noise = np.fft.irfft(spectrum, len(samples))
        noise *= math.sqrt(power * 10 ** (-self.noise / 10) / max(1e-30, np.square(noise).mean()))
        return np.asarray((samples + noise) * 10 ** (self.gain / 20), np.float32)

    def picture(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A frame (size, size, 3) of the same size."""
        from PIL import Image, ImageFilter

        size = len(frame)
        left, top, side = (size * share for share in self.crop)
        image = Image.fromarray(frame).resize(
            (size, size), Image.Resampling.BILINEAR, (left, top, left + side, top + side)
        )
        image = image.filter(ImageFilter.GaussianBlur(self.blur / 100 * size))
        shown = np.asarray(image, np.float32)
        middle = shown.mean()
        shown = (shown - middle) * self.contrast + middle * self.brightness
        altered: NDArray[np.uint8] = shown.clip(0, 255).astype(np.uint8)
        return altered[:, ::-1] if self.mirrored else altered


@dataclass(frozen=True)
class Altered(Media):
    """A file that is altered as it is decoded, by its name and the number of the copy.

    Args:
        copy: Which copy, from 1: each is altered otherwise.
    """

    copy: int = 1

    @classmethod
    def of(cls, media: Media, copy: int) -> Altered:
        """A file that was probed, altered."""
        return cls(**{f.name: getattr(media, f.name) for f in fields(Media)}, copy=copy)

    def segments(
        self, *, frames: int = 16, size: int = 224, step: float = 1.0
    ) -> Iterator[Segment]:  # fmt: skip
        """As of a file that is like this."""
        digest = sha256(f"{self.copy}:{self.path.name}".encode(errors="surrogateescape")).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        alteration = Alteration.draw(rng)
        segments = super().segments(frames=frames, size=size, step=step)
        count = max(1, min(_BLOCK, int(_BLOCK / step)))
        while block := list(islice(segments, count)):
            sound = alteration.sound(np.concatenate([s.audio for s in block]), rng)
            parts = np.split(sound, np.cumsum([len(s.audio) for s in block])[:-1])
            for segment, part in zip(block, parts, strict=True):
                shown = [alteration.picture(frame) for frame in segment.frames]
                yield replace(
                    segment, frames=np.stack(shown) if shown else segment.frames, audio=part
                )
