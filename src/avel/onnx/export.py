"""Export of trained models and backbones to ONNX, compared with torch before they are written.

Batch and T stay open; for recurrent networks see :mod:`avel.onnx.recurrent`.
"""

from __future__ import annotations

import copy
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from avel.backbones.base import Backbone, ClipBackbone, backbones
from avel.backbones.identity import backbone_option
from avel.backbones.load import load_backbone
from avel.errors import AvelError, CheckpointError
from avel.files import write_whole
from avel.inference.checkpoint import Trained
from avel.inference.windows import SCORE_PARTS
from avel.models.base import TASK_TRAITS, Output
from avel.models.decision_rules import HALF, rule_name
from avel.onnx.recurrent import in_one_node, translations
from avel.types import Floats, Json

if TYPE_CHECKING:
    import onnx

#: Of the metadata; a runtime reads up to its own.
FORMAT = 1
OPSET = 18
#: Segments and clips at which every exported model is compared with torch.
LENGTHS, BATCHES = (1, 3, 10, 37, 300), (1, 3)
#: The largest difference of a probability; of a feature, as a share of the largest one.
TOLERANCE = 1e-5
_EXAMPLE = (2, 6)  # clips and segments that the graph is traced with


@dataclass(frozen=True)
class Exported:
    """What was written.

    Args:
        paths: The model, then its backbones.
        difference: The largest difference of its outputs from torch's.
    """

    paths: tuple[Path, ...]
    difference: float


def export_model(
    model: Trained,
    path: str | Path,
    *,
    with_backbones: bool = True,
    lengths: Sequence[int] = LENGTHS,
) -> Exported:
    """Write a model, and its backbones beside it, as files that `avel localize` reads.

    Batch and T of the model are open, and so is the batch of the backbones. Classes, step, backbone
    cards and decision lie in the file's metadata. Files are written once all of them were compared
    with torch.

    Args:
        model: Of task sel or wsel.
        path: Of the ``.onnx`` file.
        with_backbones: False writes the model alone; ``NAME-WEIGHTS.onnx`` of its backbones must
            then lie beside it where it is used.
        lengths: Segments at which it is compared.

    Raises:
        CheckpointError: if the model can't be exported, or its outputs differ from torch's.
        WeightsError: if a backbone's weights are missing.
    """
    path = Path(path)
    rule = _rule(model)
    proto, difference = _model_proto(model, lengths)
    cards = {"audio": model.audio_card, "visual": model.visual_card}
    files = {modality: backbone_file(card) for modality, card in cards.items()}
    meta = {
        "kind": "model", "format": FORMAT, "card": model.card, "rule": rule,
        "backbones": files,
        "checked": {"difference": difference, "lengths": list(lengths), "batches": list(BATCHES)},
    }  # fmt: skip
    written = [(path, _with_meta(proto, meta))]
    if with_backbones:
        for modality, card in cards.items():
            written.append((path.parent / files[modality], _backbone_file(card, modality)))
    for target, data in written:
        write_whole(target, data)
    return Exported(tuple(target for target, _ in written), difference)


def backbone_file(card: Mapping[str, Any]) -> str:
    """``vgg19-keras.onnx``: the name of an exported backbone."""
    plain = "".join(c if c.isalnum() or c in "_+" else "-" for c in backbone_option(card))
    return f"{plain}.onnx"


def _rule(model: Trained) -> str:
    if not TASK_TRAITS[model.card["task"]].classifies:
        raise CheckpointError(
            f"a model trained for {model.card['task']} has no class scores",
            expected="a model of task sel or wsel",
            hint="export one that `avel localize` could use",
        )
    rule = rule_name(model.decision_rule)
    if rule is None:
        raise _refused(
            model.card["model"],
            "its decision over windows has no name in avel.models.decision_rules",
        )
    return rule


def _refused(name: str, why: str) -> CheckpointError:
    return CheckpointError(
        f"{name} can't be exported: {why}",
        expected="a model for clips of any length that ONNX can hold",
        hint="use it with torch, or train it with other options",
    )


# ---- the model


