"""``key=value`` arguments of several verbs: which data, which task, and the recipe's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avel.cli._terminal import note
from avel.errors import DataError, UsageError, all_at_once

if TYPE_CHECKING:
    from avel.data.base import Dataset

#: In a run's folder: which data it was trained on.
DATA = "data.json"
_NAMED = ("data", "root", "task", "setting")


@dataclass
class Given:
    """What ``key=value`` arguments say.

    Args:
        data: A folder, or the name of a data set.
        root: Its folder, where ``data`` is a name.
        task, setting: As for :func:`avel.fit`.
        options: The data set's own (``data.window=20``).
        mmel: Of the model that CML starts from (``mmel.epochs=30``).
        recipe: All others, as they came.
    """

    data: str = ""
    root: str = ""
    task: str = ""
    setting: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    mmel: list[str] = field(default_factory=list)
    recipe: list[str] = field(default_factory=list)


def sort_pairs(pairs: Iterable[str]) -> Given:
    """The arguments by what they are about.

    Raises:
        UsageError: with every argument that is no ``key=value``.
    """
    given = Given()
    wrong = []
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            wrong.append(f"{pair!r}: expected key=value")
        elif key in _NAMED:
            setattr(given, key, value)
        elif key.startswith("data."):
            given.options[key.removeprefix("data.")] = _plain(value)
        elif key.startswith("mmel."):
            given.mmel.append(pair.removeprefix("mmel."))
        else:
            given.recipe.append(pair)
    if wrong:
        raise all_at_once("arguments", wrong)
    return given


def together(*checks: Callable[[], Any]) -> list[Any]:
    """What each gives, or one error with the mistakes of all of them.

    Raises:
        UsageError: if any does.
    """
    found, wrong = [], []
    for check in checks:
        try:
            found.append(check())
        except UsageError as e:
            wrong.append(e)
    if len(wrong) == 1:
        raise wrong[0]
    if wrong:
        raise UsageError("\n".join(dict.fromkeys(str(e) for e in wrong)))
    return found


def remember(given: Given, folder: Path) -> None:
    """Write into a run's folder which data it was trained on, for `avel evaluate RUN` alone."""
    import json

    from avel.files import write_whole

    named = given.data and not _is_path(given.data)
    place = str(Path(given.root if named else given.data).absolute())
    held = {"data": given.data if named else "folder", "root": place, "options": given.options}
    write_whole(folder / DATA, json.dumps(held, indent=1) + "\n")


def recall(folder: Path) -> Given:
    """What :func:`remember` wrote, or nothing where it didn't."""
    import json

    path = folder / DATA
    if not path.is_file() or path.stat().st_size > 2**16:
        return Given()
    try:
        held = json.loads(path.read_text("utf-8"))
        return Given(str(held["data"]), str(held["root"]), options=dict(held["options"]))
    except (ValueError, KeyError, TypeError) as e:
        cure = "name the data: data=DIR, or data=ave root=DIR"
        raise UsageError(f"{path}: can't be read ({type(e).__name__})", hint=cure) from e


def seeds_of(folder: Path) -> list[Path]:
    """The run in a folder, or those of several seeds below it."""
    below = sorted(p.parent for p in folder.glob("seed-*/model.safetensors"))
    return below if below and not (folder / "model.safetensors").is_file() else [folder]


def _plain(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    return int(text) if text.isascii() and text.removeprefix("-").isdigit() else text


def open_data(given: Given, *, partial: bool = False, **more: Any) -> Dataset:
    """The data set that the arguments name; what is odd about it is said.

    Args:
        given: The arguments.
        partial: Whether splits of a folder may be missing, as for judging alone.
        more: Options of the data set besides those of the arguments.

    Raises:
        UsageError: if none is named, or an option that it doesn't have.
        DataError: if it can't be read.
    """
    from avel.data import load_dataset
    from avel.data.base import names

    if not given.data:
        raise UsageError(
            "no data named", expected="data=DIR, or data=ave root=DIR", hint="say what to read"
        )
    name, root = ("folder", given.data) if _is_path(given.data) else (given.data, given.root)
    if not root:
        if name not in names():
            raise DataError(
                f"there is no folder {name}, and no data set of that name",
                expected=f"a folder of clips, or one of {', '.join(names())} with root=DIR",
                hint="check the path; a new folder is made by `avel synth` or by yourself",
            )
        raise UsageError(f"data={name} without its folder", hint=f"give data={name} root=DIR")
    more |= {"partial": True} if partial and name == "folder" else {}
    try:
        data = load_dataset(name, root=root, **given.options, **more)
    except TypeError as e:  # an option that the loader doesn't have
        if not (given.options or more):
            raise
        raise UsageError(f"options of data={name}: {e}", hint="see the data set's page") from e
    for text in data.notes:
        note(f"{data.name}: {text}")
    return data


def _is_path(text: str) -> bool:
    return text not in ("ave", "folder") and ("/" in text or "\\" in text or Path(text).is_dir())
