"""CSPA + CSEA: spatial and semantic co-attention (Xue et al., IEEE TMM 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

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
from avel.models.coattention import CSEA, CSPA, Raw, Stream
from avel.models.layers import (
    HEAD_BIASES,
    as_read,
    average,
    contrastive,
    masked_max,
    matching_loss,
    pair_distance,
    soft_margin,
    start_soft_margin,
    valid,
    window_sums,
)
from avel.models.precision import widened


@models.register("cspa_csea")
class CspaCsea(Model):
    """Two parallel streams, spatial and semantic co-attention, each with a head of its own.

    Args:
        audio_dim, visual_dim: Widths A and V.
        classes: C, without background.
        task: ``"sel"``, ``"wsel"`` or ``"cml"``.
        modules: ``"cspa+csea"``, ``"cspa"``, ``"csea"``, or ``"none"``: raw audio and mean over
            regions in a stream of its own (table V; the last is ours).
        audio_attention, v2a, a2v: Table V's switches inside the modules.
        gate: CSEA's; ``"sigmoid"`` is ours.
        modality: ``"audio"`` or ``"visual"`` puts zeros in place of the other modality (ours).
        common, hidden: C' and the width before it.
        state: A BiLSTM direction's width.
        lambda_s, lambda_w, lambda_c: CSPA's share of the loss in SEL, WSEL and CML. A stream
            without a share isn't built: 1 equals ``modules="cspa"``, 0 ``modules="csea"``.
        form: CML's: ``"paired"`` attends within one recording (the paper's figure),
            ``"unpaired"`` in the pairs of a window alone.
        negatives: Paired CML's: ``"release"`` background segments, ``"sync"`` those and all
            mismatched pairs of a clip. Unpaired CML always takes the shifted windows.
        tau: Margin of the contrastive loss.
        heads: ``"shared"`` gives both streams one head (the other reading of III-E and fig. 2c):
            only then do the loss weights lambda strictly between 0 and 1 change anything, since
            streams share no weight and Adam divides each gradient by its own scale.
        head_bias: As for :func:`avel.models.layers.start_soft_margin`.

    Raises:
        ValueError: if an option is out of range, or contradicts the others.
    """

    card: ClassVar[ModelCard] = ModelCard(
        name="cspa_csea",
        paper="Xue, Zhong, Cai, Chen, Wang 2021, Audio-Visual Event Localization by Learning "
        "Spatial and Semantic Co-Attention, IEEE Transactions on Multimedia",
        tasks=("sel", "wsel", "cml"),
        summary="Spatial and semantic co-attention of the modalities, in two parallel streams.",
        open_points=(
            "ReLU stands between the two layers of f1, f2, f4 and of the heads",
            "the last bias of each head starts at -ln C (`head_bias=zero`: near 0)",
            "F^T Z contracts over the regions, so the common width needn't equal their number",
            "CSEA's visual feature is the mean over regions throughout",
            "the loss is averaged over segments; the paper sums",
            "scores are the softmax of the two streams' mean logits: the normalised odds of the "
            "loss's one-against-rest sigmoids; the softmax doesn't change the argmax",
            "unpaired CML: every segment pair of the true window is a match, those of shifted "
            "windows aren't, and the two kinds weigh the same; likewise `sync`'s two kinds",
        ),
        idle={
            "modality=audio": "the other modality is all zeros",
            "modality=visual": "the other modality is all zeros",
            "audio_attention=False": "the biases of f2's second layer and of f3 move the scores of "
            "all regions alike, which the softmax over regions cancels",
        },
    )
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "modules": ("cspa+csea", "cspa", "csea", "none"),
        "gate": ("softmax", "sigmoid"),
        "modality": ("both", "audio", "visual"),
        "form": ("paired", "unpaired"),
        "negatives": ("release", "sync"),
        "heads": ("separate", "shared"),
        "head_bias": HEAD_BIASES,
    }

    def __init__(
        self,
        *,
        audio_dim: int,
        visual_dim: int,
        classes: int,
        task: TaskName = "sel",
        modules: str = "cspa+csea",
        audio_attention: bool = True,
        v2a: bool = True,
        a2v: bool = True,
        gate: str = "softmax",
        modality: str = "both",
        common: int = 49,
        hidden: int = 512,
        state: int = 128,
        lambda_s: float = 0.3,
        lambda_w: float = 0.7,
        lambda_c: float = 0.6,
        form: str = "paired",
        negatives: str = "release",
        tau: float = 2.0,
        heads: str = "separate",
        head_bias: str = "uniform",
    ) -> None:
        super().__init__()
        self.check_sizes(common=common, hidden=hidden, state=state)
        if not tau > 0:
            raise ValueError(f"tau={tau}: expected more than 0")
        _check_switches(modules, audio_attention=audio_attention, v2a=v2a, a2v=a2v)
        if form == "unpaired" and negatives == "sync":
            text = "negatives='sync' is the paired form's; unpaired takes shifted windows"
            raise ValueError(text)
        self.task, self.modality, self.form = task, modality, form
        self.negatives, self.tau = negatives, tau
        self.background = classes
        share = {"sel": lambda_s, "wsel": lambda_w, "cml": lambda_c}[task]
        self.shares = _shares(modules, float(share))
        out = classes + 1 if TASK_TRAITS[task].classifies else 0
        self.streams, first = nn.ModuleDict(), None
        for name in self.shares:
            attend: nn.Module = Raw()
            if name == "cspa":
                attend = CSPA(
                    audio_dim=audio_dim, visual_dim=visual_dim, common=common, hidden=hidden,
                    audio_attention=audio_attention,
                )  # fmt: skip
            elif name == "csea":
                attend = CSEA(
                    audio_dim=audio_dim, visual_dim=visual_dim, gate=gate, v2a=v2a, a2v=a2v
                )
            stream = Stream(
                attend, audio_dim=audio_dim, visual_dim=visual_dim, state=state, out=out
            )
            if stream.head is not None:
                start_soft_margin(stream.head, head_bias)
            if heads == "shared" and first is not None:
                stream.share_heads(first)
            first = first or stream
            self.streams[name] = stream

    @classmethod
    def recipe(cls, task: TaskName) -> Recipe:
        """The paper's (IV-A): Adam 1e-3; 300 epochs of batch 64, in CML 30 of 32."""
        if TASK_TRAITS[task].classifies:
            return Recipe(epochs=300, batch=64)
        return Recipe(epochs=30, batch=32)

    def forward(self, *, audio: Tensor, visual: Tensor, mask: Tensor | None = None) -> Output:
        """Output for (B, T, A) and (B, T, H, W, V); ``mask`` (B, T) is True on real segments.

        SEL and WSEL: scores, labels, CSPA's attention, and logits (B, T, C+1) by stream. CML:
        parts ``<stream>.audio`` and ``.visual``, embeddings (B, T, 64) in the paired form and what
        the co-attention made of all pairs, (B, T, T, A) and (B, T, T, V), in the unpaired one.
        """
        regions = visual.shape[2:4]
        audio, visual = self.inputs(audio, visual)
        if not TASK_TRAITS[self.task].classifies:
            return Output(parts=self.matching(audio, visual, mask))
        parts: dict[str, Tensor] = {}
        attention = None
        for name, stream in self._streams():
            attended_audio, attended_visual, maps = stream.paired(audio, visual)
            parts[f"{name}.logits"] = stream.logits(attended_audio, attended_visual, mask)
            attention = attention if maps is None else maps.reshape(*maps.shape[:2], *regions)
        mean = torch.stack(list(parts.values())).mean(0)
        return Output(mean.softmax(-1), mean.argmax(-1), attention, parts)

    def inputs(self, audio: Tensor, visual: Tensor) -> tuple[Tensor, Tensor]:
        """The streams' inputs: (B, T, A), (B, T, K, V), zeros where a modality is off."""
        audio, visual = as_read(self, audio, visual)
        if self.modality == "audio":
            visual = torch.zeros_like(visual)
        elif self.modality == "visual":
            audio = torch.zeros_like(audio)
        return audio, visual

    def _streams(self) -> list[tuple[str, Stream]]:
        return [(name, cast(Stream, stream)) for name, stream in self.streams.items()]

    def loss(self, output: Output, batch: Batch) -> Tensor:
        """The paper's loss (eq. 5, 6, 7), the streams weighed by the task's lambda.

        Args:
            output: Of this model for the batch.
            batch: With ``labels`` in SEL and CML, ``tags`` in WSEL.
        """
        loss_of = {"sel": self._sel, "wsel": self._wsel, "cml": self._cml}[self.task]
        return torch.stack(
            [share * loss_of(name, output, batch) for name, share in self.shares.items()]
        ).sum()

    def _sel(self, name: str, output: Output, batch: Batch) -> Tensor:
        logits = output.parts[f"{name}.logits"]
        return average(soft_margin(logits, batch.one_hot(self.background)), batch.mask)

    def _wsel(self, name: str, output: Output, batch: Batch) -> Tensor:
        assert batch.tags is not None
        logits = output.parts[f"{name}.logits"]
        return soft_margin(masked_max(logits, batch.mask), batch.tags).mean()

    # ---- cross-modality localization (III-D)

    def matching(self, audio: Tensor, visual: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
        """The parts of a CML output, from :meth:`inputs`; see :meth:`forward`."""
        parts: dict[str, Tensor] = {}
        for name, stream in self._streams():
            if self.form == "paired":
                audio_part, visual_part, _ = stream.paired(audio, visual)
                audio_part, visual_part = stream.embed(audio_part, visual_part, mask)
            else:
                audio_part, visual_part, _ = stream.attend(audio, visual)
            parts[f"{name}.audio"], parts[f"{name}.visual"] = audio_part, visual_part
        return parts

    def _cml(self, name: str, output: Output, batch: Batch) -> Tensor:
        audio, visual = output.parts[f"{name}.audio"], output.parts[f"{name}.visual"]
        if self.form == "unpaired":
            return self._shifted(name, audio, visual, batch)
        return matching_loss(
            audio, visual, batch.relevance(self.background), batch.mask,
            margin=self.tau, mismatched=self.negatives == "sync",
        )  # fmt: skip

    def _shifted(self, name: str, audio: Tensor, visual: Tensor, batch: Batch) -> Tensor:
        windows = training_windows(batch, self.background)
        if not len(windows):
            return (audio.sum() + visual.sum()) * 0.0
        distance, mask = self.window_distances(name, audio, visual, windows)
        match = (windows[:, 1] == windows[:, 2])[:, None].expand_as(mask)
        cost = contrastive(distance, match.float(), self.tau)
        matching, shifted = average(cost, mask & match), average(cost, mask & ~match)
        return (matching + shifted) / 2

    def window_distances(
        self, name: str, audio: Tensor, visual: Tensor, windows: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Distances of the segment pairs of some windows, BiLSTMs run over each window alone.

        Args:
            name: A stream's.
            audio: (B, S, T, A) what co-attention made of all pairs.
            visual: (B, S, T, V).
            windows: (n, 4) int64: clip, first audio segment, first visual segment, length.

        Returns:
            Distances (n, L) with L the longest window, and a mask of those that count.
        """
        clip, s, t, length = windows.T
        step = torch.arange(int(length.max()), device=windows.device)
        mask = step < length[:, None]
        s = (s[:, None] + step).clamp(max=audio.shape[1] - 1)
        t = (t[:, None] + step).clamp(max=audio.shape[2] - 1)
        pick = (clip[:, None], s, t)
        stream = cast(Stream, self.streams[name])
        audio_embedding, visual_embedding = stream.embed(
            widened(audio[pick]), widened(visual[pick]), mask
        )
        return torch.linalg.vector_norm(audio_embedding - visual_embedding, dim=-1), mask

    @property
    def reads_means(self) -> bool:
        """Where there is no spatial attention."""
        return "cspa" not in self.shares

    def window_costs(self, *, audio: Tensor, visual: Tensor, query: Query) -> Tensor:
        """Summed distances of every window, the mean of the streams; see the base class.

        Raises:
            UsageError: if the query lies outside its track or is longer than the other, or if
                the form is paired and the tracks are of different lengths.
        """
        _check_query(query, audio.shape[1], visual.shape[1], same=self.form == "paired")
        cost = self._paired_costs if self.form == "paired" else self._unpaired_costs
        return cost(*self.inputs(audio, visual), query)

    def _paired_costs(self, audio: Tensor, visual: Tensor, query: Query) -> Tensor:
        parts = self.matching(audio, visual, None)
        costs = []
        for name in self.shares:
            rows = query.pair(parts[f"{name}.audio"], parts[f"{name}.visual"])
            costs.append(window_sums(pair_distance(*rows)))
        return torch.stack(costs).mean(0)

    def _unpaired_costs(self, audio: Tensor, visual: Tensor, query: Query) -> Tensor:
        segments = slice(query.start, query.start + query.length)
        if query.modality == "audio":
            audio, count = audio[:, segments], visual.shape[1]
        else:
            visual, count = visual[:, segments], audio.shape[1]
        starts = torch.arange(count - query.length + 1, device=audio.device)
        clip = torch.arange(len(audio), device=audio.device).repeat_interleave(len(starts))
        moving, fixed = starts.repeat(len(audio)), torch.zeros_like(clip)
        s, t = (fixed, moving) if query.modality == "audio" else (moving, fixed)
        windows = torch.stack([clip, s, t, torch.full_like(clip, query.length)], 1)
        parts = self.matching(audio, visual, None)
        costs = [
            self.window_distances(n, parts[f"{n}.audio"], parts[f"{n}.visual"], windows)[0].sum(1)
            for n in self.shares
        ]
        return torch.stack(costs).mean(0).reshape(len(audio), -1)

    def init_from(self, state: Mapping[str, Tensor]) -> list[str]:
        """Take co-attention and BiLSTMs from another model's state (IV-A: CML from MMEL).

        Args:
            state: Weights by name, of a model with the same options but for the task.

        Returns:
            The names taken; the heads keep their own weights.

        Raises:
            CheckpointError: as :meth:`load_part`.
        """
        return self.load_part(state, [n for n in self.state_dict() if "head." not in n])


def training_windows(batch: Batch, background: int) -> Tensor:
    """Unpaired CML's training windows: the event's and every shift of either modality.

    Args:
        batch: With ``labels``; clips without exactly one event shorter than the clip give none.
        background: The background's class id.

    Returns:
        (n, 4) int64: clip, first audio segment, first visual segment, length.
    """
    assert batch.labels is not None
    counts = valid(batch.labels, batch.mask).sum(1).tolist()
    rows: list[tuple[int, int, int, int]] = []
    for clip, (labels, count) in enumerate(zip(batch.labels.tolist(), counts, strict=True)):
        inside = [i for i in range(count) if labels[i] != background]
        length = len(inside)
        one = len({labels[i] for i in inside}) == 1 and inside[-1] - inside[0] + 1 == length
        if not one or length == count:
            continue
        first = inside[0]
        rows += [(clip, first, t, length) for t in range(count - length + 1)]
        rows += [(clip, s, first, length) for s in range(count - length + 1) if s != first]
    return torch.tensor(rows, dtype=torch.int64, device=batch.labels.device).reshape(-1, 4)


def _shares(modules: str, share: float) -> dict[str, float]:
    """Which streams there are, and what each one's loss weighs."""
    if not 0 <= share <= 1:
        raise ValueError(f"lambda {share}: expected 0 to 1")
    if modules == "cspa+csea":
        return {n: w for n, w in (("cspa", share), ("csea", 1 - share)) if w}
    return {"raw" if modules == "none" else modules: 1.0}


def _check_switches(modules: str, **switches: bool) -> None:
    inside = {"audio_attention": "cspa", "v2a": "csea", "a2v": "csea"}
    for name, module in inside.items():
        if not switches[name] and module not in modules:
            raise ValueError(f"{name}=False does nothing with modules={modules!r}")


def _check_query(query: Query, audio: int, visual: int, *, same: bool) -> None:
    if same and audio != visual:
        raise UsageError(
            f"{audio} audio and {visual} visual segments",
            expected="both tracks of one recording: this model is of the paired form",
            hint="train with form=unpaired to match separate recordings",
        )
    query.check(audio, visual)
