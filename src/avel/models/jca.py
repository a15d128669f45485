"""JCA: joint co-attention with double fusion (Duan et al., WACV 2021).

Parameters in millions for audio 128 wide, a picture 512 wide and 28 classes, with k = 512; the
printed ones fit no one reading of k:

tables 4, 5         | printed | any   | paper
d_a=256 d_v=1024    | 50.7    | 42.71 | 26.02
l=1                 | 14.9    | 14.36 | 12.29
l=2                 | 17.5    | 18.56 | 14.41
l=3                 | 20.1    | 22.75 | 16.53
l=4                 | 22.8    | 26.95 | 18.64
l=5                 | 25.4    | 31.15 | 20.76
d_a=256 d_v=256 l=2 | 4.6     | 8.17  | 7.68
d_a=256 d_v=256 l=3 | 5.2     | 9.22  | 8.49
d_a=256 d_v=256 l=4 | 5.9     | 10.26 | 9.30
d_a=256 d_v=256 l=5 | 6.6     | 11.31 | 10.11
d_a=128 d_v=128     | 1.6     | 5.36  | 5.71
J=add               | 22.67   | 16.46 | 12.35
J=multiply          | 22.67   | 16.46 | 12.35
J=concat            | 22.72   | 22.75 | 14.45
J=add+fc            | 22.78   | 17.51 | 13.40
J=multiply+fc       | 22.78   | 17.51 | 13.40
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avel.errors import UsageError
from avel.models.base import Batch, Model, ModelCard, Output, Recipe, TaskName, models
from avel.models.layers import (
    AVGA,
    HEAD_BIASES,
    as_read,
    average,
    mlp,
    region_mean,
    soft_margin,
    start_soft_margin,
    valid,
)
from avel.models.precision import widened
from avel.models.recurrent import Recurrent


class DotAttention(nn.Module):
    """Regions summed under the scaled dot product of the sound with each of them (3.2)."""

    def __init__(self, audio_dim: int, visual_dim: int) -> None:
        super().__init__()
        self.query = nn.Linear(audio_dim, visual_dim)

    def forward(self, audio: Tensor, visual: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, A), (B, T, K, V) -> (B, T, V) and maps (B, T, K), each summing to 1."""
        queries = self.query(audio) / math.sqrt(visual.shape[-1])
        maps = widened(torch.einsum("btv,btkv->btk", queries.to(visual.dtype), visual)).softmax(-1)
        return torch.einsum("btk,btkv->btv", maps.to(visual.dtype), visual), maps


