"""DAM against its equations, its decision on clips and on windows, and every row of its tables."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from avel.errors import UsageError
from avel.inference.checkpoint import Trained
from avel.models.base import Batch, Output, Query, build_model
from avel.models.dam import Dam, Embed, relevance_entropy
from avel.types import Features, Grid

A, V, C, H, W, D = 6, 8, 3, 2, 3, 8
LN3 = math.log(3.0)


def build(**options: Any) -> Dam:
    torch.manual_seed(0)
    sizes = {"audio_dim": A, "visual_dim": V, "classes": C, "width": D, "heads": 2, "hidden": 7,
             "common": 5}  # fmt: skip
    model = build_model("dam", **{**sizes, **options})
    assert isinstance(model, Dam)
    return model.eval()


def clips(b: int, t: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.rand(b, t, A, generator=g), torch.rand(b, t, H, W, V, generator=g)


def one_event(b: int, t: int) -> Tensor:
    labels = torch.full((b, t), C)
    labels[:, t // 3 : max(1, 2 * t // 3)] = 1
    return labels


# ---- the equations


def test_equations_1_to_7_written_out() -> None:
    """One clip: Vaswani's block by hand, the mean, dot products, sigmoids, their mean."""
    model = build()
    audio, visual = clips(1, 5)
    assert model.look is not None
    seen, maps = model.look(audio, visual.flatten(2, 3))
    f_a, f_v = model.audio_in(audio)[0], model.visual_in(seen)[0]

    def whole(embed: Embed, f: Tensor) -> Tensor:
        block: Any = embed.block
        w, b = block.self_attn.in_proj_weight, block.self_attn.in_proj_bias
        q, k, v = ((f @ w.T + b)[:, i * D : (i + 1) * D] for i in range(3))
        n = D // 2
        heads = [
            (q[:, i : i + n] @ k[:, i : i + n].T / n**0.5).softmax(-1) @ v[:, i : i + n]
            for i in (0, n)
        ]
        x = block.norm1(f + block.self_attn.out_proj(torch.cat(heads, 1)))
        x = block.norm2(x + block.linear2(block.linear1(x).relu()))
        assert block.linear1.out_features == 4 * D
        return x.mean(0)

    phi_a, phi_v = whole(model.audio_whole, f_a), whole(model.visual_whole, f_v)
    p = (torch.sigmoid(f_a @ phi_v) + torch.sigmoid(f_v @ phi_a)) / 2
    assert model.category is not None
    q = model.category(torch.cat([phi_a, phi_v])).softmax(0)
    answer = model(audio=audio, visual=visual)
    torch.testing.assert_close(answer.scores[0, :, :C], p[:, None] * q)
    torch.testing.assert_close(answer.scores[0, :, C], 1 - p)
    torch.testing.assert_close(answer.attention, maps.reshape(1, 5, H, W))


def test_relevance_entropy_by_hand() -> None:
    """Logits ln 3 and 0: p = (3/4 + 1/2) / 2 = 5/8. And where a sigmoid is 1 in float32."""
    a, v = torch.tensor([LN3, LN3, 200.0]), torch.tensor([0.0, 0.0, 200.0])
    found = relevance_entropy(a, v, torch.tensor([1.0, 0.0, 0.0]))
    expected = torch.tensor([math.log(8 / 5), math.log(8 / 3), 200.0])
    torch.testing.assert_close(found, expected)


def sel_answer() -> Output:
    return Output(
        parts={
            "category": torch.tensor([[0.0, LN3, 0.0], [5.0, 0.0, 0.0]]),
            "audio_match": torch.tensor([[LN3, LN3, 9.0], [0.0, 0.0, 0.0]]),
            "visual_match": torch.tensor([[0.0, 0.0, 9.0], [0.0, 0.0, 0.0]]),
        }
    )


@pytest.mark.parametrize("share", [0.5, 0.2, 0.0])
def test_equation_8_by_hand(share: float) -> None:
    """A clip of class 1 (3/5) with a padded end, and one without event, which has no category."""
    mask = torch.tensor([[True, True, False], [True, True, True]])
    labels = torch.tensor([[1, C, -1], [C, C, C]])
    batch = Batch(*clips(2, 3), mask, labels)
    relevance = (math.log(8 / 5) + math.log(8 / 3) + 3 * math.log(2)) / 5
    expected = share * math.log(5 / 3) + (1 - share) * relevance
    found = build(lambda_s=share).loss(sel_answer(), batch)
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_a_clip_of_several_classes_counts_as_its_most_frequent() -> None:
    labels = torch.tensor([[1, 0, 1], [C, C, 2]])
    logits = sel_answer().parts["category"]
    found = build(matching="none").loss(
        Output(parts={"category": logits}), Batch(*clips(2, 3), labels=labels)
    )
    second = -logits[1].log_softmax(0)[2].item()
    assert found.item() == pytest.approx((math.log(5 / 3) + second) / 2, abs=1e-5)


