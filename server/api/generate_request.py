"""GenerateRequest -> Order: every field checked, the latents drawn. Pure; any thread."""

import secrets
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifact.dtypes import NUMPY_OF
from artifact.spec import Spec
from ganserve.v1 import images_pb2 as pb
from server.errors import ImageTooLarge, InvalidRequest
from server.images import latents
from server.images.codecs import Encoding
from server.images.generate import Order
from server.images.header import Format

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
    images = request.count + len(request.seeds.values) + len(request.labels) + len(request.noise_seeds)
    return images > _MANY_IMAGES or len(request.latents.data) + len(request.ws.data) > _MANY_BYTES


def read_order(request: pb.GenerateRequest, spec: Spec, max_images: int) -> Order:
    """What a request asks a generator to draw.

    Raises:
        InvalidRequest: a field missing, contradictory, out of range, or of a knob that the model does not have.
        ImageTooLarge: more than `max_images`.
    """
    what = request.WhichOneof("what")
    if what is None:
        raise InvalidRequest("what: nothing to draw; set one of seeds, count, latents, ws")
    if request.HasField("first_seed") and what != "count":
        raise InvalidRequest(f"first_seed: {request.first_seed} given without count; it is the seed of the first image")
    seeds: Sequence[int] | None = None
    if what == "seeds":
        seeds = request.seeds.values
        n = len(seeds)
    elif what == "count":
        n = request.count
    else:
        n = _rows(request, what, spec)
    if n > max_images:
        raise ImageTooLarge(f"{what}: {n} images asked, at most {max_images} per call (max_images_per_call)")
    encoding = read_encoding(request.encoding)
    height, width, channels = spec.image_shape
    encoding.check(width, height, channels)
    if what == "count":
        seeds = _consecutive(request)
    if seeds is None:
        given = _given(request, what, spec)
    elif n == 0:
        raise InvalidRequest(f"{what}: 0 images asked; at least 1")
    labels = None if what == "ws" else latents.resolve_labels(request.labels, n, spec.labels)
    psi = latents.resolve_truncation(request.truncations, n, spec)
    noise = latents.resolve_noise(request.noise_seeds, n, seeds, spec)
    if seeds is not None:  # last: the costly part
        given = {"latent": latents.from_seeds(seeds, spec.latent_size)}
    if labels is not None:
        given["label"] = labels
    if psi is not None:
        given["truncation_psi"] = psi
    return Order(_complete(given, n, spec), spec.outputs[0].name, n, seeds, labels, noise, encoding, spec.image_shape)


def read_encoding(encoding: pb.Encoding) -> Encoding:
    """How the reply's pictures are encoded.

    Raises:
        InvalidRequest: an unknown format, or a quality out of its range.
    """
    kind = _FORMATS.get(encoding.format)
    if kind is None:
        raise InvalidRequest(f"encoding.format: {encoding.format} is unknown; must be PNG, JPEG, WebP or RAW (1..4)")
    return Encoding.ask(kind, encoding.quality if encoding.HasField("quality") else None)


def _rows(request: pb.GenerateRequest, what: str, spec: Spec) -> int:
    """Whole rows of explicit latents or ws."""
    if what == "latents":
        return len(request.latents.data) // (4 * spec.latent_size)
    if spec.w_shape is None:
        raise InvalidRequest("ws: the model has no w; give seeds or latents")
    layers, length = spec.w_shape
    return len(request.ws.data) // (4 * length * (layers if request.ws.per_layer else 1))


def _given(request: pb.GenerateRequest, what: str, spec: Spec) -> dict[str, NDArray[Any]]:
    """The arrays of explicit latents or ws."""
    if what == "latents" or spec.w_shape is None:
        return {"latent": latents.from_bytes(request.latents.data, spec.latent_size)}
    for field, values in (("labels", request.labels), ("truncations", request.truncations)):
        if values:
            raise InvalidRequest(
                f"{field}: {len(values)} given beside ws, where they have no effect: w is drawn as it stands, "
                "behind the mapping network and its truncation; leave them out"
            )
    ws = latents.ws_from_bytes(request.ws.data, request.ws.per_layer, spec.w_shape)
    return {"w": ws, "w_given": np.ones(len(ws), np.float32)}


def _complete(given: dict[str, NDArray[Any]], n: int, spec: Spec) -> dict[str, NDArray[Any]]:
    """All inputs in the graph's order, so that every request of a model can share a batch: what is not given is zero.

    The noise is zero as well; each image's own takes its place when its turn comes.
    """
    if len(given) == len(spec.inputs):
        return given
    absent = {
        tensor.name: np.broadcast_to(np.zeros((), NUMPY_OF[tensor.dtype]), (n, *tensor.shape)) for tensor in spec.inputs
    }
    return {**absent, **given}


def _consecutive(request: pb.GenerateRequest) -> range:
    room = latents.SEEDS - request.count
    first = request.first_seed if request.HasField("first_seed") else secrets.randbelow(room + 1)
    if first > room:
        raise InvalidRequest(f"first_seed: {first} leaves no room for {request.count} seeds below {latents.SEEDS}")
    return range(first, first + request.count)
