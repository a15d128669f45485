"""From features to scores: a trained model as the localizer sees it, whatever runs its network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from avel import clock
from avel.backbones.identity import backbone_identity, backbone_name, backbone_option
from avel.device import check_device
from avel.errors import CheckpointError, UsageError
from avel.features.stream import FeatureStream
from avel.inference.windows import SCORE_PARTS, Means, RowBuffer, WindowOutput
from avel.models.decision_rules import DecisionRule
from avel.types import Features, Floats, Json, Scores

if TYPE_CHECKING:
    from avel.features.cache import FeatureExtractor
    from avel.features.network import Precision

#: Windows that go through the network at a time: memory doesn't grow with the file's length, and
#: the first scores of a stream come early.
CHUNK = 4


class Predictor(ABC):
    """A trained model: :meth:`predict` is the arrow from Features to Scores.

    A child has a ``card`` (see :class:`avel.inference.checkpoint.Trained`) and runs the network.
    """

    card: Json

    @abstractmethod
    def predict_windows(self, audio: Floats, visual: Floats) -> WindowOutput:
        """The network's output for windows (B, T, A) and (B, T, H, W, V), float32."""

    def to(self, device: str) -> Predictor:
        """The same model on a device; see :func:`avel.device.check_device` for names.

        Raises:
            UsageError: if the device isn't there, or the model can't run on it.
        """
        if check_device(device) != "cpu":
            raise UsageError(
                f"this model can't run on device {device!r}",
                expected="cpu",
                hint="leave --device out, or use the trained model in place of the exported one",
            )
        return self

    @abstractmethod
    def extractor(
        self, *, precision: Precision = "float32", device: str = "auto"
    ) -> FeatureExtractor:
        """What makes the features it was trained on.

        Args:
            precision, device: As for :class:`avel.features.extractor.Extractor`.

        Raises:
            CheckpointError: if its backbones have other weights here than it was trained with.
            WeightsError: if a backbone's weights are missing.
        """

    @property
    def decision_rule(self) -> DecisionRule | None:
        """The decision over mean scores, where it is another than the largest score."""
        return None

    @property
    def classes(self) -> tuple[str, ...]:
        """The C event names, without background."""
        return tuple(self.card["classes"])

    @property
    def step(self) -> float:
        """Seconds a segment."""
        return float(self.card["step"])

    @property
    def window(self) -> int:
        """Segments of a training clip."""
        return int(self.card["window"])

    @property
    def audio_card(self) -> Json:
        """The card of the audio backbone it was trained on."""
        return dict(self.card["audio_card"])

    @property
    def visual_card(self) -> Json:
        """The card of the visual backbone it was trained on."""
        return dict(self.card["visual_card"])

    @property
    def feature_options(self) -> Json:
        """What :func:`avel.extract` must be given to make features that fit, by keyword."""
        audio, visual = backbone_option(self.audio_card), backbone_option(self.visual_card)
        return {"audio": audio, "visual": visual, "step": self.step}

    def predict(self, features: Features | FeatureStream) -> Scores:
        """Scores of every segment of a file of any length.

        Of a stream only the rows of a few windows are held at a time; the scores are the same.

        A file longer than the training clips goes through in windows of their length, half a
        window apart; a segment's scores are the mean over its windows, and so are its attention
        maps, renormalised. Labels are the model's own where there is one window; with several, the
        argmax of the mean scores, or what ``decision_rule`` gives. The parts of
        :data:`avel.inference.windows.SCORE_PARTS` are averaged in the same way.

        Raises:
            CheckpointError: if the features are of other backbones, widths or segment length than
                the model was trained on.
        """
        scoring = self.scoring(features)
        for _ in scoring:
            pass
        return scoring.scores()

    def scoring(self, features: Features | FeatureStream) -> Scoring:
        """The same as it goes on; arguments and errors as for :meth:`predict`."""
        if isinstance(features, Features):
            features = FeatureStream.of(features)
        check_features(self.card, features)
        return Scoring(self, features)


