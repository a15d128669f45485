"""Jobs: added, cancelled, retried, deleted; and their files."""

from __future__ import annotations

import secrets
import shutil
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avel.errors import AvelError, DataError, UsageError
from avel.features.content_hashes import ContentHashes
from avel.files import MEDIA_ENDINGS
from avel.types import Json
from avel.web import job_folder
from avel.web.bounded_process import BoundedProcess
from avel.web.dataset import CorrectedDataset
from avel.web.error_responses import body_of, http_error
from avel.web.owned_folders import claim_folder
from avel.web.progress import ProgressFeed
from avel.web.roots import media_inside
from avel.web.store import Job, Store, is_store
from avel.web.training import TrainingOptions, TrainingService
from avel.web.uploads import plain_name
from avel.web.worker import WorkerJob
from avel.web.workers import Start, WorkerPool

#: Most labels that the list shows of a job.
MAX_LABELS = 6
#: What of a job is shown as it is stored.
_SHOWN = ("id", "name", "state", "model", "created", "finished", "size", "root")
_MARK = "made-by-avel-serve.txt"
_TEXT = """The jobs, uploads, results and corrections of `avel serve --state` here.
The server removes whatever in jobs and incoming belongs to no job.
"""


@dataclass(frozen=True)
class Limits:
    """Limits of uploads and jobs.

    Args:
        upload_bytes: Most bytes of one file.
        total_bytes: Most bytes of all uploads together.
        minutes: Longest duration of a file.
        queue: Most jobs that may wait.
        job_minutes: Longest time that one job may take.
        training_minutes: Longest time that a training may take.
    """

    upload_bytes: int = 2 * 10**9
    total_bytes: int = 100 * 10**9
    minutes: float = 120
    queue: int = 32
    job_minutes: float = 60
    training_minutes: float = 240


