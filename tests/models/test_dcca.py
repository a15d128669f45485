"""DCCA: CCA of known pairs, its gradient, the fit in pieces, and the windows it chooses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import eigh, qr
from torch import Tensor

from avel.errors import UsageError
from avel.models.base import Batch, Output, Query, build_model
from avel.models.dcca import Dcca, RunningCovariances, canonical, inverse_root, total_correlation

A, V, C, H, W = 6, 8, 3, 2, 3
TINY = 1e-12  #: a ridge that doesn't show


def build(**options: Any) -> Dcca:
    torch.manual_seed(0)
    sizes = {"audio_dim": A, "visual_dim": V, "classes": C, "hidden": 12, "width": 4}
    model = build_model("dcca", task="cml", **{**sizes, **options})
    assert isinstance(model, Dcca)
    return model.eval()


def clips(b: int, t: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.rand(b, t, A, generator=g), torch.rand(b, t, H, W, V, generator=g)


def one_event(b: int, t: int) -> Tensor:
    labels = torch.full((b, t), C)
    labels[:, t // 3 : t // 3 + 3] = 1
    return labels


def known_pair() -> tuple[Tensor, Tensor]:
    """Four segments of orthogonal +-1 columns: the correlation of y1 with x1 is 3/5, of y2 0."""
    x1 = torch.tensor([1.0, 1.0, -1.0, -1.0]).double()
    x2 = torch.tensor([1.0, -1.0, 1.0, -1.0]).double()
    x3 = x1 * x2
    return torch.stack([x1, 2 * x2], 1), torch.stack([3 * x1 + 4 * x3, torch.zeros(4).double()], 1)


# ---- CCA


def test_a_pair_worked_by_hand() -> None:
    """y1 = 3 x1 + 4 x3: var 25 * 4/3, cov with x1 3 * 4/3, so 3/5; y2 is constant."""
    h1, h2 = known_pair()
    assert total_correlation(h1, h2, TINY).item() == pytest.approx(0.6, abs=1e-9)


def test_the_ridge_by_hand() -> None:
    """One channel each: cov / sqrt((var1 + r) (var2 + r)), var 4/3 and 4/3, cov 4/3, r = 2/3."""
    x = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]]).double()
    assert total_correlation(x, x, 2 / 3).item() == pytest.approx((4 / 3) / 2, abs=1e-12)
    assert total_correlation(x, -5 * x, TINY).item() == pytest.approx(1, abs=1e-9)  # sign is free


def test_against_the_generalised_eigenproblem() -> None:
    """Correlations are the square roots of S11^-1 S12 S22^-1 S21's eigenvalues (Hotelling)."""
    rng = np.random.default_rng(0)
    h1 = rng.standard_normal((50, 3))
    h2 = np.c_[h1 @ rng.standard_normal((3, 2)) + rng.standard_normal((50, 2)), rng.random((50, 2))]
    s = np.cov(np.c_[h1, h2], rowvar=False)
    left = s[:3, 3:] @ np.linalg.inv(s[3:, 3:]) @ s[3:, :3]
    expected = np.sqrt(eigh(left, s[:3, :3], eigvals_only=True))[::-1]
    t = torch.from_numpy(s)
    p1, p2, found = canonical(t[:3, :3], t[3:, 3:], t[:3, 3:], TINY)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-9)
    whole = total_correlation(torch.from_numpy(h1), torch.from_numpy(h2), TINY)
    assert whole.item() == pytest.approx(expected.sum(), abs=1e-9)
    # the projections are white, and correlate by those values alone
    torch.testing.assert_close(p1.T @ t[:3, :3] @ p1, torch.eye(3).double(), atol=1e-8, rtol=0)
    torch.testing.assert_close(p2.T @ t[3:, 3:] @ p2, torch.eye(3).double(), atol=1e-8, rtol=0)
    torch.testing.assert_close(p1.T @ t[:3, 3:] @ p2, torch.diag(found), atol=1e-8, rtol=0)


def test_inverse_root() -> None:
    s = torch.tensor([[5.0, 3.0], [3.0, 5.0]]).double()
    root = inverse_root(s)
    torch.testing.assert_close(root @ root @ s, torch.eye(2).double())


@pytest.mark.parametrize("widths", [(3, 3), (2, 4)])
def test_the_gradient_is_right(widths: tuple[int, int]) -> None:
    torch.manual_seed(0)
    h1, h2 = (torch.randn(9, w, dtype=torch.float64, requires_grad=True) for w in widths)
    assert torch.autograd.gradcheck(lambda a, b: total_correlation(a, b, 0.1), (h1, h2))


