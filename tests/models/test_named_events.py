"""The training-free model: two taggers joined by a vocabulary of events."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from avel.cli.demo import CLIP
from avel.cli.main import main
from avel.errors import CheckpointError, UsageError
from avel.events import NamedEvent
from avel.features.cache import Facts
from avel.inference.checkpoint import Trained
from avel.inference.decision import Decision
from avel.inference.localizer import EventStream, Localizer, localize, to_events
from avel.inference.named_events import read_settings
from avel.models.base import Output
from avel.models.named_events import Fusion, NamedEvents
from avel.onnx.export import _difference, export_model
from avel.report import read
from avel.types import Features, Grid, Json

A, H, W, V = 8, 2, 3, 7
#: The logit of every class of AudioSet in unrelated sound.
TYPICAL = -14.0
FUSION = Fusion.from_json(read_settings()["fusion"])
BARK = NamedEvent("bark", audio=("Bark", "Dog"), visual=("Chihuahua", "Beagle"))
ROOSTER = NamedEvent("rooster", audio=("Chicken, rooster",), visual=("rooster", "hen"))
CHICKEN = NamedEvent("chicken", audio=("Cluck", "Chicken, rooster"), visual=("hen",))
CAT = NamedEvent("cat", audio=("Cat", "Purr"), visual=("tabby cat",))
PURR = NamedEvent("purr", audio=("Purr",), visual=("Persian cat",), kind_of="cat")
SPEECH = NamedEvent("speech", audio=("Speech",), visual=("suit",), proxy=True)
THUNDER = NamedEvent("thunder", audio=("Thunder",))
ELEPHANT = NamedEvent("elephant", visual=("tusker",))
EVENTS = (BARK, ROOSTER, CHICKEN, CAT, PURR, SPEECH, THUNDER, ELEPHANT)
NAMES = [e.name for e in EVENTS]


def at(event: NamedEvent) -> int:
    return NAMES.index(event.name)


def made(
    events: Sequence[NamedEvent] = EVENTS,
    *,
    rivals: Sequence[NamedEvent] | None = None,
    requested: bool = True,
    heads: tuple[Any, Any] | None = None,
    fusion: Fusion = FUSION,
) -> NamedEvents:
    return NamedEvents(
        audio_head=(heads or random_heads())[0],
        visual_head=(heads or random_heads())[1],
        events=events,
        rivals=events if rivals is None else rivals,
        typical=torch.full((521,), TYPICAL),
        fusion=fusion,
        requested=requested,
    ).eval()


def random_heads() -> tuple[Any, Any]:
    g = torch.Generator().manual_seed(1)
    return (
        (torch.randn(521, A, generator=g), torch.randn(521, generator=g) - 6),
        (torch.randn(1000, V, generator=g), torch.randn(1000, generator=g)),
    )


def plain_heads() -> tuple[Any, Any]:
    """Feature i is how far the logit of the first class of event i exceeds the typical one."""
    audio, visual = torch.zeros(521, A), torch.zeros(1000, V + 1)
    for i, event in enumerate(EVENTS):
        for head, modality in ((audio, "audio"), (visual, "visual")):
            places = event.indices(modality)  # type: ignore[arg-type]
            if places:
                head[places[0], i] = 1
    return (audio, torch.full((521,), TYPICAL)), (visual, torch.zeros(1000))


def shown(
    heard: Mapping[str, float], seen: Mapping[str, float], **options: Any
) -> tuple[NamedEvents, Output]:
    """A segment whose first classes are so far from typical, and so probable in the frame."""
    audio, visual = torch.zeros(1, 1, A), torch.zeros(1, 1, 1, 1, V + 1)
    for name, x in heard.items():
        audio[..., NAMES.index(name)] = x
    rest = 1 - sum(seen.values())
    for name, p in seen.items():  # a softmax whose other classes have logit 0
        visual[..., NAMES.index(name)] = math.log(p / rest * (1000 - len(seen)))
    network = made(heads=plain_heads(), **options)
    return network, network(audio=audio, visual=visual)


def clips(b: int, t: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(b, t, A, generator=g).abs(), torch.randn(b, t, H, W, V, generator=g).abs()


def score(answer: Output, event: NamedEvent) -> float:
    assert answer.scores is not None
    return float(answer.scores[0, 0, at(event)])


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


# ---- what is answered


@pytest.mark.parametrize("requested", [True, False])
@pytest.mark.parametrize(("b", "t"), [(1, 1), (3, 5)])
def test_the_answer_keeps_the_models_contract(b: int, t: int, requested: bool) -> None:
    audio, visual = clips(b, t)
    found = made(requested=requested)(audio=audio, visual=visual)
    assert found.scores is not None and found.labels is not None and found.attention is not None
    assert found.scores.shape == (b, t, len(EVENTS) + 1)
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    assert torch.equal(found.scores[..., -1], 1 - found.scores[..., :-1].amax(-1))
    assert torch.equal(found.labels, found.scores.argmax(-1))
    assert found.attention.shape == (b, t, H, W) and (found.attention >= 0).all()
    assert torch.allclose(found.attention.sum((2, 3)), torch.ones(b, t))
    for name, known in (("audible", lambda e: e.audio), ("visible", lambda e: e.visual)):
        part = found.parts[name]
        assert part.shape == (b, t, len(EVENTS))
        expected = [not known(e) or (name == "visible" and e.proxy) for e in EVENTS]
        assert part.isnan().all((0, 1)).tolist() == part.isnan().any((0, 1)).tolist() == expected


def test_a_segment_is_judged_by_itself() -> None:
    network = made(requested=False)
    audio, visual = clips(3, 6)
    whole = network(audio=audio, visual=visual)
    mask = torch.ones(3, 6, dtype=torch.bool)
    mask[:, 4:] = False
    changed = audio.clone(), visual.clone()
    for x in changed:
        x[:, 4:] = 99.0  # what lies behind a clip's end
    padded = network(audio=changed[0], visual=changed[1], mask=mask)
    alone = network(audio=audio[1:2, 2:3], visual=visual[1:2, 2:3])
    for name in ("scores", "attention"):
        one, other = getattr(whole, name), getattr(padded, name)
        assert torch.allclose(one[:, :4], other[:, :4], atol=1e-6), name
        assert torch.allclose(one[1:2, 2:3], getattr(alone, name), atol=1e-6), name
    for name, part in whole.parts.items():
        assert torch.allclose(part[1:2, 2:3], alone.parts[name], atol=1e-6, equal_nan=True)


def test_the_score_is_the_logistic_regression_of_its_card() -> None:
    _, found = shown({"bark": 9}, {"bark": 0.2})
    f = FUSION
    expected = sigmoid((f.bias + f.audio * 9 + f.visual * math.log(0.2)) / f.temperature)
    assert score(found, BARK) == pytest.approx(expected, abs=1e-3)
    audible, visible = (float(found.parts[n][0, 0, at(BARK)]) for n in ("audible", "visible"))
    assert audible == pytest.approx(sigmoid(TYPICAL + 9), abs=1e-3)
    assert visible == pytest.approx(0.2, abs=1e-3)


def test_of_an_events_classes_the_loudest_and_all_pictures_count() -> None:
    """A dog that barks isn't louder for being a dog too; a picture of either breed is a dog."""
    network = made(heads=plain_heads())
    audio_head, visual_head = network.scored.index[at(BARK)], network.scored.members[at(BARK)]
    assert set(audio_head.tolist()) == set(BARK.indices("audio"))
    assert visual_head.nonzero().flatten().tolist() == sorted(BARK.indices("visual"))
    heard, seen = torch.full((1, 1, 521), -5.0), torch.zeros(1, 1, 1000)
    heard[..., list(BARK.indices("audio"))] = torch.tensor([3.0, 6.0])
    seen[..., list(BARK.indices("visual"))] = torch.tensor([0.25, 0.5])
    x, v = network.scored(heard, seen)
    assert float(x[0, 0, at(BARK)]) == 6 and float(x[0, 0, at(CAT)]) == 0, "never below typical"
    assert float(v[0, 0, at(BARK)].exp()) == pytest.approx(0.75)


