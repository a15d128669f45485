"""Search by sound or sight: the planted moment is found, whatever the files are like."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from avel import clock
from avel.cli.main import main
from avel.errors import DataError, MediaError, UsageError
from avel.events import load_vocabulary
from avel.events.vocabulary import class_indices
from avel.features.cache import Facts
from avel.features.stream import FeatureBlock, FeatureStream
from avel.inference.checkpoint import Trained
from avel.inference.load import load_trained
from avel.inference.named_events import read_settings
from avel.models.base import Model, Query, build_model
from avel.models.layers import pair_distance, window_sums
from avel.models.named_events import Fusion, NamedEvents
from avel.search import costs as nearest
from avel.search import index as indexes
from avel.search import matcher as matching
from avel.search import profiles
from avel.search.costs import best, costs
from avel.search.index import Index
from avel.search.matcher import Matcher, check_model, parse_query
from avel.search.profiles import Profile, distances
from avel.types import Grid, Json, Modality
from tests.conftest import ROOT, load_script
from tests.docs_pages import check_command
from tests.training_data import AUDIO_CARD, CLASSES, VISUAL_CARD

torch.set_num_threads(1)
WIDE = 4


class Plain(nn.Module):
    """The Euclidean distance of the features themselves: a sound is like the picture it equals."""

    reads_means = True

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.longest = 0

    def window_costs(self, *, audio: Tensor, visual: Tensor, query: Query) -> Tensor:
        query.check(audio.shape[1], visual.shape[1])
        crossed = pair_distance(audio, visual.mean((2, 3)))
        if query.modality == "visual":
            crossed = crossed.transpose(1, 2)
        self.longest = max(self.longest, crossed.shape[2])
        return window_sums(crossed[:, query.start : query.start + query.length])


def card(**changes: Any) -> Json:
    base = {
        "model": "plain", "task": "cml", "classes": list(CLASSES), "step": 1.0, "window": 10,
        "dims": {"audio": WIDE, "visual": WIDE}, "options": {},
        "audio_card": AUDIO_CARD, "visual_card": VISUAL_CARD,
    }  # fmt: skip
    return base | changes


#: Events that sounds and pictures of the tests show: number i is made of the features' axis i.
EVENTS = ("dog bark", "siren", "drums", "frog")


def named_events(width: int = WIDE) -> NamedEvents:
    """The training-free model with heads that tell event i by feature i, sounds and pictures."""
    words = load_vocabulary().events
    heads = {"audio": torch.zeros(521, width), "visual": torch.zeros(1000, width)}
    for i, name in enumerate(EVENTS):
        for modality, weight in heads.items():
            weight[list(words[name].indices(modality)), i] = 16.0
    blank = torch.zeros(1000)
    blank[class_indices("visual")["pizza"]] = 12.0  # what a picture of nothing shows
    return NamedEvents(
        audio_head=(heads["audio"], torch.full((521,), -8.0)), visual_head=(heads["visual"], blank),
        events=[words[n] for n in EVENTS], rivals=list(words.values()),
        typical=torch.full((521,), -8.0), fusion=Fusion.from_json(read_settings()["fusion"]),
    ).eval()  # fmt: skip


class Loaded(Trained):
    """A trained model whose backbones are never asked."""

    def extractor(self, *, precision: str = "float32", device: str = "auto") -> Any:
        return None


class Shelf:
    """Made-up media: a file of any bytes, and what the backbones would make of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.held: dict[bytes, FeatureBlock | Exception] = {}
        self.durations: dict[bytes, float] = {}
        self.asked: list[str] = []
        self.notes: list[str] = []

    def put(self, name: str, block: FeatureBlock | Exception, *, duration: float = 0.0) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"made up: " + os.fsencode(name))
        self.held[path.read_bytes()] = block
        whole = len(block.audio) if isinstance(block, FeatureBlock) else 1
        self.durations[path.read_bytes()] = duration or float(whole)
        return path

    def features_of(self, path: str | Path, extractor: Any, **_: Any) -> Any:
        if not Path(path).is_file():
            raise MediaError(f"{path}: there is no such file")
        self.asked.append(Path(path).name)
        content = Path(path).read_bytes()
        block = self.held[content]
        if isinstance(block, Exception):
            raise block
        stream = FeatureStream(
            _parts(block), grid=Grid(self.durations[content]), widths=(WIDE, WIDE),
            cards=(AUDIO_CARD, VISUAL_CARD), notes=self.notes,
        )  # fmt: skip
        return stream, Facts


def _parts(block: FeatureBlock, size: int = 3) -> Iterator[FeatureBlock]:
    for i in range(0, len(block.audio), size):
        part = slice(i, i + size)
        yield FeatureBlock(
            block.audio[part], block.visual[part], block.levels[part], block.visible[part]
        )


def rows(audio: Any = None, visual: Any = None, *, count: int = 0) -> FeatureBlock:
    """A file's features from (T, 4) each; without one of them it is silent, or has no picture."""
    count = count or len(visual if audio is None else audio)
    block = FeatureBlock.of(count, (WIDE,), (2, 2, WIDE))
    if audio is not None:
        block.audio[:], block.levels[:] = audio, -20.0
    if visual is not None:
        block.visual[:], block.visible[:] = np.asarray(visual)[:, None, None], True
    return block


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    new_shelf = Shelf(tmp_path / "media")
    monkeypatch.setattr(matching, "features_of", new_shelf.features_of)
    return new_shelf


def noise(seed: int, count: int) -> Any:
    return np.random.default_rng(seed).normal(0, 1, (count, WIDE)).astype(np.float32)


def matcher() -> Matcher:
    return Matcher(Loaded(cast(Model, Plain()), card()))


