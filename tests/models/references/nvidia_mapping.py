"""Layers that NVlabs/stylegan2-ada-pytorch and NVlabs/stylegan3 share, as those repositories compute them on a CPU."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


def upfirdn(
    image: Tensor, kernel: Tensor | None, up: int = 1, down: int = 1, pad: tuple[int, ...] = (0,) * 4
) -> Tensor:
    """Zeros in, zeros around (or crop), convolution with a kernel (K, K) or twice with (K,), every `down`-th pixel."""
    count, channels, height, width = image.shape
    spread = torch.zeros(count, channels, height * up, width * up)
    spread[:, :, ::up, ::up] = image
    padded = functional.pad(spread, pad)
    if kernel is not None:
        kernels = [kernel] if kernel.ndim == 2 else [kernel[None, :], kernel[:, None]]
        for each in kernels:
            flipped = each.flip(0, 1).expand(channels, 1, *each.shape)
            padded = functional.conv2d(padded, flipped, groups=channels)
    return padded[:, :, ::down, ::down]


def bias_act(features: Tensor, bias: Tensor | None, act: str, gain: float, clamp: float | None = None) -> Tensor:
    if bias is not None:
        features = features + bias.reshape(1, -1, *[1] * (features.ndim - 2))
    if act == "lrelu":
        features = functional.leaky_relu(features, 0.2)
    features = features * gain
    return features if clamp is None else features.clamp(-clamp, clamp)


class FullyConnectedLayer(nn.Module):
    def __init__(
        self, in_features: int, out_features: int, activation: str = "linear", lr_multiplier: float = 1
    ) -> None:
        super().__init__()
        self.activation = activation
        self.weight = nn.Parameter(torch.zeros(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features))
        self.weight_gain = lr_multiplier / np.sqrt(in_features)
        self.bias_gain = lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        out = x @ (self.weight * self.weight_gain).T
        return bias_act(out, self.bias * self.bias_gain, self.activation, 2**0.5 if self.activation == "lrelu" else 1)


def normalise(x: Tensor) -> Tensor:
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


class MappingNetwork(nn.Module):
    w_avg: Tensor

    def __init__(self, z_dim: int, c_dim: int, w_dim: int, num_ws: int, num_layers: int = 8) -> None:
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim, self.num_ws, self.num_layers = z_dim, c_dim, w_dim, num_ws, num_layers
        self.w_avg_beta = 0.998
        if c_dim > 0:
            self.embed = FullyConnectedLayer(c_dim, w_dim)
        features = [z_dim + (w_dim if c_dim > 0 else 0)] + [w_dim] * num_layers
        for index in range(num_layers):
            layer = FullyConnectedLayer(features[index], features[index + 1], "lrelu", 0.01)
            setattr(self, f"fc{index}", layer)
        self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(self, z: Tensor, c: Tensor | None, psi: float, cutoff: int | None) -> Tensor:
        x = normalise(z)
        if self.c_dim > 0:
            x = torch.cat([x, normalise(self.embed(c))], dim=1)
        for index in range(self.num_layers):
            x = getattr(self, f"fc{index}")(x)
        x = x.unsqueeze(1).repeat([1, self.num_ws, 1])
        if psi != 1:
            x[:, :cutoff] = self.w_avg.lerp(x[:, :cutoff], psi)
        return x


def natural(network: nn.Module) -> None:
    """Magnitudes as after training, where those of a generic random sample would not show what they do."""
    state = network.state_dict()
    with torch.no_grad():
        for key, tensor in state.items():
            if "mapping.fc" in key:
                tensor.mul_(100 / tensor.std())  # undone by the learning rate multiplier
            if "torgb" in key:
                tensor.mul_(0.1)
            if ".affine.bias" in key:
                tensor.add_(1.0)
            if ".affine.weight" in key or "embed.weight" in key:
                tensor.mul_(tensor.shape[1] ** 0.5)


@contextmanager
def transformed(buffer: Tensor, x: float, y: float, degrees: float) -> Iterator[None]:
    """As the script `gen_images.py` sets the network's transform, on top of what the checkpoint has there."""
    own = buffer.clone()
    sine, cosine = np.sin(degrees / 360 * np.pi * 2), np.cos(degrees / 360 * np.pi * 2)
    matrix = np.array([[cosine, sine, x], [-sine, cosine, y], [0, 0, 1]])
    buffer.copy_(own @ torch.from_numpy(np.linalg.inv(matrix)).float())
    yield
    buffer.copy_(own)


def generate(
    network: nn.Module, inputs: Mapping[str, Tensor], cutoff: int | None = None, **synthesis: object
) -> Tensor:
    """One image after the other, as the scripts generate them: mapped with its psi, or from its own w."""
    mapping: Any = network.mapping
    synthesize: Any = network.synthesis
    images = []
    for row, latent in enumerate(inputs["latent"]):
        label = inputs["label"][row : row + 1] if "label" in inputs else None
        c = None if label is None else functional.one_hot(label, mapping.c_dim).float()
        psi = float(inputs["truncation_psi"][row])
        w = mapping(latent[None], c, psi, cutoff)
        if inputs["w_given"][row] == 1:
            w = inputs["w"][row : row + 1]
        noise = inputs["noise"][row : row + 1] if "noise" in inputs else None
        extra = {"noise": noise} if noise is not None else {}
        if "transform" in inputs:
            with transformed(synthesize.input.transform, *inputs["transform"][row].tolist()):
                images.append(synthesize(w, **synthesis))
            continue
        images.append(synthesize(w, **extra, **synthesis))
    return torch.cat(images)
