"""The numbers of the released AVE code, which ours must give with the same weights (1e-5)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from avel.models.av import Av
from avel.models.avdln import Avdln
from avel.models.base import Batch, Output, Query, TaskName
from avel.models.layers import pair_distance
from avel.training.released import convert_weights

ATOL = 1e-5


@pytest.fixture(scope="module")
def golden(shared: Path) -> Path:
    """The folder of the released networks' outputs."""
    return shared / "golden"


def converted(golden: Path, folder: Path, name: str, task: TaskName) -> Av:
    """The network of a name with the made-up weights, read the way a user's file is."""
    shapes = json.loads((golden / "ave_release_state.json").read_text())[name]
    rng = np.random.default_rng(11)
    state = {n: (rng.standard_normal(shapes[n]) * 0.2).astype("float32") for n in sorted(shapes)}
    path = folder / f"{name}.pt"
    torch.save({n: torch.from_numpy(a) for n, a in state.items()}, path)
    network = convert_weights(path, task=task).network
    assert isinstance(network, Av)
    return network


def clips() -> Batch:
    """The inputs that the outputs belong to."""
    rng = np.random.default_rng(7)
    audio = np.maximum(rng.standard_normal((3, 10, 128)), 0).astype("float32")
    visual = np.maximum(rng.standard_normal((3, 10, 7, 7, 512)), 0).astype("float32")
    return Batch(torch.from_numpy(audio), torch.from_numpy(visual))


def answer(network: Av) -> Output:
    batch = clips()
    with torch.no_grad():
        found = network(audio=batch.audio, visual=batch.visual)
    assert isinstance(found, Output)
    return found


def expect(golden: Path, name: str, got: torch.Tensor) -> None:
    expected: NDArray[np.float32] = np.load(golden / "ave_release.npz")[name]
    assert got.shape == expected.shape
    assert np.abs(got.numpy() - expected).max() < ATOL


@pytest.mark.parametrize("name", ["av_att", "dmrn"])
def test_supervised(golden: Path, tmp_path: Path, name: str) -> None:
    scores = answer(converted(golden, tmp_path, name, "sel")).scores
    assert scores is not None
    expect(golden, f"{name}_0", scores)


def test_weak(golden: Path, tmp_path: Path) -> None:
    network = converted(golden, tmp_path, "w_av_att", "wsel")
    found = answer(network)
    expect(golden, "w_av_att_1", found.parts["logits"])
    expect(golden, "w_av_att_0", network.pooled(found).softmax(-1))


def test_the_papers_attention_gives_other_numbers(golden: Path, tmp_path: Path) -> None:
    network = converted(golden, tmp_path, "av_att", "sel")
    assert network.look is not None
    network.look.release = False
    scores = answer(network).scores
    assert scores is not None
    expected = np.load(golden / "ave_release.npz")["av_att_0"]
    assert np.abs(scores.numpy() - expected).max() > 100 * ATOL


def test_avdln(golden: Path) -> None:
    import h5py

    network = convert_weights(golden / "cmm_model_weights.h5").network
    assert isinstance(network, Avdln)
    with h5py.File(golden.parent / "ave" / "audio_feature_noisy.h5", "r") as f:
        audio = torch.from_numpy(f["avadataset"][:4].astype("float32"))
    rng = np.random.default_rng(5)
    means = np.maximum(rng.standard_normal((4, 10, 512)), 0).astype("float32")
    visual = torch.from_numpy(means)[:, :, None, None]  # maps of one region
    expected = np.load(golden / "avdln_release.npz")["distances"]  # (clip, visual, audio)
    with torch.no_grad():
        got = pair_distance(*network(audio=audio, visual=visual).parts.values()).numpy()
        costs = network.window_costs(audio=audio, visual=visual, query=Query("audio", 2, 3))
    assert np.abs(got.transpose(0, 2, 1) - expected).max() < ATOL
    sums = np.stack([sum(expected[:, t + i, 2 + i] for i in range(3)) for t in range(8)], 1)
    assert np.abs(costs.numpy() - sums).max() < 3 * ATOL
