"""Timelines to .json and .csv and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avel import report
from avel.errors import DataError, UsageError
from avel.formats import base
from avel.types import Event, Grid, Scores, Timeline

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
probabilities = st.floats(0, 1).map(lambda x: round(x, 6))


@st.composite
def timelines(draw: st.DrawFn) -> Timeline:
    classes = draw(
        st.lists(names.filter(lambda n: n != "background"), min_size=1, max_size=4, unique=True)
    )
    count = draw(st.integers(1, 6))
    step = draw(st.sampled_from([0.25, 1.0, 2.0]))
    grid = Grid(count * step - draw(st.sampled_from([0.0, step / 4])), step)
    events = [
        Event(*sorted(pair), draw(st.sampled_from(classes)), draw(probabilities))
        for pair in draw(st.lists(st.tuples(st.floats(0, 9), st.floats(10, 99)), max_size=4))
    ]
    scores = None
    if draw(st.booleans()):
        row = st.lists(probabilities, min_size=len(classes) + 1, max_size=len(classes) + 1)
        flags = st.lists(st.booleans(), min_size=count, max_size=count).map(np.array)
        scores = Scores(
            values=np.array(draw(st.lists(row, min_size=count, max_size=count))),
            classes=tuple(classes),
            grid=grid,
            labels=np.array(
                draw(st.lists(st.integers(0, len(classes)), min_size=count, max_size=count))
            ),
            audible=draw(st.none() | flags),
            visible=draw(st.none() | flags),
        )
    return Timeline(
        video=draw(names),
        events=tuple(events),
        duration=grid.duration,
        classes=tuple(classes),
        scores=scores,
        model=draw(st.dictionaries(names, names | st.integers() | st.none(), max_size=3)),
        notes=tuple(draw(st.lists(names, max_size=2))),
    )


reuse_folder = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@reuse_folder
@given(timeline=timelines())
def test_json_returns_as_it_went(timeline: Timeline, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    timeline.save(path, overwrite=True)
    back = report.read(path)
    assert back.to_json() == timeline.to_json()
    assert back.events == timeline.events
    if timeline.scores is not None:
        assert back.scores is not None
        np.testing.assert_allclose(back.scores.values, timeline.scores.values, atol=1e-6)
        np.testing.assert_array_equal(back.scores.labels, timeline.scores.labels)


@reuse_folder
@given(timeline=timelines())
def test_csv_returns_the_events(timeline: Timeline, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    timeline.save(path, overwrite=True)
    assert report.read(path).events == timeline.events


def test_csv_is_what_a_spreadsheet_reads(tmp_path: Path) -> None:
    events = (Event(0, 2, "Frying (food)", 0.5), Event(2.5, 3, 'a "b", c', 1))
    Timeline("v.mp4", events, 3.0, ("Frying (food)", 'a "b", c')).save(tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_bytes().decode().splitlines() == [
        "start,end,label,score",
        "0.0,2.0,Frying (food),0.5",
        '2.5,3.0,"a ""b"", c",1.0',
    ]


def test_a_hand_made_csv_with_clock_times_and_without_scores(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("start,end,label\n0:01.5,1:02,dog\n")
    assert report.read(tmp_path / "t.csv").events == (Event(1.5, 62, "dog", 1.0),)


def test_unknown_ending_names_the_known(tmp_path: Path) -> None:
    timeline = Timeline("v.mp4", (), 1.0, ("a",))
    with pytest.raises(UsageError, match=r"\.csv, .*\.html, .*\.json"):
        timeline.save(tmp_path / "t.docx")
    with pytest.raises(UsageError, match=r"one of .*\.json"):
        report.read(tmp_path / "t.html")
    assert not list(tmp_path.iterdir())


def test_nan_scores_are_refused_and_nothing_is_left(tmp_path: Path) -> None:
    values = np.array([[np.nan, 0.5]])
    scores = Scores(values, ("a",), Grid(1.0), np.array([1]))
    with pytest.raises(DataError, match="finite"):
        Timeline("v", (), 1.0, ("a",), scores).save(tmp_path / "t.json")
    assert not list(tmp_path.iterdir())


def good() -> dict[str, Any]:
    scores = Scores(np.array([[0.75, 0.25], [0.5, 0.5]]), ("a",), Grid(2.0), np.array([0, 1]))
    return Timeline("v", (Event(0, 1, "a", 0.75),), 2.0, ("a",), scores).to_json()


def edited(*keys: Any, value: Any) -> str:
    data: Any = good()
    inner = data
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    return json.dumps(data)


HOSTILE = {
    "not json": "{",
    "a list": "[3]",
    "deep": "[" * 100_000,
    "deep object": '{"model":' * 100_000,
    "nan": edited("events", 0, "score", value=float("nan")),
    "infinite": edited("duration", value=float("inf")),
    "overflow": edited("duration", value=1).replace('"duration": 1', '"duration": 1e999'),
    "endless number": edited("duration", value=1).replace('"duration": 1', "9" * 10_000),
    "huge integer": edited("duration", value=10**400),
    "negative time": edited("events", 0, "start", value=-1),
    "event ends before it starts": edited("events", 0, "end", value=0),
    "score above one": edited("events", 0, "score", value=1.5),
    "true as a number": edited("events", 0, "end", value=True),
    "unknown class": edited("events", 0, "label", value="b"),
    "number as a label": edited("events", 0, "label", value=3),
    "long name": edited("video", value="x" * 5000),
    "null events": edited("events", value=None),
    "event no object": edited("events", value=[3]),
    "zero step": edited("step", value=0),
    "no step": edited("step", value=None),
    "tiny step": edited("step", value=1e-300),
    "other count": edited("duration", value=5.0),
    "shifted segment": edited("segments", 1, "start", value=0.5),
    "a class twice": edited("classes", value=["a", "a"]),
    "class called background": edited("classes", value=["background"]),
    "missing score": edited("segments", 0, "scores", value={"a": 1}),
    "half of the flags": edited("segments", 0, "audible", value=True),
    "no segments": json.dumps({k: v for k, v in good().items() if k != "segments"}),
    "model is a text": edited("model", value="m"),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_json_is_refused_by_name(text: str, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"t\.json: no timeline"):
        report.read(path)


def test_the_unedited_json_is_read(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps(good()))
    assert report.read(tmp_path / "t.json").to_json() == good()


@pytest.mark.parametrize(
    "text",
    [
        "a,b\n1,2\n",
        "start,end,label,score\n1,2\n",
        "start,end,label,score\nx,2,a,1\n",
        "start,end,label,score\nnan,2,a,1\n",
        "start,end,label,score\n0,inf,a,1\n",
        "start,end,label,score\n-1,2,a,1\n",
        "start,end,label,score\n2,1,a,1\n",
        "start,end,label,score\n1,2,a,7\n",
        'start,end,label,score\n1,2,"a\n',
        "start,end,label,score\n1,2," + "a" * 200_000 + ",1\n",
    ],
)
def test_hostile_csv_is_refused_by_name(text: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=r"t\.csv: no timeline"):
        report.read(path)


def test_size_encoding_and_absence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.json"
    with pytest.raises(DataError, match="No such file"):
        report.read(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not UTF-16"):
        report.read(path)
    monkeypatch.setattr(base, "MAX_BYTES", 10)
    path.write_text(json.dumps(good()))
    with pytest.raises(DataError, match="more than"):
        report.read(path)


def test_an_interrupted_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.json"
    timeline = Timeline("v.mp4", (), 1.0, ("a",))
    timeline.save(path)
    before = path.read_bytes()

    def full(*args: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="disk full"):
        timeline.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["t.json"]
