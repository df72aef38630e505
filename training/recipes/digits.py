"""The recipe of the zoo's `digits`: a conditional DCGAN on MNIST.

The generator is `models.basic.cgan`. The discriminator is a projection discriminator (Miyato & Koyama 2018,
arXiv:1802.05637) with spectral normalisation (Miyato et al. 2018, arXiv:1802.05957) and an auxiliary classifier (Odena
et al. 2017, arXiv:1610.09585) that learns from real digits only; the loss is the hinge loss plus a share of the
classifier's cross-entropy. What is saved is the moving average of the generator.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from models.families.basic.cgan import ConditionalGenerator
from training.average import average_into
from training.discriminators import save_discriminator
from training.grid import save_grid
from training.loop import Data, History, Run, learn
from training.losses import hinge_discriminator, hinge_generator
from training.metrics import diversity
from training.metrics.judge import CLASSES, Judge, JudgeLearner, accuracy, agreement, to_signed

LATENT = 64
EMBEDDING = 16
WIDTH = 64
LEARNING_RATES = (3e-4, 6e-4)  # generator, discriminator
LABEL_WEIGHT = 0.25  # of the auxiliary classifier's cross-entropy in the generator's loss
BETAS = (0.5, 0.999)
DECAY = 0.999
BATCH_SIZE = 64
JUDGE_EPOCHS = 5
JUDGED = 1000
GRID = range(80)


class ProjectionDiscriminator(nn.Module):
    """Scores pictures (N, 1, 28, 28) float32, -1..1, with their labels (N,) int64: (N,) float32, and (N, 10) logits."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            spectral_norm(nn.Conv2d(1, width, 4, 2, 1)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(width, 2 * width, 4, 2, 1)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(2 * width, 2 * width, 3, 2, 1)),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
        )
        features = 2 * width * 4 * 4
        self.score = spectral_norm(nn.Linear(features, 1))
        self.label = spectral_norm(nn.Embedding(CLASSES, features))
        self.classifier = nn.Linear(features, CLASSES)

    def forward(self, pictures: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        features = self.main(pictures)
        scores = self.score(features)[:, 0] + (features * self.label(labels)).sum(1)
        return scores, self.classifier(features)


class DigitsLearner:
    """Alternates one discriminator and one generator step; `average` is the generator that is kept."""

    def __init__(self, width: int, device: torch.device) -> None:
        self.generator = ConditionalGenerator(CLASSES, EMBEDDING, LATENT, width).to(device)
        self.average = copy.deepcopy(self.generator).eval()
        self.discriminator = ProjectionDiscriminator(width * 5 // 8).to(device)
        self.players = (
            torch.optim.Adam(self.generator.parameters(), lr=LEARNING_RATES[0], betas=BETAS),
            torch.optim.Adam(self.discriminator.parameters(), lr=LEARNING_RATES[1], betas=BETAS),
        )
        self.steps = 0
        self.device = device

    def step(self, pictures: Tensor, labels: Tensor, random: torch.Generator) -> Mapping[str, float]:
        """One step of each; latents come from `random`, labels from the batch."""
        labels = labels.to(self.device)
        fake = self.generator(torch.randn(len(labels), LATENT, generator=random).to(self.device), labels)
        judged = self._step_discriminator(to_signed(pictures.to(self.device)), fake.detach(), labels)
        fooled = self._step_generator(fake, labels)
        average_into(self.average, self.generator, self.steps, DECAY)
        self.steps += 1
        return {"discriminator": judged, "generator": fooled}

    def state_dict(self) -> dict[str, Any]:
        """The three networks, both optimisers and the count of steps."""
        networks = {name: network.state_dict() for name, network in self._networks().items()}
        return {**networks, "players": [player.state_dict() for player in self.players], "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Puts back what `state_dict` gave."""
        for name, network in self._networks().items():
            network.load_state_dict(state[name])
        for player, found in zip(self.players, state["players"], strict=True):
            player.load_state_dict(found)
        self.steps = state["steps"]

    def _networks(self) -> dict[str, nn.Module]:
        return {"generator": self.generator, "average": self.average, "discriminator": self.discriminator}

    def _step_discriminator(self, real: Tensor, fake: Tensor, labels: Tensor) -> float:
        scores, logits = self.discriminator(torch.cat([real, fake]), torch.cat([labels, labels]))
        named = functional.cross_entropy(logits[: len(real)], labels)
        loss = hinge_discriminator(*scores.chunk(2))
        self.players[1].zero_grad()
        (loss + named).backward()  # type: ignore[no-untyped-call]
        self.players[1].step()
        return loss.item()

    def _step_generator(self, fake: Tensor, labels: Tensor) -> float:
        self.discriminator.requires_grad_(False)
        scores, logits = self.discriminator(fake, labels)
        loss = hinge_generator(scores)
        self.players[0].zero_grad()
        (loss + LABEL_WEIGHT * functional.cross_entropy(logits, labels)).backward()  # type: ignore[no-untyped-call]
        self.players[0].step()
        self.discriminator.requires_grad_(True)
        return loss.item()


@torch.no_grad()
def draw(generator: nn.Module, seeds: range, device: torch.device) -> tuple[Tensor, Tensor]:
    """Pictures (N, 1, 28, 28) float32, -1..1, and labels (N,) int64: seed s draws the digit s % 10.

    The latent of seed s is `numpy.random.RandomState(s).randn(1, LATENT)`, as the server draws it.
    """
    rows = [np.random.RandomState(seed).randn(1, LATENT) for seed in seeds]
    latents = torch.from_numpy(np.concatenate(rows).astype(np.float32)).to(device)
    labels = torch.tensor([seed % CLASSES for seed in seeds], device=device)
    rounds = -(-len(seeds) // 500)
    pictures = [generator(z, y) for z, y in zip(latents.chunk(rounds), labels.chunk(rounds), strict=True)]
    return torch.cat(pictures), labels


@dataclass(frozen=True)
class Figures:
    """What the card says: agreement and accuracy are shares, distances one per label, in units of -1..1 pictures."""

    history: History
    judge_history: History
    judge_accuracy: float
    label_agreement: float
    distances_drawn: list[float]
    distances_data: list[float]
    parameters: int
    judge_parameters: int


def train(
    data: Data, test: Data, *, epochs: int, seed: int, out: Path, resume: bool, device: torch.device, width: int = WIDTH
) -> Figures:
    """Trains judge and generator; writes `digits.safetensors`, `digits_judge.safetensors` and grids into `out`.

    Raises:
        ResumeError: `out` holds the state of a run with another seed.
    """
    torch.manual_seed(seed)
    learner, judge = DigitsLearner(width, device), JudgeLearner(device)

    def picture_epoch(epoch: int) -> None:
        save_grid(draw(learner.average, GRID, device)[0], CLASSES, out / f"epoch-{epoch:02d}.png", scale=2)

    run = Run(out / "digits.pt", epochs, BATCH_SIZE, seed)
    history = learn(learner, data, run, resume=resume, after_epoch=picture_epoch)
    judged = learn(judge, data, Run(out / "judge.pt", JUDGE_EPOCHS, BATCH_SIZE, seed), resume=resume)
    save_grid(draw(learner.average, GRID, device)[0], CLASSES, out / "digits.png", scale=2)
    save_weights(learner.average, out / "digits.safetensors")
    save_discriminator(learner.discriminator, out / "digits.safetensors")
    save_weights(judge.average, out / "digits_judge.safetensors")
    return measure(learner.average, judge.average, data, test, (history, judged), device)


def save_weights(network: nn.Module, path: Path) -> None:
    """Writes the network's float32 weights as safetensors."""
    save_file({key: tensor.cpu().contiguous() for key, tensor in network.state_dict().items()}, path)


def measure(
    generator: nn.Module, judge: Judge, data: Data, test: Data, runs: tuple[History, History], device: torch.device
) -> Figures:
    """The card's figures, on the pictures of seeds 0..999 and as many digits of `data` per label.

    `runs` are the generator's and the judge's.
    """
    pictures, labels = draw(generator, range(JUDGED), device)
    return Figures(
        history=runs[0],
        judge_history=runs[1],
        judge_accuracy=accuracy(judge, test, device),
        label_agreement=agreement(judge, pictures, labels),
        distances_drawn=diversity.per_label(pictures, labels, CLASSES, JUDGED // CLASSES),
        distances_data=diversity.per_label(to_signed(data.pictures), data.labels, CLASSES, JUDGED // CLASSES),
        parameters=sum(weights.numel() for weights in generator.parameters()),
        judge_parameters=sum(weights.numel() for weights in judge.parameters()),
    )
