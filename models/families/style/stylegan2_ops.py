"""What the StyleGAN2 family shares, in plain operations: FIR resampling, modulated convolutions, latents per layer.

Karras, Laine, Aittala, Hellsten, Lehtinen, Aila, "Analyzing and Improving the Image Quality of StyleGAN", 2019,
arXiv:1912.04958. The reference implementations scale the weights of every image (a convolution with as many groups
as images) and insert zeros before filtering; here the activations are scaled and the zeros are left to a transposed
convolution, so that graphs hold convolutions with fixed weights and fixed groups only. Both give the same numbers but
for rounding.
"""

import copy
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

SLOPE = 0.2  # of every leaky ReLU
GAIN = math.sqrt(2)  # that a leaky ReLU is followed by
EPS = 1e-8
TAPS = (1.0, 3.0, 3.0, 1.0)
Padding = tuple[int, int, int, int]  # left, right, top, bottom, as torch's pad


def fir_kernel(taps: Sequence[float] = TAPS, gain: float = 1.0) -> Tensor:
    """The kernel (K, K) float32 that is `taps` along both axes and sums to `gain`."""
    row = np.asarray(taps, dtype=np.float64)
    kernel = np.outer(row, row)
    return torch.from_numpy((kernel * (gain / kernel.sum())).astype(np.float32))


def normalise_second_moment(latent: Tensor, eps: float = EPS) -> Tensor:
    """`latent` (N, Z) over its root mean square, which has `eps` added under the root."""
    return latent * torch.rsqrt(latent.square().mean(1, keepdim=True) + eps)


class Fir(nn.Module):
    """Filters every channel with one kernel (H, W), optionally keeping every `down`-th pixel: upfirdn without the up.

    `padding` is zeros on the left, right, top and bottom, at least 0. The kernel is applied as a convolution (flipped),
    as upfirdn does. (N, C, H, W) float32 in and out.
    """

    kernel: Tensor

    def __init__(self, channels: int, kernel: Tensor, padding: Padding, down: int = 1) -> None:
        super().__init__()
        self.register_buffer("kernel", kernel.flip(0, 1)[None, None].repeat(channels, 1, 1, 1), persistent=False)
        self.padding, self.down = padding, down

    def forward(self, maps: Tensor) -> Tensor:
        left, right, top, bottom = self.padding
        if (left, top) != (right, bottom):
            maps, left, top = functional.pad(maps, self.padding), 0, 0
        groups = len(self.kernel)
        return functional.conv2d(maps, self.kernel, stride=self.down, padding=(top, left), groups=groups)


class FirUpsample(nn.Module):
    """Puts `up` - 1 zeros after every pixel, pads and filters: upfirdn without the down, as a transposed convolution.

    `padding` counts zeros around the image with the zeros in, negative to crop. (N, C, H, W) float32 in;
    out (N, C, up H + top + bottom - K + 1, up W + left + right - K + 1).
    """

    kernel: Tensor

    def __init__(self, channels: int, kernel: Tensor, padding: Padding, up: int = 2) -> None:
        super().__init__()
        self.register_buffer("kernel", kernel[None, None].repeat(channels, 1, 1, 1), persistent=False)
        self.up = up
        height, width = kernel.shape
        left, right, top, bottom = padding
        # A transposed convolution gives (H - 1) up + K rows; these are how many of them lie outside the result.
        self.outside = (width - 1 - left, width - up - right, height - 1 - top, height - up - bottom)

    def forward(self, maps: Tensor) -> Tensor:
        left, right, top, bottom = self.outside
        groups = len(self.kernel)
        if (left, top) == (right, bottom) and min(left, top) >= 0:
            return functional.conv_transpose2d(maps, self.kernel, None, self.up, (top, left), groups=groups)
        full = functional.conv_transpose2d(maps, self.kernel, None, self.up, groups=groups)
        grown = functional.pad(full, [max(-side, 0) for side in self.outside]) if min(self.outside) < 0 else full
        top, left = max(top, 0), max(left, 0)
        return grown[:, :, top : grown.shape[2] - max(bottom, 0), left : grown.shape[3] - max(right, 0)]


