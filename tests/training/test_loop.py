from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from avel.data.base import Dataset, fingerprint
from avel.data.resident import resident
from avel.errors import AvelError, CheckpointError, DataError, UsageError
from avel.files import locked
from avel.inference.checkpoint import weights_hash
from avel.inference.load import load_trained
from avel.models.base import Recipe
from avel.training import loop as training
from avel.training.loop import HISTORY, RECIPE, Stopped, fit
from avel.training.mmel import fit_cml, spared_clips
from avel.training.state import STATE, load_state
from avel.training.step import Objective, make_optimizer
from tests.conftest import shared_folder
from tests.training_data import CLASSES, make_dataset, make_split, small_recipe

torch.set_num_threads(1)


def weights(run: training.Run) -> str:
    return weights_hash(run.trained.network.state_dict())


@pytest.mark.parametrize("task", ["sel", "wsel", "cml"])
def test_loss_falls_and_the_best_epoch_is_kept(task: str, tmp_path: Path) -> None:
    data = make_dataset(unequal=task != "cml")
    run = fit(
        "cspa_csea",
        data,
        task=task,
        recipe=small_recipe(task, "epochs=12", "lr=0.02"),
        out=tmp_path,
    )
    assert run.history[-1]["loss"] < run.history[0]["loss"]
    metric = run.best["metric"]
    values = [r[metric] for r in run.history]
    assert run.best["value"] == max(values)
    assert run.best["epoch"] == values.index(max(values)) + 1  # the first of equals
    assert weights_hash(load_trained(tmp_path).network.state_dict()) == weights(run)
    rows = list(csv.DictReader((tmp_path / "history.csv").open()))
    assert [float(r["loss"]) for r in rows] == [r["loss"] for r in run.history]


def test_learns_what_can_be_learnt() -> None:
    run = fit("cspa_csea", make_dataset(), recipe=small_recipe("sel", "epochs=60", "lr=0.02"))
    assert run.best["value"] > 0.9


def test_one_seed_one_result_and_another_another() -> None:
    data = make_dataset()
    first, again, other = (
        fit("cspa_csea", data, seed=seed, recipe=small_recipe()) for seed in (3, 3, 4)
    )
    assert weights(first) == weights(again) and first.history == again.history
    assert weights(first) != weights(other)


def test_training_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fit("cspa_csea", make_dataset(), recipe=small_recipe("sel", "epochs=1"))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_resumed_equals_unbroken(optimizer: str, tmp_path: Path) -> None:
    data = make_dataset()
    short, long = (
        small_recipe("sel", f"optimizer={optimizer}", f"epochs={epochs}") for epochs in (2, 5)
    )
    whole = fit("cspa_csea", data, recipe=long, out=tmp_path / "a")
    fit("cspa_csea", data, recipe=short, out=tmp_path / "b")
    resumed = fit("cspa_csea", data, recipe=long, out=tmp_path / "b", resume=True)
    assert resumed.trained.card["recipe"]["optimizer"] == optimizer
    assert weights(resumed) == weights(whole)
    assert json.dumps(resumed.history) == json.dumps(whole.history)
    a, b = load_state(tmp_path / "a"), load_state(tmp_path / "b")
    assert a and b
    assert all(torch.equal(t, b.model[n]) for n, t in a.model.items())
    assert a.optimizer["state"]
    for number, slot in a.optimizer["state"].items():
        for key, value in slot.items():
            assert torch.equal(value, b.optimizer["state"][number][key])


def test_rmsprop_is_that_of_keras_by_hand() -> None:
    """Its mean of squares keeps 0.9 a step, and epsilon is added to the root."""
    layer = torch.nn.Linear(2, 1, bias=False)
    weight, mean = layer.weight.detach().clone(), torch.zeros(1, 2)
    recipe = Recipe(optimizer="rmsprop", lr=0.01)
    optimizer = make_optimizer(layer, recipe, torch.device("cpu"))
    for x in ([1.0, -2.0], [0.5, 3.0], [-1.0, 0.25]):
        gradient = torch.tensor([x])
        optimizer.zero_grad()
        layer(gradient).sum().backward()
        optimizer.step()
        mean = 0.9 * mean + 0.1 * gradient**2
        weight = weight - 0.01 * gradient / (mean.sqrt() + 1e-8)
        torch.testing.assert_close(layer.weight.detach(), weight)


