"""Project a data folder's visual features onto their principal components, in a second folder.

    avel extract data/pairs10
    python scripts/project_features.py data/pairs10 data/pairs10-256 --width 256

Maps of 1280 channels cost five times what 256 cost in every training step. The components are
those of the training split's regions (a fifth of its clips, at least 100; no altered copies), so
no other split is looked at. OUT has links to the labels and videos, ``features/``, and
``projection.safetensors`` with the mean, the components and the share of the variance that they
hold. What exists is kept.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from avel.data.packed import feature_files
from avel.features.store import FOLDER
from avel.files import write_whole
from avel.types import Features

PROJECTION = "projection.safetensors"
#: What stands between a backbone's name and its width in the name of projected ones.
PROJECTED = "-pca"
#: Every so many training clips is read.
EVERY, LEAST = 5, 100


@dataclass(frozen=True)
class Projection:
    """The first principal components of a backbone's channels.

    Args:
        mean: (V,) of the channels.
        components: (V, width), orthonormal columns.
        share: The share of the variance that they hold.
    """

    mean: NDArray[np.float32]
    components: NDArray[np.float32]
    share: float

    @classmethod
    def fit(cls, regions: NDArray[np.float32], width: int) -> Projection:
        """The components of (n, V) regions."""
        mean = regions.mean(0, dtype=np.float64)
        centred = regions - mean.astype(np.float32)
        covariance = (centred.T @ centred).astype(np.float64) / len(regions)
        values, vectors = np.linalg.eigh(covariance)
        share = float(values[::-1][:width].sum() / values.sum())
        components = np.ascontiguousarray(vectors[:, ::-1][:, :width], np.float32)
        return cls(mean.astype(np.float32), components, share)

    @classmethod
    def load(cls, folder: Path) -> Projection:
        """What a projected data folder was made with."""
        arrays = load_file(folder / PROJECTION)
        return cls(arrays["mean"], arrays["components"], float(arrays["share"][0]))

    def save(self, folder: Path) -> None:
        """Write it into a projected data folder."""
        share = np.array([self.share])
        write_whole(
            folder / PROJECTION,
            save({"mean": self.mean, "components": self.components, "share": share}),
        )

    def __call__(self, features: Features) -> Features:
        """The features with their maps projected, none staying none; the card says so."""
        visual = (features.visual - self.mean) @ self.components
        visual[~features.visual.any((1, 2, 3))] = 0
        card = dict(features.visual_card)
        card["output"] = [*visual.shape[1:-1], visual.shape[-1]]
        card["name"] = f"{card['name']}{PROJECTED}{visual.shape[-1]}"
        return replace(features, visual=visual, visual_card=card)


def main() -> None:
    """Project a folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--width", type=int, default=256, help="channels that remain [256]")
    given = parser.parse_args()
    folder, out = given.folder.resolve(), given.out
    source = folder / FOLDER
    files = sorted(source.rglob("*.safetensors"))
    out.mkdir(parents=True, exist_ok=True)
    for item in folder.iterdir():
        link = out / item.name
        if item.name != FOLDER and not item.name.startswith(".") and not link.exists():
            link.symlink_to(item)
    if (out / PROJECTION).exists():
        projection = Projection.load(out)
    else:
        lines = (folder / "trainSet.txt").read_text("utf-8").splitlines()
        names = {line.split("&")[1] for line in lines}
        chosen = [f for f in feature_files(source) if f.stem in names]
        chosen = chosen[:: max(1, min(EVERY, len(chosen) // LEAST))]
        regions = [Features.load(f).visual for f in chosen]
        flat = np.concatenate([r.reshape(-1, r.shape[-1]) for r in regions]).astype(np.float32)
        projection = Projection.fit(flat, given.width)
        projection.save(out)
    print(
        json.dumps({"width": projection.components.shape[1], "share": round(projection.share, 4)})
    )
    for file in files:
        target = out / FOLDER / file.relative_to(source)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            projection(Features.load(file)).save(target, dtype="float16")


if __name__ == "__main__":
    main()
