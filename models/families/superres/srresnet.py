"""SRResNet, SRGAN's generator: Ledig, Theis, Huszar, Caballero, Cunningham, Acosta, Aitken, Tejani, Totz, Wang, Shi,
"Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network", 2016, arXiv:1609.04802.

Reads the checkpoints of five repositories, told apart by their keys (`models/families/superres/srresnet_layouts.py`):

- leftthomas/SRGAN: `block1` to `block8`; images 0..1 in, (tanh + 1) / 2 out.
- Lornatang/SRGAN-PyTorch (`SRResNet`): `conv1`, `trunk.<b>.rcb`; no conv biases before BatchNorm; clamped to 0..1.
- eriklindernoren/PyTorch-GAN `srgan`: `res_blocks.<b>.conv_block`; BatchNorm with eps 0.8, also in the upsampling
  (there 1e-5); images in ImageNet units in, tanh out.
- aitorzip/PyTorch-SRGAN: `residual_block<b>`; swish for PReLU; ImageNet units in and out, no last activation.
- aladdinpersson/Machine-Learning-Collection `SRGAN`: `residuals.<b>.block1`; one PReLU slope a channel; images 0..1
  in, tanh out.

Differences: any number of blocks, channels and doublings, which the shapes tell. The network below has Lornatang's
names; the others' keys are renamed to them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from artifact.spec import Scalar, Task
from models.architecture import Architecture, Generator, Setting, StateDict, Tiling
from models.families.superres.image_units import UNITS
from models.families.superres.srresnet_layouts import LAYOUTS, SrResNetKeyLayout
from models.state_dict import count, load, rename

EPS = Setting(0.0, "BatchNorm's epsilon, which no checkpoint stores; 0 means what the weights' repository uses")
OUTPUT = Setting(
    "display",
    "what the tanh of PyTorch-GAN's srgan means: its samples show -1..1 as black to white (display), its loss compares "
    "it with images in ImageNet units (imagenet)",
    ("display", "imagenet"),
)


@dataclass(frozen=True)
class SrResNetConfig:
    """What sets one SRResNet apart from another.

    `steps`: doublings. `slopes`: PReLU slopes, 1 or one a feature; 0 means swish. `bias`: of convs before BatchNorm.
    `step_norm`: BatchNorm in the upsampling. `output`: what follows the last conv: clamp, tanh, half-tanh or none.
    """

    channels: int
    features: int
    blocks: int
    steps: int
    slopes: int = 1
    bias: bool = False
    eps: float = 1e-5
    step_norm: bool = False
    output: str = "clamp"

    def activation(self) -> nn.Module:
        """A fresh activation between two layers."""
        return nn.PReLU(self.slopes) if self.slopes else nn.SiLU()

    def conv_norm(self) -> tuple[nn.Module, nn.Module]:
        """A 3x3 conv and its BatchNorm."""
        conv = nn.Conv2d(self.features, self.features, 3, 1, 1, bias=self.bias)
        return conv, nn.BatchNorm2d(self.features, self.eps)


class ResidualBlock(nn.Module):
    """conv, BatchNorm, activation, conv, BatchNorm, added to the input."""

    def __init__(self, config: SrResNetConfig) -> None:
        super().__init__()
        self.rcb = nn.Sequential(*config.conv_norm(), config.activation(), *config.conv_norm())

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, features, H, W) float32 from the same."""
        change: torch.Tensor = self.rcb(maps)
        return maps + change


class Doubling(nn.Module):
    """3x3 conv to four times the features, pixel shuffle, activation."""

    def __init__(self, config: SrResNetConfig) -> None:
        super().__init__()
        norm = [nn.BatchNorm2d(4 * config.features)] if config.step_norm else []
        conv = nn.Conv2d(config.features, 4 * config.features, 3, 1, 1)
        self.upsample_block = nn.Sequential(conv, *norm, nn.PixelShuffle(2), config.activation())

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, features, 2*H, 2*W) float32 from (N, features, H, W)."""
        doubled: torch.Tensor = self.upsample_block(maps)
        return doubled


class SrResNet(nn.Module):
    """9x9 conv, residual blocks, a skip around them, doublings, 9x9 conv."""

    def __init__(self, config: SrResNetConfig) -> None:
        super().__init__()
        self.output = config.output
        self.conv1 = nn.Sequential(nn.Conv2d(config.channels, config.features, 9, 1, 4), config.activation())
        self.trunk = nn.Sequential(*(ResidualBlock(config) for _ in range(config.blocks)))
        self.conv2 = nn.Sequential(*config.conv_norm())
        self.upsampling = nn.Sequential(*(Doubling(config) for _ in range(config.steps)))
        self.conv3 = nn.Conv2d(config.features, config.channels, 9, 1, 4)

    def unclipped(self, image: torch.Tensor) -> torch.Tensor:
        """What the last conv gives, before clamp or tanh: (N, C, 2^steps*H, 2^steps*W) float32 from (N, C, H, W)."""
        first = self.conv1(image)
        output: torch.Tensor = self.conv3(self.upsampling(self.conv2(self.trunk(first)) + first))
        return output

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, C, 2^steps*H, 2^steps*W) float32 from `image` (N, C, H, W) float32; ranges are the repository's own."""
        output = self.unclipped(image)
        if self.output == "clamp":
            return output.clamp(0.0, 1.0)
        if self.output == "none":
            return output
        return torch.tanh(output) if self.output == "tanh" else (torch.tanh(output) + 1) / 2


