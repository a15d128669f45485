"""Numbers that papers print, to stand beside ours: facts of the papers, on the AVE data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Xue et al. 2021, table V, in percent: cml a2v, cml v2a, sel, wsel; by row and model options.
TABLE_V: dict[str, tuple[dict[str, Any], tuple[float, float, float, float]]] = {
    "CSPA": ({"modules": "cspa"}, (39.3, 33.3, 74.1, 68.0)),
    "CSEA": ({"modules": "csea"}, (48.5, 50.7, 72.9, 66.4)),
    "(CSPA/aa)+CSEA": ({"audio_attention": False}, (48.5, 49.8, 75.5, 69.8)),
    "CSPA+(CSEA/v2a)": ({"v2a": False}, (48.5, 48.0, 75.9, 70.1)),
    "CSPA+(CSEA/a2v)": ({"a2v": False}, (44.0, 47.3, 76.3, 70.1)),
    "CSPA+CSEA": ({}, (49.0, 51.0, 76.5, 70.2)),
}
#: Xue et al. 2021, figure 5, in percent, at lambda 0.0, 0.1 … 1.0.
FIGURE_5: dict[str, tuple[float, ...]] = {
    "lambda_s": (72.9, 74.7, 75.5, 76.5, 75.5, 74.8, 74.8, 74.8, 75.8, 74.4, 74.1),
    "lambda_w": (66.4, 69.6, 69.4, 69.3, 69.3, 69.7, 68.8, 70.2, 69.5, 70.1, 68.0),
    "lambda_c": (49.6, 49.1, 49.9, 48.2, 48.6, 49.1, 50.0, 47.9, 49.1, 49.3, 36.3),
}
LAMBDA_OF = {"sel": "lambda_s", "wsel": "lambda_w", "cml": "lambda_c"}


@dataclass(frozen=True)
class Reported:
    """A number that a paper prints.

    Args:
        paper: Author and year.
        where: Table or figure.
        metric: Our name of the metric.
        value: A share in [0, 1].
    """

    paper: str
    where: str
    metric: str
    value: float


def reported(
    model: str, task: str, options: Mapping[str, Any], defaults: Mapping[str, Any]
) -> list[Reported]:
    """What the paper of a model prints for a task and options; nothing for other variants.

    Args:
        model: Registry name.
        task: ``"sel"``, ``"wsel"`` or ``"cml"``.
        options: The run's model options.
        defaults: The model's own, so that an option given as its default changes nothing.
    """
    if model != "cspa_csea":
        return []
    changed = {k: v for k, v in options.items() if defaults.get(k, v) != v}
    weight = LAMBDA_OF[task]
    if set(changed) == {weight}:
        return _figure(task, weight, float(changed[weight]))
    for row, (own, values) in TABLE_V.items():
        if own == changed:
            return _table(row, task, values)
    return []


def _figure(task: str, weight: str, at: float) -> list[Reported]:
    metric = "mean_accuracy" if task == "cml" else "segment_accuracy"
    nearest = round(at * 10)
    if abs(nearest - at * 10) > 1e-6 or not 0 <= nearest <= 10:
        return []
    value = FIGURE_5[weight][nearest]
    return [Reported("xue2021", f"fig. 5, {weight}={at:g}", metric, value / 100)]


def _table(row: str, task: str, values: tuple[float, float, float, float]) -> list[Reported]:
    a2v, v2a, sel, wsel = values
    mean = round((a2v + v2a) / 2, 2)
    found = {
        "sel": {"segment_accuracy": sel},
        "wsel": {"segment_accuracy": wsel},
        "cml": {"a2v": a2v, "v2a": v2a, "mean_accuracy": mean},
    }[task]
    return [Reported("xue2021", f"table V, {row}", m, v / 100) for m, v in found.items()]
