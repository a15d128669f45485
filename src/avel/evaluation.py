"""Evaluation: ours (mean, sd, n), the paper's, and what answers that look at nothing score."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from avel import tasks
from avel.batches import Resident, predictor, resident
from avel.checkpoint import Trained, backbone_name, load_model
from avel.data.base import Dataset, Split, backbone_identity, fingerprint
from avel.errors import CheckpointError, DataError, UsageError
from avel.files import write_whole
from avel.models import models
from avel.papers import Reported, reported
from avel.train import Run
from avel.types import Json

Runs = Run | Trained | str | Path


@dataclass(frozen=True)
class Measured:
    """One metric over the runs.

    Args:
        metric: Its name.
        values: One a run.
        paper: What the paper prints, as a share, or None.
    """

    metric: str
    values: tuple[float, ...]
    paper: Reported | None = None

    @property
    def defined(self) -> tuple[float, ...]:
        """The values that are numbers: a boundary error needs an event that was found."""
        return tuple(v for v in self.values if not math.isnan(v))

    @property
    def mean(self) -> float:
        """The mean over the runs where it is defined; NaN where it is in none."""
        return sum(self.defined) / len(self.defined) if self.defined else math.nan

    @property
    def sd(self) -> float | None:
        """The standard deviation over those runs (n - 1), None for fewer than two."""
        if len(self.defined) < 2:
            return None
        return math.sqrt(sum((v - self.mean) ** 2 for v in self.defined) / (len(self.defined) - 1))


@dataclass(frozen=True)
class Evaluation:
    """What runs of one kind score on a split.

    Args:
        model, task, setting, options: What was trained.
        data, split, fingerprint: What it was judged on.
        simulated: True where the features are simulated; every output says so.
        clips: Clips judged.
        seeds: One a run.
        selection: How the epochs were chosen.
        measured: The metrics, the headline first.
        trivial: Scores of answers that look at nothing.
        classes: Per class and run: the task's metric and a count.
        notes: What a reader must know besides: leaks, other data than trained on.
    """

    model: str
    task: str
    setting: str
    options: Json
    data: str
    split: str
    fingerprint: str
    simulated: bool
    clips: int
    seeds: tuple[int, ...]
    selection: str
    measured: tuple[Measured, ...]
    trivial: Mapping[str, float]
    classes: tuple[Mapping[str, Mapping[str, float]], ...]
    notes: tuple[str, ...] = ()

    def __getitem__(self, metric: str) -> Measured:
        return next(m for m in self.measured if m.metric == metric)

    def __str__(self) -> str:
        return "\n".join([*self._head(), "", *self._table(), "", *self._foot()])

    def _head(self) -> list[str]:
        options = " ".join(f"{k}={v}" for k, v in self.options.items())
        told = " (simulated features)" if self.simulated else ""
        return [
            f"{self.model} {self.task}, setting {self.setting} {options}".rstrip(),
            f"{self.data}{told}, split {self.split}, {self.clips} clips, "
            f"data {self.fingerprint[:12]}",
        ]

    def _table(self) -> list[str]:
        lines = [f"{'':24}{'ours':>9}{'sd':>8}{'n':>4}   paper (AVE)"]
        for m in self.measured:
            unit = " s" if m.metric == "boundary_error" else ""
            mean = f"{m.mean:.2f}" + unit if unit else f"{100 * m.mean:.2f}"
            sd = "-" if m.sd is None else f"{m.sd if unit else 100 * m.sd:.2f}"
            paper = f"{100 * m.paper.value:.1f} ({m.paper.where})" if m.paper else "-"
            lines.append(f"{m.metric:24}{mean:>9}{sd:>8}{len(m.defined):>4}   {paper}")
        return lines

    def _foot(self) -> list[str]:
        looked = [f"{name} {100 * value:.2f}" for name, value in self.trivial.items()]
        return [
            "answers that look at nothing: " + ", ".join(looked),
            "epoch selection: " + self.selection,
            *(f"note: {n}" for n in self.notes),
        ]

    def to_json(self) -> Json:
        """Everything as plain data; shares in [0, 1], None for what isn't defined."""
        return {
            "model": self.model,
            "task": self.task,
            "setting": self.setting,
            "options": self.options,
            "data": self.data,
            "split": self.split,
            "fingerprint": self.fingerprint,
            "simulated": self.simulated,
            "clips": self.clips,
            "seeds": list(self.seeds),
            "selection": self.selection,
            "metrics": {m.metric: _measured(m) for m in self.measured},
            "trivial": dict(self.trivial),
            "classes": [_finite(dict(c)) for c in self.classes],
            "notes": list(self.notes),
        }

    def rows(self) -> list[Json]:
        """A flat row a metric, for CSV."""
        common = {
            "model": self.model,
            "task": self.task,
            "setting": self.setting,
            "options": " ".join(f"{k}={v}" for k, v in self.options.items()),
            "data": self.data,
            "split": self.split,
            "simulated": self.simulated,
            "fingerprint": self.fingerprint,
            "selection": self.selection,
        }
        ours = [
            {
                **common, "metric": m.metric, "mean": _number(m.mean), "sd": _number(m.sd),
                "n": len(m.defined), "paper": m.paper.value if m.paper else "",
                "paper_where": m.paper.where if m.paper else "",
            }
            for m in self.measured
        ]  # fmt: skip
        headline = "window_accuracy" if self.task == "cml" else "segment_accuracy"
        looked = [
            {**common, "metric": f"{headline} of {name}", "mean": _number(v), "sd": "", "n": "",
             "paper": "", "paper_where": ""}
            for name, v in self.trivial.items()
        ]  # fmt: skip
        return ours + looked

    def save(self, path: str | Path) -> None:
        """Write ``.json`` or ``.csv``, whole or not at all.

        Raises:
            UsageError: for another ending.
        """
        save([self], path)