class Scoring:
    """Scores of a file in the making: iterating tells how many segments' scores are final.

    Args:
        predictor: The model.
        features: Of the file; they must fit.
    """

    def __init__(self, predictor: Predictor, features: FeatureStream) -> None:
        count = len(features)
        self.features = features
        self.classes = predictor.classes
        self.values = np.zeros((count, len(self.classes) + 1), np.float32)
        self.labels: NDArray[np.int64] = np.full(count, len(self.classes), np.int64)
        self.attention: NDArray[np.float32] | None = None
        self.parts: dict[str, NDArray[np.float32]] = {}  # by the scores' names
        self._predictor = predictor

    def __iter__(self) -> Iterator[int]:
        predictor, count = self._predictor, len(self.features)
        total, rows = Means(count), RowBuffer(self.features.blocks())
        length = min(predictor.window, count)
        starts = clock.windows(count, predictor.window, max(1, predictor.window // 2))
        settled = 0
        for i in range(0, len(starts), CHUNK):
            chunk, later = starts[i : i + CHUNK], starts[i + CHUNK :]
            output = self._predict(rows, chunk, length)
            total.add(chunk, length, output)
            ready = later[0] if later else count  # no later window reaches before its start
            self._settle(total, slice(settled, ready), output if len(starts) == 1 else None)
            settled = ready
            yield settled
        rows.finish()

    def _predict(self, rows: RowBuffer, starts: Sequence[int], length: int) -> WindowOutput:
        first = starts[0]
        audio, visual = (
            np.stack([r[s - first : s - first + length] for s in starts]).astype(np.float32)
            for r in rows.between(first, starts[-1] + length)
        )
        return self._predictor.predict_windows(audio, visual)

    def _settle(self, total: Means, segments: slice, only: WindowOutput | None) -> None:
        values = self.values[segments] = total.mean("scores", segments)
        rule = self._predictor.decision_rule
        if only is not None:
            self.labels[segments] = only.labels[0]
        elif rule is not None:
            self.labels[segments] = rule(values, total.parts(segments))
        else:
            self.labels[segments] = values.argmax(axis=1)
        for name, part in SCORE_PARTS.items():
            if f"part:{part}" in total.sums:
                if name not in self.parts:
                    self.parts[name] = np.full_like(total.sums[f"part:{part}"], np.nan)
                unit = self.features.grid.step if name == "lag" else 1.0
                self.parts[name][segments] = total.mean(f"part:{part}", segments) * unit
        if "attention" in total.sums:
            maps = total.mean("attention", segments)
            if self.attention is None:
                self.attention = np.zeros_like(total.sums["attention"])
            self.attention[segments] = maps / maps.sum(axis=(1, 2), keepdims=True).clip(1e-12)

    def scores(self) -> Scores:
        """The scores of the whole file, once all are final."""
        return Scores(
            values=self.values,
            classes=self.classes,
            grid=self.features.grid,
            labels=self.labels,
            attention=self.attention,
            audible=self.features.audible,
            visible=self.features.visible,
            **self.parts,
        )


def check_features(card: Json, features: FeatureStream) -> None:
    """Refuse features that a model of this card wasn't trained on.

    Raises:
        CheckpointError: naming backbones, widths or segment length.
    """
    for modality in ("audio", "visual"):
        trained_on, present = card[f"{modality}_card"], getattr(features, f"{modality}_card")
        if backbone_identity(trained_on) != backbone_identity(present):
            raise CheckpointError(
                f"the {modality} features are of {backbone_name(present)}",
                expected=f"those of {backbone_name(trained_on)}, which the model was trained on",
                hint=f"extract with --{modality} {backbone_option(trained_on)}",
            )
    widths = features.widths
    expected = card["dims"]["audio"], card["dims"]["visual"]
    if widths != expected or not len(features):
        raise CheckpointError(
            f"there are {len(features)} segments of features, {widths[0]} (audio) and {widths[1]} "
            "(visual) wide",
            expected=f"at least one segment, {expected[0]} and {expected[1]} wide",
            hint="extract the file again with the model's backbones",
        )
    step = float(card["step"])
    if abs(features.grid.step - step) > 1e-6:
        raise CheckpointError(
            f"the features have segments of {features.grid.step:g} s",
            expected=f"segments of {step:g} s, which the model was trained on",
            hint=f"extract with --step {step:g}",
        )
