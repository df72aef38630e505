"""Python arguments -> request messages, for both clients. Invalid arguments are refused before anything is sent."""

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import SupportsIndex, TypeVar

import numpy as np
from numpy.typing import NDArray

from ganserve.client.changes import select_changes, write_changes, write_transforms
from ganserve.client.errors import InvalidRequest
from ganserve.client.formats import WIRE_FORMATS, FormatName
from ganserve.client.options import (
    AlphaName,
    Edit,
    FitName,
    Labels,
    MetadataName,
    Mix,
    ResampleName,
    Seeds,
    Steps,
    Strengths,
    Translations,
    Truncations,
)
from ganserve.client.pictures import encoded, sent
from ganserve.client.selection import tries_of, write_selection
from ganserve.v1 import images_pb2 as pb

ImageRequest = TypeVar("ImageRequest", pb.UpscaleRequest, pb.TranslateRequest)

WIRE_ALPHAS: dict[AlphaName, pb.AlphaPolicy.ValueType] = {"keep": pb.ALPHA_POLICY_KEEP, "drop": pb.ALPHA_POLICY_DROP}
WIRE_FITS: dict[FitName, pb.Fit.ValueType] = {
    "contain": pb.FIT_CONTAIN,
    "cover": pb.FIT_COVER,
    "fill": pb.FIT_FILL,
}
WIRE_RESAMPLES: dict[ResampleName, pb.Resample.ValueType] = {"lanczos": pb.RESAMPLE_LANCZOS, "area": pb.RESAMPLE_AREA}
WIRE_POLICIES: dict[MetadataName, pb.MetadataPolicy.ValueType] = {
    "icc": pb.METADATA_POLICY_ICC,
    "keep": pb.METADATA_POLICY_KEEP,
    "strip": pb.METADATA_POLICY_STRIP,
}
SEED_LIMIT = 1 << 32
MAX_UNARY_IMAGES = 64  # more than this come as a stream, so that no message grows with the number of images
MAX_CALL_IMAGES = 1024  # more than this are several calls, each with a deadline of its own


def generate_request(
    model: str,
    *,
    seeds: Seeds | None = None,
    count: int | None = None,
    first_seed: int | None = None,
    latents: NDArray[np.float32] | None = None,
    ws: NDArray[np.float32] | None = None,
    labels: Labels | None = None,
    truncation: Truncations | None = None,
    noise_seeds: Seeds | None = None,
    edits: Mapping[str | int, Strengths] | Sequence[Edit] = (),
    mixes: Sequence[Mix] = (),
    layer_truncations: Sequence[float] | None = None,
    truncation_cutoff: int | None = None,
    towards: Sequence[tuple[int, float]] | None = None,
    truncation_center: str | int | None = None,
    translate: Translations | None = None,
    rotate: float | Sequence[float] | None = None,
    size: int | None = None,
    best_of: int | None = None,
    min_percentile: float | None = None,
    drs_percentile: float | None = None,
    max_tries: int | None = None,
    return_w: bool = False,
    then: Steps = (),
    format: FormatName = "png",
    quality: int | None = None,
    version: str = "",
) -> tuple[pb.GenerateRequest, int]:
    """The message for Generate and GenerateStream, and the number of images that it requests.

    Raises:
        InvalidRequest: not exactly one of seeds, count, latents and ws, or a value that no server accepts.
    """
    request = pb.GenerateRequest(model=model, version=version, encoding=_encoding(format, quality))
    n = _set_source(request, seeds, count, first_seed, latents, ws)
    if labels is not None:
        request.labels.extend(checked_labels(labels))
    if truncation is not None:
        request.truncations.extend(np.atleast_1d(truncation).tolist())
    if noise_seeds is not None:
        request.noise_seeds.extend(_checked_seeds("noise_seeds", noise_seeds))
    write_changes(request, edits, mixes, layer_truncations, truncation_cutoff, _checked_seeds)
    for seed, share in towards or ():
        request.towards.add(seed=_whole("towards", seed, 0), share=share)
    if truncation_center is not None:
        request.truncation_center = str(truncation_center)
    write_transforms(request, translate, rotate)
    request.size = 0 if size is None else _whole("size", size, 1)
    write_selection(request, best_of, min_percentile, drs_percentile, max_tries)
    request.return_w = return_w
    for step in [then] if isinstance(then, str) else then:
        name, of, *given = (step, "") if isinstance(step, str) else step
        request.then.add(model=name, version=of, labels=checked_labels(given[0]) if given else ())
    return request, n


