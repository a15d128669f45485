"""Slow and silent clients of a real server: they lose their places, nobody else does."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from avel.web import access, connections, progress
from avel.web.jobs import JobService, Limits
from avel.web.server import bind, server_of
from tests.web import fake_worker


class Site:
    """A server that runs."""

    def __init__(self, service: JobService, port: int) -> None:
        self.service, self.port = service, port
        self.api = httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=20)

    def open(self, text: str = "") -> socket.socket:
        """A connection, and what it says at once."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        connection.sendall(text.encode())
        return connection

    def done(self, content: bytes) -> str:
        id = self.api.post("/api/jobs", files={"file": ("a.mp4", content)}).json()["id"]
        for _ in range(200):
            if self.api.get(f"/api/jobs/{id}").json()["state"] == "done":
                return str(id)
            time.sleep(0.05)
        raise AssertionError("not done")


@contextmanager
def running(folder: Path, **limits: Any) -> Iterator[Site]:
    service = JobService(folder / "state", fake_worker.start, roots={}, limits=Limits(**limits))
    service.load()
    place = bind("127.0.0.1", 0)
    server = server_of(service, place, None)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [place.socket]})
    thread.start()
    try:
        yield Site(service, place.socket.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(30)


def head(method: str, path: str, **headers: object) -> str:
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines) + "\r\n\r\n"


UPLOAD = head("POST", "/api/jobs", Content_Type="multipart/form-data; boundary=b",
              Content_Length=20_000)  # fmt: skip
FORM = '--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'


def answer(connection: socket.socket) -> tuple[int, Any]:
    """The status and the error of what comes."""
    data = b""
    while not data.endswith(b"}}"):  # all of the error; the rest of the request is thrown away
        data += connection.recv(65536)
    first, _, body = data.partition(b"\r\n\r\n")
    return int(first.split()[1]), json.loads(body)


def test_silent_openedkeep_nobody_out(tmp_path: Path) -> None:
    with running(tmp_path) as site, ExitStack() as stack:
        for k in range(300):
            stack.enter_context(site.open("GET / HT" if k % 2 else ""))
        begun = time.monotonic()
        for _ in range(3):
            fresh = httpx2.get(f"http://127.0.0.1:{site.port}/api/about")
            assert fresh.status_code == 200
        assert time.monotonic() - begun < 5


def test_a_request_that_isnt_asked_in_time_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "PATIENCE", 0.6)
    with running(tmp_path) as site, site.open() as connection:
        begun = time.monotonic()
        try:
            for letter in head("GET", "/api/about") * 9:
                connection.sendall(letter.encode())
                time.sleep(0.1)
        except OSError:
            pass
        else:
            raise AssertionError("still open")
        assert 0.3 < time.monotonic() - begun < 5
        with site.open(head("GET", "/api/about")) as again:  # answered, then silent
            assert again.recv(9) == b"HTTP/1.1 "
            while again.recv(65536):
                pass
        assert site.api.get("/api/about").status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_body_that_comes_too_slowly_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(access, "WINDOW", 0.5)
    monkeypatch.setattr(access, "LEAST", 1000)
    put = head("PUT", "/api/jobs/x/annotations", Content_Type="application/json",
               Content_Length=5000)  # fmt: skip
    with running(tmp_path) as site:
        with site.open(UPLOAD + FORM if method == "POST" else put + "{") as connection:
            stop = threading.Event()

            def drip() -> None:
                while not stop.wait(0.1):
                    try:
                        connection.sendall(b" ")
                    except OSError:
                        return

            thread = threading.Thread(target=drip)
            thread.start()
            status, body = answer(connection)
            stop.set()
            thread.join()
        assert status == 408 and "at least 1000" in body["error"]["expected"]
        assert not list(site.service.incoming.iterdir())
        with site.open(UPLOAD.replace("20000", str(20_000 + len(FORM) + 9)) + FORM) as connection:
            for _ in range(10):  # it takes longer than a window, but comes fast enough
                connection.sendall(b"x" * 2000)
                time.sleep(0.15)
            connection.sendall(b"\r\n--b--\r\n")
            assert connection.recv(12) == b"HTTP/1.1 201"


def test_one_client_holds_a_quarter_of_the_queue(tmp_path: Path) -> None:
    with running(tmp_path, queue=8) as site, ExitStack() as stack:
        opened = [stack.enter_context(site.open(UPLOAD + FORM)) for _ in range(2)]
        time.sleep(0.5)
        refused = site.api.post("/api/jobs", files={"file": ("b.mp4", b"b")})
        assert refused.status_code == 429 and "2 uploads at once" in refused.text
        opened[0].close()
        for _ in range(50):
            taken = site.api.post("/api/jobs", files={"file": ("b.mp4", b"b")})
            if taken.status_code == 201:
                break
            time.sleep(0.1)
        assert taken.status_code == 201


def test_listeners_are_bounded_in_a_burst_and_counted_no_longer_when_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "MOST", 4)
    with running(tmp_path) as site:
        with ExitStack() as stack:
            ask = head("GET", "/api/progress")
            opened = [stack.enter_context(site.open(ask)) for _ in range(30)]
            codes = [int(one.recv(12)[-3:]) for one in opened]
            assert sorted(codes) == [200] * 4 + [429] * 26
        for _ in range(100):
            if not site.service.progress._listeners:
                break
            time.sleep(0.05)
        assert not site.service.progress.full


def test_who_doesnt_read_an_answer_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MOST_OF_ONE", 4)
    with running(tmp_path) as site, ExitStack() as stack:
        id = site.done(b"x" * 30_000_000)
        site.api.close()
        for _ in range(4):
            stack.enter_context(site.open(head("GET", f"/api/jobs/{id}/media")))
            time.sleep(0.3)
        for _ in range(3):
            fresh = httpx2.get(f"http://127.0.0.1:{site.port}/api/about")
            assert fresh.status_code == 200
