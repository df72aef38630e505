"""RRDBNet, ESRGAN's generator: Wang, Yu, Wu, Gu, Liu, Dong, Qiao, Loy, "ESRGAN: Enhanced Super-Resolution Generative
Adversarial Networks", 2018, arXiv:1809.00219; as used by Real-ESRGAN (Wang, Xie, Dong, Shan, 2021, arXiv:2107.10833).

Reads, told apart by their keys (`models/families/superres/rrdb_layouts.py`), the checkpoints of:

- xinntao/Real-ESRGAN and BasicSR (`basicsr`): `body.<b>.rdb<r>.conv<c>`; x4, and x2 and x1 by pixel-unshuffle.
- xinntao/ESRGAN, MMSR, KAIR, BSRGAN (`kair`): `RRDB_trunk.<b>.RDB<r>.conv<c>`; x2 without `upconv2` and unshuffling.
- the first release of ESRGAN and most community models (`esrgan`): `model.1.sub.<b>.RDB<r>.conv<c>.0`; x1 to x16 by
  the count of upsampling convs. One of them may also mean x3: `--set factor=3`.
- ESRGAN+ (Rakotonirina, Rasoanaivo, 2020, arXiv:2001.08073; ncarraz/ESRGANplus), under any of these names:
  `conv1x1` in each dense block adds two more residual paths. Its noise is of training only.
- eriklindernoren/PyTorch-GAN `esrgan` (`pytorch-gan`): `res_blocks.<b>.dense_blocks.<r>.b<c>.0`; slope 0.01, no growth
  width of its own, pixel shuffle for nearest upsampling, images in ImageNet units in and out.
- aladdinpersson/Machine-Learning-Collection `ESRGAN` (`aladdinpersson`): `residuals.<b>.rrdb.<r>.blocks.<c>.cnn`.

The network below has BasicSR's names; the others' keys are renamed to them. Differences: any widths and counts, and
unshuffling also under the older names (x2 and x1 files that users converted).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from artifact.spec import Scalar, Task
from models.architecture import Architecture, ArchitectureError, Generator, Setting, StateDict, Tiling
from models.families.superres.image_units import UNITS
from models.families.superres.rrdb_layouts import RrdbKeyLayout, find
from models.state_dict import count, load

UNSHUFFLES = (1, 2, 4)
MAX_STEPS = 4
CHANNELS = (1, 3, 4)
# Blocks of a network that hardly makes use of how far it sees. Real-ESRGAN's 6 blocks differ by up to 13 levels 32 px
# from a cut; ESRGAN's 23, which invent texture, by 141, and 48 px from it by 10 (docs/zoo.md).
SHALLOW = 6
FACTOR = Setting(2, "what one upsampling step multiplies by; 3 in x3 files, which look like x2 ones", ("2", "3"))


@dataclass(frozen=True)
class RrdbConfig:
    """What sets one RRDBNet apart from another.

    The input is unshuffled by `unshuffle`, then enlarged `steps` times by `factor`, by nearest upsampling before a conv
    or, with `shuffles`, by pixel shuffle after it. `plus`: with the 1x1 convs of ESRGAN+.
    """

    input_channels: int
    channels: int
    features: int
    growth: int
    blocks: int
    unshuffle: int = 1
    steps: int = 2
    factor: int = 2
    slope: float = 0.2
    shuffles: bool = False
    plus: bool = False

    @property
    def scale(self) -> int:
        """How much larger the image gets."""
        return int(self.factor**self.steps) // self.unshuffle


class ResidualDenseBlock(nn.Module):
    """Five 3x3 convs, each of which sees all maps before it; its result scaled by 0.2 and added to the input."""

    def __init__(self, config: RrdbConfig) -> None:
        super().__init__()
        self.slope, self.plus = config.slope, config.plus
        features, growth = config.features, config.growth
        self.conv1 = nn.Conv2d(features, growth, 3, 1, 1)
        self.conv2 = nn.Conv2d(features + growth, growth, 3, 1, 1)
        self.conv3 = nn.Conv2d(features + 2 * growth, growth, 3, 1, 1)
        self.conv4 = nn.Conv2d(features + 3 * growth, growth, 3, 1, 1)
        self.conv5 = nn.Conv2d(features + 4 * growth, features, 3, 1, 1)
        if config.plus:
            self.conv1x1 = nn.Conv2d(features, growth, 1, bias=False)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, features, H, W) float32 from the same."""
        seen = [maps]
        for index, conv in enumerate((self.conv1, self.conv2, self.conv3, self.conv4), 1):
            found = F.leaky_relu(conv(torch.cat(seen, dim=1)), self.slope)
            if self.plus and index in (2, 4):
                found = found + (self.conv1x1(maps) if index == 2 else seen[2])
            seen.append(found)
        change: torch.Tensor = self.conv5(torch.cat(seen, dim=1))
        return change * 0.2 + maps


