"""Puts pixels inside the graph: uint8 NHWC at the borders, the network's own range and layout within.

Out: level = round_half_to_even(clamp((y - low) / (high - low) * 255, 0, 255)), as one multiply and one add.
In:  x = low + level * (high - low) / 255.
The cast to uint8 is the very last node, after the transpose, and the cast from uint8 the very first: TensorRT takes
UINT8 only at a network's inputs and outputs.
"""

import torch
from torch import nn

from models.architecture import Generator


class Levels(nn.Module):
    """(N, C, H, W) in the network's range -> (N, H, W, C) uint8."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.gain = 255.0 / (high - low)
        self.offset = -low * self.gain

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """(N, H, W, C) uint8, 0..255, from `picture` (N, C, H, W) floating point."""
        levels = picture * self.gain
        if self.offset:
            levels = levels + self.offset
        return levels.clamp(0.0, 255.0).round().permute(0, 2, 3, 1).to(torch.uint8)


class DrawnPixels(nn.Module):
    """A drawing network that gives (N, H, W, C) uint8."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.network = generator.network
        self.levels = Levels(*generator.output_range)

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """Pictures (N, H, W, C) uint8 from `latent` (N, Z) float32."""
        levels: torch.Tensor = self.levels(self.network(latent))
        return levels


class LabelledPixels(DrawnPixels):
    """The same with a class label."""

    def forward(self, latent: torch.Tensor, label: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Pictures (N, H, W, C) uint8 from `latent` (N, Z) float32 and `label` (N,) int64."""
        levels: torch.Tensor = self.levels(self.network(latent, label))
        return levels


class TranslatedPixels(nn.Module):
    """A picture-to-picture network that takes and gives (N, H, W, C) uint8."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        low, high = generator.input_range
        self.network = generator.network
        self.low = low
        self.step = (high - low) / 255.0
        self.levels = Levels(*generator.output_range)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Pictures (N, scale*H, scale*W, C) uint8 from `image` (N, H, W, C) uint8."""
        scaled = image.to(torch.float32).permute(0, 3, 1, 2) * self.step
        if self.low:
            scaled = scaled + self.low
        levels: torch.Tensor = self.levels(self.network(scaled))
        return levels


def wrap(generator: Generator, tensors: str) -> nn.Module:
    """What is exported: the generator with pixels inside ("uint8"), or the network as it is ("float32")."""
    if tensors == "float32":
        return generator.network
    if not generator.task.draws:
        return TranslatedPixels(generator).eval()
    return (LabelledPixels(generator) if generator.classes else DrawnPixels(generator)).eval()
