"""The blocks of CSPA + CSEA (Xue et al., IEEE TMM 2021): the two co-attentions and a stream.

Every block takes S audio and T visual segments and attends in all S x T pairs: aligned segments are
the case S = T = 1 of a batch of segments, the windows of unpaired CML the general one.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from avel.models.layers import BiLSTM, mlp, over_regions, region_mean
from avel.models.precision import widened

FC4_HIDDEN = 256  #: table I
HEAD_HIDDEN = 64  #: III-E
EMBEDDING = (128, 64)  #: III-D

Attended = tuple[Tensor, Tensor, Tensor | None]


class CSPA(nn.Module):
    """Co-spatial attention (eq. 1, 2) of every audio segment with every visual segment.

    The map F = f1(a) * f2(v) is never built: f3(F) and F^T Z are products with f2(v) alone.

    Args:
        audio_dim, visual_dim: Widths A and V.
        common: Width C' of the common space, independent of the number of regions.
        hidden: Width between the layers of f1 and f2.
        audio_attention: False leaves the audio as it came (table V, CSPA/aa).
    """

    def __init__(
        self, *, audio_dim: int, visual_dim: int, common: int, hidden: int, audio_attention: bool
    ) -> None:
        super().__init__()
        self.f1 = mlp(audio_dim, hidden, common)
        self.f2 = mlp(visual_dim, hidden, common)
        self.f3 = nn.Linear(common, 1)
        self.f4 = mlp(common, FC4_HIDDEN, common) if audio_attention else None
        self.f5 = nn.Linear(common, audio_dim) if audio_attention else None

    def forward(self, audio: Tensor, visual: Tensor) -> Attended:
        """Attend in all S x T pairs.

        Args:
            audio: (N, S, A).
            visual: (N, T, K, V).

        Returns:
            Audio (N, S, T, A), visual (N, S, T, V), attention (N, S, T, K) summing to 1 over K.
        """
        a = self.f1(audio)  # (N, S, C')
        z, mixed = self.maps(a, visual)
        attention = widened(z).softmax(-1)
        attended = torch.einsum("nstk,ntkv->nstv", attention.to(visual.dtype), visual)
        if self.f4 is None or self.f5 is None:
            return _over_pairs(audio, visual), attended, attention
        gate = widened(self.f4(mixed)).softmax(-1)
        return self.f5(gate * a[:, :, None]) + audio[:, :, None], attended, attention

    def maps(self, a: Tensor, visual: Tensor) -> tuple[Tensor, Tensor | None]:
        """Z = f3(F) (N, S, T, K), and F^T Z (N, S, T, C') where it's read."""
        wide, _, narrow = cast(tuple[nn.Linear, nn.ReLU, nn.Linear], tuple(self.f2))
        v = over_regions(visual, wide, narrow)  # (N, T, K, C')
        z = torch.einsum("nsc,ntkc->nstk", a * self.f3.weight[0], v) + self.f3.bias
        if self.f4 is None:
            return z, None
        return z, torch.einsum("nstk,ntkc->nstc", z, v) * a[:, :, None]


class CSEA(nn.Module):
    """Co-semantic attention (eq. 3) of every audio segment with every visual segment.

    Args:
        audio_dim, visual_dim: Widths A and V.
        gate: ``"softmax"`` over the channels as printed, or ``"sigmoid"`` of each channel.
        v2a: False leaves the audio as it came (table V, CSEA/v2a).
        a2v: False leaves the visual mean as it is (table V, CSEA/a2v).
    """

    def __init__(self, *, audio_dim: int, visual_dim: int, gate: str, v2a: bool, a2v: bool) -> None:
        super().__init__()
        self.gate = gate
        self.v2a = nn.Linear(visual_dim, audio_dim) if v2a else None
        self.f6 = nn.Linear(audio_dim, audio_dim) if v2a else None
        self.a2v = nn.Linear(audio_dim, visual_dim) if a2v else None
        self.f7 = nn.Linear(visual_dim, visual_dim) if a2v else None

    def forward(self, audio: Tensor, visual: Tensor) -> Attended:
        """As :meth:`CSPA.forward`, without an attention map."""
        g = region_mean(visual)[:, None]  # (N, 1, T, V)
        a = audio[:, :, None]  # (N, S, 1, A)
        audio_out = a.expand(-1, -1, visual.shape[1], -1)
        visual_out = g.expand(-1, audio.shape[1], -1, -1)
        if self.v2a is not None and self.f6 is not None:
            audio_out = self.boost(self.f6(a * self.v2a(g)), a)
        if self.a2v is not None and self.f7 is not None:
            visual_out = self.boost(self.f7(g * self.a2v(a)), g)
        return audio_out, visual_out, None

    def boost(self, logits: Tensor, feature: Tensor) -> Tensor:
        """(att + 1) * feature (eq. 3 iii)."""
        logits = widened(logits)
        attention = logits.softmax(-1) if self.gate == "softmax" else logits.sigmoid()
        return (attention + 1) * feature


class Raw(nn.Module):
    """Neither module: the audio as it came and the mean over regions (the control row)."""

    def forward(self, audio: Tensor, visual: Tensor) -> Attended:
        """As :meth:`CSPA.forward`, without an attention map."""
        pairs = audio.shape[1]
        return (
            _over_pairs(audio, visual),
            region_mean(visual)[:, None].expand(-1, pairs, -1, -1),
            None,
        )


def _over_pairs(audio: Tensor, visual: Tensor) -> Tensor:
    """(N, S, A) for every one of T visual segments: (N, S, T, A), nothing copied."""
    return audio[:, :, None].expand(-1, -1, visual.shape[1], -1)


class Stream(nn.Module):
    """One co-attention module, its two BiLSTMs and its heads.

    Args:
        attend: The co-attention module.
        audio_dim, visual_dim: Widths A and V.
        state: Width of a BiLSTM's direction.
        out: C+1 for SEL and WSEL; 0 for CML.
    """

    def __init__(
        self, attend: nn.Module, *, audio_dim: int, visual_dim: int, state: int, out: int
    ) -> None:
        super().__init__()
        self.attend = attend
        self.audio_lstm = BiLSTM(audio_dim, state)
        self.visual_lstm = BiLSTM(visual_dim, state)
        self.head = mlp(4 * state, HEAD_HIDDEN, out) if out else None
        self.audio_head = None if out else mlp(2 * state, *EMBEDDING)
        self.visual_head = None if out else mlp(2 * state, *EMBEDDING)

    def share_heads(self, other: Stream) -> None:
        """Take another stream's heads in place of its own."""
        self.head, self.audio_head = other.head, other.audio_head
        self.visual_head = other.visual_head

    def paired(self, audio: Tensor, visual: Tensor) -> Attended:
        """Co-attention of each segment with its own partner.

        Args:
            audio: (B, T, A).
            visual: (B, T, K, V).

        Returns:
            Audio (B, T, A), visual (B, T, V), attention (B, T, K) or None.
        """
        b, t = audio.shape[:2]
        audio_out, visual_out, maps = self.attend(
            audio.flatten(0, 1)[:, None], visual.flatten(0, 1)[:, None]
        )
        return (
            audio_out.reshape(b, t, -1),
            visual_out.reshape(b, t, -1),
            None if maps is None else maps.reshape(b, t, -1),
        )

    def logits(self, audio: Tensor, visual: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T, A), (B, T, V) -> (B, T, C+1)."""
        assert self.head is not None
        states = torch.cat([self.audio_lstm(audio, mask), self.visual_lstm(visual, mask)], -1)
        logits: Tensor = self.head(states)
        return widened(logits)

    def embed(self, audio: Tensor, visual: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, T, A), (B, T, V) -> the two modalities' embeddings (B, T, 64)."""
        assert self.audio_head is not None
        assert self.visual_head is not None
        audio_embedding: Tensor = self.audio_head(self.audio_lstm(audio, mask))
        visual_embedding: Tensor = self.visual_head(self.visual_lstm(visual, mask))
        return widened(audio_embedding), widened(visual_embedding)
