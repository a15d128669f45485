"""`avel localize`: outputs, exit codes, what stands on the terminal. The model is a stand-in."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from avel import report
from avel.cli._outputs import FLAGS, named_output, output_paths, split_outputs, table_paths
from avel.cli.main import build_app, main
from avel.errors import MediaError, UsageError
from avel.features.listing import named_files
from avel.inference import localizer as localization
from avel.types import MODALITIES, Event, Timeline
from tests.report_samples import hand_timeline, lane_timeline

REAL = localization.Localizer  # before the stand-in takes its place


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("localize a.mp4 -o a.json a.html", "localize a.mp4 -o a.json -o a.html"),
        ("match --query q --in a b --top 3", "match --query q --in a --in b --top 3"),
        ("match --query q --in a b -o x y", "match --query q --in a --in b -o x -o y"),
        ("localize -q a -o b c", "localize -q a -o b -o c"),
        ("localize a b -o .json .html --model m", "localize a b -o .json -o .html --model m"),
        ("localize a --output x y -o z", "localize a --output x -o y -o z"),
        ("localize -o a.json --json a", "localize -o a.json --json a"),
        ("localize a -o b c -- -d e", "localize a -o b -o c -- -d e"),
        ("localize -- -o b c", "localize -- -o b c"),
        ("localize", "localize"),
        ("localize a -o", "localize a -o"),
        ("train x -o a b", "train x -o a b"),
        ("", ""),
    ],
)
def test_one_o_takes_several_values(call: str, expected: str) -> None:
    assert split_outputs(call.split()) == expected.split()


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("localize -o x.html clip.mp4", "localize -o x.html clip.mp4"),
        ("localize -o x.html y.json clip.mp4", "localize -o x.html -o y.json clip.mp4"),
        ("localize -o .json .vtt day", "localize -o .json -o .vtt day"),
        ("localize -o x.html clip.mp4 y.vtt", "localize -o x.html clip.mp4 -o y.vtt"),
        ("localize -o copy.mp4 clip.mp4", "localize -o copy.mp4 clip.mp4"),
        ("localize -o x.html copy.mp4 clip.mp4", "localize -o x.html -o copy.mp4 clip.mp4"),
        ("localize --model m -o x.html clip.mp4", "localize --model m -o x.html clip.mp4"),
        ("localize --untuned -o x.html clip.mp4", "localize --untuned -o x.html clip.mp4"),
        ("localize a -o x.html clip.mp4", "localize a -o x.html -o clip.mp4"),
        ("localize --stream a -o x.html clip.mp4", "localize --stream a -o x.html -o clip.mp4"),
        ("localize -o x.html clip.mp4 -- b.mp4", "localize -o x.html -o clip.mp4 -- b.mp4"),
        ("localize -o x.html gone.mp4", "localize -o x.html gone.mp4"),
        ("convert -o x.vtt in.eaf", "convert -o x.vtt in.eaf"),
        ("convert -o x.vtt y.srt in.eaf", "convert -o x.vtt -o y.srt in.eaf"),
        ("evaluate -o x.csv day task=sel", "evaluate -o x.csv day task=sel"),
        ("evaluate -o x.csv y.json day", "evaluate -o x.csv -o y.json day"),
    ],
)
def test_inputs_behind_the_outputs_are_inputs(call: str, expected: str) -> None:
    """Where the call names none elsewhere: files and folders that exist, of the verb's kind."""
    Path("day").mkdir()
    for name in ("clip.mp4", "in.eaf"):
        Path(name).touch()
    assert split_outputs(call.split()) == expected.split()


def test_all_flags_are_known() -> None:
    import typer

    commands = typer.main.get_command(build_app()).commands  # type: ignore[attr-defined]
    options = [p for v in ("localize", "convert", "match", "evaluate") for p in commands[v].params]
    flags = {n for p in options if getattr(p, "is_flag", False) for n in p.opts}
    assert flags <= FLAGS


