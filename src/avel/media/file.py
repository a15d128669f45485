"""Media files in: what a file holds, its segments, single frames, its sound.

This file, ``probe`` and ``decode`` are the only ones that decode.

Policies:
    - Time 0.0 is the start of the file (its container's start offset is subtracted).
    - The file is as long as the longer of the two chosen tracks.
    - A frame is picked by time: the last one with a timestamp <= the instant. Instants before the
      first frame take it if it comes on within the same segment; the last frame stays on to the end
      of the file, as in every player. A segment without any frame isn't visible.
    - Sound is the downmix of all channels (:mod:`.downmix`). A track that starts late, ends
      early or has gaps is silent there; what lies before 0.0 or behind the end is cut.
    - A track of which nothing can be decoded is left out for the next one of its kind.
    - Cover pictures of sound files are no picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avel import clock
from avel.errors import UsageError
from avel.media.decode import (
    Damage,
    FramesAhead,
    Screen,
    Shown,
    Shrinker,
    SoundLine,
    TrackReader,
    blocks,
    decoded,
    measure,
    on_clock,
)
from avel.media.downmix import MEAN, Downmix
from avel.media.probe import Track, probe
from avel.types import Grid, Timeline

#: Samples a second of a segment's sound.
RATE = 16000
#: Shortest and longest segments, in seconds.
STEPS = (0.1, 600.0)
#: The level of silence in dBFS.
SILENCE = -120.0
# thumbnails nearer than this (seconds) are reached by decoding on instead of seeking
_NEAR = 3.0


@dataclass(frozen=True)
class Segment:
    """The pictures and the sound of one segment.

    Args:
        index: Its place in the grid.
        frames: (n, size, size, 3) uint8 RGB, evenly spaced in time; n is the requested number, less
            where the picture ends within the segment, 0 where there is none.
        audio: (step * 16000,) float32 mono, zeros where the file has no sound.
        rms: Level of the samples that came from the file, in dBFS; -120 for silence. Of a file that
            is quiet throughout, the level it was raised to.
        n_samples_present: How many samples of ``audio`` came from the file.
        frame_times: Timestamps of the n frames in seconds; equal ones are the same frame.
    """

    index: int
    frames: NDArray[np.uint8]
    audio: NDArray[np.float32]
    rms: float
    n_samples_present: int
    frame_times: tuple[float, ...]

    @property
    def visible(self) -> bool:
        """True where at least one frame was decoded."""
        return len(self.frames) > 0


@dataclass(frozen=True)
class Media:
    """A media file that was probed; nothing of it stays open.

    Args:
        path: The file.
        duration: Seconds, of the longer chosen track.
        start: Where 0.0 lies on the file's own clock, seconds.
        player_start: What a browser's player calls 0.0, seconds (:func:`avel.clock.player_start`).
        tracks: All tracks of sound and picture.
        video, audio: The chosen ones, or None.
        notes: What is missing or damaged, a sentence each; grows as the file is read.
        requested: The numbers of the sound track and the picture that were requested, None for
            what was left to :func:`open_media`.
        state: What tells whether the file has changed since: its size and times.
    """

    path: Path
    duration: float
    start: float
    player_start: float
    tracks: tuple[Track, ...]
    video: Track | None
    audio: Track | None
    notes: list[str] = field(default_factory=list)
    requested: tuple[int | None, int | None] = (None, None)
    state: tuple[int, ...] = ()

    @property
    def unchanged(self) -> bool:
        """Whether the file is still there as it was probed, by its size and times."""
        return self.state == _state(self.path) != ()

    def grid(self, step: float = 1.0) -> Grid:
        """The file's segments of ``step`` seconds.

        Raises:
            UsageError: if the step isn't between 0.1 and 600 seconds.
        """
        if not STEPS[0] <= step <= STEPS[1]:
            bounds = f"{STEPS[0]} to {STEPS[1]} seconds"
            raise UsageError(f"the step must be {bounds}, got {step}")
        return Grid(self.duration, step)

    def segments(
        self, *, frames: int = 16, size: int = 224, step: float = 1.0
    ) -> Iterator[Segment]:
        """Decode the file once, segment by segment; memory doesn't grow with its length.

        Args:
            frames: Frames a segment, at ``start + k * step / frames``.
            size: Their width and height in pixels; resized bilinearly, aspect not kept.
            step: Seconds a segment.

        Raises:
            UsageError: for a step or number of frames out of bounds.
        """
        if not 1 <= frames <= 1000 or not 1 <= size <= 4096:
            bounds = "1 to 1000 frames a segment of 1 to 4096 pixels"
            raise UsageError(f"there must be {bounds}, got {frames} of {size}")
        return self._segments(self.grid(step), frames, size)

    def _segments(self, grid: Grid, count: int, size: int) -> Iterator[Segment]:
        picture_damage, sound_damage = Damage(), Damage()
        screen = Screen(self._shown(picture_damage), until=self.duration)
        shrink = Shrinker(picture_damage)
        sound = SoundLine(self._blocks(sound_damage), RATE)
        self._note(*self.mix.sentences())
        for index in range(len(grid)):
            times, images = _pick(screen, shrink, grid, index, count, size)
            samples, present = _sound_of(sound, grid, index)
            yield Segment(index, images, samples, _level(samples, present), present, times)
        self._note(*picture_damage.sentences("picture"), *sound_damage.sentences("sound"))
        if screen.extended is not None and screen.extended[1] - screen.extended[0] >= grid.step:
            since, until = screen.extended
            self._note(f"picture: ends at {since:.1f} s; its last frame stays on to {until:.1f} s")

    def _note(self, *notes: str) -> None:
        self.notes.extend(note for note in notes if note not in self.notes)

    @cached_property
    def mix(self) -> Downmix:
        """How the channels of the sound become one: measured at first use, on loud sound."""
        if self.audio is None:
            return MEAN
        return measure(decoded(self.path, self.audio.index, Damage()))

    def _measured_frames(self, damage: Damage) -> Iterator[Any]:
        """The sound's frames from the start; while they are opened, :attr:`mix` is measured.

        The frames that were measured are given again from memory. Where they are too many (a file
        that is quiet for long), the file is opened again.
        """
        assert self.audio is not None
        frames = decoded(self.path, self.audio.index, damage)
        if "mix" in self.__dict__:
            return frames
        ahead = FramesAhead(frames)
        self.__dict__["mix"] = measure(iter(ahead))  # as cached_property keeps it
        if ahead.complete:
            return ahead.again()
        damage.clear()
        return decoded(self.path, self.audio.index, damage)

    def loudest(self, step: float = 1.0) -> float:
        """The level of the loudest segment in dBFS, from the sound alone; -120 where there is none.

        Args:
            step: Seconds a segment.
        """
        grid = self.grid(step)
        sound = SoundLine(self._blocks(Damage()), RATE)
        segments = (_sound_of(sound, grid, index) for index in range(len(grid)))
        return max((_level(*h) for h in segments), default=SILENCE) if self.audio else SILENCE

    def _shown(self, damage: Damage) -> Iterator[Shown]:
        if self.video is None:
            return iter(())
        frames = decoded(self.path, self.video.index, damage)
        return on_clock(frames, start=self.start, fps=self.video.fps, damage=damage)

    def screens(self) -> Screens:
        """The picture from any instant on; to be used as a context, in which the file is open."""
        return Screens(self)

    def _blocks(
        self,
        damage: Damage,
        *,
        channel: int | None = None,
        natural: bool = False,
        since: float | None = None,
        zero: float = 0.0,
    ) -> Iterator[Any]:
        """Blocks of sound; ``since`` and ``zero``: seconds to seek to, and that become 0.0."""
        if self.audio is None:
            return iter(())
        track, start = self.audio, self.start + zero
        if not track.timed:
            since = None
        if since is None and channel is None:
            frames = self._measured_frames(damage)
        else:
            seek = None if since is None else self.start + since
            frames = decoded(self.path, track.index, damage, since=seek)
        return blocks(
            frames,
            start=start,
            damage=damage,
            channel=channel,
            mix=self.mix if channel is None else MEAN,
            natural=natural,
            timed=track.timed,
        )


class Screens:
    """The picture of a file from any instant on; the file is opened once, at the first use.

    Args:
        media: The file; screens of one without a picture show nothing.
    """

    def __init__(self, media: Media) -> None:
        self._media = media
        index = -1 if media.video is None else media.video.index
        self._reader = TrackReader(media.path, index)

    def __enter__(self) -> Screens:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.__exit__()

    def at(self, instant: float) -> Screen:
        """A screen that begins at or before an instant; an earlier one ends by it.

        Where a seek lands late, another one goes further back.
        """
        for back in (0.0, 10.0, 60.0):
            if instant - back > 0:
                screen = self._screen(since=self._media.start + instant - back)
                if screen.starts <= instant:
                    return screen
        return self._screen(since=None)

    def _screen(self, *, since: float | None) -> Screen:
        media, damage = self._media, Damage()
        if media.video is None:
            return Screen(iter(()), until=media.duration)
        frames = self._reader.frames(damage, since=since)
        shown = on_clock(frames, start=media.start, fps=media.video.fps, damage=damage)
        return Screen(shown, until=media.duration)


def _pick(
    screen: Screen, shrink: Shrinker, grid: Grid, index: int, count: int, size: int
) -> tuple[tuple[float, ...], NDArray[np.uint8]]:
    """Times (n,) and pictures (n, size, size, 3) of one segment."""
    end = (index + 1) * grid.step
    times: list[float] = []
    images: list[NDArray[np.uint8]] = []
    for instant in clock.frame_times(index, count, grid.step):
        shown = screen.at(instant) or screen.first_before(end)
        image = shrink(shown, size, size) if shown is not None else None
        if shown is not None and image is not None:
            times.append(shown.time)
            images.append(image)
    stacked = np.stack(images) if images else np.zeros((0, size, size, 3), np.uint8)
    return tuple(times), stacked


def _sound_of(sound: SoundLine, grid: Grid, index: int) -> tuple[NDArray[np.float32], int]:
    """The samples of the next segment, and how many of them came from the file."""
    first, end = clock.sample_bounds(index, grid.step, RATE)
    samples, present = sound.read(end - first)
    return samples, min(present, end - first)


def _level(samples: NDArray[np.float32], present: int) -> float:
    """Root mean square of the present samples in dBFS, no lower than -120."""
    power = float(np.square(samples, dtype=np.float64).sum()) / present if present else 0.0
    return max(SILENCE, 10 * math.log10(power)) if power > 0 else SILENCE


def open_media(
    path: str | Path, *, audio_track: int | None = None, video_track: int | None = None
) -> Media:
    """Probe a media file: its tracks, length and rotation.

    Args:
        path: A local file of sound, picture or both.
        audio_track: Which sound track, from 0; None for the one marked as default, or the best.
        video_track: Which picture, likewise.

    Raises:
        MediaError: if the file is missing, empty, no media file, too large, or holds neither sound
            nor picture that can be decoded.
        UsageError: for a track that the file doesn't have.
    """
    path = Path(path)
    state = _state(path)
    result = probe(path, audio_track=audio_track, video_track=video_track)
    return Media(path, *result, requested=(audio_track, video_track), state=state)


def _state(path: Path) -> tuple[int, ...]:
    """Size and times of a file; empty where it isn't there."""
    try:
        stat = path.stat()
    except (OSError, ValueError):
        return ()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


