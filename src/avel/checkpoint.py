"""Checkpoints: a trained model that says what it is, saved as safetensors and JSON, never pickle.

A folder holds ``model.safetensors`` (the weights, with the card in its header), ``card.json`` (the
same card, for people) and ``train_ids.json.gz`` (what it was trained on, for the leak check).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avel import clock
from avel.card import FORMAT, check_card
from avel.data.base import backbone_identity
from avel.errors import AvelError, CheckpointError, NoSuchModelError
from avel.files import write_whole
from avel.models import Model, build_model, models
from avel.models.base import Answer
from avel.types import Features, Floats, Json, Scores
from avel.windows import Means, Rows, chunks

if TYPE_CHECKING:
    from avel.features import FeatureStream

WEIGHTS, CARD, TRAIN_IDS = "model.safetensors", "card.json", "train_ids.json.gz"
#: What strangers hand in is bounded: bytes of a card, of weights, of unpacked training ids.
LARGEST_CARD, LARGEST_WEIGHTS, LARGEST_IDS = 2**22, 2**32, 2**26
#: Windows that go through the network at a time: memory doesn't grow with the file's length.
CHUNK = 16
PRETRAINED = Path(__file__).parent / "pretrained"


@dataclass(frozen=True)
class Trained:
    """A trained model with its card; :meth:`predict` is the arrow from Features to Scores.

    Args:
        network: The model, with its weights.
        card: Plain data: ``model``, ``task``, ``options``, ``dims``, ``classes``, ``step`` (seconds
            a segment), ``window`` (training clip length in segments), ``audio_card``,
            ``visual_card``, ``recipe``, ``seed``, ``data``, ``train_ids``, ``metrics``, ``avel``.
        train_ids: Names of the clips it was trained on; None where that isn't known.
    """

    network: Model
    card: Json
    train_ids: tuple[str, ...] | None = field(default=None, repr=False)

    @property
    def classes(self) -> tuple[str, ...]:
        """The C event names, without background."""
        return tuple(self.card["classes"])

    @property
    def step(self) -> float:
        """Seconds a segment."""
        return float(self.card["step"])

    @property
    def window(self) -> int:
        """Segments of a training clip."""
        return int(self.card["window"])

    @property
    def audio_card(self) -> Json:
        """The card of the audio backbone it was trained on."""
        return dict(self.card["audio_card"])

    @property
    def visual_card(self) -> Json:
        """The card of the visual backbone it was trained on."""
        return dict(self.card["visual_card"])

    @property
    def wants(self) -> Json:
        """What :func:`avel.extract` must be given to make features that fit, by keyword."""
        audio, visual = _option(self.audio_card), _option(self.visual_card)
        return {"audio": audio, "visual": visual, "step": self.step}

    def predict(self, features: Features | FeatureStream) -> Scores:
        """Scores of every segment of a file of any length.

        Of a stream only the rows of a few windows are held at a time; the scores are the same.

        A file longer than the training clips goes through in windows of their length, half a
        window apart; a segment's scores are the mean over its windows, and so are its attention
        maps, renormalised. Labels are the model's own where there is one window; with several, the
        argmax of the mean scores, or the model's ``decide(scores, parts)`` where it has one (a
        static method from (T, C+1) scores and the mean (T, ...) parts to (T,) class ids).

        Raises:
            CheckpointError: if the features are of other backbones, widths or segment length than
                the model was trained on.
        """
        self._check(features)
        self.network.eval()
        total = Means(len(features), parts=hasattr(self.network, "decide"))
        rows = Rows(_blocks(features))
        starts = clock.windows(len(features), self.window, max(1, self.window // 2))
        length = min(self.window, len(features))
        with torch.inference_mode():
            for chunk in chunks(starts, CHUNK):
                total.add(chunk, length, self._answer(rows, chunk, length))
        rows.finish()
        scores = total.mean("scores")
        attention = total.mean("attention") if total.has("attention") else None
        if attention is not None:
            attention = attention / attention.sum(axis=(1, 2), keepdims=True).clip(1e-12)
        return Scores(
            values=scores,
            classes=self.classes,
            grid=features.grid,
            labels=total.labels if len(starts) == 1 else self._decide(scores, total),
            attention=attention,
            audible=features.audible,
            visible=features.visible,
        )

    def _answer(self, rows: Rows, starts: Sequence[int], length: int) -> Answer:
        device = next(self.network.parameters()).device
        first = starts[0]
        audio, visual = (
            torch.from_numpy(np.stack([r[s - first : s - first + length] for s in starts]))
            for r in rows.between(first, starts[-1] + length)
        )
        answer: Answer = self.network(
            audio=audio.float().to(device), visual=visual.float().to(device)
        )
        if answer.scores is None:
            raise CheckpointError(
                f"a model trained for {self.card['task']} gives no class scores",
                wanted="a model of task sel or wsel",
                do="train one with `avel train MODEL task=sel`",
            )
        return answer

    def _decide(self, scores: NDArray[np.floating[Any]], total: Means) -> NDArray[np.int64]:
        decide = getattr(self.network, "decide", None)
        if decide is None:
            return np.asarray(scores.argmax(axis=1), dtype=np.int64)
        labels: NDArray[np.int64] = np.asarray(decide(scores, total.parts()), dtype=np.int64)
        return labels

    def _check(self, features: Features | FeatureStream) -> None:
        for sense, own, theirs in (
            ("audio", self.audio_card, features.audio_card),
            ("visual", self.visual_card, features.visual_card),
        ):
            if backbone_identity(own) != backbone_identity(theirs):
                raise CheckpointError(
                    f"{sense} features of {backbone_name(theirs)}",
                    wanted=f"those of {backbone_name(own)}, which the model was trained on",
                    do=f"extract with --{sense} {_option(own)}",
                )
        widths = _widths(features)
        wanted = self.card["dims"]["audio"], self.card["dims"]["visual"]
        if widths != wanted or not len(features):
            raise CheckpointError(
                f"{len(features)} segments of features {widths[0]} (audio) and {widths[1]} (visual)"
                " wide",
                wanted=f"at least one segment, {wanted[0]} and {wanted[1]} wide",
                do="extract the file again with the model's backbones",
            )
        if abs(features.grid.step - self.step) > 1e-6:
            raise CheckpointError(
                f"segments of {features.grid.step:g} s",
                wanted=f"segments of {self.step:g} s, which the model was trained on",
                do=f"extract with --step {self.step:g}",
            )

    def save(self, folder: str | Path, *, dtype: str = "float32") -> Path:
        """Write the checkpoint; a reader finds the old one or the new one, never a mix.

        The weights' file carries the card in its own header and is renamed into place in one step;
        ``card.json`` is a copy that a reader believes only where it fits the weights.

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
        if self.train_ids is not None:
            packed = gzip.compress(json.dumps(list(self.train_ids)).encode(), mtime=0)
            write_whole(folder / TRAIN_IDS, packed)
        write_whole(folder / WEIGHTS, save(state, metadata={"avel": text}))
        write_whole(folder / CARD, text + "\n")
        return folder


