"""A folder of Toybox clips: real video files, annotations, splits and the truth behind them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from avel.data.rendered import (
    TOYBOX_CARD,
    Labelled,
    check_card,
    is_rendered,
    places,
    render_all,
    size_mistakes,
    write_annotations,
    write_card,
)
from avel.data.toybox.render import render_boxes, render_frames, render_sound
from avel.data.toybox.scene import VERSION, ToyScene, make_scene, script_json, split_of
from avel.data.toybox.things import CLASSES
from avel.errors import UsageError, all_at_once
from avel.files import write_whole
from avel.progress import Progress

#: Samples a second of the sound tracks.
RATE = 16000


@dataclass(frozen=True)
class ToyboxPlan:
    """What every clip of a folder shares.

    Args:
        seed: Of the data set; a clip depends on it and its index alone.
        seconds: Length of a clip.
        fps: Frames a second.
        width, height: Of the picture, even.

    Raises:
        UsageError: that names every value out of range at once.
    """

    seed: int = 0
    seconds: float = 10.0
    fps: int = 12
    width: int = 320
    height: int = 240

    def __post_init__(self) -> None:
        mistakes = size_mistakes(
            seed=self.seed, seconds=self.seconds, fps=self.fps, width=self.width, height=self.height
        )
        if mistakes:
            raise all_at_once("toybox", mistakes)

    def scene(self, index: int) -> ToyScene:
        """The script of a clip."""
        aspect = self.width / self.height
        return make_scene(self.seed, index, seconds=self.seconds, aspect=aspect)

    def as_json(self) -> dict[str, Any]:
        """What must be the same for clips to lie in one folder."""
        return {
            "toybox": VERSION,
            "seed": self.seed,
            "seconds": self.seconds,
            "fps": self.fps,
            "size": [self.width, self.height],
            "rate": RATE,
            "classes": list(CLASSES),
        }


def truth_json(plan: ToyboxPlan, index: int) -> str:
    """What is in a clip, frame by frame, as JSON with the same bytes for the same seed."""
    scene = plan.scene(index)
    script = script_json(scene)
    boxes = render_boxes(scene, width=plan.width, height=plan.height, fps=plan.fps)
    for thing, thing_boxes in zip(script["things"], boxes, strict=True):
        thing["boxes"] = thing_boxes
    script |= {
        "fps": plan.fps,
        "size": [plan.width, plan.height],
        "split": split_of(plan.seed, index),
    }
    return json.dumps(script, sort_keys=True, separators=(",", ":")) + "\n"


def render_clip(plan: ToyboxPlan, index: int, root: str | Path) -> str:
    """Write one clip's video and, last, its truth, unless both are there; its name."""
    from avel.media.encode import write_video

    scene, folder = plan.scene(index), Path(root)
    if not is_rendered(folder, scene.name):
        video, truth = places(folder, scene.name)
        write_video(
            video,
            frames=render_frames(scene, width=plan.width, height=plan.height, fps=plan.fps),
            fps=plan.fps,
            audio=render_sound(scene, rate=RATE),
            rate=RATE,
        )
        write_whole(truth, truth_json(plan, index))
    return scene.name


def synthesize(
    root: str | Path,
    *,
    clips: int,
    plan: ToyboxPlan | None = None,
    jobs: int = 0,
    command: str = "",
    progress: Progress | None = None,
) -> Path:
    """Render a Toybox folder, or what is missing of it.

    Writes ``videos/<id>.mp4``, ``truth/<id>.json``, ``annotations.csv`` (file,start,end,label,
    split; a clip without events has one row without times), and in AVE's text format
    ``Annotations.txt``, ``trainSet.txt``, ``valSet.txt`` and ``testSet.txt`` for clips with one
    event on whole seconds. Clips of a smaller call are the first of a larger one; those that a
    larger one has rendered stay.

    Args:
        root: The folder; made where it is missing.
        clips: How many.
        plan: Seed, length, size and frame rate.
        jobs: Processes; 0 for one a core.
        command: Kept in ``toybox.json`` for whoever asks how the folder was made.
        progress: Called with (clips done, clips in all).

    Returns:
        The path of ``annotations.csv``.

    Raises:
        UsageError: for values out of range, or a folder that holds clips of another plan.
    """
    plan = plan or ToyboxPlan()
    folder = Path(root)
    if clips < 1:
        raise UsageError(f"{clips} clips", expected="1 or more")
    card = folder / TOYBOX_CARD
    check_card(card, plan.as_json())
    while is_rendered(folder, plan.scene(clips).name):
        clips += 1
    write_card(card, plan.as_json(), clips=clips, command=command)
    render = partial(render_clip, plan, root=str(folder))
    render_all(render, range(clips), jobs=jobs, progress=progress)
    return write_annotations(folder, (_labelled(plan, index) for index in range(clips)))


def _labelled(plan: ToyboxPlan, index: int) -> Labelled:
    scene = plan.scene(index)
    return Labelled(scene.name, split_of(plan.seed, index), scene.events, scene.events)
