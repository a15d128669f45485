"""What the formats share: the contract, the limits, and checks of what strangers' files say."""

from __future__ import annotations

import math
import ntpath
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, NoReturn
from urllib.parse import parse_qs, unquote, urlsplit

from avel import clock
from avel.errors import DataError, UsageError
from avel.files import write_whole
from avel.formats.text import escape, unescape
from avel.registry import Registry
from avel.types import MODALITIES, SUFFIXES, Event, Json, Modality, Timeline

#: The largest file that is read, in bytes: about a day of segments of 28 classes.
MAX_BYTES = 128 * 2**20
#: The most events or segments, and the longest name, that are read.
MAX_ROWS, MAX_NAME = 1_000_000, 1000
#: The latest instant that is believed, in seconds: some four months.
MAX_SECONDS = 1e7


class Writer(ABC):
    """One form that a timeline can be written in."""

    #: Whether one file can hold the events of several videos.
    many: ClassVar[bool] = False
    #: Whether ``audio_only`` and ``visual_only`` have a place of their own beside the events.
    lanes: ClassVar[bool] = False

    def check(self, video: str, path: Path) -> None:  # noqa: B027
        """Refuse, before any work is done, what couldn't be written; by default nothing.

        Args:
            video: The file that the timeline will be of.
            path: Where it will be written.
        """

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
                wanted="a format that holds many: .csv, .tsv or .labelstudio.json",
                do="or give a folder or an ending, for a file each",
            )
        self.write(timelines[0], path)


class Format(Writer):
    """One format that is written and read.

    Subclasses say which ending their files bear (``ending``), at which ones they may be met
    (``reads``), and know their own by its content where an ending is shared.
    """

    ending: ClassVar[str]
    reads: ClassVar[tuple[str, ...]]

    def write(self, timeline: Timeline, path: Path) -> None:
        """Write one video's events, whole or not at all."""
        write_encoded(path, self.dump(timeline, path))

    @abstractmethod
    def dump(self, timeline: Timeline, path: Path) -> str | bytes:
        """The file's content; ``path`` is where it will lie."""

    @abstractmethod
    def load(self, text: str, path: Path) -> list[Timeline]:
        """The timelines of a file, at least one.

        Raises:
            ValueError: or another error of parsing: the caller names the file.
        """

    def knows(self, text: str) -> bool:
        """Whether a text looks like this format, asked where several share an ending."""
        return True


formats: Registry[Format] = Registry("format", "avel.formats")


def format_named(name: str) -> Format:
    """The format that ``--format`` calls by a name.

    Raises:
        UsageError: if there is none; the nearest are suggested.
    """
    return formats.get(name)()


def format_endings() -> dict[str, str]:
    """The names of all formats, with their endings: ``{"raven": ".selections.txt", …}``."""
    return {name: cls.ending for name, cls in formats}


def ending_of(path: str | Path, endings: Iterable[str]) -> str:
    """The longest of some endings that a file's name has after its stem, or ``""``."""
    name = Path(path).name.lower()
    held = [e for e in endings if name.endswith(e) and len(name) > len(e)]
    return max(held, key=len, default="")


def write_encoded(path: Path, content: str | bytes) -> None:
    """Write a file as UTF-8, whole or not at all.

    Raises:
        DataError: for a text that UTF-8 can't hold.
    """
    try:
        write_whole(path, content.encode() if isinstance(content, str) else content)
    except UnicodeEncodeError as e:
        raise DataError(f"{path}: a name that UTF-8 can't hold ({e.reason})") from e


def timeline_of(
    video: str, events: Iterable[Event], *, duration: float = 0.0, notes: Sequence[str] = ()
) -> Timeline:
    """A timeline of annotations: its classes are those that occur, in order of appearance.

    Args:
        video: The name of the file that they belong to.
        events: At most ``MAX_ROWS``.
        duration: Seconds; at least the last event's end is taken.
        notes: What was left out, a sentence each.
    """
    held = tuple(events)
    return Timeline(
        video=video,
        events=held,
        duration=max([duration, *(e.end for e in held)]),
        classes=tuple(dict.fromkeys(e.label for e in held)),
        notes=tuple(notes),
    )