def receptive_field_px(blocks: int, steps: int) -> int:
    """How far from its own place one output pixel sees, in input pixels: intervals walked back through the layers."""
    radius = 0
    for pixel in range(2**steps):
        low, high = pixel - 4, pixel + 4  # the last 9x9 conv
        for _ in range(steps):
            low, high = low // 2 - 1, high // 2 + 1  # pixel shuffle, then the 3x3 conv before it
        radius = max(radius, -low, high)
    return radius + 1 + 2 * blocks + 4  # conv2, two convs a block, the first 9x9 conv


def _find(state: StateDict) -> tuple[SrResNetKeyLayout, StateDict] | None:
    """The layout and the weights under this module's names; None if they are no SRResNet."""
    for layout in LAYOUTS:
        renamed = rename(state, layout.rules, strict=True)
        if renamed and _is_whole(renamed, rgb=layout.unit_in == "imagenet"):
            return layout, renamed
    return None


def _is_whole(state: StateDict, rgb: bool) -> bool:
    """Whether the ends and the first step of an SRResNet are there and fit each other; `rgb`: only with 3 channels."""
    names = ("conv1.0", "trunk.0.rcb.0", "conv2.0", "upsampling.0.upsample_block.0", "conv3")
    tensors = [state.get(f"{name}.weight") for name in names]
    shapes = [tuple(tensor.shape) for tensor in tensors if tensor is not None]
    if len(shapes) < len(names) or len(shapes[0]) != 4:
        return False
    features, channels = shapes[0][:2]
    inner = (features, features, 3, 3)
    ends = ((features, channels, 9, 9), (channels, features, 9, 9))
    return not (rgb and channels != 3) and shapes == [ends[0], inner, inner, (4 * features, features, 3, 3), ends[1]]


def _config(state: StateDict, layout: SrResNetKeyLayout, eps: float) -> SrResNetConfig:
    features, channels = state["conv1.0.weight"].shape[:2]
    return SrResNetConfig(
        channels=channels,
        features=features,
        blocks=count(state, "trunk"),
        steps=count(state, "upsampling"),
        slopes=state["conv1.1.weight"].numel() if "conv1.1.weight" in state else 0,
        bias="conv2.0.bias" in state,
        eps=eps or layout.eps,
        step_norm="upsampling.0.upsample_block.1.weight" in state,
        output=layout.output,
    )


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    found = _find(state)
    assert found is not None, "only called where _matches"
    layout, renamed = found
    config = _config(renamed, layout, float(settings["eps"]))
    receptive_field = receptive_field_px(config.blocks, config.steps)
    as_imagenet = layout.name == "pytorch-gan" and settings["output"] == "imagenet"
    return Generator(
        network=load(SrResNet(config), renamed),
        task=Task.SUPER_RESOLUTION,
        hyperparameters={
            "layout": layout.name,
            "num_feat": config.features,
            "num_block": config.blocks,
            "scale": 2**config.steps,
            "channels": config.channels,
            "eps": config.eps,
        },
        channels=config.channels,
        input_range=UNITS[layout.unit_in],
        output_range=UNITS["imagenet" if as_imagenet else layout.unit_out],
        max_batch_size=4,
        scale=2**config.steps,
        tile=Tiling(
            size_px=224,
            overlap_px=min(24, receptive_field),
            multiple_px=1,
            receptive_field_px=receptive_field,
        ),
    )


ARCHITECTURE = Architecture(
    name="srresnet",
    reference="leftthomas/SRGAN, Lornatang/SRGAN-PyTorch, PyTorch-GAN srgan, aitorzip/PyTorch-SRGAN",
    matches=lambda state: _find(state) is not None,
    build=_build,
    settings={"eps": EPS, "output": OUTPUT},
)
