"""CSPA + CSEA against its equations, by hand and by a plain transcription of the paper."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from avel.errors import CheckpointError, UsageError
from avel.models.base import Batch, Output, Query, build_model
from avel.models.coattention import CSEA, CSPA
from avel.models.cspa_csea import CspaCsea, training_windows
from avel.models.layers import BiLSTM, contrastive, masked_max, masked_mean, window_sums

A, V, C, H, W = 6, 8, 3, 2, 3
K = H * W
LN3 = math.log(3.0)


def build(seed: int = 0, **options: Any) -> CspaCsea:
    torch.manual_seed(seed)
    sizes = {"audio_dim": A, "visual_dim": V, "classes": C, "hidden": 16, "common": 5, "state": 4}
    model = build_model("cspa_csea", **{**sizes, **options})
    assert isinstance(model, CspaCsea)
    return model


def clips(b: int = 2, t: int = 7, seed: int = 1) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.rand(b, t, A, generator=g), torch.rand(b, t, H, W, V, generator=g)


def batch_of(audio: Tensor, visual: Tensor) -> Batch:
    b, t = audio.shape[:2]
    labels = torch.full((b, t), C)
    labels[:, 2:5] = 1
    return Batch(audio, visual, None, labels, torch.eye(C + 1)[torch.arange(b) % C])


# ---- the modules against the printed equations


def test_cspa_is_equations_1_and_2() -> None:
    torch.manual_seed(0)
    cspa = CSPA(audio_dim=A, visual_dim=V, common=5, hidden=16, audio_attention=True)
    a, v = torch.rand(A), torch.rand(K, V)
    f = cspa.f1(a)[None] * cspa.f2(v)  # (K, C')
    z = cspa.f3(f)  # (K, 1)
    attention = z.softmax(0)
    seen = v.T @ attention[:, 0]
    assert cspa.f4 is not None
    assert cspa.f5 is not None
    gate = cspa.f4(f.T @ z[:, 0]).softmax(0)
    heard = cspa.f5(gate * cspa.f1(a)) + a
    found = cspa(a[None, None], v[None, None])
    for got, expected in zip(found, (heard, seen, attention[:, 0]), strict=True):
        torch.testing.assert_close(got[0, 0, 0], expected)


def test_csea_is_equation_3() -> None:
    torch.manual_seed(0)
    csea = CSEA(audio_dim=A, visual_dim=V, gate="softmax", v2a=True, a2v=True)
    a, v = torch.rand(A), torch.rand(K, V)
    g = v.mean(0)
    assert csea.f6 is not None
    assert csea.f7 is not None
    assert csea.v2a is not None
    assert csea.a2v is not None
    heard = (csea.f6(a * csea.v2a(g)).softmax(0) + 1) * a
    seen = (csea.f7(g * csea.a2v(a)).softmax(0) + 1) * g
    found = csea(a[None, None], v[None, None])
    torch.testing.assert_close(found[0][0, 0, 0], heard)
    torch.testing.assert_close(found[1][0, 0, 0], seen)
    assert found[2] is None


@pytest.mark.parametrize("modules", ["cspa", "csea", "none"])
def test_a_grid_of_pairs_is_every_pair_alone(modules: str) -> None:
    (stream,) = build(modules=modules).streams.values()
    a, v = torch.rand(2, 3, A), torch.rand(2, 4, K, V)
    grid = stream.attend(a, v)  # type: ignore[operator]
    for s in range(3):
        for t in range(4):
            pair = stream.attend(a[:, s : s + 1], v[:, t : t + 1])  # type: ignore[operator]
            for all_pairs, one in zip(grid, pair, strict=True):
                if one is not None:
                    torch.testing.assert_close(all_pairs[:, s, t], one[:, 0, 0])


def test_the_visual_softmax_gate_hardly_moves_at_the_start() -> None:
    """Over V = 512 channels: 1.00 to 1.003; the sigmoid's lies near 1.5."""
    torch.manual_seed(0)
    a = torch.rand(8, 1, 128) * (torch.rand(8, 1, 128) > 0.65)  # VGGish: two thirds zeros
    v = torch.rand(8, 1, 49, 512) * 2
    for gate, low, high in (("softmax", 1.0, 1.003), ("sigmoid", 1.3, 1.7)):
        torch.manual_seed(1)
        csea = CSEA(audio_dim=128, visual_dim=512, gate=gate, v2a=True, a2v=True)
        factor = csea(a, v)[1] / v.mean(2)[:, None]
        assert low < factor.min()
        assert factor.max() < high