def test_a_proxy_in_the_picture_counts_up_to_its_ceiling() -> None:
    f = FUSION
    half, full = (shown({"speech": 14}, {"speech": p})[1] for p in (f.proxy_ceiling, 0.95))
    logit = f.bias + f.proxy_bias + f.audio * 14 + f.visual * math.log(f.proxy_ceiling)
    assert score(half, SPEECH) == pytest.approx(sigmoid(logit / f.temperature), abs=1e-3)
    assert score(full, SPEECH) == pytest.approx(score(half, SPEECH), abs=1e-3)
    none = shown({"speech": 14}, {})[1]
    assert score(none, SPEECH) < score(half, SPEECH)


def test_the_best_other_event_speaks_against_one() -> None:
    heard, seen = {"bark": 10, "cat": 12}, {"bark": 0.2, "cat": 0.6}
    _, alone = shown(heard, seen, rivals=[BARK])
    _, beside = shown(heard, seen)
    f = FUSION
    excess = f.audio * (12 - 10) + f.visual * math.log(0.6 / 0.2)
    own = f.bias + f.audio * 10 + f.visual * math.log(0.2)
    assert score(alone, BARK) == pytest.approx(sigmoid(own / f.temperature), abs=1e-3)
    expected = sigmoid((own - f.rival * excess) / f.temperature)
    assert score(beside, BARK) == pytest.approx(expected, abs=1e-3) and expected < score(
        alone, BARK
    )
    assert score(beside, CAT) == pytest.approx(score(shown(heard, seen, rivals=[CAT])[1], CAT))


