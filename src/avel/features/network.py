"""A backbone as it runs on this machine: its precision, compiled or not, and its error.

``auto`` chooses by what :mod:`avel.features.speed` measures. The error of bfloat16 is measured
against float32 on the first real inputs of a run. Weights are cast once, never call by call.
"""

from __future__ import annotations

import copy
import shutil
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avel.backbones.base import Backbone, ClipBackbone, VisualBackbone
from avel.errors import UsageError
from avel.features.speed import (
    Run,
    compiled,
    compiled_if_faster,
    compiler_name,
    eager_speed,
    without_tf32,
)
from avel.types import Json

Precision = Literal["auto", "float32", "bf16"]
PRECISIONS = ("auto", "float32", "bf16")

#: ``auto`` takes bfloat16 where it is at least so many times faster.
WORTH = 1.2
#: Inputs by which the error is measured.
_COMPARED = 4


class Network:
    """A backbone that reads batches of any size and returns float32 arrays.

    Args:
        backbone: With its weights, in eval mode.
        card: Its card as plain data.
        precision: ``"float32"``, ``"bf16"``, or ``"auto"`` for the one that is faster here, bf16
            compiled where ``inputs`` are so many that it pays.
        device: Where it runs.
        batch: Inputs that go through it together; compiled networks are compiled for that many.
        compile: Whether it goes through torch.compile at its first batch (10 to 35 s, needs a
            C++ compiler on a CPU).
        inputs: How many are to come, about; 0 where it isn't known, or few.

    Raises:
        UsageError: for another precision, and where there is no compiler.
    """

    def __init__(
        self,
        backbone: Backbone,
        card: Json,
        *,
        precision: Precision = "float32",
        device: torch.device,
        batch: int = 32,
        compile: bool = False,
        inputs: float = 0.0,
    ) -> None:
        if precision not in PRECISIONS:
            raise UsageError(f"there is no precision {precision}", expected=" or ".join(PRECISIONS))
        self.device, self.batch = device, batch
        _place(backbone, device)
        if compile:
            _check_compiler(device)
        fast = _in_bf16(backbone) if precision != "float32" else None
        run: Run | None = None
        if precision == "auto" and fast is not None:
            measured = eager_speed(backbone, fast, device)
            if measured["float32"] < WORTH * measured["bf16"]:
                fast = None
            elif not compile:
                run = compiled_if_faster(
                    fast, device, batch=batch, inputs=inputs, seconds=measured["bf16"]
                )
        self.precision: Precision = "float32" if fast is None else "bf16"
        #: 1 - cosine between the outputs in bfloat16 and in float32, the worst of the inputs
        #: compared; None before the first batch, and in float32.
        self.error: float | None = None
        #: What runs: the backbone itself, or its copy in bfloat16.
        self.backbone = backbone if fast is None else fast
        self._compared_with = None if fast is None else backbone  # dropped after the comparison
        self._card = card
        if compile:
            run = compiled(self.backbone)
        self.compiled = run is not None
        self._run: Run = self.backbone if run is None else run
        self._full = batch if self.compiled else 0

    @property
    def card(self) -> Json:
        """The backbone's card; with its precision where that isn't float32, and if compiled."""
        card = dict(self._card)
        if self.precision != "float32":
            card["precision"] = self.precision
        if self.compiled:
            card["compiled"] = True
        return card

    @property
    def measured_card(self) -> Json:
        """The card with the measured ``error`` of the precision, once there was a batch."""
        return self.card if self.error is None else {**self.card, "error": round(self.error, 9)}

    @torch.no_grad()
    @without_tf32()
    def __call__(self, inputs: Tensor) -> NDArray[np.float32]:
        """The backbone's output for inputs as its ``forward`` takes them."""
        parts = torch.split(inputs, self.batch)
        rows = np.concatenate([self._outputs(part) for part in parts])
        if self._compared_with is not None:
            some = inputs[:_COMPARED]
            exact = _array(self._compared_with(some.to(self.device)))
            self.error = worst_cosine(rows[:_COMPARED], exact)
            self._compared_with = None
        return rows

    def _outputs(self, inputs: Tensor) -> NDArray[np.float32]:
        count = len(inputs)
        if count < self._full:  # a compiled network knows one size
            inputs = torch.cat([inputs, inputs.new_zeros(self._full - count, *inputs.shape[1:])])
        return _array(self._run(inputs.to(self.device)))[:count]


def worst_cosine(rows: NDArray[np.floating], exact: NDArray[np.floating]) -> float:
    """The largest 1 - cosine between rows of two arrays (n, ...); 0 for rows that are both zero."""
    size = int(np.prod(rows.shape[1:]))
    a, b = (x.reshape(len(x), size).astype(np.float64) for x in (rows, exact))
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    both_zero = ~a.any(axis=1) & ~b.any(axis=1)
    cosines = np.where(both_zero, 1.0, (a * b).sum(axis=1) / np.maximum(norms, 1e-300))
    return float(np.clip(1 - cosines, 0, None).max(initial=0.0))


def _in_bf16(backbone: Backbone) -> Backbone:
    """A copy with all its weights in bfloat16, cast once."""
    return copy.deepcopy(backbone).to(torch.bfloat16)


def _place(backbone: Backbone, device: torch.device) -> None:
    backbone.to(device)
    if isinstance(backbone, VisualBackbone) and not isinstance(backbone, ClipBackbone):
        backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _check_compiler(device: torch.device) -> None:
    if device.type == "cpu" and shutil.which(compiler_name()) is None:
        raise UsageError(
            f"a network can't be compiled: the C++ compiler {compiler_name()} isn't there",
            hint="install g++, name another in CXX, or go without compiling",
        )


def _array(rows: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = rows.float().cpu().numpy()
    return array
