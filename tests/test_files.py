"""Files are written whole or not at all, under any name and by any thread."""

from __future__ import annotations

import errno
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from avel.files import cache_folder, disk_error, file_hash, whole, write_whole


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    write_whole(target, "old")
    with pytest.raises(RuntimeError), whole(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_folders_are_made_and_the_ending_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "c.mp4"
    with whole(target) as temporary:
        assert temporary.suffix == ".mp4"
        assert temporary.parent == target.parent
        temporary.write_bytes(b"x")
    assert target.read_bytes() == b"x"


@pytest.mark.parametrize("letter", ["a", "\u4e2d", "\U0001f514"])
def test_the_longest_names_a_file_system_takes(letter: str, tmp_path: Path) -> None:
    target = tmp_path / (letter * ((255 - 5) // len(letter.encode())) + ".json")
    target.write_text("")  # the system takes it
    write_whole(target, "x")
    assert target.read_text() == "x"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no umask")
def test_rights_are_those_of_any_new_file_while_threads_write(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: write_whole(tmp_path / f"{i}.txt", "x"), range(200)))
        assert {p.stat().st_mode & 0o777 for p in tmp_path.iterdir()} == {0o640}
        assert len(list(tmp_path.iterdir())) == 200
    finally:
        assert os.umask(before) == 0o027  # no thread has left another one behind


def test_hash_and_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_whole(tmp_path / "a", "abc")
    assert file_hash(tmp_path / "a").startswith("ba7816bf")
    assert file_hash(tmp_path / "a", "md5") == "900150983cd24fb0d6963f7d28e17f72"
    monkeypatch.setenv("AVEL_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.setenv("AVEL_CACHE", "")
    assert cache_folder() == Path.home() / ".cache" / "avel"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_an_error_that_names_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from avel.cli.main import main

    target = tmp_path / "a.json"
    with pytest.raises(OSError) as raised, whole(target) as temporary:
        temporary.unlink()
        temporary.symlink_to("/dev/full")
        temporary.write_bytes(b"x" * 10**6)
    error = disk_error(raised.value)
    assert error.got == f"{target}: the disk is full" and "make room" in error.hint
    assert not list(tmp_path.iterdir())
    import av
    import numpy as np
    from safetensors.numpy import save_file

    with pytest.raises(OSError) as raised, whole(target) as temporary:
        save_file({"a": np.zeros(9)}, "/dev/full/x")
    assert raised.value.errno == errno.ENOTDIR and raised.value.filename == str(target)
    with pytest.raises(OSError) as raised, whole(target):
        raise av.error.OSError(errno.ENOSPC, "No space left on device")  # whose name can't be set
    assert raised.value.errno == errno.ENOSPC and raised.value.filename == str(target)
    monkeypatch.setattr("avel.cli.version.version", lambda: write_whole(target / "x", "y"))
    target.touch()
    assert main(["version"]) == 1
    assert f"{target}: it exists already, as something else\n  hint: " in capsys.readouterr().err


def test_errors_of_the_system_are_sentences() -> None:
    denied = disk_error(PermissionError(errno.EACCES, "Permission denied", "/etc/shadow"))
    assert denied.got == "/etc/shadow: no permission" and "rights" in denied.hint
    assert disk_error(OSError(errno.ESTALE, "Stale file handle"), "x").got == "x: Stale file handle"
    assert disk_error(OSError("odd")).got == "odd"
