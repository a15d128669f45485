"""Features: decode, networks, store."""

from avel.features.extractor import Extractor, FeatureStream, extract
from avel.features.store import cached, feature_path

__all__ = ["Extractor", "FeatureStream", "cached", "extract", "feature_path"]
