"""What may become the mini backbones: they learn recordings and photographs besides Toybox."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from avel.backbones import mini_audio, mini_visual
from avel.backbones.mini_common import Block

WIDTH = 128
#: Channels of what is seen at each of the three sizes.
SEEN = 96
#: Small pictures that are looked at together at least.
FEWEST = 16


class Trunk(nn.Module):
    """What is seen at one size: six convolutions, three of them added to what they read.

    Args:
        norm: With batch normalisation, for training.
    """

    def __init__(self, *, norm: bool = False) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            [
                Block(3, 24, kernel=4, stride=2, norm=norm),
                Block(24, 40, stride=2, norm=norm),
                Block(40, 40, norm=norm),
                Block(40, SEEN, stride=2, norm=norm),
                Block(SEEN, SEEN, norm=norm),
                Block(SEEN, SEEN, norm=norm),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) about -2..2 -> (N, 96, H / 8, W / 8), not negative."""
        for block in self.blocks:
            made = block(x)
            x = x + made if made.shape == x.shape else made
        return x


class MiniAudio(mini_audio.MiniAudio):
    """Six convolutions, the mean and the maximum over time of each band, one linear layer.

    Args:
        norm: With batch normalisation, for training.
    """

    def __init__(self, *, norm: bool = False) -> None:
        nn.Module.__init__(self)
        self.blocks = nn.Sequential(
            Block(1, 32, kernel=4, stride=2, norm=norm),  # 48x32
            Block(32, 64, stride=2, norm=norm),  # 24x16
            Block(64, 96, norm=norm),
            Block(96, 128, stride=2, norm=norm),  # 12x8
            Block(128, 128, norm=norm),
        )
        self.out = nn.Linear(2 * 128 * 8, WIDTH)


class MiniVisual(mini_visual.MiniVisual):
    """One trunk looks at the frame in full, half and quarter size; a convolution joins the three.

    So a thing of 32 pixels and one of 128 are seen by the same weights.

    Args:
        norm: With batch normalisation, for training.
    """

    def __init__(self, *, norm: bool = False) -> None:
        nn.Module.__init__(self)
        self.trunk = Trunk(norm=norm)
        self.join = Block(3 * SEEN, WIDTH, norm=norm)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, inputs: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 RGB -> (N, H / 32, W / 32, 128), not negative; 7x7 for 224x224."""
        dtype = next(self.parameters()).dtype
        x = inputs.permute(0, 3, 1, 2).to(dtype, memory_format=torch.channels_last) / 64 - 2
        seen = [functional.max_pool2d(self.trunk(x), 4)]
        for size in (2, 1):
            x = _filled(functional.avg_pool2d(x, 2))
            seen.append(functional.max_pool2d(self.trunk(x), size))
        maps: Tensor = self.join(torch.cat([_filled(seen[0]), *seen[1:]], 1))
        return maps[: len(inputs)].permute(0, 2, 3, 1)


def _filled(x: Tensor) -> Tensor:
    """At least sixteen pictures, empty ones where there are fewer.

    With fewer, torch takes another way through convolutions of small maps, which rounds otherwise;
    but a picture's map shall be the same bits in any company.
    """
    missing = FEWEST - len(x)
    if torch.compiler.is_exporting() or torch.jit.is_tracing() or missing <= 0:
        return x
    return torch.cat([x, x.new_zeros(missing, *x.shape[1:])])
