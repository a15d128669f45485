"""The papers' tables from one call: what is trained for them, and what is written."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from avel import papers
from avel.cli.main import main
from avel.data.base import Dataset
from avel.errors import AvelError, DataError, UsageError
from avel.experiments import runner
from avel.experiments.extra_tables import modalities, systems
from avel.experiments.reproduce import carry_out, plan, reproduce, tables, trainings
from avel.experiments.result import RowResult
from avel.experiments.significance import differences
from avel.experiments.spec import Outcome, prepare
from avel.experiments.tables import Reproduction, called, slug, warning
from avel.models.base import models
from avel.papers import Row
from avel.tasks import task_named
from avel.training.loop import Stopped, fit
from tests.evaluation.test_evaluate import write_folder
from tests.training_data import make_dataset

torch.set_num_threads(1)
FAST = ["epochs=1", "batch=8", "precision=float32"]


@pytest.fixture(scope="module")
def data() -> Dataset:
    return make_dataset(cml=True)


@pytest.fixture(scope="module")
def made(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Reproduction, Path]:
    out = tmp_path_factory.mktemp("made")
    return reproduce(["tian2018:3", "tian2018:6.3"], data, out=out, seeds=(0, 1), pairs=FAST), out


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


# ---- which tables, which trainings


def test_every_table_of_the_papers_has_a_name_and_a_title() -> None:
    assert set(papers.titles()) == set(papers.tables())
    assert list(tables(["all"])) == list(papers.tables())
    assert list(tables(["XUE2021:iii"])) == ["xue2021:III"]
    names = [f"wu2019:{table}" for table in (1, 2, 3, 4, 5, "fig5")]
    assert list(tables(["wu2019:*", "systems"])) == [*names, "systems"]
    assert list(tables(["wu2019"])) == list(tables(["wu2019:*"]))
    assert {r.task for r in tables(["tian2018:1"], ["wsel"])["tian2018:1"]} == {"wsel"}
    with pytest.raises(UsageError, match="no table 'xue2021:VI'"):
        tables(["xue2021:VI"])
    with pytest.raises(UsageError, match="no row of task cml"):
        tables(["tian2018:1"], ["cml"])


def test_systems_hold_every_model_but_the_baseline_in_every_task_that_it_has() -> None:
    found = {(r.model, r.task) for r in systems()}
    assert found == {(n, t) for n, cls in models for t in cls.card.tasks if n != "linear"}
    sel = [r.values.get("segment_accuracy") for r in systems() if r.task == "sel"]
    assert (printed := [v for v in sel if v]) == sorted(printed), "in the papers' order"
    cml = [r.name for r in systems() if r.task == "cml"]
    assert cml[-4:-1] == ["CSPA+CSEA", "CSPA+CSEA, unpaired", "CSPA+CSEA, sync"]
    sync = [c.training for c in plan({"x": [r for r in systems() if r.setting == "sync"]})]
    assert {(t.model, t.setting, t.changed["negatives"]) for t in sync} == {
        (name, "sync", "sync") for name in ("avdln", "cspa_csea", "dam")
    }  # fmt: skip
    unpaired = next(r for r in systems() if r.name == "CSPA+CSEA, unpaired")
    assert unpaired.options == {"form": "unpaired"} and not unpaired.values


def test_modalities_hold_one_modality_alone_and_the_parts_of_co_attention() -> None:
    found = {(r.task, r.name): r for r in modalities()}
    assert len(found) == 9 + 9 + 4
    alone = [r.options for (task, _), r in found.items() if task == "sel"][:5]
    assert alone == [{"inputs": "a"}, {"modality": "audio"}, {"inputs": "v"},
                     {"modality": "visual"}, {"inputs": "v-att"}]  # fmt: skip
    assert found["wsel", "V-att, sound-guided"].values == {"segment_accuracy": 55.6}
    parts = [r.options.get("modules") for (task, _), r in found.items() if task == "cml"]
    assert parts == ["none", "cspa", "csea", None]
    assert found["sel", "CSEA"].values == {"segment_accuracy": 72.9}
    both = plan(tables(["systems", "modalities"]))
    whole = [c for c in both if c.row.name == "CSPA+CSEA" and c.row.task == "wsel"]
    assert len(whole) == 2 and len(trainings(whole)) == 1


def test_what_several_tables_need_is_one_training() -> None:
    cells = plan(tables(["tian2018:1", "tian2018:2", "wu2019:2", "duan2021:2", "xue2021:III"]))
    names = {c.training.identity()["model"]: 0 for c in cells}
    assert set(names) == {"av", "ed_tcn", "avsdn", "dam", "jca", "cspa_csea"}
    att = [c for c in cells if c.row.name in ("A+V-att", "late:concat") and c.row.task == "sel"]
    assert len(att) == 5 and len(trainings(att)) == 1
    assert len(trainings(cells)) == 10 + 28 + 2 + 5


def test_every_row_of_every_table_has_a_training() -> None:
    cells = plan(tables(["all", "systems"]))
    assert len(cells) == sum(len(t) for t in papers.tables().values()) + len(systems())
    reads = {c.row.name: dict(c.reads) for c in cells if c.reads}
    assert reads["A'+V"] == {"audio": "maps"} and reads["V+c3d"] == {"visual": "vector+c3d"}


def test_mistakes_are_named_before_any_work() -> None:
    with pytest.raises(UsageError, match="did you mean epochs"):
        plan(tables(["tian2018:3"]), pairs=["epoch=3"])
    with pytest.raises(UsageError, match="none of them starts from an SEL model"):
        plan(tables(["tian2018:3"]), mmel=["epochs=3"])
    with pytest.raises(UsageError, match="jac is neither a model"):
        plan(tables(["tian2018:3"]), pairs=["jac.hidden=3"])


@pytest.mark.parametrize(
    ("table", "pairs", "mmel"),
    [
        ("xue2021:III", ["jca.audio_out=-1"], []),
        ("xue2021:III", ["cml.epochs=3", "sel.epochs=3"], []),
        ("duan2021:5", ["jca.audio_out=128"], []),  # what the rows are about
        ("xue2021:V", [], ["sel.epochs=3", "cml.epochs=3"]),
    ],
)
def test_pairs_that_touch_no_row_are_mistakes(
    table: str, pairs: list[str], mmel: list[str]
) -> None:
    with pytest.raises(UsageError, match=r"1 mistake\n    .*changes no row.*\n.*models and tasks"):
        plan(tables([table]), pairs=pairs, mmel=mmel)
    plan(tables([table]), pairs=pairs[1:], mmel=mmel[1:])


# ---- what is done


def test_called_again_it_trains_nothing(
    made: tuple[Reproduction, Path], data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, out = made
    monkeypatch.setattr(runner, "fit", None)
    again = reproduce(["tian2018:3", "tian2018:6.3"], data, out=out, seeds=(0, 1), pairs=FAST)
    assert again.csv() == first.csv()
    other = plan(tables(["xue2021:II"]), pairs=FAST)
    found = next(carry_out(other, data, out=out, seeds=(0, 1)))
    shared = {r.row.name: len(r.outcomes) for r in found}
    assert shared == {"DCCA": 2, "AVDLN": 2, "DAM": 0, "CSPA+CSEA": 0}


def test_stopped_by_hand_it_goes_on(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def stops(*args: Any, **rest: Any) -> Any:
        asked.append(args[0])
        if len(asked) == 2:
            raise Stopped
        return fit(*args, **rest)

    monkeypatch.setattr(runner, "fit", stops)
    with pytest.raises(Stopped):
        reproduce(["tian2018:3"], data, out=tmp_path, pairs=FAST)
    half = read((tmp_path / "tian2018_3.csv").read_text())
    assert [r["n"] for r in half if r["metric"] == "a2v"] == ["1", "0"]
    assert [r["remark"] for r in half if r["metric"] == "a2v"][1].endswith("not trained yet")
    told: list[str] = []
    whole = reproduce(["tian2018:3"], data, out=tmp_path, pairs=FAST, progress=told.append)
    assert asked == ["avdln", "dcca", "dcca"] and told == ["1/1 dcca cml, seed 0"]
    assert [len(r.outcomes) for r in whole.results] == [1, 1]


def test_a_training_that_fails_stands_in_the_error_and_the_others_in_the_table(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(model: str, *args: Any, **rest: Any) -> Any:
        if model == "avdln":
            raise AvelError("the loss is nan", hint="set clip_norm=1")
        return fit(model, *args, **rest)

    monkeypatch.setattr(runner, "fit", fails)
    with pytest.raises(AvelError, match="avdln cml, seed 0: the loss is nan"):
        reproduce(["tian2018:3"], data, out=tmp_path, pairs=FAST)
    counts = {r["system"]: r["n"] for r in read((tmp_path / "tian2018_3.csv").read_text())}
    assert (counts["AVDLN"], counts["DCCA"]) == ("0", "1")


def test_rows_that_read_other_features_are_trained_on_those(data: Dataset, tmp_path: Path) -> None:
    def reopen(reads: dict[str, str]) -> Dataset:
        if reads == {"audio": "maps"}:
            raise AvelError("no audio_maps.h5")
        assert reads == {"visual": "vector+c3d"}
        card = {**data.visual_card, "name": "eyes+c3d"}
        return replace(data, visual_card=card)

    pairs = [*FAST, "av.c3d_dim=3", "av.state=4", "av.hidden=8"]
    found: dict[tuple[bool, str], RowResult] = {}
    for way in (None, reopen):
        for table in ("tian2018:S2", "tian2018:S3"):
            whole = reproduce([table], data, out=tmp_path, pairs=pairs, reopen=way)
            found |= {(bool(way), r.row.name): r for r in whole.results}
    assert found[False, "V+c3d"].why_not == "needs C3D's vectors"
    card = {**data.visual_card, "name": "vgg19+c3d"}
    whole = reproduce(["tian2018:S2"], replace(data, visual_card=card), out=tmp_path, pairs=pairs)
    own = {r.row.name: (len(r.outcomes), r.why_not) for r in whole.results}
    assert own["V+c3d"] == (1, "") and own["V"] == (
        0,
        "needs features without maps of the sound or C3D",
    )
    assert len(found[True, "V+c3d"].outcomes) == len(found[True, "V"].outcomes) == 1
    told = found[True, "A'-att"].notes()
    assert told[-1] == "not trained: needs VGGish's last pooling maps: no audio_maps.h5"


# ---- which differences are real


def test_answers_are_kept_and_pairs_are_told_apart_without_training(
    made: tuple[Reproduction, Path], data: Dataset
) -> None:
    whole, out = made
    rows = read((out / "tian2018_3_tian2018_6.3_differences.csv").read_text())
    assert [(r["order"], r["task"]) for r in rows] == [("table", "cml"), ("ours", "cml")]
    for row in rows:
        named = {r.row.name: r for r in whole.results}
        for which in ("first", "second"):
            ours = named[row[which]].measured("mean_accuracy").mean
            assert float(row[f"{which}_score"]) == pytest.approx(100 * ours, abs=0.01)
        less = float(row["second_score"]) - float(row["first_score"])
        assert float(row["gain"]) == pytest.approx(less, abs=0.02)
        assert float(row["clips_low"]) <= float(row["clips_high"])
        assert (row["first_seeds"], row["resamples"], row["seed"]) == ("2", "10000", "0")
    assert float(rows[1]["gain"]) >= 0, "in our ranking the second is the better"
    kept = whole.results[-1].outcomes[0]
    assert kept.predictions is not None
    right, of = task_named("sel").correct_by_clip(kept.predictions, data.test, len(data.classes))
    told = kept.evaluation["metrics"]["segment_accuracy"]["values"][0]
    assert right.sum() / of.sum() == pytest.approx(told)
    with pytest.raises(DataError, match="those of val"):
        task_named("sel").correct_by_clip({"labels": [[0]]}, data.val, len(data.classes))


def test_trainings_without_kept_answers_are_left_out(made: tuple[Reproduction, Path]) -> None:
    whole, _ = made
    old = [replace(r, outcomes=tuple(replace(o, predictions=None) for o in r.outcomes))
           for r in whole.results]  # fmt: skip
    assert differences(old, whole.data) == []


# ---- what is written


def test_the_baselines_stand_on_top_and_the_columns_name_the_data(
    made: tuple[Reproduction, Path],
) -> None:
    whole, out = made
    rows = read((out / "tian2018_3_tian2018_6.3.csv").read_text())
    assert "ours_on_made_up" in rows[0] and "ours" not in rows[0]
    names = [r["system"] for r in rows]
    assert names[:3] == [f"baseline: {a} window" for a in ("last", "first", "random")]
    assert names[3:9] == ["AVDLN"] * 3 + ["DCCA"] * 3
    assert names[9:] == ["baseline: true category", "baseline: always background", "ED-TCN"]
    assert {r["data"] for r in rows} == {"made-up"} and {r["simulated"] for r in rows} == {"False"}
    last = rows[-1]
    assert (last["paper"], last["n"], last["seeds"]) == ("46.9", "2", "0 1")
    assert float(last["difference"]) == pytest.approx(float(last["ours_on_made_up"]) - 46.9)
    assert last["changed"] == "epochs=1 precision=float32" and last["epochs"] == "1"
    values = [
        o.evaluation["metrics"]["segment_accuracy"]["mean"] for o in whole.results[-1].outcomes
    ]
    mean = 100 * sum(values) / 2
    assert float(last["ours_on_made_up"]) == pytest.approx(mean, abs=0.005)
    assert float(last["sd"]) == pytest.approx(
        abs(100 * (values[0] - values[1])) / 2**0.5, abs=0.006
    )


def test_every_form_says_what_it_was_trained_on(made: tuple[Reproduction, Path]) -> None:
    whole, out = made
    text = (out / "tian2018_3_tian2018_6.3.md").read_text("utf-8")
    assert "NOT AVE: trained on made-up" in text and "ours on made-up" in text
    assert "Seeds: 0 1" in text
    assert whole.heading() in whole.text()
    ave = replace(whole.data, name="ave", simulated=True, classes=_AVE)
    simulated = replace(whole, data=ave)
    assert called(simulated.data) == "simulated AVE" and slug(simulated.data) == "simulated_ave"
    for text in (simulated.markdown(), simulated.text()):
        assert "SIMULATED" in text and "ours on simulated AVE" in text
    assert "ours_on_simulated_ave" in simulated.csv().splitlines()[0]
    real = replace(simulated.data, simulated=False)
    assert (called(real), slug(real)) == ("AVE", "ave") and "NOT AVE" not in warning(real)


def test_hostile_names_are_text_in_markdown(made: tuple[Reproduction, Path]) -> None:
    whole, _ = made
    evil = replace(whole, data=replace(whole.data, name="<script>alert(1)</script>|x"))
    assert "<script>" not in evil.markdown()
    body = [line for line in evil.markdown().splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in body} == {10}


def result(row: Row, **changed: Any) -> RowResult:
    evaluation = {
        "metrics": {"segment_accuracy": {"values": [0.5]}}, "notes": [], "setting": "supervised",
        "selection": "best; epoch 3 of 12", "background_clips": None, "fingerprint": "f" * 64,
        "classes": [{name: {"clip_accuracy": i / 100} for i, name in enumerate(_AVE)}],
    }  # fmt: skip
    outcome = Outcome(
        **{"seed": 0, "recipe": {}, "epochs": 12, "seconds": 61.0, "parameters": 22_834_000,
           "start_epochs": None, "evaluation": evaluation, **changed}
    )  # fmt: skip
    task: Any = row.task
    training = prepare(row.model, task, row.options)
    return RowResult(f"{row.paper}:{row.table}", row, training, (outcome,))


_AVE = tuple(f"class {i}" for i in range(28))


def shown(results: tuple[RowResult, ...]) -> Reproduction:
    ave = replace(make_dataset(), name="ave", classes=_AVE)
    baselines = {"sel": {"true_category": 0.8221, "always_background": 0.1779}}
    return Reproduction("x", ave, results, baselines, {"sel": 402}, (0,), papers.titles())


def test_what_was_trained_stands_in_the_row() -> None:
    row = tables(["tian2018:6.3"])["tian2018:6.3"][0]
    line = read(shown((result(row),)).csv())[-1]
    assert (line["epochs"], line["time"], line["remark"]) == ("12 of 200", "00:01:01", "")
    assert line["ours_on_ave"] == "50.0" and line["difference"] == "3.1"


def test_a_row_that_scores_what_a_baseline_does_says_so() -> None:
    (row,) = papers.tables()["tian2018:6.3"]
    one = result(row)
    same = {"metrics": {"segment_accuracy": {"values": [0.1779]}}}
    like = replace(one.outcomes[0], seed=1, evaluation={**one.outcomes[0].evaluation, **same})
    told = "scores exactly what always background does"
    for outcomes, end in (((like,), told), ((like, *one.outcomes), f"{told} in 1 of 2 seeds")):
        (line,) = shown((replace(one, outcomes=outcomes),)).rows()[2:]
        assert line["remark"].endswith(end)
    assert "exactly" not in shown((one,)).csv()


def test_parameters_are_counted_in_millions() -> None:
    row = next(r for r in tables(["duan2021:4"])["duan2021:4"] if "concatenation+fc" in r.name)
    found = {r["metric"]: r for r in read(shown((result(row),)).csv())[2:]}
    assert found["parameters_millions"]["ours_on_ave"] == "22.83"
    assert found["parameters_millions"]["difference"] == "0.0"
    assert found["segment_accuracy"]["paper"] == "76.2"


def test_accuracies_by_class_are_those_of_the_classes_in_aves_order() -> None:
    row = tables(["tian2018:S1"])["tian2018:S1"][0]
    found = {r["metric"]: r for r in read(shown((result(row),)).csv())[2:]}
    assert len(found) == 28
    assert found["class_accuracy:bell"]["ours_on_ave"] == "0.0"
    assert found["class_accuracy:mand."]["ours_on_ave"] == "27.0"
    other = replace(shown((result(row),)), data=make_dataset())
    assert all(r["ours_on_made_up"] == "" for r in read(other.csv())[2:])


def test_what_is_quoted_is_marked() -> None:
    rows = tables(["xue2021:III"])["xue2021:III"]
    whole = shown(tuple(result(r) for r in rows))
    assert [r["paper_is"] for r in read(whole.csv())[2:]] == ["quoted"] * 5 + ["own"]
    assert "| *72.7* |" in whole.markdown() and "| 76.5 |" in whole.markdown()


# ---- the command


def test_the_command_trains_writes_and_goes_on(
    data: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folder(tmp_path / "clips", data)
    out = str(tmp_path / "out")
    call = ["reproduce", "tian2018:6.3", f"data={root}", *FAST, "ed_tcn.epochs=3", "-o", out]
    assert main(call) == 0
    told = capsys.readouterr()
    assert (
        "1/1 ed_tcn sel" in told.err
        and "NOT AVE" in told.out
        and "+/-" not in told.out
        and "46.9" in told.out
    )
    assert {p.name for p in (tmp_path / "out").glob("tian*")} == {
        "tian2018_6.3.csv",
        "tian2018_6.3.md",
    }
    assert main(call) == 0
    assert "everything is trained" in capsys.readouterr().err


def test_trainings_remember_their_data(
    data: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folder(tmp_path / "clips", data)
    call = ["reproduce", "tian2018:6.3", f"data={root}", *FAST, "-o", str(tmp_path / "out")]
    assert main(call) == 0
    (held,) = (tmp_path / "out").glob("ed_tcn_sel/*/seed-0/data.json")
    (moved,) = root.rename(tmp_path / "moved").glob("annotations.csv")
    assert main([*call[:2], f"data={moved.parent}", *call[3:]]) == 0  # trains nothing
    assert "everything is trained" in capsys.readouterr().err
    assert main(["evaluate", str(held.parent.parent)]) == 0
    assert "ed_tcn sel" in capsys.readouterr().out


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_the_command_says_where_it_cannot_write(
    out: str, data: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folder(tmp_path / "clips", data)
    (tmp_path / "file").touch()
    call = ["reproduce", "tian2018:6.3", f"data={root}", *FAST, "-o", str(tmp_path / out)]
    assert main(call) == 1
    assert f"{tmp_path / out} can't be written" in capsys.readouterr().err


def test_the_command_says_how_it_goes_on(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def stops(*args: Any, **rest: Any) -> Any:
        raise Stopped

    monkeypatch.setattr(runner, "fit", stops)
    root = write_folder(tmp_path / "clips", data)
    out = str(tmp_path / "out")
    assert main(["reproduce", "tian2018:6.3", f"data={root}", *FAST, "-o", out]) == 130
    assert "the same command resumes it" in capsys.readouterr().err


def test_the_command_lists_tables_and_trainings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce"]) == 0
    every = capsys.readouterr().out
    assert all(name in every for name in papers.tables())
    assert main(["reproduce", "--list", "xue2021:V"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:3] == ["xue2021:V", "21", "28"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["xue2021:VI", "data=."], "no table 'xue2021:VI'"),
        (["xue2021:III"], "names no data"),
        (["xue2021:III", "data=.", "setting=tag"], "tables have their settings"),
        (["xue2021:III", "data=.", "task=cml"], "no row of task cml"),
        (["xue2021:III", "data=.", "epoch=3"], "did you mean epochs"),
        (["xue2021:III", "data=.", "jca.audio_out=-1"], "jca.audio_out=-1: changes no row"),
    ],
)
def test_called_wrongly(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reproduce", *arguments]) == 2
    assert told in capsys.readouterr().err
