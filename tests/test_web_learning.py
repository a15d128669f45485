"""From uploads to a model of what was corrected, with the real networks and the real commands."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from avel.cli.main import main
from avel.data.toybox import Plan
from avel.data.toybox.dataset import render_clip
from avel.web.desk import Limits
from avel.web.work import Work
from tests.web_client import ended, send, serving, until

pytestmark = pytest.mark.slow
START = partial(Work, {"default": "default"}, cache=False, precision="float32")


def test_corrections_train_a_model_that_serves(tmp_path: Path) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    names = [render_clip(Plan(seed=7, seconds=4), i, tmp_path) for i in range(4)]
    with serving(tmp_path / "state", start=START, data=data) as client:
        for k, name in enumerate(names):
            content = (tmp_path / "videos" / f"{name}.mp4").read_bytes()
            job = ended(client, send(client, f"{name}.mp4", content).json()["id"], seconds=120)
            assert job["state"] == "done" and job["duration"] == pytest.approx(4, abs=0.2)
            assert client.get(f"/api/jobs/{job['id']}/thumbs").json()
            assert client.get(f"/api/jobs/{job['id']}/spectrogram.png").status_code == 200
            found = client.get(f"/api/jobs/{job['id']}/timeline").json()
            assert found["attention"]["grid"] == [7, 7] and len(found["classes"]) == 10
            event = {"start": 1.0, "end": 3.0, "label": f"thing {k % 2}"}
            body = {"revision": 0, "events": [event]}
            client.put(f"/api/jobs/{job['id']}/annotations", json=body).raise_for_status()
        commands = [c.split() for c in client.get("/api/dataset").json()["commands"]]
    assert [c[0] for c in commands] == ["avel", "avel"]
    assert main(commands[0][1:]) == 0
    options = ["epochs=1", "batch=2", "-o", str(run), "--accelerator", "cpu"]
    assert main([*commands[1][1:-2], *options]) == 0
    assert json.loads((run / "card.json").read_text())["classes"] == ["thing 0", "thing 1"]
    start = partial(Work, {"run": str(run), "default": "default"}, cache=False, precision="auto")
    with serving(tmp_path / "state", start=start, data=data) as client:
        assert [m["name"] for m in client.get("/api/about").json()["models"]] == ["run", "default"]
        id = client.get("/api/jobs").json()["jobs"][0]["id"]
        client.post(f"/api/jobs/{id}/retry", json={"model": "run"}).raise_for_status()
        assert ended(client, id, seconds=120)["state"] == "done"
        assert client.get(f"/api/jobs/{id}/timeline").json()["classes"] == ["thing 0", "thing 1"]
        assert client.get(f"/api/jobs/{id}").json()["corrected"]


def test_a_real_file_that_is_too_long_or_damaged(tmp_path: Path) -> None:
    name = render_clip(Plan(seed=8, seconds=12), 0, tmp_path)
    content = (tmp_path / "videos" / f"{name}.mp4").read_bytes()
    with serving(tmp_path / "state", start=START, limits=Limits(minutes=0.1)) as client:
        long = ended(client, send(client, "long.mp4", content).json()["id"], seconds=60)
        assert long["error"]["got"] == "long.mp4: lasts 0.2 minutes"
        cut = ended(client, send(client, "cut.mp4", content[:500]).json()["id"], seconds=60)
        assert cut["state"] == "failed" and cut["error"]["got"].startswith("cut.mp4: isn't a media")
        assert str(tmp_path) not in str(cut["error"])


def test_a_real_job_is_called_off(tmp_path: Path) -> None:
    name = render_clip(Plan(seed=9, seconds=60), 0, tmp_path)
    content = (tmp_path / "videos" / f"{name}.mp4").read_bytes()
    with serving(tmp_path / "state", start=START) as client:
        id = send(client, "minute.mp4", content).json()["id"]
        until(client, id, {"running"})
        assert client.post(f"/api/jobs/{id}/cancel").json()["state"] == "cancelled"
        assert client.post(f"/api/jobs/{id}/retry").json()["state"] == "queued"
        assert ended(client, id, seconds=120)["state"] == "done"
