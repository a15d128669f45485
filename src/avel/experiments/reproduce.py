"""The papers' tables and our own, from one call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any, TypedDict, Unpack

from avel import papers
from avel.data.base import Dataset
from avel.errors import AvelError, UsageError, all_at_once
from avel.experiments import extra_tables
from avel.experiments.result import RowResult
from avel.experiments.runner import Runner
from avel.experiments.spec import Outcome, Training, check_owners, prepare, touches
from avel.experiments.tables import Reproduction
from avel.papers import Row
from avel.tasks import task_named

#: Options of a data set's loader, as pairs.
Reading = tuple[tuple[str, str], ...]
#: A runner, and the trainings and seeds that it has to do.
Work = tuple[Runner, list[tuple[Training, int]]]
#: Outcomes by training (its key) and seed.
Outcomes = dict[str, dict[int, Outcome]]
#: Opens the data set again with such options.
Reopen = Callable[[dict[str, str]], Dataset]
#: Writes beside a training (its folder) which data it is of, with such options (``reads``).
Note = Callable[..., None]
#: Options of AVE's loader for rows of tian2018's supplement, by a part of their `inputs`, and the
#: name of the features that they read.
_READS: dict[str, tuple[Reading, str]] = {
    "amaps": ((("audio", "maps"),), "VGGish's last pooling maps"),
    "c3d": ((("visual", "vector+c3d"),), "C3D's vectors"),
}
_PLAIN = "features without maps of the sound or C3D"
ALL = "all"
TITLES = {**papers.titles(), **extra_tables.TITLES}


class Options(TypedDict, total=False):
    """How trainings of tables are carried out.

    Args:
        keep_state, test_chosen, device: See :class:`avel.experiments.runner.Runner`.
        reopen: Opens the data set with other features (:class:`Cell`); rows that need them aren't
            trained without it, or where it raises an error: the tables say so.
        note: Called with the folder of each training that is done, and the options that its data
            were opened with besides.
        progress: Called with a line before each training.
    """

    keep_state: bool
    test_chosen: bool
    device: str
    reopen: Reopen | None
    note: Note | None
    progress: Callable[[str], None] | None


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


def tables(names: Iterable[str], only: Sequence[str] = ()) -> dict[str, list[Row]]:
    """Tables by name.

    Args:
        names: ``"xue2021:III"``, ``"systems"`` or ``"modalities"`` (ours), ``"all"`` (the
            papers'), a pattern (``"tian2018:*"``), or a paper (``"tian2018"``: all of its tables).
        only: Tasks whose rows are taken; all if empty.

    Raises:
        UsageError: for an unknown name, or if no row is left.
    """
    known = {**papers.tables(), **extra_tables.tables()}
    selected: dict[str, list[Row]] = {}
    for name in names:
        pattern = ("*:*" if name == ALL else name).lower()
        of_paper = [t for t in known if t.lower().startswith(f"{pattern}:")]
        matches = of_paper or [t for t in known if fnmatchcase(t.lower(), pattern)]
        if not matches:
            raise UsageError(
                f"there is no table {name!r}",
                expected=f"one of {', '.join(known)}, {ALL}",
                hint="see `avel reproduce --list`",
            )
        selected |= {t: [r for r in known[t] if not only or r.task in only] for t in matches}
    selected = {name: rows for name, rows in selected.items() if rows}
    if not selected:
        raise UsageError(
            f"these tables have no row of task {' or '.join(only)}", hint="leave the tasks out"
        )
    return selected


def plan(
    selected: dict[str, list[Row]], *, pairs: Sequence[str] = (), mmel: Sequence[str] = ()
) -> list[Cell]:
    """Every row of some tables with its training.

    Args:
        selected: See :func:`tables`.
        pairs, mmel: See :func:`avel.experiments.spec.prepare`.

    Raises:
        UsageError: with the mistakes in them, those that change no row among them.
    """
    check_owners([*pairs, *mmel])
    cells = []
    for name, rows in selected.items():
        for row in rows:
            task: Any = row.task
            training = prepare(
                row.model, task, row.options, setting=row.setting or None, pairs=pairs, mmel=mmel
            )
            inputs = str(row.options.get("inputs"))
            reads = next((r for key, (r, _) in _READS.items() if key in inputs), ())
            cells.append(Cell(name, row, training, reads))
    if mmel and not any(cell.training.start for cell in cells):
        raise UsageError(
            f"mmel.{mmel[0]} changes no row: none of them starts from an SEL model",
            hint="leave it out",
        )
    _check_touched(cells, pairs, mmel)
    return cells


def _check_touched(cells: Sequence[Cell], pairs: Sequence[str], mmel: Sequence[str]) -> None:
    """Whether each pair is about some row's training."""
    rows = [(c.training, c.row.options) for c in cells]
    starts: list[tuple[Training, dict[str, Any]]] = [(t, {}) for t, _ in rows if t.start]
    mistakes = [
        f"{prefix}{pair}: changes no row of these tables"
        for prefix, requested, changeable in (("", pairs, rows), ("mmel.", mmel, starts))
        for pair in requested
        if not any(touches(pair, t.model, t.task, fixed) for t, fixed in changeable)
    ]
    if mistakes:
        names = ", ".join(dict.fromkeys([t.model for t, _ in rows] + [t.task for t, _ in rows]))
        raise all_at_once(
            "arguments", mistakes, hint=f"leave them out; the tables' models and tasks: {names}"
        )


def trainings(cells: Iterable[Cell], *, starts: bool = True) -> list[Training]:
    """The different trainings that cells need; with ``starts`` also what they start from."""
    different: dict[str, Training] = {}
    for cell in cells:
        for training in (cell.training.start if starts else None, cell.training):
            if training is not None:
                different.setdefault(_key(training), training)
    return list(different.values())


def _key(training: Training) -> str:
    return str(training.identity())


def reproduce(
    names: Sequence[str],
    data: Dataset,
    *,
    out: str | Path,
    seeds: Sequence[int] = (0,),
    only: Sequence[str] = (),
    pairs: Sequence[str] = (),
    mmel: Sequence[str] = (),
    **options: Unpack[Options],
) -> Reproduction:
    """Train what tables need; what is done already is taken as it is.

    A training that several rows or tables need is done once. After each one the tables are written
    again (``OUT/NAME.csv``, ``.md`` and ``_differences.csv``), so that a call that was stopped
    resumes when it is called again; two at once share the work. All rows are trained with the first
    seed before the second one's turn comes.

    Args:
        names: See :func:`tables`.
        data: The data set.
        out: Folder of trainings and tables.
        seeds: Of each training.
        only: Tasks whose rows are taken; all if empty.
        pairs, mmel: ``key=value`` for the recipes, see :func:`avel.experiments.spec.prepare`.
        options: See :class:`Options`.

    Raises:
        UsageError: for unknown tables and mistakes in pairs.
        AvelError: at the end, with every training that failed.
        Stopped: on Ctrl-C; the same call resumes.
    """
    cells = plan(tables(names, only), pairs=pairs, mmel=mmel)
    reproduction = _empty(", ".join(names), cells, data, seeds)
    for results in carry_out(cells, data, out=out, seeds=seeds, **options):
        reproduction = replace(reproduction, results=results)
        reproduction.save(out)
    return reproduction


def carry_out(
    cells: Sequence[Cell],
    data: Dataset,
    *,
    out: str | Path,
    seeds: Sequence[int],
    keep_state: bool = False,
    test_chosen: bool = False,
    device: str = "auto",
    reopen: Reopen | None = None,
    note: Note | None = None,
    progress: Callable[[str], None] | None = None,
) -> Iterator[tuple[RowResult, ...]]:
    """Train what cells need: the results of all of them, first as they are, then after each one.

    Arguments and errors are those of :func:`reproduce` and :class:`Options`.
    """
    opened, missing = _open(cells, data, reopen)
    outcomes: Outcomes = {}
    work: list[Work] = []
    for reads, dataset in opened.items():
        beside = partial(note, reads=dict(reads)) if note else None
        runner = Runner(
            out, dataset, keep_state=keep_state, note=beside, test_chosen=test_chosen,
            device=device,
        )  # fmt: skip
        own = trainings((c for c in cells if c.reads == reads), starts=False)
        work.append((runner, _still_to_do(runner, own, seeds, outcomes)))
    yield tuple(_result(cell, outcomes, missing) for cell in cells)
    report = _reporter([one for _, requested in work for one in requested], progress)
    failed: dict[str, AvelError] = {}
    for runner, requested in work:
        for training, seed, outcome in runner.work(requested, report):
            if isinstance(outcome, AvelError):
                failed[f"{training.model} {training.task}, seed {seed}"] = outcome
            else:
                outcomes.setdefault(_key(training), {})[seed] = outcome
            yield tuple(_result(cell, outcomes, missing) for cell in cells)
    if failed:
        lines = [f"{name}: {error.got}" for name, error in failed.items()]
        raise AvelError(
            f"{len(failed)} trainings failed, all others are done\n    " + "\n    ".join(lines),
            hint=next(iter(failed.values())).hint,
        )


def _still_to_do(
    runner: Runner, own: Sequence[Training], seeds: Sequence[int], outcomes: Outcomes
) -> list[tuple[Training, int]]:
    """The trainings and seeds without an outcome; the outcomes of the others are added."""
    left = []
    for seed in seeds:
        for training in own:
            outcome = runner.outcome(training, seed)
            if outcome is None:
                left.append((training, seed))
            else:
                outcomes.setdefault(_key(training), {})[seed] = outcome
                runner.note(runner.folder_of(training, seed))
    return left


def _open(
    cells: Iterable[Cell], data: Dataset, reopen: Reopen | None
) -> tuple[dict[Reading, Dataset], dict[Reading, str]]:
    """The data set as the cells read it, and why it can't be read so."""
    opened: dict[Reading, Dataset] = {}
    missing: dict[Reading, str] = {}
    for reads in dict.fromkeys(cell.reads for cell in cells):
        features = next((name for options, name in _READS.values() if options == reads), _PLAIN)
        if reads == _reading(data):
            opened[reads] = data
        elif reopen is None or not reads:
            missing[reads] = f"needs {features}"
        else:
            try:
                opened[reads] = reopen(dict(reads))
            except AvelError as e:
                missing[reads] = f"needs {features}: {e.got}"
    return opened, missing


def _reading(data: Dataset) -> Reading:
    """What the data set holds, by its backbones' names."""
    audio, visual = (str(c.get("name")) for c in (data.audio_card, data.visual_card))
    if "c3d" in visual:
        return _READS["c3d"][0]
    return _READS["amaps"][0] if "maps" in audio else ()


def _empty(name: str, cells: Sequence[Cell], data: Dataset, seeds: Sequence[int]) -> Reproduction:
    baselines, clips = {}, {}
    for name_of_task in dict.fromkeys(cell.row.task for cell in cells):
        task = task_named(name_of_task)
        test = task.splits(data)[2]
        baselines[name_of_task] = task.baselines(test, len(data.classes))
        clips[name_of_task] = len(test)
    return Reproduction(name, data, (), baselines, clips, tuple(seeds), TITLES)


def _result(cell: Cell, outcomes: Outcomes, missing: dict[Reading, str]) -> RowResult:
    by_seed = outcomes.get(_key(cell.training), {})
    return RowResult(
        cell.table,
        cell.row,
        cell.training,
        tuple(by_seed[seed] for seed in sorted(by_seed)),
        missing.get(cell.reads, ""),
    )


def _reporter(
    requested: Sequence[tuple[Training, int]], progress: Callable[[str], None] | None
) -> Callable[[Training, int], None]:
    """Says which training is next, and how many there are."""
    numbers = {(_key(training), seed): i + 1 for i, (training, seed) in enumerate(requested)}
    if progress and not requested:
        progress("everything is trained")

    def report(training: Training, seed: int) -> None:
        if progress:
            options = " ".join(f"{k}={v}" for k, v in training.changed.items())
            name = " ".join(filter(None, [training.model, training.task, options]))
            number = numbers[_key(training), seed]
            progress(f"{number}/{len(requested)} {name}, seed {seed}")

    return report
