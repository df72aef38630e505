"""GenerateRequest -> Order: every field checked, the latents drawn. Pure; any thread."""

import secrets
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from models.spec import Spec
from protos import images_pb2 as pb
from server import latents
from server.codecs import Encoding
from server.drawing import Order
from server.errors import ImageTooLarge, InvalidRequest
from server.picture_header import Format

_FORMATS = {
    pb.IMAGE_FORMAT_UNSPECIFIED: Format.PNG,
    pb.IMAGE_FORMAT_PNG: Format.PNG,
    pb.IMAGE_FORMAT_JPEG: Format.JPEG,
    pb.IMAGE_FORMAT_WEBP: Format.WEBP,
    pb.IMAGE_FORMAT_RAW: Format.RAW,
}
# From here on reading a request takes more than a millisecond, which is work for another thread.
_MANY_IMAGES = 128
_MANY_BYTES = 1 << 18


def is_large(request: pb.GenerateRequest) -> bool:
    """Whether reading the order should leave the event loop alone."""
    images = request.count + len(request.seeds.values) + len(request.labels)
    return images > _MANY_IMAGES or len(request.latents.data) > _MANY_BYTES


def read_order(request: pb.GenerateRequest, spec: Spec, max_images: int) -> Order:
    """What a request asks a generator to draw.

    Raises:
        InvalidRequest: a field missing, contradictory or out of range.
        ImageTooLarge: more than `max_images`.
    """
    what = request.WhichOneof("what")
    if request.HasField("first_seed") and what != "count":
        raise InvalidRequest(f"first_seed: {request.first_seed} given without count; it is the seed of the first image")
    seeds: Sequence[int] | None = None
    if what is None:
        raise InvalidRequest("what: nothing to draw; set one of seeds, count, latents")
    if what == "seeds":
        seeds = request.seeds.values
        n = len(seeds)
    elif what == "count":
        n = request.count
    else:
        n = len(request.latents.data) // (4 * spec.latent_size)
    if n > max_images:
        raise ImageTooLarge(f"{what}: {n} images asked, at most {max_images} per call (max_images_per_call)")
    if what == "count":
        seeds = _consecutive(request)
    encoding = read_encoding(request.encoding)
    height, width, channels = spec.image_shape
    encoding.check(width, height, channels)
    if seeds is None:
        arrays: dict[str, NDArray[Any]] = {"latent": latents.from_bytes(request.latents.data, spec.latent_size)}
    elif n == 0:
        raise InvalidRequest(f"{what}: 0 images asked; at least 1")
    labels = latents.resolve_labels(request.labels, n, spec.labels)
    truncation = request.truncation if request.HasField("truncation") else None
    psi = latents.resolve_truncation(truncation, n, spec.truncation_default)
    if seeds is not None:  # last: the costly part
        arrays = {"latent": latents.from_seeds(seeds, spec.latent_size)}
    if labels is not None:
        arrays["label"] = labels
    if psi is not None:
        arrays["truncation_psi"] = psi
    return Order(arrays, spec.outputs[0].name, n, seeds, labels, encoding, spec.image_shape)


def read_encoding(encoding: pb.Encoding) -> Encoding:
    """How the reply's pictures are encoded.

    Raises:
        InvalidRequest: an unknown format, or a quality out of its range.
    """
    kind = _FORMATS.get(encoding.format)
    if kind is None:
        raise InvalidRequest(f"encoding.format: {encoding.format} is unknown; must be PNG, JPEG, WebP or RAW (1..4)")
    return Encoding.ask(kind, encoding.quality if encoding.HasField("quality") else None)


def _consecutive(request: pb.GenerateRequest) -> range:
    room = latents.SEEDS - request.count
    first = request.first_seed if request.HasField("first_seed") else secrets.randbelow(room + 1)
    if first > room:
        raise InvalidRequest(f"first_seed: {first} leaves no room for {request.count} seeds below {latents.SEEDS}")
    return range(first, first + request.count)
