"""The mini backbones: packaged, small, what their cards say, and good enough to try avel out."""

from __future__ import annotations

import json
from importlib import resources

import numpy as np
import pytest
import torch

from avel.backbones.base import backbones
from avel.backbones.blocks import fold_all
from avel.backbones.load import load_backbone
from avel.backbones.mini_common import ConvBlock, packaged_card, packaged_weights
from avel.backbones.mini_visual import MiniVisual
from avel.backbones.weights import weights_file
from avel.data.composer.reading import read_pairs
from avel.data.toybox.render import render_boxes, render_frames, render_sound
from avel.data.toybox.scene import make_scene
from avel.data.toybox.things import CLASSES
from avel.errors import WeightsError
from avel.features.logmel import log_mel
from avel.files import file_hash

MINIS = ("mini_audio", "mini_visual")
MODALITY = {"mini_audio": "audio", "mini_visual": "visual"}


@pytest.fixture(scope="module")
def audio():
    return load_backbone("mini_audio", modality="audio")[0]


@pytest.fixture(scope="module")
def visual():
    return load_backbone("mini_visual", modality="visual")[0]


@pytest.mark.parametrize("name", MINIS)
def test_card_tells_the_truth_about_the_file(name):
    card = json.loads((resources.files("avel") / "pretrained" / f"{name}.json").read_text())
    weights = backbones.get(name).weights["toybox"]
    path = weights_file(weights)
    assert weights.url == "" and path.parent.name == "pretrained"
    assert weights.hash == f"sha256:{file_hash(path)}" == f"sha256:{card['sha256']}"
    assert path.stat().st_size == card["size"] == weights.size < 3_000_000
    assert card["classes"] == [*CLASSES, *read_pairs("pairs10").classes]
    assert "MIT" in card["licence"] and "trying out" in card["note"]
    assert "minis" in card["data"] and card["seconds_of_training"] > 0
    assert "train_minis.py" in card["command"]
    assert card["note"] == backbones.get(name).card.note


@pytest.mark.parametrize("name", MINIS)
def test_sources_are_named_with_their_licences(name):
    card = packaged_card(name)
    toybox, real = card["sources"]
    assert toybox["licence"] == "MIT"
    assert all(real[key] for key in ("name", "by", "licence", "address"))
    told = (resources.files("avel") / "pretrained" / "ATTRIBUTION.md").read_text("utf-8")
    assert real["address"] in told and real["licence"].split(",")[0] in told


@pytest.mark.parametrize("name", MINIS)
def test_weights_fill_every_parameter_as_float32(name):
    network, plain = load_backbone(name, modality=MODALITY[name])
    assert all(p.dtype == torch.float32 for p in network.parameters())
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())
    assert plain["weights"] == "toybox" and plain["hash"].startswith("sha256:")


def test_shapes_batch_one_and_batches_agree(audio, visual):
    frames = torch.randint(0, 256, (2, 224, 224, 3), dtype=torch.uint8)
    patches = torch.randn(2, 96, 64) - 1
    for network, inputs, shape in ((visual, frames, (7, 7, 128)), (audio, patches, (128,))):
        whole, one = network(inputs), network(inputs[1:2])
        assert whole.shape == (2, *shape) and one.shape == (1, *shape)
        assert one.dtype == torch.float32 and (whole >= 0).all()
        torch.testing.assert_close(whole[1:2], one, rtol=1e-4, atol=1e-4)
        assert list(network.card.output) == list(shape)


def test_folding_keeps_the_answers():
    torch.manual_seed(0)
    network = torch.nn.Sequential(ConvBlock(3, 8, norm=True), ConvBlock(8, 8, stride=2, norm=True))
    for _ in range(3):
        network(torch.randn(4, 3, 16, 16) * 2 + 1)
    network.eval()
    x = torch.randn(2, 3, 16, 16)
    before = network(x)
    fold_all(network)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())
    torch.testing.assert_close(network(x), before, rtol=1e-4, atol=1e-5)


def test_wrong_files_are_refused(tmp_path):
    weights = packaged_weights("mini_visual")["toybox"]
    path = tmp_path / "mini_visual.safetensors"
    path.write_bytes(weights_file(weights).read_bytes()[:5000])
    with pytest.raises(WeightsError, match="can't be read"):
        MiniVisual().load_weights(path, weights)
    other = weights_file(packaged_weights("mini_audio")["toybox"])
    with pytest.raises(WeightsError, match="doesn't fit"):
        MiniVisual().load_weights(other, weights)


def test_a_name_without_a_card_has_weights_that_match_no_file():
    assert packaged_weights("nothing")["toybox"].hash == "sha256:" + "0" * 64


@pytest.mark.parametrize("size", [64, 128, 256])
def test_maps_grow_with_the_frame(visual, size):
    frames = torch.randint(0, 256, (1, size, size, 3), dtype=torch.uint8)
    assert visual(frames).shape == (1, size // 32, size // 32, 128)


def _centroid_accuracy(x: np.ndarray, y: np.ndarray) -> float:
    """Nearest class centre, leave-one-half-out: chance is one in ten."""
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)
    half = np.arange(len(x)) % 2 == 0
    centres = np.stack([x[half & (y == c)].mean(0) for c in range(len(CLASSES))])
    return float((np.argmax(x[~half] @ centres.T, 1) == y[~half]).mean())


def test_audio_features_tell_the_classes_apart(audio):
    waves, labels = [], []
    for index in range(250):
        scene = make_scene(21, index, seconds=1.0)
        if len(scene.sounds) == 1:
            waves.append(render_sound(scene))
            labels.append(CLASSES.index(scene.sounds[0].label))
    features = audio(log_mel(torch.from_numpy(np.stack(waves)))).numpy()
    assert _centroid_accuracy(features, np.array(labels)) > 0.8


def test_maps_are_strongest_where_the_thing_is(visual):
    from PIL import Image

    frames, spots = [], []
    for index in range(300):
        scene = make_scene(22, index, seconds=1.0)
        if len(scene.things) == 1 and len(frames) < 30:
            frame = next(render_frames(scene, fps=1))
            frames.append(np.asarray(Image.fromarray(frame).resize((224, 224))))
            box = render_boxes(scene, fps=1)[0][0]
            spots.append(((box[0] + box[2]) / 640, (box[1] + box[3]) / 480))
    maps = visual(torch.from_numpy(np.stack(frames))).sum(-1)  # (N, 7, 7)
    tops = maps.flatten(1).argmax(1)
    near = [
        abs((int(t) % 7 + 0.5) / 7 - x) < 0.22 and abs((int(t) // 7 + 0.5) / 7 - y) < 0.22
        for t, (x, y) in zip(tops, spots, strict=True)
    ]
    assert np.mean(near) > 0.7  # by chance about 0.2
