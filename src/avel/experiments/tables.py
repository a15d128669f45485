"""Tables as they came out: paper | ours | difference, as text, CSV, Markdown and HTML."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from avel.clock import format_time
from avel.data.base import Dataset
from avel.evaluation.results import table
from avel.experiments.result import Result, pairs_text
from avel.experiments.significance import differences
from avel.files import write_whole
from avel.papers import CLASS_NAMES, PARAMETERS, Row
from avel.tasks import task_named
from avel.types import Json

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 80rem; padding: 0 1rem }
table { border-collapse: collapse; margin: 0 0 2rem } caption { text-align: left; font-weight: 600 }
th, td { border-bottom: 1px solid #ccc; padding: .25rem .7rem; text-align: left }
td:first-child { white-space: nowrap }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
tr.baseline { color: #666; font-style: italic }
.warning { background: #fff3cd; padding: .5rem .8rem }
"""


@dataclass(frozen=True)
class Reproduction:
    """Tables on one data set, as far as they are trained.

    Args:
        name: What was asked for.
        data: What it was trained on.
        results: Every row of every table, as printed.
        baselines: By task, scores of constant predictions by name.
        clips: By task, the clips judged.
        seeds: Asked for.
        budget: Minutes that each training had, or None.
        titles: By table, what it is about.
    """

    name: str
    data: Dataset
    results: tuple[Result, ...]
    baselines: Mapping[str, Mapping[str, float]]
    clips: Mapping[str, int]
    seeds: tuple[int, ...]
    budget: float | None
    titles: Mapping[str, str]

    def heading(self) -> str:
        """The title: which tables, on what."""
        return f"{self.name}, trained on {called(self.data)}"

    def facts(self) -> list[str]:
        """What stands above the tables, the warning first where it isn't AVE."""
        asked = sorted({pairs_text(r.changed()) for r in self.results} - {""})
        done = [o for r in self.results for o in r.outcomes]
        cut = sum(o.cut or o.start_cut for o in done)
        clips = ", ".join(f"{task} {count}" for task, count in self.clips.items())
        limit = "none" if self.budget is None else f"{self.budget:g} min a training and seed"
        return [
            warning(self.data),
            f"Test clips: {clips}. Seeds: {' '.join(map(str, self.seeds))}. Epochs chosen on "
            "validation.",
            f"Time budget: {limit}" + (f"; it ended {cut} of {len(done)}." if cut else "."),
            "Recipes: the papers', or where they print none ours"
            + (f"; changed: {'; '.join(asked)}." if asked else "."),
            "Paper: printed there, on the real AVE data set, in percent; italics: quoted by it "
            "from another. Ours: mean ± standard deviation (number of seeds). Difference: ours "
            "less the paper's, in points.",
        ]

    def rows(self) -> list[Json]:
        """A flat row a number, for CSV; in each table the baselines first."""
        found: list[Json] = []
        for name, results in self._by_table():
            found += self._baseline_rows(name, results)
            found += [self._row(r, metric) for r in results for metric in r.metrics]
        head = dict.fromkeys((k for row in found for k in row), "")
        return [{**head, **row} for row in found]

    def csv(self) -> str:
        """The rows as CSV; the column with our numbers says which data they are of."""
        own = f"ours_on_{slug(self.data)}"
        return table([{own if k == "ours" else k: v for k, v in r.items()} for r in self.rows()])

    def _by_table(self) -> Iterator[tuple[str, list[Result]]]:
        for name in dict.fromkeys(r.table for r in self.results):
            yield name, [r for r in self.results if r.table == name]

    def _baseline_rows(self, name: str, results: Sequence[Result]) -> Iterator[Json]:
        for task in dict.fromkeys(r.row.task for r in results):
            for answer, value in self.baselines[task].items():
                yield {
                    "table": name, "system": f"baseline: {answer.replace('_', ' ')}", "task": task,
                    "metric": task_named(task).selection_metric, "ours": round(100 * value, 2),
                    "data": called(self.data), "simulated": self.data.simulated,
                    "clips": self.clips[task],
                }  # fmt: skip

    def _row(self, result: Result, metric: str) -> Json:
        row, ours = result.row, result.measured(metric, self.data.classes)
        scale = 1 if metric == PARAMETERS else 100
        mean = round(scale * ours.mean, 2) if ours.defined else ""
        paper = row.values.get(metric, "")
        return {
            "table": result.table, "system": row.name, "model": row.model, "task": row.task,
            "options": pairs_text(row.options), "metric": metric, "paper": paper,
            "paper_is": _printed(row, metric),
            "ours": mean, "sd": "" if ours.sd is None else round(scale * ours.sd, 2),
            "n": len(ours.defined),
            "difference": _less(mean, paper),
            **_trained(result), "data": called(self.data), "simulated": self.data.simulated,
            "clips": self.clips[row.task],
            "remark": "; ".join([*result.notes(), *self._baseline_notes(result)]),
        }  # fmt: skip

    def _baseline_notes(self, result: Result) -> Iterator[str]:
        """A note for each baseline that has exactly the score of this row."""
        metric, ours = task_named(result.row.task).selection_metric, result.outcomes
        found = [o.evaluation["metrics"].get(metric, {"values": [None]})["values"][0] for o in ours]
        for answer, value in self.baselines[result.row.task].items():
            same = sum(own is not None and math.isclose(own, value, abs_tol=1e-9) for own in found)
            if same:
                seeds = "" if same == len(ours) else f" in {same} of {len(ours)} seeds"
                yield f"scores exactly what {answer.replace('_', ' ')} does{seeds}"

    # ---- for people

    def blocks(self) -> Iterator[tuple[str, list[list[str]], list[bool]]]:
        """Of each table its title, its lines, the columns' names first, and which are baselines."""
        for name, results in self._by_table():
            lines = [["system", "task", "metric", "paper", f"ours on {called(self.data)}",
                      "difference", "epochs", "note"]]  # fmt: skip
            baselines = list(self._baseline_rows(name, results))
            for r in baselines:
                told = task_named(r["task"]).baseline_note
                lines.append([r["system"], r["task"], r["metric"], "", f"{r['ours']:.1f}", "", "",
                              told])  # fmt: skip
            for result in results:
                lines += [self._line(result, metric) for metric in result.metrics]
            title = ": ".join(filter(None, [name, self.titles.get(name, "")]))
            yield title, lines, [0 < i <= len(baselines) for i in range(len(lines))]

    def _line(self, result: Result, metric: str) -> list[str]:
        row, r = result.row, self._row(result, metric)
        digits = 2 if metric == PARAMETERS else 1
        paper = "" if r["paper"] == "" else f"{r['paper']:.{digits}f}"
        ours = "" if r["ours"] == "" else f"{r['ours']:.{digits}f}"
        if ours and metric != PARAMETERS:
            ours += f" ± {r['sd']:.1f} ({r['n']})" if r["sd"] != "" else f" ({r['n']})"
        less = "" if r["difference"] == "" else f"{r['difference']:+.{digits}f}"
        first = metric == result.metrics[0]
        return [row.name, row.task, metric, f"*{paper}*" if paper and row.copied else paper, ours,
                less, r["epochs"] if first else "", r["remark"] if first else ""]  # fmt: skip

    def markdown(self) -> str:
        """Markdown."""
        facts = "\n".join(f"- {_marked(fact)}" for fact in self.facts())
        parts = [f"# {_marked(self.heading())}", facts]
        for title, lines, _ in self.blocks():
            safe = [[_marked(c) for c in line] for line in lines]
            body = [safe[0], ["---"] * len(safe[0]), *safe[1:]]
            parts += [f"## {_marked(title)}", "\n".join(f"| {' | '.join(line)} |" for line in body)]
        return "\n\n".join(parts) + "\n"

    def page(self) -> str:
        """HTML, complete in itself."""
        first, *others = (html.escape(fact) for fact in self.facts())
        parts = [f"<h1>{html.escape(self.heading())}</h1>", f'<p class="warning">{first}</p>',
                 "<ul>", *(f"<li>{fact}</li>" for fact in others), "</ul>"]  # fmt: skip
        for title, lines, baselines in self.blocks():
            parts += [f"<table><caption>{html.escape(title)}</caption>", "<thead>",
                      _html_line(lines[0], "th"), "</thead><tbody>"]  # fmt: skip
            parts += [_html_line(line, "td", "baseline" * own)
                      for line, own in zip(lines[1:], baselines[1:], strict=True)]  # fmt: skip
            parts.append("</tbody></table>")
        head = f'<meta charset="utf-8"><title>{html.escape(self.heading())}</title>'
        top = f'<!doctype html><html lang="en"><head>{head}<style>{_STYLE}</style></head><body>'
        return "\n".join([top, *parts, "</body></html>"]) + "\n"

    def text(self) -> str:
        """For a terminal."""
        parts = [self.heading(), *self.facts()]
        for title, lines, _ in self.blocks():
            widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]) - 1)]
            parts += ["", title]
            parts += ["  ".join([c.ljust(w) for c, w in zip(line, widths, strict=False)]
                                + line[-1:]).rstrip() for line in lines]  # fmt: skip
        return "\n".join(parts)

    def save(self, folder: str | Path) -> list[Path]:
        """Write NAME.csv, .md, .html and, where there are pairs to tell apart, _differences.csv.

        Returns:
            Their paths.
        """
        name = re.sub(r"[^A-Za-z0-9.-]+", "_", self.name)[:80]
        found = {".csv": self.csv(), ".md": self.markdown(), ".html": self.page()}
        if pairs := differences(self.results, self.data):
            found["_differences.csv"] = table(pairs)
        paths = [Path(folder) / f"{name}{ending}" for ending in found]
        for path, content in zip(paths, found.values(), strict=True):
            write_whole(path, content)
        return paths


