"""Corpora: every file once, whatever dies; a manifest that is whole; lists from strangers."""

from __future__ import annotations

import csv
import errno
import io
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avel.cli.main import main
from avel.errors import (
    AvelError,
    DataError,
    MediaError,
    NoSuchModelError,
    UsageError,
    WeightsError,
)
from avel.features import listing
from avel.features.corpus import (
    BATCH,
    BATCH_IN_PROCESS,
    JobOutcome,
    JobQueue,
    MediaJob,
    Settings,
    in_process,
)
from avel.features.listing import pending_seconds, plan
from avel.features.manifest import COLUMNS, Manifest, quarantine, read_manifest
from avel.features.workers import in_processes
from avel.types import Features
from tests import corpus_work
from tests.media_files import grey, mux

# --- who comes next ------------------------------------------------------------------------------


def some(count: int) -> list[MediaJob]:
    return [MediaJob(str(i), f"{i}.mp4", f"{i}.out") for i in range(count)]


def test_lots_shrink_towards_the_end_and_hold_each_job_once() -> None:
    jobs = some(100)
    queue = JobQueue(iter(jobs), total=100, workers=2)
    lots = list(iter(queue.next, []))
    assert [job for lot in lots for job in lot] == jobs
    sizes = [len(lot) for lot in lots]
    assert sizes[0] == BATCH and sizes[-1] == 1 and sizes == sorted(sizes, reverse=True)
    assert queue.empty and queue.next() == []


def test_jobs_are_read_as_they_are_wanted() -> None:
    read = 0

    def endless() -> Iterator[MediaJob]:
        nonlocal read
        while True:
            read += 1
            yield MediaJob(str(read), "", "")

    queue = JobQueue(endless(), total=10**9, workers=2)
    for _ in range(5):
        queue.next()
    assert read == 5 * BATCH


def test_files_of_a_dead_worker_are_tried_alone_and_the_killer_is_found(tmp_path: Path) -> None:
    a, b = corpus_work.jobs(tmp_path, "a", "b")
    queue = JobQueue([a, b], total=16, workers=1)
    assert queue.next() == [a, b]
    assert queue.worker_died([a, b], "SIGKILL") == [] and not queue.empty
    assert queue.next() == [a] and queue.next() == [b]
    assert queue.worker_died([b], "SIGKILL") == [] and queue.next() == [b]
    (given_up,) = queue.worker_died([b], "SIGKILL")
    assert given_up.job == b and given_up.status == "bad" and "SIGKILL" in given_up.reason
    assert len(given_up.content) == 64 and queue.next() == [] and queue.empty


# --- engines -------------------------------------------------------------------------------------


def check(outcomes: Sequence[JobOutcome], jobs: Sequence[MediaJob]) -> None:
    """Each job has one outcome, and one file where it was made."""
    assert sorted(o.job.name for o in outcomes) == sorted(j.name for j in jobs)
    for outcome in outcomes:
        assert Path(outcome.job.target).exists() == (outcome.status in ("made", "kept"))


def test_in_process(tmp_path: Path) -> None:
    jobs = corpus_work.jobs(tmp_path, *"abcdefghijkl")
    done = list(in_process(jobs, corpus_work.start))
    assert [o.job for o in done] == jobs and {o.status for o in done} == {"made"}


def test_in_process_lots_dont_shrink_and_are_read_as_they_are_wanted() -> None:
    """A batch ends with its lot: the last files would go through the networks one by one."""
    lots = []

    def work(lot: Sequence[MediaJob]) -> Iterator[JobOutcome]:
        lots.append(len(lot))
        for job in lot:
            yield JobOutcome(job, "made")

    jobs = iter(some(2 * BATCH_IN_PROCESS + 5))
    done = in_process(jobs, lambda: work)
    next(done)
    assert next(jobs).name == str(BATCH_IN_PROCESS)
    list(done)
    assert lots == [BATCH_IN_PROCESS, BATCH_IN_PROCESS, 4]


def test_in_processes_the_cores_are_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    jobs = corpus_work.jobs(tmp_path, *(f"{i:02d}" for i in range(40)))
    done = list(in_processes(jobs, corpus_work.start, total=40, count=2))
    check(done, jobs)
    notes = [Path(job.target).read_text().split() for job in jobs]
    assert len({pid for pid, _ in notes}) == 2 and {threads for _, threads in notes} == {"3"}
    assert os.environ["OMP_NUM_THREADS"] == "6" and not multiprocessing.active_children()


