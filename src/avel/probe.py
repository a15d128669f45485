"""What a media file holds: tracks, length, start, and which tracks can be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import av
import av.error

from avel.decoding import MAX_PIXELS, Damage, decoded, open_container, packets
from avel.errors import AvelError, MediaError, UsageError

Kind = Literal["video", "audio"]

#: Longest file, in seconds, that is taken on.
MAX_DURATION = 48 * 3600.0
# files up to this many bytes are scanned for their true length; larger ones are believed
_SCAN = 2**28


@dataclass(frozen=True)
class Track:
    """One track of sound or picture.

    Args:
        number: Its place among the tracks of its kind, from 0, by which it is chosen.
        index: Its place among all the file's streams.
        kind: ``"video"`` or ``"audio"``.
        codec: The codec's short name.
        language: As the file says, or empty.
        width, height: Pixels as stored, before rotation (video).
        fps: Average frames a second, 0 where not known (video).
        rotation: Degrees counter-clockwise that turn the picture upright (video).
        rate: Samples a second (audio).
        channels: How many (audio).
    """

    number: int
    index: int
    kind: Kind
    codec: str
    language: str = ""
    width: int = 0
    height: int = 0
    fps: float = 0.0
    rotation: int = 0
    rate: int = 0
    channels: int = 0

    def __str__(self) -> str:
        sight = f"{self.width}x{self.height}, {self.fps:g} frames/s"
        sound = f"{self.rate} Hz, {self.channels} channel{'s' * (self.channels != 1)}"
        return f"{self.number} ({self.codec}, {sight if self.kind == 'video' else sound})"


def unreadable(
    path: Path,
    what: str,
    *,
    wanted: str = "a file of video or sound (mp4, mkv, webm, mov, avi, ts, wav, mp3, flac, ogg…)",
    do: str = "check that the file plays, or convert it",
) -> AvelError:
    """A MediaError that names the file."""
    return MediaError(f"{path}: {what}", wanted=wanted, do=do)


def check_file(path: Path) -> None:
    """Raise MediaError unless the path is a regular file with something in it."""
    try:
        if path.is_dir():
            raise unreadable(path, "is a folder", do="give a file within it")
        if not path.exists():
            raise unreadable(path, "there is no such file", do="check the name")
        if not path.is_file():
            raise unreadable(path, "isn't a regular file", do="copy it to one")
        if path.stat().st_size == 0:
            raise unreadable(path, "is empty", do="copy or download it again")
        with path.open("rb"):
            pass
    except (OSError, ValueError) as e:
        raise unreadable(path, f"can't be opened ({e})", do="check its name and rights") from e


class Probe(NamedTuple):
    """What a probe finds; fields as in :class:`avel.media.Media`."""

    duration: float
    start: float
    tracks: tuple[Track, ...]
    video: Track | None
    audio: Track | None
    notes: list[str]


def probe(path: Path, *, audio_track: int | None, video_track: int | None) -> Probe:
    """Probe a media file; arguments and errors as in :func:`avel.media.open_media`."""
    check_file(path)
    try:
        with open_container(path) as container:
            tracks, best = _tracks(container)
            notes: list[str] = []
            video = _choose(path, tracks, "video", best["video"], video_track, notes)
            audio = _choose(path, tracks, "audio", best["audio"], audio_track, notes)
            chosen = [t for t in (video, audio) if t is not None]
            if not chosen:
                raise unreadable(path, "holds neither sound nor picture that can be decoded")
            start, duration = _extent(container, path, chosen, notes)
    except av.error.FFmpegError as e:
        raise unreadable(path, f"isn't a media file that can be read ({e.strerror})") from e
    if duration > MAX_DURATION:
        hours = f"{duration / 3600:.0f} h"
        raise unreadable(path, f"says it lasts {hours}", wanted="48 h at most", do="cut it")
    return Probe(duration, start, tuple(tracks), video, audio, notes)


def _tracks(container: Any) -> tuple[list[Track], dict[str, int]]:
    """All tracks of sound and picture, and the index of the best of each kind (-1 for none)."""
    tracks: list[Track] = []
    for stream in container.streams:
        cover = stream.disposition & av.stream.Disposition.attached_pic
        if stream.type in ("video", "audio") and stream.codec_context is not None and not cover:
            before = sum(t.kind == stream.type for t in tracks)
            tracks.append(_track(stream, before))
    best = {k: container.streams.best(k) for k in ("video", "audio")}
    return tracks, {k: -1 if s is None else s.index for k, s in best.items()}


def _track(stream: Any, number: int) -> Track:
    context = stream.codec_context
    common = (number, stream.index, stream.type, context.name, stream.metadata.get("language", ""))
    if stream.type == "audio":
        return Track(*common, rate=context.sample_rate or 0, channels=context.channels or 0)
    rate = float(stream.average_rate or stream.guessed_rate or 0)
    fps = rate if 0 < rate <= 1000 else 0.0
    return Track(*common, width=context.width, height=context.height, fps=fps)


def _choose(
    path: Path, tracks: Sequence[Track], kind: Kind, best: int, asked: int | None, notes: list[str]
) -> Track | None:
    """The track asked for, or the best one that gives at least one frame."""
    fitting = [t for t in tracks if t.kind == kind]
    if asked is not None:
        fitting = [t for t in fitting if t.number == asked]
        if not fitting:
            known = ", ".join(str(t) for t in tracks if t.kind == kind)
            raise UsageError(
                f"{path} has no {kind} track {asked}",
                wanted=f"one of {known}" if known else f"nothing: it has no {kind} track",
                do=f"choose by the track's number, or leave the {kind} track out",
            )
    sense = "picture" if kind == "video" else "sound"
    for track in sorted(fitting, key=lambda t: t.index != best):
        readable = _try_out(path, track)
        if readable is not None:
            return readable
        notes.append(f"{sense}: nothing of track {track} can be decoded")
    if not fitting:
        notes.append(f"the file has no {sense}")
    return None


def _try_out(path: Path, track: Track) -> Track | None:
    """The track with its rotation, or None if nothing of it can be decoded."""
    if track.width * track.height > MAX_PIXELS:
        size = f"{track.width}x{track.height}"
        raise unreadable(path, f"has a picture of {size}", wanted=f"at most {MAX_PIXELS} pixels")
    frames = decoded(path, track.index, Damage())
    first = next(frames, None)
    frames.close()  # type: ignore[attr-defined]
    if first is None or track.kind == "audio":
        return None if first is None else track
    turned = first.rotation % 360
    return replace(track, rotation=turned, width=first.width, height=first.height)


def _extent(
    container: Any, path: Path, chosen: Sequence[Track], notes: list[str]
) -> tuple[float, float]:
    """Start on the file's own clock and duration of the chosen tracks, both in seconds."""
    start = None if container.start_time is None else container.start_time / av.time_base
    streams = [container.streams[t.index] for t in chosen]
    said = _said_end(container, streams, start or 0.0)
    found = None
    if said is None or path.stat().st_size <= _SCAN:
        first, ends = _scan(container, streams, {t.index: t.fps for t in chosen})
        start = first if start is None else start
        found = _true_end(ends, said) if ends else None
    start = start or 0.0
    if found is not None and (said is None or found - start <= MAX_DURATION):
        if said is not None and said - found > 0.5:
            lost = f"the file says it lasts {said - start:.1f} s but ends at {found - start:.1f} s"
            notes.append(lost)
        end = found
    else:
        end = start if said is None else said
    return start, max(end - start, 1 / (chosen[0].fps or 25.0))


