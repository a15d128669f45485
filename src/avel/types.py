"""The five saved types Grid, Features, Scores, Event, Timeline: frozen, and checked when made."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from avel import clock
from avel.errors import DataError, UsageError, counted

Json = dict[str, Any]
Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]

#: One of the two tracks, and what is perceivable in it.
Modality = Literal["audio", "visual"]
#: What an event is: audible and visible, only audible, or only visible.
EventModality = Literal["both", "audio", "visual"]
#: Which events of a timeline are chosen: those of one modality, or all of them.
Choice = Literal["both", "audio", "visual", "all"]
MODALITIES: tuple[EventModality, ...] = ("both", "audio", "visual")
CHOICES: tuple[Choice, ...] = (*MODALITIES, "all")

#: Audible or visible probabilities below this are left out of a timeline's JSON.
JSON_FLOOR = 0.01
#: The largest lag of the sound, in seconds.
MAX_LAG = 3600.0
#: What a model may tell besides its probabilities, segment by segment.
_SCORE_PARTS = ("audio_scores", "visual_scores", "audio_weight", "lag")

#: What is written after the label of an event, where nothing else shows its modality.
SUFFIXES: Mapping[EventModality, str] = {
    "both": "",
    "audio": " (audio only)",
    "visual": " (visual only)",
}

#: The name of the class that stands last in every class list of scores.
BACKGROUND = "background"


@dataclass(frozen=True)
class Grid:
    """How a file is cut into segments.

    Args:
        duration: Length of the file in seconds.
        step: Length of a segment in seconds.
    """

    duration: float
    step: float = 1.0

    def __post_init__(self) -> None:
        clock.segment_count(self.duration, self.step)  # raises on nonsense

    def __len__(self) -> int:
        """The number of segments T."""
        return clock.segment_count(self.duration, self.step)

    def bounds(self, index: int) -> tuple[float, float]:
        """Start and end of a segment in seconds."""
        return clock.segment_bounds(index, self.step, self.duration)


def _require(condition: bool, what: str, *, expected: str) -> None:
    if not condition:
        raise DataError(what, expected=expected, hint="rebuild the value from its source")


def _save_arrays(path: Path, arrays: Mapping[str, NDArray[Any]], meta: Json) -> None:
    from safetensors.numpy import save

    from avel.files import write_whole

    contiguous = {name: np.ascontiguousarray(a) for name, a in arrays.items()}
    text = json.dumps(meta, sort_keys=True)
    write_whole(
        path, save(contiguous, metadata={"avel": text, "crc32": _checksum(contiguous, text)})
    )


def _checksum(arrays: Mapping[str, NDArray[Any]], text: str) -> str:
    checksum = crc32(text.encode())
    for name in sorted(arrays):
        a = np.ascontiguousarray(arrays[name])
        checksum = crc32(f"|{name}|{a.dtype.str}|{a.shape}|".encode(), checksum)
        checksum = crc32(a.reshape(-1).view(np.uint8).data, checksum)
    return f"{checksum:08x}"


def _load_arrays(path: Path) -> tuple[dict[str, NDArray[Any]], Json]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as f:
            metadata = f.metadata() or {}
            meta = json.loads(metadata["avel"])
            arrays = {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118
        if "crc32" in metadata and metadata["crc32"] != _checksum(arrays, metadata["avel"]):
            raise ValueError("its checksum is wrong")
        if not isinstance(meta, dict):
            raise ValueError("its metadata is no JSON object")
        return arrays, meta
    except (OSError, SafetensorError, KeyError, ValueError, RecursionError) as e:
        raise DataError(
            f"{path} is no file of avel's features or scores ({e})",
            expected="a .safetensors file written by avel",
            hint="write it again: features by `avel extract`, scores by Scores.save",
        ) from e


def _segment_count(grid: Grid) -> str:
    return f"{counted(len(grid), 'segment')} of {grid.step:g} s"


@dataclass(frozen=True)
class Features:
    """The outputs of two backbones for a file, one row a segment.

    Args:
        audio: (T, A) floats; a row of zeros where nothing is audible.
        visual: (T, H, W, V) floats, channels last; zeros where no frame was decoded.
        grid: The segments.
        audible: (T,) True where the segment is above -50 dBFS and within 20 dB of the file's
            loudest.
        visible: (T,) True where at least one frame was decoded.
        audio_card, visual_card: The backbones' cards as plain data (``name``, ``weights``,
            ``hash``…): a model refuses features of other backbones by these.
        source: Name of the file, without its folder.
        content: sha256 of the file's bytes (and the tracks, where they were chosen), by which a
            store knows that they are still its features; empty where not known.
        notes: What was missing or damaged in the file, a sentence each.
    """

    audio: Floats
    visual: Floats
    grid: Grid
    audible: Bools
    visible: Bools
    audio_card: Json = field(default_factory=dict)
    visual_card: Json = field(default_factory=dict)
    source: str = ""
    content: str = ""
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        shapes = (f"{name} {'x'.join(map(str, array.shape[1:]))}" for name, array in
                  (("audio", self.audio), ("visual", self.visual)))  # fmt: skip
        return f"<Features of {self.source!r}: {_segment_count(self.grid)}, {', '.join(shapes)}>"

    def __post_init__(self) -> None:
        t = len(self.grid)
        _require(
            self.audio.ndim == 2 and len(self.audio) == t,
            f"the audio features have the shape {self.audio.shape}",
            expected=f"({t}, A), one row for each of the grid's {t} segments",
        )
        _require(
            self.visual.ndim == 4 and len(self.visual) == t,
            f"the visual features have the shape {self.visual.shape}",
            expected=f"({t}, H, W, V), one row for each of the grid's {t} segments",
        )
        _require(
            self.audible.shape == (t,) and self.visible.shape == (t,),
            f"audible has the shape {self.audible.shape}, visible {self.visible.shape}",
            expected=f"({t},) each",
        )

    def __len__(self) -> int:
        return len(self.grid)

    def save(self, path: str | Path, *, dtype: str = "float32") -> None:
        """Write a .safetensors file, whole or not at all; ``dtype`` is float32 or float16."""
        arrays = {
            "audio": self.audio.astype(dtype),
            "visual": self.visual.astype(dtype),
            "audible": self.audible.astype(np.uint8),
            "visible": self.visible.astype(np.uint8),
        }
        meta = {
            "kind": "features",
            "duration": self.grid.duration,
            "step": self.grid.step,
            "audio_card": self.audio_card,
            "visual_card": self.visual_card,
            "source": self.source,
            "content": self.content,
            "notes": self.notes,
        }
        _save_arrays(Path(path), arrays, meta)

    @classmethod
    def load(cls, path: str | Path) -> Features:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: if the file is missing, damaged or something else.
        """
        arrays, meta = _load_arrays(Path(path))
        try:
            return cls(
                audio=arrays["audio"].astype(np.float32),
                visual=arrays["visual"].astype(np.float32),
                grid=Grid(float(meta["duration"]), float(meta["step"])),
                audible=arrays["audible"].astype(bool),
                visible=arrays["visible"].astype(bool),
                audio_card=meta["audio_card"],
                visual_card=meta["visual_card"],
                source=str(meta["source"]),
                content=str(meta.get("content", "")),
                notes=tuple(map(str, meta.get("notes", ()))),
            )
        except (KeyError, TypeError, ValueError) as e:
            raise DataError(
                f"{path} holds no features ({type(e).__name__}: {e})",
                expected="a feature file written by `avel extract`",
                hint="extract the video again",
            ) from e


