"""Confusion matrices, and the per-class difference of two runs (xue2021 fig. 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from avel.figures.predictions import Predictions, check_same_clips, listed_runs
from avel.figures.style import (
    FAINT,
    FIRST,
    GREY,
    SECOND,
    heading,
    letter_size,
    name_ticks,
    new_axes,
    plain,
    short_names,
    size_of,
)
from avel.metrics import draw_clips
from avel.types import BACKGROUND

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import BarContainer
    from matplotlib.image import AxesImage

#: Up to so many classes the cells show their numbers.
NUMBERED = 15
#: Resamplings of an interval, and the share of them that it covers.
RESAMPLED, COVERED = 1000, 0.95


def confusion_matrix(
    predictions: Predictions | Sequence[Predictions],
    *,
    ax: Axes | None = None,
    colorbar: bool = True,
) -> AxesImage:
    """The predicted classes of each true class's segments in percent: a row sums to 100.

    Up to 15 classes the percent is written into the cells.

    Args:
        predictions: Of a run; of several seeds, their segments together.
        ax: Where to draw; a new figure if None (``.figure`` of what is returned).
        colorbar: Whether a colour bar is drawn beside the axes.

    Returns:
        The image; its array is (C+1, C+1) percent, masked in rows of classes without a segment.

    Raises:
        UsageError: if there are no predictions, or the seeds are of different clips.
    """
    runs = listed_runs(predictions)
    counts = np.sum([one.confusion for one in runs], axis=0)
    of = counts.sum(1, keepdims=True)
    share = np.ma.masked_where(np.broadcast_to(of == 0, counts.shape), counts / np.maximum(of, 1))
    names = [*short_names(runs[0].classes), BACKGROUND]
    size = matrix_size(len(names) - 1)
    ax = new_axes(ax, width=size[0], height=size[1])
    image = ax.imshow(100 * share, cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
    ax.set_facecolor(FAINT)
    width, height = size_of(ax)
    name_ticks(ax.xaxis, names, inches=0.72 * width, rotation=90)
    name_ticks(ax.yaxis, names, inches=0.72 * height)
    ax.tick_params(length=0)
    ax.set_xlabel("answered")
    ax.set_ylabel("true")
    ax.set_title(_matrix_title(runs), fontsize="medium")
    if len(names) <= NUMBERED + 1:
        _number_cells(ax, 100 * share, 0.72 * width)
    if colorbar:
        bar = ax.figure.colorbar(image, cax=ax.inset_axes((1.02, 0, 0.03, 1)))
        bar.set_label("% of the true class's segments")
        bar.outline.set_visible(False)
    return image


def matrix_size(classes: int) -> tuple[float, float]:
    """Width and height in inches at which a matrix of C classes and background is readable."""
    side = float(np.clip(2.6 + 0.2 * (classes + 1), 4.2, 14.0))
    return side + 0.4, side


def _matrix_title(runs: Sequence[Predictions]) -> str:
    first = runs[0]
    mean = 100 * float(np.mean([one.accuracy for one in runs]))
    count = int((first.truth >= 0).sum())
    seeds = f", mean of {len(runs)} seeds" if len(runs) > 1 else ""
    accuracy = f"{mean:.1f} % of {count} segments right{seeds}"
    return heading(first.name, first.data, accuracy, simulated=first.simulated)


def _number_cells(ax: Axes, percent: Any, inches: float) -> None:
    size = min(8.0, letter_size(inches, percent.shape[1])[0])
    for (row, column), value in np.ndenumerate(percent.filled(0)):
        if value >= 0.5:
            ink = "white" if value > 55 else "black"
            ax.text(column, row, f"{value:.0f}", ha="center", va="center", color=ink, fontsize=size)


def class_difference(
    first: Predictions | Sequence[Predictions],
    second: Predictions | Sequence[Predictions],
    *,
    ax: Axes | None = None,
    seed: int = 0,
) -> BarContainer:
    """The difference of two runs' accuracies by class, in percentage points.

    Whiskers hold 95 % of 1000 resamplings of the clips, the same ones for both runs (one without
    a clip of the class counts as no difference); bars whose whiskers hold zero are pale: these
    clips are too few to show a difference.

    Args:
        first, second: Predictions of two runs for the same clips; of several seeds, their mean.
        ax: Where to draw; a new figure of fitting size if None.
        seed: Of the resampling.

    Returns:
        A bar a class that has segments, background among them, best gain on top.

    Raises:
        UsageError: if the two are of different clips.
    """
    ours, theirs = listed_runs(second), listed_runs(first)
    check_same_clips(theirs[0], ours[0])
    gain, low, high, total = _gains(theirs, ours, seed)
    order = [i for i in np.argsort(-gain, kind="stable") if total[i]]
    names = [*short_names(ours[0].classes), BACKGROUND]
    ax = new_axes(ax, width=6.4, height=float(np.clip(1.5 + 0.21 * len(order), 2.4, 24.0)))
    undecided = np.array([low[i] <= 0 <= high[i] for i in order])
    bars = ax.barh(
        range(len(order)), gain[order], height=0.72,
        color=[SECOND if gain[i] >= 0 else FIRST for i in order],
        xerr=[gain[order] - low[order], high[order] - gain[order]],
        error_kw={"ecolor": "#3A3F47", "elinewidth": 0.8, "capsize": 1.5},
    )  # fmt: skip
    for bar, pale in zip(bars, undecided, strict=True):
        bar.set_alpha(0.35 if pale else 1.0)
    ax.axvline(0, color="black", lw=0.8)
    ax.set_ylim(len(order) - 0.4, -0.6)
    labels = [f"{names[i]} ({total[i]})" for i in order]
    name_ticks(ax.yaxis, labels, inches=0.85 * size_of(ax)[1])
    ax.grid(axis="x", alpha=0.3)
    ax.set_axisbelow(True)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("points gained (in brackets: segments)")
    ax.set_title(_difference_title(theirs, ours), fontsize="medium")
    _explain(ax, theirs[0].name or "first", ours[0].name or "second")
    return bars


def _gains(
    first: Sequence[Predictions], second: Sequence[Predictions], seed: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[np.int64]]:
    """Points gained by class, the ends of their intervals, and the segments of each class."""
    truth, size = second[0].truth, len(second[0].classes) + 1
    kinds = np.stack([truth == c for c in range(size)], -1)  # (N, T, C+1)
    per_clip = kinds.sum(1)  # (N, C+1)

    def right(runs: Sequence[Predictions]) -> NDArray[Any]:
        each = [((one.labels == truth)[..., None] & kinds).sum(1) for one in runs]
        return np.asarray(np.mean(each, axis=0))

    more = right(second) - right(first)
    rng = np.random.default_rng(seed)
    drawn = draw_clips(rng, len(truth), RESAMPLED)
    spread = 100 * _ratio(drawn @ more, drawn @ per_clip)
    edge = 50 * (1 - COVERED)
    low, high = np.percentile(np.nan_to_num(spread), [edge, 100 - edge], axis=0)
    gain = 100 * np.nan_to_num(_ratio(more.sum(0), per_clip.sum(0)))
    return gain, np.minimum(low, gain), np.maximum(high, gain), per_clip.sum(0)


def _ratio(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    out: NDArray[Any] = np.divide(a, b, out=np.full(a.shape, np.nan), where=b > 0)
    return out


def _difference_title(first: Sequence[Predictions], second: Sequence[Predictions]) -> str:
    means = [100 * float(np.mean([one.accuracy for one in runs])) for runs in (first, second)]
    seeds = max(len(first), len(second))
    gain = f"{means[1] - means[0]:+.1f}".replace("-", "−")
    difference = f"all segments: {means[1]:.1f} − {means[0]:.1f} = {gain} points"
    difference += f", {len(first)} and {len(second)} seeds" if seeds > 1 else ""
    what = f"{second[0].name or 'second'} − {first[0].name or 'first'}"
    simulated = first[0].simulated or second[0].simulated
    return heading(what, second[0].data, difference, simulated=simulated)


def _explain(ax: Axes, first: str, second: str) -> None:
    from matplotlib.patches import Patch

    handles = [
        Patch(color=SECOND, label=f"{plain(second)} better"),
        Patch(color=FIRST, label=f"{plain(first)} better"),
        Patch(color=GREY, alpha=0.35, label="pale: 95 % interval holds 0"),
    ]
    ax.legend(handles=handles, fontsize="small", loc="best", framealpha=0.9)
