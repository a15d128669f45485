from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from avel.cli.main import main
from avel.data import load_dataset
from avel.data.base import fingerprint
from avel.data.check import check_folder
from avel.data.folder import assign_splits, segment_labels
from avel.data.packed import Windows, open_pack, pack
from avel.errors import DataError
from avel.features.manifest import COLUMNS
from avel.features.store import feature_path
from tests.data.rows import read_rows
from tests.training_data import features

HEAD = "file,start,end,label\n"


def write(root: Path, text: str, lengths: dict[str, int], *, missing: Sequence[str] = ()) -> Path:
    """A folder with annotations, empty media files, and features of the given lengths."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "annotations.csv").write_text(text, encoding="utf-8")
    for i, (file, length) in enumerate(lengths.items()):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
        if file not in missing:
            features(length, seed=i).save(feature_path(root, file))
    return root


def ten(root: Path, length: int = 6) -> Path:
    rows = "".join(f"v/{i}.mp4,1,4,{'ab'[i % 2]}\n" for i in range(10))
    return write(root, HEAD + rows, {f"v/{i}.mp4": length for i in range(10)})


def test_a_folder_of_clips(tmp_path: Path) -> None:
    data = load_dataset("folder", root=ten(tmp_path / "mine"))
    assert data.name == "mine" and data.classes == ("a", "b") and data.step == 1.0
    assert {n: len(s) for n, s in data.splits.items()} == {"train": 7, "val": 1, "test": 2}
    assert data.audio_card["name"] == "ears" and data.visual_card["name"] == "eyes"
    for split in data.splits.values():
        assert split.audio.dtype == np.float16 and (split.lengths == 6).all()
        for name, labels in zip(split.ids, split.labels, strict=True):
            own = int(name[2]) % 2
            assert labels.tolist() == [2, own, own, own, 2, 2]


def test_features_are_those_of_the_file(tmp_path: Path) -> None:
    data = load_dataset("folder", root=ten(tmp_path), dtype="float32")
    for split in data.splits.values():
        for i, name in enumerate(split.ids):
            expected = features(6, seed=int(name[2]))
            np.testing.assert_array_equal(split.audio[i], expected.audio)
            np.testing.assert_array_equal(split.visual[i], expected.visual)


def test_splits_are_seeded_and_by_video(tmp_path: Path) -> None:
    rows = "".join(f"{i}.mp4,1,2,a,video{i // 3}\n" for i in range(30))
    root = write(
        tmp_path, "file,start,end,label,video\n" + rows, {f"{i}.mp4": 3 for i in range(30)}
    )
    first, again, other = (load_dataset("folder", root=root, seed=s) for s in (0, 0, 1))
    members = [{n: s.ids for n, s in d.splits.items()} for d in (first, again, other)]
    assert members[0] == members[1] != members[2]
    for split in members:
        videos = [{int(f.split(".")[0]) // 3 for f in ids} for ids in split.values()]
        assert sum(map(len, videos)) == len(set().union(*videos)) == 10
        assert [len(v) for v in videos] == [7, 1, 2]


def test_given_splits_are_kept_and_a_video_in_two_is_refused(tmp_path: Path) -> None:
    head = "file,start,end,label,split,video\n"
    rows = "a.mp4,0,1,x,train,p\nb.mp4,0,1,x,val,q\nc.mp4,0,1,x,test,r\nd.mp4,,,,train,p\n"
    lengths = {f"{n}.mp4": 2 for n in "abcd"}
    data = load_dataset("folder", root=write(tmp_path / "1", head + rows, lengths))
    assert data.train.ids == ("a.mp4", "d.mp4") and data.test.ids == ("c.mp4",)
    assert data.train.labels[1].tolist() == [1, 1]  # a clip without an event
    torn = rows.replace("d.mp4,,,,train,p", "d.mp4,,,,test,p")
    with pytest.raises(DataError, match="video 'p' stands in different splits"):
        load_dataset("folder", root=write(tmp_path / "2", head + torn, lengths))
    half = rows.replace("d.mp4,,,,train,p", "d.mp4,,,,,p")
    with pytest.raises(DataError, match="different splits"):
        load_dataset("folder", root=write(tmp_path / "3", head + half, lengths))
    some = rows.replace("d.mp4,,,,train,p", "d.mp4,,,,,s")
    with pytest.raises(DataError, match=r"d\.mp4 and 0 more name no split"):
        load_dataset("folder", root=write(tmp_path / "4", head + some, lengths))
    without = rows.replace(",val,", ",train,")
    with pytest.raises(DataError, match="no clip in split 'val'"):
        load_dataset("folder", root=write(tmp_path / "5", head + without, lengths))


def test_long_files_are_cut_into_windows_of_one_split(tmp_path: Path) -> None:
    rows = "long.mp4,4,7.5,a,train\nlong.mp4,10,13,b,train\nx.mp4,0,1,a,val\ny.mp4,0,1,a,test\n"
    lengths = {"long.mp4": 14, "x.mp4": 5, "y.mp4": 3}
    root = write(tmp_path, "file,start,end,label,split\n" + rows, lengths)
    data = load_dataset("folder", root=root, window=6)
    assert data.train.ids == ("long.mp4#0", "long.mp4#6", "long.mp4#12")
    assert data.train.lengths.tolist() == [6, 6, 2] and data.val.lengths.tolist() == [5]
    assert data.train.labels.tolist() == [
        [2, 2, 2, 2, 0, 0],
        [0, 0, 2, 2, 1, 1],  # 7 to 7.5 is half of a segment: it counts
        [1, 2, -1, -1, -1, -1],
    ]
    whole = features(14, seed=0)
    np.testing.assert_array_equal(data.train.audio[1], whole.audio[6:12].astype(np.float16))
    assert not data.train.visual[2, 2:].any()


def test_of_overlapping_events_the_later_start_takes_the_segment() -> None:
    events = [(0.0, 6.0, "a"), (2.0, 4.0, "b"), (3.0, 5.0, "c")]
    assert segment_labels(events, ("a", "b", "c"), 7).tolist() == [0, 0, 1, 2, 2, 0, 3]
    assert segment_labels(events[::-1], ("a", "b", "c"), 7).tolist() == [0, 0, 1, 2, 2, 0, 3]
    together = [(0.0, 2.0, "a"), (0.0, 2.0, "b")]
    assert segment_labels(together, ("a", "b"), 2).tolist() == [1, 1]


def test_classes_stand_in_order_of_first_appearance(tmp_path: Path) -> None:
    rows = "a.mp4,0,1,x\nb.mp4,0,1,y\na.mp4,1,2,z\nc.mp4,0,1,x\n"
    root = write(tmp_path, HEAD + rows, {f"{n}.mp4": 3 for n in "abc"})
    assert load_dataset("folder", root=root).classes == ("x", "y", "z")


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    rows = (
        "a.mp4,5,3,x\nb.mp4,zwei,3,x\nc.mp4,1,2,\ngone.mp4,1,2,x\n../out.mp4,1,2,x\n"
        "/etc/passwd,1,2,x\nd.mp4,0,1,Background\ne.mp4,1\n,1,2,x\n"
    )
    root = write(tmp_path, HEAD + rows, {f"{n}.mp4": 6 for n in "abcde"})
    with pytest.raises(DataError) as caught:
        load_dataset("folder", root=root)
    told = str(caught.value)
    for clause in (
        "annotations.csv:2: end 3 isn't after start 5",
        "annotations.csv:3: start 'zwei' is no time",
        "annotations.csv:4: times without a label",
        "no file 'gone.mp4'",
        "annotations.csv:6: file '../out.mp4': expected a path inside the folder",
        "annotations.csv:7: file '/etc/passwd'",
        "annotations.csv:8: background is no event",
        "annotations.csv:9: 2 columns, the first line has 4",
        "annotations.csv:10: no file",
    ):
        assert clause in told
    assert "11 mistakes" in told  # and one clip is left, in which nothing happens


def test_one_bad_row_stops_nothing_and_is_told(tmp_path: Path) -> None:
    good = "".join(f"{n}.mp4,1,3,x\n" for n in "abcd")
    bad = "a.mp4,5,3,x\ngone.mp4,1,2,y\nb.mp4,4,90,z\ne.mp4,0,1,Background\nq.mp4,1,2,x\n"
    root = write(tmp_path, HEAD + good + bad, {f"{n}.mp4": 6 for n in "abcdeq"}, missing=["q.mp4"])
    rows = "q.mp4,,,,quarantined,no sound and no picture,,,2026-01-01T00:00:00Z\n"
    manifest = root / "features" / "manifest.csv"
    manifest.write_text(",".join(COLUMNS) + "\n" + rows)
    data = load_dataset("folder", root=root)
    held = {name for split in data.splits.values() for name in split.ids}
    assert held == {f"{n}.mp4" for n in "abcde"} and data.classes == ("x",)
    told = [n for n in data.notes if n.startswith("Left out: ")]
    expected = [
        "annotations.csv:6: end 3 isn't after start 5",
        "annotations.csv:7: no file 'gone.mp4'",
        "annotations.csv:8: 'z' from 4 to 90 s, and b.mp4 ends at 6 s",
        "annotations.csv:9: background is no event",
        "annotations.csv:10: no features of q.mp4 could be made (no sound and no picture)",
    ]
    assert len(told) == 5
    assert all(any(clause in note for note in told) for clause in expected)
    labels = {i: s.labels[k] for s in data.splits.values() for k, i in enumerate(s.ids)}
    assert labels["b.mp4"].tolist() == labels["a.mp4"].tolist() == [1, 0, 0, 1, 1, 1]
    problems = check_folder(root).problems
    assert {p.level for p in problems} == {"left out", "warning"}
    assert sum(p.level == "left out" for p in problems) == 5
    manifest.unlink()
    with pytest.raises(DataError, match=r"q\.mp4: no features"):
        load_dataset("folder", root=root)  # one command makes them


def test_many_rows_that_are_left_out_are_counted(tmp_path: Path) -> None:
    good = "".join(f"{n}.mp4,1,3,x\n" for n in "abcd")
    bad = "".join("a.mp4,5,3,x\n" for _ in range(50))
    root = write(tmp_path, HEAD + good + bad, {f"{n}.mp4": 6 for n in "abcd"})
    notes = load_dataset("folder", root=root).notes
    left_out = [n for n in notes if n.startswith("Left out: ")]
    assert len(left_out) == 21 and "30 more; `avel check" in left_out[-1]
    assert sum(p.level == "left out" for p in check_folder(root).problems) == 50


def test_missing_features_name_the_cure(tmp_path: Path) -> None:
    lengths = {f"{n}.mp4": 6 for n in "abc"}
    rows = "a.mp4,1,2,x\nb.mp4,1,20,x\nc.mp4,9,10,x\n"
    root = write(tmp_path, HEAD + rows, lengths, missing=["a.mp4"])
    (feature_path(root, "c.mp4")).write_bytes(b"junk")
    with pytest.raises(DataError) as caught:
        load_dataset("folder", root=root)
    told = str(caught.value)
    assert "a.mp4: no features" in told and f"avel extract {root}" in told
    assert "c.mp4: " in told and "no file of avel's features" in told
    assert "annotations.csv:3: 'x' from 1 to 20 s, and b.mp4 ends at 6 s" in told


def test_features_of_other_backbones_are_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    root = ten(tmp_path)
    other = replace(features(6), audio_card={"name": "vggish", "hash": "x"})
    other.save(feature_path(root, "v/4.mp4"))
    with pytest.raises(DataError, match=r"v/4\.mp4: features of other backbones"):
        load_dataset("folder", root=root)


def test_numbers_that_half_floats_cannot_hold(tmp_path: Path) -> None:
    from dataclasses import replace

    root = ten(tmp_path)
    loud = replace(features(6), audio=np.full((6, 5), 1e6, np.float32))
    loud.save(feature_path(root, "v/4.mp4"))
    with pytest.raises(DataError, match="float16 can't hold"):
        load_dataset("folder", root=root)
    load_dataset("folder", root=root, dtype="float32")


def test_columns_are_checked_with_the_nearest_name(tmp_path: Path) -> None:
    text = "file,begin,end,label,splt\na.mp4,1,2,x,train\n"
    with pytest.raises(DataError) as caught:
        load_dataset("folder", root=write(tmp_path, text, {"a.mp4": 6}))
    assert "column 'start' is missing" in str(caught.value)
    assert "unknown column 'splt': did you mean split?" in str(caught.value)


def test_a_table_as_spreadsheets_write_it(tmp_path: Path) -> None:
    text = '\ufeffFile, Start,End,Label\r\n"a, b.mp4",0:01,"0:03,5","Male speech, man"\r\n\r\n'
    (tmp_path / "annotations.csv").write_bytes(text.encode())
    rows, mistakes = read_rows(tmp_path)
    assert not mistakes
    assert [(r.file, r.start, r.end, r.label) for r in rows] == [
        ("a, b.mp4", 1.0, 3.5, "Male speech, man")
    ]


def test_text_in_aves_form(tmp_path: Path) -> None:
    text = (
        "Category&VideoID&Quality&StartTime&EndTime\r\nChurch bell&-a1&good&2&5\r\nBark&b&good&0&0"
    )
    (tmp_path / "Annotations.txt").write_text(text)
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "-a1.mkv").touch()
    rows, mistakes = read_rows(tmp_path)
    assert not mistakes
    assert [(r.file, r.start, r.end, r.label) for r in rows] == [
        ("videos/-a1.mkv", 2.0, 5.0, "Church bell"),
        ("b.mp4", 0.0, 0.0, ""),
    ]


def test_split_texts_in_aves_form(tmp_path: Path) -> None:
    lengths = {f"{n}.mp4": 6 for n in "abc"}
    write(tmp_path, "", lengths)
    (tmp_path / "annotations.csv").unlink()
    for name, split in zip("abc", ("train", "val", "test"), strict=True):
        (tmp_path / f"{split}Set.txt").write_text(f"Bark&{name}&good&1&3\n")
    data = load_dataset("folder", root=tmp_path)
    assert [data.splits[s].ids for s in ("train", "val", "test")] == [
        ("a.mp4",), ("b.mp4",), ("c.mp4",),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "column 'file' is missing"),
        (HEAD.encode(), "has no rows"),
        (b"\xff\xfe\x00", "not UTF-16"),
        (b"file,start,end,label\n\"a", "a quote that is never closed"),
    ],
)  # fmt: skip
def test_tables_that_hold_nothing(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "annotations.csv").write_bytes(content)
    with pytest.raises(DataError, match=told):
        load_dataset("folder", root=tmp_path)


def test_no_folder_and_no_annotations(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no folder"):
        load_dataset("folder", root=tmp_path / "nothing")
    with pytest.raises(DataError, match="has no annotations"):
        load_dataset("folder", root=tmp_path)


def test_too_few_videos_for_three_splits() -> None:
    from avel.data.folder import Clip

    clips, mistakes = assign_splits([Clip(n, n, "", ()) for n in "ab"])
    assert len(clips) == 2 and mistakes
    clips, mistakes = assign_splits([Clip(n, n, "", ()) for n in "abc"])
    assert not mistakes and sorted(c.split for c in clips) == ["test", "train", "val"]


def test_splits_have_every_class_in_its_share() -> None:
    from avel.data.folder import Clip

    def clip(number: int) -> Clip:
        labels = [f"common{number % 2}"] + (["rare"] if number < 10 else [])
        return Clip(f"{number}.mp4", f"{number}.mp4", "", tuple((0.0, 1.0, n) for n in labels))

    clips = [clip(i) for i in range(60)]
    for seed in range(20):
        drawn, mistakes = assign_splits(clips, seed=seed)
        assert not mistakes
        sizes = Counter(c.split for c in drawn)
        of_class = Counter((label, c.split) for c in drawn for *_, label in c.events)
        assert sizes == {"train": 42, "val": 6, "test": 12}
        assert [of_class["rare", s] for s in ("train", "val", "test")] == [7, 1, 2]
        assert all(abs(of_class["common0", s] - n / 2) <= 1 for s, n in sizes.items())
        again, _ = assign_splits(clips[::-1], seed=seed)  # the order of the rows is no matter
        assert {c.file: c.split for c in again} == {c.file: c.split for c in drawn}
    lone = [Clip(f"{n}.mp4", n, "", ((0.0, 1.0, n),)) for n in "abcdefghij"]
    assert Counter(c.split for c in assign_splits(lone)[0]) == {"train": 7, "val": 1, "test": 2}


def test_a_draw_says_what_it_did_and_which_classes_are_not_measured(tmp_path: Path) -> None:
    rows = "".join(f"{i}.mp4,1,4,{'rare' if i == 3 else 'a'}\n" for i in range(10))
    root = write(tmp_path, HEAD + rows, {f"{i}.mp4": 25 for i in range(10)})
    data = load_dataset("folder", root=root)
    assert len(data.train) == 21  # excerpts
    assert data.notes == (
        "The validation split has no rare.",
        "The test split has no rare.",
        "No split is named: the 10 files were divided by class (train 7, val 1, test 2 files).",
    )


def test_a_folder_without_splits_is_tested_whole_where_asked(tmp_path: Path) -> None:
    data = load_dataset("folder", root=ten(tmp_path), whole=True, partial=True)
    assert list(data.splits) == ["test"] and len(data.test) == 10 and data.drawn
    assert data.notes == ("No split is named: all 10 files are in test.",)


def test_events_too_short_for_a_segment_are_counted(tmp_path: Path) -> None:
    root = ten(tmp_path)
    table = root / "annotations.csv"
    table.write_text(table.read_text() + "v/0.mp4,5.0,5.3,b\n")
    assert "1 too short" in load_dataset("folder", root=root).note


# --- packed --------------------------------------------------------------------------------------


def ragged(root: Path) -> Path:
    rows = "".join(f"v/{i}.mp4,1,4,{'ab'[i % 2]}\n" for i in range(10))
    return write(root, HEAD + rows, {f"v/{i}.mp4": 4 + 3 * i for i in range(10)})


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_pack_gives_the_same_data_set(tmp_path: Path, dtype: str) -> None:
    root = ragged(tmp_path)
    plain = load_dataset("folder", root=root, dtype=dtype, window=5)
    assert main(["pack", str(root), "--dtype", dtype]) == 0
    packed = load_dataset("folder", root=root, dtype=dtype, window=5)
    assert isinstance(packed.train.audio, Windows)
    assert fingerprint(plain) == fingerprint(packed) and plain.note == packed.note
    assert plain.audio_card == packed.audio_card and plain.visual_card == packed.visual_card
    for name, split in plain.splits.items():
        for modality in ("audio", "visual"):
            ours, theirs = getattr(split, modality), getattr(packed.splits[name], modality)
            assert theirs.shape == ours.shape and theirs.dtype == ours.dtype
            np.testing.assert_array_equal(np.asarray(theirs), ours)
            some = np.array([len(split) - 1, 0, 0])
            for index in (some, slice(0, 2), -1, np.arange(len(split)) > 0):
                np.testing.assert_array_equal(theirs[index], ours[index])


def test_training_on_a_pack_is_the_same(tmp_path: Path) -> None:
    from avel.data.resident import resident

    root = ragged(tmp_path)
    plain = resident(load_dataset("folder", root=root).train)
    pack(root / "features")
    packed = resident(load_dataset("folder", root=root).train)
    assert isinstance(packed.split.audio, Windows)
    assert plain.audio.equal(packed.audio) and plain.visual.equal(packed.visual)


def test_an_old_pack_is_left_aside(tmp_path: Path) -> None:
    root = ten(tmp_path)
    pack(root / "features")
    assert isinstance(load_dataset("folder", root=root).train.audio, Windows)
    features(6, seed=99).save(feature_path(root, "v/4.mp4"))
    data = load_dataset("folder", root=root, dtype="float32")
    assert f"not of float32: `avel pack {root} --dtype float32`" in data.note
    data = load_dataset("folder", root=root)
    assert not isinstance(data.train.audio, Windows)
    assert f"its pack is out of date: `avel pack {root}`" in data.note
    pack(root / "features")
    data = load_dataset("folder", root=root)
    assert isinstance(data.train.audio, Windows) and "its pack" not in data.note
    held = {i: a for s in data.splits.values() for i, a in zip(s.ids, s.audio[:], strict=True)}
    expected = features(6, seed=99).audio.astype(np.float16)
    np.testing.assert_array_equal(held["v/4.mp4"], expected)
    store = root / "features" / ".avel"
    assert len(list(store.glob("*.npy"))) == 2 and len(list(store.iterdir())) == 3


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"layout":1', '"layout":2'),
        ('"dtype":"float16"', '"dtype":"float32"'),
        ('"id":"', '"id":"../'),
        ('"step":1.0', '"step":0'),
        ("[0,6,", "[6000,6,"),
        ("[0,6,", "[-6,6,"),
        ("[0,6,", '["0",6,'),
        ("[0,6,", "[6,"),
        ("{", "[" * 10000),
        ('"files":', '"flies":'),
    ],
)
def test_a_damaged_pack_is_no_pack(tmp_path: Path, old: str, new: str) -> None:
    root = ten(tmp_path)
    pack(root / "features")
    table = root / "features" / ".avel" / "pack.json"
    held = table.read_text()
    assert old in held
    table.write_text(held.replace(old, new, 1))
    assert open_pack(root / "features") is None
    load_dataset("folder", root=root)


def test_arrays_that_are_not_the_tables(tmp_path: Path) -> None:
    root = ten(tmp_path)
    pack(root / "features")
    (audio,) = (root / "features" / ".avel").glob("pack-audio-*.npy")
    for wrong in (np.zeros((3, 5), np.float16), np.zeros((60, 5), object), np.zeros(60, "f2")):
        np.save(audio, wrong)
        assert open_pack(root / "features") is None
    audio.write_bytes(audio.read_bytes()[:50])
    assert open_pack(root / "features") is None


def test_what_cannot_be_packed_is_named_at_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from dataclasses import replace

    root = ten(tmp_path)
    odd = [
        ("v/1.mp4", replace(features(6), audio_card={"name": "vggish", "hash": "x"})),
        ("v/2.mp4", features(6, step=0.5)),
        ("v/3.mp4", replace(features(6), audio=np.zeros((6, 9), np.float32))),
    ]
    for file, found in odd:
        found.save(feature_path(root, file))
    feature_path(root, "v/4.mp4").write_bytes(b"junk")
    assert main(["pack", str(root)]) == 1
    told = capfd.readouterr().err
    assert "4 of 10 can't be packed" in told and "Traceback" not in told
    for what in ("other backbones", "another length", "another shape", "not a file of avel's"):
        assert what in told
    assert not (root / "features" / ".avel" / "pack.json").exists()


def test_what_half_floats_cannot_hold_is_not_packed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from dataclasses import replace

    root = ten(tmp_path)
    loud = replace(features(6), audio=np.full((6, 5), 1e6, np.float32))
    loud.save(feature_path(root, "v/4.mp4"))
    assert main(["pack", str(root)]) == 1
    assert "float16 can't hold" in capfd.readouterr().err
    assert not list((root / "features" / ".avel").glob("*.npy"))
    assert main(["pack", str(root), "--dtype", "float32"]) == 0


def test_packing_called_wrongly(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["pack", str(tmp_path / "nothing")]) == 1
    assert main(["pack", str(tmp_path)]) == 1
    assert main(["pack", str(tmp_path), "--dtype", "int8"]) == 2
    told = capfd.readouterr().err
    assert "is no folder" in told and "holds no features" in told and "int8" in told
