from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from avel.errors import UsageError
from avel.experiments.reproduce import plan, tables
from avel.models.base import Recipe, models
from avel.training.recipes import for_small_data, resolve, to_toml


def test_the_papers_recipe_by_default() -> None:
    assert resolve("cspa_csea", "sel") == Recipe(epochs=300, batch=64, lr=1e-3)
    assert resolve("cspa_csea", "cml").epochs == 30
    assert resolve("cspa_csea", "cml").batch == 32


def test_ed_tcn_takes_the_optimizer_of_its_authors_code() -> None:
    recipe = resolve("ed_tcn")
    assert (recipe.optimizer, recipe.lr, recipe.epochs, recipe.batch) == ("rmsprop", 1e-3, 200, 8)
    (cell,) = plan(tables(["tian2018:6.3"]))
    assert cell.training.recipe.optimizer == "rmsprop"
    assert cell.training.identity()["recipe"]["optimizer"] == "rmsprop"
    assert all(
        resolve(name, task).optimizer == "adam"
        for name, cls in models for task in cls.card.tasks if name != "ed_tcn"
    )  # fmt: skip
    assert for_small_data(models.get("ed_tcn"), "sel").optimizer == "adam"
    with pytest.raises(UsageError, match="optimizer='sgd': expected adam, rmsprop"):
        resolve("ed_tcn", pairs=["optimizer=sgd"])


def test_pairs_are_typed_by_their_defaults() -> None:
    pairs = ["epochs=30", "lr=5e-4", "lambda_s=1", "v2a=no", "gate=sigmoid", "precision=bf16"]
    recipe = resolve("cspa_csea", "sel", pairs=pairs)
    assert (recipe.epochs, recipe.lr, recipe.precision) == (30, 5e-4, "bf16")
    assert recipe.options == {"lambda_s": 1.0, "v2a": False, "gate": "sigmoid"}
    assert isinstance(recipe.options["lambda_s"], float)


def test_toml_there_and_back_and_pairs_go_over_it(tmp_path: Path) -> None:
    recipe = resolve("cspa_csea", "sel", pairs=["epochs=7", "v2a=false", "lambda_s=0.25"])
    (tmp_path / "r.toml").write_text(to_toml(recipe))
    assert resolve("cspa_csea", "sel", file=tmp_path / "r.toml") == recipe
    over = resolve("cspa_csea", "sel", file=tmp_path / "r.toml", pairs=["epochs=9"])
    assert over.epochs == 9 and over.options["v2a"] is False


def test_all_mistakes_at_once_with_the_nearest_names(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('epochs = "many"\nbtach = 3\n[options]\nlambda_s = true\n')
    pairs = ["lr=fast", "epoch=3", "v2a=maybe", "junk", "batch=2.5", "patience=-1", "precision=fp8"]
    with pytest.raises(UsageError) as caught:
        resolve("cspa_csea", "sel", file=tmp_path / "r.toml", pairs=pairs)
    told = str(caught.value)
    for clause in (
        "epochs='many': expected a whole number",
        "unknown key 'btach': did you mean batch",
        "lambda_s=True: expected a number",
        "lr='fast': expected a number",
        "unknown key 'epoch': did you mean epochs",
        "v2a='maybe': expected true or false",
        "'junk': expected key=value",
        "batch='2.5': expected a whole number",
        "patience='-1': expected at least 0",
        "precision='fp8': expected auto, float32, bf16",
    ):
        assert clause in told
    assert "10 mistakes" in told


def test_values_that_the_model_refuses_are_named_with_the_rest() -> None:
    """Before any data is read: a conversion of gigabytes must not come first."""
    with pytest.raises(UsageError) as caught:
        resolve("cspa_csea", "sel", pairs=["modules=foo", "form=bar", "epochs=0", "v2a=no"])
    told = str(caught.value)
    assert "modules='foo': expected one of cspa+csea" in told
    assert "form='bar': expected one of paired" in told
    assert "epochs='0': expected at least 1" in told and "3 mistakes" in told
    with pytest.raises(UsageError, match="v2a=False does nothing with modules='cspa'"):
        resolve("cspa_csea", "sel", pairs=["modules=cspa", "v2a=no"])
    with pytest.raises(UsageError, match="matching='none' leaves no costs"):
        resolve("dam", "cml", pairs=["matching=none"])
    assert resolve("dam", "sel", pairs=["width=100", "embedding=mean"]).options["width"] == 100
    inputs = ["inputs=amaps", "audio_regions=7"]
    assert resolve("av", "sel", pairs=inputs).options["audio_regions"] == 7
    assert resolve("av", "sel", pairs=["inputs=v+c3d"]).options == {"inputs": "v+c3d"}
    with pytest.raises(UsageError, match="c3d_dim=0"):
        resolve("av", "sel", pairs=["inputs=v+c3d", "c3d_dim=0"])


@pytest.mark.parametrize(
    "pair",
    ["lr=0", "lr=-1", "lr=nan", "lr=inf", "epochs=0", "epochs=1e3", "batch=0", "epochs=99999999999",
     "weight_decay=-0.1", "clip_norm=nan"],
)  # fmt: skip
def test_numbers_out_of_range(pair: str) -> None:
    with pytest.raises(UsageError, match="expected"):
        resolve("cspa_csea", "sel", pairs=[pair])


@pytest.mark.parametrize("values", [{"epochs": 2.5}, {"epochs": True}, {"v2a": 1}, {"gate": 3}])
def test_plain_values_are_checked_too(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="1 mistake"):
        resolve("cspa_csea", "sel", values=values)


@pytest.mark.parametrize("text", ["epochs = ", "\xff", "options = 3"])
def test_files_that_are_no_recipe(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError):
        resolve("cspa_csea", "sel", file=tmp_path / "r.toml")
    with pytest.raises(UsageError):
        resolve("cspa_csea", "sel", file=tmp_path / "none.toml")


def test_unknown_models_and_tasks() -> None:
    with pytest.raises(UsageError, match="did you mean cspa_csea"):
        resolve("cspa_csee", "sel")
    with pytest.raises(UsageError, match="unknown task"):
        resolve("cspa_csea", "dance")  # type: ignore[arg-type]
