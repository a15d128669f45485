"""The linear baseline: hand-worked numbers, its class activation map, each modality alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from avel.models.base import Batch, build_model
from avel.models.linear import Linear


def make(**options: str) -> Linear:
    model = build_model("linear", audio_dim=2, visual_dim=3, classes=2, **options)
    assert isinstance(model, Linear)
    return model


def set_weight(layer: nn.Linear | None, rows: list[list[float]]) -> None:
    assert layer is not None
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(rows))


def test_logits_are_a_weighted_sum_of_sound_and_of_the_pictures_mean_or_max() -> None:
    audio = torch.tensor([[[1.0, 2.0]]])
    visual = torch.zeros(1, 1, 1, 2, 3)
    visual[0, 0, 0, 0], visual[0, 0, 0, 1] = torch.tensor([4.0, 0, 1]), torch.tensor([0, 2.0, 1])
    for pool, seen in (("mean", (2.0, 1.0, 1.0)), ("max", (4.0, 2.0, 1.0))):
        model = make(pool=pool)
        set_weight(model.audio, [[1, 0], [0, 1], [1, 1]])
        set_weight(model.visual, [[1, 0, 0], [0, 1, 0], [0, 0, 1]])
        answer = model(audio=audio, visual=visual)
        expected = [1 + seen[0], 2 + seen[1], 3 + seen[2]]
        torch.testing.assert_close(answer.parts["logits"][0, 0], torch.tensor(expected))


def test_attention_is_the_activation_of_the_best_event_class() -> None:
    model = make()
    set_weight(model.visual, [[1, 0, 0], [0, 1, 0], [9, 9, 9]])  # background is never it
    visual = torch.zeros(1, 2, 2, 2, 3)
    visual[0, 0, 1, 0, 0] = 8.0  # class 0, second row and first column
    visual[0, 1, 0, 1, 1] = 8.0  # class 1, first row and second column
    found = model(audio=torch.zeros(1, 2, 2), visual=visual).attention
    assert found is not None
    torch.testing.assert_close(found[0, 0], torch.tensor([[0.0, 0], [1, 0]]), atol=1e-5, rtol=0)
    torch.testing.assert_close(found[0, 1], torch.tensor([[0.0, 1], [0, 0]]), atol=1e-5, rtol=0)
    even = model(audio=torch.zeros(1, 1, 2), visual=torch.ones(1, 1, 2, 2, 3)).attention
    torch.testing.assert_close(even, torch.full((1, 1, 2, 2), 0.25))


@pytest.mark.parametrize(("modality", "blind"), [("audio", "visual"), ("visual", "audio")])
def test_one_modality_alone_reads_nothing_of_the_other(modality: str, blind: str) -> None:
    torch.manual_seed(0)
    model = make(modality=modality)
    for weight in model.parameters():
        nn.init.normal_(weight)
    given = {"audio": torch.rand(1, 2, 2), "visual": torch.rand(1, 2, 1, 2, 3)}
    before = model(**given).parts["logits"]
    given[blind] = given[blind] + 1
    assert model(**given).parts["logits"].equal(before)
    assert (model(**given).attention is None) == (modality == "audio")


def test_the_first_answer_holds_every_class_as_likely() -> None:
    model = make()
    answer = model(audio=torch.rand(1, 2, 2), visual=torch.rand(1, 2, 1, 2, 3))
    torch.testing.assert_close(answer.scores, torch.full((1, 2, 3), 1 / 3))
    labels = torch.tensor([[0, 2]])
    batch = Batch(torch.rand(1, 2, 2), torch.rand(1, 2, 1, 2, 3), None, labels)
    assert model.loss(answer, batch).item() == pytest.approx(1.0986, abs=1e-4)  # ln 3
