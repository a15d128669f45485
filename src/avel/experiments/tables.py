"""Tables of results: paper | ours | difference, as text, CSV and Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from avel.clock import format_time
from avel.data.base import Dataset
from avel.evaluation.results import table
from avel.experiments.result import RowResult, pairs_text
from avel.experiments.significance import differences
from avel.files import write_whole
from avel.papers import CLASS_NAMES, PARAMETERS, Row
from avel.tasks import task_named
from avel.types import Json


@dataclass(frozen=True)
class Reproduction:
    """Tables on one data set, as far as they are trained.

    Args:
        name: The names of the tables, as they were requested.
        data: The data set of the trainings.
        results: Every row of every table, in the papers' order.
        baselines: By task, the scores of constant predictions, by name.
        clips: By task, the number of test clips.
        seeds: Those requested.
        titles: By table, what it is about.
    """

    name: str
    data: Dataset
    results: tuple[RowResult, ...]
    baselines: Mapping[str, Mapping[str, float]]
    clips: Mapping[str, int]
    seeds: tuple[int, ...]
    titles: Mapping[str, str]

    def heading(self) -> str:
        """The title: the tables and the data set."""
        return f"{self.name}, trained on {called(self.data)}"

    def facts(self) -> list[str]:
        """The lines above the tables, a warning first where the data set isn't AVE."""
        changed = sorted({pairs_text(r.changed()) for r in self.results} - {""})
        clips = ", ".join(f"{task} {count}" for task, count in self.clips.items())
        return [
            warning(self.data),
            f"Test clips: {clips}. Seeds: {' '.join(map(str, self.seeds))}. Epochs selected on "
            f"validation{self._selection_notes()}.",
            "Recipes: the papers', or where they print none ours"
            + (f"; changed: {'; '.join(changed)}." if changed else "."),
            "Paper: printed there, on the real AVE data set, in percent; italics: quoted by it "
            "from another. Ours: mean ± standard deviation (number of seeds). Difference: ours "
            "less the paper's, in points.",
            *(fact for which, fact in _BESIDE_FACTS.items() if self._shows(which)),
        ]

    def _selection_notes(self) -> str:
        tasks = [task_named(name) for name in dict.fromkeys(r.row.task for r in self.results)]
        notes = [f"{task.name}'s {task.selection_note}" for task in tasks if task.selection_note]
        return f" ({'; '.join(notes)})" if notes else ""

    def _shows(self, which: str) -> bool:
        """Whether a row has scores of another epoch, see :meth:`RowResult.beside`."""
        return any(r.beside(metric, which) for r in self.results for metric in r.metrics)

    def rows(self) -> list[Json]:
        """A flat row for each number, for CSV; in each table the baselines first."""
        rows: list[Json] = []
        for name, results in self._by_table():
            rows += self._baseline_rows(name, results)
            rows += [self._row(r, metric) for r in results for metric in r.metrics]
        columns = dict.fromkeys((k for row in rows for k in row), "")
        return [{**columns, **row} for row in rows]

    def csv(self) -> str:
        """The rows as CSV; the name of the column ``ours_on_...`` holds the data set."""
        ours = f"ours_on_{slug(self.data)}"
        return table([{ours if k == "ours" else k: v for k, v in r.items()} for r in self.rows()])

    def _by_table(self) -> Iterator[tuple[str, list[RowResult]]]:
        for name in dict.fromkeys(r.table for r in self.results):
            yield name, [r for r in self.results if r.table == name]

    def _baseline_rows(self, name: str, results: Sequence[RowResult]) -> Iterator[Json]:
        for task in dict.fromkeys(r.row.task for r in results):
            for baseline, value in self.baselines[task].items():
                system = f"baseline: {baseline.replace('_', ' ')}"
                yield {
                    "table": name, "system": system, "task": task,
                    "metric": task_named(task).selection_metric, "ours": round(100 * value, 2),
                    "data": called(self.data), "simulated": self.data.simulated,
                    "clips": self.clips[task],
                }  # fmt: skip

    def _row(self, result: RowResult, metric: str) -> Json:
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
            **{column: _beside_number(result, metric, which) for which, column in _BESIDE.items()},
            "difference": _difference(mean, paper),
            **_trained(result), "data": called(self.data), "simulated": self.data.simulated,
            "clips": self.clips[row.task],
            "remark": "; ".join([*result.notes(), *self._baseline_notes(result)]),
        }  # fmt: skip

    def _baseline_notes(self, result: RowResult) -> Iterator[str]:
        """A note for each baseline whose score is exactly this row's."""
        metric, outcomes = task_named(result.row.task).selection_metric, result.outcomes
        scores = [
            o.evaluation["metrics"].get(metric, {"values": [None]})["values"][0] for o in outcomes
        ]
        for baseline, value in self.baselines[result.row.task].items():
            equal = sum(s is not None and math.isclose(s, value, abs_tol=1e-9) for s in scores)
            if equal:
                seeds = "" if equal == len(scores) else f" in {equal} of {len(scores)} seeds"
                yield f"scores exactly what {baseline.replace('_', ' ')} does{seeds}"

    # ---- for people

    def blocks(self) -> Iterator[tuple[str, list[list[str]]]]:
        """Of each table its title and its lines, the columns' names first."""
        for name, results in self._by_table():
            beside = [column for which, column in _BESIDE.items() if self._shows(which)]
            lines = [["system", "task", "metric", "paper", f"ours on {called(self.data)}",
                      *(column.replace("_", " ") for column in beside),
                      "difference", "epochs", "note"]]  # fmt: skip
            for r in self._baseline_rows(name, results):
                note = task_named(r["task"]).baseline_note
                lines.append([r["system"], r["task"], r["metric"], "", f"{r['ours']:.1f}",
                              *[""] * len(beside), "", "", note])  # fmt: skip
            for result in results:
                lines += [self._line(result, metric, beside) for metric in result.metrics]
            yield ": ".join(filter(None, [name, self.titles.get(name, "")])), lines

    def _line(self, result: RowResult, metric: str, beside: Sequence[str]) -> list[str]:
        row, r = result.row, self._row(result, metric)
        digits = 2 if metric == PARAMETERS else 1
        paper = "" if r["paper"] == "" else f"{r['paper']:.{digits}f}"
        ours = "" if r["ours"] == "" else f"{r['ours']:.{digits}f}"
        if ours and metric != PARAMETERS:
            ours += f" ± {r['sd']:.1f} ({r['n']})" if r["sd"] != "" else f" ({r['n']})"
        difference = "" if r["difference"] == "" else f"{r['difference']:+.{digits}f}"
        others = ["" if r[column] == "" else f"{r[column]:.{digits}f}" for column in beside]
        first = metric == result.metrics[0]
        return [row.name, row.task, metric, f"*{paper}*" if paper and row.copied else paper, ours,
                *others, difference, r["epochs"] if first else "",
                r["remark"] if first else ""]  # fmt: skip

    def markdown(self) -> str:
        """Markdown."""
        facts = "\n".join(f"- {_marked(fact)}" for fact in self.facts())
        parts = [f"# {_marked(self.heading())}", facts]
        for title, lines in self.blocks():
            safe = [[_marked(c) for c in line] for line in lines]
            body = [safe[0], ["---"] * len(safe[0]), *safe[1:]]
            parts += [f"## {_marked(title)}", "\n".join(f"| {' | '.join(line)} |" for line in body)]
        return "\n\n".join(parts) + "\n"

    def text(self) -> str:
        """For a terminal."""
        parts = [self.heading(), *self.facts()]
        for title, lines in self.blocks():
            widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]) - 1)]
            parts += ["", title]
            parts += ["  ".join([c.ljust(w) for c, w in zip(line, widths, strict=False)]
                                + line[-1:]).rstrip() for line in lines]  # fmt: skip
        return "\n".join(parts)

    def save(self, folder: str | Path) -> list[Path]:
        """Write NAME.csv, .md and, where there are systems to compare, _differences.csv.

        Returns:
            Their paths.
        """
        name = re.sub(r"[^A-Za-z0-9.-]+", "_", self.name)[:80]
        contents = {".csv": self.csv(), ".md": self.markdown()}
        if pairs := differences(self.results, self.data):
            contents["_differences.csv"] = table(pairs)
        paths = [Path(folder) / f"{name}{ending}" for ending in contents]
        for path, content in zip(paths, contents.values(), strict=True):
            write_whole(path, content)
        return paths


