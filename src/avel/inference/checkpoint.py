"""Checkpoints: a trained model that says what it is, saved as safetensors and JSON, never pickle.

A folder holds ``model.safetensors`` (the weights, with the card in its header), ``card.json`` (the
same card, for people), ``train_ids.json.gz`` and ``selection_ids.json.gz`` (the clips that it was
trained on and that its epoch was selected on, for the leak check).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from json.decoder import scanstring  # type: ignore[attr-defined]
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from avel.backbones.identity import backbone_name
from avel.device import torch_device
from avel.errors import AvelError, CheckpointError, UsageError
from avel.files import json_hash, write_whole
from avel.inference.card import FORMAT, WEIGHTS, check_card, upgraded
from avel.inference.predictor import Predictor
from avel.inference.windows import SCORE_PARTS, WindowOutput
from avel.models.base import Model, Output, build_model, models
from avel.models.decision_rules import DecisionRule
from avel.models.standardize import Standardize
from avel.types import Floats, Json

if TYPE_CHECKING:
    from avel.features.extractor import Extractor
    from avel.features.network import Precision

CARD, TRAIN_IDS, SELECTION_IDS = "card.json", "train_ids.json.gz", "selection_ids.json.gz"
#: Most bytes that are read of a card, of weights, of unpacked training ids.
LARGEST_CARD, LARGEST_WEIGHTS, LARGEST_IDS = 2**22, 2**32, 2**24
_OPENING, _COMMA = re.compile(r"\s*\[\s*"), re.compile(r"\s*,\s*")


@dataclass(frozen=True)
class Trained(Predictor):
    """A trained model with its card; :meth:`predict` is the arrow from Features to Scores.

    Args:
        network: The model, with its weights.
        card: Plain data: ``model``, ``task``, ``options``, ``dims``, ``classes``, ``step`` (seconds
            a segment), ``window`` (training clip length in segments), ``audio_card``,
            ``visual_card``, ``recipe``, ``seed``, ``data``, ``train_ids``, ``metrics``, ``avel``.
        train_ids: Names of the clips it was trained on; None where that isn't known.
        selection_ids: Names of the clips its epoch was selected on; None where that isn't known.
    """

    network: Model
    card: Json
    train_ids: tuple[str, ...] | None = field(default=None, repr=False)
    selection_ids: tuple[str, ...] | None = field(default=None, repr=False)

    @property
    def decision_rule(self) -> DecisionRule | None:
        """The network's own decision over mean scores, where it has one."""
        return getattr(self.network, "decision_rule", None)

    def __repr__(self) -> str:
        return (
            f"<{self.card['model']} for {self.card['task']}, {len(self.card['classes'])} classes>"
        )

    def to(self, device: str) -> Trained:
        """The same model, its network moved to a device."""
        return replace(self, network=self.network.to(torch_device(device)))

    def extractor(self, *, precision: Precision = "float32", device: str = "auto") -> Extractor:
        """An extractor of the features it was trained on.

        Args:
            precision, device: As for :class:`avel.features.extractor.Extractor`.

        Raises:
            CheckpointError: if its backbones have other weights here than it was trained with.
            WeightsError: if a backbone's weights are missing.
        """
        from avel.features.extractor import Extractor

        extractor = Extractor(**self.feature_options, precision=precision, device=device)
        for expected, present in zip(
            (self.audio_card, self.visual_card), extractor.cards, strict=True
        ):
            if expected.get("hash") != present.get("hash"):
                raise CheckpointError(
                    f"the model was trained on features of {backbone_name(expected)}",
                    expected=f"those of {backbone_name(present)}, the weights that are here",
                    hint="train it again on features extracted with these, or bring back the old "
                    "weights",
                )
        return extractor

    def predict_windows(self, audio: Floats, visual: Floats) -> WindowOutput:
        """The network's output for windows (B, T, A) and (B, T, H, W, V), float32.

        Raises:
            CheckpointError: if the model was trained for a task without class scores.
        """
        device = next(self.network.parameters()).device
        self.network.eval()
        with torch.inference_mode():
            output: Output = self.network(
                audio=torch.from_numpy(audio).to(device),
                visual=torch.from_numpy(visual).to(device),
            )
        if output.scores is None or output.labels is None:
            raise CheckpointError(
                f"a model trained for {self.card['task']} gives no class scores",
                expected="a model of task sel or wsel",
                hint="train one with `avel train MODEL task=sel`",
            )
        names = output.parts if self.decision_rule is not None else SCORE_PARTS.values()
        parts = {name: output.segment_part(name) for name in names}
        return WindowOutput(
            scores=_array(output.scores),
            labels=output.labels.cpu().numpy(),
            attention=None if output.attention is None else _array(output.attention),
            parts={name: _array(part) for name, part in parts.items() if part is not None},
        )

    def save(self, folder: str | Path, *, dtype: str = "float32") -> Path:
        """Write the checkpoint; a reader finds the old one or the new one, never a mix.

        The weights' file carries the card in its own header and is renamed into place in one step;
        ``card.json`` is a copy that a reader uses only where it fits the weights.

        Args:
            folder: Made where it isn't there.
            dtype: ``"float16"`` halves the file; the weights are float32 again when loaded.

        Returns:
            The folder.
        """
        from safetensors.torch import save

        folder = Path(folder)
        state = _storable(self.network.state_dict(), dtype)
        card = {**self.card, "format": FORMAT, "weights": weights_hash(state), "dtype": dtype}
        text = json.dumps(card, indent=1, sort_keys=True, ensure_ascii=False)
        for name, ids in ((TRAIN_IDS, self.train_ids), (SELECTION_IDS, self.selection_ids)):
            if ids is not None:
                packed = gzip.compress(json.dumps(list(ids)).encode(), mtime=0)
                write_whole(folder / name, packed)
        write_whole(folder / WEIGHTS, save(state, metadata={"avel": text}))
        write_whole(folder / CARD, text + "\n")
        return folder


