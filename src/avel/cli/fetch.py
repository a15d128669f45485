"""`avel fetch`: the AVE data set, or a backbone's weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avel.cli._options import progress_bar


def fetch(
    what: Annotated[str, typer.Argument(help="`ave`, or `weights`.")],
    target: Annotated[
        str | None,
        typer.Argument(help="For ave the folder (data/AVE); for weights the backbone's name."),
    ] = None,
    labels: Annotated[bool, typer.Option("--labels", help="ave: only the small files.")] = False,
    videos: Annotated[bool, typer.Option("--videos", help="ave: the videos too.")] = False,
    file: Annotated[
        Path | None,
        typer.Option("--from", help="weights: a file to install, in place of a download."),
    ] = None,
) -> None:
    """Download AVE's release, or weights of backbones.

    The files of AVE go into a folder, weights into the cache.
    """
    from avel.errors import unknown_name

    if what == "ave":
        _fetch_ave(Path(target or "data/AVE"), labels=labels, videos=videos)
    elif what == "weights":
        _fetch_weights(target, file)
    else:
        raise unknown_name("thing to fetch", what, ["ave", "weights"])


def _fetch_ave(folder: Path, *, labels: bool, videos: bool) -> None:
    from avel.data.ave.fetch import fetch_ave
    from avel.files import human_size

    def say(line: str) -> None:
        typer.echo(line, err=True)

    with progress_bar("downloading") as progress:
        paths = fetch_ave(folder, labels_only=labels, videos=videos, progress=progress, say=say)
    for path in paths:
        typer.echo(f"{path} ({human_size(path.stat().st_size)})")
    typer.echo(f"AVE is in {folder}; `avel check {folder}` lists its contents")


def _fetch_weights(name: str | None, file: Path | None) -> None:
    from avel.backbones.base import backbones
    from avel.backbones.weights import take_weights, weights_file
    from avel.errors import UsageError, unknown_name

    known = {
        f"{backbone}:{weights.name}": weights
        for backbone, cls in backbones
        for weights in cls.weights.values()
        if weights.fetched
    }
    if not name:
        raise UsageError(
            "`avel fetch weights` names no weights",
            expected=f"one of {', '.join(known)}",
            hint="avel fetch weights NAME",
        )
    full = name if ":" in name else next((k for k in known if k.startswith(f"{name}:")), name)
    if full not in known:
        raise unknown_name("weight", name, known)
    if file is not None:
        path = take_weights(known[full], file)
    else:
        with progress_bar(full) as progress:
            path = weights_file(known[full], progress=progress)
    typer.echo(f"{full} is in {path}")
