"""What a configuration says: which sound belongs to which thing, and who is on which side."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

SPLITS = ("train", "val", "test")
#: Kinds of backgrounds made of photographs.
KINDS = ("blur", "texture", "plain")


@dataclass(frozen=True)
class Pair:
    """A sound and a thing that make an event when they are heard and seen together.

    Args:
        sound, image: Folders below those of all sounds and all images.
        label: The event's name.
    """

    sound: str
    image: str
    label: str


@dataclass(frozen=True)
class SideRule:
    """Which sources stand on one side: a share of what is left, or those that their names tell.

    Args:
        share: 0..1 of the sources of each folder, in the order of a hash of their names.
        part: The part of a name that decides in place of the share; then one of:
        among: its values,
        first, last: its smallest and largest number.
    """

    share: float = 0.0
    part: str = ""
    among: tuple[str, ...] = ()
    first: int = 0
    last: int = -1

    def contains(self, parts: Mapping[str, str]) -> bool:
        """Whether a name with these parts is on this side."""
        text = parts.get(self.part, "")
        if self.among:
            return text in self.among
        return text.isascii() and text.isdigit() and self.first <= int(text[:18]) <= self.last


@dataclass(frozen=True)
class Sides:
    """How a folder's files are divided by source into train, val and test.

    Args:
        parts: How names (without ending) are made: ``"{fold}-{source}-{take}"``; "" for any name.
        source: The part that tells the recording a file is of; "" where each file is its own.
        test, val: Who stands there; first test is chosen, of the rest val, and train is what is
            left.
    """

    parts: str = ""
    source: str = ""
    test: SideRule = SideRule(share=0.2)
    val: SideRule = SideRule(share=0.1)


@dataclass(frozen=True)
class Ranges:
    """From what the scenes are drawn.

    Args:
        size: A thing's longer side as a share of the picture's height, smallest and largest.
        snr: Decibels of a sound over the noise, smallest and largest.
        grow, blink, crowd: Share of things that change their size, of those that blink out, and
            of acts with one more silent thing.
    """

    size: tuple[float, float] = (0.14, 0.57)
    snr: tuple[float, float] = (6.0, 30.0)
    grow: float = 0.5
    blink: float = 0.3
    crowd: float = 0.25


@dataclass(frozen=True)
class Pairs:
    """All that ``pairs.toml`` says.

    Args:
        name: Of the configuration.
        pairs: Three or more.
        clips: How many in ``train``, ``val`` and ``test``.
        seconds, fps, width, height: Of every clip.
        sounds, images, backgrounds: How the three folders' files are shared out.
        kinds: Of backgrounds, out of ``KINDS``.
        ranges: From what scenes are drawn.
    """

    name: str
    pairs: tuple[Pair, ...]
    clips: Mapping[str, int] = field(default_factory=lambda: {"train": 70, "val": 10, "test": 20})
    seconds: float = 10.0
    fps: int = 12
    width: int = 320
    height: int = 240
    sounds: Sides = Sides()
    images: Sides = Sides()
    backgrounds: Sides = Sides()
    kinds: tuple[str, ...] = ("blur", "texture")
    ranges: Ranges = Ranges()

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels in the order of the pairs."""
        return tuple(p.label for p in self.pairs)

    def as_json(self) -> dict[str, Any]:
        """As plain data, all but how many clips: a folder may get more of them."""
        plain = asdict(self)
        del plain["clips"]
        return {**plain, "pairs": [asdict(p) for p in self.pairs]}


def name_parts(stem: str, form: str) -> dict[str, str] | None:
    """The parts of a name: ``1-100032-A`` by ``{fold}-{source}-{take}``; None if it has others."""
    fields_, between = form_parts(form)
    parts: dict[str, str] = {}
    if not stem.startswith(between[0]):
        return None
    rest = stem[len(between[0]) :]
    for name, text in zip(fields_, between[1:], strict=True):
        value, met, rest = rest.partition(text) if text else (rest, True, "")
        if not (value and met):
            return None
        parts[name] = value
    return parts if not rest else None


def form_parts(form: str) -> tuple[list[str], list[str]]:
    """The names in braces of a form, and the text before, between and behind them."""
    parts = re.split(r"\{(\w+)\}", form)
    return parts[1::2], parts[0::2]
