"""`avel serve`: a page on which videos are localized and corrected, and its API."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from avel.cli._options import Device, Precision, check_precision, need_packages
from avel.device import check_device, sleep_while_waiting


def serve(
    root: Annotated[
        list[Path] | None,
        typer.Option(help="A folder whose videos the page offers; may be repeated."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="The data set that corrected files are added to, for `avel train data=DIR`: a new "
            "folder, or one with clips, labelled or not."
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="A model, as for `avel localize`; may be repeated, the first is the default."
        ),
    ] = None,
    state: Annotated[
        Path, typer.Option(help="The folder for jobs, uploads and corrections.")
    ] = Path("avel-serve"),
    host: Annotated[
        str,
        typer.Option(help="The address to listen on; one that other machines reach needs a token."),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port; 0 for any free one.")
    ] = 8321,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="AVEL_TOKEN",
            help="The token that users must give; drawn where other machines reach the server.",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Another name of the server; may be repeated.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, max=64, help="Worker processes.")] = 1,
    queue: Annotated[int, typer.Option(min=1, max=10_000, help="Waiting jobs at most.")] = 32,
    upload_mb: Annotated[float, typer.Option(min=0.001, help="MB of one upload at most.")] = 2000,
    total_gb: Annotated[float, typer.Option(min=0, help="GB of all uploads at most.")] = 100,
    minutes: Annotated[float, typer.Option(min=0.01, help="Minutes of a file at most.")] = 120,
    job_minutes: Annotated[float, typer.Option(min=0.01, help="Minutes of a job at most.")] = 60,
    training_minutes: Annotated[
        float, typer.Option(min=0.01, help="Minutes of a training at most.")
    ] = 240,
    precision: Precision = "float32",
    device: Device = "auto",
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Store no features for other models.")
    ] = False,
) -> None:
    """Serve a page that localizes videos in a browser.

    Events can be corrected there, for export and training.
    """
    sleep_while_waiting()
    check_precision(precision)
    check_device(device)
    need_packages("serve", ("fastapi", "uvicorn", "python_multipart"), "serve")
    from avel.web.jobs import JobService, Limits
    from avel.web.roots import named_roots
    from avel.web.server import bind, named_models, run, token_for
    from avel.web.training import TrainingOptions
    from avel.web.worker import ModelWorker

    limits = Limits(
        upload_bytes=round(upload_mb * 10**6),
        total_bytes=round(total_gb * 10**9),
        minutes=minutes,
        queue=queue,
        job_minutes=job_minutes,
        training_minutes=training_minutes,
    )
    roots = named_roots(root or [])
    binding = bind(host, port, allow_host or ())
    secret = token_for(binding, token)
    models = named_models(model or ["default"])
    start = partial(
        ModelWorker,
        models,
        cache=not no_cache,
        precision=precision,  # type: ignore[arg-type]
        device=device,
    )
    training = TrainingOptions(models, device=device)
    service = JobService(
        state, start, roots=roots, data=data, limits=limits, jobs=jobs, training=training
    )
    service.load()
    shown = f"{binding.address}?token={secret}" if secret and token is None else binding.address
    print(f"avel serves at {shown} (Ctrl-C ends it)", flush=True)
    run(service, binding, secret)
