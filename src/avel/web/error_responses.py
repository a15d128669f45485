"""Answers that say no: a status, and what came, what was expected, a hint."""

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
    """The exception that is answered with a status and ``{"error": {got, expected, hint}}``.

    Args:
        status: An HTTP status of 400 and more.
        got, expected, hint: As of :class:`avel.AvelError`.
        headers: Besides, ``_`` for ``-``.
    """
    named = {n.replace("_", "-"): v for n, v in headers.items()}
    return HTTPException(status, detail=error_body(got, expected, hint), headers=named)  # type: ignore[arg-type]


def error_body(got: str, expected: str = "", hint: str = "") -> dict[str, str]:
    """The three parts as text that can be sent and shown."""
    parts = {"got": got, "expected": expected, "hint": hint}
    return {n: printable(t).encode("utf-8", "replace").decode() for n, t in parts.items()}


def error_response(status: int, parts: dict[str, str], headers: Any = None) -> JSONResponse:
    """The response itself."""
    return JSONResponse({"error": parts}, status, headers)


async def on_http_error(_: Request, error: Exception) -> Response:
    """Those raised by :func:`refuse`, and the framework's own (no such address or method)."""
    assert isinstance(error, HTTPException)
    detail: Any = error.detail
    parts = detail if isinstance(detail, dict) else error_body(str(detail))
    return error_response(error.status_code, parts, error.headers)


async def on_avel_error(_: Request, error: Exception) -> Response:
    """Values that can't be, and results that can't be had."""
    assert isinstance(error, AvelError)
    return error_response(422, error_body(error.got, error.expected, error.hint))


async def on_store_error(_: Request, error: Exception) -> Response:
    """The list of jobs can't be used at this moment."""
    assert isinstance(error, StoreError)
    parts = error_body(error.got, error.expected, error.hint)
    return (
        error_response(507, parts)
        if error.full
        else error_response(503, parts, {"Retry-After": "5"})
    )


async def on_invalid(_: Request, error: Exception) -> Response:
    """Requests that the schema refuses: each place, and what is wrong there."""
    found: list[dict[str, Any]] = getattr(error, "errors", list)()
    places = [
        f"{'.'.join(str(p)[:40] for p in e.get('loc', ()))}: {e.get('msg', '')}" for e in found[:8]
    ]
    return error_response(
        422, error_body("; ".join(places), "what /openapi.json describes", "correct it")
    )


async def on_disk_error(_: Request, error: Exception) -> Response:
    """No room, or no right to write; the place is the server's affair."""
    assert isinstance(error, OSError)
    why = disk_error(OSError(error.errno, error.strerror)).got
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    cure = "delete some jobs, or make room on it" if full else "see to the server's folders"
    return error_response(507, error_body(f"the server's disk: {why}", "room to write", cure))


async def on_bug(_: Request, error: Exception) -> Response:
    """What wasn't foreseen; its traceback is in the server's log, never in the answer."""
    return error_response(
        500,
        error_body(f"something unforeseen ({type(error).__name__})", "", "see the server's log"),
    )
