"""Trainings of tables: each is done once, resumes where it stopped, and counts its time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

from avel.data.base import Dataset, fingerprint
from avel.errors import AvelError, CheckpointError
from avel.evaluation.evaluate import evaluate
from avel.experiments.spec import Outcome, Training
from avel.files import json_hash, locked, write_whole
from avel.training.loop import Run, fit
from avel.training.mmel import has_own_partition, spared_clips
from avel.training.recipes import to_json
from avel.training.state import STATE
from avel.types import Json

#: In a training's folder: its outcome, and the time it took so far.
DONE, SPENT = "done.json", "spent.json"
#: Fields of outcomes that earlier versions wrote, when a training could have a time budget.
_FORMER = ("asked_epochs", "cut", "start_cut", "budget")


class Runner:
    """A folder in which trainings on one data set are done; several processes may share it.

    Args:
        folder: Where they lie: a folder a training, in it one a seed.
        data: The data set.
        keep_state: Keep the states that finished trainings could resume from, several times a
            model's size.
        note: Called with the folder of each training that was done here, for what its caller
            writes beside it.
        test_chosen: See :func:`avel.fit`; such trainings lie in folders of their own.
        device: Where trainings and evaluations run; see :func:`avel.device.check_device`.
    """

    def __init__(
        self,
        folder: str | Path,
        data: Dataset,
        *,
        keep_state: bool = False,
        note: Callable[[Path], None] | None = None,
        test_chosen: bool = False,
        device: str = "auto",
    ) -> None:
        self.folder, self.data, self.keep_state = Path(folder), data, keep_state
        self._fingerprint, self.test_chosen = fingerprint(data), test_chosen
        self.device = device
        self.note = note or (lambda folder: None)

    def folder_of(self, training: Training, seed: int) -> Path:
        """A training's folder: other data, other copies or another recipe is another folder."""
        what = [training.identity(), self._fingerprint]
        if (training.spares or training.start) and has_own_partition(self.data):
            what.append("spared by recording")  # earlier versions spared clips
        if self.test_chosen and not training.spares:
            what.append("test chosen")
        copies = max(len(split.copies) for split in self.data.splits.values())
        if copies and training.recipe.copied:
            what.append(f"{copies} altered copies")
        key = json_hash(what)
        options = "_".join(f"{k}={v}" for k, v in training.changed.items())
        plain = "".join(c if c.isalnum() or c in "=_.+-" else "-" for c in options)[:80]
        name = "_".join(filter(None, [plain, key[:10]]))
        group = "mmel" if training.spares else training.task
        return self.folder / f"{training.model}_{group}" / name / f"seed-{seed}"

    def outcome(self, training: Training, seed: int) -> Outcome | None:
        """What came of a training; None where it is to be done or resumed."""
        folder = self.folder_of(training, seed)
        stored = _read(folder / DONE)
        if not stored or stored.get("cut") or stored.get("start_cut"):  # a time budget ended it
            return None
        evaluation = stored.get("evaluation", {})
        if "trivial" in evaluation:  # older names
            evaluation["baselines"] = evaluation.pop("trivial")
        if "answers" in stored:
            stored["predictions"] = stored.pop("answers")
        try:
            outcome = Outcome(**{k: v for k, v in stored.items() if k not in _FORMER})
        except TypeError as e:
            raise CheckpointError(
                f"{folder} is of another avel ({e})", hint="delete it, and train again"
            ) from e
        # where defaults have changed since, fit says so
        return outcome if training.is_of(outcome.recipe) else None

    def work(
        self, requested: Sequence[tuple[Training, int]], report: Callable[[Training, int], None]
    ) -> Iterator[tuple[Training, int, Outcome | AvelError]]:
        """Do trainings, each of one seed; those that another process does come last.

        Args:
            requested: Trainings and seeds.
            report: Called before each one.

        Returns:
            What came of each: an error where it failed, and the others are done all the same.

        Raises:
            Stopped: on Ctrl-C; what was trained is kept.
        """
        busy: list[tuple[Training, int]] = []
        for wait, some in ((False, requested), (True, busy)):
            for training, seed in some:
                report(training, seed)
                result: Outcome | AvelError | None
                try:
                    result = self.train(training, seed, wait=wait)
                except AvelError as e:
                    result = e
                if result is None:
                    busy.append((training, seed))
                else:
                    yield training, seed, result

    def train(self, training: Training, seed: int, *, wait: bool = True) -> Outcome | None:
        """Do a training, or resume it.

        Args:
            training, seed: What.
            wait: Wait for another process that does it; else None.
        """
        folder = self.folder_of(training, seed)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.with_name(f".{folder.name}.lock"), wait=wait) as mine:
            if not mine:
                return None
            if (done := self.outcome(training, seed)) is not None:  # by another process
                return done
            start = self.train(training.start, seed) if training.start else None
            self._forget_other_starts(folder, start)
            meter = _Meter(folder, start.epochs if start else None)
            run = self._fit(training, seed, meter)
            self.note(folder)
            outcome = self._evaluate(training, seed, run, meter)
            write_whole(folder / DONE, json.dumps(asdict(outcome)) + "\n")
            if not self.keep_state:
                (folder / STATE).unlink(missing_ok=True)
            return outcome

    def _fit(self, training: Training, seed: int, meter: _Meter) -> Run:
        start = self.folder_of(training.start, seed) if training.start else None
        spared = spared_clips(self.data) if training.spares else None
        return fit(
            training.model, self.data, task=training.task, seed=seed, recipe=training.recipe,
            setting=training.setting, out=meter.folder, resume=True, init=start,
            exclude=spared.training if spared else (),
            exclude_val=spared.validation if spared else (), progress=meter,
            test_chosen=self.test_chosen and not training.spares, device=self.device,
        )  # fmt: skip

    def _forget_other_starts(self, folder: Path, start: Outcome | None) -> None:
        """Delete what was trained from a start that has more epochs by now."""
        spent = _read(folder / SPENT)
        if start is not None and spent and spent.get("start_epochs") != start.epochs:
            shutil.rmtree(folder)

    def _evaluate(self, training: Training, seed: int, run: Run, meter: _Meter) -> Outcome:
        evaluation = evaluate(run, device=self.device)
        return Outcome(
            seed=seed, recipe=to_json(training.recipe), epochs=len(run.history),
            seconds=round(meter.seconds, 1),
            parameters=sum(run.trained.network.parameter_counts().values()),
            start_epochs=meter.start_epochs, evaluation=evaluation.to_json(),
            predictions=evaluation.predictions[0],
        )  # fmt: skip


class _Meter:
    """Called after every epoch: keeps count of the seconds of all sittings.

    Args:
        folder: The training's.
        start_epochs: Of what it started from.
    """

    def __init__(self, folder: Path, start_epochs: int | None) -> None:
        self.folder, self.start_epochs = folder, start_epochs
        self.seconds = float(_read(folder / SPENT).get("seconds", 0))
        self._since = perf_counter()

    def __call__(self, record: Json, epochs: int) -> None:
        now = perf_counter()
        self.seconds, self._since = self.seconds + now - self._since, now
        spent = {"seconds": self.seconds, "epochs": record["epoch"],
                 "start_epochs": self.start_epochs}  # fmt: skip
        write_whole(self.folder / SPENT, json.dumps(spent) + "\n")


def _read(path: Path) -> dict[str, Any]:
    """A file of ours, {} where there is none.

    Raises:
        CheckpointError: if it holds anything else.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as e:
        raise CheckpointError(f"{path} can't be read ({e})", hint="delete its folder") from e
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no JSON object", hint="delete its folder")
    return content
