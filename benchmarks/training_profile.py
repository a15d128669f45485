"""What a training step costs, where its time goes by operation, and what inference costs.

    python benchmarks/training_profile.py                      # AVE's widths, 128 and 512
    python benchmarks/training_profile.py --widths 1024 1280   # yamnet's, efficientnet_lite0's

Steps on made-up features of ten-second clips with maps of 7 x 7, as `avel train` takes them.
Writes results/training_cost.csv: parameters, milliseconds of a step and of inference for every
model, in float32 and in bfloat16 where the processor has units for it, and how many times those of
A+V-att they are; the models take turns, median, least and most of the turns. Writes
results/training_profile.csv: milliseconds a step and share of every operation above a hundredth, by
torch's profiler. Rows of other machines, widths and batches stay.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import RESULTS, machine, write_csv

from training import CLASSES, MODELS

STEPS = 5
#: The model that the others are compared with.
BASE = "A+V-att"
CLIPS = 128
Widths = Sequence[int]


def make_clips(widths: Widths, *, bf16: bool) -> Any:
    """Made-up clips as training holds them."""
    import numpy as np
    import torch

    from avel.data.base import Split
    from avel.data.resident import resident

    rng = np.random.default_rng(0)
    split = Split(
        name="made-up", ids=tuple(map(str, range(CLIPS))),
        audio=rng.random((CLIPS, 10, widths[0]), np.float32),
        visual=np.maximum(rng.standard_normal((CLIPS, 10, 7, 7, widths[1]), np.float32) - 0.4, 0),
        lengths=np.full(CLIPS, 10), labels=rng.integers(0, CLASSES + 1, (CLIPS, 10)),
    )  # fmt: skip
    return resident(split, dtype=torch.bfloat16 if bf16 else None)


def make_step(model: str, clips: Any, widths: Widths, batch: int, *, bf16: bool) -> Any:
    """A training step on random clips, and the network that it trains."""
    import torch
    from lightning_fabric import Fabric

    from avel.models.base import build_model
    from avel.training.recipes import resolve
    from avel.training.step import Objective, Stepper, WeightAverage, make_optimizer

    name, options = MODELS[model]
    recipe = replace(resolve(name, values=options), batch=batch)
    torch.manual_seed(0)
    net = build_model(
        name, audio_dim=widths[0], visual_dim=widths[1], classes=CLASSES, **options
    )  # fmt: skip
    fabric = Fabric(accelerator="cpu", devices=1)
    optimizer = make_optimizer(net, recipe, torch.device("cpu"))
    objective, optimizer = fabric.setup(Objective(net, bf16), optimizer)
    take = Stepper(fabric, objective, optimizer, clips, recipe)
    average = WeightAverage(net, recipe.average) if recipe.average else None

    def step() -> None:
        net.train()
        take(torch.randperm(CLIPS)[:batch])
        if average:
            average.update(1)

    return step, net


def make_inference(net: Any, clips: Any, batch: int, *, bf16: bool) -> Callable[[], None]:
    """The network on some clips, no gradient recorded."""
    import torch

    from avel.models.precision import autocast

    one = clips.batch(torch.arange(batch), device=torch.device("cpu"))

    def infer() -> None:
        net.eval()
        with torch.inference_mode(), autocast(torch.device("cpu"), bf16):
            net(audio=one.audio, visual=one.visual)

    return infer


def in_turns(works: dict[str, Callable[[], None]], runs: int) -> dict[str, list[float]]:
    """Milliseconds of each one's turns, after one that isn't counted."""
    took: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(runs + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if turn:
                took[name].append(1e3 * (time.perf_counter() - start))
    return took


def costs(widths: Widths, batches: Sequence[int], runs: int) -> list[dict[str, Any]]:
    """A row for each model, precision, batch and kind of work."""
    import torch

    from avel.models.precision import has_bf16_units

    rows: list[dict[str, Any]] = []
    for bf16 in (False, True) if has_bf16_units(torch.device("cpu")) else (False,):
        clips = make_clips(widths, bf16=bf16)
        for batch in batches:
            steps, infers, parameters = {}, {}, {}
            for model in MODELS:
                steps[model], net = make_step(model, clips, widths, batch, bf16=bf16)
                infers[model] = make_inference(net, clips, batch, bf16=bf16)
                parameters[model] = sum(p.numel() for p in net.parameters())
            for what, works in (("training step", steps), ("inference", infers)):
                took = in_turns(works, runs)
                base = statistics.median(took[BASE])
                rows += [
                    {
                        "what": what, "model": model, "audio": widths[0], "visual": widths[1],
                        "parameters": parameters[model], "batch": batch,
                        "precision": "bf16" if bf16 else "float32",
                        "threads": torch.get_num_threads(), "runs": runs,
                        "ms": f"{statistics.median(ms):.1f}", "least": f"{min(ms):.1f}",
                        "most": f"{max(ms):.1f}",
                        "times_a_v_att": f"{statistics.median(ms) / base:.2f}",
                    }
                    for model, ms in took.items()
                ]  # fmt: skip
    return rows


def operations(model: str, widths: Widths, batch: int) -> list[dict[str, Any]]:
    """A row for each dear operation of a model's step."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    from avel.models.precision import has_bf16_units

    bf16 = has_bf16_units(torch.device("cpu"))
    clips = make_clips(widths, bf16=bf16)
    step, _ = make_step(model, clips, widths, batch, bf16=bf16)
    for _ in range(STEPS):  # first steps choose kernels
        step()
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
        for _ in range(STEPS):
            step()
    spent: Counter[tuple[str, str]] = Counter()
    for event in profiler.events():
        shapes = [tuple(s) for s in event.input_shapes if s]
        spent[event.name, " ".join(map(str, shapes[:3]))] += event.self_cpu_time_total
    total = sum(spent.values())
    return [
        {
            "model": model, "audio": widths[0], "visual": widths[1], "batch": batch,
            "precision": "bf16" if bf16 else "float32", "threads": torch.get_num_threads(),
            "operation": operation, "shapes": shapes,
            "ms_a_step": f"{spent[operation, shapes] / STEPS / 1e3:.2f}",
            "share": f"{spent[operation, shapes] / total:.3f}",
        }
        for (operation, shapes), duration in spent.most_common()
        if duration > total / 100
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--widths", type=int, nargs=2, default=(128, 512))
    parser.add_argument("--batches", type=int, nargs="+", default=(16, 64), help="the last one's"
                        " operations are shown")  # fmt: skip
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--no-operations", action="store_true", help="leave the profile out")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    from avel.memory import keep_memory

    keep_memory()
    where, case = machine(), ("audio", "visual", "batch")
    rows = [row | where for row in costs(given.widths, given.batches, given.runs)]
    write_csv(given.results / "training_cost.csv", rows, beside=True, case=case)
    if given.no_operations:
        return
    batch = given.batches[-1]
    rows = [row | where for model in MODELS for row in operations(model, given.widths, batch)]
    write_csv(given.results / "training_profile.csv", rows, beside=True, case=case)


if __name__ == "__main__":
    main()