# --- costs and choice ----------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 5), st.integers(0, 40), st.integers(0, 2**16), st.sampled_from([1, 2, 7, 100]),
    st.sampled_from(["audio", "visual"]),
)  # fmt: skip
def test_pieces_and_chunks_change_nothing(
    length: int, count: int, seed: int, piece: int, modality: Any
) -> None:
    query, track = noise(seed, length), noise(seed + 1, count)
    if modality == "audio":
        track = track[:, None, None]
    else:
        query = query[:, None, None]
    before, nearest.CHUNK = nearest.CHUNK, 6
    try:
        net = Plain()
        parts = (track[i : i + piece] for i in range(0, count, piece))
        result = costs(cast(Model, net), query, parts, modality=modality)
        assert net.longest <= 6 + length - 1 + max(piece, 6)
    finally:
        nearest.CHUNK = before
    plain = np.linalg.norm(
        query.reshape(length, 1, WIDE) - track.reshape(1, count, WIDE), axis=-1
    )  # fmt: skip
    expected = [
        np.mean([plain[i, t + i] for i in range(length)]) for t in range(count - length + 1)
    ]
    assert result.shape == (max(count - length + 1, 0),)
    assert np.allclose(result, expected, atol=1e-5)


def test_the_best_windows_do_not_overlap_unless_asked() -> None:
    cost, all_there = np.array([3.0, 1.0, 0.0, 1.0, 2.0]), np.ones(6, bool)
    assert best(cost, all_there, 2, top=9) == [2, 4, 0]
    assert best(cost, all_there, 2, top=2) == [2, 4]
    assert best(cost, all_there, 2, top=9, overlaps=True) == [2, 1, 3, 4, 0]
    assert best(np.zeros(4), np.ones(4, bool), 1, top=2) == [0, 1]  # equals: the earlier one


def test_windows_with_nothing_in_them_are_no_answer() -> None:
    present = np.array([0, 0, 0, 1, 0], bool)
    assert best(np.zeros(4), present, 2, top=9, overlaps=True) == [2, 3]
    assert best(np.array([np.nan, np.inf, 5.0]), np.ones(3, bool), 1, top=9) == [2]
    assert best(np.zeros(0), np.ones(2, bool), 3, top=9) == []


@pytest.mark.parametrize(
    ("span", "count", "expected"),
    [
        ((3, 5), 10, (3, 5)),
        ((3.4, 5.6), 10, (3, 6)),
        ((3.6, 5.4), 10, (4, 5)),
        ((3.1, 3.3), 10, (3, 4)),  # fills half of none
        ((3.8, 4.1), 10, (3, 4)),
        ((0, 4.2), 4, (0, 4)),
        ((4.1, 4.2), 4, (3, 4)),  # the tail belongs to the last segment
    ],
)
def test_a_stretch_in_segments(span: tuple[float, float], count: int, expected: Any) -> None:
    assert clock.segments_of(*span, count) == expected


def test_a_stretch_in_segments_of_other_lengths() -> None:
    assert clock.segments_of(1.0, 2.0, 8, 0.5) == (2, 4)
    assert clock.segments_of(0.0, 1.0, 2, 5.0) == (0, 1)


@pytest.mark.parametrize(
    ("text", "file", "span"),
    [
        ("a.wav", "a.wav", None),
        ("a.mp4@3-5", "a.mp4", (3, 5)),
        ("a.mp4@1:02.5-1:04", "a.mp4", (62.5, 64)),
        ("a.mp4@90-", "a.mp4", (90, float("inf"))),
        ("a@b@3-5", "a@b", (3, 5)),
        ("me@2024.mp4", "me@2024.mp4", None),
        ("me@home.mp4", "me@home.mp4", None),
        ("@3-5", "@3-5", None),
        ("x" * 5000 + "@3-5", "x" * 5000, (3, 5)),
    ],
)
def test_a_query_is_a_file_and_its_stretch(text: str, file: str, span: Any) -> None:
    assert parse_query(text) == (Path(file), span)


@pytest.mark.parametrize("span", ["5-3", "3", "3-3", "3-5-7", "1:2:3:4-5"])
def test_what_is_no_stretch_is_refused(span: str) -> None:
    with pytest.raises(UsageError, match=r"FILE@START-END"):
        parse_query(f"a.mp4@{span}")


def test_a_file_of_the_whole_name_goes_first(tmp_path: Path) -> None:
    (tmp_path / "a.mp4@3-5").touch()
    assert parse_query(tmp_path / "a.mp4@3-5") == (tmp_path / "a.mp4@3-5", None)


# --- searching -----------------------------------------------------------------------------------


@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize("place", [0, 4, 9])
@pytest.mark.parametrize("modality", ["audio", "visual"])
def test_the_planted_moment_is_found(
    shelf: Shelf, modality: Any, place: int, indexed: bool, tmp_path: Path
) -> None:
    asks, track = noise(1, 3), noise(2, 12)
    track[place : place + 3] = asks
    one = ("audio", "visual") if modality == "audio" else ("visual", "audio")
    query = shelf.put("query.mp4", rows(**{one[0]: asks}))
    shelf.put("in/a.mp4", rows(**{one[1]: noise(3, 12)}))
    shelf.put("in/b.mp4", rows(**{one[1]: track}))
    index = tmp_path / "i.safetensors" if indexed else None
    result = matcher()(query, shelf.folder / "in", modality=modality, index=index)
    first = result.matches[0]
    assert (Path(first.file).name, first.start, first.end) == ("b.mp4", place, place + 3)
    assert first.distance < 0.01 < result.matches[1].distance
    assert [m.distance for m in result] == sorted(m.distance for m in result)
    assert (result.files, result.segments, result.modality) == (2, 24, modality)


def test_the_index_answers_as_the_files_do_and_only_once_extracts(
    shelf: Shelf, tmp_path: Path
) -> None:
    query = shelf.put("q.wav", rows(audio=noise(0, 2)))
    for i in range(5):
        shelf.put(f"in/{i}.mp4", rows(noise(9 + i, 2 + i), noise(i, 2 + i)))
    index, find = tmp_path / "i.safetensors", matcher()
    plain = find(query, shelf.folder / "in", overlaps=True, top=99)
    assert len(plain) == sum(1 + i for i in range(5))
    for _ in range(2):
        shelf.asked.clear()
        repeated = find(query, shelf.folder / "in", overlaps=True, top=99, index=index)
        assert [(m.file, m.start) for m in repeated] == [(m.file, m.start) for m in plain]
        assert np.allclose([m.distance for m in repeated], [m.distance for m in plain], atol=1e-5)
    assert shelf.asked == ["q.wav"]


