"""Small data sets: standardised features, varied copies, recipes by size, folds."""

from __future__ import annotations

import csv
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avel.cli.main import main
from avel.data.base import Dataset, Split
from avel.data.resident import channel_statistics, rarity
from avel.errors import CheckpointError, DataError, UsageError
from avel.evaluation.cross_validation import (
    Fold,
    Folds,
    assign_folds,
    constant_baselines,
    cross_validate,
    fit_all,
    pool,
    pooled,
)
from avel.inference.load import load_trained
from avel.models.base import Batch, Recipe
from avel.models.standardize import Standardize
from avel.training.loop import Stopped, fit
from avel.training.recipes import SMALL, resolve, small_recipe_text, to_toml
from avel.training.step import augmented
from tests.evaluation.test_evaluate import write_folder
from tests.training_data import features, make_dataset, make_split

QUICK = Recipe(epochs=3, batch=8, precision="float32", standardize=True, input_dropout=0.2)


def moved(data: Dataset) -> Dataset:
    """The same data in features far from 0 and of very different sizes."""
    splits = {}
    for name, split in data.splits.items():
        audio = split.audio * np.array([1, 100, 0.01, 1, 1], np.float32) + 900
        visual = split.visual.astype(np.float32) * 10 - 70
        splits[name] = replace(split, audio=audio.astype(np.float32), visual=visual)
    return replace(data, splits=splits)


# ---- standardised features


def test_moments_are_those_of_real_segments_and_of_the_regions_mean() -> None:
    split = make_split("train", 20, unequal=True)
    split.audio[::2, 5] = 1e6  # padding, which isn't looked at
    real = split.labels >= 0
    found = channel_statistics(split)
    seen = split.visual.astype(np.float64).mean((2, 3))[real]
    np.testing.assert_allclose(found["audio"][0], split.audio[real].mean(0), atol=1e-5)
    np.testing.assert_allclose(found["audio"][1], split.audio[real].std(0), atol=1e-5)
    np.testing.assert_allclose(found["visual"][0], seen.mean(0), atol=1e-5)
    np.testing.assert_allclose(found["visual"][1], seen.std(0), atol=1e-5)
    some = replace(split, rows=np.array([3, 1]), ids=("d", "b"), lengths=split.lengths[[3, 1]])
    np.testing.assert_allclose(
        channel_statistics(some)["audio"][0], split.audio[[3, 1]].mean((0, 1)), atol=1e-5
    )


def test_channels_that_hardly_vary_do_not_become_huge() -> None:
    layer = Standardize(3, 2)
    layer.take("audio", torch.zeros(3), torch.tensor([2.0, 1e-9, 0.0]))
    layer.take("visual", torch.zeros(2), torch.zeros(2))
    assert layer("audio", torch.ones(1, 1, 3)).abs().max() <= 1 / (2 * 1e-3) + 1
    assert torch.isfinite(layer("visual", torch.zeros(1, 1, 1, 1, 2))).all()


def test_a_segment_without_signal_stays_zeros() -> None:
    layer = Standardize(3, 2)
    layer.take("audio", torch.ones(3), torch.ones(3))
    layer.take("visual", torch.ones(2), torch.ones(2))
    x = torch.rand(1, 2, 3)
    x[0, 1] = 0
    assert layer("audio", x)[0, 0].all() and not layer("audio", x)[0, 1].any()
    assert not layer("visual", torch.zeros(1, 1, 2, 2, 2)).any()


def test_dropout_takes_a_channel_from_all_regions_and_only_in_training() -> None:
    layer = Standardize(4, 4, standardize=False, dropout=0.5)
    torch.manual_seed(0)
    seen = layer("visual", torch.ones(8, 3, 2, 2, 4))
    assert sorted(seen.unique().tolist()) == [0.0, 2.0]
    assert (seen == seen[:, :, :1, :1]).all()
    assert layer.eval()("visual", torch.ones(1, 1, 2, 2, 4)).eq(1).all()


