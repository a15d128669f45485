"""Access control: host names, foreign sites, the token, bounded bodies, response headers."""

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
    """The cookie that stands for the token: the token can't be computed from it."""
    return hmac.new(token.encode(), b"avel serve cookie", hashlib.sha256).hexdigest()


def same(secret: str, expected: str) -> bool:
    """Whether two secrets are equal, compared in constant time."""
    return hmac.compare_digest(
        secret.encode("utf-8", "replace"), expected.encode("utf-8", "replace")
    )


class AccessControl:
    """Middleware that refuses requests before they reach the application.

    Args:
        app: The application.
        token: What every request must carry; None for no token.
        hosts: Host names that requests may use.
        any_address: Whether requests may use any IP address as host: for a server bound to all.
    """

    def __init__(
        self, app: ASGIApp, *, token: str | None, hosts: Collection[str], any_address: bool
    ) -> None:
        self._app, self._token = app, token
        self._hosts, self._any_address = {h.lower() for h in hosts}, any_address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on with a bounded body; adds the security headers to every response."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                if scope["path"].startswith("/api/") and "cache-control" not in headers:
                    headers["Cache-Control"] = "no-store"
            await send(message)

        error = self._access_error(scope)
        if error is not None:
            await error_response(*error)(scope, receive, send_with_headers)
            return
        upload = (scope["method"], scope["path"]) in _UPLOADS
        await self._app(scope, _bounded(receive, None if upload else BODY), send_with_headers)

    def _access_error(self, scope: Scope) -> tuple[int, dict[str, str]] | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._host_allowed(host):
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
        protected = scope["path"].startswith("/api/") and scope["path"] != "/api/login"
        if self._token is not None and protected and not _has_token(headers, self._token):
            return 401, error_body("no token, or a wrong one", "the one that the server printed",
                             "send it as 'Authorization: Bearer TOKEN', or log in")  # fmt: skip
        return None

    def _host_allowed(self, host: str) -> bool:
        try:
            address = urlsplit(f"//{host}")
            name = address.hostname or ""
            if address.netloc != host or "@" in host or not (address.port or 0) >= 0:
                return False
        except ValueError:  # no port, or no address
            return False
        if name.lower() in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return self._any_address


def _has_token(headers: Headers, token: str) -> bool:
    kind, _, secret = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and same(secret.strip(), token):
        return True
    cookie = cookie_parser(headers.get("cookie", "")).get(COOKIE, "")
    return same(cookie, cookie_of(token))


def _bounded(receive: Receive, most: int | None) -> Receive:
    """The body; an error where it has more than ``most`` bytes (None: any) or comes too slowly."""
    received, counted, waited, more = 0, 0, 0.0, True

    async def bounded() -> Message:
        nonlocal received, counted, waited, more
        message: Message | None = None if more else await receive()  # then it tells of the end
        while message is None:
            begun = time.monotonic()
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, WINDOW - waited)):
                    message = await receive()
            waited += time.monotonic() - begun
            if message is not None:
                received += len(message.get("body", b""))
                more = bool(message.get("more_body", False))
            if waited >= WINDOW and more:
                if received - counted < LEAST:
                    raise http_error(
                        408, f"{received - counted} bytes in {WINDOW:g} s", f"at least {LEAST}",
                        "send it again, over a faster connection",
                    )  # fmt: skip
                counted, waited = received, 0.0
        if most is not None and received > most:
            raise http_error(413, "a body that is too large", f"at most {most} bytes", "send less")
        return message

    return bounded
