"""Training: one loop for every model and task, through Lightning Fabric."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from avel.data.base import Dataset, Split
from avel.data.resident import Resident, channel_statistics, rarity, resident
from avel.device import torch_device
from avel.errors import AvelError, CheckpointError, UsageError
from avel.evaluation.results import table
from avel.files import disk_error, locked, write_whole
from avel.inference.card import WEIGHTS
from avel.inference.checkpoint import Trained, build_network
from avel.inference.load import load_trained
from avel.models.base import Model, Recipe, TaskName, models
from avel.models.precision import autocast, has_bf16_units
from avel.progress import EpochProgress
from avel.tasks import Task, task_named
from avel.training.provenance import (
    count_leak,
    make_card,
    run_identity,
    take_weights,
    with_recipe_defaults,
    without,
)
from avel.training.recipes import check_task, setting_options, to_json, to_toml
from avel.training.state import STATE, State, load_state, save_state
from avel.training.step import (
    Objective,
    Stepper,
    WeightAverage,
    make_optimizer,
    restore_optimizer,
)
from avel.types import Json

if TYPE_CHECKING:
    from lightning_fabric import Fabric

HISTORY, RECIPE = "history.csv", "recipe.toml"
#: The folder in a run's that holds the last epoch's model, where the task's results show it.
LAST = "last"
#: What precedes the names of test metrics in a history.
TEST = "test_"


class Stopped(KeyboardInterrupt):
    """Ctrl-C during training: what was trained is saved, and the message says how to resume."""


@dataclass(frozen=True)
class Run:
    """A finished training.

    Args:
        trained: The model of the best epoch on validation.
        folder: Where it was saved, or None.
        history: A record an epoch: ``epoch``, ``loss``, and the validation's metrics.
        data: What it was trained on.
        last: The model of the last epoch, of the tasks whose results show it (CML).
    """

    trained: Trained
    folder: Path | None
    history: tuple[Json, ...]
    data: Dataset = field(repr=False)
    last: Trained | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        return f"<Run of {self.trained!r}, {len(self.history)} epochs, in {self.folder}>"

    @property
    def best(self) -> Json:
        """The card's ``metrics``: epoch, metric and value on validation."""
        return dict(self.trained.card["metrics"])


