"""Cross-validation of small data sets: no clip is evaluated by a model trained on it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avel import metrics
from avel.data.base import Copy, Dataset, Split, fingerprint
from avel.data.stratify import divide
from avel.errors import CheckpointError, DataError, UsageError
from avel.evaluation.results import Measured, finite, plain_number, table
from avel.files import write_whole
from avel.models.base import Recipe, TaskName, models
from avel.progress import EpochProgress
from avel.tasks import task_named
from avel.tasks.sel import segment_metrics
from avel.training.loop import Run, fit
from avel.types import Json

#: In a run's folder.
FOLDER, TABLE, WHOLE = "folds", "folds.csv", "folds.json"
#: With fewer recordings a validation split is too small to select by.
FEW = 60
#: What a person reads first; the files hold all metrics.
HEADLINES = ("segment_accuracy", "event_f1_0.5")


@dataclass(frozen=True)
class Fold:
    """The result of one fold: trained on the others, evaluated on it.

    Args:
        seed, number: Which one, from 1.
        clips, segments: How many were evaluated.
        epoch: Of the model evaluated; selected on the other folds.
        measured: Metrics of :meth:`avel.tasks.Task.evaluate` by name.
        baselines: The same metrics of constant predictions, by their name.
    """

    seed: int
    number: int
    clips: int
    segments: int
    epoch: int
    measured: Mapping[str, float]
    baselines: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Folds:
    """A cross-validation; printed, it has mean and sd over the folds beside baselines.

    Args:
        model, task: What was trained.
        data: Name of the data set.
        clips, recordings: How many were divided into folds.
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

    def baseline(self, name: str, metric: str) -> Measured:
        """A metric of one of the baselines over the folds."""
        return Measured(metric, tuple(f.baselines[name][metric] for f in self.folds))

    def __str__(self) -> str:
        seeds = len({f.seed for f in self.folds})
        times = f", {seeds} times" if seeds > 1 else ""
        head = (
            f"{self.model} {self.task}: {len(self.folds) // seeds} folds{times} over {self.clips} "
            f"clips of {self.recordings} files of {self.data}, mean and sd over the folds"
        )
        rows = [(self.model, self.__getitem__)] + [
            (name.replace("_", " "), lambda metric, name=name: self.baseline(name, metric))
            for name in self.folds[0].baselines
        ]
        lines = [f"{'':24}" + "".join(f"{name:>22}" for name in HEADLINES)]
        for name, metric in rows:
            cells = "".join(f"{_cell(metric(m)):>22}" for m in HEADLINES)
            lines.append(f"{name:24}{cells}")
        return "\n".join([head, *lines])

    def rows(self) -> list[Json]:
        """A flat row a fold and system, for CSV; shares in [0, 1]."""
        return [
            {"model": self.model, "task": self.task, "data": self.data, "seed": f.seed,
             "fold": f.number, "clips": f.clips, "segments": f.segments, "epoch": epoch,
             "system": system, **{k: plain_number(v) for k, v in metrics.items()}}
            for f in self.folds
            for system, epoch, metrics in (
                (self.model, f.epoch, f.measured), *((n, "", m) for n, m in f.baselines.items()),
            )
        ]  # fmt: skip

    def save(self, folder: Path) -> None:
        """Write ``folds.csv`` and ``folds.json`` into a folder."""
        write_whole(folder / TABLE, table(self.rows()))
        write_whole(folder / WHOLE, json.dumps(self.to_json(), indent=1) + "\n")

    def to_json(self) -> Json:
        """Everything as plain data; None for what isn't defined."""
        plain: Json = finite(asdict(self))
        return plain

    @classmethod
    def load(cls, folder: Path) -> Folds | None:
        """What :meth:`save` wrote into a folder; None where there is nothing.

        Raises:
            CheckpointError: if it can't be read.
        """
        path = folder / WHOLE
        if not path.is_file():
            return None
        try:
            data = json.loads(path.read_text("utf-8"))
            return cls(**{**data, "folds": tuple(_fold(f) for f in data["folds"])})
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as e:
            raise CheckpointError(
                f"{path} can't be read ({type(e).__name__}: {e})",
                expected="what `avel train --folds` wrote",
                hint="train again with --resume, which writes it anew",
            ) from e


