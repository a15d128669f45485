"""Metrics over arrays of class ids: (N, T), background the last id, -1 beyond a clip's length.

Accuracies and F1 are shares in [0, 1]; ``nan`` where there is nothing to count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avel import clock

Ints = NDArray[np.integer[Any]]
Array = NDArray[Any]


def segment_accuracy(pred: Ints, truth: Ints) -> float:
    """Share of right segments over all real ones, background counted like any class."""
    valid = truth >= 0
    return _share((pred == truth) & valid, valid)


def confusion(pred: Ints, truth: Ints, classes: int) -> NDArray[np.int64]:
    """Segments by true (row) and predicted (column) class: (C+1, C+1), background last."""
    valid = truth >= 0
    size = classes + 1
    cells = truth[valid].astype(np.int64) * size + pred[valid]
    return np.bincount(cells, minlength=size * size).reshape(size, size)


def class_accuracy(pred: Ints, truth: Ints, classes: int) -> NDArray[np.float64]:
    """Share of right segments among those of each true class: (C+1,)."""
    table = confusion(pred, truth, classes)
    return _divide(np.diag(table), table.sum(1))


def clip_category(labels: Ints, background: int) -> NDArray[np.int64]:
    """The event class with most segments in each clip: (N,); background where there is no event.

    Of two classes with as many segments the lower id is taken.
    """
    counts = np.stack([(labels == c).sum(1) for c in range(background)], 1)
    return np.where(counts.any(1), counts.argmax(1), background).astype(np.int64)


def video_accuracy(pred: Ints, truth: Ints, background: int) -> float:
    """Share of clips whose predicted category (:func:`clip_category`) is the true one.

    A clip of background alone counts as right where no event is predicted; a clip with an event
    counts as wrong where none is.
    """
    pred = np.where(truth >= 0, pred, -1)
    right = clip_category(pred, background) == clip_category(truth, background)
    return _share(right, np.ones_like(right))


def background_f1(pred: Ints, truth: Ints, background: int) -> float:
    """F1 of the class background over all real segments."""
    valid = truth >= 0
    predicted, true = (pred == background) & valid, (truth == background) & valid
    return _f1((predicted & true).sum(), predicted.sum(), true.sum())


@dataclass(frozen=True)
class Runs:
    """The events of a label array: maximal runs of one event class, in order of clip and time.

    Args:
        clip, start, end, label: (M,) each; ``end`` is exclusive.
        index: (N, T) which event a segment belongs to, -1 for none.
    """

    clip: Ints
    start: Ints
    end: Ints
    label: Ints
    index: Ints

    def __len__(self) -> int:
        return len(self.clip)

    @property
    def length(self) -> Ints:
        """(M,) segments of each event."""
        return self.end - self.start


def event_runs(labels: Ints, background: int) -> Runs:
    """The events of (N, T) labels."""
    inside = (labels >= 0) & (labels != background)
    ids = np.pad(np.where(inside, labels, -1), ((0, 0), (1, 1)), constant_values=-1)
    opens = inside & (ids[:, 1:-1] != ids[:, :-2])
    closes = inside & (ids[:, 1:-1] != ids[:, 2:])
    clip, start = np.nonzero(opens)
    index = np.where(inside, opens.ravel().cumsum().reshape(labels.shape) - 1, -1)
    return Runs(clip, start, np.nonzero(closes)[1] + 1, labels[opens], index)


def match_events(pred: Runs, truth: Runs, iou: float) -> tuple[Ints, Ints]:
    """Pairs of predicted and true events of one class, each event in one pair at most.

    Runs of a labelling are disjoint, so from an IoU of 0.5 on a partner is unique but for two
    halves of one event, of which the earlier is taken: the matching is the largest there is.

    Args:
        pred, truth: Events over the same clips.
        iou: Least intersection over union, at least 0.5.

    Returns:
        Indices of the predicted and of the true events.
    """
    if not 0.5 <= iou <= 1:
        raise ValueError(f"iou {iou}: expected 0.5 to 1, where partners are unique")
    both = (pred.index >= 0) & (truth.index >= 0)
    pairs = np.stack([truth.index[both], pred.index[both]], 1).astype(np.int64).reshape(-1, 2)
    pairs, shared = np.unique(pairs, axis=0, return_counts=True)
    t, p = pairs.T
    union = truth.length[t] + pred.length[p] - shared
    keep = (truth.label[t] == pred.label[p]) & (shared / union >= iou)
    t, p = t[keep], p[keep]
    t, first = np.unique(t, return_index=True)
    p, first = np.unique(p[first], return_index=True)
    return p, t[first]


def event_f1(pred: Ints, truth: Ints, background: int, iou: float) -> float:
    """F1 of whole events at an IoU, summed over clips and classes before dividing (micro)."""
    predicted, true = _runs(pred, truth, background)
    return _f1(len(match_events(predicted, true, iou)[0]), len(predicted), len(true))


def event_counts(
    pred: Ints, truth: Ints, background: int, iou: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What :func:`event_f1` divides, by clip: the sums' ratio is the F1.

    Returns:
        (N,) events in pairs, predicted and true ones, and (N,) predicted and true events.
    """
    predicted, true = _runs(pred, truth, background)
    paired, _ = match_events(predicted, true, iou)
    clips = len(truth)
    total = np.bincount(predicted.clip, minlength=clips) + np.bincount(true.clip, minlength=clips)
    return 2 * np.bincount(predicted.clip[paired], minlength=clips), total


