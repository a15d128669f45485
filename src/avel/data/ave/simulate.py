"""Writes a folder of simulated AVE: features of the release's layout on its real labels."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avel._version import __version__
from avel.data.ave.dataset import ARITHMETIC, MARKER
from avel.data.ave.files import (
    ANNOTATIONS,
    AUDIO,
    AUDIO_MAPS,
    AUDIO_MAPS_NOISY,
    AUDIO_NOISY,
    C3D,
    C3D_NOISY,
    CLOSS_LABELS,
    KEY,
    LABELS_NOISY,
    MIL_LABELS,
    ORDER_KEY,
    ORDERS,
    SECONDS,
    VISUAL,
    VISUAL_NOISY,
    VISUAL_VECTOR,
    AveRow,
    Rows,
    class_order,
    need,
    read_annotations,
    split_rows,
)
from avel.data.ave.labels import event_seconds, video_tags
from avel.data.ave.synth_extras import (
    EXTRAS,
    MAPS,
    MOTION,
    Extra,
    ExtraKnobs,
    make_extra,
    make_extra_world,
)
from avel.data.ave.synth_features import (
    AUDIO_WIDTH,
    SIDE,
    VISUAL_WIDTH,
    Knobs,
    SimulatedScene,
    make_clip,
    make_scene,
    make_world,
)
from avel.errors import DataError, UsageError, unknown_name
from avel.files import whole, write_whole
from avel.progress import Progress
from avel.types import Json

#: Background clips of the release's weak setting for each of its annotation rows.
NOISY = 178 / 4143
#: The files of each extra, of the clips and of the background clips, and its shape.
_EXTRA: dict[Extra, tuple[str, str, tuple[int, ...]]] = {
    "audio_maps": (AUDIO_MAPS.name, AUDIO_MAPS_NOISY.name, MAPS),
    "c3d": (C3D.name, C3D_NOISY.name, MOTION),
}
_FEATURES = (
    AUDIO, VISUAL, VISUAL_VECTOR, AUDIO_NOISY, VISUAL_NOISY, AUDIO_MAPS, AUDIO_MAPS_NOISY, C3D,
    C3D_NOISY,
)  # fmt: skip
_BLOCK = 16


@dataclass(frozen=True)
class _Source:
    """A clip to be made: its random numbers' name, class, event, and whether it may be audible."""

    number: int
    category: int
    event: tuple[int, int]
    audible: bool = True


def simulate(
    target: str | Path,
    *,
    labels: str | Path,
    scale: float = 1.0,
    seed: int = 0,
    knobs: Knobs | None = None,
    extras: Collection[Extra] = (),
    progress: Progress | None = None,
) -> int:
    """Write a folder of simulated AVE.

    At a scale below 1 it holds all validation and test rows of SEL, and of the other annotation
    rows that share, drawn evenly over classes and both partitions, in the release's order; the
    order files number the rows that are left, and Annotations.txt has fewer lines. A clip's
    features are the same at every scale.

    Args:
        target: The folder; other simulated files in it are replaced.
        labels: A folder with the release's Annotations.txt and order files.
        scale: Share of the rows that are no validation or test rows of SEL, in (0, 1].
        seed: Same seed, same bytes.
        knobs: How hard it is; the defaults if None (benchmarks/simulation_misfit.py fits them).
        extras: What the release lacks and tian2018's supplement reads: ``"audio_maps"``, VGGish's
            last pooling (2 GB of float32 at full scale), ``"c3d"``, C3D's vectors. With or
            without, the other files are the same.
        progress: Called with (clips done, clips in all).

    Returns:
        How many annotated clips it wrote.

    Raises:
        UsageError: for a scale at which a class or a split would vanish, or an unknown extra.
        DataError: if labels are missing, or the folder holds features that aren't simulated.
    """
    target, knobs, own = Path(target), knobs or Knobs(), ExtraKnobs()
    _check(scale, extras)
    (annotations,) = need(labels, [ANNOTATIONS])
    rows = read_annotations(annotations)
    splits = split_rows(labels, rows)
    rows_taken = subset(rows, splits, scale)
    _refuse_real(target)
    in_place = target.resolve() == Path(labels).resolve()
    if in_place and scale != 1:
        raise UsageError(
            f"scale {scale} would thin out the labels in {target}", hint="name another folder"
        )
    _mark(target, seed=seed, scale=scale, knobs=knobs, extras=extras, own=own)
    if not in_place:
        _write_labels(target, [rows[i] for i in rows_taken], splits, rows_taken)
    classes = class_order(rows)
    sources = [
        _Source(int(i), classes.index(rows[i].category), (rows[i].start, min(rows[i].end, SECONDS)))
        for i in rows_taken
    ]
    count = max(1, round(NOISY * len(sources)))
    noisy = [_Source(2**30 + i, i % len(classes), (0, 0), audible=False) for i in range(count)]
    total = (1 + len(extras)) * (len(sources) + len(noisy))
    _write_all(
        target, sources, noisy, _Simulation(seed, len(classes), knobs, own, total, progress), extras
    )
    tags = np.zeros((count, len(classes) + 1), np.float32)
    tags[:, -1] = 1
    _write_array(target / LABELS_NOISY.name, tags)
    return len(sources)


