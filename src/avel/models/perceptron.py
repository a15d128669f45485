"""Two linear layers over every region: where nearly all of a training step's arithmetic lies."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def over_regions(x: Tensor, first: nn.Linear, second: nn.Linear) -> Tensor:
    """``second(relu(first(x)))`` of every region's features.

    In a bfloat16 training on the processor the first layer and its ReLU are one product, and the
    backward pass writes over its own large intermediate; the numbers are the same.

    Args:
        x: (..., V).
        first, second: V -> hidden -> width, both with a bias or the second without.

    Returns:
        (..., width).
    """
    if not _fused(x):
        plain: Tensor = second(F.relu(first(x), inplace=not torch.is_grad_enabled()))
        return plain
    weights = [
        w if w is None else w.to(x.dtype)
        for w in (first.weight, first.bias, second.weight, second.bias)
    ]
    flat: Tensor = _Perceptron.apply(x.flatten(0, -2), *weights)  # type: ignore[no-untyped-call]
    return flat.reshape(*x.shape[:-1], -1)


def on_constants(x: Tensor) -> bool:
    """Whether it is a step of a training on features that need no gradient, on the processor."""
    learns = torch.is_grad_enabled() and not x.requires_grad and not torch.compiler.is_compiling()
    return learns and x.device.type == "cpu"


def _fused(x: Tensor) -> bool:
    """Whether it is a step of a training on constants, in bfloat16, by oneDNN."""
    return on_constants(x) and x.dtype == torch.bfloat16 and onednn_has_bfloat16()


def rectified(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """ReLU of a linear layer of rows (N, V), without a gradient, in memory of one answer."""
    if x.dtype == torch.bfloat16 and onednn_has_bfloat16():
        hidden: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "relu", [], "")
        return hidden
    return torch.addmm(bias, x, weight.t()).relu_()


def mask_by(grad: Tensor, hidden: Tensor) -> None:
    """Zeros into a gradient where ReLU's answer of the same shape is zero; no view of either."""
    torch.ops.aten.threshold_backward.grad_input(grad, hidden, 0, grad_input=grad)


@cache
def onednn_has_bfloat16() -> bool:
    """Whether oneDNN computes in bfloat16 on this processor; without AVX-512 it raises if asked."""
    there: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return there and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class _Perceptron(torch.autograd.Function):
    """Linear, ReLU, Linear of rows (N, V) that need no gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor | None
    ) -> Tensor:
        hidden = rectified(x, w1, b1)  # (N, hidden)
        ctx.save_for_backward(x, hidden, w2)
        ctx.biased = b2 is not None
        return F.linear(hidden, w2, b2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, hidden, w2 = ctx.saved_tensors
        ones = grad.new_ones(1, len(grad))  # sums as products: faster in bfloat16
        inner = grad @ w2  # (N, hidden)
        mask_by(inner, hidden)
        b2 = (ones @ grad)[0] if ctx.biased else None
        return None, inner.t() @ x, (ones @ inner)[0], grad.t() @ hidden, b2
