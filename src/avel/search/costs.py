"""What every window of a track costs a query, and which windows are the best."""

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
    network: Model, query: Floats, pieces: Iterable[Floats], *, modality: Literal["audio", "visual"]
) -> NDArray[np.float32]:
    """What every window of a track costs that is as long as the query.

    Args:
        network: A model of CML for separate recordings.
        query: (l, A) or (l, H, W, V), the rows of the modality that asks.
        pieces: The answering track in pieces of any length, (n, H, W, V) or (n, A).
        modality: Which modality asks.

    Returns:
        (N - l + 1,) the mean of the windows' segments; none where the track is shorter.
    """
    length, found = len(query), []
    held: list[Floats] = []
    for piece in pieces:
        held.append(piece)
        if sum(map(len, held)) >= CHUNK + length - 1:
            track = np.concatenate(held)
            found.append(_costs(network, query, track, modality))
            held = [track[len(track) - length + 1 :]]
    track = np.concatenate(held) if held else query[:0]
    if len(track) >= length:
        found.append(_costs(network, query, track, modality))
    return np.concatenate(found) if found else np.zeros(0, np.float32)


def _costs(
    network: Model, query: Floats, track: Floats, modality: Literal["audio", "visual"]
) -> NDArray[np.float32]:
    device = next(network.parameters()).device
    asks, answers = (
        torch.from_numpy(np.ascontiguousarray(x, np.float32))[None].to(device)
        for x in (query, track)
    )
    audio, visual = (asks, answers) if modality == "audio" else (answers, asks)
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
        cost: (N - l + 1,) of each window; what isn't finite is passed over.
        present: (N,) whether a segment has the modality that answers. A window without any is no
            answer.
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
