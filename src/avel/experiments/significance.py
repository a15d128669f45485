"""Which differences of a table's systems are real: a paired bootstrap over the clips judged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from avel import metrics
from avel.data.base import Dataset
from avel.experiments.result import Result
from avel.tasks import task_named
from avel.types import Json

#: A row, the right answers (S, N) of its seeds to each clip, and the answers (N,) in all.
_Held: TypeAlias = tuple[Result, NDArray[Any], NDArray[Any]]
#: Of every bootstrap here; they stand in each row of the CSV.
RESAMPLES, COVERED, SEED = 10_000, 0.95, 0


def differences(results: Sequence[Result], data: Dataset) -> list[Json]:
    """Neighbouring pairs of systems, in each table and task, and whether they differ.

    Neighbours (``order``) are those one below the other in the table, as far as both are trained
    (``"table"``); where rows without a printed value stand between, those that have one
    (``"paper"``); and those next to one another when ranked by what they score here (``"ours"``).
    The metric is the task's headline. Trainings that were judged before answers were kept are left
    out.

    Args:
        results: The rows of the tables.
        data: What they were trained and judged on.

    Returns:
        Flat rows: ``first`` and ``second`` with their scores, ``gain`` (the second's less the
        first's), the ends of its intervals over clips (``clips_low``, ``clips_high``) and over
        clips and seeds (``both_low``, ``both_high``), all in points, and whether it is ``real``.
    """
    found: list[Json] = []
    kinds = dict.fromkeys((r.table, r.row.task) for r in results)
    for table, task in kinds:
        test, own = task_named(task).splits(data)[2], []
        for result in results:
            if (result.table, result.row.task) == (table, task):
                right, of = _right(result, test, len(data.classes))
                own += [(result, right, of)] if len(right) else []
        printed = [h for h in own if _printed(h)]
        found += _neighbours(own, "table")
        found += _neighbours(printed, "paper") if len(printed) < len(own) else ()
        found += _neighbours(sorted(own, key=_score), "ours")
    return found


def _right(result: Result, test: Any, classes: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """(S, N) right answers of a row's seeds, (N,) answers."""
    kept = [o.answers for o in result.outcomes if o.answers]
    held = [task_named(result.row.task).correct_by_clip(a, test, classes) for a in kept]
    if not held:
        return np.empty((0, 0)), np.empty(0)
    return np.stack([right for right, _ in held]), held[0][1]


def _score(held: _Held) -> float:
    _, right, of = held
    return float(right.mean(0).sum() / of.sum())


def _printed(held: _Held) -> bool:
    """Whether a paper prints the headline metric of a row."""
    row = held[0].row
    return task_named(row.task).selection_metric in row.values


def _neighbours(held: Sequence[_Held], order: str) -> Iterator[Json]:
    for one, other in pairwise(held):
        (first, right, of), (second, more, _) = one, other
        found = metrics.paired_bootstrap(
            right, more, of, resamples=RESAMPLES, covered=COVERED, seed=SEED
        )
        yield {
            "table": first.table, "task": first.row.task, "order": order,
            "metric": task_named(first.row.task).selection_metric, "first": first.row.name,
            "second": second.row.name,
            "first_score": _points(_score(one)), "second_score": _points(_score(other)),
            "gain": _points(found.gain),
            "clips_low": _points(found.clips[0]), "clips_high": _points(found.clips[1]),
            "both_low": _points(found.both[0]), "both_high": _points(found.both[1]),
            "real": found.real, "first_seeds": len(right), "second_seeds": len(more),
            "clips": len(of), "resamples": RESAMPLES, "covered": COVERED, "seed": SEED,
        }  # fmt: skip


def _points(share: float) -> float:
    return round(100 * share, 2)
