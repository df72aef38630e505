"""LAPGAN as three repositories define and sample it, level by level; `pyr_up` as OpenCV's source computes it.

Modules, names, layer order and the sampling loop follow witnessai/LAPGAN (MNIST: no BatchNorm, uniform noise; CIFAR-10:
BatchNorm after ReLU, normal noise of 0.1), AnirudhMaiya/pytorch-LapGAN and breadbread1984/LAPGAN-pt, in small.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn


class WitnessBase(nn.Module):
    def __init__(self, latent: int, hidden: int, channels: int, side: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(latent, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.fc3 = nn.Linear(hidden, channels * side * side)
        self.view = (channels, side, side)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.fc1(x))
        x = torch.sigmoid(self.fc2(x))
        image: Tensor = self.fc3(x).view(-1, *self.view)
        return image


class WitnessPlainLevel(nn.Module):
    """The MNIST one: no BatchNorm, wide kernels."""

    def __init__(self, channels: int, width: int, kernels: tuple[int, int, int]) -> None:
        super().__init__()
        sizes = [(channels + 1, width), (width, width), (width, channels)]
        self.conv1, self.conv2, self.conv3 = (
            nn.ConvTranspose2d(i, o, kernel_size=k, padding=k // 2) for (i, o), k in zip(sizes, kernels, strict=True)
        )

    def forward(self, x: Tensor, condi_x: Tensor) -> Tensor:
        x = torch.cat((condi_x, x), 1)
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        residual: Tensor = self.conv3(x)
        return residual


class WitnessLevel(nn.Module):
    """The CIFAR-10 one: ReLU, then BatchNorm."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.ConvTranspose2d(channels + 1, width, kernel_size=3, padding=1)
        self.conv2 = nn.ConvTranspose2d(width, width, kernel_size=3, padding=1)
        self.conv3 = nn.ConvTranspose2d(width, channels, kernel_size=3, padding=1)
        self.bn1 = nn.BatchNorm2d(width)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor, condi_x: Tensor) -> Tensor:
        x = torch.cat((condi_x, x), 1)
        x = self.bn1(F.relu(self.conv1(x)))
        x = self.bn2(F.relu(self.conv2(x)))
        residual: Tensor = self.conv3(x)
        return residual


class BreadLevel(nn.Module):
    """Plain convs; a functional model names its layers by number, as it met them."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.module001_depth001 = nn.Conv2d(channels + 1, width, kernel_size=(3, 3), padding=1)
        self.module003_depth003 = nn.BatchNorm2d(width)
        self.module004_depth004 = nn.Conv2d(width, width, kernel_size=(3, 3), padding=1)
        self.module006_depth006 = nn.BatchNorm2d(width)
        self.module007_depth007 = nn.Conv2d(width, channels, kernel_size=(3, 3), padding=1)

    def forward(self, x: Tensor, condi_x: Tensor) -> Tensor:
        x = torch.cat([condi_x, x], 1)
        x = self.module003_depth003(F.relu(self.module001_depth001(x)))
        x = self.module006_depth006(F.relu(self.module004_depth004(x)))
        residual: Tensor = self.module007_depth007(x)
        return residual


class AnirudhBase(nn.Module):
    def __init__(self, latent: int, hidden: int, side: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(latent, hidden)
        self.a1 = nn.LeakyReLU(0.2, inplace=True)
        self.fc2 = nn.Linear(hidden, hidden)
        self.a2 = nn.LeakyReLU(0.2, inplace=True)
        self.fc3 = nn.Linear(hidden, side * side)
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        x = self.a1(self.fc1(x))
        x = self.a2(self.fc2(x))
        return torch.tanh(self.fc3(x)).view(-1, 1, self.side, self.side)


class AnirudhLevel(nn.Module):
    """BatchNorm, then LeakyReLU; tanh; no conv has a bias."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        sizes = (2, *widths, 1)
        self.depth = len(widths)
        for at in range(1, self.depth + 2):
            conv = nn.ConvTranspose2d(sizes[at - 1], sizes[at], kernel_size=3, padding=1, bias=False)
            setattr(self, f"c{at}", conv)
            if at <= self.depth:
                setattr(self, f"b{at}", nn.BatchNorm2d(sizes[at]))

    def forward(self, x: Tensor, upsampled: Tensor) -> Tensor:
        x = torch.cat((upsampled, x), dim=1)
        for at in range(1, self.depth + 1):
            x = F.leaky_relu(getattr(self, f"b{at}")(getattr(self, f"c{at}")(x)), 0.2)
        return torch.tanh(getattr(self, f"c{self.depth + 1}")(x))


class Lapgan(nn.Module):
    """The levels, coarse to fine, and the repositories' loop over them; noise comes as sampled for each level."""

    def __init__(self, *levels: nn.Module, clamp: bool = False) -> None:
        super().__init__()
        self.levels = nn.ModuleList(levels)
        self.clamp = clamp

    def forward(self, latent: Tensor, noise: Tensor) -> Tensor:
        image: Tensor = self.levels[0](latent)
        for level in self.levels[1:]:
            rows = [[torch.from_numpy(pyr_up(plane.numpy())) for plane in planes] for planes in image]
            upsampled = torch.stack([torch.stack(planes) for planes in rows])
            side = upsampled.shape[2]
            own, noise = noise[:, : side * side], noise[:, side * side :]
            image = level(own.reshape(-1, 1, side, side), upsampled) + upsampled
        return torch.clamp(image, -1, 1) if self.clamp else image


def pyr_up(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """OpenCV's pyrUp of one plane (H, W), scalar by scalar as its C++ loop: rows first, then columns, over 64."""
    height, width = plane.shape
    rows = np.zeros((height, 2 * width), np.float64)
    for y in range(height):
        rows[y] = _line(plane[y].astype(np.float64))
    doubled = np.zeros((2 * height, 2 * width), np.float64)
    for x in range(2 * width):
        doubled[:, x] = _line(rows[:, x])
    return (doubled / 64).astype(np.float32)


def _line(source: NDArray[np.float64]) -> NDArray[np.float64]:
    n = len(source)
    line = np.zeros(2 * n)
    line[0], line[1] = source[0] * 6 + source[1] * 2, (source[0] + source[1]) * 4
    for x in range(1, n - 1):
        line[2 * x] = source[x - 1] + source[x] * 6 + source[x + 1]
        line[2 * x + 1] = (source[x] + source[x + 1]) * 4
    line[2 * n - 2], line[2 * n - 1] = source[n - 2] + source[n - 1] * 7, source[n - 1] * 8
    return line
