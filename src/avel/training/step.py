"""A training step: gather clips, loss, gradients, the optimizer, the average of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from avel.data.resident import Resident
from avel.models.base import Batch, Model, Recipe
from avel.models.precision import autocast, in_float

if TYPE_CHECKING:
    from lightning_fabric import Fabric

#: An optimizer's settings that belong to the device, not to the run.
DEVICE_SETTINGS = ("fused", "foreach", "capturable")


class Objective(nn.Module):
    """The model and its loss as one module, so that devices and processes see one forward."""

    def __init__(self, model: Model, bf16: bool) -> None:
        super().__init__()
        self.model, self.bf16 = model, bf16

    def forward(self, batch: Batch) -> Tensor:
        """The loss of a batch, a scalar in float32."""
        with autocast(batch.audio.device, self.bf16):
            output = self.model(audio=batch.audio, visual=batch.visual, mask=batch.mask)
            return self.model.loss(in_float(output), batch).float()


def augmented(batch: Batch, *, mirror: bool, roll: bool) -> Batch:
    """The same clips with random mirrored and rolled copies: other ones at every step.

    Args:
        batch: The clips.
        mirror: Mirror the maps of each clip, left and right, with probability 1/2.
        roll: Begin each clip at a random one of its segments; those before follow at its end.
    """
    clips, segments = batch.audio.shape[:2]
    device = batch.audio.device
    changed: dict[str, Tensor] = {}
    if mirror:
        mirrored = torch.rand(clips, device=device) < 0.5
        visual = batch.visual
        changed["visual"] = torch.where(mirrored[:, None, None, None, None], visual.flip(3), visual)
    if roll:
        position = torch.arange(segments, device=device).expand(clips, segments)
        length = (
            torch.full((clips,), segments, device=device)
            if batch.mask is None
            else batch.mask.sum(1)
        )
        start = (torch.rand(clips, device=device) * length).long()
        rolled = (position + start[:, None]) % length[:, None]
        position = torch.where(position < length[:, None], rolled, position)
        clip = torch.arange(clips, device=device)[:, None]
        for name in ("audio", "visual", "labels"):
            tensor = changed.get(name, getattr(batch, name))
            if tensor is not None:
                changed[name] = tensor[clip, position]
    return replace(batch, **changed)


def make_optimizer(
    network: nn.Module, recipe: Recipe, device: torch.device
) -> torch.optim.Optimizer:
    """The recipe's optimizer; Adam takes all weights in one pass where the device can.

    RMSprop is Keras' by default (ED-TCN's code): its running mean of squares keeps 0.9 a step,
    where PyTorch's default keeps 0.99.
    """
    if recipe.optimizer == "rmsprop":
        return torch.optim.RMSprop(
            network.parameters(), lr=recipe.lr, alpha=0.9, weight_decay=recipe.weight_decay
        )
    return torch.optim.Adam(
        network.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay,
        fused=device.type in ("cpu", "cuda"),
    )  # fmt: skip


def restore_optimizer(optimizer: Any, state: Mapping[str, Any]) -> None:
    """Restore an optimizer's state, whatever device it was saved on."""
    device_settings = [
        {k: group[k] for k in DEVICE_SETTINGS if k in group} for group in optimizer.param_groups
    ]
    groups = [
        {**g, **settings}
        for g, settings in zip(state["param_groups"], device_settings, strict=True)
    ]
    optimizer.load_state_dict({**state, "param_groups": groups})


class Stepper:
    """Takes training steps on a resident split.

    Args:
        fabric: Whose device and processes.
        objective, optimizer: As ``fabric.setup`` gave them.
        clips: What is trained on.
        recipe: ``clip_norm`` counts, and what changes the clips at random.
    """

    def __init__(
        self, fabric: Fabric, objective: nn.Module, optimizer: Any, clips: Resident, recipe: Recipe
    ) -> None:
        self.fabric, self.objective, self.optimizer = fabric, objective, optimizer
        self.clips = clips
        self.recipe = recipe

    def __call__(self, rows: Tensor, weight: float = 1.0) -> Tensor:
        """Train on the clips at some positions; their loss, on the device, not waited for.

        Args:
            rows: (B,) int64 positions.
            weight: What the gradient is multiplied by.
        """
        rows = rows.to(self.clips.lengths.device)
        batch = self.clips.batch(
            rows, device=self.fabric.device, reuse=True, copied=self.recipe.copied
        )
        batch = augmented(batch, mirror=self.recipe.mirror, roll=self.recipe.roll)
        loss: Tensor = self.objective(batch)
        self.optimizer.zero_grad()
        self.fabric.backward(loss if weight == 1.0 else loss * weight)
        if self.recipe.clip_norm:  # not Fabric's: it waits for the norm to see if it's finite
            nn.utils.clip_grad_norm_(self.objective.parameters(), self.recipe.clip_norm)
        self.optimizer.step()
        return loss.detach()

    def set_rate(self, rate: float) -> None:
        """Take another learning rate from the next step on."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate


class WeightAverage:
    """The exponential moving average of a network's parameters over training steps.

    Buffers aren't averaged: where the average is applied, they stay the network's own. PyTorch's
    ``AveragedModel`` isn't used, because it would wait for the device at every step.

    Args:
        network: On the device that it is trained on; the average starts at its weights.
        decay: The share of itself that the average keeps at a step, in [0, 1). Step n keeps
            n / (n + 10) where that is less, so that the initial weights are soon forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.parameters: dict[str, Tensor] = dict(network.named_parameters())
        self.values = {n: p.detach().clone() for n, p in self.parameters.items()}
        self.decay = decay

    def update(self, step: int) -> None:
        """Take in the weights after a step, the first of which is 1."""
        decay = min(self.decay, step / (step + 10))
        blend = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        blend([*self.values.values()], [*self.parameters.values()], step)

    def restore(self, values: Mapping[str, Tensor]) -> None:
        """Continue from other values, on any device.

        Raises:
            ValueError: if their names or shapes aren't the parameters'.
        """
        if _shapes(values) != _shapes(self.values):
            raise ValueError("its averaged weights aren't those of this network")
        _copy(values, self.values)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the network its averaged weights, and in the end those of the last step again."""
        raw = {n: p.detach().clone() for n, p in self.parameters.items()}
        _copy(self.values, self.parameters)
        try:
            yield
        finally:
            _copy(raw, self.parameters)


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {n: t.shape for n, t in tensors.items()}


@torch.no_grad()
def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    for name, tensor in target.items():
        tensor.copy_(source[name])