def called(data: Dataset) -> str:
    """The data set in two words; only the real one is called AVE."""
    if _is_ave(data):
        return "simulated AVE" if data.simulated else "AVE"
    return f"simulated {data.name}" if data.simulated else data.name


def slug(data: Dataset) -> str:
    """The same as a name for files and columns."""
    return "".join(c if c.isalnum() else "_" for c in called(data).lower())


def warning(data: Dataset) -> str:
    """What the data set is, where it isn't the one that the papers' numbers are of."""
    if data.simulated:
        return (f"SIMULATED: {called(data)} holds made-up features on real labels. What is trained "
                "on them says nothing about AVE, nor how the papers' systems compare.")  # fmt: skip
    if not _is_ave(data):
        return (f"NOT AVE: trained on {data.name}, with {len(data.classes)} classes of its own. "
                "The papers' numbers beside ours are of other data.")  # fmt: skip
    return "Data: AVE, the features that its authors published."


def _is_ave(data: Dataset) -> bool:
    return data.name == "ave" and len(data.classes) == len(CLASS_NAMES)


def _trained(result: Result) -> Json:
    """Columns about the training."""
    if not result.outcomes:
        return {"epochs": ""}
    found, recipe = result.outcomes, result.training.recipe
    started = [o.start_epochs for o in found if o.start_epochs is not None]
    best = [o.evaluation["selection"].partition("; ")[2] for o in found]
    first = found[0].evaluation
    return {
        "epochs": _spread([o.epochs for o in found], recipe.epochs),
        "chosen": ", ".join(best), "mmel_epochs": _spread(started),
        "budget": ", ".join(sorted({f"{o.budget:g}" for o in found if o.budget is not None})),
        "cut_by_budget": sum(o.cut or o.start_cut for o in found), "batch": recipe.batch,
        "changed": pairs_text(result.changed()), "seeds": " ".join(str(o.seed) for o in found),
        "time": format_time(sum(o.seconds for o in found) / len(found), decimals=0),
        "parameters": found[0].parameters, "setting": first["setting"],
        "background_clips": "" if first["background_clips"] is None else first["background_clips"],
        "fingerprint": first["fingerprint"][:12],
    }  # fmt: skip


