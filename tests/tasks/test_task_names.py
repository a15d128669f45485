"""What depends on a task is in its class: no other room compares a task's name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

import avel

PACKAGE = Path(avel.__file__).parent


def _is_task(node: ast.expr) -> bool:
    """Whether an expression is named task: ``task``, ``run.task``, ``card["task"]``, ``.get``."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.Constant(value=str(name)):
            return name.lower().rpartition("_")[2] == "task"
        case ast.Subscript(slice=key):
            return _is_task(key)
        case ast.Call(func=ast.Attribute(attr="get"), args=[key, *_]):
            return _is_task(key)
        case ast.Call(args=[inner]):  # str(task)
            return _is_task(inner)
    return False


def _is_name(node: ast.expr) -> bool:
    """Whether an expression is a string, or some of them."""
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return any(_is_name(item) for item in node.elts)
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def comparisons(code: str) -> Iterator[int]:
    """The lines that compare a task with a name."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            for operator, (left, right) in zip(node.ops, pairwise(sides), strict=True):
                turned = not isinstance(operator, ast.In | ast.NotIn)  # "key" in task: a mapping
                if (_is_task(left) and _is_name(right)) or (
                    turned and _is_name(left) and _is_task(right)
                ):
                    yield node.lineno
        elif isinstance(node, ast.Match) and _is_task(node.subject):
            yield node.lineno


@pytest.mark.parametrize(
    "code",
    [
        'task == "cml"', '"cml" != self.task', 'card["task"] in ("sel", "wsel")',
        'run.card.get("task") == "cml"', 'str(row["task"]) not in {"cml"}', 'first_task == "sel"',
        'match task:\n    case "cml": pass',
    ],
)  # fmt: skip
def test_a_comparison_is_detected(code: str) -> None:
    assert list(comparisons(code)) == [1]


@pytest.mark.parametrize(
    "code",
    [
        '"task" in card',
        '"data" in task',
        "row.task == task",
        'name == "cml"',
        'task["id"] == "1"',
        "task is 1",
    ],
)
def test_others_are_allowed(code: str) -> None:
    assert not list(comparisons(code))


def test_only_tasks_compare_their_names() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{line}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.parent != PACKAGE / "tasks"
        for line in comparisons(path.read_text("utf-8"))
    ]
    assert found == []
