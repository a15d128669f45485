"""`avel convert` of labels: timelines from files of any format into files of any other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from avel.cli._outputs import OutputNames, WriteOptions, named_output, parse_outputs
from avel.cli._terminal import note
from avel.errors import AvelError, DataError, UsageError, printable
from avel.files import file_exists

if TYPE_CHECKING:
    from avel.types import Choice, Timeline


def label_outputs(values: Sequence[str], format: str | None) -> OutputNames:
    """The outputs that the values of ``-o`` name: files, bare endings, or a folder.

    Args:
        values: The values of ``-o``.
        format: The format's name, where the ending doesn't choose it.

    Raises:
        UsageError: for two output folders, an unknown format, or a folder without a format for it.
    """
    from avel.formats import format_named
    from avel.report.writers import writer_for

    outputs = parse_outputs(values)
    if format is not None:
        format_named(format)
    if outputs.folder and not outputs.endings:
        if format is None:
            raise UsageError(
                f"-o names the folder {outputs.folder} without a format",
                expected="an ending after it, or --format",
                hint=f"-o {outputs.folder} .vtt",
            )
        outputs = replace(outputs, endings=[format_named(format).ending])
    for path in (*outputs.names, *(Path(f"video{ending}") for ending in outputs.endings)):
        writer_for(path, format=format)
    return outputs


def convert_labels(
    sources: Sequence[Path],
    outputs: OutputNames,
    options: WriteOptions,
    *,
    read_as: str | None,
    video: Path | None,
    modality: Choice | None = None,
) -> int:
    """Read all sources, then write all outputs; failures are printed, and the others done.

    Files that hold all videos together are written only if every source could be read.

    Args:
        sources: Label files.
        outputs: Files that hold all videos together, and endings that each video gets a file with,
            in their folder or beside their source.
        options: How the labels are written.
        read_as: The format's name, where the sources' endings don't choose it.
        video: The video of the labels, where it isn't beside them.
        modality: Which events are written; those that the source lists if None.

    Returns:
        How many sources or outputs failed.
    """
    labels, failed = _read(sources, read_as)
    timelines = [
        _with_video(t, source, one, video, name, read_as)
        for (source, t, one), name in zip(labels, _bare_names(labels), strict=True)
    ]
    if modality is not None:
        timelines = [t.choose(modality) for t in timelines]
    _check_video(timelines, video)
    jobs = list(_jobs(labels, outputs))
    _check_targets(sources, [path for path, _ in jobs] + outputs.names)
    for path, index in jobs:
        failed += _write(path, [timelines[index]], options)
    for name in outputs.names:
        if len(failed) and len(sources) > 1:
            note(f"{name} isn't written, since not every source could be read")
        elif timelines:
            failed += _write(name, timelines, options, table=True)
    for timeline, (source, _, _) in zip(timelines, labels, strict=True):
        failed += _write_events(timeline, options)
        for text in timeline.notes:
            note(f"{source}: {text}")
    return len(failed)


_Labels = list[tuple[Path, "Timeline", bool]]


def _read(sources: Sequence[Path], read_as: str | None) -> tuple[_Labels, list[AvelError]]:
    """The timelines with their sources, and whether each is the only one of its source."""
    from avel.formats import read_all

    labels: _Labels = []
    failed: list[AvelError] = []
    for source in sources:
        try:
            timelines = read_all(source, format=read_as)
        except UsageError:
            raise
        except AvelError as e:
            note(str(e))
            failed.append(e)
        else:
            labels += [(source, t, len(timelines) == 1) for t in timelines]
    return labels, failed


def _jobs(labels: _Labels, outputs: OutputNames) -> Iterator[tuple[Path, int]]:
    """Each output beside its source or in the folder, with the index of its timeline.

    It has the source's name, or the video's where a source holds many.
    """
    from avel.formats import ending_of, format_endings
    from avel.report.clips import safe_name

    for index, (source, timeline, one) in enumerate(labels):
        source_ending = ending_of(source, format_endings().values()) or source.suffix
        stem = source.name.removesuffix(source.name[len(source.name) - len(source_ending) :])
        name = stem if one else safe_name(Path(timeline.video).stem)
        for ending in outputs.endings:
            yield (outputs.folder or source.parent) / named_output(name, ending), index


def _check_targets(sources: Sequence[Path], targets: Sequence[Path]) -> None:
    inputs = {source.resolve() for source in sources}
    seen: set[Path] = set()
    for target in targets:
        if target.resolve() in inputs:
            raise UsageError(f"{target} is a source", expected="another file to write")
        if target.resolve() in seen:
            raise UsageError(
                f"{target} would be written twice",
                expected="a different name for every video and ending",
                hint="convert files of the same name one by one, into different folders",
            )
        seen.add(target.resolve())


def _write(
    path: Path, timelines: Sequence[Timeline], options: WriteOptions, *, table: bool = False
) -> list[AvelError]:
    try:
        options.save(timelines, path, table=table)
    except UsageError:
        raise
    except AvelError as e:
        note(str(e))
        return [e]
    print(f"wrote {printable(str(path))}")
    return []


def _write_events(timeline: Timeline, options: WriteOptions) -> list[AvelError]:
    try:
        if (options.clips or options.thumbnails) and not file_exists(timeline.video):
            raise DataError(
                f"the video {timeline.video or 'of the labels'} doesn't exist, so nothing can be "
                "cut from it",
                hint="put it beside the labels, or name it with --video FILE",
            )
        for line in options.write_events(timeline):
            print(line)
    except AvelError as e:
        note(str(e))
        return [e]
    return []


def _check_video(timelines: Sequence[Timeline], video: Path | None) -> None:
    if video is not None and len(timelines) != 1:
        raise UsageError(
            f"--video {video} is one video, but the labels are of {len(timelines)}",
            expected="labels of one video",
        )
    if video is not None and not video.is_file():
        raise UsageError(f"--video {video}: there is no such file", expected="the labels' video")


def _bare_names(labels: _Labels) -> list[str]:
    """The videos' names without their folders, but for those that one source has twice."""
    from avel.formats.base import names_apart

    videos: dict[Path, list[str]] = {}
    for source, timeline, _ in labels:
        videos.setdefault(source, []).append(timeline.video)
    names_of = {source: names_apart(names, "") for source, names in videos.items()}
    return [names_of[source][timeline.video] for source, timeline, _ in labels]


