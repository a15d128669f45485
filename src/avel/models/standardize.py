"""Standardised features: what small data sets need before any model's first layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: The least standard deviation of a channel, as a share of its modality's largest: what is nearly
#: constant in training must not become huge in a file that isn't.
LEAST = 1e-3
#: So that a segment whose channels all equal their means isn't divided by 0.
_EPSILON = 1e-6


class Standardize(nn.Module):
    """(x - mean) / sd of every channel, every segment as strong as any other; dropout in training.

    A visual channel has one mean and one sd, those of its mean over the regions, and is dropped in
    all regions of a segment together. Then a segment is divided by the root mean square of its
    channels, a map by that of its mean over the regions. A segment of zeros, which had no signal,
    stays one.

    Args:
        audio_dim, visual_dim: Widths A and V.
        standardize: False leaves the features as they are, but for the dropout.
        dropout: Share of the channels dropped in training, in [0, 1).
    """

    def __init__(
        self, audio_dim: int, visual_dim: int, *, standardize: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.standardize, self.dropout = standardize, dropout
        for name, width in (("audio", audio_dim), ("visual", visual_dim)):
            self.register_buffer(f"{name}_mean", torch.zeros(width))
            self.register_buffer(f"{name}_sd", torch.ones(width))

    def take(self, modality: str, mean: Tensor, sd: Tensor) -> None:
        """Set a modality's means and standard deviations, (width,) each.

        Args:
            modality: ``"audio"`` or ``"visual"``.
            mean, sd: Of the training split's real segments.
        """
        least = (LEAST * sd.max()).clamp(min=torch.finfo(torch.float32).tiny)
        getattr(self, f"{modality}_mean").copy_(mean)
        getattr(self, f"{modality}_sd").copy_(sd.clamp(min=float(least)))

    def forward(self, modality: str, x: Tensor) -> Tensor:
        """(B, T, ..., width) likewise, in its own type."""
        scaled = self._scaled(modality, x) if self.standardize else x
        if self.training and self.dropout:
            shape = (*x.shape[:2], *[1] * (x.ndim - 3), x.shape[-1])
            scaled = scaled * F.dropout(scaled.new_ones(shape), self.dropout)
        return scaled

    def _scaled(self, modality: str, x: Tensor) -> Tensor:
        mean, sd = getattr(self, f"{modality}_mean"), getattr(self, f"{modality}_sd")
        centred = (x - mean) / sd
        whole = centred.flatten(2, -2).mean(2) if x.ndim > 3 else centred  # (B, T, width)
        strength = (whole.square().mean(-1) + _EPSILON).sqrt()  # (B, T)
        each = (*x.shape[:2], *[1] * (x.ndim - 2))
        signal = (x != 0).flatten(2).any(-1)
        scaled: Tensor = (centred / strength.reshape(each) * signal.reshape(each)).to(x.dtype)
        return scaled


def through(model: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A forward pre-hook: audio and visual through the model's ``intake``."""
    intake = model.intake
    assert isinstance(intake, Standardize)
    read = {name: intake(name, kwargs[name]) for name in ("audio", "visual")}
    return args, {**kwargs, **read}
