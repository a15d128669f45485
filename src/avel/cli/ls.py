"""`avel ls`: the names of models, backbones, data sets, events and so on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avel.cli._options import completing
from avel.errors import unknown_name

KINDS = ("models", "backbones", "datasets", "tasks", "sweeps", "pretrained", "events", "formats")


def ls(
    kind: Annotated[
        str,
        typer.Argument(
            help=f"One of {', '.join(KINDS)}; all by default.", autocompletion=completing(*KINDS)
        ),
    ] = "",
    pattern: Annotated[
        str,
        typer.Argument(
            help="A pattern of names, such as 'vgg*'; for events a set or words as well."
        ),
    ] = "*",
    vocabulary: Annotated[
        Path | None, typer.Option(help="A TOML file of your own events (docs/events.md).")
    ] = None,
) -> None:
    """List models, backbones, data sets, events and more.

    Tasks, sweeps, packaged models and formats too.
    """
    from avel.cli._events import print_events

    expected = kind if kind.endswith("s") or kind in ("", "pretrained") else f"{kind}s"
    if expected and expected not in KINDS:
        raise unknown_name("kind", kind, KINDS)
    if expected == "events":
        print_events(pattern, vocabulary)
        return
    for name in [expected] if expected else KINDS:
        lines = _lines(name, pattern)
        if not expected:
            print(name)
        for line in lines:
            print(line if expected else f"  {line}")


def _lines(kind: str, pattern: str) -> list[str]:
    from fnmatch import fnmatchcase

    from avel.cli._events import set_lines

    entries = {"models": _models, "backbones": _backbones, "datasets": _datasets, "tasks": _tasks,
             "sweeps": _sweeps, "pretrained": _pretrained, "events": set_lines,
             "formats": _formats}[kind]()  # fmt: skip
    width = max([16, *(len(name) + 2 for name in entries)])
    return [f"{name:{width}}{text}" for name, text in entries.items() if fnmatchcase(name, pattern)]


def _models() -> dict[str, str]:
    from avel.models.base import models

    return {n: f"{', '.join(c.card.tasks):16}{c.card.summary}  [{c.card.paper}]" for n, c in models}


def _backbones() -> dict[str, str]:
    from avel.backbones.base import backbones

    return {
        n: f"{c.card.modality:8}{'x'.join(map(str, c.card.output)):10}"
        f"weights: {', '.join(c.weights)}" + (f"  ({c.card.note})" if c.card.note else "")
        for n, c in backbones
    }


def _datasets() -> dict[str, str]:
    return {
        "ave": "data=ave root=DIR: the files of the published AVE data set",
        "folder": "data=DIR: your own clips with annotations.csv, and what `avel synth` renders",
    }


def _tasks() -> dict[str, str]:
    from avel.tasks import TASKS, task_named

    tasks = [task_named(name) for name in TASKS]
    return {t.name: f"{t.summary:45}settings: {', '.join(t.settings)}" for t in tasks}


def _sweeps() -> dict[str, str]:
    from avel.experiments.sweep import DAM_LAMBDA, SWEEPS

    special = {
        "table5": "xue2021 table V's rows and a control",
        DAM_LAMBDA: "wu2019 fig. 5: DAM's lambda_s from 0.1 to 1",
    }
    return {n: special.get(n, f"xue2021 fig. 5: {n} from 0 to 1") for n in SWEEPS}


def _pretrained() -> dict[str, str]:
    import json

    from avel.events import load_vocabulary
    from avel.inference.card import WEIGHTS
    from avel.inference.checkpoint import CARD
    from avel.inference.load import NAMED, PRETRAINED

    words = load_vocabulary()
    count = f"{len(words.sets['default'])} of {len(words.events)} events"
    default, named = NAMED
    models = {
        default: f"{named}: real events without training, {count}; see `avel ls events`",
        named: f"the same as {default}",
    }
    for path in sorted(PRETRAINED.glob(f"*/{WEIGHTS}")):
        card = json.loads((path.parent / CARD).read_text("utf-8"))
        classes = f"{len(card['classes'])} classes"
        models[path.parent.name] = (
            f"{card['model']} {card['task']}, {card['data']['name']}, {classes}"
        )
    return models


def _formats() -> dict[str, str]:
    from avel.formats import formats
    from avel.report.writers import writers

    lines = {name: f"{cls.ending:19}{cls.title}" for name, cls in formats}
    return lines | {e[1:]: f"{e:19}{cls.title}; written, not read" for e, cls in writers}
