"""What each part of our own model gives: variants trained alike, scored on the validation clips.

    python scripts/evidence_ablation.py data/pairs10-256 --seeds 3

Writes results/evidence_ablation.csv, evidence_ablation_cml.csv and the tables of docs/our-model.md.
Designs are compared on validation, never on test. Late sound is the validation clips' own, its
features so many segments later with zeros before them, the truth on the picture's clock; a lost
track is zeros. Event F1 is of the aligned clips, at an IoU of 0.5; under `chain`, what the scores
of a model that has no chain give through our model's. CML has few clips, so its last epoch counts,
and none is selected. Called again, only what is missing is trained.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import torch

from avel.data import load_dataset
from avel.data.base import Dataset, Split
from avel.data.resident import resident
from avel.evaluation.results import table
from avel.figures.curves import read_rows
from avel.files import write_whole
from avel.inference.checkpoint import Trained
from avel.models.base import TaskName
from avel.models.evidence import Evidence, agreed_scores
from avel.tasks import task_named
from avel.tasks.cml import keep_usable
from avel.tasks.sel import segment_metrics
from avel.training.loop import fit
from avel.training.recipes import resolve
from avel.types import Json
from pairs_results import put
from pairs_robustness import judge

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGE = "evidence_ablation.csv", ROOT / "docs" / "our-model.md"
EPOCHS = 12
#: Variants: the model, and what differs from its default.
VARIANTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "as it is": ("evidence", ()),
    "a sum in place of the soft AND": ("evidence", ("joint=sum",)),
    "no lag": ("evidence", ("reach=0",)),
    "no sounds moved in training": ("evidence", ("shift=0",)),
    "six sounds in ten moved": ("evidence", ("shift=0.6",)),
    "no tracks lost in training": ("evidence", ("lost=0",)),
    "no mismatched pairs": ("evidence", ("mismatch=0",)),
    "no gate": ("evidence", ("gate=false",)),
    "no context": ("evidence", ("context=false",)),
    "no chain": ("evidence", ("chain=0",)),
    "no averaged weights": ("evidence", ("average=0",)),
    "A+V-att": ("av", ("hidden=128", "state=64", "batch=16")),
    "DMRN": ("av", ("fusion=dmrn", "hidden=128", "state=64", "batch=16")),
    "A+V, audio only": ("av", ("inputs=a", "hidden=128", "state=64", "batch=16")),
    "A+V, picture only": ("av", ("inputs=v", "hidden=128", "state=64", "batch=16")),
}
#: The same for CML, trained for so many epochs.
CML_RESULTS, CML_EPOCHS = "evidence_ablation_cml.csv", 20
CML_VARIANTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "as it is": ("evidence", ()),
    "no classes in training": ("evidence", ("auxiliary=0",)),
    "a sum in place of the soft AND": ("evidence", ("joint=sum",)),
    "AVDLN": ("avdln", ("batch=8",)),
    "DAM": ("dam", ("hidden=128", "width=128", "batch=16")),
}
CML_METRICS = ("mean_accuracy", "a2v", "v2a", "overlap", "second")
CONDITIONS = ("aligned", "late 1", "late 2", "late 3", "no sound", "no picture")
COLUMNS = (*CONDITIONS, "event F1", "chain", "chain: event F1")


def conditions(split: Split) -> Iterator[tuple[str, Split]]:
    """The clips as they are, with late sound, and with a lost track."""
    audio = np.asarray(split.audio[split.store_rows], np.float32)
    visual = np.asarray(split.visual[split.store_rows])
    for name in CONDITIONS:
        heard, shown = audio, visual
        if name.startswith("late"):
            late = int(name.split()[1])
            heard = np.concatenate([np.zeros_like(audio[:, :late]), audio[:, :-late]], 1)
        elif name == "no sound":
            heard = np.zeros_like(audio)
        elif name == "no picture":
            shown = np.zeros_like(visual)
        yield name, replace(split, audio=heard, visual=shown, rows=None)


def scores(trained: Trained, split: Split) -> Json:
    """Segment accuracy under each condition and event F1 of the aligned clips, in percent."""
    metrics = {name: judge(trained, resident(clips)) for name, clips in conditions(split)}
    row = {name: _percent(values["segment_accuracy"]) for name, values in metrics.items()}
    row["event F1"] = _percent(metrics["aligned"]["event_f1_0.5"])
    if hasattr(trained.network, "chain"):
        return {**row, "chain": "", "chain: event F1": ""}
    _, probabilities = task_named("sel").predictor(trained.network, resident(split))(split)
    logits = torch.from_numpy(probabilities).clamp(min=1e-6).log()
    agreed = agreed_scores(
        logits, torch.ones_like(logits[..., :1]), Evidence.options()["chain"]
    ).numpy()
    values = segment_metrics(agreed.argmax(-1), split.labels, len(trained.classes))
    row["chain"] = _percent(values["segment_accuracy"])
    return {**row, "chain: event F1": _percent(values["event_f1_0.5"])}


def _percent(share: float) -> float:
    return round(100 * share, 2)


def cml_scores(trained: Trained, split: Split) -> Json:
    """CML's metrics, in percent."""
    task, classes = task_named("cml"), len(trained.classes)
    clips = resident(keep_usable(split, classes))
    values = task.evaluate(task.predictor(trained.network, clips), clips.split, classes)
    return {name: round(100 * values[name], 2) for name in CML_METRICS}


