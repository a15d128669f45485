"""Shared by the pages of a report: template, style, script, policy, addresses of files."""

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


def render_page(name: str, context: Mapping[str, Any]) -> str:
    """A page as HTML, from the template, style and script of a name and those of all pages.

    Args:
        name: ``"page"``, ``"search_page"`` or ``"index_page"``, which has no script of its own.
        context: The template's variables; ``data`` is read by the script, ``media`` lists the
            sources of media for the Content-Security-Policy.

    Returns:
        A page that runs no other script and requests nothing from any server.
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
            **context,
            "data": script_json(context["data"]),
            "style": _read("base.css", f"{name}.css"),
            "script": script,
            "policy": _policy(script, context["media"]),
            "version": __version__,
        }
    )


def model_context(card: Json) -> dict[str, Any]:
    """The template's variables about a model."""
    return {
        "cautions": cards.cautions(card),
        "model": cards.rows(card),
        "model_json": json.dumps(card, indent=2, ensure_ascii=False)[:20_000],
    }


def _read(*names: str) -> str:
    return "\n".join((_HERE / name).read_text("utf-8") for name in names)


def _script(name: str) -> str:
    """The scripts shared with `avel serve` (a module there), of all pages, and the page's own."""
    shared = re.sub(r"^export ", "", _read("shared.js"), flags=re.MULTILINE)
    own = [f"{name}.js"] if (_HERE / f"{name}.js").is_file() else []
    return f'"use strict";\n{shared}\n{_read("base.js", *own)}'


def script_json(data: Mapping[str, Any]) -> str:
    """JSON that is safe inside a script element, whatever texts it contains."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _policy(script: str, media: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        f"img-src data:; media-src {media}; base-uri 'none'; form-action 'none'"
    )


def address(file: Path, page: Path) -> str:
    """A file's address relative to the page's folder, percent-encoded."""
    try:
        relative = os.path.relpath(file.resolve(), page.resolve().parent)
    except ValueError:  # another drive
        return file.resolve().as_uri()
    return quote(os.fsencode(Path(relative).as_posix()))
