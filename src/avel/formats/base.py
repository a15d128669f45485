"""Shared by the formats: the base classes, the limits, and checks of values from files."""

from __future__ import annotations

import math
import ntpath
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, NoReturn
from urllib.parse import parse_qs, quote, unquote, urlsplit

from avel import clock
from avel.errors import AvelError, DataError, UsageError
from avel.files import file_exists, write_whole
from avel.formats.marks import mark_of, write_beside
from avel.formats.text import escape, unescape
from avel.registry import Registry
from avel.types import (
    MAX_LAG,
    MODALITIES,
    SUFFIXES,
    Event,
    EventModality,
    Json,
    ProbedFile,
    Timeline,
)

#: The largest file that is read or written, in bytes: about a day of segments of 28 classes.
MAX_BYTES = 128 * 2**20
#: The most events or segments, and the longest name, that are read.
MAX_ROWS, MAX_NAME = 1_000_000, 1000
#: The latest time that is accepted, in seconds: some four months.
MAX_SECONDS = 1e7
#: The most notes of a file that are written or read again, and the longest.
_NOTES, _NOTE = 50, 500
#: So many skipped rows are named; the others are counted.
_SHOWN = 20
_LEFT_OUT = "Left out: "


class SkippedRows:
    """The rows of a file that can't be read, each with the reason; the reader goes on.

    Args:
        path: The file, for messages.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        #: Rows that were read, and rows that were skipped.
        self.read_count, self.count = 0, 0
        self._reasons: list[str] = []
        self._notes: list[str] = []

    @contextmanager
    def row(self, where: int | str) -> Iterator[None]:
        """A context in which one row is read; if that fails, the row is skipped.

        Args:
            where: Its line, or what it is called: ``"region 3"``.
        """
        try:
            yield
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as e:
            self.skip(where, f"no {e}" if isinstance(e, KeyError) else str(e))
        except AvelError as e:
            self.skip(where, e.got)
        else:
            self.read_count += 1

    def skip(self, where: int | str, why: str) -> None:
        """Skip a row."""
        self.count += 1
        if len(self._reasons) < _SHOWN:
            place = f":{where}" if isinstance(where, int) else f", {where}"
            self._reasons.append(f"{self.path.name}{place}: {why[:200]}")

    def note(self, text: str) -> None:
        """Add a note about the file; the same note is added once."""
        if text not in self._notes:
            self._notes.append(text)

    @property
    def reasons(self) -> str:
        """The first five skipped rows with their reasons, in one clause."""
        shown = self._reasons[:5]
        more = [f"and {self.count - len(shown)} more"] if self.count > len(shown) else []
        return "; ".join([*shown, *more])

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence for each skipped row (at most 20, then their number), then other notes."""
        out = [f"{_LEFT_OUT}{reason}." for reason in self._reasons]
        if self.count > _SHOWN:
            out.append(f"{_LEFT_OUT}{self.count - _SHOWN} more of {self.path.name}.")
        return (*out, *self._notes)


class Writer(ABC):
    """One form that a timeline can be written in.

    Subclasses say what people call it (``title``): ``"ELAN"``, ``"Subtitles (WebVTT)"``.
    """

    title: ClassVar[str]
    #: Whether one file can hold the events of several videos.
    many: ClassVar[bool] = False
    #: Whether ``audio_only`` and ``visual_only`` are stored apart from the events.
    lanes: ClassVar[bool] = False
    #: Whether to write scores where the format shows them on request only.
    with_scores: bool = False

    def check(self, video: str, path: Path) -> ProbedFile | None:
        """Refuse, before any work is done, what can't be written; by default nothing.

        Args:
            video: The file that the timeline will be of.
            path: Where it will be written.

        Returns:
            The video, where it had to be probed for this; else None.
        """
        return None

    @abstractmethod
    def write(self, timeline: Timeline, path: Path) -> None:
        """Write the file, whole or not at all."""

    def write_all(self, timelines: Sequence[Timeline], path: Path) -> None:
        """Write several videos' events into one file.

        Raises:
            UsageError: if the format holds one video a file.
        """
        if len(timelines) != 1:
            raise UsageError(
                f"{len(timelines)} videos for one {path.name}",
                expected="a format that holds many: .csv, .tsv or .labelstudio.json",
                hint="or give a folder or an ending, for a file each",
            )
        self.write(timelines[0], path)


