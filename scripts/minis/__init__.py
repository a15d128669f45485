"""What the mini backbones learn from, and how: for ``scripts/train_minis.py``."""

from avel.data.composer.reading import read_pairs
from avel.data.toybox.things import CLASSES

#: The composed world: whose sources stand on which side is Pairs-10's own rule.
PAIRS = read_pairs("pairs10")
#: What both networks tell apart: Toybox's ten things and Pairs-10's ten.
NAMES = (*CLASSES, *PAIRS.classes)
#: First index of Toybox's held-out samples; training never gets that far.
HELD_OUT = 10_000_000
