"""Train `toybox_match`, a toy for `avel match`, and measure it; write results/match_toybox.csv.

    avel synth data/toybox --clips 700 --seed 1
    avel extract data/toybox --audio mini_audio --visual mini_visual
    python scripts/match_default.py data/toybox            # trains, ships, measures
    python scripts/match_default.py data/toybox --run RUN  # measures another run alone

CSPA+CSEA, task cml, form unpaired, begun with an MMEL model that saw none of CML's validation and
test clips; both chosen on validation. Three measures, sound asking for picture (a2v) and the
reverse (v2a), on CML's test clips (one event, shorter than the clip), baselines beside:

`start`     query and picture are of one clip: the window that starts exactly with the event.
`other`     they are of different clips of one class: the best window of the other clip lies within
            its event (or covers it, where the query is the longer), and the rank of the first
            that does.
`folder`    all other test clips are searched together, for a window of the query's class.
"""

from __future__ import annotations

import argparse
import csv
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from avel import evaluate, load_dataset
from avel.data.base import Dataset, Split
from avel.files import whole
from avel.inference.checkpoint import Trained
from avel.inference.load import load_trained
from avel.memory import keep_memory
from avel.search.costs import costs
from avel.tasks import cml, task_named
from avel.training.mmel import fit_cml, mmel_recipe
from avel.training.recipes import resolve
from default_model import SIZE

ROOT = Path(__file__).resolve().parents[1]
Row = dict[str, Any]


def train(data: Dataset, out: Path, *, seed: int, epochs: int, mmel: int) -> Trained:
    """A run, gone on with where it stopped; one of other data or another recipe is refused."""
    recipe = resolve("cspa_csea", "cml", values={**SIZE, "epochs": epochs, "form": "unpaired"})
    first = mmel_recipe("cspa_csea", recipe, [f"epochs={mmel}"])
    return fit_cml(
        "cspa_csea", data, recipe=recipe, mmel=first, seed=seed, out=out / f"seed-{seed}",
        resume=True, progress=told,
    ).trained  # fmt: skip


def told(what: str, record: Any, epochs: int) -> None:
    print(what, record["epoch"], "of", epochs, flush=True)


def exact_starts(trained: Trained, data: Dataset) -> Iterator[Row]:
    found = evaluate(trained, data)
    ours = {m.metric: m.values[0] for m in found.measured}
    for way, _ in cml.MODALITIES:
        yield {"measure": "start", "way": way, "system": "ours", "hit": ours[way]}
        for name, value in found.baselines.items():
            yield {"measure": "start", "way": way, "system": f"baseline: {name}", "hit": value}


class Ranks:
    """Where the right windows stand in some rankings, and where chance would put them."""

    def __init__(self) -> None:
        self.first: list[int] = []
        self.chance: list[tuple[float, float]] = []  # share of right windows, expected first rank

    def add(self, cost: NDArray[Any], right: NDArray[np.bool_]) -> None:
        order = np.argsort(cost, kind="stable")
        self.first.append(int(np.argmax(right[order])) + 1)
        count, good = len(right), int(right.sum())
        self.chance.append((good / count, (count + 1) / (good + 1)))

    def rows(self, **named: Any) -> Iterator[Row]:
        hits, ranks = zip(*self.chance, strict=True)
        yield named | {
            "system": "ours", "hit": statistics.mean(r == 1 for r in self.first),
            "mean_rank": statistics.mean(self.first), "median_rank": statistics.median(self.first),
            "cases": len(self.first),
        }  # fmt: skip
        yield named | {
            "system": "baseline: random order", "hit": statistics.mean(hits),
            "mean_rank": statistics.mean(ranks), "cases": len(ranks),
        }  # fmt: skip


def other_clips(
    trained: Trained, test: Split, way: str, modality: Literal["audio", "visual"], most: int
) -> Iterator[Row]:
    cases = cml.usable(test, len(trained.classes))
    at = cases.clip if test.rows is None else test.rows[cases.clip]
    heard, seen = (np.asarray(store[at], np.float32) for store in (test.audio, test.visual))
    asks, answers = (heard, seen) if modality == "audio" else (seen, heard)
    pieces = [track[:count] for track, count in zip(answers, cases.count, strict=True)]
    other, folder = Ranks(), Ranks()
    for i in range(min(len(at), most)):
        start, length = int(cases.start[i]), int(cases.length[i])
        cost = costs(trained.network, asks[i, start : start + length], pieces, modality=modality)
        first, windows, rights = 0, [], []
        for j, count in enumerate(cases.count.tolist()):
            own = cost[first : first + max(count - length + 1, 0)]
            first += count
            if j == i or not len(own):
                continue
            right = fits(cases, j, len(own), length) & bool(cases.label[j] == cases.label[i])
            if right.any():
                other.add(own, right)
            windows.append(own)
            rights.append(right)
        if any(r.any() for r in rights):
            folder.add(np.concatenate(windows), np.concatenate(rights))
    yield from other.rows(measure="other", way=way)
    yield from folder.rows(measure="folder", way=way)


