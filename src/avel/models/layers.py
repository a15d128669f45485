"""Bricks that several papers share: perceptrons, masked BiLSTM, pooling over time, losses."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avel.errors import UsageError
from avel.models.base import Batch
from avel.models.precision import widened
from avel.models.recurrent import run_masked


def mlp(*widths: int) -> nn.Sequential:
    """Linear layers of the given widths, input first, with ReLU between them and none at the end.

    >>> [tuple(p.shape) for p in mlp(128, 64, 29).parameters()]
    [(64, 128), (64,), (29, 64), (29,)]
    """
    layers: list[nn.Module] = []
    for i, (wide, narrow) in enumerate(pairwise(widths)):
        if i:
            layers.append(nn.ReLU(inplace=True))  # what a linear layer gave, nobody else holds
        layers.append(nn.Linear(wide, narrow))
    return nn.Sequential(*layers)


class Dropout(nn.Module):
    """``nn.Dropout`` that draws four values' choices from one random number on a processor.

    torch draws every value by itself, in one thread, unless the processor is Intel's; on hidden
    maps that takes a sixth of a training step and more.

    Args:
        share: Of the values that become 0 in training, in [0, 1); rounded to a multiple of 2^-16.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        if not 0 <= share < 1:
            raise ValueError(f"share={share}: expected 0 or more and less than 1")
        self.share = share

    def extra_repr(self) -> str:
        """What ``repr`` shows."""
        return f"share={self.share}"

    def forward(self, x: Tensor) -> Tensor:
        """(...) -> (...): in training some values 0, the others larger so that the mean stays."""
        dropped = min(round(self.share * 2**16), 2**16 - 1)
        if not self.training or not dropped:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.share)
        drawn = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        choices = drawn.view(torch.int16)[: x.numel()].view(x.shape)
        factors = (choices >= dropped - 2**15).to(x.dtype)
        return x * factors.mul_(2**16 / (2**16 - dropped))


#: How the last bias of a soft-margin head starts: every class at the share 1 / (C+1), or near 0.
HEAD_BIASES = ("uniform", "zero")


def start_soft_margin(head: nn.Sequential, bias: str) -> None:
    """Start a soft-margin head where it needn't learn first that every class is rare.

    One-against-rest sigmoids whose biases are near 0 begin at p = 0.5 each, and hundreds of steps
    go into lowering them. The papers print no initialisation; -ln C is ours.

    Args:
        head: Its last layer gives the C+1 logits.
        bias: ``"uniform"`` sets its bias to -ln C, so that p = 1 / (C+1) for each class;
            ``"zero"`` leaves torch's own start.
    """
    last = head[-1]
    if bias == "uniform":
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.bias.fill_(-math.log(max(1, last.out_features - 1)))


def over_regions(x: Tensor, first: nn.Linear, second: nn.Linear) -> Tensor:
    """``second(relu(first(x)))`` of every region's features (..., V): (..., width).

    While gradients are recorded the ReLU isn't done in place: ``first`` gives a view of four
    dimensions, and an in-place operation on a view costs several copies of it.
    """
    hidden = F.relu(first(x), inplace=not torch.is_grad_enabled())
    return cast(Tensor, second(hidden))


