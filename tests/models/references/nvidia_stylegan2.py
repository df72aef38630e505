"""The generator of NVlabs/stylegan2-ada-pytorch (`training/networks.py`), every image with weights of its own."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.models.references.nvidia_mapping import FullyConnectedLayer, MappingNetwork, bias_act, upfirdn


def setup_filter() -> Tensor:
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    kernel = torch.outer(taps, taps)
    return kernel / kernel.sum()


def modulated_conv(x: Tensor, weight: Tensor, styles: Tensor, fir: Tensor, up: int, demodulate: bool) -> Tensor:
    """A grouped convolution, one group per image."""
    count, (outer, inner, size, _) = len(x), weight.shape
    w = weight[None] * styles[:, None, :, None, None]
    if demodulate:
        w = w * (w.square().sum(dim=[2, 3, 4], keepdim=True) + 1e-8).rsqrt()
    grouped = x.reshape(1, -1, *x.shape[2:])
    if up == 1:
        out = functional.conv2d(grouped, w.reshape(-1, inner, size, size), padding=size // 2, groups=count)
    else:
        # As the repository's plain path: upsample with the filter, then convolve with the flipped kernel.
        widened = upfirdn(grouped, fir * 4, up=2, pad=(size // 2 + 2, size // 2 + 1) * 2)
        out = functional.conv2d(widened, w.flip(3, 4).reshape(-1, inner, size, size), groups=count)
    return out.reshape(count, outer, *out.shape[2:])


class SynthesisLayer(nn.Module):
    resample_filter: Tensor
    noise_const: Tensor

    def __init__(
        self, inner: int, outer: int, w_dim: int, resolution: int, up: int, clamp: float | None, noise: bool
    ) -> None:
        super().__init__()
        self.resolution, self.up, self.use_noise, self.activation = resolution, up, noise, "lrelu"
        self.conv_clamp, self.act_gain = clamp, np.sqrt(2)
        self.register_buffer("resample_filter", setup_filter())
        self.affine = FullyConnectedLayer(w_dim, inner)
        self.weight = nn.Parameter(torch.zeros(outer, inner, 3, 3))
        if noise:
            self.register_buffer("noise_const", torch.zeros(resolution, resolution))
            self.noise_strength = nn.Parameter(torch.zeros([]))
        self.bias = nn.Parameter(torch.zeros(outer))

    def forward(self, x: Tensor, w: Tensor, noise_mode: str, noise: Iterator[Tensor], gain: float = 1) -> Tensor:
        x = modulated_conv(x, self.weight, self.affine(w), self.resample_filter, self.up, True)
        if self.use_noise and noise_mode == "const":
            x = x + self.noise_const * self.noise_strength
        if self.use_noise and noise_mode == "random":
            x = x + next(noise) * self.noise_strength
        clamp = None if self.conv_clamp is None else self.conv_clamp * gain
        return bias_act(x, self.bias, self.activation, self.act_gain * gain, clamp)


class ToRGBLayer(nn.Module):
    def __init__(self, inner: int, outer: int, w_dim: int, clamp: float | None) -> None:
        super().__init__()
        self.conv_clamp = clamp
        self.affine = FullyConnectedLayer(w_dim, inner)
        self.weight = nn.Parameter(torch.zeros(outer, inner, 1, 1))
        self.bias = nn.Parameter(torch.zeros(outer))
        self.weight_gain = 1 / np.sqrt(inner)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        x = modulated_conv(x, self.weight, self.affine(w) * self.weight_gain, setup_filter(), 1, False)
        return bias_act(x, self.bias, "linear", 1, self.conv_clamp)


class Conv2dLayer(nn.Module):
    resample_filter: Tensor

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.register_buffer("resample_filter", setup_filter())
        self.weight = nn.Parameter(torch.zeros(outer, inner, 1, 1))
        self.weight_gain = 1 / np.sqrt(inner)

    def forward(self, x: Tensor, gain: float) -> Tensor:
        x = functional.conv2d(x, self.weight * self.weight_gain)
        return upfirdn(x, self.resample_filter * 4, up=2, pad=(2, 1, 2, 1)) * gain


class SynthesisBlock(nn.Module):
    resample_filter: Tensor

    def __init__(
        self, inner: int, outer: int, w_dim: int, resolution: int, colours: int, last: bool, architecture: str,
        clamp: float | None, noise: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.in_channels, self.resolution, self.is_last, self.architecture = inner, resolution, last, architecture
        self.register_buffer("resample_filter", setup_filter())
        self.num_conv, self.num_torgb = 0, 0
        if inner == 0:
            self.const = nn.Parameter(torch.zeros(outer, resolution, resolution))
        else:
            self.conv0 = SynthesisLayer(inner, outer, w_dim, resolution, 2, clamp, noise)
            self.num_conv += 1
        self.conv1 = SynthesisLayer(outer, outer, w_dim, resolution, 1, clamp, noise)
        self.num_conv += 1
        if last or architecture == "skip":
            self.torgb = ToRGBLayer(outer, colours, w_dim, clamp)
            self.num_torgb += 1
        if inner != 0 and architecture == "resnet":
            self.skip = Conv2dLayer(inner, outer)

    def forward(
        self, x: Tensor | None, img: Tensor | None, ws: Tensor, mode: str, noise: Iterator[Tensor]
    ) -> tuple[Tensor, Tensor | None]:
        styles = iter(ws.unbind(dim=1))
        if x is None:
            x = self.const.unsqueeze(0).repeat([len(ws), 1, 1, 1])
            x = self.conv1(x, next(styles), mode, noise)
        elif self.architecture == "resnet":
            y = self.skip(x, gain=np.sqrt(0.5))
            x = self.conv0(x, next(styles), mode, noise)
            x = y + self.conv1(x, next(styles), mode, noise, gain=np.sqrt(0.5))
        else:
            x = self.conv0(x, next(styles), mode, noise)
            x = self.conv1(x, next(styles), mode, noise)
        if img is not None:
            img = upfirdn(img, self.resample_filter * 4, up=2, pad=(2, 1, 2, 1))
        if self.is_last or self.architecture == "skip":
            y = self.torgb(x, next(styles))
            img = y if img is None else img + y
        return x, img


class SynthesisNetwork(nn.Module):
    def __init__(
        self, w_dim: int, img_resolution: int, img_channels: int, widths: tuple[int, ...], architecture: str = "skip",
        conv_clamp: float | None = None, use_noise: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.img_resolution, self.img_channels = img_resolution, img_channels
        self.block_resolutions = [4 * 2**index for index in range(len(widths))]
        self.num_ws = 0
        for index, res in enumerate(self.block_resolutions):
            inner, last = (widths[index - 1] if index else 0), res == img_resolution
            block = SynthesisBlock(
                inner, widths[index], w_dim, res, img_channels, last, architecture, conv_clamp, use_noise
            )
            self.num_ws += block.num_conv + (block.num_torgb if last else 0)
            setattr(self, f"b{res}", block)

    def forward(self, ws: Tensor, noise_mode: str = "const", noise: Tensor | None = None) -> Tensor:
        sizes = [res for res in self.block_resolutions for _ in range(1 if res == 4 else 2)]
        pieces = [] if noise is None else torch.split(noise, [size * size for size in sizes], dim=1)
        maps = (piece.reshape(-1, 1, size, size) for piece, size in zip(pieces, sizes, strict=False))
        x: Tensor | None = None
        img: Tensor | None = None
        start = 0
        for res in self.block_resolutions:
            block: SynthesisBlock = getattr(self, f"b{res}")
            x, img = block(x, img, ws.narrow(1, start, block.num_conv + block.num_torgb), noise_mode, maps)
            start += block.num_conv
        assert img is not None
        return img


class Generator(nn.Module):
    def __init__(
        self, z_dim: int, c_dim: int, w_dim: int, img_resolution: int, img_channels: int, num_layers: int,
        widths: tuple[int, ...], architecture: str = "skip", conv_clamp: float | None = None, use_noise: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim = z_dim, c_dim, w_dim
        self.img_resolution, self.img_channels = img_resolution, img_channels
        self.synthesis = SynthesisNetwork(
            w_dim, img_resolution, img_channels, widths, architecture, conv_clamp, use_noise
        )
        self.num_ws = self.synthesis.num_ws
        self.mapping = MappingNetwork(z_dim, c_dim, w_dim, self.num_ws, num_layers)
