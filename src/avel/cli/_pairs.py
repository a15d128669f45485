"""``key=value`` arguments of several verbs: the data, the task, and the recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avel.cli._terminal import note
from avel.errors import DataError, UsageError, all_at_once

if TYPE_CHECKING:
    from avel.data.base import Dataset

#: The file of a run's folder that names the data it was trained on.
DATA = "data.json"
_NAMED = ("data", "root", "task", "setting")


@dataclass
class DataArguments:
    """The ``key=value`` arguments of a call, sorted by what they configure.

    Args:
        data: A folder, several ones with commas between, or the name of a data set.
        root: The data set's folder, where ``data`` is a name.
        task, setting: As for :func:`avel.fit`.
        options: Options of the data set (``data.window=20``).
        mmel: Recipe fields of the model that CML starts from (``mmel.epochs=30``).
        recipe: All others, unchanged.
        roots: The folders, where several are stored in a run.
    """

    data: str = ""
    root: str = ""
    task: str = ""
    setting: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    mmel: list[str] = field(default_factory=list)
    recipe: list[str] = field(default_factory=list)
    roots: list[str] = field(default_factory=list)

    @property
    def folders(self) -> list[Path]:
        """The data's folders: several of a person's own, or one."""
        if self.roots:
            return [Path(root) for root in self.roots]
        if _is_path(self.data):
            return [Path(part) for part in _parts(self.data)]
        return [Path(self.root)] if self.root else []


def parse_pairs(pairs: Iterable[str]) -> DataArguments:
    """Parse ``key=value`` arguments.

    Raises:
        UsageError: that names every argument of another form.
    """
    arguments = DataArguments()
    wrong = []
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            wrong.append(f"{pair!r} isn't key=value")
        elif key in _NAMED:
            setattr(arguments, key, value)
        elif key.startswith("data."):
            arguments.options[key.removeprefix("data.")] = _plain(value)
        elif key.startswith("mmel."):
            arguments.mmel.append(pair.removeprefix("mmel."))
        else:
            arguments.recipe.append(pair)
    if wrong:
        raise all_at_once("arguments", wrong)
    return arguments


def runs_and_data(words: Iterable[str], verb: str) -> tuple[list[Path], DataArguments]:
    """The folders of runs among a call's words, and the ``key=value`` arguments of the data.

    Args:
        words: As a person gave them; a folder may have ``=`` in its name.
        verb: Of the call.

    Raises:
        UsageError: for a pair of another form, and for fields of a recipe.
    """
    pairs: list[str] = []
    runs: list[str] = []
    for word in words:
        (pairs if "=" in word and not Path(word).is_dir() else runs).append(word)
    return [Path(run) for run in runs], data_arguments(pairs, verb)


def data_arguments(pairs: Iterable[str] | None, verb: str) -> DataArguments:
    """The arguments of a call that name data and no recipe; errors as :func:`runs_and_data`."""
    arguments = parse_pairs(pairs or ())
    if arguments.recipe:
        raise UsageError(
            f"{arguments.recipe[0]!r} has no meaning for `avel {verb}`",
            expected="data=DIR, or data=ave root=DIR",
            hint="recipes are for `avel train`",
        )
    return arguments


def check_all(*checks: Callable[[], Any]) -> list[Any]:
    """The results of several checks, or one error with the mistakes of all.

    Raises:
        UsageError: if any check raises one.
    """
    results, errors = [], []
    for check in checks:
        try:
            results.append(check())
        except UsageError as e:
            errors.append(e)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise UsageError("\n".join(dict.fromkeys(str(e) for e in errors)))
    return results


def save_data_arguments(arguments: DataArguments, folder: Path) -> None:
    """Store in a run's folder which data it was trained on, so that `avel evaluate RUN` knows."""
    import json

    from avel.files import write_whole

    folders = [str(f.absolute()) for f in arguments.folders]
    record = {
        "data": "folder" if is_folder(arguments) else arguments.data,
        "root": folders[0],
        "options": arguments.options,
    }
    record |= {"roots": folders} if len(folders) > 1 else {}
    write_whole(folder / DATA, json.dumps(record, indent=1) + "\n")