def test_an_index_keeps_what_stays_and_takes_what_is_new(shelf: Shelf, tmp_path: Path) -> None:
    query = shelf.put("q.wav", rows(audio=noise(0, 1)))
    a = shelf.put("in/a.mp4", rows(visual=noise(1, 4)))
    b = shelf.put("in/b.mp4", rows(visual=noise(2, 4)))
    other = shelf.put("other/c.mp4", rows(visual=noise(3, 4)))
    index, find = tmp_path / "sub" / "i.safetensors", matcher()

    def search(*where: Path) -> list[str]:
        shelf.asked.clear()
        find(query, where, index=index)
        return sorted(shelf.asked)

    assert search(shelf.folder / "in") == ["a.mp4", "b.mp4", "q.wav"]
    written = index.stat().st_mtime_ns
    assert search(shelf.folder / "in") == ["q.wav"]
    assert index.stat().st_mtime_ns == written  # nothing new: nothing written
    assert search(other) == ["c.mp4", "q.wav"]
    assert search(shelf.folder / "in", other) == ["q.wav"]
    a.rename(a.with_name("moved.mp4"))  # known by its content
    assert search(shelf.folder / "in") == ["q.wav"]
    os.utime(b, (1, 1))  # looked at again, and found to be the same
    assert search(shelf.folder / "in") == ["q.wav"]
    content = b.read_bytes()
    b.write_bytes(content + b"!")
    shelf.held[b.read_bytes()], shelf.durations[b.read_bytes()] = rows(visual=noise(5, 3)), 3.0
    assert search(shelf.folder / "in") == ["b.mp4", "q.wav"]
    names = sorted(Path(e.name).name for e in Index(index).entries)
    assert names == ["b.mp4", "c.mp4", "moved.mp4"]
    assert [p.name for p in index.parent.iterdir()] == ["i.safetensors"]


@pytest.mark.parametrize("modality", ["audio", "visual"])
def test_a_query_of_the_index_is_not_extracted(
    shelf: Shelf, tmp_path: Path, modality: Modality
) -> None:
    for i in range(4):
        shelf.put(f"in/{i}.mp4", rows(noise(9 + i, 5), noise(i, 5)))
    query, index, find = shelf.folder / "in" / "2.mp4", tmp_path / "i.safetensors", matcher()

    def search(text: str | Path, **options: Any) -> Any:
        shelf.asked.clear()
        return find(text, shelf.folder / "in", modality=modality, top=9, **options)

    search(query, index=index)
    for text in (query, f"{query}@1-3"):
        plain = search(text)
        assert "2.mp4" in shelf.asked
        indexed = search(text, index=index)
        assert shelf.asked == []
        assert (indexed.start, indexed.end, indexed.notes) == (plain.start, plain.end, plain.notes)
        assert [(m.file, m.start) for m in indexed] == [(m.file, m.start) for m in plain]
        assert np.allclose([m.distance for m in indexed], [m.distance for m in plain], atol=1e-6)
    content = query.read_bytes() + b"!"
    shelf.held[content], shelf.durations[content] = rows(noise(1, 3), noise(2, 3)), 3.0
    query.write_bytes(content)  # changed since: its rows are no longer those of the index
    assert search(query, index=index).end == 3.0
    assert shelf.asked == ["2.mp4", "2.mp4"]
    assert search(query, index=index).end == 3.0 and shelf.asked == []


def test_copies_are_extracted_once_for_an_index(shelf: Shelf, tmp_path: Path) -> None:
    query = shelf.put("q.wav", rows(audio=noise(0, 2)))
    for i in range(3):
        shelf.put(f"in/{i}.mp4", rows(visual=noise(i, 4 + i)))
    shutil.copyfile(shelf.folder / "in" / "1.mp4", shelf.folder / "in" / "copy.mp4")
    find, index = matcher(), tmp_path / "i.safetensors"
    plain = find(query, shelf.folder / "in", top=99)
    shelf.asked.clear()
    indexed = find(query, shelf.folder / "in", top=99, index=index)
    assert shelf.asked == ["q.wav", "0.mp4", "1.mp4", "2.mp4"]
    assert [(m.file, m.start) for m in indexed] == [(m.file, m.start) for m in plain]
    again = find(query, shelf.folder / "in", top=99, index=index)
    assert [(m.file, m.distance) for m in again] == [(m.file, m.distance) for m in indexed]


