"""Image formats and sizes on the wire and in the server."""

from ganserve.v1 import images_pb2 as pb
from server.errors import InvalidRequest
from server.images.codecs import Encoding
from server.images.header import Format
from server.images.sizes import Fit, Size

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
_FITS = {pb.FIT_CONTAIN: Fit.CONTAIN, pb.FIT_COVER: Fit.COVER, pb.FIT_FILL: Fit.FILL}


def read_encoding(encoding: pb.Encoding) -> Encoding:
    """How the reply's images are encoded.

    Raises:
        InvalidRequest: an unknown format, or a quality out of its range.
    """
    format = _FORMATS.get(encoding.format)
    if format is None:
        raise InvalidRequest(f"encoding.format: {encoding.format} is unknown; must be PNG, JPEG, WebP or RAW (1..4)")
    return Encoding.of(format, encoding.quality if encoding.HasField("quality") else None)


def read_size(request: pb.UpscaleRequest) -> Size:
    """The size that the returned image shall have.

    Raises:
        InvalidRequest: an unknown fit.
    """
    fit = _FITS.get(request.fit)
    if fit is None and request.fit != pb.FIT_UNSPECIFIED:
        raise InvalidRequest(f"fit: {request.fit} is unknown; must be CONTAIN, COVER or FILL (1..3)")
    return Size(request.scale, request.width, request.height, fit)