def fit(
    model: str,
    data: Dataset,
    *,
    task: TaskName = "sel",
    seed: int = 0,
    recipe: Recipe | None = None,
    out: str | Path | None = None,
    setting: str | None = None,
    resume: bool = False,
    init: str | Path | Trained | None = None,
    exclude: Collection[str] = (),
    exclude_val: Collection[str] = (),
    allow_leak: bool = False,
    device: str = "auto",
    devices: int = 1,
    tensorboard: bool = False,
    progress: EpochProgress | None = None,
    final: Json | None = None,
    test_chosen: bool = False,
) -> Run:
    """Train a model; the epoch is selected on the validation split (``recipe.selection``).

    One seed gives one result, and a run that was interrupted and resumed gives bit for bit what an
    unbroken one gives: every epoch draws its randomness from the seed and its own number.

    Args:
        model: Registry name.
        data: The data set.
        task: ``"sel"``, ``"wsel"`` or ``"cml"``.
        seed: Of the first weights, the order of the clips, and dropout.
        recipe: The model's own for the task if None; see :func:`avel.training.recipes.resolve`.
        out: Folder for the checkpoint, ``history.csv``, ``recipe.toml`` and the state that
            ``resume`` reads; None keeps the run in memory.
        setting: The task's setting (WSEL: ``"tag"``, ``"tag-clean"``, ``"proportion"``; CML:
            ``"release"``, ``"sync"``), its first if None.
        resume: Resume from the state in ``out``, or begin where there is none.
        init: A trained model to start from: a CML model takes co-attention and BiLSTMs of an SEL
            model (the paper's MMEL).
        exclude: Names of clips to leave out of training.
        exclude_val: Names of clips to leave out of the validation that selects the epoch.
        allow_leak: Accept an ``init`` that has seen recordings of this task's validation or test
            splits (:func:`avel.training.provenance.count_leak`); the card then says so.
        device: As for :func:`avel.device.check_device`.
        devices: How many of them (``"cuda"`` without a number, or processes on ``"cpu"``). Several
            share every batch, each in a process that holds all clips. The losses are those
            of one device but for the last digits (nearly those where they are means over windows
            or over clips with an event: unpaired CML's and DAM's).
        tensorboard: Write TensorBoard events into ``out`` as well.
        progress: Called after every epoch with its record and the epochs in all.
        final: Train all epochs without validation and keep the last one; what the card's
            ``metrics`` then are.
        test_chosen: Evaluate on the test split at each validation too. The best of these scores
            goes into the card as ``metrics["test_chosen"]``, for comparison with papers that
            chose their epoch so; it never selects the run's own.

    Raises:
        UsageError: for unknown names, a bad recipe, or an ``out`` that already has a run, or that
            another process trains into.
        CheckpointError: if ``init`` doesn't fit or leaks, the state in ``out`` is another run's, or
            an epoch can't be saved.
        DataError: if the data set lacks what the task needs.
        AvelError: if the loss isn't finite, with epoch and step.
        Stopped: on Ctrl-C, after saving.
    """
    kind = task_named(task)
    setting = kind.check_setting(setting)
    if devices > 1 and not models.get(model).shares_batches:
        raise UsageError(
            f"{model} on {devices} devices",
            expected="one: its loss is the whole batch's, and devices would share it out",
            hint="leave --devices out",
        )
    implied = setting_options(models.get(model), task, setting)
    recipe = recipe or models.get(model).recipe_of(task, implied)
    check_task(recipe, task)
    options = {**recipe.options, **implied}
    recipe = replace(recipe, options=options)
    setting = kind.setting_of(setting, options)
    train, val, test = kind.splits(data, setting)
    train, val = without(train, exclude), without(val, exclude_val)
    if not recipe.copied:
        train = replace(train, copies=())
    _check_batch(recipe, train)
    initial = load_trained(init) if isinstance(init, str | Path) else init
    leak = count_leak(initial, data, train, val, test, allow_leak) if initial else 0
    folder = _folder(out, resume)
    with torch.random.fork_rng(devices=[]):
        fabric = _fabric(device, devices)
        torch.manual_seed(seed)
        network = _network(model, data, train, task, recipe)
        take_weights(network, initial)
        bf16 = _bf16(recipe, fabric.device)
        selected_on = () if final else val.ids
        card = make_card(
            network, data, train, kind, setting, recipe, seed, initial, leak, bf16, selected_on
        )  # fmt: skip
        ids = (train.ids, selected_on)
        loop = _Loop(fabric, network, recipe, kind, seed, bf16, folder, card, ids, final)
        output: dict[str, Any] = {"tensorboard": tensorboard, "progress": progress}
        with _exclusive(folder if fabric.is_global_zero else None, resume):
            history = loop.run(train, val, test if test_chosen else None, resume=resume, **output)
        return Run(loop.trained(), folder, tuple(history), data, loop.last)


def _check_batch(recipe: Recipe, train: Split) -> None:
    """Whether the recipe leaves a clip to train on.

    Raises:
        UsageError: if ``drop_last`` drops all.
    """
    if recipe.drop_last and len(train) < recipe.batch:
        raise UsageError(
            f"drop_last leaves none of {len(train)} clips in batches of {recipe.batch}",
            expected="one full batch at least", hint="give a smaller batch, or drop_last=false",
        )  # fmt: skip
    if recipe.balance and not recipe.shuffle:
        raise UsageError(
            f"balance={recipe.balance:g} draws clips at random, but shuffle is false",
            hint="leave one of them out",
        )