def test_no_window_reaches_from_one_file_into_the_next(shelf: Shelf, tmp_path: Path) -> None:
    asks = noise(1, 4)
    query = shelf.put("q.wav", rows(audio=asks))
    shelf.put("in/a.mp4", rows(visual=np.concatenate([noise(2, 3), asks[:2]])))
    shelf.put("in/b.mp4", rows(visual=np.concatenate([asks[2:], noise(3, 3)])))
    result = matcher()(query, shelf.folder / "in", index=tmp_path / "i.safetensors", overlaps=True)
    assert len(result) == 2 + 2 and result.matches[0].distance > 0.5


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, MemoryError])
def test_an_interrupted_index_keeps_what_was_done(
    shelf: Shelf, tmp_path: Path, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    query = shelf.put("q.wav", rows(audio=noise(0, 1)))
    for name in "abc":
        shelf.put(f"in/{name}.mp4", rows(visual=noise(ord(name), 4)))

    def stop(path: Any, extractor: Any, **options: Any) -> Any:
        if Path(path).name == "b.mp4":
            raise error
        return shelf.features_of(path, extractor, **options)

    monkeypatch.setattr(matching, "features_of", stop)
    index = tmp_path / "i.safetensors"
    with pytest.raises(error):
        matcher()(query, shelf.folder / "in", index=index)
    assert [Path(e.name).name for e in Index(index).entries] == ["a.mp4"]


def test_windows_end_with_their_file(shelf: Shelf) -> None:
    track = noise(2, 4)
    query = shelf.put("q.wav", rows(audio=track[2:]))
    target = shelf.put("t.mp4", rows(visual=track), duration=3.4)
    first = matcher()(query, target).matches[0]
    assert (first.start, first.end) == (2.0, 3.4)


def test_a_stretch_asks_and_ends_with_its_file(shelf: Shelf) -> None:
    sound = noise(1, 6)
    query = shelf.put("q.mp4", rows(audio=sound, visual=noise(7, 6)), duration=5.5)
    target = shelf.put("t.mp4", rows(visual=sound))
    result = matcher()(f"{query}@2-4", target)
    assert (result.start, result.end, result.modality) == (2, 4, "audio")
    assert (result.matches[0].start, result.matches[0].end) == (2, 4)
    result = matcher()(f"{query}@4-99", target)
    assert (result.start, result.end) == (4, 5.5)
    with pytest.raises(UsageError, match=r"starts at 6 s"):
        matcher()(f"{query}@6-7", target)


def test_the_query_says_what_it_has(shelf: Shelf) -> None:
    find = matcher()
    target = shelf.put("t.mp4", rows(noise(1, 5), noise(2, 5)))
    blind = shelf.put("q.wav", rows(audio=noise(3, 2)))
    silent = shelf.put("q.mp4", rows(visual=noise(3, 2)))
    assert (find(blind, target).modality, find(silent, target).modality) == ("audio", "visual")
    with pytest.raises(MediaError, match="no picture from 0 to 2 s"):
        find(blind, target, modality="visual")
    with pytest.raises(MediaError, match="no sound"):
        find(silent, target, modality="audio")


def test_silent_targets_are_searched_by_their_picture_and_only_so(shelf: Shelf) -> None:
    find = matcher()
    query = shelf.put("q.mp4", rows(noise(3, 2), noise(4, 2)))
    silent = shelf.put("silent.mp4", rows(visual=noise(1, 5)))
    assert len(find(query, silent)) == 2
    result = find(query, silent, modality="visual")
    assert len(result) == 0 and result.notes == ("1 file has no sound to search.",)
    assert str(result) == "no match"


def test_files_too_short_are_named_and_a_query_too_long_refused(shelf: Shelf) -> None:
    find = matcher()
    query = shelf.put("q.wav", rows(audio=noise(0, 5)))
    short = shelf.put("in/a.mp4", rows(visual=noise(1, 4)))
    with pytest.raises(UsageError, match="5 segments, more than any"):
        find(query, short)
    shelf.put("in/b.mp4", rows(visual=noise(1, 5)))
    result = find(query, shelf.folder / "in")
    assert len(result) == 1 and "1 file is shorter than the query" in result.notes[0]
    long = shelf.put("long.wav", rows(audio=noise(0, 61)))
    with pytest.raises(UsageError, match=r"@START-END"):
        find(long, shelf.folder / "in")
    assert len(find(f"{long}@0-5", shelf.folder / "in")) == 1


@pytest.mark.parametrize("indexed", [False, True])
def test_one_bad_file_does_not_stop_the_others(shelf: Shelf, tmp_path: Path, indexed: bool) -> None:
    query = shelf.put("q.wav", rows(audio=noise(0, 1)))
    shelf.put("in/a.mp4", MediaError("a.mp4: damaged"))
    shelf.put("in/b.mp4", rows(visual=noise(1, 2)))
    index = tmp_path / "i.safetensors" if indexed else None
    result = matcher()(query, shelf.folder / "in", index=index)
    assert {Path(m.file).name for m in result} == {"b.mp4"}
    assert [(Path(name).name, e.got) for name, e in result.failed] == [("a.mp4", "a.mp4: damaged")]
    with pytest.raises(MediaError, match="damaged"):
        matcher()(query, shelf.folder / "in" / "a.mp4", index=index)


def test_equal_files_come_in_their_order(shelf: Shelf) -> None:
    query = shelf.put("q.wav", rows(audio=noise(0, 1)))
    paths = [shelf.put(f"in/{n}.mp4", rows(visual=noise(1, 1))) for n in "cab"]
    result = matcher()(query, [paths[0], shelf.folder / "in", paths[0]])
    assert [Path(m.file).stem for m in result] == ["c", "a", "b"]


def test_hostile_names_stay_names(shelf: Shelf, tmp_path: Path) -> None:
    query = shelf.put("q.wav", rows(audio=noise(0, 1)))
    names = ["=cmd|' /C calc'!A0.mp4", "new\nline.mp4", "[red]x[/].mp4", "@3-5.mp4"]
    names.append(os.fsdecode(b"no\xff.mp4"))
    for i, name in enumerate(names):
        shelf.put(f"in/{name}", rows(visual=noise(i, 1)))
    index = tmp_path / "i.safetensors"
    os.chdir(shelf.folder / "in")
    for _ in range(2):
        result = matcher()(query, ".", index=index)
        assert sorted(m.file for m in result) == sorted(names)
    result.save(tmp_path / "m.csv")
    result.save(tmp_path / "m.json")
    with (tmp_path / "m.csv").open(newline="", encoding="utf-8") as f:
        table = list(csv.DictReader(f))
    assert {r["file"] for r in table} >= {"new\nline.mp4", "'" + names[0], "'@3-5.mp4"}
    content = json.loads((tmp_path / "m.json").read_text())
    assert sorted(w["file"] for w in content["windows"]) == sorted(names)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modality": "smell"}, "got 'smell'"),
        ({"top": 0}, "got 0"),
        ({"index": "index.zip"}, "ends in .safetensors"),
    ],
)
def test_what_makes_no_sense_is_refused(shelf: Shelf, options: Any, message: str) -> None:
    query = shelf.put("q.wav", rows(audio=noise(0, 1)))
    target = shelf.put("t.mp4", rows(visual=noise(0, 1)))
    with pytest.raises(UsageError, match=message):
        matcher()(query, target, **options)
    with pytest.raises(UsageError, match="no files are named"):
        matcher()(query, [])
    (shelf.folder / "empty").mkdir()
    with pytest.raises(DataError, match="no media files"):
        matcher()(query, shelf.folder / "empty")


