"""A model's card in words for people: what it is, what it detects, its limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from avel.types import Json

_LONGEST = 300


def name(card: Json) -> str:
    """The model's name, empty if the events came without one."""
    return _words(card.get("model", card.get("name", "")))


def rows(card: Json) -> list[tuple[str, str]]:
    """The card as pairs of heading and text."""
    data = _object(card.get("data"))
    if name(card) == "named_events":
        return _named(card)
    pairs = [
        ("Model", name(card)),
        ("Paper", _words(card.get("paper", ""))),
        ("Task", _TASKS.get(str(card.get("task")), _words(card.get("task", "")))),
        ("Audio backbone", _backbone(_object(card.get("audio_card")))),
        ("Visual backbone", _backbone(_object(card.get("visual_card")))),
        ("Trained on", _trained_on(data)),
        ("Segment", f"{card['step']:g} s" if _is_number(card.get("step")) else ""),
        ("Trained clips", _clip(card)),
        ("Measured", _metrics(_object(card.get("metrics")))),
        ("Licence", _words(card.get("licence", ""))),
    ]
    return [(heading, text) for heading, text in pairs if text]


def _named(card: Json) -> list[tuple[str, str]]:
    """The card of the model without training: its taggers, events, scores and limits."""
    chosen = _object(card.get("chosen"))
    numbers = f"on {chosen['clips']:g} clips" if _is_number(chosen.get("clips")) else ""
    pairs = [
        ("Model", "named_events, without training: two taggers combined by a vocabulary of events"),
        ("Paper", _words(card.get("paper", ""))),
        ("Audio backbone", _backbone(_object(card.get("audio_card")))),
        ("Visual backbone", _backbone(_object(card.get("visual_card")))),
        ("Detects", f"{len(_object(card.get('events')))} events"),
        ("Parameters", f"those of fusion and decision, chosen {numbers}" if numbers else ""),
        ("Score", "both taggers' confidence that the event is heard and seen, the mean over its "
                  "segments; of what is only heard or only seen, that tagger's alone. It ranks "
                  "events, and isn't the probability that one is true."),
        ("Limits", "Events without a class in either tagger aren't detected. The visual tagger has "
                   "classes for things and animals but not for people: for speech, laughter or "
                   "singing it sees clothes at most, so that a voice off screen may count as seen. "
                   "It classifies the whole frame, and may mistake a small or drawn source for "
                   "another. Quiet sounds below music or speech are missed."),
    ]  # fmt: skip
    return [(heading, text) for heading, text in pairs if text]


_TASKS = {
    "sel": "supervised event localization",
    "wsel": "weakly supervised event localization",
    "cml": "cross-modality localization",
}


def cautions(card: Json) -> list[str]:
    """Warnings about the model, a sentence each."""
    sentences = []
    data = _object(card.get("data"))
    text = " ".join(str(v) for v in (data.get("name", ""), data.get("note", ""))).lower()
    sources = []
    if "toybox" in text or card.get("toy"):
        sources.append("Toybox, rendered clips of drawn things with synthetic sounds")
    if "never filmed together" in text:
        sources.append("clips composed of recordings and photographs never filmed together")
    if sources:
        sentences.append(
            f"This model is a toy: it was trained on {', and on '.join(sources)}. Its events in "
            "real videos mean nothing."
        )
    if data.get("simulated") or card.get("simulated"):
        sentences.append(
            "This model was trained on simulated features: it has learned no real events."
        )
    backbones = (_object(card.get(key)) for key in ("audio_card", "visual_card"))
    if any(str(b.get("name", "")).startswith("mini_") for b in backbones):
        sentences.append("This model uses mini networks as backbones, which are for trying out.")
    return sentences


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _words(value: Any) -> str:
    return str(value)[:_LONGEST] if isinstance(value, str | int | float) else ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _backbone(card: Mapping[str, Any]) -> str:
    known = [_words(card.get("name", "")), _words(card.get("weights", ""))]
    return ", weights ".join(part for part in known if part)


def _trained_on(data: Mapping[str, Any]) -> str:
    known = [_words(data.get("name", "")), _words(data.get("note", ""))]
    return ": ".join(part for part in known if part)


def _clip(card: Json) -> str:
    window, step = card.get("window"), card.get("step")
    if not (_is_number(window) and _is_number(step)):
        return ""
    return f"{window:g} segments long; longer files go through in overlapping windows"


def _metrics(metrics: Mapping[str, Any]) -> str:
    metric, value = metrics.get("metric"), metrics.get("value")
    if isinstance(metric, str) and _is_number(value):
        selection = _words(metrics.get("selection", ""))
        metric_text = f"{metric.replace('_', ' ')} {value:.3f}" + (
            f" ({selection})" if selection else ""
        )
        return metric_text[:_LONGEST]
    pairs = [f"{k.replace('_', ' ')} {v:.4g}" for k, v in metrics.items() if _is_number(v)]
    return ", ".join(pairs)[:_LONGEST]
