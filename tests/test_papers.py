from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from avel.models import build_model, models
from avel.papers import FIGURE_5, LAMBDA_OF, TABLE_V, Row, reported, rows

Key = tuple[str, str, str, str]
METRICS = {"a2v_accuracy": "a2v", "v2a_accuracy": "v2a"}
#: What their own papers print isn't in the shared table; others' re-runs are.
QUOTED = {"AVSDN"}


def values(
    model: str, task: str, setting: str | None = None, **options: object
) -> dict[str, float]:
    defaults = models.get(model).options()
    found: dict[str, float] = {}
    for r in reported(model, task, options, defaults, setting):
        found.setdefault(r.metric, r.value)
    return found


@pytest.mark.parametrize("name", [n for n, _ in models])
def test_every_row_is_a_model_that_can_be_built_and_is_found_again(name: str) -> None:
    held = rows(name)
    assert held, f"{name} is in no table"
    for row in held:
        width = 512 if str(row.options.get("inputs")).startswith("amaps") else 128
        more = {"audio_regions": 4} if width == 512 else {}
        with torch.device("meta"):
            build_model(name, audio_dim=width, visual_dim=512, classes=28, task=row.task,  # type: ignore[arg-type]
                        **row.options, **more)  # fmt: skip
        told = reported(name, row.task, row.options, models.get(name).options())
        assert set(row.numbers()) <= set(told)


def test_a_paper_has_numbers_for_its_own_variants_alone() -> None:
    assert values("cspa_csea", "sel") == {"segment_accuracy": 0.765}
    assert values("cspa_csea", "sel", modules="cspa+csea") == {"segment_accuracy": 0.765}
    assert values("cspa_csea", "sel", v2a=False) == {"segment_accuracy": 0.759}
    assert values("cspa_csea", "wsel", lambda_w=0.0) == {"segment_accuracy": 0.664}
    assert values("cspa_csea", "cml") == {"a2v": 0.49, "v2a": 0.51, "mean_accuracy": 0.5}
    assert values("cspa_csea", "cml", lambda_c=1.0) == {"mean_accuracy": 0.363}
    assert values("cspa_csea", "sel", lambda_s=0.35) == {}
    assert values("cspa_csea", "sel", gate="sigmoid") == {}
    assert values("cspa_csea", "cml", form="unpaired") == {}
    assert values("av", "sel") == {"segment_accuracy": 0.727}
    assert values("av", "sel", variant="release") == {"segment_accuracy": 0.727}
    assert values("av", "sel", fusion="dmrn") == {"segment_accuracy": 0.731}
    assert values("av", "wsel", inputs="a") == {"segment_accuracy": 0.534}
    assert values("av", "sel", inputs="v-att") == {"segment_accuracy": 0.586}
    assert values("av", "sel", inputs="a+v", fusion="dmrn") == {}
    assert values("dam", "cml") == {"a2v": 0.471, "v2a": 0.485, "mean_accuracy": 0.478}
    assert values("dam", "cml", embedding="mean") == {
        "a2v": 0.461, "v2a": 0.46, "mean_accuracy": 0.461,
    }  # fmt: skip
    assert values("jca", "sel", form="paper", early="max") == {"segment_accuracy": 0.75}
    assert values("ed_tcn", "sel", input="audio") == {}
    assert reported("other", "sel", {}, {}) == []


def test_weak_settings_that_no_paper_here_used_have_no_number_beside_them() -> None:
    assert values("cspa_csea", "wsel", "tag") == {"segment_accuracy": 0.702}
    assert values("cspa_csea", "wsel", "tag-clean") == {} == values("av", "wsel", "proportion")


def test_a_mean_that_no_table_prints_says_so() -> None:
    told = {r.metric: str(r) for r in reported("avdln", "cml", {}, {})}
    assert told["a2v"] == "44.8 (tian2018, table 3, AVDLN)"
    assert told["mean_accuracy"] == "40.2 (tian2018, table 3, AVDLN, mean of both)"


# ---- against the shared table


def shared_numbers(
    shared: Path,
) -> tuple[dict[tuple[str, str, str, str], float], set[tuple[str, ...]]]:
    """Percent by (paper, where, task, metric), and those of them that papers print of their own."""
    table: dict[tuple[str, str, str, str], float] = {}
    own = set()
    for r in csv.DictReader((shared / "papers" / "reported.csv").open()):
        metric = METRICS.get(r["metric"], r["metric"])
        key = (r["paper"], _where(r["table"], r["method"]), r["task"], metric)
        table[key] = float(r["value"])
        judged = metric in ("a2v", "v2a", "mean_accuracy", "segment_accuracy")
        if judged and not r["copied"] and "c3d" not in r["method"]:
            own.add(key)
    return table, own


def _where(table: str, method: str) -> str:
    if table == "fig5":
        return f"fig. 5, {method.removeprefix('CSPA+CSEA ')}"
    return f"{'section' if table == '6.3' else 'table'} {table}, {method}"


def test_numbers_are_those_of_the_papers(shared: Path) -> None:
    table, own = shared_numbers(shared)
    ours = {}
    for name, _ in models:
        for row in rows(name):
            for metric, value in row.values.items():
                if metric != "mean_accuracy" or not row.mean_is_ours:
                    ours[row.paper, row.where, row.task, metric] = value
    assert {k: v for k, v in table.items() if k in ours} == ours
    quoted = {k for k in ours if k[1].rpartition(" ")[2] in QUOTED}
    assert set(ours) - quoted == own


def test_sweeps_have_the_papers_rows() -> None:
    assert len(TABLE_V) == 6 and set(FIGURE_5) == set(LAMBDA_OF.values())
    assert all(len(found) == 11 for found in FIGURE_5.values())
    assert all(isinstance(row, Row) for row in rows("cspa_csea"))