def _check(scale: float, extras: Collection[Extra]) -> None:
    for extra in extras:
        if extra not in EXTRAS:
            raise unknown_name("extra", extra, EXTRAS)
    if not 0 < scale <= 1:
        raise UsageError(f"scale {scale}", expected="a share in (0, 1]")


def subset(rows: Sequence[AveRow], splits: Mapping[str, Rows], scale: float) -> Rows:
    """The annotation rows that a scale keeps, ascending.

    Every 1/scale-th row of the list sorted by class, SEL split and CML split, and all of SEL's
    validation and test rows: what is trained on few clips is evaluated on as many as at full scale.

    Raises:
        UsageError: if a class, or a class of SEL's training split, or a split would be empty.
    """
    if scale == 1:
        return np.arange(len(rows))
    classes = class_order(rows)
    category = np.array([classes.index(row.category) for row in rows])
    names = list(splits)
    part = np.full((2, len(rows)), -1)
    for i, name in enumerate(names):
        part[int(name.startswith("cml")), splits[name]] = i
    ordered = np.lexsort((np.arange(len(rows)), part[1], part[0], category))
    take = np.floor((np.arange(max(1, round(scale * len(rows)))) + 0.5) / scale).astype(np.int64)
    chosen = np.sort(ordered[np.minimum(take, len(rows) - 1)])
    in_train = set(category[np.intersect1d(chosen, splits["train"])].tolist())
    empty = [name for name in names if not np.isin(splits[name], chosen).any()]
    if len(in_train) < len(classes) or empty or len(np.unique(chosen)) < len(chosen):
        raise UsageError(
            f"scale {scale} leaves {len(chosen)} rows, of {len(in_train)} classes in train"
            + (f", and none in {', '.join(empty)}" if empty else ""),
            expected="all classes in train and a clip in every split",
            hint="take a larger scale",
        )
    return np.union1d(chosen, np.concatenate([splits["val"], splits["test"]]))


def _refuse_real(target: Path) -> None:
    there = [f.name for f in _FEATURES if (target / f.name).exists()]
    if there and not (target / MARKER).exists():
        raise DataError(
            f"{target} holds {', '.join(there)}, and nothing says that they are simulated",
            expected="an empty folder, or one with simulated files",
            hint="name another folder",
        )


def _mark(
    target: Path, *, seed: int, scale: float, knobs: Knobs, extras: Collection[Extra],
    own: ExtraKnobs,
) -> None:  # fmt: skip
    """Before anything else, so that no unfinished folder is taken for the release."""
    made: Json = {
        "what": "features simulated by `avel synth-features` on AVE's real labels",
        "seed": seed,
        "scale": scale,
        "knobs": asdict(knobs),
        "arithmetic": ARITHMETIC,
        "avel": __version__,
    }
    if extras:
        made |= {"extras": sorted(extras), "extra_knobs": asdict(own)}
    write_whole(target / MARKER, json.dumps(made, indent=2) + "\n")


def _write_labels(
    target: Path, rows: Sequence[AveRow], splits: Mapping[str, Rows], chosen: Rows
) -> None:
    lines = (f"{r.category}&{r.video}&{r.quality}&{r.start}&{r.end}\n" for r in rows)
    write_whole(target / ANNOTATIONS.name, "".join(lines))
    for name, members in splits.items():
        order = np.searchsorted(chosen, members[np.isin(members, chosen)])
        _write_array(target / ORDERS[name].name, order.astype(np.int64), ORDER_KEY)
    _write_array(target / MIL_LABELS.name, video_tags(rows))
    _write_array(target / CLOSS_LABELS.name, event_seconds(rows))


