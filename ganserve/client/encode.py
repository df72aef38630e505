"""A picture into a file's bytes, by suffix: what the client encodes itself, with all that goes with the pixels."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ganserve.client.extras import Extras
from ganserve.client.iptc import as_segments
from ganserve.client.open_formats import needed, register_plugins
from ganserve.client.png import Pixels, encode_png
from ganserve.client.tiff_tags import with_tags

QUALITY = 90  # the server's default for JPEG and WebP
PILLOW_FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".avif": "AVIF",
    ".heic": "HEIF",
    ".heif": "HEIF",
    ".jxl": "JXL",
}
PLUGINS = {"HEIF": "pillow_heif", "JXL": "pillow_jxl"}
WITHOUT_ALPHA = ("JPEG", "BMP")
WITH_QUALITY = ("JPEG", "WEBP", "AVIF", "HEIF", "JXL")
DEEP = (".png", ".tif", ".tiff")  # hold 16 bits


def encode(pixels: Pixels, suffix: str, *, extras: Extras | None = None, quality: int | None = None) -> bytes:
    """The file's bytes.

    Args:
        pixels: (H, W, 1..4) uint8 or uint16; formats of 8 bits get uint16 rounded.
        suffix: one of PILLOW_FORMATS.
        extras: None: nothing.
        quality: 1..100 (default 90) of JPEG, WebP, AVIF, HEIC and JPEG XL; compression level 0..9 (default 1) of PNG.

    Raises:
        ValueError: the format cannot hold the picture, or needs an extra that is not installed.
    """
    if suffix == ".png":
        return encode_png(pixels, level=1 if quality is None else min(quality, 9), **vars(extras or Extras()))
    if pixels.dtype == np.uint16 and suffix in DEEP:
        fitted, _ = (extras or Extras()).within("TIFF")
        return _tagged(_deep_tiff(pixels, fitted), fitted)
    return encode_frames([to_bytes(pixels)], suffix, extras=extras, quality=quality)


def encode_frames(
    frames: Sequence[NDArray[np.uint8]],
    suffix: str,
    *,
    extras: Extras | None = None,
    quality: int | None = None,
    **timing: Any,
) -> bytes:
    """Like `encode`, of one or more frames of 8 bits; `timing` is Pillow's `duration` and `loop`."""
    format = PILLOW_FORMATS[suffix]
    if format in WITHOUT_ALPHA and frames[0].shape[2] in (2, 4):
        raise ValueError(
            f"the image has an alpha channel, which {format} cannot hold; save it as .png or .webp, or ask for it "
            "with alpha='drop' (--alpha drop)"
        )
    if format in PLUGINS:
        needed(PLUGINS[format])
        register_plugins()
    images = [_image_of(frame) for frame in frames]
    fitted, _ = (extras or Extras()).within(format)
    settings = _settings(format, fitted, quality)
    if len(images) > 1:
        settings |= {"save_all": True, "append_images": images[1:], **timing}
    buffer = io.BytesIO()
    try:
        images[0].save(buffer, format, **settings)
    except (OSError, ValueError, KeyError) as error:
        width, height = images[0].size
        raise ValueError(f"{width} x {height} px cannot be written as {format}: {error}") from None
    found = buffer.getvalue()
    return _tagged(found, fitted) if format == "TIFF" else found


def to_bytes(pixels: Pixels) -> NDArray[np.uint8]:
    """Rounded to 8 bits."""
    if pixels.dtype == np.uint8:
        return pixels.view(np.uint8)
    return ((pixels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def _tagged(tiff: bytes, extras: Extras) -> bytes:
    if not (extras.exif or extras.xmp or extras.iptc):
        return tiff
    return with_tags(tiff, extras.exif or b"", extras.xmp or b"", extras.iptc or b"")


def left_out(extras: Extras, suffix: str) -> str:
    """What a file with that suffix does not hold of what goes with the pixels, in words; nothing if it holds all."""
    return extras.within(PILLOW_FORMATS[suffix])[1]


def _settings(format: str, extras: Extras, quality: int | None) -> dict[str, Any]:
    found: dict[str, Any] = {"icc_profile": extras.icc, "dpi": extras.dpi, "comment": extras.texts.get("Comment")}
    if format != "TIFF":
        found |= {"exif": extras.exif, "xmp": extras.xmp}
    if format == "JPEG" and extras.iptc:
        found["extra"] = as_segments(extras.iptc)
    settings: dict[str, Any] = {name: value for name, value in found.items() if value is not None}
    if format in WITH_QUALITY:
        settings["quality"] = QUALITY if quality is None else max(quality, 1)
    if format == "TIFF":
        settings["compression"] = "tiff_adobe_deflate"
    return settings


def _image_of(pixels: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _deep_tiff(pixels: Pixels, extras: Extras) -> bytes:
    buffer = io.BytesIO()
    channels = pixels.shape[2]
    options: dict[str, Any] = {"photometric": "rgb" if channels >= 3 else "minisblack", "compression": "zlib"}
    if channels in (2, 4):
        options["extrasamples"] = ["unassalpha"]
    if extras.dpi:
        options |= {"resolution": extras.dpi, "resolutionunit": "INCH"}
    needed("tifffile").imwrite(
        buffer, pixels if channels > 1 else pixels[..., 0], iccprofile=extras.icc, metadata=None, **options
    )
    return buffer.getvalue()
