"""The recipe of the zoo's `digits-gan`: the original GAN, perceptrons against each other, on MNIST.

Goodfellow et al., "Generative Adversarial Networks", 2014, arXiv:1406.2661, has the players. The loss is what has since
been found to make such a game converge: relativistic pairs with zero-centred gradient penalties on real and drawn
pictures (R1, R2), as in R3GAN (Huang et al. 2024, arXiv:2501.05441), here lazily. Both networks are as wide as those
of PyTorch-GAN's `gan`; the generator (BatchNorm with epsilon 0.8, leaky ReLU) has its keys too. What is saved is the
generator's moving average, as float16.
"""

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from models.families.basic.perceptron import MlpGenerator
from training.alternating import Alternating, descend, frozen
from training.average import average_into
from training.discriminators import save_discriminator
from training.loop import Data, Run
from training.losses import lazy_r1_penalty, relativistic
from training.metrics.judge import to_signed
from training.recipes.digits_judged import JUDGED, Figures, learn_digits

LATENT = 100
HIDDEN = (128, 256, 512, 1024)
SIZE_PX = 28
DISCRIMINATOR = (512, 256)
PENALTY = 1.0  # gamma of R1 and R2
PENALTY_EVERY = 4
LEARNING_RATE = 4e-4
BETAS = (0.0, 0.99)
DECAY = 0.999
BATCH_SIZE = 128


def build_generator(hidden: tuple[int, ...] = HIDDEN) -> MlpGenerator:
    """The generator, untrained: every hidden layer but the first is normalised."""
    widths = (LATENT, *hidden, SIZE_PX**2)
    return MlpGenerator(widths, (1, SIZE_PX, SIZE_PX), [index > 0 for index in range(len(hidden))])


class Discriminator(nn.Module):
    """Scores pictures (N, 1, 28, 28) float32, -1..1: (N,) float32, higher means more real."""

    def __init__(self, hidden: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in zip((SIZE_PX**2, *hidden), hidden, strict=False):
            layers += [nn.Linear(before, after), nn.LeakyReLU(0.2)]
        self.main = nn.Sequential(*layers, nn.Linear(hidden[-1], 1))

    def forward(self, pictures: Tensor) -> Tensor:
        scores: Tensor = self.main(pictures)
        return scores.flatten()


class GanLearner(Alternating):
    """Alternates one discriminator and one generator step; `average` is the generator that is kept."""

    def __init__(
        self,
        device: torch.device,
        hidden: tuple[int, ...] = HIDDEN,
        discriminator: tuple[int, ...] = DISCRIMINATOR,
    ) -> None:
        self.generator = build_generator(hidden).to(device)
        self.average = copy.deepcopy(self.generator).eval()
        self.discriminator = Discriminator(discriminator).to(device)
        self.device = device
        networks = {"generator": self.generator, "average": self.average, "discriminator": self.discriminator}
        pair = (self.generator, self.discriminator)
        super().__init__(
            networks, [torch.optim.Adam(player.parameters(), lr=LEARNING_RATE, betas=BETAS) for player in pair]
        )

    def step(self, pictures: Tensor, labels: Tensor, random: torch.Generator) -> Mapping[str, float]:
        """One step of each on uint8 pictures (N, 1, 28, 28); latents come from `random`."""
        real = to_signed(pictures.to(self.device))
        fake = self.generator(torch.randn(len(pictures), LATENT, generator=random).to(self.device))
        seen = torch.cat([real, fake.detach()])
        reals, fakes = self.discriminator(seen).chunk(2)
        # Both halves in one: the mean over real and drawn ones is half the sum of R1 and R2.
        penalty = 2 * lazy_r1_penalty(self.discriminator, seen, self.steps, PENALTY_EVERY)
        loss = relativistic(reals, fakes)
        descend(self.players[1], loss + PENALTY * penalty)
        with frozen(self.discriminator):
            fooled = descend(self.players[0], relativistic(self.discriminator(fake), reals.detach()))
        average_into(self.average, self.generator, self.steps, DECAY)
        self.steps += 1
        return {"discriminator": loss.item(), "generator": fooled}


def train(
    data: Data,
    test: Data,
    *,
    epochs: int,
    seed: int,
    out: Path,
    resume: bool,
    device: torch.device,
    hidden: tuple[int, ...] = HIDDEN,
    judged: int = JUDGED,
) -> Figures:
    """Trains; writes `digits-gan.safetensors` (float16), its grid and one after each epoch into `out`.

    Raises:
        ResumeError: `out` holds the state of a run with another seed.
    """
    torch.manual_seed(seed)
    learner = GanLearner(device, hidden)
    run = Run(out / "digits-gan.pt", epochs, BATCH_SIZE, seed)
    figures = learn_digits(learner, LATENT, run, data, test, resume=resume, judged=judged, dtype=torch.float16)
    save_discriminator(learner.discriminator, out / "digits-gan.safetensors")
    return figures
