"""`avel reproduce`: the papers' tables, trained and put beside what they print."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avel.cli._terminal import fail, note

if TYPE_CHECKING:
    from avel.cli._pairs import Given
    from avel.data.base import Dataset

_TABLES = (
    "TABLE (xue2021:III, tian2018:2, wu2019, all, systems, modalities) and data=DIR, or data=ave "
    "root=DIR; task=sel,cml for some of the tasks; recipe fields for all trainings (epochs=20), "
    "for a task's (cml.epochs=20) or a model's (jca.audio_out=128); mmel.KEY=… for the models that "
    "cml starts from."
)


def reproduce(
    given: Annotated[
        list[str] | None, typer.Argument(metavar="TABLE... KEY=VALUE...", help=_TABLES)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of trainings and tables; reproduced/DATA."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Train this many seeds.")] = 1,
    listed: Annotated[
        bool, typer.Option("--list", help="List the tables and how many trainings they need.")
    ] = False,
    keep_state: Annotated[
        bool, typer.Option("--keep-state", help="Keep what finished trainings could go on from.")
    ] = False,
) -> None:  # fmt: skip
    """Train what tables need, skip what is done, write paper | ours | difference."""
    from avel.memory import keep_memory

    keep_memory()
    from avel.cli._outputs import unwritable
    from avel.cli._pairs import open_data, remember, sort_pairs
    from avel.errors import UsageError
    from avel.experiments import reproduce as reproduction
    from avel.experiments.tables import slug
    from avel.training.loop import Stopped

    names = [text for text in given or [] if "=" not in text]
    named = sort_pairs([text for text in given or [] if "=" in text])
    if listed or not names:
        _list(names)
        return
    if named.setting:
        raise UsageError(f"setting={named.setting} means nothing here: tables have their own",
                         hint="leave it out")  # fmt: skip
    only = [t for t in named.task.split(",") if t]
    tables = reproduction.tables(names, only)  # mistakes are named before any work
    reproduction.plan(tables, pairs=named.recipe, mmel=named.mmel)
    data = open_data(named)
    folder = out or Path("reproduced") / slug(data)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise unwritable(folder, e.strerror or str(e)) from e

    def reading(reads: dict[str, str]) -> Given:
        return replace(named, options={**named.options, **reads})

    def reopen(reads: dict[str, str]) -> Dataset:
        return open_data(reading(reads))

    def remember_pairs(place: Path, reads: dict[str, str]) -> None:
        remember(reading(reads), place)

    try:
        result = reproduction.reproduce(
            names, data, out=folder, seeds=range(seeds), only=only, pairs=named.recipe,
            mmel=named.mmel, keep_state=keep_state,
            reopen=reopen if named.data == "ave" else None, note=remember_pairs,
            progress=note,
        )  # fmt: skip
    except Stopped as e:
        fail("stopped; the same command resumes it")
        raise typer.Exit(130) from e
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
          "trainings that several rows need are done once")  # fmt: skip
