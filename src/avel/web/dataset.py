"""Corrections as a data set: the folder for `avel extract DIR` and `avel train data=DIR`."""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from unicodedata import normalize

from avel.data.annotation_table import LabelledClip
from avel.data.annotations import LARGEST, SERVE_MARK, path_inside
from avel.errors import AvelError, DataError
from avel.features.content_hashes import ContentHashes
from avel.features.listing import COPY_ENDING, media_files
from avel.files import disk_error, file_exists, file_hash, locked, whole, write_whole
from avel.formats.reading import text_of
from avel.types import Event
from avel.web.dataset_labels import LabelFile, LabelTarget, label_target
from avel.web.owned_folders import claim_folder
from avel.web.store import Job, Store
from avel.web.uploads import plain_name

_VIDEOS = "videos"
_TEXT = """`avel serve --data` adds corrected files to this folder, and their labels.
What else is put here stays as it is. What it added, a line each:
"""
#: The first line of an older version's mark, which has a name of its own videos a line.
_OLD_TEXT = "`avel serve --data` keeps corrected jobs here"
#: Names of the server's own videos of older versions: the job's id.
_OLD_VIDEO = re.compile(r"([0-9a-f]{16})\.\w{1,8}")
#: Signs that some systems don't have in names.
_NOT_IN_NAMES = re.compile(r'[\\/:*?"<>|]')
#: Most bytes of a name: 255 are possible, and features and label files add an ending.
_NAME_BYTES = 180
#: Fewer clips can't be split into a training, a validation and a test set.
MIN_CLIPS = 3


@dataclass(frozen=True)
class _FolderEntry:
    """What the folder has of a job.

    Args:
        state: The ``identity`` of the server's store.
        job: The job's id.
        file: The clip, relative to the folder, with ``/``.
        linked: Whether the server put the clip here; otherwise it is a person's, and only the
            labels are the server's.
        labels: The label file, in a data set without a table.
    """

    state: int
    job: str
    file: str
    linked: bool
    labels: LabelFile | None = None


@dataclass(frozen=True)
class _CorrectedClip:
    """A corrected job: what the folder has of it, its events, the content (sha256) of its file."""

    entry: _FolderEntry
    job: Job
    events: tuple[Event, ...]
    content: str


