"""The page of a search in headless Chromium, at the widths of a laptop and of a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from avel.search.results import Match, SearchResult
from tests.report.test_report_browser import CONTRAST, SIZES, Opened
from tests.report.test_search_page import search_result
from tests.report_samples import write_clip

pytestmark = pytest.mark.browser


def save(result: SearchResult, target: Path) -> Path:
    result.save(target)
    return target


def opened_page(browser: Any, path: Path, size: str, **options: Any) -> Opened:
    return Opened(browser, path, SIZES[size], media="match-media", **options)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("found")
    clip = write_clip(folder / "clip.mp4")
    target = save(search_result(clip), folder / "found.html")
    clip.unlink()  # the page holds what it shows
    return target


@pytest.fixture(params=SIZES)
def opened(browser: Any, report: Path, request: pytest.FixtureRequest) -> Iterator[Opened]:
    opened = opened_page(browser, report, request.param)
    yield opened
    assert opened.said == []
    assert opened.outside == []
    opened.context.close()


def time(opened: Opened, name: str) -> float:
    return float(opened.page.evaluate(f"document.getElementById('{name}-media').currentTime"))


def wait_for(opened: Opened, name: str, seconds: float) -> None:
    opened.page.wait_for_function(
        f"() => Math.abs(document.getElementById('{name}-media').currentTime - {seconds}) < 0.05"
    )


def test_it_fits_and_stands_at_the_query_and_the_nearest_match(opened: Opened) -> None:
    assert opened.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    for name in ("query", "match"):
        wait_for(opened, name, 2)  # both windows begin two seconds into their cuts
        length = opened.page.evaluate(f"document.getElementById('{name}-media').duration")
        assert length == pytest.approx(6, abs=0.2)
    left = opened.page.evaluate("document.querySelector('#match-reel .at-now').style.left")
    assert float(left.rstrip("%")) == pytest.approx(100 * 2 / 6, abs=1)


def test_a_click_on_a_moment_plays_from_where_it_begins(opened: Opened) -> None:
    opened.page.locator(".match").nth(1).click()
    assert opened.page.locator("#match-title").inner_text() == "Match 2 of 2"
    assert opened.page.locator("#match-times").inner_text() == "0:00 – 0:02, distance 1.000"
    assert opened.page.locator(".match.on").get_attribute("data-match") == "1"
    opened.page.wait_for_function(
        "() => Math.abs(document.getElementById('match-media').duration - 4) < 0.2"
    )
    wait_for(opened, "match", 0)
    opened.page.locator(".match").nth(0).click()
    wait_for(opened, "match", 2)
    assert opened.page.locator("#match-link").get_attribute("href").endswith("clip.mp4#t=4,6")


def test_the_reel_and_the_keyboard_seek(opened: Opened) -> None:
    wait_for(opened, "query", 2)
    opened.page.locator("#query-reel").scroll_into_view_if_needed()
    box = opened.page.locator("#query-reel .lane").bounding_box()
    opened.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert time(opened, "query") == pytest.approx(3, abs=0.1)
    for key, title in (("n", "2"), ("n", "2"), ("p", "1"), ("p", "1")):
        opened.page.keyboard.press(key)
        assert opened.page.locator("#match-title").inner_text() == f"Match {title} of 2"
    assert opened.page.locator("#previous").is_disabled()


def test_together_plays_one_modality_of_each_and_ends_with_the_match(opened: Opened) -> None:
    wait_for(opened, "query", 2)
    wait_for(opened, "match", 2)
    opened.page.locator("#together").click()
    opened.page.wait_for_function(  # in the page: the pair plays for less than two seconds
        """() => {
          const media = (name) => document.getElementById(`${name}-media`), match = media('match');
          return match.currentTime > 2.3 && match.muted && !media('query').muted;
        }"""
    )
    opened.page.wait_for_function(
        "() => ['query', 'match'].every((n) => document.getElementById(`${n}-media`).paused)"
    )
    assert max(time(opened, n) for n in ("query", "match")) >= 3.9
    assert opened.page.evaluate("document.getElementById('match-media').muted") is False


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_from_their_ground(browser: Any, report: Path, scheme: str) -> None:
    opened = opened_page(browser, report, "laptop", color_scheme=scheme)
    ratios = opened.page.evaluate(CONTRAST)
    assert len(ratios) > 20
    assert [r for r in ratios if r[1] < 4.5] == []
    opened.context.close()


def test_hostile_names_run_no_script_and_fit_a_phone(browser: Any, tmp_path: Path) -> None:
    bad = '<script>window.broken=1<img src=x onerror="window.broken=2">' + "w" * 90
    matches = (Match(bad, 0, 2, 0.5), Match(bad, 3, 5, 0.6))
    path = save(search_result(bad, matches=matches, notes=(bad,)), tmp_path / "bad.html")
    opened = opened_page(browser, path, "phone")
    opened.page.locator(".match").nth(1).click()
    assert opened.page.locator("#match-name").inner_text() == bad
    assert opened.page.evaluate("window.broken") is None
    assert opened.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert opened.page.locator("#match-unplayable").is_visible()
    assert (opened.said, opened.outside) == ([], [])
    opened.context.close()
