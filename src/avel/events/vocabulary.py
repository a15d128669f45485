"""The vocabulary of audio-visual events: what each is called, and the taggers' classes it means."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from avel.backbones import tagger_classes as taggers
from avel.errors import UsageError, all_at_once
from avel.events.phrase_keys import phrase_key
from avel.files import config_folder, read_toml
from avel.types import Modality

#: The taggers, and the files of their classes in ``backbones/classes/``.
TAGGERS: dict[Modality, tuple[str, str]] = {
    "audio": ("AudioSet", "audioset.txt"),
    "visual": ("ImageNet", "imagenet.txt"),
}
#: A person's own events, in the folder of their settings.
OWN_FILE = "events.toml"
#: Sets that follow from the events: all of them; and those that aren't a kind of another, without
#: the sets that say little about a video.
ALL, DEFAULT = "all", "default"
_NOT_DEFAULT = {"noises", "scenery"}
#: Sets of events that people play: "playing X" is another name of X.
_PLAYED = {"instruments", "sports"}
_MOST = 5000  # entries of a table, or of a list
_LONGEST = 120  # characters of a name
_DEEPEST = 8  # groups within groups
_SHOWN = 50  # mistakes that an error lists


@dataclass(frozen=True, slots=True)
class NamedEvent:
    """An audio-visual event and the classes that two taggers give its source.

    Attributes:
        name: What it is called.
        aliases: Other names.
        audio: Its AudioSet classes; none: it is visible only.
        visual: Its ImageNet classes; none: it is audible only.
        sets: The sets that hold it.
        proxy: Its ImageNet classes show what goes with the source (clothes, for a person) or
            looks like it (an ibex, for a goat), not the source itself.
        kind_of: The broader event that includes this one, or "".
    """

    name: str
    aliases: tuple[str, ...] = ()
    audio: tuple[str, ...] = ()
    visual: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    proxy: bool = False
    kind_of: str = ""

    def indices(self, modality: Modality) -> tuple[int, ...]:
        """The indices of its classes among the tagger's, from 0."""
        positions = class_indices(modality)
        return tuple(positions[c] for c in (self.audio if modality == "audio" else self.visual))

    @property
    def phrases(self) -> tuple[str, ...]:
        """Its name, its aliases, and "playing X" for what is played."""
        named = (self.name, *self.aliases)
        return named + tuple(f"playing {p}" for p in named if _PLAYED & set(self.sets))


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Events and sets of them.

    Attributes:
        events: By name, in the order of the file.
        sets: The names of the events of each set; ``all`` and ``default`` among them.
        groups: The ImageNet classes of the groups that events refer to, such as ``dog``.
    """

    events: Mapping[str, NamedEvent]
    sets: Mapping[str, tuple[str, ...]]
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def class_names(modality: Modality) -> tuple[str, ...]:
    """The tagger's classes in its order: AudioSet's 521 of YAMNet, or ImageNet's 1000."""
    return taggers.class_names(TAGGERS[modality][1])


@cache
def class_indices(modality: Modality) -> dict[str, int]:
    """Each class's index, from 0."""
    return {name: i for i, name in enumerate(class_names(modality))}


def load_vocabulary(extra: str | Path | None = None) -> Vocabulary:
    """The vocabulary that ships, with a person's own events.

    Args:
        extra: A TOML file of events that are added, or override those of the same name. Without
            it ``events.toml`` in the folder of settings is read where it is there
            (:func:`avel.files.config_folder`).

    Raises:
        UsageError: if the file can't be read, or with every mistake in it at once.
    """
    if extra is None:
        own_file = config_folder() / OWN_FILE
        extra = own_file if own_file.is_file() else None
    return _shipped() if extra is None else _resolve(_merge(_read_shipped(), _read(extra)))


@dataclass
class _Tables:
    """A file's tables, whose types are checked, but not yet their names."""

    file: str
    groups: dict[str, list[str]] = field(default_factory=dict)
    events: dict[str, dict[str, Any]] = field(default_factory=dict)
    sets: dict[str, list[str]] = field(default_factory=dict)


@cache
def _shipped() -> Vocabulary:
    return _resolve(_read_shipped())


@cache
def _read_shipped() -> _Tables:
    text = (resources.files("avel.events") / "vocabulary.toml").read_text("utf-8")
    return _check(tomllib.loads(text), "vocabulary.toml")


def _read(path: str | Path) -> _Tables:
    table = read_toml(path, expected="events in TOML", hint="see docs/events.md")
    return _check(table, str(path))


_KINDS = {"aliases": list, "audio": list, "visual": list, "sets": list, "proxy": bool,
          "kind_of": str}  # fmt: skip


