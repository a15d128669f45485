"""A row of a table and what came of its training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from avel.evaluation.results import Measured
from avel.experiments.spec import Outcome, Training
from avel.models.base import models
from avel.papers import BY_CLASS, CLASS_NAMES, PARAMETERS, Row
from avel.tasks import task_named
from avel.training.recipes import setting_options


@dataclass(frozen=True)
class RowResult:
    """A row of a table and what came of its training.

    Args:
        table: The table's name.
        row: What is printed.
        training: What is trained.
        outcomes: One a seed that is done.
        why_not: Why it can't be trained on these data.
    """

    table: str
    row: Row
    training: Training
    outcomes: tuple[Outcome, ...] = ()
    why_not: str = ""

    @property
    def metrics(self) -> tuple[str, ...]:
        """What is shown: the paper's, or for a row of our own the task's."""
        printed = tuple(self.row.values) if self.row.paper else ()
        return printed or task_named(self.row.task).metrics

    def measured(self, metric: str, classes: Sequence[str] = ()) -> Measured:
        """Ours over the seeds: shares, and parameters in millions; by class where it is AVE's."""
        return Measured(metric, tuple(_value(o, metric, classes) for o in self.outcomes))

    def beside(self, metric: str, which: str) -> Measured | None:
        """The metric as another epoch scores it, None where a seed lacks that.

        Args:
            metric: Of ``metrics``.
            which: ``"last"`` the last epoch, ``"test_chosen"`` the one that is best on test.
        """
        name = f"{metric}_{which}"
        if not self.outcomes or any(name not in o.evaluation["metrics"] for o in self.outcomes):
            return None
        return self.measured(name)

    def changed(self) -> dict[str, Any]:
        """Fields and options that differ from the row's own recipe."""
        recipe = self.training.recipe
        model, task = models.get(self.row.model), self.training.task
        implied = setting_options(model, task, self.training.setting)
        usual = model.recipe_of(task, {**self.row.options, **implied})
        options = {**model.options(), **usual.options, **self.row.options, **implied}
        names = [f.name for f in fields(usual) if f.name != "options"]
        plain = {n: getattr(recipe, n) for n in names if getattr(recipe, n) != getattr(usual, n)}
        return plain | {k: v for k, v in recipe.options.items() if options[k] != v}

    def notes(self) -> list[str]:
        """What a reader must know of the row."""
        shown = {k: v for k, v in self.changed().items() if k not in ("epochs", "precision")}
        notes = [self.row.remark, pairs_text(shown)]
        if not self.outcomes:
            notes.append(f"not trained: {self.why_not}" if self.why_not else "not trained yet")
        notes += {note: None for o in self.outcomes for note in o.evaluation["notes"]}
        return [note for note in notes if note]


def _value(outcome: Outcome, metric: str, classes: Sequence[str]) -> float:
    if metric == PARAMETERS:
        return outcome.parameters / 1e6
    if not metric.startswith(BY_CLASS):
        value = outcome.evaluation["metrics"][metric]["values"][0]
    elif len(classes) == len(CLASS_NAMES):
        name = classes[CLASS_NAMES.index(metric.removeprefix(BY_CLASS))]
        value = outcome.evaluation["classes"][0][name]["clip_accuracy"]
    else:  # other classes than AVE's
        value = None
    return float("nan") if value is None else float(value)


def pairs_text(pairs: Mapping[str, Any]) -> str:
    """``key=value`` pairs, one space between them."""
    return " ".join(f"{k}={v}" for k, v in pairs.items())
