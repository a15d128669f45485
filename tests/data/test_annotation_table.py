"""Rows added to a person's table of annotations: all others stay byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avel.data.annotation_table import AnnotationTable, LabelledClip
from avel.types import Event
from tests.data.rows import read_rows

_CELLS = st.text(st.characters(codec="utf-8", exclude_characters='\0"\r\n'), max_size=8)
_QUOTED = _CELLS.map(lambda cell: f'"{cell}\n{cell}"')
_TIMES = st.floats(0, 1e6).map(lambda t: f"{t!r}")
_SETTINGS = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@_SETTINGS
@given(
    cells=st.lists(st.tuples(st.one_of(_CELLS, _QUOTED), _TIMES, _TIMES, _CELLS), max_size=5),
    delimiter=st.sampled_from(",;\t"),
    end=st.sampled_from(["\n", "\r\n"]),
    bom=st.booleans(),
    label=st.text(st.characters(codec="utf-8"), min_size=1, max_size=6).filter(
        lambda text: text.strip() not in ("", "background") and text == text.strip()
    ),
)
def test_rows_of_a_person_stay_byte_for_byte(
    tmp_path: Path, cells: list[tuple[str, ...]], delimiter: str, end: str, bom: bool, label: str
) -> None:
    plain = [[c.replace(delimiter, "_") if '"' not in c else c for c in row] for row in cells]
    lines = [["file", "start", "end", "label"], *plain]
    text = end.join(delimiter.join(row) for row in lines)
    path = tmp_path / "annotations.csv"
    path.write_bytes(b"\xef\xbb\xbf" * bom + text.encode())
    before = path.read_bytes()
    table = AnnotationTable.read(path)
    clip = LabelledClip("videos/a.mp4", (Event(0.5, 2.25, label), Event(3, 4, label)), "v")
    after = table.replaced((), [clip])
    assert after.startswith(before)
    path.write_bytes(after)
    rows, _ = read_rows(tmp_path)
    assert [(r.start, r.end, r.label) for r in rows if r.file == clip.file][-2:] == [
        (0.5, 2.25, label), (3.0, 4.0, label)
    ]  # fmt: skip
    again = AnnotationTable.read(path)
    assert again.replaced({clip.file}, [clip]) == after
    gone = again.replaced({clip.file}, []).decode()
    assert gone.rstrip("\r\n") == before.decode().rstrip("\r\n")


@pytest.mark.parametrize(
    ("splits", "expected"),
    [(["", ""], ""), (["test", ""], "train"), (["test", "val"], "train")],
)
def test_new_clips_are_trained_on_where_splits_are_named(
    tmp_path: Path, splits: list[str], expected: str
) -> None:
    path = tmp_path / "annotations.csv"
    path.write_text("file,start,end,label,split\n" + "".join(f"a,,,,{s}\n" for s in splits))
    content = AnnotationTable.read(path).replaced((), [LabelledClip("b", (), "v")])
    assert content.decode().splitlines()[-1] == f"b,,,,{expected}"


def test_equal_files_stand_in_one_split(tmp_path: Path) -> None:
    path = tmp_path / "annotations.csv"
    path.write_text("file,start,end,label,split,video\na,,,,val,v\nb,,,,test,w\n")
    content = AnnotationTable.read(path).replaced((), [LabelledClip("c", (), "v")])
    assert content.decode().splitlines()[-1] == "c,,,,val,v"
