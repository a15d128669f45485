"""Decisions that a paper has of its own, over the scores of each segment; no torch.

A model whose decision is another than the largest score has one of these as ``decision_rule``, so
that an exported model can name it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: From (..., C+1) scores and (..., ...) parts by name to (...) class ids, each segment by itself.
DecisionRule = Callable[[NDArray[Any], Mapping[str, NDArray[Any]]], NDArray[np.int64]]

#: Where background is likelier than this, a segment is background (wu2019, 3.4).
HALF = 0.5


def relevance(scores: NDArray[Any], parts: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
    """Background where it is likelier than a half, else the best class (wu2019, 3.4).

    Args:
        scores: (..., C+1), background last.
        parts: Not needed.
    """
    best = scores[..., :-1].argmax(-1)
    background = scores[..., -1] > 1 - HALF
    labels: NDArray[np.int64] = np.where(background, scores.shape[-1] - 1, best)
    return labels.astype(np.int64)


DECISION_RULES: Mapping[str, DecisionRule] = {"relevance": relevance}
#: The name of the decision for the largest score.
LARGEST = "largest"


def rule_name(rule: DecisionRule | None) -> str | None:
    """The name of a decision; None where it has none."""
    if rule is None:
        return LARGEST
    return next((name for name, known in DECISION_RULES.items() if known is rule), None)
