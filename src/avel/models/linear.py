"""The baseline that any network has to beat: one linear layer over a segment's features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from avel.models.base import TASK_TRAITS, Batch, Model, ModelCard, Output, TaskName, models
from avel.models.layers import as_read, class_entropy, region_mean
from avel.models.precision import widened

#: What every region has at least of a map, so that a map without contrast is even.
_EVEN = 1e-6


@models.register("linear")
class Linear(Model):
    """A linear classifier of every segment by itself, on [audio ; visual over the regions].

    Its attention is the class activation map (Zhou et al. 2016) of the segment's best event class:
    what each region adds to that class's logit, from the least on, as shares of their sum.

    Args:
        audio_dim, visual_dim: Widths A and V.
        classes: C, without background.
        task: ``"sel"`` or ``"wsel"``.
        pool: Over the regions: ``"mean"``, or ``"max"`` of each channel.
        modality: ``"both"``, or ``"audio"`` or ``"visual"`` alone.
    """

    card: ClassVar[ModelCard] = ModelCard(
        name="linear",
        paper="Ours; the class activation map is Zhou, Khosla, Lapedriza, Oliva, Torralba 2016, "
        "Learning Deep Features for Discriminative Localization, CVPR",
        tasks=("sel", "wsel"),
        summary="One linear layer a segment, without context: the baseline of small data sets.",
        open_points=(
            "SEL: cross-entropy of the segments; WSEL: of the mean over time, several tags sharing",
            "the weights start at zero: every class is as likely as any other",
            "of one modality alone, `modality=audio`, there is no attention",
        ),
    )
    small_values: ClassVar[Mapping[str, Any]] = {"input_dropout": 0.0}
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "pool": ("mean", "max"),
        "modality": ("both", "audio", "visual"),
    }

    def __init__(
        self,
        *,
        audio_dim: int,
        visual_dim: int,
        classes: int,
        task: TaskName = "sel",
        pool: str = "mean",
        modality: str = "both",
    ) -> None:
        super().__init__()
        self.task, self.background, self.largest = task, classes, pool == "max"
        self.audio = nn.Linear(audio_dim, classes + 1) if modality != "visual" else None
        self.visual = (
            nn.Linear(visual_dim, classes + 1, bias=modality == "visual")
            if modality != "audio"
            else None
        )
        for part in (self.audio, self.visual):
            for weight in part.parameters() if part is not None else ():
                nn.init.zeros_(weight)

    def forward(self, *, audio: Tensor, visual: Tensor, mask: Tensor | None = None) -> Output:
        """Output for (B, T, A) and (B, T, H, W, V); ``mask`` (B, T) has no effect.

        Parts: ``logits`` (B, T, C+1).
        """
        rows, columns = visual.shape[2:4]
        audio, visual = as_read(self, audio, visual)
        logits = [] if self.audio is None else [widened(self.audio(audio))]
        attention = None
        if self.visual is not None:
            pooled = visual.amax(2) if self.largest else region_mean(visual)
            logits.append(widened(self.visual(pooled.to(visual.dtype))))
        summed = torch.stack(logits).sum(0)  # (B, T, C+1)
        if self.visual is not None:
            maps = self._activation(visual, summed)
            attention = maps.reshape(*maps.shape[:2], rows, columns)
        return Output(summed.softmax(-1), summed.argmax(-1), attention, {"logits": summed})

    def _activation(self, visual: Tensor, logits: Tensor) -> Tensor:
        """Shares of the best event class's activation: regions (B, T, K, V) -> (B, T, K)."""
        assert self.visual is not None
        with torch.no_grad():
            best = logits[..., : self.background].argmax(-1)
            weight = self.visual.weight.to(visual.dtype)[best]  # (B, T, V)
            gain = widened((visual @ weight[..., None])[..., 0])
            gain = gain - gain.amin(-1, keepdim=True) + _EVEN
            maps: Tensor = gain / gain.sum(-1, keepdim=True)
            return maps

    def loss(self, output: Output, batch: Batch) -> Tensor:
        """Cross-entropy of the segments, in WSEL of the clip's mean over time.

        Args:
            output: Of this model for the batch.
            batch: With ``labels`` in SEL, ``tags`` in WSEL.
        """
        return class_entropy(output.parts["logits"], batch, weak=TASK_TRAITS[self.task].weak)