def test_the_gradient_is_finite_where_eigenvalues_coincide() -> None:
    q = torch.from_numpy(qr(np.random.default_rng(0).standard_normal((8, 5)), mode="economic")[0])
    q = q - q.mean(0)
    h1 = q[:, :3].clone().requires_grad_()
    total_correlation(h1, q[:, 1:4] + q[:, 2:5], 1e-3).backward()
    assert h1.grad is not None
    assert bool(torch.isfinite(h1.grad).all())


def test_moments_in_pieces_are_those_of_the_whole() -> None:
    rng = np.random.default_rng(1)
    x = 1000 + rng.standard_normal((31, 5))  # far from zero: sums of squares would lose it
    moments = RunningCovariances(2, 3, torch.device("cpu"))
    for piece in np.split(x, [1, 1, 4, 20]):
        moments.add(torch.from_numpy(piece[:, :2]), torch.from_numpy(piece[:, 2:]))
    s = np.cov(x, rowvar=False)
    found = moments.covariances()
    for got, expected in zip(found, (s[:2, :2], s[2:, 2:], s[:2, 2:]), strict=True):
        np.testing.assert_allclose(got.numpy(), expected, atol=1e-9)
    np.testing.assert_allclose(moments.mean.numpy(), x.mean(0), atol=1e-9)


# ---- the model


def test_parameters_by_hand() -> None:
    model = build_model("dcca", audio_dim=128, visual_dim=512, classes=28, task="cml")
    by_hand = (128 * 128 + 128) + (512 * 128 + 128) + 2 * (128 * 64 + 64)
    assert sum(model.parameter_counts().values()) == by_hand == 98_688


def test_the_loss_counts_event_pairs_alone() -> None:
    h1, h2 = known_pair()
    junk = torch.full((1, 2, 2), 7.0, dtype=torch.float64)
    parts = {"audio": torch.cat([h1[None], junk], 1), "visual": torch.cat([h2[None], -junk], 1)}
    labels = torch.tensor([[1, 1, 1, 1, C, -1]])
    mask = torch.arange(6)[None] < 5
    batch = Batch(*clips(1, 6), mask, labels)
    loss = build(width=2, ridge=TINY).loss(Output(parts=parts), batch)
    assert loss.item() == pytest.approx(-0.6, abs=1e-6)
    every = build(width=2, ridge=1e-3, pairs="all").loss(Output(parts=parts), batch)
    expected = total_correlation(
        torch.cat([h1, junk[0, :1]]), torch.cat([h2, -junk[0, :1]]), 1e-3
    ).item()  # fmt: skip
    assert every.item() == pytest.approx(-expected, abs=1e-6)


def test_a_batch_without_pairs_costs_nothing() -> None:
    model = build().train()
    audio, visual = clips(1, 3)
    labels = torch.tensor([[C, 1, C]])  # one pair has no correlation
    loss = model.loss(model(audio=audio, visual=visual), Batch(audio, visual, labels=labels))
    loss.backward()
    assert loss.item() == 0


@pytest.mark.parametrize("b", [1, 4])
@pytest.mark.parametrize("t", [3, 10, 37])
def test_every_weight_learns(b: int, t: int) -> None:
    model = build().train()
    audio, visual = clips(b, t)
    batch = Batch(audio, visual, labels=one_event(b, t))
    model.loss(model(audio=audio, visual=visual), batch).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert bool(torch.isfinite(p.grad).all()), name
        # a bias behind the last layer is centred away
        assert name.endswith("net.2.bias") or bool(p.grad.any()), name


def batches(count: int, size: int) -> Iterator[Batch]:
    audio, visual = clips(24, 9)
    labels = one_event(24, 9)
    for i in range(0, count, size):
        part = slice(i, i + size)
        yield Batch(audio[part], visual[part], labels=labels[part])


def test_finish_whitens_the_training_outputs() -> None:
    model = build(ridge=1e-9)
    model.finish(batches(24, 5))
    audio, visual = clips(24, 9)
    answer = model(audio=audio, visual=visual)
    keep = one_event(24, 9) == 1
    heard = (answer.parts["audio"][keep] - model.mean_audio) @ model.project_audio
    seen = (answer.parts["visual"][keep] - model.mean_visual) @ model.project_visual
    cross = heard.T @ seen / (len(heard) - 1)
    torch.testing.assert_close(cross, torch.diag(model.correlations), atol=1e-2, rtol=0)
    torch.testing.assert_close(heard.mean(0), torch.zeros(4), atol=1e-3, rtol=0)
    assert 1 > model.correlations[0] >= model.correlations[-1] > 0


