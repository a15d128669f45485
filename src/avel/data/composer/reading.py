"""``pairs.toml`` as a typed configuration, with every mistake in it at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from difflib import get_close_matches
from pathlib import Path, PurePath
from typing import Any

from avel.data.composer.pairs import KINDS, Pair, Pairs, Ranges, SideRule, Sides, form_parts
from avel.data.rendered import size_mistakes
from avel.errors import all_at_once
from avel.files import read_toml
from avel.types import BACKGROUND

#: Most clips of one split.
MOST = 100_000
#: Classes that an act with an event, a rival sound and a rival thing needs.
FEWEST = 3


def shipped(name: str) -> Path | None:
    """The file of a configuration that comes with avel, such as ``pairs10``."""
    if not re.fullmatch(r"\w+", name):
        return None
    path = Path(__file__).with_name(f"{name}.toml")
    return path if path.is_file() else None


def read_pairs(path: str | Path) -> Pairs:
    """Read a configuration.

    Args:
        path: A TOML file, or the name of a configuration that ships (``pairs10``).

    Raises:
        UsageError: if it can't be read, or with every mistake in it at once.
    """
    file = shipped(str(path)) or Path(path)
    expected = "pairs in TOML, pairs10 or toybox"
    table = read_toml(file, expected=expected, hint="see docs/composer.md")
    return parse_pairs(table, name=file.stem)


def parse_pairs(table: Mapping[str, Any], *, name: str) -> Pairs:
    """A configuration of plain data.

    Args:
        table: As TOML gives it.
        name: What it is called where it doesn't say so itself.

    Raises:
        UsageError: with every mistake at once.
    """
    top = _TableReader(table, "")
    clips = _TableReader(top.table("clips"), "clips.")
    size = clips.typed("size", "320x240", _is_size, "width x height, like 320x240")
    width, height = (int(v) for v in str(size).split("x"))
    ground = _TableReader(top.table("backgrounds"), "backgrounds.")
    kinds = ground.typed("kinds", ["blur", "texture"], _are_kinds, f"some of {', '.join(KINDS)}")
    ranges = _TableReader(top.table("scene"), "scene.")
    readers = [top, clips, ground, ranges]
    pairs = Pairs(
        name=str(top.typed("name", name, _is_label, "a name")),
        clips={s: int(clips.typed(s, n, _is_count, f"0 to {MOST}")) for s, n in _CLIPS.items()},
        seconds=float(clips.typed("seconds", 10.0, _is_number, "seconds")),
        fps=int(clips.typed("fps", 12, _is_count, "frames a second")),
        width=width,
        height=height,
        kinds=tuple(kinds),
        backgrounds=_sides(ground),
        sounds=_sides(_TableReader(top.table("sounds"), "sounds.", readers)),
        images=_sides(_TableReader(top.table("images"), "images.", readers)),
        ranges=_ranges(ranges),
        pairs=_read_each(top.typed("pair", [], _are_tables, "[[pair]] tables"), readers),
    )
    mistakes = [m for reader in readers for m in reader.mistakes()]
    mistakes += size_mistakes(
        seed=0, seconds=pairs.seconds, fps=pairs.fps, width=width, height=height
    )
    mistakes += _pair_mistakes(pairs)
    if mistakes:
        raise all_at_once(name, mistakes, hint="mend them all (docs/composer.md)")
    return pairs


def changed(pairs: Pairs, **values: Any) -> Pairs:
    """The configuration with another ``seconds``, ``fps``, ``width`` or ``height``.

    Raises:
        UsageError: with all that are out of range.
    """
    new = replace(pairs, **values)
    mistakes = size_mistakes(
        seed=0, seconds=new.seconds, fps=new.fps, width=new.width, height=new.height
    )
    if mistakes:
        raise all_at_once("arguments", mistakes)
    return new


_CLIPS = {"train": 70, "val": 10, "test": 20}


class _TableReader:
    """Takes typed values out of a table, and remembers what was wrong and what nobody took."""

    def __init__(
        self, table: Mapping[str, Any], where: str, readers: list[_TableReader] | None = None
    ) -> None:
        self._table, self._where = table, where
        self._known: list[str] = []
        self._wrong: list[str] = []
        if readers is not None:
            readers.append(self)

    def typed(self, key: str, default: Any, fits: Callable[[Any], bool], expected: str) -> Any:
        """A value, or the default where it is missing or wrong."""
        self._known.append(key)
        if key not in self._table:
            return default
        value = self._table[key]
        if not fits(value):
            self.wrong(key, value, expected)
            return default
        return value

    def wrong(self, key: str, value: Any, expected: str) -> None:
        """Remember a mistake."""
        self._wrong.append(f"{self._where}{key} = {repr(value)[:60]}: expected {expected}")

    def missing(self, key: str, expected: str) -> None:
        """Remember that a value isn't there."""
        self._wrong.append(f"{self._where}{key}: missing, expected {expected}")

    def table(self, key: str) -> Mapping[str, Any]:
        """A table within this one, empty where it is missing."""
        table: Mapping[str, Any] = self.typed(key, {}, lambda v: isinstance(v, dict), "a table")
        return table

    def mistakes(self) -> list[str]:
        """What was wrong, and what was unknown."""
        unknown = []
        for key in self._table:
            if key not in self._known:
                near = get_close_matches(key, self._known, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(self._known)}"
                unknown.append(f"{self._where}{key[:40]}: unknown; {hint}")
        return self._wrong + unknown


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 80 and value.isprintable()


