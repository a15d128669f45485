"""Rows of a figure over a common time axis: frames, attention, audio, labels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from avel import clock
from avel.errors import DataError
from avel.figures.style import FAINT, GREY, RIGHT, WRONG, ink_on, plain, short_names, size_of
from avel.metrics import Ints
from avel.types import BACKGROUND, Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage
    from matplotlib.patches import Rectangle

Span = tuple[float, float]
#: Left, right, lower and upper edge.
Extent = tuple[float, float, float, float]
#: Attention is drawn from its even share (transparent) to so many times that, or its maximum.
FOCUSED = 4.0
#: Colours of attention, over pictures in pale grey or over grey alone.
HEAT = ("#FFD92F", "#FC8D00", "#E31A1C", "#7F0026")
#: Points of a waveform's envelope.
ENVELOPE = 1200


def shown_segments(count: int, step: float, duration: float, limit: int) -> list[tuple[int, Span]]:
    """The segments that get a picture, each with its span on the time axis in seconds.

    All of them while there are at most ``limit``; of more, the middle ones of ``limit`` spans of
    equal length.

    >>> shown_segments(3, 1.0, 3.0, 12)
    [(0, (0.0, 1.0)), (1, (1.0, 2.0)), (2, (2.0, 3.0))]
    >>> [index for index, _ in shown_segments(60, 1.0, 60.0, 4)]
    [7, 22, 37, 52]
    """
    if count <= limit:
        return [(i, clock.segment_bounds(i, step, duration)) for i in range(count)]
    even = equal_spans(limit, clock.segments_to_seconds(count, step))
    at = [clock.segment_at(clock.middle(*span), step) for span in even]
    return [(min(index, count - 1), span) for index, span in zip(at, even, strict=True)]


def equal_spans(count: int, duration: float) -> list[Span]:
    """``count`` spans of equal length, start and end in seconds."""
    return list(pairwise(np.linspace(0, duration, count + 1).tolist()))


def frame_strip(
    frames: Sequence[NDArray[np.uint8] | None],
    where: Sequence[Span],
    *,
    ax: Axes,
    maps: Sequence[Floats] | None = None,
    peak: float | None = None,
) -> list[AxesImage]:
    """Frames side by side over time, with attention over them where maps are given.

    Args:
        frames: (H, W, 3) pictures, None where there is none; they keep their shape.
        where: Start and end of each on the time axis in seconds.
        ax: Where to draw.
        maps: (h, w) attention of each, summing to 1; drawn from transparent (its even share or
            less) to the brightest colour.
        peak: How many times the even share is the brightest; None: the highest there is, at
            least 4.

    Returns:
        The images: frames, and over each its map (times its even share).
    """
    drawn: list[AxesImage] = []
    shares = None if maps is None else [even_shares(m) for m in maps]
    top = peak or highest(shares or [])
    inches = size_of(ax)
    whole = max(where[-1][1] - where[0][0], 1e-9) if where else 1.0
    for i, ((start, end), frame) in enumerate(zip(where, frames, strict=True)):
        extent = (start, end, 0.0, 1.0)
        if frame is not None:
            room = inches[0] * (end - start) / whole, inches[1]
            extent = _fitted((start, end), frame.shape[:2], room)
            shown = frame if shares is None else _pale(frame)
            drawn.append(ax.imshow(shown, extent=extent, aspect="auto", interpolation="bilinear"))
        if shares is not None:
            drawn.append(_heat(ax, shares[i], extent, top, over=frame is not None))
        ax.axvline(end, color="white", lw=1)
    if shares is not None and any(f is None for f in frames):
        ax.set_facecolor(FAINT)
    bare(ax, where)
    return drawn


def _fitted(span: Span, shape: tuple[int, ...], room: tuple[float, float]) -> Extent:
    """Where a picture of a shape lies in its span, which is ``room`` inches wide and high."""
    high, wide = 1.0, 1.0
    filled = (shape[0] / shape[1]) * room[0] / room[1]  # of the height, at full width
    if filled < 0.9:
        high = filled
    elif filled > 1.1:
        wide = 1 / filled
    centre, half = clock.middle(*span), wide * (span[1] - span[0]) / 2
    return centre - half, centre + half, 0.5 - high / 2, 0.5 + high / 2


def even_shares(map_: Floats) -> NDArray[np.float64]:
    """A map that sums to 1 as multiples of its even share."""
    array = np.nan_to_num(np.asarray(map_, dtype=np.float64))
    if array.ndim != 2 or not array.size:
        raise DataError(f"an attention map of shape {array.shape}", expected="(H, W)")
    return array * array.size


def highest(shares: Sequence[NDArray[np.float64]]) -> float:
    """The end of the colour scale of some maps."""
    return max([FOCUSED, *(float(s.max()) for s in shares)])


def _pale(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture in light greys, on which colours stand out."""
    grey = frame.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    return np.repeat((95 + 0.62 * grey)[..., None], 3, 2).astype(np.uint8)


