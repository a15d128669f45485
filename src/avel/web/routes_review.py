"""Routes of results and corrections: timeline, media, pictures, annotations, exports."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Query, Request
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, JSONResponse, Response

from avel.formats import ending_of, format_endings
from avel.report.page import PLAYABLE
from avel.web import exports, job_folder, label_import, review
from avel.web.dataset import MIN_CLIPS
from avel.web.error_responses import http_error
from avel.web.jobs import JobService
from avel.web.schemas import (
    CorrectionIn,
    Corrections,
    DatasetInfo,
    ErrorResponse,
    Imported,
    ThumbInfo,
    TimelineInfo,
)
from avel.web.store import ConflictError, Job
from avel.web.uploads import form_schema, receive_form

#: Most bytes of a label file.
LABEL_FILE_BYTES = 16 * 2**20
_Share = Annotated[float | None, Query(gt=0, le=1, allow_inf_nan=False)]
_Length = Annotated[float | None, Query(ge=0, le=3600, allow_inf_nan=False)]


def _options(
    threshold: _Share = None,
    low_threshold: _Share = None,
    min_duration: _Length = None,
    max_gap: _Length = None,
) -> dict[str, float | None]:
    """The options of a request in place of the model's own decision; None leaves one out."""
    return {
        "threshold": threshold,
        "low_threshold": low_threshold,
        "min_duration": min_duration,
        "max_gap": max_gap,
    }


Options = Annotated[dict[str, float | None], Depends(_options)]


def add(app: FastAPI, service: JobService) -> None:
    """Add the routes to an application."""
    _add_results(app, service)
    _add_corrections(app, service)
    _add_files(app, service)


def _add_results(app: FastAPI, service: JobService) -> None:
    @app.get("/api/jobs/{id}/timeline", response_model=TimelineInfo, tags=["results"])
    def timeline(
        id: str,
        options: Options,
    ) -> Any:
        """The events by other decision options; without options the model's own decision."""
        return review.timeline_info(service, service.done(id), **options)

    @app.get(
        "/api/jobs/{id}/media", tags=["results"], response_class=FileResponse,
        responses={206: {"description": "A range"}, 416: {"description": "No such range"}},
    )  # fmt: skip
    def media(id: str) -> Response:
        """The file itself, or ranges of it."""
        job = service.job(id)
        path = service.media_of(job)
        if not path.is_file():
            raise http_error(404, f"{job.name} is missing", "the file", "upload it again")
        kind = PLAYABLE.get(path.suffix.lower(), "application/octet-stream")
        return FileResponse(
            path, media_type=kind, filename=job.name, content_disposition_type="inline",
            headers={"Cache-Control": "private, no-cache"},
        )  # fmt: skip

    @app.get("/api/jobs/{id}/thumbs", response_model=list[ThumbInfo], tags=["results"])
    def thumbs(id: str) -> Any:
        """Thumbnails of the file, and their times."""
        times = job_folder.thumb_times(service.folder_of(service.done(id)))
        return [{"time": t, "url": f"/api/jobs/{id}/thumbs/{n}.jpg"} for n, t in enumerate(times)]

    @app.get("/api/jobs/{id}/thumbs/{n}.jpg", tags=["results"], response_class=FileResponse)
    def thumb(id: str, n: int) -> Response:
        """One thumbnail."""
        folder = service.folder_of(service.done(id))
        if not 0 <= n < len(job_folder.thumb_times(folder)):
            raise http_error(404, "no such picture", "one that /thumbs lists", "ask for those")
        return _picture(folder / job_folder.thumb_name(n), "image/jpeg")

    @app.get("/api/jobs/{id}/spectrogram.png", tags=["results"], response_class=FileResponse)
    def spectrogram(id: str) -> Response:
        """The spectrogram of the sound; 404 where there is none."""
        folder = service.folder_of(service.done(id))
        return _picture(folder / job_folder.SPECTROGRAM, "image/png")


def _picture(path: Path, kind: str) -> Response:
    if not path.is_file():
        raise http_error(404, "no such picture", "one that is there", "leave it out")
    return FileResponse(path, media_type=kind, headers={"Cache-Control": "private, no-cache"})


def _add_corrections(app: FastAPI, service: JobService) -> None:
    def changed(id: str) -> None:
        service.update_data()
        service.changed(id)

    @app.get("/api/jobs/{id}/annotations", response_model=Corrections, tags=["corrections"])
    def annotations(id: str) -> Any:
        """The current events: the saved ones, or else the model's."""
        return review.annotations_info(service, service.done(id))

    @app.put("/api/jobs/{id}/annotations", response_model=Corrections, tags=["corrections"],
             responses={409: {"model": ErrorResponse | Corrections}})  # fmt: skip
    def correct(id: str, body: CorrectionIn) -> Any:
        """Save events; 409 with the current ones where another revision was saved meanwhile."""
        job = service.done(id)
        events = review.validated_events(body.events, job, _step(service, job.model))
        try:
            saved = service.store.correct(id, body.revision, events)
        except ConflictError as e:
            return JSONResponse(review.annotations_info(service, job, e.present), 409)
        except LookupError as e:
            raise http_error(404, f"no job {id!r}", "", "") from e
        changed(id)
        return review.annotations_info(service, job, saved)

    @app.delete("/api/jobs/{id}/annotations", response_model=Corrections, tags=["corrections"])
    def uncorrect(id: str) -> Any:
        """Back to the model's events."""
        job = service.done(id)
        try:
            saved = service.store.uncorrect(id)
        except LookupError as e:
            raise http_error(404, f"no job {id!r}", "", "") from e
        changed(id)
        return review.annotations_info(service, job, saved)

    @app.get("/api/dataset", response_model=DatasetInfo, tags=["corrections"])
    def dataset() -> Any:
        """The data set of the corrections, and the commands that train on it."""
        clips = len(service.store.corrected_ids())
        if service.data is None:
            note = "Start the server with --data DIR, and corrections are kept there to learn from."
            return {"path": None, "clips": clips, "labelled": 0, "commands": [], "notes": [note]}
        data = service.data
        if data.trouble is not None or data.notes or data.labelled < MIN_CLIPS:
            service.update_data()  # the reason may be gone
        few = f"{MIN_CLIPS} labelled clips are needed at least, for training, validation and test."
        return {
            "path": str(data.folder),
            "clips": clips,
            "labelled": data.labelled,
            "commands": review.commands(data.folder, service.cards),
            "notes": ([few] if data.labelled < MIN_CLIPS else []) + data.notes,
        }


