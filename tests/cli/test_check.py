"""`avel check`: the machine, the weights, and a folder of AVE."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from avel.cli.main import main

VERSION_LINES = ("avel ", "python ", "torch ", "PyAV ", "devices ", "reads ", "writes ", "cache ")


def test_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AVEL_CACHE", str(tmp_path))
    assert main(["check"]) == 0
    out = capsys.readouterr().out
    for start in VERSION_LINES:
        assert any(line.startswith(start) for line in out.splitlines()), start
    assert str(tmp_path) in out
    reads = next(line for line in out.splitlines() if line.startswith("reads"))
    assert "h264" in reads and "aac" in reads
    assert "vgg19:keras absent (80.1 MB" in out and "vggish:audioset absent" in out


def test_damaged_weights_are_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AVEL_CACHE", str(tmp_path))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "vggish-10086976.pth").write_bytes(b"half of it")
    assert main(["check"]) == 0
    assert "vggish:audioset damaged" in capsys.readouterr().out


def test_a_codec_that_nobody_has_is_said_to_be_lacking() -> None:
    from avel.cli.check import _has_codec

    assert _has_codec("h264", "r") and not _has_codec("nosuchcodec", "r")
    assert not _has_codec("nosuchcodec", "w")


def test_a_folder_of_the_release(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(shared / "ave")]) == 0
    out = capsys.readouterr().out
    for text in (
        "4143 rows are 4097 videos",
        "45 videos stand under several categories",
        "1012 of 4097 video ids begin with '-'",
        "row 26 (from 0)",
        "10 s: 2750",
        "test 17.8 %",
        "train and test share 8 videos, 8 under contradicting labels",
        "314 of 402 rows of cml_test are in SEL's train",
        "mil_labels.h5: 0 of 4143 rows differ",
        "missing: visual_feature.h5 (8.3 GB",
    ):
        assert text in out, text


def test_a_folder_without_annotations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tmp_path)]) == 1
    assert "Annotations.txt" in capsys.readouterr().err


def test_a_folder_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "a.mp4,1,2,x\n" + "a.mp4,5,3,x\n" * 60 + "gone.mp4,1,2,x\n"
    (tmp_path / "annotations.csv").write_text("file,start,end,label\n" + rows)
    (tmp_path / "a.mp4").touch()
    (tmp_path / "b.mp4").touch()
    assert main(["check", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert out.count("end 3 isn't after start 5") == 60, "all of them, not the first ones"
    assert "annotations.csv:3: end 3" in out and "no file 'gone.mp4'" in out
    assert "b.mp4: media file without labels, and left out" in out
    assert "a.mp4: " in out and "is empty" in out


def test_check_json_and_wrong_calls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "annotations.csv").write_text("file,start,end,label\na.mp4,1,2,x\n")
    assert main(["check", str(tmp_path), "--json"]) == 1
    checked = json.loads(capsys.readouterr().out)
    assert checked["problems"][0]["where"] == "" and not checked["usable"]
    assert {p["where"]: p["level"] for p in checked["problems"]}["annotations.csv:2"] == "left out"
    assert main(["check", "--json"]) == 2
    assert "--json is for folders" in capsys.readouterr().err
