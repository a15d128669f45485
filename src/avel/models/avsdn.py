"""AVSDN: the audio-visual sequence-to-sequence dual network (Lin, Li, Wang, ICASSP 2019)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from avel.models.base import TASK_TRAITS, Batch, Model, ModelCard, Output, TaskName, models
from avel.models.fusion import DMRN
from avel.models.layers import AVGA, as_read, class_entropy
from avel.models.precision import widened
from avel.models.recurrent import Recurrent


class FuseStates(nn.Module):
    """The two encoders' last states made the decoder's first: a DMRN block for h, one for c.

    Args:
        state: Width of a direction.
    """

    def __init__(self, state: int) -> None:
        super().__init__()
        self.hidden = DMRN(2 * state)
        self.cell = DMRN(2 * state)

    def forward(
        self, audio: tuple[Tensor, ...], visual: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:  # fmt: skip
        """(h, c) of each modality, (2, B, state) all of them, -> (h, c) likewise."""
        pairs = zip((self.hidden, self.cell), audio, visual, strict=True)
        return tuple(_as_state(fuse(_as_row(a), _as_row(v))) for fuse, a, v in pairs)


def _as_row(state: Tensor) -> Tensor:
    """(2, B, state) -> (B, 2*state), forward direction first."""
    return state.transpose(0, 1).flatten(1)


def _as_state(row: Tensor) -> Tensor:
    return torch.stack(row.chunk(2, 1))


@models.register("avsdn")
class Avsdn(Model):
    """Two encoders read the whole clip; a decoder that starts from both names every segment.

    Args:
        audio_dim, visual_dim: Widths A and V.
        classes: C, without background.
        task: ``"sel"`` or ``"wsel"``.
        state: Width of a direction of every BiLSTM.
        hidden, width: Widths d and 49 of the attention; see :class:`avel.models.layers.AVGA`.

    Raises:
        ValueError: if a width is below 1.
    """

    card: ClassVar[ModelCard] = ModelCard(
        name="avsdn",
        paper="Lin, Li, Wang 2019, Dual-Modality Seq2Seq Network for Audio-Visual Event "
        "Localization, ICASSP",
        tasks=("sel", "wsel"),
        summary="Two encoding BiLSTMs whose fused last states start a decoding one.",
        open_points=(
            "h and c are fused by a DMRN block each, both directions of a state at once",
            "the decoder reads [a; attended v] and has BiLSTMs of the encoders' width",
            "the head is ReLU and one linear layer",
            "SEL: cross-entropy of the segments; WSEL: of the mean over time, several tags sharing",
            "no recipe is known here: Adam 1e-3, batch 64, 300 epochs",
        ),
    )

    def __init__(
        self,
        *,
        audio_dim: int,
        visual_dim: int,
        classes: int,
        task: TaskName = "sel",
        state: int = 128,
        hidden: int = 512,
        width: int = 49,
    ) -> None:
        super().__init__()
        self.check_sizes(state=state, hidden=hidden, width=width)
        self.task = task
        self.look = AVGA(audio_dim=audio_dim, visual_dim=visual_dim, hidden=hidden, width=width)
        self.audio_encoder = Recurrent("lstm", audio_dim, 2 * state)
        self.visual_encoder = Recurrent("lstm", visual_dim, 2 * state)
        self.fuse = FuseStates(state)
        self.decoder = Recurrent("lstm", audio_dim + visual_dim, 2 * state)
        self.head = nn.Linear(2 * state, classes + 1)

    def forward(self, *, audio: Tensor, visual: Tensor, mask: Tensor | None = None) -> Output:
        """Output for (B, T, A) and (B, T, H, W, V); ``mask`` (B, T) is True on real segments.

        Parts: ``logits`` (B, T, C+1).
        """
        regions = visual.shape[2:4]
        audio, visual = as_read(self, audio, visual)
        attended, maps = self.look(audio, visual)
        audio_input = audio.to(attended.dtype)
        _, audio_state = self.audio_encoder(audio_input, mask)
        _, visual_state = self.visual_encoder(attended, mask)
        start = tuple(s.to(attended.dtype) for s in self.fuse(audio_state, visual_state))
        out, _ = self.decoder(torch.cat([audio_input, attended], -1), mask, start)
        logits: Tensor = widened(self.head(out.relu()))
        attention = maps.reshape(*maps.shape[:2], *regions)
        return Output(logits.softmax(-1), logits.argmax(-1), attention, {"logits": logits})

    def loss(self, output: Output, batch: Batch) -> Tensor:
        """Cross-entropy of the segments, in WSEL of the clip's mean over time.

        Args:
            output: Of this model for the batch.
            batch: With ``labels`` in SEL, ``tags`` in WSEL.
        """
        return class_entropy(output.parts["logits"], batch, weak=TASK_TRAITS[self.task].weak)