# --- named events, without training --------------------------------------------------------------


def searcher() -> Matcher:
    return Matcher(Loaded(named_events(), card(model="named_events", task="sel")))


def shows(*events: str | None) -> Any:
    """(T, 4) features of segments that show these events, of which None is nothing."""
    table = np.zeros((len(events), WIDE), np.float32)
    for row, event in zip(table, events, strict=True):
        if event is not None:
            row[EVENTS.index(event)] = 1.0
    return table


@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize("modality", ["audio", "visual"])
def test_named_events_find_what_both_show(
    shelf: Shelf, modality: Any, indexed: bool, tmp_path: Path
) -> None:
    asks, answers = ("audio", "visual") if modality == "audio" else ("visual", "audio")
    # the other modality speaks against: it isn't read
    query = shelf.put(
        "q.mp4", rows(**{asks: shows("dog bark", None), answers: shows("frog", "frog")})
    )
    for name in EVENTS:
        track = shows(None, None, name, name, None)
        shelf.put(f"in/{name}.mp4", rows(**{answers: track, asks: shows(*["dog bark"] * 5)}))
    index = tmp_path / "i.safetensors" if indexed else None
    for _ in range(2):
        result = searcher()(query, shelf.folder / "in", modality=modality, index=index)
        first = result.matches[0]
        assert (Path(first.file).stem, first.start, first.end) == ("dog bark", 2, 4)
        assert first.shared == ("dog bark",)
        assert not any(m.shared for m in result.matches if "dog bark" not in m.file)
        assert first.distance < 0.6 and result.matches[-1].distance > 0.9
        assert result.median is not None and result.median > first.distance
    window = result.to_json()["windows"][0]
    assert window["shared"] == ["dog bark"] and "(both: dog bark)" in str(result).splitlines()[0]


def test_what_most_candidates_show_does_not_win(shelf: Shelf) -> None:
    """A siren and a bark are heard, and all but one picture show a siren: the dog is the answer."""
    both = (shows("dog bark") + shows("siren")).repeat(2, 0)
    query = shelf.put("q.wav", rows(audio=both))
    for i in range(30):
        shelf.put(f"in/{i:02}.mp4", rows(visual=shows("siren", "siren", "siren")))
    shelf.put("in/dog.mp4", rows(visual=shows("dog bark", "dog bark", "dog bark")))
    result = searcher()(query, shelf.folder / "in")
    assert Path(result.matches[0].file).stem == "dog"
    query = shelf.put("s.wav", rows(audio=shows("siren", "siren")))
    assert Path(searcher()(query, shelf.folder / "in").matches[0].file).stem == "00"


@pytest.mark.parametrize("model", ["named", "learned"])
def test_within_one_modality_the_other_is_not_read(shelf: Shelf, model: str) -> None:
    find = searcher() if model == "named" else matcher()
    query = shelf.put("q.mp4", rows(shows("frog", "frog"), shows("siren", "siren")))
    shelf.put("in/a.mp4", rows(shows("frog", "frog"), shows("drums", "drums")))
    shelf.put("in/b.mp4", rows(shows("drums", "drums"), shows("siren", "siren")))
    shelf.put("in/c.mp4", rows(shows("siren", "siren"), shows("frog", "frog")))
    for within, right, event in (("audio", "a", "frog"), ("visual", "b", "siren")):
        result = find(query, shelf.folder / "in", within=within)  # type: ignore[arg-type]
        assert Path(result.matches[0].file).stem == right
        assert result.matches[0].distance < 0.1 < result.matches[1].distance
        assert result.modality == result.candidate_modality == within
        assert result.matches[0].shared == ((event,) if model == "named" else ())
    with pytest.raises(UsageError, match="leave --modality out"):
        find(query, shelf.folder / "in", within="audio", modality="visual")
    with pytest.raises(UsageError, match="audio or visual"):
        find(query, shelf.folder / "in", within="smell")  # type: ignore[arg-type]


def test_a_file_shorter_than_the_query_answers_whole(shelf: Shelf) -> None:
    query = shelf.put("q.wav", rows(audio=shows(*["frog"] * 5)))
    shelf.put("in/short.mp4", rows(visual=shows("frog", "frog")), duration=1.7)
    shelf.put("in/long.mp4", rows(visual=shows(*["siren"] * 9)))
    result = searcher()(query, shelf.folder / "in")
    first = result.matches[0]
    assert (Path(first.file).stem, first.start, first.end) == ("short", 0, 1.7)
    assert result.notes == ()


def test_one_moment_a_file(shelf: Shelf) -> None:
    query = shelf.put("q.wav", rows(audio=shows("frog")))
    shelf.put("in/a.mp4", rows(visual=shows("frog", "frog", None, "frog")))
    shelf.put("in/b.mp4", rows(visual=shows(None, "siren")))
    for find in (searcher(), matcher()):
        result = find(query, shelf.folder / "in", one_per_file=True)
        assert [Path(m.file).stem for m in result] == ["a", "b"]
        assert len(find(query, shelf.folder / "in")) == 6


def test_segments_that_are_not_finite_are_passed_over(shelf: Shelf) -> None:
    query = shelf.put("q.wav", rows(audio=shows("frog", "frog")))
    track = shows("siren", "siren", "frog", "frog")
    track[0] = np.inf
    shelf.put("in/a.mp4", rows(visual=track))
    result = searcher()(query, shelf.folder / "in", overlaps=True)
    assert result.matches[0].start == 2 and all(np.isfinite(m.distance) for m in result)


def test_an_index_of_another_models_backbones_is_refused(shelf: Shelf, index: Path) -> None:
    changed(index, lambda m: m.update(audio_card={"name": "mini_audio"}))
    with pytest.raises(UsageError, match="features that this model can't read"):
        searcher()(shelf.folder / "q.wav", shelf.folder / "in", index=index)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(1, 20), st.integers(0, 2**16), st.booleans())