def _set_source(
    request: pb.GenerateRequest,
    seeds: Seeds | None,
    count: int | None,
    first_seed: int | None,
    latents: NDArray[np.float32] | None,
    ws: NDArray[np.float32] | None,
) -> int:
    """Sets what to generate and returns the number of images."""
    sources = {"seeds": seeds, "count": count, "latents": latents, "ws": ws}
    given = [name for name, value in sources.items() if value is not None]
    if len(given) != 1:
        raise InvalidRequest(f"pass exactly one of seeds, count, latents and ws; got {', '.join(given) or 'none'}")
    if first_seed is not None:
        if count is None:
            raise InvalidRequest("first_seed goes with count")
        request.first_seed = _whole("first_seed", first_seed, 0)
    n = 0
    if seeds is not None:
        request.seeds.values.extend(_checked_seeds("seeds", seeds))
        n = len(request.seeds.values)
    elif count is not None:
        request.count = n = _whole("count", count, 1)
    elif latents is not None:
        request.latents.data, n = _float_items("latents must be (n, latent size)", latents, (1, 2))
    elif ws is not None:
        request.ws.data, n = _float_items("ws must be (n, w size) or (n, layers, w size)", ws, (1, 2, 3))
        request.ws.per_layer = np.ndim(ws) == 3
    return n


