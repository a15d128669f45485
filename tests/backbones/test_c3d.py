"""C3D and VGGish's maps: layouts of their weights, what they see, and extraction with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from avel.backbones.base import Card, ClipBackbone, Weights, backbones
from avel.backbones.c3d import C3D, NAMES
from avel.backbones.concat import Joint
from avel.backbones.load import load_backbone
from avel.backbones.vgg19 import VGG19
from avel.backbones.vggish import VGGish
from avel.backbones.vggish_maps import VGGishMaps
from avel.backbones.weights import weights_path
from avel.errors import UsageError, WeightsError
from avel.features.extractor import Extractor
from avel.media.file import RATE, open_media
from avel.models.base import build_model
from tests.media_files import grey, mux, tone

WIDTHS = (2, 3, 4, 4, 5, 5, 6, 7)
PUBLISHED = C3D.weights["sports1m"]


def state(pattern: str = "{}.conv") -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(3)
    held, before = {"fc6.weight": torch.zeros(2, 2)}, 3
    for name, width in zip(NAMES, WIDTHS, strict=True):
        weight = torch.randn(width, before, 3, 3, 3, generator=g) / (13 * before) ** 0.5
        held[pattern.format(name) + ".weight"] = weight
        held[pattern.format(name) + ".bias"] = torch.randn(width, generator=g) / 10
        before = width
    return held


def loaded(path: Path, held: object) -> C3D:
    torch.save(held, path)
    network = C3D(WIDTHS)
    network.load_weights(path, PUBLISHED)
    return network.eval()


def clips(n: int = 1) -> Tensor:
    g = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (n, 16, 224, 224, 3), generator=g, dtype=torch.uint8)


def test_both_layouts_of_the_file_and_its_wrapping(tmp_path: Path) -> None:
    held = state()
    ours = loaded(tmp_path / "w.pth", held)
    assert ours.convolutions["conv3b"].weight.equal(held["conv3b.conv.weight"])
    plain = {n.replace("1a", "1").replace("2a", "2"): t for n, t in state("{}").items()}
    wrapped = {"state_dict": {f"backbone.{n}": t for n, t in held.items()}, "meta": {"epoch": 1}}
    for other in (plain, wrapped):
        again = loaded(tmp_path / "w.pth", other)
        for name, tensor in ours.state_dict().items():
            assert tensor.equal(again.state_dict()[name])


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    held = state()
    del held["conv4a.conv.bias"]
    held["conv5b.conv.weight"] = torch.zeros(1)
    with pytest.raises(WeightsError) as raised:
        loaded(tmp_path / "w.pth", held)
    assert "convolutions.conv4a.bias: missing" in str(raised.value)
    assert "convolutions.conv5b.weight: (1,), expected (7, 6, 3, 3, 3)" in str(raised.value)


def test_sizes_inside_are_the_papers(tmp_path: Path) -> None:
    network = loaded(tmp_path / "w.pth", state())
    sizes: list[tuple[int, ...]] = []
    for convolution in network.convolutions.values():
        convolution.register_forward_hook(lambda _m, _i, out: sizes.append(tuple(out.shape[2:])))
    with torch.no_grad():
        out = network(clips(2))
    assert sizes == [
        (16, 112, 112), (16, 56, 56), (8, 28, 28), (8, 28, 28), (4, 14, 14), (4, 14, 14),
        (2, 7, 7), (2, 7, 7),
    ]  # fmt: skip
    assert out.shape == (2, 1, 1, 7)
    assert bool((out >= 0).all()) and bool((out > 0).any())


def test_published_widths_and_parameters() -> None:
    with torch.device("meta"):
        network = C3D()
    assert isinstance(network, ClipBackbone)
    assert sum(p.numel() for p in network.parameters()) == 27_655_936
    assert C3D.card.output == (1, 1, 512)


def test_it_sees_the_middle_and_what_moves(tmp_path: Path) -> None:
    network = loaded(tmp_path / "w.pth", state())
    frames = clips()
    edge = frames.clone()
    edge[:, :, :10], edge[:, :, :, -10:] = 0, 255
    backwards = frames.flip(1)
    still = frames[:, :1].expand(-1, 16, -1, -1, -1)
    with torch.no_grad():
        out = network(frames)
        torch.testing.assert_close(network(edge), out, atol=1e-4, rtol=0)
        assert (network(backwards) - out).abs().max() > 1e-3
        torch.testing.assert_close(network(still.flip(1)), network(still))


def test_preprocessing_is_the_ports() -> None:
    frames = torch.zeros(1, 16, 224, 224, 3, dtype=torch.uint8)
    frames[..., 0] = 200  # red
    x = C3D(WIDTHS).prepare(frames)
    assert x.shape == (1, 3, 16, 112, 112)
    expected = torch.tensor([200 - 104.0, -117.0, -128.0])
    torch.testing.assert_close(x.amax((0, 2, 3, 4)), expected)
    torch.testing.assert_close(x.amin((0, 2, 3, 4)), expected)


class SmallVGG(VGG19):
    """VGG-19 of few channels."""

    card = replace(VGG19.card, output=(7, 7, 5))

    def __init__(self) -> None:
        super().__init__((2, 3, 4, 4, 5))


class SmallC3D(C3D):
    """C3D of few channels."""

    card: ClassVar[Card] = replace(C3D.card, output=(1, 1, 7))

    def __init__(self) -> None:
        super().__init__(WIDTHS)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`vgg19` and `c3d` of few channels, with weights that are there."""
    torch.manual_seed(5)
    held, index = {}, 0
    for name, convolution in SmallVGG().convolutions.items():
        index += name.endswith("_conv1") and not name.startswith("block1")
        held[f"features.{index}.weight"] = convolution.weight
        held[f"features.{index}.bias"] = convolution.bias
        index += 2
    torch.save(held, tmp_path / VGG19.weights["torchvision"].filename)
    torch.save(state(), tmp_path / PUBLISHED.filename)
    monkeypatch.setattr(
        "avel.backbones.load.weights_file",
        lambda w, **_: tmp_path / w.filename if w.url else weights_path(w),
    )
    backbones.names()
    monkeypatch.setitem(backbones._entries, "vgg19", SmallVGG)
    monkeypatch.setitem(backbones._entries, "c3d", SmallC3D)


