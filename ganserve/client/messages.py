"""Python arguments -> request messages, for both clients. Invalid arguments are refused before anything is sent."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ganserve.client.errors import InvalidRequest
from ganserve.client.formats import WIRE_FORMATS, FormatName
from ganserve.client.options import AlphaName, Labels, Picture, Seeds, Steps, Truncations
from ganserve.v1 import images_pb2 as pb

ImageRequest = TypeVar("ImageRequest", pb.UpscaleRequest, pb.TranslateRequest)

WIRE_ALPHAS: dict[AlphaName, pb.AlphaPolicy.ValueType] = {"keep": pb.ALPHA_POLICY_KEEP, "drop": pb.ALPHA_POLICY_DROP}
SEED_LIMIT = 1 << 32
MAX_UNARY_IMAGES = 64  # more than this come as a stream, so that no message grows with the number of images


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
        every = [labels] if isinstance(labels, (str, int)) else labels
        request.labels.extend(str(label) for label in every)
    if truncation is not None:
        request.truncations.extend(np.atleast_1d(truncation).tolist())
    if noise_seeds is not None:
        request.noise_seeds.extend(_checked_seeds(noise_seeds))
    for step in [then] if isinstance(then, str) else then:
        name, of = (step, "") if isinstance(step, str) else step
        request.then.add(model=name, version=of)
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
        request.first_seed = _checked_seed(first_seed)
    n = 0
    if seeds is not None:
        request.seeds.values.extend(_checked_seeds(seeds))
        n = len(request.seeds.values)
    elif count is not None:
        if not 1 <= count < SEED_LIMIT:
            raise InvalidRequest(f"count must be 1..{SEED_LIMIT - 1}, got {count}")
        request.count = n = count
    elif latents is not None:
        request.latents.data, n = _float_items("latents must be (n, latent size)", latents, (1, 2))
    elif ws is not None:
        request.ws.data, n = _float_items("ws must be (n, w size) or (n, layers, w size)", ws, (1, 2, 3))
        request.ws.per_layer = np.ndim(ws) == 3
    return n


def image_request(
    kind: type[ImageRequest],
    model: str,
    image: Picture,
    *,
    alpha: AlphaName = "keep",
    format: FormatName = "png",
    quality: int | None = None,
    version: str = "",
) -> ImageRequest:
    """The message for Upscale or Translate. Files and bytes are sent unchanged, arrays raw, PIL images as PNG.

    Raises:
        InvalidRequest: an option, an array or an image mode that no server accepts.
        OSError: the file cannot be read.
    """
    if alpha not in WIRE_ALPHAS:
        raise InvalidRequest(f"alpha must be keep or drop, got {alpha!r}")
    request = kind(model=model, version=version, alpha=WIRE_ALPHAS[alpha], encoding=_encoding(format, quality))
    if isinstance(image, bytes):
        request.image = image
    elif isinstance(image, (str, Path)):
        request.image = Path(image).read_bytes()
    elif isinstance(image, Image.Image):
        request.image = _png_bytes(image)
    else:
        _check_pixels(image)
        request.raw_height, request.raw_width = image.shape[:2]
        request.image = image.tobytes()
    return request


def _encoding(format: FormatName, quality: int | None) -> pb.Encoding:
    if format not in WIRE_FORMATS:
        raise InvalidRequest(f"format must be one of {', '.join(WIRE_FORMATS)}, got {format!r}")
    if quality is not None and not 0 <= quality <= 100:
        raise InvalidRequest(f"quality must be 0..9 for png and 1..100 for jpeg and webp, got {quality}")
    return pb.Encoding(format=WIRE_FORMATS[format], quality=quality)


def _checked_seeds(seeds: Seeds) -> list[int]:
    values = [seeds] if isinstance(seeds, int) else [int(seed) for seed in seeds]
    return [_checked_seed(seed) for seed in values]


def _checked_seed(seed: int) -> int:
    if not 0 <= seed < SEED_LIMIT:
        raise InvalidRequest(f"a seed must be 0..{SEED_LIMIT - 1}, got {seed}")
    return seed


def _float_items(what: str, values: NDArray[np.float32], axes: Sequence[int]) -> tuple[bytes, int]:
    """Little-endian float32, row-major, and the number of items; an array with one axis is one item."""
    items = np.asarray(values)
    if items.ndim not in axes or items.size == 0 or items.dtype.kind not in "fiu":
        raise InvalidRequest(f"{what} float32, got {items.shape} {items.dtype}")
    return items.astype("<f4").tobytes(), 1 if items.ndim == 1 else len(items)


def _check_pixels(image: NDArray[np.uint8]) -> None:
    if not isinstance(image, np.ndarray):
        raise InvalidRequest(f"image must be a path, bytes, a PIL image or an array, got {type(image).__name__}")
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or channels not in (1, 3, 4) or image.size == 0:
        raise InvalidRequest(f"image must be (H, W, 1, 3 or 4) uint8, got {image.shape} {image.dtype}")


def _png_bytes(image: Image.Image) -> bytes:
    """PNG with the colour profile kept and the camera's orientation applied."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode in ("F", "LAB", "HSV"):
        raise InvalidRequest(f"image mode {upright.mode}: convert it to RGB, RGBA or L first")
    if upright.mode == "P":
        upright = upright.convert("RGBA" if "transparency" in upright.info else "RGB")
    elif upright.mode in ("CMYK", "YCbCr", "RGBX"):
        upright = upright.convert("RGB")
    elif upright.mode == "1":
        upright = upright.convert("L")
    buffer = io.BytesIO()
    upright.save(buffer, "PNG", compress_level=1, icc_profile=image.info.get("icc_profile"))
    return buffer.getvalue()
