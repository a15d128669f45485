"""The saved types: valid or not made, and the same after a trip to disk. And whole files."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from avel import clock, files
from avel.errors import DataError, UsageError
from avel.types import Event, Features, Grid, Scores, Timeline
from tests.report_samples import lane_timeline


def features(duration: float = 3.4, step: float = 1.0) -> Features:
    rng = np.random.default_rng(0)
    grid = Grid(duration, step)
    return Features(
        audio=rng.normal(size=(len(grid), 5)).astype("f4"),
        visual=rng.normal(size=(len(grid), 2, 3, 4)).astype("f4"),
        grid=grid,
        audible=rng.random(len(grid)) > 0.5,
        visible=rng.random(len(grid)) > 0.5,
        audio_card={"name": "a", "hash": "sha256:1"},
        visual_card={"name": "v", "output": [2, 3, 4]},
        source="straße & <b>.mp4",
        content="ab" * 32,
    )


def scores(classes: tuple[str, ...] = ("bell", "bird")) -> Scores:
    grid = Grid(2.5)
    values = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.2, 0.5, 0.3]])
    return Scores(values, classes, grid, np.array([0, 2, 1]))


@given(duration=st.floats(0.05, 50), step=st.sampled_from([0.25, 0.5, 1.0, 2.0]))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_features_come_back(tmp_path: Path, duration: float, step: float) -> None:
    value = features(duration, step)
    value.save(tmp_path / "f.safetensors")
    back = Features.load(tmp_path / "f.safetensors")
    assert back.grid == value.grid and back.source == value.source and back.content == value.content
    assert back.audio_card == value.audio_card and back.visual_card == value.visual_card
    for name in ("audio", "visual", "audible", "visible"):
        assert np.array_equal(getattr(back, name), getattr(value, name)), name


def test_float16_halves_the_file(tmp_path: Path) -> None:
    value = features(100)
    value.save(tmp_path / "a.safetensors")
    value.save(tmp_path / "b.safetensors", dtype="float16")
    sizes = [(tmp_path / n).stat().st_size for n in ("a.safetensors", "b.safetensors")]
    assert sizes[1] < 0.6 * sizes[0]
    back = Features.load(tmp_path / "b.safetensors")
    assert back.audio.dtype == np.float32
    assert np.abs(back.visual - value.visual).max() < 4e-3


@pytest.mark.parametrize("name", ["audio", "visual", "audible", "visible"])
def test_features_of_another_length_are_refused(name: str) -> None:
    good = vars(features())
    with pytest.raises(DataError) as caught:
        Features(**{**good, name: good[name][:-1]})
    assert "expected" in str(caught.value)


def damaged(tmp_path: Path) -> list[Path]:
    value = tmp_path / "whole.safetensors"
    features().save(value)
    data = value.read_bytes()
    contents = {
        "missing": None,
        "empty": b"",
        "cut": data[: len(data) // 2],
        "header": data[:20],
        "noise": np.random.default_rng(0).bytes(2000),
        "huge header": (2**62).to_bytes(8, "little") + data[8:],
    }
    paths = []
    for name, content in contents.items():
        paths.append(tmp_path / f"{name}.safetensors")
        if content is not None:
            paths[-1].write_bytes(content)
    save_file({"audio": np.zeros((1, 2), "f4")}, tmp_path / "others.safetensors")
    for name, meta in {
        "no dict": [],
        "no grid": {},
        "nonsense grid": {"duration": -1, "step": 0},
        "wrong length": {"duration": 9, "step": 1, "audio_card": {}, "visual_card": {}},
    }.items():
        arrays = {"audio": np.zeros((1, 2), "f4"), "visual": np.zeros((1, 1, 1, 1), "f4")}
        arrays |= {"audible": np.zeros(1, "u1"), "visible": np.zeros(1, "u1")}
        paths.append(tmp_path / f"{name}.safetensors")
        meta = {**meta, "source": ""} if isinstance(meta, dict) else meta
        save_file(arrays, paths[-1], metadata={"avel": json.dumps(meta)})
    return [*paths, tmp_path / "others.safetensors"]


def test_files_that_are_no_features_are_named(tmp_path: Path) -> None:
    for path in damaged(tmp_path):
        with pytest.raises(DataError):
            Features.load(path)


def test_a_failed_save_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    features().save(path)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        features().save(path, dtype="no such type")
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_scores_are_checked() -> None:
    good = vars(scores())
    for wrong in (
        {"values": good["values"][:, :2]},
        {"labels": np.array([0, 1, 3])},
        {"labels": np.array([0, 1])},
        {"attention": np.zeros((2, 7, 7))},
    ):
        with pytest.raises(DataError):
            Scores(**{**good, **wrong})


@pytest.mark.parametrize(("start", "end"), [(1.0, 1.0), (2.0, 1.0), (-1.0, 1.0), (0.0, np.nan)])
def test_events_have_a_length(start: float, end: float) -> None:
    with pytest.raises(DataError):
        Event(start, end, "bell")


def test_grid_refuses_nonsense() -> None:
    for duration, step in [(-1, 1), (1, 0), (np.inf, 1)]:
        with pytest.raises(ValueError, match="expected"):
            Grid(duration, step)


def test_timeline_as_json_and_text() -> None:
    timeline = Timeline("a.mp4", (Event(0, 1, "bell", 0.7),), 2.5, ("bell", "bird"), scores())
    plain = json.loads(json.dumps(timeline.to_json(), allow_nan=False))
    assert [s["label"] for s in plain["segments"]] == ["bell", "background", "bird"]
    assert plain["segments"][2]["end"] == 2.5 and plain["segments"][1]["score"] == 0.8
    assert plain["segments"][0]["scores"] == {"bell": 0.7, "bird": 0.2, "background": 0.1}
    assert plain["events"] == [{"start": 0, "end": 1, "label": "bell", "score": 0.7}]
    assert str(timeline) == f"{clock.format_time(0)} - {clock.format_time(1)}  bell  0.70"
    assert str(Timeline("a.mp4", (), 1.0, ())) == "no events found" and len(timeline) == 1


# --- files ---------------------------------------------------------------------------------------


def test_whole_files(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.txt"
    files.write_whole(target, "ä")
    assert target.read_bytes() == "ä".encode()
    with pytest.raises(RuntimeError), files.whole(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text(encoding="utf8") == "ä"
    assert [p.name for p in target.parent.iterdir()] == ["a.txt"]


def test_file_hash(tmp_path: Path) -> None:
    data = np.random.default_rng(0).bytes(300_000)
    (tmp_path / "a").write_bytes(data)
    assert files.file_hash(tmp_path / "a") == hashlib.sha256(data).hexdigest()
    assert files.file_hash(tmp_path / "a", "md5") == hashlib.md5(data).hexdigest()


def test_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVEL_CACHE", str(tmp_path))
    assert files.cache_folder() == tmp_path
    monkeypatch.setenv("AVEL_CACHE", "")
    assert files.cache_folder() == Path.home() / ".cache" / "avel"


def test_scores_of_one_modality_come_back(tmp_path: Path) -> None:
    heard = np.array([[0.25, np.nan], [0.5, np.nan], [1, np.nan]], "f4")
    value = replace(scores(), audio_scores=heard, visual_scores=heard[::-1])
    value.save(tmp_path / "s.safetensors")
    back = Scores.load(tmp_path / "s.safetensors")
    assert back.audio_scores is not None and back.visual_scores is not None
    np.testing.assert_array_equal(back.audio_scores, heard)
    np.testing.assert_array_equal(back.visual_scores, heard[::-1])
    scores().save(tmp_path / "old.safetensors")
    assert Scores.load(tmp_path / "old.safetensors").audio_scores is None


@pytest.mark.parametrize(
    "wrong", [np.zeros((3, 3)), np.zeros((2, 2)), np.full((3, 2), 1.1), np.full((3, 2), -0.1)]
)
@pytest.mark.parametrize("name", ["audio_scores", "visual_scores"])
def test_scores_of_one_modality_are_valid(name: str, wrong: np.ndarray) -> None:
    with pytest.raises(DataError, match=name):
        replace(scores(), **{name: wrong})


def test_events_know_their_modality() -> None:
    heard = Event(1, 2, "bell", 0.5, "audio")
    assert Event(1, 2, "bell", 0.5).modality == "both"
    assert Event(1, 2, "bell", 0.5).to_json() == {
        "start": 1, "end": 2, "label": "bell", "score": 0.5
    }  # fmt: skip
    assert heard.to_json()["modality"] == "audio"
    assert str(heard).endswith("bell (audio only)  0.50")
    with pytest.raises(DataError, match="sound"):
        Event(1, 2, "bell", 0.5, "sound")  # type: ignore[arg-type]


def test_a_timeline_chooses_by_modality() -> None:
    both = Event(2, 4, "bell", 0.9)
    heard, seen = Event(0, 3, "dog", 0.8, "audio"), Event(2, 3, "car", 0.7, "visual")
    timeline = Timeline("a.mp4", (both,), 5, ("bell", "dog", "car"))
    timeline = replace(timeline, audio_only=(heard,), visual_only=(seen,))
    assert [timeline.lane(m) for m in ("both", "audio", "visual")] == [(both,), (heard,), (seen,)]
    assert timeline.choose("both") == timeline
    assert timeline.choose("audio").events == (heard,)
    assert timeline.choose("visual").events == (seen,)
    every = timeline.choose("all")
    assert every.events == (heard, seen, both) and not every.audio_only and not every.visual_only
    assert every.choose("both") == timeline and every.lane("audio") == (heard,)
    assert "(audio only)" not in str(timeline)
    assert [line.split("  ")[1] for line in str(every).split("\n")] == [
        "bell", "dog (audio only)", "car (visual only)"
    ]  # fmt: skip
    for wrong in ("sound", "all"):
        with pytest.raises(UsageError, match="modality"):
            timeline.lane(wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="modality"):
        timeline.choose("sound")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="audio_only"):
        replace(timeline, audio_only=(seen,))


def test_json_holds_what_is_of_one_modality() -> None:
    timeline = lane_timeline("a.mp4", [3, 3, 0, 0, 3, 3, 3, 3])
    plain = timeline.to_json()
    assert [(e["label"], e["start"], e["modality"]) for e in plain["audio_only"]] == [
        ("Siren", 4, "audio")
    ]
    assert plain["segments"][4]["audio_scores"]["Siren"] == 0.7
    assert plain["segments"][4]["visual_scores"]["Church bell"] is None
    json.dumps(plain, allow_nan=False)


def test_audio_weight_and_lag_come_back(tmp_path: Path) -> None:
    weight, lag = np.array([0, 0.5, 1], "f4"), np.array([[1.5, -2]] * 3, "f4")
    replace(scores(), audio_weight=weight, lag=lag).save(tmp_path / "s.safetensors")
    back = Scores.load(tmp_path / "s.safetensors")
    assert back.audio_weight is not None and back.lag is not None
    np.testing.assert_array_equal(back.audio_weight, weight)
    np.testing.assert_array_equal(back.lag, lag)
    scores().save(tmp_path / "old.safetensors")
    old = Scores.load(tmp_path / "old.safetensors")
    assert old.audio_weight is None and old.lag is None


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("audio_weight", np.zeros((3, 1))),
        ("audio_weight", np.full(3, 1.1)),
        ("lag", np.zeros(3)),
        ("lag", np.full((3, 2), np.inf)),
        ("lag", np.full((3, 2), -4000)),
    ],
)
def test_audio_weight_and_lag_are_valid(name: str, wrong: np.ndarray) -> None:
    with pytest.raises(DataError, match=name):
        replace(scores(), **{name: wrong})


def test_events_have_an_audio_weight_and_a_lag_where_they_are_known() -> None:
    plain, event = Event(1, 2, "bell"), Event(1, 2, "bell", audio_weight=0.7, lag=-1.25)
    assert not {"audio_weight", "lag"} & set(plain.to_json())
    assert event.to_json() == {**plain.to_json(), "audio_weight": 0.7, "lag": -1.25}
    assert str(event) == str(plain) and sorted([event, plain]) == [plain, event]
    for wrong in ({"audio_weight": 1.5}, {"audio_weight": np.nan}, {"lag": np.inf}):
        with pytest.raises(DataError, match=r"audio weight|lag"):
            replace(event, **wrong)
