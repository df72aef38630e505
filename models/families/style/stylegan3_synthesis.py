"""The alias-free synthesis network of StyleGAN3 in plain operations (arXiv:2106.12423).

Reads `synthesis.*` of NVlabs/stylegan3 (`training/networks_stylegan3.py`); what differs from it is said in
`models.families.style.stylegan3`.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.architecture import StateDict
from models.families.style.stylegan2_ops import GAIN, SLOPE, ModulatedConv
from models.families.style.stylegan3_config import LayerConfig, StyleGan3SynthesisConfig
from models.families.style.stylegan_mapping import affine


class FourierFeatures(nn.Module):
    """Waves on a plane that the first latent turns and shifts: the network's input.

    Args:
        state: the checkpoint's.
        config: of the whole network.
    """

    freqs: Tensor
    phases: Tensor
    transform: Tensor
    weight: Tensor
    grid: Tensor

    def __init__(self, state: StateDict, config: StyleGan3SynthesisConfig) -> None:
        super().__init__()
        self.affine = affine(state, "synthesis.input.affine")
        for name in ("freqs", "phases", "transform"):
            self.register_buffer(name, state[f"synthesis.input.{name}"])
        weight = state["synthesis.input.weight"].double()
        self.register_buffer("weight", (weight / math.sqrt(len(weight))).float())
        # Middles of the map's pixels; the image itself reaches from -0.5 to 0.5.
        along = (torch.arange(config.side_px).double() + 0.5 - config.side_px / 2) / config.sampling_rate
        down, across = torch.meshgrid(along, along, indexing="ij")
        self.register_buffer("grid", torch.stack([across.flatten(), down.flatten()]).float())  # (2, S * S): x, y
        self.side_px, self.bandwidth = config.side_px, config.bandwidth
        self.damping = config.sampling_rate / 2 - config.bandwidth

    def forward(self, w: Tensor, transform: Tensor) -> Tensor:
        """(N, C, S, S) of `w` (N, w_dim) and `transform` (N, 3), which comes after the checkpoint's own."""
        turn = self.affine(w)
        turn = turn / turn[:, :2].square().sum(1, keepdim=True).sqrt()
        cos, sin, x, y = turn.unbind(1)
        shift = (sin * y - cos * x, -sin * x - cos * y)
        rows = torch.stack([torch.stack([cos, -sin, shift[0]], 1), torch.stack([sin, cos, shift[1]], 1)], 1)
        moved = rows @ self.transform @ inverse(transform)  # (N, 2, 3)
        phases = self.phases[None, :, None] + self.freqs @ moved[:, :, 2:]
        freqs = self.freqs @ moved[:, :, :2]
        lengths = freqs.square().sum(2, keepdim=True).sqrt()
        amplitudes = (1 - (lengths - self.bandwidth) / self.damping).clamp(0, 1)
        waves = torch.sin((freqs @ self.grid + phases) * (2 * math.pi)) * amplitudes
        return (self.weight @ waves).reshape(-1, len(self.weight), self.side_px, self.side_px)


def inverse(transform: Tensor) -> Tensor:
    """The matrices (N, 3, 3) that undo moving by x and y and turning by degrees, the columns of `transform` (N, 3).

    What is drawn moves as `--translate` and `--rotate` of the authors' `gen_images.py` say, whose matrix this inverts.
    """
    x, y, degrees = transform.unbind(1)
    cos, sin = torch.cos(degrees * (math.pi / 180)), torch.sin(degrees * (math.pi / 180))
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    rows = ((cos, -sin, sin * y - cos * x), (sin, cos, -sin * x - cos * y), (zero, zero, one))
    return torch.stack([torch.stack(row, 1) for row in rows], 1)


class SeparableUpsample(nn.Module):
    """Zeros after every pixel, zeros around or rows cropped, and a filter along both axes, each times `up`.

    Every pass is a transposed convolution of one axis, of which a part is kept. (N, C, H, W) in and out.
    """

    row: Tensor

    def __init__(self, taps: Tensor, config: LayerConfig) -> None:
        super().__init__()
        self.register_buffer("row", (taps * float(config.up)).expand(config.outer, 1, 1, -1).contiguous())
        self.up = config.up
        # How many of the transposed convolution's values lie before and after those that are kept.
        self.first, self.last = len(taps) - 1 - config.before, len(taps) - config.up - config.after

    def forward(self, maps: Tensor) -> Tensor:
        wide = functional.conv_transpose2d(maps, self.row, stride=(1, self.up), groups=len(self.row))
        wide = self._kept(wide, 3)
        column = self.row.transpose(2, 3)
        return self._kept(functional.conv_transpose2d(wide, column, stride=(self.up, 1), groups=len(self.row)), 2)

    def _kept(self, found: Tensor, axis: int) -> Tensor:
        padding = [0, 0] if axis == 3 else [0, 0, 0, 0]
        padding[-2:] = [max(-self.first, 0), max(-self.last, 0)]
        if any(padding):
            found = functional.pad(found, padding)
        return found.narrow(axis, max(self.first, 0), found.shape[axis] - max(self.first, 0) - max(self.last, 0))


