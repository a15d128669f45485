"""The composer: clips of a person's own recordings and photographs, their truth known."""

from avel.data.composer.bank import Bank, SourceFile, find_sources
from avel.data.composer.dataset import ComposerPlan, compose
from avel.data.composer.pairs import Pair, Pairs, Ranges, SideRule, Sides
from avel.data.composer.reading import changed, parse_pairs, read_pairs
from avel.data.composer.scene import ComposedScene, PlacedSound, PlacedThing, make_scene

__all__ = [
    "Bank",
    "ComposedScene",
    "ComposerPlan",
    "Pair",
    "Pairs",
    "PlacedSound",
    "PlacedThing",
    "Ranges",
    "SideRule",
    "Sides",
    "SourceFile",
    "changed",
    "compose",
    "find_sources",
    "make_scene",
    "parse_pairs",
    "read_pairs",
]
