"""Colouring of grey images: lightness in, colour out, in CIE L*a*b* as junyanz/pytorch-CycleGAN-and-pix2pix trains it
(`--model colorization`, after Zhang, Isola, Efros, "Colorful Image Colorization", 2016, arXiv:1603.08511).

The network sees L / 50 - 1 and gives a / 110 and b / 110. It works at the size that it was trained at, where it sees
the whole image; the colours are then enlarged and put under the lightness of the image as it is, so that any size stays
sharp. sRGB is IEC 61966-2-1; L*a*b* is that of white D65, with the constants of scikit-image's `rgb2lab`, which the
repository uses.
"""

from dataclasses import replace

import torch
from torch import nn

from models.architecture import ArchitectureError, Generator, Setting

SIZE = Setting(256, "side in px at which colours are found, where 1 channel goes in and 2 come out (colouring)")
WHITE = (0.95047, 1.0, 1.08883)
TO_LUMINANCE = (0.212671, 0.715160, 0.072169)
TO_RGB = ((3.240481, -1.537152, -0.498536), (-0.969255, 1.875990, 0.041556), (0.055647, -0.204041, 1.057311))
LINEAR_BELOW, LINEAR_GAIN = 0.008856, 7.787
TINY = 1e-8  # keeps powers away from 0, where ONNX's and torch's may differ


class Colouring(nn.Module):
    """RGB (N, 3, H, W) -> RGB of the same lightness, with the colours that `network` finds."""

    luminance: torch.Tensor
    to_rgb: torch.Tensor
    white: torch.Tensor

    def __init__(self, network: nn.Module, size_px: int) -> None:
        super().__init__()
        self.network, self.size_px = network, size_px
        self.register_buffer("luminance", torch.tensor(TO_LUMINANCE).reshape(1, 3, 1, 1))
        self.register_buffer("to_rgb", torch.tensor(TO_RGB).reshape(3, 3, 1, 1))
        self.register_buffer("white", torch.tensor(WHITE).reshape(1, 3, 1, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) float32 in [0, 1] from the same."""
        curved = (image + 0.055) / 1.055
        linear = torch.where(image > 0.04045, curved.clamp(min=TINY) ** 2.4, image / 12.92)
        y = (linear * self.luminance).sum(1, keepdim=True)
        cube_root = torch.where(y > LINEAR_BELOW, y.clamp(min=TINY) ** (1 / 3), y * LINEAR_GAIN + 16 / 116)
        lightness = cube_root * 116 - 16
        small = resized(lightness, self.size_px, self.size_px)
        colours = self.network(small / 50 - 1) * 110
        colours = resized(colours, image.shape[2], image.shape[3])
        return self._rgb(lightness, colours)

    def _rgb(self, lightness: torch.Tensor, colours: torch.Tensor) -> torch.Tensor:
        fy = (lightness + 16) / 116
        roots = torch.cat([fy + colours[:, :1] / 500, fy, (fy - colours[:, 1:] / 200).clamp(min=0)], 1)
        xyz = torch.where(roots > 0.2068966, roots * roots * roots, (roots - 16 / 116) / LINEAR_GAIN) * self.white
        linear = nn.functional.conv2d(xyz, self.to_rgb)
        curved = linear.clamp(min=TINY) ** (1 / 2.4) * 1.055 - 0.055
        return torch.where(linear > 0.0031308, curved, linear * 12.92).clamp(0, 1)


def resized(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """(N, C, height, width), bilinear, with a wider filter where it becomes smaller.

    As two products of matrices, since engines differ in what their Resize can do.
    """
    rows = _weights(image.shape[2], height)
    columns = _weights(image.shape[3], width)
    return rows @ image @ columns.transpose(0, 1)


def _weights(before: int, after: int) -> torch.Tensor:
    """(after, before): each row sums to 1, a triangle round the pixel's place in the image before."""
    old = torch.arange(before).to(torch.float32) + 0.5
    new = torch.arange(after).to(torch.float32) + 0.5
    step = torch.tensor(1.0) * before / after
    reach = step.clamp(min=1.0)
    distance = (new.reshape(-1, 1) * step - old.reshape(1, -1)).abs() / reach
    near = (1 - distance).clamp(min=0)
    return near / near.sum(1, keepdim=True)


def coloured(generator: Generator, size_px: int) -> Generator:
    """The translator as one that takes and gives RGB, if it goes from lightness to colour; else as it is.

    Raises:
        ArchitectureError: a size that its network cannot have.
    """
    if (generator.input_channels, generator.channels) != (1, 2):
        return replace(generator, settled=(*generator.settled, "size"))
    least = max(generator.multiple_px, generator.least_px)
    if size_px < least or size_px % generator.multiple_px:
        raise ArchitectureError(f"size={size_px}: must be a multiple of {generator.multiple_px}, {least} at least")
    return replace(
        generator,
        network=Colouring(generator.network, size_px),
        channels=3,
        input_channels=3,
        input_range=(0.0, 1.0),
        output_range=(0.0, 1.0),
        multiple_px=1,
        least_px=1,
    )
