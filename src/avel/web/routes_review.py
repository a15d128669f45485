"""Addresses of results and corrections: timeline, media, pictures, annotations, exports."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, JSONResponse, Response

from avel.files import write_whole
from avel.formats import ending_of, format_endings
from avel.report.page import PLAYABLE
from avel.types import Event
from avel.web import aside, kept, label_import, review
from avel.web.dataset import LEAST
from avel.web.desk import Desk
from avel.web.refusal import refuse
from avel.web.schemas import (
    CorrectionIn,
    Corrections,
    DatasetInfo,
    ErrorReply,
    Imported,
    ThumbInfo,
    TimelineInfo,
)
from avel.web.store import ConflictError, Job
from avel.web.uploads import receive

#: Bytes of a label file at most.
LABELS = 16 * 2**20
_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            }
        },
    }
}
_Share = Annotated[float | None, Query(gt=0, le=1, allow_inf_nan=False)]
_Length = Annotated[float | None, Query(ge=0, le=3600, allow_inf_nan=False)]


def add(app: FastAPI, desk: Desk) -> None:
    """Put the addresses into an application."""
    _add_results(app, desk)
    _add_corrections(app, desk)
    _add_files(app, desk)


def _add_results(app: FastAPI, desk: Desk) -> None:
    @app.get("/api/jobs/{id}/timeline", response_model=TimelineInfo, tags=["results"])
    def timeline(
        id: str,
        threshold: _Share = None,
        low_threshold: _Share = None,
        min_duration: _Length = None,
        max_gap: _Length = None,
    ) -> Any:
        """What was found, decided anew from the kept scores: without values as the model does."""
        asked = {
            "threshold": threshold,
            "low_threshold": low_threshold,
            "min_duration": min_duration,
            "max_gap": max_gap,
        }
        return review.timeline_of(desk, desk.done(id), **asked)

    @app.get(
        "/api/jobs/{id}/media", tags=["results"], response_class=FileResponse,
        responses={206: {"description": "A range"}, 416: {"description": "No such range"}},
    )  # fmt: skip
    def media(id: str) -> Response:
        """The file itself; ranges are answered."""
        job = desk.job(id)
        place = desk.media_of(job)
        if not place.is_file():
            raise refuse(404, f"{job.name} is gone", "the file", "upload it again")
        kind = PLAYABLE.get(place.suffix.lower(), "application/octet-stream")
        return FileResponse(
            place, media_type=kind, filename=job.name, content_disposition_type="inline",
            headers={"Cache-Control": "private, no-cache"},
        )  # fmt: skip

    @app.get("/api/jobs/{id}/thumbs", response_model=list[ThumbInfo], tags=["results"])
    def thumbs(id: str) -> Any:
        """Pictures of the file, and their instants."""
        times = kept.thumb_times(desk.folder_of(desk.done(id)))
        return [{"time": t, "url": f"/api/jobs/{id}/thumbs/{n}.jpg"} for n, t in enumerate(times)]

    @app.get("/api/jobs/{id}/thumbs/{n}.jpg", tags=["results"], response_class=FileResponse)
    def thumb(id: str, n: int) -> Response:
        """One of them."""
        folder = desk.folder_of(desk.done(id))
        if not 0 <= n < len(kept.thumb_times(folder)):
            raise refuse(404, "no such picture", "one that /thumbs lists", "ask for those")
        return _picture(folder / kept.thumb_name(n), "image/jpeg")

    @app.get("/api/jobs/{id}/spectrogram.png", tags=["results"], response_class=FileResponse)
    def spectrogram(id: str) -> Response:
        """The sound as a picture; 404 where there is none."""
        return _picture(kept.spectrogram_path(desk.folder_of(desk.done(id))), "image/png")


def _picture(place: Path, kind: str) -> Response:
    if not place.is_file():
        raise refuse(404, "no such picture", "one that is there", "leave it out")
    return FileResponse(place, media_type=kind, headers={"Cache-Control": "private, no-cache"})


def _add_corrections(app: FastAPI, desk: Desk) -> None:
    def changed(id: str) -> None:
        desk.update_data()
        desk.changed(id)

    @app.get("/api/jobs/{id}/annotations", response_model=Corrections, tags=["corrections"])
    def annotations(id: str) -> Any:
        """The events that hold: those saved, or those found."""
        return review.annotations_of(desk, desk.done(id))

    @app.put("/api/jobs/{id}/annotations", response_model=Corrections, tags=["corrections"],
             responses={409: {"model": ErrorReply | Corrections}})  # fmt: skip
    def correct(id: str, given: CorrectionIn) -> Any:
        """Save events; 409 with the present ones where another revision was saved meanwhile."""
        job = desk.done(id)
        events = review.checked(given.events, job, _step(desk, job.model))
        try:
            saved = desk.store.correct(id, given.revision, events)
        except ConflictError as e:
            return JSONResponse(review.annotations_of(desk, job, e.present), 409)
        except LookupError as e:
            raise refuse(404, f"no job {id!r}", "", "") from e
        changed(id)
        return review.annotations_of(desk, job, saved)

    @app.delete("/api/jobs/{id}/annotations", response_model=Corrections, tags=["corrections"])
    def uncorrect(id: str) -> Any:
        """Back to the found events."""
        job = desk.done(id)
        try:
            saved = desk.store.uncorrect(id)
        except LookupError as e:
            raise refuse(404, f"no job {id!r}", "", "") from e
        changed(id)
        return review.annotations_of(desk, job, saved)

    @app.get("/api/dataset", response_model=DatasetInfo, tags=["corrections"])
    def dataset() -> Any:
        """The corrections as a folder to learn from."""
        clips = len(desk.store.corrected_ids())
        if desk.data is None:
            note = "Start the server with --data DIR, and corrections are kept there to learn from."
            return {"path": None, "clips": clips, "commands": [], "notes": [note]}
        if desk.data.trouble is not None:
            desk.update_data()
        few = f"{LEAST} corrected clips are needed at least: to learn from, choose by and judge."
        return {
            "path": str(desk.data.folder),
            "clips": clips,
            "commands": review.commands(desk.data.folder, desk.cards),
            "notes": ([few] if clips < LEAST else []) + desk.data.notes,
        }


def _step(desk: Desk, model: str) -> float:
    return float(desk.cards.get(model, {}).get("step", 1.0))


def _add_files(app: FastAPI, desk: Desk) -> None:
    @app.get("/api/jobs/{id}/export", tags=["results"], response_class=Response,
             responses={200: {"content": {"application/octet-stream": {}}},
                        429: {"model": ErrorReply}})  # fmt: skip
    async def export(
        id: str,
        format: Annotated[str, Query(max_length=40)],
        of: Literal["corrected", "found"] = "corrected",
    ) -> Response:
        """The events as a file of any format, the report's page, or a copy of the video."""
        job = await run_in_threadpool(desk.done, id)
        name = aside.export_name(job.name, format)
        folder = desk.incoming / secrets.token_hex(16)
        target = folder / f"export{aside.endings()[format]}"
        write = _report if format in aside.FORMS else _labels
        try:
            await write(desk, job, of, format, target)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return FileResponse(
            target, media_type="application/octet-stream", filename=name,
            background=BackgroundTask(shutil.rmtree, folder, ignore_errors=True),
        )  # fmt: skip

    @app.post("/api/import", response_model=Imported, tags=["corrections"], openapi_extra=_FORM,
              responses={408: {"model": ErrorReply}, 415: {"model": ErrorReply},
                         429: {"model": ErrorReply}})  # fmt: skip
    async def import_labels(request: Request, job: Annotated[str, Query(max_length=40)]) -> Any:
        """Read the events of a label file of any format; nothing is saved."""
        own = await run_in_threadpool(desk.done, job)
        target = desk.incoming / secrets.token_hex(16)
        try:
            kind = request.headers.get("content-type", "")
            found = await receive(kind, request.stream(), target, most=LABELS)
            target = _named(target, found.name)
            return await desk.imports.run(
                label_import.read_labels, target, found.name, own.name,
                float(own.facts["duration"]), _step(desk, own.model),
                float(own.facts.get("player_start", 0.0)), name=found.name,
                seconds=label_import.SECONDS, megabytes=label_import.MEGABYTES,
            )  # fmt: skip
        finally:
            target.unlink(missing_ok=True)


def _events(desk: Desk, job: Job, of: str) -> tuple[Event, ...] | None:
    return desk.store.correction(job.id).events if of == "corrected" else None


async def _labels(desk: Desk, job: Job, of: str, format: str, target: Path) -> None:
    def write() -> None:
        found = review.found_in(desk, job)
        write_whole(target, aside.as_labels(found, _events(desk, job, of), format))

    await run_in_threadpool(write)


async def _report(desk: Desk, job: Job, of: str, format: str, target: Path) -> None:
    events = await run_in_threadpool(_events, desk, job, of)
    target.parent.mkdir()
    await desk.exports.run(
        aside.write_report, desk.folder_of(job), desk.media_of(job), job.name, events, target,
        name=job.name, seconds=60 * desk.limits.job_minutes,
    )  # fmt: skip


def _named(target: Path, name: str) -> Path:
    """The file under its own name with the ending of its format, by which it is read."""
    own = Path(name).suffix.lower()
    ending = ending_of(name, format_endings().values()) or (own if own[1:].isalnum() else "")
    return target.rename(target.with_name(f"{target.name}{ending[:20]}"))
