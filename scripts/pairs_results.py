"""Put what `avel reproduce systems modalities` made of Pairs-10 into results/ and docs/pairs10.md.

    avel reproduce systems modalities data=data/pairs10 --seeds 5 ... -o reproduced/pairs10
    python scripts/pairs_results.py reproduced/pairs10
    python scripts/pairs_results.py      # the figure and the page anew, from results/pairs10*.csv
    python scripts/pairs_results.py reproduced/pairs10-256 --name pairs10_taggers

Writes results/pairs10.csv, results/pairs10_differences.csv, docs/images/pairs10-systems.png and the
tables in docs/pairs10.md, or those of another name. Rows that aren't trained yet stay, marked open;
of `pairs10_copies`, which has few systems, they are left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from avel.evaluation.results import table
from avel.figures.curves import read_rows
from avel.files import write_whole
from avel.tasks import TASKS, task_named

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROOT = Path(__file__).resolve().parents[1]
#: The tables of the bundled mini backbones, and of the taggers.
NAMES = ("pairs10", "pairs10_taggers")
#: That of the taggers with altered copies, of some systems alone: it has no figure.
FEW = "pairs10_copies"
#: What `avel reproduce systems modalities`, or of them the first alone, calls its tables.
MADE = ("systems_modalities", "systems")
OURS = "ours_on_pairs10"
COLUMNS = (
    "table", "system", "model", "task", "options", "metric", "paper", OURS, "sd", "n", "epochs",
    "chosen", "selection", "mmel_epochs", "batch", "changed", "time", "parameters", "clips",
    "fingerprint", "remark",
)  # fmt: skip
#: The docs' columns besides the headline.
BESIDES = {
    "sel": ("video_accuracy", "background_f1"), "wsel": ("video_accuracy", "background_f1"),
    "cml": ("a2v", "v2a"),
}  # fmt: skip
CALLED = {
    "segment_accuracy": "segments", "video_accuracy": "video tag", "background_f1": "background F1",
    "mean_accuracy": "windows", "a2v": "audio query", "v2a": "visual query",
}  # fmt: skip
OPEN = "open"
PAGE = "pairs10.md"
#: Systems that read one modality, besides those whose name says so.
ONE_MODALITY = ("ED-TCN",)
Row: TypeAlias = dict[str, str]


def page(text: str, rows: Sequence[Row], pairs: Sequence[Row], name: str = NAMES[0]) -> str:
    """The page with the tables of a name put in."""
    return put(text, f"{name} tables", "\n\n".join(tables(rows, pairs)))


def put(text: str, name: str, told: str) -> str:
    """A page with something put between its lines ``<!-- name -->`` and ``<!-- /name -->``."""
    begin, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"the page lacks {begin.strip()} or {end.strip()}")
    return f"{before}{begin}\n{told}\n{end}{after}"


def tables(rows: Sequence[Row], pairs: Sequence[Row]) -> Iterator[str]:
    """The page's tables: every task's systems, then what one modality alone and the parts score."""
    seeds = max((r["n"] for r in rows if r["model"]), key=lambda n: int(n or 0), default="")
    yield f"Mean ± standard deviation over {seeds} seeds, in %."
    shown: dict[str, set[str]] = {task: set() for task in TASKS}
    for name in ("systems", "modalities"):
        for task in TASKS:
            own = [r for r in rows if (r["table"], r["task"]) == (name, task)]
            trained = {r["system"] for r in own if r[OURS] and r["model"]}
            if trained <= shown[task]:  # nothing that the table before doesn't have
                continue
            shown[task] |= trained
            told = {p["second"]: p for p in pairs
                    if (p["table"], p["task"], p["order"]) == (name, task, "table")}  # fmt: skip
            yield "\n".join(_lines(own, told, task, seeds))


def _lines(rows: Sequence[Row], pairs: dict[str, Row], task: str, seeds: str) -> Iterator[str]:
    shown = (task_named(task).selection_metric, *BESIDES[task])
    head = ["system", "paper, on AVE", *(CALLED[m] for m in shown), "over the row above"]
    yield _line([f"{task.upper()}: {head[0]}", *head[1:]])
    yield _line(["---"] * len(head))
    cells = {(r["system"], r["metric"]): r for r in rows}
    for name in dict.fromkeys(r["system"] for r in rows):
        first = cells[name, shown[0]]
        paper = f"{float(first['paper']):.1f}" if first["paper"] else ""
        values = [number(cells.get((name, m)), seeds) for m in shown]
        yield _line([_linked(first), paper, *values, gain(pairs.get(name))])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _linked(row: Row) -> str:
    return f"[{row['system']}](models/{row['model']}.md)" if row["model"] else row["system"]


def number(row: Row | None, seeds: str = "5") -> str:
    """A cell as people read it: mean ± sd, and how many seeds where they aren't ``seeds``."""
    if row is None:
        return ""
    if not row[OURS]:
        return OPEN
    told = f"{float(row[OURS]):.1f}" + (f" ± {float(row['sd']):.1f}" if row["sd"] else "")
    return told + (f" (n = {row['n']})" if row["n"] not in ("", seeds) else "")


