"""A folder of composed clips: real video files, annotations, splits and the truth behind them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from avel import clock
from avel.data.composer.bank import Bank
from avel.data.composer.pairs import SPLITS, Pairs
from avel.data.composer.pictures import read_picture
from avel.data.composer.recordings import RATE, read_recording
from avel.data.composer.render import DrawnScene, render_sound
from avel.data.composer.scene import VERSION, ComposedScene, make_scene, script_json, whole_events
from avel.data.rendered import (
    COMPOSER_CARD,
    Labelled,
    check_card,
    is_rendered,
    places,
    render_all,
    write_annotations,
    write_card,
)
from avel.data.script import ACT, acts_of
from avel.errors import AvelError, DataError, UsageError, listed
from avel.files import write_whole
from avel.progress import Progress

#: Most seconds that sound and sight are put apart.
APART = 600.0
#: Most clips of one folder.
MOST_CLIPS = 300_000


@dataclass(frozen=True)
class ComposerPlan:
    """What every clip of a folder shares.

    Args:
        pairs: The configuration.
        bank: The files, shared out.
        seed: Of the data set; a clip depends on it, its split and its index there alone.
        offset: Least and most seconds from sight to sound.

    Raises:
        UsageError: for a seed below 0, or an offset that is none or would carry sounds from one
            act into the next, where they may meet another thing of their class.
    """

    pairs: Pairs
    bank: Bank
    seed: int = 0
    offset: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UsageError(f"seed {self.seed}", expected="0 or more")
        least, most = self.offset
        if not -APART <= least <= most <= APART:
            raise UsageError(
                f"offset {least:g} to {most:g}",
                expected=f"the least first, both of -{APART:g} to {APART:g} s",
            )

        if (least or most) and len(acts_of(self.pairs.seconds)) > 1:
            raise UsageError(
                f"an offset for clips of {self.pairs.seconds:g} s",
                expected=f"clips of {ACT:g} s at most: one event in each",
                hint="give --seconds, or leave --offset out",
            )

    def scene(self, split: str, index: int) -> ComposedScene:
        """The script of a clip."""
        return make_scene(
            self.pairs, self.bank, seed=self.seed, split=split, index=index, offset=self.offset
        )

    def as_json(self) -> dict[str, Any]:
        """What must be the same for clips to lie in one folder."""
        content = {
            "composer": VERSION,
            "pairs": self.pairs.as_json(),
            "seed": self.seed,
            "offset": list(self.offset),
            "rate": RATE,
            "classes": list(self.pairs.classes),
            "sources": self.bank.fingerprint,
        }
        plain: dict[str, Any] = json.loads(
            json.dumps(content)
        )  # tuples as lists, as a card has them
        return plain


def shares(pairs: Pairs, clips: int | None) -> dict[str, int]:
    """How many clips each split gets: the configuration's, or as many in its proportions.

    Every split that has any in the configuration gets one at least, where there are enough.

    Raises:
        UsageError: for fewer than one, or more than ``MOST_CLIPS``.
    """
    if clips is None:
        return dict(pairs.clips)
    if not 1 <= clips <= MOST_CLIPS:
        raise UsageError(f"{clips} clips", expected=f"1 to {MOST_CLIPS}")
    there = [s for s in SPLITS if pairs.clips[s]]
    total = sum(pairs.clips.values())
    least = int(clips >= len(there))
    counts = dict.fromkeys(SPLITS, 0)
    for s in there[1:]:
        others = sum(counts.values()) + least * (len(there) - 1 - there.index(s))
        part = round(clips * pairs.clips[s] / total)
        counts[s] = min(max(part, least), clips - others - least)
    counts[there[0]] = clips - sum(counts.values())
    return counts


@dataclass(frozen=True)
class _Job:
    """What a process needs for one clip."""

    scene: ComposedScene
    roots: Mapping[str, Path]
    fps: int
    size: tuple[int, int]


def render_clip(job: _Job, root: str | Path) -> str:
    """Write one clip's video and, last, its truth; its name.

    Raises:
        AvelError: if one of its files can't be read.
    """
    from avel.media.encode import write_video

    scene, folder = job.scene, Path(root)
    instants = list(clock.frame_instants(0.0, scene.seconds, job.fps))
    stage = DrawnScene(scene, job.roots, width=job.size[0], height=job.size[1])
    track, excerpts_of = render_sound(scene, job.roots["sounds"])
    video, truth = places(folder, scene.name)
    write_video(video, frames=map(stage.frame, instants), fps=job.fps, audio=track, rate=RATE)
    truth_of_clip = script_json(scene, {what: root.name for what, root in job.roots.items()})
    for thing, boxes in zip(truth_of_clip["things"], stage.boxes(instants), strict=True):
        thing["boxes"] = boxes
    for sound, excerpts in zip(truth_of_clip["sounds"], excerpts_of, strict=True):
        sound["onsets"] = [excerpt.as_json() for excerpt in excerpts if excerpt.audible]
    truth_of_clip |= {"fps": job.fps, "size": list(job.size), "rate": RATE}
    write_whole(truth, json.dumps(truth_of_clip, sort_keys=True, separators=(",", ":")) + "\n")
    return scene.name


def compose(
    root: str | Path,
    plan: ComposerPlan,
    *,
    clips: int | None = None,
    jobs: int = 0,
    command: str = "",
    progress: Progress | None = None,
) -> Path:
    """Render a folder of composed clips, or what is missing of it.

    Writes ``videos/<split>_<index>.mp4``, ``truth/<split>_<index>.json``, ``annotations.csv`` (its
    times to a millisecond), AVE's text files (on whole seconds) and ``composer.json``. Clips of a
    smaller call are the first of each split of a larger one; those that a larger one has rendered
    stay.

    Args:
        root: The folder; made where it is missing.
        plan: Pairs, files, seed and offset.
        clips: How many in all; None for what the configuration says.
        jobs: Processes; 0 for one a core.
        command: Kept in ``composer.json`` for whoever asks how the folder was made.
        progress: Called with (clips done, clips in all).

    Returns:
        The path of ``annotations.csv``.

    Raises:
        UsageError: for no clips, or a folder that holds clips of another plan.
        DataError: with all files that can't be used; nothing is rendered then.
    """
    folder = Path(root)
    counts = shares(plan.pairs, clips)
    card = folder / COMPOSER_CARD
    check_card(card, plan.as_json())
    scenes = [plan.scene(split, i) for split in SPLITS for i in range(counts[split])]
    scenes += [s for split in SPLITS for s in _more(folder, plan, split, counts[split])]
    missing = [s for s in scenes if not is_rendered(folder, s.name)]
    _check_files(missing, plan.bank.roots)
    write_card(card, plan.as_json(), clips=len(scenes), command=command)
    size = (plan.pairs.width, plan.pairs.height)
    work = [_Job(scene, plan.bank.roots, plan.pairs.fps, size) for scene in missing]
    if work:
        render_all(partial(render_clip, root=str(folder)), work, jobs=jobs, progress=progress)
    return write_annotations(
        folder, (Labelled(s.name, s.split, s.events, whole_events(s)) for s in scenes)
    )


def _more(folder: Path, plan: ComposerPlan, split: str, first: int) -> Iterator[ComposedScene]:
    """A split's clips from an index on, as far as a larger call has rendered them."""
    for index in range(first, MOST_CLIPS):
        scene = plan.scene(split, index)
        if not is_rendered(folder, scene.name):
            return
        yield scene


def _used(scenes: list[ComposedScene], roots: Mapping[str, Path]) -> Iterator[tuple[str, Path]]:
    for scene in scenes:
        yield from (("picture", roots["images"] / t.file.file) for t in scene.things)
        yield from (("sound", roots["sounds"] / s.file.file) for s in scene.sounds)
        yield "picture", roots["backgrounds"] / scene.ground[1].file


def _check_files(scenes: list[ComposedScene], roots: Mapping[str, Path]) -> None:
    """Read every file that some clips need, once, before any of them is rendered."""
    broken = []
    for what, path in sorted(set(_used(scenes, roots))):
        try:
            read_picture(path) if what == "picture" else read_recording(path)
        except AvelError as e:
            broken.append(e.got)
    if broken:
        raise DataError(
            f"files that can't be used:{listed(broken)}", hint="mend or remove them all"
        )
