"""The audio-visual event network against its equations, its fusions, and its two variants."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avel.errors import CheckpointError, UsageError
from avel.models.av import INPUTS, Av, DecisionFusion, Early, Late, Single
from avel.models.base import Batch, Output, build_model
from avel.models.fusion import DMRN, DMRNBlock, MRNBlock, build_fusion
from avel.models.layers import AVGA
from tests.variants import descend

A, V, C, H, W = 6, 8, 3, 2, 3
K = H * W
CELLS = [
    (stage, kind)
    for stage in Av.choices["stage"]
    for kind in Av.choices["fusion"]
    if kind != "dmrfe" or stage == "late"
]


def build(seed: int = 0, **options: Any) -> Av:
    torch.manual_seed(seed)
    sizes = {"audio_dim": A, "visual_dim": V, "classes": C, "hidden": 16, "width": 5, "state": 4}
    model = build_model("av", **{**sizes, "common": 5, **options})
    assert isinstance(model, Av)
    return model


def clips(b: int = 2, t: int = 7, seed: int = 1) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.rand(b, t, A, generator=g), torch.rand(b, t, H, W, V, generator=g)


def batch_of(audio: Tensor, visual: Tensor) -> Batch:
    b, t = audio.shape[:2]
    labels = torch.full((b, t), C)
    labels[:, t // 3 : 2 * t // 3 + 1] = 1
    return Batch(audio, visual, None, labels, torch.eye(C + 1)[torch.arange(b) % C])


# ---- attention


@pytest.mark.parametrize("release", [False, True])
def test_attention_is_equations_2_to_4(release: bool) -> None:
    torch.manual_seed(0)
    width = K if release else 5
    net = AVGA(audio_dim=A, visual_dim=V, hidden=16, width=width, release=release)
    a, v = torch.rand(A), torch.rand(K, V)
    heard = net.w_a.weight @ F.relu(net.u_a(a))  # (width,)
    x = []
    for r in range(K):
        seen = net.w_v.weight @ F.relu(net.u_v(v[r]))
        content = seen + (heard[r] if release else heard)
        x.append(net.w_f.weight[0] @ content.tanh())
    w = torch.stack(x).softmax(0)
    got, maps = net(a[None, None], v[None, None])
    torch.testing.assert_close(maps[0, 0], w)
    torch.testing.assert_close(got[0, 0], sum(w[r] * v[r] for r in range(K)))


def test_release_attention_wants_as_many_regions_as_its_width() -> None:
    model = build(variant="release", width=K + 1)
    audio, visual = clips()
    with pytest.raises(UsageError, match=f"{K} regions"):
        model(audio=audio, visual=visual)
    build(variant="release", width=K)(audio=audio, visual=visual)


def test_attention_follows_the_sound_and_mean_doesnt() -> None:
    audio, visual = clips()
    for name, follows in (("v-att", True), ("v", False)):
        model = build(inputs=name)
        with torch.no_grad():
            before = model(audio=audio, visual=visual).scores
            after = model(audio=audio + 1, visual=visual).scores
        assert bool((before - after).abs().max() > 1e-6) == follows


def same(found: Tensor, expected: Tensor) -> bool:
    """Up to rounding: a matrix product's last bit may hang on where in memory its input lies."""
    return torch.allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", INPUTS)
