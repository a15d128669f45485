"""`avel fetch`: what Drive and the repository give, what they don't, and what isn't data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gdown
import h5py
import numpy as np
import pytest

from avel.cli.main import main
from avel.data.ave import fetch as ave_fetch
from avel.data.ave.fetch import fetch_ave
from avel.data.ave.files import EVERYTHING
from avel.errors import DataError

TEXT = "Bark&x&good&0&10\n"


class Internet:
    """Stands for both servers; remembers what was asked and fails where told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.down: set[str] = set()
        self.sorry: set[str] = set()
        self.half: set[str] = set()

    def _give(self, name: str, target: Path) -> None:
        self.asked.append(name)
        if name in self.down:
            raise OSError("Name or service not known")
        if name in self.sorry:
            target.write_text("<html>Too many users have downloaded this file</html>")
        elif name in self.half:
            target.write_bytes(b"\x89HDF\r\n\x1a\n and no more")
        elif target.suffix == ".h5":
            with h5py.File(target, "w") as f:
                f["avadataset"] = np.zeros(3)
        else:
            target.write_text(TEXT)

    def drive(self, *, id: str, output: str, progress: Callable[..., Any], **_: Any) -> str:
        self._give(id, Path(output))
        progress(5, None)
        return output

    def raw(self, url: str, target: Path, **_: Any) -> Path:
        try:
            self._give(url.rpartition("/")[2], target)
        except OSError as e:
            raise DataError(f"{url} could not be downloaded: {e}") from e
        return target


@pytest.fixture
def internet(monkeypatch: pytest.MonkeyPatch) -> Internet:
    held = Internet()
    monkeypatch.setattr(gdown, "download", held.drive)
    monkeypatch.setattr(ave_fetch, "download", held.raw)
    return held


def test_all_that_is_missing_comes_once(internet: Internet, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    got = fetch_ave(tmp_path, progress=lambda *done: seen.append(done))
    assert {p.name for p in got} == {f.name for f in EVERYTHING}
    assert "1hQwbhutA3fQturduRnHMyfRqdrRHgmC9" in internet.asked and (5, 0) in seen
    internet.asked.clear()
    (tmp_path / "visual_feature.h5").unlink()
    assert [p.name for p in fetch_ave(tmp_path)] == ["visual_feature.h5"]
    assert internet.asked == ["1hQwbhutA3fQturduRnHMyfRqdrRHgmC9"]


def test_labels_alone(internet: Internet, tmp_path: Path) -> None:
    names = {p.name for p in fetch_ave(tmp_path, labels_only=True)}
    assert {"Annotations.txt", "test_order_match.h5", "mil_labels.h5"} <= names
    assert "visual_feature.h5" not in names and "audio_feature.h5" not in names


def test_what_fails_is_listed_and_the_rest_is_there(internet: Internet, tmp_path: Path) -> None:
    internet.down = {"1F6p4BAOY-i0fDXUOhG7xHuw_fnO5exBS", "val_order.h5"}
    with pytest.raises(DataError, match="2 of 15 files") as raised:
        fetch_ave(tmp_path)
    message = str(raised.value)
    assert "audio_feature.h5 (42.4 MB)" in message and str(tmp_path) in message
    assert "1F6p4BAOY-i0fDXUOhG7xHuw_fnO5exBS gave nothing (Name or service" in message
    assert "AVE-ECCV18/master/data/val_order.h5 could not" in message
    assert (tmp_path / "visual_feature.h5").exists()


def test_a_page_that_says_sorry_is_no_data(internet: Internet, tmp_path: Path) -> None:
    internet.sorry = {"1hQwbhutA3fQturduRnHMyfRqdrRHgmC9", "Annotations.txt"}
    internet.half = {"mil_labels.h5"}
    with pytest.raises(DataError, match="3 of 15") as raised:
        fetch_ave(tmp_path)
    assert "<html>" in str(raised.value) and not (tmp_path / "mil_labels.h5").exists()
    assert not (tmp_path / "visual_feature.h5").exists()
    assert not (tmp_path / "Annotations.txt").exists()


def test_simulated_folders_are_not_mixed_with_the_release(tmp_path: Path) -> None:
    (tmp_path / "SIMULATED.json").write_text("{}")
    with pytest.raises(DataError, match="simulated"):
        fetch_ave(tmp_path)


def test_the_command(
    internet: Internet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fetch", "ave", str(tmp_path / "AVE"), "--labels"]) == 0
    assert "avel check" in capsys.readouterr().out
    internet.down = {"1F6p4BAOY-i0fDXUOhG7xHuw_fnO5exBS"}
    assert main(["fetch", "ave", str(tmp_path / "AVE")]) == 1
    assert "audio_feature.h5" in capsys.readouterr().err
    assert main(["fetch", "something"]) == 2
    assert main(["fetch", "weights"]) == 2
    assert main(["fetch", "weights", "vgish"]) == 2
    assert "vggish" in capsys.readouterr().err


def test_weights_that_are_there_are_not_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from avel.backbones import weights

    asked = []
    monkeypatch.setenv("AVEL_CACHE", str(tmp_path))
    monkeypatch.setattr(
        weights, "download", lambda url, path, **_: (asked.append(url), path.write_bytes(b""))
    )
    (tmp_path / "weights").mkdir()
    assert main(["fetch", "weights", "vgg19:torchvision"]) == 0
    assert asked == ["https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"]
    assert "vgg19:torchvision is in" in capsys.readouterr().out
