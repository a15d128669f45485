"""Who may ask: the right host, no other site's page, the token; and what every answer says."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import time
from collections.abc import Collection
from contextlib import suppress
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from avel.web.error_responses import error_body, error_response, http_error

#: Bytes of any body that isn't an upload, at most.
BODY = 16 * 2**20
#: Bytes of any body that have to come within so many seconds of waiting for them.
LEAST, WINDOW = 30_000, 30.0
COOKIE = "avel_token"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_UPLOADS = {("POST", "/api/jobs"), ("POST", "/api/import")}
_SAFE = {"GET", "HEAD", "OPTIONS"}
LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


def cookie_of(token: str) -> str:
    """What a browser is given in place of the token: it can't be turned back into it."""
    return hmac.new(token.encode(), b"avel serve cookie", hashlib.sha256).hexdigest()


def same(given: str, expected: str) -> bool:
    """Whether two secrets are equal, in a time that tells nothing of them."""
    return hmac.compare_digest(
        given.encode("utf-8", "replace"), expected.encode("utf-8", "replace")
    )


class AccessControl:
    """Stands before the application.

    Args:
        app: The application.
        token: What everybody must show; None asks for nothing.
        hosts: Names that the server may be called by; None for any address of numbers, too.
        any_address: Whether it may be called by any IP address: where it is bound to all of them.
    """

    def __init__(
        self, app: ASGIApp, *, token: str | None, hosts: Collection[str], any_address: bool
    ) -> None:
        self._app, self._token = app, token
        self._hosts, self._any = {h.lower() for h in hosts}, any_address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on with a bounded body and the headers of every answer."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def told_more(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                if scope["path"].startswith("/api/") and "cache-control" not in headers:
                    headers["Cache-Control"] = "no-store"
            await send(message)

        refused = self._refusal(scope)
        if refused is not None:
            await error_response(*refused)(scope, receive, told_more)
            return
        upload = (scope["method"], scope["path"]) in _UPLOADS
        await self._app(scope, _bounded(receive, None if upload else BODY), told_more)

    def _refusal(self, scope: Scope) -> tuple[int, dict[str, str]] | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._known(host):
            return 403, error_body(
                f"the host {host[:80]!r}", f"one of {', '.join(sorted(self._hosts))}",
                "use the address that the server printed, or start it with --allow-host",
            )  # fmt: skip
        origin = headers.get("origin")
        foreign = origin is not None and urlsplit(origin).netloc.lower() != host.lower()
        if scope["method"] not in _SAFE and (
            foreign or headers.get("sec-fetch-site") in ("cross-site", "same-site")
        ):
            return 403, error_body("a request from another site", "one from the server's own page")
        length = headers.get("content-length", "0")
        if (scope["method"], scope["path"]) not in _UPLOADS and (
            not length.isdecimal() or len(length) > 18 or int(length) > BODY
        ):
            return 413, error_body(f"a body of {length[:20]} bytes", f"at most {BODY}", "send less")
        if self._needs_token(scope["path"]) and not self._shown(headers):
            return 401, error_body("no token, or a wrong one", "the one that the server printed",
                             "send it as 'Authorization: Bearer TOKEN', or log in")  # fmt: skip
        return None

    def _known(self, host: str) -> bool:
        try:
            said = urlsplit(f"//{host}")
            name = said.hostname or ""
            if said.netloc != host or "@" in host or not (said.port or 0) >= 0:
                return False
        except ValueError:  # no port, or no address
            return False
        if name.lower() in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return self._any

    def _needs_token(self, path: str) -> bool:
        return self._token is not None and path.startswith("/api/") and path != "/api/login"

    def _shown(self, headers: Headers) -> bool:
        assert self._token is not None
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and same(given.strip(), self._token):
            return True
        cookie = cookie_parser(headers.get("cookie", "")).get(COOKIE, "")
        return same(cookie, cookie_of(self._token))


def _bounded(receive: Receive, most: int | None) -> Receive:
    """The body, refused where it has too many bytes (None: any number) or comes too slowly."""
    seen, counted, waited, more = 0, 0, 0.0, True

    async def bounded() -> Message:
        nonlocal seen, counted, waited, more
        message: Message | None = None if more else await receive()  # then it tells of the end
        while message is None:
            begun = time.monotonic()
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, WINDOW - waited)):
                    message = await receive()
            waited += time.monotonic() - begun
            if message is not None:
                seen += len(message.get("body", b""))
                more = bool(message.get("more_body", False))
            if waited >= WINDOW and more:
                if seen - counted < LEAST:
                    raise http_error(
                        408, f"{seen - counted} bytes in {WINDOW:g} s", f"at least {LEAST}",
                        "send it again, over a faster connection",
                    )  # fmt: skip
                counted, waited = seen, 0.0
        if most is not None and seen > most:
            raise http_error(413, "a body that is too large", f"at most {most} bytes", "send less")
        return message

    return bounded
