"""DAM: dual attention matching (Wu, Zhu, Yan, Yang, ICCV 2019)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avel.errors import UsageError
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
from avel.models.decision_rules import HALF, relevance
from avel.models.layers import (
    AVGA,
    as_read,
    average,
    masked_max,
    masked_mean,
    mismatches,
    region_mean,
    valid,
    window_sums,
)
from avel.models.precision import widened
from avel.models.recurrent import Recurrent, to_front


class Embed(nn.Module):
    """A sequence of segments made one global feature (eq. 1 to 4; table 3).

    Args:
        kind: A value of :class:`Dam`'s ``embedding``. Whatever reads the sequence, the mean over
            time of what it gives is the global feature; ``"max"`` is the largest of each channel.
        width: d, of a segment and of the global feature.
        heads, dropout: Of self-attention, encoder blocks of Vaswani et al. 2017.
        depth: How many of those blocks follow one another.
    """

    def __init__(
        self, kind: str, width: int, *, heads: int, dropout: float, depth: int = 1
    ) -> None:
        super().__init__()
        self.pool = masked_max if kind == "max" else masked_mean
        self.block: nn.TransformerEncoderLayer | None = None
        self.further = nn.ModuleList()
        self.recurrent: Recurrent | None = None
        if kind == "self-attention":
            self.block, *further = (
                nn.TransformerEncoderLayer(width, heads, 4 * width, dropout, batch_first=True)
                for _ in range(depth)
            )
            self.further.extend(further)
        elif kind not in ("mean", "max"):
            self.recurrent = Recurrent(
                kind.removeprefix("bi"), width, width, bidirectional=kind == "bilstm"
            )

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Embed the segments of (B, T, d) that (B, T) keeps: (B, d), noise where it keeps none.

        None keeps all of them.
        """
        mask = None
        if keep is not None:
            x, mask = to_front(x, keep)
            mask[:, 0] = True
        if self.block is not None:
            padding = None if mask is None else ~mask
            for block in (self.block, *self.further):
                x = block(x, src_key_padding_mask=padding)
        elif self.recurrent is not None:
            x, _ = self.recurrent(x, mask)
        return self.pool(x, mask)


