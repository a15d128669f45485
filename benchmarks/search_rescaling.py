"""Whether a correction for clips that are near to every query helps; write search_rescaling.csv.

    python benchmarks/search_rescaling.py REALS

The search subtracts the candidates' mean. Here, besides, a candidate's distance is lowered by a
share of its mean distance to the ``near`` of the other queries that are nearest to it (local
scaling, as CSLS does: Conneau et al. 2018, "Word translation without parallel data"). Queries and
right clips are those of ``search_reals.py``.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, machine, write_csv
from numpy.typing import NDArray
from search_reals import SETTINGS, clip_files, first_rank, read_labels, searchable, summary

#: Other queries that are taken, and the share of their mean distance; 0 changes nothing.
RESCALINGS = ((0, 0.0), (5, 0.5), (10, 0.5), (10, 1.0), (30, 0.5), (30, 1.0))


def distances_of(folder: Path, index: Path, **options: Any) -> NDArray[np.float64]:
    """(N, N) the distance of each clip's (row) best window in each other clip; NaN without one."""
    from avel.errors import AvelError
    from avel.search.matcher import Matcher

    files, search = clip_files(folder), Matcher()
    columns = {str(file): k for k, file in enumerate(files)}
    distances = np.full((len(files), len(files)), np.nan)
    for row, query in enumerate(files):
        others = [f for f in files if f != query]
        try:
            result = search(
                query, others, top=len(others), one_per_file=True, index=index, **options
            )
        except AvelError:  # a clip without the modality
            continue
        for match in result:
            distances[row, columns[match.file]] = match.distance
    return distances


def rescaled(distances: NDArray[np.float64], near: int, share: float) -> NDArray[np.float64]:
    """(N, N) each distance less a share of the candidate's mean over its nearest other queries."""
    result = distances.copy()
    for row, column in np.argwhere(np.isfinite(distances)):
        others = np.delete(distances[:, column], [row, column])
        nearest = np.sort(others[np.isfinite(others)])[:near]
        result[row, column] -= share * nearest.mean() if len(nearest) else 0.0
    return result


def measured(folder: Path, index: Path) -> list[dict[str, Any]]:
    """A row a setting and rescaling."""
    files, labels = clip_files(folder), read_labels(folder)
    names, queries = [f.name for f in files], searchable(labels)
    rows = []
    for setting, options in SETTINGS.items():
        distances = distances_of(folder, index, **options)
        for near, share in RESCALINGS:
            changed = rescaled(distances, near, share) if near else distances
            ranks, rights = [], []
            for query in queries:
                row = changed[names.index(query)]
                order = [names[k] for k in np.argsort(row, kind="stable") if np.isfinite(row[k])]
                right = {n for n in names if n != query and labels[n] & queries[query]}
                ranks.append(first_rank(order, right, len(names) - 1))
                rights.append(len(right))
            ranking = summary(ranks, rights, len(names) - 1)
            ranking = {k: v for k, v in ranking.items() if not k.startswith("chance")}
            rows.append({"setting": setting, "near": near, "share": share} | ranking)
            print(rows[-1], file=sys.stderr, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reals", type=Path)
    parser.add_argument("--csv", type=Path, default=RESULTS / "search_rescaling.csv")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    with tempfile.TemporaryDirectory() as folder:
        rows = measured(options.reals, Path(folder) / "clips.safetensors")
    here = machine()
    write_csv(options.csv, [row | here for row in rows])


if __name__ == "__main__":
    main()
