"""Pairs-10's scripts: clips are degraded as they say, and the page holds what the results do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avel.data.toybox.dataset import ToyboxPlan, render_clip
from avel.errors import DataError
from avel.experiments.extra_tables import modalities
from avel.inference.load import load_trained
from avel.media.file import RATE, open_media
from avel.training.loop import fit
from tests.conftest import ROOT, load_script
from tests.training_data import make_dataset, small_recipe


@pytest.fixture(scope="module")
def results() -> ModuleType:
    return load_script("pairs_results")


@pytest.fixture(scope="module")
def robustness() -> ModuleType:
    return load_script("pairs_robustness")


# ---- degraded clips


@settings(max_examples=20, deadline=None)
@given(level=st.sampled_from([20.0, 10.0, 0.0]), loud=st.floats(0.01, 1.0))
def test_noise_lies_so_many_decibels_below_the_sound(level: float, loud: float) -> None:
    made = load_script("pairs_robustness")
    sound = (loud * np.sin(np.arange(3 * RATE) / 20)).astype(np.float32)
    noisy = made.degraded_sound(sound, "noise", level, np.random.default_rng(1))
    power = [np.square(x, dtype=np.float64).mean() for x in (sound, noisy - sound)]
    assert 10 * np.log10(power[0] / power[1]) == pytest.approx(level, abs=0.1)


def test_noise_of_silence_is_silence_and_an_offset_shifts(robustness: ModuleType) -> None:
    rng = np.random.default_rng(1)
    silent = np.zeros(RATE, np.float32)
    np.testing.assert_array_equal(robustness.degraded_sound(silent, "noise", 0, rng), silent)
    sound = np.arange(4 * RATE, dtype=np.float32)
    late = robustness.degraded_sound(sound, "offset", 3, rng)
    assert len(late) == len(sound) and not late[: 3 * RATE].any()
    np.testing.assert_array_equal(late[3 * RATE :], sound[:RATE])


def test_dropped_frames_leave_the_last_one_on_screen(robustness: ModuleType) -> None:
    shown = np.arange(24, dtype=np.uint8).reshape(2, 12, 1, 1, 1).repeat(3, -1)
    for level, stale in ((0, 0), (50, 1), (100, 23)):
        rng = np.random.default_rng(3)
        kept = robustness.degraded_picture(shown, "dropped", level, rng, keep=4)[..., 0, 0, 0]
        due = np.array([[0, 3, 6, 9], [12, 15, 18, 21]])
        assert kept.shape == due.shape and (kept <= due).all() and kept[0, 0] == 0
        assert (np.diff(kept.ravel().astype(int)) >= 0).all()
        assert (due - kept).max() >= stale - 2 if stale else (due == kept).all()


def test_blur_keeps_the_mean_and_takes_the_edges(robustness: ModuleType) -> None:
    shown = np.zeros((1, 1, 64, 64, 3), np.uint8)
    shown[..., 32:, :] = 200
    rng = np.random.default_rng(0)
    spread = []
    for level in (1, 4):
        soft = robustness.degraded_picture(shown, "blur", level, rng, keep=4).astype(int)
        assert soft.shape == shown.shape and soft.mean() == pytest.approx(100, abs=3)
        spread.append(((soft > 20) & (soft < 180)).sum())
    assert 0 < spread[0] < spread[1]


def test_a_clip_is_degraded_as_it_is_decoded(robustness: ModuleType, tmp_path: Path) -> None:
    name = render_clip(ToyboxPlan(seed=5, seconds=3, width=64, height=48), 0, tmp_path)
    media = open_media(tmp_path / "videos" / f"{name}.mp4")
    plain = list(media.segments(frames=4, size=32))

    def read(kind: str, level: str) -> list:
        made = robustness.Degraded.of(media, kind=kind, level=level, seed=2)
        return list(made.segments(frames=4, size=32))

    same = read("clean", "")
    np.testing.assert_array_equal([s.audio for s in same], [s.audio for s in plain])
    np.testing.assert_array_equal([s.frames for s in same], [s.frames for s in plain])
    noisy = read("noise", "10")
    assert all(not len(s.frames) and s.n_samples_present for s in noisy)
    assert not np.array_equal(noisy[0].audio, plain[0].audio)
    for kind in ("blur", "dropped"):
        soft = read(kind, "4")
        assert [s.frames.shape for s in soft] == [s.frames.shape for s in plain]
        assert not any(s.n_samples_present for s in soft)
    np.testing.assert_array_equal(
        [s.frames for s in read("dropped", "0")], [s.frames for s in plain]
    )


def test_runs_are_found_by_what_our_tables_call_them(
    robustness: ModuleType, tmp_path: Path
) -> None:
    from avel.experiments.reproduce import reproduce

    pairs = ["epochs=1", "batch=8", "precision=float32", "cspa_csea.common=4",
             "cspa_csea.hidden=8", "cspa_csea.state=4"]  # fmt: skip
    data = make_dataset()
    reproduce(["modalities"], data, out=tmp_path, seeds=(0, 1), only=["sel"], pairs=pairs)
    found = robustness.find_runs(tmp_path)
    assert {len(runs) for runs in found.values()} == {2}
    assert set(found) == {r.name for r in modalities() if r.task == "sel"}
    assert found["CSEA"][1].card["options"]["modules"] == "csea"
    rows = list(robustness.rows_of("clean", "", data.test, {"CSEA": found["CSEA"]}, "made_up"))
    assert rows[0]["n"] == 2 and 0 <= rows[0]["ours_on_made_up"] <= 100
    known = {r["metric"]: r["ours_on_made_up"] for r in rows}
    wrong = data.test.labels.copy()
    wrong[:, -1] = len(data.classes) - wrong[:, -1]  # the last second's truth alone
    other = replace(data.test, labels=wrong)
    rows = list(robustness.rows_of("offset", "1", other, {"CSEA": found["CSEA"]}, "made_up"))
    late = {r["metric"]: r["ours_on_made_up"] for r in rows}
    assert late["segment_accuracy_but_last_1"] == known["segment_accuracy_but_last_1"]
    assert late["segment_accuracy"] != known["segment_accuracy"]
    assert "segment_accuracy_but_last_2" in known and "segment_accuracy_but_last_2" not in late
    reproduce(
        ["modalities"], data, out=tmp_path, only=["sel"], pairs=["batch=4", *pairs[2:], pairs[0]]
    )
    with pytest.raises(DataError, match="several recipes"):
        robustness.find_runs(tmp_path)
    with pytest.raises(DataError, match="no SEL run"):
        robustness.find_runs(tmp_path / "none")


# ---- the default model


def test_a_model_is_judged_over_the_classes_of_both() -> None:
    made = load_script("default_model")
    data = make_dataset()
    run = fit("cspa_csea", data, recipe=small_recipe("sel", "epochs=1")).trained
    own = made.judge(run, data.test, data.classes)
    classes = ("whistle", *reversed(data.classes))
    ids = np.array([3, 2, 1, 4])
    over = replace(data.test, labels=ids[data.test.labels])
    assert made.judge(run, over, classes) == pytest.approx(own, nan_ok=True)


def test_what_ships_is_what_the_results_say_is_best() -> None:
    made = load_script("default_model")
    rows = made.read_rows(ROOT / "results" / "default.csv")
    mixed = [r for r in rows if r["split"] == "val" and "+" in r["evaluated_on"]]
    best = max(mixed, key=lambda r: float(r[made.CHOSEN_BY]))
    card = load_trained("toybox").card
    assert (card["data"]["name"], card["seed"]) == (best["trained_on"], int(best["seed"]))
    shown = (ROOT / "docs" / "results.md").read_text("utf-8")
    assert made.page(rows) in shown, "run it with --page"


# ---- results and the page


def row(system: str, value: str, **more: str) -> dict[str, str]:
    held = {
        "table": "systems", "system": system, "model": "av", "task": "sel", "paper": "", "n": "5",
        "metric": "segment_accuracy", "ours_on_pairs10": value, "sd": "1.25",
    }  # fmt: skip
    return {**held, **more}


def test_a_table_says_what_is_open_and_what_is_real(results: ModuleType) -> None:
    rows = [row("A", "50.0"), row("A", "40.0", metric="video_accuracy"), row("B", "", sd="", n="0"),
            row("C", "61.26", n="3", paper="72.7")]  # fmt: skip
    pair = {"table": "systems", "task": "sel", "order": "table", "second": "C", "gain": "11.26",
            "both_low": "5.0", "both_high": "17.0", "real": "True"}  # fmt: skip
    seeds, first, *_ = results.tables(rows, [pair])
    assert seeds == "Mean ± standard deviation over 5 seeds, in %."
    made = first.splitlines()
    assert made[2] == "| [A](models/av.md) |  | 50.0 ± 1.2 | 40.0 ± 1.2 |  |  |"
    assert made[3].startswith("| [B](models/av.md) |  | open |")
    assert made[4].endswith("| 61.3 ± 1.2 (n = 3) |  |  | **+11.3 (+5.0 to +17.0)** |")


@pytest.mark.parametrize("name", ["pairs10", "pairs10_taggers", "pairs10_copies"])
def test_the_page_holds_the_tables(results: ModuleType, name: str) -> None:
    files = (ROOT / "results" / f"{name}{end}.csv" for end in ("", "_differences"))
    rows, pairs = (results.read_rows(path) for path in files)
    page = (ROOT / "docs" / "pairs10.md").read_text("utf-8")
    assert results.page(page, rows, pairs, name) == page, "run scripts/pairs_results.py"
    degraded = ROOT / "results" / f"{name}_robustness.csv"
    if name != "pairs10":
        assert results.robustness(results.read_rows(degraded)) in page, "run pairs_results.py"


def test_our_model_s_page_holds_what_its_parts_give(results: ModuleType) -> None:
    ablation, bounds = load_script("evidence_ablation"), load_script("evidence_bounds")
    page = ablation.PAGE.read_text("utf-8")
    for name, columns in (
        (ablation.RESULTS, ablation.COLUMNS), (ablation.CML_RESULTS, ablation.CML_METRICS),
        (bounds.RESULTS, bounds.COLUMNS),
    ):  # fmt: skip
        assert ablation.ablation_table(results.read_rows(ROOT / "results" / name), columns) in page


def test_a_bound_s_copies_have_the_degradation_alone(
    robustness: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bounds, data = load_script("evidence_bounds"), make_dataset()
    splits = {"train": data.train, "val": data.val, "test": data.test}

    class Made:
        def __init__(self, root: Path, work: Path) -> None:
            self.split = splits[work.name]

        def __call__(self, ids: Sequence[str], kind: str, level: str) -> tuple[np.ndarray, ...]:
            assert tuple(ids) == self.split.ids and (kind, level) in bounds.DEGRADED.values()
            return 0 * self.split.audio[:], 0 * self.split.visual[:]

    monkeypatch.setattr(bounds, "Features", Made)
    same, noisy, blurred = bounds.variants(data, tmp_path, tmp_path).values()
    assert same is data
    for made, heard, seen in ((noisy, False, True), (blurred, True, False)):
        (copy,) = made.train.copies
        assert bool(copy.audio.any()) is heard and bool(copy.visual.any()) is seen
        np.testing.assert_array_equal(made.train.audio, data.train.audio)
        assert made.val is data.val


# ---- where they look


def test_maps_are_judged_by_the_boxes_of_the_truth(tmp_path: Path) -> None:
    made = load_script("pairs_maps")
    truth = {
        "size": [100, 50], "fps": 2, "segments": ["a", "", "b", "a"],
        "things": [
            {"label": "a", "boxes": [None, [0, 0, 50, 25], *[None] * 5, [50, 25, 100, 50]]},
            {"label": "b", "boxes": [None, [50, 25, 100, 50], *[None] * 6]},
        ],
    }  # fmt: skip
    (tmp_path / "truth").mkdir()
    for name in "xy":
        (tmp_path / "truth" / f"{name}.json").write_text(json.dumps(truth))
    clips = make_dataset().test
    with pytest.raises(ValueError, match="only one clip has a"):
        made.seconds_of(tmp_path, replace(clips, ids=("videos/x.mp4",)))
    at = made.seconds_of(tmp_path, replace(clips, ids=("videos/x.mp4", "videos/y.mp4")))
    assert at.clip.tolist() == [0, 0, 1, 1]
    assert at.second.tolist() == [0, 3, 0, 3], "the second event's thing isn't on screen"
    assert at.swapped.tolist() == [2, 2, 0, 0], "the next second of the other clip"
    assert at.thing[:2].tolist() == [[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]]
    assert [len(r) for r in at.rivals] == [1, 0, 1, 0]
    maps = np.zeros((2, 4, 2, 2), np.float32)
    maps[:, 0, 1, 1] = maps[:, 3, 1, 1] = 1  # first on the rival, then on the thing
    maps[1, 0, 1, 1], maps[1, 0, 0, 0] = 0, 1  # in the second clip on the thing both times
    assert made.judge(maps, at) == {"thing": 0.75, "rival": 0.5, "swapped": 0.5}
    chance = {"thing": 0.25, "rival": 0.25, "swapped": 0.25}
    assert dict(made.baselines(at, 2, 2))["random cell"] == chance


def test_the_page_holds_where_they_look(results: ModuleType) -> None:
    made = load_script("pairs_maps")
    page = (ROOT / "docs" / "pairs10.md").read_text("utf-8")
    for name in results.NAMES:
        rows = results.read_rows(ROOT / "results" / f"{name}_maps.csv")
        assert made.told(rows) in page, "run scripts/pairs_maps.py"
        assert made.page(page, rows, name) == page