def boundary_error(pred: Ints, truth: Ints, background: int, step: float = 1.0) -> float:
    """Mean distance in seconds of onsets and offsets from the true ones.

    Over the events matched at an IoU of 0.5: a true event without a match doesn't count.
    """
    predicted, true = _runs(pred, truth, background)
    p, t = match_events(predicted, true, 0.5)
    if not len(p):
        return float("nan")
    onset = np.abs(predicted.start[p] - true.start[t])
    offset = np.abs(predicted.end[p] - true.end[t])
    return clock.segments_to_seconds(float((onset + offset).mean() / 2), step)


def _runs(pred: Ints, truth: Ints, background: int) -> tuple[Runs, Runs]:
    pred = np.where(truth >= 0, pred, -1)
    return event_runs(pred, background), event_runs(truth, background)


def best_windows(costs: Array) -> NDArray[np.int64]:
    """Start of the cheapest window of each row of (n, windows); ties go to the earliest."""
    return np.asarray(costs.argmin(1), dtype=np.int64)


def window_overlap(chosen: Ints, true: Ints, length: Ints) -> NDArray[np.float64]:
    """IoU of each chosen window with the true one, both of ``length`` segments: (n,)."""
    shared = np.maximum(0, length - np.abs(chosen - true))
    return np.asarray(shared / (2 * length - shared), dtype=np.float64)


def cells_in(boxes: Array, height: int, width: int) -> NDArray[np.bool_]:
    """Which cells of a grid over the picture show what is in a box.

    A cell does whose centre lies in the box, and the cell in which the centre of the box lies, so
    that the smallest box has one.

    Args:
        boxes: (n, 4) ``x0, y0, x1, y1`` as shares of the picture's width and height.
        height, width: Of the grid in cells.

    Returns:
        (n, height, width).
    """
    x0, y0, x1, y1 = (np.asarray(boxes, dtype=np.float64)[:, i, None] for i in range(4))
    across, down = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
    inside = ((y0 <= down) & (down < y1))[:, :, None] & ((x0 <= across) & (across < x1))[:, None]
    rows = np.clip((y0 + y1) / 2 * height, 0, height - 1)[:, 0].astype(np.int64)
    columns = np.clip((x0 + x1) / 2 * width, 0, width - 1)[:, 0].astype(np.int64)
    inside[np.arange(len(inside)), rows, columns] = True
    return np.asarray(inside, dtype=np.bool_)


def pointing(maps: Array, boxes: Array) -> NDArray[np.bool_]:
    """The pointing game: whether a map has its maximum in a box.

    Zhang, Bargal, Lin, Brandt, Shen, Sclaroff 2018, Top-Down Neural Attention by Excitation
    Backprop, section 4.1; by cells in place of pixels, see :func:`cells_in`.

    Args:
        maps: (n, H, W) attention; of equal cells the first counts.
        boxes: (n, 4) as for :func:`cells_in`.

    Returns:
        (n,).
    """
    cells = cells_in(boxes, *maps.shape[1:]).reshape(len(maps), -1)
    highest = np.asarray(maps).reshape(len(maps), -1).argmax(1)
    return np.asarray(cells[np.arange(len(maps)), highest], dtype=np.bool_)


