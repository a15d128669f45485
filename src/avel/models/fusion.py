"""Ways to make one feature of two (tian2018, table 2): the sound's and the picture's of a segment.

Every brick takes audio and visual (..., width) and gives (..., out); ``out`` is an attribute.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn


class Concat(nn.Module):
    """[a; v]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out = 2 * width

    def forward(self, audio: Tensor, visual: Tensor) -> Tensor:
        """(..., width) twice -> (..., 2 * width)."""
        return torch.cat([audio, visual], -1)


class PairedLinear(nn.Module):
    """Two linear maps, W_a a and W_v v, joined element by element.

    Args:
        width: Of both features, and of the joined one.
        join: Makes one feature of the two mapped ones.
    """

    def __init__(self, width: int, join: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.w_a = nn.Linear(width, width)
        self.w_v = nn.Linear(width, width)
        self.join, self.out = join, width

    def forward(self, audio: Tensor, visual: Tensor) -> Tensor:
        """(..., width) twice -> (..., width)."""
        return self.join(self.w_a(audio), self.w_v(visual))


def _through(audio: Tensor, visual: Tensor) -> Tensor:
    """The picture, let through by the sound."""
    return audio.sigmoid() * visual


class GMB(PairedLinear):
    """MB, let through by a sigmoid of the sound."""

    def __init__(self, width: int) -> None:
        super().__init__(width, torch.mul)
        self.gate = nn.Linear(width, width)

    def forward(self, audio: Tensor, visual: Tensor) -> Tensor:
        """(..., width) twice -> (..., width)."""
        fused: Tensor = self.gate(audio).sigmoid() * super().forward(audio, visual)
        return fused


class GMU(nn.Module):
    """z * tanh(W_a a) + (1 - z) * tanh(W_v v) with z = sigmoid(W_z [a; v])."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.w_a = nn.Linear(width, width)
        self.w_v = nn.Linear(width, width)
        self.w_z = nn.Linear(2 * width, width)
        self.out = width

    def forward(self, audio: Tensor, visual: Tensor) -> Tensor:
        """(..., width) twice -> (..., width)."""
        z = self.w_z(torch.cat([audio, visual], -1)).sigmoid()
        fused: Tensor = z * self.w_a(audio).tanh() + (1 - z) * self.w_v(visual).tanh()
        return fused


class MRNBlock(nn.Module):
    """h' = W a + tanh(W1 a) * tanh(W3 tanh(W2 v)): the sound is the branch that is updated."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.w = nn.Linear(width, width)
        self.w1 = nn.Linear(width, width)
        self.w2 = nn.Linear(width, width)
        self.w3 = nn.Linear(width, width)

    def forward(self, audio: Tensor, visual: Tensor) -> Tensor:
        """(..., width) twice -> the updated audio (..., width)."""
        transformed = self.w3(self.w2(visual).tanh()).tanh()
        fused: Tensor = self.w(audio) + self.w1(audio).tanh() * transformed
        return fused


class MRN(nn.Module):
    """Multimodal residual network: every block sees the picture as it came."""

    def __init__(self, width: int, *, blocks: int = 1) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(MRNBlock(width) for _ in range(blocks))
        self.out = width

    def forward(self, audio: Tensor, visual: Tensor) -> Tensor:
        """(..., width) twice -> (..., width)."""
        for block in self.blocks:
            audio = block(audio, visual)
        return audio


class DMRNBlock(nn.Module):
    """h_a' = tanh(h_a + f), h_v' = tanh(h_v + f) (eq. 5, 6), f the mean of the two transformed.

    Args:
        width: Of both features.
        crossed: True adds f to the other modality's feature, as the released code does.
    """

    def __init__(self, width: int, *, crossed: bool = False) -> None:
        super().__init__()
        self.crossed = crossed
        self.u_a = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width))
        self.u_v = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width))

    def forward(self, audio: Tensor, visual: Tensor) -> tuple[Tensor, Tensor]:
        """(..., width) twice -> both updated."""
        f = (self.u_a(audio) + self.u_v(visual)) / 2
        audio_out, visual_out = (audio + f).tanh(), (visual + f).tanh()
        return (visual_out, audio_out) if self.crossed else (audio_out, visual_out)


class DMRN(nn.Module):
    """Dual multimodal residual network: blocks that update both modalities, then their mean."""

    def __init__(self, width: int, *, blocks: int = 1, crossed: bool = False) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(DMRNBlock(width, crossed=crossed) for _ in range(blocks))
        self.out = width

    def forward(self, audio: Tensor, visual: Tensor) -> Tensor:
        """(..., width) twice -> (..., width)."""
        for block in self.blocks:
            audio, visual = block(audio, visual)
        return (audio + visual) / 2


#: By name: [a; v]; W_a a + W_v v; the larger of both; sigmoid(W_a a) * W_v v; (W_a a) * (W_v v),
#: multimodal bilinear of low rank; and the two with a further gate.
PLAIN: Mapping[str, Callable[[int], nn.Module]] = {
    "concat": Concat,
    "additive": partial(PairedLinear, join=torch.add),
    "maxpool": partial(PairedLinear, join=torch.maximum),
    "gated": partial(PairedLinear, join=_through),
    "mb": partial(PairedLinear, join=torch.mul),
    "gmu": GMU,
    "gmb": GMB,
}
RESIDUAL = ("mrn", "dmrn", "dmrfe")


def build_fusion(kind: str, width: int, *, blocks: int = 1, crossed: bool = False) -> nn.Module:
    """The brick of a name of table 2; DMRFE's two blocks are DMRNs of their own.

    Args:
        kind: A name of ``PLAIN``, ``"mrn"``, or ``"dmrn"``.
        width: Of both features.
        blocks: Residual blocks one after the other (MRN, DMRN).
        crossed: See :class:`DMRNBlock`.
    """
    if kind == "mrn":
        return MRN(width, blocks=blocks)
    if kind == "dmrn":
        return DMRN(width, blocks=blocks, crossed=crossed)
    return PLAIN[kind](width)
