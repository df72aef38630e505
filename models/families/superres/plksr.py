"""PLKSR: Lee, Yun, Ro, "Partial Large Kernel CNNs for Efficient Super-Resolution", 2024, arXiv:2404.11848; and neosr's
RealPLKSR, which most published models are.

Reads the checkpoints of dslisleedh/PLKSR (`feats.<b>.channe_mixer`, as it is spelt there) and of neosr and
traiNNer-redux (`feats.<b>.channel_mixer`), the latter with GroupNorm or layer norm, with pixel shuffle or DySample.
GroupNorm takes the statistics of the whole image, so those networks are not run in tiles. Difference: large kernels
that are a sum of dilated ones (`lk.convs`) are not read, since no file tells the dilations.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from artifact.spec import Scalar, Task
from models.architecture import Architecture, ArchitectureError, Generator, Setting, StateDict, Tiling
from models.families.superres.dysample import DySample, find_groups
from models.state_dict import count, load, shape

GROUPS = Setting(4, "groups of RealPLKSR's GroupNorm")
LAYER_NORM_EPS = 1e-6
# Tiles overlap by less than the receptive field of 28 blocks, 310 px; export measures what that does.
OVERLAP_PX = 64
MAX_SEAM_LEVELS = 2.0


@dataclass(frozen=True)
class PlksrConfig:
    """What sets one PLKSR apart from another.

    `real`: neosr's. `mixer`: sizes of the mixer's two kernels. `large`: the convs of the large kernel by name, each
    (height, width). `part`: channels that it sees. `norm`: none, group or layer. `dysample`: groups of the DySample at
    the end, 0 for a pixel shuffle.
    """

    real: bool
    channels: int
    features: int
    blocks: int
    scale: int
    mixer: tuple[int, int]
    large: Mapping[str, tuple[int, int]]
    part: int
    attention: bool
    norm: str
    norm_groups: int
    dysample: int

    @property
    def receptive_field_px(self) -> int:
        """How far one output pixel sees, in input pixels. DySample's moves have no bound; they are counted as 1 px."""
        block = sum(size // 2 for size in self.mixer) + max(map(max, self.large.values())) // 2 + int(self.attention)
        return 2 + self.blocks * block + (2 if self.dysample else 0)


class PixelNorm(nn.Module):
    """Layer norm over the channels of each pixel."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.eps = LAYER_NORM_EPS
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, features, H, W) float32 from the same."""
        centred = maps - maps.mean(dim=1, keepdim=True)
        spread = torch.sqrt((centred * centred).mean(dim=1, keepdim=True) + self.eps)
        return self.weight[:, None, None] * (centred / spread) + self.bias[:, None, None]


class LargeKernel(nn.Module):
    """One large conv, or a sum of long ones, over the first channels; the others pass."""

    def __init__(self, config: PlksrConfig) -> None:
        super().__init__()
        self.names = tuple(config.large)
        self.part = config.part
        for name, (height, width) in config.large.items():
            conv = nn.Conv2d(self.part, self.part, (height, width), 1, (height // 2, width // 2))
            self.add_module(name, conv)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, features, H, W) float32 from the same."""
        seen = maps[:, : self.part]
        total = self.get_submodule(self.names[0])(seen)
        for name in self.names[1:]:
            total = total + self.get_submodule(name)(seen)
        return torch.cat((total, maps[:, self.part :]), dim=1)


class Attention(nn.Module):
    """Every value weighed by a conv of its neighbours."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.f = nn.Sequential(nn.Conv2d(features, features, 3, 1, 1), nn.Sigmoid())

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, features, H, W) float32 from the same."""
        weights: torch.Tensor = self.f(maps)
        return maps * weights


class Block(nn.Module):
    """Mixer, large kernel, attention and a 1x1 conv, added to the input."""

    def __init__(self, config: PlksrConfig) -> None:
        super().__init__()
        features, (first, second) = config.features, config.mixer
        self.layer_norm = PixelNorm(features) if config.norm == "layer" else nn.Identity()
        mixer = nn.Sequential(
            nn.Conv2d(features, 2 * features, first, 1, first // 2),
            nn.Mish() if config.real else nn.GELU(),
            nn.Conv2d(2 * features, features, second, 1, second // 2),
        )
        self.mixer_name = "channel_mixer" if config.real else "channe_mixer"
        self.add_module(self.mixer_name, mixer)
        self.lk = LargeKernel(config)
        self.attn = Attention(features) if config.attention else nn.Identity()
        self.refine = nn.Conv2d(features, features, 1)
        self.norm = nn.GroupNorm(config.norm_groups, features) if config.norm == "group" else nn.Identity()

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, features, H, W) float32 from the same."""
        mixed = self.get_submodule(self.mixer_name)(self.layer_norm(maps))
        change: torch.Tensor = self.norm(self.refine(self.attn(self.lk(mixed))))
        return maps + change


class Plksr(nn.Module):
    """Conv, blocks, conv; its maps added to the image's channels, each repeated; then the enlargement."""

    def __init__(self, config: PlksrConfig) -> None:
        super().__init__()
        self.scale = config.scale
        maps = config.channels * config.scale**2
        blocks: list[nn.Module] = [Block(config) for _ in range(config.blocks)]
        if config.real:
            blocks.append(nn.Identity())  # dropout's place
        first, last = (
            nn.Conv2d(*ends, 3, 1, 1) for ends in ((config.channels, config.features), (config.features, maps))
        )
        self.feats = nn.Sequential(first, *blocks, last)
        if config.dysample:
            self.to_img: nn.Module = DySample(maps, config.channels, config.scale, config.dysample)
        else:
            self.to_img = nn.PixelShuffle(config.scale)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, C, scale*H, scale*W) float32, about [0, 1] but unbounded, from `image` (N, C, H, W) float32 in [0, 1]."""
        repeated = image.unsqueeze(2).expand(-1, -1, self.scale**2, -1, -1).flatten(1, 2)
        output: torch.Tensor = self.to_img(self.feats(image) + repeated)
        return output


def _config(state: StateDict, norm_groups: int) -> PlksrConfig | None:
    """What names and shapes say; None if they are not a PLKSR's."""
    real = "feats.1.channel_mixer.0.weight" in state
    block, last = "feats.1", f"feats.{_last(state)}"
    mixer = f"{block}.{'channel_mixer' if real else 'channe_mixer'}"
    features, channels, *_ = shape(state, "feats.0.weight", 4)
    maps, before, *_ = shape(state, f"{last}.weight", 4)
    first, second = (shape(state, f"{mixer}.{index}.weight", 4) for index in (0, 2))
    names = ("conv",) if f"{block}.lk.conv.weight" in state else ("mn_conv", "nm_conv", "nn_conv")
    kernels = {name: shape(state, f"{block}.lk.{name}.weight", 4) for name in names}
    part = kernels[names[0]][0]
    scale = math.isqrt(maps // channels) if channels else 0
    if not scale or channels * scale**2 != maps or before != features or not 0 < part <= features:
        return None
    if first[:2] != (2 * features, features) or second[:2] != (features, 2 * features):
        return None
    if {kernel[:2] for kernel in kernels.values()} != {(part, part)}:
        return None
    dysample = find_groups(state, "to_img", maps, scale)
    if any(key.startswith("to_img.") for key in state) and not dysample:
        return None
    norms = {"layer": f"{block}.layer_norm.weight", "group": f"{block}.norm.weight"}
    return PlksrConfig(
        real=real,
        channels=channels,
        features=features,
        blocks=count(state, "feats") - 2,
        scale=scale,
        mixer=(first[2], second[2]),
        large={name: (kernel[2], kernel[3]) for name, kernel in kernels.items()},
        part=part,
        attention=f"{block}.attn.f.0.weight" in state,
        norm=next((name for name, key in norms.items() if key in state), "none"),
        norm_groups=norm_groups,
        dysample=dysample,
    )


def _last(state: StateDict) -> int:
    parts = (key.split(".")[1] for key in state if key.startswith("feats."))
    return max((int(part) for part in parts if part.isdigit()), default=0)


def _matches(state: StateDict) -> bool:
    return all(key.startswith(("feats.", "to_img.")) for key in state) and _config(state, 1) is not None


def _relative(state: StateDict) -> str | None:
    if "feats.1.lk.convs.0.weight" in state and "feats.1.refine.weight" in state:
        return "a PLKSR whose large kernels are sums of dilated ones; no file tells the dilations"
    return None


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    groups = int(settings["norm_groups"])
    config = _config(state, groups)
    assert config is not None, "only called where _matches"
    if config.norm == "group" and (groups < 1 or config.features % groups):
        raise ArchitectureError(f"norm_groups={groups}: must divide the {config.features} channels")
    if config.norm != "group" and groups != GROUPS.default:
        raise ArchitectureError(f"norm_groups={groups}: the network has no GroupNorm")
    receptive_field = config.receptive_field_px
    tile = Tiling(224, min(OVERLAP_PX, receptive_field), 1, receptive_field, MAX_SEAM_LEVELS)
    return Generator(
        network=load(Plksr(config), state),
        task=Task.SUPER_RESOLUTION,
        hyperparameters={
            "layout": "realplksr" if config.real else "plksr",
            "dim": config.features,
            "n_blocks": config.blocks,
            "upscaling_factor": config.scale,
            "kernel_size": max(map(max, config.large.values())),
            "norm": config.norm,
            "dysample": bool(config.dysample),
            "channels": config.channels,
        },
        channels=config.channels,
        output_range=(0.0, 1.0),
        max_batch_size=4,
        scale=config.scale,
        tile=None if config.norm == "group" else tile,
        settled=() if config.norm == "group" else ("norm_groups",),
    )


ARCHITECTURE = Architecture(
    name="plksr",
    reference="dslisleedh/PLKSR; RealPLKSR of neosr and traiNNer-redux",
    matches=_matches,
    build=_build,
    settings={"norm_groups": GROUPS},
    relative=_relative,
)