def _is_label(value: Any) -> bool:
    return _is_text(value) and bool(value.strip()) and "&" not in value and value != BACKGROUND


def _is_folder(value: Any) -> bool:
    inside = _is_text(value) and bool(value) and not PurePath(value).is_absolute()
    return inside and ".." not in PurePath(value).parts


def _plain(folder: str) -> str:
    """A folder's name in the one way that it is written: ``./dogs/`` is ``dogs``."""
    return PurePath(folder).as_posix() if folder else ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _is_size(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"[0-9]{1,5}x[0-9]{1,5}", value))


def _are_kinds(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(v in KINDS for v in value)


def _are_tables(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, dict) for v in value)


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(_is_text(v) for v in value)


def _is_span(low: float, high: float) -> Callable[[Any], bool]:
    def fits(value: Any) -> bool:
        pair = isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))
        return pair and low <= value[0] <= value[1] <= high

    return fits


def _ranges(reader: _TableReader) -> Ranges:
    defaults = Ranges()
    size = reader.typed("size", defaults.size, _is_span(0.05, 0.9), "[least, most] of 0.05 to 0.9")
    snr = reader.typed("snr", defaults.snr, _is_span(-20, 60), "[least, most] decibels, -20 to 60")
    shares = {
        f.name: float(reader.typed(f.name, getattr(defaults, f.name), _is_share, "a share, 0 to 1"))
        for f in fields(defaults)
        if f.name not in ("size", "snr")
    }
    return Ranges((float(size[0]), float(size[1])), (float(snr[0]), float(snr[1])), **shares)


def _sides(reader: _TableReader) -> Sides:
    form = str(reader.typed("parts", "", _is_text, 'a form like "{fold}-{source}"'))
    names, between = form_parts(form)
    if form and (not names or len(set(names)) < len(names) or "" in between[1:-1]):
        reader.wrong("parts", form, 'names in braces with text between, like "{fold}-{source}"')
    source = str(reader.typed("source", "", _is_text, "a part of the names"))
    if source and source not in names:
        reader.wrong("source", source, f"one of the parts ({', '.join(names) or 'none are named'})")
    defaults = Sides()
    test, val = (_rule(reader, key, names, getattr(defaults, key)) for key in ("test", "val"))
    return Sides(form, source, test, val)


def _rule(reader: _TableReader, key: str, names: list[str], default: SideRule) -> SideRule:
    expected = 'a share, or {part = …, among = ["…"]}, or {part = …, from = …, to = …}'
    value = reader.typed(
        key, default.share, lambda v: _is_share(v) or isinstance(v, dict), expected
    )
    if not isinstance(value, dict):
        return SideRule(share=float(value))
    by_value = set(value) == {"part", "among"} and _are_names(value["among"])
    by_number = set(value) == {"part", "from", "to"} and _is_span(0, 1e9)(
        [value["from"], value["to"]]
    )
    if not (by_value or by_number) or value["part"] not in names:
        reader.wrong(key, value, f"{expected}; the part one of {', '.join(names) or 'those named'}")
        return default
    if by_value:
        return SideRule(part=value["part"], among=tuple(value["among"]))
    return SideRule(part=value["part"], first=int(value["from"]), last=int(value["to"]))


def _read_each(tables: list[Mapping[str, Any]], readers: list[_TableReader]) -> tuple[Pair, ...]:
    pairs = []
    for number, table in enumerate(tables, start=1):
        reader = _TableReader(table, f"pair {number}: ", readers)
        sound, image = (
            _plain(reader.typed(key, "", _is_folder, "a folder's name below that of all"))
            for key in ("sound", "image")
        )
        label = reader.typed("label", f"{sound}-{image}", _is_label, "a name without &")
        missing = [key for key in ("sound", "image") if key not in table]
        for key in missing:
            reader.missing(key, "a folder's name")
        if not (missing or _is_label(label)):  # made of the folders' names
            reader.wrong("label", label, "a name without &, as label =")
        pairs.append(Pair(sound, image, str(label)))
    return tuple(pairs)


def _pair_mistakes(pairs: Pairs) -> list[str]:
    mistakes = []
    if len(pairs.pairs) < FEWEST:
        mistakes.append(f"{len(pairs.pairs)} pairs: expected {FEWEST} or more, as [[pair]]")
    for key in ("sound", "image", "label"):
        values = [getattr(p, key) for p in pairs.pairs if getattr(p, key)]
        twice = sorted({v for v in values if values.count(v) > 1})
        mistakes += [f"{key} {v!r} stands in two pairs" for v in twice]
    if not sum(pairs.clips.values()):
        mistakes.append("clips: 0 in all splits")
    return mistakes
