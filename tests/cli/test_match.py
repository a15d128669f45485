"""`avel match`: the hint where the searched files lack what the query is compared with."""

from __future__ import annotations

from pathlib import Path

import pytest

from avel.cli.main import main
from avel.cli.match import _direction_hint
from avel.search.results import SearchResult
from tests.media_files import mux, tone


def test_a_search_without_a_match_names_the_other_direction() -> None:
    result = SearchResult("a.wav", 0.0, 3.0, "audio", (), 1, 3)
    assert _direction_hint(result) == (
        "the query's sound was compared with every picture, and none fits\n"
        "  hint: --within audio compares it with every sound"
    )
    within = SearchResult("a.wav", 0.0, 3.0, "audio", (), 1, 3, candidate_modality="audio")
    assert _direction_hint(within) == ""


def test_sounds_searched_for_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("query.wav", "a.wav", "b.wav"):
        mux(tmp_path / name, sounds=[(0.0, tone(3, 16000))])
    call = ["match", "--query", "query.wav", "--model", "toybox_match", "--no-cache"]
    assert main([*call, "--in", "a.wav", "b.wav"]) == 0
    printed = capsys.readouterr()
    assert "no match" in printed.out and "in 2 files of 6 segments" in printed.out.replace("\n", "")
    assert "--within audio compares it with every sound" in printed.err
    assert main([*call, "--in", "a.wav", "--modality", "visual"]) == 1
    errors = capsys.readouterr().err
    assert "query.wav has no picture" in errors and "the other modality with --modality" in errors


def test_a_path_in_a_pipe_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / ("a" * 90) / ("b" * 90)
    folder.mkdir(parents=True)
    for name in ("query.wav", "a.wav"):
        mux(folder / name, sounds=[(0.0, tone(3, 16000))])
    query, candidate = str(folder / "query.wav"), str(folder / "a.wav")
    call = ["match", "--query", query, "--in", candidate, "--within", "audio", "--no-cache"]
    assert main(call) == 0
    assert candidate in capsys.readouterr().out
