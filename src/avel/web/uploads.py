"""A form with one file, written to disk as it arrives, its limits checked as it arrives.

Starlette's own ``Request.form()`` limits the number of parts and the size of fields, not that of a
file, accepts a form without its end, and spools files in the system's temporary folder, from where
they would have to be copied: uploads may be larger than that folder.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import IO, Any
from unicodedata import category

from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.exceptions import HTTPException

from avel.web.error_responses import http_error

#: Bytes that are collected before they are written.
_BLOCK = 2**20
_MAX_FIELDS, _FIELD_BYTES, _HEADER_BYTES = 8, 1000, 2000
#: Most characters of a name, and control characters of the writing direction.
_MAX_NAME = 200
_DIRECTION_MARKS = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f")


@dataclass
class UploadedForm:
    """The content of a form.

    Args:
        name: The file's name from the browser, as plain text.
        size: Its bytes; -1 before a file was received.
        fields: The other fields.
    """

    name: str = ""
    size: int = -1
    fields: dict[str, str] = field(default_factory=dict)


def form_schema(*fields: str) -> dict[str, Any]:
    """A form with a file and some text fields, as /openapi.json describes it."""
    properties = {"file": {"type": "string", "format": "binary"}}
    properties |= {name: {"type": "string"} for name in fields}
    schema = {"type": "object", "required": ["file"], "properties": properties}
    content = {"multipart/form-data": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}}


def plain_name(text: str) -> str:
    """A file's name as text for people: no folders, no control signs, at most 200 characters."""
    bare = PureWindowsPath(text.replace("/", "\\")).name
    hidden = {"Cc", "Cs", "Zl", "Zp", "Cn", "Co"}
    name = "".join(
        c for c in bare if category(c) not in hidden and c not in _DIRECTION_MARKS
    ).strip()
    if len(name) > _MAX_NAME:
        ending = Path(name).suffix[:20]
        name = name[: _MAX_NAME - len(ending)] + ending
    return name if name.strip(". ") else "upload"


async def receive_form(
    content_type: str, body: AsyncIterator[bytes], target: Path, *, most: int
) -> UploadedForm:
    """Write the file of a multipart form to disk.

    Args:
        content_type: The request's header.
        body: Its body.
        target: Where the field ``file`` is written; the caller removes it where this fails.
        most: Most bytes of the file.

    Raises:
        HTTPException: 415 for another content type, 413 for too many bytes, 400 for a broken form,
            422 for one without a file; what reading ``body`` raises.
    """
    kind, options = parse_options_header(content_type.encode("latin-1", "replace"))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 0 < len(boundary) <= 200:
        raise http_error(
            415, f"a body of {content_type[:80]!r}", "multipart/form-data with a field 'file'",
            "send the file as a form does: curl -F file=@street.mp4",
        )  # fmt: skip
    with target.open("wb") as out:
        form = _Form(out, most)
        parser = MultipartParser(boundary, form.callbacks())  # type: ignore[arg-type]
        await _feed(parser, form, body)
        await asyncio.to_thread(_flush, out)
    if form.result.size < 0:
        raise http_error(422, "a form without a file", "a field 'file'", "choose a file")
    return form.result


def _flush(out: IO[bytes]) -> None:
    """Write everything to the disk: no accepted job is lost in a power failure."""
    out.flush()
    os.fsync(out.fileno())


async def _feed(parser: Any, form: _Form, body: AsyncIterator[bytes]) -> None:
    buffer = bytearray()
    ended = False
    while not ended:
        try:
            chunk = await anext(body, None)
        except HTTPException:  # the body arrives too slowly
            raise
        except Exception as e:  # the client disconnected
            raise http_error(400, "a body that broke off", "all of it", "send it again") from e
        ended = chunk is None
        buffer += chunk or b""
        if buffer and (ended or len(buffer) >= _BLOCK):
            await asyncio.to_thread(_parse, parser, bytes(buffer))
            buffer.clear()
    if not form.ended:
        raise http_error(400, "a form without its end", "a whole one", "send it again")


def _parse(parser: Any, data: bytes) -> None:
    from python_multipart.exceptions import FormParserError

    try:
        parser.write(data)
    except FormParserError as e:
        raise http_error(
            400, "a broken multipart form", "one as browsers send it", "send it again"
        ) from e


class _Form:
    """Handles the parser's callbacks: the file goes to ``out``, short fields to ``result``."""

    def __init__(self, out: IO[bytes], most: int) -> None:
        self._out, self._most = out, most
        self.result, self.ended = UploadedForm(), False
        self._headers: dict[str, bytes] = {}
        self._header, self._value = b"", b""
        self._name, self._text = "", b""
        self._is_file = False

    def callbacks(self) -> dict[str, Any]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._add_header,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._begin_data,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._headers, self._header, self._value, self._text = {}, b"", b"", b""

    def _add_header(self, data: bytes, start: int, end: int) -> None:
        self._header = _bounded(self._header + data[start:end], _HEADER_BYTES)

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value = _bounded(self._value + data[start:end], _HEADER_BYTES)

    def _end_header(self) -> None:
        if len(self._headers) < _MAX_FIELDS:
            self._headers[self._header.decode("latin-1").lower()] = self._value
        self._header, self._value = b"", b""

    def _begin_data(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition", b""))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._is_file = self._name == "file" and b"filename" in options
        if self._is_file and self.result.size >= 0:
            raise http_error(422, "two files in one form", "one", "send them one by one")
        if self._is_file:
            name = options[b"filename"].decode("utf-8", "replace")
            self.result.name, self.result.size = plain_name(name), 0
        elif len(self.result.fields) >= _MAX_FIELDS:
            raise http_error(
                422, "a form of many fields", f"at most {_MAX_FIELDS}", "leave some out"
            )

    def _data(self, data: bytes, start: int, end: int) -> None:
        if not self._is_file:
            self._text = _bounded(self._text + data[start:end], _FIELD_BYTES)
            return
        self.result.size += end - start
        if self.result.size > self._most:
            raise too_large(self._most)
        self._out.write(data[start:end])

    def _end(self) -> None:
        if not self._is_file:
            self.result.fields[self._name[:100]] = self._text.decode("utf-8", "replace")

    def _finish(self) -> None:
        self.ended = True


def _bounded(data: bytes, most: int) -> bytes:
    if len(data) > most:
        raise http_error(422, f"a field of more than {most} bytes", "shorter ones", "shorten it")
    return data


def too_large(most: int) -> Exception:
    """The error for a file of more than so many bytes."""
    return http_error(
        413, "a file that is too large", f"at most {most / 10**6:g} MB",
        "cut or compress it, or start the server with a larger --upload-mb",
    )  # fmt: skip
