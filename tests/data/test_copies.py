"""Altered copies of training clips: extracted, loaded, drawn in training, never judged."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avel.cli.main import main
from avel.data import load_dataset
from avel.data.base import Copy, Dataset, Split
from avel.data.check import check_folder
from avel.data.concat import join
from avel.data.folder import training_files
from avel.data.folders import load as load_folders
from avel.data.packed import Windows
from avel.data.resident import resident
from avel.errors import CheckpointError, DataError
from avel.evaluation.cross_validation import pooled
from avel.experiments.runner import Runner
from avel.experiments.spec import prepare
from avel.features.store import COPIES, FOLDER, copy_content, copy_folder, header, is_copy
from avel.training.loop import Stopped, fit
from avel.types import Features
from tests.data.test_folder import HEAD, write
from tests.media_files import mux, tone
from tests.report_samples import hand_timeline
from tests.training_data import features, make_dataset, small_recipe

CPU = torch.device("cpu")
COUNT = 10


def labelled(root: Path, *, splits: bool = False) -> Path:
    """Ten clips with two altered copies each; of the test clips, where named, none."""
    names = [f"v/{i}.mp4" for i in range(COUNT)]
    parts = ["train"] * 6 + ["val"] * 2 + ["test"] * 2
    head = HEAD.strip() + (",split\n" if splits else "\n")
    rows = "".join(
        f"{n},1,4,{'ab'[i % 2]}{',' + parts[i] if splits else ''}\n" for i, n in enumerate(names)
    )
    write(root, head + rows, {}).joinpath("v").mkdir(exist_ok=True)
    for i, name in enumerate(names):
        (root / name).touch()
        for number in range(3 if not splits or parts[i] != "test" else 1):
            place = copy_folder(root / FOLDER, number) if number else root / FOLDER
            made = replace(features(6, seed=10 * number + i), content=copy_content("", number))
            made.save((place / name).with_suffix(".safetensors"))
    return root


@pytest.mark.parametrize("splits", [True, False])
@pytest.mark.parametrize("packed", [True, False])
def test_a_folder_has_the_copies_of_its_training_clips(
    splits: bool, packed: bool, tmp_path: Path
) -> None:
    root = labelled(tmp_path, splits=splits)
    if packed:
        assert main(["pack", str(root)]) == 0
    data = load_dataset("folder", root=root)
    assert "altered copies of each training clip: 2" in data.note
    assert "damaged" not in data.note and "out of date" not in data.note
    assert {n: len(s.copies) for n, s in data.splits.items()} == {
        "train": 2, "val": 2, "test": 0 if splits else 2
    }  # fmt: skip
    for number, copy in enumerate(data.train.copies, 1):
        for row, name in zip(data.train.store_rows, data.train.ids, strict=True):
            own = features(6, seed=10 * number + int(name[2]))
            np.testing.assert_array_equal(copy.audio[row], own.audio.astype(np.float16))
            np.testing.assert_array_equal(copy.visual[row], own.visual.astype(np.float16))
    assert all(isinstance(array, Windows) == packed for array in data.train.copies[1])
    assert not load_dataset("folder", root=root, copies=False).train.copies


def test_copies_that_do_not_fit_the_features_are_named(tmp_path: Path) -> None:
    root = labelled(tmp_path)
    first, second = (copy_folder(root / FOLDER, n) / "v" for n in (1, 2))
    (first / "3.safetensors").unlink()
    replace(features(6), content="other:copy=1").save(first / "4.safetensors")
    for file in second.iterdir():
        other = {"name": "ears", "weights": "new", "hash": "sha256:9", "modality": "audio"}
        replace(Features.load(file), audio_card=other).save(file)
    with pytest.raises(DataError) as raised:
        load_dataset("folder", root=root)
    told = str(raised.value)
    assert "altered copy 1: v/3.mp4: no features" in told
    assert "altered copy 1: v/4.mp4: of another file" in told
    assert "altered copy 2: its backbones" in told
    assert f"avel extract {root} --copies 2" in told and "data.copies=false" in told
    assert not load_dataset("folder", root=root, copies=False).train.copies
    found = [p.text for p in check_folder(root).problems if p.level == "error"]
    assert len(found) == 2 and "copy 1 isn't of the features of v/3.mp4, v/4.mp4:" in found[0]


@pytest.mark.parametrize("left", ["", "a file"])
def test_a_copy_that_is_gone_is_missed(left: str, tmp_path: Path) -> None:
    root = labelled(tmp_path)
    shutil.rmtree(copy_folder(root / FOLDER, 1))
    if left:
        copy_folder(root / FOLDER, 1).write_text(left)
    with pytest.raises(DataError, match=r"altered copy 1: v/0\.mp4: no features"):
        load_dataset("folder", root=root)


def test_only_training_reads_copies(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root, run = labelled(tmp_path / "data", splits=True), str(tmp_path / "run")
    train = ["train", "linear", f"data={root}", "epochs=1", "-o", run]
    assert main(train) == 0
    assert "altered copies of each training clip: 2" in capfd.readouterr().out
    (copy_folder(root / FOLDER, 2) / "v/3.safetensors").unlink()
    assert main(["evaluate", run]) == 0
    assert main(["tune", run, f"data={root}", "data.copies=true", "--dry-run"]) == 0
    assert main([*train, "--resume"]) == 1
    assert "altered copy 2: v/3.mp4: no features" in capfd.readouterr().err


def test_predictions_that_may_be_trained_on_have_copies(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    hand_timeline("a.wav", [3, 0, 0, 1, 3]).save(tmp_path / "a.eaf")
    assert training_files(tmp_path) == ["a.wav"]


def test_folders_that_lack_copies_are_named(tmp_path: Path) -> None:
    roots = [labelled(tmp_path / name, splits=True) for name in "ab"]
    shutil.rmtree(roots[1] / FOLDER / COPIES)
    data = load_folders(roots)
    assert not data.train.copies
    assert "as each folder has: 0 (a 2, b 0; avel" in data.notes[-1]


def test_features_of_a_copy_are_not_taken_for_the_clips_own(tmp_path: Path) -> None:
    root = labelled(tmp_path)
    with pytest.raises(DataError, match=r"v/0\.mp4: features of an altered copy"):
        load_dataset("folder", root=root, features=copy_folder(root / FOLDER, 1))


# ---- in training


def copied(data: Dataset, count: int = 2) -> Dataset:
    """With copies whose numbers tell which one they are: 100 and 200 more."""

    def with_copies(split: Split) -> Split:
        more = tuple(
            Copy(split.audio + 100 * k, split.visual + 100 * k) for k in range(1, count + 1)
        )
        return replace(split, copies=more)

    return replace(data, splits={n: with_copies(s) for n, s in data.splits.items()})


def numbers(batch: Any, name: str) -> list[int]:
    """Which copy each clip of a batch is, by the size of its numbers."""
    return [round(float(row.float().mean()) / 100) for row in getattr(batch, name)]


def test_a_share_of_each_modality_is_a_copy_and_labels_stay() -> None:
    split = copied(make_dataset()).train.subset(np.array([3, 0, 7, 5]))
    held = resident(split, copies=True)
    rows = torch.tensor([2, 0, 3] * 400)
    torch.manual_seed(0)
    batch = held.batch(rows, device=CPU, copied=0.5)
    assert batch.labels is not None
    assert batch.labels.equal(torch.from_numpy(split.labels)[rows])
    heard, seen = numbers(batch, "audio"), numbers(batch, "visual")
    for found in (heard, seen):
        assert [found.count(k) / len(found) for k in range(3)] == pytest.approx(
            [0.5, 0.25, 0.25], abs=0.05
        )
    assert len(set(zip(heard, seen, strict=True))) == 9  # each modality has its own
    for i in range(3):
        own = split.audio[split.store_rows[rows[i]]] + 100 * heard[i]
        np.testing.assert_allclose(batch.audio[i], own, rtol=1e-5)
    plain = held.batch(rows, device=CPU)
    assert set(numbers(plain, "audio")) == set(numbers(plain, "visual")) == {0}
    with pytest.raises(IndexError):
        resident(split).batch(torch.tensor([4]), device=CPU)


def test_without_copies_no_random_number_is_drawn() -> None:
    held = resident(make_dataset().train, copies=True)
    torch.manual_seed(0)
    held.batch(torch.arange(4), device=CPU, copied=0.5)
    after = torch.rand(1)
    torch.manual_seed(0)
    assert torch.rand(1).equal(after)


def test_trainings_with_copies_differ_and_resume_to_the_same_weights(tmp_path: Path) -> None:
    data, recipe = copied(make_dataset(unequal=True)), small_recipe()

    def weights(run: Any) -> list[Any]:
        return [w.tolist() for w in run.trained.network.state_dict().values()]

    whole = fit("cspa_csea", data, recipe=recipe)
    assert whole.trained.card["copies"] == 2

    def stop(record: dict[str, Any], _: int) -> None:
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(Stopped):
        fit("cspa_csea", data, recipe=recipe, out=tmp_path, progress=stop)
    with pytest.raises(CheckpointError, match="its copies differ"):
        fit("cspa_csea", make_dataset(unequal=True), recipe=recipe, out=tmp_path, resume=True)
    rest = fit("cspa_csea", data, recipe=recipe, out=tmp_path, resume=True)
    assert weights(rest) == weights(whole)
    without = fit("cspa_csea", data, recipe=replace(recipe, copied=0.0))
    plain = fit("cspa_csea", make_dataset(unequal=True), recipe=recipe)
    assert weights(without) == weights(plain) != weights(whole)
    assert without.trained.card["copies"] == 0


def test_joined_and_pooled_data_keep_the_copies_that_all_have() -> None:
    two, three = copied(make_dataset()), replace(copied(make_dataset(), 3), name="other")
    both = join([two, three]).train
    assert len(both.copies) == 2
    for k, copy in enumerate(both.copies, 1):
        expected = np.concatenate([d.train.copies[k - 1].audio for d in (two, three)])
        np.testing.assert_array_equal(copy.audio[both.store_rows], expected)
    short = replace(three, splits={n: shorter(s) for n, s in three.splits.items()})
    padded = join([two, short], union=True).train
    assert padded.copies[1].visual[padded.store_rows].shape == (48, 6, 2, 2, 7)
    whole = pooled(replace(three, drawn=True))
    assert len(whole.copies) == 3
    np.testing.assert_array_equal(whole.copies[2].audio, whole.audio + 300)


def shorter(split: Split) -> Split:
    return replace(
        split, audio=split.audio[:, :5], visual=split.visual[:, :5], labels=split.labels[:, :5],
        lengths=np.minimum(split.lengths, 5),
        copies=tuple(Copy(c.audio[:, :5], c.visual[:, :5]) for c in split.copies),
    )  # fmt: skip


# ---- from files


@pytest.fixture
def films(tmp_path: Path) -> Iterator[Path]:
    """Four short films with labels, one of them in test, and one without."""
    for i in range(5):
        scene = np.random.default_rng(i).integers(0, 255, (64, 64, 3), np.uint8)
        pictures = [(k / 4, scene) for k in range(8)]
        mux(tmp_path / f"{i}.mkv", pictures=pictures, sounds=[(0.0, tone(2, 16000))])
    parts = ["train", "train", "val", "test"]
    rows = [f"{i}.mkv,0,1,tone,{part}" for i, part in enumerate(parts)]
    (tmp_path / "annotations.csv").write_text(
        "\n".join(["file,start,end,label,split", *rows]), encoding="utf-8"
    )
    yield tmp_path


def test_extract_makes_copies_of_training_clips_once(
    films: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    call = ["extract", str(films), "--audio", "mini_audio", "--visual", "mini_visual"]
    assert main([*call, "--copies", "2"]) == 0
    told = capfd.readouterr().out
    assert "5 extracted" in told and "altered copy 2: 3 extracted, 0 already there" in told
    places = [films / FOLDER, *(copy_folder(films / FOLDER, n) for n in (1, 2))]
    made = [sorted(p.name for p in place.glob("*.safetensors")) for place in places]
    assert made == [[f"{i}.safetensors" for i in range(n)] for n in (5, 3, 3)]
    read = [Features.load(place / "0.safetensors") for place in places]
    assert [is_copy(f.content) for f in read] == [False, True, True]
    for a, b in ((0, 1), (1, 2)):
        assert (read[a].audio != read[b].audio).any()
        assert (read[a].visual != read[b].visual).any()
    with (places[1] / "manifest.csv").open(newline="", encoding="utf-8") as f:
        assert len(list(csv.DictReader(f))) == 3
    before = header(places[1] / "0.safetensors")
    assert main([*call, "--copies", "3"]) == 0
    told = capfd.readouterr().out
    assert "altered copy 1: 0 extracted, 3 already there" in told
    assert "altered copy 3: 3 extracted" in told
    assert header(places[1] / "0.safetensors") == before
    assert len(load_dataset("folder", root=films).train.copies) == 3


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--copies", "101"], "expected 0 to 100"),
        (["--copies", "-1"], "expected 0 to 100"),
    ],
)
def test_numbers_of_copies_out_of_bounds(
    films: Path, more: list[str], told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["extract", str(films), *more]) == 2
    assert told in capfd.readouterr().err


def test_copies_are_of_one_labelled_folder(films: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["extract", str(films / "0.mkv"), "--copies", "1"]) == 2
    assert "one folder with labels" in capfd.readouterr().err
    (films / "annotations.csv").unlink()
    assert main(["extract", str(films), "--copies", "1"]) == 1
    told = capfd.readouterr().err
    assert "annotations" in told and "Traceback" not in told
    assert not (films / FOLDER).exists()


def test_trainings_of_tables_lie_apart_by_their_copies(tmp_path: Path) -> None:
    plain, two, three = make_dataset(), copied(make_dataset()), copied(make_dataset(), 3)
    training, without = (prepare("linear", "sel", {}, pairs=p) for p in ((), ("copied=0",)))
    places = {Runner(tmp_path, data).folder_of(training, 0) for data in (plain, two, three)}
    assert len(places) == 3
    same = {Runner(tmp_path, data).folder_of(without, 0) for data in (plain, two)}
    assert len(same) == 1
