"""The contract of a model. A new file in this folder with a registered class is all a model needs.

Notation: B clips, T segments, A audio width, H*W = K regions of width V, C classes, background is
class id C. Sizes come from the data; no ``forward`` contains one.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from avel.errors import CheckpointError, UsageError, all_at_once
from avel.models.standardize import Standardize, through
from avel.registry import Registry

#: Tasks by name; :mod:`avel.tasks` holds what each of them is.
TaskName = Literal["sel", "wsel", "cml"]


@dataclass(frozen=True)
class TaskTraits:
    """What a model must know of the task that it is built for.

    Args:
        classifies: True where it gives every segment a class, False where it compares windows.
        weak: True where it learns from the tags of clips, not from the classes of segments.
    """

    classifies: bool = True
    weak: bool = False


TASK_TRAITS: Mapping[TaskName, TaskTraits] = {
    "sel": TaskTraits(),
    "wsel": TaskTraits(weak=True),
    "cml": TaskTraits(classifies=False),
}

models: Registry[Model] = Registry("model", "avel.models")


@dataclass(frozen=True)
class ModelCard:
    """What a model is, for people: shown by `avel ls`, in the docs and in reports.

    Args:
        name: Registry name.
        paper: Author, year, title, venue.
        tasks: The tasks it can be trained for.
        summary: One sentence.
        open_points: What the paper leaves open and what was decided here, a sentence each.
        distribution: True where a row of its scores is a probability distribution over C+1.
        idle: Variants (``"option=value"``) in which some weights get no gradient, with
            the reason; in all others every weight does.
    """

    name: str
    paper: str
    tasks: tuple[TaskName, ...]
    summary: str
    open_points: tuple[str, ...] = ()
    distribution: bool = True
    idle: Mapping[str, str] = field(default_factory=dict)


@dataclass  # not frozen: Lightning Fabric moves and converts its tensors by rebuilding it
class Batch:
    """Clips of a training step, padded to one T.

    Args:
        audio: (B, T, A).
        visual: (B, T, H, W, V).
        mask: (B, T) bool, True on a clip's first segments and False on the padding after them;
            None where all clips are of equal length.
        labels: (B, T) int64 class ids 0..C, C background; anything under the mask's False.
        tags: (B, C+1) float, what the video holds (WSEL): one-hot, or shares in `proportion`.
    """

    audio: Tensor
    visual: Tensor
    mask: Tensor | None = None
    labels: Tensor | None = None
    tags: Tensor | None = None

    def relevance(self, background: int) -> Tensor:
        """(B, T) float: 1 on segments of an event, 0 on background (CML's y_t)."""
        assert self.labels is not None
        return (self.labels != background).float()

    def one_hot(self, background: int) -> Tensor:
        """(B, T, C+1) float: each segment's class as a distribution, on padding any class's."""
        assert self.labels is not None
        return F.one_hot(self.labels.clamp(min=0), background + 1).float()


@dataclass  # not frozen: see Batch
class Output:
    """The outputs of a model for a batch.

    Args:
        scores: (B, T, C+1) in [0, 1], background last; None for CML.
        labels: (B, T) class ids by the paper's decision rule; None for CML.
        attention: (B, T, H, W) spatial attention summing to 1 over H*W, or None.
        parts: What the loss and the figures need, by name (logits of each stream, embeddings…).
            ``audible`` and ``visible``, where a model has them, are (B, T, C) probabilities that a
            class is audible or visible, NaN where it can't tell: they become the scores'
            ``audio_scores`` and ``visual_scores``. ``audio_weight`` (B, T) in [0, 1] is the share
            of the sound in the decision, ``lag`` (B, C) the segments by which a class is heard
            later than it is seen.
    """

    scores: Tensor | None = None
    labels: Tensor | None = None
    attention: Tensor | None = None
    parts: Mapping[str, Tensor] = field(default_factory=dict)

    def segment_part(self, name: str) -> Tensor | None:
        """A part for every segment, (B, T, ...), or None: ``lag`` is repeated for each."""
        part = self.parts.get(name)
        if name != "lag" or part is None or self.scores is None:
            return part
        return part[:, None].expand(-1, self.scores.shape[1], -1)


@dataclass(frozen=True)
class Recipe:
    """How a model is trained, as plain typed values; the paper's by default.

    Args:
        epochs: Passes over the training split.
        batch: Clips a step.
        lr: The optimizer's learning rate.
        weight_decay: The optimizer's weight decay.
        validate_every: Epochs between validations.
        patience: Validations without a better one before stopping; 0 never stops early.
        clip_norm: Largest gradient norm; 0 for no clipping.
        precision: ``"auto"`` (bf16 where the processor has units for it), ``"float32"`` or
            ``"bf16"``.
        standardize: Whether the model reads features with the training split's mean taken away,
            divided by its standard deviation; both are part of the model (SEL, WSEL).
        input_dropout: Share of the features' channels that a training step doesn't see (SEL, WSEL).
        balance: How much rarer classes are drawn more often: 0 takes every clip once an epoch, 1
            every class as often as any other, 0.5 is between.
        mirror: Whether half of the maps of a training step are mirrored, left and right.
        roll: Whether a training step begins every clip at a random segment; what stood before
            follows at its end.
        copied: Share of a training step's clips, of each modality, that one of their altered
            copies stands for, where the data have any (`avel extract DIR --copies 2`).
        selection: What selects the epoch: ``"metric"`` the task's metric on validation,
            ``"tag_loss"`` the lowest loss over the tags of its clips (WSEL; no class of a segment
            is read), ``"last"`` takes the last epoch.
        shuffle: Whether the clips of an epoch are shuffled; else they keep the split's order.
        drop_last: Whether the clips after the last full batch of an epoch aren't trained on.
        lr_step: Steps after which the learning rate falls to a tenth, each time; 0 keeps it.
        optimizer: ``"adam"``, or ``"rmsprop"`` as ED-TCN's code has it (Keras' default: the mean of
            squares keeps 0.9 a step).
        average: Decay of an exponential moving average of the weights, in [0, 1); 0 for none. The
            average keeps ``min(average, n / (n + 10))`` of itself at training step n = 1, 2, ...
            Validation and the saved models have the averaged weights.
        options: The model's constructor options (ablations, lambdas).
    """

    epochs: int = 300
    batch: int = 64
    lr: float = 1e-3
    weight_decay: float = 0.0
    validate_every: int = 1
    patience: int = 0
    clip_norm: float = 0.0
    precision: Literal["auto", "float32", "bf16"] = "auto"
    standardize: bool = False
    input_dropout: float = 0.0
    balance: float = 0.0
    mirror: bool = False
    roll: bool = False
    copied: float = 0.5
    selection: Literal["metric", "tag_loss", "last"] = "metric"
    shuffle: bool = True
    drop_last: bool = False
    lr_step: int = 0
    optimizer: Literal["adam", "rmsprop"] = "adam"
    average: float = 0.0
    options: Mapping[str, Any] = field(default_factory=dict)


class Model(nn.Module, ABC):
    """A system of one paper.

    A child's constructor takes ``audio_dim``, ``visual_dim``, ``classes`` (C, without background)
    and ``task`` by keyword, then its own options, each with a default and plain (str, int, float,
    bool) so that a checkpoint can hold them. It raises ValueError for values that are out of range
    or contradict one another; :func:`build_model` checks names, types and ``choices`` before.
    """

    card: ClassVar[ModelCard]
    #: False where the loss is no mean over segments or clips, so that devices can't share a batch.
    shares_batches: ClassVar[bool] = True
    #: The values of the options that have a few, by name.
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    #: Recipe fields that differ from :data:`avel.training.recipes.SMALL_VALUES` where that
    #: measured better.
    small_values: ClassVar[Mapping[str, Any]] = {}

    def read_through(self, intake: Standardize) -> None:
        """Let the features go through a layer before every call; its numbers are the model's own.

        Args:
            intake: For features as wide as the model's.
        """
        self.intake = intake
        self.register_forward_pre_hook(through, with_kwargs=True)

    @classmethod
    def recipe(cls, task: TaskName) -> Recipe:
        """The paper's recipe for a task."""
        return Recipe()

    @classmethod
    def recipe_of(cls, task: TaskName, options: Mapping[str, Any]) -> Recipe:
        """The recipe of a variant, the options left out; the paper's unless a child has another.

        Args:
            task: What is trained.
            options: Those that differ from the defaults, or all.
        """
        return cls.recipe(task)

    @classmethod
    def widths(cls, options: Mapping[str, Any]) -> tuple[int, int]:
        """A and V of the paper's features as these options read them, for checks without data."""
        return 128, 512

    @classmethod
    def options(cls) -> dict[str, Any]:
        """The constructor's own options with their defaults."""
        common = {"self", "audio_dim", "visual_dim", "classes", "task"}
        parameters = inspect.signature(cls.__init__).parameters
        return {n: p.default for n, p in parameters.items() if n not in common}

    @classmethod
    def wrong_choices(cls, options: Mapping[str, Any]) -> dict[str, str]:
        """What is wrong with the options that have none of their ``choices``, by name."""
        return {
            name: f"{name}={options[name]!r}: expected one of {', '.join(values)}"
            for name, values in cls.choices.items()
            if isinstance(options.get(name), str) and options[name] not in values
        }

    @staticmethod
    def check_sizes(**sizes: int) -> None:
        """Whether widths, lengths and numbers of layers are 1 or more.

        Raises:
            ValueError: if one of them isn't.
        """
        for name, value in sizes.items():
            if value < 1:
                raise ValueError(f"{name}={value}: expected 1 or more")

    def load_part(self, state: Mapping[str, Tensor], names: Iterable[str]) -> list[str]:
        """Take some weights from another model's state, all of them or none.

        Args:
            state: Weights by name.
            names: Of the weights that are taken.

        Returns:
            The names.

        Raises:
            CheckpointError: if a weight is missing or of another shape.
        """
        mine, names = self.state_dict(), list(names)
        misfits = [n for n in names if n not in state or state[n].shape != mine[n].shape]
        if misfits:
            raise CheckpointError(
                f"the model to start from lacks {len(misfits)} weights, {misfits[0]} among them",
                expected="the same layers of the same sizes",
                hint="start from a model trained with the same options",
            )
        self.load_state_dict({n: state[n] for n in names}, strict=False)
        return names

    def parameter_counts(self, depth: int = 3) -> dict[str, int]:
        """Number of trainable weights by module, names cut after ``depth`` parts."""
        counts: dict[str, int] = {}
        for name, weight in self.named_parameters():
            module = ".".join(name.split(".")[:-1][:depth])
            counts[module] = counts.get(module, 0) + weight.numel()
        return counts

    @abstractmethod
    def forward(self, *, audio: Tensor, visual: Tensor, mask: Tensor | None = None) -> Output:
        """Output for (B, T, A) and (B, T, H, W, V); ``mask`` (B, T) is True on real segments."""

    @abstractmethod
    def loss(self, output: Output, batch: Batch) -> Tensor:
        """The paper's loss for the task the model was built for, a scalar."""

    def finish(self, batches: Iterable[Batch]) -> None:
        """Fit what gradients can't, from the training split; most models read no batch.

        To be called in eval mode before every validation. The results go into buffers: every
        saved state carries them, and a loaded one needs no further call.

        Args:
            batches: The whole training split in batches of any size and order, best made lazily.
        """
        return

    @property
    def reads_means(self) -> bool:
        """Whether CML reads no more of the picture than its mean over the regions.

        A store of features to be searched then keeps that mean alone.
        """
        return False

    def window_costs(self, *, audio: Tensor, visual: Tensor, query: Query) -> Tensor:
        """CML: the cost of every window of the other modality, lowest best.

        Args:
            audio: (B, T, A).
            visual: (B, T', H, W, V). T = T' where the model's form is `paired` (both tracks of one
                recording); in the `unpaired` form they may be of different recordings and lengths.
            query: Its modality and segments.

        Returns:
            (B, N - l + 1) for N segments of the candidates' modality.
        """
        raise NotImplementedError(f"{self.card.name} isn't built for cml")


@dataclass(frozen=True)
class Query:
    """CML's query: segments ``start .. start+length`` of one modality.

    Args:
        modality: The query's modality: ``"audio"`` is A2V (visual candidates), ``"visual"`` V2A.
        start: First segment of the query.
        length: Its length l in segments.
    """

    modality: Literal["audio", "visual"]
    start: int
    length: int

    def pair(self, audio: Tensor, visual: Tensor) -> tuple[Tensor, Tensor]:
        """The query's segments (B, l, ...) and the candidates (B, N, ...).

        Args:
            audio, visual: (B, T, ...) and (B, T', ...), a row a segment.
        """
        queries, candidates = (audio, visual) if self.modality == "audio" else (visual, audio)
        return queries[:, self.start : self.start + self.length], candidates

    def check(self, audio: int, visual: int) -> None:
        """Whether the query fits tracks of so many segments.

        Raises:
            UsageError: if the query lies outside its track or is longer than the other.
        """
        query_length, candidate_length = (
            (audio, visual) if self.modality == "audio" else (visual, audio)
        )
        if self.start < 0 or self.length < 1 or self.start + self.length > query_length:
            raise UsageError(
                f"the query of segments {self.start} to {self.start + self.length} lies outside"
                " its track",
                expected=f"one or more of its {query_length} segments",
                hint="choose segments inside the track",
            )
        if self.length > candidate_length:
            raise UsageError(
                f"the query has {self.length} segments, the other track {candidate_length}",
                expected="a query no longer than the candidates' track",
                hint="shorten the query or give a longer track",
            )


def build_model(
    name: str,
    *,
    audio_dim: int,
    visual_dim: int,
    classes: int,
    task: TaskName = "sel",
    **options: Any,
) -> Model:
    """A model with fresh weights.

    Raises:
        UsageError: for an unknown model or task, and every unknown or ill-typed option at once.
    """
    cls = models.get(name)
    known = cls.options()
    mistakes = [
        f"unknown option {key!r} (it has {', '.join(known) or 'none'})"
        for key in options
        if key not in known
    ]
    mistakes += [
        f"{key}={value!r}: expected {type(known[key]).__name__}"
        for key, value in options.items()
        if key in known and not _fits(value, known[key])
    ]
    mistakes += cls.wrong_choices(options).values()
    if task not in cls.card.tasks:
        mistakes.append(f"task {task!r}: it has {', '.join(cls.card.tasks)}")
    if mistakes:
        raise all_at_once(f"model {name}", mistakes)
    try:
        return cls(
            audio_dim=audio_dim, visual_dim=visual_dim, classes=classes, task=task, **options
        )
    except ValueError as e:
        raise UsageError(f"model {name}: {e}", hint="correct the option") from e


def _fits(value: object, default: object) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, float):
        return isinstance(value, int | float)
    return default is None or isinstance(value, type(default))
