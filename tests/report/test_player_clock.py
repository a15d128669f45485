"""Subtitles tell a browser's time, everything else the file's; both ways."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from avel import clock
from avel.cli.main import main
from avel.formats import on_file, read
from avel.media.file import open_media
from avel.media.probe import player_start_of
from avel.types import Event, Timeline
from tests.data.rows import read_rows
from tests.media_files import grey, mux, tone

EVENTS = (Event(1.0, 3.0, "bell", 1.0), Event(4.25, 5.0, "bark", 1.0))


def late_clip(path: Path, *, start: float = 7.0) -> Path:
    pictures = [(start + i / 10, grey(20 + i)) for i in range(60)]
    return mux(path, pictures=pictures, sounds=[(start, tone(6, 48000))], rate=48000, audio="aac")


def timeline(video: Path) -> Timeline:
    late = player_start_of(video)
    return Timeline(str(video), EVENTS, 6.0, ("bell", "bark"), player_start=late)


def same(events: Timeline, expected: tuple[Event, ...] = EVENTS) -> bool:
    return len(events) == len(expected) and all(
        (a.start, a.end, a.label)
        == (pytest.approx(b.start, abs=1e-3), pytest.approx(b.end, abs=1e-3), b.label)
        for a, b in zip(events, expected, strict=True)
    )


@pytest.mark.parametrize(
    ("container", "start", "player"),
    [("mov,mp4,m4a,3gp,3g2,mj2", 7.0, 7.0), ("matroska,webm", 6.9, 6.9), ("ogg", 7.0, 7.0),
     ("mpegts", 1.4, 0.0), ("mpeg", 0.5, 0.0), ("avi", 0.0, 0.0), ("mp3", 0.025, 0.0),
     ("matroska,webm", -0.02, 0.0)],
)  # fmt: skip
def test_which_containers_a_browser_begins_late(
    container: str, start: float, player: float
) -> None:
    assert clock.player_start(container, start) == player


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov"])
def test_the_header_alone_says_what_a_probe_says(tmp_path: Path, name: str) -> None:
    clip = late_clip(tmp_path / name)
    assert player_start_of(clip) == open_media(clip).player_start == pytest.approx(7, abs=0.05)
    assert player_start_of(tmp_path / "none.mp4") == 0.0


@pytest.mark.parametrize("ending", [".vtt", ".srt"])
def test_subtitles_are_read_as_they_are_written(tmp_path: Path, ending: str) -> None:
    original = timeline(late_clip(tmp_path / "a.mkv"))
    path = tmp_path / f"a{ending}"
    original.save(path)
    raw = read(path)
    assert raw.events[0].start == pytest.approx(1 + original.player_start, abs=1e-3)
    assert same(on_file(raw, path, original.player_start))


@pytest.mark.parametrize("ending", [".vtt", ".srt"])
def test_a_models_subtitles_of_a_late_file_stay_a_models(tmp_path: Path, ending: str) -> None:
    original = replace(timeline(late_clip(tmp_path / "a.mkv")), model={"model": "named_events"})
    path = tmp_path / f"a{ending}"
    for _ in range(2):  # and are written over by the next
        original.save(path)
        raw = read(path)
        assert raw.predicted and on_file(raw, path, original.player_start).predicted


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".json", ".selections.txt", ".eaf", ".otio"])
def test_other_labels_keep_the_files_own_time(tmp_path: Path, ending: str) -> None:
    original = timeline(late_clip(tmp_path / "a.mkv"))
    path = tmp_path / f"a{ending}"
    original.save(path)
    assert same(on_file(read(path), path, original.player_start))


def test_json_keeps_what_the_player_calls_second_0(tmp_path: Path) -> None:
    original = timeline(late_clip(tmp_path / "a.mp4"))
    original.save(tmp_path / "a.json")
    assert read(tmp_path / "a.json").player_start == original.player_start
    replace(original, player_start=0.0).save(tmp_path / "b.json")
    assert "player_start" not in (tmp_path / "b.json").read_text()


def test_cues_before_the_file_are_left_out_with_a_note(tmp_path: Path) -> None:
    path = tmp_path / "a.vtt"
    cues = ["00:01.000 --> 00:02.000\nearly", "00:06.000 --> 00:08.000\nat the edge"]
    path.write_text("WEBVTT\n\n" + "\n\n".join(cues) + "\n")
    loaded = on_file(read(path), path, 7.0)
    assert [(e.start, e.end) for e in loaded] == [(0.0, 1.0)]
    assert any("Left out: 1 of 2 events" in note for note in loaded.notes)


def test_convert_goes_by_the_videos_clock(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    original = timeline(late_clip(tmp_path / "a.mkv"))
    original.save(tmp_path / "a.vtt")
    assert main(["convert", str(tmp_path / "a.vtt"), "-o", str(tmp_path / "b.csv")]) == 0
    assert same(read(tmp_path / "b.csv"))
    video = ["--video", str(tmp_path / "a.mkv")]
    assert main(["convert", str(tmp_path / "b.csv"), "-o", str(tmp_path / "b.srt"), *video]) == 0
    assert read(tmp_path / "b.srt").events[0].start == pytest.approx(
        1 + original.player_start, abs=2e-3
    )
    capfd.readouterr()


def test_training_reads_subtitles_on_the_clips_clock(tmp_path: Path) -> None:
    original = timeline(late_clip(tmp_path / "a.mp4"))
    original.save(tmp_path / "a.vtt")
    rows, mistakes = read_rows(tmp_path)
    assert not mistakes
    times = [(r.start, r.end, r.label) for r in rows]
    assert times == [
        (pytest.approx(e.start, abs=1e-3), pytest.approx(e.end, abs=1e-3), e.label) for e in EVENTS
    ]
