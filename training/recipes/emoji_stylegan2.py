"""The recipe of the zoo's `emoji-stylegan2`: a StyleGAN2 (`training.recipes.stylegan2`) of Google's yellow faces."""

from pathlib import Path

import torch

from training.data.emoji import Emoji
from training.loop import Data, History
from training.networks.stylegan2 import StyleGan2
from training.recipes import stylegan2
from training.recipes.stylegan2 import WIDTHS

GROUPS = "face-"  # the beginning of the names of Unicode's finer categories
OTHERS = ("face-costume", "face-negative")  # of them: robots, ghosts, skulls, devils; not yellow, few of a kind
REPEATS = 16  # times that an epoch shows each picture


def faces(emoji: Emoji) -> Emoji:
    """The yellow faces among `emoji`."""
    groups = enumerate(emoji.groups)
    return emoji.only([row for row, group in groups if group.startswith(GROUPS) and group not in OTHERS])


def train(
    data: Data,
    *,
    epochs: int,
    seed: int,
    out: Path,
    resume: bool,
    device: torch.device,
    widths: tuple[int, ...] = WIDTHS,
) -> tuple[StyleGan2, History]:
    """Trains on pictures (N, 3, 32, 32) uint8; writes weights, discriminator and grids into `out`.

    Raises:
        ResumeError: `out` holds the state of a run with another seed.
    """
    return stylegan2.train(
        data,
        name="emoji-stylegan2",
        repeats=REPEATS,
        epochs=epochs,
        seed=seed,
        out=out,
        resume=resume,
        device=device,
        widths=widths,
    )
