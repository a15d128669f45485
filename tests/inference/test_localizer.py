"""Scores to events, and files to timelines."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from avel import clock
from avel.backbones.load import load_backbone
from avel.errors import CheckpointError, DataError, UsageError
from avel.features.cache import Facts, FeatureExtractor
from avel.features.extractor import Extractor
from avel.features.stream import FeatureBlock, FeatureStream
from avel.inference.checkpoint import Trained
from avel.inference.decision import Decision, Thresholds, soften
from avel.inference.localizer import EventStream, Localizer, localize, to_events
from avel.inference.predictor import Predictor
from avel.inference.windows import RowBuffer, WindowOutput
from avel.media.encode import write_video
from avel.media.file import open_media
from avel.models.base import Output, build_model
from avel.types import Choice, Event, EventModality, Features, Grid, Scores
from tests.report_samples import write_clip

A, B, BG = 0, 1, 2


def make_scores(
    labels: list[int], *, duration: float | None = None, step: float = 1.0, **modalities: list[bool]
) -> Scores:
    """Scores of two classes: 0.8 on each segment's label and 0.1 elsewhere."""
    values = np.full((len(labels), 3), 0.1)
    values[np.arange(len(labels)), labels] = 0.8
    return Scores(
        values=values,
        classes=("bell", "dog"),
        grid=Grid(len(labels) * step if duration is None else duration, step),
        labels=np.array(labels),
        **{k: np.array(v) for k, v in modalities.items()},
    )


def spans(events: list) -> list[tuple[float, float, str]]:
    return [(e.start, e.end, e.label) for e in events]


def test_runs_become_events_at_segment_edges() -> None:
    events = to_events(make_scores([BG, A, A, B, BG, A]))
    assert spans(events) == [(1, 3, "bell"), (3, 4, "dog"), (5, 6, "bell")]
    assert [e.score for e in events] == pytest.approx([0.8] * 3)


def test_score_is_the_mean_of_the_class_over_its_segments() -> None:
    scores = make_scores([A, A, BG])
    scores.values[:2, A] = [0.5, 0.9]
    assert to_events(scores)[0].score == pytest.approx(0.7)


def test_last_partial_segment_ends_with_the_file() -> None:
    assert spans(to_events(make_scores([BG, BG, A], duration=2.5))) == [(2, 2.5, "bell")]


def test_the_stored_decision_counts_not_the_largest_score() -> None:
    scores = make_scores([A, A])
    scores.labels[:] = [BG, B]
    assert spans(to_events(scores)) == [(1, 2, "dog")]


def test_min_length_drops_shorter_events_and_keeps_exact_ones() -> None:
    scores = make_scores([A, A, A, BG, B, B], step=0.1)
    assert spans(to_events(scores, min_duration=0.3)) == [(0, pytest.approx(0.3), "bell")]
    assert to_events(scores, min_duration=0.31) == []


def test_threshold_gives_overlapping_events() -> None:
    scores = make_scores([A, A, BG])
    scores.values[:] = [[0.6, 0.2, 0.2], [0.45, 0.45, 0.1], [0.1, 0.5, 0.4]]
    events = to_events(scores, threshold=0.4)
    assert spans(events) == [(0, 2, "bell"), (1, 3, "dog")]
    assert to_events(scores, threshold=0.7) == []


@pytest.mark.parametrize("modality", ["audible", "visible"])
def test_an_event_is_seen_and_heard(modality: str) -> None:
    scores = make_scores([A, A, A, A], **{modality: [True, False, True, True]})
    assert spans(to_events(scores)) == [(0, 1, "bell"), (2, 4, "bell")]
    assert spans(to_events(scores, require_both=False)) == [(0, 4, "bell")]


@pytest.mark.parametrize(
    "options",
    [{"min_duration": -1}, {"min_duration": float("nan")}, {"threshold": 0}, {"threshold": 1.2}],
)
def test_nonsense_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        to_events(make_scores([A]), **options)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=40), st.sampled_from([0.1, 0.5, 1.0, 2.0]))
def test_events_cover_exactly_the_labelled_segments(labels: list[int], step: float) -> None:
    scores = make_scores(labels, step=step)
    events = to_events(scores)
    covered = [BG] * len(labels)
    for e in events:
        for i in range(clock.segment_at(e.start, step), clock.segment_at(e.end, step)):
            assert covered[i] == BG
            covered[i] = scores.classes.index(e.label)
    assert covered == labels
    assert events == sorted(events, key=lambda e: e.start)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=40))
