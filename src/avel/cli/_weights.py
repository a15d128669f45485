"""`avel convert` of weights: those of the AVE release's code as a checkpoint of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from avel.errors import UsageError

#: The endings of weights; see :mod:`avel.training.released`.
WEIGHTS = (".pt", ".pth", ".safetensors", ".npz", ".h5", ".hdf5")
#: A list of class names longer than this isn't one.
_LARGEST_LIST = 2**20


def convert_weights_file(
    source: Path, out: Path, *, model: str | None, task: str | None, classes: Path | None
) -> None:
    """Write the checkpoint folder ``out``, which mustn't hold one already."""
    from avel.inference.card import WEIGHTS as HELD
    from avel.training.released import AVE_CLASSES, convert_weights

    if (out / HELD).exists():
        raise UsageError(f"{out} holds a model already", hint="name another folder, or remove it")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file", expected="a folder", hint="name another one")
    names = AVE_CLASSES if classes is None else _read_names(classes)
    asked: Any = task  # checked there
    trained = convert_weights(source, model=model, task=asked, classes=names)
    trained.save(out)
    card = trained.card
    print(f"{out}: {card['model']} for {card['task']}, {len(trained.classes)} classes")


def _read_names(path: Path) -> tuple[str, ...]:
    try:
        if path.stat().st_size > _LARGEST_LIST:
            raise UsageError(
                f"{path} has over {_LARGEST_LIST} bytes", expected="a class name a line"
            )
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError(f"{path}: {e}", expected="a text file, a class name a line") from e
    names = tuple(line.strip() for line in lines if line.strip())
    if not names or len(set(names)) < len(names):
        raise UsageError(f"{path}: no names, or one twice", expected="a class name a line")
    return names
