"""Cross-validation of small data sets: every clip is judged by a model that hasn't seen it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avel.data.base import Dataset, Split
from avel.errors import DataError, UsageError
from avel.evaluation.results import Measured, table
from avel.files import write_whole
from avel.models.base import Recipe, TaskName, models
from avel.tasks import task_named
from avel.tasks.sel import segment_metrics
from avel.training.loop import Progress, Run, fit
from avel.types import Json

#: In a run's folder.
FOLDER, TABLE, WHOLE = "folds", "folds.csv", "folds.json"
#: Below so many recordings a validation split says little.
FEW = 60
#: What a person reads first; the files hold all metrics.
HEADLINES = ("segment_accuracy", "event_f1_0.5")


@dataclass(frozen=True)
class Fold:
    """What came of one fold: trained on the others, judged on it.

    Args:
        seed, number: Which one, from 1.
        clips, segments: Judged.
        epoch: Of the model judged; chosen on the other folds.
        measured: Metrics of :meth:`avel.tasks.Task.evaluate` by name.
        constant: The same metrics of constant predictions, by their name.
    """

    seed: int
    number: int
    clips: int
    segments: int
    epoch: int
    measured: Mapping[str, float]
    constant: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Folds:
    """A cross-validation; printed, it says mean and sd over the folds beside constant answers.

    Args:
        model, task: What was trained.
        data: Name of the data set.
        clips, recordings: How many were shared out.
        folds: The folds, of several seeds one after the other.
        epochs: What the folds suggest for a training on everything.
    """

    model: str
    task: TaskName
    data: str
    clips: int
    recordings: int
    folds: tuple[Fold, ...]
    epochs: int

    def __getitem__(self, metric: str) -> Measured:
        return Measured(metric, tuple(f.measured[metric] for f in self.folds))

    def constant(self, name: str, metric: str) -> Measured:
        """A metric of one of the constant answers over the folds."""
        return Measured(metric, tuple(f.constant[name][metric] for f in self.folds))

    def __str__(self) -> str:
        seeds = len({f.seed for f in self.folds})
        times = f", {seeds} times" if seeds > 1 else ""
        head = (
            f"{self.model} {self.task}: {len(self.folds) // seeds} folds{times} over {self.clips} "
            f"clips of {self.recordings} files of {self.data}, mean and sd over the folds"
        )
        rows = [(self.model, self.__getitem__)] + [
            (name.replace("_", " "), lambda metric, name=name: self.constant(name, metric))
            for name in self.folds[0].constant
        ]
        lines = [f"{'':24}" + "".join(f"{name:>22}" for name in HEADLINES)]
        for name, metric in rows:
            cells = "".join(f"{_cell(metric(m)):>22}" for m in HEADLINES)
            lines.append(f"{name:24}{cells}")
        return "\n".join([head, *lines])

    def rows(self) -> list[Json]:
        """A flat row a fold and answer, for CSV; shares in [0, 1]."""
        return [
            {"model": self.model, "task": self.task, "data": self.data, "seed": f.seed,
             "fold": f.number, "clips": f.clips, "segments": f.segments, "epoch": epoch,
             "answer": answer, **{k: _plain(v) for k, v in metrics.items()}}
            for f in self.folds
            for answer, epoch, metrics in (
                (self.model, f.epoch, f.measured), *((n, "", m) for n, m in f.constant.items()),
            )
        ]  # fmt: skip

    def save(self, folder: Path) -> None:
        """Write ``folds.csv`` and ``folds.json`` into a folder."""
        write_whole(folder / TABLE, table(self.rows()))
        held = asdict(self)
        write_whole(folder / WHOLE, json.dumps(_numbers(held), indent=1) + "\n")


def cross_validate(
    model: str,
    data: Dataset,
    count: int,
    *,
    task: TaskName = "sel",
    recipe: Recipe | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    progress: Callable[[int, Json, int], None] | None = None,
    **rest: Any,
) -> Folds:
    """Train ``count`` times, each time without one fold, and judge on that.

    Recordings are shared out whole, every class as evenly as it goes. The epoch of a fold is the
    one that was best on the **other** folds, smoothed over a fifth of the epochs: no number is
    chosen on what it is measured on.

    Args:
        model, task, seed: As for :func:`avel.fit`; the seed also draws the folds.
        data: Its training and validation splits are taken, and where the splits were drawn and not
            named by the data, its test split too.
        count: Folds, 2 or more.
        recipe: As for :func:`avel.fit`; all its epochs are trained, whatever its patience.
        out: Folder of the run: a fold's training lies in ``folds/K``, the results in ``folds.csv``
            and ``folds.json``.
        progress: Called after every epoch with the fold's number, the record and the epochs.
        rest: For :func:`avel.fit`.

    Raises:
        UsageError: for CML, or fewer than 2 folds.
        DataError: if there are fewer recordings than folds, or a split is missing.
    """
    if not task_named(task).classifies:
        raise UsageError(
            f"task {task} can't be cross-validated",
            expected="task sel or wsel",
            hint="leave --folds out",
        )
    recipe = recipe or models.get(model).recipe(task)
    recipe = replace(recipe, validate_every=1, patience=0)
    whole = pooled(data)
    parts = shares(data, whole, count, seed=seed)
    histories, held = [], [whole.subset(rows, name="val") for rows in parts]
    for number, own in enumerate(held, 1):
        others = np.concatenate([p for k, p in enumerate(parts, 1) if k != number])
        splits = {**data.splits, "train": whole.subset(np.sort(others), name="train"), "val": own,
                  "test": replace(own, name="test")}  # fmt: skip
        step: Progress | None = None
        if progress is not None:
            step = _numbered(progress, number)
        run = fit(
            model, replace(data, splits=splits), task=task, recipe=recipe, seed=seed,
            out=Path(out) / FOLDER / str(number) if out else None, progress=step, **rest,
        )  # fmt: skip
        histories.append(run.history)
    sizes = np.array([int(s.lengths.sum()) for s in held])
    curves = np.array([[r[task_named(task).selection_metric] for r in h] for h in histories])
    folds = []
    for k, (own, history) in enumerate(zip(held, histories, strict=True)):
        best = _best(np.delete(curves, k, 0), np.delete(sizes, k))
        metrics = {n: v for n, v in history[best].items() if n not in ("epoch", "loss")}
        constant = constant_answers(own, len(data.classes), data.step)
        folds.append(Fold(seed, k + 1, len(own), int(sizes[k]), best + 1, metrics, constant))
    found = Folds(
        model, task, data.name, len(whole), recordings(data), tuple(folds),
        _best(curves, sizes) + 1,
    )  # fmt: skip
    if out:
        found.save(Path(out))
    return found


def fit_all(
    model: str, data: Dataset, found: Folds, *, recipe: Recipe | None = None, **rest: Any
) -> Run:
    """Train on all that was cross-validated, for the epochs that the folds suggest.

    Args:
        model, data: As for :func:`cross_validate`.
        found: What that gave.
        recipe, rest: As for :func:`avel.fit`.
    """
    recipe = recipe or models.get(model).recipe(found.task)
    recipe = replace(recipe, epochs=found.epochs, patience=0)
    whole = replace(pooled(data), name="train")
    kept = {"val": whole} | ({"test": whole} if data.drawn else {})
    metric = task_named(found.task).selection_metric
    final = {
        "epoch": found.epochs, "metric": metric, "value": found[metric].mean,
        "selection": f"the last epoch, as {len(found.folds)} folds suggest; the value is theirs",
    }  # fmt: skip
    splits = {**data.splits, "train": whole, **kept}
    return fit(model, replace(data, splits=splits), task=found.task, recipe=recipe, final=final,
               **rest)  # fmt: skip


def _numbered(progress: Callable[[int, Json, int], None], number: int) -> Progress:
    return lambda record, epochs: progress(number, record, epochs)


def _best(curves: NDArray[np.float64], sizes: NDArray[np.int64]) -> int:
    """The epoch, from 0, at which the mean over folds is best, each weighing as its segments.

    The mean is smoothed over a fifth of the epochs: with few segments single epochs are chance.
    """
    mean = np.average(curves, axis=0, weights=sizes)
    reach = len(mean) // 10
    smooth = [mean[max(0, i - reach) : i + reach + 1].mean() for i in range(len(mean))]
    return int(np.argmax(smooth))


def pool(data: Dataset) -> tuple[str, ...]:
    """Names of the splits that are shared out: test only where it was drawn, not named."""
    return ("train", "val", "test") if data.drawn else ("train", "val")


def pooled(data: Dataset) -> Split:
    """The clips of the splits that are shared out as one split.

    Their features are copied into memory, padded to the longest.

    Raises:
        DataError: if a split is missing.
    """
    names = pool(data)
    missing = [n for n in names if n not in data.splits]
    if missing:
        raise DataError(f"{data.name} has no split {', '.join(missing)}",
                        expected="train and val", hint="name them in the data")  # fmt: skip
    parts = [data.splits[n] for n in names]
    length = max(int(p.labels.shape[1]) for p in parts)

    def stacked(name: str, fill: float) -> NDArray[Any]:
        arrays = [np.asarray(_rows(p, name)) for p in parts]
        pads = [[(0, 0), (0, length - a.shape[1]), *[(0, 0)] * (a.ndim - 2)] for a in arrays]
        return np.concatenate(
            [np.pad(a, pad, constant_values=fill) for a, pad in zip(arrays, pads, strict=True)]
        )

    tagged = all(p.tags is not None for p in parts)
    return Split(
        "all", tuple(i for p in parts for i in p.ids), stacked("audio", 0), stacked("visual", 0),
        np.concatenate([p.lengths for p in parts]), stacked("labels", -1),
        np.concatenate([np.asarray(p.tags) for p in parts]) if tagged else None,
    )  # fmt: skip


def _rows(split: Split, name: str) -> Any:
    array = getattr(split, name)
    return array if name == "labels" or split.rows is None else array[split.rows]


def recordings(data: Dataset) -> int:
    """How many recordings the clips of a data set were cut from."""
    return len({_recording(data, name) for split in data.splits.values() for name in split.ids})


def _recording(data: Dataset, clip: str) -> str:
    return data.recordings.get(clip, clip)


def shares(data: Dataset, whole: Split, count: int, *, seed: int) -> list[NDArray[np.int64]]:
    """The rows of each fold: recordings whole, every class as evenly as it goes.

    The class with the fewest recordings left is shared out first, each of its recordings to the
    fold that lacks most of what it holds, as shares of the classes, then of all recordings (after
    Sechidis et al. 2011).

    Raises:
        UsageError: for fewer than 2 folds.
        DataError: if there are fewer recordings than folds.
    """
    names = [_recording(data, clip) for clip in whole.ids]
    recordings = list(dict.fromkeys(names))
    if count < 2:
        raise UsageError(f"--folds must be at least 2, got {count}", hint="give --folds 5")
    if len(recordings) < count:
        raise DataError(f"{len(recordings)} recordings for {count} folds",
                        expected="one or more a fold", hint="give fewer folds")  # fmt: skip
    classes = len(data.classes)
    holds = np.zeros((len(recordings), classes), bool)
    for name, labels in zip(names, whole.labels, strict=True):
        seen = labels[(labels >= 0) & (labels < classes)]
        holds[recordings.index(name), seen] = True
    rng = np.random.default_rng([seed, count])
    fold_of = _shared_out(holds, count, rng)
    place = {name: fold_of[i] for i, name in enumerate(recordings)}
    return [
        np.array([row for row, name in enumerate(names) if place[name] == k], np.int64)
        for k in range(count)
    ]


def _shared_out(
    holds: NDArray[np.bool_], count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """(N,) fold of each recording, from (N, C) which classes it holds."""
    lacking = np.tile(holds.sum(0) / count, (count, 1))
    room = np.full(count, len(holds) / count)
    fold = np.full(len(holds), -1)
    while (fold < 0).any():
        left = np.flatnonzero(fold < 0)
        per_class = holds[left].sum(0)
        rarest = min(np.flatnonzero(per_class), key=lambda c: per_class[c], default=None)
        own = left if rarest is None else left[holds[left, rarest]]
        for i in rng.permutation(own):
            expected = lacking @ (holds[i] / np.maximum(1, holds.sum(0)))
            order = np.lexsort((rng.permutation(count), -room, -expected))
            k = int(order[0])
            fold[i] = k
            lacking[k] -= holds[i]
            room[k] -= 1
    return fold


def constant_answers(split: Split, classes: int, step: float) -> dict[str, dict[str, float]]:
    """Metrics of constant predictions.

    ``always_background``; ``most_frequent_class``, the event class of most segments of this very
    split, everywhere; ``true_clip_class``, each clip's own true class at every segment.
    """
    truth = split.labels
    counts = np.bincount(truth[(truth >= 0) & (truth < classes)], minlength=classes)
    from avel import metrics

    category = np.broadcast_to(metrics.clip_category(truth, classes)[:, None], truth.shape)
    answers = {
        "always_background": np.full_like(truth, classes),
        "most_frequent_class": np.full_like(truth, counts.argmax()),
        "true_clip_class": category,
    }
    return {name: segment_metrics(a, truth, classes, step=step) for name, a in answers.items()}


def _cell(m: Measured) -> str:
    sd = "" if m.sd is None else f" ± {100 * m.sd:.1f}"
    return f"{100 * m.mean:.1f}{sd}"


def _plain(value: float) -> float | str:
    return "" if np.isnan(value) else round(float(value), 6)


def _numbers(value: Any) -> Any:
    """Plain data with None for what isn't a number."""
    if isinstance(value, Mapping):
        return {k: _numbers(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_numbers(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
