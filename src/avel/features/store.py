"""Where features lie on disk: beside a folder of clips, and in the cache."""

from __future__ import annotations

from pathlib import Path

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
