"""StyleGAN2's generator as rosinality/stylegan2-pytorch defines it, written anew: weights scaled per image in grouped
convolutions, zeros inserted before filtering, run-time scales."""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PixelNorm(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return z * torch.rsqrt(torch.mean(z**2, dim=1, keepdim=True) + 1e-8)


def make_kernel(taps: list[float]) -> Tensor:
    row = torch.tensor(taps, dtype=torch.float32)
    kernel = row[None, :] * row[:, None]
    return kernel / kernel.sum()


def upfirdn(x: Tensor, kernel: Tensor, up: int, pad: tuple[int, int]) -> Tensor:
    """Zeros after every pixel, zeros around, then the flipped kernel as a correlation, channel by channel."""
    n, c, h, w = x.shape
    spaced = x.new_zeros(n, c, h * up, w * up)
    spaced[:, :, ::up, ::up] = x
    padded = F.pad(spaced, (*pad, *pad)).flatten(0, 1)[:, None]
    out = F.conv2d(padded, torch.flip(kernel, (0, 1))[None, None])
    return out.reshape(n, c, *out.shape[2:])


class Upsample(nn.Module):
    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", make_kernel([1, 3, 3, 1]) * 4)

    def forward(self, x: Tensor) -> Tensor:
        return upfirdn(x, self.kernel, 2, (2, 1))


class Blur(nn.Module):
    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", make_kernel([1, 3, 3, 1]) * 4)

    def forward(self, x: Tensor) -> Tensor:
        return upfirdn(x, self.kernel, 1, (1, 1))


def fused_leaky_relu(x: Tensor, bias: Tensor) -> Tensor:
    rest = [1] * (x.ndim - 2)
    return F.leaky_relu(x + bias.view(1, -1, *rest), 0.2) * 2**0.5


class FusedLeakyReLU(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return fused_leaky_relu(x, self.bias)


class EqualLinear(nn.Module):
    def __init__(
        self, inner: int, outer: int, bias: float = 0.0, lr_mul: float = 1.0, activation: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outer, inner) / lr_mul)
        self.bias = nn.Parameter(torch.full((outer,), bias))
        self.scale, self.lr_mul, self.activation = lr_mul / math.sqrt(inner), lr_mul, activation

    def forward(self, x: Tensor) -> Tensor:
        if self.activation:
            return fused_leaky_relu(F.linear(x, self.weight * self.scale), self.bias * self.lr_mul)
        return F.linear(x, self.weight * self.scale, self.bias * self.lr_mul)


class ModulatedConv2d(nn.Module):
    def __init__(self, inner: int, outer: int, size: int, style: int, demodulate: bool = True, upsample: bool = False):
        super().__init__()
        if upsample:
            self.blur = Blur()
        self.weight = nn.Parameter(torch.randn(1, outer, inner, size, size))
        self.modulation = EqualLinear(style, inner, bias=1.0)
        self.scale, self.demodulate, self.upsample = 1 / math.sqrt(inner * size**2), demodulate, upsample

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        n, inner, height, width = x.shape
        _, outer, _, size, _ = self.weight.shape
        weight = self.scale * self.weight * self.modulation(style).view(n, 1, inner, 1, 1)
        if self.demodulate:
            weight = weight * torch.rsqrt(weight.pow(2).sum((2, 3, 4), keepdim=True) + 1e-8)
        flat = x.reshape(1, n * inner, height, width)
        if self.upsample:
            weight = weight.transpose(1, 2).reshape(n * inner, outer, size, size)
            out = F.conv_transpose2d(flat, weight, stride=2, groups=n)
            blurred: Tensor = self.blur(out.reshape(n, outer, *out.shape[2:]))
            return blurred
        out = F.conv2d(flat, weight.reshape(n * outer, inner, size, size), padding=size // 2, groups=n)
        return out.reshape(n, outer, *out.shape[2:])


class NoiseInjection(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        return x + self.weight * noise


class StyledConv(nn.Module):
    def __init__(self, inner: int, outer: int, style: int, upsample: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv2d(inner, outer, 3, style, upsample=upsample)
        self.noise = NoiseInjection()
        self.activate = FusedLeakyReLU(outer)

    def forward(self, x: Tensor, style: Tensor, noise: Tensor) -> Tensor:
        out: Tensor = self.activate(self.noise(self.conv(x, style), noise))
        return out


class ToRGB(nn.Module):
    def __init__(self, inner: int, style: int, upsample: bool = True) -> None:
        super().__init__()
        if upsample:
            self.upsample = Upsample()
        self.conv = ModulatedConv2d(inner, 3, 1, style, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))

    def forward(self, x: Tensor, style: Tensor, skip: Tensor | None = None) -> Tensor:
        out: Tensor = self.conv(x, style) + self.bias
        return out if skip is None else out + self.upsample(skip)


class ConstantInput(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, channels, 4, 4))

    def forward(self, latent: Tensor) -> Tensor:
        return self.input.repeat(latent.shape[0], 1, 1, 1)


class StyleGan2(nn.Module):
    """`widths` are the channels at 4, 8, 16 ... pixels; the repository's are 512 up to 32 pixels."""

    def __init__(self, widths: tuple[int, ...], style_dim: int, n_mlp: int) -> None:
        super().__init__()
        mapping = (EqualLinear(style_dim, style_dim, lr_mul=0.01, activation=True) for _ in range(n_mlp))
        self.style = nn.Sequential(PixelNorm(), *mapping)
        self.input = ConstantInput(widths[0])
        self.conv1 = StyledConv(widths[0], widths[0], style_dim)
        self.to_rgb1 = ToRGB(widths[0], style_dim, upsample=False)
        self.convs, self.to_rgbs, self.noises = nn.ModuleList(), nn.ModuleList(), nn.Module()
        self.num_layers = 2 * len(widths) - 1
        for layer in range(self.num_layers):
            size = 2 ** ((layer + 5) // 2)
            self.noises.register_buffer(f"noise_{layer}", torch.randn(1, 1, size, size))
        for inner, outer in itertools.pairwise(widths):
            self.convs.append(StyledConv(inner, outer, style_dim, upsample=True))
            self.convs.append(StyledConv(outer, outer, style_dim))
            self.to_rgbs.append(ToRGB(outer, style_dim))
        self.n_latent = 2 * len(widths)

    def forward(self, latent: Tensor, noise: list[Tensor] | None = None) -> Tensor:
        """An image of latents (N, n_latent, style_dim), which the repository calls input_is_latent."""
        noise = [getattr(self.noises, f"noise_{layer}") for layer in range(self.num_layers)] if noise is None else noise
        out = self.conv1(self.input(latent), latent[:, 0], noise[0])
        skip: Tensor = self.to_rgb1(out, latent[:, 1])
        layer = 1
        for first, second, to_rgb in zip(self.convs[::2], self.convs[1::2], self.to_rgbs, strict=True):
            out = first(out, latent[:, layer], noise[layer])
            out = second(out, latent[:, layer + 1], noise[layer + 1])
            skip = to_rgb(out, latent[:, layer + 2], skip)
            layer += 2
        return skip
