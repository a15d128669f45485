"""Feature files: where those of a folder of clips lie, and whether they are still theirs."""

from __future__ import annotations

import json
from pathlib import Path

from avel.types import Json

#: The folder, within a data folder, that holds the features of its clips.
FOLDER = "features"
_ENDING = ".safetensors"


def feature_path(root: str | Path, file: str | Path, *, out: str | Path | None = None) -> Path:
    """Where the features of one clip of a data folder lie.

    ``root/features/<file relative to root, its ending replaced>.safetensors``.

    Args:
        root: The data folder.
        file: The clip; relative to ``root``, or a path within it.
        out: Another folder for the features than ``root/features``.
    """
    root, file = Path(root), Path(file)
    relative = file.relative_to(root) if file.is_relative_to(root) else file
    return Path(out or root / FOLDER) / relative.with_name(relative.stem + _ENDING)


def up_to_date(
    path: str | Path,
    *,
    content: str,
    cards: tuple[Json, Json],
    step: float,
    dtype: str = "float16",
    any_precision: bool = False,
) -> bool:
    """Whether a feature file is there and was made of this content by these backbones.

    Args:
        path: The feature file; only its header is read.
        content: sha256 of the media file.
        cards: The cards of the audio and the visual backbone.
        step: Seconds a segment.
        dtype: What it has to be stored as at least: a float32 file also serves as float16.
        any_precision: Whether the networks may have run in another precision than the cards'.
    """
    meta = header(path)
    if dtype != "float16" and meta.get("dtype") != dtype:
        return False
    left_out = {"error", "precision"} if any_precision else {"error"}
    held = [meta.get("audio_card"), meta.get("visual_card")]
    same = [_without(card, left_out) for card in held] == [
        _without(card, left_out) for card in _plain(cards)
    ]
    return same and [meta.get("content"), meta.get("step")] == [content, step]


def _without(card: object, keys: set[str]) -> object:
    return {k: v for k, v in card.items() if k not in keys} if isinstance(card, dict) else card


def header(path: str | Path) -> Json:
    """What a feature file says of itself, its arrays unread; empty where it is none, or damaged.

    Returns:
        ``duration``, ``step``, ``audio_card``, ``visual_card``, ``source`` and ``content`` as in
        :class:`avel.types.Features`, and of the arrays ``dtype``, ``audio_shape``,
        ``visual_shape``.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as f:
            meta = json.loads((f.metadata() or {}).get("avel", "{}"))
            audio, visual = f.get_slice("audio"), f.get_slice("visual")
            types = {"F16": "float16", "F32": "float32"}
            arrays = {
                "dtype": types.get(audio.get_dtype(), ""),
                "audio_shape": list(audio.get_shape()),
                "visual_shape": list(visual.get_shape()),
            }
    except (OSError, SafetensorError, ValueError, RecursionError):
        return {}
    return meta | arrays if isinstance(meta, dict) else {}


def _comparable(card: object) -> object:
    """A stored card as it was before the run measured its precision's ``error``."""
    return {k: v for k, v in card.items() if k != "error"} if isinstance(card, dict) else card


def _plain(cards: tuple[Json, Json]) -> list[Json]:
    """Cards as they come back from JSON."""
    plain: list[Json] = json.loads(json.dumps(cards))
    return plain
