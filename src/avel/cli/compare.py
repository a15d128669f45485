"""`avel compare`: whether two runs differ on the same clips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avel.cli._options import OtherData
from avel.errors import UsageError

if TYPE_CHECKING:
    from avel.evaluation.comparison import MetricComparison


def compare(
    first: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run's folder, or that of its seeds.")
    ],
    second: Annotated[Path, typer.Argument(metavar="RUN", help="Another run of the same classes.")],
    pairs: OtherData = None,
    split: Annotated[
        str | None,
        typer.Option(help="train, val, test, or another of the data.", show_default="test"),
    ] = None,
) -> None:
    """Compare two runs on the same clips by a paired bootstrap.

    Prints both scores, the second's gain, and its 95 % intervals over clips, and over clips and
    seeds: of the segment accuracy, and of event F1. Without data, both are evaluated on those of
    the first run. Two runs with --folds are compared fold by fold.
    """
    from avel.cli._pairs import data_arguments, load_data_arguments, open_data, seed_folders
    from avel.evaluation.comparison import compare_evaluations, compare_folds, load_folds
    from avel.evaluation.evaluate import evaluate
    from avel.evaluation.inputs import align_classes, choose_split
    from avel.inference.load import load_trained
    from avel.memory import keep_memory
    from avel.tasks import task_named

    keep_memory()
    arguments, folders = data_arguments(pairs, "compare"), (first, second)
    runs = [[load_trained(f) for f in seed_folders(folder)] for folder in folders]
    one, other = (group[0] for group in runs)
    if one.classes != other.classes or one.card["task"] != other.card["task"]:
        raise UsageError(
            "runs of different classes or tasks can't be compared",
            expected="two runs of one task, trained on the same classes",
            hint="train both on the same data",
        )
    if not arguments.data and split is None:
        fingerprints = [[run.card["data"]["fingerprint"] for run in group] for group in runs]
        folds = load_folds(folders, fingerprints)
        if folds is not None:
            seeds = [len({f.seed for f in v.folds}) for v in folds]
            where = f"{folds[0].clips} clips of {folds[0].data}"
            return _print(compare_folds(*folds), folders, seeds, where)
    stored = load_data_arguments(seed_folders(first)[0])
    data = open_data(arguments if arguments.data else stored, partial=True)
    task, count, name = task_named(one.card["task"]), len(one.classes), split or "test"
    chosen = choose_split(align_classes(one, data), task, name, count)
    evaluations = evaluate(runs[0], data, split=name), evaluate(runs[1], data, split=name)
    for folder, evaluation in zip(folders, evaluations, strict=True):
        for note in (n for n in evaluation.notes if n.startswith("LEAK")):
            typer.echo(f"{folder}: {note}")
    compared = compare_evaluations(*evaluations, chosen, count)
    seeds = [len(evaluation.seeds) for evaluation in evaluations]
    where = f"{len(chosen)} clips of {name} of {data.name}"
    return _print(compared, folders, seeds, where)


def _print(
    compared: Sequence[MetricComparison], folders: Sequence[Path], seeds: Sequence[int], where: str
) -> None:
    """A block of lines for each metric."""
    from avel.evaluation.comparison import LEAST_CLIPS

    for comparison in compared:
        if comparison.missing:
            typer.echo(f"{comparison.metric} isn't compared: {comparison.missing}")
            continue
        for score, folder, count in zip(comparison.scores, folders, seeds, strict=True):
            typer.echo(f"{100 * score:7.2f}  {folder} ({count} seed{'s' * (count != 1)})")
        typer.echo(f"{100 * comparison.gain:+7.2f}  {comparison.metric}, {where}")
        over = "; ".join(
            f"over {what} {100 * low:+.2f} to {100 * high:+.2f}"
            for what, (low, high) in comparison.intervals
        )
        typer.echo(f"         95 % interval {over}")
        if comparison.too_few:
            verdict = f"too few clips to tell a difference from chance: it takes {LEAST_CLIPS}"
        elif comparison.real:
            verdict = "the runs differ"
        else:
            verdict = "no difference can be told from chance"
        typer.echo(f"         {verdict}")
