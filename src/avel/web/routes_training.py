"""Routes of trainings: begin, progress and result, cancel; delete a trained model."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from starlette.responses import Response

from avel.errors import counted
from avel.types import Json
from avel.web.dataset import MIN_CLIPS
from avel.web.error_responses import http_error
from avel.web.jobs import JobService
from avel.web.schemas import TrainingIn, TrainingInfo


def add(app: FastAPI, service: JobService) -> None:
    """Add the routes to an application."""

    @app.post("/api/training", status_code=202, response_model=TrainingInfo, tags=["training"])
    def begin(body: TrainingIn | None = None) -> Any:
        """Train a model on the data set, in a process of its own; 409 where one runs."""
        compared = service.model_named(body.model if body else None)
        if service.data is None:
            raise http_error(
                409, "the server keeps no corrections as a data set", "a server with --data",
                "start it with --data DIR",
            )  # fmt: skip
        service.update_data()
        if service.data.trouble is not None:
            raise service.data.trouble
        if service.data.labelled < MIN_CLIPS:
            raise http_error(
                409, f"the data set has {counted(service.data.labelled, 'labelled clip')}",
                f"{MIN_CLIPS} or more", "correct more files",
            )  # fmt: skip
        service.training.begin(service.data.folder, compared, service.cards)
        return _info(service)

    @app.get("/api/training", response_model=TrainingInfo, tags=["training"])
    def training() -> Any:
        """The present training, or the last one, and the models that were trained here."""
        return _info(service)

    @app.delete("/api/training", response_model=TrainingInfo, tags=["training"])
    def cancel() -> Any:
        """Cancel the training; 409 where none runs."""
        service.training.cancel()
        return _info(service)

    @app.delete("/api/training/{model}", status_code=204, tags=["training"])
    def delete(model: str) -> Response:
        """Delete a model that was trained here; results that it gave stay."""
        service.training.delete(model)
        return Response(status_code=204)


def _info(service: JobService) -> Json:
    training = service.training
    models = [
        {"name": name, "finished": model.finished, "result": model.result}
        for name, model in reversed(training.models.items())
    ]
    return {**training.status.model_dump(), "models": models}
