"""Weights of the released code become checkpoints; pickled modules and odd files don't."""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import avel.training.released as released
from avel.cli.main import main
from avel.errors import UsageError, WeightsError
from avel.inference.load import load_trained
from avel.models.av import Av
from avel.training.released import AVE_CLASSES, convert_weights, read_released
from avel.types import Features, Grid


def lstm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for end in ("l0", "l0_reverse"):
        found[f"{name}.weight_ih_{end}"] = (512, width)
        found[f"{name}.weight_hh_{end}"] = (512, 128)
        found[f"{name}.bias_ih_{end}"] = found[f"{name}.bias_hh_{end}"] = (512,)
    return found


def linear(name: str, out: int, wide: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, wide), f"{name}.bias": (out,)}


TRUNK = {
    **lstm("lstm_audio", 128), **lstm("lstm_video", 512),
    **linear("affine_audio", 512, 128), **linear("affine_video", 512, 512),
    "affine_v.weight": (49, 512), "affine_g.weight": (49, 512), "affine_h.weight": (1, 49),
}  # fmt: skip
AV_ATT = {**TRUNK, **linear("L1", 64, 512), **linear("L2", 29, 64)}
DMRN = {
    **TRUNK, **linear("U_v.0", 256, 256), **linear("U_v.2", 256, 256),
    **linear("U_a.0", 256, 256), **linear("U_a.2", 256, 256), **linear("L2", 29, 256),
}  # fmt: skip
DENSE = {"dense_1": (512, 128), "dense_2": (128, 64), "dense_3": (128, 128), "dense_4": (128, 64)}


def state(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {n: torch.randn(s, generator=g) * 0.1 for n, s in shapes.items()}


def keras(path: Path, *, first: int = 1, nested: bool = False) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    held: dict[str, Any] = {}
    with h5py.File(path, "w") as f:
        root = f.create_group("model_weights") if nested else f
        root.create_group("input_1")
        for i, shape in enumerate(DENSE.values()):
            name = f"dense_{first + i}"
            held[f"kernel{i}"] = rng.standard_normal(shape).astype("float32")
            held[f"bias{i}"] = rng.standard_normal(shape[1]).astype("float32")
            root[f"{name}/{name}/kernel:0"] = held[f"kernel{i}"]
            root[f"{name}/{name}/bias:0"] = held[f"bias{i}"]
    return held


def write(path: Path, held: dict[str, Tensor]) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **{n: t.numpy() for n, t in held.items()})  # type: ignore[arg-type]
    elif path.suffix == ".safetensors":
        save_file(held, path)
    else:
        torch.save(held, path)
    return path


def features(segments: int = 12) -> Features:
    rng = np.random.default_rng(2)
    card = convert_card()
    return Features(
        audio=rng.random((segments, 128), np.float32),
        visual=rng.random((segments, 7, 7, 512), np.float32),
        grid=Grid(float(segments)),
        audible=np.ones(segments, bool),
        visible=np.ones(segments, bool),
        audio_card=card["audio_card"],
        visual_card=card["visual_card"],
    )


def convert_card() -> dict[str, Any]:
    from avel.backbones.vgg19 import VGG19
    from avel.backbones.vggish import VGGish

    sound, sight = next(iter(VGGish.weights.values())), next(iter(VGG19.weights.values()))
    return {
        "audio_card": {"name": "vggish", "weights": sound.name, "hash": sound.hash},
        "visual_card": {"name": "vgg19", "weights": sight.name, "hash": sight.hash},
    }


