"""GFPGAN: Wang, Li, Zhang, Shan, "Towards Real-World Blind Face Restoration with Generative Facial Prior", 2021,
arXiv:2101.04061.

Reads the "clean" files of TencentARC/GFPGAN (`GFPGANCleanv1-NoCE-C2.pth`, v1.3, v1.4), `params_ema` first: a U-Net
finds w and, at each size, a scale and a shift for half of a StyleGAN2 decoder's maps. Faces that are aligned as FFHQ's
go in and come out, of one size; `ganserve restore` finds, aligns and pastes them back.
Differences: the noise is the file's own, where the repository's script draws new noise at every call.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from artifact.spec import Scalar, Task
from models.architecture import Architecture, Generator, StateDict
from models.families.translation.translator_layers import holds
from models.state_dict import count, load, shape

SLOPE, EPS = 0.2, 1e-8
SMALLEST_PX = 4
UNUSED = ("toRGB.", "stylegan_decoder.style_mlp.")  # of training alone


class ResizingBlock(nn.Module):
    """Two 3x3 convs with a resizing between them, added to the input, resized and widened."""

    def __init__(self, before: int, after: int, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.conv1, self.conv2 = nn.Conv2d(before, before, 3, padding=1), nn.Conv2d(before, after, 3, padding=1)
        self.skip = nn.Conv2d(before, after, 1, bias=False)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, after, factor H, factor W) float32."""
        change = _resized(F.leaky_relu(self.conv1(maps), SLOPE), self.factor)
        change = F.leaky_relu(self.conv2(change), SLOPE)
        added: torch.Tensor = change + self.skip(_resized(maps, self.factor))
        return added


def _resized(maps: torch.Tensor, factor: float) -> torch.Tensor:
    return F.interpolate(maps, scale_factor=factor, mode="bilinear", align_corners=False)


