"""Judge runs on Pairs-10's test clips under noise, blur, dropped frames, a lost track and offsets.

    avel reproduce systems modalities data=data/pairs10 --seeds 5 ... -o reproduced/pairs10
    python scripts/pairs_robustness.py data/pairs10 reproduced/pairs10

Writes results/pairs10_robustness.csv and docs/images/pairs10-robustness.png. Nothing is trained:
the SEL runs of the folder are judged. The clips are degraded as they are decoded, before the
backbones read them:

`noise`    white noise so many decibels below the clip's own sound, its mean power over the clip
`blur`     a Gaussian blur of so many percent of the picture's width (its standard deviation)
`dropped`  so many percent of the frames (12 a second) are lost; the last one before stays on screen
`lost`     no sound, or no picture
`offset`   the sound so many seconds later than the picture: silence before it, its end cut off;
           the truth stays on the picture's clock; the metric `segment_accuracy_but_last_N` leaves
           out the last N seconds, whose sound the clip has no more (of clean clips likewise)

A second in which nothing can be heard (or seen) is judged by the network like any other: the rule
of `avel localize` that it has no event isn't applied. Features are kept in --work, in a folder for
each state of the data and the backbones, a file a condition: called again, only what is missing is
made.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from avel.data import load_dataset
from avel.data.base import Split, fingerprint
from avel.data.resident import Resident, resident
from avel.errors import DataError
from avel.evaluation.inputs import align_classes
from avel.evaluation.results import table
from avel.experiments.extra_tables import modalities, systems
from avel.features.extractor import Extractor
from avel.features.store import header
from avel.figures.curves import read_rows
from avel.files import whole, write_whole
from avel.inference.checkpoint import Trained
from avel.inference.load import load_trained
from avel.media.file import RATE, Media, Segment, open_media
from avel.memory import keep_memory
from avel.tasks import task_named
from avel.tasks.sel import segment_metrics
from avel.types import Json
from project_features import PROJECTED, Projection

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROOT = Path(__file__).resolve().parents[1]
RESULTS = "pairs10_robustness.csv"
MINIS = "mini_audio", "mini_visual"
#: Frames of a second that dropping chooses from: as many as the clips have.
FPS = 12
#: The clip as it is.
CLEAN = ("clean", "")
#: Kinds and levels, in the order of the figure.
CONDITIONS: tuple[tuple[str, str], ...] = (
    CLEAN, ("noise", "20"), ("noise", "10"), ("noise", "0"),
    ("blur", "1"), ("blur", "2"), ("blur", "4"),
    ("dropped", "50"), ("dropped", "90"), ("dropped", "98"),
    ("lost", "sound"), ("lost", "picture"), ("offset", "1"), ("offset", "2"), ("offset", "3"),
)  # fmt: skip
#: Those of which the picture is as it was, and those of which the sound is.
HEARD, TRUNK_WIDTH = ("noise", "offset"), ("blur", "dropped")
#: Levels between which nothing lies: dots without a line.
UNORDERED = ("lost",)
#: Segment accuracy without the last so many seconds.
BUT_LAST = "segment_accuracy_but_last_"
#: What the figure's panels are called.
PANELS = {
    "noise": "noise in the sound (dB below it)", "blur": "blur (% of the width)",
    "dropped": "dropped frames (%)", "offset": "sound late by (s)", "lost": "a lost track",
}  # fmt: skip


@dataclass(frozen=True)
class Degraded(Media):
    """A clip that is degraded as it is decoded; what its condition leaves as it was isn't read.

    Args:
        kind, level: Of the condition, see ``CONDITIONS``.
        seed: Of the noise and of which frames are lost; the same at all levels.
    """

    kind: str = "clean"
    level: str = ""
    seed: int = 0

    @classmethod
    def of(cls, media: Media, *, kind: str, level: str, seed: int) -> Degraded:
        """An open clip, degraded."""
        own = {f.name: getattr(media, f.name) for f in fields(Media)}
        return cls(**own, kind=kind, level=level, seed=seed)

    def segments(
        self, *, frames: int = 16, size: int = 224, step: float = 1.0
    ) -> Iterator[Segment]:  # fmt: skip
        """As of a file that is like this; the sound is left out where only the picture changes."""
        count = FPS if self.kind == "dropped" else frames
        held = list(super().segments(frames=count, size=size, step=step))
        rng = np.random.default_rng([self.seed, len(self.kind)])
        if self.kind in HEARD:
            sound = np.concatenate([s.audio for s in held])
            parts = np.split(degraded_sound(sound, self.kind, float(self.level), rng), len(held))
            held = [_with_sound(s, part) for s, part in zip(held, parts, strict=True)]
        elif self.kind in TRUNK_WIDTH:
            shown = np.stack([s.frames for s in held])  # (T, n, size, size, 3)
            shown = degraded_picture(shown, self.kind, float(self.level), rng, keep=frames)
            held = [
                replace(s, frames=own, n_samples_present=0)
                for s, own in zip(held, shown, strict=True)
            ]
        yield from held


def _with_sound(segment: Segment, sound: NDArray[np.float32]) -> Segment:
    """A segment with another sound, its picture left out."""
    return replace(
        segment, frames=segment.frames[:0], audio=sound, n_samples_present=len(sound)
    )  # fmt: skip


def degraded_sound(
    sound: NDArray[np.float32], kind: str, level: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """(n,) samples with noise ``level`` dB below them, or ``level`` seconds later."""
    if kind == "noise":
        power = float(np.square(sound, dtype=np.float64).mean())
        noise = rng.standard_normal(len(sound)) * np.sqrt(power * 10 ** (-level / 10))
        return np.asarray(sound + noise, np.float32)
    late = round(level * RATE)
    return np.concatenate([np.zeros(late, np.float32), sound])[: len(sound)]


def degraded_picture(
    shown: NDArray[np.uint8], kind: str, level: float, rng: np.random.Generator, *, keep: int
) -> NDArray[np.uint8]:
    """(T, n, size, size, 3) blurred, or of (T, FPS, …) the ``keep`` frames a second that are shown.

    Where frames are dropped the last one before them stays; the clip's first is always there.
    """
    flat = shown.reshape(-1, *shown.shape[2:])
    if kind == "blur":
        sharp = [Image.fromarray(frame) for frame in flat]
        radius = ImageFilter.GaussianBlur(level / 100 * flat.shape[1])
        soft = [np.asarray(image.filter(radius)) for image in sharp]
        return np.stack(soft).reshape(shown.shape)
    there = rng.random(len(flat)) >= level / 100
    there[0] = True
    last = np.maximum.accumulate(np.where(there, np.arange(len(flat)), 0))
    stale = flat[last].reshape(shown.shape)
    return stale[:, [k * shown.shape[1] // keep for k in range(keep)]]


# ---- features of every condition


class Features:
    """Those of a data set's clips under any condition, by the backbones that its own are of.

    Args:
        root: The data set's folder.
        work: Folder of the files that keep them.
    """

    def __init__(self, root: Path, work: Path) -> None:
        first = header(next((root / "features").rglob("*.safetensors")))
        self.root, self.work = root, work
        self.audio, visual = first["audio_card"]["name"], first["visual_card"]["name"]
        self.visual = visual.partition(PROJECTED)[0]
        self.projection = Projection.load(root) if PROJECTED in visual else None

    def __call__(
        self, ids: Sequence[str], kind: str, level: str
    ) -> tuple[NDArray[np.float16], NDArray[np.float16]]:  # fmt: skip
        """(N, T, A) and (N, T, H, W, V) of clips of one length, kept in a file of ``work``.

        What the condition leaves as it was has no meaning.

        Raises:
            AvelError: if a clip can't be read.
        """
        path = self.work / f"{kind}{level}-{len(ids)}.npz"
        if not path.is_file():
            # the modality that stays as it was is read by the quickest backbone, and not used
            audio = MINIS[0] if kind in TRUNK_WIDTH else self.audio
            visual = MINIS[1] if kind in HEARD else self.visual
            extractor = Extractor(audio=audio, visual=visual)
            heard, seen = [], []
            media = [open_media(self.root / clip) for clip in ids]
            made = extractor.many(
                Degraded.of(m, kind=kind, level=level, seed=i) for i, m in enumerate(media)
            )
            for _, found in made:
                if isinstance(found, Exception):
                    raise found
                if self.projection is not None and kind not in HEARD:
                    found = self.projection(found)
                heard.append(found.audio.astype(np.float16))
                seen.append(found.visual.astype(np.float16))
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole(path) as temporary, temporary.open("wb") as f:
                np.savez(f, audio=np.stack(heard), visual=np.stack(seen))
        with np.load(path, allow_pickle=False) as kept:
            return kept["audio"], kept["visual"]


def splits(
    root: Path, test: Split, work: Path, only: Sequence[str]
) -> Iterator[tuple[str, str, Split]]:
    """The test clips in every condition of some kinds, or of single ones (``blur:1``)."""
    features = Features(root, work)
    audio, visual = features(test.ids, *CLEAN)
    for kind, level in CONDITIONS:
        if not {"clean", *only} & {kind, f"{kind}:{level}"}:
            continue
        heard, seen = audio, visual
        if kind == "lost":
            heard, seen = (0 * audio, visual) if level == "sound" else (audio, 0 * visual)
        elif kind in HEARD:
            heard, _ = features(test.ids, kind, level)
        elif kind in TRUNK_WIDTH:
            _, seen = features(test.ids, kind, level)
        yield kind, level, replace(test, audio=heard, visual=seen, rows=None)


def first_clips(test: Split, count: int) -> Split:
    """The first so many clips of a split, without their features."""
    return test.subset(np.arange(min(count, len(test))))


# ---- runs


def find_runs(folder: Path) -> dict[str, list[Trained]]:
    """The SEL runs of a folder of `avel reproduce`, by what our tables call them, in their order.

    Raises:
        DataError: if there are none, or a system was trained with several recipes.
    """
    rows = {r.name: r for r in (*systems(), *modalities()) if r.task == "sel"}
    found: dict[str, list[Trained]] = {name: [] for name in rows}
    for done in sorted(folder.glob("*_sel/*/seed-*/done.json")):
        held = json.loads(done.read_text("utf-8"))["evaluation"]
        for name, row in rows.items():
            if (held["model"], held["options"]) == (row.model, dict(row.options) | _sizes(held)):
                found[name].append(load_trained(done.parent))
    found = {name: runs for name, runs in found.items() if runs}
    twice = [n for n, runs in found.items() if len({r.card["seed"] for r in runs}) < len(runs)]
    if twice or not found:
        what = f"several recipes of {', '.join(twice)}" if twice else "no SEL run"
        raise DataError(f"{folder} holds {what}",
                        expected="runs of `avel reproduce systems modalities`",
                        hint="name another folder, or remove what is old")  # fmt: skip
    return found


def _sizes(evaluation: Json) -> Json:
    """Options that are numbers: sizes, which a call may have changed and no row is about."""
    kept = evaluation["options"].items()
    return {k: v for k, v in kept if isinstance(v, int) and not isinstance(v, bool)}


def judge(run: Trained, held: Resident, but_last: Sequence[int] = ()) -> dict[str, float]:
    """SEL's metrics, and the segment accuracy without so many segments at every clip's end."""
    labels, _ = task_named("sel").predictor(run.network, held)(held.split)
    truth = held.split.labels
    metrics = segment_metrics(labels, truth, len(run.classes))
    for n in but_last:
        metrics[f"{BUT_LAST}{n}"] = float((labels[:, :-n] == truth[:, :-n]).mean())
    return metrics


def rows_of(
    kind: str, level: str, split: Split, runs: dict[str, list[Trained]], data: str
) -> Iterator[Json]:
    """A row a system and metric."""
    held = resident(split)
    late = [int(n) for k, n in CONDITIONS if k == "offset" and (kind, level) in ((k, n), CLEAN)]
    for name, own in runs.items():
        found = [judge(run, held, late) for run in own]
        for metric in found[0]:
            scale = 1 if metric == "boundary_error" else 100
            values = [scale * f[metric] for f in found if not np.isnan(f[metric])]
            yield {
                "condition": kind, "level": level, "system": name, "task": "sel", "metric": metric,
                f"ours_on_{data}": round(mean(values), 2) if values else "",
                "sd": round(stdev(values), 2) if len(values) > 1 else "", "n": len(values),
                "clips": len(split),
            }  # fmt: skip


# ---- the figure

#: Drawn in colour, the others grey.
SHOWN = (
    "CSPA+CSEA", "DMRN", "A+V-att", "DAM", "CSPA+CSEA, audio only", "CSPA+CSEA, picture only",
    "Evidence (ours)",
)  # fmt: skip


def draw(rows: Sequence[dict[str, str]], path: Path) -> None:
    """Segment accuracy of every system over each condition's levels, as a PNG."""
    from avel.figures import save_figure
    from avel.figures.style import new_figure

    kept = [r for r in rows if r["metric"] == "segment_accuracy"]
    figure = new_figure(11.0, 6.0)
    axes = figure.subplots(2, 3, sharey=True).ravel()
    for ax, (kind, title) in zip(axes, PANELS.items(), strict=False):
        _panel(ax, kept, kind)
        ax.set_title(title, fontsize="medium")
        ax.grid(alpha=0.3)
    for ax in axes[::3]:
        ax.set_ylabel("segment accuracy (%)")
    axes[-1].axis("off")
    lines, names = axes[0].get_legend_handles_labels()
    axes[-1].legend(lines, names, loc="center", frameon=False, fontsize="small")
    save_figure(figure, path, dpi=110)