def test_what_is_no_rival() -> None:
    """Its own kinds, what shares a class in both modalities, and what has no picture of its own."""
    allowed = made().allowed.bool()
    rivals_of = {e.name: {r.name for r in EVENTS if allowed[at(e), at(r)]} for e in EVENTS}
    assert rivals_of["cat"] == {"bark", "rooster", "chicken"}
    assert rivals_of["purr"] == {"bark", "rooster", "chicken"}
    assert rivals_of["rooster"] == {"bark", "cat", "purr"}
    assert rivals_of["thunder"] == {"bark", "rooster", "chicken", "cat", "purr"}


def test_thousands_of_events_are_compared_soon() -> None:
    events = [replace(e, name=f"{e.name} {i}") for i in range(400) for e in EVENTS]
    start = time.perf_counter()
    many = made(events=events, rivals=events)
    assert time.perf_counter() - start < 20
    few = made().allowed.bool()
    for (i, e), (j, r) in product(enumerate(EVENTS), enumerate(EVENTS)):
        if e.name != r.name and r.name != e.kind_of and e.name != r.kind_of:
            assert many.allowed[i, len(EVENTS) + j] == few[i, j]


def test_alike_events_are_one_unless_a_person_asked_for_both() -> None:
    heard, seen = {"rooster": 14, "chicken": 12}, {"rooster": 0.3, "chicken": 0.5}
    _, requested = shown(heard, seen)
    assert min(score(requested, ROOSTER), score(requested, CHICKEN)) > 0.5
    _, plain = shown(heard, seen, requested=False)
    both = score(plain, ROOSTER), score(plain, CHICKEN)
    assert min(both) == 0 and max(both) == max(score(requested, ROOSTER), score(requested, CHICKEN))
    for part in requested.parts.values():  # by one modality alone it is always the likeliest only
        assert float(part[0, 0, [at(ROOSTER), at(CHICKEN)]].min()) == 0


