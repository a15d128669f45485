"""How Toybox's things look: one drawing each, in the unit square, with a phase that animates it.

A thing moves the same way whether or not it sounds: the picture never tells what is heard.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

#: Event classes in the order of their ids.
CLASSES = (
    "bell",
    "siren",
    "drum",
    "engine",
    "bird",
    "ball",
    "clock",
    "alarm",
    "kettle",
    "cat",
)

Colour = tuple[int, int, int]
Point = tuple[float, float]


@dataclass(frozen=True)
class Look:
    """The variable part of a drawing.

    Args:
        body, trim: Fill colours, 0..255.
        ink: Outline colour.
        outline: Width of the outline as a share of the thing's size, 0 for none.
        tilt, sway: Rest angle and swing in degrees.
        flip: Mirrored from left to right.
        pace: Turns of the animation a second.
        phase: Where in the turn it starts, 0..1.
    """

    body: Colour
    trim: Colour
    ink: Colour
    outline: float
    tilt: float
    sway: float
    flip: bool
    pace: float
    phase: float


class Pen:
    """Draws in unit coordinates (y down) on a transparent square of ``side`` pixels."""

    def __init__(self, side: int, look: Look) -> None:
        self.image = Image.new("RGBA", (side, side), (*look.body, 0))
        self.side, self.look = side, look
        self.width = round(look.outline * side)
        self._draw = ImageDraw.Draw(self.image)

    def _at(self, *xy: float) -> list[float]:
        return [0.5 + v * (self.side - 1) for v in xy]

    def _edge(self) -> Colour | None:
        return self.look.ink if self.width else None

    def poly(self, points: Sequence[Point], fill: Colour) -> None:
        """A filled, outlined polygon."""
        flat = self._at(*[v for p in points for v in p])
        self._draw.polygon(flat, fill=fill)
        if self.width:
            self._draw.line([*flat, *flat[:4]], fill=self.look.ink, width=self.width)

    def oval(self, x: float, y: float, rx: float, ry: float, fill: Colour) -> None:
        """A filled, outlined ellipse about (x, y)."""
        where = self._at(x - rx, y - ry, x + rx, y + ry)
        self._draw.ellipse(where, fill=fill, outline=self._edge(), width=self.width)

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: Colour, r: float = 0.0) -> None:
        """A filled, outlined rectangle with corners of radius ``r``."""
        where = self._at(x0, y0, x1, y1)
        self._draw.rounded_rectangle(
            where, r * self.side, fill=fill, outline=self._edge(), width=self.width
        )

    def line(self, points: Sequence[Point], fill: Colour, width: float) -> None:
        """A line of ``width`` (a share of the side)."""
        flat = self._at(*[v for p in points for v in p])
        self._draw.line(flat, fill=fill, width=max(1, round(width * self.side)), joint="curve")

    def pie(self, x: float, y: float, r: float, start: float, end: float, fill: Colour) -> None:
        """A slice of a disc between two angles in degrees."""
        self._draw.pieslice(self._at(x - r, y - r, x + r, y + r), start, end, fill=fill)

    def arc(
        self, x: float, y: float, r: float, start: float, end: float, fill: Colour, width: float
    ) -> None:
        """A part of a circle's line between two angles in degrees."""
        where = self._at(x - r, y - r, x + r, y + r)
        self._draw.arc(where, start, end, fill=fill, width=max(1, round(width * self.side)))


_DARK, _PALE, _GLASS = (35, 35, 40), (240, 240, 235), (175, 215, 235)


def _on_circle(x: float, y: float, r: float, degrees: float) -> Point:
    turn = math.radians(degrees)
    return x + r * math.cos(turn), y + r * math.sin(turn)


def _bell(p: Pen, phase: float) -> None:
    swing = 0.1 * math.sin(2 * math.pi * phase)
    p.arc(0.5, 0.1, 0.09, 0, 360, p.look.ink, 0.05)
    p.oval(0.5 + swing, 0.88, 0.1, 0.1, p.look.trim)
    right = [(0.5, 0.14), (0.63, 0.17), (0.71, 0.28), (0.74, 0.55), (0.82, 0.72), (0.97, 0.84)]
    left = [(1 - x, y) for x, y in reversed(right[1:])]
    p.poly([*right, *left], p.look.body)
    p.line([(0.2, 0.7), (0.8, 0.7)], p.look.trim, 0.06)


