"""Names to classes, found by scanning a package: a new file is enough to be known."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Generic, TypeVar

from avel.errors import unknown_name

T = TypeVar("T")


class Registry(Generic[T]):
    """The classes that the modules of one package register under names.

    Args:
        kind: What one entry is called in messages, e.g. ``"model"``.
        package: The package scanned on first use, e.g. ``"avel.models"``.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind, self.package = kind, package
        self._entries: dict[str, type[T]] = {}
        self._scanned = False

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

    def names(self, pattern: str = "*") -> list[str]:
        """The names that match a shell pattern, sorted."""
        self._scan()
        return sorted(name for name in self._entries if fnmatchcase(name, pattern))

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
