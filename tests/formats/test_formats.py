"""Every format: what is written is read, by us and by others' readers; what is bad is named."""

from __future__ import annotations

import csv
import io
import json
import re
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from avel import clock, report
from avel.cli.ls import ls
from avel.errors import DataError, UsageError
from avel.formats import base, format_endings, read
from avel.formats.text import escape, escape_formula, unescape, unescape_formula
from avel.report.writers import endings, titles, writer_for
from avel.types import MODALITIES, Event, Grid, Scores, Timeline
from tests.conftest import ROOT
from tests.report_samples import (
    LABELS,
    hand_timeline,
    lane_timeline,
    weighted_timeline,
    write_clip,
)

#: What each format keeps of a time, in seconds; 0 keeps every bit.
RESOLUTION = {
    "json": 0.0, "csv": 0.0, "dcase": 0.0, "labelstudio": 0.0,
    "otio": 1e-6, "audacity": 1e-6, "raven": 1e-6,
    "vtt": 1e-3, "srt": 1e-3, "elan": 1e-3, "textgrid": 1e-6, "edl": 1 / 25,
}  # fmt: skip
SCORED = {"json", "csv", "labelstudio", "otio", "raven", "edl"}

labels = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=15),
    st.sampled_from(
        [
            "Bark", "a\tb", "a\nb", "a\r\nb", "\\t", "\\", "C:\\new", 'say "hi"', '"', "a --> b",
            "-->", "a, b; c", "=1+1", "+1", "-1", "@A1", "'=1", "''-x", " = 2", "<b>", "a < b > c",
            "&amp;", "&lt;", "鳥の声", "لحن", "🐕", "a\u2028b", "\x00", "\x1b[31m", "\ufffe",
            "\ufeff", " ", "12", "NOTE", "WEBVTT", "1\n00:00:01,000 --> 00:00:02,000", "nan",
            "Bark (score 0.50)", " (score 1.00)", "Bark (score 0.50) (audio only)",
            "Bark (audio only)", "Bark (visual only)", " (audio only)", "audio only",
            "visual only (2)", "None",
            "\x85", "a  b", "]]>", "<!--", "\\x41", "background",
        ]
    ),
)  # fmt: skip
edges = st.one_of(
    st.integers(0, 40).map(float),
    st.floats(0, 90_000, allow_nan=False),
    st.sampled_from([0.0, 0.1, 0.0004, 0.9996, 1.0005, 59.9995, 59.9999, 3599.9999, 3600.0]),
)


@st.composite
def events(draw: st.DrawFn) -> Event:
    start = draw(edges)
    length = draw(st.sampled_from([1.0, 0.001, 0.1, 1e-4, 7.5]) | st.floats(1e-4, 900))
    score = round(draw(st.floats(0, 1)), 6)
    modality = draw(st.sampled_from(MODALITIES))
    return Event(start, start + length, draw(labels), score, modality)


@st.composite
def timelines(draw: st.DrawFn) -> Timeline:
    rows = tuple(sorted(draw(st.lists(events(), max_size=5))))
    names = tuple(dict.fromkeys(e.label for e in rows))
    return Timeline("clip.mp4", rows, max([12.0, *(e.end for e in rows)]), names)


reuse_folder = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def check_alike(name: str, back: Timeline, timeline: Timeline) -> None:
    """The same labels at the same times, to the format's resolution; scores where it has any."""
    step = RESOLUTION[name]
    back = back.choose("all")  # ELAN and the page have places of their own for one modality
    assert len(back) == len(timeline)
    waiting = list(timeline.events)
    for e in back.events:
        longer = 1.51 if e.end - e.start <= 1.01 * step else 0.51  # one tick at least
        near = [
            w
            for w in waiting
            if (w.label, w.modality) == (e.label, e.modality)
            and abs(w.start - e.start) <= 0.51 * step + 1e-9 * (step > 0)
            and abs(w.end - e.end) <= longer * step + 1e-9 * (step > 0)
            and (name not in SCORED or w.score == e.score)
        ]
        assert near, f"{e} of {timeline.events}"
        waiting.remove(near[0])


@pytest.mark.parametrize("name", RESOLUTION)
@reuse_folder
@given(timeline=timelines())
@example(timeline=Timeline("clip.mp4", (), 12.0, ()))
@example(
    timeline=Timeline("c.mp4", (Event(0, 5, "a"), Event(1, 4, "a"), Event(2, 9, "a")), 9, ("a",))
)
def test_what_is_written_is_read(name: str, timeline: Timeline, tmp_path: Path) -> None:
    path = tmp_path / f"clip{format_endings()[name]}"
    timeline.save(path)
    check_alike(name, report.read(path), timeline)


@pytest.mark.parametrize("name", ["srt", "vtt"])
@reuse_folder
@given(timeline=timelines())
def test_subtitles_return_the_scores_they_show(
    name: str, timeline: Timeline, tmp_path: Path
) -> None:
    rounded = replace(
        timeline, events=tuple(replace(e, score=round(e.score, 2)) for e in timeline.events)
    )
    rounded.save(tmp_path / f"clip.{name}", scores=True)
    back = report.read(tmp_path / f"clip.{name}")
    check_alike(name, back, rounded)
    assert sorted(e.score for e in back) == sorted(e.score for e in rounded)
    rounded.save(tmp_path / f"clip.{name}")
    assert all(e.score == 1 for e in report.read(tmp_path / f"clip.{name}"))


def test_every_format_has_a_title_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    known = titles()
    assert set(known) == set(endings()) and len(set(known.values())) == len(known)
    assert known[".eaf"] == "ELAN" and known[".vtt"] == "Subtitles (WebVTT)"
    ls("formats")
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == len(known)
    assert all(any(title in line and ending in line for line in shown)
               for ending, title in known.items())  # fmt: skip


def test_every_format_is_among_them() -> None:
    assert set(format_endings()) == set(RESOLUTION)


@given(st.text())
def test_escaped_labels_return(text: str) -> None:
    line = escape(text)
    assert unescape(line) == text
    assert "\n" not in line and "\t" not in line and line == line.strip()
    assert len(line.splitlines()) <= 1


