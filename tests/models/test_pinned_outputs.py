"""Every variant's output on random weights, pinned: a change of the arithmetic is noticed anywhere.

The arrays are avel's own (torch 2.13.0, float32, one thread). Where a change is meant,
`python -m tests.models.test_pinned_outputs` writes them again.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from avel.models.base import Query
from tests.variants import A, H, V, Variant, W, variants

PINNED = Path(__file__).parents[1] / "baselines" / "model_outputs.npz"
T = 5
EVERY, _ = variants()


def output(variant: Variant) -> NDArray[np.float32]:
    """(2, T, C+1) scores, or (2, windows) costs of both queries of CML, on fixed inputs."""
    draw = np.random.default_rng(7)
    audio = torch.from_numpy(draw.random((2, T, A), dtype=np.float32))
    visual = torch.from_numpy(draw.random((2, T, H, W, V), dtype=np.float32))
    model = variant.build()
    with torch.no_grad():
        if variant.task != "cml":
            scores = model(audio=audio, visual=visual).scores
            assert scores is not None
            return scores.numpy()
        costs = [
            model.window_costs(audio=audio, visual=visual, query=Query(modality, 1, 2))
            for modality in ("audio", "visual")
        ]
    return torch.cat(costs, -1).float().numpy()


@pytest.fixture(scope="module")
def pinned() -> dict[str, NDArray[np.float32]]:
    with np.load(PINNED) as arrays:
        return dict(arrays)


@pytest.mark.parametrize("variant", EVERY, ids=str)
def test_outputs_are_those_of_before(
    variant: Variant, pinned: dict[str, NDArray[np.float32]]
) -> None:
    assert np.allclose(output(variant), pinned[str(variant)], rtol=1e-3, atol=1e-5)


def test_nothing_else_is_pinned(pinned: dict[str, NDArray[np.float32]]) -> None:
    assert pinned.keys() == {str(v) for v in EVERY}


if __name__ == "__main__":
    torch.set_num_threads(1)
    np.savez_compressed(PINNED, **{str(v): output(v) for v in EVERY})
