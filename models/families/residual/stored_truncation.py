"""What BigGAN-deep needs of a truncation: statistics of batch norm by psi, and normal numbers cut off.

See models/families/residual/biggan_deep.py for where this comes from.
"""

import math

import torch
from torch import nn

SNAP = 5e-3  # of the distance between stored values: 1e-4 of psi where there are 51
CUT = 2.0
# M. Giles, "Approximating the erfinv function", 2010, single precision, the branch for -log(1 - x^2) < 5.
ERFINV = (
    2.81022636e-08,
    3.43273939e-07,
    -3.5233877e-06,
    -4.39150654e-06,
    0.00021858087,
    -0.00125372503,
    -0.00417768164,
    0.246640727,
    1.50140941,
)


def erfinv(x: torch.Tensor) -> torch.Tensor:
    """The inverse of erf for |x| < 0.99, to 3e-7 of its value, in plain operations."""
    w = -torch.log((1.0 - x) * (1.0 + x)) - 2.5
    total = torch.full_like(w, ERFINV[0])
    for coefficient in ERFINV[1:]:
        total = coefficient + total * w
    return total * x


def cut_off(latent: torch.Tensor) -> torch.Tensor:
    """Standard normal numbers as the normal distribution cut off at -2 and 2 has them at the same rank."""
    half = math.sqrt(0.5)
    return erfinv(math.erf(CUT * half) * torch.erf(latent * half)) / half


def weights_at_stored(stats: int) -> torch.Tensor:
    """(stats, stats) float32: row k weights the stored statistics as the repository does for psi = k / (stats - 1)."""
    step = 1.0 / (stats - 1)
    table = torch.zeros(stats, stats, dtype=torch.float64)
    for row in range(stats):
        fraction, start = math.modf(row / (stats - 1) / step)
        lower = int(start)
        table[row, lower] += fraction if fraction else 1.0
        if fraction:
            table[row, min(lower + 1, stats - 1)] += 1.0 - fraction
    return table.float()


class StatisticsWeights(nn.Module):
    """How much of each stored statistic a psi takes."""

    stored: torch.Tensor
    index: torch.Tensor

    def __init__(self, stats: int) -> None:
        super().__init__()
        self.last = stats - 1
        self.register_buffer("stored", weights_at_stored(stats), persistent=False)
        self.register_buffer("index", torch.arange(stats, dtype=torch.float32)[None], persistent=False)

    def forward(self, psi: torch.Tensor) -> torch.Tensor:
        """(N, stats) float32, rows summing to 1, from `psi` (N,) float32 in (0, 1]."""
        place = (psi.clamp(0.0, 1.0) * self.last)[:, None]
        nearest = torch.round(place)
        lower = torch.floor(place)
        fraction = place - lower
        between = (self.index == lower) * fraction + (self.index == lower + 1.0) * (1.0 - fraction)
        at_stored = (self.index == nearest).to(torch.float32) @ self.stored
        return torch.where((place - nearest).abs() < SNAP, at_stored, between)


class Constant(nn.Module):
    """The same `size` numbers whatever comes in."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(1, size))

    def forward(self, vector: torch.Tensor) -> torch.Tensor:
        """(1, size) float32."""
        return self.values


class StoredNorm(nn.Module):
    """Batch norm with statistics for each truncation; `affine` gives (N or 1, 2C) gains and biases from D numbers."""

    statistics: torch.Tensor

    def __init__(self, channels: int, stats: int, conditioned: int, affine: nn.Module, eps: float) -> None:
        super().__init__()
        self.register_buffer("statistics", torch.zeros(stats, 2 * channels))
        self.affine = affine
        self.sizes = [conditioned, stats]
        self.eps = eps

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) float32 from `x`, the same, and `condition` (N, D + stats): vector, weights of statistics."""
        vector, weights = torch.split(condition, self.sizes, dim=1)
        mean, variance = (weights @ self.statistics).chunk(2, dim=1)
        gain, bias = self.affine(vector).chunk(2, dim=1)
        gain = gain * torch.rsqrt(variance + self.eps)
        normed: torch.Tensor = (x - mean[:, :, None, None]) * gain[:, :, None, None] + bias[:, :, None, None]
        return normed
