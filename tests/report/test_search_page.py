"""The page of a search without a browser: complete, escaped, bounded, right in what it shows."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import os
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from avel.errors import MediaError, UsageError
from avel.report import excerpts, search_page
from avel.search.results import Match, SearchResult
from avel.types import Modality
from tests.report.test_report import HOSTILE, Elements


def search_result(
    clip: Path | str, *, modality: Modality = "audio", **changes: Any
) -> SearchResult:
    matches = (Match(str(clip), 4, 6, 0.5), Match(str(clip), 0, 2, 1.0))
    fields: Any = {
        "query": str(clip), "start": 3.0, "end": 5.0, "modality": modality, "matches": matches,
        "files": 1, "segments": 8, "model": {"model": "cspa_csea", "data": {"name": "toybox"}},
    }  # fmt: skip
    fields["candidate_modality"] = "visual" if modality == "audio" else "audio"
    return SearchResult(**fields | changes)


def rendered(result: SearchResult, folder: Path) -> tuple[str, Elements]:
    result.save(folder / "found.html")
    text = (folder / "found.html").read_text("utf-8")
    return text, Elements(text)


def cut(elements: Elements, name: str) -> bytes:
    ids = [s.get("id") for s in elements.all("script")]
    return base64.b64decode(elements.scripts[ids.index(f"cut-{name}")])


def pixels(uri: str | None) -> Any:
    data = base64.b64decode(str(uri).partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def match_buttons(elements: Elements) -> list[dict[str, str | None]]:
    return [b for b in elements.all("button") if "data-match" in b]


def test_the_page_holds_cuts_of_all_it_names_and_refers_to_files_alone(
    clip: Path, tmp_path: Path
) -> None:
    text, elements = rendered(search_result(clip), tmp_path)
    for name, length in (("query", 6.0), ("0", 6.0), ("1", 4.0)):  # two seconds more on each side
        with av.open(io.BytesIO(cut(elements, name))) as video:
            assert (video.duration or 0) / av.time_base == pytest.approx(length, abs=0.15)
            assert {s.codec_context.name for s in video.streams} == {"h264", "aac"}
    for _, attributes in elements.tags:
        assert (attributes.get("src") or "data:").startswith("data:")
    where = os.path.relpath(clip, tmp_path).replace(" ", "%20").replace("&", "%26")
    links = [a["href"] for a in elements.all("a")]
    assert links == ["#matches", f"{where}#t=3,5", f"{where}#t=4,6"]
    assert "@import" not in text and "url(" not in text


def test_the_policy_allows_this_script_alone(clip: Path, tmp_path: Path) -> None:
    _, elements = rendered(search_result(clip), tmp_path)
    [policy] = [str(m["content"]) for m in elements.all("meta") if m.get("http-equiv")]
    digest = base64.b64encode(hashlib.sha256(elements.scripts[-1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy and "http" not in policy
    assert policy.startswith("default-src 'none'") and "media-src blob:;" in policy


def test_matches_come_nearest_first_with_their_bars(clip: Path, tmp_path: Path) -> None:
    text, elements = rendered(search_result(clip), tmp_path)
    assert [b["aria-label"] for b in match_buttons(elements)] == [
        "Match 1: street & square.mp4, 0:04 – 0:06, distance 0.500",
        "Match 2: street & square.mp4, 0:00 – 0:02, distance 1.000",
    ]
    assert '<i style="width: 100.0%">' in text and '<i style="width: 0.0%">' in text
    data = json.loads(elements.scripts[0])
    assert [(m["start"], m["end"], m["length"]) for m in data["matches"]] == [(2, 4, 6), (0, 2, 4)]
    assert "This model is a toy" in text and "1 file of 8 segments searched" in text


def test_images_are_pictures_for_a_sound_and_spectrograms_for_a_picture(
    clip: Path, tmp_path: Path
) -> None:
    def images(modality: Modality) -> list[Any]:
        _, elements = rendered(search_result(clip, modality=modality), tmp_path)
        positions = [i for i, (_, a) in enumerate(elements.tags) if "data-match" in a]
        after = [next(a for t, a in elements.tags[i:] if t == "img") for i in positions]
        return [pixels(a["src"]) for a in after]

    nearest, other = images("audio")
    yellow = lambda image: (image @ [1, 1, -2] > 150).any(0).nonzero()[0].mean() / image.shape[1]  # noqa: E731
    assert yellow(other) == pytest.approx((140 / 8 + 10) / 160, abs=0.03)  # the square at 1 s
    assert yellow(nearest) == pytest.approx((140 * 5 / 8 + 10) / 160, abs=0.03)  # and at 5 s
    first, second = images("visual")
    assert first.shape == second.shape == (64, 400, 3)
    loud = second.sum((0, 2)) > 1.3 * second.sum((0, 2)).min()
    assert not loud[:190].any() and loud[210:].all()  # the tone begins at 2 of the cut's 4 s


@pytest.mark.parametrize(
    ("distances", "median", "expected"),
    [
        ([0.5, 1.0], None, [100, 0]), ([0.5, 1.0], 1.5, [100, 50]), ([-1.0, 1.0], 0.0, [100, 0]),
        ([0.3], 0.3, [100]), ([], None, []),
    ],
)  # fmt: skip
def test_bars_tell_how_much_nearer_than_others_a_match_is(
    distances: list[float], median: float | None, expected: list[float]
) -> None:
    assert search_page._bars(distances, median) == expected


def test_the_page_says_what_both_share(clip: Path, tmp_path: Path) -> None:
    matches = (Match(str(clip), 4, 6, 0.5, ("dog bark", HOSTILE)), Match(str(clip), 0, 2, 1.0))
    text, elements = rendered(search_result(clip, matches=matches), tmp_path)
    assert f"both: dog bark, {HOSTILE}" in html.unescape(text) and HOSTILE not in text
    assert text.count('class="both"') == 1
    assert json.loads(elements.scripts[0])["matches"][0]["shared"] == f"dog bark, {HOSTILE}"
    plain, _ = rendered(search_result(clip), tmp_path)
    assert 'class="both"' not in plain and "<dt>Both</dt>" not in plain


def test_within_one_modality_nothing_is_played_together(clip: Path, tmp_path: Path) -> None:
    text, elements = rendered(
        search_result(clip, modality="audio", candidate_modality="audio"), tmp_path
    )
    (together,) = [b for b in elements.all("button") if b.get("id") == "together"]
    assert "hidden" in together and "<dt>Together</dt>" not in text
    data = json.loads(elements.scripts[0])
    assert (data["modality"], data["other"]) == ("sound", "sound")
    (plain,) = [
        b
        for b in rendered(search_result(clip), tmp_path)[1].all("button")
        if b.get("id") == "together"
    ]
    assert "hidden" not in plain


def test_names_and_notes_can_not_break_out(tmp_path: Path) -> None:
    bad = HOSTILE.replace("/", "")
    result = search_result(
        bad, matches=(Match(f"{bad}/{bad}", 0, 2, 0.5),), notes=(HOSTILE,),
        failed=((HOSTILE, MediaError(HOSTILE)),), model={"model": HOSTILE, HOSTILE: HOSTILE},
    )  # fmt: skip
    text, elements = rendered(result, tmp_path)
    assert [s.get("id") for s in elements.all("script")] == ["avel-data", None]
    assert not [a for _, a in elements.tags if any(key.startswith("on") for key in a)]
    assert json.loads(elements.scripts[0])["matches"][0]["name"] == bad
    assert "2 excerpts couldn&#39;t be read again" in text
    assert all(str(a["href"]).startswith(("..", "#")) for a in elements.all("a"))


@pytest.mark.parametrize("name", ["javascript:alert(1)", "no\udcff.mp4", "//host/x"])
def test_links_stay_ways_to_files(name: str, tmp_path: Path) -> None:
    _, elements = rendered(search_result(name), tmp_path)
    link = str(elements.all("a")[1]["href"]).partition("#")[0]
    assert ":" not in link and not link.startswith("//")


def test_beyond_the_bounds_are_pictures_and_links(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = rendered(search_result(clip), tmp_path)
    monkeypatch.setattr(excerpts, "SECONDS", 13.0)  # the query's 6 and the first match's 6
    text, elements = rendered(search_result(clip), tmp_path)
    assert [s.get("id") for s in elements.all("script")] == [
        "avel-data", "cut-query", "cut-0", None
    ]  # fmt: skip
    assert "1 of 3 excerpts, the farthest ones, are shown as a picture and a link only" in text
    monkeypatch.setattr(excerpts, "BYTES", 10)
    text, elements = rendered(search_result(clip), tmp_path)
    assert "3 of 3 excerpts" in text and len(text) < len(whole)
    assert len(match_buttons(elements)) == 2 and len(elements.all("img")) >= 4
    monkeypatch.setattr(search_page, "MAX_MATCHES", 1)
    text, elements = rendered(search_result(clip), tmp_path)
    assert len(match_buttons(elements)) == 1
    assert "This page shows the 1 nearest of 2 matches." in text


def test_many_long_matches_stay_small(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worst that the bounds allow: cuts and pictures of noise, as many as there can be."""
    noise = np.random.default_rng(0).integers(0, 256, (180, 320, 3), dtype=np.uint8)
    picture = excerpts.jpeg_uri(noise)
    monkeypatch.setattr(excerpts, "_picture", lambda *_: picture)
    monkeypatch.setattr(
        excerpts, "cut", lambda media, first, last: bytes(round(last - first) * 10**5)
    )
    many = tuple(Match(str(clip), i % 4, i % 4 + 3, 1.0) for i in range(300))
    text = search_page.render(search_result(clip, matches=many), page="found.html")
    assert 6_000_000 < len(text) < 10_000_000
    assert "the 50 nearest of 300 matches" in text