class ModulatedConv(nn.Module):
    """A convolution whose input channels are scaled by a style, optionally demodulated and after doubling the image.

    With `demodulate` every output channel is divided by the norm of its scaled weights (EPS under the root) and
    multiplied by `gain`. With `up` it is a transposed convolution of stride 2 without padding, so
    (2 H + K - 2, 2 W + K - 2) comes out, to be filtered; otherwise H and W stay.
    """

    weight: Tensor
    squares: Tensor

    def __init__(
        self, inner: int, outer: int, size: int, *, demodulate: bool = True, up: bool = False, gain: float = 1.0
    ) -> None:
        super().__init__()
        shape = (inner, outer) if up else (outer, inner)  # as torch's transposed and plain convolutions want it
        self.register_buffer("weight", torch.zeros(*shape, size, size))
        self.register_buffer("squares", torch.zeros(inner, outer))
        self.demodulate, self.up, self.gain = demodulate, up, gain

    def take(self, weight: Tensor) -> None:
        """Takes the final weight (out, in, K, K), run-time scales folded in; sums of squares are added up in float64.

        A reference implementation that correlates in the up-layers too flips the weight first; this does not.
        """
        self.weight.copy_(weight.transpose(0, 1) if self.up else weight)
        self.squares.copy_(weight.double().square().sum((2, 3)).T)

    def forward(self, maps: Tensor, style: Tensor) -> Tensor:
        """(N, out, H', W') float32 of `picture` (N, in, H, W) and `style` (N, in)."""
        scaled = maps * style[:, :, None, None]
        if self.up:
            out = functional.conv_transpose2d(scaled, self.weight, stride=2)
        else:
            out = functional.conv2d(scaled, self.weight, padding=self.weight.shape[-1] // 2)
        if not self.demodulate:
            return out
        factor = torch.rsqrt(style.square() @ self.squares + EPS) * self.gain
        return out * factor[:, :, None, None]


class LatentsPerLayer(nn.Module):
    """One intermediate latent per layer: the mapped latent, moved towards the average, or what the caller gives.

    Only the first `cutoff` layers are truncated; 0 means all.
    """

    average: Tensor
    truncated: Tensor

    def __init__(self, layers: int, size: int, cutoff: int = 0) -> None:
        super().__init__()
        self.register_buffer("average", torch.zeros(size))
        self.register_buffer("truncated", (torch.arange(layers) < (cutoff or layers))[None], persistent=False)

    def forward(self, mapped: Tensor, truncation_psi: Tensor, w: Tensor, w_given: Tensor) -> Tensor:
        """(N, layers, size) float32.

        Args:
            mapped: (N, size), of the mapping network.
            truncation_psi: (N,), 1 leaves `mapped` as it is, 0 gives the average.
            w: (N, layers, size), taken as it is in rows where `w_given` (N,) is 1; elsewhere ignored.
            w_given: (N,), 0 or 1.
        """
        shares = torch.where(self.truncated, truncation_psi[:, None], torch.ones_like(truncation_psi)[:, None])
        return torch.where(w_given[:, None, None] > 0.5, w, self.move(mapped, shares))

    def move(self, mapped: Tensor, shares: Tensor) -> Tensor:
        """(N, layers, size) from `mapped` (N, size): its share (N, layers) of the way from the average."""
        return self.average + shares[:, :, None] * (mapped[:, None, :] - self.average)


class ToW(nn.Module):
    """The first half of a StyleGAN as a network of its own: the mapping network, then truncation."""

    def __init__(self, mapping: nn.Module, latents: LatentsPerLayer) -> None:
        super().__init__()
        self.mapping, self.latents = mapping, latents

    def forward(self, *inputs: Tensor) -> Tensor:
        """w (N, layers, size) from the latent (N, Z), the label (N,) if there are classes, and psi (N, layers)."""
        *mapped, shares = inputs
        return self.latents.move(self.mapping(*mapped), shares)


@torch.no_grad()
def mean_latent(mapping: nn.Module, size: int, count: int) -> Tensor:
    """The mean (size,) float64 of `count` mapped latents of `numpy.random.RandomState(0).randn(count, size)`."""
    exact = copy.deepcopy(mapping).double()
    latents = torch.from_numpy(np.random.RandomState(0).randn(count, size))
    mean: Tensor = exact(latents).mean(0)
    return mean


def activate(maps: Tensor) -> Tensor:
    """Leaky ReLU of slope 0.2; its gain of sqrt 2 is folded into what comes before."""
    return functional.leaky_relu(maps, SLOPE)
