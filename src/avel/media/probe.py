"""What a media file holds: tracks, length, start, and which tracks can be read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import av
import av.error

from avel import clock
from avel.errors import AvelError, MediaError, UsageError, counted
from avel.files import DOWNLOAD, address_message, is_address
from avel.media.decode import (
    MAX_PIXELS,
    RATES,
    Damage,
    decoded,
    is_sound,
    open_container,
    packets,
    prepare,
)

Kind = Literal["video", "audio"]

#: Longest file, in seconds, that is taken on.
MAX_DURATION = 48 * 3600.0
# files up to this many bytes are scanned for their true length; of larger ones the header counts
_SCAN = 2**28
# containers whose header says how long the file is; of others FFmpeg guesses it from the bit rate
_TIMED = "mov matroska avi asf flv wav w64 aiff caf au flac ogg mxf ape tta wv wtv ivf nut"
# times that are taken as wrong: of sound that is spread over so many times its length and a pause
# (seconds) more; of pictures that stay on longer than any (seconds); of pictures that come less
# often than every so many seconds, and go on when the sound has ended for a pause
_SAMPLED, _PAUSE, _LONGEST_SHOWN, _SELDOM = 4.0, 60.0, 600.0, 10.0


@dataclass(frozen=True)
class Track:
    """One track of sound or picture.

    Args:
        number: Its place among the tracks of its kind, from 0, by which it is chosen.
        index: Its place among all the file's streams.
        kind: ``"video"`` or ``"audio"``.
        codec: The codec's short name.
        language: As in the file, or empty.
        width, height: Pixels as stored, before rotation (video).
        fps: Average frames a second, 0 where not known (video).
        rotation: Degrees counter-clockwise that turn the picture upright (video).
        rate: Samples a second (audio).
        channels: How many (audio).
        timed: Whether its own times are plausible (audio).
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
    timed: bool = True

    def __str__(self) -> str:
        sight = f"{self.width}x{self.height}, {self.fps:g} frames/s"
        sound = f"{self.rate} Hz, {counted(self.channels, 'channel')}"
        spoken = f", {self.language}" if self.language not in ("", "und") else ""
        return f"{self.number} ({self.codec}, {sight if self.kind == 'video' else sound}{spoken})"


_TAKEN = "is the one that was taken"
#: What the notes call the kinds of tracks.
_WORDS: Mapping[Kind, str] = {"video": "picture", "audio": "sound"}


def unreadable(
    path: Path,
    what: str,
    *,
    expected: str = "a file of video or sound (mp4, mkv, webm, mov, avi, ts, wav, mp3, flac, ogg…)",
    hint: str = "check that the file plays, or convert it",
) -> AvelError:
    """A MediaError that names the file."""
    return MediaError(f"{path}: {what}", expected=expected, hint=hint)


def check_file(path: Path) -> None:
    """Raise MediaError unless the path is a regular file with something in it."""
    try:
        if path.is_dir():
            raise unreadable(path, "is a folder", hint="give a file within it")
        if not path.exists():
            if is_address(path):
                raise MediaError(address_message(path), hint=DOWNLOAD)
            kind = "file" if path.suffix else "file or folder"
            raise unreadable(path, f"there is no such {kind}", hint="check the name")
        if not path.is_file():
            raise unreadable(path, "isn't a regular file", hint="copy it to one")
        if path.stat().st_size == 0:
            raise unreadable(path, "is empty", hint="copy or download it again")
        with path.open("rb"):
            pass
    except (OSError, ValueError) as e:
        raise unreadable(path, f"can't be opened ({e})", hint="check its name and rights") from e


class Probe(NamedTuple):
    """What a probe finds; fields as in :class:`avel.media.file.Media`."""

    duration: float
    start: float
    player_start: float
    tracks: tuple[Track, ...]
    video: Track | None
    audio: Track | None
    notes: list[str]


