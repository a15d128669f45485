"""A folder of Toybox clips: real video files, annotations, splits and the truth behind them."""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avel.data.toybox.render import render_boxes, render_frames, render_sound
from avel.data.toybox.scene import VERSION, Scene, make_scene, script_json, split_of
from avel.data.toybox.things import CLASSES
from avel.errors import DataError, UsageError, all_at_once
from avel.files import whole, write_whole

#: Samples a second of the sound tracks.
RATE = 16000
#: The largest picture: Toybox is for trying things out.
LARGEST = (640, 360)
AVE_HEADER = "Category&VideoID&Quality&StartTime&EndTime"

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Plan:
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
        most = f"even, 32x32 to {LARGEST[0]}x{LARGEST[1]}"
        wide_enough = 32 <= self.width <= LARGEST[0] and 32 <= self.height <= LARGEST[1]
        checks = {
            f"seed {self.seed}: wanted 0 or more": self.seed >= 0,
            f"seconds {self.seconds}: wanted 0.5 to 36000": 0.5 <= self.seconds <= 36000,
            f"fps {self.fps}: wanted 1 to 60": 1 <= self.fps <= 60,
            f"size {self.width}x{self.height}: wanted {most}": wide_enough
            and not (self.width % 2 or self.height % 2),
        }
        mistakes = [what for what, fine in checks.items() if not fine]
        if mistakes:
            raise all_at_once("toybox", mistakes)

    def scene(self, index: int) -> Scene:
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


def truth_json(plan: Plan, index: int) -> str:
    """What is in a clip, frame by frame, as JSON with the same bytes for the same seed."""
    scene = plan.scene(index)
    script = script_json(scene)
    boxes = render_boxes(scene, width=plan.width, height=plan.height, fps=plan.fps)
    for thing, own in zip(script["things"], boxes, strict=True):
        thing["boxes"] = own
    script |= {
        "fps": plan.fps,
        "size": [plan.width, plan.height],
        "split": split_of(plan.seed, index),
    }
    return json.dumps(script, sort_keys=True, separators=(",", ":")) + "\n"


def render_clip(plan: Plan, index: int, root: str | Path) -> str:
    """Write one clip's video and, last, its truth, unless both are there; its name."""
    from avel.encode import write_video

    scene, folder = plan.scene(index), Path(root)
    video, truth = folder / "videos" / f"{scene.name}.mp4", folder / "truth" / f"{scene.name}.json"
    if not (video.is_file() and truth.is_file()):
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
    plan: Plan | None = None,
    jobs: int = 0,
    command: str = "",
    progress: Progress | None = None,
) -> Path:
    """Render a Toybox folder, or what is missing of it.

    Writes ``videos/<id>.mp4``, ``truth/<id>.json``, ``annotations.csv`` (file,start,end,label,
    split; a clip without events has one row without times), and in AVE's text format
    ``Annotations.txt``, ``trainSet.txt``, ``valSet.txt`` and ``testSet.txt`` for clips with one
    event on whole seconds. Clips of a smaller call are the first of a larger one.

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
    plan = plan or Plan()
    folder = Path(root)
    if clips < 1:
        raise UsageError(f"{clips} clips", wanted="1 or more")
    _check_folder(folder, plan)
    _write_card(folder, plan, clips=clips, command=command)
    _render_all(folder, plan, clips, jobs=jobs, progress=progress)
    return _write_annotations(folder, plan, clips)


def _check_folder(folder: Path, plan: Plan) -> None:
    card = folder / "toybox.json"
    if not card.is_file():
        return
    try:
        held = json.loads(card.read_text())
    except ValueError as e:
        raise DataError(f"{card}: not JSON ({e})", do="remove the folder or name another") from e
    wanted = plan.as_json()
    other = [
        f"{key}: {held.get(key)} there, {wanted[key]} asked"
        for key in wanted
        if held.get(key) != wanted[key]
    ]
    if other:
        listed = "\n    ".join(other)
        raise UsageError(
            f"{folder} holds clips of another plan:\n    {listed}",
            do="name another folder, or ask for the same values",
        )


def _write_card(folder: Path, plan: Plan, *, clips: int, command: str) -> None:
    card = plan.as_json() | {"clips": clips, "command": command}
    write_whole(folder / "toybox.json", json.dumps(card, indent=1, sort_keys=True) + "\n")


def _render_all(
    folder: Path, plan: Plan, clips: int, *, jobs: int, progress: Progress | None
) -> None:
    jobs = min(jobs or os.cpu_count() or 1, clips)
    if jobs == 1:
        for index in range(clips):
            render_clip(plan, index, folder)
            if progress:
                progress(index + 1, clips)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        futures = [pool.submit(render_clip, plan, index, str(folder)) for index in range(clips)]
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                future.result()
                if progress:
                    progress(done, clips)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _write_annotations(folder: Path, plan: Plan, clips: int) -> Path:
    rows: list[list[str]] = []
    ave: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for index in range(clips):
        scene, split = plan.scene(index), split_of(plan.seed, index)
        file = f"videos/{scene.name}.mp4"
        rows += [[file, f"{e.start:g}", f"{e.end:g}", e.label, split] for e in scene.events] or [
            [file, "", "", "", split]
        ]
        ave[split] += _ave_rows(scene)
    target = folder / "annotations.csv"
    with whole(target) as temporary:
        temporary.write_text(_csv(rows), encoding="utf-8")
    for split, lines in ave.items():
        write_whole(folder / f"{split}Set.txt", _lines(lines))
    everything = [line for lines in ave.values() for line in lines]
    write_whole(folder / "Annotations.txt", _lines([AVE_HEADER, *everything]))
    return target


def _csv(rows: Iterable[list[str]]) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["file", "start", "end", "label", "split"])
    writer.writerows(rows)
    return out.getvalue()


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _ave_rows(scene: Scene) -> list[str]:
    if len(scene.events) != 1:
        return []
    event = scene.events[0]
    if not (event.start == int(event.start) and event.end == int(event.end)):
        return []
    return [f"{event.label}&{scene.name}&good&{int(event.start)}&{int(event.end)}"]
