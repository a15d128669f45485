"""Models run in float64, where their gradients are those of finite differences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from avel.models.base import Batch, Model
from tests.variants import Variant, variants

EVERY, _ = variants()
B, T, C = 3, 4, 3
STEP = 1e-7  #: of the finite difference along one random direction of all inputs and weights


class Loss(nn.Module):
    """A model and its loss for some clips as one function of features and weights."""

    def __init__(self, model: Model, batch: Batch) -> None:
        super().__init__()
        self.model, self.batch = model, batch

    def forward(self, audio: Tensor, visual: Tensor) -> Tensor:
        output = self.model(audio=audio, visual=visual)
        return self.model.loss(output, self.batch)


def batch_of_doubles(seed: int = 0) -> Batch:
    from tests.variants import A, H, V, W

    g = torch.Generator().manual_seed(seed)
    audio = torch.rand(B, T, A, generator=g, dtype=torch.float64)
    visual = torch.rand(B, T, H, W, V, generator=g, dtype=torch.float64)
    labels = torch.full((B, T), C)
    labels[0, :2], labels[1, 1:3], labels[2, 2:] = 0, 1, 2
    return Batch(audio, visual, None, labels, torch.eye(C + 1, dtype=torch.float64)[:B])


@pytest.mark.parametrize("variant", EVERY, ids=str)
def test_gradients_of_loss_are_those_of_finite_differences(variant: Variant) -> None:
    batch = batch_of_doubles()
    model = variant.build().double()
    loss = Loss(model, batch)
    weights = {n: w.detach().clone().requires_grad_() for n, w in loss.named_parameters()}

    def value(audio: Tensor, visual: Tensor, *changed: Tensor) -> Tensor:
        result: Tensor = functional_call(
            loss, dict(zip(weights, changed, strict=True)), (audio, visual)
        )
        return result

    inputs = [x.clone().requires_grad_() for x in (batch.audio, batch.visual)]
    tensors = [*inputs, *weights.values()]
    loss_value = value(*tensors)
    assert loss_value.dtype == torch.float64
    gradients = torch.autograd.grad(loss_value, tensors, allow_unused=True)
    generator = torch.Generator().manual_seed(1)
    direction = [torch.randn(t.shape, generator=generator, dtype=t.dtype) for t in tensors]
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, direction, strict=True)
                if g is not None)  # fmt: skip
    with torch.no_grad():
        ahead, behind = (
            float(value(*(t + h * d for t, d in zip(tensors, direction, strict=True))))
            for h in (STEP, -STEP)
        )
    assert slope == pytest.approx((ahead - behind) / (2 * STEP), rel=1e-4, abs=1e-7)
