"""Simulated AVE features: the release's file names, keys, shapes and dtypes on its real labels.

For measuring speed and memory at true scale and for comparing models where the features can't be
had. No result on them says anything about AVE itself: a marker file makes everything computed from
them bear the word simulated.

A clip holds a source: its class's prototype plus a bit of every other class (``likeness``), in part
the same in sound and sight (``shared``): so each modality alone takes many clips for another class,
and both together fewer. Outside its event the source is still heard, still seen, or neither; rival
sounds and objects come and go in either modality alone. In the picture the source is a moving blob
of regions amid clutter. Prototypes pass through a threshold and a ReLU, as networks' features do.
Under the sound lies background of the release's own spectrum (:mod:`.synth_background`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from avel.data.ave.files import SECONDS
from avel.data.ave.synth_background import Background, Floats, draw_background, make_background

AUDIO_WIDTH, VISUAL_WIDTH, SIDE = 128, 512, 7
#: Share of zeros and mean of the release's audio_feature_noisy.h5 (counted): background alone.
AUDIO_ZEROS, AUDIO_MEAN = 0.653, 0.122
#: Likewise for the visual features; ours, since only their shape is published beside this project.
VISUAL_ZEROS, VISUAL_MEAN = 0.65, 0.5


#: (49, 2) rows and columns of the regions.
_PLACES = np.array([(i, j) for i in range(SIDE) for j in range(SIDE)], np.float32)


@dataclass(frozen=True)
class Knobs:
    """How hard it is. The defaults put a BiLSTM on one modality near AVE's published figures.

    Measured at full scale, seed 0, chosen on val: sound alone 59.5 (AVE's table 1 prints 59.5; one
    training of 38 epochs); before the sounds had their spectrum, with two training seeds, picture's
    mean alone 55.8 and 54.8 (55.3), both concatenated 73.2 and 74.4 (71.4).
    benchmarks/simulation_misfit.py fits the knobs to A, V, V-att and A+V alone, and prints how far
    the simulation is from everything else that the paper measured.

    Args:
        likeness_audio, likeness_visual: Standard deviation of how much of each other class the
            source has, its own class being 1.
        shared: Correlation of that between sound and sight.
        rivals: Share of clips with a rival sound, and likewise with a rival object.
        rival_level: How strong a rival is, the source being about 1.
        audio_only, visual_only: Shares of background spans in which the source is heard but
            not seen, and seen but not heard.
        noise_audio: Standard deviation of the background sound (:mod:`.synth_background`).
        noise_visual: Standard deviation by second, region and channel.
        ambience: Strength of the clutter in the picture.
    """

    likeness_audio: float = 0.34
    likeness_visual: float = 0.32
    shared: float = 0.4
    rivals: float = 0.3
    rival_level: float = 0.8
    audio_only: float = 0.45
    visual_only: float = 0.45
    noise_audio: float = 1.0
    noise_visual: float = 1.5
    ambience: float = 0.7


@dataclass(frozen=True)
class World:
    """What all clips of one seed share.

    Args:
        audio, visual: (C, 128) and (C, 512) prototypes.
        clutter: (48, 512) textures that belong to no class.
        background: Sounds that belong to no class.
        audio_cut, visual_cut: (128,) and (512,) thresholds before the ReLU.
        audio_gain, visual_gain: What brings the means to the published ones.
    """

    audio: Floats
    visual: Floats
    clutter: Floats
    background: Background
    audio_cut: Floats
    visual_cut: Floats
    audio_gain: float
    visual_gain: float


@dataclass(frozen=True)
class SimulatedScene:
    """What happens in a clip, before any feature: strengths by second.

    Args:
        audio, visual: (T, C) how much of each class is heard, and seen.
        rival_visual: (T, C) objects elsewhere in the picture.
    """

    audio: Floats
    visual: Floats
    rival_visual: Floats


@lru_cache(maxsize=2)
def make_world(seed: int, classes: int, knobs: Knobs) -> World:
    """Prototypes and thresholds; the same for the same seed."""
    rng = np.random.default_rng([seed, 2**31])
    audio, visual = normal(rng, classes, AUDIO_WIDTH), normal(rng, classes, VISUAL_WIDTH)
    clutter, background = normal(rng, 48, VISUAL_WIDTH), make_background(AUDIO_WIDTH)
    spread = 0.8 * normal(rng, VISUAL_WIDTH)
    zero = np.zeros(1, np.float32)
    draft = World(audio, visual, clutter, background, zero, zero, 1.0, 1.0)
    sights = []
    for row in range(56):  # clips that nobody gets: they only set thresholds and gains
        clip_rng = np.random.default_rng([seed, 2**31 + 1, row])
        scene = make_scene(clip_rng, row % classes, (0, SECONDS), classes, knobs)
        sights.append(_sight(clip_rng, scene, draft, knobs)[:, ::7])
    flat = np.concatenate(sights).reshape(-1, VISUAL_WIDTH)
    visual_cut, visual_gain = cut(flat, spread, VISUAL_ZEROS, VISUAL_MEAN)
    # of the background alone, as in the release's file of background videos
    quiet = np.random.default_rng([seed, 2**31 + 4])
    sounds = np.concatenate([draw_background(quiet, background) for _ in range(600)])
    audio_cut, audio_gain = cut(sounds, background.spread, AUDIO_ZEROS, AUDIO_MEAN)
    loud = knobs.noise_audio
    return World(
        audio, visual, clutter, background, loud * audio_cut, visual_cut, audio_gain / loud,
        visual_gain,
    )  # fmt: skip


def normal(rng: np.random.Generator, *shape: int) -> Floats:
    """Standard normal numbers of a shape, float32."""
    return rng.standard_normal(shape, dtype=np.float32)


def cut(values: Floats, spread: Floats, zeros: float, mean: float) -> tuple[Floats, float]:
    """Thresholds a channel, some channels nearly always off and some mostly on, and the gain."""
    scattered = values - spread * values.std()
    level = np.quantile(scattered, zeros)
    cut: Floats = (spread * values.std() + level).astype(np.float32)
    return cut, mean / float(np.maximum(values - cut, 0).mean())


def make_scene(
    rng: np.random.Generator,
    category: int,
    event: tuple[int, int],
    classes: int,
    knobs: Knobs,
) -> SimulatedScene:
    """What is heard and seen in each second of a clip.

    Args:
        rng: The clip's own.
        category: Class of the source.
        event: First second and one past the last in which it is both heard and seen; equal for a
            clip without an event.
        classes: C.
        knobs: How hard it is.
    """
    common = normal(rng, classes)
    mixtures = []
    for likeness in (knobs.likeness_audio, knobs.likeness_visual):
        own = np.sqrt(knobs.shared) * common + np.sqrt(1 - knobs.shared) * normal(rng, classes)
        mixture = likeness * own
        mixture[category] += 1
        mixtures.append(mixture)
    on = _presence(rng, event, knobs)  # (2, T)
    loud = on * rng.uniform(0.8, 1.2, (2, SECONDS))
    rival = [_rival(rng, classes, knobs) for _ in range(2)]
    audio = loud[0][:, None] * mixtures[0] + rival[0]
    return SimulatedScene(
        audio.astype(np.float32),
        (loud[1][:, None] * mixtures[1]).astype(np.float32),
        rival[1].astype(np.float32),
    )


def _presence(
    rng: np.random.Generator, event: tuple[int, int], knobs: Knobs
) -> NDArray[np.float64]:
    """(2, T): whether the source is heard, and seen; never both outside its event."""
    on = np.zeros((2, SECONDS))
    start, end = event
    spans = [(0, start), (end, SECONDS)] if start < end else [(0, SECONDS)]
    for first, last in spans:
        draw = rng.random()
        on[0, first:last] = draw < knobs.audio_only
        on[1, first:last] = knobs.audio_only <= draw < knobs.audio_only + knobs.visual_only
    on[:, start:end] = 1
    return on


def _rival(rng: np.random.Generator, classes: int, knobs: Knobs) -> NDArray[np.float64]:
    """(T, C): another class for a stretch of the clip, in a share of the clips."""
    levels = np.zeros((SECONDS, classes))
    which, length = rng.integers(classes), rng.integers(3, SECONDS + 1)
    first = rng.integers(0, SECONDS - length + 1)
    if rng.random() < knobs.rivals:
        levels[first : first + length, which] = knobs.rival_level
    return levels


def _sound(rng: np.random.Generator, scene: SimulatedScene, world: World, knobs: Knobs) -> Floats:
    """(T, 128) before threshold and ReLU."""
    background = knobs.noise_audio * draw_background(rng, world.background)
    sound: Floats = scene.audio @ world.audio + background
    return sound


def _blob(rng: np.random.Generator) -> Floats:
    """(T, 49) how much of a thing lies in each region: about nine of them, drifting."""
    centre = rng.uniform(1, SIDE - 2, 2) + np.cumsum(rng.normal(0, 0.4, (SECONDS, 2)), axis=0)
    centre = np.clip(centre, 0, SIDE - 1)
    apart = ((_PLACES[None] - centre[:, None]) ** 2).sum(-1)
    weights: Floats = np.exp(-apart / (2 * rng.uniform(1.0, 1.6) ** 2)).astype(np.float32)
    return weights


def _sight(rng: np.random.Generator, scene: SimulatedScene, world: World, knobs: Knobs) -> Floats:
    """(T, 49, 512) before threshold and ReLU."""
    textures = world.clutter[rng.integers(len(world.clutter), size=3)]
    where = rng.dirichlet((0.5, 0.5, 0.5), SIDE * SIDE).astype(np.float32)  # (49, 3)
    maps = knobs.noise_visual * normal(rng, SECONDS, SIDE * SIDE, VISUAL_WIDTH)
    maps += knobs.ambience * 2 * (where @ textures)
    for strength in (scene.visual, scene.rival_visual):
        if strength.any():
            maps += 2 * _blob(rng)[:, :, None] * (strength @ world.visual)[:, None]
    return maps


def make_clip(
    rng: np.random.Generator, scene: SimulatedScene, world: World, knobs: Knobs
) -> tuple[Floats, Floats]:
    """The features of a scene: audio (T, 128) and visual (T, 7, 7, 512), none negative."""
    sound = np.maximum(_sound(rng, scene, world, knobs) - world.audio_cut, 0) * world.audio_gain
    maps = _sight(rng, scene, world, knobs)
    maps -= world.visual_cut
    np.maximum(maps, 0, out=maps)
    maps *= np.float32(world.visual_gain)
    return sound.astype(np.float32), maps.reshape(SECONDS, SIDE, SIDE, VISUAL_WIDTH)
