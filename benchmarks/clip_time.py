"""Where the time of one `avel localize CLIP -o report.html` goes; write results/clip_time.csv.

    python benchmarks/clip_time.py                # the demo's ten seconds of a film
    python benchmarks/clip_time.py clip.mp4       # a video of one's own, looped without re-encoding

Each run is a process of its own without cached features; lengths take turns, and the median run of
a length is shown. The stages follow one another, `decode` apart, which is beside `networks`:

- start: the interpreter; command: the command line's modules; torch: its import;
- model: the default model's vocabulary and tables; weights: both backbones read;
- probe: the file opened and probed;
- networks: both backbones; waiting: for the decoder, the extraction's time without the networks';
- report: the page written; rest: all else, other imports above all.

`thread_seconds` is the processor time of the stage's own thread, for `total` of the whole process;
`rest` has that of all other threads.
Rows of other processors stay in the table.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import RESULTS, child_environment, loop, machine, write_csv

from avel.cli.demo import CLIP

SEQUENCE = ("start", "command", "torch", "model", "weights", "probe", "networks", "waiting",
            "report", "rest")  # fmt: skip

_CHILD = """
import sys, time
spawned, note = float(sys.argv[1]), sys.argv[2]
spent = {"start": [time.time() - spawned, time.process_time()]}

class Stage:
    def __init__(self, name):
        self.name = name
    def __enter__(self):
        self.wall, self.cpu = time.perf_counter(), time.thread_time()
    def __exit__(self, *_):
        row = spent.setdefault(self.name, [0.0, 0.0])
        row[0] += time.perf_counter() - self.wall
        row[1] += time.thread_time() - self.cpu

def timed(owner, attribute, name):
    call = getattr(owner, attribute)
    def run(*a, **k):
        with Stage(name):
            return call(*a, **k)
    setattr(owner, attribute, run)

def timed_items(owner, attribute, name):
    call = getattr(owner, attribute)
    def run(*a, **k):
        items = call(*a, **k)
        while True:
            with Stage(name):
                item = next(items, None)
            if item is None:
                return
            yield item
    setattr(owner, attribute, run)

with Stage("command"):
    from avel.cli.main import main
from avel.device import sleep_while_waiting
sleep_while_waiting()
with Stage("torch"):
    import torch
import avel.cli._outputs, avel.features.extractor as extractor, avel.features.pipeline as pipeline
import avel.inference.localizer, avel.media.file
timed(avel.inference.localizer, "_load", "model")
timed(avel.media.file, "open_media", "probe")
timed(avel.cli._outputs.WriteOptions, "save", "report")
timed_items(extractor, "file_blocks", "extract")
timed_items(pipeline, "_decoded", "decode")
for embed in ("_embed_audio", "_embed_visual"):
    timed(extractor.Extractor, embed, "networks")
find = extractor.find_backbone
def find_timed(*a, **k):
    card, load = find(*a, **k)
    def loaded():
        with Stage("weights"):
            return load()
    return card, loaded
extractor.find_backbone = find_timed
code = main(sys.argv[3:])
spent["total"] = [time.time() - spawned, time.process_time()]
import json
open(note, "w").write(json.dumps(spent))
sys.exit(code)
"""


def run(clip: Path, folder: Path) -> dict[str, tuple[float, float]]:
    """Wall seconds and the thread's processor seconds of every stage of one command."""
    note = folder / "stages.json"
    command = [sys.executable, "-c", _CHILD, str(time.time()), str(note), "localize", str(clip)]
    command += ["-o", str(folder / "report.html"), "--no-cache", "--overwrite"]
    done = subprocess.run(command, capture_output=True, text=True, env=child_environment())
    if done.returncode:
        raise SystemExit(done.stderr)
    spent = {name: (wall, cpu) for name, (wall, cpu) in json.loads(note.read_text()).items()}
    extracting, networks = spent.pop("extract"), spent["networks"]
    spent["waiting"] = (extracting[0] - networks[0], extracting[1] - networks[1])
    known = [spent.get(name, (0.0, 0.0)) for name in SEQUENCE[:-1]]
    wall, cpu = (spent["total"][i] - sum(one[i] for one in known) for i in (0, 1))
    spent["rest"] = (wall, cpu - spent["decode"][1])
    return spent


def rows(clip: Path, seconds: list[float], runs: int) -> list[dict[str, Any]]:
    """A row for each length and stage, of the run with the median total."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        videos = {s: folder / f"{s:g}.mkv" for s in seconds}
        for s, video in videos.items():
            loop(clip, video, seconds=s)
        run(videos[seconds[0]], folder)  # compiles modules, and fetches weights where need be
        done: dict[float, list[dict[str, tuple[float, float]]]] = {s: [] for s in seconds}
        for _ in range(runs):
            for s, video in videos.items():
                done[s].append(run(video, folder))
    table = []
    for s, several in done.items():
        several.sort(key=lambda spent: spent["total"][0])
        median = several[len(several) // 2]
        for stage in (*SEQUENCE, "decode", "total"):
            wall, cpu = median.get(stage, (0.0, 0.0))
            walls = [spent.get(stage, (0.0, 0.0))[0] for spent in several]
            row = {"clip": clip.name, "media_seconds": f"{s:g}", "stage": stage,
                   "seconds": round(wall, 3), "least": round(min(walls), 3),
                   "most": round(max(walls), 3),
                   "thread_seconds": round(cpu, 3),
                   "threads": os.environ.get("OMP_NUM_THREADS", ""), "runs": runs}  # fmt: skip
            table.append(row)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", type=Path, nargs="?", default=CLIP)
    parser.add_argument("--seconds", type=float, nargs="+", default=[10.0, 60.0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--csv", type=Path, default=RESULTS / "clip_time.csv")
    options = parser.parse_args()
    here = machine()
    table = [r | here for r in rows(options.clip, options.seconds, options.runs)]
    write_csv(options.csv, table, beside=True)


if __name__ == "__main__":
    main()
