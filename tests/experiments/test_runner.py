"""Trainings that tables share: once each, resumed, by several processes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from avel.data.base import Dataset
from avel.errors import AvelError, CheckpointError, UsageError
from avel.experiments import runner as runner_module
from avel.experiments.runner import DONE, SPENT, Runner
from avel.experiments.spec import Outcome, Training, check_owners, prepare
from avel.files import locked
from avel.models.base import models
from avel.training.loop import Stopped, fit
from avel.training.state import STATE
from tests.training_data import SMALL, make_dataset

torch.set_num_threads(1)
FAST = ["epochs=6", "batch=8", "precision=float32", "lr=0.03"]


@pytest.fixture(scope="module")
def data() -> Dataset:
    return make_dataset(cml=True)


@pytest.fixture(scope="module")
def sel() -> Training:
    return prepare("ed_tcn", "sel", {"modality": "both", "dropout": 0.0}, pairs=FAST)


@pytest.fixture(scope="module")
def unbroken(data: Dataset, sel: Training, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    made = Runner(tmp_path_factory.mktemp("unbroken"), data).train(sel, 0)
    assert made is not None
    return made


def score(outcome: Outcome | None) -> dict[str, Any]:
    assert outcome is not None
    return outcome.evaluation["metrics"]  # type: ignore[no-any-return]


# ---- what is trained


def test_options_that_change_nothing_make_no_other_training() -> None:
    plain = prepare("av", "sel", {})
    assert (
        prepare("av", "sel", {"fusion": "concat", "stage": "late"}).identity() == plain.identity()
    )
    assert prepare("av", "sel", {"fusion": "gmu"}).identity() != plain.identity()
    assert prepare("av", "sel", {}, pairs=["lr=0.01"]).identity() != plain.identity()


def test_what_makes_a_row_goes_over_what_the_call_says() -> None:
    made = prepare("jca", "sel", {"audio_out": 256}, pairs=["jca.audio_out=128", "jca.hidden=64"])
    assert made.recipe.options["audio_out"] == 256 and made.recipe.options["hidden"] == 64


def test_pairs_of_a_task_and_of_a_model_are_theirs_alone() -> None:
    pairs = ["dcca.batch=256", "cml.epochs=7", "epochs=9", "batch=16"]
    found = {
        name: prepare(name, task, {}, pairs=pairs).recipe  # type: ignore[arg-type]
        for name, task in (("dcca", "cml"), ("avdln", "cml"), ("av", "sel"))
    }
    assert {n: (r.epochs, r.batch) for n, r in found.items()} == {
        "dcca": (7, 256), "avdln": (7, 16), "av": (9, 16),
    }  # fmt: skip
    check_owners(pairs)
    with pytest.raises(UsageError, match="jac is neither a model"):
        check_owners(["jac.hidden=3"])


def test_cml_starts_from_a_model_that_many_rows_share() -> None:
    first, other = (prepare("cspa_csea", "cml", {"lambda_c": x}).start for x in (0.1, 0.9))
    assert first is not None and other is not None and first.identity() == other.identity()
    assert first.task == "sel" and first.spares
    assert prepare("avdln", "cml", {}).start is None


# ---- how it is trained


def test_it_is_done_once(data: Dataset, sel: Training, tmp_path: Path) -> None:
    runner = Runner(tmp_path, data)
    assert runner.outcome(sel, 0) is None
    made = runner.train(sel, 0)
    assert made == runner.outcome(sel, 0) == Runner(tmp_path, data).train(sel, 0)
    assert made is not None and made.epochs == 6
    assert made.parameters > 0 and made.seconds > 0
    assert not list(tmp_path.rglob(STATE)) and len(list(tmp_path.rglob(DONE))) == 1
    assert Runner(tmp_path, make_dataset()).outcome(sel, 0) is None, "of other data"


def test_outcomes_of_avel_0_1_are_read(data: Dataset, sel: Training, tmp_path: Path) -> None:
    runner = Runner(tmp_path, data)
    outcome, path = runner.train(sel, 0), runner.folder_of(sel, 0) / DONE
    former: dict[str, Any] = {"asked_epochs": 6, "cut": False, "start_cut": False, "budget": 5.0}
    stored = json.loads(path.read_text())
    former["answers"] = stored.pop("predictions")
    path.write_text(json.dumps(stored | former))
    assert runner.outcome(sel, 0) == outcome
    path.write_text(json.dumps(stored | former | {"epochs": 3, "cut": True}))
    assert runner.outcome(sel, 0) is None, "a time budget ended it: it is resumed"


def test_stopped_by_hand_it_goes_on(
    data: Dataset, sel: Training, unbroken: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = Runner(tmp_path, data)

    def stop_in_the_third(self: Any, record: dict[str, Any], epochs: int) -> None:
        counted(self, record, epochs)
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    counted = runner_module._Meter.__call__
    monkeypatch.setattr(runner_module._Meter, "__call__", stop_in_the_third)
    with pytest.raises(Stopped):
        runner.train(sel, 0)
    monkeypatch.undo()
    assert json.loads((runner.folder_of(sel, 0) / SPENT).read_text())["epochs"] == 2
    assert runner.outcome(sel, 0) is None
    assert score(runner.train(sel, 0)) == score(unbroken)


def test_two_processes_share_the_work(data: Dataset, sel: Training, tmp_path: Path) -> None:
    runner = Runner(tmp_path, data)
    quick = prepare("avdln", "cml", {}, pairs=["epochs=1"])
    done: list[str] = []
    folder = runner.folder_of(sel, 0)
    folder.parent.mkdir(parents=True)
    with locked(folder.with_name(f".{folder.name}.lock")) as mine:
        assert mine
        assert runner.train(sel, 0, wait=False) is None
        work = runner.work([(sel, 0), (quick, 0)], lambda t, s: None)
        done.append(next(work)[0].model)
    done += [t.model for t, _, _ in work]
    assert done == ["avdln", "ed_tcn"]


def test_cml_begins_anew_when_what_it_starts_from_has_more_epochs(
    data: Dataset, tmp_path: Path
) -> None:
    pairs = [*SMALL, "epochs=2", "batch=8", "precision=float32"]
    cml = prepare("cspa_csea", "cml", {}, pairs=pairs, mmel=["epochs=3", "batch=8"])
    runner = Runner(tmp_path, data)
    first = runner.train(cml, 0)
    assert first is not None and (first.start_epochs, first.epochs) == (3, 2)
    folder = runner.folder_of(cml, 0)
    stored = json.loads((folder / DONE).read_text())
    (folder / DONE).write_text(json.dumps(stored | {"start_epochs": 1, "start_cut": True}))
    spent = json.loads((folder / SPENT).read_text())
    (folder / SPENT).write_text(json.dumps(spent | {"start_epochs": 1}))
    again = runner.train(cml, 0)
    assert again is not None and (again.start_epochs, again.epochs) == (3, 2)
    assert score(again) == score(first)
    card = json.loads((folder / "card.json").read_text())
    assert card["leak"] == 0 and card["init"]["task"] == "sel"


def test_what_fails_is_told_and_the_others_are_done(
    data: Dataset, sel: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails_once(*args: Any, **rest: Any) -> Any:
        if rest["seed"] == 0:
            raise AvelError("the loss is nan")
        return fit(*args, **rest)

    monkeypatch.setattr(runner_module, "fit", fails_once)
    runner = Runner(tmp_path, data)
    found = [o for _, _, o in runner.work([(sel, 0), (sel, 1)], lambda t, s: None)]
    assert isinstance(found[0], AvelError) and isinstance(found[1], Outcome)


def test_defaults_that_changed_since_are_noticed(
    data: Dataset, sel: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = Runner(tmp_path, data, keep_state=True)
    runner.train(sel, 0)
    before = runner.folder_of(sel, 0)
    options = {**sel.recipe.options, "kernel": 3}
    other = replace(sel, recipe=replace(sel.recipe, options=options))
    cls = models.get("ed_tcn")
    usual = {**cls.options(), "kernel": 3}
    monkeypatch.setattr(cls, "options", classmethod(lambda _: usual))
    assert runner.folder_of(other, 0) == before
    assert runner.outcome(other, 0) is None
    with pytest.raises(CheckpointError, match="another run"):
        runner.train(other, 0)


def test_files_that_hold_something_else(data: Dataset, sel: Training, tmp_path: Path) -> None:
    runner = Runner(tmp_path, data)
    place = runner.folder_of(sel, 0)
    place.mkdir(parents=True)
    for held in ("{", "[]", '{"seed": 0}'):
        (place / DONE).write_text(held)
        with pytest.raises(CheckpointError):
            runner.outcome(sel, 0)
