from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from avel.cli.main import main
from avel.data.base import Dataset
from avel.errors import CheckpointError, DataError, UsageError
from avel.evaluation.cross_validation import constant_baselines
from avel.evaluation.evaluate import Measured, evaluate, save
from avel.features.store import feature_path
from avel.inference.checkpoint import Trained
from avel.training.loop import Run, fit
from avel.training.recipes import resolve
from avel.types import Features, Grid
from tests.training_data import AUDIO_CARD, CLASSES, SMALL, VISUAL_CARD, make_dataset, small_recipe

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return make_dataset(unequal=True)


@pytest.fixture(scope="module")
def runs(data: Dataset) -> list[Run]:
    recipe = small_recipe("sel", "epochs=2")
    return [fit("cspa_csea", data, seed=s, recipe=recipe) for s in range(3)]


def test_mean_and_deviation_by_hand() -> None:
    three = Measured("x", (0.5, 0.6, 0.8))
    assert three.mean == pytest.approx(0.6333333)
    assert three.sd == pytest.approx(
        math.sqrt((0.13333**2 + 0.03333**2 + 0.16667**2) / 2), rel=1e-4
    )
    assert Measured("x", (0.5,)).sd is None
    holes = Measured("x", (math.nan, 0.5, 0.7))
    assert holes.mean == pytest.approx(0.6) and holes.defined == (0.5, 0.7)
    assert math.isnan(Measured("x", (math.nan,)).mean)


def test_accuracy_is_that_of_single_predictions(data: Dataset, runs: list[Run]) -> None:
    """Each clip through Trained.predict, without batches and padding."""
    found = evaluate(runs, data)
    split = data.test
    for run, value in zip(runs, found["segment_accuracy"].values, strict=True):
        right = total = 0
        for i, n in enumerate(split.lengths):
            file = Features(
                audio=split.audio[i, :n].astype(np.float32),
                visual=split.visual[i, :n].astype(np.float32),
                grid=Grid(float(n)), audible=np.ones(n, bool), visible=np.ones(n, bool),
                audio_card=AUDIO_CARD, visual_card=VISUAL_CARD,
            )  # fmt: skip
            right += int((run.trained.predict(file).labels == split.labels[i, :n]).sum())
            total += int(n)
        assert value == pytest.approx(right / total)


def test_what_is_printed_and_written(data: Dataset, runs: list[Run], tmp_path: Path) -> None:
    found = evaluate(runs, data)
    told = str(found)
    mean = found["segment_accuracy"].mean
    assert f"{100 * mean:.2f}" in told and "accuracy: true_category" in told
    assert "best segment_accuracy on validation" in told and found.fingerprint[:12] in told
    assert "simulated" not in told and "LEAK" not in told
    found.save(tmp_path / "r.csv")
    found.save(tmp_path / "r.json")
    rows = {r["metric"]: r for r in csv.DictReader((tmp_path / "r.csv").open())}
    assert float(rows["segment_accuracy"]["mean"]) == pytest.approx(mean, abs=1e-6)
    assert rows["segment_accuracy"]["n"] == "3"
    assert "segment_accuracy of always_background" in rows
    held = json.loads((tmp_path / "r.json").read_text(), parse_constant=lambda c: pytest.fail(c))
    assert held["metrics"]["segment_accuracy"]["values"] == list(found["segment_accuracy"].values)
    assert held["seeds"] == [0, 1, 2] and set(held["classes"][0]) == {*CLASSES, "background"}
    with pytest.raises(UsageError, match="no writer"):
        found.save(tmp_path / "r.xls")
    save([found, found], tmp_path / "two.json")
    assert len(json.loads((tmp_path / "two.json").read_text())) == 2


def test_without_data_the_runs_own(data: Dataset, runs: list[Run]) -> None:
    assert str(evaluate(runs)) == str(evaluate(runs, data))
    assert (
        evaluate(runs[0], data.test)["segment_accuracy"].values[0]
        == (evaluate(runs)["segment_accuracy"].values[0])
    )
    assert evaluate(runs[0], split="val").clips == 9
    with pytest.raises(UsageError, match="no data"):
        evaluate(runs[0].trained)


