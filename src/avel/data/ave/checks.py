"""Checks of a folder of AVE: what a user must know, counted from its files."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avel.data.ave.files import (
    ANNOTATIONS,
    AUDIO_MAPS,
    AUDIO_MAPS_NOISY,
    C3D,
    C3D_NOISY,
    EVERYTHING,
    SECONDS,
    TEXTS,
    AveRow,
    Rows,
    class_order,
    find,
    missing,
    need,
    open_array,
    read_annotations,
    rows_of_text,
    split_rows,
)
from avel.data.ave.labels import compare_labels, second_labels
from avel.errors import DataError

#: Files that may lie there, in the order of the report.
_FEATURES = (
    *(file for file in EVERYTHING if "feature" in file.name),
    AUDIO_MAPS, AUDIO_MAPS_NOISY, C3D, C3D_NOISY,
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One thing worth knowing.

    Args:
        topic: ``"files"``, ``"annotations"``, ``"labels"``, ``"splits"`` or ``"features"``.
        text: A sentence with the numbers in it.
        numbers: The same numbers by name.
    """

    topic: str
    text: str
    numbers: Mapping[str, float]


def examine(root: str | Path) -> list[Finding]:
    """All findings about a folder of AVE; the annotations alone are required.

    Raises:
        DataError: if there are no annotations, or they can't be read.
    """
    (path,) = need(root, [ANNOTATIONS])
    rows = read_annotations(path)
    findings = [*_text_variant(path), *_annotations(rows), *_labels(root, rows)]
    try:
        splits = split_rows(root, rows)
    except DataError as e:
        findings.append(Finding("splits", str(e).replace("\n", " "), {}))
    else:
        findings += [*_splits(rows, splits), *_texts(root, rows, splits), *_matching(rows, splits)]
    return [*findings, *_features(root, rows), *_missing(root)]


def _text_variant(path: Path) -> Iterator[Finding]:
    data = path.read_bytes()
    ends = "CRLF" if b"\r\n" in data else "LF"
    first = data.lstrip(b"\xef\xbb\xbf").partition(b"\n")[0]
    header = not first.strip()[-1:].isdigit()
    closed = data.endswith(b"\n")
    yield Finding(
        "annotations",
        f"{path.name} has {ends} line ends, {'a' if header else 'no'} header and "
        f"{'a' if closed else 'no'} last newline",
        {"crlf": ends == "CRLF", "header": header, "last_newline": closed},
    )


def _annotations(rows: Sequence[AveRow]) -> Iterator[Finding]:
    by_video: dict[str, list[AveRow]] = defaultdict(list)
    for row in rows:
        by_video[row.video].append(row)
    yield Finding(
        "annotations",
        f"{len(rows)} rows are {len(by_video)} videos in {len(class_order(rows))} categories: "
        "features go by row, never by video",
        {"rows": len(rows), "videos": len(by_video), "classes": len(class_order(rows))},
    )
    several = [
        of_video for of_video in by_video.values() if len({r.category for r in of_video}) > 1
    ]
    same = sum(len({(r.start, r.end) for r in of_video}) == 1 for of_video in several)
    yield Finding(
        "annotations",
        f"{len(several)} videos stand under several categories, {same} of them with the same times",
        {"several": len(several), "same_times": same},
    )
    dashed = sum(video.startswith("-") for video in by_video)
    yield Finding(
        "annotations",
        f"{dashed} of {len(by_video)} video ids begin with '-': a shell takes them for options",
        {"dashed": dashed},
    )
    yield from _lengths(rows)


def _lengths(rows: Sequence[AveRow]) -> Iterator[Finding]:
    lengths = Counter(row.end - row.start for row in rows)
    listed = ", ".join(f"{n} s: {lengths[n]}" for n in sorted(lengths))
    yield Finding(
        "annotations", f"event lengths {listed}", {f"length_{n}": c for n, c in lengths.items()}
    )
    empty = [i for i, row in enumerate(rows) if row.start == row.end]
    if empty:
        yield Finding(
            "annotations",
            f"events of no length: {len(empty)}, row {', '.join(map(str, empty[:10]))} (from 0)",
            {"empty": len(empty), "first_empty": empty[0]},
        )
    late = sum(row.end > SECONDS for row in rows)
    if late:
        text = f"{late} events end after the clips' {SECONDS} seconds"
        yield Finding("annotations", text, {"late": late})


def _labels(root: str | Path, rows: Sequence[AveRow]) -> Iterator[Finding]:
    for compared in compare_labels(root, rows):
        count = -1 if compared.different is None else len(compared.different)
        yield Finding("labels", str(compared), {f"differences {compared.name}": count})


