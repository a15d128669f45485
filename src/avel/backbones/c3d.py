"""C3D: what moves in a segment, from sixteen frames at once (tian2018's supplement).

Paper: Tran et al., Learning Spatiotemporal Features with 3D Convolutional Networks, ICCV 2015;
weights trained on Sport-1M as OpenMMLab ported them, with that port's preprocessing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from avel.backbones.base import Card, ClipBackbone, Weights, backbones
from avel.backbones.weights import fill, read_state

FRAMES = 16
NAMES = ("conv1a", "conv2a", "conv3a", "conv3b", "conv4a", "conv4b", "conv5a", "conv5b")
WIDTHS = (64, 128, 256, 256, 512, 512, 512, 512)
#: Which convolutions a pooling follows; the first leaves time alone, the last is padded.
_POOLED = ("conv1a", "conv2a", "conv3b", "conv4b", "conv5b")
_MEAN_RGB = (104.0, 117.0, 128.0)
_RESIZED, _CROP = 128, 112
#: `conv1a.conv.weight` (OpenMMLab) and `conv1.weight`, whatever stands before them.
_NAME = re.compile(r"(?:.*\.)?(conv\d)([ab]?)(?:\.conv)?\.(weight|bias)")


@backbones.register("c3d")
class C3D(ClipBackbone):
    """Eight 3-D convolutions with five poolings, and the mean of pool5 over its regions.

    Args:
        widths: Of the eight convolutions; other than the published ones only for tests.
    """

    card: ClassVar[Card] = Card(
        name="c3d",
        modality="visual",
        output=(1, 1, WIDTHS[-1]),
        input="sixteen RGB frames of a segment, (N, 16, 224, 224, 3) uint8, evenly spaced, resized "
        "bilinearly without crop; then the middle 7/8",
        frames=FRAMES,
        paper="Tran et al. 2015, Learning Spatiotemporal Features with 3D Convolutional Networks",
        note="pool5, averaged over its 4x4 regions to one vector, as in tian2018's supplement; "
        "`vgg19+c3d` puts it behind VGG-19's channels.",
    )
    weights: ClassVar[Mapping[str, Weights]] = {
        "sports1m": Weights(
            name="sports1m",
            filename="c3d_sports1m_pretrain_20201016-dcc47ddc.pth",
            url="https://download.openmmlab.com/mmaction/recognition/c3d/"
            "c3d_sports1m_pretrain_20201016-dcc47ddc.pth",
            hash="sha256:dcc47ddc",
            size=0,
            licence="Apache-2.0 (OpenMMLab's port); trained on Sport-1M",
        ),
    }

    def __init__(self, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.convolutions = nn.ModuleDict()
        before = 3
        for name, width in zip(NAMES, widths, strict=True):
            self.convolutions[name] = nn.Conv3d(before, width, kernel_size=3, padding=1)
            before = width

    def load_weights(self, path: Path, weights: Weights) -> None:
        """Fill from a ``.pth`` of the Sport-1M layout; its fully connected layers aren't needed.

        Raises:
            WeightsError: if the file can't be read, naming each tensor that is missing or of
                another shape.
        """
        tensors: dict[str, Tensor] = {}
        for name, tensor in read_state(path).items():
            if match := _NAME.fullmatch(name):
                layer, letter, kind = match.groups()
                tensors[f"convolutions.{layer}{letter or 'a'}.{kind}"] = tensor
        fill(self, tensors, source=path)

    def prepare(self, clips: Tensor) -> Tensor:
        """(N, 16, H, W, 3) RGB in 0..255 -> (N, 3, 16, 112, 112) minus the port's mean."""
        n, t = clips.shape[:2]
        x = clips.flatten(0, 1).permute(0, 3, 1, 2).float()
        x = F.interpolate(x, size=(_RESIZED, _RESIZED), mode="bilinear", antialias=True)
        edge = (_RESIZED - _CROP) // 2
        x = x[..., edge : edge + _CROP, edge : edge + _CROP]
        x = x - x.new_tensor(_MEAN_RGB)[:, None, None]
        return x.reshape(n, t, *x.shape[1:]).transpose(1, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        """(N, 16, H, W, 3) uint8 RGB -> (N, 1, 1, 512), none negative."""
        x = self.prepare(inputs).to(next(self.parameters()).dtype)
        for name, convolution in self.convolutions.items():
            x = F.relu(convolution(x))
            if name in _POOLED:
                time = 1 if name == "conv1a" else 2
                edge = (0, 1, 1) if name == "conv5b" else 0
                x = F.max_pool3d(x, (time, 2, 2), padding=edge)
        return x.mean((2, 3, 4))[:, None, None]  # (N, 512, 1, 4, 4) before
