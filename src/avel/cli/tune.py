"""`avel tune`: a decision chosen on validation, stored in the model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avel.cli._options import Device, OtherData
from avel.device import check_device

if TYPE_CHECKING:
    from avel.inference.decision import Decision, Thresholds
    from avel.types import Json


def tune(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run's folder, or that of its seeds.")
    ],
    pairs: OtherData = None,
    calibrate: Annotated[
        bool, typer.Option(help="Fit the temperature of the probabilities too.")
    ] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the decision, store nothing.")
    ] = False,
    device: Device = "auto",
) -> None:
    """Choose a run's decision on validation.

    Thresholds, gaps and the least duration are stored in the run.
    """
    check_device(device)
    from avel.cli._pairs import data_arguments, load_data_arguments, open_data, seed_folders
    from avel.evaluation.tuning import tune as choose
    from avel.inference.load import load_trained
    from avel.inference.localizer import tuned as stored
    from avel.memory import keep_memory

    keep_memory()
    arguments = data_arguments(pairs, "tune")
    folders = seed_folders(run)
    data = open_data(arguments if arguments.data else load_data_arguments(folders[0]))
    for folder in folders:
        tuned_run, measured = choose(
            load_trained(folder), data, calibrate=calibrate, device=device
        )  # fmt: skip
        print(f"{folder}, tuned on val of {data.title}")
        print(_table(measured))
        print(_words(stored(tuned_run.card)))
        if folds := tuned_run.card["tuning"]["folds"]:
            print(_folds(folds))
        if not dry_run:
            tuned_run.save(folder, dtype=str(tuned_run.card.get("dtype", "float32")))


def _table(measured: dict[str, Json]) -> str:
    lines = [f"{'':24}{'untuned':>10}{'tuned':>10}"]
    for split, scores in measured.items():
        for metric in scores["paper"]:
            cells = (f"{100 * scores[kind][metric]:10.2f}" for kind in ("paper", "tuned"))
            lines.append(f"{split + ' ' + metric:24}{''.join(cells)}")
    return "\n".join(lines)


def _folds(folds: Json) -> str:
    """What the decision scores on validation clips that it wasn't chosen on."""
    worse = folds["tuned"] < folds["paper"]
    return (
        f"chosen and measured on different clips ({folds['count']} folds of val): event F1 "
        f"{100 * folds['paper']:.2f} untuned, {100 * folds['tuned']:.2f} tuned"
        + ("; the paper's decision stays" if worse else "")
    )


def _words(decision: Decision) -> str:
    lines = [f"temperature {decision.temperature:g}", f"all classes: {_rule(decision.rule)}"]
    lines += [f"{name}: {_rule(rule)}" for name, rule in decision.classes.items()]
    return "\n".join(lines)


def _rule(rule: Thresholds) -> str:
    base = "the paper's decision" if rule.threshold is None else f"threshold {rule.threshold:g}"
    on = "" if rule.low_threshold is None else f", continued down to {rule.low_threshold:g}"
    gaps = f", gaps up to {rule.max_gap:g} s bridged" if rule.max_gap else ""
    least = f", at least {rule.min_duration:g} s" if rule.min_duration else ""
    return f"{base}{on}{gaps}{least}"
