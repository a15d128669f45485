"""Work for the page's tests: real files with their pictures, events that are known beforehand."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from avel.files import file_hash
from avel.media.file import open_media
from avel.report.spectrogram import file_spectrogram
from avel.report.thumbs import thumbnails
from avel.types import Json
from avel.web.job_folder import save_pictures, save_result
from avel.web.worker import WorkerJob
from tests.report_samples import apart_scores, hand_timeline
from tests.web.fake_worker import LABELS, Fake


class Drawn(Fake):
    """A bell from 1 to 3 s, a bark from 4 to 5 s, both of probability 0.7, in every real file.

    Files that are called slow take long, until they are cancelled. In those that are called apart
    a bark is seen and not heard from 0 to 2 s, and a siren heard and not seen from 4 to 5 s.
    """

    def __call__(self, job: WorkerJob, progress: Any) -> Json:
        media = open_media(job.media)
        for i in range(600 if "slow" in job.name else 2):
            progress(i, 600)
            time.sleep(0.1 if "slow" in job.name else 0)
        late = media.player_start
        timeline = hand_timeline(job.media, LABELS, notes=(), player_start=late)
        folder = Path(job.folder)
        if "apart" in job.name and timeline.scores is not None:
            timeline = replace(timeline, scores=apart_scores(timeline.scores))
        sound = file_spectrogram(media)
        save_pictures(folder, thumbnails(timeline) if media.video else [], sound)
        save_result(folder, timeline)
        facts = {
            "duration": timeline.duration,
            "events": len(timeline),
            "notes": [],
        }
        facts |= {"labels": Counter(e.label for e in timeline)}
        facts |= {"min_score": 0.2 if "unsure" in job.name else 0.7}
        facts |= {"has_video": media.video is not None, "has_audio": media.audio is not None}
        return facts | {"content": file_hash(job.media), "player_start": late}


def start() -> Drawn:
    return Drawn()
