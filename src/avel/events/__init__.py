"""Audio-visual events by name: the vocabulary, and what a person's words in it mean.

Nothing here imports torch.
"""

from __future__ import annotations

from avel.events.selection import SelectedEvent, Selection, select_events
from avel.events.vocabulary import NamedEvent, Vocabulary, load_vocabulary

__all__ = [
    "NamedEvent",
    "SelectedEvent",
    "Selection",
    "Vocabulary",
    "load_vocabulary",
    "select_events",
]
