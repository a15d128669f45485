"""Whose words a label file holds: predictions are marked, and a person's labels are kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from avel import report
from avel.cli.main import main
from avel.errors import DataError
from avel.formats import format_endings
from avel.formats.marks import digest
from avel.inference import localizer as localization
from avel.types import CHOICES, Choice, Event, Timeline
from tests.cli.test_localize import Finder
from tests.report_samples import hand_timeline, lane_timeline

ENDINGS = list(format_endings().values())


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(localization, "Localizer", Finder)


def predicted() -> Timeline:
    return hand_timeline("clip.mp4", [3, 0, 0, 1, 3])


def correct(path: Path) -> None:
    """What a person does in some tool: a class is called something else."""
    text = path.read_text("utf-8")
    assert "Church bell" in text
    path.write_text(text.replace("Church bell", "Gong"), "utf-8")


@pytest.mark.parametrize("ending", ENDINGS)
def test_predictions_are_known_until_somebody_corrects_them(ending: str) -> None:
    path = Path(f"clip{ending}")
    predicted().save(path)
    loaded = report.read(path)
    assert loaded.predicted and not loaded.corrected
    if ending != ".labelstudio.json":  # where what a person makes is an annotation beside them
        correct(path)
        assert not report.read(path).predicted
    person = Timeline("clip.mp4", predicted().events, 5, predicted().classes)
    person.save(path)
    assert not report.read(path).predicted
    replace(predicted(), corrected=True).save(path)
    assert not report.read(path).predicted


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("modality", CHOICES)
def test_what_is_only_heard_or_seen_is_a_prediction_too(ending: str, modality: Choice) -> None:
    """It bears the mark of what the format holds; to correct it is to correct the file."""
    path = Path(f"clip{ending}")
    timeline = lane_timeline("clip.mp4", [3, 3, 0, 0, 3, 3, 3, 3]).choose(modality)
    timeline.save(path)
    assert report.read(path).predicted
    timeline.save(path)  # over its own
    whole = modality == "all" or (modality == "both" and ending in (".json", ".eaf"))
    if not whole or ending == ".labelstudio.json":
        return
    text = path.read_text("utf-8")
    for before, after in (
        ("Siren", "Horn"), ("audio only", "visual only"), (",audio", ",visual"),
        (': "audio"', ': "visual"'),
    ):  # fmt: skip
        if before in text:
            path.write_text(text.replace(before, after), "utf-8")
            assert not report.read(path).predicted, before
            with pytest.raises(DataError, match="corrected"):
                timeline.save(path)


@pytest.mark.parametrize("ending", ENDINGS)
def test_no_events_are_a_prediction_too(ending: str) -> None:
    hand_timeline("clip.mp4", [3, 3]).save(f"clip{ending}")
    assert report.read(f"clip{ending}").predicted


@pytest.mark.parametrize("ending", ENDINGS)
def test_saving_it_again_in_another_tool_is_no_correction(ending: str) -> None:
    """Other white space, another order, a tool's own rounding: the same events."""
    predicted().save(f"clip{ending}")
    text = Path(f"clip{ending}").read_text("utf-8")
    Path(f"clip{ending}").write_text(text.rstrip("\n") + "\n\n", "utf-8")
    assert report.read(f"clip{ending}").predicted


def test_the_digest_is_that_of_the_events() -> None:
    a, b = Event(1 / 3, 2 / 3, "a"), Event(1, 2, "b")
    assert digest([a, b]) == digest([b, Event(0.333, 0.667, "a", 0.5)])
    audio = replace(a, modality="audio")
    assert len({digest(events) for events in ([a], [b], [a, b], [a, a], [], [audio])}) == 6


@pytest.mark.parametrize("ending", ENDINGS)
def test_localize_writes_over_its_own_and_nothing_else(
    ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(f"a{ending}")
    path.touch()  # an empty file is nobody's
    for _ in range(2):
        assert main(["localize", "a.mp4", "-o", str(path)]) == 0
    human = Timeline("a.mp4", (Event(0, 1, "dog"),), 5, ("dog",))
    report.save(human, path)
    before = path.read_bytes()
    assert main(["localize", "a.mp4", "-o", str(path)]) == 1
    message = capsys.readouterr().err
    assert f"{path} holds labels that no model made" in message and "--overwrite" in message
    assert path.read_bytes() == before
    assert main(["localize", "a.mp4", "-o", str(path), "--overwrite"]) == 0
    assert report.read(path).predicted


def test_corrected_predictions_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["localize", "a.mp4", "b.mp4", "-o", ".eaf", ".txt"]) == 0
    correct(Path("a.eaf"))
    before = Path("a.eaf").read_bytes(), Path("b.eaf").stat().st_mtime_ns
    assert main(["localize", "a.mp4", "b.mp4", "-o", ".eaf", ".txt"]) == 1
    message = capsys.readouterr().err
    assert "a.eaf holds labels that were corrected" in message and "1 of 2 files failed" in message
    assert Path("a.eaf").read_bytes() == before[0]
    assert Path("b.eaf").stat().st_mtime_ns > before[1]
    assert main(["convert", "a.txt", "-o", "a.eaf"]) == 1  # predictions, by another verb
    assert Path("a.eaf").read_bytes() == before[0]
    assert main(["convert", "a.eaf", "-o", "a.txt"]) == 0  # a person's labels go over a model's
    assert not report.read("a.txt").predicted


def test_what_is_no_label_file_is_not_written_over(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.txt").write_text("Dear diary,\n")
    assert main(["localize", "a.mp4", "-o", ".txt"]) == 1
    assert "something else than labels" in capsys.readouterr().err
    assert Path("a.txt").read_text() == "Dear diary,\n"


def test_in_a_table_of_several_each_video_has_its_own_mark() -> None:
    person = Timeline("p.mp4", (Event(0, 1, "dog"),), 5, ("dog",))
    empty = Timeline("q.mp4", (), 5, ())
    model = replace(predicted(), video="m.mp4", scores=None)
    for ending in (".csv", ".tsv", ".labelstudio.json"):
        report.save_all([person, model, empty], f"t{ending}")
        predicted_by_video = {t.video: t.predicted for t in report.read_all(f"t{ending}")}
        assert predicted_by_video == {"p.mp4": False, "m.mp4": True, "q.mp4": False}
        with pytest.raises(DataError, match="no model made"):
            report.save_all([model], f"t{ending}")


@pytest.mark.parametrize("ending", [".json", ".vtt", ".eaf", ".otio", ".edl", ".labelstudio.json"])
def test_formats_with_room_write_no_mark_beside(ending: str) -> None:
    predicted().save(f"clip{ending}")
    assert not Path(".avel").exists()
    assert report.read(f"clip{ending}").predicted


def test_a_mark_that_cannot_be_read_is_none() -> None:
    predicted().save("clip.txt")
    (mark,) = Path(".avel").iterdir()
    for text in ("", "{", "[]", '{"marks": 3}', "[" * 100_000):
        mark.write_text(text)
        assert not report.read("clip.txt").predicted


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("modality", ["both", "audio", "all"])
def test_marks_hold_whatever_modality_and_clock(ending: str, modality: str) -> None:
    """Lanes beside the events or among them, and subtitles by a player's clock that begins late."""
    timeline = replace(lane_timeline("clip.mp4", [3, 3, 0, 0, 3, 3, 3, 3]), player_start=6.988)
    timeline.choose(modality).save(f"clip{ending}")  # type: ignore[arg-type]
    assert report.read(f"clip{ending}").predicted
