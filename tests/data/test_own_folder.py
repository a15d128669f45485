"""A person's own folder: what lies in it is used or named, and what changed is noticed."""

from __future__ import annotations

import ast
import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from avel import report
from avel.cli.main import main
from avel.data import load_dataset
from avel.data.annotations import read_annotations
from avel.data.packed import pack
from avel.errors import DataError
from avel.features.listing import media_files, passed_over, plan
from avel.features.store import FeatureNames, feature_path, stored_path
from avel.files import MEDIA_ENDINGS
from avel.formats import format_endings
from avel.types import Event, Timeline
from tests.conftest import ROOT
from tests.data.rows import read_rows
from tests.report_samples import hand_timeline, write_clip
from tests.training_data import features

HEAD = "file,start,end,label\n"


def put(root: Path, file: str, *, length: int = 6, content: bytes | None = None) -> Path:
    """A clip with features of its content."""
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(file.encode() if content is None else content)
    made = replace(features(length), source=path.name, content=sha(path))
    made.save(feature_path(root, file))
    return path


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def label(path: Path, *events: Event) -> None:
    Timeline("", events, 6, ()).save(path)


def folder(root: Path, names: str = "abcdef") -> Path:
    for n in names:
        put(root, f"{n}.mp4")
    rows = "".join(f"{n}.mp4,1,4,{'xy'[i % 2]}\n" for i, n in enumerate(names))
    (root / "annotations.csv").write_text(HEAD + rows)
    return root


# ---- endings


def test_there_is_one_list_of_media_endings() -> None:
    """No other file of the package lists them, so that no two can differ."""
    listing = []
    for path in sorted((ROOT / "src" / "avel").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Tuple | ast.List | ast.Set):
                held = {e.value for e in node.elts if isinstance(e, ast.Constant)}
                if len(held & MEDIA_ENDINGS) > 1:
                    listing.append(path.name)
    assert not listing


def test_media_of_every_ending_are_found_labelled_and_never_lost(tmp_path: Path) -> None:
    for ending in sorted(MEDIA_ENDINGS):
        name = f"clip{ending[1:]}"
        put(tmp_path, f"{name}{ending.upper() if ending == '.mts' else ending}")
        label(tmp_path / f"{name}.vtt", Event(1, 3, "x"))
    assert len(list(media_files(tmp_path))) == len(MEDIA_ENDINGS)
    rows, mistakes = read_rows(tmp_path)
    assert not mistakes and len(rows) == len(MEDIA_ENDINGS)
    assert {".mts", ".dv", ".gif", ".asf", ".mka", ".wmv", ".opus", ".aac"} <= MEDIA_ENDINGS


def test_what_is_passed_over_is_named_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("d/a.docx", "d/sub/b.psd", "d/c.vtt", "d/.hidden.x", "d/features/x.y", "d/e.mp4"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"x")
    assert passed_over([Path("d")]) == ["d/a.docx", "d/sub/b.psd"]
    main(["extract", "d"])
    told = capfd.readouterr().err
    assert "ignored 2 files, no media by the ending: d/a.docx, d/sub/b.psd" in told


def test_media_and_labels_without_each_other_are_named(tmp_path: Path) -> None:
    for n in "abcd":
        put(tmp_path, f"{n}.mp4")
    for n in "abc":
        label(tmp_path / f"{n}.vtt", Event(1, 3, "x"))
    label(tmp_path / "lost.vtt", Event(1, 3, "x"))
    data = load_dataset("folder", root=tmp_path)
    told = " ".join(data.notes)
    assert "1 media file is without labels, and left out: d.mp4" in told
    assert "No clip has the name of 1 file that may hold labels: lost.vtt" in told


# ---- two media of one stem


