"""`avel compare`: whether two runs differ on the same clips."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avel.cli._options import OtherData, Split
from avel.errors import UsageError


def compare(
    first: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run's folder, or that of its seeds.")
    ],
    second: Annotated[Path, typer.Argument(metavar="RUN", help="Another run of the same classes.")],
    pairs: OtherData = None,
    split: Split = "test",
) -> None:
    """Compare two runs on the same clips by a paired bootstrap.

    Prints both scores, the second's gain, and its 95 % intervals over clips, and over clips and
    seeds. Without data, both are evaluated on those of the first run.
    """
    import numpy as np

    from avel import metrics
    from avel.cli._pairs import data_arguments, load_data_arguments, open_data, seed_folders
    from avel.evaluation.evaluate import evaluate
    from avel.evaluation.inputs import align_classes, choose_split
    from avel.inference.load import load_trained
    from avel.memory import keep_memory
    from avel.tasks import task_named

    keep_memory()
    arguments = data_arguments(pairs, "compare")
    runs = [[load_trained(f) for f in seed_folders(folder)] for folder in (first, second)]
    one, other = (group[0] for group in runs)
    if one.classes != other.classes or one.card["task"] != other.card["task"]:
        raise UsageError(
            "runs of different classes or tasks can't be compared",
            expected="two runs of one task, trained on the same classes",
            hint="train both on the same data",
        )
    stored = load_data_arguments(seed_folders(first)[0])
    data = open_data(arguments if arguments.data else stored, partial=True)
    task, count = task_named(one.card["task"]), len(one.classes)
    chosen = choose_split(align_classes(one, data), task, split, count)
    evaluations = [evaluate(group, data, split=split) for group in runs]
    correct, of = [], None
    for evaluation in evaluations:
        by_seed = [task.correct_by_clip(p, chosen, count) for p in evaluation.predictions]
        correct.append([right for right, _ in by_seed])
        of = by_seed[0][1]
    assert of is not None
    difference = metrics.paired_bootstrap(np.stack(correct[0]), np.stack(correct[1]), of)
    metric = task.selection_metric
    for folder, evaluation in zip((first, second), evaluations, strict=True):
        typer.echo(
            f"{100 * evaluation[metric].mean:7.2f}  {folder} ({len(evaluation.seeds)} seeds)"
        )
        for note in (n for n in evaluation.notes if n.startswith("LEAK")):
            typer.echo(f"         {note}")
    clips, both = (
        f"{100 * a:+.2f} to {100 * b:+.2f}" for a, b in (difference.clips, difference.both)
    )
    typer.echo(
        f"{100 * difference.gain:+7.2f}  {metric}, {len(of)} clips of {split} of {data.name}"
    )
    typer.echo(f"         95 % interval over clips {clips}; over clips and seeds {both}")
    verdict = "the runs differ" if difference.real else "no difference can be told from chance"
    typer.echo(f"         {verdict}")
