"""AVSDN: the network written out for one clip, its losses by hand, padding, gradients."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from avel.errors import UsageError
from avel.models.avsdn import Avsdn
from avel.models.base import Batch, Output, build_model
from avel.models.recurrent import Recurrent, to_front

A, V, C, H, W = 6, 8, 3, 2, 3


def build(**options: Any) -> Avsdn:
    torch.manual_seed(0)
    sizes = {"audio_dim": A, "visual_dim": V, "classes": C, "state": 4, "hidden": 7, "width": 5}
    model = build_model("avsdn", **{**sizes, **options})
    assert isinstance(model, Avsdn)
    return model


def clips(b: int, t: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.rand(b, t, A, generator=g), torch.rand(b, t, H, W, V, generator=g)


# ---- the recurrent brick


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("both", [True, False])
def test_recurrent_pads_without_trace(kind: str, both: bool) -> None:
    torch.manual_seed(0)
    net = Recurrent(kind, 3, 4, bidirectional=both)
    x = torch.rand(3, 6, 3)
    lengths = [6, 2, 1]
    mask = torch.arange(6) < torch.tensor(lengths)[:, None]
    x[~mask] = math.nan
    whole, last = net(x, mask)
    assert whole[~mask].eq(0).all()
    for i, n in enumerate(lengths):
        alone, end = net(x[i : i + 1, :n])
        torch.testing.assert_close(whole[i : i + 1, :n], alone)
        for got, expected in zip(last, end, strict=True):
            torch.testing.assert_close(got[:, i : i + 1], expected)
    # and what one run ends with, another may begin with
    for i, n in enumerate(lengths):
        alone, _ = net(x[i : i + 1, :n], None, tuple(s[:, i : i + 1].contiguous() for s in last))
        torch.testing.assert_close(net(x, mask, last)[0][i : i + 1, :n], alone)


def test_recurrent_wants_a_width_for_two() -> None:
    with pytest.raises(ValueError, match="even"):
        Recurrent("gru", 3, 5)
    assert Recurrent("gru", 3, 5, bidirectional=False)(torch.rand(1, 2, 3))[0].shape == (1, 2, 5)


def test_to_front() -> None:
    x = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])[..., None]
    keep = torch.tensor([[False, True, True], [True, False, False], [False] * 3])
    moved, kept = to_front(x, keep)
    assert moved[..., 0].tolist() == [[2, 3], [4, 0], [0, 0]]
    assert kept.tolist() == [[True, True], [True, False], [False, False]]
    assert to_front(x, torch.zeros_like(keep))[0].shape == (3, 1, 1)


# ---- the network


def test_one_clip_written_out() -> None:
    model = build().eval()
    audio, visual = clips(1, 5)
    flat = visual.flatten(2, 3)
    seen, maps = model.look(audio, flat)
    _, (ha, ca) = model.audio_encoder.net(audio)
    _, (hv, cv) = model.visual_encoder.net(seen)

    def block(net: Any, a: Tensor, v: Tensor) -> Tensor:
        a, v = torch.cat([a[0], a[1]], -1), torch.cat([v[0], v[1]], -1)  # both directions
        (one,) = net.blocks
        f = (one.u_a(a) + one.u_v(v)) / 2
        joint = ((a + f).tanh() + (v + f).tanh()) / 2
        return torch.stack([joint[:, :4], joint[:, 4:]])

    start = block(model.fuse.hidden, ha, hv), block(model.fuse.cell, ca, cv)
    out, _ = model.decoder.net(torch.cat([audio, seen], -1), start)
    logits = model.head(out.relu())
    answer = model(audio=audio, visual=visual)
    torch.testing.assert_close(answer.parts["logits"], logits)
    torch.testing.assert_close(answer.scores, logits.softmax(-1))
    assert answer.attention is not None
    torch.testing.assert_close(answer.attention, maps.reshape(1, 5, H, W))


def test_parameters_by_hand() -> None:
    model = build_model("avsdn", audio_dim=128, visual_dim=512, classes=28)
    attention = (128 * 512 + 512) + (512 * 512 + 512) + 2 * 512 * 49 + 49

    def lstm(width: int) -> int:
        return 2 * 4 * (width * 128 + 128 * 128 + 2 * 128)

    dmrn = 4 * (256 * 256 + 256)
    by_hand = attention + lstm(128) + lstm(512) + lstm(640) + 2 * dmrn + 256 * 29 + 29
    assert sum(model.parameter_counts().values()) == by_hand


def test_the_first_answer_has_seen_the_last_segment() -> None:
    """Through the decoder's start too: with its own sequence cut off, the encoders' end counts."""
    model = build().eval()
    audio, visual = clips(1, 8)
    plain = model(audio=audio, visual=visual).parts["logits"]
    for part in (model.decoder.net.weight_ih_l0, model.decoder.net.weight_ih_l0_reverse):
        nn.init.zeros_(part)
    blind = model(audio=audio, visual=visual).parts["logits"]
    later = audio.clone()
    later[:, -1] += 1
    moved = model(audio=later, visual=visual).parts["logits"]
    assert not plain.allclose(blind)
    assert (moved - blind)[:, 0].abs().max() > 1e-4


@pytest.mark.parametrize("task", ["sel", "wsel"])
@pytest.mark.parametrize("b", [1, 3])
@pytest.mark.parametrize("t", [1, 3, 10, 37])
def test_every_weight_learns(task: str, b: int, t: int) -> None:
    model = build(task=task)
    audio, visual = clips(b, t)
    mask = torch.arange(t) < torch.tensor([t, max(1, t - 2), 1][:b])[:, None]
    labels = (torch.arange(t) % (C + 1)).expand(b, t).where(mask, torch.tensor(-1))
    tags = torch.eye(C + 1)[torch.arange(b) % C]
    answer = model(audio=audio, visual=visual, mask=mask)
    model.loss(answer, Batch(audio, visual, mask, labels, tags)).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert bool(torch.isfinite(p.grad).all()), name
        first = t == 1 and "encoder.net.weight_hh" in name  # nothing before a first segment
        assert first or bool(p.grad.any()), name


def test_sel_loss_by_hand() -> None:
    """Logits 0, ln 2, 0, 0: class 1 has 2/5, class 0 has 1/5; padding costs nothing."""
    logits = torch.tensor([[[0.0, math.log(2), 0.0, 0.0]] * 3])
    mask = torch.tensor([[True, True, False]])
    batch = Batch(*clips(1, 3), mask, torch.tensor([[1, 0, -1]]))
    loss = build().loss(Output(parts={"logits": logits}), batch)
    assert loss.item() == pytest.approx((math.log(5 / 2) + math.log(5)) / 2, abs=1e-6)


def test_wsel_loss_by_hand() -> None:
    """Mean over time of ln 4, 0 and padding: ln 2 for class 1; two tags share the cross-entropy."""
    logits = torch.zeros(1, 3, 4)
    logits[0, 0, 1], logits[0, 2] = math.log(4), 9.0
    mask = torch.tensor([[True, True, False]])
    model = build(task="wsel")
    for tags, expected in (
        ([0.0, 1.0, 0.0, 0.0], math.log(5 / 2)),
        ([1.0, 1.0, 0.0, 0.0], (math.log(5 / 2) + math.log(5)) / 2),
        ([0.0, 0.75, 0.0, 0.25], 0.75 * math.log(5 / 2) + 0.25 * math.log(5)),
    ):
        batch = Batch(*clips(1, 3), mask, tags=torch.tensor([tags]))
        loss = model.loss(Output(parts={"logits": logits}), batch)
        assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_bfloat16_is_near() -> None:
    model = build().eval()
    audio, visual = clips(3, 6)
    mask = torch.arange(6) < torch.tensor([6, 4, 2])[:, None]
    plain = model(audio=audio, visual=visual, mask=mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for maps in (visual, visual.bfloat16()):
            mixed = model(audio=audio, visual=maps, mask=mask)
            assert mixed.scores.dtype == torch.float32
            torch.testing.assert_close(mixed.scores[mask], plain.scores[mask], atol=0.03, rtol=0)


def test_bad_options() -> None:
    with pytest.raises(UsageError, match="state=0"):
        build(state=0)