def _siren(p: Pen, phase: float) -> None:
    red, blue = ((255, 40, 40), (40, 60, 140)) if phase < 0.5 else ((120, 30, 40), (60, 110, 255))
    p.box(0.38, 0.17, 0.5, 0.29, red)
    p.box(0.5, 0.17, 0.62, 0.29, blue)
    p.poly([(0.2, 0.53), (0.32, 0.29), (0.7, 0.29), (0.83, 0.53)], p.look.body)
    p.poly([(0.28, 0.51), (0.36, 0.34), (0.49, 0.34), (0.49, 0.51)], _GLASS)
    p.poly([(0.54, 0.51), (0.54, 0.34), (0.67, 0.34), (0.75, 0.51)], _GLASS)
    p.box(0.01, 0.51, 0.99, 0.76, p.look.body, 0.06)
    p.box(0.03, 0.58, 0.97, 0.66, p.look.trim)
    for x in (0.23, 0.77):
        p.oval(x, 0.77, 0.12, 0.12, _DARK)
        p.oval(x, 0.77, 0.05, 0.05, _PALE)


def _drum(p: Pen, phase: float) -> None:
    p.box(0.1, 0.42, 0.9, 0.82, p.look.body)
    p.oval(0.5, 0.82, 0.4, 0.13, p.look.body)
    p.box(0.12, 0.7, 0.88, 0.82, p.look.body) if not p.width else None
    steps = [(0.12 + 0.76 * i / 6, 0.5 if i % 2 else 0.82) for i in range(7)]
    p.line(steps, p.look.trim, 0.045)
    p.oval(0.5, 0.42, 0.4, 0.14, _PALE)
    lift = 0.16 * abs(math.sin(2 * math.pi * phase))
    drop = 0.16 * abs(math.cos(2 * math.pi * phase))
    for x0, x1, up in ((0.08, 0.42, lift), (0.92, 0.58, drop)):
        p.line([(x0, 0.16 - up / 2), (x1, 0.4 - up)], p.look.ink, 0.05)
        p.oval(x1, 0.4 - up, 0.05, 0.05, p.look.trim)


def _engine(p: Pen, phase: float) -> None:
    for k in range(3):
        rise = (phase + k / 3) % 1.0
        grey = round(120 + 90 * rise)
        p.oval(0.8 + 0.08 * rise, 0.26 - 0.22 * rise, 0.04 + 0.04 * rise, 0.04, (grey, grey, grey))
    p.box(0.75, 0.27, 0.81, 0.48, _DARK)
    p.poly([(0.14, 0.5), (0.18, 0.08), (0.52, 0.08), (0.56, 0.5)], p.look.trim)
    p.poly([(0.22, 0.44), (0.25, 0.15), (0.45, 0.15), (0.48, 0.44)], _GLASS)
    p.box(0.1, 0.44, 0.97, 0.7, p.look.body, 0.04)
    for x, y, r in ((0.28, 0.69, 0.27), (0.82, 0.8, 0.16)):
        p.oval(x, y, r, r, _DARK)
        p.oval(x, y, r * 0.5, r * 0.5, p.look.trim)
        for k in range(3):
            ends = [_on_circle(x, y, r * 0.95, 360 * phase + 60 * k + a) for a in (0, 180)]
            p.line(ends, (110, 110, 110), 0.025)


def _bird(p: Pen, phase: float) -> None:
    flap = 0.3 * math.sin(2 * math.pi * phase)
    p.poly([(0.27, 0.55), (0.0, 0.4), (0.04, 0.66)], p.look.trim)
    p.poly([(0.8, 0.27), (1.0, 0.35), (0.8, 0.43)], (245, 165, 30))
    p.oval(0.46, 0.58, 0.28, 0.2, p.look.body)
    p.oval(0.7, 0.34, 0.16, 0.16, p.look.body)
    p.oval(0.74, 0.31, 0.045, 0.045, _DARK)
    p.poly([(0.56, 0.55), (0.32, 0.53), (0.22, 0.46 - flap), (0.42, 0.36 - flap)], p.look.trim)
    for x in (0.42, 0.52):
        p.line([(x, 0.77), (x, 0.95), (x + 0.07, 0.95)], p.look.ink, 0.03)


def _ball(p: Pen, phase: float) -> None:
    for k in range(6):
        start = 360 * phase + 60 * k
        p.pie(0.5, 0.5, 0.46, start, start + 60, p.look.body if k % 2 else p.look.trim)
    p.oval(0.5, 0.5, 0.09, 0.09, _PALE)
    p.arc(0.5, 0.5, 0.46, 0, 360, p.look.ink, max(0.02, p.look.outline))


