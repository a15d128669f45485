"""The audio-visual event network and its fusions (Tian et al., ECCV 2018)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from avel.models.base import TASK_TRAITS, Batch, Model, ModelCard, Output, Recipe, TaskName, models
from avel.models.fusion import PLAIN, RESIDUAL, build_fusion
from avel.models.layers import (
    AVGA,
    BiLSTM,
    as_read,
    average,
    masked_max,
    masked_mean,
    mlp,
    region_mean,
    share_entropy,
    soft_margin,
    xavier,
)
from avel.models.precision import widened

HEAD_HIDDEN = 64  #: the release's

#: How each modality is read, sound first: None not at all, "mean" over its maps, "att" attended;
#: "c3d" C3D's vector alone, "mean+c3d" the mean with it behind.
INPUTS: Mapping[str, tuple[str | None, str | None]] = {
    "a": ("vector", None), "v": (None, "mean"), "v-att": (None, "att"),
    "a+v": ("vector", "mean"), "a+v-att": ("vector", "att"),
    "v-c3d": (None, "c3d"), "v+c3d": (None, "mean+c3d"),
    "a+v-c3d": ("vector", "c3d"), "a+v+c3d": ("vector", "mean+c3d"),
    "amaps": ("mean", None), "amaps-att": ("att", None),
    "amaps+v": ("mean", "mean"), "amaps+v-co-att": ("att", "att"),
}  # fmt: skip


@models.register("av")
class Av(Model):
    """Audio-guided visual attention, a BiLSTM for each modality, and one of ten ways to fuse them.

    Args:
        audio_dim, visual_dim: Widths A and V.
        classes: C, without background.
        task: ``"sel"`` or ``"wsel"``.
        inputs: What is read (table 1): ``"a"``, ``"v"``, ``"v-att"``, ``"a+v"``, ``"a+v-att"``.
            The supplement's A' models read maps of the sound, flattened into A:
            ``"amaps"``, ``"amaps-att"``, ``"amaps+v"``, ``"amaps+v-co-att"``; others C3D's vector,
            which stands behind V's other channels, the same in every region: ``"v-c3d"`` and
            ``"a+v-c3d"`` read it alone, ``"v+c3d"`` and ``"a+v+c3d"`` all channels.
        fusion: ``"concat"``, ``"additive"``, ``"maxpool"``, ``"gated"``, ``"mb"``, ``"gmu"``,
            ``"gmb"``, ``"mrn"``, ``"dmrn"`` or, late only, ``"dmrfe"`` (table 2).
        stage: ``"early"`` fuses the input of the BiLSTM, ``"late"`` the outputs of the two BiLSTMs,
            ``"decision"`` the two modalities' class scores.
        blocks: Residual blocks of MRN, DMRN and DMRFE.
        variant: ``"release"``: attention, loss and crossed residuals as the released code has them,
            and its recipe (:meth:`recipe_of`).
        state: A BiLSTM direction's width.
        hidden, width: Widths d and 49 of the attention; see :class:`avel.models.layers.AVGA`.
        common: Width to which early fusion projects both modalities.
        audio_regions: Regions of the sound's maps (VGGish's last pooling: 6x4), region by region
            in A; of the `amaps` inputs alone.
        c3d_dim: How many of V's channels, the last ones, are C3D's; of the `c3d` inputs alone.

    Raises:
        ValueError: if an option is out of range, or contradicts the others.
    """

    card: ClassVar[ModelCard] = ModelCard(
        name="av",
        paper="Tian, Shi, Li, Duan, Xu 2018, Audio-Visual Event Localization in Unconstrained "
        "Videos, ECCV",
        tasks=("sel", "wsel"),
        summary="Audio-guided visual attention, BiLSTMs, and ten fusions at three stages.",
        open_points=(
            "BiLSTMs of 128 a direction, d = 512, the head (ReLU, 64, ReLU, C+1) and Xavier-uniform"
            " linear weights are the release's; the paper says two LSTMs of 128",
            "MRN, DMRN and DMRFE end in one linear layer, the other fusions in the release's head",
            "early fusion projects both modalities to `common`, then fuses, then has one BiLSTM",
            "decision fusion ends in a linear layer, without which tanh would bound the scores",
            "the sound gates the picture in Gated, and the product in GMB; stacked blocks don't "
            "share weights",
            "DMRFE is trained on the mean of its two distributions",
            "weak tags of several classes are shared out evenly in the cross-entropy",
            "the `amaps` attentions are guided by the other modality's mean over its regions",
            "C3D's vector is put behind the mean of VGG-19's regions before the BiLSTM",
        ),
    )
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "inputs": tuple(INPUTS),
        "fusion": (*PLAIN, *RESIDUAL),
        "stage": ("early", "late", "decision"),
        "variant": ("paper", "release"),
    }

    def __init__(
        self,
        *,
        audio_dim: int,
        visual_dim: int,
        classes: int,
        task: TaskName = "sel",
        inputs: str = "a+v-att",
        fusion: str = "concat",
        stage: str = "late",
        blocks: int = 1,
        variant: str = "paper",
        state: int = 128,
        hidden: int = 512,
        width: int = 49,
        common: int = 128,
        audio_regions: int = 24,
        c3d_dim: int = 512,
    ) -> None:
        super().__init__()
        self.check_sizes(blocks=blocks, state=state, hidden=hidden, width=width, common=common)
        _check_together(inputs, fusion, stage, variant, blocks)
        self.task, self.background, self.release = task, classes, variant == "release"
        self.sound, self.sight = INPUTS[inputs]
        self.audio_regions = _sound_regions(inputs, audio_dim, audio_regions)
        self.moving = _moving_channels(inputs, visual_dim, c3d_dim)
        audio_width = audio_dim // self.audio_regions
        attention = partial(AVGA, hidden=hidden, width=width, release=self.release)
        self.look = self.listen = None
        if self.sight == "att":
            self.look = attention(audio_dim=audio_width, visual_dim=visual_dim)
        if self.sound == "att":  # the same brick, the picture guiding
            self.listen = attention(audio_dim=visual_dim, visual_dim=audio_width)
        self.read = _reader(
            self.sound, self.sight, fusion, stage, blocks, self.release,
            widths=(audio_width, self.moving or visual_dim), state=state, common=common,
            out=classes + 1,
        )  # fmt: skip
        xavier(self)

    @classmethod
    def widths(cls, options: Mapping[str, Any]) -> tuple[int, int]:
        """VGGish's 128 or its maps of 512 channels; VGG-19's 512, and C3D's behind them."""
        inputs, defaults = str(options["inputs"]), cls.options()
        regions = int(options.get("audio_regions", defaults["audio_regions"]))
        moving = int(options.get("c3d_dim", defaults["c3d_dim"]))
        audio_width = 512 * regions if inputs.startswith("amaps") else 128
        return audio_width, 512 + moving if "c3d" in inputs else 512

    @classmethod
    def recipe(cls, task: TaskName) -> Recipe:
        """The release's: Adam 1e-3, batches of 64, 300 epochs, in WSEL 250."""
        return Recipe(epochs=250 if TASK_TRAITS[task].weak else 300, batch=64)

    @classmethod
    def recipe_of(cls, task: TaskName, options: Mapping[str, Any]) -> Recipe:
        """Of ``variant="release"`` the released code's.

        The clips in the order of the files, which is that of the classes, without those after the
        last full batch: of AVE's 3339 training clips the last 11, in WSEL's setting ``tag`` all but
        117 of the 178 background clips. The learning rate falls to a tenth every 15000 steps.
        Validated every 5 epochs; WSEL keeps the last epoch.
        """
        recipe = cls.recipe(task)
        if options.get("variant") != "release":
            return recipe
        return replace(
            recipe, validate_every=5, shuffle=False, drop_last=True, lr_step=15000,
            selection="last" if TASK_TRAITS[task].weak else "metric",
        )  # fmt: skip

    def forward(self, *, audio: Tensor, visual: Tensor, mask: Tensor | None = None) -> Output:
        """Output for (B, T, A) and (B, T, H, W, V); ``mask`` (B, T) is True on real segments.

        Parts: ``logits`` (B, T, C+1), the predictions m_t before the softmax; of the supplement's
        attention over the sound's maps ``audio_attention`` (B, T, regions).
        """
        rows, columns = visual.shape[2:4]
        audio, visual = as_read(self, audio, visual)
        audio_regions = audio.reshape(
            *audio.shape[:2], self.audio_regions, -1
        )  # (B, T, regions, A')
        audio_mean = audio_summary = audio_regions.mean(2)
        parts: dict[str, Tensor] = {}
        attention = None
        if self.look is None or self.listen is not None:  # over large maps the mean is dear
            visual_summary = region_mean(visual[..., -self.moving :])  # -0: all channels
        if self.listen is not None:
            audio_summary, parts["audio_attention"] = self.listen(visual_summary, audio_regions)
        if self.look is not None:
            visual_summary, maps = self.look(audio_mean, visual)
            attention = maps.reshape(*maps.shape[:2], rows, columns)
        logits: Tensor = widened(self.read(audio_summary, visual_summary, mask))
        parts["logits"] = logits
        return Output(logits.softmax(-1), logits.argmax(-1), attention, parts)

    def loss(self, output: Output, batch: Batch) -> Tensor:
        """Cross-entropy of segments, or in WSEL of the clip (eq. 7).

        The released code's form puts softmax probabilities into a multi-label soft margin.

        Args:
            output: Of this model for the batch.
            batch: With ``labels`` in SEL, ``tags`` in WSEL.
        """
        if TASK_TRAITS[self.task].weak:
            assert batch.tags is not None
            return self._cost(self.pooled(output, batch.mask), batch.tags.float()).mean()
        target = batch.one_hot(self.background)
        return average(self._cost(output.parts["logits"], target), batch.mask)

    def _cost(self, logits: Tensor, target: Tensor) -> Tensor:
        """(..., C+1) twice -> (...)."""
        if self.release:
            return soft_margin(logits.softmax(-1), target)
        return share_entropy(logits, target)

    def pooled(self, output: Output, mask: Tensor | None = None) -> Tensor:
        """The clip's logits (B, C+1): mean over time (eq. 7), in the release's form the largest."""
        pool = masked_max if self.release else masked_mean
        return pool(output.parts["logits"], mask)

    def init_from(self, state: Mapping[str, Tensor]) -> list[str]:
        """Take attention and BiLSTMs from another model's state, as the release trains DMRN.

        Args:
            state: Weights by name, of a model that reads the same inputs at the same stage.

        Returns:
            The names taken; fusion and heads keep their own weights.

        Raises:
            CheckpointError: as :meth:`load_part`.
        """
        shared = ("look.", "listen.", "read.audio_lstm.", "read.visual_lstm.", "read.lstm.")
        return self.load_part(state, [n for n in self.state_dict() if n.startswith(shared)])


