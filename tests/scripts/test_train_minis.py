"""What the mini backbones learn from: the training side alone, mixed and drawn as it is said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import train_minis
from avel.data.composer.bank import Bank, find_sources
from avel.data.composer.recordings import RATE, Recording
from avel.data.toybox.scene import scene_rng
from avel.data.toybox.things import CLASSES
from minis import NAMES, PAIRS, composed, learning, pictures, sounds
from tests.conftest import ROOT

TOYS, C = len(CLASSES), len(NAMES)


@pytest.fixture(scope="module")
def bank(tmp_path_factory) -> Bank:
    """Folders with Pairs-10's names; the files hold nothing."""
    root = tmp_path_factory.mktemp("sources")
    for pair in PAIRS.pairs:
        own = root / "sounds" / pair.sound
        own.mkdir(parents=True)
        for fold, source in [(1, 10), (1, 11), (2, 12), (3, 13), (3, 14), (4, 15), (4, 16)]:
            (own / f"{fold}-{pair.sound}{source}-A.ogg").write_bytes(pair.sound.encode())
        own = root / "images" / pair.image
        own.mkdir(parents=True)
        for number in (0, 700, 1399, 1400, 1599, 1600, 1999):
            (own / f"{number:04d}.jpg").write_text(f"{pair.image} {number}")
    for file in (root / "sounds").rglob("*.ogg"):
        file.write_text(str(file))
    return find_sources(PAIRS, sounds=root / "sounds", images=root / "images")


def _tone(label: str, level: float = 0.1) -> np.ndarray:
    pitch = 300 * (1 + PAIRS.classes.index(label))
    return (level * np.sin(2 * np.pi * pitch * np.arange(5 * RATE) / RATE)).astype(np.float32)


@pytest.fixture
def read(monkeypatch) -> list[Path]:
    """What was read of the empty files: a tone for each class, a grey picture."""
    seen: list[Path] = []

    def recording(path: Path) -> Recording:
        seen.append(path)
        label = next(p.label for p in PAIRS.pairs if p.sound == path.parent.name)
        return Recording(_tone(label), ((0, 5 * RATE),))

    def picture(path: Path) -> Image.Image:
        seen.append(path)
        return Image.new("RGBA", (32, 32), (int(path.stem) % 200, 90, 90, 255))

    monkeypatch.setattr(sounds, "read_recording", recording)
    monkeypatch.setattr(pictures, "read_picture", picture)
    return seen


def test_only_the_training_side_is_learnt_from(bank, read):
    stock = sounds.gather(bank, 1)
    heard = {path.name for path in read}
    held_out = {f.file.split("/")[1] for s in ("val", "test") for own in bank.sounds[s].values()
                for f in own}  # fmt: skip
    assert heard and not heard & held_out and not any(name.startswith("4-") for name in heard)
    assert len(stock.rows) == C and sum(len(r) for s in stock.rows for r in s) == len(stock.tracks)
    read.clear()
    album = pictures.album(bank, 1)
    assert {int(path.stem) for path in read} == {0, 700, 1399}
    assert sorted(set(album.photo_labels.tolist())) == list(range(TOYS, C))


def test_sources_of_a_class_are_told_apart(bank, read):
    stock = sounds.gather(bank, 1)
    for label, own in zip(NAMES, stock.rows, strict=True):
        files = 1 if label in CLASSES else len(bank.sounds["train"][label])
        assert len(own) == files and all(len(r) == (1 if label in CLASSES else sounds.LAYS)
                                         for r in own)  # fmt: skip


@pytest.fixture
def mixer(bank, read) -> sounds.Mixer:
    return sounds.Mixer(sounds.gather(bank, 1), seed=5)


def test_mixtures_say_what_is_heard(mixer):
    x, heard = mixer.batch(24)
    assert x.shape == (24, 96, 64) and x.dtype == torch.float32 and torch.isfinite(x).all()
    assert set(heard.unique().tolist()) <= {-1, 0, 1}
    counts = (heard == 1).sum(1)
    assert 0 < counts.max() <= sounds.SLOTS and (counts == 0).any()
    again = sounds.Mixer(mixer.stock, seed=5).batch(24)
    assert torch.equal(x, again[0]) and torch.equal(heard, again[1])


def test_a_sound_below_the_noise_is_not_heard(mixer, monkeypatch):
    monkeypatch.setattr(mixer, "_labels", lambda: np.array([TOYS + 3]))
    loud = mixer.batch(8)[1]
    assert (loud[:, TOYS + 3] == 1).sum() >= 6
    monkeypatch.setattr(sounds, "_peak", lambda wave: 10 ** (-70 / 20))
    assert (mixer.batch(8)[1] == 0).all()


def test_masking_keeps_the_shape_and_most_of_it():
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(6, 96, 64) * 4 - 3
    masked = sounds.masked(x, draw)
    same = (masked - masked.mean((1, 2), keepdim=True)).abs() > 1e-3
    assert masked.shape == x.shape and 0.5 < same.float().mean() <= 1