@dataclass(frozen=True)
class Scores:
    """A model's probabilities for every segment.

    Args:
        values: (T, C+1) probabilities, background last.
        classes: The C event names, without background.
        grid: The segments.
        labels: (T,) class ids 0..C by the paper's decision rule, C for background.
        attention: (T, H, W) spatial attention, each map summing to 1, or None.
        audible, visible: As in :class:`Features`.
        audio_scores, visual_scores: (T, C) probabilities that a class is audible or visible in the
            segment, NaN where the model can't decide; None where it doesn't distinguish the
            modalities.
        audio_weight: (T,) the share in [0, 1] of the sound in what the model decides, or None.
        lag: (T, C) the seconds by which each class is heard later than it is seen, or None.
    """

    values: Floats
    classes: tuple[str, ...]
    grid: Grid
    labels: NDArray[np.int64]
    attention: Floats | None = None
    audible: Bools | None = None
    visible: Bools | None = None
    audio_scores: Floats | None = None
    visual_scores: Floats | None = None
    audio_weight: Floats | None = None
    lag: Floats | None = None

    def __repr__(self) -> str:
        return f"<Scores of {_segment_count(self.grid)}, {len(self.classes)} classes>"

    def __post_init__(self) -> None:
        t, c = len(self.grid), len(self.classes)
        _require(
            self.values.shape == (t, c + 1),
            f"the scores have the shape {self.values.shape}",
            expected=f"({t}, {c + 1}): {t} segments, {c} classes and background last",
        )
        _require(
            self.labels.shape == (t,) and bool(((self.labels >= 0) & (self.labels <= c)).all()),
            f"the labels have the shape {self.labels.shape}, or ids out of range",
            expected=f"({t},) class ids from 0 to {c}",
        )
        _require(
            self.attention is None or (self.attention.ndim == 3 and len(self.attention) == t),
            "the attention maps have another length than the grid",
            expected=f"({t}, H, W)",
        )
        for name in _SCORE_PARTS:
            part = getattr(self, name)
            if part is not None:
                shape = (t,) if name == "audio_weight" else (t, c)
                low, high = (-MAX_LAG, MAX_LAG) if name == "lag" else (0, 1)
                _require(
                    part.shape == shape,
                    f"{name} of shape {part.shape}",
                    expected=f"{shape}: {t} segments and {c} classes, without background",
                )
                _require(
                    bool(((part >= low) & (part <= high) | np.isnan(part)).all()),
                    f"{name} has values outside {low:g} to {high:g}",
                    expected="values in this range, or NaN where the model can't decide",
                )

    def save(self, path: str | Path) -> None:
        """Write a .safetensors file with all of it, attention too; whole or not at all."""
        arrays: dict[str, NDArray[Any]] = {"values": self.values, "labels": self.labels}
        for name in ("attention", "audible", "visible", *_SCORE_PARTS):
            values = getattr(self, name)
            if values is not None:
                arrays[name] = values.astype(np.uint8) if values.dtype == bool else values
        grid = {"duration": self.grid.duration, "step": self.grid.step}
        _save_arrays(Path(path), arrays, {"kind": "scores", "classes": self.classes, **grid})

    @classmethod
    def load(cls, path: str | Path) -> Scores:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: if the file is missing, damaged or something else.
        """
        arrays, meta = _load_arrays(Path(path))
        known = {n: arrays[n].astype(bool) for n in ("audible", "visible") if n in arrays}
        parts = {n: arrays[n] for n in _SCORE_PARTS if n in arrays}
        try:
            return cls(
                values=arrays["values"],
                classes=tuple(str(c) for c in meta["classes"]),
                grid=Grid(float(meta["duration"]), float(meta["step"])),
                labels=arrays["labels"].astype(np.int64),
                attention=arrays.get("attention"),
                **known,
                **parts,
            )
        except (KeyError, TypeError, ValueError) as e:
            raise DataError(
                f"{path} holds no scores ({type(e).__name__}: {e})",
                expected="a file written by Scores.save",
                hint="score the file again",
            ) from e


@dataclass(frozen=True, order=True)
class Event:
    """One event: seconds from the start of the file, end exclusive, score in [0, 1].

    ``modality`` is ``"both"`` where it is audible and visible, ``"audio"`` where it is only
    audible, ``"visual"`` where it is only visible.

    ``audio_weight`` is the share in [0, 1] of the sound in what the model decided, ``lag`` the
    seconds by which the event is heard later than it is seen, below 0 where it is seen later. They
    are None for models that don't give them, and for events that a person corrected or drew.
    Events that differ in nothing else are equal.
    """

    start: float
    end: float
    label: str
    score: float = 1.0
    modality: EventModality = "both"
    audio_weight: float | None = field(default=None, compare=False)
    lag: float | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        _require(
            self.modality in MODALITIES,
            f"the event {self.label!r} has the modality {self.modality!r}",
            expected=f"one of {', '.join(MODALITIES)}",
        )
        _require(
            0 <= self.start < self.end,
            f"the event {self.label!r} lasts from {self.start} to {self.end} s",
            expected="0 <= start < end",
        )
        _require(
            self.audio_weight is None or 0 <= self.audio_weight <= 1,
            f"the event {self.label!r} has the audio weight {self.audio_weight}",
            expected="a number from 0 to 1",
        )
        _require(
            self.lag is None or abs(self.lag) <= MAX_LAG,
            f"the event {self.label!r} has the lag {self.lag}",
            expected=f"seconds from {-MAX_LAG:g} to {MAX_LAG:g}",
        )

    def to_json(self) -> Json:
        """``start``, ``end``, ``label`` and ``score`` (six decimals) as plain data.

        ``modality`` is included where it isn't ``"both"``, ``audio_weight`` and ``lag`` (six
        decimals) where they are known.
        """
        score = round(self.score, 6)
        row: Json = {"start": self.start, "end": self.end, "label": self.label, "score": score}
        if self.modality != "both":
            row["modality"] = self.modality
        known = {"audio_weight": self.audio_weight, "lag": self.lag}
        return row | {name: round(x, 6) for name, x in known.items() if x is not None}

    def __str__(self) -> str:
        span = f"{clock.format_time(self.start)} - {clock.format_time(self.end)}"
        return f"{span}  {self.marked_label}  {self.score:.2f}"

    @property
    def marked_label(self) -> str:
        """The label, and behind it the modality where it isn't ``"both"``: `bell (audio only)`."""
        return self.label + SUFFIXES[self.modality]


