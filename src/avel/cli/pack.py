"""`avel pack`: a folder's feature files as one store that training reads at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def pack(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A data folder, or its features.")],
    dtype: Annotated[str, typer.Option(help="float16 or float32, as stored.")] = "float16",
) -> None:
    """Put the features that `avel extract DIR` wrote into one memory-mapped store.

    `avel train data=DIR` then starts at once. The store is left aside where a feature file has
    changed since, or one is missing from it: pack again.
    """
    from avel.data.ave.store import store_folder
    from avel.data.packed import pack as pack_features
    from avel.download import terminal_progress
    from avel.errors import DataError, UsageError
    from avel.features.store import FOLDER
    from avel.files import human_size

    if dtype not in ("float16", "float32"):
        raise UsageError(f"--dtype {dtype}", expected="float16 or float32")
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder", hint="give the one that was extracted")
    place = folder / FOLDER if (folder / FOLDER).is_dir() else folder
    with terminal_progress("packing") as progress:
        made = pack_features(place, dtype=dtype, progress=progress)  # type: ignore[arg-type]
    size = human_size(made.nbytes)
    typer.echo(f"{len(made.entries)} files, {len(made.audio)} segments, {size} in "
               f"{store_folder(place)}")  # fmt: skip
