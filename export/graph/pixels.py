"""Puts pixels inside the graph: uint8 NHWC in and out, the network's own range and layout within.

Out: level = round_half_to_even(clamp((y - low) / (high - low) * 255, 0, 255)), as one multiply and one add.
In:  x = low + level * (high - low) / 255.
The cast to uint8 is the very last node, after the transpose, and the cast from uint8 the very first: TensorRT supports
UINT8 only at a network's inputs and outputs.
"""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from models.architecture import Bounds, Generator


class Affine(nn.Module):
    """`image * gain + offset`, with one pair of numbers for all channels or one for each."""

    gain: torch.Tensor | float
    offset: torch.Tensor | float

    def __init__(self, gain: float | Sequence[float], offset: float | Sequence[float]) -> None:
        super().__init__()
        if isinstance(gain, float) and isinstance(offset, float):
            self.gain, self.offset = gain, offset
        else:
            self.register_buffer("gain", torch.tensor(gain).reshape(-1, 1, 1))
            self.register_buffer("offset", torch.tensor(offset).reshape(-1, 1, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) floating point from the same."""
        scaled = image * self.gain
        if isinstance(self.offset, float) and self.offset == 0:
            return scaled
        return scaled + self.offset


def to_levels(bounds: Bounds) -> Affine:
    """The network's values -> levels: low to 0, high to 255."""
    gain = _each(bounds, lambda low, high: 255.0 / (high - low))
    return Affine(gain, _each(bounds, lambda low, high: -low * 255.0 / (high - low)))


def from_levels(bounds: Bounds) -> Affine:
    """Levels -> the network's values."""
    return Affine(_each(bounds, lambda low, high: (high - low) / 255.0), _each(bounds, lambda low, high: low))


def _each(bounds: Bounds, number: Callable[[float, float], float]) -> float | list[float]:
    low, high = bounds
    if isinstance(low, tuple) and isinstance(high, tuple):
        return [float(number(*pair)) for pair in zip(low, high, strict=True)]
    assert not isinstance(low, tuple)
    assert not isinstance(high, tuple), "both bounds are numbers, or both are one for each channel"
    return float(number(low, high))


class ToUint8(nn.Module):
    """(N, C, H, W) in the network's range -> (N, H, W, C) uint8."""

    def __init__(self, bounds: Bounds) -> None:
        super().__init__()
        self.scale = to_levels(bounds)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, H, W, C) uint8, 0..255, from `image` (N, C, H, W) floating point."""
        levels: torch.Tensor = self.scale(image)
        return levels.clamp(0.0, 255.0).round().permute(0, 2, 3, 1).to(torch.uint8)


class GeneratePixels(nn.Module):
    """A network that generates from latents, with output (N, H, W, C) uint8 and the same inputs."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.network = generator.network
        self.to_uint8 = ToUint8(generator.output_range)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Images (N, H, W, C) uint8 from what `Generator.inputs` lists."""
        images: torch.Tensor = self.to_uint8(self.network(*inputs))
        return images


class BesideImage(nn.Module):
    """What a network takes beside the image, from the graph's inputs: a reference is an image of levels too."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.names = generator.inputs[1:]
        self.scale = from_levels(generator.input_range)

    def forward(self, *others: torch.Tensor) -> list[torch.Tensor]:
        """All in their order, the reference (N, H, W, C) uint8 as (N, C, H, W) float32 in the network's range."""
        return [
            self.scale(other.to(torch.float32).permute(0, 3, 1, 2)) if name == "reference" else other
            for name, other in zip(self.names, others, strict=True)
        ]


class TransformPixels(nn.Module):
    """A network that upscales or translates images, with input and output (N, H, W, C) uint8."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.network = generator.network
        self.encode = generator.encode or from_levels(generator.input_range)
        self.beside = BesideImage(generator)
        self.to_uint8 = ToUint8(generator.output_range)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Images (N, scale*H, scale*W, C) uint8 from the image (N, H, W, C) uint8, and what else `Generator.inputs`
        lists.
        """
        image, *others = inputs
        levels = image.to(torch.float32).permute(0, 3, 1, 2)
        images: torch.Tensor = self.to_uint8(self.network(self.encode(levels), *self.beside(*others)))
        return images


def wrap(generator: Generator, tensors: str) -> nn.Module:
    """What is exported: the generator with pixels inside ("uint8"), or the network as it is ("float32")."""
    if tensors == "float32":
        return generator.network
    return (GeneratePixels(generator) if generator.task.draws else TransformPixels(generator)).eval()
