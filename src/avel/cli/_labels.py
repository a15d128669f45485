"""`avel convert` of labels: timelines from files of any format into files of any other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from avel.cli._outputs import is_ending, is_folder, unwritable, write_events
from avel.cli._terminal import note
from avel.errors import AvelError, UsageError, printable
from avel.files import file_exists

if TYPE_CHECKING:
    from avel.types import Choice, Timeline


@dataclass(frozen=True)
class Outputs:
    """Where the labels go.

    Args:
        names: Files that hold all videos together.
        endings: Endings that each video gets a file with.
        folder: Where those go; None for beside their source.
        format: The format's name, where the ending doesn't choose it.
        clips, thumbnails: Folders for clips and pictures of the events, or None.
        overwrite: Whether predictions may be written over a person's labels.
    """

    names: tuple[Path, ...]
    endings: tuple[str, ...]
    folder: Path | None
    format: str | None = None
    clips: Path | None = None
    thumbnails: Path | None = None
    overwrite: bool = False


def outputs_of(
    values: Sequence[str], *, format: str | None, overwrite: bool = False, **folders: Path | None
) -> Outputs:
    """What ``-o``'s values mean: names, bare endings, or a folder.

    Raises:
        UsageError: for two folders, an unknown format, or a folder without a format for it.
    """
    from avel.formats import format_endings, format_named
    from avel.report.writers import writer_for

    if "-" in values:
        raise UsageError("-o -", expected="a file, an ending or a folder")
    endings = [v for v in values if is_ending(v)]
    places = [Path(v) for v in values if not is_ending(v)]
    holders = [p for p in places if is_folder(p)]
    if len(holders) > 1:
        raise UsageError(f"two output folders: {holders[0]} and {holders[1]}", expected="one")
    if format is not None:
        format_named(format)
    if holders and not endings:
        if format is None:
            raise UsageError(
                f"a folder {holders[0]} and no format",
                expected="an ending beside it, or a format",
                hint=f"-o {holders[0]} .vtt",
            )
        endings = [format_endings()[format]]
    names = tuple(p for p in places if p not in holders)
    for path in (*names, *(Path(f"video{ending}") for ending in endings)):
        writer_for(path, format=format)
    folder = holders[0] if holders else None
    return Outputs(names, tuple(endings), folder, format, overwrite=overwrite, **folders)


def convert_labels(
    sources: Sequence[Path],
    outputs: Outputs,
    *,
    read_as: str | None,
    video: Path | None,
    modality: Choice | None = None,
) -> int:
    """Read all sources, then write all outputs; failures are named, and the others done.

    Files that hold all videos together are written only if every source could be read.

    Returns:
        How many sources or outputs failed.
    """
    held, failed = _read(sources, read_as)
    timelines = [
        _with_video(t, source, one, video, name, read_as)
        for (source, t, one), name in zip(held, _bare_names(held), strict=True)
    ]
    if modality is not None:
        timelines = [t.choose(modality) for t in timelines]
    _check_video(timelines, video)
    jobs = list(_jobs(held, outputs))
    _check_places(sources, [path for path, _ in jobs] + list(outputs.names))
    for path, place in jobs:
        failed += _written(path, [timelines[place]], outputs)
    for name in outputs.names:
        if len(failed) and len(sources) > 1:
            _say(f"{name} isn't written, since not every source could be read")
        elif timelines:
            failed += _written(name, timelines, outputs)
    for timeline, (source, _, _) in zip(timelines, held, strict=True):
        failed += _events_as_files(timeline, outputs)
        for text in timeline.notes:
            _say(f"{source}: {text}")
    return len(failed)


def _say(text: str) -> None:
    note(text)


_Held = list[tuple[Path, "Timeline", bool]]


def _read(sources: Sequence[Path], read_as: str | None) -> tuple[_Held, list[AvelError]]:
    """The timelines with their sources, and whether each is its source's only one."""
    from avel.formats import read_all

    held: _Held = []
    failed: list[AvelError] = []
    for source in sources:
        try:
            found = read_all(source, format=read_as)
        except UsageError:
            raise
        except AvelError as e:
            _say(str(e))
            failed.append(e)
        else:
            held += [(source, t, len(found) == 1) for t in found]
    return held, failed


