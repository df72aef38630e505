"""PyTorch-StudioGAN's resnet, big_resnet and big_resnet_deep generators, written anew."""

import itertools
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

Make = Callable[[nn.Module], nn.Module]


def normed(module: nn.Module) -> nn.Module:
    return spectral_norm(module, eps=1e-6)


class ClassNorm(nn.Module):
    def __init__(self, size: int, channels: int, make: Make) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels, eps=1e-4, momentum=0.1, affine=False)
        self.gain = make(nn.Linear(size, channels, bias=False))
        self.bias = make(nn.Linear(size, channels, bias=False))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        gain = (1 + self.gain(y)).view(y.size(0), -1, 1, 1)
        bias = self.bias(y).view(y.size(0), -1, 1, 1)
        out: Tensor = self.bn(x) * gain + bias
        return out


class PlainNorm(nn.BatchNorm2d):
    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-4, momentum=0.1)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return super().forward(x)


class Block(nn.Module):
    def __init__(self, before: int, after: int, size: int, make: Make, activation: nn.Module) -> None:
        super().__init__()
        self.bn1 = ClassNorm(size, before, make) if size else PlainNorm(before)
        self.bn2 = ClassNorm(size, after, make) if size else PlainNorm(after)
        self.activation = activation
        self.conv2d0 = make(nn.Conv2d(before, after, 1))
        self.conv2d1 = make(nn.Conv2d(before, after, 3, padding=1))
        self.conv2d2 = make(nn.Conv2d(after, after, 3, padding=1))

    def forward(self, x: Tensor, affine: Tensor) -> Tensor:
        h = F.interpolate(self.activation(self.bn1(x, affine)), scale_factor=2, mode="nearest")
        h = self.conv2d2(self.activation(self.bn2(self.conv2d1(h), affine)))
        out: Tensor = h + self.conv2d0(F.interpolate(x, scale_factor=2, mode="nearest"))
        return out


class DeepBlock(nn.Module):
    def __init__(
        self, before: int, after: int, size: int, make: Make, activation: nn.Module, up: bool, projected: bool
    ) -> None:
        super().__init__()
        middle = before // 4
        for number, channels in enumerate((before, middle, middle, middle), start=1):
            self.add_module(f"bn{number}", ClassNorm(size, channels, make))
        self.activation, self.up, self.after, self.projected = activation, up, after, projected
        if projected:
            self.conv2d0 = make(nn.Conv2d(before, after, 1))
        self.conv2d1 = make(nn.Conv2d(before, middle, 1))
        self.conv2d2 = make(nn.Conv2d(middle, middle, 3, padding=1))
        self.conv2d3 = make(nn.Conv2d(middle, middle, 3, padding=1))
        self.conv2d4 = make(nn.Conv2d(middle, after, 1))

    def norm(self, number: int, x: Tensor, affine: Tensor) -> Tensor:
        out: Tensor = self.activation(self.get_submodule(f"bn{number}")(x, affine))
        return out

    def forward(self, x: Tensor, affine: Tensor) -> Tensor:
        h = self.norm(2, self.conv2d1(self.norm(1, x, affine)), affine)
        if self.up:
            h = F.interpolate(h, scale_factor=2, mode="nearest")
        h = self.conv2d3(self.norm(3, self.conv2d2(h), affine))
        h = self.conv2d4(self.norm(4, h, affine))
        if not self.projected:
            x = x[:, : self.after]
        if self.up:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        out: Tensor = h + (self.conv2d0(x) if self.projected else x)
        return out


