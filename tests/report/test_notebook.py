"""A timeline in a notebook: the report in a frame of its own, bounded, and nothing breaks out."""

from __future__ import annotations

import base64
import html
import re
from pathlib import Path
from typing import Any

import pytest

from avel.report import notebook
from avel.types import Event, Timeline
from tests.report.test_report import HOSTILE, Elements
from tests.report_samples import LABELS, hand_timeline


def shown(timeline: Timeline) -> tuple[dict[str, str | None], str]:
    """The frame's attributes, and the page within it."""
    text = timeline._repr_html_()
    [(tag, attributes)] = Elements(text).tags
    assert tag == "iframe"
    return attributes, str(attributes["srcdoc"])


def test_the_frame_holds_the_report_and_may_do_little(clip: Path) -> None:
    attributes, page = shown(hand_timeline(clip, LABELS))
    assert attributes["sandbox"] == "allow-scripts allow-downloads"  # no origin: no way out
    assert attributes["title"] == "street & square.mp4"
    assert page.startswith("<!doctype html>") and "Church bell" in page
    assert base64.b64encode(clip.read_bytes()).decode() in page
    assert "spectrogram" in page


def test_names_and_labels_can_not_break_out() -> None:
    name = f"x/\ud800{HOSTILE.replace('/', '')}.mp4"
    timeline = Timeline(name, (Event(0, 2, HOSTILE),), 3.0, (HOSTILE,), notes=(HOSTILE,))
    attributes, page = shown(timeline)
    assert set(attributes) == {"sandbox", "allow", "referrerpolicy", "title", "style", "srcdoc"}
    assert [s.get("id") for s in Elements(page).all("script")] == ["avel-data", None]
    timeline._repr_html_().encode()  # a notebook is UTF-8


def test_large_videos_stay_outside(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook, "EMBED_BYTES", 100)
    monkeypatch.setattr(notebook, "LONGEST", 5.0)
    _, page = shown(hand_timeline(clip, LABELS))
    assert "isn’t part of this page" in page and len(page) < 200_000
    assert not Elements(page).all("video")
    assert 'class="spectrogram"' not in page


def test_a_report_too_large_is_a_line(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook, "MOST", 1000)
    text = hand_timeline("<b>.mp4", LABELS)._repr_html_()
    assert len(text) < 300 and "2 events in 8 s" in text and "&lt;b&gt;.mp4" in text


def test_without_its_video_it_is_shown_too() -> None:
    _, page = shown(hand_timeline("nowhere/clip.mp4", LABELS))
    assert "be read, so this page has no pictures" in html.unescape(page)


@pytest.mark.slow
@pytest.mark.browser
def test_it_works_within_a_page_and_cannot_reach_it(
    browser: Any, clip: Path, tmp_path: Path
) -> None:
    cell = hand_timeline(clip, LABELS)._repr_html_()
    (tmp_path / "notebook.html").write_text(
        f"<!doctype html><title>notebook</title><p>In [1]: found</p>{cell}", "utf-8"
    )
    page = browser.new_page(viewport={"width": 1000, "height": 800})
    page.set_default_timeout(90_000)
    messages: list[str] = []
    page.on("console", lambda m: messages.append(m.text))
    page.on("pageerror", lambda e: messages.append(str(e)))
    page.goto((tmp_path / "notebook.html").as_uri())
    inner = page.frame_locator("iframe")
    inner.locator(".event").nth(1).click()
    inner.locator("#now").filter(has_text=re.compile("Bark")).wait_for()
    media = inner.locator("#media")
    assert media.evaluate("m => m.currentTime") == pytest.approx(5.0, abs=0.1)
    assert media.evaluate("m => m.error") is None
    reach = "() => { try { return parent.document.title } catch (e) { return e.name } }"
    assert page.frames[1].evaluate(reach) == "SecurityError"
    page.screenshot(path=str(tmp_path / "notebook.png"))
    assert messages == []
