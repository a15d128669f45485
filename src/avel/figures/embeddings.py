"""Features of segments as points in the plane, coloured by class (xue2021 fig. 7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from avel.errors import UsageError
from avel.figures.activations import MODALITIES, Activations
from avel.figures.style import (
    COLOURS,
    FAINT,
    MARKERS,
    heading,
    new_axes,
    new_figure,
    short_names,
)
from avel.types import BACKGROUND, Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection

#: Neighbours that a segment's class is compared with.
NEIGHBOURS = 10
#: Principal components that t-SNE starts from, as its authors advise.
COMPONENTS = 50


def scatter(
    points: Floats, labels: NDArray[np.int64], classes: Sequence[str], *, ax: Axes | None = None
) -> list[PathCollection]:
    """Points coloured by class, a colour and a marker each; background pale and behind.

    Args:
        points: (n, 2).
        labels: (n,) class ids 0..C, C for background.
        classes: The C names.
        ax: Where to draw; a new figure if None.

    Returns:
        A collection for each class that has a point, in the order of their ids.
    """
    ax = new_axes(ax, width=3.2, height=3.2)
    names = [*short_names(classes), BACKGROUND]
    size = float(np.clip(6000 / max(1, len(points)), 4, 22))
    drawn = []
    for number, label in enumerate(np.unique(labels)):
        inside = points[labels == label]
        noise = label == len(classes)
        turn = number // len(COLOURS)
        drawn.append(
            ax.scatter(
                inside[:, 0], inside[:, 1], s=size, lw=0, alpha=0.8, label=names[label],
                color="#C3C8D0" if noise else COLOURS[number % len(COLOURS)],
                marker=MARKERS[(number + turn) % len(MARKERS)], zorder=1 if noise else 2,
            )
        )  # fmt: skip
    ax.set_xticks([])
    ax.set_yticks([])
    for side in ax.spines.values():
        side.set_color(FAINT)
    return drawn


def project(values: Floats, *, perplexity: float = 30.0, seed: int = 0) -> NDArray[np.float64]:
    """t-SNE (van der Maaten and Hinton 2008) of (n, D) rows to (n, 2), by scikit-learn.

    Rows of more than 50 channels go to their first 50 principal components before. The same rows
    and seed give the same points; few rows lower the perplexity.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    rows = np.asarray(values, dtype=np.float64)
    n = len(rows)
    if n < 4:  # nothing to embed: the first two channels
        padded = np.zeros((n, 2))
        padded[:, : min(2, rows.shape[1])] = rows[:, :2]
        return padded
    few = min(COMPONENTS, n, rows.shape[1])
    if rows.shape[1] > few:
        rows = PCA(few, random_state=seed, svd_solver="full").fit_transform(rows)
    if float(rows.std()) > 0:
        rows = rows / rows.std()
    fit = TSNE(perplexity=min(perplexity, (n - 1) / 3), init="random", random_state=seed)
    return np.asarray(fit.fit_transform(rows), dtype=np.float64)


def neighbour_share(
    values: Floats, labels: NDArray[np.int64], clips: NDArray[np.int64], *, count: int = NEIGHBOURS
) -> float:
    """Share of a segment's nearest segments of other clips that are of its class, averaged.

    Distances are over all channels, not in the plane. Segments of the same clip don't count, and
    classes with a single clip are left out. NaN if every class has a single clip.

    Args:
        values: (n, D).
        labels, clips: (n,) class and clip of each.
        count: Neighbours.
    """
    rows = np.asarray(values, dtype=np.float32)
    square = (rows**2).sum(1)
    right, total = 0.0, 0
    for i in np.nonzero(np.isin(labels, shared_classes(labels, clips)))[0]:
        other = np.nonzero(clips != clips[i])[0]
        apart = square[other] - 2 * rows[other] @ rows[i]
        near = other[np.argsort(apart, kind="stable")[:count]]
        right, total = right + float((labels[near] == labels[i]).mean()), total + 1
    return right / total if total else float("nan")


def shared_classes(labels: NDArray[np.int64], clips: NDArray[np.int64]) -> NDArray[np.int64]:
    """The classes that several clips have segments of."""
    pairs = np.unique(np.stack([labels, clips]), axis=1)
    classes, count = np.unique(pairs[0], return_counts=True)
    return np.asarray(classes[count > 1])


def tsne(
    activations: Activations,
    *,
    axes: Sequence[Axes] | None = None,
    perplexity: float = 30.0,
    seed: int = 0,
) -> list[list[PathCollection]]:
    """A panel for each stage and modality: a column a stage, a row a modality.

    Below each panel stands :func:`neighbour_share`, since distances in the plane can mislead.

    Args:
        activations: See :func:`avel.figures.collect_activations`.
        axes: One a stage, in the order of ``activations.stages``; a new figure if None.
        perplexity, seed: Of t-SNE.

    Returns:
        The collections of each stage, see :func:`scatter`.

    Raises:
        UsageError: for another number of axes.
    """
    new_figure_made = axes is None
    panels = _panels(activations) if axes is None else list(axes)
    if len(panels) != len(activations.stages):
        raise UsageError(f"{len(panels)} axes", expected=f"{len(activations.stages)}, one a stage")
    drawn = []
    for stage, ax in zip(activations.stages, panels, strict=True):
        points = project(stage.values, perplexity=perplexity, seed=seed)
        drawn.append(scatter(points, activations.labels, activations.classes, ax=ax))
        share = neighbour_share(stage.values, activations.labels, activations.clips)
        alike = f"neighbours alike: {100 * share:.0f} %"
        ax.set_xlabel("one clip a class" if np.isnan(share) else alike, fontsize=8)
        ax.set_title(f"{stage.modality}, {stage.name}", fontsize=8)
    if new_figure_made:
        _legend(panels[0].figure, drawn[0], activations)
    return drawn


def _panels(activations: Activations) -> list[Axes]:
    """Axes of a new figure, in the order of the stages."""
    columns = list(dict.fromkeys(s.name for s in activations.stages))
    rows = [s for s in MODALITIES if any(stage.modality == s for stage in activations.stages)]
    figure = new_figure(0.3 + 2.15 * len(columns), 0.9 + 2.35 * len(rows))
    grid = figure.add_gridspec(len(rows), len(columns))
    return [
        figure.add_subplot(grid[rows.index(s.modality), columns.index(s.name)])
        for s in activations.stages
    ]


def _legend(figure: Any, drawn: Sequence[PathCollection], activations: Activations) -> None:
    names = [str(c.get_label()) for c in drawn]
    shared = shared_classes(activations.labels, activations.clips)
    counts = f"{len(activations.labels)} segments"
    counts += "; neighbours alike: of the 10 nearest of other clips" * bool(len(shared))
    some = 0 < len(shared) < len(np.unique(activations.labels))
    left = "classes with one clip left out of that" * some
    figure.suptitle(
        heading(
            f"{activations.name}, {activations.data}", counts, left, simulated=activations.simulated
        ),
        fontsize=9,
    )
    width = figure.get_size_inches()[0]
    columns = max(1, min(len(names), int(width / 1.5)))
    figure.legend(
        drawn, names, loc="outside lower center", ncols=columns, fontsize=8, markerscale=1.6,
        frameon=False, handletextpad=0.2, columnspacing=1.2,
    )  # fmt: skip
