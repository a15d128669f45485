"""The contract that every registered model keeps, in every task it declares."""

from __future__ import annotations

import inspect

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from avel.errors import UsageError
from avel.models import Answer, Batch, Model, Recipe, build_model, models
from avel.models.base import Query, Task

A, V, C, H, W = 6, 8, 3, 2, 3
EVERY = [(name, task) for name, cls in models for task in cls.card.tasks]
CML = [name for name, cls in models if "cml" in cls.card.tasks]


#: Smaller widths where the paper's take seconds a test.
SMALL: dict[str, dict[str, int]] = {
    "jca": {"audio_out": 32, "visual_out": 32, "joint_out": 64, "hidden": 16}
}


def build(name: str, task: Task, seed: int = 0, **options: object) -> Model:
    torch.manual_seed(seed)
    options = {**SMALL.get(name, {}), **options}
    return build_model(name, audio_dim=A, visual_dim=V, classes=C, task=task, **options).eval()


def clips(b: int, t: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.rand(b, t, A, generator=g), torch.rand(b, t, H, W, V, generator=g)


def targets(audio: Tensor, visual: Tensor, mask: Tensor | None = None) -> Batch:
    b, t = audio.shape[:2]
    labels = torch.full((b, t), C)
    labels[:, t // 3 : max(1, 2 * t // 3)] = 1
    return Batch(audio, visual, mask, labels, torch.eye(C + 1)[torch.arange(b) % (C + 1)])


def test_models_are_found() -> None:
    assert "cspa_csea" in models.names()


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
    for sense in ("audio", "visual", "mask"):
        assert parameters[sense].kind is inspect.Parameter.KEYWORD_ONLY
    assert all(type(v) in (str, int, float, bool) for v in cls.options().values())


@pytest.mark.parametrize(("name", "task"), EVERY)
@pytest.mark.parametrize(("b", "t"), [(1, 1), (1, 10), (3, 3), (2, 37)])
def test_answers_and_learns_at_any_length(name: str, task: Task, b: int, t: int) -> None:
    model = build(name, task).train()
    audio, visual = clips(b, t)
    batch = targets(audio, visual)
    answer = model(audio=audio, visual=visual)
    assert isinstance(answer, Answer)
    loss = model.loss(answer, batch)
    assert loss.ndim == 0
    assert bool(torch.isfinite(loss))
    loss.backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    assert grads
    assert all(bool(torch.isfinite(g).all()) for g in grads)
    if task == "cml":
        return
    assert answer.scores is not None
    assert answer.labels is not None
    assert answer.scores.shape == (b, t, C + 1)
    assert answer.scores.min() >= 0
    assert answer.scores.max() <= 1
    assert answer.labels.shape == (b, t)
    assert set(answer.labels.unique().tolist()) <= set(range(C + 1))
    if model.card.distribution:
        torch.testing.assert_close(answer.scores.sum(-1), torch.ones(b, t))
    if answer.attention is not None:
        assert answer.attention.shape == (b, t, H, W)
        torch.testing.assert_close(answer.attention.sum((-1, -2)), torch.ones(b, t))


@pytest.mark.parametrize(("name", "task"), [e for e in EVERY if e[1] != "cml"])
def test_padding_and_batch_change_no_answer(name: str, task: Task) -> None:
    model = build(name, task)
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


@pytest.mark.parametrize(("name", "task"), EVERY)
def test_padding_changes_no_loss(name: str, task: Task) -> None:
    model = build(name, task)
    audio, visual = clips(2, 6)
    batch = targets(audio, visual)
    assert batch.labels is not None
    longer = [torch.cat([x, torch.full_like(x[:, :3], 5.0)], 1) for x in (audio, visual)]
    mask = (torch.arange(9) < 6).expand(2, 9)
    labels = torch.cat([batch.labels, torch.full((2, 3), -1)], 1)
    padded = Batch(longer[0], longer[1], mask, labels, batch.tags)
    with torch.no_grad():
        plain = model.loss(model(audio=audio, visual=visual), batch)
        answer = model(audio=longer[0], visual=longer[1], mask=mask)
        torch.testing.assert_close(model.loss(answer, padded), plain, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("name", "task"), EVERY)
def test_state_goes_through_safetensors(name: str, task: Task) -> None:
    model = build(name, task)
    state = load(save(model.state_dict()))
    other = build(name, task, seed=99)
    other.load_state_dict(state)
    audio, visual = clips(2, 5)
    batch = targets(audio, visual)
    with torch.no_grad():
        both = [m.loss(m(audio=audio, visual=visual), batch) for m in (model, other)]
    assert both[0].equal(both[1])


@pytest.mark.parametrize("name", CML)
@pytest.mark.parametrize("sense", ["audio", "visual"])
def test_window_costs(name: str, sense: str) -> None:
    model = build(name, "cml")
    audio, visual = clips(2, 8)
    with torch.no_grad():
        costs = model.window_costs(audio=audio, visual=visual, query=Query(sense, 2, 3))  # type: ignore[arg-type]
    assert costs.shape == (2, 6)
    assert bool(torch.isfinite(costs).all())
    assert costs.std(1).min() > 0  # windows differ, so do their costs


@pytest.mark.parametrize(("name", "task"), EVERY)
def test_recipe(name: str, task: Task) -> None:
    recipe = models.get(name).recipe(task)
    assert isinstance(recipe, Recipe)
    assert min(recipe.epochs, recipe.batch, recipe.lr) > 0
    assert set(recipe.options) <= set(models.get(name).options())


@pytest.mark.parametrize("name", models.names())
def test_mistakes_come_all_at_once(name: str) -> None:
    with pytest.raises(UsageError, match=r"(?s)nonsense.*task 'nothing'"):
        build_model(name, audio_dim=A, visual_dim=V, classes=C, task="nothing", nonsense=1)  # type: ignore[arg-type]
