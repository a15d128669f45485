"""Own classes on few real clips: six classes, five folds, every SEL system, two pairs of backbones.

    python benchmarks/own_classes.py REALS       # results/own_classes.csv and the docs' table

REALS holds ``clips/`` and ``truth.csv`` (``file,start,end,label``, seconds). Clips that hold one of
the six classes are taken; their events of other classes count as background. Every model is trained
by the small-data recipe, and cross-validated (:mod:`avel.evaluation.cross_validation`), as
`avel train MODEL data=DIR --folds 5` does. ``--set KEY=VALUE`` changes the recipe, and
``--copies N`` trains on altered copies too. Recipes were chosen on divisions 0 to 3, so others are
measured.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from pathlib import Path
from typing import Any

from common import RESULTS, ROOT, machine, write_csv

CLASSES = ("bark", "drums", "guitar", "violin", "speech", "fireworks")
BACKBONES = {
    "taggers": ("yamnet_segment", "efficientnet_lite0"),
    "mini": ("mini_audio", "mini_visual"),
    "two patches": ("yamnet", "efficientnet_lite0"),
}
#: Systems: the model, and the options that make it of the model's default.
MODELS: dict[str, tuple[str, list[str]]] = {
    "linear": ("linear", []),
    "A+V": ("av", ["inputs=a+v"]),
    "A+V-att": ("av", []),
    "DMRN": ("av", ["fusion=dmrn"]),
    "AVSDN": ("avsdn", []),
    "ED-TCN, both modalities": ("ed_tcn", ["modality=both"]),
    "DAM": ("dam", []),
    "JCA": ("jca", ["audio_out=128", "visual_out=128", "joint_out=256"]),
    "CSPA+CSEA": ("cspa_csea", []),
    "Evidence (ours)": ("evidence", []),
}
#: Those that every pair of backbones is measured with; the others with the taggers alone.
EVERYWHERE = ("linear", "A+V-att", "CSPA+CSEA")
METRICS = ("segment_accuracy", "event_f1_0.5")
CONSTANT = ("always_background", "most_frequent_class", "true_clip_class")
PAGE = ROOT / "docs" / "your-own-videos.md"
BEGIN, END = "<!-- own_classes: begin -->", "<!-- own_classes: end -->"


def make_folder(reals: Path, folder: Path) -> Path:
    """A data set of the clips that hold one of the classes, linked; events end with their clip."""
    from avel.media.file import open_media

    with (reals / "truth.csv").open(newline="", encoding="utf-8") as f:
        rows = [r for r in csv.DictReader(f) if r["label"] in CLASSES]
    ends = {}
    for name in sorted({r["file"] for r in rows}):
        (folder / name).symlink_to((reals / "clips" / name).resolve())
        ends[name] = open_media(folder / name).duration
    with (folder / "annotations.csv").open("w", newline="", encoding="utf-8") as f:
        table = csv.writer(f)
        table.writerow(["file", "start", "end", "label"])
        for r in rows:
            end = min(float(r["end"]), ends[r["file"]])
            table.writerow([r["file"], r["start"], f"{end:g}", r["label"]])
    return folder


def extract(folder: Path, pair: str, dtype: str, copies: int) -> float:
    """Features of one pair of backbones and so many altered copies; the minutes they took."""
    from avel.cli.main import main

    audio, visual = BACKBONES[pair]
    start = time.perf_counter()
    code = main(["extract", str(folder), "-o", str(folder / pair), "--audio", audio,
                 "--visual", visual, "--dtype", dtype, "--copies", str(copies)])  # fmt: skip
    if code:
        raise SystemExit(code)
    return (time.perf_counter() - start) / 60


def measure(
    folder: Path, pair: str, title: str, dtype: str, given: argparse.Namespace
) -> dict[str, Any]:
    """A row: a model on a pair of backbones, over all folds of all partitions."""
    from dataclasses import replace

    from avel.data import load_dataset
    from avel.evaluation.cross_validation import cross_validate
    from avel.training.recipes import resolve

    data = load_dataset(
        "folder", root=folder, features=folder / pair, dtype=dtype, copies=given.copies > 0
    )
    found_copies = {len(split.copies) for split in data.splits.values()}
    if found_copies != {given.copies}:
        raise SystemExit(f"{folder / pair} has {found_copies} copies, not {given.copies}")
    (name, options), start = MODELS[title], time.perf_counter()
    recipe = resolve(name, small=not given.paper, pairs=[*options, *given.set])
    found = [
        cross_validate(name, data, given.folds, recipe=recipe, seed=seed)
        for seed in range(given.first, given.first + given.partitions)
    ]
    took = (time.perf_counter() - start) / 60
    whole = replace(found[0], folds=tuple(f for v in found for f in v.folds))
    row: dict[str, Any] = {
        "backbones": "+".join(BACKBONES[pair]), "maps": dtype, "model": title,
        "recipe": "paper" if given.paper else "small", "changed": " ".join(given.set),
        "copies": given.copies, "clips": whole.recordings, "first": given.first,
        "partitions": given.partitions, "folds": given.folds,
        "segments": sum(f.segments for f in found[0].folds),
    }  # fmt: skip
    for metric in METRICS:
        m = whole[metric]
        row |= {metric: f"{m.mean:.4f}", f"{metric}_sd": f"{m.sd or 0:.4f}"}
        row |= {f"{c}_{metric}": f"{whole.baseline(c, metric).mean:.4f}" for c in CONSTANT}
    row |= {"epochs": " ".join(str(v.epochs) for v in found), "train_minutes": f"{took:.1f}"}
    print(whole, f"\n{pair} {dtype}, {took:.1f} min\n", flush=True)
    return row


def docs_table(rows: list[dict[str, Any]]) -> str:
    """The rows as the page shows them."""

    def cell(row: dict[str, Any], metric: str) -> str:
        return f"{100 * float(row[metric]):.1f} ± {100 * float(row[metric + '_sd']):.1f}"

    lines = ["| backbones | model | altered copies | divisions | segment accuracy | "
             "event F1 at IoU 0.5 | minutes |",
             "| --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    lines += [
        f"| {r['backbones']} | {r['model']} | {r['copies']} | {divisions(r)} | "
        f"{cell(r, METRICS[0])} | {cell(r, METRICS[1])} | {r['train_minutes']} |"
        for r in rows
        if r["maps"] == "float16" and not r["changed"] and r["recipe"] == "small"
    ]
    for name in CONSTANT:
        values = [f"{100 * float(rows[0][f'{name}_{m}']):.1f}" for m in METRICS]
        lines.append(f"| | {name.replace('_', ' ')} | | | {values[0]} | {values[1]} | |")
    first = rows[0]
    told = (
        f"Mean ± standard deviation over {first['folds']} folds of {first['clips']} clips "
        f"({first['segments']} segments), of one or several divisions, in percent; minutes "
        "of training all folds beside other programs (the CSV names each row's processor and load)."
    )
    return "\n".join([*lines, "", told, *changes_table(cell)])


def divisions(row: dict[str, Any]) -> str:
    """The seeds of the divisions that a row was measured on."""
    first, last = int(row["first"]), int(row["first"]) + int(row["partitions"]) - 1
    return f"{first} to {last}" if last > first else str(first)


def changes_table(cell: Any) -> list[str]:
    """What changes of the recipe gave, beside the recipe: as measured when it was chosen."""
    with (RESULTS / "own_classes_recipe.csv").open(newline="", encoding="utf-8") as f:
        rows = [r for r in csv.DictReader(f) if r["maps"] == "float16"]
    changed = [r for r in rows if r["changed"]]
    known = {(r["backbones"], r["model"]) for r in changed}
    plain = [r for r in rows if not r["changed"] and (r["backbones"], r["model"]) in known]
    text = (
        "Changes of the recipe, on another division of the same clips into folds "
        "([results/own_classes_recipe.csv](../results/own_classes_recipe.csv)):"
    )
    return ["", text, "", "| backbones | model | recipe | segment accuracy | event F1 at IoU 0.5 |",
            "| --- | --- | --- | --- | --- |"] + [
        f"| {r['backbones']} | {r['model']} | {r['changed'] or 'small'} | {cell(r, METRICS[0])} | "
        f"{cell(r, METRICS[1])} |"
        for r in [*plain, *changed]
    ]  # fmt: skip


def main() -> None:
    """Measure, print, write."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    asked.add_argument("reals", type=Path)
    asked.add_argument("--folds", type=int, default=5)
    asked.add_argument("--partitions", type=int, default=4, help="divisions into folds [4]")
    asked.add_argument("--first", type=int, default=4, help="of them, by its seed [4]")
    asked.add_argument("--copies", type=int, default=0, help="altered copies of each clip [0]")
    asked.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    asked.add_argument("--backbones", nargs="+", default=list(BACKBONES), choices=list(BACKBONES))
    asked.add_argument("--paper", action="store_true", help="the papers' recipes")
    asked.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    asked.add_argument("--keep", type=Path, help="a folder for the features, kept")
    asked.add_argument("--no-write", action="store_true")
    given = asked.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        if not (folder / "annotations.csv").is_file():
            folder.mkdir(parents=True, exist_ok=True)
            make_folder(given.reals, folder)
        for pair in given.backbones:
            took = extract(folder, pair, "float32", given.copies)
            for title, dtype in cases(pair, given.models, plain=not given.set):
                row = measure(folder, pair, title, dtype, given)
                rows.append({**row, "extract_minutes": f"{took:.1f}", **machine()})
                if not given.no_write:  # what is measured is kept, also where it is stopped
                    write(rows)
    print(docs_table(rows))


