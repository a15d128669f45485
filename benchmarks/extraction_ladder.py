"""What each step brings to a backbone on one core; write results/extraction_ladder.csv.

    python benchmarks/extraction_ladder.py                     # VGG-19, about 4 minutes
    python benchmarks/extraction_ladder.py --reals REALS --networks yamnet,efficientnet_lite0

Every rung is a process of its own with one thread, and what counts is the time that its core spent,
so that other work on the machine hardly disturbs it. Beside it (``units_ms_an_input``) what all of
an input's multiplications would take at the rate of one convolution that fills the core's units:
what remains above it isn't arithmetic.

VGG-19 has random weights (He) and reads random pictures. The default's taggers read the patches and
pictures of REALS, a folder as benchmarks/reals.py reads it, and the accuracy of the default model
on it stands beside each rung: this network's outputs by that rung, the other's in float32.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from common import RESULTS, machine, write_csv
from numpy.typing import NDArray

from avel.errors import UsageError

Rung = dict[str, Any]

_BF16: Rung = {"last": True, "bf16": True}
VGG = (
    ("plain: eager float32, one by one", {"batch": 1}),
    ("float32, 16 together, channels last", {"last": True}),
    ("float32, 16 together, channels last, memory kept", {"last": True, "keep": True}),
    ("bf16, 16 together, channels last", _BF16),
    ("bf16, 16 together, channels last, memory kept", _BF16 | {"keep": True}),
    ("bf16, 16 together, weights packed, ReLU fused (private operator), memory kept",
     _BF16 | {"keep": True, "fused": True}),
    ("bf16, 16 together, compiled, frozen, memory kept", _BF16 | {"keep": True, "compile": True}),
)  # fmt: skip
TAGGER = (
    ("plain: eager float32, one by one", {"batch": 1, "keep": True}),
    ("float32, 16 together", {"keep": True}),
    ("float32, 16 together, channels last", {"keep": True, "last": True}),
    ("float32, 16 together, weights packed, ReLU fused (public operator)",
     {"keep": True, "last": True, "prepacked": True}),
    ("bf16, 16 together, channels last", _BF16 | {"keep": True}),
    ("bf16, 16 together, weights packed, ReLU fused (private operator)",
     _BF16 | {"keep": True, "fused": True}),
    ("bf16, 16 together, compiled, frozen", _BF16 | {"keep": True, "compile": True}),
    ("ONNX Runtime, float32", {"onnx": "float32"}),
    ("ONNX Runtime, int8 weights (dynamic)", {"onnx": "dynamic"}),
    ("ONNX Runtime, int8 (static), calibrated on 64 inputs", {"onnx": "static"}),
)  # fmt: skip
NETWORKS: dict[str, tuple[tuple[str, Rung], ...]] = {
    "vgg19": VGG, "yamnet": TAGGER, "efficientnet_lite0": TAGGER,
}  # fmt: skip
BATCH, CALIBRATED = 16, 64


def core_seconds(work: Callable[[], Any], runs: int) -> list[float]:
    """Of the thread that calls, after two runs that warm up."""
    work()
    work()
    taken = []
    for _ in range(runs):
        start = time.thread_time()
        work()
        taken.append(time.thread_time() - start)
    return taken


# --- one rung, in a process of its own -----------------------------------------------------------


def climb(name: str, rung: Rung, folder: Path, runs: int) -> list[float]:
    """Milliseconds an input; the outputs of all inputs go to ``outputs.npy``."""
    inputs = np.load(folder / f"{name}.npy", mmap_mode="r")
    batch = rung.get("batch", BATCH)
    run = onnx_network(name, rung["onnx"], folder) if "onnx" in rung else network(name, rung)
    some = np.ascontiguousarray(inputs[:batch])
    taken = core_seconds(lambda: run(some), runs if batch > 1 else 3 * runs)
    np.save(folder / "outputs.npy", np.concatenate(list(outputs(run, inputs, batch))))
    return [1000 * t / batch for t in taken]


def outputs(
    run: Callable[[Any], Any], inputs: NDArray[Any], batch: int
) -> Iterator[NDArray[np.float32]]:
    """Of all inputs, always as many together."""
    for i in range(0, len(inputs), batch):
        part = np.ascontiguousarray(inputs[i : i + batch])
        padded = np.concatenate([part, np.zeros((batch - len(part), *part.shape[1:]), part.dtype)])
        yield run(padded)[: len(part)]


def eager_network(name: str) -> Any:
    """The network in float32 on one thread."""
    import torch

    from avel.backbones.base import backbones
    from avel.backbones.load import load_backbone
    from avel.backbones.vgg19 import VGG19

    torch.set_num_threads(1)
    torch.manual_seed(0)
    if name != "vgg19":
        modality: Any = backbones.get(name).card.modality
        return load_backbone(name, modality=modality)[0].eval().requires_grad_(False)
    net = VGG19().eval().requires_grad_(False)
    for convolution in net.convolutions.values():
        torch.nn.init.kaiming_normal_(convolution.weight)  # type: ignore[arg-type]
    return net


def network(name: str, rung: Rung) -> Callable[[NDArray[Any]], NDArray[np.float32]]:
    """The network as a rung wants it."""
    import torch

    from avel.backbones import blocks
    from avel.memory import keep_memory

    if rung.get("keep"):
        keep_memory()
    net = eager_network(name)
    last = torch.channels_last if rung.get("last") else torch.contiguous_format
    net.to(memory_format=last)
    if rung.get("batch") == 1:
        blocks.FEWEST = 1  # the plain way pads no batch
    if rung.get("bf16"):
        net.to(torch.bfloat16)
    if rung.get("fused") or rung.get("prepacked"):
        fuse(net, fused_operator if rung.get("fused") else prepacked_operator)
    run = net
    if rung.get("compile"):
        run = torch.compile(net, dynamic=False, options={"freezing": True})

    def array(inputs: NDArray[Any]) -> NDArray[np.float32]:
        with torch.no_grad():
            return np.asarray(run(torch.from_numpy(inputs)).float().numpy())

    return array


def fused_operator(conv: Any, limit: float | None) -> Callable[[Any], Any]:
    """oneDNN's convolution and ReLU as torch's compiled networks call it; a private operator."""
    import torch

    ops = torch.ops.mkldnn
    kinds = {None: ("none", []), math.inf: ("relu", [])}
    kind, scalars = kinds.get(limit, ("hardtanh", [0.0, limit]))  # type: ignore[arg-type]
    where = [*map(list, (conv.padding, conv.stride, conv.dilation)), conv.groups]
    packed: list[Any] = []

    def run(x: Any) -> Any:
        if not packed:
            packed.append(ops._reorder_convolution_weight(conv.weight, *where, list(x.shape)))
        return ops._convolution_pointwise(x, packed[0], conv.bias, *where, kind, scalars, "")

    return run


def prepacked_operator(conv: Any, limit: float | None) -> Callable[[Any], Any]:
    """The public pre-packed convolution; it knows ReLU, and no other limit."""
    import torch

    ops = torch.ops.mkldnn_prepacked
    where = [*map(list, (conv.stride, conv.padding, conv.dilation)), conv.groups]
    packed: list[Any] = []

    def run(x: Any) -> Any:
        if not packed:
            kind = "relu" if limit == math.inf else "none"
            weights = conv.weight, conv.bias
            packed.append(ops.conv2d_prepack(*weights, *where, list(x.shape), kind))
        x = ops.conv2d_run(x, packed[0])
        return x if limit in (None, math.inf) else x.clamp_(0, limit)

    return run


def fuse(net: Any, operator: Callable[[Any, float | None], Callable[[Any], Any]]) -> None:
    """Let each convolution apply the ReLU that follows it."""
    from torch.nn import functional

    from avel.backbones import vgg19
    from avel.backbones.blocks import SameBlock

    for block in net.modules():
        if isinstance(block, SameBlock):
            run, cut = operator(block.conv, block.limit), block.conv.stride[0] == 1
            block.forward = run if cut else _without_first(run)
    for conv in getattr(net, "convolutions", {}).values():
        conv.forward = operator(conv, math.inf)
        vgg19.functional = SimpleNamespace(  # type: ignore[assignment]
            relu=lambda x, **_: x, max_pool2d=functional.max_pool2d
        )


def _without_first(run: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """As SameBlock drops the first row and column where the stride is 2."""
    return lambda x: run(x)[:, :, 1:, 1:]


def onnx_network(
    name: str, kind: str, folder: Path
) -> Callable[[NDArray[Any]], NDArray[np.float32]]:
    """The exported network in ONNX Runtime."""
    import onnxruntime

    path = next(folder.glob(f"{name}-*.onnx"))
    if kind != "float32":
        path = quantized(path, kind, np.load(folder / f"{name}.npy", mmap_mode="r"))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(None, {"inputs": inputs})[0]


def quantized(path: Path, kind: str, inputs: NDArray[Any]) -> Path:
    """The network in int8: its weights by channel, and where static its activations by tensor."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared, target = path.with_suffix(".prepared"), path.with_suffix(".int8")
    quant_pre_process(path, prepared)
    types = quantization.QuantType
    if kind == "dynamic":  # weights without sign: the operator for convolutions has no other
        quantization.quantize_dynamic(prepared, target, weight_type=types.QUInt8)
        return target
    apart = np.linspace(0, len(inputs) - 1, CALIBRATED).astype(int)

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        batches = iter([{"inputs": inputs[i : i + 1]} for i in apart])

        def get_next(self) -> Any:
            return next(self.batches, None)

    quantization.quantize_static(
        prepared,
        target,
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        activation_type=types.QUInt8,
        weight_type=types.QInt8,
    )
    return target


