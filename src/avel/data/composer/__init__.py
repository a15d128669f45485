"""The composer: clips of a person's own recordings and photographs, their truth known."""

from avel.data.composer.bank import Bank, Source, find_sources
from avel.data.composer.dataset import Plan, compose
from avel.data.composer.pairs import Pair, Pairs, Ranges, Rule, Sides
from avel.data.composer.reading import changed, parse_pairs, read_pairs
from avel.data.composer.scene import Scene, Sound, Thing, make_scene

__all__ = [
    "Bank",
    "Pair",
    "Pairs",
    "Plan",
    "Ranges",
    "Rule",
    "Scene",
    "Sides",
    "Sound",
    "Source",
    "Thing",
    "changed",
    "compose",
    "find_sources",
    "make_scene",
    "parse_pairs",
    "read_pairs",
]
