"""Cut the clip that `avel demo` shows out of the film Big Buck Bunny.

    python scripts/demo_clip.py big_buck_bunny_0_30.webm

The file with the film's first thirty seconds comes with moviepy (github.com/Zulko/moviepy). Whose
work it is stands in ATTRIBUTION.md beside the clip.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import av
import numpy as np

from avel.media.encode import write_video

CLIP = Path(__file__).resolve().parents[1] / "src/avel/data/clips/big_buck_bunny.mp4"
#: Seconds of the film.
START, SECONDS = 13.0, 10.0
SIZE, FPS, RATE, QUALITY = (640, 360), 24, 44100, 26


def cut(film: Path, clip: Path) -> None:
    """Write the stretch, smaller, as H.264 and AAC."""
    end = START + SECONDS
    with av.open(str(film)) as held:
        frames = [
            f.to_ndarray(format="rgb24", width=SIZE[0], height=SIZE[1])
            for f in held.decode(video=0)
            if START <= f.time < end
        ]
    resample, parts = av.AudioResampler(format="fltp", layout="stereo", rate=RATE), []
    with av.open(str(film)) as held:
        for frame in held.decode(audio=0):
            parts += [r.to_ndarray() for r in resample.resample(frame)]
    sound = np.concatenate(parts, axis=1).T[round(START * RATE) : round(end * RATE)]
    write_video(clip, frames=frames, fps=FPS, audio=sound.clip(-1, 1), rate=RATE, quality=QUALITY)
    print(clip, clip.stat().st_size // 1000, "kB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("film", type=Path)
    cut(parser.parse_args().film, CLIP)
