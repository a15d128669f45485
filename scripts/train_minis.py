"""Train the two mini backbones that ship in the package, and write their weights and cards.

    python scripts/train_minis.py            # both, about eight minutes on two cores
    python scripts/train_minis.py --only audio

Data: single pictures and single seconds of sound, rendered directly from Toybox's drawings and
synthesisers under the seed namespace "minis" (avel.data.toybox.scene.NAMESPACES). Toybox folders
are drawn from the namespace "toybox" whatever their seed, so nothing a localizer is trained or
tested on was ever seen here. Pictures are blurred, JPEG-coded and resized to 224x224 without crop,
as decoded frames are; sound is quantised and sometimes loses its top, as AAC's is.

Pictures learn, for each cell of the 7x7 map, which thing covers it, and from the map's mean and
maximum which things are there at all. Sound learns which of several sounds are there at once.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from safetensors.torch import save
from sklearn.metrics import average_precision_score
from torch import Tensor, nn
from torch.nn import functional

from avel.allocator import keep_memory
from avel.backbones.mini_audio import MiniAudio
from avel.backbones.mini_common import fold_all
from avel.backbones.mini_visual import MiniVisual
from avel.data.toybox import CLASSES
from avel.data.toybox.render import Camera, Sprite, paste_sprite, sprite_box
from avel.data.toybox.scene import (
    VERSION,
    draw_thing_script,
    scene_rng,
)
from avel.files import file_hash, write_whole
from minis.sounds import toy_mixture

HOME = Path(__file__).resolve().parents[1] / "src" / "avel" / "pretrained"
RATE, SIDE, CELLS = 16000, 224, 7
C = len(CLASSES)
#: First index of the held-out samples; training never gets that far.
HELD_OUT = 10_000_000
SIZES = ((320, 240), (320, 240), (320, 180), (640, 360))

# ---------------------------------------------------------------- pictures


def cell_targets(boxes: list[tuple[int, tuple[int, int, int, int]]], w: int, h: int) -> np.ndarray:
    """(7, 7, C) int8: 1 where a thing covers over 40 % of a cell or has its middle there, 0 where
    it covers under 8 %, -1 (not judged) between."""
    edges = np.arange(CELLS + 1) / CELLS
    target = np.zeros((CELLS, CELLS, C), np.int8)
    for label, (x0, y0, x1, y1) in boxes:
        u, v = np.array([x0, x1]) / w, np.array([y0, y1]) / h
        across = np.clip(np.minimum(edges[1:], u[1]) - np.maximum(edges[:-1], u[0]), 0, None)
        down = np.clip(np.minimum(edges[1:], v[1]) - np.maximum(edges[:-1], v[0]), 0, None)
        share = np.outer(down, across) * CELLS**2
        share[min(6, int(v.mean() * CELLS)), min(6, int(u.mean() * CELLS))] = 1
        own = np.where(share > 0.4, 1, np.where(share < 0.08, 0, -1))
        target[..., label] = np.where(target[..., label] == 1, 1, own)
    return target


def degrade(frame: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a codec and the resizing do to a frame: (224, 224, 3) uint8."""
    image = Image.fromarray(frame)
    if rng.random() < 0.4:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.9)))
    if rng.random() < 0.9:
        coded = io.BytesIO()
        image.save(coded, "JPEG", quality=int(rng.integers(25, 90)))
        image = Image.open(coded)
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def pictures_of(first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (count, 224, 224, 3) and cell targets; four share a background."""
    frames, targets = [], []
    for group in range(first, first + count, 4):
        rng = scene_rng("minis", 1, group)
        width, height = SIZES[int(rng.integers(len(SIZES)))]
        camera = Camera(rng, width=width, height=height)
        for _ in range(4):
            canvas, things, boxes = camera.ground(float(rng.uniform(0, 9))), [], []
            labels = rng.permutation(C)[: int(rng.choice(5, p=[0.08, 0.2, 0.32, 0.25, 0.15]))]
            for label in labels:
                thing = draw_thing_script(
                    CLASSES[label], ((0.0, 1.0),), things, rng, aspect=width / height
                )
                thing = replace(thing, look=replace(thing.look, phase=float(rng.random())))
                things.append(thing)
            for label, thing in zip(labels, things, strict=True):
                sprite = Sprite(thing, height=height)
                paste_sprite(canvas, sprite, 0.5)
                box = sprite_box(sprite, 0.5, width=width, height=height)
                if box:
                    boxes.append((int(label), box))
            frames.append(degrade(camera.expose(canvas), rng))
            targets.append(cell_targets(boxes, width, height))
    return np.stack(frames[:count]), np.stack(targets[:count])


# ---------------------------------------------------------------- sound


def seconds_of(first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Sound (count, 16000) float16 and what is in it (count, C)."""
    heard = np.zeros((count, C), np.float32)
    waves = np.zeros((count, RATE), np.float16)
    for i in range(count):
        rng = scene_rng("minis", 2, first + i)
        track, labels = toy_mixture(rng)
        heard[i, labels] = 1
        waves[i] = codec(track, rng)
    return waves, heard


def codec(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Roughly what AAC does: coarse quantisation of the spectrum, sometimes without its top."""
    if rng.random() < 0.3:
        return wave
    spectrum = np.fft.rfft(wave)
    step = 10 ** rng.uniform(-2.2, -1.0) * np.abs(spectrum).mean()
    shape = np.sqrt(np.abs(spectrum) / step + 1)
    noise = rng.uniform(-0.5, 0.5, (2, len(spectrum))) * step * shape
    spectrum = spectrum + noise[0] + 1j * noise[1]
    if rng.random() < 0.3:
        spectrum[int(len(spectrum) * rng.uniform(0.8, 1.0)) :] = 0
    return np.fft.irfft(spectrum, len(wave))


def log_mels(waves: np.ndarray) -> Tensor:
    """(N, 96, 64) float32 patches."""
    from avel.features.logmel import log_mel

    blocks = torch.from_numpy(waves).split(256)
    return torch.cat([log_mel(block.float()) for block in blocks])


# ---------------------------------------------------------------- training


def render(
    make: Callable[[int, int], tuple[np.ndarray, np.ndarray]], first: int, count: int, jobs: int
) -> tuple[np.ndarray, np.ndarray]:
    """``count`` samples from index ``first`` on, by several processes."""
    block = 200
    starts = list(range(first, first + count, block))
    sizes = [min(block, first + count - s) for s in starts]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        parts = list(pool.map(make, starts, sizes))
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


class VisualHead(nn.Module):
    """Classes from each cell, from the mean of the map and from its maximum."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cell, self.mean, self.top = (nn.Linear(width, C) for _ in range(3))

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, 7, 7, V) -> (N, 7, 7, C), (N, C), (N, C)."""
        return self.cell(maps), self.mean(8 * maps.mean((1, 2))), self.top(maps.amax((1, 2)))


def visual_loss(head: VisualHead, maps: Tensor, target: Tensor) -> Tensor:
    cells, mean, top = head(maps)
    there = (target == 1).flatten(1, 2).any(1).float()
    judged = functional.binary_cross_entropy_with_logits(
        cells, target.clamp(min=0).float(), reduction="none", pos_weight=torch.tensor(4.0)
    )
    cell = (judged * (target >= 0)).sum() / (target >= 0).sum()
    clip = functional.binary_cross_entropy_with_logits
    return 4 * cell + clip(mean, there) + 0.5 * clip(top, there) + 0.02 * maps.mean()


def audio_loss(head: nn.Linear, features: Tensor, target: Tensor) -> Tensor:
    loss = functional.binary_cross_entropy_with_logits(head(features), target)
    return loss + 0.02 * features.mean()


def jitter(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Half of the pictures mirrored, brightness and contrast moved."""
    if torch.rand(()) < 0.5:
        x, y = x.flip(2), y.flip(2)
    gain = 0.75 + 0.5 * torch.rand(len(x), 1, 1, 1)
    shift = 50 * torch.rand(len(x), 1, 1, 3) - 25
    return x.float().mul_(gain).add_(shift), y


def louder(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Level of the whole moved by up to 6 dB, in the log-mel domain."""
    gain = 2 ** (2 * torch.rand(len(x), 1, 1) - 1)
    return torch.log((torch.exp(x) - 0.01).clamp(min=0) * gain + 0.01), y


def train(
    network: nn.Module,
    head: nn.Module,
    loss: Callable[..., Tensor],
    x: Tensor,
    y: Tensor,
    *,
    change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    epochs: int,
    lr: float,
    batch: int = 64,
) -> None:
    """One-cycle AdamW in bfloat16."""
    parameters = [*network.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.02)
    steps = len(x) // batch
    plan = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, lr, total_steps=epochs * steps, pct_start=0.2
    )
    began = time.time()
    for epoch in range(epochs):
        network.train()
        total, order = 0.0, torch.randperm(len(x))
        for step in range(steps):
            rows = order[step * batch : (step + 1) * batch]
            inputs, target = change(x[rows], y[rows])
            with torch.autocast("cpu", torch.bfloat16):
                features = network(inputs)
            value = loss(head, features.float(), target)
            optimiser.zero_grad()
            value.backward()
            nn.utils.clip_grad_norm_(parameters, 5.0)
            optimiser.step()
            plan.step()
            total += value.item()
        took = time.time() - began
        print(f"epoch {epoch + 1}/{epochs} loss {total / steps:.4f} {took:.0f} s", flush=True)


@torch.no_grad()
def answers(network: nn.Module, head: nn.Module, x: Tensor) -> list[Tensor]:
    network.eval()
    parts = [head(network(x[i : i + 128])) for i in range(0, len(x), 128)]
    if isinstance(parts[0], Tensor):
        return [torch.cat(parts)]
    return [torch.cat(p) for p in zip(*parts, strict=True)]


def clip_scores(logits: Tensor, there: Tensor) -> dict[str, object]:
    """Average precision by class, its mean, and the share of (sample, class) judged right."""
    score, truth = logits.sigmoid().numpy(), there.numpy()
    ap = [float(average_precision_score(truth[:, c], score[:, c])) for c in range(C)]
    return {
        "mAP": round(float(np.mean(ap)), 4),
        "AP": {name: round(a, 4) for name, a in zip(CLASSES, ap, strict=True)},
        "right": round(float(((score > 0.5) == (truth > 0.5)).mean()), 4),
        "all_right": round(float(((score > 0.5) == (truth > 0.5)).all(1).mean()), 4),
    }


def save_with_card(name: str, network: nn.Module, card: dict[str, object]) -> None:
    """Weights as float16 with batch normalisation folded in, and the JSON card with their hash."""
    fold_all(network)
    state = {k: v.detach().half().contiguous() for k, v in network.state_dict().items()}
    path = HOME / f"{name}.safetensors"
    write_whole(path, save(state))
    card = {
        "name": name,
        "licence": "MIT (weights and data: drawn and synthesised by avel's own code)",
        "toybox": VERSION,
        "classes": list(CLASSES),
        "sha256": file_hash(path),
        "size": path.stat().st_size,
        "torch": torch.__version__,
        **card,
    }
    write_whole(HOME / f"{name}.json", json.dumps(card, indent=1) + "\n")
    print(name, json.dumps(card["held_out"], indent=1), card["seconds_of_training"], "s")


def make_visual(scale: float, jobs: int, epochs: int) -> None:
    count, held = int(12000 * scale), 1000
    began = time.time()
    x, y = (torch.from_numpy(a) for a in render(pictures_of, 0, count, jobs))
    print(f"{count} pictures in {time.time() - began:.0f} s", flush=True)
    network, head = MiniVisual(norm=True), VisualHead(128)
    began = time.time()
    train(network, head, visual_loss, x, y, change=jitter, epochs=epochs, lr=4e-3)
    took = round(time.time() - began)
    x, y = (torch.from_numpy(a) for a in render(pictures_of, HELD_OUT, held, jobs))
    cells, mean, top = answers(network, head, x)
    there = (y == 1).flatten(1, 2).any(1)
    judged = y >= 0
    cell_right = ((cells > 0) == (y == 1))[judged].float().mean().item()
    cell_ap = average_precision_score((y == 1)[judged].numpy(), cells[judged].numpy())
    held_out = {
        "samples": held,
        "from_mean_of_map": clip_scores(mean, there),
        "from_maximum_of_map": clip_scores(top, there),
        "cells": {"AP": round(float(cell_ap), 4), "right": round(cell_right, 4)},
    }
    save_with_card(
        "mini_visual",
        network,
        {
            "note": MiniVisual.card.note,
            "data": f"{count} rendered pictures, namespace 'minis', stream 1, from index 0 on",
            "held_out": held_out,
            "seconds_of_training": took,
            "command": f"python scripts/train_minis.py --only visual --epochs {epochs}",
        },
    )


def make_audio(scale: float, jobs: int, epochs: int) -> None:
    count, held = int(8000 * scale), 3000
    began = time.time()
    waves, heard = render(seconds_of, 0, count, jobs)
    print(f"{count} seconds of sound in {time.time() - began:.0f} s", flush=True)
    x, y = log_mels(waves), torch.from_numpy(heard)
    print("log-mel mean, sd", x.mean().item(), x.std().item())
    network, head = MiniAudio(norm=True), nn.Linear(128, C)
    began = time.time()
    train(network, head, audio_loss, x, y, change=louder, epochs=epochs, lr=3e-3)
    took = round(time.time() - began)
    waves, heard = render(seconds_of, HELD_OUT, held, jobs)
    (logits,) = answers(network, head, log_mels(waves))
    save_with_card(
        "mini_audio",
        network,
        {
            "note": MiniAudio.card.note,
            "data": f"{count} rendered seconds, namespace 'minis', stream 2, from index 0 on",
            "held_out": {"samples": held, **clip_scores(logits, torch.from_numpy(heard))},
            "seconds_of_training": took,
            "command": f"python scripts/train_minis.py --only audio --epochs {epochs}",
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=["audio", "visual"])
    parser.add_argument("--epochs", type=int, help="default: 7 for sound, 6 for pictures")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the data, for a try")
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    keep_memory()
    torch.manual_seed(0)
    if args.only != "visual":
        make_audio(args.scale, args.jobs, args.epochs or 7)
    if args.only != "audio":
        make_visual(args.scale, args.jobs, args.epochs or 6)


if __name__ == "__main__":
    main()
