"""Labels in the formats of many tools, written and read: one small class a format.

A new module in this package with a class under ``@formats.register("name")`` is all that another
format needs. The forms are in ``docs/formats.md``.
"""

from __future__ import annotations

from avel.formats.base import Format, Writer, ending_of, format_endings, format_named, formats
from avel.formats.reading import check_readable, check_replaceable, on_file, read, read_all

__all__ = [
    "Format",
    "Writer",
    "check_readable",
    "check_replaceable",
    "ending_of",
    "format_endings",
    "format_named",
    "formats",
    "on_file",
    "read",
    "read_all",
]
