"""The index page of a folder's reports."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from avel.report.index_page import IndexRow, index_path, save_index
from avel.types import Event, Timeline

HOSTILE = "</td><script>alert(1)</script><img src=x onerror=alert(1)>.mp4"


def test_a_row_counts_the_labels_of_what_is_seen_and_heard(tmp_path: Path) -> None:
    events = (Event(0, 1, "Bark"), Event(2, 3, "Bark"), Event(1, 2, "Bell"))
    only_heard = (Event(4, 5, "Speech", modality="audio"),)
    both = Timeline("in/yard 1.mp4", events, 65.0, ("Bark", "Bell"), audio_only=only_heard)
    heard = Timeline("in/hof.mp4", (), 10.0, ("Bark",), audio_only=only_heard)
    rows = [IndexRow.of(t, tmp_path / f"{Path(t.video).stem}.html") for t in (both, heard)]
    assert rows[0].labels == {"Bark": 2, "Bell": 1} and not rows[1].labels
    path = index_path([row.report for row in rows])
    assert path == tmp_path / "index.html"
    save_index(rows, path)
    text = path.read_text("utf-8")
    assert 'href="yard%201.html"' in text and ">yard 1.mp4<" in text
    assert "<li>Bark \N{MULTIPLICATION SIGN}2</li><li>Bell</li>" in text and "1 min 5 s" in text
    assert "Heard only: Speech 0:04-0:05." in text
    assert index_path([row.report for row in rows]) == path, "avel wrote it"


def test_rows_of_earlier_calls_stay(tmp_path: Path) -> None:
    a, b, c = (tmp_path / f"{name}.html" for name in "abc")
    timeline = Timeline("a.mp4", (Event(0, 1, "Bark"),), 65.0, ("Bark",))
    path = tmp_path / "index.html"
    save_index([IndexRow.of(timeline, a), IndexRow("b.mp4", b)], path)
    for _ in range(2):
        save_index([IndexRow("a.mp4", a), IndexRow("b.mp4", b), IndexRow("c.mp4", c)], path)
        text = path.read_text("utf-8")
        assert "<li>Bark</li>" in text and "1 min 5 s" in text
        assert text.count("localized earlier") == 2
    for damaged in ('["a.html",1e999,{},""]', '["a.html"]', '["a.html",1,{"x":"y"},""]', "{"):
        path.write_text(f'<script id="avel-data">{{"rows":[{damaged}]}}</script>')
        save_index([IndexRow("a.mp4", a)], path)
        assert "localized earlier" in path.read_text("utf-8")


def test_only_several_reports_of_one_folder_have_an_index(tmp_path: Path) -> None:
    a, b = tmp_path / "a.html", tmp_path / "b.html"
    assert index_path([]) is None and index_path([a]) is None
    assert index_path([a, tmp_path / "deep" / "b.html"]) is None
    assert index_path([a, tmp_path / "index.html"]) is None, "a report of index.mp4"
    assert index_path([a, b]) == tmp_path / "index.html"
    (tmp_path / "index.html").write_text("<html>a page of somebody</html>")
    assert index_path([a, b]) is None


def test_names_and_labels_are_only_text(tmp_path: Path) -> None:
    timeline = Timeline(HOSTILE, (Event(0, 1, HOSTILE),), 3.0, (HOSTILE,))
    path = tmp_path / "index.html"
    save_index([IndexRow.of(timeline, tmp_path / "a.html")], path, notes=[HOSTILE])
    tags: list[tuple[str, list[str]]] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.append((tag, [name for name, _ in attrs]))

    Tags().feed(path.read_text("utf-8"))
    assert [tag for tag, _ in tags].count("script") == 2 and "img" not in dict(tags)
    assert not [name for _, names in tags for name in names if name.startswith("on")]