def split_request(request: pb.GenerateRequest, n: int) -> Iterator[tuple[pb.GenerateRequest, range]]:
    """The request, or several for at most MAX_CALL_IMAGES candidates each, made one by one; with the positions of their
    images."""
    most = max(1, MAX_CALL_IMAGES // tries_of(request))
    if n <= most:
        yield request, range(n)
        return
    for start in range(0, n, most):
        places = range(start, min(start + most, n))
        yield select_images(request, places, n), places


def select_images(request: pb.GenerateRequest, indexes: Sequence[int], n: int) -> pb.GenerateRequest:
    """A request for some of the n images of another. Seeds that the server was to choose are chosen anew."""
    selected = pb.GenerateRequest(
        model=request.model,
        version=request.version,
        encoding=request.encoding,
        then=request.then,
        best_of=request.best_of,
        rejection=request.rejection if request.HasField("rejection") else None,
    )
    what = request.WhichOneof("what")
    if what == "count" and request.HasField("first_seed"):
        selected.seeds.values.extend(request.first_seed + index for index in indexes)
    elif what == "count":
        selected.count = len(indexes)
    elif what == "seeds":
        selected.seeds.values.extend(request.seeds.values[index] for index in indexes)
    elif what == "latents":
        selected.latents.data = _select_items(request.latents.data, indexes, n)
    else:
        selected.ws.data = _select_items(request.ws.data, indexes, n)
        selected.ws.per_layer = request.ws.per_layer
    for name in ("labels", "truncations", "noise_seeds"):
        values = getattr(request, name)
        if len(values) == 1:  # for all images
            getattr(selected, name).extend(values)
        elif len(values) > 1:
            getattr(selected, name).extend(values[index] for index in indexes)
    select_changes(request, selected, indexes)
    return selected


def _select_items(data: bytes, indexes: Sequence[int], n: int) -> bytes:
    size = len(data) // n
    return b"".join(data[index * size : (index + 1) * size] for index in indexes)


def image_request(
    kind: type[ImageRequest],
    model: str,
    image: object,
    *,
    alpha: AlphaName = "keep",
    format: FormatName = "png",
    quality: int | None = None,
    bits: int | None = None,
    metadata: MetadataName = "icc",
    tta: bool = False,
    version: str = "",
) -> ImageRequest:
    """The message for Upscale or Translate; see `sent` for what a picture may be.

    Raises:
        InvalidRequest: an option that no server accepts, or a picture that cannot be sent.
        OSError: the file cannot be read.
    """
    if alpha not in WIRE_ALPHAS:
        raise InvalidRequest(f"alpha must be keep or drop, got {alpha!r}")
    if metadata not in WIRE_POLICIES:
        raise InvalidRequest(f"metadata must be one of {', '.join(WIRE_POLICIES)}, got {metadata!r}")
    request = kind(model=model, version=version, alpha=WIRE_ALPHAS[alpha], encoding=_encoding(format, quality, bits))
    request.metadata = WIRE_POLICIES[metadata]
    request.tta = bool(tta)
    found = sent(image)
    request.image, request.raw_width, request.raw_height = found.data, found.raw_width, found.raw_height
    return request


def translate_request(
    model: str,
    image: object,
    *,
    labels: Labels | None = None,
    seed: int | None = None,
    reference: object | None = None,
    alpha: AlphaName = "keep",
    format: FormatName = "png",
    quality: int | None = None,
    bits: int | None = None,
    metadata: MetadataName = "icc",
    tta: bool = False,
    version: str = "",
) -> pb.TranslateRequest:
    """The message for Translate; see `image_request`."""
    if seed is not None and reference is not None:
        raise InvalidRequest("pass seed or reference, not both: a style comes from one of them")
    request = image_request(
        pb.TranslateRequest,
        model,
        image,
        alpha=alpha,
        format=format,
        quality=quality,
        bits=bits,
        metadata=metadata,
        tta=tta,
        version=version,
    )
    if labels is not None:
        request.labels.extend(checked_labels(labels))
    if seed is not None:
        request.seed = _whole("seed", seed, 0)
    if reference is not None:
        request.reference = encoded(reference)
    return request


def upscale_request(
    model: str,
    image: object,
    *,
    scale: float | None = None,
    width: int | None = None,
    height: int | None = None,
    fit: FitName | None = None,
    alpha: AlphaName = "keep",
    format: FormatName = "png",
    quality: int | None = None,
    bits: int | None = None,
    metadata: MetadataName = "icc",
    resample: ResampleName | None = None,
    tta: bool = False,
    version: str = "",
) -> pb.UpscaleRequest:
    """The message for Upscale; see `image_request`."""
    if fit is not None and fit not in WIRE_FITS:
        raise InvalidRequest(f"fit must be one of {', '.join(WIRE_FITS)}, got {fit!r}")
    if resample is not None and resample not in WIRE_RESAMPLES:
        raise InvalidRequest(f"resample must be one of {', '.join(WIRE_RESAMPLES)}, got {resample!r}")
    for name, side in (("width", width), ("height", height)):
        if side is not None and not 1 <= side < 1 << 32:
            raise InvalidRequest(f"{name} must be 1 px or more, got {side}")
    if scale is not None and not 0 < scale < float("inf"):
        raise InvalidRequest(f"scale must be above 0, got {scale}")
    request = image_request(
        pb.UpscaleRequest,
        model,
        image,
        alpha=alpha,
        format=format,
        quality=quality,
        bits=bits,
        metadata=metadata,
        tta=tta,
        version=version,
    )
    request.scale = scale or 0.0
    request.width, request.height = width or 0, height or 0
    if fit is not None:
        request.fit = WIRE_FITS[fit]
    if resample is not None:
        request.resample = WIRE_RESAMPLES[resample]
    return request


def _encoding(format: FormatName, quality: int | None, bits: int | None = None) -> pb.Encoding:
    if format not in WIRE_FORMATS:
        raise InvalidRequest(f"format must be one of {', '.join(WIRE_FORMATS)}, got {format!r}")
    if quality is not None and not 0 <= quality <= 100:
        raise InvalidRequest(f"quality must be 0..9 for png and 1..100 for jpeg and webp, got {quality}")
    if bits not in (None, 8, 16):
        raise InvalidRequest(f"bits must be 8 or 16, got {bits}")
    return pb.Encoding(format=WIRE_FORMATS[format], quality=quality, bits=bits)


def checked_labels(labels: Labels) -> list[str]:
    every = labels if isinstance(labels, Iterable) and not isinstance(labels, str) else [labels]
    return [label if isinstance(label, str) else str(_whole("labels", label, 0)) for label in every]


def _checked_seeds(what: str, seeds: Seeds) -> list[int]:
    if isinstance(seeds, (str, bytes)):
        raise TypeError(f"{what} must be an int or ints, got the text {seeds!r}")
    values = seeds if isinstance(seeds, Iterable) and np.ndim(seeds) else [seeds]  # type: ignore[arg-type]
    return [_whole(what, value, 0) for value in values]


def _whole(what: str, value: object, minimum: int) -> int:
    """An int of 32 bits, not a float or text that could be turned into one.

    Raises:
        TypeError: no int.
        InvalidRequest: out of range.
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, SupportsIndex):
        raise TypeError(f"{what} must be of ints, got {value!r}")
    number = operator.index(value)
    if not minimum <= number < SEED_LIMIT:
        raise InvalidRequest(f"{what} must be {minimum}..{SEED_LIMIT - 1}, got {number}")
    return number


def _float_items(what: str, values: NDArray[np.float32], axes: Sequence[int]) -> tuple[bytes, int]:
    """Little-endian float32, row-major, and the number of items; an array with one axis is one item."""
    items = np.asarray(values)
    if items.ndim not in axes or items.size == 0 or items.dtype.kind not in "fiu":
        raise InvalidRequest(f"{what} float32, got {items.shape} {items.dtype}")
    return items.astype("<f4").tobytes(), 1 if items.ndim == 1 else len(items)
