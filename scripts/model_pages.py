"""The models' pages, from the code itself: card, options, open points, weights, papers' numbers.

python scripts/model_pages.py cspa_csea     # prints a page
python scripts/model_pages.py --write       # docs/models/*.md anew
"""

from __future__ import annotations

import argparse
import csv
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from avel.files import write_whole
from avel.models.base import Model, build_model, models
from avel.papers import BY_CLASS, rows

#: AVE's.
CLASSES = 28
ROOT = Path(__file__).parent.parent
FOLDER, RESULTS = ROOT / "docs" / "models", ROOT / "results" / "systems.csv"


def page(name: str) -> str:
    """The page of a model, Markdown."""
    cls = models.get(name)
    card = cls.card
    parts = [
        f"# `{name}`",
        "<!-- written by scripts/model_pages.py: change the model, then run it with --write -->",
        f"{card.summary}\n\nPaper: {card.paper}.  \nTasks: {', '.join(card.tasks)}.",
        "## Options",
        "```text\n" + (inspect.getdoc(cls) or "") + "\n```",
        table(["option", "default"], [[f"`{k}`", f"`{v!r}`"] for k, v in cls.options().items()]),
        "## What the paper leaves open, and what was decided here",
        "\n".join(f"- {point}" for point in card.open_points) or "Nothing.",
        "## Recipe",
        recipes(cls),
        "## Weights",
        f"For {CLASSES} classes and AVE's features: audio {{}} wide, picture {{}} wide; a variant "
        "that reads others has their widths.".format(*cls.widths(cls.options())),
        *weights(name, cls),
        "## What papers print",
        printed(name),
        *trained(name),
    ]
    return "\n\n".join(parts) + "\n"


def recipes(cls: type[Model]) -> str:
    """The recipe of each task."""
    keys = ["optimizer", "epochs", "batch", "lr", "weight_decay", "validate_every"]
    if any(cls.recipe(task).average for task in cls.card.tasks):
        keys.append("average")
    found = []
    for task in cls.card.tasks:
        values = [getattr(cls.recipe(task), key) for key in keys]
        found.append([task, *(v if isinstance(v, str) else f"{v:g}" for v in values)])
    parts = ["Any value can be changed by `key=value`.", table(["task", *keys], found)]
    for task in cls.card.tasks:
        for value in cls.choices.get("variant", ()):
            plain, variant = cls.recipe(task), cls.recipe_of(task, {"variant": value})
            changed = {f.name: getattr(variant, f.name) for f in fields(plain)
                       if getattr(variant, f.name) != getattr(plain, f.name)}  # fmt: skip
            if changed:
                listed = " ".join(f"`{k}={v}`" for k, v in changed.items())
                parts.append(f"`variant={value}`, {task}: {listed}.")
    return "\n\n".join(parts)


def weights(name: str, cls: type[Model]) -> Iterator[str]:
    """Trainable numbers by module, a table for tasks that are alike, and of papers' variants."""
    alike: dict[str, list[str]] = {}
    for task in cls.card.tasks:
        found = counts(name, task)
        listed = [[f"`{module}`", f"{count:,}"] for module, count in found.items()]
        total = ["**all**", f"**{sum(found.values()):,}**"]
        alike.setdefault(table(["module", "numbers"], [*listed, total]), []).append(task)
    for text, tasks in alike.items():
        yield f"{', '.join(tasks)}:\n\n{text}"
    told = []
    for row in rows(name):
        size = sum(counts(name, row.task, row.options).values())
        if size != sum(counts(name, row.task).values()):
            told.append([row.where, row.task, options(row.options), f"{size:,}"])
    if told:
        yield "Variants of the papers' tables that have other numbers, all in all:"
        yield table(["variant", "task", "options", "numbers"], told)


def counts(name: str, task: Any, given: Any = None) -> dict[str, int]:
    """Numbers by module, counted without memory for them."""
    cls, given = models.get(name), dict(given or {})
    audio, visual = cls.widths({**cls.options(), **given})
    with torch.device("meta"):
        made = build_model(
            name, audio_dim=audio, visual_dim=visual, classes=CLASSES, task=task, **given
        )
    return made.parameter_counts(depth=4)


def printed(name: str) -> str:
    """Every number that papers print for the model."""
    found = []
    for row in rows(name):
        if not row.values:  # a row of ours in the paper's table
            continue
        told = [
            f"{metric} {value:g}"
            for metric, value in row.values.items()
            if not metric.startswith(BY_CLASS)
            and (metric != "mean_accuracy" or not row.mean_is_ours)
        ] or [f"{len(row.values)} accuracies by class"]
        where = f"{row.paper}, {row.where}" + (f"; {row.remark}" if row.remark else "")
        found.append([where, row.task, options(row.options) or "default", ", ".join(told)])
    return (
        "On AVE, in percent. None of them was measured here; `avel evaluate` puts them beside "
        "what was.\n\n" + table(["where", "task", "options", "printed"], found)
    )


def trained(name: str) -> Iterator[str]:
    """What our trainings of the model gave, beside the paper's, from results/systems.csv."""
    if not RESULTS.is_file():
        return
    with RESULTS.open(newline="", encoding="utf-8") as f:
        found = [r for r in csv.DictReader(f) if r["model"] in (name, "")]
    own = [r for r in found if r["model"]]
    if not own:
        return
    data = [k.removeprefix("ours_on_") for k in found[0] if k.startswith("ours_on_")]
    tasks = {r["task"] for r in own}
    lines = [
        [r["system"], r["task"], f"`{r['options']}`" if r["options"] else "", r["metric"],
         r["paper"], *(ours(r, d) for d in data)]
        for r in found if r["task"] in tasks
    ]  # fmt: skip
    yield "## What was trained here"
    yield (
        "From [results/systems.csv](../../results/systems.csv), which also says how: mean ± "
        "standard deviation over seeds, epochs, what of the recipe was changed. **Neither data "
        "set is AVE**: simulated features and composed clips say nothing about the paper's "
        "numbers beside them."
    )
    head = ["system", "task", "options", "metric", "paper, on AVE"]
    yield table([*head, *(f"ours on {d.replace('_', ' ')}" for d in data)], lines)


def ours(row: dict[str, str], data: str) -> str:
    """A cell: the mean, the deviation, and how it was trained."""
    if not row[f"ours_on_{data}"]:
        return "not run"
    sd, epochs = row[f"sd_on_{data}"], row[f"epochs_on_{data}"]
    told = f"{row[f'ours_on_{data}']}" + (f" ± {sd} (n = {row[f'n_on_{data}']})" if sd else "")
    return told + (f", {epochs} epochs" if epochs else "")


def options(given: Any) -> str:
    """Options as the command line takes them."""
    return " ".join(f"`{k}={v}`" for k, v in given.items())


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(
        "| " + " | ".join(c.replace("|", "\\|") for c in line) + " |" for line in lines
    )


def main() -> None:
    """Print pages, or write all of them."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    asked.add_argument("models", nargs="*", help="registry names; all of them without any")
    asked.add_argument("--write", action="store_true", help=f"into {FOLDER.name}/")
    given = asked.parse_args()
    for name in given.models or [n for n, _ in models]:
        if given.write:
            FOLDER.mkdir(parents=True, exist_ok=True)
            write_whole(FOLDER / f"{name}.md", page(name))
        else:
            print(page(name), end="")


if __name__ == "__main__":
    main()
