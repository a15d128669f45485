"""A file is probed once and opened a few times on its whole way: from the path to the report."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

import avel
from avel.backbones.load import load_backbone
from avel.cli.main import main
from avel.errors import CheckpointError, UsageError
from avel.inference.checkpoint import Trained
from avel.inference.localizer import Localizer
from avel.media import file as media_file
from avel.media.encode import write_video
from avel.models.base import build_model
from avel.search.matcher import Matcher
from tests.report_samples import write_clip

#: The probe, a pass each for sound and picture, the thumbnails, the spectrogram.
MOST = 5


@pytest.fixture(scope="module")
def untrained() -> Trained:
    torch.manual_seed(0)
    cards = [load_backbone(f"mini_{m}", modality=m)[1] for m in ("audio", "visual")]
    dims = {"audio": 128, "visual": 128}
    network = build_model("av", audio_dim=128, visual_dim=128, classes=2, task="sel")
    card = {"model": "av", "task": "sel", "classes": ["bell", "dog"], "dims": dims, "step": 1.0}
    card |= {"window": 4, "audio_card": cards[0], "visual_card": cards[1]}
    return Trained(network, card)


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often files were opened and probed, by ``opened NAME`` and ``probed NAME``."""
    counted: Counter[str] = Counter()
    real_open, real_probe = av.open, media_file.probe

    def counting_open(file: Any, *args: Any, **options: Any) -> Any:
        counted[f"opened {Path(str(file)).name}"] += 1
        return real_open(file, *args, **options)

    def counting_probe(path: Path, **options: Any) -> Any:
        counted[f"probed {path.name}"] += 1
        return real_probe(path, **options)

    monkeypatch.setattr(av, "open", counting_open)
    monkeypatch.setattr(media_file, "probe", counting_probe)
    return counted


def test_a_copy_of_a_video_costs_no_second_probe(
    tmp_path: Path, counts: Counter[str], monkeypatch: pytest.MonkeyPatch, untrained: Trained
) -> None:
    monkeypatch.setattr("avel.inference.load.load_model", lambda *_: untrained)
    clip = write_clip(tmp_path / "clip.mp4", seconds=4)
    counts.clear()
    outputs = [str(tmp_path / name) for name in ("clip.html", "copy.mp4", "clip.json")]
    assert main(["localize", str(clip), "-o", *outputs]) == 0
    assert all(Path(output).exists() for output in outputs)
    assert counts["probed clip.mp4"] == 1


def test_a_query_may_be_an_open_file_or_its_features(tmp_path: Path, counts: Counter[str]) -> None:
    clips = [write_clip(tmp_path / f"{name}.mp4", seconds=6) for name in ("query", "other")]
    matcher = Matcher("toybox_match")
    by_path = matcher(clips[0], clips[1:], modality="audio")
    media = avel.open(clips[0])
    counts.clear()
    assert matcher(media, clips[1:], modality="audio") == by_path
    assert not counts["probed query.mp4"]
    features = avel.extract(media, **matcher.model.feature_options)
    by_features = matcher(features, clips[1:], modality="audio")
    assert by_features.query == "query.mp4" and by_features.start == by_path.start
    with pytest.raises(CheckpointError, match="segments"):
        matcher(avel.extract(media, **{**matcher.model.feature_options, "step": 2.0}), clips[1:])


def test_a_clip_with_a_report_is_probed_once_by_the_command(
    tmp_path: Path, counts: Counter[str], monkeypatch: pytest.MonkeyPatch, untrained: Trained
) -> None:
    monkeypatch.setattr("avel.inference.load.load_model", lambda *_: untrained)
    clip = write_clip(tmp_path / "clip.mp4", seconds=8)
    counts.clear()
    assert main(["localize", str(clip), "-o", str(tmp_path / "clip.html")]) == 0
    page = (tmp_path / "clip.html").read_text("utf-8")
    assert "data:image/png" in page and "data:image/jpeg" in page
    assert counts["probed clip.mp4"] == 1
    assert counts["opened clip.mp4"] <= MOST


def test_a_clip_with_a_report_is_probed_once_in_python(
    tmp_path: Path, counts: Counter[str], untrained: Trained
) -> None:
    clip = write_clip(tmp_path / "clip.mp4", seconds=8)
    by_path = Localizer(untrained)(clip)
    counts.clear()
    media = avel.open(clip)
    timeline = avel.localize(media, model=untrained)
    assert timeline.to_json() == by_path.to_json()
    timeline.save(tmp_path / "clip.html")
    assert counts["probed clip.mp4"] == 1
    assert counts["opened clip.mp4"] <= MOST


def test_thumbnails_far_apart_open_a_file_twice(tmp_path: Path, counts: Counter[str]) -> None:
    clip = write_clip(tmp_path / "clip.mp4", seconds=90)
    times = [float(t) for t in range(5, 90, 8)]
    one_by_one = [media_file.frames_at(clip, [t], width=64)[0] for t in times]
    media = avel.open(clip)
    counts.clear()
    together = media_file.frames_at(media, times, width=64)
    assert counts["opened clip.mp4"] <= 2
    for image, expected in zip(together, one_by_one, strict=True):
        assert image is not None and expected is not None
        np.testing.assert_array_equal(image, expected)


def test_a_file_that_has_changed_is_probed_again(
    tmp_path: Path, counts: Counter[str], untrained: Trained
) -> None:
    clip = write_clip(tmp_path / "clip.mp4", seconds=4)
    timeline = Localizer(untrained)(clip)
    write_clip(clip, seconds=6)
    timeline.save(tmp_path / "clip.html")
    assert counts["probed clip.mp4"] == 2
    clip.unlink()
    timeline.save(tmp_path / "clip.html")
    assert "this page has no pictures" in (tmp_path / "clip.html").read_text("utf-8")


def test_features_of_a_file_are_localized_without_the_file(
    tmp_path: Path, counts: Counter[str], untrained: Trained
) -> None:
    clip = write_clip(tmp_path / "clip.mp4", seconds=8)
    media = avel.open(clip)
    whole = avel.localize(media, model=untrained)
    features = avel.extract(media, **untrained.feature_options)
    counts.clear()
    clip.unlink()
    progress: list[tuple[int, int]] = []
    found = avel.localize(
        features, model=untrained, progress=lambda *counts: progress.append(counts)
    )
    assert found.video == "clip.mp4"
    assert found.to_json() | {"video": str(clip)} == whole.to_json()
    assert progress == [(8, 8)]
    assert not counts


@pytest.mark.parametrize("missing", ["sound", "picture"])
def test_features_say_what_a_file_lacks(tmp_path: Path, untrained: Trained, missing: str) -> None:
    from tests.media_files import grey, tone

    clip = tmp_path / "clip.mkv"
    frames = () if missing == "picture" else [grey(60)] * 20
    audio = None if missing == "sound" else tone(2, 16000)
    write_video(clip, frames=frames, fps=10, audio=audio, rate=16000)
    media = avel.open(clip)
    whole = avel.localize(media, model=untrained)
    found = avel.localize(avel.extract(media, **untrained.feature_options), model=untrained)
    assert found.notes == whole.notes and any(f"no {missing}" in n for n in found.notes)


def test_tracks_are_chosen_where_a_file_is_opened(tmp_path: Path, untrained: Trained) -> None:
    clip = write_clip(tmp_path / "clip.mp4", seconds=2)
    find = Localizer(untrained)
    for video in (avel.open(clip), avel.extract(clip, **untrained.feature_options)):
        with pytest.raises(UsageError, match="track"):
            find(video, audio_track=0)