def test_a_run_of_another_optimizer_is_not_resumed(tmp_path: Path) -> None:
    data = make_dataset()
    fit("cspa_csea", data, recipe=small_recipe("sel", "epochs=1"), out=tmp_path)
    other = small_recipe("sel", "epochs=2", "optimizer=rmsprop")
    with pytest.raises(CheckpointError, match="its recipe differ"):
        fit("cspa_csea", data, recipe=other, out=tmp_path, resume=True)


def test_stopped_in_the_midst_of_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, recipe = make_dataset(), small_recipe("sel", "epochs=4")
    whole = fit("cspa_csea", data, recipe=recipe)
    steps = iter(range(100))
    forward = Objective.forward

    def stops(self: Objective, batch: object) -> torch.Tensor:
        if next(steps) == 7:  # three steps an epoch: in the third epoch
            raise KeyboardInterrupt
        return forward(self, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Objective, "forward", stops)
    with pytest.raises(Stopped, match=r"after 2 epochs, saved in .*--resume"):
        fit("cspa_csea", data, recipe=recipe, out=tmp_path)
    monkeypatch.undo()
    resumed = fit("cspa_csea", data, recipe=recipe, out=tmp_path, resume=True)
    assert weights(resumed) == weights(whole)
    assert json.dumps(resumed.history) == json.dumps(whole.history)


def test_two_trainings_into_one_folder_end_in_one_clear_refusal(tmp_path: Path) -> None:
    data, recipe, refused = make_dataset(), small_recipe("sel", "epochs=2"), []

    def second(record: dict[str, object], epochs: int) -> None:
        for resume in (False, True):
            with pytest.raises(UsageError) as raised:
                fit("cspa_csea", data, seed=1, recipe=recipe, out=tmp_path, resume=resume)
            refused.append(raised.value.got)

    first = fit("cspa_csea", data, recipe=recipe, out=tmp_path, progress=second)
    assert f"another process is training into {tmp_path}" in refused[1]
    assert load_trained(tmp_path).card["seed"] == 0
    assert weights_hash(load_trained(tmp_path).network.state_dict()) == weights(first)
    with locked(tmp_path, wait=False) as free:  # it is let go in the end
        assert free


def test_a_run_that_ended_while_another_began_isnt_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, recipe, checked = make_dataset(), small_recipe("sel", "epochs=1"), training._folder
    folder = tmp_path / "run"

    def slow(out: Path, resume: bool) -> Path | None:
        found = checked(out, resume)
        monkeypatch.undo()  # the other one begins and ends just now
        fit("cspa_csea", data, recipe=recipe, out=folder)
        return found

    monkeypatch.setattr(training, "_folder", slow)
    with pytest.raises(UsageError, match="already has a run"):
        fit("cspa_csea", data, seed=1, recipe=recipe, out=folder)
    assert load_trained(folder).card["seed"] == 0


def test_what_a_killed_training_left_is_removed_and_its_tables_come_back(tmp_path: Path) -> None:
    data, recipe = make_dataset(), small_recipe("sel", "epochs=2")
    (tmp_path / ".state.safetensors.0123456789ab.tmp.safetensors").write_bytes(b"half")
    run = fit("cspa_csea", data, recipe=recipe, out=tmp_path)
    assert not list(tmp_path.glob(".*"))
    whole = {name: (tmp_path / name).read_bytes() for name in (HISTORY, RECIPE)}
    (tmp_path / HISTORY).write_text("epoch,loss\n1,0.5\n")  # killed between the state and this
    (tmp_path / RECIPE).unlink()
    again = fit("cspa_csea", data, recipe=recipe, out=tmp_path, resume=True)
    assert json.dumps(again.history) == json.dumps(run.history)
    assert {name: (tmp_path / name).read_bytes() for name in whole} == whole


