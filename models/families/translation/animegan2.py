"""AnimeGANv2: Chen, Liu, Chen, "AnimeGAN: A Novel Lightweight GAN for Photo Animation", 2020.

Reads bryandlee/animegan2-pytorch's `*.pt` (paprika, celeba_distill, face_paint_512_v1 and v2, and retrained ones).
Widths follow from the first conv. Norms take their statistics from the whole picture, so it is never cut into tiles.
How the maps are enlarged is in no file: `--set align_corners=true`, the class's and the hub's way, takes pictures of
any size; `false`, as the repository's command line has it, sizes that are multiples of 4.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

from artifact.spec import Scalar, Task
from models.architecture import Architecture, Generator, Setting, StateDict
from models.families.translation.translator_layers import holds
from models.state_dict import load, shape

ALIGN = Setting("true", "how maps are enlarged, with corners aligned as in the hub or not", ("true", "false"))
INVERTED = 4  # blocks in the middle
NORM_EPS = 1e-5


class Unit(nn.Sequential):
    """Reflected border, conv, norm over all channels and pixels, leaky ReLU; stride 2 pads right and bottom only."""

    def __init__(self, before: int, after: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> None:
        border = (0, 1, 0, 1) if stride == 2 else (kernel // 2,) * 4
        conv = nn.Conv2d(before, after, kernel, stride, bias=groups > 1, groups=groups)
        super().__init__(nn.ReflectionPad2d(border), conv, nn.GroupNorm(1, after, NORM_EPS), nn.LeakyReLU(0.2))


class Inverted(nn.Module):
    """1x1 unit to twice the width, depthwise unit, 1x1 conv and norm; added to the input where widths agree."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        wide = 2 * before
        self.layers = nn.Sequential(
            Unit(before, wide, kernel=1),
            Unit(wide, wide, groups=wide),
            nn.Conv2d(wide, after, 1, bias=False),
            nn.GroupNorm(1, after, NORM_EPS),
        )
        self.added = before == after

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, after, H, W) float32."""
        changed: torch.Tensor = self.layers(maps)
        return maps + changed if self.added else changed


class AnimeGenerator(nn.Module):
    """Two halvings, four inverted blocks, two doublings; `width` is of the outermost maps."""

    def __init__(self, width: int, align_corners: bool, inputs: int = 3, outputs: int = 3) -> None:
        super().__init__()
        one, two, four, eight = (width << step for step in range(4))
        self.align_corners = align_corners
        self.block_a = nn.Sequential(Unit(inputs, one, 7), Unit(one, two, stride=2), Unit(two, two))
        self.block_b = nn.Sequential(Unit(two, four, stride=2), Unit(four, four))
        inverted = [Inverted(four if place == 0 else eight, eight) for place in range(INVERTED)]
        self.block_c = nn.Sequential(Unit(four, four), *inverted, Unit(eight, four))
        self.block_d = nn.Sequential(Unit(four, four), Unit(four, four))
        self.block_e = nn.Sequential(Unit(four, two), Unit(two, two), Unit(two, one, 7))
        self.out_layer = nn.Sequential(nn.Conv2d(one, outputs, 1, bias=False), nn.Tanh())

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, outputs, H, W) float32 in [-1, 1] from `image` (N, inputs, H, W) float32 in [-1, 1]."""
        half = self.block_a(image)
        maps = self.block_c(self.block_b(half))
        maps = self.block_d(self._enlarged(maps, half))
        finished: torch.Tensor = self.out_layer(self.block_e(self._enlarged(maps, image)))
        return finished

    def _enlarged(self, maps: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """The maps at the size of `like`."""
        if self.align_corners:
            return F.interpolate(maps, size=like.shape[2:], mode="bilinear", align_corners=True)
        return F.interpolate(maps, scale_factor=2.0, mode="bilinear", align_corners=False)


def _matches(state: StateDict) -> bool:
    first, last = shape(state, "block_a.0.1.weight", 4), shape(state, "out_layer.0.weight", 4)
    if not first[0] or not last[0]:
        return False
    return holds(lambda: AnimeGenerator(first[0], True, first[1], last[0]), state)


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    first, outputs = shape(state, "block_a.0.1.weight", 4), shape(state, "out_layer.0.weight", 4)[0]
    aligned = settings["align_corners"] == "true"
    return Generator(
        network=load(AnimeGenerator(first[0], aligned, first[1], outputs), state),
        task=Task.IMAGE_TO_IMAGE,
        hyperparameters={"in_channels": first[1], "out_channels": outputs, "width": first[0], "align_corners": aligned},
        channels=outputs,
        output_range=(-1.0, 1.0),
        max_batch_size=4,
        input_range=(-1.0, 1.0),
        input_channels=first[1],
        multiple_px=1 if aligned else 4,
        least_px=8,  # a border of one pixel is reflected at a quarter of the size
    )


ARCHITECTURE = Architecture(
    name="animegan2",
    reference="bryandlee/animegan2-pytorch",
    matches=_matches,
    build=_build,
    settings={"align_corners": ALIGN},
)
