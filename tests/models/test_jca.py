"""JCA: the printed form against its equations, any length, and every row of its tables."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import avel.models.jca
from avel.errors import UsageError
from avel.models.base import Batch, Output, build_model
from avel.models.jca import Attend, AttendFixed, Jca, Join
from tests.variants import descend

A, V, C, H, W, N = 6, 8, 3, 2, 3, 10
LN3 = math.log(3.0)
SMALL = {"audio_out": 8, "visual_out": 8, "joint_out": 12, "hidden": 7, "rows": 5}


def build(**options: Any) -> Jca:
    torch.manual_seed(0)
    model = build_model("jca", audio_dim=A, visual_dim=V, classes=C, **{**SMALL, **options})
    assert isinstance(model, Jca)
    return model


def clips(b: int, t: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.rand(b, t, A, generator=g), torch.rand(b, t, H, W, V, generator=g)


def count_of(t: int) -> Tensor:
    return torch.full((1, 1, 1), float(t))


# ---- joint co-attention


def test_the_printed_form_is_equations_3_to_6() -> None:
    torch.manual_seed(0)
    d_a, d, k = 3, 5, 4
    one = AttendFixed(d_a, d, length=N, rows=k)
    a, joint = torch.randn(N, d_a), torch.randn(N, d)
    w_ja, w_a, w_ca, w_ha = one.w_j.weight, one.w_a.weight, one.w_c.weight, one.w_h.weight.T
    assert [tuple(w.shape) for w in (w_ja, w_a, w_ca, w_ha)] == [(N, N), (k, N), (k, d), (k, N)]
    c = torch.tanh(a.T @ w_ja @ joint / d**0.5)  # (d_a, d)
    h = torch.relu(w_a @ a + w_ca @ c.T)  # (k, d_a)
    torch.testing.assert_close(one(a[None], joint[None], count_of(N))[0], a + w_ha.T @ h)


def test_the_form_for_any_length() -> None:
    torch.manual_seed(0)
    d_a, d, t = 3, 5, 7
    one = Attend(d_a, d, normalize=False)
    a, joint = torch.randn(t, d_a), torch.randn(t, d)
    c = torch.tanh(a.T @ (joint @ one.m.weight.T) / (t * d**0.5))
    h = torch.relu(a @ one.u.weight.T + joint @ c.T / d**0.5)
    expected = a + h @ one.u_h.weight.T
    torch.testing.assert_close(one(a[None], joint[None], count_of(t))[0], expected)


def test_any_length_by_hand() -> None:
    """Widths of 1, all weights 1: A = (1, 3), J = (2, 4): C = tanh((2 + 12) / 2) = tanh 7."""
    one = Attend(1, 1, normalize=False)
    for p in one.parameters():
        torch.nn.init.ones_(p)
    a, joint = torch.tensor([[[1.0], [3.0]]]), torch.tensor([[[2.0], [4.0]]])
    found = one(a, joint, count_of(2))[0, :, 0].tolist()
    c = math.tanh(7)
    assert found == pytest.approx([1 + 1 + 2 * c, 3 + 3 + 4 * c])


def test_normalised_the_form_for_any_length_reads_standard_channels() -> None:
    torch.manual_seed(0)
    plain, normal = Attend(4, 6, normalize=False), Attend(4, 6)
    normal.load_state_dict(plain.state_dict())
    a, joint = torch.randn(2, 7, 4), 50 * torch.randn(2, 7, 6)
    standard = [torch.nn.functional.layer_norm(x, x.shape[-1:]) for x in (a, joint)]
    change = plain(*standard, count_of(7)) - standard[0]
    torch.testing.assert_close(normal(a, joint, count_of(7)), a + change)
    assert normal(a, joint, count_of(7)).isclose(normal(a, 2 * joint, count_of(7)), atol=1e-3).all()


@pytest.mark.parametrize("kind", Jca.choices["joint"])
def test_ways_to_form_j(kind: str) -> None:
    join = Join(kind, 2, 2)
    a, v = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[5.0, 7.0]]])
    plain = {"concat": [1.0, 2.0, 5.0, 7.0], "add": [6.0, 9.0], "multiply": [5.0, 14.0]}
    expected = torch.tensor([[plain[kind.removesuffix("+fc")]]])
    assert join.out == expected.shape[-1]
    if kind.endswith("+fc"):
        assert join.fc is not None
        expected = join.fc(expected)
    torch.testing.assert_close(join(a, v), expected)


def test_recursions_follow_one_another() -> None:
    """Each with weights of its own, J of what the one before gave (eq. 7, 8)."""
    model = build(recursions=3).eval()
    a, v = torch.randn(1, 4, 8), torch.randn(1, 4, 8)
    keep = torch.ones(1, 4, dtype=torch.bool)
    found = model.fuse(a, v, keep)
    for layer in model.layers:
        joint = layer.join(torch.cat([a, v], -1)[..., :8], v)  # type: ignore[operator,union-attr]
        a, v = layer.audio(a, joint, count_of(4)), layer.visual(v, joint, count_of(4))  # type: ignore[operator]
    torch.testing.assert_close(found[0], a)
    torch.testing.assert_close(found[1], v)
    assert len({id(p) for layer in model.layers for p in layer.parameters()}) == 3 * 8


def test_co_attention_leaves_j_out() -> None:
    model = build(attention="co", recursions=1, audio_out=6, visual_out=10).eval()
    (layer,) = model.layers
    a, v = torch.randn(1, 4, 6), torch.randn(1, 4, 10)
    found = model.fuse(a, v, torch.ones(1, 4, dtype=torch.bool))
    torch.testing.assert_close(found[0], layer.audio(a, v, count_of(4)))  # type: ignore[operator]
    torch.testing.assert_close(found[1], layer.visual(v, a, count_of(4)))  # type: ignore[operator]
    assert layer.join is None


# ---- the network


def test_one_clip_written_out() -> None:
    model = build(recursions=1).eval()
    audio, visual = clips(1, 5)
    assert model.look is not None
    seen, maps = model.look(audio, visual.flatten(2, 3))
    modalities = []
    for part, s in ((model.represent_audio, audio), (model.represent_visual, seen)):
        assert part.recurrent is not None
        modalities.append(part.linear(torch.cat([s, part.recurrent.net(s)[0]], -1)))
    a, v = model.fuse(*modalities, torch.ones(1, 5, dtype=torch.bool))
    assert model.joint is not None
    logits = model.head(model.joint.net(torch.cat([a, v], -1))[0])
    answer = model(audio=audio, visual=visual)
    torch.testing.assert_close(answer.parts["logits"], logits)
    torch.testing.assert_close(answer.scores, logits.softmax(-1))
    assert answer.attention is not None
    torch.testing.assert_close(answer.attention, maps.reshape(1, 5, H, W))


@pytest.mark.parametrize("early", Jca.choices["early"])
def test_early_fusion(early: str) -> None:
    model = build(early=early).eval()
    audio, visual = clips(2, 3)
    flat = visual.flatten(2, 3)
    seen, maps = model.read(audio, flat)
    if early in ("mean", "max"):
        expected = flat.mean(2) if early == "mean" else flat.max(2).values
        torch.testing.assert_close(seen, expected)
        assert model(audio=audio, visual=visual).attention is None
        return
    assert maps is not None
    torch.testing.assert_close(seen, (maps[..., None] * flat).sum(2))
    if early == "dot":
        assert model.look is not None
        query = model.look.query(audio)  # type: ignore[operator]
        weights = (flat @ query[..., None])[..., 0] / V**0.5
        torch.testing.assert_close(maps, weights.softmax(-1))


def parameters(**options: Any) -> int:
    with torch.device("meta"):
        model = build_model("jca", audio_dim=128, visual_dim=512, classes=28, **options)
    return sum(model.parameter_counts().values())


def by_hand(d_a: int, d_v: int, recursions: int, per_layer: int, *, outside: int = 0) -> int:
    look = (128 * 512 + 512) + (512 * 512 + 512) + 2 * 512 * 49 + 49

    def lstm(width: int, out: int) -> int:
        return 2 * 4 * (out // 2) * (width + out // 2 + 2)

    ins = lstm(128, d_a) + lstm(512, d_v)
    ins += (128 + d_a) * d_a + d_a + (512 + d_v) * d_v + d_v
    head = lstm(d_a + d_v, 1024) + (1024 * 256 + 256) + (256 * 29 + 29)
    return look + ins + recursions * per_layer + head + outside


@pytest.mark.parametrize(("d_a", "d_v", "recursions"), [(512, 512, 4), (256, 1024, 1)])
def test_parameters_by_hand(d_a: int, d_v: int, recursions: int) -> None:
    d = d_a + d_v
    fc = d * d + d
    sizes = {"audio_out": d_a, "visual_out": d_v, "recursions": recursions}
    layer = fc + 2 * d * d + 2 * (d_a * d_a + d_v * d_v)
    assert parameters(**sizes) == by_hand(d_a, d_v, recursions, layer)
    printed = fc + 2 * (10 * 10 + 512 * 10 + 512 * d + 512 * 10)
    assert parameters(form="paper", **sizes) == by_hand(d_a, d_v, recursions, printed)


def test_parameters_beside_the_papers() -> None:
    """The module's own table: tables 4 and 5 (512 x 512 and four recursions unless said)."""
    names = {"d_a": "audio_out", "d_v": "visual_out", "l": "recursions", "J": "joint"}
    rows = [r for r in (avel.models.jca.__doc__ or "").splitlines() if r.count(" | ") == 3]
    assert len(rows) == 17
    for row in rows[1:]:
        first, theirs, *ours = (cell.strip() for cell in row.split(" | "))
        pairs = (word.split("=") for word in first.split())
        options = {names[k]: v if k == "J" else int(v) for k, v in pairs}
        for form, shown in zip(("any", "paper"), ours, strict=True):
            assert shown == f"{parameters(form=form, **options) / 1e6:.2f}", row
        assert float(theirs) > 0


