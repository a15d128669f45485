"""Extraction: the same whatever the batch, zeros for what is missing, folders done once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import avel
from avel.backbones.base import Card
from avel.backbones.identity import backbone_identity
from avel.cli.main import main
from avel.errors import DataError, MediaError, UsageError
from avel.features.cache import features_of
from avel.features.extractor import Extractor, extract
from avel.features.listing import plan
from avel.features.logmel import log_mel
from avel.features.network import worst_cosine
from avel.features.store import feature_path, up_to_date
from avel.media.file import RATE, Media, Segment, open_media
from avel.types import Features
from tests.media_files import grey, mux, tone

MODULE = "avel.features.extractor"


class Seeing(nn.Module):
    """Mean colour of each quarter of the picture: (N, 2, 2, 3)."""

    card = Card("seeing", "visual", (2, 2, 3), "", "", frames=4)

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def forward(self, frames: Tensor) -> Tensor:
        assert frames.shape[1:] == (224, 224, 3) and frames.dtype == torch.uint8
        self.seen.append(len(frames))
        quarters = frames.float().reshape(-1, 2, 112, 2, 112, 3)
        return quarters.mean((2, 4))


class Hearing(nn.Module):
    """Mean of each mel band: (N, 64)."""

    card = Card("hearing", "audio", (64,), "", "")

    def forward(self, patches: Tensor) -> Tensor:
        assert patches.shape[1:] == (96, 64)
        return patches.mean(1)


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str, *, modality: str) -> tuple[dict[str, Any], type[nn.Module]]:
        card = {"name": name, "modality": modality, "hash": "md5:0", "output": (1, 2)}
        return card, Hearing if modality == "audio" else Seeing

    monkeypatch.setattr(f"{MODULE}.find_backbone", find)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """3.4 s: a picture that changes, and a tone from 1.2 s on."""
    rng = np.random.default_rng(3)
    pictures = [(i / 8, rng.integers(0, 255, (2, 2, 3), np.uint8).repeat(32, 0).repeat(32, 1))
                for i in range(27)]  # fmt: skip
    return mux(tmp_path / "clip.mkv", pictures=pictures, sounds=[(1.2, tone(2.1, RATE))])


def plainly(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Audio and visual rows, segment by segment and frame by frame."""
    rows = []
    for s in open_media(path).segments(frames=4):
        heard = Hearing()(log_mel(torch.from_numpy(s.audio)[None]))[0].numpy()
        maps = [Seeing()(torch.from_numpy(f)[None])[0].numpy() for f in s.frames]
        rows.append((heard * (s.n_samples_present > 0), np.mean(maps, axis=0)))
    return np.stack([r[0] for r in rows]), np.stack([r[1] for r in rows])


@pytest.mark.parametrize("batch", [1, 3, 1000])
def test_equals_the_plain_way_at_any_batch(fakes: None, clip: Path, batch: int) -> None:
    found = extract(clip, batch=batch)
    audio, visual = plainly(clip)
    assert found.audio.shape == (4, 64) and found.visual.shape == (4, 2, 2, 3)
    assert np.abs(found.audio - audio).max() < 1e-4
    assert np.abs(found.visual - visual).max() < 1e-3
    assert found.visible.all() and found.audible.tolist() == [False, True, True, True]
    assert not found.audio[0].any()
    assert found.source == "clip.mkv" and found.visual_card["name"] == "mini_visual"


