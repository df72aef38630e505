"""Image formats and sizes on the wire and in the server."""

from ganserve.v1 import images_pb2 as pb
from server.errors import InvalidRequest
from server.images.codecs import Encoding
from server.images.header import Format
from server.images.metadata.block import Policy
from server.images.sizes import Fit, Resample, Size

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
_RESAMPLES = {pb.RESAMPLE_LANCZOS: Resample.LANCZOS, pb.RESAMPLE_AREA: Resample.AREA}
_POLICIES = {
    pb.METADATA_POLICY_UNSPECIFIED: Policy.ICC,
    pb.METADATA_POLICY_ICC: Policy.ICC,
    pb.METADATA_POLICY_KEEP: Policy.KEEP,
    pb.METADATA_POLICY_STRIP: Policy.STRIP,
}
FITS = {pb.FIT_CONTAIN: Fit.CONTAIN, pb.FIT_COVER: Fit.COVER, pb.FIT_FILL: Fit.FILL}


def read_encoding(encoding: pb.Encoding) -> Encoding:
    """How the reply's images are encoded.

    Raises:
        InvalidRequest: an unknown format, or a quality out of its range.
    """
    format = _FORMATS.get(encoding.format)
    if format is None:
        raise InvalidRequest(f"encoding.format: {encoding.format} is unknown; must be PNG, JPEG, WebP or RAW (1..4)")
    bits = encoding.bits if encoding.HasField("bits") else 0
    return Encoding.of(format, encoding.quality if encoding.HasField("quality") else None, bits)


def read_policy(metadata: pb.MetadataPolicy.ValueType, encoding: Encoding) -> Policy:
    """What of the sent image's metadata is kept.

    Raises:
        InvalidRequest: unknown, or more than the format holds.
    """
    policy = _POLICIES.get(metadata)
    if policy is None:
        raise InvalidRequest(f"metadata: {metadata} is unknown; must be ICC, KEEP or STRIP (1..3)")
    if policy is Policy.KEEP and encoding.format is Format.RAW:
        raise InvalidRequest("metadata: KEEP, but raw pixels hold none; use PNG, JPEG or WebP, or leave it unset")
    return policy


def choose_bits(sent_bits: int, encoding: Encoding, takes_floats: bool) -> tuple[int, str]:
    """The bits with which an image is computed and returned, and a warning if that loses what was sent. `takes_floats`:
    whether the model computes 16.

    Raises:
        InvalidRequest: 16 are asked for, and the model has 8.
    """
    if encoding.bits == 16:
        if not takes_floats:
            raise InvalidRequest(
                "encoding.bits: 16, but the model was exported for images of 8 bits; export it again, or leave it unset"
            )
        return 16, ""
    if sent_bits < 16 or encoding.bits == 8:
        return 8, ""
    if encoding.format is Format.RAW:
        return 8, "the image has 16 bits, the reply 8: encoding.bits was not set"
    if encoding.format is not Format.PNG:
        return 8, f"the image has 16 bits, the reply 8: {encoding.format} has no more; PNG keeps them"
    if not takes_floats:
        return 8, "the image has 16 bits, the reply 8: the model was exported for 8; export it again to keep them"
    return 16, ""


def read_size(request: pb.UpscaleRequest) -> Size:
    """The size that the returned image shall have.

    Raises:
        InvalidRequest: an unknown fit or filter.
    """
    resample = _RESAMPLES.get(request.resample)
    if resample is None and request.resample != pb.RESAMPLE_UNSPECIFIED:
        raise InvalidRequest(f"resample: {request.resample} is unknown; must be LANCZOS or AREA (1, 2)")
    fit = FITS.get(request.fit)
    if fit is None and request.fit != pb.FIT_UNSPECIFIED:
        raise InvalidRequest(f"fit: {request.fit} is unknown; must be CONTAIN, COVER or FILL (1..3)")
    return Size(request.scale, request.width, request.height, fit, resample)
