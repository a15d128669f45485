"""Addresses of jobs: what there is, taking in, progress, calling off."""

from __future__ import annotations

import secrets
from typing import Annotated, Any

from fastapi import FastAPI, Header, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from avel._version import __version__
from avel.formats import format_endings
from avel.report.cards import cautions
from avel.web import exports
from avel.web.error_responses import http_error
from avel.web.jobs import JobService
from avel.web.progress import Listener
from avel.web.roots import listing
from avel.web.schemas import About, ErrorReply, Folder, JobInfo, Jobs, PathIn, RetryIn
from avel.web.store import Job
from avel.web.uploads import receive_form, too_large

#: A client's own name for a request: repeated, it is answered with the job it made.
Key = Annotated[str | None, Header(alias="Idempotency-Key", max_length=100)]
_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "model": {"type": "string"},
                    },
                }
            }
        },
    }
}
_Replies = dict[int | str, dict[str, Any]]
_FULL: _Replies = {429: {"model": ErrorReply}}
_UPLOAD: _Replies = {408: {"model": ErrorReply}, 415: {"model": ErrorReply}, **_FULL}


def add(app: FastAPI, service: JobService) -> None:
    """Put the addresses into an application."""

    def shown(job: Job) -> dict[str, Any]:
        return service.shown(job, service.store.queue(), service.store.corrected_ids())

    @app.get("/api/about", tags=["about"])
    def about() -> About:
        """What this server is and can."""
        return About.model_validate(_about(service))

    @app.get("/api/files", tags=["about"])
    def files(
        root: Annotated[str, Query(max_length=200)],
        folder: Annotated[str, Query(max_length=4000)] = "",
    ) -> Folder:
        """The media files and folders of a folder within a root."""
        held = listing(service.roots, root, folder)
        front = f"{held.folder}/" if held.folder else ""
        return Folder.model_validate(
            {
                "folder": held.folder,
                "folders": held.folders,
                "files": [
                    {"path": front + name, "name": name, "size": size} for name, size in held.files
                ],
                "more": held.more,
            }
        )

    @app.post(
        "/api/jobs", status_code=201, response_model=JobInfo, tags=["jobs"],
        openapi_extra=_FORM, responses=_UPLOAD,
    )  # fmt: skip
    async def upload(request: Request, key: Key = None) -> Any:
        """Take in a file from a form: `file`, and the name of a `model` if not the first."""
        held = service.store.keyed(key) if key else None
        if held is not None:
            return shown(held)
        return await _upload(service, request, key, shown)

    @app.post(
        "/api/jobs/path", status_code=201, response_model=JobInfo, tags=["jobs"], responses=_FULL
    )
    def path(given: PathIn, key: Key = None) -> Any:
        """Take in a file within a root, which stays where it is."""
        model = service.model_named(given.model)
        with service.place_in_queue():
            return shown(service.take_path(given.root, given.path, model=model, key=key))

    @app.get("/api/jobs", response_model=Jobs, tags=["jobs"])
    def jobs(
        offset: Annotated[int, Query(ge=0, le=2**31)] = 0,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> Any:
        """Some jobs, newest first."""
        held, total = service.store.page(offset, limit)
        queue, corrected = service.store.queue(), service.store.corrected_ids()
        shown = [service.shown(job, queue, corrected) for job in held]
        return {"jobs": shown, "total": total, "troubles": service.troubles()}

    @app.get("/api/jobs/{id}", response_model=JobInfo, tags=["jobs"])
    def job(id: str) -> Any:
        """One job."""
        return shown(service.job(id))

    @app.post("/api/jobs/{id}/cancel", response_model=JobInfo, tags=["jobs"])
    def cancel(id: str) -> Any:
        """Call a job off that waits or runs."""
        return shown(service.cancel(id))

    @app.post("/api/jobs/{id}/retry", response_model=JobInfo, tags=["jobs"], responses=_FULL)
    def retry(id: str, given: RetryIn | None = None) -> Any:
        """Begin a job again that has ended, with another model or the same."""
        return shown(service.retry(id, given.model if given else None))

    @app.delete("/api/jobs/{id}", status_code=204, tags=["jobs"])
    def delete(id: str) -> Response:
        """Forget a job: its upload, result and correction."""
        service.delete(id)
        return Response(status_code=204)

    @app.get("/api/progress", include_in_schema=False)
    async def progress() -> StreamingResponse:
        """Jobs as they change, as server-sent events."""
        if service.progress.full:
            raise http_error(429, "too many listeners", "", "ask for /api/jobs", Retry_After="30")
        return _EventStream(service.progress.listen())


class _EventStream(StreamingResponse):
    """What somebody listens to; whoever has gone, even before the first event, counts no more."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        super().__init__(listener, media_type="text/event-stream")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._listener.leave()


async def _upload(service: JobService, request: Request, key: str | None, shown: Any) -> Any:
    most = service.limits.upload_bytes
    length = request.headers.get("content-length", "")
    coming = int(length) if length.isdecimal() and len(length) < 19 else most
    if coming > most + 10_000:  # what a form adds
        raise too_large(most)
    with service.place_in_queue(coming, client=request.client.host if request.client else ""):
        target = service.incoming / secrets.token_hex(16)
        try:
            kind = request.headers.get("content-type", "")
            found = await receive_form(kind, request.stream(), target, most=most)
            model = service.model_named(found.fields.get("model") or None)

            def take() -> Any:
                job = service.take_in(
                    target, name=found.name, size=found.size, model=model, key=key
                )
                return shown(job)

            return await run_in_threadpool(take)
        finally:
            target.unlink(missing_ok=True)


def _about(service: JobService) -> dict[str, Any]:
    models = [
        {
            "name": name,
            "classes": card["classes"],
            "caution": " ".join(cautions(card)),
            "default": number == 0,
            "tasks": [str(card.get("task", ""))],
        }
        for number, (name, card) in enumerate(service.cards.items())
    ]
    read = format_endings()
    limits = service.limits
    return {
        "version": __version__,
        "models": models,
        "limits": {
            "upload_bytes": limits.upload_bytes,
            "minutes": limits.minutes,
            "queue": limits.queue,
            "job_minutes": limits.job_minutes,
        },
        "roots": [{"name": n, "path": str(p)} for n, p in service.roots.items()],
        "formats": [
            {"name": n, "ending": e, "reads": n in read, "writes": True}
            for n, e in exports.export_endings().items()
        ],
        "dataset": None if service.data is None else str(service.data.folder),
    }