def _splits(rows: Sequence[AveRow], splits: Mapping[str, Rows]) -> Iterator[Finding]:
    labels, background = second_labels(rows), len(class_order(rows))
    share = {"all": float((labels == background).mean())}
    for name in ("train", "val", "test"):
        share[name] = float((labels[splits[name]] == background).mean())
    listed = ", ".join(f"{name} {100 * value:.1f} %" for name, value in share.items())
    yield Finding(
        "splits", f"background seconds: {listed}", {f"background_{n}": v for n, v in share.items()}
    )
    sizes = {name: len(members) for name, members in splits.items()}
    listed = ", ".join(f"{name} {count}" for name, count in sizes.items())
    yield Finding("splits", f"clips: {listed}", {f"clips_{n}": c for n, c in sizes.items()})
    ordered = [n for n in splits if _sorted_by_class(rows, splits[n])]
    if ordered:
        yield Finding(
            "splits",
            f"sorted by class: {', '.join(ordered)}; unshuffled, a batch holds one or two classes",
            {"sorted": len(ordered)},
        )
    empty = [n for n in splits if any(rows[i].start == rows[i].end for i in splits[n])]
    if empty:
        yield Finding("splits", f"empty events stand in {', '.join(empty)}", {"empty": len(empty)})
    yield from _shared(rows, splits)


def _sorted_by_class(rows: Sequence[AveRow], members: Rows) -> bool:
    classes = class_order(rows)
    ids = [classes.index(rows[i].category) for i in members]
    return ids == sorted(ids)


def _shared(rows: Sequence[AveRow], splits: Mapping[str, Rows]) -> Iterator[Finding]:
    """Videos of two splits; they are the same seconds under another label."""
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        first = {rows[i].video: rows[i].category for i in splits[one]}
        both = [rows[i] for i in splits[other] if rows[i].video in first]
        apart = sum(first[row.video] != row.category for row in both)
        videos = len({row.video for row in both})
        yield Finding(
            "splits",
            f"{one} and {other} share {videos} videos, {apart} under contradicting labels",
            {f"shared_{one}_{other}": videos, f"contradicting_{one}_{other}": apart},
        )


def _texts(
    root: str | Path, rows: Sequence[AveRow], splits: Mapping[str, Rows]
) -> Iterator[Finding]:
    for name, text in TEXTS.items():
        path = find(root, text)
        if path:
            same = np.array_equal(rows_of_text(path, rows), splits[name])
            relation = "lists the rows of" if same else "differs from"
            yield Finding("splits", f"{text} {relation} the {name} split", {f"same_{name}": same})


def _matching(rows: Sequence[AveRow], splits: Mapping[str, Rows]) -> Iterator[Finding]:
    """How CML's partition lies across that of SEL."""
    names = [n for n in ("cml_train", "cml_val", "cml_test") if n in splits]
    sel = set(splits["train"].tolist())
    for name in names[1:]:
        inside = len(sel & set(splits[name].tolist()))
        yield Finding(
            "splits",
            f"{inside} of {len(splits[name])} rows of {name} are in SEL's train: a model that "
            "starts from SEL has seen them",
            {f"seen_{name}": inside},
        )
    if len(names) == 3:
        classes = class_order(rows)
        there = {rows[i].category for i in splits["cml_train"]}
        lacks = [c for c in classes if c not in there]
        partial = sum(0 < rows[i].end - rows[i].start < SECONDS for i in splits["cml_test"])
        yield Finding(
            "splits",
            f"cml_train lacks {len(lacks)} classes ({'; '.join(lacks) or 'none'}); {partial} of "
            f"{len(splits['cml_test'])} events of cml_test are shorter than {SECONDS} s",
            {"lacking": len(lacks), "partial": partial},
        )


def _features(root: str | Path, rows: Sequence[AveRow]) -> Iterator[Finding]:
    if find(root, "SIMULATED.json"):
        yield Finding("features", "the features are simulated, not the published ones", {})
    for file in _FEATURES:
        path = find(root, file.name)
        if path is None:
            continue
        try:
            with open_array(path) as array:
                text = f"{file.name}: {array.shape} {array.dtype}"
                fits = len(array) == len(rows) or "noisy" in file.name
        except DataError as e:
            text, fits = str(e).replace("\n", " "), False
        remark = "" if fits else f", which doesn't fit the {len(rows)} annotations"
        yield Finding("features", text + remark, {f"fits {file.name}": fits})


def _missing(root: str | Path) -> Iterator[Finding]:
    for file in missing(root, EVERYTHING):
        yield Finding("files", f"missing: {file}", {f"missing {file.name}": file.size})