class ProbedFile(Protocol):
    """A media file that was probed: :class:`avel.media.file.Media`."""

    @property
    def path(self) -> Path:
        """The file."""
        ...


@dataclass(frozen=True)
class Timeline:
    """The events of one file, with the scores they came from: the result of `avel localize`.

    Args:
        video: Name or path of the file as the caller wrote it.
        events: In order of time; they may overlap. The audio-visual events, or, of
            :meth:`choose`, those of another modality or of all, each with its ``modality``.
        scores: The scores behind them, or None where the events were read from annotations.
        duration: Seconds.
        classes: The event names known, without background.
        model: The model's card as plain data.
        notes: What was missing or damaged in the file, a sentence each.
        audio_only: What is audible but not visible, in order of time.
        visual_only: What is visible but not audible, in order of time.
        player_start: What a browser's player calls second 0 of the file
            (:func:`avel.clock.player_start`).
        corrected: Whether a person has changed the events since the model detected them.
        media: The probed file, where the events were localized in this process, so that a report
            reads frames and sound without probing it again. It isn't saved or compared.

    Raises:
        DataError: if an event of ``audio_only`` or ``visual_only`` is of another modality.
    """

    video: str
    events: tuple[Event, ...]
    duration: float
    classes: tuple[str, ...]
    scores: Scores | None = None
    model: Json = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    audio_only: tuple[Event, ...] = ()
    visual_only: tuple[Event, ...] = ()
    player_start: float = 0.0
    corrected: bool = False
    media: ProbedFile | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, modality in (("audio_only", "audio"), ("visual_only", "visual")):
            _require(
                all(e.modality == modality for e in getattr(self, name)),
                f"{name} has an event of another modality",
                expected=f"events of modality {modality!r}",
            )

    @property
    def predicted(self) -> bool:
        """Whether a model detected the events and no person has corrected them."""
        return bool(self.model or self.scores is not None) and not self.corrected

    def __iter__(self) -> Any:
        return iter(self.events)

    def __len__(self) -> int:
        return len(self.events)

    def __repr__(self) -> str:
        kinds = counted(len(self.events), "event")
        labels = list(dict.fromkeys(e.label for e in self.events))
        named = f" ({', '.join(labels[:4])}{', …' * (len(labels) > 4)})" if labels else ""
        return f"<Timeline of {Path(self.video).name!r}, {self.duration:g} s: {kinds}{named}>"

    def __str__(self) -> str:
        """A line an event; those that are only audible or only visible come last."""
        ordered = sorted(self.events, key=lambda e: MODALITIES.index(e.modality))
        return "\n".join(str(e) for e in ordered) or "no events found"

    def lane(self, modality: EventModality) -> tuple[Event, ...]:
        """The events of one modality, of ``events`` and of the list of that modality.

        Args:
            modality: ``"both"``, ``"audio"`` or ``"visual"``.

        Raises:
            UsageError: for another modality.
        """
        check_choice(modality, MODALITIES)
        listed = tuple(e for e in self.events if e.modality == modality)
        if modality == "both":
            return listed
        others = self.audio_only if modality == "audio" else self.visual_only
        return tuple(sorted((*listed, *others))) if listed else others

    def choose(self, modality: Choice) -> Timeline:
        """The same file with other events in ``events``, for formats that have one list.

        Args:
            modality: ``"both"`` puts the audio-visual events there and the others into
                ``audio_only`` and ``visual_only``; ``"audio"`` or ``"visual"`` only those of that
                modality; ``"all"`` every event, each with its modality.

        Raises:
            UsageError: for another modality.
        """
        check_choice(modality, CHOICES)
        lanes = {m: self.lane(m) for m in MODALITIES}
        if modality == "both":
            return replace(
                self, events=lanes["both"], audio_only=lanes["audio"], visual_only=lanes["visual"]
            )
        chosen = MODALITIES if modality == "all" else (modality,)
        events = sorted((e for m in chosen for e in lanes[m]), key=lambda e: (e.start, e.end))
        return replace(self, events=tuple(events), audio_only=(), visual_only=())

    def to_json(self) -> Json:
        """The documented JSON form (docs/formats.md); plain numbers, strings, lists and dicts."""
        return {
            "video": self.video,
            "duration": self.duration,
            "step": self.scores.grid.step if self.scores else None,
            "classes": list(self.classes),
            "segments": _segments(self.scores) if self.scores else [],
            "events": [e.to_json() for e in self.events],
            "audio_only": [e.to_json() for e in self.audio_only],
            "visual_only": [e.to_json() for e in self.visual_only],
            "model": self.model,
            "notes": list(self.notes),
            **({"player_start": self.player_start} if self.player_start else {}),
        }

    def for_player(self) -> Timeline:
        """The same events on the clock of a browser's player, as subtitles need them."""
        if not self.player_start:
            return self
        return self._moved(clock.Clock(self.player_start).from_file, player_start=0.0)

    def _moved(self, to: Callable[[float], float], *, player_start: float) -> Timeline:
        """The same on another clock; events that end before it begins are left out."""

        def moved(events: Sequence[Event]) -> tuple[Event, ...]:
            inside = (e for e in events if to(e.end) > 0)
            return tuple(replace(e, start=max(0.0, to(e.start)), end=to(e.end)) for e in inside)

        return replace(
            self,
            events=moved(self.events),
            audio_only=moved(self.audio_only),
            visual_only=moved(self.visual_only),
            duration=max(0.0, to(self.duration)),
            player_start=player_start,
        )

    def from_player(self, player_start: float) -> Timeline:
        """The same events from the player's clock; those before the file's start are left out.

        Args:
            player_start: What the player calls second 0 of the file, seconds.
        """
        moved = self._moved(clock.Clock(player_start).to_file, player_start=player_start)
        dropped = len(self.events) - len(moved.events)
        if not dropped:
            return moved
        note = (
            f"Left out: {dropped} of {len(self.events)} events, before the file's first picture, "
        )
        note += f"which players show at {player_start:.3f} s."
        return replace(moved, notes=(*self.notes, note))

    def save(
        self,
        path: str | Path,
        *,
        format: str | None = None,
        overwrite: bool = False,
        scores: bool = False,
    ) -> None:
        """Write the timeline; the ending chooses the writer (.json, .vtt, .eaf, .html, .mp4…).

        Args:
            path: The file; see docs/formats.md for the endings.
            format: A format's name, such as ``"raven"``, in place of the ending's.
            overwrite: Whether a model's events may be written over labels that a person made
                or corrected.
            scores: Whether subtitles show the score behind the label.

        Raises:
            UsageError: if no writer has that ending or name.
            DataError: if predictions would be written over a person's labels.
        """
        from avel.report import save

        save(self, path, format=format, overwrite=overwrite, scores=scores)

    def _repr_html_(self) -> str:
        """The report, for notebooks."""
        from avel.report.notebook import frame

        return frame(self)


