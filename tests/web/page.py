"""A server for the page's tests, and the page in a browser, as a person finds it."""

from __future__ import annotations

import io
import threading
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

from avel.web.jobs import JobService
from avel.web.roots import named_roots
from avel.web.server import bind, server_of
from avel.web.training import TrainingOptions
from tests.report_samples import write_clip
from tests.web import fake_training, page_worker

TOKEN = "a-token-of-tests-only"


class Site:
    """A server that runs, and what its tests ask of it behind the page's back."""

    def __init__(self, address: str, clip: Path, root: Path, service: JobService) -> None:
        self.address, self.clip, self.root, self.service = address, clip, root, service
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        self.api = httpx2.Client(base_url=address, headers=bearer, timeout=60)

    def job(self, name: str) -> dict[str, Any]:
        """The newest job of a name."""
        jobs = self.api.get("api/jobs").json()["jobs"]
        return next(j for j in jobs if j["name"] == name)

    def done(self, name: str = "clip.mp4", content: bytes | None = None) -> str:
        """The id of a new job that is done: of the clip, or of other content."""
        data = self.clip.read_bytes() if content is None else content
        sent = self.api.post("api/jobs", files={"file": (name, data)})
        id = str(sent.json()["id"])
        for _ in range(600):
            job = self.api.get(f"api/jobs/{id}").json()
            if job["state"] == "done":
                return id
            assert job["state"] in ("queued", "running"), job
            time.sleep(0.1)
        raise AssertionError("still not done")

    def events(self, id: str) -> list[tuple[float, float, str]]:
        """What is saved, or found, of a job."""
        events = self.api.get(f"api/jobs/{id}/annotations").json()["events"]
        return [(e["start"], e["end"], e["label"]) for e in events]


class Opened:
    """The page with its console errors and its requests."""

    def __init__(
        self, browser: Any, site: Site, path: str = "", *, width: int = 1280, height: int = 900,
        token: str = TOKEN, **options: Any,
    ) -> None:  # fmt: skip
        self.site = site
        self.errors: list[str] = []
        self.requests: list[str] = []
        view = {"width": width, "height": height}
        self.context = browser.new_context(viewport=view, **options)
        self.context.set_default_timeout(90_000)  # busy machines are slow, not wrong
        self.page = self.context.new_page()
        self.page.on("console", lambda m: m.type == "error" and self.errors.append(m.text))
        self.page.on("pageerror", lambda e: self.errors.append(str(e)))
        self.page.on("request", lambda r: self.requests.append(r.url))
        if token:
            self.page.goto(f"{site.address}?token={token}")
        if path or not token:
            self.page.goto(f"{site.address}{path}")

    @property
    def outside(self) -> list[str]:
        """Requests to anybody but the server."""
        allowed = (self.site.address, "data:", "blob:")
        return [u for u in self.requests if not u.startswith(allowed)]

    @property
    def time(self) -> float:
        return float(self.page.evaluate("document.getElementById('media').currentTime"))

    @property
    def wider(self) -> int:
        """Pixels by which the page is wider than the window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - innerWidth"))

    def ready(self) -> None:
        """Wait until the file that is shown can be corrected and plays."""
        self.page.locator("#timeline .event").first.wait_for()
        self.page.wait_for_function("() => document.getElementById('media').readyState >= 1")

    def table(self) -> list[str]:
        """The events as the table shows them."""
        rows = self.page.locator("tr[data-event]")
        return [" ".join(r.locator("th, td").all_inner_texts()[:2]) for r in rows.all()]

    def event(self, label: str, number: int = 0) -> Any:
        return self.page.locator(f'.lane[data-label="{label}"] .event').nth(number)

    def x(self, seconds: float) -> float:
        """Where an instant lies on the timeline, in pixels."""
        box = self.page.locator("#ruler").bounding_box()
        return float(box["x"] + box["width"] * seconds / 6)

    def drag(self, start: tuple[float, float], seconds: float, **options: Any) -> None:
        """Press at a point, move to an instant in steps, let go."""
        mouse = self.page.mouse
        mouse.move(*start)
        mouse.down()
        mouse.move((start[0] + self.x(seconds)) / 2, start[1] + 1)
        mouse.move(self.x(seconds), start[1], **options)
        mouse.up()

    def edge(self, event: Any, side: str) -> tuple[float, float]:
        event.scroll_into_view_if_needed()
        box = event.bounding_box()
        x = box["x"] + (1 if side == "start" else box["width"] - 1)
        return x, box["y"] + box["height"] / 2

    def saved(self) -> None:
        self.page.locator("#saved", has_text="saved").and_(
            self.page.locator("#saved:not(.dirty)")
        ).wait_for(state="attached")


def tone(seconds: int) -> bytes:
    """A sound file."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        wavy = np.sin(2 * np.pi * 440 / 16000 * np.arange(seconds * 16000))
        file.writeframes((9000 * wavy).astype("<i2").tobytes())
    return buffer.getvalue()


@contextmanager
def running(folder: Path) -> Iterator[Site]:
    """A server on a free port, with a clip of six seconds in a root."""
    clip = write_clip(folder / "recordings" / "old" / "on the server.mp4", seconds=6)
    roots = named_roots([folder / "recordings"])
    service = JobService(
        folder / "state", page_worker.start, roots=roots, data=folder / "learn",
        training=TrainingOptions({}, recipe=("until=go",), function=fake_training.train),
    )  # fmt: skip
    service.load()
    place = bind("127.0.0.1", 0)
    server = server_of(service, place, TOKEN)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [place.socket]})
    thread.start()
    yield Site(place.address, clip, folder / "recordings", service)
    server.should_exit = True
    thread.join(30)


#: Drops a file of a name and content (base64) on the page.
DROP = """([name, content]) => {
  const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0)), dt = new DataTransfer();
  dt.items.add(new File([bytes], name, { type: 'video/mp4' }));
  for (const kind of ['dragenter', 'dragover', 'drop']) {
    const options = { dataTransfer: dt, bubbles: true, cancelable: true };
    document.body.dispatchEvent(new DragEvent(kind, options));
    if (kind === 'dragenter') window.veiled = !document.getElementById('veil').hidden;
  }
}"""

#: What has no name that a screen reader could say.
NAMELESS = """() => [...document.querySelectorAll('button, a, input, select, [role=slider], img')]
  .filter((e) => e.checkVisibility() && !(e.tagName === 'IMG' && e.hasAttribute('alt')))
  .filter((e) => !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length))
  .map((e) => e.outerHTML)"""
