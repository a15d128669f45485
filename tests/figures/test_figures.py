"""Figures: what stands in the artists, what fits, and what they look like without letters."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from avel import figures
from avel.errors import DataError, UsageError
from avel.evaluation.results import table
from avel.figures import Attention, Predictions, Retrieval
from avel.figures.attention import audio_regions, row_names
from avel.figures.curves import read_rows
from avel.figures.matrices import matrix_size
from avel.figures.style import (
    RIGHT,
    SIMULATED,
    WRONG,
    ink_on,
    letter_size,
    new_figure,
    plain,
    short_names,
)
from avel.training.released import AVE_CLASSES as AVE
from avel.types import Grid, Scores
from tests.conftest import ROOT

BASELINES = Path(__file__).parents[1] / "baselines"
#: Root mean square of a picture's difference, of 255, that another machine may make.
TOLERANCE = 8.0


def prediction_sample(
    classes: Sequence[str] = AVE, clips: int = 40, t: int = 10, *, seed: int = 0, **more: Any
) -> Predictions:
    """Predictions, three quarters of them right."""
    rng = np.random.default_rng(seed)
    truth = np.random.default_rng(99).integers(0, len(classes) + 1, (clips, t))
    wrong = rng.integers(0, len(classes) + 1, truth.shape)
    labels = np.where(rng.random(truth.shape) < 0.75, truth, wrong)
    known: dict[str, Any] = {"name": "ours", "data": "made-up, test"}
    return Predictions(labels, truth, tuple(classes), **{**known, **more})


def picture(shade: int = 90, shape: tuple[int, int] = (48, 64)) -> np.ndarray:
    frame = np.full((*shape, 3), shade, np.uint8)
    frame[10:20, 10:20] = (230, 120, 40)
    return frame


def attention_sample(t: int = 6, *, audio: bool = False, visible: bool = True) -> Attention:
    rng = np.random.default_rng(1)
    maps = np.full((t, 3, 5), 0.02)
    maps[np.arange(t), 1, np.arange(t) % 5] = 1
    maps /= maps.sum((1, 2), keepdims=True)
    labels = np.arange(t) // 2 % 3
    scores = Scores(np.eye(3)[labels], ("bell", "dog"), Grid(float(t)), labels, attention=maps)
    at = np.arange(200 * t) / 200
    return Attention(
        video="clip.mp4", model="ours", scores=scores,
        spans=tuple((float(i), i + 1.0) for i in range(t)),
        frames=tuple(picture(60 + 20 * i) if visible else None for i in range(t)),
        visual_maps=maps, patches=np.broadcast_to(np.linspace(-4, 2, 64), (t, 96, 64)),
        audio_maps=rng.dirichlet(np.ones(24), t).reshape(t, 6, 4) if audio else None,
        peaks=np.stack([-np.abs(np.sin(at)), np.abs(np.sin(at))], 1),
    )  # fmt: skip


def retrieval_sample(**more: Any) -> Retrieval:
    start, length = np.array([2, 0]), np.array([3, 4])
    chosen: Any = {"a2v": np.array([2, 5]), "v2a": np.array([1, 0])}
    return Retrieval(
        start=start, length=length, count=np.array([10, 10]), label=np.array([0, 1]),
        chosen=chosen, classes=("bell", "dog"), ids=("one", "two"), name="ours", **more,
    )  # fmt: skip


def rows(weight: str = "lambda_s", simulated: bool = False) -> list[dict[str, Any]]:
    return [
        {"sweep": weight, "row": f"{weight}={i / 10}", "task": "sel", "metric": "segment_accuracy",
         "ours": 70.0 + i, "sd": 0.5, "n": 2, "paper": 74.0, "best_baseline": 82.2, "epochs": 6,
         "data": "toy", "simulated": simulated}
        for i in range(11)
    ]  # fmt: skip


def title_of(artist: Any) -> str:
    figure = artist.figure
    titles = [ax.get_title() for ax in figure.axes]
    return "\n".join([figure.get_suptitle(), *titles])


def words_apart(figure: Figure, texts: Sequence[Text]) -> bool:
    """Whether no two of some texts cover each other once the figure is laid out."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [t.get_window_extent(canvas.get_renderer()) for t in texts if t.get_text()]
    return not any(
        a.x0 < b.x1 - 1 and b.x0 < a.x1 - 1 and a.y0 < b.y1 - 1 and b.y0 < a.y1 - 1
        for a, b in combinations(boxes, 2)
    )


