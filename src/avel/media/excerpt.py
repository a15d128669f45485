"""Excerpts of a media file: its pictures and its sound from one instant to another."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from avel import clock
from avel.media.decode import Damage, Shrinker, SoundLine
from avel.media.file import Media

#: Seconds of sound decoded before an excerpt: decoders need some, and a seek may land late.
_LEAD = 10.0


def frame_size(media: Media, *, most: int = 1920) -> tuple[int, int]:
    """Width and height of a file's upright picture, even, the longer side at most ``most``.

    Returns:
        (0, 0) where the file has no picture.
    """
    if media.video is None:
        return 0, 0
    width, height = media.video.width, media.video.height
    if media.video.rotation % 180 == 90:
        width, height = height, width
    shrink = min(1.0, most / max(width, height, 1))
    even = (max(2, round(side * shrink) // 2 * 2) for side in (width, height))
    return next(even), next(even)


def pictures(
    media: Media, start: float, end: float, *, fps: float, size: tuple[int, int]
) -> Iterator[NDArray[np.uint8]]:
    """The frames shown from ``start`` to ``end``, ``fps`` a second, at least one.

    Each is the one on at its instant; before the first and behind the last one of the file, and
    where one can't be converted, the picture is the one before it, or black.

    Args:
        media: The file.
        start, end: Seconds.
        fps: Frames a second that are yielded, whatever the file's own rate.
        size: Width and height in pixels.

    Yields:
        (height, width, 3) uint8 RGB.
    """
    shrink = Shrinker(Damage())
    image = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    with media.screens() as screens:
        screen = screens.at(start)
        for instant in clock.frame_instants(start, end, fps):
            shown = screen.at(instant) or screen.first_before(end)
            resized = shrink(shown, *size) if shown is not None else None
            image = image if resized is None else resized
            yield image


def sound(media: Media, start: float, end: float, *, rate: int = 44100) -> NDArray[np.float32]:
    """The sound from ``start`` to ``end`` as (n,) mono samples, silence where there is none."""
    count = clock.sample_index(end, rate) - clock.sample_index(start, rate)
    if media.audio is None:
        return np.zeros(count, dtype=np.float32)
    since = start - _LEAD
    blocks = media._blocks(Damage(), natural=True, since=since if since > 0 else None, zero=start)
    samples, _ = SoundLine(blocks, rate).read(count)
    return samples