@given(st.text() | labels)
def test_neutral_cells_return(text: str) -> None:
    assert unescape_formula(escape_formula(text)) == text
    assert escape_formula(text).lstrip()[:1] not in {"=", "+", "-", "@", "＝"}


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".selections.txt"])
def test_no_cell_of_a_table_is_a_formula(ending: str, tmp_path: Path) -> None:
    label = '=HYPERLINK("http://x","y")'
    timeline = Timeline("=cmd|x.mp4", (Event(0, 1, label), Event(1, 2, "@SUM(1)")), 2, ())
    timeline.save(tmp_path / f"t{ending}")
    text = (tmp_path / f"t{ending}").read_text("utf-8")
    cells = csv.reader(io.StringIO(text), delimiter="," if ending == ".csv" else "\t")
    assert not [c for row in cells for c in row if c[:1] in "=+-@" and c]
    assert {e.label for e in report.read(tmp_path / f"t{ending}")} == {label, "@SUM(1)"}


# ---- several videos in one file


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".labelstudio.json"])
def test_one_file_of_several_videos(ending: str, tmp_path: Path) -> None:
    several = [
        Timeline("a.mp4", (Event(0, 1, "x"), Event(2, 3.5, "y")), 3.5, ("x", "y")),
        Timeline("b.mp4", (), 0.0, ()),
        Timeline("=c.mp4", (Event(0, 1, "x"),), 1, ("x",)),
    ]
    report.save_all(several, tmp_path / f"all{ending}")
    back = report.read_all(tmp_path / f"all{ending}")
    assert [(t.video, t.events) for t in back] == [(t.video, t.events) for t in several]
    with pytest.raises(DataError, match="3 videos"):
        report.read(tmp_path / f"all{ending}")


def test_formats_of_one_video_refuse_two(tmp_path: Path) -> None:
    two = [Timeline("a.mp4", (), 1, ()), Timeline("b.mp4", (), 1, ())]
    with pytest.raises(UsageError, match=r"2 videos for one t\.vtt"):
        report.save_all(two, tmp_path / "t.vtt")
    assert not list(tmp_path.iterdir())


# ---- which format it is


def test_content_tells_where_endings_are_shared(tmp_path: Path) -> None:
    timeline = Timeline("clip.mp4", (Event(0, 1, "Bark"),), 1, ("Bark",))
    for name, ending in (
        ("audacity", ".txt"), ("raven", ".txt"), ("raven", ".tsv"), ("dcase", ".txt"),
        ("dcase", ".tsv"), ("json", ".json"), ("labelstudio", ".json"),
        ("audacity", ".selections.txt"), ("json", ".labelstudio.json"),
    ):  # fmt: skip
        path = tmp_path / f"clip{ending}"
        report.save(timeline, path, format=name)
        assert report.read(path).events == timeline.events, (name, ending)


def test_a_format_by_its_name(tmp_path: Path) -> None:
    timeline = Timeline("clip.mp4", (Event(0, 1, "Bark"),), 1, ("Bark",))
    report.save(timeline, tmp_path / "clip.labels", format="audacity")
    assert report.read(tmp_path / "clip.labels", format="audacity").events == timeline.events
    with pytest.raises(UsageError, match="did you mean raven"):
        writer_for("x.txt", format="ravn")
    with pytest.raises(UsageError, match=r"labels.* can't be read"):
        report.read(tmp_path / "clip.labels")


# ---- the tools' own files


