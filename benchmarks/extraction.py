"""VGG-19 + VGGish of real files: avel against a plain script, decoding included; extraction.csv.

    python benchmarks/extraction.py FOLDER           # results/extraction.csv, about 8 minutes

Both sides read every .mp4 of the folder, in processes of their own that take turns, so that what
else the machine does meets both. The plain side is written here the way the field's scripts are:
all frames decoded and kept as RGB, sixteen a second resized, each through the network by itself in
eager float32, VGGish second by second. Loading the networks is counted on neither side.

Weights are those in avel's cache; where there are none, random ones (He) in the true architecture,
which compute as long.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, machine, write_csv

import avel

#: Wanted: so many times the plain side, cosines of features, share of the networks' own rate.
RATIO, COSINE = 6.0, 0.9995
SHARES = {"up to 640x360": 0.85, "larger": 0.75}
_REPLAYED = 4  # batches by which the networks alone are timed, at most


# --- both sides ----------------------------------------------------------------------------------

NETWORKS = (("vggish", "audio"), ("vgg19", "visual"))


def backbone(name: str, *, modality: str) -> Any:
    """A backbone and its card, with random weights where the cache has none."""
    import torch

    from avel.backbones.base import backbones
    from avel.backbones.load import load_backbone
    from avel.backbones.weights import weights_state

    cls = backbones.get(name)
    weights = next(iter(cls.weights.values()))
    if weights_state(weights) == "present":
        return load_backbone(name, modality=modality)
    torch.manual_seed(0)
    network = cls().eval().requires_grad_(False)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            torch.nn.init.kaiming_normal_(parameter)
    return network, {**network.describe(weights), "weights": "random", "hash": "none"}


@dataclass(frozen=True)
class Spent:
    """Seconds of the clock, and of all cores together."""

    clock: float
    cores: float


class Watch:
    """Measures a block."""

    def __enter__(self) -> Watch:
        self._began = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        clock, cores = self._began
        self.spent = Spent(time.perf_counter() - clock, time.process_time() - cores)


# --- the plain side ------------------------------------------------------------------------------


def plain_file(file: Path, hearing: Any, seeing: Any) -> tuple[Any, Any]:
    import torch

    from avel.features.logmel import log_mel

    pictures, times, sound = plain_decode(file)
    audio, visual = [], []
    ended = times[-1] + (times[-1] - times[0]) / max(1, len(times) - 1)
    with torch.no_grad():
        for second in range(len(sound) // 16000):
            maps = []
            for instant in second + np.arange(16) / 16:
                if instant >= ended and maps:  # the picture is over
                    break
                shown = np.searchsorted(times, instant + 1e-6, side="right") - 1
                image = resized(pictures[max(0, shown)])
                maps.append(seeing(torch.from_numpy(image[None]))[0].numpy())
            visual.append(np.mean(maps, axis=0))
            samples = sound[second * 16000 : (second + 1) * 16000]
            audio.append(hearing(log_mel(torch.from_numpy(samples[None])))[0].numpy())
    return np.stack(audio), np.stack(visual)


def plain_decode(file: Path) -> tuple[list[Any], list[float], Any]:
    """All frames as RGB with their times, and the sound at 16 kHz, whole seconds of it.

    Tracks, length and rotation are avel's, so that both sides compute the same.
    """
    import av
    import soxr

    media = avel.open(file)
    with av.open(str(file)) as container:
        stream = container.streams[media.video.index]
        stream.thread_type = "AUTO"
        frames = [
            (np.rot90(as_rgb(f).to_ndarray(), f.rotation // 90), f.time - media.start)
            for f in container.decode(stream)
        ]
    with av.open(str(file)) as container:
        floats = av.AudioResampler(format="fltp")
        stream = container.streams[media.audio.index]
        blocks = [b for f in container.decode(stream) for b in floats.resample(f)]
    rate, parts, length = blocks[0].sample_rate, [np.zeros(0, np.float32)], 0
    for block in blocks:
        gap = round((block.time - media.start) * rate) - length
        samples = block.to_ndarray().mean(axis=0)
        if abs(gap) > 0.02 * rate:  # silence, or what lies before the start
            samples = np.concatenate([np.zeros(max(0, gap), np.float32), samples[max(0, -gap) :]])
        parts.append(samples)
        length += len(samples)
    mono = np.concatenate(parts)
    sound = soxr.resample(mono, rate, 16000).astype(np.float32)
    padded = np.zeros(16000 * len(media.grid()), np.float32)
    padded[: len(sound)] = sound[: len(padded)]
    return [f for f, _ in frames], [t for _, t in frames], padded


def resized(picture: Any) -> Any:
    """(H, W, 3) -> (224, 224, 3), bilinear."""
    import av

    whole = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    return as_rgb(whole, 224, 224).to_ndarray()


def as_rgb(frame: Any, *size: int) -> Any:
    """A frame as RGB of a size, colours in full, so that both sides' networks see the same."""
    return frame.reformat(*size, format="rgb24", interpolation=0x2 | 0x40000 | 0x4000 | 0x2000)