def test_the_backbones_card_tells_the_offset_of_its_log_mel(
    fakes: None, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = extract(clip)
    monkeypatch.setattr(Hearing, "card", replace(Hearing.card, log_offset=0.5))
    found = extract(clip)
    for row, segment in list(zip(found.audio, open_media(clip).segments(), strict=True))[1:]:
        patch = log_mel(torch.from_numpy(segment.audio)[None], offset=0.5)
        assert np.abs(row - Hearing()(patch)[0].numpy()).max() < 1e-4
    assert np.abs(found.audio - usual.audio).max() > 1


@pytest.mark.parametrize("step", [0.3333, 1 / 7, 2.5])
def test_segments_of_any_length(fakes: None, clip: Path, step: float) -> None:
    """Some are a sample longer than others where the step is no whole number of samples."""
    found = extract(clip, step=step)
    for row, segment in zip(found.audio, open_media(clip).segments(step=step), strict=True):
        heard = Hearing()(log_mel(torch.from_numpy(segment.audio)[None]))[0].numpy()
        assert np.abs(row - heard * (segment.n_samples_present > 0)).max() < 1e-4


def test_what_is_missing_is_zeros(fakes: None, tmp_path: Path) -> None:
    sound = mux(tmp_path / "a.wav", sounds=[(0.0, tone(2, RATE))])
    found = extract(sound)
    assert not found.visible.any() and not found.visual.any() and found.audio.any(1).all()
    mute = mux(tmp_path / "b.mkv", pictures=[(i / 4, grey(200)) for i in range(8)])
    found = extract(mute)
    assert not found.audible.any() and not found.audio.any() and found.visual.min() > 150
    silent = np.concatenate([tone(1, RATE), np.zeros(RATE, np.float32)])
    found = extract(mux(tmp_path / "c.wav", sounds=[(0.0, silent)]))
    assert found.audio[0].any() and not found.audio[1].any()


def test_a_still_picture_is_computed_once(fakes: None, tmp_path: Path) -> None:
    still = mux(tmp_path / "a.mkv", pictures=[(0.0, grey(77)), (20.0, grey(77))])
    make = Extractor(batch=16)
    found = make(still)
    assert len(found) >= 20 and isinstance(make.visual_network.backbone, Seeing)
    assert make.visual_network.backbone.seen == [1]
    assert np.abs(found.visual[:20] - 77).max() < 3


def test_audible_is_above_50_dbfs_and_within_20_db_of_the_loudest() -> None:
    from avel.features.stream import audible

    levels = np.array([-10.0, -29.9, -30.1, -51.0])
    assert audible(levels).tolist() == [True, True, False, False]
    assert audible(np.array([-40.0, -49.9, -50.0])).tolist() == [True, True, False]
    assert not audible(np.full(3, -120.0)).any()
    assert audible(np.zeros(0)).shape == (0,)


def test_progress_counts_up_to_the_total(fakes: None, clip: Path) -> None:
    calls: list[tuple[int, int]] = []
    extract(clip, batch=4, progress=lambda done, total: calls.append((done, total)))
    assert calls == sorted(set(calls)) and calls[-1] == (4, 4) and len(calls) > 1


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == "avel-decode"]


