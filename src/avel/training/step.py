"""A training step: gather clips, loss, gradients, Adam; on a GPU recorded once and replayed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from avel.data.resident import Resident
from avel.models.base import Batch, Model, Recipe
from avel.models.precision import autocast, in_float

if TYPE_CHECKING:
    from lightning_fabric import Fabric

#: Turns a step without arguments into one that repeats it: see :func:`cuda_graph`.
Recorder = Callable[[Callable[[], Tensor]], Callable[[], Tensor]]
#: Adam's settings that belong to the device, not to the run.
DEVICE_SETTINGS = ("fused", "foreach", "capturable")
#: Steps done before a recording, so that libraries have chosen their kernels and workspaces.
WARM_UP = 3


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


def make_adam(network: nn.Module, recipe: Recipe, device: torch.device) -> torch.optim.Adam:
    """The paper's optimizer: all weights in one pass where the device has a kernel for that."""
    return torch.optim.Adam(
        network.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay,
        fused=device.type in ("cpu", "cuda"), capturable=device.type == "cuda",
    )  # fmt: skip


def restore_adam(adam: Any, state: Mapping[str, Any]) -> None:
    """Restore an optimizer's state, whatever device it was saved on."""
    device_settings = [{k: group[k] for k in DEVICE_SETTINGS} for group in adam.param_groups]
    groups = [
        {**g, **settings}
        for g, settings in zip(state["param_groups"], device_settings, strict=True)
    ]
    adam.load_state_dict({**state, "param_groups": groups})


class Stepper:
    """Takes training steps on a resident split.

    Args:
        fabric: Whose device and processes.
        objective, adam: As ``fabric.setup`` gave them.
        clips: What is trained on.
        recipe: ``batch`` and ``clip_norm`` count.
    """

    def __init__(
        self, fabric: Fabric, objective: nn.Module, adam: Any, clips: Resident, recipe: Recipe
    ) -> None:
        self.fabric, self.objective, self.adam, self.clips = fabric, objective, adam, clips
        self.recipe = recipe
        self._rows: Tensor | None = None
        self._replay: Callable[[], Tensor] | None = None

    def __call__(self, rows: Tensor, weight: float = 1.0) -> Tensor:
        """Train on the clips at some positions; their loss, on the device, not waited for.

        Args:
            rows: (B,) int64 positions.
            weight: What the gradient is multiplied by.
        """
        if self._replay is not None and self._rows is not None and len(rows) == len(self._rows):
            self._rows.copy_(rows)
            return self._replay()
        return self._step(rows.to(self.clips.lengths.device), weight)

    def set_rate(self, rate: float) -> None:
        """Take another learning rate from the next step on; a recorded step is recorded anew."""
        if all(group["lr"] == rate for group in self.adam.param_groups):
            return
        for group in self.adam.param_groups:
            group["lr"] = rate
        if self._replay is not None:
            self._replay = None
            self.record()

    def _step(self, rows: Tensor, weight: float = 1.0) -> Tensor:
        batch = self.clips.batch(rows, device=self.fabric.device, reuse=True)
        batch = augmented(batch, mirror=self.recipe.mirror, roll=self.recipe.roll)
        loss: Tensor = self.objective(batch)
        self.adam.zero_grad()
        self.fabric.backward(loss if weight == 1.0 else loss * weight)
        if self.recipe.clip_norm:  # not Fabric's: it waits for the norm to see if it's finite
            nn.utils.clip_grad_norm_(self.objective.parameters(), self.recipe.clip_norm)
        self.adam.step()
        return loss.detach()

    def record(self, recorder: Recorder | None = None) -> bool:
        """Record the step on a full batch, so that a replay launches all its kernels at once.

        Only where one process trains on a GPU, on clips of one length, and the model's step never
        waits for the device; elsewhere, and where recording fails, steps go on one kernel at a
        time. Weights and optimizer are what they were.

        Args:
            recorder: :func:`cuda_graph` by default, where the device is a GPU.

        Returns:
            Whether steps are replayed from now on.
        """
        if recorder is None and self.fabric.device.type == "cuda":
            recorder = cuda_graph
        size = self.recipe.batch
        fits = self.fabric.world_size == 1 and self.clips.equal and size <= len(self.clips)
        if recorder is None or not fits:
            return False
        self._rows = torch.arange(size, device=self.clips.lengths.device)
        rows, before = self._rows, _copies(self._state())
        self.objective.train()
        try:
            self._replay = recorder(lambda: self._step(rows))
        except RuntimeError:  # the step waits for the device somewhere: it can't be recorded
            self._replay = None
        self._put_back(before)
        return self._replay is not None

    def _state(self) -> dict[str, Tensor]:
        """Every tensor that a step changes, by name."""
        tensors = {f"model.{n}": t for n, t in self.objective.state_dict().items()}
        for number, slot in self.adam.state_dict()["state"].items():
            tensors |= {f"adam.{number}.{k}": t for k, t in slot.items() if isinstance(t, Tensor)}
        return tensors

    def _put_back(self, before: dict[str, Tensor]) -> None:
        """Copy into the same memory, which was recorded; Adam's new tensors start at 0."""
        with torch.no_grad():
            for name, now in self._state().items():
                now.copy_(before[name]) if name in before else now.zero_()
        self.adam.zero_grad()


def _copies(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


@contextmanager
def _no_waiting() -> Iterator[None]:
    """Raise RuntimeError on whatever waits for the device, before a recording can fail."""
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(mode)


def cuda_graph(step: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """The step as a CUDA graph, after some runs that let libraries choose their kernels.

    Args:
        step: Without arguments; it reads and writes the same memory every time and never waits
            for the device.

    Raises:
        RuntimeError: if it does wait.
    """
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            step()
        with _no_waiting():
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step()

    def replay() -> Tensor:
        graph.replay()
        return loss

    return replay
