"""Exported models: they answer as in torch at any length and batch, and run without it."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import avel
from avel.backbones.base import backbones
from avel.cli.main import main
from avel.errors import CheckpointError, UsageError, WeightsError
from avel.inference.checkpoint import Trained
from avel.inference.load import load_model, load_trained
from avel.inference.localizer import Localizer
from avel.media.mel import log_mel
from avel.models import decision_rules as rules
from avel.models.base import Output, build_model, models
from avel.onnx import export as onnx_export
from avel.onnx.export import Exported, export_model
from avel.types import Features, Grid

onnx = pytest.importorskip("onnx", reason="the extra [onnx] isn't installed")
pytest.importorskip("onnxscript", reason="the extra [onnx] isn't installed")
ort = pytest.importorskip("onnxruntime", reason="the extra [onnx] isn't installed")

from avel.onnx import runtime  # noqa: E402
from avel.onnx.runtime import OnnxExtractor, OnnxModel, load_onnx  # noqa: E402

A, V, C = 6, 8, 3
SMALL: dict[str, dict[str, Any]] = {
    "jca": {"audio_out": 32, "visual_out": 32, "joint_out": 64, "hidden": 16}
}
SCORING = [(n, t) for n, c in models for t in c.card.tasks if t in ("sel", "wsel")]


def fresh(
    name: str, task: Any = "sel", *, regions: tuple[int, ...] = (3, 2), **options: Any
) -> Trained:
    """A model with random weights and a card."""
    torch.manual_seed(0)
    options = {**SMALL.get(name, {}), **options}
    network = build_model(name, audio_dim=A, visual_dim=V, classes=C, task=task, **options)
    card = {
        "format": 1, "model": name, "task": task, "options": options, "step": 1.0, "window": 4,
        "classes": ["a", "b", "c"], "dims": {"audio": A, "visual": V}, "data": {}, "train_ids": {},
        "audio_card": {"name": "ears", "weights": "w", "hash": "sha256:1"},
        "visual_card": {"name": "eyes", "hash": "sha256:2", "output": [*regions, V]},
    }  # fmt: skip
    return Trained(network.eval(), card)


def features(model: Trained, count: int, seed: int = 0) -> Features:
    rng = np.random.default_rng(seed)
    there = np.ones(count, bool)
    regions = model.visual_card["output"][:2]
    return Features(
        rng.random((count, A), np.float32), rng.random((count, *regions, V), np.float32),
        Grid(float(count)), there, there, model.audio_card, model.visual_card,
    )  # fmt: skip


def exported(model: Trained, folder: Path, **options: Any) -> OnnxModel:
    export_model(model, folder / "m.onnx", with_backbones=False, **options)
    return load_onnx(folder / "m.onnx")


def check_alike(model: Trained, other: OnnxModel) -> None:
    for count in (1, 3, 4, 9, 37):
        file = features(model, count)
        ours, theirs = model.predict(file), other.predict(file)
        np.testing.assert_allclose(theirs.values, ours.values, atol=1e-5)
        np.testing.assert_array_equal(theirs.labels, ours.labels)
        assert (theirs.attention is None) == (ours.attention is None)
        if ours.attention is not None and theirs.attention is not None:
            np.testing.assert_allclose(theirs.attention, ours.attention, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "task"), SCORING)
def test_every_model_that_scores_can_be_exported(name: str, task: str, tmp_path: Path) -> None:
    model = fresh(name, task, regions=(7, 7))
    other = exported(model, tmp_path)
    assert other.card == model.card
    assert other.rule == ("relevance" if name == "dam" else "largest")
    check_alike(model, other)


VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("dam", {"embedding": "gru"}), ("dam", {"embedding": "rnn"}), ("dam", {"embedding": "lstm"}),
    ("dam", {"embedding": "max", "matching": "none"}), ("jca", {"recurrent": "gru"}),
    ("jca", {"early": "dot", "attention": "co"}), ("av", {"fusion": "dmrfe"}),
    ("av", {"inputs": "amaps+v-co-att", "audio_regions": 3}), ("av", {"inputs": "a"}),
    ("cspa_csea", {"modules": "none"}), ("cspa_csea", {"gate": "sigmoid"}),
    ("ed_tcn", {"modality": "both"}),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_their_variants_too(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    model = fresh(name, **options)
    check_alike(model, exported(model, tmp_path))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, Exported]:
    """The model that is exported fastest."""
    model = fresh("ed_tcn")
    path = tmp_path_factory.mktemp("small") / "m.onnx"
    return model, export_model(model, path, with_backbones=False, lengths=(1, 5))


def test_files_of_any_length_are_scored_as_in_torch(small: tuple[Trained, Exported]) -> None:
    check_alike(small[0], load_onnx(small[1].paths[0]))


def test_batch_and_length_are_open(small: tuple[Trained, Exported]) -> None:
    session = ort.InferenceSession(str(small[1].paths[0]))
    shapes = {i.name: i.shape for i in session.get_inputs()}
    assert shapes == {"audio": ["batch", "time", A], "visual": ["batch", "time", 3, 2, V]}
    scores, labels = session.run(
        None, {"audio": np.zeros((5, 23, A), "f4"), "visual": np.zeros((5, 23, 3, 2, V), "f4")}
    )
    assert scores.shape == (5, 23, C + 1) and labels.shape == (5, 23)


def test_the_file_says_what_it_is(small: tuple[Trained, Exported]) -> None:
    model, done = small
    (path,) = done.paths
    meta = json.loads(onnx.load(str(path)).metadata_props[0].value)
    assert meta["kind"] == "model"
    assert meta["card"] == model.card
    assert meta["backbones"] == {"audio": "ears-w.onnx", "visual": "eyes.onnx"}
    assert meta["checked"] == {
        "difference": done.difference, "lengths": [1, 5], "batches": [1, 3]
    }  # fmt: skip
    assert 0 < done.difference < 1e-5


# ---- what can't be exported


class Apart(torch.nn.Module):
    """A model that tells what is audible and visible, and can't tell of the last class."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network
        unknown = torch.tensor([1.0] * (C - 1) + [float("nan")])
        self.register_buffer("unknown", unknown)

    def forward(self, *, audio: torch.Tensor, visual: torch.Tensor) -> Output:
        answer = self.network(audio=audio, visual=visual)
        heard = torch.sigmoid(audio[..., :C])
        parts = {"audible": heard, "visible": heard.square() * self.unknown, "logits": heard}
        return replace(answer, parts=parts)


