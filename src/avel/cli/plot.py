"""`avel plot`: the papers' figures, a sub-command each, as .png, .svg or .pdf."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from avel.cli._terminal import note
from avel.errors import DataError, UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from avel.cli._pairs import Given
    from avel.data.base import Dataset
    from avel.figures.attention import Attention
    from avel.figures.predictions import Predictions
    from avel.inference.checkpoint import Trained

plot = typer.Typer(
    help="Draw the papers' figures as .png, .svg or .pdf.", no_args_is_help=True,
    add_completion=False, rich_markup_mode=None,
)  # fmt: skip

_ON = (
    "Folders of runs (or of several seeds). Of other data than they were trained on: data=DIR, or "
    "data=ave root=DIR."
)
Words = Annotated[list[str], typer.Argument(metavar="RUN... KEY=VALUE...", help=_ON)]
Split = Annotated[str, typer.Option(help="train, val, test, or another of the data.")]
Dpi = Annotated[int, typer.Option(min=20, max=1200, help="Points an inch of a .png.")]
Videos = Annotated[
    Path | None,
    typer.Option(help="Folder of AVE's videos, NAME.mp4; clips of your own folder find theirs."),
]


#: Models whose attention can be drawn, most of their variants'.
ATTENDING = ("av", "avsdn", "cspa_csea", "dam", "jca", "linear")
#: Clips that a timeline shows where none is named.
CLIPS = 3


def _output(name: str) -> Any:
    return typer.Option("--output", "-o", help=f"The picture; {name}.png.")


@plot.command()
def confusion(
    words: Words,
    split: Split = "test",
    out: Annotated[Path, _output("confusion")] = Path("confusion.png"),
    dpi: Dpi = 200,
) -> None:
    """Where the segments of each class went; a panel for each kind of run (xue2021 fig. 4 a, b)."""
    runs, given = _sorted(words)
    _ready(out)
    from avel.figures.matrices import confusion_matrix, matrix_size
    from avel.figures.style import new_figure

    groups = _groups(runs, _data(runs, given), split)
    width, height = matrix_size(len(groups[0][0].classes))
    figure = new_figure(width * len(groups), height)
    for ax, group in zip(_row(figure, len(groups)), groups, strict=True):
        confusion_matrix(group, ax=ax)
    _save(figure, out, dpi)


@plot.command()
def difference(
    words: Words,
    split: Split = "test",
    out: Annotated[Path, _output("difference")] = Path("difference.png"),
    dpi: Dpi = 200,
) -> None:
    """What the second run gains on the first in each class (xue2021 fig. 4 c)."""
    runs, given = _sorted(words)
    _ready(out)
    if len(runs) != 2:
        raise UsageError(
            f"{len(runs)} runs", expected="two", hint="give the baseline, then the other"
        )
    from avel.figures.matrices import class_difference

    data = _data(runs, given)
    first, second = _told_apart([_one_group(run, data, split) for run in runs], runs)
    _save(class_difference(first, second)[0].figure, out, dpi)


@plot.command(name="lambda")
def lambda_(
    tables: Annotated[list[Path], typer.Argument(metavar="CSV...", help="Of `avel sweep`.")],
    out: Annotated[Path, _output("lambda")] = Path("lambda.png"),
    dpi: Dpi = 200,
) -> None:
    """Accuracy over the weight of the two streams, a panel a sweep (xue2021 fig. 5)."""
    _ready(out)
    from avel.figures.curves import lambda_curves, read_rows
    from avel.figures.style import new_figure

    read = [read_rows(path) for path in tables]
    figure = new_figure(4.8 * len(tables), 4.2)
    for ax, path, rows in zip(_row(figure, len(tables)), tables, read, strict=True):
        try:
            lambda_curves(rows, ax=ax)
        except DataError as e:  # a table of something else
            raise UsageError(f"{path}: {e.got}", expected=e.expected, hint=e.hint) from e
    _save(figure, out, dpi)


@plot.command()
def attention(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="VIDEO | KEY=VALUE...",
            help="A video file of any length; or, with --clip, of other data than the model was "
            "trained on: data=DIR, or data=ave root=DIR.",
        ),
    ] = None,
    model: Annotated[str, typer.Option(help="A run's folder, or `default`.")] = "default",
    clip: Annotated[
        str, typer.Option(help="In place of a video: a clip of the run's data, by its features.")
    ] = "",
    split: Split = "test",
    videos: Videos = None,
    frames: Annotated[int, typer.Option(min=1, max=60, help="Pictures at most.")] = 10,
    out: Annotated[Path, _output("attention")] = Path("attention.png"),
    dpi: Dpi = 200,
) -> None:
    """A model's attention by segment, with sound and predictions (xue2021 fig. 6; tian2018)."""
    _ready(out)
    from avel.cli._pairs import seeds_of
    from avel.figures.attention import attention_strip, video_attention
    from avel.inference.load import load_trained

    given = words or []
    trained = load_trained(seeds_of(Path(model))[0])
    _check_attention(trained)
    if clip:
        runs, of = _sorted([model, *given])
        result = _clip_attention(runs, of, clip, split, videos, frames)
    elif len(given) == 1:
        result = video_attention(given[0], trained, limit=frames)
    else:
        raise UsageError(
            f"{len(given) or 'no'} videos", expected="one, or --clip", hint="draw one at a time"
        )
    _save(attention_strip(result)["prediction"][0].figure, out, dpi)


