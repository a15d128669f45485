"""The media files that a call names: files, folders, and lists of paths."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePath

from avel.errors import AvelError, DataError, UsageError, all_at_once
from avel.features.corpus import MediaJob
from avel.features.store import FOLDER, FeatureNames, feature_path
from avel.files import is_media

#: The ending of copies that show a video's events: in a folder they are no videos of their own.
COPY_ENDING = ".events.mp4"
#: Endings of text files that hold a path a line.
LISTS = (".txt", ".lst", ".list")
#: A list above this size isn't read: 256 MiB are a few million paths.
LARGEST = 256 * 2**20
_LONGEST = 4096  # characters of a path
#: Files at least whose length is probed, and the bytes below which none is.
_PROBED, _WORTH_PROBING = 16, 8 * 2**20
_ENDING = ".safetensors"


@dataclass(frozen=True)
class FilePlan:
    """The files of a call, listed anew at each use.

    Args:
        inputs: Files, folders and lists, as the caller named them.
        out: A folder for all features, one feature file (``named``), or None for their own places.
        named: Whether ``out`` is a feature file.
        count: How many files there are.
        stores: The folders of features that get a manifest.
        only: Names of the files that are taken; all if None.
    """

    inputs: tuple[Path, ...]
    out: Path | None
    named: bool = False
    count: int = 0
    stores: tuple[Path, ...] = ()
    only: frozenset[str] | None = None

    def jobs(self, quarantine: Mapping[str, Mapping[str, str]] | None = None) -> Iterator[MediaJob]:
        """Each file with the place of its features.

        Args:
            quarantine: By folder of features, the hashes of files in quarantine by name.
        """
        from avel.features.manifest import plain_name

        for path in self.inputs:
            for job in _jobs(path, self.out, named=self.named, alone=len(self.inputs) == 1):
                if self.only is not None and job.name not in self.only:
                    continue
                bad = (quarantine or {}).get(job.store, {}).get(plain_name(job.name), "")
                yield replace(job, quarantine=bad) if bad else job


def plan(
    inputs: Sequence[Path], out: Path | None, *, only: frozenset[str] | None = None
) -> FilePlan:
    """List the inputs once: how many files there are, and where each one's features go.

    Args:
        inputs: Media files, folders (all media files in them, hidden ones left out), and lists:
            text files with a path a line, relative to the list's own folder.
        out: A folder for the features, or ``NAME.safetensors`` for one file. Without it features
            go beside a file, to ``DIR/features`` for a folder, and to ``features`` beside a list.
        only: Names of the files that are taken, relative to the one folder; all if None.

    Raises:
        UsageError: if two would be written to one file, or one file is named for several inputs.
        DataError: if a folder or a list holds no media files, or a list is damaged.
    """
    named = out is not None and out.suffix == _ENDING and not out.is_dir()
    if named and (len(inputs) > 1 or inputs[0].is_dir() or _is_list(inputs[0])):
        raise UsageError(
            f"one output {out} can't hold several files", expected="a folder", hint="-o FOLDER"
        )
    walk = FilePlan(tuple(inputs), out, named, only=only)
    count, stores = 0, dict[str, None]()
    taken, twice = set[int](), set[int]()
    mirrored, last = len(inputs) == 1 and inputs[0].is_dir(), ""
    for job in walk.jobs():
        here = str(Path(job.target).parent)
        if mirrored and here != last:  # a folder's files can only clash with one another
            taken, last = set(), here
        place = _place(job)
        (twice if place in taken else taken).add(place)
        if job.store:
            stores[job.store] = None
        count += 1
    if twice:
        _refuse_clashes(walk, twice)
    return replace(walk, count=count, stores=tuple(map(Path, stores)))


def absolute(path: str | Path) -> str:
    """The whole path, ``..`` taken out, links not followed."""
    return os.path.abspath(path)  # noqa: PTH100


def _place(job: MediaJob) -> int:
    return hash(absolute(job.target))


def _refuse_clashes(walk: FilePlan, twice: set[int]) -> None:
    places: dict[str, list[str]] = {}
    for job in walk.jobs():
        if _place(job) in twice:
            places.setdefault(job.target, []).append(job.media)
    clashes = [f"{target} from {' and '.join(files)}" for target, files in places.items()]
    cure = "rename one of each, or extract them into folders of their own"
    raise all_at_once("features would be written twice", clashes, hint=cure)


def _jobs(path: Path, out: Path | None, *, named: bool, alone: bool) -> Iterator[MediaJob]:
    """The jobs of one input; where it isn't alone, the manifest names whole paths."""
    if path.is_dir():
        yield from _of_folder(path, out, alone=alone)
    elif _is_list(path):
        yield from _of_list(path, out, alone=alone)
    else:
        beside = path.with_name(FeatureNames().of(path))
        target = beside if out is None else out if named else out / beside.name
        store = "" if out is None or named else str(out)
        yield MediaJob(absolute(path), str(path), str(target), store)


def _of_folder(root: Path, out: Path | None, *, alone: bool) -> Iterator[MediaJob]:
    store, some, names = str(out or root / FOLDER), False, FeatureNames()
    for file in media_files(root):
        name = file.relative_to(root).as_posix() if alone else absolute(file)
        yield MediaJob(name, str(file), str(feature_path(root, file, out=out, names=names)), store)
        some = True
    if not some:
        raise DataError(
            f"{root} holds no media files", expected="mp4, mkv, wav… in it or its folders"
        )


