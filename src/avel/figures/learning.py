"""Learning curves: the loss and the validation's metrics over the epochs of trainings."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from avel.errors import DataError, UsageError
from avel.figures.style import COLOURS, heading, new_figure, plain, whole_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

#: Largest history in bytes, and most epochs of one.
LARGEST, MAX_EPOCHS = 2**24, 100_000
#: Metrics of a validation that are drawn beside the one that selects, and their names.
METRICS = {
    "segment_accuracy": "segment accuracy", "event_f1_0.5": "event F1 at IoU 0.5",
    "mean_accuracy": "mean of A2V and V2A", "a2v": "A2V", "v2a": "V2A",
}  # fmt: skip
_STYLES = ("-", "--", ":")
#: Up to so many epochs each has a mark.
_MARKED = 40


@dataclass(frozen=True)
class History:
    """The epochs of a training.

    Args:
        epochs: (E,) numbers from 1.
        loss: (E,) of training.
        metrics: (E,) each, by name, the one that selects first; NaN where nothing was validated.
        selected: The epoch whose model was evaluated, or None.
        simulated: Whether the features are.
    """

    epochs: NDArray[np.int64]
    loss: NDArray[np.float64]
    metrics: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    selected: int | None = None
    simulated: bool = False


def read_histories(run: str | Path) -> list[History]:
    """The trainings of a run: its own, or those of its folds.

    Args:
        run: The folder of a run, not of several seeds.

    Raises:
        CheckpointError: if there is no run.
        DataError: if it has no history, or the history can't be read.
    """
    from avel.evaluation.cross_validation import FOLDER, Folds
    from avel.inference.load import load_trained
    from avel.tasks import task_named
    from avel.training.loop import HISTORY

    run = Path(run)
    card = load_trained(run).card
    headline = task_named(card["task"]).selection_metric
    simulated = bool(card["data"].get("simulated"))
    folds = Folds.load(run)
    if folds is None:
        epoch = (card.get("metrics") or {}).get("epoch")
        selected = epoch if isinstance(epoch, int) else None
        return [_read(run / HISTORY, headline, selected, simulated=simulated)]
    return [
        _read(run / FOLDER / str(fold.number) / HISTORY, headline, fold.epoch, simulated=simulated)
        for fold in folds.folds
    ]


def _read(path: Path, headline: str, selected: int | None, *, simulated: bool) -> History:
    """A ``history.csv``.

    Raises:
        DataError: if it is missing, too large, or no history.
    """
    hint = "give a run that `avel train` wrote; weights that were converted have no history"
    try:
        if path.stat().st_size > LARGEST:
            raise DataError(f"{path} has more than {LARGEST} bytes", hint=hint)
        with path.open(newline="", encoding="utf-8") as f:
            rows = list(csv.DictReader(f))
        epochs = np.array([int(row["epoch"]) for row in rows], dtype=np.int64)
        loss = _column(rows, "loss")
        names = [headline, *(m for m in METRICS if m != headline)]
        metrics = {n: _column(rows, n) for n in names if rows and rows[-1].get(n) is not None}
    except OSError as e:
        raise DataError(f"{path} can't be read ({e.strerror or e})", hint=hint) from e
    except (ValueError, KeyError, TypeError, OverflowError, csv.Error) as e:
        raise DataError(
            f"{path} is no history of a training ({type(e).__name__}: {e})",
            expected="a row an epoch, with epoch and loss", hint=hint,
        ) from e  # fmt: skip
    if not rows or len(rows) > MAX_EPOCHS or not np.array_equal(epochs, range(1, len(rows) + 1)):
        raise DataError(f"{path} is no history of a training: its epochs don't count from 1",
                        expected=f"1 to {MAX_EPOCHS} rows, an epoch each", hint=hint)  # fmt: skip
    return History(epochs, loss, metrics, selected, simulated)


def _column(rows: Sequence[Mapping[str, str]], name: str) -> NDArray[np.float64]:
    """The numbers of a column; NaN where a cell is empty, or not finite."""
    values = np.array([math.nan if row[name] == "" else float(row[name]) for row in rows])
    return np.where(np.isfinite(values), values, math.nan)


def learning_curves(
    runs: Mapping[str, Sequence[History]], *, axes: Sequence[Axes] | None = None
) -> list[list[Line2D]]:
    """The training's loss, and beside it the validation's metrics in percent, over the epochs.

    Of several trainings (seeds, folds) each has a thin line, and their mean a thick one, over the
    epochs that all of them have. A dot marks the epoch that was selected.

    Args:
        runs: The trainings of each run, by the run's name.
        axes: Two, for the loss and the metrics; of a new figure if None.

    Returns:
        The thick lines of both axes: of each run, and of each run's metrics.

    Raises:
        UsageError: if there is no training, or there aren't two axes.
    """
    if not runs or not all(runs.values()):
        raise UsageError("there is no training to draw", hint="give the histories of a run")
    left, right = _two(axes)
    lines: list[list[Line2D]] = [[], []]
    for number, (name, histories) in enumerate(runs.items()):
        colour = COLOURS[number % len(COLOURS)]
        loss = [(h.epochs, h.loss) for h in histories]
        lines[0].append(_draw(left, loss, colour, "-", _label(name, histories)))
        shared = [m for m in histories[0].metrics if all(m in h.metrics for h in histories)]
        for k, metric in enumerate(shared):
            curves = [(h.epochs, 100 * h.metrics[metric]) for h in histories]
            alone = len(runs) == 1
            drawn = COLOURS[k % len(COLOURS)] if alone else colour
            words = METRICS.get(metric, metric)
            label = words if alone else f"{words}, {plain(name)}"
            lines[1].append(_draw(right, curves, drawn, _STYLES[k % len(_STYLES)], label))
            if k == 0:
                for history in histories:
                    _mark_selected(right, history, metric, drawn)
    _finish(left, right, [h for histories in runs.values() for h in histories])
    return lines


def _two(axes: Sequence[Axes] | None) -> tuple[Axes, Axes]:
    if axes is None:
        axes = list(new_figure(9.6, 4.2).subplots(1, 2))
    if len(axes) != 2:
        raise UsageError(f"{len(axes)} axes are given", expected="two: loss and metrics")
    return axes[0], axes[1]


def _label(name: str, histories: Sequence[History]) -> str:
    count = len(histories)
    return plain(name) + (f", mean of {count}" if count > 1 else "")


def _draw(
    ax: Axes, curves: Sequence[tuple[NDArray[np.int64], NDArray[np.float64]]], colour: str,
    style: str, label: str,
) -> Line2D:  # fmt: skip
    """Thin lines of several trainings and their mean, or the only one; the thick line."""
    shortest = min(len(epochs) for epochs, _ in curves)
    mean = np.mean([values[:shortest] for _, values in curves], axis=0)
    if len(curves) > 1:
        for epochs, values in curves:
            known = np.isfinite(values)
            ax.plot(epochs[known], values[known], style, color=colour, lw=0.7, alpha=0.4)
    known = np.isfinite(mean)
    marker = "." if known.sum() <= _MARKED else ""
    (line,) = ax.plot(
        curves[0][0][:shortest][known], mean[known], style, color=colour, lw=1.8, marker=marker,
        label=label,
    )  # fmt: skip
    return line


def _mark_selected(ax: Axes, history: History, metric: str, colour: str) -> None:
    epoch = history.selected
    if epoch is not None and 1 <= epoch <= len(history.epochs):
        value = 100 * history.metrics[metric][epoch - 1]
        ax.plot([epoch], [value], "o", color=colour, mec="white", ms=7, zorder=3)


def _finish(left: Axes, right: Axes, histories: Sequence[History]) -> None:
    simulated = any(h.simulated for h in histories)
    left.set_ylabel("loss")
    right.set_ylabel("validation (%)")
    left.set_title(heading("Training", simulated=simulated), fontsize="medium")
    selected = "; dot: the epoch selected" if any(_has_dot(h) for h in histories) else ""
    title = heading(f"Validation{selected}", simulated=simulated)
    right.set_title(title, fontsize="medium")
    right.set_ylim(-2, 102)
    for ax in (left, right):
        ax.set_xlabel("epoch")
        whole_numbers(ax.xaxis)
        ax.grid(alpha=0.3)
        ax.legend(fontsize="small", frameon=False, loc="upper center",
                  bbox_to_anchor=(0.5, -0.16))  # fmt: skip


def _has_dot(history: History) -> bool:
    return bool(history.metrics) and history.selected is not None
