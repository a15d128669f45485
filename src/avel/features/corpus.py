"""Many files: the extraction of each one, its outcome, and the queue of jobs.

An engine is any way to get :class:`JobOutcome` from :class:`MediaJob`, each exactly once, in any
order: :func:`in_process` here, local processes in :mod:`avel.features.workers`, a Ray cluster in
:mod:`avel.features.cluster`.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from avel import clock
from avel.errors import AvelError, DataError, MediaError, UsageError, printable
from avel.features.store import copy_content, header, up_to_date
from avel.files import file_hash
from avel.types import Features, Json

if TYPE_CHECKING:
    from avel.features.extractor import Extractor
    from avel.features.network import Precision
    from avel.progress import Progress

#: Most files that a worker gets at a time.
BATCH = 8
#: The same where there is one process only: so many short clips fill a batch of the networks.
BATCH_IN_PROCESS = 32
#: ``made``: extracted now. ``kept``: up to date from before. ``bad``: the file itself can't be
#: used, and goes into quarantine, where it stays as ``skipped``. ``failed``: another error; it is
#: tried again the next time.
Status = Literal["made", "kept", "bad", "skipped", "failed"]


@dataclass(frozen=True)
class MediaJob:
    """One media file of a corpus.

    Args:
        name: What the manifest calls it.
        media: Its path.
        target: Where its features go.
        store: The folder whose manifest it stands in, or "" for none.
        quarantine: The sha256 with which it stands in quarantine, or "".
    """

    name: str
    media: str
    target: str
    store: str = ""
    quarantine: str = ""


@dataclass(frozen=True)
class JobOutcome:
    """The outcome of a job.

    Args:
        job: The job.
        status: See :data:`Status`.
        content: sha256 of the file's bytes, "" where they couldn't be read.
        reason: Why there are no features, or what was missing or damaged in the file, as a message
            for people.
        usage_error: True where the call is wrong, e.g. a track that the file doesn't have.
        fatal: True where all other jobs would fail too, e.g. on a full disk.
        seconds, segments: Length of the file.
        backbones: Both names with their weights.
        precision: That of both networks, with ``compiled`` where one was.
        error: 1 - cosine of the features against float32 where they are less precise: the worse
            of both networks' on the inputs compared.
        written: When the features were written, in seconds since 1970, 0 for never.
    """

    job: MediaJob
    status: Status
    content: str = ""
    reason: str = ""
    usage_error: bool = False
    fatal: bool = False
    seconds: float = 0.0
    segments: int = 0
    backbones: str = ""
    precision: str = ""
    error: float = 0.0
    written: float = 0.0


#: What an engine returns; closing it stops its workers.
Outcomes = Generator[JobOutcome, None, None]
#: What a worker does with some jobs.
Work = Callable[[Sequence[MediaJob]], Iterator[JobOutcome]]
#: Makes a worker's work, networks and all, in the process where it will be done.
Start = Callable[[], Work]


@dataclass(frozen=True)
class Settings:
    """How every file of a corpus is extracted; picklable, so that each worker can start from it.

    Args:
        audio, visual, step, batch, precision, compile, media_seconds, device, copy: As for
            :class:`avel.features.extractor.Extractor`; the seconds are those of one worker. With
            ``"auto"``, features of either precision count as done.
        dtype: ``"float16"`` or ``"float32"``, as stored.
        audio_track, video_track: As for :func:`avel.open`.
        again: Whether files that are up to date, or in quarantine, are extracted again.
        retry: Whether files in quarantine are tried again.
    """

    audio: str | None = None
    visual: str | None = None
    step: float = 1.0
    batch: int = 32
    precision: Precision = "float32"
    compile: bool = False
    media_seconds: float = 0.0
    device: str = "auto"
    dtype: str = "float16"
    audio_track: int | None = None
    video_track: int | None = None
    again: bool = False
    retry: bool = False
    copy: int = 0

    def start(self, progress: Progress | None = None) -> Work:
        """Load the networks.

        Args:
            progress: Called with segments done and segments in all of the file at hand.

        Raises:
            UsageError: for unknown names.
            WeightsError: if weights are missing.
        """
        from avel.features.extractor import Extractor
        from avel.memory import keep_memory

        keep_memory()
        names = ("audio", "visual", "step", "batch", "precision", "compile", "media_seconds")
        make = Extractor(**{name: getattr(self, name) for name in (*names, "device", "copy")})
        return _ProcessWork(self, make, progress)

    @property
    def tracks(self) -> dict[str, int]:
        """The tracks that were chosen."""
        numbers = {"audio_track": self.audio_track, "video_track": self.video_track}
        return {name: number for name, number in numbers.items() if number is not None}


class _ProcessWork:
    """The work of one process: its networks, and what to do with a job."""

    def __init__(self, settings: Settings, make: Extractor, progress: Progress | None) -> None:
        self.settings, self.make, self.progress = settings, make, progress

    def __call__(self, jobs: Sequence[MediaJob]) -> Iterator[JobOutcome]:
        todo = []
        for job in jobs:
            content, outcome = self._check(job)
            if outcome is None:
                todo.append((job, content))
            else:
                yield outcome
        for (job, content), result in zip(todo, self._extract(todo), strict=True):
            yield self._store(job, content, result)

    def _check(self, job: MediaJob) -> tuple[str, JobOutcome | None]:
        """A file's hash, and its outcome where there is nothing to extract."""
        from avel.media.probe import check_file

        path, content = Path(job.media), ""
        try:
            if path.is_file():
                content = file_hash(path)
            check_file(path)
        except (AvelError, OSError, ValueError) as e:
            skipped = self._in_quarantine(job, content)
            return content, skipped or self._failed(job, content, e)
        make, settings = self.make, self.settings
        done = not settings.again and up_to_date(
            job.target, content=self._key(content), cards=make.cards, step=make.step,
            dtype=settings.dtype, any_precision=settings.precision == "auto",
        )  # fmt: skip
        outcome = self._stored(job, content) if done else self._in_quarantine(job, content)
        return content, outcome

    def _key(self, content: str) -> str:
        """What identifies the features: the file's hash, the chosen tracks, and the copy."""
        tracks = sorted(self.settings.tracks.items())
        own = ":".join([content, *(f"{name}={number}" for name, number in tracks)])
        return copy_content(own, self.settings.copy)

    def _in_quarantine(self, job: MediaJob, content: str) -> JobOutcome | None:
        settings = self.settings
        if settings.again or settings.retry or not content or job.quarantine != content:
            return None
        return self._outcome(job, "skipped", content)

    def _extract(self, todo: Sequence[tuple[MediaJob, str]]) -> Iterator[Features | Exception]:
        """Features of each file, or what was wrong with it, in order."""
        left, tracks = deque(Path(job.media) for job, _ in todo), self.settings.tracks
        if len(left) > 1:
            with suppress(Exception):  # a network's: whose file it was shows one by one
                for _, result in self.make.many(tuple(left), **tracks):
                    left.popleft()
                    yield result
        while left:
            try:
                yield self.make(left.popleft(), progress=self.progress, **tracks)
            except Exception as e:
                yield e

    def _store(self, job: MediaJob, content: str, result: Features | Exception) -> JobOutcome:
        if isinstance(result, Exception):
            return self._failed(job, content, result)
        try:
            _check_range(result, self.settings.dtype)
            replace(result, content=self._key(content)).save(job.target, dtype=self.settings.dtype)
        except DataError as e:
            return replace(self._failed(job, "", e), content=content)
        except OSError as e:  # a full disk, a folder without rights
            cure = "make room there, or choose another folder with -o"
            full = e.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None))
            outcome = self._failed(job, "", DataError(f"{job.target}: {e}", hint=cure))
            return replace(outcome, fatal=full)
        return self._stored(job, content, "made")

    def _stored(self, job: MediaJob, content: str, status: Status = "kept") -> JobOutcome:
        try:
            meta, written = header(job.target), Path(job.target).stat().st_mtime
            cards = [meta["audio_card"], meta["visual_card"]]
        except (OSError, KeyError):
            message = f"{job.target} was removed, or damaged, as soon as it was there"
            return self._failed(job, "", DataError(message, hint="run it again"))
        return replace(
            self._outcome(job, status, content, cards),
            seconds=float(meta["duration"]),
            segments=clock.segment_count(float(meta["duration"]), float(meta["step"])),
            written=written,
            reason=printable("; ".join(map(str, meta.get("notes", ())))),
        )

    def _failed(self, job: MediaJob, content: str, error: Exception) -> JobOutcome:
        """An outcome for an error: media that can be read but not used go into quarantine."""
        if not isinstance(error, AvelError | OSError | ValueError) and os.environ.get("AVEL_DEBUG"):
            raise error
        wrong = isinstance(error, UsageError)
        message = str(error) if isinstance(error, AvelError) else _unexpected(job, error)
        bad = _is_media_fault(error) and _has_content(job.media, content)
        if bad:
            _remove_stale(job, content)
        outcome = self._outcome(job, "bad" if bad else "failed", content)
        return replace(outcome, reason=printable(message), usage_error=wrong)

    def _outcome(
        self, job: MediaJob, status: Status, content: str, cards: Sequence[Json] = ()
    ) -> JobOutcome:
        cards = cards or self.make.cards
        precisions = dict.fromkeys(map(_precision, cards))
        return JobOutcome(
            job,
            status,
            content,
            backbones="+".join(f"{card.get('name')}:{card.get('weights')}" for card in cards),
            precision="+".join(precisions),
            error=max(float(card.get("error", 0)) for card in cards),
        )