def ablation_table(rows: list[dict[str, str]], names: Sequence[str]) -> str:
    """The rows as the docs show them: mean, and standard deviation over several seeds.

    Args:
        rows: Of one CSV.
        names: The columns shown.
    """
    lines = [f"| variant | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for variant in dict.fromkeys(r["variant"] for r in rows):
        of_variant = [r for r in rows if r["variant"] == variant]
        cells = [_cell([float(r[name]) for r in of_variant if r[name]]) for name in names]
        lines.append(f"| {variant} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(values: list[float]) -> str:
    if not values:
        return ""
    spread = f"\u00a0±\u00a0{stdev(values):.1f}" if len(values) > 1 else ""  # in one line
    return f"{mean(values):.1f}{spread}"


def train(
    path: Path,
    data: Dataset | Mapping[str, Dataset],
    variants: Mapping[str, tuple[str, tuple[str, ...]]],
    *,
    task: TaskName,
    seeds: int,
    pairs: Sequence[str],
    evaluate: Callable[[Trained, Split], Json],
) -> list[dict[str, str]]:
    """The CSV's rows, once every variant is trained with every seed.

    Args:
        path: The CSV, written after every training.
        data: The data set, or that of each variant, by name.
        variants: The model, and what differs from its default, by name.
        task: ``"sel"`` or ``"cml"``.
        seeds: How many.
        pairs: ``key=value`` for all variants' recipes.
        evaluate: Scores of a model on clips, by column.
    """
    rows = read_rows(path) if path.is_file() else []
    places = {name: i for i, name in enumerate(variants)}  # a CSV may hold former variants too
    for seed in range(seeds):
        for name, (model, own_pairs) in variants.items():
            if any((r["variant"], r["seed"]) == (name, str(seed)) for r in rows):
                continue
            start = time.perf_counter()
            own = data if isinstance(data, Dataset) else data[name]
            recipe = resolve(model, task, pairs=[*pairs, *own_pairs])
            run = fit(model, own, task=task, seed=seed, recipe=recipe)
            row = {
                "variant": name, "model": model, "options": " ".join(own_pairs), "seed": seed,
                "epochs": recipe.epochs, "selected": run.best["epoch"], "clips": len(own.val),
                **evaluate(run.trained, own.val), "seconds": round(time.perf_counter() - start),
            }  # fmt: skip
            rows.append({k: str(v) for k, v in row.items()})
            rows.sort(key=lambda r: (int(r["seed"]), places.get(r["variant"], len(places))))
            write_whole(path, table(rows))
            print(row, flush=True)
    return rows


def main() -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cml-seeds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    given = parser.parse_args()
    data = load_dataset("folder", root=given.data, copies=False)
    rows = train(
        given.results / RESULTS, data, VARIANTS, task="sel", seeds=given.seeds,
        pairs=[f"epochs={EPOCHS}"], evaluate=scores,
    )  # fmt: skip
    cml_rows = train(
        given.results / CML_RESULTS, data, CML_VARIANTS, task="cml", seeds=given.cml_seeds,
        pairs=[f"epochs={CML_EPOCHS}", "selection=last"], evaluate=cml_scores,
    )  # fmt: skip
    page = put(PAGE.read_text("utf-8"), "ablation", ablation_table(rows, COLUMNS))
    page = put(page, "ablation cml", ablation_table(cml_rows, CML_METRICS))
    write_whole(PAGE, page)


if __name__ == "__main__":
    main()
