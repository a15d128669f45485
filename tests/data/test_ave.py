"""The AVE release: its variants as people have them, its labels, and its known defects."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

import avel
from avel.backbones.vgg19 import VGG19
from avel.backbones.vggish import VGGish
from avel.data.ave import dataset as ave
from avel.data.ave import store as ave_store
from avel.data.ave.checks import examine
from avel.data.ave.files import (
    ANNOTATIONS,
    KEY,
    ORDER_KEY,
    ORDERS,
    AveRow,
    class_order,
    read_annotations,
    read_order,
    split_rows,
)
from avel.data.ave.labels import LABEL_FILES, compare_labels, second_labels, video_tags
from avel.data.base import fingerprint
from avel.download import hash_matches
from avel.errors import DataError, UsageError

EVENTS = (
    AveRow("Male speech, man speaking", "-abc_1", "good", 0, 10),
    AveRow("Frying (food)", "b_c", "good", 3, 7),
    AveRow("Male speech, man speaking", "d", "good", 0, 0),
    AveRow("Bark", "e", "good", 8, 10),
    AveRow("Bark", "-abc_1", "good", 0, 10),
    AveRow("Frying (food)", "g", "good", 0, 2),
)
SPLITS = {"train": [0, 1, 3], "val": [4], "test": [2, 5]}
CML = {"cml_train": [3, 5], "cml_val": [0], "cml_test": [1]}


def line(row: AveRow) -> str:
    return f"{row.category}&{row.video}&{row.quality}&{row.start}&{row.end}"


def write_h5(path: Path, values: NDArray[np.generic], key: str = KEY) -> None:
    with h5py.File(path, "w") as f:
        f[key] = values


def release(
    root: Path,
    *,
    dtype: str = "float64",
    seconds: int = 10,
    noisy: bool = True,
    text: str | None = None,
) -> Path:
    """A small folder of the release's keys and dtypes."""
    root.mkdir(parents=True, exist_ok=True)
    n, rng = len(EVENTS), np.random.default_rng(0)
    (root / "Annotations.txt").write_bytes(
        (text or "".join(line(r) + "\n" for r in EVENTS)).encode()
    )
    for name, rows in (SPLITS | CML).items():
        write_h5(root / ORDERS[name].name, np.array(rows), ORDER_KEY)
    write_h5(root / "audio_feature.h5", rng.random((n, seconds, 128)).astype(dtype))
    write_h5(root / "visual_feature.h5", rng.random((n, seconds, 7, 7, 512)).astype(dtype))
    if noisy:
        tags = np.zeros((2, 4), np.float32)
        tags[:, 3] = 1
        write_h5(root / "labels_noisy.h5", tags)
        write_h5(root / "audio_feature_noisy.h5", rng.random((2, seconds, 128)))
        write_h5(root / "visual_feature_noisy.h5", rng.random((2, seconds, 7, 7, 512)))
    return root


def read(path: Path) -> NDArray[np.float64]:
    with h5py.File(path) as f:
        return f[KEY][()]


HEADER = "Category&VideoID&Quality&StartTime&EndTime"


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_every_variant_of_the_text_gives_the_same_rows(
    tmp_path: Path, ends: str, header: bool, closed: bool, bom: str
) -> None:
    lines = ([HEADER] if header else []) + [line(r) for r in EVENTS]
    path = tmp_path / "Annotations.txt"
    path.write_bytes((bom + ends.join(lines) + (ends if closed else "")).encode())
    assert read_annotations(path) == EVENTS


def test_wrong_lines_are_named_not_shifted(tmp_path: Path) -> None:
    path = tmp_path / "Annotations.txt"
    path.write_text(f"{HEADER}\nBark&x&good&1&2\n{HEADER}\nBark&y&good&5&3\nBark&z&good&a&3\n")
    with pytest.raises(DataError, match="3 of 4 lines") as raised:
        read_annotations(path)
    assert "Bark&y&good&5&3" in str(raised.value) and "Bark&z" in str(raised.value)
    path.write_text("Bark&x&good&one&two\nBark&z&good&1&3\n")  # wrong, and no header either
    with pytest.raises(DataError, match="1 of 2 lines"):
        read_annotations(path)
    for nothing in ("", HEADER, "\x00\xff"):
        path.write_bytes(nothing.encode("latin-1"))
        with pytest.raises(DataError):
            read_annotations(path)


