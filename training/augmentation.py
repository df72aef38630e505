"""Differentiable augmentation of what a discriminator sees, real and drawn alike, so that few pictures suffice.

Karras, Aittala, Hellsten, Laine, Lehtinen, Aila, "Training Generative Adversarial Networks with Limited Data", 2020,
arXiv:2006.06676: every operation hits each picture with a probability that follows how surely the discriminator tells
real pictures; below 0.8 the generator has no reason to draw what the operations do. Zhao, Liu, Lin, Zhu, Han,
"Differentiable Augmentation for Data-Efficient GAN Training", 2020, arXiv:2006.10738: cutout.
"""

import torch
from torch import Tensor
from torch.nn import functional

SHIFT = 0.15  # of the picture's size, at most, along each axis
ZOOM = 0.2  # at most, either way
TURN = 0.3  # radians at most
CUTOUT = 0.4  # of the picture's size: a grey square
TARGET = 0.6  # mean sign of the scores of real pictures; above it the discriminator memorises
MOST = 0.8
PICTURES_TO_MOST = 20_000


class AdaptiveShare:
    """The probability of each operation, from 0 to MOST; it moves with every batch towards what TARGET needs."""

    def __init__(self) -> None:
        self.share = 0.0

    def follow(self, scores: Tensor) -> None:
        """Takes the scores (N,) of a batch of real pictures; positive means real."""
        step = MOST * len(scores) / PICTURES_TO_MOST
        certain = scores.detach().sign().mean().item() > TARGET
        self.share = min(max(self.share + (step if certain else -step), 0.0), MOST)


def augment(pictures: Tensor, share: float, random: torch.Generator) -> Tensor:
    """`pictures` (N, C, H, W), -1..1, mirrored by half and moved, turned, zoomed and cut out with probability `share`.

    What comes in from outside repeats the border. Draws from `random`, a generator on the CPU.
    """
    n, _, height, width = pictures.shape
    draws = torch.rand(n, 12, generator=random).to(pictures)
    hit = (draws[:, :4] < share).to(pictures)
    signed = draws[:, 4:] * 2 - 1
    mirror = torch.where(signed[:, 0] < 0, -1.0, 1.0)
    angle, zoom = TURN * signed[:, 1] * hit[:, 0], 1 + ZOOM * signed[:, 2] * hit[:, 1]
    shift = 2 * SHIFT * signed[:, 3:5] * hit[:, 2:3]
    cosine, sine = zoom * angle.cos(), zoom * angle.sin()
    rows = (mirror * cosine, -mirror * sine, shift[:, 0], sine, cosine, shift[:, 1])
    grid = functional.affine_grid(torch.stack(rows, 1).reshape(n, 2, 3), list(pictures.shape), align_corners=False)
    moved = functional.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
    down = (torch.linspace(-1, 1, height).to(pictures) - signed[:, 5:6]).abs() < CUTOUT
    across = (torch.linspace(-1, 1, width).to(pictures) - signed[:, 6:7]).abs() < CUTOUT
    hole = (down[:, :, None] & across[:, None, :]).to(pictures) * hit[:, 3, None, None]
    return moved * (1 - hole[:, None])
