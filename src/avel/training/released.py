"""Weights of the released AVE code (Tian et al., ECCV 2018) as checkpoints of ours.

It has four networks: A+V-att, its weak twin and DMRN in PyTorch, AVDLN in Keras. Files are read by
their ending: ``.h5`` or ``.hdf5`` (Keras), ``.pt`` or ``.pth`` (a state dict), ``.safetensors``
and ``.npz``. Whole pickled modules are refused: reading one runs whatever code it names.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avel._version import __version__
from avel.errors import AvelError, UsageError, WeightsError, unknown_name
from avel.inference.checkpoint import Trained
from avel.models.base import Model, TaskName, build_model, models
from avel.tasks import task_named
from avel.training.recipes import to_json
from avel.types import Json

#: The published data set's classes in the order of their ids.
AVE_CLASSES = (
    "Church bell", "Male speech, man speaking", "Bark", "Fixed-wing aircraft, airplane",
    "Race car, auto racing", "Female speech, woman speaking", "Helicopter", "Violin, fiddle",
    "Flute", "Ukulele", "Frying (food)", "Truck", "Shofar", "Motorcycle", "Acoustic guitar",
    "Train horn", "Clock", "Banjo", "Goat", "Baby cry, infant cry", "Bus", "Chainsaw", "Cat",
    "Horse", "Toilet flush", "Rodents, rats, mice", "Accordion", "Mandolin",
)  # fmt: skip
STEP, WINDOW = 1.0, 10
#: Widths of the published features: VGGish's and VGG-19's.
AUDIO_DIM, VISUAL_DIM = 128, 512
#: Largest size of a file, in bytes, packed and as float32; the release's have 5 MB or less.
LARGEST = 2**26
SOURCE = "github.com/YapengTian/AVE-ECCV18"

#: The release's names, by their beginnings, and ours.
_AV_ATT = {
    "lstm_audio.": "read.audio_lstm.lstm.",
    "lstm_video.": "read.visual_lstm.lstm.",
    "affine_audio.": "look.u_a.",
    "affine_video.": "look.u_v.",
    "affine_g.": "look.w_a.",
    "affine_v.": "look.w_v.",
    "affine_h.": "look.w_f.",
    "L1.": "read.head.0.1.",
    "L2.": "read.head.0.3.",
}
_DMRN = {
    **{k: v for k, v in _AV_ATT.items() if not k.startswith("L")},
    "U_a.": "read.fuse.0.blocks.0.u_a.",
    "U_v.": "read.fuse.0.blocks.0.u_v.",
    "L2.": "read.head.0.",
}
#: AVDLN's four dense layers in the order of their numbers.
_AVDLN = ("visual.0", "visual.2", "audio.0", "audio.2")


def convert_weights(
    path: str | Path,
    *,
    model: str | None = None,
    task: TaskName | None = None,
    classes: Sequence[str] = AVE_CLASSES,
) -> Trained:
    """The release's weights in our model, ready to be saved as a checkpoint.

    Args:
        path: The file; see the module.
        model: ``"av"`` or ``"avdln"``; found by the weights' names where None.
        task: ``"sel"``, ``"wsel"`` or ``"cml"``. The weak A+V-att has the names of the supervised
            one, so ``"wsel"`` must be given.
        classes: C event names in the order of their ids, background not among them.

    Returns:
        The model with a card that names the published features' backbones. What it was trained on
        isn't known, nor with which seed (-1).

    Raises:
        UsageError: for an unknown model or task, or one that the weights aren't of.
        WeightsError: if the file can't be read, is a pickled module, or doesn't fit.
    """
    path = Path(path)
    tensors = read_released(path)
    try:
        name, options, state = _recognise(path, tensors)
    except (IndexError, StopIteration, RuntimeError) as e:
        raise WeightsError(f"{path}: tensors of odd shapes ({type(e).__name__})") from e
    if model not in (None, name):
        models.get(model)
        raise UsageError(f"{path} has the weights of {name}", expected=f"those of {model}")
    known = models.get(name).card.tasks
    task = task or known[0]
    if task not in known:
        raise unknown_name("task", task, known)
    network = _build(path, name, task, options, state, classes)
    return Trained(network, _card(network, task, options, classes, path))


def read_released(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name; nothing but tensors is ever unpickled.

    Keras files give ``dense_1.kernel`` and ``dense_1.bias``, kernels as stored: (in, out).

    Raises:
        UsageError: for another ending.
        WeightsError: if it can't be read, is a pickled module, or is too large.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UsageError(
            f"{path} has {f'the ending {path.suffix}' if path.suffix else 'no ending'}",
            expected=", ".join(READERS),
        )
    if not path.is_file():
        raise WeightsError(f"{path} isn't there", hint="correct the path")
    try:
        _check_size(path, max(path.stat().st_size, _unpacked(path)))
        tensors = reader(path)
        _check_size(path, 4 * sum(t.numel() for t in tensors.values()))
    except WeightsError:
        raise
    except Exception as e:  # damaged bytes stop a reader anywhere, with nearly any error
        raise WeightsError(
            f"{path} can't be read ({type(e).__name__}: {str(e)[:200]})",
            expected="tensors by name, and nothing else",
            hint="get the file again",
        ) from e
    if not tensors:
        raise WeightsError(f"{path} contains no tensors", expected="tensors by name")
    return {n.removeprefix("module."): t for n, t in tensors.items()}  # of DataParallel


def _check_size(path: Path, size: int) -> None:
    """Refuse before memory is taken: a tensor may be far larger than what it is stored as."""
    if size > LARGEST:
        raise WeightsError(
            f"{path} is too large: {size} bytes once it is read",
            expected=f"at most {LARGEST}",
            hint="get the file again",
        )


def _unpacked(path: Path) -> int:
    if not zipfile.is_zipfile(path):
        return 0
    with zipfile.ZipFile(path) as f:
        return sum(item.file_size for item in f.infolist())


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd pickle protocols
            content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as e:
        raise WeightsError(
            f"{path} is a pickled object, not a state dict: reading it would run code it names",
            expected="a state dict: tensors by name",
            hint=_advice(path),
        ) from e
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise WeightsError(
            f"{path} contains a {type(content).__name__}", expected="tensors by name"
        )
    return {str(n): t for n, t in content.items() if isinstance(t, Tensor) and _is_dense(t)}


def _is_dense(tensor: Tensor) -> bool:
    """Whether a tensor lies in memory number by number, as weights do."""
    return (
        tensor.layout is torch.strided and not tensor.is_quantized and tensor.device.type == "cpu"
    )


def _advice(path: Path) -> str:
    """Lines that turn a pickled module into a state dict, for any torch since 0.3."""
    return (
        "only if you trust the file, for these lines run what it names: where the released code "
        "runs, on old torch or new,\n"
        "    import os, torch\n"
        "    os.environ['TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'] = '1'  # torch 2.6 and later ask it\n"
        f"    net = torch.load({path.name!r}, map_location=lambda storage, place: storage)\n"
        f"    torch.save(net.state_dict(), {path.stem + '_state.pt'!r})"
    )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return dict(load_file(path))


def _read_npz(path: Path) -> dict[str, Tensor]:
    with np.load(path, allow_pickle=False) as arrays:
        return {n: torch.from_numpy(arrays[n]) for n in arrays.files}


def _read_keras(path: Path) -> dict[str, Tensor]:
    """Kernel (in, out) and bias of every layer, whatever the version of Keras nested them in."""
    import h5py

    tensors: dict[str, Tensor] = {}
    sizes: list[int] = []

    def visit(name: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset) or not item.size:
            return
        kind = name.rpartition("/")[2].partition(":")[0]
        if kind in ("kernel", "bias") and item.dtype.kind == "f":
            sizes.append(_h5_bytes(path, item))
            _check_size(path, sum(sizes))
            layer = name.split("/")[0]
            tensors[f"{layer}.{kind}"] = torch.from_numpy(item[()].astype(np.float32))

    with h5py.File(path, "r") as f:
        f.get("model_weights", f).visititems(visit)
    return tensors


def _h5_bytes(path: Path, item: Any) -> int:
    """Bytes that reading an array takes: of the array, of a chunk of it, and as float32.

    Raises:
        WeightsError: if its numbers lie in another file.
    """
    if item.is_virtual or item.external:
        raise WeightsError(f"{path}: {item.name} lies in another file", expected="one file")
    chunk = int(np.prod(item.chunks or (0,), dtype=float))
    return int((item.size + chunk) * item.dtype.itemsize + 4 * item.size)


READERS: Mapping[str, Callable[[Path], dict[str, Tensor]]] = {
    ".pt": _read_torch, ".pth": _read_torch, ".safetensors": _read_safetensors,
    ".npz": _read_npz, ".h5": _read_keras, ".hdf5": _read_keras,
}  # fmt: skip


def _recognise(path: Path, tensors: Mapping[str, Tensor]) -> tuple[str, Json, dict[str, Tensor]]:
    """Our model's name, its options, and the weights under our names."""
    dense = sorted((n for n in tensors if n.endswith(".kernel")), key=_number)
    if len(dense) == len(_AVDLN) and len(tensors) == 2 * len(dense):
        return "avdln", {}, dict(_keras_layers(path, tensors, dense))
    prefixes = _DMRN if any(n.startswith("U_a.") for n in tensors) else _AV_ATT
    unknown = [n for n in tensors if not n.startswith(tuple(prefixes))]
    missing = [b for b in prefixes if not any(n.startswith(b) for n in tensors)]
    if unknown or missing:
        raise WeightsError(
            f"{path} is none of the release's networks: "
            f"{_few(unknown)} not known, {_few(missing)} missing",
            expected="A+V-att, its weak twin, DMRN or AVDLN",
            hint=f"take the weights of {SOURCE}",
        )
    options: Json = {"variant": "release", "fusion": "dmrn" if prefixes is _DMRN else "concat"}
    for option, tensor, axis in (
        ("state", "lstm_audio.weight_hh_l0", 1),
        ("hidden", "affine_audio.weight", 0),
        ("width", "affine_v.weight", 0),
    ):
        if tensor in tensors and tensors[tensor].ndim == 2:
            options[option] = int(tensors[tensor].shape[axis])
    return "av", options, {_ours(n, prefixes): t for n, t in tensors.items()}


