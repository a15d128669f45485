"""AVDLN: its distance, its loss by hand, and windows of any two tracks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from avel.cli.main import main
from avel.errors import UsageError
from avel.experiments.result import RowResult
from avel.experiments.spec import prepare
from avel.models.avdln import Avdln
from avel.models.base import Batch, Output, Query, build_model
from avel.models.layers import pair_distance
from avel.papers import Row
from avel.training.loop import fit
from avel.training.mmel import start_task
from avel.training.recipes import resolve
from tests.training_data import make_dataset

A, V, C, H, W = 6, 8, 3, 2, 3


def build(**options: Any) -> Avdln:
    torch.manual_seed(0)
    model = build_model("avdln", audio_dim=A, visual_dim=V, classes=C, task="cml", **options)
    assert isinstance(model, Avdln)
    return model.eval()


def tracks(s: int = 8, t: int = 8, b: int = 2) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    return torch.rand(b, s, A, generator=g), torch.rand(b, t, H, W, V, generator=g)


def answer_of(audio: list[float], visual: list[float]) -> Output:
    def column(x: list[float]) -> Tensor:
        return torch.tensor(x)[None, :, None]

    return Output(parts={"audio": column(audio), "visual": column(visual)})


def test_widths_and_slope_are_the_releases() -> None:
    model = build_model("avdln", audio_dim=128, visual_dim=512, classes=28, task="cml")
    assert isinstance(model, Avdln)
    shapes = {n: tuple(p.shape) for n, p in model.named_parameters() if n.endswith("weight")}
    assert shapes == {
        "audio.0.weight": (128, 128), "audio.2.weight": (64, 128),
        "visual.0.weight": (128, 512), "visual.2.weight": (64, 128),
    }  # fmt: skip
    assert model.audio[1](torch.tensor([-1.0, 2.0])).tolist() == pytest.approx([-0.3, 2.0])
    recipe = Avdln.recipe("cml")
    assert (recipe.epochs, recipe.batch, recipe.lr) == (20, 8, 1e-3)


def test_equation_10_by_hand() -> None:
    # distances 0.5 (event), 1.5 and 3 (background); margin 2
    answer = answer_of([0.0, 0.0, 0.0], [0.5, 1.5, 3.0])
    labels = torch.tensor([[1, C, C]])
    audio, visual = tracks(3, 3, 1)
    loss = build().loss(answer, Batch(audio, visual, None, labels))
    assert loss.item() == pytest.approx((0.5**2 + (2 - 1.5) ** 2 + 0) / 3)
    narrow = build(tau=1.0).loss(answer, Batch(audio, visual, None, labels))
    assert narrow.item() == pytest.approx(0.5**2 / 3)


def test_sync_takes_mismatched_pairs_as_negatives() -> None:
    answer = answer_of([0.0, 1.0], [0.5, 1.25])
    audio, visual = tracks(2, 2, 1)
    batch = Batch(audio, visual, None, torch.tensor([[1, 1]]))
    aligned = (0.5**2 + 0.25**2) / 2
    apart = ((2 - 1.25) ** 2 + (2 - 0.5) ** 2) / 2
    assert build().loss(answer, batch).item() == pytest.approx(aligned)
    got = build(negatives="sync").loss(answer, batch)
    assert got.item() == pytest.approx((aligned + apart) / 2)


def test_distances_are_euclidean() -> None:
    model = build()
    audio, visual = tracks(4, 5)
    with torch.no_grad():
        crossed = pair_distance(*model(audio=audio, visual=visual).parts.values())
        a, v = model.audio(audio[1, 2]), model.visual(visual[1, 3].flatten(0, 1).mean(0))
    assert crossed.shape == (2, 4, 5)
    expected = math.sqrt(float(((a - v) ** 2).sum()))
    assert crossed[1, 2, 3].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("s", "t"), [(8, 8), (4, 20), (20, 4)])
@pytest.mark.parametrize("modality", ["audio", "visual"])
def test_windows_of_two_recordings(modality: Literal["audio", "visual"], s: int, t: int) -> None:
    model = build()
    audio, visual = tracks(s, t)
    query = Query(modality, 1, 3)
    with torch.no_grad():
        costs = model.window_costs(audio=audio, visual=visual, query=query)
        crossed = pair_distance(*model(audio=audio, visual=visual).parts.values())
    if modality == "visual":
        crossed = crossed.transpose(1, 2)
    count = crossed.shape[2] - 3 + 1
    assert costs.shape == (2, count)
    for b in range(2):
        for start in range(count):  # eq. 8
            expected = sum(float(crossed[b, 1 + i, start + i]) for i in range(3))
            assert costs[b, start].item() == pytest.approx(expected, abs=1e-5)


def test_a_segment_knows_of_no_other() -> None:
    model = build()
    audio, visual = tracks()
    changed = audio.clone()
    changed[:, 3] += 1
    with torch.no_grad():
        before = model(audio=audio, visual=visual).parts["audio"]
        after = model(audio=changed, visual=visual).parts["audio"]
    moved = (before - after).abs().amax((0, 2)) > 1e-6
    assert moved.nonzero().flatten().tolist() == [3]


@pytest.mark.parametrize(
    "query", [Query("audio", 6, 3), Query("audio", -1, 2), Query("audio", 0, 0)]
)
def test_a_query_outside_its_track_is_refused(query: Query) -> None:
    audio, visual = tracks()
    with pytest.raises(UsageError, match="query of segments"):
        build().window_costs(audio=audio, visual=visual, query=query)


def test_a_query_longer_than_the_answering_track_is_refused() -> None:
    audio, visual = tracks(8, 2)
    with pytest.raises(UsageError, match="the other track 2"):
        build().window_costs(audio=audio, visual=visual, query=Query("audio", 0, 3))


@pytest.mark.parametrize("options", [{"negatives": "all"}, {"tau": 0.0}])
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="model avdln"):
        build(**options)


@pytest.mark.parametrize("negatives", ["release", "sync"])
@pytest.mark.parametrize("t", [60, 300])
def test_it_learns_which_window_belongs(t: int, negatives: str) -> None:
    g = torch.Generator().manual_seed(0)
    code = torch.randn(3, t, A, generator=g)
    mix = torch.randn(A, V, generator=g)
    visual = (code @ mix)[:, :, None, None].expand(-1, -1, H, W, -1)
    labels = torch.full((3, t), C)
    labels[:, t // 4 : t // 2] = 1
    batch = Batch(code, visual, None, labels)
    model = build(negatives=negatives).train()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = model.loss(model(audio=code, visual=visual), batch)
        loss.backward()
        assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters())  # type: ignore[arg-type]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    if negatives == "sync":  # only mismatched pairs teach where in time
        with torch.no_grad():
            costs = model.window_costs(audio=code, visual=visual, query=Query("audio", t // 4, 6))
        assert (costs.argmin(1) == t // 4).float().mean() > 0.7


def test_it_is_trained_at_once_with_no_sel_model_before() -> None:
    assert start_task("cspa_csea", "cml") == "sel"
    assert start_task("avdln", "cml") is None and start_task("cspa_csea", "sel") is None
    data = make_dataset(cml=True)
    recipe = resolve("avdln", "cml", pairs=["epochs=2", "negatives=sync"])
    run = fit("avdln", data, task="cml", recipe=recipe)
    assert run.trained.card["options"] == {"negatives": "sync"}
    assert run.trained.card["init"] is None


def test_the_releases_negatives_keep_the_last_epoch_and_sync_the_best() -> None:
    assert resolve("avdln", "cml").selection == "last"
    assert resolve("avdln", "cml", setting="release").selection == "last"
    assert resolve("avdln", "cml", setting="sync").selection == "metric"
    assert resolve("avdln", "cml", pairs=["negatives=sync"]).selection == "metric"
    assert resolve("avdln", "cml", pairs=["selection=metric"]).selection == "metric"
    data = make_dataset(cml=True)
    run = fit("avdln", data, task="cml", recipe=resolve("avdln", "cml", pairs=["epochs=4"]))
    assert run.best["epoch"] == 4 and run.best["selection"] == "the last epoch"
    rules = {s: fit("avdln", data, task="cml", setting=s).best["selection"]
             for s in ("release", "sync")}  # fmt: skip
    assert rules == {"release": "the last epoch", "sync": "best mean_accuracy on validation"}
    for setting in ("release", "sync"):
        row = Row("", "x", "AVDLN", "avdln", "cml", {}, {}, setting=setting)
        assert RowResult("x", row, prepare("avdln", "cml", {}, setting=setting)).changed() == {}


def test_what_belongs_to_a_sel_model_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["train", "avdln", f"data={tmp_path}", "task=cml", "mmel.epochs=3"]
    assert main(asked) == 2
    assert "mmel.epochs=3" in capsys.readouterr().err
