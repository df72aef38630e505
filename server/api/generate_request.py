"""GenerateRequest -> GenerateJob: every field checked, the latents made, but not yet changed. Pure; any thread."""

import math
import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifact.dtypes import NUMPY_OF
from artifact.spec import Spec
from ganserve.v1 import images_pb2 as pb
from server.api.formats import read_encoding
from server.api.latent_request import read_changes, read_transforms
from server.api.limits import Limits
from server.api.selection_request import DEFAULT_TRIES, with_candidates
from server.errors import InvalidRequest
from server.images import latents
from server.images.codecs import Encoding
from server.images.generate import GenerateJob, Passage
from server.images.latent_space import LatentSpace
from server.images.selection import Selection
from server.images.sizes import with_longer_side

# Beyond these, reading a request takes more than a millisecond, which is work for another thread.
_MANY_IMAGES = 128
_MANY_BYTES = 1 << 18


def is_large(request: pb.GenerateRequest) -> bool:
    """Whether to read the request in another thread than the event loop's."""
    if request.edits or request.mixes or request.layer_truncations or request.return_w or request.truncation_center:
        return True
    images = request.count + len(request.seeds.values) + len(request.labels) + len(request.noise_seeds)
    images += 8 * len(request.towards)
    if request.HasField("rejection"):
        images *= request.rejection.max_tries or DEFAULT_TRIES
    images *= request.best_of or 1
    return images > _MANY_IMAGES or len(request.latents.data) + len(request.ws.data) > _MANY_BYTES


def input_bytes(request: pb.GenerateRequest, spec: Spec, limits: Limits) -> int:
    """About how many bytes of inputs the request is for, before any of it is checked or made."""
    given = len(request.latents.data) + len(request.ws.data)
    if given:
        return given
    n = min(request.count + len(request.seeds.values), limits.max_images_per_call)
    return n * sum(math.prod(tensor.shape) * NUMPY_OF[tensor.dtype].itemsize for tensor in spec.inputs)


def read_job(
    request: pb.GenerateRequest,
    selection: Selection | None,
    space: LatentSpace,
    limits: Limits,
    then: tuple[Passage, ...],
) -> GenerateJob:
    """As `read_generate_request`, of images that are chosen among candidates if there is a `selection`. It may raise
    the same."""
    if selection is None:
        return read_generate_request(request, space, limits, then)
    of_all = with_candidates(request, requested_seeds(request, limits), selection.tries, limits)
    job = read_generate_request(of_all, space, limits, then)
    return replace(job, n=job.n // selection.tries, selection=selection)


def read_generate_request(
    request: pb.GenerateRequest, space: LatentSpace, limits: Limits, then: tuple[Passage, ...] = ()
) -> GenerateJob:
    """What the generator has to compute. `then`: what its images go through afterwards.

    Raises:
        InvalidRequest: a field missing, contradictory, out of range, or of a parameter that the model does not have.
        ImageTooLarge: more images, or more bytes of inputs, than the limits allow.
    """
    spec, what = space.spec, request.WhichOneof("what")
    if what is None:
        raise InvalidRequest("what: nothing to generate; set one of seeds, count, latents, ws")
    if request.HasField("first_seed") and what != "count":
        raise InvalidRequest(f"first_seed: {request.first_seed} given without count; it is the seed of the first image")
    seeds: Sequence[int] | None = None
    if what == "seeds":
        seeds = request.seeds.values
        n = len(seeds)
    elif what == "count":
        n = request.count
    else:
        n = _count(request, what, spec)
    limits.check_count(what, n)
    drawn = then[-1].plan.shape if then else spec.image_shape
    shape = with_longer_side(drawn, request.size)
    if shape != drawn:
        limits.check_image("size", shape[1], shape[0])
    encoding = _encoding(request, shape)
    if what == "count":
        seeds = _consecutive(request)
    if seeds is None:
        given = _given(request, what, spec)
    elif n == 0:
        raise InvalidRequest(f"{what}: 0 images requested, at least 1")
    labels = None if what == "ws" else latents.resolve_labels(request.labels, n, spec.labels)
    psi = latents.resolve_truncation(request.truncations, n, spec)
    noise = latents.resolve_noise(request.noise_seeds, n, seeds, spec)
    changes = read_changes(request, n, space, psi)
    transforms = read_transforms(request, n, spec)
    _check_towards(request, n, what)
    if seeds is not None:  # last: the costly part
        given = {"latent": _latents(seeds, request.towards, spec)}
    if labels is not None:
        given["label"] = labels
    if psi is not None:
        given["truncation_psi"] = psi
    if transforms is not None:
        given["transform"] = transforms
    step = f"step 1 (model {request.model!r})" if then else ""
    job = GenerateJob(
        _complete(given, n, spec), spec.outputs[0].name, n, seeds, labels, noise, encoding, drawn, shape, then, step,
        changes or None,
        is_plain=seeds is not None and not (changes or request.transforms or request.towards)
        and _is_default(psi, spec),
    )  # fmt: skip
    limits.check_inputs(job)
    return job


def _encoding(request: pb.GenerateRequest, shape: tuple[int, int, int]) -> Encoding:
    encoding = read_encoding(request.encoding)
    if encoding.bits == 16:
        raise InvalidRequest("encoding.bits: 16, but generated images have 8")
    height, width, channels = shape
    encoding.check(width, height, channels)
    return encoding


def _latents(seeds: Sequence[int], towards: Sequence[pb.Toward], spec: Spec) -> NDArray[np.float32]:
    own = latents.from_seeds(seeds, spec.latent_size)
    if not towards:
        return own
    ends = latents.from_seeds([each.seed for each in towards], spec.latent_size)
    return latents.on_the_way(own, ends, [each.share for each in towards])


def _is_default(psi: NDArray[np.float32] | None, spec: Spec) -> bool:
    return psi is None or spec.truncation_default is None or bool((psi == np.float32(spec.truncation_default)).all())


def _count(request: pb.GenerateRequest, what: str, spec: Spec) -> int:
    """How many images explicit latents or ws are for; `latents` rejects a remainder."""
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
                f"{field}: {len(values)} given together with ws, on which they have no effect: w is the output of the "
                "mapping network, after its truncation; leave them out"
            )
    ws = latents.ws_from_bytes(request.ws.data, request.ws.per_layer, spec.w_shape)
    return {"w": ws, "w_given": np.ones(len(ws), np.float32)}


