"""Tables that no paper prints: every system in every task, and what each modality alone can do."""

from __future__ import annotations

from typing import Any

from avel import papers
from avel.models.base import models
from avel.papers import Row
from avel.tasks import TASKS, task_named

SYSTEMS, MODALITIES = "systems", "modalities"
TITLES = {
    SYSTEMS: "every model in every task",
    MODALITIES: "one modality alone, and the parts of co-attention",
}
#: What `systems` calls the models, and which of their variants it holds besides the default.
_NAMES = {
    "av": "A+V-att", "avdln": "AVDLN", "avsdn": "AVSDN", "cspa_csea": "CSPA+CSEA", "dam": "DAM",
    "dcca": "DCCA", "ed_tcn": "ED-TCN", "evidence": "Evidence (ours)", "jca": "JCA",
}  # fmt: skip
#: Baselines of a person's own small data, with no row in a table of papers' systems.
_BASELINES = ("linear",)
_VARIANTS: dict[tuple[str, str], dict[str, dict[str, Any]]] = {
    ("av", "sel"): {"A+V": {"inputs": "a+v"}, "DMRN": {"fusion": "dmrn"}},
    ("av", "wsel"): {"A+V": {"inputs": "a+v"}},
    ("cspa_csea", "cml"): {"CSPA+CSEA, unpaired": {"form": "unpaired"}},
    ("ed_tcn", "sel"): {"ED-TCN, both modalities": {"modality": "both"}},
}
_Rows = dict[str, tuple[str, dict[str, Any]]]
#: Rows of `modalities`: a model and its options. A modality alone finds no windows in the other.
#: Tian's V-att classifies the picture alone, but the sound guides its attention.
_ALONE: _Rows = {
    "A+V, audio only": ("av", {"inputs": "a"}),
    "CSPA+CSEA, audio only": ("cspa_csea", {"modality": "audio"}),
    "A+V, picture only": ("av", {"inputs": "v"}),
    "CSPA+CSEA, picture only": ("cspa_csea", {"modality": "visual"}),
    "V-att, sound-guided": ("av", {"inputs": "v-att"}),
}
_PARTS: _Rows = {
    "no co-attention": ("cspa_csea", {"modules": "none"}),
    "CSPA": ("cspa_csea", {"modules": "cspa"}),
    "CSEA": ("cspa_csea", {"modules": "csea"}),
    "CSPA+CSEA": ("cspa_csea", {}),
}


def tables() -> dict[str, list[Row]]:
    """Our tables by name."""
    return {SYSTEMS: systems(), MODALITIES: modalities()}


def systems() -> list[Row]:
    """Every model in every task that it has, in the order of what papers print for them.

    Without the baselines of small data.

    A model's variants that no paper prints come after the model.
    """
    tables = []
    for task in TASKS:
        rows: list[Row] = []
        for name, cls in models:
            if task in cls.card.tasks and name not in _BASELINES:
                usual = _NAMES.get(name, name)
                variants = {usual: {}, **_VARIANTS.get((name, task), {})}
                rows += [_row(title, name, task, o) for title, o in variants.items()]
                rows += [
                    _row(f"{usual}, {setting}", name, task, {}, setting=setting)
                    for setting in task_named(task).settings
                    if task_named(task).model_options(setting, cls.options())
                ]
        metric = task_named(task).selection_metric
        known = {r.model: v for r in reversed(rows) if (v := r.values.get(metric))}
        tables += sorted(rows, key=lambda r: r.values.get(metric, known.get(r.model, 100.0)))
    return tables


def modalities() -> list[Row]:
    """One modality alone, and CSPA+CSEA with none, one or both of its two modules."""
    return [
        _row(name, model, task, options, MODALITIES)
        for task in TASKS
        for name, (model, options) in {
            **(_ALONE if task_named(task).classifies else {}),
            **_PARTS,
        }.items()
    ]


def _row(
    name: str, model: str, task: str, options: dict[str, Any], table: str = SYSTEMS, *,
    setting: str = "",
) -> Row:  # fmt: skip
    values: dict[str, float] = {}
    if not setting:
        for number in papers.reported(model, task, options, models.get(model).options()):
            values.setdefault(number.metric, round(100 * number.value, 2))
    return Row("", table, name, model, task, options, values, setting=setting)
