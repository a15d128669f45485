"""Judge where Pairs-10's systems look: attention maps against the boxes of the clips' truth.

    avel reproduce systems modalities data=data/pairs10 --seeds 5 ... -o reproduced/pairs10
    python scripts/pairs_maps.py data/pairs10 reproduced/pairs10
    python scripts/pairs_maps.py              # the page anew, from results/pairs10_maps.csv

Writes results/pairs10_maps.csv and the table in docs/pairs10.md. Nothing is trained: the SEL runs
whose models attend to regions are judged on every second of the test clips that belongs to an event
whose thing is on screen in the middle of that second. `thing` is the share of seconds whose map is
highest on the event's own thing (`avel.metrics.pointing`), `rival` on another thing, of the seconds
that have one. The boxes were never trained on: only which class is when.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import torch
from numpy.typing import NDArray

from avel.data import load_dataset
from avel.data.base import Split
from avel.data.resident import Resident, resident
from avel.evaluation.inputs import align_classes
from avel.evaluation.results import table
from avel.figures.curves import read_rows
from avel.files import write_whole
from avel.inference.checkpoint import Trained
from avel.memory import keep_memory
from avel.metrics import cells_in, pointing
from avel.types import Json
from pairs_results import PAGE, put
from pairs_robustness import find_runs, ours

ROOT = Path(__file__).resolve().parents[1]
RESULTS = "pairs10_maps.csv"
BATCH = 64


@dataclass(frozen=True)
class Seconds:
    """The seconds judged.

    Args:
        clip, second: (n,) where each lies.
        thing: (n, 4) the box of its event's thing, in shares of the picture.
        rivals: Of each the boxes (k, 4) of the other things on screen.
    """

    clip: NDArray[np.int64]
    second: NDArray[np.int64]
    thing: NDArray[np.float64]
    rivals: tuple[NDArray[np.float64], ...]


def seconds_of(root: Path, test: Split) -> Seconds:
    """From the truths of a split's clips."""
    places, things, rivals = [], [], []
    for i, clip in enumerate(test.ids):
        truth = json.loads((root / "truth" / f"{Path(clip).stem}.json").read_text("utf-8"))
        shape = np.array([*truth["size"], *truth["size"]], dtype=np.float64)
        for second, label in enumerate(truth["segments"]):
            frame = int((second + 0.5) * truth["fps"])
            shown = [(t["label"], t["boxes"][frame]) for t in truth["things"]]
            own = [box for name, box in shown if name == label and box]
            if label and len(own) == 1:
                places.append((i, second))
                things.append(np.array(own[0]) / shape)
                others = [box for name, box in shown if name != label and box]
                rivals.append(np.array(others, dtype=np.float64).reshape(-1, 4) / shape)
    clip, second = np.array(places).T
    return Seconds(clip, second, np.stack(things), tuple(rivals))


def attention(run: Trained, held: Resident) -> NDArray[np.float32] | None:
    """(N, T, H, W) the maps of a run, None where its model attends to no region."""
    found = []
    run.network.eval()
    with torch.inference_mode():
        for i in range(0, len(held), BATCH):
            rows = torch.arange(i, min(i + BATCH, len(held)))
            batch = held.batch(rows, device=torch.device("cpu"))
            maps = run.network(audio=batch.audio, visual=batch.visual, mask=batch.mask).attention
            if maps is None:
                return None
            found.append(maps.float().numpy())
    return np.concatenate(found)


def judge(maps: NDArray[np.float32], at: Seconds) -> dict[str, float]:
    """The shares of seconds."""
    own = maps[at.clip, at.second]
    more = [i for i, boxes in enumerate(at.rivals) if len(boxes)]
    on_rival = [pointing(np.repeat(own[i : i + 1], len(at.rivals[i]), 0), at.rivals[i]).any()
                for i in more]  # fmt: skip
    return {"thing": float(pointing(own, at.thing).mean()), "rival": float(np.mean(on_rival))}


def baselines(at: Seconds, height: int, width: int) -> Iterator[tuple[str, dict[str, float]]]:
    """What a cell by chance and the middle cell score."""
    own = cells_in(at.thing, height, width).mean((1, 2))
    rivals = [cells_in(boxes, height, width).any(0).mean() for boxes in at.rivals if len(boxes)]
    yield "random cell", {"thing": float(own.mean()), "rival": float(np.mean(rivals))}
    middle = np.zeros((at.clip.max() + 1, at.second.max() + 1, height, width), np.float32)
    middle[..., height // 2, width // 2] = 1
    yield "middle of the picture", judge(middle, at)


def rows_of(runs: dict[str, list[Trained]], held: Resident, at: Seconds, data: str) -> list[Json]:
    """A row a system and measure, the baselines first."""
    height, width = (int(n) for n in held.visual.shape[2:4])
    found: dict[str, list[dict[str, float]]] = {
        f"baseline: {name}": [values] for name, values in baselines(at, height, width)
    }
    for name, own in runs.items():
        maps = [m for m in (attention(run, held) for run in own) if m is not None]
        if maps:
            found[name] = [judge(m, at) for m in maps]
            print(name, found[name], flush=True)
    return [
        {
            "system": name, "measure": measure,
            f"ours_on_{data}": round(100 * mean(r[measure] for r in results), 2),
            "sd": round(100 * stdev(r[measure] for r in results), 2) if len(results) > 1 else "",
            "n": "" if name.startswith("baseline") else len(results), "seconds": len(at.clip),
        }
        for name, results in found.items() for measure in ("thing", "rival")
    ]  # fmt: skip


def page(text: str, rows: Sequence[dict[str, str]]) -> str:
    """docs/pairs10.md with its table of maps put in."""
    return put(text, "maps", told(rows))


def told(rows: Sequence[dict[str, str]]) -> str:
    """The page's table."""
    lines = ["| where it looks | the event's thing | another thing |", "| --- | --- | --- |"]
    cells: dict[str, dict[str, str]] = {}
    for row in rows:
        sd = f" ± {float(row['sd']):.1f}" if row["sd"] else ""
        cells.setdefault(row["system"], {})[row["measure"]] = f"{float(ours(row)):.1f}{sd}"
    lines += [f"| {name} | {own['thing']} | {own['rival']} |" for name, own in cells.items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("runs", type=Path, nargs="?")
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs")
    given = parser.parse_args()
    if given.data is not None:
        if given.runs is None:
            parser.error("name the folder of runs too")
        keep_memory()
        data, runs = load_dataset("folder", root=given.data), find_runs(given.runs)
        for one in (run for own in runs.values() for run in own):
            data = align_classes(one, data)
        at = seconds_of(given.data, data.test)
        rows = rows_of(runs, resident(data.test), at, data.name)
        write_whole(given.results / RESULTS, table(rows))
    path = given.docs / PAGE
    write_whole(path, page(path.read_text("utf-8"), read_rows(given.results / RESULTS)))


if __name__ == "__main__":
    main()
