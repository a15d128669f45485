"""A data set from its annotations: clips of each class and lengths of events (tian2018 fig. 2)."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from avel.figures.style import (
    FIRST,
    SECOND,
    margin,
    name_ticks,
    new_figure,
    plain,
    short_names,
    whole_numbers,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import BarContainer

    from avel.data.overview import Overview

#: Classes that a figure names; of more the most frequent ones.
CLASSES = 60
#: From this ratio of the longest event to the median on, lengths are on a logarithmic axis.
_WIDE = 8
_BINS = 20
#: Inches of a bar, of the panels beside the names, and of titles and axis labels.
_BAR, _PANEL, _FRAME = 0.19, 4.0, 1.5


def dataset_panels(
    data: Overview, *, axes: Sequence[Axes] | None = None
) -> tuple[BarContainer, BarContainer]:
    """Clips of each class, most frequent on top, and a histogram of the events' lengths.

    Args:
        data: Of :func:`avel.data.overview.overview`.
        axes: Two; those of a new figure if None.

    Returns:
        The bars of the classes, and those of the lengths.
    """
    ranked = sorted(data.classes.items(), key=lambda item: -item[1])[:CLASSES]
    names = short_names(name for name, _ in ranked)
    if axes is None:
        height = max(3.2, _FRAME + _BAR * len(ranked))
        figure = new_figure(margin(names) + 2 * _PANEL, height)
        figure.suptitle(plain(title(data)), fontsize="medium")
        axes = figure.subplots(1, 2)
    left, right = axes
    return _classes(left, ranked, names, len(data.classes)), _lengths(right, data)


def title(data: Overview) -> str:
    """One line: clips, videos, classes, events, background."""
    parts = [f"{data.clips} clips"]
    parts += [f"{data.videos} videos"] if data.videos != data.clips else []
    parts += [f"{len(data.classes)} classes", f"{len(data.lengths)} events"]
    if data.background is not None:
        parts.append(f"{100 * data.background:.1f} % background")
    if data.left_out:
        parts.append(f"{data.left_out} rows unread")
    return f"{data.name}: {', '.join(parts)}"


def _classes(
    ax: Axes, ranked: Sequence[tuple[str, int]], names: Sequence[str], count: int
) -> BarContainer:
    numbers = [number for _, number in ranked]
    bars = ax.barh(range(len(ranked)), numbers, height=0.75, color=SECOND)
    size = name_size(ax, names)
    ax.bar_label(bars, padding=2, fontsize=size)
    ax.set_ylim(len(ranked) - 0.4, -0.6)
    ax.set_xlim(0, 1.12 * max(numbers))
    whole_numbers(ax.xaxis)
    shown = f"the {len(ranked)} most frequent of {count} classes" if count > len(ranked) else ""
    ax.set_title(f"Clips of each class{': ' * bool(shown)}{shown}", fontsize="medium")
    ax.set_xlabel("clips")
    _plain_frame(ax)
    return bars


def name_size(ax: Axes, names: Sequence[str]) -> float:
    """Name the bars; the size of the letters in points."""
    inches = ax.get_figure(root=True).get_size_inches()[1] - _FRAME  # type: ignore[union-attr]
    name_ticks(ax.yaxis, names, inches=float(inches))
    return float(ax.yaxis.get_ticklabels()[0].get_fontsize())


def _lengths(ax: Axes, data: Overview) -> BarContainer:
    lengths = np.array(data.lengths)
    edges, logarithmic = length_bins(lengths)
    counts, _ = np.histogram(lengths, edges)
    whole = not logarithmic and np.allclose(np.diff(edges), 1) and edges[0] % 1 == 0.5
    bars = ax.bar(
        edges[:-1], counts, np.diff(edges) * (0.8 if whole else 1), align="edge", color=FIRST,
        edgecolor="white",
    )  # fmt: skip
    if whole:
        for bar, left in zip(bars, edges[:-1], strict=True):
            bar.set_x(left + 0.1)
        ax.set_xticks(np.arange(edges[0] + 0.5, edges[-1]))
        shares = [f"{100 * c / len(lengths):.0f} %" if c else "" for c in counts]
        ax.bar_label(bars, shares, padding=2, fontsize="small")
    if logarithmic:
        ticks = [d * 10.0**e for e in range(-3, 6) for d in (1, 2, 5)]
        ticks = [t for t in ticks if edges[0] <= t <= edges[-1]]
        ax.set_xscale("log")
        ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
        ax.set_xticks([], minor=True)
    ax.set_ylim(0, 1.08 * counts.max())
    whole_numbers(ax.yaxis)
    ax.set_title(f"Lengths of events, median {median(data.lengths):g} s", fontsize="medium")
    ax.set_xlabel("seconds")
    ax.set_ylabel("events")
    _plain_frame(ax)
    return bars


def length_bins(lengths: NDArray[np.float64]) -> tuple[NDArray[np.float64], bool]:
    """Edges of a histogram, and whether they are logarithmic.

    Whole seconds up to 30 have a bin each, with its number in the middle.

    Args:
        lengths: (n,) seconds, more than 0.
    """
    least, most = float(lengths.min()), float(lengths.max())
    if most <= 30 and (lengths % 1 == 0).all():
        return np.arange(least - 0.5, most + 1), False
    if most > _WIDE * float(np.median(lengths)):
        return np.geomspace(least, most * 1.001, _BINS + 1), True
    return np.linspace(0, most * 1.001, _BINS + 1), False


def _plain_frame(ax: Axes) -> None:
    ax.spines[["top", "right"]].set_visible(False)
