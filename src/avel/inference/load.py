"""A model by name or path: trained, packaged, exported, or the training-free one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from avel.errors import NoSuchModelError
from avel.inference.card import WEIGHTS
from avel.inference.named_events import load_named_events
from avel.inference.predictor import Predictor

if TYPE_CHECKING:
    from avel.inference.checkpoint import Trained

PRETRAINED = Path(__file__).parent.parent / "pretrained"
#: The names of the training-free model, which has no checkpoint: a fresh install's default.
NAMED = ("default", "named_events")


def load_model(path_or_name: str | Path = "default") -> Predictor:
    """A model from its folder, from an exported file, or by the name of one that ships.

    Args:
        path_or_name: A folder written by :meth:`Trained.save` or `avel train`; an ``.onnx`` file
            written by `avel export`, which needs no torch; a packaged name such as ``"toybox"``; or
            ``"default"`` (also ``"named_events"``), which names real events without training. A
            folder of that name goes first.

    Returns:
        A :class:`avel.inference.checkpoint.Trained`, or for an ``.onnx`` file a
        :class:`avel.onnx.runtime.OnnxModel`.

    Raises:
        CheckpointError: if nothing is there, or it is damaged, hostile or of a newer avel.
        UsageError: if there is no such ``.onnx`` file, or onnxruntime isn't installed.
    """
    if Path(path_or_name).suffix.lower() == ".onnx":
        from avel.onnx.runtime import load_onnx

        return load_onnx(path_or_name)
    return load_trained(path_or_name)


def load_trained(path_or_name: str | Path = "default") -> Trained:
    """A model whose network runs in torch, as evaluation, training and export need it.

    Args:
        path_or_name: As for :func:`load_model`, without exported files.

    Raises:
        CheckpointError: as :func:`load_model`; an exported file is refused.
    """
    if str(path_or_name) in NAMED and not (Path(path_or_name) / WEIGHTS).is_file():
        return load_named_events()
    from avel.inference.checkpoint import read_checkpoint

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
        hint="an exported model serves avel.load_model, avel.localize and `avel localize` alone"
        if folder.suffix.lower() == ".onnx"
        else "train one with `avel train`, or correct the path",
    )
