"""The model cards of `emoji-cyclegan` and `emoji-cyclegan-reverse`."""

import textwrap
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from training.cards.card import Card
from training.cards.translation import (
    INK,
    MEASURES,
    NOTO,
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
    COPYING,
    CYCLE_WEIGHTS,
    DECAY,
    IDENTITY_WEIGHT,
    LEARNING_RATES,
    NOISE,
    PENALTY,
    PENALTY_EVERY,
    POOL_SIZE,
    WIDTHS,
    WINDOW_PX,
)

SUMMARY = """\
A CycleGAN generator (`models/families/translation/unet.py`) that {does}. Trained from scratch with
`training/recipes/emoji_cyclegan.py`, together with the one for the way back, [{other}]({other}.md), and without being
told which two pictures show the same thing: U-Nets of {levels} levels against PatchGANs with the R1 penalty on a pool
of {pool} past pictures, {cycle} times the L1 of a round trip from colour and from ink, {identity:g} times that of a
picture that has the style already. What is kept is the moving average of the generators' weights, in half precision."""

CAPTION = "{before} that training never saw, what is made of them, and {after}. Nothing was picked by hand."

UNPAIRED = """\
Both generators first learn to copy, for {copying} steps, so that black stays black. On the way back pictures get noise
of deviation {noise:g} (of -1 to 1), so that ink cannot hide colours in faint greys. Which colours a drawing had is
nowhere in its ink: a round trip from colour ends far from where it began, and whoever colours ink guesses. After
training the statistics of that generator's norms are measured anew on ink without noise.

L1 says little of ink: a line drawn one pixel aside counts twice, and black where the font has white counts more than
a grey in between, so that a copy in colour can be nearer in it. The Frechet distance asks for the kind of picture."""

RATES = f"{LEARNING_RATES[0]:g} generators, {LEARNING_RATES[1]:g} discriminators"


@dataclass(frozen=True)
class Direction:
    """One of the two generators: its name in the zoo, the other's, what it does, and what goes in and comes out."""

    name: str
    other: str
    does: str
    before: str
    after: str


THERE = Direction(
    "emoji-cyclegan",
    "emoji-cyclegan-reverse",
    "redraws Google's emoji in black ink, as the font Noto Emoji has them",
    "Google's emoji",
    "the font's",
)
BACK = Direction(
    "emoji-cyclegan-reverse",
    "emoji-cyclegan",
    "colours ink drawings, those of the font Noto Emoji, as Google's emoji are coloured",
    "The font's emoji",
    "Google's",
)


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

    `networks` go there and back, `hands` are the pictures in colour and in ink, (N, 3, S, S) uint8, in pairs.
    """
    there = measure(networks, hands[0], hands[1], device)
    back = measure((networks[1], networks[0]), hands[1], hands[0], device)
    kept = int(held_out(len(hands[0])).sum())
    common = [
        ("Command", f"`{command}`"),
        ("Pictures in and out", f"RGB, heights and widths multiples of 16; trained on windows of {WINDOW_PX} px"),
        ("Learned from", f"{len(hands[0]) - kept:,} pictures of each style, windows of them, mirrored at random"),
        ("Parameters", f"{sum(weights.numel() for weights in networks[0].parameters()):,}, float16"),
        ("Optimiser", f"Adam, {RATES}, betas {BETAS[0]} and {BETAS[1]}, batch {BATCH_SIZE}"),
        ("R1 penalty", f"gamma {PENALTY:g}, every {PENALTY_EVERY}th step"),
        ("Moving average", f"{DECAY}"),
        *made_with(history, device),
    ]
    for direction, figures in ((THERE, there), (BACK, back)):
        _write(direction, figures, common, kept, history, out / f"{direction.name}.md")
    return {THERE.name: there, BACK.name: back}


def _write(
    direction: Direction, figures: Figures, common: list[tuple[str, str]], kept: int, history: History, path: Path
) -> None:
    cycle = " and ".join(f"{weight:g}" for weight in CYCLE_WEIGHTS)
    summary = SUMMARY.format(
        does=direction.does,
        other=direction.other,
        levels=len(WIDTHS),
        pool=POOL_SIZE,
        cycle=cycle,
        identity=IDENTITY_WEIGHT,
    )
    Card(
        title=direction.name,
        summary=textwrap.fill(summary, 120, break_on_hyphens=False),
        picture=f"{direction.name}.png",
        caption=CAPTION.format(before=direction.before, after=direction.after),
        facts=[*common, ("Round trip", f"L1 of {figures.round_trip:.1f} levels after the way there and back")],
        sections=(
            ("Against the true pictures", MEASURES.format(count=kept) + "\n\n" + nearness_table(figures.rows)),
            ("Unpaired", UNPAIRED.format(copying=COPYING, noise=NOISE)),
            ("Losses", losses_table(history)),
            ("Licence and data", licence("Google's emoji in colour and in ink", [NOTO, INK])),
        ),
    ).write(path)
