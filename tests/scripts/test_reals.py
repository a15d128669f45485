"""Real clips with hand-made truth: how timelines are judged, and the tables of the results."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from avel.figures.curves import read_rows
from avel.types import Event, Features, Grid, Scores
from tests.conftest import ROOT, load_script


@pytest.fixture(scope="module")
def clips() -> ModuleType:
    return load_script("real_clips")


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    return load_script("reals_table")


def features(seconds: float) -> Features:
    count = len(Grid(seconds))
    here = np.ones(count, bool)
    return Features(np.zeros((count, 1)), np.zeros((count, 1, 1, 1)), Grid(seconds), here, here)


def scores(values: list[list[float]], names: tuple[str, ...]) -> Scores:
    table = np.array([[*row, 1 - max(row)] for row in values], np.float32)
    return Scores(table, names, Grid(float(len(table))), table.argmax(1))


def test_a_segment_belongs_to_what_covers_half_of_it(clips: ModuleType) -> None:
    events = [Event(0.5, 2.4, "a"), Event(2.6, 2.9, "b"), Event(0, 4, "unlisted")]
    table = clips.in_segments(events, ["a", "b"], Grid(3.5))
    assert table[:, 0].tolist() == [True, True, False, False]
    assert not table[:, 1].any()


def test_two_halves_of_a_segment_are_the_whole(clips: ModuleType) -> None:
    table = clips.in_segments([Event(0, 0.3, "a"), Event(0.7, 1, "a")], ["a"], Grid(1.0))
    assert table.tolist() == [[True]]


def test_an_event_is_matched_once(clips: ModuleType) -> None:
    truth = [Event(0, 4, "a"), Event(5, 6, "a"), Event(0, 4, "b")]
    assert clips.matches([Event(0, 3, "a"), Event(1, 4, "a")], truth, 0.5) == 1
    assert clips.matches([Event(0, 2, "a"), Event(5, 6, "a")], truth, 0.5) == 2
    assert clips.matches([Event(0, 1.9, "a")], truth, 0.5) == 0
    assert clips.matches([Event(0, 4, "c")], truth, 0.1) == 0


def test_clips_are_judged(clips: ModuleType) -> None:
    right = clips.Clip("right", features(2), (Event(0, 2, "a"),))
    wrong = clips.Clip("wrong", features(2), (Event(0, 1, "a"),))
    empty = clips.Clip("empty", features(1), ())
    found = {
        "right": [Event(0, 2, "a", 0.9)],
        "wrong": [Event(0, 1, "b", 0.9)],
        "empty": [Event(0, 1, "b", 0.6)],
    }
    given = {
        "right": scores([[0.9, 0.1], [0.8, 0.1]], ("a", "b")),
        "wrong": scores([[0.6, 0.9], [0.7, 0.2]], ("a", "b")),
        "empty": scores([[0.1, 0.6]], ("a", "b")),
    }
    result = clips.judge(found, given, [right, wrong, empty], ["a", "b"])
    assert (result["tags"], result["detected"], result["clips"]) == (2, 1, 2)
    assert (result["false"], result["others"]) == (1, 1)
    assert result["segment_f1"] == pytest.approx(2 * 2 / (4 + 3))
    assert result["event_f1_50"] == pytest.approx(2 * 1 / (3 + 2))


def test_truth_is_read(clips: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_text("file,start,end,label\nb.mp4,1,2,x\nb.mp4,0,1,y\n")
    assert clips.read_truth(tmp_path) == {"b.mp4": (Event(0, 1, "y"), Event(1, 2, "x"))}


def test_what_was_measured_holds_together() -> None:
    rows = read_rows(ROOT / "results" / "reals.csv")
    assert [(r["numbers"], r["modality"]) for r in rows] == [
        (n, m) for n in ("shipped", "cross-validated") for m in ("both", "audio", "visual")
    ]
    for row in rows:
        assert int(row["detected"]) <= int(row["clips"]) and int(row["false"]) <= int(row["others"])
        assert all(0 <= float(row[k]) <= 1 for k in row if "_f1" in k) and row["cpu"]


def test_the_page_holds_the_table(tables: ModuleType) -> None:
    table = tables.main_table(read_rows(ROOT / "results" / "reals.csv"))
    assert table in (ROOT / "docs/named-events.md").read_text("utf-8"), "run scripts/reals_table.py"


def test_the_readme_says_what_was_measured() -> None:
    text = " ".join((ROOT / "README.md").read_text("utf-8").split())
    row = next(
        r for r in read_rows(ROOT / "results" / "reals.csv")
        if (r["numbers"], r["modality"]) == ("cross-validated", "both")
    )  # fmt: skip
    clips, of = int(row["clips"]) + int(row["others"]), row["clips"]
    assert (
        f"On {clips} real clips it names the right event in {row['tags']} of {of} clips that hold "
        f"one, and a false event in {row['false']} of the {row['others']} others; segment "
        f"F1 {float(row['segment_f1']):.2f},"
    ) in text
    speed = next(
        r for r in read_rows(ROOT / "results" / "real_time.csv") if r["unit"] == "times real time"
    )
    assert speed["cores"] == "2"
    assert f"takes {60 / float(speed['median']):.0f} seconds on two cores" in text


def test_the_page_holds_the_labels(tables: ModuleType) -> None:
    table = tables.label_table(read_rows(ROOT / "results" / "reals_labels.csv"))
    assert table in (ROOT / "docs/named-events.md").read_text("utf-8"), "reals_table.py --labels"