def _check(table: Mapping[str, Any], file: str) -> _Tables:
    """The tables of a file, after a check of all types."""
    tables, mistakes = _Tables(file), []
    for kind, entries in table.items():
        if kind not in ("groups", "events", "sets"):
            mistakes.append(f"[{kind}] isn't a table of a vocabulary: groups, events, sets")
        elif not isinstance(entries, dict) or len(entries) > _MOST:
            mistakes.append(f"[{kind}] must be a table of at most {_MOST} entries")
        else:
            for name, value in entries.items():
                faults = [*_name_faults(name), *_value_faults(kind, value)]
                mistakes += [f"[{kind}] {name[:_LONGEST]!r}: {w}" for w in faults]
                if not faults:
                    getattr(tables, kind)[name] = value
    if mistakes:
        raise _file_error(file, mistakes)
    return tables


def _name_faults(name: str) -> Iterator[str]:
    if not phrase_key(name) or len(name) > _LONGEST or not name.isprintable():
        yield f"a name has 1 to {_LONGEST} printable characters, a letter or digit among them"


def _value_faults(kind: str, value: Any) -> Iterator[str]:
    if kind != "events":
        yield from _list_faults(value)
    elif not isinstance(value, dict):
        yield f"an event is a table with {', '.join(_KINDS)}"
    else:
        for key, entry in value.items():
            if key not in _KINDS:
                yield f"unknown key {key[:_LONGEST]!r}; an event has {', '.join(_KINDS)}"
            elif _KINDS[key] is list:
                yield from (f"{key}: {w}" for w in _list_faults(entry))
            elif not isinstance(entry, _KINDS[key]):
                yield f"{key} must be {'true or false' if key == 'proxy' else 'a name'}"


def _list_faults(value: Any) -> Iterator[str]:
    if not isinstance(value, list) or len(value) > _MOST:
        yield f"must be a list of at most {_MOST} names"
    elif not all(isinstance(v, str) and not [*_name_faults(v)] for v in value):
        yield f"every entry must be a text of 1 to {_LONGEST} printable characters"


def _merge(base: _Tables, personal: _Tables) -> _Tables:
    """The base with a person's own entries, which replace those of the same name."""
    known = {phrase_key(name): name for name in base.events}
    events = {name: dict(entry) for name, entry in base.events.items()}
    entries = {known.get(phrase_key(n), n): entry for n, entry in personal.events.items()}
    renamed = {phrase_key(p) for n, e in entries.items() for p in (n, *e.get("aliases", []))}
    for entry in events.values():
        entry["aliases"] = [a for a in entry.get("aliases", []) if phrase_key(a) not in renamed]
    for name, entry in entries.items():
        events[name] = {**events.get(name, {}), **entry}
    groups, sets = {**base.groups, **personal.groups}, {**base.sets, **personal.sets}
    return _Tables(personal.file, groups, events, sets)


def _resolve(tables: _Tables) -> Vocabulary:
    """The vocabulary of merged tables; every mistake in them at once."""
    mistakes: list[str] = []
    owners = _owners(tables.events, mistakes)
    readers = {m: _ClassReader(tables.groups, m) for m in TAGGERS}
    sets = _sets(tables, owners, mistakes)
    sets_of = _sets_of(sets)
    events = {}
    for name, entry in tables.events.items():
        read: dict[str, tuple[str, ...]] = {}
        for modality, reader in readers.items():
            read[modality] = reader.read(entry.get(modality, []))
            faults = reader.take_mistakes(_SHOWN - len(mistakes))
            mistakes += [f"[events] {name!r}: {modality}: {w}" for w in faults]
        if not (entry.get("audio") or entry.get("visual")):
            mistakes.append(f"[events] {name!r} has neither audio nor visual classes")
        kind_of = owners.get(phrase_key(entry.get("kind_of", "")), "")
        if entry.get("kind_of") and kind_of in ("", name):
            mistakes.append(f"[events] {name!r}: kind_of names no other event")
        events[name] = NamedEvent(
            name, tuple(entry.get("aliases", ())), read["audio"], read["visual"],
            tuple(sets_of.get(name, ())), entry.get("proxy", False), kind_of,
        )  # fmt: skip
    mistakes += [
        f"[events] {names[0]!r}: kind_of leads back to it: {' -> '.join([*names, names[0]])[:500]}"
        for names in _kind_cycles({n: e.kind_of for n, e in events.items() if e.kind_of != n})
    ]
    if mistakes:
        raise _file_error(tables.file, mistakes)
    broad = [n for n, e in events.items() if not e.kind_of and not _NOT_DEFAULT & set(e.sets)]
    standard = {ALL: [*events], DEFAULT: broad}
    groups = {g: readers["visual"].read([f"@{g}"]) for g in tables.groups}
    return Vocabulary(events, {s: tuple(v) for s, v in {**standard, **sets}.items()}, groups)


