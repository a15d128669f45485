"""A fuzzer that reads /openapi.json finds no error of the server's, and no undescribed answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from avel.types import Event
from avel.web.app import create_app
from avel.web.desk import Desk, Limits
from avel.web.kept import save_pictures, save_result
from avel.web.roots import named_roots
from avel.web.store import Job
from tests import web_work
from tests.report_samples import hand_timeline

schemathesis: Any = pytest.importorskip("schemathesis")
DONE = "0123456789abcdef"


def finished(desk: Desk) -> None:
    """Put a job that is done onto a desk, with a correction."""
    job = Job(DONE, "street.mp4", "default", "media.mp4", 3)
    folder = desk.folder_of(job)
    folder.mkdir()
    (folder / "media.mp4").write_bytes(b"abc")
    desk.store.add(job)
    desk.store.take()
    found = hand_timeline("street.mp4", web_work.LABELS)
    save_pictures(folder, [], b"")
    save_result(folder, found)
    facts = {"duration": found.duration, "events": len(found), "has_video": True, "notes": []}
    desk.store.finish(DONE, "done", facts=facts)
    desk.store.correct(DONE, 0, (Event(1, 2, "gate"),))


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Any]:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"a video")
    desk = Desk(
        tmp_path / "state", web_work.start, roots=named_roots([tmp_path / "videos"]),
        data=tmp_path / "data", limits=Limits(queue=1000),
    )  # fmt: skip
    desk.load()
    finished(desk)
    app = create_app(desk, hosts=("testserver",))
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)

    @schema.hook
    def map_path_parameters(context: Any, path_parameters: dict[str, Any]) -> dict[str, Any]:
        """Requests that delete or begin again are aimed at no job; the others at the one done."""
        harmless = context.operation.method.lower() in ("get", "put")
        return path_parameters | ({"id": DONE} if harmless and "id" in path_parameters else {})

    yield schema


lazy = schemathesis.pytest.from_fixture("api")
CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance",
          "response_schema_conformance")  # fmt: skip


def check(case: Any) -> None:
    case.call_and_validate(checks=[getattr(schemathesis.checks, name) for name in CHECKS])


@lazy.parametrize()
@settings(max_examples=4, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_few_requests_of_every_kind(case: Any) -> None:
    check(case)


@pytest.mark.slow
@lazy.parametrize()
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_many_requests_of_every_kind(case: Any) -> None:
    check(case)
