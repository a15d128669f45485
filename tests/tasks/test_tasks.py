"""Tasks: targets, partitions, evaluation and baselines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from avel.data.base import Dataset, Split
from avel.errors import DataError, UsageError
from avel.models.base import Query
from avel.tasks import TASKS, cml, task_named

C = 2
LABELS = [
    [2, 0, 0, 2, 2],  # one event: usable in CML
    [1, 1, 1, 1, 1],  # as long as the clip
    [0, 2, 0, 2, 2],  # two events
    [2, 2, 2, 2, 2],  # none
    [2, 1, 1, -1, -1],  # one event at the end of a clip of three
]


def split_of(labels: Any = LABELS, name: str = "train", seed: int = 0) -> Split:
    ids = np.asarray(labels, dtype=np.int64)
    n, t = ids.shape
    rng = np.random.default_rng(seed)
    return Split(
        name=name,
        ids=tuple(f"{name}{i}" for i in range(n)),
        audio=rng.random((n, t, 3), np.float32),
        visual=rng.random((n, t, 2, 2, 4), np.float32),
        lengths=(ids >= 0).sum(1),
        labels=ids,
    )


def dataset_of(**splits: Split) -> Dataset:
    return Dataset("toy", ("bell", "bird"), splits)


# ---- WSEL's targets


def test_tags() -> None:
    tagged = task_named("wsel").prepare(split_of(), setting="tag-clean", classes=C).tags
    assert tagged is not None
    assert tagged.tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0]]


def test_proportions_are_shares_of_the_real_segments() -> None:
    tagged = task_named("wsel").prepare(split_of(), setting="proportion", classes=C).tags
    assert tagged is not None
    expected = [[0.4, 0, 0.6], [0, 1, 0], [0.4, 0, 0.6], [0, 0, 1], [0, 2 / 3, 1 / 3]]
    np.testing.assert_allclose(tagged, expected, rtol=1e-6)


def test_tags_that_a_split_brings_are_kept_but_for_proportion() -> None:
    given = np.tile(np.array([[0, 1, 0]], np.float32), (5, 1))
    split = replace(split_of(), tags=given)
    assert task_named("wsel").prepare(split, setting="tag", classes=C).tags is given
    shares = task_named("wsel").prepare(split, setting="proportion", classes=C).tags
    assert shares is not None
    assert not np.array_equal(shares, given)


@pytest.mark.parametrize(("setting", "clips"), [("tag", 7), ("tag-clean", 5), ("proportion", 5)])
def test_background_clips_belong_to_tag_alone(setting: str, clips: int) -> None:
    noise = split_of([[2] * 5] * 2, "background", seed=1)
    joined = task_named("wsel").prepare(split_of(), setting=setting, background=noise, classes=C)
    assert len(joined) == clips
    assert joined.tags is not None
    assert len(joined.tags) == len(joined.labels) == len(joined.lengths) == clips
    assert joined.tags[5:].tolist() == [[0, 0, 1]] * (clips - 5)


def test_joined_features_are_those_of_both() -> None:
    first, noise = split_of(), split_of([[2] * 5] * 2, "background", seed=1)
    first = replace(first, rows=np.array([4, 3, 2, 1, 0]))
    joined = task_named("wsel").prepare(first, setting="tag", background=noise, classes=C)
    assert joined.rows is not None
    assert joined.rows.tolist() == [4, 3, 2, 1, 0, 5, 6]
    for modality in ("audio", "visual"):
        ours, theirs, both = (getattr(s, modality) for s in (first, noise, joined))
        np.testing.assert_array_equal(both[joined.rows[[6, 0, 5]]], [theirs[1], ours[4], theirs[0]])
        np.testing.assert_array_equal(both[2:6], np.concatenate([ours[2:], theirs[:1]]))
        np.testing.assert_array_equal(both[-1], theirs[1])
        assert both.shape == np.asarray(both).shape


def test_background_clips_of_one_store_share_it() -> None:
    whole = split_of([*LABELS, [2] * 5])
    first = replace(whole, ids=whole.ids[:5], lengths=whole.lengths[:5], labels=whole.labels[:5])
    first = replace(first, rows=np.arange(5))
    noise = replace(
        whole, ids=whole.ids[5:], lengths=whole.lengths[5:], labels=whole.labels[5:],
        rows=np.array([5]),
    )  # fmt: skip
    joined = task_named("wsel").prepare(first, setting="tag", background=noise, classes=C)
    assert joined.audio is whole.audio
    assert joined.rows is not None
    assert joined.rows.tolist() == [0, 1, 2, 3, 4, 5]


def test_background_clips_of_another_shape() -> None:
    with pytest.raises(DataError, match="background clips have audio"):
        noise = split_of([[2, 2]], "background")
        task_named("wsel").prepare(split_of(), setting="tag", background=noise, classes=C)


# ---- settings and partitions


def test_settings() -> None:
    assert task_named("wsel").check_setting(None) == "tag"
    assert task_named("cml").check_setting("sync") == "sync"
    known = ("tau", "negatives")
    assert task_named("cml").model_options("sync", known) == {"negatives": "sync"}
    assert task_named("cml").model_options("sync", ("tau",)) == {}
    for task, setting in (("cml", "release"), ("wsel", "tag")):
        assert task_named(task).model_options(setting, known) == {}
    with pytest.raises(UsageError, match="tag-clean"):
        task_named("wsel").check_setting("tags")
    with pytest.raises(UsageError, match="did you mean wsel"):
        task_named("wsell").check_setting(None)


def test_split_names() -> None:
    assert task_named("wsel").split_names({"cml_train"}) == ("train", "val", "test")
    own = ("cml_train", "cml_val", "cml_test")
    assert task_named("cml").split_names() == task_named("cml").split_names(set(own)) == own
    assert task_named("cml").split_names({"train", "val", "test"}) == ("train", "val", "test")


def test_cml_keeps_what_it_can_use() -> None:
    kept = task_named("cml").prepare(split_of(), classes=C)
    assert kept.ids == ("train0", "train4")
    assert kept.rows is not None
    assert kept.rows.tolist() == [0, 4]
    assert kept.labels.tolist() == [LABELS[0], LABELS[4]]


def test_cml_keeps_a_partition_of_its_own_whole() -> None:
    assert len(task_named("cml").prepare(split_of(name="cml_train"), classes=C)) == 5


def test_splits_of_a_data_set() -> None:
    parts = {n: split_of(name=n) for n in ("train", "val", "test")}
    noise = split_of([[2] * 5] * 3, "background")
    sizes = {
        task: [len(s) for s in task_named(task).splits(dataset_of(**parts, background=noise))]
        for task in TASKS
    }
    assert sizes == {"sel": [5, 5, 5], "wsel": [8, 5, 5], "cml": [2, 2, 2]}
    with pytest.raises(DataError, match="no split val, test"):
        task_named("sel").splits(dataset_of(train=parts["train"]))


def test_no_clip_for_cml() -> None:
    with pytest.raises(DataError, match="no clip for cml"):
        task_named("cml").prepare(split_of([[1, 1]]), classes=C)
    with pytest.raises(DataError, match="no clip for cml"):
        task_named("cml").evaluate(lambda *a: None, split_of([[1, 1]]), C)


# ---- evaluation


def test_sel_is_evaluated_by_its_labels() -> None:
    split = split_of()
    answers = np.where(split.labels >= 0, split.labels, 0)
    answers[0, 0] = 0
    found = task_named("sel").evaluate(lambda s: (answers, None), split, C, step=0.5)
    assert found["segment_accuracy"] == pytest.approx(22 / 23)
    assert found["video_accuracy"] == 1.0
    assert found["event_f1_0.5"] == 1.0
    assert found["event_f1_0.7"] == pytest.approx(2 * 4 / 10)
    assert found["boundary_error"] == pytest.approx(1 / 2 / 5 * 0.5)
    assert task_named("wsel").selection_metric in found
    assert task_named("wsel").evaluate(lambda s: (answers, None), split, C, step=0.5) == found
    rows = task_named("sel").details(lambda s: (answers, None), split, ("bell", "bird"), step=0.5)
    background = {k: v for k, v in rows["background"].items() if v == v}
    assert background == {"accuracy": pytest.approx(11 / 12), "segments": 12}
    assert rows["bird"] == {
        "accuracy": 1.0, "clip_accuracy": 1.0, "video_accuracy": 1.0, "event_f1_0.5": 1.0,
        "event_f1_0.7": 1.0, "boundary_error": 0.0, "segments": 7,
    }  # fmt: skip
    assert rows["bell"] == {  # of three events one begins a segment early: IoU 2/3
        "accuracy": 1.0, "clip_accuracy": 0.9, "video_accuracy": 1.0, "event_f1_0.5": 1.0,
        "event_f1_0.7": pytest.approx(2 * 2 / 6), "boundary_error": pytest.approx(1 / 2 / 3 * 0.5),
        "segments": 4,
    }  # fmt: skip
    answers[0] = 1  # a bell taken for a bird: bird's events are those of its own alone
    rows = task_named("sel").details(lambda s: (answers, None), split, ("bell", "bird"))
    assert rows["bell"]["video_accuracy"] == 0.5 and rows["bird"]["video_accuracy"] == 1.0
    assert rows["bird"]["event_f1_0.5"] == pytest.approx(2 * 2 / 5)
    assert rows["bell"]["event_f1_0.5"] == pytest.approx(2 * 2 / 5)


def test_answers_of_another_shape() -> None:
    with pytest.raises(ValueError, match="labels of shape"):
        task_named("sel").evaluate(lambda s: (np.zeros((5, 4)), None), split_of(), C)


class Matcher:
    """Knows the truth in V2A; in A2V gives every window the same cost. Records its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, Query]] = []

    def __call__(self, split: Split, clips: NDArray[np.int64], query: Query) -> NDArray[Any]:
        self.calls += [(int(c), query) for c in clips]
        count = int(split.lengths[clips[0]])
        costs = np.ones((len(clips), count - query.length + 1))
        if query.modality == "visual":
            costs[:, query.start] = 0
        return costs


