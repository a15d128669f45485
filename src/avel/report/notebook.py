"""A timeline as a notebook shows it: the report, in a frame that reaches nothing around it."""

from __future__ import annotations

from html import escape
from pathlib import Path

from avel.report.page import render
from avel.report.view import length_text
from avel.types import Timeline

#: Videos up to so many bytes are part of the notebook, and frames up to so many characters.
EMBED_BYTES, MOST = 4 * 10**6, 12 * 10**6
#: Seconds of sound up to which a spectrogram is made: a cell that shows a value is no long work.
LONGEST = 1800.0
#: Pixels that the frame is high.
HEIGHT = 720


def frame(timeline: Timeline) -> str:
    """The report of a timeline as HTML for a notebook's cell.

    A page of its own in an ``iframe``: its scripts run, but without an origin (``sandbox``), so
    that nothing of the notebook is in their reach. Larger videos than ``EMBED_BYTES`` aren't part
    of it, nor is the spectrogram of sound longer than ``LONGEST``; a report that is larger than
    ``MOST`` all the same is a line that says how to save it.

    Args:
        timeline: As for :func:`avel.report.page.render`.
    """
    heard = timeline.duration <= LONGEST
    page = render(timeline, page=None, embed=EMBED_BYTES, spectrogram=heard)
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