@pytest.mark.parametrize("model", ["linear", "av", "cspa_csea"])
def test_standardised_models_learn_what_plain_ones_do_not(model: str) -> None:
    small = {"av": ("state=4", "hidden=8"), "cspa_csea": ("common=4", "hidden=8", "state=4")}
    pairs = ("epochs=6", "batch=4", "lr=0.01", "precision=float32", *small.get(model, ()))
    data = moved(make_dataset())
    plain = fit(model, data, recipe=resolve(model, pairs=pairs)).best["value"]
    better = fit(model, data, recipe=resolve(model, pairs=(*pairs, "standardize=true")))
    assert better.best["value"] > max(0.75, plain + 0.1)


def test_the_numbers_travel_with_the_checkpoint_and_apply_wherever_it_answers(
    tmp_path: Path,
) -> None:
    data = moved(make_dataset())
    run = fit("linear", data, recipe=replace(QUICK, lr=0.05), out=tmp_path)
    again = load_trained(tmp_path)
    mean = again.network.state_dict()["intake.audio_mean"]
    np.testing.assert_allclose(mean, channel_statistics(data.train)["audio"][0], rtol=1e-6)
    far = features(7)
    far = replace(far, audio=far.audio * 3 + 900, visual=far.visual * 10 - 70)
    np.testing.assert_array_equal(again.predict(far).values, run.trained.predict(far).values)
    network = again.network
    x = {"audio": torch.from_numpy(far.audio)[None], "visual": torch.from_numpy(far.visual)[None]}
    held = {k: v for k, v in network.state_dict().items() if k.startswith("intake")}
    by_hand = {k: (v - held[f"intake.{k}_mean"]) / held[f"intake.{k}_sd"] for k, v in x.items()}
    whole = {"audio": by_hand["audio"], "visual": by_hand["visual"].mean((2, 3))}
    strength = {k: v.square().mean(-1).sqrt()[0] for k, v in whole.items()}
    by_hand["audio"] = by_hand["audio"] / strength["audio"][:, None]
    by_hand["visual"] = by_hand["visual"] / strength["visual"][:, None, None, None]
    with torch.no_grad():
        torch.testing.assert_close(
            network(**x).scores, network.forward(**by_hand).scores, atol=1e-6, rtol=0
        )


def test_a_standardised_model_is_exported(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="the extra [onnx] isn't installed")
    from avel.onnx.export import export_model
    from avel.onnx.runtime import load_onnx

    data = moved(make_dataset())
    data = replace(data, visual_card={**data.visual_card, "output": [2, 2, 7]})
    recipe = replace(QUICK, options={"state": 4, "hidden": 8})
    trained = load_trained(fit("av", data, recipe=recipe, out=tmp_path / "run").folder or "")
    export_model(trained, tmp_path / "m.onnx", with_backbones=False, lengths=(1, 3))
    far = replace(features(5), visual_card=data.visual_card)
    far = replace(far, audio=far.audio + 900, visual=far.visual * 10 - 70)
    np.testing.assert_allclose(
        load_onnx(tmp_path / "m.onnx").predict(far).values, trained.predict(far).values, atol=1e-5
    )


def test_cml_refuses_what_its_windows_would_not_go_through() -> None:
    with pytest.raises(UsageError, match="standardize=True: of task sel or wsel alone"):
        resolve("cspa_csea", "cml", pairs=["standardize=true"])
    with pytest.raises(UsageError, match=r"input_dropout=0\.2: of task sel"):
        fit("cspa_csea", make_dataset(cml=True), task="cml", recipe=Recipe(input_dropout=0.2))


# ---- copies and draws


def batch_of(lengths: tuple[int, ...] = (4, 2)) -> Batch:
    b, t = len(lengths), max(lengths)
    audio = torch.arange(b * t).float().reshape(b, t, 1)
    visual = torch.arange(b * t * 3).float().reshape(b, t, 1, 3, 1)
    mask = torch.arange(t) < torch.tensor(lengths)[:, None]
    return Batch(audio, visual, mask, audio[..., 0].long())