def test_a_file_that_is_gone_leaves_the_others(clip: Path, tmp_path: Path) -> None:
    matches = (Match("gone.mp4", 0, 2, 0.5), Match(str(clip), 0, 2, 1.0))
    text, elements = rendered(search_result(clip, matches=matches), tmp_path)
    assert html.escape("1 excerpt couldn't be read again.", quote=False) in html.unescape(text)
    assert "not readable" in text and cut(elements, "1")
    assert "cut-0" not in [s.get("id") for s in elements.all("script")]


def test_what_could_not_be_searched_is_named(clip: Path, tmp_path: Path) -> None:
    failed = tuple((f"{i}.mp4", MediaError(f"{i}.mp4: damaged")) for i in range(7))
    text, _ = rendered(search_result(clip, failed=failed, matches=()), tmp_path)
    assert "4.mp4: damaged" in text and "5.mp4: damaged" not in text
    assert "2 more files couldn&#39;t be searched." in text
    assert "No searched file has a window" in text


def test_sound_alone_is_shown_and_plays(clip: Path, tmp_path: Path) -> None:
    from tests.media_files import mux, tone

    mux(tmp_path / "tone.wav", sounds=[(0.0, tone(4, 16000))])
    result = search_result(tmp_path / "tone.wav", modality="visual", query=str(clip))
    _, elements = rendered(result, tmp_path)
    with av.open(io.BytesIO(cut(elements, "1"))) as video:
        assert [s.type for s in video.streams] == ["audio"]
    data = json.loads(elements.scripts[0])
    assert [data["query"]["visual"], *(m["visual"] for m in data["matches"])] == [
        True,
        False,
        False,
    ]


def test_another_ending_is_refused(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.html"):
        search_result(clip).save(tmp_path / "found.pdf")