def test_leaks_simulation_and_other_data_are_told(data: Dataset, runs: list[Run]) -> None:
    assert "LEAK: 24 of 24" in str(evaluate(runs[0], split="train"))
    assert "(simulated features)" in str(evaluate(runs[0], replace(data, simulated=True)))
    other = make_dataset()
    assert "other data than it was trained on" in str(evaluate(runs[0], other))
    leaky = replace(runs[0].trained, card={**runs[0].trained.card, "leak": 5})
    assert "LEAK: it started from a model trained on 5" in str(evaluate(leaky, data))


def test_what_does_not_fit_is_refused(data: Dataset, runs: list[Run]) -> None:
    with pytest.raises(DataError, match=r"1 of its 3 classes that the run doesn't have: whale"):
        evaluate(runs[0], replace(data, classes=("bell", "whale", "train")))
    with pytest.raises(CheckpointError, match="the features are of vggish"):
        evaluate(runs[0], replace(data, audio_card={"name": "vggish"}))
    with pytest.raises(DataError, match="no split 'dev'"):
        evaluate(runs[0], data, split="dev")
    card = {**runs[0].trained.card, "setting": "other"}
    with pytest.raises(UsageError, match="different kinds"):
        evaluate([runs[0], replace(runs[0].trained, card=card)], data)
    elsewhere = {**runs[0].trained.card, "data": {"fingerprint": "x"}}
    with pytest.raises(UsageError, match="different kinds"):
        evaluate([runs[0], replace(runs[0].trained, card=elsewhere)], data)
    with pytest.raises(UsageError, match="runs of seeds 1, 1"):
        evaluate([runs[1], runs[1]], data)
    with pytest.raises(UsageError, match="no run"):
        evaluate([], data)


def test_some_of_the_classes_in_any_order_are_judged(data: Dataset, runs: list[Run]) -> None:
    """New clips needn't have all that a model knows: they are laid out over its classes."""
    whole = evaluate(runs[0], data)
    turned = np.array([2, 0, 1, 3, -1])  # train, bell, dog -> their places in the other order
    splits = {
        n: replace(s, labels=turned[np.where(s.labels < 0, 4, s.labels)])
        for n, s in data.splits.items()
    }
    assert data.classes == ("bell", "dog", "train")
    other = replace(data, classes=("dog", "train", "bell"), splits=splits)
    assert evaluate(runs[0], other)["segment_accuracy"] == whole["segment_accuracy"]
    rows = np.flatnonzero([(labels != 2).all() for labels in data.test.labels])  # no "train"
    labels = np.where(data.test.labels == 3, 2, data.test.labels)[rows]
    few = replace(data.test.subset(rows), labels=labels)
    part = replace(data, classes=("bell", "dog"), splits={"test": few})
    found = evaluate(runs[0], part)
    assert found.clips == 6 and "these data have no event of train" in found.notes
    own = replace(few, labels=data.test.labels[rows])
    again = evaluate(runs[0], replace(data, splits={"test": own}))
    assert found["segment_accuracy"] == again["segment_accuracy"]


def test_cml_is_judged_both_ways() -> None:
    data = make_dataset(cml=True)
    run = fit("cspa_csea", data, task="cml", recipe=small_recipe("cml", "epochs=1"))
    found = evaluate(run)
    assert found.split == "cml_test"
    mean = (found["a2v"].mean + found["v2a"].mean) / 2
    assert found["mean_accuracy"].mean == pytest.approx(mean)
    assert set(found.baselines) == {"last_window", "first_window", "random_window"}


def test_each_class_is_judged_too(data: Dataset, runs: list[Run], tmp_path: Path) -> None:
    found = evaluate(runs, data)
    bell = {m.metric: m for m in found.by_class()["bell"]}
    assert list(bell) == [
        "accuracy", "clip_accuracy", "video_accuracy", "event_f1_0.5", "event_f1_0.7",
        "boundary_error", "segments",
    ]  # fmt: skip
    assert bell["accuracy"].values == tuple(c["bell"]["accuracy"] for c in found.classes)
    found.save(tmp_path / "r.csv")
    rows = {(r["class"], r["metric"]): r for r in csv.DictReader((tmp_path / "r.csv").open())}
    assert float(rows["bell", "accuracy"]["mean"]) == pytest.approx(
        bell["accuracy"].mean, abs=1e-6
    )  # fmt: skip
    none = replace(found, measured=(Measured("boundary_error", (math.nan,)),))
    assert "nan" not in str(none) and "nan" not in found.class_table()
    lines = found.class_table().splitlines()
    assert lines[1].startswith("bell") and f"{100 * bell['accuracy'].mean:.2f}" in lines[1]


