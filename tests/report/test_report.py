"""The page without a browser: complete, escaped, bounded, right in its numbers."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from avel.media.encode import write_video
from avel.media.file import frames_at, open_media
from avel.report import layout, page, spectrogram, thumbs, view
from avel.report.cards import cautions, rows
from avel.report.clips import cut_clips, save_thumbnails
from avel.report.spectrogram import MAX_COLUMNS, mel_columns, spectrogram_png
from avel.report.thumbs import attention_bytes, thumb_times
from avel.types import Event, Grid, Scores, Timeline
from tests.conftest import ROOT
from tests.media_files import grey, mux, tone
from tests.report_samples import (
    CLASSES,
    LABELS,
    hand_scores,
    hand_timeline,
    lane_timeline,
    weighted_timeline,
    write_clip,
)

NOWHERE = "no-such-folder/clip.mp4"


class Elements(HTMLParser):
    """Every start tag with its attributes, and the texts of script elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script" and self.cdata_elem == "script":
            self.scripts[-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def rendered(timeline: Timeline, folder: Path) -> tuple[str, Elements]:
    text = page.render(timeline, page=folder / "page.html")
    return text, Elements(text)


def test_the_page_holds_the_video_itself_and_refers_to_nothing(clip: Path, tmp_path: Path) -> None:
    text, elements = rendered(hand_timeline(clip, LABELS), tmp_path)
    embedded = elements.scripts[[s.get("id") for s in elements.all("script")].index("avel-media")]
    assert base64.b64decode(embedded) == clip.read_bytes()
    for _, attributes in elements.tags:
        for key in ("src", "href", "poster", "action", "srcset"):
            assert (attributes.get(key) or "data:").startswith(("data:", "#"))
    assert "@import" not in text
    assert not re.search(r"url\((?!data:)", text)
    assert len(elements.all("button")) > 10


def test_the_policy_allows_this_script_alone(clip: Path, tmp_path: Path) -> None:
    _, elements = rendered(hand_timeline(clip, LABELS), tmp_path)
    [policy] = [m["content"] for m in elements.all("meta") if m.get("http-equiv")]
    digest = base64.b64encode(hashlib.sha256(elements.scripts[-1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in str(policy)
    assert "default-src 'none'" in str(policy)
    assert "http" not in str(policy)


def test_events_lanes_table_and_thumbnails(clip: Path, tmp_path: Path) -> None:
    _, elements = rendered(hand_timeline(clip, LABELS), tmp_path)
    blocks = [b for b in elements.all("button") if b.get("class") == "event"]
    assert [b["style"] for b in blocks] == [
        "left: 12.5%; width: 37.5%",
        "left: 62.5%; width: 25.0%",
    ]
    assert [b["aria-label"] for b in blocks] == [
        "Church bell, 0:01 – 0:04, score 0.70",
        "Bark, 0:05 – 0:07, score 0.70",
    ]
    thumbnails = [b for b in elements.all("button") if b.get("class") == "thumbnail"]
    assert [float(str(b["data-at"])) for b in thumbnails] == [i + 0.5 for i in range(8)]
    assert len([r for r in elements.all("tr") if "data-event" in r]) == 2


def test_toy_models_and_notes_are_said_aloud(clip: Path, tmp_path: Path) -> None:
    text, _ = rendered(hand_timeline(clip, LABELS), tmp_path)
    assert "This model is a toy" in text
    assert html.escape("picture: 2 packets couldn't be decoded").replace("&#x27;", "&#39;") in text


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'\u2028<!--{{7*7}}"


def test_names_and_labels_can_not_break_out(tmp_path: Path) -> None:
    scores = hand_scores([0, 0, 3], classes=(HOSTILE, "b", "c"))
    timeline = Timeline(
        video=HOSTILE,
        events=(Event(0, 2, HOSTILE, 0.7),),
        duration=3.0,
        classes=scores.classes,
        scores=scores,
        model={"model": HOSTILE, "data": {"name": HOSTILE, "note": HOSTILE}, HOSTILE: HOSTILE},
        notes=(HOSTILE,),
    )
    text, elements = rendered(timeline, tmp_path)
    assert [s.get("id") for s in elements.all("script")] == ["avel-data", None]
    assert not [a for _, a in elements.tags if any(key.startswith("on") for key in a)]
    assert json.loads(elements.scripts[0])["events"][0][2] == HOSTILE
    assert "\u2028" not in elements.scripts[0]
    assert "{{7*7}}" in text


@given(st.text())
def test_script_json_stays_inside_its_element(text: str) -> None:
    script = layout.script_json({"a": text})
    assert not set("<>&\u2028\u2029") & set(script)
    assert json.loads(script) == {"a": text}


def test_without_the_video_the_page_says_so(tmp_path: Path) -> None:
    text, elements = rendered(hand_timeline(NOWHERE, LABELS), tmp_path)
    assert "clip.mp4 couldn’t be read" in text or "couldn&#39;t be read" in text
    assert not elements.all("video")
    assert len([b for b in elements.all("button") if b.get("class") == "event"]) == 2


def test_no_events_shows_what_came_closest(tmp_path: Path) -> None:
    text, _ = rendered(hand_timeline(NOWHERE, [3, 3, 3]), tmp_path)
    assert "No event in this file is both seen and heard" in text
    assert text.count("class-row") > 3  # style sheet and three rows
    assert "peak 0.10" in text


def test_events_without_scores(tmp_path: Path) -> None:
    timeline = Timeline(NOWHERE, (Event(1, 2, "dog"),), 4.0, ("dog",))
    text, _ = rendered(timeline, tmp_path)
    assert '<svg class="curve"' not in text
    assert "left: 25.0%; width: 25.0%" in text


def test_an_empty_timeline(tmp_path: Path) -> None:
    text, _ = rendered(Timeline(NOWHERE, (), 0.0, ()), tmp_path)
    assert "No event" in text


def test_large_and_unplayable_files_are_linked(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "EMBED_BYTES", 100)
    text, elements = rendered(hand_timeline(clip, LABELS), clip.parent / "reports")
    [video] = elements.all("video")
    assert video["src"] == "../street%20%26%20square.mp4"
    assert "media-src 'self' file:" in html.unescape(text)
    assert "avel-media" not in [s.get("id") for s in elements.all("script")]
    monkeypatch.undo()
    other = clip.with_suffix(".mkv")
    other.write_bytes(clip.read_bytes())
    assert rendered(hand_timeline(other, LABELS), clip.parent)[1].all("video")[0]["src"]


def test_ten_hours_stay_small(tmp_path: Path) -> None:
    """All that the page bounds, at its bound: names, events, curves, maps, strips."""
    count = 36_000
    rng = np.random.default_rng(0)
    values = rng.dirichlet(np.ones(31), count)
    scores = Scores(
        values,
        tuple(f"class {i} " + "of a long name " * 10 for i in range(30)),
        Grid(float(count)),
        values.argmax(axis=1),
        attention=rng.dirichlet(np.full(196, 0.1), count).reshape(-1, 14, 14),
        audible=np.arange(count) // view.bin_size(count) % 2 == 0,
        visible=np.arange(count) // view.bin_size(count) % 2 == 1,
    )
    events = tuple(
        Event(float(i), i + 1.0, scores.classes[i % 30], float(rng.random())) for i in range(9000)
    )
    notes = tuple(f"{i} " + "x" * 9000 for i in range(99))
    timeline = Timeline(NOWHERE, events, float(count), scores.classes, scores, notes=notes)
    text, elements = rendered(timeline, tmp_path)
    pictures = thumbs.LETTERS + 64 * MAX_COLUMNS * 4 / 3  # all that media could add
    assert len(text) + pictures < 3_000_000
    data = json.loads(elements.scripts[0])
    assert len(data["events"]) == view.MAX_EVENTS
    assert len(data["lanes"]) == view.MAX_LANES
    assert max(len(lane["values"]) for lane in data["lanes"]) <= view.MAX_POINTS
    assert {len(e[2]) for e in data["events"]} == {view.MAX_NAME}
    assert len(base64.b64decode(data["attention"]["data"])) <= view.MAX_CELLS
    assert f"{view.MAX_EVENTS} events of the highest scores out of 9000" in text
    assert "There are 79 more notes" in text
    assert len([i for i in elements.all("i") if i.get("class") == "span"]) == view.MAX_POINTS


@pytest.mark.parametrize("size", [(180, 320), (320, 180), (2, 320)])
def test_pictures_of_noise_stay_small(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(thumbs.LIMIT)]
    uris = thumbs.jpeg_uris(images)
    assert len(uris) == thumbs.LIMIT and sum(map(len, uris)) <= thumbs.LETTERS
    plain = [np.full((180, 320, 3), 90, dtype=np.uint8)]
    assert thumbs.jpeg_uris(plain) == [thumbs.jpeg_uri(plain[0])]
    assert thumbs.jpeg_uris([]) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_report_of_a_looped_hour_stays_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import report_size

    row = report_size.measure(write_clip(tmp_path / "clip.mp4"), tmp_path, 60, name="clip")
    assert 0.3 < float(row["report_mb"]) < report_size.MOST / 1e6
    assert int(row["events"]) > 300


def test_a_curve_keeps_its_peaks_when_it_is_thinned() -> None:
    count = 5000
    values = np.zeros((count, 2))
    values[:, 1] = 1
    values[4321] = [0.9, 0.1]
    scores = Scores(values, ("a",), Grid(float(count)), np.ones(count, dtype=np.int64))
    thinned = view.curve(scores, "a")
    size = view.bin_size(count)
    assert size == 3
    assert max(thinned) == 900
    assert thinned.index(900) == 4321 // size


def test_curve_paths_end_with_the_file() -> None:
    values = np.array([[0.25, 0.75], [1.0, 0.0], [1.0, 0.0], [0.5, 0.5]])
    scores = Scores(values, ("a",), Grid(3.5), np.zeros(4, dtype=np.int64))
    path, width = view.curve_path(view.curve(scores, "a"), scores)
    assert (path, width) == ("M0 1000v-250h1v-750h2v500H3.5V1000", 3.5)
    silent = Scores(np.array([[0.0, 1.0]] * 2), ("a",), Grid(2.0), np.ones(2, dtype=np.int64))
    assert view.curve_path((0, 0), silent) == ("M0 1000H2V1000", 2.0)
    assert view.curve_path((), None) == ("", 0.0)


def test_thumbnails_of_a_long_file_have_maps_of_their_own() -> None:
    count = 9000  # a map of every fifth segment is all that the page has room for
    maps = np.zeros((count, 2, 2))
    maps[np.arange(count), 0, np.arange(count) % 2] = 1
    scores = Scores(
        np.full((count, 2), 0.5), ("a",), Grid(float(count)), np.zeros(count, np.int64),
        attention=maps,
    )  # fmt: skip
    held = view.attention(scores, [6.5, 7.5, 9000.0])
    assert held is not None and held["seconds"] == 5
    thumbnails = np.frombuffer(base64.b64decode(held["thumbnails"]), np.uint8).reshape(-1, 2, 2)
    assert thumbnails[:, 0].tolist() == [[255, 0], [0, 255], [0, 255]]


def test_strips_tell_where_the_file_is_heard() -> None:
    audible, visible = view.strips(hand_scores([0, 1, 2, 3]))
    assert (audible.label, audible.spans, audible.summary) == (
        "Heard",
        ((0.0, 75.0),),
        "75 % of the time",
    )
    assert visible.spans == ((0.0, 100.0),)


def test_the_page_says_what_counts_as_heard(tmp_path: Path) -> None:
    text, _ = rendered(hand_timeline(NOWHERE, LABELS), tmp_path)
    assert "above \N{MINUS SIGN}50 dBFS and within 20 dB of the file’s loudest segment" in text


def test_attention_is_clear_where_even_and_faint_where_unfocused() -> None:
    maps = np.array([[[0.0, 0.0], [0.0, 1.0]], [[0.1, 0.2], [0.3, 0.4]], [[0.25] * 2] * 2])
    assert list(attention_bytes(maps, [0])) == [0, 0, 0, 255]  # 4 times its even share
    assert list(attention_bytes(maps, [1])) == [0, 0, 17, 51]  # 1.2 and 1.6 times
    assert list(attention_bytes(maps, [2, 0])) == [0, 0, 0, 0, 0, 0, 0, 255]
    assert list(attention_bytes(np.full((1, 2, 2), np.nan), [0])) == [0, 0, 0, 0]
    assert attention_bytes(maps, []) == b""


def test_thumbnails_are_one_a_segment_or_the_events_first() -> None:
    timeline = hand_timeline(NOWHERE, [0, 1, 3])
    assert thumb_times(timeline) == [0.5, 1.5, 2.5]
    long = Timeline(
        NOWHERE, tuple(Event(10.0 * i, 10.0 * i + 4, "a", 0.5) for i in range(9)), 90.0, ("a",)
    )
    times = thumb_times(long, limit=12)
    assert len(times) == 12
    assert times == sorted(times)
    assert {10.0 * i + 2 for i in range(9)} <= set(times)


def test_the_spectrogram_shows_a_tone_where_it_is() -> None:
    rate, seconds = 16000, 4
    times = np.arange(rate * seconds) / rate
    sound = np.sin(2 * np.pi * 1000 * times) * (times >= 2)
    whole = mel_columns([sound], samples=len(sound))
    parts = mel_columns(np.array_split(sound, 7), samples=len(sound))
    np.testing.assert_allclose(parts, whole)
    assert whole.shape == (64, 400)
    power = whole.sum(axis=0)
    assert power[:195].max() < 1e-6 * power[210:].min()
    mel = 1127 * np.log1p(np.array([125, 1000, 7500]) / 700)
    expected = (mel[1] - mel[0]) / (mel[2] - mel[0]) * 65 - 1
    assert abs(whole[:, 300].argmax() - expected) <= 1
    image = Image.open(io.BytesIO(spectrogram_png(whole))).convert("L")
    pixels = np.asarray(image)
    row = pixels[:, 300].argmax()
    assert abs((63 - row) - expected) <= 1
    assert pixels[:, 100].max() < 30


def test_a_long_spectrogram_is_no_wider_than_its_bound() -> None:
    second = np.random.default_rng(0).normal(size=16000) * 0.1
    columns = mel_columns((second for _ in range(60)), samples=60 * 16000)
    assert columns.shape == (64, MAX_COLUMNS)
    assert columns.min() > 0


def test_a_long_sound_is_sampled_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    times = np.arange(40 * 16000) / 16000
    sound = rng.normal(0, 0.01, len(times)) + np.sin(6283 * times) * (times >= 20)
    parts = np.array_split(sound, 123)
    taken = mel_columns(parts, samples=len(sound), most=10)  # 400 hops a column, every twelfth
    np.testing.assert_allclose(mel_columns([sound], samples=len(sound), most=10), taken)
    monkeypatch.setattr(spectrogram, "ENOUGH", 10**9)
    every = mel_columns(parts, samples=len(sound), most=10)
    assert 0 < np.median(np.abs(taken / every - 1)) < 0.1  # the mean of 33 windows, or of 400
    loud = taken.max(axis=0)
    assert loud[5:].min() > 20 * loud[:5].max()


def test_sound_shorter_than_a_window_is_silence_not_a_crash() -> None:
    assert mel_columns([np.ones(100)], samples=100).shape == (64, 1)
    assert spectrogram_png(mel_columns([], samples=0)).startswith(b"\x89PNG")


def test_cards_in_words() -> None:
    card = {
        "model": "cspa_csea",
        "task": "sel",
        "step": 1.0,
        "window": 10,
        "audio_card": {"name": "mini_audio", "weights": "toybox"},
        "data": {"name": "ave", "simulated": True},
        "metrics": {"accuracy": 87.123456, "split": "test"},
    }
    assert dict(rows(card))["Audio backbone"] == "mini_audio, weights toybox"
    assert dict(rows(card))["Measured"] == "accuracy 87.12"
    assert any("simulated features" in c for c in cautions(card))
    assert any("mini networks" in c for c in cautions(card))
    assert not any("toy" in c for c in cautions(card))
    composed = {"data": {"note": "composed of pictures and sounds that were never filmed together"}}
    assert ["clips composed of" in c for c in cautions(composed)] == [True]
    assert rows({}) == []
    named = {"model": "named_events", "task": "sel", "events": {"bark": "dog bark", "cat": "cat"},
             "audio_card": {"name": "yamnet", "weights": "audioset"}, "chosen": {"clips": 58},
             "visual_card": {"name": "efficientnet_lite0"}}  # fmt: skip
    shown = dict(rows(named))
    assert shown["Detects"] == "2 events" and shown["Audio backbone"] == "yamnet, weights audioset"
    assert "without training" in shown["Model"] and "58 clips" in shown["Parameters"]
    assert "isn't the probability" in shown["Score"] and "not for people" in shown["Limits"]
    assert "Trained on" not in shown and "Task" not in shown
    assert cautions(named) == []  # a warning is for toys
    strange = {"model": "named_events", "events": 3, "chosen": [1], "audio_card": "x"}
    assert dict(rows(strange))["Detects"] == "0 events"
    assert cautions({}) == []
    assert rows({"data": 3, "audio_card": [], "step": "x"}) == []


def test_times_in_words() -> None:
    assert [view.short_time(s) for s in (0, 7, 7.5, 65, 3725.25, 9.999)] == [
        "0:00",
        "0:07",
        "0:07.5",
        "1:05",
        "1:02:05.2",
        "0:10",
    ]
    assert [view.length_text(s) for s in (2.5, 59.9, 60, 200)] == [
        "2.5 s",
        "59.9 s",
        "1 min",
        "3 min 20 s",
    ]


def test_class_names_of_the_samples_are_what_the_page_lists(tmp_path: Path) -> None:
    text, _ = rendered(hand_timeline(NOWHERE, LABELS), tmp_path)
    assert [f"<li>{name}</li>" in text for name in CLASSES] == [True] * 3


# --- files that are hard to read -----------------------------------------------------------------


def raw_stream(path: Path, seconds: int = 6) -> Path:
    """Pictures of rising grey in a stream without times, in which nothing can be sought."""
    pictures = [(i / 25, grey(20 + i)) for i in range(25 * seconds)]
    return mux(path, pictures=pictures)


@pytest.mark.parametrize("name", ["raw.h264", "raw.264"])
def test_a_raw_stream_gives_pictures_clips_and_a_page(tmp_path: Path, name: str) -> None:
    path = raw_stream(tmp_path / name) if name.endswith("h264") else tmp_path / name
    if not path.exists():
        path.write_bytes(raw_stream(tmp_path / "raw.h264").read_bytes())
    timeline = Timeline(str(path), (Event(3.0, 5.0, "bell", 1.0),), 6.0, ("bell",))
    shown = page.render(timeline, page=tmp_path / "r.html")
    assert shown.count("data-at=") == 6
    (picture,) = save_thumbnails(timeline, tmp_path / "pictures")
    assert Image.open(picture).convert("L").getpixel((32, 32)) == pytest.approx(120, abs=4)
    (clip_file,) = cut_clips(timeline, tmp_path / "clips")
    assert open_media(clip_file).duration == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("error", [PermissionError(1, "Operation not permitted"), None])
def test_a_seek_that_fails_is_made_up_for(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError | None
) -> None:
    """FFmpeg refuses, with one of its errors that are the system's too; the file is read on."""
    from avel.media import decode as decoding

    refused = 0

    class Container:
        def __init__(self, real: Any) -> None:
            self.real = real

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            self.real.close()

        def seek(self, *_: object, **__: object) -> None:
            nonlocal refused
            refused += 1
            raise av.error.PermissionError(1, "Operation not permitted") if error else OverflowError

    opened = decoding.open_container
    monkeypatch.setattr(decoding, "open_container", lambda path: Container(opened(path)))
    timeline = hand_timeline(clip, LABELS)
    times = [0.5, 7.5, 4.25]
    expected = frames_at_whole(clip, times)
    frames = frames_at(clip, times, width=160)
    assert refused and all(
        a is not None and np.abs(a.astype(int) - b).mean() < 2
        for a, b in zip(frames, expected, strict=True)
    )
    assert page.render(timeline, page=tmp_path / "r.html").count("data-at=") == 8


def frames_at_whole(path: Path, times: list[float]) -> list[NDArray[np.uint8]]:
    """The frames that are on at some instants, by decoding all of them in order."""
    with av.open(str(path)) as container:
        frames = [
            (float(f.time or 0), f.to_ndarray(format="rgb24")) for f in container.decode(video=0)
        ]
    return [[image for time, image in frames if time <= t + 1e-6][-1] for t in times]


def test_a_video_that_goes_while_the_page_is_made_is_no_part_of_it(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(page, "_player", gone)
    shown = page.render(hand_timeline(clip, LABELS), page=tmp_path / "r.html")
    assert "isn’t part of this page" in shown and shown.count("data-at=") == 8


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts", "mov", "webm", "avi"])
def test_damaged_files_have_a_page(tmp_path: Path, ending: str) -> None:
    """Cut short, with noise inside, and with bytes changed near either end: always a whole page."""
    whole = tmp_path / f"whole.{ending}"
    pictures = [(i / 10, grey(20 + i)) for i in range(40)]
    if ending == "webm":
        mux(whole, pictures=pictures, video="libvpx")
    else:
        old = ending == "avi"
        codecs = {"video": "mpeg4" if old else "libx264", "audio": "mp2" if old else "aac"}
        mux(whole, pictures=pictures, sounds=[(0.0, tone(4, 48000))], rate=48000, **codecs)
    data, rng = whole.read_bytes(), np.random.default_rng(0)
    for case in range(16):
        bad = bytearray(data)
        at = int(rng.integers(len(bad)))
        if case % 4 == 0:
            del bad[max(400, at) :]
        elif case % 4 == 1:
            bad[at : at + 300] = rng.bytes(min(300, len(bad) - at))
        else:
            for place in rng.integers(0, 700, 6):
                bad[place if case % 4 == 2 else -1 - place] = int(rng.integers(256))
        path = tmp_path / f"{case}.{ending}"
        path.write_bytes(bytes(bad))
        timeline = Timeline(str(path), (Event(0.0, 1.0, "bell", 1.0),), 4.0, ("bell",))
        assert page.render(timeline, page=tmp_path / "r.html").endswith("</html>")


# ---- what is only heard or only seen


def quiet(elements: Elements) -> list[str]:
    return [
        str(b["aria-label"])
        for b in elements.all("button")
        if "single" in str(b.get("class")).split()
    ]


def test_what_is_of_one_modality_has_rows_of_its_own(tmp_path: Path) -> None:
    text, elements = rendered(lane_timeline(NOWHERE, [3, 3, 0, 0, 3, 3, 3, 3]), tmp_path)
    assert quiet(elements) == [
        "Heard, not seen: Siren, 0:04 – 0:07, score 0.70",
        "Seen, not heard: Bark, 0:00 – 0:02, score 0.90",
    ]
    groups = [d["aria-label"] for d in elements.all("div") if d.get("role") == "group"]
    assert groups == ["Heard, not seen, 1 event", "Seen, not heard, 1 event"]
    assert "<li>1 event</li>" in text and "<li>1 only heard</li>" in text
    assert [b["aria-pressed"] for b in elements.all("button") if b.get("id") == "single"] == [
        "true"
    ]
    assert "<dt>Heard, not seen</dt>" in text and "No event is both" not in text


def test_events_say_what_they_were_decided_by(tmp_path: Path) -> None:
    text, _ = rendered(weighted_timeline(NOWHERE, LABELS), tmp_path)
    assert re.findall(r'class="detail">([^<]+)<', text) == [
        "mostly seen, heard 1.2 s later",
        "mostly heard, seen 0.5 s later",
    ]
    assert "score 0.70, mostly seen, heard 1.2 s later" in text
    assert "<dt>Mostly heard" in text
    text, _ = rendered(hand_timeline(NOWHERE, LABELS), tmp_path)
    assert 'class="detail"' not in text and "ostly heard" not in text


@pytest.mark.parametrize(
    ("weight", "lag", "expected"),
    [
        (None, None, ""),
        (0.6, 0.49, ""),
        (0.4, -0.49, ""),
        (0.61, None, "mostly heard"),
        (0.39, 0.5, "mostly seen, heard 0.5 s later"),
        (None, -1.234, "seen 1.23 s later"),
    ],
)
def test_audio_weight_and_lag_in_words(
    weight: float | None, lag: float | None, expected: str
) -> None:
    event = Event(0, 1, "bell", audio_weight=weight, lag=lag)
    assert view.detail_text(event, 1.0) == expected


def test_without_such_events_nothing_speaks_of_them(tmp_path: Path) -> None:
    text, elements = rendered(hand_timeline(NOWHERE, LABELS), tmp_path)
    assert not quiet(elements) and "not seen" not in text and 'id="single"' not in text


def test_without_events_the_first_sentence_says_what_is_heard_and_seen(tmp_path: Path) -> None:
    timeline = lane_timeline(NOWHERE, [3] * 8)
    text, _ = rendered(timeline, tmp_path)
    sentence = (
        "No event is both seen and heard. Heard only: Siren 0:04-0:07. Seen only: Bark 0:00-0:02."
    )
    assert f'<p class="finding">{sentence}</p>' in text
    assert text.index(sentence) < text.index("<main>")
    all_events, _ = rendered(timeline.choose("all"), tmp_path)  # every event is there, marked
    assert 'class="finding">Heard only: Siren' in all_events and quiet(Elements(all_events))


def test_many_are_counted_and_not_all_named() -> None:
    audio_only = tuple(Event(i, i + 1 + i % 3, f"c{i}", 0.5, "audio") for i in range(9))
    timeline = Timeline("a.mp4", (), 12, (), audio_only=audio_only)
    assert view.single_modality_text(timeline) == (
        "No event is both seen and heard. Heard only: c2 0:02-0:05, c5 0:05-0:08, c8 0:08-0:11, "
        "and 6 more."
    )
    assert view.single_modality_text(Timeline("a.mp4", (), 12, ())) == ""


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 30), st.floats(0, 1)), max_size=40))
def test_no_two_of_a_row_overlap_and_none_is_lost(spans: list[tuple[int, int, float]]) -> None:
    audio_only = tuple(sorted(Event(s, s + n, "a", v, "audio") for s, n, v in spans))
    lanes = view.single_modality_lanes(Timeline("a.mp4", (), 100, ("a",), audio_only=audio_only))
    assert len(lanes) == bool(audio_only)
    for lane in lanes:
        assert 1 <= len(lane.rows) <= view.MAX_SINGLE_ROWS
        assert sum(map(len, lane.rows)) + lane.left_out == len(audio_only)
        assert ("shown" in lane.summary) == (lane.left_out > 0)
        for row in lane.rows:
            assert all(a.end <= b.start for a, b in pairwise(row))


def crowded(events: int) -> Timeline:
    """A file of 200 classes, each a little likely everywhere; some are found."""
    rng = np.random.default_rng(0)
    names = tuple(f"class {i}" for i in range(200))
    values = rng.uniform(0, 0.04, (60, 201)).astype("f4")
    values[:, 7] = 0.3
    probabilities = rng.uniform(0, 0.4, (60, 200))
    scores = Scores(
        values,
        names,
        Grid(60.0),
        np.full(60, 200),
        audio_scores=probabilities,
        visual_scores=probabilities,
    )
    found = tuple(Event(i, i + 2, f"class {3 * i}", 0.9) for i in range(events))
    single = tuple(Event(i / 4, i / 4 + 3, f"class {i % 200}", 0.9, "audio") for i in range(220))
    return Timeline(NOWHERE, found, 60.0, names, scores, audio_only=single)


@pytest.mark.parametrize(("events", "curves"), [(0, 1), (5, 5), (50, view.MAX_LANES)])
def test_of_200_classes_only_those_found_or_likely_are_drawn(
    events: int, curves: int, tmp_path: Path
) -> None:
    text, elements = rendered(crowded(events), tmp_path)
    assert len([s for s in elements.all("svg") if s.get("class") == "curve"]) == curves
    data = json.loads(elements.scripts[0])
    assert len(data["lanes"]) == curves and len(data["single"]) == len(quiet(elements)) <= 200
    assert len(text) < 250_000
    assert "<summary>200 classes</summary>" in text
    if not events:
        assert [lane["label"] for lane in data["lanes"]] == ["class 7"]


@pytest.mark.parametrize(("width", "height", "tall"), [(96, 160, True), (160, 96, False)])
def test_pictures_of_a_portrait_video_are_narrow(
    width: int, height: int, tall: bool, tmp_path: Path
) -> None:
    write_video(tmp_path / "clip.mp4", frames=np.full((20, height, width, 3), 40, np.uint8), fps=10)
    timeline = hand_timeline(str(tmp_path / "clip.mp4"), [3, 3])
    timeline.save(tmp_path / "clip.html")
    page = (tmp_path / "clip.html").read_text("utf-8")
    assert ('class="thumbnails tall"' in page) == tall and 'class="thumbnails' in page
