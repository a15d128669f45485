"""The cache of features: written while they are extracted, read a few rows at a time.

An entry is a feature file like any other (see :class:`avel.types.Features`), in ``features`` of the
cache folder, under a name made of the file's content, both backbones' cards, the step and the
tracks; checksums of all of it tell a damaged one. No torch, and never more than a few rows in
memory.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from avel.errors import DataError, UsageError
from avel.features.stream import FeatureBlock, FeatureStream
from avel.files import cache_folder, file_hash, json_hash, whole
from avel.progress import Progress
from avel.types import Features, Grid, Json

if TYPE_CHECKING:
    from avel.media.file import Media

#: Part of every entry's name: to be raised when the same cards give other features than before.
FORMAT = 2
#: Bytes of all entries together, unless ``AVEL_CACHE_GB`` says otherwise (0 stores nothing).
LARGEST = 10 * 10**9
_ENDING = ".safetensors"
_ROWS, _BLOCK = 64, 2**20  # segments, and bytes, read at a time
_HEADER = 2**16  # bytes reserved for the header, which is only known at the end
_STALE = 24 * 3600  # seconds after which what a killed process left is removed
_TYPES = {"F32": np.float32, "F64": np.float64, "U8": np.uint8}


class FeatureExtractor(Protocol):
    """Extracts features, which its cards and step identify."""

    step: float

    @property
    def cards(self) -> tuple[Json, Json]:
        """The cards of the audio and the visual backbone."""
        ...

    def stream(self, video: Media, *, progress: Progress | None = None) -> FeatureStream:
        """The features of an open file."""
        ...


@dataclass(frozen=True)
class Facts:
    """What a timeline tells of a file beside its events.

    Args:
        has_audio, has_video: Whether it has sound and picture that can be read.
        notes: What was missing or damaged, a sentence each.
        player_start: What a browser's player calls the file's second 0.
        media: The probed file, where it was opened.
    """

    has_audio: bool = True
    has_video: bool = True
    notes: tuple[str, ...] = ()
    player_start: float = 0.0
    media: Media | None = None

    @classmethod
    def of(cls, media: Media) -> Facts:
        """Of a file that was read to its end."""
        notes = tuple(media.notes)
        audio, video = media.audio is not None, media.video is not None
        return cls(audio, video, notes, media.player_start, media)

    @classmethod
    def of_features(cls, features: Features) -> Facts:
        """Of features alone: what their notes say."""
        from avel.media.probe import has_track

        has_audio, has_video = (has_track(features.notes, kind) for kind in ("audio", "video"))
        return cls(has_audio, has_video, features.notes)


def entry_path(
    path: str | Path,
    extractor: FeatureExtractor,
    *,
    audio_track: int | None = None,
    video_track: int | None = None,
) -> Path:
    """Where the features of a file are stored, or would be; the whole file is read for its hash.

    Raises:
        MediaError: if there is no such file.
    """
    from avel.media.probe import check_file

    check_file(Path(path))
    cards = list(extractor.cards)
    key = [FORMAT, file_hash(path), cards, extractor.step, audio_track, video_track]
    return cache_folder() / "features" / (json_hash(key)[:32] + _ENDING)


def load_entry(
    entry: Path, *, source: str = "", progress: Progress | None = None
) -> tuple[FeatureStream, Facts] | None:
    """The features in an entry and the facts of the file; None where there is no entry.

    An entry of which any byte isn't the one that was written is removed.

    Args:
        entry: See :func:`entry_path`.
        source: What the file is called now.
        progress: Called with segments read and segments in all.
    """
    try:
        with entry.open("rb") as f:
            arrays, meta, start = _read_header(f)
            for name, array in arrays.items():
                if _checksum(f, start, array) != meta["checksums"][name]:
                    raise ValueError(f"{name} isn't what was written")
            levels = _read(f, start, arrays["levels"])
            visible = _read(f, start, arrays["visible"]).astype(bool)
        grid = Grid(float(meta["duration"]), float(meta["step"]))
        audio, visual = arrays["audio"].shape, arrays["visual"].shape
        if {len(grid)} != {audio[0], visual[0], len(levels), len(visible)}:
            raise ValueError("arrays of other lengths")
        notes, late = tuple(map(str, meta["notes"])), float(meta["player_start"])
        facts = Facts(bool(meta["heard"]), bool(meta["seen"]), notes, late)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, DataError):
        with suppress(OSError):
            entry.unlink(missing_ok=True)
        return None
    with suppress(OSError):
        os.utime(entry)  # the oldest in use goes first
    stream = FeatureStream(
        _entry_blocks(entry, arrays, start, levels, visible, progress),
        grid=grid,
        widths=(audio[-1], visual[-1]),
        cards=(meta["audio_card"], meta["visual_card"]),
        source=source,
        loudest=float(levels.max(initial=-np.inf)),
        notes=facts.notes,
    )
    return stream, facts


def _entry_blocks(
    entry: Path,
    arrays: dict[str, _Array],
    start: int,
    levels: NDArray[Any],
    visible: NDArray[Any],
    progress: Progress | None,
) -> Iterator[FeatureBlock]:
    with ExitStack() as stack:
        f: IO[bytes] | None = None
        for first in range(0, len(levels), _ROWS):
            stop = min(first + _ROWS, len(levels))
            try:
                f = f or stack.enter_context(entry.open("rb"))
                audio = _read(f, start, arrays["audio"], first, stop)
                visual = _read(f, start, arrays["visual"], first, stop)
            except (OSError, ValueError) as e:  # removed by another process, to make room
                raise DataError(f"{entry} can't be read any more ({e})", hint="run it again") from e
            yield FeatureBlock(audio, visual, levels[first:stop], visible[first:stop])
            if progress is not None:
                progress(stop, len(levels))


@dataclass(frozen=True)
class _Array:
    """One array of a file: its type, shape and first byte behind the header."""

    kind: str
    shape: tuple[int, ...]
    offset: int

    @property
    def row(self) -> int:
        """Bytes of one row."""
        return math.prod(self.shape[1:]) * np.dtype(_TYPES[self.kind]).itemsize

    @property
    def end(self) -> int:
        return self.offset + self.shape[0] * self.row


def _read_header(f: IO[bytes]) -> tuple[dict[str, _Array], Json, int]:
    """The arrays and the card of a feature file, and where its data begin."""
    size = int.from_bytes(f.read(8), "little")
    if not 0 < size <= 2**20:
        raise ValueError(f"a header of {size} bytes")
    head = json.loads(f.read(size))
    checksum = head["__metadata__"].pop("header_crc32")
    if checksum != _head_checksum(head):
        raise ValueError("a header that isn't what was written")
    meta = json.loads(head.pop("__metadata__")["avel"])
    arrays = {
        str(name): _Array(a["dtype"], tuple(map(int, a["shape"])), int(a["data_offsets"][0]))
        for name, a in head.items()
    }
    length = os.fstat(f.fileno()).st_size - 8 - size
    if any(min(a.shape) < 0 or a.offset < 0 or a.end > length for a in arrays.values()):
        raise ValueError("arrays beyond the end of the file")
    return arrays, meta, 8 + size


def _head_checksum(head: Json) -> str:
    return f"{crc32(json.dumps(head, sort_keys=True).encode()):08x}"


def _checksum(f: IO[bytes], start: int, array: _Array) -> int:
    """The CRC-32 of an array's bytes, read in blocks."""
    f.seek(start + array.offset)
    checksum, left = 0, array.end - array.offset
    while left > 0:
        data = f.read(min(left, _BLOCK))
        if not data:
            raise ValueError("arrays beyond the end of the file")
        checksum, left = crc32(data, checksum), left - len(data)
    return checksum


