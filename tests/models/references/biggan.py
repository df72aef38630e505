"""ajbrock/BigGAN-PyTorch's generators in eval mode, written anew: module tree, spectral norm, batch norms."""

import itertools
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Spectral:
    """One power step from u0 at every call; v and u are normalised with `eps`, the stored vector stays as it is."""

    weight: Tensor
    u0: Tensor

    def normed(self) -> Tensor:
        matrix = self.weight.reshape(self.weight.shape[0], -1)
        v = F.normalize(self.u0 @ matrix, eps=1e-12)
        u = F.normalize(v @ matrix.t(), eps=1e-12)
        sigma = (v @ matrix.t() @ u.t()).squeeze()
        return self.weight / sigma


class SpectralConv(nn.Conv2d, Spectral):
    def __init__(self, before: int, after: int, kernel: int = 3, bias: bool = True) -> None:
        nn.Conv2d.__init__(self, before, after, kernel, padding=kernel // 2, bias=bias)
        self.register_buffer("u0", torch.randn(1, after))
        self.register_buffer("sv0", torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.normed(), self.bias, padding=self.padding)


class SpectralLinear(nn.Linear, Spectral):
    def __init__(self, before: int, after: int, bias: bool = True) -> None:
        nn.Linear.__init__(self, before, after, bias)
        self.register_buffer("u0", torch.randn(1, after))
        self.register_buffer("sv0", torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.normed(), self.bias)


def plain_conv(before: int, after: int, kernel: int = 3, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=bias)


class CustomNorm(nn.Module):
    """`myBN`: with `accumulating`, which is no tensor, the statistics are sums."""

    stored_mean: Tensor
    stored_var: Tensor
    accumulation_counter: Tensor

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("stored_mean", torch.zeros(channels))
        self.register_buffer("stored_var", torch.ones(channels))
        self.register_buffer("accumulation_counter", torch.zeros(1))
        self.accumulating = False

    def forward(self, x: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
        mean, var = self.stored_mean, self.stored_var
        if self.accumulating:
            mean, var = mean / self.accumulation_counter, var / self.accumulation_counter
        scale = torch.rsqrt(var.view(1, -1, 1, 1) + self.eps) * gain
        return x * scale - (mean.view(1, -1, 1, 1) * scale - bias)


class ReplicaNorm(nn.BatchNorm2d):
    """The synchronised batch norm when it does not run on several devices: the gain is added."""

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__(channels, eps, affine=False)

    def forward(self, x: Tensor, gain: Tensor, bias: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x) + gain + bias


def statistics(owner: nn.Module, kind: str, channels: int, eps: float) -> None:
    if kind == "plain":
        owner.register_buffer("stored_mean", torch.zeros(channels))
        owner.register_buffer("stored_var", torch.ones(channels))
    else:
        owner.bn = CustomNorm(channels, eps) if kind == "custom" else ReplicaNorm(channels, eps)


class ClassNorm(nn.Module):
    stored_mean: Tensor
    stored_var: Tensor
    bn: nn.Module

    def __init__(self, channels: int, size: int, linear: Callable[..., nn.Module], kind: str, eps: float) -> None:
        super().__init__()
        self.gain = linear(size, channels)
        self.bias = linear(size, channels)
        self.kind, self.eps = kind, eps
        statistics(self, kind, channels, eps)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        gain = (1 + self.gain(y)).view(y.size(0), -1, 1, 1)
        bias = self.bias(y).view(y.size(0), -1, 1, 1)
        if self.kind != "plain":
            normed: Tensor = self.bn(x, gain=gain, bias=bias)
            return normed
        out = F.batch_norm(x, self.stored_mean, self.stored_var, None, None, False, 0.1, self.eps)
        moved: Tensor = out * gain + bias
        return moved


class LastNorm(nn.Module):
    stored_mean: Tensor
    stored_var: Tensor
    bn: nn.Module

    def __init__(self, channels: int, kind: str) -> None:
        super().__init__()
        self.gain, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.kind = kind
        statistics(self, kind, channels, 1e-5)

    def forward(self, x: Tensor) -> Tensor:
        if self.kind != "plain":
            normed: Tensor = self.bn(x, gain=self.gain.view(1, -1, 1, 1), bias=self.bias.view(1, -1, 1, 1))
            return normed
        return F.batch_norm(x, self.stored_mean, self.stored_var, self.gain, self.bias, False, 0.1, 1e-5)


class Block(nn.Module):
    def __init__(
        self, before: int, after: int, conv: Callable[..., nn.Module], norm: Callable[[int], nn.Module]
    ) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(before, after), conv(after, after)
        self.conv_sc = conv(before, after, 1)
        self.bn1, self.bn2 = norm(before), norm(after)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        h = F.interpolate(F.relu(self.bn1(x, y)), scale_factor=2)
        x = F.interpolate(x, scale_factor=2)
        h = self.conv2(F.relu(self.bn2(self.conv1(h), y)))
        out: Tensor = h + self.conv_sc(x)
        return out


class DeepBlock(nn.Module):
    def __init__(
        self, before: int, after: int, conv: Callable[..., nn.Module], norm: Callable[[int], nn.Module], up: bool
    ) -> None:
        super().__init__()
        middle = before // 4
        self.conv1, self.conv2 = conv(before, middle, 1), conv(middle, middle)
        self.conv3, self.conv4 = conv(middle, middle), conv(middle, after, 1)
        self.bn1, self.bn2, self.bn3, self.bn4 = norm(before), norm(middle), norm(middle), norm(middle)
        self.after, self.up = after, up

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        h = self.conv1(F.relu(self.bn1(x, y)))
        h = F.relu(self.bn2(h, y))
        x = x[:, : self.after]
        if self.up:
            h, x = F.interpolate(h, scale_factor=2), F.interpolate(x, scale_factor=2)
        h = self.conv3(F.relu(self.bn3(self.conv2(h), y)))
        out: Tensor = self.conv4(F.relu(self.bn4(h, y))) + x
        return out


class Attention(nn.Module):
    def __init__(self, channels: int, conv: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.theta, self.phi = conv(channels, channels // 8, 1, False), conv(channels, channels // 8, 1, False)
        self.g, self.o = conv(channels, channels // 2, 1, False), conv(channels // 2, channels, 1, False)
        self.gamma = nn.Parameter(torch.tensor(0.0))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        n, c, h, w = x.shape
        theta = self.theta(x).view(n, c // 8, h * w)
        phi = F.max_pool2d(self.phi(x), [2, 2]).view(n, c // 8, h * w // 4)
        g = F.max_pool2d(self.g(x), [2, 2]).view(n, c // 2, h * w // 4)
        beta = F.softmax(torch.bmm(theta.transpose(1, 2), phi), -1)
        o = self.o(torch.bmm(g, beta.transpose(1, 2)).view(n, c // 2, h, w))
        out: Tensor = self.gamma * o + x
        return out


class Generator(nn.Module):
    """`widths`: channels before the first and after every block; `attention`: after which blocks."""

    def __init__(
        self,
        widths: tuple[int, ...],
        latent: int,
        classes: int,
        embedding: int = 0,
        hier: bool = False,
        attention: tuple[int, ...] = (),
        norms: str = "plain",
        spectral: bool = True,
        eps: float = 1e-5,
        deep: bool = False,
    ) -> None:
        super().__init__()
        conv: Callable[..., nn.Module] = SpectralConv if spectral else plain_conv
        linear: Callable[..., nn.Module] = SpectralLinear if spectral else nn.Linear
        blocks = len(widths) - 1
        self.hier, self.deep = hier, deep
        self.chunk = latent // (blocks + 1)
        size = embedding + (latent if deep else self.chunk if hier else 0) if embedding else classes

        def vector(before: int, after: int) -> nn.Module:
            return linear(before, after, bias=False) if embedding else nn.Embedding(before, after)

        def norm(channels: int) -> nn.Module:
            return ClassNorm(channels, size, vector, norms, eps)

        if embedding:
            self.shared = nn.Embedding(classes, embedding)
        self.linear = linear(size if deep else self.chunk if hier else latent, widths[0] * 16)
        listed: list[list[nn.Module]] = []
        for index, (before, after) in enumerate(itertools.pairwise(widths)):
            if deep:
                listed.append([DeepBlock(before, before, conv, norm, False)])
                listed.append([DeepBlock(before, after, conv, norm, True)])
            else:
                listed.append([Block(before, after, conv, norm)])
            if index in attention:
                listed[-1].append(Attention(after, conv))
        self.blocks = nn.ModuleList([nn.ModuleList(block) for block in listed])
        self.listed = listed
        self.output_layer = nn.Sequential(LastNorm(widths[-1], norms), nn.ReLU(), conv(widths[-1], 3))

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """`y`: the shared embedding of the label, or without one the label's index."""
        ys = [y] * len(self.blocks)
        if self.deep:
            z = torch.cat([y, z], 1)
            ys = [z] * len(self.blocks)
        elif self.hier:
            zs = torch.split(z, self.chunk, 1)
            z = zs[0]
            ys = [torch.cat([y, item], 1) for item in zs[1:]]
        h = self.linear(z)
        h = h.view(h.size(0), -1, 4, 4)
        for index, layers in enumerate(self.listed):
            for layer in layers:
                h = layer(h, ys[index])
        return torch.tanh(self.output_layer(h))


def call(network: nn.Module, arrays: Mapping[str, Tensor]) -> Tensor:
    """As its callers do: the label goes through `shared` first."""
    assert isinstance(network, Generator)
    label = arrays["label"]
    image: Tensor = network(arrays["latent"], network.shared(label) if hasattr(network, "shared") else label)
    return image
