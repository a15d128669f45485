"""The vocabulary of named events, a person's own, and what phrases mean in it."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avel.cli._events import shorten
from avel.cli.main import main
from avel.errors import UsageError
from avel.events import Vocabulary, load_vocabulary, select_events
from avel.events.phrase_keys import phrase_key, stem_key
from avel.events.vocabulary import _shipped, class_names
from tests.conftest import ROOT

VOCABULARY = _shipped()
EVENTS = list(VOCABULARY.events.values())
PHRASES = [(p, e.name) for e in EVENTS for p in (e.name, *e.aliases)]
#: The classes of the AVE data set, in its order.
AVE = [
    "Church bell", "Male speech, man speaking", "Bark", "Fixed-wing aircraft, airplane",
    "Race car, auto racing", "Female speech, woman speaking", "Helicopter", "Violin, fiddle",
    "Flute", "Ukulele", "Frying (food)", "Truck", "Shofar", "Motorcycle", "Acoustic guitar",
    "Train horn", "Clock", "Banjo", "Goat", "Baby cry, infant cry", "Bus", "Chainsaw", "Cat",
    "Horse", "Toilet flush", "Rodents, rats, mice", "Accordion", "Mandolin",
]  # fmt: skip


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of settings: no test reads those of whoever runs it."""
    folder = tmp_path / "config"
    folder.mkdir()
    monkeypatch.setenv("AVEL_CONFIG", str(folder))
    return folder


def own(folder: Path, text: str) -> Path:
    """A person's own file of events."""
    path = folder / "mine.toml"
    path.write_text(text, "utf-8")
    return path


def names(phrases: str | list[str], vocabulary: Vocabulary = VOCABULARY) -> list[str]:
    return [s.event.name for s in select_events(phrases, vocabulary).events]


# ---- the vocabulary that ships


def test_there_are_events_enough() -> None:
    assert len(VOCABULARY.sets["default"]) >= 150
    assert sum(bool(e.audio and e.visual) for e in EVENTS) >= 150


def test_the_taggers_classes_are_complete_and_differ() -> None:
    for modality, count in (("audio", 521), ("visual", 1000)):
        assert len(set(class_names(modality))) == count  # type: ignore[arg-type]


@pytest.mark.parametrize("event", EVENTS, ids=lambda e: e.name)
def test_an_event_names_classes_that_exist(event) -> None:  # type: ignore[no-untyped-def]
    assert event.audio or event.visual
    assert set(event.audio) <= set(class_names("audio"))
    assert set(event.visual) <= set(class_names("visual"))
    assert len(set(event.audio)) == len(event.audio)
    assert len(set(event.visual)) == len(event.visual)
    assert event.visual or not event.proxy, "what shows nothing is no proxy"
    assert set(event.sets) - {"unav", "ovavel", "ave", "llp"}, "every event has a topic"
    assert all(event.name in VOCABULARY.sets[s] for s in event.sets)
    assert not event.kind_of or event.kind_of in VOCABULARY.events
    assert not event.kind_of or not VOCABULARY.events[event.kind_of].kind_of
    places = event.indices("visual")
    assert [class_names("visual")[i] for i in places] == list(event.visual)


def test_no_name_or_alias_stands_twice() -> None:
    twice = Counter(phrase_key(p) for p, _ in PHRASES)
    assert [p for p, n in twice.items() if n > 1] == []


def test_a_set_is_no_event_and_not_empty() -> None:
    keys = {phrase_key(p) for p, _ in PHRASES}
    for name, members in VOCABULARY.sets.items():
        assert members, name
        assert phrase_key(name) not in keys, name


def test_dogs_are_all_the_breeds_and_nothing_else() -> None:
    breeds = VOCABULARY.groups["dog"]
    assert len(breeds) == 118
    assert {"Chihuahua", "pug", "Toy Poodle"} <= set(breeds)
    assert not {"grey wolf", "dingo", "tabby cat", "sea lion"} & set(breeds)
    assert set(breeds) <= set(VOCABULARY.events["dog bark"].visual)
    assert "Animal" not in VOCABULARY.events["dog bark"].audio