def test_cml_is_evaluated_both_ways() -> None:
    """Events [1, 3) of five and [1, 3) of three; a tie takes window 0, wrong, overlap 1/3."""
    matcher = Matcher()
    found = task_named("cml").evaluate(matcher, split_of(), C)
    assert {c for c, _ in matcher.calls} == {0, 4}
    third = pytest.approx(1 / 3)
    assert (found["a2v"], found["v2a"], found["mean_accuracy"]) == (0.0, 1.0, 0.5)
    assert (found["a2v_overlap"], found["v2a_overlap"]) == (third, 1.0)
    assert found["overlap"] == pytest.approx(2 / 3)
    assert (found["a2v_second"], found["v2a_second"], found["second"]) == (0.0, 1.0, 0.5)
    assert task_named("cml").selection_metric in found
    assert "second" not in task_named("cml").evaluate(matcher, split_of(), C, full=False)
    assert task_named("cml").details(matcher, split_of(), ("bell", "bird")) == {
        "bell": {"a2v": 0.0, "v2a": 1.0, "clips": 1},
        "bird": {"a2v": 0.0, "v2a": 1.0, "clips": 1},
    }


def test_cml_second_asks_every_event_segment_once() -> None:
    cases = cml.segments(cml.usable(split_of(), C))
    rows = np.stack([cases.clip, cases.start, cases.length, cases.count], 1)
    assert rows.tolist() == [[0, 1, 1, 5], [0, 2, 1, 5], [4, 1, 1, 3], [4, 2, 1, 3]]


