"""The fixed inputs on which graphs are traced and compared: latents by seed, labels in turn, pictures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.architecture import Generator

PHOTOGRAPH = Path(__file__).parents[1] / "ganserve" / "pictures" / "astronaut.png"

Arrays = dict[str, NDArray[np.generic]]


def picture(height: int, width: int, channels: int, seed: int = 0) -> NDArray[np.uint8]:
    """A picture (H, W, C) uint8 with slopes, hard edges, fine stripes and noise, the same for the same arguments."""
    random = np.random.RandomState(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    layers = []
    for channel in range(channels):
        angle = random.uniform(0, np.pi)
        along = x * np.cos(angle) + y * np.sin(angle)
        slope = 60 + 120 * (x + y) / (height + width)
        stripes = 30 * np.sin(along * (0.15 + 0.4 * channel)) + 25 * (((x // 7) + (y // 5)) % 2)
        layers.append(slope + stripes + random.normal(0, 4, (height, width)))
    levels: NDArray[np.uint8] = np.clip(np.stack(layers, axis=-1), 0, 255).astype(np.uint8)
    return levels


def photograph(height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """The middle (H, W, C) uint8 of the shipped photograph, mirrored at its borders where it is too small."""
    with Image.open(PHOTOGRAPH) as image:
        pixels = np.asarray(image.convert("RGB"))
    pixels = pixels[..., np.arange(channels) % 3]
    missing = [max(0, size - have) for size, have in zip((height, width), pixels.shape, strict=False)]
    pixels = np.pad(pixels, [(0, missing[0]), (0, missing[1]), (0, 0)], mode="symmetric")
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[top : top + height, left : left + width]


def inputs(generator: Generator, tensors: str, seeds: Sequence[int], size_px: tuple[int, int] = (24, 32)) -> Arrays:
    """The graph's inputs by name, one row per seed; `size_px` is (H, W) of pictures in."""
    if not generator.task.draws:
        stacked = np.stack([picture(*size_px, generator.channels, seed) for seed in seeds])
        return {"image": stacked if tensors == "uint8" else scaled(stacked, generator.input_range)}
    rows = [np.random.RandomState(seed).randn(1, generator.latent_size) for seed in seeds]
    arrays: Arrays = {"latent": np.concatenate(rows).astype(np.float32)}
    if generator.classes:
        arrays["label"] = np.array([seed % generator.classes for seed in seeds], dtype=np.int64)
    return arrays


def scaled(pictures: NDArray[np.uint8], bounds: tuple[float, float]) -> NDArray[np.float32]:
    """(N, C, H, W) float32 in `bounds` from (N, H, W, C) uint8."""
    low, high = bounds
    values = low + pictures.transpose(0, 3, 1, 2).astype(np.float32) * ((high - low) / 255.0)
    return np.ascontiguousarray(values, dtype=np.float32)
