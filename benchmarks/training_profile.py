"""Where the processor time of a training step goes, by operation.

    python benchmarks/training_profile.py

Steps on made-up features of AVE's shape (64 clips of 10 x 7 x 7 x 512 and 10 x 128), as
`avel train` takes them. Writes results/training_profile.csv: milliseconds a step and share of
every operation above a hundredth, by torch's profiler.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

from common import RESULTS, machine, write_csv

from training import MODELS

STEPS = 5


def measure(model: str) -> list[dict[str, Any]]:
    """A row for each dear operation of a model's step."""
    import numpy as np
    import torch
    from lightning_fabric import Fabric
    from torch.profiler import ProfilerActivity, profile

    from avel.data.base import Split
    from avel.data.resident import resident
    from avel.models.base import build_model
    from avel.models.precision import has_bf16_units
    from avel.training.recipes import resolve
    from avel.training.step import Objective, Stepper, make_optimizer

    rng, count = np.random.default_rng(0), 128
    name, options = MODELS[model]
    split = Split(
        name="made-up", ids=tuple(map(str, range(count))),
        audio=rng.random((count, 10, 128), np.float32),
        visual=np.maximum(rng.standard_normal((count, 10, 7, 7, 512), np.float32) - 0.4, 0),
        lengths=np.full(count, 10), labels=rng.integers(0, 29, (count, 10)),
    )  # fmt: skip
    device = torch.device("cpu")
    bf16, recipe = has_bf16_units(device), resolve(name, values=options)
    clips = resident(split, dtype=torch.bfloat16 if bf16 else None)
    torch.manual_seed(0)
    net = build_model(name, audio_dim=128, visual_dim=512, classes=28, **options)
    fabric = Fabric(accelerator="cpu", devices=1)
    objective, optimizer = fabric.setup(Objective(net, bf16), make_optimizer(net, recipe, device))
    take = Stepper(fabric, objective, optimizer, clips, recipe)
    rows = [torch.randperm(count)[: recipe.batch] for _ in range(STEPS)]
    for ids in rows:  # first steps choose kernels
        take(ids)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as seen:
        for ids in rows:
            take(ids)
    spent: Counter[tuple[str, str]] = Counter()
    for event in seen.events():
        shapes = [tuple(s) for s in event.input_shapes if s]
        spent[event.name, " ".join(map(str, shapes[:3]))] += event.self_cpu_time_total
    total = sum(spent.values())
    return [
        {
            "model": model, "precision": "bf16" if bf16 else "float32",
            "threads": torch.get_num_threads(), "operation": operation, "shapes": shapes,
            "ms_a_step": f"{spent[operation, shapes] / STEPS / 1e3:.2f}",
            "share": f"{spent[operation, shapes] / total:.3f}",
        }
        for (operation, shapes), time in spent.most_common()
        if time > total / 100
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--csv", type=Path, default=RESULTS / "training_profile.csv")
    given = parser.parse_args()
    from avel.memory import keep_memory

    keep_memory()
    where = machine()
    write_csv(given.csv, [row | where for model in MODELS for row in measure(model)])


if __name__ == "__main__":
    main()
