"""`avel extract`: features of files, folders and lists of files, skipping what is done."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avel.cli._options import AudioTrack, Device, Precision, VideoTrack, note_ignored_files
from avel.device import check_device, sleep_while_waiting
from avel.errors import DataError, UsageError, all_at_once

if TYPE_CHECKING:
    from avel.cli._meter import Meter
    from avel.features.corpus import JobOutcome, MediaJob, Outcomes, Settings
    from avel.features.listing import FilePlan


def extract(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE|DIR|LIST...",
            help="Media files, folders of them, or text files (.txt, .lst) with a path a line.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="A folder for the features, or NAME.safetensors for one file. By default beside a "
            "file, in DIR/features for a folder, in features beside a list.",
        ),
    ] = None,
    audio: Annotated[
        str | None, typer.Option(help="Audio backbone; by default AVEL_AUDIO, or yamnet_segment.")
    ] = None,
    visual: Annotated[
        str | None,
        typer.Option(help="Visual backbone; by default AVEL_VISUAL, or efficientnet_lite0."),
    ] = None,
    step: Annotated[float, typer.Option(help="Seconds a segment.")] = 1.0,
    batch: Annotated[int, typer.Option(help="Frames in one batch of the visual network.")] = 32,
    dtype: Annotated[str, typer.Option(help="The stored type: float16 or float32.")] = "float16",
    precision: Precision = "auto",
    device: Device = "auto",
    compile: Annotated[
        bool,
        typer.Option("--compile", help="Compile the visual network first: 10 to 35 s a worker."),
    ] = False,
    audio_track: AudioTrack = None,
    video_track: VideoTrack = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            help="Worker processes; 0 for one a core. By default this process alone, and on Ray "
            "as many as the cluster has cores for.",
        ),
    ] = None,
    threads: Annotated[
        int, typer.Option(help="Threads of each process; 0 shares the cores among them.")
    ] = 0,
    engine: Annotated[
        str, typer.Option(help="local, or ray for a cluster (pip install 'avel[ray]').")
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(help="The address of a running Ray cluster; auto for this machine's."),
    ] = None,
    copies: Annotated[
        int,
        typer.Option(
            help="For a labelled folder: also extract so many altered copies of its training clips "
            "(noise, blur, light, crop), which `avel train` learns from."
        ),
    ] = 0,
    again: Annotated[bool, typer.Option("--again", help="Extract again what is done.")] = False,
    retry: Annotated[
        bool, typer.Option("--retry", help="Try again what is in quarantine.")
    ] = False,
) -> None:
    """Compute the features of videos, for `avel train`.

    Writes one file a clip. What is done is skipped. A file that can't be used goes to quarantine,
    with the reason in manifest.csv beside the features, until it changes or --retry.
    """
    sleep_while_waiting()
    check_device(device)
    from avel.backbones.base import default_backbone
    from avel.features.corpus import Settings
    from avel.features.listing import plan

    _check(dtype=dtype, precision=precision, batch=batch, step=step, jobs=jobs, threads=threads,
           engine=engine, address=address, copies=copies)  # fmt: skip
    settings = Settings(
        audio=audio or default_backbone("audio", training=True),
        visual=visual or default_backbone("visual", training=True), step=step, batch=batch,
        precision=precision, compile=compile, device=device,  # type: ignore[arg-type]
        dtype=dtype, audio_track=audio_track, video_track=video_track, again=again, retry=retry,
    )  # fmt: skip
    file_plan = plan(inputs, out)
    copy_plans = _copy_plans(inputs, out, copies)
    if precision == "auto" and not compile:
        seconds = sum(
            _seconds_a_worker(p, again=again, engine=engine, jobs=jobs)
            for p in (file_plan, *copy_plans)
        )
        settings = replace(settings, media_seconds=seconds)
    note_ignored_files(inputs)
    _print_summaries(inputs)
    start = partial(_engine, engine=engine, count=jobs, threads=threads, address=address)
    worst = 0
    for number, one in enumerate((file_plan, *copy_plans)):
        tally = _run(one, replace(settings, copy=number), start)
        typer.echo(f"altered copy {number}: {tally}" if number else str(tally))
        if tally.failed or tally.skipped:
            for store in one.stores:
                typer.echo(f"see {store / 'manifest.csv'}")
            worst = max(worst, 2 if tally.wrong_calls == one.count else 1)
    if worst:
        raise typer.Exit(worst)


def _copy_plans(inputs: list[Path], out: Path | None, count: int) -> list[FilePlan]:
    """The training clips of a labelled folder, once for each altered copy.

    Raises:
        UsageError: if the input isn't one folder.
        DataError: if it has no labels.
    """
    from avel.data.folder import training_files
    from avel.features.listing import plan
    from avel.features.store import FOLDER, copy_folder

    if not count:
        return []
    if len(inputs) != 1 or not inputs[0].is_dir():
        raise UsageError(f"--copies {count} of {' '.join(map(str, inputs[:3]))}",
                         expected="one folder with labels, whose training clips are copied",
                         hint="avel extract DIR --copies 2")  # fmt: skip
    root = inputs[0]
    only = frozenset(training_files(root))
    features = out or root / FOLDER
    return [plan(inputs, copy_folder(features, n), only=only) for n in range(1, count + 1)]


def _seconds_a_worker(plan: FilePlan, *, again: bool, engine: str, jobs: int | None) -> float:
    """About how many seconds of video one worker extracts; 0 where that isn't known."""
    from avel.features.listing import pending_seconds
    from avel.processes import cores

    if engine == "ray" and not jobs:  # as many as the cluster has cores for
        return 0.0
    count = 1 if jobs is None else jobs or cores()
    return pending_seconds(plan.jobs(), again=again) / max(1, min(count, plan.count))


