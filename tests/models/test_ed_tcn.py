"""ED-TCN: the layers by hand, the lengths that halve badly, the inputs."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from avel.errors import UsageError
from avel.models.base import Batch, Output, build_model
from avel.models.ed_tcn import EdTcn, NormReLU

A, V, C, H, W = 6, 8, 3, 2, 3


def build(**options: Any) -> EdTcn:
    torch.manual_seed(0)
    model = build_model("ed_tcn", audio_dim=A, visual_dim=V, classes=C, **options)
    assert isinstance(model, EdTcn)
    return model.eval()


def clips(b: int, t: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.rand(b, t, A, generator=g), torch.rand(b, t, H, W, V, generator=g)


def test_normalised_relu_by_hand() -> None:
    x = torch.tensor([[[2.0, -1.0], [-3.0, -2.0], [1.0, -1.0]]])  # (1, 3 channels, 2 segments)
    expected = torch.tensor([[[2 / 2.00001, 0.0], [0.0, 0.0], [1 / 2.00001, 0.0]]])
    torch.testing.assert_close(NormReLU()(x), expected)


def test_a_clip_of_four_is_the_papers_network() -> None:
    """Encoder and decoder written out: convolution, activation, pool; repeat, convolution."""
    model = build(first=5, second=7)
    audio, visual = clips(2, 4)
    x = visual.mean((2, 3)).transpose(1, 2)

    def conv(layer: Any, x: Tensor) -> Tensor:
        y = F.conv1d(x, layer[0].weight, layer[0].bias, padding=2).relu()
        return y / (y.max(1, keepdim=True).values + 1e-5)

    for layer in model.encoder:
        x = F.max_pool1d(conv(layer, x), 2)
    assert x.shape == (2, 7, 1)
    for layer in model.decoder:
        x = conv(layer, F.interpolate(x, scale_factor=2, mode="nearest"))
    logits = F.linear(x.transpose(1, 2), model.head.weight, model.head.bias)
    answer = model(audio=audio, visual=visual)
    torch.testing.assert_close(answer.parts["logits"], logits)
    torch.testing.assert_close(answer.scores, logits.softmax(-1))
    assert answer.labels.equal(logits.argmax(-1))


def test_parameters_by_hand() -> None:
    """512 wide: 5 taps into 64, 96, 96, 64 channels, then 28 classes and background."""
    model = build_model("ed_tcn", audio_dim=128, visual_dim=512, classes=28)
    widths = [(512, 64), (64, 96), (96, 96), (96, 64)]
    by_hand = sum(5 * i * o + o for i, o in widths) + 64 * 29 + 29
    assert sum(model.parameter_counts().values()) == by_hand == 273_565


@pytest.mark.parametrize("t", [1, 2, 3, 5, 6, 7, 10, 37])
def test_what_pads_a_clip_never_counts(t: int) -> None:
    """However much is behind a clip, and whatever it holds."""
    model = build()
    audio, visual = clips(1, t)
    alone = model(audio=audio, visual=visual).scores
    for extra in (1, 2, 3, 9):
        more = [torch.cat([x, torch.full_like(x[:, :1], math.nan).repeat_interleave(extra, 1)], 1)
                for x in (audio, visual)]  # fmt: skip
        mask = torch.arange(t + extra)[None] < t
        padded = model(audio=more[0], visual=more[1], mask=mask).scores[:, :t]
        torch.testing.assert_close(padded, alone, atol=1e-5, rtol=0)


def test_each_input_is_what_is_read() -> None:
    audio, visual = clips(1, 6)
    other_audio, other_visual = clips(1, 6, seed=2)
    reads = {"visual": (False, True), "audio": (True, False), "both": (True, True)}
    for name, (by_sound, by_sight) in reads.items():
        model = build(modality=name)
        plain = model(audio=audio, visual=visual).scores
        sound = model(audio=other_audio, visual=visual).scores
        sight = model(audio=audio, visual=other_visual).scores
        assert plain.equal(sound) != by_sound
        assert plain.equal(sight) != by_sight


def test_loss_by_hand() -> None:
    """Logits 0, ln 2, 0, 0: class 1 has 2/5, class 0 has 1/5; the padded segment costs nothing."""
    logits = torch.tensor([[[0.0, math.log(2), 0.0, 0.0]] * 3])
    mask = torch.tensor([[True, True, False]])
    batch = Batch(*clips(1, 3), mask, torch.tensor([[1, 0, -1]]))
    loss = build().loss(Output(parts={"logits": logits}), batch)
    expected = (math.log(5 / 2) + math.log(5)) / 2
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_whole_channels_drop_in_training_alone() -> None:
    model = build(dropout=0.5).train()
    torch.manual_seed(3)
    x = model.encoder[0](torch.rand(1, V, 12))
    off = (x == 0).all(-1)
    assert 16 < int(off.sum()) < 48  # of 64 channels, a half
    audio, visual = clips(1, 8)
    assert not model(audio=audio, visual=visual).scores.equal(
        model(audio=audio, visual=visual).scores
    )
    model.eval()
    assert model(audio=audio, visual=visual).scores.equal(model(audio=audio, visual=visual).scores)


@pytest.mark.parametrize("b", [1, 4])
@pytest.mark.parametrize("t", [1, 3, 10, 37])
def test_every_weight_learns(b: int, t: int) -> None:
    model = build(modality="both").train()
    audio, visual = clips(b, t)
    batch = Batch(audio, visual, labels=torch.arange(t).expand(b, t) % (C + 1))
    model.loss(model(audio=audio, visual=visual), batch).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert bool(torch.isfinite(p.grad).all()), name
        assert bool(p.grad.any()), name


@pytest.mark.parametrize(
    "options", [{"modality": "sound"}, {"kernel": 0}, {"kernel": 4}, {"dropout": 1.0}, {"first": 0}]
)
def test_bad_options(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        build(**options)


def test_it_learns_a_boundary() -> None:
    """A picture that changes in the middle: every segment right after 60 steps."""
    model = build(first=16, second=16, dropout=0.0).train()
    torch.manual_seed(5)
    visual = torch.rand(8, 10, H, W, V)
    labels = torch.full((8, 10), C)
    for i in range(8):
        start = 1 + i % 4
        visual[i, start : start + 4, ..., i % 3] += 3
        labels[i, start : start + 4] = i % 3
    audio = torch.rand(8, 10, A)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        answer = model(audio=audio, visual=visual)
        model.loss(answer, Batch(audio, visual, labels=labels)).backward()
        optimiser.step()
    assert model(audio=audio, visual=visual).labels.equal(labels)
