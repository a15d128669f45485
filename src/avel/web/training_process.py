"""What the training process of `avel serve` does: from corrections to a model and its figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from avel.errors import DataError
from avel.types import Json

if TYPE_CHECKING:
    from avel.data.base import Dataset, Split
    from avel.evaluation.cross_validation import Folds
    from avel.inference.predictor import Predictor
    from avel.models.base import Recipe
    from avel.training.loop import Run

#: What is trained: the model that `avel serve` proposes for few clips.
MODEL = "cspa_csea"
#: Most folds of a cross-validation.
MAX_FOLDS = 5
#: The figures that are compared.
METRICS = ("segment_accuracy", "event_f1_0.5")
#: Most sentences about the data that a result holds.
MAX_NOTES = 8

#: Called with a stage, and how much of it is done of how much.
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class TrainingRequest:
    """One training, as it is sent to the training process.

    Args:
        name: Of the new model.
        data: The folder of the corrections, as `avel train data=DIR` reads it.
        out: The run's folder.
        compared: Name of the model that the new one is compared with, and whose backbones it gets.
        compared_model: The same as for :func:`avel.load_model`.
        device: As for :func:`avel.device.check_device`.
        recipe: ``"key=value"`` in place of the recipe's fields.
    """

    name: str
    data: str
    out: str
    compared: str
    compared_model: str
    device: str = "auto"
    recipe: tuple[str, ...] = ()


def train(request: TrainingRequest, report: Report) -> Json:
    """Extract features, train by the recipe for small data, and compare with the other model.

    Where there are fewer recordings than a validation split needs, the figures are the mean over
    the folds of a cross-validation, and the model is trained on everything; elsewhere they are
    those of the test split.

    Args:
        request: What is trained on what.
        report: Called as it goes on.

    Returns:
        ``card`` of the new model, and ``result``: ``clips``, ``recordings``, ``folds`` (0 for a
        test split), ``epochs``, ``systems`` (``name``, ``role``, ``segment_accuracy``,
        ``event_f1``), ``notes``.

    Raises:
        AvelError: if the data can't be used, or the training fails.
    """
    from avel.data.base import load_dataset
    from avel.evaluation.cross_validation import FEW, pool, recordings
    from avel.inference.load import load_model
    from avel.memory import keep_memory
    from avel.training.recipes import SMALL, resolve

    keep_memory()
    compared = load_model(request.compared_model)
    _extract(request, compared.feature_options, report)
    # `avel extract --copies` made those of a person's folder by other backbones, or of fewer clips
    data = load_dataset("folder", root=request.data, copies=False)
    clips = sum(len(data.splits[name]) for name in pool(data))
    recipe = resolve(MODEL, "sel", pairs=request.recipe, small=clips < SMALL)
    count = recordings(data)
    folds = min(MAX_FOLDS, count) if data.drawn and count < FEW else 0
    trained = _folded if folds else _split
    run, systems, note = trained(request, data, recipe, compared, folds, report)
    data_notes = [n for n in data.notes if not folds or n not in data.split_notes]
    notes = [note, *comparison_notes(request.compared, compared, data), *data_notes]
    result = {
        "clips": clips, "recordings": count, "folds": folds,
        "epochs": int(run.best["epoch"]), "systems": systems,
        "notes": [n for n in notes if n][:MAX_NOTES],
    }  # fmt: skip
    return {"card": load_model(request.out).card, "result": result}


def _extract(request: TrainingRequest, options: Json, report: Report) -> None:
    """Extract the features that a model needs; what is done is skipped.

    Raises:
        DataError: if all other files would fail too, as on a full disk.
    """
    from avel.features.corpus import Settings, in_process
    from avel.features.listing import plan
    from avel.features.outcomes import stored_outcomes

    files = plan([Path(request.data)], None)
    settings = Settings(**options, precision="auto", device=request.device)
    report("extract", 0, files.count)
    outcomes = stored_outcomes(files, lambda jobs: in_process(jobs, settings.start))
    with closing(outcomes):
        for done, outcome in enumerate(outcomes, 1):
            if outcome.fatal:
                raise DataError(outcome.reason, hint="make room on the server's disk")
            report("extract", done, files.count)


def _folded(
    request: TrainingRequest, data: Dataset, recipe: Recipe, compared: Predictor, folds: int,
    report: Report,
) -> tuple[Run, list[Json], str]:  # fmt: skip
    """Cross-validate, train on everything, and evaluate the other model on the same folds."""
    from avel.evaluation.cross_validation import assign_folds, cross_validate, fit_all, pooled

    validated = cross_validate(
        MODEL, data, folds, recipe=recipe, device=request.device,
        progress=lambda fold, record, epochs: report(
            f"fold {fold} of {folds}", int(record["epoch"]), epochs
        ),
    )  # fmt: skip
    run = fit_all(
        MODEL, data, validated, recipe=recipe, out=request.out, device=request.device,
        progress=lambda record, epochs: report("all clips", int(record["epoch"]), epochs),
    )  # fmt: skip
    validated.save(Path(request.out))
    report("evaluate", 0, folds)
    whole, old = pooled(data), []
    for number, rows in enumerate(assign_folds(data, whole, folds, seed=0), 1):
        old.append(event_figures(compared, data, whole.subset(rows)))
        report("evaluate", number, folds)
    new = [dict(fold.measured) for fold in validated.folds]
    systems = [
        _system(request.name, "new", new),
        _system(request.compared, "old", old),
        _baseline(validated),
    ]
    return run, systems, ""


def _split(
    request: TrainingRequest, data: Dataset, recipe: Recipe, compared: Predictor, folds: int,
    report: Report,
) -> tuple[Run, list[Json], str]:  # fmt: skip
    """Train with a validation split, and evaluate both models on the test split."""
    from avel.evaluation.cross_validation import constant_baselines
    from avel.training.loop import fit

    run = fit(
        MODEL, data, recipe=recipe, out=request.out, device=request.device,
        progress=lambda record, epochs: report("training split", int(record["epoch"]), epochs),
    )  # fmt: skip
    report("evaluate", 0, 2)
    systems = [_system(request.name, "new", [event_figures(run.trained, data, data.test)])]
    report("evaluate", 1, 2)
    systems.append(_system(request.compared, "old", [event_figures(compared, data, data.test)]))
    constant = constant_baselines(data.test, len(data.classes), data.step)
    name = max(constant, key=lambda n: constant[n][METRICS[0]])
    systems.append(_system(name.replace("_", " "), "baseline", [constant[name]]))
    note = f"Measured on {len(data.test)} clips of {data.name} that were not trained on."
    return run, systems, note


def _baseline(validated: Folds) -> Json:
    """The constant prediction of the highest segment accuracy."""
    folds = validated.folds
    name = max(folds[0].baselines, key=lambda n: validated.baseline(n, METRICS[0]).mean)
    return _system(name.replace("_", " "), "baseline", [dict(f.baselines[name]) for f in folds])


def _system(name: str, role: str, figures: Sequence[Json]) -> Json:
    """A row of the comparison: means over the folds where they are defined, else None."""

    def mean(metric: str) -> float | None:
        values = [float(f[metric]) for f in figures if np.isfinite(f[metric])]
        return round(float(np.mean(values)), 6) if values else None

    accuracy, f1 = (mean(metric) for metric in METRICS)
    return {"name": name, "role": role, "segment_accuracy": accuracy, "event_f1": f1}


def event_figures(model: Predictor, data: Dataset, split: Split) -> Json:
    """Metrics of the events that a model detects, as the page shows them, on some clips.

    Classes count by their names: a label that the model doesn't know is never right, and neither
    is a class that the labels don't have. Where events overlap, the higher score counts.

    Args:
        model: Its backbones must be those of the data.
        data: Names the classes of the labels.
        split: The clips.
    """
    from avel.inference.localizer import to_events, tuned
    from avel.tasks.sel import segment_metrics
    from avel.types import Features, Grid

    classes = [*data.classes, *(c for c in model.classes if c not in data.classes)]
    background = len(classes)
    truth = np.where(split.labels == len(data.classes), background, split.labels)
    labels = np.full_like(truth, background)
    decision = tuned(model.card)
    for i, row in enumerate(split.store_rows):
        count = int(split.lengths[i])
        audio = np.asarray(split.audio[row, :count], np.float32)
        visual = np.asarray(split.visual[row, :count], np.float32)
        features = Features(
            audio=audio, visual=visual, grid=Grid(count * data.step, data.step),
            audible=np.any(audio != 0, axis=1), visible=np.any(visual != 0, axis=(1, 2, 3)),
            audio_card=data.audio_card, visual_card=data.visual_card, source=split.ids[i],
        )  # fmt: skip
        events = to_events(model.predict(features), decision=decision)
        for event in sorted(events, key=lambda e: e.score):
            first, stop = round(event.start / data.step), round(event.end / data.step)
            labels[i, first:stop] = classes.index(event.label)
    return dict(segment_metrics(labels, truth, background, step=data.step))


def comparison_notes(name: str, compared: Predictor, data: Dataset) -> list[str]:
    """What a reader must know of the other model's figures."""
    notes = []
    unknown = [c for c in data.classes if c not in compared.classes]
    if unknown:
        shown = ", ".join(unknown[:5]) + ", …" * (len(unknown) > 5)
        notes.append(
            f"{name} doesn't have {len(unknown)} of the {len(data.classes)} labels: {shown}."
        )
    known: Any = getattr(compared, "train_ids", None)
    clips = {clip for split in data.splits.values() for clip in split.ids}
    shared = clips & set(known or ())
    if shared:
        notes.append(
            f"{name} was trained on {len(shared)} of these clips, so its figures are too high."
        )
    return notes