# --- the processor's bound -----------------------------------------------------------------------


def units() -> dict[str, float]:
    """Seconds of a multiplication, were every layer as fast as 256 channels of 56x56."""
    import torch

    torch.set_num_threads(1)
    rates = {}
    for name, kind in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        x = torch.randn(8, 256, 56, 56, dtype=kind).to(memory_format=torch.channels_last)
        layer = torch.nn.Conv2d(256, 256, 3, padding=1).to(kind, memory_format=torch.channels_last)
        with torch.no_grad():
            taken = core_seconds(lambda x=x, layer=layer: layer(x), 7)  # type: ignore[misc]
        rates[name] = min(taken) / (8 * 56 * 56 * 9 * 256 * 256)
    return rates


def multiplications(name: str, example: NDArray[Any]) -> int:
    """Of one input's convolutions."""
    import torch

    from avel.backbones import blocks

    blocks.FEWEST, net, counts = 1, eager_network(name), list[int]()

    def count(conv: Any, _: Any, out: Any) -> None:
        cut = conv.stride[0] == 2  # SameBlock drops the first row and column
        pixels = (out.shape[2] - cut) * (out.shape[3] - cut)
        counts.append(pixels * conv.weight.numel())

    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)
    net(torch.from_numpy(example[:1].copy()))
    return sum(counts)


