"""The moving average of the weights: its values, the models that have it, and resumed runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from avel.data.resident import resident
from avel.errors import CheckpointError, UsageError
from avel.inference.checkpoint import weights_hash
from avel.inference.load import load_trained
from avel.models.base import Recipe
from avel.tasks import task_named
from avel.training import loop as training
from avel.training.loop import LAST, fit
from avel.training.recipes import resolve
from avel.training.state import STATE, load_state
from avel.training.step import Stepper, WeightAverage
from tests.training.test_loop import run_python
from tests.training_data import make_dataset, small_recipe

torch.set_num_threads(1)

#: Reached at step 7 (7 / 17 is above 0.4); an epoch of the small recipe has 3 steps.
DECAY = "average=0.4"


def state_of(run: training.Run) -> dict[str, Tensor]:
    return dict(run.trained.network.state_dict())


def by_hand(weights: list[dict[str, Tensor]], decay: float) -> dict[str, Tensor]:
    """The average in float64 of the weights at the start and after each step."""
    average = {name: tensor.double() for name, tensor in weights[0].items()}
    for step, current in enumerate(weights[1:], 1):
        keep = min(decay, step / (step + 10))
        average = {n: keep * t + (1 - keep) * current[n].double() for n, t in average.items()}
    return average


def fit_watched(
    monkeypatch: pytest.MonkeyPatch, recipe: Recipe, **options: Any
) -> tuple[training.Run, list[dict[str, Tensor]]]:
    """A training, and its network's parameters at the start and after each step."""
    weights: list[dict[str, Tensor]] = []
    step = Stepper.__call__

    def parameters(stepper: Stepper) -> dict[str, Tensor]:
        network: Any = stepper.objective.model
        return {n: p.detach().clone() for n, p in network.named_parameters()}

    def watched(self: Stepper, rows: Tensor, weight: float = 1.0) -> Tensor:
        if not weights:
            weights.append(parameters(self))
        loss = step(self, rows, weight)
        weights.append(parameters(self))
        return loss

    monkeypatch.setattr(Stepper, "__call__", watched)
    run = fit("cspa_csea", make_dataset(), recipe=recipe, **options)
    monkeypatch.undo()
    return run, weights


