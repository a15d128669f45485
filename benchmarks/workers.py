"""How extraction scales: this process, two worker processes, two Ray workers; write workers.csv.

    python benchmarks/workers.py                                  # results/workers.csv
    python benchmarks/workers.py --visual vgg19 --precision bf16 --clips 24

The same Toybox clips by every engine, in turns, each run in a process of its own. The rate leaves
start-up out: it is taken from when the feature files were written, from the eighth to the last.
VGG-19 and VGGish have random weights here: time doesn't depend on them. Without Ray (`avel[ray]`)
its engine is left out.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from common import RESULTS, find_random_backbone, machine, write_csv

from avel.features.corpus import Settings, Work, in_process
from avel.features.listing import plan

ENGINES = ("in process", "2 processes", "ray, 2 workers")
_FIRST = 8  # by then every worker has begun


def start_random(settings: Settings) -> Work:
    """The work with networks of random weights, for those whose weights aren't here."""
    import avel.features.extractor as module

    shipped = module.find_backbone

    def find(name: str, *, modality: Any) -> Any:
        if name.startswith("vgg"):
            return find_random_backbone(name, modality=modality)
        return shipped(name, modality=modality)

    module.find_backbone = find
    return settings.start()


def one(engine: str, folder: Path, out: Path, settings: Settings) -> None:
    """Extract all files by one engine."""
    found, start = plan([folder], out), partial(start_random, settings)
    if engine == ENGINES[0]:
        outcomes = in_process(found.jobs(), start)
    elif engine == ENGINES[1]:
        from avel.features.workers import in_processes

        outcomes = in_processes(found.jobs(), start, total=found.count, count=2)
    else:
        from avel.features.cluster import on_ray

        outcomes = on_ray(found.jobs(), start, total=found.count, count=2)
    for outcome in outcomes:
        assert outcome.status == "made", outcome.reason


def timed(engine: str, folder: Path, given: argparse.Namespace) -> tuple[float, float]:
    """Files a second once all workers are at it, and seconds in all, start-up included."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, __file__, "--one", engine, str(folder), out]
        command += ["--audio", given.audio, "--visual", given.visual]
        command += ["--precision", given.precision]
        begin = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        took = time.perf_counter() - begin
        times = sorted(p.stat().st_mtime for p in Path(out).rglob("*.safetensors"))
    assert len(times) == given.clips
    return (len(times) - _FIRST) / (times[-1] - times[_FIRST - 1]), took


def measure(folder: Path, given: argparse.Namespace) -> list[dict[str, Any]]:
    engines = [e for e in ENGINES if "ray" not in e or find_spec("ray")]
    runs: dict[str, list[tuple[float, float]]] = {engine: [] for engine in engines}
    for i in range(given.runs):
        for engine in engines:
            runs[engine].append(timed(engine, folder, given))
            print(f"run {i + 1}, {engine}: {runs[engine][-1][0]:.3f} files/s", file=sys.stderr)
    rates = {engine: [rate for rate, _ in told] for engine, told in runs.items()}
    base = statistics.median(rates[ENGINES[0]])
    return [
        {
            "engine": engine,
            "backbones": f"{given.audio}+{given.visual}",
            "precision": given.precision,
            "clips": given.clips,
            "runs": given.runs,
            "files_per_s": f"{statistics.median(rates[engine]):.3f}",
            "least": f"{min(rates[engine]):.3f}",
            "most": f"{max(rates[engine]):.3f}",
            "to_in_process": f"{statistics.median(rates[engine]) / base:.3f}",
            "seconds_with_start": f"{statistics.median(took for _, took in told):.1f}",
        }
        | machine()
        for engine, told in runs.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=160, help="Toybox clips of 10 s, 320x240")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--audio", default="")
    parser.add_argument("--visual", default="mini_visual")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--csv", type=Path, default=RESULTS / "workers.csv")
    parser.add_argument("--one", nargs=3, metavar=("ENGINE", "DIR", "OUT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.audio = given.audio or ("mini_audio" if "mini" in given.visual else "vggish")
    settings = Settings(audio=given.audio, visual=given.visual, precision=given.precision)
    if given.one:
        engine, folder, out = given.one
        return one(engine, Path(folder), Path(out), settings)
    if given.clips <= 2 * _FIRST:
        parser.error(f"--clips: more than {2 * _FIRST}")
    from avel.data.toybox.dataset import ToyboxPlan, synthesize

    with tempfile.TemporaryDirectory() as folder:
        synthesize(Path(folder), clips=given.clips, plan=ToyboxPlan(seed=1_000_000_003), jobs=0,
                   command="benchmarks/workers.py")  # fmt: skip
        rows = measure(Path(folder), given)
    write_csv(given.csv, rows, beside=True, case=("engine", "backbones", "precision"))


if __name__ == "__main__":
    main()
