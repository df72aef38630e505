"""The generator of NVlabs/stylegan3 (`training/networks_stylegan3.py`): its slow path, on a CPU."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.models.references.nvidia_mapping import FullyConnectedLayer, MappingNetwork, natural, upfirdn


def low_pass(taps: int, radial: bool) -> Tensor | None:
    """A windowed sinc, a little askew so that nothing can be mirrored unnoticed."""
    if taps == 1:
        return None
    x = np.arange(taps) - (taps - 1) / 2
    row = np.sinc(x / 2) * np.kaiser(taps, 4.0) * (1 + 0.05 * x)
    kernel = np.outer(row, row * (1 - 0.02 * x)) if radial else row
    return torch.from_numpy(kernel / kernel.sum()).float()


def modulated_conv(x: Tensor, w: Tensor, s: Tensor, demodulate: bool, padding: int, input_gain: Tensor) -> Tensor:
    count, (outer, inner, size, _) = len(x), w.shape
    if demodulate:
        w = w * w.square().mean([1, 2, 3], keepdim=True).rsqrt()
        s = s * s.square().mean().rsqrt()
    w = w[None] * s[:, None, :, None, None]
    if demodulate:
        w = w * (w.square().sum(dim=[2, 3, 4], keepdim=True) + 1e-8).rsqrt()
    w = w * input_gain.expand(count, inner)[:, None, :, None, None]
    grouped = x.reshape(1, -1, *x.shape[2:])
    out = functional.conv2d(grouped, w.reshape(-1, inner, size, size), padding=padding, groups=count)
    return out.reshape(count, outer, *out.shape[2:])


class SynthesisInput(nn.Module):
    transform: Tensor
    freqs: Tensor
    phases: Tensor

    def __init__(self, w_dim: int, channels: int, size: int, sampling_rate: float, bandwidth: float) -> None:
        super().__init__()
        self.channels, self.size = channels, np.broadcast_to(np.asarray(size), [2])
        self.sampling_rate, self.bandwidth = sampling_rate, bandwidth
        self.weight = nn.Parameter(torch.zeros(channels, channels))
        self.affine = FullyConnectedLayer(w_dim, 4)
        self.register_buffer("transform", torch.eye(3))
        self.register_buffer("freqs", torch.zeros(channels, 2))
        self.register_buffer("phases", torch.zeros(channels))

    def forward(self, w: Tensor) -> Tensor:
        t = self.affine(w)
        t = t / t[:, :2].norm(dim=1, keepdim=True)
        turned = torch.eye(3).repeat(len(w), 1, 1)
        turned[:, 0, 0], turned[:, 0, 1] = t[:, 0], -t[:, 1]
        turned[:, 1, 0], turned[:, 1, 1] = t[:, 1], t[:, 0]
        shifted = torch.eye(3).repeat(len(w), 1, 1)
        shifted[:, 0, 2], shifted[:, 1, 2] = -t[:, 2], -t[:, 3]
        transforms = turned @ shifted @ self.transform[None]
        phases = self.phases[None] + (self.freqs[None] @ transforms[:, :2, 2:]).squeeze(2)
        freqs = self.freqs[None] @ transforms[:, :2, :2]
        room = self.sampling_rate / 2 - self.bandwidth
        amplitudes = (1 - (freqs.norm(dim=2) - self.bandwidth) / room).clamp(0, 1)
        theta = torch.eye(2, 3)
        theta[0, 0] = theta[1, 1] = 0.5 * float(self.size[0]) / self.sampling_rate
        shape = [1, 1, int(self.size[1]), int(self.size[0])]
        grids = functional.affine_grid(theta.unsqueeze(0), shape, align_corners=False)
        x = (grids.unsqueeze(3) @ freqs.permute(0, 2, 1).unsqueeze(1).unsqueeze(2)).squeeze(3)
        x = torch.sin((x + phases[:, None, None]) * (np.pi * 2)) * amplitudes[:, None, None]
        mixed: Tensor = x @ (self.weight / np.sqrt(self.channels)).T
        return mixed.permute(0, 3, 1, 2)


class SynthesisLayer(nn.Module):
    magnitude_ema: Tensor
    up_filter: Tensor | None
    down_filter: Tensor | None

    def __init__(
        self, w_dim: int, is_torgb: bool, critical: bool, inner: int, outer: int, in_size: int, out_size: int,
        in_rate: int, out_rate: int, conv_kernel: int, filter_size: int, lrelu_upsampling: int, radial: bool,
        conv_clamp: float | None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.is_torgb, self.in_channels, self.out_channels = is_torgb, inner, outer
        self.in_size, self.out_size = (np.broadcast_to(np.asarray(size), [2]) for size in (in_size, out_size))
        self.conv_kernel, self.conv_clamp = (1 if is_torgb else conv_kernel), conv_clamp
        rate = max(in_rate, out_rate) * (1 if is_torgb else lrelu_upsampling)
        self.up_factor, self.down_factor = int(np.rint(rate / in_rate)), int(np.rint(rate / out_rate))
        self.up_taps = filter_size * self.up_factor if self.up_factor > 1 and not is_torgb else 1
        self.down_taps = filter_size * self.down_factor if self.down_factor > 1 and not is_torgb else 1
        self.affine = FullyConnectedLayer(w_dim, inner)
        self.weight = nn.Parameter(torch.zeros(outer, inner, self.conv_kernel, self.conv_kernel))
        self.bias = nn.Parameter(torch.zeros(outer))
        self.register_buffer("magnitude_ema", torch.ones([]))
        self.down_radial = radial and not critical
        self.register_buffer("up_filter", low_pass(self.up_taps, False))
        self.register_buffer("down_filter", low_pass(self.down_taps, self.down_radial))
        total = (self.out_size - 1) * self.down_factor + 1
        total = total - (self.in_size + self.conv_kernel - 1) * self.up_factor + self.up_taps + self.down_taps - 2
        low = (total + self.up_factor) // 2
        high = total - low
        self.padding = [int(low[0]), int(high[0]), int(low[1]), int(high[1])]

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        styles = self.affine(w)
        if self.is_torgb:
            styles = styles * (1 / np.sqrt(self.in_channels * self.conv_kernel**2))
        gain = self.magnitude_ema.rsqrt()
        x = modulated_conv(x, self.weight, styles, not self.is_torgb, self.conv_kernel - 1, gain)
        x = x + self.bias[:, None, None]
        x = upfirdn(x, _times(self.up_filter, self.up_factor), up=self.up_factor, pad=tuple(self.padding))
        if not self.is_torgb:
            x = functional.leaky_relu(x, 0.2) * np.sqrt(2)
        if self.conv_clamp is not None:
            x = x.clamp(-self.conv_clamp, self.conv_clamp)
        x = upfirdn(x, self.down_filter, down=self.down_factor)
        assert x.shape[1:] == (self.out_channels, *self.out_size)
        return x


def _times(kernel: Tensor | None, gain: int) -> Tensor | None:
    return None if kernel is None else kernel * gain


class SynthesisNetwork(nn.Module):
    def __init__(
        self, w_dim: int, img_resolution: int, img_channels: int, channel_base: int = 32768, channel_max: int = 512,
        num_layers: int = 14, num_critical: int = 2, first_cutoff: float = 2, first_stopband: float = 2**2.1,
        last_stopband_rel: float = 2**0.3, margin_size: int = 10, output_scale: float = 0.25, conv_kernel: int = 3,
        filter_size: int = 6, lrelu_upsampling: int = 2, use_radial_filters: bool = False,
        conv_clamp: float | None = 256,
    ) -> None:  # fmt: skip
        super().__init__()
        self.num_ws, self.num_layers, self.num_critical = num_layers + 2, num_layers, num_critical
        self.img_resolution, self.img_channels = img_resolution, img_channels
        self.margin_size, self.output_scale = margin_size, output_scale
        last_cutoff = img_resolution / 2
        last_stopband = last_cutoff * last_stopband_rel
        exponents = np.minimum(np.arange(num_layers + 1) / (num_layers - num_critical), 1)
        cutoffs = first_cutoff * (last_cutoff / first_cutoff) ** exponents
        stopbands = first_stopband * (last_stopband / first_stopband) ** exponents
        rates = np.exp2(np.ceil(np.log2(np.minimum(stopbands * 2, img_resolution))))
        sizes = rates + margin_size * 2
        sizes[-2:] = img_resolution
        channels = np.rint(np.minimum((channel_base / 2) / cutoffs, channel_max))
        channels[-1] = img_channels
        self.input = SynthesisInput(w_dim, int(channels[0]), int(sizes[0]), float(rates[0]), float(cutoffs[0]))
        self.layer_names: list[str] = []
        for index in range(num_layers + 1):
            prev = max(index - 1, 0)
            layer = SynthesisLayer(
                w_dim, index == num_layers, index >= num_layers - num_critical, int(channels[prev]),
                int(channels[index]), int(sizes[prev]), int(sizes[index]), int(rates[prev]), int(rates[index]),
                conv_kernel, filter_size, lrelu_upsampling, use_radial_filters, conv_clamp,
            )  # fmt: skip
            name = f"L{index}_{layer.out_size[0]}_{layer.out_channels}"
            setattr(self, name, layer)
            self.layer_names.append(name)

    def forward(self, ws: Tensor) -> Tensor:
        first, *rest = ws.unbind(dim=1)
        x: Tensor = self.input(first)
        for name, w in zip(self.layer_names, rest, strict=True):
            x = getattr(self, name)(x, w)
        return x * self.output_scale


class Generator(nn.Module):
    def __init__(
        self, z_dim: int, c_dim: int, w_dim: int, img_resolution: int, img_channels: int, num_layers: int = 2,
        synthesis: dict[str, object] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim = z_dim, c_dim, w_dim
        self.img_resolution, self.img_channels = img_resolution, img_channels
        options: dict[str, object] = synthesis or {}
        self.synthesis = SynthesisNetwork(w_dim, img_resolution, img_channels, **options)  # type: ignore[arg-type]
        self.num_ws = self.synthesis.num_ws
        self.mapping = MappingNetwork(z_dim, c_dim, w_dim, self.num_ws, num_layers)


def prepare(network: nn.Module) -> None:
    """Natural magnitudes, filters that filter, frequencies up to beyond the band, and a transform that is none."""
    natural(network)
    random = np.random.RandomState(7)
    for module in network.modules():
        if isinstance(module, SynthesisLayer):
            for kept, taps, radial in (
                (module.up_filter, module.up_taps, False),
                (module.down_filter, module.down_taps, module.down_radial),
            ):
                designed = low_pass(taps, radial)
                if kept is not None and designed is not None:
                    kept.copy_(designed)
            module.magnitude_ema.fill_(random.uniform(0.5, 0.9))
        if isinstance(module, SynthesisInput):
            angles, lengths = random.uniform(0, 6.28, module.channels), random.uniform(0.3, 1.2, module.channels)
            directions = np.stack([np.cos(angles), np.sin(angles)], 1)
            module.freqs.copy_(torch.from_numpy(directions * lengths[:, None] * module.bandwidth))
            module.transform.copy_(torch.tensor([[1.1, 0.2, 0.1], [-0.1, 0.9, -0.2], [0.0, 0.0, 1.0]]))
            module.weight.data.mul_(np.sqrt(module.channels))