class Rrdb(nn.Module):
    """Residual in residual: three dense blocks, their result scaled by 0.2 and added to the input."""

    def __init__(self, config: RrdbConfig) -> None:
        super().__init__()
        self.rdb1 = ResidualDenseBlock(config)
        self.rdb2 = ResidualDenseBlock(config)
        self.rdb3 = ResidualDenseBlock(config)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, features, H, W) float32 from the same."""
        change: torch.Tensor = self.rdb3(self.rdb2(self.rdb1(maps)))
        return change * 0.2 + maps


class RrdbNet(nn.Module):
    """The whole network."""

    def __init__(self, config: RrdbConfig) -> None:
        super().__init__()
        self.config = config
        features, ahead = config.features, config.factor**2 if config.shuffles else 1
        self.conv_first = nn.Conv2d(config.input_channels * config.unshuffle**2, features, 3, 1, 1)
        self.body = nn.Sequential(*(Rrdb(config) for _ in range(config.blocks)))
        self.conv_body = nn.Conv2d(features, features, 3, 1, 1)
        self.up_names = [f"conv_up{step}" for step in range(1, config.steps + 1)]
        for name in self.up_names:
            self.add_module(name, nn.Conv2d(features, features * ahead, 3, 1, 1))
        self.conv_hr = nn.Conv2d(features, features, 3, 1, 1)
        self.conv_last = nn.Conv2d(features, config.channels, 3, 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, C, scale*H, scale*W) float32, unbounded, from `image` (N, C, H, W) float32, both in the layout's unit.

        H and W must be multiples of the config's `unshuffle`.
        """
        if self.config.unshuffle > 1:
            image = F.pixel_unshuffle(image, self.config.unshuffle)
        maps = self.conv_first(image)
        maps = maps + self.conv_body(self.body(maps))
        for name in self.up_names:
            maps = self._enlarge(maps, self.get_submodule(name))
        output: torch.Tensor = self.conv_last(F.leaky_relu(self.conv_hr(maps), self.config.slope))
        return output

    def _enlarge(self, maps: torch.Tensor, conv: nn.Module) -> torch.Tensor:
        if self.config.shuffles:
            return F.pixel_shuffle(F.leaky_relu(conv(maps), self.config.slope), self.config.factor)
        maps = F.interpolate(maps, scale_factor=float(self.config.factor), mode="nearest")
        return F.leaky_relu(conv(maps), self.config.slope)