def test_half_as_threshold_is_the_decision_where_it_is_the_argmax(labels: list[int]) -> None:
    scores = make_scores(labels)
    assert to_events(scores, threshold=0.5) == to_events(scores)


T, F = True, False


def of_one(
    heard: list[float],
    seen: list[float],
    labels: list[int] | None = None,
    *,
    rule: Thresholds | None = None,
    modality: EventModality = "audio",
    **modalities: list[bool],
) -> list[tuple[float, float]]:
    """Where the bell is only audible, or only visible."""
    scores = make_scores(labels or [BG] * len(heard), **modalities)
    values = {"audio_scores": heard, "visual_scores": seen}
    columns = {n: np.column_stack([v, np.zeros(len(v))]) for n, v in values.items()}
    found = to_events(
        replace(scores, **columns), decision=Decision(rule or Thresholds()), modality=modality
    )
    assert all(e.modality == modality and e.label == "bell" for e in found)
    return [(e.start, e.end) for e in found]


@pytest.mark.parametrize("modality", ["audio", "visual"])
def test_what_is_of_one_modality_is_an_event_of_its_own(modality: EventModality) -> None:
    def find(own: list[float], other: list[float], *args: Any, **more: Any) -> Any:
        tracks = (own, other) if modality == "audio" else (other, own)
        return of_one(*tracks, *args, modality=modality, **more)

    assert find([0.1, 0.5, 0.9, 0.4], [0.1] * 4) == [(1, 3)]
    assert find([0.9] * 4, [0.1, 0.8, 0.1, 0.1]) == [(0, 1), (2, 4)]  # both, though no event
    assert find([0.9] * 4, [np.nan] * 4) == [(0, 4)]  # the model can't tell of the other
    assert find([np.nan] * 4, [0.1] * 4) == []
    assert find([0.9, 0.3, 0.9, 0.1], [0.1] * 4, rule=Thresholds(max_gap=1)) == [(0, 3)]
    assert find([0.9, 0.4, 0.2, 0.1], [0.1] * 4, rule=Thresholds(0.9, low_threshold=0.3)) == [
        (0, 2)
    ]
    assert find([0.4, 0.4], [0.1] * 2, rule=Thresholds(0.9, low_threshold=0.8)) == []
    assert find([0.9, 0.1, 0.9, 0.9], [0.1] * 4, rule=Thresholds(min_duration=2)) == [(2, 4)]
    own, other = ("audible", "visible") if modality == "audio" else ("visible", "audible")
    assert find([0.9] * 3, [0.1] * 3, **{own: [T, F, T], other: [F, F, F]}) == [(0, 1), (2, 3)]


def test_an_event_s_blurred_edge_is_no_event_of_one_modality() -> None:
    quiet = [0.1] * 8
    assert of_one([0.9] * 8, quiet, [BG, A, A, A, BG, BG, BG, BG]) == [(4, 8)]
    assert of_one([0.9] * 8, quiet, [BG, BG, A, A, A, A, A, BG]) == [(0, 2)]
    # what may be bridged is no fragment beside an event either, however it begins
    loud = [0.9] * 6 + [0.1, 0.9]
    assert of_one(loud, quiet, [A, BG, BG, BG, BG, BG, BG, BG]) == [(1, 6), (7, 8)]
    near = [0.9, 0.1, 0.9, 0.9, 0.1, 0.1, 0.1, 0.1]
    assert of_one(near, quiet, [A, BG, BG, BG, BG, BG, BG, BG]) == [(2, 4)]
    assert of_one(near, quiet, [A] + [BG] * 7, rule=Thresholds(max_gap=2)) == []
    # a gap that is bridged doesn't swallow an event of the class
    labels = [BG, BG, BG, A, BG, BG, BG, BG]
    assert of_one([0.9] * 8, quiet, labels, rule=Thresholds(max_gap=2)) == [(0, 3), (4, 8)]


