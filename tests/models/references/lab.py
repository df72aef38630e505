"""CIE L*a*b* of sRGB with white D65, from the definitions: what scikit-image's rgb2lab and lab2rgb compute."""

import torch
from torch import Tensor

XYZ_OF_RGB = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
WHITE = (0.95047, 1.0, 1.08883)


def rgb2lab(rgb: Tensor) -> Tensor:
    """(N, 3, H, W) float64 from RGB in [0, 1]."""
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = torch.einsum("ij,njhw->nihw", linear.new_tensor(XYZ_OF_RGB), linear)
    x, y, z = _curve(xyz / linear.new_tensor(WHITE).reshape(1, 3, 1, 1)).unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def lab2rgb(lab: Tensor) -> Tensor:
    """(N, 3, H, W) float64 in [0, 1]."""
    lightness, a, b = lab.unbind(1)
    y = (lightness + 16) / 116
    curved = torch.stack([y + a / 500, y, (y - b / 200).clamp(min=0)], 1)
    xyz = torch.where(curved > 0.2068966, curved**3, (curved - 16 / 116) / 7.787)
    xyz = xyz * lab.new_tensor(WHITE).reshape(1, 3, 1, 1)
    linear = torch.einsum("ij,njhw->nihw", torch.linalg.inv(lab.new_tensor(XYZ_OF_RGB)), xyz)
    positive = linear.clamp(min=0)
    return torch.where(linear > 0.0031308, 1.055 * positive ** (1 / 2.4) - 0.055, 12.92 * linear).clamp(0, 1)


def _curve(values: Tensor) -> Tensor:
    return torch.where(values > 0.008856, values.clamp(min=0) ** (1 / 3), 7.787 * values + 16 / 116)
