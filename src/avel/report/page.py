"""The HTML report: one self-contained page that plays offline and sends no data."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avel.errors import AvelError, counted
from avel.features.stream import AUDIBLE_ABOVE, AUDIBLE_WITHIN
from avel.files import write_whole
from avel.report import view
from avel.report.layout import address, model_context, render_page
from avel.report.spectrogram import file_spectrogram
from avel.report.thumbs import data_uri, jpeg_uris, thumbnails
from avel.report.writers import Writer, writers
from avel.types import BACKGROUND, Timeline

if TYPE_CHECKING:
    from avel.media.file import Media

#: Files below this many bytes are embedded where browsers can play them; others are linked.
EMBED_BYTES = 20 * 10**6
#: Most notes of a page, and letters of a note.
MOST_NOTES, LONGEST_NOTE = 20, 500
#: Endings that browsers play, with their types, and the codecs in them.
PLAYABLE = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/mp4",
    ".webm": "video/webm",
    ".mp3": "audio/mpeg",
    ".m4a": "audio/mp4",
    ".wav": "audio/wav",
    ".ogg": "audio/ogg",
    ".flac": "audio/flac",
}
CODECS = {"h264", "vp8", "vp9", "av1", "libdav1d", "aac", "mp3", "mp3float", "opus", "vorbis"}
CODECS |= {"flac", "pcm_s16le"}
#: Sources of the page's media, by the kind of its player.
_SOURCES = {"embedded": "blob:", "linked": "'self' file:", "none": "'none'"}


@writers.register(".html")
class HtmlWriter(Writer):
    """One self-contained page: player, timeline, curves, thumbnails, spectrogram, model."""

    title = "Web page (report)"
    lanes = True

    def write(self, timeline: Timeline, path: Path) -> None:
        """Write the page; if parts of the video can't be read, the page says so."""
        write_whole(path, render(timeline, page=path).encode("utf-8", "replace"))


@dataclass(frozen=True)
class Player:
    """The page's player and its source.

    Args:
        kind: ``"embedded"``, ``"linked"`` or ``"none"``.
        tag: ``"video"`` or ``"audio"``.
        type: Its media type where embedded.
        content: Base64 of the file where embedded, its address where linked.
        width, height: Pixels of the upright picture, 0 where there is none.
        poster: The first picture as a data URI.
    """

    kind: str = "none"
    tag: str = "video"
    type: str = ""
    content: str = ""
    width: int = 0
    height: int = 0
    poster: str = ""


@dataclass(frozen=True)
class Thumbnail:
    """A thumbnail: its time, picture and label."""

    time: float
    uri: str
    label: str
    score: float
    hue: int | None
    text: str


@dataclass(frozen=True)
class Pictures:
    """All that the page shows of the media file, and notes on what couldn't be read."""

    player: Player = Player()
    thumbs: tuple[Thumbnail, ...] = ()
    spectrogram: str = ""
    facts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    player_start: float = 0.0


def render(
    timeline: Timeline,
    *,
    page: str | Path | None,
    embed: int | None = None,
    spectrogram: bool = True,
) -> str:
    """The report as HTML.

    Args:
        timeline: The events; pictures and sound are read from ``timeline.video`` if it exists.
        page: Where the page will be written; a linked video's address is relative to it. None if
            it is part of another page, which can't link a video.
        embed: Videos up to so many bytes are embedded; ``EMBED_BYTES`` if None.
        spectrogram: False leaves it out, and doesn't decode the sound.

    Returns:
        One page without outside references but a linked video.
    """
    page_path = None if page is None else Path(page)
    limit = EMBED_BYTES if embed is None else embed
    variables = context(timeline, page=page_path, embed=limit, spectrogram=spectrogram)
    return render_page("page", variables)


