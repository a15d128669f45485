"""A server of tests, in this process, and what its tests ask of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from avel.web.app import create_app
from avel.web.jobs import JobService, Limits
from avel.web.roots import named_roots
from avel.web.training import TrainingOptions
from tests.web import fake_worker

HOST = "http://127.0.0.1"
GATE = {"start": 0.5, "end": 2.25, "label": "gate", "score": 1.0}


@contextmanager
def serving(
    folder: Path,
    *,
    start: Any = fake_worker.start,
    roots: list[Path] | None = None,
    data: Path | None = None,
    limits: Limits = Limits(),  # noqa: B008
    token: str | None = None,
    training: TrainingOptions | None = None,
    **options: Any,
) -> Iterator[TestClient]:
    """A client of a server whose service is ``client.service``; its work is done in a process."""
    service = JobService(
        folder, start, roots=named_roots(roots or []), data=data, limits=limits, training=training
    )
    service.load()
    app = create_app(service, token=token, **options)
    with TestClient(app, base_url=HOST, raise_server_exceptions=True) as client:
        client.service = service  # type: ignore[attr-defined]
        yield client


def send(client: TestClient, name: str = "street.mp4", content: bytes = b"x", **more: Any) -> Any:
    """Upload a file."""
    return client.post("/api/jobs", files={"file": (name, content)}, **more)


def ended(client: TestClient, id: str, *, seconds: float = 30) -> dict[str, Any]:
    """The job once it neither waits nor runs."""
    return until(client, id, {"done", "failed", "cancelled"}, seconds=seconds)


def until(client: TestClient, id: str, states: set[str], *, seconds: float = 30) -> dict[str, Any]:
    """The job once it is in one of some states."""
    for _ in range(round(seconds * 20)):
        job: dict[str, Any] = client.get(f"/api/jobs/{id}").json()
        if job["state"] in states:
            return job
        time.sleep(0.05)
    raise AssertionError(f"still {job['state']} after {seconds} s")


def done(client: TestClient, name: str = "street.mp4", content: bytes = b"x") -> str:
    """The id of a job that is done."""
    id = send(client, name, content).json()["id"]
    job = ended(client, id)
    assert job["state"] == "done", job
    return str(id)


def put(client: TestClient, id: str, revision: int, *events: dict[str, Any]) -> Any:
    """Save a job's events."""
    body = {"revision": revision, "events": list(events)}
    return client.put(f"/api/jobs/{id}/annotations", json=body)


def corrected(client: TestClient, count: int, *, label: str = "gate") -> list[str]:
    """The ids of new jobs, each with a correction."""
    ids = [done(client, f"{k}.mp4", f"file {k}".encode()) for k in range(count)]
    for id in ids:
        revision = client.get(f"/api/jobs/{id}/annotations").json()["revision"]
        body = {"revision": revision, "events": [{"start": 1, "end": 2, "label": label}]}
        client.put(f"/api/jobs/{id}/annotations", json=body).raise_for_status()
    return ids


def training_ended(client: TestClient, *, seconds: float = 60) -> dict[str, Any]:
    """The training once it no longer runs."""
    for _ in range(round(seconds * 20)):
        training: dict[str, Any] = client.get("/api/training").json()
        if training["state"] != "running":
            return training
        time.sleep(0.05)
    raise AssertionError(f"still {training} after {seconds} s")
