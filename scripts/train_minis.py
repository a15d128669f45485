"""Train the two mini backbones that ship in the package, and write their weights and cards.

    python scripts/train_minis.py --sounds ESC-10 --images CIFAR-10               # both at once
    python scripts/train_minis.py --sounds ESC-10 --images CIFAR-10 --only audio

With ``--composed data/pairs10`` (of ``avel synth --pairs pairs10``, read by ``avel extract``) they
are judged by its test clips too; ``--judge`` only judges, by the heads left in ``runs/minis``, and
``--probe`` by those clips alone. ``--page`` prints the table of docs/bundled-backbones.md.

Within an hour on two cores. ``ESC-10`` holds a folder for each of its ten classes
(``dog_bark/1-100032-A.ogg``…), ``CIFAR-10`` one for each of its ten, 2000 photographs in each
(``dog/0000.jpg``…): the folders that ``avel synth --pairs pairs10`` takes (docs/composer.md).

Both networks learn Toybox's ten things and Pairs-10's ten. Of Pairs-10 only the training side is
learnt from: the composer's own rule says which files those are (``avel.data.composer.bank``).
Toybox's drawings and sounds are drawn under the seed namespace "minis"; Toybox folders are drawn
from the namespace "toybox" whatever their seed, so nothing a localizer is trained or tested on was
seen here.

Pictures: the trunk learns small canvases of one thing each (kept in ``runs/minis``: called again,
the script goes on from there); then what joins the sizes learns frames with several things, the
trunk as it is: which thing covers each cell of the map, and from the map's mean and maximum which
are there at all. Sound: which of several are there at once. What is reported is of the test side
and of held-out Toybox samples; the validation side is printed on the way, nothing is chosen by it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from sklearn.metrics import average_precision_score
from torch import nn

from avel.backbones.blocks import fold_all
from avel.backbones.mini_audio import MiniAudio
from avel.backbones.mini_common import packaged_card
from avel.backbones.mini_visual import TRUNK_WIDTH, MiniVisual, Trunk
from avel.data.composer.bank import Bank, find_sources
from avel.data.toybox.scene import VERSION
from avel.data.toybox.things import CLASSES
from avel.errors import AvelError
from avel.files import file_hash, write_whole
from avel.memory import keep_memory
from minis import HELD_OUT, NAMES, PAIRS, composed, learning, pictures, sounds

HOME = Path(__file__).resolve().parents[1] / "src" / "avel" / "pretrained"
HEADS = Path(__file__).resolve().parents[1] / "runs" / "minis"
TOYS = len(CLASSES)
#: Canvases of a step, and frames in all.
CANVASES, FRAMES = 64, 8000
#: Steps of the trunk on canvases, and on frames of what joins the sizes.
STEPS = {"canvases": 14000, "join": 3000}
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
        "note": (MiniAudio if kind == "audio" else MiniVisual).card.note,
        "licence": "MIT (the weights); for their sources see ATTRIBUTION.md beside them",
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
    HEADS.mkdir(parents=True, exist_ok=True)
    write_whole(HEADS / f"mini_{kind}.safetensors", save(head.state_dict()))
    state = {k: v.detach().half().contiguous() for k, v in network.state_dict().items()}
    path = HOME / f"mini_{kind}.safetensors"
    write_whole(path, save(state))
    about = {"sha256": file_hash(path), "size": path.stat().st_size, "torch": torch.__version__}
    write_card(kind, {**described(kind, bank), **about, **card})


def write_card(kind: str, card: dict[str, object]) -> None:
    write_whole(HOME / f"mini_{kind}.json", json.dumps(card, indent=1) + "\n")


def judge(kind: str, bank: Bank, folder: Path | None) -> None:
    """Write into the card how good the shipped weights are, by their linear head.

    Args:
        kind: ``audio`` or ``visual``.
        bank: Whose test side is judged by.
        folder: Pairs-10's clips (``avel synth --pairs pairs10``), or None.
    """
    network = shipped(kind)
    head = learning.SoundHead(128) if kind == "audio" else learning.FrameHead(128)
    path = HEADS / f"mini_{kind}.safetensors"
    if not path.is_file():
        raise AvelError(f"{path} is missing", hint="train: the heads don't ship with the weights")
    head.load_state_dict(load_file(path))
    told = (judge_audio if kind == "audio" else judge_visual)(network, head, bank)
    if folder:
        told["composed_test_clips"] = composed.judge(folder, kind)
    held = packaged_card(f"mini_{kind}")
    write_card(kind, {**held, **described(kind, bank), "held_out": told})
    print(kind, json.dumps(told, indent=1), flush=True)


def probe(kind: str, folder: Path) -> None:
    """Write into the card how good the shipped weights are on composed clips."""
    card = packaged_card(f"mini_{kind}")
    card["held_out"]["composed_test_clips"] = told = composed.judge(folder, kind)
    write_card(kind, card)
    print(kind, json.dumps(told, indent=1), flush=True)


def command(kind: str, scale: float) -> str:
    tail = "" if scale == 1 else f" --scale {scale:g}"
    return f"python scripts/train_minis.py --sounds ESC-10 --images CIFAR-10 --only {kind}{tail}"


# ---------------------------------------------------------------- pictures


def make_visual(bank: Bank, scale: float) -> None:
    held = pictures.album(bank, max(4, int(250 * scale)))
    steps = {name: int(count * scale) for name, count in STEPS.items()}
    trunk, spent = learn_canvases(held, bank, steps["canvases"])
    torch.set_num_threads(os.cpu_count() or 1)  # sound is done by then
    torch.manual_seed(1)
    network, head = MiniVisual(norm=True), learning.FrameHead(128)
    network.trunk = trunk
    count = int(FRAMES * scale) // 4 * 4
    since = time.time()
    x, y = pictures.frames_of(pictures.Painter(held.photos, held.photo_labels), 0, count)
    print(f"{count} frames drawn in {time.time() - since:.0f} s", flush=True)
    learn_join(network, head, x, y, steps["join"], frames_look(network, head, bank))
    took = round(spent + time.time() - since)
    save_with_card(
        "visual",
        bank,
        network,
        head,
        {
            "data": f"{steps['canvases'] * CANVASES} canvases of {len(held.photos)} photographs "
            f"and of Toybox's drawings; {count} frames with several things, namespace 'minis'",
            "seconds_of_training": took,
            "command": command("visual", scale),
        },
    )


def learn_canvases(held: pictures.Album, bank: Bank, steps: int) -> tuple[Trunk, float]:
    """A trunk that was taught one thing at a time, 26 to 50 pixels of it, on canvases of 32 pixels
    a side and at the end of 40; and the seconds that took. It is kept in ``runs/minis``: called
    again, the script goes on from there."""
    began, path = time.time(), HEADS / f"trunk_{steps}.safetensors"
    if path.is_file():
        with safe_open(path, "pt") as f:
            spent = float(f.metadata()["seconds"])
        trunk = Trunk().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        trunk.load_state_dict(load_file(path))
        return trunk, spent
    trunk = Trunk(norm=True).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    head = learning.CanvasHead(TRUNK_WIDTH)
    draw = torch.Generator().manual_seed(1)
    photos, labels = (t[::4] for t in pictures.photographs(bank, "val"))
    grown = torch.nn.functional.interpolate(photos.float(), (40, 40), mode="bilinear")
    seen = grown.to(memory_format=torch.channels_last) / 64 - 2

    def batches(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        side = 32 if step < int(0.64 * steps) else 40
        x, y = pictures.canvases(held, CANVASES, side, (26 / side, 50 / side), draw)
        return x.to(memory_format=torch.channels_last) / 64 - 2, y

    def look() -> str:
        (logits,) = learning.answers(trunk, head, seen)
        return f"validation {learning.one(logits, labels)['accuracy']}"

    learning.learn(
        trunk,
        head,
        learning.canvas_loss,
        batches,
        steps=steps,
        rate=2.5e-3,
        decay=0.05,
        look=look,
    )
    fold_all(trunk.eval())
    spent = time.time() - began
    HEADS.mkdir(parents=True, exist_ok=True)
    state = {k: v.detach().contiguous() for k, v in trunk.state_dict().items()}
    write_whole(path, save(state, metadata={"seconds": f"{spent:.0f}"}))
    return trunk, spent


def frames_look(network: MiniVisual, head: learning.FrameHead, bank: Bank) -> Callable[[], str]:
    """Says how well the validation side's photographs are told, alone, at 64 pixels, in frames."""
    alone, labels = pictures.alone(bank, "val", every=20)
    pasted, own = pictures.pasted(bank, "val", 64, every=20)
    painter = pictures.Painter(*pictures.photographs(bank, "val"))
    x, y = pictures.frames_of(painter, 0, 100, stream=8)
    there = (y == 1).flatten(1, 2).any(1)

    def look() -> str:
        told = []
        for frames, truth in ((alone, labels), (pasted, own)):
            _, mean, top = learning.answers(network, head, frames, 32)
            told.append(learning.one(mean + top, truth)["accuracy"])
        _, mean, top = learning.answers(network, head, x, 32)
        told.append(learning.several(mean + top, there, 0, len(NAMES))["mAP"])
        return f"validation alone {told[0]}, at 64 pixels {told[1]}, frames' mAP {told[2]}"

    return look