# ---- names, colours, files


def test_names_are_cut_where_that_leaves_them_apart() -> None:
    names = ("Rain", "Rain, heavy", "Wind, howling through a very very long chimney pot indeed")
    assert short_names(names)[0:2] == ["Rain", "Rain, heavy"]
    assert len(short_names(names)[2]) <= 24
    assert len(set(short_names(AVE))) == 28


def test_hostile_names_are_shown_as_they_are_and_no_formula() -> None:
    assert plain("a$\\frac{b$") == r"a\$\frac{b\$"
    assert "\x1b" not in plain("red\x1b[31m") and "\n" not in plain("two\nlines")
    predictions = prediction_sample(("$\\frac{$", "$x$ \x1b[31m", "b"), clips=3)
    assert words_apart(figures.confusion_matrix(predictions).figure, [])  # draws without an error


def test_names_of_other_scripts_look_for_a_font() -> None:
    from matplotlib import font_manager

    from avel.figures.style import FALLBACKS, find_fonts

    image = figures.confusion_matrix(prediction_sample(("dog", "กระดิ่ง", "狗")))
    find_fonts(image.figure)  # type: ignore[arg-type]
    there = set(font_manager.fontManager.get_font_names()) & set(FALLBACKS)
    plain_name, thai = image.axes.get_xticklabels()[:2]
    assert list(plain_name.get_fontfamily()) == ["sans-serif"]
    assert set(thai.get_fontfamily()) == there | {"sans-serif"}


def test_few_names_are_large_and_many_are_thinned() -> None:
    assert letter_size(6, 10) == (9.0, 1)
    size, interval = letter_size(2, 400)
    assert size >= 5 and interval > 1


def test_ink_is_read_on_its_colour() -> None:
    assert (ink_on("white"), ink_on("#101010"), ink_on(RIGHT)) == ("black", "white", "black")


@pytest.mark.parametrize("ending", [".png", ".svg", ".pdf"])
def test_a_figure_is_written_whole_and_twice_the_same(ending: str, tmp_path: Path) -> None:
    for name in ("one", "two"):
        figure = figures.confusion_matrix(prediction_sample(("a", "b"))).figure
        figures.save_figure(figure, tmp_path / f"{name}{ending}", dpi=40)
    first, second = ((tmp_path / f"{n}{ending}").read_bytes() for n in ("one", "two"))
    assert first == second and len(first) > 1000
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"one{ending}", f"two{ending}"]


def test_another_ending_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    figure = figures.confusion_matrix(prediction_sample(("a", "b"))).figure
    with pytest.raises(UsageError, match=r"\.gif"):
        figures.save_figure(figure, tmp_path / "x.gif")
    assert not list(tmp_path.iterdir())


