"""The recipe of the zoo's `emoji-pix2pix`: outlines become emoji, learned from pairs (`training.paired`)."""

from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.families.translation.unet import UnetTranslator
from training.discriminators import save_discriminator
from training.grid import save_grid
from training.loop import Data, History, Run, learn
from training.metrics.judge import to_signed
from training.paired import PairedLearner, Plan
from training.patches import held_out, save_half, spread, translate

SIZE_PX = 64
WIDTHS = (20, 40, 80, 160, 160)
PLAN = Plan(3, 3, WIDTHS, l1_weight=30.0, penalty=0.05, decay=0.999, discriminator_width=32, halvings=3)
BATCH_SIZE = 4
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


def pair(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """The outlines of pictures (N, 3, H, W) uint8 and they themselves, in -1..1."""
    return to_signed(outline(pictures)), to_signed(pictures)


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

    Writes `emoji-pix2pix.safetensors`, half precision, its discriminator and sample sheets into `out`.

    Raises:
        ResumeError: `out` holds the state of a run with another seed.
    """
    torch.manual_seed(seed)
    learner = PairedLearner(replace(PLAN, widths=widths), pair, device)
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