def test_audacity_with_frequencies_and_commas(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("1,5\t2,25\tdog\n\\\t100.0\t2000.0\n3.0\t4.0\tcat and dog\r\n", "utf-8")
    assert report.read(path).events == (Event(1.5, 2.25, "dog"), Event(3, 4, "cat and dog"))


def test_raven_takes_a_selection_of_two_views_once(tmp_path: Path) -> None:
    path = tmp_path / "rec.Table.1.selections.txt"
    path.write_text(
        "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)"
        "\tAnnotation\n"
        "1\tWaveform 1\t1\t6.709509878\t15.09\t0\t1\tBirb\n"
        "1\tSpectrogram 1\t1\t6.709509878\t15.09\t1739.0\t3798.8\tBirb\n",
        "utf-8",
    )
    timeline = report.read(path)
    assert timeline.events == (Event(6.709509878, 15.09, "Birb"),) and timeline.video == "rec"


def test_raven_sequences_are_split_by_file(tmp_path: Path) -> None:
    path = tmp_path / "all.selections.txt"
    rows = (
        "Selection\tBegin Time (s)\tEnd Time (s)\tCommon Name\tConfidence\tBegin Path"
        "\tFile Offset (s)",
        "1\t1.0\t4.0\tWren\t0.5\t/home/x/a.wav\t1.0",
        "2\t61.0\t64.0\tWren\t0.25\t/home/x/b.wav\t1.5",
    )
    path.write_text("\n".join(rows), "utf-8")
    by_file = {t.video: t.events for t in report.read_all(path)}
    assert by_file == {
        "a.wav": (Event(1, 4, "Wren", 0.5),),
        "b.wav": (Event(1.5, 4.5, "Wren", 0.25),),
    }


def test_label_studio_frames_and_uploads(tmp_path: Path) -> None:
    region = {
        "type": "timelinelabels",
        "value": {"ranges": [{"start": 1, "end": 50}], "timelinelabels": ["Moving"]},
    }
    skipped = {"was_cancelled": True, "result": [{**region, "value": "nonsense"}]}
    task = {
        "id": 1,
        "data": {"video": "/data/upload/3/0a1b2c3d-my%20clip.mp4?x=1", "fps": 25},
        "annotations": [{"result": [region, {"type": "choices", "value": {}}]}, skipped],
        "predictions": [{"result": []}],
    }
    (tmp_path / "export.json").write_text(json.dumps([task]), "utf-8")
    timeline = report.read(tmp_path / "export.json")
    assert timeline.video == "my clip.mp4" and timeline.events == (Event(0, 2, "Moving"),)
    assert timeline.notes == ("Frames were read as 25 a second.",)


def test_spreadsheets_with_semicolons_and_utf16(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("start;end;label\r\n0;1,5;Hund\r\n1:02;1:03.5;Glocke\r\n".encode("utf-16"))
    assert report.read(path).events == (Event(0, 1.5, "Hund"), Event(62, 63.5, "Glocke"))


def test_subtitles_with_tags_settings_and_windows_line_ends(tmp_path: Path) -> None:
    (tmp_path / "a.vtt").write_bytes(
        b"WEBVTT - made by hand\r\n\r\nNOTE a comment\r\n\r\nfirst\r\n00:01.000 --> 00:02.500 "
        b"align:start\r\n<v Anna><b>Dog</b> &amp;\r\ncat\r\n"
    )
    assert report.read(tmp_path / "a.vtt").events == (Event(1, 2.5, "Dog & cat"),)
    (tmp_path / "a.srt").write_bytes(b"1\r\n00:00:01,000 --> 00:00:02,500\r\n<i>Dog</i>\r\n")
    assert report.read(tmp_path / "a.srt").events == (Event(1, 2.5, "Dog"),)


def test_otio_of_an_editor_with_a_start_timecode(tmp_path: Path) -> None:
    otio = pytest.importorskip("opentimelineio")
    at = otio.opentime.RationalTime
    span = otio.opentime.TimeRange
    media = otio.schema.ExternalReference("file:///x/clip.mov", span(at(90000, 25), at(500, 25)))
    clip = otio.schema.Clip("clip", media, span(at(90050, 25), at(100, 25)))
    clip.markers.append(otio.schema.Marker("Bark", span(at(90050, 25), at(25, 25))))
    timeline = otio.schema.Timeline("edit")
    timeline.tracks.append(otio.schema.Track("V1", [otio.schema.Gap(), clip]))
    otio.adapters.write_to_file(timeline, str(tmp_path / "edit.otio"))
    found = report.read(tmp_path / "edit.otio")
    assert found.video == "clip.mov" and found.events == (Event(2, 3, "Bark"),)
    assert found.duration == 20.0


# ---- their own readers read ours


def test_praat_s_short_form_with_comments_points_and_gaps(tmp_path: Path) -> None:
    """As Praat saves a short text file, with an interval tier of two labels and a point tier."""
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "0", "2.3", "<exists>",
             "2", '"IntervalTier"', '"birds"', "0", "2.3", "3", "0", "0.5", '""', "0.5", "1.25",
             '"say ""cuckoo"" ! (audio only)"', "1.25 ! a remark", "2.3", '"wren"',
             '"TextTier"', '"peaks"', "0", "2.3", "1", "0.7", '"peak"']  # fmt: skip
    (tmp_path / "a.TextGrid").write_text("\r\n".join(lines), "utf-16")
    timeline = report.read(tmp_path / "a.TextGrid")
    assert timeline.events == (
        Event(0.5, 1.25, 'say "cuckoo" !', 1.0, "audio"), Event(1.25, 2.3, "wren"),
    )  # fmt: skip
    assert timeline.duration == 2.3 and timeline.video == "a"
    assert timeline.notes == (
        "Left out: a.TextGrid, tier 2 (peaks), row 1: a point has no length.",
    )


def test_a_textgrid_s_tiers_are_whole(tmp_path: Path) -> None:
    """Praat refuses tiers whose intervals overlap or leave gaps."""
    rows = (Event(0, 5, "a"), Event(1, 4, "a"), Event(2, 9, "b"), Event(5, 6, "a"))
    Timeline("c.mp4", rows, 10.0, ("a", "b")).save(tmp_path / "c.TextGrid")
    text = (tmp_path / "c.TextGrid").read_text()
    assert re.findall('name = "(.*)"', text) == ["a", "a (2)", "b"]
    for tier in text.split("    item [")[2:]:
        edges = re.findall(r" {12}xm(?:in|ax) = (\S+)", tier)
        assert edges[0] == "0.000000" and edges[-1] == "10.000000"
        assert edges[1:-1:2] == edges[2::2]


def test_an_editor_s_edl_is_read_by_its_comments(tmp_path: Path) -> None:
    lines = [
        "TITLE: cut",
        "FCM: NON-DROP FRAME",
        "",
        "001  A001C002 V     C        00:00:01:00 00:00:02:12 01:00:00:00 01:00:01:12",
        "* FROM CLIP NAME: dog.mov",
        "* LOC: 01:00:00:00 RED     Bark",
        "",
        "002  AX       AA/V  D    024 00:00:03:00 00:00:04:00 01:00:01:12 01:00:02:12",
        "* FROM CLIP NAME: cat.mov",
        " |C:ResolveColorBlue |M:Meow |D:25",
        "",
        "003  BL       V     C        00:00:00:00 00:00:01:00 01:00:02:12 01:00:03:12",
    ]
    (tmp_path / "a.edl").write_text("\n".join(lines))
    dog, cat = report.read_all(tmp_path / "a.edl")
    assert (dog.video, dog.events) == ("dog.mov", (Event(1.0, 2.48, "Bark"),))
    assert (cat.video, cat.events) == ("cat.mov", (Event(3.0, 4.0, "Meow"),))
    assert "Left out: a.edl:12: no comment names this edit." in dog.notes
    assert "Times were taken as 25 frames a second from 00:00:00:00." in dog.notes


@reuse_folder
@given(timeline=timelines())
def test_edits_of_an_edl_follow_one_another(timeline: Timeline, tmp_path: Path) -> None:
    """Every edit is as long in the list as in the source, and the list has no gaps."""
    timeline.save(tmp_path / "c.edl")
    at = 0.0
    for line in (tmp_path / "c.edl").read_text("utf-8").split("\n"):
        if re.match(r"\d{3,}  AX", line):
            source_in, source_out, first, last = (
                clock.timecode_clock(t, 25).zero for t in line.split()[-4:]
            )
            assert first == pytest.approx(at) and source_out > source_in
            assert last - first == pytest.approx(source_out - source_in)
            at = last


@reuse_folder
@given(timeline=timelines())
def test_pympi_reads_our_elan(timeline: Timeline, tmp_path: Path) -> None:
    from pympi import Eaf

    path = tmp_path / "clip.eaf"
    timeline.save(path)
    document = Eaf(path)
    media = document.get_linked_files()[0]
    assert media["MEDIA_URL"] == "./clip.mp4"  # nobody knows its folder: the video isn't there
    assert media["MIME_TYPE"] == "video/mp4"
    assert media["RELATIVE_MEDIA_URL"].endswith("clip.mp4")
    values = [
        v for t in document.get_tier_names() for *_, v in document.get_annotation_data_for_tier(t)
    ]
    assert sorted(unescape(v) for v in values) == sorted(e.label for e in timeline)


def test_elan_s_schema_is_kept(tmp_path: Path) -> None:
    """Order and types of EAF 2.8's schema, as far as our documents use it (it isn't shipped)."""
    from datetime import datetime
    from xml.etree import ElementTree

    events = (Event(0, 5, "a"), Event(1, 4, "a"), Event(2, 9, "b"), Event(5, 6, "a"))
    Timeline("my clip.mp4", events, 9, ("a", "b")).save(tmp_path / "clip.eaf")
    root = ElementTree.parse(tmp_path / "clip.eaf").getroot()
    assert root.tag == "ANNOTATION_DOCUMENT" and {"AUTHOR", "VERSION", "FORMAT"} <= set(root.attrib)
    assert datetime.fromisoformat(root.attrib["DATE"]).tzinfo is not None
    order = ["HEADER", "TIME_ORDER", "TIER", "LINGUISTIC_TYPE", "CONSTRAINT"]
    assert list(dict.fromkeys(e.tag for e in root)) == order
    slots = {s.attrib["TIME_SLOT_ID"]: int(s.attrib["TIME_VALUE"]) for s in root.iter("TIME_SLOT")}
    assert len(slots) == 8
    types = {t.attrib["LINGUISTIC_TYPE_ID"] for t in root.iter("LINGUISTIC_TYPE")}
    ids: list[str] = []
    for tier in root.iter("TIER"):
        assert tier.attrib["LINGUISTIC_TYPE_REF"] in types
        end = 0
        for a in tier.iter("ALIGNABLE_ANNOTATION"):
            ids.append(a.attrib["ANNOTATION_ID"])
            assert end <= slots[a.attrib["TIME_SLOT_REF1"]] < slots[a.attrib["TIME_SLOT_REF2"]]
            end = slots[a.attrib["TIME_SLOT_REF2"]]  # annotations of a tier don't overlap
    assert [t.attrib["TIER_ID"] for t in root.iter("TIER")] == ["a", "a (2)", "b"]
    assert len(set(ids)) == len(ids) == 4


@reuse_folder
@given(timeline=timelines())
def test_opentimelineio_reads_ours(timeline: Timeline, tmp_path: Path) -> None:
    otio = pytest.importorskip("opentimelineio")
    path = tmp_path / "clip.otio"
    timeline.save(path)
    read = otio.adapters.read_from_file(str(path))
    assert isinstance(read, otio.schema.Timeline) and not read.is_unknown_schema
    clips = read.find_clips()
    assert [t.kind for t in read.tracks] == ["Video", "Audio"] and len(clips) == 2
    assert isinstance(clips[0].media_reference, otio.schema.ExternalReference)
    assert clips[0].duration().to_seconds() == pytest.approx(timeline.duration)
    for marker, event in zip(clips[0].markers, timeline, strict=True):
        assert marker.marked_range.start_time.to_seconds() == pytest.approx(event.start, abs=1e-6)
        assert marker.marked_range.duration.to_seconds() == pytest.approx(event.end - event.start)
        assert unescape(marker.name) == event.label


@reuse_folder
@given(timeline=timelines())
def test_webvtt_py_reads_ours_strictly(timeline: Timeline, tmp_path: Path) -> None:
    import webvtt

    path = tmp_path / "clip.vtt"
    timeline.save(path)
    cues = webvtt.from_string(path.read_text("utf-8"), strict=True)
    assert len(cues) == len(timeline)


# ---- hostile files

_RAVEN = "Begin Time (s)\tEnd Time (s)\tAnnotation\n"
_DCASE = "filename\tonset\toffset\tevent_label\n"
_BOMB = (
    '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>'
    "<ANNOTATION_DOCUMENT>&b;</ANNOTATION_DOCUMENT>"
)
_XXE = (
    '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
    "<ANNOTATION_DOCUMENT>&a;</ANNOTATION_DOCUMENT>"
)


def eaf(slots: str = "", body: str = "", units: str = "milliseconds") -> str:
    return (
        '<ANNOTATION_DOCUMENT xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" VERSION="3.0" '
        'xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd">'
        f'<HEADER TIME_UNITS="{units}"/><TIME_ORDER>{slots}</TIME_ORDER>{body}'
        "</ANNOTATION_DOCUMENT>"
    )


def annotated(first: str, last: str, value: str = "dog") -> str:
    slots = "".join(
        f'<TIME_SLOT TIME_SLOT_ID="ts{i}" {f"TIME_VALUE={chr(34)}{t}{chr(34)}" if t else ""}/>'
        for i, t in enumerate((first, last), start=1)
    )
    inner = (
        '<TIER TIER_ID="t"><ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" '
        'TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2">'
        f"<ANNOTATION_VALUE>{value}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER>"
    )
    return eaf(slots, inner)


def region(**value: Any) -> str:
    fields = {"start": 0, "end": 1, "labels": ["a"], **value}
    return json.dumps(
        [{"data": {}, "annotations": [{"result": [{"type": "labels", "value": fields}]}]}]
    )


def marker(value: float = 0, rate: float = 25, **changes: Any) -> str:
    time = {"value": value, "rate": rate}
    one = {"name": "a", "marked_range": {"start_time": time, "duration": {"value": 25, "rate": 25}}}
    return json.dumps({"OTIO_SCHEMA": "Timeline.1", "tracks": {"markers": [{**one, **changes}]}})


def textgrid(row: str = '0 1 "a"', kind: str = "IntervalTier", tiers: str = "<exists> 1") -> str:
    head = f'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n9\n{tiers}\n'
    return f'{head}"{kind}"\n"t"\n0\n9\n1\n{row}\n'


def edit(times: str, *comments: str) -> str:
    return "\n".join(["TITLE: t", f"001  AX  V  C  {times}", *comments]) + "\n"


HOSTILE = {
    ".textgrid": {
        "prose": "Dear diary,\n", "another object": '"ooTextFile"\n"PitchTier"\n0 1\n',
        "chronological": '"Praat chronological TextGrid text file"\n0 1\n',
        "cut": textgrid()[:-6], "open quote": textgrid('0 1 "a'), "nan": textgrid('nan 1 "a"'),
        "negative": textgrid('-1 1 "a"'), "backwards": textgrid('2 1 "a"'),
        "a point": textgrid('1 "a"', "TextTier"), "another tier": textgrid(kind="Tier"),
        "absurd": textgrid('0 1e300 "a"'), "long label": textgrid(f'0 1 "{"x" * 5000}"'),
        "many": textgrid(tiers="<exists> 1e300"), "part of a tier": textgrid(tiers="<exists> 1.5"),
        "less than none": textgrid(tiers="<exists> -1"), "text for number": textgrid('"a" 1 "a"'),
    },
    ".edl": {
        "prose": "Dear diary,\n",
        "no label": edit("00:00:00:00 00:00:01:00 00:00:00:00 00:00:01:00"),
        "backwards": edit("00:00:02:00 00:00:01:00 00:00:00:00 00:00:01:00", "* COMMENT: a"),
        "score": edit(
            "00:00:00:00 00:00:01:00 00:00:00:00 00:00:01:00", "* COMMENT: a", "* AVEL SCORE: x"
        ),
        "rate": "* AVEL FRAMES: 0 FROM 00:00:00:00\n"
        + edit("00:00:00:00 00:00:01:00 00:00:00:00 00:00:01:00", "* COMMENT: a"),
        "before the start": "* AVEL FRAMES: 25 FROM 01:00:00:00\n"
        + edit("00:00:00:00 00:00:01:00 00:00:00:00 00:00:01:00", "* COMMENT: a"),
    },
    ".eaf": {
        "entity bomb": _BOMB, "external entity": _XXE, "no xml": "hello",
        "another document": "<html/>", "deep": "<a>" * 100_000,
        "negative": annotated("-5", "10"), "backwards": annotated("10", "5"),
        "no length": annotated("5", "5"), "not a number": annotated("x", "10"),
        "float": annotated("0.5", "10"), "absurd": annotated("0", "9" * 40),
        "no time": annotated("", "10"), "long label": annotated("0", "5", "x" * 5000),
        "other units": eaf(units="NTSC-frames"),
        "unknown slot": annotated("0", "5").replace('REF1="ts1"', 'REF1="ts9"'),
    },
    ".vtt": {
        "html": "<html>", "prose": "Dear diary,\n",
        "backwards": "WEBVTT\n\n00:02.000 --> 00:01.000\nx\n",
        "no text": "WEBVTT\n\n00:01.000 --> 00:02.000\n\n",
        "broken time": "WEBVTT\n\n00:xx.000 --> 00:02.000\nx\n",
        "absurd": "WEBVTT\n\n99999999:00:00.000 --> 99999999:00:01.000\nx\n",
        "negative": "WEBVTT\n\n-00:01.000 --> 00:02.000\nx\n",
    },
    ".srt": {
        "no times": "1\nhello\nthere\n", "backwards": "1\n00:00:02,000 --> 00:00:01,000\nx\n",
        "broken": "1\n00:00:02,000 --> later\nx\n", "no text": "1\n00:00:01,0 --> 00:00:02,0\n",
        "absurd": "1\n99999999:00:00,000 --> 99999999:00:01,000\nx\n",
    },
    ".txt": {
        "prose": "Dear diary,\n", "columns": "1\t2\n", "nan": "nan\t2\tx\n", "inf": "0\tinf\tx\n",
        "negative": "-1\t2\tx\n", "backwards": "2\t1\tx\n", "a point": "2.0\t2.0\tx\n",
        "no label": "1\t2\t\n", "absurd": "0\t1e300\tx\n", "four": "1\t2\tx\ty\n",
    },
    ".selections.txt": {
        "no label column": "Begin Time (s)\tEnd Time (s)\n1\t2\n",
        "no times": "Selection\tAnnotation\n1\tx\n", "text": _RAVEN + "a\tb\tc\n",
        "nan": _RAVEN + "nan\t2\tx\n", "negative": _RAVEN + "-1\t2\tx\n",
        "backwards": _RAVEN + "2\t1\tx\n", "short row": _RAVEN + "1\t2\n",
        "no label": _RAVEN + "1\t2\t\n",
    },
    ".tsv": {
        "nan": _DCASE + "a.wav\tnan\t2\tx\n",
        "negative": _DCASE + "a.wav\t-1\t2\tx\n", "backwards": _DCASE + "a.wav\t2\t1\tx\n",
        "no file": _DCASE + "\t1\t2\tx\n", "no label": _DCASE + "a.wav\t1\t2\t\n",
        "columns": _DCASE + "a.wav\t1\t2\n",
        "twice": "onset\tonset\toffset\tevent_label\n1\t1\t2\ta\n",
        "absurd": _DCASE + "a.wav\t1\t1e18\tx\n",
    },
    ".labelstudio.json": {
        "deep": "[" * 100_000, "numbers": "[1]", "objects": '[{"a": 1}]',"a value": "3",
        "nan": region(start=float("nan")), "negative": region(start=-1), "backwards": region(end=0),
        "no label": region(labels=[""]), "label no text": region(labels=[{}]),
        "labels no list": region(labels="a"), "true": region(end=True),
        "absurd": region(end=1e300), "huge integer": region(end=10**400),
        "no value": region().replace("value", "values"),
    },
    ".otio": {
        "deep": '{"a":' * 100_000, "a list": "[]",
        "another schema": '{"OTIO_SCHEMA": "Clip.1"}',
        "no tracks": '{"OTIO_SCHEMA": "Timeline.1"}', "rate 0": marker(rate=0),
        "negative": marker(value=-1), "nan": marker(value=float("nan")),
        "absurd": marker(value=1e300),
        "name no text": marker(name=3), "no name": marker(name=""), "huge": marker(value=10**400),
        "no range": marker(marked_range=None),
        "deep children": '{"OTIO_SCHEMA": "Timeline.1", "tracks": '
        + '{"children": [' * 400 + "1" + "]}" * 400 + "}",
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("ending", "text"),
    [
        pytest.param(ending, text, id=f"{ending} {why}")
        for ending, texts in HOSTILE.items()
        for why, text in texts.items()
    ],
)
def test_hostile_files_are_refused_by_name(ending: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / f"t{ending}"
    path.write_text(text, "utf-8")
    with pytest.raises(DataError, match=r"t\.[a-z.]+: no timeline"):
        report.read_all(path)


@pytest.mark.parametrize("name", RESOLUTION)
@reuse_folder
@given(data=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(name: str, data: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"t{format_endings()[name]}"
    path.write_bytes(data)
    try:
        report.read_all(path)
    except DataError as e:
        assert path.name in str(e)


@pytest.mark.parametrize("name", RESOLUTION)
def test_latin_1_is_refused_with_a_reason(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"t{format_endings()[name]}"
    path.write_bytes("naïve".encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8"):
        report.read(path)


def test_size_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timeline = Timeline("v.mp4", (Event(0, 1, "a"),) * 50, 1, ("a",))
    monkeypatch.setattr(base, "MAX_BYTES", 100)
    for ending in format_endings().values():
        path = tmp_path / f"t{ending}"
        monkeypatch.setattr(base, "MAX_BYTES", 10**6)
        timeline.save(path)
        before = path.read_bytes()
        monkeypatch.setattr(base, "MAX_BYTES", 10)
        with pytest.raises(DataError, match="more than"):
            report.read(path)
        with pytest.raises(DataError, match="the most that is read again"):
            timeline.save(path)  # nothing is written that couldn't be read back
        assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("file:///home/me/clip.mp4", "clip.mp4"),
        ("C:\\videos\\clip.mp4", "clip.mp4"),
        ("../../../etc/passwd", "passwd"),
        ("/data/local-files/?d=videos/clip.mp4", "clip.mp4"),
        ("https://x.org/a/my%20clip.mp4?token=1", "my clip.mp4"),
        ("..", "default"),
        ("", "default"),
        ("a\0b", "default"),
    ],
)
def test_of_an_address_nothing_but_the_name_is_taken(address: str, name: str) -> None:
    assert base.media_name(address, "default") == name


@pytest.mark.parametrize(
    "ending",
    [".vtt", ".srt", ".eaf", ".txt", ".selections.txt", ".otio", ".textgrid", ".edl"],
)
def test_an_empty_label_is_refused_where_it_cannot_stand(ending: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="without a label"):
        Timeline("v.mp4", (Event(0, 1, ""),), 1, ("",)).save(tmp_path / f"t{ending}")
    assert not list(tmp_path.iterdir())


def test_lone_surrogates_are_coded_or_refused(tmp_path: Path) -> None:
    timeline = Timeline("v.mp4", (Event(0, 1, "a\ud800"),), 1, ("a\ud800",))
    for name, ending in format_endings().items():
        path = tmp_path / f"t{ending}"
        if name == "csv":
            with pytest.raises(DataError, match="UTF-8"):
                timeline.save(path)
        else:
            timeline.save(path)
            assert report.read(path).events == timeline.events, name


# ---- the documentation, and published schemas

_DOCS = (ROOT / "docs" / "formats.md").read_text("utf-8")
_EXAMPLES = re.findall(r"<!-- example: (\S+) -->\s*```\w+\n(.*?)```", _DOCS, re.S)
STREET = Timeline(
    "street.mp4",
    (Event(0, 3, "Bark", 0.88), Event(5, 7, "Male speech, man speaking", 0.64)),
    10.0,
    ("Bark", "Male speech, man speaking"),
)


@pytest.mark.parametrize(("name", "text"), _EXAMPLES, ids=[n for n, _ in _EXAMPLES])
def test_the_documented_examples_are_what_is_written(
    name: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    STREET.save(name)
    written = "\n".join(line.rstrip() for line in Path(name).read_text("utf-8").splitlines())
    expected = [line.rstrip() for line in text.strip("\n").split("\n")]
    inner = [line.strip() for line in written.split("\n")]
    place = inner.index(expected[0].strip())
    assert inner[place : place + len(expected)] == [line.strip() for line in expected]


def test_every_format_is_documented_with_an_example() -> None:
    for name, ending in format_endings().items():
        assert f"| `{ending}` | `{name}` |" in _DOCS
        assert name == "json" or any(n == f"street{ending}" for n, _ in _EXAMPLES)


def test_label_studio_s_published_forms_are_kept(tmp_path: Path) -> None:
    """Its task format, and the schema of ``<Labels>`` in its SDK: start, end >= 0, labels."""
    STREET.save(tmp_path / "t.labelstudio.json")
    (task,) = json.loads((tmp_path / "t.labelstudio.json").read_text("utf-8"))
    assert set(task) == {"data", "annotations"} and task["data"] == {"video": "street.mp4"}
    (annotation,) = task["annotations"]
    ids = [r["id"] for r in annotation["result"]]
    assert len(set(ids)) == len(ids) == 2
    for r in annotation["result"]:
        assert {"id", "from_name", "to_name", "type", "value"} <= set(r)
        assert (r["type"], r["from_name"], r["to_name"]) == ("labels", "events", "audio")
        assert (
            isinstance(r["value"]["start"], float) and 0 <= r["value"]["start"] < r["value"]["end"]
        )
        assert len(r["value"]["labels"]) == 1 and isinstance(r["value"]["labels"][0], str)
    timeline = Timeline("a.mp4", STREET.events, 10, STREET.classes, model={"model": "cspa_csea"})
    timeline.save(tmp_path / "t.labelstudio.json", overwrite=True)
    (task,) = json.loads((tmp_path / "t.labelstudio.json").read_text("utf-8"))
    (prediction,) = task["predictions"]
    assert prediction["model_version"] == "cspa_csea" and prediction["score"] == 0.76


def test_dcase_is_what_a_plain_csv_reader_of_tabs_reads(tmp_path: Path) -> None:
    """sed_eval's and sed_scores_eval's way: the header's four names, floats, one line an event."""
    label = 'a "quoted", label\twith tab'
    Timeline("v.mp4", (Event(0.5, 1.25, label),), 2, (label,)).save(tmp_path / "t.tsv")
    with (tmp_path / "t.tsv").open(newline="", encoding="utf-8") as f:
        header, row = csv.reader(f, delimiter="\t")
    assert header == ["filename", "onset", "offset", "event_label"]
    assert row == ["v.mp4", "0.5", "1.25", 'a "quoted", label\\twith tab']


def test_json_brings_back_what_is_of_one_modality(tmp_path: Path) -> None:
    timeline = lane_timeline("clip.mp4", [3, 3, 0, 0, 3, 3, 3, 3])
    timeline.save(tmp_path / "clip.json")
    back = report.read(tmp_path / "clip.json")
    assert timeline.audio_only and timeline.visual_only
    assert back.to_json() == timeline.to_json()
    assert (
        back.lane("audio")[0].modality == "audio"
        and back.scores is not None
        and timeline.scores is not None
    )
    for name in ("audio_scores", "visual_scores"):
        ours, theirs = getattr(timeline.scores, name), getattr(back.scores, name)
        np.testing.assert_allclose(theirs, ours, atol=1e-6)
    every = timeline.choose("all")
    every.save(tmp_path / "all.json")
    loaded = report.read(tmp_path / "all.json")
    assert (
        loaded.to_json() == every.to_json()
        and loaded.choose("both").to_json() == timeline.to_json()
    )


def test_old_json_is_read(tmp_path: Path) -> None:
    timeline = hand_timeline("clip.mp4", [0, 0, 3])
    content = timeline.to_json()
    del content["audio_only"], content["visual_only"]
    (tmp_path / "old.json").write_text(json.dumps(content))
    back = report.read(tmp_path / "old.json")
    assert len(back.events) == len(timeline.events) and not back.audio_only and not back.visual_only
    assert back.scores is not None and back.scores.audio_scores is None


@pytest.mark.parametrize(
    "change",
    [
        {"visual_only": {}}, {"visual_only": None},
        {"events": [{"start": 0, "end": 1, "label": "Bark", "score": 1, "modality": "sound"}]},
    ],
)  # fmt: skip
def test_a_hostile_modality_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    content = {**hand_timeline("clip.mp4", [0, 0, 3]).to_json(), **change}
    (tmp_path / "bad.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"bad\.json"):
        report.read(tmp_path / "bad.json")


@pytest.mark.parametrize("name", ["audio_only", "visual_only"])
@pytest.mark.parametrize(
    "changed", [{"modality": "both"}, {"modality": []}, {"label": "none"}, {"end": 0}, None]
)
def test_of_one_modality_too_only_what_can_be_read_is_kept(
    name: str, changed: dict[str, Any] | None, tmp_path: Path
) -> None:
    good = {"start": 0, "end": 1, "label": "Bark", "score": 1}
    rows = [1 if changed is None else {**good, **changed}, good]
    content = {**hand_timeline("clip.mp4", [0, 0, 3]).to_json(), name: rows}
    (tmp_path / "odd.json").write_text(json.dumps(content))
    back = report.read(tmp_path / "odd.json")
    modality = "audio" if name == "audio_only" else "visual"
    assert back.lane(modality) == (Event(0, 1, "Bark", 1, modality),) and len(back.events) == 1
    assert f"odd.json, {name} 1: " in back.notes[-1]


@pytest.mark.parametrize("value", [2, -1, "x", {"Bark": 2}, {"none": 0.5}, [0.5]])
def test_hostile_scores_of_one_modality_are_refused(value: object, tmp_path: Path) -> None:
    content = lane_timeline("clip.mp4", [3, 3, 0, 0, 3, 3, 3, 3]).to_json()
    content["segments"][1]["audio_scores"] = value
    (tmp_path / "bad.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"bad\.json"):
        report.read(tmp_path / "bad.json")


@pytest.mark.parametrize("name", sorted(set(RESOLUTION) - {"json", "elan"}))
def test_only_the_events_of_a_timeline_are_written(name: str, tmp_path: Path) -> None:
    timeline = lane_timeline("clip.mp4", [3, 3, 0, 0, 3, 3, 3, 3])
    path = tmp_path / f"clip{format_endings()[name]}"
    timeline.save(path)
    assert report.read(path).events and "only" not in path.read_text("utf-8")
    assert all(e.modality == "both" for e in report.read(path))
    for modality in MODALITIES:
        timeline.choose(modality).save(path)
        assert {e.modality for e in report.read(path).choose("all")} == {modality}


def test_elan_has_tiers_of_one_modality(tmp_path: Path) -> None:
    from pympi.Elan import Eaf

    timeline = lane_timeline("clip.mp4", [3, 3, 0, 0, 3, 3, 3, 3])
    added = replace(timeline.audio_only[0], label="Church bell")
    timeline = replace(timeline, audio_only=(*timeline.audio_only, added))
    timeline.save(tmp_path / "clip.eaf")
    tiers = set(Eaf(tmp_path / "clip.eaf").tiers)
    assert tiers == {"Church bell", "audio only", "audio only (2)", "visual only"}
    back = report.read(tmp_path / "clip.eaf")
    assert {e.label for e in back.audio_only} == {"Siren", "Church bell"}
    assert [e.label for e in back.visual_only] == ["Bark"] and len(back.events) == 1


def test_a_table_tells_the_modality_where_there_is_one_to_tell(tmp_path: Path) -> None:
    timeline = lane_timeline("clip.mp4", [3, 3, 0, 0, 3, 3, 3, 3])
    path = tmp_path / "clip.csv"
    timeline.save(path)
    assert path.read_text().splitlines()[0] == "start,end,label,score"
    timeline.choose("all").save(path)
    rows = path.read_text().splitlines()
    assert rows[0] == "start,end,label,score,modality" and rows[-1] == "4.0,7.0,Siren,0.7,audio"
    report.save_all([timeline, timeline.choose("audio")], path)
    assert path.read_text().splitlines()[0] == "file,start,end,label,score,modality"
    assert [len(t) for t in report.read_all(path)] == [2]
    path.write_text("start,end,label,modality\n0,1,a,sound\n")
    with pytest.raises(DataError, match=r"clip\.csv:2: modality 'sound'"):
        report.read(path)


def test_labels_of_training_are_those_of_audio_visual_events(tmp_path: Path) -> None:
    from tests.data.rows import read_rows

    write_clip(tmp_path / "a.mp4", 2)
    timeline = lane_timeline("a.mp4", [3, 3, 0, 0, 3, 3, 3, 3], scores=None, model={})
    for modality, labels in (("all", ["Church bell"]), ("audio", [""])):
        for name in ("a.txt", "a.csv", "a.eaf"):
            timeline.choose(modality).save(tmp_path / name)
            assert [row.label for row in read_rows(tmp_path)[0]] == labels, name
            (tmp_path / name).unlink()
    for name in ("annotations.csv", "annotations.tsv"):
        report.save_all([timeline.choose("all")], tmp_path / name)
        rows, mistakes = read_rows(tmp_path)
        assert not mistakes and {row.label for row in rows} == {"", "Church bell"}, name
        (tmp_path / name).unlink()
    (tmp_path / "annotations.csv").write_text("file,start,end,label,modality\na.mp4,0,1,a,sound\n")
    assert "annotations.csv:2: modality 'sound'" in read_rows(tmp_path)[1][0]


def test_many_classes_and_events_are_read_in_a_moment(tmp_path: Path) -> None:
    classes = [f"class {k}" for k in range(60_000)]
    events = [{"start": 1, "end": 2, "label": classes[-1 - k % 9], "score": 1} for k in range(9000)]
    content = {"video": "a", "duration": 9, "step": None, "classes": classes, "segments": [],
            "events": events, "model": {}, "notes": []}  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(content))
    begun = time.monotonic()
    assert len(read(tmp_path / "a.json")) == 9000
    assert time.monotonic() - begun < 5  # looked for one by one it is half a minute


NOTES = ("Sound: of 2 tracks, 0 (aac --> <b> & ]]>) is the one that was taken.", "4 frames\nlost.")


@pytest.mark.parametrize("ending", [".vtt", ".eaf", ".otio", ".edl", ".labelstudio.json", ".json"])
def test_notes_of_the_video_stand_in_the_file_where_it_has_room(
    tmp_path: Path, ending: str
) -> None:
    path = tmp_path / f"a{ending}"
    left = "Left out: b.txt:3: no label."
    timeline = replace(hand_timeline("a.mp4", [3, 0, 0, 1, 3]), notes=(*NOTES, left))
    report.save(timeline, path)
    loaded = report.read(path)
    assert [(e.start, e.label) for e in loaded] == [(e.start, e.label) for e in timeline]
    assert loaded.predicted, "the mark is found beside the notes"
    if ending != ".json":  # which keeps all as it is
        assert loaded.notes == (NOTES[0], "4 frames lost.")
    report.save(loaded, tmp_path / f"again{ending}")
    assert report.read(tmp_path / f"again{ending}").notes == loaded.notes


def test_notes_of_strangers_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "a.vtt"
    told = "".join(f"NOTE avel:note {i} {'x' * 9000}\n\n" for i in range(999))
    path.write_text(f"WEBVTT\n\n{told}00:01.000 --> 00:02.000\nx\n")
    notes = report.read(path).notes
    assert len(notes) == 50 and max(map(len, notes)) == 500


@pytest.mark.parametrize("ending", format_endings().values())
def test_names_with_half_letters_are_written_or_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    timeline = replace(hand_timeline("a\ud800.mp4", [3, 0, 0, 1, 3]), model={}, scores=None)
    try:
        report.save(timeline, path)
    except DataError as e:
        assert "U+D800 at character" in str(e) and not path.exists()
    else:
        assert [e.label for e in report.read(path)] == [e.label for e in timeline]


@pytest.mark.parametrize("ending", [".json", ".csv"])
def test_audio_weight_and_lag_are_read_again(ending: str, tmp_path: Path) -> None:
    timeline = weighted_timeline("clip.mp4", LABELS)
    path = tmp_path / f"clip{ending}"
    timeline.save(path)
    back = report.read(path)
    assert [(e.audio_weight, e.lag) for e in back] == [(0.25, 1.2), (0.75, -0.5)]
    if ending == ".json":
        assert back.scores is not None and back.scores.audio_weight is not None
        assert timeline.scores is not None and timeline.scores.audio_weight is not None
        np.testing.assert_array_equal(back.scores.audio_weight, timeline.scores.audio_weight)
        np.testing.assert_array_equal(back.scores.lag, timeline.scores.lag)
    path.write_text(path.read_text("utf-8").replace("Church bell", "Gong"), "utf-8")
    assert [(e.audio_weight, e.lag) for e in report.read(path)] == [(None, None)] * 2


def test_a_table_without_audio_weight_and_lag_has_no_such_columns(tmp_path: Path) -> None:
    hand_timeline("clip.mp4", LABELS).save(tmp_path / "clip.csv")
    header = (tmp_path / "clip.csv").read_text("utf-8").split("\n")[0].strip()
    assert header == "start,end,label,score"


@pytest.mark.parametrize(("key", "value"), [("audio_weight", 1.5), ("lag", "late"), ("lag", 1e9)])
def test_an_impossible_audio_weight_or_lag_leaves_out_the_event(
    key: str, value: object, tmp_path: Path
) -> None:
    content = weighted_timeline("clip.mp4", LABELS).to_json()
    content["events"][0][key] = value
    path = tmp_path / "clip.json"
    path.write_text(json.dumps(content), "utf-8")
    back = report.read(path)
    assert [e.label for e in back] == ["Bark"]
    assert "event 1" in " ".join(back.notes)


def test_json_of_many_classes_takes_little_more_memory_than_its_text() -> None:
    """The text of an hour of the default model is 80 MB; it was once nine times that in memory."""
    values = np.random.default_rng(0).random((300, 201), dtype=np.float32)
    classes = tuple(f"class {i}" for i in range(200))
    values /= values.sum(1, keepdims=True)
    scores = Scores(values, classes, Grid(300.0), values.argmax(1))
    timeline = Timeline("a.mp4", (), 300.0, classes, scores)
    tracemalloc.start()
    try:
        text = base.format_named("json").dump(timeline, Path("a.json"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    expected = json.dumps(timeline.to_json(), ensure_ascii=False, indent=1) + "\n"
    assert json.loads(text)["segments"] == json.loads(expected)["segments"]
    assert peak < 6 * len(text), f"{peak / len(text):.1f} times"
