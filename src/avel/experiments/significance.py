"""Which differences of a table's systems are real: a paired bootstrap over the test clips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from avel import metrics
from avel.data.base import Dataset
from avel.experiments.result import RowResult
from avel.tasks import task_named
from avel.types import Json

#: A row, the numbers of correct predictions (S, N) by seed and clip, and of all predictions (N,).
_System: TypeAlias = tuple[RowResult, NDArray[Any], NDArray[Any]]
#: Of every bootstrap here; they stand in each row of the CSV.
RESAMPLES, COVERED, SEED = 10_000, 0.95, 0


def differences(results: Sequence[RowResult], data: Dataset) -> list[Json]:
    """Neighbouring pairs of systems, in each table and task, and whether they differ.

    Neighbours (``order``) are those one below the other in the table, as far as both are trained
    (``"table"``); where rows without a printed value stand between, those that have one
    (``"paper"``); and those next to one another when ranked by what they score here (``"ours"``).
    The metric is the task's headline. Trainings of older versions, which didn't store
    predictions, are left out.

    Args:
        results: The rows of the tables.
        data: The data set that they were trained and evaluated on.

    Returns:
        Flat rows: ``first`` and ``second`` with their scores, ``gain`` (the second's less the
        first's), the ends of its intervals over clips (``clips_low``, ``clips_high``) and over
        clips and seeds (``both_low``, ``both_high``), all in points, and whether it is ``real``.
    """
    rows: list[Json] = []
    kinds = dict.fromkeys((r.table, r.row.task) for r in results)
    for table, task in kinds:
        test, systems = task_named(task).splits(data)[2], []
        for result in results:
            if (result.table, result.row.task) == (table, task):
                right, of = _right(result, test, len(data.classes))
                systems += [(result, right, of)] if len(right) else []
        printed = [s for s in systems if _printed(s)]
        rows += _neighbours(systems, "table")
        rows += _neighbours(printed, "paper") if len(printed) < len(systems) else ()
        rows += _neighbours(sorted(systems, key=_score), "ours")
    return rows


def _right(result: RowResult, test: Any, classes: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """(S, N) correct predictions of a row's seeds, (N,) predictions in all."""
    predictions = [o.predictions for o in result.outcomes if o.predictions]
    counts = [task_named(result.row.task).correct_by_clip(a, test, classes) for a in predictions]
    if not counts:
        return np.empty((0, 0)), np.empty(0)
    return np.stack([right for right, _ in counts]), counts[0][1]


def _score(system: _System) -> float:
    _, right, of = system
    return float(right.mean(0).sum() / of.sum())


def _printed(system: _System) -> bool:
    """Whether a paper prints the headline metric of a row."""
    row = system[0].row
    return task_named(row.task).selection_metric in row.values


def _neighbours(systems: Sequence[_System], order: str) -> Iterator[Json]:
    for one, other in pairwise(systems):
        (first, right, of), (second, more, _) = one, other
        bootstrap = metrics.paired_bootstrap(
            right, more, of, resamples=RESAMPLES, covered=COVERED, seed=SEED
        )
        yield {
            "table": first.table, "task": first.row.task, "order": order,
            "metric": task_named(first.row.task).selection_metric, "first": first.row.name,
            "second": second.row.name,
            "first_score": _points(_score(one)), "second_score": _points(_score(other)),
            "gain": _points(bootstrap.gain),
            "clips_low": _points(bootstrap.clips[0]), "clips_high": _points(bootstrap.clips[1]),
            "both_low": _points(bootstrap.both[0]), "both_high": _points(bootstrap.both[1]),
            "real": bootstrap.real, "first_seeds": len(right), "second_seeds": len(more),
            "clips": len(of), "resamples": RESAMPLES, "covered": COVERED, "seed": SEED,
        }  # fmt: skip


def _points(share: float) -> float:
    return round(100 * share, 2)
