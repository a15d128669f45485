"""The costs of a candidate's windows for a query, and the best windows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from avel.models.base import Model, Query
from avel.types import Bools, Floats

#: Windows that go through the network together: memory doesn't grow with a track's length.
CHUNK = 256


def costs(
    network: Model, query: Floats, blocks: Iterable[Floats], *, modality: Literal["audio", "visual"]
) -> NDArray[np.float32]:
    """The cost of every window of a candidate that is as long as the query.

    Args:
        network: A model of CML for separate recordings.
        query: (l, A) or (l, H, W, V), its features.
        blocks: The candidate's features in blocks of any length, (n, H, W, V) or (n, A).
        modality: Of the query.

    Returns:
        (N - l + 1,) the mean costs of the windows' segments; empty if the track is shorter.
    """
    length, results = len(query), []
    buffer: list[Floats] = []
    for block in blocks:
        buffer.append(block)
        if sum(map(len, buffer)) >= CHUNK + length - 1:
            track = np.concatenate(buffer)
            results.append(_costs(network, query, track, modality))
            buffer = [track[len(track) - length + 1 :]]
    track = np.concatenate(buffer) if buffer else query[:0]
    if len(track) >= length:
        results.append(_costs(network, query, track, modality))
    return np.concatenate(results) if results else np.zeros(0, np.float32)


def _costs(
    network: Model, query: Floats, track: Floats, modality: Literal["audio", "visual"]
) -> NDArray[np.float32]:
    device = next(network.parameters()).device
    query_rows, candidate_rows = (
        torch.from_numpy(np.ascontiguousarray(x, np.float32))[None].to(device)
        for x in (query, track)
    )
    audio, visual = (
        (query_rows, candidate_rows) if modality == "audio" else (candidate_rows, query_rows)
    )
    with torch.inference_mode():
        cost = network.window_costs(
            audio=audio, visual=visual, query=Query(modality, 0, len(query))
        )
    return (cost[0].float() / len(query)).cpu().numpy()


def best(
    cost: Floats, present: Bools, length: int, *, top: int, overlaps: bool = False
) -> list[int]:
    """The first segments of a track's best windows, best first, the earlier of equals.

    Args:
        cost: (N - l + 1,) of each window; values that aren't finite are left out.
        present: (N,) whether a segment has the candidate's modality. Windows without any are left
            out.
        length: l.
        top: How many at most.
        overlaps: False leaves out windows that share a segment with a better one.
    """
    before = np.concatenate([[0], np.cumsum(present)])
    possible = np.isfinite(cost) & (before[length:] > before[:-length])
    chosen: list[int] = []
    for start in np.argsort(cost, kind="stable"):
        if len(chosen) == top:
            break
        free = overlaps or all(abs(int(start) - other) >= length for other in chosen)
        if possible[start] and free:
            chosen.append(int(start))
    return chosen
