"""Where weights are found, and that nothing but the right file is ever used."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from avel import weights as module
from avel.backbones.base import Weights
from avel.errors import WeightsError
from avel.weights import fill, read_state, weights_file, weights_path, weights_state

CONTENT = b"a network's weights"


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVEL_CACHE", str(tmp_path / "cache"))


def remote(content: bytes = CONTENT) -> Weights:
    digest = hashlib.sha256(content).hexdigest()
    return Weights("some", "some.pth", "http://127.0.0.1:9/some.pth", f"sha256:{digest}", 0, "MIT")


def put(weights: Weights, content: bytes) -> Path:
    path = weights_path(weights)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_file_put_there_by_hand_is_taken() -> None:
    path = put(remote(), CONTENT)
    assert weights_file(remote()) == path and weights_state(remote()) == "present"


def test_without_file_and_network_the_error_names_all_that_is_needed(tmp_path: Path) -> None:
    weights = remote()
    assert weights_state(weights) == "absent"
    with pytest.raises(WeightsError) as raised:
        weights_file(weights)
    message = str(raised.value)
    assert weights.url in message and weights.hash in message
    assert str(tmp_path / "cache" / "weights") in message


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b"!", b""])
def test_a_truncated_or_wrong_file_is_refused(content: bytes) -> None:
    path = put(remote(), content)
    assert weights_state(remote()) == "damaged"
    with pytest.raises(WeightsError, match="isn't the file") as raised:
        weights_file(remote())
    assert remote().hash in str(raised.value) and path.exists()


def test_a_file_is_hashed_once_and_again_when_it_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    whole = module.hash_matches
    monkeypatch.setattr(
        module, "hash_matches", lambda p, h: bool(hashed.append(str(p))) or whole(p, h)
    )
    path = put(remote(), CONTENT)
    weights_file(remote())
    weights_file(remote())
    assert len(hashed) == 1
    path.write_bytes(CONTENT.upper())  # the same size
    os.utime(path, ns=(1, 1))
    assert weights_state(remote()) == "damaged" and len(hashed) == 2


def test_packaged_weights_come_from_the_package() -> None:
    missing = Weights("tiny", "no-such.safetensors", "", "sha256:" + "0" * 64, 0, "MIT")
    assert weights_path(missing).parent.name == "pretrained"
    with pytest.raises(WeightsError, match="missing from the package"):
        weights_file(missing)


class Malice:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, ("owned",))


def test_nothing_but_tensors_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pth"
    torch.save({"a": Malice()}, path)
    with pytest.raises(WeightsError, match="can't be read"):
        read_state(path)
    assert not (tmp_path / "owned").exists()


def test_what_is_no_state_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.pth"
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(WeightsError, match="can't be read"):
        read_state(path)
    torch.save([torch.zeros(1)], path)
    with pytest.raises(WeightsError, match="list"):
        read_state(path)


def test_filling_names_every_mistake_and_changes_nothing(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    before = {n: t.clone() for n, t in network.state_dict().items()}
    wrong = {"0.weight": torch.zeros(3, 3), "0.bias": torch.zeros(3), "1.weight": torch.zeros(1, 3)}
    with pytest.raises(WeightsError) as raised:
        fill(network, wrong, source=tmp_path / "f")
    assert "0.weight: (3, 3), wanted (3, 2)" in str(raised.value)
    assert "1.bias: missing" in str(raised.value) and "0.bias" not in str(raised.value)
    assert all(torch.equal(t, before[n]) for n, t in network.state_dict().items())


def test_filling_takes_all_as_float32(tmp_path: Path) -> None:
    network = nn.Linear(2, 3)
    held = {"weight": torch.rand(3, 2, dtype=torch.float64), "bias": torch.rand(3).half()}
    fill(network, {**held, "other": torch.zeros(9)}, source=tmp_path / "f")
    assert network.weight.dtype == network.bias.dtype == torch.float32
    assert torch.equal(network.weight, held["weight"].float())
