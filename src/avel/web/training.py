"""Trainings on the corrections, one at a time, and the models that came of them."""

from __future__ import annotations

import json
import logging
import shutil
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from avel.errors import AvelError, DataError
from avel.files import disk_error, write_whole
from avel.processes import ChildProcess, ProcessDiedError, lower_priority, outcome_of, unexpected
from avel.types import Json
from avel.web.error_responses import body_of, error_body, http_error
from avel.web.schemas import TrainingResult, TrainingStatus
from avel.web.training_process import Report, TrainingRequest, train

#: Most models that are stored; more are refused until one is deleted.
MAX_MODELS = 20
#: Names of new models: this and a number.
PREFIX = "corrected-"
_RESULT, _STATUS, _UNFINISHED = "result.json", "training.json", ".unfinished"
_TICK = 0.2  # seconds between checks for cancellation and time limit
_log = logging.getLogger("avel.web")


@dataclass(frozen=True)
class TrainedModel:
    """A model that was trained on the corrections.

    Args:
        folder: Its run.
        card: Its card.
        result: See :func:`avel.web.training_process.train`.
        finished: Seconds since 1970.
    """

    folder: Path
    card: Json
    result: Json
    finished: float


@dataclass(frozen=True)
class TrainingOptions:
    """What trainings need to know of the server.

    Args:
        models: The served models, by name, as for :func:`avel.load_model`.
        device: As for :func:`avel.device.check_device`.
        recipe: ``"key=value"`` in place of fields of the recipe for small data.
        function: Trains, in a process of its own: a module-level function.
    """

    models: Mapping[str, str] = field(default_factory=dict)
    device: str = "auto"
    recipe: tuple[str, ...] = ()
    function: Callable[[TrainingRequest, Report], Json] = train


