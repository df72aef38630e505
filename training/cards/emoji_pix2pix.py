"""The model card of `emoji-pix2pix`."""

from pathlib import Path

import torch
from torch import Tensor, nn

from training.cards.card import Card
from training.cards.translation import (
    CHANGED,
    MEASURES,
    NOTO,
    Nearness,
    learning,
    licence,
    losses_table,
    made_with,
    nearness,
    nearness_table,
)
from training.loop import History
from training.metrics.judge import to_signed
from training.patches import held_out, translate
from training.recipes.emoji_pix2pix import BATCH_SIZE, EDGE_LEVELS, PLAN, outline

SUMMARY = """\
A pix2pix U-Net (`models/families/translation/unet.py`) that colours outlines: black lines on white become emoji in
the style of Google's. Trained from scratch with `training/recipes/emoji_pix2pix.py` on pairs of a picture and its own
outline: PatchGAN on outline and picture, and {weight:g} times L1; what is kept is the moving average of the
generator's weights, in half precision."""

CAPTION = "Outlines that training never saw, what is made of them, and the true pictures. Nothing was picked by hand."

OUTLINES = """\
A pixel is black where it differs by more than {levels} levels, in any channel, from the one below or to the right.
Lines drawn by hand, one or two pixels wide on 64x64, do as well. Colour is nowhere in an outline: what is not a yellow
face or a hand is coloured by guess, and where nothing says what an area is, it gets several colours at once."""


def measure(network: nn.Module, pictures: Tensor, device: torch.device) -> dict[str, Nearness]:
    """How near the unseen pictures of `pictures` (N, 3, S, S) uint8 are to what `network` makes of their outlines.

    Beside it the outlines themselves, and white paper.
    """
    unseen = pictures[held_out(len(pictures))]
    lines, true = outline(unseen), to_signed(unseen)
    return {
        "coloured by the network": nearness(translate(network, lines, device), true),
        "the outline as it is (copy)": nearness(to_signed(lines), true),
        "white paper": nearness(torch.ones_like(true), true),
    }


def write_card(
    network: nn.Module, history: History, pictures: Tensor, *, command: str, device: torch.device, path: Path
) -> dict[str, Nearness]:
    """Writes the card of a finished run beside its sheet `emoji-pix2pix.png`; gives the figures in it."""
    figures = measure(network, pictures, device)
    kept = int(held_out(len(pictures)).sum())
    parameters = sum(weights.numel() for weights in network.parameters())
    Card(
        title="emoji-pix2pix",
        summary=SUMMARY.format(weight=PLAN.l1_weight),
        picture="emoji-pix2pix.png",
        caption=CAPTION,
        facts=[
            ("Command", f"`{command}`"),
            ("Pictures in and out", "RGB, heights and widths multiples of 32; trained at 64x64"),
            ("Learned from", f"{len(pictures) - kept:,} pairs, {CHANGED}"),
            ("Parameters", f"{parameters:,}, float16"),
            *learning(PLAN, BATCH_SIZE),
            *made_with(history, device),
        ],
        sections=(
            ("Against the true pictures", MEASURES.format(count=kept) + "\n\n" + nearness_table(figures)),
            ("Outlines", OUTLINES.format(levels=EDGE_LEVELS)),
            ("Losses", losses_table(history)),
            ("Licence and data", licence("Google's emoji", [NOTO])),
        ),
    ).write(path)
    return figures