def _ours(name: str, names: Mapping[str, str]) -> str:
    beginning = next(b for b in names if name.startswith(b))
    return names[beginning] + name.removeprefix(beginning)


def _number(name: str) -> tuple[int, str]:
    digits = "".join(c for c in name if c.isascii() and c.isdigit())
    return int(digits[:9] or 0), name


def _keras_layers(
    path: Path, tensors: Mapping[str, Tensor], dense: Sequence[str]
) -> Iterator[tuple[str, Tensor]]:
    for kernel, ours in zip(dense, _AVDLN, strict=True):
        bias = kernel.removesuffix("kernel") + "bias"
        if bias not in tensors or tensors[kernel].ndim != 2:
            raise WeightsError(f"{path}: {kernel} isn't a dense layer's with a bias")
        yield f"{ours}.weight", tensors[kernel].T.contiguous()
        yield f"{ours}.bias", tensors[bias]


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (" …" if len(names) > 4 else "") if names else "nothing"


def _build(
    path: Path, name: str, task: TaskName, options: Json, state: Mapping[str, Tensor],
    classes: Sequence[str],
) -> Model:  # fmt: skip
    """The network, every weight of it compared by name and shape before any is taken."""
    try:
        with torch.device("meta"):
            empty = build_model(
                name, audio_dim=AUDIO_DIM, visual_dim=VISUAL_DIM, classes=len(classes), task=task,
                **options,
            )  # fmt: skip
    except (AvelError, ValueError, RuntimeError, ArithmeticError) as e:
        message = f"no {name} has such widths ({options}): {str(e)[:200]}"
        raise WeightsError(f"{path}: {message}", expected="the release's networks") from e
    expected = {n: tuple(t.shape) for n, t in empty.state_dict().items()}
    shapes = {n: tuple(t.shape) for n, t in state.items()}
    mismatched = [n for n in sorted({*expected, *shapes}) if expected.get(n) != shapes.get(n)]
    if mismatched:
        listed = "\n    ".join(
            f"{n}: {shapes.get(n, 'missing')}, expected {expected.get(n, 'none')}"
            for n in mismatched[:8]
        )
        raise WeightsError(
            f"{path} doesn't fit {name} with {len(classes)} classes:\n    {listed}",
            hint="give --classes if it wasn't trained on AVE's 28, and the features' own widths",
        )
    broken = [n for n, t in state.items() if not bool(torch.isfinite(t).all())]
    if broken:
        raise WeightsError(f"{path}: {_few(broken)} not finite", expected="finite weights")
    empty.load_state_dict({n: t.float() for n, t in state.items()}, assign=True)
    return empty.requires_grad_(True).eval()


def _card(
    network: Model, task: TaskName, options: Json, classes: Sequence[str], path: Path
) -> Json:  # fmt: skip
    from avel.backbones.vgg19 import VGG19
    from avel.backbones.vggish import VGGish

    recipe = replace(network.recipe_of(task, options), options=options)
    return {
        "avel": __version__,
        "model": network.card.name,
        "paper": network.card.paper,
        "task": task,
        "setting": task_named(task).settings[0],
        "options": options,
        "dims": {"audio": AUDIO_DIM, "visual": VISUAL_DIM},
        "classes": list(classes),
        "step": STEP,
        "window": WINDOW,
        "audio_card": VGGish.describe(next(iter(VGGish.weights.values()))),
        "visual_card": VGG19.describe(next(iter(VGG19.weights.values()))),
        "recipe": to_json(recipe),
        "precision": "float32",
        "seed": -1,
        "data": {
            "name": "ave", "fingerprint": "", "simulated": False,
            "note": f"weights of the released code ({SOURCE}), converted from {path.name}",
        },
        "train_ids": {},
        "init": None,
        "leak": 0,
        "metrics": {},
    }  # fmt: skip
