"""Where a run comes from: its clips, the model it started from, its card, what it may resume."""

from __future__ import annotations

from collections.abc import Collection

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
    """The split without some clips, its arrays shared; names that it doesn't have change nothing.

    Raises:
        DataError: if no clip is left.
    """
    out = set(exclude)
    keep = np.array([i for i, name in enumerate(split.ids) if name not in out], dtype=np.int64)
    if len(keep) == len(split):
        return split
    if not len(keep):
        raise DataError(f"all {len(split)} clips of {split.name} are excluded",
                        expected="one at least to train on", hint="exclude fewer")  # fmt: skip
    return split.subset(keep)


def count_leak(start: Trained, judged: Collection[str], allow: bool) -> int:
    """How many clips this run is judged on the start model was trained on; -1 if not known."""
    seen = None if start.train_ids is None else set(start.train_ids)
    count = -1 if seen is None else len(seen & set(judged))
    if count and not allow:
        what = (
            f"was trained on {count} of the {len(set(judged))} clips that this run is judged on"
            if count > 0
            else "doesn't say which clips it was trained on"
        )
        raise CheckpointError(
            f"the model to start from {what}",
            expected="one that has seen none of the validation and test clips",
            hint="train it with those clips excluded (`avel train` does so for cml on its own), or"
            " give --allow-leak, and the result will say so",
        )
    return count


def take_weights(network: Model, start: Trained | None) -> None:
    """Weights of another model: by the model's own ``init_from``, else all that fit by name."""
    if start is None:
        return
    state = start.network.state_dict()
    own_rule = getattr(network, "init_from", None)
    if own_rule is not None:
        own_rule(state)
        return
    own = network.state_dict()
    fitting = {n: t for n, t in state.items() if n in own and own[n].shape == t.shape}
    if not fitting:
        raise CheckpointError(
            "the model to start from shares no weight with this one",
            expected="a model of the same kind and sizes",
            hint="start from another, or from none",
        )
    network.load_state_dict({**own, **fitting})


def make_card(
    network: Model, data: Dataset, train: Split, task: Task, setting: str, recipe: Recipe,
    seed: int, start: Trained | None, leak: int, bf16: bool,
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
        "background_clips": task.background_clips(data, train),
        "init": _origin(start),
        "leak": leak,
        "metrics": {},
    }  # fmt: skip


def _origin(start: Trained | None) -> Json | None:
    if start is None:
        return None
    keys = ("model", "task", "seed", "data", "train_ids", "metrics", "weights")
    return {k: start.card[k] for k in keys if k in start.card}


def run_identity(card: Json) -> Json:
    """What must be the same for one run to go on from another's state."""
    recipe = {k: v for k, v in card["recipe"].items() if k not in ("epochs", "patience")}
    keys = ("model", "task", "setting", "options", "dims", "seed", "precision", "train_ids")
    same = {k: card[k] for k in keys}
    start = {k: v for k, v in (card["init"] or {}).items() if k != "weights"}
    return {**same, "recipe": recipe, "data": card["data"]["fingerprint"], "init": start}
