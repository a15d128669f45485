"""The pictures of docs/serve.md: Toybox clips in `avel serve`, looked at with Chromium.

    python scripts/serve_pictures.py [FOLDER]

Clips and jobs lie in FOLDER (a temporary one if none is named); the pictures go to docs/images.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from PIL import Image
from playwright.sync_api import sync_playwright

from avel.data.toybox.dataset import ToyboxPlan, render_clip

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
#: What the clips are called, their seeds and seconds; seeds that no data set and training has.
CLIPS = {
    "bell and police car.mp4": (1_000_000_068, 30),
    "yard, camera 2.mp4": (1_000_000_071, 20),
    "night watch.mp4": (1_000_000_072, 20),
    "market square, whole morning.mp4": (1_000_000_073, 240),
}
MOST = 300_000  # bytes of a picture


def rendered(folder: Path) -> dict[str, bytes]:
    """The clips, by name; those that are there aren't drawn again."""
    for name, (seed, seconds) in CLIPS.items():
        if not (folder / name).exists():
            drawn = render_clip(ToyboxPlan(seed=seed, seconds=seconds), 0, folder / str(seed))
            shutil.copyfile(folder / str(seed) / "videos" / f"{drawn}.mp4", folder / name)
    return {name: (folder / name).read_bytes() for name in CLIPS}


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """The address of `avel serve` with a state of its own."""
    state = folder / "state"
    shutil.rmtree(state, ignore_errors=True)
    command = [sys.executable, "-u", "-m", "avel", "serve", "--port", "0", "--no-cache"]
    command += ["--state", str(state), "--data", str(folder / "learn"), "--root", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            lines = iter(process.stdout.readline, "")
            yield next(m[0] for m in (re.search(r"http://\S+", line) for line in lines) if m)
        finally:
            process.terminate()


def sent(api: httpx2.Client, name: str, content: bytes) -> str:
    """The id of a new job."""
    answer = api.post("api/jobs", files={"file": (name, content)}).raise_for_status()
    return str(answer.json()["id"])


def ended(api: httpx2.Client, id: str) -> str:
    """The same id, once the job neither waits nor runs."""
    while api.get(f"api/jobs/{id}").json()["state"] in ("queued", "running"):
        time.sleep(0.2)
    return id


def shoot(page: Any, name: str) -> None:
    """Keep a picture; in 256 colours where it would be large."""
    image = Image.open(io.BytesIO(page.screenshot(animations="disabled"))).convert("RGB")
    target = IMAGES / name
    image.save(target, optimize=True)
    if target.stat().st_size > MOST:
        image.quantize(256, dither=Image.Dither.NONE).save(target, optimize=True)
    size = target.stat().st_size
    print(f"{target}: {size} bytes")
    if size > MOST:
        raise SystemExit(f"{target} has {size} bytes; expected at most {MOST}")


def correcting(page: Any, address: str, id: str) -> None:
    """An event's end is being dragged."""
    page.goto(f"{address}#/job/{id}")
    page.locator("#timeline .event").first.click()
    page.wait_for_function("() => document.getElementById('media').readyState >= 2")
    box = page.locator("#timeline .event").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] - 1, box["y"] + 14)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 90, box["y"] + 16, steps=4)
    page.wait_for_timeout(1500)  # for the picture there
    shoot(page, "serve-correct.png")
    page.mouse.up()


def listing(page: Any, address: str, api: httpx2.Client, clips: dict[str, bytes]) -> None:
    """Jobs in every state."""
    names = list(clips)
    page.goto(address)
    page.locator(".job").first.wait_for()
    ended(api, sent(api, "cassette 17, side B.mp4", clips[names[0]][:2000]))
    sent(api, names[3], clips[names[3]])
    sent(api, "tram stop.mp4", clips[names[1]])
    page.locator(".job.running .progress span", has_text="left").wait_for()
    shoot(page, "serve-files.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path)
    folder = parser.parse_args().folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    clips = rendered(folder)
    names = list(clips)
    chromium = os.environ.get("AVEL_CHROMIUM") or shutil.which("chromium")
    with server(folder) as address, httpx2.Client(base_url=address, timeout=300) as api:
        first = [ended(api, sent(api, name, clips[name])) for name in names[:3]]
        current = api.get(f"api/jobs/{first[1]}/annotations").json()
        body = {"revision": current["revision"], "events": current["events"]}
        api.put(f"api/jobs/{first[1]}/annotations", json=body).raise_for_status()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            size = {"width": 1440, "height": 1000}
            page = browser.new_page(viewport=size, color_scheme="dark", locale="en-GB")
            correcting(page, address, first[0])
            page = browser.new_page(viewport={"width": 1280, "height": 880}, locale="en-GB")
            listing(page, address, api, clips)
            browser.close()


if __name__ == "__main__":
    main()
