"""The window that a model of CML retrieves for an event of the other modality (xue2021 fig. 8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from avel import clock
from avel.errors import UsageError
from avel.figures.clip_timelines import Frames, row_heights, stack_clips
from avel.figures.predictions import clip_index, loaded_run, run_split
from avel.figures.strips import bare, equal_spans, frame_strip, name_box, row_name, time_axis
from avel.figures.style import FAINT, RIGHT, WRONG, check_axes, heading, short_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patches import Rectangle

    from avel.data.base import Dataset
    from avel.inference.checkpoint import Trained

#: A2V: the query is audio, the candidate visual; V2A: the reverse.
Direction = Literal["a2v", "v2a"]
_ROWS = {"a2v": ("audio query", "visual match"), "v2a": ("visual query", "audio match")}


@dataclass(frozen=True)
class Retrieval:
    """The windows that a run of cml chose for n clips with one event each.

    Args:
        start, length, count: (n,) the event's first segment and length, the clip's length.
        label: (n,) the event's class.
        chosen: By direction, (n,) the first segment of the chosen window.
        classes: The C event names.
        ids: Names of the clips.
        name, data: Of the model and of the data, for titles.
        simulated: True where the features are simulated.
        step: Seconds a segment.
    """

    start: NDArray[np.int64]
    length: NDArray[np.int64]
    count: NDArray[np.int64]
    label: NDArray[np.int64]
    chosen: Mapping[Direction, NDArray[np.int64]]
    classes: tuple[str, ...]
    ids: tuple[str, ...] = field(repr=False)
    name: str = ""
    data: str = ""
    simulated: bool = False
    step: float = 1.0

    def find(self, clip: str | int) -> int:
        """The position of a clip, from its name, a unique part of its name, or its position.

        Raises:
            UsageError: if no clip or several clips match.
        """
        return clip_index(self.ids, clip)


def retrieve(run: Trained | str | Path, data: Dataset, *, split: str | None = None) -> Retrieval:
    """The windows that a run of cml chooses in a split, in both directions.

    Args:
        run: A loaded model or its folder, of task cml.
        data: A data set with the run's classes and backbones.
        split: The test split of cml if None.

    Raises:
        UsageError: for a run of another task.
        CheckpointError: if the features are of other backbones than the run was trained on.
        DataError: if the data lack the split or have other classes, or no clip can be used.
    """
    from avel.data.resident import resident
    from avel.tasks import task_named
    from avel.tasks.cml import choose, usable

    trained = loaded_run(run)
    task = task_named(trained.card["task"])
    if task.classifies:
        raise UsageError(f"the run is of task {task.name}", expected="a run of cml")
    chosen, titles = run_split(trained, data, split)
    cases = usable(chosen, len(trained.classes))
    costs = task.predictor(trained.network, resident(chosen))
    windows: dict[Direction, NDArray[np.int64]] = {
        "a2v": choose(costs, chosen, cases, "audio"),
        "v2a": choose(costs, chosen, cases, "visual"),
    }
    return Retrieval(
        start=cases.start, length=cases.length, count=cases.count, label=cases.label,
        chosen=windows, classes=trained.classes, ids=tuple(chosen.ids[i] for i in cases.clip),
        step=data.step, **titles,
    )  # fmt: skip


def retrieval_timeline(
    retrieval: Retrieval,
    clip: str | int,
    *,
    direction: Direction = "a2v",
    frames: Frames | None = None,
    axes: Sequence[Axes] | None = None,
) -> list[Rectangle]:
    """An event of one modality and the window that was chosen for it in the other.

    The window is green with ✓ where it starts with the event, red with ✗ where it doesn't; then
    the right one is dashed.

    Args:
        retrieval: See :func:`retrieve`.
        clip: Its name, a unique part of its name, or its position.
        direction: ``"a2v"``: from an audio query to a visual window; ``"v2a"``: the reverse.
        frames: Pictures spread evenly over the clip, drawn above.
        axes: One for the query and one for the candidate, before them one for pictures if there
            are any; new ones if None.

    Returns:
        The query's window, the chosen one and, where that is wrong, the right one.

    Raises:
        UsageError: for an unknown clip or direction, or another number of axes.
    """
    if direction not in _ROWS:
        raise UsageError(f"direction must be a2v or v2a, got {direction!r}")
    at = retrieval.find(clip)
    rows = _ROWS[direction]
    count = len(frames or ())
    if axes is None:
        axes = stack_clips(rows, [row_heights(2, frames)], simulated=retrieval.simulated)[0]
    check_axes(axes, 2 + bool(count), "pictures (if there are any), query, match")
    length, event = int(retrieval.length[at]), int(retrieval.start[at])
    window = int(retrieval.chosen[direction][at])
    duration = clock.segments_to_seconds(int(retrieval.count[at]), retrieval.step)
    if count:
        frame_strip(frames or (), equal_spans(count, duration), ax=axes[0])
    name = short_names(retrieval.classes, 18)[int(retrieval.label[at])]
    right = window == event
    query_ax, candidate_ax = axes[-2:]
    drawn = [_window(query_ax, event, length, retrieval.step, duration, name, "#52647F")]
    mark = "✓ " if right else "✗ "
    drawn.append(_window(candidate_ax, window, length, retrieval.step, duration, mark + name,
                         RIGHT if right else WRONG))  # fmt: skip
    if not right:
        drawn.append(_window(candidate_ax, event, length, retrieval.step, duration, "", "none"))
    for ax, row in zip((query_ax, candidate_ax), rows, strict=True):
        row_name(ax, row)
    title = f"{retrieval.ids[at]} ({retrieval.data}), {retrieval.name}"
    axes[0].set_title(heading(title, simulated=retrieval.simulated), fontsize=9)
    time_axis(axes[-1])
    return drawn


def retrieval_timelines(
    retrieval: Retrieval,
    clips: Sequence[str | int],
    *,
    frames: Mapping[str | int, Frames | None] | None = None,
) -> list[list[Rectangle]]:
    """Several clips in both directions, one under another, on a new figure.

    Args:
        retrieval, clips: As for :func:`retrieval_timeline`.
        frames: Pictures by clip, where there are any.

    Returns:
        What :func:`retrieval_timeline` returns for each clip and direction.

    Raises:
        UsageError: as :func:`retrieval_timeline`, and if no clip is named.
    """
    if not clips:
        raise UsageError("no clip is named", hint="name at least one")
    each: list[tuple[str | int, Direction]] = [
        (c, direction) for c in clips for direction in ("a2v", "v2a")
    ]
    shown = [(frames or {}).get(clip) or None for clip, _ in each]
    heights = [row_heights(2, pictures) for pictures in shown]
    names = [name for rows in _ROWS.values() for name in rows]
    panels = stack_clips(names, heights, simulated=retrieval.simulated)
    return [
        retrieval_timeline(retrieval, clip, direction=direction, frames=pictures, axes=axes)
        for (clip, direction), pictures, axes in zip(each, shown, panels, strict=True)
    ]


def _window(
    ax: Axes, first: int, length: int, step: float, duration: float, text: str, colour: str
) -> Rectangle:
    """A window as a box on a pale track; without a colour it is dashed."""
    from matplotlib.patches import Rectangle

    start, end = clock.segments_to_seconds(first, step), clock.segments_to_seconds(length, step)
    empty = colour == "none"
    box = Rectangle(
        (start, 0.03 * empty), end, 1 - 0.06 * empty, fc=colour, ec="black" if empty else "white",
        lw=1.3, ls="--" if empty else "-", zorder=3 if empty else 2,
    )  # fmt: skip
    if not empty:
        ax.add_patch(Rectangle((0, 0), duration, 1, fc=FAINT, lw=0, zorder=1))
    ax.add_patch(box)
    if text:
        name_box(ax, (start, start + end), text, colour, duration)
    bare(ax, [(0.0, duration)])
    return box