def _read(
    f: IO[bytes], start: int, array: _Array, first: int = 0, stop: int | None = None
) -> NDArray[Any]:
    stop = array.shape[0] if stop is None else stop
    f.seek(start + array.offset + first * array.row)
    data = f.read((stop - first) * array.row)
    values = np.frombuffer(data, _TYPES[array.kind])
    return values.reshape(stop - first, *array.shape[1:])


def caching(stream: FeatureStream, entry: Path, media: Media) -> FeatureStream:
    """The same stream, which leaves an entry behind once it was read to its end.

    Where the cache can't be written no entry is stored, and the stream goes on.

    Args:
        stream: What the extractor gives.
        entry: See :func:`entry_path`.
        media: The file; its notes are complete once it was read.
    """
    return FeatureStream(
        _written(stream, entry, media),
        grid=stream.grid,
        widths=stream.widths,
        cards=(stream.audio_card, stream.visual_card),
        source=stream.source,
        loudest=stream.loudest,
        notes=stream.notes,
    )


def _written(stream: FeatureStream, entry: Path, media: Media) -> Iterator[FeatureBlock]:
    writer = _Writer(entry, len(stream))
    try:
        for block in stream.blocks():
            writer.add(block)
            yield block
        writer.finish(stream, Facts.of(media))
    finally:
        writer.abort()  # does nothing once it is finished
    make_room(entry.parent)


