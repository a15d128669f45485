"""Several folders of a person's own clips as one data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from avel.data import folder
from avel.data.annotations import some
from avel.data.base import Dataset, Split
from avel.data.concat import after, join
from avel.errors import DataError, counted
from avel.features.store import FeatureNames, header, stored_path


def load(roots: Sequence[Path], *, partial: bool = False, **options: Any) -> Dataset:
    """The clips of several folders, each with its own splits, over all of their classes.

    A folder that names no split and has fewer than three videos is trained on whole; the others'
    splits are named or drawn as for one folder. A file that lies in several folders counts once:
    with the labels of the last folder, in the split of the first, so that corrections of a test
    clip aren't trained on.

    Args:
        roots: Two or more.
        partial: Whether splits may be missing, as for evaluation alone.
        options: As for :func:`avel.data.folder.load`, the same for all folders.

    Raises:
        DataError: if a folder can't be read, the folders don't fit, or a split is missing.
    """
    resolved = [root.resolve() for root in roots]
    if len(set(resolved)) < len(resolved):
        raise DataError(f"a folder stands twice in data={','.join(map(str, roots))}",
                        hint="name each folder once")  # fmt: skip
    names = _names(resolved)
    datasets = [_load_one(root, names[root], partial=partial, **options) for root in resolved]
    datasets, notes = _count_once(resolved, datasets, options.get("features"))
    joined = join([d for d in datasets if d.splits], union=True)
    lacking = [s for s in ("train", "val", "test") if s not in joined.splits]
    if lacking and not partial:
        raise DataError(f"{joined.name} has no clip in {' or '.join(lacking)}",
                        expected="train, val and test in one of the folders",
                        hint="name splits, or add clips")  # fmt: skip
    copies = {d.name: len(d.train.copies) for d in datasets if "train" in d.splits}
    if "train" in joined.splits and len(joined.train.copies) < max(copies.values()):
        counts = ", ".join(f"{name} {count}" for name, count in copies.items())
        notes.append(
            f"Altered copies are read as many as each folder has: {len(joined.train.copies)} "
            f"({counts}; avel extract DIR --copies makes more)."
        )
    return replace(joined, notes=(*joined.notes, *notes))


def _names(roots: Sequence[Path]) -> dict[Path, str]:
    """A name for each folder: its last part, or as many as tell it from the others."""
    for count in range(1, max(len(r.parts) for r in roots) + 1):
        names = {root: "-".join(root.parts[-count:]).strip("/") for root in roots}
        if len(set(names.values())) == len(roots):
            break
    return names


def _load_one(root: Path, name: str, *, partial: bool, **options: Any) -> Dataset:
    data = replace(folder.load(root, partial=True, **options), name=name)
    if partial or not data.drawn or set(data.splits) != {"test"}:
        return data
    few = counted(len({*data.recordings.values()}), "video")
    note = f"No split is named: {few}, all in train."
    notes = (*(n for n in data.notes if not n.startswith("No split is named")), note)
    return replace(data, splits={"train": replace(data.test, name="train")}, notes=notes)


def _count_once(
    roots: Sequence[Path], datasets: Sequence[Dataset], features: str | None
) -> tuple[list[Dataset], list[str]]:
    """The data sets with each file once: where it comes last, in the split where it comes first."""
    files = [_files(root, data, features) for root, data in zip(roots, datasets, strict=True)]
    last = {content: i for i, known in enumerate(files) for content in known}
    split_of: dict[str, str] = {}
    for known in files:
        for content, (_, split) in known.items():
            split_of.setdefault(content, split)
    left, notes = [], []
    for i, (data, known) in enumerate(zip(datasets, files, strict=True)):
        again = {file for content, (file, _) in known.items() if last[content] != i}
        moved = {
            file: split_of[content]
            for content, (file, split) in known.items()
            if last[content] == i and split != split_of[content]
        }
        left.append(_regrouped(data, again, moved))
        if again:
            notes.append(
                f"{counted(len(again), 'file')} of {data.name} ({some(sorted(again))}) again in a "
                "later folder, whose labels are taken."
            )
    return left, notes


def _files(root: Path, data: Dataset, features: str | None) -> dict[str, tuple[str, str]]:
    """By the sha256 of a file: its name in the folder, and its split."""
    names, known = FeatureNames(), {}
    for split, clips in data.splits.items():
        for file in dict.fromkeys(_file(clip, root) for clip in clips.ids):
            content = header(stored_path(root, file, out=features, names=names)).get("content")
            if content:
                known[str(content)] = (file, split)
    return known


def _file(clip: str, root: Path) -> str:
    """The file of an excerpt ``file#first``."""
    file, sign, first = clip.rpartition("#")
    return file if sign and first.isdigit() and not (root / clip).exists() else clip


def _regrouped(data: Dataset, without: set[str], moved: Mapping[str, str]) -> Dataset:
    """A data set without some files, and with some in another split."""
    if not without and not moved:
        return data
    splits: dict[str, Split] = {}
    for name, split in data.splits.items():
        target = [
            "" if (file := clip.rpartition("#")[0] or clip) in without or clip in without
            else moved.get(clip, moved.get(file, name))
            for clip in split.ids
        ]  # fmt: skip
        for to in dict.fromkeys(t for t in target if t):
            rows = np.flatnonzero([t == to for t in target])
            part = split.subset(rows, name=to)
            splits[to] = after(splits[to], part) if to in splits else part
    return replace(data, splits=splits)
