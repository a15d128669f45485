"""The application: the page, its static files, and the API under `/api`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from avel import report
from avel._version import __version__
from avel.errors import AvelError
from avel.web import error_responses, routes_jobs, routes_review, routes_training
from avel.web.access import COOKIE, LOCAL, AccessControl, cookie_of, same
from avel.web.error_responses import http_error
from avel.web.jobs import JobService
from avel.web.schemas import ErrorResponse, LoginIn
from avel.web.store import StoreError

STATIC = Path(__file__).parent / "static"
#: Files of the report that the page uses too: colours, lanes, time formats, attention.
SHARED = ("base.css", "page.css", "shared.js")
FRESH = {"Cache-Control": "no-cache"}
_DESCRIPTION = (
    "Finds which events of a video are both seen and heard. Progress of jobs comes as server-sent "
    "events from /api/progress, which isn't listed here, since it never ends."
)


def create_app(
    service: JobService,
    *,
    token: str | None = None,
    hosts: Collection[str] = LOCAL,
    any_address: bool = False,
) -> FastAPI:
    """The application of a service whose models are loaded; it starts and stops the service.

    Args:
        service: The jobs.
        token: What every request must carry, or None.
        hosts: Host names that requests may use.
        any_address: Whether requests may use any IP address as host.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.progress.begin()
        service.workers.begin()
        yield
        service.progress.end()
        service.close()

    guard = Middleware(AccessControl, token=token, hosts=hosts, any_address=any_address)
    app = FastAPI(
        title="avel serve", version=__version__, description=_DESCRIPTION, lifespan=lifespan,
        docs_url=None, redoc_url=None, middleware=[guard], separate_input_output_schemas=False,
        responses={
            code: {"model": ErrorResponse} for code in (400, 401, 403, 404, 409, 413, 422, 503, 507)
        },
        exception_handlers={
            HTTPException: error_responses.on_http_error,
            RequestValidationError: error_responses.on_invalid,
            StoreError: error_responses.on_store_error,
            AvelError: error_responses.on_avel_error,
            OSError: error_responses.on_disk_error,
            Exception: error_responses.on_bug,
        },
    )  # fmt: skip
    routes_jobs.add(app, service)
    routes_review.add(app, service)
    routes_training.add(app, service)
    _add_page(app, token)
    return app


def _add_page(app: FastAPI, token: str | None) -> None:
    """The page, its static files, and the two ways to log in with the token."""

    @app.get("/", include_in_schema=False)
    def page(secret: Annotated[str | None, Query(alias="token")] = None) -> Response:
        """The page; with the right token in the address, a cookie and the address without it."""
        if secret is None:
            return FileResponse(STATIC / "index.html", headers=FRESH)
        redirect = RedirectResponse("/", 303)
        if token is not None and same(secret, token):
            _set_cookie(redirect, token)
        return redirect

    @app.post("/api/login", status_code=204, tags=["about"])
    def login(body: LoginIn) -> Response:
        """Check the token, and set the cookie that stands for it."""
        response = Response(status_code=204)
        if token is not None:
            if not same(body.token, token):
                raise http_error(
                    401, "a wrong token", "the one that the server printed", "try again"
                )
            _set_cookie(response, token)
        return response

    @app.get("/static/report/{name}", include_in_schema=False)
    def shared(name: str) -> Response:
        """A file that the report uses, too."""
        if name not in SHARED:
            raise http_error(404, f"no file {name[:40]!r}", "one of the page's")
        return FileResponse(Path(report.__file__).parent / name, headers=FRESH)

    app.mount("/static", _RevalidatedFiles(directory=STATIC), name="static")


class _RevalidatedFiles(StaticFiles):
    """Static files that a browser revalidates each time, so that an update shows at once."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """The file, or 304 where it has not changed."""
        response = super().file_response(*args, **kwargs)
        response.headers.update(FRESH)
        return response


def _set_cookie(response: Response, token: str) -> None:
    response.set_cookie(COOKIE, cookie_of(token), httponly=True, samesite="strict", path="/")