# ---- the paper's form


def test_the_printed_form_is_fixed_to_its_length() -> None:
    model = build(form="paper", length=6).eval()
    audio, visual = clips(1, 7)
    with pytest.raises(UsageError, match="form=any"):
        model(audio=audio, visual=visual)
    short = model(audio=audio[:, :4], visual=visual[:, :4]).scores
    assert short.shape == (1, 4, C + 1)
    mask = torch.arange(6)[None] < 4
    padded = model(audio=audio[:, :6], visual=visual[:, :6], mask=mask).scores[:, :4]
    torch.testing.assert_close(short, padded, atol=1e-6, rtol=0)


def test_j_is_zero_on_rows_that_were_filled_up(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    forward = AttendFixed.forward

    def spied(self: AttendFixed, a: Tensor, joint: Tensor, count: Tensor) -> Tensor:
        seen.append(joint)
        return forward(self, a, joint, count)

    monkeypatch.setattr(AttendFixed, "forward", spied)
    model = build(form="paper", length=6).eval()
    audio, visual = clips(1, 6)
    model(audio=audio[:, :4], visual=visual[:, :4])
    assert seen and all(j[:, :4].abs().sum() > 0 and not j[:, 4:].any() for j in seen)


# ---- every variant: gradients, padding, lengths

VARIANTS: list[dict[str, Any]] = [
    {}, *({"early": e} for e in ("dot", "mean", "max")), {"recurrent": "gru"}, {"unimodal": False},
    {"residual": False}, {"joint_recurrent": False}, {"attention": "co"}, {"form": "paper"},
    {"form": "paper", "attention": "co"}, {"form": "paper", "joint": "multiply"},
    *({"joint": j} for j in Jca.choices["joint"][1:]), {"recursions": 1}, {"recursions": 5},
    {"audio_out": 12, "visual_out": 20}, {"wide": 11},
]  # fmt: skip


@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize(("b", "t"), [(1, 1), (3, 3), (2, 10), (1, 37)])
def test_every_weight_learns(options: dict[str, Any], b: int, t: int) -> None:
    model = build(**{**options, "length": max(t, N)})
    audio, visual = clips(b, t)
    labels = (torch.arange(t) % (C + 1)).expand(b, t)
    model.loss(model(audio=audio, visual=visual), Batch(audio, visual, labels=labels)).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert bool(torch.isfinite(p.grad).all()), name
        assert (t == 1 and "weight_hh" in name) or bool(p.grad.any()), name


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_padding_leaves_no_trace(options: dict[str, Any]) -> None:
    model = build(**options).eval()
    audio, visual = clips(3, 7)
    lengths = [7, 4, 1]
    mask = torch.arange(7) < torch.tensor(lengths)[:, None]
    audio[~mask], visual[~mask] = 9.0, -9.0
    together = model(audio=audio, visual=visual, mask=mask).scores
    for i, n in enumerate(lengths):
        alone = model(audio=audio[i : i + 1, :n], visual=visual[i : i + 1, :n]).scores[0]
        torch.testing.assert_close(together[i, :n], alone, atol=1e-5, rtol=0)


def test_every_switch_changes_the_network() -> None:
    shapes = {}
    audio, visual = clips(2, 5)
    for options in VARIANTS:
        model = build(**options).eval()
        state = tuple((n, tuple(p.shape)) for n, p in model.named_parameters())
        shapes[str(options)] = (state, model(audio=audio, visual=visual).scores.flatten().tolist())
    seen = list(shapes.values())
    assert all(a[1] != b[1] for i, a in enumerate(seen) for b in seen[:i])
    names = {k: {n.split(".")[0] for n, _ in v[0]} for k, v in shapes.items()}
    whole = names["{}"]
    assert whole - names["{'joint_recurrent': False}"] == {"joint"}
    assert whole - names["{'early': 'mean'}"] == {"look"}
    assert all(v == whole for k, v in names.items() if "joint_rec" not in k and "early" not in k)


def test_gru_everywhere_and_no_unimodal_network() -> None:
    kinds = {type(m).__name__ for m in build(recurrent="gru").modules()}
    assert "GRU" in kinds
    assert "LSTM" not in kinds
    bare = build(unimodal=False)
    assert bare.represent_audio.recurrent is None
    assert bare.represent_audio.linear.in_features == A
    assert build(residual=False).represent_visual.linear.in_features == 8


def training_loss(t: int, steps: int, **options: Any) -> tuple[list[float], float]:
    """Losses of some steps on three clips, and the first gradient's norm."""
    torch.manual_seed(4)
    model = build(**options)
    audio, visual = clips(3, t)
    labels = torch.full((3, t), C)
    for i in range(3):
        labels[i, t // 4 : t // 2 + 1] = i
        visual[i, t // 4 : t // 2 + 1, ..., i] += 2
    batch = Batch(audio, visual, labels=labels)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    losses, norm = [], 0.0
    for step in range(steps):
        optimiser.zero_grad()
        loss = model.loss(model(audio=audio, visual=visual), batch)
        loss.backward()
        if not step:
            parts = [p.grad.norm() for p in model.parameters() if p.grad is not None]
            norm = torch.stack(parts).norm().item()
        optimiser.step()
        losses.append(loss.item())
    return losses, norm


def test_gradients_keep_their_size_at_any_length() -> None:
    _, norm = training_loss(10, 1)
    for t in (60, 300):
        _, other = training_loss(t, 1)
        assert norm / 3 < other < norm * 3


def test_it_trains() -> None:
    losses, _ = training_loss(60, 25, early="mean")
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.slow
def test_it_trains_at_any_length() -> None:
    """From 10 to 300 segments the loss falls alike."""
    short, _ = training_loss(10, 25)
    for t in (60, 300):
        losses, _ = training_loss(t, 25)
        assert losses[-1] < 0.6 * losses[0]
        assert losses[-1] < 2 * short[-1]
        printed, _ = training_loss(t, 25, form="paper", length=t, rows=32)
        assert printed[-1] < 0.6 * printed[0]


@pytest.mark.slow
@pytest.mark.parametrize("t", [10, 60, 300])
def test_it_trains_at_full_width(t: int) -> None:
    full = {"audio_out": 512, "visual_out": 512, "joint_out": 1024, "hidden": 256}
    torch.manual_seed(4)
    model = build_model("jca", audio_dim=A, visual_dim=V, classes=C, **full)
    audio, visual = clips(2, t)
    labels = torch.full((2, t), C)
    labels[:, t // 4 : t // 2 + 1] = 1
    visual[:, t // 4 : t // 2 + 1, ..., 1] += 2
    batch = Batch(audio, visual, labels=labels)
    losses = descend(model, batch, lr=1e-3, steps=12)
    assert losses[-1] < 0.5 * losses[0]


def test_loss_by_hand() -> None:
    """Logits 0, ln 3, -ln 3, 0 and class 1: sigmoids 1/2, 3/4, 1/4, 1/2; padding costs nothing."""
    logits = torch.tensor([[[0.0, LN3, -LN3, 0.0], [0.0] * 4, [50.0] * 4]])
    mask = torch.tensor([[True, True, False]])
    batch = Batch(*clips(1, 3), mask, torch.tensor([[1, C, -1]]))
    found = build().loss(Output(parts={"logits": logits}), batch)
    expected = ((2 * math.log(2) + 2 * math.log(4 / 3)) / 4 + math.log(2)) / 2
    assert found.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("form", Jca.choices["form"])
def test_bfloat16_is_near(form: str) -> None:
    model = build(form=form).eval()
    audio, visual = clips(3, 6)
    mask = torch.arange(6) < torch.tensor([6, 4, 2])[:, None]
    plain = model(audio=audio, visual=visual, mask=mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for early in (visual, visual.bfloat16()):
            mixed = model(audio=audio, visual=early, mask=mask)
            assert mixed.scores.dtype == torch.float32
            torch.testing.assert_close(mixed.scores[mask], plain.scores[mask], atol=0.03, rtol=0)


@pytest.mark.parametrize(
    "options",
    [{"early": "sum"}, {"recurrent": "rnn"}, {"attention": "none"}, {"joint": "subtract"},
     {"form": "release"}, {"recursions": 0}, {"wide": -1}, {"hidden": 0}, {"audio_out": 7},
     {"joint": "add", "audio_out": 4}, {"attention": "co", "joint": "concat"},
     {"unimodal": False, "residual": False}],
    ids=str,
)  # fmt: skip
def test_bad_options(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"expected|does nothing|leaves nothing"):
        build(**options)


def test_masks_sum_regions_under_one() -> None:
    audio, visual = clips(2, 4)
    for early in ("avga", "dot"):
        attention = build(early=early).eval()(audio=audio, visual=visual).attention
        assert attention is not None
        torch.testing.assert_close(attention.sum((2, 3)), torch.ones(2, 4))
        assert not F.mse_loss(attention, torch.full_like(attention, 1 / (H * W))).eq(0)
