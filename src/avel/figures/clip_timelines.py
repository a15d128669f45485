"""Clips with true and predicted classes, segment by segment (xue2021 fig. 8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from avel import clock
from avel.errors import UsageError
from avel.figures.attention import LIMIT, STRIP, WIDTH, picture_height
from avel.figures.predictions import Predictions, listed_runs
from avel.figures.strips import (
    equal_spans,
    frame_strip,
    label_strip,
    row_name,
    shown_segments,
    time_axis,
)
from avel.figures.style import check_axes, heading, margin, stacked_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patches import Rectangle

Frames = Sequence[NDArray[np.uint8] | None]


def timeline(
    predictions: Predictions | Sequence[Predictions],
    clip: str | int,
    *,
    frames: Frames | None = None,
    axes: Sequence[Axes] | None = None,
) -> list[list[Rectangle]]:
    """A clip's truth and below it the runs' predictions: ✓ green where right, ✗ red where wrong.

    Args:
        predictions: Of one or several runs for the same clips; a row each.
        clip: Its name, a unique part of its name, or its position.
        frames: Pictures spread evenly over the clip, see :func:`clip_frames`; drawn above.
        axes: One for the truth and one a run, and one before them for pictures; new ones if None.

    Returns:
        For each run its boxes, see :func:`avel.figures.label_strip`.

    Raises:
        UsageError: for a clip that isn't there, runs on different clips, or another number of axes.
    """
    runs = listed_runs(predictions)
    first = runs[0]
    at = first.find(clip)
    length = int((first.truth[at] >= 0).sum())
    duration = clock.segments_to_seconds(length, first.step)
    count = len(frames or ())
    if axes is None:
        axes = _stack(runs, [row_heights(1 + len(runs), frames)])[0]
    rows = 1 + len(runs) + bool(count)
    check_axes(axes, rows, "pictures (if there are any), truth, a row a run")
    if count:
        frame_strip(frames or (), equal_spans(count, duration), ax=axes[0])
    truth_ax, *run_axes = axes[bool(count) :]
    truth = first.truth[at, :length]
    label_strip(truth, first.classes, ax=truth_ax, step=first.step)
    row_name(truth_ax, "true")
    drawn = []
    for run, ax in zip(runs, run_axes, strict=True):
        labels = run.labels[at, :length]
        drawn.append(label_strip(labels, run.classes, ax=ax, truth=truth, step=run.step))
        row_name(ax, run.name or "predicted")
    name = first.ids[at] if first.ids else str(at)
    simulated = any(run.simulated for run in runs)
    axes[0].set_title(
        heading(f"{name} ({first.data})" if first.data else name, simulated=simulated), fontsize=9
    )
    time_axis(axes[-1])
    return drawn


def timelines(
    predictions: Predictions | Sequence[Predictions],
    clips: Sequence[str | int],
    *,
    frames: Mapping[str | int, Frames | None] | None = None,
) -> list[list[list[Rectangle]]]:
    """Several clips, one under another, on a new figure.

    Args:
        predictions, clips: As for :func:`timeline`.
        frames: Pictures by clip, where there are any.

    Returns:
        What :func:`timeline` returns for each clip.

    Raises:
        UsageError: as :func:`timeline`, and if no clip is named.
    """
    runs = listed_runs(predictions)
    if not clips:
        raise UsageError("no clip is named", hint="name at least one")
    shown = [(frames or {}).get(clip) or None for clip in clips]
    heights = [row_heights(1 + len(runs), pictures) for pictures in shown]
    return [
        timeline(runs, clip, frames=pictures, axes=axes)
        for clip, pictures, axes in zip(clips, shown, _stack(runs, heights), strict=True)
    ]


def _stack(runs: Sequence[Predictions], heights: Sequence[Sequence[float]]) -> list[list[Axes]]:
    names = ["true", *(run.name for run in runs)]
    return stack_clips(names, heights, simulated=any(run.simulated for run in runs))


def stack_clips(
    names: Sequence[str], heights: Sequence[Sequence[float]], *, simulated: bool
) -> list[list[Axes]]:
    """The axes of each of several clips, with room for time axis and title between two clips.

    Args:
        names: Of the rows; the left margin is as wide as the longest.
        heights: Inches of each clip's rows.
        simulated: Whether titles have one more line.
    """
    room = 0.3 + 0.17 * simulated
    gaps: list[float] = []
    for part in heights:
        gaps += [*[0.08] * (len(part) - 1), 0.45 + room]
    all_heights = [h for part in heights for h in part]
    axes = stacked_axes(all_heights, width=STRIP, left=margin(names), top=room, gap=gaps[:-1])
    left = iter(axes)
    return [list(islice(left, len(part))) for part in heights]


def row_heights(rows: int, frames: Frames | None) -> list[float]:
    """Inches of a timeline's rows: pictures, where there are any, and ``rows`` below them."""
    picture = [picture_height(frames, len(frames))] if frames else []
    return [*picture, *[0.34] * rows]


def clip_frames(
    video: str | Path, *, first: int = 0, count: int, step: float = 1.0, limit: int = LIMIT
) -> list[Any]:
    """Pictures spread evenly over a clip, one a segment while there are at most ``limit``.

    Args:
        video: The media file.
        first, count: The clip's first segment in the file, and how many it has.
        step: Seconds a segment.
        limit: Pictures at most.

    Returns:
        (H, W, 3) uint8 pictures, None where the file has none.

    Raises:
        MediaError: if the file can't be read.
    """
    from avel.media.file import frames_at

    chosen = shown_segments(count, step, clock.segments_to_seconds(count, step), limit)
    begin = clock.segments_to_seconds(first, step)
    return frames_at(video, [begin + clock.middle(*span) for _, span in chosen], width=WIDTH)
