"""Provenance of a run: its clips, its initial model, its card, and what it may resume."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from avel._version import __version__
from avel.data.base import Dataset, Split, fingerprint
from avel.errors import CheckpointError, DataError
from avel.inference.checkpoint import Trained, ids_hash
from avel.models.base import Model, Recipe
from avel.tasks import Task
from avel.training.recipes import to_json
from avel.types import Json


def without(split: Split, exclude: Collection[str]) -> Split:
    """The split without some clips, its arrays shared; unknown names are ignored.

    Raises:
        DataError: if no clip is left.
    """
    excluded = set(exclude)
    positions = np.array(
        [i for i, name in enumerate(split.ids) if name not in excluded], dtype=np.int64
    )
    if len(positions) == len(split):
        return split
    if not len(positions):
        raise DataError(f"all {len(split)} clips of {split.name} are excluded",
                        expected="one clip at least", hint="exclude fewer")  # fmt: skip
    return split.subset(positions)


def count_leak(
    initial: Trained, data: Dataset, train: Split, val: Split, test: Split, allow: bool
) -> int:  # fmt: skip
    """How many clips of this run's evaluation its initial model has seen; -1 if not known.

    Clips are compared by their recordings: a video that stands in the data under two categories
    is one recording. Seen are the validation and test clips that the initial model was trained
    on, and the test clips that its epoch was selected on. Recordings that the data set itself
    puts into this run's own training or validation split as well aren't counted there.

    Args:
        initial: The model to start from.
        data: The data set of this run.
        train, val, test: This run's splits.
        allow: Accept a leak.

    Raises:
        CheckpointError: if there is one, or it can't be known, and that isn't allowed.
    """
    evaluated = (*val.ids, *test.ids)
    trained_on = None if initial.train_ids is None else set(initial.train_ids)
    if trained_on is None:
        trained = selected = frozenset[str]()
    else:
        trained = _seen(data, evaluated, trained_on, train.ids)
        selected = _seen(data, test.ids, initial.selection_ids or (), val.ids)
    count = -1 if trained_on is None else len(trained | selected)
    if count and not allow:
        raise CheckpointError(
            f"the initial model {_leak_text(trained, selected, len(set(evaluated)), count)}",
            expected="one trained on none of the videos of the validation and test clips, its "
            "epoch selected on none of those of the test clips",
            hint="train it with those clips excluded (`avel train` does so for cml on its own), or"
            " give --allow-leak, and the result will say so",
        )
    return count


def _leak_text(trained: Collection[str], selected: Collection[str], clips: int, count: int) -> str:
    if count < 0:
        return "doesn't tell which clips it was trained on"
    parts = [f"was trained on {len(trained)} of the {clips} clips of this run's evaluation"]
    parts = parts if trained else []
    if selected:
        parts.append(f"had its epoch selected on {len(selected)} of this run's test clips")
    return " and ".join(parts) + " (compared by video)"


def _seen(
    data: Dataset, evaluated: Collection[str], known: Collection[str], own: Collection[str]
) -> frozenset[str]:
    """The evaluated clips that are known, or of a recording of known ones that ``own`` lacks."""
    recordings = data.recordings_of(known) - data.recordings_of(own)
    return frozenset(
        clip for clip in evaluated
        if clip in known or data.recording_of(clip) in recordings
    )  # fmt: skip


def take_weights(network: Model, initial: Trained | None) -> None:
    """Copy another model's weights: by ``init_from``, else all of equal name and shape."""
    if initial is None:
        return
    state = initial.network.state_dict()
    init_from = getattr(network, "init_from", None)
    if init_from is not None:
        init_from(state)
        return
    current = network.state_dict()
    matching = {n: t for n, t in state.items() if n in current and current[n].shape == t.shape}
    if not matching:
        raise CheckpointError(
            "the initial model has no weight in common with this one",
            expected="a model of the same kind and sizes",
            hint="give another --init, or none",
        )
    network.load_state_dict({**current, **matching})


def make_card(
    network: Model, data: Dataset, train: Split, task: Task, setting: str, recipe: Recipe,
    seed: int, initial: Trained | None, leak: int, bf16: bool, selection_ids: Sequence[str],
) -> Json:  # fmt: skip
    """The card of a run before its first epoch; ``metrics`` are filled in later."""
    return {
        "avel": __version__,
        "model": network.card.name,
        "paper": network.card.paper,
        "task": task.name,
        "setting": setting,
        "options": dict(recipe.options),
        "dims": {"audio": int(train.audio.shape[-1]), "visual": int(train.visual.shape[-1])},
        "classes": list(data.classes),
        "step": data.step,
        "window": int(train.labels.shape[1]),
        "audio_card": data.audio_card,
        "visual_card": data.visual_card,
        "recipe": to_json(recipe),
        "precision": "bf16" if bf16 else "float32",
        "seed": seed,
        "data": {
            "name": data.name, "fingerprint": fingerprint(data), "simulated": data.simulated,
            "note": data.note,
        },
        "train_ids": {"count": len(train), "sha256": ids_hash(train.ids)},
        "selection_ids": {"count": len(selection_ids), "sha256": ids_hash(selection_ids)},
        "copies": len(train.copies),
        "background_clips": task.background_clips(data, train),
        "init": _origin(initial),
        "leak": leak,
        "metrics": {},
    }  # fmt: skip


def _origin(initial: Trained | None) -> Json | None:
    if initial is None:
        return None
    keys = ("model", "task", "seed", "data", "train_ids", "metrics", "weights")
    return {k: initial.card[k] for k in keys if k in initial.card}


def with_recipe_defaults(identity: Json) -> Json:
    """An identity, or a card, with what later versions added to it and its recipe."""
    usual = {k: v for k, v in to_json(Recipe()).items() if k not in _ANY_LENGTH}
    recipe = {**usual, **(identity.get("recipe") or {})}
    return {"copies": 0, **identity, "recipe": recipe}


#: Fields of a recipe that may change when a run resumes.
_ANY_LENGTH = ("epochs", "patience")


def run_identity(card: Json) -> Json:
    """What must be equal for a run to resume from another's state."""
    recipe = {k: v for k, v in card["recipe"].items() if k not in _ANY_LENGTH}
    keys = ("model", "task", "setting", "options", "dims", "seed", "precision", "train_ids",
            "copies")  # fmt: skip
    same = {k: card[k] for k in keys}
    initial = {k: v for k, v in (card["init"] or {}).items() if k != "weights"}
    return {**same, "recipe": recipe, "data": card["data"]["fingerprint"], "init": initial}
