"""Which window one modality's event was given in the other (xue2021 fig. 8 a, b)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from avel import clock
from avel.errors import UsageError
from avel.figures.clips import Frames, stack_clips
from avel.figures.judged import display_name, find_clip
from avel.figures.strips import bare, frame_strip, name_box, row_name, stretches, time_axis
from avel.figures.style import FAINT, RIGHT, WRONG, heading, short_names
from avel.figures.watched import picture_height

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patches import Rectangle

    from avel.data.base import Dataset
    from avel.inference.checkpoint import Trained

#: A2V: a sound asks, the picture answers; V2A the other way round.
Way = Literal["a2v", "v2a"]
_ROWS = {"a2v": ("sound asks", "picture answers"), "v2a": ("picture asks", "sound answers")}


@dataclass(frozen=True)
class Matched:
    """The windows that a run of cml chose for n clips with one event each.

    Args:
        start, length, count: (n,) the event's first segment and length, the clip's length.
        label: (n,) the event's class.
        chosen: By way, (n,) the first segment of the window that was chosen.
        classes: The C event names.
        ids: Names of the clips.
        name, data: What chose, and on what, for titles.
        simulated: True where the features are simulated.
        step: Seconds a segment.
    """

    start: NDArray[np.int64]
    length: NDArray[np.int64]
    count: NDArray[np.int64]
    label: NDArray[np.int64]
    chosen: Mapping[Way, NDArray[np.int64]]
    classes: tuple[str, ...]
    ids: tuple[str, ...] = field(repr=False)
    name: str = ""
    data: str = ""
    simulated: bool = False
    step: float = 1.0

    def find(self, clip: str | int) -> int:
        """The position of a clip, from its name, a unique part of its name, or its position.

        Raises:
            UsageError: if none or several bear it.
        """
        return find_clip(self.ids, clip)


def match(
    run: Trained | str | Path, data: Dataset, *, split: str | None = None, batch: int = 64
) -> Matched:
    """The windows that a run of cml chooses in a split, both ways.

    Args:
        run: A loaded model or its folder, of task cml.
        data: A data set with the run's classes and backbones.
        split: The test split of cml if None.
        batch: Clips that go through the network together.

    Raises:
        UsageError: for a run of another task.
        CheckpointError: if the features are of other backbones than the run was trained on.
        DataError: if the data lack the split or have other classes, or no clip can be used.
    """
    from avel.evaluation.inputs import choose_split, fitting
    from avel.inference.checkpoint import Trained
    from avel.inference.load import load_model
    from avel.tasks.cml import choose, usable
    from avel.training.batches import predictor, resident

    trained = run if isinstance(run, Trained) else load_model(run)
    if trained.card["task"] != "cml":
        raise UsageError(
            f"a run of {trained.card['task']}", expected="one of cml", hint="name another run"
        )
    data = fitting(trained, data)
    chosen = choose_split(data, "cml", split, len(trained.classes))
    cases = usable(chosen, len(trained.classes))
    costs = predictor(trained.network, resident(chosen), "cml", batch=batch)
    found: dict[Way, NDArray[np.int64]] = {
        "a2v": choose(costs, chosen, cases, "audio"),
        "v2a": choose(costs, chosen, cases, "visual"),
    }
    return Matched(
        start=cases.start, length=cases.length, count=cases.count, label=cases.label, chosen=found,
        classes=trained.classes, ids=tuple(chosen.ids[i] for i in cases.clip),
        name=display_name(trained), data=f"{data.name}, {chosen.name}",
        simulated=data.simulated or bool(trained.card["data"].get("simulated")), step=data.step,
    )  # fmt: skip


def match_timeline(
    matched: Matched,
    clip: str | int,
    *,
    way: Way = "a2v",
    frames: Frames | None = None,
    axes: Sequence[Axes] | None = None,
) -> list[Rectangle]:
    """An event of one modality and the window that was chosen for it in the other.

    The window is green with ✓ where it starts with the event, red with ✗ where it doesn't; then
    the right one is dashed.

    Args:
        matched: See :func:`match`.
        clip: Its name, a part of it, or its position.
        way: ``"a2v"``: the sound asks and the picture answers; ``"v2a"``: the other way round.
        frames: Pictures spread evenly over the clip, drawn above.
        axes: One for what asks and one for what answers, and one before them for pictures; new
            ones if None.

    Returns:
        The asking window, the chosen one and, where that is wrong, the right one.

    Raises:
        UsageError: for a clip or a way that isn't there, or another number of axes.
    """
    if way not in _ROWS:
        raise UsageError(f"way {way!r}", expected="a2v or v2a")
    at = matched.find(clip)
    rows = _ROWS[way]
    count = len(frames or ())
    if axes is None:
        axes = stack_clips(rows, [_heights(frames)], simulated=matched.simulated)
    if len(axes) != 2 + bool(count):
        raise UsageError(
            f"{len(axes)} axes", expected=f"{2 + bool(count)}: pictures, asks, answers"
        )
    length, event = int(matched.length[at]), int(matched.start[at])
    found = int(matched.chosen[way][at])
    duration = clock.segments_to_seconds(int(matched.count[at]), matched.step)
    if count:
        frame_strip(frames or (), stretches(count, duration), ax=axes[0])
    name = short_names(matched.classes, 18)[int(matched.label[at])]
    right = found == event
    asks, answers = axes[-2:]
    drawn = [_window(asks, event, length, matched.step, duration, name, "#52647F")]
    mark = "✓ " if right else "✗ "
    drawn.append(_window(answers, found, length, matched.step, duration, mark + name,
                         RIGHT if right else WRONG))  # fmt: skip
    if not right:
        drawn.append(_window(answers, event, length, matched.step, duration, "", "none"))
    for ax, row in zip((asks, answers), rows, strict=True):
        row_name(ax, row)
    told = f"{matched.ids[at]} ({matched.data}), {matched.name}"
    axes[0].set_title(heading(told, simulated=matched.simulated), fontsize=9)
    time_axis(axes[-1])
    return drawn


def match_timelines(
    matched: Matched,
    clips: Sequence[str | int],
    *,
    frames: Mapping[str | int, Frames | None] | None = None,
) -> list[list[Rectangle]]:
    """Several clips, both ways, one under another, on a new figure.

    Args:
        matched, clips: As for :func:`match_timeline`.
        frames: Pictures by clip, where there are any.

    Returns:
        What :func:`match_timeline` gives for each clip and way.

    Raises:
        UsageError: as :func:`match_timeline`, and if no clip is named.
    """
    if not clips:
        raise UsageError("no clip named", hint="name at least one")
    each: list[tuple[str | int, Way]] = [(c, way) for c in clips for way in ("a2v", "v2a")]
    shown = [(frames or {}).get(clip) or None for clip, _ in each]
    heights = [_heights(own) for own in shown]
    names = [name for rows in _ROWS.values() for name in rows]
    axes, drawn = stack_clips(names, heights, simulated=matched.simulated), []
    for (clip, way), own, part in zip(each, shown, heights, strict=True):
        panel, axes = axes[: len(part)], axes[len(part) :]
        drawn.append(match_timeline(matched, clip, way=way, frames=own, axes=panel))
    return drawn


def _heights(frames: Frames | None) -> list[float]:
    picture = [picture_height(frames, len(frames))] if frames else []
    return [*picture, 0.34, 0.34]


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