def test_an_epoch_that_cant_be_saved_says_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors import SafetensorError

    data, recipe, save = (
        make_dataset(),
        small_recipe("sel", "epochs=4"),
        safetensors.torch.save_file,
    )
    left = [True, True]

    def full(*given: object, **more: object) -> None:
        if left:
            left.pop()
            return save(*given, **more)  # type: ignore[arg-type]
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(CheckpointError) as raised:
        fit("cspa_csea", data, recipe=recipe, out=tmp_path / "run")
    assert "epoch 3 can't be saved" in raised.value.got and "the disk is full" in raised.value.got
    assert str(tmp_path / "run" / STATE) in raised.value.got and "--resume" in raised.value.hint
    assert not list((tmp_path / "run").glob(".*"))
    with pytest.raises(CheckpointError, match="nothing was saved"):
        fit("cspa_csea", data, recipe=recipe, out=tmp_path / "other")
    assert not (tmp_path / "other").exists()
    monkeypatch.undo()
    resumed = fit("cspa_csea", data, recipe=recipe, out=tmp_path / "run", resume=True)
    assert weights(resumed) == weights(fit("cspa_csea", data, recipe=recipe))


def test_another_runs_state_is_refused(tmp_path: Path) -> None:
    data = make_dataset()
    fit("cspa_csea", data, recipe=small_recipe(), out=tmp_path)
    with pytest.raises(UsageError, match="already has a run"):
        fit("cspa_csea", data, recipe=small_recipe(), out=tmp_path)
    with pytest.raises(CheckpointError, match="its seed differ"):
        fit("cspa_csea", data, seed=1, recipe=small_recipe(), out=tmp_path, resume=True)
    with pytest.raises(CheckpointError, match="its recipe differ"):
        changed = small_recipe("sel", "lr=0.5")
        fit("cspa_csea", data, recipe=changed, out=tmp_path, resume=True)
    (tmp_path / STATE).write_bytes(b"\xff" * 100)
    with pytest.raises(CheckpointError, match="no state of a training"):
        fit("cspa_csea", data, recipe=small_recipe(), out=tmp_path, resume=True)


def test_patience_stops_early_also_after_resume(tmp_path: Path) -> None:
    data = make_dataset()
    recipe = small_recipe("sel", "epochs=200", "patience=3", "lr=0.02")
    run = fit("cspa_csea", data, recipe=recipe, out=tmp_path)
    assert len(run.history) == run.best["epoch"] + 3 < 200
    again = fit("cspa_csea", data, recipe=recipe, out=tmp_path, resume=True)
    assert len(again.history) == len(run.history)


def test_validation_as_often_as_asked() -> None:
    run = fit(
        "cspa_csea", make_dataset(), recipe=small_recipe("sel", "epochs=5", "validate_every=2")
    )
    judged = [r["epoch"] for r in run.history if "segment_accuracy" in r]
    assert judged == [2, 4, 5]


def test_a_loss_that_is_not_finite_is_named() -> None:
    data = make_dataset()
    data.train.audio[5, 0, 0] = np.nan
    with pytest.raises(AvelError, match=r"loss is nan in epoch 1, step [123]\b"):
        fit("cspa_csea", data, recipe=small_recipe())


def test_background_clips_join_the_weak_setting_tag_alone() -> None:
    data = make_dataset(background=True)
    counts = {
        setting: fit(
            "cspa_csea", data, task="wsel", setting=setting, recipe=small_recipe("wsel", "epochs=1")
        ).trained.card["train_ids"]["count"]
        for setting in ("tag", "tag-clean", "proportion")
    }
    assert counts == {"tag": 30, "tag-clean": 24, "proportion": 24}


