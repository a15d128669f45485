"""Events by name, training-free: two taggers' classes, joined by a vocabulary of events.

Ours; the anchor is the training-free baseline of OV-AVEL (Zhou et al., CVPR 2025, arXiv
2411.11278), which compares class names with sound and picture in one embedding space. Here both
sides are taggers, whose own class lists the vocabulary joins: an event names the classes of AudioSet
(YAMNet) and of ImageNet (EfficientNet-Lite0) that its source has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from avel.errors import CheckpointError
from avel.events import NamedEvent
from avel.models.base import Answer, Batch, Model, ModelCard
from avel.types import Json


@dataclass(frozen=True)
class Fusion:
    """The numbers that join two taggers: one logistic regression for all events.

    ``logit = (bias + audio ln a + visual ln v - rival r) / temperature``, where a is the largest
    probability of the event's AudioSet classes in the segment, v the summed probability of its
    ImageNet classes in the whole frame, and r by how much ``audio ln a + visual ln v`` of the best
    other event exceeds its own (0 where it doesn't). No number belongs to a single event.

    Args:
        bias, audio, visual, rival: The weights.
        proxy_bias: Added to the bias where the picture's classes only go with the source (a
            person's clothes).
        audio_floor, visual_floor: The least a and v.
        proxy_floor, proxy_ceiling: The bounds of v where the picture's classes only go with the
            source.
        unknown: v where ImageNet has no class for the source.
        audible, visible: Intercept and slope of each modality alone, over ln a and ln v.
        temperature: By which the logits are divided, chosen for calibration.
    """

    bias: float
    audio: float
    visual: float
    rival: float
    proxy_bias: float
    audio_floor: float
    visual_floor: float
    proxy_floor: float
    proxy_ceiling: float
    unknown: float
    audible: tuple[float, float]
    visible: tuple[float, float]
    temperature: float = 1.0

    def to_json(self) -> Json:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """What :meth:`to_json` wrote.

        Raises:
            CheckpointError: if a number is missing, or isn't one.
        """
        try:
            pairs = {k: (float(data[k][0]), float(data[k][1])) for k in ("audible", "visible")}
            single = {k: float(data[k]) for k in cls.__dataclass_fields__ if k not in pairs}
            made = cls(**single, **pairs)
        except (KeyError, TypeError, ValueError, IndexError) as e:
            raise CheckpointError(f"no fusion of two taggers ({type(e).__name__}: {e})") from e
        numbers = [*single.values(), *pairs["audible"], *pairs["visible"]]
        floors = (made.audio_floor, made.visual_floor, made.proxy_floor, made.unknown)
        if not all(map(math.isfinite, numbers)) or min(*floors, made.temperature) <= 0:
            raise CheckpointError("a fusion of two taggers with numbers out of range")
        return made


class NamedEvents(Model):
    """Scores of named events from stored features: two dense layers and a table of events.

    Args:
        audio_head, visual_head: Weight (K, A) and bias (K,) of the taggers' dense layers.
        events: Those that are scored, in the order of the classes.
        rivals: Those that an event is compared with (its own kinds and it itself apart).
        fusion: How both modalities are joined.
    """

    card = ModelCard(
        name="named_events",
        paper="ours; anchor: Zhou et al. 2025, Towards Open-Vocabulary Audio-Visual Event "
        "Localization, CVPR; taggers: YAMNet, EfficientNet-Lite0",
        tasks=(),
        summary="Names some 300 events without training: two taggers joined by a vocabulary.",
        distribution=False,
    )

    def __init__(
        self,
        *,
        audio_head: tuple[Tensor, Tensor],
        visual_head: tuple[Tensor, Tensor],
        events: Sequence[NamedEvent],
        rivals: Sequence[NamedEvent],
        fusion: Fusion,
    ) -> None:
        super().__init__()
        self.fusion = fusion
        self.audio_weight, self.audio_bias = (nn.Parameter(t, False) for t in audio_head)
        self.visual_weight, self.visual_bias = (nn.Parameter(t, False) for t in visual_head)
        self.own = _Events(events, fusion, len(self.visual_bias))
        self.rivals = _Events(rivals, fusion, len(self.visual_bias))
        allowed = torch.tensor([[_is_rival(r, e) for r in rivals] for e in events])
        self.register_buffer("allowed", allowed.reshape(len(events), len(rivals)))

    def forward(self, *, audio: Tensor, visual: Tensor, mask: Tensor | None = None) -> Answer:
        """Scores of (B, T, A) and (B, T, H, W, V); every segment by itself, so masks don't matter.

        The answer's ``parts`` hold ``audible`` and ``visible`` (B, T, C), each modality alone, NaN
        where its tagger doesn't know the event; the background's score is 1 - the largest other. The attention is the class activation map of the segment's best event.
        """
        seen = self.seen(visual)
        a, v, excess = self.evidence(audio=audio, seen=seen)
        f, joint = self.fusion, self._joint(a, v)
        bias = f.bias + f.proxy_bias * self.own.proxy
        scores = torch.sigmoid((bias + joint - f.rival * excess) / f.temperature)
        scores = scores * self.own.heard  # what can't be heard is no audio-visual event
        background = 1 - scores.amax(-1, keepdim=True)
        whole = torch.cat([scores, background], -1)
        return Answer(
            scores=whole,
            labels=whole.argmax(-1),
            attention=self._attention(visual, seen, scores.argmax(-1)),
            parts={
                "audible": _alone(f.audible, a, self.own.heard),
                "visible": _alone(f.visible, v, self.own.seen),
            },
        )

    def evidence(self, *, audio: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """ln a, ln v and r of :class:`Fusion`, (B, T, C) each.

        Args:
            audio: (B, T, A) features.
            seen: (B, T, K) probabilities of the picture's classes.
        """
        heard = torch.sigmoid(nn.functional.linear(audio, self.audio_weight, self.audio_bias))
        a, v = self.own(heard, seen)
        lead = self._joint(*self.rivals(heard, seen))[..., None, :] - self._joint(a, v)[..., None]
        excess = torch.where(self.allowed, lead, 0.0).amax(-1).clamp(min=0)
        return a, v, excess

    def seen(self, visual: Tensor) -> Tensor:
        """(B, T, K) probabilities of the whole frame of (B, T, H, W, V)."""
        frame = visual.mean((2, 3))
        return torch.softmax(
            nn.functional.linear(frame, self.visual_weight, self.visual_bias), dim=-1
        )

    def _joint(self, a: Tensor, v: Tensor) -> Tensor:
        return self.fusion.audio * a + self.fusion.visual * v

    def _attention(self, visual: Tensor, seen: Tensor, best: Tensor) -> Tensor:
        """(B, T, H, W): the class activation map of each segment's best event, summing to 1."""
        shares = seen * self.own.members[best]  # (B, T, K)
        direction = shares @ self.visual_weight  # (B, T, V)
        cam = (visual * direction[:, :, None, None, :]).sum(-1)
        cam = (cam - cam.amin((2, 3), keepdim=True)) ** 2  # the weakest region gets nothing
        flat = cam.sum((2, 3), keepdim=True) <= 0
        cam = torch.where(flat, 1.0, cam)  # no class of the picture: everywhere alike
        return cam / cam.sum((2, 3), keepdim=True)

    def loss(self, answer: Answer, batch: Batch) -> Tensor:
        """There is none.

        Raises:
            CheckpointError: always.
        """
        raise CheckpointError(
            "named_events isn't trained",
            do="train a model on your own classes, e.g. `avel train cspa_csea data=clips`",
        )


class _Events(nn.Module):
    """A list of events as tables: the logarithms of what is heard and seen of each."""

    index: Tensor
    members: Tensor
    least: Tensor
    most: Tensor
    heard: Tensor
    seen: Tensor
    proxy: Tensor

    def __init__(self, events: Sequence[NamedEvent], fusion: Fusion, classes: int) -> None:
        super().__init__()
        audio = [e.indices("audio") for e in events]
        widest = max([len(i) for i in audio], default=0) or 1
        # an event's first class again where it has fewer: the largest stays the same
        index = [[*i, *[i[0] if i else 0] * (widest - len(i))] for i in audio]
        members = torch.zeros(len(events), classes)
        for row, event in enumerate(events):
            members[row, list(event.indices("visual"))] = 1
        kinds = [picture_kind(e) for e in events]
        bounds = {
            "seen": (fusion.visual_floor, 1.0),
            "proxy": (fusion.proxy_floor, fusion.proxy_ceiling),
            "unknown": (fusion.unknown, fusion.unknown),
        }
        tables = {
            "index": torch.tensor(index).reshape(len(events), widest),
            "members": members,
            "least": torch.tensor([bounds[k][0] for k in kinds]),
            "most": torch.tensor([bounds[k][1] for k in kinds]),
            "heard": torch.tensor([float(bool(i)) for i in audio]),
            "seen": torch.tensor([float(k == "seen") for k in kinds]),
            "proxy": torch.tensor([float(k == "proxy") for k in kinds]),
        }
        for name, table in tables.items():
            self.register_buffer(name, table)
        self._floor = fusion.audio_floor

    def forward(self, heard: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """ln a and ln v, (B, T, E) each, of (B, T, 521) and (B, T, 1000)."""
        a = heard[..., self.index].amax(-1).clamp(min=self._floor)
        v = torch.minimum(torch.maximum(seen @ self.members.T, self.least), self.most)
        return a.log(), v.log()


def _alone(line: tuple[float, float], logarithm: Tensor, known: Tensor) -> Tensor:
    """The probability by one modality alone, NaN where its tagger doesn't know the event."""
    return torch.where(known > 0, torch.sigmoid(line[0] + line[1] * logarithm), math.nan)


def picture_kind(event: NamedEvent) -> str:
    """How much the picture tells of an event: its source is ``seen``, by ``proxy``, or unknown."""
    if not event.visual:
        return "unknown"
    return "proxy" if event.proxy else "seen"


def _is_rival(rival: NamedEvent, event: NamedEvent) -> bool:
    """Whether one event speaks against another.

    Both taggers must know it, as what has no picture of its own (speech) goes with anything; and
    neither may be a kind of the other, or share a class with it in both modalities.
    """
    if picture_kind(rival) != "seen" or not rival.audio or rival.name == event.name:
        return False
    if event.name in (rival.kind_of,) or rival.name == event.kind_of:
        return False
    return not (set(rival.audio) & set(event.audio) and set(rival.visual) & set(event.visual))