# ---- the losses by hand


def test_equation_6_by_hand() -> None:
    """Logits 0, ln 3, -ln 3, 0 and class 1: sigmoids 1/2, 3/4, 1/4, 1/2."""
    model = build(lambda_s=0.3)
    spa = torch.tensor([[[0.0, LN3, -LN3, 0.0]]])
    sem = torch.zeros(1, 1, 4)
    answer = Output(parts={"cspa.logits": spa, "csea.logits": sem})
    batch = Batch(*clips(1, 1), labels=torch.tensor([[1]]))
    by_hand = (2 * math.log(2) + 2 * math.log(4 / 3)) / 4
    expected = 0.3 * by_hand + 0.7 * math.log(2)
    assert model.loss(answer, batch).item() == pytest.approx(expected, abs=1e-6)


def test_equation_6_counts_valid_seconds_alone() -> None:
    model = build(modules="cspa")
    spa = torch.zeros(1, 3, 4)
    spa[0, 0] = torch.tensor([0.0, LN3, -LN3, 0.0])
    spa[0, 2] = 50.0
    batch = Batch(
        *clips(1, 3),
        mask=torch.tensor([[True, True, False]]),
        labels=torch.tensor([[1, C, -1]]),
    )
    expected = ((2 * math.log(2) + 2 * math.log(4 / 3)) / 4 + math.log(2)) / 2
    found = model.loss(Output(parts={"cspa.logits": spa}), batch).item()
    assert found == pytest.approx(expected, abs=1e-6)


def test_equation_7_by_hand() -> None:
    """The maximum over time of every class, padding left out: logits 0, ln 3, -ln 3, 0 again."""
    model = build(task="wsel", modules="csea")
    logits = torch.tensor([[[-2.0, LN3, -LN3, -1.0], [0.0, 0.5, -3.0, 0.0], [9.0, 9.0, 9.0, 9.0]]])
    batch = Batch(
        *clips(1, 3),
        mask=torch.tensor([[True, True, False]]),
        tags=torch.tensor([[0.0, 1.0, 0.0, 0.0]]),
    )
    expected = (2 * math.log(2) + 2 * math.log(4 / 3)) / 4
    found = model.loss(Output(parts={"csea.logits": logits}), batch).item()
    assert found == pytest.approx(expected, abs=1e-6)


def test_equation_5_by_hand() -> None:
    """Distances 0.5 (event), 0.5 and 5 (background): 0.25, 1.5 squared, nothing."""
    model = build(task="cml", lambda_c=0.6)
    audio = torch.zeros(1, 3, 2)
    visual = torch.tensor([[[0.3, 0.4], [0.3, 0.4], [3.0, 4.0]]])
    parts = {"cspa.audio": audio, "cspa.visual": visual}
    parts |= {"csea.audio": audio, "csea.visual": audio}  # distance 0: 0, 4, 4
    batch = Batch(*clips(1, 3), labels=torch.tensor([[1, C, C]]))
    expected = 0.6 * (0.25 + 2.25 + 0.0) / 3 + 0.4 * (0 + 4 + 4) / 3
    assert model.loss(Output(parts=parts), batch).item() == pytest.approx(expected, abs=1e-6)


def test_sync_adds_mismatched_pairs() -> None:
    """Two event seconds, embeddings 0 and 1 on a line, in both modalities."""
    model = build(task="cml", modules="cspa", negatives="sync")
    line = torch.tensor([[[0.0], [1.0]]])
    batch = Batch(*clips(1, 2), labels=torch.tensor([[1, 1]]))
    answer = Output(parts={"cspa.audio": line, "cspa.visual": line})
    expected = (0.0 + (2.0 - 1.0) ** 2) / 2  # aligned pairs cost nothing, crossed ones 1 each
    assert model.loss(answer, batch).item() == pytest.approx(expected, abs=1e-6)


def test_contrastive_by_hand() -> None:
    distance = torch.tensor([0.5, 0.5, 2.0, 3.0])
    found = contrastive(distance, torch.tensor([1.0, 0.0, 0.0, 0.0]), 2.0)
    torch.testing.assert_close(found, torch.tensor([0.25, 2.25, 0.0, 0.0]))


