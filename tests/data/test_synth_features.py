"""Simulated AVE: the release's layout, honest marking, and modalities that need each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from avel.cli.main import main
from avel.data.ave import dataset as ave
from avel.data.ave.files import KEY, ORDER_KEY, ORDERS, AveRow, read_annotations
from avel.data.ave.simulate import simulate, subset
from avel.data.ave.synth_extras import EXTRAS, ExtraKnobs, make_extra, make_extra_world
from avel.data.ave.synth_features import (
    Knobs,
    SimulatedScene,
    make_clip,
    make_scene,
    make_world,
)
from avel.data.base import fingerprint
from avel.errors import DataError, UsageError

CLASSES = ("Bark", "Bus", "Cat")
ROWS = tuple(
    AveRow(name, f"{name}{i}", "good", i % 4, min(10, i % 4 + 2 + i % 7))
    for name in CLASSES
    for i in range(12)
)


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("labels")
    text = "".join(f"{r.category}&{r.video}&{r.quality}&{r.start}&{r.end}\n" for r in ROWS)
    (root / "Annotations.txt").write_text(text)
    numbers = np.arange(len(ROWS))
    for i, name in enumerate(ORDERS):
        part = numbers[(numbers + 5 * (i // 3)) % 3 == i % 3]
        with h5py.File(root / ORDERS[name].name, "w") as f:
            f[ORDER_KEY] = part
    return root


@pytest.fixture(scope="module")
def made(labels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("made")
    assert simulate(target, labels=labels, seed=4) == 36
    return target


def read(path: Path, key: str = KEY) -> NDArray[np.float64]:
    with h5py.File(path) as f:
        return f[key][()]


def test_names_keys_shapes_and_dtypes_are_the_release_s(made: Path) -> None:
    expected = {
        "audio_feature.h5": ((36, 10, 128), "float64"),
        "visual_feature.h5": ((36, 10, 7, 7, 512), "float64"),
        "visual_feature_vec.h5": ((36, 10, 512), "float64"),
        "audio_feature_noisy.h5": ((2, 10, 128), "float64"),
        "visual_feature_noisy.h5": ((2, 10, 7, 7, 512), "float64"),
        "labels_noisy.h5": ((2, 4), "float32"),
        "mil_labels.h5": ((36, 4), "float32"),
        "labels_closs.h5": ((36, 10), "float32"),
    }
    for name, (shape, dtype) in expected.items():
        with h5py.File(made / name) as f:
            assert f[KEY].shape == shape and f[KEY].dtype == dtype and f[KEY].chunks is None
    for remote in ORDERS.values():
        assert read(made / remote.name, ORDER_KEY).dtype == np.int64
    assert read_annotations(made / "Annotations.txt") == ROWS


def test_the_vector_is_the_mean_of_the_maps(made: Path) -> None:
    maps, vector = read(made / "visual_feature.h5"), read(made / "visual_feature_vec.h5")
    np.testing.assert_allclose(maps.mean((2, 3)), vector, rtol=1e-4, atol=1e-5)


def test_values_look_like_a_network_s(made: Path) -> None:
    sound, sight = read(made / "audio_feature.h5"), read(made / "visual_feature.h5")
    assert sound.min() == sight.min() == 0
    assert 0.5 < (sound == 0).mean() < 0.7 and 0.10 < sound.mean() < 0.3
    assert 0.6 < (sight == 0).mean() < 0.7 and sight.max() < 100
    off = (sound == 0).mean((0, 1))  # some channels nearly always off, some hardly ever
    assert off.max() > 0.9 and off.min() < 0.4


# ---- the background sound, against what was counted in the release's audio_feature_noisy.h5


def counted(sounds: NDArray[Any]) -> dict[str, float]:
    """Of (N, T, 128): what the module's docstring lists of the real file."""
    flat = sounds.reshape(-1, sounds.shape[-1]).astype(np.float64)
    shares = np.linalg.eigvalsh(np.cov(flat.T))[::-1]
    return {
        "first": shares[0] / shares.sum(), "five": shares[:5].sum() / shares.sum(),
        "twenty": shares[:20].sum() / shares.sum(),
        "next": cosine(sounds[:, :-1], sounds[:, 1:]), "last": cosine(sounds[:, 0], sounds[:, 9]),
        "largest": flat.max(), "zeros": (flat == 0).mean(), "mean": flat.mean(),
    }  # fmt: skip


def cosine(a: NDArray[Any], b: NDArray[Any]) -> float:
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return float(((a * b).sum(-1) / np.maximum(norms, 1e-9)).mean())


