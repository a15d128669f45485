"""Exported models: onnxruntime runs the networks, without torch.

What `avel export` wrote is read back: a model, and beside it the files of its two backbones.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from avel.backbones.identity import backbone_identity, backbone_name
from avel.errors import CheckpointError, UsageError, WeightsError
from avel.features.pipeline import Networks, file_blocks
from avel.features.stream import FeatureStream
from avel.inference.card import check_card
from avel.inference.predictor import Predictor
from avel.inference.windows import SCORE_PARTS, WindowOutput
from avel.media.file import Media
from avel.media.mel import OFFSET, log_mel
from avel.models.decision_rules import DECISION_RULES, LARGEST, DecisionRule
from avel.progress import Progress
from avel.types import Floats, Json

if TYPE_CHECKING:
    from avel.features.network import Precision

#: The newest format of metadata that is read, and the most bytes of a file and its metadata.
FORMAT, LARGEST_FILE, LARGEST_META = 1, 2**31, 2**22
_BATCH = 32  # pictures that go through a network together


@dataclass(frozen=True)
class OnnxModel(Predictor):
    """An exported model; :meth:`predict` is the arrow from Features to Scores.

    Args:
        path: Its file; the backbones lie beside it.
        card: As of :class:`avel.inference.checkpoint.Trained`.
        backbones: The names of the backbones' files, by modality.
        rule: How labels follow from mean scores: a name of
            :data:`avel.models.decision_rules.DECISION_RULES`, or ``"largest"``.
        session: Runs the network.
    """

    path: Path
    card: Json
    backbones: Mapping[str, str]
    rule: str
    session: Any

    @property
    def decision_rule(self) -> DecisionRule | None:
        """The decision over mean scores, where it is another than the largest score."""
        return DECISION_RULES.get(self.rule)

    def predict_windows(self, audio: Floats, visual: Floats) -> WindowOutput:
        """What the network says of windows (B, T, A) and (B, T, H, W, V), float32."""
        names = [output.name for output in self.session.get_outputs()]
        values = self.session.run(names, {"audio": audio, "visual": visual})
        outputs = dict(zip(names, values, strict=True))
        if outputs["scores"].shape != (*audio.shape[:2], len(self.classes) + 1):
            raise _damaged(self.path, f"scores of shape {outputs['scores'].shape}")
        return WindowOutput(
            scores=outputs["scores"],
            labels=outputs["labels"],
            attention=outputs.get("attention"),
            parts={n: outputs[n] for n in SCORE_PARTS.values() if n in outputs},
        )

    def extractor(self, *, precision: Precision = "float32", device: str = "auto") -> OnnxExtractor:
        """The extractor of its features.

        Args:
            precision: ``"float32"``, or ``"auto"``, which means the same here.
            device: As for :meth:`to`.

        Raises:
            UsageError: for another precision.
            WeightsError: if a backbone's file is missing, damaged, or of other weights.
        """
        self.to(device)
        if precision not in ("float32", "auto"):
            raise UsageError(
                f"precision {precision}", expected="float32: exported backbones have no other"
            )
        return OnnxExtractor(
            audio=self._backbone("audio", self.audio_card),
            visual=self._backbone("visual", self.visual_card),
            step=self.step,
        )

    def _backbone(self, modality: str, card: Json) -> _Backbone:
        path = self.path.parent / self.backbones[modality]
        if not path.is_file():
            raise WeightsError(
                f"{path} is missing: the backbone {backbone_name(card)} of {self.path.name}",
                hint="keep the files that `avel export` wrote together, or export again",
            )
        backbone = _load_backbone(path)
        if backbone_identity(backbone.card) != backbone_identity(card):
            raise WeightsError(
                f"{path} holds {backbone_name(backbone.card)}",
                expected=backbone_name(card),
                hint="export the model again, into a folder of its own",
            )
        return backbone


@dataclass(frozen=True)
class _Backbone:
    """One exported backbone."""

    card: Json
    frames: int
    clip: bool
    log_offset: float
    patch_hop: float
    session: Any

    @property
    def output(self) -> tuple[int, ...]:
        """Shape of one row."""
        return tuple(int(n) for n in self.card["output"])

    def __call__(self, inputs: NDArray[Any]) -> NDArray[np.float32]:
        parts = [inputs[i : i + _BATCH] for i in range(0, len(inputs), _BATCH)]
        return np.concatenate([self.session.run(None, {"inputs": p})[0] for p in parts])


class OnnxExtractor:
    """Two exported backbones that make features of many files.

    Args:
        audio, visual: The backbones.
        step: Seconds a segment.
    """

    def __init__(self, *, audio: _Backbone, visual: _Backbone, step: float) -> None:
        self._audio, self._visual, self.step = audio, visual, step

    @property
    def cards(self) -> tuple[Json, Json]:
        """The cards of the audio and the visual backbone as plain data."""
        return self._audio.card, self._visual.card

    def stream(self, media: Media, *, progress: Progress | None = None) -> FeatureStream:
        """The features of an open file, a few segments at a time."""
        return FeatureStream(
            file_blocks(media, self._networks(), step=self.step, progress=progress),
            grid=media.grid(self.step),
            widths=(self._audio.output[-1], self._visual.output[-1]),
            cards=self.cards,
            source=media.path.name,
            notes=media.notes,
        )

    def _networks(self) -> Networks:
        frames = max(1, self._visual.frames)
        return Networks(
            embed_audio=self._embed_audio,
            embed_visual=self._embed_visual,
            audio_shape=self._audio.output,
            visual_shape=self._visual.output,
            frames=frames,
            batch=max(1, _BATCH // frames) if self._visual.clip else _BATCH,
            clip=self._visual.clip,
            patch_hop=self._audio.patch_hop,
        )

    def _embed_audio(self, sounds: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        return self._audio(log_mel(np.stack(sounds), offset=self._audio.log_offset))

    def _embed_visual(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        return self._visual(np.stack(pictures))


def load_onnx(path: str | Path) -> OnnxModel:
    """A model that `avel export` wrote.

    Raises:
        UsageError: if there is no such file, or onnxruntime isn't installed.
        CheckpointError: if it is damaged, of a newer avel, or no model of avel's.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"no file {path}", expected="what `avel export` wrote", hint="export it")
    session, meta = _open(path, "model")
    files, rule = meta.get("backbones"), meta.get("rule")
    if not isinstance(files, dict) or any(
        not isinstance(files.get(s), str) or Path(files[s]).name != files[s]
        for s in ("audio", "visual")
    ):
        raise _damaged(path, "no names of its backbones' files")
    if rule not in (*DECISION_RULES, LARGEST):
        raise _damaged(path, f"its rule {str(rule)[:40]!r} isn't known")
    mistakes = check_card(meta["card"])
    if mistakes:
        raise _damaged(path, "; ".join(mistakes))
    mismatch = _shape_mismatch(meta["card"], session)
    if mismatch:
        raise _damaged(path, mismatch)
    return OnnxModel(path, meta["card"], files, str(rule), session)


