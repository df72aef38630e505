"""DAT as zhengchen1999/DAT defines it; tokens are (N, H, W, dim) throughout."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.models.references.swin_heads import Ending, connection


def image(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)


def tokens(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


def mask_of(height: int, width: int, sh: int, sw: int) -> Tensor:
    regions, number = torch.zeros(height, width), 0
    for rows in (slice(0, -sh), slice(-sh, -(sh // 2)), slice(-(sh // 2), None)):
        for columns in (slice(0, -sw), slice(-sw, -(sw // 2)), slice(-(sw // 2), None)):
            regions[rows, columns] = number
            number += 1
    parts = regions.view(height // sh, sh, width // sw, sw).transpose(1, 2).reshape(-1, sh * sw)
    return torch.where(parts[:, None] == parts[:, :, None], 0.0, -100.0)


def small(dim: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(dim), nn.ReLU(inplace=True), nn.Linear(dim, out))


class Position(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.pos_proj = nn.Linear(2, dim)
        self.pos1, self.pos2, self.pos3 = small(dim, dim), small(dim, dim), small(dim, heads)

    def forward(self, distances: Tensor) -> Tensor:
        out: Tensor = self.pos3(self.pos2(self.pos1(self.pos_proj(distances))))
        return out


class WindowPart(nn.Module):
    """Half of the channels in windows of one shape."""

    def __init__(self, dim: int, heads: int, sh: int, sw: int) -> None:
        super().__init__()
        self.heads, self.sh, self.sw = heads, sh, sw
        self.pos = Position(dim // 4 // 4, heads)
        self.distances = torch.tensor([[y, x] for y in range(1 - sh, sh) for x in range(1 - sw, sw)]).float()
        at = [(i // sw, i % sw) for i in range(sh * sw)]
        self.index = torch.tensor([[(a - c + sh - 1) * (2 * sw - 1) + b - d + sw - 1 for c, d in at] for a, b in at])
        self.register_buffer("rpe_biases", self.distances.clone())  # both in files, never trained
        self.register_buffer("relative_position_index", self.index.clone())

    def forward(self, q: Tensor, k: Tensor, v: Tensor, shifted: bool) -> Tensor:
        n, h, w, c = q.shape
        sh, sw = self.sh, self.sw

        def windows(x: Tensor) -> Tensor:
            if shifted:
                x = torch.roll(x, (-(sh // 2), -(sw // 2)), (1, 2))
            x = x.view(n, h // sh, sh, w // sw, sw, self.heads, c // self.heads)
            return x.permute(0, 1, 3, 5, 2, 4, 6).flatten(4, 5)  # n, rows, columns, heads, T, d

        q, k, v = windows(q), windows(k), windows(v)
        attn = q @ k.transpose(-2, -1) * (c // self.heads) ** -0.5
        attn = attn + self.pos(self.distances)[self.index].permute(2, 0, 1)
        if shifted:
            attn = attn + mask_of(h, w, sh, sw).view(h // sh, w // sw, 1, sh * sw, sh * sw)
        y = (attn.softmax(-1) @ v).unflatten(4, (sh, sw)).permute(0, 1, 4, 2, 5, 3, 6).reshape(n, h, w, c)
        return torch.roll(y, (sh // 2, sw // 2), (1, 2)) if shifted else y


class Common(nn.Module):
    def __init__(self, dim: int, bias: bool) -> None:
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim, bias=bias)
        self.proj = nn.Linear(dim, dim)
        self.dwconv = nn.Sequential(nn.Conv2d(dim, dim, 3, 1, 1, groups=dim), nn.BatchNorm2d(dim), nn.GELU())
        a, b = dim // 8, dim // 16
        layers = (nn.Conv2d(dim, a, 1), nn.BatchNorm2d(a), nn.GELU(), nn.Conv2d(a, dim, 1))
        self.channel_interaction = nn.Sequential(nn.AdaptiveAvgPool2d(1), *layers)
        self.spatial_interaction = nn.Sequential(nn.Conv2d(dim, b, 1), nn.BatchNorm2d(b), nn.GELU(), nn.Conv2d(b, 1, 1))


class Spatial(Common):
    def __init__(self, dim: int, heads: int, split: tuple[int, int], shifted: bool, bias: bool) -> None:
        super().__init__(dim, bias)
        self.whole, self.shifted = max(split), shifted
        self.attns = nn.ModuleList(WindowPart(dim // 2, heads // 2, *size) for size in (split, split[::-1]))
        if shifted:
            for index, (sh, sw) in enumerate((split, split[::-1])):
                self.register_buffer(f"attn_mask_{index}", mask_of(2 * self.whole, 2 * self.whole, sh, sw))

    def forward(self, x: Tensor) -> Tensor:
        h, w, c = x.shape[1:]
        qkv: Tensor = self.qkv(x)
        conv = self.dwconv(image(qkv[..., 2 * c :]))
        wide = F.pad(qkv, (0, 0, 0, -w % self.whole, 0, -h % self.whole))
        q, k, v = wide.chunk(3, -1)
        halves = (slice(0, c // 2), slice(c // 2, c))
        parts = [
            attn(q[..., half], k[..., half], v[..., half], self.shifted)
            for attn, half in zip(self.attns, halves, strict=True)
        ]
        attended = image(torch.cat(parts, -1)[:, :h, :w])
        out = attended * self.channel_interaction(conv).sigmoid() + conv * self.spatial_interaction(attended).sigmoid()
        return self.proj(tokens(out))  # type: ignore[no-any-return]


class Channel(Common):
    def __init__(self, dim: int, heads: int, bias: bool) -> None:
        super().__init__(dim, bias)
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        n, h, w, c = x.shape
        heads = len(self.temperature)
        q, k, v = image(self.qkv(x)).reshape(n, 3, heads, c // heads, h * w).unbind(1)
        q, k = q / q.norm(dim=-1, keepdim=True), k / k.norm(dim=-1, keepdim=True)
        attn = (torch.einsum("nhix,nhjx->nhij", q, k) * self.temperature).softmax(-1)
        attended = torch.einsum("nhij,nhjx->nhix", attn, v).reshape(n, c, h, w)
        conv = self.dwconv(v.reshape(n, c, h, w))
        out = attended * self.spatial_interaction(conv).sigmoid() + conv * self.channel_interaction(attended).sigmoid()
        return self.proj(tokens(out))  # type: ignore[no-any-return]


class Gate(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.conv = nn.Conv2d(dim, dim, 3, 1, 1, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, -1)
        gate: Tensor = self.conv(image(self.norm(b)))
        return a * tokens(gate)


class Feed(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.sg = Gate(hidden // 2)
        self.fc2 = nn.Linear(hidden // 2, dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(self.sg(F.gelu(self.fc1(x))))
        return out


class Block(nn.Module):
    def __init__(self, dim: int, attn: nn.Module, expansion: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = attn
        self.ffn = Feed(dim, dim * expansion)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.ffn(self.norm2(x))
        return out


class Group(nn.Module):
    def __init__(
        self,
        index: int,
        dim: int,
        depth: int,
        heads: int,
        split: tuple[int, int],
        expansion: int,
        resi: str,
        bias: bool,
    ) -> None:
        super().__init__()
        made: list[nn.Module] = []
        for b in range(depth):
            shifted = (index % 2 == 0 and b > 0 and (b - 2) % 4 == 0) or (index % 2 != 0 and b % 4 == 0)
            attn = Channel(dim, heads, bias) if b % 2 else Spatial(dim, heads, split, shifted, bias)
            made.append(Block(dim, attn, expansion))
        self.blocks = nn.ModuleList(made)
        self.conv = connection(dim, resi)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for block in self.blocks:
            y = block(y)
        change: Tensor = self.conv(image(y))
        return x + tokens(change)


class Dat(Ending):
    def __init__(
        self, upsampler: str, scale: int, depth: tuple[int, ...] = (3, 1), heads: tuple[int, ...] = (4, 2),
        split: tuple[int, int] = (2, 4), channels: int = 3, resi: str = "1conv", bias: bool = True,
    ) -> None:  # fmt: skip
        dim = 32
        super().__init__(channels, dim, 8, scale, upsampler, resi, 1.0)
        self.before_RG = nn.Sequential(nn.Identity(), nn.LayerNorm(dim))
        self.layers = nn.ModuleList(
            Group(index, dim, *sizes, split, 2, resi, bias)
            for index, sizes in enumerate(zip(depth, heads, strict=True))
        )
        self.norm = nn.LayerNorm(dim)

    def body(self, x: Tensor) -> Tensor:
        x = self.before_RG(tokens(x))
        for layer in self.layers:
            x = layer(x)
        return image(self.norm(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.enlarge(x - self.mean)
