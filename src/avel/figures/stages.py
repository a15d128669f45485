"""A second's features before, between and after a model's modules (xue2021 fig. 7).

Nothing is built into the models: forward hooks on their named modules catch what these give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from avel.errors import DataError, unknown_name
from avel.types import Floats

if TYPE_CHECKING:
    from torch import Tensor, nn

    from avel.data.base import Dataset
    from avel.inference.checkpoint import Trained
    from avel.models.base import Batch, Model

Modality = Literal["audio", "visual", "both"]
MODALITIES: tuple[Modality, ...] = ("audio", "visual", "both")
RAW = "raw"


@dataclass(frozen=True)
class Stage:
    """One modality's features at one place of a model.

    Args:
        name: The place, e.g. ``"after CSPA"``; columns of a figure bear it.
        modality: ``"audio"``, ``"visual"``, or ``"both"`` where they are one.
        values: (n, D), a row a segment.
    """

    name: str
    modality: Modality
    values: Floats


@dataclass(frozen=True)
class Staged:
    """The same n segments at every stage.

    Args:
        stages: In the order in which a model goes through them.
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


def staged_features(
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
) -> Staged:
    """Features of a split's segments before and after each module of a run.

    Raw features are the audio as it came and the mean over the picture's regions.

    Args:
        run: A loaded model or its folder, of any task.
        data: A data set with the run's classes and backbones.
        split: The task's test split if None.
        classes: How many of the most frequent classes, or their names.
        background: Whether background segments are expected too.
        limit: Segments at most, drawn evenly from all.
        modules: Names of modules whose output is expected in place of the usual ones, as
            ``network.named_modules()`` has them.
        batch: Clips that go through the network together.
        seed: Of the drawing.

    Raises:
        UsageError: for a module or class that isn't there.
        DataError: if no segment is left, or a module gives no row a segment.
        CheckpointError: if the features are of other backbones than the run was trained on.
    """
    from avel.evaluation.inputs import choose_split, fitting
    from avel.figures.judged import display_name
    from avel.inference.checkpoint import Trained
    from avel.inference.load import load_model
    from avel.training.batches import resident

    trained = run if isinstance(run, Trained) else load_model(run)
    data = fitting(trained, data)
    chosen = choose_split(data, trained.card["task"], split, len(trained.classes))
    expected = _wanted(chosen.labels, trained.classes, classes, background)
    clip, second = _draw(np.isin(chosen.labels, expected), limit, seed)
    places = _places(trained.network, modules)
    held = resident(chosen)
    found: dict[tuple[str, Modality], list[Floats]] = {}
    for i in range(0, len(held), batch):
        inside = (clip >= i) & (clip < i + batch)
        if inside.any():
            own = _batch(held, i, min(i + batch, len(held)))
            at = clip[inside] - i, second[inside]
            for key, values in _through(trained.network, own, places).items():
                found.setdefault(key, []).append(values[at])
    _check_run(places if modules else (), {title for title, _ in found})
    return Staged(
        stages=tuple(Stage(n, s, np.concatenate(rows)) for (n, s), rows in found.items()),
        labels=chosen.labels[clip, second],
        clips=clip,
        classes=trained.classes,
        name=display_name(trained),
        data=f"{data.name}, {chosen.name}",
        simulated=data.simulated or bool(trained.card["data"].get("simulated")),
    )


def _check_run(places: Sequence[_Place], titles: set[str]) -> None:
    """Refuse modules that were asked for and gave nothing."""
    silent = [p.title for p in places if p.title not in titles]
    if silent:
        raise DataError(
            f"{silent[0]}: nothing comes out of it when the model answers",
            expected="a module that is run and gives a tensor",
            hint="choose another module",
        )


def _wanted(
    labels: NDArray[np.int64],
    names: tuple[str, ...],
    classes: int | Sequence[str],
    background: bool,
) -> list[int]:
    if isinstance(classes, int):
        counts = np.bincount(labels[labels >= 0], minlength=len(names) + 1)[: len(names)]
        expected = [int(i) for i in np.argsort(-counts, kind="stable")[:classes]]
    else:
        for name in classes:
            if name not in names:
                raise unknown_name("class", name, names)
        expected = [names.index(name) for name in classes]
    return [*expected, len(names)] if background else expected


