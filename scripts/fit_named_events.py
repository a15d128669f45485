"""Choose the numbers of `named_events` on real clips, and write the file that ships.

    python scripts/fit_named_events.py REALS [-o src/avel/pretrained/named_events.json]

REALS is a folder as scripts/real_clips.py reads it. The fusion's weights are a logistic regression
over all segments and labels (no number belongs to one event), the decision's four numbers and the
temperature are chosen on predictions of clips that the regression hasn't seen.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from real_clips import Clip, in_segments, judge, read_clips, worth

if TYPE_CHECKING:
    from avel.inference.checkpoint import Trained
    from avel.inference.decision import Decision
    from avel.models.named_events import Fusion
    from avel.types import Scores

FOLDS = 10
#: What isn't learnt: floors and ceilings of the probabilities. The regression starts from these
#: weights, which only set the scale on which rivals are compared at first.
START = {
    "bias": -2.0, "audio": 0.4, "visual": 0.5, "rival": 0.8, "proxy_bias": -1.0,
    "visual_floor": 3e-3, "proxy_floor": 0.01, "proxy_ceiling": 0.3,
    "unknown": 0.03, "temperature": 1.0,
}  # fmt: skip
#: What is typical of an AudioSet class: its logit at this quantile of all segments, unlabelled.
TYPICAL = 0.2
ROUNDS = 3  # the rivals' excess depends on the weights: fitted again with them so often
THRESHOLDS = (0.35, 0.4, 0.45, 0.5, 0.55, 0.6)
LOWS = (0.3, 0.5, 0.7)  # of the threshold
GAPS = (0.0, 1.0)
TEMPERATURES = (0.6, 0.8, 1.0, 1.25, 1.6)


def fit_fusion(model: Trained, clips: Sequence[Clip], labels: Sequence[str]) -> Fusion:
    """The weights on these clips."""
    from sklearn.linear_model import LogisticRegression

    from avel.models.named_events import Fusion

    fusion = Fusion.from_json(START)
    set_typical(model, clips)
    truth = np.concatenate([in_segments(c.truth, labels, c.features.grid) for c in clips])
    proxy = model.network.scored.proxy.numpy()
    for _ in range(ROUNDS):
        x, v, r = (np.concatenate(x) for x in zip(*evidence(model, fusion, clips), strict=True))
        columns = [x, v, r, np.broadcast_to(proxy, x.shape)]
        fitted = LogisticRegression(max_iter=2000).fit(
            np.stack([c.ravel() for c in columns], 1), truth.ravel()
        )
        audio, visual, rival, proxy_bias = map(float, fitted.coef_[0])
        fusion = replace(
            fusion, bias=float(fitted.intercept_[0]), audio=audio, visual=visual, rival=-rival,
            proxy_bias=proxy_bias,
        )  # fmt: skip
    return fusion


def set_typical(model: Trained, clips: Sequence[Clip]) -> None:
    """Give the model what is typical of each AudioSet class in these clips' sound."""
    import torch

    network = model.network
    with torch.inference_mode():
        logits = torch.cat(
            [network.audio_logits(torch.from_numpy(c.features.audio)) for c in clips]
        )
    network.typical = torch.quantile(logits, TYPICAL, dim=0)


