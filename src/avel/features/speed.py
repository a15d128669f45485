"""How fast a backbone is here in each way to run it: measured once, then remembered.

``speed.json`` of the cache folder has the measurements by processor, torch's version and backbone,
and those of compiled networks by batch, threads and compiler too, so that one machine always
chooses alike. A lock lets one process measure and the others wait for its result.
"""

from __future__ import annotations

import json
import logging
import math
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avel.backbones.base import Backbone, ClipBackbone
from avel.files import cache_folder, locked, write_whole
from avel.media.mel import BANDS, FRAMES

#: What runs: a backbone, or a compiled one.
Run = Callable[[Tensor], Tensor]
#: Seconds by name: ``float32`` and ``bf16`` of one input on one core; or ``eager`` and ``compiled``
#: of one input, and ``compiling``; empty where compiling failed.
Speed = Mapping[str, float]

#: Compiling is tried where the frames to come take longer than this without, in seconds: trying
#: takes about a tenth of that on idle cores.
TRIAL = 600.0
#: A run is compiled where it gets so many times faster, the compiling included.
WORTH_COMPILING = 1.1
#: Inputs by which the two precisions are timed.
_TIMED = 4
_SIZE = 224
_LARGEST, _MOST, _LONGEST = 2**20, 1000, 500  # bytes, entries, characters of a key
_SLOWEST = 1e4  # seconds
_PRECISIONS = {"float32", "bf16"}
_COMPILED: tuple[set[str], ...] = ({"eager", "compiled", "compiling"}, set())
_log = logging.getLogger("avel")


# --- choosing ------------------------------------------------------------------------------------


def eager_speed(backbone: Backbone, fast: Backbone, device: torch.device) -> Speed:
    """Seconds of one input in ``float32`` and in ``bf16``.

    Args:
        backbone: In float32.
        fast: Its copy in bfloat16.
        device: Where both are.
    """
    key = _key(backbone, device)
    measured = _remembered(key, _PRECISIONS)
    if measured is None:
        with _alone():
            measured = _remembered(key, _PRECISIONS)
            if measured is None:
                inputs = example(backbone, 1 if isinstance(backbone, ClipBackbone) else _TIMED)
                measured = {
                    "float32": _seconds(backbone, inputs, device) / len(inputs),
                    "bf16": _seconds(fast, inputs, device) / len(inputs),
                }
                _store(key, measured)
    return measured


def compiled_if_faster(
    backbone: Backbone, device: torch.device, *, batch: int, inputs: float, seconds: float
) -> Run | None:
    """The network compiled and warm, where that makes all of a run faster; else None.

    What isn't known yet is tried where the run is long, see :data:`TRIAL`. Where compiling fails,
    or there is no compiler, a warning says so once. Only on a CPU, and only where the cache folder
    can be written to: else one run could choose otherwise than the next.

    Args:
        backbone: What may be compiled; it runs in eager mode otherwise.
        device: Where it is.
        batch: Inputs that go through it together.
        inputs: How many are to come.
        seconds: Of one input on one core in eager mode.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu":
        return None
    compiler = shutil.which(compiler_name()) or f"no {compiler_name()}"
    key = _key(backbone, device, f"{batch} inputs", f"{threads} threads", compiler)
    run, measured = None, _remembered(key, *_COMPILED)
    if measured is None:
        if inputs * seconds / threads < TRIAL or not _store():
            return None
        with _alone():
            measured = _remembered(key, *_COMPILED)
            if measured is None:
                run, measured = _tried(backbone, device, batch)
                _store(key, measured)
    if not compiling_pays(measured, inputs):
        return None
    return _tried(backbone, device, batch, timed=False)[0] if run is None else run


def compiling_pays(measured: Speed, inputs: float) -> bool:
    """Whether a run over so many inputs gets :data:`WORTH_COMPILING` times faster by compiling.

    Args:
        measured: Of ``eager``, ``compiled`` and ``compiling``; empty where it failed.
        inputs: How many are to come.
    """
    if not measured:
        return False
    compiled = measured["compiling"] + inputs * measured["compiled"]
    return inputs * measured["eager"] >= WORTH_COMPILING * compiled


# --- compiling -----------------------------------------------------------------------------------


def compiler_name() -> str:
    """The C++ compiler that networks are compiled by: ``CXX``, or g++."""
    return os.environ.get("CXX", "g++")


def compiled(backbone: Backbone) -> Run:
    """The network with its weights frozen, compiled at its first batch, for that batch's size."""
    run: Run = torch.compile(backbone, dynamic=False, options={"freezing": True})
    return run


