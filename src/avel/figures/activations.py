"""Features of segments before, between and after a model's modules (xue2021 fig. 7).

Forward hooks on a model's named modules collect their outputs; the models know nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from avel.errors import DataError, unknown_name
from avel.types import EventModality, Floats

if TYPE_CHECKING:
    from torch import Tensor, nn

    from avel.data.base import Dataset
    from avel.inference.checkpoint import Trained
    from avel.models.base import Batch, Model

MODALITIES: tuple[EventModality, ...] = ("audio", "visual", "both")
RAW = "raw"


@dataclass(frozen=True)
class Stage:
    """One modality's features at one stage of a model.

    Args:
        name: E.g. ``"after CSPA"``; the title of a figure's column.
        modality: ``"audio"``, ``"visual"``, or ``"both"`` where they are fused.
        values: (n, D), a row a segment.
    """

    name: str
    modality: EventModality
    values: Floats


@dataclass(frozen=True)
class Activations:
    """The same n segments at every stage.

    Args:
        stages: In the order in which the model runs them.
        labels: (n,) true class ids, C for background.
        clips: (n,) position of each segment's clip in the split.
        classes: The C event names.
        name, data: Of the model and of the data, for titles.
        simulated: True where the features are simulated.
    """

    stages: tuple[Stage, ...]
    labels: NDArray[np.int64]
    clips: NDArray[np.int64]
    classes: tuple[str, ...]
    name: str = ""
    data: str = ""
    simulated: bool = False


def collect_activations(
    run: Trained | str | Path,
    data: Dataset,
    *,
    split: str | None = None,
    classes: int | Sequence[str] = 7,
    background: bool = False,
    limit: int = 1500,
    modules: Sequence[str] = (),
    batch: int = 64,
    seed: int = 0,
) -> Activations:
    """Features of a split's segments before and after each module of a run.

    Raw features are the audio features, and the mean of the visual features over regions.

    Args:
        run: A loaded model or its folder, of any task.
        data: A data set with the run's classes and backbones.
        split: The task's test split if None.
        classes: How many of the most frequent classes, or their names.
        background: Whether background segments are taken too.
        limit: Segments at most, drawn at random from all.
        modules: Names, as in ``network.named_modules()``, of the modules to hook in place of the
            usual ones.
        batch: Clips that go through the network together.
        seed: Of the random draw.

    Raises:
        UsageError: for an unknown module or class.
        DataError: if no segment is left, or a module's output has no row a segment.
        CheckpointError: if the features are of other backbones than the run was trained on.
    """
    from avel.data.resident import resident
    from avel.figures.predictions import loaded_run, run_split

    trained = loaded_run(run)
    chosen, titles = run_split(trained, data, split)
    class_ids = _class_ids(chosen.labels, trained.classes, classes, background)
    clip, segment = _draw(np.isin(chosen.labels, class_ids), limit, seed)
    hooks = _hooks(trained.network, modules)
    inputs = resident(chosen)
    outputs: dict[tuple[str, EventModality], list[Floats]] = {}
    for i in range(0, len(inputs), batch):
        inside = (clip >= i) & (clip < i + batch)
        if inside.any():
            batch_inputs = _batch(inputs, i, min(i + batch, len(inputs)))
            at = clip[inside] - i, segment[inside]
            for key, values in _forward(trained.network, batch_inputs, hooks).items():
                outputs.setdefault(key, []).append(values[at])
    _check_outputs(hooks if modules else (), {title for title, _ in outputs})
    return Activations(
        stages=tuple(Stage(n, s, np.concatenate(rows)) for (n, s), rows in outputs.items()),
        labels=chosen.labels[clip, segment],
        clips=clip,
        classes=trained.classes,
        **titles,
    )


def _check_outputs(hooks: Sequence[_Hook], titles: set[str]) -> None:
    """Refuse requested modules that the forward pass didn't run."""
    silent = [p.title for p in hooks if p.title not in titles]
    if silent:
        raise DataError(
            f"{silent[0]}: the forward pass gives no output of this module",
            expected="a module that is run and returns a tensor",
            hint="choose another module",
        )


def _class_ids(
    labels: NDArray[np.int64],
    names: tuple[str, ...],
    classes: int | Sequence[str],
    background: bool,
) -> list[int]:
    if isinstance(classes, int):
        counts = np.bincount(labels[labels >= 0], minlength=len(names) + 1)[: len(names)]
        class_ids = [int(i) for i in np.argsort(-counts, kind="stable")[:classes]]
    else:
        for name in classes:
            if name not in names:
                raise unknown_name("class", name, names)
        class_ids = [names.index(name) for name in classes]
    return [*class_ids, len(names)] if background else class_ids


