"""`avel serve`: a page on which videos are localized and corrected, and its API."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from avel.cli._options import Device, Precision, check_precision
from avel.device import check_device
from avel.errors import UsageError


def serve(
    root: Annotated[
        list[Path] | None,
        typer.Option(help="A folder whose videos may be localized where they lie; repeat it."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="A folder for what was corrected, which `avel train data=DIR` reads."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="As of `avel localize`; repeat it, the first is the default."),
    ] = None,
    state: Annotated[
        Path, typer.Option(help="Where jobs, uploads and corrections are kept.")
    ] = Path("avel-serve"),
    host: Annotated[
        str, typer.Option(help="Where to listen; another than this machine's own needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8321,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="AVEL_TOKEN",
            help="What everybody must show; made up where others can reach the server.",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Another name that it may be called by; repeat it.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, max=64, help="Worker processes.")] = 1,
    queue: Annotated[int, typer.Option(min=1, max=10_000, help="Jobs that may wait.")] = 32,
    upload_mb: Annotated[float, typer.Option(min=0.001, help="Of one upload, at most.")] = 2000,
    total_gb: Annotated[float, typer.Option(min=0, help="Of all uploads, at most.")] = 100,
    minutes: Annotated[float, typer.Option(min=0.01, help="That a file may last.")] = 120,
    job_minutes: Annotated[float, typer.Option(min=0.01, help="That a job may take.")] = 60,
    precision: Precision = "float32",
    device: Device = "auto",
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Keep no features for other models.")
    ] = False,
) -> None:
    """Serve a page: drop videos, watch, correct, export, and learn from the corrections."""
    check_precision(precision)
    check_device(device)
    _need_packages()
    from avel.web.jobs import JobService, Limits
    from avel.web.roots import named_roots
    from avel.web.server import bind, named_models, run, token_for
    from avel.web.worker import ModelWorker

    limits = Limits(
        upload_bytes=round(upload_mb * 10**6),
        total_bytes=round(total_gb * 10**9),
        minutes=minutes,
        queue=queue,
        job_minutes=job_minutes,
    )
    roots = named_roots(root or [])
    place = bind(host, port, allow_host or ())
    secret = token_for(place, token)
    start = partial(
        ModelWorker,
        named_models(model or ["default"]),
        cache=not no_cache,
        precision=precision,  # type: ignore[arg-type]
        device=device,
    )
    service = JobService(state, start, roots=roots, data=data, limits=limits, jobs=jobs)
    service.load()
    shown = f"{place.address}?token={secret}" if secret and token is None else place.address
    print(f"avel serves at {shown} (Ctrl-C ends it)", flush=True)
    run(service, place, secret)


def _need_packages() -> None:
    from importlib.util import find_spec

    missing = [n for n in ("fastapi", "uvicorn", "python_multipart") if find_spec(n) is None]
    if missing:
        raise UsageError(
            f"not installed: {', '.join(missing)}",
            expected="them",
            hint="pip install 'avel[serve]'",
        )
