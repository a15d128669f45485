"""The identity of a backbone by its card, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from avel.types import Json


def backbone_identity(card: Json) -> tuple[str, str, str]:
    """Name, weights and hash of a backbone's card: what makes two features comparable."""
    return tuple(str(card.get(k, "")) for k in ("name", "weights", "hash"))  # type: ignore[return-value]


def backbone_name(card: Mapping[str, Any]) -> str:
    """``vgg19:keras (md5:253f8cb5…)``: a backbone's name, weights and hash, for a message."""
    if not card:
        return "an unknown backbone"
    return f"{backbone_option(card)} ({str(card.get('hash', 'no hash'))[:40]})"


def backbone_option(card: Mapping[str, Any]) -> str:
    """The option that chooses a card's backbone: ``name:weights``."""
    name, weights = card.get("name", "?"), card.get("weights", "")
    return f"{name}:{weights}" if weights else str(name)
