"""Several data sets as one: all clips, all classes, nothing mixed up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from avel.data.base import Dataset
from avel.data.concat import join, relabel
from avel.data.resident import resident
from avel.errors import DataError, UsageError
from avel.metrics import Ints
from avel.training.loop import fit
from tests.training_data import make_dataset, small_recipe


def two() -> list[Dataset]:
    first = replace(make_dataset(unequal=True), name="one", note="of one")
    other = make_dataset(cml=True)
    splits = {n: replace(s, audio=s.audio + 1) for n, s in other.splits.items()}
    return [first, replace(other, name="two", classes=("whistle", "bell", "dog"), splits=splits)]


def test_clips_keep_their_features_and_the_names_of_their_classes() -> None:
    one, other = two()
    both = join([one, other])
    assert both.name == "one+two" and both.classes == ("bell", "dog", "train", "whistle")
    assert set(both.splits) == {"train", "val", "test"}
    assert both.val.ids == tuple(f"{d}/{i}" for d in ("one", "two") for i in one.val.ids)
    held = resident(both.val)
    for data, at in ((one, slice(0, 9)), (other, slice(9, 18))):
        np.testing.assert_array_equal(held.audio[at].numpy(), data.val.audio)
        np.testing.assert_array_equal(held.visual[at].numpy(), data.val.visual)
        ours, theirs = both.val.labels[at], data.val.labels
        assert [names(both, row) for row in ours] == [names(data, row) for row in theirs]
    np.testing.assert_array_equal(both.val.lengths, np.r_[one.val.lengths, other.val.lengths])


def names(data: Dataset, row: Ints) -> list[str]:
    told = [*data.classes, "background", "beyond"]
    return [told[i] if i >= 0 else "beyond" for i in row]


def test_one_alone_is_itself_and_three_lie_one_after_another() -> None:
    one, other = two()
    alone = join([one])
    np.testing.assert_array_equal(alone.test.labels, one.test.labels)
    third = replace(one, name="three")
    three = join([one, other, third])
    assert len(three.train) == 72
    np.testing.assert_array_equal(
        resident(three.train).audio[48:].numpy(), resident(one.train).audio.numpy()
    )


def test_it_can_be_trained_on() -> None:
    both = join(two())
    run = fit("cspa_csea", both, recipe=small_recipe("sel", "epochs=1"))
    assert run.trained.classes == both.classes and len(run.trained.train_ids or ()) == 48


def test_what_does_not_fit_is_named_at_once() -> None:
    one, other = two()
    odd = replace(other, name="one", step=0.5, audio_card={"name": "noses"})
    with pytest.raises(DataError, match=r"other backbones; one has segments of 0.5 s; two are"):
        join([one, odd])
    cut = {n: replace(s, visual=s.visual[:, :4]) for n, s in other.splits.items()}
    with pytest.raises(DataError, match="two has val of shape"):
        join([one, replace(other, splits=cut)])
    with pytest.raises(UsageError, match="no data set"):
        join([])
    with pytest.raises(DataError, match="one over classes without train"):
        relabel(one, ("dog", "bell"))
