"""A model's card in words for people: what it is, what it knows, and what it isn't for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from avel.types import Json

_LONGEST = 300


def name(card: Json) -> str:
    """The model's name, or nothing where the events came without one."""
    return _words(card.get("model", card.get("name", "")))


def rows(card: Json) -> list[tuple[str, str]]:
    """What of the card a reader wants to know, as pairs of heading and text."""
    data = _object(card.get("data"))
    if name(card) == "named_events":
        return _named(card)
    given = [
        ("Model", name(card)),
        ("Paper", _words(card.get("paper", ""))),
        ("Task", _TASKS.get(str(card.get("task")), _words(card.get("task", "")))),
        ("Hears with", _backbone(_object(card.get("audio_card")))),
        ("Sees with", _backbone(_object(card.get("visual_card")))),
        ("Trained on", _trained_on(data)),
        ("Segment", f"{card['step']:g} s" if _is_number(card.get("step")) else ""),
        ("Trained clips", _clip(card)),
        ("Measured", _metrics(_object(card.get("metrics")))),
        ("Licence", _words(card.get("licence", ""))),
    ]
    return [(heading, text) for heading, text in given if text]


def _named(card: Json) -> list[tuple[str, str]]:
    """Of the training-free model: who tells what, how much was looked for, what a score is."""
    chosen = _object(card.get("chosen"))
    numbers = f"on {chosen['clips']:g} clips" if _is_number(chosen.get("clips")) else ""
    given = [
        ("Model", "named_events, without training: two taggers joined by a vocabulary of events"),
        ("Paper", _words(card.get("paper", ""))),
        ("Hears with", _backbone(_object(card.get("audio_card")))),
        ("Sees with", _backbone(_object(card.get("visual_card")))),
        ("Looked for", f"{len(_object(card.get('events')))} events"),
        ("Numbers", f"of the fusion and the decision: chosen {numbers}" if numbers else ""),
        ("Score", "how sure both taggers together are that a segment's event is heard and seen, "
                  "the mean over the event; of what is only heard or only seen, by that tagger "
                  "alone. It ranks events, and isn't the chance that one is true."),
        ("Limits", "What neither tagger has a class for isn't found. The picture's tagger knows "
                   "things and animals but no people: of speech, laughter or singing it sees "
                   "clothes at most, so that a voice off screen may count as seen. It judges the "
                   "whole frame, and may take a small or drawn source for another. Quiet "
                   "sounds below music or speech are missed."),
    ]  # fmt: skip
    return [(heading, text) for heading, text in given if text]


_TASKS = {
    "sel": "supervised event localization",
    "wsel": "weakly supervised event localization",
    "cml": "cross-modality localization",
}


def cautions(card: Json) -> list[str]:
    """What a reader must know before believing the events, a sentence each."""
    said = []
    data = _object(card.get("data"))
    text = " ".join(str(v) for v in (data.get("name", ""), data.get("note", ""))).lower()
    learnt = []
    if "toybox" in text or card.get("toy"):
        learnt.append("Toybox, rendered clips of drawn things with synthetic sounds")
    if "never filmed together" in text:
        learnt.append("clips composed of recordings and photographs never filmed together")
    if learnt:
        said.append(
            f"This model is a toy: it was trained on {', and on '.join(learnt)}. What it finds in "
            "real videos means nothing."
        )
    if data.get("simulated") or card.get("simulated"):
        said.append("This model was trained on simulated features: it knows no real events.")
    backbones = (_object(card.get(key)) for key in ("audio_card", "visual_card"))
    if any(str(b.get("name", "")).startswith("mini_") for b in backbones):
        said.append("This model hears or sees with mini networks, which are for trying out.")
    return said


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
        said = f"{metric.replace('_', ' ')} {value:.3f}" + (f" ({selection})" if selection else "")
        return said[:_LONGEST]
    pairs = [f"{k.replace('_', ' ')} {v:.4g}" for k, v in metrics.items() if _is_number(v)]
    return ", ".join(pairs)[:_LONGEST]