def _clock(p: Pen, phase: float) -> None:
    p.oval(0.5, 0.5, 0.46, 0.46, p.look.body)
    p.oval(0.5, 0.5, 0.36, 0.36, _PALE)
    for k in range(12):
        p.line([_on_circle(0.5, 0.5, r, 30 * k) for r in (0.28, 0.34)], _DARK, 0.03)
    p.line([(0.5, 0.5), _on_circle(0.5, 0.5, 0.27, 360 * phase)], _DARK, 0.035)
    p.line([(0.5, 0.5), _on_circle(0.5, 0.5, 0.18, 360 * phase / 12 - 60)], p.look.trim, 0.06)


def _alarm(p: Pen, phase: float) -> None:
    bright = p.look.body if phase < 0.5 else tuple(min(255, c + 70) for c in p.look.body)
    p.poly([(0.5, 0.05), (0.98, 0.93), (0.02, 0.93)], p.look.trim)
    p.poly([(0.5, 0.2), (0.86, 0.86), (0.14, 0.86)], (bright[0], bright[1], bright[2]))
    p.poly([(0.44, 0.38), (0.56, 0.38), (0.53, 0.67), (0.47, 0.67)], p.look.ink)
    p.oval(0.5, 0.76, 0.05, 0.05, p.look.ink)


def _kettle(p: Pen, phase: float) -> None:
    for k in range(3):
        rise = (phase + k / 3) % 1.0
        p.oval(0.9 + 0.04 * rise, 0.32 - 0.26 * rise, 0.05, 0.03 + 0.02 * rise, (225, 230, 235))
    p.arc(0.46, 0.38, 0.28, 180, 360, p.look.ink, 0.07)
    p.poly([(0.7, 0.72), (0.86, 0.38), (0.98, 0.4), (0.78, 0.84)], p.look.trim)
    body = [(0.3, 0.36), (0.62, 0.36), (0.78, 0.62), (0.84, 0.93), (0.08, 0.93), (0.14, 0.62)]
    p.poly(body, p.look.body)
    p.box(0.3, 0.3, 0.62, 0.38, p.look.trim)
    p.oval(0.46, 0.26, 0.05, 0.05, p.look.ink)


def _cat(p: Pen, phase: float) -> None:
    sway = 0.09 * math.sin(2 * math.pi * phase)
    p.line([(0.72, 0.9), (0.92, 0.78), (0.9 + sway, 0.5)], p.look.body, 0.08)
    p.oval(0.5, 0.8, 0.28, 0.19, p.look.body)
    for side in (-1, 1):
        ear = [(0.5 + side * 0.33, 0.02), (0.5 + side * 0.32, 0.36), (0.5 + side * 0.08, 0.2)]
        p.poly(ear, p.look.body)
    p.oval(0.5, 0.42, 0.33, 0.28, p.look.body)
    for side in (-1, 1):
        p.oval(0.5 + side * 0.13, 0.37, 0.065, 0.08, _PALE)
        p.oval(0.5 + side * 0.13, 0.38, 0.03, 0.06, _DARK)
        for tip in (0.44, 0.56):
            p.line([(0.5 + side * 0.08, 0.5), (0.5 + side * 0.46, tip)], p.look.ink, 0.02)
    p.poly([(0.45, 0.47), (0.55, 0.47), (0.5, 0.54)], p.look.trim)


_DRAWINGS: dict[str, Callable[[Pen, float], None]] = {
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


def draw_thing(label: str, look: Look, *, side: int, phase: float) -> Image.Image:
    """A thing as an RGBA square, drawn at twice its size and reduced.

    Args:
        label: One of :data:`CLASSES`.
        look: Colours, outline, tilt.
        side: Pixels of the thing itself; the square is a quarter wider so that it can tilt.
        phase: 0..1, where in its animation it is.
    """
    pen = Pen(2 * side, look)
    _DRAWINGS[label](pen, phase)
    room = round(1.25 * side)
    canvas = Image.new("RGBA", (2 * room, 2 * room), (*look.body, 0))
    canvas.paste(pen.image, (room - side, room - side))
    if look.flip:
        canvas = canvas.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    angle = look.tilt + look.sway * math.sin(2 * math.pi * phase)
    return canvas.rotate(angle, Image.Resampling.BILINEAR).reduce(2)