def test_audible_seconds_are_the_loud_ones(bank, monkeypatch):
    def recording(path: Path) -> Recording:
        label = next(p.label for p in PAIRS.pairs if p.sound == path.parent.name)
        wave = _tone(label)
        wave[RATE : 2 * RATE] *= 0.05  # 26 dB softer than the rest
        wave[3 * RATE :] = 0
        return Recording(wave, ((0, 3 * RATE),))

    monkeypatch.setattr(sounds, "read_recording", recording)
    plain, even, labels = sounds.recorded_seconds(bank, "test")
    assert len(plain) == len(even) == len(labels) == 2 * 2 * len(PAIRS.classes)
    assert labels.unique().tolist() == list(range(TOYS, C))


def test_canvases_show_both_worlds_and_nothing(bank, read):
    album = pictures.album(bank, 2)
    draw = torch.Generator().manual_seed(3)
    x, labels = pictures.canvases(album, 40, 32, (0.6, 1.2), draw)
    assert x.shape == (40, 3, 32, 32) and torch.isfinite(x).all()
    assert (labels[-2:] == C).all() and (labels[:-2] < C).all()
    assert (labels < TOYS).sum() == 5 and ((labels >= TOYS) & (labels < C)).sum() == 33
    again = pictures.canvases(album, 40, 32, (0.6, 1.2), torch.Generator().manual_seed(3))
    assert torch.equal(x, again[0])


def test_things_lie_within_the_frame_and_cells_know_them(bank, read):
    painter = pictures.Painter(*pictures.photographs(bank, "train"))
    image, boxes = painter.frame(scene_rng("minis", 99, 4), 320, 240)
    assert image.size == (320, 240) and boxes
    for label, (x0, y0, x1, y1) in boxes:
        assert 0 <= label < C and 0 <= x0 < x1 <= 320 and 0 <= y0 < y1 <= 240
    frames, targets = pictures.frames_of(painter, 0, 8)
    assert frames.shape == (8, 224, 224, 3) and targets.shape == (8, 7, 7, C)
    target = pictures.cell_targets([(3, (0, 0, 64, 64))], 224, 224)
    assert (target[:2, :2, 3] == 1).all() and target.sum() == 4
    target = pictures.cell_targets([(3, (100, 100, 110, 110))], 224, 224)
    assert target[3, 3, 3] == 1 and (target == 1).sum() == 1  # small, but its middle is there


def test_truth_of_composed_clips():
    labels = PAIRS.classes
    clip = {
        "sounds": [{"label": labels[2], "spans": [[0.25, 2.5]]}],
        "things": [{"label": labels[4], "boxes": [None] * 6 + [[0, 0, 9, 9]] * 30}],
    }
    heard, seen = composed.truth_of(clip, 3)
    np.testing.assert_allclose(heard[:, 2], [0.75, 1, 0.5])
    np.testing.assert_allclose(seen[:, 4], [0.5, 1, 1])
    assert heard.sum() == heard[:, 2].sum() and seen.sum() == seen[:, 4].sum()


def test_scores_of_composed_seconds():
    share = np.zeros((4, 10))
    share[0, 1] = share[1, 2] = share[2, 3] = share[2, 4] = 1
    share[3, 5] = 0.2  # neither there nor absent: not judged
    logits = torch.full((4, 10), -5.0)
    logits[0, 1] = logits[2, 3] = logits[2, 0] = 5
    logits[1, 9] = 5
    told = composed._scores(logits, share, 1)
    assert told["seconds_with_one"] == 2 and told["accuracy_with_one"] == 0.5
    assert told["seconds_with_any"] == 3 and told["found_among_as_many"] == 0.5


def test_the_likeliest_of_all_twenty_counts():
    labels = torch.tensor([TOYS, TOYS, TOYS + 1])
    logits = torch.zeros(3, C)
    logits[0, TOYS] = logits[1, 0] = logits[2, TOYS + 1] = 1
    told = learning.one(logits, labels)
    assert told["accuracy"] == 0.6667
    assert told["by_class"] == {NAMES[TOYS]: 0.5, NAMES[TOYS + 1]: 1.0}


def test_absent_folders_are_told(tmp_path, monkeypatch, capsys):
    asked = ["train_minis.py", "--only", "audio", "--sounds", str(tmp_path / "nowhere")]
    monkeypatch.setattr("sys.argv", [*asked, "--images", str(tmp_path / "neither")])
    assert train_minis.main() == 1
    told = capsys.readouterr().err
    assert "nowhere" in told and "neither" in told and "Traceback" not in told


def test_cards_hold_what_was_judged():
    for kind, measured in (
        ("audio", ["audible_seconds_as_they_are", "toybox"]),
        ("visual", ["photographs_alone", *(f"photographs_pasted_{w}" for w in train_minis.WIDTHS)]),
    ):
        card = json.loads((train_minis.HOME / f"mini_{kind}.json").read_text("utf-8"))
        assert all(name in card["held_out"] for name in measured)
        assert card["command"] == train_minis.command(kind, 1)


def test_the_page_says_what_the_cards_say():
    page = (ROOT / "docs" / "bundled-backbones.md").read_text("utf-8")
    assert train_minis.page() in page, "see --page"
