"""From packets to pictures and sound on one clock: what ``media`` is made of.

Times are seconds from the file's start. Damage is survived packet by packet and counted.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
import soxr
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from avel import clock
from avel.errors import MediaError, counted
from avel.media.downmix import MEAN, Downmix, measured

#: Demuxers for media that people hand in. Playlists (which open other files), devices and text
#: that FFmpeg would draw as pictures aren't among them.
FORMATS = (
    "aac,ac3,aiff,amr,ape,asf,au,av1,avi,caf,dv,eac3,flac,flv,gif,h264,hevc,ivf,m4v,matroska,mjpeg,"
    "mov,mp3,mp4,mpeg,mpegts,mpegvideo,mxf,nsv,nut,obu,ogg,rm,swf,tta,vc1,voc,w64,wav,webm,wtv,wv,"
    "yuv4mpegpipe"
)
#: Timestamps may jitter this much (seconds) before sound is taken as late or overlapping.
JITTER = 0.02
#: Pictures larger than this (pixels) are refused; those above the second are decoded by one thread,
#: since each holds pictures of its own.
MAX_PIXELS, LARGE_PIXELS = 2**26, 2**24
#: Sound of fewer or more samples a second than this is none.
RATES = (1000, 1_000_000)
# libswscale: bilinear, accurate rounding, chroma in full at input and output
_BILINEAR = 0x2 | 0x40000 | 0x4000 | 0x2000
_LOUDEST = 4.0  # floats beyond this are damage
_RETRIES = 50
#: Bytes of decoded sound that are kept while its channels are measured.
AHEAD_BYTES = 2**25
_PLANES = 8
_EPS = 1e-6

Image = NDArray[np.uint8]
Samples = NDArray[np.float32]


@dataclass
class Damage:
    """What couldn't be read of one track."""

    packets: int = 0
    corrupt: int = 0
    dropped: int = 0
    reads: int = 0

    def clear(self) -> None:
        """Count from nothing again."""
        self.packets = self.corrupt = self.dropped = self.reads = 0

    def sentences(self, what: str) -> Iterator[str]:
        """A sentence for each kind of damage."""
        if self.packets:
            yield f"{what}: {counted(self.packets, 'packet')} couldn't be decoded"
        if self.corrupt:
            damaged = "frame is" if self.corrupt == 1 else "frames are"
            yield f"{what}: {self.corrupt} {damaged} damaged (used as it came)"
        if self.dropped:
            left = counted(self.dropped, "frame")
            yield f"{what}: {left} left out, out of order or not convertible"
        if self.reads:
            yield f"{what}: the file couldn't be read on at {counted(self.reads, 'place')}"


def open_container(path: Path) -> Any:
    """The container of a local file; no playlist, no network, no name taken for a protocol.

    Raises:
        av.error.FFmpegError: if it is no media file.
    """
    options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
    return av.open(f"file:{path.absolute()}", options=options, metadata_errors="replace")


def packets(container: Any, streams: Any, damage: Damage) -> Iterator[Any]:
    """The packets of streams, reading on behind damage; the last ones flush the decoders.

    Empty ones in between, by which ogg and AVI say that a picture stays on, are passed over: a
    decoder would take them for the end.
    """
    failures = 0
    while failures < _RETRIES:
        try:
            for packet in container.demux(streams):
                failures = 0
                if packet.size or (packet.pts is None and packet.dts is None):
                    yield packet
            return
        except av.error.FFmpegError:
            failures += 1
            damage.reads += failures == 1
        except IndexError:  # a packet of a stream that turned up after the file was opened
            continue


def decoded(path: Path, index: int, damage: Damage, *, since: float | None = None) -> Iterator[Any]:
    """The frames of one stream in the order they are shown or heard.

    Args:
        path: The file.
        index: The stream's index in the file.
        damage: Counts what couldn't be decoded.
        since: Seconds on the file's own clock to seek to; frames may begin before or behind it. A
            file that has no way to seek is read from its start.

    Raises:
        MediaError: if the file can't be opened any more.
    """
    with TrackReader(path, index) as reader:
        yield from reader.frames(damage, since=since)


