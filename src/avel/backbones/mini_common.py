"""What the two mini backbones share: a convolution block, and weights that ship in the package."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from avel.backbones.base import Backbone, Weights
from avel.backbones.blocks import FoldableConv
from avel.backbones.weights import fill, read_safetensors


class ConvBlock(FoldableConv):
    """Convolution and ReLU; while it is trained with batch normalisation between the two.

    Args:
        before, after: Channels.
        kernel, stride: Of the convolution; its padding keeps ``size / stride``.
        norm: Whether batch normalisation is there (training); weights ship without.
    """

    def __init__(
        self, before: int, after: int, *, kernel: int = 3, stride: int = 1, norm: bool = False
    ) -> None:
        super().__init__()
        padding = (kernel - stride + 1) // 2
        self.conv = nn.Conv2d(before, after, kernel, stride, padding)
        self.norm = nn.BatchNorm2d(after) if norm else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, H, W) -> (N, after, H / stride, W / stride)."""
        return functional.relu(self.convolved(x))


def packaged_card(name: str) -> dict[str, Any]:
    """The JSON card beside the packaged weights: hash, size, data, accuracy, licence.

    Empty where the package has none, as before the first training.
    """
    card = resources.files("avel") / "pretrained" / f"{name}.json"
    if not card.is_file():
        return {}
    content = json.loads(card.read_text(encoding="utf-8"))
    return content if isinstance(content, dict) else {}


def packaged_weights(name: str) -> Mapping[str, Weights]:
    """The one entry of a mini backbone's weights, as its card describes it."""
    card = packaged_card(name)
    return {
        "toybox": Weights(
            name="toybox",
            filename=f"{name}.safetensors",
            url="",
            hash=f"sha256:{card.get('sha256', '0' * 64)}",
            size=int(card.get("size", 0)),
            licence=str(card.get("licence", "MIT")),
        )
    }


class Packaged(Backbone):
    """A backbone whose weights ship in the package."""

    def load_weights(self, path: Path, weights: Weights) -> None:
        """Fill from the packaged file.

        Raises:
            WeightsError: if the file is none of this network's.
        """
        fill(self, read_safetensors(path, hint="install avel again"), source=path)
