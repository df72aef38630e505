"""The recipe of the zoo's `emoji-stylegan2`: a StyleGAN2 that draws the yellow faces among Google's emoji.

Network: Karras et al. 2019, arXiv:1912.04958, with equalised learning rates; noise per pixel, style mixing and the path
length penalty are left out. Loss as in R3GAN (Huang et al. 2024, arXiv:2501.05441): relativistic pairs, zero-centred
gradient penalties on real and drawn pictures (R1, R2), here lazily. Few pictures, hence adaptive augmentation
(`training.augmentation`). What is saved is the moving average, in the layout of rosinality's stylegan2-pytorch, with
the mean latent that truncation draws towards.
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from models.families.style.stylegan2_ops import mean_latent
from training.alternating import Alternating, descend, frozen
from training.augmentation import AdaptiveShare, augment
from training.average import average_into
from training.data.emoji import Emoji
from training.discriminators import save_discriminator
from training.generate import draw, latents
from training.grid import save_grid
from training.loop import Data, History, Run, learn
from training.losses import lazy_r1_penalty, relativistic
from training.metrics.judge import to_signed
from training.networks.stylegan2 import Discriminator, StyleGan2

GROUPS = "face-"  # the beginning of the names of Unicode's finer categories
OTHERS = ("face-costume", "face-negative")  # of them: robots, ghosts, skulls, devils; not yellow, few of a kind
SIZE_PX = 32
LATENT = 96
DEPTH = 3
WIDTHS = (96, 96, 64, 32)  # at 4, 8, 16, 32 pixels
DISCRIMINATOR_WIDTHS = (48, 96, 128)  # at 16, 8, 4 pixels
LEARNING_RATE = 2e-3
BETAS = (0.0, 0.99)
PENALTY = 0.1  # gamma of R1 and R2
PENALTY_EVERY = 4
DECAY = 0.999
BATCH_SIZE = 16
REPEATS = 32  # times that an epoch shows each picture
MEAN_OF = 4096  # latents behind the stored mean
COLUMNS, ROWS = 10, 3  # of the grid
TRUNCATIONS = (0.7, 0.5)  # of the grid's last rows


class StyleGan2Learner(Alternating):
    """Alternates one discriminator and one generator step; `average` is the generator that is kept."""

    def __init__(self, widths: tuple[int, ...], device: torch.device) -> None:
        self.generator = StyleGan2(widths, LATENT, DEPTH).to(device)
        self.average = copy.deepcopy(self.generator).eval()
        self.discriminator = Discriminator(DISCRIMINATOR_WIDTHS[1 - len(widths) :]).to(device)
        self.augmentation = AdaptiveShare()
        self.device = device
        lazy = PENALTY_EVERY / (PENALTY_EVERY + 1)
        betas = (BETAS[0] ** lazy, BETAS[1] ** lazy)
        players = (
            torch.optim.Adam(self.generator.parameters(), lr=LEARNING_RATE, betas=BETAS, fused=True),
            torch.optim.Adam(self.discriminator.parameters(), lr=lazy * LEARNING_RATE, betas=betas, fused=True),
        )
        networks = {"generator": self.generator, "average": self.average, "discriminator": self.discriminator}
        super().__init__(networks, players)

    def step(self, pictures: Tensor, labels: Tensor, random: torch.Generator) -> Mapping[str, float]:
        """One step of each; latents and augmentation come from `random`."""
        real = to_signed(pictures.to(self.device))
        fake = self.generator(torch.randn(len(pictures), LATENT, generator=random).to(self.device))
        seen = augment(torch.cat([real, fake.detach()]), self.augmentation.share, random)
        reals, fakes = self.discriminator(seen).chunk(2)
        loss = relativistic(reals, fakes)
        # Both halves in one: the mean over real and drawn ones is half the sum of R1 and R2.
        penalty = 2 * lazy_r1_penalty(self.discriminator, seen, self.steps, PENALTY_EVERY)
        descend(self.players[1], loss + PENALTY * penalty)
        self.augmentation.follow(reals - fakes)
        with frozen(self.discriminator):
            scores = self.discriminator(augment(fake, self.augmentation.share, random))
            fooled = descend(self.players[0], relativistic(scores, reals.detach()))
        average_into(self.average, self.generator, self.steps, DECAY)
        self.steps += 1
        return {"discriminator": loss.item(), "generator": fooled, "augmentation": self.augmentation.share}

    def state_dict(self) -> dict[str, Any]:
        """As every learner's, and the augmentation's share."""
        return {**super().state_dict(), "share": self.augmentation.share}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Puts back what `state_dict` gave."""
        super().load_state_dict(state)
        self.augmentation.share = state["share"]


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
    name: str = "emoji-stylegan2",
    repeats: int = REPEATS,
) -> tuple[StyleGan2, History]:
    """Trains on pictures (N, 3, S, S) uint8; writes `NAME.safetensors`, its grid and one after each epoch.

    An epoch shows each picture `repeats` times.

    Raises:
        ResumeError: `out` holds the state of a run with another seed.
    """
    torch.manual_seed(seed)
    learner = StyleGan2Learner(widths, device)
    repeated = Data(data.pictures.repeat(repeats, 1, 1, 1), data.labels.repeat(repeats))
    run = Run(out / f"{name}.pt", epochs, BATCH_SIZE, seed)
    history = learn(
        learner,
        repeated,
        run,
        resume=resume,
        after_epoch=lambda epoch: sheet(learner.average, out / f"epoch-{epoch:02d}.png"),
    )
    sheet(learner.average, out / f"{name}.png")
    save_weights(learner.average, out / f"{name}.safetensors")
    save_discriminator(learner.discriminator, out / f"{name}.safetensors")
    return learner.average, history


def sheet(generator: StyleGan2, path: Path) -> None:
    """Writes the grid: ROWS of seeds, then those of the first row again under each of TRUNCATIONS."""
    truncated = (pictures(generator, range(COLUMNS), psi) for psi in TRUNCATIONS)
    rows = [pictures(generator, range(ROWS * COLUMNS)), *truncated]
    save_grid(torch.cat(rows), COLUMNS, path, scale=2)


@torch.no_grad()
def pictures(generator: StyleGan2, seeds: range, psi: float = 1.0) -> Tensor:
    """Pictures (N, 3, S, S) float32, cut to -1..1, of seeds under truncation `psi`, as the server draws them."""
    mapped = generator.style(latents(seeds, LATENT).to(generator.input.input.device))
    mean = mean_of(generator).to(mapped)
    drawn = draw(_Synthesis(generator), mean + psi * (mapped - mean))
    return drawn.clamp(-1, 1).cpu()


def mean_of(generator: StyleGan2) -> Tensor:
    """The mean latent (Z,) float64, on the CPU, that truncation draws towards."""
    return mean_latent(copy.deepcopy(generator.style).cpu(), LATENT, MEAN_OF)


def save_weights(generator: StyleGan2, path: Path) -> None:
    """Writes the float32 weights and `latent_avg` as safetensors."""
    state = {**generator.state_dict(), "latent_avg": mean_of(generator).float()}
    save_file({key: tensor.cpu().contiguous() for key, tensor in state.items()}, path)


class _Synthesis(torch.nn.Module):
    """A generator from its mapped latents."""

    def __init__(self, generator: StyleGan2) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, mapped: Tensor) -> Tensor:
        return self.generator.draw(mapped)