def probe(path: Path, *, audio_track: int | None, video_track: int | None) -> Probe:
    """Probe a media file; arguments and errors as in :func:`avel.media.file.open_media`.

    The file is opened once and its packets are read once, unless the best track of a kind can't be
    decoded and another one is tried.
    """
    check_file(path)
    try:
        with open_container(path) as container:
            tracks, best = _tracks(container)
            notes: dict[Kind, list[str]] = {"video": [], "audio": []}
            candidates = {
                "video": _candidates(path, tracks, "video", best["video"], video_track, notes),
                "audio": _candidates(path, tracks, "audio", best["audio"], audio_track, notes),
            }
            preferred = [tracks[0] for tracks in candidates.values() if tracks]
            scan = _Scan(container, path, preferred)
            chosen: dict[str, Track | None] = {
                kind: _readable(path, tracks, candidates[kind], scan, notes[kind]) for kind in notes
            }
            picked = [t for t in chosen.values() if t is not None]
            if not picked:
                raise unreadable(path, "holds neither sound nor picture that can be decoded")
            if not {t.index for t in picked} <= scan.times.keys():
                with open_container(path) as again:
                    scan = _Scan(again, path, picked)
            all_notes = [*notes["video"], *notes["audio"]]
            extent = _extent(container, scan, picked, all_notes)
            player_start = clock.player_start(container.format.name, extent.start)
    except av.error.FFmpegError as e:
        raise unreadable(path, f"isn't a media file that can be read ({e.strerror})") from e
    if extent.duration > MAX_DURATION:
        hours = f"{extent.duration / 3600:.0f} h"
        raise unreadable(path, f"says it lasts {hours}", expected="48 h at most", hint="cut it")
    video, audio = chosen["video"], chosen["audio"]
    if audio is not None and not extent.timed:
        audio = replace(audio, timed=False)
    return Probe(
        extent.duration, extent.start, player_start, tuple(tracks), video, audio, all_notes
    )


def player_start_of(path: str | Path) -> float:
    """What a browser's player calls second 0 of a media file; 0 where the file can't be read.

    The same as :attr:`avel.media.file.Media.player_start`, by the file's header alone.
    """
    try:
        check_file(Path(path))
        with open_container(Path(path)) as container:
            start = (container.start_time or 0) / av.time_base
            return clock.player_start(container.format.name, start)
    except (AvelError, av.error.FFmpegError):
        return 0.0


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


def _candidates(
    path: Path,
    tracks: Sequence[Track],
    kind: Kind,
    best: int,
    requested: int | None,
    notes: dict[Kind, list[str]],
) -> list[Track]:
    """The tracks of a kind that may be read, the best one first; only the requested one if any."""
    matching = [t for t in tracks if t.kind == kind]
    if requested is not None:
        matching = [t for t in matching if t.number == requested]
        if not matching:
            known = ", ".join(str(t) for t in tracks if t.kind == kind)
            raise UsageError(
                f"{path} has no {kind} track {requested}",
                expected=f"one of {known}" if known else f"nothing: it has no {kind} track",
                hint=f"choose by the track's number, or leave the {kind} track out",
            )
    if not matching:
        notes[kind].append(f"the file has no {_WORDS[kind]}")
    candidates = []
    for track in sorted(matching, key=lambda t: t.index != best):
        if kind == "audio" and track.rate and not RATES[0] <= track.rate <= RATES[1]:
            notes[kind].append(f"{_WORDS[kind]}: track {track} is none, at that rate")
        else:
            candidates.append(track)
    return candidates


def _readable(
    path: Path,
    tracks: Sequence[Track],
    candidates: Sequence[Track],
    scan: _Scan,
    notes: list[str],
) -> Track | None:
    """The first candidate that gives at least one frame, as that frame shows it."""
    for track in candidates:
        frame = scan.frames.get(track.index)
        if frame is None and track.index not in scan.times:
            frame = _first_frame(path, track)
        if frame is not None:
            count = sum(t.kind == track.kind for t in tracks)
            readable = _as_decoded(track, frame)
            if count > 1:
                notes.append(f"{_WORDS[track.kind]}: of {count} tracks, {readable} {_TAKEN}")
            return readable
        notes.append(f"{_WORDS[track.kind]}: nothing of track {track} can be decoded")
    return None


def has_track(notes: Iterable[str], kind: Kind) -> bool:
    """Whether a file has a track of a kind that can be decoded, by the notes of its probe."""
    word = _WORDS[kind]
    unread = (f"{word}: track ", f"{word}: nothing of track ")
    matching = [n for n in notes if n.lower().startswith((f"{word}:", f"the file has no {word}"))]
    refused = any(n.lower().startswith((*unread, f"the file has no {word}")) for n in matching)
    return not refused or any(map(names_track, matching))


