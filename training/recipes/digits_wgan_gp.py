"""The recipe of the zoo's `digits-wgan-gp`: a DCGAN learned as a Wasserstein GAN with gradient penalty, on MNIST.

Gulrajani, Ahmed, Arjovsky, Dumoulin, Courville, "Improved Training of Wasserstein GANs", 2017, arXiv:1704.00028: five
critic steps to one of the generator, penalty weight 10, no batch normalisation in the critic, Adam with betas 0 and
0.9. The generator is `models.basic.dcgan`, 32 px, under the keys of pytorch/examples; its moving average is saved.
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.families.basic.dcgan import DcganGenerator
from training.alternating import Alternating, descend, frozen
from training.average import average_into
from training.discriminators import save_discriminator
from training.loop import Data, Run
from training.losses import gradient_penalty, wasserstein_critic, wasserstein_generator
from training.metrics.judge import to_signed
from training.recipes.digits_judged import JUDGED, MARGIN_PX, Figures, learn_digits

LATENT = 64
WIDTHS = (48, 32)  # the narrowest of generator and critic
LEARNING_RATE = 4e-4
BETAS = (0.0, 0.9)
CRITIC_STEPS = 5
PENALTY = 10.0
DECAY = 0.998
BATCH_SIZE = 32


def build_generator(width: int = WIDTHS[0]) -> DcganGenerator:
    """The generator, untrained: 32x32, three doublings."""
    network = DcganGenerator((LATENT, 4 * width, 2 * width, width, 1))
    for module in network.modules():
        if isinstance(module, nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


class Critic(nn.Module):
    """Scores pictures (N, 1, 32, 32) float32, -1..1: (N,) float32, any real number. No batch normalisation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((1, width), (width, 2 * width), (2 * width, 4 * width)):
            layers += [nn.Conv2d(before, after, 4, 2, 1), nn.LeakyReLU(0.2)]
        self.main = nn.Sequential(*layers, nn.Conv2d(4 * width, 1, 4))
        self.main.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, pictures: Tensor) -> Tensor:
        scores: Tensor = self.main(pictures)
        return scores.flatten()


class WganGpLearner(Alternating):
    """One critic step a batch, one generator step every fifth; `average` is the generator that is kept."""

    def __init__(self, device: torch.device, widths: tuple[int, int] = WIDTHS) -> None:
        self.generator = build_generator(widths[0]).to(device)
        self.average = copy.deepcopy(self.generator).eval()
        self.critic = Critic(widths[1]).to(device)
        self.fooled = 0.0
        self.device = device
        networks = {"generator": self.generator, "average": self.average, "critic": self.critic}
        pair = (self.generator, self.critic)
        super().__init__(
            networks, [torch.optim.Adam(player.parameters(), lr=LEARNING_RATE, betas=BETAS) for player in pair]
        )

    def step(self, pictures: Tensor, labels: Tensor, random: torch.Generator) -> Mapping[str, float]:
        """One batch of uint8 pictures (N, 1, 28, 28); latents and mixtures come from `random`.

        `distance` is the critic's estimate of the Wasserstein distance, `generator` the last loss of a generator step.
        """
        real = functional.pad(to_signed(pictures.to(self.device)), (MARGIN_PX,) * 4, value=-1.0)
        distance, penalty = self._step_critic(real, random)
        self.steps += 1
        if self.steps % CRITIC_STEPS == 0:
            with frozen(self.critic):
                fake = self.generator(self._latents(len(real), random))
                self.fooled = descend(self.players[0], wasserstein_generator(self.critic(fake)))
            average_into(self.average, self.generator, self.steps // CRITIC_STEPS, DECAY)
        return {"distance": distance, "penalty": penalty, "generator": self.fooled}

    def state_dict(self) -> dict[str, Any]:
        """The networks, the optimisers, the count of steps and the last loss of a generator step."""
        return {**super().state_dict(), "fooled": self.fooled}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Puts back what `state_dict` gave."""
        super().load_state_dict(state)
        self.fooled = state["fooled"]

    def _latents(self, n: int, random: torch.Generator) -> Tensor:
        return torch.randn(n, LATENT, generator=random).to(self.device)

    def _step_critic(self, real: Tensor, random: torch.Generator) -> tuple[float, float]:
        """(estimated distance, penalty) of one step."""
        with torch.no_grad():
            fake = self.generator(self._latents(len(real), random))
        loss = wasserstein_critic(*self.critic(torch.cat([real, fake])).chunk(2))
        shares = torch.rand(len(real), generator=random).to(self.device)
        penalty = gradient_penalty(self.critic, real, fake, shares)
        descend(self.players[1], loss + PENALTY * penalty)
        return -loss.item(), penalty.item()


def train(
    data: Data,
    test: Data,
    *,
    epochs: int,
    seed: int,
    out: Path,
    resume: bool,
    device: torch.device,
    widths: tuple[int, int] = WIDTHS,
    judged: int = JUDGED,
) -> Figures:
    """Trains; writes `digits-wgan-gp.safetensors`, its grid and one after each epoch into `out`.

    Raises:
        ResumeError: `out` holds the state of a run with another seed.
    """
    torch.manual_seed(seed)
    learner = WganGpLearner(device, widths)
    run = Run(out / "digits-wgan-gp.pt", epochs, BATCH_SIZE, seed)
    figures = learn_digits(learner, LATENT, run, data, test, resume=resume, judged=judged)
    save_discriminator(learner.critic, out / "digits-wgan-gp.safetensors")
    return figures
