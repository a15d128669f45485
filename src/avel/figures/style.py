"""Shared by all figures: axes without pyplot, colours, shortened names, files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avel.errors import UsageError, printable
from avel.files import whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

#: Right and wrong, first and second of two: pairs for colour-blind people too (Okabe, Ito).
RIGHT, WRONG = "#009E73", "#D55E00"
FIRST, SECOND = "#E69F00", "#0072B2"
#: Background, and unknown values.
FAINT, GREY = "#E4E7EC", "#8A919C"
#: Classes of a scatter plot; with more classes the markers change too.
COLOURS = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#5B4DB0", "#4D4D4D",
)  # fmt: skip
MARKERS = "os^DvPX*"
#: File endings of figures.
ENDINGS = (".png", ".svg", ".pdf")
#: Printed on every figure of simulated features.
SIMULATED = "SIMULATED features: says nothing about real recordings"
#: Fonts for scripts that matplotlib's own font lacks, used where they are installed.
FALLBACKS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Noto Sans JP", "Noto Sans KR",
    "PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo", "Microsoft YaHei", "Yu Gothic",
    "Malgun Gothic", "WenQuanYi Zen Hei", "Noto Sans Thai", "Noto Sans Devanagari",
    "Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Bengali", "Noto Sans Tamil",
    "Arial Unicode MS",
)  # fmt: skip
#: Empty inches around a figure.
MARGIN = 0.1
#: Smallest letters that can be read, in points.
SMALLEST = 5.0


def new_axes(ax: Axes | None, *, width: float, height: float) -> Axes:
    """The axes given, or the only ones of a new figure of that size in inches."""
    if ax is not None:
        return ax
    return new_figure(width, height).add_subplot()


def new_figure(width: float, height: float) -> Figure:
    """A figure with constrained layout, not registered with pyplot."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(h_pad=MARGIN, w_pad=MARGIN)
    return Figure(figsize=(width, height), layout=layout)


def stacked_axes(
    heights: Sequence[float], *, width: float, left: float = 0.9, right: float = 0.15,
    top: float = 0.3, gap: float | Sequence[float] = 0.08,
) -> list[Axes]:  # fmt: skip
    """Axes one above the other, of one width; all measures are inches.

    Args:
        heights: Of the rows, the uppermost first.
        width: Between the margins.
        left, right, top: Margins; below is room for a time axis.
        gap: Between two rows, the same everywhere or one number for each pair.
    """
    from matplotlib.figure import Figure

    gaps = [gap] * (len(heights) - 1) if isinstance(gap, int | float) else list(gap)
    total = top + sum(heights) + sum(gaps) + 0.45
    full = left + width + right
    figure = Figure(figsize=(full, total))
    axes: list[Axes] = []
    upper = total - top
    for height, below in zip(heights, [*gaps, 0.0], strict=True):
        bounds = (left / full, (upper - height) / total, width / full, height / total)
        axes.append(figure.add_axes(bounds))
        upper -= height + below
    return axes


def check_axes(axes: Sequence[Axes], rows: int, expected: str) -> None:
    """Refuse another number of axes than a figure has rows.

    Raises:
        UsageError: that says what the rows are.
    """
    if len(axes) != rows:
        raise UsageError(f"the figure has {rows} rows, got {len(axes)} axes", expected=expected)


def margin(names: Iterable[str]) -> float:
    """Inches that the longest of some row names takes."""
    return 0.25 + 0.068 * max((len(n) for n in names), default=0)


def plain(text: str) -> str:
    """A name on one line, without control characters, and not read as a formula."""
    return printable(" ".join(text.split())).replace("$", r"\$")


def short_names(names: Iterable[str], limit: int = 24) -> list[str]:
    """Names shortened to the part before a comma, at most ``limit`` characters, if still unique.

    >>> short_names(["Bark", "Male speech, man speaking", "Baby cry, infant cry"])
    ['Bark', 'Male speech', 'Baby cry']
    """
    full = [" ".join(n.split()) for n in names]
    cut = [_cut(n.partition(",")[0], limit) for n in full]
    return [
        plain(short if cut.count(short) == 1 else _cut(name, max(limit, 40)))
        for short, name in zip(cut, full, strict=True)
    ]


def _cut(name: str, limit: int) -> str:
    return name if len(name) <= limit else name[: limit - 1].rstrip() + "…"


def heading(*parts: str, simulated: bool) -> str:
    """A title's lines; with simulated features the last line says so."""
    lines = [plain(p) for p in parts if p]
    return "\n".join([*lines, *([SIMULATED] if simulated else [])])


def letter_size(inches: float, count: int) -> tuple[float, int]:
    """Font size in points for ``count`` names along a length, and the interval of shown names.

    >>> letter_size(6, 29)
    (9.0, 1)
    >>> letter_size(6, 300)
    (5.0, 5)
    """
    room = 0.75 * 72 * inches / max(1, count)
    if room >= SMALLEST:
        return min(9.0, room), 1
    return SMALLEST, -int(-SMALLEST // room)


def size_of(ax: Axes) -> tuple[float, float]:
    """Width and height of axes in inches, before the layout is applied."""
    box = ax.get_position()
    width, height = ax.get_figure(root=True).get_size_inches()  # type: ignore[union-attr]
    return float(box.width * width), float(box.height * height)


def name_ticks(axis: Any, names: Sequence[str], *, inches: float, **text: Any) -> None:
    """Name the ticks 0, 1, … of an axis, all or as many as are readable."""
    size, interval = letter_size(inches, len(names))
    positions = range(0, len(names), interval)
    axis.set_ticks(list(positions), [names[i] for i in positions], fontsize=size, **text)


def whole_numbers(axis: Axis) -> None:
    """Put the ticks of an axis on whole numbers alone."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True))


def ink_on(colour: Any) -> str:
    """Black or white, whichever has more contrast to a colour."""
    from matplotlib.colors import to_rgb

    light = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    luminance = 0.2126 * light[0] + 0.7152 * light[1] + 0.0722 * light[2]
    return "black" if luminance > 0.22 else "white"


def find_fonts(figure: Figure) -> None:
    """Add fallback fonts to all non-ASCII texts of a figure."""
    from matplotlib.font_manager import fontManager
    from matplotlib.text import Text

    there = set(fontManager.get_font_names())
    more = [name for name in FALLBACKS if name in there]
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if not text.get_text().isascii():
            family = text.get_fontfamily()
            text.set_fontfamily([*([family] if isinstance(family, str) else family), *more])


def check_ending(path: Path) -> None:
    """Refuse a file ending that figures aren't written as, before any work is done.

    Raises:
        UsageError: that names the endings.
    """
    if path.suffix.lower() not in ENDINGS:
        raise UsageError(
            f"{path} has no ending of a figure", expected=f"one of {', '.join(ENDINGS)}"
        )


def save_figure(figure: Figure, path: str | Path, *, dpi: int = 200) -> None:
    """Write a figure as .png, .svg or .pdf, whole or not at all.

    Files hold no date, so that the same figure gives the same bytes. A .pdf embeds TrueType fonts,
    as publishers require.

    Raises:
        UsageError: for another ending.
    """
    from matplotlib import rc_context

    path = Path(path)
    check_ending(path)
    undated = {".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    ending = path.suffix.lower()
    find_fonts(figure)
    with rc_context({"svg.hashsalt": "avel", "pdf.fonttype": 42}), whole(path) as temporary:
        figure.savefig(temporary, dpi=dpi, format=ending[1:], metadata=undated[ending])