def test_cml_refuses_to_start_from_a_model_that_saw_its_test_clips() -> None:
    data = make_dataset(cml=True)
    start = fit("cspa_csea", data, recipe=small_recipe("sel", "epochs=1")).trained
    recipe = small_recipe("cml", "epochs=1")
    with pytest.raises(CheckpointError, match="trained on 6 of the 6 clips"):
        fit("cspa_csea", data, task="cml", recipe=recipe, init=start)
    with pytest.raises(CheckpointError, match="doesn't tell which clips"):
        fit("cspa_csea", data, task="cml", recipe=recipe, init=replace(start, train_ids=None))
    told = fit("cspa_csea", data, task="cml", recipe=recipe, init=start, allow_leak=True)
    assert told.trained.card["leak"] == 6


def test_cml_starts_from_mmel_without_its_clips(tmp_path: Path) -> None:
    data = make_dataset(cml=True)
    own = small_recipe("cml", "epochs=1", "lr=1e-9")
    first = small_recipe("sel", "epochs=1")
    run = fit_cml("cspa_csea", data, recipe=own, mmel=first, out=tmp_path)
    start = load_trained(tmp_path / "mmel")
    assert start.train_ids and not set(start.train_ids) & spared_clips(data).training
    assert len(start.train_ids) == 24 - 6
    assert start.selection_ids == data.val.ids
    assert run.trained.card["leak"] == 0
    assert run.trained.card["init"]["train_ids"] == start.card["train_ids"]
    ours, theirs = run.trained.network.state_dict(), start.network.state_dict()
    shared = [n for n in ours if "head." not in n]
    assert shared
    for name in shared:  # the step was too small to leave where it began
        assert torch.allclose(ours[name], theirs[name], atol=1e-6)


def _one_video(*clips: str) -> Dataset:
    """The made-up data set where some clips and the first that CML tests are of one video."""
    data = make_dataset(cml=True)
    val = data.splits["cml_val"]
    val = replace(val, ids=tuple(f"only_cml_val{i}" for i in range(len(val))))
    return replace(
        data, splits=data.splits | {"cml_val": val},
        recordings=dict.fromkeys((*clips, data.splits["cml_test"].ids[0]), "one"),
    )  # fmt: skip


def test_mmel_spares_other_clips_of_the_videos_that_cml_evaluates(tmp_path: Path) -> None:
    data = _one_video("train20", "val0")
    recipe, first = small_recipe("cml", "epochs=1"), small_recipe("sel", "epochs=1")
    run = fit_cml("cspa_csea", data, recipe=recipe, mmel=first, out=tmp_path)
    start = load_trained(tmp_path / "mmel")
    assert start.train_ids and start.selection_ids
    assert "train20" not in start.train_ids and len(start.train_ids) == 24 - 6 - 1
    assert "val0" not in start.selection_ids and len(start.selection_ids) == 9 - 1
    assert run.trained.card["leak"] == 0


def test_a_leak_is_found_by_video_in_training_and_in_the_selection_of_the_epoch() -> None:
    recipe, first = small_recipe("cml", "epochs=1"), small_recipe("sel", "epochs=1")
    options: dict[str, Any] = {"task": "cml", "recipe": recipe}
    data = _one_video("train20")
    others = spared_clips(data).training - {"train20"}
    by_row = fit("cspa_csea", data, recipe=first, exclude=others).trained
    with pytest.raises(
        CheckpointError, match=r"trained on 1 of the 12 clips .*\(compared by video"
    ):
        fit("cspa_csea", data, **options, init=by_row)
    data = _one_video("val0")
    chosen = fit("cspa_csea", data, recipe=first, exclude=spared_clips(data).training).trained
    with pytest.raises(CheckpointError, match="epoch selected on 1 of this run's test clips"):
        fit("cspa_csea", data, **options, init=chosen)
    allowed = fit("cspa_csea", data, **options, init=chosen, allow_leak=True)
    assert allowed.trained.card["leak"] == 1


