"""`avel check`: what this machine has, or what a folder holds and what is wrong with it."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from avel.errors import UsageError

#: The codecs of most videos of the last ten years.
CODECS = ("h264", "hevc", "vp9", "av1", "mpeg4", "aac", "mp3", "opus", "vorbis", "flac")


def check(
    folder: Annotated[
        Path | None, typer.Argument(help="A folder of the AVE data set, or of your own clips.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, for programs (of a folder only).")
    ] = False,
) -> None:
    """Check the installation, or a folder of clips.

    Prints versions, devices, codecs, cache and weights.

    Of a folder of your own clips: files and events of each class and split, lengths, background,
    and every problem of labels, media and features with file and line. The exit code is 1 where
    training would refuse or leave out anything.
    """
    if folder is not None:
        _folder(folder, as_json=as_json)
        return
    if as_json:
        raise UsageError("--json is for folders", hint="name a folder, or leave it out")
    for line in _machine():
        typer.echo(line)


def _machine() -> Iterator[str]:
    yield from _versions()
    yield from _codecs()
    yield from _weights()
    yield f"model      {_default_model()}"


def _default_model() -> str:
    from avel.backbones.base import backbones
    from avel.backbones.weights import weights_state
    from avel.errors import AvelError
    from avel.events import load_vocabulary
    from avel.inference.load import NAMED
    from avel.inference.named_events import TAGGERS

    try:
        events = load_vocabulary().sets[NAMED[0]]
    except AvelError as e:
        return f"default: {e.got}"
    lacks = [
        name
        for name in TAGGERS.values()
        if weights_state(next(iter(backbones.get(name).weights.values()))) == "absent"
    ]
    absent = f"; the weights of {', '.join(lacks)} are absent" if lacks else ""
    return f"{NAMED[0]}: {NAMED[1]}, {len(events)} events without training{absent}"


def _versions() -> Iterator[str]:
    import av
    import numpy
    import torch

    from avel._version import __version__

    libraries = ", ".join(
        f"{name.removeprefix('lib')} {'.'.join(map(str, version))}"
        for name, version in sorted(av.library_versions.items())
    )
    yield f"avel       {__version__}"
    yield f"python     {platform.python_version()} on {platform.platform()}"
    yield f"torch      {torch.__version__}, numpy {numpy.__version__}"
    yield f"PyAV       {av.__version__} ({libraries})"
    yield f"devices    {', '.join(_devices())}"


def _devices() -> Iterator[str]:
    import torch

    yield f"cpu ({torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()})"
    for i in range(torch.cuda.device_count()):
        yield f"cuda:{i} ({torch.cuda.get_device_name(i)})"
    if torch.backends.mps.is_available():
        yield "mps"


def _codecs() -> Iterator[str]:
    for mode, verb in (("r", "reads"), ("w", "writes")):
        able = [name for name in CODECS if _has_codec(name, mode)]
        lacking = [name for name in CODECS if name not in able]
        without = f"; not {', '.join(lacking)}" if lacking else ""
        yield f"{verb:<11}{', '.join(able)}{without}"


def _has_codec(name: str, mode: str) -> bool:
    import av
    from av.codec import Codec

    known = {"vp9": "libvpx-vp9", "av1": "libsvtav1", "opus": "libopus", "vorbis": "libvorbis"}
    tried = [name, known.get(name, name)] if mode == "w" else [name, f"lib{name}"]
    for each in [*tried, *(["libdav1d"] if name == "av1" else [])]:
        try:
            Codec(each, "r" if mode == "r" else "w")
        except (av.codec.codec.UnknownCodecError, ValueError):
            continue
        return True
    return False


def _weights() -> Iterator[str]:
    from avel.backbones.base import backbones
    from avel.backbones.weights import weights_path, weights_state
    from avel.files import cache_folder, human_size

    yield f"cache      {cache_folder()}"
    for name, backbone in backbones:
        for weights in backbone.weights.values():
            state, path = weights_state(weights), weights_path(weights)
            if state == "absent" and weights.fetched:
                size = f"{human_size(weights.size)}, " if weights.size else ""
                what = f"absent ({size}downloaded on first use, or `avel fetch weights {name}`)"
            elif state == "absent":
                what = f"absent from {weights.package or 'the package: install avel again'}"
            else:
                what = f"{state} ({human_size(path.stat().st_size)}, {path})"
            yield f"weights    {name}:{weights.name} {what}"


def _folder(folder: Path, *, as_json: bool) -> None:
    """Print what a folder holds, and its problems; exit code 1 if training can't use all of it."""
    from avel.data.annotations import TABLES
    from avel.data.ave.checks import examine
    from avel.data.ave.files import ANNOTATIONS, find
    from avel.data.check import check_folder
    from avel.errors import printable

    is_own = any((folder / name).is_file() for name in TABLES)
    if is_own or find(folder, ANNOTATIONS.name) is None:
        checked = check_folder(folder)
        typer.echo(_json(checked.to_json()) if as_json else printable(str(checked)))
        if not checked.usable:
            raise typer.Exit(1)
        return
    findings = list(examine(folder))
    if as_json:
        typer.echo(_json([{"topic": f.topic, "text": f.text} for f in findings]))
        return
    typer.echo(str(folder))
    for finding in findings:
        typer.echo(f"  {finding.topic:<12}{finding.text}")


def _json(value: object) -> str:
    return json.dumps(value, indent=1)
