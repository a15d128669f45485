"""What a task is: its clips, loss targets, predictions, metrics and baselines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from avel.data.base import Dataset, Split
from avel.errors import DataError, UsageError
from avel.metrics import event_counts
from avel.models.base import TASK_TRAITS, TaskName

if TYPE_CHECKING:
    import torch

    from avel.data.resident import Resident
    from avel.models.base import Model

#: SEL and WSEL: ``predict(split)`` -> labels (N, T), scores (N, T, C+1).
#: CML: ``predict(split, clips, query)`` -> costs (n, windows), see :data:`avel.tasks.cml.Costs`.
Predict = Callable[..., Any]


class Task(ABC):
    """One task; the functions of every other room ask it and compare no names.

    Attributes:
        name: As :func:`avel.tasks.task_named` knows it.
        summary: A few words for people.
        settings: What can be trained on, the default first.
        selection_metric: The metric that selects the epoch on validation, highest best.
        metrics: What tables show of it, the headline first.
        sweep_metrics: What the table of a sweep shows.
        baseline_metric: What :meth:`baselines` measures.
        baseline_note: A remark beside a baseline's score, or ``""``.
        starts_from: The task whose model this task's training starts from, where the model says
            what it takes from it (``init_from``).
        recipe_excludes: Recipe fields that the task can't be trained with.
        shows_last_epoch: Whether results show the last epoch beside the selected one.
        selection_note: What the selection on validation reads that training doesn't, or ``""``.
    """

    name: ClassVar[TaskName]
    summary: ClassVar[str]
    settings: ClassVar[tuple[str, ...]]
    selection_metric: ClassVar[str] = "segment_accuracy"
    metrics: ClassVar[tuple[str, ...]] = ("segment_accuracy", "video_accuracy", "background_f1")
    sweep_metrics: ClassVar[tuple[str, ...]] = ("segment_accuracy",)
    baseline_metric: ClassVar[str] = "segment_accuracy"
    baseline_note: ClassVar[str] = ""
    starts_from: ClassVar[TaskName | None] = None
    recipe_excludes: ClassVar[tuple[str, ...]] = ()
    shows_last_epoch: ClassVar[bool] = False
    selection_note: ClassVar[str] = ""

    @property
    def classifies(self) -> bool:
        """True where every segment gets a class, False where windows are compared (CML)."""
        return TASK_TRAITS[self.name].classifies

    @property
    def weak(self) -> bool:
        """True where the loss is over the tags of a clip, not over the classes of its segments."""
        return TASK_TRAITS[self.name].weak

    # ---- settings

    def check_setting(self, setting: str | None) -> str:
        """The setting, or the task's default for None.

        Raises:
            UsageError: if the task has no such setting.
        """
        if setting is not None and setting not in self.settings:
            raise UsageError(
                f"{self.name} has no setting {setting!r}",
                expected=f"one of {', '.join(self.settings)}",
                hint="settings of WSEL can't be compared with one another: choose one",
            )
        return setting or self.settings[0]

    def model_options(self, setting: str, known: Container[str]) -> dict[str, str]:
        """The model options that a setting stands for, to be given to ``build_model``.

        Args:
            setting: One of ``settings``.
            known: The model's option names.
        """
        return {}

    def setting_of(self, setting: str, options: Mapping[str, Any]) -> str:
        """The setting that a model's options stand for, ``setting`` where they name none."""
        return setting

    # ---- clips

    def split_names(self, known: Container[str] | None = None) -> tuple[str, str, str]:
        """Names of the training, validation and test splits.

        Args:
            known: The data set's split names; all possible ones if None.
        """
        return ("train", "val", "test")

    def prepare(
        self,
        split: Split,
        *,
        setting: str | None = None,
        background: Split | None = None,
        classes: int,
    ) -> Split:
        """A split with the task's loss targets and without clips that the task can't use.

        Args:
            split: Of a data set.
            setting: See ``settings``; the default if None.
            background: Clips without an event, for the settings of WSEL that train on them too.
            classes: C.

        Raises:
            UsageError: for an unknown setting.
            DataError: if no clip is left, or the background clips don't fit.
        """
        split = self._prepared(split, self.check_setting(setting), background, classes)
        if not len(split):
            raise DataError(
                f"split {split.name!r} holds no clip for {self.name}",
                expected="CML: clips with one event that is shorter than the clip",
                hint="add such clips to the split",
            )
        return split

    def _prepared(
        self, split: Split, setting: str, background: Split | None, classes: int
    ) -> Split:  # fmt: skip
        return split

    def splits(self, dataset: Dataset, setting: str | None = None) -> tuple[Split, Split, Split]:
        """The task's training, validation and test splits, ready for use.

        Raises:
            UsageError: for an unknown setting.
            DataError: if the data set lacks a split, or one of them holds no clip for the task.
        """
        names = self.split_names(dataset.splits)
        missing = [n for n in names if n not in dataset.splits]
        if missing:
            raise DataError(
                f"{dataset.name} has no split {', '.join(missing)}",
                expected="train, val and test",
                hint="name the missing splits when the data set is loaded or made",
            )
        train, val, test = (dataset.splits[n] for n in names)
        count, background = len(dataset.classes), dataset.splits.get("background")
        return (
            self.prepare(train, setting=setting, background=background, classes=count),
            self.prepare(val, setting=setting, classes=count),
            self.prepare(test, setting=setting, classes=count),
        )

    def background_clips(self, dataset: Dataset, train: Split) -> int | None:
        """How many of the data set's background clips are trained on; None where none ever are."""
        return None

    # ---- predictions

    @abstractmethod
    def predictor(
        self,
        network: Model,
        clips: Resident,
        *,
        batch: int = 64,
        device: torch.device | None = None,
        bf16: bool = False,
    ) -> Predict:
        """What :meth:`evaluate` calls, for a network and a resident split.

        Args:
            network: Built for this task.
            clips: The split.
            batch: Clips that go through the network together.
            device: The network's own if None.
            bf16: Whether the network computes in bfloat16.
        """

    @abstractmethod
    def cached(self, predict: Predict) -> Predict:
        """The same function, which computes every result once."""

    @abstractmethod
    def predictions(self, predict: Predict, split: Split, classes: int) -> dict[str, list[Any]]:
        """What is predicted for each clip, as plain data: what a later comparison needs.

        Returns:
            SEL and WSEL: ``labels``, (N, T) class ids. CML: ``a2v`` and ``v2a``, the first segment
            of the window that was chosen in each clip of :func:`avel.tasks.cml.usable`.
        """

    def correct_by_clip(
        self, predictions: Mapping[str, list[Any]], split: Split, classes: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Correct predictions and all predictions of each clip: their sums' ratio is the metric.

        Args:
            predictions: See :meth:`predictions`.
            split: The clips that were evaluated.
            classes: C.

        Returns:
            (N,) each: segments, or in CML the two directions of every usable clip.

        Raises:
            DataError: if the predictions are of other clips.
        """
        arrays, truth = self._arrays(predictions, split, classes)
        return self._count_correct(arrays, truth)

    def event_counts_by_clip(
        self, predictions: Mapping[str, list[Any]], split: Split, classes: int, *, iou: float = 0.5
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """What event F1 divides, see :func:`avel.metrics.event_counts`.

        Args:
            predictions, split, classes: As for :meth:`correct_by_clip`.
            iou: Intersection over union from which events are a pair.

        Raises:
            UsageError: for a task that detects no events.
            DataError: if the predictions are of other clips.
        """
        if not self.classifies:
            raise UsageError(f"{self.name} detects no events, so there is no event F1",
                             expected="runs of sel or wsel")  # fmt: skip
        arrays, truth = self._arrays(predictions, split, classes)
        return event_counts(arrays[0], truth, classes, iou)

    def _arrays(
        self, predictions: Mapping[str, list[Any]], split: Split, classes: int
    ) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]]:
        """The arrays of predictions, and what they are compared with.

        Raises:
            DataError: if the predictions are of other clips.
        """
        truth = self._truth(split, classes)
        arrays = [np.asarray(predictions.get(key, ()), np.int64) for key in self._keys]
        if any(array.shape != truth.shape for array in arrays):
            raise DataError(
                f"the predictions have shape {arrays[0].shape}",
                expected=f"{truth.shape}, those of {split.name}",
                hint="evaluate on the same data",
            )
        return arrays, truth

    _keys: ClassVar[tuple[str, ...]] = ("labels",)

    @abstractmethod
    def _truth(self, split: Split, classes: int) -> NDArray[np.int64]:
        """What each array of predictions is compared with."""

    @abstractmethod
    def _count_correct(
        self, arrays: Sequence[NDArray[np.int64]], truth: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(N,) correct predictions and (N,) predictions."""

    # ---- metrics

    @abstractmethod
    def evaluate(
        self, predict: Predict, split: Split, classes: int, *, step: float = 1.0, full: bool = True
    ) -> dict[str, float]:
        """Every metric by name; shares in [0, 1], errors in seconds.

        Args:
            predict: See :data:`Predict`.
            split: The clips to evaluate on.
            classes: C.
            step: Seconds a segment.
            full: False where only the selection metric and its like are needed (CML: no
                ``second``).

        Raises:
            DataError: if no clip of the split can be used.
        """

    @abstractmethod
    def details(
        self, predict: Predict, split: Split, classes: Sequence[str], *, step: float = 1.0
    ) -> dict[str, dict[str, float]]:
        """Metrics and count of each class by name."""

    @abstractmethod
    def baselines(self, split: Split, classes: int) -> dict[str, float]:
        """``baseline_metric`` of constant predictions, by their name."""