class CorrectedDataset:
    """A data set to which corrected jobs are added: files as hard links or copies, and labels.

    A file keeps its name, numbered where another one has it. A file that lies in the data set
    already gets labels where it lies, or keeps those that a person made. Files and labels that a
    person adds stay as they are.

    Args:
        folder: New, empty, or a data set: clips, with or without labels.
        store: The jobs and corrections.
        media_of: Where a job's file lies.
        hashes: Of files in the folder and outside.

    Raises:
        DataError: for a folder that holds something else, or labels to which none can be added.
    """

    def __init__(
        self, folder: Path, store: Store, media_of: Callable[[Job], Path], hashes: ContentHashes
    ) -> None:
        self.folder, self._store, self._media_of = folder, store, media_of
        self._lock, self._hashes = threading.Lock(), hashes
        #: Why the folder isn't up to date, or None.
        self.trouble: AvelError | None = None
        #: What was left out, a sentence each.
        self.notes: list[str] = []
        #: How many clips of the folder have labels, corrected or not.
        self.labelled = 0
        has_clips = folder.is_dir() and any(True for _ in media_files(folder))
        if has_clips and not (folder / SERVE_MARK).is_file():
            label_target(folder, (), {})  # refused before anything is written
        claim_folder(
            folder, SERVE_MARK, _TEXT, option="--data", known=has_clips,
            expected="a new folder, an empty one, or a data set: clips with or without labels",
        )  # fmt: skip
        self.update()

    def update(self) -> None:
        """Write the present corrections; an error becomes :attr:`trouble` and is not raised.

        A file that is missing in its root is left out, and noted.
        """
        with self._lock, locked(self.folder):
            try:
                self._update()
            except OSError as e:
                self.trouble = _stale(disk_error(e, e.filename or self.folder))
            except AvelError as e:
                self.trouble = _stale(e)
            else:
                self.trouble = None

    def _update(self) -> None:
        before, others = self._read_mark()
        target = self._labels(before)
        clips, notes = self._clips(before, others, target)
        labelled = [_labelled(clip) for clip in clips]
        plan = target.plan(labelled)
        files = {clip.entry.file for clip in clips}
        dropped = [entry for entry in before if entry.file not in files]
        now = [replace(clip.entry, labels=plan.files.get(clip.entry.file)) for clip in clips]
        # first: whatever happens, the files are known as the server's
        self._write_mark([*now, *dropped], others)
        try:
            self._put(clips, labelled, before)
        except OSError:  # a full disk, perhaps: removing videos makes room
            self._remove(dropped)
            self._put(clips, labelled, before)
        self._remove(dropped)
        self._write_mark([_settled(entry) for entry in now], others)
        self._hashes.save()
        self.labelled = sum(file_exists(self.folder / f) for f in files | target.labelled)
        self.notes = [*notes, *plan.notes]

    def _put(
        self,
        clips: Iterable[_CorrectedClip],
        labelled: Sequence[LabelledClip],
        before: Collection[_FolderEntry],
    ) -> None:
        """Put clips and labels into the folder; a person may have saved labels meanwhile."""
        for clip in clips:
            if clip.entry.linked and not self._has_content(clip.entry.file, clip.content):
                _link(self._media_of(clip.job), self.folder / clip.entry.file)
        self._labels(before).plan(labelled).write()

    def _labels(self, before: Collection[_FolderEntry]) -> LabelTarget:
        """Where the folder has its labels at this moment."""
        own_labels = {entry.file: entry.labels for entry in before if entry.labels}
        return label_target(self.folder, {entry.file for entry in before}, own_labels)

    # --- the mark, which says what the server added ----------------------------------------------

    def _read_mark(self) -> tuple[list[_FolderEntry], list[str]]:
        """What this server added, and the lines of others, which stay as they are."""
        mark = self.folder / SERVE_MARK
        text = text_of(mark, LARGEST) if mark.is_file() else _TEXT
        if not text.startswith(_TEXT):
            listed = text.splitlines()[2:] if text.startswith(_OLD_TEXT) else []
            return self._old_entries(listed or _names_in(self.folder / _VIDEOS)), []
        entries, others = [], []
        for line in text.removeprefix(_TEXT).splitlines():
            entry = _entry_of(line)
            if entry is not None and entry.state == self._store.identity:
                entries.append(entry)
            else:
                others.append(line)
        return entries, others

    def _old_entries(self, names: Iterable[str]) -> list[_FolderEntry]:
        """The videos of an older version, named after the jobs of this store."""
        matches = (_OLD_VIDEO.fullmatch(name) for name in names)
        return [
            _FolderEntry(self._store.identity, match[1], f"{_VIDEOS}/{match[0]}", linked=True)
            for match in matches
            if match and self._store.get(match[1])
        ]

    def _write_mark(self, entries: Collection[_FolderEntry], others: Collection[str]) -> None:
        lines = [json.dumps(asdict(e), sort_keys=True) for e in entries]
        text = _TEXT + "".join(f"{line}\n" for line in [*others, *sorted(lines)])
        mark = self.folder / SERVE_MARK
        if not mark.is_file() or mark.read_text("utf-8") != text:
            write_whole(mark, text)

    # --- which file of the folder a job has ------------------------------------------------------

    def _clips(
        self, before: Collection[_FolderEntry], others: Collection[str], labels: LabelTarget
    ) -> tuple[list[_CorrectedClip], list[str]]:
        """The corrected jobs with their files in the folder, and notes about those left out."""
        entries = {entry.job: entry for entry in before}
        names = _Names(self.folder, labels.labelled, before, others)
        clips: dict[str, _CorrectedClip] = {}
        notes = []
        for job, events in reversed(self._store.corrected()):  # of equal files the last one counts
            try:
                content = self._content(job, entries.get(job.id))
                entry = self._entry(job, entries.get(job.id), content, before, names)
            except AvelError as e:
                notes.append(f"{job.name} is left out: {e.got}.")
                continue
            equal = [c for c in clips.values() if c.content == content]
            if entry.file in labels.labelled:
                notes.append(f"{job.name} is left out: {entry.file} has labels of a person, which "
                             "stay as they are. To have the correction, remove them.")  # fmt: skip
            elif entry.file in clips or (equal and not labels.groups_videos):
                other = clips.get(entry.file) or equal[0]
                notes.append(f"{job.name} is left out: it is the same file as {other.job.name}, "
                             "which was corrected too.")  # fmt: skip
            else:
                clips[entry.file] = _CorrectedClip(entry, job, events, content)
        return list(reversed(clips.values())), list(reversed(notes))

    def _content(self, job: Job, entry: _FolderEntry | None) -> str:
        """The sha256 of a job's file when it was localized."""
        known = str(job.facts.get("content", ""))
        present = self.folder / entry.file if entry else None
        return known or self._hashes.of(
            present if present and present.is_file() else self._media_of(job)
        )

    def _entry(
        self, job: Job, entry: _FolderEntry | None, content: str, before: Collection[_FolderEntry],
        names: _Names,
    ) -> _FolderEntry:  # fmt: skip
        """What the folder has of a job, or is to have.

        Raises:
            AvelError: if a file is needed that is missing, or isn't the one that was localized.
        """
        current = entry is not None and self._has_content(entry.file, content)
        if entry is not None and current and not _is_old(entry):
            return entry
        try:
            media = self._media_of(job)
            if self._hashes.of(media) != content:
                raise DataError(f"the file has changed since {job.name} was localized",
                                hint="detect its events again")  # fmt: skip
        except AvelError:
            if entry is not None and current:
                return entry
            raise
        if entry is not None and entry.linked and not _is_old(entry):
            return entry
        return self._new_entry(job, media, content, before, names)

    def _new_entry(
        self, job: Job, media: Path, content: str, before: Collection[_FolderEntry], names: _Names
    ) -> _FolderEntry:
        """The clip of a job: one of the folder with its content, or a new name."""
        linked = {entry.file for entry in before if entry.linked}
        size = media.stat().st_size
        for path in media_files(self.folder):
            file = path.relative_to(self.folder).as_posix()
            if (
                file not in linked
                and path.stat().st_size == size
                and self._has_content(file, content)
            ):
                return _FolderEntry(self._store.identity, job.id, file, linked=False)
        file = names.take(job.name, media.suffix)
        return _FolderEntry(self._store.identity, job.id, file, linked=True)

    # --- files -----------------------------------------------------------------------------------

    def _has_content(self, file: str, content: str) -> bool:
        return file_exists(self.folder / file) and self._hashes.of(self.folder / file) == content

    def _remove(self, entries: Iterable[_FolderEntry]) -> None:
        """Remove what the server added of jobs; label files that a person has changed stay."""
        for entry in entries:
            labels = entry.labels and self.folder / entry.labels.path
            if entry.labels and labels and labels.is_file():
                if file_hash(labels) not in entry.labels.digests:
                    continue
                labels.unlink()
            if entry.linked:
                (self.folder / entry.file).unlink(missing_ok=True)


