"""The pages are true: every command in them runs, every link leads somewhere, the site builds."""

from __future__ import annotations

import contextlib
import csv
import importlib
import inspect
import io
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from avel.cli.main import main
from avel.data.ave.files import ORDER_KEY, ORDERS
from avel.data.toybox.dataset import ToyboxPlan, render_clip, synthesize
from avel.types import Event, Timeline
from tests.conftest import ROOT
from tests.docs_pages import (
    PAGES,
    Block,
    anchors,
    blocks,
    check_command,
    check_program,
    commands,
    links,
    read,
    smaller,
    spans,
)
from tests.media_files import mux, tone
from tests.test_readme import alike

torch.set_num_threads(1)
#: Pages whose code another test runs, on inputs of its own.
ELSEWHERE = {
    "docs/composer.md": ("tests.data.test_composer", "test_the_page_configuration_and_commands"),
    "docs/gallery.md": ("tests.scripts.test_gallery", "test_the_page_runs_and_draws_what_it_shows"),
    "CONTRIBUTING.md": ("tests.models.test_own_models", "test_the_contract_holds_for_it"),
}
#: How many blocks no test runs; each says why.
NOT_RUN = {
    "README.md": 2,
    "docs/benchmarks.md": 1,
    "docs/choosing-a-model.md": 3,
    "docs/distributed-extraction.md": 2,
    "docs/composer.md": 1,
    "docs/onnx-and-caching.md": 2,
    "docs/gallery.md": 1,
    "docs/bundled-backbones.md": 1,
    "docs/our-model.md": 1,
    "docs/pairs10.md": 3,
    "docs/reproduce.md": 1,
    "docs/serve.md": 3,
    "docs/tour.md": 1,
    "docs/your-own-videos.md": 1,
    "results/README.md": 1,
}
#: Pages of a few seconds; the others' runs are slow tests.
QUICK = {"docs/events.md", "docs/formats.md", "docs/index.md"}
LONG = [pytest.mark.slow, pytest.mark.timeout(1200)]
#: What the page makes itself, and so doesn't find.
MAKES = {
    "README.md": ("data/toy", "runs/toy", "street.eaf"),
    "docs/tour.md": ("data/toy", "runs/toy"),
    "docs/your-own-videos.md": ("data/toy", "runs/toy"),
}
RUN = [p for p in PAGES if p not in ELSEWHERE and any(b.reason is None for b in blocks(read(p)))]


# ---- what can be said without running anything


@pytest.mark.parametrize("page", [p for p in PAGES if commands(p)])
def test_commands_can_be_called_like_that(page: str) -> None:
    for line in commands(page):
        check_program(line)


@pytest.mark.parametrize("page", [p for p in PAGES if spans(p)])
def test_commands_within_sentences_too(page: str) -> None:
    for line in spans(page):
        check_command(line, whole=False)


@pytest.mark.parametrize(
    "line",
    ["avel dance x", "avel localize a.mp4 --loud", "avel localize --json", "make haste",
     "python scripts/nothing.py", "python scripts/gallery.py x --loud", "rm x"],
)  # fmt: skip
def test_what_does_not_exist_is_noticed(line: str) -> None:
    wrong = r"no verb|(?i:no such (option|target|script))|(?i:missing)|no --loud|what is rm"
    with pytest.raises(Exception, match=wrong):
        check_program(line)


def test_every_block_is_found() -> None:
    for page in PAGES:
        fences = re.findall(r"^ *```(?:sh|python|bash|console|py)\b.*$", read(page), re.M)
        assert len(blocks(read(page))) == len(fences), page


def test_what_no_test_runs_says_why_and_is_counted() -> None:
    left: dict[str, int] = {}
    for page in PAGES:
        for block in blocks(read(page)):
            if block.reason is not None:
                assert len(block.reason) >= 12, f"{page}: {block.reason}"
                left[page] = left.get(page, 0) + 1
    assert left == NOT_RUN