def learn_join(
    network: MiniVisual, head: learning.FrameHead, x: torch.Tensor, y: torch.Tensor, steps: int,
    look: Callable[[], str],
) -> None:  # fmt: skip
    """Teach what joins the sizes, on what the trunk makes of whole frames; it stays as it is."""
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        seen = torch.cat([network.pooled(part).half() for part in x.split(32)])
    batch = 64

    def batches(_: int) -> tuple[torch.Tensor, torch.Tensor]:
        rows = torch.randint(len(seen), (batch,), generator=draw)
        maps = seen[rows].float().to(memory_format=torch.channels_last)
        return maps, y[rows]

    learning.learn(
        Last(network.join),
        head,
        learning.frame_loss,
        batches,
        steps=steps,
        rate=2e-3,
        decay=0.1,
        look=look,
    )


class Last(nn.Module):
    """What joins the sizes, with its channels last."""

    def __init__(self, join: nn.Module) -> None:
        super().__init__()
        self.join = join

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 768, h, w) -> (N, h, w, 128)."""
        maps: torch.Tensor = self.join(x)
        return maps.permute(0, 2, 3, 1)


def shipped(kind: str) -> nn.Module:
    """The network with the weights that lie in the package."""
    network = MiniAudio() if kind == "audio" else MiniVisual()
    network.load_weights(HOME / f"mini_{kind}.safetensors", network.weights["toybox"])
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
        rate=3e-3,
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


def page() -> str:
    """docs/bundled-backbones.md's table, from the cards."""
    heard, seen = (packaged_card(f"mini_{kind}")["held_out"] for kind in SOURCES)
    lines = ["| | samples | right |", "|---|---|---|"]

    def share(called: str, told: dict[str, float]) -> None:
        lines.append(f"| {called} | {told['samples']} | {100 * told['accuracy']:.1f} % |")

    share("`mini_audio`: audible seconds of recordings, as they are",
          heard["audible_seconds_as_they_are"])  # fmt: skip
    share("the same, recordings at -20 dBFS", heard["audible_seconds_at_-20_dBFS"])
    toys = "held-out {} of Toybox, several {} at once"
    lines.append(f"| {toys.format('seconds', 'sounds')} | {heard['toybox']['samples']} | "
                 f"mAP {heard['toybox']['mAP']:.3f} |")  # fmt: skip
    share("`mini_visual`: photographs alone, filling the frame", seen["photographs_alone"])
    for width in WIDTHS:
        share(f"pasted, {width} pixels", seen[f"photographs_pasted_{width}"])
    mean, top = (seen[f"toybox_from_{name}_of_map"] for name in ("mean", "maximum"))
    both = f"mAP {mean['mAP']:.3f} (mean of the map), {top['mAP']:.3f} (maximum)"
    lines.append(f"| {toys.format('frames', 'things')} | {mean['samples']} | {both} |")
    for name, told in (("mini_audio", heard), ("mini_visual", seen)):
        if composed_clips := told.get("composed_test_clips"):
            lines.append(
                f"| `{name}`: seconds of composed test clips with one source | "
                f"{composed_clips['seconds_with_one']} | "
                f"{100 * composed_clips['accuracy_with_one']:.1f} % |"
            )
            lines.append(
                f"| with one or several: the likeliest, as many as there are | "
                f"{composed_clips['seconds_with_any']} | "
                f"{100 * composed_clips['found_among_as_many']:.1f} %, "
                f"mAP {composed_clips['mAP']:.3f} |"
            )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sounds", help="the folder of recordings")
    parser.add_argument("--images", help="the folder of photographs")
    parser.add_argument("--only", choices=["audio", "visual"], help="else both at once")
    parser.add_argument(
        "--probe", action="store_true", help="only judge, only by --composed, by new heads"
    )
    parser.add_argument(
        "--page", action="store_true", help="print docs/bundled-backbones.md's table"
    )
    parser.add_argument("--judge", action="store_true", help="the weights that are there")
    parser.add_argument("--composed", type=Path, help="judge by this folder's clips too")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the work, for a try")
    args = parser.parse_args()
    if args.page:
        print(page())
        return 0
    if args.probe and not args.composed:
        parser.error("--probe judges composed clips: name their folder, --composed")
    if not (args.probe or (args.sounds and args.images)):
        parser.error("name the folders: --sounds and --images")
    if not args.only:  # each of the two on a core of its own
        runs = [subprocess.Popen([sys.executable, *sys.argv, "--only", k]) for k in SOURCES]
        return max(run.wait() for run in runs)
    began = time.time()
    keep_memory()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    try:
        if args.probe:
            probe(args.only, args.composed)
            return 0
        bank = find_sources(PAIRS, sounds=args.sounds, images=args.images)
        if not args.judge:
            (make_audio if args.only == "audio" else make_visual)(bank, args.scale)
        judge(args.only, bank, args.composed)
    except AvelError as e:
        print(f"train_minis: {e}", file=sys.stderr)
        return 1
    print(f"{args.only}: {time.time() - began:.0f} s in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
