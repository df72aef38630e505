"""bryandlee/animegan2-pytorch's generator and znxlwm/UGATIT-pytorch's, light and full."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvNormLReLU(nn.Sequential):
    def __init__(
        self, a: int, b: int, k: int = 3, s: int = 1, p: int | tuple[int, ...] = 1, g: int = 1, bias: bool = False
    ):
        super().__init__(
            nn.ReflectionPad2d(p),  # type: ignore[arg-type]
            nn.Conv2d(a, b, k, s, 0, groups=g, bias=bias),
            nn.GroupNorm(1, b, affine=True),
            nn.LeakyReLU(0.2),
        )


class InvertedRes(nn.Module):
    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            ConvNormLReLU(a, 2 * a, 1, 1, 0),
            ConvNormLReLU(2 * a, 2 * a, g=2 * a, bias=True),
            nn.Conv2d(2 * a, b, 1, bias=False),
            nn.GroupNorm(1, b),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if x.shape == y.shape else y


class AnimeGan2(nn.Module):
    def __init__(self, w: int, align: bool) -> None:
        super().__init__()
        half = (0, 1, 0, 1)
        unit = ConvNormLReLU
        self.block_a = nn.Sequential(unit(3, w, 7, 1, 3), unit(w, 2 * w, 3, 2, half), unit(2 * w, 2 * w))
        self.block_b = nn.Sequential(unit(2 * w, 4 * w, 3, 2, half), unit(4 * w, 4 * w))
        inverted = [InvertedRes(4 * w, 8 * w), *(InvertedRes(8 * w, 8 * w) for _ in range(3))]
        self.block_c = nn.Sequential(unit(4 * w, 4 * w), *inverted, unit(8 * w, 4 * w))
        self.block_d = nn.Sequential(unit(4 * w, 4 * w), unit(4 * w, 4 * w))
        self.block_e = nn.Sequential(unit(4 * w, 2 * w), unit(2 * w, 2 * w), unit(2 * w, w, 7, 1, 3))
        self.out_layer = nn.Sequential(nn.Conv2d(w, 3, 1, bias=False), nn.Tanh())
        self.align = align

    def forward(self, image: Tensor) -> Tensor:
        x = self.block_a(image)
        half = x.shape[-2:]
        x = self.block_c(self.block_b(x))
        x = self.larger(x, half)
        x = self.larger(self.block_d(x), image.shape[-2:])
        result: Tensor = self.out_layer(self.block_e(x))
        return result

    def larger(self, x: Tensor, size: torch.Size) -> Tensor:
        if self.align:
            return F.interpolate(x, tuple(size), mode="bilinear", align_corners=True)
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class ResnetBlock(nn.Module):
    def __init__(self, d: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for last in (False, True):
            layers += [nn.ReflectionPad2d(1), nn.Conv2d(d, d, 3, bias=False), nn.InstanceNorm2d(d)]
            layers += [] if last else [nn.ReLU()]
        self.conv_block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.conv_block(x)
        return result


class AdaILN(nn.Module):
    def __init__(self, d: int) -> None:
        super().__init__()
        self.rho = nn.Parameter(torch.empty(1, d, 1, 1))

    def mixed(self, x: Tensor) -> Tensor:
        def normed(axes: list[int]) -> Tensor:
            variance, mean = torch.var_mean(x, axes, keepdim=True)
            return (x - mean) / torch.sqrt(variance + 1e-5)

        return self.rho * normed([2, 3]) + (1 - self.rho) * normed([1, 2, 3])

    def forward(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        return self.mixed(x) * gamma[:, :, None, None] + beta[:, :, None, None]


class ILN(AdaILN):
    def __init__(self, d: int) -> None:
        super().__init__(d)
        self.gamma = nn.Parameter(torch.empty(1, d, 1, 1))
        self.beta = nn.Parameter(torch.empty(1, d, 1, 1))

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return self.mixed(x) * self.gamma + self.beta


class AdaBlock(nn.Module):
    def __init__(self, d: int) -> None:
        super().__init__()
        self.pad = nn.ReflectionPad2d(1)
        self.conv1 = nn.Conv2d(d, d, 3, bias=False)
        self.norm1 = AdaILN(d)
        self.conv2 = nn.Conv2d(d, d, 3, bias=False)
        self.norm2 = AdaILN(d)

    def forward(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(self.pad(x)), gamma, beta))
        result: Tensor = self.norm2(self.conv2(self.pad(y)), gamma, beta) + x
        return result


class Ugatit(nn.Module):
    def __init__(self, ch: int, blocks: int, light: bool, side: int = 0) -> None:
        super().__init__()
        d = 4 * ch
        down: list[nn.Module] = [
            nn.ReflectionPad2d(3),
            nn.Conv2d(3, ch, 7, bias=False),
            nn.InstanceNorm2d(ch),
            nn.ReLU(),
        ]
        for a in (ch, 2 * ch):
            conv = nn.Conv2d(a, 2 * a, 3, 2, bias=False)
            down += [nn.ReflectionPad2d(1), conv, nn.InstanceNorm2d(2 * a), nn.ReLU()]
        self.DownBlock = nn.Sequential(*down, *(ResnetBlock(d) for _ in range(blocks)))
        self.gap_fc = nn.Linear(d, 1, bias=False)
        self.gmp_fc = nn.Linear(d, 1, bias=False)
        self.conv1x1 = nn.Conv2d(2 * d, d, 1)
        entered = d if light else d * (side // 4) ** 2
        self.FC = nn.Sequential(nn.Linear(entered, d, bias=False), nn.ReLU(), nn.Linear(d, d, bias=False), nn.ReLU())
        self.gamma = nn.Linear(d, d, bias=False)
        self.beta = nn.Linear(d, d, bias=False)
        for place in range(blocks):
            setattr(self, f"UpBlock1_{place + 1}", AdaBlock(d))
        up: list[nn.Module] = []
        for a in (d, d // 2):
            up += [nn.Upsample(scale_factor=2), nn.ReflectionPad2d(1), nn.Conv2d(a, a // 2, 3, bias=False)]
            up += [ILN(a // 2), nn.ReLU()]
        self.UpBlock2 = nn.Sequential(*up, nn.ReflectionPad2d(3), nn.Conv2d(ch, 3, 7, bias=False), nn.Tanh())
        self.blocks, self.light = blocks, light

    def forward(self, image: Tensor) -> Tensor:
        x = self.DownBlock(image)
        gap = x * self.gap_fc.weight.reshape(1, -1, 1, 1)
        gmp = x * self.gmp_fc.weight.reshape(1, -1, 1, 1)
        x = F.relu(self.conv1x1(torch.cat([gap, gmp], 1)))
        y = F.adaptive_avg_pool2d(x, 1).flatten(1) if self.light else x.reshape(len(x), -1)
        y = self.FC(y)
        gamma, beta = self.gamma(y), self.beta(y)
        for place in range(self.blocks):
            x = getattr(self, f"UpBlock1_{place + 1}")(x, gamma, beta)
        result: Tensor = self.UpBlock2(x)
        return result