class Format(Writer):
    """One format that is written and read.

    Subclasses say which ending their files have (``ending``), which ones they read (``reads``),
    and recognize their content where several formats share an ending.
    """

    ending: ClassVar[str]
    reads: ClassVar[tuple[str, ...]]
    #: Whether its times are those of a browser's player, whose second 0 may be later.
    player: ClassVar[bool] = False
    #: Whether its files store the mark of predictions; see :mod:`avel.formats.marks`.
    stores_mark: ClassVar[bool] = False

    def write(self, timeline: Timeline, path: Path) -> None:
        """Write one video's events, whole or not at all."""
        self.put(path, self.dump(timeline, path), [timeline])

    def put(self, path: Path, content: str | bytes, timelines: Sequence[Timeline]) -> None:
        """Write a file's content, and marks of predictions beside it if the file has no room."""
        data = encode_text(path, content)
        if not self.stores_mark:
            names = zip(video_names(timelines), timelines, strict=True)
            write_beside(path, {name: self.mark(t) for name, t in names if t.predicted})
        write_whole(path, data)

    def mark(self, timeline: Timeline) -> str:
        """The mark of predictions, of the events as the file stores them."""
        shown = timeline.for_player() if self.player else timeline
        return mark_of(shown, shown.events)

    @abstractmethod
    def dump(self, timeline: Timeline, path: Path) -> str | bytes:
        """The file's content; ``path`` is where it will be written."""

    @abstractmethod
    def load(self, text: str, path: Path, skipped: SkippedRows) -> list[Timeline]:
        """The timelines of a file that isn't empty, at least one.

        Args:
            text: Its content.
            path: Its place.
            skipped: Takes the rows that can't be read.

        Raises:
            ValueError: or another error of parsing, if nothing can be read; the caller adds the
                file's name.
        """

    def recognizes(self, text: str) -> bool:
        """Whether a text is of this format; called where several formats share an ending."""
        return True


formats: Registry[Format] = Registry("format", "avel.formats")


def format_named(name: str) -> Format:
    """The format of a name, as in ``--format``.

    Raises:
        UsageError: if there is none; the nearest are suggested.
    """
    return formats.get(name)()


def notes_of(notes: Iterable[object]) -> tuple[str, ...]:
    """The notes about the video that a label file holds: 50 of 500 characters, a line each.

    Notes about rows that a reader skipped are left out, when written and when read.
    """
    texts = (" ".join(str(note).split())[:_NOTE] for note in notes)
    return tuple(t for t in texts if t and not t.startswith(_LEFT_OUT))[:_NOTES]


def format_endings() -> dict[str, str]:
    """The names of all formats, with their endings: ``{"raven": ".selections.txt", …}``."""
    return {name: cls.ending for name, cls in formats}


def ending_of(path: str | Path, endings: Iterable[str]) -> str:
    """The longest of some endings that a file's name has after its stem, or ``""``."""
    name = Path(path).name.lower()
    matches = [e for e in endings if name.endswith(e) and len(name) > len(e)]
    return max(matches, key=len, default="")


def stem_of(path: Path) -> str:
    """A label file's name without the ending of its format."""
    ending = ending_of(path, format_endings().values())
    return path.name[: -len(ending)] if ending else path.stem


def video_names(timelines: Sequence[Timeline]) -> list[str]:
    """The videos' names in a table: without folders, or full paths if two would be equal."""
    names = [media_name(t.video, t.video) for t in timelines]
    return names if len(set(names)) == len(names) else [t.video for t in timelines]


def encode_text(path: Path, content: str | bytes) -> bytes:
    """A file's content in UTF-8, checked before anything is written.

    Raises:
        DataError: for half a surrogate pair, and for more than can be read again.
    """
    try:
        data = content.encode() if isinstance(content, str) else content
    except UnicodeEncodeError as e:
        line, column = _line_and_column(str(e.object), e.start)
        raise _surrogate_error(path, e, f"character {column} of line {line}") from e
    if len(data) > MAX_BYTES:
        raise DataError(
            f"{path} would have {len(data) // 2**20} MB of labels",
            expected=f"at most {MAX_BYTES // 2**20} MB, the most that is read again",
            hint="write fewer events, or another format",
        )
    return data


