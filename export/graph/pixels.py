"""Puts pixels inside the graph: uint8 NHWC at the borders, the network's own range and layout within.

Out: level = round_half_to_even(clamp((y - low) / (high - low) * 255, 0, 255)), as one multiply and one add.
In:  x = low + level * (high - low) / 255.
The cast to uint8 is the very last node, after the transpose, and the cast from uint8 the very first: TensorRT takes
UINT8 only at a network's inputs and outputs.
"""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from models.architecture import Bounds, Generator


class Linear(nn.Module):
    """`picture * gain + offset`, one pair of numbers for all channels or one for each."""

    gain: torch.Tensor | float
    offset: torch.Tensor | float

    def __init__(self, gain: float | Sequence[float], offset: float | Sequence[float]) -> None:
        super().__init__()
        if isinstance(gain, float) and isinstance(offset, float):
            self.gain, self.offset = gain, offset
        else:
            self.register_buffer("gain", torch.tensor(gain).reshape(-1, 1, 1))
            self.register_buffer("offset", torch.tensor(offset).reshape(-1, 1, 1))

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) floating point from the same."""
        scaled = picture * self.gain
        if isinstance(self.offset, float) and self.offset == 0:
            return scaled
        return scaled + self.offset


def to_levels(bounds: Bounds) -> Linear:
    """The picture's values -> levels: low to 0, high to 255."""
    gain = _each(bounds, lambda low, high: 255.0 / (high - low))
    return Linear(gain, _each(bounds, lambda low, high: -low * 255.0 / (high - low)))


def from_levels(bounds: Bounds) -> Linear:
    """Levels -> the picture's values."""
    return Linear(_each(bounds, lambda low, high: (high - low) / 255.0), _each(bounds, lambda low, high: low))


def _each(bounds: Bounds, number: Callable[[float, float], float]) -> float | list[float]:
    low, high = bounds
    if isinstance(low, tuple) and isinstance(high, tuple):
        return [float(number(*pair)) for pair in zip(low, high, strict=True)]
    assert not isinstance(low, tuple)
    assert not isinstance(high, tuple), "both bounds are numbers, or both are one for each channel"
    return float(number(low, high))


class Levels(nn.Module):
    """(N, C, H, W) in the network's range -> (N, H, W, C) uint8."""

    def __init__(self, bounds: Bounds) -> None:
        super().__init__()
        self.linear = to_levels(bounds)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """(N, H, W, C) uint8, 0..255, from `picture` (N, C, H, W) floating point."""
        levels: torch.Tensor = self.linear(picture)
        return levels.clamp(0.0, 255.0).round().permute(0, 2, 3, 1).to(torch.uint8)


class DrawnPixels(nn.Module):
    """A drawing network that gives (N, H, W, C) uint8 from the same inputs."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.network = generator.network
        self.levels = Levels(generator.output_range)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Pictures (N, H, W, C) uint8 from what `Generator.inputs` lists."""
        levels: torch.Tensor = self.levels(self.network(*inputs))
        return levels


class TranslatedPixels(nn.Module):
    """A picture-to-picture network that takes and gives (N, H, W, C) uint8."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.network = generator.network
        self.encode = generator.encode or from_levels(generator.input_range)
        self.levels = Levels(generator.output_range)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Pictures (N, scale*H, scale*W, C) uint8 from `image` (N, H, W, C) uint8."""
        levels = image.to(torch.float32).permute(0, 3, 1, 2)
        picture: torch.Tensor = self.levels(self.network(self.encode(levels)))
        return picture


def wrap(generator: Generator, tensors: str) -> nn.Module:
    """What is exported: the generator with pixels inside ("uint8"), or the network as it is ("float32")."""
    if tensors == "float32":
        return generator.network
    return (DrawnPixels(generator) if generator.task.draws else TranslatedPixels(generator)).eval()
