"""`avel demo`: a clip that nobody has seen, its events, and the report of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

#: Seeds from here on are the demo's: no clip of another data set or training has them.
FIRST_SEED = 1_000_000_000
SECONDS = 30.0


def demo(
    folder: Annotated[Path, typer.Argument(help="Where the clip and its report go.")] = Path(
        "demo"
    ),
    seed: Annotated[
        int | None, typer.Option(help="Draw this clip again; a new one by default.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Length of the clip.")] = SECONDS,
) -> None:
    """Render a clip that nobody has seen, find its events, and write a report."""
    import secrets

    from avel.data.toybox import Plan
    from avel.data.toybox.dataset import render_clip
    from avel.localization import localize

    if seed is None:
        seed = FIRST_SEED + secrets.randbelow(FIRST_SEED)
    plan = Plan(seed=seed, seconds=seconds)
    print(f"rendering {seconds:g} seconds of Toybox, seed {seed} …")
    name = render_clip(plan, 0, folder)
    video = folder / "videos" / f"{name}.mp4"
    print(f"finding the events of {video} …")
    found = localize(video)
    report, data = folder / f"{name}.html", folder / f"{name}.json"
    found.save(data)
    found.save(report)
    truth = "\n".join(map(str, plan.scene(0).events)) or "no events"
    print(f"\nin the clip, seen and heard:\n{truth}")
    print(f"\nfound:\n{found}")
    print(f"\nthe report: open {report} in a browser")
    again = f"avel demo --seed {seed}" + (f" --seconds {seconds:g}" if seconds != SECONDS else "")
    print(f"the same as data: {data}\nthe same clip again: {again}")
