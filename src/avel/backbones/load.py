"""A backbone with its weights, fetched where they aren't there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from avel.backbones.base import Backbone, Tagger, Weights, backbones
from avel.backbones.concat import join_backbones
from avel.backbones.weights import weights_file
from avel.errors import UsageError, unknown_name
from avel.progress import terminal_progress
from avel.types import Json


def load_backbone(
    name: str,
    *,
    modality: Literal["audio", "visual"],
    weights: str | None = None,
) -> tuple[Backbone, Json]:
    """A backbone with its weights, in eval mode, and its card as plain data.

    Args:
        name: Registry name, with the weights' name after a colon where it isn't the default:
            ``"vgg19"``, ``"vgg19:torchvision"``. Visual ones can be combined:
            ``"vgg19+c3d"``, ``"vgg19+c3d:keras+sports1m"``; see :mod:`avel.backbones.concat`.
        modality: The modality that it must read.
        weights: The weights' name, if not in ``name``.

    Raises:
        UsageError: for an unknown name, a backbone of the other modality, or several that don't
            fit together.
        WeightsError: if the weights aren't there and can't be had, or aren't the right file.
    """
    card, load = find_backbone(name, modality=modality, weights=weights)
    return load(), card


def find_backbone(
    name: str, *, modality: Literal["audio", "visual"], weights: str | None = None
) -> tuple[Json, Callable[[], Backbone]]:
    """A backbone's card, and what loads it: its weights are there and checked, but not read yet.

    Combined ones are loaded at once, since their card depends on the networks. Arguments and errors
    as for :func:`load_backbone`.
    """
    name, _, suffix = name.partition(":")
    if "+" in name and modality == "visual":
        joint, card = _load_joint(name.split("+"), (suffix or weights or "").split("+"))
        return card, lambda: joint
    cls = backbones.get(name)
    if cls.card.modality != modality:
        fitting = [n for n, c in backbones if c.card.modality == modality]
        raise unknown_name(f"{modality} backbone", name, fitting)
    expected = suffix or weights or next(iter(cls.weights))
    if expected not in cls.weights:
        raise unknown_name(f"{name} weight", expected, cls.weights)
    chosen = cls.weights[expected]
    path = _fetched(name, chosen)

    def load() -> Backbone:
        with torch.device("meta"):  # no random weights are drawn, only to be replaced
            network = cls()
        network.load_weights(path, chosen)
        return network.eval().requires_grad_(False)

    return cls.describe(chosen), load


def load_classifier(name: str) -> tuple[tuple[Tensor, Tensor], Json]:
    """The dense layer of a tagger with its default weights, and its card; not the network.

    Args:
        name: Registry name.

    Raises:
        UsageError: for what is no tagger.
        WeightsError: as :func:`load_backbone`.
    """
    cls = backbones.get(name)
    if not issubclass(cls, Tagger):
        raise UsageError(
            f"{name} has no classes", expected="a tagger", hint="see `avel ls backbones`"
        )
    chosen = next(iter(cls.weights.values()))
    return cls.read_classifier(_fetched(name, chosen)), cls.describe(chosen)


def _fetched(name: str, weights: Weights) -> Path:
    """The file of some weights, fetched with a line on the terminal where it isn't there."""
    with terminal_progress(f"fetching {name}") as progress:
        return weights_file(weights, progress=progress)


def _load_joint(names: list[str], weights: list[str]) -> tuple[Backbone, Json]:
    if weights == [""]:
        weights *= len(names)
    if len(weights) != len(names):
        raise UsageError(
            f"{len(weights)} names of weights are given for {len(names)} backbones",
            expected="none, or one for each",
            hint="name them in the backbones' order: vgg19+c3d:keras+sports1m",
        )
    pairs = zip(names, weights, strict=True)
    return join_backbones(
        [load_backbone(n, modality="visual", weights=w or None) for n, w in pairs]
    )
