"""Pictures of a data set's clips, where their files exist."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avel.files import file_exists


def clip_pictures(
    clip: str, count: int, step: float, folders: Sequence[Path], limit: int
) -> list[Any] | None:
    """Pictures of a clip, if its file is below one of some folders.

    Args:
        clip: Its name in the data set; ``#N`` after it is the first segment.
        count: How many segments it has.
        step: Seconds of a segment.
        folders: Where its file may be.
        limit: How many pictures at most.
    """
    from avel.figures.clip_timelines import clip_frames

    name, _, first = clip.partition("#")
    video = find_video(name, folders)
    if video is None:
        return None
    return clip_frames(video, first=int(first or 0), count=count, step=step, limit=limit)


def find_video(name: str, folders: Sequence[Path]) -> Path | None:
    """A clip's file: by its path, or for AVE (``row:video``) by the video's name."""
    from avel.files import MEDIA_ENDINGS

    video = name.partition(":")[2]
    for folder in folders:
        candidates = [
            folder / name,
            *(folder / f"{video}{e}" for e in sorted(MEDIA_ENDINGS) if video),
        ]
        for path in candidates:
            if file_exists(path) and path.resolve().is_relative_to(folder.resolve()):
                return path
    return None
