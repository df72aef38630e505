"""Images for a model's critic -> request messages, and what it says of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, cast

from ganserve.client.errors import InvalidRequest
from ganserve.client.messages import WIRE_FITS, checked_labels
from ganserve.client.options import Labels
from ganserve.client.pictures import Picture, Pictures, Sent, is_many, sent
from ganserve.v1 import images_pb2 as pb

# Of one call, so that no message grows with the number of images.
MAX_CALL_IMAGES = 64
MAX_CALL_BYTES = 8 << 20


@dataclass(frozen=True)
class ImageScore:
    """What a model's critic says of an image.

    Attributes:
        score: higher is more like the training data; its scale is the model's own.
        percentile: 0..100, share of the model's own images, of the same label, that score lower.
    """

    score: float
    percentile: float
    model: str
    version: str


def score_requests(
    model: str,
    image: Picture | Pictures,
    *,
    labels: Labels | None = None,
    fit: Literal["cover", "fill"] | None = None,
    version: str = "",
) -> Iterator[pb.ScoreRequest]:
    """The messages for Score, each of as many images as one call has, in their order.

    Raises:
        InvalidRequest: labels for another number of images, or a picture that cannot be sent.
        OSError: a file cannot be read.
    """
    if fit not in (None, "cover", "fill"):
        raise InvalidRequest(f"fit must be cover or fill, got {fit!r}")
    images: Pictures = image if is_many(image) else [cast(Picture, image)]
    if not images:
        raise InvalidRequest("images: none given")
    given = [] if labels is None else checked_labels(labels)
    if len(given) not in (0, 1, len(images)):
        raise InvalidRequest(f"labels: {len(given)} given for {len(images)} images; give one for all or one for each")
    request, nbytes, sizes = pb.ScoreRequest(), 0, (0, 0)
    for index, each in enumerate(images):
        found = sent(each)
        own = (found.raw_width, found.raw_height)
        is_full = len(request.images) == MAX_CALL_IMAGES or nbytes + len(found.data) > MAX_CALL_BYTES
        if not request.images or is_full or own != sizes:
            if request.images:
                yield request
            request, nbytes, sizes = _blank(model, version, fit, found), 0, own
            request.labels.extend(given if len(given) == 1 else [])
        request.images.append(found.data)
        nbytes += len(found.data)
        if len(given) > 1:
            request.labels.append(given[index])
    yield request


def _blank(model: str, version: str, fit: Literal["cover", "fill"] | None, found: Sent) -> pb.ScoreRequest:
    request = pb.ScoreRequest(model=model, version=version, raw_width=found.raw_width, raw_height=found.raw_height)
    if fit is not None:
        request.fit = WIRE_FITS[fit]
    return request


def read_scores(reply: pb.ScoreReply) -> list[ImageScore]:
    """The scores of a reply, in the order of the request."""
    return [ImageScore(each.score, each.percentile, reply.model, reply.version) for each in reply.scores]