def test_what_only_one_tagger_knows() -> None:
    heard, seen = {"thunder": 16}, {"elephant": 0.9}
    _, requested = shown(heard, seen)
    _, plain = shown(heard, seen, requested=False)
    assert score(requested, THUNDER) > 0.5, "asked for, its picture is taken as neutral"
    assert score(plain, THUNDER) == 0 == score(requested, ELEPHANT) == score(plain, ELEPHANT)
    assert float(plain.parts["audible"][0, 0, at(THUNDER)]) > 0.5
    assert float(plain.parts["visible"][0, 0, at(ELEPHANT)]) > 0.5


def test_a_temperature_softens() -> None:
    warm = replace(FUSION, temperature=2.0)
    one, other = (
        score(shown({"bark": 12}, {"bark": 0.8}, fusion=f)[1], BARK) for f in (FUSION, warm)
    )
    assert math.log(other / (1 - other)) == pytest.approx(math.log(one / (1 - one)) / 2, abs=1e-3)


def test_it_looks_where_the_classes_are() -> None:
    network = made(heads=plain_heads())
    audio, visual = torch.zeros(1, 1, A), torch.zeros(1, 1, 2, 3, V + 1)
    audio[..., at(BARK)] = 25
    visual[0, 0, 1, 2, at(BARK)] = 60
    found = network(audio=audio, visual=visual).attention
    assert found is not None and float(found[0, 0, 1, 2]) == pytest.approx(1)
    audio[..., at(BARK)], audio[..., at(THUNDER)] = 0, 40
    flat = network(audio=audio, visual=torch.zeros_like(visual)).attention
    assert flat is not None and torch.allclose(flat, torch.full_like(flat, 1 / 6))


def test_it_is_not_trained() -> None:
    with pytest.raises(CheckpointError, match="isn't trained"):
        made().loss(Output(), None)  # type: ignore[arg-type]
    assert not any(p.requires_grad for p in made().parameters())


# ---- its numbers


def test_the_numbers_that_ship_are_whole() -> None:
    settings = read_settings()
    assert Fusion.from_json(settings["fusion"]).to_json() == {
        k: tuple(v) if isinstance(v, list) else v for k, v in settings["fusion"].items()
    }
    assert Decision.from_json(settings["decision"]).to_json() is not None
    assert len(settings["typical"]) == 521 and all(map(math.isfinite, settings["typical"]))
    assert settings["chosen"]["clips"] > 0 and settings["chosen"]["by"].endswith(".py")


@pytest.mark.parametrize(
    ("key", "value"),
    [("bias", None), ("bias", "x"), ("bias", math.nan), ("audio", math.inf), ("rival", [1]),
     ("visual_floor", -1), ("proxy_floor", 0), ("unknown", 0),
     ("temperature", 0)],
)  # fmt: skip
def test_a_fusion_of_nonsense_is_refused(key: str, value: Any) -> None:
    with pytest.raises(CheckpointError, match="fusion of two taggers"):
        Fusion.from_json({**FUSION.to_json(), key: value})
    with pytest.raises(CheckpointError, match="fusion of two taggers"):
        Fusion.from_json({k: v for k, v in FUSION.to_json().items() if k != key})


# ---- files: windows, streams, ONNX


def card(events: Sequence[NamedEvent] = EVENTS) -> Json:
    backbones = {"audio": [A], "visual": [H, W, V]}
    return {
        "model": "named_events", "task": "sel", "classes": [e.name for e in events], "step": 1.0,
        "window": 10, "options": {}, "dims": {"audio": A, "visual": V}, "train_ids": {},
        "paper": "", "data": {}, "recipe": {}, "seed": 0, "metrics": {}, "format": 1,
        "decision": read_settings()["decision"],
        **{f"{k}_card": {"name": k, "weights": "w", "hash": "h", "output": out}
           for k, out in backbones.items()},
    }  # fmt: skip


