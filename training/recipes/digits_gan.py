"""The recipe of the zoo's `digits-gan`: the original GAN, perceptrons against each other, on MNIST.

Goodfellow et al., "Generative Adversarial Networks", 2014, arXiv:1406.2661: the discriminator minimises the minimax
loss, the generator its non-saturating form; the discriminator has dropout, as theirs. The generator is PyTorch-GAN's
`gan` (BatchNorm with epsilon 0.8, leaky ReLU), under its keys; what is saved is its moving average, as float16.
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
from training.losses import minimax_discriminator, non_saturating_generator
from training.metrics.judge import to_signed
from training.recipes.digits_judged import JUDGED, Figures, learn_digits

LATENT = 100
HIDDEN = (128, 256, 512, 1024)
SIZE_PX = 28
DISCRIMINATOR = (1024, 512, 256)
DROPOUT = 0.3
LEARNING_RATE = 2e-4
BETAS = (0.5, 0.999)
DECAY = 0.999
BATCH_SIZE = 128


def build_generator(hidden: tuple[int, ...] = HIDDEN) -> MlpGenerator:
    """The generator, untrained: every hidden layer but the first is normalised."""
    widths = (LATENT, *hidden, SIZE_PX**2)
    return MlpGenerator(widths, (1, SIZE_PX, SIZE_PX), [index > 0 for index in range(len(hidden))])


class Discriminator(nn.Module):
    """Scores pictures (N, 1, 28, 28) float32, -1..1: (N,) float32 logits, higher means more real."""

    def __init__(self, hidden: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in zip((SIZE_PX**2, *hidden), hidden, strict=False):
            layers += [nn.Linear(before, after), nn.LeakyReLU(0.2), nn.Dropout(DROPOUT)]
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
        """One step of each on uint8 pictures (N, 1, 28, 28); latents and the seed of dropout come from `random`."""
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=random)))
        real = to_signed(pictures.to(self.device))
        fake = self.generator(torch.randn(len(pictures), LATENT, generator=random).to(self.device))
        scores = self.discriminator(torch.cat([real, fake.detach()])).chunk(2)
        judged = descend(self.players[1], minimax_discriminator(*scores))
        with frozen(self.discriminator):
            fooled = descend(self.players[0], non_saturating_generator(self.discriminator(fake)))
        average_into(self.average, self.generator, self.steps, DECAY)
        self.steps += 1
        return {"discriminator": judged, "generator": fooled}


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
