"""brownvc/R3GAN's generator, with its names, and a discriminator's first layers."""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Convolution(nn.Module):
    def __init__(self, before: int, after: int, kernel: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.Layer = nn.Conv2d(before, after, kernel, padding=kernel // 2, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.Layer(x)
        return result


class BiasedActivation(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.Bias = nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor) -> Tensor:
        shifted = x + self.Bias.reshape(1, -1, 1, 1)
        return torch.where(shifted > 0, shifted, 0.2 * shifted)


class ResidualBlock(nn.Module):
    def __init__(self, width: int, groups: int, expansion: int = 2) -> None:
        super().__init__()
        inner = expansion * width
        self.LinearLayer1 = Convolution(width, inner)
        self.LinearLayer2 = Convolution(inner, inner, 3, groups)
        self.LinearLayer3 = Convolution(inner, width)
        self.NonLinearity1 = BiasedActivation(inner)
        self.NonLinearity2 = BiasedActivation(inner)

    def forward(self, x: Tensor) -> Tensor:
        y = self.LinearLayer2(self.NonLinearity1(self.LinearLayer1(x)))
        result: Tensor = x + self.LinearLayer3(self.NonLinearity2(y))
        return result


class Basis(nn.Module):
    def __init__(self, entered: int, width: int) -> None:
        super().__init__()
        self.Basis = nn.Parameter(torch.empty(width, 4, 4))
        self.LinearLayer = nn.Linear(entered, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("chw,nc->nchw", self.Basis, self.LinearLayer(x))


class Resampler(nn.Module):
    Kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("Kernel", kernel())

    def forward(self, x: Tensor) -> Tensor:
        """Bilinear with zeros beyond the border."""
        return F.interpolate(F.pad(x, (1, 1, 1, 1)), scale_factor=2, mode="bilinear")[:, :, 2:-2, 2:-2]


def kernel() -> Tensor:
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    return torch.outer(taps, taps)


class Upsample(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.Resampler = Resampler()
        if before != after:
            self.LinearLayer = Convolution(before, after)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.Resampler(self.LinearLayer(x) if hasattr(self, "LinearLayer") else x)
        return result


class Stage(nn.Module):
    def __init__(self, entrance: nn.Module, width: int, groups: int, blocks: int) -> None:
        super().__init__()
        self.Layers = nn.ModuleList([entrance, *(ResidualBlock(width, groups) for _ in range(blocks))])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.Layers:
            x = layer(x)
        return x


class Model(nn.Module):
    def __init__(self, latent: int, widths: list[int], groups: list[int], blocks: int, classes: int, e: int) -> None:
        super().__init__()
        entered = latent + (e if classes else 0)
        entrances = [Basis(entered, widths[0]), *(Upsample(*pair) for pair in itertools.pairwise(widths))]
        self.MainLayers = nn.ModuleList(
            Stage(entrance, width, group, blocks)
            for entrance, width, group in zip(entrances, widths, groups, strict=True)
        )
        self.AggregationLayer = Convolution(widths[-1], 3)
        self.classes = classes
        if classes:
            self.EmbeddingLayer = nn.Linear(classes, e, bias=False)

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        if c is not None:
            z = torch.cat([z, self.EmbeddingLayer(F.one_hot(c, self.classes).to(z.dtype))], 1)
        for stage in self.MainLayers:
            z = stage(z)
        result: Tensor = self.AggregationLayer(z)
        return result


class Generator(nn.Module):
    """What the snapshots hold."""

    def __init__(
        self, latent: int, widths: list[int], groups: list[int], blocks: int = 2, classes: int = 0, embedded: int = 0
    ) -> None:
        super().__init__()
        self.Model = Model(latent, widths, groups, blocks, classes, embedded)

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        result: Tensor = self.Model(z, c)
        return result


def resampled(network: nn.Module) -> None:
    """The kernels as the repository makes them."""
    for module in network.modules():
        if isinstance(module, Resampler):
            module.Kernel.copy_(kernel())
