"""`avel pack`: a folder's feature files as one store that training reads at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avel.cli._options import progress_bar


def pack(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A data folder, or its features.")],
    dtype: Annotated[str, typer.Option(help="The stored type: float16 or float32.")] = "float16",
) -> None:
    """Pack the features of `avel extract` into one store.

    Those of each altered copy get one of their own. The store is memory-mapped: `avel train
    data=DIR` then starts at once. A store is ignored after a feature file has changed or has been
    added: pack again.
    """
    from avel.data.ave.store import store_folder
    from avel.data.packed import pack as pack_features
    from avel.errors import DataError, UsageError
    from avel.features.store import FOLDER, copy_folders
    from avel.files import human_size

    if dtype not in ("float16", "float32"):
        raise UsageError(f"--dtype can't be {dtype!r}", expected="float16 or float32")
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}", hint="give a folder of `avel extract`")
    source = folder / FOLDER if (folder / FOLDER).is_dir() else folder
    for place in (source, *copy_folders(source)):
        with progress_bar("packing") as progress:
            packed = pack_features(place, dtype=dtype, progress=progress)  # type: ignore[arg-type]
        size = human_size(packed.nbytes)
        typer.echo(f"{len(packed.entries)} files, {len(packed.audio)} segments, {size} in "
                   f"{store_folder(place)}")  # fmt: skip
