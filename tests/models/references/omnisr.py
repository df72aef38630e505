"""OmniSR as Francis0625/Omni-SR defines it: windows and grids are cut by slicing, one at a time."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ChannelNorm(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        y = F.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2], self.weight, self.bias, 1e-6)
        return y.permute(0, 3, 1, 2)


class PreNorm(nn.Module):
    """Norm, layer, + input; `last`: the layer takes channels last."""

    def __init__(self, norm: nn.Module, fn: nn.Module, last: bool = False) -> None:
        super().__init__()
        self.norm, self.fn, self.last = norm, fn, last

    def forward(self, x: Tensor) -> Tensor:
        if self.last:
            y: Tensor = self.fn(self.norm(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        else:
            y = self.fn(self.norm(x))
        return x + y


class Squeeze(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        layers = (nn.Linear(dim, dim // 4, bias=False), nn.SiLU(), nn.Linear(dim // 4, dim, bias=False), nn.Sigmoid())
        self.gate = nn.Sequential(nn.Flatten(2), *layers)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate[1:](x.mean((2, 3)))[:, :, None, None]  # type: ignore[no-any-return]


class MbConv(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        middle = nn.Conv2d(dim, dim, 3, 1, 1, groups=dim)
        self.fn = nn.Sequential(
            nn.Conv2d(dim, dim, 1), nn.GELU(), middle, nn.GELU(), Squeeze(dim), nn.Conv2d(dim, dim, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fn(x)
        return x + y


def places(length: int, w: int, grid: bool) -> list[slice]:
    """Along an axis: the pixels of each window; of a grid those that lie `length // w` apart."""
    steps = length // w
    return [slice(i, None, steps) if grid else slice(i * w, i * w + w) for i in range(steps)]


class Attention(nn.Module):
    def __init__(self, dim: int, w: int, grid: bool) -> None:
        super().__init__()
        self.w, self.grid = w, grid
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.to_out = nn.Sequential(nn.Linear(dim, dim, bias=False), nn.Dropout(0.0))
        self.rel_pos_bias = nn.Embedding((2 * w - 1) ** 2, 4)

    def forward(self, x: Tensor) -> Tensor:
        w, out = self.w, torch.empty_like(x)
        at = torch.tensor([(i, j) for i in range(w) for j in range(w)])
        apart = (at[:, None] - at[None] + w - 1) * torch.tensor([2 * w - 1, 1])
        bias = self.rel_pos_bias(apart.sum(-1)).permute(2, 0, 1)
        for rows in places(x.shape[1], w, self.grid):
            for columns in places(x.shape[2], w, self.grid):
                tokens = x[:, rows, columns].flatten(1, 2)
                q, k, v = (t.unflatten(2, (4, -1)).transpose(1, 2) for t in self.to_qkv(tokens).chunk(3, -1))
                mixed = ((q @ k.mT) * q.shape[-1] ** -0.5 + bias).softmax(-1) @ v
                out[:, rows, columns] = self.to_out(mixed.transpose(1, 2).flatten(2)).unflatten(1, (w, w))
        return out


class ChannelAttention(nn.Module):
    """Over the pixels of each window; with `grid` over those at one place of every window."""

    def __init__(self, dim: int, w: int, grid: bool) -> None:
        super().__init__()
        self.w, self.grid = w, grid
        self.temperature = nn.Parameter(torch.ones(4, 1, 1))
        self.qkv = nn.Conv2d(dim, 3 * dim, 1, bias=False)
        self.qkv_dwconv = nn.Conv2d(3 * dim, 3 * dim, 3, 1, 1, groups=3 * dim, bias=False)
        self.project_out = nn.Conv2d(dim, dim, 1, bias=False)

    def along(self, length: int) -> list[slice]:
        return [slice(i, None, self.w) for i in range(self.w)] if self.grid else places(length, self.w, False)

    def forward(self, x: Tensor) -> Tensor:
        qkv, out = self.qkv_dwconv(self.qkv(x)), torch.empty_like(x)
        for rows in self.along(x.shape[2]):
            for columns in self.along(x.shape[3]):
                part = qkv[:, :, rows, columns]
                q, k, v = (t.flatten(2).unflatten(1, (4, -1)) for t in part.chunk(3, 1))
                q, k = (t / t.norm(dim=-1, keepdim=True).clamp_min(1e-12) for t in (q, k))
                mixed = (q @ k.mT * self.temperature).softmax(-1) @ v
                out[:, :, rows, columns] = mixed.flatten(1, 2).unflatten(2, part.shape[2:])
        y: Tensor = self.project_out(out)
        return y


class Gated(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.project_in = nn.Conv2d(dim, 2 * dim, 1, bias=False)
        self.dwconv = nn.Conv2d(2 * dim, 2 * dim, 3, 1, 1, groups=2 * dim, bias=False)
        self.project_out = nn.Conv2d(dim, dim, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.dwconv(self.project_in(x))
        half = y.shape[1] // 2
        out: Tensor = self.project_out(F.gelu(y[:, :half]) * y[:, half:])
        return out


class Block(nn.Module):
    def __init__(self, dim: int, w: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [MbConv(dim)]
        for grid in (False, True):
            layers += [
                nn.Identity(),  # the repository rearranges here
                PreNorm(nn.LayerNorm(dim), Attention(dim, w, grid), last=True),
                nn.Identity(),
                PreNorm(ChannelNorm(dim), Gated(dim)),
                PreNorm(ChannelNorm(dim), ChannelAttention(dim, w, grid)),
                PreNorm(ChannelNorm(dim), Gated(dim)),
            ]
        self.layer = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out


class Esa(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        f = max(dim // 4, 16)
        self.conv1, self.conv_f, self.conv4 = nn.Conv2d(dim, f, 1), nn.Conv2d(f, f, 1), nn.Conv2d(f, dim, 1)
        self.conv2, self.conv3 = nn.Conv2d(f, f, 3, 2), nn.Conv2d(f, f, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        c = self.conv1(x)
        far = self.conv3(F.max_pool2d(self.conv2(c), 7, 3))
        far = F.interpolate(far, x.shape[2:], mode="bilinear", align_corners=False)
        return x * self.conv4(far + self.conv_f(c)).sigmoid()  # type: ignore[no-any-return]


class Group(nn.Module):
    def __init__(self, dim: int, blocks: int, w: int, bias: bool) -> None:
        super().__init__()
        made = (Block(dim, w) for _ in range(blocks))
        self.residual_layer = nn.Sequential(*made, nn.Conv2d(dim, dim, 1, bias=bias))
        self.esa = Esa(dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.esa(self.residual_layer(x) + x)
        return out


class OmniSr(nn.Module):
    def __init__(
        self, dim: int, groups: int, blocks: int, w: int, scale: int, channels: int = 3, bias: bool = True
    ) -> None:
        super().__init__()
        self.w, self.scale = w, scale
        self.input = nn.Conv2d(channels, dim, 3, 1, 1, bias=bias)
        self.residual_layer = nn.Sequential(*(Group(dim, blocks, w, bias) for _ in range(groups)))
        self.output = nn.Conv2d(dim, dim, 3, 1, 1, bias=bias)
        last = nn.Conv2d(dim, channels * scale * scale, 3, 1, 1, bias=bias)
        self.up = nn.Sequential(last, nn.PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[2:]
        first = self.input(F.pad(x, (0, -w % self.w, 0, -h % self.w)))
        out: Tensor = self.up(self.output(self.residual_layer(first)) + first)
        return out[:, :, : h * self.scale, : w * self.scale]
