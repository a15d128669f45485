"""YAMNet on one patch a segment, the segment's own: for own classes on few clips."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from avel.backbones.base import Card, backbones
from avel.backbones.yamnet import YAMNet


@backbones.register("yamnet_segment")
class YAMNetSegment(YAMNet):
    """YAMNet, its one patch beginning with the segment and ending before the next begins."""

    card: ClassVar[Card] = replace(
        YAMNet.card,
        name="yamnet_segment",
        patch_hop=0.0,
        note="Hears nothing of the neighbouring segments, as yamnet does: models that are trained "
        "on few clips find their events better so (docs/your-own-videos.md).",
    )
