"""The encoders of pixel2style2pixel and encoder4editing, written from facts about them, of any widths.

Keys are theirs: input_layer, body (IR-SE50), styles, latlayer1, latlayer2.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

COUNTS = (3, 4, 14, 3)


class Squeeze(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, channels // 16, 1, padding=0, bias=False)
        self.relu = nn.ReLU()
        self.fc2 = nn.Conv2d(channels // 16, channels, 1, padding=0, bias=False)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.sigmoid(self.fc2(self.relu(self.fc1(self.avg_pool(x)))))
        return x * y


class Bottleneck(nn.Module):
    def __init__(self, inner: int, depth: int, stride: int) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module = nn.MaxPool2d(1, stride)
        if inner != depth:
            self.shortcut_layer = nn.Sequential(nn.Conv2d(inner, depth, 1, stride, bias=False), nn.BatchNorm2d(depth))
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(inner),
            nn.Conv2d(inner, depth, (3, 3), (1, 1), 1, bias=False),
            nn.PReLU(depth),
            nn.Conv2d(depth, depth, (3, 3), stride, 1, bias=False),
            nn.BatchNorm2d(depth),
            Squeeze(depth),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.res_layer(x) + self.shortcut_layer(x)
        return out


class Linear(nn.Module):
    """EqualLinear of rosinality's op with lr_mul 1."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(size, size))
        self.bias = nn.Parameter(torch.zeros(size))
        self.scale = 1 / math.sqrt(size)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight * self.scale, bias=self.bias)


class StyleBlock(nn.Module):
    def __init__(self, size: int, spatial: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(int(math.log2(spatial))):
            layers += [nn.Conv2d(size, size, kernel_size=3, stride=2, padding=1), nn.LeakyReLU()]
        self.convs = nn.Sequential(*layers)
        self.linear = Linear(size)
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(self.convs(x).view(-1, self.size))
        return out


class Encoder(nn.Module):
    """`editing`: Encoder4Editing, all of whose stages are reached; else GradualStyleEncoder."""

    def __init__(self, editing: bool, widths: tuple[int, ...], layers: int, spatial: int, channels: int = 3) -> None:
        super().__init__()
        self.editing, self.count = editing, layers
        first, *depths = widths
        self.input_layer = nn.Sequential(
            nn.Conv2d(channels, first, (3, 3), 1, 1, bias=False), nn.BatchNorm2d(first), nn.PReLU(first)
        )
        blocks, inner = [], first
        for depth, count in zip(depths, COUNTS, strict=True):
            blocks += [Bottleneck(inner, depth, 2), *(Bottleneck(depth, depth, 1) for _ in range(count - 1))]
            inner = depth
        self.body = nn.Sequential(*blocks)
        sizes = [spatial] * 3 + [2 * spatial] * 4 + [4 * spatial] * (layers - 7)
        self.styles = nn.ModuleList([StyleBlock(depths[-1], size) for size in sizes[:layers]])
        self.latlayer1 = nn.Conv2d(depths[2], depths[-1], kernel_size=1, stride=1, padding=0)
        self.latlayer2 = nn.Conv2d(depths[1], depths[-1], kernel_size=1, stride=1, padding=0)

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        _, _, height, width = y.size()
        return functional.interpolate(x, size=(height, width), mode="bilinear", align_corners=True) + y

    def forward(self, x: Tensor) -> Tensor:
        x = self.input_layer(x)
        kept = {}
        for index, layer in enumerate(self.body):
            x = layer(x)
            kept[index] = x
        c1, c2, c3 = kept[6], kept[20], kept[23]
        p2 = self.add(c3, self.latlayer1(c2))
        p1 = self.add(p2, self.latlayer2(c1))
        if not self.editing:
            of = [c3] * 3 + [p2] * 4 + [p1] * (self.count - 7)
            return torch.stack([style(features) for style, features in zip(self.styles, of, strict=False)], dim=1)
        w: Tensor = self.styles[0](c3).repeat(self.count, 1, 1).permute(1, 0, 2).clone()
        features = c3
        for index in range(1, self.count):
            features = p2 if index == 3 else p1 if index == 7 else features
            w[:, index] += self.styles[index](features)
        return w
