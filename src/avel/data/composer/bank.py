"""The files that clips are composed of, divided by source into splits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from avel.data.composer.pairs import SPLITS, Pairs, SideRule, Sides, name_parts
from avel.errors import DataError, listed
from avel.files import MEDIA_ENDINGS, file_hash

#: Endings of photographs.
PICTURES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
#: Endings of recordings; of a video its sound is taken.
RECORDINGS = MEDIA_ENDINGS


@dataclass(frozen=True)
class SourceFile:
    """A file.

    Args:
        file: Relative to its folder (of all sounds, images or backgrounds), with ``/``.
        source: The recording that it is of; files of one source stand on one side.
    """

    file: str
    source: str


#: Sources of each split and class; backgrounds have the one class "".
Shared = Mapping[str, Mapping[str, tuple[SourceFile, ...]]]


@dataclass(frozen=True)
class Bank:
    """Everything that clips may be composed of.

    Args:
        sounds, images: By split and label.
        backgrounds: By split, or the images themselves where no folder of backgrounds was given.
        roots: The folder of ``"sounds"``, ``"images"`` and ``"backgrounds"``.
        twins: Files left out of training or validation since another side holds the same bytes.
        fingerprint: sha256 over all files' names, sizes and sides.
    """

    sounds: Shared
    images: Shared
    backgrounds: Mapping[str, tuple[SourceFile, ...]]
    roots: Mapping[str, Path]
    twins: int
    fingerprint: str

    @cached_property
    def by_source(self) -> dict[tuple[str, str, str], list[list[SourceFile]]]:
        """Files grouped by source, under (``"sounds"``…, split, label); a background's is ""."""
        ground = {split: {"": files} for split, files in self.backgrounds.items()}
        parts = {"sounds": self.sounds, "images": self.images, "backgrounds": ground}
        groups: dict[tuple[str, str, str], dict[str, list[SourceFile]]] = {}
        for what, shared in parts.items():
            for split, label, file in _each(shared):
                files_of_source = groups.setdefault((what, split, label), {})
                files_of_source.setdefault(file.source, []).append(file)
        return {key: list(files_of_source.values()) for key, files_of_source in groups.items()}


def find_sources(
    pairs: Pairs,
    *,
    sounds: str | Path,
    images: str | Path,
    backgrounds: str | Path | None = None,
) -> Bank:
    """List the files of a person's folders and share them out; nothing is decoded.

    Args:
        pairs: Which folders belong together, and who stands where.
        sounds: The folder of recordings, ``<sound>/…`` for each pair.
        images: The folder of photographs, ``<image>/…`` for each pair.
        backgrounds: A folder of photographs for backgrounds alone; else the images are taken.

    Raises:
        DataError: with everything that is wrong at once: folders and sides without a file, names
            that don't fit, sources that would stand on two sides.
    """
    mistakes: list[str] = []
    roots = {"sounds": Path(sounds), "images": Path(images)}
    folders = {"sounds": {p.label: p.sound for p in pairs.pairs}}
    folders["images"] = {p.label: p.image for p in pairs.pairs}
    if backgrounds is not None:
        roots["backgrounds"], folders["backgrounds"] = Path(backgrounds), {"": "."}
    shared: dict[str, Shared] = {}
    for what, root in roots.items():
        sides: Sides = getattr(pairs, what)
        endings = RECORDINGS if what == "sounds" else PICTURES
        files = _files(root, folders[what], sides, endings, mistakes)
        shared[what] = _divide(files, sides, mistakes)
    _stop(mistakes)
    pictures = [what for what in roots if what != "sounds"]
    twins = sum(
        _drop_twins([(shared[what], roots[what]) for what in group])
        for group in (["sounds"], pictures)
    )
    needed = [s for s in SPLITS if pairs.clips[s]]
    mistakes = [
        f"{root / folders[what][label]}: no file is left for {split} (add files, give {split} "
        f"another share in [{what}], or say {split} = 0 in [clips])"
        for what, root in roots.items()
        for split in needed
        for label, files in shared[what][split].items()
        if not files
    ]
    _stop(mistakes)
    ground = shared.get("backgrounds") or shared["images"]
    return Bank(
        sounds=shared["sounds"],
        images=shared["images"],
        backgrounds={s: tuple(f for own in ground[s].values() for f in own) for s in SPLITS},
        roots={**roots, "backgrounds": roots.get("backgrounds", roots["images"])},
        twins=twins,
        fingerprint=_fingerprint(shared, roots),
    )


def _stop(mistakes: Sequence[str]) -> None:
    if mistakes:
        raise DataError(
            f"the folders don't fit the pairs:{listed(mistakes)}",
            hint="mend them all (docs/composer.md)",
        )


#: Files of each class with the parts of their names.
_Files = dict[str, list[tuple[SourceFile, dict[str, str]]]]