def _blocks(features: Features | FeatureStream) -> Iterable[tuple[Floats, Floats]]:
    if isinstance(features, Features):
        return [(features.audio, features.visual)]
    return features


def _widths(features: Features | FeatureStream) -> tuple[int, int]:
    if isinstance(features, Features):
        return features.audio.shape[-1], features.visual.shape[-1]
    return features.widths


def backbone_name(card: Mapping[str, Any]) -> str:
    """``vgg19:keras (md5:253f8cb5…)``: a backbone's name, weights and hash, for a message."""
    if not card:
        return "an unknown backbone"
    return f"{_option(card)} ({str(card.get('hash', 'no hash'))[:40]})"


def _option(card: Mapping[str, Any]) -> str:
    name, weights = card.get("name", "?"), card.get("weights", "")
    return f"{name}:{weights}" if weights else str(name)


def _storable(state: Mapping[str, Tensor], dtype: str) -> dict[str, Tensor]:
    kind = {"float32": torch.float32, "float16": torch.float16}.get(dtype)
    if kind is None:
        raise CheckpointError(f"dtype {dtype!r}", wanted="float32 or float16", do="choose one")
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
            wanted="finite weights",
            do="store them as float32" if dtype == "float16" else "train with a lower lr",
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
    return hashlib.sha256(json.dumps(sorted(ids)).encode()).hexdigest()


