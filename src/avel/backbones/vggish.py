"""VGGish: the sound's features of the published AVE data set, raw after the final ReLU.

Paper: Hershey et al., CNN Architectures for Large-Scale Audio Classification, ICASSP 2017; weights
of AudioSet's release as ported by torchvggish v0.1. AVE has no PCA and no 8-bit quantisation after
the network, which torchvggish and AudioSet do by default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from torch import Tensor, nn

from avel.backbones.base import AudioBackbone, Card, Weights, backbones
from avel.backbones.weights import fill, read_state

#: Channels of the six convolutions, and the widths of the three fully connected layers.
CHANNELS = (64, 128, 256, 256, 512, 512)
HIDDEN = (4096, 4096, 128)
#: Which convolutions a pooling follows.
_POOLED = (0, 1, 3, 5)


@backbones.register("vggish")
class VGGish(AudioBackbone):
    """Six convolutions with four poolings, then three fully connected layers, each with a ReLU.

    The parameters' names are torchvggish's: ``features.0.weight`` … ``embeddings.4.bias``.

    Args:
        channels: Of the six convolutions; other than the published ones only for tests.
        hidden: Widths of the three layers; likewise.
    """

    card = Card(
        name="vggish",
        modality="audio",
        output=(128,),
        input="log-mel patches of one second, (N, 96, 64) floats: 10 ms frames, 64 HTK mel bands "
        "125-7500 Hz, ln(mel + 0.01)",
        paper="Hershey et al. 2017, CNN Architectures for Large-Scale Audio Classification",
        note="Raw output after the final ReLU: no PCA, no quantisation, as in AVE's features.",
    )
    weights: ClassVar[Mapping[str, Weights]] = {
        "audioset": Weights(
            name="audioset",
            filename="vggish-10086976.pth",
            url="https://github.com/harritaylor/torchvggish/releases/download/v0.1/"
            "vggish-10086976.pth",
            hash="sha256:10086976",
            size=0,
            licence="Apache-2.0 (AudioSet's VGGish, ported by torchvggish); trained on YouTube-8M",
        ),
    }

    def __init__(self, channels: Sequence[int] = CHANNELS, hidden: Sequence[int] = HIDDEN) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for i, width in enumerate(channels):
            layers += [nn.Conv2d(before, width, kernel_size=3, padding=1), nn.ReLU(inplace=True)]
            layers += [nn.MaxPool2d(2)] if i in _POOLED else []
            before = width
        self.features = nn.Sequential(*layers)
        dense: list[nn.Module] = []
        before *= 6 * 4
        for width in hidden:
            dense += [nn.Linear(before, width), nn.ReLU(inplace=True)]
            before = width
        self.embeddings = nn.Sequential(*dense)

    def load_weights(self, path: Path, weights: Weights) -> None:
        """Fill from torchvggish's ``.pth``.

        Raises:
            WeightsError: if the file can't be read, naming each tensor that is missing or of
                another shape.
        """
        fill(self, read_state(path), source=path)

    def maps(self, inputs: Tensor) -> Tensor:
        """The last pooling's maps: (N, 96, 64) -> (N, 6, 4, 512), time before frequency."""
        x: Tensor = inputs.unsqueeze(1).to(next(self.parameters()).dtype)
        x = self.features(x)  # (N, 512, 6, 4)
        return x.permute(0, 2, 3, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        """(N, 96, 64) log-mel patches -> (N, 128), none negative."""
        flat = self.maps(inputs).flatten(1)  # (N, 6*4*512), channels fastest as in TensorFlow
        x: Tensor = self.embeddings(flat)
        return x