def test_inputs_read_what_their_name_says(name: str) -> None:
    model = build(inputs=name, audio_dim=4 * A, audio_regions=4, c3d_dim=3)
    g = torch.Generator().manual_seed(3)
    audio, visual = torch.rand(2, 5, 4 * A, generator=g), clips(t=5)[1]
    answer = model(audio=audio, visual=visual)
    assert (answer.attention is not None) == (INPUTS[name][1] == "att")
    assert ("audio_attention" in answer.parts) == (INPUTS[name][0] == "att")
    if "audio_attention" in answer.parts:
        assert answer.parts["audio_attention"].shape == (2, 5, 4)
    model.loss(answer, batch_of(audio, visual)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    with torch.no_grad():
        deaf = model(audio=torch.zeros_like(audio), visual=visual).scores
        blind = model(audio=audio, visual=torch.zeros_like(visual)).scores
    assert answer.scores is not None
    assert same(deaf, answer.scores) == (name in ("v", "v-c3d", "v+c3d"))
    assert same(blind, answer.scores) == (name in ("a", "amaps"))


@pytest.mark.parametrize("name", ["v-c3d", "a+v-c3d"])
def test_c3d_alone_is_the_last_channels_and_nothing_else(name: str) -> None:
    model = build(inputs=name, c3d_dim=3)
    audio, visual = clips()
    other, moved = visual.clone(), visual.clone()
    other[..., :-3] += 1
    moved[..., -3:] += 1
    with torch.no_grad():
        before = model(audio=audio, visual=visual).scores
        assert model(audio=audio, visual=other).scores.equal(before)
        assert not torch.allclose(model(audio=audio, visual=moved).scores, before, atol=1e-6)


@pytest.mark.parametrize("name", ["v", "a+v"])
def test_with_c3d_is_the_mean_of_the_maps_and_its_vector(name: str) -> None:
    joint = build(inputs=f"{name}+c3d", c3d_dim=3)
    plain = build(inputs=name)
    plain.load_state_dict(joint.state_dict())
    audio, visual = clips()
    visual[..., -3:] = visual[:, :, :1, :1, -3:]  # C3D's, alike in every region
    as_vector = torch.cat([visual[..., :-3].mean((2, 3)), visual[:, :, 0, 0, -3:]], -1)
    with torch.no_grad():
        got = joint(audio=audio, visual=visual).scores
        expected = plain(audio=audio, visual=as_vector[:, :, None, None]).scores
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=0)


def test_widths_are_those_of_the_papers_features() -> None:
    for name in INPUTS:
        audio, visual = Av.widths({"inputs": name})
        assert audio == (12288 if name.startswith("amaps") else 128)
        assert visual == (1024 if "c3d" in name else 512)
        with torch.device("meta"):
            build_model("av", audio_dim=audio, visual_dim=visual, classes=C, inputs=name)


def test_maps_of_the_sound_are_read_region_by_region() -> None:
    model = build(inputs="amaps", audio_dim=2 * A, audio_regions=2)
    audio, visual = clips(t=5)
    with torch.no_grad():
        twice = model(audio=audio.repeat(1, 1, 2), visual=visual).scores
        spread = torch.cat([audio - 0.3, audio + 0.3], -1)
        torch.testing.assert_close(model(audio=spread, visual=visual).scores, twice)


# ---- fusion


def test_the_28_cells_of_table_2() -> None:
    assert len(CELLS) == 28


@pytest.mark.parametrize(("stage", "kind"), CELLS)
def test_every_cell_answers_and_learns(stage: str, kind: str) -> None:
    model = build(fusion=kind, stage=stage, state=16)
    assert isinstance(model.read, {"early": Early, "late": Late, "decision": DecisionFusion}[stage])
    audio, visual = clips()
    batch = batch_of(audio, visual)
    answer = model(audio=audio, visual=visual)
    assert answer.scores is not None
    assert answer.scores.shape == (2, 7, C + 1)
    torch.testing.assert_close(answer.scores.sum(-1), torch.ones(2, 7))
    model.loss(answer, batch).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_one_modality_alone_has_one_lstm() -> None:
    model = build(inputs="a")
    assert isinstance(model.read, Single)
    assert sum(isinstance(m, nn.LSTM) for m in model.modules()) == 1


def plain(linear: nn.Module, x: Tensor) -> Tensor:
    assert isinstance(linear, nn.Linear)
    return x @ linear.weight.T + linear.bias


