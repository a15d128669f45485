"""How well the shipped minis tell, second by second, what is heard and seen in composed clips.

Their features are those that any localizer reads, as ``avel extract`` stored them (decoded, two
frames a second, the mean of their maps).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from avel.backbones.mini_common import packaged_weights
from avel.errors import DataError
from avel.features.store import feature_path
from avel.types import Features
from minis import PAIRS, learning

COMPOSED = len(PAIRS.classes)
#: A source is there in a second that it fills at least this share of, and isn't in one that it
#: isn't in at all; other seconds aren't judged for it.
THERE = 0.5


def covered(spans: Iterable[tuple[float, float]], seconds: int) -> np.ndarray:
    """(seconds,) shares of each second that lie in some spans."""
    starts = np.arange(seconds)
    share = np.zeros(seconds)
    for start, end in spans:
        share += np.clip(np.minimum(end, starts + 1) - np.maximum(start, starts), 0, None)
    return share


def truth_of(clip: dict, seconds: int) -> tuple[np.ndarray, np.ndarray]:
    """What is heard and what is seen, each (seconds, 10) shares of every second."""
    heard, seen = np.zeros((2, seconds, COMPOSED))
    for sound in clip["sounds"]:
        heard[:, PAIRS.classes.index(sound["label"])] += covered(sound["spans"], seconds)
    for thing in clip["things"]:
        frames = np.array([box is not None for box in thing["boxes"]], float)
        share = [part.mean() for part in np.array_split(frames, seconds)]
        seen[:, PAIRS.classes.index(thing["label"])] += share
    return heard, seen


def judge(folder: Path, kind: str) -> dict[str, object]:
    """How well a linear probe of one network's features tells what is heard, or seen, each second.

    The probe is taught on the folder's training clips, whose sources the network has learnt from
    too, and judged on its test clips.

    Args:
        folder: As ``avel synth --pairs pairs10`` made it, with the features of ``avel extract``.
        kind: ``audio`` or ``visual``.

    Raises:
        DataError: if there are no clips, or no features of the weights that ship.
    """
    x, share, _ = _seconds(folder, kind, "train")
    mean, spread = x.mean(0), x.std(0) + 1e-6
    torch.manual_seed(0)
    probe = nn.Linear(x.shape[1], COMPOSED)
    optimiser = torch.optim.AdamW(probe.parameters(), lr=0.02, weight_decay=0.05)
    target = torch.from_numpy(np.where(share >= THERE, 1.0, 0.0)).float()
    judged = torch.from_numpy((share >= THERE) | (share <= 0)).float()
    for _ in range(200):
        loss = (learning.Clip(probe((x - mean) / spread), target, reduction="none") * judged).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    x, share, clips = _seconds(folder, kind, "test")
    with torch.no_grad():
        return _scores(probe((x - mean) / spread), share, clips)


def _seconds(folder: Path, kind: str, side: str) -> tuple[Tensor, np.ndarray, int]:
    """Every second's features (of maps mean and maximum), what is there, and how many clips."""
    files = sorted((folder / "truth").glob(f"{side}_*.json"))
    if not files:
        raise DataError(f"{folder}: no {side} clips", hint="avel synth DIR --pairs pairs10 …")
    own = packaged_weights(f"mini_{kind}")["toybox"].hash
    rows, shares = [], []
    for file in files:
        path = feature_path(folder, f"videos/{file.stem}.mp4")
        features = Features.load(path)
        if getattr(features, f"{kind}_card").get("hash") != own:
            raise DataError(f"{path}: of other weights", hint=f"avel extract {folder}")
        x = np.asarray(getattr(features, kind), np.float32)
        if kind == "visual":
            x = np.concatenate([x.mean((1, 2)), x.max((1, 2))], 1)
        heard, seen = truth_of(json.loads(file.read_text("utf-8")), len(x))
        rows.append(torch.from_numpy(x))
        shares.append(heard if kind == "audio" else seen)
    return torch.cat(rows), np.concatenate(shares), len(files)


def _scores(logits: Tensor, share: np.ndarray, clips: int) -> dict[str, object]:
    """Of (seconds, 10) logits, given which share of a second each source is there."""
    likeliest = (-logits).argsort(1).numpy()
    there, absent = share >= THERE, share <= 0
    judged = there | absent
    ap = [
        learning.precision(logits[judged[:, c], c], there[judged[:, c], c]) for c in range(COMPOSED)
    ]
    clear = np.flatnonzero(judged.all(1) & there.any(1))
    found = {i: np.isin(likeliest[i, : there[i].sum()], np.flatnonzero(there[i])) for i in clear}
    alone = [int(found[i][0]) for i in clear if len(found[i]) == 1]
    return {
        "clips": clips,
        "seconds_with_one": len(alone),
        "accuracy_with_one": round(float(np.mean(alone)), 4),
        "seconds_with_any": len(clear),
        "found_among_as_many": round(float(np.concatenate(list(found.values())).mean()), 4),
        "mAP": round(float(np.nanmean(ap)), 4),
        "AP": {n: round(a, 4) for n, a in zip(PAIRS.classes, ap, strict=True)},
    }