def opened(
    video: str | Path | Media, *, audio_track: int | None = None, video_track: int | None = None
) -> Media:
    """A file that was probed as it is, a path probed; arguments and errors as for open_media.

    Raises:
        UsageError: for a track of a file that was probed already.
    """
    if not isinstance(video, Media):
        return open_media(video, audio_track=audio_track, video_track=video_track)
    if audio_track is not None or video_track is not None:
        raise UsageError(
            f"{video.path} is open, and a track is requested", hint="choose it in avel.open"
        )
    return video


def media_of(timeline: Timeline) -> Media:
    """The probed file that a timeline was made from; the file is probed again where it has changed.

    Raises:
        MediaError: if the file can't be read.
    """
    media = timeline.media
    if isinstance(media, Media) and str(media.path) == timeline.video and media.unchanged:
        return media
    return open_media(timeline.video)


def frames_at(
    video: str | Path | Media,
    times: Sequence[float],
    *,
    width: int,
) -> list[NDArray[np.uint8] | None]:
    """Single frames, for thumbnails.

    Args:
        video: The file, or what :func:`open_media` gave.
        times: Seconds, in any order.
        width: Pixels; the height follows the picture's shape.

    Returns:
        For each time an upright (height, width, 3) uint8 RGB picture, the one shown then, or None
        where none is.
    """
    media = opened(video)
    images: list[NDArray[np.uint8] | None] = [None] * len(times)
    if media.video is None:
        return images
    track, shrink = media.video, Shrinker(Damage())
    sideways = track.rotation % 180 == 90
    shape = (track.width, track.height) if sideways else (track.height, track.width)
    height = max(1, round(width * shape[0] / max(1, shape[1])))
    screen, reached = None, 0.0
    with media.screens() as current, media.screens() as other:
        for place in sorted(range(len(times)), key=times.__getitem__):
            instant = times[place]
            if screen is None:
                screen = current.at(instant)
            elif instant - reached > _NEAR and screen.starts < math.inf:
                sought = other.at(instant)
                if sought.starts > reached:  # else decoding on is as short a way
                    screen, current, other = sought, other, current
            shown = screen.at(instant) or screen.first_before(instant + 1)
            images[place] = None if shown is None else shrink(shown, width, height)
            reached = instant
    return images


def audio_track(video: str | Path | Media, rate: int = RATE) -> Iterator[NDArray[np.float32]]:
    """The sound of a file as float32 mono chunks of a second (the last one shorter).

    The sum of their lengths is the file's duration; silence where the file has none.

    Args:
        video: The file, or what :func:`open_media` gave.
        rate: Samples a second.
    """
    media = opened(video)
    sound = SoundLine(media._blocks(Damage()), rate)
    left = clock.sample_index(media.duration, rate)
    while left > 0:
        chunk, _ = sound.read(min(rate, left))
        left -= len(chunk)
        yield chunk