def _heat(
    ax: Axes, share: NDArray[np.float64], extent: Extent, top: float, *,
    over: bool, origin: Literal["upper", "lower"] = "upper",
) -> AxesImage:  # fmt: skip
    """A map, given in multiples of its even share: smooth over a picture, else region by region."""
    alpha = (0.85 if over else 1.0) * np.clip((share - 1) / (top - 1), 0, 1) ** 0.35
    colours, norm = _scale(top)
    return ax.imshow(
        share, cmap=colours, norm=norm, alpha=alpha, extent=extent, aspect="auto", origin=origin,
        interpolation="bilinear" if over else "nearest",
    )  # fmt: skip


def _scale(top: float) -> tuple[Any, Any]:
    """Colours over pictures, from the even share to ``top`` times it."""
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm

    return LinearSegmentedColormap.from_list("attention", HEAT), PowerNorm(0.5, 1.0, top)


def heat_bar(ax: Axes, top: float) -> None:
    """A colour bar for maps drawn over pictures, to the right of some axes."""
    from matplotlib.cm import ScalarMappable

    colours, norm = _scale(top)
    bar_ax = ax.inset_axes((1.012, 0.0, 0.012, 1.0))
    bar = ax.figure.colorbar(ScalarMappable(norm, colours), cax=bar_ax)
    ends = [1.0, 1.0 + (top - 1) / 4, top]
    bar.set_ticks(ends, labels=[f"{v:.0f}" for v in ends])
    sides: tuple[Literal["bottom", "center", "top"], ...] = ("bottom", "center", "top")
    for label, side in zip(bar.ax.get_yticklabels(), sides, strict=True):
        label.set_verticalalignment(side)
    bar.ax.minorticks_off()
    bar.ax.tick_params(labelsize=7, length=2)
    bar.set_label("× even share", fontsize=7)
    bar.outline.set_visible(False)


def waveform(samples: Floats, *, rate: float, ax: Axes) -> Any:
    """The envelope of a sound over time; the filled area is returned.

    Args:
        samples: (n,) floats, or (n, 2) lowest and highest values of n equal intervals.
        rate: Samples, or intervals, a second.
        ax: Where to draw.
    """
    low, high = (samples, samples) if samples.ndim == 1 else samples.T
    count = max(1, min(ENVELOPE, len(low)))
    edges = np.linspace(0, len(low), count + 1).astype(int)[:-1]
    if len(low):
        low, high = np.minimum.reduceat(low, edges), np.maximum.reduceat(high, edges)
    most = max([0.05, *np.abs(low), *np.abs(high)])
    at = (np.arange(len(low)) + 0.5) * (len(samples) / rate / max(1, len(low)))
    area = ax.fill_between(at, low, high, color="#3B4A63", lw=0.4)
    ax.set_xlim(0, max(len(samples) / rate, 1e-3))
    ax.set_ylim(-1.05 * most, 1.05 * most)
    ax.set_yticks([])
    _frameless(ax)
    return area


def log_mel_strip(
    patches: Floats, where: Sequence[Span], *, ax: Axes, maps: Sequence[Floats] | None = None
) -> list[AxesImage]:
    """Log-mel patches over time, low bands below, with attention over them (tian2018 fig. S1).

    Args:
        patches: (n, frames, bands).
        where: Start and end of each in seconds.
        ax: Where to draw.
        maps: (rows, columns) attention of each over time and band, the lowest band first.

    Returns:
        The images: patches, and over each its map (times its even share).
    """
    drawn: list[AxesImage] = []
    shares = None if maps is None else [even_shares(m) for m in maps]
    top = highest(shares or [])
    ends: dict[str, Any] = {
        "vmin": float(np.min(patches, initial=0)),
        "vmax": float(np.max(patches, initial=1e-3)),
    }
    for i, (start, end) in enumerate(where):
        extent = (start, end, 0.0, 1.0)
        drawn.append(
            ax.imshow(
                patches[i].T, cmap="gray_r", extent=extent, aspect="auto", origin="lower", **ends
            )
        )
        if shares is not None:
            drawn.append(_heat(ax, shares[i].T, extent, top, over=True, origin="lower"))
        ax.axvline(end, color="white", lw=1)
    bare(ax, where)
    return drawn