def _with_video(
    timeline: Timeline, source: Path, one: bool, video: Path | None, name: str, read_as: str | None
) -> Timeline:
    """The timeline with the path of its video, and on the video's clock.

    The video is ``video``, or one beside the labels and nowhere else. One that doesn't exist keeps
    its bare name, without any folder: a path that a stranger's label file names isn't followed.
    """
    from avel.formats import on_file
    from avel.media.probe import player_start_of

    video_path = video or _video_beside(timeline.video, source, one)
    if video_path is None:
        path = source.parent / name if file_exists(name) else Path(name)
        return replace(timeline, video=str(path) if name else "")
    timeline = on_file(timeline, source, player_start_of(video_path), format=read_as)
    return replace(timeline, video=str(video_path), duration=_duration(video_path, timeline))


def _video_beside(name: str, source: Path, one: bool) -> Path | None:
    """A file of the video's name, or of the labels' own with a media ending, beside the labels."""
    from avel.files import MEDIA_ENDINGS

    inner = PurePosixPath(name.replace("\\", "/"))
    safe = bool(inner.parts) and not inner.is_absolute() and ".." not in inner.parts
    stem = source.name.split(".")[0]
    candidates = [source.parent / inner] if safe else []
    candidates += [source.parent / inner.name] if inner.name not in ("", "..") else []
    if one:
        candidates += [source.parent / f"{stem}{e}" for e in sorted(MEDIA_ENDINGS)]
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