def test_what_is_of_one_modality_is_an_output_of_its_own(tmp_path: Path) -> None:
    model = fresh("ed_tcn")
    model = replace(model, network=Apart(model.network))
    other = exported(model, tmp_path, lengths=(1, 5))
    assert [o.name for o in other.session.get_outputs()] == [
        "scores", "labels", "audible", "visible"
    ]  # fmt: skip
    check_alike(model, other)
    ours, theirs = (m.predict(features(model, 9)) for m in (model, other))
    assert ours.visual_scores is not None and theirs.audio_scores is not None
    assert np.isnan(ours.visual_scores).all(axis=0).tolist() == [False] * (C - 1) + [True]
    np.testing.assert_allclose(theirs.visual_scores, ours.visual_scores, atol=1e-5)
    np.testing.assert_allclose(theirs.audio_scores, ours.audio_scores, atol=1e-5)


class Weighted(torch.nn.Module):
    """A model that tells the weight of the sound, and the lag of each class over the clip."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *, audio: torch.Tensor, visual: torch.Tensor) -> Output:
        output = self.network(audio=audio, visual=visual)
        parts = {"audio_weight": torch.sigmoid(audio[..., 0]), "lag": audio[..., :C].mean(1)}
        return replace(output, parts=parts)


def test_the_weight_of_the_sound_and_its_lag_are_outputs(tmp_path: Path) -> None:
    model = fresh("ed_tcn")
    model = replace(model, network=Weighted(model.network))
    other = exported(model, tmp_path, lengths=(1, 5))
    names = [o.name for o in other.session.get_outputs()]
    assert names == ["scores", "labels", "audio_weight", "lag"]
    check_alike(model, other)
    file = features(model, 9)
    ours, theirs = (m.predict(file) for m in (model, other))
    assert ours.audio_weight is not None and ours.lag is not None
    expected = 1 / (1 + np.exp(-file.audio[:, 0]))
    np.testing.assert_allclose(ours.audio_weight, expected, rtol=1e-5)
    first = file.audio[:4, :C].mean(0)  # the lag of the first window holds until the second begins
    np.testing.assert_allclose(ours.lag[:2], [first, first], rtol=1e-5)
    np.testing.assert_allclose(theirs.audio_weight, ours.audio_weight, atol=1e-5)
    np.testing.assert_allclose(theirs.lag, ours.lag, atol=1e-5)


def test_another_lag_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = fresh("ed_tcn")
    model = replace(model, network=Weighted(model.network))
    graph = onnx.load(str(exported(model, tmp_path, lengths=(1, 5)).path))
    monkeypatch.setattr(onnx_export, "_graph", lambda *args: graph)

    class Late(Weighted):
        def forward(self, **inputs: torch.Tensor) -> Output:
            output = super().forward(**inputs)
            return replace(output, parts={**output.parts, "lag": output.parts["lag"] + 1e-2})

    late = replace(model, network=Late(model.network.network))
    with pytest.raises(CheckpointError, match=r"differs from torch by 0\.01"):
        export_model(late, tmp_path / "late.onnx", with_backbones=False)


def test_files_without_these_outputs_have_no_such_scores(small: tuple[Trained, Exported]) -> None:
    other = load_onnx(small[1].paths[0])
    assert other.predict(features(small[0], 9)).audio_scores is None


def test_another_answer_is_refused_and_nothing_is_written(
    small: tuple[Trained, Exported], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = onnx.load(str(small[1].paths[0]))
    monkeypatch.setattr(onnx_export, "_graph", lambda *args: held)
    model = fresh("ed_tcn")
    with torch.no_grad():
        model.network.head.bias[0] += 1e-3
    with pytest.raises(CheckpointError, match="for 1 segments it differs from torch"):
        export_model(model, tmp_path / "m.onnx", with_backbones=False)
    assert list(tmp_path.iterdir()) == []


def test_a_length_that_was_fixed_is_refused(tmp_path: Path) -> None:
    """A model that reads T as a number of its own, not from the data, as a trace would."""
    model = fresh("ed_tcn")
    plain = model.network.forward

    def forward(**given: Any) -> Output:
        answer = plain(**given)
        count = int(given["audio"].shape[1])
        assert answer.scores is not None
        return Output(answer.scores * (1.0 if count > 5 else 0.5), answer.labels)

    model.network.forward = forward  # type: ignore[method-assign]
    with pytest.raises(CheckpointError, match="ed_tcn can't be exported"):
        export_model(model, tmp_path / "m.onnx", with_backbones=False, lengths=(3, 10))
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_one_length_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="clips of 37 segments raise: the clips have 37 seg"):
        exported(fresh("jca", form="paper"), tmp_path)


def test_cml_gives_no_scores(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no class scores"):
        exported(fresh("cspa_csea", "cml"), tmp_path)


def test_a_decision_without_a_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fresh("ed_tcn")
    monkeypatch.setattr(
        type(model.network), "decision_rule", staticmethod(lambda s, p: s.argmax(-1)), raising=False
    )
    with pytest.raises(CheckpointError, match=r"no name in avel\.models\.decision_rules"):
        exported(model, tmp_path)


def test_every_models_decision_has_a_name() -> None:
    for name, cls in models:
        assert rules.rule_name(getattr(cls, "decision_rule", None)), name


# ---- files of strangers


@pytest.fixture(scope="module")
def default(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The toy model that ships, with its backbones."""
    folder = tmp_path_factory.mktemp("exported")
    return export_model(load_trained("toybox"), folder / "model.onnx", lengths=(1, 10, 37))


