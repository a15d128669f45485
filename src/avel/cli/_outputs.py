"""The values of ``-o``, where each output goes, and events as files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from avel.errors import DataError, UsageError, counted, printable
from avel.files import is_address, is_media

if TYPE_CHECKING:
    from avel.types import Timeline

_OUTPUT = ("-o", "--output")
_CANDIDATES = "--in"  # of `avel match`
#: Verbs whose ``-o`` takes several values.
_SEVERAL = ("localize", "convert", "match", "evaluate")
#: Options of these verbs that take no value.
FLAGS = frozenset({
    "--help", "-h", "--quiet", "-q", "--verbose", "-v",
    "--json", "--no-cache", "--overwrite", "--scores", "--skip-existing", "--stream",  # localize
    "--untuned",
    "--one-per-file", "--overlaps", "--per-class", "--trivial", "--baselines",  # match, evaluate
})  # fmt: skip


def split_outputs(argv: Sequence[str]) -> list[str]:
    """``-o a b c`` of several commands as ``-o a -o b -o c``: one -o, several values.

    So is ``--in a b`` of `avel match`. The values of ``-o`` end at the next token that begins with
    ``-``. Where the call has no other input, values after the first that are inputs
    (:func:`_inputs_among`) stay inputs: ``-o a.html clip.mp4``. Other commands' arguments, and
    everything after ``--``, return unchanged.
    """
    tokens = list(argv)
    if tokens[:1] == [] or tokens[0] not in _SEVERAL:
        return tokens
    end = tokens.index("--") if "--" in tokens else len(tokens)
    candidates = _further_values(tokens[:end], [_CANDIDATES]) if tokens[0] == "match" else []
    further = _further_values(tokens[:end], _OUTPUT)
    inputs: set[int] = set()
    if tokens[0] != "match" and not tokens[end + 1 :] and not _positional(tokens[:end], further):
        inputs = _inputs_among(tokens[0], {i: tokens[i] for i in further})
    result: list[str] = []
    for i, token in enumerate(tokens):
        if i in further and i not in inputs:
            result.append("-o")
        elif i in candidates:
            result.append(_CANDIDATES)
        result.append(token)
    return result


def _further_values(tokens: Sequence[str], names: Sequence[str]) -> list[int]:
    """Where the second and later values of an option are; a value begins with no ``-``."""
    indices, inside = [], False
    for i, token in enumerate(tokens):
        if token.startswith("-"):
            inside = False
        elif i and tokens[i - 1] in names:
            inside = True
        elif inside:
            indices.append(i)
    return indices


def _positional(tokens: Sequence[str], further: Sequence[int]) -> bool:
    """Whether the call has an argument that belongs to no option."""
    for i, token in enumerate(tokens[1:], 1):
        before = tokens[i - 1]
        value = before.startswith("-") and before not in FLAGS and "=" not in before
        if not token.startswith("-") and not value and i not in further:
            return True
    return False


def _inputs_among(verb: str, values: dict[int, str]) -> set[int]:
    """Which values of ``-o`` are inputs.

    Folders and files of the verb's kind that exist: media to localize, labels to convert, runs and
    ``key=value`` to evaluate. Where none does, the last media file or address to localize, so that
    the error names it.
    """
    existing = {i for i, value in values.items() if _is_input(verb, value)}
    named = [i for i, value in values.items() if is_media(value) or is_address(value)]
    return existing or ({named[-1]} if named and verb == "localize" else set())


def _is_input(verb: str, value: str) -> bool:
    if is_ending(value):
        return False
    try:
        folder, file = Path(value).is_dir(), Path(value).is_file()
    except (OSError, ValueError):
        return False
    if verb == "evaluate":
        return folder or "=" in value
    return file if verb == "convert" else folder or (file and is_media(value))


def is_ending(output: str) -> bool:
    """Whether a value of ``-o`` is a bare ending, such as ``.json`` or ``.selections.txt``."""
    if len(output) < 2 or output[0] != "." or set(output) & set("/\\"):
        return False
    if output.count(".") == 1:
        return True
    from avel.report.writers import endings

    return output.lower() in endings()


def named_output(stem: str, ending: str) -> str:
    """The name of an output by a bare ending; an .mp4 never has that of the video it is made from.

    ``street`` and ``.vtt`` are ``street.vtt``, ``street`` and ``.mp4`` are ``street.events.mp4``.
    """
    from avel.features.listing import COPY_ENDING

    return f"{stem}{COPY_ENDING if ending.lower() == '.mp4' else ending}"


def is_folder(path: Path) -> bool:
    """Whether a value of ``-o`` is a folder: an existing one, or a name without an ending."""
    return path.is_dir() or not path.suffix


@dataclass(frozen=True)
class OutputNames:
    """The values of ``-o``, sorted: bare endings, the folder that they go into, and file names."""

    endings: list[str]
    folder: Path | None
    names: list[Path]


def parse_outputs(outputs: Sequence[str]) -> OutputNames:
    """Sort the values of ``-o``.

    Raises:
        UsageError: for ``-``, and for two folders.
    """
    if "-" in outputs:
        raise UsageError(
            "-o - names no output",
            expected="a file, an ending or a folder",
            hint="--json prints events",
        )
    paths = [Path(o) for o in outputs if not is_ending(o)]
    folders = [path for path in paths if is_folder(path)]
    if len(folders) > 1:
        raise UsageError(
            f"-o names two output folders, {folders[0]} and {folders[1]}",
            expected="one folder; a file to write needs an ending",
            hint="give outputs as NAME.json, NAME.csv, NAME.html",
        )
    return OutputNames(
        endings=[o for o in outputs if is_ending(o)],
        folder=folders[0] if folders else None,
        names=[path for path in paths if path not in folders],
    )


def table_paths(
    videos: Sequence[Path], outputs: Sequence[str], *, format: str | None = None
) -> list[Path]:
    """The outputs of ``-o`` that hold the events of all videos, where there are several.

    Raises:
        UsageError: for a file name whose format holds one video a file.
    """
    from avel.report.writers import writer_for

    if len(videos) < 2:
        return []
    names = parse_outputs(outputs).names
    for name in names:
        if not getattr(writer_for(name, format=format), "many", False):
            raise UsageError(
                f"one output {name} can't hold {len(videos)} videos",
                expected="a table (.csv, .tsv, .labelstudio.json), a folder, or endings such as "
                ".json .html, which go beside each video",
                hint=f"-o {name.suffix}",
            )
    return names


def output_paths(
    videos: Sequence[Path], outputs: Sequence[str], *, format: str | None = None
) -> dict[Path, list[Path]]:
    """Where the outputs of each video go, without those of :func:`table_paths`.

    Args:
        videos: The files that are localized.
        outputs: The values of ``-o``: file names; bare endings such as ``.json``, beside the video
            under its name (``REC01.mp4.json`` and ``REC01.wav.json`` where only the ending tells
            two apart); a folder (an existing one, or a name without an ending), which then holds
            the bare endings, or a .json without any.
        format: The format's name, where the ending doesn't choose it.

    Raises:
        UsageError: for an ending without a writer, for two outputs under one name, and for a file
            name or two folders where that leaves open what is meant.
    """
    from avel.formats import format_named
    from avel.report.writers import writer_for

    tables = table_paths(videos, outputs, format=format)
    parsed = parse_outputs(outputs)
    endings, folder = parsed.endings, parsed.folder
    if folder and not endings:
        endings = [".json" if format is None else format_named(format).ending]
    bases = {video: folder / video.name if folder else video for video in videos}
    stems = Counter(base.with_suffix("") for base in bases.values())
    paths: dict[Path, list[Path]] = {}
    for video, base in bases.items():
        stem = base if stems[base.with_suffix("")] > 1 else base.with_suffix("")
        beside = [stem.with_name(named_output(stem.name, ending)) for ending in endings]
        paths[video] = beside if tables else parsed.names + beside
    every = tables + [path for of_video in paths.values() for path in of_video]
    for path, count in Counter(every).items():
        writer_for(path, format=format)
        if count > 1:
            raise UsageError(
                f"{path} would be written twice",
                expected="a different output for each video and ending",
                hint="localize videos of the same name one by one, into different folders",
            )
    return paths


@dataclass(frozen=True)
class WriteOptions:
    """How events are written.

    Args:
        format: The format's name, where the ending doesn't choose it.
        overwrite: Whether predictions may be written over a person's labels.
        scores: Whether subtitles show the scores.
        clips, thumbnails: Folders for clips and pictures of the events, or None.
    """

    format: str | None = None
    overwrite: bool = False
    scores: bool = False
    clips: Path | None = None
    thumbnails: Path | None = None

    def save(self, timelines: Sequence[Timeline], path: Path, *, table: bool = False) -> None:
        """Write one timeline, or several into a table.

        Raises:
            AvelError: if that can't be done.
        """
        from avel.report import save_all

        options = {"format": self.format, "overwrite": self.overwrite, "scores": self.scores}
        with writing(path):
            if table:
                save_all(timelines, path, **options)  # type: ignore[arg-type]
            else:
                timelines[0].save(path, **options)  # type: ignore[arg-type]

    def write_events(self, timeline: Timeline) -> list[str]:
        """Cut the clips and save the thumbnails of a timeline's events.

        Returns:
            A line for each folder: how many files were written into it.

        Raises:
            AvelError: if the video can't be read, or a file can't be written.
        """
        from avel.report.clips import cut_clips, save_thumbnails

        lines = []
        for make, folder in ((cut_clips, self.clips), (save_thumbnails, self.thumbnails)):
            if folder is not None:
                with writing(folder):
                    paths = make(timeline, folder)
                files = counted(len(paths), "file")
                lines.append(f"wrote {files} into {printable(str(folder))}")
        return lines


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A context in which a path is written.

    Raises:
        DataError: where it can't be, in place of the system's error.
    """
    try:
        yield
    except OSError as e:
        raise _unwritable(path, e.strerror or str(e)) from e


def _unwritable(path: Path, why: str) -> DataError:
    return DataError(f"{path} can't be written ({why})", hint="make room there, or choose another")


def check_writable(paths: Sequence[Path]) -> None:
    """Refuse paths that can't be written, before a long video is read.

    Raises:
        DataError: that names the path.
    """
    for path in paths:
        folder = next(p for p in path.absolute().parents if p.exists())
        if not folder.is_dir():
            raise _unwritable(path, f"{folder} is no folder")
        try:
            with TemporaryFile(dir=folder):
                pass
        except OSError as e:
            raise _unwritable(path, f"nothing can be written into {folder}: {e.strerror}") from e
