"""How translators learn from pairs: a U-Net and a patch discriminator that sees what was given beside the picture.

pix2pix: Isola, Zhu, Zhou, Efros 2016, arXiv:1611.07004, adversarial loss plus the mean absolute difference to the true
picture. The discriminator has no norms, which would take from it how bright and how colourful a picture is, and the R1
penalty in their place. What is kept is the moving average of the generator.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from models.families.translation.unet import UnetConfig, UnetTranslator
from training.alternating import Alternating, descend, frozen
from training.average import average_into
from training.losses import lazy_r1_penalty, minimax_discriminator, non_saturating_generator
from training.patches import PatchDiscriminator, draw_weights, jitter

REACH_PX = 4
PENALTY_EVERY = 8
LEARNING_RATE = 4e-4
BETAS = (0.5, 0.999)

Pair = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Plan:
    """What a recipe decides: channels given and drawn, maps of the U-Net's levels and of the discriminator's first conv
    and its halvings, the weight of the mean absolute difference, gamma of R1, and of the moving average."""

    given: int
    drawn: int
    widths: tuple[int, ...]
    l1_weight: float
    penalty: float
    decay: float
    discriminator_width: int = 24
    halvings: int = 2


class PairedLearner(Alternating):
    """Alternates one discriminator and one generator step; `average` is the generator that is kept."""

    def __init__(self, plan: Plan, pair: Pair, device: torch.device) -> None:
        """`pair` makes of pictures (N, 3, H, W) uint8 on `device` what is given and what is to be drawn, both -1..1."""
        self.plan, self.pair, self.device = plan, pair, device
        self.generator = UnetTranslator(UnetConfig(plan.given, plan.drawn, plan.widths, "batch")).to(device)
        draw_weights(self.generator)
        self.average = copy.deepcopy(self.generator).eval()
        channels = plan.given + plan.drawn
        self.discriminator = PatchDiscriminator(channels, plan.discriminator_width, plan.halvings).to(device)
        playing = (self.generator, self.discriminator)
        networks = {"generator": self.generator, "average": self.average, "discriminator": self.discriminator}
        players = [torch.optim.Adam(each.parameters(), lr=LEARNING_RATE, betas=BETAS) for each in playing]
        super().__init__(networks, players)

    def step(self, pictures: Tensor, labels: Tensor, random: torch.Generator) -> Mapping[str, float]:
        """One step of each from true pictures (N, 3, H, W) uint8, which are moved and mirrored."""
        given, real = self.pair(jitter(pictures, REACH_PX, random).to(self.device))
        fake = self.generator(given)
        true, drawn = torch.cat([given, real], 1), torch.cat([given, fake.detach()], 1)
        judged = minimax_discriminator(*self.discriminator(torch.cat([true, drawn])).chunk(2))
        penalty = lazy_r1_penalty(self.discriminator.mean_score, true, self.steps, PENALTY_EVERY)
        descend(self.players[1], judged + self.plan.penalty * penalty)
        with frozen(self.discriminator):
            fooled = non_saturating_generator(self.discriminator(torch.cat([given, fake], 1)))
        distance = (fake - real).abs().mean()
        descend(self.players[0], fooled + self.plan.l1_weight * distance)
        average_into(self.average, self.generator, self.steps, self.plan.decay)
        self.steps += 1
        return {"discriminator": judged.item(), "generator": fooled.item(), "L1": distance.item()}
