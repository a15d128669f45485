"""A folder of rendered clips: its card, its rendering in processes, its annotations and splits."""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from avel import clock
from avel.errors import DataError, UsageError
from avel.files import json_hash, whole, write_whole
from avel.progress import Progress
from avel.types import Event

#: The largest picture: rendered clips are for trying out and for comparing.
LARGEST = (640, 360)
#: The longest clip in seconds: its sound is in memory, several times over.
LONGEST = 3600.0
#: What folders of drawn and of composed clips are known by.
TOYBOX_CARD, COMPOSER_CARD = CARDS = ("toybox.json", "composer.json")
#: What :func:`write_annotations` writes.
WRITTEN = ("annotations.csv", "Annotations.txt", "trainSet.txt", "valSet.txt", "testSet.txt")
AVE_HEADER = "Category&VideoID&Quality&StartTime&EndTime"

T = TypeVar("T")


@dataclass(frozen=True)
class Labelled:
    """What the annotations say of one clip.

    Args:
        name: Its file is ``videos/<name>.mp4``.
        split: ``train``, ``val`` or ``test``.
        events: In seconds, as they go into ``annotations.csv``.
        whole: The same on whole seconds, for AVE's text format.
    """

    name: str
    split: str
    events: tuple[Event, ...]
    whole: tuple[Event, ...]


def size_mistakes(*, seed: int, seconds: float, fps: int, width: int, height: int) -> list[str]:
    """What is out of range of the values that all clips of a folder share."""
    most = f"even, 32x32 to {LARGEST[0]}x{LARGEST[1]}"
    wide_enough = 32 <= width <= LARGEST[0] and 32 <= height <= LARGEST[1]
    checks = {
        f"seed {seed}: expected 0 or more": seed >= 0,
        f"seconds {seconds}: expected 0.5 to {LONGEST:g}": 0.5 <= seconds <= LONGEST,
        f"fps {fps}: expected 1 to 60": 1 <= fps <= 60,
        f"size {width}x{height}: expected {most}": wide_enough and not (width % 2 or height % 2),
    }
    return [what for what, fine in checks.items() if not fine]


def places(folder: Path, name: str) -> tuple[Path, Path]:
    """A clip's video and, written after it, its truth."""
    return folder / "videos" / f"{name}.mp4", folder / "truth" / f"{name}.json"


def is_rendered(folder: Path, name: str) -> bool:
    """Whether both are there."""
    return all(place.is_file() for place in places(folder, name))


def check_card(card: Path, expected: Mapping[str, Any]) -> None:
    """Refuse a folder whose clips are of another plan, or whose annotations somebody else wrote.

    Raises:
        UsageError: with every value that differs, or with the files that would be lost.
        DataError: for a card that is no JSON.
    """
    if card.parent.exists() and not card.parent.is_dir():
        raise UsageError(f"{card.parent} is a file", expected="a folder", hint="name another")
    if not card.is_file():
        foreign = [name for name in WRITTEN if (card.parent / name).exists()]
        if foreign:
            raise UsageError(
                f"{card.parent} holds {', '.join(foreign)} and no {card.name}: not of this command",
                hint="name another folder",
            )
        return
    stored = read_card(card)
    other = [
        f"{key}: others than those there (files were added, removed or changed)"
        if key == "sources"
        else f"{key}: {stored.get(key)} there, {expected[key]} asked"
        for key in expected
        if stored.get(key) != expected[key]
    ]
    if other:
        listed = "\n    ".join(other)
        raise UsageError(
            f"{card.parent} holds clips of another plan:\n    {listed}",
            hint="name another folder, or ask for the same values",
        )


def read_card(card: Path) -> dict[str, Any]:
    """What a folder of made clips or features says of itself.

    Raises:
        DataError: if it is no JSON of an object.
    """
    try:
        content = json.loads(card.read_text("utf-8"))
    except (ValueError, RecursionError) as e:
        raise DataError(f"{card}: not JSON ({e})", hint="remove the folder or name another") from e
    if not isinstance(content, dict):
        raise DataError(f"{card}: no card of made clips", hint="remove the folder")
    return content


def write_card(card: Path, plan: Mapping[str, Any], *, clips: int, command: str) -> None:
    """Write what the clips share, how many they are, and the command that made them."""
    content = {**plan, "clips": clips, "command": command}
    write_whole(card, json.dumps(content, indent=1, sort_keys=True) + "\n")


def origin_of(root: Path) -> str:
    """sha256 of the plan that a folder's clips were rendered by, ``""`` where it has no card.

    Raises:
        DataError: for a card that is no JSON.
    """
    plans = []
    for card in (root / name for name in CARDS):
        if card.is_file():
            content = read_card(card)
            plans.append({k: v for k, v in content.items() if k not in ("clips", "command")})
    return json_hash(plans) if plans else ""


def clips_of(card: Path) -> int:
    """How many clips a folder's card says there are."""
    return int(read_card(card)["clips"])


def render_all(
    render: Callable[[T], object], items: Sequence[T], *, jobs: int, progress: Progress | None
) -> None:
    """Render every item, in processes of their own where ``jobs`` isn't 1 (0: one a core).

    Raises:
        UsageError: for fewer processes than none.
    """
    if jobs < 0:
        raise UsageError(f"{jobs} processes", expected="1 or more, or 0 for one a core")
    count = len(items)
    jobs = min(jobs or os.cpu_count() or 1, count)
    if jobs == 1:
        for done, item in enumerate(items, start=1):
            render(item)
            if progress:
                progress(done, count)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        futures = [pool.submit(render, item) for item in items]
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                future.result()
                if progress:
                    progress(done, count)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def write_annotations(folder: Path, clips: Iterable[Labelled]) -> Path:
    """Write ``annotations.csv``, and AVE's text files for clips with one event.

    Returns:
        The path of ``annotations.csv``.
    """
    rows: list[list[str]] = []
    ave: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for clip in clips:
        file = f"videos/{clip.name}.mp4"
        rows += [
            [file, _seconds(e.start), _seconds(e.end), e.label, clip.split] for e in clip.events
        ] or [[file, "", "", "", clip.split]]
        ave[clip.split] += _ave_rows(clip)
    target = folder / "annotations.csv"
    with whole(target) as temporary:
        temporary.write_text(_csv(rows), encoding="utf-8")
    for split, lines in ave.items():
        write_whole(folder / f"{split}Set.txt", _lines(lines))
    everything = [line for lines in ave.values() for line in lines]
    write_whole(folder / "Annotations.txt", _lines([AVE_HEADER, *everything]))
    return target


def _seconds(value: float) -> str:
    """As short as is right to half a millisecond."""
    short = float(f"{value:g}")
    near = short if abs(short - value) < 5e-4 else round(value, 3)
    return clock.time_text(near).removesuffix(".0")


def _csv(rows: Iterable[list[str]]) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["file", "start", "end", "label", "split"])
    writer.writerows(rows)
    return out.getvalue()


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _ave_rows(clip: Labelled) -> list[str]:
    if len(clip.whole) != 1:
        return []
    event = clip.whole[0]
    if not (event.start == int(event.start) and event.end == int(event.end)):
        return []
    return [f"{event.label}&{clip.name}&good&{int(event.start)}&{int(event.end)}"]
