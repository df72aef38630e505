"""The recipe of the zoo's `emoji-pix2pix`: outlines become emoji, learned from pairs.

pix2pix: Isola, Zhu, Zhou, Efros 2016, arXiv:1611.07004. The generator is `models.translation.unet` (batch norm, no
dropout); the discriminator sees the outline beside the picture, patch by patch; the loss is the adversarial one plus
100 times the mean absolute difference to the true picture. What is saved is the moving average of the generator.
"""

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.families.translation.unet import UnetConfig, UnetTranslator
from training.alternating import Alternating, descend, frozen
from training.average import average_into
from training.discriminators import save_discriminator
from training.grid import save_grid
from training.loop import Data, History, Run, learn
from training.losses import minimax_discriminator, non_saturating_generator
from training.metrics.judge import to_signed
from training.patches import PatchDiscriminator, draw_weights, held_out, jitter, save_half, spread, translate

SIZE_PX = 64
WIDTHS = (20, 40, 80, 160, 160)
DISCRIMINATOR_WIDTH = 24
L1_WEIGHT = 100.0
LEARNING_RATE = 4e-4
BETAS = (0.5, 0.999)
DECAY = 0.999
BATCH_SIZE = 4
REACH_PX = 4
EDGE_LEVELS = 24


def outline(pictures: Tensor) -> Tensor:
    """Black lines on white where neighbouring pixels differ: (N, 3, H, W) uint8 from pictures (N, 3, H, W) uint8.

    A pixel is on a line where it differs by more than EDGE_LEVELS, in any channel, from the one below or to the right.
    """
    levels = F.pad(pictures.float(), (0, 1, 0, 1), mode="replicate")
    inner = levels[:, :, :-1, :-1]
    change = torch.maximum((levels[:, :, 1:, :-1] - inner).abs(), (levels[:, :, :-1, 1:] - inner).abs())
    lines = change.amax(1, keepdim=True) > EDGE_LEVELS
    return torch.where(lines, 0, 255).to(torch.uint8).expand(-1, 3, -1, -1).contiguous()


class Pix2pixLearner(Alternating):
    """Alternates one discriminator and one generator step; `average` is the generator that is kept."""

    def __init__(self, widths: tuple[int, ...], device: torch.device) -> None:
        self.generator = UnetTranslator(UnetConfig(3, 3, widths, "batch")).to(device)
        draw_weights(self.generator)
        self.average = copy.deepcopy(self.generator).eval()
        self.discriminator = PatchDiscriminator(6, DISCRIMINATOR_WIDTH, 2, "batch").to(device)
        self.device = device
        playing = (self.generator, self.discriminator)
        networks = {"generator": self.generator, "average": self.average, "discriminator": self.discriminator}
        players = [torch.optim.Adam(each.parameters(), lr=LEARNING_RATE, betas=BETAS) for each in playing]
        super().__init__(networks, players)

    def step(self, pictures: Tensor, labels: Tensor, random: torch.Generator) -> Mapping[str, float]:
        """One step of each from true pictures (N, 3, H, W) uint8; their outlines are drawn here."""
        moved = jitter(pictures, REACH_PX, random)
        lines, real = to_signed(outline(moved).to(self.device)), to_signed(moved.to(self.device))
        fake = self.generator(lines)
        judged = self._step_discriminator(lines, real, fake.detach())
        fooled, distance = self._step_generator(lines, real, fake)
        average_into(self.average, self.generator, self.steps, DECAY)
        self.steps += 1
        return {"discriminator": judged, "generator": fooled, "L1": distance}

    def _step_discriminator(self, lines: Tensor, real: Tensor, fake: Tensor) -> float:
        pairs = torch.cat([torch.cat([lines, real], 1), torch.cat([lines, fake], 1)])
        return descend(self.players[1], minimax_discriminator(*self.discriminator(pairs).chunk(2)) / 2)

    def _step_generator(self, lines: Tensor, real: Tensor, fake: Tensor) -> tuple[float, float]:
        with frozen(self.discriminator):
            fooled = non_saturating_generator(self.discriminator(torch.cat([lines, fake], 1)))
        distance = (fake - real).abs().mean()
        descend(self.players[0], fooled + L1_WEIGHT * distance)
        return fooled.item(), distance.item()


def train(
    pictures: Tensor,
    *,
    epochs: int,
    seed: int,
    out: Path,
    resume: bool,
    device: torch.device,
    widths: tuple[int, ...] = WIDTHS,
) -> tuple[UnetTranslator, History]:
    """The generator learned from nine tenths of `pictures` (N, 3, S, S) uint8, and how the run went.

    Writes `emoji-pix2pix.safetensors`, half precision, and sample sheets into `out`.

    Raises:
        ResumeError: `out` holds the state of a run with another seed.
    """
    torch.manual_seed(seed)
    learner = Pix2pixLearner(widths, device)
    kept = held_out(len(pictures))

    def picture_epoch(epoch: int) -> None:
        draw_sheet(learner.average, pictures[kept], out / f"epoch-{epoch:02d}.png", device)

    run = Run(out / "emoji-pix2pix.pt", epochs, BATCH_SIZE, seed)
    known = Data(pictures[~kept], torch.zeros(int((~kept).sum()), dtype=torch.int64))
    history = learn(learner, known, run, resume=resume, after_epoch=picture_epoch)
    draw_sheet(learner.average, pictures[kept], out / "emoji-pix2pix.png", device)
    save_half(learner.average, out / "emoji-pix2pix.safetensors")
    save_discriminator(learner.discriminator, out / "emoji-pix2pix.safetensors")
    return learner.average, history


def draw_sheet(network: nn.Module, pictures: Tensor, path: Path, device: torch.device) -> None:
    """Three rows of the first pictures: outlines, what `network` makes of them, the true ones."""
    shown = pictures[spread(len(pictures))]
    lines = outline(shown)
    save_grid(torch.cat([to_signed(lines), translate(network, lines, device), to_signed(shown)]), len(shown), path)
