"""Several folders of a person's own clips as one data set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from avel.cli.main import main
from avel.data import folder as one_folder
from avel.data.folders import load
from avel.errors import DataError
from avel.evaluation.cross_validation import assign_folds, pooled, recordings
from tests.data.test_own_folder import folder, put

HEAD = "file,start,end,label,split\n"


def test_clips_of_both_over_all_classes_in_their_own_splits(tmp_path: Path) -> None:
    mine = folder(tmp_path / "mine", "abcdef")
    more = folder(tmp_path / "more", "ab")  # too few for splits: for training
    (more / "annotations.csv").write_text("file,start,end,label\na.mp4,1,4,z\nb.mp4,1,4,y\n")
    for name in "ab":
        put(more, f"{name}.mp4", length=12, content=f"more {name}".encode())
    data = load([mine, more])
    assert data.name == "mine+more" and data.classes == ("x", "y", "z") and data.drawn
    alone = one_folder.load(mine)
    assert set(data.train.ids) == {f"mine/{i}" for i in alone.train.ids} | {
        f"more/{n}.mp4#{s}" for n in "ab" for s in (0, 10)
    }
    assert data.test.ids == tuple(f"mine/{i}" for i in alone.test.ids)
    at = data.train.ids.index("more/a.mp4#0")
    assert data.train.labels[at].tolist() == [3, 2, 2, 2, *[3] * 6]
    assert (data.train.labels[data.train.ids.index("mine/" + alone.train.ids[0]), 6:] == -1).all()
    assert any("more: No split is named: 2 videos, all in train." in n for n in data.notes)
    assert recordings(data) == 8 and data.recordings["more/a.mp4#10"] == "more/a.mp4"
    assert sum(map(len, assign_folds(data, pooled(data), 3, seed=0))) == 10


def test_a_corrected_file_counts_once_and_stays_in_its_split(tmp_path: Path) -> None:
    mine = folder(tmp_path / "mine", "abcd")
    splits = ("train", "val", "test", "train")
    rows = (f"{n}.mp4,1,4,x,{s}\n" for n, s in zip("abcd", splits, strict=True))
    (mine / "annotations.csv").write_text(HEAD + "".join(rows))
    fixed = tmp_path / "fixed"
    for name, content in (("street.mp4", b"c.mp4"), ("new.mp4", b"new")):  # c.mp4's bytes
        put(fixed, name, content=content)
    (fixed / "annotations.csv").write_text(
        "file,start,end,label\nstreet.mp4,2,6,x\nnew.mp4,0,1,x\n"
    )
    data = load([mine, fixed])
    assert data.train.ids == ("mine/a.mp4", "mine/d.mp4", "fixed/new.mp4")
    assert data.test.ids == ("fixed/street.mp4",)
    assert data.test.labels.tolist() == [[1, 1, 0, 0, 0, 0]]
    assert np.isfinite(np.asarray(data.test.audio[data.test.store_rows])).all()
    assert any("1 file of mine (c.mp4) again in a later folder" in n for n in data.notes)


def test_folders_that_cannot_be_joined(tmp_path: Path) -> None:
    mine = folder(tmp_path / "mine", "abc")
    with pytest.raises(DataError, match="stands twice"):
        load([mine, tmp_path / "mine" / ".." / "mine"])
    few = [folder(tmp_path / n / "clips", names) for n, names in (("one", "ab"), ("two", "cd"))]
    with pytest.raises(DataError, match=r"has no clip in val or test"):
        load(few)
    assert load(few, partial=True).name == "one-clips+two-clips"


def test_train_and_evaluate_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine, more = folder(tmp_path / "mine"), folder(tmp_path / "more", "ab")
    for name in "ab":
        put(more, f"{name}.mp4", content=f"more {name}".encode())
    run = tmp_path / "run"
    both = f"data={mine},{more}"
    assert main(["train", "linear", both, "epochs=1", "-o", str(run)]) == 0
    assert "mine+more: 8 files, 8 excerpts (train " in capsys.readouterr().out
    assert json.loads((run / "data.json").read_text())["roots"] == [str(mine), str(more)]
    assert main(["evaluate", str(run)]) == 0
    stored = capsys.readouterr().out
    assert "mine+more" in stored and main(["evaluate", str(run), both]) == 0
    assert capsys.readouterr().out == stored
    assert main(["train", "linear", both, "data.features=x", "-o", str(tmp_path / "no")]) == 2
    assert "several are given" in capsys.readouterr().err
    assert main(["train", "linear", f"data={mine},gone", "-o", str(tmp_path / "no")]) == 1
    assert "there is no folder" in capsys.readouterr().err