def test_a_person_is_shown_by_proxies() -> None:
    for name in ("speech", "laughter", "singing", "clapping", "sneezing", "baby cry"):
        assert VOCABULARY.events[name].proxy and VOCABULARY.events[name].visual
    assert not VOCABULARY.events["dog bark"].proxy


@pytest.mark.parametrize("name", AVE)
def test_every_class_of_ave_is_an_event(name: str) -> None:
    selection = select_events(name, VOCABULARY)
    assert selection.labels == (name,)
    assert selection.events[0].event.name in VOCABULARY.sets["ave"]


def test_the_sets_of_data_sets_are_as_large_as_said() -> None:
    # both speakers of AVE are speech to the taggers
    assert len(VOCABULARY.sets["ave"]) == 27
    assert len(VOCABULARY.sets["llp"]) == 25
    assert len(VOCABULARY.sets["unav"]) >= 85
    assert len(VOCABULARY.sets["ovavel"]) >= 60


def test_it_loads_at_once_and_without_torch() -> None:
    code = (
        "import sys, time, avel; start = time.perf_counter(); import avel.events as e;"
        "e.select_events('ave'); assert 'torch' not in sys.modules;"
        "print(time.perf_counter() - start)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 2


# ---- what phrases mean


def test_every_name_and_alias_finds_its_event() -> None:
    for phrase, name in PHRASES:
        for written in (phrase, phrase.upper(), f" {phrase.title()}. ", phrase.replace(" ", "_")):
            assert names(written) == [name], written


@given(st.lists(st.sampled_from(PHRASES), min_size=1, max_size=6))
def test_lists_of_phrases_find_each(chosen: list[tuple[str, str]]) -> None:
    expected = list(dict.fromkeys(name for _, name in chosen))
    assert names("; ".join(p for p, _ in chosen)) == expected
    assert names([p for p, _ in chosen]) == expected


@given(st.text(max_size=40))
def test_any_words_are_found_or_refused(phrase: str) -> None:
    try:
        selection = select_events(phrase, VOCABULARY)
    except UsageError as e:
        assert "--events" in str(e) or "no event" in str(e)
    else:
        assert all(s.event.audio or s.event.visual for s in selection.events)


@pytest.mark.parametrize(
    ("phrase", "name"),
    [
        ("dog barks", "dog bark"),
        ("barking dogs", "dog bark"),
        ("the bark of a dog", "dog bark"),
        ("Frying_(food)", "frying food"),
        ("Baby_cry_infant_cry", "baby cry"),
        ("play the violin", "violin"),
        ("wolves", "wolf howl"),
        ("laughing people", "laughter"),
        ("gun shots", "gunshot"),
        ("sea-birds", "sea bird"),
        ("seabird", "sea bird"),
        ("playing the Ukulele", "ukulele"),
    ],
)
def test_endings_and_order_make_no_difference(phrase: str, name: str) -> None:
    (selected,) = select_events(phrase, VOCABULARY).events
    assert (selected.label, selected.event.name) == (phrase, name)
    assert selected.note == f"{phrase!r} was taken for the event {name!r}"


def test_names_with_commas_stay_whole() -> None:
    text = "Violin, fiddle, dog bark, Rodents, rats, mice, Bee, wasp, etc., siren"
    assert select_events(text, VOCABULARY).labels == (
        "Violin, fiddle", "dog bark", "Rodents, rats, mice", "Bee, wasp, etc.", "siren",
    )  # fmt: skip


def test_the_label_is_the_persons_own_and_the_note_says_what_was_taken() -> None:
    selection = select_events("Dog Bark, siren", VOCABULARY)
    assert selection.labels == ("Dog Bark", "siren") and selection.notes == ()
    selection = select_events("barking", VOCABULARY)
    assert selection.notes == ("'barking' was taken for the event 'dog bark'",)


def test_a_class_of_one_tagger_has_one_modality() -> None:
    heard, seen, both = select_events("Reverberation, triceratops, whistle", VOCABULARY).events
    assert heard.event.audio == ("Reverberation",) and heard.event.visual == ()
    assert "audible only" in heard.note and "AudioSet" in heard.note
    assert seen.event.audio == () and seen.event.visual == ("triceratops",)
    assert "visible only" in seen.note and "ImageNet" in seen.note
    assert both.event.audio and both.event.visual


def test_sets_and_single_words_together() -> None:
    selection = select_events("animals, bark", VOCABULARY)
    found = {s.event.name: s.label for s in selection.events}
    assert set(found) == set(VOCABULARY.sets["animals"])
    assert found["dog bark"] == "bark" and found["cat"] == "cat"
    assert f"'animals' was taken for the set of {len(found)} events" in selection.notes
    assert names("Animals") == names("animals") and names("Animal") == ["Animal"]


def test_the_same_event_twice_is_one_and_said() -> None:
    selection = select_events("bark, dog, dogs", VOCABULARY)
    assert selection.labels == ("bark",)
    assert "'dog' is the same event as 'bark'" in selection.notes


def test_all_unknown_phrases_at_once_with_the_nearest() -> None:
    with pytest.raises(UsageError) as error:
        select_events("dog brak, siren, helicoptre, qqqqq", VOCABULARY)
    text = str(error.value)
    assert "3 mistakes" in text and "'qqqqq' isn't an event" in text
    assert "did you mean dog bark" in text and "helicopter" in text and "siren'" not in text


def test_of_many_unknown_phrases_the_first_are_listed() -> None:
    start = time.perf_counter()
    with pytest.raises(UsageError) as error:
        select_events([f"qqq{i}" for i in range(2000)], VOCABULARY)
    lines = str(error.value).splitlines()
    assert "2000 mistakes" in lines[0] and len(lines) == 13
    assert "'qqq9'" in lines[10] and "and 1990 more" in lines[11]
    assert time.perf_counter() - start < 2


def test_many_commas_are_split_soon() -> None:
    start = time.perf_counter()
    assert names("dog bark" + "," * 300_000 + "siren") == ["dog bark", "siren"]
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize("phrase", ["the dog and the man", "flame thrower", "people", "a the of"])
def test_no_wild_guess(phrase: str) -> None:
    if phrase == "people":  # a set
        assert len(names(phrase)) > 20
        return
    with pytest.raises(UsageError):
        select_events(phrase, VOCABULARY)


def test_ambiguous_endings_are_asked_back() -> None:
    stems = Counter(s for s, _ in {(stem_key(p), n) for p, n in PHRASES if stem_key(p)})
    ambiguous = {s for s, n in stems.items() if n > 1}
    assert len(ambiguous) < 25
    with pytest.raises(UsageError, match=r"'crowed' may be '\w+' or '\w+'"):
        select_events("crowed", VOCABULARY)


@pytest.mark.parametrize("nothing", ["", " , ;", [], ["", "..."]])
def test_nothing_is_no_selection(nothing: str | list[str]) -> None:
    with pytest.raises(UsageError, match="no event is named"):
        select_events(nothing, VOCABULARY)


def test_long_input_is_refused_soon() -> None:
    start = time.perf_counter()
    for phrase in ("x" * 10**6, "dog,bark," * 3000, "z" * 300):
        with pytest.raises(UsageError) as error:
            select_events(phrase, VOCABULARY)
        assert len(str(error.value)) < 10_000
    assert time.perf_counter() - start < 20


# ---- a person's own


def test_own_events_add_and_override(tmp_path: Path) -> None:
    path = own(
        tmp_path,
        """
        [groups]
        my_dogs = ["pug", "Boxer .. Bullmastiff"]
        [sets]
        mine = ["our dog", "rooster"]
        [events."our dog"]
        aliases = ["dog", "Rex"]
        audio = ["Bark"]
        visual = ["@my_dogs"]
        [events.SIREN]
        audio = ["Civil defense siren"]
        """,
    )
    mine = load_vocabulary(path)
    assert mine.events["our dog"].visual == ("pug", "Boxer", "Bullmastiff")
    assert names("mine", mine) == ["our dog", "rooster"]
    assert names("dog, dog bark", mine) == ["our dog", "dog bark"]
    assert mine.events["siren"].audio == ("Civil defense siren",)
    assert mine.events["siren"].visual == VOCABULARY.events["siren"].visual
    assert len(mine.events) == len(VOCABULARY.events) + 1
    assert names("dog", load_vocabulary()) == ["dog bark"]


def test_the_file_of_the_settings_is_read(config: Path) -> None:
    (config / "events.toml").write_text('[events.gizmo]\naudio = ["Ding"]\n', "utf-8")
    assert names("gizmos", load_vocabulary()) == ["gizmo"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[events.a1]\naudio = ['Barkk']", "AudioSet has no class 'Barkk', did you mean 'Bark'"),
        ("[events.a1]\nvisual = ['Bark']", "'a1': visual: ImageNet has no class 'Bark'"),
        ("[events.a1]", "'a1' has neither audio nor visual classes"),
        ("[events.a1]\naudio = 'Bark'", "audio: must be a list"),
        ("[events.a1]\naudio = [1]", "every entry must be a text"),
        ("[events.a1]\naudio = ['Bark']\nproxy = 'yes'", "proxy must be true or false"),
        ("[events.a1]\naudio = ['Bark']\nfoo = 1", "unknown key 'foo'"),
        ("[events.a1]\naudio = ['Bark']\nkind_of = 'zzz'", "kind_of names no other event"),
        ("[events.a1]\naudio = ['Bark']\nkind_of = 'a1'", "kind_of names no other event"),
        (
            "[events]\na1 = {audio = ['Bark'], kind_of = 'b1'}\n"
            "b1 = {audio = ['Bark'], kind_of = 'c1'}\nc1 = {audio = ['Bark'], kind_of = 'b1'}",
            "'b1': kind_of leads back to it: b1 -> c1 -> b1",
        ),
        ("[events.a1]\naudio = ['Bark']\naliases = ['dog bark']", "already names"),
        ("[events.a1]\naudio = ['Bark']\nsets = ['siren']", "'siren' is the name of an event"),
        ("[sets]\nall = ['siren']", "'all' is the name"),
        ("[sets]\nmine = ['zzz']", "no event has the name 'zzz'"),
        ("[events.a1]\nvisual = ['@zzz']", "there is no group '@zzz'"),
        ("[events.a1]\nvisual = ['pug .. Boxer']", "ends before it begins"),
        ("[events.a1]\nvisual = ['pug .. ']", "no class ''"),
        ("[events.'...']\naudio = ['Bark']", "a letter or digit"),
        ("[event.a1]\naudio = ['Bark']", "[event] isn't a table of a vocabulary"),
        ("events = 1", "[events] must be a table"),
        ("[events]\na1 = 1", "an event is a table"),
        ("[[", "can't be read"),
        ("a = " + "[" * 5000, "can't be read"),
        ("# " + "x" * 2**20, "over 1 MB"),
    ],
)
def test_mistakes_are_sentences_with_file_and_entry(
    tmp_path: Path, text: str, expected: str
) -> None:
    path = own(tmp_path, text)
    with pytest.raises(UsageError) as error:
        load_vocabulary(path)
    assert expected in str(error.value) and "mine.toml" in str(error.value)