def _draw(
    keep: NDArray[np.bool_], limit: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Clip and second of the segments that are drawn, in order."""
    clip, second = np.nonzero(keep)
    if not len(clip):
        raise DataError("no segment of these classes", hint="choose other classes")
    if len(clip) > limit:
        rows = np.sort(np.random.default_rng(seed).permutation(len(clip))[:limit])
        clip, second = clip[rows], second[rows]
    return clip, second


def _batch(held: Any, first: int, stop: int) -> Batch:
    import torch

    rows = torch.arange(first, stop, device=held.lengths.device)
    own: Batch = held.batch(rows, device=torch.device("cpu"))
    return own


@dataclass(frozen=True)
class _Place:
    """A module to be hooked.

    Args:
        module: The module.
        title: What the stage is called.
        modalities: Of the tensors it gives, in order; None for one that isn't expected.
    """

    module: nn.Module
    title: str
    modalities: tuple[Modality | None, ...]


def _places(network: Model, modules: Sequence[str]) -> list[_Place]:
    """The modules asked for, or all whose kind says that they end a stage."""
    from avel.models.av import Single

    named = dict(network.named_modules())
    if modules:
        for name in modules:
            if not name or name not in named:
                raise unknown_name("module", name, [n for n in named if n])
        return [_Place(named[n], f"after {n}", (_modality(n),)) for n in modules]
    found = []
    for name, module in named.items():
        kind, modalities = _kind(name, module)
        above = named[name.rpartition(".")[0]]
        if modalities and isinstance(above, Single):  # one modality alone, which it says itself
            modalities = ("audio" if above.sound else "visual",)
        if modalities:
            found.append(_Place(module, f"after {_title(name, kind)}", modalities))
    return found


def _kind(name: str, module: nn.Module) -> tuple[str, tuple[Modality | None, ...]]:
    """What ends a stage: attention, re-representation, recurrent networks, towers."""
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
    """``BiLSTM``, ``GRU``…: what a recurrent brick holds."""
    from torch import nn

    held = next((m for m in module.modules() if isinstance(m, nn.RNNBase)), None)
    return "" if held is None else "Bi" * held.bidirectional + held.mode.partition("_")[0]


def _modality(name: str) -> Modality:
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
def _hooked(places: Sequence[_Place], take: Callable[[_Place, Any], None]) -> Iterator[None]:
    handles = [
        p.module.register_forward_hook(lambda _m, _i, out, p=p: take(p, out)) for p in places
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _through(
    network: Model, batch: Batch, places: Sequence[_Place]
) -> dict[tuple[str, Modality], Floats]:
    """(B, T, D) of every stage and modality, raw features first."""
    import torch

    b, t = batch.audio.shape[:2]
    found: dict[tuple[str, Modality], Floats] = {
        (RAW, "audio"): batch.audio.float().numpy(),
        (RAW, "visual"): batch.visual.float().mean((2, 3)).numpy(),
    }

    def take(place: _Place, out: Any) -> None:
        tensors = out if isinstance(out, tuple) else (out,)
        for modality, tensor in zip(place.modalities, tensors, strict=False):
            if modality is not None and isinstance(tensor, torch.Tensor):
                found[place.title, modality] = _per_segment(tensor, b, t, place.title)

    with _hooked(places, take), torch.inference_mode():
        network.eval()(audio=batch.audio, visual=batch.visual.float(), mask=batch.mask)
    return found


def _per_segment(tensor: Tensor, b: int, t: int, title: str) -> Floats:
    """What a module gave as (B, T, D): a row a segment, what it has of regions side by side."""
    import torch

    held = tensor.detach().float().cpu()
    if held.ndim >= 3 and held.shape[0] == b and held.shape[1] >= t and held[0, 0].ndim == 1:
        return held[:, :t].numpy()
    if held.ndim == 4 and held.shape[:3] == (b, t, t):  # all pairs of segments: the aligned ones
        every = torch.arange(t)
        return held[:, every, every].numpy()
    if held.numel() and held.shape[0] == b * t:
        return held.reshape(b, t, -1).numpy()
    raise DataError(
        f"{title}: a tensor of shape {tuple(held.shape)} for {b} clips of {t} segments",
        expected="a row a segment",
        hint="choose another module",
    )
