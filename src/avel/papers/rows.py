"""A row of a paper's table, and a number of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

SEGMENT = "segment_accuracy"
#: Trainable numbers in millions: what two of duan2021's tables print besides.
PARAMETERS = "parameters_millions"
#: What stands before the class in the metric of an accuracy by class.
BY_CLASS = "class_accuracy:"


@dataclass(frozen=True)
class Reported:
    """A number that a paper prints.

    Args:
        paper: Author and year.
        where: Table or figure, and row.
        metric: Our name of the metric.
        value: A share in [0, 1].
    """

    paper: str
    where: str
    metric: str
    value: float

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} ({self.paper}, {self.where})"


@dataclass(frozen=True)
class Row:
    """A row of a table: a system that is trained, and what is printed of it.

    Args:
        paper: Author and year; for a row of our own "".
        table: As the paper numbers it (``"III"``, ``"S2"``), ``"fig5"``, or a section's number.
        name: What the table calls the system.
        model: Our registry name.
        task: What is trained.
        options: The model options that make it what it is.
        values: What is printed, by metric: accuracies in percent, parameters in millions.
        setting: The task's; "" for its default, which is what the papers' rows have.
        remark: What a reader must know besides.
        copied: True where the paper quotes another's number.
        mean_is_ours: True where the paper prints both directions and not their mean.
    """

    paper: str
    table: str
    name: str
    model: str
    task: str
    options: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)
    setting: str = field(default="", kw_only=True)
    remark: str = field(default="", kw_only=True)
    copied: bool = field(default=False, kw_only=True)
    mean_is_ours: bool = field(default=False, kw_only=True)

    @property
    def where(self) -> str:
        """Table, figure or section, and the row's name."""
        if self.table.startswith("fig"):
            return f"fig. {self.table.removeprefix('fig')}, {self.name}"
        return f"{'section' if '.' in self.table else 'table'} {self.table}, {self.name}"

    def numbers(self) -> Iterator[Reported]:
        """Each accuracy as what stands beside ours."""
        for metric, value in self.values.items():
            if metric != PARAMETERS:
                mean = ", mean of both" * (metric == "mean_accuracy" and self.mean_is_ours)
                where = self.where + mean + (f"; {self.remark}" if self.remark else "")
                yield Reported(self.paper, where, metric, round(value / 100, 6))


def cml_values(a2v: float, v2a: float, mean: float | None = None) -> dict[str, float]:
    """CML's three metrics; the mean is worked out where none is printed."""
    mean = round((a2v + v2a) / 2, 2) if mean is None else mean
    return {"a2v": a2v, "v2a": v2a, "mean_accuracy": mean}
