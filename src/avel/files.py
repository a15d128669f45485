"""Files: written whole or not at all, and known by their hash."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def cache_folder() -> Path:
    """Where downloads and computed features live: ``AVEL_CACHE``, or ~/.cache/avel."""
    return Path(os.environ.get("AVEL_CACHE") or Path.home() / ".cache" / "avel")


def config_folder() -> Path:
    """Where a person's own settings live: ``AVEL_CONFIG``, or ~/.config/avel."""
    return Path(os.environ.get("AVEL_CONFIG") or Path.home() / ".config" / "avel")


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path``, renamed onto it when the block ends without an error."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # 20 characters are 80 bytes at most: names end at 255 bytes. The system applies the umask.
    short = f".{target.name[:20]}.{secrets.token_hex(6)}.tmp{target.suffix}"
    temporary = target.with_name(short)
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: str | Path, data: bytes | str) -> None:
    """Write bytes or UTF-8 text to a file, whole or not at all."""
    with whole(path) as temporary:
        if isinstance(data, str):
            data = data.encode()
        temporary.write_bytes(data)


def json_hash(value: Any) -> str:
    """The sha256 of plain data, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def file_hash(path: str | Path, algorithm: str = "sha256") -> str:
    """The hex digest of a file's bytes, read in blocks."""
    with Path(path).open("rb") as f:
        return hashlib.file_digest(f, algorithm).hexdigest()
