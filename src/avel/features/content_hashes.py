"""Whether media files are those that features were made of: by sha256, computed once a change."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from avel.files import cache_folder, file_hash, json_hash, write_whole

_NAME = "contents.json"
#: A table above this size isn't read: a few hundred thousand files.
_LARGEST = 2**26


class ContentHashes:
    """The sha256 of media files, stored beside their features, or in the cache folder.

    A file is hashed again only where its size or one of its times has changed.

    Args:
        features: The folder of the features.
    """

    def __init__(self, features: Path) -> None:
        present = next(p for p in (features, *features.absolute().parents) if p.exists())
        writable = os.access(present, os.W_OK)
        name = json_hash(str(features.absolute()))[:16]
        folder = features / ".avel" if writable else cache_folder() / "contents" / name
        self._path = folder / _NAME
        self._known: dict[str, list[object]] = {}
        self._changed = False
        with suppress(OSError, ValueError, RecursionError, AttributeError, TypeError):
            if self._path.stat().st_size <= _LARGEST:
                rows = json.loads(self._path.read_text("utf-8")).items()
                self._known = {str(k): list(v) for k, v in rows}

    def of(self, media: Path) -> str:
        """The sha256 of a file's bytes; empty where it can't be read."""
        key = str(media.absolute())
        try:
            stat = media.stat()
            state = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
            row = self._known.get(key, [])
            if row[:3] != state or len(row) != 4:
                row = [*state, file_hash(media)]
                self._known[key] = row
                self._changed = True
        except OSError:
            return ""
        return str(row[3])

    def remember(self, media: Path, content: str, *, before: float) -> None:
        """Take over what was hashed elsewhere, of a file that hasn't changed since.

        Args:
            media: The file.
            content: Its sha256.
            before: When the file was known to have it, in seconds since 1970.
        """
        with suppress(OSError):
            stat = media.stat()
            if content and stat.st_ctime < before:
                state: list[object] = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
                key, row = str(media.absolute()), [*state, content]
                self._changed = self._changed or self._known.get(key) != row
                self._known[key] = row

    def save(self) -> None:
        """Write the hashes; where that fails, files are hashed again the next time."""
        if self._changed:
            with suppress(OSError):
                write_whole(self._path, json.dumps(self._known, separators=(",", ":")))


def is_current(stored: str, media: Path, hashes: ContentHashes) -> bool:
    """Whether features are of a file as it is now.

    Args:
        stored: The ``content`` of their header; empty where it wasn't known.
        media: The file; where it isn't there, or can't be read, nothing speaks against it.
        hashes: Of the media.
    """
    now = hashes.of(media) if stored else ""
    return not now or stored.partition(":")[0] == now
