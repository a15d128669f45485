"""Results and corrections of `avel serve`: thresholds, media, annotations, exports."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from avel.formats import format_endings, read
from avel.types import Event
from avel.web.exports import REPORT_FORMATS, _corrected
from tests.report_samples import CLASSES, lane_timeline, write_clip
from tests.web.client import GATE, done, ended, put, send, serving


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("review")
    with serving(folder / "state", data=folder / "data") as client:
        yield client


@pytest.fixture(scope="module")
def job(client: TestClient) -> str:
    return done(client, "street <b>.mp4", bytes(range(256)) * 10)


def test_the_timeline_has_all_that_the_page_shows(client: TestClient, job: str) -> None:
    timeline = client.get(f"/api/jobs/{job}/timeline").json()
    assert (timeline["name"], timeline["duration"], timeline["step"]) == (
        "street <b>.mp4",
        6.0,
        1.0,
    )
    assert timeline["classes"] == list(CLASSES)
    assert [(e["start"], e["end"], e["label"]) for e in timeline["events"]] == [
        (1.0, 3.0, "Church bell"), (4.0, 5.0, "Bark")
    ]  # fmt: skip
    bell = timeline["scores"]["lanes"][0]
    assert bell["label"] == "Church bell" and bell["values"] == [100, 700, 700, 100, 100, 100]
    labels = [lane["label"] for lane in timeline["scores"]["lanes"]]
    assert labels == ["Church bell", "Bark", "Siren"]  # the last one for what a person may hear
    maps = base64.b64decode(timeline["attention"]["maps"])
    assert timeline["attention"]["grid"] == [7, 7] and len(maps) == 6 * 49
    assert (
        timeline["attention"]["seconds"] == 1.0 and maps[3 * 7] == 255
    )  # bright at left, then right
    assert timeline["decision"] == {
        "threshold": None,
        "low_threshold": None,
        "min_duration": 0,
        "max_gap": 0,
    }
    assert "toy" in timeline["cautions"][0]


@pytest.mark.parametrize(
    ("query", "spans"),
    [
        ("threshold=0.5", [(1, 3), (4, 5)]),
        ("threshold=0.5&min_duration=1.5", [(1, 3)]),
        ("threshold=0.05", [(0, 5)] * 3),  # the last segment is silent
        ("threshold=0.8", []),
        ("threshold=0.5&low_threshold=0.1", [(0, 5), (0, 5)]),
        ("min_duration=1.5", [(1, 3)]),
    ],
)
def test_other_thresholds_decide_anew(
    client: TestClient, job: str, query: str, spans: list[tuple[int, int]]
) -> None:
    timeline = client.get(f"/api/jobs/{job}/timeline?{query}").json()
    assert [(e["start"], e["end"]) for e in timeline["events"]] == spans
    used = dict(pair.split("=") for pair in query.split("&"))
    assert {n: timeline["decision"][n] for n in used} == {n: float(v) for n, v in used.items()}


@pytest.mark.parametrize(
    "query", ["threshold=0", "threshold=nan", "threshold=2", "low_threshold=0.9&threshold=0.5",
              "max_gap=-1", "min_duration=inf", "threshold=x"],
)  # fmt: skip
def test_thresholds_out_of_range_are_refused(client: TestClient, job: str, query: str) -> None:
    answer = client.get(f"/api/jobs/{job}/timeline?{query}")
    assert answer.status_code == 422 and answer.json()["error"]["got"]


@pytest.mark.parametrize(
    ("query", "status", "part"),
    [
        (None, 200, slice(None)),
        ("bytes=0-99", 206, slice(100)),
        ("bytes=2500-", 206, slice(2500, None)),
        ("bytes=-60", 206, slice(-60, None)),
        ("bytes=9999-", 416, None),
    ],
)
def test_media_are_answered_in_ranges(
    client: TestClient, job: str, query: str | None, status: int, part: slice | None
) -> None:
    answer = client.get(f"/api/jobs/{job}/media", headers={"Range": query} if query else {})
    assert answer.status_code == status
    assert answer.headers["x-content-type-options"] == "nosniff"
    if part is not None:
        assert answer.content == (bytes(range(256)) * 10)[part]
        assert answer.headers["content-type"] == "video/mp4"
        assert answer.headers["content-disposition"].startswith("inline; filename")


def test_a_page_named_as_a_video_is_no_page(client: TestClient) -> None:
    id = done(client, "page.html", b"<script>alert(1)</script>")
    answer = client.get(f"/api/jobs/{id}/media")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert "script-src 'self'" in answer.headers["content-security-policy"]


def test_pictures(client: TestClient, job: str) -> None:
    (thumb,) = client.get(f"/api/jobs/{job}/thumbs").json()
    picture = client.get(thumb["url"])
    assert thumb["time"] == 0.5 and picture.headers["content-type"] == "image/jpeg"
    assert picture.content[:2] == b"\xff\xd8"
    assert client.get(f"/api/jobs/{job}/spectrogram.png").content == b"\x89PNG"
    for other in (f"{job}/thumbs/1.jpg", f"{job}/thumbs/-1.jpg", "none/thumbs/0.jpg"):
        assert client.get(f"/api/jobs/{other}").status_code in (404, 422)


def test_corrections_have_revisions(client: TestClient) -> None:
    id = done(client)
    timeline = client.get(f"/api/jobs/{id}/annotations").json()
    assert timeline["revision"] == 0 and timeline["saved"] is None and len(timeline["events"]) == 2
    saved = put(client, id, 0, GATE)
    assert saved.status_code == 200 and saved.json()["revision"] == 1
    assert saved.json()["events"] == [GATE] and saved.json()["saved"] > 0
    late = put(client, id, 0, GATE, GATE)
    assert late.status_code == 409 and late.json() == saved.json()
    assert client.get(f"/api/jobs/{id}").json()["corrected"]
    back = client.delete(f"/api/jobs/{id}/annotations").json()
    assert back == {"revision": 2, "events": timeline["events"], "saved": None}
    assert put(client, id, 1, GATE).status_code == 409
    assert put(client, id, 2).json() == {"revision": 3, "events": [], "saved": pytest.approx(
        saved.json()["saved"], abs=60)}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start": -1}, "start"),
        ({"start": float("nan")}, "start"),
        ({"end": 7.5}, "the file ends at 6 s"),
        ({"start": 6, "end": 6.5}, "the file ends at 6 s"),
        ({"end": 0.5}, "ends at 0.5 s"),
        ({"label": ""}, "label"),
        ({"label": "x" * 201}, "label"),
        ({"label": " gate"}, "spaces"),
        ({"label": "a\nb"}, "control"),
        ({"label": "Background"}, "background"),
        ({"score": 2}, "score"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_impossible_corrections_are_refused(
    client: TestClient, job: str, change: dict[str, Any], message: str
) -> None:
    body = json.dumps({"revision": 0, "events": [GATE | change]})
    answer = client.put(f"/api/jobs/{job}/annotations", content=body,
                        headers={"Content-Type": "application/json"})  # fmt: skip
    assert answer.status_code == 422 and message in str(answer.json()["error"])


def test_corrections_are_bounded(client: TestClient, job: str) -> None:
    assert put(client, job, 0, *[GATE] * 10_001).status_code == 422
    body = b'{"revision": 0, "events": [' + b" " * 17_000_000 + b"]}"
    url, kind = f"/api/jobs/{job}/annotations", {"Content-Type": "application/json"}
    assert client.put(url, content=body, headers=kind).status_code == 413
    chunks = (body[i : i + 10**6] for i in range(0, len(body), 10**6))
    assert client.put(url, content=chunks, headers=kind).status_code == 413
    deep = b"[" * 10**5
    assert client.put(url, content=deep, headers=kind).status_code in (400, 422)


@pytest.mark.parametrize("format", sorted(format_endings()))
def test_every_format_out_and_in_again(
    client: TestClient, tmp_path: Path, format: str, job: str
) -> None:
    id = done(client, "a/../yard <1>.mp4")
    put(client, id, 0, GATE)
    for of, labels in (("corrected", ["gate"]), ("found", ["Church bell", "Bark"])):
        answer = client.get(f"/api/jobs/{id}/export", params={"format": format, "of": of})
        assert answer.status_code == 200
        name = answer.headers["content-disposition"].split('"')[1]
        assert name == f"yard_1{format_endings()[format]}"
        path = tmp_path / f"{of}{format_endings()[format]}"
        path.write_bytes(answer.content)
        assert [e.label for e in read(path, format=format)] == labels
        again = client.post(f"/api/import?job={id}", files={"file": (path.name, answer.content)})
        assert [e["label"] for e in again.json()["events"]] == labels
    assert not list(client.service.incoming.iterdir())  # type: ignore[attr-defined]


def test_a_corrected_export_shows_a_persons_events(client: TestClient, tmp_path: Path) -> None:
    id = done(client, "a yard.mp4")
    url = f"/api/jobs/{id}/export"
    assert put(client, id, 0, GATE | {"score": 0.4}).status_code == 200
    for format in sorted(format_endings()):
        path = tmp_path / f"yard{format_endings()[format]}"
        path.write_bytes(client.get(url, params={"format": format}).content)
        timeline = read(path, format=format)
        assert [e.score for e in timeline] == [1.0] and not timeline.predicted, format
    for format in ("elan", "json", "labelstudio", "otio", "vtt"):
        content = client.get(url, params={"format": format}).text
        assert "corrected by a person" in content, format
    page = client.get(url, params={"format": "html"}).text
    assert "corrected by a person" in page and "Score</th>" not in page
    assert "Score</th>" in client.get(url, params={"format": "html", "of": "found"}).text


def test_an_export_takes_the_decision_and_marks_nothing(client: TestClient) -> None:
    id = done(client)
    query = {"format": "csv", "threshold": 0.75}  # above the 0.7 of all events
    assert "bell" not in client.get(f"/api/jobs/{id}/export", params=query).text
    assert "bell" in client.get(f"/api/jobs/{id}/export?format=csv").text
    assert not client.get(f"/api/jobs/{id}").json()["corrected"]
    put(client, id, 0, GATE)  # corrected events don't depend on the decision
    assert "gate" in client.get(f"/api/jobs/{id}/export", params=query).text


def test_links_in_exports_point_at_the_persons_file(tmp_path: Path) -> None:
    root = tmp_path / "my videos"
    root.mkdir()
    (root / "a b.mp4").write_bytes(b"x")
    with serving(tmp_path / "state", roots=[root]) as client:
        body = {"root": "my videos", "path": "a b.mp4"}
        in_root = client.post("/api/jobs/path", json=body).json()
        assert ended(client, in_root["id"])["root"] == "my videos"
        uploaded = done(client, "c d.mp4")
        for format in ("elan", "otio", "labelstudio"):
            url = "/api/jobs/{}/export?format=" + format
            content = client.get(url.format(in_root["id"])).text
            path = root / "a b.mp4"
            assert path.as_uri() in content or str(path) in content, format
            content = client.get(url.format(uploaded)).text
            assert "c%20d.mp4" in content or "c d.mp4" in content, format
            assert str(tmp_path) not in content and str(Path.cwd()) not in content, format


def test_formats_have_names_for_people(client: TestClient) -> None:
    formats = {f["name"]: f for f in client.get("/api/about").json()["formats"]}
    assert formats["elan"]["title"] == "ELAN" and formats["csv"]["title"] == "Table (CSV)"
    assert all(f["title"] != f["name"] for f in formats.values())


def test_the_list_describes_files_as_they_are_corrected(client: TestClient) -> None:
    id = done(client)
    job = client.get(f"/api/jobs/{id}").json()
    assert job["labels"] == {"Church bell": 1, "Bark": 1} and job["events"] == 2
    assert job["min_score"] == pytest.approx(0.7) and not job["corrected"]
    assert client.get(job["thumbnail"]).status_code == 200
    last = GATE | {"label": "bark", "start": 5, "end": 6}
    saved = put(client, id, 0, GATE, GATE | {"start": 3, "end": 4}, last)
    assert saved.status_code == 200
    (job,) = [j for j in client.get("/api/jobs").json()["jobs"] if j["id"] == id]
    assert (job["labels"], job["events"]) == ({"gate": 2, "bark": 1}, 3) and job["corrected"]


def test_all_files_are_exported_in_one_archive(tmp_path: Path) -> None:
    with serving(tmp_path / "state") as client:
        first, second, broken = (done(client, "a.mp4") for _ in range(3))
        put(client, first, 0, GATE)
        scores = client.service.folder / "jobs" / broken / "scores.safetensors"  # type: ignore[attr-defined]
        scores.write_bytes(b"damaged")
        answer = client.get("/api/export?format=csv")
        assert answer.headers["content-type"] == "application/zip"
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            assert archive.namelist() == ["a.csv", "a-2.csv", "errors.txt"]
            assert b"gate" in archive.read("a.csv") and b"bell" in archive.read("a-2.csv").lower()
            assert archive.read("errors.txt").startswith(b"a.mp4: ")
        assert client.get("/api/export?format=mp4").status_code == 422
        assert client.get("/api/export?format=none").status_code == 422
        assert second and not list(client.service.incoming.iterdir())  # type: ignore[attr-defined]


def test_exports_of_unknown_formats_are_refused(client: TestClient, job: str) -> None:
    answer = client.get(f"/api/jobs/{job}/export?format=doc")
    assert answer.status_code == 422 and "elan" in answer.json()["error"]["expected"]


def test_what_is_only_heard_or_seen_stands_beside_the_events(
    client: TestClient, job: str, tmp_path: Path
) -> None:
    id = done(client, "apart.mp4", b"apart" + bytes(range(9)))
    timeline = client.get(f"/api/jobs/{id}/timeline").json()
    lanes = [
        (a["label"], a["summary"], [e["label"] for e in a["rows"][0]])
        for a in timeline["single_modality"]
    ]
    assert lanes == [
        ("Heard, not seen", "1 event", ["Siren"]), ("Seen, not heard", "1 event", ["Bark"])
    ]  # fmt: skip
    assert timeline["finding"] == "" and len(timeline["events"]) == 2
    assert client.get(f"/api/jobs/{job}/timeline").json()["single_modality"] == []
    none = client.get(f"/api/jobs/{id}/timeline?threshold=0.8").json()
    assert none["events"] == [] and none["finding"].startswith("No event is both seen and heard. ")
    url = f"/api/jobs/{id}/export"
    (tmp_path / "a.eaf").write_bytes(client.get(f"{url}?format=elan&of=found").content)
    assert len(read(tmp_path / "a.eaf").lane("audio")) == 1
    table = b"start,end,label,score,modality\n1,2,gate,1,both\n2,3,Siren,0.7,audio\n"
    answer = client.post(f"/api/import?job={id}", files={"file": ("l.csv", table)}).json()
    assert [e["label"] for e in answer["events"]] == ["gate"]
    assert answer["notes"] == ["Left out: 1 that are only heard or only seen."]
    # a correction stands alone, and an event that a person gives ends what was of one modality
    siren = {"start": 4, "end": 6, "label": "Siren", "score": 1.0}
    assert put(client, id, 0, siren).status_code == 200
    (tmp_path / "b.json").write_bytes(client.get(f"{url}?format=json").content)
    assert read(tmp_path / "b.json").choose("all").events == (Event(4, 6, "Siren"),)


def test_a_corrected_page_keeps_what_no_event_overlaps() -> None:
    original = lane_timeline("a.mp4", [3, 3, 0, 0, 3, 3, 3, 3])
    changed = _corrected(original, [Event(5, 8, "Siren"), Event(0, 2, "Siren")], scores=True)
    assert changed.audio_only == () and changed.visual_only == original.visual_only


def test_labels_that_dont_fit_are_left_out_and_named(client: TestClient, job: str) -> None:
    table = b"start,end,label\n1,2,gate\n50,60,late\n2,3,background\n"
    answer = client.post(f"/api/import?job={job}", files={"file": ("labels.csv", table)}).json()
    assert [e["label"] for e in answer["events"]] == ["gate"] and len(answer["notes"]) == 2
    assert "late" in answer["notes"][0]
    for name, content in [("x.csv", b"no,table"), ("x.doc", b""), ("x.json", b"{" * 9999),
                          ("x.eaf", b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>")]:  # fmt: skip
        refused = client.post(f"/api/import?job={job}", files={"file": (name, content)})
        assert refused.status_code == 422
        assert name in refused.json()["error"]["got"] and "incoming" not in refused.text
    table = b"start,end,label\n1,2,gate\n3,2,late\n"
    answer = client.post(f"/api/import?job={job}", files={"file": ("odd.csv", table)}).json()
    assert len(answer["events"]) == len(answer["notes"]) == 1
    assert answer["notes"][0].startswith("Left out: odd.csv:3: ")
    refused = client.post(
        f"/api/import?job={job}", files={"file": ("odd.csv", table.replace(b"1,2,gate\n", b""))}
    )
    assert "(odd.csv:2: " in refused.json()["error"]["got"]
    many = b"file,start,end,label\na.mp4,1,2,x\nb.mp4,1,2,y\n"
    refused = client.post(f"/api/import?job={job}", files={"file": ("many.csv", many)})
    assert refused.status_code == 422 and "2 videos" in refused.json()["error"]["got"]
    own = done(client, "b.mp4")
    chosen = client.post(f"/api/import?job={own}", files={"file": ("many.csv", many)}).json()
    assert [e["label"] for e in chosen["events"]] == ["y"]


@pytest.mark.parametrize("format", sorted(REPORT_FORMATS))
def test_the_page_and_the_copy_are_written_in_another_process(tmp_path: Path, format: str) -> None:
    clip = write_clip(tmp_path / "clip.mp4", 6)
    with serving(tmp_path / "state") as client:
        id = done(client, "<street>.mp4", clip.read_bytes())
        put(client, id, 0, GATE)
        answer = client.get(f"/api/jobs/{id}/export?format={format}")
        assert answer.status_code == 200, answer.text
        head = answer.content[:4096]
        assert b"<!doctype html>" in head.lower() if format == "html" else b"ftyp" in head
        if format == "html":
            assert b"gate" in answer.content and b"data:image/jpeg" in answer.content
        broken = done(client, "broken.mp4", b"no video")
        refused = client.get(f"/api/jobs/{broken}/export?format={format}")
        assert refused.status_code == (200 if format == "html" else 422)
        assert format == "html" or "broken.mp4" in refused.json()["error"]["got"]


def test_a_damaged_result_says_what_to_do(client: TestClient) -> None:
    id = done(client)
    folder = client.service.folder / "jobs" / id  # type: ignore[attr-defined]
    (folder / "scores.safetensors").write_bytes(b"\xff" * 99)
    answer = client.get(f"/api/jobs/{id}/timeline")
    assert answer.status_code == 422 and "run again" in answer.json()["error"]["hint"]
    client.post(f"/api/jobs/{id}/retry")
    ended(client, id)
    assert client.get(f"/api/jobs/{id}/timeline").status_code == 200


def test_a_file_in_a_root_that_is_gone(tmp_path: Path) -> None:
    root = tmp_path / "videos"
    root.mkdir()
    (root / "a.mp4").write_bytes(b"x")
    with serving(tmp_path / "state", roots=[root], data=tmp_path / "data") as client:
        query = {"root": "videos", "path": "a.mp4"}
        id = client.post("/api/jobs/path", json=query).json()["id"]
        assert ended(client, id)["state"] == "done"
        assert client.get(f"/api/jobs/{id}/media").content == b"x"
        (root / "a.mp4").unlink()
        assert client.get(f"/api/jobs/{id}/media").status_code == 422
        assert client.get(f"/api/jobs/{id}/timeline").status_code == 200
        body = {"revision": 0, "events": []}
        assert client.put(f"/api/jobs/{id}/annotations", json=body).status_code == 200
        (note,) = client.get("/api/dataset").json()["notes"][1:]
        assert note.startswith("a.mp4 is left out: ")
        client.delete(f"/api/jobs/{id}")
        assert send(client).status_code == 201


def test_events_say_which_modality_had_more_weight_until_a_person_corrects_them(
    client: TestClient,
) -> None:
    job = done(client, "far.mp4", b"weighted")
    events = client.get(f"/api/jobs/{job}/timeline").json()["events"]
    assert [(e["label"], e["audio_weight"], e["lag"], e["detail"]) for e in events] == [
        ("Church bell", 0.25, 1.2, "mostly seen, heard 1.2 s later"),
        ("Bark", 0.75, -0.5, "mostly heard, seen 0.5 s later"),
    ]
    exported = client.get(f"/api/jobs/{job}/export?format=json").json()["events"]
    assert [e["lag"] for e in exported] == [1.2, -0.5]
    event = {"start": 1.0, "end": 2.0, "label": "Church bell"}
    put(client, job, 0, event).raise_for_status()
    exported = client.get(f"/api/jobs/{job}/export?format=json").json()["events"]
    assert len(exported) == 1 and not {"audio_weight", "lag"} & set(exported[0])
