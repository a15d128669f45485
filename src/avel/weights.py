"""Where a backbone's weights lie: in the package, in the cache, or at a public address."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from avel.download import Progress, download, hash_matches
from avel.errors import WeightsError
from avel.files import cache_folder, write_whole

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

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


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.pth`` file by name; nothing but tensors is ever unpickled.

    Raises:
        WeightsError: if it is no such file, or holds something else.
    """
    import torch

    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:  # damaged bytes stop the unpickler anywhere, with nearly any error
        first = str(e).strip().partition("\n")[0][:200]
        raise WeightsError(
            f"{path} can't be read as weights ({first})",
            wanted="a .pth file that holds tensors by name and nothing else",
            do="remove it and download it again",
        ) from e
    if isinstance(held, dict) and isinstance(held.get("state_dict"), dict):
        held = held["state_dict"]
    if not isinstance(held, dict):
        raise WeightsError(f"{path} holds a {type(held).__name__}", wanted="tensors by name")
    return {str(name): t for name, t in held.items() if isinstance(t, torch.Tensor)}


def fill(network: Module, tensors: Mapping[str, Tensor], *, source: Path) -> None:
    """Give a network its weights: every one of them, each of the right shape, all float32.

    Args:
        network: Its state's names are the ones wanted.
        tensors: By those names; others are ignored.
        source: The file, for the message.

    Raises:
        WeightsError: naming every tensor that is missing or of another shape.
    """
    wanted = {name: tuple(t.shape) for name, t in network.state_dict().items()}
    mistakes = [
        f"{name}: {tuple(tensors[name].shape) if name in tensors else 'missing'}, wanted {shape}"
        for name, shape in wanted.items()
        if name not in tensors or tuple(tensors[name].shape) != shape
    ]
    if mistakes:
        listed = "\n    ".join(mistakes)
        raise WeightsError(
            f"{source} doesn't fit {type(network).__name__}:\n    {listed}",
            do="use the file that the backbone's card names",
        )
    network.load_state_dict({name: tensors[name].float() for name in wanted}, assign=True)
