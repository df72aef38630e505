"""The three networks of StarGAN v2 (arXiv:1912.01865): generator, mapping network, style encoder."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

SLOPE = 0.2
FIXED = 2  # blocks at the smallest size that change neither size nor width, in either half of the generator


class ResidualBlock(nn.Module):
    """Two 3x3 convs, instance-normed before or not, added to the input; both halved or not."""

    def __init__(self, before: int, after: int, is_normed: bool, halves: bool) -> None:
        super().__init__()
        self.halves = halves
        self.conv1 = nn.Conv2d(before, before, 3, padding=1)
        self.conv2 = nn.Conv2d(before, after, 3, padding=1)
        self.norm1, self.norm2 = (
            nn.InstanceNorm2d(before, affine=True) if is_normed else nn.Identity() for _ in range(2)
        )
        self.conv1x1 = nn.Conv2d(before, after, 1, bias=False) if before != after else nn.Identity()

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, after, H, W) or (N, after, H/2, W/2) float32."""
        change = self.conv1(F.leaky_relu(self.norm1(maps), SLOPE))
        kept = self.conv1x1(maps)
        if self.halves:
            change, kept = F.avg_pool2d(change, 2), F.avg_pool2d(kept, 2)
        change = self.conv2(F.leaky_relu(self.norm2(change), SLOPE))
        mixed: torch.Tensor = (kept + change) / math.sqrt(2)
        return mixed


class StyledNorm(nn.Module):
    """Instance norm whose scale and shift a linear layer makes of the style."""

    def __init__(self, style: int, channels: int) -> None:
        super().__init__()
        self.norm = nn.InstanceNorm2d(channels)
        self.fc = nn.Linear(style, 2 * channels)

    def forward(self, maps: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        """(N, channels, H, W) float32; `style` (N, S)."""
        scale, shift = self.fc(style)[:, :, None, None].chunk(2, dim=1)
        normed: torch.Tensor = self.norm(maps)
        styled: torch.Tensor = (1 + scale) * normed + shift
        return styled


class StyledBlock(nn.Module):
    """Two 3x3 convs after styled norms, doubled or not; added to the input, unless there is a high-pass filter."""

    def __init__(self, style: int, before: int, after: int, doubles: bool, has_filter: bool) -> None:
        super().__init__()
        self.doubles, self.has_filter = doubles, has_filter
        self.conv1 = nn.Conv2d(before, after, 3, padding=1)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)
        self.norm1, self.norm2 = StyledNorm(style, before), StyledNorm(style, after)
        # In the file even where a filter takes its place.
        self.conv1x1 = nn.Conv2d(before, after, 1, bias=False) if before != after else nn.Identity()

    def forward(self, maps: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        """(N, after, H, W) or (N, after, 2H, 2W) float32; `style` (N, S)."""
        change = F.leaky_relu(self.norm1(maps, style), SLOPE)
        if self.doubles:
            change, maps = (F.interpolate(each, scale_factor=2.0, mode="nearest") for each in (change, maps))
        change = self.conv2(F.leaky_relu(self.norm2(self.conv1(change), style), SLOPE))
        mixed: torch.Tensor = change if self.has_filter else (self.conv1x1(maps) + change) / math.sqrt(2)
        return mixed


class HighPass(nn.Module):
    """The filter that masked maps go through; without masks it is not used, but it is in the file."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filter", torch.zeros(3, 3))


class TranslatingGenerator(nn.Module):
    """Encoder and styled decoder.

    Args:
        widths: of the maps after the first conv and after each block of the encoder.
        style: its length.
        has_filter: whether the network was trained with a high-pass filter.
    """

    def __init__(self, widths: Sequence[int], style: int, has_filter: bool) -> None:
        super().__init__()
        pairs = list(pairwise(widths))
        halving = [place < len(pairs) - FIXED for place in range(len(pairs))]
        self.from_rgb = nn.Conv2d(3, widths[0], 3, padding=1)
        self.encode = nn.ModuleList(
            ResidualBlock(*pair, is_normed=True, halves=halves) for pair, halves in zip(pairs, halving, strict=True)
        )
        self.decode = nn.ModuleList(
            StyledBlock(style, after, before, doubles, has_filter)
            for (before, after), doubles in reversed(list(zip(pairs, halving, strict=True)))
        )
        self.to_rgb = nn.Sequential(
            nn.InstanceNorm2d(widths[0], affine=True), nn.LeakyReLU(SLOPE), nn.Conv2d(widths[0], 3, 1)
        )
        if has_filter:
            self.hpf = HighPass()

    def forward(self, image: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) float32, about [-1, 1], from `image` (N, 3, H, W) in [-1, 1] and `style` (N, S)."""
        maps = self.from_rgb(image)
        for block in self.encode:
            maps = block(maps)
        for block in self.decode:
            maps = block(maps, style)
        translated: torch.Tensor = self.to_rgb(maps)
        return translated


def _of_label(styles: Sequence[torch.Tensor], label: torch.Tensor) -> torch.Tensor:
    """Each item's own of the styles (N, S) of all domains: by multiplication, so that every engine has it."""
    chosen = F.one_hot(label, len(styles)).to(torch.float32)
    return (torch.stack(list(styles), dim=1) * chosen[:, :, None]).sum(1)


class MappingNetwork(nn.Module):
    """A latent -> its style in each domain."""

    def __init__(self, latent: int, hidden: int, style: int, domains: int) -> None:
        super().__init__()
        self.shared = nn.Sequential(*_perceptron(latent, hidden, hidden), nn.ReLU())
        self.unshared = nn.ModuleList(nn.Sequential(*_perceptron(hidden, hidden, style)) for _ in range(domains))

    def forward(self, latent: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """(N, S) float32 from `latent` (N, Z) float32 and `label` (N,) int64."""
        shared = self.shared(latent)
        return _of_label([network(shared) for network in self.unshared], label)


def _perceptron(before: int, hidden: int, after: int) -> list[nn.Module]:
    """Four linear layers."""
    sizes = [before, hidden, hidden, hidden, after]
    layers: list[nn.Module] = []
    for pair in pairwise(sizes):
        layers += [nn.Linear(*pair), nn.ReLU()]
    return layers[:-1]


class StyleEncoder(nn.Module):
    """A reference image -> its style in each domain.

    Args:
        widths: of the maps after the first conv and after each block.
        style: its length.
        domains: their number.
    """

    def __init__(self, widths: Sequence[int], style: int, domains: int) -> None:
        super().__init__()
        blocks = [ResidualBlock(*pair, is_normed=False, halves=True) for pair in pairwise(widths)]
        ending = [nn.LeakyReLU(SLOPE), nn.Conv2d(widths[-1], widths[-1], 4), nn.LeakyReLU(SLOPE)]
        self.shared = nn.Sequential(nn.Conv2d(3, widths[0], 3, padding=1), *blocks, *ending)
        self.unshared = nn.ModuleList(nn.Linear(widths[-1], style) for _ in range(domains))

    def forward(self, image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """(N, S) float32 from `image` (N, 3, size, size) float32 in [-1, 1] and `label` (N,) int64."""
        found = self.shared(image).flatten(1)
        return _of_label([linear(found) for linear in self.unshared], label)
