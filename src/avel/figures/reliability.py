"""Reliability diagrams: accuracy over confidence (Guo et al., ICML 2017, fig. 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from avel.figures.style import FIRST, GREY, SECOND, new_axes, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

    from avel.evaluation.calibration import Reliability


def reliability_diagram(
    before: Reliability,
    after: Reliability | None = None,
    *,
    title: str = "",
    ax: Axes | None = None,
) -> list[Line2D]:
    """Accuracy over confidence, a point a bin, as large as the bin has segments.

    Args:
        before: Of the model's probabilities.
        after: Of the calibrated probabilities, where the model has a temperature.
        title: Of the axes.
        ax: Where to draw; a new figure if None.

    Returns:
        A line a reliability; the diagonal, where confidence and accuracy are the same, is the
        axes' first line.
    """
    ax = new_axes(ax, width=4.2, height=4.0)
    ax.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
    curves = [(before, FIRST, "uncalibrated" if after else "ours")]
    curves += [(after, SECOND, "calibrated")] if after else []
    lines = []
    for reliability, colour, name in curves:
        filled = reliability.count > 0
        label = f"{name}: ECE {100 * reliability.ece:.1f} %"
        x, y = reliability.confidence[filled], reliability.accuracy[filled]
        lines += ax.plot(x, y, color=colour, linewidth=1.5, label=label)
        share = reliability.count[filled] / max(1, int(reliability.count.sum()))
        ax.scatter(x, y, s=12 + 160 * np.sqrt(share), color=colour, alpha=0.7, linewidth=0)
    ax.set(xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal")
    ax.set_xlabel("probability of the predicted class")
    ax.set_ylabel("share of right segments")
    if title:
        ax.set_title(plain(title), fontsize=9)
    ax.legend(frameon=False, fontsize=8, loc="lower right")
    return lines