def test_window_sums_by_hand() -> None:
    cost = torch.tensor([[[1.0, 2.0, 3.0, 4.0], [10.0, 20.0, 30.0, 40.0]]])
    torch.testing.assert_close(window_sums(cost), torch.tensor([[21.0, 32.0, 43.0]]))


# ---- layers


def test_masked_pooling() -> None:
    x = torch.tensor([[[1.0], [3.0], [99.0]]])
    mask = torch.tensor([[True, True, False]])
    assert masked_mean(x, mask).item() == 2.0
    assert masked_max(x, mask).item() == 3.0
    assert masked_max(x).item() == 99.0


def test_bilstm_sees_no_padding() -> None:
    torch.manual_seed(0)
    lstm = BiLSTM(3, 4)
    x = torch.rand(2, 5, 3)
    mask = torch.arange(5) < torch.tensor([5, 2])[:, None]
    out = lstm(x, mask)
    torch.testing.assert_close(out[0], lstm(x[:1])[0])
    torch.testing.assert_close(out[1, :2], lstm(x[1:, :2])[0])
    assert out[1, 2:].abs().max() == 0


# ---- answers


def test_answer_is_the_mean_of_the_logits() -> None:
    model = build()
    audio, visual = clips()
    answer = model(audio=audio, visual=visual)
    mean = (answer.parts["cspa.logits"] + answer.parts["csea.logits"]) / 2
    torch.testing.assert_close(answer.scores, mean.softmax(-1))
    assert answer.labels is not None
    assert answer.labels.equal(mean.argmax(-1))


@pytest.mark.parametrize("task", ["sel", "wsel", "cml"])
@pytest.mark.parametrize(("share", "modules"), [(1.0, "cspa"), (0.0, "csea")])
def test_lambda_at_its_ends_is_one_module(task: str, share: float, modules: str) -> None:
    letter = {"sel": "s", "wsel": "w", "cml": "c"}[task]
    end, single = build(task=task, **{f"lambda_{letter}": share}), build(task=task, modules=modules)
    audio, visual = clips()
    batch = batch_of(audio, visual)
    losses = [m.loss(m(audio=audio, visual=visual), batch) for m in (end, single)]
    assert losses[0].equal(losses[1])
    assert list(end.state_dict()) == list(single.state_dict())


@pytest.mark.parametrize("form", ["paired", "unpaired"])
@pytest.mark.parametrize("task", ["sel", "wsel", "cml"])
@pytest.mark.parametrize("modules", ["cspa+csea", "cspa", "csea", "none"])
def test_gradient_reaches_every_weight(form: str, task: str, modules: str) -> None:
    model = build(task=task, modules=modules, form=form, tau=50.0)
    audio, visual = clips(3)
    model.loss(model(audio=audio, visual=visual), batch_of(audio, visual)).backward()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


ABLATIONS: list[tuple[dict[str, Any], set[str]]] = [
    ({"audio_attention": False}, {"cspa.attend.f4", "cspa.attend.f5"}),
    ({"v2a": False}, {"csea.attend.v2a", "csea.attend.f6"}),
    ({"a2v": False}, {"csea.attend.a2v", "csea.attend.f7"}),
]


def layers_of(model: CspaCsea) -> set[str]:
    return {".".join(n.split(".")[1:4]) for n in model.state_dict() if ".attend." in n}


@pytest.mark.parametrize(("options", "gone"), ABLATIONS)
def test_an_ablation_takes_its_layers_and_nothing_else(
    options: dict[str, Any], gone: set[str]
) -> None:
    full, less = build(), build(**options)
    assert layers_of(full) - layers_of(less) == gone
    less.load_state_dict({k: v for k, v in full.state_dict().items() if k in less.state_dict()})
    a, v = torch.rand(5, 1, A), torch.rand(5, 1, K, V)
    changed = {}
    for name in ("cspa", "csea"):
        outs = [m.streams[name].attend(a, v) for m in (full, less)]  # type: ignore[operator, union-attr]
        changed[name] = [
            not torch.equal(x, y) for x, y in zip(outs[0][:2], outs[1][:2], strict=True)
        ]
    assert (
        changed
        == {
            "audio_attention": {"cspa": [True, False], "csea": [False, False]},
            "v2a": {"cspa": [False, False], "csea": [True, False]},
            "a2v": {"cspa": [False, False], "csea": [False, True]},
        }[next(iter(options))]
    )
    key = next(iter(options))
    name = "cspa" if key == "audio_attention" else "csea"
    out = less.streams[name].attend(a, v)  # type: ignore[operator, union-attr]
    raw = v.mean(2)[:, None] if key == "a2v" else a[:, :, None]
    torch.testing.assert_close(out[1 if key == "a2v" else 0], raw)


