"""Phrases to events: those of the vocabulary, of its sets, or classes of the taggers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache

from avel.errors import UsageError, all_at_once
from avel.events.phrase_keys import phrase_key, stem_key
from avel.events.vocabulary import (
    TAGGERS,
    NamedEvent,
    Vocabulary,
    class_names,
    load_vocabulary,
)
from avel.types import Modality

_MOST = 2000  # phrases of one call
_LONGEST = 200  # characters of a phrase
_SHOWN = 10  # mistakes that an error lists
_SHOWN_EVENTS = 5  # that an ambiguous phrase may mean
_COMMAS = 4  # of a single name: "Wind, strong, loud, cold, dry"


@dataclass(frozen=True, slots=True)
class SelectedEvent:
    """An event that a person named.

    Attributes:
        label: The person's own words; the event's name where a set was named.
        event: Its meaning.
        note: A sentence about the meaning where the words aren't the event's name; else "".
    """

    label: str
    event: NamedEvent
    note: str = ""


@dataclass(frozen=True, slots=True)
class Selection:
    """The events that a person named, each once, in their order.

    Attributes:
        events: With their labels.
        notes: The meanings of phrases, a sentence each.
    """

    events: tuple[SelectedEvent, ...]
    notes: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """The label of each event."""
        return tuple(s.label for s in self.events)


def select_events(phrases: str | Sequence[str], vocabulary: Vocabulary | None = None) -> Selection:
    """The events that phrases name.

    A phrase is a set, an event's name or alias, or a class of AudioSet or ImageNet, in this order;
    case, punctuation, plurals and endings ("barking dogs" for "dog bark") make no difference.

    Args:
        phrases: "dog bark, rooster, tractor", or a sequence of such. Names that hold commas
            themselves ("Violin, fiddle") are found too.
        vocabulary: Without it, the vocabulary that ships with a person's own events.

    Raises:
        UsageError: for phrases that are unknown or mean several events: their number, and the
            first ten with the nearest names.
    """
    vocabulary = vocabulary or load_vocabulary()
    index = _index(vocabulary)
    split = list(_split([phrases] if isinstance(phrases, str) else phrases, index))
    if not split:
        raise UsageError("no event is named", expected="phrases such as 'dog bark, siren'")
    unresolved: list[tuple[str, list[NamedEvent]]] = []
    chosen: dict[str, SelectedEvent] = {}
    notes: dict[str, None] = {}
    by_set: set[str] = set()
    for phrase in split:
        names = index.sets.get(phrase.casefold())
        if names is not None:
            notes[f"{phrase!r} was taken for the set of {len(names)} events"] = None
            for name in names:
                if name not in chosen:
                    chosen[name] = SelectedEvent(name, vocabulary.events[name])
                    by_set.add(name)
            continue
        events = index.find(phrase)
        if len(events) != 1:
            unresolved.append((phrase, events))
            continue
        selected = SelectedEvent(phrase, events[0], _note(phrase, events[0], vocabulary))
        name = events[0].name
        if name in chosen and name not in by_set:
            if phrase_key(phrase) != phrase_key(chosen[name].label):
                notes[f"{phrase!r} is the same event as {chosen[name].label!r}"] = None
            continue
        chosen[name] = selected  # a person's own words replace a set's
        by_set.discard(name)
        if selected.note:
            notes[selected.note] = None
    if unresolved:
        raise all_at_once(
            "--events",
            [index.mistake(phrase, events) for phrase, events in unresolved[:_SHOWN]],
            hint="`avel ls events` lists what there is",
            count=len(unresolved),
        )
    return Selection(tuple(chosen.values()), tuple(notes))


def _note(phrase: str, event: NamedEvent, vocabulary: Vocabulary) -> str:
    if phrase.casefold() == event.name.casefold() and event.name in vocabulary.events:
        return ""
    if event.name in vocabulary.events:
        return f"{phrase!r} was taken for the event {event.name!r}"
    named: dict[Modality, tuple[str, ...]] = {"audio": event.audio, "visual": event.visual}
    classes = " and ".join(f"{TAGGERS[m][0]}'s class {c[0]!r}" for m, c in named.items() if c)
    alone = "" if event.audio and event.visual else ", which is "
    alone += "" if not alone else "audible only" if event.audio else "visible only"
    return f"{phrase!r} was taken for {classes}{alone}"


def _split(phrases: Iterable[str], index: _Index) -> Iterator[str]:
    """Single phrases; of what lies between commas, the longest run that is one name."""
    count = 0
    for text in phrases:
        for part in re.split(r"[;\n]", text):
            parts = [p.strip() for p in part.split(",")]
            first = 0
            while first < len(parts):
                for n in range(min(_COMMAS + 1, len(parts) - first), 0, -1):
                    joined = ", ".join(parts[first : first + n])
                    if n == 1 or index.knows(joined):
                        break
                first += n
                if phrase_key(joined):
                    count += 1
                    if count > _MOST:
                        raise UsageError(f"--events names over {_MOST} events")
                    yield joined


@lru_cache(maxsize=4)
def _index(vocabulary: Vocabulary) -> _Index:
    return _Index(vocabulary)


class _Index:
    """The events of phrases, by their keys: first exact, then by the stems of their words."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.sets = {s.casefold(): names for s, names in vocabulary.sets.items()}
        self._events: dict[str, NamedEvent] = {}
        self._stems: dict[tuple[str, ...], dict[str, NamedEvent]] = {}
        self._shown: dict[str, str] = {s: s for s in self.sets}
        for event in vocabulary.events.values():
            for phrase in event.phrases:
                self._events.setdefault(phrase_key(phrase), event)
                self._stems.setdefault(stem_key(phrase), {})[event.name] = event
                self._shown.setdefault(phrase_key(phrase), phrase)
        self._classes: dict[str, dict[Modality, str]] = {}
        for modality in TAGGERS:
            self._add_classes(modality)
        self._class_stems: dict[tuple[str, ...], list[str]] = {}
        for key in self._classes:
            self._class_stems.setdefault(stem_key(key), []).append(key)
            self._shown.setdefault(key, next(iter(self._classes[key].values())))
        # "gun shot" for "gunshot"
        self._joined = {k.replace(" ", ""): k for k in (*self._classes, *self._events)}
        for by_stem in (self._stems, self._class_stems):
            by_stem.pop((), None)

    def _add_classes(self, modality: Modality) -> None:
        """The classes by their full names, then by parts that only one class has."""
        names = class_names(modality)
        full = {phrase_key(n): n for n in names}
        parts: dict[str, set[str]] = {}
        for name in names:
            for part in re.split(r"[,/(]", name):
                parts.setdefault(phrase_key(part), set()).add(name)
        once = {k: next(iter(v)) for k, v in parts.items() if len(v) == 1 and k not in ("", "etc")}
        for key, name in {**once, **full}.items():
            self._classes.setdefault(key, {})[modality] = name

    def knows(self, phrase: str) -> bool:
        """Whether the phrase is a name, an alias or a class, endings apart."""
        return phrase_key(phrase) in self._events or phrase_key(phrase) in self._classes

    def find(self, phrase: str) -> list[NamedEvent]:
        """The events that a phrase may mean: one, or none, or several."""
        if len(phrase) > _LONGEST:
            return []
        key, stem = phrase_key(phrase), stem_key(phrase)
        if key in self._events:
            return [self._events[key]]
        if key in self._classes:
            return [self._of_class(key)]
        if stem in self._stems:
            return list(self._stems[stem].values())
        joined = key.replace(" ", "")
        if joined in self._joined:
            key = self._joined[joined]
            return [self._events[key] if key in self._events else self._of_class(key)]
        events = [self._of_class(k) for k in self._class_stems.get(stem, [])]
        return list({(e.audio, e.visual): e for e in events}.values())

    def _of_class(self, key: str) -> NamedEvent:
        classes = self._classes[key]
        event = NamedEvent(
            next(iter(classes.values())),
            audio=tuple(classes[m] for m in ("audio",) if m in classes),
            visual=tuple(classes[m] for m in ("visual",) if m in classes),
        )
        return self._events.get(phrase_key(event.name), event)

    def mistake(self, phrase: str, events: Sequence[NamedEvent]) -> str:
        """Why a phrase means no single event, with the nearest that do."""
        if events:
            names = [repr(e.name) for e in events[:_SHOWN_EVENTS]]
            if len(events) > _SHOWN_EVENTS:
                names.append(f"one of {len(events) - _SHOWN_EVENTS} more events")
            return f"{phrase!r} may be {' or '.join(names)}"
        key, stem = phrase_key(phrase[:_LONGEST]), set(stem_key(phrase[:_LONGEST]))
        nearest = get_close_matches(key, self._shown, n=2, cutoff=0.85)
        similar = get_close_matches(key, self._shown, n=3, cutoff=0.7)
        sharing = sorted(
            (s for s in self._stems if stem & set(s)), key=lambda s: len(stem ^ set(s))
        )
        names = [self._shown[k] for k in nearest]
        names += [e for s in sharing[:3] for e in self._stems[s]]
        names += [self._shown[k] for k in similar]
        hint = f"; did you mean {', '.join(dict.fromkeys(names[:4]))}?" if names else ""
        return f"{phrase[:_LONGEST]!r} isn't an event, set or class{hint}"