def evidence(
    model: Trained, fusion: Fusion, clips: Sequence[Clip]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """x, ln v and r of each clip, (T, C) each."""
    import torch

    network = model.network
    network.fusion = fusion
    with torch.inference_mode():
        for clip in clips:
            audio = torch.from_numpy(clip.features.audio)[None]
            seen = network.frame_probabilities(torch.from_numpy(clip.features.visual)[None])
            found = network.evidence(audio=audio, seen=seen)
            yield tuple(x[0].numpy() for x in found)  # type: ignore[misc]


def predictions(model: Trained, fusion: Fusion, clips: Sequence[Clip]) -> dict[str, Scores]:
    """The scores of each clip by name."""
    model.network.fusion = fusion
    return {c.name: model.predict(c.features) for c in clips}


def alone(scores: Scores, modality: str) -> Scores:
    """The scores as one modality alone gives them; ``both`` leaves them as they are."""
    if modality == "both":
        return scores
    single = scores.audio_scores if modality == "audio" else scores.visual_scores
    values = np.nan_to_num(single)
    return replace(scores, values=np.column_stack([values, 1 - values.max(1)]))


def folds(clips: Sequence[Clip], count: int, seed: int) -> Iterator[tuple[list[Clip], list[Clip]]]:
    """Training and held-out clips; which is which doesn't depend on the names."""
    order = np.random.default_rng(seed).permutation(len(clips))
    for k in range(count):
        out = set(order[k::count].tolist())
        yield ([c for i, c in enumerate(clips) if i not in out],
               [clips[i] for i in sorted(out)])  # fmt: skip


def choose(
    model: Trained, clips: Sequence[Clip], labels: Sequence[str], *, seed: int = 0
) -> tuple[Fusion, dict[str, Decision]]:
    """The fusion on all these clips; temperature and decisions on held-out predictions of them.

    Returns:
        The fusion, and a decision for ``both``, ``audio`` and ``visual`` alone.
    """
    held: dict[str, Scores] = {}
    for train, out in folds(clips, FOLDS, seed):
        held |= predictions(model, fit_fusion(model, train, labels), out)
    fusion = fit_fusion(model, clips, labels)
    fusion = replace(fusion, temperature=temperature(held, clips, labels))
    decisions = {}
    for modality in ("both", "audio", "visual"):
        scores = {n: alone(s, modality) for n, s in held.items()}
        if modality == "both":
            scores = {n: cooled(s, fusion.temperature) for n, s in scores.items()}
        decisions[modality] = best_decision(scores, clips, labels)
    return fusion, decisions


def best_decision(
    scores: Mapping[str, Scores], clips: Sequence[Clip], labels: Sequence[str]
) -> Decision:
    """The decision of the grid that is worth the most on these clips."""
    from avel.inference.decision import Decision, Thresholds
    from avel.inference.localizer import to_events

    options = []
    for threshold, share, gap in itertools.product(THRESHOLDS, LOWS, GAPS):
        rule = Thresholds(
            threshold=threshold, low_threshold=round(threshold * share, 3), max_gap=gap
        )
        found = {n: to_events(s, decision=Decision(rule=rule)) for n, s in scores.items()}
        options.append((worth(judge(found, scores, clips, labels)), Decision(rule=rule)))
    return max(options, key=lambda o: o[0])[1]


def temperature(held: Mapping[str, Scores], clips: Sequence[Clip], labels: Sequence[str]) -> float:
    """The temperature at which held-out predictions are the least surprised by the truth."""
    logits = np.concatenate([_logits(held[c.name].values[:, :-1]) for c in clips])
    truth = np.concatenate([in_segments(c.truth, labels, c.features.grid) for c in clips])

    def surprise(t: float) -> float:
        return float(np.logaddexp(0, np.where(truth, -logits, logits) / t).mean())

    return min(TEMPERATURES, key=surprise)


def cooled(scores: Scores, by: float) -> Scores:
    """The scores with their logits divided by a temperature."""
    values = 1 / (1 + np.exp(-_logits(scores.values[:, :-1]) / by))
    return replace(scores, values=np.column_stack([values, 1 - values.max(1)]))


def _logits(p: np.ndarray) -> np.ndarray:
    p = p.astype(np.float64).clip(1e-9, 1 - 1e-9)
    return np.asarray(np.log(p / (1 - p)))


def main() -> None:
    """Fit, choose, write."""
    from avel.files import write_whole
    from avel.inference.named_events import SETTINGS, load_named_events

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reals", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=SETTINGS)
    args = parser.parse_args()
    clips, labels = read_clips(args.reals)
    model = load_named_events(labels)
    fusion, decisions = choose(model, clips, labels)
    with_events = sum(bool(c.truth) for c in clips)
    chosen = {
        "by": "scripts/fit_named_events.py",
        "clips": len(clips), "clips_with_events": with_events, "labels": len(labels),
        "note": f"logistic regression over segments; decision by {FOLDS}-fold cross-validation "
        "over clips",
    }  # fmt: skip
    plain = {k: _rounded(v) for k, v in fusion.to_json().items()}
    typical = [round(float(x), 2) for x in model.network.typical]
    settings = {
        "fusion": plain,
        "typical": typical,
        "decision": decisions["both"].to_json(),
        "chosen": chosen,
    }
    write_whole(args.output, json.dumps(settings) + "\n")
    print(json.dumps({k: v for k, v in settings.items() if k != "typical"}, indent=1))


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    return [_rounded(v) for v in value] if isinstance(value, list | tuple) else value


if __name__ == "__main__":
    main()
