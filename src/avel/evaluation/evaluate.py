"""Evaluation: ours (mean, sd, n), the paper's, and what constant baselines score."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avel.data.base import Dataset, Split, fingerprint
from avel.data.resident import Resident, resident
from avel.device import torch_device
from avel.errors import UsageError
from avel.evaluation import calibration, tuning
from avel.evaluation.cross_validation import constant_baselines
from avel.evaluation.inputs import align_classes, choose_split
from avel.evaluation.results import Evaluation, Measured, save, table
from avel.inference.card import WEIGHTS
from avel.inference.checkpoint import Trained
from avel.inference.decision import Decision
from avel.inference.load import load_trained
from avel.models.base import models
from avel.papers import Reported, reported
from avel.tasks import task_named
from avel.training.loop import LAST, Run
from avel.training.provenance import with_recipe_defaults
from avel.types import Json

__all__ = ["Evaluation", "Measured", "evaluate", "kind", "save", "table"]

#: The data set of the papers' numbers.
AVE = "ave"
Runs = Run | Trained | str | Path


def evaluate(
    runs: Runs | Sequence[Runs],
    data: Dataset | Split | None = None,
    *,
    split: str | None = None,
    batch: int = 64,
    device: str = "auto",
) -> Evaluation:
    """Evaluate runs of one kind (one model, task, setting; several seeds) on a split, in float32.

    Args:
        runs: One or several: what :func:`avel.fit` gave, loaded models, or their folders.
        data: A data set or a split; None takes what the (first) run was trained on.
        split: Name of the split of a data set; the task's test split if None.
        batch: Clips that go through the network together.
        device: As for :func:`avel.device.check_device`.

    Raises:
        UsageError: if the runs aren't of one kind, or there is no data.
        CheckpointError: if the features are of other backbones than a run was trained on.
        DataError: if the data lack the split or have other classes.
    """
    listed = [runs] if isinstance(runs, Run | Trained | str | Path) else list(runs)
    trained = [_trained(run) for run in listed]
    if data is None:
        data = next((run.data for run in listed if isinstance(run, Run)), None)
    _one_kind(trained)
    if data is None:
        raise UsageError("the runs name no data to evaluate on", hint="give a data set or a split")
    first = trained[0]
    task, classes = task_named(first.card["task"]), first.classes
    aligned = align_classes(first, data) if isinstance(data, Dataset) else data
    chosen = choose_split(aligned, task, split, len(classes))
    notes = _notes(trained, data, chosen)
    clips = resident(chosen)
    last = [_last(run) if task.shows_last_epoch else None for run in listed]
    target = torch_device(device)
    results = [
        _evaluate_run(run, clips, batch, target, end)
        for run, end in zip(trained, last, strict=True)
    ]
    chosen_on_test = [_test_chosen(run, data, chosen) for run in trained]
    for (metrics, _, _), scores in zip(results, chosen_on_test, strict=True):
        metrics.update(scores)
    if all(chosen_on_test):
        notes.append(
            "*_test_chosen: the epoch was chosen on the test split itself, as some papers do; "
            "compare these with such numbers alone"
        )
    name = data.name if isinstance(data, Dataset) else first.card["data"]["name"]
    papers = _papers(first, chosen) if name == AVE else []
    return Evaluation(
        model=first.card["model"],
        task=task.name,
        setting=first.card["setting"],
        options=_options(first),
        data=name,
        split=chosen.name,
        fingerprint=_fingerprint(data, chosen),
        simulated=_simulated(trained, data),
        clips=len(chosen),
        seeds=tuple(int(run.card["seed"]) for run in trained),
        selection=_selection(trained, task.selection_note),
        measured=tuple(
            Measured(
                metric,
                tuple(m[metric] for m, _, _ in results),
                next((p for p in papers if p.metric == metric), None),
            )
            for metric in results[0][0]
            if all(metric in m for m, _, _ in results)  # some may be tuned, others not
        ),
        baselines=task.baselines(chosen, len(classes)),
        event_baselines=_event_baselines(chosen, len(classes), first.step)
        if task.classifies
        else {},
        classes=tuple(per_class for _, per_class, _ in results),
        notes=tuple(notes),
        background_clips=_one_number([run.card.get("background_clips") for run in trained]),
        predictions=tuple(predictions for _, _, predictions in results),
    )


def _one_number(counts: Sequence[int | None]) -> int | None:
    """The number that all runs have, None where they differ."""
    return counts[0] if len(set(counts)) == 1 else None


def _event_baselines(split: Split, classes: int, step: float) -> dict[str, float]:
    """Event F1 at IoU 0.5 of constant predictions."""
    constant = constant_baselines(split, classes, step)
    return {name: metrics["event_f1_0.5"] for name, metrics in constant.items()}


def _papers(run: Trained, chosen: Split) -> list[Reported]:
    """What papers print for a run: test scores alone."""
    if chosen.name not in ("test", "cml_test"):
        return []
    card, known = run.card, models.get(run.card["model"])
    return reported(
        card["model"], card["task"], card["options"], known.options(), card["setting"]
    )  # fmt: skip


def _trained(run: Runs) -> Trained:
    if isinstance(run, Run):
        return run.trained
    return run if isinstance(run, Trained) else load_trained(run)


def _last(run: Runs) -> Trained | None:
    """The model of the last epoch of a run, where it is there."""
    if isinstance(run, Run):
        return run.last
    if isinstance(run, Trained) or not (Path(run) / LAST / WEIGHTS).is_file():
        return None
    return load_trained(Path(run) / LAST)


def _test_chosen(run: Trained, data: Dataset | Split, chosen: Split) -> dict[str, float]:
    """The best test scores of all epochs, where training stored them for these very clips."""
    stored = (run.card.get("metrics") or {}).get("test_chosen")
    same = isinstance(data, Dataset) and fingerprint(data) == run.card["data"]["fingerprint"]
    if not stored or not same or chosen.name not in ("test", "cml_test"):
        return {}
    shown = task_named(run.card["task"]).metrics
    return {f"{n}_test_chosen": float(v) for n, v in stored["metrics"].items() if n in shown}


def kind(run: Trained) -> tuple[Any, ...]:
    """What runs must share for their mean to make sense: all but the seed.

    Where it is known also the data, the clips trained on, and the kind that it started from.
    """
    keys = ("model", "task", "setting", "options", "classes", "audio_card", "visual_card")
    recipe = with_recipe_defaults(run.card)["recipe"]
    recipe = {k: v for k, v in recipe.items() if k != "options"}
    start = run.card.get("init") or {}
    values = [*(run.card[k] for k in keys), recipe, run.card["data"]["fingerprint"],
            run.card.get("train_ids", {}).get("sha256"), start.get("model"), start.get("task"),
            start.get("train_ids")]  # fmt: skip
    return tuple(json.dumps(v, sort_keys=True) for v in values)


def _one_kind(runs: Sequence[Trained]) -> None:
    if not runs:
        raise UsageError("no run to evaluate", hint="name at least one")
    if len({kind(run) for run in runs}) > 1:
        raise UsageError(
            "runs of different kinds have no mean",
            expected="one model, task, setting, recipe, data and start, several seeds",
            hint="evaluate them one kind at a time",
        )
    seeds = [run.card["seed"] for run in runs if run.card["seed"] >= 0]  # -1: not known
    if len(set(seeds)) < len(seeds):
        raise UsageError(
            f"runs of seeds {', '.join(map(str, seeds))}",
            expected="each seed once",
            hint="name each run once",
        )


def _evaluate_run(
    run: Trained,
    clips: Resident,
    batch: int,
    device: torch.device,
    last: Trained | None = None,
) -> tuple[dict[str, float], dict[str, dict[str, float]], Json]:
    """Metrics, those of each class, and predictions of each clip; nothing is predicted twice.

    With ``last``, the last epoch's model, its headline metrics are there too, as ``..._last``.
    """
    task, step, split = task_named(run.card["task"]), run.step, clips.split
    predict = task.cached(task.predictor(run.network.to(device), clips, batch=batch, device=device))
    count = len(run.classes)
    metrics = task.evaluate(predict, split, count, step=step)
    metrics = {task.selection_metric: metrics[task.selection_metric], **metrics}  # headline first
    if last is not None:
        predict_last = task.predictor(last.network.to(device), clips, batch=batch, device=device)
        scores = task.evaluate(task.cached(predict_last), split, count, step=step, full=False)
        metrics |= {f"{name}_last": scores[name] for name in task.metrics}
    if task.classifies:
        metrics |= _calibration_metrics(run, split, *predict(split)[:2])
    return (
        metrics,
        task.details(predict, split, run.classes, step=step),
        task.predictions(predict, split, count),
    )


def _calibration_metrics(run: Trained, split: Split, labels: Any, scores: Any) -> dict[str, float]:
    """The calibration error, and what the decision that `avel tune` stored makes of the scores.

    ``nan`` where the scores are no probabilities over the classes.
    """
    values, truth = np.asarray(scores), np.asarray(split.labels)
    whole = calibration.are_probabilities(values, truth)
    metrics = {"ece": calibration.reliability(values, truth).ece if whole else float("nan")}
    if run.card.get("decision") is not None:
        padded = tuning.padded_scores(values, np.asarray(labels), truth)
        stored = Decision.from_json(run.card["decision"])
        tuned = tuning.event_metrics(padded, stored, run.classes, step=run.step)
        metrics |= {f"{name}_tuned": value for name, value in tuned.items()}
    return metrics


def _notes(runs: Sequence[Trained], data: Dataset | Split, chosen: Split) -> list[str]:
    """What a reader must know."""
    first, notes = runs[0], []
    if isinstance(data, Dataset):
        lacking = [c for c in first.classes if c not in data.classes]
        if lacking:
            notes.append(f"these data have no event of {', '.join(lacking)}")
        if any(fingerprint(data) not in _fingerprints(run) for run in runs):
            notes.append("evaluated on other data than it was trained on")
    trained_on = [len(set(run.train_ids or ()) & set(chosen.ids)) for run in runs]
    if any(trained_on):
        notes.append(f"LEAK: {max(trained_on)} of {len(chosen)} clips were trained on")
    if any(run.train_ids is None for run in runs):
        notes.append("not known which clips it was trained on")
    counts = [run.card.get("background_clips") for run in runs]
    if len(set(counts)) > 1:
        notes.append(f"the runs saw different numbers of background clips: {counts}")
    leaks = [int(run.card.get("leak", 0)) for run in runs]
    if any(leaks):
        count = max(leaks, key=abs)
        what = f"{count} of the clips evaluated" if count > 0 else "clips that aren't known"
        notes.append(f"LEAK: it started from a model trained on {what} (--allow-leak)")
    return notes


def _fingerprints(run: Trained) -> tuple[str, str]:
    """Of the data that a run was trained on; after cross-validation also before their splits."""
    card = run.card
    return card["data"]["fingerprint"], str(card["metrics"].get("fingerprint", ""))


def _options(run: Trained) -> Json:
    """The options that aren't the model's defaults."""
    defaults = models.get(run.card["model"]).options()
    return {k: v for k, v in run.card["options"].items() if defaults.get(k) != v}


def _fingerprint(data: Dataset | Split, chosen: Split) -> str:
    if isinstance(data, Dataset):
        return fingerprint(data)
    return fingerprint(Dataset(name=chosen.name, classes=(), splits={chosen.name: chosen}))


def _simulated(runs: Sequence[Trained], data: Dataset | Split) -> bool:
    own = isinstance(data, Dataset) and data.simulated
    return own or any(bool(run.card["data"].get("simulated")) for run in runs)


def _selection(runs: Sequence[Trained], note: str) -> str:
    """The rules that selected the epochs; ``note`` goes behind one that read the metric."""
    rules = sorted({str(run.card["metrics"].get("selection", "not known")) for run in runs})
    rules = [f"{rule}, {note}" if note and rule.startswith("best ") else rule for rule in rules]
    epochs = ", ".join(str(run.card["metrics"].get("epoch", "?")) for run in runs)
    planned = runs[0].card["recipe"].get("epochs", "?")
    return f"{' / '.join(rules)}; epoch {epochs} of {planned}"
