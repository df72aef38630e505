"""The blocks of OmniSR (`omnisr.py`), by its names: window and grid attention, of pixels and channels, in turn."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from models.families.superres.plksr import PixelNorm
from models.families.superres.windows import attend, relative_positions

HEADS = 4
Counts = Sequence[int]


class Residual(nn.Module):
    """A norm and a layer, added to the input; `fn` may take the counts of windows down and across."""

    def __init__(self, norm: nn.Module, fn: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.fn = fn

    def forward(self, maps: torch.Tensor, counts: Counts) -> torch.Tensor:
        """(N, features, H, W) float32 from the same."""
        changed: torch.Tensor = self.fn(self.norm(maps), counts)
        return maps + changed


class Excitation(nn.Module):
    """Channels weighed by the means of all of them over the image."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        narrow, wide = nn.Linear(features, hidden, bias=False), nn.Linear(hidden, features, bias=False)
        self.gate = nn.Sequential(nn.Identity(), narrow, nn.SiLU(), wide, nn.Sigmoid())

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, features, H, W) float32 from the same."""
        weights: torch.Tensor = self.gate(maps.mean(dim=(2, 3)))
        return maps * weights[:, :, None, None]


class Convolution(nn.Module):
    """1x1, depthwise 3x3, weighed channels, 1x1; added to the input."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        depthwise = nn.Conv2d(features, features, 3, 1, 1, groups=features)
        ends = (nn.Conv2d(features, features, 1), nn.Conv2d(features, features, 1))
        self.fn = nn.Sequential(ends[0], nn.GELU(), depthwise, nn.GELU(), Excitation(features, hidden), ends[1])

    def forward(self, maps: torch.Tensor, counts: Counts) -> torch.Tensor:
        """(N, features, H, W) float32 from the same."""
        changed: torch.Tensor = self.fn(maps)
        return maps + changed


class PixelAttention(nn.Module):
    """Among the pixels of a window: neighbours, or with `grid` those at equal distances over the whole image."""

    positions: torch.Tensor

    def __init__(self, features: int, window: int, grid: bool) -> None:
        super().__init__()
        self.window, self.grid = window, grid
        self.to_qkv = nn.Linear(features, 3 * features, bias=False)
        self.to_out = nn.Sequential(nn.Linear(features, features, bias=False))
        self.rel_pos_bias = nn.Embedding((2 * window - 1) ** 2, HEADS)
        self.register_buffer("positions", relative_positions((window, window)), persistent=False)

    def forward(self, maps: torch.Tensor, counts: Counts) -> torch.Tensor:
        """(N, H, W, features) float32 from the same."""
        (rows, columns), side, features = counts, self.window, maps.shape[-1]
        axes = (0, 2, 4, 1, 3, 5) if self.grid else (0, 1, 3, 2, 4, 5)
        size = (-1, side, rows, side, columns, features) if self.grid else (-1, rows, side, columns, side, features)
        windows = maps.reshape(size).permute(axes).reshape(-1, side * side, features)
        query, key, value = self.to_qkv(windows).chunk(3, dim=-1)
        bias = self.rel_pos_bias.weight[self.positions].permute(2, 0, 1)
        attended = self.to_out(attend((query, key, value), HEADS, bias, None))
        back = (0, 3, 1, 4, 2, 5) if self.grid else (0, 1, 3, 2, 4, 5)
        parts: torch.Tensor = attended.reshape(-1, rows, columns, side, side, features).permute(back)
        return parts.reshape(-1, rows * side, columns * side, features)


class Pixels(Residual):
    """Attention among pixels, for maps with the channels first."""

    def __init__(self, features: int, window: int, grid: bool) -> None:
        super().__init__(nn.LayerNorm(features), PixelAttention(features, window, grid))

    def forward(self, maps: torch.Tensor, counts: Counts) -> torch.Tensor:
        """(N, features, H, W) float32 from the same."""
        return super().forward(maps.permute(0, 2, 3, 1), counts).permute(0, 3, 1, 2)


