"""VGGish: torchvggish's file, the order in which its maps are flattened, and the raw output."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from avel.backbones.load import load_backbone
from avel.backbones.vggish import CHANNELS, HIDDEN, VGGish
from avel.errors import WeightsError

SMALL, NARROW = (2, 3, 4, 4, 5, 6), (8, 7, 9)
NUMBERS = (0, 3, 6, 8, 11, 13)  # of the convolutions in torchvggish's file
PUBLISHED = VGGish.weights["audioset"]

State = dict[str, torch.Tensor]


def state(channels: tuple[int, ...], hidden: tuple[int, ...]) -> State:
    g = torch.Generator().manual_seed(5)
    held: State = {}
    before = 1
    for number, width in zip(NUMBERS, channels, strict=True):
        shape = (width, before, 3, 3)
        held[f"features.{number}.weight"] = torch.randn(shape, generator=g) / (9 * before) ** 0.5
        held[f"features.{number}.bias"] = torch.randn(width, generator=g) / 10
        before = width
    before *= 24
    for number, width in zip((0, 2, 4), hidden, strict=True):
        shape = (width, before)
        held[f"embeddings.{number}.weight"] = torch.randn(shape, generator=g) / before**0.5
        held[f"embeddings.{number}.bias"] = torch.randn(width, generator=g) / 10
        before = width
    return held


def by_hand(patches: torch.Tensor, held: State) -> torch.Tensor:
    """TensorFlow's VGGish in its own layout: maps (N, 6, 4, channels), flattened as they lie."""
    x = patches.double()[:, None]
    for i, number in enumerate(NUMBERS):
        kernel = held[f"features.{number}.weight"].double()
        columns = functional.unfold(x, 3, padding=1)
        x = (kernel.flatten(1) @ columns).unflatten(2, x.shape[2:])
        x = (x + held[f"features.{number}.bias"].double()[:, None, None]).relu()
        if i in (0, 1, 3, 5):
            x = x.unflatten(2, (-1, 2)).unflatten(4, (-1, 2)).amax((3, 5))
    rows = [torch.cat([x[n, :, t, f] for t in range(6) for f in range(4)]) for n in range(len(x))]
    y = torch.stack(rows)
    for number in (0, 2, 4):
        weight, bias = held[f"embeddings.{number}.weight"], held[f"embeddings.{number}.bias"]
        y = (y @ weight.double().T + bias.double()).relu()
    return y


def loaded(path: Path, held: State) -> VGGish:
    torch.save(held, path)
    network = VGGish(SMALL, NARROW)
    network.load_weights(path, PUBLISHED)
    return network.eval()


def patches(n: int) -> torch.Tensor:
    return torch.randn(n, 96, 64, generator=torch.manual_seed(1)) * 2 - 3


def test_the_published_layout_and_its_flattening(tmp_path: Path) -> None:
    held = state(SMALL, NARROW)
    network = loaded(tmp_path / "w.pth", held)
    with torch.no_grad():
        out = network(patches(3))
        assert network.maps(patches(3)).shape == (3, 6, 4, 6)
    assert out.shape == (3, 9) and bool((out >= 0).all()) and bool((out > 0).any())
    torch.testing.assert_close(out.double(), by_hand(patches(3), held), rtol=1e-4, atol=1e-5)


def test_nothing_is_done_after_the_last_relu(tmp_path: Path) -> None:
    held = state(SMALL, NARROW)
    held["embeddings.4.bias"] = torch.full((9,), 7.25)
    held["embeddings.4.weight"] = torch.zeros(9, 7)
    held["embeddings.4.bias"][0] = -1.0
    with torch.no_grad():
        out = loaded(tmp_path / "w.pth", held)(patches(1))
    torch.testing.assert_close(out, torch.tensor([[0.0] + [7.25] * 8]))


def test_all_mistakes_of_a_file_are_named(tmp_path: Path) -> None:
    held = state(SMALL, NARROW)
    held["features.3.weight"] = torch.zeros(1)
    del held["embeddings.4.bias"]
    with pytest.raises(WeightsError) as raised:
        loaded(tmp_path / "w.pth", held)
    assert "features.3.weight: (1,), expected (3, 2, 3, 3)" in str(raised.value)
    assert "embeddings.4.bias: missing" in str(raised.value)


def test_a_truncated_or_wrong_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVEL_CACHE", str(tmp_path))
    path = tmp_path / "weights" / PUBLISHED.filename
    path.parent.mkdir()
    torch.save(state(SMALL, NARROW), path)
    with pytest.raises(WeightsError, match="isn't the file"):
        load_backbone("vggish", modality="audio")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="isn't the file"):
        load_backbone("vggish", modality="audio")
    with pytest.raises(WeightsError, match="can't be read"):
        VGGish(SMALL, NARROW).load_weights(path, PUBLISHED)


def test_the_published_parameters_are_counted() -> None:
    with torch.device("meta"):
        network = VGGish()
    assert sum(p.numel() for p in network.parameters()) == 72_141_184
    expected = {n: tuple(t.shape) for n, t in network.state_dict().items()}
    assert list(expected) == [
        *(f"features.{i}.{k}" for i in NUMBERS for k in ("weight", "bias")),
        *(f"embeddings.{i}.{k}" for i in (0, 2, 4) for k in ("weight", "bias")),
    ]
    assert expected["embeddings.0.weight"] == (4096, 12288)


@pytest.mark.slow
def test_a_full_size_file_of_random_values(tmp_path: Path) -> None:
    held = state(CHANNELS, HIDDEN)
    torch.save(held, tmp_path / "w.pth")
    network = VGGish()
    network.load_weights(tmp_path / "w.pth", PUBLISHED)
    with torch.no_grad():
        out = network(patches(1))
        assert network.maps(patches(1)).shape == (1, 6, 4, 512)
    assert out.shape == (1, 128) == (1, *VGGish.card.output)
    torch.testing.assert_close(out.double(), by_hand(patches(1), held), rtol=1e-3, atol=1e-5)
