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
        fusion = cls(**numbers)
        floors = (fusion.visual_floor, fusion.proxy_floor, fusion.unknown)
        if not all(map(math.isfinite, numbers.values())) or min(*floors, fusion.temperature) <= 0:
            raise CheckpointError("a fusion of two taggers with numbers out of range")
        return fusion


class NamedEvents(Model):
    """Scores of named events from stored features: two dense layers and a table of events.

    Args:
        audio_head, visual_head: Weight (K, A) and bias (K,) of the taggers' dense layers.
        events: Those that are scored, in the order of the classes.
        rivals: Those that an event is compared with (its own kinds and it itself apart).
        typical: (K,) the logit of each AudioSet class in sound that has little to do with it.
        fusion: How both modalities are joined.
        requested: Whether a person named these events. Then each is scored for itself, and one that
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
    common_columns: Tensor

    def __init__(
        self,
        *,
        audio_head: tuple[Tensor, Tensor],
        visual_head: tuple[Tensor, Tensor],
        events: Sequence[NamedEvent],
        rivals: Sequence[NamedEvent],
        typical: Tensor,
        fusion: Fusion,
        requested: bool = True,
    ) -> None:
        super().__init__()
        self.fusion = fusion
        self.audio_weight, self.audio_bias = (nn.Parameter(t, False) for t in audio_head)
        self.visual_weight, self.visual_bias = (nn.Parameter(t, False) for t in visual_head)
        self.register_buffer("typical", typical)
        self.scored = _EventTables(events, fusion, len(self.visual_bias))
        self.rivals = _EventTables(rivals, fusion, len(self.visual_bias))
        known = [bool(r.audio) and picture_kind(r) != "unknown" for r in rivals]
        columns = [i for i, is_known in enumerate(known) if is_known]
        #: The events that both taggers know, scored or not: they compare sounds with pictures.
        self.common = tuple(rivals[i] for i in columns)
        self.register_buffer("common_columns", torch.tensor(columns, dtype=torch.long))
        self.register_buffer("allowed", _allowed_rivals(rivals, events))
        # an event that isn't audible, or isn't visible, is no audio-visual event
        kinds = [picture_kind(e) for e in events]
        joint = [bool(e.audio) and (requested or k != "unknown")
                 for e, k in zip(events, kinds, strict=True)]  # fmt: skip
        self.register_buffer("joint", torch.tensor([float(j) for j in joint]))
        for modality in TAGGERS:
            self.register_buffer(f"alike_{modality}", _share_classes(events, events, modality))
        self.requested = requested

    def forward(self, *, audio: Tensor, visual: Tensor, mask: Tensor | None = None) -> Output:
        """Scores of (B, T, A) and (B, T, H, W, V); every segment by itself, so masks don't matter.

        The ``parts`` hold ``audible`` and ``visible`` (B, T, C): the largest probability
        of the event's AudioSet classes, and the sum of its ImageNet classes', NaN where the tagger
        doesn't know the event; of events that share a class only the likeliest has one. The
        background's score is 1 - the largest other's. The attention is the class
        activation map of the segment's best event.
        """
        probabilities = self.frame_probabilities(visual)
        x, v, excess = self.evidence(audio=audio, probabilities=probabilities)
        f, joint = self.fusion, self._joint(x, v)
        bias = f.bias + f.proxy_bias * self.scored.proxy
        scores = torch.sigmoid((bias + joint - f.rival * excess) / f.temperature)
        scores = scores * self.joint
        if not self.requested:
            scores = torch.where(
                _likeliest(scores, self.alike_audio & self.alike_visual), scores, 0.0
            )
        background = 1 - scores.amax(-1, keepdim=True)
        whole = torch.cat([scores, background], -1)
        return Output(
            scores=whole,
            labels=whole.argmax(-1),
            attention=self._attention(visual, probabilities, scores.argmax(-1)),
            parts={
                "audible": _of_likeliest(
                    self.scored.audible(self.audio_logits(audio)),
                    joint,
                    self.alike_audio,
                    self.scored.known_audio,
                ),
                "visible": _of_likeliest(
                    self.scored.visible(probabilities),
                    joint,
                    self.alike_visual,
                    self.scored.known_visual,
                ),
            },
        )

    def evidence(self, *, audio: Tensor, probabilities: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x, ln v and r of :class:`Fusion`, (B, T, C) each.

        Args:
            audio: (B, T, A) features.
            probabilities: (B, T, K) probabilities of the picture's classes.
        """
        excess_logits = self.audio_logits(audio) - self.typical
        x, v = self.scored(excess_logits, probabilities)
        lead = (
            self._joint(*self.rivals(excess_logits, probabilities))[..., None, :]
            - self._joint(x, v)[..., None]
        )
        excess = torch.where(self.allowed, lead, 0.0).amax(-1).clamp(min=0)
        return x, v, excess

    def audio_logits(self, audio: Tensor) -> Tensor:
        """(B, T, K) logits of AudioSet's classes, within +-14: float32 probabilities end there.

        Features of zeros mean that there was no sound: every logit is the least.
        """
        logits = nn.functional.linear(audio, self.audio_weight, self.audio_bias)
        is_audible = (audio != 0).any(-1, keepdim=True)
        return torch.where(is_audible, logits.clamp(-_LOGIT, _LOGIT), -_LOGIT)

    def frame_probabilities(self, visual: Tensor) -> Tensor:
        """(B, T, K) probabilities of the whole frame of (B, T, H, W, V).

        Maps of zeros mean that there was no picture: every probability is 0.
        """
        frame = visual.mean((2, 3))
        logits = nn.functional.linear(frame, self.visual_weight, self.visual_bias)
        is_visible = (visual != 0).any(-1).any(-1).any(-1)[..., None]
        return torch.where(is_visible, logits.softmax(-1), 0.0)

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
            x = self.rivals.exceeding(self.audio_logits(features) - self.typical)
            return x[..., self.common_columns]
        logs = self.rivals.logarithms(self.frame_probabilities(features[None])[0])
        return logs[..., self.common_columns] - self._least

    def shared(self, audio: Tensor, visual: Tensor) -> Tensor:
        """The probability of each event of ``common`` if sound and picture were one recording.

        Args:
            audio, visual: (..., E) profiles of a sound and of a picture.

        Returns:
            (..., E): :class:`Fusion` without rivals.
        """
        f, proxy = self.fusion, self.rivals.proxy[self.common_columns]
        joint = self._joint(audio, visual + self._least)
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
            return self.rivals.audible(self.audio_logits(features))[..., self.common_columns]
        visible = (
            self.rivals.visible(self.frame_probabilities(features[None])[0])
            * self.rivals.known_visual
        )
        return visible[..., self.common_columns]

    @property
    def _least(self) -> Tensor:
        """(E,) the least ln v of the common events."""
        return self.rivals.least[self.common_columns].log()

    def _joint(self, x: Tensor, v: Tensor) -> Tensor:
        return self.fusion.audio * x + self.fusion.visual * v

    def _attention(self, visual: Tensor, probabilities: Tensor, best: Tensor) -> Tensor:
        """(B, T, H, W): the class activation map of each segment's best event, summing to 1."""
        shares = probabilities * self.scored.members[best]  # (B, T, K)
        direction = shares @ self.visual_weight  # (B, T, V)
        cam = (visual * direction[:, :, None, None, :]).sum(-1)
        cam = (cam - cam.amin((2, 3), keepdim=True)) ** 2  # the weakest region gets nothing
        flat = cam.sum((2, 3), keepdim=True) <= 0
        cam = torch.where(flat, 1.0, cam)  # no class of the picture: everywhere alike
        return cam / cam.sum((2, 3), keepdim=True)

    def loss(self, output: Output, batch: Batch) -> Tensor:
        """There is none.

        Raises:
            CheckpointError: always.
        """
        raise CheckpointError(
            "named_events isn't trained",
            hint="train a model on your own classes, e.g. `avel train cspa_csea data=clips`",
        )


