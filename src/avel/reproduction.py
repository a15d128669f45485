"""The papers' tables from one call, and one of our own with every system in every task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from avel import papers, tasks
from avel.data.base import Dataset
from avel.errors import UsageError
from avel.models import models
from avel.papers import Row
from avel.reproduced import HEADLINE, Reproduction, Result
from avel.trainings import Estimate, Outcome, Training, check_owners, prepare
from avel.workshop import Workshop

#: Our own table: every model in every task that it has.
SYSTEMS = "systems"
ALL = "all"
TITLES = {**papers.titles(), SYSTEMS: "every model in every task"}
#: What `systems` calls the models, and which of their variants it holds besides the default.
_NAMES = {
    "av": "A+V-att", "avdln": "AVDLN", "avsdn": "AVSDN", "cspa_csea": "CSPA+CSEA", "dam": "DAM",
    "dcca": "DCCA", "ed_tcn": "ED-TCN", "jca": "JCA",
}  # fmt: skip
_VARIANTS: dict[tuple[str, str], dict[str, dict[str, Any]]] = {
    ("av", "sel"): {"A+V": {"inputs": "a+v"}, "DMRN": {"fusion": "dmrn"}},
    ("av", "wsel"): {"A+V": {"inputs": "a+v"}},
    ("cspa_csea", "cml"): {"CSPA+CSEA, unpaired": {"form": "unpaired"}},
}


@dataclass(frozen=True)
class Cell:
    """A row of a table and the training that it needs.

    Args:
        table: The table's name.
        row: The row.
        training: None where it can't be trained on the data.
        why_not: Why.
    """

    table: str
    row: Row
    training: Training | None
    why_not: str = ""


def tables(asked: Iterable[str], only: Sequence[str] = ()) -> dict[str, list[Row]]:
    """Tables by name.

    Args:
        asked: ``"xue2021:III"``, ``"systems"``, ``"all"`` (the papers'), or a pattern
            (``"tian2018:*"``).
        only: Tasks to keep; all if empty.

    Raises:
        UsageError: for a name that is no table's, or tasks that leave nothing.
    """
    known = {**papers.tables(), SYSTEMS: systems()}
    found: dict[str, list[Row]] = {}
    for name in asked:
        wanted = "*:*" if name == ALL else name
        hits = [t for t in known if fnmatchcase(t.lower(), wanted.lower())]
        if not hits:
            raise UsageError(
                f"no table {name!r}",
                wanted=f"one of {', '.join(known)}, {ALL}",
                do="see `avel reproduce --list`",
            )
        found |= {t: [r for r in known[t] if not only or r.task in only] for t in hits}
    found = {name: rows for name, rows in found.items() if rows}
    if not found:
        raise UsageError(f"nothing for {', '.join(only)} there", do="leave the tasks out")
    return found


def systems() -> list[Row]:
    """Every model in every task that it has, in the order of what papers print for them."""
    found = []
    for task in tasks.TASKS:
        rows = []
        for name, cls in models:
            if task in cls.card.tasks:
                variants = {_NAMES.get(name, name): {}, **_VARIANTS.get((name, task), {})}
                rows += [_system(called, name, task, o) for called, o in variants.items()]
        found += sorted(rows, key=lambda r: r.values.get(HEADLINE[r.task], 100.0))
    return found


def _system(called: str, model: str, task: str, options: dict[str, Any]) -> Row:
    values: dict[str, float] = {}
    for number in papers.reported(model, task, options, models.get(model).options()):
        values.setdefault(number.metric, round(100 * number.value, 2))
    return Row("", SYSTEMS, called, model, task, options, values)


def plan(
    found: dict[str, list[Row]],
    data: Dataset | None = None,
    *,
    pairs: Sequence[str] = (),
    mmel: Sequence[str] = (),
) -> list[Cell]:
    """Every row of some tables with its training.

    Args:
        found: See :func:`tables`.
        data: What it is to be trained on; None where that doesn't matter yet.
        pairs, mmel: See :func:`avel.trainings.prepare`.

    Raises:
        UsageError: with the mistakes in them.
    """
    check_owners([*pairs, *mmel])
    held: list[Cell] = []
    for name, rows in found.items():
        for row in rows:
            why = _why_not(row, data) if data else ""
            task: Any = row.task
            made = None if why else prepare(row.model, task, row.options, pairs=pairs, mmel=mmel)
            held.append(Cell(name, row, made, why))
    return held


def trainings(cells: Iterable[Cell], *, starts: bool = True) -> list[Training]:
    """The different trainings that cells need, what they start from included."""
    found: dict[str, Training] = {}
    for cell in cells:
        for one in (cell.training.start if cell.training else None, cell.training):
            if one is not None and (starts or one is cell.training):
                found.setdefault(str(one.asked()), one)
    return list(found.values())


def reproduce(
    asked: Sequence[str],
    data: Dataset,
    *,
    out: str | Path,
    seeds: Sequence[int] = (0,),
    only: Sequence[str] = (),
    pairs: Sequence[str] = (),
    mmel: Sequence[str] = (),
    budget: float | None = None,
    keep_state: bool = False,
    estimated: Callable[[Estimate], bool] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Reproduction:
    """Train what tables need; what is done already is taken as it is.

    A training that several rows or tables need is done once. After each one the tables are written
    anew (``OUT/NAME.csv``, ``.md``, ``.html``), so that a call that was stopped goes on where it
    was when it is called again; two at once share the work.

    Args:
        asked: See :func:`tables`.
        data: The data set.
        out: Folder of trainings and tables.
        seeds: Of each training.
        only: Tasks to keep.
        pairs, mmel: ``key=value`` for the recipes, see :func:`avel.trainings.prepare`.
        budget: Minutes a training and seed; it ends after the epoch in which they run out.
        keep_state: See :class:`avel.workshop.Workshop`.
        estimated: Called with what is to be done, once every training's first epochs were
            measured; False ends it there.
        progress: Called with a line before each training.

    Raises:
        UsageError: for unknown tables and mistakes in pairs.
        Stopped: on Ctrl-C; the same call goes on.
    """
    cells = plan(tables(asked, only), data, pairs=pairs, mmel=mmel)
    shop = Workshop(out, data, budget=budget, keep_state=keep_state)
    wanted = [(t, seed) for seed in seeds for t in trainings(cells, starts=False)]
    whole = _empty("_".join(asked), cells, data, seeds, budget)
    tell = _teller(shop, wanted, progress)
    if estimated is not None:
        shop.measure(wanted, lambda t, s: tell(t, s, "measured"))
    held: dict[str, dict[int, Outcome]] = {}
    go_on = estimated is None or estimated(shop.estimate(wanted))
    for training, seed, outcome in shop.work(wanted, tell, train=go_on):
        held.setdefault(str(training.asked()), {})[seed] = outcome
        _fill(whole, cells, held).save(out)
    return _fill(whole, cells, held)


def _empty(
    name: str, cells: Sequence[Cell], data: Dataset, seeds: Sequence[int], budget: float | None
) -> Reproduction:
    trivial, clips = {}, {}
    for task in dict.fromkeys(cell.row.task for cell in cells):
        test = tasks.splits(data, task)[2]
        trivial[task] = tasks.trivial(test, task, len(data.classes))
        clips[task] = len(test)
    return Reproduction(name, data, (), trivial, clips, tuple(seeds), budget, TITLES)


def _fill(
    whole: Reproduction, cells: Sequence[Cell], held: dict[str, dict[int, Outcome]]
) -> Reproduction:
    results = []
    for cell in cells:
        done = held.get(str(cell.training.asked()), {}) if cell.training else {}
        outcomes = tuple(done[seed] for seed in sorted(done))
        results.append(Result(cell.table, cell.row, cell.training, outcomes, cell.why_not))
    return replace(whole, results=tuple(results))


def _teller(
    shop: Workshop, wanted: Sequence[tuple[Training, int]], progress: Callable[[str], None] | None
) -> Callable[..., None]:
    """Says what is trained next, and how much of it all that is."""
    left = [(str(t.asked()), s) for t, s in wanted if shop.outcome(t, s) is None]

    def tell(training: Training, seed: int, what: str = "") -> None:
        if progress:
            options = " ".join(f"{k}={v}" for k, v in training.changed.items())
            at = left.index((str(training.asked()), seed)) + 1
            told = " ".join(filter(None, [training.model, training.task, options]))
            progress(f"{at}/{len(left)} {told}, seed {seed}" + (f": {what}" if what else ""))

    return tell


def _why_not(row: Row, data: Dataset) -> str:
    """Why a row can't be trained on these data: they lack the features that it reads."""
    return ""
