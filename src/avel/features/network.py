"""A backbone as it runs on this machine: its precision, compiled or not, and its error.

bfloat16 is chosen where it is measured to be faster, and its error is measured against float32 on
the first real inputs of a run. Weights are cast once, never call by call.
"""

from __future__ import annotations

import copy
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avel.backbones.base import Backbone, ClipBackbone, VisualBackbone
from avel.errors import UsageError
from avel.files import cache_folder, write_whole
from avel.media.mel import BANDS, FRAMES
from avel.types import Json

Precision = Literal["auto", "float32", "bf16"]
PRECISIONS = ("auto", "float32", "bf16")

#: ``auto`` takes bfloat16 where it is at least so many times faster.
WORTH = 1.2
#: Inputs by which the two precisions are timed, and by which the error is measured.
_TIMED, _COMPARED = 4, 4
_SIZE = 224


@contextmanager
def _without_tf32() -> Iterator[None]:
    """Convolutions in real float32: newer GPUs leave out 13 of its bits unless they are told."""
    cudnn: Any = torch.backends.cudnn
    before, cudnn.allow_tf32 = cudnn.allow_tf32, False
    try:
        yield
    finally:
        cudnn.allow_tf32 = before


class Network:
    """A backbone that reads batches of any size and returns float32 arrays.

    Args:
        backbone: With its weights, in eval mode.
        card: Its card as plain data.
        precision: ``"float32"``, ``"bf16"``, or ``"auto"`` for the one that is faster here.
        device: Where it runs.
        batch: Inputs that go through it together; compiled networks are compiled for that many.
        compiled: Whether it goes through torch.compile at its first batch (10 to 35 s, needs a
            C++ compiler on a CPU).

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
        compiled: bool = False,
    ) -> None:
        if precision not in PRECISIONS:
            raise UsageError(f"there is no precision {precision}", expected=" or ".join(PRECISIONS))
        self.device, self.batch = device, batch
        _place(backbone, device)
        fast = _in_bf16(backbone) if precision != "float32" else None
        if precision == "auto" and fast is not None and gain(backbone, fast, device) < WORTH:
            fast = None
        self.precision: Precision = "float32" if fast is None else "bf16"
        #: 1 - cosine between the outputs in bfloat16 and in float32, the worst of the inputs
        #: compared; None before the first batch, and in float32.
        self.error: float | None = None
        #: What runs: the backbone itself, or its copy in bfloat16.
        self.backbone = backbone if fast is None else fast
        self._compared_with = None if fast is None else backbone  # dropped after the comparison
        self._card = card
        self._run: Callable[[Tensor], Tensor] = self.backbone
        self._full = batch if compiled else 0
        if compiled:
            self._run = _compiled(self._run, device)

    @property
    def card(self) -> Json:
        """The backbone's card; with its precision where that isn't float32."""
        plain = self.precision == "float32"
        return self._card if plain else {**self._card, "precision": self.precision}

    @property
    def measured_card(self) -> Json:
        """The card with the measured ``error`` of the precision, once there was a batch."""
        return self.card if self.error is None else {**self.card, "error": round(self.error, 9)}

    @torch.no_grad()
    @_without_tf32()
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


def gain(backbone: Backbone, fast: Backbone, device: torch.device) -> float:
    """How many times faster the bfloat16 copy is here; measured once and then stored.

    The measurement is stored in ``speed.json`` of the cache folder, by processor, torch's version
    and backbone, so that one machine always chooses alike.
    """
    key = "|".join((_processor(device), torch.__version__, backbone.card.name))
    path = cache_folder() / "speed.json"
    gains = _read(path)
    if key not in gains:
        inputs = _example(backbone)
        slow = _seconds(backbone, inputs, device)
        gains[key] = round(slow / _seconds(fast, inputs, device), 3)
        with suppress(OSError):  # a cache that can't be written to: measured anew the next time
            write_whole(path, json.dumps(_read(path) | gains, indent=1, sort_keys=True))
    return gains[key]


def _read(path: Path) -> dict[str, float]:
    try:
        gains = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(gains, dict):
        return {}
    return {k: v for k, v in gains.items() if isinstance(v, float) and 0 < v < 1e3}


def _processor(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    keys = ("model name", "cpu family", "model", "stepping")
    described = dict.fromkeys(line for line in lines if line.split("\t")[0].strip() in keys)
    names = [line.split(":", 1)[-1].strip() for line in described]
    return " ".join(names) or platform.processor() or platform.machine()


def _example(backbone: Backbone) -> Tensor:
    """Inputs of the right shape, for timing."""
    noise = torch.Generator().manual_seed(0)
    if backbone.card.modality == "audio":
        return torch.randn(_TIMED, FRAMES, BANDS, generator=noise)
    clip = (backbone.card.frames,) if isinstance(backbone, ClipBackbone) else ()
    shape = (1 if clip else _TIMED, *clip, _SIZE, _SIZE, 3)
    return torch.randint(0, 256, shape, generator=noise, dtype=torch.uint8)


@torch.no_grad()
@_without_tf32()
def _seconds(backbone: Backbone, inputs: Tensor, device: torch.device) -> float:
    """Of the fastest of some runs, after one that warms up; on a CPU what one core spends.

    A core's own time doesn't depend on what else the machine does.
    """
    inputs = inputs.to(device)
    watch = time.thread_time if device.type == "cpu" else time.perf_counter
    taken = []
    with _one_thread():
        _array(backbone(inputs))
        for _ in range(2):
            start = watch()
            _array(backbone(inputs))
            taken.append(watch() - start)
    return max(min(taken), 1e-9)


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _in_bf16(backbone: Backbone) -> Backbone:
    """A copy with all its weights in bfloat16, cast once."""
    return copy.deepcopy(backbone).to(torch.bfloat16)


def _place(backbone: Backbone, device: torch.device) -> None:
    backbone.to(device)
    if isinstance(backbone, VisualBackbone) and not isinstance(backbone, ClipBackbone):
        backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _compiled(run: Callable[[Tensor], Tensor], device: torch.device) -> Callable[[Tensor], Tensor]:
    compiler = os.environ.get("CXX", "g++")
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise UsageError(
            f"a network can't be compiled: the C++ compiler {compiler} isn't there",
            hint="install g++, name another in CXX, or go without compiling",
        )
    compiled: Callable[[Tensor], Tensor] = torch.compile(
        run, dynamic=False, options={"freezing": True}
    )
    return compiled


def _array(rows: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = rows.float().cpu().numpy()
    return array
