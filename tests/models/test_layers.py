"""Layers that several papers share: each against torch's own operations."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from avel.models.layers import Dropout, over_regions

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


@pytest.mark.parametrize("share", [0.0, 0.2, 0.9, 0.999999])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_dropout_drops_its_share_and_keeps_the_mean(share: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.ones(301, 7, 101, dtype=dtype, requires_grad=True)
    y = Dropout(share)(x)
    y.double().sum().backward()
    dropped = float((y == 0).double().mean())
    assert dropped == pytest.approx(share, abs=4 * (0.25 / x.numel()) ** 0.5)
    if share < 0.99:
        assert float(y.detach().double().mean()) == pytest.approx(1, abs=0.02)
    assert x.grad is not None and torch.equal(x.grad, y.detach())


def test_dropout_follows_the_seed_and_rests_in_evaluation() -> None:
    x, layer = torch.ones(5, 33), Dropout(0.5)
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(layer(x))
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert layer.eval()(x) is x


def test_neighbours_of_one_draw_are_dropped_independently() -> None:
    torch.manual_seed(0)
    kept = (Dropout(0.5)(torch.ones(100_000)) > 0).double().view(-1, 4)
    correlation = torch.corrcoef(kept.T) - torch.eye(4)
    assert float(correlation.abs().max()) < 0.03


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_dropout_refuses_a_share_that_is_none(share: float) -> None:
    with pytest.raises(ValueError, match="expected 0 or more"):
        Dropout(share)