def _write_array(path: Path, values: NDArray[np.generic], key: str = KEY) -> None:
    import h5py

    with whole(path) as temporary, h5py.File(temporary, "w") as f:
        f.create_dataset(key, data=values, track_times=False)


@dataclass
class _Simulation:
    """What making a clip takes, and how far the whole has come."""

    seed: int
    classes: int
    knobs: Knobs
    own: ExtraKnobs
    total: int
    progress: Progress | None
    done: int = 0

    def blocks(
        self, sources: Sequence[_Source]
    ) -> Iterator[tuple[slice, Sequence[NDArray[np.float32]]]]:
        """Where they go, audio (n, T, 128), visual (n, T, 7, 7, 512) and its mean over regions."""
        world = make_world(self.seed, self.classes, self.knobs)
        for where, part in self._parts(sources):
            clips = [make_clip(*self._scene(source), world, self.knobs) for source in part]
            audio, visual = (np.stack(arrays) for arrays in zip(*clips, strict=True))
            yield where, (audio, visual, visual.mean(axis=(2, 3)))

    def extra(
        self, sources: Sequence[_Source], extra: Extra
    ) -> Iterator[tuple[slice, Sequence[NDArray[np.float32]]]]:
        """Where they go, and one of the extras of those clips."""
        world = make_extra_world(extra, self.seed, self.classes, self.knobs, self.own)
        for where, part in self._parts(sources):
            yield where, [np.stack([
                make_extra(extra, self.seed, s.number, self._scene(s)[1], world, self.own)
                for s in part
            ])]  # fmt: skip

    def _parts(self, sources: Sequence[_Source]) -> Iterator[tuple[slice, Sequence[_Source]]]:
        for start in range(0, len(sources), _BLOCK):
            part = sources[start : start + _BLOCK]
            yield slice(start, start + len(part)), part
            self.done += len(part)
            if self.progress:
                self.progress(self.done, self.total)

    def _scene(self, source: _Source) -> tuple[np.random.Generator, SimulatedScene]:
        """What happens in a clip, and the clip's own random numbers from there on."""
        rng = np.random.default_rng([self.seed, source.number])
        scene = make_scene(rng, source.category, source.event, self.classes, self.knobs)
        if not source.audible:  # a background video: its sound is background alone
            scene = replace(scene, audio=np.zeros_like(scene.audio))
        return rng, scene


def _write_all(
    target: Path, sources: Sequence[_Source], noisy: Sequence[_Source], work: _Simulation,
    extras: Collection[Extra],
) -> None:  # fmt: skip
    """Every feature file; extras of an earlier set that aren't requested are deleted.

    Features are float64, as the release has them; extras float32, as no file of it asks for more.
    """
    shapes = {AUDIO.name: (AUDIO_WIDTH,), VISUAL.name: (SIDE, SIDE, VISUAL_WIDTH),
              VISUAL_VECTOR.name: (VISUAL_WIDTH,)}  # fmt: skip
    _write_blocks(target, shapes, len(sources), np.float64, work.blocks(sources))
    shapes = {AUDIO_NOISY.name: shapes[AUDIO.name], VISUAL_NOISY.name: shapes[VISUAL.name]}
    _write_blocks(target, shapes, len(noisy), np.float64, work.blocks(noisy))
    for extra, (*names, shape) in _EXTRA.items():
        for name, clips in zip(names, (sources, noisy), strict=True):
            if extra in extras:
                blocks = work.extra(clips, extra)
                _write_blocks(target, {name: shape}, len(clips), np.float32, blocks)
            else:
                (target / name).unlink(missing_ok=True)


def _write_blocks(
    target: Path, shapes: Mapping[str, tuple[int, ...]], count: int, dtype: type,
    blocks: Iterator[tuple[slice, Sequence[NDArray[np.float32]]]],
) -> None:  # fmt: skip
    """Write files of clips, contiguous; a block of clips in memory at a time.

    Args:
        target: The folder.
        shapes: Of a second's features, by the file's name.
        count: How many clips.
        dtype: As stored.
        blocks: Where they go, and the arrays of as many files at least, in their order.
    """
    import h5py

    with ExitStack() as stack:
        arrays = []
        for name, shape in shapes.items():
            temporary = stack.enter_context(whole(target / name))
            file = stack.enter_context(h5py.File(temporary, "w"))
            size = (count, SECONDS, *shape)
            arrays.append(file.create_dataset(KEY, size, dtype, track_times=False))
        for where, values in blocks:
            for array, rows in zip(arrays, values, strict=False):
                array[where] = rows