class _Names:
    """Names for new clips in ``videos``, none of which another file has.

    Args:
        folder: The data set.
        labelled: Files with labels, which may be missing.
        entries: What the server added, which may be missing.
        others: The lines of other servers' files.
    """

    def __init__(
        self, folder: Path, labelled: Iterable[str], entries: Iterable[_FolderEntry],
        others: Iterable[str],
    ) -> None:  # fmt: skip
        added = [*entries, *(e for line in others if (e := _entry_of(line)))]
        files = [*labelled, *(e.file for e in added)]
        names = [*_names_in(folder / _VIDEOS), *(PurePosixPath(file).name for file in files)]
        self._taken = {_folded(name) for name in names}

    def take(self, name: str, ending: str) -> str:
        """The path of a new clip: the file's own name, numbered where another one has it."""
        stem, ending = _plain_name(name, ending)
        free = (
            candidate
            for candidate in _numbered(stem, ending)
            if _folded(candidate) not in self._taken and not _is_copy(candidate)
        )
        chosen = next(free)
        self._taken.add(_folded(chosen))
        return f"{_VIDEOS}/{chosen}"


def _names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def _numbered(stem: str, ending: str) -> Iterator[str]:
    """``street.mp4``, ``street (2).mp4``, …"""
    yield f"{stem}{ending}"
    number = 2
    while True:
        yield f"{stem} ({number}){ending}"
        number += 1


def _plain_name(name: str, ending: str) -> tuple[str, str]:
    """The stem and the ending of a file's name, as every system can have them."""
    plain, ending = (_NOT_IN_NAMES.sub("_", text) for text in (plain_name(name), ending))
    if ending and plain.lower().endswith(ending.lower()):
        plain, ending = plain[: -len(ending)], plain[-len(ending) :]
    stem = plain.encode("utf-8", "ignore")[:_NAME_BYTES].decode("utf-8", "ignore")
    return stem.strip(". ") or "clip", ending


def _folded(name: str) -> str:
    """A name as systems compare it that don't tell ``A`` from ``a``."""
    return normalize("NFC", name).casefold()


def _is_copy(name: str) -> bool:
    """Whether `avel extract` takes a name for a copy that shows a video's events."""
    return name.lower().endswith(COPY_ENDING)


def _is_old(entry: _FolderEntry) -> bool:
    """Whether a clip has the name that older versions gave it."""
    return PurePosixPath(entry.file).stem == entry.job


def _entry_of(line: str) -> _FolderEntry | None:
    """A line of the mark, or None for anything that the server doesn't write."""
    try:
        row = json.loads(line)
        label_file = row.pop("labels")
        labels = label_file and LabelFile(label_file["path"], tuple(label_file["digests"]))
        entry = _FolderEntry(**row, labels=labels)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    paths = [entry.file, *([entry.labels.path] if entry.labels else [])]
    plain = all(isinstance(text, str) for text in (entry.job, *paths))
    if not plain or any(path_inside(Path(), path) != path for path in paths):
        return None
    own = PurePosixPath(entry.file).parent == PurePosixPath(_VIDEOS)
    return entry if own or not entry.linked else None


def _settled(entry: _FolderEntry) -> _FolderEntry:
    """The entry once its label file is written."""
    labels = entry.labels and replace(entry.labels, digests=entry.labels.digests[-1:])
    return replace(entry, labels=labels)


def _labelled(clip: _CorrectedClip) -> LabelledClip:
    start = float(clip.job.facts.get("player_start", 0.0))
    return LabelledClip(clip.entry.file, clip.events, clip.content[:32], start)


def _stale(why: AvelError) -> AvelError:
    got = f"the data set isn't up to date: {why.got}"
    return DataError(got, expected=why.expected, hint=why.hint)


def _link(media: Path, target: Path) -> None:
    """A hard link where the disk allows, or a copy."""
    with whole(target) as temporary:
        temporary.unlink()
        try:
            os.link(media, temporary)
        except OSError:
            shutil.copyfile(media, temporary)
