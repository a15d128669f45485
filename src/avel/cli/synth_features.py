"""`avel synth-features`: simulated AVE features, for measurements without the real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from avel.cli._options import progress_bar


def synth_features(
    folder: Annotated[Path, typer.Argument(help="The folder for the files.")],
    labels: Annotated[
        Path | None,
        typer.Option(help="Folder with AVE's Annotations.txt and order files; FOLDER by default."),
    ] = None,
    scale: Annotated[
        float,
        typer.Option(help="Share of the training clips; SEL's validation and test stay whole."),
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="Same seed, same features.")] = 0,
    audio_maps: Annotated[
        bool, typer.Option("--audio-maps", help="VGGish's last pooling maps too (2 GB more).")
    ] = False,
    c3d: Annotated[bool, typer.Option("--c3d", help="C3D's vectors too.")] = False,
) -> None:
    """Write simulated features in AVE's layout.

    They take 9 GB at full scale.

    --audio-maps and --c3d are inputs of tian2018's supplement that the release lacks. Training
    reads them by `data.audio=maps` and `data.visual=vector+c3d`, for the `amaps` and `c3d` inputs
    of `av`.
    """
    from avel.data.ave.simulate import simulate

    extras: dict[Any, bool] = {"audio_maps": audio_maps, "c3d": c3d}
    with progress_bar("simulating") as progress:
        count = simulate(
            folder, labels=labels or folder, scale=scale, seed=seed, progress=progress,
            extras=[name for name, requested in extras.items() if requested],
        )  # fmt: skip
    print(f"{count} clips with SIMULATED features in {folder}")