def _array(tensor: Tensor) -> Floats:
    array: Floats = tensor.float().cpu().numpy()
    return array


def _storable(state: Mapping[str, Tensor], dtype: str) -> dict[str, Tensor]:
    kind = {"float32": torch.float32, "float16": torch.float16}.get(dtype)
    if kind is None:
        raise CheckpointError(f"the dtype must be float32 or float16, got {dtype!r}")
    stored = {
        name: (t.detach().cpu().to(kind) if t.is_floating_point() else t.detach().cpu())
        .clone()
        .contiguous()
        for name, t in state.items()
    }
    broken = [n for n, t in stored.items() if t.is_floating_point() and not t.isfinite().all()]
    if broken:
        raise CheckpointError(
            f"weights {', '.join(broken[:3])} aren't finite as {dtype}",
            expected="finite weights",
            hint="store them as float32" if dtype == "float16" else "train with a lower lr",
        )
    return stored


def weights_hash(state: Mapping[str, Tensor]) -> str:
    """The sha256 over names, types, shapes and bytes of a state, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def ids_hash(ids: Sequence[str]) -> str:
    """The sha256 of a list of clip names, in any order."""
    return json_hash(sorted(ids))


def read_checkpoint(folder: Path) -> Trained:
    """The trained model in a folder that :meth:`Trained.save` wrote.

    Raises:
        CheckpointError: if it is damaged, hostile or of a newer avel.
    """
    state, embedded = _read_weights(folder / WEIGHTS)
    card = _read_card(folder / CARD)
    checksum = weights_hash(state)
    if card is None or card.get("weights") != checksum:
        card = embedded  # a save was interrupted between the two files
    if card is None or card.get("weights") != checksum:
        raise CheckpointError(
            f"{folder}: the weights aren't those that the card names",
            expected=f"{WEIGHTS} and {CARD} of one save",
            hint="get the checkpoint again",
        )
    card = upgraded(card)
    network = _rebuild(folder, card, state)
    return Trained(
        network, card, _read_ids(folder / TRAIN_IDS, card, "train_ids"),
        _read_ids(folder / SELECTION_IDS, card, "selection_ids"),
    )  # fmt: skip


def _damaged(path: Path, why: object) -> CheckpointError:
    return CheckpointError(
        f"{path}: {str(why)[:300]}",
        expected="a file written by avel",
        hint="get the checkpoint again",
    )


def _bounded(path: Path, largest: int) -> None:
    size = path.stat().st_size
    if size > largest:
        raise _damaged(path, f"it has {size} bytes, and at most {largest} are read")


def _parse_card(path: Path, text: str) -> Json:
    if len(text) > LARGEST_CARD:
        raise _damaged(path, f"the card has {len(text)} characters")
    try:
        card = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise _damaged(path, f"the card is no JSON ({type(e).__name__})") from e
    if not isinstance(card, dict):
        raise _damaged(path, "the card is no JSON object")
    return card


def _read_card(path: Path) -> Json | None:
    if not path.is_file():
        return None
    _bounded(path, LARGEST_CARD)
    try:
        return _parse_card(path, path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as e:
        raise _damaged(path, e) from e


def _read_weights(path: Path) -> tuple[dict[str, Tensor], Json | None]:
    """The tensors as stored, and the card in the header (None where there is none)."""
    from safetensors import SafetensorError, safe_open

    _bounded(path, LARGEST_WEIGHTS)
    try:
        with safe_open(path, framework="pt") as f:
            text = (f.metadata() or {}).get("avel")
            state = {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, RuntimeError) as e:
        raise _damaged(path, e) from e
    return state, None if text is None else _parse_card(path, text)


def _read_ids(path: Path, card: Json, key: str) -> tuple[str, ...] | None:
    """Names of clips, or None where the file is missing or isn't the one the card names."""
    if not path.is_file() or path.stat().st_size > LARGEST_IDS:
        return None
    try:
        unpacker = zlib.decompressobj(wbits=31)
        text = unpacker.decompress(path.read_bytes(), LARGEST_IDS)
        ids = list(_texts(text.decode()))
    except (OSError, zlib.error, ValueError):
        return None
    return tuple(ids) if ids_hash(ids) == (card.get(key) or {}).get("sha256") else None