def test_a_video_that_the_run_itself_trains_on_is_no_leak_of_its_start() -> None:
    data = replace(make_dataset(), recordings={"train0": "twice", "test0": "twice"})
    start = fit("cspa_csea", data, recipe=small_recipe("sel", "epochs=1")).trained
    again = fit("cspa_csea", data, recipe=small_recipe("sel", "epochs=1"), init=start)
    assert again.trained.card["leak"] == 0


def test_data_without_a_partition_of_cml_select_both_epochs_on_their_validation() -> None:
    data = make_dataset()
    spared = spared_clips(data)
    assert spared.training == {*data.val.ids, *data.test.ids}
    assert spared.validation == set(data.test.ids)


def test_mmel_for_ave_sees_no_video_that_cml_evaluates(shared: Path) -> None:
    from avel.data import load_dataset

    data = load_dataset("ave", root=shared / "ave", labels_only=True)
    spared = spared_clips(data)
    test, val = (set(data.splits[f"cml_{name}"].ids) for name in ("test", "val"))
    assert len(set(data.train.ids) - test - val) == 2704  # by row
    assert len(set(data.train.ids) - spared.training) == 2698  # by video
    assert (len(set(data.val.ids) & test), len(set(data.val.ids) & val)) == (52, 38)
    assert len(set(data.val.ids) - spared.validation) == 311
    assert len(set(data.train.ids) & set(data.splits["cml_test"].ids)) == 314


def test_what_gradients_cannot_fit_is_fitted_before_each_validation(tmp_path: Path) -> None:
    from avel.evaluation.evaluate import evaluate
    from avel.training.recipes import resolve

    recipe = resolve("dcca", "cml", pairs=["epochs=2", "batch=24"])
    run = fit("dcca", make_dataset(), task="cml", recipe=recipe, out=tmp_path)
    buffers = dict(run.trained.network.named_buffers())
    assert buffers["correlations"].abs().sum() > 0
    stored = evaluate(tmp_path, make_dataset(), split="val")["mean_accuracy"].values[0]
    assert stored == pytest.approx(run.best["value"])


def test_a_setting_given_as_an_option_is_that_setting() -> None:
    data = make_dataset()
    by_option = fit("cspa_csea", data, task="cml",
                    recipe=small_recipe("cml", "epochs=1", "negatives=sync"))  # fmt: skip
    by_name = fit("cspa_csea", data, task="cml", setting="sync",
                  recipe=small_recipe("cml", "epochs=1"))  # fmt: skip
    cards = [{**run.trained.card, "weights": ""} for run in (by_option, by_name)]
    assert cards[0] == cards[1] and cards[0]["setting"] == "sync"


def test_no_clip_left_to_train_on_is_said() -> None:
    data = make_dataset()
    with pytest.raises(DataError, match="all 24 clips of train are excluded"):
        fit("cspa_csea", data, recipe=small_recipe(), exclude=data.train.ids)


def test_fingerprints_follow_labels_and_origin_not_features() -> None:
    data = make_dataset()
    same, other = make_dataset(), make_dataset()
    other.test.labels[0, 0] ^= 1
    assert fingerprint(data) == fingerprint(same) != fingerprint(other)
    assert fingerprint(replace(same, origin="1")) != fingerprint(replace(same, origin="2"))


def test_residents_of_bfloat16_and_of_shared_rows() -> None:
    split = make_split("train", 9)
    part = replace(
        split, ids=split.ids[:2], rows=np.array([7, 3]), lengths=split.lengths[:2],
        labels=split.labels[:2],
    )  # fmt: skip
    held = resident(part, dtype=torch.bfloat16)
    assert held.visual.dtype == torch.bfloat16
    expected = torch.from_numpy(split.visual[[7, 3]]).to(torch.bfloat16)
    assert torch.equal(held.visual, expected)
    batch = held.batch(torch.tensor([1, 0]), device=torch.device("cpu"))
    assert torch.equal(batch.audio, torch.from_numpy(split.audio[[3, 7]]))
    assert batch.mask is None


