"""Who is seen and heard when, in whole seconds: what drawn and composed clips share.

A clip is one or more acts. An act has an event (a thing on screen **and** sounding). Beside it
most have a rival sound (another class, its thing not in the picture) and a rival thing (yet another
class, its sound not heard), drawn from the same distributions as the event's own: one modality
alone can't tell which of two it is. Lengths follow AVE's annotations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

#: AVE's event lengths in seconds of ten, counted over its 4143 rows (the empty one left out).
AVE_LENGTHS = {2: 214, 3: 220, 4: 217, 5: 196, 6: 200, 7: 139, 8: 111, 9: 95, 10: 2750}
#: Shares of (rival sound, rival thing) in clips.
RIVALS = {(True, True): 0.76, (True, False): 0.06, (False, True): 0.06, (False, False): 0.12}
#: Share of clips without any event.
EMPTY = 0.02
#: Longest act in seconds: longer clips are several acts, each with its own event.
ACT = 15.0

Rng = np.random.Generator
Span = tuple[float, float]


@dataclass(frozen=True)
class Act:
    """One act, in seconds from its start.

    Args:
        event: Class and span of what is seen and heard, or None.
        visible, audible: Class and span of every thing and every sound, the event's own first.
        rivals: (has a rival sound, has a rival thing).
    """

    event: tuple[str, Span] | None
    visible: list[tuple[str, Span]]
    audible: list[tuple[str, Span]]
    rivals: tuple[bool, bool]


def draw_length(units: int, rng: Rng) -> int:
    """An event's length in units of the act, AVE's distribution scaled to the act."""
    counts = np.array(list(AVE_LENGTHS.values()), dtype=float)
    tenths = int(rng.choice(list(AVE_LENGTHS), p=counts / counts.sum()))
    if tenths == 10 or units < 2:
        return units
    return int(np.clip(round(tenths * units / 10), 1, units - 1))


def _spans_of_event(start: int, end: int, units: int, rng: Rng) -> tuple[Span, Span]:
    """Spans (seen, heard) whose overlap is [start, end): each edge is made by one or both."""

    def edge(limit: int, at: int) -> tuple[int, int]:
        maker = rng.choice(["sight", "sound", "both"], p=[0.4, 0.4, 0.2])
        low, high = sorted((limit, at))
        early = int(rng.integers(low, high + 1)) if rng.random() < 0.5 else limit
        return (at if maker != "sound" else early), (at if maker != "sight" else early)

    visible0, audible0 = edge(0, start)
    visible1, audible1 = edge(units, end)
    return (visible0, visible1), (audible0, audible1)


def draw_event(units: int, full: bool, rng: Rng) -> tuple[Span, Span, Span]:
    """(event, visible, audible) of an act of ``units`` seconds."""
    if full:
        return (0, units), (0, units), (0, units)
    length = units
    while length == units:
        length = draw_length(units, rng)
    start = int(rng.integers(units - length + 1))
    visible, audible = _spans_of_event(start, start + length, units, rng)
    return (start, start + length), visible, audible


def draw_act(units: int, classes: Sequence[str], rng: Rng) -> Act:
    """Who is seen and heard in one act. Rivals' spans are drawn just as the event's are.

    Args:
        units: Its length in whole seconds.
        classes: Those that may be in it, three at least.
        rng: Source of all of it.
    """
    full = units < 2 or draw_length(units, rng) == units
    label, sounding, showing = rng.permutation(list(classes))[:3].tolist()
    keys = list(RIVALS)
    rivals = keys[int(rng.choice(len(keys), p=list(RIVALS.values())))]
    event, visible, audible = draw_event(units, full, rng)
    empty = rng.random() < EMPTY
    rivals = (True, True) if empty else rivals
    in_sight = [] if empty else [(label, visible)]
    in_sound = [] if empty else [(label, audible)]
    if rivals[0]:
        in_sound.append((sounding, draw_event(units, full, rng)[2]))
    if rivals[1]:
        in_sight.append((showing, draw_event(units, full, rng)[1]))
    return Act(None if empty else (label, event), in_sight, in_sound, rivals)


def acts_of(seconds: float) -> list[tuple[float, float]]:
    """(start, length) of a clip's acts, whole seconds each but for the end of the last."""
    count = max(1, int(np.ceil(seconds / ACT - 1e-9)))
    edges = [float(round(seconds * k / count)) for k in range(count)] + [seconds]
    return [(a, b - a) for a, b in pairwise(edges)]


def units_of(length: float) -> int:
    """The whole seconds of an act; one that is shorter counts as one."""
    return max(1, int(length + 1e-6))
