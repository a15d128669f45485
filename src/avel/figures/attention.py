"""A model's attention over a video, drawn over time (xue2021 fig. 6, tian2018 fig. 5, 6 and S1)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
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
    shown_segments,
    time_axis,
    waveform,
)
from avel.figures.style import check_axes, heading, margin, stacked_axes
from avel.types import Features, Floats, Grid, Scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from avel.data.base import Dataset
    from avel.inference.checkpoint import Trained

#: Pictures of a strip at most, their width in pixels, and the points a second of a waveform.
LIMIT, WIDTH, ENVELOPE_RATE = 10, 224, 200
#: Inches that a strip is wide.
STRIP = 9.0


@dataclass(frozen=True)
class Attention:
    """A video, a model's attention over its frames and its sound, and the model's scores.

    Args:
        video: Name of the file or clip.
        model: Its name, for titles.
        scores: Of every segment, with the spatial attention where the model has any.
        spans: n segments on the time axis, (start, end) in seconds.
        frames: A picture from the middle of each, None where there is none.
        visual_maps: (n, H, W) attention over the picture, or None.
        patches: (n, frames, bands) log-mel of each; None without the sound.
        audio_maps: (n, rows, columns) attention over time and band of each, or None.
        peaks: (m, 2) the lowest and highest sample, 200 times a second, or None.
        data: Of a clip, its data set and split, for titles.
        simulated: True where the features are simulated.
    """

    video: str
    model: str
    scores: Scores
    spans: tuple[Span, ...]
    frames: tuple[NDArray[np.uint8] | None, ...]
    visual_maps: Floats | None
    patches: Floats | None = None
    audio_maps: Floats | None = None
    peaks: Floats | None = None
    data: str = ""
    simulated: bool = False


def video_attention(
    video: str | Path, run: Trained | str | Path = "default", *, limit: int = LIMIT
) -> Attention:
    """Extract a video's features, score them, and collect frames, sound and attention.

    Args:
        video: A media file.
        run: A loaded model of task sel or wsel, its folder or its name.
        limit: Pictures at most; a longer file gives one from the middle of each of as many spans.

    Raises:
        MediaError: if the file can't be read.
        CheckpointError: if the model can't be read, or is of cml.
        WeightsError: if a backbone's weights are missing.
    """
    from avel.features.extractor import extract
    from avel.figures.predictions import display_name, loaded_run
    from avel.media.file import frames_at

    trained = loaded_run(run)
    if limit < 1:
        raise UsageError(f"limit must be at least 1, got {limit}")
    features = extract(video, **trained.feature_options)
    attention, index = _attention(trained, features, limit)
    grid = features.grid
    patches, peaks = _sound(video, index, grid.step)
    middles = [clock.middle(*grid.bounds(i)) for i in index]
    return replace(
        attention,
        video=Path(video).name,
        model=display_name(trained),
        frames=tuple(frames_at(video, middles, width=WIDTH)),
        patches=patches,
        peaks=peaks,
    )


def _attention(trained: Trained, features: Features, limit: int) -> tuple[Attention, list[int]]:
    """Scores and attention for features, and the segments that are shown; no frames, no sound."""
    scores, audio_maps = trained.predict(features), audio_attention(trained, features)
    grid = features.grid
    shown = shown_segments(len(grid), grid.step, grid.duration, limit)
    index = [i for i, _ in shown]
    attention = Attention(
        video=features.source,
        model="",
        scores=scores,
        spans=tuple(span for _, span in shown),
        frames=(None,) * len(index),
        visual_maps=None if scores.attention is None else scores.attention[index],
        audio_maps=None if audio_maps is None else audio_maps[index],
    )
    return attention, index


def clip_attention(
    run: Trained | str | Path,
    data: Dataset,
    clip: str | int,
    *,
    split: str | None = None,
    limit: int = LIMIT,
) -> Attention:
    """The same of a clip of a data set, from its features; no backbone is needed.

    Args:
        run: A loaded model of task sel or wsel, or its folder.
        data: A data set with the run's classes and backbones.
        clip: Its name, a unique part of its name, or its position in the split.
        split: The test split if None.
        limit: Maps at most.

    Raises:
        UsageError: for an unknown clip, and a run of cml.
        CheckpointError: if the features are of other backbones than the run was trained on.
        DataError: if the data lack the split or have other classes.
    """
    from avel.figures.predictions import clip_index, loaded_run, run_split

    trained = loaded_run(run)
    chosen, titles = run_split(trained, data, split)
    at = clip_index(chosen.ids, clip)
    row, count = at if chosen.rows is None else int(chosen.rows[at]), int(chosen.lengths[at])
    features = Features(
        audio=np.asarray(chosen.audio[row][:count], np.float32),
        visual=np.asarray(chosen.visual[row][:count], np.float32),
        grid=Grid(clock.segments_to_seconds(count, data.step), data.step),
        audible=np.ones(count, bool), visible=np.ones(count, bool),
        audio_card=data.audio_card, visual_card=data.visual_card, source=chosen.ids[at],
    )  # fmt: skip
    attention, _ = _attention(trained, features, limit)
    return replace(
        attention,
        model=titles["name"],
        data=titles["data"],
        simulated=titles["simulated"],
    )


def _sound(
    video: str | Path, index: Sequence[int], step: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Log-mel patches of some segments, and the peaks of the whole sound, in constant memory."""
    import torch

    from avel.features.logmel import log_mel
    from avel.media.file import audio_track
    from avel.media.mel import NEEDED, RATE

    firsts = [clock.sample_bounds(i, step, RATE)[0] for i in index]
    samples = np.zeros((len(index), NEEDED), np.float32)
    peaks, position = [], 0
    for chunk in audio_track(video, RATE):
        for row, first in zip(samples, firsts, strict=True):
            a, b = max(first, position), min(first + NEEDED, position + len(chunk))
            if a < b:
                row[a - first : b - first] = chunk[a - position : b - position]
        peaks += list(_peaks(chunk, RATE // ENVELOPE_RATE))
        position += len(chunk)
    return log_mel(torch.from_numpy(samples)).numpy(), np.array(peaks, np.float32).reshape(-1, 2)


def _peaks(chunk: NDArray[np.float32], size: int) -> Iterator[tuple[float, float]]:
    for i in range(0, len(chunk), size):
        part = chunk[i : i + size]
        yield float(part.min()), float(part.max())


def audio_attention(trained: Trained, features: Features) -> NDArray[np.float32] | None:
    """(T, rows, columns) attention over the regions of the audio, or None if a model has none.

    Rows are time within the segment, columns bands from low to high: the regions of VGGish's last
    pooling, 6x4, or the nearest to that shape that the model's number of regions allows.
    """
    import torch

    attention: NDArray[np.float32] | None = None
    length = min(trained.window, len(features))
    for start in clock.windows(len(features), length, length):
        stop = start + length
        with torch.inference_mode():
            output = trained.network.eval()(
                audio=torch.from_numpy(features.audio[None, start:stop]).float(),
                visual=torch.from_numpy(features.visual[None, start:stop]).float(),
            )
        if "audio_attention" not in output.parts:
            return None
        maps = output.parts["audio_attention"][0].float().numpy()
        if attention is None:
            attention = np.zeros((len(features), *audio_regions(maps.shape[1])), np.float32)
        attention[start:stop] = maps.reshape(len(maps), *attention.shape[1:])
    return attention


def has_attention(trained: Trained) -> bool:
    """Whether a model of sel or wsel has attention over regions of the picture or the audio.

    One segment of zeros goes through the network to find out.
    """
    import torch

    size = trained.card["dims"]
    with torch.inference_mode():
        output = trained.network.eval()(
            audio=torch.zeros(1, 1, size["audio"]), visual=torch.zeros(1, 1, 1, 1, size["visual"])
        )
    return output.attention is not None or "audio_attention" in output.parts


def audio_regions(count: int) -> tuple[int, int]:
    """Rows (time) and columns (bands) of ``count`` regions, shaped like a log-mel patch.

    >>> audio_regions(24), audio_regions(1), audio_regions(7)
    ((6, 4), (1, 1), (7, 1))
    """
    from avel.media.mel import BANDS, FRAMES

    pairs = [(count // n, n) for n in range(1, count + 1) if count % n == 0]
    return min(pairs, key=lambda p: abs(math.log(p[0] / p[1] * BANDS / FRAMES)))


def attention_strip(
    attention: Attention, *, axes: Sequence[Axes] | None = None
) -> dict[str, list[Any]]:
    """A model's attention, segment by segment, with frames, audio and predicted classes.

    Rows: ``frames``; ``attention`` over them, where the model has visual attention; ``audio``: the
    waveform, or where the model has audio attention this over the log-mel patches (alone without
    them); ``prediction``: the classes.

    Args:
        attention: See :func:`video_attention`.
        axes: One for each of :func:`row_names`; new ones if None.

    Returns:
        The artists by row.

    Raises:
        UsageError: if the number of axes isn't that of the rows.
    """
    rows = row_names(attention)
    if axes is None:
        heights = [_height(attention, r) for r in rows]
        top = 0.3 + 0.17 * attention.simulated
        axes = stacked_axes(heights, width=STRIP, left=margin(rows), right=0.6, top=top)
    check_axes(axes, len(rows), ", ".join(rows))
    by_row = dict(zip(rows, axes, strict=True))
    draw: dict[str, Callable[[Axes], list[Any]]] = {
        "frames": lambda ax: frame_strip(attention.frames, attention.spans, ax=ax),
        "attention": lambda ax: _draw_visual(attention, ax),
        "audio": lambda ax: _draw_audio(attention, ax),
        "prediction": lambda ax: _draw_prediction(attention, ax),
    }
    drawn = {row: draw[row](ax) for row, ax in by_row.items()}
    for row, ax in by_row.items():
        row_name(ax, row)
        ax.set_xlim(0, attention.scores.grid.duration)
    name = f"{attention.video} ({attention.data})" if attention.data else attention.video
    title = heading(f"{name}, {attention.model}", simulated=attention.simulated)
    axes[0].set_title(title, fontsize=9)
    time_axis(axes[-1])
    return drawn


def row_names(attention: Attention) -> list[str]:
    """The rows of :func:`attention_strip`, the uppermost first."""
    has_frames = any(f is not None for f in attention.frames)
    has_attention = attention.visual_maps is not None
    has_audio = attention.peaks is not None or attention.audio_maps is not None
    return (
        ["frames"] * has_frames
        + ["attention"] * has_attention
        + ["audio"] * has_audio
        + ["prediction"]
    )


def _height(attention: Attention, row: str) -> float:
    """Inches of a row, so that frames keep their shape."""
    if row == "prediction":
        return 0.3
    if row == "audio" and attention.audio_maps is None:
        return 0.55
    if row == "audio":
        return min(1.2, STRIP / len(attention.spans))
    return picture_height(attention.frames, len(attention.spans))


def picture_height(frames: Sequence[NDArray[np.uint8] | None], count: int) -> float:
    """The height in inches, at most 2.4, at which ``count`` pictures fill a strip's width."""
    high, wide = next((f.shape[:2] for f in frames if f is not None), (1, 1))
    return float(min(2.4, STRIP / count * high / wide))


def _draw_visual(attention: Attention, ax: Axes) -> list[Any]:
    assert attention.visual_maps is not None
    top = highest([even_shares(m) for m in attention.visual_maps])
    heat_bar(ax, top)
    return list(
        frame_strip(
            attention.frames, attention.spans, ax=ax, maps=list(attention.visual_maps), peak=top
        )
    )


def _draw_audio(attention: Attention, ax: Axes) -> list[Any]:
    if attention.audio_maps is None:
        assert attention.peaks is not None
        return [waveform(attention.peaks, rate=ENVELOPE_RATE, ax=ax)]
    heat_bar(ax, highest([even_shares(m) for m in attention.audio_maps]))
    maps = list(attention.audio_maps)
    if attention.patches is None:  # time to the right, low bands below
        turned = [m.T[::-1] for m in maps]
        return list(frame_strip([None] * len(maps), attention.spans, ax=ax, maps=turned))
    return list(log_mel_strip(attention.patches, attention.spans, ax=ax, maps=maps))


def _draw_prediction(attention: Attention, ax: Axes) -> list[Any]:
    scores = attention.scores
    return list(
        label_strip(
            scores.labels, scores.classes, ax=ax, step=scores.grid.step,
            duration=scores.grid.duration,
        )
    )  # fmt: skip
