"""Trainings that tables share: once each, resumed, within a budget, by several processes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from avel.data.base import Dataset
from avel.errors import AvelError, CheckpointError, UsageError
from avel.experiments import runner as workshop
from avel.experiments.runner import DONE, SPENT, Workshop
from avel.experiments.spec import Outcome, Training, check_owners, prepare
from avel.models.base import models
from avel.training.loop import Enough, Stopped, fit
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
    made = Workshop(tmp_path_factory.mktemp("unbroken"), data).train(sel, 0)
    assert made is not None
    return made


def score(outcome: Outcome | None) -> dict[str, Any]:
    assert outcome is not None
    return outcome.evaluation["metrics"]  # type: ignore[no-any-return]


# ---- what is trained


def test_options_that_change_nothing_make_no_other_training() -> None:
    plain = prepare("av", "sel", {})
    assert prepare("av", "sel", {"fusion": "concat", "stage": "late"}).asked() == plain.asked()
    assert prepare("av", "sel", {"fusion": "gmu"}).asked() != plain.asked()
    assert prepare("av", "sel", {}, pairs=["lr=0.01"]).asked() != plain.asked()


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
    with pytest.raises(UsageError, match="jac is no model"):
        check_owners(["jac.hidden=3"])


def test_cml_starts_from_a_model_that_many_rows_share() -> None:
    first, other = (prepare("cspa_csea", "cml", {"lambda_c": x}).start for x in (0.1, 0.9))
    assert first is not None and other is not None and first.asked() == other.asked()
    assert first.task == "sel" and first.spares
    assert prepare("avdln", "cml", {}).start is None


# ---- how it is trained


def test_it_is_done_once(data: Dataset, sel: Training, tmp_path: Path) -> None:
    shop = Workshop(tmp_path, data)
    assert shop.outcome(sel, 0) is None
    made = shop.train(sel, 0)
    assert made == shop.outcome(sel, 0) == Workshop(tmp_path, data).train(sel, 0)
    assert made is not None and (made.epochs, made.asked_epochs, made.cut) == (6, 6, False)
    assert made.parameters > 0 and made.seconds > 0
    assert not list(tmp_path.rglob(STATE)) and len(list(tmp_path.rglob(DONE))) == 1
    assert Workshop(tmp_path, make_dataset()).outcome(sel, 0) is None, "of other data"


def test_time_that_ran_out_can_be_given_later(
    data: Dataset, sel: Training, unbroken: Outcome, tmp_path: Path
) -> None:
    made = Workshop(tmp_path, data, budget=0.0).train(sel, 0)
    assert made is not None and (made.epochs, made.cut) == (1, True)
    assert score(made) != score(unbroken)
    assert Workshop(tmp_path, data, budget=0.0).train(sel, 0) == made, (
        "no more time, no more epochs"
    )
    more = Workshop(tmp_path, data, budget=9.0).train(sel, 0)
    assert more is not None and (more.epochs, more.cut) == (6, False)
    assert score(more) == score(unbroken) and more.seconds > made.seconds


def test_a_budget_ends_with_an_epoch_that_was_validated(data: Dataset, tmp_path: Path) -> None:
    training = prepare("ed_tcn", "sel", {}, pairs=[*FAST, "validate_every=3"])
    made = Workshop(tmp_path, data, budget=0.0).train(training, 0)
    assert made is not None and made.epochs == 3 and made.cut


def test_stopped_by_hand_it_goes_on(
    data: Dataset, sel: Training, unbroken: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Workshop(tmp_path, data)

    def stop_in_the_third(self: Any, record: dict[str, Any], epochs: int) -> None:
        counted(self, record, epochs)
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    counted = workshop._Meter.__call__
    monkeypatch.setattr(workshop._Meter, "__call__", stop_in_the_third)
    with pytest.raises(Stopped):
        shop.train(sel, 0)
    monkeypatch.undo()
    assert json.loads((shop.place(sel, 0) / SPENT).read_text())["epochs"] == 2
    assert shop.outcome(sel, 0) is None
    assert score(shop.train(sel, 0)) == score(unbroken)


def test_measured_epochs_are_not_lost(
    data: Dataset, sel: Training, unbroken: Outcome, tmp_path: Path
) -> None:
    shop, told = Workshop(tmp_path, data), list[str]()
    expected = [(sel, 0), (sel, 1)]
    before = shop.estimate(expected)
    assert (before.trainings, before.unknown) == (2, 2)
    shop.measure(expected, lambda t, s: told.append(f"{t.model} {s}"))
    assert told == ["ed_tcn 0"], "one seed is enough"
    assert json.loads((shop.place(sel, 0) / SPENT).read_text())["epochs"] == 2
    speed = json.loads((shop.place(sel, 0).parent / "speed.json").read_text())["epoch_seconds"]
    known = shop.estimate(expected)
    assert known.unknown == 0 and known.seconds == pytest.approx((4 + 6) * speed)
    short = Workshop(tmp_path, data, budget=speed / 60 / 2).estimate(expected)
    assert short.cut == 2 and short.seconds <= speed
    assert score(shop.train(sel, 0)) == score(unbroken)
    assert shop.estimate(expected).trainings == 1


def test_two_processes_share_the_work(data: Dataset, sel: Training, tmp_path: Path) -> None:
    shop = Workshop(tmp_path, data)
    quick = prepare("avdln", "cml", {}, pairs=["epochs=1"])
    done: list[str] = []
    with workshop._locked(shop.place(sel, 0), wait=True) as mine:
        assert mine
        assert shop.train(sel, 0, wait=False) is None
        work = shop.work([(sel, 0), (quick, 0)], lambda t, s: None)
        done.append(next(work)[0].model)
    done += [t.model for t, _, _ in work]
    assert done == ["avdln", "ed_tcn"]


def test_cml_begins_anew_when_what_it_starts_from_went_on(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [*SMALL, "epochs=2", "batch=8", "precision=float32"]
    cml = prepare("cspa_csea", "cml", {}, pairs=pairs, mmel=["epochs=3", "batch=8"])
    first = Workshop(tmp_path, data, budget=0.0).train(cml, 0)
    assert first is not None and (first.start_epochs, first.start_cut, first.epochs) == (1, True, 1)
    more = Workshop(tmp_path, data).train(cml, 0)
    assert more is not None and (more.start_epochs, more.start_cut, more.epochs) == (3, False, 2)
    assert score(more) == score(Workshop(tmp_path / "other", data).train(cml, 0))
    card = json.loads((Workshop(tmp_path, data).place(cml, 0) / "card.json").read_text())
    assert card["leak"] == 0 and card["init"]["task"] == "sel"


def test_what_fails_is_told_and_the_others_are_done(
    data: Dataset, sel: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails_once(*args: Any, **rest: Any) -> Any:
        if rest["seed"] == 0:
            raise AvelError("the loss is nan")
        return fit(*args, **rest)

    monkeypatch.setattr(workshop, "fit", fails_once)
    shop = Workshop(tmp_path, data)
    shop.measure([(sel, 0)], lambda t, s: None)
    found = [o for _, _, o in shop.work([(sel, 0), (sel, 1)], lambda t, s: None)]
    assert isinstance(found[0], AvelError) and isinstance(found[1], Outcome)


def test_defaults_that_changed_since_are_noticed(
    data: Dataset, sel: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Workshop(tmp_path, data, keep_state=True)
    shop.train(sel, 0)
    before = shop.place(sel, 0)
    options = {**sel.recipe.options, "kernel": 3}
    other = replace(sel, recipe=replace(sel.recipe, options=options))
    cls = models.get("ed_tcn")
    usual = {**cls.options(), "kernel": 3}
    monkeypatch.setattr(cls, "options", classmethod(lambda _: usual))
    assert shop.place(other, 0) == before
    assert shop.outcome(other, 0) is None
    with pytest.raises(CheckpointError, match="another run"):
        shop.train(other, 0)


def test_files_that_hold_something_else(data: Dataset, sel: Training, tmp_path: Path) -> None:
    shop = Workshop(tmp_path, data)
    place = shop.place(sel, 0)
    place.mkdir(parents=True)
    for held in ("{", "[]", '{"seed": 0}'):
        (place / DONE).write_text(held)
        with pytest.raises(CheckpointError):
            shop.outcome(sel, 0)


def test_enough_is_the_last_epoch_of_a_run_in_memory_too(data: Dataset, sel: Training) -> None:
    def enough(record: dict[str, Any], epochs: int) -> None:
        raise Enough

    run = fit("ed_tcn", data, recipe=sel.recipe, progress=enough)
    assert len(run.history) == 1 and run.best["epoch"] == 1