def cases(pair: str, titles: list[str], *, plain: bool) -> list[tuple[str, str]]:
    """Models and how their features are stored: all as halves, one of them in full as well."""
    if pair == "two patches":
        return [(t, "float16") for t in titles if t == "linear"]
    if pair != "taggers":
        titles = [t for t in titles if t in EVERYWHERE]
    whole = [("linear", "float32")] if plain and pair == "taggers" and "linear" in titles else []
    return [*whole, *((t, "float16") for t in titles)]


def _key(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(row[k] for k in ("backbones", "maps", "model", "recipe", "changed", "copies"))


def write(rows: list[dict[str, Any]]) -> None:
    """The CSV and the page's table; earlier rows of what wasn't measured again stay."""
    path = RESULTS / "own_classes.csv"
    known: dict[tuple[str, ...], dict[str, Any]] = {}
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as f:
            known = {_key(row): row for row in csv.DictReader(f)}
    rows = list((known | {_key({k: str(v) for k, v in row.items()}): row for row in rows}).values())
    order = list(MODELS)
    rows.sort(key=lambda r: (r["backbones"].startswith("mini"), r["backbones"], r["maps"],
                             str(r["copies"]), order.index(r["model"])))  # fmt: skip
    write_csv(path, rows)
    text = PAGE.read_text("utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{docs_table(rows)}\n{END}{after}", "utf-8")


if __name__ == "__main__":
    main()
