"""Jobs of `avel serve`: uploads and their limits, the queue, cancelling, damage, restarts."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from avel.errors import CheckpointError, DataError
from avel.web.jobs import JobService, Limits
from avel.web.store import MOST_TRIES, RESERVE, Job, Store, StoreError
from tests.web import fake_worker
from tests.web.client import done, ended, send, serving, until


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    limits = Limits(upload_bytes=50_000, queue=4, total_bytes=10**6)
    with serving(tmp_path_factory.mktemp("state"), limits=limits) as client:
        yield client


def test_an_upload_becomes_a_job_that_is_done(client: TestClient) -> None:
    answer = send(client, "my street.mp4", b"x" * 1000)
    assert answer.status_code == 201
    job = ended(client, answer.json()["id"])
    assert job["state"] == "done" and job["error"] is None and job["progress"] is None
    assert (job["name"], job["size"], job["model"]) == ("my street.mp4", 1000, "default")
    assert (job["duration"], job["events"], job["has_video"], job["has_audio"]) == (
        6,
        2,
        True,
        True,
    )
    assert job["notes"] == ["picture: 2 packets couldn't be decoded"] and not job["corrected"]
    listed = client.get("/api/jobs").json()
    assert listed["jobs"][0]["id"] == job["id"] and listed["total"] >= 1


def test_models_are_chosen_by_name(client: TestClient) -> None:
    answer = send(client, data={"model": "other"})
    assert ended(client, answer.json()["id"])["model"] == "other"
    refused = send(client, data={"model": "none"})
    assert refused.status_code == 422 and "default, other" in refused.json()["error"]["expected"]


def test_a_damaged_file_says_what_is_wrong_by_its_own_name(client: TestClient) -> None:
    job = ended(client, send(client, "broken.mp4", b"damaged").json()["id"])
    assert job["state"] == "failed"
    assert job["error"] == {
        "got": "broken.mp4: isn't a media file", "expected": "one", "hint": "convert it"
    }  # fmt: skip
    assert client.get(f"/api/jobs/{job['id']}/timeline").status_code == 409


@pytest.mark.parametrize(("content", "message"), [(b"dies", "SIGKILL"), (b"bug", "RuntimeError")])
def test_what_kills_the_worker_fails_alone(
    client: TestClient, content: bytes, message: str
) -> None:
    job = ended(client, send(client, "hard.mp4", content).json()["id"])
    assert job["state"] == "failed" and message in job["error"]["got"]
    assert done(client)


def test_a_file_of_too_many_bytes_ends_while_it_comes(client: TestClient) -> None:
    service = client.service  # type: ignore[attr-defined]
    before = client.get("/api/jobs").json()["total"]
    for large in (50_001, 500_000):
        answer = send(client, "large.mp4", b"x" * large)
        assert answer.status_code == 413 and "at most 0.05 MB" in answer.json()["error"]["expected"]
    boundary = {"Content-Type": "multipart/form-data; boundary=b"}
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
    chunks = (head, *(b"x" * 10_000 for _ in range(1000)))
    answer = client.post("/api/jobs", content=iter(chunks), headers=boundary)
    assert answer.status_code == 413  # though no header received its length
    assert client.get("/api/jobs").json()["total"] == before
    assert not list(service.incoming.iterdir())


def test_a_file_of_just_as_many_bytes_is_taken(client: TestClient) -> None:
    assert send(client, "just.mp4", b"x" * 50_000).status_code == 201


FORM = b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
FILE = FORM % (b"file", b'; filename="a.mp4"', b"x")


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/json", b"{}", 415),
        ("multipart/form-data", b"", 415),
        ("multipart/form-data; boundary=b", b"", 400),
        ("multipart/form-data; boundary=b", b"\0\xff" * 99, 400),
        ("multipart/form-data; boundary=b", FILE, 400),  # without its end
        ("multipart/form-data; boundary=b", FORM % (b"file", b"", b"x") + b"--b--\r\n", 422),
        ("multipart/form-data; boundary=b", FILE * 2 + b"--b--\r\n", 422),
        ("multipart/form-data; boundary=b", FORM % (b"a", b"", b"x" * 2000) + b"--b--\r\n", 422),
        ("multipart/form-data; boundary=b", FORM % (b"a", b"", b"x") * 50 + b"--b--\r\n", 422),
        ("multipart/form-data; boundary=b", FORM % (b"a", b"x" * 5000, b"") + b"--b--\r\n", 400),
    ],
)
def test_broken_forms_are_refused(client: TestClient, kind: str, body: bytes, status: int) -> None:
    answer = client.post("/api/jobs", content=body, headers={"Content-Type": kind})
    assert answer.status_code == status and set(answer.json()["error"]) == {
        "got",
        "expected",
        "hint",
    }
    assert not list(client.service.incoming.iterdir())  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\videos\\a.mp4", "a.mp4"),
        ("<img src=x onerror=alert(1)>.mp4", "<img src=x onerror=alert(1)>.mp4"),
        ("a\x07b\u202e4pm.exe", "ab4pm.exe"),
        ("..", "upload"),
        ("x" * 300 + ".mp4", "x" * 196 + ".mp4"),
        ("Straße 日本.mp4", "Straße 日本.mp4"),
    ],
)
def test_names_are_text_and_never_paths(client: TestClient, name: str, shown: str) -> None:
    from avel.web.uploads import plain_name

    assert plain_name(name) == shown
    job = send(client, name).json()
    assert job["name"] == plain_name(job["name"])
    ended(client, job["id"])
    folder = client.service.folder / "jobs" / job["id"]  # type: ignore[attr-defined]
    assert {p.name for p in folder.iterdir() if p.name.startswith("media")} <= {
        "media.mp4", "media.bin"
    }  # fmt: skip


def test_the_queue_is_bounded_and_in_order(client: TestClient) -> None:
    slow = send(client, content=b"slow").json()["id"]
    until(client, slow, {"running"})
    waiting = [send(client).json()["id"] for _ in range(4)]
    full = send(client)
    assert full.status_code == 429 and int(full.headers["retry-after"]) > 0
    places = [client.get(f"/api/jobs/{id}").json()["position"] for id in waiting]
    assert places == [1, 2, 3, 4]
    assert client.post(f"/api/jobs/{waiting[0]}/cancel").json()["state"] == "cancelled"
    assert client.get(f"/api/jobs/{waiting[1]}").json()["position"] == 1
    assert client.post(f"/api/jobs/{slow}/cancel").json()["state"] == "cancelled"
    assert [ended(client, id)["state"] for id in waiting] == ["cancelled", "done", "done", "done"]
    assert client.get(f"/api/jobs/{slow}").json()["state"] == "cancelled"
    assert client.post(f"/api/jobs/{slow}/cancel").status_code == 409


def test_progress_and_what_is_left_are_told(client: TestClient) -> None:
    id = send(client, content=b"slow").json()["id"]
    until(client, id, {"running"})
    for _ in range(100):
        progress = client.get(f"/api/jobs/{id}").json()["progress"]
        if progress and progress["seconds_left"]:
            break
        threading.Event().wait(0.1)
    assert 0 < progress["done"] < progress["total"] == 200
    assert 5 < progress["seconds_left"] < 60  # it takes 20
    assert client.delete(f"/api/jobs/{id}").status_code == 204
    assert client.get(f"/api/jobs/{id}").status_code == 404
    folder = client.service.folder / "jobs" / id  # type: ignore[attr-defined]
    for _ in range(100):
        if not folder.exists():
            return
        threading.Event().wait(0.05)
    raise AssertionError("the folder of a deleted job stays")


def test_retry_takes_another_model_and_keeps_the_file(client: TestClient) -> None:
    id = done(client)
    again = client.post(f"/api/jobs/{id}/retry", json={"model": "other"})
    assert again.status_code == 200 and again.json()["model"] == "other"
    assert ended(client, id)["state"] == "done"
    assert client.post(f"/api/jobs/{id}/retry", json={"model": "none"}).status_code == 422
    assert client.post(f"/api/jobs/{id}/retry").json()["model"] == "other"
    assert ended(client, id)["state"] == "done"
    assert client.post("/api/jobs/none/retry").status_code == 404


def test_a_repeated_request_makes_no_second_job(client: TestClient) -> None:
    key = {"Idempotency-Key": "7c9"}
    first, second = (send(client, headers=key).json()["id"] for _ in range(2))
    assert first == second and send(client).json()["id"] != first


def test_all_uploads_together_are_bounded(tmp_path: Path) -> None:
    with serving(tmp_path / "state", limits=Limits(total_bytes=2500)) as client:
        id = send(client, content=b"x" * 2000).json()["id"]
        assert send(client, content=b"x" * 2000).status_code == 507
        client.delete(f"/api/jobs/{id}")
        assert send(client, content=b"x" * 2000).status_code == 201


@contextmanager
def unwritable(client: TestClient, how: str) -> Iterator[None]:
    """The list of jobs while another program has locked it, or the disk is full."""
    store = client.service.store  # type: ignore[attr-defined]
    store._patience = 0.2
    store._db.execute("PRAGMA busy_timeout=200")
    if how == "locked":
        other = sqlite3.connect(client.service.folder / "jobs.sqlite", isolation_level=None)  # type: ignore[attr-defined]
        other.execute("BEGIN IMMEDIATE")
        yield
        other.close()
    else:
        store._db.execute("PRAGMA max_page_count=1")  # as many as there are already
        yield
        store._db.execute("PRAGMA max_page_count=100000")


@pytest.mark.parametrize(
    ("how", "status", "message"), [("locked", 503, "locked"), ("full", 507, "full")]
)
def test_jobs_go_on_once_the_list_of_jobs_can_be_written_again(
    tmp_path: Path, how: str, status: int, message: str
) -> None:
    with serving(tmp_path / "state") as client:
        running = send(client, content=b"slow").json()["id"]
        until(client, running, {"running"})
        waiting = [send(client).json()["id"] for _ in range(2)]
        with unwritable(client, how):
            filler = [send(client, "x" * 190) for _ in range(60 if how == "full" else 1)]
            assert filler[-1].status_code == status, filler[-1].text
            assert (
                message in filler[-1].json()["error"]["got"] and filler[-1].json()["error"]["hint"]
            )
            client.service.workers.cancel(running)  # type: ignore[attr-defined]  # the next one is due
            for _ in range(100):
                troubles = client.get("/api/jobs").json()["troubles"]
                if troubles:
                    break
                time.sleep(0.1)
            assert message in troubles[0]["got"]
            time.sleep(1.5)  # it tries again, and again
        taken = [answer.json()["id"] for answer in filler if answer.status_code == 201]
        for id in [*waiting, *taken, done(client)]:
            assert ended(client, id)["state"] == "done"
        assert client.get("/api/jobs").json()["troubles"] == []


def test_a_result_waits_until_it_can_be_noted(tmp_path: Path) -> None:
    with serving(tmp_path / "state") as client:
        pool, store = client.service.workers, client.service.store  # type: ignore[attr-defined]
        finish = store.finish
        left = [StoreError("locked"), StoreError("locked"), StoreError("locked")]

        def refusing(*args: Any, **more: Any) -> bool:
            if left:
                raise left.pop()
            return bool(finish(*args, **more))

        store.finish = refusing
        id = send(client).json()["id"]
        job = ended(client, id)
        assert job["state"] == "done" and not left and job["events"] == 2
        store.finish = finish

        def broken(job: Job) -> Any:
            raise RuntimeError("a bug")

        describe, pool._describe = pool._describe, broken
        failed = ended(client, send(client).json()["id"])
        assert failed["state"] == "failed" and "RuntimeError" in failed["error"]["got"]
        pool._describe = describe
        assert done(client)


def test_a_change_that_failed_leaves_no_transaction_open(tmp_path: Path) -> None:
    store = Store(tmp_path / "jobs.sqlite")
    with pytest.raises(StoreError), store._change() as db:
        db.execute("no such statement")
    with pytest.raises(ZeroDivisionError), store._change() as db:
        db.execute("DELETE FROM jobs")
        raise ZeroDivisionError
    store.add(Job("a1", "a.mp4", "default", "media.mp4", 1))
    assert store.queue() == ["a1"]
    other = sqlite3.connect(tmp_path / "jobs.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store._db.execute("PRAGMA busy_timeout=100")
    begun = time.monotonic()
    assert store.queue() == ["a1"] and store.get("a1") is not None  # reading doesn't wait
    assert time.monotonic() - begun < 0.05
    with pytest.raises(StoreError, match="locked"):
        store.delete("a1")
    other.close()
    assert store.delete("a1")
    store.close()


def test_a_full_disk_has_room_for_a_deletion(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = client.service.store  # type: ignore[attr-defined]
    id, changed, reserve = done(client), store._changed, store._reserve
    assert reserve.stat().st_size == RESERVE

    def full(query: str, *values: Any) -> bool:
        if reserve.is_file():
            raise StoreError("full", full=True)
        return bool(changed(query, *values))

    monkeypatch.setattr(store, "_changed", full)
    assert client.delete(f"/api/jobs/{id}").status_code == 204
    assert client.get(f"/api/jobs/{id}").status_code == 404
    assert reserve.stat().st_size == RESERVE  # for the next one


def test_a_job_is_stopped_at_its_time_limit(tmp_path: Path) -> None:
    with serving(tmp_path / "state", limits=Limits(job_minutes=0.02)) as client:
        job = ended(client, send(client, content=b"slow").json()["id"])
        assert job["state"] == "failed" and "longer than 0.02 minutes" in job["error"]["got"]


def test_jobs_and_corrections_survive_a_restart(tmp_path: Path) -> None:
    with serving(tmp_path / "state") as client:
        finished = done(client)
        body = {"revision": 0, "events": [{"start": 0, "end": 2.5, "label": "gate"}]}
        saved = client.put(f"/api/jobs/{finished}/annotations", json=body).json()
        slow = send(client, content=b"slow").json()["id"]
        waiting = send(client).json()["id"]
        until(client, slow, {"running"})
    (tmp_path / "state" / "incoming" / "half").write_bytes(b"left by a killed server")
    (tmp_path / "state" / "jobs" / "0123").mkdir()
    with serving(tmp_path / "state") as client:
        assert client.get(f"/api/jobs/{finished}/annotations").json() == saved
        assert client.get(f"/api/jobs/{finished}").json()["corrected"]
        until(client, slow, {"running"})
        assert client.get(f"/api/jobs/{waiting}").json()["position"] == 1
        client.post(f"/api/jobs/{slow}/cancel")
        assert ended(client, waiting)["state"] == "done"
        folders = {p.name for p in (tmp_path / "state" / "jobs").iterdir()}
        assert folders == {finished, slow, waiting}
        assert not list((tmp_path / "state" / "incoming").iterdir())


def test_jobs_of_before_labels_were_stored_get_them_at_a_start(tmp_path: Path) -> None:
    with serving(tmp_path / "state") as client:
        old, damaged = done(client), done(client)
        before = client.get(f"/api/jobs/{old}").json()
        for id in (old, damaged):
            facts = client.service.store.get(id).facts  # type: ignore[attr-defined]
            kept = {k: v for k, v in facts.items() if k not in ("labels", "min_score")}
            client.service.store.set_facts(id, kept)  # type: ignore[attr-defined]
        (tmp_path / "state" / "jobs" / damaged / "result.json").write_text("{")
        assert client.get(f"/api/jobs/{old}").json()["labels"] == {}
    with serving(tmp_path / "state") as client:
        after = client.get(f"/api/jobs/{old}").json()
        assert (after["labels"], after["min_score"]) == (before["labels"], before["min_score"])
        assert after["labels"] and after["min_score"] is not None
        assert client.get(f"/api/jobs/{damaged}").json()["labels"] == {}


def test_a_job_that_brings_the_server_down_each_time_fails(tmp_path: Path) -> None:
    store = Store(tmp_path / "jobs.sqlite")
    store.add(Job("a1", "a.mp4", "default", "media.mp4", 1))
    for _ in range(MOST_TRIES):
        assert store.recover() == []
        assert store.take() is not None
    store.close()
    service = JobService(tmp_path, fake_worker.start, roots={})
    job = service.job("a1")
    assert job.state == "failed" and "stopped each time" in job.error["got"]
    service.close()


def test_a_folder_serves_one_server(tmp_path: Path) -> None:
    first = JobService(tmp_path, fake_worker.start, roots={})
    with pytest.raises(DataError, match="another `avel serve`"):
        JobService(tmp_path, fake_worker.start, roots={})
    first.close()
    JobService(tmp_path, fake_worker.start, roots={}).close()


def test_a_folder_of_something_else_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    for name in ("jobs/report.docx", "incoming/scan/page.tiff", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    with pytest.raises(DataError, match="didn't write") as refused:
        JobService(tmp_path, fake_worker.start, roots={})
    assert "--state" in refused.value.hint
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before
    with sqlite3.connect(tmp_path / "jobs.sqlite") as db:  # somebody else's, of that name
        db.execute("CREATE TABLE jobs (who TEXT)")
    with pytest.raises(DataError, match="didn't write"):
        JobService(tmp_path, fake_worker.start, roots={})
    assert (tmp_path / "jobs" / "report.docx").is_file()
    (tmp_path / "file").touch()
    with pytest.raises(DataError):
        JobService(tmp_path / "file", fake_worker.start, roots={})


def test_a_state_folder_from_before_there_were_marks_is_taken(tmp_path: Path) -> None:
    JobService(tmp_path, fake_worker.start, roots={}).close()
    (mark,) = tmp_path.glob("*.txt")
    assert "removes whatever" in mark.read_text()
    mark.unlink()
    JobService(tmp_path, fake_worker.start, roots={}).close()
    assert mark.is_file()


def test_tables_of_a_newer_avel_and_other_files_are_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "jobs.sqlite") as db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(DataError, match="newer avel"):
        Store(tmp_path / "jobs.sqlite")
    (tmp_path / "text").write_text("no tables " * 100)
    with pytest.raises(DataError, match="list of jobs"):
        Store(tmp_path / "text")


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (fake_worker.start_without_model, "no model"),
        (fake_worker.start_dead, "died while it loaded"),
    ],
)
def test_models_that_cant_be_loaded_are_named_before_serving(
    tmp_path: Path, start: object, message: str
) -> None:
    service = JobService(tmp_path, start, roots={})  # type: ignore[arg-type]
    with pytest.raises((CheckpointError, DataError), match=message):
        service.load()
    service.close()


def test_changes_are_told_as_they_come(tmp_path: Path) -> None:
    import asyncio

    from avel.web.progress import ProgressFeed

    async def receive() -> list[str]:
        jobs: dict[str, dict[str, str] | None] = {"a": {"id": "a"}}
        troubles: list[dict[str, str]] = []
        feed = ProgressFeed(jobs.get, lambda: troubles)
        feed.begin()
        events = feed.listen()
        received = [await anext(events)]
        for _ in range(3):
            await asyncio.to_thread(feed.changed, "a")
        await asyncio.sleep(0.05)
        received.append(await anext(events))
        await asyncio.to_thread(feed.changed, "b")
        received.append(await anext(events))
        troubles.append({"got": "full"})
        await asyncio.to_thread(feed.troubled)
        received.append(await anext(events))
        feed.end()
        return [*received, *[e async for e in events]]

    first, job, gone, trouble, *rest = asyncio.run(receive())
    assert first.startswith("retry:") and json.loads(job.removeprefix("data: ")) == {"id": "a"}
    assert gone == 'event: gone\ndata: {"id": "b"}\n\n' and len(rest) <= 1
    assert trouble == 'event: troubles\ndata: [{"got": "full"}]\n\n'