def names_track(note: str) -> bool:
    """Whether a note says which of several tracks was taken."""
    return note.rstrip(".").endswith(_TAKEN)


def _check_size(path: Path, track: Track) -> None:
    """Refuse a picture that is too large to be decoded."""
    if track.width * track.height > MAX_PIXELS:
        size = f"{track.width}x{track.height}"
        most = f"at most {MAX_PIXELS} pixels"
        raise unreadable(path, f"has a picture of {size}", expected=most, hint="scale it down")


def _first_frame(path: Path, track: Track) -> Any:
    """The first frame of a track that can be used, or None."""
    _check_size(path, track)
    frames = decoded(path, track.index, Damage())
    first = next((f for f in frames if _usable(track, f)), None)
    frames.close()  # type: ignore[attr-defined]
    return first


def _usable(track: Track, frame: Any) -> bool:
    return track.kind == "video" or is_sound(frame)


def _as_decoded(track: Track, frame: Any) -> Track:
    """A track with the size and rotation of its first decoded frame (video)."""
    if track.kind == "audio":
        return track
    return replace(track, rotation=frame.rotation % 360, width=frame.width, height=frame.height)


class _Extent(NamedTuple):
    """Start on the file's own clock and duration, seconds; whether the sound's times are right."""

    start: float
    duration: float
    timed: bool = True


def _extent(container: Any, scan: _Scan, chosen: Sequence[Track], notes: list[str]) -> _Extent:
    """When the chosen tracks start and how long they last: by their packets, not by the headers.

    The headers of files that are too large to be scanned are taken as right.
    """
    start = scan.start
    streams = [container.streams[t.index] for t in chosen]
    header_end = _stated_end(container, streams, start or 0.0)
    shortest = min(1.0, 1 / (chosen[0].fps or 25.0))
    if header_end is not None and not scan.whole:
        return _Extent(start or 0.0, max(header_end - (start or 0.0), shortest))
    times = {t.index: scan.times[t.index] for t in chosen}
    if start is None:
        start = min((f.first for f in times.values() if f.first is not None), default=0.0)
    ends: dict[Kind, float] = {}
    timed = True
    for track in sorted(chosen, key=lambda t: t.kind):  # the sound first
        timing = times[track.index]
        if not timing.ends and not timing.untimed:
            continue
        end = _true_end(timing.ends, header_end) if timing.ends else start + timing.untimed
        if track.kind == "audio" and end - start > _SAMPLED * timing.filled + _PAUSE:
            spread = f"{end - start:.0f} s, and aren't believed"
            notes.append(f"sound: {timing.filled:.1f} s of it have times spread over {spread}")
            end, timed = start + timing.filled, False
        if track.kind == "video" and timing.ends and end - start <= MAX_DURATION:
            cut = _shown_until(timing, end, ends.get("audio"))
            if cut < end:
                notes.append(f"picture: what its times put after {cut - start:.1f} s is left out")
            end = cut
        ends[track.kind] = end
    last = max(ends.values(), default=start if header_end is None else header_end)
    if ends and timed:
        _compare(container, start, last, header_end, notes)
    return _Extent(start, max(last - start, shortest), timed)


def _shown_until(times: _PacketTimes, end: float, sound: float | None) -> float:
    """The end of the picture, without what only wrong times put there.

    That is what follows a pause that no recording has, and, of pictures that come very seldom, what
    goes on long after the sound or, where there is none, takes more time than so many can fill.
    """
    begins = sorted(times.begins)
    if end - begins[0] > _SELDOM * len(begins):
        filled = begins[0] + max(_LONGEST_SHOWN, _SELDOM * len(begins))
        if sound is None:
            end = min(end, filled)
        elif end > sound + _LONGEST_SHOWN:
            end = sound
    jump = next((a for a, b in pairwise(begins) if b - a > _LONGEST_SHOWN), end)
    return max(min(jump, end), min(sound or 0.0, end))


