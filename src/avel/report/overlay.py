"""The overlay of an annotated video: events, a small timeline, attention."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from avel import clock
from avel.errors import printable
from avel.report import view
from avel.report.thumbs import attention_bytes
from avel.types import Event, Timeline

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont

#: Most labels at a time; of more the ones of the highest scores are shown, with a count.
MOST = 4
#: Colours of the labels' text, of the bar's background, and of the position.
_INK, _GROUND, _HERE = (14, 17, 22), (14, 17, 22, 190), (255, 255, 255)
# the attention's colours with their alpha, how fine it is drawn, and how strong: as the page does
_STOPS = (
    (40, 10, 110, 0), (120, 25, 140, 120), (240, 90, 60, 200), (255, 214, 74, 235),
    (255, 251, 208, 255),
)  # fmt: skip
_FINE, _STRENGTH = 48, 0.72
# lightness and chroma of the classes' colours, as the page's in the dark
_LIGHT, _CHROMA = 0.74, 0.14
_LONGEST = 120


class Overlay:
    """Draws a timeline on pictures of one size, one after the other.

    Args:
        timeline: Its events are labelled during their time and shown on a bar of the whole file;
            attention maps, where its scores have any, are drawn over the picture.
        size: Width and height of the pictures.
    """

    def __init__(self, timeline: Timeline, size: tuple[int, int]) -> None:
        marked = tuple(replace(e, label=e.marked_label) for e in timeline.events)
        self.size, self.timeline = size, (timeline := replace(timeline, events=marked))
        self._lanes = view.lanes(timeline, timeline.events) if timeline.events else []
        self._hues = {lane.label: lane.hue for lane in self._lanes}
        scored = timeline.scores is not None or any(e.score != 1 for e in timeline)
        self._scored = scored and not timeline.corrected
        self._edges, self._active = active_events(timeline.events)
        self._letters = max(10, round(0.04 * min(size)))
        self._bar = self._draw_bar()
        self._look: tuple[int, tuple[Image, Image]] | None = None
        self._named: tuple[int, Image | None] = (-1, None)

    def __call__(self, image: NDArray[np.uint8], seconds: float) -> NDArray[np.uint8]:
        """The (H, W, 3) uint8 RGB picture with the overlay of an instant."""
        from PIL import Image as Pictures

        picture = Pictures.fromarray(image)
        heat = self._attention(seconds)
        if heat is not None:
            picture.paste(heat[0], (0, 0), heat[1])
        height = self.size[1] - self._bar.height
        names = self._names(seconds)
        if names is not None:
            picture.paste(names, (0, max(0, height - names.height)), names)
        picture.paste(self._bar, (0, height), self._bar)
        self._mark(picture, seconds)
        return np.asarray(picture)

    def _attention(self, seconds: float) -> tuple[Image, Image] | None:
        """Colours and how far each covers, or None where there is no map."""
        scores = self.timeline.scores
        if scores is None or scores.attention is None or not len(scores.grid):
            return None
        index = min(clock.segment_at(seconds, scores.grid.step), len(scores.grid) - 1)
        if self._look is None or self._look[0] != index:
            rows, columns = scores.attention.shape[1:]
            flat = np.frombuffer(attention_bytes(scores.attention, [index]), np.uint8)
            self._look = (index, heat_picture(flat.reshape(rows, columns), self.size))
        return self._look[1]

    def _names(self, seconds: float) -> Image | None:
        index = bisect_right(self._edges, seconds)
        if index != self._named[0]:
            events = self._active[index - 1] if index else ()
            self._named = (index, self._draw_names(events) if events else None)
        return self._named[1]

    def _draw_names(self, events: Sequence[Event]) -> Image:
        """Labels of events, one above the other, on an image as wide as the picture."""
        from PIL import Image, ImageDraw

        letters, (width, high) = self._letters, self.size
        pad, row, gap = letters // 2, round(1.6 * letters), max(2, letters // 5)
        sure = sorted(events, key=lambda e: -e.score)
        fitting = max(1, min(MOST, (high - self._bar.height) // (row + gap)))
        lines = [(self._text(e), colour(self._hues.get(e.label, 0))) for e in sure[:fitting]]
        if len(sure) > fitting:
            more = f"+{len(sure) - fitting + 1} more"
            lines[-1] = (f"{lines[-1][0]}  {more}" if fitting == 1 else more, lines[-1][1])
        image = Image.new("RGBA", (width, len(lines) * (row + gap)), (0, 0, 0, 0))
        pen = ImageDraw.Draw(image)
        for i, (text, fill) in enumerate(lines):
            font = font_for(text, letters)
            shown = fitted(text, font, width - 4 * pad)
            top, long = i * (row + gap), int(font.getlength(shown)) + 2 * pad
            pen.rounded_rectangle((pad, top, pad + long, top + row), letters // 3, fill=fill)
            pen.text((2 * pad, top + row / 2), shown, font=font, fill=_INK, anchor="lm")
        return image

    def _text(self, event: Event) -> str:
        name = printable(" ".join(event.label.split()))[:_LONGEST] or "?"
        return f"{name}  {event.score:.2f}" if self._scored else name

    def _draw_bar(self) -> Image:
        """The timeline of the whole file: a row a class, or shared rows if there is no room."""
        from PIL import Image, ImageDraw

        width, height = self.size
        most = max(6, round(0.05 * height))
        rows = max(1, min(len(self._lanes), most // 4))
        each = max(4, min(round(0.025 * height), most // rows))
        image = Image.new("RGBA", (width, min(height, each * rows + 2)), _GROUND)
        pen = ImageDraw.Draw(image)
        for i, lane in enumerate(self._lanes):
            for event in lane.events:
                left = int(event.left / 100 * width)
                right = max(left, int((event.left + event.width) / 100 * width) - 1)
                top = 1 + i % rows * each
                pen.rectangle((left, top, right, top + each - 2), fill=colour(lane.hue))
        return image

    def _mark(self, picture: Image, seconds: float) -> None:
        """Mark the instant on the bar."""
        from PIL import ImageDraw

        width, height = self.size
        thick = max(1, round(width / 400))
        at = round(clock.share(seconds, self.timeline.duration) * (width - thick))
        pen, top = ImageDraw.Draw(picture), height - self._bar.height
        pen.rectangle((at - 1, top, at + thick, height - 1), fill=_INK)
        pen.rectangle((at, top, at + thick - 1, height - 1), fill=_HERE)


def active_events(events: Sequence[Event]) -> tuple[list[float], list[tuple[Event, ...]]]:
    """The instants at which an event begins or ends, rising, and the active events from each."""
    begin: dict[float, list[Event]] = {}
    for event in events:
        begin.setdefault(event.start, []).append(event)
    edges = sorted({*begin, *(e.end for e in events)})
    active: list[tuple[Event, ...]] = []
    running: list[Event] = []
    for edge in edges:
        running = [e for e in running if e.end > edge] + begin.get(edge, [])
        active.append(tuple(running))
    return edges, active


def heat_picture(cells: NDArray[np.uint8], size: tuple[int, int]) -> tuple[Image, Image]:
    """An attention map as the report shows it: smoothed, and transparent at the even share.

    Args:
        cells: (H, W) bytes of :func:`avel.report.thumbs.attention_bytes`.
        size: Width and height of the pictures.

    Returns:
        Colours (RGB) and opacity (L), both of that size.
    """
    from PIL import Image

    down, across = _weights(cells.shape[0]), _weights(cells.shape[1])
    fine = (down @ cells.astype(np.float64) @ across.T) / 255  # (_FINE, _FINE)
    stops, at = np.array(_STOPS, dtype=np.float64), np.linspace(0, 1, len(_STOPS))
    ramp = np.stack([np.interp(fine, at, stops[:, c]) for c in range(4)], axis=-1)
    ramp[..., 3] *= _STRENGTH
    small = Image.fromarray(ramp.round().astype(np.uint8), mode="RGBA")
    large = small.resize(size, Image.Resampling.BICUBIC)
    return large.convert("RGB"), large.getchannel("A")


def _weights(count: int) -> NDArray[np.float64]:
    """(_FINE, count) the weight of each cell at each point of the fine grid; rows sum to 1."""
    at = (np.arange(_FINE) + 0.5) / _FINE * count - 0.5
    raw = np.exp(-((at[:, None] - np.arange(count)) ** 2) / 0.5)
    return np.asarray(raw / raw.sum(axis=1, keepdims=True))


def colour(hue: int) -> tuple[int, int, int]:
    """RGB of a class's hue, as in the page's dark theme.

    Ottosson, A perceptual color space for image processing, 2020 (OKLab to linear sRGB).
    """
    a, b = _CHROMA * np.cos(np.radians(hue)), _CHROMA * np.sin(np.radians(hue))
    long = _LIGHT + 0.3963377774 * a + 0.2158037573 * b
    middle = _LIGHT - 0.1055613458 * a - 0.0638541728 * b
    short = _LIGHT - 0.0894841775 * a - 1.2914855480 * b
    cones = np.array([long, middle, short]) ** 3
    linear = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    ) @ cones  # fmt: skip
    clear = linear.clip(0, 1)
    shown = np.where(clear <= 0.0031308, 12.92 * clear, 1.055 * clear ** (1 / 2.4) - 0.055)
    red, green, blue = (int(v) for v in (255 * shown).round())
    return red, green, blue


def fitted(text: str, font: FreeTypeFont, width: float) -> str:
    """The text, cut with an ellipsis if it is wider than ``width`` pixels."""
    if font.getlength(text) <= width:
        return text
    for length in range(len(text) - 1, 0, -1):
        cut = f"{text[:length].rstrip()}…"
        if font.getlength(cut) <= width:
            return cut
    return ""


def font_for(text: str, size: int) -> FreeTypeFont:
    """A font for a text: DejaVu Sans, which comes with matplotlib, or an installed fallback.

    A letter that no font has is drawn as a box.
    """
    return _font(
        next((p for p in _fonts(text.isascii()) if _covers(p, text)), _default_font()), size
    )


def _default_font() -> str:
    import matplotlib

    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


@lru_cache(maxsize=2)
def _fonts(plain: bool) -> tuple[str, ...]:
    """Files of the fonts to try."""
    if plain:
        return (_default_font(),)
    from matplotlib.font_manager import findfont, fontManager

    from avel.figures.style import FALLBACKS

    there = set(fontManager.get_font_names())
    return (_default_font(), *(findfont(name) for name in FALLBACKS if name in there))


@lru_cache(maxsize=256)
def _covers(path: str, text: str) -> bool:
    from matplotlib.ft2font import FT2Font

    face: Any = FT2Font(path)
    return all(face.get_char_index(ord(c)) or c.isspace() for c in text)


@lru_cache(maxsize=16)
def _font(path: str, size: int) -> FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.truetype(path, size)