def test_fusions_are_their_formulas() -> None:
    torch.manual_seed(0)
    a, v = torch.randn(3, 4), torch.randn(3, 4)

    def brick(kind: str) -> tuple[Any, Tensor, Tensor]:
        found: Any = build_fusion(kind, 4)
        return found, plain(found.w_a, a), plain(found.w_v, v)

    both = torch.cat([a, v], -1)
    assert build_fusion("concat", 4)(a, v).equal(both)
    for kind, formula in (
        ("additive", lambda x, y: x + y),
        ("maxpool", lambda x, y: torch.where(x > y, x, y)),
        ("gated", lambda x, y: y / (1 + (-x).exp())),
        ("mb", lambda x, y: x * y),
    ):
        net, x, y = brick(kind)
        torch.testing.assert_close(net(a, v), formula(x, y))
    net, x, y = brick("gmb")
    torch.testing.assert_close(net(a, v), x * y / (1 + (-plain(net.gate, a)).exp()))
    net, x, y = brick("gmu")
    z = plain(net.w_z, both).sigmoid()
    torch.testing.assert_close(net(a, v), z * x.tanh() + (1 - z) * y.tanh())


def test_mrn_updates_the_sound_alone() -> None:
    torch.manual_seed(0)
    a, v = torch.randn(3, 4), torch.randn(3, 4)
    net: Any = build_fusion("mrn", 4, blocks=2)
    h = a
    for block in net.blocks:
        assert isinstance(block, MRNBlock)
        seen = plain(block.w3, plain(block.w2, v).tanh()).tanh()
        h = plain(block.w, h) + plain(block.w1, h).tanh() * seen
    torch.testing.assert_close(net(a, v), h)


def test_dmrn_is_equations_5_and_6_by_hand() -> None:
    block = DMRNBlock(1)
    with torch.no_grad():
        for tower, first, last in ((block.u_a, 1.0, 0.8), (block.u_v, 2.0, -0.4)):
            for i, weight in ((0, first), (2, last)):
                linear = tower[i]
                assert isinstance(linear, nn.Linear)
                linear.weight.fill_(weight)
                linear.bias.fill_(0.1)
        heard, seen = block(torch.tensor([0.5]), torch.tensor([-0.25]))
    u_a = 0.8 * math.tanh(0.5 + 0.1) + 0.1
    u_v = -0.4 * math.tanh(-0.5 + 0.1) + 0.1
    f = (u_a + u_v) / 2
    assert heard.item() == pytest.approx(math.tanh(0.5 + f), abs=1e-6)
    assert seen.item() == pytest.approx(math.tanh(-0.25 + f), abs=1e-6)


def test_crossed_residuals_change_nothing_in_one_block_but_in_two() -> None:
    a, v = torch.randn(3, 4), torch.randn(3, 4)
    for blocks in (1, 2):
        torch.manual_seed(0)
        straight, crossed = DMRN(4, blocks=blocks), DMRN(4, blocks=blocks, crossed=True)
        crossed.load_state_dict(straight.state_dict())
        same = torch.allclose(straight(a, v), crossed(a, v), atol=1e-6)
        assert same == (blocks == 1)


def test_dmrfe_answers_the_mean_of_two_distributions() -> None:
    model = build(fusion="dmrfe")
    read = model.read
    assert isinstance(read, Late)
    heard, seen = torch.rand(2, 7, A), torch.rand(2, 7, V)
    with torch.no_grad():
        a, v = read.audio_lstm(heard), read.visual_lstm(seen)
        each = [h(f(a, v)).softmax(-1) for f, h in zip(read.fuse, read.head, strict=True)]
        got = read(heard, seen, None).softmax(-1)
    assert not torch.allclose(each[0], each[1], atol=1e-3)
    torch.testing.assert_close(got, (each[0] + each[1]) / 2)


@pytest.mark.parametrize("kind", ["mrn", "dmrn", "dmrfe"])
def test_blocks_can_be_stacked(kind: str) -> None:
    counts = [sum(build(fusion=kind, blocks=n).parameter_counts().values()) for n in (1, 2, 3)]
    assert counts[2] - counts[1] == counts[1] - counts[0] > 0


# ---- losses


def answer_of(logits: Tensor) -> Output:
    return Output(parts={"logits": logits})


LOGITS = torch.tensor([[[1.0, 0.0, 0.0, 0.0], [0.0, 3.0, 0.0, 0.0]]])  # (1, 2, 4)


def clip(tags: Tensor | None = None, mask: Tensor | None = None) -> Batch:
    audio, visual = clips(1, 2)
    return Batch(audio, visual, mask, torch.tensor([[0, C]]), tags)


