"""Pairs of faces to learn enlarging from: drawn by the zoo's `faces` and shrunk four times with Pillow."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from models.catalogue import build
from models.checkpoints.read import read
from models.zoo import fetch
from training.data.packages import DataError

SIDE_PX = 64
SCALE = 4
TRAINED = range(4000)
HELD_OUT = range(1_000_000, 1_000_500)
ROWS = 50  # drawn at once


@dataclass(frozen=True)
class Pairs:
    """Row i of both is the same face: `high` (N, 3, 64, 64) uint8, `low` (N, 3, 16, 16) uint8."""

    high: Tensor
    low: Tensor


def load(seeds: range, cache_dir: Path | None = None, progress: Callable[[str], None] = lambda line: None) -> Pairs:
    """The faces of `seeds`, as the server draws them, and their bicubic reductions.

    Raises:
        DataError: the weights of `faces` cannot be fetched.
    """
    try:
        path = fetch.pull("faces", cache_dir, progress)
    except fetch.ZooError as error:
        raise DataError(str(error)) from None
    generator = build(read(path).state)[1]
    progress(f"drawing {len(seeds)} faces")
    high = draw(generator.network, seeds, generator.latent_size)
    return Pairs(high, resize(high, SIDE_PX // SCALE))


@torch.no_grad()
def draw(generator: nn.Module, seeds: range, latent_size: int) -> Tensor:
    """Pictures (N, 3, 64, 64) uint8; the latent of seed s is `numpy.random.RandomState(s).randn(1, latent_size)`."""
    drawn = []
    for first in range(0, len(seeds), ROWS):
        rows = [np.random.RandomState(seed).randn(1, latent_size) for seed in seeds[first : first + ROWS]]
        latents = torch.from_numpy(np.concatenate(rows).astype(np.float32))
        drawn.append(to_levels((generator(latents) + 1) / 2))
    return torch.cat(drawn)


def resize(pictures: Tensor, side_px: int) -> Tensor:
    """Pillow's bicubic, larger or smaller: (N, 3, side_px, side_px) uint8 from (N, 3, H, W) uint8."""
    rows = [
        Image.fromarray(picture).resize((side_px, side_px), Image.Resampling.BICUBIC) for picture in to_hwc(pictures)
    ]
    return torch.from_numpy(np.stack([np.asarray(row) for row in rows])).permute(0, 3, 1, 2).contiguous()


def to_levels(pictures: Tensor) -> Tensor:
    """0..1 float32 -> uint8, clamped and rounded."""
    return (pictures * 255).round().clamp(0, 255).to(torch.uint8)


def to_hwc(pictures: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """(N, H, W, C) uint8 from (N, C, H, W) uint8, as Pillow takes it."""
    found: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] = pictures.permute(0, 2, 3, 1).contiguous().numpy()
    return found