def build_network(card: Json) -> Model:
    """A network with fresh weights as a card's sizes, options and recipe say.

    Args:
        card: ``model``, ``dims``, ``classes``, ``task``, ``options`` and, where its recipe
            standardises or drops features, ``recipe``.
    """
    sizes = {"audio_dim": card["dims"]["audio"], "visual_dim": card["dims"]["visual"]}
    network = build_model(
        card["model"], **sizes, classes=len(card["classes"]), task=card["task"], **card["options"]
    )
    recipe = card.get("recipe") or {}
    standardize, dropout = bool(recipe.get("standardize")), float(recipe.get("input_dropout", 0))
    if standardize or dropout:
        network.read_through(Standardize(**sizes, standardize=standardize, dropout=dropout))
    return network


def _texts(text: str) -> Iterator[str]:
    """The texts of a JSON list of texts; anything else in it stops before it takes memory.

    Raises:
        ValueError: for anything but such a list.
    """
    opening = _OPENING.match(text)
    at = opening.end() if opening else len(text)
    while at < len(text) and text[at] == '"':
        value, at = scanstring(text, at + 1)
        yield value
        comma = _COMMA.match(text, at)
        at = comma.end() if comma else at
    if not opening or text[at:].strip() != "]":
        raise ValueError("no list of texts")


def _rebuild(folder: Path, card: Json, state: Mapping[str, Tensor]) -> Model:
    """The network of a card; shapes are compared before anything of their size is allocated."""
    wrong = check_card(card)
    if wrong:
        raise _damaged(folder / CARD, "; ".join(wrong))
    try:
        models.get(card["model"])
    except UsageError as e:
        raise CheckpointError(
            f"{folder}: {e.got}",
            expected=e.expected,
            hint=f"{e.hint}; for a model of your own name its file in {models.variable}",
        ) from e
    try:
        with torch.device("meta"):
            shapes = {n: t.shape for n, t in build_network(card).state_dict().items()}
        theirs = {n: t.shape for n, t in state.items()}
        if shapes != theirs:
            odd = sorted(n for n in {*shapes, *theirs} if shapes.get(n) != theirs.get(n))
            raise _damaged(folder / WEIGHTS, f"weights don't fit the card: {', '.join(odd[:4])}")
        with torch.random.fork_rng(devices=[]):  # its first weights are thrown away
            network = build_network(card)
        network.load_state_dict(
            {n: t.float() if t.is_floating_point() else t for n, t in state.items()}
        )
    except CheckpointError:
        raise
    except (AvelError, ValueError, TypeError, RuntimeError, ArithmeticError, AssertionError) as e:
        raise _damaged(folder / CARD, f"{type(e).__name__}: {e}") from e
    return network.eval()
