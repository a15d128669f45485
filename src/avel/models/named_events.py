"""Events by name, training-free: two taggers' classes, joined by a vocabulary of events.

Ours; the anchor is the training-free baseline of OV-AVEL (Zhou et al., CVPR 2025, arXiv
2411.11278), which compares class names with sound and picture in one embedding space. Here both
sides are taggers, whose own class lists the vocabulary joins: an event names the classes of
AudioSet (YAMNet) and of ImageNet (EfficientNet-Lite0) that its source has.
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
from avel.events.vocabulary import TAGGERS, class_names
from avel.models.base import Batch, Model, ModelCard, Output
from avel.types import Json, Modality

#: The largest logit that counts.
_LOGIT = 14.0


@dataclass(frozen=True)
class Fusion:
    """The numbers that join two taggers: one logistic regression for all events.

    ``logit = (bias + audio x + visual ln v - rival r) / temperature``, where x says how far the
    logit of the event's AudioSet classes exceeds what is typical of the class (the largest, at
    least 0), v is the summed probability of its ImageNet classes in the whole frame, and r by how
    much ``audio x + visual ln v`` of the best other event exceeds its own (0 where it doesn't). No
    number belongs to a single event.

    Args:
        bias, audio, visual, rival: The weights.
        proxy_bias: Added to the bias where the picture's classes only go with the source (a
            person's clothes).
        visual_floor: The least v.
        proxy_floor, proxy_ceiling: The bounds of v where the picture's classes only go with the
            source.
        unknown: v where ImageNet has no class for the source.
        temperature: By which the logits are divided, chosen for calibration.
    """

    bias: float
    audio: float
    visual: float
    rival: float
    proxy_bias: float
    visual_floor: float
    proxy_floor: float
    proxy_ceiling: float
    unknown: float
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
            numbers = {k: float(data[k]) for k in cls.__dataclass_fields__}
        except (KeyError, TypeError, ValueError) as e:
            raise CheckpointError(f"no fusion of two taggers ({type(e).__name__}: {e})") from e
        made = cls(**numbers)
        floors = (made.visual_floor, made.proxy_floor, made.unknown)
        if not all(map(math.isfinite, numbers.values())) or min(*floors, made.temperature) <= 0:
            raise CheckpointError("a fusion of two taggers with numbers out of range")
        return made


class NamedEvents(Model):
    """Scores of named events from stored features: two dense layers and a table of events.

    Args:
        audio_head, visual_head: Weight (K, A) and bias (K,) of the taggers' dense layers.
        events: Those that are scored, in the order of the classes.
        rivals: Those that an event is compared with (its own kinds and it itself apart).
        typical: (K,) the logit of each AudioSet class in sound that has little to do with it.
        fusion: How both modalities are joined.
        asked: Whether a person asked for these events. Then each is scored for itself, and one that
            ImageNet has no class for may be an audio-visual event, its picture taken as neutral.
            Else such an event is only ever audible, and of events that share classes of both
            taggers (a rooster, a chicken) only the likeliest of a segment is scored.
    """

    card = ModelCard(
        name="named_events",
        paper="ours; anchor: Zhou et al. 2025, Towards Open-Vocabulary Audio-Visual Event "
        "Localization, CVPR; taggers: YAMNet, EfficientNet-Lite0",
        tasks=(),
        summary="Names some 300 events without training: two taggers joined by a vocabulary.",
        distribution=False,
    )
    typical: Tensor
    allowed: Tensor
    joint: Tensor
    alike_audio: Tensor
    alike_visual: Tensor
    common_places: Tensor

    def __init__(
        self,
        *,
        audio_head: tuple[Tensor, Tensor],
        visual_head: tuple[Tensor, Tensor],
        events: Sequence[NamedEvent],
        rivals: Sequence[NamedEvent],
        typical: Tensor,
        fusion: Fusion,
        asked: bool = True,
    ) -> None:
        super().__init__()
        self.fusion = fusion
        self.audio_weight, self.audio_bias = (nn.Parameter(t, False) for t in audio_head)
        self.visual_weight, self.visual_bias = (nn.Parameter(t, False) for t in visual_head)
        self.register_buffer("typical", typical)
        self.own = _EventTables(events, fusion, len(self.visual_bias))
        self.rivals = _EventTables(rivals, fusion, len(self.visual_bias))
        both = [bool(r.audio) and picture_kind(r) != "unknown" for r in rivals]
        places = [i for i, known in enumerate(both) if known]
        #: The events that both taggers know, scored or not: by them sounds and pictures compare.
        self.common = tuple(rivals[i] for i in places)
        self.register_buffer("common_places", torch.tensor(places, dtype=torch.long))
        self.register_buffer("allowed", _allowed_rivals(rivals, events))
        # what can't be heard, or not be seen, is no audio-visual event
        kinds = [picture_kind(e) for e in events]
        joint = [bool(e.audio) and (asked or k != "unknown")
                 for e, k in zip(events, kinds, strict=True)]  # fmt: skip
        self.register_buffer("joint", torch.tensor([float(j) for j in joint]))
        for modality in TAGGERS:
            self.register_buffer(f"alike_{modality}", _share_classes(events, events, modality))
        self.asked = asked

    def forward(self, *, audio: Tensor, visual: Tensor, mask: Tensor | None = None) -> Output:
        """Scores of (B, T, A) and (B, T, H, W, V); every segment by itself, so masks don't matter.

        The answer's ``parts`` hold ``audible`` and ``visible`` (B, T, C): the largest probability
        of the event's AudioSet classes, and the sum of its ImageNet classes', NaN where the tagger
        doesn't know the event; of events that share a class only the likeliest has one. The
        background's score is 1 - the largest other's. The attention is the class
        activation map of the segment's best event.
        """
        seen = self.seen(visual)
        x, v, excess = self.evidence(audio=audio, seen=seen)
        f, joint = self.fusion, self._joint(x, v)
        bias = f.bias + f.proxy_bias * self.own.proxy
        scores = torch.sigmoid((bias + joint - f.rival * excess) / f.temperature)
        scores = scores * self.joint
        if not self.asked:
            scores = torch.where(
                _likeliest(scores, self.alike_audio & self.alike_visual), scores, 0.0
            )
        background = 1 - scores.amax(-1, keepdim=True)
        whole = torch.cat([scores, background], -1)
        return Output(
            scores=whole,
            labels=whole.argmax(-1),
            attention=self._attention(visual, seen, scores.argmax(-1)),
            parts={
                "audible": _of_likeliest(
                    self.own.audible(self.heard(audio)), joint, self.alike_audio, self.own.heard
                ),
                "visible": _of_likeliest(
                    self.own.visible(seen), joint, self.alike_visual, self.own.seen
                ),
            },
        )

    def evidence(self, *, audio: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x, ln v and r of :class:`Fusion`, (B, T, C) each.

        Args:
            audio: (B, T, A) features.
            seen: (B, T, K) probabilities of the picture's classes.
        """
        heard = self.heard(audio) - self.typical
        x, v = self.own(heard, seen)
        lead = self._joint(*self.rivals(heard, seen))[..., None, :] - self._joint(x, v)[..., None]
        excess = torch.where(self.allowed, lead, 0.0).amax(-1).clamp(min=0)
        return x, v, excess

    def heard(self, audio: Tensor) -> Tensor:
        """(B, T, K) logits of AudioSet's classes, within +-14: float32 probabilities end there.

        Features of zeros mean that there was nothing to hear: every logit is the least.
        """
        logits = nn.functional.linear(audio, self.audio_weight, self.audio_bias)
        there = (audio != 0).any(-1, keepdim=True)
        return torch.where(there, logits.clamp(-_LOGIT, _LOGIT), -_LOGIT)

    def seen(self, visual: Tensor) -> Tensor:
        """(B, T, K) probabilities of the whole frame of (B, T, H, W, V).

        Maps of zeros mean that there was nothing to see: every probability is 0.
        """
        frame = visual.mean((2, 3))
        logits = nn.functional.linear(frame, self.visual_weight, self.visual_bias)
        there = (visual != 0).any(-1).any(-1).any(-1)[..., None]
        return torch.where(there, logits.softmax(-1), 0.0)

    @property
    def reads_means(self) -> bool:
        """A search reads no more of the picture than its mean over the regions."""
        return True

    def profile(self, features: Tensor, modality: Modality) -> Tensor:
        """The evidence of one modality for each event of ``common``.

        Args:
            features: (T, A) of sound, or (T, H, W, V) of the picture.
            modality: Which of both.

        Returns:
            (T, E), 0 or more: x of :class:`Fusion`, or by how much ln v exceeds its least.
        """
        if modality == "audio":
            x = self.rivals.exceeding(self.heard(features) - self.typical)
            return x[..., self.common_places]
        logs = self.rivals.logarithms(self.seen(features[None])[0])
        return logs[..., self.common_places] - self._least

    def shared(self, heard: Tensor, seen: Tensor) -> Tensor:
        """The probability of each event of ``common`` if sound and picture were one recording.

        Args:
            heard, seen: (..., E) profiles of a sound and of a picture.

        Returns:
            (..., E): :class:`Fusion` without rivals.
        """
        f, proxy = self.fusion, self.rivals.proxy[self.common_places]
        joint = self._joint(heard, seen + self._least)
        return torch.sigmoid((f.bias + f.proxy_bias * proxy + joint) / f.temperature)

    def perceived(self, features: Tensor, modality: Modality) -> Tensor:
        """The probability of each event of ``common`` by one modality alone.

        Args:
            features: (T, A) of sound, or (T, H, W, V) of the picture.
            modality: Which of both.

        Returns:
            (T, E), 0 where the picture tells of an event by proxy alone.
        """
        if modality == "audio":
            return self.rivals.audible(self.heard(features))[..., self.common_places]
        visible = self.rivals.visible(self.seen(features[None])[0]) * self.rivals.seen
        return visible[..., self.common_places]

    @property
    def _least(self) -> Tensor:
        """(E,) the least ln v of the common events."""
        return self.rivals.least[self.common_places].log()

    def _joint(self, x: Tensor, v: Tensor) -> Tensor:
        return self.fusion.audio * x + self.fusion.visual * v

    def _attention(self, visual: Tensor, seen: Tensor, best: Tensor) -> Tensor:
        """(B, T, H, W): the class activation map of each segment's best event, summing to 1."""
        shares = seen * self.own.members[best]  # (B, T, K)
        direction = shares @ self.visual_weight  # (B, T, V)
        cam = (visual * direction[:, :, None, None, :]).sum(-1)
        cam = (cam - cam.amin((2, 3), keepdim=True)) ** 2  # the weakest region gets nothing
        flat = cam.sum((2, 3), keepdim=True) <= 0
        cam = torch.where(flat, 1.0, cam)  # no class of the picture: everywhere alike
        return cam / cam.sum((2, 3), keepdim=True)

    def loss(self, answer: Output, batch: Batch) -> Tensor:
        """There is none.

        Raises:
            CheckpointError: always.
        """
        raise CheckpointError(
            "named_events isn't trained",
            hint="train a model on your own classes, e.g. `avel train cspa_csea data=clips`",
        )


class _EventTables(nn.Module):
    """A list of events as tables: what of each is heard, and the logarithm of what is seen."""

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

    def forward(self, heard: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """x and ln v, (B, T, E) each, of logits (B, T, K) and probabilities (B, T, K')."""
        return self.exceeding(heard), self.logarithms(seen)

    def exceeding(self, heard: Tensor) -> Tensor:
        """x, (..., E), of logits less what is typical, (..., K)."""
        return heard[..., self.index].amax(-1).clamp(min=0) * self.heard

    def logarithms(self, seen: Tensor) -> Tensor:
        """ln v, (..., E), of probabilities (..., K')."""
        v = torch.minimum(torch.maximum(self.visible(seen), self.least), self.most)
        return v.log()

    def audible(self, heard: Tensor) -> Tensor:
        """(B, T, E) the largest probability of each event's AudioSet classes, of their logits."""
        return heard[..., self.index].amax(-1).sigmoid()

    def visible(self, seen: Tensor) -> Tensor:
        """(B, T, E) the summed probability of each event's ImageNet classes."""
        return (seen @ self.members.T).clamp(max=1)  # a sum of many rounds above 1


def _of_likeliest(probability: Tensor, joint: Tensor, alike: Tensor, known: Tensor) -> Tensor:
    """A modality's probabilities, 0 of what is less likely than an event that is alike.

    What is seen as a guitar isn't a ukulele as well. NaN where the tagger doesn't know the event.
    """
    probability = torch.where(_likeliest(joint, alike), probability, 0.0)
    return torch.where(known > 0, probability, math.nan)


def _likeliest(values: Tensor, alike: Tensor) -> Tensor:
    """(..., E) where no event that is alike (E, E) has a larger value."""
    return values >= torch.where(alike, values[..., None, :], -math.inf).amax(-1)


def picture_kind(event: NamedEvent) -> str:
    """How much the picture tells of an event: its source is ``seen``, by ``proxy``, or unknown."""
    if not event.visual:
        return "unknown"
    return "proxy" if event.proxy else "seen"


def _allowed_rivals(rivals: Sequence[NamedEvent], events: Sequence[NamedEvent]) -> Tensor:
    """(E, R) bool, whether a rival speaks against an event.

    Both taggers must know the rival, as what has no picture of its own (speech) goes with anything;
    and neither may be a kind of the other, or share a class with it in both modalities.
    """
    known = torch.tensor([picture_kind(r) == "seen" and bool(r.audio) for r in rivals])
    shared = [_share_classes(events, rivals, modality) for modality in TAGGERS]
    allowed = known.reshape(1, len(rivals)) & ~(shared[0] & shared[1])
    columns = {r.name: i for i, r in enumerate(rivals)}
    kinds: dict[str, list[int]] = {}
    for i, rival in enumerate(rivals):
        kinds.setdefault(rival.kind_of, []).append(i)
    for row, event in enumerate(events):
        related = kinds.get(event.name, [])
        related = related + [columns[n] for n in (event.name, event.kind_of) if n in columns]
        allowed[row, related] = False
    return allowed


def _share_classes(
    events: Sequence[NamedEvent], others: Sequence[NamedEvent], modality: Modality
) -> Tensor:
    """(E, O) bool, whether two events have a class of a tagger in common."""
    return _membership(events, modality) @ _membership(others, modality).T > 0


def _membership(events: Sequence[NamedEvent], modality: Modality) -> Tensor:
    """(E, K) float, 1 for each class of a tagger that an event has, else 0."""
    table = torch.zeros(len(events), len(class_names(modality)))
    for row, event in enumerate(events):
        table[row, list(event.indices(modality))] = 1
    return table