def _compare(
    container: Any, start: float, end: float, header_end: float | None, notes: list[str]
) -> None:
    """Note where a file is shorter than its header says, be that counted from 0 or from start."""
    if header_end is None or not set(_TIMED.split()) & set(container.format.name.split(",")):
        return
    lost = header_end - end
    if lost > 0.5 and abs(lost - start) > 0.5:
        note = f"the file says it lasts {header_end - start:.1f} s but ends at {end - start:.1f} s"
        notes.append(note)


def _stated_end(container: Any, streams: Sequence[Any], start: float) -> float | None:
    """The end by what the headers say, on the file's own clock."""
    ends = [
        float(((s.start_time or 0) + s.duration) * s.time_base)
        for s in streams
        if s.duration and s.time_base
    ]
    if len(ends) == len(streams):
        return max(ends)
    if not container.duration:
        return None
    whole: float = container.duration / av.time_base
    return max(whole, start) if "matroska" in container.format.name else start + whole


class _PacketTimes:
    """What the packets of a track say, in the file's order."""

    def __init__(self, stream: Any) -> None:
        self.first: float | None = None
        self.begins: list[float] = []
        self.ends: list[float] = []
        self.untimed = 0.0  # seconds of packets without times
        self.filled = 0.0  # seconds that a decoder makes of the packets, where that is known
        context = stream.codec_context  # read before the decoder opens, which may change it
        known = stream.type == "audio" and context.frame_size and context.sample_rate
        self._decoded = context.frame_size / context.sample_rate if known else None

    def add(self, packet: Any, rate: float, *, by_place: bool) -> None:
        """One more packet.

        Args:
            packet: The packet.
            rate: Frames a second of the track, 0 where not known: for packets without times (raw
                streams) or lengths.
            by_place: Whether the packet's place counts, not the time of what it holds.
        """
        usual = 1 / rate if rate > 0 else 0.0
        time = packet.dts if by_place else packet.pts
        length = float(packet.duration * packet.time_base) if packet.duration else usual
        self.filled += length if self._decoded is None else self._decoded
        if time is None:
            self.untimed += usual
            return
        begin = float(time * packet.time_base)
        self.begins.append(begin)
        self.ends.append(begin + length)
        self.first = begin if self.first is None else min(self.first, begin)


class _Scan:
    """One pass over a file's packets: their times, and the first usable frame of each track.

    Of a file that is too large to be scanned, whose headers say how long it is, as much is read as
    the first frames take.

    Args:
        container: The open file.
        path: Its path.
        tracks: Those whose packets are read.

    Raises:
        MediaError: if a picture is too large.
    """

    def __init__(self, container: Any, path: Path, tracks: Sequence[Track]) -> None:
        known = container.start_time is not None
        self.start: float | None = container.start_time / av.time_base if known else None
        self._tracks = {t.index: t for t in tracks}
        streams = [container.streams[index] for index in self._tracks]
        self.times = {s.index: _PacketTimes(s) for s in streams}
        self.frames: dict[int, Any] = {}
        header_end = _stated_end(container, streams, self.start or 0.0) if streams else None
        self.whole = header_end is None or path.stat().st_size <= _SCAN
        for track in tracks:
            _check_size(path, track)
        for stream in streams:
            prepare(stream)
        if streams:
            self._read(container, streams)

    def _read(self, container: Any, streams: Sequence[Any]) -> None:
        by_place = container.format.name == "avi"
        for packet in packets(container, streams, Damage()):
            track = self._tracks[packet.stream.index]
            if packet.size and not packet.is_discard:
                self.times[track.index].add(packet, track.fps, by_place=by_place)
            if track.index not in self.frames:
                self._decode(packet, track)
            if not self.whole and len(self.frames) == len(self._tracks):
                return

    def _decode(self, packet: Any, track: Track) -> None:
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            return
        first = next((f for f in frames if _usable(track, f)), None)
        if first is not None:
            self.frames[track.index] = first


def _true_end(ends: Sequence[float], header_end: float | None) -> float:
    """The last end; where that is far from what the headers say, without a few wild ones."""
    ordered = sorted(ends)
    if header_end is None or ordered[-1] <= 2 * header_end + 60:
        return ordered[-1]
    few = 1 + len(ordered) // 20
    for place in range(len(ordered) - few, len(ordered)):
        if place > 0 and ordered[place] - ordered[place - 1] > 60:
            return ordered[place - 1]
    return ordered[-1]
