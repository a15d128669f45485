"""Many files: what is done with each of them, wherever it is done, and who comes next.

An engine is any way to get :class:`JobOutcome` from :class:`MediaJob`, each exactly once, in any order:
:func:`in_process` here, local processes in :mod:`avel.features.workers`, a Ray cluster in
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
from avel.features.store import header, up_to_date
from avel.files import file_hash
from avel.types import Features, Json

if TYPE_CHECKING:
    from avel.features.extractor import Extractor, Precision
    from avel.features.stream import Progress

#: Files that a worker is given at a time, at most.
LOT = 8
#: Files of a lot where there is one process, which shares the last ones with nobody: of short
#: clips so many fill a batch.
ALONE = 32
#: ``made`` now, ``kept`` from before; ``bad`` is the file's own fault and puts it in quarantine,
#: where it stays as ``skipped``; ``failed`` is not, and is tried again the next time.
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
    """What became of a job.

    Args:
        job: The job.
        status: See :data:`Status`.
        content: sha256 of the file's bytes, "" where they couldn't be read.
        reason: Why there are no features, or what was missing or damaged in the file, as a message
            for people.
        wrong_call: True where the call is at fault, e.g. a track that the file doesn't have.
        hopeless: True where all others would fail too, e.g. on a full disk.
        seconds, segments: Length of the file.
        backbones: Both names with their weights.
        precision: That of both networks.
        error: 1 - cosine of the features against float32 where they are less precise: the worse
            of both networks' on the inputs compared.
        written: When the features were written, in seconds since 1970, 0 for never.
    """

    job: MediaJob
    status: Status
    content: str = ""
    reason: str = ""
    wrong_call: bool = False
    hopeless: bool = False
    seconds: float = 0.0
    segments: int = 0
    backbones: str = ""
    precision: str = ""
    error: float = 0.0
    written: float = 0.0


#: What an engine gives; closing it stops its workers.
Outcomes = Generator[JobOutcome, None, None]
#: What a worker does with some jobs.
Work = Callable[[Sequence[MediaJob]], Iterator[JobOutcome]]
#: Makes a worker's work, networks and all, in the process where it will be done.
Start = Callable[[], Work]


@dataclass(frozen=True)
class Settings:
    """How every file of a corpus is extracted; picklable, so that each worker can start from it.

    Args:
        audio, visual, step, batch, precision, compile, device: As for
            :class:`avel.features.extractor.Extractor`.
            With ``"auto"``, features of either precision count as done.
        dtype: ``"float16"`` or ``"float32"``, as stored.
        audio_track, video_track: As for :func:`avel.open`.
        again: Also what is done, or in quarantine.
        retry: Also what is in quarantine.
    """

    audio: str | None = None
    visual: str | None = None
    step: float = 1.0
    batch: int = 32
    precision: Precision = "float32"
    compile: bool = False
    device: str = "auto"
    dtype: str = "float16"
    audio_track: int | None = None
    video_track: int | None = None
    again: bool = False
    retry: bool = False

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
        make = Extractor(
            audio=self.audio,
            visual=self.visual,
            step=self.step,
            batch=self.batch,
            precision=self.precision,
            compile=self.compile,
            device=self.device,
        )
        return _ProcessWork(self, make, progress)

    @property
    def tracks(self) -> dict[str, int]:
        """The tracks that were chosen."""
        held = {"audio_track": self.audio_track, "video_track": self.video_track}
        return {name: number for name, number in held.items() if number is not None}


class _ProcessWork:
    """The work of one process: its networks, and what to do with a job."""

    def __init__(self, settings: Settings, make: Extractor, progress: Progress | None) -> None:
        self.settings, self.make, self.progress = settings, make, progress

    def __call__(self, jobs: Sequence[MediaJob]) -> Iterator[JobOutcome]:
        expected = []
        for job in jobs:
            content, outcome = self._look(job)
            if outcome is None:
                expected.append((job, content))
            else:
                yield outcome
        for (job, content), found in zip(expected, self._extract(expected), strict=True):
            yield self._keep(job, content, found)

    def _look(self, job: MediaJob) -> tuple[str, JobOutcome | None]:
        """A file's content, and its outcome where there is nothing to extract."""
        from avel.media.probe import check_file

        path, content = Path(job.media), ""
        try:
            if path.is_file():
                content = file_hash(path)
            check_file(path)
        except (AvelError, OSError, ValueError) as e:
            skipped = self._in_quarantine(job, content)
            return content, skipped or self._failed(job, content, e)
        make, told = self.make, self.settings
        done = not told.again and up_to_date(
            job.target, content=self._key(content), cards=make.cards, step=make.step,
            dtype=told.dtype, any_precision=told.precision == "auto",
        )  # fmt: skip
        outcome = self._kept(job, content) if done else self._in_quarantine(job, content)
        return content, outcome

    def _key(self, content: str) -> str:
        """What the features are kept by: the file's content, and the tracks that were chosen."""
        tracks = sorted(self.settings.tracks.items())
        return ":".join([content, *(f"{name}={number}" for name, number in tracks)])

    def _in_quarantine(self, job: MediaJob, content: str) -> JobOutcome | None:
        told = self.settings
        if told.again or told.retry or not content or job.quarantine != content:
            return None
        return self._outcome(job, "skipped", content)

    def _extract(self, expected: Sequence[tuple[MediaJob, str]]) -> Iterator[Features | Exception]:
        """Features of each file, or what was wrong with it, in order."""
        left, tracks = deque(Path(job.media) for job, _ in expected), self.settings.tracks
        if len(left) > 1:
            with suppress(Exception):  # a network's: whose file it was shows one by one
                for _, found in self.make.many(tuple(left), **tracks):
                    left.popleft()
                    yield found
        while left:
            try:
                yield self.make(left.popleft(), progress=self.progress, **tracks)
            except Exception as e:
                yield e

    def _keep(self, job: MediaJob, content: str, found: Features | Exception) -> JobOutcome:
        if isinstance(found, Exception):
            return self._failed(job, content, found)
        try:
            _check_range(found, self.settings.dtype)
            replace(found, content=self._key(content)).save(job.target, dtype=self.settings.dtype)
        except DataError as e:
            return replace(self._failed(job, "", e), content=content)
        except OSError as e:  # a full disk, a folder without rights
            cure = "make room there, or choose another folder with -o"
            full = e.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None))
            told = self._failed(job, "", DataError(f"{job.target}: {e}", hint=cure))
            return replace(told, hopeless=full)
        return self._kept(job, content, "made")

    def _kept(self, job: MediaJob, content: str, status: Status = "kept") -> JobOutcome:
        try:
            meta, written = header(job.target), Path(job.target).stat().st_mtime
            cards = [meta["audio_card"], meta["visual_card"]]
        except (OSError, KeyError):
            gone = f"{job.target} was removed, or damaged, as soon as it was there"
            return self._failed(job, "", DataError(gone, hint="run it again"))
        return replace(
            self._outcome(job, status, content, cards),
            seconds=float(meta["duration"]),
            segments=clock.segment_count(float(meta["duration"]), float(meta["step"])),
            written=written,
            reason=printable("; ".join(map(str, meta.get("notes", ())))),
        )

    def _failed(self, job: MediaJob, content: str, error: Exception) -> JobOutcome:
        """Quarantine for media that can be read but not used; all else is tried again."""
        if not isinstance(error, AvelError | OSError | ValueError) and os.environ.get("AVEL_DEBUG"):
            raise error
        wrong = isinstance(error, UsageError)
        told = str(error) if isinstance(error, AvelError) else _unforeseen(job, error)
        bad = _of_the_media(error) and _still(job.media, content)
        if bad:
            _remove_stale(job, content)
        outcome = self._outcome(job, "bad" if bad else "failed", content)
        return replace(outcome, reason=printable(told), wrong_call=wrong)

    def _outcome(
        self, job: MediaJob, status: Status, content: str, cards: Sequence[Json] = ()
    ) -> JobOutcome:
        cards = cards or self.make.cards
        precisions = dict.fromkeys(str(card.get("precision", "float32")) for card in cards)
        return JobOutcome(
            job,
            status,
            content,
            backbones="+".join(f"{card.get('name')}:{card.get('weights')}" for card in cards),
            precision="+".join(precisions),
            error=max(float(card.get("error", 0)) for card in cards),
        )


