"""Image formats on the wire and in the server."""

from ganserve.v1 import images_pb2 as pb
from server.errors import InvalidRequest
from server.images.codecs import Encoding
from server.images.header import Format

WIRE_FORMATS = {
    Format.PNG: pb.IMAGE_FORMAT_PNG,
    Format.JPEG: pb.IMAGE_FORMAT_JPEG,
    Format.WEBP: pb.IMAGE_FORMAT_WEBP,
    Format.RAW: pb.IMAGE_FORMAT_RAW,
}
_FORMATS = {
    pb.IMAGE_FORMAT_UNSPECIFIED: Format.PNG,
    **{wire: format for format, wire in WIRE_FORMATS.items()},
}


def read_encoding(encoding: pb.Encoding) -> Encoding:
    """How the reply's images are encoded.

    Raises:
        InvalidRequest: an unknown format, or a quality out of its range.
    """
    format = _FORMATS.get(encoding.format)
    if format is None:
        raise InvalidRequest(f"encoding.format: {encoding.format} is unknown; must be PNG, JPEG, WebP or RAW (1..4)")
    return Encoding.of(format, encoding.quality if encoding.HasField("quality") else None)
