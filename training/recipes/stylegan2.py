"""How small StyleGAN2s are trained, with or without labels, from few pictures.

Network: Karras et al. 2019, arXiv:1912.04958, with equalised learning rates; noise per pixel, style mixing and the path
length penalty are left out. Loss as in R3GAN (Huang et al. 2024, arXiv:2501.05441): relativistic pairs, zero-centred
gradient penalties on real and drawn pictures (R1, R2), here lazily. Few pictures, hence adaptive augmentation
(`training.augmentation`). What is saved is the moving average, with the mean latent that truncation draws towards.
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.families.style.stylegan2_ops import mean_latent
from training.alternating import Alternating, descend, frozen
from training.augmentation import AdaptiveShare, augment
from training.average import average_into
from training.discriminators import save_discriminator
from training.generate import draw, latents
from training.grid import save_grid
from training.loop import Data, History, Run, learn
from training.losses import lazy_r1_penalty, relativistic
from training.metrics.judge import to_signed
from training.networks.stylegan2 import Discriminator, StyleGan2
from training.networks.stylegan2_layouts import save_weights

SIZE_PX = 32
LATENT = 96
DEPTH = 3
WIDTHS = (64, 64, 48, 32)  # at 4, 8, 16, 32 pixels
DISCRIMINATOR_WIDTHS = (32, 64, 96)  # at 16, 8, 4 pixels
LEARNING_RATE = 2e-3
BETAS = (0.0, 0.99)
PENALTY = 0.1  # gamma of R1 and R2
PENALTY_EVERY = 4
DECAY = 0.999
BATCH_SIZE = 8
MEAN_OF = 4096  # latents behind the stored mean
COLUMNS, ROWS = 10, 3  # of the grid
TRUNCATIONS = (0.7, 0.5)  # of the grid's last rows
MOST_ROWS = 20  # labels that a grid shows


class StyleGan2Learner(Alternating):
    """Alternates one discriminator and one generator step; `average` is the generator that is kept."""

    def __init__(self, widths: tuple[int, ...], device: torch.device, classes: int = 0) -> None:
        self.generator = StyleGan2(widths, LATENT, DEPTH, classes).to(device)
        self.average = copy.deepcopy(self.generator).eval()
        self.discriminator = Discriminator(DISCRIMINATOR_WIDTHS[1 - len(widths) :], classes).to(device)
        self.augmentation = AdaptiveShare()
        self.device = device
        lazy = PENALTY_EVERY / (PENALTY_EVERY + 1)
        betas = (BETAS[0] ** lazy, BETAS[1] ** lazy)
        players = (
            torch.optim.Adam(self.generator.parameters(), lr=LEARNING_RATE, betas=betas, fused=True),
            torch.optim.Adam(self.discriminator.parameters(), lr=lazy * LEARNING_RATE, betas=betas, fused=True),
        )
        networks = {"generator": self.generator, "average": self.average, "discriminator": self.discriminator}
        super().__init__(networks, players)

    def step(self, pictures: Tensor, labels: Tensor, random: torch.Generator) -> Mapping[str, float]:
        """One step of each; latents and augmentation come from `random`, labels of what is drawn from the batch."""
        of = labels.to(self.device) if self.generator.classes else None
        real = to_signed(pictures.to(self.device))
        fake = self.generator(torch.randn(len(pictures), LATENT, generator=random).to(self.device), of)
        seen = augment(torch.cat([real, fake.detach()]), self.augmentation.share, random).chunk(2)
        reals, fakes = (self.discriminator(each, of) for each in seen)
        loss = relativistic(reals, fakes)
        penalties = [
            lazy_r1_penalty(lambda at: self.discriminator(at, of), each, self.steps, PENALTY_EVERY) for each in seen
        ]
        descend(self.players[1], loss + PENALTY * (penalties[0] + penalties[1]))
        self.augmentation.follow(reals - fakes)
        with frozen(self.discriminator):
            scores = self.discriminator(augment(fake, self.augmentation.share, random), of)
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


def train(
    data: Data,
    *,
    name: str,
    repeats: int,
    epochs: int,
    seed: int,
    out: Path,
    resume: bool,
    device: torch.device,
    widths: tuple[int, ...] = WIDTHS,
    classes: int = 0,
) -> tuple[StyleGan2, History]:
    """Trains on pictures (N, 3, S, S) uint8; writes `NAME.safetensors`, its grid and one after each epoch.

    An epoch shows each picture `repeats` times. The labels are learned where there are `classes`, 2 or more.

    Raises:
        ResumeError: `out` holds the state of a run with another seed.
    """
    torch.manual_seed(seed)
    learner = StyleGan2Learner(widths, device, classes)
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
    save_weights(learner.average, mean_of(learner.average), out / f"{name}.safetensors")
    save_discriminator(learner.discriminator, out / f"{name}.safetensors")
    return learner.average, history


def sheet(generator: StyleGan2, path: Path) -> None:
    """Writes the grid: ROWS of seeds, then those of the first row again under each of TRUNCATIONS.

    With labels, a row of each in place of that, up to MOST_ROWS.
    """
    first = range(COLUMNS)
    if generator.classes:
        rows = [pictures(generator, first, label=label) for label in range(min(generator.classes, MOST_ROWS))]
    else:
        truncated = (pictures(generator, first, psi) for psi in TRUNCATIONS)
        rows = [pictures(generator, range(ROWS * COLUMNS)), *truncated]
    save_grid(torch.cat(rows), COLUMNS, path, scale=2)


@torch.no_grad()
def pictures(generator: StyleGan2, seeds: range, psi: float = 1.0, label: int = 0) -> Tensor:
    """Pictures (N, 3, S, S) float32, cut to -1..1, of seeds under truncation `psi`, as the server draws them."""
    mapped = _Mapping(generator, label)(latents(seeds, LATENT).to(generator.input.input.device))
    mean = mean_of(generator).to(mapped)
    drawn = draw(_Synthesis(generator), mean + psi * (mapped - mean))
    return drawn.clamp(-1, 1).cpu()


def mean_of(generator: StyleGan2) -> Tensor:
    """The mean latent (Z,) float64, on the CPU, that truncation draws towards; over all labels."""
    exact = copy.deepcopy(generator).cpu()
    means = [mean_latent(_Mapping(exact, label), LATENT, MEAN_OF) for label in range(max(1, generator.classes))]
    return torch.stack(means).mean(0)


class _Mapping(torch.nn.Module):
    """The first half of a generator, for one label."""

    def __init__(self, generator: StyleGan2, label: int) -> None:
        super().__init__()
        self.generator, self.label = generator, label

    def forward(self, latent: Tensor) -> Tensor:
        return self.generator.map(latent, torch.full((len(latent),), self.label, device=latent.device))


class _Synthesis(torch.nn.Module):
    """A generator from its mapped latents."""

    def __init__(self, generator: StyleGan2) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, mapped: Tensor) -> Tensor:
        return self.generator.draw(mapped)
