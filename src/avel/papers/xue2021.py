"""Xue et al. 2021, AVE Localization by Learning Spatial and Semantic Co-Attention."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from avel.papers.rows import SEGMENT, Row, cml_values

PAPER, MODEL = "xue2021", "cspa_csea"
#: What each table is about.
TITLES = {
    "II": "cross-modality localization compared", "III": "supervised localization compared",
    "IV": "weakly supervised localization compared", "V": "parts of CSPA+CSEA",
    "fig5": "the weights of the two streams",
}  # fmt: skip
#: Table V, in percent: cml a2v, cml v2a, sel, wsel; by row and model options.
TABLE_V: dict[str, tuple[dict[str, Any], tuple[float, float, float, float]]] = {
    "CSPA": ({"modules": "cspa"}, (39.3, 33.3, 74.1, 68.0)),
    "CSEA": ({"modules": "csea"}, (48.5, 50.7, 72.9, 66.4)),
    "(CSPA/aa)+CSEA": ({"audio_attention": False}, (48.5, 49.8, 75.5, 69.8)),
    "CSPA+(CSEA/v2a)": ({"v2a": False}, (48.5, 48.0, 75.9, 70.1)),
    "CSPA+(CSEA/a2v)": ({"a2v": False}, (44.0, 47.3, 76.3, 70.1)),
    "CSPA+CSEA": ({}, (49.0, 51.0, 76.5, 70.2)),
}
#: A row of ours in table V: at the start the paper's softmax gate is within 1.00 and 1.003, so that
#: CSEA as printed hardly changes its features.
SIGMOID_GATE = "CSPA+CSEA, sigmoid gate (ours)"
#: Figure 5, in percent, at lambda 0.0, 0.1 … 1.0.
FIGURE_5: dict[str, tuple[float, ...]] = {
    "lambda_s": (72.9, 74.7, 75.5, 76.5, 75.5, 74.8, 74.8, 74.8, 75.8, 74.4, 74.1),
    "lambda_w": (66.4, 69.6, 69.4, 69.3, 69.3, 69.7, 68.8, 70.2, 69.5, 70.1, 68.0),
    "lambda_c": (49.6, 49.1, 49.9, 48.2, 48.6, 49.1, 50.0, 47.9, 49.1, 49.3, 36.3),
}
LAMBDA_OF = {"sel": "lambda_s", "wsel": "lambda_w", "cml": "lambda_c"}
#: Figure 5's metric of a task, where it isn't segment accuracy.
_METRIC_OF = {"cml": "mean_accuracy"}
_DAM = "directions as wu2019's table 1 names them; the rows above follow tian2018"


def rows() -> Iterator[Row]:
    """Every row, as printed."""
    yield Row(PAPER, "II", "DCCA", "dcca", "cml", {}, cml_values(34.8, 34.1, 34.5), copied=True)
    yield Row(PAPER, "II", "AVDLN", "avdln", "cml", {}, cml_values(44.8, 35.6, 40.2), copied=True)
    yield Row(PAPER, "II", "DAM", "dam", "cml", {}, cml_values(47.1, 48.5, 47.8), copied=True,
              remark=_DAM)  # fmt: skip
    yield Row(PAPER, "II", "CSPA+CSEA", MODEL, "cml", {}, cml_values(49.0, 51.0, 50.0))
    alone = {"ED-TCN": 46.9, "A+V": 71.4, "AVSDN": 72.6, "A+V-att": 72.7, "DAM": 74.5}
    weakly = {"A+V": 63.7, "AVSDN": 63.6, "A+V-att": 66.7}
    yield from _compared("III", "sel", {**alone, "CSPA+CSEA": 76.5})
    yield from _compared("IV", "wsel", {**weakly, "CSPA+CSEA": 70.2})
    for name, (options, (a2v, v2a, sel, wsel)) in TABLE_V.items():
        yield Row(PAPER, "V", name, MODEL, "cml", options, cml_values(a2v, v2a), mean_is_ours=True)
        yield Row(PAPER, "V", name, MODEL, "sel", options, {SEGMENT: sel})
        yield Row(PAPER, "V", name, MODEL, "wsel", options, {SEGMENT: wsel})
    for task in ("cml", "sel", "wsel"):
        yield Row(PAPER, "V", SIGMOID_GATE, MODEL, task, {"gate": "sigmoid"}, {})
    for task, weight in LAMBDA_OF.items():
        metric = _METRIC_OF.get(task, SEGMENT)
        for i, value in enumerate(FIGURE_5[weight]):
            name, options = f"{weight}={i / 10:.1f}", {weight: i / 10}
            yield Row(PAPER, "fig5", name, MODEL, task, options, {metric: value})


def _compared(table: str, task: str, values: dict[str, float]) -> Iterator[Row]:
    systems: dict[str, tuple[str, dict[str, Any]]] = {
        "ED-TCN": ("ed_tcn", {}), "A+V": ("av", {"inputs": "a+v"}), "AVSDN": ("avsdn", {}),
        "A+V-att": ("av", {"inputs": "a+v-att"}), "DAM": ("dam", {}), "CSPA+CSEA": (MODEL, {}),
    }  # fmt: skip
    for name, value in values.items():
        model, options = systems[name]
        yield Row(PAPER, table, name, model, task, options, {SEGMENT: value},
                  copied=model != MODEL)  # fmt: skip
