"""A file for each event: a clip or a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from unicodedata import category

import numpy as np
from numpy.typing import NDArray

from avel import clock
from avel.errors import DataError
from avel.types import Event, Timeline

#: Most clips or pictures of one video; the longest clip, and all together, in seconds.
MAX_CLIPS, MAX_SECONDS, MAX_TOTAL = 1000, 600.0, 3 * 3600.0
#: Frames a second where the file doesn't say, and the most that a clip gets.
_FPS, _MAX_FPS = 25.0, 60.0
_WIDTH, _QUALITY, _BATCH = 640, 88, 16


def safe_name(text: str) -> str:
    """A text as part of a file name on any system: letters and digits of all scripts, ``-_.``.

    It has 80 bytes of UTF-8 at most.
    """
    name = "".join(c if category(c)[0] in "LNM" or c in "-_." else "_" for c in text)
    name = "_".join(filter(None, name.split("_"))).strip("._-")
    return name.encode()[:80].decode(errors="ignore") or "_"


def event_names(timeline: Timeline, events: Sequence[Event], ending: str) -> list[str]:
    """``street_00003.000-00007.500_Church_bell.mp4``, in the order of the events, all different."""
    names: list[str] = []
    for event in events:
        edges = clock.span_ticks(event.start, event.end)
        first, last = (f"{t // 1000:05d}.{t % 1000:03d}" for t in edges)
        label = safe_name(event.marked_label)
        name = f"{safe_name(Path(timeline.video).stem)}_{first}-{last}_{label}"
        count = sum(n == name or n.startswith(f"{name}~") for n in names)
        names.append(name if not count else f"{name}~{count + 1}")
    return [f"{name}{ending}" for name in names]


def check_bounds(timeline: Timeline, *, clips: bool) -> None:
    """Refuse too many or too long clips before any is written.

    Raises:
        DataError: that names the limit.
    """
    total = sum(e.end - e.start for e in timeline)
    longest = max((e.end - e.start for e in timeline), default=0.0)
    for value, most, what in (
        (len(timeline), MAX_CLIPS, "events"),
        (longest if clips else 0, MAX_SECONDS, "seconds in one event"),
        (total if clips else 0, MAX_TOTAL, "seconds of events"),
    ):
        if value > most:
            raise DataError(
                f"{timeline.video} has {value:g} {what}",
                expected=f"at most {most:g} for a file each",
                hint="take fewer: raise --min-duration or --threshold, or delete some",
            )


def cut_clips(timeline: Timeline, folder: str | Path) -> list[Path]:
    """Cut every event out of its video into an .mp4, from its start to its end (or the video's).

    Clips are encoded anew (H.264, AAC mono), so that they begin and end at the event's edges and
    not at key frames. Each file is written whole or not at all.

    Args:
        timeline: Its ``video`` must be the file's path.
        folder: Created if it doesn't exist.

    Returns:
        The files, in the events' order.

    Raises:
        MediaError: if the video can't be read.
        DataError: if there are more than ``MAX_CLIPS`` events, longer ones than are cut, or events
            that begin after the video's end.
    """
    from avel.media.encode import write_video
    from avel.media.excerpt import frame_size, pictures, sound
    from avel.media.file import media_of

    check_bounds(timeline, clips=True)
    media = media_of(timeline)
    events = _within(timeline, media.duration)
    size = frame_size(media)
    fps = min(media.video.fps or _FPS, _MAX_FPS) if media.video else _FPS
    paths = [Path(folder) / n for n in event_names(timeline, events, ".mp4")]
    for event, path in zip(events, paths, strict=True):
        span = event.start, event.end
        write_video(
            path,
            frames=pictures(media, *span, fps=fps, size=size) if size[0] else (),
            fps=fps,
            audio=sound(media, *span) if media.audio else None,
        )
    return paths


def _within(timeline: Timeline, duration: float) -> list[Event]:
    """The events, cut at the end of the file."""
    beyond = [e for e in timeline if e.start >= duration]
    if beyond:
        first = beyond[0]
        raise DataError(
            f"{timeline.video} is {duration:.2f} s long, and {len(beyond)} events begin later, "
            f"{first.label} at {first.start:.2f} s first",
            expected="labels of this video",
            hint="name the right video with --video, or correct the labels",
        )
    return [replace(e, end=min(e.end, duration)) for e in timeline]


def save_thumbnails(timeline: Timeline, folder: str | Path) -> list[Path]:
    """Save a picture of every event: the middle of its segment with the highest score.

    Args:
        timeline: Its ``video`` must be the file's path. Without scores the event's middle is taken.
        folder: Created if it doesn't exist.

    Returns:
        The .jpg files; an event without a picture has none.

    Raises:
        MediaError: if the video can't be read.
        DataError: if there are more than ``MAX_CLIPS`` events.
    """
    from avel.media.file import frames_at, media_of

    check_bounds(timeline, clips=False)
    names = event_names(timeline, timeline.events, ".jpg")
    instants = sorted((best_instant(timeline, e), n) for e, n in zip(timeline, names, strict=True))
    media = media_of(timeline)
    written = []
    for i in range(0, len(instants), _BATCH):
        batch = instants[i : i + _BATCH]
        images = frames_at(media, [t for t, _ in batch], width=_WIDTH)
        for (_, name), image in zip(batch, images, strict=True):
            if image is not None:
                written.append(_save_jpeg(image, Path(folder) / name))
    return sorted(written)


def best_instant(timeline: Timeline, event: Event) -> float:
    """The middle of the event's segment in which its class is most probable."""
    scores = timeline.scores
    if scores is None or event.label not in scores.classes:
        return clock.middle(event.start, event.end)
    modality_scores = (
        None if event.modality == "both" else getattr(scores, f"{event.modality}_scores")
    )
    values = scores.values if modality_scores is None else np.nan_to_num(modality_scores)
    grid, column = scores.grid, scores.classes.index(event.label)
    first = clock.segment_at(event.start, grid.step)
    inside = [i for i in range(first, len(grid)) if grid.bounds(i)[0] < event.end]
    if not inside:
        return clock.middle(event.start, event.end)
    start, end = grid.bounds(max(inside, key=lambda i: float(values[i, column])))
    return clock.middle(max(start, event.start), min(end, event.end))


def _save_jpeg(image: NDArray[np.uint8], path: Path) -> Path:
    from PIL import Image

    from avel.files import whole

    with whole(path) as temporary:
        Image.fromarray(image).save(temporary, format="JPEG", quality=_QUALITY)
    return path