@plot.command()
def tsne(
    words: Words,
    split: Split = "test",
    classes: Annotated[
        int, typer.Option(min=1, max=64, help="So many of the most frequent classes.")
    ] = 7,
    only: Annotated[
        list[str] | None, typer.Option("--class", help="This class; may stand several times.")
    ] = None,
    module: Annotated[
        list[str] | None,
        typer.Option(help="After this module in place of the usual ones; several times."),
    ] = None,
    limit: Annotated[int, typer.Option(min=10, help="Segments at most.")] = 1500,
    perplexity: Annotated[float, typer.Option(min=1.0, help="Of t-SNE.")] = 30.0,
    seed: Annotated[int, typer.Option(help="Of the drawing and of t-SNE.")] = 0,
    out: Annotated[Path, _output("tsne")] = Path("tsne.png"),
    dpi: Dpi = 200,
) -> None:
    """Segments' features before and after each module, in the plane (xue2021 fig. 7).

    Of several seeds the first.
    """
    runs, given = _sorted(words)
    _ready(out)
    if len(runs) != 1:
        raise UsageError(f"{len(runs)} runs", expected="one", hint="draw one at a time")
    from avel.cli._pairs import seeds_of
    from avel.figures.activations import collect_activations
    from avel.figures.embeddings import tsne as draw

    activations = collect_activations(
        seeds_of(runs[0])[0], _data(runs, given), split=split, classes=only or classes,
        limit=limit, modules=module or (), seed=seed,
    )  # fmt: skip
    drawn = draw(activations, perplexity=perplexity, seed=seed)
    _save(drawn[0][0].figure, out, dpi)


@plot.command()
def timeline(
    words: Words,
    clip: Annotated[
        list[str] | None,
        typer.Option(help="A clip's name or a part of it, several times; 3 of the split if none."),
    ] = None,
    split: Split = "test",
    videos: Videos = None,
    frames: Annotated[int, typer.Option(min=0, max=60, help="Pictures at most; 0 none.")] = 10,
    out: Annotated[Path, _output("timeline")] = Path("timeline.png"),
    dpi: Dpi = 200,
) -> None:
    """Clips with true and predicted classes, a row a run (xue2021 fig. 8).

    Of a run of cml: the window chosen for an audio query, and the one for a visual query.
    """
    runs, given = _sorted(words)
    _ready(out)
    from avel.cli._pairs import seeds_of
    from avel.inference.load import load_trained
    from avel.tasks import task_named

    task = task_named(load_trained(seeds_of(runs[0])[0]).card["task"])
    places = [_root(runs, given), *([videos] if videos else [])]
    draw = _draw_predictions if task.classifies else _draw_retrieval
    _save(draw(runs, _data(runs, given), split, clip or (), places, frames), out, dpi)


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
    runs: Sequence[Path], given: Given, clip: str, split: str, videos: Path | None, frames: int
) -> Attention:
    from dataclasses import replace

    from avel.cli._pairs import seeds_of
    from avel.cli._pictures import pictures_of
    from avel.figures.attention import clip_attention

    if len(runs) != 1:
        raise UsageError("a video beside --clip", expected="one of them", hint="leave one out")
    run, data = seeds_of(runs[0])[0], _data(runs, given)
    found = clip_attention(run, data, clip, split=split, limit=frames)
    grid, places = found.scores.grid, [_root(runs, given), *([videos] if videos else [])]
    pictures = pictures_of(found.video, len(grid), grid.step, places, frames)
    return replace(found, frames=tuple(pictures)) if pictures else found


def _draw_predictions(
    runs: Sequence[Path], data: Dataset, split: str, clips: Sequence[str],
    places: Sequence[Path], frames: int,
) -> Figure:  # fmt: skip
    from avel.cli._pictures import pictures_of
    from avel.figures.clip_timelines import timelines

    judged = [group[0] for group in _told_apart([_one_group(r, data, split) for r in runs], runs)]
    first = judged[0]
    clips = clips or _some(first.ids)
    pictures: dict[Any, Any] = {}
    for clip in clips if frames else ():
        at = first.find(clip)
        count = int((first.truth[at] >= 0).sum())
        pictures[clip] = pictures_of(first.ids[at], count, first.step, places, frames)
    figure: Figure = timelines(judged, clips, frames=pictures)[0][0][0].figure  # type: ignore[assignment]
    return figure