def changed_copy(default: Exported, folder: Path, change: Any) -> Path:
    """A copy of the files with other metadata in the model."""
    for path in default.paths:
        (folder / path.name).write_bytes(path.read_bytes())
    model = onnx.load(str(folder / "model.onnx"))
    meta = json.loads(model.metadata_props[0].value)
    text = change(meta)
    model.metadata_props[0].value = json.dumps(meta) if text is None else text
    onnx.save(model, str(folder / "model.onnx"))
    return folder / "model.onnx"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda m: m.update(kind="backbone"), "no model of avel's"),
        (lambda m: m.update(format=99), "reads up to 1"),
        (lambda m: m.update(rule="eval"), "'eval' isn't known"),
        (lambda m: m["backbones"].update(audio="../mini_audio-toybox.onnx"), "no names"),
        (lambda m: m.update(backbones=None), "no names"),
        (lambda m: m.update(card=[1]), "no card"),
        (lambda m: m["card"].update(window=-1), "window -1"),
        (lambda m: m["card"]["classes"].append("one more"), "21 classes, its graph scores 20"),
        (lambda m: m["card"]["dims"].update(audio=7), "audio features 7 wide, its graph takes"),
        (lambda m: "[" * 100000, "no model of avel's"),
        (lambda m: "x", "no model of avel's"),
    ],
)  # fmt: skip
def test_strange_metadata_are_refused(
    default: Exported, tmp_path: Path, change: Any, told: str
) -> None:
    with pytest.raises(CheckpointError, match=told):
        load_onnx(changed_copy(default, tmp_path, change))


