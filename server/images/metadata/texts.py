"""Texts of a PNG, by keyword, and the fields of EXIF that say the same in other formats.

UTF-8 stands in fields of ASCII, as the Metadata Working Group's guidelines have it.
"""

import zlib
from collections.abc import Container, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime

from server.images.metadata.exif import ASCII, BYTE, Values

COMMENT = "Comment"
_FIELDS = {"Title": 0x010D, "Description": 0x010E, "Software": 0x0131, "Author": 0x013B, "Copyright": 0x8298}
_TIME, _TIME_FIELD = "Creation Time", 0x0132
_COMMENT_FIELD = 0x9C9C  # of Windows, in UTF-16


def words_of(chunk: bytes) -> tuple[str, str]:
    """Keyword and text of a whole tEXt, zTXt or iTXt chunk; empty texts of what is damaged."""
    name, content = chunk[4:8], chunk[8:-4]
    keyword, _, rest = content.partition(b"\0")
    encoding, is_packed = "latin-1", name == b"zTXt"
    if name == b"zTXt":
        rest = rest[1:]
    elif name == b"iTXt":
        encoding, is_packed = "utf-8", rest[:1] == b"\1"
        rest = rest[2:].split(b"\0", 2)[-1]
    try:
        if is_packed:
            rest = zlib.decompress(rest)
    except zlib.error:
        rest = b""
    return keyword.decode("latin-1"), rest.decode(encoding, "replace")


def in_fields(texts: Sequence[tuple[str, str]], taken: Container[int]) -> tuple[Values, list[str]]:
    """The values of EXIF that say what the texts do, and the keywords of those that have no field, or whose field is
    `taken`."""
    values: dict[int, tuple[int, bytes]] = {}
    left: list[str] = []
    for keyword, words in texts:
        field, value = _field_of(keyword, words)
        if field is None or field in values or field in taken:
            left.append(keyword)
        else:
            values[field] = value
    return values, left


def _field_of(keyword: str, words: str) -> tuple[int | None, tuple[int, bytes]]:
    nothing = None, (ASCII, b"")
    if keyword == COMMENT:
        return _COMMENT_FIELD, (BYTE, words.encode("utf-16-le") + b"\0\0")
    if keyword == _TIME:
        time = _time_of(words)
        return nothing if time is None else (_TIME_FIELD, (ASCII, f"{time:%Y:%m:%d %H:%M:%S}\0".encode()))
    return (_FIELDS[keyword], (ASCII, words.encode() + b"\0")) if keyword in _FIELDS else nothing


def _time_of(words: str) -> datetime | None:
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            return read(words.strip())
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
    return None