def test_the_last_short_segment_is_part_of_its_event() -> None:
    scores = make_scores([A, A, A, A], duration=3.7)
    scores = replace(scores, audio_scores=np.full((4, 2), 0.9), visual_scores=np.zeros((4, 2)))
    assert spans(to_events(scores, modality="audio")) == [(0, 3.7, "dog")]


def test_scores_of_one_modality_give_the_event_s_score() -> None:
    heard = np.array([[0.6, np.nan], [0.1, 0.2], [0.8, np.nan]])
    scores = replace(make_scores([BG] * 3), audio_scores=heard)
    (event,) = to_events(scores, modality="audio", max_gap=1)
    assert event.score == pytest.approx(0.5)
    assert to_events(scores, modality="visual") == []
    low = Decision(Thresholds(max_gap=1), audio_threshold=0.15)
    assert {e.label for e in to_events(scores, decision=low, modality="audio")} == {"bell", "dog"}
    with pytest.raises(UsageError, match="modality"):
        to_events(scores, modality="all")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def untrained() -> Trained:
    """Fresh weights on the mini backbones: its answers mean nothing, their form counts."""
    torch.manual_seed(0)
    cards = [load_backbone(f"mini_{m}", modality=m)[1] for m in ("audio", "visual")]
    dims = {m: int(card["output"][-1]) for m, card in zip(("audio", "visual"), cards, strict=True)}
    network = build_model(
        "cspa_csea", audio_dim=dims["audio"], visual_dim=dims["visual"], classes=2, task="sel"
    )
    card = {
        "model": "cspa_csea",
        "task": "sel",
        "classes": ["bell", "dog"],
        "dims": dims,
        "step": 1.0,
        "window": 4,
        "audio_card": cards[0],
        "visual_card": cards[1],
    }
    return Trained(network, card)


