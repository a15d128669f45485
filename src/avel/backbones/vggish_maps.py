"""VGGish's last pooling maps instead of its vector: the sound of tian2018's supplement (A')."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from torch import Tensor, nn

from avel.backbones.base import Card, backbones
from avel.backbones.vggish import CHANNELS, VGGish


@backbones.register("vggish_maps")
class VGGishMaps(VGGish):
    """The six convolutions alone; VGGish's own weights file fills them.

    Args:
        channels: Of the six convolutions; other than the published ones only for tests.
    """

    card: ClassVar[Card] = replace(
        VGGish.card,
        name="vggish_maps",
        output=(6 * 4 * CHANNELS[-1],),
        note="The last pooling's 6x4 maps (time, frequency) of 512 channels, flattened region by "
        "region, for the `amaps` inputs of the model `av`.",
    )

    def __init__(self, channels: Sequence[int] = CHANNELS) -> None:
        super().__init__(channels, hidden=())
        self.embeddings = nn.Sequential()

    def forward(self, inputs: Tensor) -> Tensor:
        """(N, 96, 64) log-mel patches -> (N, 6*4*512), channels fastest, none negative."""
        return self.maps(inputs).flatten(1)