@pytest.mark.parametrize("ending", [".pt", ".pth", ".safetensors", ".npz"])
def test_every_format_gives_the_same_network(tmp_path: Path, ending: str) -> None:
    held = state(AV_ATT)
    trained = convert_weights(write(tmp_path / f"w{ending}", held))
    assert isinstance(trained.network, Av)
    assert trained.card["model"] == "av"
    assert trained.card["task"] == "sel"
    assert trained.network.release
    own = trained.network.state_dict()
    assert own["look.w_a.weight"].equal(held["affine_g.weight"])
    assert own["look.w_v.weight"].equal(held["affine_v.weight"])
    assert own["read.visual_lstm.lstm.bias_hh_l0_reverse"].equal(
        held["lstm_video.bias_hh_l0_reverse"]
    )
    assert own["read.head.0.1.weight"].equal(held["L1.weight"])
    assert sum(t.numel() for t in own.values()) == sum(t.numel() for t in held.values())


def test_dmrn_is_told_by_its_names(tmp_path: Path) -> None:
    held = state(DMRN)
    trained = convert_weights(write(tmp_path / "dmrn.pt", held))
    assert trained.card["options"]["fusion"] == "dmrn"
    own = trained.network.state_dict()
    assert own["read.fuse.0.blocks.0.u_v.2.weight"].equal(held["U_v.2.weight"])
    assert own["read.fuse.0.blocks.0.u_a.0.bias"].equal(held["U_a.0.bias"])


def test_a_checkpoint_comes_out_that_predicts(tmp_path: Path) -> None:
    path = write(tmp_path / "w.pt", state(AV_ATT))
    convert_weights(path, task="wsel").save(tmp_path / "run")
    again = load_trained(tmp_path / "run")
    assert again.classes == AVE_CLASSES
    assert again.card["task"] == "wsel"
    assert again.card["seed"] == -1
    scores = again.predict(features())
    assert scores.values.shape == (12, 29)
    assert np.allclose(scores.values.sum(1), 1, atol=1e-5)
    assert np.allclose(scores.values, convert_weights(path).predict(features()).values, atol=1e-6)


def test_wrapped_states_are_unwrapped(tmp_path: Path) -> None:
    held = state(AV_ATT)
    wrapped = {"state_dict": {f"module.{n}": t for n, t in held.items()}, "epoch": 3}
    torch.save(wrapped, tmp_path / "w.pt")
    own = convert_weights(tmp_path / "w.pt").network.state_dict()
    assert own["read.head.0.3.bias"].equal(held["L2.bias"])


@pytest.mark.parametrize(("first", "nested"), [(1, False), (9, True)])
def test_avdln_from_keras(tmp_path: Path, first: int, nested: bool) -> None:
    held = keras(tmp_path / "w.h5", first=first, nested=nested)  # dense_9 comes before dense_10
    trained = convert_weights(tmp_path / "w.h5")
    assert (trained.card["model"], trained.card["task"]) == ("avdln", "cml")
    own = trained.network.state_dict()
    for i, name in enumerate(("visual.0", "visual.2", "audio.0", "audio.2")):
        assert np.array_equal(own[f"{name}.weight"].numpy(), held[f"kernel{i}"].T)
        assert np.array_equal(own[f"{name}.bias"].numpy(), held[f"bias{i}"])
    trained.save(tmp_path / "run")
    assert load_trained(tmp_path / "run").card["model"] == "avdln"


