"""How like enlarged pictures are to their originals: PSNR, SSIM, sharpness, patches; on pictures (N, C, H, W) uint8."""

import torch
from torch import Tensor
from torch.nn import functional

from training.metrics import frechet

WINDOW_PX, SIGMA_PX = 11, 1.5
PATCH_PX = 8
STABILISERS = (0.01**2, 0.03**2)


def psnr_db(pictures: Tensor, originals: Tensor) -> float:
    """The mean over pictures of the peak signal-to-noise ratio, all channels, nothing cropped."""
    errors = (pictures.double() - originals.double()).div(255).square().flatten(1).mean(1)
    return float((-10 * errors.clamp_min(1e-10).log10()).mean())


def ssim(pictures: Tensor, originals: Tensor) -> float:
    """The mean structural similarity (Wang et al. 2004): Gaussian window of 11 px and sigma 1.5, each channel alone."""
    left, right = (found.float().div(255).flatten(0, 1)[:, None] for found in (pictures, originals))
    means = _blur(left), _blur(right)
    variances = _blur(left * left) - means[0] ** 2, _blur(right * right) - means[1] ** 2
    covariance = _blur(left * right) - means[0] * means[1]
    light = (2 * means[0] * means[1] + STABILISERS[0]) / (means[0] ** 2 + means[1] ** 2 + STABILISERS[0])
    structure = (2 * covariance + STABILISERS[1]) / (variances[0] + variances[1] + STABILISERS[1])
    return float((light * structure).mean())


def sharpness(pictures: Tensor) -> float:
    """The root mean square difference of neighbouring pixels, in levels: what blur takes away."""
    levels = pictures.double()
    across, down = levels.diff(dim=3).square().mean(), levels.diff(dim=2).square().mean()
    return float(((across + down) / 2).sqrt())


def patch_distance(pictures: Tensor, originals: Tensor) -> float:
    """The Frechet distance of all patches of 8x8 pixels, their values 0..1 being the features; H, W multiples of 8.

    It knows how patches vary, not which belongs where: blurred pictures are far from sharp ones.
    """
    return frechet.between(_patches(pictures), _patches(originals))


def _patches(pictures: Tensor) -> Tensor:
    cut = functional.unfold(pictures.float() / 255, PATCH_PX, stride=PATCH_PX)
    return cut.permute(0, 2, 1).flatten(0, 1)


def _blur(planes: Tensor) -> Tensor:
    steps = torch.arange(WINDOW_PX) - WINDOW_PX // 2
    weights = torch.exp(-(steps**2) / (2 * SIGMA_PX**2))
    weights /= weights.sum()
    return functional.conv2d(functional.conv2d(planes, weights.reshape(1, 1, 1, -1)), weights.reshape(1, 1, -1, 1))
