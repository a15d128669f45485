"""How the training-free default does on real clips with hand-made truth.

    python benchmarks/reals.py REALS [--folds 10] [--output results]

REALS is a folder as scripts/real_clips.py reads it: clips/ and truth.csv; its labels are what is
looked for (`--events`). Two kinds of rows: `shipped`, the numbers that ship, and `cross-validated`,
where the fusion, the decision and the temperature are chosen anew without the clips that are
judged. Each for both modalities, and for the sound and the picture alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))

from common import machine, write_csv

from avel.inference.decision import Decision
from avel.inference.localizer import to_events
from avel.inference.named_events import load_named_events
from avel.types import Event, Scores
from fit_named_events import alone, choose, folds, predictions
from real_clips import Clip, Counts, in_segments, judge, matches, read_clips

MODALITIES = ("both", "audio", "visual")
#: The events of each clip, and its scores.
Found = tuple[dict[str, list[Event]], dict[str, Scores]]


def shipped(clips: Sequence[Clip], labels: Sequence[str]) -> dict[str, Found]:
    """The events that the model finds as it ships, and by each modality alone."""
    model = load_named_events(labels)
    decision = Decision.from_json(model.card["decision"])
    scores = predictions(model, model.network.fusion, clips)  # type: ignore[arg-type]
    results: dict[str, Found] = {}
    for m in MODALITIES:
        one = {n: alone(s, m) for n, s in scores.items()}
        results[m] = {n: to_events(s, decision=decision) for n, s in one.items()}, one
    return results


def cross_validated(clips: Sequence[Clip], labels: Sequence[str], count: int) -> dict[str, Found]:
    """The same with all numbers chosen without the clips that are judged."""
    model = load_named_events(labels)
    results: dict[str, Found] = {m: ({}, {}) for m in MODALITIES}
    for k, (train, out) in enumerate(folds(clips, count, seed=1)):
        fusion, decisions = choose(model, train, labels, seed=k)
        for name, scores in predictions(model, fusion, out).items():
            for m in MODALITIES:
                events, one = results[m]
                one[name] = alone(scores, m)
                events[name] = to_events(one[name], decision=decisions[m])
    return results


def by_label(
    found: Mapping[str, Sequence[Event]], clips: Sequence[Clip], labels: Sequence[str]
) -> list[dict[str, Any]]:
    """Segment and event F1 of every label."""
    rows = []
    for label in labels:
        segments, events = Counts(), Counts()
        for clip in clips:
            said, true = (
                [e for e in x if e.label == label] for x in (found[clip.name], clip.truth)
            )
            a, b = (in_segments(x, [label], clip.features.grid) for x in (said, true))
            segments.add((a & b).sum(), a.sum(), b.sum())
            events.add(matches(said, true, 0.3), len(said), len(true))
        rows.append({"label": label, "clips": sum(any(e.label == label for e in c.truth)
                     for c in clips), "segments": segments.true, "segment_f1": segments.f1,
                     "events": events.true, "event_f1_30": events.f1})  # fmt: skip
    return rows


def main() -> None:
    """Print the rows, and write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reals", type=Path)
    parser.add_argument("--folds", type=int, default=0, help="0: only what ships")
    parser.add_argument("--output", type=Path, help="a folder for reals.csv, reals_labels.csv")
    args = parser.parse_args()
    clips, labels = read_clips(args.reals)
    kinds = {"shipped": shipped(clips, labels)}
    if args.folds:
        kinds["cross-validated"] = cross_validated(clips, labels, args.folds)
    rows = [
        {"numbers": kind, "modality": m, **judge(*found, clips, labels), **machine()}
        for kind, results in kinds.items()
        for m, found in results.items()
    ]
    for row in rows:
        share = 100 * row["tags"] / row["clips"]
        print(
            f"{row['numbers']:16} {row['modality']:7} right tag {row['tags']}/{row['clips']} "
            f"({share:.1f} %), best event's {row['detected']}  segment F1 {row['segment_f1']:.3f}  "
            f"event F1 {row['event_f1_30']:.3f} (IoU 0.3) {row['event_f1_50']:.3f} (0.5)  "
            f"false events in {row['false']} of {row['others']} clips without"
        )
    kind = "cross-validated" if args.folds else "shipped"
    labelled = by_label(kinds[kind]["both"][0], clips, labels)
    for row in labelled:
        print(f"  {row['label']:14} segment F1 {row['segment_f1']:.2f} of {row['segments']:3}  "
              f"event F1 {row['event_f1_30']:.2f} of {row['events']}")  # fmt: skip
    if args.output is not None:
        write_csv(args.output / "reals.csv", [rounded(r) for r in rows])
        write_csv(args.output / "reals_labels.csv", [rounded({"numbers": kind, **r})
                                                     for r in labelled])  # fmt: skip


def rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    """Fractions to four digits."""
    return {k: f"{v:.4f}" if isinstance(v, float) else v for k, v in row.items()}


if __name__ == "__main__":
    main()
