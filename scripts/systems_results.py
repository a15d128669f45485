"""Put `avel reproduce systems` on several data sets into one table: results/systems.csv.

    avel reproduce systems data=ave root=DIR ... -o reproduced/simulated_ave
    make pairs
    python scripts/systems_results.py results/pairs10_taggers.csv results/pairs10.csv \
        reproduced/simulated_ave/systems.csv
    python scripts/systems_results.py results/systems.csv results/pairs10.csv  # one of them anew
    python scripts/systems_results.py --page       # the table of docs/results.md

results/README.md names the calls in full.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from avel.evaluation.results import table
from avel.figures.curves import read_rows
from avel.files import write_whole
from avel.tasks import task_named
from pairs_results import as_ours

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results" / "systems.csv"
OURS = "ours_on_"
#: What a row is, and what each data set has of its own.
SAME = ("system", "model", "task", "options", "metric", "paper")
OWN = ("sd", "n", "epochs", "chosen", "selection", "mmel_epochs", "batch", "changed", "time",
       "clips", "parameters", "fingerprint")  # fmt: skip
#: The data sets of the table, in its order, and what docs/results.md calls them.
DATA = {
    "pairs10_taggers": "Pairs-10, taggers", "pairs10": "Pairs-10, minis",
    "simulated_ave": "simulated AVE",
}  # fmt: skip
#: How many seeds go without saying.
SEEDS = "5"


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV; of one that holds several tables, those of the systems.

    Where the file is called as a data set of ours, so is its data set.
    """
    rows = [row for row in read_rows(path) if row.get("table", "systems") == "systems"]
    if path.stem not in DATA:
        return rows
    return [as_ours(row, OURS + path.stem) for row in rows]


def data_of(row: dict[str, str]) -> list[str]:
    """The data sets that a row has numbers of, by its columns' names."""
    return [k.removeprefix(OURS) for k in row if k.startswith(OURS)]


def join(tables: Sequence[list[dict[str, str]]]) -> list[dict[str, str]]:
    """The tables side by side, the baselines of all tasks on top.

    Args:
        tables: Of `avel reproduce`, with one data set each, or joined ones; of two that hold the
            same data set the later one counts.
    """
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for held in tables:
        found = data_of(held[0])
        for row in held:
            key = tuple(row[k] for k in SAME)
            whole = rows.setdefault(key, dict(zip(SAME, key, strict=True)))
            for data in (d for d in found if d in DATA):
                whole[OURS + data] = row[OURS + data]
                whole |= {f"{k}_on_{data}": row.get(k, row.get(f"{k}_on_{data}", "")) for k in OWN}
    own = [column for data in DATA for column in (OURS + data, *(f"{k}_on_{data}" for k in OWN))]
    there = {k for row in rows.values() for k in row}
    return [{k: row.get(k, "") for k in (*SAME, *own) if k in there} for row in rows.values()]


def page(rows: Sequence[dict[str, str]]) -> str:
    """The table of docs/results.md: the headline metric of each system and task."""
    data = data_of(rows[0])
    head = ["system", "task", "paper, on AVE", *(f"ours, on {DATA[d]}" for d in data)]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        if row["metric"] == task_named(row["task"]).selection_metric:
            model = row["model"]
            system = f"[{row['system']}](models/{model}.md)" if model else row["system"]
            paper = f"{float(row['paper']):.1f}" if row["paper"] else ""
            lines.append([system, row["task"].upper(), paper, *(cell(row, d) for d in data)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(row: dict[str, str], data: str) -> str:
    """Ours on a data set as people read it."""
    if not row[OURS + data]:
        return "not run"
    mean, sd = float(row[OURS + data]), row[f"sd_on_{data}"]
    seeds = row[f"n_on_{data}"]
    told = f" ± {float(sd):.1f}" if sd else ""
    return f"{mean:.1f}{told}" + (f" (n = {seeds})" if seeds not in ("", SEEDS) else "")


def main() -> None:
    """Join tables, or print that of docs/results.md."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("tables", nargs="*", type=Path)
    parser.add_argument("--page", action="store_true")
    given = parser.parse_args()
    if given.page:
        print(page(read(RESULTS)))
    else:
        write_whole(RESULTS, table(join([read(path) for path in given.tables])))


if __name__ == "__main__":
    main()
