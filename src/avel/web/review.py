"""Results as the page shows them, and corrections: checked and saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from avel.errors import UsageError
from avel.report import cards, view
from avel.types import Event, Json, Timeline
from avel.web.job_folder import decided, decision_of, load_result
from avel.web.jobs import JobService
from avel.web.label_import import MOST_EVENTS, mistakes_of
from avel.web.schemas import EventIn
from avel.web.store import Correction, Job

#: Rows of classes that weren't found, but may be what a person hears and sees.
MORE = 3


def found_in(service: JobService, job: Job, **asked: float | None) -> Timeline:
    """What was found of a job's file, under the name that people know.

    Args:
        service: Where the jobs are.
        job: A job that is done.
        asked: ``threshold``, ``low_threshold``, ``min_duration``, ``max_gap``.

    Raises:
        UsageError: for values out of range.
        DataError: if the kept result can't be read.
    """
    kept = replace(load_result(service.folder_of(job)), video=job.name)
    return decided(kept, **asked) if any(v is not None for v in asked.values()) else kept


def timeline_of(service: JobService, job: Job, **asked: float | None) -> Json:
    """The same as plain data of bounded size; arguments and errors as for :func:`found_in`."""
    found = found_in(service, job, **asked)
    assert found.scores is not None
    events = surest(found.events)
    rows = view.lanes(found, view.shown_events(found), more=MORE)
    page = view.page_data(found, events, rows)
    rule = decision_of(found, **asked).rule
    notes = list(found.notes)
    if len(events) < len(found.events):
        notes.append(f"These are the {len(events)} surest of {len(found.events)} events.")
    return {
        "name": job.name,
        "duration": found.duration,
        "player_start": found.player_start,
        "step": page["step"],
        "classes": list(found.classes),
        "events": [e.to_json() for e in events],
        "finding": "" if events else view.of_one_modality(found),
        "apart": [asdict(lane) for lane in view.apart_lanes(found)],
        "scores": {"bin": page["bin"], "lanes": page["lanes"]},
        "attention": _attention(page["attention"]),
        "decision": {
            "threshold": rule.threshold,
            "low_threshold": rule.low_threshold,
            "min_duration": rule.min_duration,
            "max_gap": rule.max_gap,
        },
        "cautions": cards.cautions(found.model),
        "notes": notes,
        "model": {"name": job.model, "rows": dict(cards.rows(found.model))},
    }


def _attention(held: Json | None) -> Json | None:
    if held is None:
        return None
    grid = [held["rows"], held["columns"]]
    return {"grid": grid, "seconds": held["seconds"], "maps": held["data"]}


def surest(events: Sequence[Event]) -> tuple[Event, ...]:
    """The events, or the surest of them where there are more than can be corrected."""
    return tuple(sorted(sorted(events, key=lambda e: -e.score)[:MOST_EVENTS]))


def annotations_of(service: JobService, job: Job, saved: Correction | None = None) -> Json:
    """The events that hold for a job: those saved, or those found."""
    held = service.store.correction(job.id) if saved is None else saved
    events = surest(found_in(service, job).events) if held.events is None else held.events
    return {
        "revision": held.revision,
        "events": [e.to_json() for e in events],
        "saved": held.saved,
    }


def checked(given: Sequence[EventIn], job: Job, step: float) -> tuple[Event, ...]:
    """Events of a correction, in order of time.

    Args:
        given: What came, each with its numbers in range.
        job: A job that is done.
        step: Seconds a segment: an event may end so much later than the file.

    Raises:
        UsageError: with what is wrong, the first few at once.
    """
    duration = float(job.facts["duration"])
    mistakes = [f"event {i + 1}: {w}" for i, e in enumerate(given)
                for w in mistakes_of(e.start, e.end, e.label, duration, step)]  # fmt: skip
    if mistakes:
        raise UsageError(
            "; ".join(mistakes[:5]),
            expected=f"0 <= start < end, within {duration:g} s, and a label in plain letters",
            hint="correct them",
        )
    return tuple(sorted(Event(e.start, e.end, e.label, e.score) for e in given))


def commands(folder: Path, models: Mapping[str, Json]) -> list[str]:
    """What makes a model of the corrections, with the backbones of the first model."""
    import shlex

    from avel.backbones.identity import backbone_option

    card = next(iter(models.values()), {})
    place = shlex.quote(str(folder))
    modalities = [
        f"--{s} {shlex.quote(backbone_option(card[f'{s}_card']))}"
        for s in ("audio", "visual")
        if card.get(f"{s}_card")
    ]
    return [
        " ".join(["avel extract", place, *modalities]),
        f"avel train cspa_csea data={place} -o runs/corrected",
    ]