def _kind_cycles(kinds: Mapping[str, str]) -> Iterator[list[str]]:
    """Each cycle of events that are kinds of one another; ``kinds`` has each event's, or ""."""
    visited: set[str] = set()
    for start in kinds:
        path: dict[str, None] = {}
        name = start
        while name in kinds and name not in visited:
            visited.add(name)
            path[name] = None
            name = kinds[name]
        if name in path:
            names = list(path)
            yield names[names.index(name) :]


def _owners(events: Mapping[str, Mapping[str, Any]], mistakes: list[str]) -> dict[str, str]:
    """The event that a phrase names, by the phrase's key."""
    owners: dict[str, str] = {}
    for name, entry in events.items():
        for phrase in (name, *entry.get("aliases", [])):
            key = phrase_key(phrase)
            if key in owners:
                mistakes.append(f"[events] {name!r}: {phrase!r} already names {owners[key]!r}")
            owners.setdefault(key, name)
    for name, entry in events.items():
        named = NamedEvent(name, tuple(entry.get("aliases", ())), sets=tuple(entry.get("sets", ())))
        for phrase in named.phrases:
            owners.setdefault(phrase_key(phrase), name)
    return owners


def _sets(
    tables: _Tables, owners: Mapping[str, str], mistakes: list[str]
) -> dict[str, dict[str, None]]:
    """The names of each set's events, in order."""
    sets: dict[str, dict[str, None]] = {}
    for s, phrases in tables.sets.items():
        names = [(p, owners.get(phrase_key(p))) for p in phrases]
        mistakes += [f"[sets] {s!r}: no event has the name {p!r}" for p, n in names if n is None]
        sets[s] = {n: None for _, n in names if n is not None}
    for name, entry in tables.events.items():
        for s in entry.get("sets", []):
            sets.setdefault(s, {})[name] = None
    for s in sets:
        if s.casefold() in (ALL, DEFAULT) or phrase_key(s) in owners:
            mistakes.append(f"[sets] {s!r} is the name of an event, or of a set that avel makes")
    return sets


def _sets_of(sets: Mapping[str, Mapping[str, None]]) -> dict[str, list[str]]:
    """The sets that hold each event, in the sets' order."""
    holders: dict[str, list[str]] = {}
    for s, names in sets.items():
        for name in names:
            holders.setdefault(name, []).append(s)
    return holders


class _ClassReader:
    """Classes of one tagger as a file lists them: names, ``A .. B`` and ``@group``."""

    def __init__(self, groups: Mapping[str, Sequence[str]], modality: Modality) -> None:
        self.groups, self.modality = groups, modality
        self._read: dict[str, dict[str, None]] = {}
        self._unknown: list[str] = []  # names of classes
        self._mistakes: list[str] = []
        self._depth = 0

    def read(self, entries: Iterable[str]) -> tuple[str, ...]:
        """The classes of a list, each once, in its order."""
        classes: dict[str, None] = {}
        for entry in dict.fromkeys(entries):
            classes.update(self._entry(entry))
        return tuple(classes)

    def take_mistakes(self, most: int) -> list[str]:
        """The mistakes since the last call, up to a number."""
        mistakes, unknown = self._mistakes, self._unknown
        self._mistakes, self._unknown = [], []
        for name in unknown[: max(most, 0)]:
            nearest = get_close_matches(name, class_names(self.modality), n=1)
            hint = f", did you mean {nearest[0]!r}?" if nearest else ""
            mistakes.append(f"{TAGGERS[self.modality][0]} has no class {name!r}{hint}")
        return mistakes[: max(most, 0)]

    def _entry(self, entry: str) -> dict[str, None]:
        positions, names = class_indices(self.modality), class_names(self.modality)
        if entry in positions:
            return {entry: None}
        if entry.startswith("@"):
            return self._group(entry)
        first, dots, last = entry.partition(" .. ")
        unknown = [n for n in ((first, last) if dots else (first,)) if n not in positions]
        if unknown:
            self._unknown += unknown
            return {}
        if positions[first] >= positions[last]:
            self._mistakes.append(f"{entry!r} ends before it begins")
        return dict.fromkeys(names[positions[first] : positions[last] + 1])

    def _group(self, entry: str) -> dict[str, None]:
        if entry not in self._read:
            if entry[1:] not in self.groups:
                self._mistakes.append(f"there is no group {entry!r}")
            self._read[entry] = {}  # a group within itself adds nothing
            self._depth += 1
            if self._depth > _DEEPEST:
                self._mistakes.append(f"{entry!r} is more than {_DEEPEST} groups deep")
            else:
                self._read[entry] = dict.fromkeys(self.read(self.groups.get(entry[1:], [])))
            self._depth -= 1
        return self._read[entry]


def _file_error(file: str, mistakes: Sequence[str]) -> UsageError:
    return all_at_once(file, mistakes, hint="correct the file; see docs/events.md")
