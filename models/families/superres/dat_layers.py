"""The blocks of DAT (`dat.py`): attention inside windows and attention among channels, each beside a convolution."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from models.families.superres.windows import Windows, attend, relative_positions, windows_along


@dataclass(frozen=True)
class BlockConfig:
    """What the blocks of one DAT have in common. `split`: (height, width) of the windows of one half of the channels,
    (width, height) of the other's."""

    width: int
    split: tuple[int, int]
    hidden: int
    qkv_bias: bool

    @property
    def whole_px(self) -> int:
        """What both windows' sides divide."""
        return max(self.split)


class PositionBias(nn.Module):
    """The bias of every pair of a window's pixels, by a small network of their distance."""

    distances: torch.Tensor
    positions: torch.Tensor

    def __init__(self, channels: int, heads: int, size: tuple[int, int]) -> None:
        super().__init__()
        inner, (height, width) = channels // 4 // 4, size
        self.pos_proj = nn.Linear(2, inner)
        for index, out in ((1, inner), (2, inner), (3, heads)):
            self.add_module(f"pos{index}", nn.Sequential(nn.LayerNorm(inner), nn.ReLU(), nn.Linear(inner, out)))
        rows, columns = torch.arange(1 - height, height), torch.arange(1 - width, width)
        distances = torch.cartesian_prod(rows, columns).float()
        self.register_buffer("distances", distances, persistent=False)
        self.register_buffer("positions", relative_positions(size), persistent=False)

    def forward(self) -> torch.Tensor:
        """(heads, T, T) float32, T = height * width."""
        table = self.pos_proj(self.distances)
        for index in (1, 2, 3):
            table = self.get_submodule(f"pos{index}")(table)
        bias: torch.Tensor = table[self.positions].permute(2, 0, 1)
        return bias


class Attention(nn.Module):
    """What both kinds share: values through a depthwise conv, and two small networks by which attention and
    convolution weigh each other."""

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        width = config.width
        self.width = width
        self.qkv = nn.Linear(width, 3 * width, bias=config.qkv_bias)
        self.proj = nn.Linear(width, width)
        self.dwconv = nn.Sequential(nn.Conv2d(width, width, 3, 1, 1, groups=width), nn.BatchNorm2d(width), nn.GELU())
        inner, thin = width // 8, width // 16
        self.channel_interaction = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(width, inner, 1),
            nn.BatchNorm2d(inner),
            nn.GELU(),
            nn.Conv2d(inner, width, 1),
        )
        self.spatial_interaction = nn.Sequential(
            nn.Conv2d(width, thin, 1), nn.BatchNorm2d(thin), nn.GELU(), nn.Conv2d(thin, 1, 1)
        )

    def joined(self, weighed_by_channel: torch.Tensor, weighed_by_pixel: torch.Tensor) -> torch.Tensor:
        """(N, H, W, width): two maps (N, width, H, W), each weighed by what the other says, added and projected."""
        by_channel = torch.sigmoid(self.channel_interaction(weighed_by_pixel))
        by_pixel = torch.sigmoid(self.spatial_interaction(weighed_by_channel))
        total = weighed_by_channel * by_channel + weighed_by_pixel * by_pixel
        output: torch.Tensor = self.proj(total.permute(0, 2, 3, 1))
        return output


class SpatialAttention(Attention):
    """Inside lying windows for half of the channels, inside standing ones for the other half."""

    def __init__(self, config: BlockConfig, heads: int, shifted: bool) -> None:
        super().__init__(config)
        self.heads, self.split, self.whole_px, self.shifted = heads // 2, config.split, config.whole_px, shifted
        sizes = (config.split, config.split[::-1])
        biases = (PositionBias(config.width // 2, self.heads, (size[0], size[1])) for size in sizes)
        self.attns = nn.ModuleList(nn.ModuleDict({"pos": bias}) for bias in biases)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, H, W, width) float32 from the same. Queries, keys and values are extended by zeros to whole windows."""
        height, width = maps.shape[1:3]
        qkv = self.qkv(maps)
        convolved = self.dwconv(qkv[..., 2 * self.width :].permute(0, 3, 1, 2))
        rows, columns = windows_along(height, self.whole_px), windows_along(width, self.whole_px)
        bottom, right = rows * self.whole_px - height, columns * self.whole_px - width
        parts = F.pad(qkv, (0, 0, 0, right, 0, bottom)).chunk(6, dim=-1)
        halves = []
        for half, size in enumerate((self.split, self.split[::-1])):
            counts = (rows * (self.whole_px // size[0]), columns * (self.whole_px // size[1]))
            windows = Windows(counts, (size[0], size[1]), (size[0] // 2, size[1] // 2) if self.shifted else (0, 0))
            query, key, value = (windows.cut(part) for part in parts[half::2])
            bias = self.attns[half]["pos"]()  # type: ignore[index]
            apart = windows.apart(query) if self.shifted else None
            halves.append(windows.join(attend((query, key, value), self.heads, bias, apart)))
        attended = torch.cat(halves, dim=-1)[:, :height, :width].permute(0, 3, 1, 2)
        return self.joined(attended, convolved)


class ChannelAttention(Attention):
    """Among the channels of a head, by how alike they are over the whole image."""

    def __init__(self, config: BlockConfig, heads: int) -> None:
        super().__init__(config)
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, H, W, width) float32 from the same."""
        height, width = maps.shape[1:3]
        query, key, value = self.qkv(maps).permute(0, 3, 1, 2).chunk(3, dim=1)
        convolved = self.dwconv(value)
        size = (-1, self.heads, self.width // self.heads, height * width)
        query, key = (F.normalize(part.reshape(size), dim=-1) for part in (query, key))
        weights = torch.softmax(query @ key.transpose(-2, -1) * self.temperature, dim=-1)
        attended = (weights @ value.reshape(size)).reshape(-1, self.width, height, width)
        return self.joined(convolved, attended)


class Gate(nn.Module):
    """Half of the channels through a layer norm and a depthwise conv, times the other half."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.conv = nn.Conv2d(channels, channels, 3, 1, 1, groups=channels)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, H, W, channels) float32 from (N, H, W, 2 * channels)."""
        passed, gated = maps.chunk(2, dim=-1)
        weights: torch.Tensor = self.conv(self.norm(gated).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return passed * weights


class FeedForward(nn.Module):
    """Two layers for each pixel and a gate between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act = nn.GELU()
        self.sg = Gate(hidden // 2)
        self.fc2 = nn.Linear(hidden // 2, width)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, H, W, width) float32 from the same."""
        changed: torch.Tensor = self.fc2(self.sg(self.act(self.fc1(maps))))
        return changed


class Block(nn.Module):
    """Attention, of windows in even blocks and of channels in odd ones, and two layers, each added to its input."""

    def __init__(self, config: BlockConfig, heads: int, layer: int, block: int) -> None:
        super().__init__()
        shifted = block % 4 == 0 if layer % 2 else block % 4 == 2
        attention = ChannelAttention(config, heads) if block % 2 else SpatialAttention(config, heads, shifted)
        self.norm1 = nn.LayerNorm(config.width)
        self.attn = attention
        self.norm2 = nn.LayerNorm(config.width)
        self.ffn = FeedForward(config.width, config.hidden)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, H, W, width) float32 from the same."""
        maps = maps + self.attn(self.norm1(maps))
        changed: torch.Tensor = self.ffn(self.norm2(maps))
        return maps + changed