# --- inputs and accuracy -------------------------------------------------------------------------


@dataclass
class Decoded:
    """A clip, decoded once, as the pipeline reads an open file."""

    name: str
    clip_grid: Any
    decoded: list[Any]

    def grid(self, step: float) -> Any:
        return self.clip_grid

    def segments(self, *, frames: int, step: float) -> Iterator[Any]:
        return iter(self.decoded)


class Reals:
    """The clips of a folder, and what the pipeline feeds the taggers for them.

    Args:
        folder: As benchmarks/reals.py reads it.
    """

    def __init__(self, folder: Path) -> None:
        import reals  # so that scripts/ is found

        import avel
        from avel.inference.named_events import load_named_events
        from real_clips import clip_files, read_truth

        self.reals, self.truth = reals, read_truth(folder)
        model = load_named_events()
        self.cards = model.audio_card, model.visual_card
        self.files = []
        for path in clip_files(folder):
            media = avel.open(path)
            segments = list(media.segments(frames=2, step=1.0))
            self.files.append(Decoded(path.name, media.grid(1.0), segments))
        self.inputs: dict[str, list[Any]] = {"yamnet": [], "efficientnet_lite0": []}
        self.features(self._recorded("yamnet", 1024), self._recorded("efficientnet_lite0", 0))

    def _recorded(self, name: str, width: int) -> Callable[[Any], NDArray[np.float32]]:
        def record(inputs: Any) -> NDArray[np.float32]:
            self.inputs[name].extend(inputs)
            return np.zeros((len(inputs), width) if width else (len(inputs), 7, 7, 1280), "f4")

        return record

    def features(self, audio: Callable[[Any], Any], visual: Callable[[Any], Any]) -> list[Any]:
        """Features of every clip, by two functions from inputs to outputs."""
        from avel.backbones.efficientnet_lite import EfficientNetLite0
        from avel.backbones.yamnet import YAMNet
        from avel.features.pipeline import Networks, file_blocks
        from avel.features.stream import FeatureStream
        from avel.media.mel import log_mel

        audio_card, visual_card = YAMNet.card, EfficientNetLite0.card
        networks = Networks(
            embed_audio=lambda x: audio(log_mel(np.stack(x), offset=audio_card.log_offset)),
            embed_visual=lambda x: visual(np.stack(x)),
            audio_shape=audio_card.output,
            visual_shape=visual_card.output,
            frames=visual_card.frames,
            batch=BATCH,
            patch_hop=audio_card.patch_hop,
        )
        return [
            FeatureStream(
                file_blocks(file, networks, step=1.0),  # type: ignore[arg-type]
                grid=file.clip_grid,
                widths=(audio_card.output[-1], visual_card.output[-1]),
                cards=self.cards,
            ).gather()
            for file in self.files
        ]

    def accuracy(self, rows: dict[str, NDArray[np.float32]]) -> dict[str, str]:
        """Of the default model as it ships, by the outputs of both networks for all inputs."""
        from real_clips import Clip, judge

        features = self.features(replay(rows["yamnet"]), replay(rows["efficientnet_lite0"]))
        clips = [
            Clip(file.name, f, self.truth.get(file.name, ()))
            for file, f in zip(self.files, features, strict=True)
        ]
        labels = sorted({e.label for events in self.truth.values() for e in events})
        result = judge(*self.reals.shipped(clips, labels)["both"], clips, labels)
        return {key: f"{result[key]:.4f}" for key in ("segment_f1", "event_f1_30")}


