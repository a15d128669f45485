from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avel.errors import CheckpointError
from avel.inference import checkpoint, load
from avel.inference import predictor as scoring
from avel.inference.card import WEIGHTS
from avel.inference.checkpoint import CARD, TRAIN_IDS, Trained
from avel.inference.load import load_trained
from avel.training.loop import fit
from avel.types import Features
from tests.training_data import features, make_dataset, small_recipe

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def trained() -> Trained:
    return fit("cspa_csea", make_dataset(), recipe=small_recipe("sel", "epochs=2")).trained


@pytest.fixture
def saved(trained: Trained, tmp_path: Path) -> Path:
    return trained.save(tmp_path / "run")


def test_a_checkpoint_rebuilds_itself(trained: Trained, saved: Path) -> None:
    again = load_trained(saved)
    assert again.train_ids == trained.train_ids
    assert {k: again.card[k] for k in trained.card} == trained.card
    file = features(6)
    ours, theirs = trained.predict(file), again.predict(file)
    assert np.array_equal(ours.values, theirs.values)
    assert ours.attention is not None and theirs.attention is not None
    assert np.array_equal(ours.attention, theirs.attention)


def test_half_floats_halve_the_file_and_hardly_change_the_scores(
    trained: Trained, saved: Path, tmp_path: Path
) -> None:
    half = trained.save(tmp_path / "half", dtype="float16")
    assert (half / WEIGHTS).stat().st_size < 0.75 * (saved / WEIGHTS).stat().st_size
    file = features(6)
    ours, theirs = trained.predict(file).values, load_trained(half).predict(file).values
    assert 0 < np.abs(ours - theirs).max() < 2e-3
    with pytest.raises(CheckpointError, match="float32 or float16"):
        trained.save(tmp_path / "other", dtype="int8")


@pytest.mark.parametrize("count", [1, 2, 5, 6, 7, 9, 37, 200])
def test_scores_are_means_over_windows(trained: Trained, count: int) -> None:
    """Against windows taken one by one, in float64."""
    file = features(count)
    scores = trained.predict(file)
    length = min(6, count)
    starts = sorted({*range(0, max(1, count - 6), 3), max(0, count - 6)})
    total, seen = np.zeros(scores.values.shape), np.zeros((count, 1))
    for s in starts:
        with torch.inference_mode():
            answer = trained.network(
                audio=torch.from_numpy(file.audio[None, s : s + length]),
                visual=torch.from_numpy(file.visual[None, s : s + length]),
            )
        total[s : s + length] += answer.scores[0].double().numpy()
        seen[s : s + length] += 1
    assert seen.min() >= 1
    np.testing.assert_allclose(scores.values, total / seen, atol=1e-5)
    assert np.array_equal(scores.labels, scores.values.argmax(1))
    assert scores.attention is not None
    np.testing.assert_allclose(scores.attention.sum((1, 2)), 1, atol=1e-5)


def test_a_models_own_decision_is_taken_over_mean_scores(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray] = []

    def decide(scores: np.ndarray, parts: dict[str, np.ndarray]) -> np.ndarray:
        assert len(parts["cspa.logits"]) == len(scores)
        seen.append(parts["cspa.logits"])
        return np.full(len(scores), 2)

    monkeypatch.setattr(type(trained.network), "decision_rule", staticmethod(decide), raising=False)
    assert (trained.predict(features(20)).labels == 2).all()
    assert np.concatenate(seen).shape == (20, 4)  # every segment once, as soon as it is final


def change(**more: Any) -> Callable[[Features], Features]:
    return lambda f: replace(f, **more)


OTHER = {"name": "vggish", "weights": "torchvggish", "hash": "sha256:9"}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (change(audio_card=OTHER), r"audio features are of vggish:torchvggish \(sha256:9\)"
                                   r"\s+expected: those of ears:w \(sha256:1\)"),
        (change(visual_card=OTHER), r"visual features are of vggish.*\s+expected: those of eyes:w"),
        (change(audio_card={}), "an unknown backbone"),
        (change(audio=np.zeros((6, 4), np.float32)), r"4 \(audio\) and 7 \(visual\)"),
        (change(visual=np.zeros((6, 2, 2, 9), np.float32)), r"5 \(audio\) and 9 \(visual\)"),
    ],
)  # fmt: skip
def test_features_that_do_not_fit_are_refused_by_name(
    trained: Trained, changed: Callable[[Features], Features], told: str
) -> None:
    with pytest.raises(CheckpointError, match=told):
        trained.predict(changed(features(6)))


def test_another_step_is_refused(trained: Trained) -> None:
    with pytest.raises(CheckpointError, match=r"segments of 0\.5 s"):
        trained.predict(features(6, step=0.5))


def test_a_cml_model_gives_no_scores() -> None:
    run = fit("cspa_csea", make_dataset(), task="cml", recipe=small_recipe("cml", "epochs=1"))
    with pytest.raises(CheckpointError, match="no class scores"):
        run.trained.predict(features(6))


