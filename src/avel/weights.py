"""Where a backbone's weights lie: in the package, in the cache, or at a public address."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from avel.download import Progress, download, hash_matches
from avel.errors import WeightsError
from avel.files import cache_folder, write_whole

if TYPE_CHECKING:
    from avel.backbones.base import Weights

State = Literal["present", "absent", "damaged"]


def weights_file(weights: Weights, *, progress: Progress | None = None) -> Path:
    """The checked file of some weights, downloaded first where it is neither packaged nor cached.

    Args:
        weights: Which; those without an address ship in the package.
        progress: Called with (bytes so far, bytes in all or 0) during a download.

    Raises:
        WeightsError: if the file can't be had, or isn't the one its hash names.
    """
    path = weights_path(weights)
    state = weights_state(weights)
    if state == "damaged":
        raise WeightsError(
            f"{path} isn't the file it should be ({path.stat().st_size} bytes)",
            wanted=f"weights {weights.name!r} with {weights.hash}",
            do=_cure(weights, path),
        )
    if state == "absent":
        if not weights.url:
            raise WeightsError(f"{path} is missing from the package", do="install avel again")
        download(
            weights.url,
            path,
            hash=weights.hash,
            size=weights.size,
            progress=progress,
            error=WeightsError,
        )
        _remember(path, weights.hash)
    return path


def _cure(weights: Weights, path: Path) -> str:
    if not weights.url:
        return "install avel again"
    return f"remove it; avel then downloads it from {weights.url}"


def weights_path(weights: Weights) -> Path:
    """Where the file is, or would be."""
    if weights.url:
        return cache_folder() / "weights" / weights.filename
    return Path(str(resources.files("avel") / "pretrained" / weights.filename))


def weights_state(weights: Weights) -> State:
    """Whether the file is there and right; hashed once, then known by its size and time."""
    path = weights_path(weights)
    if not path.is_file():
        return "absent"
    if _remembered(path, weights.hash):
        return "present"
    if not hash_matches(path, weights.hash):
        return "damaged"
    if weights.url:
        _remember(path, weights.hash)
    return "present"


def _note(path: Path) -> Path:
    return path.with_name(path.name + ".checked")


def _stamp(path: Path, hash: str) -> dict[str, str | int]:
    stat = path.stat()
    return {"hash": hash, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def _remember(path: Path, hash: str) -> None:
    try:
        write_whole(_note(path), json.dumps(_stamp(path, hash)))
    except OSError:  # a cache that can't be written is hashed again next time
        return


def _remembered(path: Path, hash: str) -> bool:
    try:
        return bool(json.loads(_note(path).read_text()) == _stamp(path, hash))
    except (OSError, ValueError):
        return False