def test_distances_of_profiles(length: int, count: int, seed: int, events: bool) -> None:
    """Against the plain definition, whatever the chunks."""
    rng = np.random.default_rng(seed)
    query = Profile(rng.random((length, 5)), np.arange(length) != 1)
    candidates = [
        Profile(rng.random((n, 5)), rng.random(n) < 0.7)
        for n in (count, 1, int(rng.integers(1, 9)))
    ]
    before, profiles.CHUNK = profiles.CHUNK, 3
    try:
        result = distances(query, candidates, events=events)
    finally:
        profiles.CHUNK = before
    files = sum(p.present.any() for p in candidates)
    every = np.concatenate([p.rows[p.present] for p in candidates])
    typical = every.mean(0) * files / (files + 10) if len(every) else np.zeros(5)
    query_profile = query.rows[query.present].mean(0)
    query_profile = query_profile**3 if events else query_profile - typical
    for profile, distance in zip(candidates, result, strict=True):
        n = min(length, len(profile.rows))
        assert distance.shape == (len(profile.rows) - n + 1,)
        for first, d in enumerate(distance):
            window = slice(first, first + n)
            rows_there = profile.rows[window][profile.present[window]]
            if len(rows_there) == 0:
                continue
            three = np.stack([query_profile, rows_there.mean(0) - typical, rows_there.mean(0)])
            three = three - three.mean(1, keepdims=True) if events else three
            sizes = np.linalg.norm(three, axis=1)
            cosine = three[0] @ three[1] / sizes[0] / max(sizes[1:])
            assert d == pytest.approx(1 - cosine, abs=1e-4)


# --- indexes from strangers ----------------------------------------------------------------------


@pytest.fixture
def index(shelf: Shelf, tmp_path: Path) -> Path:
    query = shelf.put("q.wav", rows(audio=noise(0, 1)))
    for name in "ab":
        shelf.put(f"in/{name}.mp4", rows(visual=noise(ord(name), 3)))
    matcher()(query, shelf.folder / "in", index=tmp_path / "i.safetensors")
    return tmp_path / "i.safetensors"


def search(shelf: Shelf, index: Path) -> Any:
    return matcher()(shelf.folder / "q.wav", shelf.folder / "in", index=index)


def changed(index: Path, change: Callable[[Json], Any]) -> None:
    data = index.read_bytes()
    size = int.from_bytes(data[:8], "little")
    head = json.loads(data[8 : 8 + size])
    meta = json.loads(head["__metadata__"]["avel"])
    change(meta)
    head["__metadata__"]["avel"] = json.dumps(meta)
    text = json.dumps(head).encode()
    index.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])


BAD: dict[str, Callable[[Json], Any]] = {
    "rows beyond the end": lambda m: m["files"][1].__setitem__(5, 4),
    "negative rows": lambda m: m["files"][1].__setitem__(5, -1),
    "another length": lambda m: m["files"][0].__setitem__(4, 1e9),
    "no number": lambda m: m["files"][0].__setitem__(4, "x"),
    "a name that is none": lambda m: m["files"][0].__setitem__(0, 3),
    "cells missing": lambda m: m["files"].append([1, 2]),
    "no segments": lambda m: m["files"][0].__setitem__(slice(4, 7), [0.0, 0, 0]),
    "no table": lambda m: m.pop("files"),
    "newer": lambda m: m.update(layout=3),
    "older": lambda m: m.update(layout=1),
    "notes missing": lambda m: m["files"][0].pop(),
    "other kind": lambda m: m.update(kind="features"),
    "no cards": lambda m: m.update(audio_card=3),
}


@pytest.mark.parametrize("name", BAD)
def test_a_false_index_is_refused_and_left_alone(shelf: Shelf, index: Path, name: str) -> None:
    changed(index, BAD[name])
    before = index.read_bytes()
    with pytest.raises(DataError, match="is no index"):
        search(shelf, index)
    assert index.read_bytes() == before


def test_an_older_index_is_refused_in_one_sentence(shelf: Shelf, index: Path) -> None:
    changed(index, lambda m: m.update(layout=1, files=[row[:7] for row in m["files"]]))
    with pytest.raises(DataError) as caught:
        search(shelf, index)
    assert "of an older avel, which mixed the sound differently" in str(caught.value)
    assert "writes it anew" in str(caught.value)
    index.unlink()
    assert search(shelf, index).matches


@pytest.mark.parametrize("kept", [False, True])
def test_the_track_taken_is_told_of_what_is_shown(shelf: Shelf, tmp_path: Path, kept: bool) -> None:
    query = shelf.put("q.wav", rows(audio=noise(0, 1)))
    for name in "abc":
        shelf.put(f"in/{name}.mp4", rows(visual=noise(ord(name), 3)))
    taken = "{}: of 2 tracks, 0 (x) is the one that was taken"
    shelf.notes = [taken.format("sound"), taken.format("picture"), "4 frames couldn't be decoded"]
    for _ in range(2):  # the second time from the index, where there is one
        found = matcher()(query, shelf.folder / "in", top=2, one_per_file=True,
                          index=tmp_path / "i.safetensors" if kept else None)  # fmt: skip
        told = [f"{query}: {taken.format('sound')}."]
        order = sorted(found.matches, key=lambda m: m.file)
        told += [f"{m.file}: {taken.format('picture')}." for m in order]
        assert list(found.notes) == told


@pytest.mark.parametrize("cut", [0, 4, 100, -1])
def test_a_damaged_index_is_refused(shelf: Shelf, index: Path, cut: int) -> None:
    index.write_bytes(index.read_bytes()[:cut])
    with pytest.raises(DataError, match="is no index"):
        search(shelf, index)


def test_an_index_of_other_features_is_refused(shelf: Shelf, index: Path) -> None:
    changed(index, lambda m: m.update(step=0.5, files=[]))
    with pytest.raises(UsageError, match="can't read"):
        search(shelf, index)
    changed(index, lambda m: m.update(step=1.0, audio_card={"name": "other"}))
    with pytest.raises(UsageError, match="name another index"):
        search(shelf, index)


