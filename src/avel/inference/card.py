"""The card of a checkpoint: what it must hold, and within which bounds."""

from __future__ import annotations

from collections.abc import Mapping

from avel.errors import UsageError
from avel.inference.decision import Decision
from avel.types import Json

FORMAT = 1
#: The file of a checkpoint's weights.
WEIGHTS = "model.safetensors"
#: The largest whole number that a card may give as a size or an option.
LARGEST_SIZE = 2**16


def check_card(card: Json) -> list[str]:
    """What is wrong with a card's entries, one clause each."""
    wrong = []
    if not isinstance(card.get("format"), int) or card["format"] > FORMAT:
        wrong.append(f"format {card.get('format')!r}, this avel reads up to {FORMAT}")
    classes = card.get("classes")
    if not (isinstance(classes, list) and classes and all(isinstance(c, str) for c in classes)):
        wrong.append("classes: no list of names")
    elif len(classes) > LARGEST_SIZE or len(set(classes)) < len(classes):
        wrong.append("classes: too many, or one twice")
    for key in ("model", "task"):
        if not isinstance(card.get(key), str):
            wrong.append(f"{key}: no name")
    for key in ("options", "dims", "audio_card", "visual_card", "data", "train_ids"):
        if not isinstance(card.get(key), dict):
            wrong.append(f"{key}: no object")
    for key in ("recipe", "metrics", "init", "selection_ids"):
        if not isinstance(card.get(key, {}), dict | None):
            wrong.append(f"{key}: no object")
    leak = card.get("leak", 0)
    if leak is not None and not (_size(leak) or leak == 0):
        wrong.append("leak: no number of clips")
    if not _size(card.get("window")):
        wrong.append(f"window {card.get('window')!r}")
    step = card.get("step")
    if isinstance(step, bool) or not isinstance(step, int | float) or not 1e-3 <= step <= 3600:
        wrong.append(f"step {step!r}")
    if isinstance(dims := card.get("dims"), dict):
        wrong += [
            f"dims: {s} {dims.get(s)!r}" for s in ("audio", "visual") if not _size(dims.get(s))
        ]
    if isinstance(options := card.get("options"), dict):
        numbers = {k: v for k, v in options.items() if isinstance(v, int | float)}
        wrong += [f"options: {k}={v!r}" for k, v in numbers.items() if not abs(v) <= LARGEST_SIZE]
    if card.get("decision") is not None:
        try:
            Decision.from_json(card["decision"])
        except UsageError as e:
            wrong.append(f"decision: {e.got}")
    return wrong


#: Options of models by the names that earlier versions had for them.
_FORMER = {
    "cspa_csea": ("senses", {"picture": "visual"}),
    "ed_tcn": ("input", {}),
    "linear": ("inputs", {"a+v": "both", "a": "audio", "v": "visual"}),
}


def upgraded(card: Json) -> Json:
    """A card with the option names of this avel; earlier checkpoints have others."""
    former, values = _FORMER.get(str(card.get("model")), ("", {}))
    new = dict(card)
    if card.get("model") == "jca":  # its form for any length was not normalised
        new["options"] = {"normalize": False, **(card.get("options") or {})}
    if isinstance(options := new.get("options"), dict):
        new["options"] = _renamed(options, former, values)
    if isinstance(recipe := card.get("recipe"), dict) and isinstance(recipe.get("options"), dict):
        new["recipe"] = {**recipe, "options": _renamed(recipe["options"], former, values)}
    return new


def _renamed(options: Json, former: str, values: Mapping[str, str]) -> Json:
    return {
        "modality" if name == former else name: values.get(str(v), v) if name == former else v
        for name, v in options.items()
    }


def _size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LARGEST_SIZE