def test_importing_is_light_and_pyplot_stays_out() -> None:
    code = (
        "import sys; from avel import figures as f; import numpy as np\n"
        "assert not {'matplotlib', 'torch', 'sklearn'} & set(sys.modules)\n"
        "t = np.array([[0, 1, 1]])\n"
        "j = f.Predictions(t, t, ('a',)); f.confusion_matrix(j); f.class_difference(j, j)\n"
        "f.timeline(j, 0)\n"
        "assert 'matplotlib.pyplot' not in sys.modules and 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there_and_no_module_hides_it() -> None:
    assert not {m.stem for m in Path(figures.__file__).parent.glob("*.py")} & set(figures.__all__)
    assert [n for n in figures.__all__ if not hasattr(figures, n)] == []
    assert sorted(figures._MODULE_OF) == figures.__all__
    with pytest.raises(AttributeError):
        figures.nonsense  # noqa: B018


# ---- what was judged


def test_judged_refuses_what_does_not_fit() -> None:
    good = np.array([[0, 1]])
    with pytest.raises(DataError, match="shape"):
        Predictions(good, good[:, :1], ("a",))
    with pytest.raises(DataError, match="out of range"):
        Predictions(good + 1, good, ("a",))
    with pytest.raises(DataError, match="ids"):
        Predictions(good, good, ("a",), ids=("x", "y"))


def test_clips_are_found_by_part_of_their_name() -> None:
    predictions = replace(prediction_sample(clips=3), ids=("yard-01", "yard-02", "street"))
    assert (predictions.find("street"), predictions.find("02"), predictions.find(2)) == (2, 1, 2)
    for wrong, why in (("yard", "2 clips"), ("sea", "no clips"), (3, "from 0 to 2")):
        with pytest.raises(UsageError, match=why):
            predictions.find(wrong)


# ---- matrices


def test_rows_of_a_confusion_matrix_are_percent_of_the_true_class() -> None:
    truth = np.array([[0, 0, 0, 0, 1, 2, -1]])
    labels = np.array([[0, 0, 0, 2, 1, 2, 9]])
    image = figures.confusion_matrix(Predictions(labels, truth, ("a", "b")))
    assert np.allclose(image.get_array(), [[75, 0, 25], [0, 100, 0], [0, 0, 100]])
    assert [t.get_text() for t in image.axes.texts] == ["75", "25", "100", "100"]
    assert "83.3 % of 6 segments" in title_of(image)


def test_classes_without_a_segment_are_masked_and_seeds_pooled() -> None:
    truth = np.array([[0, 0]])
    one, two = (Predictions(np.array([row]), truth, ("a", "b")) for row in ([0, 0], [0, 2]))
    image = figures.confusion_matrix([one, two])
    assert np.allclose(image.get_array()[0], [75, 0, 25])
    assert np.ma.getmaskarray(image.get_array())[1:].all()
    assert "mean of 2 seeds" in title_of(image)
    with pytest.raises(UsageError, match="different clips"):
        figures.confusion_matrix([one, prediction_sample()])


@pytest.mark.parametrize("count", [1, 10, 28, 141])
def test_names_of_a_matrix_never_cover_each_other(count: int) -> None:
    names = AVE[:count] if count <= 28 else tuple(f"class number {i}" for i in range(count))
    ax = figures.confusion_matrix(prediction_sample(names)).axes
    ticks = [*ax.get_xticklabels(), *ax.get_yticklabels()]
    assert words_apart(ax.figure, ticks)
    assert len(ticks) == 2 * (count + 1) if count <= 28 else len(ticks) > 50
    assert len(ax.texts) == 0 or count <= 15


@pytest.mark.parametrize("simulated", [False, True])
def test_titles_of_two_matrices_keep_off_the_edge(simulated: bool) -> None:
    figure = new_figure(2 * matrix_size(8)[0], matrix_size(8)[1])
    for ax in figure.subplots(1, 2):
        figures.confusion_matrix(prediction_sample(AVE[:8], simulated=simulated), ax=ax)
    figure.draw_without_rendering()
    tops = [ax.title.get_window_extent().y1 for ax in figure.axes]
    assert figure.bbox.height - max(tops) > 0.08 * figure.dpi


def test_a_matrix_is_drawn_where_it_is_told() -> None:
    figure = Figure()
    ax = figure.add_subplot()
    image = figures.confusion_matrix(prediction_sample(("a", "b")), ax=ax, colorbar=False)
    assert image.axes is ax and figure.axes == [ax]


def test_simulated_data_are_called_so_everywhere() -> None:
    predictions = prediction_sample(simulated=True)
    drawn: list[Any] = [
        figures.confusion_matrix(predictions),
        figures.class_difference(predictions, prediction_sample(seed=1))[0],
        figures.timeline(predictions, 0)[0][0],
        figures.retrieval_timeline(retrieval_sample(simulated=True), 0)[0],
        figures.lambda_curves(rows(simulated=True))[0].lines[0],
    ]
    assert all(SIMULATED in title_of(artist) for artist in drawn)
    assert SIMULATED not in title_of(figures.confusion_matrix(prediction_sample()))


def test_differences_by_hand() -> None:
    truth = np.array([[0, 0, 1, 1], [0, 0, 2, 2], [1, 1, 2, 2]])
    first = Predictions(np.where(truth == 0, 2, truth), truth, ("a", "b"))
    second = Predictions(np.where(truth == 1, 0, truth), truth, ("a", "b"))
    bars = figures.class_difference(first, second)
    assert [b.get_width() for b in bars] == [100.0, 0.0, -100.0]
    names = [t.get_text() for t in bars[0].axes.get_yticklabels()]
    assert names == ["a (4)", "background (4)", "b (4)"]
    assert "66.7 − 66.7 = +0.0 points" in title_of(bars[0])


def test_whiskers_hold_the_gain_and_pale_bars_hold_zero() -> None:
    first, second = prediction_sample(clips=60), prediction_sample(clips=60, seed=5)
    bars = figures.class_difference(first, second)
    repeated = figures.class_difference(first, second)
    segments = bars.errorbar.lines[2][0].get_segments()
    assert np.allclose(segments, repeated.errorbar.lines[2][0].get_segments())
    pale = 0
    for bar, ((low, _), (high, _)) in zip(bars, segments, strict=True):
        assert low - 1e-9 <= bar.get_width() <= high + 1e-9
        assert (bar.get_alpha() < 1) == (low <= 0 <= high)
        pale += bar.get_alpha() < 1
    assert pale > len(bars) / 2  # two draws of the same skill


def test_a_class_of_one_clip_tells_nothing() -> None:
    truth = np.array([[0, 0], [1, 1], [1, 1]])
    bars = figures.class_difference(
        Predictions(np.full_like(truth, 1), truth, ("a", "b")),
        Predictions(truth, truth, ("a", "b")),
    )
    assert bars[0].get_width() == 100 and bars[0].get_alpha() < 1


@pytest.mark.parametrize("count", [1, 28, 200])
def test_names_of_a_difference_never_cover_each_other(count: int) -> None:
    names = AVE[:count] if count <= 28 else tuple(f"class number {i}" for i in range(count))
    ax = figures.class_difference(prediction_sample(names), prediction_sample(names, seed=1))[
        0
    ].axes
    assert words_apart(ax.figure, ax.get_yticklabels())


# ---- curves


def test_curves_hold_ours_and_the_papers(tmp_path: Path) -> None:
    (tmp_path / "lambda_s.csv").write_text(table(rows()), "utf-8")
    (curve,) = figures.lambda_curves(read_rows(tmp_path / "lambda_s.csv"))
    x, y = curve.lines[0].get_data()
    assert np.allclose(x, np.arange(11) / 10) and np.allclose(y, 70.0 + np.arange(11))
    low, high = curve.lines[2][0].get_segments()[0][:, 1]
    assert (low, high) == (69.5, 70.5)
    names = curve.lines[0].axes.get_legend_handles_labels()[1]
    assert names == ["SEL, paper (on AVE)", "best baseline", "SEL, ours"]


def test_curves_of_a_task_with_three_metrics() -> None:
    listed = [{**r, "task": "cml", "metric": m} for r in rows("lambda_c") for m in ("a2v", "v2a")]
    drawn = figures.lambda_curves(listed)
    assert [c.get_label() for c in drawn] == ["CML A2V, ours", "CML V2A, ours"]


@pytest.mark.parametrize(
    "wrong",
    [[], [{"row": "CSPA", "task": "sel", "metric": "m", "ours": 1}], [{"ours": 1}],
     [*rows(), *rows("lambda_w")], [{**rows()[0], "n": "many"}], [{**rows()[0], "sd": "inf"}],
     [{**rows()[0], "ours": ""}], [{**rows()[0], "row": "lambda_s=nan"}]],
)  # fmt: skip
def test_rows_of_no_sweep_are_refused(wrong: list[dict[str, Any]]) -> None:
    with pytest.raises(DataError):
        figures.lambda_curves(wrong)


def test_a_table_that_is_missing_or_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00")
    for name in ("x.csv", "y.csv"):
        with pytest.raises(DataError, match="avel sweep"):
            read_rows(tmp_path / name)


# ---- rows over time


def test_boxes_are_runs_of_one_label_and_one_rightness() -> None:
    ax = Figure().add_subplot()
    boxes = figures.label_strip(
        np.array([0, 0, 0, 1, 1]), ("dog",), ax=ax, truth=np.array([0, 0, 1, 1, 1]), step=0.5
    )
    assert [(b.get_x(), b.get_width()) for b in boxes] == [(0.0, 1.0), (1.0, 0.5), (1.5, 1.0)]
    assert [t.get_text() for t in ax.texts] == ["✓ dog", "✗ dog", "✓ background"]
    assert [_hex(b) == WRONG for b in boxes] == [False, True, False]


def _hex(box: Any) -> str:
    from matplotlib.colors import to_hex

    return str(to_hex(box.get_facecolor())).upper()


def test_pictures_keep_their_shape_and_maps_their_place() -> None:
    figure = Figure(figsize=(8, 1))
    ax = figure.add_axes((0, 0, 1, 1))
    share = np.array([[0.0, 1.0], [0.0, 0.0]])
    drawn = figures.frame_strip(
        [picture(shape=(50, 50)), None], [(0.0, 4.0), (4.0, 8.0)], ax=ax, maps=[share, share]
    )
    assert [d.get_extent() for d in drawn[:2]] == [[1.5, 2.5, 0.0, 1.0]] * 2
    assert drawn[2].get_extent() == [4.0, 8.0, 0.0, 1.0]  # no picture: the map alone
    assert np.allclose(drawn[1].get_array(), share * 4)
    assert np.asarray(drawn[1].get_alpha())[0, 0] == 0


def test_a_waveform_is_the_envelope() -> None:
    samples = np.zeros(16000, np.float32)
    samples[8000] = 0.5
    area = figures.waveform(samples, rate=16000, ax=Figure().add_subplot())
    points = area.get_paths()[0].vertices
    assert points[:, 1].max() == 0.5
    assert abs(points[points[:, 1].argmax(), 0] - 0.5) < 0.002
    for odd in (np.zeros(0), np.zeros((0, 2)), np.ones(1)):
        figures.waveform(odd, rate=10, ax=Figure().add_subplot())


@pytest.mark.parametrize("t", [1, 3, 10, 300])
def test_timelines_of_any_length(t: int) -> None:
    predictions = prediction_sample(t=t)
    (boxes,) = figures.timeline(predictions, 0, frames=[picture()] * min(t, 10))
    right = predictions.labels[0] == predictions.truth[0]
    covered = sum(b.get_width() for b in boxes if _hex(b) == WRONG)
    assert covered == pytest.approx((~right).sum())
    assert len(boxes[0].figure.axes) == 3


def test_timelines_of_several_runs_and_clips() -> None:
    runs = [replace(prediction_sample(seed=i), name=f"run {i}") for i in (1, 2)]
    drawn = figures.timelines(runs, [0, 3], frames={0: [picture()] * 4})
    assert [len(clip) for clip in drawn] == [2, 2]
    assert len(drawn[0][0][0].figure.axes) == 4 + 3
    with pytest.raises(UsageError, match="no clip"):
        figures.timelines(runs, [])
    with pytest.raises(UsageError, match="has 3 rows"):
        figures.timeline(runs, 0, axes=[Figure().add_subplot()])
    with pytest.raises(UsageError, match="different clips"):
        figures.timeline([runs[0], prediction_sample(clips=3)], 0)


def test_padding_is_no_part_of_a_timeline() -> None:
    truth = np.array([[0, 0, 1, -1, -1]])
    (boxes,) = figures.timeline(Predictions(np.zeros_like(truth), truth, ("dog",)), 0)
    assert boxes[-1].get_x() + boxes[-1].get_width() == 3


def test_windows_right_and_wrong() -> None:
    retrieval = retrieval_sample()
    right = figures.retrieval_timeline(retrieval, "one", direction="a2v")
    assert [(b.get_x(), b.get_width()) for b in right] == [(2, 3), (2, 3)]
    assert _hex(right[1]) == RIGHT
    wrong = figures.retrieval_timeline(retrieval, "one", direction="v2a", frames=[picture()] * 3)
    assert [b.get_x() for b in wrong] == [2, 1, 2]
    assert _hex(wrong[1]) == WRONG and wrong[2].get_linestyle() == "--"
    with pytest.raises(UsageError, match="a2v"):
        figures.retrieval_timeline(retrieval, 0, direction="x")  # type: ignore[arg-type]
    assert len(figures.retrieval_timelines(retrieval, [0, 1])) == 4


@pytest.mark.parametrize("audio", [False, True])
@pytest.mark.parametrize("t", [1, 6])
def test_attention_over_time(t: int, audio: bool) -> None:
    attention = attention_sample(t, audio=audio)
    drawn = figures.attention_strip(attention)
    assert list(drawn) == row_names(attention) == ["frames", "attention", "audio", "prediction"]
    assert attention.visual_maps is not None
    assert np.allclose(drawn["attention"][1].get_array(), attention.visual_maps[0] * 15)
    assert len(drawn["audio"]) == (2 * t if audio else 1)
    if attention.audio_maps is not None:  # time to the right, low bands below
        assert np.allclose(drawn["audio"][1].get_array(), attention.audio_maps[0].T * 24)
        assert drawn["audio"][1].origin == "lower"
    with pytest.raises(UsageError, match="expected: frames, attention, audio, prediction"):
        figures.attention_strip(attention, axes=[])
    assert SIMULATED not in title_of(drawn["prediction"][0])


def test_attention_without_pictures_or_maps() -> None:
    assert row_names(attention_sample(visible=False)) == ["attention", "audio", "prediction"]
    blind = replace(attention_sample(visible=False), visual_maps=None)
    assert list(figures.attention_strip(blind)) == ["audio", "prediction"]
    bare = replace(
        attention_sample(audio=True, visible=False), patches=None, peaks=None, simulated=True
    )
    drawn = figures.attention_strip(bare)
    assert list(drawn) == ["attention", "audio", "prediction"]
    assert bare.audio_maps is not None  # time to the right, low bands below
    assert np.allclose(drawn["audio"][0].get_array(), bare.audio_maps[0].T[::-1] * 24)
    assert SIMULATED in title_of(drawn["prediction"][0])
    assert row_names(replace(blind, peaks=None)) == ["prediction"]


def test_regions_of_a_sound_are_shaped_like_a_patch() -> None:
    assert [audio_regions(n) for n in (24, 6, 54)] == [(6, 4), (3, 2), (9, 6)]


# ---- what they look like, without letters


def _difference() -> Figure:
    bars = figures.class_difference(prediction_sample(AVE[:8]), prediction_sample(AVE[:8], seed=1))
    return bars[0].figure  # type: ignore[return-value]


PICTURES: dict[str, Callable[[], Any]] = {
    "confusion": lambda: figures.confusion_matrix(prediction_sample(AVE[:8])).figure,
    "difference": _difference,
    "lambda": lambda: figures.lambda_curves(rows())[0].lines[0].figure,
    "timeline": lambda: (
        figures.timeline(prediction_sample(AVE[:8]), 1, frames=[picture()] * 5)[0][0].figure
    ),
    "retrieval": lambda: figures.retrieval_timelines(retrieval_sample(), [0])[0][0].figure,
    "attention": lambda: (
        figures.attention_strip(attention_sample(audio=True))["prediction"][0].figure
    ),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_those_that_were_looked_at(name: str, tmp_path: Path) -> None:
    """Letters are left out: fonts are drawn a little differently from machine to machine.

    AVEL_WRITE_BASELINES=1 writes the pictures anew, to be looked at before they are committed.
    """
    from matplotlib.testing.compare import compare_images

    figure = PICTURES[name]()
    for text in figure.findobj(Text):
        text.set_visible(False)
    for ax in figure.axes:
        if ax.get_legend():
            ax.get_legend().set_visible(False)
    baseline, drawn = tmp_path / "baseline.png", tmp_path / "drawn.png"
    figures.save_figure(figure, drawn, dpi=40)
    if os.environ.get("AVEL_WRITE_BASELINES"):
        (BASELINES / f"{name}.png").write_bytes(drawn.read_bytes())
    baseline.write_bytes((BASELINES / f"{name}.png").read_bytes())
    assert compare_images(str(baseline), str(drawn), TOLERANCE) is None


def test_another_picture_would_be_noticed(tmp_path: Path) -> None:
    from matplotlib.testing.compare import compare_images

    for name, seed in (("a", 0), ("b", 7)):
        figure = figures.confusion_matrix(prediction_sample(AVE[:8], clips=2, seed=seed)).figure
        figures.save_figure(figure, tmp_path / f"{name}.png", dpi=40)
    assert compare_images(str(tmp_path / "a.png"), str(tmp_path / "b.png"), TOLERANCE)


def test_baselines_are_all_used() -> None:
    assert {p.stem for p in BASELINES.glob("*.png")} == set(PICTURES)
    assert ROOT in BASELINES.parents
