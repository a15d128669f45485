"""Which device computes, as a torch device or an error, and how the processor's threads wait."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from avel.errors import UsageError

if TYPE_CHECKING:
    import torch

_NAME = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
_EXPECTED = "auto (the processor), cpu, cuda, cuda:N or mps"


def check_device(name: str) -> str:
    """The name, with ``"auto"`` replaced by ``AVEL_DEVICE`` or ``"cpu"``; imports no torch.

    Args:
        name: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"mps"``. ``"auto"`` is the
            processor: no measurement on a GPU has been committed yet.

    Raises:
        UsageError: for any other name.
    """
    chosen = os.environ.get("AVEL_DEVICE") or "cpu" if name == "auto" else name
    if not _NAME.fullmatch(chosen):
        raise UsageError(f"there is no device {chosen!r}", expected=_EXPECTED)
    return "cpu" if chosen == "auto" else chosen


def torch_device(name: str) -> torch.device:
    """The torch device of a name.

    Args:
        name: As for :func:`check_device`.

    Raises:
        UsageError: for another name, or a device that this machine or this torch lacks.
    """
    import torch

    chosen = torch.device(check_device(name))
    counted = ""
    if chosen.type == "cuda":
        count = torch.cuda.device_count()
        present = (chosen.index or 0) < count
        counted = f": torch {torch.__version__} finds {count} CUDA devices"
    else:
        present = chosen.type == "cpu" or torch.backends.mps.is_available()
    if not present:
        raise UsageError(
            f"device {str(chosen)!r} isn't available{counted}",
            expected=_EXPECTED,
            hint="leave --device out to compute on the processor; `avel check` lists devices",
        )
    return chosen


def sleep_while_waiting() -> None:
    """Let OpenMP's threads sleep while they wait for each other; they spin by default.

    Where a decoder runs beside the networks, or another program on the machine, there are more
    threads than cores, and threads that spin hold up those that they wait for. OpenMP reads the
    environment once, when torch is imported: commands that decode and compute at once call this
    before. ``OMP_WAIT_POLICY`` in the environment goes first.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
