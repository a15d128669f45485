"""Results of an evaluation, printed as lines, written as CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Protocol

from avel.errors import UsageError, counted
from avel.files import write_whole
from avel.papers import Reported
from avel.tasks import task_named
from avel.types import Json


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
        """The values that are numbers: a boundary error needs a detected event."""
        return tuple(v for v in self.values if not math.isnan(v))

    @property
    def mean(self) -> float:
        """The mean over the runs where it is defined; NaN where it is in none."""
        return fmean(self.defined) if self.defined else math.nan

    @property
    def sd(self) -> float | None:
        """The standard deviation over those runs (n - 1), None for fewer than two."""
        return stdev(self.defined) if len(self.defined) > 1 else None


#: Fields of an evaluation that stand in every row of its CSV.
_COMMON = ("model", "task", "setting", "background_clips", "options", "data", "split", "simulated",
           "fingerprint", "selection")  # fmt: skip


@dataclass(frozen=True)
class Evaluation:
    """Scores of runs of one kind on a split.

    Args:
        model, task, setting, options: What was trained.
        data, split, fingerprint: What was evaluated on.
        simulated: True where the features are simulated; every output says so.
        clips: Clips evaluated.
        seeds: One a run.
        selection: How the epochs were selected.
        measured: The metrics, the headline first.
        baselines: Scores of constant predictions, by name.
        classes: Per class and run: the task's metric and a count.
        notes: What a reader must know besides: leaks, other data than trained on.
        background_clips: WSEL: background clips that training saw beside the split's own; None
            for other tasks, or where it isn't known.
        event_baselines: Event F1 at IoU 0.5 of constant predictions, by name; empty for a task
            without events.
        predictions: Of each run, those of each clip, see :meth:`avel.tasks.Task.predictions`.
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
    baselines: Mapping[str, float]
    classes: tuple[Mapping[str, Mapping[str, float]], ...]
    notes: tuple[str, ...] = ()
    background_clips: int | None = None
    event_baselines: Mapping[str, float] = field(default_factory=dict)
    predictions: tuple[Json, ...] = field(default=(), repr=False)

    def __getitem__(self, metric: str) -> Measured:
        return next(m for m in self.measured if m.metric == metric)

    def __str__(self) -> str:
        return "\n".join([*self._head(), "", *self._table(), "", *self._foot()])

    def _head(self) -> list[str]:
        options = " ".join(f"{k}={v}" for k, v in self.options.items())
        simulated = " (simulated features)" if self.simulated else ""
        background = "" if self.background_clips is None else f" ({_clips(self.background_clips)})"
        return [
            f"{self.model} {self.task}, setting {self.setting}{background} {options}".rstrip(),
            f"{self.data}{simulated}, split {self.split}, {self.clips} clips, "
            f"data {self.fingerprint[:12]}",
        ]

    def _table(self) -> list[str]:
        printed = any(m.paper for m in self.measured)
        lines = [f"{'':24}{'ours':>9}{'sd':>8}{'n':>4}" + "   paper (AVE)" * printed]
        for m in self.measured:
            unit = " s" if m.metric == "boundary_error" else ""
            mean = _mean_text(m)
            sd = "-" if m.sd is None else f"{m.sd if unit else 100 * m.sd:.2f}"
            paper = f"   {m.paper or '-'}" if printed else ""
            lines.append(f"{m.metric:24}{mean:>9}{sd:>8}{len(m.defined):>4}{paper}")
        return lines

    def _foot(self) -> list[str]:
        baselines = [f"{name} {100 * value:.2f}" for name, value in self.baselines.items()]
        events = [
            f"{name} {_mean_text(Measured('event_f1_0.5', (value,)))}"
            for name, value in self.event_baselines.items()
        ]
        return [
            f"baselines, {task_named(self.task).baseline_metric}: " + ", ".join(baselines),
            *(["baselines, event_f1_0.5: " + ", ".join(events)] if events else []),
            "epoch selection: " + self.selection,
            *(f"note: {n}" for n in self.notes),
        ]

    def to_json(self) -> Json:
        """Everything as plain data; shares in [0, 1], None for what isn't defined."""
        return {
            **{name: getattr(self, name) for name in _COMMON},
            "clips": self.clips,
            "seeds": list(self.seeds),
            "metrics": {m.metric: _measured(m) for m in self.measured},
            "baselines": dict(self.baselines),
            "event_baselines": finite(dict(self.event_baselines)),
            "classes": [finite(dict(c)) for c in self.classes],
            "notes": list(self.notes),
        }

    def rows(self) -> list[Json]:
        """A flat row a metric, for CSV."""
        common = {name: getattr(self, name) for name in _COMMON} | {
            "background_clips": "" if self.background_clips is None else self.background_clips,
            "options": " ".join(f"{k}={v}" for k, v in self.options.items()),
        }
        headline = task_named(self.task).baseline_metric
        baselines = [
            {**common, "metric": f"{metric} of {name}", "mean": plain_number(v)}
            for metric, scores in (
                (headline, self.baselines), ("event_f1_0.5", self.event_baselines),
            )
            for name, v in scores.items()
        ]  # fmt: skip
        by_class = [
            {**common, "class": name, **_row(m)}
            for name, metrics in self.by_class().items()
            for m in metrics
        ]
        empty = dict.fromkeys((*common, "class", *_row(self.measured[0])), "")
        ours = [{**common, **_row(m)} for m in self.measured]
        return [{**empty, **row} for row in ours + baselines + by_class]

    def by_class(self) -> dict[str, list[Measured]]:
        """The metrics of each class over the runs, by the class's name."""
        return {
            name: [
                Measured(metric, tuple(float(run[name][metric]) for run in self.classes))
                for metric in metrics
            ]
            for name, metrics in (self.classes[0] if self.classes else {}).items()
        }

    def class_table(self) -> str:
        """Means over the runs, a line a class: shares in percent, errors in seconds."""
        by_class = self.by_class()
        columns = [m.metric for m in next(iter(by_class.values()), [])]
        lines = [f"{'':32}" + "".join(f"{n:>17}" for n in columns)]
        for name, metrics in by_class.items():
            cells = "".join(f"{_mean_text(m):>17}" for m in metrics)
            lines.append(f"{name[:31]:32}{cells}")
        return "\n".join(lines)

    def save(self, path: str | Path) -> None:
        """Write ``.json`` or ``.csv``, whole or not at all.

        Raises:
            UsageError: for another ending.
        """
        save([self], path)


