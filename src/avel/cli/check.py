"""`avel check`: what this machine has, or problems of a folder's labels."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

#: The codecs of most videos of the last ten years.
CODECS = ("h264", "hevc", "vp9", "av1", "mpeg4", "aac", "mp3", "opus", "vorbis", "flac")


def check(
    folder: Annotated[
        Path | None, typer.Argument(help="A folder of the AVE data set, or of your own clips.")
    ] = None,
) -> None:
    """Print versions, devices, codecs, cache and weights; or problems of a folder's labels."""
    for line in _machine() if folder is None else _folder(folder):
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


def _folder(folder: Path) -> Iterator[str]:
    from avel.data.annotations import TABLES
    from avel.data.ave.checks import examine
    from avel.data.ave.files import ANNOTATIONS, find

    yield str(folder)
    is_own = any((folder / name).is_file() for name in TABLES)
    if is_own or find(folder, ANNOTATIONS.name) is None:
        yield from _own_folder(folder)
        return
    for finding in examine(folder):
        yield f"  {finding.topic:<12}{finding.text}"


def _own_folder(folder: Path) -> Iterator[str]:
    """All that training would refuse or leave out of a folder of one's clips."""
    from avel.data.folder import examine
    from avel.errors import printable

    examined = examine(folder)
    files = len({row.file for row in examined.rows})
    yield f"  labels      {sum(bool(r.label) for r in examined.rows)} events of {files} clips"
    findings = {"wrong": examined.mistakes, "left out": examined.left_out, "note": examined.notes}
    for topic, texts in findings.items():
        for text in texts:
            yield f"  {topic:<12}{printable(text)}"
