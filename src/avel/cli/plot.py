"""`avel plot`: the papers' figures as .png, .svg or .pdf, a sub-command for each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from avel.cli._options import Split
from avel.cli._outputs import writing
from avel.cli._terminal import note
from avel.errors import DataError, UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from avel.cli._pairs import DataArguments
    from avel.data.base import Dataset
    from avel.figures.attention import Attention
    from avel.figures.predictions import Predictions
    from avel.inference.checkpoint import Trained

plot = typer.Typer(
    help="Draw the papers' figures as .png, .svg or .pdf.", no_args_is_help=True,
    add_completion=False, rich_markup_mode=None,
)  # fmt: skip

_ON = (
    "Folders of runs (or of several seeds). For other data than they were trained on: data=DIR, or "
    "data=ave root=DIR."
)
Words = Annotated[list[str], typer.Argument(metavar="RUN... KEY=VALUE...", help=_ON)]
Output = Annotated[Path, typer.Option("--output", "-o", help="The figure to write.")]
Dpi = Annotated[int, typer.Option(min=20, max=1200, help="Dots per inch of a .png.")]
Videos = Annotated[
    Path | None,
    typer.Option(help="The folder of AVE's videos, NAME.mp4; other data sets know their files."),
]

#: Models whose attention can be drawn, most of their variants'.
ATTENDING = ("av", "avsdn", "cspa_csea", "dam", "evidence", "jca", "linear")
#: Clips that a timeline shows where none is named.
CLIPS = 3


@plot.command()
def confusion(
    words: Words,
    split: Split = "test",
    out: Output = Path("confusion.png"),
    dpi: Dpi = 200,
) -> None:
    """The confusion matrix of the segments.

    One panel for each kind of run (xue2021 fig. 4 a, b).
    """
    runs, arguments = _runs_and_data(words)
    _check_output(out)
    from avel.figures.matrices import confusion_matrix, matrix_size
    from avel.figures.style import new_figure

    groups = _groups(runs, _data(runs, arguments), split)
    width, height = matrix_size(len(groups[0][0].classes))
    figure = new_figure(width * len(groups), height)
    for ax, group in zip(_axes(figure, len(groups)), groups, strict=True):
        confusion_matrix(group, ax=ax)
    _save(figure, out, dpi)


@plot.command()
def difference(
    words: Words,
    split: Split = "test",
    out: Output = Path("difference.png"),
    dpi: Dpi = 200,
) -> None:
    """The gain of the second run in each class.

    It is the gain on the first run (xue2021 fig. 4 c).
    """
    runs, arguments = _runs_and_data(words)
    _check_output(out)
    if len(runs) != 2:
        raise UsageError(
            f"{len(runs)} runs are named", expected="two", hint="give the baseline, then the other"
        )
    from avel.figures.matrices import class_difference

    data = _data(runs, arguments)
    first, second = _named_apart([_one_group(run, data, split) for run in runs], runs)
    _save(class_difference(first, second)[0].figure, out, dpi)


@plot.command()
def learning(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders of runs (or of several seeds).")
    ],
    out: Output = Path("learning.png"),
    dpi: Dpi = 200,
) -> None:
    """Learning curves: loss and validation over the epochs.

    All seeds or folds of a run are drawn.
    """
    _check_output(out)
    from avel.cli._pairs import seed_folders
    from avel.figures.learning import learning_curves, read_histories

    histories = {
        str(run): [history for folder in seed_folders(run) for history in read_histories(folder)]
        for run in runs
    }
    _save(learning_curves(histories)[0][0].figure, out, dpi)


@plot.command(name="lambda")
def lambda_(
    tables: Annotated[list[Path], typer.Argument(metavar="CSV...", help="Tables of `avel sweep`.")],
    out: Output = Path("lambda.png"),
    dpi: Dpi = 200,
) -> None:
    """Accuracy over a weight of the loss.

    One panel a sweep (xue2021 fig. 5, wu2019 fig. 5).
    """
    _check_output(out)
    from avel.figures.curves import lambda_curves, read_rows
    from avel.figures.style import new_figure

    read = [read_rows(path) for path in tables]
    figure = new_figure(4.8 * len(tables), 4.2)
    for ax, path, rows in zip(_axes(figure, len(tables)), tables, read, strict=True):
        try:
            lambda_curves(rows, ax=ax)
        except DataError as e:  # a table of something else
            raise UsageError(f"{path}: {e.got}", expected=e.expected, hint=e.hint) from e
    _save(figure, out, dpi)


@plot.command()
def dataset(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="A folder of the AVE data set, or of your own clips."),
    ],
    out: Output = Path("dataset.png"),
    dpi: Dpi = 200,
) -> None:
    """Clips of each class, and lengths of events.

    From the annotations alone (tian2018 fig. 2).
    """
    _check_output(out)
    from avel.data.overview import overview
    from avel.figures.dataset import dataset_panels

    bars, _ = dataset_panels(overview(folder))
    _save(bars.patches[0].figure, out, dpi)


@plot.command()
def attention(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="VIDEO | KEY=VALUE...",
            help="A video file of any length; or, with --clip, other data than the model was "
            "trained on: data=DIR, or data=ave root=DIR.",
        ),
    ] = None,
    model: Annotated[str, typer.Option(help="A run's folder, or `default`.")] = "default",
    clip: Annotated[
        str, typer.Option(help="In place of a video: a clip of the data, by its features.")
    ] = "",
    split: Split = "test",
    videos: Videos = None,
    frames: Annotated[int, typer.Option(min=1, max=60, help="Pictures at most.")] = 10,
    out: Output = Path("attention.png"),
    dpi: Dpi = 200,
) -> None:
    """A model's attention by segment.

    With sound and predictions (xue2021 fig. 6; tian2018).
    """
    _check_output(out)
    from avel.cli._pairs import seed_folders
    from avel.figures.attention import attention_strip, video_attention
    from avel.inference.load import load_trained

    arguments = words or []
    trained = load_trained(seed_folders(Path(model))[0])
    _check_attention(trained)
    if clip:
        runs, data_arguments = _runs_and_data([model, *arguments])
        result = _clip_attention(runs, data_arguments, clip, split, videos, frames)
    elif len(arguments) == 1:
        result = video_attention(arguments[0], trained, limit=frames)
    else:
        raise UsageError(
            f"{len(arguments) or 'no'} videos are named",
            expected="one, or --clip",
            hint="draw one at a time",
        )
    _save(attention_strip(result)["prediction"][0].figure, out, dpi)


@plot.command()
def tsne(
    words: Words,
    split: Split = "test",
    classes: Annotated[
        int, typer.Option(min=1, max=64, help="How many of the most frequent classes.")
    ] = 7,
    only: Annotated[
        list[str] | None, typer.Option("--class", help="A class to show; may be repeated.")
    ] = None,
    module: Annotated[
        list[str] | None,
        typer.Option(
            help="A module whose output is shown, in place of the default ones; may be repeated."
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=10, help="Segments at most.")] = 1500,
    perplexity: Annotated[float, typer.Option(min=1.0, help="The perplexity of t-SNE.")] = 30.0,
    seed: Annotated[int, typer.Option(help="The seed of the sample and of t-SNE.")] = 0,
    out: Output = Path("tsne.png"),
    dpi: Dpi = 200,
) -> None:
    """Segments' features before and after each module.

    They are drawn in the plane (xue2021 fig. 7). Of several seeds the first is drawn.
    """
    runs, arguments = _runs_and_data(words)
    _check_output(out)
    if len(runs) != 1:
        raise UsageError(f"{len(runs)} runs are named", expected="one", hint="draw one at a time")
    from avel.cli._pairs import seed_folders
    from avel.figures.activations import collect_activations
    from avel.figures.embeddings import tsne as draw

    activations = collect_activations(
        seed_folders(runs[0])[0], _data(runs, arguments), split=split, classes=only or classes,
        limit=limit, modules=module or (), seed=seed,
    )  # fmt: skip
    drawn = draw(activations, perplexity=perplexity, seed=seed)
    _save(drawn[0][0].figure, out, dpi)


@plot.command()
def timeline(
    words: Words,
    clip: Annotated[
        list[str] | None,
        typer.Option(
            help="A clip's name or a part of it; may be repeated; by default 3 of the split."
        ),
    ] = None,
    split: Split = "test",
    videos: Videos = None,
    frames: Annotated[int, typer.Option(min=0, max=60, help="Pictures at most; 0 none.")] = 10,
    out: Output = Path("timeline.png"),
    dpi: Dpi = 200,
) -> None:
    """Clips with true and predicted classes.

    One row a run (xue2021 fig. 8). For a run of cml: the windows chosen for an audio query and for
    a visual query.
    """
    runs, arguments = _runs_and_data(words)
    _check_output(out)
    from avel.cli._pairs import seed_folders
    from avel.inference.load import load_trained
    from avel.tasks import task_named

    task = task_named(load_trained(seed_folders(runs[0])[0]).card["task"])
    folders = [_root(runs, arguments), *([videos] if videos else [])]
    draw = _draw_predictions if task.classifies else _draw_retrieval
    _save(draw(runs, _data(runs, arguments), split, clip or (), folders, frames), out, dpi)


def _check_attention(trained: Trained) -> None:
    """Refuse a model without attention before a video is decoded."""
    from avel.figures.attention import has_attention
    from avel.figures.predictions import display_name
    from avel.tasks import task_named

    if task_named(trained.card["task"]).classifies and not has_attention(trained):
        raise UsageError(
            f"{display_name(trained)} has no attention over the picture or the sound",
            expected=f"one that has: most variants of {', '.join(ATTENDING)}, or `default`",
            hint="choose one by --model; predictions alone: `avel plot timeline RUN --clip NAME`",
        )


def _clip_attention(
    runs: Sequence[Path],
    arguments: DataArguments,
    clip: str,
    split: str,
    videos: Path | None,
    frames: int,
) -> Attention:
    from dataclasses import replace

    from avel.cli._pairs import seed_folders
    from avel.cli._pictures import clip_pictures
    from avel.figures.attention import clip_attention

    if len(runs) != 1:
        raise UsageError("a video and --clip exclude each other", hint="leave one out")
    run, data = seed_folders(runs[0])[0], _data(runs, arguments)
    attention = clip_attention(run, data, clip, split=split, limit=frames)
    grid, folders = attention.scores.grid, [_root(runs, arguments), *([videos] if videos else [])]
    pictures = clip_pictures(attention.video, len(grid), grid.step, folders, frames)
    return replace(attention, frames=tuple(pictures)) if pictures else attention


def _draw_predictions(
    runs: Sequence[Path], data: Dataset, split: str, clips: Sequence[str],
    folders: Sequence[Path], frames: int,
) -> Figure:  # fmt: skip
    from avel.cli._pictures import clip_pictures
    from avel.figures.clip_timelines import timelines

    predictions = [
        group[0] for group in _named_apart([_one_group(r, data, split) for r in runs], runs)
    ]
    first = predictions[0]
    clips = clips or _default_clips(first.ids)
    pictures: dict[Any, Any] = {}
    for clip in clips if frames else ():
        row = first.find(clip)
        count = int((first.truth[row] >= 0).sum())
        pictures[clip] = clip_pictures(first.ids[row], count, first.step, folders, frames)
    axes = timelines(predictions, clips, frames=pictures)[0][0][0]
    return cast("Figure", axes.figure)


def _draw_retrieval(
    runs: Sequence[Path], data: Dataset, split: str, clips: Sequence[str],
    folders: Sequence[Path], frames: int,
) -> Figure:  # fmt: skip
    from avel.cli._pairs import seed_folders
    from avel.cli._pictures import clip_pictures
    from avel.figures.retrieval import retrieval_timelines, retrieve

    if len(runs) > 1:
        raise UsageError(
            f"{len(runs)} runs of cml are named", expected="one", hint="draw one at a time"
        )
    retrieval = retrieve(seed_folders(runs[0])[0], data, split=split)
    clips = clips or _default_clips(retrieval.ids)
    pictures: dict[Any, Any] = {}
    for clip in clips if frames else ():
        row = retrieval.find(clip)
        pictures[clip] = clip_pictures(
            retrieval.ids[row], int(retrieval.count[row]), retrieval.step, folders, frames
        )
    axes = retrieval_timelines(retrieval, clips, frames=pictures)[0][0]
    return cast("Figure", axes.figure)


def _default_clips(ids: Sequence[str]) -> list[str]:
    """Clips to draw where none was named; their names are printed."""
    from shlex import quote

    from avel.figures.predictions import spread_clips

    names = spread_clips(ids, CLIPS)
    options = " ".join(f"--clip {quote(name)}" for name in names)
    note(f"{len(names)} of {len(ids)} clips are drawn, as by {options}")
    return names


def _runs_and_data(words: Sequence[str]) -> tuple[list[Path], DataArguments]:
    """The runs' folders, and the ``key=value`` arguments of the data."""
    from avel.cli._pairs import runs_and_data

    runs, arguments = runs_and_data(words, "plot")
    if not runs:
        raise UsageError("no run is named", hint="give the folder that `avel train` wrote")
    return runs, arguments


