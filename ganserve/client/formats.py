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
SUFFIXES: dict[str, FormatName] = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}


def format_of(path: Path) -> FormatName:
    """The format of a file name's suffix: png, jpeg or webp.

    Raises:
        ValueError: another suffix, or none.
    """
    try:
        return SUFFIXES[path.suffix.lower()]
    except KeyError:
        raise ValueError(f"{path}: the suffix must be one of {', '.join(SUFFIXES)}") from None