def test_mirrored_copies_turn_a_whole_clip_and_nothing_else() -> None:
    torch.manual_seed(1)
    plain, turned = batch_of(), set()
    for _ in range(20):
        made = augmented(batch_of(), mirror=True, roll=False)
        assert made.audio.equal(plain.audio)
        for i in range(2):
            flipped = made.visual[i].equal(plain.visual[i].flip(2))
            assert flipped or made.visual[i].equal(plain.visual[i])
            turned.add((i, flipped))
    assert len(turned) == 4


def test_rolled_copies_keep_sound_picture_and_label_together_and_the_padding_last() -> None:
    torch.manual_seed(1)
    plain, starts = batch_of(), set()
    for _ in range(40):
        made = augmented(batch_of(), mirror=False, roll=True)
        assert made.labels is not None
        assert made.labels.equal(made.audio[..., 0].long())
        assert made.visual[..., 0, 0, 0].equal(made.audio[..., 0] * 3)
        assert made.audio[1, 2:].equal(plain.audio[1, 2:])
        first, second = (made.audio[i, :n, 0].tolist() for i, n in ((0, 4), (1, 2)))
        start = int(first[0])
        assert first == [*range(start, 4), *range(start)]
        starts.add((start, int(second[0])))
    assert len(starts) == 8


def test_rare_classes_weigh_more() -> None:
    labels = torch.tensor([[0, 0, 0, 0], [0, 0, 1, -1], [2, 2, -1, -1]])
    weights = rarity(labels, 2)
    torch.testing.assert_close(weights, torch.tensor([9 / 6, (9 / 6 * 2 + 9) / 3, 9 / 2]))


@pytest.mark.parametrize("values", [{"mirror": True, "roll": True, "balance": 0.5}])
def test_varied_trainings_resume_to_the_same_weights(
    values: dict[str, Any], tmp_path: Path
) -> None:
    data, recipe = make_dataset(unequal=True), replace(QUICK, **values)
    whole = fit("linear", data, recipe=recipe)

    def stop(record: dict[str, Any], _: int) -> None:
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(Stopped):
        fit("linear", data, recipe=recipe, out=tmp_path, progress=stop)
    rest = fit("linear", data, recipe=recipe, out=tmp_path, resume=True)
    assert rest.history == whole.history
    for name, weight in whole.trained.network.state_dict().items():
        assert rest.trained.network.state_dict()[name].equal(weight)


# ---- folds


def clips(*, drawn: bool = True) -> Dataset:
    return replace(make_dataset(unequal=True), drawn=drawn)


def test_what_is_shared_out_keeps_a_named_test_split_apart() -> None:
    assert pool(clips()) == ("train", "val", "test")
    assert pool(clips(drawn=False)) == ("train", "val")
    whole = pooled(clips())
    assert len(whole) == 42 and len(set(whole.ids)) == 42
    data = clips()
    short = replace(
        data.val, labels=data.val.labels[:, :5], audio=data.val.audio[:, :5],
        visual=data.val.visual[:, :5], lengths=np.minimum(data.val.lengths, 5),
    )  # fmt: skip
    both = pooled(replace(data, splits={**data.splits, "val": short}))
    assert both.labels.shape == (42, 6) and (both.labels[24:33, 5] == -1).all()


def test_folds_keep_recordings_whole_and_every_class_everywhere() -> None:
    data = clips()
    whole = pooled(data)
    pairs = {name: f"video{i // 2}" for i, name in enumerate(whole.ids)}
    data = replace(data, recordings=pairs)
    parts = assign_folds(data, whole, 5, seed=0)
    assert sorted(np.concatenate(parts).tolist()) == list(range(42))
    owners = [{pairs[whole.ids[i]] for i in part} for part in parts]
    assert sum(map(len, owners)) == len(set.union(*owners)) == 21
    for part in parts:
        assert set(range(3)) <= set(whole.labels[part].ravel().tolist())
    again, other = (assign_folds(data, whole, 5, seed=s) for s in (0, 1))
    assert all(a.tolist() == b.tolist() for a, b in zip(parts, again, strict=True))
    assert any(a.tolist() != b.tolist() for a, b in zip(parts, other, strict=True))