#: Scores of other epochs than the selected one, and their columns.
_BESIDE = {"last": "last_epoch", "test_chosen": "chosen_on_test"}
_BESIDE_FACTS = {
    "last": "Last epoch: ours without any selection.",
    "test_chosen": "Chosen on test: the epoch that scores best on the test clips themselves, for "
    "comparison with papers that chose theirs so, and with those alone.",
}


def _beside_number(result: RowResult, metric: str, which: str) -> float | str:
    """The mean over the seeds in percent, "" where there is none."""
    other = result.beside(metric, which)
    return round(100 * other.mean, 2) if other and other.defined else ""


def called(data: Dataset) -> str:
    """The data set's name in two words; only the real one is called AVE."""
    if _is_ave(data):
        return "simulated AVE" if data.simulated else "AVE"
    return f"simulated {data.name}" if data.simulated else data.name


def slug(data: Dataset) -> str:
    """The same as a name for files and columns."""
    return "".join(c if c.isalnum() else "_" for c in called(data).lower())


def warning(data: Dataset) -> str:
    """A warning where the data set isn't the one of the papers' numbers."""
    if data.simulated:
        return (f"SIMULATED: {called(data)} holds made-up features on real labels. Trainings "
                "on them tell nothing about AVE, nor how the papers' systems compare.")  # fmt: skip
    if not _is_ave(data):
        return (f"NOT AVE: trained on {data.name}, with {len(data.classes)} classes of its own. "
                "The papers' numbers beside ours are of other data.")  # fmt: skip
    return "Data: AVE, the features that its authors published."