def test_errors_of_either_side_come_out_and_end_the_thread(
    fakes: None, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Extractor(batch=1)
    whole = Media.segments

    def broken(self: Media, **options: Any) -> Iterator[Segment]:
        yield next(whole(self, **options))
        raise MediaError("the disk has gone")

    monkeypatch.setattr(Media, "segments", broken)
    with pytest.raises(MediaError, match="disk has gone"):
        make(clip)
    assert threads() == []
    monkeypatch.setattr(Media, "segments", whole)

    def fails(frames: Tensor) -> Tensor:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(make.visual_network.backbone, "forward", fails)
    with pytest.raises(RuntimeError, match="out of memory"):
        make(clip)
    assert threads() == []


def test_an_open_file_and_nonsense(fakes: None, clip: Path) -> None:
    media = avel.open(clip)
    assert len(avel.extract(media)) == 4
    with pytest.raises(UsageError, match="a track"):
        extract(media, audio_track=0)
    with pytest.raises(UsageError, match="step"):
        extract(clip, step=-1)
    with pytest.raises(UsageError, match="batch"):
        extract(clip, batch=0)
    half = extract(clip, step=0.5)
    assert len(half) == 7 and half.grid.step == 0.5


def test_many_are_what_each_is_alone(clip: Path, tmp_path: Path) -> None:
    """To the bit, in both precisions, whatever the batch, errors between them."""
    longer = mux(
        tmp_path / "b.mkv",
        pictures=[(i / 6, grey(9 * i)) for i in range(21)],
        sounds=[(0.0, tone(3, RATE))],
    )
    (tmp_path / "bad.mp4").write_bytes(b"nonsense")
    files = [clip, tmp_path / "bad.mp4", longer, tmp_path / "none.mp4", open_media(clip)]
    for precision in ("float32", "bf16"):
        alone = [Extractor(precision=precision, batch=2)(f) for f in (clip, longer)]  # type: ignore[arg-type]
        for batch in (5, 64):
            make = Extractor(precision=precision, batch=batch)  # type: ignore[arg-type]
            found = list(make.many(files))
            assert [p.name for p, _ in found] == [
                "clip.mkv", "bad.mp4", "b.mkv", "none.mp4", "clip.mkv"
            ]  # fmt: skip
            assert [isinstance(f, MediaError) for _, f in found] == [False, True] * 2 + [False]
            for (_, one), other in zip(found[::2], [*alone, alone[0]], strict=True):
                assert isinstance(one, Features)
                assert one.audio.tobytes() == other.audio.tobytes()
                assert one.visual.tobytes() == other.visual.tobytes()
                assert (one.audible == other.audible).all() and one.source == other.source
    assert threads() == []


def test_what_is_no_files_fault_ends_many(
    fakes: None, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Extractor()

    def fails(frames: Tensor) -> Tensor:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(make.visual_network.backbone, "forward", fails)
    with pytest.raises(RuntimeError, match="out of memory"):
        list(make.many([clip, clip]))
    found = list(make.many([clip], audio_track=7))
    assert isinstance(found[0][1], UsageError) and threads() == []


def test_the_error_of_bf16_goes_with_the_features(clip: Path) -> None:
    fast, exact = Extractor(precision="bf16"), Extractor()
    found, expected = fast(clip), exact(clip)
    told = found.audio_card["error"], found.visual_card["error"]
    assert fast.errors == pytest.approx(told, rel=1e-3, abs=1e-9)
    assert exact.errors == (None, None) and "error" not in expected.visual_card
    assert all("error" not in card for card in fast.cards)
    assert backbone_identity(found.visual_card) == backbone_identity(expected.visual_card)
    assert worst_cosine(found.visual, expected.visual) < 1e-3


def test_a_model_reads_features_of_either_precision(clip: Path) -> None:
    model = avel.load_model("toybox")
    one, other = (model.predict(extract(clip, precision=p)) for p in ("float32", "bf16"))  # type: ignore[arg-type]
    assert one.values.shape == other.values.shape
    assert np.abs(one.values - other.values).max() < 0.1


def test_bf16_is_noted_in_the_card(fakes: None, clip: Path) -> None:
    fast = Extractor(precision="bf16")
    assert [card["precision"] for card in fast.cards] == ["bf16", "bf16"]
    assert np.isfinite(fast(clip).visual).all()


# --- the mini backbones --------------------------------------------------------------------------


def test_with_the_packaged_backbones(clip: Path, tmp_path: Path) -> None:
    found = avel.extract(clip)
    assert found.audio.shape == (4, 128) and found.visual.shape == (4, 7, 7, 128)
    assert np.isfinite(found.audio).all() and np.isfinite(found.visual).all()
    found.save(tmp_path / "f.safetensors")
    assert Features.load(tmp_path / "f.safetensors").audio_card == found.audio_card


# --- the store -----------------------------------------------------------------------------------


def test_feature_path() -> None:
    expected = Path("data/features/sub/a.b.safetensors")
    assert feature_path("data", "sub/a.b.mp4") == expected
    assert feature_path(Path("data"), Path("data/sub/a.b.mp4")) == expected
    assert feature_path("data", "-x.mp4", out="o") == Path("o/-x.safetensors")


def cached(path: Path, make: Extractor) -> Features:
    return features_of(path, make)[0].gather()


def test_cache_goes_by_content_and_cards(
    fakes: None, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("AVEL_CACHE_GB")
    make = Extractor()
    first = cached(clip, make)
    entries = list((tmp_path / "cache" / "features").iterdir())
    assert len(entries) == 1 and isinstance(make.visual_network.backbone, Seeing)
    calls = len(make.visual_network.backbone.seen)
    renamed = clip.rename(tmp_path / "other name.mkv")
    again = cached(renamed, make)
    assert len(make.visual_network.backbone.seen) == calls and again.source == "other name.mkv"
    assert np.array_equal(again.visual, first.visual)
    other = Extractor()  # what is cached needs no networks
    assert np.array_equal(cached(renamed, other).visual, first.visual)
    assert not {"audio_network", "visual_network"} & set(vars(other))
    entries[0].write_bytes(b"damaged")
    assert np.array_equal(cached(renamed, make).visual, first.visual)
    assert len(make.visual_network.backbone.seen) > calls
    cached(renamed, Extractor(step=0.5))
    cached(renamed, Extractor(visual="vgg19"))
    assert len(list((tmp_path / "cache" / "features").iterdir())) == 3
    with pytest.raises(MediaError):
        cached(tmp_path / "none.mp4", make)


def test_up_to_date(fakes: None, clip: Path, tmp_path: Path) -> None:
    made = replace(extract(clip), content="c")
    path = tmp_path / "f.safetensors"
    cards = made.audio_card, made.visual_card
    assert not up_to_date(path, content="c", cards=cards, step=1.0)
    made.save(path)
    assert up_to_date(path, content="c", cards=cards, step=1.0)
    assert not up_to_date(path, content="d", cards=cards, step=1.0)
    assert not up_to_date(path, content="c", cards=cards, step=0.5)
    assert not up_to_date(path, content="c", cards=(cards[0], {"name": "x"}), step=1.0)
    path.write_bytes(b"nonsense")
    assert not up_to_date(path, content="c", cards=cards, step=1.0)


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "clips"
    (root / "sub").mkdir(parents=True)
    mux(root / "a.mkv", pictures=[(i / 4, grey(9 * i)) for i in range(8)])
    mux(root / "sub" / "b.wav", sounds=[(0.0, tone(1, RATE))])
    (root / "notes.txt").write_text("no media")
    (root / ".hidden.mp4").write_bytes(b"")
    return root


def test_a_folder_is_done_once(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    exactly = ["--precision", "float32"]  # the last line tells a faster one's error besides
    assert main(["extract", str(folder), *exactly]) == 0
    out = capfd.readouterr()
    assert out.out.splitlines()[-1] == (
        "2 extracted, 0 already there, 0 failed; 2 with notes (manifest.csv)"
    )
    assert out.err == "", "what they lack stands in the manifest"
    made = sorted((folder / "features").rglob("*.safetensors"))
    assert [p.relative_to(folder / "features").as_posix() for p in made] == [
        "a.safetensors",
        "sub/b.safetensors",
    ]
    assert len(Features.load(made[0])) == 2
    times = [p.stat().st_mtime_ns for p in made]
    assert main(["extract", str(folder), *exactly]) == 0
    assert "0 extracted, 2 already there" in capfd.readouterr().out
    assert [p.stat().st_mtime_ns for p in made] == times
    mux(folder / "a.mkv", pictures=[(i / 4, grey(5 * i)) for i in range(12)])
    assert main(["extract", str(folder), *exactly]) == 0
    assert "1 extracted, 1 already there" in capfd.readouterr().out
    assert len(Features.load(made[0])) == 3
    assert main(["extract", str(folder), "--again", *exactly]) == 0
    assert "2 extracted, 0 already there" in capfd.readouterr().out


def test_a_bad_file_is_named_and_the_others_are_done(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "bad.mp4").write_bytes(b"nonsense")
    assert main(["extract", str(folder), "-o", str(folder / "out"), "--dtype", "float32"]) == 1
    out = capfd.readouterr()
    assert "2 extracted, 0 already there, 1 failed" in out.out
    assert "bad.mp4" in out.err and "Traceback" not in out.err
    assert sorted(p.name for p in (folder / "out").rglob("*")) == [
        ".avel",  # what was hashed
        "a.safetensors",
        "b.safetensors",
        "contents.json",
        "manifest.csv",
        "sub",
    ]


def test_one_file(folder: Path) -> None:
    assert main(["extract", str(folder / "a.mkv")]) == 0
    assert (folder / "a.safetensors").is_file()
    target = folder / "x" / "y.safetensors"
    assert main(["extract", str(folder / "a.mkv"), "-o", str(target)]) == 0
    assert target.is_file()
    assert main(["extract", str(folder / "none.mp4")]) == 1


def test_called_wrongly(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    wrong = [
        ["--audio", "mini_audoi"],
        ["--dtype", "int8", "--step", "0", "--precision", "x", "--batch", "0"],
        ["--audio-track", "5"],
    ]
    for options in wrong:
        assert main(["extract", str(folder / "sub" / "b.wav"), *options]) == 2
    err = capfd.readouterr().err
    assert "mini_audio" in err and "4 mistakes" in err and "no audio track 5" in err
    assert not list(folder.rglob("*.safetensors"))


def test_clashing_names_are_told_before_anything_runs(folder: Path) -> None:
    mux(folder / "a.wav", sounds=[(0.0, tone(1, RATE))])
    kept = {Path(job.target).name for job in plan([folder], None).jobs()}
    assert kept == {"a.mkv.safetensors", "a.wav.safetensors", "b.safetensors"}  # each its own
    (folder / "x").mkdir(), (folder / "y").mkdir()
    for name in "xy":
        (folder / name / "c.mkv").write_bytes((folder / "a.mkv").read_bytes())
    with pytest.raises(UsageError, match=r"x/c\.mkv and .*y/c\.mkv"):
        plan([folder / "x" / "c.mkv", folder / "y" / "c.mkv"], folder / "out")
    with pytest.raises(UsageError, match="one output"):
        plan([folder], Path("x.safetensors"))
    with pytest.raises(DataError, match="no media files"):
        empty = folder / "empty"
        empty.mkdir()
        plan([empty], None)


@pytest.mark.slow
def test_every_real_file(shared: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["extract", str(shared / "media" / "video"), "-o", str(tmp_path)]) == 0
    assert "14 extracted, 0 already there, 0 failed" in capfd.readouterr().out
    for path in tmp_path.glob("*.safetensors"):
        found = Features.load(path)
        assert np.isfinite(found.audio).all() and np.isfinite(found.visual).all()
        assert found.visible.all()