def test_a_class_of_two_recordings_never_shares_a_fold() -> None:
    labels = np.array([[0, 2]] * 8 + [[1, 2]] * 2)
    split = Split(
        "all", tuple("abcdefghij"), np.zeros((10, 2, 1)), np.zeros((10, 2, 1, 1, 1)),
        np.full(10, 2), labels,
    )  # fmt: skip
    data = Dataset("x", ("often", "rare"), {"train": split})
    for seed in range(10):
        parts = assign_folds(data, split, 5, seed=seed)
        assert sorted(map(len, parts)) == [2] * 5
        assert max((labels[p] == 1).any(1).sum() for p in parts) == 1


def test_wrong_numbers_of_folds_are_said() -> None:
    data = clips()
    with pytest.raises(UsageError, match="--folds must be at least 2, got 1"):
        assign_folds(data, pooled(data), 1, seed=0)
    with pytest.raises(DataError, match="43 folds need 43 recordings, the data have 42"):
        assign_folds(data, pooled(data), 43, seed=0)
    with pytest.raises(UsageError, match="cml can't be cross-validated"):
        cross_validate("cspa_csea", data, 3, task="cml")


def test_every_clip_is_judged_by_a_model_that_has_not_seen_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []

    def watch(model: str, data: Dataset, **rest: Any) -> Any:
        seen.append((set(data.train.ids), set(data.val.ids), rest["recipe"].patience))
        return fit(model, data, **rest)

    monkeypatch.setattr("avel.evaluation.cross_validation.fit", watch)
    found = cross_validate("linear", clips(), 3, recipe=replace(QUICK, lr=0.05, patience=1))
    assert [len(t & v) for t, v, _ in seen] == [0, 0, 0]
    assert set.union(*(v for _, v, _ in seen)) == set(pooled(clips()).ids)
    assert {p for *_, p in seen} == {0}
    assert found["segment_accuracy"].mean > 0.8
    assert 1 <= found.epochs <= 3 and sum(f.clips for f in found.folds) == 42


def test_a_folds_epoch_is_chosen_on_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    curves = iter([[0.2, 0.9, 0.1], [0.1, 0.2, 0.8], [0.1, 0.2, 0.8]])

    class Made:
        def __init__(self) -> None:
            values = next(curves)
            self.history = [
                {"epoch": i + 1, "loss": 0.0, "segment_accuracy": v, "event_f1_0.5": v}
                for i, v in enumerate(values)
            ]

    monkeypatch.setattr("avel.evaluation.cross_validation.fit", lambda *_, **__: Made())
    found = cross_validate("linear", clips(), 3, recipe=QUICK)
    assert [f.epoch for f in found.folds] == [3, 2, 2]
    assert found["segment_accuracy"].values == (0.1, 0.2, 0.2)
    assert found.epochs == 3


def test_constant_answers() -> None:
    labels = np.array([[0, 0, 0, 2], [1, 2, 2, -1], [2, 2, -1, -1]])
    split = Split("val", ("a", "b", "c"), labels, labels, np.array([4, 3, 2]), labels)
    found = {k: v["segment_accuracy"] for k, v in constant_baselines(split, 2, 1.0).items()}
    assert found == {
        "always_background": pytest.approx(5 / 9),
        "most_frequent_class": pytest.approx(3 / 9),
        "true_clip_class": pytest.approx(6 / 9),
    }


def test_the_last_model_is_trained_on_everything_for_the_epochs_that_folds_suggest() -> None:
    found = cross_validate("linear", clips(), 3, recipe=QUICK)
    run = fit_all("linear", clips(), replace(found, epochs=2), recipe=QUICK)
    assert len(run.history) == 2 and run.best["epoch"] == 2
    assert "segment_accuracy" not in run.history[-1]  # nothing is left to validate on
    assert run.best["value"] == found["segment_accuracy"].mean
    assert len(run.trained.train_ids or ()) == 42
    kept = fit_all("linear", clips(drawn=False), found, recipe=QUICK)
    assert not set(kept.trained.train_ids or ()) & set(kept.data.test.ids)


