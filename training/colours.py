"""RGB to CIE L*a*b* and back, as the colouring networks have it (`models/families/translation/colouring.py`).

And how far colours are from the true ones, and how colourful pictures are.
"""

import torch
from torch import Tensor, nn

from models.families.translation.colouring import (
    LINEAR_BELOW,
    LINEAR_GAIN,
    TO_RGB,
    WHITE,
    Colouring,
)

LIGHTNESS, COLOUR = 50.0, 110.0  # a network sees L / 50 - 1, and gives a / 110 and b / 110


def lab(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """L (N, 1, H, W), 0..100, and a, b (N, 2, H, W) of sRGB pictures (N, 3, H, W) uint8; float32."""
    levels = pictures.float() / 255
    linear = torch.where(levels > 0.04045, ((levels + 0.055) / 1.055) ** 2.4, levels / 12.92)
    to_xyz = torch.linalg.inv(torch.tensor(TO_RGB)).to(levels)
    xyz = torch.einsum("ij,njhw->nihw", to_xyz, linear) / torch.tensor(WHITE).to(levels).reshape(1, 3, 1, 1)
    f = torch.where(xyz > LINEAR_BELOW, xyz.clamp(min=1e-8) ** (1 / 3), xyz * LINEAR_GAIN + 16 / 116)
    x, y, z = f.unbind(1)
    return (116 * y - 16)[:, None], torch.stack([500 * (x - y), 200 * (y - z)], 1)


def coloured(network: nn.Module, pictures: Tensor, size_px: int) -> Tensor:
    """(N, 3, H, W) uint8: pictures (N, 3, H, W) uint8 with the colours that `network` finds at `size_px`, as served."""
    whole = Colouring(network, size_px).eval()
    with torch.no_grad():
        parts = [whole(part.float() / 255) for part in torch.split(pictures, 64)]
    return (torch.cat(parts) * 255).round().clamp(0, 255).to(torch.uint8)


def ab_psnr_db(found: Tensor, true: Tensor) -> float:
    """The mean over pictures of the peak signal-to-noise ratio of a and b, (N, 2, H, W), for a peak of 220."""
    errors = ((found - true) / (2 * COLOUR)).double().square().flatten(1).mean(1)
    return float((-10 * errors.clamp_min(1e-10).log10()).mean())


def colourfulness(pictures: Tensor) -> float:
    """The mean colourfulness of pictures (N, 3, H, W) uint8, 0 for grey (Hasler and Suesstrunk 2003, M3)."""
    red, green, blue = pictures.float().flatten(2).unbind(1)
    one, other = red - green, (red + green) / 2 - blue
    spread = (one.var(1, unbiased=False) + other.var(1, unbiased=False)).sqrt()
    return float((spread + 0.3 * (one.mean(1) ** 2 + other.mean(1) ** 2).sqrt()).mean())
