"""StyleGAN2's two players for training (Karras et al. 2019, arXiv:1912.04958), small enough for one CPU thread.

The generator names and stores its weights as rosinality's stylegan2-pytorch does: unscaled, with the equalised learning
rate's factors applied at run time, so that what is trained here is exported as such a checkpoint. The discriminator is
a residual one with a minibatch standard deviation; it doubles strides plainly where the paper filters first.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.families.style.stylegan2_ops import EPS, GAIN, SLOPE, fir_kernel, normalise_second_moment

MAPPING_RATE = 0.01  # the mapping network learns this much slower
HALF = math.sqrt(0.5)  # keeps the variance of two branches added
GROUP = 4  # pictures whose deviation the discriminator sees together


class EqualLinear(nn.Module):
    """A linear layer (N, in) -> (N, out) that stores unit-variance weights and scales them as it runs."""

    def __init__(
        self, inner: int, outer: int, *, bias: float = 0.0, rate: float = 1.0, activated: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outer, inner) / rate)
        self.bias = nn.Parameter(torch.full((outer,), bias))
        self.scale, self.rate, self.activated = rate / math.sqrt(inner), rate, activated

    def forward(self, features: Tensor) -> Tensor:
        out = functional.linear(features, self.weight * self.scale, self.bias * self.rate)
        return functional.leaky_relu(out, SLOPE) * GAIN if self.activated else out


class EqualConv(nn.Module):
    """A convolution with bias, leaky ReLU and gain, that stores unit-variance weights and scales them as it runs."""

    def __init__(self, inner: int, outer: int, size: int, stride: int = 1, *, activated: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outer, inner, size, size))
        self.bias = nn.Parameter(torch.zeros(outer)) if activated else None
        self.scale, self.stride, self.padding = 1 / math.sqrt(inner * size**2), stride, (size - 1) // 2

    def forward(self, picture: Tensor) -> Tensor:
        if self.bias is None:
            return functional.conv2d(picture, self.weight * self.scale, None, self.stride, self.padding)
        gain = self.scale * GAIN
        out = functional.conv2d(picture, self.weight * gain, self.bias * GAIN, self.stride, self.padding)
        return functional.leaky_relu(out, SLOPE)


class PixelNorm(nn.Module):
    """Latents (N, Z) over their root mean square."""

    def forward(self, latent: Tensor) -> Tensor:
        return normalise_second_moment(latent)


class _Kernel(nn.Module):
    """The FIR filter of an upsampling layer, times 4 for the zeros between the pixels; symmetric, so never flipped."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", fir_kernel(gain=4.0))

    def filtered(self, weight: Tensor) -> Tensor:
        """The weight (out, in, 6, 6) of doubling and filtering in one: `weight` (out, in, 3, 3) convolved with this."""
        basis = functional.conv2d(torch.eye(9).to(weight).reshape(9, 1, 3, 3), self.kernel[None, None], padding=3)
        return (weight.flatten(2) @ basis.reshape(9, 36)).reshape(*weight.shape[:2], 6, 6)


def double(picture: Tensor, weight: Tensor) -> Tensor:
    """A transposed convolution, stride 2, padding 2, `weight` (out, in, 6, 6): (N, in, H, W) to (N, out, 2H, 2W).

    Written as a 3x3 convolution that gives the four pixels of each 2x2 block as channels, which a CPU does faster.
    """
    outer, inner = weight.shape[:2]
    phases = weight.reshape(outer, inner, 3, 2, 3, 2).flip(2, 4).permute(0, 3, 5, 1, 2, 4)
    return functional.pixel_shuffle(functional.conv2d(picture, phases.reshape(4 * outer, inner, 3, 3), padding=1), 2)


class ModulatedConv(nn.Module):
    """`models.style.stylegan2_ops.ModulatedConv` that learns, with its style's layer and the filter after doubling."""

    def __init__(self, inner: int, outer: int, size: int, style: int, *, up: bool = False, demodulate: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, outer, inner, size, size))
        self.modulation = EqualLinear(style, inner, bias=1.0)
        self.scale, self.demodulate = 1 / math.sqrt(inner * size**2), demodulate
        if up:
            self.blur = _Kernel()

    def forward(self, picture: Tensor, latent: Tensor) -> Tensor:
        weight = self.weight[0] * self.scale
        style = self.modulation(latent)
        scaled = picture * style[:, :, None, None]
        if hasattr(self, "blur"):
            out = double(scaled, self.blur.filtered(weight))
        else:
            out = functional.conv2d(scaled, weight, padding=weight.shape[-1] // 2)
        if not self.demodulate:
            return out
        factor = torch.rsqrt(style.square() @ weight.square().sum((2, 3)).T + EPS)
        return out * factor[:, :, None, None]


class _Noise(nn.Module):
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(1))


class _Activation(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))