def test_means_serve_models_that_read_means_and_maps_serve_all(shelf: Shelf, index: Path) -> None:
    assert Index(index).row_shapes == ((WIDE,), (1, 1, WIDE))
    looks = matcher()
    looks.kind = indexes.Kind(AUDIO_CARD, VISUAL_CARD, 1.0, means=False)
    query, within = shelf.folder / "q.wav", shelf.folder / "in"
    with pytest.raises(UsageError, match="every region"):
        looks(query, within, index=index)
    whole = index.with_name("maps.safetensors")
    expected = looks(query, within, index=whole)
    assert Index(whole).row_shapes == ((WIDE,), (2, 2, WIDE))
    shelf.asked.clear()
    result = matcher()(query, within, index=whole)
    assert shelf.asked == ["q.wav"]
    assert [m.start for m in result] == [m.start for m in expected]


# --- models --------------------------------------------------------------------------------------

SMALL: dict[str, Json] = {
    "cspa_csea": {"form": "unpaired", "common": 4, "hidden": 8, "state": 4},
    "avdln": {},
    "dam": {"width": 8},
    "dcca": {"hidden": 8, "width": 4},
}


def built(name: str, **options: Any) -> Trained:
    torch.manual_seed(0)
    given = {**SMALL[name], **options}
    net = build_model(
        name, audio_dim=WIDE, visual_dim=WIDE, classes=len(CLASSES), task="cml", **given
    ).eval()
    return Loaded(net, card(model=name, options=given))


@pytest.mark.parametrize("name", SMALL)
def test_every_model_for_separate_recordings_answers_windows_alone(name: str) -> None:
    """A window's cost is the same in any track: what pieces, chunks and indexes rest on."""
    net = built(name).network
    query, track = noise(1, 3), np.random.default_rng(2).normal(0, 1, (9, 2, 2, WIDE))
    whole = costs(net, query, [track.astype(np.float32)], modality="audio")
    for first in (0, 2, 6):
        alone = costs(net, query, [track[first : first + 3].astype(np.float32)], modality="audio")
        assert np.allclose(alone, whole[first : first + 1], atol=1e-4)
    assert len(whole) == 7 and np.ptp(whole) > 0


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("avdln", {}), ("dcca", {}), ("dam", {}), ("dam", {"regions": "guided"}),
        ("cspa_csea", {}), ("cspa_csea", {"modules": "csea"}), ("cspa_csea", {"modules": "cspa"}),
        ("cspa_csea", {"modules": "none"}), ("cspa_csea", {"lambda_c": 0.0}),
    ],
)  # fmt: skip
def test_models_say_truly_whether_they_read_means(name: str, options: Json) -> None:
    net = built(name, **options).network
    audio = torch.from_numpy(noise(3, 5))[None]
    visual = torch.randn(1, 5, 3, 2, WIDE, generator=torch.Generator().manual_seed(4))
    given: Json = {"audio": audio, "query": Query("audio", 1, 2)}
    with torch.inference_mode():
        whole = net.window_costs(visual=visual, **given)
        means = net.window_costs(visual=visual.mean((2, 3), keepdim=True), **given)
    assert torch.allclose(whole, means, atol=1e-5) == net.reads_means


@pytest.mark.parametrize(
    ("name", "options"), [("cspa_csea", {"form": "paired"}), ("dam", {"regions": "guided"})]
)
def test_models_of_one_recording_are_refused(name: str, options: Json) -> None:
    with pytest.raises(UsageError, match="one recording"):
        check_model(built(name, **options))


def test_models_of_other_tasks_are_refused() -> None:
    with pytest.raises(UsageError, match=r"form=unpaired"):
        check_model(Loaded(cast(Model, Plain()), card(task="sel")))


# --- the command and the docs' page --------------------------------------------------------------

