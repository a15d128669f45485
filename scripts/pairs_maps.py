"""Judge where Pairs-10's systems look: attention maps against the boxes of the clips' truth.

    avel reproduce systems modalities data=data/pairs10 --seeds 5 ... -o reproduced/pairs10
    python scripts/pairs_maps.py data/pairs10 reproduced/pairs10
    python scripts/pairs_maps.py              # the page anew, from results/pairs10_maps.csv
    python scripts/pairs_maps.py data/pairs10-256 reproduced/pairs10-256 --name pairs10_taggers

Writes results/pairs10_maps.csv and the table in docs/pairs10.md, or those of another name. Nothing
is trained: the SEL runs whose models attend to regions are judged on every second of the test clips
that belongs to an event whose thing is on screen in the middle of that second. `thing` is the share
of seconds whose map is highest on the event's own thing (`avel.metrics.pointing`), `rival` on
another thing, of the seconds that have one, and `swapped`, the control, on the event's own thing
where the map is that of another clip with an event of the same class. The boxes were never trained
on: only which class is when.
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
from pairs_results import NAMES, OURS, PAGE, put
from pairs_robustness import find_runs, ours

ROOT = Path(__file__).resolve().parents[1]
BATCH = 64
#: The measures, and what the page calls them.
MEASURES = {
    "thing": "the event's thing", "rival": "another thing",
    "swapped": "the event's thing, by another clip's map",
}  # fmt: skip


@dataclass(frozen=True)
class Seconds:
    """The seconds judged.

    Args:
        clip, second: (n,) where each lies.
        swapped: (n,) of each one of another clip with an event of the same class.
        thing: (n, 4) the box of its event's thing, in shares of the picture.
        rivals: Of each the boxes (k, 4) of the other things on screen.
    """

    clip: NDArray[np.int64]
    second: NDArray[np.int64]
    swapped: NDArray[np.int64]
    thing: NDArray[np.float64]
    rivals: tuple[NDArray[np.float64], ...]


def seconds_of(root: Path, test: Split) -> Seconds:
    """From the truths of a split's clips."""
    places, labels, things, rivals = [], [], [], []
    for i, clip in enumerate(test.ids):
        truth = json.loads((root / "truth" / f"{Path(clip).stem}.json").read_text("utf-8"))
        shape = np.array([*truth["size"], *truth["size"]], dtype=np.float64)
        for second, label in enumerate(truth["segments"]):
            frame = int((second + 0.5) * truth["fps"])
            shown = [(t["label"], t["boxes"][frame]) for t in truth["things"]]
            own = [box for name, box in shown if name == label and box]
            if label and len(own) == 1:
                places.append((i, second))
                labels.append(label)
                things.append(np.array(own[0]) / shape)
                others = [box for name, box in shown if name != label and box]
                rivals.append(np.array(others, dtype=np.float64).reshape(-1, 4) / shape)
    clip, second = np.array(places).T
    swapped = other_clips(clip, np.array(labels))
    return Seconds(clip, second, swapped, np.stack(things), tuple(rivals))


def other_clips(clip: NDArray[np.int64], labels: NDArray[np.str_]) -> NDArray[np.int64]:
    """(n,) of each second the next one, in a circle, of another clip with the same label.

    Raises:
        ValueError: if a label is of one clip alone.
    """
    count = len(clip)
    others = np.empty(count, np.int64)
    for i in range(count):
        later = (i + 1 + np.arange(count - 1)) % count
        fits = later[(labels[later] == labels[i]) & (clip[later] != clip[i])]
        if not len(fits):
            raise ValueError(f"only one clip has {labels[i]}")
        others[i] = fits[0]
    return others


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
    return {
        "thing": float(pointing(own, at.thing).mean()), "rival": float(np.mean(on_rival)),
        "swapped": float(pointing(own[at.swapped], at.thing).mean()),
    }  # fmt: skip


def baselines(at: Seconds, height: int, width: int) -> Iterator[tuple[str, dict[str, float]]]:
    """What a cell by chance and the middle cell score."""
    own = cells_in(at.thing, height, width).mean((1, 2))
    rivals = [cells_in(boxes, height, width).any(0).mean() for boxes in at.rivals if len(boxes)]
    chance = float(own.mean())
    yield "random cell", {"thing": chance, "rival": float(np.mean(rivals)), "swapped": chance}
    middle = np.zeros((at.clip.max() + 1, at.second.max() + 1, height, width), np.float32)
    middle[..., height // 2, width // 2] = 1
    yield "middle of the picture", judge(middle, at)


def rows_of(runs: dict[str, list[Trained]], held: Resident, at: Seconds) -> list[Json]:
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
            OURS: round(100 * mean(r[measure] for r in results), 2),
            "sd": round(100 * stdev(r[measure] for r in results), 2) if len(results) > 1 else "",
            "n": "" if name.startswith("baseline") else len(results), "seconds": len(at.clip),
        }
        for name, results in found.items() for measure in MEASURES
    ]  # fmt: skip


def page(text: str, rows: Sequence[dict[str, str]], name: str = NAMES[0]) -> str:
    """docs/pairs10.md with the table of maps of a name put in."""
    return put(text, f"{name} maps", told(rows))


def told(rows: Sequence[dict[str, str]]) -> str:
    """The page's table."""
    names = [m for m in MEASURES if any(r["measure"] == m for r in rows)]
    head = ["where it looks", *(MEASURES[m] for m in names)]
    lines = [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    cells: dict[str, dict[str, str]] = {}
    for row in rows:
        sd = f" ± {float(row['sd']):.1f}" if row["sd"] else ""
        cells.setdefault(row["system"], {})[row["measure"]] = f"{float(ours(row)):.1f}{sd}"
    lines += [f"| {n} | {' | '.join(own[m] for m in names)} |" for n, own in cells.items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("runs", type=Path, nargs="?")
    parser.add_argument("--name", choices=NAMES, default=NAMES[0], help=f"[{NAMES[0]}]")
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs")
    given = parser.parse_args()
    results = given.results / f"{given.name}_maps.csv"
    if given.data is not None:
        if given.runs is None:
            parser.error("name the folder of runs too")
        keep_memory()
        data, runs = load_dataset("folder", root=given.data), find_runs(given.runs)
        for one in (run for own in runs.values() for run in own):
            data = align_classes(one, data)
        at = seconds_of(given.data, data.test)
        rows = rows_of(runs, resident(data.test), at)
        write_whole(results, table(rows))
    path = given.docs / PAGE
    write_whole(path, page(path.read_text("utf-8"), read_rows(results), given.name))


if __name__ == "__main__":
    main()
