"""`avel synth`: a folder of drawn clips whose events are seen and heard, with their truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avel.errors import UsageError


def parse_size(text: str) -> tuple[int, int]:
    """``"320x240"`` as (width, height).

    Raises:
        UsageError: if the text is no size.
    """
    wide, _, high = text.lower().partition("x")
    if not (wide.isascii() and wide.isdigit() and high.isascii() and high.isdigit()):
        raise UsageError(f"size {text[:40]!r}", wanted="width x height, like 320x240")
    return int(wide[:6]), int(high[:6])


def synth(
    folder: Annotated[Path, typer.Argument(help="Where the clips go; what is there is kept.")],
    clips: Annotated[int, typer.Option(help="How many.")] = 100,
    seed: Annotated[int, typer.Option(help="Same seed, same clips.")] = 0,
    size: Annotated[str, typer.Option(help="Width x height, at most 640x360.")] = "320x240",
    seconds: Annotated[float, typer.Option(help="Length of a clip.")] = 10.0,
    fps: Annotated[int, typer.Option(help="Frames a second.")] = 12,
    jobs: Annotated[int, typer.Option(help="Processes; 0 for one a core.")] = 0,
) -> None:
    """Render Toybox: drawn, moving things with sounds, as video files with annotations."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from avel.data.toybox import Plan, synthesize

    width, height = parse_size(size)
    plan = Plan(seed=seed, seconds=seconds, fps=fps, width=width, height=height)
    console = Console(stderr=True)
    columns = TextColumn("rendering"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    command = (
        f"avel synth {folder.name} --clips {clips} --seed {seed} --size {width}x{height} "
        f"--seconds {seconds:g} --fps {fps}"
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=clips)
        annotations = synthesize(
            folder,
            clips=clips,
            plan=plan,
            jobs=jobs,
            command=command,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    print(f"{clips} clips, {annotations}")