class JobService:
    """Jobs with their files, and the worker processes that do them.

    Args:
        folder: Holds everything: new, empty, or of an earlier service.
        start: Makes the function that does a job, within the worker process; see
            :class:`avel.web.workers.WorkerPool`.
        roots: Folders whose files may be localized where they lie, by name.
        data: The data set to which the corrections are added, or None.
        limits: Of uploads and jobs.
        jobs: Worker processes.
        training: Of trainings on the corrections.

    Raises:
        DataError: if another server uses the folder, it holds something else (which is left as it
            is), or it can't be used.
    """

    def __init__(
        self,
        folder: Path,
        start: Start,
        *,
        roots: Mapping[str, Path],
        data: Path | None = None,
        limits: Limits = Limits(),
        jobs: int = 1,
        training: TrainingOptions | None = None,
    ) -> None:
        self.folder, self.roots, self.limits = folder, dict(roots), limits
        self._served: dict[str, Json] = {}
        # the client and bytes of each upload that is being received
        self._receiving: list[tuple[str, int]] = []
        self._lock = threading.Lock()
        table = folder / "jobs.sqlite"
        claim_folder(folder, _MARK, _TEXT, option="--state", known=is_store(table))
        for inner in (self._jobs, self.incoming):
            inner.mkdir(exist_ok=True)
        self._server_lock = _lock_folder(folder / "in-use.sqlite")
        self.store = Store(table)
        self.data: CorrectedDataset | None = None
        if data is not None:
            self.data = CorrectedDataset(data, self.store, self.media_of, ContentHashes(folder))
        self.exports = BoundedProcess("export")
        self.imports = BoundedProcess("import", at_once=2, waiting=8)
        self.progress = ProgressFeed(self.job_info_of, self.troubles)
        self.workers = WorkerPool(
            self.store, start, describe=self._worker_job, changed=self.changed,
            deleted=self._remove_folder, troubled=self.progress.troubled, count=jobs,
            limit=60 * limits.job_minutes,
        )  # fmt: skip
        self.training = TrainingService(
            folder / "models", training or TrainingOptions(), limit=60 * limits.training_minutes
        )
        self._recover()

    @property
    def cards(self) -> dict[str, Json]:
        """The cards of all models by name: the served ones, then those that were trained here."""
        trained = {name: model.card for name, model in self.training.models.items()}
        return self._served | {n: c for n, c in trained.items() if n not in self._served}

    @property
    def _jobs(self) -> Path:
        return self.folder / "jobs"

    @property
    def incoming(self) -> Path:
        """Holds uploads until they are complete."""
        return self.folder / "incoming"

    def folder_of(self, job: Job) -> Path:
        """A job's own folder."""
        return self._jobs / job.id

    def media_of(self, job: Job) -> Path:
        """A job's media file.

        Raises:
            UsageError: if it is missing in its root.
        """
        if job.root:
            return media_inside(self.roots, job.root, job.media)
        return self.folder_of(job) / job.media

    def media_path(self, job: Job) -> Path:
        """The path of a job's media file, which may be missing."""
        if job.root:
            return self.roots.get(job.root, Path(job.root)) / job.media
        return self.folder_of(job) / job.media

    def _recover(self) -> None:
        """After a start: jobs that were running wait again, and files without a job are removed."""
        error = {
            "got": "the server stopped each time that it was at this job",
            "expected": "",
            "hint": "try again, or delete it",
        }
        for id in self.store.recover():
            self.store.finish(id, "failed", error=error)
        known = {job.id for job in self.store.every()}
        for path in [*self.incoming.iterdir(), *self._jobs.iterdir()]:
            if path.parent == self.incoming or path.name not in known:
                folder = path.is_dir() and not path.is_symlink()
                shutil.rmtree(path) if folder else path.unlink()
        self._complete_facts()

    def _complete_facts(self) -> None:
        """Add labels and lowest scores to jobs that were done before these were stored."""
        for job in self.store.every():
            if job.state == "done" and "min_score" not in job.facts:
                with suppress(AvelError):  # damaged, or a full disk: it stays as it is
                    timeline = job_folder.load_result(self.folder_of(job))
                    self.store.set_facts(job.id, job.facts | job_folder.event_facts(timeline))

    def load(self) -> None:
        """Load the models.

        Raises:
            AvelError: if one can't be.
        """
        self._served = self.workers.load()

    def close(self) -> None:
        """Stop the workers; unfinished jobs run again after the next start."""
        for processes in (self.exports, self.imports):
            processes.stop()
        self.training.stop()
        self.workers.stop()
        self.store.close()
        self._server_lock.close()

    # --- jobs as the API describes them ----------------------------------------------------------

    def job(self, id: str) -> Job:
        """A job.

        Raises:
            HTTPException: 404 where there is none.
        """
        job = self.store.get(id)
        if job is None:
            raise http_error(404, f"no job {id[:40]!r}", "the id of a job", "see /api/jobs")
        return job

    def done(self, id: str) -> Job:
        """A job that is done.

        Raises:
            HTTPException: 404 where there is none, 409 where it isn't done.
        """
        job = self.job(id)
        if job.state != "done":
            raise http_error(
                409, f"a job that is {job.state}", "one that is done", "wait, or retry it"
            )
        return job

    def job_info(self, job: Job, queue: list[str], corrected: set[str]) -> Json:
        """A job as the API describes it.

        Args:
            job: The job.
            queue: Ids of the jobs that wait, in order.
            corrected: Ids of the jobs with saved events.
        """
        step = self.workers.step_of(job.id) if job.state == "running" else None
        facts = job.facts
        labels: Counter[str] = Counter(facts.get("labels", {}))
        if job.id in corrected:
            events = self.store.correction(job.id).events or ()
            facts, labels = facts | {"events": len(events)}, Counter(e.label for e in events)
        return {
            **{name: getattr(job, name) for name in _SHOWN},
            "position": queue.index(job.id) + 1 if job.id in queue else None,
            "progress": None if step is None else step.model_dump(),
            "error": job.error or None,
            "duration": facts.get("duration"),
            "events": facts.get("events"),
            "labels": dict(labels.most_common(MAX_LABELS)),
            "min_score": facts.get("min_score"),
            "thumbnail": self._thumbnail(job),
            "corrected": job.id in corrected,
            "has_video": bool(facts.get("has_video")),
            "has_audio": bool(facts.get("has_audio")),
            "notes": facts.get("notes", []),
        }

    def _thumbnail(self, job: Job) -> str | None:
        """The address of a job's thumbnail halfway through the file, or None without one."""
        times = job_folder.thumb_times(self.folder_of(job)) if job.state == "done" else []
        return f"/api/jobs/{job.id}/thumbs/{len(times) // 2}.jpg" if times else None

    def job_info_of(self, id: str) -> Json | None:
        """A job as the API describes it, or None where it was deleted."""
        job = self.store.get(id)
        if job is None:
            return None
        return self.job_info(job, self.store.queue(), self.store.corrected_ids())

    def changed(self, id: str) -> None:
        """Report a change of a job to the listeners, and new positions of those that wait."""
        job = self.store.get(id)
        self.progress.changed(id)
        if job is None or self.workers.step_of(id) is None:
            for waiting in self.store.queue():
                self.progress.changed(waiting)

    def troubles(self) -> list[Json]:
        """What keeps jobs from running at this moment, as error bodies."""
        errors = [self.workers.trouble, self.data.trouble if self.data is not None else None]
        return [body_of(e) for e in errors if e is not None]

    # --- changes ---------------------------------------------------------------------------------

    def model_named(self, name: str | None) -> str:
        """The name of a model; the first one's for None.

        Raises:
            UsageError: for an unknown one.
        """
        known = list(self.cards)
        if name and name not in self.cards:
            raise UsageError(
                f"no model {name[:80]!r}", expected=f"one of {', '.join(known)}", hint="choose one"
            )
        return name or known[0]

    @contextmanager
    def place_in_queue(self, size: int = 0, *, client: str = "") -> Iterator[None]:
        """Reserve a place in the queue, and room on the disk, while a file is received.

        Args:
            size: Bytes of the request.
            client: Who sends it: one client gets a quarter of the places at a time.

        Raises:
            HTTPException: 429 where the queue is full, or the client has as many places as it
                may, 507 where all uploads together would take too many bytes.
        """
        with self._lock:
            uploads = [c for c, _ in self._receiving].count(client)
            most = max(1, self.limits.queue // 4)
            if client and uploads >= most:
                raise http_error(
                    429, f"{uploads} uploads at once", f"at most {most}",
                    "send one after the other", Retry_After="5",
                )  # fmt: skip
            waiting = len(self.store.queue()) + len(self._receiving)
            if waiting >= self.limits.queue:
                raise http_error(
                    429, f"a queue of {waiting} jobs", f"at most {self.limits.queue}",
                    "try again later", Retry_After="5",
                )  # fmt: skip
            if size and self._bytes() + size > self.limits.total_bytes:
                raise http_error(
                    507, "no room for another upload",
                    f"at most {self.limits.total_bytes / 10**9:g} GB of uploads",
                    "delete some jobs",
                )  # fmt: skip
            self._receiving.append((client, size))
        try:
            yield
        finally:
            with self._lock:
                self._receiving.remove((client, size))

    def _bytes(self) -> int:
        """Of all uploads, those that are coming too."""
        return self.store.uploaded() + sum(size for _, size in self._receiving)

    def add_upload(self, file: Path, *, name: str, size: int, model: str, key: str | None) -> Job:
        """Add a job for an uploaded file, which is moved into the job's folder.

        Args:
            file: Within ``incoming``.
            name: The file's name for people.
            size: Bytes.
            model: A model's name.
            key: The client's idempotency key, or None.
        """
        ending = Path(name).suffix.lower()
        media = f"media{ending if ending in MEDIA_ENDINGS else '.bin'}"
        job = Job(secrets.token_hex(8), name, model, media, size, key=key)
        with self._new_folder(job) as folder:
            file.replace(folder / media)
            return self._enqueued(self.store.add(job))

    @contextmanager
    def _new_folder(self, job: Job) -> Iterator[Path]:
        """A new job's folder, removed where the job isn't added (a repeat, a full disk)."""
        folder = self.folder_of(job)
        folder.mkdir()
        try:
            yield folder
        finally:
            if self.store.get(job.id) is None:
                shutil.rmtree(folder)

    def add_path(self, root: str, path: str, *, model: str, key: str | None) -> Job:
        """Add a job for a file within a root, which stays where it is.

        Raises:
            UsageError: as :func:`avel.web.roots.media_inside`.
        """
        media = media_inside(self.roots, root, path)
        size = media.stat().st_size
        name = plain_name(media.name)
        job = Job(secrets.token_hex(8), name, model, path, size, root=root, key=key)
        with self._new_folder(job):
            return self._enqueued(self.store.add(job))

    def _enqueued(self, job: Job) -> Job:
        self.workers.wake()
        self.changed(job.id)
        return job

    def cancel(self, id: str) -> Job:
        """Cancel a job; one that has ended stays as it is.

        Raises:
            HTTPException: 404 where there is none, 409 where it has ended.
        """
        job = self.job(id)
        if not self.store.cancel(id):
            raise http_error(
                409, f"a job that is {job.state}", "one that waits or runs", "leave it"
            )
        self.workers.cancel(id)
        self.changed(id)
        return self.job(id)

    def retry(self, id: str, model: str | None) -> Job:
        """Run a job again that has ended, with another model or the same; corrections stay.

        Raises:
            HTTPException: 404 where there is none, 409 where it hasn't ended.
            UsageError: for an unknown model.
        """
        job = self.job(id)
        chosen = self.model_named(model or (job.model if job.model in self.cards else None))
        with self.place_in_queue():
            if not self.store.retry(id, chosen):
                raise http_error(
                    409, f"a job that is {job.state}", "one that has ended", "cancel it first"
                )
        return self._enqueued(self.job(id))

    def delete(self, id: str) -> None:
        """Delete a job: its upload, result and correction; a file within a root stays.

        Raises:
            HTTPException: 404 where there is none.
        """
        job = self.job(id)
        self.store.delete(id)
        if not self.workers.cancel(id):
            self._remove_folder(id)
        self.update_data()
        self.changed(job.id)

    def update_data(self) -> None:
        """Update the data set after a correction has changed."""
        if self.data is not None:
            before = self.data.trouble
            self.data.update()
            if str(before) != str(self.data.trouble):
                self.progress.troubled()

    def _remove_folder(self, id: str) -> None:
        with suppress(OSError):
            shutil.rmtree(self._jobs / id)
        self.store.keep_reserve()

    def _worker_job(self, job: Job) -> WorkerJob:
        """The job as a worker gets it; the result of an earlier run is removed first."""
        media, folder = self.media_of(job), self.folder_of(job)
        folder.mkdir(exist_ok=True)
        job_folder.clear_result(folder)
        cards = self.cards
        if job.model not in cards:
            raise UsageError(
                f"the model {job.model!r} is no longer served",
                expected=f"one of {', '.join(cards)}",
                hint="retry with another model",
            )
        trained = None if job.model in self._served else self.training.models.get(job.model)
        return WorkerJob(
            job.id, job.name, str(media), job.model, str(folder), 60 * self.limits.minutes,
            model_folder=str(trained.folder) if trained else "",
        )  # fmt: skip


def _lock_folder(path: Path) -> Any:
    """A lock that the system releases when the process ends, however it ends.

    Raises:
        DataError: if another process holds it.
    """
    lock = sqlite3.connect(path, timeout=0.5, check_same_thread=False, isolation_level=None)
    try:
        lock.execute("PRAGMA locking_mode=EXCLUSIVE")
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.Error as e:
        raise DataError(
            f"{path.parent} is used by another `avel serve` ({e})",
            expected="a folder for each server",
            hint="stop the other one, or choose another folder with --state",
        ) from e
    return lock