def test_cml_loss_by_hand() -> None:
    """Mean embedding: the wholes of segments 1, 2 alone; the padded clip's tail counts nothing."""
    model = build(task="cml", embedding="mean", width=1)
    heard = torch.tensor([[9.0, 1.0, 3.0, -1.0], [1.0, 0.0, 0.0, 99.0]])[..., None]
    seen = torch.tensor([[0.0, 0.5, 0.5, 1.0], [2.0, 0.0, 0.0, 99.0]])[..., None]
    labels = torch.tensor([[C, 1, 1, C], [C, C, C, -1]])  # the second has no event: left out
    mask = torch.tensor([[True] * 4, [True] * 3 + [False]])
    phi_a, phi_v = 2.0, 0.5
    p = (torch.sigmoid(phi_v * heard[0, :, 0]) + torch.sigmoid(phi_a * seen[0, :, 0])) / 2
    expected = F.binary_cross_entropy(p, torch.tensor([0.0, 1.0, 1.0, 0.0]))
    answer = Output(parts={"audio": heard, "visual": seen})
    found = model.loss(answer, Batch(*clips(2, 4), mask, labels))
    torch.testing.assert_close(found, expected)
    alone = Output(parts={"audio": heard[1:], "visual": seen[1:]})
    nothing = model.loss(alone, Batch(*clips(1, 4), mask[1:], labels[1:]))
    assert nothing.item() == 0


@pytest.mark.parametrize("matching", ["cross", "self"])
def test_sync_by_hand(matching: str) -> None:
    """Mean embedding: a single segment's whole is the segment; each is asked for in the others."""
    heard = torch.tensor([[2.0, 1.0, 3.0, 50.0]])[..., None]
    seen = torch.tensor([[0.5, -0.5, 1.0, 50.0]])[..., None]
    answer = Output(parts={"audio": heard, "visual": seen})
    labels, mask = torch.tensor([[C, 1, 1, -1]]), torch.tensor([[True, True, True, False]])
    batch = Batch(*clips(1, 4), mask, labels)
    a, v = heard[0, :3, 0], seen[0, :3, 0]
    costs = []
    for s in range(3):
        for t in range(3):
            if s != t:
                logits = (v[s] * a[t], a[s] * v[t]) if matching == "cross" else (
                    a[s] * a[t], v[s] * v[t])  # fmt: skip
                p = sum(torch.sigmoid(x) for x in logits) / 2
                costs.append(-torch.log(1 - p))
    kinds = [build(task="cml", embedding="mean", width=1, matching=matching, negatives=n)
             for n in ("release", "sync")]  # fmt: skip
    plain, both = (m.loss(answer, batch) for m in kinds)
    torch.testing.assert_close(both, (plain + torch.stack(costs).mean()) / 2)


