"""Readers keep what they can read, and say by file and line what they left out and why."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from avel import report
from avel.errors import DataError
from avel.formats import base, format_endings
from avel.types import Event, Timeline

GOOD = (Event(1.0, 2.0, "dog"), Event(3.0, 4.0, "cat"))
_RAVEN = "Selection\tBegin Time (s)\tEnd Time (s)\tAnnotation\n"
_DCASE = "filename\tonset\toffset\tevent_label\n"
_SCENES = _DCASE.replace("name", "name\tscene_label")
_TIME = {"OTIO_SCHEMA": "RationalTime.1", "rate": 25.0}


def eaf(inner: str, *, slots: str = "", media: str = "") -> str:
    return (
        '<ANNOTATION_DOCUMENT VERSION="3.0">\n'
        f'<HEADER TIME_UNITS="milliseconds">{media}</HEADER>\n<TIME_ORDER>{slots}</TIME_ORDER>\n'
        f"{inner}</ANNOTATION_DOCUMENT>"
    )


def tier(name: str, *annotations: tuple[str, str, str]) -> str:
    held = "".join(
        f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a" TIME_SLOT_REF1="{a}" '
        f'TIME_SLOT_REF2="{b}">\n<ANNOTATION_VALUE>{v}</ANNOTATION_VALUE>'
        "</ALIGNABLE_ANNOTATION></ANNOTATION>\n"
        for a, b, v in annotations
    )
    return f'<TIER TIER_ID="{name}">\n{held}</TIER>\n'


def slots(**times: int | None) -> str:
    return "".join(
        f'<TIME_SLOT TIME_SLOT_ID="{name}"' + (f' TIME_VALUE="{t}"' if t is not None else "") + "/>"
        for name, t in times.items()
    )


def marker(start: float, length: float | None, name: str | None, **more: Any) -> dict[str, Any]:
    span = {"start_time": {**_TIME, "value": start * 25}}
    if length is not None:
        span["duration"] = {**_TIME, "value": length * 25}
    return {"OTIO_SCHEMA": "Marker.2", "name": name, "marked_range": span, **more}


def otio(*markers: dict[str, Any]) -> str:
    return json.dumps({"OTIO_SCHEMA": "Timeline.1", "tracks": {"markers": list(markers)}})


def regions(*values: dict[str, Any], **task: Any) -> str:
    result = [{"type": v.pop("type", "labels"), "value": v} for v in values]
    return json.dumps([{"data": {"video": "x.mp4"}, "annotations": [{"result": result}], **task}])


#: A file with two good rows, what is wrong with the others, and where they stand.
CASES: dict[str, tuple[str, str, list[str]]] = {
    "audacity": (
        "t.txt", "1.0\t2.0\tdog\n2.5\t2.5\tclick\n3.0\t4.0\tcat\n5.0\t6.0\t\n7.0\t8.0\n",
        ["t.txt:2: 'click' from 2.5 to 2.5 s has no length", "t.txt:4: no label", "t.txt:5: "],
    ),
    "csv": (
        "t.csv",
        'start,end,label\n1,2,dog\n2,1,up\n3,4,cat\nx,5,y\n5,6,a,b\n7,8\n8,9,"never\n9,8,z\n',
        ["t.csv:3: 'up' from 2 to 1 s ends before it starts", "t.csv:5: 'x' is no time",
         "t.csv:6: 4 columns", "t.csv:7: 2 columns", "t.csv:8: a quote that is never closed",
         "t.csv:9: 'z'"],
    ),
    "dcase": (
        "t.tsv", f"{_DCASE}a.wav\t1\t2\tdog\na.wav\t3\t4\tcat\n\t1\t2\tx\n",
        ["t.tsv:4: no file"],
    ),
    "raven": (
        "t.selections.txt", f"{_RAVEN}1\t1\t2\tdog\n2\t3\t4\tcat\n3\t5\t\tx\n4\t5\t6\t\n",
        ["t.selections.txt:4: ", "t.selections.txt:5: no label"],
    ),
    "vtt": (
        "t.vtt",
        "WEBVTT\n\nNOTE why\n\n00:01.000 --> 00:02.000\ndog\n\n00:02.000 --> 00:02.500\n\n"
        "00:xx.000 --> 00:03.000\nx\n\nfirst\n00:03.000 --> 00:04.000 align:start\ncat\n",
        ["t.vtt:8: a cue without text", "t.vtt:10: '00:xx.000' is no time"],
    ),
    "srt": (
        "t.srt",
        "1\n00:00:01,000 --> 00:00:02,000\ndog\n\n2\n00:00:02,000 --> later\nx\n\nlost words\n\n"
        "3\n00:00:03,000 --> 00:00:04,000\ncat\n",
        ["t.srt:6: 'later' is no time", "t.srt:9: 'lost words' belongs to no cue"],
    ),
    "elan": (
        "t.eaf",
        eaf(tier("t", ("a", "b", "dog"), ("b", "a", "back"), ("c", "x", "lost"), ("c", "d", "cat")),
            slots=slots(a=1000, b=2000, c=3000, d=4000)),
        ["t.eaf:7: 'back' from 2 to 1 s ends before it starts", "t.eaf:9: no 'x'"],
    ),
    "json": (
        "t.json",
        json.dumps({"video": "x.mp4", "duration": 9, "step": None, "classes": ["dog", "cat"],
                    "segments": [], "events": [
                        {"start": 1, "end": 2, "label": "dog", "score": 1}, 3,
                        {"start": 3, "end": 4, "label": "cat", "score": 1},
                        {"start": 3, "end": 4, "label": "cow", "score": 1}]}),
        [
            "t.json, event 2: '3': expected an object",
            "t.json, event 4: an event of the class 'cow'",
        ],
    ),
    "labelstudio": (
        "t.labelstudio.json",
        regions({"start": 1, "end": 2, "labels": ["dog"]},
                {"start": 3, "end": 4, "labels": ["cat"]}, {"start": 5, "end": 6, "labels": []},
                {"start": 5, "end": float("nan"), "labels": ["x"]},
                {"type": "videorectangle", "sequence": [], "labels": ["x"]},
                {"type": "choices", "choices": ["indoors"]}),
        ["task 1, region 3: no label from 5 to 6 s", "task 1, region 4: 'nan'",
         "task 1, region 5: it is a videorectangle"],
    ),
    "otio": (
        "t.otio",
        otio(marker(1, 1, "dog"), marker(2, 0, "a point"), marker(2, None, "a point"),
             marker(2, 1, ""), marker(3, 1, "cat"), marker(2, 1, None)),
        ["t.otio, marker 2: 'a point' from 2 to 2 s has no length", "t.otio, marker 3: ",
         "t.otio, marker 4: no name at 2 s", "t.otio, marker 6: no name"],
    ),
    "textgrid": (
        "t.textgrid",
        '"ooTextFile"\n"TextGrid"\n0 9 <exists> 2\n"IntervalTier" "a" 0 9 5\n0 1 ""\n1 2 "dog"\n'
        '2 2 "click"\n3 4 "cat"\n5 4 "back"\n"TextTier" "b" 0 9 1\n3 "a point"\n',
        ["tier 1 (a), row 3: 'click' from 2 to 2 s has no length", "tier 1 (a), row 5: 'back'",
         "tier 2 (b), row 1: a point has no length"],
    ),
    "edl": (
        "t.edl",
        "TITLE: t\n1  AX  V  C  00:00:01:00 00:00:02:00 00:00:00:00 00:00:01:00\n* COMMENT: dog\n"
        "2  AX  V  C  00:00:01:00 00:00:02:00 00:00:01:00 00:00:02:00\n"
        "3  AX  V  C  00:00:02:00 00:00:01:00 00:00:02:00 00:00:03:00\n* COMMENT: back\n"
        "4  AX  V  C  00:00:03:00 00:00:04:00 00:00:03:00 00:00:04:00\n* COMMENT: cat\n",
        ["t.edl:4: no comment names this edit", "t.edl:5: 'back'"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_is_good_is_kept_and_the_rest_is_named(name: str, tmp_path: Path) -> None:
    file, text, reasons = CASES[name]
    (tmp_path / file).write_text(text, "utf-8")
    found = report.read(tmp_path / file)
    assert sorted(found.events) == sorted(GOOD)
    told = [n for n in found.notes if n.startswith("Left out: ")]
    assert len(told) == len(reasons)
    for note, reason in zip(sorted(told), sorted(reasons), strict=True):
        assert reason in note


def test_every_format_has_such_a_file() -> None:
    assert set(CASES) == set(format_endings())


@pytest.mark.parametrize("ending", format_endings().values())
@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_an_empty_timeline(ending: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / f"clip{ending}").write_bytes(content)
    found = report.read(tmp_path / f"clip{ending}")
    assert found.events == () and found.video == "clip"


def test_many_bad_rows_are_counted(tmp_path: Path) -> None:
    rows = "".join(f"{i}\t{i}\tclick\n" for i in range(500))
    (tmp_path / "t.txt").write_text(f"{rows}1\t2\tdog\n")
    found = report.read(tmp_path / "t.txt")
    assert len(found) == 1 and len(found.notes) == 21
    assert found.notes[-1] == "Left out: 480 more of t.txt."
    (tmp_path / "t.txt").write_text(rows)
    with pytest.raises(DataError, match=r"t\.txt:1: 'click' .* and 495 more"):
        report.read(tmp_path / "t.txt")


# ---- the kinds of file that tools write


@pytest.mark.parametrize(
    "text",
    [
        "1\n00:00:01 --> 00:00:02\ndog\n\n2\n00:00:03 --> 00:00:04\ncat\n",  # no milliseconds
        "00:00:01,000 --> 00:00:02,000\ndog\n\n00:00:03,000 --> 00:00:04,000\ncat\n",  # no numbers
        "1 \n00:00:01,000 --> 00:00:02,000 \ndog \n \n2\n00:00:03,000  -->  00:00:04,000\ncat",
        "1\n00:00:01,000 --> 00:00:02,000\ndog\n2\n00:00:03,000 --> 00:00:04,000\ncat\n",
        "1\r00:00:01.000 --> 00:00:02.000\rdog\r\r2\r00:00:03.000 --> 00:00:04.000\rcat\r",
        "1\n00:00:01,000 --> 00:00:02,000 X1:0 X2:9\n{\\an8}<i>dog</i>\n\n2\n0:03 --> 0:04\ncat",
    ],
)
def test_subtitles_as_people_write_them(text: str, tmp_path: Path) -> None:
    (tmp_path / "t.srt").write_bytes(text.encode())
    found = report.read(tmp_path / "t.srt")
    assert found.events == GOOD and not found.notes


def test_webvtt_without_its_first_line_says_so(tmp_path: Path) -> None:
    (tmp_path / "t.vtt").write_text("00:01.000 --> 00:02.000\ndog\n")
    found = report.read(tmp_path / "t.vtt")
    assert found.events == GOOD[:1] and "players won't show" in found.notes[0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "start, end, label\n1, 2, dog\n3, 4 ,cat \n"),
        ("t.csv", "start;end;label\n1,0;2,0;dog\n3,0;4,0;cat\n"),
        ("t.csv", "sep=;\nstart;end;label\n1;2;dog\n3;4;cat\n"),
        ("t.csv", "1,2,dog\n3,4,cat\n"),
        ("t.csv", "Start (s),End (s),Scientific name,Common name\n1,2,x,dog\n3,4,y,cat"),
        ("t.csv", "start,end,label,score\n1,2,dog\n3,4,cat,\n"),
        ("t.tsv", "a.wav\t1.0\t2.0\tdog\na.wav\t3.0\t4.0\tcat\n"),
        ("t.tsv", "a.wav\tstreet\t1.0\t2.0\tdog\na.wav\tstreet\t3.0\t4.0\tcat\n"),
        ("t.tsv", "a.wav\tstreet\t1.0\t2.0\tdog\tid1\na.wav\tstreet\t3.0\t4.0\tcat\tid2\n"),
        ("t.tsv", f"{_SCENES}a.wav\tx\t1\t2\tdog\na.wav\tx\t3\t4\tcat"),
        ("t.tsv", "1.0\t2.0\tdog\n3.0\t4.0\tcat\n"),
        ("t.txt", "a.wav\t1.0\t2.0\tdog\na.wav\t3.0\t4.0\tcat\n"),
    ],
)  # fmt: skip
def test_tables_as_tools_write_them(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    found = report.read(tmp_path / name)
    assert found.events == GOOD and not found.notes
    assert found.video == ("a.wav" if "a.wav" in text else "t")


def test_white_space_that_is_quoted_is_kept(tmp_path: Path) -> None:
    held = (Event(1, 2, " dog"), Event(2, 3, 'say "hi"\r\nthen'), Event(3, 4, "a\rb"))
    Timeline("t", held, 4, ()).save(tmp_path / "t.csv")
    assert report.read(tmp_path / "t.csv").events == held


def test_an_encoding_that_is_not_utf8_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(
        "start,end,label\n1,2,dog\n3,4,H\u00fcndchen\n".encode("cp1252")
    )
    with pytest.raises(DataError, match=r"0xfc in line 3") as caught:
        report.read(tmp_path / "t.csv")
    assert "save it as UTF-8" in str(caught.value)


def test_slots_that_elan_leaves_open_lie_evenly(tmp_path: Path) -> None:
    words = tier("words", ("a", "b", "w1"), ("b", "c", "w2"), ("c", "d", "w3"))
    lost = tier("lost", ("e", "f", "x"))
    times = slots(a=1000, b=None, c=None, d=4000, e=5000, f=None)
    (tmp_path / "t.eaf").write_text(eaf(words + lost, slots=times))
    found = report.read(tmp_path / "t.eaf")
    assert found.events == (Event(1, 2, "w1"), Event(2, 3, "w2"), Event(3, 4, "w3"))
    assert any("tier 'lost' without times" in n for n in found.notes)
    assert any("evenly spaced" in n for n in found.notes)


def test_many_chains_of_open_slots_take_no_longer(tmp_path: Path) -> None:
    """Annotations that begin at one time and share the rest of an endless chain."""
    count = 20_000
    open_slots = "".join(f'<TIME_SLOT TIME_SLOT_ID="t{i}"/>' for i in range(count))
    chains = [("a", f"t{i}", "x") for i in range(count)]
    links = [(f"t{i}", f"t{i + 1}", "x") for i in range(count - 1)]
    text = eaf(tier("t", *chains, *links), slots=slots(a=0, b=1000) + open_slots)
    text = text.replace("</TIER>", tier("u", ("a", "b", "y")).partition("\n")[2])
    (tmp_path / "t.eaf").write_text(text)
    began = time.process_time()
    assert report.read(tmp_path / "t.eaf").events == (Event(0, 1, "y"),)
    assert time.process_time() - began < 20  # quadratic, it was minutes


@pytest.mark.parametrize("fps", ["25", 25, 25.0])
def test_label_studio_s_frames_a_second_in_any_type(fps: Any, tmp_path: Path) -> None:
    value = {
        "type": "timelinelabels",
        "ranges": [{"start": 26, "end": 50}],
        "timelinelabels": ["dog"],
    }
    text = regions(value).replace('"video": "x.mp4"', f'"video": "x.mp4", "fps": {json.dumps(fps)}')
    (tmp_path / "t.json").write_text(text)
    assert report.read(tmp_path / "t.json").events == GOOD[:1]
    (tmp_path / "t.json").write_text(text.replace(json.dumps(fps), '"fast"'))
    found = report.read(tmp_path / "t.json")
    assert "fps is 'fast', no rate above 0; 24 was taken" in " ".join(found.notes)


def test_label_studio_s_json_min(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "video": "/data/upload/1/0a1b2c3d-x.mp4", "annotator": 1, "tricks": [
            {"start": 1, "end": 2, "channel": 0, "labels": ["dog"], "original_length": 60}]},
        {"id": 2, "video": "y.mp4", "when": [
            {"ranges": [{"start": 25, "end": 48}], "timelinelabels": ["cat"]}]},
    ]  # fmt: skip
    (tmp_path / "t.json").write_text(json.dumps(rows))
    first, second = report.read_all(tmp_path / "t.json")
    assert (first.video, first.events, first.duration) == ("x.mp4", GOOD[:1], 60)
    assert (second.video, second.events) == ("y.mp4", (Event(1, 2, "cat"),))
    (tmp_path / "t.json").write_text(json.dumps([{"a": 1}]))
    with pytest.raises(DataError, match="no task"):
        report.read(tmp_path / "t.json")


def test_a_task_that_nobody_annotated_is_said(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps([{"data": {"video": "x.mp4"}}]))
    found = report.read(tmp_path / "t.json")
    assert not found.events and "nobody has annotated it" in found.notes[0]


@pytest.mark.parametrize("kind", ["otio", "raven", "labelstudio"])
def test_videos_of_one_name_in_two_folders_stay_apart(kind: str, tmp_path: Path) -> None:
    places = ["/x/cam1/clip.mp4", "/x/cam2/clip.mp4", "/x/cam2/other.mp4"]
    if kind == "raven":
        head = _RAVEN.replace("\n", "\tBegin Path\tFile Offset (s)\n")
        text = head + "".join(f"{i}\t{i}\t{i + 1}\tdog\t{p}\t1\n" for i, p in enumerate(places, 1))
    elif kind == "otio":
        clips = [
            {"OTIO_SCHEMA": "Clip.1", "markers": [marker(1, 1, "dog")],
             "media_reference": {"target_url": f"file://{p}"}} for p in places
        ]  # fmt: skip
        text = json.dumps({"OTIO_SCHEMA": "Timeline.1", "tracks": {"children": clips}})
    else:
        value = {"start": 1, "end": 2, "labels": ["dog"]}
        made = [{"result": [{"type": "labels", "value": value}]}]
        text = json.dumps([{"data": {"video": p}, "annotations": made} for p in places])
    path = tmp_path / f"t{format_endings()[kind]}"
    path.write_text(text)
    found = report.read_all(path)
    assert [t.video for t in found] == ["cam1/clip.mp4", "cam2/clip.mp4", "other.mp4"]
    assert all(t.events == GOOD[:1] for t in found)


@pytest.mark.parametrize(
    ("addresses", "names"),
    [
        (["a/x", "b/x", "x"], ["a/x", "b/x", "x"]),
        (["/q/a/x", "/r/a/x", "/r/b/x"], ["q/a/x", "r/a/x", "b/x"]),
        ([f"/{i}/d/e/f/x" for i in "ab"], [f"{i}/d/e/f/x" for i in "ab"]),
        (["C:\\v\\x.mp4", "D:\\w\\x.mp4", "x.mp4?d=u/x.mp4"], ["v/x.mp4", "w/x.mp4", "u/x.mp4"]),
        (["", "..", "../../etc/passwd"], ["none", "none", "passwd"]),
        (["x", "x"], ["x", "x"]),
    ],
)
def test_names_apart(addresses: list[str], names: list[str]) -> None:
    found = base.names_apart(addresses, "none")
    assert [found[a] for a in addresses] == names


# ---- clocks


def test_raven_s_offset_goes_before_its_sequence_s_time(tmp_path: Path) -> None:
    head = _RAVEN.replace("\n", "\tBegin Path\tFile Offset (s)\n")
    rows = "1\t3601.0\t3602.0\tdog\t/p/second.wav\t1.0\n2\t3603\t3604\tcat\t/p/second.wav\t3.0\n"
    (tmp_path / "t.selections.txt").write_text(head + rows)
    found = report.read(tmp_path / "t.selections.txt")
    assert found.events == GOOD and found.video == "second.wav"


@pytest.mark.parametrize(("origin", "moved"), [("5000", 5.0), ("-500", -0.5), ("0", 0.0)])
def test_elan_s_media_offset_is_applied(origin: str, moved: float, tmp_path: Path) -> None:
    media = f'<MEDIA_DESCRIPTOR MEDIA_URL="file:///x/My%20Clip.mp4" TIME_ORIGIN="{origin}"/>'
    text = eaf(tier("t", ("a", "b", "dog")), slots=slots(a=1000, b=2000), media=media)
    (tmp_path / "t.eaf").write_text(text)
    found = report.read(tmp_path / "t.eaf")
    assert found.video == "My Clip.mp4"
    assert found.events == (Event(1 + moved, 2 + moved, "dog"),)
    assert bool(found.notes) == bool(moved)


# ---- much of it


@pytest.mark.parametrize("ending", [".otio", ".eaf", ".json"])
def test_twenty_thousand_events_of_as_many_classes_take_seconds(
    ending: str, tmp_path: Path
) -> None:
    held = tuple(Event(i / 1000, i / 1000 + 1000, f"c{i}") for i in range(20_000))
    classes = tuple(e.label for e in held)
    began = time.process_time()
    Timeline("v.mp4", held, 2000, classes).save(tmp_path / f"t{ending}")
    assert len(report.read(tmp_path / f"t{ending}")) == 20_000
    one = tuple(Event(i / 1000, i / 1000 + 1000, "a") for i in range(20_000))
    Timeline("v.mp4", one, 2000, ("a",)).save(tmp_path / f"t{ending}")
    assert len(report.read(tmp_path / f"t{ending}")) == 20_000
    assert time.process_time() - began < 40  # quadratic, it was minutes


@pytest.mark.parametrize("where", ["label", "video"])
def test_half_a_letter_is_refused_with_its_place(where: str, tmp_path: Path) -> None:
    label, video = ("ab\ud800", "v.mp4") if where == "label" else ("ab", "\udcff.mp4")
    several = [Timeline(video, (Event(0, 1, label),), 1, ()), Timeline("w.mp4", (), 1, ())]
    with pytest.raises(DataError, match=r"U\+D[8C][0F][0F] at character \d+ of line 2"):
        report.save_all(several, tmp_path / "t.csv")
    assert not list(tmp_path.iterdir())


def with_timecode(path: Path, timecode: str) -> Path:
    """Two seconds of a moving picture at 25 frames a second that begin at a timecode."""
    import av
    import numpy as np

    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.metadata["timecode"] = timecode
        for i in range(50):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 4 * i, np.uint8))
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def test_edl_counts_as_the_video_s_timecode(tmp_path: Path) -> None:
    video = with_timecode(tmp_path / "t.mov", "01:00:00:05")
    timeline = Timeline(str(video), (Event(0.5, 1.51, "dog"),), 2.0, ("dog",), model={"model": "m"})
    timeline.save(tmp_path / "t.edl")
    text = (tmp_path / "t.edl").read_text()
    assert "C        01:00:00:17 01:00:01:18 00:00:00:00 00:00:01:01" in text
    back = report.read(tmp_path / "t.edl")
    assert back.events == (Event(0.48, 1.52, "dog"),) and back.predicted


def test_otio_begins_at_the_video_s_timecode(tmp_path: Path) -> None:
    otio_library = pytest.importorskip("opentimelineio")
    video = with_timecode(tmp_path / "t.mov", "01:00:00:05")
    Timeline(str(video), (Event(0.5, 1.5, "dog"),), 2.0, ("dog",)).save(tmp_path / "t.otio")
    (clip, _) = otio_library.adapters.read_from_file(str(tmp_path / "t.otio")).find_clips()
    first = clip.media_reference.available_range.start_time
    assert otio_library.opentime.to_timecode(first) == "01:00:00:05"
    assert clip.source_range.start_time == first
    assert clip.markers[0].marked_range.start_time.to_seconds() == pytest.approx(3600.2 + 0.5)
    assert report.read(tmp_path / "t.otio").events == (Event(0.5, 1.5, "dog"),)
