"""Two layers over regions: what is done together must give what is done apart."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from avel.models import perceptron
from avel.models.perceptron import over_regions

torch.set_num_threads(1)


def layers(bias: bool) -> tuple[nn.Linear, nn.Linear]:
    torch.manual_seed(0)
    return nn.Linear(16, 24), nn.Linear(24, 5, bias=bias)


def learnt(x: Tensor, *, bias: bool, apart: bool) -> list[Tensor]:
    """The answer and every gradient, under autocast where x is bfloat16."""
    first, second = layers(bias)
    with torch.autocast("cpu", torch.bfloat16, enabled=x.dtype == torch.bfloat16):
        out = second(first(x).relu()) if apart else over_regions(x, first, second)
    (out.float() * torch.linspace(-1, 1, out.numel()).reshape(out.shape)).sum().backward()
    weights = [w.grad for w in (*first.parameters(), *second.parameters())]
    return [out.detach(), *(w for w in weights if w is not None)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shape", [(2, 3, 4, 16), (1, 1, 1, 16), (7, 16)])
def test_together_as_apart(shape: tuple[int, ...], dtype: torch.dtype, bias: bool) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    found, expected = (learnt(x, bias=bias, apart=apart) for apart in (False, True))
    assert len(found) == len(expected) == (5 if bias else 4)
    coarse = dtype == torch.bfloat16
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
        torch.testing.assert_close(
            ours, theirs, rtol=2e-2 if coarse else 1e-5, atol=2e-2 if coarse else 1e-6
        )


def test_only_a_training_step_on_constants_is_done_together() -> None:
    x = torch.zeros(2, 16, dtype=torch.bfloat16)
    assert perceptron._fused(x) == torch.ops.mkldnn._is_mkldnn_bf16_supported()
    assert not perceptron._fused(x.float())
    assert not perceptron._fused(x.clone().requires_grad_())
    with torch.no_grad():
        assert not perceptron._fused(x)


def test_inputs_get_their_gradient_where_they_want_one() -> None:
    x = torch.randn(3, 16, requires_grad=True)
    over_regions(x, *layers(True)).sum().backward()
    assert x.grad is not None and bool(x.grad.abs().sum() > 0)
