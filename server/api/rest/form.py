"""Forms of several parts (multipart/form-data), as browsers and `curl -F` send them."""

from collections.abc import AsyncGenerator, Coroutine
from typing import Any

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from server.errors import InvalidRequest

MULTIPART = "multipart/form-data"
# An image and a reference.
_MAX_FILES = 2
# Parts of a form beside them.
_MAX_FIELDS = 16
# Names of those in which names and texts may be. Python has others that take long, or give what is no text; it also
# remembers each unknown name that it is asked for.
_CHARSETS = frozenset(("", "utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin1"))


def read_form(headers: Headers, body: bytes) -> dict[str, Any]:
    """The fields of a form, its files as bytes. Nothing is written to disk. Any thread.

    Raises:
        InvalidRequest: it is no such form, or has more than _MAX_FIELDS parts.
    """
    return _completed(_parse(headers, body))


def _completed(work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """The result of a coroutine that waits for nothing: all of the body is here, and files stay in memory."""
    try:
        work.send(None)
    except StopIteration as end:
        return dict(end.value)
    raise AssertionError("a form is read without waiting")


def _charset(headers: Headers) -> str:
    """What the Content-Type says that names and texts are in; empty if it does not."""
    found = parse_options_header(headers.get("content-type"))[1].get(b"charset", b"")
    return found.decode("latin-1").lower()


async def _parse(headers: Headers, body: bytes) -> dict[str, Any]:
    charset = _charset(headers)
    if charset not in _CHARSETS:
        raise InvalidRequest(f"Content-Type: charset {charset[:80]!r}; must be utf-8, us-ascii or iso-8859-1")

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body
        yield b""

    size = len(body) + 1
    parser = MultiPartParser(headers, stream(), max_files=_MAX_FILES, max_fields=_MAX_FIELDS, max_part_size=size)
    parser.spool_max_size = size
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        raise InvalidRequest(f"the body is not {MULTIPART}: {getattr(error, 'message', error)}") from None
    fields: dict[str, Any] = {}
    try:
        for key, value in form.multi_items():
            if key in fields:
                raise InvalidRequest(f"{key[:100]}: given twice")
            if isinstance(value, UploadFile):
                value.file.seek(0)
                fields[key] = value.file.read()
            else:
                fields[key] = value
    finally:  # also those that were not read
        for _, value in form.multi_items():
            if isinstance(value, UploadFile):
                value.file.close()
    return fields
