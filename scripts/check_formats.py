"""Label files of avel read by other tools' own parsers, and held against their schemas.

    python scripts/check_formats.py write DIR           # with avel
    python scripts/check_formats.py read DIR            # with the parsers: see below
    python scripts/check_formats.py read DIR --xsd EAFv2.8.xsd

The parsers need no avel, and avel none of them, so that they go into an environment of their own:

    pip install crowsetta dcase_util sed_eval label-studio-sdk xmlschema opentimelineio webvtt-py \
        praatio textgrid otio-cmx3600-adapter

ELAN's schema is published at http://www.mpi.nl/tools/elan/EAFv2.8.xsd and isn't part of avel. What
isn't installed is named as not checked, and the exit code is 1 if any check fails.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

#: (start, end, label, score), none of them round in every format, two at once.
EVENTS = (
    (0.0, 1.25, "Bark", 0.91),
    (1.0, 4.0, "Church bell", 0.88),
    (5.5, 7.0, "Male speech, man speaking", 0.75),
    (8.125, 10.0, "Bark", 0.6),
)
ENDINGS = (".eaf", ".txt", ".selections.txt", ".tsv", ".labelstudio.json", ".otio", ".vtt",
           ".textgrid", ".edl")  # fmt: skip
CONFIG = """<View><Video name="video" value="$video" sync="audio"/>
<Labels name="events" toName="audio">{labels}</Labels>
<Audio name="audio" value="$video" sync="video"/></View>"""


class WrongError(Exception):
    """A parser read something else than was written."""


def write(folder: Path) -> None:
    """All formats of one timeline; a second one is a model's, for what it changes."""
    from avel.types import Event, Timeline

    folder.mkdir(parents=True, exist_ok=True)
    events = tuple(Event(*e) for e in EVENTS)
    classes = tuple(sorted({e.label for e in events}))
    for name, model in (("street", {}), ("found", {"model": "cspa_csea"})):
        for ending in ENDINGS:
            held = Timeline("street.mp4", events, 10.0, classes, model=model)
            held.save(folder / (name + ending))


def same(found: list[tuple[float, float, str]], *, within: float = 1e-6) -> None:
    """Whether exactly the written events came back."""
    expected = sorted((start, end, label) for start, end, label, _ in EVENTS)
    if len(found) != len(expected):
        raise WrongError(f"{len(found)} events, expected {len(expected)}")
    for ours, theirs in zip(expected, sorted(found), strict=True):
        if ours[2] != theirs[2] or max(abs(ours[i] - theirs[i]) for i in (0, 1)) > within:
            raise WrongError(f"{theirs}, expected {ours}")


def elan_schema(folder: Path, xsd: Path | None) -> str:
    import xmlschema

    if xsd is None:
        raise ModuleNotFoundError("--xsd", name="its schema (--xsd)")
    for name in ("street", "found"):
        xmlschema.XMLSchema(str(xsd)).validate(str(folder / f"{name}.eaf"))
    return "valid"


def audacity(folder: Path, _: Path | None) -> str:
    import crowsetta

    read = crowsetta.formats.seq.AudSeq.from_file(folder / "street.txt").to_seq()
    same([(float(s.onset_s), float(s.offset_s), s.label) for s in read.segments])
    return "the events"


def raven(folder: Path, _: Path | None) -> str:
    import crowsetta

    read = crowsetta.formats.bbox.Raven.from_file(folder / "street.selections.txt")
    found = [(b.onset, b.offset, b.label) for b in read.to_bbox()]
    same([(float(s), float(e), str(label)) for s, e, label in found])
    return "the events"


def dcase(folder: Path, _: Path | None) -> str:
    from dcase_util.containers import MetaDataContainer

    read = MetaDataContainer(filename=str(folder / "street.tsv")).load()
    same([(item.onset, item.offset, item.event_label) for item in read])
    return "the events"


def sed_eval(folder: Path, _: Path | None) -> str:
    import sed_eval as package

    read = package.io.load_event_list(str(folder / "street.tsv"))
    same([(item.onset, item.offset, item.event_label) for item in read])
    metric = package.sound_event.EventBasedMetrics(read.unique_event_labels)
    metric.evaluate(read, read)
    score = metric.results_overall_metrics()["f_measure"]["f_measure"]
    if score != 1.0:
        raise WrongError(f"F {score} of a file against itself")
    return "the events; F 1.0 against itself"


