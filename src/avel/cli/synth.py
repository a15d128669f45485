"""`avel synth`: rendered or composed clips with audio-visual events and their labels."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from avel.cli._options import progress_bar
from avel.errors import UsageError

if TYPE_CHECKING:
    from avel.data.composer.dataset import ComposerPlan

#: The configuration that needs no folders: its objects are drawn and its sounds synthesized.
TOYBOX = "toybox"
#: Toybox's defaults; composed clips have those of the pairs.
_TOYBOX_CLIPS: dict[str, Any] = {"clips": 100, "size": "320x240", "seconds": 10.0, "fps": 12}


def parse_size(text: str) -> tuple[int, int]:
    """``"320x240"`` as (width, height).

    Raises:
        UsageError: if the text is no size.
    """
    wide, _, high = text.lower().partition("x")
    if not (wide.isascii() and wide.isdigit() and high.isascii() and high.isdigit()):
        raise UsageError(f"--size can't be {text[:40]!r}", expected="width x height, like 320x240")
    return int(wide[:6]), int(high[:6])


def parse_offset(text: str) -> tuple[float, float]:
    """``"1.5"`` or ``"0.5:3"`` as least and most seconds.

    Raises:
        UsageError: if the text is neither.
    """
    least, _, most = text.partition(":")
    try:
        return float(least), float(most or least)
    except ValueError:
        raise UsageError(
            f"--offset can't be {text[:40]!r}", expected="seconds, or 0.5:3 for a range"
        ) from None


def synth(
    folder: Annotated[
        Path, typer.Argument(help="The folder for the clips; existing ones are kept.")
    ],
    clips: Annotated[
        int | None, typer.Option(help="How many clips [100, or as the pairs file says].")
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same clips.")] = 0,
    size: Annotated[
        str | None, typer.Option(help="Width x height in pixels, at most 640x360 [320x240].")
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="Length of a clip in seconds [10].")] = None,
    fps: Annotated[int | None, typer.Option(help="Frames a second [12].")] = None,
    jobs: Annotated[int, typer.Option(min=0, help="Processes; 0 for one a core.")] = 0,
    pairs: Annotated[
        str,
        typer.Option(help="toybox for drawn objects; or pairs10 or a pairs.toml to compose clips."),
    ] = TOYBOX,
    sounds: Annotated[Path | None, typer.Option(help="Compose: folders of recordings.")] = None,
    images: Annotated[Path | None, typer.Option(help="Compose: folders of photographs.")] = None,
    backgrounds: Annotated[
        Path | None, typer.Option(help="Compose: photographs for backgrounds [the images].")
    ] = None,
    offset: Annotated[
        str, typer.Option(help="Compose: seconds from sight to sound, 1.5 or 0.5:3.")
    ] = "0",
) -> None:
    """Render or compose a data set.

    Renders Toybox's drawn objects, or composes clips of your recordings and photographs.
    """
    settings = {"clips": clips, "size": size, "seconds": seconds, "fps": fps}
    folders = {"sounds": sounds, "images": images, "backgrounds": backgrounds}
    if pairs.lower() == TOYBOX:
        wrong = [f"--{k}" for k, v in folders.items() if v is not None]
        wrong += ["--offset"] * (offset != "0")
        if wrong:
            raise UsageError(
                f"{', '.join(wrong)} can't be used for Toybox, which draws its own clips",
                hint="give --pairs pairs.toml",
            )
        _toybox(folder, seed=seed, jobs=jobs, **_toybox_settings(settings))
        return
    if sounds is None or images is None:
        raise UsageError("--pairs needs --sounds and --images", hint="name both folders")
    plan = _plan(pairs, sounds, images, backgrounds, seed=seed, offset=offset, settings=settings)
    _compose(folder, plan, clips, jobs, _command(folder, pairs, folders, settings, seed, offset))


def _toybox_settings(settings: dict[str, Any]) -> dict[str, Any]:
    return {k: v if settings[k] is None else settings[k] for k, v in _TOYBOX_CLIPS.items()}


def _toybox(
    folder: Path, *, clips: int, seed: int, size: str, seconds: float, fps: int, jobs: int
) -> None:
    from avel.data.rendered import TOYBOX_CARD, clips_of
    from avel.data.toybox.dataset import ToyboxPlan, synthesize

    width, height = parse_size(size)
    plan = ToyboxPlan(seed=seed, seconds=seconds, fps=fps, width=width, height=height)
    command = (
        f"avel synth {folder.name} --clips {clips} --seed {seed} --size {width}x{height} "
        f"--seconds {seconds:g} --fps {fps}"
    )

    with progress_bar("rendering") as progress:
        annotations = synthesize(
            folder, clips=clips, plan=plan, jobs=jobs, command=command, progress=progress
        )
    print(f"{clips_of(folder / TOYBOX_CARD)} clips, {annotations}")


def _plan(
    pairs: str,
    sounds: Path,
    images: Path,
    backgrounds: Path | None,
    *,
    seed: int,
    offset: str,
    settings: dict[str, Any],
) -> ComposerPlan:
    from avel.data.composer.bank import find_sources
    from avel.data.composer.dataset import ComposerPlan
    from avel.data.composer.reading import changed, read_pairs

    offsets = parse_offset(offset)
    config = read_pairs(pairs)
    expected = {k: settings[k] for k in ("seconds", "fps") if settings[k] is not None}
    if settings["size"] is not None:
        expected["width"], expected["height"] = parse_size(settings["size"])
    config = changed(config, **expected)
    bank = find_sources(config, sounds=sounds, images=images, backgrounds=backgrounds)
    return ComposerPlan(config, bank, seed=seed, offset=offsets)


def _command(
    folder: Path,
    pairs: str,
    folders: dict[str, Path | None],
    settings: dict[str, Any],
    seed: int,
    offset: str,
) -> str:
    """The command for the folder's card, without the paths of its folders."""
    words = ["avel", "synth", folder.name, "--pairs", Path(pairs).name, "--seed", str(seed)]
    for key, value in {k: v and v.name for k, v in folders.items()}.items():
        words += [f"--{key}", str(value)] if value else []
    for key, value in settings.items():
        words += [f"--{key}", f"{value}"] if value is not None else []
    return shlex.join([*words, *(["--offset", offset] if offset != "0" else [])])


def _compose(folder: Path, plan: ComposerPlan, clips: int | None, jobs: int, command: str) -> None:
    from avel.data.composer.dataset import compose
    from avel.data.rendered import COMPOSER_CARD, clips_of

    with progress_bar("rendering") as progress:
        annotations = compose(
            folder, plan, clips=clips, jobs=jobs, command=command, progress=progress
        )
    print(f"{clips_of(folder / COMPOSER_CARD)} clips, {annotations}")
    if plan.bank.twins:
        print(f"{plan.bank.twins} files left out: the same bytes are on another side")