#: Of the real file, and how far 178 drawn clips may be from it.
REAL = {
    "first": (0.180, 0.025), "five": (0.464, 0.04), "twenty": (0.772, 0.03),
    "next": (0.763, 0.02), "last": (0.677, 0.03), "largest": (4.54, 0.9),
    "zeros": (0.653, 0.015), "mean": (0.122, 0.008),
}  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_background_sound_has_the_spectrum_of_the_real_file(seed: int) -> None:
    knobs = Knobs()
    world = make_world(seed, 28, knobs)
    silent = np.zeros((10, 28), np.float32)
    scene = SimulatedScene(silent, silent, silent)
    drawn = np.stack([
        make_clip(np.random.default_rng([seed, i]), scene, world, knobs)[0] for i in range(178)
    ])  # fmt: skip
    found = counted(drawn)
    assert {n: abs(found[n] - real) <= width for n, (real, width) in REAL.items()} == dict.fromkeys(
        REAL, True
    ), found


def test_the_real_file_is_what_the_simulation_aims_at(shared: Path) -> None:
    found = counted(read(shared / "ave" / "audio_feature_noisy.h5"))
    assert {n: round(v, 3) for n, v in found.items()} == {
        "first": 0.18, "five": 0.464, "twenty": 0.772, "next": 0.763, "last": 0.677,
        "largest": 4.537, "zeros": 0.653, "mean": 0.122,
    }  # fmt: skip


def test_background_videos_are_heard_as_background_alone(made: Path) -> None:
    noisy = read(made / "audio_feature_noisy.h5")
    world = make_world(4, 3, Knobs())
    for i, clip in enumerate(noisy):
        rng = np.random.default_rng([4, 2**30 + i])
        make_scene(rng, i % 3, (0, 0), 3, Knobs())
        silent = np.zeros((10, 3), np.float32)
        sound, _ = make_clip(rng, SimulatedScene(silent, silent, silent), world, Knobs())
        np.testing.assert_allclose(clip, sound, rtol=1e-6)


def test_features_of_an_earlier_simulation_say_how_to_write_them_again(
    made: Path, labels: Path, tmp_path: Path
) -> None:
    assert ave.load(made).notes == ()
    simulate(tmp_path, labels=labels, scale=0.5, seed=3)
    marker = json.loads((tmp_path / "SIMULATED.json").read_text())
    new = ave.load(tmp_path, labels_only=True)
    del marker["arithmetic"]
    (tmp_path / "SIMULATED.json").write_text(json.dumps(marker))
    old = ave.load(tmp_path, labels_only=True)
    (note,) = old.notes
    assert "avel synth-features FOLDER --labels LABELS --scale 0.5 --seed 3" in note
    assert old.simulated and fingerprint(old) != fingerprint(new)


# ---- the data set


def test_it_loads_as_ave_and_says_that_it_is_simulated(made: Path) -> None:
    data = ave.load(made)
    assert data.simulated and len(data.train) == 12 and "background" in data.splits
    marker = json.loads((made / "SIMULATED.json").read_text())
    assert marker["seed"] == 4 and marker["scale"] == 1.0
    assert marker["knobs"]["likeness_audio"] == Knobs().likeness_audio


def test_same_seed_same_bytes_other_seed_other_features(
    made: Path, labels: Path, tmp_path: Path
) -> None:
    simulate(tmp_path / "again", labels=labels, scale=0.5, seed=4)
    simulate(tmp_path / "once", labels=labels, scale=0.5, seed=4)
    for name in ("audio_feature.h5", "visual_feature_vec.h5", "train_order.h5"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "once" / name).read_bytes()
    rows = read_annotations(tmp_path / "again" / "Annotations.txt")
    kept = [ROWS.index(row) for row in rows]
    whole, part = read(made / "audio_feature.h5"), read(tmp_path / "again" / "audio_feature.h5")
    assert np.array_equal(whole[kept], part)  # a clip is the same at every scale
    simulate(tmp_path / "once", labels=labels, scale=0.5, seed=5)
    assert not np.array_equal(part, read(tmp_path / "once" / "audio_feature.h5"))