def of_length(count: int, cards: Json) -> Features:
    audio, visual = clips(1, count, seed=count)
    known = np.ones(count, dtype=bool)
    return Features(
        audio=audio[0].numpy(), visual=visual[0].numpy(), grid=Grid(float(count), 1.0),
        audible=known, visible=known, audio_card=cards["audio_card"],
        visual_card=cards["visual_card"], source="a.mp4",
    )  # fmt: skip


@pytest.mark.parametrize("count", [1, 7, 10, 11, 34])
def test_windows_and_streams_say_the_same_as_the_whole(count: int) -> None:
    trained = Trained(made(requested=False), card())
    features = of_length(count, trained.card)
    whole = trained.network(
        audio=torch.from_numpy(features.audio)[None], visual=torch.from_numpy(features.visual)[None]
    )
    found = trained.predict(features)
    assert np.abs(found.values - whole.scores[0].numpy()).max() < 1e-6
    assert found.audio_scores is not None and found.visual_scores is not None
    for ours, part in ((found.audio_scores, "audible"), (found.visual_scores, "visible")):
        np.testing.assert_allclose(ours, whole.parts[part][0].numpy(), atol=1e-6)
    decision = Decision.from_json(trained.card["decision"])
    stream = EventStream("a.mp4", trained.scoring(features), Facts, card={}, decision=decision)
    events = sorted(stream, key=lambda e: (e.start, e.end, at_name(e.label)))
    assert events == to_events(found, decision=decision)
    assert stream.timeline().events == tuple(events)


def at_name(name: str) -> int:
    return NAMES.index(name)


@pytest.mark.parametrize("requested", [True, False])
def test_exported_it_answers_as_in_torch(requested: bool, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="the extra [onnx] isn't installed")
    pytest.importorskip("onnxruntime", reason="the extra [onnx] isn't installed")
    from avel.onnx.runtime import load_onnx

    trained = Trained(made(requested=requested), card())
    done = export_model(trained, tmp_path / "m.onnx", with_backbones=False, lengths=(1, 10, 37))
    assert done.difference <= 1e-5
    again = load_onnx(done.paths[0])
    audio, visual = (x.numpy() for x in clips(2, 13, seed=5))
    ours, theirs = again.predict_windows(audio, visual), trained.predict_windows(audio, visual)
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-5)
    np.testing.assert_allclose(ours.attention, theirs.attention, atol=1e-5)
    assert set(ours.parts) == set(theirs.parts) == {"audible", "visible"}
    for name, part in theirs.parts.items():
        assert np.isnan(part).any() and not np.isnan(part).all()
        np.testing.assert_allclose(ours.parts[name], part, atol=1e-5)
    assert again.classes == trained.classes and again.card["decision"] == trained.card["decision"]


def test_which_of_two_nearly_equal_events_is_scored_may_differ_in_few_segments() -> None:
    rng = np.random.default_rng(1)
    scores = rng.uniform(0.1, 0.4, (1, 100, 4)).astype("f4")
    labels = scores.argmax(-1)
    parts = scores[..., :3].copy()
    parts[0, :, 0] = 0
    told = "named_events", 100
    assert _difference(*told, [scores, labels, parts], [scores, labels, parts]) == 0

    def swapped(count: int, event: float = 0.3) -> float:
        other = parts.copy()
        other[0, :count, :2] = [event, 0]
        return _difference(*told, [scores, labels, other], [scores, labels, parts])

    assert swapped(2) == 0
    with pytest.raises(CheckpointError, match="other events than torch"):
        swapped(9)
    other = parts.copy()
    other[0, 0, 1] += 1e-3
    with pytest.raises(CheckpointError, match="differs from torch"):
        _difference(*told, [scores, labels, other], [scores, labels, parts])


# ---- with the taggers' real weights


def test_events_by_name_of_a_loaded_model_are_refused() -> None:
    with pytest.raises(UsageError, match="has its own classes"):
        localize(CLIP, model=Trained(made(), card()), events="dog bark")


