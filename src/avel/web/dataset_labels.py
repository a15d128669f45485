"""Where the labels of corrected clips stand in a data set: in its table, or beside each clip."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

from avel.data.annotation_table import AnnotationTable, LabelledClip
from avel.data.annotations import TABLES, TEXTS, Annotations, labelled_clips
from avel.errors import AvelError, DataError
from avel.files import file_exists, file_hash, write_whole
from avel.formats import ending_of, format_endings, format_named
from avel.formats.base import encode_text, timeline_of


@dataclass(frozen=True)
class LabelFile:
    """A label file that the server writes.

    Args:
        path: Relative to the folder, with ``/``.
        digests: The sha256 of what was written last, and of what is being written; a person has
            changed the file if it has another.
    """

    path: str
    digests: tuple[str, ...]


@dataclass(frozen=True)
class LabelPlan:
    """What is to be written.

    Args:
        content: By path.
        files: The label files, by the clip's file.
        notes: What is left out, a sentence each.
    """

    content: Mapping[Path, bytes]
    files: Mapping[str, LabelFile] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def write(self) -> None:
        """Write each file, whole or not at all; one that has the content already stays."""
        for path, data in self.content.items():
            if not path.is_file() or path.read_bytes() != data:
                write_whole(path, data)


class LabelTarget(ABC):
    """Where labels are written."""

    #: The files that a person has labelled, relative to the folder.
    labelled: frozenset[str]
    #: Whether equal files can be told to be one video.
    groups_videos: bool = False

    @abstractmethod
    def plan(self, clips: Sequence[LabelledClip]) -> LabelPlan:
        """The labels of all corrected clips, in place of those that were written before."""


class TableLabels(LabelTarget):
    """Rows of ``annotations.csv`` or ``.tsv``; all other rows stay as they are.

    Args:
        path: The table, which may be missing.
        own_files: The files whose rows the server wrote.

    Raises:
        DataError: if no rows can be added to it.
    """

    def __init__(self, path: Path, own_files: Collection[str]) -> None:
        self._path, self._own = path, frozenset(own_files)
        self._table = AnnotationTable.read(path) if path.is_file() else AnnotationTable(path)
        self.labelled = frozenset(self._table.files) - self._own
        self.groups_videos = "video" in self._table.layout.columns

    def plan(self, clips: Sequence[LabelledClip]) -> LabelPlan:
        """The table."""
        return LabelPlan({self._path: self._table.replaced(self._own, clips)})


class FileLabels(LabelTarget):
    """A label file beside each clip, under its whole name, in the format of most others.

    A label file that a person has changed since it was written stays as it is.

    Args:
        folder: The data set.
        own: The label files that the server wrote.
    """

    def __init__(self, folder: Path, own: Mapping[str, LabelFile]) -> None:
        self._folder, self._own = folder, own
        own_paths = {folder / label_file.path for label_file in own.values()}
        endings = {ending: name for name, ending in format_endings().items()}
        count: Counter[str] = Counter()
        labelled = set()
        for clip, files in labelled_clips(folder, Annotations()):
            of_person = [f for f in files if f not in own_paths]
            count.update(ending_of(f, endings) for f in of_person)
            if of_person:
                labelled.add(clip.relative_to(folder).as_posix())
        self.labelled = frozenset(labelled)
        own_endings = (ending_of(p, endings) for p in own_paths)
        ending = max(count, key=lambda e: (count[e], e), default=next(own_endings, ".csv"))
        self._ending, self._format = ending, format_named(endings[ending])

    def plan(self, clips: Sequence[LabelledClip]) -> LabelPlan:
        """The label files."""
        content: dict[Path, bytes] = {}
        files: dict[str, LabelFile] = {}
        notes = []
        for clip in clips:
            before = self._own.get(clip.file, LabelFile(f"{clip.file}{self._ending}", ()))
            place = self._folder / before.path
            if file_exists(place) and file_hash(place) not in before.digests:
                notes.append(f"{before.path} was changed by a person and stays as it is.")
                files[clip.file] = before
                continue
            try:
                content[place] = self._content(clip, place)
            except AvelError as e:
                notes.append(f"{clip.file} has no label file: {e.got}.")
                continue
            digests = dict.fromkeys([*before.digests, sha256(content[place]).hexdigest()])
            files[clip.file] = LabelFile(before.path, tuple(digests))
        return LabelPlan(content, files, notes)

    def _content(self, clip: LabelledClip, place: Path) -> bytes:
        """A label file, of the format that its ending says.

        Raises:
            AvelError: for what the format can't hold.
        """
        endings = {ending: name for name, ending in format_endings().items()}
        known = format_named(endings[ending_of(place, endings)])
        timeline = timeline_of(str((self._folder / clip.file).absolute()), sorted(clip.events))
        timeline = replace(timeline, player_start=clip.player_start)
        return encode_text(place, known.dump(timeline, place))


def label_target(
    folder: Path, own_files: Collection[str], own_labels: Mapping[str, LabelFile]
) -> LabelTarget:
    """Where the labels of a data set stand: as it has them, and in a new table without any.

    Args:
        folder: The data set.
        own_files: The clips that the server labelled.
        own_labels: The label files that it wrote, by clip.

    Raises:
        DataError: if no labels can be added.
    """
    table = next((folder / name for name in TABLES if (folder / name).is_file()), None)
    if table is not None:
        return TableLabels(table, own_files)
    texts = [name for _, name in TEXTS if (folder / name).is_file()]
    if texts:
        raise DataError(
            f"{folder} has its labels in {texts[0]}, to which `avel serve` adds none",
            expected="annotations.csv, annotations.tsv, or a label file beside each clip",
            hint="name another folder; `data=DIR,CORRECTED` trains on both",
        )
    if own_labels or any(True for _ in labelled_clips(folder, Annotations())):
        return FileLabels(folder, own_labels)
    return TableLabels(folder / TABLES[0], own_files)