class TrackReader:
    """One track of a file, decoded from any instants on; the file stays open in between.

    Args:
        path: The file.
        index: The stream's index in the file.
    """

    def __init__(self, path: Path, index: int) -> None:
        self._path, self._index = path, index
        self._container: Any = None

    def __enter__(self) -> TrackReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def frames(self, damage: Damage, *, since: float | None = None) -> Iterator[Any]:
        """The frames from an instant on, or all; what an earlier call gave ends by it.

        Arguments and errors as for :func:`decoded`. The file is opened again only where it has no
        way to seek, or is to be read from its start once more.
        """
        try:
            if self._container is None or since is None:
                self._open()
            if since is not None and not _sought(self._container, self._index, since):
                self._open()
        except av.error.FFmpegError as e:
            got = f"{self._path}: can't be read ({e.strerror})"
            raise MediaError(got, hint="check that it plays") from e
        yield from _frames(self._container, self._container.streams[self._index], damage)

    def _open(self) -> None:
        self._close()
        self._container = open_container(self._path)
        prepare(self._container.streams[self._index])

    def _close(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None


def _sought(container: Any, index: int, since: float) -> bool:
    stream = container.streams[index]
    try:
        container.seek(int(since / stream.time_base), stream=stream)
    except (av.error.FFmpegError, OverflowError):
        return False
    return True


def prepare(stream: Any) -> None:
    """Threads and bounds of a decoder, before it opens.

    PyAV's logging, where a program has switched it on, waits in FFmpeg's threads for Python's lock
    while whoever closes the decoder holds that and waits for the threads: then there are none.
    """
    context = stream.codec_context
    size = context.width * context.height if stream.type == "video" else 0
    if stream.type == "video":
        context.options = {"max_pixels": str(MAX_PIXELS)}
    if av.logging.get_level() is not None or size > LARGE_PIXELS:
        stream.thread_type = "NONE"
        context.thread_count = 1
    else:
        stream.thread_type = "AUTO"


def _frames(container: Any, stream: Any, damage: Damage) -> Iterator[Any]:
    """The frames of a stream; those of an AVI with the times of the places where they come out.

    It stores no others, and what FFmpeg makes of them is wrong where frames are rearranged.
    """
    by_place = container.format.name == "avi" and stream.type == "video"
    first: int | None = None
    delay: int | None = None
    for packet in packets(container, stream, damage):
        first = packet.dts if first is None else first
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            damage.packets += 1
            continue
        for frame in frames:
            if by_place:
                if delay is None and first is not None and frame.dts is not None:
                    delay = frame.dts - first
                known = delay is not None and frame.dts is not None
                frame.pts = frame.dts - delay if known else None
            yield frame


@dataclass
class Shown:
    """One frame on the clock: ``time`` to ``end`` in seconds."""

    time: float
    end: float
    frame: Any


def on_clock(frames: Iterator[Any], *, start: float, fps: float, damage: Damage) -> Iterator[Shown]:
    """Frames with their times, those out of order left out.

    Args:
        frames: Decoded video frames.
        start: The file's start on its own clock, seconds.
        fps: Average rate, for frames without times or durations; 0 where not known.
        damage: Counts what is left out.
    """
    usual = 1 / fps if fps > 0 else 0.04
    last = -usual
    waiting: Shown | None = None
    for frame in frames:
        before = last if waiting is None else waiting.time
        time = before + usual if frame.time is None else frame.time - start
        if frame.width * frame.height > MAX_PIXELS or time < last:
            damage.dropped += 1
            continue
        damage.corrupt += bool(frame.is_corrupt)
        length = float(frame.duration * frame.time_base) if frame.duration else usual
        if waiting is not None and waiting.time <= time:
            yield waiting
            last = waiting.time
        elif waiting is not None:  # its time was a wrong one, far ahead
            damage.dropped += 1
        waiting = Shown(time, time + length, frame)
    if waiting is not None:
        yield waiting


class Screen:
    """Which frame is shown at an instant; instants must be requested in order.

    Args:
        frames: In order of time.
        until: Seconds until when the last one stays on, if it doesn't end later by itself.
    """

    def __init__(self, frames: Iterator[Shown], *, until: float = 0.0) -> None:
        self._frames, self._until = frames, until
        self._shown: Shown | None = None
        self._next = next(frames, None)

    @property
    def starts(self) -> float:
        """When the next frame comes on, infinite where none does."""
        return math.inf if self._next is None else self._next.time

    def at(self, instant: float) -> Shown | None:
        """The last frame with time <= instant; None before the first and behind the last one."""
        while self._next is not None and self._next.time <= instant + _EPS:
            self._shown, self._next = self._next, next(self._frames, None)
        if self._shown is None or (self._next is None and instant > self.end - _EPS):
            return None
        return self._shown

    @property
    def end(self) -> float:
        """When the frame that is on ends, if no other comes on before."""
        return max(self._until, self._shown.end) if self._shown is not None else self._until

    @property
    def extended(self) -> tuple[float, float] | None:
        """Since when the last frame of all stays on beyond its own end, and until when."""
        if self._shown is None or self._next is not None or self._until <= self._shown.end:
            return None
        return self._shown.end, self._until

    def first_before(self, end: float) -> Shown | None:
        """The first frame of all, if it isn't on yet and comes on before ``end``."""
        waits = self._shown is None and self._next is not None and self._next.time < end
        return self._next if waits else None


class Shrinker:
    """RGB pictures of one size, upright; a frame requested twice is converted once.

    Bilinear by libswscale, whose filter widens when it shrinks, as Pillow's does (OpenCV's
    doesn't), with colours interpolated in full: on 4:2:0 frames of real files it is 0.2 to 0.7 of
    255 away, on average, from Pillow's bilinear on exactly converted RGB. Without the flags for
    colour it would be 1.4 to 2.6.
    """

    def __init__(self, damage: Damage) -> None:
        self._reformatter = VideoReformatter()
        self._damage = damage
        self._last: tuple[Shown, Image | None] | None = None

    def __call__(self, shown: Shown, width: int, height: int) -> Image | None:
        """(height, width, 3) uint8, or None where the frame's format can't be converted."""
        if self._last is None or self._last[0] is not shown:
            self._last = (shown, self._convert(shown.frame, width, height))
        return self._last[1]

    def _convert(self, frame: Any, width: int, height: int) -> Image | None:
        turns = int(frame.rotation // 90) % 4
        if turns % 2:
            width, height = height, width
        try:
            small = self._reformatter.reformat(
                frame, width=width, height=height, format="rgb24", interpolation=_BILINEAR
            )
            image: Image = np.rot90(small.to_ndarray(), turns)
        except (av.error.FFmpegError, ValueError):
            self._damage.dropped += 1
            return None
        return np.ascontiguousarray(image)


class Channels:
    """The channels of one stream's audio frames."""

    def __init__(self) -> None:
        self._packer: tuple[Any, Any] = None, None

    def __call__(self, frame: Any) -> Samples | None:
        """(channels, n) floats in about [-1, 1]; None for samples of an unknown format."""
        try:
            data = self._data(frame)
        except (av.error.FFmpegError, ValueError, KeyError):
            return None
        if data.dtype == np.uint8:
            data = (data.astype(np.float32) - 128) / 128
        elif data.dtype.kind == "i":
            data = data.astype(np.float32) / np.float32(2.0 ** (8 * data.dtype.itemsize - 1))
        return np.asarray(data, np.float32)

    def _data(self, frame: Any) -> NDArray[Any]:
        if not frame.format.is_planar:
            return np.asarray(frame.to_ndarray().reshape(-1, frame.layout.nb_channels).T)
        if frame.layout.nb_channels < _PLANES:
            return np.asarray(frame.to_ndarray())
        parts = [self._data(packed) for packed in self._packed(frame)]
        return np.concatenate(parts, axis=1) if parts else np.zeros((1, 0), np.float32)

    def _packed(self, frame: Any) -> list[Any]:
        """The frame with its channels in one plane: PyAV reads beyond the end of eight and more."""
        key = (frame.format.name, frame.layout.name, frame.sample_rate)
        if self._packer[0] != key:
            packer = av.AudioResampler(format=frame.format.packed, layout=frame.layout)
            self._packer = key, packer
        return list(self._packer[1].resample(frame))


def _bounded(samples: Samples) -> Samples:
    """Without what is no number, or louder than any sound."""
    finite = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
    clipped: Samples = np.clip(finite, -_LOUDEST, _LOUDEST).astype(np.float32)
    return clipped


def measure(frames: Iterator[Any]) -> Downmix:
    """How the channels of decoded audio frames become one; as many are decoded as that takes."""
    channels = Channels()
    return measured(
        ([c.name for c in f.layout.channels], f.sample_rate, _bounded(count))
        for f in frames
        if is_sound(f) and (count := channels(f)) is not None
    )


class FramesAhead:
    """Audio frames that are read ahead, and can be had once more with those behind them.

    Args:
        frames: Decoded audio frames.
        most: Bytes of samples that stay in memory.
    """

    def __init__(self, frames: Iterator[Any], *, most: int = AHEAD_BYTES) -> None:
        self._frames, self._most = frames, most
        self._buffer: deque[Any] = deque()
        self._bytes = 0

    @property
    def complete(self) -> bool:
        """Whether all frames that were read are still in memory."""
        return self._bytes <= self._most

    def __iter__(self) -> Iterator[Any]:
        for frame in self._frames:
            self._bytes += frame.samples * frame.layout.nb_channels * frame.format.bytes
            if self.complete:
                self._buffer.append(frame)
            else:
                self._buffer.clear()
            yield frame

    def again(self) -> Iterator[Any]:
        """The frames that were read, and the rest."""
        while self._buffer:
            yield self._buffer.popleft()
        yield from self._frames


def is_sound(frame: Any) -> bool:
    """Whether an audio frame holds samples, at a rate that sound has."""
    return bool(frame.samples) and RATES[0] <= frame.sample_rate <= RATES[1]


@dataclass
class SoundBlock:
    """Decoded sound: when it starts (seconds, None for where the last ended), and its samples."""

    time: float | None
    rate: int
    samples: Samples


def blocks(
    frames: Iterator[Any],
    *,
    start: float,
    damage: Damage,
    channel: int | None = None,
    mix: Downmix = MEAN,
    natural: bool = False,
    timed: bool = True,
) -> Iterator[SoundBlock]:
    """Mono blocks of decoded audio frames, on the file's clock.

    Args:
        frames: Decoded audio frames.
        start: The file's start on its own clock, seconds.
        damage: Counts what is left out.
        channel: The only channel taken; None for the mix of all.
        mix: How the channels become one.
        natural: Whether a quiet file stays as quiet as it is.
        timed: False where the frames' own times are wrong, and each begins where the last ended.
    """
    channels = Channels()
    waiting: SoundBlock | None = None
    following: float | None = None
    for frame in frames:
        samples = channels(frame) if is_sound(frame) else None
        if samples is None:
            damage.dropped += 1
            continue
        damage.corrupt += bool(frame.is_corrupt)
        mono = (
            mix(samples, natural=natural)
            if channel is None
            else samples[min(channel, len(samples) - 1)]
        )
        time = None if frame.time is None else frame.time - start
        if not timed and following is not None:
            time = following
        following = None if time is None else time + frame.samples / frame.sample_rate
        block = SoundBlock(time, frame.sample_rate, _bounded(mono))
        if waiting is not None:
            yield _placed(waiting, block)
        waiting = block
    if waiting is not None:
        yield waiting


def _placed(block: SoundBlock, following: SoundBlock) -> SoundBlock:
    """The block; without its time where the next one begins earlier, so that it can't be right."""
    known = block.time is not None and following.time is not None
    wrong = known and following.time < block.time - JITTER  # type: ignore[operator]
    return SoundBlock(None, block.rate, block.samples) if wrong else block


@dataclass
class _ResampledRun:
    """Consecutive sound of one sample rate on its way through the resampler."""

    rate: int
    begin: float
    resampler: Any
    fed: int = 0

    @property
    def now(self) -> float:
        return self.begin + self.fed / self.rate


@dataclass
class SoundLine:
    """A sound track as one unbroken line of samples from 0.0 s on.

    Late starts and gaps are silence, overlaps are dropped, and what lies before 0.0 s too.

    Args:
        incoming: The blocks.
        rate: Samples a second that are read.
    """

    incoming: Iterator[SoundBlock]
    rate: int
    _ready: deque[Samples] = field(default_factory=deque)
    _ready_count: int = 0
    _produced: int = 0
    _read_count: int = 0
    _source: _ResampledRun | None = None
    _waiting: SoundBlock | None = None
    _real: deque[tuple[int, int]] = field(default_factory=deque)

    def read(self, count: int) -> tuple[Samples, int]:
        """The next ``count`` samples (zeros behind the end), and how many of them are real."""
        while self._ready_count < count and self._more():
            pass
        out = np.zeros(count, np.float32)
        filled = 0
        while filled < count and self._ready:
            head = self._ready.popleft()
            part = head[: count - filled]
            out[filled : filled + len(part)] = part
            filled += len(part)
            if len(part) < len(head):
                self._ready.appendleft(head[len(part) :])
        self._ready_count -= filled
        self._read_count += count
        return out, self._count_real(self._read_count - count, self._read_count)

    def _count_real(self, first: int, end: int) -> int:
        while self._real and self._real[0][1] <= first:
            self._real.popleft()
        return sum(max(0, min(b, end) - max(a, first)) for a, b in self._real)

    def _more(self) -> bool:
        waited, self._waiting = self._waiting, None
        block = waited or next(self.incoming, None)
        if block is None:
            self._flush()
            return False
        if self._source is None or self._source.rate != block.rate:
            self._flush()
            self._source = self._begin(block.rate)
        self._feed(self._source, block, exact=waited is not None)
        return True

    def _begin(self, rate: int) -> _ResampledRun:
        same = rate == self.rate
        stream = None if same else soxr.ResampleStream(rate, self.rate, 1, quality="HQ")
        return _ResampledRun(rate, self._produced / self.rate, stream)

    def _feed(self, source: _ResampledRun, block: SoundBlock, *, exact: bool) -> None:
        late = 0
        if block.time is not None:
            late = clock.sample_index(block.time - source.begin, source.rate) - source.fed
        if abs(late) <= JITTER * source.rate and source.fed and not exact:
            late = 0
        if late > 0:  # silence, at most a second at a time; the block has to wait
            self._push(source, np.zeros(min(late, source.rate), np.float32))
            self._waiting = block
            return
        samples = block.samples[-late:] if late else block.samples
        if len(samples):
            begin = clock.sample_index(source.now, self.rate)
            self._push(source, samples)
            self._note_real(begin, clock.sample_index(source.now, self.rate))

    def _note_real(self, begin: int, end: int) -> None:
        if self._real and begin <= self._real[-1][1]:
            begin = self._real.pop()[0]
        self._real.append((begin, end))

    def _push(self, source: _ResampledRun, samples: Samples) -> None:
        source.fed += len(samples)
        self._add_ready(source.resampler.resample_chunk(samples) if source.resampler else samples)

    def _flush(self) -> None:
        if self._source is not None and self._source.resampler is not None:
            rest = np.zeros(0, np.float32)
            self._add_ready(self._source.resampler.resample_chunk(rest, last=True))
        self._source = None

    def _add_ready(self, samples: Samples) -> None:
        if len(samples):
            self._ready.append(samples)
            self._ready_count += len(samples)
            self._produced += len(samples)
