"""`avel convert`: labels from one tool's format into another's; released weights into ours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from avel.cli._labels import convert_labels, label_outputs
from avel.cli._options import Clips, Overwrite, ShowScores, Thumbnails, check_modality
from avel.cli._outputs import WriteOptions, is_ending, is_folder
from avel.cli._weights import WEIGHTS, convert_weights_file
from avel.errors import UsageError


def convert(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE... [TARGET]",
            help="Label files of any format; without -o the last one is the output. Or a file of "
            "the AVE release's weights.",
        ),
    ],
    output: Annotated[
        list[str] | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT...",
            help="NAME.ending for one file of all; endings (.vtt .selections.txt) for one beside "
            "each source, or in a folder given with them. For weights a new folder.",
        ),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="Write this format whatever the ending: json, csv, vtt, srt, audacity, elan, "
            "dcase, raven, labelstudio, otio, textgrid, edl.",
        ),
    ] = None,
    read_as: Annotated[
        str | None, typer.Option("--from", help="Read this format whatever the ending.")
    ] = None,
    video: Annotated[
        Path | None, typer.Option(help="The labels' video, if it isn't beside them.")
    ] = None,
    modality: Annotated[
        str | None,
        typer.Option(
            help="Which events: both, audio (only heard), visual (only seen) or all; by default "
            "those that the source lists."
        ),
    ] = None,
    clips: Clips = None,
    thumbnails: Thumbnails = None,
    overwrite: Overwrite = False,
    scores: ShowScores = False,
    model: Annotated[
        str | None,
        typer.Option(help="Weights: av or avdln; by default by the names of the tensors."),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="Weights: sel, wsel or cml; wsel must be given, as the names don't tell it."
        ),
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(
            help="Weights: a file with a class name a line, in the order of the ids; by "
            "default AVE's."
        ),
    ] = None,
) -> None:
    """Convert labels between formats, or released weights.

    Labels of one tool become another's; the weights of the released code become a checkpoint.
    """
    cuts = clips is not None or thumbnails is not None
    sources, targets = _split(files, output or [], needs_target=not cuts)
    weights = [s for s in sources if s.suffix.lower() in WEIGHTS]
    if weights:
        if len(sources) > 1 or len(targets) != 1:
            raise UsageError(
                f"{weights[0]} can't be converted with other files",
                expected="one file of weights and one folder",
            )
        convert_weights_file(weights[0], Path(targets[0]), model=model, task=task, classes=classes)
        return
    if model or task or classes:
        raise UsageError("--model, --task and --classes are for weights", hint="leave them out")
    if read_as is None:
        from avel.formats import check_readable

        for source in sources:
            check_readable(source)
    outputs = label_outputs(targets, format)
    options = WriteOptions(format, overwrite, scores, clips, thumbnails)
    chosen = None if modality is None else check_modality(modality)
    if convert_labels(sources, outputs, options, read_as=read_as, video=video, modality=chosen):
        raise typer.Exit(1)


def _split(
    files: Sequence[Path], output: Sequence[str], *, needs_target: bool
) -> tuple[list[Path], list[str]]:
    """Sources and targets: the values of -o, or else the last file, which mustn't exist yet."""
    if output or (not needs_target and len(files) == 1):
        return list(files), list(output)
    if len(files) < 2:
        raise UsageError(
            f"{files[0]} has no output",
            expected="SOURCE... TARGET",
            hint=f"avel convert {files[0]} NAME.vtt, or -o .vtt",
        )
    target = files[-1]
    if target.exists() and not is_folder(target) and not is_ending(str(target)):
        raise UsageError(
            f"{target} exists already",
            expected="a new file as the last argument",
            hint=f"replace it with -o {target}",
        )
    return list(files[:-1]), [str(target)]
