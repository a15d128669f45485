"""The contract that every registered model keeps, in every task and variant it declares.

Variants come from what the models and the papers' rows say of themselves
(:mod:`tests.variants`), so that a new model, task, option value or row is under test by being
there.
"""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch
from torch import Tensor

from avel.errors import UsageError
from avel.inference.checkpoint import Trained, ids_hash
from avel.inference.load import load_trained
from avel.models.base import Batch, Model, Output, Query, Recipe, build_model, models
from avel.tasks import task_named
from avel.training.loop import fit
from tests.training_data import make_dataset
from tests.variants import A, C, H, V, Variant, W, variants

EVERY, REFUSED = variants()
#: Models that are trained, and widths by which each of 100 steps is quick.
TRAINED = {v.model for v in EVERY}
NARROW = {"jca": {"audio_out": 128, "visual_out": 128, "joint_out": 256}}
LABELLED = [v for v in EVERY if v.task != "cml"]
MATCHED = [v for v in EVERY if v.task == "cml"]
TASKS = [(name, task) for name, cls in models for task in cls.card.tasks]


def clips(b: int, t: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.rand(b, t, A, generator=g), torch.rand(b, t, H, W, V, generator=g)


def targets(audio: Tensor, visual: Tensor, mask: Tensor | None = None) -> Batch:
    b, t = audio.shape[:2]
    labels = torch.full((b, t), C)
    labels[:, t // 3 : max(1, 2 * t // 3)] = 1
    return Batch(audio, visual, mask, labels, torch.eye(C + 1)[torch.arange(b) % (C + 1)])


def loss_of(model: Model, batch: Batch) -> Tensor:
    answer = model(audio=batch.audio, visual=batch.visual, mask=batch.mask)
    return model.loss(answer, batch)


def test_models_and_their_variants_are_found() -> None:
    assert "cspa_csea" in models.names()
    assert {(v.model, v.task) for v in EVERY if not v.options} == set(TASKS)


def test_some_variants_are_refused() -> None:
    assert REFUSED


@pytest.mark.parametrize(("variant", "told"), REFUSED, ids=str)
def test_a_variant_that_makes_no_sense_is_refused_by_its_name(variant: Variant, told: str) -> None:
    assert all(name in told for name, _ in variant.told)


@pytest.mark.parametrize("name", models.names())
def test_card_and_signature(name: str) -> None:
    cls = models.get(name)
    card = cls.card
    assert card.name == name
    assert card.paper
    assert card.summary
    assert set(card.tasks) <= {"sel", "wsel", "cml"}
    parameters = inspect.signature(cls.forward).parameters
    assert list(parameters)[:4] == ["self", "audio", "visual", "mask"]
    for modality in ("audio", "visual", "mask"):
        assert parameters[modality].kind is inspect.Parameter.KEYWORD_ONLY
    assert all(type(v) in (str, int, float, bool) for v in cls.options().values())
    for option, values in cls.choices.items():
        assert cls.options()[option] in values
    audio, visual = cls.widths(cls.options())
    with torch.device("meta"):
        build_model(name, audio_dim=audio, visual_dim=visual, classes=C, task=card.tasks[0])


@pytest.mark.parametrize("name", models.names())
def test_a_value_that_an_option_hasnt_is_refused(name: str) -> None:
    cls = models.get(name)
    for option in cls.choices:
        with pytest.raises(UsageError, match=f"{option}='nonsense': expected one of"):
            build_model(
                name, audio_dim=A, visual_dim=V, classes=C, task=cls.card.tasks[0],
                **{option: "nonsense"},
            )  # fmt: skip


@pytest.mark.parametrize("variant", EVERY, ids=str)
def test_answers_and_learns_at_any_length(variant: Variant) -> None:
    for b, t in ((1, 1), (1, 10), (3, 3), (2, 37)):
        model = variant.build().train()
        audio, visual = clips(b, t)
        answer = model(audio=audio, visual=visual)
        assert isinstance(answer, Output)
        loss = model.loss(answer, targets(audio, visual))
        assert loss.ndim == 0
        assert bool(torch.isfinite(loss))
        loss.backward()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        assert grads
        assert all(bool(torch.isfinite(g).all()) for g in grads)
        if variant.task != "cml":
            judged(answer, b, t, distribution=model.card.distribution)


def judged(answer: Output, b: int, t: int, *, distribution: bool) -> None:
    """What SEL and WSEL must answer for clips of one length."""
    assert answer.scores is not None
    assert answer.labels is not None
    assert answer.scores.shape == (b, t, C + 1)
    assert answer.scores.min() >= 0
    assert answer.scores.max() <= 1
    assert answer.labels.shape == (b, t)
    assert not answer.labels.is_floating_point()
    assert set(answer.labels.unique().tolist()) <= set(range(C + 1))
    if distribution:
        torch.testing.assert_close(answer.scores.sum(-1), torch.ones(b, t))
    if answer.attention is not None:
        assert answer.attention.shape == (b, t, H, W)
        torch.testing.assert_close(answer.attention.sum((-1, -2)), torch.ones(b, t))


#: A gradient that is zero on paper comes out of rounding at up to 3e-11, or at 0: the least of
#: those that aren't is 1e-8.
ROUNDING = 1e-9


@pytest.mark.parametrize("variant", EVERY, ids=str)
def test_every_weight_learns_but_where_the_card_says_why_not(variant: Variant) -> None:
    model = variant.build()
    loss_of(model, targets(*clips(4, 7))).backward()
    weights = dict(model.named_parameters())
    still = [n for n, p in weights.items() if p.grad is None or p.grad.abs().sum() < ROUNDING]
    idle = any(f"{name}={value}" in model.card.idle for name, value in variant.told)
    assert bool(still) == idle, still
    assert len(still) < len(weights)


PLAIN = [v for v in EVERY if not v.options]
LONG = [pytest.param(60), pytest.param(300, marks=pytest.mark.slow)]


@pytest.mark.parametrize("t", LONG)
@pytest.mark.parametrize("variant", PLAIN, ids=str)
def test_long_clips_are_learnt(variant: Variant, t: int) -> None:
    model = variant.build()
    batch = targets(*clips(4, t))
    assert batch.labels is not None
    event = batch.labels != C
    batch.audio[..., 0] += 2 * event
    batch.visual[..., 5] += 2 * event[..., None, None]
    for i in range(4):  # what tells the clips' tags
        batch.visual[i, ..., i] += 2
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = loss_of(model, batch)
        loss.backward()
        assert all(
            bool(torch.isfinite(p.grad).all()) for p in model.parameters() if p.grad is not None
        )
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.2 * abs(losses[0])


@pytest.mark.parametrize("variant", LABELLED, ids=str)
def test_padding_and_batch_change_no_answer(variant: Variant) -> None:
    model = variant.build()
    audio, visual = clips(3, 7)
    lengths = [7, 4, 1]
    mask = torch.arange(7) < torch.tensor(lengths)[:, None]
    audio[~mask], visual[~mask] = 9.0, -9.0
    with torch.no_grad():
        together = model(audio=audio, visual=visual, mask=mask)
        for i, n in enumerate(lengths):
            alone = model(audio=audio[i : i + 1, :n], visual=visual[i : i + 1, :n])
            torch.testing.assert_close(together.scores[i, :n], alone.scores[0], atol=1e-5, rtol=0)
            assert together.labels[i, :n].equal(alone.labels[0])


@pytest.mark.parametrize("variant", EVERY, ids=str)
def test_padding_changes_no_loss(variant: Variant) -> None:
    model = variant.build()
    audio, visual = clips(2, 6)
    batch = targets(audio, visual)
    assert batch.labels is not None
    longer = [torch.cat([x, torch.full_like(x[:, :3], 5.0)], 1) for x in (audio, visual)]
    mask = (torch.arange(9) < 6).expand(2, 9)
    labels = torch.cat([batch.labels, torch.full((2, 3), -1)], 1)
    padded = Batch(longer[0], longer[1], mask, labels, batch.tags)
    with torch.no_grad():
        plain, again = loss_of(model, batch), loss_of(model, padded)
    torch.testing.assert_close(again, plain, atol=1e-5, rtol=0)


def card_of(variant: Variant) -> dict[str, object]:
    names = [f"class {i}" for i in range(C)]
    return {
        "model": variant.model, "task": variant.task, "options": variant.small(), "classes": names,
        "dims": {"audio": A, "visual": V}, "window": 5, "step": 1.0, "audio_card": {},
        "visual_card": {}, "data": {}, "train_ids": {"count": 1, "sha256": ids_hash(["a"])},
    }  # fmt: skip


@pytest.mark.parametrize("variant", EVERY, ids=str)
def test_a_checkpoint_gives_the_same_network(variant: Variant, tmp_path: Path) -> None:
    model = variant.build(seed=3)
    Trained(model, card_of(variant), ("a",)).save(tmp_path)
    other = load_trained(tmp_path).network
    assert type(other) is type(model)
    batch = targets(*clips(2, 5))
    with torch.no_grad():
        assert loss_of(model, batch).equal(loss_of(other, batch))


@pytest.mark.parametrize("variant", MATCHED, ids=str)
@pytest.mark.parametrize("modality", ["audio", "visual"])
def test_window_costs(variant: Variant, modality: str) -> None:
    model = variant.build()
    audio, visual = clips(2, 8)
    with torch.no_grad():
        costs = model.window_costs(audio=audio, visual=visual, query=Query(modality, 2, 3))  # type: ignore[arg-type]
        whole = model.window_costs(audio=audio, visual=visual, query=Query(modality, 0, 8))  # type: ignore[arg-type]
        for query in (Query(modality, 7, 2), Query(modality, -1, 2), Query(modality, 0, 0)):  # type: ignore[arg-type]
            with pytest.raises(UsageError):
                model.window_costs(audio=audio, visual=visual, query=query)
    assert costs.shape == (2, 6)
    assert whole.shape == (2, 1)
    assert bool(torch.isfinite(costs).all())
    assert costs.std(1).min() > 0  # windows differ, so do their costs


@pytest.mark.parametrize(
    ("variant", "setting"), [(v, s) for v in PLAIN for s in task_named(v.task).settings], ids=str
)
def test_every_setting_trains(variant: Variant, setting: str) -> None:
    recipe = Recipe(epochs=1, batch=8, precision="float32", options=variant.small())
    data = make_dataset(unequal=True, cml=variant.task == "cml", background=True)
    run = fit(variant.model, data, task=variant.task, recipe=recipe, setting=setting)
    assert run.trained.card["setting"] == setting
    if variant.task == "cml" and "negatives" in models.get(variant.model).options():
        assert run.trained.card["options"]["negatives"] == setting


@pytest.mark.parametrize(("name", "task"), TASKS)
def test_recipe(name: str, task: str) -> None:
    recipe = models.get(name).recipe(task)  # type: ignore[arg-type]
    assert isinstance(recipe, Recipe)
    assert min(recipe.epochs, recipe.batch, recipe.lr) > 0
    assert set(recipe.options) <= set(models.get(name).options())


@pytest.mark.parametrize("name", models.names())
def test_mistakes_come_all_at_once(name: str) -> None:
    with pytest.raises(UsageError, match=r"(?s)nonsense.*task 'nothing'"):
        build_model(name, audio_dim=A, visual_dim=V, classes=C, task="nothing", nonsense=1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name", [n for n, cls in models if "sel" in cls.card.tasks and n in TRAINED]
)
def test_no_system_stays_at_background(name: str) -> None:
    """After 100 steps on 32 clips of 28 classes, segments of events aren't all background."""
    classes, count, t = 28, 32, 10
    draw = torch.Generator().manual_seed(3)
    labels = torch.full((count, t), classes)
    audio = torch.rand(count, t, 32, generator=draw)
    visual = torch.rand(count, t, 2, 2, 32, generator=draw)
    for i in range(count):
        labels[i, 2:8] = i % classes
        audio[i, 2:8, i % classes] += 3
        visual[i, 2:8, :, :, i % classes] += 3
    torch.manual_seed(0)
    model = build_model(
        name, audio_dim=32, visual_dim=32, classes=classes, task="sel", **NARROW.get(name, {})
    )
    adam = torch.optim.Adam(model.parameters(), models.get(name).recipe("sel").lr)
    batch = Batch(audio, visual, labels=labels, tags=None)
    # a linear layer has no such phase, but 100 of Adam's steps move its weights by 0.1 at most
    for _ in range(500 if name == "linear" else 100):
        adam.zero_grad()
        model.loss(model(audio=audio, visual=visual), batch).backward()
        adam.step()
    with torch.no_grad():
        predicted = model.eval()(audio=audio, visual=visual).labels
    assert predicted is not None
    event = labels < classes
    assert (predicted[event] < classes).float().mean() > 0.5, "it answers background"