class GatedFeedForward(nn.Module):
    """1x1 to twice the channels, depthwise 3x3, one half gates the other, 1x1."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.project_in = nn.Conv2d(features, 2 * features, 1, bias=False)
        self.dwconv = nn.Conv2d(2 * features, 2 * features, 3, 1, 1, groups=2 * features, bias=False)
        self.project_out = nn.Conv2d(features, features, 1, bias=False)

    def forward(self, maps: torch.Tensor, counts: Counts) -> torch.Tensor:
        """(N, features, H, W) float32 from the same."""
        gate, passed = self.dwconv(self.project_in(maps)).chunk(2, dim=1)
        output: torch.Tensor = self.project_out(F.gelu(gate) * passed)
        return output


class ChannelAttention(nn.Module):
    """Among the channels of a head, by how alike they are inside each window; with `grid` at each place inside all
    windows together."""

    def __init__(self, features: int, window: int, grid: bool) -> None:
        super().__init__()
        self.window, self.grid = window, grid
        self.temperature = nn.Parameter(torch.ones(HEADS, 1, 1))
        self.qkv = nn.Conv2d(features, 3 * features, 1, bias=False)
        self.qkv_dwconv = nn.Conv2d(3 * features, 3 * features, 3, 1, 1, groups=3 * features, bias=False)
        self.project_out = nn.Conv2d(features, features, 1, bias=False)

    def forward(self, maps: torch.Tensor, counts: Counts) -> torch.Tensor:
        """(N, features, H, W) float32 from the same."""
        (rows, columns), side, features = counts, self.window, maps.shape[1]
        size = (-1, HEADS, features // HEADS, rows, side, columns, side)
        axes = (0, 4, 6, 1, 2, 3, 5) if self.grid else (0, 3, 5, 1, 2, 4, 6)
        tokens = rows * columns if self.grid else side * side
        parts = (part.reshape(size).permute(axes) for part in self.qkv_dwconv(self.qkv(maps)).chunk(3, dim=1))
        query, key, value = (part.reshape(-1, HEADS, features // HEADS, tokens) for part in parts)
        query, key = F.normalize(query, dim=-1), F.normalize(key, dim=-1)
        weights = torch.softmax(query @ key.transpose(-2, -1) * self.temperature, dim=-1)
        outer, inner = ((side, side), (rows, columns)) if self.grid else ((rows, columns), (side, side))
        attended = (weights @ value).reshape(-1, *outer, HEADS, features // HEADS, *inner)
        back = (0, 3, 4, 5, 1, 6, 2) if self.grid else (0, 3, 4, 1, 5, 2, 6)
        output: torch.Tensor = self.project_out(
            attended.permute(back).reshape(-1, features, rows * side, columns * side)
        )
        return output


class Block(nn.Module):
    """A convolution, then attention in windows and on the grid, of pixels and channels, with feed-forward between."""

    def __init__(self, features: int, hidden: int, window: int) -> None:
        super().__init__()
        layers: dict[str, nn.Module] = {"0": Convolution(features, hidden)}
        for first, grid in ((2, False), (8, True)):
            layers[str(first)] = Pixels(features, window, grid)
            layers[str(first + 2)] = Residual(PixelNorm(features), GatedFeedForward(features))
            layers[str(first + 3)] = Residual(PixelNorm(features), ChannelAttention(features, window, grid))
            layers[str(first + 4)] = Residual(PixelNorm(features), GatedFeedForward(features))
        self.layer = nn.ModuleDict(layers)

    def forward(self, maps: torch.Tensor, counts: Counts) -> torch.Tensor:
        """(N, features, H, W) float32 from the same."""
        for layer in self.layer.values():
            maps = layer(maps, counts)
        return maps


class SpatialAttention(nn.Module):
    """ESA: every value weighed by what a coarse copy of the image and its own pixel say."""

    def __init__(self, features: int, narrow: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, narrow, 1)
        self.conv_f = nn.Conv2d(narrow, narrow, 1)
        self.conv2 = nn.Conv2d(narrow, narrow, 3, 2)
        self.conv3 = nn.Conv2d(narrow, narrow, 3, 1, 1)
        self.conv4 = nn.Conv2d(narrow, features, 1)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, features, H, W) float32 from the same; H and W 15 or more."""
        thin = self.conv1(maps)
        coarse = self.conv3(F.max_pool2d(self.conv2(thin), kernel_size=7, stride=3))
        wide = F.interpolate(coarse, size=maps.shape[-2:], mode="bilinear", align_corners=False)
        return maps * torch.sigmoid(self.conv4(wide + self.conv_f(thin)))
