"""The recipe of the zoo's `faces-colour`: a U-Net that colours grey faces, learned from faces that `faces` drew.

pix2pix (`training.paired`) from lightness to colour in CIE L*a*b*, as junyanz/pytorch-CycleGAN-and-pix2pix trains it
(`--model colorization`). The mean absolute difference of the colours weighs 30 (the pix2pix paper has 100, which leaves
them paler). What is saved is the moving average of the generator, in half precision.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from training.colours import COLOUR, LIGHTNESS, ab_psnr_db, coloured, colourfulness, lab
from training.discriminators import save_discriminator
from training.grid import save_grid
from training.loop import Data, History, Run, learn
from training.metrics.judge import to_signed
from training.paired import PairedLearner, Plan
from training.patches import save_half

SIZE_PX = 64
WIDTHS = (24, 48, 96, 128, 128)
PLAN = Plan(1, 2, WIDTHS, l1_weight=30.0, penalty=0.1, decay=0.998)
BATCH_SIZE = 8
SHOWN = range(12)  # of the held-out faces


def pair(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """The lightness (N, 1, H, W) and the colours (N, 2, H, W) of pictures (N, 3, H, W) uint8, in -1..1."""
    light, colours = lab(pictures)
    return light / LIGHTNESS - 1, colours / COLOUR


@dataclass(frozen=True)
class Row:
    """How coloured pictures compare with the true ones: see the card."""

    psnr_db: float
    colourfulness: float


@dataclass(frozen=True)
class Figures:
    """What the card says; `rows` by what coloured the pictures."""

    history: History
    rows: Mapping[str, Row]
    parameters: int
    learned: int
    held_out: int


def train(
    pictures: Tensor,
    held_out: Tensor,
    *,
    epochs: int,
    seed: int,
    out: Path,
    resume: bool,
    device: torch.device,
    widths: tuple[int, ...] = WIDTHS,
) -> Figures:
    """Learns from `pictures` (N, 3, S, S) uint8; the figures are of `held_out`, the same shape, as the weights colour.

    Writes `faces-colour.safetensors`, half precision, its sheet and one after each epoch into `out`.

    Raises:
        ResumeError: `out` holds the state of a run with another seed.
    """
    torch.manual_seed(seed)
    learner = PairedLearner(replace(PLAN, widths=widths), pair, device)
    run = Run(out / "faces-colour.pt", epochs, BATCH_SIZE, seed)
    data = Data(pictures, torch.zeros(len(pictures), dtype=torch.int64))

    def picture_epoch(epoch: int) -> None:
        draw_sheet(learner.average, held_out, out / f"epoch-{epoch:02d}.png")

    history = learn(learner, data, run, resume=resume, after_epoch=picture_epoch)
    network = learner.average.cpu()
    network.load_state_dict({key: _halved(value) for key, value in network.state_dict().items()})
    draw_sheet(network, held_out, out / "faces-colour.png")
    save_half(network, out / "faces-colour.safetensors")
    save_discriminator(learner.discriminator, out / "faces-colour.safetensors")
    parameters = sum(weights.numel() for weights in network.parameters())
    return Figures(history, measure(network, pictures, held_out), parameters, len(pictures), len(held_out))


def measure(network: nn.Module, pictures: Tensor, held_out: Tensor) -> dict[str, Row]:
    """How `held_out` (N, 3, S, S) uint8 is coloured by `network`, not at all, and everywhere alike.

    The colour that is everywhere alike is the mean of `pictures`.
    """
    _, true = lab(held_out)
    alike = _Alike(lab(pictures)[1].mean((0, 2, 3)))
    found = {
        "coloured by the network": coloured(network, held_out, SIZE_PX),
        "one colour, the mean of those learned from": coloured(alike, held_out, SIZE_PX),
        "grey": coloured(_Alike(torch.zeros(2)), held_out, SIZE_PX),
        "the true pictures": held_out,
    }
    return {name: Row(ab_psnr_db(lab(each)[1], true), colourfulness(each)) for name, each in found.items()}


def draw_sheet(network: nn.Module, held_out: Tensor, path: Path) -> None:
    """Three rows of the first held-out pictures: grey, as `network` colours them, the true ones."""
    shown = held_out[: len(SHOWN)]
    grey = coloured(_Alike(torch.zeros(2)), shown, SIZE_PX)
    rows = torch.cat([to_signed(each) for each in (grey, coloured(network.cpu(), shown, SIZE_PX), shown)])
    save_grid(rows, len(shown), path)


class _Alike(nn.Module):
    """One colour (2,), a and b, whatever the lightness."""

    def __init__(self, colour: Tensor) -> None:
        super().__init__()
        self.colour = colour

    def forward(self, light: Tensor) -> Tensor:
        return (self.colour / COLOUR).reshape(1, 2, 1, 1).expand(len(light), 2, *light.shape[2:])


def _halved(tensor: Tensor) -> Tensor:
    return tensor.half().float() if tensor.is_floating_point() else tensor