def fits(cases: cml.Usable, clip: int, windows: int, length: int) -> NDArray[np.bool_]:
    """Which windows lie within a clip's event, or cover it."""
    starts = np.arange(windows)
    event, own = int(cases.start[clip]), int(cases.length[clip])
    if own >= length:
        return (starts >= event) & (starts + length <= event + own)
    return (starts <= event) & (starts + length >= event + own)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--run", type=Path, help="measure this run alone, train and ship nothing")
    parser.add_argument("--out", type=Path, default=Path("runs/match"))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--mmel-epochs", type=int, default=24)
    parser.add_argument("--queries", type=int, default=10**6, help="at most, each way")
    parser.add_argument("--csv", type=Path, default=ROOT / "results" / "match_toybox.csv")
    parser.add_argument("--default", type=Path, default=ROOT / "src/avel/pretrained/toybox_match")
    given = parser.parse_args()
    keep_memory()
    data = load_dataset("folder", root=given.data)
    _, _, test = task_named("cml").splits(data)
    rows: list[Row] = []
    for seed in range(1 if given.run else given.seeds):
        if given.run:
            trained = load_trained(given.run)
        else:
            trained = train(data, given.out, seed=seed, epochs=given.epochs, mmel=given.mmel_epochs)
            if seed == 0:
                trained.save(given.default, dtype="float16")
                trained = load_trained(given.default)  # what ships is what is measured
        own = list(exact_starts(trained, data))
        for way, modality in cml.MODALITIES:
            own += other_clips(trained, test, way, modality, given.queries)
        best = trained.card["metrics"]
        rows += [{"seed": trained.card["seed"], "epoch": best["epoch"]} | row for row in own]
    write(rows, given.csv)


#: The lines of docs/cross-modal-retrieval.md's table: what it is called, measure, system, column.
LINES = (
    ("query and picture of one clip: exact start, %", "start", "ours", "hit"),
    ("the last window (baseline)", "start", "baseline: last_window", "hit"),
    ("the first window (baseline)", "start", "baseline: first_window", "hit"),
    ("any window (baseline)", "start", "baseline: random_window", "hit"),
    ("another clip of the class: the best window is the event's, %", "other", "ours", "hit"),
    ("in random order (baseline)", "other", "baseline: random order", "hit"),
    ("the event's first rank, mean", "other", "ours", "mean_rank"),
    ("in random order (baseline)", "other", "baseline: random order", "mean_rank"),
    ("all other clips: the best window is the class's, %", "folder", "ours", "hit"),
    ("in random order (baseline)", "folder", "baseline: random order", "hit"),
    ("the class's first rank, median", "folder", "ours", "median_rank"),
    ("the class's first rank, mean", "folder", "ours", "mean_rank"),
    ("in random order (baseline)", "folder", "baseline: random order", "mean_rank"),
)


def table(rows: list[dict[str, str]]) -> str:
    """The CSV's first seed as docs/cross-modal-retrieval.md shows it."""
    found = {(r["measure"], r["system"], r["way"]): r for r in rows if r["seed"] == rows[0]["seed"]}
    lines = ["| | audio query | visual query |", "|---|---|---|"]
    for called, measure, system, column in LINES:
        values = [float(found[measure, system, way][column]) for way, _ in cml.MODALITIES]
        scale = 100 if column == "hit" else 1
        lines.append(f"| {called} | " + " | ".join(f"{scale * v:.1f}" for v in values) + " |")
    return "\n".join(lines)


def write(rows: list[Row], path: Path) -> None:
    for row in rows:
        row |= {k: round(v, 4) for k, v in row.items() if isinstance(v, float)}
    fields = list(dict.fromkeys(k for row in rows for k in row))
    with whole(path) as temporary, temporary.open("w", newline="") as f:
        writer = csv.DictWriter(f, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    with path.open(newline="", encoding="utf-8") as f:
        print(table(list(csv.DictReader(f))))


if __name__ == "__main__":
    main()
