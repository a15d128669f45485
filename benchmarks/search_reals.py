"""Rank of the first right clip in a search of real clips; write results/search_reals.csv.

    python benchmarks/search_reals.py REALS

REALS holds clips/ and truth.csv (file,start,end,label; seconds). Each clip with an event is a query
among all others: its audio against their visual modality, the reverse, and each within its own
modality. A clip with one of the query's labels is right. Labels of a single clip are left out, and
counted. Chance is what a random order gives, computed from how many clips are right for each query.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, machine, write_csv
from numpy.typing import NDArray

#: The modalities that are compared: name, and the arguments of the search.
SETTINGS: dict[str, dict[str, Any]] = {
    "audio query, visual candidates": {"modality": "audio"},
    "visual query, audio candidates": {"modality": "visual"},
    "within audio": {"within": "audio"},
    "within visual": {"within": "visual"},
}


def read_labels(folder: Path) -> dict[str, frozenset[str]]:
    """The labels of each clip; none for those that truth.csv doesn't name."""
    labels: dict[str, set[str]] = {p.name: set() for p in clip_files(folder)}
    with (folder / "truth.csv").open(encoding="utf-8", newline="") as f:
        for row in csv.DictReader(f):
            labels.setdefault(row["file"], set()).add(row["label"])
    return {name: frozenset(names) for name, names in labels.items()}


def clip_files(folder: Path) -> list[Path]:
    """The clips in order of their names."""
    return sorted(p for p in (folder / "clips").iterdir() if p.is_file())


def searchable(labels: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """The labels that several clips have; clips without one are left out."""
    clips = Counter(label for names in labels.values() for label in names)
    shared = {n: frozenset(x for x in names if clips[x] > 1) for n, names in labels.items()}
    return {name: names for name, names in shared.items() if names}


def first_rank(clips: Sequence[str], right: set[str], count: int) -> int:
    """Rank of the first right clip; clips that weren't found come last, right ones at the end.

    Args:
        clips: Nearest first.
        right: The right ones.
        count: All clips searched.
    """
    for rank, name in enumerate(clips, 1):
        if name in right:
            return rank
    return count - len(right) + 1


def chance(right: int, count: int) -> NDArray[np.float64]:
    """(count,) how likely the first of some right clips stands at each rank of a random order."""
    likely, left = np.zeros(count), 1.0
    for i in range(count - right + 1):
        likely[i] = left * right / (count - i)
        left -= likely[i]
    return likely


def summary(ranks: Sequence[int], rights: Sequence[int], count: int) -> dict[str, Any]:
    """The ranks of some queries, with chance beside.

    Args:
        ranks: Of each query's first right clip.
        rights: How many clips are right for it.
        count: Clips searched.
    """
    positions = np.arange(1, count + 1)
    likely = np.mean([chance(r, count) for r in rights], axis=0)
    measures = {
        "median_rank": statistics.median(ranks), "mean_rank": statistics.mean(ranks),
        "first": statistics.mean(r == 1 for r in ranks),
        "within_3": statistics.mean(r <= 3 for r in ranks),
        "reciprocal": statistics.mean(1 / r for r in ranks),
        "chance_median_rank": int(positions[np.cumsum(likely) >= 0.5][0]),
        "chance_mean_rank": float(likely @ positions), "chance_first": float(likely[0]),
        "chance_within_3": float(likely[:3].sum()),
        "chance_reciprocal": float(likely @ (1 / positions)),
    }  # fmt: skip
    return {"queries": len(ranks), "searched": count} | {
        k: round(v, 3) if isinstance(v, float) else v for k, v in measures.items()
    }


def measured(folder: Path, model: str, index: Path) -> list[dict[str, Any]]:
    """The rows of a model: each setting over all queries, and by label."""
    from avel.errors import UsageError
    from avel.search.matcher import Matcher

    files, labels = clip_files(folder), read_labels(folder)
    queries = searchable(labels)
    search, rows = Matcher(model, cache=True), []
    for setting, options in SETTINGS.items():
        ranks: dict[str, int] = {}
        rights: dict[str, int] = {}
        seconds = []
        for query in queries:
            others = [f for f in files if f.name != query]
            right = {f.name for f in others if labels[f.name] & queries[query]}
            start = time.perf_counter()
            try:
                result = search(
                    folder / "clips" / query, others, top=len(others), one_per_file=True,
                    index=index, **options,
                )  # fmt: skip
                names = [Path(m.file).name for m in result]
            except UsageError:  # longer than whatever a trained model is to search
                names = []
            seconds.append(time.perf_counter() - start)
            ranks[query] = first_rank(names, right, len(others))
            rights[query] = len(right)
        groups = {"all": list(queries)} | {
            label: [q for q in queries if label in queries[q]]
            for label in sorted(set().union(*queries.values()))
        }
        for label, chosen in groups.items():
            ranking = summary(
                [ranks[q] for q in chosen], [rights[q] for q in chosen], len(files) - 1
            )
            once = round(statistics.median(seconds), 3) if label == "all" else ""
            rows.append(
                {"model": model, "setting": setting, "label": label} | ranking | {"search_s": once}
            )
        print(model, setting, rows[-len(groups)]["median_rank"], flush=True, file=sys.stderr)
    return rows


#: The lines of docs/cross-modal-retrieval.md's table: what is shown, column, and its scale.
LINES = (
    ("rank of the first right clip, median", "median_rank", 1),
    ("the same, mean", "mean_rank", 1),
    ("right clip at rank 1, %", "first", 100),
    ("right clip within 3, %", "within_3", 100),
    ("mean reciprocal rank", "reciprocal", 1),
)


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """The rows of all labels as docs/cross-modal-retrieval.md shows them."""
    of = {(r["model"], r["setting"]): r for r in rows if r["label"] == "all"}
    lines = ["| | " + " | ".join(SETTINGS) + " |", "|---" * (len(SETTINGS) + 1) + "|"]
    for called, column, scale in LINES:
        for model, name in (("default", column), ("toybox_match", column), ("default", "chance")):
            picked = f"chance_{column}" if name == "chance" else column
            values = [float(of[model, setting][picked]) * scale for setting in SETTINGS]
            digits = 2 if column == "reciprocal" else 0 if scale == 100 else 1
            cells = " | ".join(f"{v:.{digits}f}" for v in values)
            beside = {"chance": "by chance"}.get(name, "" if model == "default" else "the toy")
            lines.append(f"| {beside or called} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reals", type=Path)
    parser.add_argument("--models", nargs="+", default=["default", "toybox_match"])
    parser.add_argument("--csv", type=Path, default=RESULTS / "search_reals.csv")
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    labels = read_labels(given.reals)
    asked, named = searchable(labels), [n for n, held in labels.items() if held]
    print(
        f"{len(labels)} clips, {len(named)} with events; {len(named) - len(asked)} of labels that "
        "no other clip has are left out",
        file=sys.stderr,
    )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for model in given.models:
            rows += measured(given.reals, model, Path(folder) / f"{Path(model).name}.safetensors")
    here = machine()
    write_csv(given.csv, [row | here for row in rows])


if __name__ == "__main__":
    main()
