"""The report for a notebook's cell, in a sandboxed frame."""

from __future__ import annotations

from html import escape
from pathlib import Path

from avel.report.page import render
from avel.report.view import length_text
from avel.types import Timeline

#: Largest embedded video in bytes, and largest frame in characters.
EMBED_BYTES, MOST = 4 * 10**6, 12 * 10**6
#: Seconds of sound up to which a spectrogram is drawn, so that a cell is shown quickly.
LONGEST = 1800.0
#: Height of the frame in pixels.
HEIGHT = 720


def frame(timeline: Timeline) -> str:
    """The report of a timeline as HTML for a notebook's cell.

    The page is in a sandboxed ``iframe``: its scripts have no origin and can't access the notebook.
    It contains neither videos larger than ``EMBED_BYTES`` nor spectrograms of sound longer than
    ``LONGEST``; for a report that is still larger than ``MOST`` a line says how to save it.

    Args:
        timeline: As for :func:`avel.report.page.render`.
    """
    short_enough = timeline.duration <= LONGEST
    page = render(timeline, page=None, embed=EMBED_BYTES, spectrogram=short_enough)
    page = page.encode("utf-8", "replace").decode()
    name = escape(Path(timeline.video).name.encode("utf-8", "replace").decode()[:200] or "video")
    if len(page) > MOST:
        count, length = len(timeline.events), length_text(timeline.duration)
        return (
            f"<p>{name}: {count} events in {length}. The report is too large for a notebook: "
            "<code>.save(&quot;report.html&quot;)</code> writes it.</p>"
        )
    style = f"width: 100%; height: {HEIGHT}px; border: 0; border-radius: 8px; resize: vertical"
    return (
        '<iframe sandbox="allow-scripts allow-downloads" allow="fullscreen" '
        f'referrerpolicy="no-referrer" title="{name}" style="{style}" '
        f'srcdoc="{escape(page)}"></iframe>'
    )
