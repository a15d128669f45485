"""Damaged media, weights, labels: nothing may crash, hang or take the machine; results/fuzz.csv.

    python benchmarks/fuzz.py                       # some 1000 files, about ten minutes
    python benchmarks/fuzz.py --cases 200 --only media      # the other kinds' rows stay

Small files of many kinds are made, each is damaged in a seeded way (bytes changed, fields of four
bytes set to extreme numbers, parts cut out, doubled or overwritten), and each result goes through a
process of its own that may take `--seconds`: media are localized down to their segments and shown
in a report, weights are converted as `avel convert` does, checkpoints are loaded, label files
(whose words and lines are damaged too) are read as `avel convert` and training do, and what was
read is written in every format. A file may be read or refused with an error of avel's; `failed`
counts every other end, and `large` those that took more than `--memory` MB on top of what the
process had.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import re
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import av
import numpy as np
from common import RESULTS, machine, write_csv

from avel.errors import AvelError
from avel.types import Event, Timeline

#: What a field of four bytes becomes.
_EXTREMES = (0, 1, 2, 7, 255, 65535, 2**24, 2**28, 2**31 - 1, 2**31, 2**32 - 1)
#: What a word of a label file becomes.
_WORDS = (
    b"", b"0", b"-1", b"nan", b"inf", b"1e400", b"99999999999", b"0.1.2", b"00:99:99,999", b"null",
    b"[" * 5000, b'{"a":' * 5000, b"x" * 5000, b"../" * 50, b"\xff\xfe", b"\xed\xa0\x80", b"\0",
    b"<!--",
    b"]]>", b"&#0;", b"=1+1", b"\xe2\x80\xae", b"file:///etc/passwd", b"\t\t", b'"', b"\r",
)  # fmt: skip
#: Label files that only other tools write.
_OTHERS = {
    "min.json": '[{"video": "a.mp4", "id": 1, "tricks": [{"start": 1, "end": 2, "labels": ["x"]}]},'
    '\n {"video": "a.mp4", "id": 2, "tricks": [{"ranges": [{"start": 1, "end": 9}],'
    '\n "timelinelabels": ["y"]}]}]\n',
    "bird.csv": "Start (s);End (s);Common name;Confidence\n0;3,0;Waldkauz;0,9\n3;6;Amsel;0,8\n",
    "dcase.tsv": "a.mp4\tpark\t1.0\t2.0\tdog\na.mp4\tpark\t3.0\t4.5\tcat\n",
    "raven.selections.txt": "Selection\tView\tBegin Time (s)\tEnd Time (s)\tBegin Path\t"
    "File Offset (s)\tSpecies\n1\tWaveform 1\t3605.0\t3608.0\t/a/a.mp4\t5.0\tWaldkauz\n"
    "2\tWaveform 1\t3611.0\t3614.0\tC:\\a\\b.wav\t11.0\tAmsel\n",
    "tiers.eaf": "<?xml version='1.0'?>\n<ANNOTATION_DOCUMENT>\n<HEADER TIME_UNITS='milliseconds'>"
    "\n"
    '<MEDIA_DESCRIPTOR MEDIA_URL="file:///a/a.mp4" TIME_ORIGIN="250"/>\n</HEADER>\n<TIME_ORDER>\n'
    '<TIME_SLOT TIME_SLOT_ID="t1" TIME_VALUE="1000"/>\n<TIME_SLOT TIME_SLOT_ID="t2"/>\n'
    '<TIME_SLOT TIME_SLOT_ID="t3" TIME_VALUE="3000"/>\n</TIME_ORDER>\n<TIER TIER_ID="w">\n'
    '<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="t1" TIME_SLOT_REF2="t2">'
    "\n<ANNOTATION_VALUE>w1</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>\n"
    '<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="t2" TIME_SLOT_REF2="t3">'
    "\n<ANNOTATION_VALUE>w2</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>\n</TIER>\n"
    "</ANNOTATION_DOCUMENT>\n",
    "cues.srt": "00:00:01 --> 00:00:02\n<i>dog</i>\n2 \n00:00:03,5 --> 00:00:04\n\n7\n"
    "00:05.000 --> 00:06.000\ncat\n",
}
#: Codecs of the media that are damaged, by file.
MEDIA = {
    "a.mp4": ("libx264", "aac"), "a.mov": ("libx264", "aac"), "a.mkv": ("libx264", "libopus"),
    "a.webm": ("libvpx", "libopus"), "a.ts": ("libx264", "aac"), "a.avi": ("mpeg4", "mp2"),
    "a.mpg": ("mpeg2video", "mp2"), "a.flv": ("libx264", "aac"), "a.h264": ("libx264", None),
    "a.h265": ("libx265", None), "a.gif": ("gif", None), "a.wav": (None, "pcm_s16le"),
    "a.flac": (None, "flac"), "a.mp3": (None, "libmp3lame"), "a.ogg": (None, "libopus"),
    "a.m4a": (None, "aac"), "a.aac": (None, "aac"),
}  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """How a case ended.

    Args:
        how: ``read``, ``refused``, ``failed``, ``hung`` or ``crashed``.
        seconds: Wall-clock time.
        mb: Peak memory beyond what the process began with.
        why: What was said, for those that failed.
    """

    how: str
    seconds: float = 0.0
    mb: float = 0.0
    why: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=24, help="damaged files of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=30.0, help="a case may take")
    parser.add_argument("--memory", type=float, default=1000.0, help="MB a case may take")
    parser.add_argument("--only", choices=("media", "weights", "checkpoints", "labels"))
    parser.add_argument("--keep", type=Path, help="a folder for files that failed")
    asked = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        for what, (seeds, use) in kinds(Path(place), asked.only).items():
            for source in seeds:
                counts = _run(what, source, use, asked, Path(place))
                print(*counts.values(), flush=True)
                rows.append(counts | machine())
    write_csv(RESULTS / "fuzz.csv", rows, beside=True, case=("what",))


def kinds(place: Path, only: str | None) -> dict[str, tuple[list[Path], Callable[[Path], None]]]:
    """What is damaged, and what is done with it."""
    every = {
        "media": (lambda: list(media(place)), use_media),
        "weights": (lambda: list(weights(place)), use_weights),
        "checkpoints": (lambda: list(checkpoints(place)), use_checkpoint),
        "labels": (lambda: list(labels(place)), use_labels),
    }
    return {k: (make(), use) for k, (make, use) in every.items() if only in (None, k)}


def _run(
    what: str, source: Path, use: Callable[[Path], None], asked: Any, place: Path
) -> dict[str, Any]:
    """The counts of all cases of one file."""
    data, ends = source.read_bytes(), []
    for number in range(asked.cases):
        draw = random.Random(f"{asked.seed} {source.name} {number}")
        folder = place / f"case-{number}"
        shutil.copytree(source.parent, folder) if what == "checkpoints" else folder.mkdir()
        path = folder / source.name
        path.write_bytes((damaged_text if what == "labels" else damaged)(data, draw))
        ends.append(ended(use, path, asked.seconds))
        last = ends[-1]
        if asked.keep and (last.how not in ("read", "refused") or last.mb > asked.memory):
            asked.keep.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, asked.keep / f"{number}-{source.name}")
            print("  kept", number, source.name, last, flush=True)
        shutil.rmtree(folder)
    counts = Counter(e.how for e in ends)
    return {
        "what": what, "file": source.name, "cases": len(ends), "read": counts["read"],
        "refused": counts["refused"], "failed": counts["failed"], "crashed": counts["crashed"],
        "hung": counts["hung"], "large": sum(e.mb > asked.memory for e in ends),
        "slowest_s": f"{max(e.seconds for e in ends):.1f}",
        "largest_mb": f"{max(e.mb for e in ends):.0f}",
        "first_failure": next((e.why for e in ends if e.why), ""),
    }  # fmt: skip


# --- damage --------------------------------------------------------------------------------------


def damaged(data: bytes, draw: random.Random) -> bytes:
    """The bytes with one to three kinds of damage, half of them near the beginning or the end."""
    held = bytearray(data)
    for _ in range(draw.randint(1, 3)):
        place = _place(len(held), draw)
        match draw.randrange(6):
            case 0:  # bytes
                for _ in range(draw.choice((1, 4, 32))):
                    held[_place(len(held), draw)] = draw.randrange(256)
            case 1 | 2:  # a field
                size = draw.choice((2, 4, 8))
                number = draw.choice(_EXTREMES) % 256**size
                order = draw.choice(("big", "little"))
                held[place : place + size] = number.to_bytes(size, order)  # type: ignore[arg-type]
            case 3:  # noise
                held[place : place + 200] = draw.randbytes(200)
            case 4:  # a part cut out
                del held[place : place + draw.choice((1, 16, 1000))]
            case 5:  # cut off, or a part doubled
                if draw.random() < 0.5:
                    del held[max(16, place) :]
                else:
                    held[place:place] = held[place : place + 1000]
        if len(held) < 16:
            return bytes(held)
    return bytes(held)


def _place(size: int, draw: random.Random) -> int:
    near = draw.randrange(min(size, 600))
    return draw.choice((near, size - 1 - near, draw.randrange(size), draw.randrange(size)))


def damaged_text(data: bytes, draw: random.Random) -> bytes:
    """A text with other words, lines taken out, doubled or moved, and damaged bytes.

    Half of them have other numbers alone, so that the rest can be read.
    """
    lines = data.split(b"\n")
    if draw.random() < 0.5:
        places = list(re.finditer(rb"\d[\d.:,]*", data))
        first, stop = draw.choice(places).span()
        return data[:first] + draw.choice(_WORDS[:10]) + data[stop:]
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(len(lines))
        match draw.randrange(6):
            case 0 | 1:  # a word or number
                found = list(re.finditer(rb"[\w.:,-]+", lines[place]))
                if found:
                    first, stop = draw.choice(found).span()
                    line = lines[place]
                    lines[place] = line[:first] + draw.choice(_WORDS) + line[stop:]
            case 2:
                del lines[place : place + draw.choice((1, 1, 3))]
            case 3:
                lines[place:place] = lines[place : place + 3] * draw.choice((1, 1, 2000))
            case 4:
                lines.insert(draw.randrange(len(lines)), lines.pop(place))
            case 5:
                lines[place] = damaged(lines[place].ljust(16), draw)
        lines = lines or [b""]
    return b"\n".join(lines)


# --- cases ---------------------------------------------------------------------------------------


def ended(use: Callable[[Path], None], path: Path, seconds: float) -> Ended:
    """How one case ends, in a process of its own."""
    context = get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_case, args=(theirs, use, path), daemon=True)
    begun = time.perf_counter()
    process.start()
    theirs.close()
    try:
        if ours.poll(seconds):
            found: Ended = ours.recv()
        else:
            found = Ended("hung", why=f"more than {seconds:g} s")
    except EOFError:
        process.join(10)
        found = Ended("crashed", why=f"exit {process.exitcode}")
    if process.is_alive() and found.how == "hung" and process.pid:
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    return replace(found, seconds=time.perf_counter() - begun)


def _case(pipe: Any, use: Callable[[Path], None], path: Path) -> None:
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before = _memory("VmRSS")
    try:
        use(path)
        found = Ended("read")
    except AvelError as e:
        found = Ended("refused")
        str(e).encode()
    except BaseException as e:
        found = Ended("failed", why=f"{type(e).__name__}: {str(e)[:150]}")
    pipe.send(replace(found, mb=(_memory("VmHWM") - before) / 1024))


def _memory(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def use_media(path: Path) -> None:
    """All that localizing reads, and the report."""
    from avel.media.file import open_media
    from avel.report.clips import cut_clips, save_thumbnails
    from avel.report.page import render

    media = open_media(path)
    for _ in media.segments(frames=2, size=32):
        pass
    event = Event(0.0, min(1.0, media.duration), "bell", 1.0)
    found = Timeline(str(path), (event,), media.duration, ("bell",), notes=tuple(media.notes))
    render(found, page=path.parent / "r.html")
    save_thumbnails(found, path.parent / "pictures")
    cut_clips(found, path.parent / "clips")


def use_weights(path: Path) -> None:
    """What `avel convert` does."""
    from avel.training.released import convert_weights

    convert_weights(path)


def use_checkpoint(path: Path) -> None:
    """What `avel localize --model` does first."""
    from avel.inference.load import load_trained

    load_trained(path.parent)


def use_labels(path: Path) -> None:
    """What `avel convert` does to every format, and what training reads."""
    from avel.data.annotations import read_annotations
    from avel.formats import format_endings, read_all
    from avel.formats.base import stem_of
    from avel.report import save

    (path.parent / f"{stem_of(path)}.mp4").touch()
    (path.parent / ".out").mkdir()
    found = read_all(path)
    for number, timeline in enumerate(found[:5]):
        for ending in format_endings().values():
            target = path.parent / ".out" / f"{number}{ending}"
            with suppress(AvelError):
                save(timeline, target)
                read_all(target)
    with suppress(AvelError):
        read_annotations(path.parent, predictions=True)


# --- seeds ---------------------------------------------------------------------------------------


def media(place: Path) -> Iterator[Path]:
    """Two seconds of each kind of media."""
    for name, (video, audio) in MEDIA.items():
        path = place / name
        write_media(path, video, audio)
        yield path


def write_media(path: Path, video: str | None, audio: str | None) -> None:
    """Two seconds: a square that moves, 10 pictures a second, and a tone."""
    rng = np.random.default_rng(0)
    ground = rng.integers(0, 90, (96, 128, 3)).astype(np.uint8)
    with av.open(str(path), "w") as out:
        fps = 25 if video == "mpeg2video" else 10
        picture: Any = out.add_stream(video, rate=fps) if video else None
        if picture is not None:
            picture.width, picture.height = 128, 96
            picture.pix_fmt = "rgb8" if video == "gif" else "yuv420p"
        sound: Any = out.add_stream(audio, rate=48000, layout="stereo") if audio else None
        for i in range(2 * fps if picture else 0):
            image = ground.copy()
            image[30:50, 3 * i % 100 : 3 * i % 100 + 20] = 220
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame = frame.reformat(format=picture.pix_fmt)
            frame.pts, frame.time_base = i, Fraction(1, fps)
            out.mux(picture.encode(frame))
        for first in range(0, 2 * 48000 if sound else 0, 960):
            wave = 0.4 * np.sin(2 * np.pi * 440 * np.arange(first, first + 960) / 48000)
            block = av.AudioFrame.from_ndarray(
                np.stack([wave, wave]).astype(np.float32), format="fltp", layout="stereo"
            )
            block.sample_rate, block.pts, block.time_base = 48000, first, Fraction(1, 48000)
            out.mux(sound.encode(block))
        for stream in (picture, sound):
            if stream is not None:
                out.mux(stream.encode(None))


def weights(place: Path) -> Iterator[Path]:
    """Weights as the released code has them, random, in every form that is read."""
    import h5py
    import torch
    from safetensors.torch import save_file

    from avel.models.av import Av
    from avel.training.released import _AV_ATT, AVE_CLASSES

    network = Av(audio_dim=128, visual_dim=512, classes=len(AVE_CLASSES), task="sel",
                 variant="release")  # fmt: skip
    names = {ours: theirs for theirs, ours in _AV_ATT.items()}
    state = {
        next((t + n.removeprefix(o) for o, t in names.items() if n.startswith(o)), n): v.clone()
        for n, v in network.state_dict().items()
    }
    torch.save(state, place / "w.pt")
    torch.save(state, place / "old.pth", _use_new_zipfile_serialization=False)
    save_file(state, str(place / "w.safetensors"))
    np.savez(place / "w.npz", **{n: t.numpy() for n, t in state.items()})
    shapes = {"dense_1": (512, 128), "dense_2": (128, 64), "dense_3": (128, 128),
              "dense_4": (128, 64)}  # fmt: skip
    with h5py.File(place / "w.h5", "w") as f:
        for name, shape in shapes.items():
            group = f.create_group(f"{name}/{name}")
            group["kernel:0"] = np.zeros(shape, np.float32)
            packed = np.zeros(shape[1], np.float32)
            group.create_dataset("bias:0", data=packed, compression="gzip", chunks=True)
    yield from (place / n for n in ("w.pt", "old.pth", "w.safetensors", "w.npz", "w.h5"))


def checkpoints(place: Path) -> Iterator[Path]:
    """The files of a model that ships."""
    from avel.inference.card import WEIGHTS
    from avel.inference.checkpoint import CARD, TRAIN_IDS
    from avel.inference.load import PRETRAINED

    for name in (WEIGHTS, CARD, TRAIN_IDS):
        folder = place / f"of-{name}"
        shutil.copytree(sorted(PRETRAINED.glob(f"*/{WEIGHTS}"))[-1].parent, folder)
        if name == TRAIN_IDS:  # larger than any that is believed, once it is unpacked
            (folder / name).write_bytes(gzip.compress(json.dumps(["a" * 100] * 10**6).encode()))
        yield folder / name


def labels(place: Path) -> Iterator[Path]:
    """Every format as avel writes it, and forms that only other tools write."""
    from avel.formats import format_endings
    from avel.report import save

    events = tuple(
        Event(k / 2, k / 2 + 1.25, label, round(1 / (k + 1), 3))
        for k, label in enumerate(("Bark", "Kirchenglocke, groß", "a <b> & 'c'", "x --> y") * 3)
    )
    events += (Event(1.0, 2.0, "Bark", 0.5, "audio"),)
    found = Timeline("a.mp4", events, 10.0, tuple(dict.fromkeys(e.label for e in events)),
                     model={"model": "x"}, notes=("Sound: of 2 tracks, 0 is taken.",))  # fmt: skip
    for ending in format_endings().values():
        path = place / f"a{ending}"
        save(found, path)
        yield path
    for name, text in _OTHERS.items():
        (place / name).write_text(text, "utf-8")
        yield place / name


if __name__ == "__main__":
    main()