def test_residents_of_a_memory_map(tmp_path: Path) -> None:
    split = make_split("train", 150)
    np.save(tmp_path / "v.npy", split.visual)
    mapped = replace(split, visual=np.load(tmp_path / "v.npy", mmap_mode="r"))
    assert torch.equal(resident(mapped).visual, torch.from_numpy(split.visual))
    assert np.array_equal(mapped.visual, split.visual)  # the map can still be read


def test_large_residents_have_memory_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from avel.data import resident as batches

    split = make_split("train", 150)
    monkeypatch.setattr(batches, "_LARGE", 1)
    held = resident(split)
    assert torch.equal(held.visual, torch.from_numpy(split.visual))
    assert torch.equal(held.audio, torch.from_numpy(split.audio))


def test_masks_are_only_where_lengths_differ() -> None:
    held = resident(make_split("train", 4, unequal=True))
    cpu = torch.device("cpu")
    batch = held.batch(torch.tensor([0, 1]), device=cpu)
    assert batch.mask is not None and batch.mask.sum(1).tolist() == [5, 6]
    shorter = held.batch(torch.tensor([0, 2]), device=cpu)
    assert shorter.mask is None and shorter.audio.shape[1] == 5


def test_batches_in_reused_memory_hold_the_same() -> None:
    held, cpu = resident(make_split("train", 9)), torch.device("cpu")
    for rows in (torch.tensor([3, 1, 2]), torch.tensor([8]), torch.tensor([0, 4, 5, 7])):
        expected = held.batch(rows, device=cpu)
        found = held.batch(rows, device=cpu, reuse=True)
        assert torch.equal(found.audio, expected.audio) and torch.equal(
            found.visual, expected.visual
        )
        assert found.labels is not None and expected.labels is not None
        assert torch.equal(found.labels, expected.labels)
    places = {held.batch(rows, device=cpu, reuse=True).audio.data_ptr() for _ in range(3)}
    assert len(places) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_trains_as_the_processor_does() -> None:
    recipe = small_recipe("sel", "epochs=4", "batch=7")
    found, again = (
        fit("cspa_csea", make_dataset(), recipe=recipe, device="cuda") for _ in range(2)
    )
    expected = fit("cspa_csea", make_dataset(), recipe=recipe)
    assert weights(found) == weights(again)
    for ours, theirs in zip(found.history, expected.history, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3)


_SHARED = """
import json, os, sys, torch
torch.set_num_threads(1)
from avel.training.loop import fit
from tests.conftest import shared_folder
from tests.training_data import make_dataset, small_recipe
task, unequal = sys.argv[1], sys.argv[2] == "unequal"
run = fit("cspa_csea", make_dataset(unequal=unequal), task=task, devices=2,
          recipe=small_recipe(task, "epochs=4", "batch=7"))
if os.environ.get("LOCAL_RANK", "0") == "0":
    print(json.dumps([record["loss"] for record in run.history]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "lengths"), [("sel", "unequal"), ("wsel", "unequal"), ("cml", "equal")]
)
def test_two_processes_share_every_batch_as_one_does_them(
    task: str, lengths: str, tmp_path: Path
) -> None:
    """24 clips in batches of 7, 7, 7 and 3: shares of 4 and 3, of 2 and 1, and masked means."""
    script = tmp_path / "shared.py"
    script.write_text(_SHARED)
    told = run_python(script, task, lengths)
    data = make_dataset(unequal=lengths == "unequal")
    alone = fit("cspa_csea", data, task=task, recipe=small_recipe(task, "epochs=4", "batch=7"))
    assert json.loads(told.splitlines()[-1]) == pytest.approx(
        [record["loss"] for record in alone.history], rel=2e-6
    )


@pytest.mark.slow
def test_the_command_on_two_devices_gives_the_curve_of_one(tmp_path: Path) -> None:
    """`avel train --devices 2 --device cpu`: losses within 1e-5 of one process's."""
    from avel.data.ave.simulate import simulate

    labels = shared_folder()
    if labels is None:
        pytest.skip("no shared material: set AVEL_SHARED to its folder")
    simulate(tmp_path / "ave", labels=labels / "ave", scale=0.02)
    curves = []
    for devices in ("1", "2"):
        out = tmp_path / devices
        run_python(
            "-m", "avel", "train", "cspa_csea", "data=ave", f"root={tmp_path / 'ave'}", "epochs=3",
            "batch=9", "precision=float32", "--device", "cpu", "--devices", devices, "-o", out,
        )  # fmt: skip
        rows = list(csv.DictReader((out / "history.csv").open()))
        curves.append([[float(row[k]) for k in ("loss", "segment_accuracy")] for row in rows])
    assert len(curves[0]) == 3
    for one, two in zip(*curves, strict=True):
        assert two == pytest.approx(one, rel=1e-5)