class Single(nn.Module):
    """One modality alone."""

    def __init__(self, *, sound: bool, width: int, state: int, out: int) -> None:
        super().__init__()
        self.sound = sound
        self.lstm = BiLSTM(width, state)
        self.head = _head(2 * state, out)

    def forward(self, audio: Tensor, visual: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T, A), (B, T, V) -> (B, T, C+1)."""
        logits: Tensor = self.head(self.lstm(audio if self.sound else visual, mask))
        return logits


class Early(nn.Module):
    """Both projected to one width, fused, then one BiLSTM."""

    def __init__(
        self, fuse: nn.Module, *, widths: tuple[int, int], common: int, state: int, out: int
    ) -> None:
        super().__init__()
        self.audio, self.visual = (nn.Linear(w, common) for w in widths)
        self.fuse = fuse
        self.lstm = BiLSTM(_width(fuse), state)
        self.head = _head(2 * state, out)

    def forward(self, audio: Tensor, visual: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T, A), (B, T, V) -> (B, T, C+1)."""
        fused = self.fuse(self.audio(audio), self.visual(visual))
        logits: Tensor = self.head(self.lstm(fused, mask))
        return logits


class Late(nn.Module):
    """A BiLSTM each, then fused; of several fusions, the mean of their distributions (DMRFE)."""

    def __init__(
        self, fuses: list[nn.Module], *, widths: tuple[int, int], state: int, out: int, plain: bool
    ) -> None:
        super().__init__()
        self.audio_lstm, self.visual_lstm = (BiLSTM(w, state) for w in widths)
        self.fuse = nn.ModuleList(fuses)
        self.head = nn.ModuleList(
            _head(_width(f), out) if plain else nn.Linear(_width(f), out) for f in fuses
        )

    def forward(self, audio: Tensor, visual: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T, A), (B, T, V) -> (B, T, C+1)."""
        a, v = self.audio_lstm(audio, mask), self.visual_lstm(visual, mask)
        logits: list[Tensor] = [
            head(fuse(a, v)) for fuse, head in zip(self.fuse, self.head, strict=True)
        ]
        if len(logits) == 1:
            return logits[0]
        each = torch.stack([widened(x).log_softmax(-1) for x in logits])
        return each.logsumexp(0) - math.log(len(logits))  # softmax of it is the mean


class DecisionFusion(nn.Module):
    """A BiLSTM and a head each, then the two modalities' class scores fused."""

    def __init__(
        self, fuse: nn.Module, *, widths: tuple[int, int], state: int, out: int
    ) -> None:  # fmt: skip
        super().__init__()
        self.audio_lstm, self.visual_lstm = (BiLSTM(w, state) for w in widths)
        self.audio_head, self.visual_head = (_head(2 * state, out) for _ in widths)
        self.fuse = fuse
        self.head = nn.Linear(_width(fuse), out)

    def forward(self, audio: Tensor, visual: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T, A), (B, T, V) -> (B, T, C+1)."""
        a = self.audio_head(self.audio_lstm(audio, mask))
        v = self.visual_head(self.visual_lstm(visual, mask))
        logits: Tensor = self.head(self.fuse(a, v))
        return logits


def _reader(
    sound: str | None, sight: str | None, kind: str, stage: str, blocks: int, crossed: bool, *,
    widths: tuple[int, int], state: int, common: int, out: int,
) -> nn.Module:  # fmt: skip
    """What is made of the sound's (B, T, A) and the picture's (B, T, V)."""
    if sound is None or sight is None:
        is_audio = sound is not None
        return Single(sound=is_audio, width=widths[0 if is_audio else 1], state=state, out=out)
    width = {"early": common, "late": 2 * state, "decision": out}[stage]
    name = "dmrn" if kind == "dmrfe" else kind
    fuses = [
        build_fusion(name, width, blocks=blocks, crossed=crossed)
        for _ in range(2 if kind == "dmrfe" else 1)
    ]
    if stage == "early":
        return Early(fuses[0], widths=widths, common=common, state=state, out=out)
    if stage == "decision":
        return DecisionFusion(fuses[0], widths=widths, state=state, out=out)
    return Late(fuses, widths=widths, state=state, out=out, plain=kind in PLAIN)


def _sound_regions(inputs: str, audio_dim: int, audio_regions: int) -> int:
    """In how many regions the sound lies; 1 where it is a vector."""
    if not inputs.startswith("amaps"):
        return 1
    if audio_regions < 1 or audio_dim % audio_regions:
        raise ValueError(
            f"{audio_regions=} with audio features {audio_dim} wide: expected a multiple, as "
            f"vggish_maps (of AVE: data.audio=maps) gives it, for {inputs=}"
        )
    return audio_regions


def _moving_channels(inputs: str, visual_dim: int, c3d_dim: int) -> int:
    """How many of the picture's channels are read alone, the last ones; 0 reads all of them."""
    if "c3d" not in inputs:
        return 0
    if not 1 <= c3d_dim < visual_dim:
        raise ValueError(
            f"{c3d_dim=} with visual features {visual_dim} wide: expected C3D's channels behind "
            f"others, as vgg19+c3d (of AVE: data.visual=vector+c3d) gives them, for {inputs=}"
        )
    return c3d_dim if inputs.endswith("-c3d") else 0


def _head(width: int, out: int) -> nn.Module:
    return nn.Sequential(nn.ReLU(), *mlp(width, HEAD_HIDDEN, out))


def _width(fuse: nn.Module) -> int:
    width = fuse.out
    assert isinstance(width, int)
    return width


def _check_together(inputs: str, kind: str, stage: str, variant: str, blocks: int) -> None:
    if None in INPUTS[inputs] and (kind, stage) != ("concat", "late"):
        raise ValueError(f"fusion={kind!r} at stage={stage!r} does nothing with inputs={inputs!r}")
    if inputs.startswith("amaps") and variant == "release":
        raise ValueError(f"inputs={inputs!r} aren't in the release: expected variant='paper'")
    if kind == "dmrfe" and stage != "late":
        raise ValueError("fusion='dmrfe' is late only")
    if kind not in RESIDUAL and blocks != 1:
        raise ValueError(f"{blocks=} does nothing with fusion={kind!r}")