def _precision(card: Json) -> str:
    name = str(card.get("precision", "float32"))
    return f"{name} compiled" if card.get("compiled") else name


def _is_media_fault(error: Exception) -> bool:
    """Whether the media are bad, and not that the system refused to read them.

    FFmpeg also says EIO of files that are cut off; a disk's own shows when they are hashed.
    """
    cause = error.__cause__
    refused = isinstance(cause, OSError) and cause.errno != errno.EIO
    return isinstance(error, MediaError | DataError) and not refused


def _has_content(media: str, content: str) -> bool:
    """Whether a file is there and has the hash it had."""
    try:
        return bool(content) and file_hash(media) == content
    except OSError:
        return False


def _remove_stale(job: MediaJob, content: str) -> None:
    """Remove features of an older content of the file, which would be taken for its features."""
    if str(header(job.target).get("content")).partition(":")[0] != content:
        with suppress(OSError):
            Path(job.target).unlink(missing_ok=True)


def _unexpected(job: MediaJob, error: Exception) -> str:
    return f"{job.media}: {type(error).__name__}: {error}"[:2000]


def _check_range(features: Features, dtype: str) -> None:
    """Refuse features that the stored type can't hold."""
    largest = float(np.finfo(dtype).max)
    for modality, rows in (("audio", features.audio), ("visual", features.visual)):
        most = float(np.abs(rows).max(initial=0.0))
        if not most <= largest:  # NaN too
            raise DataError(
                f"{features.source}: {modality} features up to {most:g} don't fit {dtype}",
                hint="store them with --dtype float32",
            )


