"""Log-mel patches against an independent float64 reference, written after VGGish's definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from avel.features.logmel import log_mel, mel_matrix
from avel.media import mel


def hertz_to_mel(hertz: float) -> float:
    return 1127.0 * math.log(1.0 + hertz / 700.0)


def reference(second: NDArray[np.float64]) -> NDArray[np.float64]:
    """One patch with loops and an explicit Fourier sum, sharing nothing with the code tested."""
    window = np.array([0.5 - 0.5 * math.cos(2 * math.pi * n / 400) for n in range(400)])
    edges = np.linspace(hertz_to_mel(125.0), hertz_to_mel(7500.0), 66)
    mel = np.zeros((257, 64))
    for k in range(1, 257):
        at = hertz_to_mel(k * 8000.0 / 256)
        for b in range(64):
            lower, centre, upper = edges[b : b + 3]
            mel[k, b] = max(
                0.0, min((at - lower) / (centre - lower), (upper - at) / (upper - centre))
            )
    phase = np.exp(-2j * np.pi * np.outer(np.arange(257), np.arange(400)) / 512)
    rows = []
    for first in range(0, 16000 - 400 + 1, 160):
        spectrum = np.abs(phase @ (second[first : first + 400] * window))
        rows.append(np.log(spectrum @ mel + 0.01))
    return np.array(rows[:96])


def signals() -> dict[str, NDArray[np.float64]]:
    rng = np.random.default_rng(7)
    t = np.arange(16000) / 16000
    click = np.zeros(16000)
    click[8000] = 1.0
    return {
        "noise": rng.normal(0, 0.1, 16000),
        "sine": 0.5 * np.sin(2 * np.pi * 440 * t),
        "chirp": 0.8 * np.sin(2 * np.pi * (200 + 3000 * t) * t),
        "constant": np.full(16000, 0.3),
        "click": click,
        "silence": np.zeros(16000),
        "last samples": np.r_[np.zeros(15600), np.ones(400)],
    }


@pytest.mark.parametrize("name", list(signals()))
def test_equals_the_float64_reference(name: str) -> None:
    second = signals()[name]
    ours = log_mel(torch.from_numpy(second.astype(np.float32))[None])[0].double().numpy()
    assert ours.shape == (96, 64)
    assert np.abs(ours - reference(second.astype(np.float32).astype(np.float64))).max() < 1e-5


@pytest.mark.parametrize("length", [1, 4000, 15600, 16000, 20000])
def test_without_torch_it_is_the_same(length: int) -> None:
    rng = np.random.default_rng(3)
    samples = rng.normal(0, 0.1, (5, length)).astype(np.float32)
    theirs = log_mel(torch.from_numpy(samples)).numpy()
    ours = mel.log_mel(samples)
    assert ours.shape == (5, 96, 64) and ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, atol=2e-6)


def test_golden_values_of_a_tone() -> None:
    """Values printed once by the reference above for 0.5 sin(2 pi 1000 t)."""
    t = torch.arange(16000, dtype=torch.float64) / 16000
    patch = log_mel((0.5 * torch.sin(2 * torch.pi * 1000 * t))[None])[0]
    assert int(patch[40].argmax()) == 19
    assert float(patch[40, 19]) == pytest.approx(4.118052, abs=1e-4)


def test_silence_is_ln_of_the_offset() -> None:
    assert torch.allclose(log_mel(torch.zeros(2, 16000)), torch.full((2, 96, 64), math.log(0.01)))


def test_seconds_are_independent() -> None:
    x = torch.randn(5, 16000, generator=torch.Generator().manual_seed(0)) * 0.1
    together = log_mel(x)
    alone = torch.cat([log_mel(x[i : i + 1]) for i in range(5)])
    assert torch.allclose(together, alone, atol=1e-5)


def test_short_input_is_padded_with_zeros() -> None:
    x = torch.randn(1, 9000, generator=torch.Generator().manual_seed(1))
    padded = torch.nn.functional.pad(x, (0, 7000))
    assert torch.equal(log_mel(x), log_mel(padded))
    assert log_mel(torch.zeros(3, 0)).shape == (3, 96, 64)


def test_only_the_first_0_975_seconds_enter() -> None:
    x = torch.randn(1, 32000, generator=torch.Generator().manual_seed(2))
    assert torch.equal(log_mel(x), log_mel(x[:, :15600]))


def test_mel_matrix_leaves_out_the_constant_and_the_edges() -> None:
    mel = mel_matrix()
    assert mel.shape == (257, 64)
    assert not mel[0].any()
    hertz = torch.arange(257) * 31.25
    assert not mel[(hertz < 125) | (hertz > 7500)].any()
    assert bool((mel.sum(0) > 0).all())


def test_wrong_shape() -> None:
    with pytest.raises(ValueError, match="expected"):
        log_mel(torch.zeros(16000))