def _is_ave(data: Dataset) -> bool:
    return data.name == "ave" and len(data.classes) == len(CLASS_NAMES)


def _trained(result: RowResult) -> Json:
    """Columns about the training."""
    outcomes, recipe = result.outcomes, result.training.recipe
    if not outcomes:
        return {"epochs": ""}
    started = [o.start_epochs for o in outcomes if o.start_epochs is not None]
    best = [o.evaluation["selection"].partition("; ")[2] for o in outcomes]
    first = outcomes[0].evaluation
    return {
        "epochs": _spread([o.epochs for o in outcomes], recipe.epochs),
        "chosen": ", ".join(best),
        "selection": " / ".join(dict.fromkeys(
            o.evaluation["selection"].partition("; ")[0] for o in outcomes)),
        "mmel_epochs": _spread(started), "batch": recipe.batch,
        "changed": pairs_text(result.changed()), "seeds": " ".join(str(o.seed) for o in outcomes),
        "time": format_time(sum(o.seconds for o in outcomes) / len(outcomes), decimals=0),
        "parameters": outcomes[0].parameters, "setting": first["setting"],
        "background_clips": "" if first["background_clips"] is None else first["background_clips"],
        "fingerprint": first["fingerprint"][:12],
    }  # fmt: skip


def _printed(row: Row, metric: str) -> str:
    """Where the paper's number comes from."""
    if metric not in row.values:
        return ""
    if metric == "mean_accuracy" and row.mean_is_ours:
        return "mean of its two"
    return "quoted" if row.copied else "own"


def _difference(ours: float | str, paper: float | str) -> float | str:
    """The difference of two numbers, "" where one is missing."""
    known = isinstance(ours, float) and isinstance(paper, float)
    return round(ours - paper, 2) if known else ""  # type: ignore[operator]


def _spread(epochs: Sequence[int], full: int | None = None) -> str:
    """``"30"``, ``"12 of 30"``, ``"12 to 14 of 30"``: fewer where patience ended a training."""
    if not epochs:
        return ""
    low, high = min(epochs), max(epochs)
    text = str(low) if low == high else f"{low} to {high}"
    return text if full is None or low == full else f"{text} of {full}"


def _marked(text: str) -> str:
    """Text with Markdown's signs escaped: names of classes and options are no markup."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("_", "\\_")