@pytest.mark.usefixtures("taggers")
def test_the_words_asked_for_are_the_labels() -> None:
    find = Localizer(events="barking dogs, Bird, goldfinch")
    assert find.model.classes == ("barking dogs", "Bird", "goldfinch")
    assert any("dog bark" in note for note in find.model.card["notes"])
    found = find(CLIP)
    assert {e.label for e in found.lane("both")} == {"Bird"}
    assert found.scores is not None and found.scores.values.shape == (10, 4)
    whole = Localizer()(CLIP)
    assert [(e.start, e.end) for e in whole if e.label == "bird"] == [
        (e.start, e.end) for e in found if e.label == "Bird"
    ]


@pytest.mark.usefixtures("taggers")
def test_what_streams_is_what_is_found() -> None:
    find = Localizer("named_events")
    whole = find(CLIP)
    assert sorted(find.stream(CLIP)) == sorted(whole.events) and len(whole.events) >= 2
    assert whole.scores is not None and whole.scores.attention is not None
    assert whole.scores.attention.shape == (10, 7, 7)


@pytest.mark.usefixtures("taggers")
def test_the_demo_finds_real_events(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "  bird  " in told and "CC BY 3.0" in told
    assert (tmp_path / CLIP.name).read_bytes() == CLIP.read_bytes()
    text = (tmp_path / CLIP.with_suffix(".html").name).read_text("utf-8")
    assert "toy" not in text.lower().split("<main")[0] and "without training" in text
    found = read(tmp_path / CLIP.with_suffix(".json").name)
    assert {e.label for e in found.events} == {"bird"}


@pytest.mark.usefixtures("taggers")
def test_where_it_looked_can_be_drawn(tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    assert main(["plot", "attention", str(CLIP), "--frames", "3", "-o", str(out)]) == 0
    assert out.stat().st_size > 10_000


def test_the_demo_of_the_toy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    again = ["demo", str(tmp_path), "--toy", "--seed", "1000000003", "--seconds", "3"]
    assert main(again) == 0
    told = capsys.readouterr().out
    assert "in the clip, seen and heard:" in told and "avel demo --toy --seed 1000000003" in told
    assert len(list(tmp_path.glob("*.html"))) == 1
    assert main(["demo", str(tmp_path), "--seed", "3"]) == 2
    assert "add --toy" in capsys.readouterr().err


def test_check_says_what_is_absent_and_fetches_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AVEL_CACHE", str(tmp_path))
    assert main(["check"]) == 0
    (line,) = (x for x in capsys.readouterr().out.splitlines() if x.startswith("model"))
    assert "named_events" in line and "events without training" in line
    assert "the weights of yamnet" in line and "absent" in line
    assert list(tmp_path.iterdir()) == []


def test_what_ships_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "pretrained"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [
        "default",
        "named_events",
        "toybox",
        "toybox_match",
    ]
    assert "without training" in lines[0]


def test_what_has_no_sound_or_no_picture_is_neither_heard_nor_seen() -> None:
    audio, visual = clips(1, 3)
    audio[0, 0], visual[0, 1] = 0, 0
    network = made()
    answer = network(audio=audio, visual=visual)
    assert answer.scores is not None
    x, v, _ = network.evidence(audio=audio, probabilities=network.frame_probabilities(visual))
    assert not x[0, 0].any() and x[0, 1:].any()
    own = network.scored.known_visual > 0
    floor = math.log(network.fusion.visual_floor)
    assert v[0, 1, own] == pytest.approx(floor) and (v[0, 0, own] > floor).any()
    heard, seen = (answer.parts[n].nan_to_num() for n in ("audible", "visible"))
    assert float(heard[0, 0].max()) < 1e-5 and float(seen[0, 1].max()) == 0


def test_a_sum_of_many_classes_is_no_more_than_one() -> None:
    wide = NamedEvent("wide", audio=("Bark",), visual=BARK.visual + ROOSTER.visual + CAT.visual)
    own = made([wide]).scored
    assert float(own.visible(torch.full((1, 1, 1000), 0.3)).max()) == 1
