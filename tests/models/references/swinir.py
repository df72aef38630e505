"""SwinIR as JingyunLiang/SwinIR defines it."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.models.references.swin_heads import Ending, connection


def mask_of(height: int, width: int, w: int, shift: int) -> Tensor:
    regions, number = torch.zeros(height, width), 0
    slices = (slice(0, -w), slice(-w, -shift), slice(-shift, None))
    for rows in slices:
        for columns in slices:
            regions[rows, columns] = number
            number += 1
    parts = regions.view(height // w, w, width // w, w).transpose(1, 2).reshape(-1, w * w)
    return torch.where(parts[:, None] == parts[:, :, None], 0.0, -100.0)


class WindowAttention(nn.Module):
    def __init__(self, dim: int, w: int, heads: int, bias: bool) -> None:
        super().__init__()
        self.w, self.heads = w, heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * w - 1) ** 2, heads))
        index = torch.zeros(w * w, w * w, dtype=torch.long)
        for query in range(w * w):
            for key in range(w * w):
                dy, dx = query // w - key // w, query % w - key % w
                index[query, key] = (dy + w - 1) * (2 * w - 1) + dx + w - 1
        self.index = index
        self.register_buffer("relative_position_index", index.clone())  # in files; never trained
        self.qkv = nn.Linear(dim, dim * 3, bias=bias)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        table = self.relative_position_bias_table[self.index.view(-1)]
        attn = q * (c // self.heads) ** -0.5 @ k.transpose(-2, -1) + table.view(n, n, -1).permute(2, 0, 1)
        if mask is not None:
            attn = attn + mask.repeat(b // len(mask), 1, 1)[:, None]
        return self.proj((attn.softmax(-1) @ v).transpose(1, 2).reshape(b, n, c))  # type: ignore[no-any-return]


class Block(nn.Module):
    def __init__(self, dim: int, w: int, heads: int, ratio: float, shift: int, bias: bool) -> None:
        super().__init__()
        self.w, self.shift = w, shift
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, w, heads, bias)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(dim, int(dim * ratio)), "fc2": nn.Linear(int(dim * ratio), dim)})
        if shift:
            self.register_buffer("attn_mask", mask_of(8 * w, 8 * w, w, shift))

    def forward(self, x: Tensor) -> Tensor:
        n, h, width, c = x.shape
        w, s = self.w, self.shift
        y = torch.roll(self.norm1(x), (-s, -s), (1, 2))
        y = y.view(n, h // w, w, width // w, w, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, w * w, c)
        y = self.attn(y, mask_of(h, width, w, s) if s else None)
        y = y.view(n, h // w, width // w, w, w, c).permute(0, 1, 3, 2, 4, 5).reshape(n, h, width, c)
        x = x + torch.roll(y, (s, s), (1, 2))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))  # type: ignore[no-any-return]


class Group(nn.Module):
    def __init__(self, dim: int, w: int, depth: int, heads: int, ratio: float, resi: str, bias: bool) -> None:
        super().__init__()
        self.residual_group = nn.Module()
        self.residual_group.blocks = nn.ModuleList(
            Block(dim, w, heads, ratio, w // 2 * (index % 2), bias) for index in range(depth)
        )
        self.conv = connection(dim, resi)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for block in self.residual_group.get_submodule("blocks").children():
            y = block(y)
        return x + self.conv(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # type: ignore[no-any-return]


class SwinIr(Ending):
    def __init__(
        self, upsampler: str, scale: int, channels: int = 3, dim: int = 12, depths: tuple[int, ...] = (2, 1),
        heads: tuple[int, ...] = (3, 2), w: int = 4, resi: str = "1conv", fold: int = 1, bias: bool = True,
        norm: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(channels, dim, 8, scale, upsampler, resi, 255.0 if w == 7 else 1.0, fold)
        self.w = w
        if norm:
            self.patch_embed = nn.Module()
            self.patch_embed.norm = nn.LayerNorm(dim)
        groups = (Group(dim, w, depth, count, 2.0, resi, bias) for depth, count in zip(depths, heads, strict=True))
        self.layers = nn.ModuleList(groups)
        self.norm = nn.LayerNorm(dim)

    def body(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        if hasattr(self, "patch_embed"):
            x = self.patch_embed.get_submodule("norm")(x)
        for layer in self.layers:
            x = layer(x)
        return self.norm(x).permute(0, 3, 1, 2)  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[2:]
        whole = self.w * self.fold
        x = F.pad(x, (0, -w % whole, 0, -h % whole), "reflect")
        scale = self.scale // self.fold
        return self.enlarge((x - self.mean) * self.img_range)[:, :, : h * scale, : w * scale]