def context(
    timeline: Timeline, *, page: Path | None, embed: int, spectrogram: bool
) -> dict[str, Any]:
    """The template's variables, bounded in size; arguments as for :func:`render`."""
    finding = "" if timeline.lane("both") else view.single_modality_text(timeline)
    timeline = timeline.choose("both")
    events = view.shown_events(timeline)
    rows, single = view.lanes(timeline, events), view.single_modality_lanes(timeline)
    hues = {row.label: row.hue for row in rows}  # by the names as they are shown
    pictures = read_pictures(timeline, hues, page=page, embed=embed, spectrogram=spectrogram)
    return {
        "name": Path(timeline.video).name or "video",
        "facts": (*_facts(timeline), *pictures.facts),
        "notes": (*_shortened(timeline.notes), *pictures.notes, *_omissions(timeline, events)),
        "player": pictures.player,
        "thumbs": pictures.thumbs,
        "spectrogram": pictures.spectrogram,
        "finding": finding,
        "lanes": rows,
        "single": single,
        "events": [
            view.event_view(e, timeline, hues.get(view.shown_name(e.label), 0)) for e in events
        ],
        "strips": view.strips(timeline.scores),
        "audible": (f"\N{MINUS SIGN}{-AUDIBLE_ABOVE:g}", f"{AUDIBLE_WITHIN:g}"),
        "has_attention": timeline.scores is not None and timeline.scores.attention is not None,
        "has_scores": timeline.scores is not None,
        "corrected": timeline.corrected,
        "background": BACKGROUND,
        "duration": timeline.duration,
        "classes": [view.shown_name(name) for name in timeline.classes],
        "data": {
            **view.page_data(timeline, events, rows, [t.time for t in pictures.thumbs], single),
            "player_start": pictures.player_start,
        },
        "media": _SOURCES[pictures.player.kind],
        **model_context(timeline.model),
    }


def _facts(timeline: Timeline) -> tuple[str, ...]:
    facts = [counted(len(timeline.events), "event")]
    lanes = (("heard", timeline.audio_only), ("seen", timeline.visual_only))
    facts += [f"{len(events)} only {how}" for how, events in lanes if events]
    facts += ["corrected by a person"] * timeline.corrected
    return (view.length_text(timeline.duration), *facts)


def _shortened(notes: Sequence[str]) -> Iterator[str]:
    """The first notes, shortened: files of labels from elsewhere may have any number."""
    yield from (note[:LONGEST_NOTE] for note in notes[:MOST_NOTES])
    if len(notes) > MOST_NOTES:
        yield f"There are {len(notes) - MOST_NOTES} more notes; the .json has all."


def _omissions(timeline: Timeline, events: tuple[Any, ...]) -> tuple[str, ...]:
    sentences = []
    if len(events) < len(timeline.events):
        sentences.append(
            f"This page shows the {len(events)} events of the highest scores out of "
            f"{len(timeline.events)}; the .json has all."
        )
    class_count = len({e.label for e in events})
    if class_count > view.MAX_LANES:
        sentences.append(
            f"The timeline shows the {view.MAX_LANES} classes of the longest total time out of "
            f"{class_count}; the table has all."
        )
    return tuple(sentences)


def read_pictures(
    timeline: Timeline, hues: Mapping[str, int], *, page: Path | None, embed: int, spectrogram: bool
) -> Pictures:
    """Player, thumbnails and spectrogram; empty, with a note, if the video can't be read."""
    from avel.media.file import media_of

    video = Path(timeline.video)
    try:
        media = media_of(timeline)
    except AvelError:
        note = f"The video {video.name} couldn't be read, so this page has no pictures."
        return Pictures(notes=(note,))
    thumbs = _thumbs(timeline, media, hues) if media.video else ()
    try:
        player = _player(video, media, page, embed)
    except OSError:  # gone since it was opened, or a disk that fails
        player = Player(tag="video" if media.video else "audio")
    if thumbs:
        player = replace(player, poster=thumbs[0].uri)
    image = file_spectrogram(media) if media.audio and spectrogram else b""
    drawn = data_uri(image, "image/png") if image else ""
    facts = (f"{player.width} × {player.height}",) if player.width else ()
    return Pictures(player, thumbs, drawn, facts, player_start=media.player_start)


def _thumbs(timeline: Timeline, media: Media, hues: Mapping[str, int]) -> tuple[Thumbnail, ...]:
    frames = thumbnails(timeline, media)
    thumbs = []
    for (time, _), uri in zip(frames, jpeg_uris([image for _, image in frames]), strict=True):
        label, score = view.label_at(timeline, time)
        name = view.shown_name(label)
        thumbs.append(Thumbnail(time, uri, name, score, hues.get(name), view.short_time(time)))
    return tuple(thumbs)


def _player(video: Path, media: Media, page: Path | None, embed: int) -> Player:
    turned = media.video is not None and media.video.rotation % 180 != 0
    size = (media.video.width, media.video.height) if media.video else (0, 0)
    width, height = size[::-1] if turned else size
    shape = Player(tag="video" if media.video else "audio", width=width, height=height)
    codecs = {track.codec for track in (media.video, media.audio) if track is not None}
    kind = PLAYABLE.get(video.suffix.lower())
    if kind and codecs <= CODECS and video.stat().st_size <= embed:
        content = base64.b64encode(video.read_bytes()).decode()
        return replace(shape, kind="embedded", type=kind, content=content)
    if page is None:
        return shape
    return replace(shape, kind="linked", content=address(video, page))
