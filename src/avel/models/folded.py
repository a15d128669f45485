"""Co-spatial attention of a training step without f2(v): no region enters the common space.

With h = relu(W1 v + b1) of a region, f2(v) = W2 h + b2 is only multiplied and summed: the
attention's z = w3 . (a * f2(v)) is q . h + c with q = W2^T (w3 * a), and F^T Z, a sum over the
regions, is W2 applied to the sum of z h. So the three products of all regions with a matrix of the
common width are products of each segment's own regions with a vector, and the gradient of h is of
rank two a segment. The numbers are the same but for their last digits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from avel.models.perceptron import mask_by, on_constants, rectified

#: Types of the maps for which this was measured to be faster; bfloat16 is right, but unmeasured.
FASTER = (torch.float32,)


def folds(audio: Tensor, visual: Tensor) -> bool:
    """Whether a step gains by it: on constants, on the processor, one sound a picture.

    Ten sounds a picture take as long as f2(v), and more of them longer.

    Args:
        audio: (N, S, A).
        visual: (N, T, K, V).
    """
    return on_constants(visual) and visual.dtype in FASTER and audio.shape[1] == 1


def folded(
    a: Tensor, visual: Tensor, wide: nn.Linear, narrow: nn.Linear, third: nn.Linear
) -> tuple[Tensor, Tensor]:
    """f3(F) and F^T Z of the map F = a * f2(v) (xue2021 eq. 1, 2) in all S x T pairs.

    Args:
        a: (N, S, C'), f1 of the audio.
        visual: (N, T, K, V) without a gradient.
        wide, narrow: f2's layers.
        third: f3.

    Returns:
        z (N, S, T, K) and F^T Z (N, S, T, C'), in the weights' type.
    """
    n, t = visual.shape[:2]
    with torch.autocast(visual.device.type, enabled=False):  # bfloat16 for the regions alone
        a = a.to(third.weight.dtype)
        u = a * third.weight[0]
        q, c = u @ narrow.weight, u @ narrow.bias + third.bias  # (N, S, hidden), (N, S)
        z, sums = _Regions.apply(  # type: ignore[no-untyped-call]
            visual.flatten(0, 1), _over_pictures(q, t), _over_pictures(c, t),
            wide.weight.to(visual.dtype), wide.bias.to(visual.dtype),
        )  # fmt: skip
        f2_sums = sums @ narrow.weight.t() + z.sum(-1, keepdim=True) * narrow.bias
        z, f2_sums = (x.unflatten(0, (n, t)).transpose(1, 2) for x in (z, f2_sums))
        return z, f2_sums * a[:, :, None]


def _over_pictures(x: Tensor, t: int) -> Tensor:
    """(N, S, ...) for every one of T visual segments: (N*T, S, ...)."""
    return x[:, None].expand(-1, t, *x.shape[1:]).flatten(0, 1)


class _Regions(torch.autograd.Function):
    """z = q . h + c and the sums of z h over the regions, for M pictures with S sounds each.

    Vectors are rows of batched products: as columns they take several times as long.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, q: Tensor, c: Tensor, w1: Tensor, b1: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(M, K, V), (M, S, hidden), (M, S), f2's first layer -> (M, S, K), (M, S, hidden)."""
        h = rectified(x.flatten(0, 1), w1, b1).view(*x.shape[:2], -1)  # (M, K, hidden)
        low = q.to(h.dtype)
        z = torch.bmm(low, h.transpose(1, 2)).to(q.dtype) + c[..., None]
        ctx.save_for_backward(x, h, low, z)
        return z, torch.bmm(z.to(h.dtype), h).to(q.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, z_grad: Tensor, sums_grad: Tensor) -> tuple[Tensor | None, ...]:
        x, h, q, z = ctx.saved_tensors
        s = sums_grad.to(h.dtype)
        z_grad = z_grad + torch.bmm(s, h.transpose(1, 2)).to(z.dtype)  # (M, S, K)
        low = z_grad.to(h.dtype)
        left, right = torch.cat([low, z.to(h.dtype)], 1), torch.cat([q, s], 1)
        inner = torch.bmm(left.transpose(1, 2), right).flatten(0, 1)  # (M*K, hidden)
        mask_by(inner, h.flatten(0, 1))
        q_grad = torch.bmm(low, h).to(z.dtype)
        b1 = (inner.new_ones(1, len(inner)) @ inner)[0]
        return None, q_grad, z_grad.sum(-1), inner.t() @ x.flatten(0, 1), b1
