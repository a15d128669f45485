"""Recurrent networks as ONNX has them: one node each, so that their length stays open.

`torch.export` unrolls an LSTM to the length of its example. Here it stands in the graph as an
operator of its own, which becomes ONNX's LSTM, GRU or RNN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from avel.errors import CheckpointError


class _Node(nn.Module):
    """An LSTM, GRU or RNN of one layer whose weights lie as ONNX wants them."""

    #: Where ONNX's gates are among torch's (LSTM: i, o, f, g of i, f, g, o).
    GATES: Mapping[str, tuple[int, ...]] = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}

    w: Tensor  # (directions, gates * state, width)
    r: Tensor  # (directions, gates * state, state)
    b: Tensor  # (directions, 2 * gates * state)

    def __init__(self, net: nn.RNNBase) -> None:
        super().__init__()
        self.kind, self.state = type(net).__name__, net.hidden_size
        if net.num_layers != 1 or not net.batch_first or net.proj_size:
            raise CheckpointError(f"a recurrent network of a form that isn't exported: {net}")
        sides = ("l0", "l0_reverse") if net.bidirectional else ("l0",)

        def gathered(name: str) -> Tensor:
            return torch.stack([self._ordered(getattr(net, f"{name}_{s}")) for s in sides])

        self.register_buffer("w", gathered("weight_ih"))
        self.register_buffer("r", gathered("weight_hh"))
        self.register_buffer("b", torch.cat([gathered("bias_ih"), gathered("bias_hh")], 1))

    def _ordered(self, weight: Tensor) -> Tensor:
        gates = torch.split(weight.detach(), self.state)
        return torch.cat([gates[g] for g in self.GATES[self.kind]])

    def forward(self, x: Tensor, hx: Any = None) -> tuple[Tensor, Any]:
        """As torch's: (B, T, width) -> (B, T, directions * state), and the last states."""
        h = c = x.new_zeros(self.r.shape[0], x.shape[0], self.state)
        if hx is not None:
            h, c = hx if self.kind == "LSTM" else (hx, hx)
        node = _nodes()[0]
        y, h, c = node(x.transpose(0, 1), self.w, self.r, self.b, h, c, self.kind)
        y = y.permute(2, 0, 1, 3).flatten(2)  # (T, directions, B, state) before
        return y, (h, c) if self.kind == "LSTM" else h


def in_one_node(network: nn.Module) -> nn.Module:
    """The same network, changed in place: its recurrent networks as one node each.

    Raises:
        CheckpointError: if one of them has several layers, or a form that no model here has.
    """
    for name, child in network.named_children():
        if isinstance(child, nn.RNNBase):
            setattr(network, name, _Node(child))
        else:
            in_one_node(child)
    return network


def translations() -> dict[Any, Callable[..., Any]]:
    """What becomes of the operator in ONNX, for ``torch.onnx.export``."""
    return dict(_nodes()[1])


@cache
def _nodes() -> tuple[Any, Mapping[Any, Callable[..., Any]]]:
    """The operator `avel::recurrent`, and what becomes of it in ONNX."""
    from onnxscript import opset18 as op

    torch.library.define(
        "avel::recurrent",
        "(Tensor x, Tensor w, Tensor r, Tensor b, Tensor h, Tensor c, str kind)"
        " -> (Tensor, Tensor, Tensor)",
    )

    def shapes(
        x: Tensor, w: Tensor, r: Tensor, b: Tensor, h: Tensor, c: Tensor, kind: str
    ) -> tuple[Tensor, Tensor, Tensor]:
        y = x.new_empty(x.shape[0], r.shape[0], x.shape[1], r.shape[2])
        return y, torch.empty_like(h), torch.empty_like(c)

    def translated(x: Any, w: Any, r: Any, b: Any, h: Any, c: Any, kind: str) -> Any:
        both = r.shape[0] == 2
        how = {"direction": "bidirectional" if both else "forward", "hidden_size": r.shape[2]}
        if kind == "LSTM":
            return op.LSTM(x, w, r, b, None, h, c, **how)
        if kind == "GRU":
            y, last = op.GRU(x, w, r, b, None, h, linear_before_reset=1, **how)
        else:
            y, last = op.RNN(x, w, r, b, None, h, activations=["Tanh"] * (1 + both), **how)
        return y, last, op.Identity(c)

    torch.library.register_fake("avel::recurrent")(shapes)
    node = torch.ops.avel.recurrent
    return node, {node.default: translated}
