"""The layers of StyleGAN2's discriminator, with their run-time gains folded into the weights."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, linear

from models.critics.critic import Compares
from models.families.style.stylegan2_ops import GAIN, Fir, activate, normalise_second_moment

HALF = math.sqrt(0.5)


def scaled(weight: Tensor, gain: float = 1.0, rate: float = 1.0) -> Tensor:
    """A weight with the equalised learning rate's factor folded in."""
    return weight * (gain * rate / math.sqrt(weight[0].numel()))


class Conv(nn.Module):
    """A convolution, or after filtering one of stride 2; with a bias then leaky ReLU, its gain, and a clamp."""

    def __init__(
        self, weight: Tensor, bias: Tensor | None, kernel: Tensor | None, clamp: float = 0.0, stride: int = 1
    ) -> None:
        super().__init__()
        size, gain = weight.shape[-1], 1.0 if bias is None else GAIN
        self.register_buffer("weight", scaled(weight, gain))
        self.bias = None if bias is None else nn.Parameter(bias * gain, requires_grad=False)
        self.fir, self.stride, self.padding, self.clamp = None, stride, (size - 1) // 2, clamp
        if kernel is not None:
            edge = (size + 1) // 2
            # A 1x1 convolution needs of the filtered image only what it keeps.
            self.fir = Fir(weight.shape[1], kernel, (edge,) * 4, down=2 if size == 1 else 1)
            self.stride, self.padding = 1 if size == 1 else 2, 0

    def forward(self, maps: Tensor) -> Tensor:
        """(N, out, H, W), or half of that."""
        if self.fir is not None:
            maps = self.fir(maps)
        maps = conv2d(maps, self.get_buffer("weight"), self.bias, self.stride, self.padding)
        if self.bias is None:
            return maps
        maps = activate(maps)
        return maps.clamp(-self.clamp, self.clamp) if self.clamp else maps


class Residual(nn.Module):
    """Halves the image: two convolutions beside one 1x1, each branch times the root of one half."""

    def __init__(self, first: Conv, second: Conv, skip: Conv, pooled: bool = False) -> None:
        super().__init__()
        self.first, self.second, self.skip, self.pooled = first, second, skip, pooled

    def forward(self, maps: Tensor) -> Tensor:
        """(N, out, H / 2, W / 2)."""
        beside: Tensor = self.skip(avg_pool2d(maps, 2) if self.pooled else maps)
        out: Tensor = (self.second(self.first(maps)) + beside) * HALF
        return out


class Linear(nn.Module):
    """A linear layer with the learning rate's factor folded in, and leaky ReLU if `activated`."""

    def __init__(self, weight: Tensor, bias: Tensor, *, activated: bool, rate: float = 1.0) -> None:
        super().__init__()
        gain = GAIN if activated else 1.0
        self.register_buffer("weight", scaled(weight, gain, rate))
        self.register_buffer("bias", bias * (gain * rate))
        self.activated = activated

    def forward(self, values: Tensor) -> Tensor:
        """(N, out)."""
        out = linear(values, self.get_buffer("weight"), self.get_buffer("bias"))
        return activate(out) if self.activated else out


class StyleCritic(Compares):
    """The body, the minibatch's deviation, a convolution, and linear layers. With `mapping` the score is the product of
    what the last one gives with the label's vector."""

    def __init__(
        self, body: nn.Module, conv: Conv, linears: Sequence[Linear], group: int, mapping: nn.Module | None = None
    ) -> None:
        super().__init__(body, group)
        self.conv, self.linears, self.mapping = conv, nn.Sequential(*linears), mapping

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        """Scores (N,)."""
        features = self.body(image)
        maps = self.conv(torch.cat([features, self.deviation(features)], 1))
        values: Tensor = self.linears(maps.flatten(1))
        if self.mapping is None:
            return values[:, 0]
        told: Tensor = self.mapping(label)
        return (values * told).sum(1) / math.sqrt(values.shape[1])


class LabelMapping(nn.Module):
    """A class's vector: its embedding, normalised, through linear layers."""

    def __init__(self, embed: Linear, layers: Sequence[Linear], classes: int) -> None:
        super().__init__()
        self.register_buffer("classes", torch.eye(classes))
        self.embed, self.layers = embed, nn.Sequential(*layers)

    def forward(self, label: Tensor) -> Tensor:
        """(N, length)."""
        row = nn.functional.embedding(label, self.get_buffer("classes"))
        mapped: Tensor = self.layers(normalise_second_moment(self.embed(row)))
        return mapped


class OneOf(nn.Module):
    """A class's vector where the score is one of the last layer's outputs: 0 for the others."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.register_buffer("rows", math.sqrt(classes) * torch.eye(classes))  # `StyleCritic` divides by that

    def forward(self, label: Tensor) -> Tensor:
        """(N, classes)."""
        return nn.functional.embedding(label, self.get_buffer("rows"))
