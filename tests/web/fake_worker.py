"""Work for `avel serve` in tests: no networks, and files that do as their names say."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from avel.errors import CheckpointError, MediaError
from avel.files import file_hash
from avel.types import Json
from avel.web.job_folder import save_pictures, save_result
from avel.web.worker import WorkerJob
from tests.report_samples import CLASSES, apart_scores, hand_timeline, weighted_scores

LABELS = [3, 0, 0, 3, 1, 3]
CARD = {"model": "cspa_csea", "job": "sel", "step": 1.0, "data": {"name": "toybox"}}


class Fake:
    """Finds the same events in every file: a bell from 1 to 3 s, a bark from 4 to 5 s."""

    cards: ClassVar[dict[str, Json]] = {
        "default": CARD | {"classes": list(CLASSES)},
        "other": CARD | {"classes": list(CLASSES)},
    }

    def __call__(self, job: WorkerJob, progress: Any) -> Json:
        text = Path(job.media).read_bytes()[:100]
        if b"damaged" in text:
            raise MediaError(f"{job.media}: isn't a media file", expected="one", hint="convert it")
        if b"dies" in text:
            os.kill(os.getpid(), signal.SIGKILL)
        if b"bug" in text:
            raise RuntimeError("a bug")
        for i in range(200 if b"slow" in text else 2):
            progress(i, 200)
            time.sleep(0.1 if b"slow" in text else 0)
        timeline = hand_timeline(job.media, LABELS)
        if b"apart" in text and timeline.scores is not None:
            timeline = replace(timeline, scores=apart_scores(timeline.scores))
        if b"weighted" in text and timeline.scores is not None:
            timeline = replace(timeline, scores=weighted_scores(timeline.scores))
        folder = Path(job.folder)
        save_pictures(folder, [(0.5, np.zeros((9, 16, 3), np.uint8))], b"\x89PNG")
        save_result(folder, timeline)
        facts = {
            "duration": timeline.duration,
            "events": len(timeline),
            "has_video": True,
        }
        facts |= {"labels": Counter(e.label for e in timeline)}
        facts |= {"min_score": min(e.score for e in timeline)}
        notes = list(timeline.notes)
        return facts | {"has_audio": True, "notes": notes, "content": file_hash(job.media)}


def start() -> Fake:
    return Fake()


def start_without_model() -> Fake:
    raise CheckpointError("no model", expected="one", hint="train one")


def start_dead() -> Fake:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError
