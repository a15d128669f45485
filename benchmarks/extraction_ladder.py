"""What each step brings to VGG-19's trunk on one core; write results/extraction_ladder.csv.

    python benchmarks/extraction_ladder.py       # about 4 minutes

Every rung is a process of its own with one thread, and what counts is the time that its core spent,
so that other work on the machine hardly disturbs it. Random weights (He), random pictures. Beside
it (``units_ms_a_frame``) what all of a frame's multiplications would take at the rate of one
convolution that fills the core's units: what remains above it isn't arithmetic.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import RESULTS, machine, write_csv

RUNGS = (
    ("plain: eager float32, frame by frame", {}),
    ("float32, 16 frames, channels last", {"batch": 16, "last": True}),
    ("float32, 16 frames, channels last, memory kept", {"batch": 16, "last": True, "keep": True}),
    ("bf16, 16 frames, channels last", {"batch": 16, "last": True, "bf16": True}),
    (
        "bf16, 16 frames, channels last, memory kept",
        {"batch": 16, "last": True, "bf16": True, "keep": True},
    ),
    (
        "bf16, 16 frames, compiled, frozen, memory kept",
        {"batch": 16, "last": True, "bf16": True, "keep": True, "compile": True},
    ),
)


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


def climb(rung: dict[str, Any], runs: int) -> dict[str, Any]:
    """Milliseconds a frame, and 1 - cosine against float32, of one rung in this process."""
    import torch

    from avel.backbones.vgg19 import VGG19
    from avel.features.network import worst_cosine
    from avel.memory import keep_memory

    if rung.get("keep"):
        keep_memory()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network: Any = VGG19().eval().requires_grad_(False)
    for convolution in network.convolutions.values():
        torch.nn.init.kaiming_normal_(convolution.weight)
    batch = rung.get("batch", 1)
    frames = torch.randint(0, 256, (batch, 224, 224, 3)).byte()
    with torch.no_grad():
        exact = network(frames[:2]).numpy()
        if rung.get("last"):
            network.to(memory_format=torch.channels_last)
        if rung.get("bf16"):
            network.to(torch.bfloat16)
        if rung.get("compile"):
            network = torch.compile(network, dynamic=False, options={"freezing": True})
        taken = core_seconds(lambda: network(frames), runs if batch > 1 else 3 * runs)
        error = worst_cosine(network(frames)[:2].float().numpy(), exact)
    return {"ms": [1000 * t / batch for t in taken], "error": error}


def units() -> dict[str, Any]:
    """Milliseconds of a frame, were every layer as fast as 256 channels of 56x56."""
    import torch

    from avel.backbones.vgg19 import DEPTHS, WIDTHS

    torch.set_num_threads(1)
    size, before, products = 224, 3, 0
    for depth, width in zip(DEPTHS, WIDTHS, strict=True):
        for _ in range(depth):
            products += size * size * 9 * before * width
            before = width
        size //= 2
    found = {}
    for name, kind in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        x = torch.randn(8, 256, 56, 56, dtype=kind).to(memory_format=torch.channels_last)
        layer = torch.nn.Conv2d(256, 256, 3, padding=1).to(kind, memory_format=torch.channels_last)
        with torch.no_grad():
            taken = core_seconds(lambda x=x, layer=layer: layer(x), 7)  # type: ignore[misc]
        found[name] = 1000 * min(taken) * products / (8 * 56 * 56 * 9 * 256 * 256)
    return found


def child(told: str, runs: int) -> Any:
    command = [sys.executable, __file__, "--child", told, "--runs", str(runs)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--csv", type=Path, default=RESULTS / "extraction_ladder.csv")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        told = json.loads(given.child)
        print(json.dumps(units() if told is None else climb(told, given.runs)))
        return
    best = child("null", given.runs)
    rows, plain = [], 0.0
    for name, rung in RUNGS:
        found = child(json.dumps(rung), given.runs)
        median = statistics.median(found["ms"])
        plain = plain or median
        row = {
            "rung": name,
            "core_ms_a_frame": f"{median:.1f}",
            "least": f"{min(found['ms']):.1f}",
            "most": f"{max(found['ms']):.1f}",
            "times_the_plain": f"{plain / median:.2f}",
            "one_minus_cosine": f"{found['error']:.1e}",
            "units_ms_a_frame": f"{best['bf16' if rung.get('bf16') else 'float32']:.1f}",
        }
        rows.append(row | machine())
    write_csv(given.csv, rows, beside=True)


if __name__ == "__main__":
    main()
