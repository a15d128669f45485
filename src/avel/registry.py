"""Classes by name: those of one package, of installed plug-ins, and of files that a user names."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import os
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Generic, TypeVar

from avel.errors import UsageError, unknown_name

T = TypeVar("T")


class Registry(Generic[T]):
    """The classes that the modules of one package register under names.

    Two more sources are imported: entry points of installed packages whose group is ``package``
    (``avel.models``, ``avel.backbones``, ``avel.formats``), and a user's files, which are those in
    the environment variable ``AVEL_MODELS`` (``AVEL_BACKBONES`` …), separated as ``PATH`` is, and
    those passed to :meth:`add_file`. Nothing else is ever imported: no checkpoint and no data set
    can name a file.

    Args:
        kind: What one entry is called in messages, e.g. ``"model"``.
        package: The package scanned on first use, e.g. ``"avel.models"``.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind, self.package = kind, package
        self._entries: dict[str, type[T]] = {}
        self._user_files: dict[Path, list[str]] = {}
        self._scanned = False

    @property
    def variable(self) -> str:
        """The environment variable that lists the user's files."""
        return f"AVEL_{self.kind.upper()}S"

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """A class decorator; registering one name for two classes is an error."""

        def add(cls: type[T]) -> type[T]:
            known = self._entries.get(name)
            if known is not None and known.__qualname__ != cls.__qualname__:
                raise ValueError(f"{self.kind} {name!r} is registered twice: {known}, {cls}")
            self._entries[name] = cls
            return cls

        return add

    def _scan(self) -> None:
        if self._scanned:
            return
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self.package}.{module.name}")
        self._scanned = True
        for point in metadata.entry_points(group=self.package):
            self._add(f"the entry point {point.name} = {point.value}", partial(_load, point))
        for path in filter(None, os.environ.get(self.variable, "").split(os.pathsep)):
            self.add_file(path)

    def add_file(self, path: str | Path) -> list[str]:
        """Import a user's Python file, once, with the classes that it registers.

        Its code runs as any program's does: name no file that you wouldn't run.

        Returns:
            The names that it registered, sorted.

        Raises:
            UsageError: if the file doesn't exist, fails, or registers no class, an incomplete one,
                or a name that is taken. The registry stays as it was.
        """
        self._scan()
        path = Path(path).absolute()
        if path in self._user_files:
            return self._user_files[path]
        self._user_files[path] = self._add(str(path), partial(_import, path, self.kind))
        return self._user_files[path]

    def _add(self, source: str, load: Callable[[], object]) -> list[str]:
        """The names that a call of ``load`` registers; the registry stays as it was if it fails."""
        before = dict(self._entries)
        try:
            load()
            names = sorted(n for n, cls in self._entries.items() if before.get(n) is not cls)
            self._check(source, names, before)
        except UsageError:
            self._entries = before
            raise
        return names

    def _check(self, source: str, names: list[str], before: dict[str, type[T]]) -> None:
        mistakes = []
        for name in names:
            cls = self._entries[name]
            if name in before:
                mistakes.append(f"the name {name!r} is taken")
            if getattr(getattr(cls, "card", None), "name", None) != name:
                mistakes.append(f"{cls.__name__} has no card with the name {name!r}")
            if inspect.isabstract(cls):
                lacking = sorted(getattr(cls, "__abstractmethods__", ()))
                mistakes.append(f"{cls.__name__} lacks {', '.join(lacking)}")
        if not names:
            mistakes.append(f"it registers no class by @{self.kind}s.register(NAME)")
        if mistakes:
            raise UsageError(
                f"{source}: {'; '.join(mistakes)}",
                expected=f"a {self.kind} as CONTRIBUTING describes it",
                hint="correct the file",
            )

    def named(self, text: str) -> str:
        """The name that a command line's argument means: a name, or a file that registers one.

        Raises:
            UsageError: for a file that :meth:`add_file` refuses, or that registers several.
        """
        if not text.endswith(".py"):
            return text
        names = self.add_file(text)
        if len(names) > 1:
            raise UsageError(
                f"{text} registers {', '.join(names)}",
                expected="a file that registers one",
                hint=f"set {self.variable}={text}, and name the {self.kind}",
            )
        return names[0]

    def names(self) -> list[str]:
        """All names, sorted."""
        self._scan()
        return sorted(self._entries)

    def get(self, name: str) -> type[T]:
        """The class under a name.

        Raises:
            UsageError: if nothing has that name; the nearest names are suggested.
        """
        self._scan()
        if name not in self._entries:
            raise unknown_name(self.kind, name, self._entries)
        return self._entries[name]

    def __iter__(self) -> Iterator[tuple[str, type[T]]]:
        return iter([(name, self._entries[name]) for name in self.names()])


def _load(point: metadata.EntryPoint) -> None:
    """Import an entry point's module.

    Raises:
        UsageError: if that fails.
    """
    try:
        point.load()
    except Exception as e:
        package = point.dist.name if point.dist else "the package that has it"
        raise UsageError(
            f"the entry point {point.name} = {point.value} fails with {type(e).__name__}: {e}",
            hint=f"update or uninstall {package}",
        ) from e


def _import(path: Path, kind: str) -> ModuleType:
    """Run a file as a module.

    Raises:
        UsageError: if it doesn't exist or fails, with the line where that is known.
    """
    if not path.is_file():
        raise UsageError(
            f"there is no file {path}", expected=f"a Python file that registers a {kind}"
        )
    name = f"avel_user_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is no Python file", expected="a name that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as e:
        del sys.modules[name]
        lines = [f.lineno for f in traceback.extract_tb(e.__traceback__) if f.filename == str(path)]
        line = getattr(e, "lineno", None) or (lines[-1] if lines else None)
        where = f"{path}, line {line}" if line else str(path)
        raise UsageError(f"{where}: {type(e).__name__}: {e}", hint="correct the file") from e
    return module
