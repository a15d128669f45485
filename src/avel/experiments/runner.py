"""Where tables' trainings are done: each once, on from where it stopped, with what it took."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from avel.data.base import Dataset, fingerprint
from avel.errors import AvelError, CheckpointError
from avel.evaluation.evaluate import evaluate
from avel.experiments.spec import Estimate, Outcome, Training
from avel.files import json_hash, write_whole
from avel.training.loop import Enough, Run, fit
from avel.training.mmel import judged_ids
from avel.training.recipes import to_json
from avel.training.state import STATE
from avel.types import Json

try:
    import fcntl
except ImportError:  # pragma: no cover - no such locks there: one process a folder, then
    fcntl = None  # type: ignore[assignment]

#: In a training's folder: what came of it, and what it took so far; beside the seeds': its speed.
DONE, SPENT, SPEED = "done.json", "spent.json", "speed.json"


class Workshop:
    """A folder in which trainings on one data set are done; several processes may share it.

    Args:
        folder: Where they lie: a folder a training, in it one a seed.
        data: The data set.
        budget: Minutes that a training of one seed has: it ends after the (validated) epoch in
            which they ran out. One that was cut goes on when it is given more.
        keep_state: Keep the states that finished trainings could go on from, several times a
            model's size; those of trainings that were cut are kept anyway.
        note: Called with the folder of each training that was done here, for what its caller
            wants to have beside it.
    """

    def __init__(
        self,
        folder: str | Path,
        data: Dataset,
        *,
        budget: float | None = None,
        keep_state: bool = False,
        note: Callable[[Path], None] | None = None,
    ) -> None:
        self.folder, self.data, self.budget = Path(folder), data, budget
        self.keep_state, self._print = keep_state, fingerprint(data)
        self.note = note or (lambda place: None)

    def place(self, training: Training, seed: int) -> Path:
        """A training's folder: other data or another recipe is another folder."""
        key = json_hash([training.asked(), self._print])
        told = "_".join(f"{k}={v}" for k, v in training.changed.items())
        kept = "".join(c if c.isalnum() or c in "=_.+-" else "-" for c in told)[:80]
        name = "_".join(filter(None, [kept, key[:10]]))
        group = "mmel" if training.spares else training.task
        return self.folder / f"{training.model}_{group}" / name / f"seed-{seed}"

    def outcome(self, training: Training, seed: int) -> Outcome | None:
        """What came of a training, None where it is still to be done or could go on."""
        held = _read(self.place(training, seed) / DONE)
        try:
            if held and "trivial" in held["evaluation"]:  # its older name
                held["evaluation"]["baselines"] = held["evaluation"].pop("trivial")
            found = Outcome(**held) if held else None
        except TypeError as e:
            place = self.place(training, seed)
            raise CheckpointError(f"{place}: of another avel ({e})", hint="delete it") from e
        goes_on = found is not None and (
            not training.is_of(found.recipe)  # defaults have changed since: fit will say so
            or (found.cut and self._more_than(found.seconds))
            or (found.start_cut and training.start is not None
                and self.outcome(training.start, seed) is None)
        )  # fmt: skip
        return None if goes_on else found

    def work(
        self, expected: Sequence[tuple[Training, int]], tell: Callable[[Training, int], None]
    ) -> Iterator[tuple[Training, int, Outcome | AvelError]]:
        """Do trainings, each of one seed; what another process is busy with comes last.

        Args:
            expected: Trainings and seeds.
            tell: Called before each one.

        Returns:
            What came of each: an error where it failed, and the others are done all the same.

        Raises:
            Stopped: on Ctrl-C; what was trained is kept.
        """
        busy: list[tuple[Training, int]] = []
        for wait, some in ((False, expected), (True, busy)):
            for training, seed in some:
                tell(training, seed)
                found: Outcome | AvelError | None
                try:
                    found = self.train(training, seed, wait=wait)
                except AvelError as e:
                    found = e
                if found is None:
                    busy.append((training, seed))
                else:
                    yield training, seed, found

    def train(
        self, training: Training, seed: int, *, wait: bool = True, measure: bool = False
    ) -> Outcome | None:
        """Do a training, or go on with it.

        Args:
            training, seed: What.
            wait: Wait for another process that is at it; else None.
            measure: Train the first epochs alone, to see how long one takes; None.
        """
        place = self.place(training, seed)
        with _locked(place, wait) as mine:
            if not mine:
                return None
            if (found := self.outcome(training, seed)) is not None:  # another process's by now
                return found
            start = self.train(training.start, seed) if training.start else None
            self._forget_other_starts(place, start)
            meter = _Meter(place, None if self.budget is None else 60 * self.budget, measure,
                           start.epochs if start else None)  # fmt: skip
            run = self._fit(training, seed, place, meter)
            self.note(place)
            ended = len(run.history) >= training.recipe.epochs or not meter.asked_to_end
            if not ended and not meter.over:
                return None
            made = self._judge(training, seed, run, meter, start, cut=not ended)
            write_whole(place / DONE, json.dumps(asdict(made)) + "\n")
            if ended and not self.keep_state:
                (place / STATE).unlink(missing_ok=True)
            return made

    def estimate(self, expected: Sequence[tuple[Training, int]]) -> Estimate:
        """What is still to be done, from the epochs measured so far; nothing is trained.

        :meth:`measure` sees to it that something was.
        """
        left = self._left(expected)
        times = [self._time_left(t, seed) for t, seed in left]
        known = [t for t in times if t is not None]
        return Estimate(
            len(left), sum(seconds for seconds, _ in known), sum(cut for _, cut in known),
            len(times) - len(known),
        )  # fmt: skip

    def measure(
        self, expected: Sequence[tuple[Training, int]], tell: Callable[[Training, int], None]
    ) -> None:
        """Train the first epochs of every training whose speed isn't known: they aren't lost."""
        for training, seed in self._left(expected):
            if self._speed(training) is not None:
                continue
            tell(training, seed)
            with suppress(AvelError):  # :meth:`work` will meet it again
                if training.start is None:
                    self.train(training, seed, wait=False, measure=True)
                else:  # what it starts from isn't there yet: tried without, and thrown away
                    meter = _Meter(self.place(training, seed), None, True, None, keep=False)
                    self._fit(replace(training, start=None), seed, None, meter)

    def _left(self, expected: Sequence[tuple[Training, int]]) -> list[tuple[Training, int]]:
        """What isn't done, what it starts from included, each once."""
        found = {}
        for training, seed in expected:
            if self.outcome(training, seed) is None:
                for one in (training.start, training):
                    if one is not None and self.outcome(one, seed) is None:
                        found[self.place(one, seed)] = (one, seed)
        return list(found.values())

    def _time_left(self, training: Training, seed: int) -> tuple[float, bool] | None:
        """Seconds, and whether the budget ends it; None where no epoch was measured."""
        speed = self._speed(training)
        if speed is None:
            return None
        spent = _read(self.place(training, seed) / SPENT)
        seconds = speed * (training.recipe.epochs - int(spent.get("epochs", 0)))
        rest = math.inf
        if self.budget is not None:
            rest = max(0.0, 60 * self.budget - float(spent.get("seconds", 0)))
        return min(seconds, rest), seconds > rest

    def _speed(self, training: Training) -> float | None:
        """Seconds an epoch, of any seed."""
        found = _read(self.place(training, 0).parent / SPEED).get("epoch_seconds")
        return None if found is None else float(found)

    def _more_than(self, seconds: float) -> bool:
        return self.budget is None or 60 * self.budget > seconds

    def _fit(self, training: Training, seed: int, out: Path | None, meter: _Meter) -> Run:
        start = self.place(training.start, seed) if training.start else None
        return fit(
            training.model, self.data, task=training.task, seed=seed, recipe=training.recipe,
            setting=training.setting, out=out, resume=out is not None, init=start,
            exclude=judged_ids(self.data) if training.spares else (), progress=meter,
        )  # fmt: skip

    def _forget_other_starts(self, place: Path, start: Outcome | None) -> None:
        """A start that went on since is another start: what began from it begins anew."""
        spent = _read(place / SPENT)
        if start is not None and spent and spent.get("start_epochs") != start.epochs:
            shutil.rmtree(place)

    def _judge(
        self, training: Training, seed: int, run: Run, meter: _Meter, start: Outcome | None, *,
        cut: bool,
    ) -> Outcome:  # fmt: skip
        found = evaluate(run)
        return Outcome(
            seed=seed, recipe=to_json(training.recipe), epochs=len(run.history),
            asked_epochs=training.recipe.epochs, cut=cut,
            seconds=round(meter.seconds, 1),
            parameters=sum(run.trained.network.parameter_counts().values()),
            start_epochs=start.epochs if start else None,
            start_cut=bool(start and start.cut),
            evaluation=found.to_json(), budget=self.budget, answers=found.predictions[0],
        )  # fmt: skip


