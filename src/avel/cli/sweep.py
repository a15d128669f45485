"""`avel sweep`: ablations and lambda sweeps as one command, to a table and a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avel.cli._options import Device, KeepState, Seeds, exits_when_stopped
from avel.cli._terminal import note
from avel.device import check_device
from avel.errors import counted


def sweep(
    name: Annotated[
        str, typer.Argument(help="table5, lambda_s, lambda_w, lambda_c or dam_lambda.")
    ],
    pairs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE...",
            help="data=DIR, or data=ave root=DIR; task=sel,cml for some of the tasks; recipe "
            "fields for all trainings (epochs=20), mmel.KEY=… for the models that cml starts from.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The folder for runs and table; by default sweeps/NAME."
        ),
    ] = None,
    seeds: Seeds = 1,
    keep_state: KeepState = False,
    device: Device = "auto",
) -> None:
    """Run the rows of a paper's table V or figure 5.

    These are xue2021's table V, and figure 5 of xue2021 or wu2019. The same command resumes a
    sweep.
    """
    check_device(device)
    from avel.memory import keep_memory

    keep_memory()
    from avel.cli._pairs import open_data, parse_pairs, save_data_arguments
    from avel.experiments import reproduce as reproduction
    from avel.experiments import sweep as sweeps
    from avel.figures.sweeps import plot
    from avel.papers import FIGURE_5

    arguments = parse_pairs(pairs or [])
    only = [t for t in arguments.task.split(",") if t]
    cells = sweeps.plan_sweep(  # mistakes are named before any work
        name, only, pairs=arguments.recipe, mmel=arguments.mmel
    )
    folder = out or Path("sweeps") / name
    data = open_data(arguments, training=True)
    count = len(reproduction.trainings(cells))
    print(f"{count} trainings of {counted(seeds, 'seed')} on {data.title}")

    def note_data(path: Path, **_: object) -> None:
        save_data_arguments(arguments, path)

    with exits_when_stopped("stopped; the same command resumes it"):
        rows = sweeps.sweep(
            name, data, out=folder, seeds=range(seeds), only=only, pairs=arguments.recipe,
            mmel=arguments.mmel, keep_state=keep_state, device=device, note=note_data,
            progress=note,
        )  # fmt: skip
    print(f"{'':28}{'task':6}{'metric':18}{'ours':>7}{'sd':>7}{'n':>3}{'paper':>7}")
    for row in rows:
        print(f"{row['row']:28}{row['task']:6}{row['metric']:18}{row['ours']:7.2f}"
              f"{_number(row['sd'])}{row['n']:3}{_number(row['paper'])}")  # fmt: skip
    plot(name, rows, folder / f"{name}.png")
    suffix = ", simulated features" if data.simulated else ""
    if name in FIGURE_5 and "heads=shared" not in arguments.recipe:
        print(sweeps.LAMBDA_NOTE)
    print(f"{folder / name}.csv, {folder / name}.png{suffix}")


def _number(value: float | str) -> str:
    return f"{'-' if value == '' else f'{value:.2f}':>7}"
