"""A data set's clips as pictures, where their files can be found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avel.files import file_exists


def pictures_of(
    clip: str, count: int, step: float, places: Sequence[Path], limit: int
) -> list[Any] | None:
    """Pictures of a clip, if its file is found below one of the places."""
    from avel.figures.clip_timelines import clip_frames

    name, _, first = clip.partition("#")
    video = find_video(name, places)
    if video is None:
        return None
    return clip_frames(video, first=int(first or 0), count=count, step=step, limit=limit)


def find_video(name: str, places: Sequence[Path]) -> Path | None:
    """A clip's file: of a folder of clips by its path, of AVE (``row:video``) by the video's."""
    from avel.media.file import ENDINGS

    video = name.partition(":")[2]
    for place in places:
        found = [place / name, *(place / f"{video}{e}" for e in sorted(ENDINGS) if video)]
        for path in found:
            if file_exists(path) and path.resolve().is_relative_to(place.resolve()):
                return path
    return None