def test_a_file_becomes_a_timeline(untrained: Trained, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", seconds=8)
    done: list[tuple[int, int]] = []
    found = localize(clip, model=untrained, progress=lambda *counts: done.append(counts))
    assert found.video == str(clip)
    assert found.scores is not None
    assert found.duration == pytest.approx(8, abs=0.1)
    assert len(found.scores.grid) == 8
    assert found.scores.audible is not None
    heard = found.scores.audible.tolist()
    assert heard == [False, False, True, True, True, False, False, False]
    assert found.scores.attention is not None
    np.testing.assert_allclose(found.scores.attention.sum(axis=(1, 2)), 1, atol=1e-5)
    assert done[-1] == (8, 8)
    assert list(found.events) == to_events(found.scores)
    assert all(e.start >= 2 and e.end <= 5 for e in found)
    everything = localize(clip, model=untrained, threshold=1e-6, require_both=False)
    end = pytest.approx(8, abs=0.1)
    assert spans(list(everything)) == [(0, end, "bell"), (0, end, "dog")]
    assert found.model["model"] == "cspa_csea"


def test_what_is_missing_stands_in_the_notes(untrained: Trained, tmp_path: Path) -> None:
    frames = [np.full((48, 64, 3), 90, np.uint8)] * 10
    sound = (0.3 * np.sin(np.arange(32000) / 5)).astype(np.float32)
    write_video(tmp_path / "mute.mp4", frames=frames, fps=5)
    write_video(tmp_path / "blind.mp4", frames=[], fps=5, audio=sound, rate=16000)
    write_video(tmp_path / "silent.mp4", frames=frames, fps=5, audio=0 * sound, rate=16000)
    find = Localizer(untrained)
    for name, note in [("mute", "no sound"), ("blind", "no picture"), ("silent", "is silent")]:
        found = find(tmp_path / f"{name}.mp4")
        assert len(found) == 0
        assert [n for n in found.notes if note in n], found.notes
        assert len(found.notes) == 1
    write_video(tmp_path / "short.mp4", frames=frames[:2], fps=5, audio=sound[:6400], rate=16000)
    assert "shorter than one segment" in " ".join(find(tmp_path / "short.mp4").notes)


def test_a_model_of_other_weights_is_refused_before_a_file_is_read(untrained: Trained) -> None:
    other = {**untrained.card["visual_card"], "hash": "sha256:0000"}
    stale = Trained(untrained.network, {**untrained.card, "visual_card": other})
    with pytest.raises(CheckpointError, match="sha256:0000"):
        Localizer(stale)


def test_a_stream_of_features_scores_as_the_whole_does(untrained: Trained, tmp_path: Path) -> None:
    frames = [np.full((32, 32, 3), (7 * i) % 250, np.uint8) for i in range(2 * 95)]
    sound = np.random.default_rng(0).normal(0, 0.1, 95 * 16000).astype(np.float32)
    sound[: 20 * 16000] *= 1e-4
    write_video(tmp_path / "long.mp4", frames=frames, fps=2, audio=sound, rate=16000)
    extract = Extractor(batch=8)
    features = extract(tmp_path / "long.mp4")
    assert len(features) == 95
    stream = extract.stream(tmp_path / "long.mp4")
    whole, streamed = untrained.predict(features), untrained.predict(stream)
    np.testing.assert_array_equal(streamed.values, whole.values)
    np.testing.assert_array_equal(streamed.attention, whole.attention)
    np.testing.assert_array_equal(streamed.labels, whole.labels)
    np.testing.assert_array_equal(streamed.audible, features.audible)
    assert not features.audible[:20].any()
    assert features.audible[20:].all()
    np.testing.assert_array_equal(streamed.visible, features.visible)


class Blocks:
    """Rows in blocks, with a count of those alive."""

    def __init__(self, count: int, size: int) -> None:
        self.audio = np.arange(count, dtype=np.float32)[:, None]
        self.visual = self.audio[:, None, None] * np.ones((1, 2, 2, 3), np.float32)
        self.size = size
        self.alive: list[weakref.ref[np.ndarray]] = []
        self.most = 0

    def __iter__(self) -> Iterator[FeatureBlock]:
        for first in range(0, len(self.audio), self.size):
            audio, visual = (a[first : first + self.size] for a in (self.audio, self.visual))
            visual = visual.copy()
            self.alive.append(weakref.ref(visual))
            yield FeatureBlock(audio, visual, np.zeros(len(audio)), np.ones(len(audio), bool))
            del visual
            self.most = max(self.most, sum(r() is not None for r in self.alive))


@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 8), st.integers(1, 5))
def test_rows_of_blocks_are_those_of_the_whole(
    count: int, size: int, length: int, hop: int
) -> None:
    blocks = Blocks(count, size)
    rows = RowBuffer(blocks)
    length = min(length, count)
    for start in clock.windows(count, length, hop):
        audio, visual = rows.between(start, start + length)
        np.testing.assert_array_equal(audio, blocks.audio[start : start + length])
        np.testing.assert_array_equal(visual, blocks.visual[start : start + length])
    with pytest.raises(DataError, match="end early"):
        rows.between(count - 1, count + 1)


def test_rows_that_were_used_are_let_go() -> None:
    blocks = Blocks(1000, 10)
    rows = RowBuffer(blocks)
    for start in range(0, 990, 5):
        rows.between(start, start + 10)
    rows.finish()
    assert len(blocks.alive) == 100
    assert blocks.most <= 3


# ---- events as they become final, and kept features


class Made(Predictor):
    """A model that says of every segment what stands in its audio features."""

    def __init__(self, window: int = 4) -> None:
        cards: dict[str, dict[str, str]] = {"audio_card": {}, "visual_card": {}}
        dims = {"audio": 3, "visual": 3}
        self.card = {
            "classes": ["bell", "dog"],
            "step": 1.0,
            "window": window,
            "dims": dims,
        } | cards

    def extractor(self, *, precision: str = "float32", device: str = "auto") -> FeatureExtractor:
        raise NotImplementedError

    def predict_windows(self, audio: np.ndarray, visual: np.ndarray) -> WindowOutput:
        return WindowOutput(scores=audio, labels=audio.argmax(-1))


class MadeApart(Made):
    """It tells besides what is audible (as likely as its score) and what is visible (never)."""

    def predict_windows(self, audio: np.ndarray, visual: np.ndarray) -> WindowOutput:
        unknown = np.full_like(audio[..., :2], np.nan)
        parts = {"audible": audio[..., :2], "visible": unknown, "other": audio[..., :1]}
        return replace(super().predict_windows(audio, visual), parts=parts)


