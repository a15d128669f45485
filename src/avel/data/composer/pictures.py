"""A person's photographs: read with their size bounded, as things and as backgrounds."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from avel.data.script import Rng
from avel.errors import DataError

#: Photographs with more pixels than this aren't decoded.
MOST_PIXELS = 80_000_000
#: Files with more bytes than this aren't opened.
MOST_BYTES = 256 * 2**20
#: Photographs are reduced to this many pixels a side as they are read.
WORKING = 720
#: A photograph more oblong than this is cut to it.
OBLONG = 2.0
#: Alpha above which a pixel belongs to a thing.
SOLID = 60
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP")


def read_picture(path: str | Path) -> Image.Image:
    """A photograph, upright, RGBA, no side longer than ``WORKING``.

    Raises:
        DataError: if it is missing, damaged, no photograph, too large, or can't be seen.
    """
    try:
        if Path(path).stat().st_size > MOST_BYTES:
            raise _unread(path, f"is larger than {MOST_BYTES} bytes")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of size: bounded here
            with Image.open(path, formats=_FORMATS) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise _unread(path, f"has {image.width}x{image.height} pixels")
                image.draft("RGB", (WORKING, WORKING))
                image.thumbnail((WORKING, WORKING), Image.Resampling.BOX)
                upright = ImageOps.exif_transpose(image).convert("RGBA")
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as e:
        raise _unread(path, f"can't be read ({e})") from e
    if not any(upright.getchannel("A").histogram()[SOLID + 1 :]):
        raise _unread(path, "is all but transparent")
    return upright


def _unread(path: str | Path, why: str) -> DataError:
    return DataError(
        f"{path} {why}", expected=f"{', '.join(_FORMATS)} of at most {MOST_PIXELS} pixels"
    )


def cut_out(image: Image.Image, *, shape: str, tilt: float, flip: bool, side: int) -> Image.Image:
    """A photograph as a thing: RGBA on a square a fifth wider than ``side``, so that it can tilt.

    Args:
        image: As read; where it has transparent parts, those decide and not ``shape``.
        shape: ``"round"`` (an ellipse), ``"soft"`` (rounded corners) or ``"square"``.
        tilt, flip: Degrees it is turned by, and whether it is mirrored.
        side: Pixels of its longer side.
    """
    wide, high = image.size
    box = min(wide, OBLONG * high), min(high, OBLONG * wide)
    image = ImageOps.fit(image, _scaled(*box, side), Image.Resampling.BICUBIC)
    if np.asarray(image.getchannel("A")).min() > 250:
        image.putalpha(_mask(image.size, shape))
    mean = np.asarray(image.resize((1, 1), Image.Resampling.BOX))[0, 0, :3]
    room = round(1.2 * side)
    square = Image.new("RGBA", (room, room), (*(int(v) for v in mean), 0))
    square.paste(image, ((room - image.width) // 2, (room - image.height) // 2))
    square = ImageOps.mirror(square) if flip else square
    return square.rotate(tilt, Image.Resampling.BICUBIC)


def _scaled(wide: float, high: float, side: int) -> tuple[int, int]:
    factor = side / max(wide, high)
    return max(1, round(wide * factor)), max(1, round(high * factor))


def _mask(size: tuple[int, int], shape: str) -> Image.Image:
    """Where a thing is: drawn at four times its size, so that its edge is smooth."""
    large = Image.new("L", (4 * size[0], 4 * size[1]), 0)
    draw, where = ImageDraw.Draw(large), [4, 4, 4 * size[0] - 5, 4 * size[1] - 5]
    if where[2] <= where[0] or where[3] <= where[1]:
        return Image.new("L", size, 255)
    if shape == "round":
        draw.ellipse(where, fill=255)
    else:
        corner = min(size) * (1.2 if shape == "soft" else 0.16)
        draw.rounded_rectangle(where, corner, fill=255)
    return large.resize(size, Image.Resampling.BOX)


def draw_ground(image: Image.Image, kind: str, rng: Rng, *, width: int, height: int) -> Image.Image:
    """A background made of a photograph, RGB.

    Args:
        image: As read.
        kind: ``"blur"``: so blurred that what it shows can't be told; ``"texture"``: a small piece
            of it, mirrored again and again; ``"plain"``: the photograph itself.
        rng: Source of what is drawn: how strong the blur, which piece, contrast, grain.
        width, height: Pixels.
    """
    image = image.convert("RGB")
    if kind == "texture":
        ground = _texture(image, rng, width, height)
    else:
        ground = ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
    if kind == "blur":
        few = int(rng.integers(4, 8))
        small = ground.resize((few * width // height + 1, few), Image.Resampling.BOX)
        ground = small.resize((width, height), Image.Resampling.BICUBIC)
    strength, shift = rng.uniform(0.6, 1.1), rng.uniform(-25, 25)
    grain = rng.standard_normal((height, width, 1), np.float32) * rng.uniform(0, 9)
    pixels = 128 + (np.asarray(ground, np.float32) - 128) * strength + shift + grain
    return Image.fromarray(_bytes(pixels))


def _texture(image: Image.Image, rng: Rng, width: int, height: int) -> Image.Image:
    part = max(4, round(min(image.size) * rng.uniform(0.2, 0.35)))
    x, y = (int(rng.integers(0, max(1, n - part + 1))) for n in image.size)
    side = round(height * rng.uniform(0.12, 0.35))
    tile = np.asarray(
        image.crop((x, y, x + part, y + part)).resize((side, side), Image.Resampling.BICUBIC)
    )
    two = np.concatenate([tile, tile[:, ::-1]], axis=1)
    four = np.concatenate([two, two[::-1]])
    across, down = -(-width // (2 * side)), -(-height // (2 * side))
    wall = Image.fromarray(np.ascontiguousarray(np.tile(four, (down, across, 1))[:height, :width]))
    return wall.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 0.015)) * height))


def _bytes(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.clip(pixels, 0, 255).astype(np.uint8)
