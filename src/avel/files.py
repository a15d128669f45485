"""Files: written whole or not at all, and known by their hash."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_folder() -> Path:
    """Where downloads and computed features live: ``AVEL_CACHE``, or ~/.cache/avel."""
    return Path(os.environ.get("AVEL_CACHE") or Path.home() / ".cache" / "avel")


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path``, renamed onto it when the block ends without an error."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(
        dir=target.parent, prefix=f".{target.name[:80]}.", suffix=".tmp" + target.suffix
    )
    os.close(fd)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_whole(path: str | Path, data: bytes | str) -> None:
    """Write bytes or UTF-8 text to a file, whole or not at all."""
    with whole(path) as temporary:
        if isinstance(data, str):
            data = data.encode()
        temporary.write_bytes(data)


def file_hash(path: str | Path, algorithm: str = "sha256") -> str:
    """The hex digest of a file's bytes, read in blocks."""
    with Path(path).open("rb") as f:
        return hashlib.file_digest(f, algorithm).hexdigest()
