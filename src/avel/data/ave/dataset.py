"""The published AVE data set (Tian et al., ECCV 2018): its files, as a person has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from avel.data.ave.files import (
    ANNOTATIONS,
    AUDIO,
    AUDIO_MAPS,
    AUDIO_MAPS_NOISY,
    AUDIO_NOISY,
    C3D,
    C3D_NOISY,
    LABELS_NOISY,
    ORDERS,
    SECONDS,
    TEXTS,
    VISUAL,
    VISUAL_NOISY,
    VISUAL_VECTOR,
    AveRow,
    Remote,
    class_order,
    find,
    need,
    read_annotations,
    read_small,
    split_rows,
)
from avel.data.ave.labels import compare_labels, second_labels, video_tags
from avel.data.ave.store import Beside, Dtype, store_folder, stored
from avel.data.base import Dataset, Split
from avel.data.rendered import read_card
from avel.errors import DataError, all_at_once
from avel.files import json_hash
from avel.progress import Progress, terminal_progress
from avel.types import Json

Memory = Literal["mmap", "ram"]
Audio = Literal["vector", "maps"]
Visual = Literal["maps", "vector", "maps+c3d", "vector+c3d"]
#: What `avel synth-features` leaves beside the files it makes.
MARKER = "SIMULATED.json"
#: Of the simulation: another number, other features of the same seed and knobs.
ARITHMETIC = 2


def load(
    root: str | Path,
    *,
    dtype: Dtype = "float16",
    memory: Memory = "mmap",
    audio: Audio = "vector",
    visual: Visual = "maps",
    store: str | Path | None = None,
    labels_only: bool = False,
    progress: Progress | None = None,
) -> Dataset:
    """A folder of the AVE release as a data set.

    The features are copied once into a compact store (see :mod:`avel.data.ave.store`) which all
    splits share through ``Split.rows``. Labels come from the annotations; label files that are
    there are compared with them and the outcome stands in ``Dataset.note``.

    Args:
        root: The folder; files may also lie in its ``data`` or ``AVE_Dataset``.
        dtype: Of the store.
        memory: ``"mmap"`` reads rows when they are used; ``"ram"`` reads all (2.1 GB in float16).
        audio: ``"vector"`` (N, 10, 128), or ``"maps"``: VGGish's last pooling (audio_maps.h5, not
            in the release) region by region, (N, 10, 6*4*512), for the `amaps` inputs of `av`.
        visual: ``"maps"`` (N, 10, 7, 7, 512), or ``"vector"``: the release's means over the
            picture (visual_feature_vec.h5) as maps of one region, (N, 10, 1, 1, 512). ``"+c3d"``
            puts C3D's vector (c3d_feature.h5, not in the release) behind the other channels, the
            same in every region: 1024 channels, what `av` reads as its `c3d` inputs.
        store: Folder of the store; ``root/.avel``, or the cache where that can't be written.
        labels_only: Features of width 0 that take no memory, for answers that need none.
        progress: Called with (rows done, rows in all) while the store is written; a bar on the
            terminal where None.

    Returns:
        Splits ``train``, ``val``, ``test``, where their order files are there ``cml_train``,
        ``cml_val``, ``cml_test``, and where all three noisy files are there the background clips
        of the weak setting as ``background``. Ids are ``<annotation row>:<video id>``; the
        recordings are the videos, of which 45 stand under two or three categories.

    Raises:
        UsageError: for options that don't exist.
        DataError: if files are missing (each with address and size), damaged, or don't fit.
    """
    _check_options(dtype=dtype, memory=memory, audio=audio, visual=visual)
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root} is no folder", hint="name the folder of AVE's files")
    files = _files(audio, visual)
    annotations = _need_all(root, () if labels_only else files)
    rows = read_annotations(annotations)
    orders = split_rows(root, rows)
    store_path = Path(store) if store else store_folder(root)
    arrays = _Arrays(root, store_path, dtype, memory, audio, visual, progress)
    sounds, maps = arrays.clips(() if labels_only else files, len(rows), SECONDS)
    seconds = sounds.shape[1]
    all_rows = Split(
        name="all",
        ids=tuple(f"{i}:{row.video}" for i, row in enumerate(rows)),
        audio=sounds,
        visual=maps,
        lengths=np.full(len(rows), seconds, np.int64),
        labels=second_labels(rows, seconds),
        tags=video_tags(rows),
    )
    splits = {name: all_rows.subset(order, name=name) for name, order in orders.items()}
    splits |= _background(root, rows, arrays, labels_only=labels_only, seconds=seconds)
    simulation = _simulation(root)
    simulated = simulation is not None
    return Dataset(
        name="ave",
        classes=class_order(rows),
        splits=splits,
        audio_card=_card("audio", sounds.shape[2:], simulated, audio),
        visual_card=_card("visual", maps.shape[2:], simulated, visual),
        simulated=simulated,
        note=_note(root, rows, simulation),
        notes=_outdated(root, simulation),
        recordings=dict(zip(all_rows.ids, (row.video for row in rows), strict=True)),
        origin=""
        if simulation is None
        else json_hash({k: v for k, v in simulation.items() if k != "avel"}),
    )


def _simulation(root: Path) -> Json | None:
    """What a folder's features were simulated with, None where they weren't."""
    marker = find(root, MARKER)
    return None if marker is None else read_card(marker)


def _outdated(root: Path, simulation: Json | None) -> tuple[str, ...]:
    """What to do with features that an earlier version simulated."""
    if simulation is None or simulation.get("arithmetic") == ARITHMETIC:
        return ()
    scale, seed = simulation.get("scale", 1.0), simulation.get("seed", 0)
    return (
        f"{root} was simulated by another version, whose sounds differ: results on it can't be "
        "compared with those of this version's; to write it again: avel synth-features FOLDER "
        f"--labels LABELS --scale {scale} --seed {seed}",
    )


def _files(audio: Audio, visual: Visual, *, noisy: bool = False) -> tuple[Remote, ...]:
    """The files of the sound, of the picture, and where requested of C3D."""
    if noisy:
        sound, sight, moving = AUDIO_NOISY, VISUAL_NOISY, C3D_NOISY
    else:
        sound, moving = AUDIO, C3D
        sight = VISUAL if visual.startswith("maps") else VISUAL_VECTOR
    if audio == "maps":
        sound = AUDIO_MAPS_NOISY if noisy else AUDIO_MAPS
    return (sound, sight, moving) if visual.endswith("+c3d") else (sound, sight)


def _need_all(root: Path, files: Sequence[Remote]) -> Path:
    """The annotations, once everything that can't be done without is there."""
    parts = [n for n in TEXTS if find(root, TEXTS[n]) is None]
    return need(root, [ANNOTATIONS, *(ORDERS[n] for n in parts), *files])[0]


