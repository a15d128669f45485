"""A training's state between two epochs, in one file: tensors by name, the rest as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from avel.errors import CheckpointError
from avel.files import whole
from avel.types import Json

STATE = "state.safetensors"


@dataclass(frozen=True)
class State:
    """All that a training needs to resume exactly as if it had never stopped.

    Generators have no place in it: every epoch seeds them from the run's seed and its number.

    Args:
        model: The network's weights.
        optimizer: The optimizer's ``state_dict``.
        best: The best epoch's weights.
        history: The epochs' records.
        metrics: The best epoch: number, metric, value.
        identity: What a run must have in common to resume from here.
        average: The moving average of the parameters, where the recipe has one.
    """

    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    best: dict[str, Tensor]
    history: list[Json]
    metrics: Json
    identity: Json
    average: Mapping[str, Tensor] = field(default_factory=dict)


def save_state(folder: Path, state: State) -> None:
    """Write the state, whole or not at all."""
    from safetensors.torch import save_file

    tensors = {f"model.{n}": t for n, t in state.model.items()}
    tensors |= {f"best.{n}": t for n, t in state.best.items()}
    tensors |= {f"average.{n}": t for n, t in state.average.items()}
    plain: dict[str, Json] = {}
    for number, slot in state.optimizer["state"].items():
        for key, value in slot.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{number}.{key}"] = value
            else:
                plain.setdefault(str(number), {})[key] = value
    meta = {
        "groups": state.optimizer["param_groups"], "plain": plain, "history": state.history,
        "metrics": state.metrics, "identity": state.identity,
    }  # fmt: skip
    contiguous = {n: t.detach().cpu().contiguous() for n, t in tensors.items()}
    with whole(folder / STATE) as temporary:  # from the tensors' own memory, without a second copy
        save_file(contiguous, temporary, metadata={"avel": json.dumps(meta)})


def load_state(folder: Path) -> State | None:
    """The state in a folder, or None where there is none.

    Raises:
        CheckpointError: if it can't be read.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / STATE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as f:
            meta = json.loads((f.metadata() or {})["avel"])
            tensors = {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118
        slots: dict[int, dict[str, Any]] = {int(n): dict(s) for n, s in meta["plain"].items()}
        for name, tensor in _under(tensors, "optimizer.").items():
            number, _, key = name.partition(".")
            slots.setdefault(int(number), {})[key] = tensor
        return State(
            model=_under(tensors, "model."),
            optimizer={"state": slots, "param_groups": meta["groups"]},
            best=_under(tensors, "best."),
            history=list(meta["history"]),
            metrics=dict(meta["metrics"]),
            identity=dict(meta["identity"]),
            average=_under(tensors, "average."),
        )
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RecursionError) as e:
        raise CheckpointError(
            f"{path} is no state of a training ({type(e).__name__}: {e})",
            expected="what `avel train` wrote there",
            hint="start again in another folder",
        ) from e


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n[len(prefix) :]: t for n, t in tensors.items() if n.startswith(prefix)}
