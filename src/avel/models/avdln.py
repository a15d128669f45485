"""AVDLN: the audio-visual distance learning network (Tian et al., ECCV 2018)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor, nn

from avel.models.base import Batch, Model, ModelCard, Output, Query, Recipe, TaskName, models
from avel.models.layers import (
    as_read,
    matching_loss,
    pair_distance,
    window_sums,
    xavier,
)
from avel.models.precision import widened

HIDDEN, WIDTH, SLOPE = 128, 64, 0.3  #: the release's


@models.register("avdln")
class Avdln(Model):
    """Two perceptrons that put what belongs together close together (eq. 8-10).

    A segment's embedding depends on that segment alone, so the two tracks may be of different
    recordings and lengths.

    Args:
        audio_dim, visual_dim: Widths A and V.
        classes: C, without background: the class id that isn't relevant in training.
        task: ``"cml"``.
        negatives: ``"release"`` background segments, ``"sync"`` those and all mismatched pairs of
            a clip.
        tau: Margin of the contrastive loss.

    Raises:
        ValueError: if the margin isn't above 0.
    """

    card: ClassVar[ModelCard] = ModelCard(
        name="avdln",
        paper="Tian, Shi, Li, Duan, Xu 2018, Audio-Visual Event Localization in Unconstrained "
        "Videos, ECCV",
        tasks=("cml",),
        summary="Two perceptrons learn a distance between a segment's sound and picture.",
        open_points=(
            "widths 512-128-64 and 128-128-64, LeakyReLU 0.3 after the first layer, batches of 8, "
            "20 epochs and, of `negatives=release`, keeping the last epoch are the release's; its "
            "batches are 8 segments of any videos, ours 8 clips",
            "the picture is the mean over its regions",
            "`release` labels a segment by the event's relevance; the paper's words, y = 1 for "
            "synchronized pairs, are `sync`: mismatched pairs are negatives too and weigh the same",
        ),
        distribution=False,
    )
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {"negatives": ("release", "sync")}

    def __init__(
        self,
        *,
        audio_dim: int,
        visual_dim: int,
        classes: int,
        task: TaskName = "cml",
        negatives: str = "release",
        tau: float = 2.0,
    ) -> None:
        super().__init__()
        if not tau > 0:
            raise ValueError(f"tau={tau}: expected more than 0")
        self.task, self.background = task, classes
        self.negatives, self.tau = negatives, tau
        self.audio = _tower(audio_dim)
        self.visual = _tower(visual_dim)
        xavier(self)

    @classmethod
    def recipe(cls, task: TaskName) -> Recipe:
        """The release's: Adam 1e-3, 20 epochs of batches of 8."""
        return Recipe(epochs=20, batch=8)

    @classmethod
    def recipe_of(cls, task: TaskName, options: Mapping[str, Any]) -> Recipe:
        """Of ``negatives="release"``, the default, the last epoch, as the released code keeps it.

        ``"sync"`` selects its epoch on validation.
        """
        released = options.get("negatives", "release") == "release"
        return replace(cls.recipe(task), selection="last" if released else "metric")

    def forward(self, *, audio: Tensor, visual: Tensor, mask: Tensor | None = None) -> Output:
        """Embeddings (B, T, 64) as parts ``audio`` and ``visual``.

        Args:
            audio: (B, T, A).
            visual: (B, T', H, W, V).
            mask: Not needed: no segment knows of another.
        """
        audio_input, regions = as_read(self, audio, visual)
        a: Tensor = self.audio(audio_input)
        v: Tensor = self.visual(regions.mean(2))
        return Output(parts={"audio": widened(a), "visual": widened(v)})

    def loss(self, output: Output, batch: Batch) -> Tensor:
        """The contrastive loss (eq. 10), averaged over pairs.

        Args:
            output: Of this model for the batch.
            batch: With ``labels``.
        """
        return matching_loss(
            output.parts["audio"], output.parts["visual"], batch.relevance(self.background),
            batch.mask, margin=self.tau, mismatched=self.negatives == "sync",
        )  # fmt: skip

    @property
    def reads_means(self) -> bool:
        """Always: no region is looked at by itself."""
        return True

    def window_costs(self, *, audio: Tensor, visual: Tensor, query: Query) -> Tensor:
        """Summed Euclidean distances (eq. 9) of every window; see the base class.

        Raises:
            UsageError: if the query lies outside its track or is longer than the other.
        """
        query.check(audio.shape[1], visual.shape[1])
        parts = self(audio=audio, visual=visual).parts
        return window_sums(pair_distance(*query.pair(parts["audio"], parts["visual"])))


def _tower(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, HIDDEN), nn.LeakyReLU(SLOPE), nn.Linear(HIDDEN, WIDTH)
    )  # fmt: skip
