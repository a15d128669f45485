"""`avel extract`: features of media files and whole folders, skipping what is done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from avel.errors import AvelError, DataError, UsageError, all_at_once

if TYPE_CHECKING:
    from rich.progress import Progress

    from avel.features import Extractor

_ENDING = ".safetensors"


def extract(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="FILE|DIR...", help="Media files, or folders of them.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="A folder for the features, or NAME.safetensors for one file. Without it: beside "
            "a file, and in DIR/features for a folder.",
        ),
    ] = None,
    audio: Annotated[str, typer.Option(help="Audio backbone.")] = "mini_audio",
    visual: Annotated[str, typer.Option(help="Visual backbone.")] = "mini_visual",
    step: Annotated[float, typer.Option(help="Seconds a segment.")] = 1.0,
    batch: Annotated[int, typer.Option(help="Frames that go through the network together.")] = 32,
    dtype: Annotated[str, typer.Option(help="float16 or float32, as stored.")] = "float16",
    precision: Annotated[
        str, typer.Option(help="float32, or bf16 for the visual network: faster, error about 1 %.")
    ] = "float32",
    audio_track: Annotated[
        int | None, typer.Option(help="Which sound track, from 0, where there are several.")
    ] = None,
    video_track: Annotated[
        int | None, typer.Option(help="Which video track, from 0, where there are several.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Also what is done already.")] = False,
) -> None:
    """Make features of videos: what `avel train` reads, one file a clip."""
    _check(dtype=dtype, precision=precision, batch=batch, step=step)
    jobs = plan(inputs, out)
    from avel.features import Extractor

    make = Extractor(
        audio=audio,
        visual=visual,
        step=step,
        batch=batch,
        precision="bf16" if precision == "bf16" else "float32",
    )
    tracks = {"audio_track": audio_track, "video_track": video_track}
    tally = _run(jobs, make, dtype=dtype, again=again, **tracks)
    typer.echo(f"{tally.made} extracted, {tally.kept} already there, {len(tally.failed)} failed")
    for _, error in tally.failed:
        typer.echo(f"avel: {error}", err=True)
    if tally.failed:
        wrong = all(isinstance(e, UsageError) for _, e in tally.failed)
        raise typer.Exit(2 if wrong and len(tally.failed) == len(jobs) else 1)


@dataclass
class _Tally:
    made: int = 0
    kept: int = 0
    failed: list[tuple[Path, AvelError]] = field(default_factory=list)


def _check(*, dtype: str, precision: str, batch: int, step: float) -> None:
    from avel.media import STEPS

    mistakes = []
    if dtype not in ("float16", "float32"):
        mistakes.append(f"--dtype {dtype}: wanted float16 or float32")
    if precision not in ("float32", "bf16"):
        mistakes.append(f"--precision {precision}: wanted float32 or bf16")
    if not 1 <= batch <= 4096:
        mistakes.append(f"--batch {batch}: wanted 1 to 4096")
    if not STEPS[0] <= step <= STEPS[1]:
        mistakes.append(f"--step {step}: wanted {STEPS[0]} to {STEPS[1]} seconds")
    if mistakes:
        raise all_at_once("avel extract", mistakes)


def plan(inputs: Sequence[Path], out: Path | None) -> list[tuple[Path, Path]]:
    """Each media file with the file its features go to.

    Raises:
        UsageError: if two would be written to one file, or one file is named for several inputs.
        DataError: if a folder holds no media files.
    """
    named = out is not None and out.suffix == _ENDING and not out.is_dir()
    if named and (len(inputs) > 1 or inputs[0].is_dir()):
        raise UsageError(f"one output {out} for several files", wanted="a folder", do="-o FOLDER")
    jobs = [job for given in inputs for job in _jobs(given, out, named=named)]
    places: dict[Path, list[Path]] = {}
    for file, target in jobs:
        places.setdefault(target.absolute(), []).append(file)
    clashes = [
        f"{target} from {' and '.join(str(f) for f in files)}"
        for target, files in places.items()
        if len(files) > 1
    ]
    if clashes:
        cure = "rename one of each, or extract them into folders of their own"
        raise all_at_once("features would be written twice", clashes, do=cure)
    return jobs


def _jobs(given: Path, out: Path | None, *, named: bool) -> Iterator[tuple[Path, Path]]:
    from avel.features.store import feature_path

    if not given.is_dir():
        beside = given.with_name(given.stem + _ENDING)
        yield given, beside if out is None else out if named else out / beside.name
        return
    files = list(_media_files(given))
    if not files:
        raise DataError(
            f"{given} holds no media files", wanted="mp4, mkv, wav… in it or its folders"
        )
    for file in files:
        yield file, feature_path(given, file, out=out)


def _media_files(root: Path) -> Iterator[Path]:
    from avel.media import ENDINGS

    for file in sorted(root.rglob("*")):
        hidden = any(part.startswith(".") for part in file.relative_to(root).parts)
        if file.suffix.lower() in ENDINGS and not hidden and file.is_file():
            yield file


def _run(
    jobs: Sequence[tuple[Path, Path]], make: Extractor, *, dtype: str, again: bool, **tracks: Any
) -> _Tally:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    tally = _Tally()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        files = bars.add_task("files", total=len(jobs))
        for media, target in jobs:
            try:
                if _one(media, target, make, bars, dtype=dtype, again=again, **tracks):
                    tally.made += 1
                else:
                    tally.kept += 1
            except AvelError as e:
                tally.failed.append((media, e))
            except OSError as e:  # a full disk, a folder without rights
                cure = "make room there, or choose another folder with -o"
                tally.failed.append((media, DataError(f"{target}: {e}", do=cure)))
            bars.advance(files)
    return tally


def _one(
    media: Path,
    target: Path,
    make: Extractor,
    bars: Progress,
    *,
    dtype: str,
    again: bool,
    **tracks: Any,
) -> bool:
    """Extract one file, unless that is done; whether there was anything to do."""
    from avel.features.store import up_to_date
    from avel.files import file_hash
    from avel.probe import check_file

    check_file(media)
    content = file_hash(media)
    chosen = {key: value for key, value in tracks.items() if value is not None}
    key = ":".join([content, *(f"{name}={value}" for name, value in sorted(chosen.items()))])
    if not again and up_to_date(target, content=key, cards=make.cards, step=make.step):
        return False
    bar = bars.add_task(media.name, total=None)

    def advance(done: int, total: int) -> None:
        bars.update(bar, completed=done, total=total)

    try:
        features = make(media, progress=advance, **tracks)
    finally:
        bars.remove_task(bar)
    replace(features, content=key).save(target, dtype=dtype)
    return True
