"""Ray: the same outcomes as anywhere else, and nothing lost or doubled when a worker is killed."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from avel.cli.main import main
from avel.errors import AvelError
from avel.types import Features
from tests import corpus_work
from tests.media_files import grey, mux, tone

COUNT = 24


def test_without_ray_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    mux(tmp_path / "a.mkv", pictures=[(0.0, grey(9))])
    assert main(["extract", str(tmp_path), "--engine", "ray"]) == 2
    told = capfd.readouterr().err
    assert "pip install 'avel[ray]'" in told and "Traceback" not in told
    assert not (tmp_path / "features").exists()


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """A local cluster of several processes, two cores as it believes."""
    found = pytest.importorskip("ray", reason="Ray isn't installed: pip install 'avel[ray]'")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    found.init(
        "local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
        object_store_memory=80 * 2**20,
    )  # fmt: skip
    yield found
    found.shutdown()


def run(jobs: list[Any], start: Any = corpus_work.start, **options: Any) -> list[Any]:
    from avel.features.cluster import on_ray

    return list(on_ray(jobs, start, total=len(jobs), **{"count": 2, "threads": 1} | options))


def check(outcomes: list[Any], jobs: list[Any]) -> None:
    assert sorted(o.job.name for o in outcomes) == sorted(j.name for j in jobs)
    for outcome in outcomes:
        assert Path(outcome.job.target).exists() == (outcome.status in ("made", "kept"))


@pytest.mark.slow
def test_every_job_once(ray: Any, tmp_path: Path) -> None:
    jobs = corpus_work.jobs(tmp_path, *(f"{i:02d}" for i in range(40)))
    check(run(jobs), jobs)
    notes = [Path(job.target).read_text().split() for job in jobs]
    assert len({pid for pid, _ in notes}) == 2 and {threads for _, threads in notes} == {"1"}


@pytest.mark.slow
def test_actors_killed_in_the_middle_lose_nothing(ray: Any, tmp_path: Path) -> None:
    from avel.features.cluster import on_ray

    jobs = corpus_work.jobs(tmp_path, *(f"{i:02d}" for i in range(60)))
    done = []
    for outcome in on_ray(jobs, corpus_work.start, total=60, count=2, threads=1):
        done.append(outcome)
        if len(done) in (1, 25):
            os.kill(int(Path(outcome.job.target).read_text().split()[0]), signal.SIGKILL)
    check(done, jobs)
    assert {o.status for o in done} <= {"made", "kept"}


@pytest.mark.slow
def test_a_file_that_kills_its_worker_goes_to_quarantine(ray: Any, tmp_path: Path) -> None:
    jobs = corpus_work.jobs(tmp_path, *(f"{i:02d}" for i in range(12)), "kill", "zz")
    done = run(jobs)
    check(done, jobs)
    (bad,) = [o for o in done if o.status == "bad"]
    assert bad.job.name == "kill" and "every process that read it died" in bad.reason


@pytest.mark.slow
def test_a_silent_worker_is_given_up(ray: Any, tmp_path: Path) -> None:
    """A stopped process is what a lost node looks like from afar."""
    from avel.features.cluster import on_ray

    jobs = corpus_work.jobs(tmp_path, *(f"{i:02d}" for i in range(40)))
    done = []
    for outcome in on_ray(
        jobs, corpus_work.start, total=40, count=2, threads=1, silence_timeout=4.0
    ):  # fmt: skip
        done.append(outcome)
        if len(done) == 1:
            os.kill(int(Path(outcome.job.target).read_text().split()[0]), signal.SIGSTOP)
    check(done, jobs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("start", "told"),
    [
        (corpus_work.start_without_weights, "no weights\n  expected: a file\n  hint: fetch it"),
        (corpus_work.start_with_a_bug, "RuntimeError: a bug"),
        (corpus_work.start_dead, "die while they load the networks"),
    ],
)
def test_workers_that_cannot_start(ray: Any, tmp_path: Path, start: Any, told: str) -> None:
    with pytest.raises(AvelError, match=told):
        run(corpus_work.jobs(tmp_path, "a", "b"), start)


@pytest.mark.slow
def test_more_workers_than_cores_do_not_hang(ray: Any, tmp_path: Path) -> None:
    jobs = corpus_work.jobs(tmp_path, *(f"{i:02d}" for i in range(12)))
    check(run(jobs, count=5), jobs)
    with pytest.raises(AvelError, match="no worker of 2 cores came up within 3 s"):
        blocker = ray.remote(num_cpus=1)(type("Blocker", (), {"here": lambda self: 1})).remote()
        ray.get(blocker.here.remote())
        run(jobs, count=1, threads=2, start_timeout=3.0, silence_timeout=2.0)
    ray.kill(blocker)


# --- the command, in a process of its own --------------------------------------------------------


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    root = tmp_path / "clips"
    root.mkdir()
    rng = np_pictures()
    mux(root / "00.mkv", pictures=rng, sounds=[(0.0, tone(8, 16000))])
    for i in range(1, COUNT):
        shutil.copy(root / "00.mkv", root / f"{i:02d}.mkv")
    (root / "bad.mp4").write_bytes(b"nonsense")
    return root


def np_pictures() -> list[tuple[float, Any]]:
    import numpy as np

    rng = np.random.default_rng(0)
    return [
        (k / 16, rng.integers(0, 255, (4, 4, 3), np.uint8).repeat(40, 0).repeat(40, 1))
        for k in range(128)
    ]


@pytest.mark.slow
def test_a_killed_worker_loses_and_doubles_nothing(clips: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray isn't installed: pip install 'avel[ray]'")
    import psutil

    out = tmp_path / "out"
    command = [sys.executable, "-m", "avel", "extract", str(clips), "-o", str(out)]
    command += ["--engine", "ray", "-j", "2", "--precision", "float32"]
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as running:
        killed = 0
        while running.poll() is None and not killed:
            time.sleep(0.05)
            if len(list(out.glob("*.safetensors"))) >= 3:
                hands = [
                    p
                    for p in psutil.Process(running.pid).children(recursive=True)
                    if p.name().startswith("ray::") and "_Hand" in " ".join(p.cmdline())
                ]
                if hands:
                    hands[0].kill()  # SIGKILL
                    killed = hands[0].pid
        told, errors = running.communicate(timeout=240)
    assert killed, "the job was done before a worker could be killed"
    assert running.returncode == 1, errors  # bad.mp4
    assert f"{COUNT} extracted, 0 already there, 1 failed" in told, told + errors
    assert "Traceback" not in errors
    with (out / "manifest.csv").open(newline="") as f:
        rows = list(csv.DictReader(f))
    assert sorted(row["file"] for row in rows) == sorted(p.name for p in clips.iterdir())
    assert {row["status"] for row in rows if row["file"] != "bad.mp4"} == {"done"}
    made = sorted(out.glob("*.safetensors"))
    assert len(made) == COUNT and {len(Features.load(p)) for p in made} == {8}


@pytest.mark.slow
@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:99999999"])
def test_no_cluster_at_the_address(
    clips: Path, address: str, capfd: pytest.CaptureFixture[str]
) -> None:
    ray = pytest.importorskip("ray", reason="Ray isn't installed: pip install 'avel[ray]'")
    if ray.is_initialized():
        ray.shutdown()
    assert main(["extract", str(clips), "--engine", "ray", "--address", address]) == 2
    told = capfd.readouterr().err
    assert f"no Ray cluster at {address}" in told and "Traceback" not in told
    assert not (clips / "features").exists()