def test_groups_in_circles_and_deep_ones_end(tmp_path: Path) -> None:
    circle = '[groups]\nx = ["@y", "pug"]\ny = ["@x", "Boxer"]\n[events.z1]\nvisual = ["@x"]'
    assert load_vocabulary(own(tmp_path, circle)).events["z1"].visual == ("Boxer", "pug")
    deep = "".join(f'g{i} = ["@g{i + 1}"]\n' for i in range(2000))
    text = f'[groups]\n{deep}g2000 = ["pug"]\n[events.z1]\nvisual = ["@g0"]'
    with pytest.raises(UsageError, match="groups deep"):
        load_vocabulary(own(tmp_path, text))


def test_a_hostile_file_is_refused_soon(tmp_path: Path) -> None:
    text = "".join(f'[events.e{i}]\naudio = ["n{i}", "m{i}"]\n' for i in range(4000))
    start = time.perf_counter()
    with pytest.raises(UsageError, match="AudioSet has no class 'n0'"):
        load_vocabulary(own(tmp_path, text))
    assert time.perf_counter() - start < 10


def test_thousands_of_sets_are_read_soon(tmp_path: Path) -> None:
    text = "".join(f'[events.e{i}]\naudio = ["Bark"]\nsets = ["s{i}"]\n' for i in range(4000))
    start = time.perf_counter()
    assert load_vocabulary(own(tmp_path, text)).events["e7"].sets == ("s7",)
    assert time.perf_counter() - start < 10


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(UsageError, match="can't be read"):
            load_vocabulary(path)