def _draw_retrieval(
    runs: Sequence[Path], data: Dataset, split: str, clips: Sequence[str],
    places: Sequence[Path], frames: int,
) -> Figure:  # fmt: skip
    from avel.cli._pairs import seeds_of
    from avel.cli._pictures import pictures_of
    from avel.figures.retrieval import retrieval_timelines, retrieve

    if len(runs) > 1:
        raise UsageError(f"{len(runs)} runs of cml", expected="one", hint="draw one at a time")
    found = retrieve(seeds_of(runs[0])[0], data, split=split)
    clips = clips or _some(found.ids)
    pictures: dict[Any, Any] = {}
    for clip in clips if frames else ():
        at = found.find(clip)
        pictures[clip] = pictures_of(
            found.ids[at], int(found.count[at]), found.step, places, frames
        )
    figure: Figure = retrieval_timelines(found, clips, frames=pictures)[0][0].figure  # type: ignore[assignment]
    return figure


def _some(ids: Sequence[str]) -> list[str]:
    """Clips to draw where none was named, said aloud."""
    from shlex import quote

    from avel.figures.predictions import spread_clips

    found = spread_clips(ids, CLIPS)
    told = " ".join(f"--clip {quote(name)}" for name in found)
    note(f"{len(found)} of {len(ids)} clips, as by {told}")
    return found


def _sorted(words: Sequence[str]) -> tuple[list[Path], Given]:
    """Runs, one a seed, and what ``key=value`` says of the data."""
    from avel.cli._pairs import sort_pairs

    given = sort_pairs(w for w in words if "=" in w and not Path(w).is_dir())
    if given.recipe:
        raise UsageError(
            f"{given.recipe[0]!r} means nothing here", hint="recipes are for `avel train`"
        )
    runs = [Path(w) for w in words if "=" not in w or Path(w).is_dir()]
    if not runs:
        raise UsageError("no run named", hint="give the folder that `avel train` wrote")
    return runs, given


def _given(runs: Sequence[Path], given: Given) -> Given:
    """What was said of the data, or what the first run was trained on."""
    from avel.cli._pairs import recall, seeds_of

    return given if given.data else recall(seeds_of(runs[0])[0])


def _data(runs: Sequence[Path], given: Given) -> Dataset:
    from avel.cli._pairs import open_data, seeds_of
    from avel.inference.load import load_trained

    for run in runs:  # a run that isn't there is named before any data are read
        load_trained(seeds_of(run)[0])
    return open_data(_given(runs, given))


def _root(runs: Sequence[Path], given: Given) -> Path:
    found = _given(runs, given)
    return Path(found.root or found.data)


def _groups(runs: Sequence[Path], data: Dataset, split: str) -> list[list[Predictions]]:
    """What all seeds of the runs answered, seeds of one kind together."""
    from avel.cli._pairs import seeds_of
    from avel.evaluation.evaluate import kind
    from avel.figures.predictions import predict_split
    from avel.inference.load import load_trained

    groups: dict[object, list[Predictions]] = {}
    for run in runs:
        for folder in seeds_of(run):
            trained = load_trained(folder)
            groups.setdefault(kind(trained), []).append(predict_split(trained, data, split=split))
    return list(groups.values())


def _one_group(run: Path, data: Dataset, split: str) -> list[Predictions]:
    found = _groups([run], data, split)
    if len(found) > 1:
        raise UsageError(f"{run} holds runs of several kinds", hint="name one of its folders")
    return found[0]


def _told_apart(groups: list[list[Predictions]], runs: Sequence[Path]) -> list[list[Predictions]]:
    """The same, by their folders' names where the models' are the same."""
    from dataclasses import replace

    if len({group[0].name for group in groups}) == len(groups):
        return groups
    return [
        [replace(one, name=str(run)) for one in group]
        for group, run in zip(groups, runs, strict=True)
    ]


def _ready(out: Path) -> None:
    """Refuse what can't be written before any work."""
    from avel.figures.style import check_ending

    check_ending(out)


def _row(figure: Figure, count: int) -> list[Any]:
    return list(figure.subplots(1, count, squeeze=False)[0])


def _save(figure: Any, out: Path, dpi: int) -> None:
    from avel.figures.style import save_figure

    try:
        save_figure(figure, out, dpi=dpi)
    except OSError as e:
        raise DataError(
            f"{out} can't be written ({e.strerror or e})", hint="make room there, or choose another"
        ) from e
    print(out)
