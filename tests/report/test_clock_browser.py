"""One clock in avel and in a browser's player: the same instant shows the same frame."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from avel import clock
from avel.media.file import frames_at, open_media
from tests.media_files import mux, tone
from tests.report.test_report_browser import Opened
from tests.report_samples import hand_timeline

pytestmark = pytest.mark.browser
LABELS = [3, 0, 0, 0, 3, 1, 1, 3, 2, 2, 2, 3]
FPS, LATE = 10, 7.0
KINDS = {
    "a.mp4": ("libx264", "aac"),
    "b.mov": ("libx264", "aac"),
    "c.mkv": ("libvpx", "libopus"),
    "d.webm": ("libvpx", "libopus"),
}


def numbered(number: int) -> NDArray[np.uint8]:
    """A frame whose eight bars are its number in binary."""
    image = np.zeros((64, 128, 3), np.uint8)
    for bit in range(8):
        image[:, 16 * bit : 16 * bit + 16] = 255 * (number >> bit & 1)
    return image


def number_of(image: NDArray[np.uint8]) -> int:
    """The number that a frame of any size shows."""
    height, width = image.shape[:2]
    places = [round((bit + 0.5) * width / 8) for bit in range(8)]
    return sum((image[height // 2, x].mean() > 128) << bit for bit, x in enumerate(places))


def late_clip(path: Path, *, start: float = LATE) -> Path:
    """Numbered frames, ten a second for 12 s, in a container that starts late."""
    video, audio = KINDS.get(path.name, KINDS["a.mp4"])
    frames = [(start + i / FPS, numbered(i)) for i in range(12 * FPS)]
    return mux(path, pictures=frames, sounds=[(start, tone(12, 48000))], rate=48000,
               video=video, audio=audio)  # fmt: skip


def shown(opened: Any) -> int:
    """The number of the frame that the page's player shows."""
    opened.page.add_style_tag(content="#overlay { display: none }")
    opened.page.evaluate("document.getElementById('media').controls = false")
    opened.page.wait_for_timeout(300)
    data = opened.page.locator("#media").screenshot()
    image = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    lit = np.flatnonzero(image.max(axis=(0, 2)) > 128)
    assert len(lit), "the player shows nothing"
    left = (image.shape[1] - 2 * image.shape[0]) // 2  # bars beside a picture of 2 : 1
    return number_of(image[:, max(left, 0) : image.shape[1] - max(left, 0)])


def shows(opened: Any, number: int) -> bool:
    """Whether the player comes to show a frame, give or take one, within some seconds.

    A busy machine paints the frame of a seek some time after the player has said that it is there.
    """
    return any(abs(shown(opened) - number) <= 1 for _ in range(15))


@pytest.fixture(params=KINDS)
def late(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return late_clip(tmp_path / request.param)


def expected_at(path: Path, seconds: float) -> int:
    (image,) = frames_at(path, [seconds], width=128)
    assert image is not None
    return number_of(image)


def wait(opened: Any) -> None:
    opened.page.wait_for_function(
        "() => { const m = document.getElementById('media');"
        " return m.readyState >= 2 && !m.seeking }"
    )


def test_the_reports_player_shows_avels_frames(browser: Any, late: Path) -> None:
    target = late.with_suffix(".html")
    hand_timeline(late, LABELS).save(target)
    media = open_media(late)
    assert media.player_start == pytest.approx(LATE, abs=0.05)
    opened = Opened(browser, target, (1280, 900))
    for index, start in enumerate((1.0, 5.0, 8.0)):
        opened.page.locator("tr[data-event]").nth(index).locator("button.row").click()
        wait(opened)
        assert opened.time == pytest.approx(start + media.player_start, abs=0.02)
        assert opened.cursor == pytest.approx(start / 12, abs=0.01)
        assert shows(opened, expected_at(late, start))
    opened.context.close()


def test_the_written_subtitles_are_those_of_the_player(browser: Any, late: Path) -> None:
    target = late.with_suffix(".vtt")
    media = open_media(late)
    timeline = hand_timeline(late, LABELS, player_start=media.player_start)
    timeline.save(target)
    video, cues = (base64.b64encode(p.read_bytes()).decode() for p in (late, target))
    kind = "video/mp4" if late.suffix in (".mp4", ".mov") else "video/webm"
    page = browser.new_page()
    page.set_content("<video id=media muted preload=auto><track default id=track></video>")
    page.evaluate(
        """([video, kind, cues]) => {
          const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
          const url = (text, type) => URL.createObjectURL(new Blob([bytes(text)], { type }));
          document.getElementById('track').src = url(cues, 'text/vtt');
          document.getElementById('media').src = url(video, kind);
        }""",
        [video, kind, cues],
    )
    page.wait_for_function(
        "() => document.getElementById('track').readyState === 2"
        " && document.getElementById('media').readyState >= 2"
    )
    spans = page.evaluate(
        "[...document.getElementById('track').track.cues].map((c) => [c.startTime, c.endTime])"
    )
    expected = [(e.start, e.end) for e in timeline]
    assert len(spans) == len(expected)
    for (start, end), (first, last) in zip(spans, expected, strict=True):
        assert start == pytest.approx(first + media.player_start, abs=0.002)
        assert end == pytest.approx(last + media.player_start, abs=0.002)
    page.close()


def test_a_file_that_starts_at_once_is_as_before(browser: Any, tmp_path: Path) -> None:
    clip = late_clip(tmp_path / "a.mp4", start=0.0)
    assert open_media(clip).player_start == 0
    hand_timeline(clip, LABELS).save(tmp_path / "a.html")
    opened = Opened(browser, tmp_path / "a.html", (1280, 900))
    opened.page.locator("tr[data-event]").nth(1).locator("button.row").click()
    wait(opened)
    assert opened.time == pytest.approx(5.0, abs=0.02)
    assert shows(opened, 50)
    opened.context.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    pytest.importorskip("fastapi", reason="the server's packages aren't installed: avel[serve]")
    from tests.web.page import running

    with running(tmp_path_factory.mktemp("serve")) as server:
        yield server


def test_the_served_player_shows_avels_frames(browser: Any, site: Any, late: Path) -> None:
    from tests.web.page import Opened as Served

    id = site.done(f"late-{late.name}", late.read_bytes())
    opened = Served(browser, site, f"#/job/{id}")
    opened.ready()
    late_by = open_media(late).player_start
    opened.event("Bark").click()
    wait(opened)
    assert opened.time == pytest.approx(4.0 + late_by, abs=0.05)
    assert shows(opened, expected_at(late, 4.0))
    (first, *_) = site.events(id)
    text = site.api.get(f"api/jobs/{id}/export", params={"format": "vtt"}).text
    assert clock.format_time(first[0] + late_by) in text
    opened.context.close()
