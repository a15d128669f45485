"""The classes of the taggers; this module doesn't import torch."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def class_names(file: str) -> tuple[str, ...]:
    """The lines of a file in ``backbones/classes/``: a tagger's classes in its order."""
    text = (resources.files("avel") / "backbones" / "classes" / file).read_text("utf-8")
    return tuple(text.splitlines())
