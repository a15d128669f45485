"""What every data set gives: three splits of features and labels over one class list."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from avel.backbones.identity import backbone_identity
from avel.errors import unknown_name
from avel.types import Json


class Copy(NamedTuple):
    """The features of an altered copy of every clip, in the rows of the clips' own.

    Args:
        audio: (N, T, A), an array or a memory map.
        visual: (N, T, H, W, V) likewise.
    """

    audio: NDArray[Any]
    visual: NDArray[Any]


@dataclass(frozen=True)
class Split:
    """Clips of one part of a data set, padded to the longest.

    Args:
        name: ``"train"``, ``"val"``, ``"test"`` or what the part is called.
        ids: N names, unique within the data set; what a data fingerprint and a leak check compare.
        audio: (N, T, A) float16 or float32; an array or a memory map.
        visual: (N, T, H, W, V) likewise.
        lengths: (N,) real segments of each clip, 1..T.
        labels: (N, T) int64 class ids, C for background, -1 beyond a clip's length.
        tags: (N, C+1) float32 of the weak setting; where None, made from the labels.
        rows: (N,) rows of ``audio`` and ``visual`` that belong to the clips, or None for all in
            order: splits of one store share its arrays without copying them.
        copies: Altered copies of the clips (:mod:`avel.media.altered`), which training alone reads.
    """

    name: str
    ids: tuple[str, ...]
    audio: NDArray[Any]
    visual: NDArray[Any]
    lengths: NDArray[np.int64]
    labels: NDArray[np.int64]
    tags: NDArray[np.float32] | None = None
    rows: NDArray[np.int64] | None = None
    copies: tuple[Copy, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def store_rows(self) -> NDArray[np.int64]:
        """(N,) rows of ``audio`` and ``visual`` that belong to the clips."""
        return np.arange(len(self)) if self.rows is None else np.asarray(self.rows)

    def subset(self, positions: Sequence[int] | NDArray[np.int64], *, name: str = "") -> Split:
        """Some of the clips in the given order; their feature arrays are shared, not copied.

        Args:
            positions: (n,) positions 0..N-1 in this split.
            name: Of the new split; this one's if empty.
        """
        chosen = np.asarray(positions, dtype=np.int64)
        return replace(
            self,
            name=name or self.name,
            ids=tuple(self.ids[i] for i in chosen),
            lengths=self.lengths[chosen],
            labels=self.labels[chosen],
            tags=None if self.tags is None else self.tags[chosen],
            rows=self.store_rows[chosen],
        )


@dataclass(frozen=True)
class Dataset:
    """A data set ready for training.

    Args:
        name: What results call it.
        classes: C event names in the order of their ids; background isn't among them.
        splits: By name; ``train``, ``val`` and ``test`` for SEL and WSEL, and for CML where its
            partition differs ``cml_train``, ``cml_val`` and ``cml_test``.
        audio_card, visual_card: The backbones' cards as plain data.
        simulated: True where the features are simulated; every result then says so.
        note: Where it comes from, in a sentence.
        step: Seconds a segment.
        origin: sha256 of what the features were made by where neither cards nor labels tell: a
            simulation's settings, the plan that clips were rendered by; ``""`` elsewhere.
        drawn: True where the splits were drawn here, False where the data name them.
        recordings: Of clips by name, the recording that they were cut from; a clip that isn't
            there is a recording of its own.
        notes: What was left out, or can't be learnt, a sentence each.
        split_notes: Those of the notes that are about the splits, which folds don't take.
    """

    name: str
    classes: tuple[str, ...]
    splits: dict[str, Split]
    audio_card: Json = field(default_factory=dict)
    visual_card: Json = field(default_factory=dict)
    simulated: bool = False
    note: str = ""
    step: float = 1.0
    origin: str = ""
    drawn: bool = False
    recordings: Mapping[str, str] = field(default_factory=dict, repr=False)
    notes: tuple[str, ...] = ()
    split_notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {len(split)}" for name, split in self.splits.items())
        return f"<Dataset {self.name!r}: {len(self.classes)} classes, clips: {sizes}>"

    @property
    def title(self) -> str:
        """Its name for people, which says so where the features are simulated."""
        return f"{self.name} (simulated features)" if self.simulated else self.name

    def recording_of(self, clip: str) -> str:
        """The recording that a clip, by name, was cut from; its own name where it wasn't cut."""
        return self.recordings.get(clip, clip)

    def recordings_of(self, clips: Iterable[str]) -> set[str]:
        """The recordings that clips, by name, were cut from."""
        return {self.recording_of(clip) for clip in clips}

    @property
    def train(self) -> Split:
        """The training split of SEL and WSEL."""
        return self.splits["train"]

    @property
    def val(self) -> Split:
        """The validation split of SEL and WSEL."""
        return self.splits["val"]

    @property
    def test(self) -> Split:
        """The test split of SEL and WSEL."""
        return self.splits["test"]


def fingerprint(dataset: Dataset) -> str:
    """The sha256 that says two results are about the same data.

    Over the classes, both backbones' cards, the step, the origin, and of each split the ids,
    lengths and labels (and tags, where it has its own). The features themselves aren't read: files
    that change under the same names and labels are the same data to it.
    """
    digest = hashlib.sha256()
    cards = [backbone_identity(c) for c in (dataset.audio_card, dataset.visual_card)]
    head = [dataset.classes, cards, dataset.step, dataset.simulated]
    head += [dataset.origin] if dataset.origin else []
    digest.update(json.dumps(head, sort_keys=True).encode())
    for name in sorted(dataset.splits):
        split = dataset.splits[name]
        digest.update(json.dumps([name, split.ids]).encode())
        for array in (split.lengths, split.labels, split.tags):
            if array is not None:
                kind = np.float32 if array is split.tags else np.int64
                digest.update(np.ascontiguousarray(array, dtype=kind).tobytes())
    return digest.hexdigest()


_LOADERS = {"ave": "avel.data.ave.dataset", "folder": "avel.data.folder"}


def names() -> list[str]:
    """The names that :func:`load_dataset` knows."""
    return sorted(_LOADERS)


def load_dataset(name: str, *, root: str | Path, **options: Any) -> Dataset:
    """A data set by name from its folder.

    Args:
        name: ``"ave"`` (the published files) or ``"folder"`` (clips with annotations, Toybox too).
        root: Its folder.
        options: The loader's own, see ``avel.data.ave.dataset.load`` and ``avel.data.folder.load``.

    Raises:
        UsageError: for an unknown name, or an option that the data set doesn't have.
        DataError: if files are missing or wrong, all of them named at once.
    """
    if name not in _LOADERS:
        raise unknown_name("data set", name, _LOADERS)
    load: Callable[..., Dataset] = importlib.import_module(_LOADERS[name]).load
    known = list(inspect.signature(load).parameters)[1:]
    for option in options:
        if option not in known:
            raise unknown_name(f"option of the data set {name}", option, known)
    return load(Path(root), **options)