def test_memory_is_flat_in_the_length(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    forward = type(trained.network).forward

    def counted(self: Any, **given: Any) -> Any:
        sizes.append(len(given["audio"]))
        return forward(self, **given)

    monkeypatch.setattr(type(trained.network), "forward", counted)
    trained.predict(features(1000))
    assert max(sizes) <= scoring.CHUNK and sum(sizes) > 300


# ---- saving


def test_a_save_that_dies_leaves_the_old_or_the_new(
    trained: Trained, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = trained.network.state_dict()
    network = load_trained(saved).network
    network.load_state_dict({n: t + 1 for n, t in state.items()})
    other = Trained(network, {**trained.card, "seed": 99}, ("x",))
    write = checkpoint.write_whole
    for dies_at in (TRAIN_IDS, WEIGHTS, CARD):
        trained.save(saved)

        def dying(path: Path, data: Any, dies_at: str = dies_at) -> None:
            if Path(path).name == dies_at:
                raise KeyboardInterrupt
            write(path, data)

        monkeypatch.setattr(checkpoint, "write_whole", dying)
        with pytest.raises(KeyboardInterrupt):
            other.save(saved)
        monkeypatch.setattr(checkpoint, "write_whole", write)
        found = load_trained(saved)
        new = found.card["seed"] == 99
        assert new == (dies_at == CARD)
        expected = other if new else trained
        for name, tensor in expected.network.state_dict().items():
            assert torch.equal(found.network.state_dict()[name], tensor)


def test_weights_that_are_not_finite_are_not_saved(trained: Trained, tmp_path: Path) -> None:
    network = load_trained(trained.save(tmp_path / "a")).network
    network.load_state_dict({n: t * 1e6 for n, t in network.state_dict().items()})
    with pytest.raises(CheckpointError, match="aren't finite as float16"):
        Trained(network, trained.card).save(tmp_path / "b", dtype="float16")


# ---- damaged and hostile


def rewrite(folder: Path, **changes: Any) -> None:
    """Change the card in both places, as a hostile author would."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(folder / WEIGHTS, framework="pt") as f:
        state = {n: f.get_tensor(n) for n in f.keys()}  # noqa: SIM118
    card = json.loads((folder / CARD).read_text())
    card = {k: v for k, v in {**card, **changes}.items() if v is not ...}
    save_file(state, folder / WEIGHTS, metadata={"avel": json.dumps(card)})
    (folder / CARD).write_text(json.dumps(card))


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 99}, {"format": None}, {"classes": []}, {"classes": "abc"}, {"classes": [1, 2]},
        {"classes": ["a", "a", "b"]}, {"classes": ["a"] * 70000}, {"classes": ...},
        {"classes": ["a", "b"]}, {"model": "nonsense"}, {"model": 3}, {"model": "../../x"},
        {"task": "dance"}, {"task": ...}, {"options": {"common": 10**9}}, {"options": []},
        {"options": {"common": -1}}, {"options": {"hidden": 1e308}}, {"options": {"what": 1}},
        {"options": {"state": "x"}}, {"options": {"lambda_s": float("nan")}},
        {"dims": {"audio": 10**12, "visual": 7}}, {"dims": {"audio": 0, "visual": 7}},
        {"dims": {"audio": True, "visual": 7}}, {"dims": {}}, {"dims": 5}, {"window": 0},
        {"window": "6"}, {"window": ...}, {"step": 0}, {"step": float("inf")}, {"step": None},
        {"audio_card": []}, {"train_ids": None}, {"data": None},
        {"metrics": []},
        {"init": -1},
        {"init": [None]},
        {"leak": {}},
        {"leak": -1},
        {"leak": True},
    ],
    ids=str,
)  # fmt: skip
def test_hostile_cards_give_an_error_one_can_read(saved: Path, changes: dict[str, Any]) -> None:
    rewrite(saved, **changes)
    with pytest.raises(CheckpointError):
        load_trained(saved)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"weights": 3}'])
def test_a_broken_card_beside_good_weights(saved: Path, text: bytes) -> None:
    (saved / CARD).write_bytes(text)
    try:
        load_trained(saved)  # the weights' own copy may do
    except CheckpointError:
        assert text != b'{"weights": 3}'


def test_damaged_weights_are_refused(saved: Path) -> None:
    whole = (saved / WEIGHTS).read_bytes()
    flipped = bytearray(whole)
    flipped[-5] ^= 4
    for bad in (whole[:-10], whole[:50], b"", b"junk", bytes(flipped), b"\xff" * 64):
        (saved / WEIGHTS).write_bytes(bad)
        with pytest.raises(CheckpointError):
            load_trained(saved)


def test_files_beyond_bounds_are_not_read(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "LARGEST_WEIGHTS", 100)
    with pytest.raises(CheckpointError, match="at most 100 are read"):
        load_trained(saved)
    monkeypatch.undo()
    (saved / CARD).write_bytes(b" " * (checkpoint.LARGEST_CARD + 1))
    with pytest.raises(CheckpointError, match="are read"):
        load_trained(saved)


@pytest.mark.parametrize(
    "bad",
    [b"junk", *(gzip.compress(text, mtime=0) for text in (b'["someone elses"]', b"{}", b"["))],
    ids=["junk", "others", "table", "cut"],
)
def test_training_ids_that_do_not_fit_are_not_believed(saved: Path, bad: bytes) -> None:
    (saved / TRAIN_IDS).write_bytes(bad)
    assert load_trained(saved).train_ids is None


def test_an_unknown_place_names_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no trained model at"):
        load_trained(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="no trained model at"):
        load_trained("no_such_name")


def test_packaged_models_load_by_name(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "PRETRAINED", tmp_path)
    monkeypatch.chdir(saved)
    assert load_trained("run").card["model"] == "cspa_csea"


def test_what_a_model_wants_extracted(trained: Trained) -> None:
    assert trained.feature_options == {"audio": "ears:w", "visual": "eyes:w", "step": 1.0}


def test_training_ids_of_odd_json_take_no_memory(tmp_path: Path) -> None:
    for text in ("[[],[]]", '{"a": 1}', '["a" "b"]', '["a", 1]', '"a"', "[", "", '["a"] x', "[1]"):
        with pytest.raises(ValueError, match=r"."):
            list(checkpoint._texts(text))
    for ids in ([], ["a"], ["a", 'quo"te', "ü\n", "\ud83d"]):
        assert list(checkpoint._texts(json.dumps(ids))) == ids
        assert list(checkpoint._texts(json.dumps(ids, indent=1))) == ids
