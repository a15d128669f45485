"""The page of `avel serve` in headless Chromium: from a dropped file to saved corrections."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from avel.errors import DataError
from tests.report.test_report_browser import CONTRAST

pytest.importorskip("fastapi", reason="the server's packages aren't installed: avel[serve]")
from tests.web.page import DROP, NAMELESS, TOKEN, Opened, Site, running, tone

pytestmark = pytest.mark.browser
WIDTHS = (390, 768, 1280, 1920)
HOSTILE = "<img src=x onerror=window.broken=1> & “quotes”.mp4"
Go = Callable[..., Opened]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running(tmp_path_factory.mktemp("serve")) as site:
        yield site


@pytest.fixture
def go(browser: Any, site: Site) -> Iterator[Go]:
    """Opens pages; none of them may complain, or ask anybody but the server."""
    pages: list[Opened] = []

    def opened(path: str = "", **options: Any) -> Opened:
        pages.append(Opened(browser, site, path, **options))
        return pages[-1]

    yield opened
    for page in pages:
        assert page.outside == []
        assert page.errors == []
        page.context.close()


def corrected(go: Go, site: Site, name: str = "clip.mp4", **options: Any) -> tuple[Opened, str]:
    """A new file's page, ready to be corrected, and the job's id."""
    id = site.done(name)
    opened = go(f"#/job/{id}", **options)
    opened.ready()
    return opened, id


def test_a_dropped_file_becomes_events_that_a_click_goes_to(go: Go, site: Site) -> None:
    opened = go()
    opened.page.locator("#drop button").first.wait_for()
    opened.page.evaluate(DROP, ["dropped.mp4", base64.b64encode(site.clip.read_bytes()).decode()])
    assert opened.page.evaluate("window.veiled") is True
    assert not opened.page.locator("#veil").is_visible()
    opened.page.locator(".job a.name", has_text="dropped.mp4").click()
    opened.ready()
    assert opened.page.locator("#title").inner_text() == "dropped.mp4"
    assert opened.table() == ["Church bell 0:01 – 0:03", "Bark 0:04 – 0:05"]
    opened.event("Bark").click()
    assert opened.time == pytest.approx(4.0, abs=0.05)
    assert opened.page.locator("#now").inner_text().startswith("Bark 0.70")
    opened.page.locator("tr[data-event]").first.click()
    assert opened.time == pytest.approx(1.0, abs=0.05)
    opened.page.locator("#ruler").click(position={"x": 5, "y": 10})
    assert opened.time < 0.2


def test_what_keeps_jobs_from_going_on_is_shown_until_it_is_over(
    go: Go, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, _ = corrected(go, site)
    trouble = opened.page.locator("#server-trouble")
    data = site.service.data
    assert data is not None

    def fail() -> None:  # every attempt, also that of a page which asks for the data set
        raise DataError("the disk is full", hint="make room")

    monkeypatch.setattr(data, "_update", fail)
    site.service.update_data()
    trouble.get_by_text("the disk is full").wait_for()
    assert trouble.get_by_role("alert").count() == 1
    late, _ = corrected(go, site)  # a page that is opened meanwhile
    late.page.locator("#server-trouble").get_by_text("make room").wait_for()
    monkeypatch.undo()
    site.service.update_data()
    trouble.get_by_role("alert").wait_for(state="detached")


def test_files_of_the_server_are_chosen_in_a_dialog(go: Go, site: Site) -> None:
    opened = go()
    opened.page.get_by_role("button", name="From the server").click()
    dialog = opened.page.get_by_role("dialog")
    dialog.get_by_role("button", name="old").click()
    dialog.get_by_label("on the server.mp4").check()
    dialog.get_by_role("button", name="Find events").click()
    opened.page.locator(".job a.name", has_text="on the server.mp4").wait_for()
    assert site.job("on the server.mp4")["size"] == site.clip.stat().st_size


def test_a_path_that_leaves_the_folder_is_refused_in_words(browser: Any, site: Site) -> None:
    opened = Opened(browser, site)
    opened.page.get_by_role("button", name="From the server").click()
    dialog = opened.page.get_by_role("dialog")
    dialog.locator("#path").fill("../../etc/passwd.mp4")
    dialog.get_by_role("button", name="Find events").click()
    dialog.locator(".callout.bad", has_text="isn't in recordings").wait_for()
    opened.context.close()


def test_sliders_decide_again_and_the_models_own_comes_back(go: Go, site: Site) -> None:
    opened, _ = corrected(go, site)
    slider = opened.page.locator("#tune-threshold")
    slider.fill("0.75")  # above the 0.7 of all events
    opened.page.locator("#events-scroll .empty").wait_for()
    assert opened.page.locator("#timeline .event").count() == 0
    slider.fill("0.65")
    opened.event("Bark").wait_for()
    opened.page.locator("#tune-min_duration").fill("2")
    opened.event("Bark").wait_for(state="detached")
    assert opened.table() == ["Church bell 0:01 – 0:03"]
    opened.page.locator("#tune-own").click()
    opened.event("Bark").wait_for()
    assert len(opened.table()) == 2


def test_corrections_are_saved_and_there_after_a_reload(go: Go, site: Site) -> None:
    opened, id = corrected(go, site)
    page = opened.page
    # an edge is dragged, and keeps to segments
    opened.drag(opened.edge(opened.event("Church bell"), "end"), 4.1)
    assert opened.table()[0] == "Church bell 0:01 – 0:04"
    # the label becomes a free one
    opened.event("Bark").click()
    page.locator("#event-label").fill("Dog, far away")
    page.keyboard.press("Enter")
    # an event is drawn on an empty part of a row, another is deleted and comes back
    bell = page.locator('.lane[data-label="Church bell"]').bounding_box()
    opened.drag((opened.x(5.1), bell["y"] + bell["height"] - 10), 5.9)
    expected = [(1.0, 4.0, "Church bell"), (4.0, 5.0, "Dog, far away"), (5.0, 6.0, "Church bell")]
    page.keyboard.press("Delete")
    assert len(opened.table()) == 2
    page.keyboard.press("Control+z")
    assert len(opened.table()) == 3
    page.keyboard.press("Control+Shift+z")
    assert len(opened.table()) == 2
    page.keyboard.press("Control+z")
    assert page.locator("#saved").inner_text() == "not saved"
    page.keyboard.press("Control+s")
    opened.saved()
    assert site.events(id) == expected
    page.reload()
    opened.ready()
    shown = ["Church bell 0:01 – 0:04", "Dog, far away 0:04 – 0:05", "Church bell 0:05 – 0:06"]
    assert opened.table() == shown
    assert site.api.get(f"api/jobs/{id}").json()["corrected"] is True
    # and the model's events can be had back
    page.locator("#export").click()
    page.get_by_role("button", name="Back to what was found").click()
    page.get_by_role("dialog").get_by_role("button", name="Back to what was found").click()
    opened.event("Bark").wait_for()
    assert site.events(id) == [(1.0, 3.0, "Church bell"), (4.0, 5.0, "Bark")]


def test_edges_are_free_with_shift_and_an_escape_ends_a_drag(go: Go, site: Site) -> None:
    opened, _ = corrected(go, site)
    x, y = opened.edge(opened.event("Bark"), "start")
    opened.page.keyboard.down("Shift")
    opened.drag((x, y), 3.55)
    opened.page.keyboard.up("Shift")
    start = float(opened.table()[1].split(" ")[1].split(":")[1])
    assert start == pytest.approx(3.55, abs=0.02) and start != 4
    before = opened.table()
    opened.page.mouse.move(*opened.edge(opened.event("Church bell"), "end"))
    opened.page.mouse.down()
    opened.page.mouse.move(opened.x(5.5), y)
    opened.page.keyboard.press("Escape")
    opened.page.mouse.up()
    assert opened.table() == before
    # a whole event, dragged to another row, gets that row's label
    box = opened.event("Bark").bounding_box()
    other = opened.page.locator('.lane[data-label="Church bell"]').bounding_box()
    opened.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 10)
    opened.page.mouse.down()
    opened.page.mouse.move(box["x"] + box["width"] / 2, box["y"] - 5)
    opened.page.mouse.move(box["x"] + box["width"] / 2, other["y"] + 10)
    opened.page.mouse.up()
    assert [row.split(" 0:")[0] for row in opened.table()] == ["Church bell", "Church bell"]


def test_everything_is_done_by_keyboard(go: Go, site: Site) -> None:
    opened, id = corrected(go, site)
    press = opened.page.keyboard.press
    opened.page.locator("#ruler").focus()
    press("n")  # the bell, 1 to 3
    for key in ("ArrowRight", "Shift+ArrowLeft", "Alt+ArrowLeft"):  # 2-4, 2-3, 1-3
        press(key)
    assert opened.table()[0] == "Church bell 0:01 – 0:03"
    press("Shift+ArrowRight")
    assert opened.table()[0] == "Church bell 0:01 – 0:04"
    press("Escape")
    press("Home")
    press("ArrowRight")
    press("ArrowRight")
    assert opened.time == pytest.approx(2.0, abs=0.05)
    press("p")
    press("n")  # the bark, 4 to 5
    press("l")
    opened.page.keyboard.type("Dog")
    press("Enter")
    press("e")  # another of its label, here
    press("1")  # which becomes the first row's
    assert opened.page.evaluate("document.activeElement.className").startswith("event")
    press("?")
    assert opened.page.get_by_role("dialog").is_visible()
    press("Escape")
    press("Delete")
    press("Control+s")
    opened.saved()
    assert site.events(id) == [(1.0, 4.0, "Church bell"), (4.0, 5.0, "Dog")]


def test_split_merge_and_times_typed(go: Go, site: Site) -> None:
    opened, _ = corrected(go, site)
    opened.event("Church bell").click()
    opened.page.locator("#ruler").focus()
    opened.page.keyboard.press("ArrowRight")  # to 2 s; the bell stays chosen
    opened.page.locator("#split").click()
    assert opened.table()[:2] == ["Church bell 0:01 – 0:02", "Church bell 0:02 – 0:03"]
    opened.page.keyboard.press("p")
    opened.page.locator("#merge").click()
    assert opened.table()[0] == "Church bell 0:01 – 0:03"
    end = opened.page.locator("#event-end")
    end.fill("9:99")
    end.press("Enter")
    assert end.get_attribute("aria-invalid") == "true"
    end.fill("0:03.25")
    end.press("Enter")
    assert opened.table()[0] == "Church bell 0:01 – 0:03.25"


def test_a_slider_never_takes_corrections_away(go: Go, site: Site) -> None:
    opened, _ = corrected(go, site)
    opened.event("Bark").click()
    opened.page.keyboard.press("Delete")
    opened.page.locator("#tune-threshold").fill("0.6")
    opened.page.locator("#offer").wait_for()
    assert opened.table() == ["Church bell 0:01 – 0:03"]
    assert opened.page.locator(".ghost").count() == 2
    opened.page.locator("#use-found").click()
    assert len(opened.table()) == 2
    assert opened.page.locator(".ghost").count() == 0
    opened.page.keyboard.press("Control+z")
    assert opened.table() == ["Church bell 0:01 – 0:03"]


def test_unsaved_work_is_asked_about_and_the_next_file_follows(go: Go, site: Site) -> None:
    site.done("older.mp4")
    opened, id = corrected(go, site, "newer.mp4")
    opened.event("Bark").click()
    opened.page.keyboard.press("Delete")
    opened.page.locator("a.brand").click()
    dialog = opened.page.get_by_role("dialog")
    dialog.get_by_role("button", name="Stay").click()
    assert opened.page.locator("#title").inner_text() == "newer.mp4"
    opened.page.wait_for_url(f"**/{id}")
    opened.page.keyboard.press("Control+Enter")  # save, and open the next
    opened.page.locator("#title", has_text="older.mp4").wait_for()
    assert site.events(id) == [(1.0, 3.0, "Church bell")]
    opened.ready()
    opened.page.locator("#job-previous").click()
    opened.page.locator("#title", has_text="newer.mp4").wait_for()
    opened.ready()
    assert opened.table() == ["Church bell 0:01 – 0:03"]


def test_who_saved_meanwhile_is_asked_about(browser: Any, site: Site) -> None:
    id = site.done()
    opened = Opened(browser, site, f"#/job/{id}")
    opened.ready()
    opened.event("Bark").click()
    opened.page.keyboard.press("Delete")
    theirs = {"revision": 0, "events": [{"start": 0, "end": 1, "label": "Siren"}]}
    assert site.api.put(f"api/jobs/{id}/annotations", json=theirs).status_code == 200
    opened.page.keyboard.press("Control+s")
    dialog = opened.page.get_by_role("dialog")
    assert "There it has 1 event, here 1 event." in dialog.inner_text()
    dialog.get_by_role("button", name="Keep mine").click()
    opened.saved()
    assert site.events(id) == [(1.0, 3.0, "Church bell")]
    opened.context.close()


def test_a_running_job_tells_how_far_it_is_and_is_cancelled(go: Go, site: Site) -> None:
    opened = go()
    opened.page.locator("#file").set_input_files(
        {"name": "slow.mp4", "mimeType": "video/mp4", "buffer": site.clip.read_bytes()}
    )
    row = opened.page.locator(".job.running", has_text="slow.mp4")
    row.locator(".progress span", has_text="%").wait_for()
    row.get_by_role("button", name="Cancel").click()
    opened.page.locator(".job.cancelled", has_text="slow.mp4").wait_for()
    assert site.job("slow.mp4")["state"] == "cancelled"
    gone = opened.page.locator(".job.cancelled", has_text="slow.mp4")
    gone.get_by_role("button", name="Delete").click()
    opened.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    gone.wait_for(state="detached")


def test_a_damaged_file_says_what_came_and_what_to_do(go: Go, site: Site) -> None:
    opened = go()
    opened.page.locator("#file").set_input_files(
        {"name": "torn.mp4", "mimeType": "video/mp4", "buffer": site.clip.read_bytes()[:900]}
    )
    failed = opened.page.locator(".job.failed", has_text="torn.mp4")
    failed.wait_for()
    message, error = failed.locator(".callout").inner_text(), site.job("torn.mp4")["error"]
    assert error["got"].replace("`", "") in message
    assert "torn.mp4" in message and str(site.root.parent) not in message
    failed.get_by_role("button", name="Try again").wait_for()


def test_a_sound_file_is_heard_and_corrected(go: Go, site: Site) -> None:
    opened = go(f"#/job/{site.done('tone.wav', tone(seconds=6))}")
    opened.ready()
    assert opened.page.locator("#media").evaluate("(m) => m.tagName") == "AUDIO"
    assert not opened.page.locator("#attention").is_visible()
    assert opened.page.locator("#stage").bounding_box()["height"] < 250
    opened.event("Bark").click()
    assert opened.time == pytest.approx(4.0, abs=0.05)
    opened.drag(opened.edge(opened.event("Bark"), "end"), 6)
    assert opened.table()[1] == "Bark 0:04 – 0:06"


def test_hostile_names_and_labels_are_only_text(go: Go, site: Site) -> None:
    opened, id = corrected(go, site, HOSTILE)
    label = '"><img src=x onerror=window.broken=2>'
    opened.event("Bark").click()
    opened.page.locator("#event-label").fill(label)
    opened.page.keyboard.press("Control+s")  # what is being typed counts
    opened.saved()
    assert site.events(id)[1][2] == label
    assert label in opened.page.locator("#now").inner_text()
    opened.page.locator("a.brand").click()
    opened.page.locator(".job a.name", has_text="onerror=window.broken=1").wait_for()
    assert opened.page.evaluate("window.broken") is None


def test_what_was_corrected_is_exported(go: Go, site: Site, tmp_path: Path) -> None:
    from avel import report

    opened, _ = corrected(go, site, "street.mp4")
    opened.event("Bark").click()
    opened.page.keyboard.press("Delete")
    opened.page.locator("#export").click()
    with opened.page.expect_download() as download:
        opened.page.locator("#export-menu").get_by_role("button", name="csv").first.click()
    download.value.save_as(tmp_path / download.value.suggested_filename)
    assert download.value.suggested_filename == "street.csv"
    assert [e.label for e in report.read(tmp_path / "street.csv")] == ["Church bell"]


def test_events_of_a_person_show_no_score_and_an_export_corrects_nothing(
    go: Go, site: Site
) -> None:
    opened, _ = corrected(go, site)
    page = opened.page
    page.locator("#tune-threshold").fill("0.65")
    page.locator("#export").click()
    with page.expect_download():
        page.locator("#export-menu").get_by_role("button", name="ELAN").click()
    assert site.job("clip.mp4")["corrected"] is False
    opened.drag(opened.edge(opened.event("Bark"), "end"), 6)
    row = page.locator("tr[data-event]").nth(1)
    assert "by hand" in row.inner_text() and "0.70" not in row.inner_text()
    assert opened.event("Bark").get_attribute("aria-label").endswith("by hand")
    assert "0.70" in page.locator("tr[data-event]").first.inner_text()
    page.locator("#label-file").set_input_files(
        {"name": "l.csv", "mimeType": "text/csv", "buffer": b"start,end,label\n1,2,gate\n"}
    )
    opened.event("gate").wait_for()
    assert opened.table() == ["gate 0:01 – 0:02"]
    page.keyboard.press("Control+s")
    opened.saved()


def test_a_file_of_the_server_is_removed_from_the_list_only(go: Go, site: Site) -> None:
    body = {"root": "recordings", "path": "old/on the server.mp4"}
    site.api.post("api/jobs/path", json=body).raise_for_status()
    opened = go()
    row = opened.page.locator(".job.done", has_text="on the server.mp4").first
    row.get_by_role("button", name="Remove").click()
    dialog = opened.page.get_by_role("dialog")
    assert "The file itself stays in recordings." in dialog.inner_text()
    dialog.get_by_role("button", name="Remove").click()
    opened.page.get_by_text("is removed from the list.").wait_for()
    assert site.clip.is_file()


def test_the_list_shows_labels_and_sorts_by_doubt(go: Go, site: Site, tmp_path: Path) -> None:
    site.done("unsure.mp4")
    site.done("newest.mp4")
    opened = go(width=1366, height=768)
    page, names = opened.page, opened.page.locator(".job .name")
    page.locator(".job", has_text="newest.mp4").wait_for()
    assert names.first.inner_text() == "newest.mp4"
    row = page.locator(".job", has_text="newest.mp4")
    assert row.locator(".labels").inner_text().split("\n") == ["Church bell", "Bark"]
    assert row.locator(".thumb img").evaluate("(i) => i.decode().then(() => i.naturalWidth)") > 0
    page.locator("#order").select_option("unsure")
    assert names.first.inner_text() == "unsure.mp4"
    with page.expect_download() as download:
        page.locator("#export-all").select_option("csv")
    assert download.value.suggested_filename == "events-csv.zip"
    page.set_viewport_size({"width": 390, "height": 844})
    assert opened.wider <= 0


def test_a_model_is_trained_watched_compared_and_chosen(go: Go, site: Site) -> None:
    data = site.service.data
    assert data is not None
    confirmed(site, 1)
    with (data.folder / "annotations.csv").open("a", encoding="utf-8") as table:
        for k in range(2):  # labelled by a person in the data set
            (data.folder / f"own {k}.mp4").write_bytes(b"own %d" % k)
            table.write(f"own {k}.mp4,0.5,2.0,gate,\n")
    confirmed(site, 1)
    opened = go(width=1366, height=768)
    page, card = opened.page, opened.page.locator("#learn")
    counts = site.api.get("api/dataset").json()
    title = f"Learn from {counts['clips'] + 2} labelled files, {counts['clips']} of them corrected"
    assert counts["labelled"] == counts["clips"] + 2
    assert card.locator("h2").inner_text().startswith(title)
    # it runs, says how far it is, and can be cancelled
    card.get_by_role("button", name="Train", exact=True).click()
    card.get_by_text("Cross-validation, fold 1 of 2: epoch 3 of 30").wait_for()
    bar = card.locator("progress")
    assert (bar.get_attribute("max"), bar.evaluate("(b) => b.value")) == ("30", 3)
    assert card.get_by_role("button", name="Train", exact=True).count() == 0
    card.get_by_role("button", name="Cancel").click()
    card.get_by_text("The training was cancelled.").wait_for()
    # it fails with a sentence
    (data.folder / "fail").touch()
    card.get_by_role("button", name="Train", exact=True).click()
    card.get_by_role("alert").get_by_text("no row has a label").wait_for()
    (data.folder / "fail").unlink()
    # it is done: also for a page that was opened meanwhile
    card.get_by_role("button", name="Train", exact=True).click()
    late = go(width=1366, height=768)
    late.page.locator("#training-stage", has_text="fold 1 of 2").wait_for()
    (data.folder / "go").touch()
    for one in (page, late.page):
        one.locator("#learn .figures tr.new").wait_for()
        rows = [r.inner_text().split("\t") for r in one.locator("#learn .figures tbody tr").all()]
        assert rows[0][1:] == ["81.0 %", "70.0 %"] and rows[1] == ["default", "52.0 %", "–"]
        assert rows[2] == ["always background (baseline)", "60.0 %", "0.0 %"]
        assert "mean of 2 folds" in one.locator("#learn caption").inner_text()
        assert one.locator("#learn").get_by_text("default doesn't have 1 of the 1").is_visible()
    narrow = go(width=390, height=800)
    narrow.page.locator("#learn .figures tr.new").wait_for()
    assert opened.wider <= 0 and narrow.wider <= 0
    name = page.locator("#learn .trained summary b").inner_text()
    assert page.locator("#model option").all_inner_texts() == ["default", "other", name]
    card.get_by_role("button", name="Use for new files").click()
    assert page.locator("#model").input_value() == name
    assert page.evaluate(NAMELESS) == []
    # a file is localized with it again, by the sliders' list of models
    page.locator(".job a.name").first.click()
    opened.ready()
    assert name in page.locator(".tuning-foot option").all_text_contents()
    page.go_back()
    # it is deleted
    card.get_by_role("button", name=f"Delete {name}").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    card.locator(".trained").wait_for(state="detached")
    assert page.locator("#model").input_value() == "default"


def confirmed(site: Site, count: int) -> None:
    """Files whose events are saved as correct."""
    for k in range(count):
        path = f"api/jobs/{site.done(f'learn {k}.mp4')}/annotations"
        current = site.api.get(path).json()
        body = {"revision": current["revision"], "events": current["events"]}
        site.api.put(path, json=body).raise_for_status()


def test_the_token_is_asked_for(browser: Any, site: Site) -> None:
    opened = Opened(browser, site, token="")
    field = opened.page.locator("#token")
    field.fill("a wrong one")
    field.press("Enter")
    opened.page.get_by_text("That isn’t the token.").wait_for()
    field.fill(TOKEN)
    field.press("Enter")
    opened.page.locator("#drop button").first.wait_for()
    assert opened.page.get_by_role("dialog").count() == 0
    opened.page.reload()
    opened.page.locator("#drop button").first.wait_for()
    opened.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_every_width_and_can_be_read(go: Go, site: Site, scheme: str) -> None:
    opened, id = corrected(go, site, "a_long_name_" * 12 + ".mp4", color_scheme=scheme)
    opened.event("Bark").click()
    for path in (f"#/job/{id}", "#/"):
        opened.page.goto(f"{site.address}{path}")
        opened.page.locator("#timeline .event:visible, .job:visible").first.wait_for()
        for width in WIDTHS:
            opened.page.set_viewport_size({"width": width, "height": 900})
            assert opened.wider <= 0, (path, width)
        opened.page.set_viewport_size({"width": 1280, "height": 900})
        ratios = opened.page.evaluate(CONTRAST)
        assert len(ratios) > 10
        assert [r for r in ratios if r[1] < 4.5] == []


def test_a_finger_corrects_on_a_phone(go: Go, site: Site) -> None:
    size = {"width": 390, "height": 844}
    opened, _ = corrected(go, site, **size, has_touch=True, is_mobile=True)
    opened.event("Bark").tap()
    assert opened.page.locator("#event-start").input_value() == "0:04.0"
    # the fields take their own height below the rows, no more
    assert opened.page.locator("#event-tools").bounding_box()["height"] < 200
    opened.page.locator("#event-end").fill("0:06")
    opened.page.locator("#event-end").press("Enter")
    assert opened.table()[1] == "Bark 0:04 – 0:06"
    opened.page.locator("#delete").tap()
    assert opened.table() == ["Church bell 0:01 – 0:03"]
    opened.page.locator("#undo").tap()
    assert len(opened.table()) == 2
    small = opened.page.evaluate(
        "[...document.querySelectorAll('button, select, input[type=range]')]"
        ".filter((b) => b.checkVisibility() && b.offsetHeight < 32).map((b) => b.outerHTML)"
    )
    assert small == []


def test_of_a_long_file_only_what_changes_is_drawn(go: Go, site: Site) -> None:
    id = site.done()
    opened = go()
    page, kinds = opened.page, ("Church bell", "Bark")
    events = [
        {"start": 12.0 * i, "end": 12.0 * i + 1, "label": kinds[i % 2], "score": 0.5}
        for i in range(600)
    ]
    timeline = site.api.get(f"api/jobs/{id}/timeline").json()
    timeline |= {"duration": 7200.0, "events": events, "attention": None}
    annotations = {"revision": 0, "events": events, "saved": None}
    page.route(f"**/api/jobs/{id}/timeline*", lambda route: route.fulfill(json=timeline))
    page.route(f"**/api/jobs/{id}/annotations", lambda route: route.fulfill(json=annotations))
    page.goto(f"{site.address}#/job/{id}")
    opened.ready()
    assert page.locator("#timeline .event").count() == 600
    page.evaluate("document.querySelectorAll('.event, tr').forEach((e) => (e.known = true))")
    page.locator("#ruler").focus()
    page.keyboard.press("n")  # the first one, at 0
    page.keyboard.press("n")
    page.keyboard.press("ArrowRight")
    assert "0:00:13 – 0:00:14" in page.locator("tr[data-event]").nth(1).inner_text()
    fresh = "[...document.querySelectorAll('.event, tr')].filter((e) => !e.known).length"
    assert page.evaluate(fresh) == 1  # the row whose times have changed
    for _ in range(12):
        page.keyboard.press("+")
    page.evaluate("(s => (s.scrollLeft = s.scrollWidth))(document.getElementById('scroller'))")
    page.locator("#ruler span", has_text="2:00:00").wait_for()
    assert page.locator("#ruler span").count() < 100


def test_a_pane_of_another_size_shows_the_same_time_at_its_left_edge(go: Go, site: Site) -> None:
    id = site.done()
    opened = go()
    page = opened.page
    page.goto(f"{site.address}#/job/{id}")
    opened.ready()
    page.locator("#ruler").focus()
    for _ in range(4):
        page.keyboard.press("+")
    place = (
        "(s => s.scrollLeft / document.getElementById('ruler').clientWidth)"
        "(document.getElementById('scroller'))"
    )
    page.evaluate("(s => (s.scrollLeft = s.scrollWidth / 3))(document.getElementById('scroller'))")
    page.wait_for_timeout(200)
    before = page.evaluate(place)
    page.set_viewport_size({"width": 900, "height": 700})
    page.wait_for_timeout(300)
    assert page.evaluate(place) == pytest.approx(before, abs=0.005)


def test_everything_has_a_name(go: Go, site: Site) -> None:
    opened, _ = corrected(go, site)
    opened.event("Bark").click()
    names = opened.page.evaluate(NAMELESS)
    assert names == []
    opened.page.locator("a.brand").click()
    opened.page.locator(".job").first.wait_for()
    assert opened.page.evaluate(NAMELESS) == []


@pytest.mark.parametrize("width", [390, 1280])
def test_what_is_only_heard_has_a_quiet_row(go: Go, site: Site, width: int) -> None:
    opened, _ = corrected(go, site, "apart.mp4", width=width)
    page, switch = opened.page, opened.page.locator("#single")
    rows = page.locator(".single-row")
    assert rows.count() == 2 and rows.last.is_visible() and opened.wider <= 0
    title, own = (page.locator(q).bounding_box() for q in ("#timeline-title", "#single"))
    assert own["x"] >= title["x"] + min(title["width"], 76)
    assert page.evaluate(NAMELESS) == []
    first = page.locator(".single").first
    first.hover()
    tip = page.locator("#tip")
    tip.wait_for()
    assert tip.inner_text().split("\n") == ["Siren 0.70", "0:04 – 0:05"]
    first.click()
    page.wait_for_function("() => Math.abs(document.getElementById('media').currentTime - 4) < 0.1")
    assert "Siren (heard, not seen)" in page.locator("#now").inner_text()
    assert len(opened.table()) == 2  # nothing was made or moved
    first.focus()
    page.keyboard.press("h")
    assert switch.get_attribute("aria-pressed") == "false" and not rows.first.is_visible()
    assert "Siren" not in page.locator("#now").inner_text()
    switch.click()
    assert rows.first.is_visible()
    page.locator("#tune-threshold").fill("0.75")  # above the 0.7 of all events
    page.locator("#events-scroll .empty").wait_for()
    message = page.locator("#events-scroll .empty").text_content() or ""
    assert message.startswith("No event is both seen and heard. Heard only: Siren 0:04-0:05.")
    assert rows.count() == 2


def test_where_nothing_is_only_heard_there_is_no_switch(go: Go, site: Site) -> None:
    opened, _ = corrected(go, site)
    assert not opened.page.locator("#single").is_visible()
    assert opened.page.locator(".single-row").count() == 0


INSIDE = """(ids) => ids.map((q) => document.querySelector(q).getBoundingClientRect())
  .every((r) => r.height > 40 && r.top >= 0 && r.bottom <= innerHeight)"""


@pytest.mark.parametrize(("width", "height"), [(1366, 768), (1280, 900)])
def test_picture_timeline_and_sound_are_visible_together(
    go: Go, site: Site, width: int, height: int
) -> None:
    opened, _ = corrected(go, site, width=width, height=height)
    page = opened.page
    page.locator("#timeline .spectrogram").wait_for()
    page.wait_for_function(INSIDE, arg=["#stage", "#timeline", ".sound-row .lane"])
    side = "document.querySelector('.side')"  # events and decision need no scrolling in it
    page.wait_for_function(f"() => {side}.scrollHeight <= {side}.clientHeight")
    assert opened.wider <= 0 and page.evaluate("scrollY") == 0
    lanes = page.locator(".class-row:not(.new-row) .lane").all()
    tops = [lane.bounding_box()["y"] for lane in lanes]
    for start in (5.1, 0.1, 3.1):  # several events on one row, none of which moves the page
        bell = lanes[0].bounding_box()
        opened.drag((opened.x(start), bell["y"] + 8), start + 0.7)
    assert [lane.bounding_box()["y"] for lane in lanes] == tops
    assert page.evaluate("scrollY") == 0
    assert [row.split(" 0:")[0] for row in opened.table()].count("Church bell") == 4


def test_an_event_at_the_start_is_reached_by_key(go: Go, site: Site) -> None:
    opened, id = corrected(go, site)
    first = {"start": 0, "end": 1, "label": "Siren"}
    body = {"revision": 0, "events": [first, {"start": 2, "end": 3, "label": "Bark"}]}
    assert site.api.put(f"api/jobs/{id}/annotations", json=body).status_code == 200
    opened.page.reload()
    opened.ready()
    chosen = opened.page.locator(".event.chosen")
    opened.page.locator("#ruler").focus()
    opened.page.keyboard.press("n")
    assert chosen.get_attribute("aria-label").startswith("Siren, ")
    opened.page.keyboard.press("n")
    assert chosen.get_attribute("aria-label").startswith("Bark, ")
    opened.page.keyboard.press("Escape")
    opened.page.keyboard.press("Home")
    opened.page.keyboard.press("p")
    assert chosen.get_attribute("aria-label").startswith("Siren, ")


def test_the_timeline_zooms_to_a_tenth_of_a_second(go: Go, site: Site) -> None:
    opened, _ = corrected(go, site)
    for _ in range(6):
        opened.page.locator("#zoom-in").click(force=True)
        if opened.page.locator("#zoom-in").is_disabled():
            break
    assert opened.page.locator("#zoom-in").is_disabled()
    assert opened.page.locator("#ruler").bounding_box()["width"] / 6 >= 0.8 * 480  # pixels a second
    assert opened.wider <= 0