def event_of(start: Any, end: Any, label: Any, score: Any = 1.0, modality: Any = "both") -> Event:
    """An event with everything checked: times, label, score, modality.

    Raises:
        ValueError: that says what is wrong.
    """
    name = name_of(label)
    if not name:
        raise ValueError(f"no label from {start} to {end}")
    first, last = seconds_of(start), seconds_of(end)
    if last <= first:
        raise ValueError(f"{name[:40]!r} from {first:g} to {last:g} s: wanted a stretch of time")
    if modality not in MODALITIES:
        raise ValueError(f"modality {str(modality)[:40]!r}: wanted one of {', '.join(MODALITIES)}")
    return Event(first, last, name, probability_of(score), modality)


def time_of(text: str) -> float:
    """Seconds from a table's cell: a number, or ``[hours:]minutes:seconds``."""
    try:
        return float(text)
    except ValueError:
        return clock.parse_time(text)


def media_name(address: str, default: str) -> str:
    """The file's name in an address or path, without folders, upload prefixes and queries.

    Nothing but a bare name is taken from a stranger's file: what it calls its video is looked
    for beside it and nowhere else.
    """
    parts = urlsplit(address.replace("\\", "/")) if "://" in address or "?" in address else None
    if parts is not None:
        local = parse_qs(parts.query).get("d", [""])[0]
        address = local or unquote(parts.path)
    name = ntpath.basename(address.rstrip("/\\"))
    return name if name and name not in (".", "..") and "\0" not in name else default


def no_constant(name: str) -> NoReturn:
    """For JSON readers: NaN and the infinities are no numbers."""
    raise ValueError(f"{name} is no number")


def object_of(value: Any) -> Json:
    """The value, if it is a JSON object."""
    if not isinstance(value, dict):
        raise ValueError(f"{str(value)[:40]!r}: wanted an object")
    return value


def rows_of(value: Any) -> list[Any]:
    """The value, if it is a list of at most ``MAX_ROWS``."""
    if not isinstance(value, list) or len(value) > MAX_ROWS:
        raise ValueError(f"wanted a list of at most {MAX_ROWS} rows")
    return value


def name_of(value: Any) -> str:
    """The value, if it is a text of at most ``MAX_NAME`` characters."""
    if not isinstance(value, str) or len(value) > MAX_NAME:
        raise ValueError(f"{str(value)[:40]!r}: wanted a text of at most {MAX_NAME} characters")
    return value


def number_of(value: Any) -> float:
    """The value, if it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{str(value)[:40]!r}: wanted a finite number")
    return float(value)


def seconds_of(value: Any) -> float:
    """The value, if it is a time: not negative, and no later than ``MAX_SECONDS``."""
    number = number_of(value)
    if not 0 <= number <= MAX_SECONDS:
        raise ValueError(f"{number} s: wanted 0 to {MAX_SECONDS:g} s")
    return number


def probability_of(value: Any) -> float:
    """The value, if it is a score from 0 to 1."""
    number = number_of(value)
    if not 0 <= number <= 1:
        raise ValueError(f"{number}: wanted a score from 0 to 1")
    return number


def label_to_write(event: Event) -> str:
    """An event's label, for formats that have no way to say that there is none.

    Raises:
        DataError: if it is empty.
    """
    if not event.label:
        raise DataError(
            f"an event without a label at {event.start:g} s",
            wanted="a label",
            do="name it, or write .json or .csv",
        )
    return event.label


def marked_label(event: Event) -> str:
    """An event's label on one line and its modality behind it, as :func:`unmarked` reads it.

    Raises:
        DataError: if the label is empty.
    """
    label = escape(label_to_write(event))
    for suffix in filter(None, SUFFIXES.values()):
        if label.endswith(suffix):  # it is part of the label itself
            label = label.removesuffix(suffix) + suffix.replace("(", "\\x28")
    return label + SUFFIXES[event.modality]


def unmarked(text: str) -> tuple[str, Modality]:
    """The label and the modality that :func:`marked_label` wrote."""
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
