"""RRDBNet: Wang, Yu, Wu, Gu, Liu, Dong, Qiao, Loy, "ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks",
2018, arXiv:1809.00219; as used by Real-ESRGAN (Wang, Xie, Dong, Shan, 2021, arXiv:2107.10833).

Reads the checkpoints of xinntao/Real-ESRGAN and BasicSR (`RRDBNet`): keys `conv_first`, `body.<b>.rdb<r>.conv<c>`,
`conv_body`, `conv_up1`, `conv_up2`, `conv_hr`, `conv_last`. x4, and x2 and x1 by pixel-unshuffle of the input.
Differences: none. The older namings of the same network (`model.<i>`, `RRDB_trunk`) are not read here.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

from models.architecture import Architecture, Generator, StateDict, TilePlan, load
from models.spec import Scalar, Task

UNSHUFFLE_OF_SCALE = {4: 1, 2: 2, 1: 4}


class ResidualDenseBlock(nn.Module):
    """Five 3x3 convs, each of which sees all maps before it; its result scaled by 0.2 and added to the input."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, growth, 3, 1, 1)
        self.conv2 = nn.Conv2d(features + growth, growth, 3, 1, 1)
        self.conv3 = nn.Conv2d(features + 2 * growth, growth, 3, 1, 1)
        self.conv4 = nn.Conv2d(features + 3 * growth, growth, 3, 1, 1)
        self.conv5 = nn.Conv2d(features + 4 * growth, features, 3, 1, 1)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, features, H, W) float32 from the same."""
        seen = [maps]
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            seen.append(F.leaky_relu(conv(torch.cat(seen, dim=1)), 0.2))
        change: torch.Tensor = self.conv5(torch.cat(seen, dim=1))
        return change * 0.2 + maps


class Rrdb(nn.Module):
    """Residual in residual: three dense blocks, their result scaled by 0.2 and added to the input."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = ResidualDenseBlock(features, growth)
        self.rdb2 = ResidualDenseBlock(features, growth)
        self.rdb3 = ResidualDenseBlock(features, growth)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, features, H, W) float32 from the same."""
        change: torch.Tensor = self.rdb3(self.rdb2(self.rdb1(maps)))
        return change * 0.2 + maps


class RrdbNet(nn.Module):
    """The whole network; always enlarges by 4 inside, so x2 and x1 unshuffle the input by 2 and 4 first."""

    def __init__(self, channels: int, features: int, growth: int, blocks: int, scale: int) -> None:
        super().__init__()
        self.unshuffle = UNSHUFFLE_OF_SCALE[scale]
        self.conv_first = nn.Conv2d(channels * self.unshuffle**2, features, 3, 1, 1)
        self.body = nn.Sequential(*(Rrdb(features, growth) for _ in range(blocks)))
        self.conv_body = nn.Conv2d(features, features, 3, 1, 1)
        self.conv_up1 = nn.Conv2d(features, features, 3, 1, 1)
        self.conv_up2 = nn.Conv2d(features, features, 3, 1, 1)
        self.conv_hr = nn.Conv2d(features, features, 3, 1, 1)
        self.conv_last = nn.Conv2d(features, channels, 3, 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, C, scale*H, scale*W) float32, about [0, 1] but unbounded, from `image` (N, C, H, W) float32 in [0, 1].

        H and W must be multiples of 2 for x2 and of 4 for x1.
        """
        if self.unshuffle > 1:
            image = F.pixel_unshuffle(image, self.unshuffle)
        maps = self.conv_first(image)
        maps = maps + self.conv_body(self.body(maps))
        for conv in (self.conv_up1, self.conv_up2):
            maps = F.leaky_relu(conv(F.interpolate(maps, scale_factor=2.0, mode="nearest")), 0.2)
        picture: torch.Tensor = self.conv_last(F.leaky_relu(self.conv_hr(maps), 0.2))
        return picture


def _blocks(state: StateDict) -> int:
    return len({key.split(".")[1] for key in state if key.startswith("body.")})


def _matches(state: StateDict) -> bool:
    needed = ("conv_first", "body.0.rdb1.conv1", "conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last")
    if not all(f"{name}.weight" in state and state[f"{name}.weight"].ndim == 4 for name in needed):
        return False
    inputs, channels = state["conv_first.weight"].shape[1], state["conv_last.weight"].shape[0]
    return inputs in {channels * unshuffle**2 for unshuffle in UNSHUFFLE_OF_SCALE.values()}


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    features, inputs = state["conv_first.weight"].shape[:2]
    channels = state["conv_last.weight"].shape[0]
    growth = state["body.0.rdb1.conv1.weight"].shape[0]
    blocks = _blocks(state)
    scale = next(s for s, unshuffle in UNSHUFFLE_OF_SCALE.items() if inputs == channels * unshuffle**2)
    unshuffle = UNSHUFFLE_OF_SCALE[scale]
    # conv_first, 15 convs a block and conv_body at the working size; the four convs after it, at 2 and 4 times that
    # size, add 1.25 px, two with the rounding of nearest upsampling. One working pixel is `unshuffle` input pixels.
    radius_px = (15 * blocks + 4) * unshuffle + unshuffle - 1
    return Generator(
        network=load(RrdbNet(channels, features, growth, blocks, scale), state),
        task=Task.SUPER_RESOLUTION,
        hyperparameters={
            "num_feat": features,
            "num_grow_ch": growth,
            "num_block": blocks,
            "scale": scale,
            "channels": channels,
        },
        channels=channels,
        output_range=(0.0, 1.0),
        max_batch_size=2,
        scale=scale,
        tile=TilePlan(size_px=192, overlap_px=32, multiple_px=unshuffle, receptive_field_px=radius_px),
    )


ARCHITECTURE = Architecture(
    name="rrdb",
    reference="xinntao/Real-ESRGAN RRDBNet",
    matches=_matches,
    build=_build,
)
