"""Duan et al. 2021, Audio-Visual Event Localization via Recursive Fusion by Joint Co-Attention."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from avel.papers.rows import PARAMETERS, SEGMENT, Row
from avel.papers.wu2019 import quoted

PAPER, MODEL = "duan2021", "jca"
#: The form as printed, for clips of a fixed length.
_PRINTED: dict[str, Any] = {"form": "paper"}
#: What each table is about.
TITLES = {
    "2": "supervised localization compared", "3": "parts of JCA", "4": "joint representations",
    "5": "sizes and recursions",
}  # fmt: skip
#: Table 3, in percent.
_PARTS: tuple[tuple[str, dict[str, Any], float], ...] = (
    ("no uni-modal BiLSTM", {"unimodal": False}, 74.5),
    ("no joint BiLSTM", {"joint_recurrent": False}, 74.9),
    ("no residual embedding", {"residual": False}, 75.2),
    ("GRU", {"recurrent": "gru"}, 75.3),
    ("average pooling", {"early": "mean"}, 75.1),
    ("max pooling", {"early": "max"}, 75.0),
    ("co-attention", {"attention": "co"}, 75.4),
    ("joint co-attention", {}, 76.2),
)
#: Table 4: our `joint`, percent, millions of parameters.
_JOINTS = (
    ("addition", "add", 75.0, 22.67), ("multiplication", "multiply", 74.6, 22.67),
    ("concatenation", "concat", 75.2, 22.72), ("addition+fc", "add+fc", 75.5, 22.78),
    ("multiplication+fc", "multiply+fc", 75.3, 22.78),
    ("concatenation+fc", "concat+fc", 76.2, 22.83),
)  # fmt: skip
#: Table 5: d_a, d_v, recursions, percent, millions of parameters.
_SIZES = (
    (256, 1024, 4, 75.4, 50.7), (512, 512, 1, 75.1, 14.9), (512, 512, 2, 75.4, 17.5),
    (512, 512, 3, 75.6, 20.1), (512, 512, 4, 76.2, 22.8), (512, 512, 5, 75.6, 25.4),
    (256, 256, 2, 74.8, 4.6), (256, 256, 3, 75.0, 5.2), (256, 256, 4, 75.1, 5.9),
    (256, 256, 5, 74.8, 6.6), (128, 128, 4, 73.8, 1.6),
)  # fmt: skip


def rows() -> Iterator[Row]:
    """Every row, as printed."""
    yield from quoted(PAPER)
    yield Row(PAPER, "2", "DAM", "dam", "sel", {}, {SEGMENT: 74.5}, copied=True)
    yield Row(PAPER, "2", "JCA", MODEL, "sel", _PRINTED, {SEGMENT: 76.2})
    yield Row(PAPER, "2", "JCA, any length (ours)", MODEL, "sel", {}, {})
    for name, options, value in _PARTS:
        yield Row(
            PAPER, "3", f"JCA {name}", MODEL, "sel", {**_PRINTED, **options}, {SEGMENT: value}
        )
    for name, joint, value, millions in _JOINTS:
        values = {SEGMENT: value, PARAMETERS: millions}
        yield Row(PAPER, "4", f"JCA {name}", MODEL, "sel", {**_PRINTED, "joint": joint}, values)
    for audio, visual, times, value, millions in _SIZES:
        name = f"JCA d_a={audio} d_v={visual} recursions={times}"
        options = {"audio_out": audio, "visual_out": visual, "recursions": times, **_PRINTED}
        values = {SEGMENT: value, PARAMETERS: millions}
        yield Row(PAPER, "5", name, MODEL, "sel", options, values)