@pytest.mark.parametrize("count", [3, 4, 23])
def test_scores_of_one_modality_are_means_over_windows(count: int) -> None:
    values = np.random.default_rng(0).dirichlet([1] * 3, count).astype(np.float32)
    scores = MadeApart(4).predict(made_stream(values, np.zeros(count), 5))
    assert scores.audio_scores is not None and scores.visual_scores is not None
    np.testing.assert_allclose(scores.audio_scores, values[:, :2], rtol=1e-6)
    assert np.isnan(scores.visual_scores).all() and scores.visual_scores.shape == (count, 2)
    assert Made(4).predict(made_stream(values, np.zeros(count), 5)).audio_scores is None


class TinyWeighted(torch.nn.Module):
    """Scores are the audio features; the weight of the sound is the first one of the picture.

    The lag of class c is, in segments, the mean of audio feature c over the window.
    """

    def __init__(self) -> None:
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(()))  # tells the device

    def forward(self, *, audio: torch.Tensor, visual: torch.Tensor) -> Output:
        parts = {"audio_weight": visual[:, :, 0, 0, 0], "lag": audio[..., :2].mean(1)}
        return Output(scores=audio, labels=audio.argmax(-1), parts=parts)


class TinyRuled(TinyWeighted):
    """The same with a decision of its own, which is given all parts."""

    @staticmethod
    def decision_rule(scores: np.ndarray, parts: dict[str, np.ndarray]) -> np.ndarray:
        assert {"audio_weight", "lag"} <= set(parts)
        return scores.argmax(-1)


def weighted_features(values: np.ndarray, *, step: float) -> Features:
    """Features whose audio is the scores and whose picture is the weight 0, 0.1, 0.2 …"""
    count = len(values)
    visual = np.zeros((count, 1, 1, 3), np.float32)
    visual[..., 0] = (np.arange(count) / 10 % 1)[:, None, None]
    return Features(
        audio=values, visual=visual, grid=Grid(count * step, step),
        audible=np.ones(count, bool), visible=np.ones(count, bool), audio_card={}, visual_card={},
    )  # fmt: skip


@pytest.mark.parametrize("count", [3, 4, 11])
@pytest.mark.parametrize("network", [TinyWeighted, TinyRuled])
@pytest.mark.parametrize("step", [1.0, 0.5])
def test_events_have_the_weight_of_the_sound_and_its_lag(
    count: int, network: type[TinyWeighted], step: float
) -> None:
    """Over windows of 4 segments, 2 apart: the lag of a segment is the mean of its windows'."""
    card = Made(4).card | {"step": step, "task": "sel", "model": "tiny"}
    values = make_scores(([BG, A, A, B] * 3)[:count]).values.astype(np.float32)
    values += np.random.default_rng(0).uniform(0, 0.1, values.shape).astype(np.float32)
    file = weighted_features(values, step=step)
    scoring = Trained(network().eval(), card).scoring(file)  # type: ignore[arg-type]
    stream = EventStream("a.mp4", scoring, Facts, card=card, decision=Decision())
    events = list(stream)
    scores = scoring.scores()
    length = min(4, count)
    starts = clock.windows(count, 4, 2)
    lags = [
        np.mean([values[s : s + length, :2].mean(0) for s in starts if s <= i < s + length], 0)
        for i in range(count)
    ]
    np.testing.assert_allclose(scores.lag, np.array(lags) * step, rtol=1e-5)
    np.testing.assert_allclose(scores.audio_weight, np.arange(count) / 10 % 1, atol=1e-6)
    assert spans(events)[0] == (step, 3 * step, "bell")
    assert events[0].audio_weight == pytest.approx(0.15)
    assert events[0].lag == pytest.approx(np.mean([lags[1][A], lags[2][A]]) * step, rel=1e-5)
    details = [(e.start, e.audio_weight, e.lag) for e in events]
    assert [(e.start, e.audio_weight, e.lag) for e in stream.timeline()] == details
    if count > 3:
        assert events[1].label == "dog" and events[1].lag == pytest.approx(lags[3][B] * step)