class TrainingService:
    """Trains in a process of its own, and stores the models.

    Args:
        folder: Of the models and the last training's status; created where it is missing.
        options: Models, device, recipe.
        limit: Longest time of a training, in seconds.
    """

    def __init__(self, folder: Path, options: TrainingOptions, *, limit: float) -> None:
        self._folder, self._options, self._limit = folder, options, limit
        self._lock = threading.RLock()
        self._cancelled = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        folder.mkdir(exist_ok=True)
        for path in folder.glob(f"*{_UNFINISHED}"):
            shutil.rmtree(path, ignore_errors=True)
        #: The stored models by name, oldest first.
        self.models = _stored_models(folder)
        self._status = _stored_status(folder / _STATUS)

    @property
    def status(self) -> TrainingStatus:
        """The present training, or the last one."""
        return self._status

    def begin(self, data: Path, compared: str, names: Collection[str]) -> TrainingStatus:
        """Start a training.

        Args:
            data: The folder of the corrections.
            compared: The model to compare with, whose backbones are taken.
            names: Names that the new model must not have.

        Raises:
            HTTPException: 409 where one runs already, or too many models are stored.
        """
        with self._lock:
            if self._status.state == "running" or self._stopping:
                raise http_error(
                    409,
                    "a training runs already",
                    "one at a time",
                    "wait for its end, or cancel it",
                )
            if len(self.models) >= MAX_MODELS:
                raise http_error(
                    409, f"{len(self.models)} trained models are stored", f"at most {MAX_MODELS}",
                    "delete one",
                )  # fmt: skip
            name = self._new_name(names)
            request = TrainingRequest(
                name=name, data=str(data), out=str(self._folder / f"{name}{_UNFINISHED}"),
                compared=compared, compared_model=self._model_path(compared),
                device=self._options.device, recipe=self._options.recipe,
            )  # fmt: skip
            status = TrainingStatus(
                state="running", model=name, compared=compared, stage="extract",
                started=time.time(),
            )  # fmt: skip
            self._save(status)
            self._status = status
            self._cancelled.clear()
            self._thread = threading.Thread(
                target=self._run, args=(request,), name="avel-training", daemon=True
            )
            self._thread.start()
            return status

    def _new_name(self, names: Collection[str]) -> str:
        """A name that no model has, and neither the last training nor a deleted one of late."""
        numbers = [
            int(n.removeprefix(PREFIX))
            for n in (*self.models, self._status.model)
            if n.removeprefix(PREFIX).isdecimal()
        ]
        number = max(numbers, default=0) + 1
        while f"{PREFIX}{number}" in names:
            number += 1
        return f"{PREFIX}{number}"

    def _model_path(self, name: str) -> str:
        trained = self.models.get(name)
        return str(trained.folder) if trained else self._options.models.get(name, name)

    def cancel(self) -> TrainingStatus:
        """Cancel the training.

        Raises:
            HTTPException: 409 where none runs.
        """
        with self._lock:
            if self._status.state != "running":
                raise http_error(409, "no training runs", "one that runs", "leave it")
            self._cancelled.set()
            thread = self._thread
        if thread is not None:
            thread.join(30)
        return self._status

    def delete(self, name: str) -> None:
        """Delete a stored model.

        Raises:
            HTTPException: 404 where there is none, 409 while a training compares with it.
        """
        with self._lock:
            trained = self.models.get(name)
            if trained is None:
                raise http_error(
                    404, f"no trained model {name[:40]!r}", "one that was trained here",
                    "see /api/training",
                )  # fmt: skip
            if self._status.state == "running" and self._status.compared == name:
                raise http_error(
                    409, f"the training compares with {name}", "a model that isn't in use",
                    "wait for its end",
                )  # fmt: skip
            gone = trained.folder.with_name(f"{name}{_UNFINISHED}")
            trained.folder.rename(gone)  # in one step: half a model would be served
            self.models = {n: m for n, m in self.models.items() if n != name}
        shutil.rmtree(gone, ignore_errors=True)

    def stop(self) -> None:
        """End the training; after the next start it counts as failed."""
        with self._lock:
            self._stopping = True
        if self._thread is not None:
            self._thread.join()

    # --- the thread that watches the process -----------------------------------------------------

    def _run(self, request: TrainingRequest) -> None:
        out = Path(request.out)
        state = "failed"
        changes: Json
        try:
            finished = self._watch(request)
            if finished is None:
                if self._stopping:
                    return
                state, changes = "cancelled", {}
            else:
                result = TrainingResult.model_validate(finished["result"])
                self._store_model(request, finished)
                state, changes = "done", {"result": result}
        except AvelError as e:
            changes = {"error": body_of(e)}
        except OSError as e:
            changes = {"error": body_of(disk_error(e, request.name))}
        except Exception as e:  # a bug: the server goes on
            _log.exception("training %s", request.name)
            changes = {"error": body_of(unexpected(request.name, e))}
        finally:
            shutil.rmtree(out, ignore_errors=True)
        changes |= {"state": state, "finished": time.time()}
        status = TrainingStatus.model_validate(self._status.model_dump() | changes)
        with suppress(OSError):
            self._save(status)
        self._status = status

    def _watch(self, request: TrainingRequest) -> Json | None:
        """The card and result of a training, or None where it was cancelled.

        Raises:
            AvelError: the training's, or where its process died or took too long.
        """
        process = ChildProcess(_run_training, self._options.function, request)
        started = time.monotonic()
        try:
            while not self._cancelled.is_set() and not self._stopping:
                if time.monotonic() - started > self._limit:
                    raise DataError(
                        f"the training took longer than {self._limit / 60:g} minutes",
                        hint="start the server with larger --training-minutes",
                    )
                message = process.receive(_TICK)
                if message is None:
                    continue
                kind, content = message
                if kind == "done":
                    return dict(content)
                if kind == "failed":
                    raise content
                stage, done, total = content
                self._status = self._status.model_copy(
                    update={"stage": stage, "done": done, "total": total}
                )
            return None
        except ProcessDiedError as e:
            raise DataError(
                f"the training process died ({e})",
                hint="try again; if it dies again, it may need more memory than there is",
            ) from e
        finally:
            process.end(0)

    def _store_model(self, request: TrainingRequest, finished: Json) -> None:
        out, folder = Path(request.out), self._folder / request.name
        write_whole(out / _RESULT, json.dumps({**finished, "finished": time.time()}))
        out.rename(folder)
        with self._lock:
            self.models = {**self.models, request.name: _load_model(folder)}

    def _save(self, status: TrainingStatus) -> None:
        write_whole(self._folder / _STATUS, status.model_dump_json())


def _load_model(folder: Path) -> TrainedModel:
    """A stored model.

    Raises:
        OSError, ValueError, KeyError: if it can't be read.
    """
    stored = json.loads((folder / _RESULT).read_text("utf-8"))
    return TrainedModel(folder, stored["card"], stored["result"], float(stored["finished"]))


def _stored_models(folder: Path) -> dict[str, TrainedModel]:
    """The models of a folder, oldest first; one that can't be read is left out, and logged."""
    models = {}
    for path in folder.iterdir():
        if not path.is_dir():
            continue
        try:
            models[path.name] = _load_model(path)
        except (OSError, ValueError, KeyError, TypeError) as e:
            _log.warning("%s: the trained model can't be read (%s)", path, type(e).__name__)
    return dict(sorted(models.items(), key=lambda item: item[1].finished))


def _stored_status(path: Path) -> TrainingStatus:
    """The last training; one that was running has failed."""
    try:
        status = TrainingStatus.model_validate_json(path.read_text("utf-8"))
    except (OSError, ValueError):
        return TrainingStatus()
    if status.state != "running":
        return status
    error = error_body("the server stopped during the training", hint="train again")
    return TrainingStatus.model_validate(status.model_dump() | {"state": "failed", "error": error})


def _run_training(
    pipe: Connection, function: Callable[[TrainingRequest, Report], Json], request: TrainingRequest
) -> None:
    """In the process: train, and send progress, and the result or the error."""
    lower_priority()

    def report(stage: str, done: int, total: int) -> None:
        pipe.send(("step", (stage, done, total)))

    pipe.send(outcome_of(lambda: function(request, report), request.name))