def test_supervised_loss_by_hand() -> None:
    first = -math.log(math.e / (math.e + 3))
    second = math.log(math.e**3 + 3)
    model = build()
    assert model.loss(answer_of(LOGITS), clip()).item() == pytest.approx((first + second) / 2)
    half = torch.tensor([[True, False]])
    assert model.loss(answer_of(LOGITS), clip(mask=half)).item() == pytest.approx(first)


def test_equation_7_by_hand() -> None:
    # m-hat = (0.5, 1.5, 0, 0); softmax, then the cross-entropy of class 1
    total = math.exp(0.5) + math.exp(1.5) + 2
    model = build(task="wsel")
    one = torch.tensor([[0.0, 1.0, 0.0, 0.0]])
    assert model.loss(answer_of(LOGITS), clip(one)).item() == pytest.approx(math.log(total) - 1.5)
    two = torch.tensor([[1.0, 1.0, 0.0, 0.0]])  # two tags, half each
    assert model.loss(answer_of(LOGITS), clip(two)).item() == pytest.approx(math.log(total) - 1.0)


def soft(p: float, y: int) -> float:
    return math.log(1 + math.exp(-p)) if y else math.log(1 + math.exp(p))


def test_release_losses_put_probabilities_into_a_soft_margin() -> None:
    batch = clip(torch.tensor([[0.0, 1.0, 0.0, 0.0]]))
    peak = [1.0, 3.0, 0.0, 0.0]  # the largest over time
    shares = [math.exp(x) / sum(math.exp(y) for y in peak) for x in peak]
    expected = sum(soft(p, i == 1) for i, p in enumerate(shares)) / 4
    model = build(task="wsel", variant="release", width=K)
    assert model.loss(answer_of(LOGITS), batch).item() == pytest.approx(expected, abs=1e-6)
    first = [math.e / (math.e + 3), *[1 / (math.e + 3)] * 3]
    second = [1 / (math.e**3 + 3)] * 4
    second[1] *= math.e**3
    expected = sum(soft(p, i == 0) for i, p in enumerate(first))
    expected += sum(soft(p, i == 3) for i, p in enumerate(second))
    model = build(variant="release", width=K)
    assert model.loss(answer_of(LOGITS), batch).item() == pytest.approx(expected / 8, abs=1e-6)


# ---- training


@pytest.mark.parametrize("t", [60, 300])
@pytest.mark.parametrize("kind", ["concat", "dmrn", "dmrfe"])
def test_gradients_live_on_in_long_clips(kind: str, t: int) -> None:
    model = build(fusion=kind, state=16)
    audio, visual = clips(2, t)
    batch = batch_of(audio, visual)
    model.loss(model(audio=audio, visual=visual), batch).backward()
    sizes = {n: float(p.grad.norm()) for n, p in model.named_parameters() if p.grad is not None}
    assert all(math.isfinite(size) for size in sizes.values())
    short = build(fusion=kind, state=16)
    audio, visual = clips(2, 10)
    short.loss(short(audio=audio, visual=visual), batch_of(audio, visual)).backward()
    for name, p in short.named_parameters():
        assert p.grad is not None
        assert sizes[name] > 0.02 * float(p.grad.norm()), name


