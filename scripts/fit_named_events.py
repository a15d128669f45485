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
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from real_clips import Clip, in_segments, judge, read_clips, worth

if TYPE_CHECKING:
    from avel.checkpoint import Trained
    from avel.decisions import Decision
    from avel.models.named_events import Fusion

FOLDS = 10
#: What isn't learnt: floors and ceilings of the probabilities. The regression starts from these
#: weights, which only set the scale on which rivals are compared at first.
START = {
    "bias": 3.0, "audio": 0.6, "visual": 0.6, "rival": 0.5, "proxy_bias": -2.0,
    "audio_floor": 3e-4, "visual_floor": 3e-3, "proxy_floor": 0.01, "proxy_ceiling": 0.3,
    "unknown": 0.03, "audible": [0.0, 1.0], "visible": [0.0, 1.0], "temperature": 1.0,
}  # fmt: skip
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
    truth = np.concatenate([in_segments(c.truth, labels, c.features.grid) for c in clips])
    proxy = model.network.own.proxy.numpy()
    for _ in range(ROUNDS):
        a, v, r = (np.concatenate(x) for x in zip(*evidence(model, fusion, clips), strict=True))
        columns = [a, v, r, np.broadcast_to(proxy, a.shape)]
        fitted = LogisticRegression(max_iter=2000).fit(
            np.stack([c.ravel() for c in columns], 1), truth.ravel()
        )
        audio, visual, rival, proxy_bias = map(float, fitted.coef_[0])
        fusion = replace(
            fusion, bias=float(fitted.intercept_[0]), audio=audio, visual=visual, rival=-rival,
            proxy_bias=proxy_bias,
        )  # fmt: skip
    lines = {}
    for name, x, known in (("audible", a, model.network.own.heard), ("visible", v, model.network.own.seen)):
        where = np.broadcast_to(known.numpy() > 0, x.shape)
        line = LogisticRegression(max_iter=2000).fit(x[where][:, None], truth[where])
        lines[name] = (float(line.intercept_[0]), float(line.coef_[0, 0]))
    return replace(fusion, **lines)


def evidence(
    model: Trained, fusion: Fusion, clips: Sequence[Clip]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """ln a, ln v and r of each clip, (T, C) each."""
    import torch

    network = model.network
    network.fusion = fusion
    with torch.inference_mode():
        for clip in clips:
            audio = torch.from_numpy(clip.features.audio)[None]
            seen = network.seen(torch.from_numpy(clip.features.visual)[None])
            found = network.evidence(audio=audio, seen=seen)
            yield tuple(x[0].numpy() for x in found)  # type: ignore[misc]


def predictions(model: Trained, fusion: Fusion, clips: Sequence[Clip]) -> dict[str, object]:
    """The scores of each clip by name."""
    model.network.fusion = fusion
    return {c.name: model.predict(c.features) for c in clips}


def folds(clips: Sequence[Clip], count: int, seed: int) -> Iterator[tuple[list[Clip], list[Clip]]]:
    """Training and held-out clips; which is which doesn't depend on the names."""
    order = np.random.default_rng(seed).permutation(len(clips))
    for k in range(count):
        out = set(order[k::count].tolist())
        yield ([c for i, c in enumerate(clips) if i not in out],
               [clips[i] for i in sorted(out)])  # fmt: skip


def choose(
    model: Trained, clips: Sequence[Clip], labels: Sequence[str], *, seed: int = 0
) -> tuple[Fusion, Decision]:
    """Fusion on all these clips, decision and temperature on held-out predictions within them."""
    from avel.decisions import Decision, Rule
    from avel.localization import to_events

    held: dict[str, object] = {}
    for train, out in folds(clips, FOLDS, seed):
        held |= predictions(model, fit_fusion(model, train, labels), out)
    options = []
    for threshold, share, gap in itertools.product(THRESHOLDS, LOWS, GAPS):
        rule = Rule(threshold=threshold, low=round(threshold * share, 3), bridge=gap)
        decision = Decision(rule=rule)
        found = {n: to_events(s, decision=decision) for n, s in held.items()}  # type: ignore[arg-type]
        options.append((worth(judge(found, clips, labels)), decision))
    best = max(options, key=lambda o: o[0])[1]
    fusion = fit_fusion(model, clips, labels)
    return replace(fusion, temperature=temperature(held, clips, labels)), best


def temperature(held: dict, clips: Sequence[Clip], labels: Sequence[str]) -> float:
    """The temperature at which held-out predictions are the least surprised by the truth."""
    p = np.concatenate([held[c.name].values[:, :-1] for c in clips]).clip(1e-6, 1 - 1e-6)
    truth = np.concatenate([in_segments(c.truth, labels, c.features.grid) for c in clips])
    logits = np.log(p / (1 - p))

    def surprise(t: float) -> float:
        return float(np.logaddexp(0, np.where(truth, -logits, logits) / t).mean())

    return min(TEMPERATURES, key=surprise)


def main() -> None:
    """Fit, choose, write."""
    from avel.files import write_whole
    from avel.inference.named import SETTINGS, load_named_events

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reals", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=SETTINGS)
    args = parser.parse_args()
    clips, labels = read_clips(args.reals)
    model = load_named_events(labels)
    fusion, decision = choose(model, clips, labels)
    with_events = sum(bool(c.truth) for c in clips)
    chosen = {
        "by": "scripts/fit_named_events.py",
        "clips": len(clips), "clips_with_events": with_events, "labels": len(labels),
        "note": f"logistic regression over segments; decision by {FOLDS}-fold cross-validation "
        "over clips",
    }  # fmt: skip
    plain = {k: _rounded(v) for k, v in fusion.to_json().items()}
    settings = {"fusion": plain, "decision": decision.to_json(), "chosen": chosen}
    write_whole(args.output, json.dumps(settings, indent=1) + "\n")
    print(json.dumps(settings, indent=1))


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    return [_rounded(v) for v in value] if isinstance(value, list | tuple) else value


if __name__ == "__main__":
    main()