def _check_options(**options: str) -> None:
    known = {
        "dtype": get_args(Dtype), "memory": get_args(Memory), "audio": get_args(Audio),
        "visual": get_args(Visual),
    }  # fmt: skip
    mistakes = [
        f"{name}={options[name]!r}: expected {' or '.join(values)}"
        for name, values in known.items()
        if options[name] not in values
    ]
    if mistakes:
        raise all_at_once("data ave", mistakes)


@dataclass(frozen=True)
class _Arrays:
    """How feature files are opened."""

    root: Path
    store: Path
    dtype: Dtype
    memory: Memory
    audio: Audio
    visual: Visual
    progress: Progress | None

    def clips(
        self, files: Sequence[Remote], count: int, seconds: int
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Audio (N, T, A) and visual (N, T, H, W, V) of so many clips; of no file, of width 0."""
        if not files:
            return _empty(count, seconds)
        audio, maps = self._pair(files)
        _check_shapes(self.root, audio, maps, count=count)
        return audio, maps

    def _pair(self, files: Sequence[Remote]) -> tuple[NDArray[Any], NDArray[Any]]:
        """What the files that :func:`_files` names hold, in these shapes."""
        sound, sight, *more = (self._open(path) for path in need(self.root, files))
        if sound.ndim == 5:  # maps of the sound: region by region, channels fastest
            sound = sound.reshape(*sound.shape[:2], -1)
        if sight.ndim == 3:  # means over the picture: a map of one region
            sight = sight[:, :, None, None, :]
        elif sight.ndim == 5 and self.visual.startswith("vector"):  # the background clips have none
            sight = np.asarray(sight, np.float32).mean((2, 3), keepdims=True).astype(sight.dtype)
        for moving in more:
            _check_beside(self.root, sight, moving)
            sight = cast(NDArray[Any], Beside(sight, moving[:, :, None, None, :]))
        return sound, sight

    def _open(self, path: Path) -> NDArray[Any]:
        if self.progress:
            array = stored(path, self.store, dtype=self.dtype, progress=self.progress)
        else:
            with terminal_progress(f"copying {path.name}") as progress:
                array = stored(path, self.store, dtype=self.dtype, progress=progress)
        return np.array(array) if self.memory == "ram" else array


def _check_shapes(root: Path, audio: NDArray[Any], maps: NDArray[Any], *, count: int) -> None:
    fit = audio.ndim == 3 and maps.ndim == 5 and audio.shape[:2] == maps.shape[:2]
    if not fit or len(audio) != count or 0 in audio.shape or 0 in maps.shape:
        raise DataError(
            f"features in {root} have the shapes {audio.shape} and {maps.shape}",
            expected=f"({count}, T, A) and ({count}, T, H, W, V) for the {count} annotation rows",
            hint="take features and annotations from one release",
        )


def _check_beside(root: Path, sight: NDArray[Any], moving: NDArray[Any]) -> None:
    if moving.ndim != 3 or sight.ndim != 5 or moving.shape[:2] != sight.shape[:2]:
        raise DataError(
            f"C3D's features in {root} have the shape {moving.shape}",
            expected=f"({', '.join(map(str, sight.shape[:2]))}, V), the clips and seconds of the "
            "visual features",
            hint="make them for the same annotations",
        )


def _empty(count: int, seconds: int) -> tuple[NDArray[Any], NDArray[Any]]:
    return np.zeros((count, seconds, 0), np.float16), np.zeros(
        (count, seconds, 0, 0, 0), np.float16
    )


def _card(modality: str, shape: tuple[int, ...], simulated: bool, kind: str) -> Json:
    """The card that features of the release bear: of simulated ones, or of the backbone.

    What isn't in the release says so by an empty hash: nobody knows of which weights it is.
    """
    from avel.backbones.vgg19 import VGG19
    from avel.backbones.vggish import VGGish

    backbone = VGGish if modality == "audio" else VGG19
    card = backbone.describe(next(iter(backbone.weights.values()))) | {"output": list(shape)}
    name = card["name"]
    if modality == "visual" and kind.startswith("vector") and not simulated:
        name += "-mean"
    if kind.endswith("+c3d"):
        name, card = f"{name}+c3d", card | {"weights": "", "hash": ""}
    elif (modality, kind) == ("audio", "maps"):
        name, card = "vggish_maps", card | {"weights": "", "hash": ""}
    if simulated:
        return card | {"name": f"simulated-{name}", "weights": "", "hash": ""}
    if name != card["name"]:
        return card | {"name": name}
    if 0 not in shape and tuple(shape) != backbone.card.output:
        return card | {"name": "unknown", "weights": "", "hash": ""}
    return card


def _background(
    root: Path, rows: Sequence[AveRow], arrays: _Arrays, *, labels_only: bool, seconds: int
) -> dict[str, Split]:
    """The background clips of the weak setting, where their files are there."""
    files = _files(arrays.audio, arrays.visual, noisy=True)
    expected = [LABELS_NOISY, *(() if labels_only else files)]
    if any(find(root, file.name) is None for file in expected):
        return {}
    width = len(class_order(rows)) + 1
    tags = read_small(cast(Path, find(root, LABELS_NOISY.name))).astype(np.float32)
    audio, maps = arrays.clips(() if labels_only else files, len(tags), seconds)
    if tags.shape != (len(tags), width) or not (tags.argmax(1) == width - 1).all():
        raise DataError(
            f"{LABELS_NOISY.name} in {root} has the shape {tags.shape} or other tags",
            expected=f"(N, {width}), all background",
        )
    labels = np.full(audio.shape[:2], width - 1, np.int64)
    lengths = np.full(len(tags), audio.shape[1], np.int64)
    ids = tuple(f"background:{i}" for i in range(len(tags)))
    return {"background": Split("background", ids, audio, maps, lengths, labels, tags)}


def _note(root: Path, rows: Sequence[AveRow], simulation: Json | None) -> str:
    parts = [f"AVE release, {len(rows)} annotations"]
    if simulation is not None:
        parts.append(
            f"SIMULATED features (seed {simulation.get('seed')}, scale {simulation.get('scale')})"
        )
    compared = compare_labels(root, rows)
    same = [c.name for c in compared if c.different is not None and not len(c.different)]
    if same:
        parts.append(f"{', '.join(same)} agree with the annotations")
    different = [str(c) for c in compared if c.name not in same]
    if different:
        parts.append(f"labels are those of the annotations, since {'; '.join(different)}")
    return "; ".join(parts)