@pytest.mark.parametrize("t", [60, 300])
def test_dmrn_learns_in_long_clips(t: int) -> None:
    model = build(fusion="dmrn", state=16)
    g = torch.Generator().manual_seed(0)
    labels = (torch.arange(t) // 12 % 2).repeat(4, 1)
    audio = torch.rand(4, t, A, generator=g)
    audio[..., 0] += 2 * labels
    visual = torch.rand(4, t, H, W, V, generator=g)
    batch = Batch(audio, visual, None, labels)
    losses = descend(model, batch, lr=1e-2, steps=25)
    assert losses[-1] < 0.3 * losses[0]


def test_bf16_autocast_stays_near() -> None:
    model = build(fusion="dmrn").eval()
    audio, visual = clips()
    with torch.no_grad():
        exact = model(audio=audio, visual=visual).scores
        with torch.autocast("cpu", dtype=torch.bfloat16):
            near = model(audio=audio, visual=visual.bfloat16()).scores
    assert exact is not None
    torch.testing.assert_close(near.float(), exact, atol=0.02, rtol=0)


def test_dmrn_starts_from_the_attention_model() -> None:
    start, model = build(0), build(1, fusion="dmrn")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    taken = model.init_from(start.state_dict())
    assert taken
    assert all(n.startswith(("look.", "read.audio_lstm.", "read.visual_lstm.")) for n in taken)
    for name, tensor in model.state_dict().items():
        assert tensor.equal(start.state_dict()[name] if name in taken else before[name])


def test_a_start_of_another_size_is_refused_and_nothing_taken() -> None:
    model = build(fusion="dmrn")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(CheckpointError, match="lacks"):
        model.init_from(build(state=5).state_dict())
    assert all(v.equal(before[k]) for k, v in model.state_dict().items())


def test_recipes() -> None:
    assert (Av.recipe("sel").epochs, Av.recipe("wsel").epochs) == (300, 250)
    assert (Av.recipe("sel").batch, Av.recipe("sel").lr) == (64, 1e-3)


@pytest.mark.parametrize(
    "options",
    [
        {"inputs": "both"},
        {"fusion": "sum"},
        {"stage": "middle"},
        {"variant": "newest"},
        {"inputs": "a", "fusion": "mb"},
        {"inputs": "v", "stage": "early"},
        {"fusion": "dmrfe", "stage": "early"},
        {"fusion": "dmrfe", "stage": "decision"},
        {"blocks": 2},
        {"fusion": "dmrn", "blocks": 0},
        {"state": 0},
        {"inputs": "amaps"},  # 6 isn't a multiple of 24
        {"inputs": "amaps", "audio_regions": 0},
        {"inputs": "amaps", "audio_regions": 2, "variant": "release"},
        {"inputs": "v+c3d"},  # 8 channels hold no 512 of C3D
        {"inputs": "v-c3d", "c3d_dim": 8},  # nor are all of them C3D's
        {"inputs": "a+v+c3d", "c3d_dim": 0},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="model av"):
        build(**options)


@pytest.mark.parametrize("task", ["sel", "wsel"])
@pytest.mark.parametrize(
    "options",
    [
        *({"stage": stage, "fusion": kind} for stage, kind in CELLS),
        *({"inputs": name, "c3d_dim": 3} for name in INPUTS if not name.startswith("amaps")),
        *({"inputs": n, "audio_regions": 2} for n in INPUTS if n.startswith("amaps")),
        {"variant": "release", "width": K},
        {"variant": "release", "width": K, "fusion": "dmrn"},
    ],
    ids=lambda o: "-".join(map(str, o.values())),
)
def test_padding_and_batch_change_nothing(task: str, options: dict[str, Any]) -> None:
    model = build(task=task, **options).eval()
    audio, visual = clips(3, 6)
    lengths = [6, 4, 1]
    mask = torch.arange(6) < torch.tensor(lengths)[:, None]
    audio[~mask], visual[~mask] = 9.0, -9.0
    labels = torch.where(mask, torch.tensor([[1], [2], [C]]), -1)
    tags = torch.eye(C + 1)[:3]
    alone = []
    with torch.no_grad():
        together = model(audio=audio, visual=visual, mask=mask)
        loss = model.loss(together, Batch(audio, visual, mask, labels, tags))
        for i, n in enumerate(lengths):
            own = slice(i, i + 1), slice(n)
            answer = model(audio=audio[own], visual=visual[own])
            torch.testing.assert_close(together.scores[i, :n], answer.scores[0], atol=1e-5, rtol=0)
            batch = Batch(audio[own], visual[own], None, labels[own], tags[i : i + 1])
            alone.append(float(model.loss(answer, batch)))
    weights = lengths if task == "sel" else [1, 1, 1]
    expected = sum(w * x for w, x in zip(weights, alone, strict=True)) / sum(weights)
    assert float(loss) == pytest.approx(expected, abs=1e-5)