class _TupleOutputs(nn.Module):
    """A model whose output is a tuple: scores, labels, and of the other outputs those it has."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, audio: Tensor, visual: Tensor) -> tuple[Tensor, ...]:
        return tuple(_outputs(self.network(audio=audio, visual=visual)).values())


def _outputs(output: Output) -> dict[str, Tensor]:
    """The outputs of an exported model by name, in their order."""
    tensors = {"scores": output.scores, "labels": output.labels, "attention": output.attention}
    tensors |= {name: output.segment_part(name) for name in SCORE_PARTS.values()}
    return {name: x for name, x in tensors.items() if x is not None}


def _model_proto(model: Trained, lengths: Sequence[int]) -> tuple[onnx.ModelProto, float]:
    """The graph, and the largest difference of its outputs from torch's."""
    name = model.card["model"]
    plain = model.network.eval()
    shape = _clip_shape(model)
    truth = {}
    for length in lengths:
        for batch in BATCHES:
            inputs = _clips(batch, length, *shape)
            truth[batch, length] = inputs, _torch_outputs(name, length, plain, inputs)
    network = _TupleOutputs(in_one_node(copy.deepcopy(model.network))).eval()
    axes = {0: "batch", 1: "time"}
    outputs = list(truth[BATCHES[0], lengths[0]][1])
    proto = _graph(
        name, network, _clips(*_EXAMPLE, *shape), (axes, axes), ["audio", "visual"], outputs
    )
    run = _session(proto)
    worst = 0.0
    for (_, length), (inputs, expected) in truth.items():
        actual = run(dict(zip(("audio", "visual"), inputs, strict=True)))
        worst = max(worst, _difference(name, length, actual, list(expected.values())))
    return proto, worst


def _clip_shape(model: Trained) -> tuple[int, tuple[int, int, int]]:
    """A and (H, W, V), the regions as the picture's backbone gives them."""
    regions = list(model.visual_card.get("output", []))[:2]
    if len(regions) < 2:
        raise _refused(model.card["model"], "its card doesn't hold the number of regions")
    dims = model.card["dims"]
    return dims["audio"], (int(regions[0]), int(regions[1]), dims["visual"])


def _clips(batch: int, length: int, audio: int, visual: tuple[int, int, int]) -> list[Floats]:
    rng = np.random.default_rng(batch * 1000 + length)
    shapes = (batch, length, audio), (batch, length, *visual)
    return [np.abs(rng.standard_normal(s)).astype(np.float32) for s in shapes]


def _torch_outputs(
    name: str, length: int, network: nn.Module, inputs: Sequence[Floats]
) -> dict[str, np.ndarray[Any, Any]]:
    """Torch's outputs by the names of the outputs."""
    audio, visual = map(torch.from_numpy, inputs)
    try:
        with torch.inference_mode():
            tensors = _outputs(network(audio=audio, visual=visual))
    except AvelError as e:
        raise _refused(name, f"clips of {length} segments raise: {e.got}") from e
    return {output: x.numpy() for output, x in tensors.items()}


def _difference(
    name: str,
    length: int,
    actual: Sequence[np.ndarray[Any, Any]],
    expected: Sequence[np.ndarray[Any, Any]],
) -> float:
    """The largest difference; another label counts where the scores don't nearly tie.

    Of events that are alike `named_events` scores the likeliest alone, the others 0. Where two of
    them nearly tie rounding decides which: a few such segments aren't compared.
    """
    if [f.shape for f in actual] != [w.shape for w in expected]:
        raise _refused(name, f"its shapes differ from torch's for {length} segments")
    floats = [(f, w) for f, w in zip(actual, expected, strict=True) if w.dtype.kind == "f"]
    if any((np.isnan(f) != np.isnan(w)).any() for f, w in floats):
        raise _refused(name, f"for {length} segments it knows other values than torch")
    swapped = np.zeros(expected[1].shape, dtype=bool)
    for f, w in floats:
        apart = ((f == 0) != (w == 0)) & (np.abs(f - w) > TOLERANCE)
        swapped |= apart.any(-1) if f.ndim == 3 else False
    if swapped.sum() > max(1, swapped.size // 50):
        raise _refused(name, f"for {length} segments it scores other events than torch")
    worst = max(float(np.nanmax(np.abs(f - w)[~swapped], initial=0.0)) for f, w in floats)
    best = np.sort(expected[0], axis=-1)
    tied = swapped | (best[..., -1] - best[..., -2] < 10 * TOLERANCE)
    tied |= np.abs(expected[0][..., -1] - HALF) < 10 * TOLERANCE
    if not worst <= TOLERANCE or bool(((actual[1] != expected[1]) & ~tied).any()):
        raise _refused(name, f"for {length} segments it differs from torch by {worst:.2g}")
    return worst


# ---- torch to ONNX, and ONNX run


def _graph(
    name: str,
    network: nn.Module,
    inputs: Sequence[Floats],
    axes: Sequence[Mapping[int, str]],
    input_names: list[str],
    output_names: list[str],
) -> onnx.ModelProto:
    sizes = {name: torch.export.Dim(name) for axis in axes for name in axis.values()}
    try:
        with _quietly(), torch.no_grad():
            program = torch.export.export(
                network,
                tuple(map(torch.from_numpy, inputs)),
                dynamic_shapes=tuple({n: sizes[s] for n, s in axis.items()} for axis in axes),
                strict=False,
                prefer_deferred_runtime_asserts_over_guards=True,
            )
            program_onnx = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                input_names=input_names,
                output_names=output_names,
                dynamic_shapes=tuple(map(dict, axes)),  # the names of the open sizes
                custom_translation_table=translations(),
                verbose=False,
            )
    except Exception as e:  # torch names what it can't hold by errors of any kind
        first = str(e).strip().partition("\n")[0][:200]
        raise _refused(name, f"torch.onnx raises {type(e).__name__}: {first}") from e
    assert program_onnx is not None
    return program_onnx.model_proto


