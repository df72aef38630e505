"""The fixed inputs on which graphs are traced and compared: latents by seed, labels in turn, images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from artifact.shapes import Sides
from models.architecture import Bounds, Generator

PHOTOGRAPH = Path(__file__).parents[1] / "pictures" / "astronaut.png"

Arrays = dict[str, NDArray[np.generic]]


def synthetic_image(height: int, width: int, channels: int, seed: int = 0) -> NDArray[np.uint8]:
    """An image (H, W, C) uint8 with slopes, hard edges, fine stripes and noise, the same for the same arguments."""
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


def noise(height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """(H, W, C) uint8, each value 0 or 255 by chance: squares of 1 px in the left third, then of 2, then of 5."""
    random = np.random.RandomState(0)
    levels = np.empty((height, width, channels), np.uint8)
    for third, size in enumerate((1, 2, 5)):
        squares = random.randint(0, 2, (-(-height // size), -(-width // size), channels)) * 255
        left = third * width // 3
        levels[:, left:] = squares.repeat(size, axis=0).repeat(size, axis=1)[:height, : width - left]
    return levels


def drawing(height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """(H, W, C) uint8 as in comics: soft-edged discs of flat colours, dark outlines, and thin lines across."""
    random = np.random.RandomState(0)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    size = min(height, width)
    levels = np.full((height, width, channels), 230.0)

    def paint(colour: NDArray[np.float64], cover: NDArray[np.float64]) -> None:
        share = np.clip(cover, 0, 1)[..., None]
        levels[:] = levels * (1 - share) + colour * share

    black = np.zeros(channels)
    for _ in range(12):
        distance = np.hypot(y - random.uniform(0, height), x - random.uniform(0, width))
        radius = random.uniform(0.05, 0.35) * size
        paint(random.uniform(0, 255, channels), radius - distance + 0.5)
        paint(black, random.uniform(0.6, 1.6) - np.abs(distance - radius) + 0.5)
    for _ in range(20):
        angle = random.uniform(0, np.pi)
        along = (x - random.uniform(0, width)) * np.cos(angle) + (y - random.uniform(0, height)) * np.sin(angle)
        paint(random.choice([0.0, 255.0], channels), random.uniform(0.3, 1.0) - np.abs(along) + 0.5)
    return np.asarray(levels.round(), dtype=np.uint8)


def photograph(height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """The middle (H, W, C) uint8 of the shipped photograph, mirrored at its borders if it is too small."""
    with Image.open(PHOTOGRAPH) as image:
        pixels = np.asarray(image.convert("RGB"))
    pixels = pixels[..., np.arange(channels) % 3]
    missing = [max(0, size - have) for size, have in zip((height, width), pixels.shape, strict=False)]
    pixels = np.pad(pixels, [(0, missing[0]), (0, missing[1]), (0, 0)], mode="symmetric")
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[top : top + height, left : left + width]


def sample_inputs(
    generator: Generator, tensors: str, seeds: Sequence[int], size_px: tuple[int, int] = (24, 32)
) -> Arrays:
    """The graph's inputs by name, in the network's order, one item per seed.

    `size_px` is (H, W) of input images, raised to the network's minimum and multiple, unless it takes one size only.
    Attributes are the seed's bits; references are other images, given for odd seeds. Latent and noise of a seed come
    from one stream, as in the server. Truncation falls with the seed, odd seeds are generated from `w`, and all but
    seed 0 are moved and turned.
    """
    if not generator.task.draws:
        sides = Sides(generator.multiple_px, generator.least_px)
        height, width = generator.image_size_px if any(generator.image_size_px) else map(sides.fit, size_px)
        stacked = np.stack([synthetic_image(height, width, generator.image_channels, seed) for seed in seeds])
        stacked = (stacked.astype(np.int64) * generator.input_levels // 256).astype(np.uint8)
        image: NDArray[np.generic] = stacked if tensors == "uint8" else encode_images(stacked, generator)
        found: Arrays = {"image": image, **_beside_image(generator, tensors, seeds)}
        return {name: found[name] for name in generator.inputs}
    size = generator.latent_size
    streams = np.concatenate([np.random.RandomState(seed).randn(1, size + generator.noise_size) for seed in seeds])
    layers, length = generator.w_shape or (1, 1)
    arrays: Arrays = {
        "latent": streams[:, :size].astype(np.float32),
        "label": np.array([seed % max(1, generator.classes) for seed in seeds], dtype=np.int64),
        "noise": streams[:, size:].astype(np.float32),
        "truncation_psi": np.array([1.0 - 0.15 * seed for seed in seeds], dtype=np.float32),
        "w": np.random.RandomState(len(seeds)).randn(len(seeds), layers, length).astype(np.float32),
        "w_given": np.array([seed % 2 for seed in seeds], dtype=np.float32),
        "transform": np.array([[0.03 * seed, -0.02 * seed, 15 * seed] for seed in seeds], dtype=np.float32),
    }
    return {name: arrays[name] for name in generator.inputs}


def _beside_image(generator: Generator, tensors: str, seeds: Sequence[int]) -> Arrays:
    """What a network may take beside the image."""
    bits = [[seed >> place & 1 for place in range(len(generator.attributes))] for seed in seeds]
    latents = [np.random.RandomState(seed).randn(generator.latent_size) for seed in seeds]
    arrays: Arrays = {
        "attributes": np.array(bits, np.float32),
        "label": np.array([seed % max(1, generator.classes) for seed in seeds], dtype=np.int64),
        "latent": np.stack(latents).astype(np.float32),
        "reference_given": np.array([seed % 2 for seed in seeds], dtype=np.float32),
    }
    if any(generator.reference_size_px):
        images = [synthetic_image(*generator.reference_size_px, generator.image_channels, 100 + seed) for seed in seeds]
        references = np.stack(images)
        arrays["reference"] = references if tensors == "uint8" else scale_images(references, generator.input_range)
    return arrays


def encode_images(images: NDArray[np.uint8], generator: Generator) -> NDArray[np.float32]:
    """The network's input (N, C, H, W) float32 from `images` (N, H, W, C) uint8."""
    if generator.encode is None:
        return scale_images(images, generator.input_range)
    with torch.no_grad():
        levels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32))
        found: NDArray[np.float32] = generator.encode(levels).numpy()
    return found


def scale_images(images: NDArray[np.uint8], bounds: Bounds) -> NDArray[np.float32]:
    """(N, C, H, W) float32 in `bounds` from (N, H, W, C) uint8."""
    low, high = (np.reshape(bound, (-1, 1, 1)) for bound in bounds)
    values = low + images.transpose(0, 3, 1, 2).astype(np.float32) * ((high - low) / 255.0)
    return np.ascontiguousarray(values, dtype=np.float32)


def to_uint8(values: NDArray[np.generic], bounds: Bounds) -> NDArray[np.uint8]:
    """(N, H, W, C) uint8 from (N, C, H, W) floating point in `bounds`: what `export.graph.pixels.ToUint8` gives."""
    low, high = (np.reshape(bound, (-1, 1, 1)) for bound in bounds)
    levels = np.rint((values.astype(np.float64) - low) * (255.0 / (high - low)))
    return np.asarray(np.clip(levels, 0, 255).transpose(0, 2, 3, 1), dtype=np.uint8)