def test_a_worker_killed_in_the_middle_loses_nothing(tmp_path: Path) -> None:
    jobs = corpus_work.jobs(tmp_path, *(f"{i:02d}" for i in range(60)))
    engine = in_processes(jobs, corpus_work.start, total=60, count=2)
    done = []
    for outcome in engine:
        done.append(outcome)
        if len(done) in (5, 25):
            pid = int(Path(outcome.job.target).read_text().split()[0])
            os.kill(pid, signal.SIGKILL)
    check(done, jobs)
    assert {o.status for o in done} <= {"made", "kept"}
    assert len({Path(job.target).read_text().split()[0] for job in jobs}) == 4


def test_a_file_that_kills_its_worker_goes_to_quarantine(tmp_path: Path) -> None:
    names = [f"{i:02d}" for i in range(12)] + ["kill", "zz"]
    jobs = corpus_work.jobs(tmp_path, *names)
    done = list(in_processes(jobs, corpus_work.start, total=14, count=2))
    check(done, jobs)
    (bad,) = [o for o in done if o.status == "bad"]
    assert bad.job.name == "kill" and "every process that read it died (SIGKILL)" in bad.reason


@pytest.mark.parametrize(
    ("start", "told"),
    [
        (corpus_work.start_without_weights, "no weights\n  expected: a file\n  hint: fetch it"),
        (corpus_work.start_with_a_bug, "RuntimeError: a bug"),
        (corpus_work.start_dead, "die while they load the networks"),
    ],
)
def test_workers_that_cannot_start(tmp_path: Path, start: Any, told: str) -> None:
    jobs = corpus_work.jobs(tmp_path, "a", "b")
    with pytest.raises(AvelError, match=told):
        list(in_processes(jobs, start, total=2, count=2))
    assert not multiprocessing.active_children()


def test_closing_the_engine_stops_its_workers(tmp_path: Path) -> None:
    jobs = corpus_work.jobs(tmp_path, *(f"{i:03d}" for i in range(300)))
    engine = in_processes(jobs, corpus_work.start, total=300, count=2)
    next(engine)
    assert multiprocessing.active_children()
    engine.close()
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("kind", [AvelError, UsageError, WeightsError, NoSuchModelError])
def test_errors_cross_to_other_processes(kind: type[AvelError]) -> None:
    error = pickle.loads(pickle.dumps(kind("got", expected="expected", hint="do")))
    assert type(error) is kind and str(error) == "got\n  expected: expected\n  hint: do"


# --- lists ---------------------------------------------------------------------------------------