def _tried(
    backbone: Backbone, device: torch.device, batch: int, *, timed: bool = True
) -> tuple[Run | None, Speed]:
    """The compiled network after its first batch, and its speed; None where that fails.

    Whatever else runs here meanwhile slows down eager mode and the compiled network alike: they
    run in turns, and the fastest of each counts.
    """
    inputs = example(backbone, batch)
    try:
        if shutil.which(compiler_name()) is None:
            raise FileNotFoundError(f"the C++ compiler {compiler_name()} isn't there")
        run = compiled(backbone)
        first = _wall_seconds(run, inputs, device)
    except Exception as e:  # torch's, the compiler's, the system's
        why = (str(e).strip() or type(e).__name__).splitlines()[0][:200]
        _log.warning(
            "avel: the network %s runs uncompiled: %s; on some processors a compiled one takes "
            "half the time",
            backbone.card.name,
            why,
        )
        return None, {}
    if not timed:
        return run, {}
    turns = [[_wall_seconds(way, inputs, device) for way in (backbone, run)] for _ in range(2)]
    eager, after = (min(taken) for taken in zip(*turns, strict=True))
    count = len(inputs)
    return run, {
        "eager": eager / count,
        "compiled": after / count,
        "compiling": max(first - after, 1e-9),
    }


# --- measuring -----------------------------------------------------------------------------------


def example(backbone: Backbone, count: int) -> Tensor:
    """So many inputs of the right shape, for timing."""
    noise = torch.Generator().manual_seed(0)
    if backbone.card.modality == "audio":
        return torch.randn(count, FRAMES, BANDS, generator=noise)
    clip = (backbone.card.frames,) if isinstance(backbone, ClipBackbone) else ()
    shape = (count, *clip, _SIZE, _SIZE, 3)
    return torch.randint(0, 256, shape, generator=noise, dtype=torch.uint8)


@contextmanager
def without_tf32() -> Iterator[None]:
    """Convolutions in real float32: newer GPUs leave out 13 of its bits unless they are told."""
    cudnn: Any = torch.backends.cudnn
    before, cudnn.allow_tf32 = cudnn.allow_tf32, False
    try:
        yield
    finally:
        cudnn.allow_tf32 = before


@torch.no_grad()
@without_tf32()
def _seconds(backbone: Backbone, inputs: Tensor, device: torch.device) -> float:
    """Of the fastest of some runs, after one that warms up; on a CPU what one core spends.

    A core's own time doesn't depend on what else the machine does.
    """
    inputs = inputs.to(device)
    watch = time.thread_time if device.type == "cpu" else time.perf_counter
    taken = []
    with _one_thread():
        backbone(inputs).float().cpu()
        for _ in range(2):
            start = watch()
            backbone(inputs).float().cpu()
            taken.append(watch() - start)
    return max(min(taken), 1e-9)


@torch.no_grad()
@without_tf32()
def _wall_seconds(run: Run, inputs: Tensor, device: torch.device) -> float:
    """Of one run with all threads."""
    start = time.perf_counter()
    run(inputs.to(device)).float().cpu()
    return max(time.perf_counter() - start, 1e-9)


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


# --- remembering ---------------------------------------------------------------------------------


def _path() -> Path:
    return cache_folder() / "speed.json"


def _key(backbone: Backbone, device: torch.device, *more: str) -> str:
    return "|".join((_processor(device), torch.__version__, backbone.card.name, *more))[:_LONGEST]


@contextmanager
def _alone() -> Iterator[None]:
    """While this process measures, others that would wait for it."""
    with suppress(OSError):
        cache_folder().mkdir(parents=True, exist_ok=True)
    with locked(_path().with_suffix(".lock")):
        yield


def _read() -> dict[str, Speed]:
    """What was measured; what isn't whole, or not ours, is left out."""
    try:
        with _path().open("rb") as f:
            data = f.read(_LARGEST + 1)
        speeds = json.loads(data) if len(data) <= _LARGEST else {}
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(speeds, dict):
        return {}
    return {k: v for k, v in speeds.items() if len(k) <= _LONGEST and _is_speed(v)}


def _is_speed(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(n, float) and math.isfinite(n) and 0 < n < _SLOWEST for n in value.values()
    )


def _remembered(key: str, *names: set[str]) -> Speed | None:
    """A measurement of such names, where there is one."""
    measured = _read().get(key)
    return None if measured is None or set(measured) not in names else measured


def _store(key: str = "", measured: Speed | None = None) -> bool:
    """Add a measurement, if any; False where the cache folder can't be written to."""
    speeds = {k: v for k, v in _read().items() if k != key}
    if measured is not None:
        speeds[key] = measured
    newest = dict(list(speeds.items())[-_MOST:])
    with suppress(OSError):  # then it is measured anew the next time
        write_whole(_path(), json.dumps(newest, indent=1))
        return True
    return False


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