class Represent(nn.Module):
    """Re-representation of one modality (eq. 1, 2): a linear layer on [s ; BiLSTM(s)].

    Args:
        width: Of a segment's feature s.
        out: d_a or d_v, also the recurrent network's output.
        kind: ``"lstm"``, ``"gru"``, or None for none of them.
        residual: False leaves s itself out (table 3, no residual embedding).
    """

    def __init__(self, width: int, out: int, kind: str | None, *, residual: bool) -> None:
        super().__init__()
        self.recurrent = None if kind is None else Recurrent(kind, width, out)
        self.residual = residual
        wide = width if kind is None else out + width * residual
        self.linear = nn.Linear(wide, out)

    def forward(self, s: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T, width) -> (B, T, out)."""
        x = s
        if self.recurrent is not None:
            x, _ = self.recurrent(s, mask)
            x = torch.cat([s.to(x.dtype), x], -1) if self.residual else x
        out: Tensor = self.linear(x)
        return out


class Join(nn.Module):
    """The joint representation J of A and V (table 4).

    Args:
        kind: A value of :class:`Jca`'s ``joint``.
        audio, visual: d_a and d_v.
    """

    def __init__(self, kind: str, audio: int, visual: int) -> None:
        super().__init__()
        self.kind = kind.removesuffix("+fc")
        self.out = audio + visual if self.kind == "concat" else audio
        self.fc = nn.Linear(self.out, self.out) if kind.endswith("+fc") else None

    def forward(self, audio: Tensor, visual: Tensor) -> Tensor:
        """(B, T, d_a), (B, T, d_v) -> (B, T, d)."""
        if self.kind == "concat":
            joint = torch.cat([audio, visual], -1)
        else:
            joint = audio + visual if self.kind == "add" else audio * visual
        if self.fc is not None:
            joint = self.fc(joint)
        return joint


class Attend(nn.Module):
    """One modality attended to by J in clips of any length (ours): every weight acts on channels.

    C = tanh(A^T M(J) / (T sqrt d)), H = ReLU(U A + J C^T / sqrt d), A + U_h H.

    Args:
        own: d_a (or d_v).
        joint: d.
        normalize: Whether A and J are normalised over their channels before they meet (no
            weights). Without it A grows from one recursion to the next until nothing is learnt.
    """

    def __init__(self, own: int, joint: int, *, normalize: bool = True) -> None:
        super().__init__()
        self.normalize = normalize
        self.scale = math.sqrt(joint)
        self.m = nn.Linear(joint, joint, bias=False)
        self.u = nn.Linear(own, own, bias=False)
        self.u_h = nn.Linear(own, own, bias=False)

    def forward(self, a: Tensor, joint: Tensor, count: Tensor) -> Tensor:
        """Attend.

        Args:
            a: (B, T, d_a), padding zero, so that what J holds there never counts.
            joint: (B, T, d).
            count: (B, 1, 1), the valid segments of each clip.

        Returns:
            (B, T, d_a).
        """
        own = a
        if self.normalize:
            own, joint = (F.layer_norm(x, x.shape[-1:]) for x in (a, joint))
        affinity = (own / count).transpose(1, 2) @ (self.m(joint) / self.scale)
        c = affinity.tanh()  # (B, d_a, d)
        h = (self.u(own) + joint.to(c.dtype) @ c.transpose(1, 2) / self.scale).relu()
        attended: Tensor = a + self.u_h(h)
        return attended


class AttendFixed(nn.Module):
    """One modality attended to by J as printed (eq. 3 to 6): weights of N rows, so T must be N.

    C = tanh(A^T W_j J / sqrt d), H = ReLU(W_a A + W_c C^T), A + W_h^T H.

    Args:
        own: d_a (or d_v).
        joint: d.
        length: N.
        rows: k, the rows of H.
    """

    def __init__(self, own: int, joint: int, *, length: int, rows: int) -> None:
        super().__init__()
        self.scale = math.sqrt(joint)
        self.w_j = nn.Linear(length, length, bias=False)
        self.w_a = nn.Linear(length, rows, bias=False)
        self.w_c = nn.Linear(joint, rows, bias=False)
        self.w_h = nn.Linear(rows, length, bias=False)

    def forward(self, a: Tensor, joint: Tensor, count: Tensor) -> Tensor:
        """As :meth:`Attend.forward`, for T = N; ``count`` isn't needed."""
        columns = a.transpose(1, 2)  # (B, d_a, N)
        mixed = self.w_j(joint.transpose(1, 2)).transpose(1, 2)  # W_j J, (B, N, d)
        c = (columns @ mixed.to(a.dtype) / self.scale).tanh()  # (B, d_a, d)
        h = (self.w_a(columns) + self.w_c(c)).relu()  # H^T, (B, d_a, k)
        attended: Tensor = a + self.w_h(h).transpose(1, 2)
        return attended