def _draw(
    keep: NDArray[np.bool_], limit: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Clip and segment indices of the drawn segments, in order."""
    clip, segment = np.nonzero(keep)
    if not len(clip):
        raise DataError("no segment of these classes", hint="choose other classes")
    if len(clip) > limit:
        rows = np.sort(np.random.default_rng(seed).permutation(len(clip))[:limit])
        clip, segment = clip[rows], segment[rows]
    return clip, segment


def _batch(inputs: Any, first: int, stop: int) -> Batch:
    import torch

    rows = torch.arange(first, stop, device=inputs.lengths.device)
    batch: Batch = inputs.batch(rows, device=torch.device("cpu"))
    return batch


@dataclass(frozen=True)
class _Hook:
    """A module whose output is collected.

    Args:
        module: The module.
        title: The stage's name.
        modalities: Of the tensors that it returns, in order; None for one that is ignored.
    """

    module: nn.Module
    title: str
    modalities: tuple[EventModality | None, ...]


def _hooks(network: Model, modules: Sequence[str]) -> list[_Hook]:
    """The requested modules, or all whose class ends a stage."""
    from avel.models.av import Single

    named = dict(network.named_modules())
    if modules:
        for name in modules:
            if not name or name not in named:
                raise unknown_name("module", name, [n for n in named if n])
        return [_Hook(named[n], f"after {n}", (_modality(n),)) for n in modules]
    hooks = []
    for name, module in named.items():
        kind, modalities = _kind(name, module)
        above = named[name.rpartition(".")[0]]
        if modalities and isinstance(above, Single):  # one modality alone; the parent says which
            modalities = ("audio" if above.sound else "visual",)
        if modalities:
            hooks.append(_Hook(module, f"after {_title(name, kind)}", modalities))
    return hooks


def _kind(name: str, module: nn.Module) -> tuple[str, tuple[EventModality | None, ...]]:
    """What kind of stage a module ends, and the modalities of its outputs."""
    from avel.models.coattention import CSEA, CSPA
    from avel.models.jca import Layer
    from avel.models.layers import AVGA, BiLSTM
    from avel.models.recurrent import Recurrent

    if isinstance(module, CSPA | CSEA | Layer):
        return "", ("audio", "visual")
    if isinstance(module, AVGA):
        return "attention", ("audio" if "listen" in name else "visual",)
    if isinstance(module, BiLSTM | Recurrent):
        inside = name.partition(".")[0] in ("audio_whole", "visual_whole")  # of a whole clip
        return _network_name(module), () if inside else (_modality(name),)
    if name.removesuffix("_in").removesuffix("_net") in ("audio", "visual"):
        return "projection", (_modality(name),)
    return "", ()


def _network_name(module: nn.Module) -> str:
    """``BiLSTM``, ``GRU``…: the recurrent network inside a module."""
    from torch import nn

    recurrent = next((m for m in module.modules() if isinstance(m, nn.RNNBase)), None)
    return (
        ""
        if recurrent is None
        else "Bi" * recurrent.bidirectional + recurrent.mode.partition("_")[0]
    )


def _modality(name: str) -> EventModality:
    return "audio" if "audio" in name else "visual" if "visual" in name else "both"


def _title(name: str, kind: str) -> str:
    """``streams.cspa.audio_lstm`` -> ``CSPA's BiLSTM``; ``layers.1`` -> ``co-attention 2``."""
    parts = name.split(".")
    if parts[0] == "layers" and len(parts) == 2:
        return f"co-attention {int(parts[1]) + 1}"
    if parts[0] == "streams":
        stream = parts[1].upper() if parts[1] != "raw" else "mean"
        return f"{stream}'s {kind}" if kind else stream
    where = parts[0].removeprefix("audio_").removeprefix("visual_")
    known = {"joint": "joint ", "encoder": "encoder ", "decoder": "decoder "}
    return known.get(where, "") + kind


@contextmanager
def _hooked(hooks: Sequence[_Hook], take: Callable[[_Hook, Any], None]) -> Iterator[None]:
    handles = [p.module.register_forward_hook(lambda _m, _i, out, p=p: take(p, out)) for p in hooks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _forward(
    network: Model, batch: Batch, hooks: Sequence[_Hook]
) -> dict[tuple[str, EventModality], Floats]:
    """(B, T, D) of every stage and modality, raw features first."""
    import torch

    b, t = batch.audio.shape[:2]
    outputs: dict[tuple[str, EventModality], Floats] = {
        (RAW, "audio"): batch.audio.float().numpy(),
        (RAW, "visual"): batch.visual.float().mean((2, 3)).numpy(),
    }

    def take(hook: _Hook, out: Any) -> None:
        tensors = out if isinstance(out, tuple) else (out,)
        for modality, tensor in zip(hook.modalities, tensors, strict=False):
            if modality is not None and isinstance(tensor, torch.Tensor):
                outputs[hook.title, modality] = _per_segment(tensor, b, t, hook.title)

    with _hooked(hooks, take), torch.inference_mode():
        network.eval()(audio=batch.audio, visual=batch.visual.float(), mask=batch.mask)
    return outputs


def _per_segment(tensor: Tensor, b: int, t: int, title: str) -> Floats:
    """A module's output as (B, T, D): a row a segment, its regions concatenated."""
    import torch

    values = tensor.detach().float().cpu()
    if (
        values.ndim >= 3
        and values.shape[0] == b
        and values.shape[1] >= t
        and values[0, 0].ndim == 1
    ):
        return values[:, :t].numpy()
    if values.ndim == 4 and values.shape[:3] == (
        b,
        t,
        t,
    ):  # all pairs of segments: the aligned ones
        segments = torch.arange(t)
        return values[:, segments, segments].numpy()
    if values.numel() and values.shape[0] == b * t:
        return values.reshape(b, t, -1).numpy()
    raise DataError(
        f"{title}: a tensor of shape {tuple(values.shape)} for {b} clips of {t} segments",
        expected="a row a segment",
        hint="choose another module",
    )