def _shape_mismatch(card: Json, session: Any) -> str:
    """How a graph's inputs and outputs differ from its card, a clause; "" where they fit."""
    shapes = {node.name: node.shape for node in (*session.get_inputs(), *session.get_outputs())}
    classes = len(card["classes"])
    widths = {**card["dims"], "scores": classes + 1}
    for name in ("audio", "visual", "scores", "labels"):
        if name not in shapes:
            return f"its graph has no {name!r}"
        width = shapes[name][-1] if shapes[name] else None
        if isinstance(width, int) and width != widths.get(name, width):
            if name == "scores":
                return f"its card has {classes} classes, its graph scores {width - 1}"
            return f"its card has {name} features {widths[name]} wide, its graph takes {width}"
    return ""


def _load_backbone(path: Path) -> _Backbone:
    try:
        session, meta = _open(path, "backbone")
        frames, shape = int(meta["frames"]), [int(n) for n in meta["card"]["output"]]
        offset = float(meta.get("log_offset", OFFSET))
        hop = float(meta.get("patch_hop", 0.0))
    except (CheckpointError, KeyError, TypeError, ValueError) as e:
        why = e.got if isinstance(e, CheckpointError) else f"{path} is no backbone"
        raise WeightsError(why, hint="export the model again") from e
    if not 0 <= frames <= 1000 or len(shape) not in (1, 3) or min(shape) < 1:
        raise WeightsError(f"{path} is no backbone", hint="export the model again")
    if not 0 < offset <= 1 or not (hop == 0 or 0.1 <= hop <= 10):
        raise WeightsError(f"{path}: no backbone's log-mel", hint="export the model again")
    return _Backbone(meta["card"], frames, meta.get("clip") is True, offset, hop, session)


def _damaged(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: {why[:300]}", expected="a file that `avel export` wrote", hint="export it again"
    )


def _open(path: Path, kind: str) -> tuple[Any, Json]:
    """A session and the metadata of an exported file."""
    try:
        import onnxruntime
    except ImportError as e:
        raise UsageError(
            f"{path.name} needs onnxruntime, which isn't installed", hint="pip install 'avel[onnx]'"
        ) from e
    if path.stat().st_size > LARGEST_FILE:
        raise _damaged(path, f"over {LARGEST_FILE} bytes")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # its errors come out as ours
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isascii() and threads.isdigit():
        options.intra_op_num_threads = int(threads)
    known = ("CUDAExecutionProvider", "CPUExecutionProvider")
    providers = [p for p in known if p in onnxruntime.get_available_providers()]
    try:
        # from bytes: a file's reference to data outside of it leads nowhere
        session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=providers)
        text = session.get_modelmeta().custom_metadata_map.get("avel", "")
    except Exception as e:  # onnxruntime's errors have no root of their own
        raise _damaged(path, f"{type(e).__name__}: {e}") from e
    return session, _meta(path, text, kind)


def _meta(path: Path, text: str, kind: str) -> Json:
    if len(text) > LARGEST_META:
        raise _damaged(path, f"a card of {len(text)} characters")
    try:
        meta = json.loads(text)
    except (ValueError, RecursionError):
        meta = None
    if not isinstance(meta, dict) or meta.get("kind") != kind:
        raise _damaged(path, f"no {kind} of avel's")
    if not isinstance(meta.get("format"), int) or meta["format"] > FORMAT:
        raise _damaged(path, f"format {meta.get('format')!r}, this avel reads up to {FORMAT}")
    if not isinstance(meta.get("card"), dict):
        raise _damaged(path, "no card")
    return meta