# --- avel's side ---------------------------------------------------------------------------------


def extractor(precision: str, *, compiled: bool, batch: int) -> Any:
    from avel.features import extractor as module

    def find(name: str, *, modality: str) -> Any:
        network, card = backbone(name, modality=modality)
        return card, lambda: network

    module.find_backbone = find  # random weights will do
    return module.Extractor(
        audio="vggish",
        visual="vgg19",
        precision=precision,
        compile=compiled,
        batch=batch,
    )


def alone(make: Any, files: Sequence[Path]) -> tuple[Spent, Spent, float, int]:
    """The networks from memory, and decoding without them.

    Returns:
        What some batches took the networks; what decoding all took; which share of all pictures
        those batches are; all pictures that a network has to compute.
    """
    import torch

    from avel.features.logmel import log_mel
    from avel.features.pipeline import Networks, run

    seen: list[Any] = []
    heard: list[Any] = []

    def see(pictures: Sequence[Any]) -> Any:
        seen.append(np.stack(pictures))
        return np.zeros((len(pictures), 7, 7, 512), np.float32)

    def hear(sounds: Sequence[Any]) -> Any:
        heard.append(np.stack(sounds))
        return np.zeros((len(sounds), 128), np.float32)

    blind = Networks(hear, see, (128,), (7, 7, 512), frames=16, batch=make.batch)
    with Watch() as decoding:
        deque(run(files, avel.open, blind, step=1.0), maxlen=0)
    pictures = sum(map(len, seen))
    some = seen[:_REPLAYED]
    share = sum(map(len, some)) / pictures
    with Watch() as networks:
        for batch in some:
            make.visual_network(torch.from_numpy(batch))
        for batch in heard[: math.ceil(len(heard) * share)]:
            make.audio_network(log_mel(torch.from_numpy(batch)))
    return networks.spent, decoding.spent, share, pictures


# --- a process of its own ------------------------------------------------------------------------


def child(given: argparse.Namespace) -> None:
    """One side: every group of files once; prints JSON, and writes features beside it."""
    import torch

    groups = {name: [Path(f) for f in files] for name, files in json.loads(given.child).items()}
    warm = min((f for files in groups.values() for f in files), key=lambda f: f.stat().st_size)
    work = Plain() if given.side == "plain" else Avel(given)
    work([warm])
    told: dict[str, Any] = {"threads": torch.get_num_threads()}
    for name, files in groups.items():
        with Watch() as watch:
            rows = work(files)
        for path, audio, visual in rows:
            np.savez(Path(given.out) / f"{given.side}-{path.name}.npz", audio=audio, visual=visual)
        told[name] = {"clock": watch.spent.clock, "cores": watch.spent.cores}
        told[name]["segments"] = sum(len(audio) for _, audio, _ in rows)
        told[name] |= work.more(files)
    print(json.dumps(told | work.card()))


class Plain:
    """The plain side's networks."""

    def __init__(self) -> None:
        self.hearing, self.seeing = (backbone(n, modality=m)[0] for n, m in NETWORKS)

    def __call__(self, files: Sequence[Path]) -> list[Any]:
        return [(file, *plain_file(file, self.hearing, self.seeing)) for file in files]

    def more(self, files: Sequence[Path]) -> dict[str, Any]:
        return {}

    def card(self) -> dict[str, Any]:
        return {}


class Avel:
    """avel's networks."""

    def __init__(self, given: argparse.Namespace) -> None:
        from avel.memory import keep_memory

        keep_memory()  # as `avel extract` does
        self.make = extractor(given.precision, compiled=given.compile, batch=given.batch)
        self.cards: Any = ()

    def __call__(self, files: Sequence[Path]) -> list[Any]:
        found = list(self.make.many(files))
        self.cards = found[-1][1].audio_card, found[-1][1].visual_card
        return [(path, features.audio, features.visual) for path, features in found]

    def more(self, files: Sequence[Path]) -> dict[str, Any]:
        networks, decoding, share, pictures = alone(self.make, files)
        return {
            "networks": networks.clock / share,
            "networks_cores": networks.cores / share,
            "decoding_cores": decoding.cores,
            "pictures": pictures,
        }

    def card(self) -> dict[str, Any]:
        held = [(c.get("precision", "float32"), c.get("error", 0.0)) for c in self.cards]
        return {"cards": held, "weights": self.cards[1]["weights"]}


def side(name: str, groups: dict[str, list[Path]], given: argparse.Namespace, out: Path) -> Any:
    files = json.dumps({g: [str(f) for f in paths] for g, paths in groups.items()})
    command = [sys.executable, __file__, ".", "--child", files, "--side", name, "--out", str(out)]
    command += ["--precision", given.precision, "--batch", str(given.batch)]
    command += ["--compile"] if given.compile else []
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


