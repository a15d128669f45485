"""A model by name or folder: trained, packaged, or the training-free one."""

from __future__ import annotations

from pathlib import Path

from avel.errors import NoSuchModelError
from avel.inference.checkpoint import WEIGHTS, Trained, read_checkpoint
from avel.inference.named_events import load_named_events

PRETRAINED = Path(__file__).parent.parent / "pretrained"
#: The names of the training-free model, which has no checkpoint: a fresh install's default.
NAMED = ("default", "named_events")


def load_model(path_or_name: str | Path = "default") -> Trained:
    """A trained model from its folder, or one that ships in the package by name.

    Args:
        path_or_name: A folder written by :meth:`Trained.save` or `avel train`; a packaged name
            such as ``"toybox"``; or ``"default"`` (also ``"named_events"``), which names real
            events without training. A folder of that name goes first.

    Raises:
        CheckpointError: if nothing is there, or it is damaged, hostile or of a newer avel.
    """
    if str(path_or_name) in NAMED and not (Path(path_or_name) / WEIGHTS).is_file():
        return load_named_events()
    return read_checkpoint(_find(path_or_name))


def list_models() -> list[str]:
    """The names that :func:`load_model` takes beside folders: the default first, then the toys."""
    return [*NAMED, *sorted(p.parent.name for p in PRETRAINED.glob(f"*/{WEIGHTS}"))]


def _find(path_or_name: str | Path) -> Path:
    folder = Path(path_or_name)
    if not (folder / WEIGHTS).is_file() and len(folder.parts) == 1:
        folder = PRETRAINED / folder
    if (folder / WEIGHTS).is_file():
        return folder
    raise NoSuchModelError(
        f"no trained model at {str(path_or_name)!r}",
        expected=f"a folder that holds {WEIGHTS}, or a packaged name ({', '.join(list_models())})",
        hint="an exported model serves `avel localize` and avel.localize alone"
        if folder.suffix.lower() == ".onnx"
        else "train one with `avel train`, or correct the path",
    )
