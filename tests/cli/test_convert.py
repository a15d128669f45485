"""`avel convert` of labels, clips and pictures, and labels of any format as a data source."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from avel import formats, report
from avel.cli.main import main
from avel.data.annotations import AnnotationRow
from avel.errors import DataError, MediaError
from avel.formats import format_endings
from avel.report import clips
from avel.types import Event, Timeline
from tests.conftest import ROOT
from tests.data.rows import read_rows
from tests.report_samples import hand_timeline, write_clip

EVENTS = (Event(0.0, 1.6, "Bark"), Event(2.0, 3.0, "Church bell"))


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def labels(name: str, events: tuple[Event, ...] = EVENTS, video: str = "clip.mp4") -> Path:
    Timeline(video, events, 5.0, tuple(dict.fromkeys(e.label for e in events))).save(name)
    return Path(name)


# ---- avel convert


def test_one_file_into_another(capsys: pytest.CaptureFixture[str]) -> None:
    labels("in.eaf")
    assert main(["convert", "in.eaf", "out.vtt"]) == 0
    assert capsys.readouterr().out == "wrote out.vtt\n"
    assert report.read("out.vtt").events == EVENTS


def test_the_last_of_the_files_is_never_written_over(capsys: pytest.CaptureFixture[str]) -> None:
    labels("a.eaf"), labels("b.eaf")
    before = Path("b.eaf").read_bytes()
    assert main(["convert", "a.eaf", "b.eaf"]) == 2
    assert "b.eaf exists already" in capsys.readouterr().err
    assert Path("b.eaf").read_bytes() == before
    assert main(["convert", "a.eaf", "-o", "b.eaf"]) == 0
    assert main(["convert", "a.eaf", "-o", "a.eaf"]) == 2
    assert "a.eaf is a source" in capsys.readouterr().err
    assert main(["convert", "a.eaf"]) == 2


def test_every_format_into_every_other() -> None:
    endings = format_endings()
    for name in endings.values():
        labels(f"in{name}")
        outputs = [f"{name[1:].replace('.', '_')}{other}" for other in endings.values()]
        assert main(["convert", f"in{name}", "-o", *outputs]) == 0
        for output in outputs:
            assert report.read(output).events == EVENTS, (name, output)


def test_scores_are_shown_on_request() -> None:
    Timeline("t.mp4", (Event(0.0, 1.0, "Bark", 0.884),), 1.0, ("Bark",)).save("t.json")
    assert main(["convert", "t.json", "-o", ".srt", ".vtt", "--scores"]) == 0
    assert "\nBark (score 0.88)\n" in Path("t.srt").read_text()
    assert report.read("t.vtt").events == (Event(0.0, 1.0, "Bark", 0.88),)


def test_many_files_beside_themselves_and_into_a_folder() -> None:
    for name in ("a.eaf", "b.v2.selections.txt"):
        labels(name)
    assert main(["convert", "a.eaf", "b.v2.selections.txt", "-o", ".vtt", ".labelstudio.json"]) == 0
    assert main(["convert", "a.eaf", "b.v2.selections.txt", "-o", "out", "--format", "raven"]) == 0
    paths = {p.relative_to(Path.cwd()).as_posix() for p in Path.cwd().rglob("*") if p.is_file()}
    assert paths == {
        "a.eaf", "a.vtt", "a.labelstudio.json", "out/a.selections.txt", "b.v2.selections.txt",
        "b.v2.vtt", "b.v2.labelstudio.json", "out/b.v2.selections.txt",
    }  # fmt: skip
    assert main(["convert", "a.eaf", "-o", "out"]) == 2  # which format?


def test_tables_are_split_and_merged() -> None:
    table = (
        "file,start,end,label,split\nx/a.mp4,0,1.5,Bark,train\n../b.mp4,2,3,Bark,val\nc.mp4,,,,\n"
    )
    Path("annotations.csv").write_text(table, "utf-8")
    assert main(["convert", "annotations.csv", "-o", "each", ".txt"]) == 0
    assert sorted(p.name for p in Path("each").iterdir()) == ["a.txt", "b.txt", "c.txt"]
    assert report.read("each/c.txt").events == ()
    assert main(["convert", "each/a.txt", "each/b.txt", "each/c.txt", "-o", "all.tsv"]) == 0
    assert {t.video: len(t) for t in formats.read_all("all.tsv")} == {"a": 1, "b": 1, "c": 0}
    assert main(["convert", "annotations.csv", "-o", "one.vtt"]) == 2
    assert not Path("one.vtt").exists()


def test_two_of_one_name_are_refused_before_anything_is_written() -> None:
    Path("t.csv").write_text("file,start,end,label\na/x.mp4,0,1,A\nb/x.mp4,0,1,A\n", "utf-8")
    assert main(["convert", "t.csv", "-o", "out", ".vtt"]) == 2
    assert not Path("out").exists()


def test_what_fails_is_named_and_the_rest_done(capsys: pytest.CaptureFixture[str]) -> None:
    labels("a.eaf")
    Path("bad.eaf").write_text("<html/>", "utf-8")
    assert main(["convert", "bad.eaf", "a.eaf", "-o", ".srt"]) == 1
    printed = capsys.readouterr()
    assert "bad.eaf: no timeline" in printed.err and printed.out == "wrote a.srt\n"
    assert main(["convert", "bad.eaf", "a.eaf", "-o", "all.csv"]) == 1
    assert "all.csv isn't written" in capsys.readouterr().err
    assert not Path("all.csv").exists()


@pytest.mark.parametrize(
    "call",
    [
        "convert a.docx b.vtt", "convert a.eaf b.docx", "convert a.eaf b.vtt --format vt",
        "convert a.eaf b.vtt --from elam", "convert a.eaf b.vtt --task sel", "convert",
        "convert a.eaf a.csv -o b c", "convert a.pt a.eaf -o x",
    ],
)  # fmt: skip
def test_wrong_calls_end_with_2(call: str, capsys: pytest.CaptureFixture[str]) -> None:
    labels("a.eaf"), labels("a.csv")
    assert main(call.split()) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_the_video_is_found_beside_its_labels(capsys: pytest.CaptureFixture[str]) -> None:
    Path("data").mkdir()
    write_clip(Path("data/clip.mp4"), 4)
    for name in ("data/clip.vtt", "data/other.eaf"):
        labels(name, video="clip.mp4")
    for source in ("data/clip.vtt", "data/other.eaf"):
        assert main(["convert", source, "-o", "x.json"]) == 0
        timeline = report.read("x.json")
        assert Path(timeline.video) == Path("data/clip.mp4") and timeline.duration == 4.0
    write_clip(Path("elsewhere.mp4"), 6)
    assert main(["convert", "data/clip.vtt", "-o", "x.json", "--video", "elsewhere.mp4"]) == 0
    assert report.read("x.json").duration == 6.0
    Path("evil.csv").write_text("file,start,end,label\n../../etc/hosts,0,1,A\n", "utf-8")
    assert main(["convert", "evil.csv", "-o", "x.json"]) == 0
    assert report.read("x.json").video == "hosts"  # a name, and never followed


def test_an_absolute_video_of_a_label_file_is_never_followed(tmp_path: Path) -> None:
    Path("hidden").mkdir(), Path("d").mkdir()
    write_clip(Path("hidden/clip.mp4"), 4)
    labels("d/in.json", video=str(Path("hidden/clip.mp4").absolute()))
    assert main(["convert", "d/in.json", "-o", "x.json", "x.otio"]) == 0
    assert report.read("x.json").video == "clip.mp4" and report.read("x.json").duration == 5.0
    assert "hidden" not in Path("x.otio").read_text("utf-8")
    assert main(["convert", "d/in.json", "--clips", "cuts"]) == 1
    write_clip(Path("clip.mp4"), 4)  # of that name, but where the command runs: not beside it
    assert main(["convert", "d/in.json", "--clips", "cuts"]) == 1
    assert not Path("cuts").exists()


def test_names_that_no_file_can_have(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("x" * 300 + ".mp4", "a/" * 400 + "b.mp4", "."):
        labels("t.labelstudio.json", video=name)
        Path("t.csv").write_text(f"file,start,end,label\n{name},0,1,A\n")
        for source in ("t.labelstudio.json", "t.csv"):
            assert main(["convert", source, "-o", "x.otio", "x.vtt", "x.json"]) == 0
    assert "Traceback" not in capsys.readouterr().err


def test_what_was_left_out_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.txt").write_text("0\t1\tdog\n2\t2\tclick\n")
    assert main(["convert", "a.txt", "a.vtt"]) == 0
    errors = capsys.readouterr().err
    assert errors == "avel: a.txt: Left out: a.txt:2: 'click' from 2 to 2 s has no length.\n"


def test_the_documented_calls_do_what_they_say() -> None:
    text = (ROOT / "docs" / "formats.md").read_text("utf-8")
    block = re.search(r"## avel convert\s*```sh\n(.*?)```", text, re.S)
    assert block is not None
    calls = [shlex.split(line, comments=True) for line in block.group(1).splitlines()]
    for name in ("in.eaf", "a.eaf", "b.eaf", "c.txt", "dcase.tsv", "clip.txt", "clip.eaf"):
        labels(name)
    write_clip(Path("clip.mp4"), 4)
    assert len(calls) == 8
    for program, *call in calls:
        assert program == "avel" and main(call) == 0, call
    paths = {p.as_posix() for p in Path().rglob("*") if p.is_file()}
    assert {
        "out.vtt", "c.srt", "labels/b.selections.txt", "annotations.csv", "labels/dcase.vtt",
        "table.txt", "cuts/clip_00000.000-00001.600_Bark.mp4",
        "pictures/clip_00002.000-00003.000_Church_bell.jpg",
    } <= paths  # fmt: skip


# ---- clips and pictures


def test_clips_begin_and_end_at_the_event(tmp_path: Path) -> None:
    import av

    from avel.media.file import audio_track, open_media

    video = write_clip(Path("street.mp4"), 8)  # a tone from 2 to 5 s; the square moves right
    events = (Event(2.0, 4.0, "a/b: c"), Event(4.5, 6.0, "tone"), Event(4.5, 6.0, "tone"))
    paths = clips.cut_clips(Timeline(str(video), events, 8.0, ("a/b: c", "tone")), "out")
    assert [p.name for p in paths] == [
        "street_00002.000-00004.000_a_b_c.mp4",
        "street_00004.500-00006.000_tone.mp4",
        "street_00004.500-00006.000_tone~2.mp4",
    ]
    assert [open_media(p).duration for p in paths] == pytest.approx([2.0, 1.5, 1.5], abs=0.05)
    with av.open(str(paths[1])) as held_clip:
        assert held_clip.streams.video[0].frames == 15
        rows = [f.to_ndarray(format="rgb24")[50, :, 0] for f in held_clip.decode(video=0)]
    expected = [140 * (45 + k) // 80 for k in range(15)]  # where the square stands in the original
    middles = [np.flatnonzero(row > 150).mean() for row in rows]
    assert np.abs(np.array(middles) - 9.5 - expected).max() <= 2
    sound = np.concatenate(list(audio_track(paths[1], 16000)))
    loud = np.abs(sound).reshape(-1, 160)[:150].max(axis=1) > 0.1
    assert loud[2:48].all() and not loud[52:].any()  # 0.5 s of the tone, then silence


def test_clips_of_sound_alone_and_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    from avel.media.encode import write_video
    from avel.media.file import open_media

    tone = np.sin(np.arange(3 * 16000) / 5).astype(np.float32) * 0.2
    write_video("tone.wav.mp4", frames=(), fps=10, audio=tone, rate=16000)
    timeline = Timeline("tone.wav.mp4", (Event(1, 2, "x"),), 3.0, ("x",))
    (paths,) = clips.cut_clips(timeline, "out")
    assert open_media(paths).video is None and clips.save_thumbnails(timeline, "out") == []
    for name, value in (("MAX_CLIPS", 0), ("MAX_SECONDS", 0.5), ("MAX_TOTAL", 0.5)):
        with monkeypatch.context() as m:
            m.setattr(clips, name, value)
            with pytest.raises(DataError, match="at most"):
                clips.cut_clips(timeline, "none")
    with pytest.raises(MediaError):
        clips.cut_clips(Timeline("nothing.mp4", (Event(0, 1, "x"),), 1.0, ("x",)), "none")
    assert not Path("none").exists()


def test_the_picture_is_of_the_surest_second() -> None:
    from PIL import Image

    video = write_clip(Path("street.mp4"), 8)
    timeline = hand_timeline(video, [0, 0, 0, 3, 1, 1, 1, 3])
    assert timeline.scores is not None
    timeline.scores.values[1, 0] = 0.9
    assert clips.best_instant(timeline, timeline.events[0]) == 1.5
    paths = clips.save_thumbnails(timeline, "pictures")
    assert [p.name for p in paths] == [
        "street_00000.000-00003.000_Church_bell.jpg", "street_00004.000-00007.000_Bark.jpg",
    ]  # fmt: skip
    picture = np.asarray(Image.open(paths[0]))
    assert picture.shape == (384, 640, 3)
    square = np.flatnonzero(picture[200, :, 0] > 150)
    assert abs(square.min() - 4 * (140 * 15 // 80)) <= 8  # where it stands at 1.5 s


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("../../etc/passwd", "etc_passwd"), ("a b:c", "a_b_c"), ("-rf", "rf"),
        ("鳥の声", "鳥の声"), ("", "_"), ("...", "_"), ("x" * 300, "x" * 80), ("🐕", "_"),
        ("a\0b\n", "a_b"), ("é" * 100, "é" * 40),
    ],
)  # fmt: skip
def test_names_are_safe_anywhere(text: str, name: str) -> None:
    assert clips.safe_name(text) == name


def test_convert_cuts_too(capsys: pytest.CaptureFixture[str]) -> None:
    write_clip(Path("clip.mp4"), 4)
    labels("clip.vtt")
    assert main(["convert", "clip.vtt", "--clips", "cuts", "--thumbnails", "pictures"]) == 0
    assert len(list(Path("cuts").iterdir())) == len(list(Path("pictures").iterdir())) == 2
    labels("lost.vtt")
    assert main(["convert", "lost.vtt", "--clips", "none"]) == 1
    assert "--video FILE" in capsys.readouterr().err and not Path("none").exists()
    assert main(["convert", "lost.vtt", "--video", "no.mp4", "--clips", "none"]) == 2
    assert "no.mp4" in capsys.readouterr().err and not Path("none").exists()


def test_a_clip_ends_with_its_video_and_never_begins_after_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from avel.media.file import open_media

    write_clip(Path("clip.mp4"), 4)
    times = "00:00:03.000 --> 00:00:09.000\nbell\n\n"
    Path("clip.vtt").write_text(f"WEBVTT\n\n{times}")
    assert main(["convert", "clip.vtt", "--clips", "cuts"]) == 0
    (cut,) = Path("cuts").iterdir()
    assert "00003.000-00004.000" in cut.name and open_media(cut).duration < 1.2
    Path("clip.vtt").write_text("WEBVTT\n\n00:00:05.000 --> 00:00:09.000\nbell\n")
    assert main(["convert", "clip.vtt", "--clips", "none"]) == 1
    assert "is 4.00 s long, and 1 events begin later" in capsys.readouterr().err
    assert not Path("none").exists()


# ---- labels of any format as a data source


@pytest.mark.parametrize("name", format_endings())
def test_a_label_file_beside_each_clip(name: str) -> None:
    ending = format_endings()[name]
    Path("d/sub").mkdir(parents=True)
    for clip in ("d/one.mp4", "d/sub/two.mp4", "d/unlabelled.mp4"):
        Path(clip).touch()
    labels(f"d/one{ending}", video="one.mp4")
    labels(f"d/sub/two{ending}", (), video="two.mp4")
    rows, mistakes = read_rows(Path("d"))
    assert not mistakes
    assert [(r.file, r.start, r.end, r.label) for r in rows] == [
        ("one.mp4", 0.0, 1.6, "Bark"),
        ("one.mp4", 2.0, 3.0, "Church bell"),
        ("sub/two.mp4", 0.0, 0.0, ""),
    ]
    assert rows[0].where == f"one{ending}:1"


def test_all_mistakes_of_label_files_at_once() -> None:
    Path("d").mkdir()
    for clip in "abcd":
        Path(f"d/{clip}.mp4").touch()
    labels("d/a.vtt", video="a.mp4"), labels("d/a.eaf", video="a.mp4")
    Path("d/b.txt").write_text("nan\t2\tx\n")
    labels("d/c.srt", (Event(0, 1, "Background"),))
    hand_timeline("d.mp4", [0, 0, 3]).save("d/d.json")  # found by a model: no annotation
    rows, mistakes = read_rows(Path("d"))
    assert {r.file for r in rows} == {"c.mp4"}  # which of a.mp4's is right, nobody can say
    assert [m.split(":")[0] for m in mistakes] == ["a.mp4", "b.txt", "c.srt"]
    assert "2 label files (a.eaf, a.vtt): keep one" in mistakes[0]


def test_dcase_s_table_of_all_clips() -> None:
    Path("d/videos").mkdir(parents=True)
    Path("d/videos/a.mp4").touch(), Path("d/b.mp4").touch()
    Path("d/annotations.tsv").write_text(
        "filename\tonset\toffset\tevent_label\na.wav\t0.0\t1.5\t'=x\nb.mp4\t\t\t\n", "utf-8"
    )
    rows, mistakes = read_rows(Path("d"))
    assert not mistakes and rows == [
        AnnotationRow("videos/a.mp4", 0.0, 1.5, "=x", "", "", "annotations.tsv:2"),
        AnnotationRow("b.mp4", 0.0, 0.0, "", "", "", "annotations.tsv:3"),
    ]


def test_what_convert_merges_is_a_data_source() -> None:
    Path("d").mkdir()
    labels("d/a.eaf", video="a.mp4"), labels("d/b.eaf", (), video="b.mp4")
    assert main(["convert", "d/a.eaf", "d/b.eaf", "-o", "d/annotations.csv"]) == 0
    rows, mistakes = read_rows(Path("d"))
    assert not mistakes and [r.file for r in rows] == ["a.mp4", "a.mp4", "b.mp4"]
    assert main(["convert", "d/a.eaf", "d/b.eaf", "-o", "d/annotations.tsv"]) == 0
    Path("d/annotations.csv").unlink()
    again, mistakes = read_rows(Path("d"))
    assert not mistakes and [(r.start, r.label) for r in again] == [
        (r.start, r.label) for r in rows
    ]


def test_times_of_every_length_pass_through_the_table() -> None:
    """What is written by one verb is read by the next, whatever the number."""
    Path("d").mkdir()
    events = (Event(1e-05, 8.325581395348838, "Bark"), Event(2 / 3, 4 / 3, "Bell"))
    for ending in (".csv", ".tsv"):
        labels("d/clip.labelstudio.json", events)
        place = f"d/annotations{ending}"
        assert main(["convert", "d/clip.labelstudio.json", "-o", place]) == 0
        rows, mistakes = read_rows(Path("d"))
        assert not mistakes
        assert [(r.start, r.end) for r in rows] == [(e.start, e.end) for e in events]
        Path(place).unlink()


def test_a_data_set_from_label_files(tmp_path: Path) -> None:
    from avel.data import load_dataset
    from avel.features.store import feature_path
    from tests.training_data import features

    Path("d").mkdir()
    for i, ending in enumerate(format_endings().values()):
        Path(f"d/{i}.mp4").touch()
        features(6, seed=i).save(feature_path(Path("d"), f"{i}.mp4"))
        labels(f"d/{i}{ending}", (Event(1, 4, "ab"[i % 2]),), video=f"{i}.mp4")
    data = load_dataset("folder", root="d")
    assert set(data.classes) == {"a", "b"}
    assert sum(len(s) for s in data.splits.values()) == len(format_endings())
    for split in data.splits.values():
        for name, row in zip(split.ids, split.labels, strict=True):
            own = data.classes.index("ab"[int(Path(name).stem) % 2])
            assert row.tolist() == [2, own, own, own, 2, 2]