def _of_the_media(error: Exception) -> bool:
    """Whether it says that the media are bad, and not that the system refused to read them.

    FFmpeg also says EIO of files that are cut off; a disk's own shows when they are hashed.
    """
    cause = error.__cause__
    refused = isinstance(cause, OSError) and cause.errno != errno.EIO
    return isinstance(error, MediaError | DataError) and not refused


def _still(media: str, content: str) -> bool:
    """Whether a file is there and has the content it had."""
    try:
        return bool(content) and file_hash(media) == content
    except OSError:
        return False


def _remove_stale(job: MediaJob, content: str) -> None:
    """Remove what was made of a file's older content, or it would be taken for its features."""
    if str(header(job.target).get("content")).partition(":")[0] != content:
        with suppress(OSError):
            Path(job.target).unlink(missing_ok=True)


def _unforeseen(job: MediaJob, error: Exception) -> str:
    return f"{job.media}: {type(error).__name__}: {error}"[:2000]


def _check_range(found: Features, dtype: str) -> None:
    """Refuse features that the stored type can't hold."""
    largest = float(np.finfo(dtype).max)
    for modality, rows in (("audio", found.audio), ("visual", found.visual)):
        most = float(np.abs(rows).max(initial=0.0))
        if not most <= largest:  # NaN too
            raise DataError(
                f"{found.source}: {modality} features up to {most:g} don't fit {dtype}",
                hint="store them with --dtype float32",
            )


