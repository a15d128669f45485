"""Results as the page shows them, and the validation of corrections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from avel.errors import UsageError
from avel.inference.localizer import tuned
from avel.report import cards, view
from avel.types import Event, Json, Timeline
from avel.web.job_folder import load_result
from avel.web.jobs import JobService
from avel.web.label_import import MOST_EVENTS, mistakes_of
from avel.web.schemas import EventIn
from avel.web.store import Correction, Job

#: Rows of further classes without an event: those of the highest probabilities.
MORE = 3


def load_timeline(service: JobService, job: Job, **options: float | None) -> Timeline:
    """The result of a job, with the file's name for people as its video.

    Args:
        service: The jobs.
        job: A job that is done.
        options: ``threshold``, ``low_threshold``, ``min_duration``, ``max_gap``.

    Raises:
        UsageError: for values out of range.
        DataError: if the saved result can't be read.
    """
    return replace(load_result(service.folder_of(job), **options), video=job.name)


def timeline_info(service: JobService, job: Job, **options: float | None) -> Json:
    """The same as JSON of bounded size; arguments and errors as for :func:`load_timeline`."""
    timeline = load_timeline(service, job, **options)
    assert timeline.scores is not None
    events = highest_scores(timeline.events)
    rows = view.lanes(timeline, view.shown_events(timeline), more=MORE)
    page = view.page_data(timeline, events, rows)
    rule = tuned(timeline.model).override(**options).rule  # type: ignore[arg-type]
    notes = list(timeline.notes)
    if len(events) < len(timeline.events):
        notes.append(
            f"These are the {len(events)} highest scores of {len(timeline.events)} events."
        )
    return {
        "name": job.name,
        "duration": timeline.duration,
        "player_start": timeline.player_start,
        "step": page["step"],
        "classes": list(timeline.classes),
        "events": [e.to_json() | {"detail": view.detail_text(e, page["step"])} for e in events],
        "finding": "" if events else view.single_modality_text(timeline),
        "single_modality": [asdict(lane) for lane in view.single_modality_lanes(timeline)],
        "scores": {"bin": page["bin"], "lanes": page["lanes"]},
        "attention": _attention(page["attention"]),
        "decision": asdict(rule),
        "cautions": cards.cautions(timeline.model),
        "notes": notes,
        "model": {"name": job.model, "rows": dict(cards.rows(timeline.model))},
    }


def _attention(maps: Json | None) -> Json | None:
    if maps is None:
        return None
    grid = [maps["rows"], maps["columns"]]
    return {"grid": grid, "seconds": maps["seconds"], "maps": maps["data"]}


def highest_scores(events: Sequence[Event]) -> tuple[Event, ...]:
    """The events, or those of the highest scores where there are too many to correct."""
    return tuple(sorted(sorted(events, key=lambda e: -e.score)[:MOST_EVENTS]))


def annotations_info(service: JobService, job: Job, saved: Correction | None = None) -> Json:
    """The current events of a job: the saved ones, or else the model's."""
    correction = service.store.correction(job.id) if saved is None else saved
    events = correction.events
    if events is None:
        events = highest_scores(load_timeline(service, job).events)
    return {
        "revision": correction.revision,
        "events": [e.to_json() for e in events],
        "saved": correction.saved,
    }


def validated_events(events: Sequence[EventIn], job: Job, step: float) -> tuple[Event, ...]:
    """Events of a correction, in order of time.

    Args:
        events: Of a request, each with its numbers in range.
        job: A job that is done.
        step: Segment length in seconds: an event may end so much later than the file.

    Raises:
        UsageError: with what is wrong, the first few at once.
    """
    duration = float(job.facts["duration"])
    mistakes = [f"event {i + 1}: {w}" for i, e in enumerate(events)
                for w in mistakes_of(e.start, e.end, e.label, duration, step)]  # fmt: skip
    if mistakes:
        raise UsageError(
            "; ".join(mistakes[:5]),
            expected=f"0 <= start < end, within {duration:g} s, and a label in plain letters",
            hint="correct them",
        )
    return tuple(sorted(Event(e.start, e.end, e.label, e.score) for e in events))


def commands(folder: Path, models: Mapping[str, Json]) -> list[str]:
    """The commands that train a model on the corrections, with the first model's backbones."""
    import shlex

    from avel.backbones.identity import backbone_option

    card = next(iter(models.values()), {})
    path = shlex.quote(str(folder))
    modalities = [
        f"--{s} {shlex.quote(backbone_option(card[f'{s}_card']))}"
        for s in ("audio", "visual")
        if card.get(f"{s}_card")
    ]
    return [
        " ".join(["avel extract", path, *modalities]),
        f"avel train cspa_csea data={path} -o runs/corrected",
    ]
