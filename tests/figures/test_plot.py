"""From a run to its figures: features by hooks, points in the plane, `avel plot`."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from avel import figures
from avel.cli._pairs import DataArguments, save_data_arguments
from avel.cli.main import main
from avel.data.base import Dataset
from avel.errors import DataError, UsageError
from avel.evaluation.evaluate import evaluate
from avel.evaluation.results import table
from avel.features.store import feature_path
from avel.figures.embeddings import neighbour_share, project
from avel.inference.checkpoint import Trained
from avel.models.base import Batch
from avel.training.loop import fit
from avel.types import Features, Grid
from tests.figures.test_figures import rows
from tests.report_samples import write_clip
from tests.training_data import AUDIO_CARD, CLASSES, VISUAL_CARD, make_dataset, small_recipe
from tests.variants import A, H, V, Variant, W, variants

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return make_dataset(unequal=True)


@pytest.fixture(scope="module")
def run(data: Dataset) -> Trained:
    return fit("cspa_csea", data, recipe=small_recipe("sel", "epochs=4")).trained


def clips(b: int, t: int) -> Batch:
    g = torch.Generator().manual_seed(b)
    return Batch(torch.rand(b, t, A, generator=g), torch.rand(b, t, H, W, V, generator=g))


# ---- what was judged


def test_what_is_judged_is_what_is_evaluated(run: Trained, data: Dataset) -> None:
    predictions = figures.predict_split(run, data)
    assert predictions.accuracy == evaluate(run, data)["segment_accuracy"].mean
    assert predictions.ids == data.test.ids and predictions.data == "made-up, test"
    assert predictions.confusion.sum() == data.test.lengths.sum()
    assert not predictions.simulated
    assert figures.predict_split(run, replace(data, simulated=True)).simulated
    assert figures.predict_split(run, data, split="val").data == "made-up, val"


def test_runs_of_cml_match_and_others_judge(run: Trained) -> None:
    data = make_dataset(cml=True)
    matcher = fit("cspa_csea", data, task="cml", recipe=small_recipe("cml", "epochs=1")).trained
    retrieval = figures.retrieve(matcher, data)
    measured = evaluate(matcher, data)
    for direction in ("a2v", "v2a"):
        assert (retrieval.chosen[direction] == retrieval.start).mean() == measured[direction].mean  # type: ignore[index]
    with pytest.raises(UsageError, match="cml"):
        figures.predict_split(matcher, data)
    with pytest.raises(UsageError, match="cml"):
        figures.retrieve(run, data)
    assert [s.modality for s in figures.collect_activations(matcher, data).stages][:2] == [
        "audio", "visual",
    ]  # fmt: skip


# ---- features by hooks


VARIANTS = [v if not v.options else pytest.param(v, marks=pytest.mark.slow) for v in variants()[0]]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_every_model_gives_a_row_a_segment_at_every_stage(variant: Variant) -> None:
    from avel.figures.activations import _forward, _hooks

    network = variant.build()
    for b, t in ((3, 5), (1, 1)):
        outputs = _forward(network, clips(b, t), _hooks(network, ()))
        assert list(outputs)[:2] == [("raw", "audio"), ("raw", "visual")]
        assert all(values.shape[:2] == (b, t) and values.ndim == 3 for values in outputs.values())
        assert variant.model == "ed_tcn" or len(outputs) > 2
    assert not any(m._forward_hooks for m in network.modules())


def test_stages_are_what_the_modules_give(run: Trained, data: Dataset) -> None:
    activations = figures.collect_activations(run, data, classes=3, background=True, limit=9999)
    batch = Batch(
        torch.from_numpy(data.test.audio).float(), torch.from_numpy(data.test.visual).float()
    )
    stream = run.network.streams["cspa"]  # type: ignore[union-attr, index]
    with torch.inference_mode():
        audio, visual, _ = stream.paired(batch.audio, batch.visual.flatten(2, 3))
    real = data.test.labels >= 0
    by_name = {(s.name, s.modality): s.values for s in activations.stages}
    assert np.allclose(by_name["raw", "audio"], data.test.audio[real])
    assert np.allclose(by_name["after CSPA", "audio"], audio.numpy()[real], atol=1e-5)
    assert np.allclose(by_name["after CSPA", "visual"], visual.numpy()[real], atol=1e-5)
    assert by_name["after CSPA's BiLSTM", "audio"].shape[1] == 8
    assert (activations.labels == data.test.labels[real]).all()
    assert (activations.clips == np.nonzero(real)[0]).all()


def test_batches_change_nothing_and_limits_draw_evenly(run: Trained, data: Dataset) -> None:
    one = figures.collect_activations(run, data, limit=20, batch=64)
    many = figures.collect_activations(run, data, limit=20, batch=2)
    assert len(one.labels) == 20 and (one.clips == many.clips).all()
    for a, b in zip(one.stages, many.stages, strict=True):
        assert np.allclose(a.values, b.values, atol=1e-5)


def test_classes_and_modules_can_be_chosen(run: Trained, data: Dataset) -> None:
    activations = figures.collect_activations(
        run, data, classes=["dog"], modules=["streams.csea.visual_lstm"]
    )
    assert set(activations.labels) == {CLASSES.index("dog")}
    assert [s.name for s in activations.stages][2:] == ["after streams.csea.visual_lstm"]
    assert activations.stages[2].modality == "visual"
    for wrong in ({"classes": ["fog"]}, {"modules": ["streams.cspa.hair"]}, {"modules": [""]}):
        with pytest.raises(UsageError, match="unknown"):
            figures.collect_activations(run, data, **wrong)  # type: ignore[arg-type]
    with pytest.raises(
        DataError, match="forward pass gives no output"
    ):  # its weights are read, no more
        figures.collect_activations(run, data, modules=["streams.cspa.attend.f3"])


def test_a_module_without_a_row_a_segment_is_refused() -> None:
    from avel.figures.activations import _forward, _hooks

    network = Variant("ed_tcn", "sel", "", ()).build()
    with pytest.raises(DataError, match="a row a segment"):
        _forward(network, clips(3, 8), _hooks(network, ["encoder.1"]))


# ---- points in the plane


def test_points_are_the_same_for_the_same_seed_and_blobs_stay_apart() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 20)
    values = rng.normal(0, 0.1, (60, 80)) + labels[:, None]
    points = project(values)
    assert np.array_equal(points, project(values))
    centres = np.stack([points[labels == k].mean(0) for k in range(3)])
    nearest = ((points[:, None] - centres) ** 2).sum(-1).argmin(1)
    assert (nearest == labels).all()


@pytest.mark.parametrize("shape", [(1, 5), (3, 1), (4, 2), (6, 1)])
def test_few_rows_and_channels(shape: tuple[int, int]) -> None:
    assert project(np.ones(shape)).shape == (shape[0], 2)
    points = project(np.random.default_rng(0).random(shape))
    assert points.shape == (shape[0], 2) and np.isfinite(points).all()


def test_neighbours_of_ones_own_clip_do_not_count() -> None:
    values = np.array([[0.0], [0.1], [5.0], [5.1], [5.2]])
    labels, of_clips = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 2, 3])
    # nearest of another clip: 5.0 (alike) twice; 5.1 (not); 5.0 or 5.2; 5.1 (alike)
    assert neighbour_share(values, labels, of_clips, count=1) == pytest.approx(
        (1 + 1 + 0 + 0.5 + 1) / 5, abs=0.11
    )
    assert np.isnan(neighbour_share(values, labels, np.zeros(5, int)))


def test_classes_of_one_clip_are_left_out_of_the_share(run: Trained, data: Dataset) -> None:
    values = np.array([[0.0], [0.1], [0.2], [5.0]])
    labels, of_clips = np.array([0, 0, 1, 1]), np.array([0, 1, 2, 2])
    assert neighbour_share(values, labels, of_clips, count=1) == 1
    assert np.isnan(neighbour_share(values, np.array([0, 1, 2, 2]), of_clips))
    activations = figures.collect_activations(run, data)
    for clips, below, above in (
        (activations.clips, "neighbours alike: ", "other clips"),
        (activations.labels, "one clip a class", "segments"),
        (
            np.where(activations.labels, activations.clips, 0),
            "neighbours alike: ",
            "left out of that",
        ),
    ):
        ax = figures.tsne(replace(activations, clips=clips), perplexity=5)[0][0].axes
        assert ax.get_xlabel().startswith(below)
        assert ax.figure.get_suptitle().endswith(above)


def test_a_panel_a_stage_with_every_class(run: Trained, data: Dataset) -> None:
    activations = figures.collect_activations(run, replace(data, simulated=True), background=True)
    drawn = figures.tsne(activations, perplexity=5)
    assert len(drawn) == len(activations.stages)
    for panel in drawn:
        assert [str(c.get_label()) for c in panel] == ["bell", "dog", "train", "background"]
        assert sum(len(c.get_offsets()) for c in panel) == len(activations.labels)
    assert "SIMULATED" in drawn[0][0].figure.get_suptitle()  # type: ignore[union-attr]
    with pytest.raises(UsageError, match="one a stage"):
        figures.tsne(activations, axes=[])


def test_classes_are_named_apart_by_more_than_colour() -> None:
    labels = np.arange(28)
    drawn = figures.scatter(
        np.random.default_rng(0).random((28, 2)), labels, [str(i) for i in labels]
    )
    looks = {(tuple(c.get_facecolor()[0]), c.get_paths()[0].vertices.tobytes()) for c in drawn}
    assert len(looks) == 28


# ---- at the command line


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, data: Dataset) -> Path:
    """A folder with data, two runs of two seeds and one of another kind."""
    folder = tmp_path_factory.mktemp("plot")
    lines = ["file,start,end,label,split"]
    for name, split in data.splits.items():
        for i, clip in enumerate(split.ids):
            t = int(split.lengths[i])
            file = f"{clip}.mp4"
            Features(
                audio=split.audio[i, :t].astype(np.float32),
                visual=split.visual[i, :t].astype(np.float32),
                grid=Grid(float(t)), audible=np.ones(t, bool), visible=np.ones(t, bool),
                audio_card=dict(AUDIO_CARD), visual_card=dict(VISUAL_CARD), source=file,
            ).save(feature_path(folder / "data", file))  # fmt: skip
            on = np.nonzero(split.labels[i, :t] < len(CLASSES))[0]
            kind = CLASSES[split.labels[i, on[0]]]
            lines.append(f"{file},{on[0]},{on[-1] + 1},{kind},{name}")
    (folder / "data" / "annotations.csv").write_text("\n".join(lines) + "\n", "utf-8")
    write_clip(folder / "data" / "test0.mp4", 6)
    from avel.data import load_dataset

    data = load_dataset("folder", root=folder / "data")
    for seed in (0, 1):
        at = folder / "runs" / "ours" / f"seed-{seed}"
        fit("cspa_csea", data, seed=seed, recipe=small_recipe("sel", "epochs=2"), out=at)
        save_data_arguments(DataArguments(data=str(folder / "data")), at)
    for name, pairs, task in (("other", ["modules=csea"], "sel"), ("match", [], "cml")):
        at = folder / "runs" / name
        fit("cspa_csea", data, task=task, recipe=small_recipe(task, "epochs=1", *pairs), out=at)  # type: ignore[arg-type]
        save_data_arguments(DataArguments(data=str(folder / "data")), at)
    (folder / "lambda_s.csv").write_text(table(rows()), "utf-8")
    return folder


VERBS = {
    "confusion": "confusion runs/ours runs/other",
    "difference": "difference runs/other runs/ours --split val",
    "learning": "learning runs/ours runs/other",
    "learning of cml": "learning runs/match",
    "lambda": "lambda lambda_s.csv lambda_s.csv",
    "tsne": "tsne runs/ours --perplexity 5 --classes 2 --limit 30",
    "timeline": "timeline runs/ours runs/other --clip test0 --clip test1.mp4",
    "matches": "timeline runs/match --clip test0",
    "any": "timeline runs/other",
    "any match": "timeline runs/match",
    "clip": "attention --model runs/ours/seed-0 --clip test0 --frames 3",
    "plain": "attention data=data --model runs/ours --clip test1.mp4 --split test",
    "named": "confusion runs/other data=data",
    "dataset": "dataset data",
}


@pytest.mark.parametrize("name", VERBS)
def test_every_figure_from_the_command_line(
    name: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    monkeypatch.chdir(place)
    code = main(["plot", *VERBS[name].split(), "-o", f"{name}.png", "--dpi", "50"])
    output = capsys.readouterr()
    assert code == 0 and output.out == f"{name}.png\n", output.err
    assert ("--clip" in output.err) == name.startswith("any")
    shown = np.asarray(Image.open(f"{name}.png").convert("L"))
    assert min(shown.shape) > 40 and shown.std() > 10


def test_attention_of_a_video_with_the_model_that_ships(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    write_clip(Path("clip.mp4"), 3)
    assert main(["plot", "attention", "clip.mp4", "-o", "a.svg", "--model", "toybox"]) == 0
    assert "<svg" in Path("a.svg").read_text("utf-8")[:600]
    attention = figures.video_attention("clip.mp4", "toybox", limit=2)
    assert len(attention.frames) == 2 == len(attention.spans)
    assert attention.spans[-1][1] == attention.scores.grid.duration
    assert attention.peaks.shape == (3 * 200, 2) and attention.peaks[:, 1].max() > 0.25
    assert attention.patches[-1].max() > attention.patches[0].max()  # the tone begins at 2 s


def test_a_clip_is_watched_as_it_was_judged(run: Trained, data: Dataset) -> None:
    predictions = figures.predict_split(run, data)
    attention = figures.clip_attention(run, replace(data, simulated=True), "test0", limit=3)
    at, length = predictions.find("test0"), int(data.test.lengths[0])
    assert (attention.scores.labels == predictions.labels[at, :length]).all()
    assert (
        attention.visual_maps is not None
        and attention.visual_maps.shape == (3, 2, 2)
        and attention.simulated
    )
    assert len(attention.spans) == 3 and attention.spans[-1][1] == length
    assert attention.peaks is None and "test0" in attention.video


def test_sound_attention_is_the_models(place: Path) -> None:
    from avel.figures.attention import audio_attention

    network = Variant("av", "sel", "", (("inputs", "amaps+v-co-att"),)).build()
    card = {"window": 4, "model": "av"}
    t = 10
    features = Features(
        audio=np.random.default_rng(0).random((t, A), np.float32),
        visual=np.random.default_rng(1).random((t, H, W, V), np.float32),
        grid=Grid(float(t)), audible=np.ones(t, bool), visible=np.ones(t, bool),
    )  # fmt: skip
    attention = audio_attention(Trained(network, card), features)
    assert attention is not None and attention.shape == (t, 2, 1)
    assert np.allclose(attention.sum((1, 2)), 1, atol=1e-6)
    deaf = Variant("av", "sel", "", ()).build()
    assert audio_attention(Trained(deaf, card), features) is None


def test_models_that_attend_are_known() -> None:
    from avel.cli.plot import ATTENDING
    from avel.figures.attention import has_attention

    card = {"dims": {"audio": A, "visual": V}}
    for variant in variants()[0]:
        if variant.task == "sel" and not variant.options:
            found = has_attention(Trained(variant.build(), card))
            assert found == (variant.model in ATTENDING), variant
    audio = Variant("av", "sel", "", (("inputs", "amaps+v-co-att"),)).build()
    deaf = Variant("av", "sel", "", (("inputs", "amaps"),)).build()
    assert has_attention(Trained(audio, card)) and not has_attention(Trained(deaf, card))


@pytest.mark.parametrize(
    ("words", "output"),
    [
        ("confusion runs/none", "no trained model"),
        ("confusion", "Missing|RUN"),
        ("confusion epochs=3", "has no meaning"),
        ("confusion data=data", "no run"),
        ("confusion runs/ours -o x.gif", "no ending of a figure"),
        ("confusion runs/match", "cml"),
        ("difference runs/ours", "two"),
        ("difference runs runs/ours", "no trained model"),
        ("learning runs/none", "no trained model"),
        ("learning runs/ours -o x.gif", "no ending of a figure"),
        ("lambda nothing.csv", "can't be read"),
        ("lambda data/annotations.csv", "annotations.csv: no table of a sweep: no columns metric"),
        ("attention --clip test0 --model runs/other", "modules=csea state=4 has no attention"),
        (
            "attention a.mp4 --model runs/other",
            "expected: one that has: most variants of av, avsdn",
        ),
        ("timeline runs/ours --clip nosuch", "no clips"),
        ("timeline runs/match runs/match --clip test0", "one at a time"),
        ("tsne runs/ours runs/other", "one at a time"),
        ("tsne runs/other --class fog", "unknown class"),
        ("tsne runs/other --module hair", "unknown module"),
        ("attention missing.mp4", "missing.mp4"),
        ("attention", "no videos"),
        ("attention a.mp4 --clip x --model runs/ours", "a video and --clip"),
        ("attention --clip nosuch --model runs/ours", "no clips"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_written(
    words: str,
    output: str,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import re

    monkeypatch.chdir(place)
    before = {p for p in place.iterdir() if p.is_file()}
    code = main(["plot", *words.split()])
    err = capsys.readouterr().err
    assert code in (1, 2) and "Traceback" not in err
    assert re.search(output, err), err
    assert {p for p in place.iterdir() if p.is_file()} == before


def test_runs_of_one_name_are_named_apart_by_their_folders(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from avel.cli.plot import _named_apart
    from tests.figures.test_figures import prediction_sample

    groups = [[prediction_sample()], [prediction_sample(seed=1)]]
    named = _named_apart(groups, [Path("runs/a"), Path("runs/b")])
    assert [g[0].name for g in named] == ["runs/a", "runs/b"]


def test_pictures_never_come_from_outside(tmp_path: Path) -> None:
    from avel.cli._pictures import find_video

    write_clip(tmp_path / "out.mp4", 1)
    (tmp_path / "in").mkdir()
    write_clip(tmp_path / "in" / "x.mp4", 1)
    assert find_video("../out.mp4", [tmp_path / "in"]) is None
    assert find_video("3:x", [tmp_path / "in"]) == tmp_path / "in" / "x.mp4"


def test_pyplot_is_never_touched(place: Path) -> None:
    code = (
        "import sys; from avel.cli.main import main\n"
        "assert main(['plot', 'confusion', 'runs/other', '-o', 'quiet.png', '--dpi', '40']) == 0\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=place, capture_output=True)
