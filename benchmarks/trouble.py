"""What commands say of ordinary trouble: full disks, missing rights, damaged files, odd cards.

    python benchmarks/trouble.py                       # all groups that this machine can try
    python benchmarks/trouble.py --group cards

A small data set is rendered, extracted and trained on once; then each case runs one command in a
process of its own, bounded in time. Counted is how it ends: done, refused with a sentence, stumbled
("didn't foresee"), with a traceback, killed by a signal, too late; and whether a half-written file
was left beside the output. Full disks need the right to mount a tmpfs; for missing rights
root gives up what lets it read everything.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from common import RESULTS, machine, write_csv

from avel.cli.main import main as run_command

#: What commands need, loaded once before the forks.
LOADED = (
    "avel.inference.localizer",
    "avel.training.loop",
    "avel.evaluation.evaluate",
    "avel.features.extractor",
    "torch",
)
SECONDS = 90  # that a case may take
KINDS = ("done", "sentence", "stumbled", "traceback", "killed", "too long")


@dataclass(frozen=True)
class Case:
    """One command under some trouble; ``{…}`` in its arguments are the places of :func:`stage`."""

    name: str
    arguments: tuple[str, ...]


def stage(folder: Path) -> dict[str, Path]:
    """The files that commands work on."""
    places = {"toy": folder / "toy", "run": folder / "run", "out": folder / "out"}
    quietly("synth", places["toy"], "--clips", "12", "--seconds", "4", "--seed", "3")
    quietly("extract", places["toy"])
    small = ("epochs=2", "batch=4", "hidden=32", "state=16")
    quietly("train", "cspa_csea", f"data={places['toy']}", *small, "-o", places["run"])
    clips = sorted((places["toy"] / "videos").glob("*.mp4"))
    places |= {"clip": folder / "clip.mp4", "query": folder / "query.mp4"}
    shutil.copy(clips[0], places["clip"])
    shutil.copy(clips[1], places["query"])
    places["labels"], places["onnx"] = folder / "clip.json", folder / "model.onnx"
    places["index"] = folder / "index.safetensors"
    quietly("localize", places["clip"], "-o", places["labels"])
    quietly("export", places["run"], places["onnx"], "--no-backbones")
    quietly("match", "--query", places["query"], "--in", places["clip"], "--index", places["index"])
    places["features"] = sorted((places["toy"] / "features" / "videos").glob("*.safetensors"))[0]
    places["cache"] = Path(os.environ["AVEL_CACHE"])
    places["entry"] = sorted((places["cache"] / "features").glob("*.safetensors"))[0]
    return places


def quietly(*arguments: str | Path) -> None:
    """Run a command that has to work."""
    text = run(tuple(map(str, arguments)), seconds=600)
    if text[0] != "done":
        raise SystemExit(f"avel {' '.join(map(str, arguments))}: {text}")


def run(
    arguments: tuple[str, ...], *, humble: bool = False, seconds: float = SECONDS
) -> tuple[str, str]:
    """How a command ends, and what it says, in a fork of this process."""
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        pid = os.fork()
        if pid == 0:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            code = 70
            try:
                if humble:
                    drop_capabilities()
                code = run_command(arguments)
            except SystemExit as e:
                code = e.code if isinstance(e.code, int) else 1
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        code = waited(pid, seconds)
        said.seek(0)
        text = said.read()
    if code is None:
        return "too long", text
    if code < 0:
        return "killed", f"{signal.Signals(-code).name} {text}"
    if "Traceback (most recent call last)" in text:
        return "traceback", text
    if "unexpected error" in text:
        return "stumbled", text
    return ("done" if code == 0 else "sentence"), text


def waited(pid: int, seconds: float) -> int | None:
    """The exit code of a child, None where it had to be killed."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


# --- full disks ----------------------------------------------------------------------------------