def _surrogate_error(path: Path, error: UnicodeEncodeError, where: str) -> DataError:
    return DataError(
        f"{path}: U+{ord(error.object[error.start]):04X} at {where}, half of a letter, which UTF-8 "
        "can't hold",
        expected="labels and names in whole letters",
        hint="correct the label or the file's name, or write .json",
    )


def file_uri(video: str, path: Path) -> str:
    """A video's ``file://`` address for a label file.

    A bare name of a file that isn't in the present folder stays relative to the label file,
    ``./street.mp4``: nobody knows its folder.

    Args:
        video: Its path or name.
        path: The label file, for messages.

    Raises:
        DataError: if its name holds half a letter.
    """
    try:
        if Path(video).name == video and not file_exists(video):
            return f"./{quote(video)}"
        return Path(video).absolute().as_uri()
    except UnicodeEncodeError as e:
        raise _surrogate_error(path, e, f"character {e.start + 1} of the video's path") from e


def _line_and_column(text: str, index: int) -> tuple[int, int]:
    """Line and column of a character, from 1."""
    return text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index)


def timeline_of(
    video: str,
    events: Iterable[Event],
    *,
    duration: float = 0.0,
    notes: Sequence[str] = (),
    keep_order: bool = False,
) -> Timeline:
    """A timeline of annotations in order of time, with the classes in order of their first event.

    Args:
        video: The name of the media file.
        events: At most ``MAX_ROWS``, in any order.
        duration: Seconds; at least the last event's end is taken.
        notes: A sentence each.
        keep_order: Whether the events stay in the order in which they come.
    """
    rows = tuple(events if keep_order else sorted(events, key=lambda e: (e.start, e.end)))
    return Timeline(
        video=video,
        events=rows,
        duration=max([duration, *(e.end for e in rows)]),
        classes=tuple(dict.fromkeys(e.label for e in rows)),
        notes=tuple(notes),
    )


def event_of(
    start: Any,
    end: Any,
    label: Any,
    score: Any = 1.0,
    modality: Any = "both",
    *,
    audio_weight: Any = None,
    lag: Any = None,
) -> Event:
    """An event with everything checked: times, label, score, modality, audio weight and lag.

    Raises:
        ValueError: that says what is wrong.
    """
    name = name_of(label)
    if not name:
        raise ValueError(f"no label from {start} to {end} s")
    first, last = seconds_of(start), seconds_of(end)
    if last <= first:
        what = "has no length" if last == first else "ends before it starts"
        raise ValueError(f"{name[:40]!r} from {first:g} to {last:g} s {what}")
    if modality not in MODALITIES:
        raise ValueError(
            f"modality {str(modality)[:40]!r}: expected one of {', '.join(MODALITIES)}"
        )
    return Event(
        first,
        last,
        name,
        probability_of(score),
        modality,
        audio_weight=None if audio_weight is None else probability_of(audio_weight),
        lag=None if lag is None else lag_of(lag),
    )


def media_name(address: str, default: str) -> str:
    """The file's name in an address or path, without folders and queries.

    Only the bare name is taken from a label file: the video is looked for beside it and nowhere
    else.
    """
    return (_folders_of(address) or (default,))[-1]


def _folders_of(address: str) -> tuple[str, ...]:
    """The folders and the name of an address or path, without ``..``."""
    is_url = "://" in address or "?" in address or address.startswith("./")
    parts = urlsplit(address.replace("\\", "/")) if is_url else None
    if parts is not None:
        local = parse_qs(parts.query).get("d", [""])[0]
        address = local or unquote(parts.path)
    inner = PurePosixPath(ntpath.splitdrive(address.rstrip("/\\"))[1].replace("\\", "/")).parts
    if "\0" in address or not inner or inner[-1] in ("..", "/"):
        return ()
    return tuple(p for p in inner if p not in ("/", "//", ".."))


