"""The numbers that papers print, on the AVE data set; one paper a file.

Each module has ``rows()``: every row of every table whose system can be trained, as printed, the
rows that it quotes from others too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from avel.papers import duan2021, tian2018, wu2019, xue2021
from avel.papers.rows import BY_CLASS, PARAMETERS, SEGMENT, Reported, Row
from avel.papers.tian2018 import CLASS_NAMES
from avel.papers.xue2021 import FIGURE_5, LAMBDA_OF, TABLE_V

__all__ = [
    "BY_CLASS", "CLASS_NAMES", "FIGURE_5", "LAMBDA_OF", "PAPERS", "PARAMETERS", "SEGMENT",
    "TABLE_V", "Reported", "Row", "reported", "rows", "tables", "titles",
]  # fmt: skip

#: The papers, in the order of their years.
PAPERS = (tian2018, wu2019, duan2021, xue2021)
#: Options that don't tell a paper's rows apart: two readings of one system, the paper's and the
#: released code's, or the printed form and that for any length. Either stands beside its number.
_READINGS = {"av": ("variant",), "avdln": ("negatives",), "jca": ("form",)}

#: The one setting of a task that the papers' numbers are of, where it has several.
_SETTING_OF = {"wsel": "tag"}


def tables() -> dict[str, list[Row]]:
    """Every table by name (``"xue2021:III"``), as printed."""
    by_name: dict[str, list[Row]] = {}
    for paper in PAPERS:
        for row in paper.rows():
            by_name.setdefault(f"{row.paper}:{row.table}", []).append(row)
    return by_name


def titles() -> dict[str, str]:
    """What each table is about, by name."""
    return {
        f"{paper.PAPER}:{table}": title for paper in PAPERS for table, title in paper.TITLES.items()
    }


def rows(model: str) -> list[Row]:
    """The rows that papers print for a model; none for a model of no paper.

    A quoted row is left out where the quoted paper has it.
    """
    printed = [row for paper in PAPERS for row in paper.rows() if row.model == model]
    selected = [row for row in printed if not row.copied]
    for row in printed:
        if not any((r.task, r.options) == (row.task, row.options) for r in selected):
            selected.append(row)
    return selected


def reported(
    model: str,
    task: str,
    options: Mapping[str, Any],
    defaults: Mapping[str, Any],
    setting: str | None = None,
) -> list[Reported]:
    """The numbers that papers print for a model, task and options; none for other variants.

    Where several tables print one row, the first is the one to put beside ours.

    Args:
        model: Registry name.
        task: ``"sel"``, ``"wsel"`` or ``"cml"``.
        options: The run's model options.
        defaults: The model's own, so that an option with its default value has no effect.
        setting: The task's; WSEL's numbers are all of ``"tag"``, and no others can be compared.
    """
    if setting is not None and setting != _SETTING_OF.get(task, setting):
        return []
    readings = _READINGS.get(model, ())

    def changed(options: Mapping[str, Any]) -> dict[str, Any]:
        return {
            k: v for k, v in options.items()
            if k not in readings and (k not in defaults or defaults[k] != v)
        }  # fmt: skip

    numbers: list[Reported] = []
    for row in rows(model):
        if row.task == task and changed(row.options) == changed(options):
            numbers += row.numbers()
    return numbers
