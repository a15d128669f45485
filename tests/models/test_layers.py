"""Layers that several papers share: each against torch's own operations."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from avel.models.layers import over_regions

torch.set_num_threads(1)


def two_layers(bias: bool) -> tuple[nn.Linear, nn.Linear]:
    torch.manual_seed(0)
    return nn.Linear(16, 24), nn.Linear(24, 5, bias=bias)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shape", [(2, 3, 4, 16), (1, 1, 1, 16), (7, 16)])
def test_over_regions_is_two_layers(shape: tuple[int, ...], dtype: torch.dtype, bias: bool) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    first, second = two_layers(bias)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        expected = second(first(x).relu())
        recorded = over_regions(x, first, second)
        with torch.no_grad():
            in_place = over_regions(x, first, second)
    assert torch.equal(recorded, expected) and torch.equal(in_place, expected)


def test_inputs_get_their_gradient() -> None:
    x = torch.randn(3, 16, requires_grad=True)
    over_regions(x, *two_layers(True)).sum().backward()
    assert x.grad is not None and bool(x.grad.abs().sum() > 0)
