"""Features: decode, networks, store."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avel.features.cache import cached
    from avel.features.extractor import Extractor, extract
    from avel.features.store import feature_path
    from avel.features.stream import FeatureStream

_HOME = {
    "Extractor": "extractor",
    "FeatureStream": "stream",
    "cached": "cache",
    "extract": "extractor",
    "feature_path": "store",
}

__all__ = ["Extractor", "FeatureStream", "cached", "extract", "feature_path"]


def __getattr__(name: str) -> Any:  # late: what only stores or streams needs no torch
    if name not in _HOME:
        raise AttributeError(f"module 'avel.features' has no attribute {name!r}")
    return getattr(importlib.import_module(f"avel.features.{_HOME[name]}"), name)
