"""Evidence of each modality for every class, aligned in time and joined where both agree (ours)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avel.models.base import (
    TASK_TRAITS,
    Batch,
    Model,
    ModelCard,
    Output,
    Query,
    Recipe,
    TaskName,
    models,
)
from avel.models.layers import (
    BiLSTM,
    Dropout,
    as_read,
    average,
    masked_mean,
    region_mean,
    share_entropy,
    valid,
)
from avel.models.precision import widened

#: The least share of a modality in the joint evidence, so that its logarithm is finite.
_LEAST = 1e-6
#: How segments agree on a class: rounds, and the weight of each neighbour, by its distance.
_ROUNDS, _NEIGHBOURS = 6, (1.0, 0.7, 0.5)
#: CML compares a clip with so many others of its batch, at most.
_OTHERS = 3


@models.register("evidence")
class Evidence(Model):
    """An event is where the sound and the picture both give evidence of its class.

    Each modality gives a logit for every class and segment: the sound from its vector and a BiLSTM
    over the clip, the picture from each region, pooled by log-sum-exp, so that no modality decides
    how the other is read. The sound's logits are moved in time by a lag that the clip's own
    correlation of both chooses, class by class. The joint logit is that of a soft AND,
    ``-log(w_a exp(-a) + w_v exp(-v))``, whose weights come from a gate of each modality; that of
    the sound is 0 where the moved sound has ended. A BiLSTM over these logits, and nothing else,
    corrects them in context. Last, and not while training, an event's segments agree on its class,
    by mean-field rounds of a chain; whether a segment has an event isn't changed by it.

    CML takes the same evidence without lag, gates and context: two segments match where some class
    is audible in the one and visible in the other, the log-sum-exp over the classes of the soft
    AND. No candidate knows the query.

    Args:
        audio_dim, visual_dim: Widths A and V.
        classes: C, without background.
        task: ``"sel"``, ``"wsel"`` or ``"cml"``.
        hidden: Width of each modality's encoder.
        state: A BiLSTM direction's width.
        joint: ``"and"``, or ``"sum"``: a + v in its place.
        reach: The largest lag, in segments; 0 aligns nothing.
        gate: Whether the weights of the modalities depend on the segment; else both are 1.
        context: Whether the BiLSTM over the logits follows; else a linear layer.
        chain: How strongly segments near each other tend to be of one class; 0 for not at all.
        linear: Whether linear layers of the features give logits too, background's among them
            (SEL, WSEL). They start at zero, and what the other layers add starts near it. The
            regions then have a mean, and the picture's encoder reads theirs.
        clip: How strongly a segment tends to be of the classes of its clip; 0 for not at all.
        lost: Share of the training clips that lose a track, half of them the sound.
        shift: Share of the training clips whose sound is moved by up to ``reach`` segments.
        mismatch: Weight of the loss of mismatched pairs, each clip's sound with another's picture.
        background_weight: Weight of a segment of background in SEL's cross-entropy.
        auxiliary: Weight of the joint logits' own loss.
        lag_loss: Weight of the loss of the lag by which the sound was moved.
        dropout: Of both encoders, and before the last layer.
    """

    card: ClassVar[ModelCard] = ModelCard(
        name="evidence",
        paper="Ours",
        tasks=("sel", "wsel", "cml"),
        summary="Each modality's evidence of every class, aligned in time, joined by a soft AND.",
        open_points=(
            "SEL: cross-entropy of the segments; beside it the binary cross-entropy of the joint "
            "logits, that of mismatched pairs, and the cross-entropy of the lag",
            "WSEL: binary cross-entropy of each class's probability, pooled over time with itself "
            "as the weight, so that background needs no tag",
            "a track of zeros counts as lost; while training, tracks are lost and moved at random",
            "CML is unpaired: a window's cost is minus the sum of its segments' mean match with "
            "the query",
            "CML learns the classes as SEL does, by the binary cross-entropy of the joint logits, "
            "and that a clip's event segments match each other but neither its background nor up "
            "to three other clips",
        ),
    )
    small_values: ClassVar[Mapping[str, Any]] = {
        "input_dropout": 0.0,
        "average": 0.97,
        "options": {
            "hidden": 64, "linear": True, "clip": 1.0, "joint": "sum",
            "reach": 0, "gate": False, "dropout": 0.5,
            "mismatch": 0.0, "auxiliary": 0.0, "background_weight": 0.5,
        },
    }  # fmt: skip
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {"joint": ("and", "sum")}
    shares_batches: ClassVar[bool] = False

    def __init__(
        self,
        *,
        audio_dim: int,
        visual_dim: int,
        classes: int,
        task: TaskName = "sel",
        hidden: int = 256,
        state: int = 64,
        joint: str = "and",
        reach: int = 3,
        gate: bool = True,
        context: bool = True,
        chain: float = 2.0,
        linear: bool = False,
        clip: float = 0.0,
        lost: float = 0.3,
        shift: float = 0.75,
        mismatch: float = 0.3,
        background_weight: float = 1.0,
        auxiliary: float = 0.5,
        lag_loss: float = 0.3,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.check_sizes(hidden=hidden, state=state, reach=reach + 1)
        if hidden % 2:
            raise ValueError(f"hidden={hidden}: expected an even number")
        for name, share in (("lost", lost), ("shift", shift), ("dropout", dropout)):
            if not 0 <= share < 1:
                raise ValueError(f"{name}={share}: expected 0 or more and less than 1")
        for name, value in (("clip", clip), ("background_weight", background_weight)):
            if value < 0:
                raise ValueError(f"{name}={value}: expected 0 or more")
        self.task, self.background, self.joint, self.chain = task, classes, joint, chain
        self.reach, self.lost, self.shift = reach, lost, shift if reach else 0.0
        self.mismatch, self.auxiliary, self.lag_loss = mismatch, auxiliary, lag_loss
        self.clip, self.background_weight = clip, background_weight
        self.audio_encoder = _encoder(audio_dim, hidden, dropout)
        self.visual_encoder = _encoder(visual_dim, hidden, dropout)
        self.audio_lstm = BiLSTM(hidden, hidden // 2)
        self.audio_head = nn.Linear(hidden, classes)
        self.region_head = nn.Linear(hidden, classes)
        self.sharpness: nn.Parameter | None = nn.Parameter(torch.zeros(()))
        self.linear: nn.ModuleList | None = None
        if not TASK_TRAITS[task].classifies:
            self.offset = nn.Parameter(torch.zeros(()))
            return
        self.gates = nn.ModuleList(nn.Linear(hidden, 1) for _ in range(2)) if gate else None
        if reach:
            self.lag_lstm = BiLSTM(2 * hidden, 32)
            self.lag_head = nn.Linear(64, 2 * reach + 1)
            nn.init.normal_(self.lag_head.weight, std=0.01)
            with torch.no_grad():
                self.lag_head.bias.copy_(-torch.arange(-reach, reach + 1).abs() / 2)
            self.lag_scale = nn.Parameter(torch.ones(()))
        self.recurrent = BiLSTM(3 * classes, state) if context else None
        inner = 2 * state if context else 3 * classes
        self.head = nn.Sequential(Dropout(dropout), nn.Linear(inner, classes + 1))
        if linear:
            self.sharpness = None
            self.linear = nn.ModuleList(
                nn.Linear(width, classes + 1) for width in (audio_dim, visual_dim)
            )
            for weight in self.linear.parameters():
                nn.init.zeros_(weight)
            for part in (self.audio_head, self.region_head, self.head):
                for weight in part.parameters():
                    nn.init.normal_(weight, std=0.01)

    @classmethod
    def recipe(cls, task: TaskName) -> Recipe:
        """Ours: Adam 1e-3, weight decay 1e-4, 30 epochs of batch 16, averaged weights."""
        return Recipe(epochs=30, batch=16, weight_decay=1e-4, average=0.995)

    def forward(self, *, audio: Tensor, visual: Tensor, mask: Tensor | None = None) -> Output:
        """Output for (B, T, A) and (B, T, H, W, V); ``mask`` (B, T) is True on real segments.

        Parts, in SEL and WSEL: ``logits`` (B, T, C+1); ``joint`` (B, T, C), the soft AND of
        ``audio_evidence`` and ``visual_evidence`` (B, T, C), the sound's as aligned;
        ``audio_weight`` (B, T) in [0, 1], the gate's share of the sound; ``lag`` (B, C), the
        segments by which each class is heard later than it is seen, and ``lag_logits``
        (B, 2 reach + 1) of the clip; for the loss ``gates`` (B, T, 2), and in training ``moved``
        (B,), the segments by which the sound was moved, and ``tracks`` (B, 2), whether sound and
        picture weren't lost. CML: ``audio_evidence`` and ``visual_evidence``, of tracks that need
        not be of the same length.
        """
        rows, columns = visual.shape[2:4]
        audio, visual = as_read(self, audio, visual)
        real = valid(audio, mask)
        classifies = TASK_TRAITS[self.task].classifies
        moved = None
        if self.training and classifies and (self.lost or self.shift):
            audio, visual, moved = self._perturbed(audio, visual, real)
        sounds = self.audio_encoder(audio)
        sounds = sounds + self.audio_lstm(sounds, mask)
        regions = visual
        if self.linear is not None:  # only the linear layer reads the regions
            regions = region_mean(visual).to(visual.dtype)[:, :, None]
        regions = self.visual_encoder(regions)
        a = widened(self.audio_head(sounds))
        each = widened(self.region_head(regions))  # (B, T, K, C)
        background: Tensor | float = 0.0
        if self.linear is not None:
            of_audio, of_visual = (
                widened(layer(x)) for layer, x in zip(self.linear, (audio, visual), strict=True)
            )
            a, each = a + of_audio[..., :-1], each + of_visual[..., :-1]
            background = of_audio[..., -1:] + of_visual[..., -1:].mean(2)
            background = F.pad(background, (self.background, 0))  # (B, T, C+1)
        if self.sharpness is None:
            v = each.mean(2)
        else:
            v = _log_mean_exp(each, 2, widened(self.sharpness).exp())
        if not classifies:
            return Output(parts={"audio_evidence": a, "visual_evidence": v})
        attention = torch.einsum("btkc,btc->btk", each, a.softmax(-1)).softmax(-1)
        attended = torch.einsum("btk,btkd->btd", attention.to(regions.dtype), regions)
        inside = real[..., None].to(a.dtype)
        gates = inside.expand_as(a), inside
        if self.gates is not None:
            audio_gate, visual_gate = (
                2 * widened(gate(x)).sigmoid()
                for gate, x in zip(self.gates, (sounds, attended), strict=True)
            )
            gates = gates[0] * audio_gate, gates[1] * visual_gate
        parts: dict[str, Tensor] = {}
        if self.reach:
            whole = masked_mean(self.lag_lstm(torch.cat([sounds, attended], -1), mask), mask)
            lag_head = widened(self.lag_head(whole))
            weight, lags = self._lags(a.sigmoid() * inside, v.sigmoid() * inside, lag_head)
            cover = _moved(inside, weight)  # 0 where the aligned sound has ended
            a = _moved(a * inside, weight) / cover.clamp(min=1e-4)
            gates = gates[0] * cover, gates[1]
            parts |= lags
        joint = self._join(a, v, gates)
        share = gates[0].sum(-1) / (gates[0] + gates[1]).sum(-1).clamp(min=_LEAST)
        reads = torch.cat([a, v, joint], -1)
        x = reads.to(sounds.dtype)
        if self.recurrent is not None:
            x = self.recurrent(x, mask)
        logits = widened(self.head(x)) + F.pad(joint, (0, 1)) + background
        if self.clip:
            shares = masked_mean(logits[..., :-1].log_softmax(-1), mask)
            shares = self.clip * (shares - shares.amax(-1, keepdim=True))
            logits = logits + F.pad(shares, (0, 1))[:, None]
        parts |= {
            "logits": logits, "joint": joint, "audio_evidence": a, "visual_evidence": v,
            "audio_weight": share, "gates": torch.stack([g.mean(-1) for g in gates], -1),
        }  # fmt: skip
        if moved is not None:
            parts["moved"] = moved
        if self.training and self.mismatch:
            first = visual[:, :, 0, 0]  # a lost picture is zero in every region: one tells
            parts["tracks"] = torch.stack([x.flatten(1).any(1) for x in (audio, first)], -1)
        maps = attention.reshape(*attention.shape[:2], rows, columns)
        scores = agreed_scores(logits, inside, 0.0 if self.training else self.chain)
        return Output(scores, scores.argmax(-1), maps, parts)

    def _perturbed(self, audio: Tensor, visual: Tensor, real: Tensor) -> tuple[Tensor, ...]:
        """Clips that lose a track or whose sound is late, and by how many segments (B,)."""
        clips, segments = real.shape
        device = audio.device
        late = torch.randint(-self.reach, self.reach + 1, (clips,), device=device)
        late = late * (torch.rand(clips, device=device) < self.shift)
        source = torch.arange(segments, device=device) - late[:, None]  # (B, T)
        inside = (source >= 0) & (source < segments)
        source = source.clamp(0, segments - 1)
        inside = inside & real & real.gather(1, source)
        audio = audio.gather(1, source[..., None].expand_as(audio)) * inside[..., None]
        chance = torch.rand(clips, device=device)
        audio = audio * (chance >= self.lost / 2)[:, None, None]
        shown = (chance < self.lost / 2) | (chance >= self.lost)
        return audio, visual * shown[:, None, None, None], late

    def _join(
        self, a: Tensor, v: Tensor, gates: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:  # fmt: skip
        """The joint logits (..., C) of both modalities', whose weights are 1 without gates."""
        if gates is None:
            return a + v if self.joint == "sum" else -torch.logaddexp(-a, -v)
        if self.joint == "sum":
            return a * gates[0] + v * gates[1]
        logs = [g.clamp(min=_LEAST).log() for g in gates]
        return -torch.logaddexp(logs[0] - a, logs[1] - v)

    def _lags(
        self, audible: Tensor, visible: Tensor, head: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The share of every lag, by class: (B, 2 reach + 1, C), and ``lag`` and ``lag_logits``.

        Args:
            audible, visible: (B, T, C) probabilities.
            head: (B, 2 reach + 1) logits of the clip.
        """
        reach = self.reach
        match = torch.stack([(x * visible).sum(1) for x in _shifts(audible, reach)], 1)
        scale = widened(self.lag_scale)
        weight = (head[..., None] + scale * match).softmax(1)
        lags = torch.arange(-reach, reach + 1, device=audible.device, dtype=audible.dtype)
        lag = (weight * lags[:, None]).sum(1)
        return weight, {"lag": lag, "lag_logits": head + scale * match.sum(-1)}

    def loss(self, output: Output, batch: Batch) -> Tensor:
        """Cross-entropy of the segments, or in WSEL of the tags, and the losses beside it.

        Args:
            output: Of this model for the batch.
            batch: With ``labels`` in SEL and CML, ``tags`` in WSEL.
        """
        parts = output.parts
        if not TASK_TRAITS[self.task].classifies:
            return self._match_loss(output, batch)
        if TASK_TRAITS[self.task].weak:
            assert batch.tags is not None
            tags = (batch.tags[:, :-1] > 0).to(parts["logits"].dtype)
            relative = parts["logits"][..., :-1] - parts["logits"][..., -1:]
            cost = _tag_cost(relative, tags, batch.mask)
            joint = _tag_cost(parts["joint"], tags, batch.mask)
            target = tags[:, None].expand_as(parts["joint"])
        else:
            one_hot = batch.one_hot(self.background)
            weight = 1 - (1 - self.background_weight) * one_hot[..., -1]
            weight = weight * valid(weight, batch.mask)
            cost = average(share_entropy(parts["logits"], one_hot), weight)
            target = one_hot[..., :-1].to(parts["joint"].dtype)
            joint = average(_binary(parts["joint"], target), batch.mask)
        cost = cost + self.auxiliary * joint
        if self.mismatch and len(target) > 1:
            cost = cost + self.mismatch * self._mismatched(parts, target, batch)
        if "moved" in parts and self.shift:
            lag = F.cross_entropy(parts["lag_logits"], parts["moved"] + self.reach)
            cost = cost + self.lag_loss * lag
        return cost

    def _mismatched(self, parts: Mapping[str, Tensor], target: Tensor, batch: Batch) -> Tensor:
        """Each clip's picture with the sound of the one before: no event, but of a common class.

        Where only tags are known, a common class costs nothing. A lost track mismatches nothing.
        """
        gates = parts["gates"][..., :1].roll(1, 0), parts["gates"][..., 1:]
        joint = self._join(parts["audio_evidence"].roll(1, 0), parts["visual_evidence"], gates)
        common = target * target.roll(1, 0)
        real = valid(joint, batch.mask)
        real = real & real.roll(1, 0)
        if "tracks" in parts:
            audible, visible = parts["tracks"].unbind(-1)
            real = real & (audible.roll(1, 0) & visible)[:, None]
        if TASK_TRAITS[self.task].weak:
            each = _binary(joint, torch.zeros_like(joint), weight=1 - common)
        else:
            each = _binary(joint, common)
        return average(each, real)

    def _match_loss(self, output: Output, batch: Batch) -> Tensor:
        """CML: the classes, the pairs of segments that match, and those that don't.

        Pairs without a segment of an event don't count.
        """
        a, v = output.parts["audio_evidence"], output.parts["visual_evidence"]
        real = valid(a, batch.mask).to(a.dtype)
        event = batch.relevance(self.background).to(a.dtype) * real
        target = batch.one_hot(self.background)[..., :-1].to(a.dtype)
        cost = self.auxiliary * average(_binary(self._join(a, v), target), batch.mask)
        own = self._match(a, v)  # (B, T, T)
        positive = event[:, :, None] * event[:, None]
        cost = cost + average(F.softplus(-own), positive)
        cost = cost + average(F.softplus(own), _with_event(event, real, event, real) - positive)
        others = []
        for i in range(1, min(_OTHERS, len(a) - 1) + 1):
            pairs = _with_event(event, real, event.roll(i, 0), real.roll(i, 0))
            others.append(average(F.softplus(self._match(a, v.roll(i, 0))), pairs))
        return cost + torch.stack(others).mean() if others else cost

    def _match(self, a: Tensor, v: Tensor) -> Tensor:
        """Logits that segments match: (B, T, C), (B, S, C) -> (B, T, S)."""
        joint = self._join(a[:, :, None], v[:, None])
        return joint.logsumexp(-1) + widened(self.offset)

    def window_costs(self, *, audio: Tensor, visual: Tensor, query: Query) -> Tensor:
        """Minus the sum, over a window, of its segments' mean match with the query's.

        Raises:
            UsageError: if the query doesn't fit the tracks.
        """
        query.check(audio.shape[1], visual.shape[1])
        span = slice(query.start, query.start + query.length)
        if query.modality == "audio":
            audio = audio[:, span]
        else:
            visual = visual[:, span]
        parts = self(audio=audio, visual=visual).parts
        match = self._match(parts["audio_evidence"], parts["visual_evidence"])
        match = match.mean(1) if query.modality == "audio" else match.mean(2)  # (B, N)
        sums = F.pad(match.cumsum(-1), (1, 0))
        return sums[:, : -query.length] - sums[:, query.length :]


def agreed_scores(logits: Tensor, inside: Tensor, strength: float) -> Tensor:
    """Probabilities (B, T, C+1) whose near segments tend to agree on the class of an event.

    Mean-field rounds of a chain over the classes: every segment's logits gain its neighbours'
    probabilities, as far as these have an event. That of background is the softmax's.

    Args:
        logits: (B, T, C+1) of each segment alone, background last.
        inside: (B, T, 1), 1 on real segments and 0 on padding.
        strength: What the next segment's probability adds; 0 changes nothing.
    """
    scores = logits.softmax(-1)
    if not strength:
        return scores
    event, classes = 1 - scores[..., -1:], logits[..., :-1]
    x, reach = classes, len(_NEIGHBOURS)
    for _ in range(_ROUNDS):
        shifts = _shifts(x.softmax(-1) * event * inside, reach)
        x = classes
        for i, weight in enumerate(_NEIGHBOURS, start=1):
            x = x + strength * weight * (shifts[reach - i] + shifts[reach + i])
    return torch.cat([event * x.softmax(-1), scores[..., -1:]], -1)


def _encoder(width: int, hidden: int, dropout: float) -> nn.Sequential:
    """A layer, normalised, and dropout."""
    return nn.Sequential(
        nn.Linear(width, hidden), nn.LayerNorm(hidden), nn.GELU(), Dropout(dropout)
    )


def _moved(x: Tensor, weight: Tensor) -> Tensor:
    """A weighted sum of copies of (B, T, 1 or C) moved in time, zeros beyond it: (B, T, C).

    Args:
        x: Of the sound.
        weight: (B, 2 reach + 1, C), the first of the sound ``reach`` segments earlier.
    """
    shifts = _shifts(x, weight.shape[1] // 2)
    return torch.stack([weight[:, i, None] * moved for i, moved in enumerate(shifts)]).sum(0)


def _shifts(x: Tensor, reach: int) -> list[Tensor]:
    """Copies of (B, T, D) moved from ``reach`` segments later to as many earlier, zeros beyond."""
    padded = F.pad(x, (0, 0, reach, reach))
    return [padded[:, i : i + x.shape[1]] for i in range(2 * reach + 1)]


def _log_mean_exp(x: Tensor, dim: int, sharp: Tensor) -> Tensor:
    """Between the mean and the maximum along a dimension: the log of the mean exponential."""
    pooled: Tensor = ((x * sharp).logsumexp(dim) - math.log(x.shape[dim])) / sharp
    return pooled


def _binary(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Binary cross-entropy of (..., C), summed over the classes."""
    return F.binary_cross_entropy_with_logits(logits, target, weight, reduction="none").sum(-1)


def _tag_cost(logits: Tensor, tags: Tensor, mask: Tensor | None) -> Tensor:
    """Binary cross-entropy of a clip's tags (B, C): (B, T, C) logits pooled over time.

    The pooled probability is the mean of the segments', weighted by themselves (linear softmax,
    Wang, Li, Metze 2019).
    """
    p = logits.sigmoid() * valid(logits, mask)[..., None]
    pooled = (p * p).sum(1) / p.sum(1).clamp(min=_LEAST)
    pooled = pooled.clamp(_LEAST, 1 - _LEAST)
    return F.binary_cross_entropy(pooled, tags, reduction="none").sum(-1).mean()


def _with_event(event: Tensor, real: Tensor, other_event: Tensor, other_real: Tensor) -> Tensor:
    """Pairs of real segments of two clips that have an event in one of them.

    Args:
        event, real: (B, T), 1 or 0, of the one clip.
        other_event, other_real: (B, S) of the other.

    Returns:
        (B, T, S), 1 or 0.
    """
    return torch.maximum(
        event[:, :, None] * other_real[:, None], real[:, :, None] * other_event[:, None]
    )
