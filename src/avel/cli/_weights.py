"""`avel convert` of weights: those of the AVE release's code as a checkpoint of avel."""

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
    """Write the AVE release's weights as a checkpoint.

    Args:
        source: A file of weights.
        out: The checkpoint's folder, new or empty.
        model, task: As for `avel.training.released.convert_weights`.
        classes: A file with a class name a line; AVE's if None.

    Raises:
        UsageError: if the folder can't be used, or an argument is wrong.
        AvelError: if the weights can't be read.
    """
    from avel.inference.card import WEIGHTS as FILE
    from avel.training.released import AVE_CLASSES, convert_weights

    if (out / FILE).exists():
        raise UsageError(
            f"{out} contains a model already", hint="name another folder, or remove it"
        )
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file", expected="a folder", hint="name another one")
    names = AVE_CLASSES if classes is None else _read_names(classes)
    task_name: Any = task  # convert_weights checks it
    trained = convert_weights(source, model=model, task=task_name, classes=names)
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
        raise UsageError(f"{path} has no names, or one twice", expected="a class name a line")
    return names