def test_two_media_of_one_stem_have_features_of_their_own(tmp_path: Path) -> None:
    for name in ("REC01.mp4", "REC01.wav", "REC02.mp4"):
        (tmp_path / name).write_bytes(name.encode())
    jobs = {Path(j.media).name: Path(j.target).name for j in plan([tmp_path], None).jobs()}
    assert jobs == {
        "REC01.mp4": "REC01.mp4.safetensors", "REC01.wav": "REC01.wav.safetensors",
        "REC02.mp4": "REC02.safetensors",
    }  # fmt: skip
    (tmp_path / "list.txt").write_text("REC01.mp4\nREC01.wav\n")
    listed = [Path(j.target).name for j in plan([tmp_path / "list.txt"], None).jobs()]
    assert listed == ["REC01.mp4.safetensors", "REC01.wav.safetensors"]
    (alone,) = plan([tmp_path / "REC01.wav"], None).jobs()
    assert Path(alone.target).name == "REC01.wav.safetensors"


def test_a_second_medium_never_takes_the_first_one_s_features(tmp_path: Path) -> None:
    put(tmp_path, "r.mp4")
    old = tmp_path / "features" / "r.safetensors"
    assert old.is_file()
    (tmp_path / "r.wav").write_bytes(b"other")
    places = {
        n: stored_path(tmp_path, n, out=None, names=FeatureNames()) for n in ("r.mp4", "r.wav")
    }
    assert places["r.mp4"] == old  # it says that it is of r.mp4
    assert places["r.wav"].name == "r.wav.safetensors" and not places["r.wav"].exists()
    put(tmp_path, "r.wav")
    (tmp_path / "r.mp4").unlink()
    found = stored_path(tmp_path, "r.wav", out=None, names=FeatureNames())
    assert found.name == "r.safetensors"  # alone now, but not its own
    rows = "".join(f"{n},1,4,x\n" for n in ("r.wav", "b.mp4", "c.mp4"))
    put(tmp_path, "b.mp4"), put(tmp_path, "c.mp4")
    (tmp_path / "annotations.csv").write_text(HEAD + rows)
    with pytest.raises(DataError, match=r"r\.wav: another file now"):
        load_dataset("folder", root=tmp_path)


