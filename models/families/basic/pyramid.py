"""The network of `lapgan.py`: a pyramid of generators in one graph, with OpenCV's pyrUp between them."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Variant:
    """What a training repository computes that its files do not say.

    `slope`: of all hidden LeakyReLUs, 0 for ReLU. `sigmoid`: the base's last hidden activation is one instead.
    `norm_first`: BatchNorm before the activation. `tanh`: after every level. `clamp`: the image at the end, to -1..1.
    Latent and noise: `uniform` in -noise_std..noise_std, else normal.
    """

    name: str
    slope: float
    sigmoid: bool
    norm_first: bool
    tanh: bool
    clamp: bool
    noise_std: float
    uniform: bool = False
    eps: float = 1e-5


WITNESSAI = Variant("witnessai", 0.0, sigmoid=True, norm_first=False, tanh=False, clamp=False, noise_std=0.1)
ANIRUDHMAIYA = Variant("anirudhmaiya", 0.2, sigmoid=False, norm_first=True, tanh=True, clamp=True, noise_std=1.0)


@dataclass(frozen=True)
class LevelConfig:
    """A residual level: channels after each conv but the last, kernel sides, and which convs have a bias."""

    widths: tuple[int, ...]
    kernels_px: tuple[int, ...]
    normed: bool
    biased: tuple[bool, ...]


class Base(nn.Module):
    """The coarsest level: (N, Z) float32 -> (N, C, S, S), by linear layers between the given widths."""

    def __init__(self, widths: Sequence[int], channels: int, size_px: int, variant: Variant) -> None:
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(before, after) for before, after in itertools.pairwise(widths))
        self.shape = (channels, size_px, size_px)
        self.variant = variant

    def forward(self, latent: Tensor) -> Tensor:
        values, last = latent, len(self.linears) - 1
        for index, linear in enumerate(self.linears):
            values = linear(values)
            if index == last - 1 and self.variant.sigmoid:
                values = values.sigmoid()
            elif index < last:
                values = nn.functional.leaky_relu(values, self.variant.slope)
        image: Tensor = values.tanh() if self.variant.tanh else values
        return image.reshape(-1, *self.shape)


class Residual(nn.Module):
    """A finer level: enlarged image (N, C, S, S) and noise (N, 1, S, S) -> what is added, (N, C, S, S)."""

    def __init__(self, channels: int, config: LevelConfig, variant: Variant) -> None:
        super().__init__()
        steps = itertools.pairwise((channels + 1, *config.widths, channels))
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, side, padding=side // 2, bias=bias)
            for (before, after), side, bias in zip(steps, config.kernels_px, config.biased, strict=True)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width, variant.eps) for width in config.widths if config.normed)
        self.variant = variant

    def forward(self, enlarged: Tensor, noise: Tensor) -> Tensor:
        values = torch.cat([enlarged, noise], 1)
        for index, conv in enumerate(self.convs[:-1]):
            values = self._between(conv(values), index)
        added: Tensor = self.convs[-1](values)
        return added.tanh() if self.variant.tanh else added

    def _between(self, values: Tensor, index: int) -> Tensor:
        if not self.norms:
            return nn.functional.leaky_relu(values, self.variant.slope)
        if self.variant.norm_first:
            return nn.functional.leaky_relu(self.norms[index](values), self.variant.slope)
        normed: Tensor = self.norms[index](nn.functional.leaky_relu(values, self.variant.slope))
        return normed


class Pyramid(nn.Module):
    """All levels, coarse to fine.

    Args:
        widths: of the base: latent, hidden layers, values of its image.
        channels: of every image.
        base_px: side of the base's image; each residual level doubles it.
        configs: of the residual levels.
        variant: whose function it is.
    """

    def __init__(
        self, widths: Sequence[int], channels: int, base_px: int, configs: Sequence[LevelConfig], variant: Variant
    ) -> None:
        super().__init__()
        residuals = (Residual(channels, config, variant) for config in configs)
        self.levels = nn.ModuleList([Base(widths, channels, base_px, variant), *residuals])
        self.variant = variant
        self.sides_px = [base_px * 2**level for level in range(1, len(configs) + 1)]
        self.size_px = self.sides_px[-1]
        self.noise_size = sum(side**2 for side in self.sides_px)

    def forward(self, latent: Tensor, noise: Tensor) -> Tensor:
        """Images (N, C, H, W) float32, nominally -1..1, from `latent` (N, Z) and the levels' noise maps in a row,
        `noise` (N, sum of side^2), coarse to fine, row by row; both float32, standard normal.
        """
        image: Tensor = self.levels[0](self._distributed(latent))
        maps = torch.split(self._distributed(noise), [side**2 for side in self.sides_px], 1)
        for level, side, numbers in zip(self.levels[1:], self.sides_px, maps, strict=True):
            enlarged = pyr_up(image)
            image = enlarged + level(enlarged, numbers.reshape(-1, 1, side, side))
        return image.clamp(-1, 1) if self.variant.clamp else image

    def _distributed(self, normal: Tensor) -> Tensor:
        """Standard normal numbers as the variant was trained on."""
        numbers = torch.erf(normal / math.sqrt(2)) if self.variant.uniform else normal
        return numbers * self.variant.noise_std


def pyr_up(images: Tensor) -> Tensor:
    """OpenCV's pyrUp: (N, C, H, W) float32 -> (N, C, 2 H, 2 W); H, W >= 2.

    Zeros between the pixels, then the binomial kernel (1, 4, 6, 4, 1) / 8 along each axis. The borders differ: above
    and to the left the image is mirrored without its edge, below and to the right its edge is repeated.
    """
    return _double(_double(images).transpose(2, 3)).transpose(2, 3)


def _double(images: Tensor) -> Tensor:
    """Doubles the last axis."""
    around = torch.cat([images[..., 1:2], images, images[..., -1:]], -1)
    before, here, after = around[..., :-2], around[..., 1:-1], around[..., 2:]
    pairs = torch.stack([(before + 6 * here + after) / 8, (here + after) / 2], -1)
    return pairs.flatten(-2)


def pyr_down(images: Tensor) -> Tensor:
    """OpenCV's pyrDown: (N, C, H, W) float32, H and W even -> (N, C, H/2, W/2): the same kernel, every other pixel.

    Borders are mirrored without their edge.
    """
    kernel = images.new_tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    channels = images.shape[1]
    padded = nn.functional.pad(images, (2, 2, 2, 2), mode="reflect")
    weights = (kernel[:, None] * kernel).expand(channels, 1, 5, 5)
    return nn.functional.conv2d(padded, weights, stride=2, groups=channels)
