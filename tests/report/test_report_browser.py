"""The page in headless Chromium, at the widths of a laptop and of a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from avel.types import Event, Timeline
from tests.report_samples import LABELS, hand_timeline, lane_timeline, write_clip

pytestmark = pytest.mark.browser
SIZES = {"laptop": (1280, 900), "phone": (390, 844)}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    target = folder / "clip.html"
    hand_timeline(write_clip(folder / "clip.mp4"), LABELS).save(target)
    (folder / "clip.mp4").unlink()  # the page holds it
    return target


class Opened:
    """A page with everything it complained of and asked for."""

    def __init__(
        self,
        browser: Any,
        path: Path,
        size: tuple[int, int],
        *,
        media: str = "media",
        **options: Any,
    ) -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        view = {"width": size[0], "height": size[1]}
        self.context = browser.new_context(viewport=view, **options)
        self.context.set_default_timeout(90_000)  # busy machines are slow, not wrong
        self.page = self.context.new_page()
        self.page.on("console", lambda m: self.said.append(m.text))
        self.page.on("pageerror", lambda e: self.said.append(str(e)))
        self.page.on("request", lambda r: self.asked.append(r.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_function(
            f"() => {{ const m = document.getElementById('{media}');"
            " return !m || !m.currentSrc || m.readyState >= 1 || m.error }"
        )

    @property
    def time(self) -> float:
        return float(self.page.evaluate("document.getElementById('media').currentTime"))

    @property
    def cursor(self) -> float:
        """Where the cursor stands, as a share of the timeline."""
        return float(
            self.page.evaluate(
                "(() => { const c = document.getElementById('cursor').getBoundingClientRect();"
                " const r = document.getElementById('ruler').getBoundingClientRect();"
                " return (c.left + 1 - r.left) / r.width })()"
            )
        )

    @property
    def outside(self) -> list[str]:
        """Requests for anything but the page and what it holds."""
        return [u for u in self.asked[1:] if not u.startswith(("data:", "blob:"))]


@pytest.fixture(params=SIZES)
def opened(browser: Any, report: Path, request: pytest.FixtureRequest) -> Iterator[Opened]:
    opened = Opened(browser, report, SIZES[request.param])
    yield opened
    assert opened.said == []
    assert opened.outside == []
    opened.context.close()


def test_it_fits_and_plays_its_own_video(opened: Opened) -> None:
    wide = opened.page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0
    assert opened.page.evaluate("document.getElementById('media').duration") == pytest.approx(
        8, abs=0.2
    )
    assert opened.page.evaluate("document.getElementById('media').error") is None


def test_a_click_on_an_event_seeks_the_video(opened: Opened) -> None:
    opened.page.locator(".event").nth(1).click()
    assert opened.time == pytest.approx(5.0, abs=0.05)
    assert opened.cursor == pytest.approx(5 / 8, abs=0.01)
    assert opened.page.locator("#now").inner_text().startswith("Bark 0.70")
    assert opened.page.locator("tr.on").count() == 1


def test_the_table_the_thumbnails_and_the_ruler_seek(opened: Opened) -> None:
    opened.page.locator("tr[data-event] .row").first.click()
    assert opened.time == pytest.approx(1.0, abs=0.05)
    opened.page.locator(".thumbnail").nth(6).click()
    assert opened.time == pytest.approx(6.5, abs=0.05)
    opened.page.locator("#ruler").scroll_into_view_if_needed()
    box = opened.page.locator("#ruler").bounding_box()
    opened.page.mouse.click(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    assert opened.time == pytest.approx(2.0, abs=0.1)
    assert opened.cursor == pytest.approx(1 / 4, abs=0.01)


def test_the_cursor_moves_as_the_video_plays(opened: Opened) -> None:
    before = opened.cursor
    opened.page.evaluate("{ const m = document.getElementById('media'); m.muted = true; m.play() }")
    opened.page.wait_for_function("() => document.getElementById('media').currentTime > 0.6")
    assert opened.cursor > before + 0.05
    assert opened.page.locator("#clock").inner_text() != "0:00.0"


def test_the_keyboard_reaches_everything(opened: Opened) -> None:
    opened.page.locator("#ruler").focus()
    for key, expected in [
        ("ArrowRight", 1),
        ("ArrowRight", 2),
        ("ArrowLeft", 1),
        ("n", 5),
        ("p", 1),
    ]:
        opened.page.keyboard.press(key)
        assert opened.time == pytest.approx(expected, abs=0.05)
    opened.page.keyboard.press("End")
    assert opened.page.locator("#ruler").get_attribute("aria-valuetext") == "0:08.0, no event"
    opened.page.keyboard.press("a")
    assert opened.page.locator("#attention").get_attribute("aria-pressed") == "false"


def test_attention_is_drawn_where_the_map_is_bright_and_can_be_hidden(opened: Opened) -> None:
    alpha = (
        "(k) => { const c = document.querySelectorAll('.thumbnail canvas')[k];"
        " const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        " let best = 3; for (let i = 3; i < d.length; i += 4) if (d[i] > d[best]) best = i;"
        " const p = (best - 3) / 4;"
        " return [p % c.width / c.width, Math.floor(p / c.width) / c.height] }"
    )
    for k in (0, 3, 6):  # the bright place stands in row 3 and column k of 7
        x, y = opened.page.evaluate(alpha, k)
        assert x == pytest.approx((k + 0.5) / 7, abs=0.08)
        assert y == pytest.approx(0.5, abs=0.08)
    canvas = opened.page.locator(".thumbnail canvas").first
    assert canvas.is_visible()
    opened.page.locator("#attention").click()
    assert not canvas.is_visible()


def test_every_button_has_a_name_and_a_size(opened: Opened) -> None:
    buttons = opened.page.locator("button:visible")
    assert buttons.count() > 15
    for button in buttons.all():
        name = button.get_attribute("aria-label") or button.inner_text()
        assert name.strip()
    heights = opened.page.evaluate(
        "[...document.querySelectorAll('button')].filter(b => b.offsetWidth)"
        ".map(b => b.offsetHeight)"
    )
    assert min(heights) >= 22


def test_the_events_can_be_saved_as_csv(opened: Opened, tmp_path: Path) -> None:
    with opened.page.expect_download() as download:
        opened.page.locator("#save-csv").click()
    assert download.value.suggested_filename == "clip.csv"
    download.value.save_as(tmp_path / "clip.csv")
    from avel import report

    assert [e.label for e in report.read(tmp_path / "clip.csv")] == ["Church bell", "Bark"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_from_their_ground(browser: Any, report: Path, scheme: str) -> None:
    opened = Opened(browser, report, SIZES["laptop"], color_scheme=scheme)
    ratios = opened.page.evaluate(CONTRAST)
    assert len(ratios) > 40
    assert [r for r in ratios if r[1] < 4.5] == []
    opened.context.close()


CONTRAST = """() => {
  const pen = Object.assign(document.createElement('canvas'), {width: 1, height: 1})
    .getContext('2d', {willReadFrequently: true});
  const over = (colours) => {
    pen.fillStyle = '#fff'; pen.fillRect(0, 0, 1, 1);
    for (const c of colours) { pen.fillStyle = c; pen.fillRect(0, 0, 1, 1); }
    return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (rgb) => rgb.map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const found = [];
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.checkVisibility() || !e.offsetWidth) continue;
    if (e.closest('script, style, .skip')) continue;
    const grounds = [];
    for (let p = e; p; p = p.parentElement) grounds.unshift(getComputedStyle(p).backgroundColor);
    const ground = over(grounds);
    const text = over([...grounds, getComputedStyle(e).color]);
    const [a, b] = [light(ground), light(text)].sort((x, y) => y - x);
    found.push([e.className + ': ' + e.textContent.trim().slice(0, 30), (a + 0.05) / (b + 0.05)]);
  }
  return found;
}"""


def test_a_hostile_name_runs_no_script(browser: Any, tmp_path: Path) -> None:
    bad = '</script><script>window.broken=1</script><img src=x onerror="window.broken=2">'
    timeline = Timeline(bad, (Event(0, 2, bad, 0.5),), 4.0, (bad,), notes=(bad,))
    timeline.save(tmp_path / "bad.html")
    opened = Opened(browser, tmp_path / "bad.html", SIZES["laptop"])
    opened.page.locator(".event").click()
    assert opened.page.evaluate("window.broken") is None
    assert bad in opened.page.locator("#now").inner_text()
    assert (opened.said, opened.outside) == ([], [])
    opened.context.close()


def test_a_linked_video_plays_and_a_missing_one_leaves_the_timeline(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("avel.report.page.EMBED_BYTES", 10)
    clip = write_clip(tmp_path / "clips" / "my clip.mp4")
    hand_timeline(clip, LABELS).save(tmp_path / "linked.html")
    opened = Opened(browser, tmp_path / "linked.html", SIZES["laptop"])
    opened.page.locator(".event").nth(1).click()
    assert opened.time == pytest.approx(5.0, abs=0.05)
    assert opened.outside == [] or opened.outside == [clip.as_uri()]
    opened.context.close()
    clip.unlink()
    opened = Opened(browser, tmp_path / "linked.html", SIZES["phone"])
    opened.page.locator("#unplayable").wait_for(state="visible")
    opened.page.locator(".event").nth(1).click()
    assert opened.cursor == pytest.approx(5 / 8, abs=0.01)
    assert opened.page.locator("#still").is_visible()
    assert opened.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    opened.context.close()


def test_a_long_timeline_zooms_and_follows_the_cursor(browser: Any, tmp_path: Path) -> None:
    events = tuple(Event(30.0 * i, 30.0 * i + 3, "bark", 0.8) for i in range(240))
    Timeline("gone.mp4", events, 7200.0, ("bark",)).save(tmp_path / "long.html")
    opened = Opened(browser, tmp_path / "long.html", SIZES["phone"])
    for _ in range(6):
        opened.page.locator("#zoom-in").click()
    opened.page.keyboard.press("n")
    for _ in range(30):
        opened.page.keyboard.press("n")
    box = opened.page.locator("#cursor").bounding_box()
    assert 0 <= box["x"] <= 390
    assert opened.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert opened.said == []
    opened.context.close()


@pytest.fixture(params=SIZES)
def single(
    browser: Any, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Opened]:
    folder = tmp_path_factory.mktemp("single")
    lane_timeline(write_clip(folder / "clip.mp4"), [3, 3, 0, 0, 3, 3, 3, 3]).save(folder / "a.html")
    opened = Opened(browser, folder / "a.html", SIZES[request.param])
    yield opened
    assert opened.said == [] and opened.outside == []
    opened.context.close()


def test_what_is_only_heard_is_quiet_and_can_be_hidden(single: Opened) -> None:
    page = single.page
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    rows, switch = page.locator(".single-row"), page.locator("#single")
    assert rows.count() == 2 and rows.first.is_visible()
    heights = [page.locator(q).first.bounding_box()["height"] for q in (".single", ".event")]
    assert heights[0] <= heights[1] < 30
    page.locator(".single").first.click()  # a click jumps there
    assert single.time == pytest.approx(4, abs=0.3)
    assert page.locator("#now").text_content() == "Siren (heard, not seen)"
    assert "Siren (heard, not seen)" in str(page.locator("#ruler").get_attribute("aria-valuetext"))
    switch.click()
    assert switch.get_attribute("aria-pressed") == "false" and not rows.first.is_visible()
    assert page.locator("#now").text_content() == "no event"
    page.keyboard.press("h")
    assert switch.get_attribute("aria-pressed") == "true" and rows.last.is_visible()


def test_the_pointer_and_the_focus_tell_what_it_is(single: Opened) -> None:
    page, tip = single.page, single.page.locator("#tip")
    page.locator(".single").first.hover()
    assert tip.is_visible() and tip.inner_text().split("\n") == ["Siren 0.70", "0:04 – 0:07"]
    page.mouse.move(0, 0)
    assert not tip.is_visible()
    page.locator(".event").last.focus()
    page.keyboard.press("Tab")
    focused = "document.activeElement.getAttribute('aria-label')"
    assert page.evaluate(focused) == "Heard, not seen: Siren, 0:04 – 0:07, score 0.70"
    assert tip.is_visible() and "Siren" in tip.inner_text()
    page.keyboard.press("Enter")
    assert single.time == pytest.approx(4, abs=0.3)
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert not tip.is_visible()
