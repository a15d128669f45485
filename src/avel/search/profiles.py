"""Distances of windows by their profiles: the evidence for named events, or embeddings.

Our own method. A profile is a vector a segment; a query's or window's is the mean over its segments
that have the modality. The mean over the candidates is subtracted, so that windows that resemble
all others don't rank first.
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

#: With so many candidates their mean is subtracted by half: few give a poor estimate of it.
FEW = 10
#: The power of a query's evidence, so that the strongest events have the most weight.
POWER = 3
#: Windows compared at a time: memory doesn't grow with a candidate's length.
CHUNK = 4096
#: An event is shared from this probability on, with at least so much evidence in each modality; so
#: many are named at most.
SHARED, LEAST, MOST = 0.5, 1.0, 3


@dataclass(frozen=True)
class Profile:
    """The rows of a query or a candidate.

    Args:
        rows: (T, E); a segment with values that aren't finite counts as missing.
        present: (T,) whether a segment has the modality.
    """

    rows: Floats
    present: Bools

    def finite(self) -> tuple[NDArray[np.float64], Bools]:
        """The rows, zero where missing, and which aren't missing."""
        known = self.present & np.isfinite(self.rows).all(1)
        return np.where(known[:, None], self.rows, 0.0).astype(np.float64), known

    def peak(self) -> Floats:
        """(E,) the maximum over segments; -inf where none is present."""
        rows, known = self.finite()
        return np.asarray(np.where(known[:, None], rows, -np.inf).max(0))


def evidence(network: NamedEvents, features: Floats, modality: Modality) -> Floats:
    """(n, E) evidence for the events of the vocabulary that have classes in both modalities.

    Args:
        network: The model.
        features: (n, A) or (n, H, W, V).
        modality: Of the features.
    """
    return _run(network.profile, network, features, modality).astype(np.float16)


def perceived(network: NamedEvents, features: Floats, modality: Modality) -> Floats:
    """(n, E) the probabilities of the same events by one modality; arguments as above."""
    return _run(network.perceived, network, features, modality)


def _run(
    method: Callable[[Tensor, Modality], Tensor],
    network: NamedEvents,
    features: Floats,
    modality: Modality,
) -> NDArray[np.float32]:
    inputs = torch.from_numpy(np.ascontiguousarray(features, np.float32))
    with torch.inference_mode():
        outputs = method(inputs.to(network.audio_weight.device), modality)
    return np.asarray(outputs.cpu().numpy(), np.float32)


def distances(query: Profile, candidates: Sequence[Profile], *, events: bool) -> list[Floats]:
    """How far every window is from a query: 1 - cosine, from 0 (alike) to 2 (opposite).

    A window is as long as the query, or all of a shorter candidate. Its norm in the cosine is
    the larger of those before and after the candidates' mean is subtracted, so that a window close
    to that mean isn't near to any query.

    Args:
        query: With at least one segment present.
        candidates: All that are searched; their mean is subtracted.
        events: Whether the profiles are evidence for events, of any modality. The query's is then
            raised to the power :data:`POWER`, and both are centred: a correlation over events. Else
            they are embeddings of one modality, and the mean is subtracted from the query's too.

    Returns:
        (max(T - l, 0) + 1,) for each candidate of T segments.
    """
    typical = _typical(candidates)
    rows, known = query.finite()
    query_profile = rows.sum(0) / max(int(known.sum()), 1)
    query_profile = _centred(query_profile**POWER) if events else query_profile - typical
    return [_distances(query_profile, len(rows), c, typical, events=events) for c in candidates]


def _typical(candidates: Sequence[Profile]) -> NDArray[np.float64] | float:
    """The mean over all candidates' segments, scaled down for few candidates."""
    total: NDArray[np.float64] | float = 0.0
    segments = files = 0
    for rows, known in (c.finite() for c in candidates):
        total = total + rows.sum(0)
        segments, files = segments + int(known.sum()), files + bool(known.any())
    return total / max(segments, 1) * (files / (files + FEW))


def _distances(
    query_profile: NDArray[np.float64],
    length: int,
    candidate: Profile,
    typical: NDArray[np.float64] | float,
    *,
    events: bool,
) -> Floats:
    length = min(length, len(candidate.rows))
    count = len(candidate.rows) - length + 1
    results = []
    for first in range(0, count, CHUNK):
        part = slice(first, min(first + CHUNK, count) + length - 1)
        rows, known = Profile(candidate.rows[part], candidate.present[part]).finite()
        sums = _sums(rows, length)
        whole = sums / np.maximum(_sums(known[:, None], length), 1)
        windows = whole - typical
        if events:
            whole, windows = _centred(whole), _centred(windows)
        norms = np.maximum(*(np.linalg.norm(x, axis=1) for x in (whole, windows)))
        cosine = windows @ query_profile / np.maximum(norms * np.linalg.norm(query_profile), 1e-12)
        results.append(np.clip(1 - cosine, 0, 2))
    return np.concatenate(results).astype(np.float32)


def _sums(rows: NDArray[np.generic], length: int) -> NDArray[np.float64]:
    """(n - length + 1, E) the sums of every ``length`` rows."""
    total = np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(rows, 0, dtype=np.float64)])
    return np.asarray(total[length:] - total[:-length])


def _centred(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(x - x.mean(-1, keepdims=True))


def shared_events(
    network: NamedEvents, query: Floats, window: Floats, modalities: tuple[Modality, Modality]
) -> tuple[str, ...]:
    """The events that a query and a window share, the most probable first.

    Args:
        network: The model.
        query, window: (E,) the peaks of their evidence where their modalities differ: the
            probability is that of the event if both were one recording. Else the peaks of their
            probabilities; the lower one is taken.
        modalities: Of the query and of the window.
    """
    if modalities[0] == modalities[1]:
        probabilities = np.minimum(query, window)
    else:
        audio, visual = (query, window) if modalities[0] == "audio" else (window, query)
        device = network.audio_weight.device
        inputs = [torch.from_numpy(np.asarray(x, np.float32)).to(device) for x in (audio, visual)]
        with torch.inference_mode():
            probabilities = network.shared(*inputs).cpu().numpy()
        probabilities = np.where(np.minimum(audio, visual) >= LEAST, probabilities, 0.0)
    named: list[NamedEvent] = []
    for i in np.argsort(-probabilities, kind="stable"):
        event = network.common[i]
        if probabilities[i] < SHARED or len(named) == MOST:
            break
        if not event.kind_of and not any(_share_classes(event, other) for other in named):
            named.append(event)
    return tuple(event.name for event in named)


def _share_classes(a: NamedEvent, b: NamedEvent) -> bool:
    """Whether two events share classes in both modalities (a rooster, a chicken)."""
    return bool(set(a.audio) & set(b.audio) and set(a.visual) & set(b.visual))
