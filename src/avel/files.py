"""Files: written whole or not at all, and known by their hash."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import tomllib
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from avel.errors import DataError, UsageError

_VIDEO = (
    "264 265 3g2 3gp asf avi av1 divx dv f4v flv gif h264 h265 hevc ivf m1v m2t m2ts m2v m4v mjpeg "
    "mjpg mk3d mkv mod mov mp4 mpe mpeg mpg mpv mts mxf nsv nut obu ogm ogv ogx qt rm rmvb tod trp "
    "ts vob webm wm wmv wtv y4m"
)
_SOUND = (
    "aac ac3 adts aif aifc aiff amr ape au caf eac3 ec3 flac m4a m4b m4r mka mp2 mp3 mpa oga ogg "
    "opus ra snd spx tta voc w64 wav wave weba wma wv"
)
#: Endings by which media files are found in folders, everywhere in avel: those of pictures, with
#: or without sound, and those of sound alone.
VIDEO_ENDINGS = frozenset(f".{name}" for name in _VIDEO.split())
SOUND_ENDINGS = frozenset(f".{name}" for name in _SOUND.split())
MEDIA_ENDINGS = VIDEO_ENDINGS | SOUND_ENDINGS
_DOTS = 2000  # of a line: TOML's parser needs very long for a key of many parts


def is_media(path: str | Path) -> bool:
    """Whether a file's ending is one of :data:`MEDIA_ENDINGS`."""
    return Path(path).suffix.lower() in MEDIA_ENDINGS


def unused_name(stem: str, used: Container[str], ending: str = "") -> str:
    """A stem with an ending, numbered where that is used already: ``a.csv``, ``a-2.csv``."""
    name, number = f"{stem}{ending}", 1
    while name in used:
        number += 1
        name = f"{stem}-{number}{ending}"
    return name


def cache_folder() -> Path:
    """Where downloads and computed features are stored: ``AVEL_CACHE``, or ~/.cache/avel."""
    return Path(os.environ.get("AVEL_CACHE") or Path.home() / ".cache" / "avel")


def config_folder() -> Path:
    """Where a person's settings are stored: ``AVEL_CONFIG``, or ~/.config/avel."""
    return Path(os.environ.get("AVEL_CONFIG") or Path.home() / ".config" / "avel")


def human_size(count: float) -> str:
    """``8315166720`` as ``8.3 GB``."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def read_toml(path: str | Path, *, expected: str, hint: str) -> dict[str, Any]:
    """The table of a person's TOML file of at most 1 MB.

    Args:
        path: The file.
        expected, hint: Of the error.

    Raises:
        UsageError: if it can't be read, is too large, or is no TOML.
    """
    wrong = partial(UsageError, expected=expected, hint=hint)
    try:
        if Path(path).stat().st_size > 2**20:
            raise wrong(f"{path} has over 1 MB")
        text = Path(path).read_text("utf-8-sig")
        if max(line.count(".") for line in text.split("\n")) > _DOTS:
            raise wrong(f"{path} has a line of over {_DOTS} dots")
        return tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as e:
        raise wrong(f"{path} can't be read: {e}") from e


def check_room(folder: Path, size: int, *, hint: str = "make room") -> None:
    """Refuse to write ``size`` bytes into a folder whose disk has less room; the folder is made.

    Raises:
        DataError: if there is less room, and a MiB.
    """
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < size + 2**20:
        raise DataError(
            f"{folder} has {human_size(free)} of room", expected=human_size(size), hint=hint
        )


#: What is wrong, and what to do about it, by the system's number of an error.
_TROUBLES = {
    **dict.fromkeys(
        (errno.ENOSPC, errno.EDQUOT),
        ("the disk is full", "make room there, or choose another folder"),
    ),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM),
        ("no permission", "change the rights of the file and its folder, or choose another folder"),
    ),
    errno.EROFS: ("the disk can only be read", "choose another folder"),
    errno.ENOENT: ("there is no such file or folder", "correct the path"),
    errno.ENOTDIR: ("a part of the path is no folder", "correct the path"),
    errno.EISDIR: ("it is a folder", "name a file"),
    errno.EEXIST: ("it exists already, as something else", "choose another path"),
    errno.EFBIG: ("the file would be too large", "choose another disk, or raise the limit"),
    errno.ENAMETOOLONG: ("the name is too long", "shorten it"),
    errno.ELOOP: ("the links lead in a circle", "correct the link"),
    errno.EIO: ("the disk can't be read or written there", "check the disk"),
    errno.EMFILE: ("too many files are open", "raise the limit (ulimit -n)"),
    errno.ENOMEM: ("not enough memory", "end other programs, or take a larger machine"),
}
_NUMBERED = re.compile(r"\(os error (\d+)\)")


#: The message for an address where a file is expected, and its hint.
IS_ADDRESS = "is an address, and avel reads nothing from the network"
DOWNLOAD = "download it first, then give the file's name"
# pathlib changes http://host/name: neighbouring slashes become one
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def is_address(path: str | Path) -> bool:
    """Whether something that is no file is an address: ``http://host/name``."""
    return bool(_ADDRESS.match(str(path)))