class Rota:
    """Who comes next: jobs in lots that shrink towards the end, and the files of dead workers.

    A worker that dies takes the files it was given with it. Those not done are tried again, each
    alone; one that kills its worker then as well goes to quarantine.

    Args:
        jobs: All of them, read as they are expected.
        total: How many.
        workers: How many share them.
        tries: Deaths of a worker with one file alone that put this file in quarantine.
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
        size = max(1, min(LOT, self._left // (4 * self._workers)))
        lot = list(islice(self._jobs, size))
        self._left -= len(lot)
        self._read = len(lot) < size
        return lot

    @property
    def empty(self) -> bool:
        """Whether all is handed out; what a dead worker had may come back."""
        return self._read and not self._alone

    def died(self, lot: Sequence[MediaJob], how: str) -> list[JobOutcome]:
        """Take back what a dead worker left undone; the outcomes of those given up."""
        if len(lot) == 1:
            (job,) = lot
            self._deaths[job.target] = self._deaths.get(job.target, 0) + 1
            if self._deaths[job.target] >= self._tries:
                del self._deaths[job.target]
                return [_killer(job, how)]
        self.back(lot)
        return []

    def back(self, lot: Sequence[MediaJob]) -> None:
        """Take back what nobody is at fault for; each file is tried alone."""
        self._alone.extend(lot)


def _killer(job: MediaJob, how: str) -> JobOutcome:
    try:
        content = file_hash(job.media)
    except OSError:
        content = ""
    if content:
        _remove_stale(job, content)
    reason = f"{job.media}: every process that read it died ({how})"
    return JobOutcome(job, "bad" if content else "failed", content, printable(reason))


def in_process(jobs: Iterable[MediaJob], start: Start) -> Outcomes:
    """Do the jobs here, one after the other.

    Args:
        jobs: What is to be done; read as it is expected.
        start: Makes the work.
    """
    work, left = start(), iter(jobs)
    while lot := list(islice(left, ALONE)):
        yield from work(lot)
