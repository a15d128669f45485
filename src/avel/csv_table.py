"""Cells of CSV tables, escaped so that no spreadsheet runs them as formulas."""

from __future__ import annotations

import re

# what spreadsheets take as the beginning of a formula, full-width forms too
_FORMULA = re.compile(r"'*\s*[=+\-@\t\r\n＝＋－＠]")


def escape_formula(cell: str) -> str:
    """A cell with an apostrophe in front where a spreadsheet would take it for a formula."""
    return f"'{cell}" if _FORMULA.match(cell) else cell


def unescape_formula(cell: str) -> str:
    """The cell before :func:`escape_formula`."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
