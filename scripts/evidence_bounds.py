"""How much of what noise and blur cost our own model can be had by training with copies of clips.

    avel extract data/pairs10 --copies 2
    python scripts/project_features.py data/pairs10 data/pairs10-256 --width 256
    python scripts/evidence_bounds.py data/pairs10-256

Writes results/evidence_bounds.csv and its table in docs/our-model.md. The model is trained with the
altered copies of the data, and with copies that have the very noise or blur that it is judged on,
which no others can come closer to. All scores are of the validation clips.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from avel.data import load_dataset
from avel.data.base import Copy, Dataset, Split, fingerprint
from avel.data.resident import resident
from avel.files import write_whole
from avel.inference.checkpoint import Trained
from avel.types import Json
from evidence_ablation import EPOCHS, PAGE, ROOT, ablation_table, train
from pairs_results import put
from pairs_robustness import Features, judge

RESULTS = "evidence_bounds.csv"
#: Kind and level of the degradation, by the column of its scores.
DEGRADED = {"noise 0 dB": ("noise", "0"), "blur 1 %": ("blur", "1")}
COLUMNS = ("as they are", *DEGRADED)


def own_arrays(split: Split) -> Split:
    """The same clips without copies, with arrays of their own in place of a store's rows."""
    audio, visual = split.audio[split.store_rows], split.visual[split.store_rows]
    return replace(split, audio=audio, visual=visual, rows=None, copies=())


def degraded(split: Split, root: Path, work: Path) -> Iterator[tuple[str, Split]]:
    """The clips of :func:`own_arrays` under each degradation."""
    features = Features(root, work / split.name)
    for column, (kind, level) in DEGRADED.items():
        heard, seen = features(split.ids, kind, level)
        yield column, replace(split, **({"audio": heard} if kind == "noise" else {"visual": seen}))


def variants(data: Dataset, root: Path, work: Path) -> dict[str, Dataset]:
    """The data with their altered copies, then with copies of each degradation alone."""
    made, clean = {"altered copies": data}, own_arrays(data.train)
    for column, split in degraded(clean, root, work):
        own = replace(clean, copies=(Copy(split.audio, split.visual),))
        made[f"copies with {column}"] = replace(data, splits={**data.splits, "train": own})
    return made


def main() -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("runs/robustness"))
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    given = parser.parse_args()
    data = load_dataset("folder", root=given.data)
    places = given.data, given.work / fingerprint(data)[:12]
    judged = {"as they are": data.val, **dict(degraded(own_arrays(data.val), *places))}

    def scores(trained: Trained, _: Split) -> Json:
        metrics = {name: judge(trained, resident(split)) for name, split in judged.items()}
        return {name: round(100 * m["segment_accuracy"], 2) for name, m in metrics.items()}

    own = variants(data, *places)
    rows = train(
        given.results / RESULTS, own, dict.fromkeys(own, ("evidence", ())), task="sel",
        seeds=given.seeds, pairs=[f"epochs={EPOCHS}"], evaluate=scores,
    )  # fmt: skip
    told = ablation_table(rows, COLUMNS)
    write_whole(PAGE, put(PAGE.read_text("utf-8"), "bounds", told))


if __name__ == "__main__":
    main()
