"""OmniSR: Wang, Chen, Ni, Liu, Liu, "Omni Aggregation Networks for Lightweight Image Super-Resolution", 2023,
arXiv:2304.10244.

Reads the checkpoints of Francis0625/Omni-SR, as neosr and traiNNer-redux train it too. Attention on the grid, channel
means and ESA see the whole image, so the networks are not run in tiles. Differences: none.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from artifact.spec import Scalar, Task
from models.architecture import Architecture, Generator, StateDict
from models.families.superres.heads import scale_and_channels
from models.families.superres.omnisr_layers import HEADS, Block, Counts, SpatialAttention
from models.families.superres.windows import windows_along
from models.state_dict import Rules, count, load, rename, shape

RULES: Rules = {
    r".*total_(?:ops|params)": None,  # a profiler's
    r"(?:input|output|up\.0)\.\w+": r"\g<0>",
    r"residual_layer\.\d+\.(?:residual_layer|esa)\..+": r"\g<0>",
}
# ESA pools 7x7 px of every second one.
LEAST_PX = 16


@dataclass(frozen=True)
class OmniSrConfig:
    """What sets one OmniSR apart from another. `hidden`: of the excitation, `narrow`: of ESA."""

    channels: int
    out_channels: int
    features: int
    groups: int
    blocks: int
    window: int
    hidden: int
    narrow: int
    bias: bool
    scale: int


class Group(nn.Module):
    """Blocks and a 1x1 conv, added to the input, then ESA."""

    def __init__(self, config: OmniSrConfig) -> None:
        super().__init__()
        features = config.features
        blocks: list[nn.Module] = [Block(features, config.hidden, config.window) for _ in range(config.blocks)]
        self.residual_layer = nn.ModuleList([*blocks, nn.Conv2d(features, features, 1, bias=config.bias)])
        self.esa = SpatialAttention(features, config.narrow)

    def forward(self, maps: torch.Tensor, counts: Counts) -> torch.Tensor:
        """(N, features, H, W) float32 from the same."""
        *blocks, last = self.residual_layer
        inner = maps
        for block in blocks:
            inner = block(inner, counts)
        output: torch.Tensor = self.esa(last(inner) + maps)
        return output


class OmniSr(nn.Module):
    """Conv, groups, conv with a skip around them, pixel shuffle."""

    def __init__(self, config: OmniSrConfig) -> None:
        super().__init__()
        self.config = config
        features, bias, maps = config.features, config.bias, config.out_channels * config.scale**2
        self.input = nn.Conv2d(config.channels, features, 3, 1, 1, bias=bias)
        self.residual_layer = nn.ModuleList(Group(config) for _ in range(config.groups))
        self.output = nn.Conv2d(features, features, 3, 1, 1, bias=bias)
        self.up = nn.Sequential(nn.Conv2d(features, maps, 3, 1, 1, bias=bias), nn.PixelShuffle(config.scale))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, C, scale*H, scale*W) float32, about [0, 1] but unbounded, from `image` (N, C, H, W) float32 in [0, 1].

        The image is extended by zeros to whole windows, and has to be 15 px or more a side then.
        """
        (height, width), window, scale = image.shape[-2:], self.config.window, self.config.scale
        counts = (windows_along(height, window), windows_along(width, window))
        whole = F.pad(image, (0, counts[1] * window - width, 0, counts[0] * window - height))
        first = self.input(whole)
        maps = first
        for group in self.residual_layer:
            maps = group(maps, counts)
        output: torch.Tensor = self.up(self.output(maps) + first)
        return output[:, :, : scale * height, : scale * width]


def _config(state: StateDict) -> OmniSrConfig | None:
    """What the shapes say of renamed weights; None if a part is missing or does not fit the others."""
    group = "residual_layer.0"
    layer = f"{group}.residual_layer.0.layer"
    features, channels, *_ = shape(state, "input.weight", 4)
    maps, before, *_ = shape(state, "up.0.weight", 4)
    found = scale_and_channels(maps, channels) if channels else None
    rows, heads = shape(state, f"{layer}.2.fn.rel_pos_bias.weight", 2)
    hidden = shape(state, f"{layer}.0.fn.4.gate.1.weight", 2)[0]
    narrow = shape(state, f"{group}.esa.conv1.weight", 4)[0]
    side = math.isqrt(rows)
    if found is None or before != features or side**2 != rows or side % 2 == 0 or heads != HEADS:
        return None
    if features % HEADS or not hidden or not narrow:
        return None
    return OmniSrConfig(
        channels=channels,
        out_channels=found[1],
        features=features,
        groups=count(state, "residual_layer"),
        blocks=count(state, f"{group}.residual_layer") - 1,
        window=(side + 1) // 2,
        hidden=hidden,
        narrow=narrow,
        bias="input.bias" in state,
        scale=found[0],
    )


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    renamed = rename(state, RULES, strict=True)
    config = _config(renamed)
    assert config is not None, "only called where _matches"
    return Generator(
        network=load(OmniSr(config), renamed),
        task=Task.SUPER_RESOLUTION,
        hyperparameters={
            "num_feat": config.features,
            "res_num": config.groups,
            "block_num": config.blocks,
            "window_size": config.window,
            "up_scale": config.scale,
            "in_channels": config.channels,
            "out_channels": config.out_channels,
        },
        channels=config.out_channels,
        input_channels=config.channels,
        output_range=(0.0, 1.0),
        max_batch_size=2,
        scale=config.scale,
        least_px=LEAST_PX,
    )


ARCHITECTURE = Architecture(
    name="omnisr",
    reference="Francis0625/Omni-SR, also as neosr and traiNNer-redux train it",
    matches=lambda state: _config(rename(state, RULES, strict=True)) is not None,
    build=_build,
)