def names_apart(addresses: Iterable[str], default: str) -> dict[str, str]:
    """Names of the videos at some addresses: bare names, with folders where these are equal.

    ``file:///a/cam1/clip.mp4`` and ``file:///a/cam2/clip.mp4`` are ``cam1/clip.mp4`` and
    ``cam2/clip.mp4``.

    Args:
        addresses: Paths or addresses, as a file names its videos.
        default: The name of one that names nothing.
    """
    parts = {a: _folders_of(a) or (default,) for a in addresses}
    names: dict[tuple[str, ...], str] = {}
    waiting = dict.fromkeys(parts.values(), 1)
    while waiting:
        tails: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
        for path, count in waiting.items():
            tails.setdefault(path[-count:], []).append(path)
        alike = {path for group in tails.values() if len(group) > 1 for path in group}
        ambiguous = {path: 2 * waiting[path] for path in alike if waiting[path] < len(path)}
        names |= {path: "/".join(path[-n:]) for path, n in waiting.items() if path not in ambiguous}
        waiting = ambiguous
    return {address: names[path] for address, path in parts.items()}


def lines_of(text: str) -> list[str]:
    """The lines of a text, whatever ends them."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def check_count(count: int, what: str) -> None:
    """Refuse more than ``MAX_ROWS`` of something.

    Raises:
        ValueError: that says so.
    """
    if count > MAX_ROWS:
        raise ValueError(f"more than {MAX_ROWS} {what}")


def no_constant(name: str) -> NoReturn:
    """For JSON readers: NaN and the infinities are no numbers."""
    raise ValueError(f"{name} is no number")


def object_of(value: Any) -> Json:
    """The value, if it is a JSON object."""
    if not isinstance(value, dict):
        raise ValueError(f"{str(value)[:40]!r}: expected an object")
    return value


def rows_of(value: Any) -> list[Any]:
    """The value, if it is a list of at most ``MAX_ROWS``."""
    if not isinstance(value, list) or len(value) > MAX_ROWS:
        raise ValueError(f"expected a list of at most {MAX_ROWS} rows")
    return value


def name_of(value: Any) -> str:
    """The value, if it is a text of at most ``MAX_NAME`` characters."""
    if not isinstance(value, str) or len(value) > MAX_NAME:
        raise ValueError(f"{str(value)[:40]!r}: expected a text of at most {MAX_NAME} characters")
    return value


def number_of(value: Any) -> float:
    """The value, if it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{str(value)[:40]!r}: expected a finite number")
    return float(value)


def seconds_of(value: Any) -> float:
    """The value, if it is a time: not negative, and no later than ``MAX_SECONDS``."""
    number = number_of(value)
    if not 0 <= number <= MAX_SECONDS:
        raise ValueError(f"{number} s: expected 0 to {MAX_SECONDS:g} s")
    return number


def probability_of(value: Any) -> float:
    """The value, if it is a score from 0 to 1."""
    number = number_of(value)
    if not 0 <= number <= 1:
        raise ValueError(f"{number}: expected a score from 0 to 1")
    return number


def lag_of(value: Any) -> float:
    """The value, if it is a lag: seconds within ``MAX_LAG``, of either sign."""
    number = number_of(value)
    if not abs(number) <= MAX_LAG:
        raise ValueError(f"{number} s: expected a lag from {-MAX_LAG:g} to {MAX_LAG:g} s")
    return number


def label_to_write(event: Event) -> str:
    """An event's label, for formats that can't store an empty one.

    Raises:
        DataError: if it is empty.
    """
    if not event.label:
        raise DataError(
            f"an event without a label at {event.start:g} s",
            expected="a label",
            hint="name it, or write .json or .csv",
        )
    return event.label


def label_with_modality(event: Event) -> str:
    """An event's label on one line and its modality behind it, as :func:`split_label` reads it.

    Raises:
        DataError: if the label is empty.
    """
    label = escape(label_to_write(event))
    for suffix in filter(None, SUFFIXES.values()):
        if label.endswith(suffix):  # it is part of the label itself
            label = label.removesuffix(suffix) + suffix.replace("(", "\\x28")
    return label + SUFFIXES[event.modality]


def split_label(text: str) -> tuple[str, EventModality]:
    """The label and the modality that :func:`label_with_modality` wrote."""
    for modality, suffix in SUFFIXES.items():
        if suffix and text.endswith(suffix) and len(text) > len(suffix):
            return unescape(text.removesuffix(suffix)), modality
    return unescape(text), "both"


def decimal_times(event: Event) -> tuple[str, str]:
    """Start and end with six decimals, at least a millionth of a second apart."""
    million = 10**6
    first, last = (
        f"{n // million}.{n % million:06d}"
        for n in clock.span_ticks(event.start, event.end, million)
    )
    return first, last
