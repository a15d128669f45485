"""Pictures: small canvases of one thing each, and whole frames with several from both worlds.

Canvases are made a batch at a time on tensors: quick, and enough to learn from what a thing looks
like at any size. Frames are drawn by the composer's and Toybox's own functions, coded as JPEG and
resized to 224x224 without crop, as decoded frames are.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torch.nn import functional

from avel.data.composer.bank import Bank
from avel.data.composer.pictures import cut_out, draw_ground, read_picture
from avel.data.composer.scene import SHAPES
from avel.data.toybox.render import Camera, Sprite, paste_sprite, sprite_box
from avel.data.toybox.scene import (
    crowding,
    draw_look,
    draw_path,
    draw_thing_script,
    scene_rng,
)
from avel.data.toybox.things import CLASSES, draw_thing
from minis import NAMES, PAIRS

TOYS, C = len(CLASSES), len(NAMES)
SIDE, CELLS = 224, 7
SIZES = ((320, 240), (320, 240), (320, 180), (640, 360))
#: Side of the photographs as they are learnt from.
PHOTO = 32
#: Side of the drawn things, likewise.
TOY = 56

# ---------------------------------------------------------------- canvases


@dataclass(frozen=True)
class Album:
    """Photographs (n, 3, 32, 32) and drawn things with alpha (m, 4, 56, 56), uint8; classes."""

    photos: Tensor
    photo_labels: Tensor
    toys: Tensor
    toy_labels: Tensor
    shapes: Tensor  # (4, 1, 32, 32) what is left of a photograph that is cut out, 0..255


def photographs(bank: Bank, side: str) -> tuple[Tensor, Tensor]:
    """A side's photographs (n, 3, 32, 32) uint8, and their classes."""
    rows, labels = [], []
    for label in PAIRS.classes:
        for file in bank.images[side][label]:
            image = read_picture(bank.roots["images"] / file.file).convert("RGB")
            if image.size != (PHOTO, PHOTO):
                image = image.resize((PHOTO, PHOTO), Image.Resampling.BOX)
            rows.append(np.asarray(image).transpose(2, 0, 1))
            labels.append(NAMES.index(label))
    return torch.from_numpy(np.stack(rows)), torch.tensor(labels)


def album(bank: Bank, each: int) -> Album:
    """The training side's photographs, and ``each`` drawings of every Toybox thing."""
    photos, labels = photographs(bank, "train")
    toys = []
    for number, label in enumerate(CLASSES):
        for i in range(each):
            rng = scene_rng("minis", 5, number, i)
            image = draw_thing(label, draw_look(rng), side=TOY, phase=float(rng.random()))
            toys.append(np.asarray(image.resize((TOY, TOY))).transpose(2, 0, 1))
    white = Image.new("RGBA", (PHOTO, PHOTO), (255, 255, 255, 255))
    cut = [cut_out(white, shape=s, tilt=0, flip=False, side=PHOTO) for s in SHAPES]
    edge = (cut[0].width - PHOTO) // 2
    masks = [np.asarray(c.getchannel("A"))[edge : edge + PHOTO, edge : edge + PHOTO] for c in cut]
    shapes = np.stack([*masks, np.full_like(masks[0], 255)])[:, None]
    toy_labels = torch.arange(TOYS).repeat_interleave(each)
    return Album(photos, labels, torch.from_numpy(np.stack(toys)), toy_labels,
                 torch.from_numpy(shapes))  # fmt: skip


