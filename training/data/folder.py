"""Images of one's own: a folder of picture files, or of folders of them, one for each label (ImageFolder)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from training.data.packages import DataError
from training.loop import Data

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MIN_IMAGES = 8


@dataclass(frozen=True)
class Images:
    """Pictures (N, 3, S, S) uint8 with labels (N,), which index `names`, those of the folders; () without folders."""

    data: Data
    names: tuple[str, ...]


def load(folder: Path, size_px: int) -> Images:
    """Every picture below `folder`: on white where it is transparent, its middle square, resized.

    Raises:
        DataError: no such folder, a file that is no picture, or too few.
    """
    if not folder.is_dir():
        raise DataError(f"--data {folder}: no such folder")
    below = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    named = [(path.name, files) for path in below if (files := _files(path, "**/*"))]
    loose = _files(folder, "*")
    if named and loose:
        raise DataError(f"--data {folder}: holds {loose[0].name} beside the folder {named[0][0]}; use one or the other")
    found = [(label, file) for label, (_, files) in enumerate(named) for file in files] or [(0, one) for one in loose]
    if len(found) < MIN_IMAGES:
        raise DataError(
            f"--data {folder}: {len(found)} pictures ({', '.join(ENDINGS)}); at least {MIN_IMAGES} are needed"
        )
    pictures = torch.from_numpy(np.stack([_read(file, size_px) for _, file in found])).permute(0, 3, 1, 2).contiguous()
    return Images(Data(pictures, torch.tensor([label for label, _ in found])), tuple(name for name, _ in named))


def described(found: Images) -> str:
    """What its labels are, and how many pictures each has."""
    if len(found.names) < 2:
        return "no labels"
    counts = torch.bincount(found.data.labels, minlength=len(found.names)).tolist()
    return "labels: " + ", ".join(f"{name} ({count})" for name, count in zip(found.names, counts, strict=True))


def _files(folder: Path, pattern: str) -> list[Path]:
    return sorted(path for path in folder.glob(pattern) if path.suffix.lower() in ENDINGS and path.is_file())


def _read(path: Path, size_px: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGBA")
    except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: is no picture that can be read: {error}") from None
    white = Image.new("RGBA", picture.size, "white")
    white.alpha_composite(picture)
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = white.convert("RGB").crop((left, top, left + side, top + side))
    return np.asarray(square.resize((size_px, size_px), Image.Resampling.LANCZOS))
