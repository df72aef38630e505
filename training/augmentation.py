"""Differentiable augmentation of what a discriminator sees, real and drawn alike, so that few pictures suffice.

Karras, Aittala, Hellsten, Laine, Lehtinen, Aila, "Training Generative Adversarial Networks with Limited Data", 2020,
arXiv:2006.06676: every operation hits each picture with a probability that follows how surely the discriminator tells
real pictures; below 0.8 the generator has no reason to draw what the operations do. Zhao, Liu, Lin, Zhu, Han,
"Differentiable Augmentation for Data-Efficient GAN Training", 2020, arXiv:2006.10738: cutout and colours.
"""

import torch
from torch import Tensor
from torch.nn import functional

SHIFT = 0.15  # of the picture's size, at most, along each axis
ZOOM = 0.2  # at most, either way
TURN = 0.3  # radians at most
CUTOUT = 0.4  # of the picture's size: a grey square
BRIGHTNESS = 0.3  # added at most, either way, to all channels
SATURATION, CONTRAST = 0.6, 0.4  # factors are 1 plus at most this, either way
TARGET = 0.6  # mean sign of what the discriminator tells apart; above it the discriminator memorises
MOST = 0.8
PICTURES_TO_MOST = 20_000


class AdaptiveShare:
    """The probability of each operation, from 0 to MOST; it moves with every batch towards what TARGET needs."""

    def __init__(self) -> None:
        self.share = 0.0

    def follow(self, scores: Tensor) -> None:
        """Takes the scores (N,) of a batch of real pictures, or by how much they are ahead; positive means real."""
        step = MOST * len(scores) / PICTURES_TO_MOST
        certain = scores.detach().sign().mean().item() > TARGET
        self.share = min(max(self.share + (step if certain else -step), 0.0), MOST)


def augment(pictures: Tensor, share: float, random: torch.Generator) -> Tensor:
    """`pictures` (N, 3, H, W), -1..1, mirrored by half; the other operations hit each with probability `share`.

    They are moved, turned, zoomed, cut out, and their brightness, saturation and contrast changed. What comes in from
    outside repeats the border. Draws from `random`, a generator on the CPU.
    """
    n, _, height, width = pictures.shape
    draws = torch.rand(n, 18, generator=random).to(pictures)
    hit = (draws[:, :7] < share).to(pictures)
    signed = draws[:, 7:] * 2 - 1
    coloured = _recolour(_move(pictures, hit, signed), hit[:, 4:], signed[:, 8:])
    down = (torch.linspace(-1, 1, height).to(pictures) - signed[:, 5:6]).abs() < CUTOUT
    across = (torch.linspace(-1, 1, width).to(pictures) - signed[:, 6:7]).abs() < CUTOUT
    hole = (down[:, :, None] & across[:, None, :]).to(pictures) * hit[:, 3, None, None]
    return coloured * (1 - hole[:, None])


def _move(pictures: Tensor, hit: Tensor, signed: Tensor) -> Tensor:
    mirror = torch.where(signed[:, 0] < 0, -1.0, 1.0)
    angle, zoom = TURN * signed[:, 1] * hit[:, 0], 1 + ZOOM * signed[:, 2] * hit[:, 1]
    shift = 2 * SHIFT * signed[:, 3:5] * hit[:, 2:3]
    cosine, sine = zoom * angle.cos(), zoom * angle.sin()
    rows = (mirror * cosine, -mirror * sine, shift[:, 0], sine, cosine, shift[:, 1])
    shape = list(pictures.shape)
    grid = functional.affine_grid(torch.stack(rows, 1).reshape(len(pictures), 2, 3), shape, align_corners=False)
    return functional.grid_sample(pictures, grid, padding_mode="border", align_corners=False)


def _recolour(pictures: Tensor, hit: Tensor, signed: Tensor) -> Tensor:
    """`hit` and `signed` (N, 3): of brightness, saturation and contrast."""
    added, saturation, contrast = (hit * signed).reshape(-1, 3, 1, 1, 1).unbind(1)
    grey = pictures.mean(1, keepdim=True)
    vivid = grey + (pictures - grey) * (1 + SATURATION * saturation)
    middle = vivid.mean((1, 2, 3), keepdim=True)
    return middle + (vivid - middle) * (1 + CONTRAST * contrast) + BRIGHTNESS * added
