"""Wu et al. 2019, Dual Attention Matching for Audio-Visual Event Localization."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from avel.papers.rows import SEGMENT, Row, cml_values

PAPER, MODEL = "wu2019", "dam"
#: What each table is about.
TITLES = {
    "1": "cross-modality localization compared", "2": "supervised localization compared",
    "3": "embeddings of the whole", "4": "matching, cross-modality", "5": "matching, supervised",
    "fig5": "the weight of the category in supervised localization",
}  # fmt: skip
#: Table 3, in percent: a2v, v2a, mean; the paper's name and our `embedding`.
_EMBEDDINGS = {
    "rnn": ("rnn", (47.9, 41.8, 44.9)), "average": ("mean", (46.1, 46.0, 46.1)),
    "max": ("max", (46.2, 45.8, 46.0)), "lstm": ("lstm", (48.1, 43.5, 45.8)),
    "gru": ("gru", (47.4, 45.5, 46.5)), "blstm": ("bilstm", (48.1, 44.2, 46.2)),
    "self-attention": ("self-attention", (48.5, 47.1, 47.8)),
}  # fmt: skip
#: Rows of ours in tables 3 (cml) and 5 (sel): what eq. 1 to 6 leave open.
_OPEN: tuple[tuple[str, dict[str, Any]], ...] = (
    ("2 blocks", {"depth": 2}), ("3 blocks", {"depth": 3}), ("scaled", {"scaled": True}),
    ("2 blocks, scaled", {"depth": 2, "scaled": True}),
)  # fmt: skip
_OWN = "tables 3 and 4 name the directions the other way round"
_OTHERS = "directions the other way round than in tian2018's table 3"


def rows() -> Iterator[Row]:
    """Every row, as printed."""
    yield Row(PAPER, "1", "DCCA", "dcca", "cml", {}, cml_values(34.1, 34.8, 34.5), copied=True,
              remark=_OTHERS)  # fmt: skip
    yield Row(PAPER, "1", "AVDLN", "avdln", "cml", {}, cml_values(35.6, 44.8, 40.2), copied=True,
              remark=_OTHERS)  # fmt: skip
    yield Row(PAPER, "1", "DAM", MODEL, "cml", {}, cml_values(47.1, 48.5, 47.8), remark=_OWN)
    yield from quoted(PAPER)
    yield Row(PAPER, "2", "DAM", MODEL, "sel", {}, {SEGMENT: 74.5})
    for name, (embedding, values) in _EMBEDDINGS.items():
        options = {"embedding": embedding}
        yield Row(PAPER, "3", f"DAM {name}", MODEL, "cml", options, cml_values(*values))
    for kind, values in (("self", (29.8, 28.6, 29.2)), ("cross", (48.5, 47.1, 47.8))):
        options = {"matching": kind}
        yield Row(PAPER, "4", f"DAM {kind}-matching", MODEL, "cml", options, cml_values(*values))
    for kind, value in (("none", 70.7), ("self", 74.2), ("cross", 74.5)):
        name = f"DAM {'no ' if kind == 'none' else f'{kind}-'}matching"
        yield Row(PAPER, "5", name, MODEL, "sel", {"matching": kind}, {SEGMENT: value})
    for table, task in (("3", "cml"), ("5", "sel")):
        for name, options in _OPEN:
            yield Row(PAPER, table, f"DAM, {name} (ours)", MODEL, task, options, {})
    for tenths in range(1, 11):  # at 0 no category would be trained
        share = tenths / 10
        printed = {SEGMENT: 74.5} if share == 0.5 else {}  # the one value in the text
        yield Row(PAPER, "fig5", f"lambda={share}", MODEL, "sel", {"lambda_s": share}, printed)


def quoted(paper: str) -> Iterator[Row]:
    """The systems that this paper's table 2 and duan2021's quote alike."""
    systems: tuple[tuple[str, str, dict[str, Any], float], ...] = (
        ("A", "av", {"inputs": "a"}, 59.5), ("V", "av", {"inputs": "v"}, 55.3),
        ("ED-TCN", "ed_tcn", {}, 46.9), ("A+V", "av", {"inputs": "a+v"}, 71.4),
        ("AVSDN", "avsdn", {}, 72.6), ("A+V-att", "av", {"inputs": "a+v-att"}, 72.7),
    )  # fmt: skip
    for name, model, options, value in systems:
        remark = "wu2019's re-run on VGG-19 features" if name == "AVSDN" else ""
        yield Row(paper, "2", name, model, "sel", options, {SEGMENT: value}, copied=True,
                  remark=remark)  # fmt: skip
