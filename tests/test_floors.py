"""The floors of the package: nothing imports upward, and no two modules need one another."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import avel

PACKAGE = Path(avel.__file__).parent
FLOORS = (
    "types errors clock device registry files metrics processes progress download memory"
    " csv_table _version",
    "media",
    "backbones",
    "features events formats",
    "models",
    "inference onnx",
    "papers",
    "data tasks",
    "training evaluation search",
    "experiments",
    "figures report",
    "cli web __main__",
)
FLOOR = {room: i for i, rooms in enumerate(FLOORS) for room in rooms.split()}
#: A saved timeline finds its writer, and its form in a notebook, by the file's ending.
DECLARED = {("avel.types", "avel.report"), ("avel.types", "avel.report.notebook")}


def _modules() -> dict[str, Path]:
    modules = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


MODULES = _modules()


def _imports(tree: ast.AST) -> Iterator[str]:
    """The modules of avel that code imports, lazily or for its types alone too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] == "avel")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "avel":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else str(node.module)


#: The front door ``avel`` names functions of every floor, and is imported by none.
ARROWS = {
    name: {t for t in _imports(ast.parse(path.read_text("utf-8"))) if (name, t) not in DECLARED}
    for name, path in MODULES.items()
    if name != "avel"
}


def test_every_module_stands_on_a_floor() -> None:
    assert {name.split(".")[1] for name in ARROWS} == set(FLOOR)


def test_nothing_imports_upward() -> None:
    def floor(name: str) -> int:
        return FLOOR[name.split(".")[1]]

    up = [
        (a, b)
        for a, modules in ARROWS.items()
        for b in modules
        if b == "avel" or floor(b) > floor(a)
    ]
    assert up == []


def test_no_modules_import_one_another_in_a_circle() -> None:
    left = {name: set(modules) for name, modules in ARROWS.items()}
    while free := [name for name, modules in left.items() if not modules & left.keys()]:
        for name in free:
            del left[name]
    assert sorted(left) == []


def test_a_class_name_is_one_class() -> None:
    places: dict[str, list[str]] = {}
    for name, path in MODULES.items():
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(name)
    assert {name: where for name, where in places.items() if len(where) > 1} == {}
