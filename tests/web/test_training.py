"""The training of `avel serve`: begun, watched, cancelled, compared, and its model served."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from avel.web import training as training_module
from avel.web.jobs import Limits
from avel.web.training import TrainingOptions, TrainingService
from tests.web import fake_training
from tests.web.client import corrected, ended, serving, training_ended

Serve = Callable[..., Any]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """Serves with trainings that behave as a recipe says."""

    def of(behaviour: str = "", **options: Any) -> Any:
        recipe = (behaviour,) if behaviour else ()
        training = TrainingOptions(
            {"default": "path of default"}, recipe=recipe, function=fake_training.train
        )
        options = {"data": tmp_path / "data", **options}
        return serving(tmp_path / "state", training=training, **options)

    return of


def names(client: TestClient) -> list[str]:
    return [m["name"] for m in client.get("/api/about").json()["models"]]


def test_a_trained_model_is_compared_served_and_survives_a_restart(
    serve: Serve, tmp_path: Path
) -> None:
    with serve() as client:
        assert client.get("/api/training").json()["state"] == "none"
        first, *_ = corrected(client, 3)
        answer = client.post("/api/training")
        assert answer.status_code == 202, answer.text
        assert (answer.json()["state"], answer.json()["model"]) == ("running", "corrected-1")
        training = training_ended(client)
        assert (training["state"], training["error"]) == ("done", None), training
        assert training["result"] == fake_training.RESULT
        assert (training["stage"], training["done"], training["total"]) == ("fold 1 of 2", 3, 30)
        assert [m["name"] for m in training["models"]] == ["corrected-1"]
        assert names(client) == ["default", "other", "corrected-1"]
        folder = tmp_path / "state" / "models" / "corrected-1"
        assert (folder / "compared").read_text() == "path of default"
    with serve() as client:
        after = client.get("/api/training").json()
        assert after == training
        assert names(client) == ["default", "other", "corrected-1"]
        again = client.post(f"/api/jobs/{first}/retry", json={"model": "corrected-1"})
        assert again.status_code == 200
        assert ended(client, first)["model"] == "corrected-1"
        client.post("/api/training", json={"model": "corrected-1"}).raise_for_status()
        assert training_ended(client)["model"] == "corrected-2"
        text = (folder.with_name("corrected-2") / "compared").read_text()
        assert text == str(folder)  # a model of the server's own is named by its run
        assert client.delete("/api/training/corrected-1").status_code == 204
        assert not folder.exists() and names(client) == ["default", "other", "corrected-2"]
        assert client.delete("/api/training/corrected-1").status_code == 404
        client.post(f"/api/jobs/{first}/retry", json={"model": "default"}).raise_for_status()
        assert ended(client, first)["state"] == "done"


def test_one_training_at_a_time_that_can_be_cancelled(serve: Serve, tmp_path: Path) -> None:
    with serve("slow=60") as client:
        corrected(client, 3)
        assert client.delete("/api/training").status_code == 409
        client.post("/api/training").raise_for_status()
        second = client.post("/api/training")
        assert second.status_code == 409
        assert second.json()["error"]["got"] == "a training runs already"
        while client.get("/api/training").json()["stage"] != "fold 1 of 2":
            time.sleep(0.05)
        cancelled = client.delete("/api/training").json()
        assert (cancelled["state"], cancelled["result"]) == ("cancelled", None)
        assert names(client) == ["default", "other"]
        left = [p.name for p in (tmp_path / "state" / "models").iterdir()]
        assert left == ["training.json"]


@pytest.mark.parametrize(
    ("behaviour", "got"),
    [
        ("dies=1", "the training process died (SIGKILL)"),
        ("bug=1", "corrected-1: an unexpected error occurred (RuntimeError)"),
        ("fails=1", "no row has a label"),
    ],
)
def test_what_goes_wrong_is_a_sentence(serve: Serve, behaviour: str, got: str) -> None:
    with serve(behaviour) as client:
        corrected(client, 3)
        client.post("/api/training").raise_for_status()
        training = training_ended(client)
        assert (training["state"], training["error"]["got"]) == ("failed", got)
        assert names(client) == ["default", "other"]
        assert client.post("/api/training").status_code == 202  # another one may be tried
        training_ended(client)


def test_a_training_is_stopped_at_its_time_limit(serve: Serve) -> None:
    with serve("slow=60", limits=Limits(training_minutes=0.02)) as client:
        corrected(client, 3)
        client.post("/api/training").raise_for_status()
        error = training_ended(client)["error"]
    assert error["got"] == "the training took longer than 0.02 minutes"
    assert "--training-minutes" in error["hint"]


def test_a_stopped_server_says_after_its_start_that_the_training_failed(
    serve: Serve, tmp_path: Path
) -> None:
    with serve("slow=60") as client:
        corrected(client, 3)
        client.post("/api/training").raise_for_status()
    unfinished = tmp_path / "state" / "models" / "corrected-1.unfinished"
    unfinished.mkdir()
    with serve() as client:
        training = client.get("/api/training").json()
        assert training["state"] == "failed"
        assert training["error"]["got"] == "the server stopped during the training"
        assert not unfinished.exists()


def test_too_few_corrections_no_data_set_and_unknown_models_are_refused(
    serve: Serve, tmp_path: Path
) -> None:
    with serve() as client:
        corrected(client, 2)
        few = client.post("/api/training")
        assert few.status_code == 409
        assert few.json()["error"]["got"] == "the data set has 2 labelled clips"
        assert client.post("/api/training", json={"model": "none"}).status_code == 422
        assert client.post("/api/training", json={"epochs": 3}).status_code == 422
    with serve(data=None) as client:
        none = client.post("/api/training")
        assert none.status_code == 409 and "--data" in none.json()["error"]["hint"]


def test_clips_that_a_person_labelled_count_too(serve: Serve, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name in ("yard.mp4", "hof.mp4", "new.mp4"):
        (data / name).write_bytes(name.encode())
    table = "file;start;end;label\nyard.mp4;0,5;2,0;dog\nmissing.mp4;0,5;2,0;dog\n"
    (data / "annotations.csv").write_text(table)
    with serve() as client:
        corrected(client, 1)
        about = client.get("/api/dataset").json()
        assert (about["clips"], about["labelled"]) == (1, 2)
        assert "3 labelled clips" in about["notes"][0]
        assert client.post("/api/training").status_code == 409
        (data / "annotations.csv").write_text(
            (data / "annotations.csv").read_text() + "hof.mp4;;;\n"
        )
        about = client.get("/api/dataset").json()
        assert (about["clips"], about["labelled"], about["notes"]) == (1, 3, [])
        assert client.post("/api/training").status_code == 202
        assert training_ended(client)["state"] == "done"


def test_models_are_bounded_and_damaged_ones_left_out(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_module, "MAX_MODELS", 1)
    with serve() as client:
        corrected(client, 3)
        client.post("/api/training").raise_for_status()
        training_ended(client)
        full = client.post("/api/training")
        assert full.status_code == 409 and full.json()["error"]["expected"] == "at most 1"
    (tmp_path / "state" / "models" / "corrected-1" / "result.json").write_text("{")
    (tmp_path / "state" / "models" / "training.json").write_text("[")
    with serve() as client:
        assert names(client) == ["default", "other"]
        assert client.get("/api/training").json()["state"] == "none"


def test_a_new_model_takes_no_name_of_another(tmp_path: Path) -> None:
    options = TrainingOptions(function=fake_training.train)
    service = TrainingService(tmp_path / "models", options, limit=60)
    status = service.begin(tmp_path, "default", ["default", "corrected-1"])
    assert status.model == "corrected-2"
    service.stop()


def test_the_token_is_asked_for(serve: Serve) -> None:
    with serve(token="a-token-of-tests-only") as client:
        for method in ("post", "get", "delete"):
            assert getattr(client, method)("/api/training").status_code == 401
        assert client.delete("/api/training/x").status_code == 401