def _fold(data: Json) -> Fold:
    """A fold from plain data; baselines had another name in older files."""
    baselines: Json = data["baselines"] if "baselines" in data else data["constant"]
    rest = {k: v for k, v in data.items() if k not in ("baselines", "constant", "measured")}
    return Fold(
        **rest,
        measured=_defined(data["measured"]),
        baselines={name: _defined(metrics) for name, metrics in baselines.items()},
    )


def _defined(metrics: Json) -> dict[str, float]:
    return {name: math.nan if v is None else float(v) for name, v in metrics.items()}


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
    """Train ``count`` times, each time without one fold, and evaluate on that fold.

    All clips of a recording are in one fold; classes are divided as evenly as possible. The epoch
    of a fold is the best one on the **other** folds, smoothed over a fifth of the epochs: no
    number is selected on the clips that it is measured on.

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
    if recipe.selection != "metric":
        raise UsageError(
            f"selection={recipe.selection} with folds, whose other folds select the epoch",
            expected="selection=metric", hint="leave --folds or selection out",
        )  # fmt: skip
    recipe = replace(recipe, validate_every=1, patience=0)
    whole = pooled(data)
    parts = assign_folds(data, whole, count, seed=seed)
    histories, validation = [], [whole.subset(rows, name="val") for rows in parts]
    for number, val in enumerate(validation, 1):
        others = np.concatenate([p for k, p in enumerate(parts, 1) if k != number])
        splits = {**data.splits, "train": whole.subset(np.sort(others), name="train"), "val": val,
                  "test": replace(val, name="test")}  # fmt: skip
        step: EpochProgress | None = None
        if progress is not None:
            step = _numbered(progress, number)
        run = fit(
            model, replace(data, splits=splits), task=task, recipe=recipe, seed=seed,
            out=Path(out) / FOLDER / str(number) if out else None, progress=step, **rest,
        )  # fmt: skip
        histories.append(run.history)
    sizes = np.array([int(s.lengths.sum()) for s in validation])
    curves = np.array([[r[task_named(task).selection_metric] for r in h] for h in histories])
    folds = []
    for k, (val, history) in enumerate(zip(validation, histories, strict=True)):
        best = _best(np.delete(curves, k, 0), np.delete(sizes, k))
        metrics = {n: v for n, v in history[best].items() if n not in ("epoch", "loss")}
        baselines = constant_baselines(val, len(data.classes), data.step)
        folds.append(Fold(seed, k + 1, len(val), int(sizes[k]), best + 1, metrics, baselines))
    result = Folds(
        model, task, data.name, len(whole), recordings(data), tuple(folds),
        _best(curves, sizes) + 1,
    )  # fmt: skip
    if out:
        result.save(Path(out))
    return result


def fit_all(
    model: str, data: Dataset, folds: Folds, *, recipe: Recipe | None = None, **rest: Any
) -> Run:
    """Train on all that was cross-validated, for the epochs that the folds suggest.

    Args:
        model, data: As for :func:`cross_validate`.
        folds: Its result.
        recipe, rest: As for :func:`avel.fit`.
    """
    recipe = recipe or models.get(model).recipe(folds.task)
    recipe = replace(recipe, epochs=folds.epochs, patience=0)
    whole = replace(pooled(data), name="train")
    evaluated = {"val": whole} | ({"test": whole} if data.drawn else {})
    metric = task_named(folds.task).selection_metric
    final = {
        "epoch": folds.epochs, "metric": metric, "value": folds[metric].mean,
        "selection": f"the last epoch, as {len(folds.folds)} folds suggest; the value is theirs",
        "fingerprint": fingerprint(data),
    }  # fmt: skip
    splits = {**data.splits, "train": whole, **evaluated}
    return fit(model, replace(data, splits=splits), task=folds.task, recipe=recipe, final=final,
               **rest)  # fmt: skip


def _numbered(progress: Callable[[int, Json, int], None], number: int) -> EpochProgress:
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
    """Names of the splits that are divided into folds: test only where it was drawn, not named."""
    return ("train", "val", "test") if data.drawn else ("train", "val")


def pooled(data: Dataset) -> Split:
    """The clips of the splits that are divided into folds, as one split.

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

    def stacked(of_parts: Sequence[Any], fill: float = 0) -> NDArray[Any]:
        arrays = [np.asarray(array) for array in of_parts]
        pads = [[(0, 0), (0, length - a.shape[1]), *[(0, 0)] * (a.ndim - 2)] for a in arrays]
        return np.concatenate(
            [np.pad(a, pad, constant_values=fill) for a, pad in zip(arrays, pads, strict=True)]
        )

    tagged = all(p.tags is not None for p in parts)
    copies = zip(*(p.copies for p in parts), strict=False)  # as many as all parts have
    return Split(
        "all", tuple(i for p in parts for i in p.ids),
        stacked([p.audio[p.store_rows] for p in parts]),
        stacked([p.visual[p.store_rows] for p in parts]),
        np.concatenate([p.lengths for p in parts]), stacked([p.labels for p in parts], -1),
        np.concatenate([np.asarray(p.tags) for p in parts]) if tagged else None,
        copies=tuple(
            Copy(*(stacked([a[p.store_rows] for a, p in zip(arrays, parts, strict=True)])
                   for arrays in zip(*of_parts, strict=True)))
            for of_parts in copies
        ),
    )  # fmt: skip