def test_it_is_loaded_as_any_other_model(default: Exported, clip: Path) -> None:
    model = load_model(default.paths[0])
    assert isinstance(model, OnnxModel) and model.classes == load_trained("toybox").classes
    features = avel.extract(clip, **model.feature_options)
    expected = load_trained("toybox").predict(features)
    np.testing.assert_allclose(model.predict(features).values, expected.values, atol=1e-5)
    events = avel.localize(clip, model=default.paths[0]).events
    assert avel.localize(clip, model=model).events == events and events
    with pytest.raises(UsageError, match="no file"):
        load_model("none.onnx")
    with pytest.raises(CheckpointError, match="no trained model") as error:
        load_trained(default.paths[0])
    assert "avel.load_model" in error.value.hint


def test_scores_of_another_width_are_refused(default: Exported) -> None:
    """A graph may leave its widths open: what it gives is compared with the card too."""
    model = load_onnx(default.paths[0])
    other = replace(model, card={**model.card, "classes": [*model.classes, "one more"]})
    shapes = (1, 3, model.card["dims"]["audio"]), _visual_shape(model)
    with pytest.raises(CheckpointError, match="scores of shape"):
        other.predict_windows(*(np.ones(s, np.float32) for s in shapes))


def _visual_shape(model: OnnxModel) -> tuple[int, ...]:
    return (1, 3, *model.visual_card["output"][:2], model.card["dims"]["visual"])


def changed_backbone(default: Exported, folder: Path, change: Any) -> Path:
    """A copy of the audio's backbone with other metadata."""
    path = next(p for p in default.paths if p.name.startswith("mini_audio"))
    held = onnx.load(str(path))
    meta = json.loads(held.metadata_props[0].value)
    change(meta)
    held.metadata_props[0].value = json.dumps(meta)
    onnx.save(held, str(folder / path.name))
    return folder / path.name