@contextmanager
def _quietly() -> Iterator[None]:
    """Without remarks on other libraries, and with attention in its plain form."""
    log, fast = logging.getLogger("torch.onnx"), torch.backends.mha.get_fastpath_enabled()
    level = log.level
    log.setLevel(logging.ERROR)
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
        torch.backends.mha.set_fastpath_enabled(fast)


def _session(proto: onnx.ModelProto) -> Callable[[Mapping[str, Any]], list[Any]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda inputs: list(session.run(None, dict(inputs)))


def _with_meta(proto: onnx.ModelProto, meta: Json) -> bytes:
    import onnx

    text = json.dumps(meta, sort_keys=True, ensure_ascii=False)
    onnx.helper.set_model_props(proto, {"avel": text})
    proto.producer_name = "avel"
    onnx.checker.check_model(proto)
    data: bytes = proto.SerializeToString()
    return data


# ---- backbones


def _backbone_file(card: Json, modality: Any) -> bytes:
    """An exported backbone with its card, compared with torch."""
    network, description = load_backbone(backbone_option(card), modality=modality)
    if description.get("hash") != card.get("hash"):
        raise CheckpointError(
            f"the model was trained on other weights of {card.get('name')}",
            expected=f"{card.get('hash')}",
            hint="bring back those weights, or export with --no-backbones",
        )
    proto, difference = _backbone_proto(network)
    backbone_card = network.card
    meta = {
        "kind": "backbone", "format": FORMAT, "card": description, "frames": backbone_card.frames,
        "log_offset": backbone_card.log_offset, "patch_hop": backbone_card.patch_hop,
        "clip": isinstance(network, ClipBackbone), "input": backbone_card.input,
        "paper": backbone_card.paper,
        "licence": _licence(description), "checked": {"difference": difference},
    }  # fmt: skip
    return _with_meta(proto, meta)


def _licence(card: Json) -> str:
    """Of the weights; of several backbones side by side, each one's."""
    names, weights = (str(card.get(key, "")).split("+") for key in ("name", "weights"))
    entries = [backbones.get(n).weights.get(w) for n, w in zip(names, weights, strict=True)]
    return "; ".join(dict.fromkeys(w.licence for w in entries if w is not None))


def _backbone_proto(network: Backbone) -> tuple[onnx.ModelProto, float]:
    """The graph with an open batch, and its largest difference as a share of the largest value."""
    name = network.card.name
    example = [_seconds(network, 2)]
    proto = _graph(name, network, example, ({0: "batch"},), ["inputs"], ["features"])
    run, worst = _session(proto), 0.0
    for batch in (1, 5):
        inputs = _seconds(network, batch)
        with torch.inference_mode():
            expected = network(torch.from_numpy(inputs)).numpy()
        actual = run({"inputs": inputs})[0]
        if actual.shape != expected.shape:
            raise _refused(name, f"{actual.shape} in place of {expected.shape}")
        worst = max(
            worst, float(np.abs(actual - expected).max() / max(1e-6, np.abs(expected).max()))
        )
    if not worst <= 10 * TOLERANCE:
        raise _refused(name, f"its features differ from torch's by {worst:.2g} of the largest")
    return proto, worst


def _seconds(network: Backbone, batch: int) -> np.ndarray[Any, Any]:
    """Inputs as the backbone takes them."""
    rng = np.random.default_rng(batch)
    if network.card.modality == "audio":
        return rng.uniform(-4.6, 3, (batch, 96, 64)).astype(np.float32)
    clip = (network.card.frames,) if isinstance(network, ClipBackbone) else ()
    return rng.integers(0, 256, (batch, *clip, 224, 224, 3), np.uint8)
