"""DySample: Liu, Lu, Fu, Cao, "Learning to Upsample by Learning to Sample", 2023, arXiv:2308.15085; as neosr and
traiNNer-redux use it at the end of an upscaler.

Each output pixel is read, between pixels, from a place in the maps that a conv moves; the channels in groups.
"""

import torch
import torch.nn.functional as F
from torch import nn

from models.architecture import StateDict
from models.state_dict import shape


class DySample(nn.Module):
    """(N, maps, H, W) -> (N, out, scale*H, scale*W); without `end_conv` for scale 1, where `out` is `maps`."""

    init_pos: torch.Tensor

    def __init__(self, maps: int, out: int, scale: int, groups: int) -> None:
        super().__init__()
        self.scale, self.groups, self.maps = scale, groups, maps
        moved = 2 * groups * scale**2
        if scale > 1:
            self.end_conv = nn.Conv2d(maps, out, 1)
        self.offset = nn.Conv2d(maps, moved, 1)
        self.scope = nn.Conv2d(maps, moved, 1, bias=False)
        self.register_buffer("init_pos", torch.zeros(1, moved, 1, 1))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, out, scale*H, scale*W) float32 from `maps` (N, maps, H, W) float32."""
        height, width = maps.shape[-2:]
        moves = self.offset(maps) * torch.sigmoid(self.scope(maps)) * 0.5 + self.init_pos
        across, down = moves.chunk(2, dim=1)
        columns = torch.arange(width, dtype=maps.dtype, device=maps.device) + 0.5
        rows = torch.arange(height, dtype=maps.dtype, device=maps.device)[:, None] + 0.5
        places = ((columns + across) * (2.0 / width) - 1, (rows + down) * (2.0 / height) - 1)
        grid = torch.stack([F.pixel_shuffle(place, self.scale) for place in places], dim=-1).flatten(0, 1)
        parts = maps.reshape(-1, self.maps // self.groups, height, width)
        read = F.grid_sample(parts, grid, mode="bilinear", padding_mode="border", align_corners=False)
        output = read.reshape(-1, self.maps, self.scale * height, self.scale * width)
        return self.end_conv(output) if self.scale > 1 else output


def find_groups(state: StateDict, name: str, maps: int, scale: int) -> int:
    """Into how many groups the channels are divided; 0 if `name` is no DySample of so many maps and this scale."""
    moved, before, *_ = shape(state, f"{name}.offset.weight", 4)
    groups = moved // (2 * scale**2)
    fits = moved == 2 * groups * scale**2 and before == maps and groups > 0 and maps % groups == 0
    return groups if fits else 0