def label_strip(
    labels: Ints,
    classes: Sequence[str],
    *,
    ax: Axes,
    truth: Ints | None = None,
    step: float = 1.0,
    duration: float | None = None,
) -> list[Rectangle]:
    """A box for each run of equal labels, named; right ones green with ✓, wrong ones red with ✗.

    Args:
        labels: (T,) ids 0..C, C for background.
        classes: The C names.
        ax: Where to draw.
        truth: (T,) what is right; without it events are blue-grey, background pale.
        step: Seconds a segment.
        duration: Of the file in seconds; all segments whole if None.

    Returns:
        A box a run (of equal label and, with ``truth``, of equal rightness), in order.
    """
    from matplotlib.patches import Rectangle

    c, count = len(classes), len(labels)
    last = clock.segments_to_seconds(count, step) if duration is None else duration
    names = [*short_names(classes, 18), BACKGROUND]
    keys = [int(v) for v in labels]
    if truth is not None:  # a run ends where rightness changes too
        keys = [k * 2 + int(k == int(t)) for k, t in zip(keys, truth, strict=True)]
    boxes: list[Rectangle] = []
    for first, stop, key in clock.runs(keys):
        label, right = (key, None) if truth is None else (key // 2, bool(key % 2))
        start = clock.segment_bounds(first, step, last)[0]
        end = clock.segment_bounds(stop - 1, step, last)[1]
        colour = _box_colour(label == c, right)
        edge = min(
            1.2, 24 * size_of(ax)[0] * clock.share(end - start, last)
        )  # thin boxes, thin edges
        box = Rectangle((start, 0), end - start, 1, fc=colour, ec="white", lw=edge)
        ax.add_patch(box)
        boxes.append(box)
        mark = {None: "", True: "✓ ", False: "✗ "}[right]
        name_box(ax, (start, end), mark + names[label], colour, last)
    bare(ax, [(0.0, last)])
    return boxes


def _box_colour(background: bool, right: bool | None) -> str:
    if right is None:
        return FAINT if background else "#52647F"
    if right:
        return "#BFE6D9" if background else RIGHT
    return WRONG


def name_box(ax: Axes, span: Span, text: str, colour: str, duration: float) -> None:
    """Write a text in a box if it fits, else its leading ✓ or ✗ alone, else nothing."""
    inches = size_of(ax)[0] * (span[1] - span[0]) / max(duration, 1e-9)
    size = 8.0
    wide = 0.0088 * size  # inches a letter of that size takes, on the generous side
    for words in (text, text[:1] if text[:2].endswith(" ") else ""):
        fitting = min(size, inches / max(1, len(words)) / wide * size)
        if words and fitting >= 5.5:
            ax.text(clock.middle(*span), 0.47, words, ha="center", va="center", fontsize=fitting,
                    color=ink_on(colour), zorder=4)  # fmt: skip
            return


def bare(ax: Axes, where: Sequence[Span]) -> None:
    """Remove a row's frame and ticks, and fit its time axis to its pictures or boxes."""
    ax.set_xlim(where[0][0], where[-1][1])
    ax.set_ylim(0, 1)
    ax.set_yticks([])
    _frameless(ax)


def _frameless(ax: Axes) -> None:
    for side in ax.spines.values():
        side.set_visible(False)
    ax.tick_params(axis="x", length=0, labelbottom=False)


def row_name(ax: Axes, name: str) -> None:
    """Write a row's name to its left."""
    ax.text(-0.01, 0.5, plain(name), transform=ax.transAxes, ha="right", va="center", fontsize=8)


def time_axis(ax: Axes) -> None:
    """Show the seconds below the lowest row."""
    ax.tick_params(axis="x", length=3, labelbottom=True, labelsize=8, color=GREY)
    ax.set_xlabel("seconds", fontsize=8)