def test_knobs_change_the_features_and_stand_in_the_mark(labels: Path, tmp_path: Path) -> None:
    for name, knobs in (("usual", None), ("loud", Knobs(noise_audio=2.0))):
        simulate(tmp_path / name, labels=labels, scale=0.5, knobs=knobs)
    usual, loud = (read(tmp_path / n / "audio_feature.h5") for n in ("usual", "loud"))
    assert not np.array_equal(usual, loud)
    marker = json.loads((tmp_path / "loud" / "SIMULATED.json").read_text())
    assert marker["knobs"]["noise_audio"] == 2.0
    data = [ave.load(tmp_path / n, labels_only=True) for n in ("usual", "loud")]
    assert fingerprint(data[0]) != fingerprint(data[1])


def test_a_smaller_scale_keeps_orders_and_labels_consistent(labels: Path, tmp_path: Path) -> None:
    simulate(tmp_path / "half", labels=labels, scale=0.5)
    whole = ave.load(labels, labels_only=True)
    half = ave.load(tmp_path / "half", labels_only=True)
    assert half.classes == whole.classes
    sizes = {n: (len(half.splits[n]), len(whole.splits[n])) for n in ("train", "val", "test")}
    assert sizes["train"][0] == sizes["train"][1] / 2, "half of what is trained on"
    assert all(part == full for part, full in (sizes["val"], sizes["test"])), sizes
    for name in ORDERS:
        full = dict(zip(whole.splits[name].ids, whole.splits[name].labels, strict=True))
        by_video = {i.partition(":")[2]: label for i, label in full.items()}
        videos = [i.partition(":")[2] for i in half.splits[name].ids]
        order = [v for v in by_video if v in videos]
        assert videos == order  # the same split, in the same order
        for video, label in zip(videos, half.splits[name].labels, strict=True):
            assert np.array_equal(label, by_video[video])
    counts = [sum(r.category == c for r in read_annotations(tmp_path / "half/Annotations.txt"))
              for c in CLASSES]  # fmt: skip
    assert counts == [10, 10, 10]


def test_a_scale_that_loses_a_class_is_refused(labels: Path, tmp_path: Path) -> None:
    for scale in (0.05, 0.0, 1.5, -1.0, float("nan")):
        with pytest.raises(UsageError, match="scale"):
            simulate(tmp_path / "x", labels=labels, scale=scale)
    assert not (tmp_path / "x").exists()


def test_the_published_labels_at_a_tenth(shared: Path) -> None:
    from avel.data.ave.files import split_rows

    rows = read_annotations(shared / "ave" / "Annotations.txt")
    splits = split_rows(shared / "ave", rows)
    kept = subset(rows, splits, 0.1)
    assert len(kept) == 1139 and (np.diff(kept) > 0).all()
    for name, expected in (("train", 335), ("val", 402), ("test", 402), ("cml_test", 118)):
        assert abs(int(np.isin(splits[name], kept).sum()) - expected) <= 3


def test_features_that_are_not_simulated_are_never_overwritten(
    labels: Path, tmp_path: Path
) -> None:
    (tmp_path / "visual_feature.h5").write_bytes(b"eight gigabytes")
    with pytest.raises(DataError, match="simulated"):
        simulate(tmp_path, labels=labels)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["visual_feature.h5"]


def test_a_folder_s_own_labels_are_left_alone(labels: Path) -> None:
    before = {p.name: p.read_bytes() for p in labels.iterdir()}
    with pytest.raises(UsageError, match="thin out"):
        simulate(labels, labels=labels, scale=0.5)
    assert {p.name: p.read_bytes() for p in labels.iterdir()} == before