class Layer(nn.Module):
    """One recursion: J of A and V, and both attended to by it.

    Args:
        audio, visual: d_a and d_v.
        joint: How J is formed; None for co-attention, where each modality is the other's J.
        fixed: N and k of the printed form; None for any length.
        normalize: As for :class:`Attend`.
    """

    def __init__(
        self,
        audio: int,
        visual: int,
        joint: str | None,
        fixed: tuple[int, int] | None,
        *,
        normalize: bool,
    ) -> None:
        super().__init__()
        self.join = None if joint is None else Join(joint, audio, visual)

        def attend(own: int, other: int) -> nn.Module:
            wide = other if self.join is None else self.join.out
            if fixed is None:
                return Attend(own, wide, normalize=normalize)
            return AttendFixed(own, wide, length=fixed[0], rows=fixed[1])

        self.audio, self.visual = attend(audio, visual), attend(visual, audio)

    def forward(self, a: Tensor, v: Tensor, silent: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, d_a), (B, T, d_v) -> both attended; zero where ``silent`` (B, T, 1)."""
        count = (~silent).sum(1, keepdim=True).to(a.dtype)
        to_a, to_v = v, a
        if self.join is not None:
            to_a = to_v = self.join(a, v).masked_fill(silent, 0.0)
        new_a, new_v = self.audio(a, to_a, count), self.visual(v, to_v, count)
        return new_a.masked_fill(silent, 0.0), new_v.masked_fill(silent, 0.0)


@models.register("jca")
class Jca(Model):
    """Early fusion, then both modalities again and again attended to by what they make together.

    Args:
        audio_dim, visual_dim: Widths A and V.
        classes: C, without background.
        task: ``"sel"``.
        early: How the picture is read (section 2, 3.2, table 3): ``"avga"``, ``"dot"``,
            ``"mean"`` or ``"max"`` over the regions.
        recurrent: ``"lstm"`` or ``"gru"``, of all recurrent networks (table 3).
        unimodal, residual, joint_recurrent: False leaves out each modality's BiLSTM, the segment
            itself beside it, or the BiLSTM of the prediction (table 3).
        attention: ``"joint"``, or ``"co"``: audio and visual attend to each other (table 3).
        joint: How J is formed (table 4): ``"concat"``, ``"add"`` or ``"multiply"``, with ``"+fc"``
            or without.
        audio_out, visual_out: d_a and d_v (table 5).
        recursions: l (table 5).
        form: ``"any"`` length, or ``"paper"``: as printed, for clips of ``length`` at most.
        normalize: False leaves A and J of the `any` form as they are; see :class:`Attend`.
        head_bias: As for :func:`avel.models.layers.start_soft_margin`.
        length, rows: N and k of the ``paper`` form.
        joint_out, wide, hidden: Widths of the prediction: its BiLSTM's output, another hidden
            layer behind it (0: none; 1024 is the other way to read the paper), the hidden layer.

    Raises:
        ValueError: if an option is out of range, or contradicts the others.
    """

    card: ClassVar[ModelCard] = ModelCard(
        name="jca",
        paper="Duan, Tang, Wang, Zong, Yang, Yan 2021, Audio-Visual Event Localization via "
        "Recursive Fusion by Joint Co-Attention, WACV",
        tasks=("sel",),
        summary="Both modalities attended to by their joint representation, four times over.",
        open_points=(
            "early fusion is tian2018's attention; the scaled dot product of 3.2 is `dot`",
            "a linear layer brings [s ; BiLSTM(s)] to d_a or d_v, the BiLSTM's own width",
            "`any`: the weights of N rows act on channels instead, C is averaged over time, and A "
            "and J are normalised (`normalize=false`: as they are)",
            "the last bias of the head starts at -ln C (`head_bias=zero`: near 0)",
            "`paper`: k is 512; a clip shorter than N is filled up with zeros; no biases, as "
            "printed",
            "every recursion has weights of its own, J's layer among them",
            "the 1024 of the prediction is the BiLSTM's output, the 256 a hidden layer behind it",
            "the sigmoid is inside the loss, whose segments are averaged",
            "scores are the softmax of the logits, which doesn't change the argmax",
            "the parameter counts of tables 4 and 5 fit no one reading of k",
            "no recipe is printed: Adam 3e-4, batch 64, 300 epochs; at 1e-3 (d_a = d_v = 128) it "
            "answered background everywhere: 15 epochs of Toybox, 30 of simulated features",
        ),
    )
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "early": ("avga", "dot", "mean", "max"),
        "recurrent": ("lstm", "gru"),
        "attention": ("joint", "co"),
        "joint": ("concat+fc", "concat", "add+fc", "add", "multiply+fc", "multiply"),
        "form": ("any", "paper"),
        "head_bias": HEAD_BIASES,
    }

    def __init__(
        self,
        *,
        audio_dim: int,
        visual_dim: int,
        classes: int,
        task: TaskName = "sel",
        early: str = "avga",
        recurrent: str = "lstm",
        unimodal: bool = True,
        residual: bool = True,
        joint_recurrent: bool = True,
        attention: str = "joint",
        joint: str = "concat+fc",
        audio_out: int = 512,
        visual_out: int = 512,
        recursions: int = 4,
        form: str = "any",
        length: int = 10,
        rows: int = 512,
        joint_out: int = 1024,
        wide: int = 0,
        hidden: int = 256,
        normalize: bool = True,
        head_bias: str = "uniform",
    ) -> None:
        super().__init__()
        self.check_sizes(
            audio_out=audio_out, visual_out=visual_out, recursions=recursions, length=length,
            rows=rows, joint_out=joint_out, hidden=hidden,
        )  # fmt: skip
        if wide < 0:
            raise ValueError(f"wide={wide}: expected 0 or more")
        _check_together(unimodal, residual, attention, joint, audio_out == visual_out)
        self.task, self.background, self.early = task, classes, early
        self.length = length if form == "paper" else None
        self.look = _reader(early, audio_dim, visual_dim)
        kind = recurrent if unimodal else None
        self.represent_audio = Represent(audio_dim, audio_out, kind, residual=residual)
        self.represent_visual = Represent(visual_dim, visual_out, kind, residual=residual)
        by = None if attention == "co" else joint
        fixed = (length, rows) if form == "paper" else None
        self.layers = nn.ModuleList(
            Layer(audio_out, visual_out, by, fixed, normalize=normalize) for _ in range(recursions)
        )
        joint_width = audio_out + visual_out
        self.joint = Recurrent(recurrent, joint_width, joint_out) if joint_recurrent else None
        widths = [joint_out if joint_recurrent else joint_width, *([wide] if wide else [])]
        self.head = mlp(*widths, hidden, classes + 1)
        start_soft_margin(self.head, head_bias)

    @classmethod
    def recipe(cls, task: TaskName) -> Recipe:
        """Ours: Adam 3e-4 (at 1e-3 it doesn't begin to learn), 300 epochs of batch 64."""
        return Recipe(lr=3e-4)

    def forward(self, *, audio: Tensor, visual: Tensor, mask: Tensor | None = None) -> Output:
        """Output for (B, T, A) and (B, T, H, W, V); ``mask`` (B, T) is True on real segments.

        Parts: ``logits`` (B, T, C+1), before the paper's sigmoid.

        Raises:
            UsageError: in the `paper` form, if the clips are longer than ``length``.
        """
        regions = visual.shape[2:4]
        audio, visual = as_read(self, audio, visual)
        visual_summary, maps = self.read(audio, visual)
        keep = valid(audio, mask)
        a, v = self.fuse(
            self.represent_audio(audio, mask), self.represent_visual(visual_summary, mask), keep
        )  # fmt: skip
        x = torch.cat([a, v], -1)
        if self.joint is not None:
            x, _ = self.joint(x, mask)
        logits: Tensor = widened(self.head(x))
        attention = None if maps is None else maps.reshape(*maps.shape[:2], *regions)
        return Output(logits.softmax(-1), logits.argmax(-1), attention, {"logits": logits})

    def read(self, audio: Tensor, visual: Tensor) -> tuple[Tensor, Tensor | None]:
        """Early fusion: (B, T, A), (B, T, K, V) -> (B, T, V) and the maps (B, T, K) or None."""
        if self.look is not None:
            attended, maps = self.look(audio, visual)
            return attended, maps
        return region_mean(visual) if self.early == "mean" else visual.amax(2), None

    def fuse(self, a: Tensor, v: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
        """All recursions: (B, T, d_a), (B, T, d_v) -> likewise, zero where ``keep`` is False."""
        count = keep.shape[1]
        extra = 0 if self.length is None else self.length - count
        if extra < 0:
            raise UsageError(
                f"the clips have {count} segments",
                expected=f"{self.length} at most: the paper's form has weights for that many",
                hint="train with form=any, or with length as long as the clips",
            )
        silent = ~F.pad(keep, (0, extra))[..., None]
        a, v = (F.pad(x, (0, 0, 0, extra)).masked_fill(silent, 0.0) for x in (a, v))
        for layer in self.layers:
            a, v = layer(a, v, silent)
        return a[:, :count], v[:, :count]

    def loss(self, output: Output, batch: Batch) -> Tensor:
        """Multi-label soft margin of every segment, background one of the labels, averaged.

        Args:
            output: Of this model for the batch.
            batch: With ``labels``.
        """
        target = batch.one_hot(self.background)
        return average(soft_margin(output.parts["logits"], target), batch.mask)


def _reader(early: str, audio_dim: int, visual_dim: int) -> nn.Module | None:
    if early == "avga":
        return AVGA(audio_dim=audio_dim, visual_dim=visual_dim)
    return DotAttention(audio_dim, visual_dim) if early == "dot" else None


def _check_together(
    unimodal: bool, residual: bool, attention: str, joint: str, same: bool
) -> None:  # fmt: skip
    if not unimodal and not residual:
        raise ValueError("residual=False leaves nothing to read with unimodal=False")
    if attention == "co" and joint != Jca.choices["joint"][0]:
        raise ValueError(f"joint={joint!r} does nothing with attention='co': there is no J")
    if not joint.startswith("concat") and not same:
        raise ValueError(f"joint={joint!r}: expected audio_out = visual_out")