# ---- the page and the command line


def test_the_page_names_every_set_and_only_those() -> None:
    page = (ROOT / "docs" / "events.md").read_text("utf-8")
    table = page.partition("\n## Sets\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named = {s for row in rows for s in re.findall(r"`(\w+)`", row)}
    assert named == set(VOCABULARY.sets)


def test_the_pages_own_events_are_read(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "events.md").read_text("utf-8")
    (text,) = re.findall(r"```toml\n(.*?)```", page, re.S)
    mine = load_vocabulary(own(tmp_path, text))
    assert names("mine, blue lights", mine) == ["our dog", "siren", "car"]
    assert len(mine.events["our dog"].visual) > 20


@pytest.mark.parametrize("arguments", [["events", "llp"], ["event", "*bell*"], ["events"]])
def test_it_is_listed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "AudioSet" in printed and "bell" in printed


def test_what_is_listed_says_what_was_taken_and_marks_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    assert main(["ls", "events", "bark, helicopters, elephant, speech, cat purr"]) == 0
    printed = capsys.readouterr().out
    for text in ("@dog (118)", "audible only", "visible only", "proxy", "a kind of cat",
                 "note: 'bark' was taken for the event 'dog bark'"):  # fmt: skip
        assert text in printed


def test_own_events_are_listed_and_mistakes_end_with_a_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = own(tmp_path, "[events.gizmo]\naudio = ['Ding']")
    assert main(["ls", "events", "gizmo", "--vocabulary", str(path)]) == 0
    assert "gizmo" in capsys.readouterr().out
    assert main(["ls", "events", "gizmo"]) == 2
    assert "'gizmo' isn't an event, set or class" in capsys.readouterr().err
    assert main(["ls", "events", "--vocabulary", str(tmp_path / "no.toml")]) == 2
    assert "can't be read" in capsys.readouterr().err


def test_a_group_is_shortened_only_when_it_is_whole() -> None:
    dogs = VOCABULARY.groups["dog"]
    assert shorten([*dogs, "goose"], VOCABULARY) == ["@dog (118)", "goose"]
    assert shorten(dogs[1:], VOCABULARY) == list(dogs[1:])


def test_a_key_of_many_parts_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("[" + ".".join("a" * 300_000) + "]\nx = 1\n")
    with pytest.raises(UsageError, match="dots"):
        load_vocabulary(tmp_path / "a.toml")
