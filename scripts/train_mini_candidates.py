"""Train what may become the mini backbones: networks that know recordings and photographs too.

    python scripts/train_mini_candidates.py --sounds ESC-10 --images CIFAR-10               # both
    python scripts/train_mini_candidates.py --sounds ESC-10 --images CIFAR-10 --only audio

Writes weights, heads and cards to runs/minis, one core for each of the two networks. They don't
ship (docs/pairs10.md): those that do are of scripts/train_minis.py. ``ESC-10`` holds a folder for
each of its ten classes (``dog_bark/1-100032-A.ogg``…), ``CIFAR-10`` one for each of its ten, 2000
photographs in each (``dog/0000.jpg``…): the folders that ``avel synth --pairs pairs10`` takes.

Both networks learn Toybox's ten things and Pairs-10's ten. Of Pairs-10 only the training side is
learnt from: the composer's own rule says which files those are (``avel.data.composer.bank``).
Toybox's drawings and sounds are drawn under the seed namespace "minis"; Toybox folders are drawn
from the namespace "toybox" whatever their seed, so nothing a localizer is trained or tested on was
seen here.

Pictures: the trunk learns small canvases of one thing each; then, batch normalisation folded in,
the whole network learns frames with several things: which thing covers each cell of the map, and
from the map's mean and maximum which are there at all. Sound: which of several are there at once.
What is reported is of the test side and of held-out Toybox samples; the validation side is printed
on the way, nothing is chosen by it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from sklearn.metrics import average_precision_score
from torch import nn

from avel.allocator import keep_memory
from avel.backbones.mini_common import fold_all, read_packaged
from avel.data.composer.bank import Bank, find_sources
from avel.data.toybox import CLASSES
from avel.data.toybox.scene import VERSION
from avel.errors import AvelError
from avel.files import file_hash, write_whole
from avel.weights import fill
from minis import HELD_OUT, NAMES, PAIRS, learning, pictures, sounds
from minis.networks import SEEN, MiniAudio, MiniVisual

HOME = Path(__file__).resolve().parents[1] / "runs" / "minis"
TOYS = len(CLASSES)
#: Canvases of a step, and frames in all.
CANVASES, FRAMES = 64, 2400
#: Photographs pasted this many pixels wide are judged.
WIDTHS = (32, 48, 64, 96, 128)
SOURCES = {
    "audio": {
        "name": "ESC-10 (of ESC-50), folds 1 to 3 but for a fifth of their sources",
        "by": "K. J. Piczak, ESC: Dataset for Environmental Sound Classification (2015), of clips "
        "by users of freesound.org",
        "licence": "CC BY 3.0, some clips CC0",
        "address": "https://github.com/karolpiczak/ESC-50",
    },
    "visual": {
        "name": "CIFAR-10, training part, photographs 0 to 1399 of each class",
        "by": "A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009)",
        "licence": "none stated",
        "address": "https://www.cs.toronto.edu/~kriz/cifar.html",
    },
}


def described(kind: str, bank: Bank) -> dict[str, object]:
    """What a card says before anything is trained: classes, licence, whose works are learnt."""
    card: dict[str, object] = {
        "name": f"mini_{kind}",
        "licence": "MIT (the weights); their sources have licences of their own",
        "toybox": VERSION,
        "pairs": PAIRS.name,
        "classes": list(NAMES),
        "sources": [
            {"name": "Toybox", "by": "avel's own code, drawn and synthesised", "licence": "MIT"},
            SOURCES[kind],
        ],
    }
    if kind == "audio":
        card["files"] = [f.file for own in bank.sounds["train"].values() for f in own]
    return card


def save_with_card(
    kind: str, bank: Bank, network: nn.Module, head: nn.Module, card: dict[str, object]
) -> None:
    """Weights as float16 with batch normalisation folded in, and the JSON card with their hash;
    the head, which doesn't ship, below ``runs``."""
    fold_all(network)
    HOME.mkdir(parents=True, exist_ok=True)
    write_whole(HOME / f"head_{kind}.safetensors", save(head.state_dict()))
    state = {k: v.detach().half().contiguous() for k, v in network.state_dict().items()}
    path = HOME / f"mini_{kind}.safetensors"
    write_whole(path, save(state))
    about = {"sha256": file_hash(path), "size": path.stat().st_size, "torch": torch.__version__}
    write_card(kind, {**described(kind, bank), **about, **card})


def write_card(kind: str, card: dict[str, object]) -> None:
    write_whole(HOME / f"mini_{kind}.json", json.dumps(card, indent=1) + "\n")


