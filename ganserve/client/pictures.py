"""Whatever Python holds a picture in -> what a request carries: the bytes of a PNG, JPEG or WebP, or raw pixels."""

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFile, ImageOps, UnidentifiedImageError

from ganserve.client.errors import InvalidRequest
from ganserve.client.extras import Extras, extras_of
from ganserve.client.open_formats import TIFF_STARTS, UnreadableFile, open_picture, read_deep_tiff, upright
from ganserve.client.png import Pixels, decode_png, encode_png, is_deep, pixels_of
from ganserve.client.received import OPENERS, ReceivedImage
from ganserve.client.tiff_tags import ORIENTATION

Picture = (
    str
    | os.PathLike[str]
    | bytes
    | bytearray
    | memoryview
    | BinaryIO
    | Image.Image
    | NDArray[np.uint8]
    | NDArray[np.uint16]
    | NDArray[np.floating[Any]]
    | ReceivedImage
)
Pictures = Sequence[Picture]

TOP_16 = 65535
MAX_PX = 200_000_000  # that the client itself works on
STARTS = {b"\x89PNG": "png", b"\xff\xd8": "jpeg", b"RIFF": "webp"}  # of what is sent
# Modes of Pillow that a PNG of 8 bits holds as they are, and what others become without loss of colour.
AS_THEY_ARE = ("L", "LA", "RGB", "RGBA")
CONVERTED = {"1": "L", "La": "LA", "PA": "RGBA", "RGBX": "RGB", "RGBa": "RGBA", "YCbCr": "RGB", "HSV": "RGB"}


@dataclass(frozen=True)
class Sent:
    """A picture as a request carries it: encoded, or with both sizes uint8 in rows."""

    data: bytes
    raw_width: int = 0
    raw_height: int = 0


def is_many(image: object) -> TypeGuard[Pictures]:
    """Whether a call got several pictures: a list, a tuple or another sequence of them."""
    return isinstance(image, Sequence) and not isinstance(image, (str, bytes, bytearray, memoryview))


def sent(image: object) -> Sent:
    """The picture as a request carries it.

    PNG, JPEG and WebP are sent unchanged; everything else losslessly, as PNG of 8 or 16 bits or as raw pixels.

    Raises:
        InvalidRequest: nothing that holds a picture, or a picture that cannot be read; the text says what would be.
        OSError: the file cannot be read.
    """
    if isinstance(image, ReceivedImage):
        return _from_array(image.array) if image.format == "raw" else Sent(image.data)
    if isinstance(image, (str, os.PathLike)):
        path = Path(image)
        return _from_bytes(path.read_bytes(), str(path))
    if isinstance(image, (bytes, bytearray, memoryview)):
        return _from_bytes(bytes(image), "the image")
    if isinstance(image, Image.Image):
        return Sent(_png_of(image))
    if hasattr(image, "read"):
        return _from_bytes(_read(image), "the file object")
    if not hasattr(image, "__array__"):
        raise InvalidRequest(
            "image must be a path, bytes, a binary file, a PIL image, an array or another call's result, got "
            f"{type(image).__name__}"
        )
    return _from_array(np.asarray(image))


def encoded(image: object) -> bytes:
    """The picture as a file's bytes; see `sent`."""
    found = sent(image)
    if not found.raw_width:
        return found.data
    pixels = np.frombuffer(found.data, np.uint8).reshape(found.raw_height, found.raw_width, -1)
    return encode_png(pixels)


def decoded(image: object) -> tuple[Pixels, Extras]:
    """The picture's pixels, (H, W, 1..4) uint8 or uint16, upright, and what goes with them.

    Raises:
        InvalidRequest: as `sent`, or more than MAX_PX pixels.
        OSError: the file cannot be read.
    """
    found = sent(image)
    if found.raw_width:
        _require_few(found.raw_width, found.raw_height)
        return np.frombuffer(found.data, np.uint8).reshape(found.raw_height, found.raw_width, -1), Extras()
    format = next(name for start, name in STARTS.items() if found.data.startswith(start))
    try:
        opened: ImageFile.ImageFile = OPENERS[format](io.BytesIO(found.data))
        _require_few(opened.width, opened.height)
        as_it_is = opened.mode in AS_THEY_ARE and "transparency" not in opened.info
        if (deep := format == "png" and is_deep(opened)) or as_it_is:
            pixels = decode_png(found.data) if deep else pixels_of(opened)
            return upright(pixels, opened.getexif().get(ORIENTATION, 1)), Extras.of(opened)
        data = _png_of(opened)  # of any mode, also inks
        return decode_png(data), Extras.of(OPENERS["png"](io.BytesIO(data)))
    except InvalidRequest:
        raise
    except (OSError, SyntaxError, ValueError) as error:  # of Pillow, if the file is damaged
        raise InvalidRequest(f"the image cannot be read: {error}") from None