class Attention(nn.Module):
    def __init__(self, channels: int, make: Make) -> None:
        super().__init__()
        self.conv1x1_theta = make(nn.Conv2d(channels, channels // 8, 1, bias=False))
        self.conv1x1_phi = make(nn.Conv2d(channels, channels // 8, 1, bias=False))
        self.conv1x1_g = make(nn.Conv2d(channels, channels // 2, 1, bias=False))
        self.conv1x1_attn = make(nn.Conv2d(channels // 2, channels, 1, bias=False))
        self.sigma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        _, ch, h, w = x.shape
        theta = self.conv1x1_theta(x).view(-1, ch // 8, h * w)
        phi = F.max_pool2d(self.conv1x1_phi(x), 2).view(-1, ch // 8, h * w // 4)
        attention = torch.softmax(torch.bmm(theta.permute(0, 2, 1), phi), dim=-1)
        g = F.max_pool2d(self.conv1x1_g(x), 2).view(-1, ch // 2, h * w // 4)
        mixed = torch.bmm(g, attention.permute(0, 2, 1)).view(-1, ch // 2, h, w)
        out: Tensor = x + self.sigma * self.conv1x1_attn(mixed)
        return out


class Generator(nn.Module):
    """`kind`: "resnet", "big", "deep" or "deep-projected"; `shared` is g_shared_dim; no `classes`: g_cond_mtd W/O."""

    def __init__(
        self,
        kind: str,
        widths: tuple[int, ...],
        latent: int,
        classes: int = 0,
        shared: int = 0,
        attention: tuple[int, ...] = (),
        spectral: bool = True,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        act = activation or nn.ReLU()
        make: Make = normed if spectral else _same
        blocks = len(widths) - 1
        self.kind, self.classes, self.chunk, self.first = kind, classes, latent // (blocks + 1), widths[0]
        size = {"resnet": classes, "big": self.chunk + shared}.get(kind, latent + shared)
        stem = {"resnet": latent, "big": self.chunk}.get(kind, latent + shared)
        self.linear0 = make(nn.Linear(stem, widths[0] * 16))
        if shared and classes:
            self.shared = nn.Embedding(classes, shared)
        listed: list[nn.Module] = []
        for index, (before, after) in enumerate(itertools.pairwise(widths), start=1):
            if kind.startswith("deep"):
                listed.append(DeepBlock(before, before, size, make, act, False, kind == "deep-projected"))
                listed.append(DeepBlock(before, after, size, make, act, True, kind == "deep-projected"))
            else:
                listed.append(Block(before, after, size, make, act))
            if index in attention:
                listed.append(Attention(after, make))
        self.blocks = nn.ModuleList([nn.ModuleList([block]) for block in listed])
        self.listed = listed
        self.bn4 = nn.BatchNorm2d(widths[-1], eps=1e-4)
        self.activation = act
        self.conv2d5 = make(nn.Conv2d(widths[-1], 3, 3, padding=1))

    def forward(self, z: Tensor, label: Tensor | None) -> Tensor:
        z, affines = self.conditions(z, label)
        act = self.linear0(z).view(-1, self.first, 4, 4)
        counter = 0
        for block in self.listed:
            if isinstance(block, Attention):
                act = block(act)
            else:
                act = block(act, affines[counter])
                counter += 1
        return torch.tanh(self.conv2d5(self.activation(self.bn4(act))))

    def conditions(self, z: Tensor, label: Tensor | None) -> tuple[Tensor, list[Tensor | None]]:
        if self.kind == "resnet":
            onehot = None if label is None else F.one_hot(label, self.classes).to(torch.float32)
            return z, [onehot] * len(self.listed)
        shared = [self.shared(label)] if label is not None else []
        if self.kind == "big":
            first, *rest = torch.split(z, self.chunk, 1)
            return first, [torch.cat([*shared, item], 1) for item in rest]
        joined = torch.cat([*shared, z], 1)
        return joined, [joined] * len(self.listed)


def _same(module: nn.Module) -> nn.Module:
    return module


def call(network: nn.Module, arrays: Mapping[str, Tensor]) -> Tensor:
    """With the label where there is one."""
    out: Tensor = network(arrays["latent"], arrays.get("label"))
    return out


def call_uniform(network: nn.Module, arrays: Mapping[str, Tensor]) -> Tensor:
    """`z_prior: uniform`: latents of the same rank in [-1, 1]."""
    ranks = torch.special.ndtr(arrays["latent"].double())
    return call(network, {**arrays, "latent": (2 * ranks - 1).float()})
