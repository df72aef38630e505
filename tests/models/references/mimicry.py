"""kwotsin/mimicry's residual generators, written anew with torch's own spectral norm."""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm


class ClassNorm(nn.Module):
    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels, affine=False)
        self.embed = nn.Embedding(classes, 2 * channels)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        gamma, beta = self.embed(y).chunk(2, 1)
        out: Tensor = gamma[:, :, None, None] * self.bn(x) + beta[:, :, None, None]
        return out


def wrapped(module: nn.Module, spectral: bool) -> nn.Module:
    return spectral_norm(module) if spectral else module


class Block(nn.Module):
    def __init__(self, before: int, after: int, classes: int, spectral: bool) -> None:
        super().__init__()
        self.c1 = wrapped(nn.Conv2d(before, after, 3, 1, padding=1), spectral)
        self.c2 = wrapped(nn.Conv2d(after, after, 3, 1, padding=1), spectral)
        self.b1 = ClassNorm(before, classes) if classes else nn.BatchNorm2d(before)
        self.b2 = ClassNorm(after, classes) if classes else nn.BatchNorm2d(after)
        self.c_sc = wrapped(nn.Conv2d(before, after, 1), spectral)

    def forward(self, x: Tensor, y: Tensor | None) -> Tensor:
        given = () if y is None else (y,)
        h = F.interpolate(F.relu(self.b1(x, *given)), scale_factor=2, mode="bilinear", align_corners=False)
        h = self.c2(F.relu(self.b2(self.c1(h), *given)))
        shortcut = self.c_sc(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))
        out: Tensor = h + shortcut
        return out


class Attention(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.theta = spectral_norm(nn.Conv2d(channels, channels >> 3, 1, bias=False))
        self.phi = spectral_norm(nn.Conv2d(channels, channels >> 3, 1, bias=False))
        self.g = spectral_norm(nn.Conv2d(channels, channels >> 1, 1, bias=False))
        self.o = spectral_norm(nn.Conv2d(channels >> 1, channels, 1, bias=False))
        self.gamma = nn.Parameter(torch.tensor(0.0))

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        theta = self.theta(x).view(n, c >> 3, h * w)
        phi = F.max_pool2d(self.phi(x), [2, 2], stride=2).view(n, c >> 3, h * w >> 2)
        attention = F.softmax(torch.bmm(theta.transpose(1, 2), phi), -1)
        g = F.max_pool2d(self.g(x), [2, 2], stride=2).view(n, c >> 1, h * w >> 2)
        mixed = torch.bmm(g, attention.transpose(1, 2)).view(n, c >> 1, h, w)
        out: Tensor = x + self.gamma * self.o(mixed)
        return out


class Generator(nn.Module):
    """`widths`: channels before the first and after every block; attention follows `block<attention>`, 0: none."""

    def __init__(
        self,
        widths: tuple[int, ...],
        latent: int,
        classes: int = 0,
        bottom: int = 4,
        attention: int = 0,
        sigmoid: bool = False,
    ) -> None:
        super().__init__()
        spectral = attention > 0
        self.bottom, self.attention, self.sigmoid, self.last = bottom, attention, sigmoid, len(widths) + 1
        self.l1 = wrapped(nn.Linear(latent, bottom**2 * widths[0]), spectral)
        for index, (before, after) in enumerate(itertools.pairwise(widths), start=2):
            self.add_module(f"block{index}", Block(before, after, classes, spectral))
        self.add_module(f"b{self.last}", nn.BatchNorm2d(widths[-1]))
        self.add_module(f"c{self.last}", wrapped(nn.Conv2d(widths[-1], 3, 3, 1, padding=1), spectral))
        if attention:
            self.attn_block = Attention(widths[attention - 1])

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        h = self.l1(x).view(x.shape[0], -1, self.bottom, self.bottom)
        for index in range(2, self.last):
            h = self.get_submodule(f"block{index}")(h, y)
            if index == self.attention:
                h = self.attn_block(h)
        h = self.get_submodule(f"c{self.last}")(F.relu(self.get_submodule(f"b{self.last}")(h)))
        return torch.sigmoid(h) if self.sigmoid else torch.tanh(h)
