"""VGG-19 up to its last pooling: the picture's features of the published AVE data set.

Paper: Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition,
ICLR 2015, configuration E. AVE's features are ``block5_pool`` of the Keras weights, the mean over
16 frames a second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from avel.backbones.base import Card, VisualBackbone, Weights, backbones
from avel.backbones.weights import fill, read_state
from avel.errors import WeightsError

if TYPE_CHECKING:
    import h5py

#: Convolutions of each of the five blocks.
DEPTHS = (2, 2, 4, 4, 4)
WIDTHS = (64, 128, 256, 512, 512)

_CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)
_IMAGENET_MEAN_RGB = (0.485, 0.456, 0.406)
_IMAGENET_STD_RGB = (0.229, 0.224, 0.225)


@backbones.register("vgg19")
class VGG19(VisualBackbone):
    """The sixteen convolutions and five poolings of VGG-19.

    Args:
        widths: Channels of the five blocks; other than the published ones only for tests.
    """

    card = Card(
        name="vgg19",
        modality="visual",
        output=(7, 7, 512),
        input="RGB frames, (N, 224, 224, 3) uint8, resized bilinearly without crop",
        frames=16,
        paper="Simonyan and Zisserman 2015, Very Deep Convolutional Networks for Large-Scale "
        "Image Recognition",
        note="Models trained on AVE's published features need the keras weights; those of "
        "torchvision give other features.",
    )
    weights: ClassVar[Mapping[str, Weights]] = {
        "keras": Weights(
            name="keras",
            filename="vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
            url="https://storage.googleapis.com/tensorflow/keras-applications/vgg19/"
            "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
            hash="md5:253f8cb515780f3b799900260a226db6",
            size=80134624,
            licence="CC BY 4.0 (released by VGG at Oxford, ported by Keras); trained on ImageNet",
        ),
        "torchvision": Weights(
            name="torchvision",
            filename="vgg19-dcbb9e9d.pth",
            url="https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
            hash="sha256:dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
            size=574673361,
            licence="BSD-3-Clause (torchvision); trained on ImageNet",
        ),
    }

    def __init__(self, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.convolutions = nn.ModuleDict()
        before = 3
        for block, (depth, width) in enumerate(zip(DEPTHS, widths, strict=True), start=1):
            for layer in range(1, depth + 1):
                self.convolutions[f"block{block}_conv{layer}"] = nn.Conv2d(
                    before, width, kernel_size=3, padding=1
                )
                before = width
        self.caffe = True  # the keras weights' preprocessing; load_weights sets it

    def load_weights(self, path: Path, weights: Weights) -> None:
        """Fill from the Keras ``.h5`` or torchvision's ``.pth``, and take on its preprocessing.

        Raises:
            WeightsError: if the file can't be read, naming each tensor that is missing or of
                another shape.
        """
        names = list(self.convolutions)
        if weights.name == "keras":
            tensors = _read_keras(path, names)
        else:
            tensors = _read_torchvision(path, names)
        fill(self, {f"convolutions.{n}": t for n, t in tensors.items()}, source=path)
        self.caffe = weights.name == "keras"

    def prepare(self, frames: Tensor) -> Tensor:
        """(N, H, W, 3) RGB in 0..255 -> (N, 3, H, W) as the loaded weights want it.

        Keras: BGR minus ImageNet's mean, unscaled ("caffe mode"). torchvision: RGB in 0..1 minus
        mean, divided by standard deviation.
        """
        x = frames.permute(0, 3, 1, 2).to(torch.float32)  # (N, 3, H, W)
        if self.caffe:
            return x.flip(1) - x.new_tensor(_CAFFE_MEAN_BGR).view(3, 1, 1)
        mean = x.new_tensor(_IMAGENET_MEAN_RGB).view(3, 1, 1)
        return (x / 255 - mean) / x.new_tensor(_IMAGENET_STD_RGB).view(3, 1, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 RGB -> (N, H // 32, W // 32, 512); 7x7 maps for 224x224."""
        x = self.prepare(inputs).to(next(self.parameters()).dtype)
        block = "block1"
        for name, convolution in self.convolutions.items():
            if not name.startswith(block):
                x = functional.max_pool2d(x, 2)
                block = name.partition("_")[0]
            x = functional.relu(convolution(x), inplace=True)
        return functional.max_pool2d(x, 2).permute(0, 2, 3, 1)


def _read_torchvision(path: Path, names: Sequence[str]) -> dict[str, Tensor]:
    """``features.<i>.weight``: in a Sequential of convolution, ReLU and, after a block, pooling."""
    state = read_state(path)
    tensors: dict[str, Tensor] = {}
    index, block = 0, "block1"
    for name in names:
        if not name.startswith(block):
            index, block = index + 1, name.partition("_")[0]
        for kind in ("weight", "bias"):
            if f"features.{index}.{kind}" in state:
                tensors[f"{name}.{kind}"] = state[f"features.{index}.{kind}"]
        index += 2
    return tensors


def _read_keras(path: Path, names: Sequence[str]) -> dict[str, Tensor]:
    """One group a layer, in it a 4-D kernel (height, width, in, out) and a 1-D bias."""
    import h5py

    tensors: dict[str, Tensor] = {}
    try:
        with h5py.File(path, "r") as f:
            root = f.get("model_weights", f)
            for name in names:
                if isinstance(root.get(name), h5py.Group):
                    tensors |= _read_layer(root[name], name)
    except (OSError, KeyError, RuntimeError) as e:
        raise WeightsError(
            f"{path} can't be read as HDF5 ({str(e)[:200]})",
            expected="the weights file of keras-applications",
            hint="remove it and download it again",
        ) from e
    return tensors


def _read_layer(group: h5py.Group, name: str) -> dict[str, Tensor]:
    """Kernel and bias of a layer, whatever the version of Keras called them."""
    import h5py

    tensors: dict[str, Tensor] = {}

    def visit(_: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.size <= 4 * 2**20:
            if item.ndim == 4:  # (H, W, in, out) -> (out, in, H, W)
                kernel = torch.from_numpy(item[()]).permute(3, 2, 0, 1)
                tensors[f"{name}.weight"] = kernel.contiguous()
            elif item.ndim == 1:
                tensors[f"{name}.bias"] = torch.from_numpy(item[()])

    group.visititems(visit)
    return tensors