def test_neither_module_is_raw_audio_and_the_mean() -> None:
    model = build(modules="none")
    a, v = torch.rand(5, 1, A), torch.rand(5, 1, K, V)
    heard, seen, attention = model.streams["raw"].attend(a, v)  # type: ignore[operator, union-attr]
    assert heard.equal(a[:, :, None])
    torch.testing.assert_close(seen, v.mean(2)[:, None])
    assert attention is None
    assert layers_of(model) == set()


@pytest.mark.parametrize("task", ["sel", "cml"])
@pytest.mark.parametrize(("modality", "muted"), [("audio", "visual"), ("visual", "audio")])
def test_nothing_of_a_muted_modality_leaks(task: str, modality: str, muted: str) -> None:
    model, full = build(task=task, modality=modality), build(task=task)
    audio, visual = clips()
    given = {"audio": audio, "visual": visual}
    other = given | {muted: given[muted] * 7 + 1}
    batch = batch_of(audio, visual)
    losses = [m.loss(m(**x), batch) for m in (model, full) for x in (given, other)]
    assert losses[0].equal(losses[1])
    assert not losses[2].equal(losses[3])


def test_parameter_counts_by_hand() -> None:
    """The paper's sizes: A = 128, V = 512, C' = 49, hidden 512, BiLSTM 128 a direction, C = 28."""
    model = build_model("cspa_csea", audio_dim=128, visual_dim=512, classes=28)
    f1, f2 = 128 * 512 + 512 + 512 * 49 + 49, 512 * 512 + 512 + 512 * 49 + 49
    f345 = 49 + 1 + (49 * 256 + 256 + 256 * 49 + 49) + (49 * 128 + 128)
    csea = (512 * 128 + 128) + (128 * 512 + 512) + (128 * 128 + 128) + (512 * 512 + 512)
    audio, visual = (2 * 4 * 128 * (x + 128 + 2) for x in (128, 512))
    head = 512 * 64 + 64 + 64 * 29 + 29
    shared = {"audio_lstm": audio, "visual_lstm": visual, "head": head}
    expected = {
        f"streams.{s}.{n}": count
        for s, attend in (("cspa", f1 + f2 + f345), ("csea", csea))
        for n, count in ({"attend": attend} | shared).items()
    }
    assert model.parameter_counts() == expected
    assert sum(expected.values()) == sum(p.numel() for p in model.parameters())


def test_bf16_autocast_stays_close() -> None:
    model = build()
    audio, visual = clips(4, 10)
    exact = model(audio=audio, visual=visual)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(audio=audio, visual=visual)
    assert rough.scores.dtype == torch.float32
    torch.testing.assert_close(rough.scores, exact.scores, atol=0.02, rtol=0)
    model.loss(rough, batch_of(audio, visual)).backward()


def test_float16_features_are_read_as_they_are_stored() -> None:
    model = build()
    audio, visual = clips()
    half = model(audio=audio.half(), visual=visual.half())
    torch.testing.assert_close(
        half.scores, model(audio=audio, visual=visual).scores, atol=1e-3, rtol=0
    )


@pytest.mark.parametrize(
    ("modality", "low", "high"),
    [("both", 0.95, 1.0), ("audio", 0.5, 0.75), ("visual", 0.5, 0.75)],
)
def test_learns_what_needs_both_modalities(modality: str, low: float, high: float) -> None:
    """Class 0 where the two modalities agree, background where they don't: neither suffices."""
    g = torch.Generator().manual_seed(0)
    sound, sight = (torch.randint(0, 2, (64, 5), generator=g) for _ in range(2))
    audio = torch.nn.functional.one_hot(sound, A).float()
    visual = torch.rand(64, 5, H, W, V, generator=g) * 0.1
    visual[:, :, 1, 2] += torch.nn.functional.one_hot(sight, V).float()
    labels = torch.where(sound == sight, 0, C)
    model = build(state=16, modality=modality)
    adam = torch.optim.Adam(model.parameters(), 1e-2)
    batch = Batch(audio, visual, None, labels)
    for _ in range(150):
        adam.zero_grad()
        model.loss(model(audio=audio, visual=visual), batch).backward()
        adam.step()
    found = model(audio=audio, visual=visual).labels
    assert low <= (found == labels).float().mean() <= high


