"""A backbone of one layer, for tests of how backbones are run."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from avel.backbones.base import AudioBackbone, Card, Weights


class OneLayer(AudioBackbone):
    """One linear layer: (N, 96, 64) -> (N, 8); ``sizes`` are the batches that it read."""

    card = Card("layer", "audio", (8,), "", "")
    weights: ClassVar[dict[str, Weights]] = {}

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.layer = nn.Linear(96 * 64, 8)
        self.sizes: list[int] = []

    def load_weights(self, path: Path, weights: Weights) -> None: ...

    def forward(self, inputs: Tensor) -> Tensor:
        self.sizes.append(len(inputs))
        row: Tensor = self.layer(inputs.flatten(1).to(self.layer.weight.dtype))
        return row