def run_python(*arguments: str | Path) -> str:
    """What a Python process of its own prints."""
    root = Path(__file__).parents[2]
    path = os.pathsep.join((str(root / "src"), str(root)))
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_devices_cannot_share_what_only_the_whole_batch_has() -> None:
    from avel.training.recipes import resolve

    recipe = resolve("dcca", "cml", pairs=["epochs=1", "batch=24"])
    with pytest.raises(UsageError, match="dcca on 2 devices"):
        fit("dcca", make_dataset(), task="cml", recipe=recipe, devices=2)


_KILLED = """
import sys, torch
torch.set_num_threads(1)
from avel.training.loop import fit
from tests.conftest import shared_folder
from tests.training_data import make_dataset, small_recipe
fit("cspa_csea", make_dataset(), recipe=small_recipe("sel", "epochs=40"), out=sys.argv[1],
    resume=True)
print("done")
"""


@pytest.mark.slow
def test_killed_at_random_and_resumed_equals_unbroken(tmp_path: Path) -> None:
    recipe = small_recipe("sel", "epochs=40")
    whole = fit("cspa_csea", make_dataset(), recipe=recipe, out=tmp_path / "whole")
    killed = tmp_path / "killed"
    rng = np.random.default_rng()
    done = []
    for _ in range(4):  # each lives for an epoch or more, then dies wherever it happens to be
        process = subprocess.Popen(
            [sys.executable, "-c", _KILLED, str(killed)],
            cwd=Path(__file__).parents[2], env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        while process.poll() is None and _epochs(killed) <= (done[-1] if done else 0):
            time.sleep(0.002)
        time.sleep(float(rng.uniform(0, 0.1)))
        process.send_signal(signal.SIGKILL)
        process.wait()
        done.append(_epochs(killed))
    assert done[0] < 40  # at least one of them was broken off
    again = fit("cspa_csea", make_dataset(), recipe=recipe, out=killed, resume=True)
    assert len(again.history) == 40
    assert weights(again) == weights(whole)
    assert json.dumps(again.history) == json.dumps(whole.history)
    assert weights_hash(load_trained(killed).network.state_dict()) == weights(whole)
    assert not list(killed.glob(".*"))  # nor is half a file left of any of them


def _epochs(folder: Path) -> int:
    state = load_state(folder)
    return len(state.history) if state else 0


def test_the_card_says_what_it_is() -> None:
    data = make_dataset()
    card = fit("cspa_csea", data, seed=7, recipe=small_recipe("sel", "epochs=1")).trained.card
    assert card["classes"] == list(CLASSES) and card["seed"] == 7 and card["window"] == 6
    assert card["data"]["fingerprint"] == fingerprint(data)
    assert card["options"]["common"] == 4 and card["recipe"]["batch"] == 8
    json.dumps(card, allow_nan=False)


def test_tensorboard_is_written_when_asked(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    recipe = small_recipe("sel", "epochs=2")
    fit("cspa_csea", make_dataset(), recipe=recipe, out=tmp_path, tensorboard=True)
    (written,) = tmp_path.glob("events.out.tfevents.*")
    held = written.read_bytes()
    assert b"segment_accuracy" in held and b"loss" in held
