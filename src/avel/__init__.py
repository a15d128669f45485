"""Audio-visual event localization: which events are seen and heard, when, and where in the picture.

>>> import avel
>>> timeline = avel.localize("street.mp4")  # doctest: +SKIP
>>> print(timeline)  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from avel._version import __version__

if TYPE_CHECKING:
    from avel.data.base import Dataset, load_dataset
    from avel.errors import AvelError
    from avel.evaluation.evaluate import evaluate
    from avel.features.extractor import Extractor, extract
    from avel.inference.decision import Decision, Thresholds
    from avel.inference.load import list_models, load_model
    from avel.inference.localizer import Localizer, localize, stream_events, to_events
    from avel.media.file import open_media as open  # noqa: F401
    from avel.models.base import Recipe
    from avel.search.matcher import Matcher, match
    from avel.training.loop import fit
    from avel.types import Event, Features, Grid, Scores, Timeline

# no module may bear the name of a public function: importing it would hide the function
_HOME = {
    "AvelError": "errors",
    "Dataset": "data.base",
    "Decision": "inference.decision",
    "Event": "types",
    "Extractor": "features.extractor",
    "Features": "types",
    "Grid": "types",
    "Localizer": "inference.localizer",
    "Matcher": "search.matcher",
    "Recipe": "models.base",
    "Scores": "types",
    "Thresholds": "inference.decision",
    "Timeline": "types",
    "evaluate": "evaluation.evaluate",
    "extract": "features.extractor",
    "fit": "training.loop",
    "list_models": "inference.load",
    "load_dataset": "data.base",
    "load_model": "inference.load",
    "localize": "inference.localizer",
    "match": "search.matcher",
    "open": "media.file:open_media",
    "stream_events": "inference.localizer",
    "to_events": "inference.localizer",
}

# `avel.open` is public, but `from avel import *` must not hide the built-in `open`
__all__ = [
    "AvelError",
    "Dataset",
    "Decision",
    "Event",
    "Extractor",
    "Features",
    "Grid",
    "Localizer",
    "Matcher",
    "Recipe",
    "Scores",
    "Thresholds",
    "Timeline",
    "__version__",
    "evaluate",
    "extract",
    "fit",
    "list_models",
    "load_dataset",
    "load_model",
    "localize",
    "match",
    "stream_events",
    "to_events",
]


def __getattr__(name: str) -> Any:  # imported late: `import avel` costs nothing
    if name not in _HOME:
        raise AttributeError(f"module 'avel' has no attribute {name!r}")
    module, _, attribute = _HOME[name].partition(":")
    value = getattr(importlib.import_module(f"avel.{module}"), attribute or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *_HOME})