def address_message(path: str | Path) -> str:
    """The message about an address, which is written as a person typed it."""
    return f"{re.sub(':/+', '://', str(path), count=1)} {IS_ADDRESS}"


def disk_error(error: OSError, where: str | Path = "") -> DataError:
    """An error of the system as a sentence that names the file and the cure.

    Args:
        error: As raised.
        where: The file or folder, where the error doesn't name it.
    """
    path = where or error.filename or ""
    why, cure = _TROUBLES.get(
        error.errno or 0, (error.strerror or str(error), "check the file and its disk")
    )
    return DataError(f"{path}: {why}" if path else why, hint=cure)


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path``, renamed onto it when the block ends without an error.

    Raises:
        OSError: that names ``path``, if it can't be written.
    """
    target = Path(path)
    # 20 characters are 80 bytes at most: names end at 255 bytes. The system applies the umask.
    short = f".{target.name[:20]}.{secrets.token_hex(6)}.tmp{target.suffix}"
    temporary = target.with_name(short)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield temporary
        temporary.replace(target)
    except OSError as e:
        if e.errno is None or e.filename not in (None, temporary, str(temporary)):
            raise
        raise OSError(e.errno, e.strerror or str(e), str(target)) from e
    except Exception as e:
        number = _NUMBERED.search(str(e))
        if type(e).__name__ != "SafetensorError" or number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(target)) from e
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_whole(path: str | Path, data: bytes | str) -> None:
    """Write bytes or UTF-8 text to a file, whole or not at all."""
    with whole(path) as temporary:
        if isinstance(data, str):
            data = data.encode()
        temporary.write_bytes(data)


@contextmanager
def locked(path: str | Path, *, wait: bool = True) -> Iterator[bool]:
    """Lock a folder or file for this process; the system releases it however the process ends.

    Args:
        path: An existing folder, into which nothing is written; or a file, created where missing.
        wait: Whether to wait until no other process has locked it.

    Yields:
        False where another process has locked it; True also where the system has no such locks.
    """
    handle, mine = -1, True
    try:
        import fcntl

        handle = os.open(path, os.O_RDONLY | (0 if Path(path).is_dir() else os.O_CREAT), 0o666)
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        mine = False
    except (ImportError, OSError):
        pass
    try:
        yield mine
    finally:
        if handle >= 0:
            os.close(handle)


def json_hash(value: Any) -> str:
    """The sha256 of plain data, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def file_exists(path: str | Path) -> bool:
    """Whether there is a file at a path; False for a name that no file can have (too long, NUL)."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def file_hash(path: str | Path, algorithm: str = "sha256") -> str:
    """The hex digest of a file's bytes, read in blocks."""
    with Path(path).open("rb") as f:
        return hashlib.file_digest(f, algorithm).hexdigest()
