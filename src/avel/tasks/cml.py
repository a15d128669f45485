"""CML, cross-modality localization: find the window of the other modality that matches the query.

The query is an event's l segments in one modality, so l is known; the candidates are all windows
of l segments of the other. A2V is an audio query among visual windows, V2A the other way round. A
window is correct where it starts exactly with the event (``window``); ``second`` is the same with
every single event segment as the query among T candidates. A trained model's distances and
matching scores alike come as costs, the lowest best; ties go to the earliest window.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from avel.data.base import Split
from avel.errors import DataError
from avel.metrics import best_windows, event_runs, window_overlap
from avel.models.base import Query, TaskName
from avel.tasks.base import Predict, Task
from avel.types import Modality

if TYPE_CHECKING:
    import torch

    from avel.data.resident import Resident
    from avel.models.base import Model

MODALITIES: tuple[tuple[str, Modality], ...] = (("a2v", "audio"), ("v2a", "visual"))

#: ``costs(split, clips, query)`` -> (n, windows): the cost of every window for clips of one length
#: that share a query. ``clips`` are positions in the split, not rows of its store; segments beyond
#: the clips' length must not be read.
Costs = Callable[[Split, NDArray[np.int64], Query], NDArray[Any]]


class CML(Task):
    """Cross-modality localization."""

    name: ClassVar[TaskName] = "cml"
    summary = "find the window of one modality in the other"
    #: ``release`` takes background segments as negatives, ``sync`` mismatched pairs of a clip too.
    settings = ("release", "sync")
    selection_metric = "mean_accuracy"
    metrics = sweep_metrics = ("a2v", "v2a", "mean_accuracy")
    baseline_metric = "window_accuracy"
    baseline_note = "the same both ways"
    starts_from = "sel"
    #: AVE's validation split of CML has 198 usable clips of three classes, two of which are in no
    #: training clip: the epoch selected on it says little.
    shows_last_epoch = True
    #: CML compares windows of both tracks outside of ``forward``.
    recipe_excludes = ("standardize", "input_dropout", "balance", "mirror", "roll")

    def model_options(self, setting: str, known: Container[str]) -> dict[str, str]:
        """``negatives``; a model without that option learns from matches alone in any setting."""
        other = setting != self.settings[0] and "negatives" in known
        return {"negatives": setting} if other else {}

    def setting_of(self, setting: str, options: Mapping[str, Any]) -> str:
        """The setting that the model's ``negatives`` stand for, ``setting`` where it has none."""
        named = options.get("negatives")
        return str(named) if named in self.settings else setting

    def split_names(self, known: Container[str] | None = None) -> tuple[str, str, str]:
        """CML's own partition (``cml_train``…) where the data set has it."""
        names = ("cml_train", "cml_val", "cml_test")
        if known is None or all(n in known for n in names):
            return names
        return super().split_names(known)

    def _prepared(
        self, split: Split, setting: str, background: Split | None, classes: int
    ) -> Split:  # fmt: skip
        """A partition made for CML as it is; of other splits the clips that CML can use."""
        return split if split.name.startswith("cml_") else keep_usable(split, classes)

    def predictor(
        self, network: Model, clips: Resident, *, batch: int = 64,
        device: torch.device | None = None, bf16: bool = False,
    ) -> Predict:  # fmt: skip
        """``predict(split, clips, query) -> costs (n, windows)``."""
        import torch

        from avel.models.precision import autocast

        target = device or next(network.parameters()).device

        def predict(_: Split, cases: NDArray[np.int64], query: Query) -> NDArray[np.float32]:
            network.eval()
            length = int(clips.split.lengths[cases[0]])
            parts = []
            with torch.inference_mode():
                for i in range(0, len(cases), batch):
                    rows = torch.from_numpy(cases[i : i + batch]).to(clips.lengths.device)
                    part = clips.batch(rows, device=target, length=length)
                    with autocast(target, bf16):
                        costs = network.window_costs(
                            audio=part.audio, visual=part.visual, query=query
                        )
                    parts.append(costs.float().cpu().numpy())
            return np.concatenate(parts)

        return predict

    def cached(self, predict: Predict) -> Predict:
        """The same function, which computes the costs of every clips and query once."""
        results: dict[Any, Any] = {}

        def once(split: Split, clips: NDArray[np.int64], query: Query) -> Any:
            key = (clips.tobytes(), query)
            if key not in results:
                results[key] = predict(split, clips, query)
            return results[key]

        return once

    _keys = ("a2v", "v2a")

    def predictions(self, predict: Predict, split: Split, classes: int) -> dict[str, list[Any]]:
        """``a2v`` and ``v2a``: the first segment of the chosen window in each usable clip."""
        cases = usable(split, classes)
        return {w: choose(predict, split, cases, modality).tolist() for w, modality in MODALITIES}

    def _truth(self, split: Split, classes: int) -> NDArray[np.int64]:
        return usable(split, classes).start

    def _count_correct(
        self, arrays: Sequence[NDArray[np.int64]], truth: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return np.sum([a == truth for a in arrays], axis=0), np.full_like(truth, len(arrays))

    def evaluate(
        self, predict: Predict, split: Split, classes: int, *, step: float = 1.0, full: bool = True
    ) -> dict[str, float]:
        """Every metric of a matcher, shares in [0, 1]; clips that CML can't use are left out.

        Args:
            predict: The matcher, see :data:`Costs`.
            split: The clips to evaluate on.
            classes: C.
            step: Not used: no metric is in seconds.
            full: False for the windows alone, without ``second``: what training needs.

        Returns:
            ``a2v``, ``v2a``, ``mean_accuracy`` (windows); ``a2v_overlap``, ``v2a_overlap``,
            ``overlap`` (mean IoU of the chosen window); ``a2v_second``, ``v2a_second``,
            ``second``.

        Raises:
            DataError: if no clip of the split can be used.
        """
        cases = usable(split, classes)
        if not len(cases.clip):
            raise DataError(
                f"split {split.name!r} holds no clip for cml",
                expected="clips with one event that is shorter than the clip",
                hint="evaluate on a split that has such clips",
            )
        values: dict[str, float] = {}
        for way, modality in MODALITIES:
            chosen = choose(predict, split, cases, modality)
            overlap = window_overlap(chosen, cases.start, cases.length)
            values[way] = float((chosen == cases.start).mean())
            values[f"{way}_overlap"] = float(overlap.mean())
        values["mean_accuracy"] = (values["a2v"] + values["v2a"]) / 2
        values["overlap"] = (values["a2v_overlap"] + values["v2a_overlap"]) / 2
        if full:
            single = segments(cases)
            for way, modality in MODALITIES:
                correct = choose(predict, split, single, modality) == single.start
                values[f"{way}_second"] = float(correct.mean())
            values["second"] = (values["a2v_second"] + values["v2a_second"]) / 2
        return values

    def details(
        self, predict: Predict, split: Split, classes: Sequence[str], *, step: float = 1.0
    ) -> dict[str, dict[str, float]]:
        """Window accuracy of each event class both ways, and its number of clips."""
        cases = usable(split, len(classes))
        correct = {
            way: choose(predict, split, cases, modality) == cases.start
            for way, modality in MODALITIES
        }
        table: dict[str, dict[str, float]] = {}
        for i, name in enumerate(classes):
            of_class = cases.label == i
            clips = int(of_class.sum())
            row = {w: float(c[of_class].mean()) if clips else np.nan for w, c in correct.items()}
            table[name] = {**row, "clips": clips}
        return table

    def baselines(self, split: Split, classes: int) -> dict[str, float]:
        """Window accuracy of constant windows, the same both ways.

        On AVE's test (PROTOCOL): ``last_window`` 46.77, ``first_window`` 35.32, ``random_window``
        20.77 (its expectation).
        """
        cases = usable(split, classes)
        last = cases.count - cases.length
        return {
            "last_window": float((cases.start == last).mean()),
            "first_window": float((cases.start == 0).mean()),
            "random_window": float((1 / (last + 1)).mean()),
        }


@dataclass(frozen=True)
class Usable:
    """The clips of a split that CML can use: one event each, shorter than the clip.

    Args:
        clip: (n,) positions in the split.
        start, length, count: (n,) the event's first segment and length, the clip's length.
        label: (n,) the event's class.
    """

    clip: NDArray[np.int64]
    start: NDArray[np.int64]
    length: NDArray[np.int64]
    count: NDArray[np.int64]
    label: NDArray[np.int64]


def usable(split: Split, classes: int) -> Usable:
    """The clips of a split with exactly one event, shorter than the clip."""
    runs = event_runs(split.labels, classes)
    single = np.bincount(runs.clip, minlength=len(split))[runs.clip] == 1
    keep = single & (runs.length < split.lengths[runs.clip])
    clip = runs.clip[keep].astype(np.int64)
    return Usable(
        clip, runs.start[keep], runs.length[keep], split.lengths[clip], runs.label[keep]
    )  # fmt: skip


def keep_usable(split: Split, classes: int) -> Split:
    """The split without the clips that CML can't use."""
    return split.subset(usable(split, classes).clip)


def choose(costs: Costs, split: Split, cases: Usable, modality: Modality) -> NDArray[np.int64]:
    """(n,) the start of the window chosen in each case."""
    chosen = np.empty(len(cases.clip), np.int64)
    for members, query in _queries(cases, modality):
        values = costs(split, cases.clip[members], query)
        expected = (len(members), int(cases.count[members[0]]) - query.length + 1)
        if values.shape != expected:
            raise ValueError(f"costs of shape {values.shape}: expected {expected}")
        chosen[members] = best_windows(values)
    return chosen


def _queries(cases: Usable, modality: Modality) -> Iterator[tuple[NDArray[np.int64], Query]]:
    keys = np.stack([cases.start, cases.length, cases.count], 1)
    kinds, kind = np.unique(keys, axis=0, return_inverse=True)
    for i, (start, length, _) in enumerate(kinds.tolist()):
        yield np.nonzero(kind.ravel() == i)[0], Query(modality, start, length)


def segments(cases: Usable) -> Usable:
    """Each event segment as a case of its own, one segment long (xue2021's wording)."""
    which = np.repeat(np.arange(len(cases.clip)), cases.length)
    first = np.repeat(cases.length.cumsum() - cases.length, cases.length)
    start = cases.start[which] + np.arange(len(which)) - first
    return Usable(
        cases.clip[which], start, np.ones_like(start), cases.count[which], cases.label[which]
    )
