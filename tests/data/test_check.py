"""What `avel check` finds in a person's own folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from avel.data import load_dataset
from avel.data.check import FolderCheck, check_folder, dataset_summary
from avel.errors import DataError
from avel.features.store import feature_path
from tests.data.test_own_folder import folder, put
from tests.training_data import features

HEAD = "file,start,end,label,split\n"


def check(root: Path, rows: str, **options: bool) -> FolderCheck:
    (root / "annotations.csv").write_text(HEAD + rows)
    return check_folder(root, **options)


def problems(checked: FolderCheck, level: str) -> list[str]:
    return [str(p) for p in checked.problems if p.level == level]


def test_counts_lengths_and_background_by_hand(tmp_path: Path) -> None:
    folder(tmp_path, "abcd")  # of six seconds each
    rows = (
        "a.mp4,0,4,x,train\na.mp4,5,6,x,train\nb.mp4,1,3,y,train\nc.mp4,0,6,x,val\nd.mp4,,,,test\n"
    )
    checked = check(tmp_path, rows)
    assert (checked.files, checked.events, checked.seconds) == (4, 4, 24)
    assert checked.background == pytest.approx(11 / 24)
    assert checked.splits == {"train": 2, "val": 1, "test": 1} and not checked.drawn
    x, y = checked.classes
    assert (x.name, x.files, x.events, x.seconds, x.median) == ("x", 2, 3, 11, 4)
    assert x.splits == {"train": 1, "val": 1} and y.splits == {"train": 1}
    assert problems(checked, "warning") == [
        "the val split has no y", "the test split has no x, y", "fewer than 3 files have x, y",
    ]  # fmt: skip
    assert checked.usable and "4 events of 2 classes in 4 files of 24 s, 46 % background" in str(
        checked
    )


def test_every_problem_has_its_line(tmp_path: Path) -> None:
    folder(tmp_path, "abcd")
    put(tmp_path, "lone.mp4")
    rows = (
        "a.mp4,0,2,x,train\na.mp4,0,2,x,train\na.mp4,1,3,y,train\na.mp4,2.5,4,y,train\n"
        "b.mp4,3,9,x,train\nc.mp4,0,1,x,val\nd.mp4,0,1,x,test\ngone.mp4,0,1,x,train\n"
    )
    checked = check(tmp_path, rows)
    assert problems(checked, "left out") == [
        "annotations.csv:9: no file 'gone.mp4'",
        "annotations.csv:6: 'x' from 3 to 9 s, and b.mp4 ends at 6 s",
    ]
    warnings = problems(checked, "warning")
    for text in (
        "annotations.csv:3: 'x' again, the same event as in annotations.csv:2",
        "annotations.csv:4: 'y' from 1 s overlaps 'x' of annotations.csv:2: a segment takes",
        "annotations.csv:5: 'y' from 2.5 s overlaps 'y' of annotations.csv:4",
        "lone.mp4: media file without labels, and left out",
    ):
        assert any(w.startswith(text) for w in warnings), text
    assert not checked.usable and not problems(checked, "error")


def test_likely_typos_are_told_and_other_words_are_not(tmp_path: Path) -> None:
    folder(tmp_path, "a")
    labels = ["dog bark"] * 10 + ["Dog_barks", "dog brak", "park"] + ["church bell"] * 9 + ["bell"]
    rows = "".join(f"a.mp4,{i / 8},{(i + 1) / 8},{n},train\n" for i, n in enumerate(labels))
    checked = check(tmp_path, rows)
    assert [w for w in problems(checked, "warning") if "may be" in w] == [
        "annotations.csv:12: class 'Dog_barks' (1) may be 'dog bark' (10)",
        "annotations.csv:13: class 'dog brak' (1) may be 'dog bark' (10)",
    ]


def test_features_that_are_missing_stale_or_of_others(tmp_path: Path) -> None:
    folder(tmp_path, "abcd")
    rows = "".join(
        f"{n}.mp4,0,2,x,{s}\n"
        for n, s in zip("abcd", ("train", "val", "test", "test"), strict=True)
    )
    assert check(tmp_path, rows).usable
    (tmp_path / "b.mp4").write_bytes(b"another recording")
    other = features(6)
    replace(other, audio_card={**other.audio_card, "name": "mini"}, content="").save(
        feature_path(tmp_path, "c.mp4")
    )
    feature_path(tmp_path, "d.mp4").write_bytes(b"damaged")
    errors = problems(check(tmp_path, rows), "error")
    assert errors[0].startswith("b.mp4: its features are of another file")
    assert errors[1].startswith("c.mp4: its features are of mini")
    assert errors[2] == "d.mp4: its features can't be read"
    feature_path(tmp_path, "d.mp4").unlink()
    assert f"d.mp4: no features: avel extract {tmp_path}" in problems(
        check(tmp_path, rows), "error"
    )
    quick = check(tmp_path, rows, quick=True)
    assert quick.usable and quick.background is None


def test_copies_of_a_file_are_told(tmp_path: Path) -> None:
    put(tmp_path, "a.mp4", content=b"same")
    put(tmp_path, "b.mp4", content=b"same")  # in another split even
    checked = check(tmp_path, "a.mp4,0,1,x,train\nb.mp4,0,1,x,test\n")
    assert "b.mp4: the same file as a.mp4" in problems(checked, "warning")
    text = "no clip is in val: enough for `avel evaluate`, not for training"
    assert text in problems(checked, "warning") and checked.usable


def test_what_is_trained_on_in_a_line(tmp_path: Path) -> None:
    folder(tmp_path, "abc")
    put(tmp_path, "d.mp4", length=15)
    rows = "a.mp4,0,3,x,train\nb.mp4,0,3,x,val\nc.mp4,0,3,x,test\nd.mp4,,,,train\n"
    (tmp_path / "annotations.csv").write_text(HEAD + rows)
    assert dataset_summary(load_dataset("folder", root=tmp_path)) == (
        f"{tmp_path.name}: 4 files, 5 excerpts (train 3, val 1, test 1), 1 class, "
        "73 % of the segments are background"
    )


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no folder"):
        check_folder(tmp_path / "gone")