def test_labels_of_a_stem_go_to_the_medium_with_pictures(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.wav", "b.mp4", "b.mov", "c.mp4", "c.mov"):
        put(tmp_path, name)
    label(tmp_path / "a.vtt", Event(1, 3, "x"))
    label(tmp_path / "b.mov.vtt", Event(1, 3, "y"))
    label(tmp_path / "c.vtt", Event(1, 3, "y"))
    rows, mistakes = read_rows(tmp_path)
    assert {r.file for r in rows} == {"a.mp4", "b.mov"}
    assert mistakes == ["c.vtt: of c.mov or c.mp4? call it after its clip, c.mov.vtt"]


# ---- what changed


@pytest.mark.parametrize("packed", [False, True])
def test_a_replaced_video_never_keeps_its_features(tmp_path: Path, packed: bool) -> None:
    root = folder(tmp_path)
    if packed:
        pack(root / "features")
    before = load_dataset("folder", root=root)
    assert before.note.count("pack") == 0
    (root / "c.mp4").write_bytes(b"another video")
    with pytest.raises(DataError) as caught:
        load_dataset("folder", root=root)
    assert "c.mp4: another file now than the one its features were made of" in str(caught.value)
    assert f"avel extract {root}" in str(caught.value)
    put(root, "c.mp4", content=b"another video")
    load_dataset("folder", root=root)


def test_what_extract_has_hashed_is_not_hashed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from avel.features import content_hashes as contents

    root = tmp_path / "d"
    root.mkdir()
    for n in "abc":
        write_clip(root / f"{n}.mp4", 3)
        label(root / f"{n}.vtt", Event(1, 3, "x"))
    assert main(["extract", str(root)]) == 0
    hashed: list[Path] = []
    monkeypatch.setattr(contents, "file_hash", lambda p: hashed.append(p) or sha(p))
    load_dataset("folder", root=root)
    assert not hashed
    write_clip(root / "b.mp4", 4)
    with pytest.raises(DataError, match=r"b\.mp4: another file now"):
        load_dataset("folder", root=root)
    assert main(["extract", str(root)]) == 0
    assert "1 extracted, 2 already there" in capfd.readouterr().out
    hashed.clear()
    load_dataset("folder", root=root)
    assert not hashed


def test_contents_are_hashed_once_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from avel.features import content_hashes as contents

    hashed: list[Path] = []

    def counting(path: Path) -> str:
        hashed.append(path)
        return sha(path)

    monkeypatch.setattr(contents, "file_hash", counting)
    root = folder(tmp_path, "abc")
    load_dataset("folder", root=root)
    load_dataset("folder", root=root)
    assert len(hashed) == 3
    stat = (root / "a.mp4").stat()
    (root / "a.mp4").write_bytes(b"b.mp4")  # as long, and dated back
    os.utime(root / "a.mp4", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(DataError, match=r"a\.mp4: another file"):
        load_dataset("folder", root=root)
    (root / "features" / ".avel" / "contents.json").write_text("[" * 9)
    with pytest.raises(DataError, match=r"a\.mp4: another file"):
        load_dataset("folder", root=root)


# ---- predictions


@pytest.mark.parametrize("ending", format_endings().values())
def test_predictions_are_no_truth_until_told_or_corrected(ending: str, tmp_path: Path) -> None:
    for n in "abc":
        put(tmp_path, f"{n}.mp4", length=5)
        hand_timeline(f"{n}.mp4", [3, 0, 0, 1, 3]).save(tmp_path / f"{n}{ending}")
    with pytest.raises(
        DataError, match=r"3 clips .* left out: their labels are predictions"
    ) as caught:
        load_dataset("folder", root=tmp_path)
    assert "data.predictions=true" in str(caught.value)
    told = load_dataset("folder", root=tmp_path, predictions=True)
    assert told.classes == ("Church bell", "Bark")
    assert not [n for n in told.notes if "left out" in n.lower()]


def test_a_corrected_file_stands_beside_untouched_ones(tmp_path: Path) -> None:
    """What `localize DIR -o .json .eaf` wrote, some of it corrected in ELAN."""
    for n in "abcd":
        put(tmp_path, f"{n}.mp4", length=5)
        for ending in (".json", ".eaf"):
            hand_timeline(f"{n}.mp4", [3, 0, 0, 1, 3]).save(tmp_path / f"{n}{ending}")
    for n in "abc":
        eaf = tmp_path / f"{n}.eaf"
        eaf.write_text(eaf.read_text().replace("Church bell", "Gong"))
    data = load_dataset("folder", root=tmp_path)
    assert data.classes == ("Gong", "Bark")
    assert sum(len(s) for s in data.splits.values()) == 3
    assert any("1 clip of" in n and "d.mp4" in n for n in data.notes)
    eaf = tmp_path / "a.eaf"
    report.save(report.read(eaf), tmp_path / "a.vtt")  # two of a person's
    _, mistakes = read_rows(tmp_path)
    assert mistakes == ["a.mp4: 2 label files (a.eaf, a.vtt): keep one"]


@pytest.mark.parametrize("name", ["annotations.csv", "annotations.tsv"])
def test_a_table_of_predictions_is_no_truth_either(name: str, tmp_path: Path) -> None:
    for n in "abcd":
        put(tmp_path, f"{n}.mp4", length=5)
    made = [hand_timeline(f"{n}.mp4", [3, 0, 0, 1, 3]) for n in "abcd"]
    report.save_all(made, tmp_path / name)
    found = read_annotations(tmp_path, predictions=True)
    assert len(found.rows) == 8 and not found.notes
    with pytest.raises(DataError, match="their labels are predictions"):
        read_annotations(tmp_path)
    table = tmp_path / name
    table.write_text(table.read_text().replace("Bark", "Howl", 3))
    found = read_annotations(tmp_path)
    assert {r.file for r in found.rows} == {"a.mp4", "b.mp4", "c.mp4"}
    assert "1 clip" in found.notes[0] and "(d.mp4)" in found.notes[0]


def test_rows_that_were_left_out_are_told(tmp_path: Path) -> None:
    for n in "abc":
        put(tmp_path, f"{n}.mp4")
        (tmp_path / f"{n}.txt").write_text("1.0\t4.0\tdog\n2.0\t2.0\tclick\n")
    data = load_dataset("folder", root=tmp_path)
    assert data.classes == ("dog",)
    assert "Left out: b.txt:2: 'click' from 2 to 2 s has no length." in data.notes


# ---- tables


def test_a_table_of_a_spreadsheet_with_semicolons(tmp_path: Path) -> None:
    folder(tmp_path, "abc")
    (tmp_path / "annotations.csv").write_bytes(
        b"\xef\xbb\xbffile;start;end;label\r\n"
        + b"".join(b"%c.mp4;1,5;4;dog\r\n" % n for n in b"abc")
    )
    rows, mistakes = read_rows(tmp_path)
    assert not mistakes and {(r.start, r.end) for r in rows} == {(1.5, 4.0)}
    text = "file\tstart\tend\tlabel\na.mp4\t1\t2\tdog\n".encode("utf-16")
    (tmp_path / "annotations.csv").write_bytes(text)
    assert len(read_rows(tmp_path)[0]) == 1


@pytest.mark.parametrize(
    "text",
    [
        "a.mp4\t1\t4\tdog\nb.mp4\t1\t4\tdog\n",
        "a.wav\tstreet\t1\t4\tdog\nb.wav\tstreet\t1\t4\tdog\n",
        "filename\tscene_label\tonset\toffset\tevent_label\na.wav\tx\t1\t4\tdog\nb.mp4\tx\t1\t4\tdog\n",
    ],
)
def test_dcase_lists_without_header_and_with_scenes(text: str, tmp_path: Path) -> None:
    put(tmp_path, "a.mp4"), put(tmp_path, "videos/b.mp4")
    (tmp_path / "annotations.tsv").write_text(text)
    rows, mistakes = read_rows(tmp_path)
    assert not mistakes
    assert [(r.file, r.start, r.label) for r in rows] == [
        ("a.mp4", 1.0, "dog"), ("videos/b.mp4", 1.0, "dog"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("{root}/a.mp4", "a.mp4"), ("{root}/sub/../a.mp4", "a.mp4"), ("./a.mp4", "a.mp4"),
        ("sub/../a.mp4", "a.mp4"), ("{link}/a.mp4", "a.mp4"), ("sub\\b.mp4", "sub/b.mp4"),
        ("/etc/passwd", None), ("../a.mp4", None), (".", None), ("/", None), ("..", None),
        ("{root}", None), ("C:\\a.mp4", None), ("{root}x/a.mp4", None),
    ],
)  # fmt: skip
def test_paths_inside_the_folder_and_out_of_it(
    given: str, expected: str | None, tmp_path: Path
) -> None:
    root, link = tmp_path / "data", tmp_path / "link"
    root.mkdir(), link.symlink_to(root)
    file = given.format(root=root, link=link)
    (root / "annotations.csv").write_text(f"{HEAD}{file},1,2,x\n")
    rows, mistakes = read_rows(root)
    assert [r.file for r in rows] == ([expected] if expected else [])
    assert bool(mistakes) == (expected is None)
    assert not mistakes or "expected a path inside the folder" in mistakes[0]


@pytest.mark.parametrize(
    ("split", "expected"),
    [("validation", "val"), ("Valid", "val"), ("dev", "val"), ("training", "train"),
     ("holdout", None), ("x" * 500, None), ("vall", None)],
)  # fmt: skip
def test_splits_by_other_names(split: str, expected: str | None, tmp_path: Path) -> None:
    (tmp_path / "annotations.csv").write_text(f"file,start,end,label,split\na.mp4,1,2,x,{split}\n")
    rows, mistakes = read_rows(tmp_path)
    assert [r.split for r in rows] == ([expected] if expected else [])
    assert bool(mistakes) == (expected is None)
    assert not mistakes or "expected train, val, test" in mistakes[0]


# ---- what a folder must hold, and what is odd about it


@pytest.mark.parametrize("count", [1, 2])
def test_three_videos_are_needed(count: int, tmp_path: Path) -> None:
    root = folder(tmp_path, "ab"[:count])
    with pytest.raises(DataError, match="three videos are needed at least"):
        load_dataset("folder", root=root)
    data = load_dataset("folder", root=root, partial=True)
    assert list(data.splits) == ["test"] and len(data.test) == count


def test_overlaps_and_classes_that_cannot_be_learnt_are_told(tmp_path: Path) -> None:
    folder(tmp_path, "abcd")
    rows = (
        "a.mp4,0,4,x,train\na.mp4,2,5,y,train\nb.mp4,0,2,x,train\nb.mp4,2,4,y,train\n"
        "c.mp4,0,2,x,val\nd.mp4,0,2,x,test\nd.mp4,2,4,gate,test\n"
    )
    (tmp_path / "annotations.csv").write_text("file,start,end,label,split\n" + rows)
    notes = load_dataset("folder", root=tmp_path).notes
    assert len(notes) == 4
    assert "overlap in 1 clip (a.mp4)" in notes[0]
    assert "No training clip has gate, which test has" in notes[1]
    assert notes[2:] == ("The validation split has no y.", "The test split has no y.")


def test_a_folder_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["train", "cspa_csea", "data=toy"]) == 1
    assert "there is no folder toy, and no data set of that name" in capsys.readouterr().err
    assert main(["train", "cspa_csea", f"data={tmp_path}/toy"]) == 1
    assert f"there is no folder {tmp_path}/toy" in capsys.readouterr().err
    assert main(["train", "cspa_csea", "data=ave"]) == 2
    assert "give data=ave root=DIR" in capsys.readouterr().err


def test_a_folder_that_can_only_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder(tmp_path / "data", "abc")
    (root / "features").rename(tmp_path / "elsewhere")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(DataError, match=r"-o FEATURES, and give data\.features=FEATURES"):
        load_dataset("folder", root=root)
    data = load_dataset("folder", root=root, features=tmp_path / "elsewhere")
    assert len(data.train) == 1


def test_long_names_in_tables_are_mistakes_and_no_traceback(tmp_path: Path) -> None:
    folder(tmp_path, "abc")
    rows = f"{'x' * 300}.mp4,1,2,dog\n{'a/' * 2000}b.mp4,1,2,dog\n"
    for name in ("annotations.csv", "annotations.tsv"):
        (tmp_path / name).write_text((HEAD + rows).replace(",", "," if "csv" in name else "\t"))
        with pytest.raises(DataError, match="no file 'xxx"):
            load_dataset("folder", root=tmp_path)
        (tmp_path / name).unlink()
    name = "é" * 121 + "x.mp4"  # 247 bytes: with the features' ending too long
    assert len(put(tmp_path, name).name.encode()) == 247
    kept = feature_path(tmp_path, name)
    assert kept.is_file() and kept.name.startswith("ééé") and len(kept.name.encode()) <= 255
    assert kept != feature_path(tmp_path, name.replace("x.mp4", "y.mp4"))
    (tmp_path / "Annotations.txt").write_text(f"dog&{'x' * 300}&good&1&2\n")
    with pytest.raises(DataError, match="no file 'xxx"):
        load_dataset("folder", root=tmp_path)
