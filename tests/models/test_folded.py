"""Co-spatial attention without f2(v) against the equations' own operations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from avel.models.base import Batch, TaskName, build_model
from avel.models.coattention import CSPA
from avel.models.folded import folds
from avel.training.step import Objective

torch.set_num_threads(1)

A, V, C, K = 6, 8, 3, 5
Found = dict[str, Tensor]


def learnt(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, s: int, t: int, *, fold: bool, mix: bool
) -> Found:
    """Answers and all gradients, the audio's too, of every pair of 3 clips' S x T segments."""
    torch.manual_seed(0)
    cspa = CSPA(audio_dim=A, visual_dim=V, common=4, hidden=16, audio_attention=mix)
    maps = torch.randn(3, t, K, V, dtype=torch.float64).relu()
    audio = torch.rand(3, s, A, dtype=torch.float64)
    weights = [torch.randn(3, s, t, width, dtype=torch.float64) for width in (A, V)]
    small = dtype == torch.bfloat16
    cspa.to(torch.float32 if small else dtype)
    audio = audio.to(torch.float32 if small else dtype).requires_grad_()
    monkeypatch.setattr(CSPA, "folds", lambda *_: fold)
    with torch.autocast("cpu", torch.bfloat16, enabled=small):
        heard, seen, attention = cspa(audio, maps.to(dtype))
    loss = (heard * weights[0]).sum() + (seen * weights[1]).sum()
    loss.backward()
    grads = {n: p.grad for n, p in cspa.named_parameters()} | {"audio": audio.grad}
    assert all(g is not None for g in grads.values())
    found = grads | {"loss": loss, "heard": heard, "seen": seen, "attention": attention}
    return {n: x.detach() for n, x in found.items()}


@pytest.mark.parametrize("mix", [True, False])
@pytest.mark.parametrize(("s", "t"), [(1, 1), (1, 4), (3, 2)])
def test_as_the_equations(monkeypatch: pytest.MonkeyPatch, s: int, t: int, mix: bool) -> None:
    ours, plain = (
        learnt(monkeypatch, torch.float64, s, t, fold=fold, mix=mix) for fold in (True, False)
    )
    assert ours.keys() == plain.keys()
    assert ("f4.0.weight" in ours) == mix
    for name, expected in plain.items():
        torch.testing.assert_close(ours[name], expected, rtol=1e-10, atol=1e-12, msg=name)


@pytest.mark.parametrize(("s", "t"), [(1, 1), (3, 2)])
def test_folded_in_bfloat16_is_as_near_as_the_equations_are(
    monkeypatch: pytest.MonkeyPatch, s: int, t: int
) -> None:
    exact = learnt(monkeypatch, torch.float64, s, t, fold=False, mix=True)
    far = []
    for fold in (True, False):
        found = learnt(monkeypatch, torch.bfloat16, s, t, fold=fold, mix=True)
        far.append([float((found[n] - x).norm() / (x.norm() + 1e-3)) for n, x in exact.items()])
    assert max(far[1]) > 1e-3  # it was bfloat16
    assert max(far[0]) < max(0.02, 1.5 * max(far[1]))


def calls_of_f2(cspa: CSPA) -> list[None]:
    """Grows by one whenever f2's second layer is called."""
    calls: list[None] = []
    cspa.f2[2].register_forward_hook(lambda *_: calls.append(None))
    return calls


@pytest.mark.parametrize("task", ["sel", "wsel", "cml"])
def test_a_training_step_folds_and_learns_what_the_plain_one_does(task: TaskName) -> None:
    torch.manual_seed(0)
    audio, visual = torch.rand(4, 7, A), torch.rand(4, 7, 2, 3, V)
    labels = torch.full((4, 7), C)
    labels[:, 2:5] = 1
    batch = Batch(audio, visual, None, labels, torch.eye(C + 1))
    found = {}
    for fold in (True, False):
        torch.manual_seed(1)
        model = build_model("cspa_csea", audio_dim=A, visual_dim=V, classes=C, task=task)
        (cspa,) = (m for m in model.modules() if isinstance(m, CSPA))
        objective, calls = Objective(model, bf16=False), calls_of_f2(cspa)
        cspa.may_fold = cspa.may_fold and fold
        loss = objective(batch)
        loss.backward()
        assert len(calls) == (0 if fold else 1)
        found[fold] = {n: p.grad for n, p in model.named_parameters()} | {"loss": loss.detach()}
    assert found[True].keys() == found[False].keys()
    for name, expected in found[False].items():
        ours = found[True][name]
        assert ours is not None and expected is not None
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6, msg=name)


def test_only_avels_own_training_step_folds() -> None:
    """Not a loop over the bare model, which is what benchmarks compare with; nor an answer."""
    model = build_model("cspa_csea", audio_dim=A, visual_dim=V, classes=C)
    (cspa,) = (m for m in model.modules() if isinstance(m, CSPA))
    calls, given = calls_of_f2(cspa), {"audio": torch.rand(2, 3, A)}
    given["visual"] = torch.rand(2, 3, 2, 3, V)
    model(**given)
    assert len(calls) == 1
    Objective(model, bf16=False)
    model(**given)
    assert len(calls) == 1
    model.eval()(**given)
    assert len(calls) == 2


def test_folds_what_gains_by_it() -> None:
    audio, visual = torch.rand(2, 1, A), torch.rand(2, 3, K, V)
    assert folds(audio, visual)
    assert not folds(torch.rand(2, 3, A), visual)
    assert not folds(audio, visual.bfloat16())  # right, but not measured to be faster
    assert not folds(audio, visual.clone().requires_grad_())
    with torch.no_grad():
        assert not folds(audio, visual)