def test_parameters_by_hand() -> None:
    d, ff = 256, 1024
    block = 4 * (d * d + d) + (d * ff + ff) + (ff * d + d) + 2 * 2 * d
    ins = (128 * d + d) + (512 * d + d)
    look = (128 * 512 + 512) + (512 * 512 + 512) + 2 * 512 * 49 + 49
    lstm = 4 * (2 * d * d + 2 * d)
    bilstm = 2 * 4 * (d * d // 2 + d * d // 4 + d)
    head = 2 * d * 28 + 28
    for options, expected in (
        ({}, look + ins + 2 * block + head),
        ({"task": "cml"}, ins + 2 * block),
        ({"task": "cml", "regions": "guided"}, look + ins + 2 * block),
        ({"task": "cml", "embedding": "mean"}, ins),
        ({"task": "cml", "embedding": "rnn"}, ins + lstm // 2),
        ({"task": "cml", "embedding": "gru"}, ins + 2 * lstm * 3 // 4),
        ({"task": "cml", "embedding": "lstm"}, ins + 2 * lstm),
        ({"task": "cml", "embedding": "bilstm"}, ins + 2 * bilstm),
    ):
        model = build_model("dam", audio_dim=128, visual_dim=512, classes=28, **options)  # type: ignore[arg-type]
        assert sum(model.parameter_counts().values()) == expected, options


# ---- table 3: embeddings


@pytest.mark.parametrize("kind", Dam.choices["embedding"])
def test_embeddings_see_what_is_kept_alone(kind: str) -> None:
    """Gaps and padding leave no trace, in training's path and in the faster one of inference."""
    torch.manual_seed(0)
    embed = Embed(kind, 4, heads=2, dropout=0.1).eval()
    x = torch.rand(3, 6, 4)
    keep = torch.tensor([[False, True, True, False, True, False], [True] * 6, [False] * 5 + [True]])
    x[~keep] = math.nan
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            found = embed(x, keep)
            for i in range(3):
                own = x[i : i + 1, keep[i]]
                alone = embed(own, torch.ones(own.shape[:2], dtype=torch.bool))
                torch.testing.assert_close(found[i : i + 1], alone, atol=1e-5, rtol=0)
    assert bool(torch.isfinite(embed(x, torch.zeros_like(keep))).all())


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru", "bilstm"])
def test_recurrent_embeddings_are_torchs_averaged(kind: str) -> None:
    embed = Embed(kind, 4, heads=2, dropout=0.1)
    assert embed.recurrent is not None
    x = torch.rand(2, 5, 4)
    expected = embed.recurrent.net(x)[0].mean(1)
    assert embed.recurrent.net.bidirectional == (kind == "bilstm")
    torch.testing.assert_close(embed(x, torch.ones(2, 5, dtype=torch.bool)), expected)


def test_pooling_embeddings() -> None:
    x = torch.tensor([[[1.0, 5.0], [3.0, 4.0]]])
    keep = torch.ones(1, 2, dtype=torch.bool)
    assert Embed("mean", 2, heads=1, dropout=0)(x, keep).tolist() == [[2, 4.5]]
    assert Embed("max", 2, heads=1, dropout=0)(x, keep).tolist() == [[3, 5]]


def test_order_counts_for_recurrent_embeddings_alone() -> None:
    for kind in Dam.choices["embedding"]:
        torch.manual_seed(0)
        embed = Embed(kind, 4, heads=2, dropout=0.0).eval()
        x = torch.rand(1, 5, 4)
        keep = torch.ones(1, 5, dtype=torch.bool)
        same = embed(x, keep).allclose(embed(x.flip(1), keep), atol=1e-6)
        assert same == (kind in ("self-attention", "mean", "max")), kind


# ---- tables 4 and 5: matchings


def test_what_asks_whom() -> None:
    """Cross: the other modality's whole. Self: one's own."""
    phi = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])  # phi_A, phi_V
    f_a, f_v = torch.tensor([[[2.0, 3.0]]]), torch.tensor([[[5.0, 7.0]]])
    small = {"width": 2, "heads": 1}
    assert [x.item() for x in build(**small).match(phi, f_a, f_v)] == [3, 5]
    own = build(matching="self", **small).match(phi, f_a, f_v)
    assert [x.item() for x in own] == [2, 7]


def test_no_matching_gives_the_category_everywhere() -> None:
    audio, visual = clips(3, 6)
    for options in ({"matching": "none"}, {"lambda_s": 1.0}):
        model = build(**options)
        answer = model(audio=audio, visual=visual)
        assert answer.labels.equal(answer.labels[:, :1].expand(-1, 6))
        assert answer.labels[:, 0].equal(answer.parts["category"].argmax(-1))
        assert answer.scores[..., C].eq(0).all()
        assert set(answer.parts) == {"category"}
    with pytest.raises(UsageError, match="none"):
        build(task="cml", matching="none")


# ---- the decision


def with_bias(model: Dam, *, category: int) -> Dam:
    assert model.category is not None
    with torch.no_grad():
        model.category.weight.zero_()
        model.category.bias.copy_(torch.eye(C)[category] * 0.2)
    return model


def test_background_below_a_half_else_the_clips_category() -> None:
    """Though the category is so unsure that the argmax over products says background."""
    model = with_bias(build(), category=2)
    model.match = lambda wholes, heard, seen: (  # type: ignore[method-assign]
        torch.tensor([[-1.0, 0.1, 4.0]]), torch.tensor([[0.9, 0.1, 4.0]]),
    )  # fmt: skip
    audio, visual = clips(1, 3)
    answer = model(audio=audio, visual=visual)
    assert answer.labels.tolist() == [[C, 2, 2]]
    assert answer.scores[0].argmax(-1).tolist() == [C, C, 2]
    assert Dam.decision_rule(answer.scores.detach().numpy(), {}).tolist() == answer.labels.tolist()


def test_decide_is_the_label_of_every_answer() -> None:
    model = build()
    for seed in range(20):
        audio, visual = clips(4, 7, seed=seed)
        with torch.no_grad():
            answer = model(audio=audio - 0.5, visual=visual - 0.5)
        assert np.array_equal(Dam.decision_rule(answer.scores.numpy(), {}), answer.labels.numpy())


def trained(model: Dam, window: int) -> Trained:
    card = {
        "model": "dam", "task": "sel", "options": {}, "classes": ["a", "b", "c"], "step": 1.0,
        "dims": {"audio": A, "visual": V}, "window": window, "audio_card": {}, "visual_card": {},
    }  # fmt: skip
    return Trained(model, card)


def features(t: int) -> Features:
    audio, visual = clips(1, t, seed=3)
    seen = np.ones(t, dtype=bool)
    return Features(audio[0].numpy(), visual[0].numpy(), Grid(float(t), 1.0), seen, seen)


def test_a_file_of_one_window_is_a_clip() -> None:
    model = build()
    found = trained(model, 10).predict(features(6))
    audio, visual = clips(1, 6, seed=3)
    answer = model(audio=audio, visual=visual)
    np.testing.assert_allclose(found.values, answer.scores[0].detach().numpy(), atol=1e-6)
    assert found.labels.tolist() == answer.labels[0].tolist()


def test_windows_of_a_long_file_are_decided_by_the_papers_rule() -> None:
    """p just over a half in every window, so the argmax of the mean would say background."""
    model = with_bias(build(), category=1)
    low = torch.tensor([-0.5, 0.3, 0.3, 0.3])
    model.match = lambda wholes, heard, seen: (low.expand(len(heard), -1),) * 2  # type: ignore[method-assign,assignment,return-value]
    found = trained(model, 4).predict(features(8))  # windows from 0, 2, 4
    assert found.values.argmax(1).tolist() == [C] * 8
    p = torch.sigmoid(low)
    mean = [p[0], p[1], (p[2] + p[0]) / 2, (p[3] + p[1]) / 2]
    mean += [(p[2] + p[0]) / 2, (p[3] + p[1]) / 2, p[2], p[3]]
    np.testing.assert_allclose(found.values[:, C], 1 - torch.stack(mean).numpy(), atol=1e-6)
    assert found.labels.tolist() == [1 if x >= 0.5 else C for x in mean]
    assert C in found.labels
    assert 1 in found.labels


# ---- CML


def test_scaled_divides_every_product_by_the_root_of_the_width() -> None:
    """Weights of the unscaled model: each logit is that model's by the root of 8."""
    audio, visual = clips(2, 5)
    batch = Batch(audio, visual, labels=one_event(2, 5))
    plain, scaled = (build(task="sel", scaled=s).double() for s in (False, True))
    audio, visual = audio.double(), visual.double()
    matches = [m(audio=audio, visual=visual).parts for m in (plain, scaled)]
    for name in ("audio_match", "visual_match"):
        torch.testing.assert_close(matches[1][name], matches[0][name] / math.sqrt(D))
    torch.testing.assert_close(matches[1]["category"], matches[0]["category"])
    for negatives in ("release", "sync"):
        plain, scaled = (
            build(task="cml", negatives=negatives, embedding="mean", scaled=s)
            for s in (False, True)
        )
        answer = plain(audio=batch.audio, visual=batch.visual)
        smaller = {k: v / D**0.25 for k, v in answer.parts.items()}  # means scale alike
        torch.testing.assert_close(
            scaled.loss(answer, batch), plain.loss(Output(parts=smaller), batch)
        )
    query = Query("audio", 0, 2)
    costs = scaled.window_costs(audio=batch.audio, visual=batch.visual, query=query)
    f_audio, f_visual, _ = plain.local(batch.audio, batch.visual)
    whole = f_audio[:, :2].mean(1, keepdim=True)
    p = torch.sigmoid((whole * f_visual).sum(-1) / math.sqrt(D))
    torch.testing.assert_close(costs.float(), -(p[:, 1:] + p[:, :-1]))


def test_depth_repeats_the_block() -> None:
    model = build(depth=3)
    x = clips(2, 4)[0][..., :1].expand(-1, -1, D)
    embed = model.audio_whole
    assert embed.block is not None and len(embed.further) == 2
    expected = x
    for block in (embed.block, *embed.further):
        expected = block(expected)
    torch.testing.assert_close(embed(x), expected.mean(1))
    sizes = [sum(p.numel() for p in m.audio_whole.parameters()) for m in (build(), model)]
    assert sizes[1] == 3 * sizes[0]
    assert not any("further" in name for name in build().state_dict()), "as earlier checkpoints"


def test_windows_by_hand() -> None:
    """Mean embedding of width 1: A2V asks f_V with phi_A of the query alone, V2A f_A with phi_V."""
    model = build(task="cml", embedding="mean", width=1, audio_dim=1, visual_dim=1)
    for layer in (model.audio_in, model.visual_in):
        torch.nn.init.ones_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    a = torch.tensor([[2.0, 4.0, -9.0, 0.0]])
    v = torch.tensor([[0.1, -0.2, 0.3, 0.5]])
    tracks = {"audio": a[..., None], "visual": v[..., None, None, None]}
    p_v = torch.sigmoid(3.0 * v)[0]  # phi_A: the mean of 2 and 4
    found = model.window_costs(**tracks, query=Query("audio", 0, 2))
    expected = -torch.stack([p_v[i] + p_v[i + 1] for i in range(3)])
    torch.testing.assert_close(found.float(), expected[None])
    p_a = torch.sigmoid(0.4 * a)[0]  # phi_V: the mean of 0.3 and 0.5
    found = model.window_costs(**tracks, query=Query("visual", 2, 2))
    expected = -torch.stack([p_a[i] + p_a[i + 1] for i in range(3)])
    torch.testing.assert_close(found.float(), expected[None])


@pytest.mark.parametrize("embedding", ["self-attention", "gru"])
def test_each_modality_has_an_embedding_of_its_own(embedding: str) -> None:
    model = build(task="cml", embedding=embedding)
    audio, visual = clips(2, 6)
    heard, seen, _ = model.local(audio, visual)
    every = torch.ones(2, 2, dtype=torch.bool)
    for modality, embed, asks, answers in (
        ("audio", model.audio_whole, heard, seen), ("visual", model.visual_whole, seen, heard),
    ):  # fmt: skip
        whole = embed(asks[:, 3:5], every)
        p = (answers * whole[:, None]).sum(-1).sigmoid()
        found = model.window_costs(audio=audio, visual=visual, query=Query(modality, 3, 2))  # type: ignore[arg-type]
        torch.testing.assert_close(found.float(), -(p[:, :-1] + p[:, 1:]))


def test_self_matching_answers_by_the_cosine() -> None:
    model = build(task="cml", matching="self", embedding="mean", width=2, heads=1)
    audio, visual = clips(2, 6)
    heard, seen, _ = model.local(audio, visual)
    whole = heard[:, 1:4].mean(1)
    cosine = F.cosine_similarity(whole[:, None], seen, dim=-1)
    expected = torch.stack([(1 - cosine[:, i : i + 3]).sum(1) for i in range(4)], 1)
    found = model.window_costs(audio=audio, visual=visual, query=Query("audio", 1, 3))
    torch.testing.assert_close(found.float(), expected)


def test_sure_windows_dont_tie() -> None:
    """In float32 every sigmoid beyond 17 is 1, and the earliest window would win."""
    model = build(task="cml", embedding="mean", width=1, audio_dim=1, visual_dim=1)
    for layer in (model.audio_in, model.visual_in):
        torch.nn.init.ones_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    audio, visual = torch.ones(1, 3, 1), torch.tensor([20.0, 22.0, 24.0]).reshape(1, 3, 1, 1, 1)
    found = model.window_costs(audio=audio, visual=visual, query=Query("audio", 0, 1))
    assert found.argmin(1).item() == 2


def test_a_candidate_never_hears_its_own_sound() -> None:
    """By default; with attention it does, and separate recordings are refused."""
    audio, visual = clips(1, 6)
    other = audio.clone()
    other[:, 3:] += 1
    query = Query("audio", 0, 2)
    for regions, hears in (("auto", False), ("mean", False), ("guided", True)):
        model = build(task="cml", regions=regions)
        plain = model.window_costs(audio=audio, visual=visual, query=query)
        assert plain.equal(model.window_costs(audio=other, visual=visual, query=query)) != hears
    assert build(task="cml").window_costs(audio=audio[:, :4], visual=visual, query=query).shape == (
        1,
        5,
    )
    with pytest.raises(UsageError, match="regions=mean"):
        model.window_costs(audio=audio[:, :4], visual=visual, query=query)
    with pytest.raises(UsageError, match="segments"):
        build(task="cml").window_costs(audio=audio, visual=visual, query=Query("visual", 5, 2))


# ---- every variant learns, masks leave no trace


VARIANTS: list[dict[str, Any]] = [
    *({"embedding": e} for e in Dam.choices["embedding"]),
    {"matching": "self"}, {"regions": "mean"}, {"regions": "guided"}, {"depth": 3},
    {"scaled": True},
]  # fmt: skip


@pytest.mark.parametrize("task", ["sel", "cml"])
@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize(("b", "t"), [(1, 1), (3, 3), (1, 10), (2, 37)])
def test_every_weight_learns(task: str, options: dict[str, Any], b: int, t: int) -> None:
    model = build(task=task, **options).train()
    audio, visual = clips(b, t)
    batch = Batch(audio, visual, labels=one_event(b, t))
    model.loss(model(audio=audio, visual=visual), batch).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert bool(torch.isfinite(p.grad).all()), name
        still = t <= 3 and any(part in name for part in ("in_proj", "weight_hh"))
        key = "in_proj_bias" in name  # a key's bias shifts all logits alike
        assert still or key or bool(p.grad.any()), name


@pytest.mark.parametrize("options", [*VARIANTS, {"matching": "none"}], ids=str)
def test_padding_leaves_no_trace(options: dict[str, Any]) -> None:
    model = build(**options)
    audio, visual = clips(3, 7)
    lengths = [7, 4, 1]
    mask = torch.arange(7) < torch.tensor(lengths)[:, None]
    audio[~mask], visual[~mask] = math.nan, math.nan
    together = model(audio=audio, visual=visual, mask=mask)
    labels = torch.tensor([1, 1, C, 0, 1, 1, 1]).expand(3, -1).where(mask, torch.tensor(-1))
    loss = model.loss(together, Batch(audio, visual, mask, labels))
    assert bool(torch.isfinite(loss))
    for i, n in enumerate(lengths):
        alone = model(audio=audio[i : i + 1, :n], visual=visual[i : i + 1, :n])
        torch.testing.assert_close(together.scores[i, :n], alone.scores[0], atol=1e-5, rtol=0)
        assert together.labels[i, :n].equal(alone.labels[0])


@pytest.mark.parametrize("task", ["sel", "cml"])
def test_bfloat16_is_near(task: str) -> None:
    model = build(task=task)
    audio, visual = clips(3, 8)
    batch = Batch(audio, visual, labels=one_event(3, 8))
    plain = model.loss(model(audio=audio, visual=visual), batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        answer = model(audio=audio, visual=visual.bfloat16())
        mixed = model.loss(answer, batch)
        costs = model.window_costs(audio=audio, visual=visual, query=Query("audio", 1, 3))
    assert bool(torch.isfinite(costs).all())
    assert all(p.dtype == torch.float32 for p in answer.parts.values())
    torch.testing.assert_close(mixed.float(), plain, atol=0.05, rtol=0)


@pytest.mark.parametrize(
    "options",
    [{"embedding": "conv"}, {"matching": "both"}, {"regions": "max"}, {"lambda_s": 1.5},
     {"dropout": 1.0}, {"width": 0}, {"width": 9}, {"heads": 0},
     {"width": 9, "embedding": "bilstm"}, {"depth": 0}, {"depth": 2, "embedding": "mean"},
     {"scaled": True, "matching": "none"}],
    ids=str,
)  # fmt: skip
def test_bad_options(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"expected"):
        build(**options)


def test_it_learns_to_find_events() -> None:
    """Every third of the clips has its own class in both modalities, background elsewhere."""
    model = build(embedding="mean").train()
    torch.manual_seed(2)
    audio, visual = 0.1 * torch.rand(9, 10, A), 0.1 * torch.rand(9, 10, H, W, V)
    labels = torch.full((9, 10), C)
    for i in range(9):
        first = 1 + i % 5
        labels[i, first : first + 4] = i % 3
        audio[i, first : first + 4, i % 3] += 1
        visual[i, first : first + 4, ..., i % 3] += 1
    batch = Batch(audio, visual, labels=labels)
    optimiser = torch.optim.Adam(model.parameters(), 3e-2)
    for _ in range(80):
        optimiser.zero_grad()
        answer = model(audio=audio, visual=visual)
        model.loss(answer, batch).backward()
        optimiser.step()
    assert (answer.labels == labels).float().mean() > 0.97  # the category everywhere: 0.4
