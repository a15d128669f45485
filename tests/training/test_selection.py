"""Which epoch a run keeps, which clips it trains on in which order, and what results say of it."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from avel.data.base import Dataset
from avel.errors import UsageError
from avel.evaluation.evaluate import evaluate
from avel.experiments.reproduce import reproduce
from avel.inference.load import load_trained
from avel.models.av import Av
from avel.training import loop as training
from avel.training.loop import LAST, Run, fit
from avel.training.recipes import resolve, to_toml
from avel.training.step import Stepper
from tests.training_data import make_dataset, small_recipe

AV = ("state=4", "hidden=8", "width=4", "precision=float32")


def values(run: Run, column: str) -> list[float]:
    return [record[column] for record in run.history if column in record]


def weights(trained: Any) -> Tensor:
    return torch.cat([t.flatten() for t in trained.network.state_dict().values()])


# ---- the last epoch beside the selected one


def test_cml_shows_the_last_epoch_beside_the_selected_one(tmp_path: Path) -> None:
    data = make_dataset(cml=True)
    recipe = small_recipe("cml", "epochs=4")
    run = fit("cspa_csea", data, task="cml", recipe=recipe, out=tmp_path)
    assert run.last is not None and run.last.card["metrics"]["epoch"] == 4
    other = evaluate(run.last, data)
    result = evaluate(run, data)
    for name in ("a2v", "v2a", "mean_accuracy"):
        assert result[f"{name}_last"].values == other[name].values
    loaded = evaluate(tmp_path, data)
    assert loaded["mean_accuracy_last"].values == result["mean_accuracy_last"].values
    assert torch.equal(weights(load_trained(tmp_path / LAST)), weights(run.last))
    assert "mean_accuracy_last" in str(result)
    assert "mean_accuracy_last" in {row["metric"] for row in result.rows()}
    alone = evaluate(run.trained, data)  # a model in memory has no folder beside it
    assert all(not m.metric.endswith("_last") for m in alone.measured)


def test_a_resumed_run_has_the_last_epoch_of_an_unbroken_one(tmp_path: Path) -> None:
    data = make_dataset(cml=True)
    options: dict[str, Any] = {"task": "cml", "recipe": small_recipe("cml", "epochs=3")}
    whole = fit("cspa_csea", data, **options)
    fit("cspa_csea", data, task="cml", recipe=small_recipe("cml", "epochs=2"), out=tmp_path)
    resumed = fit("cspa_csea", data, **options, out=tmp_path, resume=True)
    assert whole.last and resumed.last
    assert torch.equal(weights(whole.last), weights(resumed.last))


def test_sel_stores_no_second_model(tmp_path: Path) -> None:
    run = fit("cspa_csea", make_dataset(), recipe=small_recipe("sel", "epochs=1"), out=tmp_path)
    assert run.last is None and not (tmp_path / LAST).exists()


def test_tables_of_cml_have_a_column_for_the_last_epoch(tmp_path: Path) -> None:
    pairs = ["epochs=2", "precision=float32", "batch=8"]
    made = reproduce(
        ["tian2018:3"], make_dataset(cml=True), out=tmp_path, pairs=pairs, only=["cml"]
    )
    rows = [r for r in csv.DictReader(io.StringIO(made.csv())) if r.get("last_epoch")]
    assert rows and all(r["task"] == "cml" and 0 <= float(r["last_epoch"]) <= 100 for r in rows)
    assert "| last epoch |" in made.markdown().replace("\\", "")
    assert "Last epoch: ours without any selection" in made.text()
    assert "chosen on test" not in made.text() and "chosen_on_test" in made.csv()


# ---- WSEL


def test_wsel_names_the_labels_that_select_its_epoch() -> None:
    data = make_dataset(background=True)
    run = fit("cspa_csea", data, task="wsel", recipe=small_recipe("wsel", "epochs=2"))
    assert evaluate(run).selection.startswith(
        "best segment_accuracy on validation, by the classes of its segments; epoch"
    )
    sel = fit("cspa_csea", data, recipe=small_recipe("sel", "epochs=2"))
    assert evaluate(sel).selection.startswith("best segment_accuracy on validation; epoch")


def test_wsel_selects_by_the_tag_loss_without_the_classes_of_segments() -> None:
    data = make_dataset(background=True)
    recipe = small_recipe("wsel", "epochs=6", "selection=tag_loss")
    run = fit("cspa_csea", data, task="wsel", recipe=recipe)
    losses = values(run, "tag_loss")
    assert run.best["epoch"] == 1 + int(np.argmin(losses))
    assert run.best["tag_loss"] == pytest.approx(min(losses))
    assert evaluate(run).selection.startswith("lowest tag loss on validation; epoch")
    tags = replace(data.val, tags=np.eye(4, dtype=np.float32)[np.arange(9) % 3])
    shuffled = replace(tags, labels=np.roll(tags.labels, 1, axis=0))  # segments' classes are wrong
    other = replace(data, splits={**data.splits, "val": shuffled})
    again = fit("cspa_csea", other, task="wsel", recipe=recipe)
    assert values(again, "tag_loss") == pytest.approx(losses)
    assert again.best["epoch"] == run.best["epoch"]


def test_the_tag_loss_is_the_mean_over_clips_of_the_models_own_loss() -> None:
    data = make_dataset()
    runs = [
        fit("cspa_csea", data, task="wsel",
            recipe=small_recipe("wsel", "epochs=1", f"batch={batch}", "selection=tag_loss",
                                "lr=1e-12"))
        for batch in (4, 9)
    ]  # fmt: skip
    one, other = (run.best["tag_loss"] for run in runs)
    assert one == pytest.approx(other, rel=1e-5)


@pytest.mark.parametrize("task", ["sel", "cml"])
def test_tag_loss_is_of_wsel_alone(task: str) -> None:
    with pytest.raises(UsageError, match="selection=tag_loss: of task wsel alone"):
        small_recipe(task, "selection=tag_loss")
    with pytest.raises(UsageError, match="expected metric, tag_loss, last"):
        small_recipe("wsel", "selection=best")


def test_the_last_epoch_can_be_kept() -> None:
    run = fit("cspa_csea", make_dataset(), recipe=small_recipe("sel", "epochs=4", "selection=last"))
    assert run.best["epoch"] == 4 and run.best["selection"] == "the last epoch"


# ---- chosen on test


def test_the_test_chosen_score_is_a_row_of_its_own_and_selects_nothing(tmp_path: Path) -> None:
    data, recipe = make_dataset(), small_recipe("sel", "epochs=5")
    plain = fit("cspa_csea", data, recipe=recipe)
    run = fit("cspa_csea", data, recipe=recipe, out=tmp_path, test_chosen=True)
    assert torch.equal(weights(plain.trained), weights(run.trained))
    tested = values(run, "test_segment_accuracy")
    assert len(tested) == 5
    assert tested[run.best["epoch"] - 1] == evaluate(run)["segment_accuracy"].mean
    result = evaluate(tmp_path, data)
    assert result["segment_accuracy_test_chosen"].mean == max(tested)
    assert "chosen on the test split itself" in str(result)
    assert "test_chosen" not in str(evaluate(plain))
    assert "test_chosen" not in str(evaluate(tmp_path, data, split="val"))
    resumed = fit("cspa_csea", data, recipe=recipe, out=tmp_path, resume=True)
    assert resumed.best["test_chosen"] == run.best["test_chosen"]


def test_the_test_chosen_column_of_tables(tmp_path: Path) -> None:
    pairs = ["epochs=2", "precision=float32", "batch=8"]
    data = make_dataset(cml=True)
    made = reproduce(["tian2018:3"], data, out=tmp_path, pairs=pairs, only=["cml"],
                     test_chosen=True)  # fmt: skip
    rows = [r for r in csv.DictReader(io.StringIO(made.csv())) if r.get("chosen_on_test")]
    assert rows and all(float(r["chosen_on_test"]) >= 0 for r in rows)
    assert "chosen on test" in made.markdown() and "with those alone" in made.text()
    plain = reproduce(["tian2018:3"], data, out=tmp_path, pairs=pairs, only=["cml"])
    assert "chosen on test" not in plain.text()


# ---- the release's recipe


def test_variant_release_has_the_releases_recipe() -> None:
    sel, wsel = (resolve("av", task, pairs=["variant=release"]) for task in ("sel", "wsel"))  # type: ignore[arg-type]
    assert (sel.epochs, wsel.epochs) == (300, 250)
    for recipe in (sel, wsel):
        assert (recipe.batch, recipe.lr, recipe.lr_step) == (64, 1e-3, 15000)
        assert not recipe.shuffle and recipe.drop_last and recipe.validate_every == 5
    assert (sel.selection, wsel.selection) == ("metric", "last")
    changed = resolve("av", "sel", pairs=["variant=release", "shuffle=true"])
    assert changed.shuffle and changed.drop_last
    assert resolve("av", "sel") == Av.recipe("sel") and resolve("av", "sel").shuffle
    assert Av.recipe_of("sel", {"variant": "paper"}) == Av.recipe("sel")


def test_a_recipe_in_toml_keeps_what_it_says(tmp_path: Path) -> None:
    recipe = resolve("av", "wsel", pairs=["variant=release", "lr_step=7"])
    (tmp_path / "r.toml").write_text(to_toml(recipe))
    assert resolve("av", "wsel", file=tmp_path / "r.toml") == recipe


def trained_rows(
    monkeypatch: pytest.MonkeyPatch, data: Dataset, task: str, *pairs: str
) -> list[tuple[list[int], float]]:
    """Positions and learning rate of every step of one epoch."""
    steps: list[tuple[list[int], float]] = []
    take = Stepper.__call__

    def noted(self: Stepper, rows: Tensor, weight: float = 1.0) -> Tensor:
        steps.append((rows.tolist(), self.optimizer.param_groups[0]["lr"]))
        return take(self, rows, weight)

    monkeypatch.setattr(training.Stepper, "__call__", noted)
    recipe = resolve("av", task, pairs=[*AV, *pairs])  # type: ignore[arg-type]
    fit("av", data, task=task, recipe=recipe)  # type: ignore[arg-type]
    return steps


def test_in_order_without_the_tail_at_a_falling_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = ("variant=release", "epochs=2", "batch=7", "lr_step=4")
    steps = trained_rows(monkeypatch, make_dataset(), "sel", *pairs)
    batches = [list(range(i, i + 7)) for i in (0, 7, 14)]  # 24 clips: the last 3 are left out
    assert [rows for rows, _ in steps] == batches * 2
    assert [rate for _, rate in steps] == pytest.approx([1e-3] * 4 + [1e-4] * 2)


def test_the_rate_of_a_resumed_run_is_that_of_an_unbroken_one(tmp_path: Path) -> None:
    def recipe(epochs: int) -> Any:
        return small_recipe("sel", f"epochs={epochs}", "lr_step=4", "drop_last=true")

    data = make_dataset()
    fit("cspa_csea", data, recipe=recipe(2), out=tmp_path)
    resumed = fit("cspa_csea", data, recipe=recipe(4), out=tmp_path, resume=True)
    whole = fit("cspa_csea", data, recipe=recipe(4))
    assert values(resumed, "loss") == values(whole, "loss")


def test_of_the_background_clips_the_release_trains_on_117(shared: Path) -> None:
    from avel.data import load_dataset
    from avel.tasks import task_named

    data = load_dataset("ave", root=shared / "ave", labels_only=True)
    batch = resolve("av", "wsel", pairs=["variant=release"]).batch
    assert len(data.train) % batch == 11
    assert "background" in data.splits and len(data.splits["background"]) == 178
    train = task_named("wsel").splits(data, "tag")[0]
    used = train.ids[: len(train) // batch * batch]
    assert sum(clip.startswith("background:") for clip in used) == 117


def test_a_recipe_that_leaves_no_clip_is_refused() -> None:
    with pytest.raises(UsageError, match="drop_last leaves none of 24 clips in batches of 25"):
        fit("cspa_csea", make_dataset(), recipe=small_recipe("sel", "batch=25", "drop_last=true"))
    with pytest.raises(UsageError, match="draws clips at random"):
        fit("cspa_csea", make_dataset(), recipe=small_recipe("sel", "balance=1", "shuffle=false"))


def test_a_run_of_an_earlier_version_resumes_and_is_averaged(tmp_path: Path) -> None:
    """Its recipe lacks the fields that came later: they are at their defaults."""
    data = make_dataset()
    later = ("selection", "shuffle", "drop_last", "lr_step", "optimizer", "average")
    run = fit("cspa_csea", data, recipe=small_recipe("sel", "epochs=1"))
    card = json.loads(json.dumps(run.trained.card))
    for name in later:
        del card["recipe"][name]
    old = replace(run.trained, card={**card, "seed": 1})
    assert len(evaluate([run.trained, old], data).seeds) == 2
