"""An index: the features of many files in one, so that a search needs no decoding.

One safetensors file: ``audio`` (S, A), ``visual`` (S, H, W, V) in float16, ``heard`` and ``seen``
(S,), and a table of the files in its header. A file's rows are valid while its size and
modification time are unchanged; else its content is hashed, and only new content is extracted. The
rows depend on the backbones, not on the model that searches them. No torch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from avel import clock
from avel.backbones.identity import backbone_identity
from avel.errors import AvelError, DataError, UsageError
from avel.features.listing import absolute
from avel.features.stream import AUDIBLE_ABOVE, FeatureBlock, FeatureStream
from avel.files import file_hash, whole
from avel.progress import Progress
from avel.types import Json

ENDING = ".safetensors"
#: 2: sound is mixed by the channels' layout; entries have notes.
LAYOUT = 2
#: Rows that are copied at a time.
ROWS = 1024
_ARRAYS = ("audio", "visual", "heard", "seen")
_TYPES = {"audio": "F16", "visual": "F16", "heard": "U8", "seen": "U8"}
#: Types of an entry's values; JSON may have lost a duration's point.
_KINDS = [[str, int, int, str, kind, int, int, tuple] for kind in (float, int)]
#: The largest header that safetensors reads.
_LARGEST_HEADER = 100_000_000

#: Arrays by name, of the same rows.
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class IndexEntry:
    """The rows of one media file.

    Args:
        name: Its path, relative to the index's folder.
        size, mtime_ns: Of the file when it was read.
        content: sha256 of its bytes.
        duration: Seconds.
        first, count: Its first row, and how many.
        notes: Which tracks were taken, where there was a choice.
    """

    name: str
    size: int
    mtime_ns: int
    content: str
    duration: float
    first: int
    count: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kind:
    """The properties of an index's rows that a model depends on.

    Args:
        audio_card, visual_card: The backbones' cards.
        step: Seconds a segment.
        means: Whether visual features are the mean over regions, (1, 1, V).
    """

    audio_card: Json
    visual_card: Json
    step: float
    means: bool

    def serves(self, expected: Kind) -> bool:
        """Whether a model that expects another kind can use rows of this kind."""
        cards = [(self.audio_card, expected.audio_card), (self.visual_card, expected.visual_card)]
        same = all(backbone_identity(ours) == backbone_identity(theirs) for ours, theirs in cards)
        return same and abs(self.step - expected.step) < 1e-6 and self.means <= expected.means


def _entry(*cells: Any) -> IndexEntry:
    """A row of an index's table; its notes are a list in JSON."""
    *known, notes = cells
    return replace(IndexEntry(*known), notes=tuple(map(str, notes)))


def rows_of(block: FeatureBlock, *, means: bool) -> Arrays:
    """A block of features in the form of an index.

    Args:
        block: A few segments.
        means: Whether visual features are averaged over regions.

    Returns:
        ``audio`` (n, A) and ``visual`` (n, H, W, V) float16, ``heard`` and ``seen`` (n,) uint8:
        segments above -50 dBFS, and with a picture.
    """
    visual = block.visual.mean((1, 2), keepdims=True) if means else block.visual
    with np.errstate(over="ignore"):  # what isn't finite is never found
        return {
            "audio": block.audio.astype(np.float16),
            "visual": visual.astype(np.float16),
            "heard": (block.levels > AUDIBLE_ABOVE).astype(np.uint8),
            "seen": block.visible.astype(np.uint8),
        }


class Index:
    """An index on disk, read in parts.

    Args:
        path: The file.

    Raises:
        DataError: if it can't be read or is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        from safetensors import SafetensorError, safe_open

        self.path = Path(path)
        try:
            self._file = cast(Any, safe_open(self.path, framework="numpy"))
            meta = json.loads((self._file.metadata() or {})["avel"])
            if meta["kind"] != "index" or meta["layout"] > LAYOUT:
                raise ValueError("another kind of file, or of a newer avel")
            if meta["layout"] != LAYOUT:
                raise ValueError("of an older avel, which mixed the sound differently")
            self.arrays = {name: self._file.get_slice(name) for name in _ARRAYS}
            self.kind = Kind(
                dict(meta["audio_card"]),
                dict(meta["visual_card"]),
                float(meta["step"]),
                bool(meta["means"]),
            )
            self.entries = tuple(_entry(*row) for row in meta["files"])
            self._check()
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, RecursionError) as e:
            raise DataError(
                f"{self.path} is no index ({type(e).__name__}: {str(e)[:200]})",
                expected="a file that `avel match --index` wrote",
                hint="name another file, or remove this one; the next search writes it anew",
            ) from e

    def _check(self) -> None:
        shapes = {name: tuple(self.arrays[name].get_shape()) for name in _ARRAYS}
        if any(self.arrays[name].get_dtype() != kind for name, kind in _TYPES.items()):
            raise ValueError("arrays of other types")
        if [len(s) for s in shapes.values()] != [2, 4, 1, 1]:
            raise ValueError("arrays of other shapes")
        count = shapes["audio"][0]
        if {s[0] for s in shapes.values()} != {count}:
            raise ValueError("arrays of unequal length")
        for e in self.entries:
            kinds = [type(value) for value in astuple(e)]
            if kinds not in _KINDS or e.first < 0 or e.count < 1:
                raise ValueError("a row of the table that can't be")
            if e.count != clock.segment_count(float(e.duration), self.kind.step):
                raise ValueError("a file of another length than its rows")
            if e.first + e.count > count:
                raise ValueError("rows beyond the end")

    @property
    def row_shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of a segment's audio (A,) and visual features (H, W, V)."""
        audio, visual = (tuple(self.arrays[n].get_shape()[1:]) for n in ("audio", "visual"))
        return audio, visual

    def current_entry(self, file: Path) -> IndexEntry | None:
        """A file's entry; None where there is none, or the file's size or time has changed."""
        name = _name(file, self.path)
        entry = next((e for e in self.entries if e.name == name), None)
        with suppress(OSError):
            if entry is not None and _state(file) == (entry.size, entry.mtime_ns):
                return entry
        return None

    def rows(self, entry: IndexEntry, name: str) -> Iterator[NDArray[Any]]:
        """A file's rows of one array, at most ``ROWS`` at a time."""
        stop = entry.first + entry.count
        for first in range(entry.first, stop, ROWS):
            yield np.asarray(self.arrays[name][first : min(first + ROWS, stop)])


