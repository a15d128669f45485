"""`avel synth-features`: simulated AVE, for measuring where the features can't be had."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def synth_features(
    folder: Annotated[Path, typer.Argument(help="Where the files go.")],
    labels: Annotated[
        Path | None,
        typer.Option(help="Folder with AVE's Annotations.txt and order files; FOLDER by default."),
    ] = None,
    scale: Annotated[float, typer.Option(help="Share of the 4143 clips.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Same seed, same features.")] = 0,
) -> None:
    """Write simulated features in the layout of AVE's release, 9 GB at full scale."""
    from avel.data.ave_simulate import simulate
    from avel.data.ave_store import terminal_progress

    with terminal_progress("simulating") as progress:
        count = simulate(folder, labels=labels or folder, scale=scale, seed=seed, progress=progress)
    print(f"{count} clips with SIMULATED features in {folder}")
