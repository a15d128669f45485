"""`avel demo`: a clip, its events, and the report of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avel.device import sleep_while_waiting
from avel.errors import UsageError

if TYPE_CHECKING:
    from avel.types import Timeline

#: The clip; ATTRIBUTION.md beside it names its authors.
CLIP = Path(__file__).parents[1] / "data" / "clips" / "big_buck_bunny.mp4"
CREDIT = "Big Buck Bunny, (c) 2008 Blender Foundation, www.bigbuckbunny.org, CC BY 3.0"
#: The demo's first seed: no clip of another data set or training has this one or a later one.
FIRST_SEED = 1_000_000_000
SECONDS = 30.0


def demo(
    folder: Annotated[Path, typer.Argument(help="The folder for the clip and its report.")] = Path(
        "demo"
    ),
    toy: Annotated[
        bool,
        typer.Option(
            "--toy",
            help="Render a clip whose events are known to the frame, and find them with the model "
            "`toybox`.",
        ),
    ] = False,
    seed: Annotated[
        int | None,
        typer.Option(help="With --toy: the seed of the clip; a new one by default."),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(help=f"With --toy: the clip's length in seconds; {SECONDS:g} by default."),
    ] = None,
) -> None:
    """Find the events of ten seconds of a film.

    Writes a report of them.
    """
    sleep_while_waiting()
    if toy:
        _toy(folder, seed, SECONDS if seconds is None else seconds)
        return
    if seed is not None or seconds is not None:
        raise UsageError(
            "--seed and --seconds are for a rendered clip", hint="add --toy, or leave them out"
        )
    from avel.files import write_whole
    from avel.inference.localizer import localize

    video = folder / CLIP.name
    write_whole(video, CLIP.read_bytes())
    print(f"localizing the events of {video} …")
    timeline = localize(video, cache=True)
    print(f"\nevents, those only heard or only seen below:\n{timeline.choose('all')}")
    _save(timeline, folder)
    print(f"the clip: {CREDIT}")


def _toy(folder: Path, seed: int | None, seconds: float) -> None:
    """Render a new clip, and print the detected events below the true ones."""
    import secrets

    from avel.data.toybox.dataset import ToyboxPlan, render_clip
    from avel.inference.localizer import localize

    if seed is None:
        seed = FIRST_SEED + secrets.randbelow(FIRST_SEED)
    plan = ToyboxPlan(seed=seed, seconds=seconds)
    print(f"rendering {seconds:g} seconds of Toybox, seed {seed} …")
    name = render_clip(plan, 0, folder)
    video = folder / "videos" / f"{name}.mp4"
    print(f"localizing the events of {video} …")
    timeline = localize(video, model="toybox")
    truth = "\n".join(map(str, plan.scene(0).events)) or "no events"
    print(f"\nin the clip, seen and heard:\n{truth}")
    print(f"\ndetected:\n{timeline}")
    _save(timeline, folder)
    command = f"avel demo --toy --seed {seed}"
    command += f" --seconds {seconds:g}" if seconds != SECONDS else ""
    print(f"the same clip again: {command}")


def _save(timeline: Timeline, folder: Path) -> None:
    report, data = (folder / f"{Path(timeline.video).stem}.{ending}" for ending in ("html", "json"))
    timeline.save(data)
    timeline.save(report)
    print(f"\nthe report: open {report} in a browser\nthe same as data: {data}")