class _AbortError(Exception):
    """The entry isn't to be stored."""


class _Writer:
    """Writes a feature file a few rows at a time; the header comes last, into reserved space.

    An error of the disk ends the writing and isn't raised.
    """

    def __init__(self, entry: Path, count: int) -> None:
        self.count, self.done = count, 0
        self.arrays: dict[str, _Array] = {}
        self.checksums: dict[str, int] = {}
        self._file: IO[bytes] | None = None
        self._open = ExitStack()
        with suppress(OSError):
            temporary = self._open.enter_context(whole(entry))
            self._file = self._open.enter_context(temporary.open("r+b"))

    def abort(self) -> None:
        """Stop writing and remove what was written."""
        self._file = None
        with suppress(_AbortError, OSError), self._open:
            raise _AbortError

    def _put_rows(self, name: str, place: int, data: NDArray[Any]) -> None:
        """The next bytes of an array."""
        raw = data.reshape(-1).view(np.uint8).data
        self.checksums[name] = crc32(raw, self.checksums.get(name, 0))
        self._put(place, raw)

    def _put(self, place: int, data: bytes | memoryview) -> None:
        if self._file is None:
            return
        try:
            self._file.seek(place)
            self._file.write(data)
        except OSError:
            self.abort()

    def add(self, block: FeatureBlock) -> None:
        """The next rows."""
        if not self.arrays:
            self._plan_arrays(block)
        for name in ("audio", "visual"):
            array = self.arrays[name]
            place = 8 + _HEADER + array.offset + self.done * array.row
            self._put_rows(name, place, np.ascontiguousarray(getattr(block, name), np.float32))
        self.done += len(block.audio)

    def _plan_arrays(self, block: FeatureBlock) -> None:
        shapes = {
            "levels": ("F64", ()),
            "audio": ("F32", block.audio.shape[1:]),
            "visual": ("F32", block.visual.shape[1:]),
            "audible": ("U8", ()),
            "visible": ("U8", ()),
        }
        offset = 0
        for name, (kind, shape) in shapes.items():
            self.arrays[name] = _Array(kind, (self.count, *shape), offset)
            offset = self.arrays[name].end

    def finish(self, stream: FeatureStream, facts: Facts) -> None:
        """Write the arrays that are complete only at the end, and the header."""
        ends = {"levels": stream.levels, "audible": stream.audible, "visible": stream.visible}
        for name, values in ends.items():
            array = self.arrays[name]
            data = np.ascontiguousarray(values, _TYPES[array.kind])
            self._put_rows(name, 8 + _HEADER + array.offset, data)
        header = self._header(stream, facts)
        if len(header) > _HEADER:
            self.abort()
        self._put(0, _HEADER.to_bytes(8, "little") + header.ljust(_HEADER))
        if self._file is not None:
            with suppress(OSError):
                self._open.close()

    def _header(self, stream: FeatureStream, facts: Facts) -> bytes:
        meta = {
            "kind": "features", "duration": stream.grid.duration, "step": stream.grid.step,
            "audio_card": stream.audio_card, "visual_card": stream.visual_card,
            "source": stream.source, "content": "",
            "checksums": self.checksums,
            "heard": facts.has_audio, "seen": facts.has_video,
            "notes": [n[:500] for n in facts.notes[:50]],
            "player_start": facts.player_start,
        }  # fmt: skip
        head: Json = {"__metadata__": {"avel": json.dumps(meta, sort_keys=True)}}
        for name, a in self.arrays.items():
            offsets = [a.offset, a.end]
            head[name] = {"dtype": a.kind, "shape": list(a.shape), "data_offsets": offsets}
        head["__metadata__"]["header_crc32"] = _head_checksum(head)
        return json.dumps(head).encode()


