"""How fast `avel` starts and localizes, by backbone, with torch and without; write localize.csv.

    python benchmarks/localize.py               # results/localize.csv

Files from Toybox, 320x240 and 640x360. The real-time factor is the seconds that the work took for
each second of video, start-up apart; below 1 is faster than the video plays. vgg19 and vggish have
random weights of their true shapes: how fast they are doesn't hang on what they know.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from common import (
    RESULTS,
    find_random_backbone,
    machine,
    random_backbone,
    run_avel,
    write_csv,
)

from avel.data.toybox.dataset import ToyboxPlan, render_clip
from avel.inference.checkpoint import Trained
from avel.inference.load import load_trained
from avel.inference.localizer import Localizer
from avel.models.base import build_model
from avel.onnx.export import export_model
from avel.onnx.runtime import load_onnx

SIZES = ((320, 240), (640, 360))


def timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def python(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def row(what: str, unit: str, values: list[float], **more: str) -> dict[str, Any]:
    return {
        "what": what,
        "unit": unit,
        "median": f"{statistics.median(values):.3f}",
        "least": f"{min(values):.3f}",
        "most": f"{max(values):.3f}",
        "runs": len(values),
        "precision": more.get("precision", ""),
        "threads": str(torch.get_num_threads()) if more else "",
    } | machine()


def starts(runs: int) -> list[dict[str, Any]]:
    """Seconds to `avel --help` and to `import avel`, the interpreter's own start included."""
    python("pass")  # so that the first one doesn't pay for a cold disk
    run_avel("--help")
    bare = [timed(lambda: python("pass")) for _ in range(runs)]
    imported = [timed(lambda: python("import avel")) for _ in range(runs)]
    helped = [run_avel("--help").seconds for _ in range(runs)]
    return [
        row("python -c pass", "s", bare),
        row("import avel", "s", imported),
        row("avel --help", "s", helped),
    ]


def clip(folder: Path, seconds: float, width: int, height: int) -> Path:
    plan = ToyboxPlan(seed=1_000_000_002, seconds=seconds, width=width, height=height)
    name = render_clip(plan, 0, folder / f"{width}-{seconds:g}")
    return folder / f"{width}-{seconds:g}" / "videos" / f"{name}.mp4"


Finders = dict[tuple[str, str], Callable[[Path], Any]]


def alternating(
    finders: Finders, video: Path, named: str, *, seconds: float, runs: int
) -> list[dict[str, Any]]:
    """Real-time factors of several ways on one file, turn by turn, after a turn that warms up."""
    took: dict[tuple[str, str], list[float]] = {key: [] for key in finders}
    for turn in range(runs + 1):
        for key, find in finders.items():
            spent = timed(lambda f=find: f(video)) / seconds
            if turn:
                took[key].append(spent)
    return [
        row(f"localize {named}, {way}", "s per s of video", values, precision=precision)
        for (way, precision), values in took.items()
    ]


def ways(model: Trained, folder: Path) -> Finders:
    """With torch in two precisions, and with onnxruntime."""
    exported = export_model(model, folder / "model.onnx").paths[0]
    return {
        ("torch", "float32"): Localizer(model, cache=False),
        ("torch", "auto"): Localizer(model, precision="auto", cache=False),
        ("onnxruntime", "float32"): Localizer(load_onnx(exported), cache=False),
    }


def minis(folder: Path, *, seconds: float, runs: int) -> list[dict[str, Any]]:
    """The shipped toy on both sizes, and from kept features; whole commands on the larger."""
    rows = []
    finders = ways(load_trained("toybox"), folder / "mini")
    for width, height in SIZES:
        video = clip(folder, seconds, width, height)
        named = f"mini {width}x{height}"
        rows += alternating(finders, video, named, seconds=seconds, runs=runs)
    kept: Finders = {("features kept", "float32"): Localizer("toybox", cache=True)}
    rows += alternating(kept, video, named, seconds=seconds, runs=runs)
    toy, onnx = ("--model", "toybox"), ("--model", folder / "mini" / "model.onnx")
    outs = ("-o", folder / "a.json", folder / "a.html")
    for told, options in (
        ("-o json html, nothing kept", ("--no-cache", *toy, *outs)),
        ("-o json html, features kept", (*toy, *outs)),
        ("-o json, features kept", (*toy, *outs[:2])),
        ("-o json html, onnxruntime, nothing kept", ("--no-cache", *onnx, *outs)),
    ):
        run_avel("localize", video, *options)
        whole = [run_avel("localize", video, *options).seconds for _ in range(runs)]
        rows.append(row(f"avel localize {seconds:g} s {width}x{height} {told}", "s", whole))
    return rows


@contextmanager
def random_weights() -> Iterator[None]:
    with ExitStack() as stack:
        for name, substitute in (
            ("avel.features.extractor.find_backbone", find_random_backbone),
            ("avel.onnx.export.load_backbone", random_backbone),
        ):
            stack.enter_context(mock.patch(name, substitute))
        yield


def large(folder: Path, *, seconds: float, runs: int) -> list[dict[str, Any]]:
    """vggish and vgg19 with an untrained model: their speed doesn't hang on what they know."""
    names = ("vggish", "audio"), ("vgg19", "visual")
    cards = [random_backbone(name, modality=modality)[1] for name, modality in names]
    network = build_model("cspa_csea", audio_dim=128, visual_dim=512, classes=28, task="sel")
    card = {
        "format": 1, "model": "cspa_csea", "task": "sel", "options": {}, "step": 1.0, "window": 10,
        "classes": [f"class {i}" for i in range(28)], "dims": {"audio": 128, "visual": 512},
        "data": {}, "train_ids": {}, "audio_card": cards[0], "visual_card": cards[1],
    }  # fmt: skip
    video = clip(folder, seconds, *SIZES[-1])
    named = f"vggish+vgg19 (random weights) {SIZES[-1][0]}x{SIZES[-1][1]}"
    with random_weights():
        finders = ways(Trained(network.eval(), card), folder / "large")
        return alternating(finders, video, named, seconds=seconds, runs=runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60, help="length of the minis' files")
    parser.add_argument("--large-seconds", type=float, default=10, help="length of vgg19's file")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--minis", action="store_true", help="leave vgg19 out; its rows stay")
    parser.add_argument("--csv", type=Path, default=RESULTS / "localize.csv")
    given = parser.parse_args()
    rows = starts(given.runs)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with mock.patch.dict("os.environ", {"AVEL_CACHE": str(folder / "cache")}):
            rows += minis(folder, seconds=given.seconds, runs=given.runs)
            if not given.minis:
                rows += large(folder, seconds=given.large_seconds, runs=given.runs)
    write_csv(given.csv, rows, beside=True, case=("what", "precision"))


if __name__ == "__main__":
    main()
