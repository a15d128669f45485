"""Gets AVE's release: labels from its repository, features from Google Drive."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from zipfile import is_zipfile

from avel.data.ave.dataset import MARKER
from avel.data.ave.files import (
    ANNOTATIONS,
    EVERYTHING,
    VIDEOS,
    Remote,
    find,
    open_array,
    read_annotations,
)
from avel.download import download, root_cause
from avel.errors import AvelError, DataError
from avel.files import human_size
from avel.progress import Progress

#: Files above this size are features.
_SMALL = 2 * 2**20


def fetch_ave(
    folder: str | Path,
    *,
    labels_only: bool = False,
    videos: bool = False,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> list[Path]:
    """Download what a folder lacks of the release; unfinished downloads are resumed.

    Args:
        folder: Where they go.
        labels_only: Leave out the features.
        videos: The videos' archive too.
        progress: Called with (bytes so far, bytes in all or 0) within a file.
        say: Called with a line before each file.

    Returns:
        The files that were downloaded.

    Raises:
        DataError: naming every file that could not be had, with its address and size; the others
            are there.
    """
    folder = Path(folder)
    if find(folder, MARKER):
        raise DataError(
            f"{folder} holds simulated features", hint="fetch the release into another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    expected = [f for f in EVERYTHING if not labels_only or f.size <= _SMALL]
    expected += [VIDEOS] if videos else []
    got: list[Path] = []
    failed: list[str] = []
    for file in expected:
        if find(folder, file.name):
            continue
        if say:
            say(f"fetching {file}")
        try:
            got.append(_fetch(file, folder / file.name, progress))
        except AvelError as e:
            failed.append(f"{file.name} ({human_size(file.size)}): {e.got}")
    if failed:
        listed = "\n    ".join(failed)
        raise DataError(
            f"{len(failed)} of {len(expected)} files could not be had:\n    {listed}",
            hint=f"try again later, or put them into {folder} by hand",
        )
    return got


def _fetch(file: Remote, target: Path, progress: Progress | None) -> Path:
    if file.drive:
        path = _from_drive(file, target, progress)
    else:
        path = download(file.url, target, hash=file.hash, progress=progress)
    _verify(path)
    return path


def _from_drive(file: Remote, target: Path, progress: Progress | None) -> Path:
    """By gdown, which confirms that a file is too large for Drive's virus scan.

    It writes beside the target, names the file when it is whole, and goes on with what an earlier
    call left.
    """
    import gdown

    def advance(done: int, total: int | None) -> None:
        if progress:
            progress(done, total or 0)

    try:
        done = gdown.download(
            id=file.drive,
            output=str(target),
            quiet=True,
            resume=True,
            use_cookies=False,
            retries=3,
            timeout=60,
            progress=advance,
        )
    except Exception as e:  # gdown's own errors, those of requests and the system's
        first = root_cause(e).strip().partition("\n")[0][:200]
        raise DataError(f"{file.url} gave nothing ({first})") from e
    if not done or not target.is_file():
        raise DataError(f"{file.url} sent nothing (it may have been downloaded too often today)")
    return target


def _verify(path: Path) -> None:
    """A page that says sorry is no data, nor is half a file: it is removed."""
    try:
        if path.name == ANNOTATIONS.name:
            read_annotations(path)
        elif path.suffix == ".h5":
            with open_array(path):
                pass
        elif path.suffix == ".zip" and not is_zipfile(path):
            raise DataError(f"{path.name} is no archive")
    except DataError as e:
        with path.open("rb") as f:
            head = f.read(24)
        path.unlink()
        raise DataError(f"{e.got} (begins with {head!r}; removed)") from e
