"""The training-free model `default`: a vocabulary of events and two taggers' weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from avel._version import __version__
from avel.errors import CheckpointError
from avel.events import NamedEvent, Selection, Vocabulary, load_vocabulary, select_events
from avel.files import json_hash
from avel.types import Json

if TYPE_CHECKING:
    from avel.inference.checkpoint import Trained

#: The taggers, by modality.
TAGGERS = {"audio": "yamnet", "visual": "efficientnet_lite0"}
#: The numbers that were chosen on real clips: the fusion, the decision, and on what.
SETTINGS = Path(__file__).parent.parent / "pretrained" / "named_events.json"
#: Segments of a window: few, so that the first scores come early; they don't depend on it, since
#: each segment is scored by itself.
_WINDOW = 4


def load_named_events(
    events: str | Sequence[str] | None = None, *, vocabulary: str | Path | None = None
) -> Trained:
    """The model that names events without training; see :mod:`avel.models.named_events`.

    Args:
        events: Phrases and sets, as :func:`avel.events.select_events` takes them; None for the
            vocabulary's set ``default``.
        vocabulary: A TOML file of a person's own events, as for
            :func:`avel.events.load_vocabulary`.

    Raises:
        UsageError: if a phrase is unknown, or the vocabulary can't be read.
        WeightsError: if a tagger's weights are missing and can't be had.
    """
    import torch

    from avel.backbones.load import load_classifier
    from avel.inference.checkpoint import Trained
    from avel.models.named_events import Fusion, NamedEvents

    words = load_vocabulary(vocabulary)
    selected = select_events("default" if events is None else events, words)
    settings = read_settings()
    heads, cards = {}, {}
    for modality, name in TAGGERS.items():
        heads[modality], cards[modality] = load_classifier(name)
    network = NamedEvents(
        audio_head=heads["audio"],
        visual_head=heads["visual"],
        events=[s.event for s in selected.events],
        rivals=rivals(words),
        typical=torch.tensor(settings["typical"]),
        fusion=Fusion.from_json(settings["fusion"]),
        requested=events is not None,
    )
    return Trained(network.eval(), _card(selected, events, settings, cards))


def read_settings() -> Json:
    """The numbers that ship: ``fusion``, ``typical``, ``decision``, and how they were ``chosen``.

    Raises:
        CheckpointError: if the file isn't whole.
    """
    try:
        settings = json.loads(SETTINGS.read_text("utf-8"))
    except (OSError, ValueError) as e:
        raise CheckpointError(f"{SETTINGS} can't be read ({e})", hint="install avel again") from e
    return dict(settings)


def rivals(words: Vocabulary) -> list[NamedEvent]:
    """The events that any event is compared with: the vocabulary's, whatever a person asked for."""
    return list(words.events.values())


def _card(selected: Selection, requested: object, settings: Json, cards: dict[str, Json]) -> Json:
    from avel.models.named_events import NamedEvents

    notes = [] if requested is None else list(selected.notes)
    chosen = {s.label: s.event.name for s in selected.events}
    return {
        "model": "named_events", "task": "sel", "paper": NamedEvents.card.paper,
        "classes": list(selected.labels), "step": 1.0, "window": _WINDOW, "options": {},
        "dims": {"audio": cards["audio"]["output"][-1], "visual": cards["visual"]["output"][-1]},
        "audio_card": cards["audio"], "visual_card": cards["visual"],
        "decision": settings["decision"], "chosen": settings["chosen"],
        "data": {"name": "none: two taggers and a vocabulary", "note": "", "simulated": False,
                 "fingerprint": json_hash([settings["fusion"], settings["typical"], chosen])},
        "events": chosen, "notes": notes, "train_ids": {}, "metrics": {},
        "seed": 0, "recipe": {}, "avel": __version__, "format": 1,
    }  # fmt: skip