@dataclass(frozen=True)
class Difference:
    """How much more of the same clips a second system got right than a first.

    Args:
        gain: The second's share less the first's, in [-1, 1], over all clips and seeds.
        clips: Ends of its interval over clips: how much it depends on the clips evaluated.
        both: Ends of its interval over clips and seeds: it depends on the trainings as well.
    """

    gain: float
    clips: tuple[float, float]
    both: tuple[float, float]

    @property
    def real(self) -> bool:
        """Whether neither interval contains zero."""
        return all(low > 0 or high < 0 for low, high in (self.clips, self.both))


def paired_bootstrap(
    first: Array,
    second: Array,
    of: Array | tuple[Array, Array],
    *,
    resamples: int = 10_000,
    covered: float = 0.95,
    seed: int = 0,
) -> Difference:
    """A percentile bootstrap of the difference of two systems evaluated on the same clips.

    A system's share is the sum of its counts over that of ``of``, a mean over its seeds. In each
    resample N clips are drawn with replacement, the same ones for both systems; for ``both`` also
    as many seeds of each system as it has. Swapping the systems swaps and negates ``gain`` and
    ``clips`` exactly.

    Args:
        first, second: (S1, N) and (S2, N) right predictions of each clip, a row a seed.
        of: (N,) predictions of each clip, some of them above 0; or, where they depend on the
            system, (S1, N) of the first and (S2, N) of the second.
        resamples: How many; those without any prediction are left out.
        covered: The share of them that an interval contains.
        seed: Of the drawing.

    Raises:
        ValueError: if the shapes don't fit or there is nothing to count.
    """
    counts = of if isinstance(of, tuple) else (of, of)
    fits = first.ndim == second.ndim == 2 and first.shape[1:] == second.shape[1:]
    for system, count in zip((first, second), counts, strict=True):
        fits = fits and count.shape in (system.shape, system.shape[1:])
    if not fits:
        shapes = first.shape, second.shape, *(count.shape for count in counts)
        raise ValueError(f"shapes {shapes}: expected (S1, N), (S2, N) and (N,) or those again")
    totals = [np.atleast_2d(count).astype(np.float64) for count in counts]
    if not len(first) or not len(second) or not all((t.sum(1) > 0).all() for t in totals):
        raise ValueError("there is no prediction to count")
    rng = np.random.default_rng(seed)
    drawn = draw_clips(rng, first.shape[1], resamples)
    drawn = drawn[np.all([(drawn @ t.T > 0).all(1) for t in totals], axis=0)]
    shares = [
        (drawn @ system.T.astype(np.float64)) / (drawn @ total.T)
        for system, total in zip((first, second), totals, strict=True)
    ]  # (R, S) each
    means = [s.mean(1) for s in shares]
    chosen = [(draw_clips(rng, s.shape[1], len(s)) * s).mean(1) for s in shares]
    edges = 50 * (1 - covered), 50 * (1 + covered)

    def ends(pair: list[Array]) -> tuple[float, float]:
        low, high = np.percentile(pair[1] - pair[0], edges)
        return float(low), float(high)

    whole = [
        float((system.sum(1) / total.sum(1)).mean())
        for system, total in zip((first, second), totals, strict=True)
    ]
    return Difference(whole[1] - whole[0], ends(means), ends(chosen))


def student_quantile(share: float, degrees: int) -> float:
    """Where Student's t distribution has a share of its mass below.

    By the trapezoidal rule: within 1e-4 of the exact value.

    Args:
        share: From 0.5 to 0.99.
        degrees: Degrees of freedom, 1 or more.
    """
    grid = np.linspace(0.0, 40.0, 400_001)
    log_scale = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)
    scale = math.exp(log_scale) / math.sqrt(degrees * math.pi)
    density = scale * (1 + grid**2 / degrees) ** (-(degrees + 1) / 2)
    mass = 0.5 + np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)]) * grid[1]
    return float(np.interp(share, mass, grid))


def draw_clips(rng: np.random.Generator, count: int, resamples: int) -> NDArray[np.int64]:
    """(resamples, count) how often each of ``count`` is drawn in as many draws with replacement."""
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=resamples)
    return np.asarray(drawn, dtype=np.int64)


def _share(right: Array, of: Array) -> float:
    count = int(of.sum())
    return int(right.sum()) / count if count else float("nan")


def _f1(hits: int, predicted: int, true: int) -> float:
    total = int(predicted) + int(true)
    return 2 * int(hits) / total if total else float("nan")


def _divide(a: Array, b: Array) -> NDArray[np.float64]:
    out = np.full(len(b), np.nan)
    np.divide(a, b, out=out, where=b > 0)
    return out