# ---- the command


def test_the_recipe_is_chosen_by_size_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_folder(tmp_path / "clips", make_dataset())
    train = ["train", "linear", f"data={root}", "epochs=1", "precision=float32"]
    told = {}
    for name, more in (("size", []), ("paper", ["--recipe", "paper"]), ("over", ["lr=0.5"])):
        assert main([*train, *more, "-o", str(tmp_path / name)]) == 0
        told[name] = capsys.readouterr().out
    held = {n: json.loads((tmp_path / n / "card.json").read_text())["recipe"] for n in told}
    assert "24 clips: small-data recipe (standardised features" in told["size"]
    assert "small-data" not in told["paper"]
    assert held["size"]["standardize"] and not held["paper"]["standardize"]
    assert held["over"]["lr"] == 0.5 and held["over"]["standardize"]
    (tmp_path / "own.toml").write_text(to_toml(Recipe(batch=4)))
    assert main([*train, "--recipe", str(tmp_path / "own.toml"), "-o", str(tmp_path / "own")]) == 0
    assert "small-data" not in capsys.readouterr().out
    monkeypatch.setattr("avel.training.recipes.SMALL", 24)
    assert main([*train, "-o", str(tmp_path / "large")]) == 0
    assert "small-data" not in capsys.readouterr().out
    assert SMALL == 300


def test_what_measured_otherwise_for_a_model_goes_over_the_small_recipe() -> None:
    assert resolve("av", small=True).input_dropout == 0.5
    assert resolve("linear", small=True).input_dropout == 0
    assert resolve("linear", small=True, pairs=["input_dropout=0.1"]).input_dropout == 0.1
    options = resolve("evidence", small=True, pairs=["clip=0"]).options
    assert options["linear"] and options["clip"] == 0
    assert not resolve("evidence").options
    text = small_recipe_text(resolve("evidence", small=True), 20)
    assert "linear=true" in text and "batches of 8" in text