def test_a_list_names_files_relative_to_itself(tmp_path: Path) -> None:
    root, other = tmp_path / "a", tmp_path / "b"
    root.mkdir()
    other.mkdir()
    lines = ["x.mp4", "sub/ü y.mp4", "", "x.mp4", "./x.mp4", "../b/x.mp4", str(other / "z.mp4")]
    (root / "list.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    found = plan([root / "list.txt"], None)
    jobs = list(found.jobs())
    assert found.count == 4 and found.stores == (root / "features",)
    assert [job.name for job in jobs] == [
        "x.mp4", "sub/ü y.mp4", str(other / "x.mp4"), str(other / "z.mp4"),
    ]  # fmt: skip
    out = root / "features"
    away = out.joinpath(*other.parts[1:])
    assert [Path(job.target) for job in jobs] == [
        out / "x.safetensors", out / "sub" / "ü y.safetensors",
        away / "x.safetensors", away / "z.safetensors",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "names no files"),
        (b"\n \n", "names no files"),
        (b"a.mp4\0b.mp4\n", ":1: a zero byte"),
        (b"a.mp4\n" + b"x" * 5000, ":2: a path too long"),
        (b"..\n/\n", "list.txt: '/' names no file"),
    ],
)
def test_lists_that_are_none(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(DataError, match=told):
        plan([tmp_path / "list.txt"], None)


def test_no_path_of_a_list_leads_out_of_the_output_folder(tmp_path: Path) -> None:
    hostile = ["../../../etc/x.mp4", "/../../y.mp4", "a/../../../../z.mp4", "-o.mp4", "$(ls).mp4"]
    (tmp_path / "list.txt").write_text("\n".join(hostile))
    out = tmp_path / "out"
    for job in plan([tmp_path / "list.txt"], out).jobs():
        assert Path(os.path.normpath(job.target)).is_relative_to(out), job


def test_a_list_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avel.features.listing.LARGEST", 10)
    (tmp_path / "list.txt").write_text("a long name.mp4\n")
    with pytest.raises(DataError, match="16 bytes"):
        plan([tmp_path / "list.txt"], None)


def test_hidden_and_linked_folders_are_left_out(tmp_path: Path) -> None:
    for name in ("a.mp4", ".b.mp4", ".c/d.mp4", "e/f.MKV", "g.txt"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).touch()
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in", target_is_directory=True)
    found = plan([tmp_path / "in"], None)
    assert [job.name for job in found.jobs()] == ["a.mp4", "e/f.MKV"] and found.count == 2


# --- the manifest --------------------------------------------------------------------------------


def outcome(name: str, status: Any = "made", content: str = "h", **more: Any) -> JobOutcome:
    return JobOutcome(MediaJob(name, f"/{name}", f"/{name}.out"), status, content, **more)


def test_rows_take_the_place_of_older_ones(tmp_path: Path) -> None:
    with Manifest(tmp_path) as first:
        first.add(outcome("a", "bad", "1", reason="a.mp4: is broken\n  hint: mend it"))
        first.add(outcome("b", "failed", ""))
        first.add(outcome("c", seconds=2.5, segments=3, written=1.5e9, backbones="x:y"))
    assert quarantine(tmp_path) == {"a": "1"}
    with Manifest(tmp_path) as second:
        second.add(outcome("a", "skipped", "1"))
        second.add(outcome("b", written=1.5e9))
    rows = {row["file"]: row for row in read_manifest(tmp_path / "manifest.csv")}
    assert [row["status"] for row in rows.values()] == ["quarantined", "done", "done"]
    assert rows["a"]["reason"] == "a.mp4: is broken" and rows["c"]["backbones"] == "x:y"
    assert (rows["c"]["seconds"], rows["c"]["segments"]) == ("2.500", "3")
    assert rows["c"]["time"] == "2017-07-14T02:40:00Z"
    assert [p.name for p in tmp_path.iterdir()] == ["manifest.csv"]


def test_names_of_any_kind_come_back(tmp_path: Path) -> None:
    names = ["a,b", 'q"q', "line\nbreak", "=1+1", "鐘", "\x1b[31m", "bytes\udcff"]
    with Manifest(tmp_path) as book:
        for name in names:
            book.add(outcome(name, "bad"))
    held = [row["file"] for row in read_manifest(tmp_path / "manifest.csv")]
    assert held == [*names[:-1], r"bytes\xff"]


def test_a_spreadsheet_runs_nothing_of_a_manifest(tmp_path: Path) -> None:
    names = ["=cmd|' /C calc'!A0.mp4", "+1.mp4", "@SUM(A1).mp4", "-1.mp4", "'=1.mp4", "a.mp4"]
    for _ in range(2):  # the second run merges the first one's rows
        with Manifest(tmp_path) as book:
            for name in names:
                book.add(outcome(name, "bad", "1", reason=f"{name}: is broken"))
        text = (tmp_path / "manifest.csv").read_text()
        with io.StringIO(text) as f:
            cells = {row["file"] for row in csv.DictReader(f)}
        assert cells == {*(f"'{name}" for name in names[:-1]), "a.mp4"}
        assert text.count("'=cmd|' /C calc'!A0.mp4: is broken") == 1
        assert [r["file"] for r in read_manifest(tmp_path / "manifest.csv")] == names
        assert quarantine(tmp_path) == dict.fromkeys(names, "1")


def test_what_a_killed_run_left_is_taken_in(tmp_path: Path) -> None:
    with Manifest(tmp_path) as book:
        book.add(outcome("a", "bad", "1"))
    pid = os.fork()
    if pid == 0:
        killed = Manifest(tmp_path)
        killed.add(outcome("b", "bad", "2"))
        killed._open.write("torn,row")
        killed._open.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert len(list(tmp_path.glob(".manifest.*.part"))) == 1
    assert quarantine(tmp_path) == {"a": "1", "b": "2"}
    with Manifest(tmp_path) as book:
        book.add(outcome("c"))
    rows = [(r["file"], r["status"]) for r in read_manifest(tmp_path / "manifest.csv")]
    assert rows == [("a", "quarantined"), ("b", "quarantined"), ("c", "done")]
    assert not list(tmp_path.glob(".manifest.*.part"))


def test_a_run_that_goes_on_keeps_its_rows(tmp_path: Path) -> None:
    going = Manifest(tmp_path)
    going.add(outcome("a"))
    with Manifest(tmp_path) as other:
        other.add(outcome("b"))
    assert [r["file"] for r in read_manifest(tmp_path / "manifest.csv")] == ["b"]
    going.add(outcome("c"))
    going.close()
    assert [r["file"] for r in read_manifest(tmp_path / "manifest.csv")] == ["b", "a", "c"]


def test_what_was_made_before_its_worker_died_counts_as_made(tmp_path: Path) -> None:
    with Manifest(tmp_path) as book:
        assert book.add(outcome("a", "kept", written=book.started + 1)).status == "made"
        assert book.add(outcome("b", "kept", written=book.started - 1)).status == "kept"


@pytest.mark.parametrize(
    "content", ["name,size\na,1\n", ",".join(COLUMNS) + "\na,b\n", '"' + "x" * 200_000, "\0"]
)
def test_a_manifest_of_something_else_is_left_alone(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.csv").write_text(content)
    with pytest.raises(DataError, match="isn't a manifest"):
        list(read_manifest(tmp_path / "manifest.csv"))
    mux(tmp_path / "a.mkv", pictures=[(0.0, grey(9))])
    assert main(["extract", str(tmp_path / "a.mkv"), "-o", str(tmp_path)]) == 1
    assert not list(tmp_path.glob("*.safetensors"))
    assert (tmp_path / "manifest.csv").read_text() == content


def test_a_run_that_adds_nothing_leaves_nothing(tmp_path: Path) -> None:
    with Manifest(tmp_path / "new"):
        pass
    assert not (tmp_path / "new").exists()


# --- the command ---------------------------------------------------------------------------------


def rows_of(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as f:
        return {row["file"]: row for row in csv.DictReader(f)}


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    root = tmp_path / "clips"
    root.mkdir()
    for i in range(3):
        mux(root / f"{i}.mkv", pictures=[(k / 4, grey(20 * i + 9 * k)) for k in range(8)])
    (root / "bad.mp4").write_bytes(b"nonsense")
    return root


def test_quarantine_until_the_file_changes_or_retry(
    clips: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = clips / "features"
    assert main(["extract", str(clips)]) == 1
    told = capfd.readouterr()
    assert "3 extracted, 0 already there, 1 failed" in told.out and "bad.mp4" in told.err
    rows = rows_of(out)
    assert rows["bad.mp4"]["status"] == "quarantined" and "media file" in rows["bad.mp4"]["reason"]
    assert rows["0.mkv"]["status"] == "done" and rows["0.mkv"]["segments"] == "2"
    assert main(["extract", str(clips)]) == 1
    told = capfd.readouterr()
    assert "0 extracted, 3 already there, 0 failed, 1 in quarantine" in told.out
    assert told.err == "" and rows_of(out) == rows
    assert main(["extract", str(clips), "--retry"]) == 1
    assert "1 failed" in capfd.readouterr().out
    (clips / "0.mkv").rename(clips / "bad.mp4")
    assert main(["extract", str(clips)]) == 0
    assert "1 extracted, 2 already there, 0 failed" in capfd.readouterr().out
    assert rows_of(out)["bad.mp4"]["status"] == "done"


def test_float32_is_made_again_where_float16_lies(
    clips: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (clips / "bad.mp4").unlink()
    for dtype, told in (("float16", "3 extracted"), ("float32", "3 extracted"),
                        ("float16", "3 already")):  # fmt: skip
        assert main(["extract", str(clips), "--dtype", dtype]) == 0
        assert told in capfd.readouterr().out


# --- what is to come, for --precision auto -------------------------------------------------------


#: Seconds of a file of ``clips``.
LENGTH = 1.751


def test_seconds_of_what_is_to_be_extracted(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = plan([clips], None)
    assert pending_seconds(files.jobs()) == 0  # so few bytes aren't probed
    monkeypatch.setattr(listing, "_WORTH_PROBING", 0)
    (clips / "bad.mp4").write_bytes(b"")
    jobs = list(files.jobs())
    assert pending_seconds(jobs) == pytest.approx(3 * LENGTH)
    assert pending_seconds(jobs[:1]) == pytest.approx(LENGTH)
    done = next(job for job in jobs if job.name == "1.mkv")
    Path(done.target).parent.mkdir()
    Path(done.target).write_bytes(b"features")
    assert pending_seconds(jobs) == pytest.approx(2 * LENGTH)
    assert pending_seconds(jobs, again=True) == pytest.approx(3 * LENGTH)
    assert pending_seconds([]) == 0 and pending_seconds([MediaJob("x", "gone.mp4", "gone")]) == 0


def test_sound_alone_has_no_seconds_of_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "_WORTH_PROBING", 0)
    file = mux(tmp_path / "a.wav", sounds=[(0.0, np.zeros(16000, np.float32))])
    assert pending_seconds([MediaJob("a", str(file), str(tmp_path / "a.out"))]) == 0


def test_of_many_files_a_few_are_probed(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from avel.media import file

    monkeypatch.setattr(listing, "_WORTH_PROBING", 0)
    probed = []
    open_file = file.opened
    monkeypatch.setattr(file, "opened", lambda path: probed.append(path) or open_file(path))
    jobs = [MediaJob(str(i), str(clips / f"{i % 3}.mkv"), f"{i}.none") for i in range(300)]
    assert pending_seconds(jobs) == pytest.approx(300 * LENGTH, rel=0.05)
    assert 16 <= len(probed) < 32 and len(set(probed)) == 3


@pytest.mark.parametrize(
    ("options", "files"),
    [
        ([], 3.0),
        (["-j", "2"], 1.5),
        (["-j", "99"], 0.75),  # of four files
        (["--precision", "bf16"], 0.0),
        (["--compile"], 0.0),
        (["--engine", "ray"], 0.0),  # as many workers as there are cores for
        (["--engine", "ray", "-j", "2"], 1.5),
    ],
)
def test_each_worker_is_told_what_it_has_to_do(
    clips: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], files: float
) -> None:
    from avel.cli import extract

    def run(plan: object, settings: Settings, engine: object) -> object:
        settings_seen.append(settings)
        return extract._Tally()

    settings_seen: list[Settings] = []
    monkeypatch.setattr(extract, "_run", run)
    monkeypatch.setattr(listing, "_WORTH_PROBING", 0)
    (clips / "bad.mp4").write_bytes(b"")
    assert main(["extract", str(clips), *options]) == 0
    assert settings_seen[0].media_seconds == pytest.approx(files * LENGTH)


def test_compiled_features_count_as_done_where_any_precision_does(
    clips: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXX", "true")
    monkeypatch.setattr("torch.compile", lambda run, **_: run)
    (clips / "bad.mp4").unlink()
    command = ["extract", str(clips), "--precision"]
    assert main([*command, "bf16", "--compile"]) == 0
    assert "3 extracted" in capfd.readouterr().out
    assert {r["precision"] for r in rows_of(clips / "features").values()} == {"bf16+bf16 compiled"}
    for options, expected in ((["auto"], "3 already"), (["bf16"], "3 extracted")):
        assert main([*command, *options]) == 0
        assert expected in capfd.readouterr().out


# --- what goes wrong -----------------------------------------------------------------------------


def test_a_full_disk_stops_the_run(
    clips: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(self: Features, path: Path, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (clips / "bad.mp4").unlink()
    monkeypatch.setattr(Features, "save", full)
    assert main(["extract", str(clips)]) == 1
    told = capfd.readouterr()
    assert "No space left" in told.err and "all other files would fail too" in told.err
    assert [row["status"] for row in rows_of(clips / "features").values()] == ["failed"]


def test_what_half_floats_cannot_hold_is_no_quarantine(
    clips: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from avel.features.extractor import Extractor

    made = Extractor.__call__

    def loud(self: Extractor, *given: Any, **options: Any) -> Features:
        found = made(self, *given, **options)
        found.visual[0] = 1e6
        return found

    monkeypatch.setattr(Extractor, "__call__", loud)
    assert main(["extract", str(clips / "0.mkv"), "-o", str(clips / "out")]) == 1
    assert "--dtype float32" in capfd.readouterr().err
    assert rows_of(clips / "out")[str(clips / "0.mkv")]["status"] == "failed"


def test_an_error_nobody_foresaw_is_named_and_the_others_are_done(
    clips: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from avel.features.corpus import _ProcessWork

    kept = _ProcessWork._store

    def sometimes(self: _ProcessWork, job: MediaJob, content: str, found: Any) -> JobOutcome:
        return kept(self, job, content, RuntimeError("boo") if job.name == "1.mkv" else found)

    monkeypatch.delenv("AVEL_DEBUG", raising=False)
    monkeypatch.setattr(_ProcessWork, "_store", sometimes)
    (clips / "bad.mp4").unlink()
    assert main(["extract", str(clips)]) == 1
    told = capfd.readouterr()
    assert "2 extracted, 0 already there, 1 failed" in told.out
    assert "1.mkv: RuntimeError: boo" in told.err and "Traceback" not in told.err


def test_what_is_missing_or_damaged_stands_beside_done(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A file that was cut off is made, but whoever reads its features must know."""
    noise = np.random.default_rng(0).integers(0, 255, (80, 32, 32, 3), np.uint8)
    cut = mux(tmp_path / "cut.mkv", pictures=[(k / 8, image) for k, image in enumerate(noise)])
    os.truncate(cut, cut.stat().st_size // 2)
    for said in (True, False):
        assert main(["extract", str(cut), "-o", str(tmp_path / "out")]) == 0
        told = capfd.readouterr().out
        assert ("1 with notes (manifest.csv)" in told) == said
        (row,) = rows_of(tmp_path / "out").values()
        assert row["status"] == "done" and "says it lasts 9.9 s but ends at" in row["reason"]
    (made,) = (tmp_path / "out").glob("*.safetensors")
    assert "; ".join(Features.load(made).notes) == row["reason"]


@pytest.mark.parametrize("done", [False, True])
def test_features_that_are_removed_at_once_are_failed(
    clips: Path, done: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from avel.features.corpus import _ProcessWork

    kept = _ProcessWork._stored

    def removed(self: _ProcessWork, job: MediaJob, *given: Any) -> JobOutcome:
        Path(job.target).unlink()
        return kept(self, job, *given)

    (clips / "bad.mp4").unlink()
    if done:
        assert main(["extract", str(clips)]) == 0
    monkeypatch.setattr(_ProcessWork, "_stored", removed)
    assert main(["extract", str(clips)]) == 1
    told = capfd.readouterr()
    assert "3 failed" in told.out and "2.safetensors was removed" in told.err
    assert {row["status"] for row in rows_of(clips / "features").values()} == {"failed"}


def test_features_go_when_their_file_goes_bad(clips: Path) -> None:
    """Or a pack would take them, made of what the file held before."""
    (clips / "bad.mp4").unlink()
    assert main(["extract", str(clips)]) == 0
    (clips / "0.mkv").write_text("text")
    assert main(["extract", str(clips)]) == 1
    assert rows_of(clips / "features")["0.mkv"]["status"] == "quarantined"
    held = sorted(p.name for p in (clips / "features").glob("*.safetensors"))
    assert held == ["1.safetensors", "2.safetensors"]


def too_many_files(path: Path) -> Exception:
    error = MediaError(f"{path}: isn't a media file that can be read (Too many open files)")
    error.__cause__ = OSError(errno.EMFILE, "Too many open files")
    return error


def vanished(path: Path) -> Exception:
    path.unlink()
    return MediaError(f"{path}: there is no such file")


def rewritten(path: Path) -> Exception:
    path.write_bytes(b"half of it")
    return MediaError(f"{path}: isn't a media file that can be read")


@pytest.mark.parametrize(
    ("trouble", "status"),
    [
        (lambda path: MemoryError("no room"), "failed"),
        (lambda path: RuntimeError("CUDA out of memory"), "failed"),
        (lambda path: OSError(errno.EMFILE, "Too many open files"), "failed"),
        (lambda path: OSError(errno.EIO, "Input/output error"), "failed"),
        (too_many_files, "failed"),
        (vanished, "failed"),
        (rewritten, "failed"),
        (lambda path: MediaError(f"{path}: holds neither sound nor picture"), "quarantined"),
    ],
)
def test_only_bad_media_go_to_quarantine(
    clips: Path, trouble: Any, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from avel.features.extractor import Extractor

    def fails(self: Extractor, path: Path, **options: Any) -> Features:
        raise trouble(path)

    monkeypatch.delenv("AVEL_DEBUG", raising=False)
    monkeypatch.setattr(Extractor, "__call__", fails)
    assert main(["extract", str(clips / "0.mkv"), "-o", str(clips / "out")]) == 1
    assert rows_of(clips / "out")[str(clips / "0.mkv")]["status"] == status


def test_missing_files_of_a_list_are_named_and_tried_again(
    clips: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (clips / "list.txt").write_text("0.mkv\ngone.mp4\n")
    for made in (1, 0):
        assert main(["extract", str(clips / "list.txt")]) == 1
        told = capfd.readouterr()
        assert f"{made} extracted" in told.out and "1 failed" in told.out
        assert "gone.mp4: there is no such file" in told.err
    assert rows_of(clips / "features")["gone.mp4"]["status"] == "failed"


def test_called_wrongly(clips: Path, capfd: pytest.CaptureFixture[str]) -> None:
    wrong = ["-j", "-1", "--threads", "-2", "--engine", "spark", "--address", "auto"]
    assert main(["extract", str(clips), *wrong]) == 2
    told = capfd.readouterr().err
    assert "4 mistakes" in told and "Traceback" not in told
    assert not (clips / "features").exists()


def test_two_workers_by_the_command(clips: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["extract", str(clips), "-j", "2", "--precision", "float32"]) == 1
    told = capfd.readouterr()
    assert "3 extracted, 0 already there, 1 failed" in told.out
    assert "bad.mp4" in told.err and "Traceback" not in told.err
    assert len(Features.load(clips / "features" / "1.safetensors")) == 2
    assert main(["extract", str(clips), "-j", "2", "--audio", "mini_audoi"]) == 2
    assert "mini_audio" in capfd.readouterr().err


def test_the_meter_tells_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    from avel.cli._meter import Meter

    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    meter = Meter(10)
    for status, took in (("kept", 50.0), ("made", 2.0), ("bad", 0.0), ("made", 2.0)):
        now[0] += took
        meter.add(outcome("x", status, seconds=20.0))
    assert meter.status() == "30.0 files/min, 10.0x real time, 00:00:12 left, 1 failed"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send")
def test_ctrl_c_stops_the_workers_and_leaves_a_whole_manifest(tmp_path: Path) -> None:
    pictures = [(k / 16, grey(k % 250)) for k in range(160)]
    mux(tmp_path / "00.mkv", pictures=pictures)
    content = (tmp_path / "00.mkv").read_bytes()
    for i in range(1, 200):  # each of its own content, by an element that says nothing, so that
        void = b"\xec\x84" + i.to_bytes(4, "big")  # none is done before the signal comes
        (tmp_path / f"{i:02d}.mkv").write_bytes(content + void)
    out = tmp_path / "features"
    command = [sys.executable, "-m", "avel", "extract", str(tmp_path), "-j", "2"]
    # a shell starts its background jobs, and the tests with them, with the signal ignored
    with subprocess.Popen(
        [*command, "--precision", "float32"], stderr=subprocess.PIPE, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as running:  # fmt: skip
        while running.poll() is None and len(list(out.glob("*.safetensors"))) < 3:
            time.sleep(0.05)
        os.killpg(running.pid, signal.SIGINT)  # as a terminal does
        _, told = running.communicate(timeout=60)
    assert running.returncode == 130 and b"Traceback" not in told
    rows = rows_of(out)
    assert 1 <= len(rows) < 200 and {row["status"] for row in rows.values()} == {"done"}
    assert not list(out.glob(".manifest.*"))
