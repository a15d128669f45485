"""`avel serve` under 100 uploads, 8 at once, one in ten damaged, killed once in the middle.

    python benchmarks/serve.py                  # Toybox clips, rendered
    python benchmarks/serve.py *.mp4            # videos of one's own

A client that loses its answer sends the request again under the same key, as the page does. Counted
are jobs that were answered for, lost and doubled, and the memory of the server and its worker after
the first jobs that follow a start, and after the last ones.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import requests
from common import RESULTS, machine, write_csv

from avel.data.toybox.dataset import ToyboxPlan, render_clip

PATIENCE = 3600.0  # seconds that a client goes on trying
#: Memory counts from this job after a start on: models and decoders have been loaded by then.
WARM = 10


class Server:
    """`avel serve` in a process of its own, at one address through all its lives."""

    def __init__(self, state: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._command = [sys.executable, "-m", "avel", "serve", "--state", str(state), "--port",
                         str(port), "--queue", "40", "--no-cache"]  # fmt: skip
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            raise SystemExit("the server didn't start")

    def kill(self) -> None:
        """As a crash does: no goodbye."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        self._process.wait(60)

    def memory(self) -> tuple[float, float]:
        """MB of the server, and of all its children together."""
        assert self._process is not None
        own = psutil.Process(self._process.pid)
        children = sum(c.memory_info().rss for c in own.children(recursive=True))
        return own.memory_info().rss / 2**20, children / 2**20


def patiently(ask: Callable[[], requests.Response]) -> requests.Response:
    """An answer, asked for again while the server is gone or its queue is full."""
    ends = time.monotonic() + PATIENCE
    while True:
        try:
            answer = ask()
            if answer.status_code != 429:
                return answer
        except requests.RequestException:
            pass
        if time.monotonic() > ends:
            raise SystemExit("no answer")
        time.sleep(0.5)


def upload(url: str, number: int, name: str, content: bytes) -> str:
    """Send a file until it is answered for; the job's id."""
    key = {"Idempotency-Key": f"upload-{number}"}
    answer = patiently(
        lambda: requests.post(
            f"{url}/api/jobs", files={"file": (name, content)}, headers=key, timeout=60
        )
    )
    if answer.status_code != 201:
        raise SystemExit(f"{name}: {answer.status_code} {answer.text}")
    return str(answer.json()["id"])


def listed(url: str) -> list[dict[str, Any]]:
    """All jobs."""
    answer = patiently(lambda: requests.get(f"{url}/api/jobs?limit=200", timeout=60))
    jobs: list[dict[str, Any]] = answer.json()["jobs"]
    return jobs


def ended(jobs: list[dict[str, Any]]) -> int:
    return sum(job["state"] in ("done", "failed", "cancelled") for job in jobs)


def damaged(content: bytes, number: int) -> bytes:
    """The file cut off within its header, or with a stretch of noise, or no media at all."""
    if number % 3 == 0:
        return content[:40]
    noise = bytes((i * 7919) % 256 for i in range(3000))
    return noise if number % 3 == 1 else noise + content[3000:]


def watch(server: Server, seen: list[tuple[int, float, float]], stop: threading.Event) -> None:
    """Note memory with how many jobs have ended."""
    while not stop.wait(0.5):
        try:
            count = ended(
                requests.get(f"{server.url}/api/jobs?limit=200", timeout=5).json()["jobs"]
            )
            seen.append((count, *server.memory()))
        except (requests.RequestException, psutil.Error):
            continue


def run(clips: list[bytes], given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Send all, kill once, wait for the end; a row of results."""
    server = Server(folder / "state", given.port)
    server.start()
    seen: list[tuple[int, float, float]] = []
    stop = threading.Event()
    watcher = threading.Thread(target=watch, args=(server, seen, stop))
    watcher.start()
    try:
        return drive(server, clips, given, seen)
    finally:
        stop.set()
        watcher.join()
        server.stop()


def drive(
    server: Server,
    clips: list[bytes],
    given: argparse.Namespace,
    seen: list[tuple[int, float, float]],
) -> dict[str, Any]:
    """Send all to a running server; ``seen`` is what :func:`watch` notes meanwhile."""
    begun = time.monotonic()
    bad = {n for n in range(given.uploads) if n % 10 == 7}
    with ThreadPoolExecutor(given.at_once) as pool:
        ids = [
            pool.submit(
                upload, server.url, n, f"{'bad' if n in bad else 'clip'}-{n}.mp4",
                damaged(clips[n % len(clips)], n // 10) if n in bad else clips[n % len(clips)],
            )
            for n in range(given.uploads)
        ]  # fmt: skip
        while ended(listed(server.url)) < given.uploads // 2:
            time.sleep(0.2)
        server.kill()
        killed_at = len(seen)
        time.sleep(1)
        server.start()
        answered = [future.result() for future in ids]
    while ended(listed(server.url)) < given.uploads:
        time.sleep(0.5)
    seconds = time.monotonic() - begun
    return judged(server.url, answered, bad, seen[killed_at:]) | {"seconds": f"{seconds:.0f}"}


def judged(
    url: str, answered: list[str], bad: set[int], seen: list[tuple[int, float, float]]
) -> dict[str, Any]:
    """What became of the jobs, and of the memory since the second start."""
    jobs = listed(url)
    states = Counter(job["state"] for job in jobs)
    there = {job["id"]: job for job in jobs}
    names = Counter(job["name"] for job in jobs)
    whole = [there[i] for n, i in enumerate(answered) if n not in bad and i in there]
    timelines = sum(
        requests.get(f"{url}/api/jobs/{job['id']}/timeline", timeout=60).ok
        for job in whole if job["state"] == "done"
    )  # fmt: skip
    unexplained = sum(job["state"] == "failed" and not job["error"]["hint"] for job in jobs)
    first = seen[0][0]
    warm = [s for s in seen if s[0] >= first + WARM] or seen
    early, late = warm[: max(1, len(warm) // 5)], warm[-max(1, len(warm) // 5) :]
    mean = lambda rows, k: sum(r[k] for r in rows) / len(rows)  # noqa: E731
    return {
        "what": "avel serve, killed once",
        "uploads": len(answered),
        "damaged": len(bad),
        "done": states["done"],
        "failed": states["failed"],
        "results": timelines,
        "lost": sum(i not in there for i in answered) + states["running"] + states["queued"],
        "doubled": len(jobs) - len(set(names)),
        "unexplained": unexplained,
        "server_mb_first": f"{mean(early, 1):.0f}",
        "server_mb_last": f"{mean(late, 1):.0f}",
        "worker_mb_first": f"{mean(early, 2):.0f}",
        "worker_mb_last": f"{mean(late, 2):.0f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path, nargs="*", help="videos; Toybox clips by default")
    parser.add_argument("--uploads", type=int, default=100)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--port", type=int, default=8329)
    parser.add_argument("--csv", type=Path, default=RESULTS / "serve.csv")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["AVEL_CACHE"] = str(folder / "cache")
        paths = given.clips
        if not paths:
            names = [
                render_clip(ToyboxPlan(seed=1_000_000_001, seconds=5), i, folder) for i in range(5)
            ]
            paths = [folder / "videos" / f"{name}.mp4" for name in names]
        row = run([path.read_bytes() for path in paths], given, folder)
    write_csv(given.csv, [row | machine()], beside=True)
    right = row["lost"] == row["doubled"] == row["unexplained"] == 0
    right &= row["results"] == row["uploads"] - row["damaged"]
    print("all answered for" if right else "NOT ALL ANSWERED FOR")


if __name__ == "__main__":
    main()