def _name(file: Path, index: Path) -> str:
    """What an index calls a file."""
    return os.path.relpath(absolute(file), absolute(index.parent))


def _state(file: Path) -> tuple[int, int]:
    """A file's size and time of modification."""
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns


Extract = Callable[[Path], FeatureStream]


def open_index(path: str | Path, kind: Kind) -> Index | None:
    """The index at a path, None if there is none yet.

    Raises:
        DataError: if something else is there, or it is damaged.
        UsageError: if its rows are of another kind than expected.
    """
    path = Path(path)
    if path.suffix.lower() != ENDING:
        raise UsageError(f"--index is {path}", expected=f"a name that ends in {ENDING}")
    if not path.exists():
        return None
    index = Index(path)
    if not index.kind.serves(kind):
        raise UsageError(
            f"{path} has features that this model can't read",
            expected="those of its own backbones and step"
            + (", every region of the picture" if index.kind.means > kind.means else ""),
            hint="name another index for this model",
        )
    return index


def update(
    path: str | Path,
    files: Sequence[Path],
    extract: Extract,
    kind: Kind,
    *,
    progress: Progress | None = None,
) -> tuple[Index | None, list[IndexEntry | AvelError]]:
    """Add new and changed files to an index; rows of other files stay while these exist.

    If nothing is new, nothing is written. If a call is interrupted or fails, the files that it had
    extracted are written.

    Args:
        path: The index; written if it doesn't exist.
        files: Media files.
        extract: Returns the features of one.
        kind: Of the rows that the model reads.
        progress: Called with files done and files in all.

    Returns:
        The index (None if no file could be read), and for each file its entry or its error.

    Raises:
        DataError: if something else is at the path, it is damaged, or it can't be written.
        UsageError: if the index is of another kind.
    """
    path = Path(path)
    old = open_index(path, kind)
    try:
        with _Builder(path, old, old.kind if old else kind) as builder:
            for i, file in enumerate(files):
                builder.add(file, extract)
                if progress is not None:
                    progress(i + 1, len(files))
    except OSError as e:
        raise DataError(
            f"{path} can't be written ({e.strerror or e})",
            hint="make room there, or choose another",
        ) from e
    index = Index(path) if builder.written else old
    by_name = {e.name: e for e in index.entries} if index else {}
    return index, [f if isinstance(f, AvelError) else by_name[f.name] for f in builder.results]


@dataclass(frozen=True)
class _RowSource:
    """An entry to write, and whether its rows are new or in the old index."""

    entry: IndexEntry
    new: bool


