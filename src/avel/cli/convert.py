"""`avel convert`: files of others as ours, told apart by their endings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from avel.errors import UsageError

#: The endings of weights; see :mod:`avel.released`.
WEIGHTS = (".pt", ".pth", ".safetensors", ".npz", ".h5", ".hdf5")
#: A list of class names longer than this isn't one.
_LARGEST_LIST = 2**20


def convert(
    source: Annotated[
        Path, typer.Argument(metavar="WEIGHTS", help="The AVE release's weights, as a state dict.")
    ],
    out: Annotated[Path, typer.Option("--output", "-o", help="The folder of the new checkpoint.")],
    model: Annotated[
        str | None, typer.Option(help="av or avdln; else told by the weights' names.")
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="sel, wsel or cml; wsel must be said, the names don't tell.")
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(help="A class name a line, in the order of the ids; else AVE's.")
    ] = None,
) -> None:
    """Make a checkpoint of the released code's weights: A+V-att, DMRN (PyTorch), AVDLN (Keras)."""
    if source.suffix.lower() not in WEIGHTS:
        raise UsageError(
            f"{source}: {source.suffix or 'no ending'}", wanted=f"weights: {', '.join(WEIGHTS)}"
        )
    from avel.checkpoint import WEIGHTS as HELD
    from avel.released import AVE_CLASSES, convert_weights

    if (out / HELD).exists():
        raise UsageError(f"{out} holds a model already", do="name another folder, or remove it")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file", wanted="a folder", do="name another one")
    names = AVE_CLASSES if classes is None else _read_names(classes)
    asked: Any = task  # checked there
    trained = convert_weights(source, model=model, task=asked, classes=names)
    trained.save(out)
    card = trained.card
    print(f"{out}: {card['model']} for {card['task']}, {len(trained.classes)} classes")


def _read_names(path: Path) -> tuple[str, ...]:
    try:
        if path.stat().st_size > _LARGEST_LIST:
            raise UsageError(f"{path} has over {_LARGEST_LIST} bytes", wanted="a class name a line")
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError(f"{path}: {e}", wanted="a text file, a class name a line") from e
    names = tuple(line.strip() for line in lines if line.strip())
    if not names or len(set(names)) < len(names):
        raise UsageError(f"{path}: no names, or one twice", wanted="a class name a line")
    return names