def _printed(row: Row, metric: str) -> str:
    """How the paper comes by its number."""
    if metric not in row.values:
        return ""
    if metric == "mean_accuracy" and row.mean_is_ours:
        return "mean of its two"
    return "quoted" if row.copied else "own"


def _less(ours: float | str, paper: float | str) -> float | str:
    """The difference of two numbers, "" where one is missing."""
    known = isinstance(ours, float) and isinstance(paper, float)
    return round(ours - paper, 2) if known else ""  # type: ignore[operator]


def _spread(epochs: Sequence[int], asked: int | None = None) -> str:
    """``"30"``, ``"12 of 30"``, ``"12 to 14 of 30"``."""
    if not epochs:
        return ""
    low, high = min(epochs), max(epochs)
    told = str(low) if low == high else f"{low} to {high}"
    return told if asked is None or low == asked else f"{told} of {asked}"


def _marked(text: str) -> str:
    """Text as Markdown shows it: names of classes and options are nobody's markup."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("_", "\\_")


def _html_line(line: Sequence[str], tag: str, kind: str = "") -> str:
    cells = []
    for i, text in enumerate(line):
        own = ' class="number"' if tag == "td" and 3 <= i <= 5 else ""
        quoted = len(text) > 2 and text[0] == text[-1] == "*"
        told = f"<em>{html.escape(text[1:-1])}</em>" if quoted else html.escape(text)
        cells.append(f"<{tag}{own}>{told}</{tag}>")
    return f"<tr{f' class={kind!r}' if kind else ''}>{''.join(cells)}</tr>"