def replay(rows: NDArray[np.float32]) -> Callable[[Any], NDArray[np.float32]]:
    """A network that gives rows in their order, whatever it reads."""
    place = 0

    def network(inputs: Any) -> NDArray[np.float32]:
        nonlocal place
        place += len(inputs)
        return rows[place - len(inputs) : place]

    return network


# --- the table -----------------------------------------------------------------------------------


def child(task: Any, folder: Path, runs: int) -> Any:
    """What :func:`climb` or :func:`units` gives in a process of its own."""
    command = [sys.executable, __file__, "--child", json.dumps(task), "--folder", str(folder)]
    done = subprocess.run([*command, "--runs", str(runs)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def ladder(
    name: str, folder: Path, runs: int, rates: dict[str, float], evaluate: Evaluate
) -> Iterator[dict[str, str]]:
    """The rows of one network."""
    from avel.features.network import worst_cosine

    products = multiplications(name, np.load(folder / f"{name}.npy", mmap_mode="r"))
    plain, exact = 0.0, np.zeros(0, np.float32)
    for title, rung in NETWORKS[name]:
        taken = child([name, rung], folder, runs)
        rows = np.load(folder / "outputs.npy")
        median = statistics.median(taken)
        if not plain:
            plain, exact = median, rows
        kind = "" if rung.get("onnx", "float32") != "float32" else "float32"
        bound = rates.get("bf16" if rung.get("bf16") else kind)
        yield {
            "network": name,
            "rung": title,
            "core_ms_an_input": f"{median:.2f}",
            "least": f"{min(taken):.2f}",
            "most": f"{max(taken):.2f}",
            "times_the_plain": f"{plain / median:.2f}",
            "one_minus_cosine": f"{worst_cosine(rows, exact):.1e}",
            **evaluate(name, rows),
            "units_ms_an_input": f"{1000 * products * bound:.2f}" if bound else "",
            **versions(rung),
        }


#: The accuracy of the default model with a network's outputs; empty columns where there is none.
Evaluate = Callable[[str, NDArray[np.float32]], dict[str, str]]


def versions(rung: Rung) -> dict[str, str]:
    """The columns of the machine, with ONNX Runtime's version where it ran."""
    columns = machine()
    if "onnx" in rung:
        import onnxruntime

        columns["versions"] += f" onnxruntime {onnxruntime.__version__}"
    return columns


def prepare(names: Sequence[str], reals: Path | None, folder: Path) -> Evaluate:
    """Write the networks' inputs and exported files; returns what evaluates their outputs."""
    if "vgg19" in names:
        random = np.random.default_rng(0)
        np.save(folder / "vgg19.npy", random.integers(0, 256, (BATCH, 224, 224, 3), np.uint8))
    if set(names) == {"vgg19"}:
        return lambda name, rows: {"segment_f1": "", "event_f1_30": ""}
    if reals is None:
        raise UsageError("the taggers need --reals", hint="a folder as benchmarks/reals.py reads")
    from avel.inference.named_events import load_named_events
    from avel.onnx.export import export_model

    clips, exact = Reals(reals), dict[str, NDArray[np.float32]]()
    for name, inputs in clips.inputs.items():
        np.save(folder / f"{name}.npy", np.stack(inputs))
        run = network(name, {"last": True})
        exact[name] = np.concatenate(list(outputs(run, np.stack(inputs), BATCH)))
        inputs.clear()
    export_model(load_named_events(), folder / "model.onnx", lengths=(3,))

    def evaluate(name: str, rows: NDArray[np.float32]) -> dict[str, str]:
        if name not in exact:
            return {"segment_f1": "", "event_f1_30": ""}
        return clips.accuracy(exact | {name: rows})

    return evaluate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", default="vgg19", help=f"of {','.join(NETWORKS)}")
    parser.add_argument("--reals", type=Path, help="clips with hand-made truth, for the taggers")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--csv", type=Path, default=RESULTS / "extraction_ladder.csv")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        task = json.loads(options.child)
        print(json.dumps(climb(*task, options.folder, options.runs) if task else units()))
        return
    names = options.networks.split(",")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        evaluate = prepare(names, options.reals, folder)
        rates = child(None, folder, options.runs)
        rows = [row for n in names for row in ladder(n, folder, options.runs, rates, evaluate)]
    write_csv(options.csv, rows, beside=True, case=("network",))


if __name__ == "__main__":
    main()
