"""VGG-19: files of both published layouts, and an independent computation beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.signal import correlate

from avel.backbones.load import load_backbone
from avel.backbones.vgg19 import DEPTHS, VGG19, WIDTHS
from avel.errors import WeightsError

SMALL = (2, 3, 4, 5, 6)
KERAS, TORCHVISION = VGG19.weights["keras"], VGG19.weights["torchvision"]
# torchvision's numbering of VGG-19's convolutions, as its published file has it
NUMBERS = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)

Kernels = dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]


def layers(widths: tuple[int, ...]) -> Iterator[tuple[str, int, int]]:
    before = 3
    for block, (depth, width) in enumerate(zip(DEPTHS, widths, strict=True), start=1):
        for i in range(depth):
            yield f"block{block}_conv{i + 1}", before, width
            before = width


def kernels(widths: tuple[int, ...], seed: int = 0) -> Kernels:
    """Random HWIO kernels and biases, scaled so that activations stay in range."""
    rng = np.random.default_rng(seed)
    return {
        name: (
            rng.normal(0, np.sqrt(2 / (9 * a)), (3, 3, a, b)).astype(np.float32),
            rng.normal(0, 0.1, b).astype(np.float32),
        )
        for name, a, b in layers(widths)
    }


def write_keras(path: Path, held: Kernels, *, newer: bool = False, nested: bool = False) -> Path:
    with h5py.File(path, "w") as f:
        root = f.create_group("model_weights") if nested else f
        root.attrs["layer_names"] = [n.encode() for n in ("input_1", *held, "block5_pool")]
        for name, (kernel, bias) in held.items():
            layer = root.create_group(name)
            inside = layer.create_group(name) if newer else layer
            inside["kernel:0" if newer else f"{name}_W_1:0"] = kernel
            inside["bias:0" if newer else f"{name}_b_1:0"] = bias
        for pool in range(1, 6):
            root.create_group(f"block{pool}_pool")
    return path


def write_torchvision(path: Path, held: Kernels, *, legacy: bool = True) -> Path:
    state = {}
    for number, (kernel, bias) in zip(NUMBERS, held.values(), strict=True):
        state[f"features.{number}.weight"] = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
        state[f"features.{number}.bias"] = torch.from_numpy(bias)
    state["classifier.0.weight"] = torch.zeros(4, 4)
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    return path


def by_hand(frame: NDArray[np.uint8], held: Kernels, mode: str) -> NDArray[np.float64]:
    """Plain loops over scipy's correlation: nothing of torch in it."""
    x = frame.astype(np.float64)
    if mode == "keras":
        x = x[..., ::-1] - [103.939, 116.779, 123.68]
    else:
        x = (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    block = "block1"
    for name, (kernel, bias) in held.items():
        if not name.startswith(block):
            x, block = pool(x), name[:6]
        planes = [
            sum(correlate(x[..., i], kernel[..., i, o], mode="same") for i in range(x.shape[2]))
            for o in range(kernel.shape[3])
        ]
        x = np.maximum(np.stack(planes, axis=-1) + bias, 0)
    return pool(x)


def pool(x: NDArray[np.float64]) -> NDArray[np.float64]:
    h, w = x.shape[0] // 2 * 2, x.shape[1] // 2 * 2
    x = x[:h, :w]
    return np.maximum(
        np.maximum(x[::2, ::2], x[1::2, ::2]), np.maximum(x[::2, 1::2], x[1::2, 1::2])
    )


def frames(n: int, size: int = 64) -> torch.Tensor:
    return torch.randint(0, 256, (n, size, size, 3), generator=torch.manual_seed(3)).byte()


def loaded(path: Path, mode: str) -> VGG19:
    network = VGG19(SMALL)
    network.load_weights(path, VGG19.weights[mode])
    return network.eval()


@pytest.mark.parametrize(("newer", "nested"), [(False, False), (True, False), (True, True)])
def test_the_keras_file_in_each_of_its_layouts(tmp_path: Path, newer: bool, nested: bool) -> None:
    held = kernels(SMALL)
    path = write_keras(tmp_path / "w.h5", held, newer=newer, nested=nested)
    with torch.no_grad():
        out = loaded(path, "keras")(frames(2))
    assert out.shape == (2, 2, 2, 6)
    for i in range(2):
        np.testing.assert_allclose(
            out[i], by_hand(frames(2)[i].numpy(), held, "keras"), rtol=1e-3, atol=1e-3
        )


@pytest.mark.parametrize("legacy", [True, False])
def test_the_torchvision_file_old_and_new(tmp_path: Path, legacy: bool) -> None:
    held = kernels(SMALL)
    path = write_torchvision(tmp_path / "w.pth", held, legacy=legacy)
    with torch.no_grad():
        out = loaded(path, "torchvision")(frames(1))
    expected = by_hand(frames(1)[0].numpy(), held, "torchvision")
    np.testing.assert_allclose(out[0], expected, rtol=1e-3, atol=1e-4)


def test_the_preprocessing_goes_with_the_weights(tmp_path: Path) -> None:
    held = kernels(SMALL)
    network = loaded(write_torchvision(tmp_path / "w.pth", held), "torchvision")
    red = torch.zeros(1, 1, 1, 3, dtype=torch.uint8)
    red[..., 0] = 255
    expected = [(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225]
    torch.testing.assert_close(network.prepare(red).flatten(), torch.tensor(expected))
    network.load_weights(write_keras(tmp_path / "w.h5", held), KERAS)
    expected = [0 - 103.939, 0 - 116.779, 255 - 123.68]  # blue, green, red
    torch.testing.assert_close(network.prepare(red).flatten(), torch.tensor(expected))


def test_other_sizes_and_one_frame(tmp_path: Path) -> None:
    network = loaded(write_keras(tmp_path / "w.h5", kernels(SMALL)), "keras")
    with torch.no_grad():
        wide = network(torch.zeros(1, 96, 160, 3, dtype=torch.uint8))
        assert wide.shape == (1, 3, 5, 6)
        assert network(torch.zeros(0, 224, 224, 3, dtype=torch.uint8)).shape == (0, 7, 7, 6)
        torch.testing.assert_close(network(frames(3))[1:2], network(frames(3)[1:2]))


def test_all_mistakes_of_a_file_are_named(tmp_path: Path) -> None:
    held = kernels(SMALL)
    held["block1_conv2"] = (np.zeros((3, 3, 2, 9), np.float32), held["block1_conv2"][1])
    del held["block5_conv4"]
    with pytest.raises(WeightsError) as raised:
        loaded(write_keras(tmp_path / "w.h5", held), "keras")
    message = str(raised.value)
    assert "block1_conv2.weight: (9, 2, 3, 3), expected (2, 2, 3, 3)" in message
    assert "block5_conv4.weight: missing" in message and "block5_conv4.bias: missing" in message
    assert "block2" not in message


@pytest.mark.parametrize("mode", ["keras", "torchvision"])
def test_a_damaged_file_is_an_error_of_ours(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "w"
    write_keras(path, kernels(SMALL)) if mode == "keras" else write_torchvision(
        path, kernels(SMALL)
    )
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(WeightsError):
        loaded(path, mode)


def test_only_the_published_file_gets_through_the_front_door(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVEL_CACHE", str(tmp_path))
    (tmp_path / "weights").mkdir()
    for weights in VGG19.weights.values():
        path = tmp_path / "weights" / weights.filename
        write_keras(path, kernels(SMALL))
        with pytest.raises(WeightsError, match="isn't the file") as raised:
            load_backbone(f"vgg19:{weights.name}", modality="visual")
        assert weights.hash in str(raised.value)


def test_the_published_parameters_are_counted() -> None:
    count = sum((9 * a + 1) * b for _, a, b in layers(WIDTHS))
    assert count == 20_024_384  # keras: vgg19 without top
    with torch.device("meta"):
        assert sum(p.numel() for p in VGG19().parameters()) == count


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["keras", "torchvision"])
def test_full_size_files_of_random_values(tmp_path: Path, mode: str) -> None:
    held = kernels(WIDTHS)
    write = write_keras if mode == "keras" else write_torchvision
    network = VGG19()
    network.load_weights(write(tmp_path / "w", held), VGG19.weights[mode])
    frame = frames(1, 224)
    with torch.no_grad():
        out = network(frame)
    assert out.shape == (1, 7, 7, 512) == (1, *VGG19.card.output)
    np.testing.assert_allclose(out[0], by_torch(frame, held, mode)[0], rtol=1e-2, atol=1e-2)


def by_torch(frame: torch.Tensor, held: Kernels, mode: str) -> torch.Tensor:
    """In float64, by unfolding and matrix products."""
    x = frame.double().permute(0, 3, 1, 2)
    if mode == "keras":
        x = x[:, [2, 1, 0]] - torch.tensor([103.939, 116.779, 123.68])[:, None, None]
    else:
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        x = (x / 255 - mean[:, None, None]) / std[:, None, None]
    for i, (name, (kernel, bias)) in enumerate(held.items()):
        if i and name.endswith("conv1"):
            x = x.unflatten(2, (-1, 2)).unflatten(4, (-1, 2)).amax((3, 5))
        columns = torch.nn.functional.unfold(x, 3, padding=1)  # (1, in*9, H*W)
        matrix = torch.from_numpy(kernel).double().permute(3, 2, 0, 1).flatten(1)
        x = (matrix @ columns[0] + torch.from_numpy(bias).double()[:, None]).relu()
        side = int(columns.shape[2] ** 0.5)
        x = x.reshape(1, len(bias), side, side)
    return x.unflatten(2, (-1, 2)).unflatten(4, (-1, 2)).amax((3, 5)).permute(0, 2, 3, 1)
