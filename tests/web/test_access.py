"""Who may ask `avel serve` what: hosts, origins, tokens, roots; and how it is started."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from avel.cli.main import main
from avel.errors import UsageError
from avel.web.roots import MOST, inside, listing, media_inside, named_roots
from avel.web.server import bind, named_models, token_for
from tests.web.client import done, serving

TOKEN = "correct horse battery"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with serving(tmp_path_factory.mktemp("open")) as client:
        yield client


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with serving(tmp_path_factory.mktemp("locked"), token=TOKEN) as client:
        yield client


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8321", 200), ("localhost", 200), ("[::1]:99", 200), ("LOCALHOST:1", 200),
        ("evil.example", 403), ("localhost.evil.example", 403), ("10.0.0.1", 403), ("", 403),
        ("[", 403), ("evil@localhost:x", 403), ("127.0.0.1.evil.example:8321", 403),
    ],
)  # fmt: skip
def test_other_hosts_are_refused(client: TestClient, host: str, status: int) -> None:
    answer = client.get("/api/about", headers={"Host": host})
    assert answer.status_code == status
    assert status == 200 or set(answer.json()["error"]) == {"got", "expected", "hint"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 404),
        ({"Origin": "http://127.0.0.1"}, 404),
        ({"Origin": "http://127.0.0.1:9999"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 404),
    ],
)
def test_other_sites_cant_write(client: TestClient, headers: dict[str, str], status: int) -> None:
    assert client.delete("/api/jobs/none", headers=headers).status_code == status
    assert client.post("/api/jobs/none/cancel", headers=headers).status_code == status


def test_every_answer_forbids_what_the_page_doesnt_need(client: TestClient) -> None:
    for path in ("/", "/static/index.html", "/api/about", "/none", "/openapi.json"):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith(
            "default-src 'none'; script-src 'self'"
        )
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
    assert client.get("/api/about").headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in client.get("/api/about").headers


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/none", "/api/none", "/static/none.js",
                                  "/static/../app.py", "/static/%2e%2e/app.py",
                                  "/static/report/page.py",
                                  "/static/report/%2e%2e%2fclock.py"])  # fmt: skip
def test_what_isnt_there(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404 and set(answer.json()["error"]) == {"got", "expected", "hint"}


def test_a_browser_asks_each_time_whether_the_page_has_changed(client: TestClient) -> None:
    for path in ("", "static/main.js", "static/report/base.css", "static/report/shared.js"):
        answer = client.get(f"/{path}")
        assert answer.status_code == 200 and answer.headers["cache-control"] == "no-cache"
        assert answer.headers["etag"]
    assert "javascript" in client.get("/static/report/shared.js").headers["content-type"]


def test_without_the_token_there_is_nothing_but_the_page(locked: TestClient) -> None:
    assert locked.get("/").status_code == 200
    for path in ("/api/about", "/api/jobs", "/api/progress", "/api/jobs/x/media"):
        answer = locked.get(path)
        assert answer.status_code == 401 and "token" in answer.json()["error"]["got"]
    assert locked.post("/api/jobs").status_code == 401
    for wrong in ("Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer", "Bearer \u00e9"):
        headers = {"Authorization": wrong.encode("latin-1")}
        assert locked.get("/api/about", headers=headers).status_code == 401


def test_the_token_is_shown_by_header_cookie_or_address(locked: TestClient) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert locked.get("/api/about", headers=headers).status_code == 200
    assert locked.post("/api/login", json={"token": "wrong"}).status_code == 401
    answer = locked.post("/api/login", json={"token": TOKEN})
    cookie = answer.headers["set-cookie"]
    assert answer.status_code == 204 and "HttpOnly" in cookie and "SameSite=strict" in cookie
    assert TOKEN not in cookie
    assert locked.get("/api/about").status_code == 200  # the client keeps cookies
    locked.cookies.clear()
    assert locked.get("/api/about").status_code == 401
    away = locked.get("/", params={"token": TOKEN}, follow_redirects=False)
    assert away.status_code == 303 and away.headers["location"] == "/"
    assert locked.get("/api/about").status_code == 200
    locked.cookies.clear()
    wrong = locked.get("/", params={"token": "wrong"}, follow_redirects=False)
    assert "set-cookie" not in wrong.headers


def test_bound_to_all_addresses_numbers_will_do_and_names_wont(tmp_path: Path) -> None:
    with serving(tmp_path, token=TOKEN, hosts=("box",), any_address=True) as client:
        for host, status in (("192.0.2.7:80", 200), ("box", 200), ("evil.example", 403)):
            headers = {"Host": host, "Authorization": f"Bearer {TOKEN}"}
            assert client.get("/api/about", headers=headers).status_code == status


@pytest.fixture
def roots(tmp_path: Path) -> dict[str, Path]:
    root = tmp_path / "videos"
    (root / "inner").mkdir(parents=True)
    for name in ("a.mp4", "inner/b.MKV", "notes.txt", ".hidden.mp4"):
        (root / name).write_bytes(b"x" * 3)
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    (root / "out.mp4").symlink_to(tmp_path / "secret.mp4")
    (root / "up").symlink_to(tmp_path)
    (root / "in.mp4").symlink_to(root / "a.mp4")
    (root / "loop").symlink_to(root / "loop")
    return named_roots([root])


def test_roots_list_what_lies_within(roots: dict[str, Path]) -> None:
    content = listing(roots, "videos", "")
    assert content.folders == ["inner"] and not content.more
    assert [(f.path, f.size) for f in content.files] == [("a.mp4", 3), ("in.mp4", 3)]
    inner = listing(roots, "videos", "inner")
    assert [(f.path, f.name, f.size) for f in inner.files] == [("inner/b.MKV", "b.MKV", 3)]
    assert inner.folder == "inner"


OUTSIDE = ("../secret.mp4", "inner/../../secret.mp4", "out.mp4", "up/secret.mp4", "/etc/passwd",
           "a.mp4/..", "..", "up", "a\0.mp4", "..\\secret.mp4", "C:/x.mp4", "loop", "x" * 5000,
           "none.mp4")  # fmt: skip


@pytest.mark.parametrize("path", OUTSIDE)
def test_paths_cant_leave_their_root(roots: dict[str, Path], path: str) -> None:
    with pytest.raises(UsageError, match="isn't in videos"):
        inside(roots, "videos", path)
    with pytest.raises(UsageError):
        media_inside(roots, "videos", path)


@pytest.mark.parametrize("path", ["", "inner", "notes.txt"])
def test_what_is_no_media_file_is_no_job(roots: dict[str, Path], path: str) -> None:
    with pytest.raises(UsageError, match="no media file"):
        media_inside(roots, "videos", path)


def test_large_folders_are_listed_in_part(tmp_path: Path) -> None:
    for i in range(MOST + 1):
        (tmp_path / f"{i}.mp4").touch()
    content = listing(named_roots([tmp_path]), tmp_path.name, "")
    assert content.more and len(content.files) == MOST


def test_roots_over_the_api(roots: dict[str, Path], tmp_path: Path) -> None:
    with serving(tmp_path / "state", roots=[*roots.values()]) as client:
        for path in OUTSIDE:
            body = {"root": "videos", "path": path}
            assert client.post("/api/jobs/path", json=body).status_code == 422
            params: dict[str, Any] = {"root": "videos", "folder": path}
            assert client.get("/api/files", params=params).status_code == 422
        assert client.get("/api/files?root=none").status_code == 422
        assert client.get("/api/files?root=videos").json()["files"][0]["path"] == "a.mp4"
        body = {"root": "videos", "path": "inner/b.MKV"}
        assert client.post("/api/jobs/path", json=body).json()["name"] == "b.MKV"
        assert client.get("/api/jobs").json()["total"] == 1
        assert done(client)


def test_equal_names_of_roots_and_models_are_numbered(tmp_path: Path) -> None:
    for place in ("a/v", "b/v"):
        (tmp_path / place).mkdir(parents=True)
    assert list(named_roots([tmp_path / "a/v", tmp_path / "b/v"])) == ["v", "v-2"]
    named = named_models(["default", "runs/toy", "old/toy", "toy.onnx"])
    assert list(named) == ["default", "toy", "toy-2", "toy-3"] and named["toy-2"] == "old/toy"
    with pytest.raises(UsageError, match="no such folder"):
        named_roots([tmp_path / "none"])


def test_bound_elsewhere_it_asks_for_a_token() -> None:
    here, everywhere = bind("127.0.0.1", 0), bind("0.0.0.0", 0, ["box.example"])
    try:
        assert here.local and token_for(here, None) is None and token_for(here, TOKEN) == TOKEN
        assert here.address.startswith("http://127.0.0.1:") and not here.any_address
        assert not everywhere.local and len(token_for(everywhere, None) or "") >= 32
        assert everywhere.any_address and "box.example" in everywhere.hosts
        with pytest.raises(UsageError, match="5 characters"):
            token_for(here, "short")
        port = here.socket.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port}"):
            bind("127.0.0.1", port)
    finally:
        here.socket.close()
        everywhere.socket.close()


def test_called_wrongly_it_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = f"--state={tmp_path / 'state'}"
    assert main(["serve", state, "--root", str(tmp_path / "none")]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert main(["serve", state, "--token", "short", "--port", "0"]) == 2
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", state, "--port", str(port)]) == 2
    assert "--port" in capsys.readouterr().err
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["serve", state]) == 2
    assert "pip install 'avel[serve]'" in capsys.readouterr().err
    assert not (tmp_path / "state").exists()
