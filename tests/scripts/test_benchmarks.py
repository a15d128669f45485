"""benchmarks/: the scripts can be loaded, and what they replace in avel is there."""

from __future__ import annotations

import pytest

import avel.features.extractor as extractor
from avel.cli.demo import CLIP
from avel.features.corpus import Settings
from tests.conftest import ROOT, load_script

SCRIPTS = sorted(p.stem for p in (ROOT / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_it_can_be_loaded(name: str) -> None:
    assert load_script(name, folder="benchmarks").__doc__


def test_media_compares_the_frame_times_with_the_files_own() -> None:
    row = load_script("media", folder="benchmarks").check_times(CLIP)
    assert row["frames"] == row["frames_expected"] > 100
    assert float(row["max_difference_s"]) < 1e-3


def test_localize_gives_its_backbones_random_weights() -> None:
    with load_script("localize", folder="benchmarks").random_weights():
        networks = extractor.Extractor(audio="mini_audio", visual="mini_visual")
        cards = networks.audio_network.card, networks.visual_network.card
    assert [card["weights"] for card in cards] == ["random", "random"]


def test_workers_keep_the_weights_that_are_here(monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = extractor.find_backbone
    monkeypatch.setattr(extractor, "find_backbone", shipped)  # restored in the end
    settings = Settings(audio="mini_audio", visual="mini_visual", precision="float32")
    load_script("workers", folder="benchmarks").start_random(settings)
    assert extractor.find_backbone is not shipped
    card, _ = extractor.find_backbone("mini_visual", modality="visual")
    assert card == shipped("mini_visual", modality="visual")[0]
