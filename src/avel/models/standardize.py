"""Standardised features: what small data sets need before any model's first layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: The least standard deviation of a channel, as a share of its modality's largest: what is nearly
#: constant in training must not become huge in a file that isn't.
LEAST = 1e-3


class Standardize(nn.Module):
    """(x - mean) / sd of every channel, and in training dropout of whole channels.

    A visual channel has one mean and one sd, those of its mean over the regions, and is dropped in
    all regions of a segment together.

    Args:
        audio_dim, visual_dim: Widths A and V.
        dropout: Share of the channels dropped in training, in [0, 1).
    """

    def __init__(self, audio_dim: int, visual_dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
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
        mean, sd = getattr(self, f"{modality}_mean"), getattr(self, f"{modality}_sd")
        scaled: Tensor = ((x - mean) / sd).to(x.dtype)
        if self.training and self.dropout:
            shape = (*x.shape[:2], *[1] * (x.ndim - 3), x.shape[-1])
            scaled = scaled * F.dropout(scaled.new_ones(shape), self.dropout)
        return scaled


def through(model: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A forward pre-hook: audio and visual through the model's ``intake``."""
    intake = model.intake
    assert isinstance(intake, Standardize)
    read = {name: intake(name, kwargs[name]) for name in ("audio", "visual")}
    return args, {**kwargs, **read}