def xavier(module: nn.Module) -> None:
    """Fresh Xavier-uniform weights for every linear layer inside; biases stay as they are."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)


def as_read(network: nn.Module, audio: Tensor, visual: Tensor) -> tuple[Tensor, Tensor]:
    """A batch's features in the types that a network computes in, the regions in a row.

    Args:
        network: Whose weights' type counts; under autocast the maps take autocast's.
        audio: (B, T, A).
        visual: (B, T, H, W, V).

    Returns:
        Audio (B, T, A), visual (B, T, H*W, V).
    """
    device = audio.device.type
    weights = next(network.parameters()).dtype
    mixed = torch.is_autocast_enabled(device)
    maps = torch.get_autocast_dtype(device) if mixed else weights
    return audio.to(weights), visual.flatten(2, 3).to(maps)


class AVGA(nn.Module):
    """Audio-guided visual attention (tian2018 eq. 2-4): where in the picture the sound comes from.

    Args:
        audio_dim, visual_dim: Widths A and V.
        hidden: Width d of U_a and U_v.
        width: Width of the space in which the two are added; nothing to do with the number of
            regions in the paper's form.
        release: True adds the audio's r-th number to all of region r, as the released code does:
            the number of regions must then equal ``width``.
    """

    def __init__(
        self,
        *,
        audio_dim: int,
        visual_dim: int,
        hidden: int = 512,
        width: int = 49,
        release: bool = False,
    ) -> None:
        super().__init__()
        self.release = release
        self.u_a = nn.Linear(audio_dim, hidden)
        self.u_v = nn.Linear(visual_dim, hidden)
        self.w_a = nn.Linear(hidden, width, bias=False)
        self.w_v = nn.Linear(hidden, width, bias=False)
        self.w_f = nn.Linear(width, 1, bias=False)
        xavier(self)

    def forward(self, audio: Tensor, visual: Tensor) -> tuple[Tensor, Tensor]:
        """Sum the regions of every segment under its own sound's attention.

        Args:
            audio: (B, T, A).
            visual: (B, T, K, V).

        Returns:
            Attended (B, T, V), and maps (B, T, K) float, each summing to 1 over K.

        Raises:
            UsageError: in the `release` form, if K isn't ``width``.
        """
        audio_term = self.w_a(self.u_a(audio).relu())  # (B, T, width)
        visual_term = over_regions(visual, self.u_v, self.w_v)  # (B, T, K, width)
        if self.release and visual_term.shape[2] != visual_term.shape[3]:
            raise UsageError(
                f"the picture has {visual_term.shape[2]} regions",
                expected=f"{visual_term.shape[3]}: the released attention has a weight a region",
                hint="take the paper's form of the attention, or a backbone with that many regions",
            )
        content = (
            visual_term + audio_term[:, :, :, None]
            if self.release
            else visual_term + audio_term[:, :, None]
        )
        maps = widened(self.w_f(content.tanh())[..., 0]).softmax(-1)
        return torch.einsum("btk,btkv->btv", maps.to(visual.dtype), visual), maps


class BiLSTM(nn.Module):
    """A bidirectional LSTM over clips of unequal length.

    Args:
        width: Width of the input.
        state: Width of the hidden state of one direction.
    """

    def __init__(self, width: int, state: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, state, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, T, width) -> (B, T, 2*state); see :func:`avel.models.recurrent.run_masked`."""
        return run_masked(self.lstm, x, mask)[0]


