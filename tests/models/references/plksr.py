"""PLKSR as dslisleedh/PLKSR defines it and RealPLKSR as neosr does, with DySample."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LayerNorm(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        last = F.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2], self.weight, self.bias, 1e-6)
        return last.permute(0, 3, 1, 2)


class PartialConv(nn.Module):
    def __init__(self, part: int, size: int) -> None:
        super().__init__()
        self.part = part
        self.conv = nn.Conv2d(part, part, size, 1, size // 2)

    def forward(self, x: Tensor) -> Tensor:
        kept = x.clone()
        kept[:, : self.part] = self.conv(x[:, : self.part])
        return kept


class RectangularConv(nn.Module):
    def __init__(self, part: int, size: int) -> None:
        super().__init__()
        self.part, short = part, size // 3
        self.mn_conv = nn.Conv2d(part, part, (size, short), padding="same")
        self.nm_conv = nn.Conv2d(part, part, (short, size), padding="same")
        self.nn_conv = nn.Conv2d(part, part, (short, short), padding="same")

    def forward(self, x: Tensor) -> Tensor:
        kept, seen = x.clone(), x[:, : self.part]
        kept[:, : self.part] = self.mn_conv(seen) + self.nm_conv(seen) + self.nn_conv(seen)
        return kept


class Gate(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.f = nn.Sequential(nn.Conv2d(dim, dim, 3, 1, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.f(x)  # type: ignore[no-any-return]


class Block(nn.Module):
    def __init__(self, dim: int, lk: nn.Module, gate: bool) -> None:
        super().__init__()
        self.lk = lk
        self.attn = Gate(dim) if gate else nn.Identity()
        self.refine = nn.Conv2d(dim, dim, 1)


class PlainBlock(Block):
    def __init__(self, dim: int, lk: nn.Module, gate: bool, kernels: Sequence[int]) -> None:
        super().__init__(dim, lk, gate)
        a, b = kernels
        self.channe_mixer = nn.Sequential(
            nn.Conv2d(dim, dim * 2, a, 1, a // 2), nn.GELU(), nn.Conv2d(dim * 2, dim, b, 1, b // 2)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.refine(self.attn(self.lk(self.channe_mixer(x)))) + x  # type: ignore[no-any-return]


class RealBlock(Block):
    def __init__(self, dim: int, lk: nn.Module, gate: bool, layer_norm: bool, groups: int) -> None:
        super().__init__(dim, lk, gate)
        self.channel_mixer = nn.Sequential(
            nn.Conv2d(dim, dim * 2, 3, 1, 1), nn.Mish(), nn.Conv2d(dim * 2, dim, 3, 1, 1)
        )
        self.layer_norm = LayerNorm(dim) if layer_norm else nn.Identity()
        self.norm = nn.Identity() if layer_norm else nn.GroupNorm(groups, dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.refine(self.attn(self.lk(self.channel_mixer(self.layer_norm(x))))))
        return x + out


class DySample(nn.Module):
    def __init__(self, dim: int, out: int, scale: int, groups: int) -> None:
        super().__init__()
        self.scale, self.groups = scale, groups
        self.offset = nn.Conv2d(dim, 2 * groups * scale * scale, 1)
        self.scope = nn.Conv2d(dim, 2 * groups * scale * scale, 1, bias=False)
        if scale != 1:
            self.end_conv = nn.Conv2d(dim, out, 1)
        steps = (torch.arange(scale) - (scale - 1) / 2) / scale
        down, across = torch.meshgrid(steps, steps, indexing="ij")
        both = torch.stack([across.flatten().repeat(groups), down.flatten().repeat(groups)])
        self.register_buffer("init_pos", both.reshape(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        s, g = self.scale, self.groups
        moves = (self.offset(x) * self.scope(x).sigmoid() * 0.5 + self.init_pos).view(n, 2, g, s, s, h, w)
        moves = moves.permute(0, 1, 2, 5, 3, 6, 4).reshape(n, 2, g, h * s, w * s)
        down, across = torch.meshgrid(torch.arange(h * s) // s + 0.5, torch.arange(w * s) // s + 0.5, indexing="ij")
        right, below = (across + moves[:, 0]) / w * 2 - 1, (down + moves[:, 1]) / h * 2 - 1
        channels = [
            F.grid_sample(part, torch.stack([right[:, i], below[:, i]], -1), "bilinear", "border", align_corners=False)
            for i, part in enumerate(x.view(n, g, c // g, h, w).unbind(1))
        ]
        read = torch.cat(channels, 1)
        return read if s == 1 else self.end_conv(read)


class Upscaler(nn.Module):
    def __init__(self, dim: int, scale: int, blocks: Sequence[nn.Module], channels: int = 3) -> None:
        super().__init__()
        self.repeats = scale * scale
        ends = (nn.Conv2d(channels, dim, 3, 1, 1), nn.Conv2d(dim, channels * scale * scale, 3, 1, 1))
        self.feats = nn.Sequential(ends[0], *blocks, ends[1])
        self.to_img: nn.Module = nn.PixelShuffle(scale)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.to_img(self.feats(x) + torch.repeat_interleave(x, self.repeats, 1))
        return out


class Plksr(Upscaler):
    def __init__(
        self, dim: int, blocks: int, scale: int, kernel: int, mixer: Sequence[int] = (3, 1), gate: bool = True,
        rectangular: bool = False,
    ) -> None:  # fmt: skip
        large = RectangularConv if rectangular else PartialConv
        made = [PlainBlock(dim, large(dim // 4, kernel), gate, mixer) for _ in range(blocks)]
        super().__init__(dim, scale, made)


class RealPlksr(Upscaler):
    def __init__(
        self, dim: int, blocks: int, scale: int, kernel: int, layer_norm: bool = False, dysample: bool = False,
        gate: bool = True, groups: int = 4, channels: int = 3,
    ) -> None:  # fmt: skip
        made = [RealBlock(dim, PartialConv(dim // 4, kernel), gate, layer_norm, groups) for _ in range(blocks)]
        super().__init__(dim, scale, [*made, nn.Dropout2d(0.1)], channels)
        if dysample:
            self.to_img = DySample(channels * scale * scale, channels, scale, 3 if scale % 2 else 4)
