"""pix2pix's U-Net as eriklindernoren/PyTorch-GAN writes it: Isola, Zhu, Zhou, Efros, "Image-to-Image Translation with
Conditional Adversarial Networks", 2016, arXiv:1611.07004.

Reads `saved_models/<dataset>/generator_<epoch>.pth` of PyTorch-GAN `pix2pix`: keys `down<k>.model.0`, `up<k>.model.0`,
`final.2`. Instance norm without weights, so there are no norm keys; none after the first and the innermost halving. The
last doubling is nearest and a conv, shifted by one pixel (a border of zeros at the top and left only).
Differences: any number of halvings rather than 8, any widths; dropout is off, as after `generator.eval()`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from artifact.spec import Scalar, Task
from models.architecture import Architecture, Generator, StateDict
from models.families.translation.patch_discriminators import describe
from models.families.translation.translator_layers import holds
from models.state_dict import load


@dataclass(frozen=True)
class Widths:
    """Channels: of the image in and out, after each halving, and after each doubling but the last."""

    inputs: int
    outputs: int
    down: tuple[int, ...]
    up: tuple[int, ...]


class Pix2pixUnet(nn.Module):
    """The whole U-Net; `down<k>` and `up<k>` are Sequentials of one conv: nothing else there has weights."""

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        self.depth = len(widths.down)
        before = (widths.inputs, *widths.down)
        for k in range(self.depth):
            conv = nn.Conv2d(before[k], before[k + 1], 4, 2, 1, bias=False)
            self.add_module(f"down{k + 1}", _named(conv))
        below = widths.down[-1]
        for k, after in enumerate(widths.up):
            self.add_module(f"up{k + 1}", _named(nn.ConvTranspose2d(below, after, 4, 2, 1, bias=False)))
            below = after + widths.down[-2 - k]
        self.final = nn.ModuleDict({"2": nn.Conv2d(below, widths.outputs, 4, padding=1)})
        self.output = nn.Tanh()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, outputs, H, W) float32 in [-1, 1] from `image` (N, inputs, H, W) float32 in [-1, 1]; H and W multiples of
        2^depth.
        """
        maps, skips = image, []
        for k in range(1, self.depth + 1):
            maps = self._conv(f"down{k}", maps)
            if 1 < k < self.depth:
                maps = F.instance_norm(maps)
            maps = F.leaky_relu(maps, 0.2)
            skips.append(maps)
        for k in range(1, self.depth):
            raised = F.relu(F.instance_norm(self._conv(f"up{k}", maps)))
            maps = torch.cat([raised, skips[-1 - k]], dim=1)
        large = F.interpolate(maps, scale_factor=2.0, mode="nearest")
        output: torch.Tensor = self.output(self.final["2"](F.pad(large, (1, 0, 1, 0))))
        return output

    def _conv(self, name: str, maps: torch.Tensor) -> torch.Tensor:
        after: torch.Tensor = self.get_submodule(f"{name}.model")(maps)
        return after


def _named(conv: nn.Module) -> nn.Module:
    """`conv` under the key `model.0`."""
    return nn.ModuleDict({"model": nn.Sequential(conv)})


def _widths(state: StateDict) -> Widths | None:
    """Channels of the U-Net; None if the weights are none."""
    down, up = _convs(state, "down"), _convs(state, "up")
    final = state.get("final.2.weight")
    if len(down) < 2 or len(up) != len(down) - 1 or final is None or final.ndim != 4:
        return None
    after = tuple(conv.shape[0] for conv in down)
    return Widths(down[0].shape[1], final.shape[0], after, tuple(conv.shape[1] for conv in up))


def _convs(state: StateDict, name: str) -> list[torch.Tensor]:
    """The kernels `<name>1`, `<name>2`, ... as far as they go."""
    found: list[torch.Tensor] = []
    while (kernel := state.get(f"{name}{len(found) + 1}.model.0.weight")) is not None and kernel.ndim == 4:
        found.append(kernel)
    return found


def _matches(state: StateDict) -> bool:
    widths = _widths(state)
    return widths is not None and holds(lambda: Pix2pixUnet(widths), state)


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    widths = _widths(state)
    assert widths is not None, "only called where _matches"
    return Generator(
        network=load(Pix2pixUnet(widths), state),
        task=Task.IMAGE_TO_IMAGE,
        hyperparameters={
            "in_channels": widths.inputs,
            "out_channels": widths.outputs,
            "width": widths.down[0],
            "num_downs": len(widths.down),
        },
        channels=widths.outputs,
        output_range=(-1.0, 1.0),
        max_batch_size=8,
        input_range=(-1.0, 1.0),
        input_channels=widths.inputs,
        multiple_px=2 ** len(widths.down),
    )


ARCHITECTURE = Architecture(
    name="pix2pix",
    reference="eriklindernoren/PyTorch-GAN pix2pix",
    matches=_matches,
    build=_build,
    relative=describe,
)
