"""A small network for sound whose weights ship in the package, to try avel out at once.

Trained by ``scripts/train_minis.py`` on mixtures of Toybox's sounds and of ESC-10's recordings.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from avel.backbones.base import AudioBackbone, Card, backbones
from avel.backbones.mini_common import ConvBlock, Packaged, packaged_weights

#: Width of the features.
WIDTH = 128
#: Mean and spread of the log-mel values that it was trained on.
_MEAN, _SPREAD = -0.85, 1.5


@backbones.register("mini_audio")
class MiniAudio(AudioBackbone, Packaged):
    """Five convolutions, the mean and the maximum over time of each band, one linear layer.

    Args:
        norm: With batch normalisation, for training.
    """

    card = Card(
        name="mini_audio",
        modality="audio",
        output=(WIDTH,),
        input="log-mel patches, (N, 96, 64), natural logarithm of mel + 0.01, one a second",
        paper="none: avel's own",
        note="For trying out: trained on synthesised Toybox sounds and on ten kinds of ESC-10's "
        "recordings, knows nothing else.",
    )
    weights = packaged_weights("mini_audio")

    def __init__(self, *, norm: bool = False) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            ConvBlock(1, 32, kernel=4, stride=2, norm=norm),  # 48x32
            ConvBlock(32, 64, stride=2, norm=norm),  # 24x16
            ConvBlock(64, 96, norm=norm),
            ConvBlock(96, 128, stride=2, norm=norm),  # 12x8
            ConvBlock(128, 128, norm=norm),
        )
        self.out = nn.Linear(2 * 128 * 8, WIDTH)

    def forward(self, inputs: Tensor) -> Tensor:
        """(N, 96, 64) log-mel -> (N, 128), not negative."""
        scaled = ((inputs[:, None] - _MEAN) / _SPREAD).to(self.out.weight.dtype)
        x = self.blocks(scaled)  # (N, 128, 12, 8)
        pooled = torch.cat([x.mean(dim=2), x.amax(dim=2)], dim=1)  # (N, 256, 8)
        return functional.relu(self.out(pooled.flatten(1)))
