"""A backbone as it runs here: precision chosen and measured, weights cast once, sizes padded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from avel.backbones.base import ClipBackbone, backbones
from avel.backbones.c3d import C3D
from avel.backbones.load import load_backbone
from avel.backbones.vgg19 import VGG19
from avel.backbones.vggish import VGGish
from avel.errors import UsageError
from avel.features.network import Network, worst_cosine
from avel.features.speed import example
from tests.backbone_samples import OneLayer

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVEL_CACHE", str(tmp_path / "cache"))


def patches(n: int) -> Tensor:
    return torch.randn(n, 96, 64, generator=torch.manual_seed(n))


def of(backbone: Any, **options: Any) -> Network:
    return Network(backbone.eval(), {"name": "x"}, device=CPU, **options)


def test_float32_is_the_backbone_itself() -> None:
    backbone = OneLayer()
    plain = of(backbone, batch=3)
    found = plain(patches(8))
    assert found.dtype == np.float32 and backbone.sizes == [3, 3, 2]
    assert np.abs(found - backbone(patches(8)).detach().numpy()).max() < 1e-6
    assert plain.card == plain.measured_card == {"name": "x"} and plain.error is None


@pytest.mark.parametrize("before", [True, False])
def test_float32_on_a_gpu_is_no_tf32(before: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Watching(OneLayer):
        def forward(self, inputs: Tensor) -> Tensor:
            told.append(torch.backends.cudnn.allow_tf32)
            return super().forward(inputs)

    told: list[bool] = []
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", before)
    of(Watching(), precision="auto", batch=4)(patches(5))
    assert len(told) >= 2 and not any(told)
    assert torch.backends.cudnn.allow_tf32 == before


def test_bf16_measures_its_error_once_on_what_it_reads() -> None:
    backbone = OneLayer()
    fast = of(backbone, precision="bf16")
    assert backbone.layer.weight.dtype == torch.float32
    assert fast.card == fast.measured_card == {"name": "x", "precision": "bf16"}
    found, exact = fast(patches(9)), of(backbone)(patches(9))
    assert fast.error == worst_cosine(found[:4], exact[:4]) and 1e-7 < fast.error < 1e-3
    assert fast.card == {"name": "x", "precision": "bf16"}
    assert fast.measured_card["error"] == pytest.approx(fast.error, rel=1e-3, abs=1e-9)
    before, calls = fast.error, len(backbone.sizes)
    fast(100 * patches(5))
    assert fast.error == before and len(backbone.sizes) == calls


def test_worst_cosine() -> None:
    a = np.array([[1.0, 0.0], [0.0, 0.0], [3.0, 4.0]])
    assert worst_cosine(a, a) == 0
    assert worst_cosine(a[:, ::-1], a) == 1
    assert worst_cosine(a * 7, a) == pytest.approx(0, abs=1e-15)
    assert worst_cosine(np.array([[0.0, 0.0]]), np.array([[1.0, 0.0]])) == 1
    assert worst_cosine(np.array([[3.0, 4.0]]), np.array([[4.0, 3.0]])) == pytest.approx(1 / 25)
    assert worst_cosine(np.zeros((0, 2)), np.zeros((0, 2))) == 0


def test_a_compiled_network_knows_one_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "true")
    monkeypatch.setattr(torch, "compile", lambda run, **_: run)
    backbone = OneLayer()
    network = of(backbone, batch=4, compile=True)
    found = network(patches(6))
    assert backbone.sizes == [4, 4] and found.shape == (6, 8)
    assert network.card == {"name": "x", "compiled": True}
    assert np.abs(found - of(backbone)(patches(6))).max() < 1e-6


def test_without_a_compiler_nothing_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UsageError, match="no-such-compiler isn't there"):
        of(OneLayer(), compile=True)


@pytest.mark.slow
def test_really_compiled() -> None:
    backbone = VGG19((2, 3, 4, 5, 6)).eval().requires_grad_(False)
    frames = torch.randint(0, 256, (3, 64, 64, 3), generator=torch.manual_seed(1)).byte()
    compiled = of(backbone, batch=2, compile=True)(frames)
    assert worst_cosine(compiled, of(backbone)(frames)) < 1e-6


def test_nonsense_is_refused() -> None:
    with pytest.raises(UsageError, match="precision int8"):
        of(OneLayer(), precision="int8")


@pytest.mark.parametrize(
    "make",
    [
        lambda: VGG19((2, 3, 4, 5, 6)),
        lambda: VGGish((2, 2, 2, 2, 2, 2), (8, 8)),
        lambda: C3D((2, 2, 2, 2, 2, 2, 2, 2)),
        lambda: load_backbone("mini_audio", modality="audio")[0],
        lambda: load_backbone("mini_visual", modality="visual")[0],
    ],
)
def test_every_backbone_runs_in_bf16_near_its_float32(make: Callable[[], Any]) -> None:
    backbone = make().eval().requires_grad_(False)
    inputs = example(backbone, 1 if isinstance(backbone, ClipBackbone) else 2)
    fast, slow = of(backbone, precision="bf16"), of(backbone)
    assert worst_cosine(fast(inputs), slow(inputs)) < 5e-3
    assert fast.error is not None and fast.error < 5e-3


@pytest.mark.parametrize("name", ["mini_audio", "mini_visual", "efficientnet_lite0"])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_pictures_are_the_same_bits_in_any_company(name: str, precision: str) -> None:
    modality: Any = backbones.get(name).card.modality
    backbone, _ = load_backbone(name, modality=modality)
    inputs = torch.cat([example(backbone, 4)] * 4)
    whole = of(backbone, precision=precision, batch=16)(inputs)
    if modality == "visual":
        for batch in (1, 3, 5):
            parts = of(backbone, precision=precision, batch=batch)(inputs)
            assert parts.tobytes() == whole.tobytes()
    else:  # sixteen at a time, the others silent
        alone = torch.zeros_like(inputs)
        alone[:3] = inputs[:3]
        part = of(backbone, precision=precision, batch=16)(alone)[:3]
        assert part.tobytes() == whole[:3].tobytes()
