"""lucidrains/lightweight-gan's generator, written from the facts; noise maps come from outside."""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DELAY = 4  # an excitation of the map of 2^n px acts on the one of 2^(n + 4)


class Up(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(width, width * 4, 1), nn.SiLU(), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.net(x)
        return found


class Blur(nn.Module):
    f: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("f", torch.tensor([1.0, 2.0, 1.0]))

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.f[None, :] * self.f[:, None]
        kernel = (kernel / kernel.abs().sum()).repeat(x.shape[1], 1, 1, 1)
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel, groups=x.shape[1])


class Noise(nn.Module):
    """Adds `self.map`, which `generate` sets before each call."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.map = torch.zeros(1)

    def forward(self, x: Tensor) -> Tensor:
        assert self.map.shape[2:] == x.shape[2:]
        return x + self.weight * self.map


class GlobalContext(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        middle = max(3, after // 2)
        self.to_k = nn.Conv2d(before, 1, 1)
        self.net = nn.Sequential(
            nn.Conv2d(before, middle, 1), nn.LeakyReLU(0.1), nn.Conv2d(middle, after, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        shares = self.to_k(x).flatten(2).softmax(-1)
        pooled = torch.einsum("bin,bcn->bci", shares, x.flatten(2))
        found: Tensor = self.net(pooled[..., None])
        return found


class FrequencyContext(nn.Module):
    dct_weights: Tensor

    def __init__(self, before: int, after: int, side: int) -> None:
        super().__init__()
        middle = max(3, after // 4)
        self.register_buffer("dct_weights", _cosines(before, side))
        self.net = nn.Sequential(
            nn.Conv2d(before, middle, 1), nn.LeakyReLU(0.1), nn.Conv2d(middle, after, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.net((x * self.dct_weights).sum((2, 3), keepdim=True))
        return found


def _cosines(channels: int, side: int) -> Tensor:
    place = torch.arange(side) + 0.5
    waves = [torch.cos(math.pi * n * place / side) * (1.0 if n == 0 else math.sqrt(2)) for n in range(8)]
    waves = [wave / math.sqrt(side) for wave in waves]
    pairs = [(0, n) for n in range(8)] + [(n, 0) for n in range(8)]
    each = channels // len(pairs)
    weights = torch.zeros(1, channels, side, side)
    for index, (x, y) in enumerate(pairs):
        weights[:, index * each : (index + 1) * each] = torch.outer(waves[x], waves[y])
    return weights


class DepthWise(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(before, before, 3, padding=1, groups=before, bias=False), nn.Conv2d(before, after, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.net(x)
        return found


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, inner = heads, heads * 64
        self.to_lin_q = nn.Conv2d(width, inner, 1, bias=False)
        self.to_lin_kv = DepthWise(width, inner * 2)
        self.to_q = nn.Conv2d(width, inner, 1, bias=False)
        self.to_kv = nn.Conv2d(width, inner * 2, 1, bias=False)
        self.to_out = nn.Conv2d(inner * 2, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, _, height, width = x.shape

        def rows(maps: Tensor) -> Tensor:
            return maps.reshape(n * self.heads, 64, height * width).transpose(1, 2)

        query, (key, value) = self.to_lin_q(x), self.to_lin_kv(x).chunk(2, 1)
        q, k, v = rows(query).softmax(-1) * 64**-0.5, rows(key).softmax(-2), rows(value)
        linear = torch.einsum("bnd,bde->bne", q, torch.einsum("bnd,bne->bde", k, v))
        linear = linear.transpose(1, 2).reshape(n, -1, height, width)

        key, value = self.to_kv(x).chunk(2, 1)
        around = [
            F.unfold(maps.reshape(n * self.heads, 64, height, width), 3, padding=1)
            .reshape(n * self.heads, 64, 9, -1)
            .permute(0, 3, 2, 1)
            for maps in (key, value)
        ]
        shares = torch.einsum("bid,bijd->bij", rows(self.to_q(x)) * 64**-0.5, around[0]).softmax(-1)
        full = torch.einsum("bij,bijd->bid", shares, around[1]).transpose(1, 2).reshape(n, -1, height, width)
        found: Tensor = self.to_out(torch.cat([F.gelu(linear), full], 1))
        return found


class ChannelNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(1, width, 1, 1))
        self.b = nn.Parameter(torch.zeros(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        variance = torch.var(x, dim=1, unbiased=False, keepdim=True)
        return (x - x.mean(1, keepdim=True)) / (variance + 1e-5).sqrt() * self.g + self.b


class Normed(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.fn = Attention(width, heads)
        self.norm = ChannelNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.fn(self.norm(x))
        return found


class LightweightGan(nn.Module):
    """`widths` are those of the maps from 4 px on; `attended` the sides of the maps that attention runs on."""

    def __init__(
        self, latent: int, widths: Sequence[int], attended: Sequence[int], by_frequency: bool, channels: int = 3
    ) -> None:
        super().__init__()
        self.initial_conv = nn.Sequential(
            nn.ConvTranspose2d(latent, latent * 2, 4), nn.BatchNorm2d(latent * 2), nn.GLU(dim=1)
        )
        self.layers = nn.ModuleList()
        steps = len(widths) - 1
        for step in range(steps):
            side, before, after = 4 * 2**step, widths[step], widths[step + 1]
            up = nn.Sequential(
                Up(before),
                Blur(),
                nn.Sequential(nn.ZeroPad2d((2, 1, 2, 1)), nn.Conv2d(before, after * 2, 4)),
                Noise(),
                nn.BatchNorm2d(after * 2),
                nn.GLU(dim=1),
            )
            excite: nn.Module | None = None
            if step >= 1 and step + DELAY - 1 < steps:
                target = widths[step + DELAY]
                excite = FrequencyContext(after, target, 2 * side) if by_frequency else GlobalContext(after, target)
            attend = Normed(before, 8) if side in attended else None
            self.layers.append(nn.ModuleList([up, excite, attend]))  # type: ignore[list-item]
        self.out_conv = nn.Conv2d(widths[-1], channels, 3, padding=1)

    def forward(self, latent: Tensor) -> Tensor:
        x = F.normalize(self.initial_conv(latent[:, :, None, None]), dim=1)
        later: dict[int, Tensor] = {}
        for step, layer in enumerate(self.layers):
            up, excite, attend = (part for part in layer)  # type: ignore[attr-defined]
            if attend is not None:
                x = attend(x) + x
            x = up(x)
            if excite is not None:
                later[step + DELAY - 1] = excite(x)
            if step in later:
                x = x * later[step]
        image: Tensor = self.out_conv(x)
        return image


class Trainer(nn.Module):
    """What a checkpoint's `GAN` holds: the generator, a discriminator's stand-in, and the running average."""

    def __init__(self, latent: int, widths: Sequence[int], attended: Sequence[int], by_frequency: bool) -> None:
        super().__init__()
        self.G = LightweightGan(latent, widths, attended, by_frequency)
        self.D = nn.Sequential(nn.Conv2d(3, 4, 4, 2, 1))
        self.GE = LightweightGan(latent, widths, attended, by_frequency)


def generate(network: nn.Module, arrays: Mapping[str, Tensor]) -> Tensor:
    """The average's image with the given noise, coarse to fine."""
    assert isinstance(network, Trainer)
    side, start, given = 8, 0, arrays["noise"]
    for place in (module for module in network.GE.modules() if isinstance(module, Noise)):
        place.map = given[:, start : start + side**2].reshape(-1, 1, side, side)
        start, side = start + side**2, 2 * side
    image: Tensor = network.GE(arrays["latent"])
    return image