# ---- cross-modality localization


def test_training_windows_by_hand() -> None:
    labels = torch.tensor([[C, 1, 1, C, -1], [1, 1, 1, 1, 1], [1, C, 1, C, C], [C] * 5])
    mask = labels >= 0
    batch = Batch(torch.zeros(4, 5, A), torch.zeros(4, 5, H, W, V), mask, labels)
    assert training_windows(batch, C).tolist() == [
        [0, 1, 0, 2], [0, 1, 1, 2], [0, 1, 2, 2], [0, 0, 1, 2], [0, 2, 1, 2],
    ]  # fmt: skip


def one_window(model: CspaCsea, audio: Tensor, visual: Tensor) -> float:
    """The summed distance of two tracks of one length, as if they were a whole recording."""
    total = 0.0
    for stream in model.streams.values():
        heard, seen, _ = stream.paired(audio[None], visual.flatten(1, 2)[None])  # type: ignore[operator]
        a, v = stream.embed(heard, seen, None)  # type: ignore[operator]
        total += torch.linalg.vector_norm(a - v, dim=-1).sum().item() / len(model.streams)
    return total


def test_unpaired_costs_are_each_window_alone() -> None:
    model = build(task="cml", form="unpaired")
    audio, visual = clips(2, 6)
    a2v = model.window_costs(audio=audio, visual=visual, query=Query("audio", 1, 3))
    v2a = model.window_costs(audio=audio, visual=visual, query=Query("visual", 1, 3))
    for b in range(2):
        for t in range(4):
            heard, seen = audio[b, t : t + 3], visual[b, t : t + 3]
            assert a2v[b, t].item() == pytest.approx(
                one_window(model, audio[b, 1:4], seen), abs=1e-5
            )
            assert v2a[b, t].item() == pytest.approx(
                one_window(model, heard, visual[b, 1:4]), abs=1e-5
            )


def test_unpaired_loss_is_each_window_alone() -> None:
    model = build(task="cml", form="unpaired", modules="csea")
    audio, visual = clips(2, 5)
    labels = torch.tensor([[C, 1, 1, C, C], [C, C, C, 2, C]])
    batch = Batch(audio, visual, None, labels)
    near, far = [], []
    for b, s, t, n in training_windows(batch, C).tolist():
        heard, seen = audio[b : b + 1, s : s + n], visual[b : b + 1, t : t + n]
        (stream,) = model.streams.values()
        a, v = stream.embed(*stream.paired(heard, seen.flatten(2, 3))[:2], None)  # type: ignore[operator]
        d = torch.linalg.vector_norm(a - v, dim=-1)[0]
        (near if s == t else far).extend((d**2 if s == t else (2 - d).clamp(min=0) ** 2).tolist())
    expected = (sum(near) / len(near) + sum(far) / len(far)) / 2
    found = model.loss(model(audio=audio, visual=visual), batch).item()
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("modality", ["audio", "visual"])
def test_an_unpaired_candidate_never_sees_its_own_other_track(modality: Any) -> None:
    audio, visual = clips(1, 8)
    query = Query(modality, 2, 3)
    other = {"audio": audio.clone(), "visual": visual.clone()}
    outside = torch.tensor([0, 1, 5, 6, 7])  # the asking track beside the query
    other[modality][:, outside] = other[modality][:, outside] * -3 + 1
    changed = {}
    for form in ("unpaired", "paired"):
        model = build(task="cml", form=form)
        costs = model.window_costs(audio=audio, visual=visual, query=query)
        changed[form] = not costs.equal(model.window_costs(**other, query=query))
    assert changed == {"unpaired": False, "paired": True}


def test_unpaired_tracks_may_differ_in_length() -> None:
    audio, visual = clips(1, 9)
    query = Query("visual", 0, 2)
    model = build(task="cml", form="unpaired")
    assert model.window_costs(audio=audio, visual=visual[:, :4], query=query).shape == (1, 8)
    with pytest.raises(UsageError, match="paired form"):
        build(task="cml").window_costs(audio=audio, visual=visual[:, :4], query=query)