def test_weak_results_say_how_many_background_clips_they_saw() -> None:
    recipe = small_recipe("wsel", "epochs=1")
    told = {}
    for setting, held in (("tag", True), ("tag", False), ("tag-clean", True)):
        made = make_dataset(background=held)
        found = evaluate(fit("cspa_csea", made, task="wsel", setting=setting, recipe=recipe))
        told[setting, held] = (found.background_clips, str(found).splitlines()[0])
        assert found.to_json()["background_clips"] == found.rows()[0]["background_clips"]
    assert told["tag", True][0] == 6 and "tag (6 background clips)" in told["tag", True][1]
    assert told["tag", False][0] == 0 and "tag (no background clips)" in told["tag", False][1]
    assert told["tag-clean", True][0] == 0
    made = make_dataset(background=True)
    two = [fit("cspa_csea", made, task="wsel", seed=s, recipe=recipe).trained for s in (0, 1)]
    older = replace(two[1], card={k: v for k, v in two[1].card.items() if k != "background_clips"})
    found = evaluate([two[0], older], made)
    assert found.background_clips is None and "different numbers of background" in str(found)


def test_papers_stand_beside_the_test_split_of_ave_alone(data: Dataset) -> None:
    ave = replace(data, name="ave")
    own = fit("ed_tcn", ave, recipe=resolve("ed_tcn", pairs=["epochs=1", "batch=8"]))
    paper = evaluate(own)["segment_accuracy"].paper
    assert paper is not None and str(paper) == "46.9 (tian2018, section 6.3, ED-TCN)"
    assert str(paper) in str(evaluate(own))
    assert evaluate(own, split="val")["segment_accuracy"].paper is None
    elsewhere = evaluate(own, data)
    assert elsewhere["segment_accuracy"].paper is None and "paper" not in str(elsewhere)


def test_event_f1_of_baselines_stands_beside_accuracy(data: Dataset, runs: list[Run]) -> None:
    result = evaluate(runs)
    constant = constant_baselines(data.test, len(data.classes), data.step)
    assert result.event_baselines == {n: m["event_f1_0.5"] for n, m in constant.items()}
    text = ", ".join(f"{n} {100 * v:.2f}" for n, v in result.event_baselines.items())
    assert f"baselines, event_f1_0.5: {text}" in str(result)
    assert any(r["metric"] == "event_f1_0.5 of true_clip_class" for r in result.rows())
    assert set(result.to_json()["event_baselines"]) == set(constant)


# ---- the commands


def write_folder(root: Path, data: Dataset) -> Path:
    """The made-up data set as a person's folder."""
    root.mkdir()
    lines = ["file,start,end,label,split"]
    for name in ("train", "val", "test"):
        split = data.splits[name]
        for i, clip in enumerate(split.ids):
            n = int(split.lengths[i])
            inside = np.nonzero(split.labels[i, :n] < len(CLASSES))[0]
            label = CLASSES[split.labels[i, inside[0]]]
            lines.append(f"{clip}.mp4,{inside[0]},{inside[-1] + 1},{label},{name}")
            (root / f"{clip}.mp4").touch()
            Features(
                audio=split.audio[i, :n].astype(np.float32),
                visual=split.visual[i, :n].astype(np.float32),
                grid=Grid(float(n)), audible=np.ones(n, bool), visible=np.ones(n, bool),
                audio_card=AUDIO_CARD, visual_card=VISUAL_CARD,
            ).save(feature_path(root, f"{clip}.mp4"))  # fmt: skip
    (root / "annotations.csv").write_text("\n".join(lines) + "\n")
    return root


