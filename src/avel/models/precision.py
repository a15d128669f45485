"""Arithmetic in bfloat16 or float32."""

from __future__ import annotations

import torch
from torch import Tensor

from avel.models.base import Output


def autocast(device: torch.device, bf16: bool) -> torch.autocast:
    """bfloat16 arithmetic where ``bf16`` is True, else float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16)


def widened(x: Tensor) -> Tensor:
    """A tensor of float type as float32; float64 stays, so that gradients can be checked in it."""
    return x if x.dtype == torch.float64 else x.float()


def in_float(output: Output) -> Output:
    """An output with all its numbers widened: losses and metrics never run in bfloat16."""
    return Output(
        scores=None if output.scores is None else widened(output.scores),
        labels=output.labels,
        attention=None if output.attention is None else widened(output.attention),
        parts={n: widened(p) if p.is_floating_point() else p for n, p in output.parts.items()},
    )


def has_bf16_units(device: torch.device) -> bool:
    """Whether the device computes bfloat16 in hardware (AVX-512 BF16 or AMX, a recent GPU)."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in checks)
