"""`avel serve` among slow, silent and greedy clients, with its tables locked and on a full disk.

    python benchmarks/serve_clients.py

Each scene has a server of its own and takes minutes at most. Those who do harm come from
127.0.0.1, the one who is to be served from 127.0.0.2 (Linux). The full disk needs the right to
mount a tmpfs.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import socket
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import requests
from common import RESULTS, given_or_toybox, machine, write_csv
from requests.adapters import HTTPAdapter
from serve import Server
from trouble import disk, fill

Row = tuple[str, float | str, str]
HEAD = (
    "POST /api/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n"
    "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    '--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
)


class Other(HTTPAdapter):
    """Requests from another address of this machine."""

    def init_poolmanager(self, *given: Any, **more: Any) -> None:
        super().init_poolmanager(*given, **more, source_address=("127.0.0.2", 0))


class Site:
    """A server, and one who is to be served by it."""

    def __init__(self, server: Server, clip: bytes, state: Path) -> None:
        self.server, self.clip, self.state = server, clip, state
        self.url, self.port = server.url, int(server.url.rpartition(":")[2])
        self.friend = requests.Session()
        self.friend.mount("http://", Other())

    def upload(self, name: str = "clip.mp4", by: Any = requests) -> requests.Response:
        files = {"file": (name, self.clip)}
        answer: requests.Response = by.post(f"{self.url}/api/jobs", files=files, timeout=60)
        return answer

    def job(self, id: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.friend.get(f"{self.url}/api/jobs/{id}", timeout=60).json()
        return answer

    def done(self, *, name: str = "clip.mp4", seconds: float = 60) -> str:
        """The id of a job that is done."""
        id = str(self.upload(name).json()["id"])
        if not self.ends([id], seconds):
            raise SystemExit(f"not done: {self.job(id)}")
        return id

    def ends(self, ids: list[str], seconds: float) -> int:
        """How many of some jobs are done within so many seconds."""
        until = time.monotonic() + seconds
        while True:
            count = sum(self.job(id)["state"] == "done" for id in ids)
            if count == len(ids) or time.monotonic() > until:
                return count
            time.sleep(0.3)

    def open(self, text: str) -> socket.socket:
        """A connection of one who does harm."""
        made = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        made.sendall(text.encode())
        return made

    def slowest(self, seconds: float, stop: Callable[[], bool]) -> float:
        """Seconds of the slowest answer to somebody who asks for the list again and again."""
        worst, until = 0.0, time.monotonic() + seconds
        while time.monotonic() < until and not stop():
            begun = time.monotonic()
            self.friend.get(f"{self.url}/api/jobs", timeout=120)
            worst = max(worst, time.monotonic() - begun)
            time.sleep(0.1)
        return worst


def silent(site: Site) -> Iterator[Row]:
    """300 connections that say nothing."""
    with ExitStack() as held:
        for _ in range(300):
            held.enter_context(site.open(""))
        time.sleep(1)
        answers = [site.friend.get(f"{site.url}/api/about", timeout=60) for _ in range(5)]
        yield "300 silent connections: others answered", sum(a.ok for a in answers) / 5, "share"


def slow(site: Site) -> Iterator[Row]:
    """40 uploads of a byte every 5 s: as many as may wait."""
    with ExitStack() as held:
        drips = [held.enter_context(site.open(HEAD)) for _ in range(40)]
        stop = threading.Event()
        threading.Thread(target=_drip, args=(drips, stop), daemon=True).start()
        time.sleep(2)
        begun, code = time.monotonic(), 0
        while time.monotonic() < begun + 50:
            code = site.upload(by=site.friend).status_code
            if code == 201:
                break
            time.sleep(1)
        stop.set()
    waited = round(time.monotonic() - begun, 1)
    yield "40 slow uploads: another's taken after", waited if code == 201 else "not in 50", "s"


def _drip(drips: list[socket.socket], stop: threading.Event) -> None:
    while not stop.wait(5):
        for one in drips:
            with suppress(OSError):
                one.sendall(b"x")


def listeners(site: Site) -> Iterator[Row]:
    """A burst of 200 who want to listen; 64 may."""
    ask = "GET /api/progress HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with ExitStack() as held:
        burst = [held.enter_context(site.open(ask)) for _ in range(120)]
        codes = []
        for one in burst:
            with suppress(OSError):
                codes.append(one.recv(12)[-3:])
        yield "burst of 120 listeners: let in (limit 64)", codes.count(b"200"), ""


def exports(site: Site) -> Iterator[Row]:
    """60 copies of a video at once."""
    id = site.done()
    ask = f"{site.url}/api/jobs/{id}/export?format=mp4"
    with ThreadPoolExecutor(60) as pool:
        asked = [pool.submit(requests.get, ask, timeout=120) for _ in range(60)]
        time.sleep(0.5)
        over = lambda: all(f.done() for f in asked)  # noqa: E731
        yield "60 mp4 exports: slowest other answer", round(site.slowest(40, over), 2), "s"


def imports(site: Site) -> Iterator[Row]:
    """Four label files of 15 MB at once."""
    id = site.done()
    url = f"{site.url}/api/import?job={id}"
    rows = "".join(f"{k % 9}.5,{k % 9}.75,label number {k}\n" for k in range(450_000))
    table = ("start,end,label\n" + rows)[: 15 * 10**6].rpartition("\n")[0].encode()
    peak, stop = [0.0], threading.Event()
    watcher = threading.Thread(target=_watch, args=(site.server, peak, stop))
    watcher.start()
    with ThreadPoolExecutor(4) as pool:
        asked = [
            pool.submit(requests.post, url, files={"file": ("a.csv", table)}, timeout=300)
            for _ in range(4)
        ]
        over = lambda: all(f.done() for f in asked)  # noqa: E731
        worst = site.slowest(240, over)
    stop.set()
    watcher.join()
    yield "four label files of 15 MB: the server's own peak", round(peak[0]), "MB"
    yield "four label files of 15 MB: slowest other answer", round(worst, 2), "s"
    classes = [f"class {k}" for k in range(60_000)]
    events = [{"start": k / 100, "end": k / 100 + 0.01, "label": classes[-1 - k % 999], "score": 1}
              for k in range(80_000)]  # fmt: skip
    held = {"video": "a", "duration": 900, "step": None, "classes": classes, "segments": [],
            "events": events, "model": {}, "notes": []}  # fmt: skip
    begun = time.monotonic()
    with suppress(requests.RequestException):
        requests.post(url, files={"file": ("a.json", json.dumps(held).encode())}, timeout=90)
    yield "a label file of 60 000 classes: answered in", round(time.monotonic() - begun, 1), "s"


def _watch(server: Server, peak: list[float], stop: threading.Event) -> None:
    while not stop.wait(0.1):
        with suppress(psutil.Error):
            peak[0] = max(peak[0], server.memory()[0])


def locked(site: Site) -> Iterator[Row]:
    """Another program locks the tables for 9 s."""
    site.done()
    other = sqlite3.connect(site.state / "jobs.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    ends = time.monotonic() + 9
    taken, refused = list[str](), 0
    time.sleep(2)
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(site.upload, f"{k}.mp4") for k in range(4)]
        time.sleep(max(0.0, ends - time.monotonic()))
        other.execute("ROLLBACK")
        for future in asked:
            answer = future.result()
            if answer.status_code == 201:
                taken.append(answer.json()["id"])
            refused += answer.status_code != 201
    other.close()
    taken.append(site.upload("later.mp4").json()["id"])
    yield "tables locked for 9 s: taken in", len(taken), "jobs"
    yield "tables locked for 9 s: of these done 40 s later", site.ends(taken, 40), "jobs"
    yield "tables locked for 9 s: refused with a cause", refused, "requests"


def full(site: Site) -> Iterator[Row]:
    """The disk of the state folder is full."""
    ids = [site.done(name=f"{k}.mp4") for k in range(2)]
    fill(site.state, 0)
    body = {"revision": 0, "events": [{"start": 0, "end": 1, "label": "x" * 100}] * 2000}
    place = f"{site.url}/api/jobs/{ids[0]}"
    other = f"{site.url}/api/jobs/{ids[1]}/annotations"
    nothing = {"revision": 0, "events": []}
    put, delete = site.friend.put, site.friend.delete
    for what, ask in (
        ("PUT of a correction", lambda: put(f"{place}/annotations", json=body, timeout=60)),
        ("upload", site.upload),
        ("DELETE", lambda: delete(place, timeout=60)),
        ("PUT after the DELETE", lambda: put(other, json=nothing, timeout=60)),
    ):
        try:
            yield f"full disk: {what}", ask().status_code, "status"
        except requests.RequestException as e:
            yield f"full disk: {what}", type(e).__name__, "status"


SCENES: dict[str, Callable[[Site], Iterator[Row]]] = {
    "silent": silent, "slow": slow, "listeners": listeners, "exports": exports,
    "imports": imports, "locked": locked, "full": full,
}  # fmt: skip


@contextmanager
def site(folder: Path, clip: bytes, port: int) -> Iterator[Site]:
    server = Server(folder, port)
    server.start()
    try:
        yield Site(server, clip, folder)
    finally:
        server.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scene", choices=SCENES, action="append")
    parser.add_argument("--port", type=int, default=8339)
    parser.add_argument("--label", default="now", help="what the rows are called")
    parser.add_argument("--csv", type=Path, default=RESULTS / "serve_clients.csv")
    given = parser.parse_args()
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["AVEL_CACHE"] = str(folder / "cache")
        clip = given_or_toybox(None, folder, seconds=5)[0].read_bytes()
        for number, name in enumerate(given.scene or SCENES):
            with ExitStack() as stack:
                state = folder / name
                if name == "full":
                    if os.getuid():
                        print("full: left out, needs the right to mount", file=sys.stderr)
                        continue
                    state = stack.enter_context(disk(state, kilobytes=8000)) / "state"
                held = stack.enter_context(site(state, clip, given.port + number))
                for row in SCENES[name](held):
                    print(*row, flush=True)
                    found.append(row)
    before: dict[str, dict[str, Any]] = {}
    if given.csv.is_file():
        with given.csv.open(newline="") as f:
            before = {row["what"]: row for row in csv.DictReader(f)}
    for what, value, unit in found:
        row = before.setdefault(what, {"what": what, "unit": unit, "before": "", "now": ""})
        row[given.label] = value
        row |= machine()
    write_csv(given.csv, list(before.values()))


if __name__ == "__main__":
    main()