@pytest.mark.parametrize("page", sorted(ELSEWHERE))
def test_pages_run_elsewhere_are(page: str) -> None:
    """The named test is there, isn't skipped, and reads the page's own text."""
    module, name = ELSEWHERE[page]
    tests = importlib.import_module(module)
    test = getattr(tests, name)
    assert not {m.name for m in getattr(test, "pytestmark", [])} & {"skip", "skipif", "xfail"}
    sources = {
        key
        for key, value in vars(tests).items()
        if value in (ROOT / page, read(page)) or getattr(value, "string", None) == read(page)
    }
    fixtures = [getattr(tests, n, None) for n in inspect.signature(test).parameters]
    code = [inspect.getsource(f) for f in (test, *fixtures) if inspect.isroutine(f) or f is test]
    code += [inspect.getsource(f.__wrapped__) for f in fixtures if hasattr(f, "__wrapped__")]
    assert any(re.search(rf"\b{key}\b", text) for key in sources for text in code), page


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for path, anchor in links(read(page)):
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), f"{page}: {path}"
        assert ROOT in target.resolve().parents, f"{page}: {path} lies outside"
        assert not anchor or anchor in anchors(target), f"{page}: {path}#{anchor}"


def test_smaller_commands_are_the_same_commands() -> None:
    assert smaller("avel synth data/toy --clips 300").startswith("avel synth data/toy --clips 24 ")
    trained = "avel train cspa_csea task=cml data=data/toy -o runs/bark"
    assert smaller(trained) == trained + " epochs=1 mmel.epochs=1"
    assert (
        smaller("avel train av data=data/toy epochs=40") == "avel train av data=data/toy epochs=1"
    )
    assert smaller("avel localize street.mp4") == "avel localize street.mp4"


# ---- running them


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small files of the names that the pages use."""
    folder = tmp_path_factory.mktemp("pages")
    name = render_clip(ToyboxPlan(seed=1, fps=4, width=160, height=120), 0, folder / "made")
    for copy in ("street.mp4", "videos/a.mp4", "data/clips/a.mp4", "clip.mp4"):
        (folder / copy).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "made" / "videos" / f"{name}.mp4", folder / copy)
    shutil.rmtree(folder / "made")
    mux(folder / "bark.wav", sounds=[(0.0, tone(2, 16000))])
    mux(folder / "recording.wav", sounds=[(0.0, tone(4, 16000))])
    picture = np.linspace(0, 255, 96 * 96 * 3).reshape(96, 96, 3).astype(np.uint8)
    mux(folder / "silent.mp4", pictures=[(t / 2, np.roll(picture, t, 0)) for t in range(8)])
    held = (Event(0.0, 1.5, "Bark"), Event(2.0, 3.0, "Church bell"))
    for label in ("in.eaf", "a.eaf", "b.eaf", "c.txt", "dcase.tsv", "clip.txt", "clip.eaf",
                  "street.eaf"):  # fmt: skip
        video = "street.mp4" if "street" in label else "clip.mp4"
        Timeline(video, held, 5.0, ("Bark", "Church bell")).save(folder / label)
    return folder


@pytest.fixture(scope="session")
def trained(stand_ins: Path) -> Path:
    """The same folder with a small data set, a run of it, and a small simulated AVE."""
    toy = stand_ins / "data" / "toy"
    synthesize(
        toy, clips=24, plan=ToyboxPlan(seed=1, seconds=6, fps=2, width=48, height=36), jobs=1
    )
    call("extract", toy)
    call("extract", stand_ins / "data" / "clips")
    shutil.copytree(toy, stand_ins / "corrected")
    call("train", "cspa_csea", f"data={toy}", "epochs=1", "-o", stand_ins / "runs" / "toy")
    labels = stand_ins / "labels"
    labels.mkdir()
    names = ("Bark", "Bus", "Cat")
    rows = [f"{names[i % 3]}&{i}&good&{i % 4}&{min(10, i % 4 + 3 + i % 5)}\n" for i in range(24)]
    (labels / "Annotations.txt").write_text("".join(rows), "utf-8")
    for i, remote in enumerate(ORDERS.values()):
        with h5py.File(labels / remote.name, "w") as f:
            f[ORDER_KEY] = np.arange(24)[i % 3 :: 3]
    call("synth-features", stand_ins / "data" / "AVE", "--labels", labels)
    return stand_ins


def call(*words: object) -> str:
    """What one command prints; what went wrong stands in the failure."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()) as wrong:
        code = main([str(word) for word in words])
    assert code == 0, f"{words}: {said.getvalue()}{wrong.getvalue()}"
    return said.getvalue()