def receptive_field_px(config: RrdbConfig) -> int:
    """How far from its own place one output pixel sees, in input pixels: intervals walked back through the layers."""
    radius, deep = 0, 15 * config.blocks + 2  # conv_first, 15 convs a block, conv_body: at the working size
    for pixel in range(config.factor**config.steps):
        low, high = pixel - 2, pixel + 2  # conv_hr and conv_last
        for _ in range(config.steps):
            before, after = (
                (0, 1) if config.shuffles else (1, 0)
            )  # pixels of the conv at the larger and the smaller size
            low, high = (low - before) // config.factor - after, (high + before) // config.factor + after
        first, last = (low - deep) * config.unshuffle, (high + deep + 1) * config.unshuffle - 1  # in input pixels
        radius = max(radius, pixel // config.scale - first, last - pixel // config.scale)
    return radius


def _config(state: StateDict, layout: RrdbKeyLayout, factor: int) -> RrdbConfig | None:
    """What the shapes say; None if the ends are missing or do not fit each other."""
    ends = ("conv_first", "body.0.rdb1.conv1", "conv_body", "conv_hr", "conv_last")
    weights = [state.get(f"{name}.weight") for name in ends]
    found = [tuple(weight.shape) for weight in weights if weight is not None]
    if len(found) < len(ends) or any(len(shape) != 4 or shape[2:] != (3, 3) for shape in found):
        return None
    (features, inputs), growth, channels = found[0][:2], found[1][0], found[4][0]
    inner = (features, features, 3, 3)
    unshuffle = next((by for by in UNSHUFFLES if inputs == channels * by**2), 0)
    if not unshuffle and inputs in CHANNELS and channels in CHANNELS:
        unshuffle = 1  # from colours to grey, or the reverse
    steps = sum(key.startswith("conv_up") and key.endswith(".weight") for key in state)
    if found[1][1] != features or found[2:4] != [inner, inner] or found[4][1] != features or not unshuffle:
        return None
    if steps > MAX_STEPS or factor**steps % unshuffle or (layout.unit == "imagenet" and (inputs, channels) != (3, 3)):
        return None
    return RrdbConfig(
        input_channels=inputs // unshuffle**2,
        channels=channels,
        features=features,
        growth=growth,
        blocks=count(state, "body"),
        unshuffle=unshuffle,
        steps=steps,
        factor=factor,
        slope=layout.slope,
        shuffles=layout.shuffles,
        plus="body.0.rdb1.conv1x1.weight" in state,
    )


def _matches(state: StateDict) -> bool:
    found = find(state)
    return found is not None and _config(found[1], found[0], 2) is not None


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    found = find(state)
    assert found is not None, "only called where _matches"
    layout, renamed = found
    factor = int(settings["factor"])
    if factor != 2 and "conv_up2.weight" in renamed:
        raise ArchitectureError(f"factor={factor}: only files with one upsampling step can be other than doublings")
    config = _config(renamed, layout, factor)
    if config is None:
        raise ArchitectureError(f"factor={factor}: does not go with an input that is unshuffled")
    receptive_field = receptive_field_px(config)
    deep = config.blocks > SHALLOW
    size_px = 160 if config.steps == MAX_STEPS else 272 if deep else 240  # at x16 maps of 6 million pixels
    return Generator(
        network=load(RrdbNet(config), renamed),
        task=Task.SUPER_RESOLUTION,
        hyperparameters={
            "layout": layout.name,
            "num_feat": config.features,
            "num_grow_ch": config.growth,
            "num_block": config.blocks,
            "scale": config.scale,
            "channels": config.channels,
            **({"plus": True} if config.plus else {}),
            **({"input_channels": config.input_channels} if config.input_channels != config.channels else {}),
        },
        channels=config.channels,
        input_channels=config.input_channels,
        input_range=UNITS[layout.unit],
        output_range=UNITS[layout.unit],
        max_batch_size=2,
        multiple_px=config.unshuffle,
        scale=config.scale,
        settled=() if config.steps == 1 else ("factor",),
        tile=Tiling(
            size_px=size_px,
            overlap_px=min(48 if deep else 32, receptive_field),
            multiple_px=config.unshuffle,
            receptive_field_px=receptive_field,
        ),
    )


ARCHITECTURE = Architecture(
    name="rrdb",
    reference="xinntao/Real-ESRGAN RRDBNet; also xinntao/ESRGAN, KAIR, PyTorch-GAN esrgan",
    matches=_matches,
    build=_build,
    settings={"factor": FACTOR},
)
