"""Numbers that papers print, to stand beside ours: facts of the papers, on the AVE data set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
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
#: Tian et al. 2018, table 1, in percent: sel, wsel; by `inputs`.
_INPUTS = {
    "a": (59.5, 53.4), "v": (55.3, 52.9), "v-att": (58.6, 55.6),
    "a+v": (71.4, 63.7), "a+v-att": (72.7, 66.7),
}  # fmt: skip
#: Tian et al. 2018, table S3, in percent, by `inputs`.
_SOUND_MAPS = {
    "amaps": ("A'", 54.3), "amaps-att": ("A'-att", 54.1), "v-att": ("V-att", 58.5),
    "amaps+v": ("A'+V", 70.2), "amaps+v-co-att": ("A'+V-co-att", 69.9),
}  # fmt: skip
#: Tian et al. 2018, table 2, in percent: early, late, decision; by `fusion`.
_FUSIONS: dict[str, tuple[float | None, float, float | None]] = {
    "additive": (59.9, 71.3, 70.5), "maxpool": (67.9, 71.4, 64.5), "gated": (67.9, 70.5, 65.2),
    "mb": (69.2, 70.5, 64.6), "gmu": (70.5, 71.6, 67.6), "gmb": (70.2, 71.0, 67.3),
    "concat": (61.0, 72.7, 69.7), "mrn": (69.8, 70.8, 63.8), "dmrn": (68.0, 73.1, 70.4),
    "dmrfe": (None, 73.3, None),
}  # fmt: skip
#: Wu et al. 2019, table 3, in percent: a2v, v2a, mean; the paper's name and our `embedding`.
_EMBEDDINGS = {
    "rnn": ("rnn", (47.9, 41.8, 44.9)), "average": ("mean", (46.1, 46.0, 46.1)),
    "max": ("max", (46.2, 45.8, 46.0)), "lstm": ("lstm", (48.1, 43.5, 45.8)),
    "gru": ("gru", (47.4, 45.5, 46.5)), "blstm": ("bilstm", (48.1, 44.2, 46.2)),
    "self-attention": ("self-attention", (48.5, 47.1, 47.8)),
}  # fmt: skip
#: Duan et al. 2021, tables 2 to 5, in percent.
_JCA: tuple[tuple[str, str, dict[str, Any], float], ...] = (
    ("2", "", {}, 76.2),
    ("3", "no uni-modal BiLSTM", {"unimodal": False}, 74.5),
    ("3", "no joint BiLSTM", {"joint_recurrent": False}, 74.9),
    ("3", "no residual embedding", {"residual": False}, 75.2),
    ("3", "GRU", {"recurrent": "gru"}, 75.3),
    ("3", "average pooling", {"early": "mean"}, 75.1),
    ("3", "max pooling", {"early": "max"}, 75.0),
    ("3", "co-attention", {"attention": "co"}, 75.4),
    ("3", "joint co-attention", {}, 76.2),
    ("4", "addition", {"joint": "add"}, 75.0),
    ("4", "multiplication", {"joint": "multiply"}, 74.6),
    ("4", "concatenation", {"joint": "concat"}, 75.2),
    ("4", "addition+fc", {"joint": "add+fc"}, 75.5),
    ("4", "multiplication+fc", {"joint": "multiply+fc"}, 75.3),
    ("4", "concatenation+fc", {}, 76.2),
)
#: Duan et al. 2021, table 5: d_a, d_v, recursions, percent.
_SIZES = (
    (256, 1024, 4, 75.4), (512, 512, 1, 75.1), (512, 512, 2, 75.4), (512, 512, 3, 75.6),
    (512, 512, 4, 76.2), (512, 512, 5, 75.6), (256, 256, 2, 74.8), (256, 256, 3, 75.0),
    (256, 256, 4, 75.1), (256, 256, 5, 74.8), (128, 128, 4, 73.8),
)  # fmt: skip
#: Options that don't tell a paper's rows apart: two readings of one system, the paper's and the
#: released code's, or the printed form and that for any length. Either stands beside its number.
_READINGS = {"av": ("variant",), "avdln": ("negatives",), "jca": ("form",)}
_SEGMENT = "segment_accuracy"


@dataclass(frozen=True)
class Reported:
    """A number that a paper prints.

    Args:
        paper: Author and year.
        where: Table or figure, and row.
        metric: Our name of the metric.
        value: A share in [0, 1].
    """

    paper: str
    where: str
    metric: str
    value: float

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} ({self.paper}, {self.where})"


@dataclass(frozen=True)
class Row:
    """A row of a paper's table.

    Args:
        paper: Author and year.
        where: Table or figure, and row.
        task: What was trained.
        options: The model options that make it what it is.
        values: In percent, by metric.
        remark: What a reader must know besides.
    """

    paper: str
    where: str
    task: str
    options: Mapping[str, Any]
    values: Mapping[str, float]
    remark: str = ""
    mean_is_ours: bool = field(default=False, kw_only=True)

    def numbers(self) -> Iterator[Reported]:
        """Each value as what stands beside ours."""
        for metric, value in self.values.items():
            ours = ", mean of both" * (metric == "mean_accuracy" and self.mean_is_ours)
            told = self.where + ours + (f"; {self.remark}" if self.remark else "")
            yield Reported(self.paper, told, metric, round(value / 100, 6))


def reported(
    model: str,
    task: str,
    options: Mapping[str, Any],
    defaults: Mapping[str, Any],
    setting: str | None = None,
) -> list[Reported]:
    """What papers print for a model, task and options; nothing for other variants.

    Where several tables print one row, the first is the one to put beside ours.

    Args:
        model: Registry name.
        task: ``"sel"``, ``"wsel"`` or ``"cml"``.
        options: The run's model options.
        defaults: The model's own, so that an option given as its default changes nothing.
        setting: The task's; WSEL's numbers are all of ``"tag"``, and no others can be compared.
    """
    if task == "wsel" and setting not in (None, "tag"):
        return []
    alike = _READINGS.get(model, ())

    def changed(given: Mapping[str, Any]) -> dict[str, Any]:
        return {
            k: v for k, v in given.items()
            if k not in alike and (k not in defaults or defaults[k] != v)
        }  # fmt: skip

    found: list[Reported] = []
    for row in rows(model):
        if row.task == task and changed(row.options) == changed(options):
            found += row.numbers()
    return found


def rows(model: str) -> list[Row]:
    """Every row that papers print for a model; of a model that none knows, nothing."""
    known = {
        "cspa_csea": _cspa_csea, "av": _av, "avdln": _avdln, "dcca": _dcca, "dam": _dam,
        "jca": _jca, "avsdn": _avsdn, "ed_tcn": _ed_tcn,
    }  # fmt: skip
    return list(known[model]()) if model in known else []


def _both(a2v: float, v2a: float, mean: float | None = None) -> dict[str, float]:
    own = round((a2v + v2a) / 2, 2) if mean is None else mean
    return {"a2v": a2v, "v2a": v2a, "mean_accuracy": own}


def _cspa_csea() -> Iterator[Row]:
    paper = "xue2021"
    yield Row(paper, "table II, CSPA+CSEA", "cml", {}, _both(49.0, 51.0, 50.0))
    yield Row(paper, "table III, CSPA+CSEA", "sel", {}, {_SEGMENT: 76.5})
    yield Row(paper, "table IV, CSPA+CSEA", "wsel", {}, {_SEGMENT: 70.2})
    for name, (options, (a2v, v2a, sel, wsel)) in TABLE_V.items():
        where = f"table V, {name}"
        yield Row(paper, where, "cml", options, _both(a2v, v2a), mean_is_ours=True)
        yield Row(paper, where, "sel", options, {_SEGMENT: sel})
        yield Row(paper, where, "wsel", options, {_SEGMENT: wsel})
    for task, weight in LAMBDA_OF.items():
        metric = "mean_accuracy" if task == "cml" else _SEGMENT
        for i, value in enumerate(FIGURE_5[weight]):
            where = f"fig. 5, {weight}={i / 10:.1f}"
            yield Row(paper, where, task, {weight: i / 10}, {metric: value})


def _av() -> Iterator[Row]:
    paper = "tian2018"
    for inputs, (sel, wsel) in _INPUTS.items():
        name = inputs.upper().replace("ATT", "att")
        yield Row(paper, f"table 1, {name}", "sel", {"inputs": inputs}, {_SEGMENT: sel})
        yield Row(paper, f"table 1, W-{name}", "wsel", {"inputs": inputs}, {_SEGMENT: wsel})
    for fusion, values in _FUSIONS.items():
        for stage, value in zip(("early", "late", "decision"), values, strict=True):
            if value is not None:
                options = {"fusion": fusion, "stage": stage}
                yield Row(paper, f"table 2, {stage}:{fusion}", "sel", options, {_SEGMENT: value})
    for inputs, (name, value) in _SOUND_MAPS.items():
        yield Row(paper, f"table S3, {name}", "sel", {"inputs": inputs}, {_SEGMENT: value})


def _avdln() -> Iterator[Row]:
    yield Row("tian2018", "table 3, AVDLN", "cml", {}, _both(44.8, 35.6), mean_is_ours=True)


def _dcca() -> Iterator[Row]:
    yield Row("tian2018", "table 3, DCCA", "cml", {}, _both(34.8, 34.1), mean_is_ours=True)


def _dam() -> Iterator[Row]:
    paper, other = "wu2019", "tables 3 and 4 name the directions the other way round"
    yield Row(paper, "table 1, DAM", "cml", {}, _both(47.1, 48.5, 47.8), other)
    yield Row(paper, "table 2, DAM", "sel", {}, {_SEGMENT: 74.5})
    for name, (embedding, values) in _EMBEDDINGS.items():
        options = {"embedding": embedding}
        yield Row(paper, f"table 3, DAM {name}", "cml", options, _both(*values))
    for kind, values in (("self", (29.8, 28.6, 29.2)), ("cross", (48.5, 47.1, 47.8))):
        where = f"table 4, DAM {kind}-matching"
        yield Row(paper, where, "cml", {"matching": kind}, _both(*values))
    for kind, value in (("none", 70.7), ("self", 74.2), ("cross", 74.5)):
        where = f"table 5, DAM {'no ' if kind == 'none' else f'{kind}-'}matching"
        yield Row(paper, where, "sel", {"matching": kind}, {_SEGMENT: value})


def _jca() -> Iterator[Row]:
    first = Row("duan2021", "", "sel", {}, {})
    for table, name, options, value in _JCA:
        where = f"table {table}, JCA {name}".rstrip()
        yield replace(first, where=where, options=options, values={_SEGMENT: value})
    for audio, visual, times, value in _SIZES:
        where = f"table 5, JCA d_a={audio} d_v={visual} recursions={times}"
        options = {"audio_out": audio, "visual_out": visual, "recursions": times}
        yield replace(first, where=where, options=options, values={_SEGMENT: value})


def _avsdn() -> Iterator[Row]:
    sel, wsel = {_SEGMENT: 72.6}, {_SEGMENT: 63.6}
    yield Row("wu2019", "table 2, AVSDN", "sel", {}, sel, "its re-run on VGG-19 features")
    yield Row("xue2021", "table IV, AVSDN", "wsel", {}, wsel)


def _ed_tcn() -> Iterator[Row]:
    yield Row("tian2018", "section 6.3, ED-TCN", "sel", {}, {_SEGMENT: 46.9})
