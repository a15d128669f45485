"""Request and response bodies of the API, as /openapi.json describes them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from avel.web.label_import import LONGEST_LABEL, MOST_EVENTS

Seconds = Annotated[float, Field(ge=0, le=1e7, allow_inf_nan=False)]
Revision = Annotated[int, Field(ge=0, le=2**31)]


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ErrorBody(BaseModel):
    """What came, what was expected, a hint."""

    got: str
    expected: str
    hint: str


class ErrorResponse(BaseModel):
    """Every response of status 400 and more."""

    error: ErrorBody


class ModelInfo(BaseModel):
    """A model that jobs can name."""

    name: str
    classes: list[str]
    caution: str
    default: bool
    tasks: list[str]


class LimitsInfo(BaseModel):
    """Limits of uploads and jobs."""

    upload_bytes: int
    minutes: float
    queue: int
    job_minutes: float


class RootInfo(BaseModel):
    """An allowed folder."""

    name: str
    path: str


class FormatInfo(BaseModel):
    """A format of labels, or of the report; `title` is its name for people."""

    name: str
    title: str
    ending: str
    reads: bool
    writes: bool


class About(BaseModel):
    """Version, models, limits, roots and formats of this server."""

    version: str
    models: list[ModelInfo]
    limits: LimitsInfo
    roots: list[RootInfo]
    formats: list[FormatInfo]
    dataset: str | None


class FileInfo(BaseModel):
    """A media file within a root."""

    path: str
    name: str
    size: int


class Folder(BaseModel):
    """The content of a folder within a root; `more` where not all of it is listed."""

    folder: str
    folders: list[str]
    files: list[FileInfo]
    more: bool


class Progress(BaseModel):
    """Segments done and in all; `seconds_left` by the pace so far, null before there is one."""

    done: int
    total: int
    seconds_left: float | None


class JobInfo(BaseModel):
    """A job; `root` is empty for an uploaded file.

    `events` and `labels` (the most frequent ones, with their numbers) are those of the correction
    where there is one; `min_score` is the lowest score of the model's events.
    """

    id: str
    name: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    position: int | None
    progress: Progress | None
    error: ErrorBody | None
    model: str
    created: float
    finished: float | None
    size: int
    root: str
    duration: float | None
    events: int | None
    labels: dict[str, int]
    min_score: float | None
    thumbnail: str | None
    corrected: bool
    has_video: bool
    has_audio: bool
    notes: list[str]


class Jobs(BaseModel):
    """Some jobs, newest first, and how many there are; what keeps them from running."""

    jobs: list[JobInfo]
    total: int
    troubles: list[ErrorBody]


class PathIn(_In):
    """A file within a root."""

    root: str = Field(max_length=200)
    path: str = Field(max_length=4000)
    model: str | None = Field(default=None, max_length=200)


class RetryIn(_In):
    """The model for another run; the same as before where there is none."""

    model: str | None = Field(default=None, max_length=200)


class LoginIn(_In):
    """The token."""

    token: str = Field(max_length=1000)


class EventInfo(BaseModel):
    """One event."""

    start: float
    end: float
    label: str
    score: float


class DetectedEventInfo(EventInfo):
    """One event of the model; `detail` says its audio weight and lag in words, or is empty."""

    audio_weight: float | None = None
    lag: float | None = None
    detail: str


class EventIn(_In):
    """One event of a correction."""

    start: Seconds
    end: Seconds
    label: str = Field(min_length=1, max_length=LONGEST_LABEL)
    score: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 1.0


class CorrectionIn(_In):
    """A correction, and the revision that it is based on."""

    revision: Revision
    events: list[EventIn] = Field(max_length=MOST_EVENTS)


class Corrections(BaseModel):
    """The current events; `saved` is when (seconds since 1970), null for the model's events."""

    revision: int
    events: list[EventInfo]
    saved: float | None


class Imported(BaseModel):
    """Events read from a label file, and what of them was left out."""

    events: list[EventInfo]
    notes: list[str]


class CurveLane(BaseModel):
    """A class's curve: thousandths, one a bin."""

    label: str
    hue: int
    values: list[int]


class Curves(BaseModel):
    """Curves of some classes; a bin is so many seconds."""

    bin: float
    lanes: list[CurveLane]


class SingleModalityRows(BaseModel):
    """Events of a single modality: in rows where no two overlap."""

    modality: Literal["audio", "visual"]
    label: str
    summary: str
    rows: list[list[EventInfo]]
    left_out: int


class AttentionMaps(BaseModel):
    """Maps, T times H x W bytes in base64, each of which holds for so many seconds."""

    grid: list[int]
    seconds: float
    maps: str


class DecisionInfo(BaseModel):
    """The decision as used; `threshold` null for the model's own rule."""

    threshold: float | None
    low_threshold: float | None
    min_duration: float
    max_gap: float


class TimelineInfo(BaseModel):
    """The events of a decision, with curves and attention."""

    name: str
    duration: float
    player_start: float
    step: float
    classes: list[str]
    events: list[DetectedEventInfo]
    finding: str
    single_modality: list[SingleModalityRows]
    scores: Curves
    attention: AttentionMaps | None
    decision: DecisionInfo
    cautions: list[str]
    notes: list[str]
    model: dict[str, Any]


class ThumbInfo(BaseModel):
    """A thumbnail and its time in seconds."""

    time: float
    url: str


class DatasetInfo(BaseModel):
    """The data set of the corrections, and the commands that train on it.

    `clips` counts the corrected files, `labelled` all clips of the folder that have labels.
    """

    path: str | None
    clips: int
    labelled: int
    commands: list[str]
    notes: list[str]


class TrainingIn(_In):
    """The model to compare with, whose backbones the new one gets; the first by default."""

    model: str | None = Field(default=None, max_length=200)


class SystemFigures(BaseModel):
    """Shares in [0, 1] of one system on the clips of the comparison; null where not defined.

    Of whole events: F1 at an overlap of one half.
    """

    name: str
    role: Literal["new", "old", "baseline"]
    segment_accuracy: float | None
    event_f1: float | None


class TrainingResult(BaseModel):
    """What a training came to; means over `folds`, or of the test split where there are 0."""

    clips: int
    recordings: int
    folds: int
    epochs: int
    systems: list[SystemFigures]
    notes: list[str]


class TrainedModelInfo(BaseModel):
    """A model that was trained on the corrections."""

    name: str
    finished: float
    result: TrainingResult


class TrainingStatus(BaseModel):
    """The present training, or the last one; `none` before the first.

    `compared` is the model that the new one, `model`, is compared with. `stage` is `extract`
    (files), `fold K of N`, `all clips`, `training split` (epochs) or `evaluate`, `done` and `total`
    how much of it; `started` and `finished` are seconds since 1970.
    """

    state: Literal["none", "running", "done", "failed", "cancelled"] = "none"
    model: str = ""
    compared: str = ""
    stage: str = ""
    done: int = 0
    total: int = 0
    started: float | None = None
    finished: float | None = None
    error: ErrorBody | None = None
    result: TrainingResult | None = None


class TrainingInfo(TrainingStatus):
    """The same, and the models that were trained here, newest first."""

    models: list[TrainedModelInfo]
