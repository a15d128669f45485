"""A video as a model saw it, drawn over time (xue2021 fig. 6, tian2018 fig. 5, 6 and S1)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from avel import clock
from avel.errors import UsageError
from avel.figures.strips import (
    Span,
    even_shares,
    frame_strip,
    heat_bar,
    highest,
    label_strip,
    log_mel_strip,
    row_name,
    spans,
    time_axis,
    waveform,
)
from avel.figures.style import heading, margin, stacked_axes
from avel.types import Features, Floats, Grid, Scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from avel.data.base import Dataset
    from avel.inference.checkpoint import Trained

#: Pictures of a strip at most, their width in pixels, and the stretches a second of a waveform.
LIMIT, WIDTH, STRETCHES = 10, 224, 200
#: Inches that a strip is wide.
STRIP = 9.0


@dataclass(frozen=True)
class Watched:
    """What a model saw and heard of a video, and what it made of it.

    Args:
        video: Name of the file or clip.
        model: What watched it.
        scores: Of every segment, with the spatial attention where the model has any.
        where: n segments' place on the time axis, (start, end) in seconds.
        frames: A picture from the middle of each, None where there is none.
        maps: (n, H, W) attention over the picture, or None.
        patches: (n, frames, bands) log-mel of each; None where the sound isn't at hand.
        sound_maps: (n, rows, columns) attention over time and band of each, or None.
        peaks: (m, 2) the sound's lowest and highest value, 200 times a second, or None.
        data: Of a clip, what it belongs to.
        simulated: True where the features are simulated.
    """

    video: str
    model: str
    scores: Scores
    where: tuple[Span, ...]
    frames: tuple[NDArray[np.uint8] | None, ...]
    maps: Floats | None
    patches: Floats | None = None
    sound_maps: Floats | None = None
    peaks: Floats | None = None
    data: str = ""
    simulated: bool = False


def watch(
    video: str | Path, run: Trained | str | Path = "default", *, limit: int = LIMIT
) -> Watched:
    """Let a model look at a video.

    Args:
        video: A media file.
        run: A loaded model of task sel or wsel, its folder or its name.
        limit: Pictures at most; of a longer file those in the middle of equal stretches.

    Raises:
        MediaError: if the file can't be read.
        CheckpointError: if the model can't be read, or is of cml.
        WeightsError: if a backbone's weights are missing.
    """
    from avel.features.extractor import extract
    from avel.figures.judged import display_name
    from avel.inference.checkpoint import Trained
    from avel.inference.load import load_model
    from avel.media.file import frames_at

    trained = run if isinstance(run, Trained) else load_model(run)
    if limit < 1:
        raise UsageError(f"{limit} pictures", expected="at least 1")
    features = extract(video, **trained.wants)
    scores = trained.predict(features)
    grid = features.grid
    chosen = spans(len(grid), grid.step, grid.duration, limit)
    index = [i for i, _ in chosen]
    patches, peaks = _sound(video, index, grid.step)
    heard = sound_attention(trained, features)
    middles = [clock.middle(*grid.bounds(i)) for i in index]
    return Watched(
        video=Path(video).name,
        model=display_name(trained),
        scores=scores,
        where=tuple(span for _, span in chosen),
        frames=tuple(frames_at(video, middles, width=WIDTH)),
        maps=None if scores.attention is None else scores.attention[index],
        patches=patches,
        sound_maps=None if heard is None else heard[index],
        peaks=peaks,
    )


def watch_clip(
    run: Trained | str | Path,
    data: Dataset,
    clip: str | int,
    *,
    split: str | None = None,
    frames: Sequence[NDArray[np.uint8] | None] | None = None,
    limit: int = LIMIT,
) -> Watched:
    """Let a model look at a clip of a data set: its features are there, no backbone is needed.

    Args:
        run: A loaded model of task sel or wsel, or its folder.
        data: A data set with the run's classes and backbones.
        clip: Its name, a part of it, or its position in the split.
        split: The test split if None.
        frames: Pictures as :func:`avel.figures.clip_frames` gives them, where the clip's file is
            there; as many as are shown.
        limit: Maps at most where there are no pictures.

    Raises:
        UsageError: for a clip that isn't there, and a run of cml.
        CheckpointError: if the features are of other backbones than the run was trained on.
        DataError: if the data lack the split or have other classes.
    """
    from avel.evaluation.inputs import choose_split, fitting
    from avel.figures.judged import display_name, find_clip
    from avel.inference.checkpoint import Trained
    from avel.inference.load import load_model

    trained = run if isinstance(run, Trained) else load_model(run)
    data = fitting(trained, data)
    chosen = choose_split(data, trained.card["task"], split, len(trained.classes))
    at = find_clip(chosen.ids, clip)
    row, count = at if chosen.rows is None else int(chosen.rows[at]), int(chosen.lengths[at])
    features = Features(
        audio=np.asarray(chosen.audio[row][:count], np.float32),
        visual=np.asarray(chosen.visual[row][:count], np.float32),
        grid=Grid(clock.segments_to_seconds(count, data.step), data.step),
        audible=np.ones(count, bool), visible=np.ones(count, bool),
        audio_card=data.audio_card, visual_card=data.visual_card, source=chosen.ids[at],
    )  # fmt: skip
    scores, heard = trained.predict(features), sound_attention(trained, features)
    where = spans(count, data.step, features.grid.duration, len(frames or ()) or limit)
    index = [i for i, _ in where]
    return Watched(
        video=chosen.ids[at],
        model=display_name(trained),
        scores=scores,
        where=tuple(span for _, span in where),
        frames=tuple(frames or [None] * len(index)),
        maps=None if scores.attention is None else scores.attention[index],
        sound_maps=None if heard is None else heard[index],
        data=f"{data.name}, {chosen.name}",
        simulated=data.simulated or bool(trained.card["data"].get("simulated")),
    )


def _sound(
    video: str | Path, index: Sequence[int], step: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Log-mel patches of some segments, and the whole sound's peaks; memory stays flat."""
    import torch

    from avel.features.logmel import NEEDED, RATE, log_mel
    from avel.media.file import audio_track

    firsts = [clock.sample_bounds(i, step, RATE)[0] for i in index]
    held = np.zeros((len(index), NEEDED), np.float32)
    peaks, position = [], 0
    for chunk in audio_track(video, RATE):
        for row, first in zip(held, firsts, strict=True):
            a, b = max(first, position), min(first + NEEDED, position + len(chunk))
            if a < b:
                row[a - first : b - first] = chunk[a - position : b - position]
        peaks += list(_peaks(chunk, RATE // STRETCHES))
        position += len(chunk)
    return log_mel(torch.from_numpy(held)).numpy(), np.array(peaks, np.float32).reshape(-1, 2)


def _peaks(chunk: NDArray[np.float32], size: int) -> Iterator[tuple[float, float]]:
    for i in range(0, len(chunk), size):
        part = chunk[i : i + size]
        yield float(part.min()), float(part.max())


def sound_attention(trained: Trained, features: Features) -> NDArray[np.float32] | None:
    """(T, rows, columns) attention over the sound's own maps, or None where a model has none.

    Rows are time within the segment, columns bands from low to high: the regions of VGGish's last
    pooling, 6x4, or the nearest to that shape that the model's number of regions allows.
    """
    import torch

    found: NDArray[np.float32] | None = None
    length = min(trained.window, len(features))
    for start in clock.windows(len(features), length, length):
        stop = start + length
        with torch.inference_mode():
            answer = trained.network.eval()(
                audio=torch.from_numpy(features.audio[None, start:stop]).float(),
                visual=torch.from_numpy(features.visual[None, start:stop]).float(),
            )
        if "audio_attention" not in answer.parts:
            return None
        maps = answer.parts["audio_attention"][0].float().numpy()
        if found is None:
            found = np.zeros((len(features), *sound_regions(maps.shape[1])), np.float32)
        found[start:stop] = maps.reshape(len(maps), *found.shape[1:])
    return found


def attends(trained: Trained) -> bool:
    """Whether a model of sel or wsel attends to places of the picture or to the sound's maps.

    Told by what it answers to one made-up second.
    """
    import torch

    size = trained.card["dims"]
    with torch.inference_mode():
        answer = trained.network.eval()(
            audio=torch.zeros(1, 1, size["audio"]), visual=torch.zeros(1, 1, 1, 1, size["visual"])
        )
    return answer.attention is not None or "audio_attention" in answer.parts


def sound_regions(count: int) -> tuple[int, int]:
    """Rows (time) and columns (bands) of ``count`` regions, shaped like a log-mel patch.

    >>> sound_regions(24), sound_regions(1), sound_regions(7)
    ((6, 4), (1, 1), (7, 1))
    """
    from avel.features.logmel import BANDS, FRAMES

    pairs = [(count // n, n) for n in range(1, count + 1) if count % n == 0]
    return min(pairs, key=lambda p: abs(math.log(p[0] / p[1] * BANDS / FRAMES)))


def attention_strip(
    watched: Watched, *, axes: Sequence[Axes] | None = None
) -> dict[str, list[Any]]:
    """What a model attended to, second by second: frames, attention, sound and answer.

    Rows: ``frames``; ``attention`` over them, where the model attends to places; ``sound``: the
    waveform, or where the model attends to the sound's maps that attention over the log-mel
    patches (alone where these aren't at hand); ``answer``: the classes it names.

    Args:
        watched: See :func:`watch`.
        axes: As many as :func:`rows_of` names; new ones if None.

    Returns:
        The artists by row.

    Raises:
        UsageError: if the number of axes isn't that of the rows.
    """
    rows = rows_of(watched)
    if axes is None:
        heights = [_height(watched, r) for r in rows]
        top = 0.3 + 0.17 * watched.simulated
        axes = stacked_axes(heights, width=STRIP, left=margin(rows), right=0.6, top=top)
    if len(axes) != len(rows):
        raise UsageError(f"{len(axes)} axes", expected=f"{len(rows)}: {', '.join(rows)}")
    by_row = dict(zip(rows, axes, strict=True))
    draw: dict[str, Callable[[Axes], list[Any]]] = {
        "frames": lambda ax: frame_strip(watched.frames, watched.where, ax=ax),
        "attention": lambda ax: _attended(watched, ax),
        "sound": lambda ax: _heard(watched, ax),
        "answer": lambda ax: _answered(watched, ax),
    }
    drawn = {row: draw[row](ax) for row, ax in by_row.items()}
    for row, ax in by_row.items():
        row_name(ax, row)
        ax.set_xlim(0, watched.scores.grid.duration)
    name = f"{watched.video} ({watched.data})" if watched.data else watched.video
    told = heading(f"{name}, {watched.model}", simulated=watched.simulated)
    axes[0].set_title(told, fontsize=9)
    time_axis(axes[-1])
    return drawn


def rows_of(watched: Watched) -> list[str]:
    """The rows of :func:`attention_strip`, the uppermost first."""
    seen = any(f is not None for f in watched.frames)
    attends = watched.maps is not None
    heard = watched.peaks is not None or watched.sound_maps is not None
    return ["frames"] * seen + ["attention"] * attends + ["sound"] * heard + ["answer"]


def _height(watched: Watched, row: str) -> float:
    """Inches of a row, so that frames keep their shape."""
    if row == "answer":
        return 0.3
    if row == "sound" and watched.sound_maps is None:
        return 0.55
    if row == "sound":
        return min(1.2, STRIP / len(watched.where))
    return picture_height(watched.frames, len(watched.where))


def picture_height(frames: Sequence[NDArray[np.uint8] | None], count: int) -> float:
    """Inches that pictures side by side over a strip must be high to fill it, at most 2.4."""
    high, wide = next((f.shape[:2] for f in frames if f is not None), (1, 1))
    return float(min(2.4, STRIP / count * high / wide))


def _attended(watched: Watched, ax: Axes) -> list[Any]:
    assert watched.maps is not None
    top = highest([even_shares(m) for m in watched.maps])
    heat_bar(ax, top)
    return list(
        frame_strip(watched.frames, watched.where, ax=ax, maps=list(watched.maps), peak=top)
    )


def _heard(watched: Watched, ax: Axes) -> list[Any]:
    if watched.sound_maps is None:
        assert watched.peaks is not None
        return [waveform(watched.peaks, rate=STRETCHES, ax=ax)]
    heat_bar(ax, highest([even_shares(m) for m in watched.sound_maps]))
    maps = list(watched.sound_maps)
    if watched.patches is None:  # time to the right, low bands below
        turned = [m.T[::-1] for m in maps]
        return list(frame_strip([None] * len(maps), watched.where, ax=ax, maps=turned))
    return list(log_mel_strip(watched.patches, watched.where, ax=ax, maps=maps))


def _answered(watched: Watched, ax: Axes) -> list[Any]:
    scores = watched.scores
    return list(
        label_strip(
            scores.labels, scores.classes, ax=ax, step=scores.grid.step,
            duration=scores.grid.duration,
        )
    )  # fmt: skip
