"""Corrections of `avel serve` as a data set: new, or added to the clips that a person has."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from avel.data.annotations import SERVE_MARK, TABLES, read_annotations
from avel.errors import DataError
from avel.features.content_hashes import ContentHashes
from avel.features.listing import media_files
from avel.formats import format_named, read
from avel.formats.base import timeline_of
from avel.types import Event
from avel.web.dataset import CorrectedDataset
from avel.web.store import Job, Store
from tests.data.rows import read_rows
from tests.web.client import GATE, done, put, serving

BARK = Event(0.5, 2.25, "bark")


@dataclass
class StoredServer:
    """The store of a server, and the files that its jobs are of."""

    state: Path
    folder: Path
    revisions: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.state.mkdir()
        self.store = Store(self.state / "jobs.sqlite")

    def dataset(self) -> CorrectedDataset:
        return CorrectedDataset(self.folder, self.store, self.media_of, ContentHashes(self.state))

    def media_of(self, job: Job) -> Path:
        path = Path(job.media)
        if not path.is_file():
            raise DataError(f"{path.name} is no media file")
        return path

    def job(self, name: str, content: bytes, *events: Event, media: Path | None = None) -> str:
        """The id of a job of a file, with a correction."""
        id = sha256(f"{self.state}{len(self.revisions)}".encode()).hexdigest()[:16]
        media = media or self.state / f"{id}{Path(name).suffix.lower()}"
        if not media.is_file():
            media.write_bytes(content)
        self.store.add(Job(id, name, "default", str(media), len(content)))
        assert self.store.take() is not None
        self.store.finish(id, "done", facts={"content": sha256(content).hexdigest()})
        self.correct(id, *events)
        return id

    def correct(self, id: str, *events: Event) -> None:
        revision = self.revisions.get(id, 0)
        self.store.correct(id, revision, events)
        self.revisions[id] = revision + 1

    @property
    def videos(self) -> dict[str, bytes]:
        paths = sorted((self.folder / "videos").glob("*"))
        return {p.name: p.read_bytes() for p in paths}


MakeServer = Callable[..., StoredServer]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MakeServer]:
    servers: list[StoredServer] = []

    def make(name: str = "state") -> StoredServer:
        servers.append(StoredServer(tmp_path / name, tmp_path / "data"))
        return servers[-1]

    yield make
    for made in servers:
        made.store.close()


def own_folder(tmp_path: Path, table: bytes, name: str = "annotations.csv") -> Path:
    """A data set with two clips of a person."""
    folder = tmp_path / "data"
    (folder / "clips").mkdir(parents=True)
    for clip in ("yard.mp4", "hof.mp4"):
        (folder / "clips" / clip).write_bytes(clip.encode())
    (folder / name).write_bytes(table)
    return folder


def rows_of(folder: Path) -> list[list[str]]:
    text = (folder / "annotations.csv").read_text("utf-8")
    return list(csv.reader(io.StringIO(text, newline="")))[1:]


# --- a new folder ------------------------------------------------------------------------------


def test_what_is_corrected_is_a_data_set(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(tmp_path / "state", data=data) as client:
        ids = [done(client, content=f"video {k}".encode()) for k in range(2)]
        same = done(client, "copy.MP4", b"video 0")
        put(client, ids[0], 0, GATE, GATE | {"start": 3, "end": 4, "label": '=dog, "big"'})
        put(client, ids[1], 0)
        put(client, same, 0, GATE)
        rows = rows_of(data)
        assert [row[:2] + row[3:4] for row in rows] == [
            ["videos/street.mp4", "0.5", "gate"],
            ["videos/street.mp4", "3.0", '\'=dog, "big"'],
            ["videos/street (2).mp4", "", ""],
            ["videos/copy.MP4", "0.5", "gate"],
        ]
        assert rows[0][4] == rows[3][4] != rows[2][4]
        read_back, mistakes = read_rows(data)
        assert not mistakes and '=dog, "big"' in {r.label for r in read_back}
        odd = {"start": 1e-05, "end": 5.325581395348838}  # dragged by a hand, not typed
        put(client, ids[1], 1, GATE | odd)
        read_back, mistakes = read_rows(data)
        assert not mistakes and (1e-05, odd["end"]) in {(r.start, r.end) for r in read_back}
        assert (data / "videos" / "street.mp4").read_bytes() == b"video 0"
        about = client.get("/api/dataset").json()
        assert about["path"] == str(data) and about["clips"] >= 3 and not about["notes"]
        assert about["commands"][-1].startswith(f"avel train cspa_csea data={data}")
        client.delete(f"/api/jobs/{ids[0]}")
        client.delete(f"/api/jobs/{same}/annotations")
        assert [row[0] for row in rows_of(data)] == ["videos/street (2).mp4"]
        assert [p.name for p in (data / "videos").iterdir()] == ["street (2).mp4"]


def test_what_a_person_adds_to_the_data_set_stays(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(tmp_path / "state", data=data) as client:
        id = done(client)
        put(client, id, 0, GATE)
        added = [data / "videos" / name for name in ("own.mp4", "0123456789abcdef.mp4")]
        for path in added:
            path.write_bytes(b"a person's own")
        (data / "videos" / "more").mkdir()
        table = data / "annotations.csv"
        text = table.read_text().replace("label,video", "label,video,split")
        lines = [line + "," for line in text.splitlines()[1:]]
        own = "videos/own.mp4,1.0,2.0,'=bell,,test"
        table.write_text("\n".join([text.splitlines()[0], *lines, own]) + "\n")
        other = done(client, "other.mp4", content=b"another")
        put(client, other, 0)
        put(client, id, 1, GATE, GATE | {"start": 3, "end": 4})
        assert [(row[0], row[3], row[5]) for row in rows_of(data)] == [
            ("videos/own.mp4", "'=bell", "test"), ("videos/street.mp4", "gate", "train"),
            ("videos/street.mp4", "gate", "train"), ("videos/other.mp4", "", "train"),
        ]  # fmt: skip
        client.delete(f"/api/jobs/{id}")
        assert not (data / "videos" / "street.mp4").exists()
        table.write_bytes(b"\xff\xfe no table")
        put(client, other, 1, GATE)
        assert table.read_bytes() == b"\xff\xfe no table"
        (trouble,) = client.get("/api/jobs").json()["troubles"]
        assert "isn't up to date" in trouble["got"] and "annotations.csv" in trouble["got"]
        table.unlink()
        assert client.get("/api/dataset").json()["path"] == str(data)
        assert client.get("/api/jobs").json()["troubles"] == []
        assert "gate" in table.read_text()
    with serving(tmp_path / "state", data=data):
        assert all(path.is_file() for path in added) and (data / "videos" / "more").is_dir()


def test_a_correction_is_saved_though_the_data_set_cant_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with serving(tmp_path / "state", data=tmp_path / "data") as client:
        id = done(client)
        with monkeypatch.context() as patch:
            patch.setattr("avel.web.dataset.write_whole", full)
            saved = put(client, id, 0, GATE)
            assert saved.status_code == 200 and saved.json()["revision"] == 1
            (trouble,) = client.get("/api/jobs").json()["troubles"]
            assert "the disk is full" in trouble["got"]
            other = done(client)
            assert client.delete(f"/api/jobs/{other}").status_code == 204
        put(client, id, 1, GATE)
        assert client.get("/api/jobs").json()["troubles"] == []


def test_on_a_full_disk_removed_videos_make_room(
    server: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = server()
    data = one.dataset()
    old, new = one.job("old.mp4", b"old", BARK), one.job("new.mp4", b"new", BARK)
    one.store.uncorrect(new)
    data.update()
    one.store.uncorrect(old)
    one.revisions[new] = 2
    one.correct(new, BARK)
    from avel.web import dataset

    link = dataset._link

    def full(media: Path, target: Path) -> None:
        if (one.folder / "videos" / "old.mp4").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        link(media, target)

    monkeypatch.setattr("avel.web.dataset._link", full)
    data.update()
    assert data.trouble is None and one.videos == {"new.mp4": b"new"}


def test_a_folder_of_something_else_is_never_written_to(tmp_path: Path, server: MakeServer) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "annotations.csv").write_text("file,start,end,label\na.mp4,0,1,x\n")
    with pytest.raises(DataError, match="didn't write"):
        server().dataset()
    assert [p.name for p in folder.iterdir()] == ["annotations.csv"]


# --- names ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Straße.MP4", "Straße.MP4"),
        ("../../etc/pass\\wd\n.mp4", "wd.mp4"),
        (".hidden.mp4", "hidden.mp4"),
        ("ab:c*d?.mp4", "ab_c_d_.mp4"),
        ("=cmd.mp4", "=cmd.mp4"),
        ("street.events.mp4", "street.events (2).mp4"),  # no copy that `avel extract` passes over
        ("ä" * 300 + ".mp4", "ä" * 90 + ".mp4"),
        ("\u202ecod.mp4", "cod.mp4"),
        ("...mp4", "clip.mp4"),
    ],
)
def test_files_keep_their_names_as_far_as_every_system_has_them(
    server: MakeServer, name: str, expected: str
) -> None:
    one = server()
    one.job(name, b"x", BARK)
    data = one.dataset()
    assert data.trouble is None and list(one.videos) == [expected]
    rows, mistakes = read_rows(one.folder)
    assert [row.file for row in rows] == [f"videos/{expected}"] and not mistakes
    assert [path.name for path in media_files(one.folder)] == [expected]


def test_names_differ_where_systems_dont_tell_case_apart(server: MakeServer) -> None:
    one = server()
    for k, name in enumerate(["Gate.mp4", "gate.MP4", "gate.mp4"]):
        one.job(name, bytes([k]), BARK)
    data = one.dataset()
    names = list(one.videos)
    assert len({name.casefold() for name in names}) == 3
    data.update()
    assert list(one.videos) == names  # and they stay


def test_a_file_of_the_same_size_is_told_by_its_content(server: MakeServer) -> None:
    one = server()
    one.job("a.mp4", b"right", BARK)
    data = one.dataset()
    target = one.folder / "videos" / "a.mp4"
    target.unlink()
    target.write_bytes(b"wrong")
    data.update()
    assert target.read_bytes() == b"right"


def test_a_file_that_changed_after_its_correction_is_left_out(
    server: MakeServer, tmp_path: Path
) -> None:
    one = server()
    media = tmp_path / "a.mp4"
    one.job("a.mp4", b"before", BARK, media=media)
    media.write_bytes(b"after!")
    data = one.dataset()
    assert not one.videos and "has changed since" in data.notes[0]


def test_a_file_stays_in_the_data_set_when_its_source_is_deleted(
    server: MakeServer, tmp_path: Path
) -> None:
    one = server()
    media = tmp_path / "a.mp4"
    id = one.job("a.mp4", b"x", BARK, media=media)
    data = one.dataset()
    media.unlink()
    one.correct(id, BARK, Event(3, 4, "bark"))
    data.update()
    assert one.videos == {"a.mp4": b"x"} and len(read_rows(one.folder)[0]) == 2


# --- a data set that a person has -----------------------------------------------------------------

TABLE = b"file,start,end,label,split\r\nclips/yard.mp4,1,2,bark,test\r\nclips/hof.mp4,,,,val"


def test_corrections_are_added_to_a_table_with_splits(tmp_path: Path, server: MakeServer) -> None:
    folder = own_folder(tmp_path, TABLE)
    one = server()
    id = one.job("street.mp4", b"x", BARK, Event(3, 4, "gate"))
    data = one.dataset()
    added = b"videos/street.mp4,0.5,2.25,bark,train\r\nvideos/street.mp4,3.0,4.0,gate,train\r\n"
    assert data.trouble is None and (folder / "annotations.csv").read_bytes() == (
        TABLE + b"\r\n" + added
    )
    rows, mistakes = read_rows(folder)
    assert not mistakes and {r.split for r in rows} == {"train", "val", "test"}
    # a split that a person chose for it stays, and so does a row in its midst
    text = (folder / "annotations.csv").read_bytes().replace(b"gate,train\r\n", b"gate,val\r\n")
    text = text.replace(b"bark,train\r\n", b"bark,val\r\nclips/hof.mp4, 5 ,6,gate,val\r\n")
    (folder / "annotations.csv").write_bytes(text)
    one.correct(id)
    data.update()
    assert (folder / "annotations.csv").read_bytes() == (
        TABLE + b"\r\nclips/hof.mp4, 5 ,6,gate,val\r\nvideos/street.mp4,,,,val\r\n"
    )
    one.store.uncorrect(id)
    data.update()
    assert (folder / "annotations.csv").read_bytes() == (
        TABLE + b"\r\nclips/hof.mp4, 5 ,6,gate,val\r\n"
    )


@pytest.mark.parametrize(
    ("name", "table", "added"),
    [
        (
            "annotations.csv",
            "\ufeffFile;Start;End;Label\nclips/yard.mp4;1,5;2,0;bark\n".encode(),
            b"videos/a;b.mp4;0,5;2,25;bark\n",
        ),
        (
            "annotations.csv",
            b'sep=;\nlabel;file;start;end;score\n"bark";clips/yard.mp4;1.5;2;0.5\n',
            b"bark;videos/a;b.mp4;0.5;2.25;\n",
        ),
        (
            "annotations.csv",
            "\ufefffile\tstart\tend\tlabel\nclips/yard.mp4\t1\t2\tbark\n".encode("utf-16-le"),
            "videos/a;b.mp4\t0.5\t2.25\tbark\n".encode("utf-16-le"),
        ),
        ("annotations.csv", b"clips/yard.mp4,1,2,bark\n", b"videos/a;b.mp4,0.5,2.25,bark\n"),
        (
            "annotations.tsv",
            b"filename\tonset\toffset\tevent_label\nyard.mp4\t1\t2\tbark\n",
            b"videos/a;b.mp4\t0.5\t2.25\tbark\n",
        ),
        ("annotations.csv", b"", b"file,start,end,label,video\nvideos/a;b.mp4,0.5,2.25,bark,V\n"),
    ],
)
def test_a_table_of_any_form_is_continued_in_its_form(
    tmp_path: Path, server: MakeServer, name: str, table: bytes, added: bytes
) -> None:
    folder = own_folder(tmp_path, table, name)
    one = server()
    one.job("a;b.mp4", b"x", BARK)
    assert one.dataset().trouble is None
    content = (folder / name).read_bytes().replace(sha256(b"x").hexdigest()[:32].encode(), b"V")
    quoted = b'"videos/a;b.mp4"' if b";" in table else b"videos/a;b.mp4"
    assert content == table + added.replace(b"videos/a;b.mp4", quoted)
    rows, mistakes = read_rows(folder)
    assert not mistakes and rows[-1].file == "videos/a;b.mp4"
    assert (rows[-1].start, rows[-1].end, rows[-1].label) == (0.5, 2.25, "bark")


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (b"file,start,end\na,1,2\n", "column 'label' is missing"),
        (b"file,start,end,label,spilt\n", "did you mean split"),
        (b"file,start,end,label,label\n", "stands twice"),
        (b'file,start,end,label\n"a,1,2,bark\n', "never closed"),
        (b"file,start,end,label\n\xff,1,2,bark\n", "not UTF-8"),
    ],
)
def test_a_table_to_which_no_rows_can_be_added_is_refused(
    tmp_path: Path, server: MakeServer, table: bytes, reason: str
) -> None:
    folder = own_folder(tmp_path, table)
    with pytest.raises(DataError, match=reason):
        server().dataset()
    assert (folder / "annotations.csv").read_bytes() == table
    assert {p.name for p in folder.iterdir()} == {"annotations.csv", "clips"}


def test_labels_in_the_form_of_ave_are_refused(tmp_path: Path, server: MakeServer) -> None:
    folder = own_folder(tmp_path, b"Bark&yard&good&0&4\n", "Annotations.txt")
    with pytest.raises(DataError, match="adds none") as error:
        server().dataset()
    assert "data=DIR,CORRECTED" in error.value.hint
    assert {p.name for p in folder.iterdir()} == {"Annotations.txt", "clips"}


def test_a_clip_of_the_data_set_is_labelled_where_it_lies(
    tmp_path: Path, server: MakeServer
) -> None:
    folder = own_folder(tmp_path, b"file,start,end,label\nclips/yard.mp4,1,2,bark\n")
    one = server()
    unlabelled = one.job("upload.mp4", b"hof.mp4", BARK)
    one.job("yard copy.mp4", b"yard.mp4", Event(0, 1, "gate"))
    again = one.job("again.mp4", b"hof.mp4", Event(2, 3, "bark"))
    data = one.dataset()
    assert not one.videos and rows_of(folder) == [
        ["clips/yard.mp4", "1", "2", "bark"], ["clips/hof.mp4", "2.0", "3.0", "bark"]
    ]  # fmt: skip
    assert [note.partition(" is left out: ")[::2] for note in data.notes] == [
        ("upload.mp4", "it is the same file as again.mp4, which was corrected too."),
        ("yard copy.mp4", "clips/yard.mp4 has labels of a person, which stay as they are. To have "
         "the correction, remove them."),
    ]  # fmt: skip
    one.store.uncorrect(again)
    one.store.uncorrect(unlabelled)
    data.update()
    assert (folder / "clips" / "hof.mp4").is_file()  # a person's file is never removed
    assert [row[0] for row in rows_of(folder)] == ["clips/yard.mp4"]


def test_clips_without_labels_get_a_table(tmp_path: Path, server: MakeServer) -> None:
    folder = own_folder(tmp_path, b"")
    (folder / "annotations.csv").unlink()
    one = server()
    one.job("yard.mp4", b"yard.mp4", BARK, media=folder / "clips" / "yard.mp4")
    one.dataset()
    assert rows_of(folder)[0][:4] == ["clips/yard.mp4", "0.5", "2.25", "bark"] and not one.videos


def test_label_files_beside_clips_get_more_label_files(tmp_path: Path, server: MakeServer) -> None:
    folder = own_folder(tmp_path, b"")
    (folder / "annotations.csv").unlink()
    theirs = folder / "clips" / "yard.eaf"
    format_named("elan").write(timeline_of("yard.mp4", [BARK]), theirs)
    before = theirs.read_bytes()
    one = server()
    street = one.job("street.mp4", b"street", BARK)
    quiet = one.job("hof.mp4", b"hof.mp4")
    one.job("yard.mp4", b"yard.mp4", BARK)
    data = one.dataset()
    assert data.trouble is None and theirs.read_bytes() == before
    assert sorted(one.videos) == ["street.mp4", "street.mp4.eaf"]
    label_file = folder / "videos" / "street.mp4.eaf"
    (event,) = read(label_file)
    assert (event.start, event.end, event.label) == (0.5, 2.25, "bark")
    annotations = read_annotations(folder)
    assert {row.file for row in annotations.rows} == {
        "clips/hof.mp4", "clips/yard.mp4", "videos/street.mp4"
    } and not annotations.notes  # fmt: skip
    assert not any((folder / name).exists() for name in TABLES)
    assert [note.partition(":")[0] for note in data.notes] == ["yard.mp4 is left out"]
    one.correct(street, BARK, Event(3, 4, "gate"))
    one.store.uncorrect(quiet)
    data.update()
    assert [e.label for e in read(label_file)] == ["bark", "gate"]
    assert sorted(p.name for p in (folder / "clips").iterdir()) == [
        "hof.mp4", "yard.eaf", "yard.mp4"
    ]  # fmt: skip
    # a person goes on with it in ELAN: from then on it is theirs
    changed = label_file.read_text().replace("gate", "door")
    label_file.write_text(changed)
    one.correct(street)
    data.update()
    assert label_file.read_text() == changed and "changed by a person" in data.notes[-1]
    one.store.uncorrect(street)
    data.update()
    assert label_file.read_text() == changed and (folder / "videos" / "street.mp4").is_file()


def test_a_killed_server_knows_its_label_files_again(
    tmp_path: Path, server: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = own_folder(tmp_path, b"")
    (folder / "annotations.csv").unlink()
    format_named("elan").write(timeline_of("yard.mp4", [BARK]), folder / "clips" / "yard.eaf")
    one = server()
    data = one.dataset()
    id = one.job("street.mp4", b"street", BARK)

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(CorrectedDataset, "_remove", die)  # after all is written
        with pytest.raises(KeyboardInterrupt):
            data.update()
    one.correct(id, BARK, Event(3, 4, "gate"))
    data = one.dataset()
    assert not data.notes and len(read(folder / "videos" / "street.mp4.eaf")) == 2


# --- what the server knows as its own -------------------------------------------------------------


def test_another_servers_corrections_stay(server: MakeServer) -> None:
    first, second = server("first"), server("second")
    first.job("a.mp4", b"a", BARK)
    first.dataset()
    second.job("a.mp4", b"b", BARK)
    data = second.dataset()
    assert list(second.videos) == ["a (2).mp4", "a.mp4"] and not data.notes
    third = server("third")
    third.dataset()
    assert len(read_rows(first.folder)[0]) == 2
    first.store.uncorrect(next(iter(first.revisions)))
    first.dataset()
    assert list(first.videos) == ["a (2).mp4"] and len(read_rows(first.folder)[0]) == 1


@pytest.mark.parametrize("listed", [True, False])
def test_a_folder_of_an_older_version_gets_names(server: MakeServer, listed: bool) -> None:
    one = server()
    id = one.job("street.mp4", b"x", BARK)
    videos = one.folder / "videos"
    videos.mkdir(parents=True)
    (videos / f"{id}.mp4").write_bytes(b"x")
    (videos / "0123456789abcdef.mp4").write_bytes(b"of another server, or a person")
    old = "`avel serve --data` keeps corrected jobs here, in annotations.csv and videos.\n"
    old += f"What else is put here stays as it is. Its own videos:\n{id}.mp4\n" if listed else ""
    (one.folder / SERVE_MARK).write_text(old)
    (one.folder / "annotations.csv").write_text(
        f"file,start,end,label,video\nvideos/{id}.mp4,0.5,2.25,bark,v\n"
        "videos/0123456789abcdef.mp4,1,2,gate,\n"
    )
    assert one.dataset().trouble is None
    assert list(one.videos) == ["0123456789abcdef.mp4", "street.mp4"]
    assert [row[0] for row in rows_of(one.folder)] == [
        "videos/0123456789abcdef.mp4", "videos/street.mp4"
    ]  # fmt: skip


def test_a_mark_from_elsewhere_removes_nothing(tmp_path: Path, server: MakeServer) -> None:
    outside = tmp_path / "outside.mp4"
    outside.write_bytes(b"x")
    one = server()
    one.job("a.mp4", b"a", BARK)
    one.dataset()
    mark = one.folder / SERVE_MARK
    row = {"job": "x", "linked": True, "labels": None}
    files = ["../outside.mp4", str(outside), "videos/../../outside.mp4", "annotations.csv", "a\0"]
    lines = [json.dumps(row | {"state": one.store.identity, "file": file}) for file in files]
    lines += ["[]", "null", "[" * 10**5, "no json", '{"labels": {"path": []}}']
    lines += [json.dumps(row | {"state": 1, "file": "videos/a.mp4"})]
    mark.write_text(mark.read_text() + "\n".join(lines) + "\n")
    data = one.dataset()
    assert data.trouble is None and outside.is_file() and len(rows_of(one.folder)) == 1
    assert all(line in mark.read_text() for line in lines)
    mark.unlink()  # nothing is known as the server's then, and nothing is lost
    data.update()
    assert data.trouble is None and one.videos == {"a.mp4": b"a"} and len(rows_of(one.folder)) == 1