def _complete(given: dict[str, NDArray[Any]], n: int, spec: Spec) -> dict[str, NDArray[Any]]:
    """All inputs in the graph's order, so that all requests for a model can share batches: what is not given is zero.

    The noise is zero as well, until each image's turn.
    """
    if len(given) == len(spec.inputs):
        return given
    absent = {
        tensor.name: np.broadcast_to(np.zeros((), NUMPY_OF[tensor.dtype]), (n, *tensor.shape)) for tensor in spec.inputs
    }
    return {**absent, **given}


def _check_towards(request: pb.GenerateRequest, n: int, what: str) -> None:
    given = request.towards
    if given and what not in ("seeds", "count"):
        raise InvalidRequest(f"towards: {len(given)} given together with {what}; they are places between seeds")
    if len(given) not in (0, 1, n):
        raise InvalidRequest(f"towards: {len(given)} given for {n} images; give one for all or one for each")
    for each in given:
        if not 0 <= each.share <= 1:
            raise InvalidRequest(f"towards.share: {each.share:g}; must be 0..1")


def requested_seeds(request: pb.GenerateRequest, limits: Limits) -> list[int]:
    """The seeds of a request's images, those that the server chooses included.

    Raises:
        InvalidRequest: none, or beyond the largest.
        ImageTooLarge: more than one call may have.
    """
    what = request.WhichOneof("what")
    if what is None:
        raise InvalidRequest("what: nothing to generate; set one of seeds, count, latents, ws")
    n = request.count if what == "count" else len(request.seeds.values)
    limits.check_count(what, n)
    if n == 0:
        raise InvalidRequest(f"{what}: 0 images requested, at least 1")
    if what != "count" and request.HasField("first_seed"):
        raise InvalidRequest(f"first_seed: {request.first_seed} given without count; it is the seed of the first image")
    return list(_consecutive(request) if what == "count" else request.seeds.values)


def _consecutive(request: pb.GenerateRequest) -> range:
    last = latents.SEEDS - request.count
    first = request.first_seed if request.HasField("first_seed") else secrets.randbelow(last + 1)
    if first > last:
        raise InvalidRequest(f"first_seed: {first} leaves fewer than {request.count} seeds below {latents.SEEDS}")
    return range(first, first + request.count)