def test_commands_train_evaluate_and_resume(
    data: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folder(tmp_path / "clips", data)
    run = str(tmp_path / "run")
    train = ["train", "cspa_csea", f"data={root}", "batch=8", "precision=float32", *SMALL]
    assert main([*train, "epochs=2", "-o", run, "--seeds", "2"]) == 0
    told = capsys.readouterr().out
    assert "seed 1: segment_accuracy" in told and "baseline: " not in told
    line = next(x for x in told.splitlines() if x.startswith("segment_accuracy"))
    assert line.split()[3] == "2"  # n
    assert main([*train, "epochs=2", "-o", run, "--seeds", "2"]) == 2
    assert "already has a run" in capsys.readouterr().err
    assert main([*train, "epochs=3", "-o", run, "--seeds", "2", "--resume"]) == 0
    capsys.readouterr()
    out = str(tmp_path / "r.json")
    assert main(["evaluate", run]) == 0
    alone = capsys.readouterr().out
    assert main(["evaluate", run, f"data={root}", "-o", out]) == 0
    held = json.loads(Path(out).read_text())
    assert held["metrics"]["segment_accuracy"]["n"] == 2 and held["data"] == "clips"
    assert f"{100 * held['metrics']['segment_accuracy']['mean']:.2f}" in alone
    assert capsys.readouterr().out == alone
    (tmp_path / "run" / "seed-0" / "data.json").write_text("{")
    assert main(["evaluate", run]) == 2
    assert "can't be read" in capsys.readouterr().err


def test_command_trains_cml_from_mmel(
    data: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folder(tmp_path / "clips", data)
    made = main(["train", "cspa_csea", f"data={root}", "task=cml", "epochs=1", "batch=8", *SMALL,
                 "mmel.epochs=1", "-o", str(tmp_path / "run")])  # fmt: skip
    assert made == 0 and "mean_accuracy" in capsys.readouterr().out
    assert (tmp_path / "run" / "mmel" / "card.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["train", "cspa_csea"], "names no data"),
        (["train", "cspa_csea", "data=ave"], "needs its folder"),
        (["train", "cspa_csea", "data=nowhere", "root=."], "unknown data set"),
        (["train", "cspa", "data=."], "unknown model"),
        (["train", "cspa_csea", "data=.", "task=dance"], "unknown task"),
        (["train", "cspa_csea", "data=.", "epoch=3", "lr=x"], "2 mistakes"),
        (["train", "cspa_csea", "task=cml", "mmel.epoch=3", "data=."], "did you mean epochs"),
        (["train", "cspa_csea", "task=wsel", "setting=tags"], "no setting 'tags'"),
        (["train", "cspa_csea", "data=.", "task=wsel", "setting=x", "form=x"], "no setting"),
        (
            ["train", "cspa_csea", "data=.", "task=wsel", "setting=x", "form=x"],
            "form='x': expected",
        ),
        (["evaluate"], "no run is named"),
        (["evaluate", "run", "epochs=3"], "has no meaning"),
        (["evaluate", "run", "-o", "x.xls"], "no writer"),
        (["sweep", "table6", "data=."], "unknown sweep"),
        (["sweep", "table5", "data=.", "epoch=3"], "did you mean epochs"),
        (["ls", "modles"], "unknown kind"),
    ],
)
def test_commands_called_wrongly(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert told in capsys.readouterr().err


def test_baselines_need_labels_alone(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "t.csv"
    assert (
        main(["evaluate", "--baselines", "data=ave", f"root={shared / 'ave'}", "-o", str(out)]) == 0
    )
    told = capsys.readouterr().out
    for value in ("82.21", "17.79", "46.77", "35.32", "20.77"):
        assert value in told
    scores = {(r["task"], r["baseline"]): float(r["score"]) for r in csv.DictReader(out.open())}
    assert scores["cml", "last_window"] == pytest.approx(188 / 402, abs=1e-6)


def test_ls_lists_what_matches(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls"]) == 0
    assert "table5" in capsys.readouterr().out
    assert main(["ls", "models", "cspa*"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 and lines[0].startswith("cspa_csea ")
    assert main(["ls", "model", "no*"]) == 0
    assert capsys.readouterr().out == ""


def test_trained_is_what_evaluate_takes(data: Dataset, runs: list[Run]) -> None:
    assert isinstance(runs[0].trained, Trained)
    assert evaluate(runs[0].trained, data).seeds == (0,)