class JobQueue:
    """Jobs in lots that shrink towards the end, and those of workers that died.

    Files that a worker hadn't finished when it died are tried again, each alone; a file whose
    worker dies then as well goes into quarantine.

    Args:
        jobs: All of them, read as they are expected.
        total: How many.
        workers: How many share them.
        tries: How many workers may die with one file alone before it goes into quarantine.
    """

    def __init__(
        self, jobs: Iterable[MediaJob], *, total: int, workers: int, tries: int = 2
    ) -> None:
        self._jobs, self._left, self._workers, self._tries = iter(jobs), total, workers, tries
        self._alone: deque[MediaJob] = deque()
        self._read = False
        self._deaths: dict[str, int] = {}

    def next(self) -> list[MediaJob]:
        """The next lot; empty where nothing is left."""
        if self._alone:
            return [self._alone.popleft()]
        size = max(1, min(BATCH, self._left // (4 * self._workers)))
        lot = list(islice(self._jobs, size))
        self._left -= len(lot)
        self._read = len(lot) < size
        return lot

    @property
    def empty(self) -> bool:
        """Whether no job is left; jobs of a dead worker may come back."""
        return self._read and not self._alone

    def worker_died(self, lot: Sequence[MediaJob], how: str) -> list[JobOutcome]:
        """Take back the jobs that a dead worker hadn't finished; returns those given up."""
        if len(lot) == 1:
            (job,) = lot
            self._deaths[job.target] = self._deaths.get(job.target, 0) + 1
            if self._deaths[job.target] >= self._tries:
                del self._deaths[job.target]
                return [_crash_outcome(job, how)]
        self.put_back(lot)
        return []

    def put_back(self, lot: Sequence[MediaJob]) -> None:
        """Take back jobs that failed for another reason; each file is tried alone."""
        self._alone.extend(lot)


def _crash_outcome(job: MediaJob, how: str) -> JobOutcome:
    try:
        content = file_hash(job.media)
    except OSError:
        content = ""
    if content:
        _remove_stale(job, content)
    reason = f"{job.media}: every process that read it died ({how})"
    return JobOutcome(job, "bad" if content else "failed", content, printable(reason))


def in_process(jobs: Iterable[MediaJob], start: Start) -> Outcomes:
    """Do the jobs in this process, one after the other.

    Args:
        jobs: What is to be done; read as it is expected.
        start: Makes the work.
    """
    work, left = start(), iter(jobs)
    while lot := list(islice(left, BATCH_IN_PROCESS)):
        yield from work(lot)
