"""Files that are neither PNG, JPEG nor WebP: what Pillow opens, with its plug-ins, and deep TIFF by tifffile."""

import io
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ganserve.client.extras import Extras
from ganserve.client.tiff_tags import ORIENTATION

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
BITS_PER_SAMPLE = 258
EXTRAS = {"tifffile": "tiff", "imagecodecs": "tiff", "pillow_heif": "formats", "pillow_jxl": "formats"}


class UnreadableFile(ValueError):
    """A picture that cannot be read, with what would help."""


@dataclass(frozen=True)
class DeepTiff:
    """(H, W) or (H, W, C) of a TIFF with more than 8 bits, upright, and what goes with them."""

    pixels: NDArray[Any]
    extras: Extras


def needed(module: str) -> Any:
    """The module of an extra.

    Raises:
        UnreadableFile: it is not installed; the text says how.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError:
        extra = EXTRAS[module]
        raise UnreadableFile(f"this needs: pip install 'ganserve[{extra}]'  (no module named {module})") from None


@cache
def register_plugins() -> None:
    """HEIC and JPEG XL, where their extra is installed. AVIF is Pillow's own."""
    for module in ("pillow_heif", "pillow_jxl"):
        try:
            found = import_module(module)
        except ModuleNotFoundError:
            continue
        if module == "pillow_heif":
            found.register_heif_opener()


def open_picture(data: bytes) -> Image.Image:
    """The file as Pillow opens it.

    Raises:
        UnreadableFile: of a known kind whose extra is missing, or of none.
    """
    register_plugins()
    try:
        return Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        needed_by = _extra_of(data)
        if needed_by is not None:
            needed(needed_by)
        start = data[:4].hex(" ")
        raise UnreadableFile(
            f"begins with {start}; no picture of a known format" if data else "the file is empty"
        ) from None


def _extra_of(data: bytes) -> str | None:
    """The module that would read this file."""
    if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"):
        return "pillow_heif"
    if data.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")):
        return "pillow_jxl"
    return "tifffile" if data.startswith(TIFF_STARTS) else None


def read_deep_tiff(data: bytes) -> DeepTiff | None:
    """A TIFF's first page if Pillow would lose bits or bands of it; None if not.

    Raises:
        UnreadableFile: it would, and tifffile is not installed.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            bits = np.atleast_1d(image.tag_v2.get(BITS_PER_SAMPLE, 1))  # type: ignore[attr-defined]
            if bits.max() <= 8 or image.mode[0] in "IF":
                return None
    except UnidentifiedImageError:
        pass
    tifffile = needed("tifffile")
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages[0]
            pixels = np.asarray(page.asarray())
            extras, orientation = Extras.of_tiff(data, page), int(page.tags.valueof(ORIENTATION) or 1)
    except Exception as error:  # of a damaged file it raises whatever its parsers meet
        raise UnreadableFile(f"not a TIFF that can be read: {error}") from None
    if pixels.ndim == 3 and page.planarconfig == 2:  # one plane after another
        pixels = np.moveaxis(pixels, 0, 2)
    return DeepTiff(upright(pixels, orientation), extras)


def upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """The view that TIFF's orientation 1..8 describes."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