def test_events_of_models_that_do_not_tell_have_neither() -> None:
    (event,) = to_events(make_scores([BG, A, A]))
    assert event.audio_weight is None and event.lag is None
    weight, lag = np.array([0, np.nan, 1]), np.zeros((3, 2))
    (event,) = to_events(replace(make_scores([BG, A, A]), audio_weight=weight, lag=lag))
    assert event.audio_weight is None and event.lag == 0
    alone = replace(make_scores([BG, BG, A]), audio_weight=np.ones(3), lag=lag)
    alone = replace(alone, audio_scores=np.full((3, 2), 0.9), visual_scores=np.zeros((3, 2)))
    audible = to_events(alone, modality="audio")
    assert audible and all(e.audio_weight is None and e.lag is None for e in audible)


@pytest.mark.parametrize("modality", ["both", "audio", "all"])
def test_a_stream_tells_what_is_only_audible_at_its_end(modality: Choice) -> None:
    labels = [BG, A, A, BG, BG, BG, B, BG, BG]
    values = make_scores(labels).values.astype(np.float32)
    values[3:6, 0] = 0.6  # audible, not the largest score
    stream = EventStream(
        "a.mp4",
        MadeApart(4).scoring(made_stream(values, np.zeros(9), 2, loudest=0.0)),
        Facts,
        card={},
        decision=Decision(require_both=False),
        modality=modality,
    )
    said = list(stream)
    both, audio = [(1, 3, "bell"), (6, 7, "dog")], [(3, 6, "bell")]
    expected = {"both": both, "audio": audio, "all": both + audio}[modality]
    assert spans(said) == expected
    assert sorted(spans(list(stream.timeline()))) == sorted(expected)
    assert spans(list(stream.timeline().lane("audio"))) == audio


def made_stream(values: np.ndarray, levels: np.ndarray, size: int, **more: float) -> FeatureStream:
    """Rows in blocks of ``size``, every fifth segment without a picture."""

    def blocks() -> Iterator[FeatureBlock]:
        for first in range(0, len(values), size):
            block = FeatureBlock.of(len(values[first : first + size]), (3,), (1, 1, 3))
            block.audio[:] = values[first : first + size]
            block.levels[:] = levels[first : first + size]
            block.visible[:] = np.arange(first, first + len(block.audio)) % 5 > 0
            yield block

    return FeatureStream(
        blocks(), grid=Grid(float(len(values))), widths=(3, 3), cards=({}, {}), **more
    )


@st.composite
def rules(draw: st.DrawFn) -> Thresholds:
    threshold = draw(st.sampled_from([None, 0.2, 0.4, 0.7]))
    low = draw(st.sampled_from([None, 0.1, 0.2]))
    lengths = st.sampled_from([0.0, 1.0, 2.0, 3.5])
    return Thresholds(
        threshold=threshold, low_threshold=low, min_duration=draw(lengths), max_gap=draw(lengths)
    )


decided = st.builds(
    Decision,
    rule=rules(),
    classes=st.dictionaries(st.sampled_from(["bell", "dog"]), rules()),
    require_both=st.booleans(),
    temperature=st.sampled_from([1.0, 0.5, 2.0]),
)