def test_outputs_go_where_they_are_told(tmp_path: Path) -> None:
    a, b = Path("clips/a.mp4"), Path("clips/b.v2.mkv")
    assert output_paths([a], ["x.json", "y/x.html"]) == {a: [Path("x.json"), Path("y/x.html")]}
    assert output_paths([a, b], [".json", ".HTML"]) == {
        a: [Path("clips/a.json"), Path("clips/a.HTML")],
        b: [Path("clips/b.v2.json"), Path("clips/b.v2.HTML")],
    }
    assert output_paths([a, b], ["out"]) == {a: [Path("out/a.json")], b: [Path("out/b.v2.json")]}
    assert output_paths([a], [str(tmp_path), ".csv"]) == {a: [tmp_path / "a.csv"]}
    assert output_paths([a], [".mp4"]) == {a: [Path("clips/a.events.mp4")]}, (
        "never the video's own name"
    )
    assert output_paths([a], []) == {a: []}
    sound = Path("clips/a.wav")
    assert output_paths([a, sound], [".vtt"]) == {
        a: [Path("clips/a.mp4.vtt")],
        sound: [Path("clips/a.wav.vtt")],
    }


@pytest.mark.parametrize(
    ("videos", "outputs", "message"),
    [
        (["a.mp4", "b.mp4"], ["x.json"], "one output x.json can't hold 2 videos"),
        (["a.mp4"], ["x.docx"], "no writer"),
        (["a.mp4"], ["x.json", "x.json"], "written twice"),
        (["p/a.mp4", "q/a.mp4"], ["out"], "written twice"),
        (["a.mp4"], ["one", "two"], "two output folders, one and two"),
    ],
)
def test_unclear_outputs_are_refused(videos: list[str], outputs: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        output_paths([Path(v) for v in videos], outputs)


class Finder:
    """A localizer that fails for files whose name begins with ``bad`` and finds two events."""

    def __init__(
        self,
        model: object,
        *,
        events: object,
        vocabulary: object,
        cache: bool,
        precision: str,
        device: str,
    ) -> None:
        assert precision == "float32"
        if model != "default":
            raise UsageError(f"no model {model}")
        notes = [] if events is None else [f"{events!r} of {vocabulary}"]
        self.cache, self.model = cache, SimpleNamespace(card={"notes": notes})

    def __call__(self, video: Path, *, progress: Any, **options: Any) -> Timeline:
        progress(1, 2)
        if video.name.startswith("bad"):
            raise MediaError(f"{video}: isn't a media file")
        if options["audio_track"] is not None:
            raise UsageError("no such track")
        changes = {} if self.cache else {"notes": ("not kept",)}
        return hand_timeline(video, [3, 0, 0, 1, 3], **changes)

    def stream(self, video: Path, **options: Any) -> Events:
        return Events(self(video, progress=lambda *counts: None, **options))


class Events:
    """Events that come one by one."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline

    def __iter__(self) -> Iterator[Event]:
        return iter(self._timeline.events)

    def timeline(self) -> Timeline:
        return self._timeline


@pytest.mark.parametrize("table", ["all.csv", "all.tsv", "all.labelstudio.json"])
def test_many_files_go_into_one_table(table: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert table_paths([Path("a.mp4")], [table]) == []
    assert main(["localize", "a.mp4", "bad.mp4", "b.mp4", "-o", table, ".vtt"]) == 1
    assert [(t.video, len(t)) for t in report.read_all(table)] == [("a.mp4", 2), ("b.mp4", 2)]
    assert Path("a.vtt").exists() and Path("b.vtt").exists()
    errors = capsys.readouterr().err
    assert f"wrote {table}" in errors
    assert "2 of 3 files localized, 4 events; 1 of 3 files failed" in errors
    labels = Path(table)
    labels.unlink()
    hand = Timeline("a.mp4", (Event(0, 1, "Bell"),), 5.0, ("Bell",))
    hand.save(labels)
    before = labels.read_bytes()
    assert main(["localize", "a.mp4", "b.mp4", "-o", table]) == 1, "a person's labels"
    assert labels.read_bytes() == before


def test_reports_in_a_folder_get_an_index_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["localize", "a.mp4", "bad.mp4", "b.mp4", "-o", "out", ".json", ".html"]) == 1
    assert "wrote out/index.html" in capsys.readouterr().err
    text = Path("out/index.html").read_text("utf-8")
    assert 'href="a.html"' in text and 'href="b.html"' in text and "bad.html" not in text
    assert "1 file more: not localized." in text
    assert main(["localize", "b.mp4", "-o", "out", ".html"]) == 0
    assert Path("out/index.html").read_text("utf-8") == text, "one file is no folder"
    Path("out/index.html").write_text("a page of mine")
    assert main(["localize", "a.mp4", "b.mp4", "-o", "out", ".html"]) == 0
    assert Path("out/index.html").read_text() == "a page of mine"


def test_ctrl_c_loses_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    find = Finder.__call__

    def stop(self: Finder, video: Path, **options: Any) -> Timeline:
        if video.name == "c.mp4":
            raise KeyboardInterrupt
        return find(self, video, **options)

    monkeypatch.setattr(Finder, "__call__", stop)
    assert main(["localize", "a.mp4", "b.mp4", "c.mp4", "-o", "all.csv"]) == 130
    assert [t.video for t in report.read_all("all.csv")] == ["a.mp4", "b.mp4"]


def test_existing_outputs_are_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["localize", "a.mp4", "-o", ".json", ".vtt"]) == 0
    before = Path("a.json").stat().st_mtime_ns
    assert main(["localize", "a.mp4", "b.mp4", "-o", ".json", ".vtt", "--skip-existing"]) == 0
    assert Path("a.json").stat().st_mtime_ns == before and Path("b.vtt").exists()
    assert "1 of 2 files localized, 2 events; 1 skipped" in capsys.readouterr().err
    Path("a.vtt").unlink()
    assert main(["localize", "a.mp4", "-o", ".json", ".vtt", "--skip-existing"]) == 0
    assert Path("a.vtt").exists(), "one of its outputs was missing"
    assert main(["localize", "a.mp4", "b.mp4", "-o", "out", ".html"]) == 0
    assert main(["localize", "a.mp4", "b.mp4", "-o", "out", ".html", "--skip-existing"]) == 0
    assert "2 skipped" in capsys.readouterr().err
    page = Path("out/index.html").read_text("utf-8")
    assert page.count('class="classes"') == 2 and "localized earlier" not in page
    for call in ("localize a.mp4 --skip-existing", "localize a b -o x.csv --skip-existing"):
        assert main(call.split()) == 2
        assert "--skip-existing needs an output for each video" in capsys.readouterr().err


def test_a_format_by_name_needs_no_ending_of_its_own(tmp_path: Path) -> None:
    assert main(["localize", "a.mp4", "-o", "x.labels", "--format", "csv"]) == 0
    assert Path("x.labels").read_text().startswith("start,end,")
    assert main(["localize", "a.mp4", "-o", "out", "--format", "raven"]) == 0
    assert [p.name for p in Path("out").glob("[!.]*")] == ["a.selections.txt"]


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(localization, "Localizer", Finder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")


def test_the_documented_call(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["localize", "street.mp4", "-o", "street.json", "street.html", "street.csv"]) == 0
    assert json.loads(Path("street.json").read_text())["events"][0]["label"] == "Church bell"
    assert Path("street.html").read_text().startswith("<!doctype html>")
    assert Path("street.csv").read_text().count("\n") == 3
    shown = capsys.readouterr()
    assert "Church bell" in shown.out
    assert "00:00:01.00" in shown.out
    assert "note: picture" in shown.out
    assert "wrote street.html" in shown.out
    (caution,) = shown.err.splitlines()  # no progress bar where nobody watches
    assert caution.startswith("avel: This model is a toy") and caution.endswith("mean nothing.")


def test_a_folder_s_copies_with_events_are_no_videos_of_their_own(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.events.mp4", "b.EVENTS.MP4", "c.events.mkv"):
        (tmp_path / name).touch()
    assert [p.name for p in named_files(tmp_path)] == ["a.mp4", "c.events.mkv"]
    assert named_files(tmp_path / "a.events.mp4") == [tmp_path / "a.events.mp4"], "if named itself"
    assert named_output("a", ".mp4") == "a.events.mp4"


def test_a_folder_stands_for_the_files_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    Path("day/one").mkdir(parents=True)
    for name in ("day/b.mp4", "day/one/a.mp4", "day/notes.txt"):
        Path(name).touch()
    assert main(["localize", "day", "--json"]) == 0
    shown = capsys.readouterr()
    videos = [json.loads(line)["video"] for line in shown.out.splitlines()]
    assert videos == ["day/b.mp4", "day/one/a.mp4"] and shown.err.count("toy") == 1
    assert main(["localize", "day/one", "-o", "-"]) == 2
    assert main(["localize", "day/one", "--format", "raven"]) == 2
    Path("empty").mkdir()
    assert main(["localize", "empty"]) == 1 and "holds no media" in capsys.readouterr().err


def test_json_on_the_terminal_is_one_object_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["localize", "a.mp4", "b.mp4", "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["video"] for line in lines] == ["a.mp4", "b.mp4"]


def test_a_stream_is_a_line_an_event_and_one_at_the_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["localize", "a.mp4", "bad.mp4", "b.mp4", "--stream", "-o", ".csv"]) == 1
    shown = capsys.readouterr()
    lines = [json.loads(line) for line in shown.out.splitlines()]
    assert [(row["video"], row["kind"]) for row in lines] == [
        (name, kind) for name in ("a.mp4", "b.mp4") for kind in ("event", "event", "end")
    ]
    assert lines[0] == {
        "kind": "event", "video": "a.mp4", "start": 1.0, "end": 3.0, "label": "Church bell",
        "score": lines[0]["score"],
    }  # fmt: skip
    assert set(lines[2]) == {"kind", "video", "duration", "events", "notes", "model"}
    assert lines[2]["events"] == 2
    assert Path("a.csv").exists() and Path("b.csv").exists()
    assert "1 of 3 files failed" in shown.err


def test_features_are_kept_unless_told_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["localize", "a.mp4"]) == 0
    assert "not kept" not in capsys.readouterr().out
    assert main(["localize", "a.mp4", "--no-cache"]) == 0
    assert "not kept" in capsys.readouterr().out


def test_one_failing_file_is_named_and_the_others_done(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["localize", "a.mp4", "bad.mp4", "c.mp4", "-o", ".json"]) == 1
    assert Path("a.json").exists()
    assert Path("c.json").exists()
    assert not Path("bad.json").exists()
    errors = capsys.readouterr().err
    assert "bad.mp4: isn't a media file" in errors
    assert "1 of 3 files failed" in errors


def test_an_output_that_can_not_be_written_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    Path("taken").write_text("a file where a folder is expected")
    assert main(["localize", "a.mp4", "-o", "taken/a.json"]) == 1
    errors = capsys.readouterr().err
    assert "taken/a.json can't be written" in errors
    assert "taken is no folder" in errors


def test_a_full_disk_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Timeline, "save", full)
    assert main(["localize", "a.mp4", "b.mp4", "-o", ".json"]) == 1
    errors = capsys.readouterr().err
    assert "a.json can't be written (No space left on device)" in errors
    assert "2 of 2 files failed" in errors


def test_names_can_not_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["localize", "\x1b[31mred.mp4", "bad\x1b]0;t\x07.mp4", "-o", ".json"]) == 1
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err
    assert "\\x1b[31mred.mp4" in shown.out
    assert "bad\\x1b]0;t\\x07.mp4" in shown.err


@pytest.mark.skipif(sys.platform != "linux", reason="file names are text there")
def test_names_that_are_no_text_are_shown_escaped(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(1, "w", encoding="utf-8", errors="strict", closefd=False) as strict:
        monkeypatch.setattr(sys, "stdout", strict)
        assert main(["localize", "x\udcff.mp4", "-o", ".json"]) == 0
    assert "\\udcff.mp4" in capfd.readouterr().out


@pytest.mark.parametrize(
    "call",
    [
        "localize",
        "localize a.mp4 -o a.docx",
        "localize a.mp4 b.mp4 -o a.json",
        "localize a.mp4 --threshold 2",
        "localize a.mp4 --min-duration -1",
        "localize a.mp4 --max-gap -1",
        "localize a.mp4 --low-threshold 0",
        "localize a.mp4 --threshold 0.3 --low-threshold 0.5",
        "localize a.mp4 --model nothing",
        "localize a.mp4 --audio-track 7",
        "localize a.mp4 --nonsense",
        "localize a.mp4 --stream --json",
        "localize a.mp4 --precision fast",
        "localize a.mp4 -o",
    ],
)
def test_wrong_calls_end_with_2(call: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(call.split()) == 2
    assert capsys.readouterr().err
    assert list(Path().iterdir()) == []


def test_labels_with_brackets_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    from avel.cli.localize import _show

    timeline = hand_timeline("[red]a.mp4", [0], notes=("[bold]note",))
    _show(timeline, [Path("[x].json")], as_json=False)
    shown = capsys.readouterr().out
    assert "[red]a.mp4" in shown
    assert "[bold]note" in shown
    assert "[x].json" in shown


def test_a_model_that_is_not_there_is_a_wrong_call(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(localization, "Localizer", REAL)
    assert main(["localize", "a.mp4", "--model", "runs/nothing"]) == 2
    assert "no trained model at 'runs/nothing'" in capsys.readouterr().err


def test_a_name_that_begins_with_a_dash_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from avel.cli.main import _dash_files

    monkeypatch.chdir(tmp_path)
    for name in ("-dash.mp4", "--long.mp4", "-o.mp4"):
        Path(name).write_bytes(b"x")
    words = ["localize", "-dash.mp4", "-o.mp4", "--long.mp4", "-o", ".json", "--", "-dash.mp4"]
    assert _dash_files(words) == [
        "localize", "./-dash.mp4", "-o.mp4", "./--long.mp4", "-o", ".json", "--", "-dash.mp4"
    ]  # fmt: skip
    assert main(["localize", "-dash.mp4"]) == 0
    assert "-dash.mp4" in capfd.readouterr().out
    assert main(["localize", "-none.mp4"]) == 2
    assert "given as ./-none.mp4" in capfd.readouterr().err


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A localizer that finds a bell, a siren that isn't seen and a bark that isn't heard."""

    def find(self: Finder, video: Path, **options: Any) -> Timeline:
        labels = [3] * 8 if video.name.startswith("off") else [3, 3, 0, 0, 3, 3, 3, 3]
        return lane_timeline(video, labels)

    monkeypatch.setattr(Finder, "__call__", find)


SIREN, BARK = ("Siren", "audio"), ("Bark", "visual")


@pytest.mark.parametrize(
    ("modality", "expected"),
    [
        ("both", [("Church bell", "both")]),
        ("audio", [SIREN]),
        ("visual", [BARK]),
        ("all", [BARK, ("Church bell", "both"), SIREN]),
    ],
)
@pytest.mark.usefixtures("apart")
def test_the_modality_chooses_what_is_written(
    modality: str, expected: list[tuple[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = ["a.json", "a.html", "a.eaf", "a.vtt", "a.csv"]
    assert main(["localize", "a.mp4", "--modality", modality, "-o", *outputs]) == 0
    shown = capsys.readouterr().out
    for name in ("a.json", "a.vtt", "a.csv"):
        assert [(e.label, e.modality) for e in report.read(name).events] == expected, name
    assert ("Siren (audio only)" in shown) == (modality in ("audio", "all"))
    message = "note: Heard only: Siren 0:04-0:07. Seen only: Bark 0:00-0:02."
    assert (message in " ".join(shown.split())) == (modality == "both")
    assert ("note: Heard only" in shown) == (modality == "both")
    whole = report.read("a.eaf")  # what has a place of its own for each is written whole
    assert [len(whole.lane(m)) for m in MODALITIES] == [1, 1, 1]
    assert main(["localize", "a.mp4", "--modality", modality, "--json"]) == 0
    events = json.loads(capsys.readouterr().out)["events"]
    assert [(e["label"], e.get("modality", "both")) for e in events] == expected
    assert main(["localize", "a.mp4", "--modality", modality, "--stream"]) == 0
    *lines, end = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    streamed = [(row["label"], row.get("modality", "both")) for row in lines]
    assert sorted(streamed) == sorted(expected) and end["events"] == len(expected)


@pytest.mark.usefixtures("apart")
def test_without_events_the_terminal_says_what_is_heard_only(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["localize", "off.mp4"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "note: No event is both seen and heard. Heard only: Siren 0:04-0:07." in shown


def test_an_unknown_modality_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["localize", "a.mp4", "--modality", "sound"]) == 2
    assert "both, audio, visual, all" in capsys.readouterr().err


@pytest.mark.usefixtures("apart")
def test_convert_chooses_by_modality_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["localize", "a.mp4", "-o", "a.json"]) == 0
    assert main(["convert", "a.json", "a.srt"]) == 0
    assert len(report.read("a.srt")) == 1
    assert main(["convert", "a.json", "-o", "a.srt", "--modality", "all"]) == 0
    assert {e.modality for e in report.read("a.srt")} == set(MODALITIES)
    assert main(["convert", "a.srt", "b.csv"]) == 0  # what the source lists stays
    assert {e.modality for e in report.read("b.csv")} == set(MODALITIES)
    assert main(["convert", "a.srt", "c.csv", "--modality", "sound"]) == 2


def test_events_by_name_are_handed_on_and_their_notes_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["localize", "a.mp4", "--events", "barking", "--vocabulary", "mine.toml"]) == 0
    assert "avel: 'barking' of mine.toml" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--events=dog bark", "--vocabulary=mine.toml"])
def test_events_by_name_of_a_trained_model_are_a_wrong_call(
    option: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(localization, "Localizer", REAL)
    assert main(["localize", "a.mp4", "--model", "toybox", option]) == 2
    errors = capsys.readouterr().err
    assert "model toybox" in errors and "has its own classes" in errors
