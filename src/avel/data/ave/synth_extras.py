"""Simulated features that AVE's release lacks: VGGish's last pooling maps and C3D's vectors.

They are of the same scenes as :mod:`.synth_features` and drawn apart from them, so a set
with them holds the same sounds and pictures as one without. Either confuses classes by a likeness
of its own besides the scene's. In the maps a class has its own bands, and comes and goes within the
second; C3D's vector has no regions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np

from avel.data.ave.files import SECONDS
from avel.data.ave.synth_background import Floats
from avel.data.ave.synth_features import Knobs, SimulatedScene, cut, make_scene, normal

Extra = Literal["audio_maps", "c3d"]
EXTRAS: tuple[Extra, ...] = get_args(Extra)
#: Time, frequency and channels of VGGish's last pooling; channels of C3D's pool5.
MAPS, MOTION = (6, 4, 512), (512,)
#: Shares of zeros and means, ours: nothing is published that they could be counted from.
_ZEROS, _MEAN = 0.65, 0.3
#: What the generators of random numbers of these features are called apart from the others'.
_STREAM: dict[Extra, int] = {"audio_maps": 2**31 + 2, "c3d": 2**31 + 3}


@dataclass(frozen=True)
class ExtraKnobs:
    """How hard they are. The defaults put a BiLSTM on each alone near the supplement's figures.

    Measured at full scale, seed 0, one training seed (`avel train av data=ave inputs=… epochs=8
    precision=float32`), chosen on val: `amaps` 54.4 (table S3 prints 54.3), `v-c3d` 46.4 (S2 prints
    46.4), `v+c3d` 58.7 (57.9), `a+v-c3d` 71.6 (68.7), `a+v+c3d` 72.6 (71.6). After
    as many epochs `a` has 54.9, so in longer training these rise too.

    Args:
        likeness_maps, likeness_motion: Standard deviation of how much of each other class the
            source has in these features alone.
        noise_maps, noise_motion: Standard deviation by second (and region) and channel.
        ambience: Strength of what belongs to no class.
    """

    likeness_maps: float = 0.23
    likeness_motion: float = 0.3
    noise_maps: float = 3.0
    noise_motion: float = 2.0
    ambience: float = 0.7


@dataclass(frozen=True)
class ExtraWorld:
    """What all clips of one seed share.

    Args:
        classes: (C, 512) prototypes.
        bands: (C, 4) how strong a class is in each band, 1 on average; of the maps alone.
        ambient: (24, 512) what belongs to no class.
        threshold: (512,) before the ReLU.
        gain: What brings the mean to the expected one.
    """

    classes: Floats
    bands: Floats
    ambient: Floats
    threshold: Floats
    gain: float


@lru_cache(maxsize=4)
def make_extra_world(
    extra: Extra, seed: int, classes: int, knobs: Knobs, own: ExtraKnobs
) -> ExtraWorld:
    """Prototypes and thresholds of one of the features; the same for the same seed."""
    rng = np.random.default_rng([seed, _STREAM[extra]])
    width = MAPS[-1] if extra == "audio_maps" else MOTION[-1]
    bands = rng.dirichlet((1.0,) * MAPS[1], classes).astype(np.float32) * MAPS[1]
    draft = ExtraWorld(
        normal(rng, classes, width), bands, normal(rng, 24, width), np.zeros(1, np.float32), 1.0
    )
    spread = 0.8 * normal(rng, width)
    samples = []
    for row in range(56):  # clips that nobody gets: they only set the threshold and the gain
        scene_rng = np.random.default_rng([seed, 2**31 + 1, row])
        scene = make_scene(scene_rng, row % classes, (0, SECONDS), classes, knobs)
        clip_rng = np.random.default_rng([seed, _STREAM[extra], 2**31, row])
        samples.append(_DRAW[extra](clip_rng, scene, draft, own).reshape(-1, width))
    threshold, gain = cut(np.concatenate(samples), spread, _ZEROS, _MEAN)
    return ExtraWorld(draft.classes, bands, draft.ambient, threshold, gain)


def make_extra(
    extra: Extra, seed: int, number: int, scene: SimulatedScene, world: ExtraWorld, own: ExtraKnobs
) -> Floats:
    """One of the features of a clip, none negative.

    Args:
        extra: Which.
        seed, number: Of the set, and of the clip in it.
        scene: What happens in the clip.
        world: Of that feature.
        own: How hard it is.

    Returns:
        ``audio_maps`` (T, 6, 4, 512), time before frequency; ``c3d`` (T, 512).
    """
    rng = np.random.default_rng([seed, _STREAM[extra], number])
    drawn = _DRAW[extra](rng, scene, world, own)
    activations: Floats = np.maximum(drawn - world.threshold, 0) * np.float32(world.gain)
    return activations


def _maps(
    rng: np.random.Generator, scene: SimulatedScene, world: ExtraWorld, knobs: ExtraKnobs
) -> Floats:
    """(T, 6, 4, 512) before threshold and ReLU."""
    strength = _confused(rng, scene.audio, knobs.likeness_maps)  # (T, C)
    when = rng.uniform(0.3, 1.7, (SECONDS, MAPS[0])).astype(np.float32)
    pattern = (strength[:, None] * world.bands.T) @ world.classes  # (T, 4, 512)
    maps = knobs.noise_maps * normal(rng, SECONDS, *MAPS)
    maps += knobs.ambience * world.ambient[rng.integers(len(world.ambient))]
    maps += when[:, :, None, None] * pattern[:, None]
    return maps


def _motion(
    rng: np.random.Generator, scene: SimulatedScene, world: ExtraWorld, knobs: ExtraKnobs
) -> Floats:
    """(T, 512) before threshold and ReLU."""
    strength = _confused(rng, scene.visual, knobs.likeness_motion) + scene.rival_visual / 2
    noise = knobs.noise_motion * normal(rng, SECONDS, *MOTION)
    ambient = world.ambient[rng.integers(len(world.ambient))]
    moved: Floats = strength @ world.classes + knobs.ambience * ambient + noise
    return moved


def _confused(rng: np.random.Generator, strength: Floats, likeness: float) -> Floats:
    """(T, C) strengths of classes with a bit of every class besides, wherever there is any."""
    level = strength.max(1, keepdims=True)
    mixed: Floats = strength + likeness * level * normal(rng, strength.shape[1])
    return mixed


_Draw = Callable[[np.random.Generator, SimulatedScene, ExtraWorld, ExtraKnobs], Floats]
_DRAW: dict[Extra, _Draw] = {
    "audio_maps": _maps, "c3d": _motion,
}  # fmt: skip
