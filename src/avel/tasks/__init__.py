"""Tasks, a class each: :class:`~.sel.SEL`, :class:`~.wsel.WSEL` and :class:`~.cml.CML`."""

from __future__ import annotations

from avel.errors import unknown_name
from avel.models.base import TaskName
from avel.tasks.base import Predict, Task
from avel.tasks.cml import CML
from avel.tasks.sel import SEL
from avel.tasks.wsel import WSEL

__all__ = ["DEFAULT", "TASKS", "Predict", "Task", "task_named"]

_TASKS: dict[TaskName, Task] = {task.name: task for task in (SEL(), WSEL(), CML())}
#: Names of the tasks, the default first.
TASKS: tuple[TaskName, ...] = tuple(_TASKS)
#: The task where none is named.
DEFAULT: TaskName = TASKS[0]


def task_named(name: str) -> Task:
    """A task by name: ``"sel"``, ``"wsel"`` or ``"cml"``.

    Raises:
        UsageError: if there is no such task.
    """
    for known, task in _TASKS.items():
        if known == name:
            return task
    raise unknown_name("task", name, TASKS)