def judge(kind: str, bank: Bank) -> None:
    """Write into the card how good the trained weights are, by their linear head.

    Args:
        kind: ``audio`` or ``visual``.
        bank: Whose test side is judged by.
    """
    head = learning.SoundHead(128) if kind == "audio" else learning.FrameHead(128)
    path, card = HOME / f"head_{kind}.safetensors", HOME / f"mini_{kind}.json"
    if not (path.is_file() and card.is_file()):
        raise AvelError(f"{path} or {card} is missing", do="train first")
    head.load_state_dict(load_file(path))
    told = (judge_audio if kind == "audio" else judge_visual)(trained(kind), head, bank)
    write_card(kind, {**json.loads(card.read_text("utf-8")), "held_out": told})
    print(kind, json.dumps(told, indent=1), flush=True)


def command(kind: str, scale: float) -> str:
    tail = "" if scale == 1 else f" --scale {scale:g}"
    script = "python scripts/train_mini_candidates.py --sounds ESC-10 --images CIFAR-10"
    return f"{script} --only {kind}{tail}"


# ---------------------------------------------------------------- pictures


def make_visual(bank: Bank, scale: float) -> None:
    began = time.time()
    held = pictures.album(bank, max(4, int(250 * scale)))
    network = MiniVisual(norm=True)
    steps = int(3500 * scale)
    learn_canvases(network, held, bank, steps)
    count = int(FRAMES * scale) // 4 * 4
    head = learn_frames(network, held, bank, count)
    took = round(time.time() - began)
    save_with_card(
        "visual",
        bank,
        network,
        head,
        {
            "data": f"{steps * CANVASES} canvases of {len(held.photos)} photographs and of "
            f"Toybox's drawings; {count} frames with several things, namespace 'minis'",
            "seconds_of_training": took,
            "command": command("visual", scale),
        },
    )


def learn_canvases(network: MiniVisual, held: pictures.Album, bank: Bank, steps: int) -> None:
    """Teach the trunk one thing at a time."""
    head = learning.CanvasHead(SEEN)
    draw = torch.Generator().manual_seed(1)
    photos, labels = (t[::4] for t in pictures.photographs(bank, "val"))
    grown = torch.nn.functional.interpolate(photos.float(), (48, 48), mode="bilinear")
    seen = grown.to(memory_format=torch.channels_last) / 64 - 2

    def batches(_: int) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = pictures.canvases(held, CANVASES, 40, (0.66, 1.25), draw)
        return x.to(memory_format=torch.channels_last) / 64 - 2, y

    def look() -> str:
        (logits,) = learning.answers(network.trunk, head, seen)
        return f"validation {learning.one(logits, labels)['accuracy']}"

    learning.learn(
        network.trunk,
        head,
        learning.canvas_loss,
        batches,
        steps=steps,
        groups=[{"params": [*network.trunk.parameters(), *head.parameters()], "lr": 2.5e-3}],
        decay=0.05,
        look=look,
    )
    network.eval()
    fold_all(network.trunk)


