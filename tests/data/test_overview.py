"""A data set's annotations in numbers, and the figure of them (tian2018 fig. 2)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avel.cli.main import main
from avel.data.overview import Overview, overview
from avel.errors import DataError
from avel.figures.dataset import CLASSES, dataset_panels, length_bins, title

OWN = """file,start,end,label
a.mp4,0.5,2.25,dog
a.mp4,4,9.5,"glass, breaking"
a.mp4,9.5,9.75,dog
b.mp4,1,3,dog
c.mp4,10,70,siren
d.mp4,,,
e.mp4,5,1,dog
"""


def write(folder: Path, text: str = OWN, name: str = "annotations.csv") -> Path:
    (folder / name).write_text(text, "utf-8")
    return folder


def test_an_own_folder_by_hand(tmp_path: Path) -> None:
    found = overview(write(tmp_path))
    assert found.classes == {"dog": 2, "glass, breaking": 1, "siren": 1}, "clips, not events"
    assert found.lengths == (1.75, 5.5, 0.25, 2.0, 60.0)
    assert (found.clips, found.left_out, found.background) == (4, 1, None)


def test_ave_is_what_its_paper_and_the_counts_say(shared: Path) -> None:
    """Section 3.1: 60 to 188 videos a class, 66.4 % of the events over the full ten seconds."""
    found = overview(shared / "ave")
    assert (found.clips, found.videos, len(found.classes)) == (4143, 4097, 28)
    assert (min(found.classes.values()), max(found.classes.values())) == (60, 188)
    lengths = np.array(found.lengths)
    assert np.bincount(lengths.astype(int)).tolist() == [
        0, 0, 214, 220, 217, 196, 200, 139, 111, 95, 2750
    ]  # fmt: skip
    assert (lengths == 10).mean() == pytest.approx(0.664, abs=5e-4)
    assert found.background == pytest.approx(0.171, abs=5e-4)
    bars, histogram = dataset_panels(found)
    assert [bar.get_width() for bar in bars] == sorted(found.classes.values(), reverse=True)
    assert [bar.get_height() for bar in histogram][-1] == 2750
    centres = [bar.get_x() + bar.get_width() / 2 for bar in histogram]
    assert centres == pytest.approx(list(range(2, 11)))


def test_bins_fit_the_lengths() -> None:
    whole, _ = length_bins(np.array([2.0, 5.0, 3.0]))
    assert whole.tolist() == [1.5, 2.5, 3.5, 4.5, 5.5]
    even, logarithmic = length_bins(np.array([0.7, 5.0, 9.3]))
    assert not logarithmic and even[0] == 0 and even[-1] > 9.3
    wide, logarithmic = length_bins(np.array([0.7, 5.0, 600.0]))
    assert logarithmic and wide[0] == pytest.approx(0.7) and wide[-1] > 600
    one, _ = length_bins(np.array([4.0]))
    assert one.tolist() == [3.5, 4.5]


def test_of_many_classes_the_most_frequent_are_drawn_and_the_title_says_so() -> None:
    counts = {f"class {i}": i + 1 for i in range(CLASSES + 40)}
    many = Overview("many", 200, 200, counts, (1.0, 2.0))
    bars, _ = dataset_panels(many)
    assert len(bars) == CLASSES and bars[0].get_width() == CLASSES + 40
    assert f"{CLASSES} most frequent of {CLASSES + 40}" in bars[0].axes.get_title()
    assert (
        title(replace(many, left_out=3)) == "many: 200 clips, 100 classes, 2 events, 3 rows unread"
    )


def test_folders_without_events_end_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DataError, match="no annotations"):
        overview(tmp_path)
    write(tmp_path, "file,start,end,label\na.mp4,,,\nb.mp4,x,3,dog\n")
    assert main(["plot", "dataset", str(tmp_path), "-o", str(tmp_path / "x.png")]) == 1
    error = capsys.readouterr().err
    assert "no annotated event; 1 row can't be read: annotations.csv:3" in error
    assert "avel check" in error and not (tmp_path / "x.png").exists()
    write(tmp_path)
    assert main(["plot", "dataset", str(tmp_path), "-o", str(tmp_path / "x.gif")]) == 2