@pytest.mark.parametrize("query", [Query("audio", 6, 3), Query("audio", -1, 2)])
def test_a_query_outside_its_track(query: Query) -> None:
    audio, visual = clips(1, 7)
    with pytest.raises(UsageError, match="query of segments"):
        build(task="cml").window_costs(audio=audio, visual=visual, query=query)


def test_paired_costs_by_hand() -> None:
    """The mean over the streams of distances summed along the shifted diagonal."""
    model = build(task="cml")
    audio, visual = clips(1, 5)
    parts = model(audio=audio, visual=visual).parts
    query = Query("visual", 1, 2)
    costs = model.window_costs(audio=audio, visual=visual, query=query)
    for t in range(4):
        expected = [
            torch.linalg.vector_norm(
                parts[f"{s}.visual"][0, 1 + i] - parts[f"{s}.audio"][0, t + i]
            ).item()
            for s in ("cspa", "csea")
            for i in range(2)
        ]
        assert costs[0, t].item() == pytest.approx(sum(expected) / 2, abs=1e-5)


@pytest.mark.parametrize("form", ["paired", "unpaired"])
def test_cml_starts_from_an_mmel_model(form: str) -> None:
    mmel, cml = build(seed=1), build(seed=2, task="cml", form=form)
    before = {k: v.clone() for k, v in cml.state_dict().items()}
    taken = cml.init_from(mmel.state_dict())
    for name, value in cml.state_dict().items():
        assert value.equal(mmel.state_dict()[name] if name in taken else before[name])
    assert {n.split(".")[2] for n in set(before) - set(taken)} == {"audio_head", "visual_head"}
    assert any("attend" in n for n in taken)
    assert any("visual_lstm" in n for n in taken)


@pytest.mark.parametrize("options", [{"common": 7}, {"modules": "cspa"}])
def test_cml_refuses_an_mmel_model_of_other_shape(options: dict[str, Any]) -> None:
    cml = build(task="cml")
    before = {k: v.clone() for k, v in cml.state_dict().items()}
    with pytest.raises(CheckpointError, match="lacks"):
        cml.init_from(build(**options).state_dict())
    assert all(v.equal(before[k]) for k, v in cml.state_dict().items())


@pytest.mark.parametrize(
    "options",
    [
        {"modules": "spatial"},
        {"gate": "tanh"},
        {"lambda_s": 1.5},
        {"modules": "csea", "audio_attention": False},
        {"modules": "cspa", "v2a": False},
        {"task": "cml", "form": "unpaired", "negatives": "sync"},
        {"common": 0},
        {"state": 0},
        {"tau": 0.0},
    ],
)
def test_bad_options(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        build(**options)


def test_the_papers_recipe() -> None:
    sel, cml = CspaCsea.recipe("sel"), CspaCsea.recipe("cml")
    assert (sel.epochs, sel.batch, sel.lr) == (300, 64, 1e-3)
    assert (cml.epochs, cml.batch, cml.lr) == (30, 32, 1e-3)


def test_soft_margin_heads_start_where_every_class_is_rare() -> None:
    for bias, expected in (("uniform", -math.log(C)), ("zero", 0.0)):
        model = build(head_bias=bias)
        heads = [stream.head for stream in model.streams.values()]
        assert len(heads) == 2
        for head in heads:
            assert head[-1].bias.tolist() == pytest.approx([expected] * (C + 1), abs=0.3)
            assert bias == "zero" or head[-1].bias.unique().numel() == 1


def test_shared_heads_are_one_and_let_lambda_matter() -> None:
    """Adam moves separate streams alike whatever weighs their losses, but not a shared head."""

    def head_after_a_step(heads: str, share: float) -> torch.Tensor:
        model = build(heads=heads, lambda_s=share)
        optimiser = torch.optim.Adam(model.parameters(), 1e-2, eps=1e-30)
        audio, visual = clips(4, 6)
        batch = Batch(audio, visual, labels=torch.arange(24).reshape(4, 6) % (C + 1))
        model.loss(model(audio=audio, visual=visual), batch).backward()
        optimiser.step()
        first, second = model.streams.values()
        assert (first.head is second.head) == (heads == "shared")
        return first.head[-1].bias.detach().clone()

    for heads in ("separate", "shared"):
        moved = [head_after_a_step(heads, share) for share in (0.2, 0.8)]
        assert torch.allclose(*moved, atol=1e-6) == (heads == "separate")