PAGE = (ROOT / "docs" / "cross-modal-retrieval.md").read_text("utf-8")
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.S)
    for line in block.splitlines()
    if line.startswith("avel ")
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the page names, and a small model as the one that ships."""
    from avel.data.toybox.dataset import ToyboxPlan, render_clip
    from avel.features.extractor import Extractor
    from tests.media_files import grey, mux, tone

    folder = tmp_path_factory.mktemp("match")
    plan = ToyboxPlan(seed=3, seconds=6, fps=2, width=48, height=36)
    (folder / "videos").mkdir()
    for i in range(2):
        name = render_clip(plan, i, folder / "made")
        shutil.copy(folder / "made" / "videos" / f"{name}.mp4", folder / "videos" / f"{i}.mp4")
    shutil.copy(folder / "videos" / "0.mp4", folder / "street.mp4")
    mux(folder / "bark.wav", sounds=[(0.0, tone(2, 16000))])
    mux(folder / "recording.wav", sounds=[(0.0, tone(4, 16000))])
    shots = [(t / 2, grey(40 * (t % 5))) for t in range(8)]
    mux(folder / "silent.mp4", pictures=shots)
    extractor = Extractor(audio="mini_audio", visual="mini_visual")
    torch.manual_seed(0)
    net = build_model(
        "cspa_csea", audio_dim=128, visual_dim=128, classes=2, task="cml", **SMALL["cspa_csea"]
    )
    ids = {"train_ids": {"count": 0, "sha256": ""}, "data": {}}
    facts = card(
        model="cspa_csea", options=SMALL["cspa_csea"], dims={"audio": 128, "visual": 128},
        classes=["a", "b"], audio_card=extractor.cards[0], visual_card=extractor.cards[1], **ids,
    )  # fmt: skip
    Trained(net, facts).save(folder / "runs" / "small")
    return folder


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    monkeypatch.setenv("COLUMNS", "120")
    load = matching._load
    small = load("runs/small")
    default = Trained(named_events(128), {**small.card, "model": "named_events", "task": "sel"})
    models = {"default": default, "toybox_match": small, "runs/bark": small}
    monkeypatch.setattr(matching, "_load", lambda m: models.get(str(m)) or load(m))
    return place


@pytest.mark.parametrize("line", COMMANDS)
def test_the_pages_commands_run(line: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_command(line)
    words = shlex.split(line)[1:]
    if words[0] != "match":
        return
    assert main(words) == 0, capsys.readouterr().err
    assert "segments" in capsys.readouterr().out


def test_the_page_has_commands_and_its_python_runs(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sum(line.startswith("avel match") for line in COMMANDS) >= 4
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    exec(compile(block, "docs/cross-modal-retrieval.md", "exec"), {})
    assert "recording.wav" in capsys.readouterr().out


def test_both_ways_from_real_files(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["match", "--query", "bark.wav", "--in", "silent.mp4", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["query"] == {
        "file": "bark.wav", "start": 0, "end": 2, "modality": "audio",
        "candidate_modality": "visual",
    }  # fmt: skip
    assert {w["file"] for w in result["windows"]} == {"silent.mp4"}
    spans = sorted((w["start"], w["end"]) for w in result["windows"])
    ends = [min(start + 2, 3.5) for start, _ in spans]  # the picture ends at 3.5 s
    assert [end for _, end in spans] == pytest.approx(ends, abs=0.01) and len(spans) in (1, 2)
    arguments = [
        "match",
        "--query",
        "silent.mp4@1-2",
        "--in",
        "recording.wav",
        "-o",
        "x.csv",
        "x.json",
        "x.html",
    ]
    assert main(arguments) == 0
    assert "the picture of silent.mp4" in capsys.readouterr().out
    assert Path("x.csv").read_text().startswith("rank,file,start,end,distance,shared\n")
    assert json.loads(Path("x.json").read_text())["query"]["modality"] == "visual"
    assert 'id="cut-query"' in Path("x.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ("--query nothing.wav --in silent.mp4", 1, "nothing.wav"),
        ("--query bark.wav --in nothing.mp4", 1, "nothing.mp4"),
        ("--query bark.wav@7-9 --in silent.mp4", 2, "starts at 7 s"),
        ("--query bark.wav@2-1 --in silent.mp4", 2, "START-END"),
        ("--query bark.wav --in silent.mp4 --modality smell", 2, "audio or visual"),
        ("--query bark.wav --in silent.mp4 --within smell", 2, "audio or visual"),
        ("--query bark.wav --in silent.mp4 --within visual", 1, "no picture"),
        (
            "--query bark.wav --in silent.mp4 --within audio --modality visual",
            2,
            "leave --modality out",
        ),
        ("--query bark.wav --in silent.mp4 --model toybox", 2, "task sel"),
        ("--query bark.wav --in silent.mp4 --model nowhere", 2, "no trained model"),
        ("--query bark.wav --in silent.mp4 -o x.pdf", 2, ".csv or .json or .html"),
        ("--query bark.wav --in silent.mp4 --index bark.wav", 2, ".safetensors"),
        ("--query bark.wav --in silent.mp4 --precision half", 2, "float32"),
        ("--query bark.wav", 2, "--in"),
        ("--query bark.wav --in bark.wav", 0, ""),
        ("--query bark.wav --in silent.mp4 nothing.mp4", 1, "nothing.mp4"),
        ("--query bark.wav --in silent.mp4 --in nothing.mp4", 1, "nothing.mp4"),
    ],
)
def test_what_goes_wrong_is_said(
    here: Path, arguments: str, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["match", *arguments.split()]) == code
    told = capsys.readouterr().err
    assert said in told and "Traceback" not in told


def test_the_model_that_ships_matches_separate_recordings() -> None:
    check_model(load_trained("toybox_match"))


def test_the_pages_numbers_are_those_of_the_results() -> None:
    script = load_script("match_default")
    with (ROOT / "results" / "match_toybox.csv").open(newline="", encoding="utf-8") as f:
        assert script.table(list(csv.DictReader(f))) in PAGE


def test_whole_paths_are_printed_and_a_toy_says_so(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = Path("x" * 60) / ("y" * 60)
    deep.mkdir(parents=True)
    shutil.copy("silent.mp4", deep / "silent.mp4")
    monkeypatch.setenv("COLUMNS", "80")
    arguments = ["match", "--query", "bark.wav", "--in", str(deep), "--model", "toybox_match"]
    assert main(arguments) == 0
    output = capsys.readouterr()
    assert "…" not in output.out
    assert str(deep / "silent.mp4") in re.sub(r"[^xy./a-z0-9]", "", output.out.partition("file")[2])
    assert "mini networks as backbones, which are for trying out" in output.err


# --- the measure on real clips -------------------------------------------------------------------


def test_chance_is_that_of_random_orders() -> None:
    script = load_script("search_reals", folder="benchmarks")
    rng = np.random.default_rng(0)
    for right, count in ((1, 5), (3, 8), (5, 5)):
        first = [int(np.min(rng.permutation(count)[:right])) for _ in range(20000)]
        expected = np.bincount(first, minlength=count) / len(first)
        assert np.allclose(script.chance(right, count), expected, atol=0.015)
        assert script.chance(right, count).sum() == pytest.approx(1)


def test_labels_of_one_clip_have_no_answer_and_what_is_not_found_comes_last() -> None:
    script = load_script("search_reals", folder="benchmarks")
    labels = {
        n: frozenset(x.split()) for n, x in {"a": "x y", "b": "x", "c": "y z", "d": ""}.items()
    }
    assert script.searchable(labels) == {
        "a": frozenset("xy"), "b": frozenset("x"), "c": frozenset("y")
    }  # fmt: skip
    assert script.first_rank(["d", "b", "a"], {"a", "b"}, 5) == 2
    assert script.first_rank(["d"], {"a", "b"}, 5) == 4
    assert script.summary([1, 3], [1, 1], 5)["median_rank"] == 2


def test_the_pages_numbers_on_real_clips_are_those_of_the_results() -> None:
    script = load_script("search_reals", folder="benchmarks")
    with (ROOT / "results" / "search_reals.csv").open(newline="", encoding="utf-8") as f:
        assert script.table(list(csv.DictReader(f))) in PAGE