def test_the_offset_of_the_log_mel_travels(
    default: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert runtime._load_backbone(changed_backbone(default, tmp_path, dict.copy)).log_offset == 0.01
    path = changed_backbone(default, tmp_path, lambda m: m.update(log_offset=0.001))
    backbone = runtime._load_backbone(path)
    extractor = OnnxExtractor(audio=backbone, visual=backbone, step=1.0)
    sounds = np.random.default_rng(1).standard_normal((3, 15600)).astype("f4") / 1000
    found = extractor._embed_audio(list(sounds))
    np.testing.assert_array_equal(found, backbone(log_mel(sounds, offset=0.001)))
    assert np.abs(found - backbone(log_mel(sounds))).max() > 1e-3
    path = changed_backbone(default, tmp_path, lambda m: m.pop("log_offset"))
    assert runtime._load_backbone(path).log_offset == 0.01  # of an earlier avel


@pytest.mark.parametrize("offset", [0, -1, 2, "x", None, [], float("nan"), float("inf")])
def test_a_strange_offset_is_refused(default: Exported, tmp_path: Path, offset: Any) -> None:
    path = changed_backbone(default, tmp_path, lambda m: m.update(log_offset=offset))
    with pytest.raises(WeightsError, match="no backbone"):
        runtime._load_backbone(path)


def test_no_other_file_is_read(tmp_path: Path) -> None:
    """Weights outside of the file, which ONNX knows, would be any file of this machine's."""
    held = onnx.numpy_helper.from_array(np.arange(4, dtype="f4"), "w")
    held.ClearField("raw_data")
    held.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", "secret.bin"), ("offset", "0"), ("length", "16")):
        held.external_data.add(key=key, value=value)
    (tmp_path / "secret.bin").write_bytes(np.arange(4, dtype="f4").tobytes())
    node = onnx.helper.make_node("Add", ["x", "w"], ["y"])
    x, y = (onnx.helper.make_tensor_value_info(n, 1, [4]) for n in "xy")
    graph = onnx.helper.make_graph([node], "g", [x], [y], [held])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
    model.ir_version = 9
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    ort.InferenceSession(str(tmp_path / "m.onnx"))  # by its path it would be read
    with pytest.raises(CheckpointError, match=r"m\.onnx"):
        load_onnx(tmp_path / "m.onnx")


def test_there_is_no_faster_precision(default: Exported) -> None:
    with pytest.raises(UsageError, match="precision bf16"):
        Localizer(default.paths[0], precision="bf16")


def test_damaged_and_missing_files_are_named(default: Exported, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no file .*none\.onnx"):
        load_onnx(tmp_path / "none.onnx")
    path = changed_copy(default, tmp_path, lambda m: None)
    (tmp_path / "mini_audio-toybox.onnx").unlink()
    with pytest.raises(WeightsError, match=r"mini_audio-toybox\.onnx is missing"):
        Localizer(path)
    (tmp_path / "mini_audio-toybox.onnx").write_bytes(b"nonsense")
    with pytest.raises(WeightsError, match=r"mini_audio-toybox\.onnx"):
        Localizer(path)
    (tmp_path / "mini_audio-toybox.onnx").write_bytes(path.read_bytes())
    with pytest.raises(WeightsError, match="no backbone of avel's"):
        Localizer(path)
    (tmp_path / "mini_audio-toybox.onnx").write_bytes(
        (tmp_path / "mini_visual-toybox.onnx").read_bytes()
    )
    with pytest.raises(WeightsError, match="holds mini_visual:toybox"):
        Localizer(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"model\.onnx"):
        load_onnx(path)


# ---- the whole way, without torch


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from avel.data.toybox.dataset import ToyboxPlan, render_clip

    folder = tmp_path_factory.mktemp("clip")
    name = render_clip(ToyboxPlan(seed=1_000_000_068, seconds=30), 0, folder)
    return folder / "videos" / f"{name}.mp4"


#: Runs `avel` where importing torch, or what only training and exporting need, is an error.
WITHOUT = """
import sys

class Refuses:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "lightning_fabric", "onnx", "onnxscript", "h5py",
                                      "sklearn", "scipy", "matplotlib", "requests", "gdown"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuses())
from avel.cli.main import main
code = main(sys.argv[1:])
assert not [m for m in sys.modules if m.partition(".")[0] == "torch"]
sys.exit(code)
"""


def without_torch(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def test_torch_is_never_imported_and_the_events_are_torchs(
    default: Exported, clip: Path, tmp_path: Path
) -> None:
    call = ["localize", clip, "--model", default.paths[0], "-o", "a.json", "a.html", "a.csv"]
    done = without_torch(*call, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "a.json").read_text())
    expected = Localizer("toybox")(clip).to_json()
    assert len(found["events"]) == 2
    for ours, theirs in zip(found["events"], expected["events"], strict=True):
        assert ours == {**theirs, "score": pytest.approx(theirs["score"], abs=1e-5)}
    assert [s["label"] for s in found["segments"]] == [s["label"] for s in expected["segments"]]
    assert found["classes"] == expected["classes"] and found["model"] == expected["model"]
    assert "data:image/png" in (tmp_path / "a.html").read_text()  # the spectrogram


def test_events_stream_without_torch_too(default: Exported, clip: Path, tmp_path: Path) -> None:
    call = ["localize", clip, "--stream", "--model", default.paths[0]]
    done = without_torch(*call, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    kinds = [json.loads(line)["kind"] for line in done.stdout.splitlines()]
    assert kinds == ["event", "event", "end"]


def test_what_needs_torch_says_so_without_it(clip: Path, tmp_path: Path) -> None:
    done = without_torch("localize", clip, cwd=tmp_path)
    assert done.returncode == 2
    assert "needs the Python package 'torch'" in done.stderr
    assert "Traceback" not in done.stderr


# ---- backbones


def alike(network: Any) -> float:
    proto, difference = onnx_export._backbone_proto(network.eval())
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    return difference


def test_licences_travel_with_the_weights() -> None:
    keras = onnx_export._licence({"name": "vgg19", "weights": "keras"})
    assert keras.startswith("CC BY 4.0")
    both = {"name": "vgg19+c3d", "weights": "keras+sports1m"}
    assert (
        onnx_export._licence(both) == f"{keras}; Apache-2.0 (OpenMMLab's port); trained on Sport-1M"
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", backbones.names())
def test_every_backbone_answers_as_in_torch(name: str) -> None:
    torch.manual_seed(0)
    assert alike(backbones.get(name)()) < 1e-4


# ---- the command


def test_the_command_writes_the_model_and_its_backbones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def fake(model: Trained, path: Path, **options: Any) -> Exported:
        asked.update(options, path=path)
        path.write_bytes(b"12")
        return Exported((path,), 1e-7)

    monkeypatch.setattr(onnx_export, "export_model", fake)
    monkeypatch.chdir(tmp_path)
    assert main(["export", "toybox", "m.onnx", "--no-backbones"]) == 0
    assert asked == {"with_backbones": False, "path": Path("m.onnx")}
    assert "by at most 1.0e-07" in capsys.readouterr().out
    assert main(["export", "toybox", "m.pt"]) == 2
    assert main(["export", "nothing", "m.onnx"]) == 2


def test_a_place_that_can_not_be_written_is_named_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(model: Trained, path: Path, **options: Any) -> Exported:
        raise AssertionError

    (tmp_path / "file").touch()
    monkeypatch.setattr(onnx_export, "export_model", never)
    places = [tmp_path / "file" / "m.onnx"]
    places += [Path("/proc/none/m.onnx")] if Path("/proc/self").exists() else []
    for place in places:  # the second even for root
        assert main(["export", "toybox", str(place)]) == 1
        assert f"{place} can't be written" in capsys.readouterr().err


def test_a_disk_that_is_full_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(model: Trained, path: Path, **options: Any) -> Exported:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(onnx_export, "export_model", full)
    assert main(["export", "toybox", str(tmp_path / "m.onnx")]) == 1
    assert "m.onnx can't be written (No space left on device)" in capsys.readouterr().err
