"""Runs docs/tour.md, and makes what it and docs/reading-a-report.md show.

    python scripts/tour.py FOLDER

FOLDER keeps what the page's commands make and print, so that none is run twice; some minutes on
two cores. What they print goes into the page, pictures go to docs/images. Chromium is `chromium`
on the path, or AVEL_CHROMIUM.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

from PIL import Image

from avel.cli.main import main

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "tour.md"
IMAGES = ROOT / "docs" / "images"
REPORT = Path("demo/big_buck_bunny.html")
#: A second in the bird's event, and the first copy's frame that is shown.
AT = 3.5
_RUN = re.compile(
    r"^(?P<head>```sh\n(?P<code>[^`]*)```\n\n<!-- printed -->\n```text\n)(?P<text>.*?)(?=^```$)",
    re.S | re.M,
)
#: The report's parts that docs/reading-a-report.md shows.
PARTS = {
    "report-events": "section.list table",
    "report-player": "section.player",
    "report-timeline": "#timeline",
    "report-pictures": "section:has(> .thumbnails)",
    "report-model": ".lower",
}


def said(line: str, log: Path) -> str:
    """What a command prints, run or as it was kept in the log folder."""
    kept = log / re.sub(r"\W+", "_", line)
    if not kept.exists():
        print(line, flush=True)
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            if main(shlex.split(line)[1:]) != 0:
                raise SystemExit(f"failed: {line}")
        kept.write_text(out.getvalue(), "utf-8")
    return kept.read_text("utf-8")


def printed(page: str, log: Path) -> str:
    """The page with what its commands print."""
    log.mkdir(exist_ok=True)

    def block(match: re.Match[str]) -> str:
        text = "".join(said(line, log) for line in match["code"].splitlines())
        lines = (line.rstrip() for line in text.strip("\n").splitlines())
        return match["head"] + "\n".join(lines) + "\n"

    return _RUN.sub(block, page)


def pictures(report: Path, copy: Path) -> None:
    """The report whole and in parts, and a frame of the copy."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        path = os.environ.get("AVEL_CHROMIUM") or shutil.which("chromium")
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = opened(browser, report, (1280, 1290))
        save(page.screenshot(), "demo-report.jpg")
        for name, where in PARTS.items():
            save(page.locator(where).first.screenshot(), f"{name}.jpg")
        save(opened(browser, report, (390, 844)).screenshot(), "report-phone.jpg")
        browser.close()
    frame_of(copy, AT).save(IMAGES / "tour-annotated.jpg", quality=88)


def opened(browser: Any, report: Path, size: tuple[int, int]) -> Any:
    """The report in a window of that size, at a moment within the bird's event."""
    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    page.goto(report.resolve().as_uri())
    page.wait_for_function("() => document.getElementById('media').readyState >= 2")
    page.evaluate(f"document.getElementById('media').currentTime = {AT}")
    page.wait_for_function(f"() => document.getElementById('media').currentTime === {AT}")
    page.wait_for_function("() => document.getElementById('clock').textContent === '0:03.5'")
    page.wait_for_function("() => !document.getElementById('media').seeking")
    page.wait_for_timeout(2000)  # the picture is drawn after that
    return page


def save(png: bytes, name: str) -> None:
    """A screenshot as JPEG."""
    Image.open(io.BytesIO(png)).convert("RGB").save(IMAGES / name, quality=82, optimize=True)
    print(name, (IMAGES / name).stat().st_size // 1024, "KB")


def frame_of(video: Path, at: float) -> Image.Image:
    """The first picture at or after an instant."""
    import av

    with av.open(str(video)) as held:
        return next(f.to_image() for f in held.decode(video=0) if f.time >= at)


def build(folder: Path) -> None:
    """Run the page, write it, make its pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["COLUMNS"] = "100"
    with contextlib.chdir(folder):
        page = printed(PAGE.read_text("utf-8"), Path("printed"))
        pictures(REPORT, Path("demo/found.mp4"))
    PAGE.write_text(page, "utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    build(parser.parse_args().folder)