def test_the_average_of_a_layer_by_hand() -> None:
    layer = torch.nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[11.0, 0.0]]))
    average = WeightAverage(layer, 0.15)
    for step, value in ((1, [0.0, 11.0]), (2, [20.0, 20.0])):
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([value]))
        average.update(step)
    # 1/11 of the start and 10/11 of step 1: (1, 10); then 0.15 (below 2/12) and 0.85 of (20, 20)
    expected = torch.tensor([[17.15, 18.5]])
    torch.testing.assert_close(average.values["weight"], expected)
    with average.applied():
        torch.testing.assert_close(layer.weight.detach(), expected)
    assert layer.weight.tolist() == [[20.0, 20.0]]
    with pytest.raises(ValueError, match="averaged weights"):
        average.restore({"weight": torch.zeros(1, 1)})  # it would broadcast


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("final", [None, {"metric": "segment_accuracy", "value": 0.5}])
def test_the_models_of_a_run_have_the_average(
    precision: str, final: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recipe = small_recipe("sel", DECAY, "selection=last", f"precision={precision}")
    run, weights = fit_watched(monkeypatch, recipe, final=final, out=tmp_path)
    assert len(weights) == 1 + 9
    state = state_of(run)
    for name, expected in by_hand(weights, 0.4).items():
        torch.testing.assert_close(state[name].double(), expected, rtol=1e-5, atol=1e-6)
    saved = load_trained(tmp_path)
    assert weights_hash(saved.network.state_dict()) == weights_hash(state)
    resumable = load_state(tmp_path)
    assert resumable
    assert all(torch.equal(resumable.model[n], t) for n, t in weights[-1].items())
    assert any(not torch.equal(state[n], t) for n, t in weights[-1].items())


def test_the_average_leaves_the_steps_as_they_are(tmp_path: Path) -> None:
    data = make_dataset()
    runs = [
        fit("cspa_csea", data, recipe=small_recipe("sel", pair), out=tmp_path / pair)
        for pair in ("average=0", DECAY)
    ]
    plain, averaged = ([record["loss"] for record in run.history] for run in runs)
    assert plain == averaged
    without, having = (load_state(tmp_path / pair) for pair in ("average=0", DECAY))
    assert without and having and having.average and not without.average
    assert all(torch.equal(t, having.model[n]) for n, t in without.model.items())


def test_no_average_is_the_last_steps_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = small_recipe("sel", "selection=last")
    assert recipe.average == 0
    run, weights = fit_watched(monkeypatch, recipe)
    assert all(torch.equal(state_of(run)[n], t) for n, t in weights[-1].items())


@pytest.mark.parametrize("task", ["sel", "cml"])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_resumed_equals_unbroken(task: str, precision: str, tmp_path: Path) -> None:
    def train(folder: str, epochs: int, *, resume: bool = False) -> training.Run:
        recipe = small_recipe(task, DECAY, f"epochs={epochs}", f"precision={precision}")
        return fit("cspa_csea", data, task=task, recipe=recipe, out=tmp_path / folder,
                   resume=resume)  # type: ignore[arg-type]  # fmt: skip

    data = make_dataset(cml=task == "cml")
    whole = train("a", 5)
    train("b", 2)
    resumed = train("b", 5, resume=True)
    again = train("b", 5, resume=True)  # has no epoch left
    for run in (resumed, again):
        assert weights_hash(state_of(run)) == weights_hash(state_of(whole))
        assert json.dumps(run.history) == json.dumps(whole.history)
        if task == "cml":
            assert run.last and whole.last
            hashes = [weights_hash(r.last.network.state_dict()) for r in (run, whole) if r.last]
            assert hashes[0] == hashes[1]
            assert (
                weights_hash(load_trained(tmp_path / "b" / LAST).network.state_dict()) == hashes[0]
            )
    a, b = ((tmp_path / folder / STATE).read_bytes() for folder in "ab")
    assert a == b


def test_the_last_model_of_cml_has_the_average(tmp_path: Path) -> None:
    recipe = small_recipe("cml", DECAY)
    run = fit("cspa_csea", make_dataset(cml=True), task="cml", recipe=recipe, out=tmp_path)
    state = load_state(tmp_path)
    assert state and run.last
    last = run.last.network.state_dict()
    assert all(torch.equal(last[n], t) for n, t in state.average.items())
    assert any(not torch.equal(last[n], state.model[n]) for n in state.average)


def test_what_a_model_fits_before_validation_fits_its_average() -> None:
    data = make_dataset(cml=True)
    recipe = resolve("dcca", "cml", pairs=["epochs=1", "batch=12", "precision=float32",
                                           "selection=last", DECAY])  # fmt: skip
    network = fit("dcca", data, task="cml", recipe=recipe).trained.network
    fitted = {n: t.clone() for n, t in network.named_buffers()}
    clips = resident(task_named("cml").splits(data, "release")[0])
    rows = torch.split(torch.arange(len(clips)), 12)
    with torch.no_grad():
        network.finish(clips.batch(part, device=torch.device("cpu")) for part in rows)
    assert fitted["correlations"].any()
    for name, buffer in network.named_buffers():
        torch.testing.assert_close(fitted[name], buffer)


def test_a_state_of_an_earlier_version_resumes(tmp_path: Path) -> None:
    data = make_dataset()
    whole = fit("cspa_csea", data, recipe=small_recipe())
    fit("cspa_csea", data, recipe=small_recipe("sel", "epochs=1"), out=tmp_path)
    with safetensors.safe_open(tmp_path / STATE, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        meta = json.loads(file.metadata()["avel"])
    assert not [name for name in tensors if name.startswith("average.")]
    del meta["identity"]["recipe"]["average"]
    safetensors.torch.save_file(tensors, tmp_path / STATE, metadata={"avel": json.dumps(meta)})
    resumed = fit("cspa_csea", data, recipe=small_recipe(), out=tmp_path, resume=True)
    assert weights_hash(state_of(resumed)) == weights_hash(state_of(whole))


def test_a_state_without_the_runs_average_is_refused(tmp_path: Path) -> None:
    data, recipe = make_dataset(), small_recipe("sel", DECAY, "epochs=1")
    fit("cspa_csea", data, recipe=recipe, out=tmp_path)
    with pytest.raises(CheckpointError, match="its recipe differ"):
        fit("cspa_csea", data, recipe=small_recipe(), out=tmp_path, resume=True)
    with safetensors.safe_open(tmp_path / STATE, framework="pt") as file:
        names = [name for name in file.keys() if not name.startswith("average.")]  # noqa: SIM118
        tensors, meta = {name: file.get_tensor(name) for name in names}, file.metadata()
    safetensors.torch.save_file(tensors, tmp_path / STATE, metadata=meta)
    with pytest.raises(CheckpointError, match="its averaged weights aren't those of this network"):
        fit("cspa_csea", data, recipe=recipe, out=tmp_path, resume=True)


@pytest.mark.parametrize(
    ("pair", "expected"),
    [("average=1", "less than 1"), ("average=1.5", "less than 1"), ("average=-0.1", "at least 0"),
     ("average=nan", "a number")],
)  # fmt: skip
def test_decays_out_of_range_are_refused(pair: str, expected: str) -> None:
    with pytest.raises(UsageError, match=f"average=.*: expected {expected}"):
        resolve("cspa_csea", "sel", pairs=[pair])


_ON_TWO = """
import os, sys, torch
torch.set_num_threads(1)
from pathlib import Path
from avel.training.loop import fit
from safetensors.torch import save_file
from tests.training_data import make_dataset, small_recipe
recipe = small_recipe("sel", "average=0.4", "batch=7", "selection=last")
run = fit("cspa_csea", make_dataset(unequal=True), devices=2, recipe=recipe)
rank = os.environ.get("LOCAL_RANK", "0")
save_file(dict(run.trained.network.state_dict()), Path(sys.argv[1]) / rank)
"""


@pytest.mark.slow
def test_two_processes_have_the_average_of_one(tmp_path: Path) -> None:
    script = tmp_path / "on_two.py"
    script.write_text(_ON_TWO)
    run_python(script, tmp_path)
    first, second = (safetensors.torch.load_file(tmp_path / rank) for rank in "01")
    recipe = small_recipe("sel", DECAY, "batch=7", "selection=last")
    alone = state_of(fit("cspa_csea", make_dataset(unequal=True), recipe=recipe))
    for name, tensor in alone.items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], tensor, rtol=1e-3, atol=1e-5)
