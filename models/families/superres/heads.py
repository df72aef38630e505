"""From feature maps to the enlarged image: what the last convs say, for networks that end in a pixel shuffle."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from models.architecture import StateDict
from models.state_dict import Rules, shape


def scale_and_channels(maps: int, channels: int) -> tuple[int, int] | None:
    """(scale, channels of the image) of a pixel shuffle's input with so many maps; None if there is no such pair.

    Several pairs may fit. Taken is the image of as many channels as the one that goes in, `channels`, else of 3, 4, 1.
    """
    for out in (channels, 3, 4, 1):
        scale = math.isqrt(maps // out)
        if scale and scale**2 * out == maps:
            return scale, out
    return None


@dataclass(frozen=True)
class HeadConfig:
    """How a network of attention ends: `kind`, and by what it enlarges, step by step.

    `nearest+conv`: doubled by nearest upsampling before a conv each (SwinIR's real-world networks); `pixelshuffle`: by
    pixel shuffle after a conv each; `pixelshuffledirect`: at once; `none`: not at all.
    """

    kind: str
    before: int
    features: int
    factors: tuple[int, ...]
    channels: int

    @property
    def scale(self) -> int:
        """How much larger the maps get."""
        return math.prod(self.factors)

    def interval(self, low: int, high: int) -> tuple[int, int]:
        """The pixels, first and last, before the head that pixels `low` to `high` after it depend on."""
        if self.kind == "none":
            return low - 1, high + 1
        if self.kind == "pixelshuffledirect":
            return low // self.scale - 1, high // self.scale + 1
        ends = 1 + (self.kind == "nearest+conv")
        low, high = low - ends, high + ends
        for factor in reversed(self.factors):
            if self.kind == "nearest+conv":
                low, high = (low - 1) // factor, (high + 1) // factor
            else:
                low, high = low // factor - 1, high // factor + 1
        return low - 1, high + 1


class Head(nn.Module):
    """From the body's maps to the image, under the names of SwinIR, DAT and their relatives."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        features = config.features
        if config.kind in ("nearest+conv", "pixelshuffle"):
            self.conv_before_upsample = nn.Sequential(nn.Conv2d(config.before, features, 3, 1, 1), nn.LeakyReLU(0.01))
        if config.kind == "nearest+conv":
            for step in range(1, len(config.factors) + 1):
                self.add_module(f"conv_up{step}", nn.Conv2d(features, features, 3, 1, 1))
            self.conv_hr = nn.Conv2d(features, features, 3, 1, 1)
        else:
            ahead = config.channels if config.kind == "pixelshuffledirect" else features
            steps: list[nn.Module] = []
            for factor in config.factors:
                steps += [nn.Conv2d(features, ahead * factor**2, 3, 1, 1), nn.PixelShuffle(factor)]
            self.upsample = nn.Sequential(*steps)
        if config.kind != "pixelshuffledirect":
            self.conv_last = nn.Conv2d(features, config.channels, 3, 1, 1)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, C, scale*H, scale*W) float32 from `maps` (N, before, H, W) float32."""
        if self.config.kind == "none":
            return self.conv_last(maps)  # type: ignore[no-any-return]
        if self.config.kind == "pixelshuffledirect":
            return self.upsample(maps)  # type: ignore[no-any-return]
        maps = self.conv_before_upsample(maps)
        if self.config.kind == "pixelshuffle":
            return self.conv_last(self.upsample(maps))  # type: ignore[no-any-return]
        for step in range(1, len(self.config.factors) + 1):
            maps = F.interpolate(maps, scale_factor=2.0, mode="nearest")
            maps = F.leaky_relu(self.get_submodule(f"conv_up{step}")(maps), 0.2)
        return self.conv_last(F.leaky_relu(self.conv_hr(maps), 0.2))  # type: ignore[no-any-return]


HEAD_RULES: Rules = {
    r"((?:conv_before_upsample\.0|upsample\.\d+|conv_up\d|conv_hr|conv_last)\.\w+)": r"head.\1",
}


def find_head(state: StateDict, before: int, channels: int) -> HeadConfig | None:
    """What the names, with `HEAD_RULES`, and the shapes say of a head after `before` maps; None if it is none."""
    features = shape(state, "head.conv_before_upsample.0.weight", 4)[0]
    out = shape(state, "head.conv_last.weight", 4)[0]
    first = shape(state, "head.upsample.0.weight", 4)
    if "head.conv_up1.weight" in state:
        steps = sum(key.startswith("head.conv_up") and key.endswith(".weight") for key in state)
        return HeadConfig("nearest+conv", before, features, (2,) * steps, out)
    if features:
        maps = [shape(state, f"head.upsample.{index}.weight", 4)[0] for index in range(0, 10, 2)]
        factors = tuple(math.isqrt(found // features) for found in maps if found)
        return HeadConfig("pixelshuffle", before, features, factors, out) if 0 not in factors and out else None
    if first[0]:
        found = scale_and_channels(first[0], channels)
        return HeadConfig("pixelshuffledirect", before, before, (found[0],), found[1]) if found else None
    return HeadConfig("none", before, before, (), out) if out else None