def gain(pair: Row | None) -> str:
    """What a row gains on the one above it, in bold where that is real."""
    if pair is None:
        return ""
    low, high = float(pair["both_low"]), float(pair["both_high"])
    told = f"{float(pair['gain']):+.1f} ({low:+.1f} to {high:+.1f})"
    return f"**{told}**" if pair["real"] == "True" else told


def draw(rows: Sequence[Row], path: Path) -> None:
    """Every system of SEL and WSEL beside what one modality alone and baselines score."""
    from avel.figures import save_figure
    from avel.figures.style import new_figure

    tasks = [t for t in ("sel", "wsel") if any(r[OURS] and r["model"] for r in _headline(rows, t))]
    figure = new_figure(5.6 * len(tasks), 5.6)
    for ax, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        _bars(ax, _headline(rows, task))
        ax.set_title(f"Pairs-10, {task.upper()}", fontsize="medium", pad=20)
    save_figure(figure, path, dpi=110)


def _headline(rows: Sequence[Row], task: str) -> list[Row]:
    return [
        r for r in rows if (r["task"], r["metric"]) == (task, task_named(task).selection_metric)
    ]


def _bars(ax: Axes, rows: Sequence[Row]) -> None:
    from avel.figures.style import FIRST, GREY, SECOND

    shown = {r["system"]: r for r in rows if r["model"] and r[OURS]}
    alone = [name in ONE_MODALITY or name.endswith(" only") for name in shown]
    values = [float(r[OURS]) for r in shown.values()]
    ax.barh(
        range(len(shown)), values, height=0.66,
        xerr=[float(r["sd"] or 0) for r in shown.values()],
        color=[FIRST if one else SECOND for one in alone],
        error_kw={"ecolor": "#3A3F47", "elinewidth": 0.9, "capsize": 2},
    )  # fmt: skip
    ax.set_yticks(range(len(shown)), list(shown), fontsize="small")
    ax.set_ylim(len(shown) - 0.4, -0.6)
    for row in rows:
        if not row["model"]:
            ax.axvline(float(row[OURS]), ls=":", color=GREY, lw=1.2)
            ax.text(float(row[OURS]), -0.7, row["system"].removeprefix("baseline: "),
                    fontsize=7, color=GREY, ha="center", va="bottom")  # fmt: skip
    ax.set_xlim(0, 100)
    ax.set_xlabel("segment accuracy (%)")
    ax.grid(axis="x", alpha=0.3)
    ax.set_axisbelow(True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("made", nargs="?", type=Path, help="folder of `avel reproduce`")
    parser.add_argument("--name", choices=(*NAMES, FEW), default=NAMES[0], help=f"[{NAMES[0]}]")
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs")
    given = parser.parse_args()
    results = given.results / f"{given.name}.csv"
    differences = given.results / f"{given.name}_differences.csv"
    if given.made is not None:
        made = next(n for n in MADE if (given.made / f"{n}.csv").is_file())
        rows = [as_ours(r) for r in read_rows(given.made / f"{made}.csv")]
        if given.name == FEW:
            rows = [r for r in rows if r[OURS] or not r["model"]]
        write_whole(results, table([{k: r.get(k, "") for k in COLUMNS} for r in rows]))
        write_whole(differences, table(read_rows(given.made / f"{made}_differences.csv")))
    rows, pairs = read_rows(results), read_rows(differences)
    if given.name != FEW:
        draw(rows, given.docs / "images" / f"{given.name.replace('_', '-')}-systems.png")
    path = given.docs / PAGE
    text = page(path.read_text("utf-8"), rows, pairs, given.name)
    degraded = given.results / f"{given.name}_robustness.csv"
    if given.name != NAMES[0] and degraded.is_file():  # of the minis there is a figure
        text = put(text, f"{given.name} robustness", robustness(read_rows(degraded)))
    write_whole(path, text)


def robustness(rows: Sequence[Row]) -> str:
    """Segment accuracy of every system under every condition, and the clean clips' event F1."""
    rows = [as_ours(r) for r in rows]
    clean = [r for r in rows if (r["metric"], r["condition"]) == ("event_f1_0.5", "clean")]
    event_f1 = {r["system"]: f"{float(r[OURS]):.1f}" for r in clean}
    rows = [r for r in rows if r["metric"] == "segment_accuracy"]
    conditions = dict.fromkeys((r["condition"], r["level"]) for r in rows)
    cells = {(r["system"], r["condition"], r["level"]): f"{float(r[OURS]):.1f}" for r in rows}
    lines = [_line(["system", "event F1, clean", *(" ".join(c).strip() for c in conditions)])]
    lines.append(_line(["---"] * (len(conditions) + 2)))
    for name in dict.fromkeys(r["system"] for r in rows):
        lines.append(_line([name, event_f1[name], *(cells[(name, *c)] for c in conditions)]))
    return "\n".join(lines)


def as_ours(row: Row, name: str = OURS) -> Row:
    """A row whose score stands under one name, whatever the folder of its data is called."""
    column = next(k for k in row if k.startswith("ours_on_"))
    return {name if k == column else k: v for k, v in row.items()}


if __name__ == "__main__":
    main()