@pytest.fixture
def here(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A copy of the stand-ins as the current folder, without what the page makes."""
    page = request.getfixturevalue("page")
    if names_events(page):
        request.getfixturevalue("taggers")
    source = request.getfixturevalue("stand_ins" if page in QUICK else "trained")
    folder = tmp_path / "work"
    shutil.copytree(source, folder)
    for made in MAKES.get(page, ()):
        shutil.rmtree(folder / made) if (folder / made).is_dir() else (folder / made).unlink()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "120")
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("page", [pytest.param(p, marks=[] if p in QUICK else LONG) for p in RUN])
def test_the_pages_code_runs(page: str, here: Path) -> None:
    names: dict[str, object] = {}
    for block in blocks(read(page)):
        if block.reason is not None:
            continue
        if block.kind == "python":
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(block.code, page, "exec"), names)
            continue
        said = "".join(run(line, page) for line in block.lines)
        if block.printed is not None and is_as_written(block):
            lines = "\n".join(line.rstrip() for line in said.strip().splitlines())
            assert alike(lines, block.printed.strip()), said


def names_events(page: str) -> bool:
    """Whether a page's code uses the training-free model, whose weights are downloaded."""
    code = "\n".join(b.code for b in blocks(read(page)) if b.reason is None)
    return bool(re.search(r"avel (localize|demo|export default)\b(?!.*--(model|toy)\b)", code))


def run(line: str, page: str) -> str:
    """What a page's command prints, with small inputs."""
    program, *words = shlex.split(smaller(line))
    assert program == "avel", f"{page}: {line}: a test runs avel alone; mark what it can't run"
    return call(*words)


def is_as_written(block: Block) -> bool:
    """Whether the block's commands were run on what the page runs them on, and no smaller.

    Distances of a search, to three decimals, hang on the processor.
    """
    smaller_or_rounded = ("data/toy", "runs/toy", "avel match")
    return not any(word in line for line in block.lines for word in smaller_or_rounded)


def test_what_is_printed_is_there() -> None:
    tour = [b for b in blocks(read("docs/tour.md")) if b.printed is not None]
    assert len(tour) == read("docs/tour.md").count("<!-- printed -->") >= 5
    assert all(b.printed and b.printed.strip() for b in tour), "run scripts/tour.py"
    assert sum(is_as_written(b) for b in tour) >= 3


#: Features of the default backbones' widths, as results/training.csv calls them.
MADE_UP = "made up, 1024 and 1280"


def test_what_is_said_of_cost_was_measured() -> None:
    """docs/choosing-a-model.md against results/."""
    page = read("docs/choosing-a-model.md")
    rows = [row for row in table("localize") if row["precision"] == "auto"]
    machine = rows[-1]["cpu"]  # the page's numbers are all of the last machine
    said = {row["what"]: float(row["median"]) for row in rows if row["cpu"] == machine}
    assert machine.partition("(")[2].rstrip(")") in page
    assert f"| {said.pop('localize mini 640x360, torch'):.3f} s |" in page
    large = [f"| {median:.2f} s |" for what, median in said.items() if "vggish+vgg19" in what]
    assert len(large) == 1 and large[0] in page
    names = {
        ("", "A+V-att"): "`av`, 3339 clips of ten seconds",
        ("", "CSPA+CSEA"): "`cspa_csea`, the same",
        (MADE_UP, "A+V-att"): "`av`, 320 clips with the default backbones' features",
        (MADE_UP, "CSPA+CSEA"): "`cspa_csea`, the same",
        (MADE_UP, "evidence"): "`evidence`, the same",
    }
    ours = [row for row in table("training") if row["side"] == "avel"]
    assert len(ours) == len(names)
    for row in ours:
        seconds, memory = float(row["epoch_s"]), float(row["peak_mb"]) / 1000
        name = names[row["features"], row["model"]]
        assert f"| {name} | {seconds + 1e-9:.1f} s | {memory:.1f} GB |" in page


def test_what_is_said_of_baselines_answers_was_counted() -> None:
    page = read("docs/limits-and-biases.md")
    rows = [row for row in table("full_scale_scores") if " of " in row["metric"]]
    assert len(rows) >= 5
    for row in rows:
        assert f"| {100 * float(row['mean']):.2f} |" in page, row["metric"]


def table(name: str) -> list[dict[str, str]]:
    """A table of results/."""
    with (ROOT / "results" / f"{name}.csv").open(newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


# ---- the site

RESOURCE = re.compile(
    r"""<(?:script|img|link|iframe|source|video|audio)\b[^>]*?\b(?:src|href)=["']?([^"'\s>]+)"""
)
STYLED = re.compile(r"""url\(["']?([^"')]+)|@import\s+["']([^"']+)""")


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation as `make docs` builds it; any warning is an error."""
    pytest.importorskip("mkdocs", reason="the site needs the extra [docs]")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def test_every_page_is_in_the_site_once(site: Path) -> None:
    home = (site / "index.html").read_text("utf-8")
    for page in PAGES:
        name = page.removeprefix("docs/").removesuffix(".md")
        name = {"README": "readme", "results/README": "results/index"}.get(name, name)
        assert (site / f"{name}.html").is_file(), page
        entries = re.findall(rf'<a class="[^"]*" href="{re.escape(name)}.html"', home)
        assert len(entries) <= 1, page
    assert "five-minute" in home.lower()


def test_the_site_asks_nobody_else(site: Path) -> None:
    asked = 0
    for path in site.rglob("*.html"):
        for target in RESOURCE.findall(path.read_text("utf-8")):
            assert not re.match(r"\w+:|//", target) or target.startswith("data:"), (path, target)
            asked += 1
    for path in site.rglob("*.css"):
        for found in STYLED.findall(path.read_text("utf-8")):
            target = "".join(found)
            assert not re.match(r"\w+:|//", target) or target.startswith("data:"), (path, target)
    assert asked > 100
    assert not list(site.rglob("*ato-*.woff*")), "the theme's text fonts"


def test_links_out_of_the_docs_work_in_the_site(site: Path) -> None:
    for page in site.rglob("*.html"):
        if page.name in ("404.html", "search.html"):
            continue
        for target in re.findall(r'href="([^"#]+)', page.read_text("utf-8")):
            if not re.match(r"\w+:|//", target):
                assert (page.parent / target).exists(), f"{page.relative_to(site)}: {target}"
    assert (site / "results" / "systems.csv").read_bytes() == (
        ROOT / "results" / "systems.csv"
    ).read_bytes()


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
def test_every_page_opens_and_fits(site: Path, browser: Any, width: int) -> None:
    """From the disk, without a server: nothing is asked of the network, nothing is wider."""
    pages = sorted(set(site.rglob("*.html")) - {site / "404.html"})  # that one a server shows
    assert len(pages) >= len(PAGES)
    context = browser.new_context(viewport={"width": width, "height": 900})
    context.set_default_timeout(90_000)
    for path in pages:
        page = context.new_page()
        asked: list[str] = []
        said: list[str] = []
        page.on("request", lambda r, asked=asked: asked.append(r.url))
        page.on("pageerror", lambda e, said=said: said.append(str(e)))
        page.goto(path.as_uri())
        assert all(url.startswith(("file:", "data:")) for url in asked), (path.name, asked)
        assert not [e for e in said if "Worker" not in e], (
            path.name,
            said,
        )  # search needs a server
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{path.relative_to(site)}: {wide} px wider than {width}"
        broken = page.evaluate(
            "[...document.images].filter((i) => !i.complete || !i.naturalWidth).map((i) => i.src)"
        )
        assert not broken, (path.name, broken)
        page.close()
    context.close()
