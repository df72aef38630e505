"""The ProGAN generators of akanimax/pro_gan_pytorch, in its three layouts, and of facebookresearch/pytorch_GAN_zoo."""

import itertools
from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Equalized(nn.Module):
    """A conv, or a transposed one; the weight, not the bias, times sqrt(2 / fan in)."""

    def __init__(self, before: int, after: int, kernel: int, transposed: bool = False) -> None:
        super().__init__()
        size = (before, after) if transposed else (after, before)
        self.weight = nn.Parameter(torch.empty(*size, kernel, kernel))
        self.bias = nn.Parameter(torch.empty(after))
        self.transposed, self.pad = transposed, kernel // 2
        self.scale = sqrt(2 / (before if transposed else before * kernel**2))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * self.scale
        if self.transposed:
            return F.conv_transpose2d(x, weight, self.bias)
        return F.conv2d(x, weight, self.bias, padding=self.pad)


class Plain(Equalized):
    """Without equalisation."""

    def forward(self, x: Tensor) -> Tensor:
        self.scale = 1.0
        return super().forward(x)


class Measured(nn.Module):
    """As in 2018: the input scaled, and the weight a module of its own."""

    def __init__(self, before: int, after: int, kernel: int, transposed: bool = False) -> None:
        super().__init__()
        inner: nn.Module
        if transposed:
            inner = self.deconv = nn.ConvTranspose2d(before, after, kernel, bias=False)
        else:
            inner = self.conv = nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=False)
        self.inner = [inner]  # no second name in the state dict
        self.bias = nn.Parameter(torch.empty(after))
        self.scale = 1 / sqrt(kernel**2 * (after if transposed else before))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.inner[0](x * self.scale) + self.bias.reshape(1, -1, 1, 1)
        return result


def normed(x: Tensor) -> Tensor:
    return x / torch.sqrt(torch.mean(x**2, 1, keepdim=True) + 1e-8)


class First(nn.Module):
    def __init__(self, kind: type[nn.Module], latent: int, width: int) -> None:
        super().__init__()
        self.conv_1 = kind(latent, width, 4, True)
        self.conv_2 = kind(width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.conv_1(x[:, :, None, None]), 0.2)
        return normed(F.leaky_relu(self.conv_2(y), 0.2))


class Further(nn.Module):
    def __init__(self, kind: type[nn.Module], before: int, after: int) -> None:
        super().__init__()
        self.conv_1 = kind(before, after, 3)
        self.conv_2 = kind(after, after, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = normed(F.leaky_relu(self.conv_1(F.interpolate(x, scale_factor=2)), 0.2))
        return normed(F.leaky_relu(self.conv_2(y), 0.2))


class Akanimax(nn.Module):
    """`kind` is one of the convs above; `first_apart`: before 2020. `doublings` of it are used."""

    def __init__(
        self,
        latent: int,
        widths: list[int],
        kind: type[nn.Module] = Equalized,
        first_apart: bool = False,
        doublings: int | None = None,
        normalise: bool = True,
    ) -> None:
        super().__init__()
        first = First(kind, latent, widths[0])
        further = [Further(kind, *pair) for pair in itertools.pairwise(widths)]
        if first_apart:
            self.initial_block = first
        self.layers = nn.ModuleList(further if first_apart else [first, *further])
        self.rgb_converters = nn.ModuleList(kind(width, 3, 1) for width in widths)
        self.first_apart, self.normalise = first_apart, normalise
        self.doublings = len(widths) - 1 if doublings is None else doublings

    def forward(self, z: Tensor) -> Tensor:
        y = normed(z) if self.normalise else z
        layers = [self.initial_block, *self.layers] if self.first_apart else [*self.layers]
        for layer in layers[: self.doublings + 1]:
            y = layer(y)
        image: Tensor = self.rgb_converters[self.doublings](y)
        return image


class Constrained(nn.Module):
    """What the layer gives times sqrt(2 / fan in)."""

    def __init__(self, module: nn.Conv2d | nn.Linear, equalized: bool) -> None:
        super().__init__()
        self.module = module
        self.scale = sqrt(2 / module.weight[0].numel()) if equalized else 1.0

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.module(x) * self.scale
        return result


class Zoo(nn.Module):
    """pytorch_GAN_zoo's GNet."""

    def __init__(
        self, latent: int, widths: list[int], alpha: float = 0.0, tanh: bool = False, equalized: bool = True
    ) -> None:
        super().__init__()

        def conv(before: int, after: int, kernel: int) -> Constrained:
            return Constrained(nn.Conv2d(before, after, kernel, padding=kernel // 2), equalized)

        self.formatLayer = Constrained(nn.Linear(latent, 16 * widths[0]), equalized)
        self.groupScale0 = nn.ModuleList([conv(widths[0], widths[0], 3)])
        self.scaleLayers = nn.ModuleList(
            nn.ModuleList([conv(before, after, 3), conv(after, after, 3)])
            for before, after in itertools.pairwise(widths)
        )
        self.toRGBLayers = nn.ModuleList(conv(width, 3, 1) for width in widths)
        self.alpha, self.tanh, self.width = alpha, tanh, widths[0]

    def forward(self, z: Tensor) -> Tensor:
        x = F.leaky_relu(self.formatLayer(normed(z)), 0.2).view(-1, self.width, 4, 4)
        x = y = normed(F.leaky_relu(self.groupScale0[0](normed(x)), 0.2))
        for scale in self.scaleLayers:
            y = x
            x = F.interpolate(x, scale_factor=2)
            for layer in scale:  # type: ignore[attr-defined]
                x = normed(F.leaky_relu(layer(x), 0.2))
        image: Tensor = self.toRGBLayers[-1](x)
        if self.alpha:
            before = F.interpolate(self.toRGBLayers[-2](y), scale_factor=2)
            image = self.alpha * before + (1 - self.alpha) * image
        return torch.tanh(image) if self.tanh else image