def label_studio(folder: Path, _: Path | None) -> str:
    from label_studio_sdk.label_interface import LabelInterface

    labels = "".join(f'<Label value="{label}"/>' for label in {e[2] for e in EVENTS})
    config = LabelInterface(CONFIG.format(labels=labels))
    config.validate()
    for name, kind in (("street", "annotations"), ("found", "predictions")):
        (task,) = json.loads((folder / f"{name}.labelstudio.json").read_text("utf-8"))
        (told,) = task[kind]
        for region in told["result"]:
            if wrong := config.validate_region(region, return_errors=True):
                raise WrongError(f"{kind}: {wrong}")
        if wrong := config._validate_object(told, return_errors=True):
            raise WrongError(f"{kind}: {wrong}")
        regions = [r["value"] for r in told["result"]]
        same([(r["start"], r["end"], r["labels"][0]) for r in regions])
    return "annotations and predictions are valid for the documented configuration"


def otio(folder: Path, _: Path | None) -> str:
    import opentimelineio

    read = opentimelineio.adapters.read_from_file(str(folder / "street.otio"))
    spans = [(m.marked_range, m.name) for clip in read.find_clips() for m in clip.markers]
    spans += [(m.marked_range, m.name) for track in read.tracks for m in track.markers]
    spans += [(m.marked_range, m.name) for m in read.tracks.markers]
    same(
        [(r.start_time.to_seconds(), r.end_time_exclusive().to_seconds(), n) for r, n in spans],
        within=1e-5,
    )
    return "the events, as markers"


def webvtt(folder: Path, _: Path | None) -> str:
    import webvtt as package

    def seconds(clock: str) -> float:
        hours, minutes, rest = clock.split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(rest)

    read = package.read(folder / "street.vtt")
    same([(seconds(c.start), seconds(c.end), c.text) for c in read])
    return "the events"


def praatio(folder: Path, _: Path | None) -> str:
    from praatio import textgrid as package

    read = package.openTextgrid(str(folder / "street.textgrid"), False, reportingMode="error")
    same([(e.start, e.end, e.label) for tier in read.tiers for e in tier.entries])
    return "the events"


def textgrid(folder: Path, _: Path | None) -> str:
    import textgrid as package

    read = package.TextGrid.fromFile(str(folder / "street.textgrid"))
    same([(float(i.minTime), float(i.maxTime), i.mark) for t in read for i in t if i.mark])
    return "the events"


def edl(folder: Path, _: Path | None) -> str:
    import opentimelineio

    read = opentimelineio.adapters.read_from_file(str(folder / "street.edl"), rate=25)
    (track,) = read.video_tracks()
    spans = [
        (clip.source_range, clip.metadata["cmx_3600"]["comments"][0].removeprefix("COMMENT: "))
        for clip in track.find_clips()
    ]
    same(
        [(r.start_time.to_seconds(), r.end_time_exclusive().to_seconds(), n) for r, n in spans],
        within=0.021,  # half a frame
    )
    return "the events, as clips with their comments"


#: Tool, the distribution whose version is told, what it reads, how.
CHECKS: tuple[tuple[str, str, str, Callable[[Path, Path | None], str]], ...] = (
    ("ELAN's schema EAF 2.8", "xmlschema", ".eaf", elan_schema),
    ("crowsetta, aud-seq", "crowsetta", ".txt", audacity),
    ("crowsetta, raven", "crowsetta", ".selections.txt", raven),
    ("dcase_util", "dcase_util", ".tsv", dcase),
    ("sed_eval", "sed_eval", ".tsv", sed_eval),
    ("Label Studio's SDK", "label-studio-sdk", ".labelstudio.json", label_studio),
    ("OpenTimelineIO", "opentimelineio", ".otio", otio),
    ("webvtt-py", "webvtt-py", ".vtt", webvtt),
    ("praatio", "praatio", ".textgrid", praatio),
    ("textgrid", "textgrid", ".textgrid", textgrid),
    ("OpenTimelineIO, cmx_3600", "otio-cmx3600-adapter", ".edl", edl),
)


def read(folder: Path, xsd: Path | None) -> int:
    """Print a CSV row a check; the exit code."""
    out, code = csv.writer(sys.stdout), 0
    out.writerow(["reader", "version", "ending", "result"])
    for tool, package, ending, check in CHECKS:
        try:
            result = check(folder, xsd)
        except ModuleNotFoundError as e:
            result = f"not checked: no {e.name}"
        except Exception as e:  # whatever the parser says
            result, code = f"FAILED: {type(e).__name__}: {e}", 1
        try:
            version = metadata.version(package)
        except metadata.PackageNotFoundError:
            version = ""
        out.writerow([tool, version, ending, result])
    return code


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["write", "read"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--xsd", type=Path)
    given = parser.parse_args()
    if given.what == "read":
        return read(given.folder, given.xsd)
    write(given.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