# --- the comparison ------------------------------------------------------------------------------


def grouped(folder: Path, limit: float) -> dict[str, list[Path]]:
    """The .mp4 files with sound and picture, by size; those above ``limit`` seconds left out."""
    groups: dict[str, list[Path]] = {}
    for file in sorted(folder.glob("*.mp4")):
        media = avel.open(file)
        if media.video is None or media.audio is None or media.duration > limit:
            continue
        small = media.video.width * media.video.height <= 640 * 360
        groups.setdefault("up to 640x360" if small else "larger", []).append(file)
    if not groups:
        raise SystemExit(f"{folder} holds no .mp4 with sound and picture up to {limit:g} s")
    return groups


def cosines(files: Sequence[Path], out: Path, key: str) -> float:
    """The least cosine between a segment's features of both sides."""
    from avel.features.network import worst_cosine

    worst = 0.0
    for file in files:
        plain, mine = (np.load(out / f"{s}-{file.name}.npz")[key] for s in ("plain", "avel"))
        if plain.shape != mine.shape:
            raise SystemExit(f"{file}: {key} {mine.shape}, plainly {plain.shape}")
        worst = max(worst, worst_cosine(mine, plain))
    return 1 - worst


def spread(values: Sequence[float], digits: int = 2) -> dict[str, str]:
    figures = {"median": statistics.median(values), "least": min(values), "most": max(values)}
    return {name: f"{value:.{digits}f}" for name, value in figures.items()}


def measured(name: str, files: Sequence[Path], turns: Sequence[Any], out: Path) -> dict[str, Any]:
    """A row of the table."""
    mine, theirs = [t[1][name] for t in turns], [t[0][name] for t in turns]
    ratios = [a["clock"] / b["clock"] for a, b in zip(theirs, mine, strict=True)]
    cores = [a["cores"] / b["cores"] for a, b in zip(theirs, mine, strict=True)]
    shares = [m["networks"] / m["clock"] for m in mine]
    ceilings = [m["networks_cores"] / (m["networks_cores"] + m["decoding_cores"]) for m in mine]
    last = turns[-1][1]
    row: dict[str, Any] = {"files": name, "names": " ".join(f.stem for f in files)}
    row |= {"segments": mine[0]["segments"], "pictures": mine[0]["pictures"]}
    row |= {f"ratio_{k}": v for k, v in spread(ratios).items()}
    row |= {"core_ratio": spread(cores)["median"]}
    row |= {f"plain_s_{k}": v for k, v in spread([t["clock"] for t in theirs], 1).items()}
    row |= {f"avel_s_{k}": v for k, v in spread([m["clock"] for m in mine], 1).items()}
    row |= {f"share_{k}": v for k, v in spread(shares, 3).items()}
    row |= {"share_ceiling": f"{statistics.median(ceilings):.3f}"}
    row |= {f"cosine_{k}": f"{cosines(files, out, k):.6f}" for k in ("audio", "visual")}
    for kind, (precision, error) in zip(("audio", "visual"), last["cards"], strict=True):
        row |= {f"precision_{kind}": precision, f"error_{kind}": f"{error:.1e}"}
    row |= {"weights": last["weights"], "threads": last["threads"], "runs": len(turns)}
    return row | machine()


def judged(row: dict[str, Any]) -> str:
    """What a row says, in a line."""
    cosine = min(float(row["cosine_audio"]), float(row["cosine_visual"]))
    least = SHARES[row["files"]]
    told = [
        (
            f"{row['ratio_median']}x the plain side ({row['core_ratio']}x in core time)",
            float(row["ratio_median"]) >= RATIO,
        ),
        (f"cosine {cosine:.6f}", cosine >= COSINE),
        (
            f"{100 * float(row['share_median']):.0f} % of the networks' own rate "
            f"(ceiling {100 * float(row['share_ceiling']):.0f} %)",
            float(row["share_median"]) >= least,
        ),
    ]
    clauses = [clause if fine else f"{clause} (MISSED)" for clause, fine in told]
    return f"{row['files']}: {', '.join(clauses)}; {row['precision_visual']}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="with .mp4 files of sound and picture")
    parser.add_argument("--runs", type=int, default=3, help="turns of both sides")
    parser.add_argument("--longest", type=float, default=60, help="seconds of a file, at most")
    parser.add_argument("--precision", default="auto", help="auto, float32 or bf16")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--csv", type=Path, default=RESULTS / "extraction.csv")
    for hidden in ("--child", "--side", "--out"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        return child(given)
    groups = grouped(given.folder, given.longest)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        turns = [
            tuple(side(name, groups, given, out) for name in ("plain", "avel"))
            for _ in range(given.runs)
        ]
        rows = [measured(name, files, turns, out) for name, files in groups.items()]
    write_csv(given.csv, rows, beside=True, case=("files",))
    for row in rows:
        print(judged(row))


if __name__ == "__main__":
    main()
