"""Feature files: where those of a folder of clips lie, and whether they are up to date."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from contextlib import suppress
from pathlib import Path

from avel.files import file_exists, is_media
from avel.types import Json

#: The folder, within a data folder, that holds the features of its clips.
FOLDER = "features"
_ENDING = ".safetensors"
#: The folder, within one of features, that holds those of altered copies, a folder a copy.
COPIES = ".copies"
#: Most altered copies of a clip.
MOST_COPIES = 100
#: What marks an altered copy in the ``content`` of its features, before its number.
_COPY = ":copy="
#: The longest name, in bytes, that leaves room for the ending within 255.
_LONGEST = 255 - len(_ENDING)


class FeatureNames:
    """The names of clips' feature files; each folder is listed once.

    ``yard.safetensors`` of ``yard.mp4``; where another medium of that stem lies beside it, such as
    ``yard.wav``, each has the whole name: ``yard.mp4.safetensors``.
    """

    def __init__(self) -> None:
        self._stems: dict[Path, Counter[str]] = {}

    def of(self, media: Path) -> str:
        """The name of a file's features, whether they exist or not."""
        name = media.name if self._stem(media) > 1 else media.stem
        if len(os.fsencode(name)) > _LONGEST:  # with the ending no file system would take it
            digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
            start = os.fsencode(name)[: _LONGEST - 20].decode("utf-8", "ignore")
            name = f"{start}~{digest}"
        return name + _ENDING

    def _stem(self, media: Path) -> int:
        """How many media files of its stem lie in a file's folder."""
        if media.parent not in self._stems:
            stems: Counter[str] = Counter()
            with suppress(OSError):
                names = {entry.name for entry in os.scandir(media.parent) if entry.is_file()}
                stems = Counter(Path(n).stem for n in names if is_media(n) and n[0] != ".")
            self._stems[media.parent] = stems
        return self._stems[media.parent][media.stem]


def copy_folder(features: str | Path, number: int) -> Path:
    """Where the features of an altered copy lie.

    Args:
        features: The folder of the clips' own features.
        number: Of the copy, from 1.
    """
    return Path(features) / COPIES / str(number)


def copy_folders(features: str | Path) -> list[Path]:
    """Those of the altered copies that a folder of features has, and that lack before the last."""
    folders = [copy_folder(features, number) for number in range(1, MOST_COPIES + 1)]
    last = max((n for n, f in enumerate(folders, 1) if os.path.lexists(f)), default=0)
    return folders[:last]


def copy_content(content: str, number: int) -> str:
    """What identifies an altered copy's features, given what identifies the clip's own.

    Args:
        content: As in a header, of the clip's own features.
        number: Of the copy, from 1; 0 for the clip itself.
    """
    return f"{content}{_COPY}{number}" if number else content


def is_copy(content: str) -> bool:
    """Whether features are of an altered copy, by the ``content`` of their header."""
    return _COPY in content


def feature_path(
    root: str | Path,
    file: str | Path,
    *,
    out: str | Path | None = None,
    names: FeatureNames | None = None,
) -> Path:
    """Where the features of one clip of a data folder lie.

    ``root/features/<file relative to root, its ending replaced>.safetensors``, or, where another
    medium of its stem lies beside it, behind its whole name.

    Args:
        root: The data folder.
        file: The clip; relative to ``root``, or a path within it.
        out: Another folder for the features than ``root/features``.
        names: The names of folders that were listed already.
    """
    root, file = Path(root), Path(file)
    relative = file.relative_to(root) if file.is_relative_to(root) else file
    name = (names or FeatureNames()).of(root / relative)
    return Path(out or root / FOLDER) / relative.with_name(name)


def stored_path(
    root: str | Path, file: str | Path, *, out: str | Path | None, names: FeatureNames
) -> Path:
    """Where the features of a clip were stored; :func:`feature_path` where they weren't.

    Another medium of its stem may have come, or gone, since then: a file of the stem's name is
    then a clip's if its header says so.
    """
    path = feature_path(root, file, out=out, names=names)
    if file_exists(path):
        return path
    name = Path(file).name
    whole, short = path.with_name(name + _ENDING), path.with_name(Path(name).stem + _ENDING)
    if file_exists(whole):
        return whole
    return short if file_exists(short) and header(short).get("source") == name else path


def up_to_date(
    path: str | Path,
    *,
    content: str,
    cards: tuple[Json, Json],
    step: float,
    dtype: str = "float16",
    any_precision: bool = False,
) -> bool:
    """Whether a feature file is there and was made of this content by these backbones.

    Args:
        path: The feature file; only its header is read.
        content: sha256 of the media file.
        cards: The cards of the audio and the visual backbone.
        step: Seconds a segment.
        dtype: What it has to be stored as at least: a float32 file also serves as float16.
        any_precision: Whether the networks may have run in another precision than the cards', and
            compiled or not.
    """
    meta = header(path)
    if dtype != "float16" and meta.get("dtype") != dtype:
        return False
    left_out = {"error", "precision", "compiled"} if any_precision else {"error"}
    stored = [meta.get("audio_card"), meta.get("visual_card")]
    same = [_without(card, left_out) for card in stored] == [
        _without(card, left_out) for card in _plain(cards)
    ]
    return same and [meta.get("content"), meta.get("step")] == [content, step]


def _without(card: object, keys: set[str]) -> object:
    return {k: v for k, v in card.items() if k not in keys} if isinstance(card, dict) else card


def header(path: str | Path) -> Json:
    """The header of a feature file, without its arrays; empty where it is none, or damaged.

    Returns:
        ``duration``, ``step``, ``audio_card``, ``visual_card``, ``source`` and ``content`` as in
        :class:`avel.types.Features`, and of the arrays ``dtype``, ``audio_shape``,
        ``visual_shape``.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as f:
            meta = json.loads((f.metadata() or {}).get("avel", "{}"))
            audio, visual = f.get_slice("audio"), f.get_slice("visual")
            types = {"F16": "float16", "F32": "float32"}
            arrays = {
                "dtype": types.get(audio.get_dtype(), ""),
                "audio_shape": list(audio.get_shape()),
                "visual_shape": list(visual.get_shape()),
            }
    except (OSError, SafetensorError, ValueError, RecursionError):
        return {}
    return meta | arrays if isinstance(meta, dict) else {}


def _plain(cards: tuple[Json, Json]) -> list[Json]:
    """Cards as they come back from JSON."""
    plain: list[Json] = json.loads(json.dumps(cards))
    return plain
