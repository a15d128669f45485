"""The model of our own: its soft AND, its lags, its losses by hand, and late sound."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from avel.errors import UsageError
from avel.models.base import Batch, Output, Query, build_model
from avel.models.evidence import Evidence, _moved, _tag_cost, agreed_scores

C, T = 2, 8


def small(task: str = "sel", **options: object) -> Evidence:
    torch.manual_seed(0)
    widths = {"hidden": 16, "state": 8}
    model = build_model(
        "evidence", audio_dim=4, visual_dim=4, classes=C, task=task, **{**widths, **options}
    )
    assert isinstance(model, Evidence)
    return model


def pairs(clips: int, late: int = 0, seed: int = 0) -> Batch:
    """Clips of both classes in sound and picture; an event is where they are of one class."""
    draw = torch.Generator().manual_seed(seed)
    start = torch.randint(0, 3, (clips,), generator=draw)
    end = torch.randint(5, T + 1, (clips,), generator=draw)
    heard, seen = torch.randint(0, 2, (2, clips), generator=draw).unbind()
    on = (torch.arange(T) >= start[:, None]) & (torch.arange(T) < end[:, None])
    audio = torch.full((clips, T, 4), 0.1) + 0.05 * torch.rand(clips, T, 4, generator=draw)
    visual = torch.full((clips, T, 2, 2, 4), 0.1)
    visual = visual + 0.05 * torch.rand(clips, T, 2, 2, 4, generator=draw)
    for i in range(clips):
        audio[i, on[i], heard[i]] += 1
        visual[i, on[i], 0, 1, seen[i]] += 1
    if late:
        audio = torch.cat([torch.zeros(clips, late, 4), audio[:, :-late]], 1)
    labels = torch.where(on & (heard == seen)[:, None], heard[:, None], C)
    return Batch(audio=audio, visual=visual, labels=labels)


def test_the_soft_and_by_hand() -> None:
    model = small()
    one = torch.ones(1, 1, 1)
    a, v = torch.tensor([[[2.0]]]), torch.tensor([[[-1.0]]])
    expected = -math.log(math.exp(-2.0) + math.exp(1.0))
    assert float(model._join(a, v, (one, one))) == pytest.approx(expected, rel=1e-6)
    # without a weight the sound doesn't count
    assert float(model._join(a, v, (0 * one, one))) == pytest.approx(-1.0, abs=1e-4)
    assert float(small(joint="sum")._join(a, v, (one, 2 * one))) == 0.0


def few_clips(**options: object) -> Evidence:
    """As the small-data recipe has it, but small."""
    plain = {"linear": True, "joint": "sum", "reach": 0, "gate": False, "context": False}
    return small(**{**plain, **options})


def test_with_linear_layers_it_starts_as_the_linear_model() -> None:
    model, linear = few_clips().eval(), build_model("linear", audio_dim=4, visual_dim=4, classes=C)
    batch = pairs(3)
    visual = batch.visual.mean((2, 3), keepdim=True)
    assert model.linear is not None
    with torch.no_grad():
        start = model(audio=batch.audio, visual=visual).parts["logits"]
        assert 0 < start.abs().max() < 0.2
        for part in (model.audio_head, model.region_head, model.head):
            for weight in part.parameters():
                weight.zero_()
        for part, other in zip(model.linear, (linear.audio, linear.visual), strict=True):
            for name, weight in part.named_parameters():
                weight.normal_()
                if name in dict(other.named_parameters()):
                    other.get_parameter(name).copy_(weight)
        model.linear[1].bias.zero_()
        logits = [m(audio=batch.audio, visual=visual).parts["logits"] for m in (model, linear)]
    torch.testing.assert_close(*logits)


def test_the_classes_of_a_clip_weigh_in_its_segments_by_hand() -> None:
    batch = pairs(2)
    model, without = few_clips(clip=2.0).eval(), few_clips().eval()
    with torch.no_grad():
        for part in model.linear:  # type: ignore[union-attr]
            part.weight.normal_()  # type: ignore[operator]
        without.load_state_dict(model.state_dict())
        mask = torch.arange(T) < torch.tensor([[T], [3]])
        plain, clip = (
            m(audio=batch.audio, visual=batch.visual, mask=mask).parts["logits"]
            for m in (without, model)
        )
    for i, length in enumerate((T, 3)):
        shares = plain[i, :length, :C].log_softmax(-1).mean(0)
        expected = plain[i, :length].clone()
        expected[:, :C] += 2 * (shares - shares.max())
        torch.testing.assert_close(clip[i, :length], expected)


def test_a_segment_of_background_weighs_by_the_option() -> None:
    logits = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 0.0, 3.0]]])
    model = small(background_weight=0.25, auxiliary=0.0, mismatch=0.0)
    zeros = torch.zeros(1, 2, C)
    batch = Batch(audio=torch.zeros(1, 2, 4), visual=torch.zeros(1, 2, 1, 1, 4),
                  labels=torch.tensor([[0, C]]))  # fmt: skip
    cost = model.loss(Output(parts={"logits": logits, "joint": zeros}), batch)
    each = -logits.log_softmax(-1)
    assert float(cost) == pytest.approx(float(each[0, 0, 0] + 0.25 * each[0, 1, C]) / 1.25)


@pytest.mark.parametrize("options", [{"clip": -1.0}, {"background_weight": -1.0}])
def test_values_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(options))}=.*: expected"):
        small(**options)


def test_segments_agree_on_the_class_and_padding_has_no_say() -> None:
    first = torch.tensor([1.0, 1.0, -0.5, 1.0, 1.0, -9.0])
    logits = torch.stack([first, -first, torch.full((6,), -1.0)], -1)[None]
    inside = torch.ones(1, 6, 1)
    inside[:, 5] = 0
    alone = logits.softmax(-1)
    scores = agreed_scores(logits, inside, 2.0)
    assert alone[0, 2].argmax() == 1 and scores[0, :5].argmax(-1).tolist() == [0] * 5
    torch.testing.assert_close(scores.sum(-1), torch.ones(1, 6))
    torch.testing.assert_close(scores[..., -1], alone[..., -1])
    torch.testing.assert_close(agreed_scores(logits, inside, 0.0), alone)
    shorter = agreed_scores(logits[:, :5], inside[:, :5], 2.0)
    torch.testing.assert_close(scores[:, :5], shorter)
    one = agreed_scores(logits[:, :1], inside[:, :1], 2.0)
    torch.testing.assert_close(one, alone[:, :1])


def test_neighbours_without_an_event_have_no_say() -> None:
    logits = torch.tensor([[[-9.0, 9.0, 30.0], [0.1, 0.0, -9.0], [-9.0, 9.0, 30.0]]])
    assert agreed_scores(logits, torch.ones(1, 3, 1), 2.0)[0, 1].argmax() == 0


def test_a_late_sound_is_moved_back() -> None:
    x = torch.arange(1.0, 6.0).reshape(1, 5, 1)
    two_late = torch.zeros(1, 7, 1)
    two_late[0, 3 + 2] = 1
    assert _moved(x, two_late)[0, :, 0].tolist() == [3, 4, 5, 0, 0]


def test_the_lag_is_where_sound_and_picture_match() -> None:
    model = small()
    seen = torch.zeros(1, T, C)
    seen[0, 2:4] = 1
    heard = torch.zeros(1, T, C)
    heard[0, 4:6, 0] = 1  # class 0 two segments later, class 1 at the same time
    heard[0, 2:4, 1] = 1
    with torch.no_grad():
        model.lag_scale.fill_(20.0)
    weight, parts = model._lags(heard, seen, torch.zeros(1, 7))
    assert weight[0, :, 0].argmax() == 3 + 2
    assert parts["lag"][0].tolist() == pytest.approx([2.0, 0.0], abs=1e-3)


def test_sounds_are_moved_while_training_and_the_lag_loss_knows_how_far() -> None:
    model = small(shift=0.9, lost=0.0)
    batch = pairs(32)
    real = torch.ones(32, T, dtype=torch.bool)
    audio, visual, late = model._perturbed(batch.audio, batch.visual.flatten(2, 3), real)
    assert torch.equal(visual, batch.visual.flatten(2, 3))
    assert late.abs().max() == 3 and late.min() < 0 < late.max()
    for i, k in enumerate(late.tolist()):
        if k >= 0:
            assert torch.equal(audio[i, k:], batch.audio[i, : T - k])
            assert not audio[i, :k].any()
        else:
            assert torch.equal(audio[i, :k], batch.audio[i, -k:])
            assert not audio[i, k:].any()


def test_no_sound_comes_from_padding() -> None:
    model = small(shift=0.9, lost=0.0)
    batch = pairs(32)
    real = torch.arange(T).expand(32, T) < 5
    audio = torch.where(real[..., None], batch.audio, torch.full_like(batch.audio, 9.0))
    moved, _, _ = model._perturbed(audio, batch.visual.flatten(2, 3), real)
    assert moved.max() < 9


def test_a_lost_track_is_zeros() -> None:
    model = small(shift=0.0, lost=0.9)
    batch = pairs(64)
    real = torch.ones(64, T, dtype=torch.bool)
    audio, visual, late = model._perturbed(batch.audio, batch.visual.flatten(2, 3), real)
    silent, dark = ~audio.flatten(1).any(1), ~visual.flatten(1).any(1)
    assert not late.any() and silent.any() and dark.any()
    assert not (silent & dark).any()


def test_a_lost_track_mismatches_nothing() -> None:
    model = small(lost=0.0, shift=0.0, mismatch=1.0).train()
    batch = pairs(2)
    silent = torch.cat([torch.zeros_like(batch.audio[:1]), batch.audio[1:]])
    batch = replace(batch, audio=silent, labels=torch.zeros_like(batch.labels))

    def mismatched() -> tuple[Tensor, Tensor]:
        output = model(audio=batch.audio, visual=batch.visual)
        cost = model._mismatched(output.parts, batch.one_hot(C)[..., :-1].float(), batch)
        joint = model._join(
            output.parts["audio_evidence"].roll(1, 0), output.parts["visual_evidence"],
            (output.parts["gates"][..., :1].roll(1, 0), output.parts["gates"][..., 1:]),
        )  # fmt: skip
        target = batch.one_hot(C)[..., :-1].float()
        each = functional.binary_cross_entropy_with_logits(joint, target, reduction="none")
        return cost.detach(), each.sum(-1).mean(1).detach()

    cost, each = mismatched()
    assert float(cost) == pytest.approx(float(each[0])), "the first picture, the second's sound"
    model.mismatch = 0.0
    assert "tracks" not in model(audio=batch.audio, visual=batch.visual).parts


def test_tags_by_hand() -> None:
    p = torch.tensor([0.9, 0.3])
    logits = torch.logit(p).reshape(1, 2, 1)
    pooled = (0.81 + 0.09) / 1.2
    cost = _tag_cost(logits, torch.ones(1, 1), None)
    assert float(cost) == pytest.approx(-math.log(pooled), rel=1e-5)


def test_the_share_of_the_sound_is_between_0_and_1_and_half_without_a_gate() -> None:
    batch = pairs(4)
    with torch.no_grad():
        parts = small().eval()(audio=batch.audio, visual=batch.visual).parts
        even = small(gate=False, reach=0).eval()(audio=batch.audio, visual=batch.visual).parts
    assert bool(((parts["audio_weight"] >= 0) & (parts["audio_weight"] <= 1)).all())
    assert even["audio_weight"].tolist() == [[0.5] * T] * 4


def trained(model: Evidence, steps: int) -> Evidence:
    """Trained on other clips at every step."""
    adam = torch.optim.Adam(model.parameters(), 1e-2)
    for step in range(steps):
        batch = pairs(32, seed=step)
        cost = model.loss(model(audio=batch.audio, visual=batch.visual), batch)
        adam.zero_grad()
        cost.backward()
        adam.step()
    return model.eval()


def accuracy(model: Evidence, batch: Batch) -> float:
    with torch.no_grad():
        labels = model(audio=batch.audio, visual=batch.visual).labels
    assert labels is not None and batch.labels is not None
    return float((labels == batch.labels).float().mean())


def test_late_sound_is_learnt_and_reported() -> None:
    aligned, late = pairs(200, seed=999), pairs(200, late=2, seed=999)
    model = trained(small(), 200)
    assert accuracy(model, aligned) > 0.9
    assert accuracy(model, late) > accuracy(model, aligned) - 0.05
    with torch.no_grad():
        lag = model(audio=late.audio, visual=late.visual).parts["lag"]
    assert late.labels is not None
    label = late.labels.amin(1)
    event = label != C
    reported = lag[event].gather(1, label[event][:, None])[:, 0]
    assert float(reported.median()) == pytest.approx(2, abs=0.5)


def test_windows_of_the_event_cost_least() -> None:
    model = trained(small("cml", hidden=32), 100)
    batch = pairs(100, seed=999)
    assert batch.labels is not None
    hits: list[bool] = []
    for audio, visual, label in zip(batch.audio, batch.visual, batch.labels, strict=True):
        event = (label != C).nonzero()[:, 0]
        if len(event):
            query = Query("audio", int(event[0]), len(event))
            costs: Tensor = model.window_costs(audio=audio[None], visual=visual[None], query=query)
            assert costs.shape == (1, T - len(event) + 1)
            hits.append(int(costs.argmin()) == int(event[0]))
    assert sum(hits) > 0.8 * len(hits)