class Evil:
    """Would leave a file behind if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_modules_are_refused_with_the_way_out(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "AV_att.pt"
    torch.save(nn.Linear(2, 2), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match="pickled object") as e:
        convert_weights(path)
    assert "torch.save(net.state_dict(), 'AV_att_state.pt')" in str(e.value)
    assert "only if you trust the file" in e.value.hint
    lines = [line.strip() for line in e.value.hint.splitlines() if line.startswith("    ")]
    assert "weights_only" not in "".join(lines)  # torch before 1.13 doesn't know it
    subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=tmp_path, check=True)
    assert set(read_released(tmp_path / "AV_att_state.pt")) == {"weight", "bias"}


def test_nothing_a_file_names_is_run(tmp_path: Path) -> None:
    path, mark = tmp_path / "w.pt", tmp_path / "ran"
    for dump in (lambda: path.write_bytes(pickle.dumps(Evil(mark))),
                 lambda: torch.save({"L1.weight": Evil(mark)}, path)):  # fmt: skip
        dump()
        with pytest.raises(WeightsError, match="pickled object"):
            convert_weights(path)
    np.savez(tmp_path / "w.npz", x=np.array([Evil(mark)], dtype=object))
    with pytest.raises(WeightsError, match="can't be read"):
        convert_weights(tmp_path / "w.npz")
    assert not mark.exists()
    Path.touch(*Evil(mark).__reduce__()[1])  # what it would have done
    assert mark.exists()


@pytest.mark.parametrize("ending", [".pt", ".pth", ".safetensors", ".npz", ".h5"])
def test_damaged_files_are_named(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"w{ending}"
    for content in (b"", b"hello", b"\x89HDF\r\n\x1a\n" * 9, bytes(range(256)) * 9):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match="w" + ending):
            convert_weights(path)
    if ending == ".h5":
        keras(path)
    else:
        write(path, state(AV_ATT))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(WeightsError, match="w" + ending):
        convert_weights(path)


def test_what_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "w.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as f:
        f.writestr("x.npy", bytes(3_000_000))
    assert path.stat().st_size < 10_000
    monkeypatch.setattr(released, "LARGEST", 1_000_000)
    with pytest.raises(WeightsError, match="too large"):
        read_released(path)


def changed(**shapes: tuple[int, ...] | None) -> dict[str, Tensor]:
    given = {**AV_ATT, **{n.replace("__", "."): s for n, s in shapes.items()}}
    return state({n: s for n, s in given.items() if s is not None})


@pytest.mark.parametrize(
    ("held", "message"),
    [
        (changed(L3__weight=(2, 2)), "L3.weight not known"),
        (changed(L2__weight=None, L2__bias=None), "L2. missing"),
        (changed(L1__bias=None), "head.0.1.bias: missing"),
        (changed(L2__weight=(5, 64), L2__bias=(5,)), "with 28 classes"),
        (changed(lstm_audio__weight_ih_l0=(512, 64)), r"\(512, 64\), expected \(512, 128\)"),
        (changed(lstm_audio__weight_hh_l0=(512, 0)), "expected 1 or more"),
        ({**changed(), "L2.bias": torch.full((29,), float("nan"))}, "not finite"),
        ({"x": torch.zeros(2)}, "none of the release's networks"),
        ({}, "contains no tensors"),
    ],
)
def test_what_doesnt_fit_is_said(tmp_path: Path, held: dict[str, Tensor], message: str) -> None:
    with pytest.raises((WeightsError, UsageError), match=message):
        convert_weights(write(tmp_path / "w.pt", held))


def test_wrong_calls(tmp_path: Path) -> None:
    path = write(tmp_path / "w.pt", state(AV_ATT))
    with pytest.raises(UsageError, match="has the weights of av"):
        convert_weights(path, model="avdln")
    with pytest.raises(UsageError, match="unknown model"):
        convert_weights(path, model="avx")
    with pytest.raises(UsageError, match="unknown task"):
        convert_weights(path, task="cml")
    with pytest.raises(UsageError, match="no ending"):
        convert_weights(tmp_path)
    with pytest.raises(WeightsError, match="isn't there"):
        convert_weights(tmp_path / "nothing.pt")


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = write(tmp_path / "w.pt", state(AV_ATT)), tmp_path / "runs" / "x"
    asked = ["convert", str(path), "-o", str(out), "--model", "av", "--task", "wsel"]
    assert main(asked) == 0
    assert "av for wsel, 28 classes" in capsys.readouterr().out
    assert load_trained(out).card["data"]["note"].endswith("converted from w.pt")
    assert main(asked) == 2
    assert "contains a model already" in capsys.readouterr().err


def test_the_verb_with_other_classes(tmp_path: Path) -> None:
    held = changed(L2__weight=(3, 64), L2__bias=(3,))
    path, names = write(tmp_path / "w.pt", held), tmp_path / "classes.txt"
    names.write_text("Bark\nMandolin\n")
    asked = ["convert", str(path), "-o", str(tmp_path / "x")]
    assert main([*asked, "--classes", str(names)]) == 0
    assert load_trained(tmp_path / "x").classes == ("Bark", "Mandolin")
    names.write_text("Bark\nBark\n")
    assert main([*asked[:-1], str(tmp_path / "y"), "--classes", str(names)]) == 2
    assert not (tmp_path / "y").exists()


@pytest.mark.parametrize(("name", "code"), [("events.xyz", 2), ("nothing.pt", 1)])
def test_the_verb_called_wrongly_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, code: int
) -> None:
    assert main(["convert", str(tmp_path / name), "-o", str(tmp_path / "x")]) == code
    assert name in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_the_classes_are_aves(shared: Path) -> None:
    from avel.data.ave.files import class_order, read_annotations

    rows = read_annotations(shared / "ave" / "Annotations.txt")
    assert class_order(rows) == AVE_CLASSES


# --- sizes before memory -------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [True, False])
def test_a_small_file_of_a_huge_tensor_is_refused_before_memory_is_taken(
    tmp_path: Path, zipped: bool
) -> None:
    """One number, shown 1.5 billion times."""
    path = tmp_path / "a.pt"
    held = {"L1.weight": torch.zeros(1).expand(1_500_000, 1000)}
    torch.save(held, path, _use_new_zipfile_serialization=zipped)
    assert path.stat().st_size < 10_000
    with pytest.raises(WeightsError, match="is too large: 6000000000 bytes once it is read"):
        convert_weights(path)


def test_many_tensors_of_one_storage_count_each(tmp_path: Path) -> None:
    shared = torch.zeros(1000, 1000)
    torch.save({f"t{i}": shared for i in range(100)}, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match="too large"):
        convert_weights(tmp_path / "a.pt")


def test_arrays_of_hdf5_are_counted_together_and_with_their_chunks(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as f:
        for i in range(20):
            f.create_dataset(f"d{i}/kernel:0", shape=(2000, 1000), dtype="f4", compression="gzip")
    assert (tmp_path / "a.h5").stat().st_size < 100_000
    with h5py.File(tmp_path / "b.h5", "w") as f:
        f.create_dataset("d/kernel:0", (4, 4), "f4", maxshape=(None, None), chunks=(20000, 20000))
    for name in ("a.h5", "b.h5"):
        with pytest.raises(WeightsError, match="too large"):
            convert_weights(tmp_path / name)


def test_arrays_that_lie_in_another_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(bytes(64))
    with h5py.File(tmp_path / "a.h5", "w") as f:
        f.create_dataset("d/kernel:0", (4, 4), "f4", external=[(str(tmp_path / "other"), 0, 64)])
    with pytest.raises(WeightsError, match="another file"):
        convert_weights(tmp_path / "a.h5")


@pytest.mark.parametrize("name", ["w.pt", "w.npz", "w.safetensors", "w.h5"])
def test_damaged_weights_end_in_a_sentence(tmp_path: Path, name: str) -> None:
    """Bytes changed, set to extremes, cut out and doubled: read or refused, nothing else."""
    path = tmp_path / name
    held = state(AV_ATT)
    if name.endswith("npz"):
        np.savez(path, **{n: t.numpy() for n, t in held.items()})
    elif name.endswith("safetensors"):
        save_file(held, str(path))
    elif name.endswith("h5"):
        keras(path)
    else:
        torch.save(held, path)
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for case in range(60):
        bad = bytearray(data)
        near = int(rng.integers(2000))
        at = (near, len(bad) - 1 - near, int(rng.integers(len(bad))))[case % 3]
        if case % 4 == 0:
            bad[at : at + 4] = b"\xff\xff\xff\x7f"
        elif case % 4 == 1:
            del bad[at : at + 40]
        elif case % 4 == 2:
            bad[at] ^= 0xFF
        else:
            bad[at:at] = rng.bytes(30)
        path.write_bytes(bytes(bad))
        with contextlib.suppress(WeightsError):
            convert_weights(path)
