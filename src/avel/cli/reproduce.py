"""`avel reproduce`: train what the papers' tables need, and compare."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avel.cli._options import Device, KeepState, Seeds, exits_when_stopped
from avel.cli._terminal import note
from avel.device import check_device

if TYPE_CHECKING:
    from avel.cli._pairs import DataArguments
    from avel.data.base import Dataset

_TABLES = (
    "TABLE (xue2021:III, tian2018:2, wu2019, all, systems, modalities) and data=DIR, or data=ave "
    "root=DIR; task=sel,cml for some of the tasks; recipe fields for all trainings (epochs=20), "
    "for a task's (cml.epochs=20) or a model's (jca.audio_out=128); mmel.KEY=… for the models that "
    "cml starts from."
)


def reproduce(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="TABLE... KEY=VALUE...", help=_TABLES)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The folder for runs and tables; by default reproduced/DATA."
        ),
    ] = None,
    seeds: Seeds = 1,
    listed: Annotated[
        bool, typer.Option("--list", help="List the tables and how many trainings they need.")
    ] = False,
    keep_state: KeepState = False,
    test_chosen: Annotated[
        bool,
        typer.Option(
            "--test-chosen",
            help="Show in a column of its own what the epoch that is best on the test clips "
            "scores, for comparison with papers that chose theirs so.",
        ),
    ] = False,
    device: Device = "auto",
) -> None:
    """Reproduce tables of the papers: paper | ours.

    Trains what the tables need, skips what is done, and writes paper | ours | difference.
    """
    check_device(device)
    from avel.memory import keep_memory

    keep_memory()
    from avel.cli._outputs import writing
    from avel.cli._pairs import open_data, parse_pairs, save_data_arguments
    from avel.errors import UsageError
    from avel.experiments import reproduce as reproduction
    from avel.experiments.tables import slug

    names = [text for text in words or [] if "=" not in text]
    arguments = parse_pairs([text for text in words or [] if "=" in text])
    if listed or not names:
        _list(names)
        return
    if arguments.setting:
        raise UsageError(
            f"setting={arguments.setting} can't be chosen: tables have their settings",
            hint="leave it out",
        )
    only = [t for t in arguments.task.split(",") if t]
    tables = reproduction.tables(names, only)  # mistakes are named before any work
    reproduction.plan(tables, pairs=arguments.recipe, mmel=arguments.mmel)
    data = open_data(arguments, training=True)
    folder = out or Path("reproduced") / slug(data)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)

    def reading(reads: dict[str, str]) -> DataArguments:
        return replace(arguments, options={**arguments.options, **reads})

    def reopen(reads: dict[str, str]) -> Dataset:
        return open_data(reading(reads), training=True)

    def note_data(path: Path, reads: dict[str, str]) -> None:
        save_data_arguments(reading(reads), path)

    with exits_when_stopped("stopped; the same command resumes it"):
        result = reproduction.reproduce(
            names, data, out=folder, seeds=range(seeds), only=only, pairs=arguments.recipe,
            mmel=arguments.mmel, keep_state=keep_state, test_chosen=test_chosen,
            device=device,
            reopen=reopen if arguments.data == "ave" else None, note=note_data,
            progress=note,
        )  # fmt: skip
    print(result.text())
    print()
    print(", ".join(map(str, result.save(folder))))


def _list(names: list[str]) -> None:
    from avel.experiments import extra_tables
    from avel.experiments import reproduce as reproduction

    tables = reproduction.tables(names or [reproduction.ALL, *extra_tables.TITLES])
    cells = reproduction.plan(tables)
    print(f"{'table':16}{'rows':>5}{'trainings':>11}")
    for name, rows in tables.items():
        count = len(reproduction.trainings(c for c in cells if c.table == name))
        print(f"{name:16}{len(rows):5}{count:11}  {reproduction.TITLES[name]}")
    print(f"{'together':16}{len(cells):5}{len(reproduction.trainings(cells)):11}  "
          "trainings that several rows need run once")  # fmt: skip