def test_folds_by_command_in_one_go_or_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_folder(tmp_path / "clips", make_dataset())
    table = root / "annotations.csv"
    lines = [line.split(",") for line in table.read_text().splitlines()]
    assert lines[0][4] == "split"
    table.write_text("\n".join(",".join(line[:4]) for line in lines) + "\n")  # none is named
    train = ["train", "linear", f"data={root}", "epochs=2", "precision=float32"]
    assert main([*train, "-o", str(tmp_path / "plain")]) == 0
    told = capsys.readouterr().out
    assert "42 files: 4 of validation and 8 of test are too few; --folds 5 cross-" in told
    other = shutil.copytree(root, tmp_path / "other")
    for data, count in ((root, 8), (other, 42)):  # the drawn test split; other clips, all of them
        out = tmp_path / "evaluated.json"
        assert main(["evaluate", str(tmp_path / "plain"), f"data={data}", "-o", str(out)]) == 0
        assert json.loads(out.read_text())["clips"] == count
    capsys.readouterr()
    whole = tmp_path / "whole"
    assert main([*train, "--folds", "3", "-o", str(whole)]) == 0
    told = capsys.readouterr().out
    assert "3 folds over 42 clips of 42 files" in told and "true clip class" in told
    assert "always background" in told and "±" in told and "--folds 5" not in told
    rows = list(csv.DictReader((whole / "folds.csv").open()))
    assert len(rows) == 3 * 4 and {r["fold"] for r in rows} == {"1", "2", "3"}
    assert len(json.loads((whole / "folds.json").read_text())["folds"]) == 3
    _evaluates_and_tunes(whole, told, capsys)

    import avel.training.loop as loop

    stopped, calls = tmp_path / "stopped", []
    run = loop._Loop.run

    def broken(self: Any, *args: Any, **rest: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise Stopped("stopped; continue with --resume")
        return run(self, *args, **rest)

    monkeypatch.setattr(loop._Loop, "run", broken)
    assert main([*train, "--folds", "3", "-o", str(stopped)]) == 130
    assert "--resume" in capsys.readouterr().err
    assert main([*train, "--folds", "3", "-o", str(stopped), "--resume"]) == 0
    for name in ("folds.csv", "folds.json", "history.csv", "model.safetensors"):
        assert (stopped / name).read_bytes() == (whole / name).read_bytes(), name
    assert main([*train, "--folds", "3", "-o", str(whole)]) == 2
    assert "--resume" in capsys.readouterr().err


def _evaluates_and_tunes(run: Path, trained: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that was trained on all clips: its folds are its evaluation, and nothing tunes it."""
    out = run / "evaluation"
    arguments = ["evaluate", str(run), "-o", f"{out}.csv", "-o", f"{out}.json"]
    assert main(arguments) == 0
    evaluated = capsys.readouterr().out
    assert "3 folds over 42 clips" in evaluated and evaluated.strip() in trained
    assert "other data" not in evaluated and "LEAK" not in evaluated
    assert Path(f"{out}.csv").read_bytes() == (run / "folds.csv").read_bytes()
    assert Path(f"{out}.json").read_bytes() == (run / "folds.json").read_bytes()
    assert main(["evaluate", str(run), "--reliability", f"{out}.png"]) == 2
    assert "was trained on all clips of test" in capsys.readouterr().err
    card = (run / "card.json").read_bytes()
    assert main(["tune", str(run)]) == 2
    message = capsys.readouterr().err
    assert "was trained on 4 of the 4 validation clips" in message and "without --folds" in message
    assert (run / "card.json").read_bytes() == card


def test_saved_folds_are_loaded(tmp_path: Path) -> None:
    assert Folds.load(tmp_path) is None
    numbers = {"segment_accuracy": 0.5, "event_f1_0.5": math.nan}
    fold = Fold(0, 1, 3, 9, 2, numbers, {"always_background": numbers})
    folds = Folds("linear", "sel", "made-up", 3, 3, (fold,), 2)
    folds.save(tmp_path)
    path = tmp_path / "folds.json"
    saved = path.read_text()
    for text in (saved, saved.replace('"baselines"', '"constant"')):  # its older name
        path.write_text(text)
        loaded = Folds.load(tmp_path)
        assert loaded is not None and str(loaded) == str(folds)
        assert loaded.rows() == folds.rows() and loaded.to_json() == folds.to_json()
    for damaged in ("{", "[]", '{"folds": [1]}', saved.replace('"epoch"', '"epochs"')):
        path.write_text(damaged)
        with pytest.raises(CheckpointError, match=r"folds\.json can't be read"):
            Folds.load(tmp_path)


def test_folds_of_several_seeds_and_of_cml(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folder(tmp_path / "clips", make_dataset())
    train = ["train", "linear", f"data={root}", "epochs=1", "precision=float32", "--folds", "2"]
    assert main([*train, "--seeds", "2", "-o", str(tmp_path / "run")]) == 0
    told = capsys.readouterr().out
    assert "2 folds, 2 times" in told and "split test" in told  # the named test split is judged
    rows = list(csv.DictReader((tmp_path / "run" / "folds.csv").open()))
    assert {(r["seed"], r["fold"]) for r in rows} == {(s, f) for s in "01" for f in "12"}
    assert (tmp_path / "run" / "seed-1" / "model.safetensors").is_file()
    assert main(["evaluate", str(tmp_path / "run")]) == 0
    again = capsys.readouterr().out
    folds, evaluated = again.split("\n\n", 1)
    assert folds in told and "2 folds, 2 times" in folds
    assert "split test, 9 clips" in evaluated and evaluated.split("\n\n")[1] in told
    assert "other data" not in again and "LEAK" not in again
    assert main(["train", "cspa_csea", f"data={root}", "task=cml", "--folds", "2"]) == 2
    assert "leave --folds out" in capsys.readouterr().err
