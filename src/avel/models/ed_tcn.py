"""ED-TCN: encoder-decoder temporal convolutions (Lea et al., CVPR 2017), extended to this task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avel.models.base import Batch, Model, ModelCard, Output, Recipe, TaskName, models
from avel.models.layers import as_read, class_entropy, region_mean, valid
from avel.models.precision import widened

EPS = 1e-5  #: added to the channels' maximum


class NormReLU(nn.Module):
    """ReLU divided by the largest response among the channels of the same segment + 1e-5."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, T) -> (B, D, T) in [0, 1)."""
        x = x.relu()
        return x / (x.amax(1, keepdim=True) + EPS)


def block(wide: int, out: int, kernel: int, dropout: float) -> nn.Sequential:
    """Convolution over time, dropout of whole channels, normalised ReLU: (B, D, T) both ways.

    The order is that of the authors' code (colincsl/TemporalConvolutionalNetworks): the ReLU is
    divided by the largest of the channels that dropout left.
    """
    conv = nn.Conv1d(wide, out, kernel, padding="same")
    return nn.Sequential(conv, nn.Dropout1d(dropout), NormReLU())


@models.register("ed_tcn")
class EdTcn(Model):
    """Two halvings of time and two doublings, then a classifier of every segment.

    Args:
        audio_dim, visual_dim: Widths A and V.
        classes: C, without background.
        task: ``"sel"``.
        modality: ``"visual"``, the mean over regions (tian2018's comparison), ``"audio"`` or
            ``"both"``.
        first, second: Channels of the encoder's two layers; the decoder mirrors them.
        kernel: Segments that a convolution sees, an odd number.
        dropout: Share of channels dropped in training.

    Raises:
        ValueError: if a number is out of range.
    """

    card: ClassVar[ModelCard] = ModelCard(
        name="ed_tcn",
        paper="Lea, Flynn, Vidal, Reiter, Hager 2017, Temporal Convolutional Networks for Action "
        "Segmentation and Detection, CVPR",
        tasks=("sel",),
        summary="Temporal convolutions that halve time twice and double it again.",
        open_points=(
            "the kernel's length for ten segments is given nowhere: 5",
            "tian2018 doesn't say which input its 46.9 comes from: the visual mean by default",
            "time is padded to a multiple of 4; padding is silenced before every convolution",
            "dropout comes before the normalised ReLU, as in the authors' code",
            "no recipe is printed for this task: that of the authors' code on its own data "
            "(colincsl/TemporalConvolutionalNetworks, code/tf_models.py and TCN_main.py): Keras' "
            "RMSprop at its default 1e-3, 200 epochs of batch 8; below 300 clips Adam, with which "
            "the recipe of small data was measured",
        ),
    )
    small_values: ClassVar[Mapping[str, Any]] = {"optimizer": "adam"}
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {"modality": ("visual", "audio", "both")}

    def __init__(
        self,
        *,
        audio_dim: int,
        visual_dim: int,
        classes: int,
        task: TaskName = "sel",
        modality: str = "visual",
        first: int = 64,
        second: int = 96,
        kernel: int = 5,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.check_sizes(first=first, second=second)
        _check(kernel, dropout)
        self.task, self.modality = task, modality
        width = {"visual": visual_dim, "audio": audio_dim, "both": audio_dim + visual_dim}[modality]
        ways = [(width, first), (first, second)]
        self.encoder = nn.ModuleList(block(i, o, kernel, dropout) for i, o in ways)
        ways = [(second, second), (second, first)]
        self.decoder = nn.ModuleList(block(i, o, kernel, dropout) for i, o in ways)
        self.head = nn.Linear(first, classes + 1)

    @classmethod
    def recipe(cls, task: TaskName) -> Recipe:
        """The authors' code's: RMSprop 1e-3, 200 epochs of batch 8."""
        return Recipe(epochs=200, batch=8, optimizer="rmsprop")

    def forward(self, *, audio: Tensor, visual: Tensor, mask: Tensor | None = None) -> Output:
        """Output for (B, T, A) and (B, T, H, W, V); ``mask`` (B, T) is True on real segments.

        Parts: ``logits`` (B, T, C+1).
        """
        x = self.read(audio, visual)  # (B, T, D)
        logits: Tensor = widened(self.head(self.convolve(x, mask)))
        return Output(logits.softmax(-1), logits.argmax(-1), parts={"logits": logits})

    def read(self, audio: Tensor, visual: Tensor) -> Tensor:
        """The chosen input, (B, T, D)."""
        audio, visual = as_read(self, audio, visual)
        chosen: list[Tensor] = []
        if self.modality != "visual":
            chosen.append(audio)
        if self.modality != "audio":
            chosen.append(region_mean(visual))
        return torch.cat(chosen, -1)

    def convolve(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T, D) -> (B, T, first)."""
        length, whole = x.shape[1], 2 ** len(self.encoder)
        extra = (length + whole - 1) // whole * whole - length
        silent = [~F.pad(valid(x, mask), (0, extra))[:, None]]  # (B, 1, T') at every level
        x = F.pad(x, (0, 0, 0, extra)).transpose(1, 2)  # (B, D, T')
        for encode in self.encoder:
            x = cast(Tensor, encode(x.masked_fill(silent[-1], 0.0)))
            x = x.masked_fill(silent[-1], 0.0)
            x = torch.maximum(x[..., ::2], x[..., 1::2])
            silent.append(silent[-1][..., ::2])  # a pair counts where its first segment does
        for decode, off in zip(self.decoder, silent[-2::-1], strict=True):
            x = x.repeat_interleave(2, -1)
            x = cast(Tensor, decode(x.masked_fill(off, 0.0)))
        return x[..., :length].transpose(1, 2)

    def loss(self, output: Output, batch: Batch) -> Tensor:
        """Cross-entropy of every segment, averaged.

        Args:
            output: Of this model for the batch.
            batch: With ``labels``.
        """
        return class_entropy(output.parts["logits"], batch)


def _check(kernel: int, dropout: float) -> None:
    if kernel < 1 or not kernel % 2:
        raise ValueError(f"kernel={kernel}: expected an odd number of segments")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout={dropout}: expected 0 to less than 1")
