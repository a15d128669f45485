"""What the pages of a report share: frame, style, script, policy, and how they name files."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from avel.report import cards
from avel.types import Json

_HERE = Path(__file__).parent


def filled(name: str, held: Mapping[str, Any]) -> str:
    """A page as HTML: the template, style and script of a name, within those of all pages.

    Args:
        name: ``"page"`` or ``"found"``.
        held: What the template shows; ``data`` is what the script reads, ``media`` is where media
            may come from, in the words of a Content-Security-Policy.

    Returns:
        A page that runs no script but its own, and asks no server for anything.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from avel._version import __version__

    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = _script(name)
    return environment.get_template(f"{name}.html").render(
        {
            **held,
            "data": script_json(held["data"]),
            "style": _read("base.css", f"{name}.css"),
            "script": script,
            "policy": _policy(script, held["media"]),
            "version": __version__,
        }
    )


def of_model(card: Json) -> dict[str, Any]:
    """What the pages say of a model."""
    return {
        "cautions": cards.cautions(card),
        "model": cards.rows(card),
        "model_json": json.dumps(card, indent=2, ensure_ascii=False)[:20_000],
    }


def _read(*names: str) -> str:
    return "\n".join((_HERE / name).read_text("utf-8") for name in names)


def _script(name: str) -> str:
    """What is shared with the page of `avel serve`, there a module; what all have; its own."""
    shared = re.sub(r"^export ", "", _read("shared.js"), flags=re.MULTILINE)
    return f'"use strict";\n{shared}\n{_read("base.js", f"{name}.js")}'


def script_json(data: Mapping[str, Any]) -> str:
    """JSON that can stand inside a script element, whatever texts it holds."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _policy(script: str, media: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        f"img-src data:; media-src {media}; base-uri 'none'; form-action 'none'"
    )


def address(file: Path, page: Path) -> str:
    """Where a page finds a file: the way from its folder, percent-encoded."""
    try:
        relative = os.path.relpath(file.resolve(), page.resolve().parent)
    except ValueError:  # another drive
        return file.resolve().as_uri()
    return quote(os.fsencode(Path(relative).as_posix()))