class ModulatedConv(nn.Module):
    """A conv whose input channels a style scales; `normed`: and whose output channels are brought back."""

    def __init__(self, before: int, after: int, kernel: int, style: int, normed: bool) -> None:
        super().__init__()
        self.normed = normed
        self.modulation = nn.Linear(style, before)
        self.weight = nn.Parameter(torch.zeros(1, after, before, kernel, kernel))

    def forward(self, maps: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        """(N, after, H, W) float32; `w` (N, S)."""
        scale, weight = self.modulation(w), self.weight[0]
        found = F.conv2d(maps * scale[:, :, None, None], weight, padding=weight.shape[-1] // 2)
        if self.normed:
            power = scale.square() @ weight.square().sum((2, 3)).T
            found = found * torch.rsqrt(power + EPS)[:, :, None, None]
        return found


class StyledConv(nn.Module):
    """A modulated conv, doubled before or not, with noise, bias and activation."""

    def __init__(self, before: int, after: int, style: int, doubles: bool) -> None:
        super().__init__()
        self.doubles = doubles
        self.modulated_conv = ModulatedConv(before, after, 3, style, normed=True)
        self.weight = nn.Parameter(torch.zeros(1))
        self.bias = nn.Parameter(torch.zeros(1, after, 1, 1))

    def forward(self, maps: torch.Tensor, w: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """(N, after, H, W) or (N, after, 2H, 2W) float32; `noise` (1, 1, H, W) of that size."""
        found = self.modulated_conv(_resized(maps, 2.0) if self.doubles else maps, w) * math.sqrt(2)
        return F.leaky_relu(found + self.weight * noise + self.bias, SLOPE)


class ToColours(nn.Module):
    """The image at this size, added to the smaller one."""

    def __init__(self, before: int, style: int) -> None:
        super().__init__()
        self.modulated_conv = ModulatedConv(before, 3, 1, style, normed=False)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))

    def forward(self, maps: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) float32."""
        found: torch.Tensor = self.modulated_conv(maps, w) + self.bias
        return found


class Constant(nn.Module):
    """What the decoder begins with."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, channels, SMALLEST_PX, SMALLEST_PX))


class Noises(nn.Module):
    """The noise of each layer."""

    def __init__(self, count: int) -> None:
        super().__init__()
        for place in range(count):
            side = SMALLEST_PX << (place + 1) // 2
            self.register_buffer(f"noise{place}", torch.zeros(1, 1, side, side))


class Decoder(nn.Module):
    """StyleGAN2's synthesis network; `widths` from the smallest maps on."""

    def __init__(self, widths: Sequence[int], style: int) -> None:
        super().__init__()
        self.constant_input = Constant(widths[0])
        self.style_conv1 = StyledConv(widths[0], widths[0], style, doubles=False)
        self.to_rgb1 = ToColours(widths[0], style)
        self.style_convs = nn.ModuleList(
            StyledConv(*pair, style, doubles=place == 0)
            for before, after in pairwise(widths)
            for place, pair in enumerate(((before, after), (after, after)))
        )
        self.to_rgbs = nn.ModuleList(ToColours(width, style) for width in widths[1:])
        self.noises = Noises(2 * len(widths) - 1)

    def forward(self, w: torch.Tensor, scales: list[torch.Tensor], shifts: list[torch.Tensor]) -> torch.Tensor:
        """(N, 3, H, W) float32; `w` (N, layers, S), a scale and a shift for the second half of each size's maps."""
        maps = self.constant_input.weight.expand(w.shape[0], -1, -1, -1)
        maps = self.style_conv1(maps, w[:, 0], self.noises.noise0)
        image = self.to_rgb1(maps, w[:, 1])
        for place, (scale, shift) in enumerate(zip(scales, shifts, strict=True)):
            noises = [self.noises.get_buffer(f"noise{2 * place + step}") for step in (1, 2)]
            maps = self.style_convs[2 * place](maps, w[:, 2 * place + 1], noises[0])
            kept, changed = maps.chunk(2, dim=1)
            maps = torch.cat([kept, changed * scale + shift], dim=1)
            maps = self.style_convs[2 * place + 1](maps, w[:, 2 * place + 2], noises[1])
            image = self.to_rgbs[place](maps, w[:, 2 * place + 3]) + _resized(image, 2.0)
        restored: torch.Tensor = image
        return restored


class GfpganGenerator(nn.Module):
    """The U-Net and the decoder.

    Args:
        widths: of the U-Net's maps, from the largest on; the decoder's are given.
        decoder: widths of the decoder's maps, from the smallest on.
        style: length of w.
    """

    def __init__(self, widths: Sequence[int], decoder: Sequence[int], style: int) -> None:
        super().__init__()
        self.style = style
        rising = list(reversed(widths))
        self.conv_body_first = nn.Conv2d(3, widths[0], 1)
        self.conv_body_down = nn.ModuleList(ResizingBlock(*pair, 0.5) for pair in pairwise(widths))
        self.final_conv = nn.Conv2d(widths[-1], widths[-1], 3, padding=1)
        self.final_linear = nn.Linear(widths[-1] * SMALLEST_PX**2, 2 * len(widths) * style)
        self.conv_body_up = nn.ModuleList(ResizingBlock(*pair, 2.0) for pair in pairwise(rising))
        self.condition_scale, self.condition_shift = (
            nn.ModuleList(
                nn.Sequential(
                    nn.Conv2d(width, width, 3, padding=1), nn.LeakyReLU(SLOPE), nn.Conv2d(width, width, 3, padding=1)
                )
                for width in rising[1:]
            )
            for _ in range(2)
        )
        self.stylegan_decoder = Decoder(decoder, style)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, 3, size, size) float32, about [-1, 1], from the same in [-1, 1]."""
        maps, kept = F.leaky_relu(self.conv_body_first(image), SLOPE), []
        for block in self.conv_body_down:
            maps = block(maps)
            kept.append(maps)
        maps = F.leaky_relu(self.final_conv(maps), SLOPE)
        w = self.final_linear(maps.flatten(1)).unflatten(1, (-1, self.style))
        scales, shifts = [], []
        for place, block in enumerate(self.conv_body_up):
            maps = block(maps + kept[-1 - place])
            scales.append(self.condition_scale[place](maps))
            shifts.append(self.condition_shift[place](maps))
        restored: torch.Tensor = self.stylegan_decoder(w, scales, shifts)
        return restored


def _sizes(state: StateDict) -> tuple[list[int], list[int], int] | None:
    """What the network is made with; None if these are none."""
    blocks, style = count(state, "conv_body_down"), shape(state, "stylegan_decoder.style_mlp.1.weight", 2)[1]
    if not 1 <= blocks <= 10 or not style or "toRGB.0.weight" not in state:
        return None
    widths = [shape(state, "conv_body_first.weight", 4)[0]]
    widths += [shape(state, f"conv_body_down.{place}.conv2.weight", 4)[0] for place in range(blocks)]
    decoder = [shape(state, "stylegan_decoder.constant_input.weight", 4)[1]]
    decoder += [
        shape(state, f"stylegan_decoder.style_convs.{2 * place}.modulated_conv.weight", 5)[1] for place in range(blocks)
    ]
    return None if 0 in (*widths, *decoder) else (widths, decoder, style)


def _used(state: StateDict) -> StateDict:
    return {key: tensor for key, tensor in state.items() if not key.startswith(UNUSED)}


def _matches(state: StateDict) -> bool:
    sizes = _sizes(state)
    return sizes is not None and holds(lambda: GfpganGenerator(*sizes), _used(state))


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    sizes = _sizes(state)
    assert sizes is not None, "only called where _matches"
    size_px = SMALLEST_PX << len(sizes[0]) - 1
    return Generator(
        network=load(GfpganGenerator(*sizes), _used(state)),
        task=Task.IMAGE_TO_IMAGE,
        hyperparameters={"out_size": size_px, "num_style_feat": sizes[2], "width": sizes[0][0]},
        channels=3,
        output_range=(-1.0, 1.0),
        max_batch_size=2,
        image_size_px=(size_px, size_px),
        input_range=(-1.0, 1.0),
        input_channels=3,
        notes=("takes aligned faces only; its noise is the file's own, the same at every call",),
    )


def _relative(state: StateDict) -> str | None:
    if "final_linear.weight" in state and any(key.startswith("conv_body_first.0.") for key in state):
        return "GFPGANv1.pth, whose layers are scaled at run time; take a clean file: v1.3, v1.4, Cleanv1-NoCE-C2"
    return None


ARCHITECTURE = Architecture(
    name="gfpgan",
    reference="TencentARC/GFPGAN GFPGANv1Clean",
    matches=_matches,
    build=_build,
    relative=_relative,
)