#: What is written where there is no room; ``{full}`` is on the full disk.
WRITERS = (
    ("train", "train cspa_csea data={toy} epochs=2 batch=4 hidden=32 state=16 -o {full}/run"),
    ("extract", "extract {toy} -o {full}/features"),
    ("localize", "localize {clip} -o {full}/a.json"),
    ("localize html", "localize {clip} -o {full}/a.html"),
    ("localize mp4", "localize {clip} -o {full}/a.mp4"),
    ("localize eaf", "localize {clip} -o {full}/a.eaf"),
    ("clips", "convert {labels} --clips {full}/clips -o {out}/a.vtt"),
    ("thumbnails", "convert {labels} --thumbnails {full}/thumbs -o {out}/a.vtt"),
    ("convert", "convert {labels} -o {full}/a.otio"),
    ("export", "export {run} {full}/model.onnx --no-backbones"),
    ("synth", "synth {full}/toy --clips 2 --seconds 3"),
    ("demo", "demo {full}/demo --seconds 3"),
    ("evaluate", "evaluate {run} -o {full}/a.csv"),
    ("plot", "plot timeline {full}/a.png {labels}"),
    ("match", "match --query {query} --in {clip} -o {full}/a.csv"),
    ("match html", "match --query {query} --in {clip} -o {full}/a.html"),
    ("index", "match --query {query} --in {clip} --index {full}/a.safetensors"),
    ("pack", "pack {full}/toy"),
    ("tune", "tune {full}/run"),
    ("sweep", "sweep table5 data={toy} epochs=1 batch=4 -o {full}/sweep"),
)  # fmt: skip


def on_full_disks(places: dict[str, Path], tried: Tried) -> None:
    for left in (0, 300):  # kB that are left
        for name, line in WRITERS:
            with disk(places["out"] / "full", kilobytes=100_000) as full:
                for own in ("pack", "tune"):
                    source = places["toy" if own == "pack" else "run"]
                    if name == own:
                        shutil.copytree(source, full / source.name, ignore=_videos)
                fill(full, left)
                case = Case(f"{name}, {left} kB left", tuple(line.split()))
                tried.take("full disk", case, places | {"full": full})


def _videos(folder: str, names: list[str]) -> list[str]:
    return [n for n in names if n.endswith(".mp4") or n.startswith("state")]