class _Builder:
    """Collects new rows in temporary files and writes the index once, at the end."""

    def __init__(self, path: Path, old: Index | None, kind: Kind) -> None:
        self.path, self.old, self.kind = path, old, kind
        self.results: list[IndexEntry | AvelError] = []
        self.written = False
        entries = old.entries if old else ()
        self._by_name = {e.name: e for e in entries}
        self._by_content = {e.content: _RowSource(e, new=False) for e in entries}
        self._sources: dict[str, _RowSource] = {}
        self._changed = False
        self._shapes: tuple[Any, ...] | None = old.row_shapes if old else None
        self._count = 0  # new rows
        self._open = ExitStack()

    def __enter__(self) -> _Builder:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        enter = self._open.enter_context
        folder = Path(enter(TemporaryDirectory(dir=self.path.parent, prefix=".index-")))
        self._parts: dict[str, IO[bytes]] = {n: enter((folder / n).open("w+b")) for n in _ARRAYS}
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._open:
            if kind is None:
                self._finish()
            else:
                with suppress(OSError):  # the first error is the one to raise
                    self._finish()

    def add(self, file: Path, extract: Extract) -> None:
        """Add a file's rows, extracted if need be, or its error."""
        try:
            source = self._source(file, extract)
        except AvelError as e:
            self.results.append(e)
            return
        self._sources[source.entry.name] = source
        self.results.append(source.entry)

    def _source(self, file: Path, extract: Extract) -> _RowSource:
        from avel.media.probe import check_file, unreadable

        check_file(file)
        name = _name(file, self.path)
        (size, mtime_ns), known = _state(file), self._by_name.get(name)
        is_now: Json = {"name": name, "size": size, "mtime_ns": mtime_ns}
        if known is not None and (known.size, known.mtime_ns) == (size, mtime_ns):
            return _RowSource(known, new=False)
        try:
            content = file_hash(file)
        except OSError as e:
            raise unreadable(file, e.strerror or str(e)) from e
        same = self._by_content.get(content)  # moved, renamed, or a copy
        if same is None:
            source = self._extract(extract(file), content=content, **is_now)
            self._by_content[content] = source
            return source
        self._changed = True
        return replace(same, entry=replace(same.entry, **is_now))

    def _extract(self, stream: FeatureStream, **known: Any) -> _RowSource:
        from avel.media.probe import names_track

        first = self._count
        positions = {n: part.tell() for n, part in self._parts.items()}
        try:
            for block in stream.blocks():
                self._append(rows_of(block, means=self.kind.means))
        except BaseException:
            for n, part in self._parts.items():  # remove the rows of an incomplete file
                part.seek(positions[n])
                part.truncate()
            self._count = first
            raise
        self._changed = True
        entry = IndexEntry(
            **known, duration=stream.grid.duration, first=first, count=len(stream),
            notes=tuple(note for note in stream.notes if names_track(note)),
        )  # fmt: skip
        return _RowSource(entry, new=True)

    def _append(self, rows: Arrays) -> None:
        shapes = rows["audio"].shape[1:], rows["visual"].shape[1:]
        if self._shapes is None:
            self._shapes = shapes
        if shapes != self._shapes:
            raise DataError(
                f"the features have shapes {shapes}",
                expected=f"{self._shapes}, as the index has them",
            )
        for name, part in self._parts.items():
            part.write(np.ascontiguousarray(rows[name]).data)
        self._count += len(rows["audio"])

    def _finish(self) -> None:
        if not self._changed:
            return
        others = [
            _RowSource(e, new=False)
            for e in (self.old.entries if self.old else ())
            if e.name not in self._sources and (self.path.parent / e.name).is_file()
        ]
        sources = [*others, *self._sources.values()]
        with whole(self.path) as temporary, temporary.open("wb") as out:
            out.write(self._header([s.entry for s in sources]))
            for name in _ARRAYS:
                for rows in self._rows(sources, name):
                    out.write(np.ascontiguousarray(rows).data)
        self.written = True

    def _header(self, entries: Sequence[IndexEntry]) -> bytes:
        assert self._shapes is not None
        files, first = [], 0
        for entry in entries:
            files.append(astuple(replace(entry, first=first)))
            first += entry.count
        meta = {
            "kind": "index", "layout": LAYOUT, "step": self.kind.step, "means": self.kind.means,
            "audio_card": self.kind.audio_card, "visual_card": self.kind.visual_card,
            "files": files,
        }  # fmt: skip
        head: Json = {"__metadata__": {"avel": json.dumps(meta, separators=(",", ":"))}}
        offset = 0
        for name in _ARRAYS:
            shape, size = self._layout(name, first)
            offsets = [offset, offset + size]
            head[name] = {"dtype": _TYPES[name], "shape": shape, "data_offsets": offsets}
            offset += size
        text = json.dumps(head).encode()
        text = text.ljust(-(-len(text) // 8) * 8)
        if len(text) > _LARGEST_HEADER:
            raise DataError(f"{len(entries)} files are too many for one index", hint="make several")
        return len(text).to_bytes(8, "little") + text

    def _layout(self, name: str, count: int) -> tuple[list[int], int]:
        """An array's shape and bytes."""
        assert self._shapes is not None
        row = dict(zip(("audio", "visual"), self._shapes, strict=True)).get(name, ())
        shape = [count, *row]
        return shape, int(np.prod(shape, dtype=np.int64)) * (2 if _TYPES[name] == "F16" else 1)

    def _rows(self, sources: Iterable[_RowSource], name: str) -> Iterator[NDArray[Any]]:
        part = self._parts[name]
        (_, *row), size = self._layout(name, 1)
        kind = np.float16 if _TYPES[name] == "F16" else np.uint8
        part.flush()
        for source in sources:
            if not source.new:
                assert self.old is not None
                yield from self.old.rows(source.entry, name)
                continue
            part.seek(source.entry.first * size)
            for first in range(0, source.entry.count, ROWS):
                count = min(ROWS, source.entry.count - first)
                yield np.frombuffer(part.read(count * size), kind).reshape(count, *row)
