"""The thumbnails of a report: their times and pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from avel import clock
from avel.errors import AvelError
from avel.types import Timeline

if TYPE_CHECKING:
    from avel.media.file import Media

#: Most thumbnails of a page, and their longer side in pixels.
LIMIT, WIDTH = 40, 320
#: Most characters of all thumbnails' data URIs, and the JPEG qualities to try.
LETTERS, QUALITIES = 800_000, (74, 55, 35, 15, 5)
#: Multiple of the even share at which attention is drawn at full opacity.
FOCUSED = 4.0


def thumbnails(
    timeline: Timeline, media: Media | None = None
) -> list[tuple[float, NDArray[np.uint8]]]:
    """The thumbnails' times with their (H, W, 3) pictures; empty if none can be read.

    The longer of H and W is at most ``WIDTH``.

    Args:
        timeline: The events.
        media: The probed file, where it is there already; None finds it by the timeline.
    """
    from avel.media.excerpt import frame_size
    from avel.media.file import frames_at, media_of

    times = thumb_times(timeline)
    try:
        media = media or media_of(timeline)
        width, _ = frame_size(media, most=WIDTH)
        images = frames_at(media, times, width=width)
    except AvelError:
        return []
    return [(t, i) for t, i in zip(times, images, strict=True) if i is not None]


def thumb_times(timeline: Timeline, *, limit: int = LIMIT) -> list[float]:
    """The thumbnails' times, rising: one a segment up to ``limit``.

    Of a longer file: the middle of every event, highest scores first, then evenly spread times.

    Args:
        timeline: The events; where it has scores, their grid gives the segments.
        limit: Most thumbnails.

    Returns:
        At most ``limit`` seconds, rising, no two in one segment.
    """
    step = timeline.scores.grid.step if timeline.scores else 1.0
    count = clock.segment_count(timeline.duration, step)
    if count <= limit:
        return [
            clock.middle(*clock.segment_bounds(i, step, timeline.duration)) for i in range(count)
        ]
    sure = sorted(timeline.events, key=lambda e: -e.score)
    chosen: dict[int, float] = {}
    for event in sure:
        if len(chosen) == limit:
            break
        middle = clock.middle(event.start, event.end)
        chosen.setdefault(clock.segment_at(middle, step), middle)
    for k in np.linspace(0, count - 1, limit).round().astype(int).tolist():
        if len(chosen) == limit:
            break
        bounds = clock.segment_bounds(k, step, timeline.duration)
        chosen.setdefault(k, clock.middle(*bounds))
    return sorted(chosen.values())


def jpeg(image: NDArray[np.uint8], *, quality: int = 74) -> bytes:
    """An (H, W, 3) RGB picture as a JPEG file."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(image).save(out, format="JPEG", quality=quality, optimize=True)
    return out.getvalue()


def jpeg_uri(image: NDArray[np.uint8], *, quality: int = 74) -> str:
    """The same as a data URI."""
    return data_uri(jpeg(image, quality=quality), "image/jpeg")


def jpeg_uris(images: Sequence[NDArray[np.uint8]]) -> list[str]:
    """(H, W, 3) RGB pictures as data URIs, of the best quality within ``LETTERS`` characters."""
    for quality in QUALITIES:
        uris = [jpeg_uri(image, quality=quality) for image in images]
        if sum(map(len, uris)) <= LETTERS:
            break
    return uris


def data_uri(data: bytes, kind: str) -> str:
    """Bytes as a ``data:`` address that a page can hold."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def attention_bytes(maps: NDArray[np.floating[Any]], chosen: Sequence[int]) -> bytes:
    """Attention maps as bytes: 0 up to the even share, 255 at a map's maximum.

    A map whose maximum is less than ``FOCUSED`` times its even share stays faint, so that even
    attention doesn't look focused.

    Args:
        maps: (T, H, W), each summing to 1.
        chosen: Which of the T.

    Returns:
        ``len(chosen) * H * W`` bytes, row by row.
    """
    selected = np.nan_to_num(np.asarray(maps, dtype=np.float64)[list(chosen)])
    excess = np.maximum(selected * selected[0].size - 1, 0) if len(selected) else selected
    peak = excess.max(axis=(1, 2), keepdims=True, initial=0)
    shown: NDArray[np.uint8] = (
        (excess / np.maximum(peak, FOCUSED - 1) * 255).round().astype(np.uint8)
    )
    return shown.tobytes()
