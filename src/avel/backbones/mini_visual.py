"""A small network for pictures whose weights ship in the package, to try avel out at once.

Trained by ``scripts/train_minis.py`` on Toybox's drawn things and on CIFAR-10's photographs.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from avel.backbones.base import Card, VisualBackbone, Weights, backbones
from avel.backbones.blocks import pad_batch
from avel.backbones.mini_common import ConvBlock, Packaged, packaged_weights

#: Channels of the maps.
WIDTH = 128
#: Channels of the trunk, at each of the three sizes.
TRUNK_WIDTH = 128


class Trunk(nn.Module):
    """The layers of one size: seven convolutions, four of them added to their inputs.

    Args:
        norm: With batch normalisation, for training.
    """

    def __init__(self, *, norm: bool = False) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            [
                ConvBlock(3, 24, kernel=4, stride=2, norm=norm),
                ConvBlock(24, 48, stride=2, norm=norm),
                ConvBlock(48, 48, norm=norm),
                ConvBlock(48, 48, norm=norm),
                ConvBlock(48, TRUNK_WIDTH, stride=2, norm=norm),
                ConvBlock(TRUNK_WIDTH, TRUNK_WIDTH, norm=norm),
                ConvBlock(TRUNK_WIDTH, TRUNK_WIDTH, norm=norm),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) about -2..2 -> (N, 128, H / 8, W / 8), not negative."""
        for block in self.blocks:
            out = block(x)
            x = x + out if out.shape == x.shape else out
        return x


@backbones.register("mini_visual")
class MiniVisual(VisualBackbone, Packaged):
    """One trunk looks at the frame in full, half and quarter size; two convolutions join the three.

    So the same weights serve objects of 32 pixels and of 128.

    Args:
        norm: With batch normalisation, for training.
    """

    card = Card(
        name="mini_visual",
        modality="visual",
        output=(7, 7, WIDTH),
        input="RGB frames, (N, 224, 224, 3) uint8, resized bilinearly without crop",
        frames=2,
        paper="none: avel's own",
        note="For trying out: trained on drawn Toybox things and on ten kinds of CIFAR-10's "
        "photographs, knows nothing else.",
    )
    weights = packaged_weights("mini_visual")

    def __init__(self, *, norm: bool = False) -> None:
        super().__init__()
        self.trunk = Trunk(norm=norm)
        self.join = nn.Sequential(
            ConvBlock(6 * TRUNK_WIDTH, WIDTH, kernel=1, norm=norm),
            ConvBlock(WIDTH, WIDTH, norm=norm),
        )
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def load_weights(self, path: Path, weights: Weights) -> None:
        """Fill from the packaged file, and lay out the weights as they run fastest."""
        super().load_weights(path, weights)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, inputs: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 RGB -> (N, H / 32, W / 32, 128), not negative; 7x7 for 224x224."""
        maps: Tensor = self.join(self.pooled(inputs))
        return maps[: inputs.shape[0]].permute(0, 2, 3, 1)

    def pooled(self, inputs: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 RGB -> (N or more, 768, H / 32, W / 32): of each size the trunk's
        maximum and mean in every cell."""
        dtype = next(self.parameters()).dtype
        x = inputs.permute(0, 3, 1, 2).to(dtype, memory_format=torch.channels_last) / 64 - 2
        pooled = []
        for cell in (4, 2, 1):  # cells of 32 pixels, in the trunk's output
            maps = pad_batch(self.trunk(x))
            pooled += [functional.max_pool2d(maps, cell), functional.avg_pool2d(maps, cell)]
            x = pad_batch(functional.avg_pool2d(x, 2)) if cell > 1 else x
        return torch.cat(pooled, 1)
