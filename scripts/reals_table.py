"""The tables of real clips, as the README and docs/named-events.md hold them.

python scripts/reals_table.py [--labels]
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from avel.figures.curves import read_rows

RESULTS = Path(__file__).resolve().parents[1] / "results"
NUMBERS = {"shipped": "as it ships", "cross-validated": "chosen without the evaluated clips"}
MODALITIES = {"both": "sound and picture", "audio": "sound alone", "visual": "picture alone"}


def main_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Both kinds of numbers, by modality."""
    lines = [
        "| numbers | reads | right tag | segment F1 | event F1, IoU 0.3 | IoU 0.5 | false events |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in rows:
        share = 100 * int(r["tags"]) / int(r["clips"])
        cells = (
            NUMBERS[r["numbers"]],
            MODALITIES[r["modality"]],
            f"{r['tags']} of {r['clips']} clips ({share:.0f} %)",
            *(f"{float(r[k]):.2f}" for k in ("segment_f1", "event_f1_30", "event_f1_50")),
            f"in {r['false']} of {r['others']} clips",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def label_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Every label of the truth."""
    lines = [
        "| event | clips | segments | segment F1 | events | event F1, IoU 0.3 |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for r in rows:
        f1 = (f"{float(r[k]):.2f}" for k in ("segment_f1", "event_f1_30"))
        lines.append(
            f"| {r['label']} | {r['clips']} | {r['segments']} | {next(f1)} | {r['events']} "
            f"| {next(f1)} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Print one of the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", action="store_true", help="by event")
    given = parser.parse_args()
    if given.labels:
        print(label_table(read_rows(RESULTS / "reals_labels.csv")))
    else:
        print(main_table(read_rows(RESULTS / "reals.csv")))


if __name__ == "__main__":
    main()