def load_data_arguments(folder: Path) -> DataArguments:
    """The arguments that :func:`save_data_arguments` stored in a run's folder; empty if none.

    Raises:
        CheckpointError: if there is no such run.
        UsageError: if the file is damaged.
    """
    import json

    if not folder.is_dir():
        from avel.inference.load import load_trained

        load_trained(folder)  # raises unless it is a packaged model
    path = folder / DATA
    if not path.is_file() or path.stat().st_size > 2**16:
        return DataArguments()
    try:
        record = json.loads(path.read_text("utf-8"))
        return DataArguments(
            str(record["data"]), str(record["root"]), options=dict(record["options"]),
            roots=[str(root) for root in record.get("roots", ())],
        )  # fmt: skip
    except (ValueError, KeyError, TypeError) as e:
        hint = "name the data: data=DIR, or data=ave root=DIR"
        raise UsageError(f"{path} can't be read ({type(e).__name__})", hint=hint) from e


def seed_folders(folder: Path) -> list[Path]:
    """The folder of a run, or those of its seeds below it."""
    below = sorted(p.parent for p in folder.glob("seed-*/model.safetensors"))
    return below if below and not (folder / "model.safetensors").is_file() else [folder]


def _plain(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    return int(text) if text.isascii() and text.removeprefix("-").isdigit() else text


def is_folder(arguments: DataArguments) -> bool:
    """Whether the data are a person's own clips, not a data set by name."""
    return arguments.data == "folder" or _is_path(arguments.data)


def same_folder(a: DataArguments, b: DataArguments) -> bool:
    """Whether two calls name the same folder of data; False where one names none."""
    if not (a.data and b.data):
        return False
    folders = [[f.resolve() for f in d.folders] for d in (a, b)]
    return folders[0] == folders[1]


def open_data(
    arguments: DataArguments, *, partial: bool = False, whole: bool = False,
    training: bool = False, **more: Any,
) -> Dataset:  # fmt: skip
    """Load the data set that the arguments name, and print its notes.

    Args:
        arguments: Which data, and its options.
        partial: Whether splits of a folder may be missing, as for evaluation alone.
        whole: Whether all clips of a folder that names no split are in ``test``.
        training: Whether they are trained on: nothing else reads a folder's altered copies.
        more: Further options of the data set.

    Raises:
        UsageError: if no data set is named, or it lacks an option.
        DataError: if it can't be read.
    """
    from avel.data import load_dataset
    from avel.data.base import names

    if not arguments.data:
        raise UsageError("the call names no data", expected="data=DIR, or data=ave root=DIR")
    if not training and is_folder(arguments):
        arguments = replace(arguments, options={**arguments.options, "copies": False})
    if len(arguments.folders) > 1:
        return _with_notes(_open_folders(arguments, partial=partial, whole=whole, **more))
    name, root = (
        ("folder", arguments.data) if _is_path(arguments.data) else (arguments.data, arguments.root)
    )
    if not root:
        if name not in names():
            raise DataError(
                f"there is no folder {name}, and no data set of that name",
                expected=f"a folder of clips, or one of {', '.join(names())} with root=DIR",
                hint="check the path",
            )
        raise UsageError(f"data={name} needs its folder", hint=f"give data={name} root=DIR")
    if name == "folder":
        more |= {k: True for k, v in (("partial", partial), ("whole", whole)) if v}
    try:
        data = load_dataset(name, root=root, **arguments.options, **more)
    except TypeError as e:  # a value of another type
        if not (arguments.options or more):
            raise
        raise UsageError(f"an option of data={name} has a wrong value ({e})") from e
    return _with_notes(data)


def _open_folders(arguments: DataArguments, **more: Any) -> Dataset:
    """Several folders as one data set."""
    import inspect

    from avel.data import folder, folders
    from avel.errors import unknown_name

    known = list(inspect.signature(folder.load).parameters)[1:]
    for option in arguments.options:
        if option not in known:
            raise unknown_name("option of the data set folder", option, known)
    if "features" in arguments.options:
        raise UsageError("data.features names the features of one folder, and several are given",
                         hint="extract into each folder, and leave it out")  # fmt: skip
    return folders.load(arguments.folders, **arguments.options, **more)


def _with_notes(data: Dataset) -> Dataset:
    for text in data.notes:
        note(f"{data.name}: {text}")
    return data


def _is_path(text: str) -> bool:
    is_folder = "/" in text or "\\" in text or Path(text).is_dir() or len(_parts(text)) > 1
    return text not in ("ave", "folder") and is_folder


def _parts(text: str) -> list[str]:
    """The folders of ``a,b``; a folder whose own name has a comma is one."""
    parts = text.split(",")
    return [text] if Path(text).is_dir() or not all(parts) else parts
