"""pix2pix's U-Net: Isola, Zhu, Zhou, Efros, "Image-to-Image Translation with Conditional Adversarial Networks", 2016,
arXiv:1611.07004.

Reads the checkpoints of junyanz/pytorch-CycleGAN-and-pix2pix (`UnetGenerator`, `<epoch>_net_G.pth`): nested keys
`model.model.0`, `model.model.1.model.1`, ... Any depth and widths, batch norm, instance norm or none, with or without
dropout. One from 1 channel to 2 colours grey images (`--model colorization`). Running statistics of an InstanceNorm
(checkpoints until 2018) are ignored, as the repository does.
Differences: dropout is off and batch norm uses its stored statistics, which is the repository's `test.py --eval`.
Without `--eval` it uses each image's own statistics (`--set norm_statistics=picture`) and dropout (not offered).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import nn

from artifact.spec import Scalar, Task
from models.architecture import Architecture, Generator, StateDict
from models.families.translation.colouring import SIZE, coloured
from models.families.translation.patch_discriminators import describe
from models.families.translation.translator_layers import (
    NORM_STATISTICS,
    holds,
    norm,
    without_statistics,
    without_unused_statistics,
)
from models.state_dict import load


@dataclass(frozen=True)
class UnetConfig:
    """A U-Net: the maps of each level from the outermost in, and the norm's kind."""

    inputs: int
    outputs: int
    widths: tuple[int, ...]
    kind: str


class Level(nn.Module):
    """Halves, goes through the levels below, doubles; what comes up is given with the level's own input before it.

    The layers are named by their places in the reference's Sequential, which counts activations and dropout.
    """

    def __init__(self, config: UnetConfig, depth: int) -> None:
        super().__init__()
        inner, biased = config.widths[depth], config.kind == "instance"
        above = (config.inputs, config.outputs) if depth == 0 else (config.widths[depth - 1],) * 2
        self.is_outermost, self.is_innermost = depth == 0, depth == len(config.widths) - 1
        self.model = nn.ModuleDict()
        self.output = nn.Tanh() if self.is_outermost else nn.Identity()
        down = nn.Conv2d(above[0], inner, 4, 2, 1, bias=biased)
        rises = inner if self.is_innermost else 2 * inner
        up = nn.ConvTranspose2d(rises, above[1], 4, 2, 1, bias=biased or self.is_outermost)
        if self.is_outermost:
            self.model.update({"0": down, "1": Level(config, 1), "3": up})
        elif self.is_innermost:
            self.model.update({"1": down, "3": up, "4": norm(config.kind, above[1])})
        else:
            middle = {"1": down, "2": norm(config.kind, inner), "3": Level(config, depth + 1)}
            self.model.update({**middle, "5": up, "6": norm(config.kind, above[1])})

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, above, H, W) float32 at the outermost level, (N, 2*above, H, W) at the others, from (N, above, H, W)."""
        if self.is_outermost:
            image: torch.Tensor = self.output(self.model["3"](F.relu(self.model["1"](self.model["0"](maps)))))
            return image
        low = self.model["1"](F.leaky_relu(maps, 0.2))
        if self.is_innermost:
            raised = self.model["4"](self.model["3"](F.relu(low)))
        else:
            low = self.model["3"](self.model["2"](low))
            raised = self.model["6"](self.model["5"](F.relu(low)))
        return torch.cat([maps, raised], dim=1)


class UnetTranslator(nn.Module):
    """The whole U-Net."""

    def __init__(self, config: UnetConfig) -> None:
        super().__init__()
        self.model = Level(config, 0)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, outputs, H, W) float32 in [-1, 1] from `image` (N, inputs, H, W) float32 in [-1, 1]; H and W multiples of
        2^depth.
        """
        output: torch.Tensor = self.model(image)
        return output


def _config(state: StateDict) -> UnetConfig | None:
    """What the weights are; None if they are no U-Net."""
    outermost, up = state.get("model.model.0.weight"), state.get("model.model.3.weight")
    if outermost is None or up is None or outermost.ndim != 4 or up.ndim != 4:
        return None
    widths = [outermost.shape[0]]
    prefix = "model.model.1"
    while (down := state.get(f"{prefix}.model.1.weight")) is not None and down.ndim == 4:
        widths.append(down.shape[0])
        prefix += ".model.3"
    if len(widths) < 2:
        return None
    has_batch_norm = any(key.endswith(".running_mean") for key in state)
    kind = "batch" if has_batch_norm else "instance" if "model.model.0.bias" in state else "none"
    return UnetConfig(outermost.shape[1], up.shape[1], tuple(widths), kind)


def _matches(state: StateDict) -> bool:
    weights = without_unused_statistics(state)
    config = _config(weights)
    return config is not None and holds(lambda: UnetTranslator(config), weights)


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    weights = without_unused_statistics(state)
    config = _config(weights)
    assert config is not None, "only called where _matches"
    served = config
    if config.kind == "batch" and settings["norm_statistics"] == "picture":
        served, weights = replace(config, kind="picture"), without_statistics(weights)
    generator = Generator(
        network=load(UnetTranslator(served), weights),
        task=Task.IMAGE_TO_IMAGE,
        hyperparameters={
            "input_nc": config.inputs,
            "output_nc": config.outputs,
            "ngf": config.widths[0],
            "num_downs": len(config.widths),
            "norm": config.kind,
        },
        channels=config.outputs,
        output_range=(-1.0, 1.0),
        max_batch_size=8,
        input_range=(-1.0, 1.0),
        input_channels=config.inputs,
        multiple_px=2 ** len(config.widths),
    )
    return coloured(generator, int(settings["size"]))


ARCHITECTURE = Architecture(
    name="unet",
    reference="junyanz/pytorch-CycleGAN-and-pix2pix UnetGenerator",
    matches=_matches,
    build=_build,
    settings={"norm_statistics": NORM_STATISTICS, "size": SIZE},
    relative=describe,
)