class _Meter:
    """Called after every epoch: keeps count of the time, and ends what has none left.

    Args:
        place: The training's folder.
        limit: Seconds it has, or None.
        measure: Whether it ends as soon as its speed is known.
        start_epochs: Of what it started from.
        keep: False for a try that is thrown away.
    """

    def __init__(
        self, place: Path, limit: float | None, measure: bool, start_epochs: int | None, *,
        keep: bool = True,
    ) -> None:  # fmt: skip
        self.place, self.limit, self.measure, self.keep = place, limit, measure, keep
        self.start_epochs, self.asked_to_end = start_epochs, False
        self.seconds = float(_read(place / SPENT).get("seconds", 0))
        self._since, self._first = perf_counter(), True

    @property
    def over(self) -> bool:
        """Whether its time has run out."""
        return self.limit is not None and self.seconds >= self.limit

    def __call__(self, record: Json, epochs: int) -> None:
        now = perf_counter()
        took, self._since = now - self._since, now
        self.seconds += took
        if self.keep:
            held = {"seconds": self.seconds, "epochs": record["epoch"],
                    "start_epochs": self.start_epochs}  # fmt: skip
            write_whole(self.place / SPENT, json.dumps(held) + "\n")
        if not self._first or epochs == 1:
            write_whole(self.place.parent / SPEED, json.dumps({"epoch_seconds": took}) + "\n")
        enough = self.measure and not self._first
        self._first = False
        if (enough or self.over) and len(record) > 2:  # an epoch that was validated
            self.asked_to_end = record["epoch"] < epochs
            raise Enough


@contextmanager
def _locked(place: Path, wait: bool) -> Iterator[bool]:
    """Whether this process has a training's folder for itself; the system frees it if it dies."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_name(f".{place.name}.lock").open("w") as held:
        if fcntl is not None:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
        yield True


def _read(path: Path) -> dict[str, Any]:
    """A file of ours, {} where there is none.

    Raises:
        CheckpointError: if it holds anything else.
    """
    try:
        held = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as e:
        raise CheckpointError(f"{path}: can't be read ({e})", hint="delete its folder") from e
    if not isinstance(held, dict):
        raise CheckpointError(f"{path}: no object", hint="delete its folder")
    return held