def _data_arguments(runs: Sequence[Path], arguments: DataArguments) -> DataArguments:
    """The data of the call, or else those that the first run was trained on."""
    from avel.cli._pairs import load_data_arguments, seed_folders

    return arguments if arguments.data else load_data_arguments(seed_folders(runs[0])[0])


def _data(runs: Sequence[Path], arguments: DataArguments) -> Dataset:
    from avel.cli._pairs import open_data, seed_folders
    from avel.inference.load import load_trained

    for run in runs:  # a run that isn't there is named before any data are read
        load_trained(seed_folders(run)[0])
    return open_data(_data_arguments(runs, arguments))


def _root(runs: Sequence[Path], arguments: DataArguments) -> Path:
    arguments = _data_arguments(runs, arguments)
    return Path(arguments.root or arguments.data)


def _groups(runs: Sequence[Path], data: Dataset, split: str) -> list[list[Predictions]]:
    """The predictions of all seeds of the runs, grouped by model, task and setting."""
    from avel.cli._pairs import seed_folders
    from avel.evaluation.evaluate import kind
    from avel.figures.predictions import predict_split
    from avel.inference.load import load_trained

    groups: dict[object, list[Predictions]] = {}
    for run in runs:
        for folder in seed_folders(run):
            trained = load_trained(folder)
            groups.setdefault(kind(trained), []).append(predict_split(trained, data, split=split))
    return list(groups.values())


def _one_group(run: Path, data: Dataset, split: str) -> list[Predictions]:
    groups = _groups([run], data, split)
    if len(groups) > 1:
        raise UsageError(f"{run} has runs of several kinds", hint="name one of its folders")
    return groups[0]


def _named_apart(groups: list[list[Predictions]], runs: Sequence[Path]) -> list[list[Predictions]]:
    """The groups, named by their folders where the models have one name."""
    from dataclasses import replace

    if len({group[0].name for group in groups}) == len(groups):
        return groups
    return [
        [replace(one, name=str(run)) for one in group]
        for group, run in zip(groups, runs, strict=True)
    ]


def _check_output(out: Path) -> None:
    """Refuse an ending without a writer before any work."""
    from avel.figures.style import check_ending

    check_ending(out)


def _axes(figure: Figure, count: int) -> list[Any]:
    return list(figure.subplots(1, count, squeeze=False)[0])


def _save(figure: Any, out: Path, dpi: int) -> None:
    from avel.figures.style import save_figure

    with writing(out):
        save_figure(figure, out, dpi=dpi)
    print(out)
