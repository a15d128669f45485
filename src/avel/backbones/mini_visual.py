"""A small network for pictures whose weights ship in the package, to try avel out at once.

Trained by ``scripts/train_minis.py`` on pictures of Toybox's drawn things, and good for those.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from avel.backbones.base import Card, VisualBackbone, Weights, backbones
from avel.backbones.mini_common import Block, packaged_weights, read_packaged
from avel.weights import fill

#: Channels of the maps.
WIDTH = 128


@backbones.register("mini_visual")
class MiniVisual(VisualBackbone):
    """Seven convolutions from 224x224 to 7x7, the first with stride 4.

    Args:
        norm: With batch normalisation, for training.
    """

    card = Card(
        name="mini_visual",
        modality="visual",
        output=(7, 7, WIDTH),
        input="RGB frames, (N, 224, 224, 3) uint8, resized bilinearly without crop",
        frames=4,
        paper="none: avel's own",
        note="For trying out: trained on drawn Toybox things, knows nothing of real pictures.",
    )
    weights = packaged_weights("mini_visual")

    def __init__(self, *, norm: bool = False) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            Block(3, 32, kernel=8, stride=4, norm=norm),  # 56x56
            Block(32, 64, stride=2, norm=norm),  # 28x28
            Block(64, 64, norm=norm),
            Block(64, 128, stride=2, norm=norm),  # 14x14
            Block(128, 128, norm=norm),
            Block(128, 128, norm=norm),
            Block(128, WIDTH, stride=2, norm=norm),  # 7x7
        )
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def load_weights(self, path: Path, weights: Weights) -> None:
        """Fill from the packaged file.

        Raises:
            WeightsError: if the file is none of this network's.
        """
        fill(self, read_packaged(path), source=path)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, inputs: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 RGB -> (N, H / 32, W / 32, 128), not negative; 7x7 for 224x224."""
        dtype = next(self.parameters()).dtype
        x = inputs.permute(0, 3, 1, 2).to(dtype, memory_format=torch.channels_last)
        maps: Tensor = self.blocks(x / 64 - 2)
        return maps.permute(0, 2, 3, 1)