def _jobs(held: _Held, outputs: Outputs) -> Iterator[tuple[Path, int]]:
    """A file an ending and video: its source's name, or the video's where a source holds many."""
    from avel.formats import ending_of, format_endings
    from avel.report.clips import safe_name

    for place, (source, timeline, one) in enumerate(held):
        own = ending_of(source, format_endings().values()) or source.suffix
        stem = source.name.removesuffix(source.name[len(source.name) - len(own) :])
        name = stem if one else safe_name(Path(timeline.video).stem)
        for ending in outputs.endings:
            yield (outputs.folder or source.parent) / f"{name}{ending}", place


def _check_places(sources: Sequence[Path], targets: Sequence[Path]) -> None:
    read = {source.resolve() for source in sources}
    seen: set[Path] = set()
    for target in targets:
        if target.resolve() in read:
            raise UsageError(f"{target} is a source", expected="another place to write to")
        if target.resolve() in seen:
            raise UsageError(
                f"{target} would be written twice",
                expected="a name of its own for every video and ending",
                hint="convert files of the same name one by one, into folders of their own",
            )
        seen.add(target.resolve())


def _written(path: Path, timelines: Sequence[Timeline], outputs: Outputs) -> list[AvelError]:
    from avel.report import save, save_all

    try:
        if path in outputs.names:
            save_all(timelines, path, format=outputs.format, overwrite=outputs.overwrite)
        else:
            save(timelines[0], path, format=outputs.format, overwrite=outputs.overwrite)
    except UsageError:
        raise
    except (AvelError, OSError) as e:
        wrong = unwritable(path, e.strerror or str(e)) if isinstance(e, OSError) else e
        _say(str(wrong))
        return [wrong]
    print(f"wrote {printable(str(path))}")
    return []


def _events_as_files(timeline: Timeline, outputs: Outputs) -> list[AvelError]:
    try:
        for line in write_events(timeline, clips=outputs.clips, thumbnails=outputs.thumbnails):
            print(line)
    except AvelError as e:
        _say(str(e))
        return [e]
    return []


def _check_video(timelines: Sequence[Timeline], video: Path | None) -> None:
    if video is not None and len(timelines) != 1:
        raise UsageError(f"--video {video} for {len(timelines)} videos' labels", expected="one")
    if video is not None and not video.is_file():
        raise UsageError(f"--video {video}: there is no such file", expected="the labels' video")


def _bare_names(held: _Held) -> list[str]:
    """What the videos are called without their folders, but for those of one source alike."""
    from avel.formats.base import names_apart

    videos: dict[Path, list[str]] = {}
    for source, timeline, _ in held:
        videos.setdefault(source, []).append(timeline.video)
    names = {source: names_apart(own, "") for source, own in videos.items()}
    return [names[source][timeline.video] for source, timeline, _ in held]


def _with_video(
    timeline: Timeline, source: Path, one: bool, video: Path | None, name: str, read_as: str | None
) -> Timeline:
    """The timeline with the place of its video, and on its clock.

    The video is the one given, or lies beside the labels and nowhere else. One that isn't there
    keeps its bare name, without any folder: what a stranger's file calls its video isn't followed.
    """
    from avel.formats import on_file
    from avel.media.probe import player_start_of

    found = video or _video_beside(timeline.video, source, one)
    if found is None:
        place = source.parent / name if file_exists(name) else Path(name)
        return replace(timeline, video=str(place) if name else "")
    timeline = on_file(timeline, source, player_start_of(found), format=read_as)
    return replace(timeline, video=str(found), duration=_duration(found, timeline))


def _video_beside(name: str, source: Path, one: bool) -> Path | None:
    """A file of the video's name, or of the labels' own with a media ending, beside the labels."""
    from avel.media.file import ENDINGS

    inner = PurePosixPath(name.replace("\\", "/"))
    safe = bool(inner.parts) and not inner.is_absolute() and ".." not in inner.parts
    stem = source.name.split(".")[0]
    candidates = [source.parent / inner] if safe else []
    candidates += [source.parent / inner.name] if inner.name not in ("", "..") else []
    if one:
        candidates += [source.parent / f"{stem}{e}" for e in sorted(ENDINGS)]
    return next((c for c in candidates if file_exists(c) and c != source), None)


def _duration(video: Path, timeline: Timeline) -> float:
    """The video's length where the labels don't say it."""
    if timeline.scores is not None:
        return timeline.duration
    from avel.media.file import open_media

    try:
        return max(timeline.duration, open_media(video).duration)
    except AvelError:
        return timeline.duration