@models.register("dam")
class Dam(Model):
    """The whole clip of one modality is matched with each segment of the other.

    Args:
        audio_dim, visual_dim: Widths A and V.
        classes: C, without background.
        task: ``"sel"`` or ``"cml"``.
        embedding: How a sequence becomes one feature (table 3): ``"self-attention"``, ``"rnn"``,
            ``"mean"``, ``"max"``, ``"lstm"``, ``"gru"`` or ``"bilstm"``.
        matching: ``"cross"``, ``"self"`` (a modality's whole is matched with its own segments) or,
            in SEL, ``"none"``: every segment gets the clip's category (tables 4, 5).
        negatives: CML's: ``"release"`` background segments, ``"sync"`` those and every single
            segment's mismatched pairs in its clip.
        regions: How the picture is read: ``"guided"`` by the sound, ``"mean"`` over the regions,
            ``"auto"``: guided in SEL, the mean in CML.
        width: d, to which both modalities are projected.
        heads, dropout: Of self-attention.
        depth: Its encoder blocks, one after another.
        scaled: Whether the matching's dot products are divided by the root of d, as in attention;
            self-matching in CML compares by the cosine, which stays as it is.
        lambda_s: The category's share of SEL's loss (eq. 8). 1 equals ``matching="none"``.
        hidden, common: Widths d and 49 of :class:`avel.models.layers.AVGA`.

    Raises:
        ValueError: if an option is out of range, or contradicts the others.
    """

    card: ClassVar[ModelCard] = ModelCard(
        name="dam",
        paper="Wu, Zhu, Yan, Yang 2019, Dual Attention Matching for Audio-Visual Event "
        "Localization, ICCV",
        tasks=("sel", "cml"),
        summary="The whole of one modality is matched with each segment of the other.",
        open_points=(
            "both modalities are projected linearly to one width, 256",
            "self-attention is one encoder block (residual, norm, feed-forward of 4 d, dropout "
            "0.1) of 8 heads without positions; the other embeddings' outputs are averaged too",
            "the category is one linear layer on the two global features; a clip of several "
            "classes counts as its most frequent one, a clip without event has no category loss",
            "scores are p_t times the category's probabilities, and 1 - p_t for background: the "
            "decision is background where that exceeds 0.5, else the best class, which isn't "
            "always the argmax; of a long file the windows' mean scores are decided likewise",
            "the dot products of eq. 5 and 6 aren't scaled, as printed; `scaled` and `depth` are "
            "switches of ours with rows of their own in tables 3 and 5",
            "CML reads the mean over regions: attention would show a candidate its own sound",
            "`sync` in CML: a single segment as the whole matches no other of its clip; the "
            "two kinds weigh the same",
            "self-matching in CML: 1 - cosine of the query's whole and each candidate segment, "
            "summed over the window",
            "no recipe is printed: Adam 1e-4, batch 64, 300 epochs; at 1e-3 some seeds of CML "
            "never began to learn, and SEL never answered background on simulated features",
        ),
    )
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "embedding": ("self-attention", "rnn", "mean", "max", "lstm", "gru", "bilstm"),
        "matching": ("cross", "self", "none"),
        "regions": ("auto", "guided", "mean"),
        "negatives": ("release", "sync"),
    }

    def __init__(
        self,
        *,
        audio_dim: int,
        visual_dim: int,
        classes: int,
        task: TaskName = "sel",
        embedding: str = "self-attention",
        matching: str = "cross",
        regions: str = "auto",
        negatives: str = "release",
        width: int = 256,
        heads: int = 8,
        dropout: float = 0.1,
        depth: int = 1,
        scaled: bool = False,
        lambda_s: float = 0.5,
        hidden: int = 512,
        common: int = 49,
    ) -> None:
        super().__init__()
        self.check_sizes(depth=depth)
        _check(task, embedding, matching, width, heads, lambda_s, dropout)
        _check_together(embedding, matching, depth, scaled)
        self.task, self.background, self.negatives = task, classes, negatives
        classifies = TASK_TRAITS[task].classifies
        self.share = 1.0 if matching == "none" else float(lambda_s)
        self.matching = "none" if classifies and self.share == 1 else matching
        guided = regions == "guided" or (regions == "auto" and classifies)
        self.look = None
        if guided:
            self.look = AVGA(
                audio_dim=audio_dim, visual_dim=visual_dim, hidden=hidden, width=common
            )
        self.audio_in = nn.Linear(audio_dim, width)
        self.visual_in = nn.Linear(visual_dim, width)
        #: What a dot product of two features is multiplied by.
        self.scale = width**-0.5 if scaled else 1.0
        embed = partial(Embed, embedding, width, heads=heads, dropout=dropout, depth=depth)
        self.audio_whole, self.visual_whole = embed(), embed()
        self.category = nn.Linear(2 * width, classes) if classifies else None

    @classmethod
    def recipe(cls, task: TaskName) -> Recipe:
        """Ours: Adam 1e-4 (at 1e-3 some seeds don't begin to learn), 300 epochs of batch 64."""
        return Recipe(lr=1e-4)

    def forward(self, *, audio: Tensor, visual: Tensor, mask: Tensor | None = None) -> Output:
        """Output for (B, T, A) and (B, T, H, W, V); ``mask`` (B, T) is True on real segments.

        Parts: SEL: ``category`` (B, C) logits, and but for ``matching="none"`` ``audio_match`` and
        ``visual_match`` (B, T), the logits of p_A and p_V. CML: the local features ``audio`` and
        ``visual`` (B, T, d).
        """
        f_audio, f_visual, attention = self.local(audio, visual)
        keep = valid(f_audio, mask)
        f_audio, f_visual = (x.masked_fill(~keep[..., None], 0.0) for x in (f_audio, f_visual))
        if self.category is None:
            return Output(attention=attention, parts={"audio": f_audio, "visual": f_visual})
        wholes = self.audio_whole(f_audio, mask), self.visual_whole(f_visual, mask)
        category = widened(self.category(torch.cat(wholes, -1)))
        parts = {"category": category}
        p = torch.ones(f_audio.shape[:2], device=f_audio.device)
        if self.matching != "none":
            parts["audio_match"], parts["visual_match"] = self.match(wholes, f_audio, f_visual)
            p = (parts["audio_match"].sigmoid() + parts["visual_match"].sigmoid()) / 2
        scores = torch.cat([p[..., None] * category.softmax(-1)[:, None], 1 - p[..., None]], -1)
        best = scores[..., :-1].argmax(-1)
        labels = best.masked_fill(scores[..., -1] > 1 - HALF, self.background)
        return Output(scores, labels, attention, parts)

    #: The paper's rule (3.4): background where p_t < 0.5, else the best class.
    decision_rule = staticmethod(relevance)

    def local(self, audio: Tensor, visual: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """f_A and f_V, (B, T, d) each, and the attention (B, T, H, W) or None."""
        regions = visual.shape[2:4]
        audio, visual = as_read(self, audio, visual)
        maps = None
        if self.look is None:
            visual_summary = region_mean(visual)
        else:
            visual_summary, maps = self.look(audio, visual)
            maps = maps.reshape(*maps.shape[:2], *regions)
        f_audio, f_visual = self.audio_in(audio), self.visual_in(visual_summary)
        return widened(f_audio), widened(f_visual), maps

    def match(
        self, wholes: tuple[Tensor, Tensor], f_audio: Tensor, f_visual: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The logits of p_A and p_V (eq. 5, 6).

        Args:
            wholes: phi_A and phi_V, (B, d) each.
            f_audio, f_visual: f_A and f_V, (B, T, d) each.

        Returns:
            (B, T) twice.
        """
        phi_audio, phi_visual = wholes if self.matching == "self" else wholes[::-1]
        audio_logits = (widened(f_audio) * widened(phi_audio)[:, None]).sum(-1)
        visual_logits = (widened(f_visual) * widened(phi_visual)[:, None]).sum(-1)
        return self.scale * audio_logits, self.scale * visual_logits

    def loss(self, output: Output, batch: Batch) -> Tensor:
        """SEL: eq. 8. CML: cross-entropy of the relevance, the wholes of the event's segments.

        Args:
            output: Of this model for the batch.
            batch: With ``labels``; in CML clips without event segments cost nothing.
        """
        y = batch.relevance(self.background)
        if self.category is None:
            return self._cml(output, batch, y)
        category = self.share * self._category(output.parts["category"], batch)
        if self.matching == "none":
            return category
        each = relevance_entropy(output.parts["audio_match"], output.parts["visual_match"], y)
        return category + (1 - self.share) * average(each, batch.mask)

    def _category(self, logits: Tensor, batch: Batch) -> Tensor:
        classes = batch.one_hot(self.background)[..., :-1]
        if batch.mask is not None:
            classes = classes * batch.mask[..., None]
        counts = classes.sum(1)  # (B, C)
        each = F.cross_entropy(logits, counts.argmax(-1), reduction="none")
        return average(each, counts.any(-1))

    def _cml(self, output: Output, batch: Batch, y: Tensor) -> Tensor:
        f_audio, f_visual = output.parts["audio"], output.parts["visual"]
        known = valid(f_audio, batch.mask)
        event = known & y.bool()
        wholes = self.audio_whole(f_audio, event), self.visual_whole(f_visual, event)
        each = relevance_entropy(*self.match(wholes, f_audio, f_visual), y)
        matched = average(each, known & event.any(1, keepdim=True))
        if self.negatives == "release":
            return matched
        return (matched + self._mismatched_cost(f_audio, f_visual, known)) / 2

    def _mismatched_cost(self, f_audio: Tensor, f_visual: Tensor, known: Tensor) -> Tensor:
        """The cost of matching every single segment with the others of its clip."""
        single = known.flatten()[:, None]
        phi_audio, phi_visual = (
            widened(embed(x.flatten(0, 1)[:, None], single).reshape_as(x))
            for embed, x in ((self.audio_whole, f_audio), (self.visual_whole, f_visual))
        )
        if self.matching == "self":
            phi_audio, phi_visual = phi_visual, phi_audio
        audio_logits = phi_visual @ widened(f_audio).transpose(1, 2)  # (B, T, T): query, candidate
        visual_logits = phi_audio @ widened(f_visual).transpose(1, 2)
        return average(
            relevance_entropy(
                self.scale * audio_logits,
                self.scale * visual_logits,
                torch.zeros_like(audio_logits),
            ),
            mismatches(known),
        )

    @property
    def reads_means(self) -> bool:
        """Unless the sound guides how the picture is read."""
        return self.look is None

    def window_costs(self, *, audio: Tensor, visual: Tensor, query: Query) -> Tensor:
        """Minus the summed relevance of a window's segments to the query; see the base class.

        A2V counts p_V alone, V2A p_A alone. Self-matching: 1 - cosine instead of -p.

        Raises:
            UsageError: if the query doesn't fit the tracks, or they differ in length although the
                picture is read as the sound guides.
        """
        query.check(audio.shape[1], visual.shape[1])
        if self.look is not None and audio.shape[1] != visual.shape[1]:
            raise UsageError(
                f"{audio.shape[1]} audio and {visual.shape[1]} visual segments",
                expected="both tracks of one recording: the sound guides how the picture is read",
                hint="train with regions=mean to match separate recordings",
            )
        f_audio, f_visual, _ = self.local(audio, visual)
        queries, candidates = query.pair(f_audio, f_visual)
        embed = self.audio_whole if query.modality == "audio" else self.visual_whole
        whole = cast(Tensor, embed(queries)).double()[:, None]  # float32's sigmoid ties at 1
        if self.matching == "self":
            cost = 1 - F.cosine_similarity(whole, candidates.double(), dim=-1)
        else:
            cost = -(self.scale * (whole * candidates.double()).sum(-1)).sigmoid()
        return window_sums(cost[:, None].expand(-1, query.length, -1))


def relevance_entropy(audio: Tensor, visual: Tensor, y: Tensor) -> Tensor:
    """Binary cross-entropy of the mean of two sigmoids (eq. 7), from their logits: never log 0.

    Args:
        audio, visual: Logits of p_A and p_V, any shape.
        y: Same shape, 1 on segments of the event, else 0.
    """
    yes = torch.logaddexp(F.logsigmoid(audio), F.logsigmoid(visual)) - math.log(2)
    no = torch.logaddexp(F.logsigmoid(-audio), F.logsigmoid(-visual)) - math.log(2)
    return -(y * yes + (1 - y) * no)


def _check_together(embedding: str, matching: str, depth: int, scaled: bool) -> None:
    if depth > 1 and embedding != "self-attention":
        raise ValueError(f"depth={depth}: expected 1 with embedding={embedding!r}, without blocks")
    if scaled and matching == "none":
        raise ValueError("scaled=True: expected false with matching='none', without products")


def _check(
    task: TaskName, embedding: str, matching: str, width: int, heads: int, share: float,
    dropout: float,
) -> None:  # fmt: skip
    if matching == "none" and not TASK_TRAITS[task].classifies:
        raise ValueError(f"matching='none' leaves no costs for task {task}")
    parts = {"self-attention": heads, "bilstm": 2}.get(embedding, 1)
    if width < 1 or parts < 1 or width % parts:
        raise ValueError(
            f"width={width}: expected a multiple of {parts}, as the embedding shares it"
        )
    if not 0 <= share <= 1 or not 0 <= dropout < 1:
        raise ValueError(f"lambda_s={share}, dropout={dropout}: expected 0 to 1, dropout below 1")