def _require_few(width: int, height: int) -> None:
    if width * height > MAX_PX:
        raise InvalidRequest(f"image of {width} x {height} px; {MAX_PX} px at most")


def _read(file: Any) -> bytes:
    """All of a binary file, from its beginning if it can be rewound (as after PIL's `save` into a BytesIO)."""
    if hasattr(file, "seekable") and file.seekable():
        file.seek(0)
    data = file.read()
    if isinstance(data, str):
        raise InvalidRequest("image is a file opened as text; open it with mode 'rb'")
    return bytes(data)


def _from_bytes(data: bytes, name: str) -> Sent:
    if data.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")) or (data[:4], data[8:12]) == (b"RIFF", b"WEBP"):
        return Sent(data)
    try:
        if data.startswith(TIFF_STARTS) and (deep := read_deep_tiff(data)) is not None:
            return _from_array(deep.pixels, deep.extras)
        with open_picture(data) as opened:
            return Sent(_png_of(opened, extras_of(opened, data)))
    except (UnidentifiedImageError, UnreadableFile) as error:
        raise InvalidRequest(f"{name}: {error}") from None


def _from_array(pixels: NDArray[Any], extras: Extras | None = None) -> Sent:
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    if pixels.ndim not in (2, 3) or channels not in (1, 2, 3, 4) or pixels.size == 0:
        advice = "; its channels go last: transpose it" if pixels.ndim == 3 and pixels.shape[0] in (1, 3, 4) else ""
        advice = "; pass a list of arrays for several" if pixels.ndim == 4 else advice
        raise InvalidRequest(f"image must be (H, W) or (H, W, 1 to 4), got {pixels.shape} {pixels.dtype}{advice}")
    stored = _as_levels(pixels.reshape(*pixels.shape[:2], channels))
    if stored.dtype == np.uint8 and channels != 2 and extras is None:
        return Sent(stored.tobytes(), stored.shape[1], stored.shape[0])
    return Sent(encode_png(stored, **vars(extras or Extras())))


def _as_levels(pixels: NDArray[Any]) -> Pixels:
    """uint8 and uint16 as they are, True and False as white and black, floats 0..1 as uint16."""
    if pixels.dtype.kind == "u" and pixels.dtype.itemsize <= 2:
        return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype.kind == "f":
        low, high = float(pixels.min()), float(pixels.max())
        if not (low >= 0 and high <= 1):  # also not a number
            raise InvalidRequest(f"image of {pixels.dtype} must have values 0..1, got {low:g}..{high:g}")
        return np.rint(pixels.astype(np.float64) * TOP_16).astype(np.uint16)
    raise InvalidRequest(f"image must be uint8 (0..255), uint16 (0..65535) or float (0..1), got {pixels.dtype}")


def _png_of(image: Image.Image, extras: Extras | None = None) -> bytes:
    """PNG in the file's own depth, the camera's orientation applied, with all that goes with it."""
    upright = ImageOps.exif_transpose(image)
    kept = dict(vars(extras or Extras.of(image)))
    if upright.mode in ("CMYK", "LAB"):
        upright = _in_srgb(upright, kept.pop("icc"))
    if upright.mode[0] in "IF":
        return encode_png(_deep_levels(upright), **kept)
    if upright.mode == "P":
        upright = upright.convert("RGBA" if upright.has_transparency_data else "RGB")
    elif upright.mode in ("L", "RGB") and "transparency" in upright.info:
        upright = upright.convert("LA" if upright.mode == "L" else "RGBA")
    elif upright.mode not in AS_THEY_ARE:
        upright = upright.convert(CONVERTED[upright.mode])
    return encode_png(np.atleast_3d(np.asarray(upright)), **kept)


def _deep_levels(image: Image.Image) -> Pixels:
    """uint16 of the modes I, I;16... and F. Pillow's own scale of F is 0..255, that of files 0..1."""
    values = np.asarray(image)[..., None]
    low, high = float(values.min()), float(values.max())
    if image.mode == "F":
        return _as_levels(values / np.float32(255) if 1 < high <= 255 else values)
    if low < 0 or high > TOP_16:
        raise InvalidRequest(f"image of mode {image.mode} must have values 0..{TOP_16}, got {low:g}..{high:g}")
    return values.astype(np.uint16)


def _in_srgb(image: Image.Image, icc: bytes | None) -> Image.Image:
    """CMYK or LAB as RGB: by the file's profile, LAB by its definition, else as Pillow inverts inks."""
    if image.mode == "CMYK" and not icc:
        return image.convert("RGB")
    source = ImageCms.ImageCmsProfile(io.BytesIO(icc)) if icc else ImageCms.createProfile("LAB")
    try:
        made = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except ImageCms.PyCMSError as error:
        raise InvalidRequest(f"the colour profile of the {image.mode} image cannot be applied: {error}") from None
    assert made is not None  # it is converted in place only if asked
    return made