def canvases(
    held: Album, count: int, side: int, sizes: tuple[float, float], draw: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A batch: (count, 3, side, side) of 0..255, and classes; C where nothing is there.

    Args:
        held: What is shown.
        count: How many; an eighth are Toybox's, one in 25 is empty.
        side: Pixels of the canvas.
        sizes: Least and greatest size of the thing, as shares of the canvas.
        draw: Source of chance.
    """

    def u(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *(shape or (1, 1, 1)), generator=draw)

    toys, empty = round(0.12 * count), round(0.04 * count)
    rows = torch.randint(len(held.photos), (count,), generator=draw)
    photos = held.photos[rows].float()
    shape = torch.randint(len(held.shapes), (count,), generator=draw)
    pieces = torch.cat([photos, held.shapes[shape].float()], 1)
    ground = grounds(held, count, side, draw)
    things = _turned(pieces[toys:], side, sizes, draw)
    which = torch.randint(len(held.toys), (toys,), generator=draw)
    drawn = _turned(held.toys[which].float(), side, sizes, draw)
    things = torch.cat([drawn, things])
    labels = torch.cat([held.toy_labels[which], held.photo_labels[rows[toys:]]])
    alpha = things[:, 3:] / 255
    alpha[count - empty :] = 0
    labels[count - empty :] = C
    colours = _toned(things[:, :3] / things[:, 3:].clamp(min=1) * 255, draw)
    x = ground + alpha * (colours - ground)
    # something before it
    place = torch.arange(side).float()
    size = u(0.2, 0.5, 2) * side
    at = u(0, 1, 2) * (side - size)
    inside = (place >= at[..., None]) & (place < (at + size)[..., None])  # (n, 2, side)
    box = inside[:, 0, :, None] & inside[:, 1, None, :] & (u(0, 1, 1) < 0.2)[..., None]
    x = torch.where(box[:, None], ground.roll(1, 0), x)
    soft = (x + x.roll(1, 2)) / 2
    soft = (soft + soft.roll(1, 3)) / 2
    x = torch.lerp(x, soft, (u(0, 1) < 0.35) * u(0.3, 1.0))
    x = 128 + (x - 128) * u(0.75, 1.2) + u(-20, 20)
    return x + torch.randn(x.shape, generator=draw) * u(0, 7), labels


def grounds(held: Album, count: int, side: int, draw: torch.Generator) -> Tensor:
    """Backgrounds as the composer draws them, roughly: strongly blurred, or a piece repeated."""
    rows = torch.randint(len(held.photos), (count,), generator=draw)
    photos = held.photos[rows].float()
    few = functional.adaptive_avg_pool2d(photos[: count // 2], int(torch.randint(1, 6, (),
                                         generator=draw)))  # fmt: skip
    blurred = functional.interpolate(few, (side, side), mode="bilinear")
    part = int(torch.randint(5, 12, (), generator=draw))
    x, y = (int(torch.randint(0, PHOTO - part, (), generator=draw)) for _ in range(2))
    tile = photos[count // 2 :, :, y : y + part, x : x + part]
    size = int(torch.randint(side // 3, side, (), generator=draw))
    tile = functional.interpolate(tile, (size, size), mode="bilinear")
    two = torch.cat([tile, tile.flip(3)], 3)
    four = torch.cat([two, two.flip(2)], 2)
    times = -(-side // (2 * size))
    made = torch.cat([blurred, four.repeat(1, 1, times, times)[:, :, :side, :side]])
    made = made[torch.randperm(count, generator=draw)]
    strength = 0.6 + 0.5 * torch.rand(count, 1, 1, 1, generator=draw)
    return 128 + (made - 128) * strength + 50 * torch.rand(count, 3, 1, 1, generator=draw) - 25


def _turned(pieces: Tensor, side: int, sizes: tuple[float, float], draw: torch.Generator) -> Tensor:
    """Pieces (n, 4, h, w) at drawn sizes, places and angles on a canvas; colours times alpha."""
    n = len(pieces)

    def u(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=draw)

    size = torch.exp(u(math.log(sizes[0]), math.log(sizes[1])))
    narrow = torch.exp(u(-0.25, 0.08))  # a frame of 4:3 is squeezed to a square
    wide, high = size * narrow, size / narrow
    flip = torch.where(u(0, 1) < 0.5, -1.0, 1.0)
    angle, shear = u(-0.28, 0.28), u(-0.12, 0.12)
    room = (1 - size).abs() * 0.9 + 0.08
    cx, cy = u(-1, 1) * room, u(-1, 1) * room
    a, b = torch.cos(angle) / wide * flip, (torch.sin(angle) + shear) / wide * flip
    c, d = -torch.sin(angle) / high, torch.cos(angle) / high
    theta = torch.stack(
        [torch.stack([a, b, -(a * cx + b * cy)], 1), torch.stack([c, d, -(c * cx + d * cy)], 1)], 1
    )
    pieces = torch.cat([pieces[:, :3] * pieces[:, 3:] / 255, pieces[:, 3:]], 1)
    grid = functional.affine_grid(theta, [n, 4, side, side], align_corners=False)
    return functional.grid_sample(pieces, grid, mode="bilinear", align_corners=False)


def _toned(x: Tensor, draw: torch.Generator) -> Tensor:
    """Contrast, brightness, saturation and tint moved."""
    n = len(x)

    def u(low: float, high: float, channels: int = 1) -> Tensor:
        return low + (high - low) * torch.rand(n, channels, 1, 1, generator=draw)

    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * u(0.5, 1.4)
    mean = x.mean((1, 2, 3), keepdim=True)
    return (mean + (x - mean) * u(0.7, 1.35) + u(-25, 25) + u(-14, 14, 3)).clamp(0, 255)


# ---------------------------------------------------------------- frames

Boxes = list[tuple[int, tuple[int, int, int, int]]]


def cell_targets(boxes: Boxes, w: int, h: int) -> np.ndarray:
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


def degrade(frame: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """What a codec and the resizing do to a frame: (224, 224, 3) uint8."""
    if rng.random() < 0.4:
        frame = frame.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.9)))
    if rng.random() < 0.9:
        coded = io.BytesIO()
        frame.save(coded, "JPEG", quality=int(rng.integers(25, 90)))
        frame = Image.open(coded)
    return np.asarray(frame.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def toy_frame(
    rng: np.random.Generator, camera: Camera, w: int, h: int
) -> tuple[Image.Image, Boxes]:
    """Toybox's things, up to four, before one of its backgrounds."""
    canvas, things, boxes = camera.ground(float(rng.uniform(0, 9))), [], []
    labels = rng.permutation(TOYS)[: int(rng.choice(5, p=[0.08, 0.2, 0.32, 0.25, 0.15]))]
    for label in labels:
        thing = draw_thing_script(CLASSES[label], ((0.0, 1.0),), things, rng, aspect=w / h)
        thing = replace(thing, look=replace(thing.look, phase=float(rng.random())))
        things.append(thing)
    for label, thing in zip(labels, things, strict=True):
        sprite = Sprite(thing, height=h)
        paste_sprite(canvas, sprite, 0.5)
        box = sprite_box(sprite, 0.5, width=w, height=h)
        if box:
            boxes.append((int(label), box))
    return Image.fromarray(camera.expose(canvas)), boxes


class Painter:
    """Draws frames of Pairs-10's photographs: those given, as :func:`photographs` gives them."""

    def __init__(self, photos: Tensor, labels: Tensor) -> None:
        self._photos, self._labels = photos.numpy().transpose(0, 2, 3, 1), labels.numpy()
        self._rows = [np.flatnonzero(self._labels == c) for c in range(C)]

    def photo(self, label: int, rng: np.random.Generator) -> Image.Image:
        """A photograph of a class, RGBA."""
        rows = self._rows[label]
        return Image.fromarray(self._photos[int(rng.choice(rows))]).convert("RGBA")

    def ground(self, rng: np.random.Generator, w: int, h: int) -> Image.Image:
        """A background made of a photograph of any class."""
        image = Image.fromarray(self._photos[int(rng.integers(len(self._photos)))])
        return draw_ground(image, str(rng.choice(PAIRS.kinds)), rng, width=w, height=h)

    def frame(self, rng: np.random.Generator, w: int, h: int) -> tuple[Image.Image, Boxes]:
        """Up to five things as the composer places them; now and then one is Toybox's."""
        canvas, placed, boxes = self.ground(rng, w, h), [], []
        labels = TOYS + rng.permutation(C - TOYS)
        count = int(rng.choice(6, p=[0.05, 0.17, 0.28, 0.27, 0.15, 0.08]))
        low, high = PAIRS.ranges.size
        for label in labels[:count]:
            size = float(np.exp(rng.uniform(np.log(low), np.log(high))))
            paths = [draw_path(size, rng, w / h) for _ in range(12)]
            hidden = [crowding(p, size, placed, w / h) for p in paths]
            most = float(rng.uniform(0, 0.4))
            fine = [i for i, share in enumerate(hidden) if share <= most]
            path = paths[fine[0] if fine else int(np.argmin(hidden))]
            placed.append((path, size))
            if rng.random() < PAIRS.ranges.grow:
                size = max(low, size * float(rng.uniform(0.4, 1.0)))
            if rng.random() < 0.1:
                label = int(rng.integers(TOYS))
                image = draw_thing(CLASSES[label], draw_look(rng), side=max(8, round(size * h)),
                                   phase=float(rng.random()))  # fmt: skip
            else:
                image = cut_out(
                    self.photo(label, rng),
                    shape=str(rng.choice(SHAPES)),
                    tilt=float(rng.uniform(-15, 15)),
                    flip=bool(rng.random() < 0.5),
                    side=max(8, round(size * h)),
                )
            x, y = path.at(float(rng.uniform(0, 5)))
            boxes += _pasted(canvas, image, int(label), x, y)
        return canvas, boxes

    def alone(self, rng: np.random.Generator) -> tuple[Image.Image, Boxes]:
        """A photograph that fills the frame."""
        label = int(rng.integers(TOYS, C))
        image = self.photo(label, rng).convert("RGB")
        return image.resize((SIDE, SIDE), Image.Resampling.BICUBIC), [(label, (0, 0, SIDE, SIDE))]


def _pasted(canvas: Image.Image, image: Image.Image, label: int, x: float, y: float) -> Boxes:
    """Paste a thing with its middle at shares (x, y) of the canvas: its box, if any is left."""
    left, top = (
        round(x * canvas.width - image.width / 2),
        round(y * canvas.height - image.height / 2),
    )
    alpha = image.getchannel("A")
    canvas.paste(image.convert("RGB"), (left, top), alpha)
    bounds = alpha.point([255 * (v > 60) for v in range(256)]).getbbox() or (0, 0, 1, 1)
    x0, y0 = max(0, left + bounds[0]), max(0, top + bounds[1])
    x1, y1 = min(canvas.width, left + bounds[2]), min(canvas.height, top + bounds[3])
    return [(label, (x0, y0, x1, y1))] if x0 < x1 and y0 < y1 else []


def frames_of(
    painter: Painter | None, first: int, count: int, *, stream: int = 6
) -> tuple[Tensor, Tensor]:
    """Frames (count, 224, 224, 3) uint8 and cell targets (count, 7, 7, C) int8, four of a kind.

    Args:
        painter: Of photographs; without it all frames are Toybox's.
        first: Index of the first.
        stream: Number of the stream of chance.
    """
    frames, targets = [], []
    for group in range(first, first + count, 4):
        rng = scene_rng("minis", stream if painter else 1, group)
        w, h = SIZES[int(rng.integers(len(SIZES)))]
        kind = rng.choice(3, p=[0.28, 0.62, 0.1]) if painter else 0
        camera = Camera(rng, width=w, height=h) if kind == 0 else None
        for _ in range(4):
            if camera:
                image, boxes = toy_frame(rng, camera, w, h)
            elif painter and kind == 1:
                image, boxes = painter.frame(rng, w, h)
            elif painter:
                image, boxes = painter.alone(rng)
            frames.append(degrade(image, rng))
            targets.append(cell_targets(boxes, *image.size))
    return torch.from_numpy(np.stack(frames[:count])), torch.from_numpy(np.stack(targets[:count]))


# ---------------------------------------------------------------- to judge by


def alone(bank: Bank, side: str, *, every: int = 4) -> tuple[Tensor, Tensor]:
    """Photographs resized to fill the frame (n, 224, 224, 3), and their classes; only every so
    many of a side's."""
    photos, labels = (t[::every] for t in photographs(bank, side))
    large = [
        np.asarray(Image.fromarray(p).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        for p in photos.numpy().transpose(0, 2, 3, 1)
    ]
    return torch.from_numpy(np.stack(large)), labels


def pasted(bank: Bank, side: str, size: int, *, every: int = 4) -> tuple[Tensor, Tensor]:
    """Photographs ``size`` pixels wide and high, anywhere on a background made of another, as the
    composer cuts, turns and codes them: (n, 224, 224, 3), and their classes.

    Args:
        bank, side: Where they are from.
        size: Pixels.
        every: Only every such photograph.
    """
    photos, labels = (t[::every] for t in photographs(bank, side))
    pictures, frames = photos.numpy().transpose(0, 2, 3, 1), []
    for i, picture in enumerate(pictures):
        rng = scene_rng("minis", 7, size, i)
        other = Image.fromarray(pictures[int(rng.integers(len(pictures)))])
        canvas = draw_ground(other, str(rng.choice(PAIRS.kinds)), rng, width=SIDE, height=SIDE)
        thing = cut_out(
            Image.fromarray(picture).convert("RGBA"),
            shape=str(rng.choice(SHAPES)),
            tilt=float(rng.uniform(-15, 15)),
            flip=bool(rng.random() < 0.5),
            side=size,
        )
        x, y = (float(rng.uniform(size / 2, SIDE - size / 2)) / SIDE for _ in range(2))
        _pasted(canvas, thing, 0, x, y)
        coded = io.BytesIO()
        canvas.save(coded, "JPEG", quality=60)
        frames.append(np.asarray(Image.open(coded)))
    return torch.from_numpy(np.stack(frames)), labels
