"""The server: the address it listens on, its token, and its run."""

from __future__ import annotations

import ipaddress
import logging
import secrets
import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from avel.errors import UsageError
from avel.files import unused_name
from avel.web.access import LOCAL
from avel.web.app import create_app
from avel.web.connections import MOST, Connection
from avel.web.jobs import JobService

#: Fewest characters of a token.
SHORTEST_TOKEN = 16


@dataclass(frozen=True)
class ListenAddress:
    """The address that a server listens on.

    Args:
        socket: Already bound.
        address: The URL of the page.
        local: Whether only this machine can reach it.
        hosts: Host names that requests may use.
        any_address: Whether requests may use any IP address as host.
    """

    socket: socket.socket
    address: str
    local: bool
    hosts: frozenset[str]
    any_address: bool


def bind(host: str, port: int, allowed: Collection[str] = ()) -> ListenAddress:
    """Bind an address and port.

    Args:
        host: A name or IP address of this machine.
        port: 0 for any that is free.
        allowed: Further host names that requests may use.

    Raises:
        UsageError: if it can't be taken.
    """
    try:
        family, _, _, _, resolved = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.create_server(resolved[:2], family=family, backlog=128)
    except (OSError, UnicodeError, OverflowError) as e:
        raise UsageError(
            f"{host} port {port}: {getattr(e, 'strerror', None) or e}",
            expected="an address of this machine and a free port",
            hint="choose others with --host and --port (0: any that is free)",
        ) from e
    number = ipaddress.ip_address(resolved[0])
    shown = "localhost" if number.is_unspecified else host
    shown = f"[{shown}]" if ":" in shown else shown
    hosts = {*LOCAL, host, resolved[0], *allowed}
    if not number.is_loopback:
        hosts |= {socket.gethostname(), socket.getfqdn()}
    return ListenAddress(
        bound,
        f"http://{shown}:{bound.getsockname()[1]}/",
        number.is_loopback,
        frozenset(str(h) for h in hosts),
        number.is_unspecified,
    )


def token_for(listen: ListenAddress, token: str | None) -> str | None:
    """The token: the requested one, a generated one where others can reach the server, else none.

    Raises:
        UsageError: for one that is too short.
    """
    if token is not None and len(token) < SHORTEST_TOKEN:
        raise UsageError(
            f"a token of {len(token)} characters",
            expected=f"at least {SHORTEST_TOKEN}",
            hint='make one: python -c "import secrets; print(secrets.token_urlsafe())"',
        )
    return token if token is not None or listen.local else secrets.token_urlsafe(24)


def run(service: JobService, listen: ListenAddress, token: str | None) -> None:
    """Serve until a signal ends it; running jobs run again after the next start."""
    server_of(service, listen, token).run(sockets=[listen.socket])


def server_of(service: JobService, listen: ListenAddress, token: str | None) -> uvicorn.Server:
    """The server of a service whose models are loaded, ready to run."""
    app = create_app(service, token=token, hosts=listen.hosts, any_address=listen.any_address)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, proxy_headers=False,
        timeout_graceful_shutdown=3, timeout_keep_alive=30, h11_max_incomplete_event_size=2**16,
        limit_concurrency=MOST + 1, http=Connection,
    )  # fmt: skip
    logging.getLogger("uvicorn.error").addFilter(_quiet)
    return uvicorn.Server(config)


def _quiet(record: logging.LogRecord) -> bool:
    """Drop messages about tasks that a shutdown cancels."""
    return "Cancel" not in record.getMessage()


def named_models(models: Sequence[str]) -> dict[str, str]:
    """Models by name: the run's folder or the file without its ending, numbered where equal.

    Args:
        models: As for :func:`avel.localize`; the first is the default.
    """
    named: dict[str, str] = {}
    for model in models:
        stem = Path(model).resolve().name.removesuffix(".onnx")
        named[unused_name(stem, named)] = model
    return named