class _EventTables(nn.Module):
    """A list of events as tables: each one's classes, and bounds of its probability."""

    index: Tensor
    members: Tensor
    least: Tensor
    most: Tensor
    known_audio: Tensor
    known_visual: Tensor
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
            "known_audio": torch.tensor([float(bool(i)) for i in audio]),
            "known_visual": torch.tensor([float(k == "seen") for k in kinds]),
            "proxy": torch.tensor([float(k == "proxy") for k in kinds]),
        }
        for name, table in tables.items():
            self.register_buffer(name, table)

    def forward(self, logits: Tensor, probabilities: Tensor) -> tuple[Tensor, Tensor]:
        """x and ln v, (B, T, E) each, of logits (B, T, K) and probabilities (B, T, K')."""
        return self.exceeding(logits), self.logarithms(probabilities)

    def exceeding(self, logits: Tensor) -> Tensor:
        """x, (..., E), of logits less what is typical, (..., K)."""
        return logits[..., self.index].amax(-1).clamp(min=0) * self.known_audio

    def logarithms(self, probabilities: Tensor) -> Tensor:
        """ln v, (..., E), of probabilities (..., K')."""
        v = torch.minimum(torch.maximum(self.visible(probabilities), self.least), self.most)
        return v.log()

    def audible(self, logits: Tensor) -> Tensor:
        """(B, T, E) the largest probability of each event's AudioSet classes, of their logits."""
        return logits[..., self.index].amax(-1).sigmoid()

    def visible(self, probabilities: Tensor) -> Tensor:
        """(B, T, E) the summed probability of each event's ImageNet classes."""
        return (probabilities @ self.members.T).clamp(max=1)  # a sum of many rounds above 1


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
