"""Routes of jobs: list, add, progress, cancel, retry, delete."""

from __future__ import annotations

import secrets
from dataclasses import asdict
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
from avel.web.schemas import About, ErrorResponse, Folder, JobInfo, Jobs, PathIn, RetryIn
from avel.web.store import Job
from avel.web.uploads import form_schema, receive_form, too_large

#: A client's key for a request: a repeated one returns the job that the first one made.
Key = Annotated[str | None, Header(alias="Idempotency-Key", max_length=100)]
_Responses = dict[int | str, dict[str, Any]]
_FULL: _Responses = {429: {"model": ErrorResponse}}
_UPLOAD: _Responses = {408: {"model": ErrorResponse}, 415: {"model": ErrorResponse}, **_FULL}


def add(app: FastAPI, service: JobService) -> None:
    """Add the routes to an application."""

    def info(job: Job) -> dict[str, Any]:
        return service.job_info(job, service.store.queue(), service.store.corrected_ids())

    @app.get("/api/about", tags=["about"])
    def about() -> About:
        """Version, models, limits, roots and formats of this server."""
        return About.model_validate(_about(service))

    @app.get("/api/files", tags=["about"])
    def files(
        root: Annotated[str, Query(max_length=200)],
        folder: Annotated[str, Query(max_length=4000)] = "",
    ) -> Folder:
        """The media files and folders of a folder within a root."""
        return listing(service.roots, root, folder)

    @app.post(
        "/api/jobs", status_code=201, response_model=JobInfo, tags=["jobs"],
        openapi_extra=form_schema("model"), responses=_UPLOAD,
    )  # fmt: skip
    async def upload(request: Request, key: Key = None) -> Any:
        """Add a job for a file of a form: `file`, and the name of a `model` if not the first."""
        known = service.store.keyed(key) if key else None
        if known is not None:
            return info(known)
        return await _upload(service, request, key, info)

    @app.post(
        "/api/jobs/path", status_code=201, response_model=JobInfo, tags=["jobs"], responses=_FULL
    )
    def path(body: PathIn, key: Key = None) -> Any:
        """Add a job for a file within a root, which stays where it is."""
        model = service.model_named(body.model)
        with service.place_in_queue():
            return info(service.add_path(body.root, body.path, model=model, key=key))

    @app.get("/api/jobs", response_model=Jobs, tags=["jobs"])
    def jobs(
        offset: Annotated[int, Query(ge=0, le=2**31)] = 0,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> Any:
        """Some jobs, newest first."""
        page, total = service.store.page(offset, limit)
        queue, corrected = service.store.queue(), service.store.corrected_ids()
        infos = [service.job_info(job, queue, corrected) for job in page]
        return {"jobs": infos, "total": total, "troubles": service.troubles()}

    @app.get("/api/jobs/{id}", response_model=JobInfo, tags=["jobs"])
    def job(id: str) -> Any:
        """One job."""
        return info(service.job(id))

    @app.post("/api/jobs/{id}/cancel", response_model=JobInfo, tags=["jobs"])
    def cancel(id: str) -> Any:
        """Cancel a job that waits or runs."""
        return info(service.cancel(id))

    @app.post("/api/jobs/{id}/retry", response_model=JobInfo, tags=["jobs"], responses=_FULL)
    def retry(id: str, body: RetryIn | None = None) -> Any:
        """Run a job again that has ended, with another model or the same."""
        return info(service.retry(id, body.model if body else None))

    @app.delete("/api/jobs/{id}", status_code=204, tags=["jobs"])
    def delete(id: str) -> Response:
        """Delete a job: its upload, result and correction; a file within a root stays."""
        service.delete(id)
        return Response(status_code=204)

    @app.get("/api/progress", include_in_schema=False)
    async def progress() -> StreamingResponse:
        """Jobs as they change, as server-sent events."""
        if service.progress.full:
            raise http_error(429, "too many listeners", "", "ask for /api/jobs", Retry_After="30")
        return _EventStream(service.progress.listen())


class _EventStream(StreamingResponse):
    """A listener's events; a client that has gone, even before the first event, is removed."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        super().__init__(listener, media_type="text/event-stream")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._listener.leave()


async def _upload(service: JobService, request: Request, key: str | None, info: Any) -> Any:
    most = service.limits.upload_bytes
    length = request.headers.get("content-length", "")
    size = int(length) if length.isdecimal() and len(length) < 19 else most
    if size > most + 10_000:  # the form itself
        raise too_large(most)
    with service.place_in_queue(size, client=request.client.host if request.client else ""):
        target = service.incoming / secrets.token_hex(16)
        try:
            kind = request.headers.get("content-type", "")
            form = await receive_form(kind, request.stream(), target, most=most)
            model = service.model_named(form.fields.get("model") or None)

            def add_job() -> Any:
                job = service.add_upload(
                    target, name=form.name, size=form.size, model=model, key=key
                )
                return info(job)

            return await run_in_threadpool(add_job)
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
    read, titles = format_endings(), exports.export_titles()
    return {
        "version": __version__,
        "models": models,
        "limits": asdict(service.limits),
        "roots": [{"name": n, "path": str(p)} for n, p in service.roots.items()],
        "formats": [
            {"name": n, "title": titles[n], "ending": e, "reads": n in read, "writes": True}
            for n, e in exports.export_endings().items()
        ],
        "dataset": None if service.data is None else str(service.data.folder),
    }
