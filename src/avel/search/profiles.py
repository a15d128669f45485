"""Windows compared by their profiles: the evidence for named events, or embeddings.

Ours. A profile is a row of numbers a segment; a query's and a window's is the mean over the
segments that have the modality. What is typical of the candidates is subtracted, so that windows
that are near to everything don't win.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avel.events.vocabulary import NamedEvent
from avel.types import Bools, Floats, Modality

if TYPE_CHECKING:
    from avel.models.named_events import NamedEvents

#: With so many candidates their mean counts half: few don't tell what is typical.
FEW = 10
#: The power of a query's evidence: what is surest weighs most.
POWER = 3
#: Windows compared at a time: memory doesn't grow with a candidate's length.
CHUNK = 4096
#: An event is shared from this probability on, with so much evidence in either (none can do without
#: it, however sure the other is); so many are named at most.
SHARED, LEAST, MOST = 0.5, 1.0, 3


@dataclass(frozen=True)
class Profile:
    """The rows of a query or a candidate.

    Args:
        rows: (T, E), of any numbers; a segment whose numbers aren't finite is taken as missing.
        present: (T,) whether a segment has the modality.
    """

    rows: Floats
    present: Bools

    def finite(self) -> tuple[NDArray[np.float64], Bools]:
        """The rows with zeros for those that are missing, and which aren't."""
        known = self.present & np.isfinite(self.rows).all(1)
        return np.where(known[:, None], self.rows, 0.0).astype(np.float64), known

    def peak(self) -> Floats:
        """(E,) the largest of each number; -inf where no segment is present."""
        rows, known = self.finite()
        return np.asarray(np.where(known[:, None], rows, -np.inf).max(0))


def evidence(network: NamedEvents, features: Floats, modality: Modality) -> Floats:
    """(n, E) evidence for the events of the vocabulary that sounds and pictures share.

    Args:
        network: The model.
        features: (n, A) or (n, H, W, V).
        modality: Which of both they are.
    """
    return _told(network.profile, network, features, modality).astype(np.float16)


def perceived(network: NamedEvents, features: Floats, modality: Modality) -> Floats:
    """(n, E) the probabilities of the same events by one modality; arguments as above."""
    return _told(network.perceived, network, features, modality)


def _told(
    tell: Callable[[Tensor, Modality], Tensor],
    network: NamedEvents,
    features: Floats,
    modality: Modality,
) -> NDArray[np.float32]:
    given = torch.from_numpy(np.ascontiguousarray(features, np.float32))
    with torch.inference_mode():
        made = tell(given.to(network.audio_weight.device), modality)
    return np.asarray(made.cpu().numpy(), np.float32)


def distances(query: Profile, candidates: Sequence[Profile], *, events: bool) -> list[Floats]:
    """How far every window is from a query: 1 - cosine, from 0 (alike) to 2 (opposite).

    A window is as long as the query, or all of a shorter candidate. Its norm in the cosine is
    the larger one of those before and after what is typical is subtracted: little is left of a
    window like all others, and so it isn't near.

    Args:
        query: With at least one segment present.
        candidates: All that is searched: their mean is what is typical.
        events: Whether the profiles are evidence for events, of any modality. The query's is then
            taken to the power :data:`POWER`, and both are centred: a correlation over events. Else
            they are embeddings of one modality, and what is typical is subtracted from the query's
            too.

    Returns:
        (max(T - l, 0) + 1,) for each candidate of T segments.
    """
    typical = _typical(candidates)
    rows, known = query.finite()
    asked = rows.sum(0) / max(int(known.sum()), 1)
    asked = _centred(asked**POWER) if events else asked - typical
    return [_distances(asked, len(rows), c, typical, events=events) for c in candidates]


def _typical(candidates: Sequence[Profile]) -> NDArray[np.float64] | float:
    """The mean over all candidates' segments, the less the fewer candidates there are."""
    total: NDArray[np.float64] | float = 0.0
    segments = files = 0
    for rows, known in (c.finite() for c in candidates):
        total = total + rows.sum(0)
        segments, files = segments + int(known.sum()), files + bool(known.any())
    return total / max(segments, 1) * (files / (files + FEW))


def _distances(
    asked: NDArray[np.float64],
    length: int,
    candidate: Profile,
    typical: NDArray[np.float64] | float,
    *,
    events: bool,
) -> Floats:
    length = min(length, len(candidate.rows))
    count = len(candidate.rows) - length + 1
    found = []
    for first in range(0, count, CHUNK):
        part = slice(first, min(first + CHUNK, count) + length - 1)
        rows, known = Profile(candidate.rows[part], candidate.present[part]).finite()
        sums = _sums(rows, length)
        whole = sums / np.maximum(_sums(known[:, None], length), 1)
        windows = whole - typical
        if events:
            whole, windows = _centred(whole), _centred(windows)
        norms = np.maximum(*(np.linalg.norm(x, axis=1) for x in (whole, windows)))
        cosine = windows @ asked / np.maximum(norms * np.linalg.norm(asked), 1e-12)
        found.append(np.clip(1 - cosine, 0, 2))
    return np.concatenate(found).astype(np.float32)


def _sums(rows: NDArray[np.generic], length: int) -> NDArray[np.float64]:
    """(n - length + 1, E) the sums of every ``length`` rows."""
    total = np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(rows, 0, dtype=np.float64)])
    return np.asarray(total[length:] - total[:-length])


def _centred(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(x - x.mean(-1, keepdims=True))


def shared_events(
    network: NamedEvents, query: Floats, window: Floats, modalities: tuple[Modality, Modality]
) -> tuple[str, ...]:
    """The events that a query and a window both have, the likeliest first.

    Args:
        network: The model.
        query, window: (E,) the peaks of their evidence where their modalities differ: the
            probability is that of the event if both were one recording. Else the peaks of their
            probabilities, of which the lower one counts.
        modalities: Of the query and of the window.
    """
    if modalities[0] == modalities[1]:
        found = np.minimum(query, window)
    else:
        heard, seen = (query, window) if modalities[0] == "audio" else (window, query)
        device = network.audio_weight.device
        given = [torch.from_numpy(np.asarray(x, np.float32)).to(device) for x in (heard, seen)]
        with torch.inference_mode():
            found = network.shared(*given).cpu().numpy()
        found = np.where(np.minimum(heard, seen) >= LEAST, found, 0.0)
    named: list[NamedEvent] = []
    for i in np.argsort(-found, kind="stable"):
        event = network.common[i]
        if found[i] < SHARED or len(named) == MOST:
            break
        if not event.kind_of and not any(_alike(event, other) for other in named):
            named.append(event)
    return tuple(event.name for event in named)


def _alike(a: NamedEvent, b: NamedEvent) -> bool:
    """Whether two events share classes in both modalities (a rooster, a chicken)."""
    return bool(set(a.audio) & set(b.audio) and set(a.visual) & set(b.visual))