def test_finish_in_any_pieces_and_nothing_without_pairs() -> None:
    whole, pieces = build(), build()
    whole.finish(batches(24, 24))
    pieces.finish(batches(24, 5))
    torch.testing.assert_close(whole.correlations, pieces.correlations)
    before = {k: v.clone() for k, v in whole.state_dict().items()}
    whole.finish([])
    assert all(before[k].equal(v) for k, v in whole.state_dict().items())


def test_the_fit_is_part_of_the_state() -> None:
    model, other = build(), build()
    model.finish(batches(24, 24))
    audio, visual = clips(2, 8, seed=4)
    query = Query("audio", 2, 3)
    expected = model.window_costs(audio=audio, visual=visual, query=query)
    assert not other.window_costs(audio=audio, visual=visual, query=query).allclose(expected)
    other.load_state_dict(model.state_dict())
    assert other.window_costs(audio=audio, visual=visual, query=query).equal(expected)


def test_window_costs_by_hand() -> None:
    """Bare outputs of identity perceptrons: sums of 1 - cosine of aligned segments."""
    model = build(audio_dim=2, visual_dim=2, hidden=2, width=2)
    for net in (model.audio_net, model.visual_net):
        for layer in (net[0], net[2]):
            torch.nn.init.eye_(layer.weight)  # type: ignore[arg-type]
            torch.nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    east, north, both = [2.0, 0.0], [0.0, 3.0], [1.0, 1.0]
    audio = torch.tensor([[east, north, both, east]])
    visual = torch.tensor([[north, both, east, north]])[:, :, None, None]
    half = 1 - 0.5**0.5
    a2v = model.window_costs(audio=audio, visual=visual, query=Query("audio", 0, 2))
    torch.testing.assert_close(a2v, torch.tensor([[1 + half, half + 1, 0.0 + 0.0]]))
    v2a = model.window_costs(audio=audio, visual=visual, query=Query("visual", 1, 2))
    torch.testing.assert_close(v2a, torch.tensor([[half + 1, half + half, 0.0 + 0.0]]))


def test_tracks_of_two_recordings() -> None:
    audio, visual = clips(2, 12)
    costs = build().window_costs(audio=audio, visual=visual[:, :7], query=Query("visual", 1, 4))
    assert costs.shape == (2, 9)
    with pytest.raises(UsageError, match="segments"):
        build().window_costs(audio=audio, visual=visual[:, :7], query=Query("audio", 0, 8))


def test_bfloat16_changes_the_networks_alone() -> None:
    model = build()
    model.finish(batches(24, 24))
    audio, visual = clips(3, 8)
    query = Query("audio", 2, 3)
    plain = model.window_costs(audio=audio, visual=visual, query=query)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model.window_costs(audio=audio, visual=visual, query=query)
    assert mixed.dtype == torch.float32
    assert (mixed - plain).abs().max() < 0.3
    assert len(mixed.unique()) == mixed.numel()


@pytest.mark.parametrize("options", [{"pairs": "some"}, {"ridge": 0.0}, {"width": 0}])
def test_bad_options(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        build(**options)


def test_it_finds_the_pairs_it_was_trained_on() -> None:
    """Sound and picture that share two hidden numbers: events are found well above chance."""
    rng = torch.Generator().manual_seed(0)
    hidden = torch.randn(96, 10, 2, generator=rng)
    audio = (hidden @ torch.randn(2, A, generator=rng)).tanh()
    visual = (
        (hidden @ torch.randn(2, V, generator=rng))
        .tanh()[:, :, None, None]
        .expand(-1, -1, H, W, -1)
    )
    audio = audio + 0.1 * torch.randn(audio.shape, generator=rng)
    labels = one_event(96, 10)
    model = build(hidden=32, width=2).train()
    train = Batch(audio[:64], visual[:64], labels=labels[:64])
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        model.loss(model(audio=train.audio, visual=train.visual), train).backward()
        optimiser.step()
    model.eval().finish([train])
    assert model.correlations[1] > 0.8
    costs = model.window_costs(audio=audio[64:], visual=visual[64:], query=Query("audio", 3, 3))
    assert (costs.argmin(1) == 3).float().mean() > 0.8  # chance: 1/8
