"""Several visual backbones as one: their channels side by side.

``vgg19+c3d`` is tian2018's supplement: VGG-19's maps and, behind their channels,
C3D's vector, the same in every region.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from avel.backbones.base import Backbone, Card, ClipBackbone, Weights
from avel.errors import UsageError
from avel.types import Json

#: Between the names of backbones, and of their weights.
PLUS = "+"


class Joint(ClipBackbone):
    """Visual backbones side by side; the vector of one with a single region is repeated in all.

    A network of single frames is averaged over the segment's frames, as the extractor does.

    Args:
        parts: The networks, weights inside.

    Raises:
        UsageError: if their grids of regions don't fit, or they read different numbers of frames.
    """

    def __init__(self, parts: Sequence[Backbone]) -> None:
        super().__init__()
        for part in parts:
            if not isinstance(part, ClipBackbone):
                part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.parts = nn.ModuleList(parts)
        self.card = _card([part.card for part in parts])  # type: ignore[misc]

    def load_weights(self, path: Path, weights: Weights) -> None:
        """Not to be called: the parts come with theirs."""
        raise NotImplementedError("the parts of a joint backbone are loaded one by one")

    def forward(self, inputs: Tensor) -> Tensor:
        """(N, frames, 224, 224, 3) uint8 -> (N, H, W, the sum of the parts' V)."""
        rows, columns = self.card.output[:2]
        maps = [self._maps_of(cast(Backbone, part), inputs) for part in self.parts]
        return torch.cat([m.expand(-1, rows, columns, -1) for m in maps], -1)

    def _maps_of(self, part: Backbone, inputs: Tensor) -> Tensor:
        if isinstance(part, ClipBackbone):
            maps: Tensor = part(inputs)
            return maps.float()
        frames: Tensor = part(inputs.flatten(0, 1)).float()
        return frames.reshape(*inputs.shape[:2], *frames.shape[1:]).mean(1)


def join_backbones(parts: Sequence[tuple[Backbone, Json]]) -> tuple[Backbone, Json]:
    """Networks and their cards as one of each.

    Args:
        parts: As :func:`avel.backbones.load.load_backbone` gives them.

    Raises:
        UsageError: if they don't fit together.
    """
    network = Joint([part for part, _ in parts]).eval()
    cards = [card for _, card in parts]
    texts = {
        key: PLUS.join(str(card[key]) for card in cards) for key in ("name", "weights", "hash")
    }
    return network, {**cards[0], **texts, "output": list(network.card.output)}


def _card(cards: Sequence[Card]) -> Card:
    names = PLUS.join(card.name for card in cards)
    grids = {card.output[:2] for card in cards} - {(1, 1)}
    frames = {card.frames for card in cards if card.frames > 1}
    if len(grids) > 1 or len(frames) > 1:
        shapes = "; ".join(f"{c.name} {c.output} of {c.frames} frames" for c in cards)
        raise UsageError(
            f"these backbones don't fit together: {shapes}",
            expected="one grid of regions (or a single region) and as many frames a segment",
            hint=f"extract {names.replace(PLUS, ' and ')} separately",
        )
    grid = grids.pop() if grids else (1, 1)
    return replace(
        cards[0],
        name=names,
        output=(*grid, sum(card.output[2] for card in cards)),
        input="; ".join(card.input for card in cards),
        frames=frames.pop() if frames else 1,
        paper="; ".join(card.paper for card in cards),
        note="",
    )
