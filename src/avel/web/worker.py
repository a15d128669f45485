"""What a worker process does with a job: everything that opens an uploaded file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from avel.errors import AvelError, MediaError
from avel.files import file_hash
from avel.types import Json

if TYPE_CHECKING:
    from avel.features.network import Precision
    from avel.inference.localizer import Localizer
    from avel.progress import Progress


@dataclass(frozen=True)
class WorkerJob:
    """One job, as it is sent to a worker process.

    Args:
        id: The job's.
        name: The file's name for people and messages.
        media: The file.
        model: The name of the model.
        folder: Where the result is saved.
        max_duration: Longest duration of the file, in seconds.
        model_folder: The model's run where it was trained by this server, else empty.
    """

    id: str
    name: str
    media: str
    model: str
    folder: str
    max_duration: float
    model_folder: str = ""


class ModelWorker:
    """Models loaded once; called with a job it localizes the file, and returns facts about it.

    Args:
        models: Paths or names by the model's name: as for :func:`avel.localize`.
        cache: Whether features are cached for the next model.
        precision, device: As for :class:`avel.Localizer`.

    Raises:
        AvelError: if a model can't be read.
    """

    def __init__(
        self, models: Mapping[str, str], *, cache: bool, precision: Precision, device: str = "auto"
    ) -> None:
        self._models, self._cache, self._precision = models, cache, precision
        self._device = device
        self._loaded: dict[str, Localizer] = {}
        #: The models' cards by name.
        self.cards: dict[str, Json] = {}
        for name in (*list(models)[1:], *list(models)[:1]):  # the first one stays loaded
            self.cards[name] = self._localizer(name).model.card
        self.cards = {name: self.cards[name] for name in models}

    def _localizer(self, name: str, folder: str = "") -> Localizer:
        """A model's localizer; the one used last stays loaded."""
        from avel.inference.localizer import Localizer

        if name not in self._loaded:
            self._loaded.clear()
            self._loaded[name] = Localizer(
                folder or self._models[name],
                cache=self._cache,
                precision=self._precision,
                device=self._device,
            )
        return self._loaded[name]

    def __call__(self, job: WorkerJob, progress: Progress) -> Json:
        """Localize a file and save its result and pictures.

        Returns:
            ``duration`` (s), ``events`` (how many), ``labels`` (events of each), ``min_score``,
            ``has_video``, ``has_audio``, ``notes``,
            ``player_start`` (s), ``content`` (sha256 of the file).

        Raises:
            AvelError: if the file can't be read, or is too long.
        """
        from avel.media.file import open_media
        from avel.report.spectrogram import file_spectrogram
        from avel.report.thumbs import thumbnails
        from avel.web.job_folder import event_facts, save_pictures, save_result

        media, folder = open_media(job.media), Path(job.folder)
        if media.duration > job.max_duration:
            raise MediaError(
                f"{job.name}: lasts {media.duration / 60:.1f} minutes",
                expected=f"at most {job.max_duration / 60:g}",
                hint="cut it, or start the server with a larger --minutes",
            )
        timeline = self._localizer(job.model, job.model_folder)(media, progress=progress)
        sound = file_spectrogram(media) if media.audio else b""
        save_pictures(folder, thumbnails(timeline, media) if media.video else [], sound)
        save_result(folder, timeline)
        return {
            "duration": timeline.duration,
            **event_facts(timeline),
            "has_video": media.video is not None,
            "has_audio": media.audio is not None,
            "notes": list(timeline.notes),
            "player_start": timeline.player_start,
            "content": file_hash(job.media),
        }


#: Does a job: :class:`ModelWorker`, or a fake one in tests.
JobFunction = Callable[[WorkerJob, "Progress"], Json]


def renamed(error: AvelError, path: str | Path, name: str) -> AvelError:
    """The same error with the file's name for people in place of its path."""
    got, expected, hint = (
        t.replace(str(path), name) for t in (error.got, error.expected, error.hint)
    )
    return type(error)(got, expected=expected, hint=hint)
