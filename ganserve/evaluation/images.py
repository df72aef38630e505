"""Real images of a folder, in the generator's colours, and any image in the size that features are computed of."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ganserve.evaluation.errors import EvaluationError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MIN_IMAGES = 20


def find(folder: Path, most: int, option: str = "--data") -> list[Path]:
    """The images below a folder, in order of their names; of more than `most`, every so many-th. `option`: that named
    the folder.

    Raises:
        EvaluationError: no folder, or too few images.
    """
    if not folder.is_dir():
        raise EvaluationError(f"{option} {folder}: no such folder")
    found = sorted(
        path for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )  # fmt: skip
    if len(found) < MIN_IMAGES:
        raise EvaluationError(
            f"{option} {folder}: {len(found)} images ({', '.join(SUFFIXES)}); must be {MIN_IMAGES} or more"
        )
    if len(found) <= most:
        return found
    return [found[index] for index in np.linspace(0, len(found) - 1, most).round().astype(int)]


def read(path: Path, channels: int) -> NDArray[np.uint8]:
    """(H, W, channels) uint8; on white where it is transparent, if there are less than four channels.

    Raises:
        EvaluationError: it cannot be read.
    """
    try:
        with Image.open(path) as opened:
            image = _colours(opened)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise EvaluationError(f"{path}: cannot be read as an image: {error}") from None
    return _pixels(image, channels)


def fitted(pixels: NDArray[np.uint8], channels: int, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    """(H, W, channels) of (H, W, 1, 3 or 4): grey as three equal channels, alpha as in `read`; to `size` (height,
    width), if there is one, by Pillow's bicubic filter, which averages where it makes smaller."""
    if pixels.shape[2] != channels:
        pixels = _pixels(Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels), channels)
    if size is not None and pixels.shape[:2] != size:
        image = Image.fromarray(pixels.squeeze(2) if channels == 1 else pixels)
        pixels = np.asarray(image.resize((size[1], size[0]), Image.Resampling.BICUBIC)).reshape(*size, channels)
    return pixels


def batch(images: Sequence[NDArray[np.uint8]], channels: int, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    """(N, H, W, channels).

    Raises:
        EvaluationError: they differ in size, and nothing says which they should have.
    """
    fit = [fitted(pixels, channels, size) for pixels in images]
    sizes = {pixels.shape for pixels in fit}
    if len(sizes) > 1:
        texts = ", ".join(sorted(f"{width}x{height}" for height, width, _ in sizes)[:3])
        raise EvaluationError(f"images of different sizes ({texts}), and the features are of any size; give --size")
    return np.stack(fit)


def _colours(image: Image.Image) -> Image.Image:
    """RGB, or RGBA if anything is transparent, of any image of 8 or 16 bits."""
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of 32 bits ({image.mode}), whose range is not known")
    if image.mode.startswith("I;16"):  # Pillow would cut off what is above 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGBA") if image.has_transparency_data else image.convert("RGB")


def _pixels(image: Image.Image, channels: int) -> NDArray[np.uint8]:
    """(H, W, 1, 3 or 4) of an image of 8 bits."""
    if image.mode == "RGBA" and channels < 4:
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image)
        image = white.convert("RGB")
    pixels = np.asarray(image.convert({1: "L", 4: "RGBA"}.get(channels, "RGB")))
    return pixels[..., None] if pixels.ndim == 2 else pixels
