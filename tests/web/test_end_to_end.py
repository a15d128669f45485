"""The whole of `avel serve`: real networks, real commands, a server that is killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import requests

from avel.cli.main import main
from avel.data.toybox.dataset import ToyboxPlan, render_clip
from avel.web.jobs import Limits
from avel.web.training import TrainingOptions
from avel.web.worker import ModelWorker
from tests.web.client import ended, send, serving, training_ended, until

pytestmark = pytest.mark.slow
START = partial(ModelWorker, {"toybox": "toybox"}, cache=False, precision="float32")


def test_corrections_train_a_model_that_serves(tmp_path: Path) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    names = [render_clip(ToyboxPlan(seed=7, seconds=4), i, tmp_path) for i in range(4)]
    with serving(tmp_path / "state", start=START, data=data) as client:
        for k, name in enumerate(names):
            content = (tmp_path / "videos" / f"{name}.mp4").read_bytes()
            job = ended(client, send(client, f"{name}.mp4", content).json()["id"], seconds=120)
            assert job["state"] == "done" and job["duration"] == pytest.approx(4, abs=0.2)
            assert client.get(f"/api/jobs/{job['id']}/thumbs").json()
            assert client.get(f"/api/jobs/{job['id']}/spectrogram.png").status_code == 200
            timeline = client.get(f"/api/jobs/{job['id']}/timeline").json()
            assert timeline["attention"]["grid"] == [7, 7] and len(timeline["classes"]) == 10
            event = {"start": 1.0, "end": 3.0, "label": f"thing {k % 2}"}
            body = {"revision": 0, "events": [event]}
            client.put(f"/api/jobs/{job['id']}/annotations", json=body).raise_for_status()
        commands = [c.split() for c in client.get("/api/dataset").json()["commands"]]
    assert [c[0] for c in commands] == ["avel", "avel"]
    assert main(commands[0][1:]) == 0
    options = ["epochs=1", "batch=2", "-o", str(run), "--device", "cpu"]
    assert main([*commands[1][1:-2], *options]) == 0
    assert json.loads((run / "card.json").read_text())["classes"] == ["thing 0", "thing 1"]
    start = partial(
        ModelWorker, {"run": str(run), "toybox": "toybox"}, cache=False, precision="auto"
    )
    with serving(tmp_path / "state", start=start, data=data) as client:
        assert [m["name"] for m in client.get("/api/about").json()["models"]] == ["run", "toybox"]
        id = client.get("/api/jobs").json()["jobs"][0]["id"]
        client.post(f"/api/jobs/{id}/retry", json={"model": "run"}).raise_for_status()
        assert ended(client, id, seconds=120)["state"] == "done"
        assert client.get(f"/api/jobs/{id}/timeline").json()["classes"] == ["thing 0", "thing 1"]
        assert client.get(f"/api/jobs/{id}").json()["corrected"]


def test_the_train_button_makes_a_model_that_serves(tmp_path: Path) -> None:
    names = [render_clip(ToyboxPlan(seed=17, seconds=4), i, tmp_path) for i in range(4)]
    options = TrainingOptions({"toybox": "toybox"}, device="cpu", recipe=("epochs=2",))
    folders = {"folder": tmp_path / "state", "data": tmp_path / "data"}
    with serving(**folders, start=START, training=options) as client:  # type: ignore[arg-type]
        for k, name in enumerate(names):
            content = (tmp_path / "videos" / f"{name}.mp4").read_bytes()
            id = ended(client, send(client, f"{name}.mp4", content).json()["id"], seconds=120)["id"]
            event = {"start": 1.0, "end": 3.0, "label": "bell" if k % 2 else "thing"}
            body = {"revision": 0, "events": [event]}
            client.put(f"/api/jobs/{id}/annotations", json=body).raise_for_status()
        client.post("/api/training").raise_for_status()
        training = training_ended(client, seconds=300)
        assert training["state"] == "done", training
        result = training["result"]
        assert (result["clips"], result["recordings"], result["folds"]) == (4, 4, 4)
        assert [s["role"] for s in result["systems"]] == ["new", "old", "baseline"]
        assert [s["name"] for s in result["systems"][:2]] == ["corrected-1", "toybox"]
        assert all(0 <= s["segment_accuracy"] <= 1 for s in result["systems"])
        # half of each clip is background, which is right wherever nothing is detected
        assert result["systems"][2]["segment_accuracy"] == pytest.approx(0.5)
        assert any("toybox doesn't have 1 of the 2 labels: thing." in n for n in result["notes"])
        assert not any("split" in n for n in result["notes"])  # there are folds, and no split
        client.post(f"/api/jobs/{id}/retry", json={"model": "corrected-1"}).raise_for_status()
        assert ended(client, id, seconds=120)["state"] == "done"
        classes = client.get(f"/api/jobs/{id}/timeline").json()["classes"]
        assert sorted(classes) == ["bell", "thing"]


def test_a_real_file_that_is_too_long_or_damaged(tmp_path: Path) -> None:
    name = render_clip(ToyboxPlan(seed=8, seconds=12), 0, tmp_path)
    content = (tmp_path / "videos" / f"{name}.mp4").read_bytes()
    with serving(tmp_path / "state", start=START, limits=Limits(minutes=0.1)) as client:
        long = ended(client, send(client, "long.mp4", content).json()["id"], seconds=60)
        assert long["error"]["got"] == "long.mp4: lasts 0.2 minutes"
        cut = ended(client, send(client, "cut.mp4", content[:500]).json()["id"], seconds=60)
        assert cut["state"] == "failed" and cut["error"]["got"].startswith("cut.mp4: isn't a media")
        assert str(tmp_path) not in str(cut["error"])


def test_a_real_job_is_called_off(tmp_path: Path) -> None:
    name = render_clip(ToyboxPlan(seed=9, seconds=60), 0, tmp_path)
    content = (tmp_path / "videos" / f"{name}.mp4").read_bytes()
    with serving(tmp_path / "state", start=START) as client:
        id = send(client, "minute.mp4", content).json()["id"]
        until(client, id, {"running"})
        assert client.post(f"/api/jobs/{id}/cancel").json()["state"] == "cancelled"
        assert client.post(f"/api/jobs/{id}/retry").json()["state"] == "queued"
        assert ended(client, id, seconds=120)["state"] == "done"


def started(state: Path) -> tuple[subprocess.Popen[str], str]:
    """The command in a process of its own, and where it serves."""
    command = [sys.executable, "-m", "avel", "serve", "--model", "toybox", "--state", str(state)]
    command += ["--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("avel serves at http://127.0.0.1:"), line
    return process, line.split()[3].rstrip("/")


def test_a_killed_server_loses_nothing(tmp_path: Path) -> None:
    name = render_clip(ToyboxPlan(seed=10, seconds=20), 0, tmp_path)
    content = (tmp_path / "videos" / f"{name}.mp4").read_bytes()
    process, url = started(tmp_path / "state")
    sent = [
        requests.post(f"{url}/api/jobs", files={"file": (f"{k}.mp4", content)}, timeout=60).json()
        for k in range(2)
    ]
    while requests.get(f"{url}/api/jobs/{sent[0]['id']}", timeout=60).json()["state"] != "running":
        time.sleep(0.05)
    process.kill()
    process.wait()
    process, url = started(tmp_path / "state")
    for _ in range(1200):
        jobs = requests.get(f"{url}/api/jobs", timeout=60).json()["jobs"]
        if all(job["state"] == "done" for job in jobs):
            break
        time.sleep(0.1)
    assert [(job["id"], job["state"]) for job in jobs] == [(s["id"], "done") for s in sent[::-1]]
    process.send_signal(signal.SIGINT)
    assert process.wait(30) in (0, 130, -signal.SIGINT)
