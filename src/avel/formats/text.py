"""Labels in places that can't hold every character."""

from __future__ import annotations

import re
from unicodedata import category

from avel.csv_table import escape_formula as escape_formula
from avel.csv_table import unescape_formula as unescape_formula

# control characters, lone surrogates, line and paragraph separators
_HIDDEN = {"Cc", "Cs", "Zl", "Zp"}
_NOT_IN_XML = "\ufffe\uffff"
_SHORT = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_CODE = re.compile(r"\\(?:([\\nrt])|x([0-9a-f]{2})|u([0-9a-f]{4}))")
_LONG = {"\\": "\\", "n": "\n", "r": "\r", "t": "\t"}


def _code(char: str) -> str:
    if char in _SHORT:
        return _SHORT[char]
    number = ord(char)
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"


def escape(label: str) -> str:
    r"""A label on one line: ``\t``, ``\n``, ``\r``, ``\\``, ``\x1b``, ``\u2028``.

    Coded are control characters, line separators, what XML can't hold, the backslash itself, and
    white space at either end. All other letters stay as they are.
    """
    first = len(label) - len(label.lstrip())
    last = len(label.rstrip())
    return "".join(
        _code(c)
        if c == "\\" or category(c) in _HIDDEN or c in _NOT_IN_XML or not first <= i < last
        else c
        for i, c in enumerate(label)
    )


def unescape(text: str) -> str:
    """The label that :func:`escape` wrote; backslashes before anything else stay."""
    return _CODE.sub(_decode, text)


def _decode(match: re.Match[str]) -> str:
    short, two, four = match.groups()
    return _LONG[short] if short else chr(int(two or four, 16))
