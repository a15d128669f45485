"""Accuracy over a weight of the loss (xue2021 fig. 5, wu2019 fig. 5)."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avel.errors import DataError
from avel.figures.style import COLOURS, GREY, heading, new_axes, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import ErrorbarContainer

_STREAMS = "weight of CSPA, the rest is CSEA's"
#: Names of a sweep's weights, metrics and tasks in the figure.
WEIGHTS = {
    "lambda_s": rf"$\lambda_s$: {_STREAMS}", "lambda_w": rf"$\lambda_w$: {_STREAMS}",
    "lambda_c": rf"$\lambda_c$: {_STREAMS}",
    "lambda": r"$\lambda$: weight of the category, the rest is the relevance's",
}  # fmt: skip
CURVES = {
    "a2v": "A2V", "v2a": "V2A", "mean_accuracy": "mean of A2V and V2A",
    "segment_accuracy": "segments",
}  # fmt: skip
TASKS = {"sel": "SEL", "wsel": "WSEL", "cml": "CML"}
#: Largest table in bytes.
LARGEST = 2**22
_NUMBERS = ("sd", "n", "paper", "best_baseline", "epochs")
_NEEDED = ("row", "task", "metric", "ours")


def read_rows(path: str | Path) -> list[dict[str, str]]:
    """The rows of a sweep's CSV.

    Raises:
        DataError: if the file is missing, too large or no CSV.
    """
    path = Path(path)
    try:
        if path.stat().st_size > LARGEST:
            raise DataError(f"{path}: more than {LARGEST} bytes", expected="the table of a sweep")
        with path.open(newline="", encoding="utf-8") as f:
            return [{str(k): str(v) for k, v in row.items()} for row in csv.DictReader(f)]
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise DataError(
            f"{path}: can't be read ({e})", expected="the table of a sweep", hint="run `avel sweep`"
        ) from e


def lambda_curves(
    rows: Iterable[Mapping[str, Any]], *, ax: Axes | None = None
) -> list[ErrorbarContainer]:
    """A curve for each task and metric of a lambda sweep, with the paper's dashed beside it.

    Args:
        rows: Of a sweep's table, as `avel sweep` returns and writes them (numbers or their text):
            ``row`` (``lambda_s=0.3``), ``task``, ``metric``, ``ours`` and, where known, ``sd``,
            ``n``, ``paper``, ``best_baseline``, ``data``, ``simulated``, ``epochs``.
        ax: Where to draw; a new figure if None.

    Returns:
        Ours, a curve each in the order of the rows; the paper's and the best
        baseline are the axes' other lines.

    Raises:
        DataError: if there is no row, a row is of no weight, or the weights are of several kinds.
    """
    listed = list(rows)
    weight = _check(listed)
    series: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in sorted(listed, key=_at):
        series.setdefault((str(row["task"]), str(row["metric"])), []).append(row)
    ax = new_axes(ax, width=4.8, height=4.2)
    drawn = [
        _curve(ax, points, COLOURS[i % len(COLOURS)], _name(key, list(series)))
        for i, (key, points) in enumerate(series.items())
    ]
    floors = {_number(r.get("best_baseline")) for r in listed} - {None}
    for i, floor in enumerate(sorted(f for f in floors if f is not None)):
        label = "best baseline" if not i else None
        ax.axhline(floor, ls=":", color=GREY, lw=1.2, label=label)
    ax.set_xlabel(WEIGHTS.get(weight, plain(weight)))
    ax.set_ylabel("accuracy (%)")
    ax.grid(alpha=0.3)
    ax.set_title(_title(listed, weight), fontsize="medium")
    ax.legend(
        fontsize="small", frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2
    )
    return drawn


def _check(rows: Sequence[Mapping[str, Any]]) -> str:
    """The weight that was swept."""
    expected = "rows of `avel sweep lambda_s`, `lambda_w`, `lambda_c` or `dam_lambda`"
    if not rows:
        raise DataError("the sweep has no rows", expected=expected, hint="run the sweep")
    missing = sorted({n for n in _NEEDED for row in rows if n not in row})
    if missing:
        lacks = f"no column{'s' * (len(missing) > 1)} {', '.join(missing)}"
        raise DataError(f"no table of a sweep: {lacks}", expected=expected, hint="run the sweep")
    names = {str(row["row"]).partition("=")[0] for row in rows}
    try:
        for row in rows:
            ours = float(row["ours"])
            _finite([_at(row), ours, *(_number(row.get(key)) for key in _NUMBERS)])
    except (ValueError, TypeError) as e:
        raise DataError(
            f"a row has no weight or number ({e})", expected=expected, hint="run the sweep"
        ) from e
    if len(names) > 1:
        raise DataError(
            f"rows of {', '.join(sorted(names))} together", expected="one weight at a time",
            hint="give each sweep axes of its own",
        )  # fmt: skip
    return names.pop()


def _finite(values: Iterable[float | None]) -> None:
    for value in values:
        if value is not None and not math.isfinite(value):
            raise ValueError(f"{value} is no number")


def _at(row: Mapping[str, Any]) -> float:
    return float(str(row["row"]).partition("=")[2])


def _number(value: Any) -> float | None:
    return None if value in (None, "") else float(value)


def _curve(
    ax: Axes, rows: Sequence[Mapping[str, Any]], colour: str, name: str
) -> ErrorbarContainer:
    at, error = [_at(r) for r in rows], [_number(r.get("sd")) or 0.0 for r in rows]
    ours = ax.errorbar(
        at, [float(r["ours"]) for r in rows], yerr=error if any(error) else None, fmt="o-",
        color=colour, capsize=3, ms=4.5, lw=1.6, label=f"{name}, ours",
    )  # fmt: skip
    known = [(x, p) for r, x in zip(rows, at, strict=True) if (p := _number(r.get("paper")))]
    if known:
        ax.plot(*zip(*known, strict=True), "D--", color=colour, ms=4, lw=1, mfc="white",
                label=f"{name}, paper (on AVE)")  # fmt: skip
    return ours


def _name(key: tuple[str, str], keys: Sequence[tuple[str, str]]) -> str:
    task, metric = key
    of_task = TASKS.get(task, task)
    alone = sum(t == task for t, _ in keys) == 1
    return of_task if alone else f"{of_task} {CURVES.get(metric, metric)}"


def _title(rows: Sequence[Mapping[str, Any]], weight: str) -> str:
    first = rows[0]
    counts = sorted({int(float(r["n"])) for r in rows if _number(r.get("n"))})
    epochs = sorted({int(float(r["epochs"])) for r in rows if _number(r.get("epochs"))})
    parts = [f"n = {number_range(counts)}"] if counts else []
    parts += [f"{number_range(epochs)} epochs"] if epochs else []
    simulated = any(str(r.get("simulated", "")).lower() in ("true", "1") for r in rows)
    return heading(", ".join([str(first.get("data") or weight), *parts]), simulated=simulated)


def number_range(numbers: Sequence[int]) -> str:
    """``30``, or ``20 to 30`` of rising numbers that differ."""
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