def _said_end(container: Any, streams: Sequence[Any], start: float) -> float | None:
    """The end by what the headers say, on the file's own clock."""
    ends = [
        float(((s.start_time or 0) + s.duration) * s.time_base)
        for s in streams
        if s.duration and s.time_base
    ]
    if len(ends) == len(streams):
        return max(ends)
    return start + container.duration / av.time_base if container.duration else None


def _scan(
    container: Any, streams: Sequence[Any], rates: Mapping[int, float]
) -> tuple[float | None, list[float]]:
    """First instant, and the ends of all packets by their own times, without decoding.

    ``rates`` are frames a second by track, 0 where not known: for packets without times (raw
    streams) or lengths.
    """
    first: float | None = None
    ends: list[float] = []
    untimed = 0.0
    for packet in packets(container, streams, Damage()):
        if packet.size == 0 or packet.is_discard:
            continue
        rate = rates[packet.stream.index]
        usual = 1 / rate if rate > 0 else 0.0
        if packet.pts is None:
            untimed += usual
            continue
        begin = float(packet.pts * packet.time_base)
        length = float(packet.duration * packet.time_base) if packet.duration else usual
        ends.append(begin + length)
        first = begin if first is None else min(first, begin)
    return first, ends or ([untimed] if untimed else [])


def _true_end(ends: Sequence[float], said: float | None) -> float:
    """The last end; where that is far from what the headers say, without a few wild ones."""
    ordered = sorted(ends)
    if said is None or ordered[-1] <= 2 * said + 60:
        return ordered[-1]
    few = 1 + len(ordered) // 20
    for place in range(len(ordered) - few, len(ordered)):
        if place > 0 and ordered[place] - ordered[place - 1] > 60:
            return ordered[place - 1]
    return ordered[-1]