class Result(Protocol):
    """What can be written: an evaluation, or a cross-validation."""

    def rows(self) -> list[Json]:
        """Flat rows, for CSV."""

    def to_json(self) -> Json:
        """Everything as plain data."""


def save(results: Sequence[Result], path: str | Path) -> None:
    """Write results to one file; the ending, ``.csv`` or ``.json``, chooses the form.

    Raises:
        UsageError: for another ending.
    """
    ending = Path(path).suffix.lower()
    if ending == ".csv":
        write_whole(path, table([row for r in results for row in r.rows()]))
    elif ending == ".json":
        plain = [r.to_json() for r in results]
        write_whole(path, json.dumps(plain[0] if len(plain) == 1 else plain, indent=1) + "\n")
    else:
        raise UsageError(
            f"no writer for {path}", expected=".csv or .json", hint="change the ending"
        )


def table(rows: Sequence[Json]) -> str:
    """Rows as CSV with a line of names."""
    out = io.StringIO()
    writer = csv.DictWriter(
        out, list(dict.fromkeys(k for r in rows for k in r)), lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _clips(count: int) -> str:
    return counted(count, "background clip") if count else "no background clips"


def _mean_text(m: Measured) -> str:
    """A mean for people: a count, seconds or percent."""
    if math.isnan(m.mean):
        return "-"
    if m.metric in ("segments", "clips"):
        return f"{m.mean:.0f}"
    return f"{m.mean:.2f} s" if m.metric == "boundary_error" else f"{100 * m.mean:.2f}"


def _row(m: Measured) -> Json:
    paper = m.paper
    return {
        "metric": m.metric, "mean": plain_number(m.mean), "sd": plain_number(m.sd),
        "n": len(m.defined),
        "paper": paper.value if paper else "",
        "paper_where": f"{paper.paper}, {paper.where}" if paper else "",
    }  # fmt: skip


def plain_number(value: float | None) -> float | str:
    """A number for CSV, six decimals; empty for what isn't defined."""
    return "" if value is None or math.isnan(value) else round(value, 6)


def _measured(m: Measured) -> Json:
    paper = None if m.paper is None else {**vars(m.paper)}
    values = {"mean": m.mean, "sd": m.sd, "n": len(m.defined), "values": list(m.values)}
    return {**finite(values), "paper": paper}


def finite(value: Any) -> Any:
    """Plain data with None for what isn't a number: JSON has no NaN."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {k: finite(v) for k, v in value.items()}
    return [finite(v) for v in value] if isinstance(value, list | tuple) else value
