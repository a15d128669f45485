"""Work in processes of their own: bounded in time and memory, and never in the way of others."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.exceptions import HTTPException

from avel.errors import DataError
from avel.web import label_import
from avel.web.bounded_process import BoundedProcess
from tests.web import process_functions
from tests.web.client import done, serving


def run(function: Callable[..., Any], *args: Any, seconds: float = 30, **more: Any) -> Any:
    return asyncio.run(
        BoundedProcess("import").run(function, *args, name="x.csv", seconds=seconds, **more)
    )


def test_what_a_function_answers_comes_back() -> None:
    assert run(process_functions.double, 21) == 42
    assert run(process_functions.take, 10, megabytes=400) == 10 * 2**20


@pytest.mark.parametrize(
    ("function", "args", "more", "message"),
    [
        (
            process_functions.sleep,
            [60],
            {"seconds": 0.5},
            "x.csv: the import took longer than 0.5 s",
        ),
        (process_functions.refuse, [], {}, "no labels"),
        (process_functions.die, [], {}, "x.csv: the process of the import died"),
        (process_functions.fail, [], {}, "x.csv: an unexpected error occurred (RuntimeError)"),
        (process_functions.lack, [], {}, "x.csv: there is no such file or folder"),
    ],
)
def test_what_goes_wrong_is_a_sentence(
    function: Any, args: list[Any], more: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError) as raised:
        run(function, *args, **more)
    assert raised.value.got == message


@pytest.mark.skipif(sys.platform != "linux", reason="no limits of memory here")
def test_memory_is_bounded() -> None:
    with pytest.raises(DataError, match="more than 100 MB"):
        run(process_functions.take, 400, megabytes=100)


def test_who_comes_while_many_wait_is_sent_away_at_once() -> None:
    async def call_all() -> list[Any]:
        processes = BoundedProcess("export", at_once=1, waiting=1)
        calls = [
            processes.run(process_functions.sleep, 0.5, name="x", seconds=30) for _ in range(5)
        ]
        return await asyncio.gather(*calls, return_exceptions=True)

    begun = time.monotonic()
    results = asyncio.run(call_all())
    refused = [e for e in results if isinstance(e, HTTPException)]
    assert [e.status_code for e in refused] == [429] * 3 and results[:2] == [None, None]
    assert refused[0].headers and int(refused[0].headers["Retry-After"]) > 0
    assert time.monotonic() - begun < 20


def test_an_end_of_the_server_ends_what_is_being_done(tmp_path: Path) -> None:
    processes, note = BoundedProcess("export"), tmp_path / "pid"

    def stop() -> None:
        while not note.is_file():
            time.sleep(0.05)
        processes.stop()

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(DataError):
        asyncio.run(processes.run(process_functions.sleep, 60, str(note), name="x", seconds=60))
    thread.join()


def test_other_requests_are_answered_while_exports_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("avel.web.exports.write_report", process_functions.export_slowly)
    with serving(tmp_path / "state") as client:
        id = done(client)
        ask = f"/api/jobs/{id}/export?format=mp4"
        with ThreadPoolExecutor(60) as pool:
            futures = [pool.submit(client.get, ask) for _ in range(60)]
            time.sleep(0.3)
            begun = time.monotonic()
            for _ in range(5):
                assert client.get("/api/jobs").status_code == 200
            assert time.monotonic() - begun < 6  # it was ten, and ten more
            codes = [future.result().status_code for future in futures]
        assert codes.count(429) >= 50
        assert not list(client.service.incoming.iterdir())  # type: ignore[attr-defined]


def test_a_label_file_that_is_too_much_is_refused_and_leaves_the_server_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_import, "SECONDS", 1.0)
    monkeypatch.setattr(label_import, "read_labels", process_functions.import_slowly)
    with serving(tmp_path / "state") as client:
        id = done(client)
        refused = client.post(f"/api/import?job={id}", files={"file": ("a.csv", b"x" * 1000)})
        assert refused.status_code == 422 and "a.csv" in refused.json()["error"]["got"]
        assert not list(client.service.incoming.iterdir())  # type: ignore[attr-defined]