class Downsample(nn.Module):
    """A filter of both axes and every `down`-th pixel: one pass with a kernel (K, K), two with taps (K,)."""

    kernel: Tensor

    def __init__(self, kernel: Tensor, config: LayerConfig) -> None:
        super().__init__()
        flipped = kernel.flip(0, 1) if kernel.ndim == 2 else kernel.flip(0)[None]
        self.register_buffer("kernel", flipped.expand(config.outer, 1, -1, -1).contiguous())
        self.down, self.separable = config.down, kernel.ndim == 1

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, H', W') of (N, C, H, W)."""
        groups = len(self.kernel)
        if not self.separable:
            return functional.conv2d(maps, self.kernel, stride=self.down, groups=groups)
        narrow = functional.conv2d(maps, self.kernel, stride=(1, self.down), groups=groups)
        return functional.conv2d(narrow, self.kernel.transpose(2, 3), stride=(self.down, 1), groups=groups)


class Layer(nn.Module):
    """A modulated convolution, bias, and a leaky ReLU between two filters, at a higher sampling rate.

    The gain of the leaky ReLU and that of the input's measured magnitude are folded into what comes before.
    """

    bias: Tensor

    def __init__(self, state: StateDict, config: LayerConfig, clamp: float) -> None:
        super().__init__()
        prefix = f"synthesis.{config.name}"
        weight = state[f"{prefix}.weight"].double()
        weight = weight * weight.square().mean((1, 2, 3), keepdim=True).rsqrt()
        gain = GAIN / math.sqrt(float(state[f"{prefix}.magnitude_ema"]))
        self.affine = affine(state, f"{prefix}.affine")
        self.conv = ModulatedConv(config.inner, config.outer, config.kernel, gain=gain)
        self.margin = config.kernel - 1 - config.kernel // 2  # of zeros, next to those that keep the size
        self.conv.take(weight.float())
        self.register_buffer("bias", (state[f"{prefix}.bias"].double() * GAIN).float()[None, :, None, None])
        self.up: nn.Module = nn.Identity()
        self.down: nn.Module = nn.Identity()
        if config.up_taps > 1:
            self.up = SeparableUpsample(state[f"{prefix}.up_filter"], config)
        if config.down_taps > 1:
            self.down = Downsample(state[f"{prefix}.down_filter"], config)
        self.clamp = clamp

    def forward(self, maps: Tensor, w: Tensor) -> Tensor:
        """(N, out, H', W') of `picture` (N, in, H, W) and `w` (N, w_dim)."""
        style = self.affine(w)
        style = style * torch.rsqrt(style.square().mean(1, keepdim=True))
        if self.margin:
            maps = functional.pad(maps, [self.margin] * 4)
        fine = functional.leaky_relu(self.up(self.conv(maps, style) + self.bias), SLOPE)
        if self.clamp:
            fine = fine.clamp(-self.clamp, self.clamp)
        out: Tensor = self.down(fine)
        return out


class ToRgb(nn.Module):
    """The last layer: a modulated convolution of one pixel, bias and clamp, times `scale`."""

    bias: Tensor

    def __init__(self, state: StateDict, config: LayerConfig, clamp: float, scale: float) -> None:
        super().__init__()
        prefix = f"synthesis.{config.name}"
        gain = scale / math.sqrt(config.inner * float(state[f"{prefix}.magnitude_ema"]))
        self.affine = affine(state, f"{prefix}.affine")
        self.conv = ModulatedConv(config.inner, config.outer, config.kernel, demodulate=False)
        self.conv.take((state[f"{prefix}.weight"].double() * gain).float())
        self.register_buffer("bias", (state[f"{prefix}.bias"].double() * scale).float()[None, :, None, None])
        self.clamp = clamp * abs(scale)

    def forward(self, maps: Tensor, w: Tensor) -> Tensor:
        """(N, img_channels, H, W) of `picture` (N, in, H, W) and `w` (N, w_dim)."""
        out: Tensor = self.conv(maps, self.affine(w)) + self.bias
        return out.clamp(-self.clamp, self.clamp) if self.clamp else out


class Synthesis(nn.Module):
    """From intermediate latents to the image.

    Args:
        state: the checkpoint's.
        config: its sizes.
        clamp: largest absolute value that a layer gives; 0 means any.
        scale: factor of the image.
    """

    def __init__(self, state: StateDict, config: StyleGan3SynthesisConfig, clamp: float, scale: float) -> None:
        super().__init__()
        self.input = FourierFeatures(state, config)
        *layers, last = config.layers
        self.layers = nn.ModuleList([Layer(state, layer, clamp) for layer in layers])
        self.layers.append(ToRgb(state, last, clamp, scale))

    def forward(self, w: Tensor, transform: Tensor) -> Tensor:
        """(N, img_channels, H, W) float32 of `w` (N, layers, w_dim) and `transform` (N, 3); there is no noise."""
        first, *styles = w.unbind(1)
        image: Tensor = self.input(first, transform)
        for layer, style in zip(self.layers, styles, strict=True):
            image = layer(image, style)
        return image