def check_choice(modality: str, known: Sequence[str]) -> None:
    """Refuse a modality that isn't among those known.

    Raises:
        UsageError: that names them.
    """
    if modality not in known:
        raise UsageError(f"unknown modality {modality!r}", expected=f"one of {', '.join(known)}")


def _segments(scores: Scores) -> list[Json]:
    names: Sequence[str] = (*scores.classes, BACKGROUND)
    modal = [n for n in ("audio_scores", "visual_scores") if getattr(scores, n) is not None]
    rows = []
    for i in range(len(scores.grid)):
        start, end = scores.grid.bounds(i)
        label = int(scores.labels[i])
        row: Json = {
            "start": start,
            "end": end,
            "label": names[label],
            "score": round(float(scores.values[i, label]), 6),
            "scores": {n: round(float(v), 6) for n, v in zip(names, scores.values[i], strict=True)},
            "audible": None if scores.audible is None else bool(scores.audible[i]),
            "visible": None if scores.visible is None else bool(scores.visible[i]),
        }
        row |= {
            name: _class_probabilities(scores.classes, getattr(scores, name)[i]) for name in modal
        }
        if scores.audio_weight is not None:
            row["audio_weight"] = _rounded(scores.audio_weight[i])
        if scores.lag is not None:
            row["lag"] = dict(zip(scores.classes, map(_rounded, scores.lag[i]), strict=True))
        rows.append(row)
    return rows


def _rounded(value: np.floating[Any]) -> float | None:
    """Six decimals, None for NaN."""
    return None if np.isnan(value) else round(float(value), 6)


def _class_probabilities(classes: Sequence[str], values: Floats) -> Json:
    """Probabilities by class: None where the model can't decide; those near 0 are left out."""
    return {
        name: _rounded(value)
        for name, value in zip(classes, values, strict=True)
        if not value < JSON_FLOOR
    }
