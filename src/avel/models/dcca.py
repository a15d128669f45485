"""DCCA: deep canonical correlation analysis (Andrew et al., ICML 2013), for CML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from avel.models.base import Batch, Model, ModelCard, Output, Query, Recipe, TaskName, models
from avel.models.layers import as_read, mlp, region_mean, valid, window_sums
from avel.models.precision import widened


class RunningCovariances:
    """Running mean and covariances of two views in float64, a batch of segments at a time."""

    def __init__(self, first: int, second: int, device: torch.device) -> None:
        self.count = 0
        self.mean = torch.zeros(first + second, dtype=torch.float64, device=device)
        self.scatter = self.mean.new_zeros(first + second, first + second)
        self.first = first

    def add(self, h1: Tensor, h2: Tensor) -> None:
        """Take in (n, first) and (n, second), in any order and any number of calls."""
        new = torch.cat([h1, h2], 1).double()
        if not len(new):
            return
        total = self.count + len(new)
        shift = new.mean(0) - self.mean
        centred = new - new.mean(0)
        between = torch.outer(shift, shift) * (self.count * len(new) / total)
        self.scatter = self.scatter + centred.T @ centred + between
        self.mean = self.mean + shift * (len(new) / total)
        self.count = total

    def covariances(self) -> tuple[Tensor, Tensor, Tensor]:
        """S11, S22 and S12, divided by the number of segments less one."""
        s, k = self.scatter / max(1, self.count - 1), self.first
        return s[:k, :k], s[k:, k:], s[:k, k:]


def inverse_root(s: Tensor) -> Tensor:
    """S^(-1/2) of a symmetric positive definite matrix."""
    values, vectors = torch.linalg.eigh(s)
    root: Tensor = vectors * values.rsqrt() @ vectors.T
    return root


def canonical(s11: Tensor, s22: Tensor, s12: Tensor, ridge: float) -> tuple[Tensor, Tensor, Tensor]:
    """Linear CCA from covariances: the singular vectors of T = S11^(-1/2) S12 S22^(-1/2).

    Args:
        s11, s22, s12: (m, m), (n, n), (m, n).
        ridge: r1 = r2, added to the diagonals of S11 and S22.

    Returns:
        Projections (m, k) and (n, k) and the correlations (k,), k = min(m, n), largest first.
    """
    w1, w2 = inverse_root(_ridged(s11, ridge)), inverse_root(_ridged(s22, ridge))
    u, d, vt = torch.linalg.svd(w1 @ s12 @ w2, full_matrices=False)
    return w1 @ u, w2 @ vt.T, d


def _ridged(s: Tensor, ridge: float) -> Tensor:
    return s + ridge * torch.eye(len(s), dtype=s.dtype, device=s.device)


def total_correlation(h1: Tensor, h2: Tensor, ridge: float) -> Tensor:
    """Sum of the canonical correlations of two views, in float64 and differentiable.

    The gradient is the paper's own (eq. 11 to 13), with respect to the covariances; an
    eigenvalue that occurs twice doesn't spoil it, as it would that of ``eigh``.

    Args:
        h1, h2: (n, m1) and (n, m2), a row a segment, n >= 2.
        ridge: r1 = r2.
    """
    c1, c2 = (h.double() - h.double().mean(0) for h in (h1, h2))
    less = len(c1) - 1
    s11, s22, s12 = c1.T @ c1 / less, c2.T @ c2 / less, c1.T @ c2 / less
    with torch.no_grad():
        p1, p2, d = canonical(s11, s22, s12, ridge)  # S11^(-1/2) U, S22^(-1/2) V
        g11, g22, g12 = -(p1 * d) @ p1.T / 2, -(p2 * d) @ p2.T / 2, p1 @ p2.T
    slope = (g11 * s11).sum() + (g22 * s22).sum() + (g12 * s12).sum()
    return d.sum() + slope - slope.detach()


@models.register("dcca")
class Dcca(Model):
    """Two perceptrons whose outputs correlate as much as can be, and linear CCA between them.

    The linear CCA is fitted by :meth:`finish` and kept in buffers; before that a segment's
    embedding is the perceptron's bare output.

    Args:
        audio_dim, visual_dim: Widths A and V.
        classes: C, without background.
        task: ``"cml"``.
        hidden, width: Widths of the perceptrons' two layers.
        ridge: r1 = r2, what regularises the covariances.
        pairs: Whose pairs correlate: ``"event"`` segments', CML's matches, or ``"all"``.

    Raises:
        ValueError: if a number is out of range.
    """

    shares_batches: ClassVar[bool] = False  # correlations are those of the whole batch
    card: ClassVar[ModelCard] = ModelCard(
        name="dcca",
        paper="Andrew, Arora, Bilmes, Livescu 2013, Deep Canonical Correlation Analysis, ICML",
        tasks=("cml",),
        summary="Two perceptrons trained for correlated outputs, matched by the cosine.",
        open_points=(
            "tian2018 prints neither sizes nor recipe: AVDLN's widths (128, 64), ReLU between, "
            "Adam 1e-3, 100 epochs of 256 clips; the paper itself trains on the full set by L-BFGS",
            "the picture is the mean over regions, as in AVDLN",
            "the pairs are the event's segments: background ones aren't matches in CML",
            "correlation has no negatives, so the settings `release` and `sync` train alike",
            "linear CCA is fitted on the training outputs before every validation",
            "all canonical directions count the same in the cosine",
        ),
        distribution=False,
    )
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {"pairs": ("event", "all")}

    mean_audio: Tensor
    mean_visual: Tensor
    project_audio: Tensor
    project_visual: Tensor
    correlations: Tensor

    def __init__(
        self,
        *,
        audio_dim: int,
        visual_dim: int,
        classes: int,
        task: TaskName = "cml",
        hidden: int = 128,
        width: int = 64,
        ridge: float = 1e-3,
        pairs: str = "event",
    ) -> None:
        super().__init__()
        if not ridge > 0:
            raise ValueError(f"ridge={ridge}: expected more than 0")
        self.check_sizes(hidden=hidden, width=width)
        self.task, self.ridge, self.pairs, self.background = task, float(ridge), pairs, classes
        self.audio_net = mlp(audio_dim, hidden, width)
        self.visual_net = mlp(visual_dim, hidden, width)
        for modality in ("audio", "visual"):
            self.register_buffer(f"mean_{modality}", torch.zeros(width))
            self.register_buffer(f"project_{modality}", torch.eye(width))
        self.register_buffer("correlations", torch.zeros(width))

    @classmethod
    def recipe(cls, task: TaskName) -> Recipe:
        """Ours: Adam 1e-3, 100 epochs of 256 clips; the covariances want large batches."""
        return Recipe(epochs=100, batch=256)

    def forward(self, *, audio: Tensor, visual: Tensor, mask: Tensor | None = None) -> Output:
        """Output for (B, T, A) and (B, T, H, W, V); ``mask`` has no effect on single segments.

        Parts: ``audio`` and ``visual``, the perceptrons' outputs (B, T, width).
        """
        audio, visual = as_read(self, audio, visual)
        audio_out: Tensor = self.audio_net(audio)
        visual_out: Tensor = self.visual_net(region_mean(visual))
        return Output(parts={"audio": widened(audio_out), "visual": widened(visual_out)})

    def loss(self, output: Output, batch: Batch) -> Tensor:
        """Minus the sum of the canonical correlations of the batch's pairs (section 3).

        Args:
            output: Of this model for the batch.
            batch: With ``labels``. Fewer than two pairs have no correlation and cost 0.
        """
        audio, visual = self._pairs(output, batch)
        if len(audio) < 2:
            return (output.parts["audio"].sum() + output.parts["visual"].sum()) * 0.0
        return -total_correlation(audio, visual, self.ridge).to(audio.dtype)

    def _pairs(self, output: Output, batch: Batch) -> tuple[Tensor, Tensor]:
        audio, visual = output.parts["audio"], output.parts["visual"]
        keep = valid(audio, batch.mask)
        if self.pairs == "event":
            keep = keep & batch.relevance(self.background).bool()
        return audio[keep], visual[keep]

    @torch.no_grad()
    def finish(self, batches: Iterable[Batch]) -> None:
        """Fit the linear CCA on the perceptrons' outputs for the training split; see the base."""
        width, device = len(self.correlations), self.correlations.device
        running = RunningCovariances(width, width, device)
        for batch in batches:
            running.add(*self._pairs(self(audio=batch.audio, visual=batch.visual), batch))
        if running.count < 2:
            return
        project_audio, project_visual, correlations = canonical(*running.covariances(), self.ridge)
        self.mean_audio.copy_(running.mean[:width])
        self.mean_visual.copy_(running.mean[width:])
        self.project_audio.copy_(project_audio)
        self.project_visual.copy_(project_visual)
        self.correlations.copy_(correlations)

    def embed(self, output: Output) -> tuple[Tensor, Tensor]:
        """The canonical projections of both modalities, (B, T, width) float64 each, of length 1."""
        audio = self._project(output.parts["audio"], self.mean_audio, self.project_audio)
        visual = self._project(output.parts["visual"], self.mean_visual, self.project_visual)
        return audio, visual

    @staticmethod
    def _project(x: Tensor, mean: Tensor, way: Tensor) -> Tensor:
        return F.normalize((x.double() - mean.double()) @ way.double(), dim=-1)

    @property
    def reads_means(self) -> bool:
        """Always: no region is looked at by itself."""
        return True

    def window_costs(self, *, audio: Tensor, visual: Tensor, query: Query) -> Tensor:
        """1 - cosine of the aligned segments' projections, summed; see the base class.

        Raises:
            UsageError: if the query lies outside its track or is longer than the other.
        """
        query.check(audio.shape[1], visual.shape[1])
        queries, candidates = query.pair(*self.embed(self(audio=audio, visual=visual)))
        return window_sums(1 - queries @ candidates.transpose(1, 2)).float()