def _print_summaries(inputs: list[Path]) -> None:
    """A line on the labels of each folder that has some."""
    from avel.data.check import check_folder

    for folder in (p for p in inputs if p.is_dir()):
        try:
            checked = check_folder(folder, quick=True)
        except DataError:  # a folder of media without labels
            continue
        more = f" (avel check {folder})" if checked.problems else ""
        typer.echo(f"{checked.summary()}{more}")


@dataclass
class _Tally:
    """How many files have each outcome."""

    made: int = 0
    kept: int = 0
    failed: int = 0
    skipped: int = 0
    noted: int = 0
    wrong_calls: int = 0
    error: float = 0.0

    def add(self, outcome: JobOutcome) -> None:
        counted = "failed" if outcome.status == "bad" else outcome.status
        setattr(self, counted, getattr(self, counted) + 1)
        self.noted += outcome.status == "made" and bool(outcome.reason)
        self.wrong_calls += outcome.usage_error
        self.error = max(self.error, outcome.error)

    def __str__(self) -> str:
        text = f"{self.made} extracted, {self.kept} already there, {self.failed} failed"
        text += f", {self.skipped} in quarantine (--retry)" if self.skipped else ""
        text += f"; {self.noted} with notes (manifest.csv)" if self.noted else ""
        return text + (f"; bf16, 1 - cosine at most {self.error:.1g}" if self.error else "")


def _check(
    *, dtype: str, precision: str, batch: int, step: float, jobs: int | None, threads: int,
    engine: str, address: str | None, copies: int,
) -> None:  # fmt: skip
    from avel.features.store import MOST_COPIES
    from avel.media.file import STEPS

    mistakes = []
    if dtype not in ("float16", "float32"):
        mistakes.append(f"--dtype {dtype}: expected float16 or float32")
    if precision not in ("auto", "float32", "bf16"):
        mistakes.append(f"--precision {precision}: expected auto, float32 or bf16")
    if not 1 <= batch <= 4096:
        mistakes.append(f"--batch {batch}: expected 1 to 4096")
    if not STEPS[0] <= step <= STEPS[1]:
        mistakes.append(f"--step {step}: expected {STEPS[0]} to {STEPS[1]} seconds")
    if not 0 <= copies <= MOST_COPIES:
        mistakes.append(f"--copies {copies}: expected 0 to {MOST_COPIES}")
    if jobs is not None and not 0 <= jobs <= 4096:
        mistakes.append(f"--jobs {jobs}: expected 0 to 4096")
    if not 0 <= threads <= 1024:
        mistakes.append(f"--threads {threads}: expected 0 to 1024")
    if engine not in ("local", "ray"):
        mistakes.append(f"--engine {engine}: expected local or ray")
    if address is not None and engine != "ray":
        mistakes.append("--address: expected --engine ray with it")
    if mistakes:
        raise all_at_once("avel extract", mistakes)


def _engine(
    jobs: Iterator[MediaJob],
    settings: Settings,
    meter: Meter,
    *,
    total: int,
    engine: str,
    count: int | None,
    threads: int,
    address: str | None,
) -> Outcomes:
    """The outcomes of the chosen engine."""
    if engine == "ray":
        from avel.features.cluster import on_ray

        return on_ray(jobs, settings.start, total=total, count=count or 0, threads=threads,
                      address=address)  # fmt: skip
    from avel.features.workers import in_processes
    from avel.processes import cores

    count = 1 if count is None else count or cores()
    if count > 1:
        return in_processes(jobs, settings.start, total=total, count=count, threads=threads)
    from avel.features.corpus import in_process

    if threads:
        import torch

        torch.set_num_threads(threads)
    return in_process(jobs, partial(settings.start, meter.part))


def _run(plan: FilePlan, settings: Settings, engine: Callable[..., Outcomes]) -> _Tally:
    """Run all jobs; count, print and store the outcome of each as it comes."""
    from avel.cli._meter import Meter
    from avel.features.outcomes import stored_outcomes

    tally = _Tally()
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(sys.stderr))  # where Ray's messages go
        meter = stack.enter_context(Meter(plan.count))
        run = partial(engine, settings=settings, meter=meter, total=plan.count)
        for outcome in stack.enter_context(closing(stored_outcomes(plan, run))):
            tally.add(outcome)
            meter.add(outcome)
            if outcome.reason and outcome.status not in ("made", "kept"):
                meter.print(f"avel: {outcome.reason}")
            if outcome.fatal:
                raise DataError(
                    "the extraction stopped, as all other files would fail too",
                    hint="correct that, then run it again",
                )
    return tally
