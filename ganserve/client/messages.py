"""Python arguments -> request messages, for both clients; what is wrong is said before anything is sent."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ganserve.client.errors import InvalidRequest
from ganserve.v1 import images_pb2 as pb

FormatName = Literal["png", "jpeg", "webp", "raw"]
AlphaName = Literal["keep", "drop"]
Picture = str | Path | bytes | Image.Image | NDArray[np.uint8]
Labels = str | int | Sequence[str | int]
Truncations = float | Sequence[float]
Seeds = int | Iterable[int]
PictureRequest = TypeVar("PictureRequest", pb.UpscaleRequest, pb.TranslateRequest)

FORMATS: dict[str, pb.ImageFormat.ValueType] = {
    "png": pb.IMAGE_FORMAT_PNG,
    "jpeg": pb.IMAGE_FORMAT_JPEG,
    "webp": pb.IMAGE_FORMAT_WEBP,
    "raw": pb.IMAGE_FORMAT_RAW,
}
ALPHAS: dict[str, pb.AlphaPolicy.ValueType] = {"keep": pb.ALPHA_POLICY_KEEP, "drop": pb.ALPHA_POLICY_DROP}
SEED_LIMIT = 1 << 32
UNARY_IMAGES = 64  # more than this come as a stream, so that no message grows with the number asked


def generate_request(
    model: str,
    *,
    seeds: Seeds | None,
    count: int | None,
    first_seed: int | None,
    latents: NDArray[np.float32] | None,
    ws: NDArray[np.float32] | None,
    labels: Labels | None,
    truncation: Truncations | None,
    noise_seeds: Seeds | None,
    format: FormatName,
    quality: int | None,
    version: str,
) -> pb.GenerateRequest:
    """The message for Generate and GenerateStream.

    Raises:
        InvalidRequest: not exactly one of seeds, count, latents and ws, or a value that no server could take.
    """
    whats = {"seeds": seeds, "count": count, "latents": latents, "ws": ws}
    given = [name for name, value in whats.items() if value is not None]
    if len(given) != 1:
        raise InvalidRequest(f"pass exactly one of seeds, count, latents and ws; got {', '.join(given) or 'none'}")
    if first_seed is not None and count is None:
        raise InvalidRequest("first_seed goes with count")
    request = pb.GenerateRequest(model=model, version=version, encoding=_encoding(format, quality))
    if seeds is not None:
        request.seeds.values.extend(_checked_seeds(seeds))
    if count is not None:
        if not 1 <= count < SEED_LIMIT:
            raise InvalidRequest(f"count must be 1..{SEED_LIMIT - 1}, got {count}")
        request.count = count
    if first_seed is not None:
        request.first_seed = _checked_seed(first_seed)
    if latents is not None:
        request.latents.data = _float_bytes("latents must be (n, latent size)", latents, (1, 2))
    if ws is not None:
        request.ws.data = _float_bytes("ws must be (n, w size) or (n, layers, w size)", ws, (1, 2, 3))
        request.ws.per_layer = np.ndim(ws) == 3
    if labels is not None:
        every = [labels] if isinstance(labels, (str, int)) else labels
        request.labels.extend(str(label) for label in every)
    if truncation is not None:
        request.truncations.extend(np.atleast_1d(truncation).tolist())
    if noise_seeds is not None:
        request.noise_seeds.extend(_checked_seeds(noise_seeds))
    return request


def images_asked(request: pb.GenerateRequest, rows: NDArray[np.float32] | None) -> int:
    """How many images the request asks for; `rows` are the latents or ws that it was built from."""
    if rows is not None:
        return 1 if np.ndim(rows) == 1 else len(rows)
    return request.count or len(request.seeds.values)


def upscale_request(
    model: str, image: Picture, *, alpha: AlphaName, format: FormatName, quality: int | None, version: str
) -> pb.UpscaleRequest:
    """The message for Upscale. Files and bytes go as they are, arrays raw, PIL images as lossless PNG.

    Raises:
        InvalidRequest: an array or an image mode that no server could take.
        OSError: the file cannot be read.
    """
    return _with_picture(pb.UpscaleRequest(model=model, version=version), image, alpha, _encoding(format, quality))


def translate_request(
    model: str, image: Picture, *, alpha: AlphaName, format: FormatName, quality: int | None, version: str
) -> pb.TranslateRequest:
    """The message for Translate; as for Upscale."""
    return _with_picture(pb.TranslateRequest(model=model, version=version), image, alpha, _encoding(format, quality))


def _with_picture(request: PictureRequest, image: Picture, alpha: AlphaName, encoding: pb.Encoding) -> PictureRequest:
    if alpha not in ALPHAS:
        raise InvalidRequest(f"alpha must be keep or drop, got {alpha!r}")
    request.alpha = ALPHAS[alpha]
    request.encoding.CopyFrom(encoding)
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
    if format not in FORMATS:
        raise InvalidRequest(f"format must be one of {', '.join(FORMATS)}, got {format!r}")
    if quality is not None and not 0 <= quality <= 100:
        raise InvalidRequest(f"quality must be 0..9 for png and 1..100 for jpeg and webp, got {quality}")
    return pb.Encoding(format=FORMATS[format], quality=quality)


def _checked_seeds(seeds: Seeds) -> list[int]:
    values = [seeds] if isinstance(seeds, int) else [int(seed) for seed in seeds]
    return [_checked_seed(seed) for seed in values]


def _checked_seed(seed: int) -> int:
    if not 0 <= seed < SEED_LIMIT:
        raise InvalidRequest(f"a seed must be 0..{SEED_LIMIT - 1}, got {seed}")
    return seed


def _float_bytes(what: str, values: NDArray[np.float32], axes: Sequence[int]) -> bytes:
    """Little-endian float32, row-major; one axis alone is one row."""
    rows = np.asarray(values)
    if rows.ndim not in axes or rows.size == 0 or rows.dtype.kind not in "fiu":
        raise InvalidRequest(f"{what} float32, got {rows.shape} {rows.dtype}")
    return rows.astype("<f4").tobytes()


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
