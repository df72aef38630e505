"""What the cards of translators share: how near translated pictures are to the true ones, and whose data it is."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from training.cards.card import table
from training.data import emoji, ink
from training.loop import History
from training.metrics import frechet
from training.metrics.judges import emoji_features
from training.paired import BETAS, LEARNING_RATE, PENALTY_EVERY, REACH_PX, Plan

MEASURES = """\
Measured on the {count} pictures that training never saw (every tenth). L1 is the mean absolute difference of a level
0-255 to the true picture of the same thing. The Frechet distance is between the features of the judge of emoji
(`training/recipes/emoji_judge.py`) of what is drawn and of the same {count} true pictures; it is no FID, and compares
only with distances in this table."""

SHOWN = "The sheet above shows some of them as a comparison."
LICENCE = """\
The weights are this project's own, Apache-2.0. They were learned from {learned}, on white, 64 px, without flags and
skin tones. {shown}

{sources}"""
NOTO = f"""\
- Noto Emoji, copyright Google LLC, Apache-2.0, fetched as the npm package `{emoji.GOOGLE.package.pinned}`; changed:
  composited on white"""
INK = f"""\
- Noto Emoji, the font, copyright Google LLC, OFL-1.1, fetched as the npm package `{ink.PACKAGE.pinned}`; changed: drawn
  in black on white"""
CHANGED = f"moved by up to {REACH_PX} pixels and mirrored at random"


@dataclass(frozen=True)
class Nearness:
    """How near pictures are to the true ones: `l1` in levels 0..255, `frechet` by the judge's features."""

    l1: float
    frechet: float


def nearness(found: Tensor, true: Tensor) -> Nearness:
    """Of `found` (N, 3, H, W) float32, -1..1, to `true`, the same shape."""
    return Nearness(distance_levels(found, true), frechet.between(emoji_features(found), emoji_features(true)))


def distance_levels(found: Tensor, true: Tensor) -> float:
    """The mean absolute difference of two stacks of pictures in -1..1, in levels 0..255."""
    return (found - true).abs().mean().item() * 127.5


def nearness_table(rows: Mapping[str, Nearness]) -> str:
    """What was compared, one line each."""
    cells = [[name, f"{row.l1:.1f}", f"{row.frechet:.2f}"] for name, row in rows.items()]
    return table(("against the true pictures", "L1", "Frechet distance"), cells)


def losses_table(history: History) -> str:
    """Means of each epoch's losses."""
    names = list(history.losses[0])
    rows = [[str(epoch), *(f"{losses[name]:.3f}" for name in names)] for epoch, losses in enumerate(history.losses, 1)]
    return "Means over each epoch.\n\n" + table(("epoch", *names), rows)


def made_with(history: History, device: torch.device) -> Sequence[tuple[str, str]]:
    """How long it took and with what, for a card's facts."""
    threads = torch.get_num_threads()
    where = f"CPU threads: {threads}" if device.type == "cpu" else torch.cuda.get_device_name(device)
    return [
        ("Training time", f"{history.seconds / 60:.0f} minutes by the clock; {where}"),
        ("Made with", f"torch {torch.__version__}, Python {platform.python_version()}"),
    ]


def learning(plan: Plan, batch_size: int) -> Sequence[tuple[str, str]]:
    """How a translator learned from pairs, for a card's facts."""
    return [
        ("Optimiser", f"Adam, {LEARNING_RATE:g}, betas {BETAS[0]} and {BETAS[1]}, batch {batch_size}"),
        ("R1 penalty", f"gamma {plan.penalty:g}, every {PENALTY_EVERY}th step"),
        ("Moving average", f"{plan.decay}"),
    ]


def licence(learned: str, sources: Sequence[str]) -> str:
    """The section about weights and data; `sources` are of NOTO and INK."""
    return LICENCE.format(learned=learned, sources="\n".join(sources), shown=SHOWN)