def save(evaluations: Sequence[Evaluation], path: str | Path) -> None:
    """Write evaluations to one file; the ending, ``.csv`` or ``.json``, chooses the form."""
    ending = Path(path).suffix.lower()
    if ending == ".csv":
        write_whole(path, table([row for e in evaluations for row in e.rows()]))
    elif ending == ".json":
        found = [e.to_json() for e in evaluations]
        write_whole(path, json.dumps(found[0] if len(found) == 1 else found, indent=1) + "\n")
    else:
        raise UsageError(f"no writer for {path}", wanted=".csv or .json", do="change the ending")


def table(rows: Sequence[Json]) -> str:
    """Rows as CSV with a line of names."""
    out = io.StringIO()
    writer = csv.DictWriter(
        out, list(dict.fromkeys(k for r in rows for k in r)), lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _number(value: float | None) -> float | str:
    return "" if value is None or math.isnan(value) else round(value, 6)


def _measured(m: Measured) -> Json:
    paper = None if m.paper is None else {**vars(m.paper)}
    held = {"mean": m.mean, "sd": m.sd, "n": len(m.defined), "values": list(m.values)}
    return {**_finite(held), "paper": paper}


def _finite(value: Any) -> Any:
    """The same with None for what isn't a number: JSON has no NaN."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list) else value


def evaluate(
    runs: Runs | Sequence[Runs],
    data: Dataset | Split | None = None,
    *,
    split: str | None = None,
    batch: int = 64,
) -> Evaluation:
    """Judge runs of one kind (one model, task and setting; several seeds) on a split, in float32.

    Args:
        runs: One or several: what :func:`avel.fit` gave, loaded models, or their folders.
        data: A data set or a split; None takes what the (first) run was trained on.
        split: Name of the split of a data set; the task's test split if None.
        batch: Clips that go through the network together.

    Raises:
        UsageError: if the runs aren't of one kind, or there is no data.
        CheckpointError: if the features are of other backbones than a run was trained on.
        DataError: if the data lack the split or have other classes.
    """
    listed = [runs] if isinstance(runs, Run | Trained | str | Path) else list(runs)
    found = [_trained(run) for run in listed]
    if data is None:
        data = next((run.data for run in listed if isinstance(run, Run)), None)
    _one_kind(found)
    if data is None:
        raise UsageError("no data to judge on", do="give a data set or a split")
    first = found[0]
    task, classes = first.card["task"], first.classes
    chosen = _split(data, task, split, len(classes))
    notes = _notes(found, data, chosen)
    held = resident(chosen)
    measured = [_judge(run, held, batch) for run in found]
    papers = reported(
        first.card["model"], task, first.card["options"], models.get(first.card["model"]).options()
    )
    return Evaluation(
        model=first.card["model"],
        task=task,
        setting=first.card["setting"],
        options=_options(first),
        data=data.name if isinstance(data, Dataset) else first.card["data"]["name"],
        split=chosen.name,
        fingerprint=_fingerprint(data, chosen),
        simulated=_simulated(found, data),
        clips=len(chosen),
        seeds=tuple(int(run.card["seed"]) for run in found),
        selection=_selection(found),
        measured=tuple(
            Measured(
                name,
                tuple(m[name] for m, _ in measured),
                next((p for p in papers if p.metric == name), None),
            )
            for name in measured[0][0]
        ),
        trivial=tasks.trivial(chosen, task, len(classes)),
        classes=tuple(per_class for _, per_class in measured),
        notes=tuple(notes),
    )


def _trained(run: Runs) -> Trained:
    if isinstance(run, Run):
        return run.trained
    return run if isinstance(run, Trained) else load_model(run)


def kind(run: Trained) -> tuple[Any, ...]:
    """What runs must share for their mean to make sense: all but the seed."""
    keys = ("model", "task", "setting", "options", "classes", "audio_card", "visual_card")
    recipe = {k: v for k, v in run.card.get("recipe", {}).items() if k != "options"}
    return tuple(json.dumps(v, sort_keys=True) for v in [*(run.card[k] for k in keys), recipe])


def _one_kind(runs: Sequence[Trained]) -> None:
    if not runs:
        raise UsageError("no run to evaluate", do="name at least one")
    if len({kind(run) for run in runs}) > 1:
        raise UsageError(
            "runs of different kinds have no mean",
            wanted="one model, task, setting, recipe and data, several seeds",
            do="evaluate them one kind at a time",
        )


def _split(data: Dataset | Split, task: str, name: str | None, classes: int) -> Split:
    if isinstance(data, Split):
        return tasks.prepare(data, task, setting=None, classes=classes)
    known = data.splits
    wanted = name or tasks.split_names(task, known)[2]
    if wanted in ("train", "val", "test"):
        wanted = tasks.split_names(task, known)[("train", "val", "test").index(wanted)]
    if wanted not in known:
        raise DataError(
            f"{data.name} has no split {wanted!r}", wanted=", ".join(known), do="choose one"
        )
    return tasks.prepare(known[wanted], task, classes=classes)


def _judge(
    run: Trained, held: Resident, batch: int
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    task, step = run.card["task"], run.step
    device = torch.device("cpu")
    predict = predictor(run.network.to(device), held, task, batch=batch, device=device)
    if task != "cml":
        once = predict(held.split)

        def predict(_: Split) -> Any:  # judged twice, predicted once
            return once

    count = len(run.classes)
    return (
        _headline_first(tasks.evaluate(predict, held.split, task, count, step=step), task),
        tasks.details(predict, held.split, task, run.classes),
    )


def _headline_first(found: dict[str, float], task: str) -> dict[str, float]:
    headline = tasks.selection_metric(task)
    return {headline: found[headline], **found}


def _notes(runs: Sequence[Trained], data: Dataset | Split, chosen: Split) -> list[str]:
    """What a reader must know; refuses data that the runs can't be judged on."""
    first, notes = runs[0], []
    if isinstance(data, Dataset):
        _check_data(first, data)
        if any(run.card["data"]["fingerprint"] != fingerprint(data) for run in runs):
            notes.append("judged on other data than it was trained on")
    seen = [len(set(run.train_ids or ()) & set(chosen.ids)) for run in runs]
    if any(seen):
        notes.append(f"LEAK: {max(seen)} of {len(chosen)} clips were trained on")
    if any(run.train_ids is None for run in runs):
        notes.append("not known which clips it was trained on")
    leaks = [int(run.card.get("leak", 0)) for run in runs]
    if any(leaks):
        count = max(leaks, key=abs)
        what = f"{count} of the clips judged" if count > 0 else "clips that aren't known"
        notes.append(f"LEAK: it started from a model trained on {what} (--allow-leak)")
    return notes


def _check_data(run: Trained, data: Dataset) -> None:
    if data.classes != run.classes:
        odd = sorted({*data.classes} ^ {*run.classes})
        raise DataError(
            f"{data.name} has other classes than the run" + (f": {', '.join(odd[:5])}" * bool(odd)),
            wanted=f"the run's {len(run.classes)} in their order",
            do="train on this data set",
        )
    for own, theirs in (
        (run.audio_card, data.audio_card),
        (run.visual_card, data.visual_card),
    ):
        if backbone_identity(own) != backbone_identity(theirs):
            raise CheckpointError(
                f"features of {backbone_name(theirs)}",
                wanted=f"those of {backbone_name(own)}",
                do="extract the data set again with the run's backbones",
            )


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


def _selection(runs: Sequence[Trained]) -> str:
    rules = sorted({str(run.card["metrics"].get("selection", "not said")) for run in runs})
    epochs = ", ".join(str(run.card["metrics"].get("epoch", "?")) for run in runs)
    asked = runs[0].card["recipe"].get("epochs", "?")
    return f"{' / '.join(rules)}; epoch {epochs} of {asked}"
