"""The ladder's own parts: fused convolutions that are the same network, padding, bounds."""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from avel.backbones import blocks, vgg19
from avel.backbones.blocks import SameBlock
from avel.backbones.vgg19 import VGG19
from tests.conftest import load_script

needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="a torch without oneDNN"
)


@pytest.fixture
def ladder(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(blocks, "FEWEST", blocks.FEWEST)  # put back afterwards
    return load_script("extraction_ladder", folder="benchmarks")


@needs_onednn
@pytest.mark.parametrize("operator", ["fused_operator", "prepacked_operator"])
@torch.no_grad()
def test_a_fused_network_gives_the_same(ladder: ModuleType, operator: str) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(
        SameBlock(3, 8, kernel=3, stride=2, limit=6.0),
        SameBlock(8, 8, kernel=3, depthwise=True, limit=math.inf),
        SameBlock(8, 4),
    ).to(memory_format=torch.channels_last)
    x = 5 * torch.randn(2, 3, 16, 16).to(memory_format=torch.channels_last)
    expected = plain(x)
    ladder.fuse(plain, getattr(ladder, operator))
    for _ in range(2):  # the second time with packed weights
        assert torch.allclose(plain(x), expected, atol=1e-5)


@needs_onednn
@torch.no_grad()
def test_vgg19_fused_has_no_relu_of_its_own(
    ladder: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vgg19, "functional", vgg19.functional)  # put back afterwards
    network = VGG19((4, 4, 4, 4, 4)).eval()
    x = torch.randint(0, 256, (1, 64, 64, 3), generator=torch.manual_seed(1)).byte()
    expected = network(x)
    ladder.fuse(network, ladder.fused_operator)
    assert torch.allclose(network(x), expected, atol=1e-4)


def test_outputs_of_all_inputs_in_batches_of_one_size(ladder: ModuleType) -> None:
    sizes = []

    def run(part: np.ndarray) -> np.ndarray:
        sizes.append(len(part))
        return 2 * part

    inputs = np.arange(10.0, dtype=np.float32).reshape(5, 2)
    rows = np.concatenate(list(ladder.outputs(run, inputs, 2)))
    assert np.array_equal(rows, 2 * inputs) and sizes == [2, 2, 2]
    replayed = ladder.replay(rows)
    assert np.array_equal(replayed([0, 0, 0]), rows[:3])
    assert np.array_equal(replayed([0, 0]), rows[3:])


def test_multiplications_of_a_network(ladder: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), SameBlock(8, 4, kernel=3, stride=2))
    monkeypatch.setattr(ladder, "eager_network", lambda name: network)
    example = np.zeros((2, 3, 16, 16), np.float32)
    expected = 16 * 16 * 8 * 27 + 8 * 8 * 4 * 72
    assert ladder.multiplications("vgg19", example) == expected


def test_the_taggers_need_clips(ladder: ModuleType, tmp_path: object) -> None:
    with pytest.raises(ladder.UsageError, match="--reals"):
        ladder.prepare(["yamnet"], None, tmp_path)
