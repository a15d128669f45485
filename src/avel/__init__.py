"""Audio-visual event localization: which events are seen and heard, when, and where in the picture.

>>> import avel
>>> found = avel.localize("street.mp4")  # doctest: +SKIP
>>> print(found)  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from avel._version import __version__

if TYPE_CHECKING:
    from avel.checkpoint import load_model
    from avel.data import load_dataset
    from avel.decisions import Decision, Rule
    from avel.errors import AvelError
    from avel.evaluation import evaluate
    from avel.features import extract
    from avel.localization import localize, stream_events, to_events
    from avel.matching import match
    from avel.media import open_media as open
    from avel.train import fit
    from avel.types import Event, Features, Grid, Scores, Timeline

# no module may bear the name of a public function: importing it would hide the function
_HOME = {
    "AvelError": "errors",
    "Decision": "decisions",
    "Event": "types",
    "Features": "types",
    "Grid": "types",
    "Rule": "decisions",
    "Scores": "types",
    "Timeline": "types",
    "evaluate": "evaluation",
    "extract": "features",
    "fit": "train",
    "load_dataset": "data",
    "load_model": "checkpoint",
    "localize": "localization",
    "match": "matching",
    "open": "media:open_media",
    "stream_events": "localization",
    "to_events": "localization",
}

__all__ = [
    "AvelError",
    "Decision",
    "Event",
    "Features",
    "Grid",
    "Rule",
    "Scores",
    "Timeline",
    "__version__",
    "evaluate",
    "extract",
    "fit",
    "load_dataset",
    "load_model",
    "localize",
    "match",
    "open",
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
    return sorted(__all__)
