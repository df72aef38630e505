"""Image formats: the client's names, the numbers on the wire and the suffixes of files."""

from pathlib import Path
from typing import Literal

from ganserve.v1 import images_pb2 as pb

FormatName = Literal["png", "jpeg", "webp", "raw"]

WIRE_FORMATS: dict[FormatName, pb.ImageFormat.ValueType] = {
    "png": pb.IMAGE_FORMAT_PNG,
    "jpeg": pb.IMAGE_FORMAT_JPEG,
    "webp": pb.IMAGE_FORMAT_WEBP,
    "raw": pb.IMAGE_FORMAT_RAW,
}
FORMAT_NAMES: dict[int, FormatName] = {number: name for name, number in WIRE_FORMATS.items()}
# What the server encodes itself, and the suffixes that the client encodes, from PNG.
SUFFIXES: dict[str, FormatName] = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
CLIENT_SUFFIXES = (".tif", ".tiff", ".bmp", ".gif", ".avif", ".heic", ".heif", ".jxl")


def format_of(path: Path) -> FormatName:
    """The format in which the server is asked for a file with this suffix: its own, else PNG, which loses nothing.

    Raises:
        ValueError: a suffix that nothing here writes, or none.
    """
    suffix = path.suffix.lower()
    if suffix in CLIENT_SUFFIXES:
        return "png"
    try:
        return SUFFIXES[suffix]
    except KeyError:
        raise ValueError(f"{path}: the suffix must be one of {', '.join((*SUFFIXES, *CLIENT_SUFFIXES))}") from None