@contextmanager
def disk(place: Path, *, kilobytes: int) -> Iterator[Path]:
    """A small disk, in memory."""
    place.mkdir(parents=True, exist_ok=True)
    options = ["-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)]
    subprocess.run(["mount", *options], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)
        place.rmdir()


def fill(place: Path, left: int) -> None:
    """Leave so many kB."""
    with (place / "filler").open("wb") as f:
        free = shutil.disk_usage(place).free - 1024 * left
        try:
            f.write(bytes(max(0, free)))
        except OSError:
            return


# --- missing rights ------------------------------------------------------------------------------


def without_rights(places: dict[str, Path], tried: Tried) -> None:
    closed = [
        ("clip", 0, "localize {clip} -o {out}/a.json"),
        ("clip", 0, "extract {clip} -o {out}/features"),
        ("clip", 0, "match --query {query} --in {clip}"),
        ("labels", 0, "convert {labels} -o {out}/a.vtt"),
        ("run", 0, "localize {clip} --model {run}"),
        ("run", 0, "evaluate {run}"),
        ("run/model.safetensors", 0, "localize {clip} --model {run}"),
        ("run/card.json", 0, "localize {clip} --model {run}"),
        ("run/train_ids.json.gz", 0, "evaluate {run}"),
        ("run/data.json", 0, "evaluate {run}"),
        ("run/state.safetensors", 0, TRAIN + " -o {run} --resume"),
        ("run", 0o555, TRAIN + " -o {run} --resume"),
        ("run", 0o555, "tune {run}"),
        ("toy", 0, TRAIN + " -o {out}/run"),
        ("toy/annotations.csv", 0, TRAIN + " -o {out}/run"),
        ("toy/features", 0, TRAIN + " -o {out}/run"),
        ("toy/features", 0o555, "extract {toy} --again"),
        ("toy/features", 0o555, "pack {toy}"),
        ("toy/features/manifest.csv", 0, "extract {toy}"),
        ("toy/videos", 0, "extract {toy} --again"),
        ("features", 0, TRAIN + " -o {out}/run"),
        ("out", 0o555, "localize {clip} -o {out}/a.json"),
        ("out", 0o555, "localize {clip} -o {out}/new/a.html"),
        ("out", 0o555, TRAIN + " -o {out}/run"),
        ("out", 0, TRAIN + " -o {out}/run"),
        ("out", 0o555, "synth {out}/toy --clips 2 --seconds 3"),
        ("out", 0o555, "demo {out}/demo --seconds 3"),
        ("out", 0o555, "export {run} {out}/a.onnx --no-backbones"),
        ("out", 0o555, "match --query {query} --in {clip} --index {out}/a.safetensors"),
        ("index", 0, "match --query {query} --in {clip} --index {index}"),
        ("onnx", 0, "localize {clip} --model {onnx}"),
        ("cache", 0, "localize {clip}"),
        ("cache", 0o555, "localize {clip}"),
        ("entry", 0, "localize {clip}"),
    ]
    for name, mode, line in closed:
        first, _, rest = name.partition("/")
        place = places[first] / rest if rest else places[first]
        before = place.stat().st_mode
        place.chmod(mode)
        try:
            case = Case(f"{name} {mode:o}: {line.split()[0]}", tuple(line.split()))
            tried.take("missing rights", case, places, humble=True)
        finally:
            place.chmod(before)


TRAIN = "train cspa_csea data={toy} epochs=2 batch=4 hidden=32 state=16"


def drop_capabilities() -> None:
    """Be bound by the rights of files, as root too (Linux)."""
    if os.getuid():
        return
    import ctypes

    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # the third version of the call, this process
    if ctypes.CDLL(None, use_errno=True).capset(header, (ctypes.c_uint32 * 6)()):
        raise OSError(ctypes.get_errno(), "capset")


# --- damaged files -------------------------------------------------------------------------------

#: A file, and the command that reads it.
READERS = (
    ("run/model.safetensors", "localize {clip} --model {run} -o {out}/a.json"),
    ("run/card.json", "localize {clip} --model {run} -o {out}/a.json"),
    ("run/train_ids.json.gz", "evaluate {run}"),
    ("run/data.json", "evaluate {run}"),
    ("run/state.safetensors", TRAIN + " -o {run} --resume"),
    ("run/history.csv", TRAIN + " -o {run} --resume"),
    ("run/recipe.toml", TRAIN + " --recipe {run}/recipe.toml -o {out}/run"),
    ("features", TRAIN + " -o {out}/run"),
    ("features", "extract {toy}"),
    ("toy/features/manifest.csv", "extract {toy}"),
    ("toy/annotations.csv", TRAIN + " -o {out}/run"),
    ("toy/toybox.json", TRAIN + " -o {out}/run"),
    ("labels", "convert {labels} -o {out}/a.vtt"),
    ("index", "match --query {query} --in {clip} --index {index}"),
    ("onnx", "localize {clip} --model {onnx}"),
    ("entry", "localize {clip} -o {out}/a.json"),
)  # fmt: skip


def damages(content: bytes, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """A file's content in ways that disks, transfers and editors leave it."""
    yield "empty", b""
    yield "half", content[: len(content) // 2]
    yield "zeros", bytes(len(content))
    yield "text", b"this is no such file\n" * 20
    yield "noise", rng.randbytes(max(1, len(content)))
    for number in range(4):
        flipped = bytearray(content)
        for _ in range(1 + number):
            flipped[rng.randrange(min(len(flipped), 4000 if number % 2 else len(flipped)))] ^= (
                1 << rng.randrange(8)
            )
        yield f"{number + 1} bits", bytes(flipped)


def damaged(places: dict[str, Path], tried: Tried) -> None:
    rng = random.Random(5)
    for name, line in READERS:
        first, _, rest = name.partition("/")
        place = places[first] / rest if rest else places[first]
        content = place.read_bytes()
        for what, wrong in damages(content, rng):
            kept = {p: p.read_bytes() for p in places["run"].iterdir()}
            place.write_bytes(wrong)
            case = Case(f"{name}: {what}: {line.split()[0]}", tuple(line.split()))
            tried.take("damaged", case, places)
            for path, data in kept.items():
                path.write_bytes(data)
            place.write_bytes(content)
            shutil.rmtree(places["out"] / "run", ignore_errors=True)
        place.unlink()
        place.mkdir()
        tried.take("damaged", Case(f"{name}: a folder", tuple(line.split())), places)
        place.rmdir()
        place.write_bytes(content)
        shutil.rmtree(places["out"] / "run", ignore_errors=True)


# --- odd cards -----------------------------------------------------------------------------------

VALUES: tuple[Any, ...] = (
    None, [], {}, -1, 0, 1.5, 1e308, True, "", "x", [1], {"a": 1}, [None], {"a": {"b": [{}]}},
    "\x1b[31m", "x" * 100_000, 2**70,
)  # fmt: skip


def odd_cards(places: dict[str, Path], tried: Tried) -> None:
    path = places["run"] / "card.json"
    text = path.read_text()
    lines = (
        "localize {clip} --model {run} -o {out}/a.json {out}/a.html",
        "evaluate {run}",
        "export {run} {out}/a.onnx --no-backbones",
    )
    try:
        for number, (what, card) in enumerate(changed(json.loads(text))):
            path.write_text(json.dumps(card))
            line = lines[number % len(lines)]
            tried.take("odd cards", Case(f"{what}: {line.split()[0]}", tuple(line.split())), places)
    finally:
        path.write_text(text)


def changed(card: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The card with one entry taken out, or of another kind."""
    for place, keys in enumerate(_keys(json.loads(json.dumps(card)))):
        if keys[0] == "weights":  # another hash, and the card isn't believed at all
            continue
        for number, value in enumerate(VALUES):
            if (number + place) % (3 if len(keys) == 1 else 6):  # all values come up, not all pairs
                continue
            made = json.loads(json.dumps(card))
            within = made
            for key in keys[:-1]:
                within = within[key]
            within[keys[-1]] = value
            yield f"{'.'.join(keys)}={str(value)[:20]!r}", made
        del within[keys[-1]]
        yield f"no {'.'.join(keys)}", made


def _keys(held: dict[str, Any], depth: int = 0) -> Iterator[tuple[str, ...]]:
    for key, value in held.items():
        yield (key,)
        if depth < 1 and isinstance(value, dict):
            yield from ((key, *rest) for rest in _keys(value, depth + 1))


# --- counting ------------------------------------------------------------------------------------


class Tried:
    """How the cases ended; once its time is up no more are tried.

    Args:
        seconds: Of each group.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds, self._begun = seconds, time.monotonic()
        self.counts: dict[str, Counter[str]] = {}
        self.left: Counter[str] = Counter()

    def take(
        self, group: str, case: Case, places: dict[str, Path], *, humble: bool = False
    ) -> None:
        """Try one."""
        if group not in self.counts:
            self._begun = time.monotonic()
        if time.monotonic() - self._begun > self._seconds:
            return
        names = {name: str(path) for name, path in places.items()}
        kind, text = run(tuple(a.format(**names) for a in case.arguments), humble=humble)
        self.counts.setdefault(group, Counter())[kind] += 1
        outputs = [places["out"], places["run"], places.get("full", places["out"])]
        halves = {p for place in outputs for p in place.glob(".*.tmp*")}
        self.left[group] += bool(halves)
        for path in halves:
            path.unlink()
        if os.environ.get("TROUBLE_SAYS"):
            print(f"{case.name} | {kind} | {text.strip()[:400]}", file=sys.stderr)
        if kind not in ("done", "sentence") or halves:
            last = (text.strip().splitlines() or [""])[-1]
            first = next((x for x in text.splitlines() if "foresee" in x), last)
            print(group, case.name, kind, first[:200], sep=" | ", file=sys.stderr, flush=True)

    def rows(self) -> Iterator[dict[str, Any]]:
        for group, counts in self.counts.items():
            yield {
                "group": group,
                "cases": sum(counts.values()),
                **{kind: counts[kind] for kind in KINDS},
                "half_written_left": self.left[group],
            }


GROUPS: dict[str, Callable[[dict[str, Path], Tried], None]] = {
    "full disk": on_full_disks,
    "missing rights": without_rights,
    "damaged": damaged,
    "odd cards": odd_cards,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--group", choices=GROUPS, action="append")
    parser.add_argument("--minutes", type=float, default=10, help="that a group may take")
    parser.add_argument("--label", default="now", help="what the rows are called")
    parser.add_argument("--csv", type=Path, default=RESULTS / "trouble.csv")
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for name in LOADED:
        import_module(name)
    tried = Tried(60 * given.minutes)
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        os.environ["AVEL_CACHE"] = str(Path(temporary) / "work" / "cache")
        stack.callback(os.chdir, Path.cwd())
        os.chdir(temporary)
        places = stage(Path(temporary) / "work")
        places["out"].mkdir(exist_ok=True)
        for group in given.group or GROUPS:
            if group == "full disk" and os.getuid():
                print("full disk: left out, needs the right to mount", file=sys.stderr)
                continue
            GROUPS[group](places, tried)
    rows = [{"label": given.label} | row | machine() for row in tried.rows()]
    write_csv(given.csv, rows, beside=True, case=("label", "group"))


if __name__ == "__main__":
    main()
