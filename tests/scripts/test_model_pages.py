from __future__ import annotations

from types import ModuleType

import pytest

from avel.models.base import build_model
from tests.conftest import ROOT, load_script

PAGES = sorted(path.stem for path in (ROOT / "docs" / "models").glob("*.md"))


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("model_pages")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_code_says(name: str, script: ModuleType) -> None:
    held = (ROOT / "docs" / "models" / f"{name}.md").read_text("utf-8")
    assert held == script.page(name), "run scripts/model_pages.py --write"


def test_weights_of_coattention_are_counted_by_module() -> None:
    assert "cspa_csea" in PAGES
    page = (ROOT / "docs" / "models" / "cspa_csea.md").read_text("utf-8")
    made = build_model("cspa_csea", audio_dim=128, visual_dim=512, classes=28)
    for module, count in made.parameter_counts(depth=4).items():
        assert f"| `{module}` | {count:,} |" in page
    assert f"**{sum(p.numel() for p in made.parameters()):,}**" in page
    assert "table V, CSPA+(CSEA/a2v) | sel | `a2v=False` | segment_accuracy 76.3" in page
