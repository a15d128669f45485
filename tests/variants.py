"""Every variant of every registered model, found by what models and papers say of themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from avel.errors import UsageError
from avel.models.base import Batch, Model, TaskName, build_model, models
from avel.papers import rows

A, V, C, H, W = 6, 8, 3, 2, 3
#: What sizes must be for clips of A, V, H x W and at most 37 segments.
FITTING: dict[str, dict[str, Any]] = {
    "av": {"width": H * W, "audio_regions": 2, "c3d_dim": 3},
    "jca": {"length": 37},
}


@dataclass(frozen=True)
class Variant:
    """A model trained for a task with some options.

    Args:
        model: Registry name.
        task: What it is built for.
        options: Those that aren't the default, as text.
        told: The same as values.
    """

    model: str
    task: TaskName
    options: str
    told: tuple[tuple[str, Any], ...]

    def __str__(self) -> str:
        return f"{self.model}-{self.task}" + (f"-{self.options}" if self.options else "")

    def build(self, seed: int = 0) -> Model:
        """A small network of it, in eval mode.

        Raises:
            UsageError: if the model refuses the options.
        """
        torch.manual_seed(seed)
        return build_model(
            self.model, audio_dim=A, visual_dim=V, classes=C, task=self.task, **self.small()
        ).eval()

    def small(self) -> dict[str, Any]:
        """All options with sizes that take no time: any above 16 divided by 16."""
        options = {**models.get(self.model).options(), **dict(self.told)}
        fit = FITTING.get(self.model, {})
        return {k: fit.get(k, max(2, v // 16) if _large(v) else v) for k, v in options.items()}


def _large(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 16


def _sets(name: str, task: str) -> Iterator[tuple[Mapping[str, Any], bool]]:
    """Option sets, and whether the model may refuse them: one change alone may make no sense."""
    cls = models.get(name)
    yield {}, False
    for row in rows(name):
        if row.task == task:
            yield row.options, False
    for option, values in cls.choices.items():
        for value in values:
            yield {option: value}, True
    for option, default in cls.options().items():
        if isinstance(default, bool):
            yield {option: not default}, True


def variants() -> tuple[list[Variant], list[tuple[Variant, str]]]:
    """Those that can be built, and those that the model refuses with what it says.

    Raises:
        UsageError: if a model refuses its default, or what a paper's row is made of.
    """
    found: dict[Variant, None] = {}
    refused: dict[Variant, str] = {}
    for name, cls in models:
        defaults = cls.options()
        for task in cls.card.tasks:
            for options, may in _sets(name, task):
                told = {k: v for k, v in options.items() if defaults[k] != v}
                text = ",".join(f"{k}={v}" for k, v in told.items())
                variant = Variant(name, task, text, tuple(told.items()))
                try:
                    variant.build()
                except UsageError as e:
                    if not may:
                        raise
                    refused[variant] = str(e)
                else:
                    found[variant] = None
    return list(found), list(refused.items())


def descend(model: Model, batch: Batch, *, lr: float, steps: int) -> list[float]:
    """The losses of some steps of Adam on one batch without padding."""
    optimizer, losses = torch.optim.Adam(model.parameters(), lr), []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model.loss(model(audio=batch.audio, visual=batch.visual), batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