@pytest.mark.usefixtures("small")
def test_vgg_and_c3d_side_by_side() -> None:
    name = "vgg19+c3d:torchvision+sports1m"
    network, card = load_backbone(name, modality="visual")
    assert isinstance(network, ClipBackbone)
    assert (card["name"], card["weights"]) == ("vgg19+c3d", "torchvision+sports1m")
    assert card["output"] == [7, 7, 12] and network.card.frames == 16
    assert card["hash"] == f"{VGG19.weights['torchvision'].hash}+{PUBLISHED.hash}"
    assert f"{card['name']}:{card['weights']}" == name  # what `avel extract --visual` takes again
    frames = clips(2)
    with torch.no_grad():
        both = network(frames)
        vgg, c3d = (load_backbone(n, modality="visual")[0]
                    for n in ("vgg19:torchvision", "c3d"))  # fmt: skip
        maps = torch.stack([vgg(clip).mean(0) for clip in frames])
        torch.testing.assert_close(both[..., :5], maps, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(both[..., 5:], c3d(frames).expand(-1, 7, 7, -1))


@pytest.mark.usefixtures("small")
def test_side_by_side_they_read_a_file_and_a_model_reads_them(tmp_path: Path) -> None:
    pictures = [(i / 20, grey(20 + 4 * i)) for i in range(40)]
    path = mux(tmp_path / "a.mkv", pictures=pictures, sounds=[(0.0, tone(2.0, RATE))])
    found = Extractor(visual="vgg19+c3d:torchvision+sports1m")(path)
    assert found.visual.shape == (2, 7, 7, 12)
    assert (found.visual[..., 5:] == found.visual[:, :1, :1, 5:]).all()
    assert found.visual[..., 5:].std() > 0
    alone = Extractor(visual="vgg19:torchvision")(path)
    np.testing.assert_allclose(found.visual[..., :5], alone.visual, rtol=1e-3, atol=1e-4)
    net = build_model(
        "av", audio_dim=128, visual_dim=12, classes=3, inputs="a+v+c3d", c3d_dim=7, state=4
    )
    audio, visual = (torch.from_numpy(x)[None] for x in (found.audio, found.visual))
    assert net(audio=audio, visual=visual).labels.shape == (1, 2)


@pytest.mark.usefixtures("small")
def test_backbones_that_dont_go_together() -> None:
    with pytest.raises(UsageError, match="unknown backbone 'c3e'"):
        load_backbone("c3d+c3e", modality="visual")
    with pytest.raises(UsageError, match="3 names of weights are given for 2 backbones"):
        load_backbone("vgg19+c3d:a+b+c", modality="visual")
    with pytest.raises(UsageError, match="unknown visual backbone 'vggish'"):
        load_backbone("vggish+c3d", modality="visual")
    a, b = (Watching() for _ in range(2))
    b.card = replace(a.card, frames=7)  # type: ignore[misc]
    with pytest.raises(UsageError, match="5 frames; watching"):
        Joint([a, b])


def test_vggish_maps_are_what_vggish_sees_before_its_vector() -> None:
    channels = (2, 3, 4, 4, 5, 6)
    torch.manual_seed(0)
    whole, maps = VGGish(channels, (8, 7, 9)), VGGishMaps(channels)
    maps.load_state_dict({n: t for n, t in whole.state_dict().items() if "features" in n})
    patches = torch.randn(2, 96, 64)
    with torch.no_grad():
        flat = maps(patches)
        regions = whole.maps(patches).flatten(1, 2)  # (N, 24, channels)
    assert flat.shape == (2, 24 * 6)
    assert flat.reshape(2, 24, 6).equal(regions)  # as the model `av` reads them


def test_vggishs_own_file_fills_the_maps(tmp_path: Path) -> None:
    channels = (2, 3, 4, 4, 5, 6)
    whole = VGGish(channels, (8, 7, 9))
    torch.save(whole.state_dict(), tmp_path / "w.pth")
    maps = VGGishMaps(channels)
    maps.load_weights(tmp_path / "w.pth", VGGishMaps.weights["audioset"])
    for name, tensor in maps.state_dict().items():
        assert tensor.equal(whole.state_dict()[name])
    assert VGGishMaps.card.output == (12288,)


def test_the_supplements_model_reads_the_maps() -> None:
    width = VGGishMaps.card.output[0]
    net = build_model(
        "av", audio_dim=width, visual_dim=8, classes=3, inputs="amaps+v-co-att", hidden=16, state=4
    )
    answer = net(audio=torch.rand(1, 2, width), visual=torch.rand(1, 2, 7, 7, 8))
    assert answer.parts["audio_attention"].shape == (1, 2, 24)
    torch.testing.assert_close(answer.parts["audio_attention"].sum(-1), torch.ones(1, 2))


class Watching(ClipBackbone):
    """The brightness of each of a segment's frames: (N, 1, 1, 5)."""

    card = Card("watching", "visual", (1, 1, 5), "", "", frames=5)
    weights: ClassVar[dict[str, Weights]] = {}

    def load_weights(self, path: Path, weights: Weights) -> None: ...

    def forward(self, inputs: Tensor) -> Tensor:
        assert inputs.shape[1:] == (5, 224, 224, 3) and inputs.dtype == torch.uint8
        return inputs.float().mean((2, 3, 4))[:, None, None]


class Deaf(nn.Module):
    """Nothing of the sound: (N, 1)."""

    card = Card("deaf", "audio", (1,), "", "")

    def forward(self, patches: Tensor) -> Tensor:
        return patches.new_zeros(len(patches), 1)


@pytest.mark.parametrize("batch", [1, 10, 1000])
def test_a_segments_frames_go_through_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    def find(name: str, *, modality: str) -> tuple[dict[str, str], type[nn.Module]]:
        return {"name": name}, Deaf if modality == "audio" else Watching

    monkeypatch.setattr("avel.features.extractor.find_backbone", find)
    pictures = [(i / 10, grey(20 + 5 * i)) for i in range(34)]  # ends at 3.4 s
    path = mux(tmp_path / "a.mkv", pictures=pictures, sounds=[(0.0, tone(5.0, RATE))])
    found = Extractor(batch=batch)(path)
    assert found.visual.shape == (5, 1, 1, 5)
    segments = list(open_media(path).segments(frames=5))
    for segment in segments:  # after 3.4 s the last picture stays
        own = segment.frames.reshape(len(segment.frames), -1).mean(1)
        expected = np.concatenate([own, np.repeat(own[-1:], 5 - len(own))])
        assert np.abs(found.visual[segment.index, 0, 0] - expected).max() < 1e-3
        if segment.index < 3:
            assert (np.diff(found.visual[segment.index, 0, 0]) > 5).all()  # in their order
