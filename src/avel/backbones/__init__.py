"""Backbones: networks that turn one second of sound or sight into features, one a file."""

from avel.backbones.base import (
    AudioBackbone,
    Backbone,
    Card,
    ClipBackbone,
    Source,
    Tagger,
    VisualBackbone,
    Weights,
    backbones,
    default_backbone,
    load_backbone,
)

__all__ = [
    "AudioBackbone",
    "Backbone",
    "Card",
    "ClipBackbone",
    "Source",
    "Tagger",
    "VisualBackbone",
    "Weights",
    "backbones",
    "default_backbone",
    "load_backbone",
]