def masked_mean(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean over time of (B, T, ...) -> (B, ...), where ``mask`` (B, T) is True."""
    if mask is None:
        return x.mean(1)
    weight = _like(mask, x).to(x.dtype)
    return (x * weight).sum(1) / weight.sum(1).clamp(min=1)


def masked_max(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Max over time of (B, T, ...) -> (B, ...), where ``mask`` (B, T) is True."""
    if mask is None:
        return x.amax(1)
    return x.masked_fill(~_like(mask, x), torch.finfo(x.dtype).min).amax(1)


def region_mean(visual: Tensor) -> Tensor:
    """Mean over the regions of (..., K, V) -> (..., V) float32.

    As a product with ones: in bfloat16 on a processor eight times faster than ``mean``.
    """
    ones = visual.new_ones(1, visual.shape[-2])
    return widened((ones @ visual).squeeze(-2)) / visual.shape[-2]


def _like(mask: Tensor, x: Tensor) -> Tensor:
    return mask.reshape(*mask.shape, *[1] * (x.ndim - mask.ndim))


def valid(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """The mask (B, T) of (B, T, ...), all True where none is given."""
    return torch.ones(x.shape[:2], dtype=torch.bool, device=x.device) if mask is None else mask


def average(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean of all values where ``mask`` of the same shape is True: a scalar, 0 where none is."""
    if mask is None:
        return values.mean()
    return (values * mask).sum() / mask.sum().clamp(min=1)


def soft_margin(logits: Tensor, target: Tensor) -> Tensor:
    """Multi-label soft margin of each row (xue2021 eq. 6, 7).

    Args:
        logits: (..., C+1), any float type; computed in float32, or float64 where they are.
        target: (..., C+1) in [0, 1].

    Returns:
        (...) mean over the classes of the binary cross-entropy.
    """
    logits = widened(logits)
    return F.binary_cross_entropy_with_logits(
        logits, target.to(logits.dtype), reduction="none"
    ).mean(-1)


def share_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Softmax cross-entropy of each row against shares of the classes (tian2018 eq. 7).

    Args:
        logits: (..., C+1), any float type; computed in float32, or float64 where they are.
        target: (..., C+1) >= 0; several tags of a clip share it out in their proportion.

    Returns:
        (...).
    """
    logits = widened(logits)
    target = target.to(logits.dtype)
    share = target / target.sum(-1, keepdim=True).clamp(min=1e-6)
    return -(share * logits.log_softmax(-1)).sum(-1)


def class_entropy(logits: Tensor, batch: Batch, *, weak: bool = False) -> Tensor:
    """Softmax cross-entropy of the segments; weak: of each clip's mean over time, by its tags.

    Args:
        logits: (B, T, C+1), background last.
        batch: With ``labels``, or ``tags`` where ``weak``.

    Returns:
        A scalar.
    """
    if weak:
        assert batch.tags is not None
        return share_entropy(masked_mean(logits, batch.mask), batch.tags).mean()
    return average(share_entropy(logits, batch.one_hot(logits.shape[-1] - 1)), batch.mask)


def contrastive(distance: Tensor, match: Tensor, margin: float) -> Tensor:
    """Contrastive loss of pairs (tian2018 eq. 10; xue2021 eq. 5), not averaged.

    Args:
        distance: Euclidean distances >= 0, any shape.
        match: Same shape, 1 where the pair belongs together, else 0.
        margin: Distance beyond which a pair that doesn't belong together has cost 0.
    """
    beyond = (margin - distance).clamp(min=0)
    return match * distance**2 + (1 - match) * beyond**2


def pair_distance(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distance of every row of (B, S, D) to every row of (B, T, D): (B, S, T)."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def matching_loss(
    audio: Tensor,
    visual: Tensor,
    match: Tensor,
    mask: Tensor | None = None,
    *,
    margin: float,
    mismatched: bool,
) -> Tensor:
    """Contrastive loss of a clip's aligned pairs, and of its mismatched ones beside them.

    Args:
        audio, visual: (B, T, D) embeddings.
        match: (B, T) 1 where the aligned pair belongs together, 0 where it doesn't.
        mask: (B, T) True on real segments.
        margin: See :func:`contrastive`.
        mismatched: True takes all pairs of different segments as negatives too; the two kinds
            weigh the same, for there are T - 1 times as many.

    Returns:
        A scalar: the mean over pairs.
    """
    distance = torch.linalg.vector_norm(audio - visual, dim=-1)
    aligned = average(contrastive(distance, match, margin), mask)
    if not mismatched:
        return aligned
    crossed = pair_distance(audio, visual)
    mismatched_cost = contrastive(crossed, torch.zeros_like(crossed), margin)
    return (aligned + average(mismatched_cost, mismatches(valid(match, mask)))) / 2


def mismatches(known: Tensor) -> Tensor:
    """(B, T) real segments -> (B, T, T) bool, True for two different ones of a clip."""
    same = torch.eye(known.shape[1], dtype=torch.bool, device=known.device)
    return known[:, :, None] & known[:, None] & ~same


def window_sums(cost: Tensor) -> Tensor:
    """Cost of each window: query segment i meets candidate t + i (tian2018, section 5).

    Args:
        cost: (B, l, N), every query segment against every candidate segment.

    Returns:
        (B, N - l + 1).
    """
    length, count = cost.shape[1:]
    sums = [cost[:, i, i : count - length + 1 + i] for i in range(length)]
    return torch.stack(sums).sum(0)