@given(
    st.lists(st.sampled_from([A, B, BG]), min_size=1, max_size=80),
    st.integers(1, 9), st.integers(1, 20), st.integers(0, 2**32 - 1), decided,
)  # fmt: skip
def test_events_of_a_stream_are_those_of_the_whole(
    labels: list[int], window: int, size: int, seed: int, decision: Decision
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.dirichlet([0.3] * 3, len(labels)).astype(np.float32)
    values[np.arange(len(labels)), labels] += 1
    values /= values.sum(1, keepdims=True)
    levels = rng.uniform(-60, 0, len(labels))
    model = Made(window)
    scores = decision.calibrated(model.predict(made_stream(values, levels, size)))
    whole = to_events(scores, decision=decision)
    stream = EventStream(
        "a.mp4",
        model.scoring(made_stream(values, levels, size, loudest=float(levels.max()))),
        Facts,
        card={},
        decision=decision,
    )
    said = list(stream)
    plain = all(
        r.low_threshold is None and not r.max_gap for r in map(decision.of, ("bell", "dog"))
    )
    assert not plain or [e.end for e in said] == sorted(e.end for e in said)
    assert sorted(said, key=spans_key) == sorted(whole, key=spans_key)
    assert list(stream.timeline()) == whole


def spans_key(event: Event) -> tuple[float, float, str]:
    return event.start, event.end, event.label


def test_a_stream_softens_every_score_once(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.tile(np.float32([[0.8, 0.1, 0.1]] * 5 + [[0.1, 0.1, 0.8]] * 5), (100, 1))
    levels, decision, rows = np.zeros(1000), Decision(temperature=2.0), []

    def counted(values: np.ndarray, temperature: float) -> np.ndarray:
        rows.append(len(values))
        return soften(values, temperature)

    monkeypatch.setattr("avel.inference.localizer.soften", counted)
    scoring = Made(10).scoring(made_stream(values, levels, 20, loudest=0.0))
    stream = EventStream("a.mp4", scoring, Facts, card={}, decision=decision)
    assert len(list(stream)) == 100 and len(rows) > 1 and sum(rows) == 1000


def test_first_events_come_while_the_rest_is_still_read() -> None:
    values = np.tile(np.float32([[0.8, 0.1, 0.1]] * 5 + [[0.1, 0.1, 0.8]] * 5), (100, 1))
    read = 0

    def counted(stream: FeatureStream) -> Iterator[FeatureBlock]:
        nonlocal read
        for block in stream.blocks():
            read += len(block.audio)
            yield block

    inner = made_stream(values, np.zeros(1000), 10)
    outer = FeatureStream(
        counted(inner), grid=inner.grid, widths=(3, 3), cards=({}, {}), loudest=0.0
    )
    scoring = Made().scoring(outer)
    events = iter(EventStream("", scoring, Facts, card={}, decision=Decision(require_both=False)))
    assert spans([next(events)]) == [(0, 5, "bell")]
    assert read <= 30
    assert len(list(events)) == 99


def test_a_file_streams_what_it_localizes(untrained: Trained, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", seconds=23)
    find = Localizer(untrained)
    whole = find(clip, threshold=0.3)
    stream = find.stream(clip, threshold=0.3)
    assert sorted(stream) == sorted(whole.events)
    again = stream.timeline()
    assert again.to_json() == whole.to_json()
    assert len(again) > 0


def test_a_second_model_on_the_same_file_decodes_nothing(
    untrained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("AVEL_CACHE_GB", raising=False)
    clip = write_clip(tmp_path / "clip.mp4", seconds=12)
    data = bytearray(clip.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 300] = bytes(300)
    clip.write_bytes(data)
    first = Localizer(untrained, cache=True)(clip)
    assert first.to_json() == Localizer(untrained, cache=False)(clip).to_json()
    torch.manual_seed(1)
    other = Trained(
        build_model("av", audio_dim=128, visual_dim=128, classes=2, task="sel"), untrained.card
    )
    expected = Localizer(other, cache=False)(clip).to_json()

    def never(*args: object, **options: object) -> None:
        raise AssertionError("decoded")

    for name in ("avel.media.decode.decoded", "avel.media.decode.open_container"):
        monkeypatch.setattr(name, never)
    for name in ("avel.media.file.decoded", "avel.media.file.probe", "avel.media.file.open_media"):
        monkeypatch.setattr(name, never)
    with pytest.raises(AssertionError):
        Localizer(untrained, cache=False)(clip)
    assert Localizer(untrained, cache=True)(clip).to_json() == first.to_json()
    second = Localizer(other, cache=True)
    assert second(clip).to_json() == expected
    stream = second.stream(clip)
    assert sorted(stream) == sorted(stream.timeline().events)
    assert first.notes, "damage stays in the notes"


def test_no_room_in_the_cache_is_no_cache(
    untrained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("AVEL_CACHE_GB", "0")
    Localizer(untrained, cache=True)(write_clip(tmp_path / "clip.mp4", seconds=2))
    assert not (tmp_path / "cache").exists()


def test_the_loudest_segment_is_known_from_the_sound_alone(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", seconds=8)
    media = open_media(clip)
    for step in (1.0, 0.7):
        levels = [s.rms for s in media.segments(frames=1, size=8, step=step)]
        assert media.loudest(step) == max(levels) > -50
    write_video(tmp_path / "mute.mp4", frames=[np.zeros((32, 32, 3), np.uint8)] * 5, fps=5)
    assert open_media(tmp_path / "mute.mp4").loudest() == -120
