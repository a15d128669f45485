"""Media files in: probe, segments, frames, sound. With ``encode``, the only files that use PyAV."""

from __future__ import annotations

from avel.encode import write_video

__all__ = ["write_video"]