def largest() -> int:
    """How many bytes the entries may take together: ``AVEL_CACHE_GB``, or 10 GB.

    Raises:
        UsageError: if the variable is no number.
    """
    setting = os.environ.get("AVEL_CACHE_GB", "")
    try:
        size = float(setting) * 10**9 if setting else float(LARGEST)
    except ValueError:
        size = math.nan
    if not size >= 0:
        raise UsageError(f"AVEL_CACHE_GB must be gigabytes, 0 or more, got {setting!r}")
    return int(min(size, 2**62))


def make_room(folder: Path) -> None:
    """Remove entries above the limit, then the least recently used ones until the others fit, and
    partial files of killed processes.
    """
    entries: list[tuple[float, int, Path]] = []
    now = time.time()
    for path in folder.glob(f"*{_ENDING}"):
        with suppress(OSError):
            stat = path.stat()
            if not path.name.startswith("."):
                entries.append((stat.st_mtime, stat.st_size, path))
            elif now - stat.st_mtime > _STALE:
                path.unlink()
    limit = room = largest()
    for _, size, path in sorted(entries, reverse=True):
        room -= size if size <= limit else 0
        if room < 0 or size > limit:
            with suppress(OSError):
                path.unlink(missing_ok=True)


def features_of(
    video: str | Path | Media | Features,
    extractor: FeatureExtractor,
    *,
    cache: bool = True,
    ahead: bool = False,
    progress: Progress | None = None,
    audio_track: int | None = None,
    video_track: int | None = None,
) -> tuple[FeatureStream, Callable[[], Facts]]:
    """The features of a media file, cached or extracted, and the file's facts once they were read.

    Args:
        video: The media file, what :func:`avel.open` gave, or features, which are taken as they
            are.
        extractor: The backbones.
        cache: False neither reads the cache nor writes it.
        ahead: Whether the loudest segment has to be known before the first row: where it isn't
            cached, the sound is read once before.
        progress, audio_track, video_track: As for :func:`avel.extract`.

    Raises:
        MediaError: if the file can't be read.
        UsageError: for tracks the file doesn't have, and a wrong ``AVEL_CACHE_GB``.
    """
    from avel.media.file import Media, open_media, opened

    if isinstance(video, Features):
        if audio_track is not None or video_track is not None:
            raise UsageError("a track is requested of features", hint="choose it in avel.extract")
        facts_of_features = Facts.of_features(video)
        return FeatureStream.of(video, progress=progress), lambda: facts_of_features
    tracks = {"audio_track": audio_track, "video_track": video_track}
    path = video.path if isinstance(video, Media) else Path(video)
    if isinstance(video, Media):
        opened(video, **tracks)  # refuses tracks: those of an open file are chosen
        tracks = dict(zip(tracks, video.requested, strict=True))
    entry = entry_path(path, extractor, **tracks) if cache and largest() else None
    stored = load_entry(entry, source=path.name, progress=progress) if entry else None
    if stored is not None:
        facts = replace(stored[1], media=video if isinstance(video, Media) else None)
        return stored[0], lambda: facts
    media = video if isinstance(video, Media) else open_media(path, **tracks)
    stream = extractor.stream(media, progress=progress)
    if ahead:
        stream.loudest = media.loudest(extractor.step)
    if entry is not None:
        stream = caching(stream, entry, media)
    return stream, lambda: Facts.of(media)
