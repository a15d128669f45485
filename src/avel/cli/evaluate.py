"""`avel evaluate`: runs beside the paper's numbers and constant baselines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avel.cli._options import Device, Split
from avel.device import check_device
from avel.errors import UsageError

if TYPE_CHECKING:
    from avel.cli._pairs import DataArguments
    from avel.data.base import Dataset
    from avel.inference.checkpoint import Trained


def evaluate(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN... KEY=VALUE...",
            help="Folders of runs (or of several seeds). For other data than they were trained "
            "on: data=DIR, or data=ave root=DIR.",
        ),
    ] = None,
    split: Split = "test",
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Evaluate constant baselines alone.")
    ] = False,
    per_class: Annotated[
        bool,
        typer.Option("--per-class", help="Print every class too (CSV and JSON always have them)."),
    ] = False,
    reliability: Annotated[
        Path | None,
        typer.Option(help="Draw the first run's accuracy over its confidence: .png, .svg, .pdf."),
    ] = None,
    out: Annotated[
        list[Path] | None,
        typer.Option("--output", "-o", metavar="OUT...", help="NAME.csv, NAME.json, or both."),
    ] = None,
    device: Device = "auto",
) -> None:
    """Evaluate runs beside their paper and the baselines.

    Prints mean and standard deviation over seeds | the paper's number | baselines.

    For a cross-validated run (`--folds` of `avel train`): the scores of its folds, each on clips
    that its model wasn't trained on.
    """
    check_device(device)
    from avel.cli._pairs import runs_and_data
    from avel.memory import keep_memory

    keep_memory()
    runs, data_arguments = runs_and_data(arguments or [], "evaluate")
    if reliability is not None:
        from avel.figures.style import check_ending

        check_ending(reliability)
    for path in out or []:
        if path.suffix.lower() not in (".csv", ".json"):
            raise UsageError(
                f"no writer for {path}", expected=".csv or .json", hint="change the ending"
            )
    if baselines:
        _baselines(data_arguments, split, out or [])
    else:
        _runs(
            runs, data_arguments, split, out or [], per_class=per_class,
            reliability=reliability, device=device,
        )  # fmt: skip


def _runs(
    folders: list[Path],
    data_arguments: DataArguments,
    split: str,
    out: list[Path],
    *,
    per_class: bool,
    reliability: Path | None,
    device: str,
) -> None:
    from avel.cli._pairs import load_data_arguments, open_data, seed_folders
    from avel.evaluation.cross_validation import Folds, pool
    from avel.evaluation.evaluate import evaluate, kind, save
    from avel.inference.load import load_trained

    if not folders:
        raise UsageError("no run is named", hint="give the folders that `avel train` wrote")
    runs = [(folder, [load_trained(one) for one in seed_folders(folder)]) for folder in folders]
    stored_data = not data_arguments.data
    whole = False
    if stored_data:
        data_arguments = load_data_arguments(seed_folders(folders[0])[0])
    elif split == "test":
        whole = not _is_of_training(data_arguments, seed_folders(folders[0])[0])
    data = open_data(data_arguments, partial=True, whole=whole)
    folds: list[Folds] = []
    groups: dict[object, list[Trained]] = {}
    for folder, seeds in runs:
        cross_validation = Folds.load(folder) if stored_data else None
        if cross_validation is not None:
            folds.append(cross_validation)
            if split in pool(data):  # the run was trained on these clips in the end
                continue
        for trained in seeds:
            groups.setdefault(kind(trained), []).append(trained)
    evaluations = [evaluate(group, data, split=split, device=device) for group in groups.values()]
    texts = [str(f) for f in folds]
    texts += [f"{e}\n\n{e.class_table()}" if per_class else str(e) for e in evaluations]
    print("\n\n".join(texts))
    for path in out:
        save([*folds, *evaluations], path)
    if reliability is not None:
        if not groups:
            raise UsageError(
                f"the run was trained on all clips of {split}, so it has no reliability there",
                expected="clips that the run wasn't trained on",
                hint="give other clips with data=DIR",
            )
        _draw(next(iter(groups.values()))[0], data, split, reliability, device=device)


def _is_of_training(data_arguments: DataArguments, run: Path) -> bool:
    """Whether the data are those of a run's training, whose drawn splits must be drawn again.

    Other clips than those are evaluated whole where they name no split.
    """
    from avel.cli._pairs import load_data_arguments, same_folder

    try:
        return same_folder(data_arguments, load_data_arguments(run))
    except UsageError:  # the run's record of its data is damaged
        return False


def _draw(run: Trained, data: Dataset, split: str, path: Path, *, device: str) -> None:
    """The reliability figure of one run."""
    from avel.evaluation.calibration import reliability
    from avel.evaluation.inputs import align_classes, choose_split
    from avel.evaluation.tuning import split_scores
    from avel.figures.reliability import reliability_diagram
    from avel.figures.style import new_figure, save_figure
    from avel.inference.localizer import tuned

    aligned, count = align_classes(run, data), len(run.classes)
    chosen = choose_split(aligned, run.card["task"], split, count)
    scores = split_scores(run, chosen, device=device)
    soft = scores.softened(tuned(run.card).temperature)
    after = None if soft is scores else reliability(soft.values, soft.truth)
    figure = new_figure(4.2, 4.0)
    reliability_diagram(
        reliability(scores.values, scores.truth),
        after,
        title=f"{run.card['model']} on {data.title}, {split}",
        ax=figure.add_subplot(),
    )
    save_figure(figure, path)
    print(f"wrote {path}")


def _baselines(data_arguments: DataArguments, split: str, out: list[Path]) -> None:
    import json

    from avel import tasks
    from avel.cli._pairs import open_data
    from avel.data.base import fingerprint
    from avel.evaluation.evaluate import table
    from avel.evaluation.inputs import choose_split
    from avel.files import write_whole

    options = {"labels_only": True} if data_arguments.data == "ave" else {}
    data = open_data(data_arguments, partial=True, **options)
    rows = []
    for task in [data_arguments.task] if data_arguments.task else tasks.TASKS:
        chosen = choose_split(data, task, split, len(data.classes))
        name = chosen.name
        for baseline, value in tasks.task_named(task).baselines(chosen, len(data.classes)).items():
            rows.append({
                "task": task, "baseline": baseline, "split": name, "clips": len(chosen),
                "score": round(value, 6), "data": data.name, "simulated": data.simulated,
                "fingerprint": fingerprint(data),
            })  # fmt: skip
            print(f"{task:6}{baseline:20}{100 * value:7.2f}   {name}, {len(chosen)} clips")
    print(f"{data.title}, data {fingerprint(data)[:12]}")
    for path in out:
        as_json = path.suffix.lower() == ".json"
        write_whole(path, json.dumps(rows, indent=1) + "\n" if as_json else table(rows))
