"""Recurrent networks of any kind over clips of unequal length, with their last states."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

KINDS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}

#: (directions, B, width of a direction); an LSTM has two, h and c.
State = tuple[Tensor, ...]


class Recurrent(nn.Module):
    """An RNN, LSTM or GRU; padding changes neither its outputs nor its last states.

    Args:
        kind: ``"rnn"``, ``"lstm"`` or ``"gru"``.
        width: Width of the input.
        out: Width of the output, both directions together.
        bidirectional: Whether a second direction runs backward, from each clip's own last segment.

    Raises:
        ValueError: if the output's width can't be shared by two directions.
    """

    def __init__(self, kind: str, width: int, out: int, *, bidirectional: bool = True) -> None:
        super().__init__()
        if bidirectional and out % 2:
            raise ValueError(f"width {out}: expected an even one, half for each direction")
        state = out // 2 if bidirectional else out
        self.net = KINDS[kind](width, state, batch_first=True, bidirectional=bidirectional)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, start: State | None = None
    ) -> tuple[Tensor, State]:
        """Run over (B, T, width).

        Args:
            x: The segments.
            mask: (B, T), True on a clip's first segments, one at least, and False after them.
            start: States to begin with, as this method returns them; None for zeros.

        Returns:
            (B, T, out), zeros where the mask is False, and the last states.
        """
        given = start[0] if start is not None and len(start) == 1 else start
        out, last = run_masked(self.net, x, mask, given)
        return out, last if isinstance(last, tuple) else (last,)


def run_masked(
    net: nn.RNNBase, x: Tensor, mask: Tensor | None, start: Any = None
) -> tuple[Tensor, Any]:
    """A recurrent network over clips of unequal length; padding changes nothing.

    The backward direction starts at each clip's own last segment; clips of one length take the
    unpacked path, which is faster.

    Args:
        net: The network, batch first.
        x: (B, T, width), the segments.
        mask: (B, T), True on a clip's first segments, one at least, and False after them.
        start: The states to begin with, as the network takes them.

    Returns:
        (B, T, out), zeros where the mask is False, and the last states as the network gives them.
    """
    if mask is None or bool(mask.all()):
        return run(net, x, start)
    packed = pack_padded_sequence(x, mask.sum(1).cpu(), batch_first=True, enforce_sorted=False)
    packed_out, last = run(net, packed, start)
    return pad_packed_sequence(packed_out, batch_first=True, total_length=x.shape[1])[0], last


@cache
def onednn_has_bfloat16() -> bool:
    """Whether oneDNN computes in bfloat16 on this processor; without AVX-512 it raises if asked."""
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def run(net: nn.RNNBase, x: Tensor | PackedSequence, start: Any = None) -> tuple[Any, Any]:
    """A recurrent network's outputs and last states, as ``net(x, start)`` gives them.

    Under autocast on a processor for which oneDNN has no bfloat16 it runs in float32: there the
    network itself would raise.
    """
    data = x.data
    if data.device.type != "cpu" or not torch.is_autocast_enabled("cpu") or onednn_has_bfloat16():
        return cast("tuple[Any, Any]", net(x, start))
    with torch.autocast("cpu", enabled=False):
        return cast("tuple[Any, Any]", net(_as_float(x), _as_float(start)))


def _as_float(x: Any) -> Any:
    """In float32: a tensor, packed segments, a state of either kind, or None."""
    if x is None:
        return None
    if isinstance(x, tuple) and not isinstance(x, PackedSequence):
        return tuple(part.float() for part in x)
    return x.float()


def to_front(x: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    """The kept segments of each clip moved to its front, in their order.

    Args:
        x: (B, T, D).
        keep: (B, T) bool.

    Returns:
        (B, E, D) with E the most that a clip keeps, at least 1, and the mask (B, E) of those kept;
        what lies behind them is zero.
    """
    count = keep.sum(1)
    longest = max(1, int(count.max()))
    order = (~keep).int().argsort(dim=1, stable=True)[:, :longest]
    front = x.gather(1, order[..., None].expand(-1, -1, x.shape[-1]))
    mask = torch.arange(longest, device=x.device) < count[:, None]
    return front.masked_fill(~mask[..., None], 0.0), mask
