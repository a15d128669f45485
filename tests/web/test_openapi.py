"""A fuzzer that reads /openapi.json finds no error of the server's, and no undescribed answer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable

from avel.types import Event
from avel.web.app import create_app
from avel.web.job_folder import save_pictures, save_result
from avel.web.jobs import JobService, Limits
from avel.web.roots import named_roots
from avel.web.store import Job
from tests.report_samples import hand_timeline
from tests.web import fake_worker

schemathesis: Any = pytest.importorskip("schemathesis")
pytestmark = pytest.mark.slow
DONE = "0123456789abcdef"


def finished(service: JobService) -> None:
    """Put a job that is done onto a service, with a correction."""
    job = Job(DONE, "street.mp4", "default", "media.mp4", 3)
    folder = service.folder_of(job)
    folder.mkdir()
    (folder / "media.mp4").write_bytes(b"abc")
    service.store.add(job)
    service.store.take()
    timeline = hand_timeline("street.mp4", fake_worker.LABELS)
    save_pictures(folder, [], b"")
    save_result(folder, timeline)
    facts = {"duration": timeline.duration, "events": len(timeline), "has_video": True, "notes": []}
    service.store.finish(DONE, "done", facts=facts)
    service.store.correct(DONE, 0, (Event(1, 2, "gate"),))


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Any]:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"a video")
    service = JobService(
        tmp_path / "state", fake_worker.start, roots=named_roots([tmp_path / "videos"]),
        data=tmp_path / "data", limits=Limits(queue=1000),
    )  # fmt: skip
    service.load()
    finished(service)
    app = create_app(service, hosts=("testserver",))
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)

    @schema.hook
    def map_path_parameters(context: Any, path_parameters: Any) -> Any:
        """Requests that delete or begin again are aimed at no job; the others at the one done."""
        harmless = context.operation.method.lower() in ("get", "put")
        if not harmless or not path_parameters or "id" not in path_parameters:
            return path_parameters
        return path_parameters | {"id": DONE}

    yield schema


CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance",
          "response_schema_conformance")  # fmt: skip


def fuzz(api: Any, *, each: int, **options: Any) -> set[tuple[str, str, int]]:
    """Send requests that fit the schema, and others, to every address; what was answered."""
    seen: set[tuple[str, str, int]] = set()
    configured = settings(
        max_examples=each, deadline=None, database=None,
        suppress_health_check=list(HealthCheck), **options,
    )  # fmt: skip
    for result in api.get_all_operations():
        for mode in schemathesis.GenerationMode:
            operation = result.ok()
            send = sender(operation.label, seen)
            cases = operation.as_strategy(generation_mode=mode)
            with contextlib.suppress(Unsatisfiable):
                configured(given(case=cases)(send))()
    return seen


def sender(label: str, seen: set[tuple[str, str, int]]) -> Any:
    """What sends one request, and checks its answer."""
    checks = [getattr(schemathesis.checks, name) for name in CHECKS]
    method, path = label.split()

    def send(case: Any) -> None:
        answer = case.call_and_validate(checks=checks)
        seen.add((method, path, answer.status_code))

    return send


def test_no_request_brings_an_error_of_the_servers(api: Any) -> None:
    seen = fuzz(api, each=15)
    assert {path for _, path, _ in seen} == set(api.raw_schema["paths"])
    answered = {path for _, path, status in seen if status < 300}
    assert {"/api/about", "/api/jobs", "/api/jobs/{id}/timeline"} <= answered