class StyledConv(nn.Module):
    """A modulated 3x3 convolution, bias and leaky ReLU; the strength of its noise stays 0."""

    def __init__(self, inner: int, outer: int, style: int, *, up: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv(inner, outer, 3, style, up=up)
        self.noise = _Noise()
        self.activate = _Activation(outer)

    def forward(self, picture: Tensor, latent: Tensor) -> Tensor:
        out = self.conv(picture, latent) + self.activate.bias[:, None, None]
        return functional.leaky_relu(out, SLOPE) * GAIN


class ToRgb(nn.Module):
    """A modulated 1x1 convolution to colours, added to the doubled colours of the layer before."""

    def __init__(self, channels: int, style: int, *, up: bool) -> None:
        super().__init__()
        self.conv = ModulatedConv(channels, 3, 1, style, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
        if up:
            self.upsample = _Kernel()

    def forward(self, picture: Tensor, latent: Tensor, skip: Tensor | None = None) -> Tensor:
        out: Tensor = self.conv(picture, latent) + self.bias
        if skip is None:
            return out
        centre = functional.pad(torch.eye(3)[:, :, None, None], (1, 1, 1, 1)).to(skip)
        return out + double(skip, self.upsample.filtered(centre))


class _Input(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, channels, 4, 4))


class StyleGan2(nn.Module):
    """StyleGAN2's generator: `widths` are the channels at 4, 8, 16 ... pixels, `style` the size of both latents.

    With `classes` a label's embedding is appended to the latent, as in StyleGAN2-ADA (arXiv:2006.06676). Noise per
    pixel, which flat drawings have no use for, is left out; the layouts have it, with strengths of 0.
    """

    def __init__(self, widths: Sequence[int], style: int, depth: int, classes: int = 0) -> None:
        super().__init__()
        inner = [2 * style if classes else style, *[style] * (depth - 1)]
        mapping = (EqualLinear(each, style, rate=MAPPING_RATE, activated=True) for each in inner)
        self.style = nn.Sequential(PixelNorm(), *mapping)
        self.input = _Input(widths[0])
        self.conv1 = StyledConv(widths[0], widths[0], style)
        self.to_rgb1 = ToRgb(widths[0], style, up=False)
        self.convs, self.to_rgbs, self.noises = nn.ModuleList(), nn.ModuleList(), nn.Module()
        for before, after in itertools.pairwise(widths):
            self.convs += [StyledConv(before, after, style, up=True), StyledConv(after, after, style)]
            self.to_rgbs.append(ToRgb(after, style, up=True))
        for index, size in enumerate([4, *(8 << (layer // 2) for layer in range(len(self.convs)))]):
            self.noises.register_buffer(f"noise_{index}", torch.zeros(1, 1, size, size))
        self.classes = classes
        if classes:
            self.embed = EqualLinear(classes, style)

    def forward(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        """Pictures (N, 3, H, W) float32, about -1..1, of `latent` (N, Z) float32 and, with classes, `labels` (N,)."""
        return self.draw(self.map(latent, labels))

    def map(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        """The mapped latents (N, Z)."""
        mapped: Tensor
        if not self.classes:
            mapped = self.style(latent)
            return mapped
        assert labels is not None, "a network with classes needs labels"
        embedded = self.embed(functional.one_hot(labels, self.classes).to(latent))
        both = torch.cat([self.style[0](latent), normalise_second_moment(embedded)], 1)
        mapped = self.style[1:](both)
        return mapped

    def draw(self, mapped: Tensor) -> Tensor:
        """Pictures from mapped latents (N, Z)."""
        out = self.conv1(self.input.input.expand(len(mapped), -1, -1, -1), mapped)
        picture: Tensor = self.to_rgb1(out, mapped)
        for first, second, to_rgb in zip(self.convs[::2], self.convs[1::2], self.to_rgbs, strict=True):
            out = second(first(out, mapped), mapped)
            picture = to_rgb(out, mapped, picture)
        return picture


class _Residual(nn.Module):
    """Halves the picture: two convolutions beside one 1x1."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(EqualConv(inner, inner, 3), EqualConv(inner, outer, 4, 2))
        self.skip = EqualConv(inner, outer, 1, activated=False)

    def forward(self, picture: Tensor) -> Tensor:
        skip: Tensor = self.skip(functional.avg_pool2d(picture, 2))
        out: Tensor = (self.convs(picture) + skip) * HALF
        return out


class Discriminator(nn.Module):
    """Scores (N,) of pictures (N, 3, H, W), -1..1; `widths` are the channels from half the size down to 4 pixels.

    With `classes` each has a score of its own, of which the label's is given (Liu et al. 2019, arXiv:1905.01723).
    """

    def __init__(self, widths: Sequence[int], classes: int = 0) -> None:
        super().__init__()
        steps = (_Residual(inner, outer) for inner, outer in itertools.pairwise(widths))
        self.main = nn.Sequential(EqualConv(3, widths[0], 4, 2), *steps)
        self.last = EqualConv(widths[-1] + 1, widths[-1], 3)
        self.score = nn.Sequential(
            nn.Flatten(),
            EqualLinear(widths[-1] * 16, widths[-1], activated=True),
            EqualLinear(widths[-1], max(1, classes)),
        )

    def forward(self, pictures: Tensor, labels: Tensor | None = None) -> Tensor:
        features = self.main(pictures)
        scores: Tensor = self.score(self.last(torch.cat([features, deviation(features)], 1)))
        return scores[:, 0] if labels is None else scores.gather(1, labels[:, None])[:, 0]


def deviation(features: Tensor) -> Tensor:
    """One map (N, 1, H, W): the mean deviation of `features` (N, C, H, W) within groups of every N / GROUP-th row."""
    n, _, height, width = features.shape
    size = min(n, GROUP)
    spread = torch.sqrt(features.reshape(size, n // size, -1).var(0, unbiased=False) + EPS).mean(1)
    return spread.repeat(size)[:, None, None, None].expand(-1, 1, height, width)