def media_files(root: Path) -> Iterator[Path]:
    """A folder's media files and those of its folders, in a fixed order.

    Hidden ones are left out, and copies that show a video's events (``street.events.mp4``).

    One folder's names are in memory at a time; linked folders aren't followed.
    """
    for place, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(place, name)
            listed = is_media(file) and not name.lower().endswith(COPY_ENDING)
            if listed and not name.startswith(".") and file.is_file():
                yield file


#: Endings of what lies in folders of media as a matter of course: labels, pages, pictures of
#: events, features, and what avel writes beside them.
_COMPANIONS = frozenset(
    (".csv", ".eaf", ".edl", ".html", ".json", ".otio", ".safetensors", ".srt", ".textgrid")
) | {".toml", ".tsv", ".txt", ".vtt"}


def passed_over(inputs: Iterable[Path]) -> list[str]:
    """The files in a call's folders that are neither media nor their companions, by their endings.

    Hidden ones, and those of feature folders, aren't among them.
    """
    skipped = []
    for folder in inputs:
        for place, folders, names in os.walk(folder):
            folders[:] = sorted(n for n in folders if not n.startswith(".") and n != FOLDER)
            for name in sorted(names):
                odd = not is_media(name) and Path(name).suffix.lower() not in _COMPANIONS
                if odd and not name.startswith("."):
                    skipped.append(str(Path(place, name)))
    return skipped


def named_files(within: str | Path | Iterable[str | Path]) -> list[Path]:
    """The media files that files and folders name, each once.

    Raises:
        UsageError: if none is named.
        DataError: if a folder holds none.
    """
    listed = [within] if isinstance(within, str | Path) else list(within)
    files: dict[str, Path] = {}
    for path in map(Path, listed):
        inside = list(media_files(path)) if path.is_dir() else [path]
        if not inside:
            raise DataError(f"{path} holds no media files", expected="mp4, mkv, wav… in it")
        for file in inside:
            files.setdefault(absolute(file), file)
    if not files:
        raise UsageError("no files are named", expected="a file or a folder, or several")
    return list(files.values())


def pending_seconds(jobs: Iterable[MediaJob], *, again: bool = False) -> float:
    """About how many seconds of video are to be extracted: by bytes, from a few that are probed.

    Args:
        jobs: Those whose features are there don't count.
        again: Whether they do.

    Returns:
        0 where all of it is so little that probing isn't worth it.
    """
    from avel.media.file import opened

    total, stride, sample = 0, 1, list[tuple[str, int]]()
    pending = (job for job in jobs if again or not Path(job.target).exists())
    for i, job in enumerate(pending):
        with suppress(OSError):  # it is named when it is extracted
            size = Path(job.media).stat().st_size
            total += size
            if i % stride == 0:
                sample.append((job.media, size))
        if len(sample) == 2 * _PROBED:
            stride, sample = 2 * stride, sample[::2]
    if total < _WORTH_PROBING:
        return 0.0
    seconds, probed = 0.0, 0
    for media, size in sample:
        with suppress(AvelError, OSError, ValueError):
            file = opened(media)
            seconds += 0.0 if file.video is None else file.duration
            probed += size
    return total * seconds / max(1, probed)


def _is_list(path: Path) -> bool:
    return path.suffix.lower() in LISTS and path.is_file()


def _of_list(path: Path, out: Path | None, *, alone: bool) -> Iterator[MediaJob]:
    root = path.parent
    store = out or root / FOLDER
    listed: set[int] = set()
    names = FeatureNames()
    for line in _lines(path):
        media = root / line
        whole = absolute(media)
        if hash(whole) in listed:
            continue
        listed.add(hash(whole))
        inside = _inside(root, whole)
        where = inside or PurePath(*PurePath(whole).parts[1:])
        if not where.name:
            raise DataError(f"{path}: {line!r} names no file", expected="a path a line")
        name = inside.as_posix() if inside and alone else whole
        target = store / where.with_name(names.of(Path(whole)))
        yield MediaJob(name, str(media), str(target), str(store))
    if not listed:
        raise DataError(f"{path} names no files", expected="a path a line")


def _inside(root: Path, whole: str) -> PurePath | None:
    """The path within the list's folder; None for a file elsewhere."""
    base = PurePath(absolute(root))
    return PurePath(whole).relative_to(base) if PurePath(whole).is_relative_to(base) else None


def _lines(path: Path) -> Iterator[str]:
    size = path.stat().st_size
    if size > LARGEST:
        raise DataError(f"{path} has {size} bytes", expected=f"at most {LARGEST}", hint="split it")
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="\n") as f:
        for number, line in enumerate(iter(partial(f.readline, _LONGEST + 2), ""), 1):
            name = line.rstrip("\r\n")
            if len(name) > _LONGEST or "\0" in name:
                what = "a path too long" if len(name) > _LONGEST else "a zero byte"
                raise DataError(f"{path}:{number}: {what}", expected="text with a path a line")
            if name.strip():
                yield name
