"""The papers' tables from one call, and our own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

from avel import papers
from avel.data.base import Dataset
from avel.errors import AvelError, UsageError, all_at_once
from avel.experiments import own_tables
from avel.experiments.result import Result
from avel.experiments.runner import Workshop
from avel.experiments.spec import Estimate, Outcome, Training, check_owners, prepare, touches
from avel.experiments.tables import Reproduction
from avel.papers import Row
from avel.tasks import task_named

#: Options of a data set's loader, as pairs.
Reading = tuple[tuple[str, str], ...]
#: A workshop, and what is to be trained there.
Work = tuple[Workshop, list[tuple[Training, int]]]
#: Opens the data set again with such options.
Reopen = Callable[[dict[str, str]], Dataset]
#: Writes beside a training (its folder) which data it is of, with such options (``reads``).
Note = Callable[..., None]
#: What rows of tian2018's supplement read, by what their `inputs` hold, and what that is.
_READS: dict[str, tuple[Reading, str]] = {
    "amaps": ((("audio", "maps"),), "VGGish's last pooling maps"),
    "c3d": ((("visual", "vector+c3d"),), "C3D's vectors"),
}
_PLAIN = "features without maps of the sound or C3D"
ALL = "all"
TITLES = {**papers.titles(), **own_tables.TITLES}


@dataclass(frozen=True)
class Cell:
    """A row of a table, the training that it needs, and what that reads.

    Args:
        table: The table's name.
        row: The row.
        training: What is trained for it.
        reads: Options of AVE's loader for the features that it reads; of most rows none.
    """

    table: str
    row: Row
    training: Training
    reads: Reading = ()


def tables(asked: Iterable[str], only: Sequence[str] = ()) -> dict[str, list[Row]]:
    """Tables by name.

    Args:
        asked: ``"xue2021:III"``, ``"systems"`` or ``"modalities"`` (ours), ``"all"`` (the papers'), a
            pattern (``"tian2018:*"``), or a paper (``"tian2018"``: all of its tables).
        only: Tasks to keep; all if empty.

    Raises:
        UsageError: for a name that is no table's, or tasks that leave nothing.
    """
    known = {**papers.tables(), **own_tables.tables()}
    found: dict[str, list[Row]] = {}
    for name in asked:
        expected = ("*:*" if name == ALL else name).lower()
        of_paper = [t for t in known if t.lower().startswith(f"{expected}:")]
        hits = of_paper or [t for t in known if fnmatchcase(t.lower(), expected)]
        if not hits:
            raise UsageError(
                f"no table {name!r}",
                expected=f"one of {', '.join(known)}, {ALL}",
                hint="see `avel reproduce --list`",
            )
        found |= {t: [r for r in known[t] if not only or r.task in only] for t in hits}
    found = {name: rows for name, rows in found.items() if rows}
    if not found:
        raise UsageError(f"nothing for {', '.join(only)} there", hint="leave the tasks out")
    return found


def plan(
    found: dict[str, list[Row]], *, pairs: Sequence[str] = (), mmel: Sequence[str] = ()
) -> list[Cell]:
    """Every row of some tables with its training.

    Args:
        found: See :func:`tables`.
        pairs, mmel: See :func:`avel.experiments.spec.prepare`.

    Raises:
        UsageError: with the mistakes in them, those that touch no row among them.
    """
    check_owners([*pairs, *mmel])
    held = []
    for name, rows in found.items():
        for row in rows:
            task: Any = row.task
            made = prepare(
                row.model, task, row.options, setting=row.setting or None, pairs=pairs, mmel=mmel
            )
            inputs = str(row.options.get("inputs"))
            reads = next((r for key, (r, _) in _READS.items() if key in inputs), ())
            held.append(Cell(name, row, made, reads))
    if mmel and not any(cell.training.start for cell in held):
        raise UsageError(
            f"mmel.{mmel[0]} for rows that start from no such model", hint="leave it out"
        )
    _check_touched(held, pairs, mmel)
    return held


def _check_touched(cells: Sequence[Cell], pairs: Sequence[str], mmel: Sequence[str]) -> None:
    """Whether each pair is about some row's training."""
    every = [(c.training, c.row.options) for c in cells]
    starts: list[tuple[Training, dict[str, Any]]] = [(t, {}) for t, _ in every if t.start]
    wrong = [
        f"{mark}{pair}: changes no row of these tables"
        for mark, own, rows in (("", pairs, every), ("mmel.", mmel, starts))
        for pair in own
        if not any(touches(pair, t.model, t.task, fixed) for t, fixed in rows)
    ]
    if wrong:
        there = ", ".join(dict.fromkeys([t.model for t, _ in every] + [t.task for t, _ in every]))
        raise all_at_once(
            "arguments", wrong, hint=f"leave them out; models and tasks there: {there}"
        )


def trainings(cells: Iterable[Cell], *, starts: bool = True) -> list[Training]:
    """The different trainings that cells need; with ``starts`` also what they start from."""
    found: dict[str, Training] = {}
    for cell in cells:
        for one in (cell.training.start if starts else None, cell.training):
            if one is not None:
                found.setdefault(_key(one), one)
    return list(found.values())


def _key(training: Training) -> str:
    return str(training.asked())


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
    reopen: Reopen | None = None,
    note: Note | None = None,
    estimated: Callable[[Estimate], bool] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Reproduction:
    """Train what tables need; what is done already is taken as it is.

    A training that several rows or tables need is done once. After each one the tables are written
    anew (``OUT/NAME.csv``, ``.md``, ``.html`` and ``_differences.csv``), so that a call that was
    stopped goes on where it was when it is called again; two at once share the work. All rows are
    trained with the first seed before the second one's turn comes.

    Args:
        asked: See :func:`tables`.
        data: The data set.
        out: Folder of trainings and tables.
        seeds: Of each training.
        only: Tasks to keep.
        pairs, mmel: ``key=value`` for the recipes, see :func:`avel.experiments.spec.prepare`.
        budget: Minutes a training and seed; it ends after the epoch in which they run out.
        keep_state: See :class:`avel.experiments.runner.Workshop`.
        reopen: Opens the data set with other features (:class:`Cell`); rows that need them aren't
            trained without it, or where it raises an error: the tables say so.
        note: Called with the folder of each training that is there, and the options that its
            data were opened with besides.
        estimated: Called with what is to be done, once every training's first epochs were
            measured; False ends it there.
        progress: Called with a line before each training.

    Raises:
        UsageError: for unknown tables and mistakes in pairs.
        AvelError: at the end, with every training that failed.
        Stopped: on Ctrl-C; the same call goes on.
    """
    cells = plan(tables(asked, only), pairs=pairs, mmel=mmel)
    made = _empty(", ".join(asked), cells, data, seeds, budget)
    for results in carry_out(
        cells, data, out=out, seeds=seeds, budget=budget, keep_state=keep_state, reopen=reopen,
        note=note, estimated=estimated, progress=progress,
    ):  # fmt: skip
        made = replace(made, results=results)
        made.save(out)
    return made


def carry_out(
    cells: Sequence[Cell],
    data: Dataset,
    *,
    out: str | Path,
    seeds: Sequence[int],
    budget: float | None = None,
    keep_state: bool = False,
    reopen: Reopen | None = None,
    note: Note | None = None,
    estimated: Callable[[Estimate], bool] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Iterator[tuple[Result, ...]]:
    """Train what cells need: what came of all of them, first as it is and after each training.

    Arguments and errors are those of :func:`reproduce`.
    """
    opened, lacking = _open(cells, data, reopen)
    held: dict[str, dict[int, Outcome]] = {}
    work: list[Work] = []
    for reads, own in opened.items():
        beside = partial(note, reads=dict(reads)) if note else None
        shop = Workshop(out, own, budget=budget, keep_state=keep_state, note=beside)
        left = []
        for seed in seeds:
            for training in trainings((c for c in cells if c.reads == reads), starts=False):
                if (found := shop.outcome(training, seed)) is None:
                    left.append((training, seed))
                else:
                    held.setdefault(_key(training), {})[seed] = found
                    shop.note(shop.place(training, seed))
        work.append((shop, left))
    yield tuple(_result(cell, held, lacking) for cell in cells)
    tell = _teller([one for _, left in work for one in left], progress)
    go_on = estimated is None or estimated(_measured(work, tell))
    failed: dict[str, AvelError] = {}
    for shop, left in work:
        expected = left if go_on else [one for one in left if shop.outcome(*one)]
        for training, seed, outcome in shop.work(expected, tell):
            if isinstance(outcome, AvelError):
                failed[f"{training.model} {training.task}, seed {seed}"] = outcome
            else:
                held.setdefault(_key(training), {})[seed] = outcome
            yield tuple(_result(cell, held, lacking) for cell in cells)
    if failed:
        told = [f"{what}: {error.got}" for what, error in failed.items()]
        raise AvelError(
            f"{len(failed)} trainings failed, all others are done\n    " + "\n    ".join(told),
            hint=next(iter(failed.values())).hint,
        )


def _open(
    cells: Iterable[Cell], data: Dataset, reopen: Reopen | None
) -> tuple[dict[Reading, Dataset], dict[Reading, str]]:
    """The data set as the cells read it, and why it can't be read so."""
    found: dict[Reading, Dataset] = {}
    lacking: dict[Reading, str] = {}
    for reads in dict.fromkeys(cell.reads for cell in cells):
        what = next((name for own, name in _READS.values() if own == reads), _PLAIN)
        if reads == _reading(data):
            found[reads] = data
        elif reopen is None or not reads:
            lacking[reads] = f"needs {what}"
        else:
            try:
                found[reads] = reopen(dict(reads))
            except AvelError as e:
                lacking[reads] = f"needs {what}: {e.got}"
    return found, lacking


def _reading(data: Dataset) -> Reading:
    """What the data set holds, by its backbones' names."""
    sound, picture = (str(c.get("name")) for c in (data.audio_card, data.visual_card))
    if "c3d" in picture:
        return _READS["c3d"][0]
    return _READS["amaps"][0] if "maps" in sound else ()


def _measured(work: Sequence[Work], tell: Callable[..., None]) -> Estimate:
    """What is to be done in all workshops, once the first epochs were trained."""
    found = []
    for shop, left in work:
        shop.measure(left, lambda t, s: tell(t, s, "measured"))
        found.append(shop.estimate(left))
    return Estimate(
        sum(e.trainings for e in found), sum(e.seconds for e in found), sum(e.cut for e in found),
        sum(e.unknown for e in found),
    )  # fmt: skip


def _empty(
    name: str, cells: Sequence[Cell], data: Dataset, seeds: Sequence[int], budget: float | None
) -> Reproduction:
    baselines, clips = {}, {}
    for task in dict.fromkeys(cell.row.task for cell in cells):
        test = task_named(task).splits(data)[2]
        baselines[task] = task_named(task).baselines(test, len(data.classes))
        clips[task] = len(test)
    return Reproduction(name, data, (), baselines, clips, tuple(seeds), budget, TITLES)


def _result(cell: Cell, held: dict[str, dict[int, Outcome]], lacking: dict[Reading, str]) -> Result:
    done = held.get(_key(cell.training), {})
    outcomes = tuple(done[seed] for seed in sorted(done))
    return Result(cell.table, cell.row, cell.training, outcomes, lacking.get(cell.reads, ""))


def _teller(
    left: Sequence[tuple[Training, int]], progress: Callable[[str], None] | None
) -> Callable[..., None]:
    """Says what is trained next, and how much of it all that is."""
    places = {(_key(training), seed): i + 1 for i, (training, seed) in enumerate(left)}

    def tell(training: Training, seed: int, what: str = "") -> None:
        if progress:
            options = " ".join(f"{k}={v}" for k, v in training.changed.items())
            told = " ".join(filter(None, [training.model, training.task, options]))
            at = places.get((_key(training), seed))
            place = f"{at}/{len(left)}" if at else "to start from:"
            progress(f"{place} {told}, seed {seed}" + (f": {what}" if what else ""))

    return tell
