"""Trainings for `avel serve` in tests: no networks, and recipes that say what happens."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from avel.errors import DataError
from avel.types import Json
from avel.web.training_process import Report, TrainingRequest
from tests.web.fake_worker import CARD

RESULT: Json = {
    "clips": 4, "recordings": 4, "folds": 2, "epochs": 7,
    "systems": [
        {"name": "corrected-1", "role": "new", "segment_accuracy": 0.81, "event_f1": 0.7},
        {"name": "default", "role": "old", "segment_accuracy": 0.52, "event_f1": None},
        {"name": "always background", "role": "baseline", "segment_accuracy": 0.6, "event_f1": 0.0},
    ],
    "notes": ["default doesn't have 1 of the 1 labels: gate."],
}  # fmt: skip


def train(request: TrainingRequest, report: Report) -> Json:
    """As the first word of the recipe says: ``slow=``, ``dies=``, ``bug=``, ``fails=``, or done.

    ``until=NAME`` waits for a file of that name in the data set's folder, or ``fail`` to fail.
    """
    behaviour = request.recipe[0].partition("=")[0] if request.recipe else ""
    report("extract", 0, 4)
    report("fold 1 of 2", 3, 30)
    if behaviour == "slow":
        time.sleep(float(request.recipe[0].partition("=")[2]))
    if behaviour == "until":
        _wait(Path(request.data), request.recipe[0].partition("=")[2])
    if behaviour == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "bug":
        raise RuntimeError("a bug")
    if behaviour == "fails":
        raise DataError("no row has a label", hint="correct more files")
    out = Path(request.out)
    out.mkdir()
    (out / "compared").write_text(request.compared_model)
    systems = [{**RESULT["systems"][0], "name": request.name}, *RESULT["systems"][1:]]
    return {"card": CARD | {"classes": ["gate"]}, "result": RESULT | {"systems": systems}}


def _wait(folder: Path, name: str) -> None:
    while not (folder / name).exists():
        if (folder / "fail").exists():
            raise DataError("no row has a label", hint="correct more files")
        time.sleep(0.05)