def test_labels_tags_and_class_order() -> None:
    assert class_order(EVENTS) == ("Male speech, man speaking", "Frying (food)", "Bark")
    labels = second_labels(EVENTS)
    assert labels[1].tolist() == [3, 3, 3, 1, 1, 1, 1, 3, 3, 3]
    assert labels[2].tolist() == [3] * 10 and labels[3].tolist() == [3] * 8 + [2] * 2
    assert second_labels(EVENTS, 4)[1].tolist() == [3, 3, 3, 1]
    assert video_tags(EVENTS).argmax(1).tolist() == [0, 1, 0, 2, 2, 1]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_folder_of_the_release(tmp_path: Path, dtype: str) -> None:
    root = release(tmp_path / "AVE", dtype=dtype)
    data = avel.load_dataset("ave", root=root)
    assert data.classes == class_order(EVENTS) and not data.simulated
    assert {n: len(s) for n, s in data.splits.items()} == {
        "train": 3, "val": 1, "test": 2, "cml_train": 2, "cml_val": 1, "cml_test": 1,
        "background": 2,
    }  # fmt: skip
    audio, visual = read(root / "audio_feature.h5"), read(root / "visual_feature.h5")
    assert data.train.audio.dtype == data.train.visual.dtype == np.float16
    for name, rows in (SPLITS | CML).items():
        split = data.splits[name]
        assert split.rows is not None and split.rows.tolist() == rows
        np.testing.assert_allclose(split.audio[split.rows], audio[rows], rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(split.visual[split.rows], visual[rows], rtol=1e-3, atol=1e-6)
        assert split.ids == tuple(f"{i}:{EVENTS[i].video}" for i in rows)
        assert (split.labels == second_labels(EVENTS)[rows]).all()
        assert (split.lengths == 10).all()
        assert split.visual is data.train.visual  # one array for all
    ids = [i for s in ("train", "val", "test") for i in data.splits[s].ids]
    assert len(set(ids)) == len(EVENTS)  # though a video stands there twice
    background = data.splits["background"]
    assert (background.labels == 3).all() and background.tags is not None
    assert background.tags.tolist() == [[0, 0, 0, 1]] * 2
    np.testing.assert_allclose(
        background.visual, read(root / "visual_feature_noisy.h5"), rtol=1e-3, atol=1e-6
    )


def test_the_cards_are_those_of_the_backbones(tmp_path: Path) -> None:
    data = ave.load(release(tmp_path))
    import torch

    with torch.device("meta"):
        sound, sight = VGGish(), VGG19()
    assert data.audio_card == sound.describe(VGGish.weights["audioset"])
    assert data.visual_card == sight.describe(VGG19.weights["keras"])


def test_options(tmp_path: Path) -> None:
    root = release(tmp_path / "AVE")
    data = ave.load(root, dtype="float32", memory="ram", store=tmp_path / "store")
    assert data.train.audio.dtype == np.float32 and type(data.train.visual) is np.ndarray
    np.testing.assert_allclose(data.train.audio, read(root / "audio_feature.h5"), rtol=1e-6)
    assert not (root / ".avel").exists() and (tmp_path / "store").is_dir()
    with pytest.raises(UsageError, match="3 mistakes"):
        ave.load(root, dtype="int8", memory="disk", visual="none")  # type: ignore[arg-type]
    write_h5(root / "visual_feature_vec.h5", read(root / "visual_feature.h5").mean((2, 3)))
    (root / "visual_feature.h5").unlink()
    mean = ave.load(root, visual="vector")
    assert mean.train.visual.shape == (6, 10, 1, 1, 512)
    assert mean.splits["background"].visual.shape == (2, 10, 1, 1, 512)
    assert mean.visual_card["name"] != "vgg19"


def test_t_comes_from_the_feature_files(tmp_path: Path) -> None:
    data = ave.load(release(tmp_path, seconds=4))
    assert data.train.labels.shape == (3, 4) and data.train.labels[1].tolist() == [3, 3, 3, 1]


def test_missing_files_are_listed_with_addresses_and_sizes(tmp_path: Path) -> None:
    root = release(tmp_path)
    (root / "audio_feature.h5").unlink()
    (root / "visual_feature.h5").unlink()
    with pytest.raises(DataError) as raised:
        ave.load(root)
    message = str(raised.value)
    assert "audio_feature.h5 (42.4 MB" in message and "1F6p4BAOY-i0fDXUOhG7xHuw_fnO5exBS" in message
    assert "visual_feature.h5 (8.3 GB" in message and "1hQwbhutA3fQturduRnHMyfRqdrRHgmC9" in message
    assert "avel fetch ave" in message
    with pytest.raises(DataError) as raised:
        ave.load(_empty(tmp_path))
    for name in ("Annotations.txt", "val_order.h5", "audio_feature.h5", "visual_feature.h5"):
        assert name in str(raised.value)  # all at once, not one run at a time
    assert "lacks 6 of" in str(raised.value)
    with pytest.raises(DataError, match="no folder"):
        ave.load(tmp_path / "nowhere")


def _empty(tmp_path: Path) -> Path:
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


def test_split_texts_do_instead_of_orders_and_must_agree_with_them(tmp_path: Path) -> None:
    root = release(tmp_path)
    texts = {"train": "trainSet.txt", "val": "valSet.txt", "test": "testSet.txt"}
    for name, text in texts.items():
        lines = [HEADER, *(line(EVENTS[i]) for i in SPLITS[name])]
        (root / text).write_text("\r\n".join(lines))
    both = {n: r.tolist() for n, r in split_rows(root, EVENTS).items()}
    assert both == SPLITS | CML
    for name in texts:
        (root / ORDERS[name].name).unlink()
    assert {n: r.tolist() for n, r in split_rows(root, EVENTS).items()} == both
    write_h5(root / "val_order.h5", np.array([5]), ORDER_KEY)
    with pytest.raises(DataError, match=r"val_order\.h5 and valSet\.txt"):
        split_rows(root, EVENTS)
    (root / "val_order.h5").unlink()
    (root / "valSet.txt").write_text("Bark&unknown&good&1&2\n")
    with pytest.raises(DataError, match="Bark&unknown"):
        split_rows(root, EVENTS)
    (root / "valSet.txt").unlink()
    with pytest.raises(DataError, match=r"val_order\.h5"):
        split_rows(root, EVENTS)


@pytest.mark.parametrize("order", [[0, 6], [-1, 2], [1, 1], [0.5], []])
def test_an_order_that_is_none_is_refused(tmp_path: Path, order: list[float]) -> None:
    write_h5(tmp_path / "o.h5", np.array(order), ORDER_KEY)
    with pytest.raises(DataError, match="distinct"):
        read_order(tmp_path / "o.h5", len(EVENTS))


def test_files_in_the_places_people_put_them(tmp_path: Path) -> None:
    root = release(tmp_path / "AVE")
    (root / "data").mkdir()
    for path in list(root.glob("*.h5")):
        path.rename(root / "data" / path.name)
    assert len(ave.load(root).train) == 3


def test_features_of_other_rows_are_refused(tmp_path: Path) -> None:
    root = release(tmp_path)
    write_h5(root / "audio_feature.h5", np.zeros((5, 10, 128)))
    with pytest.raises(DataError, match=r"\(5, 10, 128\)"):
        ave.load(root)


def test_damaged_files_are_errors_of_ours(tmp_path: Path) -> None:
    root = release(tmp_path)
    whole = (root / "visual_feature.h5").read_bytes()
    (root / "visual_feature.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="visual_feature"):
        ave.load(root)
    (root / "visual_feature.h5").write_bytes(b"<html>quota exceeded</html>")
    with pytest.raises(DataError, match="HDF5"):
        ave.load(root)
    with h5py.File(root / "visual_feature.h5", "w") as f:
        f["names"] = ["a", "b"]
    with pytest.raises(DataError, match="names"):
        ave.load(root)
    assert not list((root / ".avel").glob("visual*"))  # nothing half written


def test_the_store_is_written_once_and_anew_when_the_source_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ave_store, "_BLOCK", 2 * 10 * 128 * 4)  # two rows of audio
    source, seen = tmp_path / "audio_feature.h5", []
    values = np.random.default_rng(1).random((5, 10, 128))
    write_h5(source, values)
    for _ in range(2):
        held = ave_store.stored(source, tmp_path / "s", progress=lambda *done: seen.append(done))
    assert seen == [(2, 5), (4, 5), (5, 5)]
    assert np.array_equal(held, values.astype(np.float32).astype(np.float16))
    with pytest.raises(ValueError, match="read-only"):
        held[0] = 0
    write_h5(source, values[::-1] * 2 + 1)
    anew = ave_store.stored(source, tmp_path / "s")
    np.testing.assert_allclose(anew, values[::-1] * 2 + 1, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("chunks", [None, (1, 10, 128), (4, 5, 16), (7, 10, 128)])
def test_chunked_and_compressed_files_are_read_too(
    tmp_path: Path, chunks: tuple[int, ...] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ave_store, "_BLOCK", 3 * 10 * 128 * 4)
    values = np.random.default_rng(1).random((7, 10, 128))
    with h5py.File(tmp_path / "a.h5", "w") as f:
        f.create_dataset(KEY, data=values, chunks=chunks, compression="gzip" if chunks else None)
    held = ave_store.stored(tmp_path / "a.h5", tmp_path / "s", dtype="float32")
    assert np.array_equal(held, values.astype(np.float32))


def test_what_float16_cannot_hold_is_refused(tmp_path: Path) -> None:
    values = np.ones((3, 10, 4))
    values[1, 2, 3] = 1e5
    write_h5(tmp_path / "a.h5", values)
    with pytest.raises(DataError, match="dtype=float32"):
        ave_store.stored(tmp_path / "a.h5", tmp_path)
    assert ave_store.stored(tmp_path / "a.h5", tmp_path, dtype="float32")[1, 2, 3] == 1e5
    values[2, 0, 0] = np.nan
    write_h5(tmp_path / "a.h5", values)
    with pytest.raises(DataError, match="row 2"):
        ave_store.stored(tmp_path / "a.h5", tmp_path, dtype="float32")


def test_label_files_are_compared_with_the_annotations(tmp_path: Path) -> None:
    root = release(tmp_path)
    for name, derive in LABEL_FILES.items():
        write_h5(root / name, derive(EVENTS).astype(np.float64))
    assert all(
        c.different is not None and not len(c.different) for c in compare_labels(root, EVENTS)
    )
    wrong = LABEL_FILES["labels.h5"](EVENTS)
    wrong[3, 0] = np.nan
    wrong[5, 9, 0] = 1
    write_h5(root / "labels.h5", wrong)
    write_h5(root / "prob_label.h5", np.zeros((2, 2)))
    held = {c.name: c for c in compare_labels(root, EVENTS)}
    different = held["labels.h5"].different
    assert different is not None and different.tolist() == [3, 5]
    assert "shape" in held["prob_label.h5"].problem
    note = ave.load(root).note
    assert "2 of 6 rows differ" in note and "mil_labels.h5" in note


@pytest.mark.parametrize("text", ["{", "[" * 10000, "[]"])
def test_a_damaged_mark_of_simulated_features_is_named(tmp_path: Path, text: str) -> None:
    root = release(tmp_path)
    (root / "SIMULATED.json").write_text(text)
    with pytest.raises(DataError, match=r"SIMULATED\.json"):
        ave.load(root)


def test_simulated_features_are_marked(tmp_path: Path) -> None:
    root = release(tmp_path)
    (root / "SIMULATED.json").write_text(json.dumps({"seed": 3, "scale": 1.0}))
    data = ave.load(root)
    assert data.simulated and "SIMULATED" in data.note
    assert data.audio_card["name"] == "simulated-vggish" and not data.visual_card["hash"]
    (root / "SIMULATED.json").write_text(json.dumps({"seed": 4, "scale": 1.0}))
    other = ave.load(root)
    assert other.splits.keys() == data.splits.keys()
    assert fingerprint(other) != fingerprint(data), "of another seed: other features"


def test_labels_alone_take_no_features(tmp_path: Path) -> None:
    root = release(tmp_path)
    full = ave.load(root)
    for path in root.glob("*feature*.h5"):
        path.unlink()
    bare = ave.load(root, labels_only=True)
    assert bare.train.visual.shape == (6, 10, 0, 0, 0) and bare.train.audio.nbytes == 0
    for name, split in full.splits.items():
        assert split.ids == bare.splits[name].ids
        assert np.array_equal(split.labels, bare.splits[name].labels)


# What follows needs the release's own labels.


@pytest.fixture(scope="module")
def published(shared: Path) -> avel.data.base.Dataset:
    return ave.load(shared / "ave", labels_only=True)


def test_published_labels_follow_from_the_annotations(shared: Path) -> None:
    rows = read_annotations(shared / "ave" / "Annotations.txt")
    assert len(rows) == 4143 and len(class_order(rows)) == 28
    compared = {c.name: c for c in compare_labels(shared / "ave", rows)}
    assert set(compared) == {"mil_labels.h5", "labels_closs.h5"}
    for c in compared.values():
        assert c.rows == 4143 and c.different is not None and len(c.different) == 0


def test_published_class_order(published: avel.data.base.Dataset) -> None:
    assert published.classes[:3] == ("Church bell", "Male speech, man speaking", "Bark")
    assert published.classes[10] == "Frying (food)" and published.classes[27] == "Mandolin"


def test_published_text_is_the_one_that_is_fetched(shared: Path) -> None:
    path = shared / "ave" / "Annotations.txt"
    assert hash_matches(path, ANNOTATIONS.hash) and path.stat().st_size == ANNOTATIONS.size


def test_published_variants_of_the_text(shared: Path, tmp_path: Path) -> None:
    path = shared / "ave" / "Annotations.txt"
    rows = read_annotations(path)
    for i, text in enumerate(
        (f"{HEADER}\n" + path.read_text(), path.read_text().replace("\n", "\r\n").rstrip("\r\n"))
    ):
        other = tmp_path / f"{i}.txt"
        other.write_bytes(text.encode())
        assert read_annotations(other) == rows


def test_published_splits_and_baselines(published: avel.data.base.Dataset) -> None:
    sizes = {n: len(s) for n, s in published.splits.items()}
    assert sizes == {
        "train": 3339, "val": 402, "test": 402,
        "cml_train": 3339, "cml_val": 402, "cml_test": 402, "background": 178,
    }  # fmt: skip
    labels = published.test.labels
    assert round(100 * float((labels != 28).mean()), 2) == 82.21  # the category, everywhere
    assert round(100 * float((labels == 28).mean()), 2) == 17.79  # background, everywhere
    event = published.splits["cml_test"].labels != 28
    length, start = event.sum(1), event.argmax(1)
    assert length.sum() == 2065 and length.min() == 2 and length.max() == 9
    assert round(100 * float((start == 10 - length).mean()), 2) == 46.77
    assert round(100 * float((start == 0).mean()), 2) == 35.32
    assert round(100 * float((1 / (11 - length)).mean()), 2) == 20.77


def test_every_published_defect_is_counted(shared: Path) -> None:
    numbers: dict[str, float] = {}
    for finding in examine(shared / "ave"):
        numbers |= finding.numbers
    assert numbers["rows"] == 4143 and numbers["videos"] == 4097 and numbers["classes"] == 28
    assert numbers["several"] == numbers["same_times"] == 45
    assert numbers["dashed"] == 1012 and numbers["first_empty"] == 26
    lengths = [int(numbers.get(f"length_{n}", 0)) for n in range(11)]
    assert lengths == [1, 0, 214, 220, 217, 196, 200, 139, 111, 95, 2750]
    shares = [round(100 * numbers[f"background_{n}"], 1) for n in ("all", "train", "val", "test")]
    assert shares == [17.1, 16.9, 18.2, 17.8]
    assert (numbers["shared_train_test"], numbers["shared_train_val"]) == (8, 10)
    assert numbers["contradicting_train_test"] == 8 and numbers["contradicting_train_val"] == 10
    assert numbers["seen_cml_test"] == 314 and numbers["lacking"] == 2 and numbers["partial"] == 402
    assert numbers["differences mil_labels.h5"] == numbers["differences labels_closs.h5"] == 0
    assert numbers["sorted"] >= 3 and not numbers["crlf"] and not numbers["header"]
    assert "missing visual_feature.h5" in numbers and "missing mil_labels.h5" not in numbers


def test_rows_of_sel_train_outside_cml_val_and_test(published: avel.data.base.Dataset) -> None:
    held = {*published.splits["cml_test"].ids, *published.splits["cml_val"].ids}
    assert sum(i not in held for i in published.train.ids) == 2704


def test_a_damaged_copy_is_examined_not_crashed_on(shared: Path, tmp_path: Path) -> None:
    root = tmp_path / "AVE"
    shutil.copytree(shared / "ave", root)
    with h5py.File(root / "mil_labels.h5", "r+") as f:
        f[KEY][7] = 0
    (root / "labels_closs.h5").write_bytes(b"no")
    (root / "test_order.h5").unlink()
    for name, clips in (("audio_maps.h5", 4143), ("c3d_feature.h5", 3)):
        with h5py.File(root / name, "w") as f:
            f[KEY] = np.zeros((clips, 1), np.float16)
    texts = [f.text for f in examine(root)]
    assert "audio_maps.h5: (4143, 1) float16" in texts
    assert "c3d_feature.h5: (3, 1) float16, which doesn't fit the 4143 annotations" in texts
    assert any("mil_labels.h5: 1 of 4143 rows differ" in t and "row 7" in t for t in texts)
    assert any("labels_closs.h5" in t and "HDF5" in t for t in texts)
    assert any("test_order.h5" in t for t in texts)