def test_the_command(labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "t"
    assert main(["synth-features", str(target), "--labels", str(labels), "--scale", "0.5"]) == 0
    assert "30 clips with SIMULATED features" in capsys.readouterr().out
    assert main(["synth-features", str(tmp_path / "none")]) == 1
    assert "Annotations.txt" in capsys.readouterr().err
    assert main(["synth-features", str(target), "--labels", str(labels), "--scale", "9"]) == 2


# The difficulty, on the plainest readers: prototypes correlated with a clip's mean.


def scenes(count: int, knobs: Knobs) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Classes and (2, n, C) what the sound's and the picture's event seconds are like."""
    category = np.arange(count) % 28
    heard = np.zeros((2, count, 28))
    for i in range(count):
        scene = make_scene(np.random.default_rng([9, i]), category[i], (2, 8), 28, knobs)
        heard[0, i], heard[1, i] = scene.audio[2:8].mean(0), scene.visual[2:8].mean(0)
    return category, heard


def test_each_modality_alone_confuses_clips_that_both_together_tell_apart() -> None:
    category, heard = scenes(1400, Knobs())
    alone = [(modality.argmax(1) == category).mean() for modality in heard]
    both = (heard.sum(0).argmax(1) == category).mean()
    assert max(alone) < 0.85 and both > max(alone) + 0.07


def test_outside_its_event_a_source_is_never_both_heard_and_seen() -> None:
    knobs = Knobs(likeness_audio=0, likeness_visual=0, rivals=0)
    kinds = set()
    for i in range(60):
        scene = make_scene(np.random.default_rng(i), 5, (3, 6), 28, knobs)
        on = scene.audio[:, 5] > 0, scene.visual[:, 5] > 0
        assert (on[0] & on[1]).tolist() == [3 <= t < 6 for t in range(10)]
        kinds |= set(zip(on[0].tolist(), on[1].tolist(), strict=True))
    assert kinds == {(True, True), (True, False), (False, True), (False, False)}


def test_rivals_come_in_one_modality_and_in_a_share_of_clips() -> None:
    knobs = Knobs(likeness_audio=0, likeness_visual=0, rivals=0.3)
    both = [make_scene(np.random.default_rng(i), 5, (0, 10), 28, knobs) for i in range(400)]
    seen = np.mean([s.rival_visual.any() for s in both])
    heard = np.mean([np.delete(s.audio, 5, 1).any() for s in both])
    assert 0.22 < seen < 0.38 and 0.22 < heard < 0.38


def test_the_source_is_seen_in_some_regions_only() -> None:
    quiet = Knobs(noise_visual=0.1, ambience=0.0, rivals=0, likeness_visual=0)
    world = make_world(0, 28, quiet)
    scene = make_scene(np.random.default_rng(1), 5, (0, 10), 28, quiet)
    _, maps = make_clip(np.random.default_rng(2), scene, world, quiet)
    lively = maps.sum(-1)[0]
    assert lively.max() > 3 * np.median(lively)


# What the release lacks: maps of the sound, and C3D's vectors.


@pytest.fixture(scope="module")
def richer(labels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("richer")
    done: list[tuple[int, int]] = []
    simulate(
        target, labels=labels, seed=4, extras=("audio_maps", "c3d"),
        progress=lambda *at: done.append(at),
    )  # fmt: skip
    assert done[-1] == (114, 114)  # 36 clips and 2 of background, three times
    return target


def test_extras_change_nothing_else_and_are_named_by_the_marker(made: Path, richer: Path) -> None:
    for name in ("audio_feature.h5", "visual_feature_vec.h5", "visual_feature_noisy.h5"):
        assert (made / name).read_bytes() == (richer / name).read_bytes()
    plain, marker = (json.loads((r / "SIMULATED.json").read_text()) for r in (made, richer))
    assert marker["extras"] == ["audio_maps", "c3d"] and "extras" not in plain
    assert {k: v for k, v in marker.items() if not k.startswith("extra")} == plain


def test_extras_have_their_networks_shapes_and_values(richer: Path) -> None:
    for name, shape in (("audio_maps", (6, 4, 512)), ("c3d_feature", (512,))):
        for ending, count in (("", 36), ("_noisy", 2)):
            held = read(richer / f"{name}{ending}.h5")
            assert held.shape == (count, 10, *shape) and held.dtype == np.float32
            assert held.min() == 0 and np.isfinite(held).all()
        assert 0.6 < (read(richer / f"{name}.h5") == 0).mean() < 0.7


def test_extras_are_of_the_same_scenes(richer: Path, labels: Path, tmp_path: Path) -> None:
    simulate(tmp_path, labels=labels, scale=0.5, seed=4, extras=["c3d"])
    kept = [ROWS.index(row) for row in read_annotations(tmp_path / "Annotations.txt")]
    assert np.array_equal(read(richer / "c3d_feature.h5")[kept], read(tmp_path / "c3d_feature.h5"))
    assert not (tmp_path / "audio_maps.h5").exists()
    simulate(tmp_path, labels=labels, scale=0.5, seed=5)  # those of another seed don't stay
    assert not list(tmp_path.glob("c3d*"))
    with pytest.raises(UsageError, match="did you mean c3d"):
        simulate(tmp_path / "no", labels=labels, extras=["c3dd"])  # type: ignore[list-item]


def test_a_sound_is_loudest_in_its_own_band() -> None:
    knobs, quiet = Knobs(rivals=0.0, likeness_audio=0.1), ExtraKnobs(0.1, 0.1, 0.3, 0.3, 0.0)
    world = make_extra_world("audio_maps", 0, 6, knobs, quiet)
    assert len(set(world.bands.argmax(1).tolist())) > 1
    for i in range(6):
        scene = make_scene(np.random.default_rng([3, i]), i, (0, 10), 6, knobs)
        found = make_extra("audio_maps", 0, i, scene, world, quiet)
        assert found.mean((0, 1, 3)).argmax() == world.bands[i].argmax()


def test_extras_tell_classes_apart() -> None:
    knobs = Knobs(rivals=0.0, likeness_audio=0.1, likeness_visual=0.1)
    quiet = ExtraKnobs(0.1, 0.1, noise_maps=0.3, noise_motion=0.3, ambience=0.0)
    for extra in EXTRAS:
        world = make_extra_world(extra, 0, 6, knobs, quiet)
        means, kinds = [], []
        for i in range(36):
            scene = make_scene(np.random.default_rng([3, i]), i % 6, (0, 10), 6, knobs)
            found = make_extra(extra, 0, i, scene, world, quiet)
            means.append(found.reshape(10, -1).mean(0))
            kinds.append(i % 6)
        x, y = np.array(means[:18]), np.array(means[18:])
        near = ((y[:, None] - x[None]) ** 2).sum(-1).argmin(1)
        right = np.mean([kinds[18 + i] == kinds[j] for i, j in enumerate(near)])
        assert right > 0.8  # a nearest clip; by chance 1 in 6
        assert make_extra(extra, 0, 1, scene, world, quiet).std() > 0


def test_ave_reads_them_as_av_wants_them(richer: Path) -> None:
    data = ave.load(richer, audio="maps", visual="vector+c3d")
    assert data.train.audio.shape[1:] == (10, 12288)
    assert data.train.visual.shape[1:] == (10, 1, 1, 1024)
    assert data.audio_card["name"] == "simulated-vggish_maps"
    assert data.visual_card["name"] == "simulated-vgg19+c3d"
    assert data.visual_card["output"] == [1, 1, 1024]
    row = int(data.train.rows[3])  # type: ignore[index]
    maps = read(richer / "audio_maps.h5")[row].reshape(10, 24, 512)
    np.testing.assert_allclose(
        data.train.audio[row].reshape(10, 24, 512), maps, rtol=1e-3, atol=1e-3
    )
    both = data.train.visual[np.array([row])][0]
    vector, moving = (read(richer / f"{n}_feature{e}.h5")[row] for n, e in
                      (("visual", "_vec"), ("c3d", "")))  # fmt: skip
    np.testing.assert_allclose(both[:, 0, 0, :512], vector, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(both[:, 0, 0, 512:], moving, rtol=1e-3, atol=1e-3)
    noise = data.splits["background"]
    assert noise.visual.shape == (2, 10, 1, 1, 1024) and noise.audio.shape == (2, 10, 12288)


def test_c3d_stands_behind_every_region_of_the_maps(richer: Path) -> None:
    data = ave.load(richer, visual="maps+c3d")
    assert data.train.visual.shape[1:] == (10, 7, 7, 1024)
    some = data.train.visual[2:4]
    assert some.shape == (2, 10, 7, 7, 1024)
    assert (some[..., 512:] == some[:, :, :1, :1, 512:]).all()
    np.testing.assert_allclose(some[..., :512], read(richer / "visual_feature.h5")[2:4], 1e-3, 1e-3)


def test_what_isnt_there_is_named_with_where_it_comes_from(made: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)audio_maps.*not in the release.*c3d_feature"):
        ave.load(made, audio="maps", visual="maps+c3d")
    with pytest.raises(UsageError, match="'c3d': expected maps or vector or maps"):
        ave.load(made, visual="c3d")  # type: ignore[arg-type]


@pytest.mark.parametrize("inputs", ["amaps", "amaps+v-co-att", "v-c3d", "a+v+c3d"])
@pytest.mark.parametrize("task", ["sel", "wsel"])
def test_the_supplements_rows_train_from_the_command_line(
    richer: Path, tmp_path: Path, inputs: str, task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["data.audio=maps"] if inputs.startswith("amaps") else []
    data += ["data.visual=vector+c3d" if "c3d" in inputs else "data.visual=vector"]
    sizes = ["epochs=1", "state=4", "hidden=8", "precision=float32"]
    pairs = ["data=ave", f"root={richer}", f"task={task}", f"inputs={inputs}", *data, *sizes]
    assert main(["train", "av", *pairs, "-o", str(tmp_path / "run")]) == 0
    assert "simulated" in capsys.readouterr().out.lower()
    assert main(["evaluate", str(tmp_path / "run")]) == 0