def recordings(data: Dataset, split: str | None = None) -> int:
    """How many recordings the clips of a data set, or of one of its splits, were cut from."""
    splits = [s for name, s in data.splits.items() if split in (None, name)]
    return len(data.recordings_of(clip for s in splits for clip in s.ids))


def assign_folds(data: Dataset, whole: Split, count: int, *, seed: int) -> list[NDArray[np.int64]]:
    """The rows of each fold: recordings in one fold, classes divided as evenly as possible.

    See :func:`avel.data.stratify.divide`.

    Raises:
        UsageError: for fewer than 2 folds.
        DataError: if there are fewer recordings than folds.
    """
    names = [data.recording_of(clip) for clip in whole.ids]
    recordings = list(dict.fromkeys(names))
    if count < 2:
        raise UsageError(f"--folds must be at least 2, got {count}", hint="give --folds 5")
    if len(recordings) < count:
        raise DataError(f"{count} folds need {count} recordings, the data have {len(recordings)}",
                        expected="one or more in each fold", hint="give fewer folds")  # fmt: skip
    classes = len(data.classes)
    has_class = np.zeros((len(recordings), classes), bool)
    for name, labels in zip(names, whole.labels, strict=True):
        seen = labels[(labels >= 0) & (labels < classes)]
        has_class[recordings.index(name), seen] = True
    rng = np.random.default_rng([seed, count])
    fold_of = divide(has_class, [len(recordings) / count] * count, rng)
    place = {name: fold_of[i] for i, name in enumerate(recordings)}
    return [
        np.array([row for row, name in enumerate(names) if place[name] == k], np.int64)
        for k in range(count)
    ]


def constant_baselines(split: Split, classes: int, step: float) -> dict[str, dict[str, float]]:
    """Metrics of constant predictions.

    ``always_background``; ``most_frequent_class``, the event class of most segments of this very
    split, everywhere; ``true_clip_class``, each clip's own true class at every segment.
    """
    truth = split.labels
    counts = np.bincount(truth[(truth >= 0) & (truth < classes)], minlength=classes)
    category = np.broadcast_to(metrics.clip_category(truth, classes)[:, None], truth.shape)
    predictions = {
        "always_background": np.full_like(truth, classes),
        "most_frequent_class": np.full_like(truth, counts.argmax()),
        "true_clip_class": category,
    }
    return {name: segment_metrics(a, truth, classes, step=step) for name, a in predictions.items()}


def _cell(m: Measured) -> str:
    sd = "" if m.sd is None else f" ± {100 * m.sd:.1f}"
    return f"{100 * m.mean:.1f}{sd}"