def _step(service: JobService, model: str) -> float:
    return float(service.cards.get(model, {}).get("step", 1.0))


def _add_files(app: FastAPI, service: JobService) -> None:
    @app.get("/api/jobs/{id}/export", tags=["results"], response_class=Response,
             responses={200: {"content": {"application/octet-stream": {}}},
                        429: {"model": ErrorResponse}})  # fmt: skip
    async def export(
        id: str,
        format: Annotated[str, Query(max_length=40)],
        options: Options,
        of: Literal["corrected", "found"] = "corrected",
    ) -> Response:
        """The events as a label file, the report's page, or a copy of the video.

        The decision's options are for the model's events: corrected ones stay as they are.
        """
        job = await run_in_threadpool(service.done, id)
        name = exports.export_name(job.name, format)
        export_job = await run_in_threadpool(_export_job, service, job, of, options)
        write = partial(_write_export, service, job, export_job, format)
        return await _file_response(service, name, write)

    @app.get("/api/export", tags=["results"], response_class=Response,
             responses={200: {"content": {"application/zip": {}}},
                        429: {"model": ErrorResponse}})  # fmt: skip
    async def export_all(
        format: Annotated[str, Query(max_length=40)],
        of: Literal["corrected", "found"] = "corrected",
    ) -> Response:
        """A ZIP file with a label file of every job that is done."""
        exports.export_name("all", format)
        if format in exports.REPORT_FORMATS:
            raise http_error(422, f"no archive of {format}", "a label format", "choose another")
        jobs = await run_in_threadpool(_export_jobs, service, of)
        write = partial(
            service.exports.run, exports.write_archive, jobs, format, name="all files",
            seconds=60 * service.limits.job_minutes,
        )  # fmt: skip
        return await _file_response(service, f"events-{format}.zip", write, "application/zip")

    @app.post("/api/import", response_model=Imported, tags=["corrections"],
              openapi_extra=form_schema(), responses={
                  408: {"model": ErrorResponse}, 415: {"model": ErrorResponse},
                  429: {"model": ErrorResponse},
              })  # fmt: skip
    async def import_labels(request: Request, job: Annotated[str, Query(max_length=40)]) -> Any:
        """Read the events of a label file of any format; nothing is saved."""
        target_job = await run_in_threadpool(service.done, job)
        target = service.incoming / secrets.token_hex(16)
        try:
            kind = request.headers.get("content-type", "")
            form = await receive_form(kind, request.stream(), target, most=LABEL_FILE_BYTES)
            target = _with_format_ending(target, form.name)
            return await service.imports.run(
                label_import.read_labels, target, form.name, target_job.name,
                float(target_job.facts["duration"]), _step(service, target_job.model),
                float(target_job.facts.get("player_start", 0.0)), name=form.name,
                seconds=label_import.SECONDS, megabytes=label_import.MEGABYTES,
            )  # fmt: skip
        finally:
            target.unlink(missing_ok=True)


def _export_job(
    service: JobService, job: Job, of: str, options: dict[str, float | None]
) -> exports.ExportJob:
    events = service.store.correction(job.id).events if of == "corrected" else None
    media = service.media_path(job)
    video = str(media) if job.root else job.name
    return exports.ExportJob(service.folder_of(job), job.name, media, video, events, options)


def _export_jobs(service: JobService, of: str) -> list[exports.ExportJob]:
    done = [job for job in service.store.every() if job.state == "done"]
    return [_export_job(service, job, of, {}) for job in done]


async def _file_response(
    service: JobService,
    name: str,
    write: Callable[[Path], Awaitable[None]],
    kind: str = "application/octet-stream",
) -> Response:
    """A file, written into a folder of its own that is removed once it is sent."""
    folder = service.incoming / secrets.token_hex(16)
    folder.mkdir()
    target = folder / f"export{Path(name).suffix}"
    try:
        await write(target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    remove = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
    return FileResponse(target, media_type=kind, filename=name, background=remove)


async def _write_export(
    service: JobService, job: Job, export_job: exports.ExportJob, format: str, target: Path
) -> None:
    """Write an export: in a bounded process wherever the media file may be read for it."""
    if format in exports.REPORT_FORMATS:
        service.media_of(job)  # an error where it is missing in its root
        write = partial(exports.write_report, export_job, target)
    else:
        write = partial(exports.write_label_file, export_job, format, target)
    if format in exports.REPORT_FORMATS or job.root:
        seconds = 60 * service.limits.job_minutes
        await service.exports.run(write, name=job.name, seconds=seconds)
    else:
        await run_in_threadpool(write)


def _with_format_ending(target: Path, name: str) -> Path:
    """The file renamed with the ending of its format, by which it is read."""
    suffix = Path(name).suffix.lower()
    ending = ending_of(name, format_endings().values()) or (suffix if suffix[1:].isalnum() else "")
    return target.rename(target.with_name(f"{target.name}{ending[:20]}"))