@contextmanager
def _exclusive(folder: Path | None, resume: bool) -> Iterator[None]:
    """Lock the folder of a run, and delete temporary files of a training that was killed.

    Raises:
        UsageError: if another training uses it, or has ended there meanwhile.
        OSError: if it can't be written.
    """
    if folder is None:
        yield
        return
    created = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with locked(folder, wait=False) as acquired, TemporaryFile(dir=folder):
            if not acquired:
                raise UsageError(
                    f"another process is training into {folder}",
                    expected="a folder for each run",
                    hint="wait until it has ended, or give another folder",
                )
            _folder(folder, resume)
            for file in folder.glob(".*.tmp*"):  # half a file of a process that was killed
                file.unlink()
            yield
    finally:
        if created:
            with suppress(OSError):  # it isn't empty
                folder.rmdir()


class _Loop:
    """A training in progress: network, optimizer, best epoch, and the folder to write to."""

    def __init__(
        self, fabric: Fabric, network: Model, recipe: Recipe, task: Task, seed: int, bf16: bool,
        folder: Path | None, card: Json, ids: tuple[tuple[str, ...], tuple[str, ...]],
        final: Json | None,
    ) -> None:  # fmt: skip
        self.fabric, self.network, self.recipe, self.task = fabric, network, recipe, task
        self.seed, self.bf16, self.folder, self.card, self.ids = seed, bf16, folder, card, ids
        self.final = final
        optimizer = make_optimizer(network, recipe, fabric.device)
        self.objective, self.optimizer = fabric.setup(Objective(network, bf16), optimizer)
        self.average = WeightAverage(network, recipe.average) if recipe.average else None
        self.best: dict[str, Tensor] = {}
        self.metrics: Json = {}
        self.last: Trained | None = None

    def run(
        self, train: Split, val: Split, test: Split | None, *, resume: bool, tensorboard: bool,
        progress: EpochProgress | None,
    ) -> list[Json]:  # fmt: skip
        """Train to the last epoch, or until patience ends; the history."""
        kind = torch.bfloat16 if self.bf16 else None
        clips = resident(train, dtype=kind, device=self.fabric.device, copies=True)
        validation = [
            resident(split, dtype=kind, device=self.fabric.device)
            for split in (None if self.final else val, test)
            if split is not None
        ]
        history = self._restore() if resume else []
        step = Stepper(self.fabric, self.objective, self.optimizer, clips, self.recipe)
        board = _board(self.folder) if tensorboard else None
        try:
            while len(history) < self.recipe.epochs and not self._patience_ended(history):
                history.append(self._epoch(len(history), step, validation))
                with self._disk_errors(history):
                    self._save(history)
                if board:
                    _log(board, history[-1])
                if progress and self.fabric.is_global_zero:
                    progress(history[-1], self.recipe.epochs)
        except KeyboardInterrupt as e:  # the last whole epoch is on disk already
            raise Stopped(_how_to_resume(self.folder, len(history))) from e
        self._conclude(history)
        return history

    def _conclude(self, history: list[Json]) -> None:
        """After the last epoch: its model, and the best test score where there are any."""
        metric, key = self.task.selection_metric, TEST + self.task.selection_metric
        if tested := [record for record in history if key in record]:
            best = max(tested, key=lambda record: float(record[key]))
            scores = {k[len(TEST) :]: v for k, v in best.items() if k.startswith(TEST)}
            self.metrics |= {"test_chosen": {"epoch": best["epoch"], "metrics": scores}}
        if self.task.shows_last_epoch and history and not self.final:
            with self._averaged():
                self.last = self._model(
                    self.network.state_dict(),
                    {"epoch": len(history), "metric": metric, "value": history[-1].get(metric),
                     "selection": "the last epoch"},
                )  # fmt: skip
        if self.folder is None or not self.fabric.is_global_zero:
            return
        with self._disk_errors(history):
            if tested:
                self.trained().save(self.folder)
            if self.last:
                self.last.save(self.folder / LAST)

    def _epoch(self, epoch: int, step: Stepper, validation: list[Resident]) -> Json:
        """Train for one epoch, validate where it is due; the record."""
        torch.manual_seed(_mixed(self.seed, epoch))
        record: Json = {"epoch": epoch + 1, "loss": self._train(epoch, step)}
        last = epoch + 1 == self.recipe.epochs
        due = last or (not self.final and (epoch + 1) % self.recipe.validate_every == 0)
        if due:
            with self._averaged():
                self._finish(step.clips)
                self._evaluate(record, validation)
        return record

    def _averaged(self) -> AbstractContextManager[None]:
        """The network with its averaged weights, where the recipe has an average."""
        return self.average.applied() if self.average else nullcontext()

    def _evaluate(self, record: Json, validation: list[Resident]) -> None:
        """Validate into an epoch's record and select the epoch if it is better; final: select."""
        if self.final:
            self._select({**self.final, "epoch": record["epoch"]})
            return
        record |= self._validate(validation[0])
        if self.recipe.selection == "tag_loss":
            record["tag_loss"] = self._tag_loss(validation[0])
        for clips in validation[1:]:
            record |= {TEST + k: v for k, v in self._validate(clips).items()}
        if (metrics := self._better(record)) is not None:
            self._select(metrics)

    def _better(self, record: Json) -> Json | None:
        """The card's ``metrics`` where this epoch is to be selected, None where it isn't."""
        rule, metric = self.recipe.selection, self.task.selection_metric
        chosen = {"epoch": record["epoch"], "metric": metric, "value": record[metric]}
        if rule == "last":
            return {**chosen, "selection": "the last epoch"}
        if rule == "tag_loss":
            loss = record["tag_loss"]
            if self.metrics and not loss < self.metrics["tag_loss"]:
                return None
            return {**chosen, "tag_loss": loss, "selection": "lowest tag loss on validation"}
        if self.metrics and not record[metric] > self.metrics["value"]:
            return None
        return {**chosen, "selection": f"best {metric} on validation"}

    def _tag_loss(self, clips: Resident) -> float:
        """WSEL's loss over the tags of all clips, no gradient recorded."""
        objective, total = Objective(self.network, self.bf16).eval(), 0.0
        positions = torch.arange(len(clips), device=clips.lengths.device)
        with torch.inference_mode():
            for rows in torch.split(positions, self.recipe.batch):
                batch = clips.batch(rows, device=self.fabric.device)
                total += float(objective(batch)) * len(rows)
        return total / len(clips)

    def _select(self, metrics: Json) -> None:
        """Take this epoch's weights as the run's."""
        self.metrics = metrics
        self.best = {n: t.detach().clone() for n, t in self.network.state_dict().items()}

    def _train(self, epoch: int, stepper: Stepper) -> float:
        """One pass over the clips; the mean loss."""
        self.objective.train()
        trained_on, steps = self._sizes(len(stepper.clips))
        alone, losses = self.fabric.world_size == 1, list[Tensor]()
        for positions, share, size in self._shares(stepper.clips, epoch):
            done = epoch * steps + len(losses)
            if self.recipe.lr_step:
                stepper.set_rate(self.recipe.lr * 0.1 ** (done // self.recipe.lr_step))
            loss = stepper(positions, share * self.fabric.world_size)
            if self.average:
                self.average.update(done + 1)
            losses.append(loss * (share * size))
            if alone and loss.device.type == "cpu":  # anything else would have to be waited for
                _check_finite(losses[-1:], epoch, len(losses))
        total = self.fabric.all_reduce(torch.stack(losses), reduce_op="sum")
        assert isinstance(total, Tensor)
        _check_finite(list(total), epoch, 1)
        return float(total.sum()) / trained_on

    def _sizes(self, clips: int) -> tuple[int, int]:
        """The clips that an epoch trains on, and its steps."""
        batch = self.recipe.batch
        if self.recipe.drop_last:
            return clips // batch * batch, clips // batch
        return clips, -(-clips // batch)

    def _shares(self, clips: Resident, epoch: int) -> Iterator[tuple[Tensor, float, int]]:
        """This process's positions of every batch, their share of it, the batch's size.

        Shares are of what the loss is a mean over, segments or (WSEL) clips, so that the processes'
        gradients, each weighed by its share, add up to those of the whole batch.
        """
        generator = torch.Generator().manual_seed(_mixed(self.seed, epoch))
        order = self._order(clips, generator).to(clips.lengths.device)
        order = order[: self._sizes(len(clips))[0]]
        weights = torch.ones_like(clips.lengths) if self.task.weak else clips.lengths
        rank, world = self.fabric.global_rank, self.fabric.world_size
        for batch in torch.split(order, self.recipe.batch):
            part = batch[rank::world]
            share = float(weights[part].sum() / weights[batch].sum()) if world > 1 else 1.0
            yield part if len(part) else batch[:1], share, len(batch)  # all take every step

    def _order(self, clips: Resident, generator: torch.Generator) -> Tensor:
        """(N,) positions of an epoch: each once, or drawn by how rare the clips' classes are."""
        if not self.recipe.shuffle:
            return torch.arange(len(clips))
        if not self.recipe.balance:
            return torch.randperm(len(clips), generator=generator)
        weights = rarity(clips.labels.cpu(), len(self.card["classes"])) ** self.recipe.balance
        return torch.multinomial(weights, len(clips), replacement=True, generator=generator)

    def _finish(self, clips: Resident) -> None:
        """Let the model fit what gradients can't, on the training split in its own order."""
        device = self.fabric.device
        positions = torch.arange(len(clips), device=clips.lengths.device)
        self.network.eval()
        with autocast(device, self.bf16):
            self.network.finish(
                clips.batch(rows, device=device)
                for rows in torch.split(positions, self.recipe.batch)
            )

    def _validate(self, clips: Resident) -> dict[str, float]:
        predict = self.task.predictor(
            self.network, clips, device=self.fabric.device, bf16=self.bf16
        )  # fmt: skip
        classes, step = len(self.card["classes"]), float(self.card["step"])
        return self.task.evaluate(predict, clips.split, classes, step=step, full=False)

    def _patience_ended(self, history: list[Json]) -> bool:
        """Whether as many validations as the recipe's patience went by without a better one."""
        if not self.recipe.patience or not self.metrics:
            return False
        metric = self.task.selection_metric
        since = [r for r in history if metric in r and r["epoch"] > self.metrics["epoch"]]
        return len(since) >= self.recipe.patience

    def trained(self) -> Trained:
        """The selected epoch's model."""
        return self._model(self.best, self.metrics)

    def _model(self, state: Mapping[str, Tensor], metrics: Json) -> Trained:
        network = build_network(self.card)
        network.load_state_dict({n: t.cpu() for n, t in state.items()})
        return Trained(network.eval(), {**self.card, "metrics": dict(metrics)}, *self.ids)

    def _save(self, history: list[Json]) -> None:
        """State, history and, where this epoch is the best so far, the checkpoint."""
        if self.folder is None or not self.fabric.is_global_zero or not history:
            return
        save_state(
            self.folder,
            State(self.network.state_dict(), self.optimizer.state_dict(), self.best, history,
                  self.metrics, run_identity(self.card),
                  self.average.values if self.average else {}),
        )  # fmt: skip
        self._write_tables(self.folder, history)
        if self.metrics and self.metrics["epoch"] == len(history):
            self.trained().save(self.folder)

    def _write_tables(self, folder: Path, history: list[Json]) -> None:
        write_whole(folder / HISTORY, table(history))
        write_whole(folder / RECIPE, to_toml(self.recipe))

    @contextmanager
    def _disk_errors(self, history: list[Json]) -> Iterator[None]:
        """Turn an error of the disk into one that says what is saved."""
        try:
            yield
        except OSError as e:
            error = disk_error(e)
            resumable = self.folder is not None and (self.folder / STATE).is_file()
            hint = f"{error.hint}; then continue with --resume" if resumable else error.hint
            consequence = (
                "the state saved before it is intact" if resumable else "nothing was saved"
            )
            raise CheckpointError(
                f"epoch {len(history)} can't be saved ({error.got}); {consequence}", hint=hint
            ) from e

    def _restore(self) -> list[Json]:
        """The history of the state in the folder, its weights put back; [] where there is none."""
        if self.folder is None:
            return []
        state = load_state(self.folder)
        if state is None:
            return []
        theirs = with_recipe_defaults(state.identity)
        differs = sorted(k for k, v in run_identity(self.card).items() if theirs.get(k) != v)
        if differs:
            raise CheckpointError(
                f"{self.folder} has another run: its {', '.join(differs)} differ",
                expected="the same model, data, seed and recipe (epochs and patience may change)",
                hint="give the arguments of that run, or another folder",
            )
        try:
            self.network.load_state_dict(state.model)
            restore_optimizer(self.optimizer, state.optimizer)
            if self.average:
                self.average.restore(state.average)
        except (RuntimeError, ValueError, KeyError) as e:
            raise CheckpointError(
                f"{self.folder}: {e}", hint="start again in another folder"
            ) from e
        self.best, self.metrics = state.best, state.metrics
        if self.fabric.is_global_zero:  # the process may have died between the state and the rest
            with self._disk_errors(state.history):
                self._write_tables(self.folder, state.history)
                if self.metrics:
                    self.trained().save(self.folder)
        return state.history


def _fabric(device: str, devices: int) -> Fabric:
    from lightning_fabric import Fabric

    chosen = torch_device(device)
    try:
        fabric = Fabric(
            accelerator=chosen.type, devices=devices if chosen.index is None else [chosen.index]
        )
    except (ValueError, RuntimeError, TypeError) as e:
        raise UsageError(
            f"{devices} devices of {device!r} can't be used: {e}", hint="choose what is there"
        ) from e
    fabric.launch()
    return fabric


def _check_finite(losses: list[Tensor], epoch: int, first: int) -> None:
    """Raise AvelError with the number of the first step whose loss isn't finite."""
    values = torch.stack(losses)
    if bool(torch.isfinite(values).all()):
        return
    first_bad = int(torch.isfinite(values).int().argmin())
    raise AvelError(
        f"the loss is {values[first_bad].item()} in epoch {epoch + 1}, step {first + first_bad}",
        expected="a finite loss",
        hint="lower lr, set clip_norm=1 or precision=float32, or look for features that"
        " aren't finite",
    )


def _bf16(recipe: Recipe, device: torch.device) -> bool:
    if recipe.precision == "auto":
        return has_bf16_units(device)
    return recipe.precision == "bf16"


def _mixed(seed: int, epoch: int) -> int:
    """A seed of its own for every epoch, so that no state of a generator has to be saved."""
    digest = hashlib.sha256(f"{seed}:{epoch}".encode()).digest()
    return int.from_bytes(digest[:7], "big")


def _folder(out: str | Path | None, resume: bool) -> Path | None:
    if out is None:
        return None
    folder = Path(out)
    if not resume and (folder / WEIGHTS).is_file():
        raise UsageError(
            f"{folder} already has a run", hint="give --resume to continue it, or another folder"
        )
    if resume and (folder / WEIGHTS).is_file() and not (folder / STATE).is_file():
        raise UsageError(
            f"{folder} has a run without the {STATE} to resume from",
            hint="give another folder",
        )
    return folder


def _network(model: str, data: Dataset, train: Split, task: TaskName, recipe: Recipe) -> Model:
    """Fresh weights; where the recipe standardises, with the training split's own numbers."""
    dims = {"audio": int(train.audio.shape[-1]), "visual": int(train.visual.shape[-1])}
    network = build_network(
        {"model": model, "dims": dims, "classes": data.classes, "task": task,
         "options": recipe.options, "recipe": to_json(recipe)}
    )  # fmt: skip
    if recipe.standardize:
        for modality, (mean, sd) in channel_statistics(train).items():
            network.intake.take(modality, mean, sd)
    return network


def _how_to_resume(folder: Path | None, epochs: int) -> str:
    if folder is None or not epochs:
        return f"stopped after {epochs} epochs; nothing was saved"
    return f"stopped after {epochs} epochs, saved in {folder}; continue with --resume"


def _board(folder: Path | None) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as e:
        raise UsageError(
            "TensorBoard isn't installed", hint="pip install tensorboard, or leave it out"
        ) from e
    return SummaryWriter(str(folder or "runs"))


def _log(board: Any, record: Mapping[str, Any]) -> None:
    for name, value in record.items():
        if name != "epoch":
            board.add_scalar(name, value, record["epoch"])
    board.flush()
