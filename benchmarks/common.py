"""What the benchmarks share: running `avel` as a user does, the machine's description, CSV."""

from __future__ import annotations

import csv
import importlib.metadata
import io
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

from avel.files import write_whole

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"

# the child reads its own peak: ru_maxrss of a child begins with its parent's
_RUN = """
import sys
from avel.cli.main import main
code = main(sys.argv[2:])
try:
    lines = open("/proc/self/status").read().splitlines()
except OSError:
    lines = []
import os
peak = "".join(l.split()[1] for l in lines if l.startswith("VmHWM"))
open(sys.argv[1], "w").write(f"{sum(os.times()[:2]):.2f} {peak}")
sys.exit(code)
"""


@dataclass(frozen=True)
class Ran:
    """One command: exit code, wall-clock seconds with start-up, peak MB (None where unknown).

    ``core_seconds`` is the processor time of all its threads; NaN where the command was killed.
    """

    code: int
    seconds: float
    core_seconds: float
    peak_mb: float | None
    out: str
    err: str

    @property
    def peak(self) -> str:
        return "" if self.peak_mb is None else f"{self.peak_mb:.0f}"


def run_avel(*arguments: str | Path) -> Ran:
    """Run `avel` with these arguments in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        note = Path(folder) / "peak"
        command = [sys.executable, "-c", _RUN, str(note), *map(str, arguments)]
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, env=child_environment())
        seconds = time.perf_counter() - start
        text = note.read_text() if note.is_file() else ""
    spent, _, peak = text.partition(" ")
    megabytes = int(peak) / 1024 if peak else None
    core_seconds = float(spent or "nan")
    return Ran(done.returncode, seconds, core_seconds, megabytes, done.stdout, done.stderr)


def child_environment() -> dict[str, str]:
    """The environment, without the switch that keeps Python from storing compiled modules.

    A user's Python stores them; without them every start compiles all of avel anew.
    """
    return {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


def given_or_toybox(clip: Path | None, folder: Path, *, seconds: float) -> tuple[Path, str]:
    """A video and what it is called: the one given, else a Toybox clip rendered into ``folder``."""
    if clip is not None:
        return clip, clip.name
    from avel.data.toybox.dataset import ToyboxPlan, render_clip

    rendered = render_clip(ToyboxPlan(seed=1_000_000_001, seconds=seconds), 0, folder)
    return folder / "videos" / f"{rendered}.mp4", "toybox"


def period(clip: Path) -> float:
    """Seconds from a file's first packet to its last one's end, so that copies don't overlap."""
    first, end = 0.0, 0.0
    with av.open(str(clip)) as source:
        for p in source.demux():
            if p.dts is not None and p.pts is not None:
                first = min(first, float(p.dts * p.time_base))
                end = max(end, float((max(p.pts, p.dts) + (p.duration or 0)) * p.time_base))
    return end - first + 0.01


def loop(clip: Path, target: Path, *, seconds: float) -> None:
    """Copy a file's packets again and again until it is that long; nothing is encoded anew."""
    length = period(clip)
    with av.open(str(target), "w") as out:
        copies = {}
        for k in range(max(1, round(seconds / length))):
            with av.open(str(clip)) as source:
                picked = [*source.streams.video[:1], *source.streams.audio[:1]]
                for stream in picked:
                    if stream.index not in copies:
                        copies[stream.index] = out.add_stream_from_template(stream)
                for packet in source.demux(picked):
                    if packet.dts is None or packet.pts is None:
                        continue
                    index = packet.stream.index
                    shift = round(k * length / packet.time_base)
                    packet.dts, packet.pts = packet.dts + shift, packet.pts + shift
                    packet.stream = copies[index]
                    out.mux(packet)


def random_backbone(name: str, *, modality: str) -> tuple[Any, dict[str, Any]]:
    """A backbone of its true shape with random weights, and a card that says so."""
    import torch

    from avel.backbones.base import backbones

    cls = backbones.get(name.partition(":")[0])
    torch.manual_seed(0)
    network = cls().eval().requires_grad_(False)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            torch.nn.init.kaiming_normal_(parameter)
    card = network.describe(next(iter(cls.weights.values())))
    return network, {**card, "weights": "random", "hash": "none"}


def find_random_backbone(name: str, *, modality: str) -> tuple[dict[str, Any], Callable[[], Any]]:
    """The same, as :func:`avel.backbones.load.find_backbone` gives backbones: card and loader."""
    network, card = random_backbone(name, modality=modality)
    return card, lambda: network


def machine() -> dict[str, str]:
    """Where and with what it was measured, and how busy the machine was."""
    names = ("torch", "av", "numpy")
    versions = " ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return {
        "cpu": cpu_model(),
        "cores": str(os.cpu_count()),
        "units": " ".join(matrix_units()),
        "load": load,
        "python": platform.python_version(),
        "versions": f"avel {importlib.metadata.version('avel')} {versions}",
    }


def cpu_model() -> str:
    """The processor's name, with family and model: rented machines hide the rest of the name."""
    name = _cpuinfo("model name") or platform.processor() or platform.machine()
    family, model = _cpuinfo("cpu family"), _cpuinfo("model\t")
    return f"{name} (family {family} model {model})" if family and model else name


def matrix_units() -> list[str]:
    """What the processor has for products of matrices, as Linux calls it."""
    expected = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16")
    flags = _cpuinfo("flags").split()
    return [unit for unit in expected if unit in flags]


def _cpuinfo(key: str) -> str:
    """The first entry of that name, empty where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    named = (line.partition(":")[2].strip() for line in lines if line.startswith(key))
    return next(named, "")


def machine_class(units: str) -> str:
    """What results call machines of these ``units`` (a column of :func:`machine`)."""
    flags = units.split()
    classes = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 bf16", "avx512f": "AVX-512"}
    return next((name for flag, name in classes.items() if flag in flags), "AVX2")


def write_csv(
    path: Path, rows: Sequence[dict[str, Any]], *, beside: bool = False, case: Sequence[str] = ()
) -> None:
    """Write rows of the same keys, whole or not at all, and print them.

    Args:
        path: The table.
        rows: With the columns of :func:`machine`, if ``beside``.
        beside: Whether the rows that the table has of other machines (another processor, other
            units or number of cores) stay, before these; a column that they lack is empty.
        case: Columns that say what a row is of; with ``beside``, this machine's rows of cases that
            aren't among ``rows`` stay too. By default all its rows are replaced.
    """
    others = _rows_that_stay(path, rows, case) if beside else []
    out = io.StringIO(newline="")
    writer = csv.DictWriter(
        out, list(rows[0]), restval="", extrasaction="ignore", lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows([*others, *rows])
    write_whole(path, out.getvalue())
    print(out.getvalue(), end="")
    print(f"wrote {path}", file=sys.stderr)


def _rows_that_stay(
    path: Path, rows: Sequence[dict[str, Any]], case: Sequence[str]
) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    columns = ("cpu", "cores", "units", *case)
    replaced = {tuple(str(row[c]) for c in columns) for row in rows}
    with path.open(newline="", encoding="utf-8") as f:
        return [r for r in csv.DictReader(f) if tuple(r.get(c) for c in columns) not in replaced]
