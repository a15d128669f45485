"""YAMNet and EfficientNet-Lite0: the reference implementations' numbers, and their classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from avel.backbones import Tagger, load_backbone
from avel.backbones.efficientnet_lite import EfficientNetLite0
from avel.backbones.yamnet import YAMNet
from avel.errors import WeightsError
from avel.features import mel
from avel.features.logmel import log_mel
from avel.weights import weights_state

TAGGERS = {"yamnet": YAMNet, "efficientnet_lite0": EfficientNetLite0}

Arrays = Mapping[str, NDArray[Any]]


def worst(found: Tensor | NDArray[Any], wanted: NDArray[Any]) -> float:
    found = np.asarray(found)
    assert found.shape == wanted.shape
    return float(np.abs(found - wanted).max())


def golden(shared: Path, name: str) -> Arrays:
    with np.load(shared / "golden" / f"{name}.npz") as held:
        return dict(held)


@pytest.fixture(scope="module")
def yamnet() -> Tagger:
    if weights_state(YAMNet.weights["audioset"]) == "absent":
        try:
            load_backbone("yamnet", modality="audio")
        except WeightsError as e:
            pytest.skip(f"YAMNet's weights can't be fetched: {e.got}")
    network, _ = load_backbone("yamnet", modality="audio")
    assert isinstance(network, Tagger)
    return network


@pytest.fixture(scope="module")
def efficientnet() -> Tagger:
    network, _ = load_backbone("efficientnet_lite0", modality="visual")
    assert isinstance(network, Tagger)
    return network


# ---- the reference implementations' numbers


def segments(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    """The beginnings of the wave's own patches, 48 frames apart."""
    return np.stack([wave[i * 48 * mel.HOP :][: mel.NEEDED] for i in range(7)])


def test_the_log_mel_is_tensorflows(shared: Path) -> None:
    held = golden(shared, "yamnet")
    wanted = np.stack([held["logmel"][48 * i :][:96] for i in range(7)])
    offset = YAMNet.card.log_offset
    sounds = segments(held["wave"])
    assert worst(log_mel(torch.from_numpy(sounds), offset=offset), wanted) < 1e-4
    assert worst(mel.log_mel(sounds, offset=offset), wanted) < 1e-4
    assert worst(mel.log_mel(sounds), wanted) > 0.1  # VGGish's offset is another


@torch.inference_mode()
def test_yamnet_is_tensorflows(shared: Path, yamnet: Tagger) -> None:
    held = golden(shared, "yamnet")
    patches = np.stack([held["logmel"][48 * i :][:96] for i in range(8)])
    features = yamnet(torch.from_numpy(patches))
    assert worst(features, held["embedding"]) < 1e-4
    assert worst(yamnet.classify(features), held["scores"]) < 1e-4
    heard = log_mel(torch.from_numpy(segments(held["wave"])), offset=yamnet.card.log_offset)
    assert worst(yamnet(heard), held["embedding"][:7]) < 1e-4


@torch.inference_mode()
def test_efficientnet_is_the_reference_implementation(shared: Path, efficientnet: Tagger) -> None:
    held = golden(shared, "efficientnet_lite0")
    maps = efficientnet(torch.from_numpy(held["frames"]))
    assert worst(maps, held["maps"]) < 1e-4
    chances = efficientnet.classify(maps)
    assert worst(chances, held["probabilities"]) < 1e-4
    assert efficientnet.classes[int(chances[1].argmax())] == "sulphur-crested cockatoo"