def _files(
    root: Path,
    folders: Mapping[str, str],
    sides: Sides,
    endings: Iterable[str],
    mistakes: list[str],
) -> _Files:
    """The files of each class's folder in the order of their names."""
    files_of: _Files = {}
    taken: dict[Path, str] = {}
    for label, name in folders.items():
        files_of[label] = []
        folder = root / name
        if not folder.is_dir():
            mistakes.append(f"no folder {folder}")
            continue
        if taken.setdefault(folder.resolve(), label) != label:
            mistakes.append(f"{folder} is the folder of {taken[folder.resolve()]} too")
        unfit = []
        for path in sorted(folder.iterdir()):
            if path.name.startswith(".") or path.suffix.lower() not in endings:
                continue
            if not path.is_file():
                continue
            if not path.name.isprintable():  # not UTF-8 among them
                mistakes.append(f"{folder}: {path.name!r} can't be written: rename it")
                continue
            parts = name_parts(path.stem, sides.parts) if sides.parts else {}
            file = path.relative_to(root).as_posix()
            if parts is None:
                unfit.append(path.name)
                continue
            source = parts[sides.source] if sides.source else file
            files_of[label].append((SourceFile(file, source), parts))
        if unfit:
            form = sides.parts
            mistakes.append(f"{folder}: {len(unfit)} names don't fit {form!r}, like {unfit[0]!r}")
        elif not files_of[label]:
            known = ", ".join(sorted(endings))
            mistakes.append(f"{folder}: no files of {known} (folders within aren't searched)")
    return files_of


def _divide(
    files_of: _Files, sides: Sides, mistakes: list[str]
) -> dict[str, dict[str, tuple[SourceFile, ...]]]:
    """Files by split and class; a source that two classes hold stays where the first put it."""
    side_of: dict[str, str] = {}
    for files in files_of.values():
        unassigned = [(f, parts) for f, parts in files if f.source not in side_of]
        for split, rule in (("test", sides.test), ("val", sides.val)):
            side_of |= dict.fromkeys(_chosen(unassigned, rule, mistakes), split)
            unassigned = [(f, parts) for f, parts in unassigned if f.source not in side_of]
        side_of |= {f.source: "train" for f, _ in unassigned}
    for files in files_of.values():
        for split, rule in (("test", sides.test), ("val", sides.val)):
            mistakes += [
                f"source {f.source!r} of {f.file} stands in {side_of[f.source]}, and in {split} by "
                f"its {rule.part}"
                for f, parts in files
                if rule.part and rule.contains(parts) and side_of[f.source] not in ("test", split)
            ]
    return {
        s: {
            c: tuple(f for f, _ in files_of_class if side_of[f.source] == s)
            for c, files_of_class in files_of.items()
        }
        for s in SPLITS
    }


def _chosen(
    left: Sequence[tuple[SourceFile, dict[str, str]]], rule: SideRule, mistakes: list[str]
) -> list[str]:
    """The sources on a side: those that its part names, or its share in the order of a hash."""
    if rule.part:
        inside = {f.source for f, parts in left if rule.contains(parts)}
        outside = {f.source for f, parts in left if not rule.contains(parts)}
        mistakes += [f"source {s!r} stands on two sides by its {rule.part}" for s in
                     sorted(inside & outside)]  # fmt: skip
        return sorted(inside)
    sources = {f.source for f, _ in left}
    ordered = sorted(sources, key=lambda s: hashlib.sha256(s.encode()).hexdigest())
    count = round(rule.share * len(ordered))
    return ordered[: max(count, 1) if rule.share > 0 and len(ordered) > 1 else count]


def _drop_twins(parts: Sequence[tuple[Shared, Path]]) -> int:
    """Leave out of val what test holds under another name, and of train what either holds.

    Args:
        parts: Files shared out, and their folder; a twin may stand in another part.
    """
    sizes: dict[int, list[tuple[str, int, str, SourceFile]]] = {}
    for part, (shared, root) in enumerate(parts):
        for split, label, file in _each(shared):
            size = (root / file.file).stat().st_size
            sizes.setdefault(size, []).append((split, part, label, file))
    dropped: dict[tuple[str, int, str], set[str]] = {}
    for group in sizes.values():
        if len({split for split, *_ in group}) < 2:
            continue
        first: dict[str, str] = {}
        for split, part, label, file in sorted(group, key=lambda g: SPLITS[::-1].index(g[0])):
            if first.setdefault(file_hash(parts[part][1] / file.file), split) != split:
                dropped.setdefault((split, part, label), set()).add(file.file)
    for (split, part, label), files in dropped.items():
        own: dict[str, tuple[SourceFile, ...]] = parts[part][0][split]  # type: ignore[assignment]
        own[label] = tuple(f for f in own[label] if f.file not in files)
    return sum(map(len, dropped.values()))


def _each(shared: Shared) -> Iterator[tuple[str, str, SourceFile]]:
    for split in SPLITS:
        for label, files in shared[split].items():
            for file in files:
                yield split, label, file


def _fingerprint(shared: Mapping[str, Shared], roots: Mapping[str, Path]) -> str:
    digest = hashlib.sha256()
    for what, root in roots.items():
        for split, label, f in _each(shared[what]):
            size = (root / f.file).stat().st_size
            line = json.dumps([what, split, label, f.file, f.source, size])
            digest.update(line.encode() + b"\n")
    return digest.hexdigest()
