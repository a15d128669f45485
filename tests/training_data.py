"""Small made-up data sets that can be learnt, for the tests of training and what follows it."""

from __future__ import annotations

import numpy as np

from avel.data.base import Dataset, Split
from avel.models.base import Recipe
from avel.training.recipes import resolve
from avel.types import Features, Grid

CLASSES = ("bell", "dog", "train")
AUDIO_CARD = {"name": "ears", "weights": "w", "hash": "sha256:1", "modality": "audio"}
VISUAL_CARD = {"name": "eyes", "weights": "w", "hash": "sha256:2", "modality": "visual"}
SMALL = ("common=4", "hidden=8", "state=4")


def small_recipe(task: str = "sel", *pairs: str) -> Recipe:
    """CSPA + CSEA at a size that trains in no time."""
    own = ("epochs=3", "batch=8", "precision=float32", *SMALL)
    return resolve("cspa_csea", task, pairs=[*own, *pairs])  # type: ignore[arg-type]


def make_split(name: str, count: int, *, seed: int = 0, t: int = 6, unequal: bool = False) -> Split:
    """Clips of one event each; its class stands in one audio and one visual channel."""
    rng = np.random.default_rng([seed, *name.encode()])
    background = len(CLASSES)
    labels = np.full((count, t), background)
    audio = rng.normal(0, 0.3, (count, t, 5)).astype(np.float32)
    visual = rng.normal(0, 0.3, (count, t, 2, 2, 7)).astype(np.float16)
    for i in range(count):
        kind, start = i % background, int(rng.integers(0, 3))
        end = start + int(rng.integers(2, 4))
        labels[i, start:end] = kind
        audio[i, start:end, kind] += 3
        visual[i, start:end, :, :, kind] += 3
    lengths = np.full(count, t)
    if unequal:
        lengths[::2] = t - 1
        labels[::2, t - 1] = -1
        audio[::2, t - 1], visual[::2, t - 1] = 0, 0
    ids = tuple(f"{name}{i}" for i in range(count))
    return Split(name, ids, audio, visual, lengths, labels)


def make_dataset(*, unequal: bool = False, cml: bool = False, background: bool = False) -> Dataset:
    """Three splits; with ``cml`` a partition of its own whose test clips SEL trains on."""
    sizes = {"train": 24, "val": 9, "test": 9}
    splits = {n: make_split(n, s, unequal=unequal) for n, s in sizes.items()}
    if cml:
        splits |= {f"cml_{n}": make_split(n, s) for n, s in (("train", 12), ("val", 9))}
        splits["cml_train"] = _renamed(splits["cml_train"], "cml_train", "val")
        splits["cml_val"] = _renamed(make_split("train", 6), "cml_val", "train")
        splits["cml_test"] = _renamed(make_split("train", 6, seed=1), "cml_test", "train")
    if background:
        noise = make_split("background", 6)
        noise.labels[:] = len(CLASSES)
        splits["background"] = noise
    return Dataset("made-up", CLASSES, splits, dict(AUDIO_CARD), dict(VISUAL_CARD))


def _renamed(split: Split, name: str, ids: str) -> Split:
    from dataclasses import replace

    return replace(split, name=name, ids=tuple(f"{ids}{i}" for i in range(len(split))))


def features(count: int, *, seed: int = 0, step: float = 1.0) -> Features:
    """Features of a file of any length that fit the made-up data set."""
    rng = np.random.default_rng(seed)
    return Features(
        audio=rng.normal(0, 1, (count, 5)).astype(np.float32),
        visual=rng.normal(0, 1, (count, 2, 2, 7)).astype(np.float32),
        grid=Grid(count * step, step),
        audible=np.ones(count, bool),
        visible=np.ones(count, bool),
        audio_card=dict(AUDIO_CARD),
        visual_card=dict(VISUAL_CARD),
    )
