"""MSRResNet: the SRResNet of Ledig et al., 2016, arXiv:1609.04802, without batch normalisation, as modified for ESRGAN
by Wang, Yu, Wu, Gu, Liu, Dong, Qiao, Loy, 2018, arXiv:1809.00219 (its PSNR-oriented baseline).

Reads the checkpoints of BasicSR's `MSRResNet` (`conv_first`, `body.<b>.conv1`, `upconv1`, `upconv2` for x4, `conv_hr`,
`conv_last`) and of MMSR and KAIR (`MSRResNet1`: `recon_trunk`, `HRconv` for two of these names). x2, x3 and x4.
Differences: any widths and any number of blocks.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from artifact.spec import Scalar, Task
from models.architecture import Architecture, Generator, StateDict, Tiling
from models.state_dict import Rules, count, load, rename

SLOPE = 0.1
LAYOUTS: Mapping[str, Rules] = {
    "basicsr": {r"(?:conv_first|body\.\d+\.conv[12]|upconv[12]|conv_hr|conv_last)\.\w+": r"\g<0>"},
    "kair": {
        r"(?:conv_first|upconv[12]|conv_last)\.\w+": r"\g<0>",
        r"recon_trunk\.(\d+)\.conv([12])\.(\w+)": r"body.\1.conv\2.\3",
        r"HRconv\.(\w+)": r"conv_hr.\1",
    },
}


@dataclass(frozen=True)
class MsrResNetConfig:
    """What sets one MSRResNet apart from another: `steps` pixel shuffles by `factor`."""

    channels: int
    features: int
    blocks: int
    factor: int
    steps: int


class ResidualBlock(nn.Module):
    """3x3 conv, ReLU, 3x3 conv, added to the input."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, 1, 1)
        self.conv2 = nn.Conv2d(features, features, 3, 1, 1)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, features, H, W) float32 from the same."""
        change: torch.Tensor = self.conv2(F.relu(self.conv1(maps)))
        return maps + change


class MsrResNet(nn.Module):
    """Residual blocks, pixel shuffles, and what comes out added to the bilinearly enlarged input."""

    def __init__(self, config: MsrResNetConfig) -> None:
        super().__init__()
        self.config = config
        features = config.features
        self.conv_first = nn.Conv2d(config.channels, features, 3, 1, 1)
        self.body = nn.Sequential(*(ResidualBlock(features) for _ in range(config.blocks)))
        self.up_names = [f"upconv{step}" for step in range(1, config.steps + 1)]
        for name in self.up_names:
            self.add_module(name, nn.Conv2d(features, features * config.factor**2, 3, 1, 1))
        self.conv_hr = nn.Conv2d(features, features, 3, 1, 1)
        self.conv_last = nn.Conv2d(features, config.channels, 3, 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, C, scale*H, scale*W) float32, about [0, 1] but unbounded, from `image` (N, C, H, W) float32 in [0, 1]."""
        maps = self.body(F.leaky_relu(self.conv_first(image), SLOPE))
        for name in self.up_names:
            maps = F.leaky_relu(F.pixel_shuffle(self.get_submodule(name)(maps), self.config.factor), SLOPE)
        detail: torch.Tensor = self.conv_last(F.leaky_relu(self.conv_hr(maps), SLOPE))
        scale = float(self.config.factor**self.config.steps)
        return detail + F.interpolate(image, scale_factor=scale, mode="bilinear", align_corners=False)


def receptive_field_px(config: MsrResNetConfig) -> int:
    """How far from its own place one output pixel sees, in input pixels: intervals walked back through the layers."""
    radius = 0
    for pixel in range(config.factor**config.steps):
        low, high = pixel - 2, pixel + 2  # conv_hr and conv_last
        for _ in range(config.steps):
            low, high = low // config.factor - 1, high // config.factor + 1
        radius = max(radius, -low, high)
    return radius + 2 * config.blocks + 1  # further than the bilinear base sees


def _find(state: StateDict) -> tuple[str, StateDict, MsrResNetConfig] | None:
    """(layout, weights under BasicSR's names, sizes); None if they are no MSRResNet."""
    for layout, rules in LAYOUTS.items():
        renamed = rename(state, rules, strict=True)
        if renamed and (config := _config(renamed)):
            return layout, renamed, config
    return None


def _config(state: StateDict) -> MsrResNetConfig | None:
    """What the shapes say; None if a part is missing or does not fit the others."""
    parts = ("conv_first", "body.0.conv1", "upconv1", "conv_hr", "conv_last")
    weights = [state.get(f"{name}.weight") for name in parts]
    found = [tuple(weight.shape) for weight in weights if weight is not None]
    if len(found) < len(parts) or any(len(shape) != 4 or shape[2:] != (3, 3) for shape in found):
        return None
    features, channels = found[0][:2]
    factor = math.isqrt(found[2][0] // features)
    inner = (features, features, 3, 3)
    if found[1:] != [inner, (features * factor**2, features, 3, 3), inner, (channels, features, 3, 3)]:
        return None
    steps = 2 if "upconv2.weight" in state else 1
    fits = factor in (2, 3) if steps == 1 else factor == 2
    return MsrResNetConfig(channels, features, count(state, "body"), factor, steps) if fits else None


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    found = _find(state)
    assert found is not None, "only called where _matches"
    layout, renamed, config = found
    scale = int(config.factor**config.steps)
    receptive_field = receptive_field_px(config)
    return Generator(
        network=load(MsrResNet(config), renamed),
        task=Task.SUPER_RESOLUTION,
        hyperparameters={
            "layout": layout,
            "num_feat": config.features,
            "num_block": config.blocks,
            "scale": scale,
            "channels": config.channels,
        },
        channels=config.channels,
        output_range=(0.0, 1.0),
        max_batch_size=4,
        scale=scale,
        tile=Tiling(
            size_px=224,
            overlap_px=min(24, receptive_field),
            multiple_px=1,
            receptive_field_px=receptive_field,
        ),
    )


ARCHITECTURE = Architecture(
    name="msrresnet",
    reference="XPixelGroup/BasicSR MSRResNet",
    matches=lambda state: _find(state) is not None,
    build=_build,
)