def test_costs_of_another_shape() -> None:
    with pytest.raises(ValueError, match="costs of shape"):
        task_named("cml").evaluate(lambda s, c, q: np.zeros((len(c), 99)), split_of(), C)


# ---- baselines


def test_baselines_by_hand() -> None:
    split = split_of()
    found = task_named("sel").baselines(split, C)
    assert found == {
        "true_category": pytest.approx((2 + 5 + 2 + 0 + 2) / 23),
        "always_background": pytest.approx(12 / 23),
    }
    assert task_named("wsel").baselines(split, C) == found
    assert task_named("cml").baselines(split, C) == {
        "last_window": 0.5,
        "first_window": 0.0,
        "random_window": pytest.approx((1 / 4 + 1 / 2) / 2),
    }


def real(shared: Path, order: str) -> Split:
    """A test split of the real labels, without features."""

    def read(name: str, key: str = "avadataset") -> NDArray[Any]:
        with h5py.File(shared / "ave" / f"{name}.h5") as f:
            return np.asarray(f[key][:])

    rows = read(order, "order")
    inside = read("labels_closs")[rows] > 0
    category = read("mil_labels")[rows].argmax(1)[:, None]
    labels = np.where(inside, category, 28)
    return replace(split_of(labels, "test"), labels=labels)


def test_baselines_on_ave(shared: Path) -> None:
    sel = task_named("sel").baselines(real(shared, "test_order"), 28)
    assert {k: round(100 * v, 2) for k, v in sel.items()} == {
        "true_category": 82.21,
        "always_background": 17.79,
    }
    split = real(shared, "test_order_match")
    assert {k: round(100 * v, 2) for k, v in task_named("cml").baselines(split, 28).items()} == {
        "last_window": 46.77,
        "first_window": 35.32,
        "random_window": 20.77,
    }
    assert len(cml.usable(split, 28).clip) == 402
    assert len(cml.segments(cml.usable(split, 28)).clip) == 2065


def test_a_matcher_that_always_answers_last_scores_the_baseline(shared: Path) -> None:
    split = real(shared, "test_order_match")

    def last(split: Split, clips: NDArray[np.int64], query: Query) -> NDArray[Any]:
        return -np.tile(np.arange(10 - query.length + 1.0), (len(clips), 1))

    found = task_named("cml").evaluate(last, split, 28)
    assert round(100 * found["a2v"], 2) == round(100 * found["v2a"], 2) == 46.77


def test_wsel_says_what_sel_says() -> None:
    assert task_named("wsel").baselines(split_of(), C) == task_named("sel").baselines(split_of(), C)
