"""Convolutions whose batch normalisation can be folded into their weights."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_weights

from avel.backbones.base import Tagger, Weights
from avel.backbones.weights import fill
from avel.errors import WeightsError

#: Inputs that go through convolutions of small maps together at least.
FEWEST = 16


def pad_batch(x: Tensor) -> Tensor:
    """The batch, padded with zeros to at least sixteen inputs.

    With fewer inputs torch computes convolutions of small maps by another algorithm, which rounds
    differently; so an input's features are the same bits in a batch of any size.
    """
    if torch.compiler.is_exporting() or len(x) >= FEWEST:
        return x
    return torch.cat([x, x.new_zeros(FEWEST - len(x), *x.shape[1:])])


class FoldableConv(nn.Module):
    """A convolution ``conv`` and, until it is folded in, the batch normalisation ``norm``."""

    conv: nn.Conv2d
    norm: nn.BatchNorm2d | None

    def convolved(self, x: Tensor) -> Tensor:
        """(N, C, H, W) through the convolution and the normalisation, where there is one."""
        x = self.conv(x)
        return x if self.norm is None else self.norm(x)

    def fold(self) -> None:
        """Take the batch normalisation into the convolution: the same outputs in eval mode."""
        if self.norm is None:
            return
        norm = self.norm
        assert norm.running_mean is not None and norm.running_var is not None
        weight, bias = fuse_conv_bn_weights(
            self.conv.weight,
            self.conv.bias,
            norm.running_mean,
            norm.running_var,
            norm.eps,
            norm.weight,
            norm.bias,
        )
        self.conv.weight, self.conv.bias, self.norm = weight, bias, None


def fold_all(network: nn.Module) -> None:
    """Fold the batch normalisation of every block of a network."""
    for module in list(network.modules()):
        if isinstance(module, FoldableConv):
            module.fold()


class FoldedTagger(Tagger):
    """A tagger whose weights' file has batch normalisation, which is folded into convolutions.

    A child's constructor takes ``norm``: whether normalisation is there, as in the file.
    """

    @classmethod
    @abstractmethod
    def read_tensors(cls, path: Path) -> Mapping[str, Tensor]:
        """The tensors of the weights' file by the names that they have with ``norm``.

        Raises:
            WeightsError: if it can't be read.
        """

    def load_weights(self, path: Path, weights: Weights) -> None:
        """Fill from the weights' file, and fold.

        Raises:
            WeightsError: if the file can't be read, naming each tensor that is missing or of
                another shape.
        """
        with torch.device("meta"):
            raw = type(self)(norm=True)
        fill(raw, self.read_tensors(path), source=path)
        fold_all(raw)
        self.load_state_dict(raw.state_dict(), assign=True)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def read_classifier(cls, path: Path) -> tuple[Tensor, Tensor]:
        """The dense layer alone, of the weights' checked file: weight and bias, float32.

        Raises:
            WeightsError: if it isn't there.
        """
        tensors = cls.read_tensors(path)
        try:
            return tensors["dense.weight"].float(), tensors["dense.bias"].float()
        except KeyError as e:
            hint = "remove it and fetch it again"
            raise WeightsError(f"{path} has no dense layer", hint=hint) from e


class SameBlock(FoldableConv):
    """A convolution with TensorFlow's SAME padding, then ReLU up to a limit.

    For stride 2 the padding is one less at the start than at the end, for inputs of even size; the
    convolution pads both by the larger number plus one, and its first row and column are dropped,
    which copies less than padding the input.

    Args:
        before, after: Channels.
        kernel: Of the convolution, odd.
        stride: 1 or 2; for 2 height and width must be even.
        depthwise: Whether each channel has a filter of its own.
        limit: What the output is cut at above 0; infinite for ReLU, None for no cutting at all.
        epsilon: Of the batch normalisation; None for none, as the network runs.
    """

    def __init__(
        self,
        before: int,
        after: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        depthwise: bool = False,
        limit: float | None = None,
        epsilon: float | None = None,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            before,
            after,
            kernel,
            stride,
            padding=kernel // 2 if stride == 1 else kernel // 2 + 1,
            groups=before if depthwise else 1,
            bias=epsilon is None,
        )
        self.norm = None
        if epsilon is not None:
            self.norm = nn.BatchNorm2d(after, eps=epsilon)
        self.limit = limit

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, H, W) -> (N, after, H / stride, W / stride)."""
        x = self.convolved(x)
        whole = self.conv.stride[0] == 1
        x = x if whole else x[:, :, 1:, 1:]
        if self.limit is None:
            return x
        over = whole and not self.training  # a view is never written over
        if self.limit == math.inf:
            return functional.relu(x, inplace=over)
        return functional.hardtanh(x, 0, self.limit, inplace=over)
