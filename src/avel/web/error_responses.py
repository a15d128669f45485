"""Error responses: a status, and ``{"error": {got, expected, hint}}``."""

from __future__ import annotations

import errno
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from avel.errors import AvelError, printable
from avel.files import disk_error
from avel.web.store import StoreError


def http_error(
    status: int, got: str, expected: str = "", hint: str = "", **headers: str
) -> HTTPException:
    """The exception that becomes a response ``{"error": {got, expected, hint}}``.

    Args:
        status: An HTTP status of 400 and more.
        got, expected, hint: As of :class:`avel.AvelError`.
        headers: Further headers, ``_`` for ``-``.
    """
    named = {n.replace("_", "-"): v for n, v in headers.items()}
    return HTTPException(status, detail=error_body(got, expected, hint), headers=named)  # type: ignore[arg-type]


def error_body(got: str, expected: str = "", hint: str = "") -> dict[str, str]:
    """The three parts as printable text."""
    parts = {"got": got, "expected": expected, "hint": hint}
    return {n: printable(t).encode("utf-8", "replace").decode() for n, t in parts.items()}


def body_of(error: AvelError) -> dict[str, str]:
    """The three parts of an error of avel."""
    return error_body(error.got, error.expected, error.hint)


def error_response(status: int, parts: dict[str, str], headers: Any = None) -> JSONResponse:
    """The response."""
    return JSONResponse({"error": parts}, status, headers)


async def on_http_error(_: Request, error: Exception) -> Response:
    """Errors raised by :func:`http_error`, and the framework's own (no such address or method)."""
    assert isinstance(error, HTTPException)
    detail: Any = error.detail
    parts = detail if isinstance(detail, dict) else error_body(str(detail))
    return error_response(error.status_code, parts, error.headers)


async def on_avel_error(_: Request, error: Exception) -> Response:
    """Invalid values, and results that can't be computed."""
    assert isinstance(error, AvelError)
    return error_response(422, body_of(error))


async def on_store_error(_: Request, error: Exception) -> Response:
    """The list of jobs can't be used at this moment."""
    assert isinstance(error, StoreError)
    parts = body_of(error)
    return (
        error_response(507, parts)
        if error.full
        else error_response(503, parts, {"Retry-After": "5"})
    )


async def on_invalid(_: Request, error: Exception) -> Response:
    """Requests that don't fit the schema: each field, and what is wrong with it."""
    mistakes: list[dict[str, Any]] = getattr(error, "errors", list)()
    sentences = [
        f"{'.'.join(str(p)[:40] for p in e.get('loc', ()))}: {e.get('msg', '')}"
        for e in mistakes[:8]
    ]
    return error_response(
        422, error_body("; ".join(sentences), "what /openapi.json describes", "correct it")
    )


async def on_disk_error(_: Request, error: Exception) -> Response:
    """No room, or no right to write; the path isn't shown."""
    assert isinstance(error, OSError)
    why = disk_error(OSError(error.errno, error.strerror)).got
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    cure = "delete some jobs, or make room on it" if full else "see to the server's folders"
    return error_response(507, error_body(f"the server's disk: {why}", "room to write", cure))


async def on_bug(_: Request, error: Exception) -> Response:
    """A bug; its traceback is in the server's log, never in the response."""
    return error_response(
        500,
        error_body(
            f"an unexpected error occurred ({type(error).__name__})", "", "see the server's log"
        ),
    )