def learn_frames(
    network: MiniVisual, held: pictures.Album, bank: Bank, count: int
) -> learning.FrameHead:
    """Teach the whole network frames, by crops of 4x4 cells and at the end whole."""
    began = time.time()
    x, y = pictures.frames_of(pictures.Painter(held.photos, held.photo_labels), 0, count)
    print(f"{count} frames in {time.time() - began:.0f} s", flush=True)
    head = learning.FrameHead(128)
    draw = torch.Generator().manual_seed(2)
    val, val_labels = pictures.pasted(bank, "val", 64, every=20)
    batch = 32
    steps = 5 * count // batch

    def batches(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        whole = step > 0.96 * steps
        rows = torch.randint(count, (batch,), generator=draw)
        i, j = (3, 3) if whole else torch.randint(4, (2,), generator=draw).tolist()
        i, j, n = (0, 0, 7) if whole else (i, j, 4)
        frames = x[rows][:, 32 * i : 32 * (i + n), 32 * j : 32 * (j + n)]
        target = y[rows][:, i : i + n, j : j + n]
        if torch.rand((), generator=draw) < 0.5:
            frames, target = frames.flip(2), target.flip(2)
        gain = 0.75 + 0.5 * torch.rand(batch, 1, 1, 1, generator=draw)
        shift = 50 * torch.rand(batch, 1, 1, 3, generator=draw) - 25
        return frames.float().mul_(gain).add_(shift), target

    def look() -> str:
        _, mean, top = learning.answers(network, head, val, 32)
        return f"validation at 64 pixels {learning.one(mean + top, val_labels)['accuracy']}"

    learning.learn(
        network,
        head,
        learning.frame_loss,
        batches,
        steps=steps,
        groups=[
            {"params": list(network.trunk.parameters()), "lr": 5e-4},
            {"params": [*network.join.parameters(), *head.parameters()], "lr": 3e-3},
        ],
        decay=0.05,
        look=look,
    )
    return head


def trained(kind: str) -> nn.Module:
    """The network with the weights that were written."""
    network = MiniAudio() if kind == "audio" else MiniVisual()
    path = HOME / f"mini_{kind}.safetensors"
    fill(network, read_packaged(path), source=path)
    return network.eval().requires_grad_(False)


def judge_visual(network: nn.Module, head: nn.Module, bank: Bank) -> dict[str, object]:
    """On photographs of the test side, and on held-out frames of Toybox."""
    told: dict[str, object] = {}

    def photos(name: str, x: torch.Tensor, y: torch.Tensor) -> None:
        _, mean, top = learning.answers(network, head, x)
        told[name] = learning.one(mean + top, y)

    photos("photographs_alone", *pictures.alone(bank, "test", every=1))
    for width in WIDTHS:
        photos(f"photographs_pasted_{width}", *pictures.pasted(bank, "test", width))
    x, y = pictures.frames_of(None, HELD_OUT, 1000)
    cells, mean, top = learning.answers(network, head, x)
    there, judged = (y == 1).flatten(1, 2).any(1), y >= 0
    told["toybox_from_mean_of_map"] = learning.several(mean, there, 0, TOYS)
    told["toybox_from_maximum_of_map"] = learning.several(top, there, 0, TOYS)
    told["toybox_cells"] = {
        "AP": round(
            float(average_precision_score((y == 1)[judged].numpy(), cells[judged].numpy())), 4
        )
    }
    return told


# ---------------------------------------------------------------- sound


def make_audio(bank: Bank, scale: float) -> None:
    began = time.time()
    stock = sounds.gather(bank, max(2, int(160 * scale)))
    print(f"{len(stock.tracks)} tracks in {time.time() - began:.0f} s", flush=True)
    mixer, draw = sounds.Mixer(stock, seed=0), torch.Generator().manual_seed(3)
    network, head = MiniAudio(norm=True), learning.SoundHead(128)
    _, even, labels = sounds.recorded_seconds(bank, "val")
    batch, steps = 64, int(1500 * scale)

    def batches(_: int) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = mixer.batch(batch)
        return sounds.masked(x, draw), y

    def look() -> str:
        (logits,) = learning.answers(network, head, even)
        return f"validation {learning.one(logits, labels)['accuracy']}"

    learning.learn(
        network,
        head,
        learning.sound_loss,
        batches,
        steps=steps,
        groups=[{"params": [*network.parameters(), *head.parameters()], "lr": 3e-3}],
        decay=0.1,
        look=look,
    )
    took = round(time.time() - began)
    save_with_card(
        "audio",
        bank,
        network,
        head,
        {
            "data": f"{steps * batch} mixtures of recordings of the training side and of Toybox's "
            "sounds, namespace 'minis'",
            "seconds_of_training": took,
            "command": command("audio", scale),
        },
    )


def judge_audio(network: nn.Module, head: nn.Module, bank: Bank) -> dict[str, object]:
    """On audible seconds of the test side, and on held-out seconds of Toybox."""
    plain, even, labels = sounds.recorded_seconds(bank, "test")
    told: dict[str, object] = {}
    for name, x in (("as_they_are", plain), ("at_-20_dBFS", even)):
        (logits,) = learning.answers(network, head, x)
        told[f"audible_seconds_{name}"] = learning.one(logits, labels)
    x, heard = sounds.toy_seconds(HELD_OUT, 3000)
    (logits,) = learning.answers(network, head, x)
    told["toybox"] = learning.several(logits, heard, 0, TOYS)
    return told


# ---------------------------------------------------------------- both


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sounds", required=True, help="the folder of recordings")
    parser.add_argument("--images", required=True, help="the folder of photographs")
    parser.add_argument("--only", choices=["audio", "visual"], help="else both at once")
    parser.add_argument("--judge", action="store_true", help="the weights that are there")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the work, for a try")
    args = parser.parse_args()
    if not args.only:  # each of the two on a core of its own
        runs = [subprocess.Popen([sys.executable, *sys.argv, "--only", k]) for k in SOURCES]
        return max(run.wait() for run in runs)
    began = time.time()
    keep_memory()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    try:
        bank = find_sources(PAIRS, sounds=args.sounds, images=args.images)
        if not args.judge:
            (make_audio if args.only == "audio" else make_visual)(bank, args.scale)
        judge(args.only, bank)
    except AvelError as e:
        print(f"train_mini_candidates: {e}", file=sys.stderr)
        return 1
    print(f"{args.only}: {time.time() - began:.0f} s in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