def _panel(ax: Axes, rows: Sequence[dict[str, str]], kind: str) -> None:
    from avel.figures.style import COLOURS, GREY, MARKERS

    levels = [CLEAN] + [(k, level) for k, level in CONDITIONS if k == kind]
    names = list(dict.fromkeys(r["system"] for r in rows))
    line = kind not in UNORDERED
    for name in sorted(names, key=lambda n: n in SHOWN):
        own = {(r["condition"], r["level"]): float(ours(r)) for r in rows if r["system"] == name}
        values = [own[at] for at in levels]
        if name in SHOWN:
            i = SHOWN.index(name)
            ax.plot(values, marker=MARKERS[i], color=COLOURS[i], ms=4.5, lw=line and 1.6,
                    label=name, zorder=3)  # fmt: skip
        else:
            first = name == next(n for n in names if n not in SHOWN)
            ax.plot(values, color=GREY, lw=line and 0.8, alpha=0.6, marker=None if line else ".",
                    label="other systems" if first else None)  # fmt: skip
    ax.set_xticks(range(len(levels)), ["clean", *(level for _, level in levels[1:])])


def ours(row: dict[str, str]) -> str:
    """What a row of ours scored, whatever the data are called."""
    return next(v for k, v in row.items() if k.startswith("ours_on_"))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path, nargs="?")
    parser.add_argument(
        "--clips", type=int, default=300, help="the first so many of the test split"
    )
    parser.add_argument(
        "--only", default=",".join(PANELS), help="kinds of degradation, or kind:level, by commas"
    )
    parser.add_argument("--name", default=RESULTS, help=f"of the table in --results [{RESULTS}]")
    parser.add_argument("--work", type=Path, default=Path("runs/robustness"))
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "images")
    given = parser.parse_args()
    keep_memory()
    data = load_dataset("folder", root=given.data)
    work = given.work / fingerprint(data)[:12]
    only = given.only.split(",")
    made = splits(given.data, first_clips(data.test, given.clips), work, only)
    if given.runs is None:  # features alone
        for kind, level, _ in made:
            print(kind, level, flush=True)
        return
    runs, rows = find_runs(given.runs), list[Json]()
    for one in (run for own in runs.values() for run in own):
        data = align_classes(one, data)
    for kind, level, split in made:
        rows += rows_of(kind, level, split, runs, "pairs10")
        print(kind, level, flush=True)
    write_whole(given.results / given.name, table(rows))
    if set(only) >= set(PANELS):
        picture = Path(given.name).stem.replace("_", "-") + ".png"
        draw(read_rows(given.results / given.name), given.images / picture)


if __name__ == "__main__":
    main()
