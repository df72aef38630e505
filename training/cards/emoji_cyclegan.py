"""The model cards of `emoji-cyclegan` and `emoji-cyclegan-reverse`."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from training.cards.card import Card
from training.cards.translation import (
    MEASURES,
    NOTO,
    TWEMOJI,
    Nearness,
    distance_levels,
    licence,
    losses_table,
    made_with,
    nearness,
    nearness_table,
)
from training.loop import History
from training.metrics.judge import to_signed
from training.patches import held_out, translate
from training.recipes.emoji_cyclegan import (
    BATCH_SIZE,
    BETAS,
    CYCLE_WEIGHT,
    DECAY,
    IDENTITY_WEIGHT,
    LEARNING_RATES,
    POOL_SIZE,
    WINDOW_PX,
)

SUMMARY = """\
A CycleGAN generator (`models/families/translation/resnet_translator.py`) that redraws {before}'s emoji in the style of
{after}'s. Trained from scratch with `training/recipes/emoji_cyclegan.py`, together with the one for the way back,
[{other}]({other}.md), and without being told which two pictures show the same thing: least-squares PatchGANs on a pool
of {pool} past pictures, {cycle:g} times the L1 of a round trip, {identity:g} times that of a picture that has the
style already. What is kept is the moving average of the generators' weights, in half precision."""

CAPTION = "{before}'s emoji that training never saw, what is made of them, and {after}'s. Nothing was picked by hand."

UNPAIRED = """\
The two hands draw most things in other shapes, not only in other colours, and a network that only ever learned the look
of patches keeps shapes. So a copy is hard to beat in L1, which asks for the very picture that the other hand drew; the
Frechet distance asks only for its kind. Even areas show the grain of the networks' transposed convs."""

RATES = f"{LEARNING_RATES[0]:g} generators, {LEARNING_RATES[1]:g} discriminators"


@dataclass(frozen=True)
class Direction:
    """One of the two generators: its name in the zoo, the other's, and whose pictures go in and come out."""

    name: str
    other: str
    before: str
    after: str


THERE = Direction("emoji-cyclegan", "emoji-cyclegan-reverse", "Google", "Twitter")
BACK = Direction("emoji-cyclegan-reverse", "emoji-cyclegan", "Twitter", "Google")


@dataclass(frozen=True)
class Figures:
    """What a card says: translated pictures and the copy against the true ones; L1 after a round trip, in levels."""

    rows: dict[str, Nearness]
    round_trip: float


def measure(networks: tuple[nn.Module, nn.Module], before: Tensor, after: Tensor, device: torch.device) -> Figures:
    """The figures of `networks` (there, back) on the unseen of `before` and `after`, (N, 3, S, S) uint8, in pairs."""
    kept = held_out(len(before))
    given, true = before[kept], to_signed(after[kept])
    translated = translate(networks[0], given, device)
    levels = ((translated + 1) * 127.5).round().to(torch.uint8)  # as a caller would send it on the way back
    returned = translate(networks[1], levels, device)
    rows = {"redrawn by the network": nearness(translated, true), "as it is (copy)": nearness(to_signed(given), true)}
    return Figures(rows, distance_levels(returned, to_signed(given)))


def write_cards(
    networks: tuple[nn.Module, nn.Module],
    history: History,
    hands: tuple[Tensor, Tensor],
    *,
    command: str,
    device: torch.device,
    out: Path,
) -> dict[str, Figures]:
    """Writes both directions' cards of a finished run into `out`, beside their sheets; gives the figures by name.

    `networks` go there and back, `hands` are Google's and Twitter's pictures (N, 3, S, S) uint8, in pairs.
    """
    there = measure(networks, hands[0], hands[1], device)
    back = measure((networks[1], networks[0]), hands[1], hands[0], device)
    kept = int(held_out(len(hands[0])).sum())
    common = [
        ("Command", f"`{command}`"),
        ("Pictures in and out", f"RGB, heights and widths multiples of 4; trained on windows of {WINDOW_PX} px"),
        ("Learned from", f"{len(hands[0]) - kept:,} pictures of each style, windows of them, mirrored at random"),
        ("Parameters", f"{sum(weights.numel() for weights in networks[0].parameters()):,}, float16"),
        ("Optimiser", f"Adam, {RATES}, betas {BETAS[0]} and {BETAS[1]}, batch {BATCH_SIZE}"),
        ("Moving average", f"{DECAY}"),
        *made_with(history, device),
    ]
    for direction, figures in ((THERE, there), (BACK, back)):
        _write(direction, figures, common, kept, history, out / f"{direction.name}.md")
    return {THERE.name: there, BACK.name: back}


def _write(
    direction: Direction, figures: Figures, common: list[tuple[str, str]], kept: int, history: History, path: Path
) -> None:
    weights = {"pool": POOL_SIZE, "cycle": CYCLE_WEIGHT, "identity": IDENTITY_WEIGHT}
    hands = {"before": direction.before, "after": direction.after}
    Card(
        title=direction.name,
        summary=SUMMARY.format(other=direction.other, **hands, **weights),
        picture=f"{direction.name}.png",
        caption=CAPTION.format(**hands),
        facts=[*common, ("Round trip", f"L1 of {figures.round_trip:.1f} levels after the way there and back")],
        sections=(
            ("Against the true pictures", MEASURES.format(count=kept) + "\n\n" + nearness_table(figures.rows)),
            ("Unpaired", UNPAIRED),
            ("Losses", losses_table(history)),
            ("Licence and data", licence("Google's and Twitter's emoji", [NOTO, TWEMOJI])),
        ),
    ).write(path)