def load_model(path_or_name: str | Path = "default") -> Trained:
    """A trained model from its folder, or one that ships in the package by name.

    Args:
        path_or_name: A folder written by :meth:`Trained.save` or `avel train`, or a packaged name
            such as ``"default"`` (a folder of that name goes first).

    Raises:
        CheckpointError: if nothing is there, or it is damaged, hostile or of a newer avel.
    """
    folder = _find(path_or_name)
    state, embedded = _read_weights(folder / WEIGHTS)
    card = _read_card(folder / CARD)
    found = weights_hash(state)
    if card is None or card.get("weights") != found:
        card = embedded  # a save was interrupted between the two files
    if card is None or card.get("weights") != found:
        raise CheckpointError(
            f"{folder}: the weights aren't those that the card names",
            wanted=f"{WEIGHTS} and {CARD} of one save",
            do="get the checkpoint again",
        )
    network = _rebuild(folder, card, state)
    return Trained(network, card, _read_ids(folder / TRAIN_IDS, card))


def _find(path_or_name: str | Path) -> Path:
    folder = Path(path_or_name)
    if not (folder / WEIGHTS).is_file() and len(folder.parts) == 1:
        folder = PRETRAINED / folder
    if (folder / WEIGHTS).is_file():
        return folder
    packaged = sorted(p.parent.name for p in PRETRAINED.glob(f"*/{WEIGHTS}"))
    raise NoSuchModelError(
        f"no trained model at {str(path_or_name)!r}",
        wanted=f"a folder that holds {WEIGHTS}"
        + (f", or a packaged name ({', '.join(packaged)})" if packaged else ""),
        do="train one with `avel train`, or correct the path",
    )


def _damaged(path: Path, why: object) -> CheckpointError:
    return CheckpointError(
        f"{path}: {str(why)[:300]}", wanted="a file written by avel", do="get the checkpoint again"
    )


def _bounded(path: Path, largest: int) -> None:
    size = path.stat().st_size
    if size > largest:
        raise _damaged(path, f"{size} bytes, at most {largest} are read")


def _parse_card(path: Path, text: str) -> Json:
    if len(text) > LARGEST_CARD:
        raise _damaged(path, f"a card of {len(text)} characters")
    try:
        card = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise _damaged(path, f"no JSON ({type(e).__name__})") from e
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


def _read_ids(path: Path, card: Json) -> tuple[str, ...] | None:
    """The training ids, or None where the file is missing or isn't the one the card names."""
    if not path.is_file() or path.stat().st_size > LARGEST_IDS:
        return None
    try:
        unpacker = zlib.decompressobj(wbits=31)
        text = unpacker.decompress(path.read_bytes(), LARGEST_IDS)
        ids = json.loads(text)
    except (OSError, zlib.error, ValueError, RecursionError):
        return None
    if not isinstance(ids, list) or not all(isinstance(i, str) for i in ids):
        return None
    return tuple(ids) if ids_hash(ids) == card.get("train_ids", {}).get("sha256") else None


def _rebuild(folder: Path, card: Json, state: Mapping[str, Tensor]) -> Model:
    """The network of a card; shapes are compared before anything of their size is allocated."""
    wrong = check_card(card)
    if wrong:
        raise _damaged(folder / CARD, "; ".join(wrong))
    sizes = {"audio_dim": card["dims"]["audio"], "visual_dim": card["dims"]["visual"]}
    given = {**sizes, "classes": len(card["classes"]), "task": card["task"], **card["options"]}
    try:
        models.get(card["model"])
        with torch.device("meta"):
            shapes = {
                n: t.shape for n, t in build_model(card["model"], **given).state_dict().items()
            }
        theirs = {n: t.shape for n, t in state.items()}
        if shapes != theirs:
            odd = sorted(n for n in {*shapes, *theirs} if shapes.get(n) != theirs.get(n))
            raise _damaged(folder / WEIGHTS, f"weights don't fit the card: {', '.join(odd[:4])}")
        with torch.random.fork_rng(devices=[]):  # its first weights are thrown away
            network = build_model(card["model"], **given)
        network.load_state_dict(
            {n: t.float() if t.is_floating_point() else t for n, t in state.items()}
        )
    except CheckpointError:
        raise
    except (AvelError, ValueError, TypeError, RuntimeError, ArithmeticError, AssertionError) as e:
        raise _damaged(folder / CARD, f"{type(e).__name__}: {e}") from e
    return network.eval()
