"""Features: decode, networks, store."""

from avel.features.extractor import Extractor, extract
from avel.features.store import cached, feature_path

__all__ = ["Extractor", "cached", "extract", "feature_path"]
